"""What is left to do: samples without labels of this configuration, and those whose prompts were edited since."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fiftyone_fastsam._answers import are_among, prompts_digest, prompts_in
from fiftyone_fastsam._convert import EMBEDDING
from fiftyone_fastsam._target import PROMPTS_KEY, RUN_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fiftyone_fastsam._convert import Document
    from fiftyone_fastsam._target import Target
    from fiftyone_fastsam.options import EnrichOptions

__all__ = [
    "WHOLE",
    "finished_filter",
    "is_answered",
    "joined",
    "prompt_stages",
    "sample_count",
    "shown_stages",
    "unfinished",
    "visible_prompts",
]

WHOLE = "_fastsam_whole"
"""Key of a fetched document for the prompts' field as it is, where a view shows something else."""

_CHOOSING = {"$skip", "$limit", "$geoNear"}
"""Stages that only choose samples, and would choose among those that were chosen by id."""
_LOOKED_AT_ONCE = 10_000
"""Samples in one query."""
_ASKED_AT_ONCE = 100_000
"""Ids of labels in one query, which may not be larger than a document."""


def finished_filter(target: Target, options: EnrichOptions, digest: str) -> dict[str, Any]:
    """Return the MongoDB filter of the samples or frames that need nothing more."""
    name = target.label_field
    if options.existing == "overwrite":
        return {"_id": {"$in": []}}
    if options.existing == "skip":
        return {name: {"$type": "object"}}
    collection, run = target.frames if target.is_video else target.samples, f"{name}.{RUN_KEY}"
    made = [each for each in collection.distinct(run) if each is not None]  # a pattern would be no help to the index
    if options.kind in ("boxes", "points"):  # a later run may have answered the same prompts
        return {run: {"$in": [each for each in made if each.endswith(digest)]}}
    return {run: {"$in": [each for each in made if digest in each]}}


def unfinished(target: Target, options: EnrichOptions, digest: str) -> list[str]:
    """Return the ids of the samples that are left to do, in the view's order; of videos, all (frames decide).

    A sample that several parts of a view show is there once.
    """
    if target.is_video:
        return _ids(target.view)
    done = finished_filter(target, options, digest)
    asked = _asked(target, options)
    left = _ids(asked.match({"$nor": [done]}))
    if not options.follows_edits:
        return left
    everything = _ids(asked)
    again = set(left)
    again |= _with_edited_prompts(target, options, done, [id_ for id_ in everything if id_ not in again])
    return [id_ for id_ in everything if id_ in again]


def _ids(view: Any) -> list[str]:
    return list(dict.fromkeys(view.values("id")))


def sample_count(view: Any) -> int:
    """Return how many samples a view shows, each counted once."""
    from fiftyone.core.stages import Concat

    several = any(isinstance(stage, Concat) for stage in getattr(view, "_stages", ()))
    return len(_ids(view)) if several else len(view)


def _asked(target: Target, options: EnrichOptions) -> Any:
    """Return the samples of the view that hold one of the labels in ``prompt_ids``; without these, all."""
    from bson import ObjectId

    if options.prompt_ids is None or options.field is None:
        return target.view
    ids = [ObjectId(id_) for id_ in options.prompt_ids if ObjectId.is_valid(id_)]
    found: set[str] = set()
    places = [f"{options.field}.{name}" for name in ("_id", "detections._id", "keypoints._id")]
    for start in range(0, len(ids), _ASKED_AT_ONCE):
        wanted = {"$in": ids[start : start + _ASKED_AT_ONCE]}
        found.update(target.view.match({"$or": [{place: wanted} for place in places]}).values("id"))
    return target.view.select(found)


def _with_edited_prompts(target: Target, options: EnrichOptions, done: dict[str, Any], ids: Sequence[str]) -> set[str]:
    """Return which of these samples are finished, but their prompts are not those that were answered."""
    from bson import ObjectId

    remarks = [f"{target.label_field}.{key}" for key in (PROMPTS_KEY, RUN_KEY)]
    whole = [] if target.view is target.dataset else [{"$set": {WHOLE: f"${options.field}"}}]
    stages = [{"$match": done}, *prompt_stages(options, [*remarks, WHOLE])]
    found: set[str] = set()
    for start in range(0, len(ids), _LOOKED_AT_ONCE):
        chosen = [ObjectId(id_) for id_ in ids[start : start + _LOOKED_AT_ONCE]]
        documents = joined(target.samples.aggregate([*shown_stages(target.view, chosen, whole), *stages]), options)
        found.update(str(id_) for id_, each in documents.items() if not is_answered(each, target, options))
    return found


def shown_stages(
    view: Any, ids: Sequence[Any], first: Sequence[dict[str, Any]] = (), *, frames_only: bool = False
) -> list[dict[str, Any]]:
    """Return the stages of an aggregation that chooses samples by id, and shows them as a view does.

    Stages that only choose samples are left out, unless what is shown of one depends on others: in groups, or in views
    of several parts. Left out are those, too, that come before slices of groups are selected: they choose groups, and
    would look for the ids among samples of the dataset's own slice.

    Parameters
    ----------
    view : fiftyone.Dataset or fiftyone.DatasetView
    ids : sequence of bson.ObjectId
        Of samples of the view.
    first : sequence of dict
        Stages that see the samples as they are stored.
    frames_only : bool
        Give frames instead of samples.
    """
    from fiftyone.core.stages import SelectGroupSlices

    stages = getattr(view, "_stages", ())
    sliced = [i for i, stage in enumerate(stages) if isinstance(stage, SelectGroupSlices) and stage.flat]
    if sliced and sliced[-1]:
        view = view._root_dataset.view()
        for stage in stages[sliced[-1] :]:
            view = view.add_stage(stage)
    chosen = {"$match": {"_id": {"$in": list(ids)}}}
    shown = [_of_chosen(stage, chosen, first) for stage in view._pipeline(frames_only=frames_only)]
    kinds = {kind for stage in shown for kind in stage}
    if not frames_only and ("$group" in kinds or ("$unionWith" in kinds and kinds & _CHOOSING)):
        return [*first, *shown, chosen]
    return [chosen, *first, *(stage for stage in shown if not stage.keys() & _CHOOSING)]


def _of_chosen(stage: dict[str, Any], chosen: dict[str, Any], first: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a stage that joins only the chosen samples if it joins the samples of another view."""
    union = stage.get("$unionWith")
    if union is None:
        return stage
    inner = [_of_chosen(each, chosen, first) for each in union["pipeline"]]
    return {"$unionWith": {**union, "pipeline": [*first, *inner, chosen]}}


def joined(documents: Iterable[dict[str, Any]], options: EnrichOptions) -> dict[Any, dict[str, Any]]:
    """Return documents by id; if several parts of a view show one, with all labels that prompt in any of them."""
    found: dict[Any, dict[str, Any]] = {}
    for document in documents:
        known = found.setdefault(document["_id"], document)
        if known is document or options.field is None:
            continue
        label, more = known.get(options.field), document.get(options.field)
        if label is None:
            known[options.field] = more
            continue
        ids = {prompt.get("_id") for prompt in prompts_in(label)}
        for name in {"detections", "keypoints"} & label.keys():
            label[name] = [*label[name], *(prompt for prompt in prompts_in(more) if prompt.get("_id") not in ids)]
    return found


def is_answered(document: dict[str, Any], target: Target, options: EnrichOptions) -> bool:
    """Tell whether the label of a finished document answers the prompts as they are now, or all they are part of."""
    label = document[target.label_field]
    if options.kind == "text" and "+" in label.get(RUN_KEY, ""):
        return True  # which of its masks are answers cannot be told
    answered, shown = label.get(PROMPTS_KEY), visible_prompts(document, options)
    if prompts_digest(shown) == answered:
        return True
    whole = visible_prompts({str(options.field): document.get(WHOLE)}, options)
    return bool(prompts_digest(whole) == answered) and are_among(shown, whole)


def prompt_stages(options: EnrichOptions, paths: Sequence[str], *, whole: bool = False) -> list[dict[str, Any]]:
    """Return the stages of an aggregation that leave the prompts, without their masks unless whole, and more paths."""
    wanted = dict.fromkeys(paths, 1)
    if options.field is None:
        return [{"$project": wanted}]
    stages: list[dict[str, Any]] = [{"$project": {**wanted, options.field: 1}}]
    if whole:
        return stages
    large = ("mask", "detections.mask", f"detections.{EMBEDDING}")  # not needed
    return [*stages, {"$unset": [f"{field}.{name}" for name in large for field in (options.field, WHOLE)]}]


def visible_prompts(document: dict[str, Any], options: EnrichOptions) -> list[Document]:
    """Return the labels of a document that prompt."""
    prompts = [] if options.field is None else prompts_in(document.get(options.field))
    if options.prompt_ids is None:
        return prompts
    return [prompt for prompt in prompts if str(prompt.get("_id")) in options.prompt_ids]
