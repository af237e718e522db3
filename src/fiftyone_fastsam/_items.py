"""The images to segment, one after another: samples of a dataset, or frames of its videos, with their prompts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from fastsam_core._defaults import MAX_PIXELS
from fastsam_core.errors import FastSAMError, ImageNotFoundError, ImageReadError, InvalidPromptError
from fastsam_core.images import Image, read_image
from fiftyone_fastsam._pending import (
    WHOLE,
    finished_filter,
    is_answered,
    joined,
    prompt_stages,
    shown_stages,
    visible_prompts,
)
from fiftyone_fastsam._retry import with_retries
from fiftyone_fastsam._target import PROMPTS_KEY, RUN_KEY

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from fiftyone_fastsam._convert import Document
    from fiftyone_fastsam._target import Target
    from fiftyone_fastsam.options import EnrichOptions

__all__ = ["Item", "image_items", "read_item", "video_items"]

_SIZE: Final = "_fastsam_stored_bytes"
_REPLACED: Final = "_fastsam_replaced_bytes"
_ALL: Final = "_fastsam_all_prompts"
_CHUNK: Final = 200
"""Samples whose paths and prompts are fetched at once."""
_CHUNK_BYTES: Final = 32 * 2**20
"""Size of the masks that are fetched at once, unless one sample has more."""


@dataclass(slots=True, eq=False)
class Item:
    """One image to segment.

    Parameters
    ----------
    sample_id : bson.ObjectId
    filepath : str
        Of the image, or of the video.
    prompts : list of dict, optional
        Stored labels that prompt; None if nothing is to prompt.
    all_ids : sequence of bson.ObjectId
        Of all labels that could prompt, in order, whether or not they are among the prompts now.
    stored_bytes : int
        Size of the sample's (or frame's) document without what will be replaced.
    frame_number : int, optional
        From 1, in a video.
    pixels : uint8 ndarray (H, W, 3), optional
        A frame that was read already.
    error : FastSAMError, optional
        Known before anything is segmented.
    unasked : bool
        Nothing prompts here, so the image is not read.
    gone : bool
        The sample is not in the dataset any more.
    share : float
        How much of the sample is behind its end, 0 to 1: of a video as far as it tells how long it is.
    """

    sample_id: Any
    filepath: str
    prompts: list[Document] | None = None
    all_ids: Sequence[Any] = ()
    stored_bytes: int = 0
    frame_number: int | None = None
    pixels: Any = None
    error: FastSAMError | None = None
    unasked: bool = False
    gone: bool = False
    share: float = 1.0


def read_item(item: object, max_pixels: int | None = MAX_PIXELS) -> Image:
    """Read an item's image; limit and errors are those of `read_image`."""
    if not isinstance(item, Item):
        raise TypeError(f"expected an Item, not {type(item).__name__}")
    if item.error is not None:
        raise item.error
    if item.unasked or item.gone:
        raise InvalidPromptError("Nothing prompts here")  # keeps it from the network
    return read_image(item.filepath if item.pixels is None else item.pixels, max_pixels=max_pixels)


def image_items(target: Target, options: EnrichOptions, ids: Sequence[str]) -> Iterator[Item]:
    """Yield the samples with these ids in order, fetched some at a time.

    Those that were deleted meanwhile are marked, those that the view does not show any more are left out.
    """
    from bson import ObjectId

    measures, *stages = _stages(target, options, "filepath")
    for chunk in _chunks(target, options, [ObjectId(id_) for id_ in ids]):
        chosen = [{"$match": {"_id": {"$in": chunk}}}, measures]
        if options.field is not None:  # a view may have filtered the labels that prompt
            chosen = shown_stages(target.view, chunk, [measures])
        found = with_retries(_fetch, target.samples, [*chosen, *stages])
        by_id = joined(found, options)
        looked_up = [id_ for id_, document in by_id.items() if _SIZE not in document]  # by a view of groups
        if looked_up:
            sizes = [measures, {"$project": dict.fromkeys(measures["$set"], 1)}]
            for more in with_retries(_fetch, target.samples, [{"$match": {"_id": {"$in": looked_up}}}, *sizes]):
                by_id[more["_id"]] |= more
        missing = set(chunk) - by_id.keys()
        gone = missing - with_retries(target.still_there, missing) if missing else missing
        for id_ in chunk:
            document = by_id.get(id_)
            if document is None:
                if id_ in gone:
                    yield Item(id_, "", gone=True)
                continue
            item = Item(id_, document["filepath"], *_known(document, options))
            if options.masks_field is not None and document.get(options.masks_field) is None:
                item.error = InvalidPromptError(f"The sample has no masks in {options.masks_field!r}")
            yield item


def _chunks(target: Target, options: EnrichOptions, ids: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Divide ids into parts whose samples are fetched at once: few where these come with thousands of masks."""
    size = {"$project": {"bytes": {"$bsonSize": {"$ifNull": [f"${options.masks_field}", {}]}}}}
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        if options.masks_field is None:
            yield chunk
            continue
        found = with_retries(_fetch, target.samples, [{"$match": {"_id": {"$in": chunk}}}, size])
        sizes = {each["_id"]: each["bytes"] for each in found}
        first, held = 0, 0
        for end, id_ in enumerate(chunk):
            held += sizes.get(id_, 0)
            if held > _CHUNK_BYTES and end > first:
                yield chunk[first:end]
                first, held = end, sizes.get(id_, 0)
        yield chunk[first:]


def video_items(
    target: Target, options: EnrichOptions, ids: Sequence[str], digest: str, gone: Collection[Any] = ()
) -> Iterator[Item]:
    """Yield the unfinished frames of the videos with these ids; one item with an error for a video that cannot be read.

    Frames are read in order, those that are finished or not in the view without decoding them. Of a video that comes to
    be among those that are ``gone`` no more frames are read; one that is when its turn comes is marked so.
    """
    from bson import ObjectId

    numbers = {"$project": {"frame_number": 1}}
    answered = f"{target.label_field}.{PROMPTS_KEY}"
    stages = _stages(target, options, "frame_number", answered)
    for id_ in ids:
        sample_id = ObjectId(id_)
        sample = with_retries(target.samples.find_one, {"_id": sample_id}, {"filepath": 1})
        if sample is None:
            yield Item(sample_id, "", gone=True)
            continue
        own = {"_sample_id": sample_id}
        finished = {"$and": [own, with_retries(finished_filter, target, options, digest)]}
        done = {found["frame_number"] for found in with_retries(_fetch, target.frames, [{"$match": finished}, numbers])}
        known = with_retries(_fetch, target.frames, [{"$match": own}, *stages])
        frames = {document["frame_number"]: document for document in known}
        hidden = _as_shown(target, options, sample_id, frames)
        if options.follows_edits:
            done = {number for number in done if is_answered(frames[number], target, options)}
        done |= hidden
        wanted = None
        if options.prompt_ids is not None:
            wanted = {number for number, document in frames.items() if visible_prompts(document, options)} - done
        elif _chooses_frames(target.view):
            wanted = frames.keys() - done
        if wanted is not None and not wanted:
            continue
        try:
            for number, pixels, share in _read_frames(sample["filepath"], done, wanted):
                if sample_id in gone:
                    break
                known_of_it = _known(frames.get(number, {}), options)
                yield Item(sample_id, sample["filepath"], *known_of_it, number, pixels, share=share)
        except (ImageReadError, ImageNotFoundError) as error:
            yield Item(sample_id, sample["filepath"], error=error)
        else:
            with_retries(_forget_reason, target, sample_id)


def _as_shown(target: Target, options: EnrichOptions, sample_id: Any, frames: dict[int, Document]) -> set[int]:
    """Give frames the prompts that the view shows; return the numbers of those that it does not show."""
    view = target.view
    if not any(stage._needs_frames(view) for stage in getattr(view, "_stages", ())):
        return set()
    field = {} if options.field is None else {options.field: 1}
    stages = [*shown_stages(view, [sample_id], frames_only=True), {"$project": {"frame_number": 1, **field}}]
    found = with_retries(_fetch, target.samples, stages)
    shown = {document["frame_number"]: document for document in joined(found, options).values()}
    for number in frames.keys() & shown.keys():
        whole = frames[number].get(options.field) if options.field is not None else None
        frames[number] = {**frames[number], WHOLE: whole, **{name: shown[number].get(name) for name in field}}
    return frames.keys() - shown.keys()


def _chooses_frames(view: Any) -> bool:
    """Tell whether a view shows chosen frames only; those without a document are not among them."""
    from fiftyone.core.stages import Concat, MatchFrames, SelectFrames

    for stage in reversed(getattr(view, "_stages", ())):
        if isinstance(stage, Concat | MatchFrames | SelectFrames):
            return not isinstance(stage, Concat)  # its samples may come with all frames
    return False


def _forget_reason(target: Target, sample_id: Any) -> None:
    """Remove the reason why a video could not be read."""
    told = {"_id": sample_id, target.error_field: {"$type": "string"}}
    change = {"$unset": {target.error_field: ""}, "$set": {"last_modified_at": datetime.now(UTC)}}
    target.samples.update_one(told, change)


def _read_frames(filepath: str, skipped: set[int], wanted: set[int] | None = None) -> Iterator[tuple[int, Any, float]]:
    """Yield the frames of a video that are wanted, or all without those to skip.

    Each is (number from 1, RGB, share of the video up to its end).
    """
    import os

    import cv2

    if not os.path.isfile(filepath):
        raise ImageNotFoundError("There is no such video", actual=filepath, remedy="check the sample's filepath")
    capture = cv2.VideoCapture(filepath)
    try:
        number, expected = 0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        while capture.grab():
            number += 1
            if number in skipped or (wanted is not None and number not in wanted):
                continue
            well, frame = capture.retrieve()
            if not well:
                break
            yield number, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), number / max(number, expected)
            if wanted is not None and number == max(wanted):
                return
    finally:
        capture.release()
    if number == 0:
        raise ImageReadError("The video cannot be read", actual=filepath, remedy="re-encode it, as H.264 for example")
    if 0 < number < expected - 1:  # containers may count one frame too many
        raise ImageReadError("The video breaks off", expected=f"{expected} frames", actual=f"{number} could be read")


def _stages(target: Target, options: EnrichOptions, *paths: str) -> list[dict[str, Any]]:
    """Return the stages of an aggregation that gives paths, sizes and prompts; the first one sees whole documents."""
    name, field = target.label_field, options.field
    replaced: dict[str, Any] = {"$bsonSize": {"$ifNull": [f"${name}", {}]}}
    if options.existing == "append":
        replaced = {"$literal": 0}
    elif options.existing == "resume":
        appended = {"$gte": [{"$indexOfBytes": [{"$ifNull": [f"${name}.{RUN_KEY}", ""]}, "+"]}, 0]}
        replaced = {"$cond": [appended, 0, replaced]}
    known: dict[str, Any] = {_SIZE: {"$bsonSize": "$$ROOT"}, _REPLACED: replaced}
    if options.answers_in_place:
        others = {"$ifNull": [f"${field}.keypoints._id", f"${field}._id"]}
        known[_ALL] = {"$ifNull": [f"${field}.detections._id", others]}
    return [{"$set": known}, *prompt_stages(options, [*paths, *known], whole=options.masks_field is not None)]


def _fetch(collection: Any, stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list(collection.aggregate(stages))


def _known(document: dict[str, Any], options: EnrichOptions) -> tuple[list[Document] | None, list[Any], int]:
    """Return the prompts, the ids of all labels that could prompt, and the size of what stays."""
    prompts = None if options.field is None else visible_prompts(document, options)
    found = document.get(_ALL) or []
    all_ids = list(found) if isinstance(found, list) else [found]
    some_stay = not {prompt.get("_id") for prompt in prompts or ()}.issuperset(all_ids)
    return prompts, all_ids, document.get(_SIZE, 0) - (0 if some_stay else document.get(_REPLACED, 0))
