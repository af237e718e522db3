"""Operators that write masks: one form each, one generator underneath."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar, Final

import fiftyone.operators as foo
from fiftyone.operators import types

from fastsam_core.errors import FastSAMError
from fiftyone_fastsam.doctor import ALLOW_SCHEDULING, can_schedule
from fiftyone_fastsam.enrichment import Enrichment, EnrichStep
from fiftyone_fastsam.operators import _forms
from fiftyone_fastsam.options import EnrichOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BoxesToMasks", "KeypointsToMasks", "PromptHere", "SegmentEverything", "TextToMasks"]

_MANY_SAMPLES: Final = 200
"""More than this are better done by a background worker."""
_REPORT_S: Final = 0.3
_ICON: Final = "/assets/icon.svg"
_PROMPTING: Final = ("Detections", "Detection", "Keypoints", "Keypoint")


class _Enriching(foo.Operator):  # type: ignore[misc] # FiftyOne has no types
    """What all of them share: target, progress, notice, immediate or delegated."""

    NAME: ClassVar[str]
    LABEL: ClassVar[str]
    DESCRIPTION: ClassVar[str]
    DEFAULT_FIELD: ClassVar[str] = "fastsam"

    @property
    def config(self) -> Any:
        """FiftyOne's description of the operator."""
        return foo.OperatorConfig(
            name=self.NAME,
            label=self.LABEL,
            description=self.DESCRIPTION,
            icon=_ICON,
            dynamic=True,
            execute_as_generator=True,
            allow_immediate_execution=True,
            allow_delegated_execution=True,
        )

    def resolve_input(self, ctx: Any) -> Any:
        """Build the form."""
        if ctx.dataset is None:
            return _forms.without_dataset(self.LABEL)
        inputs = types.Object()
        view = ctx.target_view(require_flat=True)
        if (self.refuses(ctx, view) and _forms.add_refusal(inputs, view)) or not self.add_prompts(ctx, inputs):
            return _forms.refused(inputs, self.LABEL)
        samples = self.samples(ctx)
        _forms.add_label_field(ctx, inputs, samples, self.DEFAULT_FIELD, asks_existing=not isinstance(self, PromptHere))
        self.add_existing(ctx, inputs)
        _forms.add_model(inputs)
        prompted = not isinstance(self, SegmentEverything | TextToMasks)
        _forms.add_thresholds(ctx, inputs, everything=isinstance(self, SegmentEverything), prompted=prompted)
        count = len(samples)
        if count > _MANY_SAMPLES:
            inputs.view(
                "many",
                types.Notice(
                    label=f"{count:,} samples: better scheduled than executed now",
                    description="A worker does it in the background: fiftyone delegated launch"
                    if can_schedule()
                    else f"To schedule, start the App with {ALLOW_SCHEDULING}; or use a terminal: fastsam enrich",
                ),
            )
        return types.Property(inputs, view=types.View(label=self.LABEL))

    def resolve_execution_options(self, ctx: Any) -> Any:
        """Suggest a background worker when there is much to do."""
        many = ctx.dataset is not None and len(self.samples(ctx)) > _MANY_SAMPLES
        return foo.ExecutionOptions(
            allow_immediate_execution=True, allow_delegated_execution=True, default_choice_to_delegated=many
        )

    def refuses(self, ctx: Any, view: Any) -> bool:
        """Tell whether patches and other copies of samples are no target."""
        return True

    def samples(self, ctx: Any) -> Any:
        """Return what to enrich."""
        return ctx.target_view(require_flat=True)

    def add_prompts(self, ctx: Any, inputs: Any) -> bool:
        """Ask for the prompts; False if there are none."""
        return True

    def add_existing(self, ctx: Any, inputs: Any) -> None:
        """Ask what to do with labels that are there."""
        _forms.add_existing(ctx, inputs)

    def options(self, ctx: Any) -> dict[str, Any]:
        """Return the options of `enrich`."""
        return _forms.options_from(ctx.params)

    def execute(self, ctx: Any) -> Any:
        """Do it: with live progress in the App, or in a worker that returns the outcome."""
        return self._delegated(ctx) if ctx.delegated else self._immediate(ctx)

    def _enrichment(self, ctx: Any) -> Enrichment:
        model = _forms.load_model(ctx.params.get("model") or "builtin")
        return Enrichment(
            self.samples(ctx), ctx.params["label_field"].strip(), EnrichOptions(**self.options(ctx)), model
        )

    def _immediate(self, ctx: Any) -> Iterator[Any]:
        yield ctx.ops.set_progress(label="Loading the model …", progress=0)
        outcome, share = _Outcome(), 0.0
        try:
            run = self._enrichment(ctx)
            shown = 0.0
            for step in run:
                outcome.add(step)
                if time.monotonic() - shown >= _REPORT_S:
                    shown, share = time.monotonic(), run.share
                    yield ctx.ops.set_progress(label=outcome.text(run), progress=share)
        except FastSAMError as error:
            yield from _forms.stopped(ctx, error, share)
            return
        yield ctx.ops.set_progress(label=outcome.text(run), progress=1)
        yield ctx.ops.reload_dataset()
        if run.target.path not in ctx.active_fields:  # the App leaves maps unticked
            yield ctx.ops.set_active_fields([*ctx.active_fields, run.target.path])
        yield ctx.ops.notify(outcome.text(run), variant="warning" if outcome.counts["failed"] else "success")

    def _delegated(self, ctx: Any) -> dict[str, Any]:
        run, outcome = self._enrichment(ctx), _Outcome()
        shown = 0.0
        for step in run:
            outcome.add(step)
            if time.monotonic() - shown >= 1:
                shown = time.monotonic()
                ctx.set_progress(progress=run.share, label=outcome.text(run))
        ctx.set_progress(progress=1, label=outcome.text(run))
        return {
            "label_field": run.target.path,
            "done": outcome.counts["done"],
            "failed": outcome.counts["failed"],
            "skipped": run.skipped,
            "gone": outcome.counts["gone"],
            "masks": outcome.counts["masks"],
        }

    def resolve_output(self, ctx: Any) -> Any:
        """Describe the outcome of a delegated run."""
        outputs = types.Object()
        outputs.str("label_field", label="Label field")
        labels = {"done": "Done", "failed": "Failed", "skipped": "Not needed", "gone": "Deleted meanwhile"}
        for name, label in {**labels, "masks": "Masks"}.items():
            outputs.int(name, label=label)
        return types.Property(outputs)


class _Outcome:
    """Counts steps."""

    def __init__(self) -> None:
        self.counts = Counter(done=0, failed=0, gone=0, masks=0)
        self.full = 0

    def add(self, step: EnrichStep) -> None:
        self.full += step.at_limit
        self.counts.update(step.counted)

    def text(self, run: Enrichment) -> str:
        places = _forms.counted(self.counts["done"], "frame" if run.target.is_video else "sample")
        parts = [f"{_forms.counted(self.counts['masks'], 'mask')} on {places}"]
        if self.counts["failed"]:
            parts.append(f"{self.counts['failed']:,} failed (see the saved view 'fastsam: failed')")
        if run.skipped:
            parts.append(f"{run.skipped:,} needed nothing")
        if self.counts["gone"]:
            parts.append(f"{self.counts['gone']:,} deleted meanwhile")
        if self.full:
            parts.append(f"{self.full:,} with as many masks as allowed: there may be more")
        return ", ".join(parts)


class SegmentEverything(_Enriching):
    """All objects of each image."""

    NAME = "segment_everything"
    LABEL = "FastSAM: segment everything"
    DESCRIPTION = "Find a mask for every object"

    def add_prompts(self, ctx: Any, inputs: Any) -> bool:
        """Ask for nothing but whether words will follow."""
        _forms.add_embeddings(ctx, inputs)
        return True


class BoxesToMasks(_Enriching):
    """A mask for each box."""

    NAME = "boxes_to_masks"
    LABEL = "FastSAM: boxes to masks"
    DESCRIPTION = "Give each box a mask, keeping its label, id, tags and attributes"
    DEFAULT_FIELD = "fastsam_boxes"

    def add_prompts(self, ctx: Any, inputs: Any) -> bool:
        """Ask for the boxes."""
        if not _forms.add_prompt_field(ctx, inputs, "prompts", ("Detections", "Detection"), "Boxes"):
            return False
        worse = "0 to 1; boxes that fit worse get no mask"
        inputs.float("min_iou", 0, 1, default=0.2, label="Lowest overlap", description=worse)
        return True

    def options(self, ctx: Any) -> dict[str, Any]:
        """Return the options of `enrich`."""
        return {**super().options(ctx), "box_prompt_field": ctx.params["prompts"]}


class KeypointsToMasks(_Enriching):
    """A mask for each keypoint label."""

    NAME = "keypoints_to_masks"
    LABEL = "FastSAM: keypoints to masks"
    DESCRIPTION = "Give each set of keypoints a mask; points with sam_labels 0 are kept out"
    DEFAULT_FIELD = "fastsam_points"

    def add_prompts(self, ctx: Any, inputs: Any) -> bool:
        """Ask for the keypoints."""
        if not _forms.add_prompt_field(ctx, inputs, "prompts", ("Keypoints", "Keypoint"), "Keypoints"):
            return False
        view = types.RadioGroup()
        for value, label in (("auto", "Automatic"), ("part", "Part"), ("object", "Object"), ("group", "Group")):
            view.add_choice(value, label=label)
        hint = "Of several at the points the smallest, surest or largest; Automatic weighs sureness and size"
        inputs.enum("level", view.values(), default="auto", label="Which of nested masks", description=hint, view=view)
        return True

    def options(self, ctx: Any) -> dict[str, Any]:
        """Return the options of `enrich`."""
        return {**super().options(ctx), "point_prompt_field": ctx.params["prompts"]}


class TextToMasks(_Enriching):
    """Masks of what words describe."""

    NAME = "text_to_masks"
    LABEL = "FastSAM: text to masks"
    DESCRIPTION = "Find the objects that words describe"
    DEFAULT_FIELD = "fastsam_text"

    def add_prompts(self, ctx: Any, inputs: Any) -> bool:
        """Ask for the words."""
        _forms.add_text(ctx, inputs)
        return True

    def options(self, ctx: Any) -> dict[str, Any]:
        """Return the options of `enrich`."""
        words = {"text": _forms.listed(ctx.params.get("text")) or ""}
        return {**super().options(ctx), **words, "negatives": tuple(_forms.listed(ctx.params.get("negatives")))}


class PromptHere(_Enriching):
    """Masks for the labels that are selected."""

    NAME = "prompt_here"
    LABEL = "FastSAM: prompt here"
    DESCRIPTION = "Give the selected boxes, patches or keypoints a mask"
    DEFAULT_FIELD = "fastsam_prompted"

    def refuses(self, ctx: Any, view: Any) -> bool:
        """Take patches of labels: they are the prompts."""
        return not _chosen_labels(ctx)

    def samples(self, ctx: Any) -> Any:
        """Return the samples of the selected labels, or what is the target."""
        selected = _chosen_labels(ctx)
        return _with_labels(ctx, selected) if selected else super().samples(ctx)

    def add_prompts(self, ctx: Any, inputs: Any) -> bool:
        """Take the selected labels, or ask for a field."""
        selected = _chosen_labels(ctx)
        if selected:
            names = sorted({label["field"] for label in selected})
            if len(names) > 1:
                inputs.view("several", types.Error(label=f"Select labels of one field only, not of {', '.join(names)}"))
                return False
            kind = _forms.type_of(ctx.dataset, names[0])
            if kind not in _PROMPTING:
                labels = f"{names[0]} holds {kind or 'no labels'}"
                inputs.view("others", types.Error(label=f"Select boxes or keypoints: {labels}, which cannot prompt"))
                return False
            chosen = _forms.counted(len(selected), "selected label")
            inputs.view("selected", types.Notice(label=f"{chosen} of {names[0]} will prompt"))
            return True
        return _forms.add_prompt_field(ctx, inputs, "prompts", _PROMPTING, "Labels that prompt")

    def add_existing(self, ctx: Any, inputs: Any) -> None:
        """Masks of prompts are added, so there is nothing to ask."""

    def options(self, ctx: Any) -> dict[str, Any]:
        """Return the options of `enrich`."""
        options = {**super().options(ctx), "existing": "append"}
        selected = _chosen_labels(ctx)
        if not selected:
            return {**options, "prompt_field": ctx.params["prompts"]}
        return {
            **options,
            "prompt_field": selected[0]["field"],
            "prompt_ids": [label["label_id"] for label in selected],
        }


def _chosen_labels(ctx: Any) -> list[dict[str, Any]]:
    """Return the labels that are selected, or those of the patches that are the target: label, sample and field."""
    from fiftyone.core.patches import PatchesView

    view = ctx.target_view(require_flat=True)
    if ctx.selected_labels or not isinstance(view, PatchesView) or view._is_frames:
        return list(ctx.selected_labels or ())
    chosen = zip(view.values("id"), view.values("sample_id"), strict=True)  # a patch has the id of its label
    return [{"label_id": label, "sample_id": sample, "field": view.patches_field} for label, sample in chosen]


def _with_labels(ctx: Any, selected: list[dict[str, Any]]) -> Any:
    """Return a flat view of the samples whose labels are selected."""
    dataset = ctx.dataset
    if dataset.media_type == "group":
        media = "video" if selected[0]["field"].startswith("frames.") else "image"
        dataset = dataset.select_group_slices(media_type=media)
    ids = {label["sample_id"] for label in selected}
    if ctx.view._is_patches:
        ids.update(ctx.view.select(ids).values("sample_id"))
    return dataset.select(ids)
