"""Do on other images what a journal says was done on one: segment, filter, pick, write labels."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fastsam_core import label_edits
from fastsam_core._replay_planes import PlaneKey, View, key_of
from fastsam_core.candidates import inside_limits, measure_columns
from fastsam_core.errors import FastSAMError, InvalidParameterError
from fastsam_core.images import read_image, read_values
from fastsam_core.journal import LABEL_STEPS
from fastsam_core.pipeline import iter_segment
from fastsam_core.prompts import Box, Points, Polygon, match
from fastsam_core.stacks import StackLinker
from fastsam_core.tiling import segment_tiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastsam_core.images import Image
    from fastsam_core.journal import JournalFile
    from fastsam_core.masks import Masks
    from fastsam_core.model import FastSAM

__all__ = ["Replayed", "pick", "replay", "replay_labels"]

_Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    """One image of a replay.

    Attributes
    ----------
    index : int
        Position in the sources.
    source : object
    labels : int32 ndarray of shape (H, W), or of the shape of the journal's stack; or None
        None if there was an error.
    error : FastSAMError or None
    unanswered : int
        Picks of the journal that found no mask on this image.
    """

    index: int
    source: object
    labels: NDArray[np.int32] | None
    error: FastSAMError | None
    unanswered: int = 0


def replay(journal: JournalFile, sources: Iterable[object], model: FastSAM) -> Generator[Replayed, None, None]:
    """Apply the steps of a journal to images; a generator of steps like `iter_segment`.

    Points, boxes and regions are taken at the same pixels; what was picked by hand, words or likeness, by the box
    around it. The journal of a stack asks for stacks of the same kind and number of planes; planes are read, filtered,
    linked and labelled as in the session.

    Parameters
    ----------
    journal : JournalFile
    sources : iterable
        Anything `read_image` takes.
    model : FastSAM

    Yields
    ------
    Replayed

    Raises
    ------
    InvalidParameterError
        The journal writes no labels.
    """
    steps = journal.effective()
    if not journal.label_steps:
        raise InvalidParameterError(
            f"{journal.path.name} writes no labels", remedy="choose the journal of a session with commits"
        )
    return _replay(steps, View.of(journal.header, steps), sources, model)


def _search_options(steps: Sequence[_Entry]) -> dict[str, Any]:
    first = next((entry for entry in steps if entry["do"] == "segment"), {})
    return {name: first[name] for name in ("conf", "max_det") if first.get(name) is not None}


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """Everything found on one plane, measured."""

    masks: Masks
    columns: Mapping[str, NDArray[np.float64]]


def _replay(
    steps: Sequence[_Entry], view: View, sources: Iterable[object], model: FastSAM
) -> Generator[Replayed, None, None]:
    planes = view.planes(steps)
    by_intensity = any("intensity" in entry["limits"] for entry in steps if entry["do"] == "filter")
    jobs = ((source, plane) for source in sources for plane in planes)
    found: dict[PlaneKey | None, _Found] = {}
    error: FastSAMError | None = None
    with closing(_segment(jobs, view, model, _search_options(steps))) as segmented:
        for number, ((source, plane), masks, problem) in enumerate(segmented):
            error = error or problem
            if masks is not None and error is None:
                try:
                    values = _values(source, view.options(plane)) if by_intensity else None
                    found[plane] = _Found(masks, measure_columns(masks, values))
                except FastSAMError as unreadable:
                    error = unreadable
            if (number + 1) % len(planes) == 0:
                yield _finish(number // len(planes), source, steps, view, found, error)
                found, error = {}, None


def _finish(
    index: int,
    source: object,
    steps: Sequence[_Entry],
    view: View,
    found: Mapping[PlaneKey | None, _Found],
    error: FastSAMError | None,
) -> Replayed:
    if error is None:
        try:
            labels, unanswered = _labels(steps, view, found)
            return Replayed(index, source, labels, None, unanswered)
        except FastSAMError as impossible:
            error = impossible
    return Replayed(index, source, None, error)


_Job = tuple[object, PlaneKey | None]


def _segment(
    jobs: Iterable[_Job], view: View, model: FastSAM, options: Mapping[str, Any]
) -> Generator[tuple[_Job, Masks | None, FastSAMError | None], None, None]:
    """Segment planes of files as the session did: at once, or in tiles."""

    def read(job: Any) -> Image:
        reading = view.options(job[1])
        if view.contrast is not None and not view.rgb and "channels" not in reading:
            reading["contrast"] = view.contrast
        return read_image(job[0], **reading)

    if not view.tiled:
        with closing(iter_segment(jobs, model, reader=read, **options)) as steps:
            for step in steps:
                yield cast("_Job", step.source), step.masks, step.error
        return
    for job in jobs:
        masks: Masks | None = None
        try:
            for tile in segment_tiles(read(job), model, **options):
                masks = tile.result
            yield job, masks, None
        except FastSAMError as error:
            yield job, None, error


def _values(source: object, options: Mapping[str, Any]) -> NDArray[Any]:
    """Return the plane's own values: the mean of its channels, or of red, green and blue as 8-bit values."""
    values: NDArray[Any] = read_values(source, **options)
    if values.ndim == 3 and values.shape[-1] in (3, 4) and "C" not in options.get("axes", ""):
        values = np.moveaxis(read_image(source, **options).rgb8, -1, 0)
    return values if values.ndim == 2 else np.asarray(values.mean(axis=0, dtype=np.float32))


def replay_labels(
    steps: Sequence[_Entry], masks: Masks, values: NDArray[Any] | None = None
) -> tuple[NDArray[np.int32], int]:
    """Pick among the masks of one plane as a journal says, and paint what was picked.

    Parameters
    ----------
    steps : sequence of mapping
        Effective steps (:meth:`JournalFile.effective`), all of one plane.
    masks : Masks
        Everything found in the image.
    values : ndarray of shape (H, W), optional
        The image's own values; without them limits on the mean intensity let everything pass.

    Returns
    -------
    labels : int32 ndarray of shape (H, W)
    unanswered : int
        Picks that found no mask.
    """
    found = _Found(masks, measure_columns(masks, values))
    return _labels(steps, View(), {key_of(step.get("plane")): found for step in steps} | {None: found})


def _labels(
    steps: Sequence[_Entry], view: View, found: Mapping[PlaneKey | None, _Found]
) -> tuple[NDArray[np.int32], int]:
    labels = np.zeros(view.label_shape({key: one.masks.image_hw for key, one in found.items()}), np.int32)
    links = _link(view, found) if any(entry.get("parts") for entry in steps) else {}
    limits: dict[str, tuple[float, float]] = {}
    unanswered = highest = 0
    for entry in steps:
        if entry["do"] == "filter":
            limits = {name: _limits(pair) for name, pair in entry["limits"].items()}
        if entry["do"] not in LABEL_STEPS:
            continue
        key = key_of(entry.get("plane"))
        masks, shown = found[key].masks, inside_limits(found[key].columns, limits)
        if entry.get("scope") == "shown":
            chosen = [int(i) for i in np.flatnonzero(shown)]
        else:
            answers = [pick(masks, shown, cause) for cause in entry.get("causes", ())]
            chosen = list(dict.fromkeys(i for one in answers for i in one))
            unanswered += sum(not one for one in answers)
        if not chosen:
            continue
        if entry.get("parts") and links:
            edits = _plan_objects(entry, labels, view, found, links, key, chosen, limits, highest + 1)
        else:
            edits = [(key, _plan(entry, labels[view.label_index(key)], masks[chosen], highest + 1))]
        for place, edit in edits:
            labels[view.label_index(place)][edit.rows, edit.columns] = edit.values
            highest = max(highest, int(edit.values.max(initial=0)))
    return labels, unanswered


def _link(view: View, found: Mapping[PlaneKey | None, _Found]) -> dict[PlaneKey | None, NDArray[np.int64]]:
    """Link the planes of every stack into objects."""
    links: dict[PlaneKey | None, NDArray[np.int64]] = {}
    for key in found:
        stack = [plane for plane in view.along_stack(key) if plane in found]
        if key not in links and len(stack) > 1:
            linker = StackLinker()
            links |= {plane: linker.add(found[plane].masks) for plane in stack}
    return links


def _plan_objects(
    entry: _Entry,
    labels: NDArray[np.int32],
    view: View,
    found: Mapping[PlaneKey | None, _Found],
    links: Mapping[PlaneKey | None, NDArray[np.int64]],
    key: PlaneKey | None,
    chosen: Sequence[int],
    limits: Mapping[str, tuple[float, float]],
    first_id: int,
) -> list[tuple[PlaneKey | None, label_edits.Edit]]:
    """Plan to write the linked objects of these masks in all planes of their stack."""
    objects = dict.fromkeys(int(links[key][i]) for i in chosen)
    label_of = {name: first_id + k for k, name in enumerate(objects)}
    edits = []
    for plane in view.along_stack(key):
        shown = inside_limits(found[plane].columns, limits)
        here = [i for i, name in enumerate(links[plane]) if int(name) in label_of and (shown[i] or plane == key)]
        if here:
            ids = [label_of[int(links[plane][i])] for i in here]
            before = labels[view.label_index(plane)]
            overlap = entry.get("overlap", "keep")
            edits.append((plane, label_edits.plan_commit(before, found[plane].masks[here], ids, overlap)))
    return edits


def _plan(entry: _Entry, labels: NDArray[np.int32], masks: Masks, first: int) -> label_edits.Edit:
    if entry["do"] == "commit":
        ids = range(first, first + len(masks))
        return label_edits.without_gaps(label_edits.plan_commit(labels, masks, ids, entry.get("overlap", "keep")))
    try:
        if entry["do"] == "split":
            return label_edits.plan_split(labels, masks, first)
        return (label_edits.plan_merge if entry["do"] == "merge" else label_edits.plan_delete)(labels, masks)
    except InvalidParameterError:  # the objects lie otherwise on this image: nothing to merge, split or delete
        nothing = np.empty(0, np.int64)
        return label_edits.Edit(nothing, nothing, nothing)


def _limits(pair: Sequence[float | None]) -> tuple[float, float]:
    low, high = pair
    return (-np.inf if low is None else low, np.inf if high is None else high)


def pick(masks: Masks, shown: NDArray[np.bool_], cause: _Entry) -> list[int]:
    """Return the masks that a recorded prompt picks among those that are shown.

    Parameters
    ----------
    masks : Masks
    shown : bool ndarray of shape (N,)
    cause : mapping
        ``by`` is "points", "box", "region", "scribble", "hand", "text" or "similar".

    Raises
    ------
    InvalidParameterError
        An unknown kind of prompt.
    """
    places = np.flatnonzero(shown)
    pool = masks[places]
    kind, many = cause.get("by"), bool(cause.get("many"))
    prompt: Points | Box | Polygon
    if kind == "points":
        prompt = Points(cause["points_yx"], cause["labels"], level=cause.get("level", "auto"))
    elif kind in ("box", "hand", "text", "similar"):
        prompt = Box([cause["box_xyxy"]], many=many)
    elif kind == "region":
        prompt = Polygon([cause["vertices_yx"]], "region", criterion="inside" if many else None, many=many)
    elif kind == "scribble":
        prompt = Polygon([cause["vertices_yx"]], "scribble")
    else:
        raise InvalidParameterError(
            "The journal holds an unknown kind of prompt",
            expected="points, box, region, scribble or hand",
            actual=repr(kind),
            remedy="use the version of this program that wrote it, or a newer one",
        )
    return [int(places[i]) for i in match(pool, prompt).index if i >= 0]
