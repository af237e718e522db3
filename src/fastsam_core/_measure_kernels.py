"""Kernels that measure masks from their runs: mean values and convex hulls."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsam_core._jit import njit

__all__ = ["hull_areas", "run_means"]

Runs = NDArray[np.int32]
Offsets = NDArray[np.int64]


@njit
def run_means(runs: Runs, offsets: Offsets, plane: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean of the finite pixels of `plane` in each mask; NaN where there are none."""
    out = np.full(offsets.shape[0] - 1, np.nan)
    for i in range(out.shape[0]):
        total, count = 0.0, 0
        for r in range(offsets[i], offsets[i + 1]):
            y = runs[r, 0]
            for x in range(runs[r, 1], runs[r, 2]):
                value = np.float64(plane[y, x])
                if np.isfinite(value):
                    total += value
                    count += 1
        if count:
            out[i] = total / count
    return out


@njit
def _half_hull(points: NDArray[np.float64], count: int, sign: float, stack: NDArray[np.int64]) -> int:
    """Push the convex chain of `points` (sorted by y) onto `stack`; return its length (Andrew's monotone chain)."""
    size = 0
    for k in range(count):
        while size >= 2:
            a, b = stack[size - 2], stack[size - 1]
            turn = (points[b, 0] - points[a, 0]) * (points[k, 1] - points[a, 1]) - (points[b, 1] - points[a, 1]) * (
                points[k, 0] - points[a, 0]
            )
            if sign * turn <= 0:
                size -= 1
            else:
                break
        stack[size] = k
        size += 1
    return size


@njit
def _chain_integral(points: NDArray[np.float64], stack: NDArray[np.int64], size: int) -> float:
    """Return the area between a chain and the axis x = 0."""
    total = 0.0
    for k in range(1, size):
        a, b = stack[k - 1], stack[k]
        total += (points[b, 0] - points[a, 0]) * (points[a, 1] + points[b, 1]) / 2
    return total


@njit
def hull_areas(runs: Runs, offsets: Offsets) -> NDArray[np.float64]:
    """Return the area of the convex hull of the pixels (squares, not centres) of each mask; 0 for an empty one."""
    out = np.zeros(offsets.shape[0] - 1)
    for i in range(out.shape[0]):
        first, last = offsets[i], offsets[i + 1]
        if first == last:
            continue
        rows = runs[last - 1, 0] - runs[first, 0] + 1
        left = np.empty((2 * rows, 2))
        right = np.empty((2 * rows, 2))
        count, r = 0, first
        while r < last:
            y, start, stop = runs[r, 0], runs[r, 1], runs[r, 2]
            while r < last and runs[r, 0] == y:
                start, stop = min(start, runs[r, 1]), max(stop, runs[r, 2])
                r += 1
            for k in range(2):
                left[count, 0], left[count, 1] = y + k, start
                right[count, 0], right[count, 1] = y + k, stop
                count += 1
        # the points of rows y (lower edge) and y + 1 (upper edge) share a height: keep the outer one
        kept = 1
        for k in range(1, count):
            if left[k, 0] == left[kept - 1, 0]:
                left[kept - 1, 1] = min(left[kept - 1, 1], left[k, 1])
                right[kept - 1, 1] = max(right[kept - 1, 1], right[k, 1])
            else:
                left[kept], right[kept] = left[k], right[k]
                kept += 1
        stack = np.empty(kept, np.int64)
        outer = _chain_integral(right, stack, _half_hull(right, kept, -1.0, stack))
        inner = _chain_integral(left, stack, _half_hull(left, kept, 1.0, stack))
        out[i] = outer - inner
    return out
