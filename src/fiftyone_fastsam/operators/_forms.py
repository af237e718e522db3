"""Parts of the operators' forms."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fiftyone.operators import types

from fastsam_core._defaults import MAX_DET, PROMPT_CONF
from fiftyone_fastsam._convert import EMBEDDING
from fiftyone_fastsam._target import RUN_KEY, Target, check_label_field, check_view, field_type, target_of
from fiftyone_fastsam._texts import ENCODER_KEY
from fiftyone_fastsam.errors import InvalidTargetError, LabelFieldError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fastsam_core.errors import FastSAMError
    from fastsam_core.model import FastSAM

__all__ = [
    "add_embeddings",
    "add_existing",
    "add_label_field",
    "add_model",
    "add_prompt_field",
    "add_refusal",
    "add_text",
    "add_thresholds",
    "counted",
    "fields_of_type",
    "listed",
    "load_model",
    "options_from",
    "refused",
    "stopped",
    "type_of",
    "without_dataset",
]

_LOOKED_AT = 20
_PATIENCE_MS = 200
_EXISTING = {
    "resume": ("Go on", "Do what is missing or was made with other settings; never touch other labels"),
    "skip": ("Skip", "Leave all samples that have a label in this field"),
    "overwrite": ("Overwrite", "Do all again"),
    "append": ("Append", "Add to the labels that are there, once for each setting"),
}
_OPTIONAL = (
    *("conf", "iou", "max_det", "imgsz", "tile_px", "min_iou", "min_area_px", "level", "output", "existing", "label"),
    *("text_threshold", "text_encoder", "masks_field", "embeddings"),
)


@lru_cache(maxsize=2)
def load_model(name: str) -> FastSAM:
    """Load a model once; the App calls operators again and again."""
    from fastsam_core.model import FastSAM

    return FastSAM.load(name)


def stopped(ctx: Any, error: FastSAMError, share: float = 0.0) -> Iterator[Any]:
    """Tell what stopped an operator: the App by a notice, a program that called the operator by the error itself."""
    yield ctx.ops.set_progress(label="Stopped", progress=share)
    yield ctx.ops.notify(str(error), variant="error")
    if "operator_uri" not in ctx.request_params:  # the App's requests name the operator
        raise error


def refused(inputs: Any, label: str) -> Any:
    """Return a form that cannot be sent; programs that call the operator are told what it says last."""
    *_, said = inputs.properties.values()
    said.invalid, said.error_message = True, said.view.label  # of the form itself the App would repeat it
    return types.Property(inputs, view=types.View(label=label))


def without_dataset(label: str) -> Any:
    """Return the form of an operator where no dataset is open."""
    inputs = types.Object()
    inputs.view("nothing", types.Error(label="No dataset is open", description="Open one, or name it as the dataset"))
    return refused(inputs, label)


def fields_of_type(ctx: Any, kinds: Sequence[str]) -> list[str]:
    """Return the fields of samples, or of a video's frames, with one of these label types."""
    dataset = ctx.dataset
    video = ctx.target_view(require_flat=True).media_type == "video"  # of a group, the slice that is shown
    schema = (dataset.get_frame_field_schema() if video else dataset.get_field_schema()) or {}
    return [name for name, field in schema.items() if _label_type(field) in kinds]


def type_of(dataset: Any, path: str) -> str | None:
    """Return the type of a field's labels, with ``frames.`` for videos; None if it holds none."""
    return _label_type(dataset.get_field(path))


def _label_type(field: Any) -> str | None:
    return getattr(getattr(field, "document_type", None), "__name__", None)


def add_refusal(inputs: Any, view: Any) -> bool:
    """Tell whether the target cannot be enriched; the form then says why."""
    if view._is_generated:
        inputs.view(
            "copies",
            types.Error(
                label="Patches, clips and frames are copies of samples",
                description="Go back to the samples that they were made from; only FastSAM: prompt here takes patches",
            ),
        )
        return True
    try:
        check_view(view)
    except InvalidTargetError as error:
        more = str(error).removeprefix(error.problem).lstrip(". ")
        inputs.view("refused", types.Error(label=error.problem, description=more))
        return True
    return False


def add_label_field(ctx: Any, inputs: Any, view: Any, default: str, *, asks_existing: bool) -> None:
    """Ask for the field to write to; suggests those there are, and tells at once of one that cannot be used."""
    problem = _problem_of(ctx, view, ctx.params.get("label_field") or default, asks_existing=asks_existing)
    choices = types.AutocompleteView(allow_user_input=True)
    for name in fields_of_type(ctx, ("Detections", "Segmentation")):
        choices.add_choice(name, label=name)
    inputs.str(
        "label_field",
        required=True,
        default=default,
        label="Label field",
        description="Where the masks go; made if it is missing",
        view=choices,
        invalid=bool(problem),
        error_message=problem,
    )


def _problem_of(ctx: Any, view: Any, name: str, *, asks_existing: bool) -> str:
    """Return why masks cannot be written to a field; nothing if they can."""
    params = ctx.params
    try:
        target = target_of(view, name.strip())
        check_label_field(target, params.get("output") or "instances")
    except LabelFieldError as error:
        return str(error)
    if target.label_field in (params.get("prompts"), params.get("masks_field")):
        return "Masks cannot replace the labels that prompt them: name another field"
    resumes = asks_existing and params.get("existing") in (None, "resume")
    if resumes and field_type(target, target.label_field) and _has_foreign_labels(target):
        return "This field holds labels that FastSAM did not make: name another, or say below what to do with them"
    return ""


def add_prompt_field(ctx: Any, inputs: Any, name: str, kinds: Sequence[str], label: str) -> bool:
    """Ask for the field that holds the prompts; returns False, with an explanation in the form, if there is none."""
    fields = fields_of_type(ctx, kinds)
    if not fields:
        plural = [kind for kind in kinds if kind.endswith("s")]
        inputs.view(
            "no_prompts",
            types.Error(
                label=f"This dataset has no field of {' or '.join(plural)}",
                description="Add such labels first: draw them (Annotate, in an open sample), or import them",
            ),
        )
        return False
    inputs.enum(name, fields, required=True, default=fields[0], label=label, view=types.DropdownView())
    return True


def add_text(ctx: Any, inputs: Any) -> None:
    """Ask for words, and whether to put them to images or to masks with embeddings."""
    inputs.str("text", required=True, label="Words", description="Names of objects, separated by commas")
    inputs.str("negatives", label="Rather not", description="What masks may be besides, separated by commas")
    own = "0 to 1 (empty: the encoder's own value)"
    inputs.float("text_threshold", 0, 1, label="Lowest probability", description=own)
    asked = _fields_with_embeddings(ctx)
    if asked:
        inputs.enum(
            "masks_field",
            asked,
            label="Masks to ask",
            description="These carry embeddings, so no image is read. Empty: segment the images",
            view=types.DropdownView(),
        )
    _add_encoder(inputs)


def _fields_with_embeddings(ctx: Any) -> list[str]:
    """Return the fields whose masks carry embeddings: declared by `enrich`, or just there, after ``apply_model``."""
    schema = ctx.dataset.get_field_schema(flat=True)
    return [
        name
        for name in fields_of_type(ctx, ("Detections",))
        if f"{name}.detections.{EMBEDDING}" in schema or _has_remark(ctx.dataset, name)
    ]


def _has_remark(dataset: Any, name: str) -> bool:
    """Tell whether the first labels of a field name the encoder of their vectors; a form waits for no long search."""
    remark = f"{name}.{ENCODER_KEY}"
    labelled = dataset._sample_collection.find({name: {"$type": "object"}}, {remark: 1}).limit(_LOOKED_AT)
    return any(ENCODER_KEY in found[name] for found in _found_soon(labelled))


def _has_foreign_labels(target: Target) -> bool:
    """Tell whether a field holds labels of others, if that is found soon."""
    foreign = {target.label_field: {"$type": "object"}, f"{target.label_field}.{RUN_KEY}": None}
    collection = target.frames if target.is_video else target.samples
    return bool(_found_soon(collection.find(foreign, {"_id": 1}).limit(1)))


def _found_soon(query: Any) -> list[dict[str, Any]]:
    """Return what a query finds, nothing if it takes long."""
    from pymongo.errors import ExecutionTimeout

    try:
        return list(query.max_time_ms(_PATIENCE_MS))
    except ExecutionTimeout:
        return []


def add_embeddings(ctx: Any, inputs: Any) -> None:
    """Ask whether masks get embeddings, and by which encoder."""
    inputs.bool(
        "embeddings", default=False, label="Embeddings", description="For words later, without reading images again"
    )
    if ctx.params.get("embeddings"):
        _add_encoder(inputs)


def _add_encoder(inputs: Any) -> None:
    from fastsam_core.text import ENCODERS, default_encoder

    view = types.AutocompleteView(allow_user_input=True)
    for name, entry in ENCODERS.items():
        view.add_choice(name, label=name, description=entry.description)
    inputs.str("text_encoder", label="Text encoder", description=f"Empty: {default_encoder()}", view=view)


def add_model(inputs: Any) -> None:
    """Ask for the model."""
    from fastsam_core.registry import BUILTIN, MODELS

    view = types.AutocompleteView(allow_user_input=True)
    for name in MODELS:
        view.add_choice(name, label=name)
    inputs.str(
        "model",
        default=BUILTIN,
        label="Model",
        description="A name, or the path of a weights file. builtin is small and needs no download",
        view=view,
    )


def add_thresholds(ctx: Any, inputs: Any, *, everything: bool, prompted: bool) -> None:
    """Ask for what decides which masks are found."""
    own = "empty: the model's own value"
    lowest = f"empty: {PROMPT_CONF}" if prompted else f"{own}, 0.4 for FastSAM"
    if everything:
        inputs.bool(
            "own_conf",
            default=False,
            label="A confidence for each image",
            description="High where sure masks stand out, low where all are faint",
        )
    if not ctx.params.get("own_conf"):
        inputs.float("conf", 0, 1, label="Lowest confidence", description=f"0 to 1; lower finds more ({lowest})")
    overlap = f"0 to 1 ({own}, 0.9 for FastSAM)"
    inputs.float("iou", 0, 1, label="Overlap at which two masks are one", description=overlap)
    inputs.int("imgsz", label="Network size, px", description=f"Larger finds smaller objects and is slower ({own})")
    inputs.int(
        "tile_px",
        1,
        label="Side of tiles, px",
        description="For mosaics and slides: larger images are cut into tiles, so that what is small is found "
        "(empty: images stay whole)",
    )
    inputs.int("max_det", 1, label="Most masks of one image, or of a tile", default=MAX_DET)
    if everything:
        smaller = "Its area; smaller ones are left out"
        inputs.int("min_area_px", 0, label="Smallest mask, px", default=1, description=smaller)
        choice = types.RadioGroup()
        choice.add_choice("instances", label="Instances (Detections)")
        choice.add_choice("map", label="One map (Segmentation)")
        inputs.enum("output", choice.values(), default="instances", label="Output", view=choice)


def add_existing(ctx: Any, inputs: Any) -> None:
    """Ask what to do with samples that have labels already; maps cannot be appended to."""
    view = types.DropdownView()
    for value, (label, description) in _EXISTING.items():
        view.add_choice(value, label=label, description=description)
    inputs.enum(
        "existing",
        list(_EXISTING),
        default="resume",
        label="Samples that have labels",
        view=view,
        invalid=(ctx.params.get("existing"), ctx.params.get("output")) == ("append", "map"),
        error_message="Maps cannot be appended to",
    )


def options_from(params: dict[str, Any]) -> dict[str, Any]:
    """Return the options of `enrich` that a form filled in; empty fields are left to their defaults."""
    options = {name: params[name] for name in _OPTIONAL if params.get(name) not in (None, "")}
    return options | {"conf": "auto"} if params.get("own_conf") else options


def listed(text: str | None) -> list[str]:
    """Return words that commas separate."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def counted(number: int, name: str) -> str:
    """Return a number with what it counts."""
    return f"{number:,} {name}{'' if number == 1 else 's'}"
