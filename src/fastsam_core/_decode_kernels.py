"""Compiled decoding of masks by runs (numba); ``tests/core/plain_decoding.py`` is the plain equivalent.

Between knots the logit is linear along each axis. A cell of the knot grid whose four corners have the same sign is
therefore uniform, in floating point too: ``a + w * (b - a)`` with ``w`` in [0, 1) never leaves the sign that ``a`` and
``b`` share. Only the few other cells are looked at, and in each of them a pixel row changes sign at most once, where a
binary search finds the very pixel. The cost grows with the length of the outlines, not with the area of the boxes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastsam_core._jit import njit
from fastsam_core._run_parts import roots_of

if TYPE_CHECKING:
    from fastsam_core._upsampling import KnotAxis

__all__ = ["best_thresholds", "count_cells", "count_cut_cells", "decode_runs", "mask_ends"]

_LIMIT = np.float32(1e30)
_FIRST_CAPACITY = 4096
_MOST_ROUNDS = 20


@njit
def _sides(windows_xyxy: npt.NDArray[np.int32], i: int) -> tuple[int, int, int, int]:
    """Return (x0, y0, x1, y1) of a window, all of one type: what takes them is compiled once."""
    x0, y0, x1, y1 = windows_xyxy[i, 0], windows_xyxy[i, 1], windows_xyxy[i, 2], windows_xyxy[i, 3]
    return np.int64(x0), np.int64(y0), np.int64(x1), np.int64(y1)  # type: ignore[return-value] # numba's int


@njit
def _window_logits(
    prototypes: npt.NDArray[np.float32],
    coefficients: npt.NDArray[np.float32],
    logit_threshold: np.float32,
    window: tuple[int, int, int, int],
) -> npt.NDArray[np.float32]:
    """Logits less the threshold at prototype cells (y0, x0, y1, x1); what is not finite counts as background."""
    y0, x0, y1, x1 = window
    logits = np.zeros((y1 - y0, x1 - x0), dtype=np.float32)
    for y in range(y1 - y0):
        row = logits[y]
        for k in range(coefficients.size):
            weight = coefficients[k]
            source = prototypes[k, y0 + y, x0:x1]
            for x in range(row.size):
                row[x] += weight * source[x]
        for x in range(row.size):
            value = row[x] - logit_threshold
            row[x] = value if -_LIMIT < value < _LIMIT else -_LIMIT
    return logits


@njit
def _cell_range(knot_cells: npt.NDArray[np.int32], begin: int, end: int) -> tuple[int, int]:
    """First and one past the last cell that the knots ``begin`` to ``end`` need."""
    first = min(knot_cells[begin, 0], knot_cells[begin, 1])
    last = max(knot_cells[end - 1, 0], knot_cells[end - 1, 1])
    return np.int64(first), np.int64(last + 1)  # type: ignore[return-value] # numba's int


@njit
def _knot_logits(
    prototypes: npt.NDArray[np.float32],
    coefficients: npt.NDArray[np.float32],
    logit_threshold: np.float32,
    y_axis: KnotAxis,
    x_axis: KnotAxis,
    knots: tuple[int, int, int, int],
) -> npt.NDArray[np.float32]:
    """Logits at the knots (y0, x0, y1, x1)."""
    y0, x0, y1, x1 = knots
    cell_y0, cell_y1 = _cell_range(y_axis.knot_cells, y0, y1)
    cell_x0, cell_x1 = _cell_range(x_axis.knot_cells, x0, x1)
    cells = _window_logits(prototypes, coefficients, logit_threshold, (cell_y0, cell_x0, cell_y1, cell_x1))
    wide = np.empty((cells.shape[0], x1 - x0), dtype=np.float32)
    for y in range(cells.shape[0]):
        for x in range(x1 - x0):
            near = cells[y, x_axis.knot_cells[x0 + x, 0] - cell_x0]
            far = cells[y, x_axis.knot_cells[x0 + x, 1] - cell_x0]
            wide[y, x] = near + x_axis.knot_weights[x0 + x] * (far - near)
    values = np.empty((y1 - y0, x1 - x0), dtype=np.float32)
    for y in range(y1 - y0):
        above = wide[y_axis.knot_cells[y0 + y, 0] - cell_y0]
        below = wide[y_axis.knot_cells[y0 + y, 1] - cell_y0]
        weight = y_axis.knot_weights[y0 + y]
        row = values[y]
        for x in range(row.size):
            row[x] = above[x] + weight * (below[x] - above[x])
    return values


@njit
def _find_mixed(upper: npt.NDArray[np.float32], lower: npt.NDArray[np.float32], mixed: npt.NDArray[np.int32]) -> int:
    """List the cells between two rows of knots whose corners differ in sign; returns how many."""
    count = 0
    left = int(upper[0] > 0) + int(lower[0] > 0)
    for x in range(upper.size - 1):
        right = int(upper[x + 1] > 0) + int(lower[x + 1] > 0)
        if 0 < left + right < 4:
            mixed[count] = x
            count += 1
        left = right
    return count


@njit
def _decode_row(
    upper: npt.NDArray[np.float32],
    lower: npt.NDArray[np.float32],
    y: int,
    y_weight: np.float32,
    x_axis: KnotAxis,
    x_range: tuple[int, int],
    mixed: npt.NDArray[np.int32],
    runs: npt.NDArray[np.int32],
    count: int,
) -> int:
    """Write the runs of one pixel row to ``runs`` from index ``count`` on; returns the index after them."""
    x0, x1 = x_range
    first_knot = x_axis.pixel_knots[x0]
    start = -1
    done = x0
    for cell in mixed:
        begin = min(max(x_axis.first_pixels[first_knot + cell], x0), x1)
        end = min(max(x_axis.first_pixels[first_knot + cell + 1], x0), x1)
        if begin > done:  # uniform cells in between
            inside = upper[cell] > 0
            if inside and start < 0:
                start = done
            elif not inside and start >= 0:
                runs[count, 0], runs[count, 1], runs[count, 2] = y, start, done
                count += 1
                start = -1
            done = begin
        if begin >= end:
            continue
        done = end
        left = upper[cell] + y_weight * (lower[cell] - upper[cell])
        right = upper[cell + 1] + y_weight * (lower[cell + 1] - upper[cell + 1])
        rise = right - left
        inside = left + x_axis.pixel_weights[begin] * rise > 0
        if inside and start < 0:
            start = begin
        elif not inside and start >= 0:
            runs[count, 0], runs[count, 1], runs[count, 2] = y, start, begin
            count += 1
            start = -1
        if (left + x_axis.pixel_weights[end - 1] * rise > 0) == inside:
            continue
        same, other = begin, end - 1
        while other - same > 1:
            middle = (same + other) // 2
            if (left + x_axis.pixel_weights[middle] * rise > 0) == inside:
                same = middle
            else:
                other = middle
        if inside:
            runs[count, 0], runs[count, 1], runs[count, 2] = y, start, other
            count += 1
            start = -1
        else:
            start = other
    if done < x1:
        inside = upper[upper.size - 1] > 0
        if inside and start < 0:
            start = done
        elif not inside and start >= 0:
            runs[count, 0], runs[count, 1], runs[count, 2] = y, start, done
            count += 1
            start = -1
    if start >= 0:
        runs[count, 0], runs[count, 1], runs[count, 2] = y, start, x1
        count += 1
    return count


@njit
def decode_runs(
    prototypes: npt.NDArray[np.float32],
    coefficients: npt.NDArray[np.float32],
    windows_xyxy: npt.NDArray[np.int32],
    logit_thresholds: npt.NDArray[np.float32],
    y_axis: KnotAxis,
    x_axis: KnotAxis,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Decode masks to row runs.

    Parameters
    ----------
    prototypes : float32 array (C, ph, pw)
    coefficients : float32 array (N, C)
    windows_xyxy : int32 array (N, 4)
        The pixels inside each box, half-open and inside the image; reversed or empty gives an empty mask.
    logit_thresholds : float32 array (N,)
        Pixels with a logit above it belong to the mask.
    y_axis, x_axis : KnotAxis

    Returns
    -------
    int32 array (R, 3)
        Runs (y, x_start, x_stop).
    int64 array (N + 1,)
        Where the runs of each mask begin.
    """
    masks = coefficients.shape[0]
    offsets = np.zeros(masks + 1, dtype=np.int64)
    runs = np.empty((_FIRST_CAPACITY, 3), dtype=np.int32)
    mixed = np.empty(x_axis.knot_weights.size, dtype=np.int32)
    # a plain 0 is a type of its own, for which what takes it would be compiled anew
    count: int = np.int64(0)  # type: ignore[assignment] # numba's int
    for i in range(masks):
        x0, y0, x1, y1 = _sides(windows_xyxy, i)
        if x0 < x1 and y0 < y1:
            knot_y0, knot_x0 = y_axis.pixel_knots[y0], x_axis.pixel_knots[x0]
            knot_y1, knot_x1 = y_axis.pixel_knots[y1 - 1] + 2, x_axis.pixel_knots[x1 - 1] + 2
            values = _knot_logits(
                prototypes,
                coefficients[i],
                logit_thresholds[i],
                y_axis,
                x_axis,
                (knot_y0, knot_x0, knot_y1, knot_x1),
            )
            band = -1
            cells = 0
            for y in range(y0, y1):
                if y_axis.pixel_knots[y] - knot_y0 != band:
                    band = y_axis.pixel_knots[y] - knot_y0
                    cells = _find_mixed(values[band], values[band + 1], mixed)
                if cells == 0 and values[band, 0] <= 0:
                    continue
                if count + cells + 1 > runs.shape[0]:
                    runs = _grown(runs, count, 2 * runs.shape[0] + cells)
                count = _decode_row(
                    values[band],
                    values[band + 1],
                    y,
                    y_axis.pixel_weights[y],
                    x_axis,
                    (x0, x1),
                    mixed[:cells],
                    runs,
                    count,
                )
        offsets[i + 1] = count
    return _grown(runs, count, count), offsets


@njit
def _grown(runs: npt.NDArray[np.int32], count: int, capacity: int) -> npt.NDArray[np.int32]:
    """Copy the first ``count`` runs to a buffer of another capacity."""
    grown = np.empty((capacity, 3), dtype=np.int32)
    for i in range(count):
        for column in range(3):
            grown[i, column] = runs[i, column]
    return grown


@njit
def count_cells(
    prototypes: npt.NDArray[np.float32],
    coefficients: npt.NDArray[np.float32],
    windows_xyxy: npt.NDArray[np.int32],
    logit_thresholds: npt.NDArray[np.float32],
) -> npt.NDArray[np.int64]:
    """Count the prototype cells of each window (N, 4) whose logit is above each of its thresholds (N, T)."""
    counts = np.zeros(logit_thresholds.shape, dtype=np.int64)
    for i in range(coefficients.shape[0]):
        x0, y0, x1, y1 = _sides(windows_xyxy, i)
        if x0 < x1 and y0 < y1:
            logits = _window_logits(prototypes, coefficients[i], np.float32(0), (y0, x0, y1, x1))
            for t in range(logit_thresholds.shape[1]):
                for y in range(logits.shape[0]):
                    for x in range(logits.shape[1]):
                        counts[i, t] += logits[y, x] > logit_thresholds[i, t]
    return counts


@njit
def best_thresholds(
    prototypes: npt.NDArray[np.float32],
    coefficients: npt.NDArray[np.float32],
    windows_xyxy: npt.NDArray[np.int32],
) -> npt.NDArray[np.float32]:
    """Half of the best Dice to expect of each window's cells (N, 4), which is the probability to cut them at for it.

    Dinkelbach's iteration: the best cells to take for a Dice of ``2 t`` are those above ``t``, and their Dice is the
    next; it rises to the best in a few rounds. Windows without a cell get 0.
    """
    thresholds = np.zeros(coefficients.shape[0], dtype=np.float32)
    for i in range(coefficients.shape[0]):
        x0, y0, x1, y1 = _sides(windows_xyxy, i)
        if x0 >= x1 or y0 >= y1:
            continue
        field = _window_logits(prototypes, coefficients[i], np.float32(0), (y0, x0, y1, x1)).ravel()
        total = 0.0
        for cell in range(field.size):
            field[cell] = 1 / (1 + np.exp(-field[cell]))
            total += field[cell]
        threshold = np.float32(0.5)
        for _ in range(_MOST_ROUNDS):
            taken, count = 0.0, 0
            for cell in range(field.size):
                if field[cell] > threshold:
                    taken += field[cell]
                    count += 1
            better = np.float32(taken / (count + total)) if total > 0 else np.float32(0)
            if better == threshold:
                break
            threshold = better
        thresholds[i] = threshold
    return thresholds


@njit
def count_cut_cells(
    prototypes: npt.NDArray[np.float32],
    coefficients: npt.NDArray[np.float32],
    logit_threshold: np.float32,
    windows_xyxy: npt.NDArray[np.int32],
    depths: npt.NDArray[np.int32],
    whole_xyxy: npt.NDArray[np.int32],
) -> npt.NDArray[np.int64]:
    """Count the cells along the sides of each window (N, 4) that are inside the mask, as are those a depth (N,) beyond.

    Sides nearer than that to the border of the window of the whole image (4,) are left out.
    """
    counts = np.zeros(coefficients.shape[0], dtype=np.int64)
    for i in range(coefficients.shape[0]):
        x0, y0, x1, y1 = _sides(windows_xyxy, i)
        if x0 >= x1 or y0 >= y1:
            continue
        for after in range(2):
            step = depths[i] if after else -depths[i]
            inner = x1 - 1 if after else x0
            if whole_xyxy[0] <= inner + step < whole_xyxy[2]:
                near, far = (y0, inner, y1, inner + 1), (y0, inner + step, y1, inner + step + 1)
                counts[i] += _count_in_both(prototypes, coefficients[i], logit_threshold, near, far)
            inner = y1 - 1 if after else y0
            if whole_xyxy[1] <= inner + step < whole_xyxy[3]:
                near, far = (inner, x0, inner + 1, x1), (inner + step, x0, inner + step + 1, x1)
                counts[i] += _count_in_both(prototypes, coefficients[i], logit_threshold, near, far)
    return counts


@njit
def _count_in_both(
    prototypes: npt.NDArray[np.float32],
    coefficients: npt.NDArray[np.float32],
    logit_threshold: np.float32,
    first: tuple[int, int, int, int],
    second: tuple[int, int, int, int],
) -> int:
    """Count the places of two windows of one shape at which the mask covers both."""
    left = _window_logits(prototypes, coefficients, logit_threshold, first)
    right = _window_logits(prototypes, coefficients, logit_threshold, second)
    count = 0
    for y in range(left.shape[0]):
        for x in range(left.shape[1]):
            count += left[y, x] > 0 and right[y, x] > 0
    return count


@njit
def mask_ends(
    prototypes: npt.NDArray[np.float32],
    coefficients: npt.NDArray[np.float32],
    logit_thresholds: npt.NDArray[np.float32],
    windows_xyxy: npt.NDArray[np.int32],
    outer_xyxy: npt.NDArray[np.int32],
    whole_xyxy: npt.NDArray[np.int32],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Find the cells (N, 4) to which each window's mask extends within the outer window (N, 4) that holds the window.

    Of the mask's parts in the outer window (cells that share a side) those count that lie at least half in the inner;
    without any, the window found is reversed. A mask that reaches a side of the outer window that is no side of the
    whole image's (4,) is looked at with the further thresholds (T,) in turn, until it does not. Returns the place of
    the threshold, too: 0 if none of them was of use.
    """
    found = np.empty(windows_xyxy.shape, dtype=np.int32)
    places = np.zeros(coefficients.shape[0], dtype=np.int64)
    for i in range(coefficients.shape[0]):
        x0, y0, x1, y1 = _sides(outer_xyxy, i)
        logits = _window_logits(prototypes, coefficients[i], np.float32(0), (y0, x0, y1, x1))
        for place in range(logit_thresholds.size):
            extent = _extent_of_parts(logits, logit_thresholds[place], (x0, y0), _sides(windows_xyxy, i))
            ends = True
            for side in range(4):
                ends &= extent[side] != outer_xyxy[i, side] or extent[side] == whole_xyxy[side]
            if place == 0 or ends:
                for side in range(4):
                    found[i, side] = extent[side]
            if ends:
                places[i] = place
                break
    return found, places


@njit
def _extent_of_parts(
    logits: npt.NDArray[np.float32],
    limit: np.float32,
    origin_xy: tuple[int, int],
    inner_xyxy: tuple[int, int, int, int],
) -> tuple[int, int, int, int]:
    """Extent of all parts above the limit that lie at least half in the inner window; reversed without any."""
    x0, y0, x1, y1 = inner_xyxy
    left, top, right, bottom = x1, y1, x0, y0
    runs = _runs_above(logits, limit)
    roots = roots_of(runs)
    total, inside = np.zeros(roots.size, dtype=np.int64), np.zeros(roots.size, dtype=np.int64)
    for i in range(roots.size):
        y, start, stop = runs[i, 0] + origin_xy[1], runs[i, 1] + origin_xy[0], runs[i, 2] + origin_xy[0]
        total[roots[i]] += stop - start
        if y0 <= y < y1:
            inside[roots[i]] += max(min(stop, x1) - max(start, x0), 0)
    for i in range(roots.size):
        if 2 * inside[roots[i]] >= total[roots[i]]:
            y, start, stop = runs[i, 0] + origin_xy[1], runs[i, 1] + origin_xy[0], runs[i, 2] + origin_xy[0]
            left, top = min(left, start), min(top, y)
            right, bottom = max(right, stop), max(bottom, y + 1)
    return left, top, right, bottom


@njit
def _runs_above(logits: npt.NDArray[np.float32], limit: np.float32) -> npt.NDArray[np.int32]:
    """List the runs (y, start, stop) above the limit, row by row."""
    height, width = logits.shape
    runs = np.empty((height * ((width + 1) // 2), 3), dtype=np.int32)
    count = 0
    for y in range(height):
        row = logits[y]
        x = 0
        while x < width:
            if not row[x] > limit:
                x += 1
                continue
            start = x
            while x < width and row[x] > limit:
                x += 1
            runs[count, 0], runs[count, 1], runs[count, 2] = y, start, x
            count += 1
    return runs[:count]
