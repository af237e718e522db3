"""Polygons and scribbles as runs of pixels (see ``_runs``), found row by row without a bitmap."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastsam_core._jit import njit
from fastsam_core._runs import Offsets, Runs, joined, merge_sorted

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["polygon_runs", "regions_as_runs", "scribble_runs"]

#: Vertices further out are moved here, so that no number overflows.
_FAR_PX = 1e9


@njit
def _append(runs: Runs, count: int, y: int, start: float, stop: float, width: int) -> Runs:
    """Store a run, cut at the image's sides, in a buffer that doubles when full; a run of no width is overwritten."""
    if count == runs.shape[0]:
        larger = np.empty((2 * count, 3), np.int32)
        larger[:count] = runs
        runs = larger
    runs[count, 0] = y
    runs[count, 1] = int(min(max(start, 0.0), float(width)))
    runs[count, 2] = int(min(max(stop, 0.0), float(width)))
    return runs


@njit
def polygon_runs(vertices_yx: NDArray[np.float64], height: int, width: int) -> Runs:
    """Return the pixels whose centre lies inside a closed polygon, by the even-odd rule.

    An edge owns its lower end and a pixel its left side (half-open), so polygons that share an edge share no pixel.
    """
    n = vertices_yx.shape[0]
    crossings = np.empty(n, np.float64)
    runs = np.empty((256, 3), np.int32)
    count = 0
    top = int(min(max(np.ceil(vertices_yx[:, 0].min() - 0.5), 0.0), float(height)))
    bottom = int(min(max(np.ceil(vertices_yx[:, 0].max() - 0.5), 0.0), float(height)))
    for y in range(top, bottom):
        centre = y + 0.5
        found = 0
        for k in range(n):
            ay, ax = vertices_yx[k - 1, 0], vertices_yx[k - 1, 1]
            by, bx = vertices_yx[k, 0], vertices_yx[k, 1]
            if (ay <= centre) != (by <= centre):
                crossings[found] = ax + (centre - ay) / (by - ay) * (bx - ax)
                found += 1
        row = np.sort(crossings[:found])
        for k in range(0, found, 2):
            runs = _append(runs, count, y, np.ceil(row[k] - 0.5), np.ceil(row[k + 1] - 0.5), width)
            count += runs[count, 1] < runs[count, 2]
    return merge_sorted(runs[:count])


@njit
def _row_of_capsule(centre: float, ay: float, ax: float, by: float, bx: float, radius: float) -> tuple[float, float]:
    """Return where the row at height ``centre`` cuts the points within ``radius`` of a segment (start > stop: nowhere).

    The set is convex, so its cut spans the cuts of the two end discs and the two straight sides.
    """
    start, stop = np.inf, -np.inf
    for ey, ex in ((ay, ax), (by, bx)):
        dy = centre - ey
        if abs(dy) <= radius:
            half = math.sqrt(radius * radius - dy * dy)
            start, stop = min(start, ex - half), max(stop, ex + half)
    length = math.hypot(by - ay, bx - ax)
    if by != ay and length > 0.0:
        uy, ux = (by - ay) / length, (bx - ax) / length
        for side in (-radius, radius):
            along = (centre - ay + side * ux) / uy
            if 0.0 <= along <= length:
                x = ax + side * uy + along * ux
                start, stop = min(start, x), max(stop, x)
    return start, stop


@njit
def _unsorted_scribble_runs(vertices_yx: NDArray[np.float64], radius: float, height: int, width: int) -> Runs:
    runs = np.empty((256, 3), np.int32)
    count = 0
    for k in range(max(vertices_yx.shape[0] - 1, 1)):
        ay, ax = vertices_yx[k, 0], vertices_yx[k, 1]
        end = min(k + 1, vertices_yx.shape[0] - 1)
        by, bx = vertices_yx[end, 0], vertices_yx[end, 1]
        top = int(min(max(np.ceil(min(ay, by) - radius - 0.5), 0.0), float(height)))
        bottom = int(min(max(np.floor(max(ay, by) + radius - 0.5) + 1.0, 0.0), float(height)))
        for y in range(top, bottom):
            start, stop = _row_of_capsule(y + 0.5, ay, ax, by, bx, radius)
            if start <= stop:
                runs = _append(runs, count, y, np.ceil(start - 0.5), np.floor(stop - 0.5) + 1.0, width)
                count += runs[count, 1] < runs[count, 2]
    return runs[:count]


def scribble_runs(vertices_yx: NDArray[np.float64], width_px: float, height: int, width: int) -> Runs:
    """Return the pixels whose centre is within ``width_px / 2`` of the open line through the vertices."""
    runs = _unsorted_scribble_runs(vertices_yx, min(width_px, _FAR_PX) / 2, height, width)
    return merge_sorted(runs[np.lexsort((runs[:, 1], runs[:, 0]))])


def regions_as_runs(
    polygons: tuple[NDArray[np.float64], ...], rasterise: Callable[[NDArray[np.float64]], Runs]
) -> tuple[Runs, Offsets]:
    """Return many regions in the layout of a set of masks."""
    return joined([rasterise(np.clip(polygon, -_FAR_PX, _FAR_PX)) for polygon in polygons])
