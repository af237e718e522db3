"""Do on other images what a journal says was done on one: segment, filter, pick, write labels."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsam_core import label_edits
from fastsam_core._replay_found import Found, FoundPlane, Words, find, limits_of
from fastsam_core._replay_planes import PlaneKey, View, key_of
from fastsam_core.errors import FastSAMError, InvalidParameterError
from fastsam_core.journal import LABEL_STEPS
from fastsam_core.prompts import Box, Points, Polygon, match
from fastsam_core.stacks import StackLinker, object_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastsam_core.journal import JournalFile
    from fastsam_core.masks import Masks
    from fastsam_core.model import FastSAM
    from fastsam_core.text import TextEncoder

__all__ = ["Replayed", "chosen_target", "pick", "replay"]

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


def replay(
    journal: JournalFile,
    sources: Iterable[object],
    model: FastSAM,
    *,
    encoder: TextEncoder | None = None,
    target: str | None = None,
) -> Generator[Replayed, None, None]:
    """Apply the steps of a journal to images; a generator of steps like `iter_segment`.

    Points, boxes and regions are taken at the same pixels; what was picked by hand or likeness, by the box around it;
    words pick what they fit. The journal of a stack asks for stacks of the same kind and number of planes; planes are
    read, filtered, linked and labelled as in the session. Parts that were segmented by themselves (field of view,
    rectangle, a closer look) are so again in images of the session's size; others are segmented whole.

    Parameters
    ----------
    journal : JournalFile
    sources : iterable
        Anything `read_image` takes.
    model : FastSAM
    encoder : TextEncoder, optional
        The one of `JournalFile.text_encoder`; without it, words pick by the boxes of what they picked in the session.
    target : str, optional
        The Labels layer of the session whose labels are wanted; one of `JournalFile.targets`, where there are several.

    Yields
    ------
    Replayed

    Raises
    ------
    InvalidParameterError
        The journal writes no labels, none into `target`, or into several layers and no `target` says which are wanted.
    """
    chosen_target(journal, target)
    steps = journal.effective(target)
    return _replay(steps, View.of(journal.header, steps), sources, model, encoder)


def chosen_target(journal: JournalFile, target: str | None) -> str | None:
    """Return the Labels layer whose labels are wanted: the one that is named, or the only one.

    Raises
    ------
    InvalidParameterError
        As in `replay`.
    """
    targets = journal.targets
    if not targets:
        raise InvalidParameterError(
            f"{journal.path.name} writes no labels", remedy="choose the journal of a session with commits"
        )
    if len(targets) > 1 if target is None else target not in targets:
        raise InvalidParameterError(
            f"{journal.path.name} writes the labels of {len(targets)} layers",
            expected="a target, one of " + ", ".join(repr(name) for name in targets if name is not None),
            actual=f"{target!r}",
            remedy="name the Labels layer whose labels are wanted (--target)",
        )
    return targets[0] if target is None else target


def _search_options(steps: Sequence[_Entry]) -> dict[str, Any]:
    first = next((entry for entry in steps if entry["do"] == "segment"), {})
    return {name: first[name] for name in ("conf", "faint_conf", "max_det") if first.get(name) is not None}


def _replay(
    steps: Sequence[_Entry], view: View, sources: Iterable[object], model: FastSAM, encoder: TextEncoder | None
) -> Generator[Replayed, None, None]:
    planes = view.planes(steps)
    by_intensity = any("intensity" in entry.get("limits", ()) for entry in steps if entry["do"] == "filter")
    jobs = ((source, plane) for source in sources for plane in planes)
    found: dict[PlaneKey | None, FoundPlane] = {}
    error: FastSAMError | None = None
    options = _search_options(steps)
    with closing(find(jobs, view, steps, model, options, by_intensity=by_intensity, encoder=encoder)) as segmented:
        for number, ((source, plane), one, problem) in enumerate(segmented):
            error = error or problem
            if one is not None:
                found[plane] = one
            if (number + 1) % len(planes) == 0:
                yield _finish(number // len(planes), source, steps, view, found, error)
                found, error = {}, None


def _finish(
    index: int,
    source: object,
    steps: Sequence[_Entry],
    view: View,
    found: Mapping[PlaneKey | None, FoundPlane],
    error: FastSAMError | None,
) -> Replayed:
    if error is None:
        try:
            labels, unanswered = _labels(steps, view, found)
            return Replayed(index, source, labels, None, unanswered)
        except FastSAMError as impossible:
            error = impossible
    return Replayed(index, source, None, error)


def _labels(
    steps: Sequence[_Entry], view: View, found: Mapping[PlaneKey | None, FoundPlane]
) -> tuple[NDArray[np.int32], int]:
    labels = np.zeros(view.label_shape({key: one.image_hw for key, one in found.items()}), np.int32)
    limits: dict[str, tuple[float, float]] = {}
    unanswered = highest = 0
    for number, entry in enumerate(steps):
        if entry["do"] == "filter":
            limits = {name: limits_of(pair) for name, pair in entry.get("limits", {}).items()}
        if entry["do"] not in LABEL_STEPS:
            continue
        key = key_of(entry.get("plane"))
        here = found[key].at(number)
        shown = here.shown(limits)
        reached = here.reached(limits)
        answers = [_answer(found[key].words, here, shown, reached, cause) for cause in entry.get("causes", ())]
        chosen = list(dict.fromkeys(i for one in answers for i in one))
        unanswered += sum(not one for one in answers)
        if entry.get("scope") == "shown":
            chosen = sorted({*chosen, *np.flatnonzero(shown).tolist()})
        if not chosen:
            continue
        links = _link(view, found, key, number, entry) if entry.get("parts") else {}
        if links:
            everything = {plane: found[plane].at(number) for plane in links}
            edits = _plan_objects(entry, labels, view, everything, links, key, chosen, limits, highest + 1)
        else:
            edits = [(key, _plan(entry, labels[view.label_index(key)], here.masks[chosen], highest + 1))]
        for place, edit in edits:
            labels[view.label_index(place)][edit.rows, edit.columns] = edit.values
            highest = max(highest, int(edit.values.max(initial=0)))
    return labels, unanswered


def _answer(
    words: Words | None, found: Found, shown: NDArray[np.bool_], reached: NDArray[np.bool_], cause: _Entry
) -> list[int]:
    """Return what a cause picks: a text what fits it, if it was recorded with its encoder and that is at hand."""
    asked = cause.get("by") == "text" and {"text", "threshold"} <= cause.keys()
    if words is not None and asked and cause.get("encoder") == words.encoder.name:
        return words.pick(found, shown, cause)
    one_object = cause.get("by") in ("points", "box", "region", "scribble") and not cause.get("many")
    return pick(found.masks, reached if one_object else shown, cause)


def _link(
    view: View, found: Mapping[PlaneKey | None, FoundPlane], key: PlaneKey | None, step: int, entry: _Entry
) -> dict[PlaneKey | None, NDArray[np.int64]]:
    """Link the planes of a stack into objects, as they were found whole before a step."""
    stack = [plane for plane in view.along_stack(key, entry) if plane in found]
    if len(stack) < 2:
        return {}
    linker = StackLinker()
    looks = {plane: found[plane].at(step) for plane in stack}
    return {plane: linker.add(one.masks[: one.linked]) for plane, one in looks.items()}


def _plan_objects(
    entry: _Entry,
    labels: NDArray[np.int32],
    view: View,
    found: Mapping[PlaneKey | None, Found],
    links: Mapping[PlaneKey | None, NDArray[np.int64]],
    key: PlaneKey | None,
    chosen: Sequence[int],
    limits: Mapping[str, tuple[float, float]],
    first_id: int,
) -> list[tuple[PlaneKey | None, label_edits.Edit]]:
    """Plan to write the linked objects of these masks in all planes of their stack."""
    objects = dict.fromkeys(object_of(links[key], i) for i in chosen)
    label_of = {name: first_id + k for k, name in enumerate(objects)}
    edits = []
    places, axis = entry.get("places"), entry.get("stack_axis", view.stack_axis)
    for plane in links:
        if places is not None and plane is not None and axis is not None and plane[1][axis] not in places:
            continue  # it could not be written in the session either
        shown = found[plane].shown(limits)
        here = [i for i, name in enumerate(links[plane]) if int(name) in label_of and (shown[i] or plane == key)]
        if plane == key:
            here += [i for i in chosen if i >= len(links[plane])]
        if here:
            ids = [label_of[object_of(links[plane], i)] for i in here]
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


def pick(masks: Masks, allowed: NDArray[np.bool_], cause: _Entry) -> list[int]:
    """Return the masks that a recorded prompt picks among some.

    Parameters
    ----------
    masks : Masks
    allowed : bool ndarray of shape (N,)
    cause : mapping
        ``by`` is "points", "box", "region", "scribble", "hand", "text" or "similar".

    Raises
    ------
    InvalidParameterError
        An unknown kind of prompt, or it is not said where.
    """
    places = np.flatnonzero(allowed)
    pool = masks[places]
    kind, many = cause.get("by"), bool(cause.get("many"))
    try:
        prompt = _prompt(kind, cause, many=many)
    except KeyError as error:
        raise InvalidParameterError(
            f"The journal does not say where a prompt by {kind} was", expected=f"{error} in the step"
        ) from error
    return [int(places[i]) for i in match(pool, prompt).index if i >= 0]


def _prompt(kind: object, cause: _Entry, *, many: bool) -> Points | Box | Polygon:
    if kind == "points":
        return Points(cause["points_yx"], cause["labels"], level=cause.get("level", "auto"))
    if kind in ("box", "hand", "text", "similar"):
        return Box([cause["box_xyxy"]], many=many)
    if kind == "region":
        return Polygon([cause["vertices_yx"]], "region", criterion="inside" if many else None, many=many)
    if kind == "scribble":
        return Polygon([cause["vertices_yx"]], "scribble")
    raise InvalidParameterError(
        "The journal holds an unknown kind of prompt",
        expected="points, box, region, scribble or hand",
        actual=repr(kind),
        remedy="use the version of this program that wrote it, or a newer one",
    )
