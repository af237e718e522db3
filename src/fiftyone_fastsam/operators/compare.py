"""Operator: where two fields disagree."""

from __future__ import annotations

import time
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from fastsam_core.errors import FastSAMError
from fiftyone_fastsam.compare import compare_fields
from fiftyone_fastsam.operators import _forms

__all__ = ["CompareFields"]


class CompareFields(foo.Operator):  # type: ignore[misc] # FiftyOne has no types
    """Boxes against masks, one detector against another."""

    @property
    def config(self) -> Any:
        """FiftyOne's description of the operator."""
        return foo.OperatorConfig(
            name="compare_fields",
            label="FastSAM: compare two fields",
            description="Find samples where two fields disagree, and duplicates",
            icon="/assets/icon.svg",
            dynamic=True,
            execute_as_generator=True,
            allow_delegated_execution=True,
        )

    def resolve_input(self, ctx: Any) -> Any:
        """Build the form."""
        inputs = types.Object()
        ctx.target_view(require_flat=True)
        fields = _forms.fields_of_type(ctx, ("Detections",))
        if len(fields) < 2:
            inputs.view("too_few", types.Error(label="There are no two fields of Detections to compare"))
            return types.Property(inputs, invalid=True, error_message="two fields are needed")
        for name, label, default in (("first", "Field", fields[0]), ("second", "Compared with", fields[1])):
            inputs.enum(name, fields, required=True, default=default, label=label, view=types.DropdownView())
        inputs.float("min_iou", default=0.5, label="Lowest overlap", description="Below it labels count as unmatched")
        return types.Property(inputs, view=types.View(label="FastSAM: compare two fields"))

    def execute(self, ctx: Any) -> Any:
        """Compare, and show the samples that agree least first."""
        return self._summary(ctx) if ctx.delegated else self._immediate(ctx)

    def _summary(self, ctx: Any) -> dict[str, Any]:
        first, second = ctx.params["first"], ctx.params["second"]
        view = ctx.target_view(require_flat=True)
        count, shown = len(view), 0.0
        total, unmatched, duplicates = 0, 0, 0
        for found in compare_fields(view, first, second, min_iou=ctx.params.get("min_iou", 0.5)):
            total += 1
            unmatched += found.unmatched_first + found.unmatched_second
            duplicates += found.duplicates_second
            if ctx.delegated and time.monotonic() - shown >= 1:
                shown = time.monotonic()
                ctx.set_progress(progress=total / count)
        return {"samples": total, "unmatched": unmatched, "duplicates": duplicates}

    def _immediate(self, ctx: Any) -> Any:
        yield ctx.ops.set_progress(label="Comparing …", progress=0)
        try:
            found = self._summary(ctx)
        except FastSAMError as error:
            yield ctx.ops.notify(str(error), variant="error")
            return
        yield ctx.ops.reload_dataset()
        field = f"{ctx.params['second']}_vs_{ctx.params['first']}"
        compared = ctx.target_view(require_flat=True).exists(field)  # where both are empty, nothing can disagree
        yield ctx.ops.set_view(view=compared.sort_by(field))
        text = "{samples:,} samples: {unmatched:,} labels without a partner, {duplicates:,} duplicates"
        yield ctx.ops.notify(f"{text.format(**found)}; worst samples first", variant="success")
