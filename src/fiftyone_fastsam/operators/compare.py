"""Operator: where two fields disagree."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import fiftyone.operators as foo
from fiftyone.operators import types

from fastsam_core.errors import FastSAMError
from fiftyone_fastsam.compare import compare_fields
from fiftyone_fastsam.operators import _forms

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CompareFields"]

_LABEL: Final = "FastSAM: compare two fields"
_REPORT_S: Final = 0.5


class CompareFields(foo.Operator):  # type: ignore[misc] # FiftyOne has no types
    """Boxes against masks, one detector against another."""

    @property
    def config(self) -> Any:
        """FiftyOne's description of the operator."""
        return foo.OperatorConfig(
            name="compare_fields",
            label=_LABEL,
            description="Find samples where two fields disagree, and duplicates",
            icon="/assets/icon.svg",
            dynamic=True,
            execute_as_generator=True,
            allow_delegated_execution=True,
        )

    def resolve_input(self, ctx: Any) -> Any:
        """Build the form."""
        if ctx.dataset is None:
            return _forms.without_dataset(_LABEL)
        inputs = types.Object()
        view = ctx.target_view(require_flat=True)
        if view.media_type == "video":
            inputs.view("videos", types.Error(label="Videos cannot be compared yet"))
            return _forms.refused(inputs, _LABEL)
        if _forms.add_refusal(inputs, view):
            return _forms.refused(inputs, _LABEL)
        fields = _forms.fields_of_type(ctx, ("Detections",))
        if len(fields) < 2:
            inputs.view("too_few", types.Error(label="There are no two fields of Detections to compare"))
            return _forms.refused(inputs, _LABEL)
        for name, label, default in (("first", "Field", fields[0]), ("second", "Compared with", fields[1])):
            inputs.enum(name, fields, required=True, default=default, label=label, view=types.DropdownView())
        below = "0 to 1; below it labels count as unmatched"
        inputs.float("min_iou", 0, 1, default=0.5, label="Lowest overlap", description=below)
        return types.Property(inputs, view=types.View(label=_LABEL))

    def execute(self, ctx: Any) -> Any:
        """Compare, and show the samples that agree least first."""
        return self._delegated(ctx) if ctx.delegated else self._immediate(ctx)

    def resolve_output(self, ctx: Any) -> Any:
        """Describe the outcome of a delegated run."""
        outputs = types.Object()
        for name, label in (
            ("samples", "Samples"),
            ("unmatched", "Labels without a partner"),
            ("duplicates", "Duplicates"),
        ):
            outputs.int(name, label=label)
        return types.Property(outputs)

    def _counts(self, ctx: Any) -> Iterator[tuple[float, dict[str, int]]]:
        """Compare, and yield from time to time how much is done, with the counts; at the end all of it."""
        view = ctx.target_view(require_flat=True)
        counts, count, shown = {"samples": 0, "unmatched": 0, "duplicates": 0}, len(view), 0.0
        for found in compare_fields(
            view, ctx.params["first"], ctx.params["second"], min_iou=ctx.params.get("min_iou", 0.5)
        ):
            counts["samples"] += 1
            counts["unmatched"] += found.unmatched_first + found.unmatched_second
            counts["duplicates"] += found.duplicates_second
            if time.monotonic() - shown >= _REPORT_S:
                shown = time.monotonic()
                yield counts["samples"] / count, counts
        yield 1.0, counts

    def _delegated(self, ctx: Any) -> dict[str, int]:
        outcome: dict[str, int] = {}
        for share, counts in self._counts(ctx):
            outcome = counts
            ctx.set_progress(progress=share, label=_told(counts))
        return outcome

    def _immediate(self, ctx: Any) -> Iterator[Any]:
        yield ctx.ops.set_progress(label="Comparing …", progress=0)
        text = ""
        try:
            for share, counts in self._counts(ctx):
                text = _told(counts)
                yield ctx.ops.set_progress(label=text, progress=share)
        except FastSAMError as error:
            yield from _forms.stopped(ctx, error)
            return
        yield ctx.ops.reload_dataset()
        field = f"{ctx.params['second']}_vs_{ctx.params['first']}"
        compared = ctx.target_view(require_flat=True).exists(field)  # where both are empty, nothing can disagree
        yield ctx.ops.set_view(view=compared.sort_by(field))
        yield ctx.ops.notify(f"{text}; worst samples first", variant="success")


def _told(counts: dict[str, int]) -> str:
    samples, unmatched, duplicates = (
        _forms.counted(counts[name], what)
        for name, what in (("samples", "sample"), ("unmatched", "label"), ("duplicates", "duplicate"))
    )
    return f"{samples}: {unmatched} without a partner, {duplicates}"
