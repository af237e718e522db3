"""Do on other images what a journal says was done on one: segment, filter, pick, write labels."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsam_core import label_edits
from fastsam_core.candidates import inside_limits, measure_columns
from fastsam_core.errors import FastSAMError, InvalidParameterError
from fastsam_core.pipeline import iter_segment
from fastsam_core.prompts import Box, Points, Polygon, match

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
    labels : int64 ndarray of shape (H, W), or None
        None if there was an error.
    error : FastSAMError or None
    unanswered : int
        Picks of the journal that found no mask on this image.
    """

    index: int
    source: object
    labels: NDArray[np.int64] | None
    error: FastSAMError | None
    unanswered: int = 0


def replay(journal: JournalFile, sources: Iterable[object], model: FastSAM) -> Generator[Replayed, None, None]:
    """Apply the steps of a journal to images; a generator of steps like `iter_segment`.

    Points, boxes and regions are taken at the same pixels; what was picked by hand, by the box around it.

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
    options = _search_options(steps)
    return _replay(steps, sources, model, options)


def _search_options(steps: Sequence[_Entry]) -> dict[str, Any]:
    first = next((entry for entry in steps if entry["do"] == "segment"), {})
    return {name: first[name] for name in ("conf", "max_det") if first.get(name) is not None}


def _replay(
    steps: Sequence[_Entry], sources: Iterable[object], model: FastSAM, options: Mapping[str, Any]
) -> Generator[Replayed, None, None]:
    for step in iter_segment(sources, model, **options):
        if step.masks is None or step.image is None:
            yield Replayed(step.index, step.source, None, step.error)
            continue
        try:
            labels, unanswered = replay_labels(steps, step.masks, step.image)
            yield Replayed(step.index, step.source, labels, None, unanswered)
        except FastSAMError as error:
            yield Replayed(step.index, step.source, None, error)


def replay_labels(steps: Sequence[_Entry], masks: Masks, image: Image) -> tuple[NDArray[np.int64], int]:
    """Pick among the masks of an image as a journal says, and paint what was picked.

    Parameters
    ----------
    steps : sequence of mapping
        Effective steps (:meth:`JournalFile.effective`).
    masks : Masks
        Everything found in the image.
    image : Image

    Returns
    -------
    labels : int64 ndarray of shape (H, W)
    unanswered : int
        Picks that found no mask.
    """
    columns = measure_columns(masks, image.rgb8.mean(axis=2, dtype=np.float32))
    labels = np.zeros(masks.image_hw, np.int64)
    limits: dict[str, tuple[float, float]] = {}
    unanswered = 0
    for entry in steps:
        if entry["do"] == "filter":
            limits = {name: _limits(pair) for name, pair in entry["limits"].items() if name != "intensity"}
        if entry["do"] not in ("commit", "merge", "split", "delete"):
            continue
        shown = inside_limits(columns, limits)
        if entry.get("scope") == "shown":
            chosen = [int(i) for i in np.flatnonzero(shown)]
        else:
            found = [pick(masks, shown, cause) for cause in entry.get("causes", ())]
            chosen = list(dict.fromkeys(i for one in found for i in one))
            unanswered += sum(not one for one in found)
        if chosen:
            edit = _plan(entry, labels, masks[chosen])
            labels[edit.rows, edit.columns] = edit.values
    return labels, unanswered


def _plan(entry: _Entry, labels: NDArray[np.int64], masks: Masks) -> label_edits.Edit:
    first = int(labels.max(initial=0)) + 1
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
        ``by`` is "points", "box", "region", "scribble" or "hand"; see ``napari_fastsam.models.picks``.

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
    elif kind in ("box", "hand"):
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
