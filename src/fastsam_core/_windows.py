"""Cut an image into overlapping windows, and join the masks found in each window or at each test size."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastsam_core import _runs
from fastsam_core.errors import InvalidParameterError
from fastsam_core.masks import Masks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["SAME_MASK_IOU", "Window", "drop_duplicates", "join_tiles", "join_windows", "plan_windows"]

SAME_MASK_IOU = 0.7
"""Masks that overlap by more than this are one object, found at several test sizes, in several tiles, or in boxes that
grew into one."""

_AGREEMENT = 0.5
"""IoU inside the region two windows share, from which their masks count as one object."""

_CUT = 0.06
"""A mask with a larger share of its outline at edges of tiles is a piece of something."""

_PIECE = 0.7
"""A cut mask with at least this share of its pixels in a larger object is a piece of it."""

_EDGE_PX = 2
"""A mask that comes this close to an inner edge of its window may be cut there."""


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of the image, half-open, in pixels."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width."""
        return self.y1 - self.y0, self.x1 - self.x0

    def intersection(self, other: Window) -> Window | None:
        """Return the region shared with another window, or None."""
        shared = Window(max(self.y0, other.y0), max(self.x0, other.x0), min(self.y1, other.y1), min(self.x1, other.x1))
        return shared if shared.y0 < shared.y1 and shared.x0 < shared.x1 else None


def plan_windows(image_hw: tuple[int, int], window_hw: tuple[int, int], overlap_px: int) -> list[Window]:
    """Cover an image with windows of equal size, row by row; neighbours share at least ``overlap_px``.

    Raises
    ------
    InvalidParameterError
        If the overlap is negative or not smaller than the window, along an axis that needs several windows.
    """
    for length, window in zip(image_hw, window_hw, strict=True):
        if window < 1 or (length > window and not 0 <= overlap_px < window):
            raise InvalidParameterError(
                "Windows do not cover the image",
                expected="windows of at least 1 px that overlap by less than their own size",
                actual=f"windows of {window_hw[0]} x {window_hw[1]} px, overlap {overlap_px} px",
            )
    rows, columns = (_starts(length, window, overlap_px) for length, window in zip(image_hw, window_hw, strict=True))
    return [
        Window(y, x, min(y + window_hw[0], image_hw[0]), min(x + window_hw[1], image_hw[1]))
        for y in rows
        for x in columns
    ]


def _starts(length: int, window: int, overlap: int) -> list[int]:
    if length <= window:
        return [0]
    steps = -(-(length - window) // (window - overlap))
    return [round(step * (length - window) / steps) for step in range(steps + 1)]


def join_windows(windows: Sequence[Window], parts: Sequence[Masks]) -> Masks:
    """Join the masks of overlapping windows: an object seen in several windows becomes one mask.

    Two masks of different windows are one object when they agree (IoU of at least 0.5) inside the region the windows
    share; each mask has at most one partner in another window, the best first. Of the masks of one object, whole ones
    beat those cut by the edge of their window: the best whole one stays, or, when all are cut, their union, with the
    fields of the surest. What is left of cut masks goes where a neighbouring window sees all of it as part of a
    larger mask.

    Parameters
    ----------
    windows : sequence of Window
    parts : sequence of Masks
        The masks of each window, in the coordinates of the whole image.

    Returns
    -------
    Masks
        Best score first, without empty ones.
    """
    return _join(windows, parts)[0].sort()


def _join(windows: Sequence[Window], parts: Sequence[Masks]) -> tuple[Masks, list[list[Window]]]:
    """Join the masks of windows; return with each the windows that may still cut it, none for those seen whole."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    parts = [part.filter(min_area_px=1) for part in parts]
    joined = Masks.concatenate(parts)
    starts = np.cumsum([0, *(len(part) for part in parts)])
    cut = np.concatenate([_is_cut(part, window) for window, part in zip(windows, parts, strict=True)])
    sliver = np.zeros(len(joined), dtype=bool)
    same: list[tuple[int, int]] = []
    for first, second, region in _meeting(windows):
        if not len(parts[first]) or not len(parts[second]):
            continue
        inside, inside_other = (parts[index].placed((-region.y0, -region.x0), region.hw) for index in (first, second))
        shared = inside.overlaps(inside_other)
        same += [(starts[first] + i, starts[second] + j) for i, j in _partners(inside, inside_other, shared)]
        here, there = slice(starts[first], starts[first + 1]), slice(starts[second], starts[second + 1])
        sliver[here] |= cut[here] & _are_parts(parts[first], inside, parts[second], shared)
        sliver[there] |= cut[there] & _are_parts(parts[second], inside_other, parts[first], shared.T)
    links = coo_array((np.ones(len(same)), np.reshape(same, (-1, 2)).astype(int).T), (len(joined), len(joined)))
    _, objects = connected_components(links, directed=False)
    owner = np.repeat(np.arange(len(windows)), [len(part) for part in parts])
    kept: list[int] = []
    unions: list[Masks] = []
    cut_by: list[list[Window]] = []
    unions_cut_by: list[list[Window]] = []
    order = np.argsort(objects, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(objects[order])) + 1):
        if sliver[members].all():
            continue
        whole = members[~cut[members]]
        if len(members) == 1 or len(whole):
            candidates = whole if len(whole) else members
            best = int(candidates[np.argmax(joined.scores[candidates])])
            kept.append(best)
            cut_by.append([windows[owner[best]]] if cut[best] else [])
        elif len(members):
            surest = joined[members[[np.argmax(joined.scores[members])]]]
            unions.append(joined[members].union().with_fields(**surest.fields))
            unions_cut_by.append([windows[index] for index in owner[members]])
    return Masks.concatenate([joined[kept], *unions]), cut_by + unions_cut_by


def _cut_share(mask: Masks, windows: Sequence[Window]) -> float:
    """Return about how much of a mask's outline lies straight at the edges of these windows, 0 to 1."""
    height, width = mask.image_hw
    x0, y0, x1, y1 = mask.extents_xyxy[0].tolist()
    inside: list[npt.NDArray[np.int64]] = []
    outside: list[npt.NDArray[np.int64]] = []
    for window in windows:
        rows = np.arange(max(window.y0, y0), min(window.y1, y1))
        columns = np.arange(max(window.x0, x0), min(window.x1, x1))
        for at, step in ((window.y0, -1), (window.y1 - 1, 1)):
            if 0 <= at + step < height:
                inside.append(np.stack([np.full(len(columns), at - step), columns], axis=1))
                outside.append(np.stack([np.full(len(columns), at + step), columns], axis=1))
        for at, step in ((window.x0, -1), (window.x1 - 1, 1)):
            if 0 <= at + step < width:
                inside.append(np.stack([rows, np.full(len(rows), at - step)], axis=1))
                outside.append(np.stack([rows, np.full(len(rows), at + step)], axis=1))
    if not inside:
        return 0.0
    here, there = (mask.hits(np.concatenate(points))[:, 0] for points in (inside, outside))
    outline_px = 4 * math.sqrt(mask.areas_px[0])  # of a square
    return min(1.0, int((here & ~there).sum()) / outline_px)


def join_tiles(
    tiles: Sequence[Window],
    parts: Sequence[Masks],
    *,
    sure_conf: float,
    max_det: int,
    cut_penalty: float = 0.0,
    whole: Masks | None = None,
    overlap_px: int = 0,
) -> Masks:
    """Join the masks of tiles, those of at least a score of ``sure_conf`` as if there were no fainter ones.

    What is faint would otherwise take a sure mask's place where both continue it beyond its tile. As it is,
    ``filter(min_score=sure_conf)`` of the result is what is joined without faint masks.

    Parameters
    ----------
    tiles : sequence of Window
    parts : sequence of Masks
        The masks of each tile, in the coordinates of the whole image.
    sure_conf : float
        The score from which on masks are sure.
    max_det : int
        Most masks of one tile, to say in the metadata whether one has as many sure ones.
    cut_penalty : float
        The score of a mask that tiles still cut is multiplied by ``exp(-cut_penalty * cut)``, ``cut`` being the part of
        its outline that lies at their edges; see `fastsam_core.cuts.demote_cut`.
    whole : Masks, optional
        What is found in the image as a whole: of it, objects longer than ``overlap_px`` are taken, which no tile need
        see whole, in place of their pieces; where tiles see an object whole, their mask stays.
    overlap_px : int
        How much tiles share.

    Returns
    -------
    Masks
        Best score first, without empty ones and duplicates; ``metadata`` has ``tiles`` and ``at_limit``.
    """
    sure = [part.scores >= sure_conf for part in parts]
    joined = []
    for faint in (False, True):
        masks, cut_by = _join(tiles, [part[chosen ^ faint] for part, chosen in zip(parts, sure, strict=True)])
        cuts = np.zeros(len(masks))
        if whole is not None or cut_penalty > 0:
            cuts[:] = [_cut_share(masks[index], by) if by else 0.0 for index, by in enumerate(cut_by)]
        if whole is not None:
            masks, cuts = _with_large(masks, cuts, whole[(whole.scores >= sure_conf) ^ faint], overlap_px)
        joined.append(replace(masks, scores=(masks.scores * np.exp(-cut_penalty * cuts)).astype(np.float32)))
    full = any(int(chosen.sum()) >= max_det for chosen in sure)
    masks = drop_duplicates(Masks.concatenate(joined), SAME_MASK_IOU)
    return masks.with_metadata(tiles=len(tiles), at_limit=full)


def _with_large(
    masks: Masks, cuts: npt.NDArray[np.float64], whole: Masks, overlap_px: int
) -> tuple[Masks, npt.NDArray[np.float64]]:
    """Add the large objects of the whole image, and leave out their pieces; ``cuts`` go along."""
    extents = whole.extents_xyxy
    large = whole[(extents[:, 2:] - extents[:, :2]).max(axis=1, initial=0) > overlap_px]
    if not len(large):
        return masks, cuts
    # only pieces, and masks of at least half the area of the smallest large one, can be of the same object
    places = np.flatnonzero((cuts > _CUT) | (masks.areas_px >= _AGREEMENT * large.areas_px.min()))
    near, cut = masks[places], cuts[places] > _CUT
    shared = near.overlaps(large)
    union = near.areas_px[:, None] + large.areas_px[None, :] - shared
    seen = (shared >= _AGREEMENT * union) & ~cut[:, None]  # tiles see the same object whole, and finer
    missing = ~seen.any(axis=0)
    inside = (shared >= _PIECE * near.areas_px[:, None]) & (large.areas_px > near.areas_px[:, None])
    left = np.ones(len(masks), bool)
    left[places[cut & (inside & missing).any(axis=1)]] = False
    return Masks.concatenate([masks[left], large[missing]]), np.concatenate([cuts[left], np.zeros(int(missing.sum()))])


def _meeting(windows: Sequence[Window]) -> Iterator[tuple[int, int, Window]]:
    """Yield the numbers of two windows that share pixels, each pair once, and what they share."""
    bounds = np.array([(window.y0, window.x0, window.y1, window.x1) for window in windows], np.int64).reshape(-1, 4)
    for first, (y0, x0, y1, x1) in enumerate(bounds):
        later = bounds[first + 1 :]
        meets = (later[:, 0] < y1) & (later[:, 1] < x1) & (later[:, 2] > y0) & (later[:, 3] > x0)
        for second in (first + 1 + np.flatnonzero(meets)).tolist():
            if (shared := windows[first].intersection(windows[second])) is not None:
                yield first, second, shared


def drop_duplicates(masks: Masks, iou: float) -> Masks:
    """Keep, best score first, each mask whose IoU with every mask kept before it is at most ``iou``."""
    ranked = masks.sort()
    return ranked[_runs.distinct(ranked.runs, ranked.offsets, ranked.extents_xyxy, ranked.areas_px, iou)]


def _is_cut(masks: Masks, window: Window) -> npt.NDArray[np.bool_]:
    """Tell which masks touch an edge of their window that is not the image's border."""
    height, width = masks.image_hw
    extents = masks.extents_xyxy
    return (
        ((window.x0 > 0) & (extents[:, 0] < window.x0 + _EDGE_PX))
        | ((window.y0 > 0) & (extents[:, 1] < window.y0 + _EDGE_PX))
        | ((window.x1 < width) & (extents[:, 2] > window.x1 - _EDGE_PX))
        | ((window.y1 < height) & (extents[:, 3] > window.y1 - _EDGE_PX))
    )


def _partners(first: Masks, second: Masks, shared_px: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Pair masks, cut to the region their windows share, one to one, best agreement first."""
    union = first.areas_px[:, None] + second.areas_px[None, :] - shared_px
    agreement = shared_px / np.maximum(union, 1)
    rows, columns = np.nonzero(agreement >= _AGREEMENT)
    # equal agreement (both cover all of the region, for example): the masks of more equal score belong together
    difference = np.abs(first.scores[rows] - second.scores[columns])
    free_first, free_second = np.ones(len(first), dtype=bool), np.ones(len(second), dtype=bool)
    pairs: list[tuple[int, int]] = []
    for rank in np.lexsort((difference, -agreement[rows, columns])):
        i, j = int(rows[rank]), int(columns[rank])
        if free_first[i] and free_second[j]:
            free_first[i] = free_second[j] = False
            pairs.append((i, j))
    return pairs


def _are_parts(masks: Masks, inside: Masks, others: Masks, shared_px: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Tell which masks lie wholly inside the shared region, and mostly in a larger mask of the other window."""
    larger = others.areas_px[None, :] > masks.areas_px[:, None]
    covered = np.where(larger, shared_px, 0).max(axis=1) >= _AGREEMENT * masks.areas_px
    contained: npt.NDArray[np.bool_] = (inside.areas_px == masks.areas_px) & covered
    return contained
