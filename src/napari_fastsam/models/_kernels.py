"""Kernels on the runs of masks: mean values, convex hulls, outlines."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsam_core._jit import njit

__all__ = ["hull_areas", "outline_pixels", "run_means"]

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


@njit
def _outline_of(
    runs: Runs, first: int, last: int, box: NDArray[np.int32], step: int, width: int, out: NDArray[np.int64], at: int
) -> int:
    """Write the flat indices of one mask's border pixels (4-neighbours) from `out[at]` on; return where it ends."""
    x0, y0 = box[0], box[1]
    inside = np.zeros((box[3] - y0 + 2, box[2] - x0 + 2), np.bool_)
    for r in range(first, last):
        inside[runs[r, 0] - y0 + 1, runs[r, 1] - x0 + 1 : runs[r, 2] - x0 + 1] = True
    previous = -1
    for r in range(first, last):
        row = runs[r, 0] - y0 + 1
        for x in range(runs[r, 1], runs[r, 2]):
            column = x - x0 + 1
            if (
                inside[row - 1, column]
                and inside[row + 1, column]
                and inside[row, column - 1]
                and inside[row, column + 1]
            ):
                continue
            flat = (runs[r, 0] // step) * width + x // step
            if flat != previous:
                out[at] = flat
                at += 1
                previous = flat
    return at


@njit
def outline_pixels(
    runs: Runs, offsets: Offsets, extents: NDArray[np.int32], step: int, width: int
) -> tuple[NDArray[np.int64], Offsets]:
    """Return the border pixels of every mask as flat indices of an image reduced `step` times, `width` pixels wide.

    A mask owns ``pixels[starts[i]:starts[i + 1]]``.
    """
    starts = np.zeros(offsets.shape[0], np.int64)
    pixels = np.empty(1024, np.int64)
    for i in range(offsets.shape[0] - 1):
        area = 0
        for r in range(offsets[i], offsets[i + 1]):
            area += runs[r, 2] - runs[r, 1]
        needed = starts[i] + area
        if needed > pixels.shape[0]:
            larger = np.empty(max(needed, 2 * pixels.shape[0]), np.int64)
            larger[: starts[i]] = pixels[: starts[i]]
            pixels = larger
        starts[i + 1] = starts[i]
        if area:
            starts[i + 1] = _outline_of(runs, offsets[i], offsets[i + 1], extents[i], step, width, pixels, starts[i])
    return pixels[: starts[-1]].copy(), starts
