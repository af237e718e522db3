"""Writing results: bulk BSON straight into MongoDB, or through FiftyOne's samples; both leave equal documents.

Every sample is one update of one document, so it is whole or untouched whatever happens.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

from fiftyone_fastsam._answers import OWN_ATTRIBUTES, prompts_digest
from fiftyone_fastsam._convert import Instance, array_bytes
from fiftyone_fastsam._fiftyone import import_fiftyone
from fiftyone_fastsam._target import OTHER_RUN, PROMPTS_KEY, RUN_KEY
from fiftyone_fastsam.errors import TargetChangedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fiftyone_fastsam._items import Item
    from fiftyone_fastsam._target import Target
    from fiftyone_fastsam.options import EnrichOptions

__all__ = ["DirectWriter", "Result", "SdkWriter", "Writer", "choose_writer", "refresh_changed"]

_LOOKED_AT_ONCE = 10_000
"""Samples in one query."""

_IS_ANSWER: dict[str, Any] = {"$ne": [{"$ifNull": ["$$this.matched", None]}, None]}
_IS_DRAWN: dict[str, Any] = {
    "$and": [{"$eq": [{"$ifNull": [f"$$this.{name}", None]}, None]} for name in OWN_ATTRIBUTES]
}
"""MongoDB's way to say what `_is_answer` and `_is_drawn` do."""


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What to store for one item: instances, a map, or the reason why there is nothing.

    Parameters
    ----------
    item : Item
    instances : sequence of Instance, optional
        An empty one is stored as such: processed, nothing found.
    map : ndarray (H, W), optional
        Stored instead of the instances if given.
    reason : str, optional
        What went wrong; the label then stays as it was.
    encoded : sequence of bson.raw_bson.RawBSONDocument, optional
        The instances, if they were encoded already.
    at_limit : bool
        Whether as many masks were found as are allowed.
    gone : bool
        The sample is not in the dataset any more, so nothing is stored.
    """

    item: Item
    instances: Sequence[Instance] = ()
    map: NDArray[Any] | None = None
    reason: str | None = None
    encoded: Sequence[Any] | None = None
    at_limit: bool = False
    gone: bool = False

    def remarks(self, run: str) -> dict[str, str]:
        """Return what the label remembers of how it was made."""
        prompts = self.item.prompts
        return {RUN_KEY: run} if prompts is None else {RUN_KEY: run, PROMPTS_KEY: prompts_digest(prompts)}

    @property
    def mask_count(self) -> int:
        """Number of masks among the instances; prompts that nothing answers are none."""
        return sum(instance.mask is not None or instance.mask_path is not None for instance in self.instances)

    @property
    def size_bytes(self) -> int:
        """About how much will be written."""
        painted = 0 if self.map is None else self.map.nbytes // 8
        return painted + sum(len(document.raw) for document in self.encoded or ())


class Writer:
    """Stores results.

    Parameters
    ----------
    target : Target
    run : str
        Digest stored with each label.
    append : bool
        Add to the detections that are there.
    in_place : bool
        What answers a prompt takes the place of an earlier answer to it. Without `append`, drawn labels stay, answers
        to prompts of the sample that are not asked now, and what other runs have appended.
    """

    def __init__(self, target: Target, run: str, *, append: bool, in_place: bool = False) -> None:
        self._target = target
        self._run = run
        self._append = append
        self._in_place = in_place

    def write(self, results: Sequence[Result]) -> set[Any]:
        """Store results, and return the ids of samples that are not in the dataset any more; safe to repeat."""
        raise NotImplementedError


def choose_writer(options: EnrichOptions, target: Target, run: str) -> Writer:
    """Return the writer asked for; ``"auto"`` is the direct one if this FiftyOne has what it needs."""
    needed = ("_sample_collection", "_sample_collection_name", "_frame_collection_name", "_doc")
    direct = all(hasattr(target.dataset, attribute) for attribute in needed)
    direct = options.writer == "direct" or (options.writer == "auto" and direct)
    kind = DirectWriter if direct else SdkWriter
    return kind(target, run, append=options.existing == "append", in_place=options.follows_edits)


class DirectWriter(Writer):
    """Writes label documents made by hand, a batch in one request."""

    def write(self, results: Sequence[Result]) -> set[Any]:
        """Store results, and return the ids of samples that are not in the dataset any more; safe to repeat."""
        now = datetime.now(UTC)
        ids = {result.item.sample_id for result in results}
        of_frames = [result for result in results if result.item.frame_number is not None]
        left = self._target.still_there(ids) if of_frames else ids  # frames of others would be inserted
        frames = [self._update(result, now) for result in of_frames if result.item.sample_id in left]
        samples = [self._update(result, now) for result in results if result.item.frame_number is None]
        if frames:
            self._target.frames.bulk_write(frames, ordered=False)
        if samples:
            self._target.samples.bulk_write(samples, ordered=False)
        _refuse_lost_fields(self._target, ids)
        gone = _without_frames(self._target, ids)
        _refresh(self._target, results)
        return gone

    def _update(self, result: Result, now: datetime) -> Any:
        from pymongo import UpdateOne

        item, name = result.item, self._target.label_field
        values: dict[str, Any] = {"last_modified_at": now}
        changes: dict[str, Any] = {"$set": values}
        query: dict[str, Any] = {"_id": item.sample_id}
        if item.frame_number is not None:
            query = {"_sample_id": item.sample_id, "frame_number": item.frame_number}
            changes["$setOnInsert"] = {"_dataset_id": self._target.dataset._doc.id, "created_at": now}
        if result.reason is not None:
            values[self._target.error_field] = result.reason
        elif (self._append or self._in_place) and result.map is None:
            return self._merged(result, query, changes)
        else:
            values[name] = self._label(result)
            changes["$unset"] = {self._target.error_field: ""}
        return UpdateOne(query, changes, upsert=item.frame_number is not None)

    def _label(self, result: Result) -> dict[str, Any]:
        if result.map is not None:
            from bson import ObjectId

            plain = {"_id": ObjectId(), "_cls": "Segmentation", "tags": [], "mask": array_bytes(result.map)}
            return {**plain, **result.remarks(self._run)}
        return {"_cls": "Detections", "detections": list(encoded(result)), **result.remarks(self._run)}

    def _merged(self, result: Result, query: dict[str, Any], changes: dict[str, Any]) -> Any:
        """Return an update as a pipeline, which can say "once per run" and "whether or not there are labels"."""
        from pymongo import UpdateOne

        name = self._target.label_field
        new = list(encoded(result))
        old: dict[str, Any] = {"$ifNull": [f"${name}.detections", []]}
        labels: dict[str, Any] = {"$concatArrays": [old, "$$new"]}
        unmarked = {"$cond": [{"$eq": [{"$type": f"${name}"}, "object"]}, OTHER_RUN, ""]}
        runs: dict[str, Any] = {"$split": [{"$ifNull": [f"${name}.{RUN_KEY}", unmarked]}, "+"]}
        others: dict[str, Any] = {"$filter": {"input": runs, "cond": {"$not": {"$in": ["$$this", ["", self._run]]}}}}
        if self._in_place:
            same: dict[str, Any] = {"$in": ["$$this._id", {"$literal": [label["_id"] for label in new]}]}
            stays = {"$filter": {"input": old, "cond": {"$not": {"$and": [_IS_ANSWER, same]}}}}
            labels = {"$concatArrays": [stays, "$$new"]}
            if not self._append:
                alone = {"$eq": [{"$size": runs}, 1]}
                labels = {"$cond": [alone, _arrangement(result.item, len(new), old), labels]}
                others = {"$cond": [alone, [], others]}
        joined = {"$concat": ["$$value", "$$this", "+"]}
        label: dict[str, Any] = {
            "_cls": "Detections",
            "detections": {"$let": {"vars": {"new": {"$literal": new}}, "in": labels}},  # told once, as it may be large
            **result.remarks(self._run),
            RUN_KEY: {"$concat": [{"$reduce": {"input": others, "initialValue": "", "in": joined}}, self._run]},
        }
        if not self._in_place:
            label = {"$cond": [{"$in": [self._run, runs]}, f"${name}", label]}
        inserted = {key: {"$ifNull": [f"${key}", value]} for key, value in changes.get("$setOnInsert", {}).items()}
        values = {key: {"$literal": value} for key, value in changes["$set"].items()}
        # $unset first: $set would merge the new label into the old one
        pipeline: list[dict[str, Any]] = [
            {"$set": {"_fastsam_new": label}},
            {"$unset": name},
            {"$set": {**values, **inserted, name: "$_fastsam_new"}},
            {"$unset": ["_fastsam_new", self._target.error_field]},
        ]
        return UpdateOne(query, pipeline, upsert=result.item.frame_number is not None)


class SdkWriter(Writer):
    """Writes through FiftyOne's documented interface."""

    def write(self, results: Sequence[Result]) -> set[Any]:
        """Store results, and return the ids of samples that are not in the dataset any more; safe to repeat."""
        from mongoengine.errors import DoesNotExist  # type: ignore[import-untyped] # it has no types

        ids = {result.item.sample_id for result in results}
        by_sample: dict[str, list[Result]] = {}
        for result in results:
            by_sample.setdefault(str(result.item.sample_id), []).append(result)
        for _ in by_sample:
            try:
                self._save(by_sample)
                break
            except DoesNotExist:  # one was deleted just now; the others are saved again
                _refresh(self._target, results)
            except ValueError:  # the database refuses; nothing of it is to stay in memory
                _refresh(self._target, results)
                raise
        _refuse_lost_fields(self._target, ids)
        return _without_frames(self._target, ids)

    def _save(self, by_sample: dict[str, list[Result]]) -> None:
        for sample in self._target.everything.select(list(by_sample)).iter_samples(autosave=True):
            for result in by_sample[sample.id]:
                self._put(sample, result)

    def _put(self, sample: Any, result: Result) -> None:
        fo = import_fiftyone()
        number, name = result.item.frame_number, self._target.label_field
        if number is not None and number not in sample.frames:
            sample.frames[number] = fo.Frame()
        document = sample if number is None else sample.frames[number]
        document[self._target.error_field] = result.reason
        if result.reason is not None:
            return
        if result.map is not None:
            document[name] = fo.Segmentation(mask=result.map, **result.remarks(self._run))
            return
        run, detections = self._run, [instance.detection() for instance in result.instances]
        if (self._append or self._in_place) and (existing := document[name]) is not None:
            runs = ((existing[RUN_KEY] if RUN_KEY in existing else None) or OTHER_RUN).split("+")
            earlier = existing.detections
            alone = not self._append and len(runs) == 1
            if alone:
                answers = {old.id: old for old in earlier if _is_answer(old)}
                arranged = _arranged(result.item, detections)
                there = [each if isinstance(each, fo.Detection) else answers.get(str(each)) for each in arranged]
                earlier = [old for old in earlier if _is_drawn(old)]
                detections = [each for each in there if each is not None]
            elif self._in_place:
                answered = {detection.id for detection in detections}
                earlier = [old for old in earlier if not (old.id in answered and _is_answer(old))]
            elif run in runs:
                return
            run = run if alone else "+".join([*(other for other in runs if other != run), run])
            detections = [*earlier, *detections]
        document[name] = fo.Detections(detections=detections, **result.remarks(run))


def _arranged(item: Item, answers: Sequence[Any]) -> list[Any]:
    """Return answers to the prompts of an item; where others of the sample's labels prompt that are not asked, ids."""
    asked = {prompt.get("_id") for prompt in item.prompts or ()}
    rest = iter(answers)
    arranged: list[Any] = []
    for id_ in item.all_ids:
        arranged += islice(rest, 1) if id_ in asked else [id_]
    return [*arranged, *rest]


def _arrangement(item: Item, count: int, old: dict[str, Any]) -> dict[str, Any]:
    """Return MongoDB's way to say: what was drawn, then new answers, and old ones to what is not asked, in order."""
    from bson import ObjectId

    parts: list[dict[str, Any]] = [{"$filter": {"input": old, "cond": _IS_DRAWN}}]
    for kept, each in groupby(_arranged(item, range(count)), key=lambda answer: isinstance(answer, ObjectId)):
        listed = list(each)
        same = {"$in": ["$$this._id", {"$literal": listed}]}
        some = {"$slice": ["$$new", listed[0], len(listed)]}
        parts.append({"$filter": {"input": old, "cond": {"$and": [_IS_ANSWER, same]}}} if kept else some)
    return {"$concatArrays": parts}


def _refuse_lost_fields(target: Target, ids: set[Any]) -> None:
    """Take back what was written into fields that were deleted or renamed meanwhile; FiftyOne could not read it.

    Raises
    ------
    TargetChangedError
        There is such a field.
    """
    document = target.dataset._doc
    schemas = {f"{part}_fields.name": 1 for part in ("sample", "frame")}
    stored = target.samples.database[document._get_collection_name()].find_one({"_id": document.id}, schemas)
    if stored is None:  # the dataset is gone, too
        return
    places = [("sample_fields", target.samples, "_id", {target.label_field, target.error_field})]
    if target.is_video:
        places.append(("frame_fields", target.frames, "_sample_id", places[0][-1]))
        places[0] = ("sample_fields", target.samples, "_id", {target.error_field})
    for schema, collection, key, written in places:
        lost = written - {field["name"] for field in stored[schema]}
        if lost:
            collection.update_many({key: {"$in": list(ids)}}, {"$unset": dict.fromkeys(lost, "")})
            raise TargetChangedError(
                f"Field {min(lost)!r} is gone",
                expected="the fields that were there when the run began",
                actual="it was deleted or renamed meanwhile",
                remedy="run the same again, which makes it anew",
            )


def _without_frames(target: Target, ids: set[Any]) -> set[Any]:
    """Return which samples are not in the dataset any more, and see to it that they leave no frames behind."""
    gone = ids - target.still_there(ids)
    if gone and target.is_video:
        target.frames.delete_many({"_sample_id": {"$in": list(gone)}})
    return gone


def _refresh(target: Target, results: Sequence[Result]) -> None:
    """Let samples and frames that are in memory see what the database holds of those that were written."""
    from fiftyone.core.frame import Frame
    from fiftyone.core.sample import Sample
    from mongoengine.errors import DoesNotExist

    for id_ in {result.item.sample_id for result in results}:
        with suppress(DoesNotExist):  # deleted
            Sample._reload_doc(target.dataset._sample_collection_name, id_)
    for item in (result.item for result in results if result.item.frame_number is not None):
        with suppress(DoesNotExist):
            Frame._reload_doc(target.dataset._frame_collection_name, item.sample_id, item.frame_number)


def refresh_changed(target: Target) -> None:
    """Let samples and frames that are in memory see what other processes have written."""
    from fiftyone.core.frame import Frame
    from fiftyone.core.sample import Sample

    samples = Sample._instances.get(target.dataset._sample_collection_name, {})
    places = [(samples, target.samples)]
    if target.is_video:
        frames = Frame._instances.get(target.dataset._frame_collection_name, {})
        places += [(of_sample, target.frames) for of_sample in list(frames.values())]
    for instances, collection in places:
        held = [document for document in list(instances.values()) if document._in_db]
        for start in range(0, len(held), _LOOKED_AT_ONCE):
            part = {document._id: document for document in held[start : start + _LOOKED_AT_ONCE]}
            for found in collection.find({"_id": {"$in": list(part)}}, {"last_modified_at": 1}):
                document = part[found["_id"]]
                if found.get("last_modified_at") != document.last_modified_at:
                    document._reload_backing_doc()


def _is_answer(detection: Any) -> bool:
    """Tell whether a detection answers a prompt, whose id it has then."""
    return _holds(detection, "matched")


def _is_drawn(detection: Any) -> bool:
    """Tell whether a detection was drawn by hand."""
    return not any(_holds(detection, name) for name in OWN_ATTRIBUTES)


def _holds(detection: Any, name: str) -> bool:
    return detection.has_attribute(name) and detection[name] is not None


def encoded(result: Result) -> Sequence[Any]:
    """Return the instances as raw BSON, made now unless that was done before."""
    if result.encoded is not None:
        return result.encoded
    return [encode(instance) for instance in result.instances]


def encode(instance: Instance) -> Any:
    """Return one instance as raw BSON."""
    import bson
    from bson.raw_bson import RawBSONDocument

    return RawBSONDocument(bson.encode(instance.document()))
