"""The samples to enrich: checks of dataset, view and field; the schema; and the list of what is left to do."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fastsam_core.errors import InvalidPromptError
from fiftyone_fastsam._answers import MEASURED, NOT_CARRIED, OWN_ATTRIBUTES
from fiftyone_fastsam._convert import EMBEDDING, MEASURES
from fiftyone_fastsam._fiftyone import import_fiftyone, no_database
from fiftyone_fastsam._retry import with_retries
from fiftyone_fastsam.errors import (
    DatabaseUnavailableError,
    InvalidTargetError,
    LabelFieldError,
    NonPersistentDatasetWarning,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from fiftyone_fastsam.options import EnrichOptions, Output

__all__ = [
    "OTHER_RUN",
    "PROMPTS_KEY",
    "RUN_KEY",
    "Target",
    "check_label_field",
    "check_view",
    "declare_schema",
    "open_dataset",
    "open_target",
    "refuse_other_type",
    "refuse_other_values",
    "refuse_read_only",
    "resolve_prompts",
    "target_of",
]

RUN_KEY = "fastsam_run"
"""Attribute of the label itself that holds the digest of the configuration that made it; after appending, of all of
them, joined by "+"."""
OTHER_RUN = "other"
"""Stands among these digests for labels that were there before, and were not made by FastSAM."""
PROMPTS_KEY = "fastsam_prompts"
"""Attribute of the label that holds the digest of the prompts it answers."""

_FRAMES = "frames."
_FLAT_REMEDY = (
    "choose slices with select_group_slices(...); for the command line, save that view and give --view its name"
)
_DYNAMIC_REMEDY = "add flatten() to the view"
_LATER_REMEDY = "choose slices after flatten(): FiftyOne takes a view of slices that was grouped again for groups"
_MOST_NAMES = 20
"""Datasets that a message names."""
_DETECTIONS = "detections."
_KINDS: dict[Output, str] = {"instances": "Detections", "map": "Segmentation"}
_ATTRIBUTES = "what is told of each mask"
_ASKED_AT_ONCE = 10_000
"""Samples of a view in one query."""


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A checked dataset or view.

    Parameters
    ----------
    dataset : fiftyone.Dataset
        Where the samples live.
    view : fiftyone.Dataset or fiftyone.DatasetView
        The samples to enrich.
    label_field : str
        Name of the field, without ``frames.``.
    is_video : bool
        Labels belong to frames.
    """

    dataset: Any
    view: Any
    label_field: str
    is_video: bool

    @property
    def prefix(self) -> str:
        """What comes before names of fields that hold labels: ``"frames."`` or nothing."""
        return _FRAMES if self.is_video else ""

    @property
    def path(self) -> str:
        """Full name of the field."""
        return self.prefix + self.label_field

    @property
    def error_field(self) -> str:
        """Field of samples and frames that says what went wrong."""
        return f"{self.label_field}_error"

    @property
    def everything(self) -> Any:
        """All samples of the dataset, without groups: of grouped datasets those of all slices with such media."""
        if self.dataset.media_type != "group":
            return self.dataset
        return self.dataset.select_group_slices(media_type=self.view.media_type)

    @property
    def samples(self) -> Any:
        """MongoDB collection of the samples."""
        return self.dataset._sample_collection

    @property
    def frames(self) -> Any:
        """MongoDB collection of the frames."""
        return self.dataset._frame_collection

    def still_there(self, ids: Collection[Any]) -> set[Any]:
        """Return which of these are ids of samples in the dataset."""
        return {found["_id"] for found in self.samples.find({"_id": {"$in": list(ids)}}, {"_id": 1})}


def open_dataset(name: str) -> Any:
    """Load a dataset by its name.

    Raises
    ------
    InvalidTargetError
        There is none.
    DatabaseUnavailableError
        There is no database, either.
    """
    fo = import_fiftyone()
    try:
        there = fo.dataset_exists(name)
    except no_database() as error:
        raise DatabaseUnavailableError(
            "The database does not answer",
            actual=str(error)[:200],
            remedy="start MongoDB, or set FIFTYONE_DATABASE_URI; see `fastsam fiftyone doctor`",
        ) from error
    if not there:
        names = fo.list_datasets()
        known = ", ".join([*names[:_MOST_NAMES], *(["…"] if len(names) > _MOST_NAMES else [])])
        raise InvalidTargetError(
            f"There is no dataset {name!r}",
            expected=f"one of {known or '(none)'}",
            remedy="see `fiftyone datasets list`",
        )
    return fo.load_dataset(name)


def open_target(view: Any, label_field: str) -> Target:
    """Check what is to be enriched.

    Parameters
    ----------
    view : fiftyone.Dataset, fiftyone.DatasetView or str
        A dataset, its name, or some of its samples.
    label_field : str
        Where labels go.

    Raises
    ------
    InvalidTargetError
        No such dataset, no samples, not images or videos, grouped but not flat, or a view of patches or clips.
    LabelFieldError
        The name cannot be used.
    """
    fo = import_fiftyone()
    if not isinstance(label_field, str):
        raise LabelFieldError("This cannot be the name of a field", expected="text", actual=repr(label_field))
    if isinstance(view, str):
        view = open_dataset(view)
    if not isinstance(view, fo.Dataset | fo.DatasetView):
        raise InvalidTargetError("This is no dataset or view", expected="FiftyOne's", actual=type(view).__name__)
    check_view(view)
    target = target_of(view, label_field)
    if not target.dataset.persistent:
        warnings.warn(
            f"Dataset {target.dataset.name!r} is not persistent: FiftyOne deletes it with all labels when the last "
            "program that uses it ends. Set dataset.persistent = True to keep them.",
            NonPersistentDatasetWarning,
            stacklevel=4,
        )
    return target


def check_view(view: Any) -> None:
    """Refuse samples that cannot be enriched.

    Raises
    ------
    InvalidTargetError
        See :func:`open_target`.
    """
    if view._is_generated:
        raise InvalidTargetError(
            "Patches, clips and frame views hold copies of samples",
            expected="a view of the dataset's own samples",
            actual=type(view).__name__,
            remedy="enrich the view they were made from; prompt_ids takes some of its labels only",
        )
    media = view.media_type
    if media == "group":
        remedy = _LATER_REMEDY if view.group_field is None else _FLAT_REMEDY
        if view._is_dynamic_groups:
            remedy = _DYNAMIC_REMEDY
        raise InvalidTargetError("A grouped dataset is not flat", expected="images or videos", remedy=remedy)
    if media not in (None, "image", "video", "unknown"):  # FiftyOne knows no files of microscopes
        remedy = "choose slices of one kind with select_group_slices(media_type='image')" if media == "mixed" else ""
        raise InvalidTargetError(
            "Masks need images or videos", expected="image or video", actual=str(media), remedy=remedy
        )
    if not with_retries(len, view):
        raise InvalidTargetError("There are no samples", expected="at least one", actual="an empty dataset or view")
    if any(isinstance(stage, import_fiftyone().Mongo) for stage in getattr(view, "_stages", ())):
        _check_documents(view)


def _check_documents(view: Any) -> None:
    """Refuse what stages of MongoDB made of samples, such as groups: its ids are those of no sample."""
    from bson import ObjectId

    made = with_retries(lambda: list(view._aggregate(post_pipeline=[{"$limit": 1}, {"$project": {"_id": 1}}])))
    if isinstance(made[0].get("_id"), ObjectId):
        return
    raise InvalidTargetError(
        "The view shows documents that are no samples",
        expected="ids of samples",
        actual=str(made[0].get("_id")),
        remedy="leave out stages that make documents of others, such as $group",
    )


def target_of(view: Any, label_field: str) -> Target:
    """Return a view that can be enriched as a target.

    Raises
    ------
    LabelFieldError
        The name cannot be used.
    """
    dataset, is_video = view._root_dataset, view.media_type == "video"
    target = Target(dataset, _with_all_fields(dataset, view), label_field.removeprefix(_FRAMES), is_video)
    if label_field.startswith(_FRAMES) and not target.is_video:
        raise LabelFieldError(
            "Images have no frames",
            expected="a field of samples",
            actual=repr(label_field),
            remedy=f"name it {target.label_field!r}, or choose videos",
        )
    _check_name(target)
    return target


def _with_all_fields(dataset: Any, view: Any) -> Any:
    """Return a view of the same samples that hides no fields: labels that are not shown are there all the same."""
    from fiftyone.core.stages import Concat, ExcludeFields, SelectFields

    stages = getattr(view, "_stages", ())
    shown = [
        Concat(_with_all_fields(dataset, stage.samples)) if isinstance(stage, Concat) else stage
        for stage in stages
        if not isinstance(stage, ExcludeFields | SelectFields)
    ]
    if shown == list(stages):
        return view
    whole = dataset.view()
    for stage in shown:
        whole = whole.add_stage(stage)
    return whole


def _check_name(target: Target) -> None:
    fo = import_fiftyone()
    name = target.label_field
    if not name.isidentifier() or name.startswith("_"):
        raise LabelFieldError(
            "This cannot be the name of a field", expected="letters, digits and _, no dot", actual=repr(name)
        )
    schema = _schema(target)
    default = target.dataset._get_default_sample_fields(include_private=False) if schema else ()
    if name in default or hasattr(fo.Sample, name):
        raise LabelFieldError("This field belongs to FiftyOne", expected="another name", actual=repr(name))


def _schema(target: Target, *, flat: bool = False) -> dict[str, Any]:
    schema_of = target.dataset.get_frame_field_schema if target.is_video else target.dataset.get_field_schema
    return dict(schema_of(flat=flat) or {})


def field_type(target: Target, name: str) -> str | None:
    """Return the label type of a field ("Detections", …), "" for other fields, None if there is none."""
    field = _schema(target).get(name)
    if field is None:
        return None
    document = getattr(field, "document_type", None)
    return "" if document is None else str(document.__name__)


def resolve_prompts(target: Target, options: EnrichOptions) -> EnrichOptions:
    """Check the type of the prompts' field, and give ``prompt_field`` its meaning.

    Raises
    ------
    InvalidPromptError
        No such field, or its labels cannot prompt; or labels are chosen, but no field.
    """
    if options.field is None and options.prompt_ids is not None:
        raise InvalidPromptError(
            "prompt_ids choose among labels that prompt",
            expected="the field of these labels",
            actual="none",
            remedy="name it with prompt_field",
        )
    if options.field is None:
        return options
    name = options.field.removeprefix(_FRAMES)
    if options.field.startswith(_FRAMES) and not target.is_video:
        raise InvalidPromptError(
            "Images have no frames that could prompt",
            expected="a field of samples",
            actual=repr(options.field),
            remedy=f"name it {name!r}, or choose videos",
        )
    kind = field_type(target, name)
    if options.masks_field is not None and target.is_video:
        raise InvalidPromptError("Masks of videos cannot be asked again", remedy="leave out masks_field")
    slots: dict[str, tuple[str, ...]]
    slots = {"box_prompt_field": ("Detections", "Detection"), "point_prompt_field": ("Keypoints", "Keypoint")}
    if options.masks_field is not None:
        slots = {"masks_field": ("Detections",)}
    if name == target.label_field:
        raise InvalidPromptError("Masks cannot replace the labels that prompt them", remedy="name another field")
    for slot, kinds in slots.items():
        if kind in kinds and (options.prompt_field is not None or getattr(options, slot) is not None):
            resolved: dict[str, Any] = {slot: name, "prompt_field": None}
            return replace(options, **resolved)
    prompted = options.prompt_field is not None
    kinds = tuple(kind for slot, kinds in slots.items() if prompted or getattr(options, slot) for kind in kinds)
    fitting = [other for other in _schema(target) if field_type(target, other) in kinds and other != target.label_field]
    raise InvalidPromptError(
        f"Field {name!r} cannot prompt",
        expected=" or ".join(name for name in kinds if name.endswith("s")),
        actual="no such field" if kind is None else kind or "another type",
        remedy=f"name another field: {', '.join(fitting)}" if fitting else "add such labels; this dataset has none",
    )


def declare_schema(target: Target, options: EnrichOptions, digest: str) -> None:
    """Declare all fields before anything is written, so that the dataset is whole at any moment.

    Parameters
    ----------
    target : Target
    options : EnrichOptions
    digest : str
        Of the run that will write.

    Raises
    ------
    LabelFieldError
        The field exists with another type, or holds labels that were not made here and are not to be replaced.
    """
    fo = import_fiftyone()
    check_label_field(target, options.output)
    existing = field_type(target, target.label_field)
    if existing is not None and options.existing == "resume":
        _refuse_foreign_labels(target, digest)
    attributes = _attributes(target, options)
    known = _schema(target, flat=True)
    missing = {name: kind for name, kind in attributes.items() if f"{target.label_field}.{name}" not in known}
    if existing is not None:
        _refuse_other_attributes(target, {name: attributes[name] for name in attributes.keys() - missing})
        undeclared = {name.removeprefix(_DETECTIONS): kind for name, kind in missing.items() if _DETECTIONS in name}
        refuse_other_values(target, target.label_field, undeclared, _ATTRIBUTES)
    add = target.dataset.add_frame_field if target.is_video else target.dataset.add_sample_field
    if existing is None:
        add(target.label_field, fo.EmbeddedDocumentField, embedded_doc_type=getattr(fo, _KINDS[options.output]))
        if options.kind == "everything":
            _tell_instances_apart(target)
    for name, kind in missing.items():
        add(f"{target.label_field}.{name}", kind)
    if target.error_field not in known:
        add(target.error_field, fo.StringField)
    if target.is_video and target.dataset.get_field(target.error_field) is None:
        target.dataset.add_sample_field(target.error_field, fo.StringField)
    target.dataset.create_index(f"{target.path}.{RUN_KEY}", wait=False)


def check_label_field(target: Target, output: Output) -> None:
    """Refuse a field that has another type, or may not be written, or whose field of reasons is such a one.

    Raises
    ------
    LabelFieldError
    """
    existing = field_type(target, target.label_field)
    if existing not in (None, _KINDS[output]):
        raise LabelFieldError(
            f"Field {target.path!r} has another type",
            expected=_KINDS[output],
            actual=existing or "no label",
            remedy="name another field",
        )
    refuse_read_only(target, target.path)
    _check_error_field(target)
    if output == "map":
        _refuse_colours(target)


def _attributes(target: Target, options: EnrichOptions) -> dict[str, Any]:
    """Return all that is written into labels besides FiftyOne's own attributes: names inside the field, with types."""
    fo = import_fiftyone()
    attributes: dict[str, Any] = {RUN_KEY: fo.StringField}
    if options.field is not None:
        attributes[PROMPTS_KEY] = fo.StringField
    if options.output == "instances":
        per_mask: dict[str, Any] = {"area_px": fo.IntField, "mask_scale": fo.FloatField}
        per_mask |= dict.fromkeys(MEASURES, fo.FloatField)
        if options.embeddings:
            per_mask[EMBEDDING] = fo.VectorField
        if options.kind in ("boxes", "points"):
            per_mask |= {"matched": fo.BooleanField, "fit": fo.FloatField}
        per_mask = _carried_fields(target, options) | per_mask
        attributes |= {f"{_DETECTIONS}{name}": kind for name, kind in per_mask.items()}
    return attributes


def _refuse_other_attributes(target: Target, attributes: dict[str, Any]) -> None:
    """Refuse declared attributes that are stored otherwise than what would be written."""
    for name, kind in attributes.items():
        path = f"{target.path}.{name}"
        if _stored_as(type(target.dataset.get_field(path))) != _stored_as(kind):
            refuse_other_type(target, path, kind, _ATTRIBUTES)


def _stored_as(kind: type) -> str | None:
    """Return how MongoDB keeps a simple type of fields."""
    fo = import_fiftyone()
    stored = {
        "number": (fo.FloatField, fo.IntField),
        "bool": (fo.BooleanField,),
        "string": (fo.StringField,),
        "date": (fo.DateField, fo.DateTimeField),
        "binData": (fo.VectorField, fo.ArrayField),
    }
    return next((name for name, kinds in stored.items() if issubclass(kind, kinds)), None)


def _refuse_colours(target: Target) -> None:
    """Refuse a field whose classes are colours: maps have numbers."""
    classes = target.dataset.mask_targets.get(target.path, {})
    if colours := [value for value in classes if isinstance(value, str) and not value.isdigit()]:
        raise LabelFieldError(
            f"The classes of field {target.path!r} are colours",
            expected="mask_targets of numbers, or none",
            actual=", ".join(colours[:3]),
            remedy="name another field",
        )


def _check_error_field(target: Target) -> None:
    """Refuse a field of the reasons' name that holds something else, or may not be written."""
    fo = import_fiftyone()
    for path in {target.error_field, target.prefix + target.error_field}:
        refuse_read_only(target, path)
        refuse_other_type(target, path, fo.StringField, "the reasons of failures")


def refuse_other_type(target: Target, path: str, kind: type, purpose: str) -> None:
    """Refuse a field that is to be written and holds something else.

    Raises
    ------
    LabelFieldError
        It is there, and of another type.
    """
    field = target.dataset.get_field(path)
    if field is not None and not isinstance(field, kind):
        raise LabelFieldError(
            f"Field {path!r} is needed for {purpose}",
            expected=f"{kind.__name__}, or no such field",
            actual=type(field).__name__,
            remedy="rename that field, or name other label fields",
        )


def refuse_other_values(target: Target, label_field: str, attributes: dict[str, type], purpose: str) -> None:
    """Refuse attributes to be declared if labels of others hold values that FiftyOne could not read any more then.

    Parameters
    ----------
    target : Target
    label_field : str
        A field of ``Detections``, without ``frames.``.
    attributes : dict
        Names and types.
    purpose : str

    Raises
    ------
    LabelFieldError
        There are such values.
    """
    name, collection = label_field, target.frames if target.is_video else target.samples
    others = {each: {each: {"$ne": None, "$not": {"$type": _stored_as(kind)}}} for each, kind in attributes.items()}
    foreign = {f"{name}.{RUN_KEY}": None, f"{name}.detections": {"$elemMatch": {"$or": list(others.values())}}}
    found = collection.find_one(foreign, {"_id": 1}) if others else None
    if found is None:
        return
    for each, other in others.items():
        if collection.find_one({**found, f"{name}.detections": {"$elemMatch": other}}, {"_id": 1}) is not None:
            raise LabelFieldError(
                f"Attribute {each!r} of the labels in {target.prefix + name!r} is needed for {purpose}",
                expected=f"{attributes[each].__name__}, or no such attribute",
                actual="another type",
                remedy="rename that attribute, or name other label fields",
            )


def refuse_read_only(target: Target, path: str) -> None:
    """Refuse a field that is to be written and may not.

    Raises
    ------
    LabelFieldError
        It is there, and read-only.
    """
    field = target.dataset.get_field(path)
    if field is not None and field.read_only:
        raise LabelFieldError(
            f"Field {path!r} is read-only",
            expected="a field that may be written",
            actual="read_only=True",
            remedy="name another field, or set read_only = False on this one and save() it",
        )


def _tell_instances_apart(target: Target) -> None:
    """Give each mask a colour of its own in the App, as all have one label; a scheme that is there stays."""
    fo, dataset = import_fiftyone(), target.dataset
    if dataset.app_config.color_scheme is None:
        pool = list(fo.app_config.color_pool)
        dataset.app_config.color_scheme = fo.ColorScheme(color_by="instance", color_pool=pool)
        dataset.save()


def _carried_fields(target: Target, options: EnrichOptions) -> dict[str, Any]:
    """Return the further attributes of the prompts' labels, with their types."""
    if options.field is None:
        return {}
    field = target.dataset.get_field(f"{target.prefix}{options.field}")
    schema = field.get_field_schema()
    items = schema.get("detections") or schema.get("keypoints")
    per_label = items.field.get_field_schema() if items is not None else schema
    fo = import_fiftyone()
    own = set(fo.Detection._fields_ordered) | NOT_CARRIED | MEASURED | {"id"}
    simple = (fo.StringField, fo.IntField, fo.FloatField, fo.BooleanField, fo.DateField, fo.DateTimeField)
    return {name: type(kind) for name, kind in per_label.items() if name not in own and isinstance(kind, simple)}


def _refuse_foreign_labels(target: Target, digest: str) -> None:
    """Refuse to replace what FastSAM did not make, and what was appended to; not what this run has made before."""
    name = target.label_field
    run = f"{name}.{RUN_KEY}"
    others = {"$not": {"$regex": digest}}
    foreign = {name: {"$type": "object"}, run: None}
    appended = {"$and": [{run: {"$regex": r"\+"}}, {run: others}]}
    collection = target.frames if target.is_video else target.samples
    found = collection.find_one({"$or": [foreign, appended]}, {run: 1}) or _drawn_label(target, collection, run, others)
    if found is None:
        return
    runs = str(found[name].get(RUN_KEY, "")).split("+")
    mixed = len(runs) > 1 and OTHER_RUN not in runs
    raise LabelFieldError(
        f"Field {target.path!r} holds labels that " + ("were appended" if mixed else "FastSAM did not make"),
        expected="a new field",
        remedy="name another field, or say what to do with them: existing='skip', 'overwrite' or 'append'",
    )


def _drawn_label(target: Target, collection: Any, run: str, others: dict[str, Any]) -> dict[str, Any] | None:
    """Return a document of the view that would be made anew, and holds a label drawn into what FastSAM had made."""
    from bson import ObjectId

    by_hand = {f"{target.label_field}.detections": {"$elemMatch": dict.fromkeys(OWN_ATTRIBUTES)}}
    query = {"$and": [{run: {"$type": "string"}}, {run: others}, by_hand]}
    parts: list[dict[str, Any]] = [{}]
    if target.view is not target.dataset:
        ids = [ObjectId(id_) for id_ in target.view.values("id")]
        key = "_sample_id" if target.is_video else "_id"
        parts = [{key: {"$in": ids[i : i + _ASKED_AT_ONCE]}} for i in range(0, len(ids), _ASKED_AT_ONCE)]
    for part in parts:
        found: dict[str, Any] | None = collection.find_one({**part, **query}, {run: 1})
        if found is not None:
            return found
    return None
