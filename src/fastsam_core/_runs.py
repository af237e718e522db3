"""Kernels on masks kept as runs: rows of (y, x_start, x_stop), sorted, neither empty nor touching.

A set of masks is ``runs`` of shape (R, 3) int32 and ``offsets`` of shape (N + 1,) int64: mask ``i`` owns
``runs[offsets[i]:offsets[i + 1]]``. Everything here is linear in the number of runs, not of pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastsam_core._jit import njit

Runs = NDArray[np.int32]
Offsets = NDArray[np.int64]


def joined(parts: list[Runs]) -> tuple[Runs, Offsets]:
    """Return the runs of several masks behind each other, and where those of each begin."""
    return np.concatenate([np.empty((0, 3), np.int32), *parts]), np.cumsum([0, *map(len, parts)], dtype=np.int64)


@njit
def first_bad_run(runs: Runs, offsets: Offsets, height: int, width: int) -> int:
    """Return the index of the first run that is not canonical or leaves the image, or -1."""
    for i in range(offsets.shape[0] - 1):
        last_y, last_stop = -1, 0
        for r in range(offsets[i], offsets[i + 1]):
            y, start, stop = runs[r, 0], runs[r, 1], runs[r, 2]
            if y < 0 or y >= height or start < 0 or stop > width or start >= stop:
                return r
            if y < last_y or (y == last_y and start <= last_stop):
                return r
            last_y, last_stop = y, stop
    return -1


@njit
def areas(runs: Runs, offsets: Offsets) -> NDArray[np.int64]:
    """Count the pixels of each mask."""
    out = np.zeros(offsets.shape[0] - 1, np.int64)
    for i in range(out.shape[0]):
        total = 0
        for r in range(offsets[i], offsets[i + 1]):
            total += runs[r, 2] - runs[r, 1]
        out[i] = total
    return out


@njit
def extents(runs: Runs, offsets: Offsets) -> NDArray[np.int32]:
    """Return the tight half-open box (x0, y0, x1, y1) of each mask; zeros for an empty one."""
    out = np.zeros((offsets.shape[0] - 1, 4), np.int32)
    for i in range(out.shape[0]):
        first, last = offsets[i], offsets[i + 1]
        if first == last:
            continue
        x0, x1 = runs[first, 1], runs[first, 2]
        for r in range(first, last):
            x0 = min(x0, runs[r, 1])
            x1 = max(x1, runs[r, 2])
        out[i, 0], out[i, 1] = x0, runs[first, 0]
        out[i, 2], out[i, 3] = x1, runs[last - 1, 0] + 1
    return out


@njit
def paint_labels(
    runs: Runs,
    offsets: Offsets,
    order: NDArray[np.int64],
    ids: NDArray[np.int64],
    out: NDArray[np.uint16] | NDArray[np.uint32],
) -> None:
    """Write ``ids[i]`` into ``out`` (any integer dtype) over mask ``i``, in ``order``: later ones end up on top."""
    for k in range(order.shape[0]):
        i = order[k]
        for r in range(offsets[i], offsets[i + 1]):
            out[runs[r, 0], runs[r, 1] : runs[r, 2]] = ids[i]


@njit
def fill(runs: Runs, y0: int, x0: int, out: NDArray[np.bool_]) -> None:
    """Set the pixels of one mask in ``out``, whose corner lies at (y0, x0); runs outside it are clipped."""
    height, width = out.shape
    for r in range(runs.shape[0]):
        y = runs[r, 0] - y0
        if 0 <= y < height:
            start, stop = max(runs[r, 1] - x0, 0), min(runs[r, 2] - x0, width)
            if start < stop:
                out[y, start:stop] = True


@njit
def runs_of_mask(mask: NDArray[np.bool_], y0: int, x0: int) -> Runs:
    """Return the runs of a boolean image whose corner lies at (y0, x0)."""
    height, width = mask.shape
    count = 0
    for y in range(height):
        inside = False
        for x in range(width):
            if mask[y, x] and not inside:
                count += 1
            inside = mask[y, x]
    out = np.empty((count, 3), np.int32)
    r = 0
    for y in range(height):
        x = 0
        while x < width:
            if mask[y, x]:
                start = x
                while x < width and mask[y, x]:
                    x += 1
                out[r, 0], out[r, 1], out[r, 2] = y + y0, start + x0, x + x0
                r += 1
            else:
                x += 1
    return out


@njit
def runs_of_labels(labels: NDArray[np.int64], n_labels: int) -> tuple[Runs, Offsets]:
    """Return the runs of labels 1 … ``n_labels`` of a label map, all found in one pass over its pixels."""
    height, width = labels.shape
    offsets = np.zeros(n_labels + 1, np.int64)
    for y in range(height):
        previous = 0
        for x in range(width):
            label = labels[y, x]
            if label != previous and label > 0:
                offsets[label] += 1
            previous = label
    for i in range(n_labels):
        offsets[i + 1] += offsets[i]
    position = offsets[:-1].copy()
    runs = np.empty((offsets[n_labels], 3), np.int32)
    for y in range(height):
        x = 0
        while x < width:
            label = labels[y, x]
            start = x
            while x < width and labels[y, x] == label:
                x += 1
            if label > 0:
                r = position[label - 1]
                position[label - 1] += 1
                runs[r, 0], runs[r, 1], runs[r, 2] = y, start, x
    return runs, offsets


@njit
def place(runs: Runs, offsets: Offsets, dy: int, dx: int, height: int, width: int) -> tuple[Runs, Offsets]:
    """Move masks by (dy, dx) into an image of another size, cutting off what lies outside."""
    out = np.empty_like(runs)
    out_offsets = np.zeros_like(offsets)
    n = 0
    for i in range(offsets.shape[0] - 1):
        for r in range(offsets[i], offsets[i + 1]):
            y = runs[r, 0] + dy
            start, stop = max(runs[r, 1] + dx, 0), min(runs[r, 2] + dx, width)
            if 0 <= y < height and start < stop:
                out[n, 0], out[n, 1], out[n, 2] = y, start, stop
                n += 1
        out_offsets[i + 1] = n
    return out[:n].copy(), out_offsets


@njit
def take(runs: Runs, offsets: Offsets, index: NDArray[np.int64]) -> tuple[Runs, Offsets]:
    """Return the masks named by ``index``, in that order; empty offsets if there is no such mask."""
    out_offsets = np.zeros(index.shape[0] + 1, np.int64)
    for k in range(index.shape[0]):
        if index[k] < 0 or index[k] + 1 >= offsets.shape[0]:
            return runs[:0].copy(), out_offsets[:0].copy()
        out_offsets[k + 1] = out_offsets[k] + offsets[index[k] + 1] - offsets[index[k]]
    out = np.empty((out_offsets[-1], 3), np.int32)
    for k in range(index.shape[0]):
        first = offsets[index[k]] - out_offsets[k]
        for r in range(out_offsets[k], out_offsets[k + 1]):  # not as slices: numba compiles their errors for seconds
            out[r, 0], out[r, 1], out[r, 2] = runs[first + r, 0], runs[first + r, 1], runs[first + r, 2]
    return out, out_offsets


@njit
def merge_sorted(runs: Runs) -> Runs:
    """Return the union of runs sorted by (y, x_start) that may overlap or touch."""
    out = np.empty_like(runs)
    n = 0
    for r in range(runs.shape[0]):
        if n > 0 and out[n - 1, 0] == runs[r, 0] and runs[r, 1] <= out[n - 1, 2]:
            out[n - 1, 2] = max(out[n - 1, 2], runs[r, 2])
        else:
            out[n, 0], out[n, 1], out[n, 2] = runs[r, 0], runs[r, 1], runs[r, 2]
            n += 1
    return out[:n].copy()


@njit
def first_run_at(runs: Runs, first: int, last: int, y: int) -> int:
    """Return the first index in [first, last) whose row is ``y`` or below it."""
    while first < last:
        middle = (first + last) // 2
        if runs[middle, 0] < y:
            first = middle + 1
        else:
            last = middle
    return first


@njit
def contains(runs: Runs, first: int, last: int, y: int, x: int) -> bool:
    """Tell whether the mask owning runs [first, last) contains the pixel (y, x); a binary search."""
    while first < last:
        middle = (first + last) // 2
        if runs[middle, 0] < y or (runs[middle, 0] == y and runs[middle, 2] <= x):
            first = middle + 1
        elif runs[middle, 0] > y or runs[middle, 1] > x:
            last = middle
        else:
            return True
    return False


@njit
def hits(runs: Runs, offsets: Offsets, boxes: NDArray[np.int32], pixels_yx: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return (K, N): whether pixel ``k`` lies in mask ``i``. ``boxes`` are the masks' :func:`extents`."""
    n = offsets.shape[0] - 1
    out = np.zeros((pixels_yx.shape[0], n), np.bool_)
    for k in range(pixels_yx.shape[0]):
        y, x = pixels_yx[k, 0], pixels_yx[k, 1]
        for i in range(n):
            if boxes[i, 0] <= x < boxes[i, 2] and boxes[i, 1] <= y < boxes[i, 3]:
                out[k, i] = contains(runs, offsets[i], offsets[i + 1], y, x)
    return out


@njit
def overlap(a: Runs, a_first: int, a_last: int, b: Runs, b_first: int, b_last: int) -> int:
    """Count the pixels that two masks share, walking both lists of runs once."""
    total = 0
    i, j = a_first, b_first
    while i < a_last and j < b_last:
        if a[i, 0] != b[j, 0]:
            if a[i, 0] < b[j, 0]:
                i = first_run_at(a, i, a_last, b[j, 0]) if a[i, 0] + 1 < b[j, 0] else i + 1
            else:
                j = first_run_at(b, j, b_last, a[i, 0]) if b[j, 0] + 1 < a[i, 0] else j + 1
            continue
        shared = min(a[i, 2], b[j, 2]) - max(a[i, 1], b[j, 1])
        if shared > 0:
            total += shared
        if a[i, 2] < b[j, 2]:
            i += 1
        else:
            j += 1
    return total


@njit
def px_outside(runs: Runs, a_first: int, a_last: int, b_first: int, b_last: int, most: float) -> int:
    """Count the pixels of mask ``a`` that lie outside mask ``b``; ends soon after more than ``most``."""
    j = b_first
    missed = 0
    for i in range(a_first, a_last):
        y, start, stop = runs[i, 0], runs[i, 1], runs[i, 2]
        missed += stop - start
        while j < b_last and (runs[j, 0] < y or (runs[j, 0] == y and runs[j, 2] <= start)):
            j += 1
        k = j
        while k < b_last and runs[k, 0] == y and runs[k, 1] < stop:
            missed -= min(runs[k, 2], stop) - max(runs[k, 1], start)
            k += 1
        if missed > most:
            break
    return int(missed)


@njit
def distinct(
    runs: Runs, offsets: Offsets, extents: NDArray[np.int32], areas: NDArray[np.int64], iou: float
) -> NDArray[np.bool_]:
    """Tell which masks (N,) have an IoU of at most ``iou`` with every mask before them that is told so, too.

    An IoU above t means that masks of s and l pixels share more than (s + l) t / (1 + t); areas and extents rule that
    out for most pairs.
    """
    n = areas.shape[0]
    kept = np.zeros(n, np.bool_)
    for i in range(n):
        kept[i] = True
        for j in range(i):
            if not kept[j]:
                continue
            small, large = (i, j) if areas[i] <= areas[j] else (j, i)
            needed = (areas[i] + areas[j]) * (iou / (1.0 + iou)) - 1.0  # one pixel less: the division below decides
            width = min(extents[i, 2], extents[j, 2]) - max(extents[i, 0], extents[j, 0])
            height = min(extents[i, 3], extents[j, 3]) - max(extents[i, 1], extents[j, 1])
            if areas[small] <= needed or width <= 0 or height <= 0 or np.int64(width) * np.int64(height) <= needed:
                continue
            missed = px_outside(
                runs, offsets[small], offsets[small + 1], offsets[large], offsets[large + 1], areas[small] - needed
            )
            shared = areas[small] - missed
            if shared > 0 and shared / (areas[i] + areas[j] - shared) > iou:
                kept[i] = False
                break
    return kept


@njit
def _meet(a: NDArray[np.int32], b: NDArray[np.int32]) -> bool:
    """Tell whether two boxes share pixels."""
    return bool(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3])


@njit
def claimed(
    runs: Runs, offsets: Offsets, extents: NDArray[np.int32], areas: NDArray[np.int64], weights: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum up, weighted, over the masks before each (N,): the share of its pixels in them, and its IoU with them."""
    n = areas.shape[0]
    inside, iou = np.zeros(n), np.zeros(n)
    for i in range(n):
        for j in range(i):
            if _meet(extents[i], extents[j]):
                shared = overlap(runs, offsets[i], offsets[i + 1], runs, offsets[j], offsets[j + 1])
                if shared > 0:
                    inside[i] += weights[j] * (shared / areas[i])
                    iou[i] += weights[j] * (shared / (areas[i] + areas[j] - shared))
    return inside, iou


@njit
def overlaps(
    a: Runs, a_offsets: Offsets, a_boxes: NDArray[np.int32], b: Runs, b_offsets: Offsets, b_boxes: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Return (N, M): the number of pixels that each mask of ``a`` shares with each of ``b``."""
    n, m = a_offsets.shape[0] - 1, b_offsets.shape[0] - 1
    out = np.zeros((n, m), np.int64)
    for i in range(n):
        for j in range(m):
            if _meet(a_boxes[i], b_boxes[j]):
                out[i, j] = overlap(a, a_offsets[i], a_offsets[i + 1], b, b_offsets[j], b_offsets[j + 1])
    return out


@njit
def _toggle(events: NDArray[np.int32], position: NDArray[np.int64], start: int, stop: int, row: int) -> None:
    for x in range(start, stop):
        events[position[x]] = row
        position[x] += 1


@njit
def _row_changes(runs: Runs, above: tuple[int, int], below: tuple[int, int], out: NDArray[np.int32]) -> int:
    """Write the intervals where two rows of runs differ (their exclusive or) into ``out``; return how many.

    Each row's edges are sorted, so the merged edges, taken in pairs, bound those intervals.
    """
    i, i_end, j, j_end = 2 * above[0], 2 * above[1], 2 * below[0], 2 * below[1]
    n = 0
    while i < i_end or j < j_end:
        edge_i = runs[i // 2, 1 + i % 2] if i < i_end else np.int32(2147483647)
        edge_j = runs[j // 2, 1 + j % 2] if j < j_end else np.int32(2147483647)
        if edge_i == edge_j:
            i += 1
            j += 1
            continue
        if edge_i < edge_j:
            out[n] = edge_i
            i += 1
        else:
            out[n] = edge_j
            j += 1
        n += 1
    return n // 2


@njit
def transpose(runs: Runs) -> Runs:
    """Turn the row runs of one mask into column runs (x, y_start, y_stop), or the other way round.

    A column changes between in and out exactly where a row differs from the row above it. So the changes of all
    columns are collected row by row (each bucket stays sorted) and read off in pairs: the work is proportional to
    the number of runs on both sides, and no pixel is visited.
    """
    n_runs = runs.shape[0]
    if n_runs == 0:
        return runs.copy()
    x0, x1 = runs[0, 1], runs[0, 2]
    for r in range(n_runs):
        x0 = min(x0, runs[r, 1])
        x1 = max(x1, runs[r, 2])
    width = x1 - x0
    edges = np.empty(4 * n_runs + 4, np.int32)
    counts = np.zeros(width + 1, np.int64)
    events = np.empty(0, np.int32)
    position = np.zeros(width + 1, np.int64)
    for writing in range(2):
        if writing == 1:
            for x in range(width):  # from differences to counts to the first place of each column
                counts[x + 1] += counts[x]
            total = 0
            for x in range(width):
                position[x] = total
                total += counts[x]
            position[width] = total
            events = np.empty(total, np.int32)
        first = 0
        above = (0, 0)
        row = runs[0, 0]
        while first < n_runs or above[0] < above[1]:
            last = first
            while last < n_runs and runs[last, 0] == row:
                last += 1
            n = _row_changes(runs, above, (first, last), edges)
            for k in range(n):
                start, stop = edges[2 * k] - x0, edges[2 * k + 1] - x0
                if writing == 1:
                    _toggle(events, position, start, stop, row)
                else:
                    counts[start] += 1
                    counts[stop] -= 1
            above = (first, last)
            first = last
            row = runs[first, 0] if above[0] == above[1] and first < n_runs else row + 1
    out = np.empty((events.shape[0] // 2, 3), np.int32)
    x = 0
    for r in range(out.shape[0]):
        while position[x] <= 2 * r:  # after writing, position[x] is where column x ends
            x += 1
        out[r, 0], out[r, 1], out[r, 2] = x + x0, events[2 * r], events[2 * r + 1]
    return out


@njit
def rle_counts(columns: Runs, height: int, width: int) -> NDArray[np.int64]:
    """Turn column runs (x, y_start, y_stop) of one mask into COCO's uncompressed counts (columns first, 0s first)."""
    out = np.empty(2 * columns.shape[0] + 1, np.int64)
    n, last = 0, 0
    for r in range(columns.shape[0]):
        start = columns[r, 0] * height + columns[r, 1]
        stop = columns[r, 0] * height + columns[r, 2]
        if n > 0 and start == last:  # goes on from the bottom of the column before
            out[n - 1] += stop - start
        else:
            out[n] = start - last
            out[n + 1] = stop - start
            n += 2
        last = stop
    if last < height * width:
        out[n] = height * width - last
        n += 1
    return out[:n].copy()


@njit
def counts_of_string(text: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Decode the ASCII string of a compressed COCO RLE into its counts (``rleFrString`` of cocoapi's maskApi.c).

    Each count is a little-endian sequence of 5-bit groups, offset by 48, the sixth bit telling that more follow;
    from the fourth count on the difference to the count before the last one is stored.
    """
    out = np.empty(text.shape[0], np.int64)
    n, position = 0, 0
    while position < text.shape[0]:
        value, shift, more = 0, 0, True
        while more and position < text.shape[0]:
            group = int(text[position]) - 48
            value |= (group & 31) << shift
            more = (group & 32) != 0
            position += 1
            shift += 5
            if not more and (group & 16) != 0:
                value |= -1 << shift
        if n > 2:
            value += out[n - 2]
        out[n] = value
        n += 1
    return out[:n].copy()


@njit
def columns_of_counts(counts: NDArray[np.int64], height: int) -> Runs:
    """Turn COCO's uncompressed counts into column runs; a count of 1s is cut at the bottom of each column."""
    total, position = 0, 0
    for k in range(counts.shape[0]):
        if k % 2 == 1 and counts[k] > 0:
            total += (position + counts[k] - 1) // height - position // height + 1
        position += counts[k]
    out = np.empty((total, 3), np.int32)
    r, position = 0, 0
    for k in range(counts.shape[0]):
        stop = position + counts[k]
        if k % 2 == 1:
            while position < stop:
                x = position // height
                end = min(stop, (x + 1) * height)
                out[r, 0], out[r, 1], out[r, 2] = x, position - x * height, end - x * height
                r += 1
                position = end
        position = stop
    return merge_sorted(out[:r])
