"""Edits of a label image, planned before anything is written: commit, merge, split, delete."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fastsam_core._generators import outcome
from fastsam_core.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from fastsam_core.masks import Masks

__all__ = [
    "Edit",
    "Overlap",
    "as_compiled",
    "check_ids",
    "commit_steps",
    "plan_commit",
    "plan_delete",
    "plan_merge",
    "plan_split",
    "without_gaps",
]

Overlap = Literal["keep", "steal", "fill"]
Labels2D = NDArray[Any]

_TAKEN_SHARE = 0.1
"""With "keep", a candidate is left out if existing labels cover more than this share of it."""

_STEP_MASKS, _STEP_RUNS = 2_000, 50_000
"""How much is planned between two looks at whether to go on; some hundredths of a second."""

_COMPILED = (np.uint16, np.int32)
_COPIED_PX = 2**24
"""Of larger parts of a plane a copy would take longer than a tenth of a second."""

_MOSTLY = 0.5
"""Merge and delete take the labels that lie in the candidates with more than this share of their pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """New values for some pixels of a label plane.

    Attributes
    ----------
    rows, columns : int64 ndarray
        The pixels that change.
    values : int64 ndarray
        What they become.
    labels : tuple of int
        The label ids that are written, one a candidate; 0 for a candidate that is left out.
    conflicts : mapping of int to int
        Existing labels that the candidates overlap, and by how many pixels.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: NDArray[np.int64]
    labels: tuple[int, ...] = ()
    conflicts: Mapping[int, int] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of pixels that change."""
        return len(self.rows)


def check_ids(dtype: np.dtype[Any], highest: int) -> None:
    """Raise if a label id does not fit the label image.

    Raises
    ------
    InvalidParameterError
        It would wrap around.
    """
    limit = np.iinfo(dtype).max if dtype.kind in "iu" else 1
    if highest > limit:
        raise InvalidParameterError(
            f"Label {highest} does not fit this Labels layer",
            expected=f"ids up to {limit} ({dtype})",
            actual=str(highest),
            remedy="commit into a new layer, or convert this one: right-click it and choose a larger data type",
        )


def as_compiled(plane: Labels2D, extents_xyxy: NDArray[np.int32]) -> Labels2D:
    """Return labels in the types that kernels are compiled for once, as compiling takes seconds for each further one.

    Parameters
    ----------
    plane : integer ndarray of shape (H, W)
        Of any width, byte order and layout; as it is where it is 16 bit without a sign or 32 bit with one, row by row.
    extents_xyxy : int32 ndarray of shape (N, 4)
        Of the masks that are of interest; what lies outside the box around them may be zero.
    """
    from fastsam_core._jit import compilable

    plane = compilable(np.asarray(plane))
    y0, y1, x0, x1 = _box_around(extents_xyxy)
    if (plane.dtype in _COMPILED and plane.flags.carray) or (y1 - y0) * (x1 - x0) > _COPIED_PX:
        return plane
    part = plane[y0:y1, x0:x1]
    fit = np.iinfo(np.int32)
    if part.max(initial=0) > fit.max or part.min(initial=0) < fit.min:
        return plane
    out = np.zeros(plane.shape, plane.dtype if plane.dtype in _COMPILED else np.int32)
    out[y0:y1, x0:x1] = part
    return out


def _box_around(boxes: NDArray[np.int32]) -> tuple[int, int, int, int]:
    """Return the box (y0, y1, x0, x1) around all that are not empty."""
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]
    if not len(boxes):
        return 0, 0, 0, 0
    return int(boxes[:, 1].min()), int(boxes[:, 3].max()), int(boxes[:, 0].min()), int(boxes[:, 2].max())


def _counts(values: Labels2D) -> dict[int, int]:
    ids, counts = np.unique(values[values != 0], return_counts=True)
    return {int(i): int(n) for i, n in zip(ids, counts, strict=True)}


def plan_commit(plane: Labels2D, masks: Masks, ids: Sequence[int], overlap: Overlap) -> Edit:
    """Plan to write candidates into a label plane.

    Parameters
    ----------
    plane : integer ndarray of shape (H, W)
        The labels that are there; not changed.
    masks : Masks
        N candidates of an image of that size.
    ids : sequence of int, length N
        Their labels.
    overlap : {"keep", "steal", "fill"}
        What happens to pixels that have a label already. ``"keep"``: existing objects stay whole; a candidate that
        lies on them with more than a tenth of its area is left out. ``"fill"``: only empty pixels are written.
        ``"steal"``: the candidates take the pixels. Among the candidates themselves the more confident wins with
        ``"keep"``, and the smaller one otherwise.

    Returns
    -------
    Edit

    Raises
    ------
    InvalidParameterError
        Masks of an image of another size, not one id a mask, or an unknown `overlap`.
    """
    return outcome(commit_steps(plane, masks, ids, overlap))


def commit_steps(plane: Labels2D, masks: Masks, ids: Sequence[int], overlap: Overlap) -> Generator[float, None, Edit]:
    """Plan like :func:`plan_commit`, some thousand masks at a time, so that it can be watched and given up.

    Yields
    ------
    float
        The share of the work that is done, up to 1.

    Returns
    -------
    Edit
        Its pixels come row after row, which is the fastest order to write them in. Of no use if `plane` was changed
        meanwhile.

    Raises
    ------
    InvalidParameterError
        As :func:`plan_commit`, at the first step.
    """
    from fastsam_core._label_kernels import assign, changes, overlaps

    _check_commit(np.shape(plane), masks, len(ids), overlap)
    y0, y1, x0, x1 = _box_around(masks.extents_xyxy)
    orders: dict[str, NDArray[Any]] = {"keep": -masks.scores, "fill": masks.areas_px, "steal": -masks.areas_px}
    wanted, runs, offsets = np.asarray(ids, np.int64), masks.runs, masks.offsets
    plane = as_compiled(plane, masks.extents_xyxy)
    owners = np.zeros((y1 - y0, x1 - x0), np.int32)
    mask_of_run = np.repeat(np.arange(len(masks)), np.diff(offsets))
    by_place = np.lexsort((runs[:, 1], runs[:, 0]))
    by_mask = _stretches(len(masks), _STEP_MASKS)
    by_run = _stretches(len(runs), _STEP_RUNS)
    ticks = iter(np.linspace(0, 1, 1 + 2 * len(by_mask) + len(by_run))[1:].tolist())

    under: list[tuple[NDArray[np.int64], ...]] = []
    for part in by_mask:
        under.append(overlaps(plane, runs, offsets[part.start : part.stop + 1], wanted[part]))
        yield next(ticks)
    order = np.argsort(orders[overlap], kind="stable")
    share = _TAKEN_SHARE if overlap == "keep" else 1.0
    written = np.zeros(len(masks), bool)
    for part in by_mask:
        some = order[part]
        written |= assign(plane, runs, offsets, wanted, some, owners, y0, x0, overlap == "steal", share)
        yield next(ticks)
    changed: list[tuple[NDArray[np.int64], ...]] = []
    for part in by_run:
        changed.append(changes(plane, runs, by_place[part], mask_of_run, wanted, owners, y0, x0))
        yield next(ticks)

    found, counts = (_joined([part[k] for part in under]) for k in range(2))
    rows, columns, values = (_joined([part[k] for part in changed]) for k in range(3))
    labels, places = np.unique(found, return_inverse=True)
    sums = np.bincount(places, counts, len(labels)).astype(np.int64)
    return Edit(
        rows,
        columns,
        values,
        labels=tuple(np.where(written, wanted, 0).tolist()),
        conflicts=dict(zip(labels.tolist(), sums.tolist(), strict=True)),
    )


def _check_commit(plane_hw: tuple[int, ...], masks: Masks, n_ids: int, overlap: str) -> None:
    """Raise if the masks do not lie in the plane: compiled code would read beyond it."""
    if plane_hw != masks.image_hw or n_ids != len(masks):
        raise InvalidParameterError(
            "The candidates do not fit the labels",
            expected=f"a plane of {masks.image_hw} and {len(masks)} ids",
            actual=f"a plane of {plane_hw} and {n_ids} ids",
        )
    if overlap not in get_args(Overlap):
        raise InvalidParameterError(
            "Unknown rule for overlaps", expected=" or ".join(map(repr, get_args(Overlap))), actual=repr(overlap)
        )


def _stretches(count: int, length: int) -> list[slice]:
    return [slice(start, min(start + length, count)) for start in range(0, count, length)]


def _joined(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Concatenate; one part alone is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate([*parts, np.empty(0, np.int64)])


def without_gaps(edit: Edit) -> Edit:
    """Close the gaps in the labels of a commit that candidates left out would leave."""
    written = [label for label in edit.labels if label]
    if len(written) == len(edit.labels) or not written:
        return edit
    first = written[0] - next(k for k, label in enumerate(edit.labels) if label)
    renamed = dict(zip(written, range(first, first + len(written)), strict=True))
    old, new = np.array(sorted(renamed.items())).T
    table = np.zeros(old[-1] - old[0] + 1, np.int64)
    table[old - old[0]] = new
    labels = tuple(renamed.get(label, 0) for label in edit.labels)
    return Edit(edit.rows, edit.columns, table[edit.values - old[0]], labels, edit.conflicts)


def _covered(plane: Labels2D, masks: Masks) -> tuple[Labels2D, NDArray[np.bool_], list[int], tuple[int, int]]:
    """Return the labels around the masks, where the masks are, and the labels that lie mostly in them."""
    union = masks.union()
    y0, y1, x0, x1 = _box_around(union.extents_xyxy)
    old = np.asarray(plane[y0:y1, x0:x1])
    inside = union.crop(0) if len(union) and union.areas_px[0] else np.zeros(old.shape, bool)
    touched = _counts(old[inside])
    whole = _counts(plane[np.isin(plane, list(touched))])
    mostly = [label for label, count in touched.items() if count > _MOSTLY * whole[label]]
    return old, inside, mostly, (y0, x0)


def plan_merge(plane: Labels2D, masks: Masks) -> Edit:
    """Plan to give all labels that lie mostly in the candidates the lowest of their ids.

    Raises
    ------
    InvalidParameterError
        Fewer than two labels lie there.
    """
    _, _, labels, _ = _covered(plane, masks)
    if len(labels) < 2:
        raise InvalidParameterError(
            "There is nothing to merge here",
            expected="two or more labels that lie mostly inside the picked candidates",
            actual=f"{len(labels)}",
            remedy="pick a larger candidate (Shift + wheel walks to the group), or several",
        )
    keep = min(labels)
    rows, columns = np.nonzero(np.isin(plane, [label for label in labels if label != keep]))
    return Edit(rows, columns, np.full(len(rows), keep, np.int64), labels=(keep,))


def plan_delete(plane: Labels2D, masks: Masks) -> Edit:
    """Plan to erase all labels that lie mostly in the candidates.

    Raises
    ------
    InvalidParameterError
        No label lies there.
    """
    _, _, labels, _ = _covered(plane, masks)
    if not labels:
        raise InvalidParameterError(
            "There is nothing to delete here",
            expected="a label that lies mostly inside the picked candidates",
            actual="none",
            remedy="pick the candidate that covers the object",
        )
    rows, columns = np.nonzero(np.isin(plane, labels))
    return Edit(rows, columns, np.zeros(len(rows), np.int64), labels=tuple(labels))


def plan_split(plane: Labels2D, masks: Masks, first_id: int) -> Edit:
    """Plan to cut the label that the candidates share into one part for each of them.

    The label's pixels go to the candidate that covers them (the smaller one where several do), the rest to the nearest
    candidate. The first part keeps the id; the others get `first_id`, `first_id` + 1, …

    Raises
    ------
    InvalidParameterError
        Fewer than two candidates, or no label that they share.
    """
    from scipy import ndimage

    shared: dict[int, list[int]] = {}
    for i in range(len(masks)):
        left, top, right, bottom = masks.extents_xyxy[i].tolist()
        touched = _counts(np.asarray(plane[top:bottom, left:right])[masks.crop(i)])
        if touched:
            shared.setdefault(max(touched, key=lambda label: touched[label]), []).append(i)
    label, parts = max(shared.items(), key=lambda item: len(item[1]), default=(0, []))
    if len(parts) < 2:
        raise InvalidParameterError(
            "There is nothing to split here",
            expected="two or more picked candidates on the same label",
            actual=f"{len(parts)}",
            remedy="pick the parts, for instance with one point on each and the level 'part'",
        )
    rows, columns = np.nonzero(plane == label)
    y0, y1, x0, x1 = int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1
    seeds = masks[parts].placed((-y0, -x0), (y1 - y0, x1 - x0)).to_label_map()
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    part = seeds[tuple(nearest)].astype(np.int64)
    ids = np.concatenate([[0, label], first_id + np.arange(len(parts) - 1)])
    old = np.asarray(plane[y0:y1, x0:x1])
    new = np.where(old == label, ids[part], old)
    rows, columns = np.nonzero(old != new)
    return Edit(rows + y0, columns + x0, new[rows, columns].astype(np.int64), labels=tuple(ids[1:].tolist()))
