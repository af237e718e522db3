"""Cut an image into overlapping windows, and join the masks found in each window or at each test size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastsam_core.errors import InvalidParameterError
from fastsam_core.masks import Masks

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Window", "drop_duplicates", "join_windows", "plan_windows"]

_AGREEMENT = 0.5
"""IoU inside the region two windows share, from which their masks count as one object."""

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
    beat those cut by the edge of their window: the best whole one stays, or, when all are cut, their union.

    Parameters
    ----------
    windows : sequence of Window
    parts : sequence of Masks
        The masks of each window, in the coordinates of the whole image.

    Returns
    -------
    Masks
        Best score first.
    """
    joined = Masks.concatenate(parts)
    starts = np.cumsum([0, *(len(part) for part in parts)])
    cut = np.concatenate([_is_cut(part, window) for window, part in zip(windows, parts, strict=True)])
    group = np.arange(len(joined))
    for first in range(len(parts)):
        for second in range(first + 1, len(parts)):
            region = windows[first].intersection(windows[second])
            if region is None or not len(parts[first]) or not len(parts[second]):
                continue
            for i, j in _partners(parts[first], parts[second], region):
                _unite(group, starts[first] + i, starts[second] + j)
    roots = np.array([_root(group, index) for index in range(len(group))], dtype=np.int64)
    kept: list[int] = []
    unions: list[Masks] = []
    order = np.argsort(roots, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(roots[order])) + 1):
        whole = members[~cut[members]]
        if len(members) == 1 or len(whole):
            candidates = whole if len(whole) else members
            kept.append(int(candidates[np.argmax(joined.scores[candidates])]))
        elif len(members):
            unions.append(joined[members].union())
    return Masks.concatenate([joined[kept], *unions]).sort()


def drop_duplicates(masks: Masks, iou: float) -> Masks:
    """Keep, best score first, each mask whose IoU with every mask kept before it is at most ``iou``."""
    ranked = masks.sort()
    overlap = ranked.iou(ranked) > iou
    kept = np.ones(len(ranked), dtype=bool)
    for index in range(1, len(ranked)):
        kept[index] = not (overlap[index, :index] & kept[:index]).any()
    return ranked[kept]


def _is_cut(masks: Masks, window: Window) -> npt.NDArray[np.bool_]:
    """Which masks touch an edge of their window that is not the image's border."""
    height, width = masks.image_hw
    extents = masks.extents_xyxy
    return (
        ((window.x0 > 0) & (extents[:, 0] < window.x0 + _EDGE_PX))
        | ((window.y0 > 0) & (extents[:, 1] < window.y0 + _EDGE_PX))
        | ((window.x1 < width) & (extents[:, 2] > window.x1 - _EDGE_PX))
        | ((window.y1 < height) & (extents[:, 3] > window.y1 - _EDGE_PX))
    )


def _partners(first: Masks, second: Masks, region: Window) -> list[tuple[int, int]]:
    inside = [masks.placed((-region.y0, -region.x0), region.hw) for masks in (first, second)]
    near = [np.flatnonzero(masks.areas_px) for masks in inside]
    agreement = inside[0][near[0]].iou(inside[1][near[1]])
    pairs: list[tuple[int, int]] = []
    # equal agreement (both cover all of the region, for example): the masks of more equal score belong together
    difference = np.abs(first.scores[near[0]][:, None] - second.scores[near[1]][None, :])
    ranking = np.lexsort((difference.ravel(), -agreement.ravel()))
    free = [np.ones(len(near[0]), dtype=bool), np.ones(len(near[1]), dtype=bool)]
    for flat in ranking:
        i, j = divmod(int(flat), len(near[1]))
        if agreement[i, j] < _AGREEMENT:
            break
        if free[0][i] and free[1][j]:
            free[0][i] = free[1][j] = False
            pairs.append((int(near[0][i]), int(near[1][j])))
    return pairs


def _root(group: npt.NDArray[np.int64], index: int) -> int:
    while group[index] != index:
        index = int(group[index])
    return index


def _unite(group: npt.NDArray[np.int64], first: int, second: int) -> None:
    a, b = sorted((_root(group, first), _root(group, second)))
    group[b] = a
