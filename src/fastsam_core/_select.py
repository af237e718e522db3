"""Kernels that answer prompts from masks kept as runs (see ``_runs``). Nothing here visits pixels one by one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastsam_core._jit import njit
from fastsam_core._runs import Offsets, Runs, contains, first_run_at, hits, px_outside

__all__ = ["LEVELS", "best_mask_at", "best_masks_for_boxes", "best_masks_for_groups", "box_overlaps", "nested_at"]

LEVELS = ("part", "object", "group", "auto")
_PART, _OBJECT, _GROUP, _AUTO = range(4)

#: Points further out are outside of any image.
_FAR_PX = 2.0**31
#: Masks that agree more than this are the same answer.
_DUPLICATE_IOU = 0.9
#: Levels "part" and "group" pass over masks whose score is below this share of the candidates' highest.
_DUBIOUS_SHARE = 0.2
#: Level "object" takes masks above this share of the image only if there is nothing else.
_SCENE_SHARE = 0.5

Extents = NDArray[np.int32]
Indices = NDArray[np.int64]
Scores = NDArray[np.float32]


@njit
def _are_duplicates(
    runs: Runs, offsets: Offsets, extents: Extents, areas: Indices, i: int, j: int, memory: Indices
) -> bool:
    """Tell whether the IoU of two masks is above the limit.

    Their areas and extents answer most pairs; the others are remembered in ``memory``, a direct-mapped cache whose
    size is a power of two. An IoU above t means that masks of s and l pixels share more than (s + l) t / (1 + t).
    """
    if areas[i] > areas[j]:
        i, j = j, i
    needed = (areas[i] + areas[j]) * (_DUPLICATE_IOU / (1.0 + _DUPLICATE_IOU))
    width = min(extents[i, 2], extents[j, 2]) - max(extents[i, 0], extents[j, 0])
    height = min(extents[i, 3], extents[j, 3]) - max(extents[i, 1], extents[j, 1])
    if areas[i] <= needed or width <= 0 or height <= 0 or np.int64(width) * np.int64(height) <= needed:
        return False
    pair = np.int64(i) * areas.shape[0] + j
    slot = (pair ^ (pair >> 16)) & (memory.shape[0] - 1)
    if memory[slot] >> 1 == pair:
        return bool(memory[slot] & 1)
    spare_px = np.ceil(areas[i] - needed) - 1.0  # so many may be missed that more than needed are shared
    same = bool(px_outside(runs, offsets[i], offsets[i + 1], offsets[j], offsets[j + 1], spare_px) <= spare_px)
    memory[slot] = 2 * pair + (1 if same else 0)
    return same


@njit
def _nest(
    candidates: Indices, runs: Runs, offsets: Offsets, extents: Extents, areas: Indices, scores: Scores, memory: Indices
) -> int:
    """Reduce ``candidates`` in place to one mask per set of near-duplicates, smallest first; return how many.

    The highest score of a set stays (the smaller, then the earlier mask if equal), as in non-maximum suppression.
    """
    n = candidates.shape[0]
    for k in range(1, n):  # insertion sort: a handful of masks; they come in ascending order, which keeps ties stable
        i = candidates[k]
        p = k
        while p > 0:
            j = candidates[p - 1]
            if scores[i] > scores[j] or (scores[i] == scores[j] and areas[i] < areas[j]):
                candidates[p] = j
                p -= 1
            else:
                break
        candidates[p] = i
    kept = 0
    for k in range(n):
        i = candidates[k]
        unique = True
        for p in range(kept):
            j = candidates[p]
            if min(areas[i], areas[j]) <= _DUPLICATE_IOU * max(areas[i], areas[j]):  # most pairs: spare them the call
                continue
            if _are_duplicates(runs, offsets, extents, areas, i, j, memory):
                unique = False
                break
        if unique:
            candidates[kept] = i
            kept += 1
    for k in range(1, kept):
        i = candidates[k]
        p = k
        while p > 0 and areas[candidates[p - 1]] > areas[i]:
            candidates[p] = candidates[p - 1]
            p -= 1
        candidates[p] = i
    return kept


@njit
def _without_dubious(candidates: Indices, scores: Scores) -> int:
    """Keep, at the front of ``candidates``, those whose score is not far below the highest; return how many."""
    highest = np.float32(0.0)
    for i in candidates:
        highest = max(highest, scores[i])
    count = 0
    for i in candidates:
        if scores[i] >= _DUBIOUS_SHARE * highest:
            candidates[count] = i
            count += 1
    return count


@njit
def _surest(candidates: Indices, areas: Indices, scores: Scores, level: int, image_px: int) -> int:
    """Return the mask of highest score: for its size at level "auto", of those that are no scene at "object".

    Of equals the smaller wins, then the earlier.
    """
    best, best_rank = np.int64(-1), -1.0
    for i in candidates:
        rank = np.float64(scores[i])
        if level == _AUTO:
            rank /= np.cbrt(max(areas[i], 1))
        elif areas[i] > _SCENE_SHARE * image_px:
            continue
        if rank > best_rank or (rank == best_rank and areas[i] < areas[best]):
            best, best_rank = i, rank
    return int(best)


@njit
def _choose(
    candidates: Indices,
    runs: Runs,
    offsets: Offsets,
    extents: Extents,
    areas: Indices,
    scores: Scores,
    level: int,
    image_px: int,
    memory: Indices,
) -> int:
    """Choose one of the masks that answer equally well; the rules are documented with ``Points``."""
    if level == _AUTO or level == _OBJECT:
        best = _surest(candidates, areas, scores, level, image_px)
        if best >= 0:
            return best
    count = _without_dubious(candidates, scores)
    count = _nest(candidates[:count], runs, offsets, extents, areas, scores, memory)
    return int(candidates[count - 1] if level == _GROUP else candidates[0])


@njit
def _pixels_of(points_yx: NDArray[np.float64]) -> Indices:
    """Return the pixel of each point; one above or left of the image, or too far out for an index, is (-1, -1)."""
    pixels = np.full(points_yx.shape, -1, np.int64)
    for k in range(points_yx.shape[0]):
        y, x = points_yx[k, 0], points_yx[k, 1]
        if 0.0 <= y < _FAR_PX and 0.0 <= x < _FAR_PX:
            pixels[k, 0], pixels[k, 1] = int(y), int(x)
    return pixels


@njit
def _contains(runs: Runs, first: int, last: int, y0: int, y1: int, y: int, x: int) -> bool:
    """Tell whether the mask of rows [y0, y1) and runs [first, last) contains the pixel (y, x) of these rows.

    Looks first where the pixel's run is if all rows have equally many, which saves the search in simple masks.
    """
    guess = first + (y - y0) * (last - first) // (y1 - y0)
    if runs[guess, 0] < y or (runs[guess, 0] == y and runs[guess, 2] <= x):
        return contains(runs, guess + 1, last, y, x)
    if runs[guess, 0] > y or runs[guess, 1] > x:
        return contains(runs, first, guess, y, x)
    return True


@njit
def _best_mask_for_group(
    runs: Runs,
    offsets: Offsets,
    extents: Extents,
    areas: Indices,
    scores: Scores,
    pixels: Indices,
    labels: Indices,
    level: int,
    image_px: int,
    memory: Indices,
) -> tuple[int, float]:
    """Answer the points of one group; see :func:`best_masks_for_groups`."""
    positives = 0
    for k in range(pixels.shape[0]):
        positives += labels[k]
    candidates = np.empty(areas.shape[0], np.int64)
    most, count = 1, 0
    for i in range(areas.shape[0]):
        covered = 0
        x0, y0, x1, y1 = extents[i, 0], extents[i, 1], extents[i, 2], extents[i, 3]
        for k in range(pixels.shape[0]):
            y, x = pixels[k, 0], pixels[k, 1]
            if not (x0 <= x < x1 and y0 <= y < y1):
                continue
            if not _contains(runs, offsets[i], offsets[i + 1], y0, y1, y, x):
                continue
            if labels[k] == 0:
                covered = -1
                break
            covered += 1
        if covered > most:
            most, count = covered, 0
        if covered == most:
            candidates[count] = i
            count += 1
    if count == 0:
        return -1, 0.0
    chosen = _choose(candidates[:count], runs, offsets, extents, areas, scores, level, image_px, memory)
    return chosen, most / positives * scores[chosen]


@njit
def best_masks_for_groups(
    runs: Runs,
    offsets: Offsets,
    extents: Extents,
    areas: Indices,
    scores: Scores,
    points_yx: NDArray[np.float64],
    labels: Indices,
    group_starts: Indices,
    level: int,
    image_px: int,
) -> tuple[Indices, NDArray[np.float64]]:
    """Answer groups of points with one mask each.

    Group ``g`` owns the points ``group_starts[g]:group_starts[g + 1]``. Returns the index of its mask, or -1, and
    the share of its positives in that mask times the mask's score.
    """
    n_groups = group_starts.shape[0] - 1
    index = np.full(n_groups, -1, np.int64)
    score = np.zeros(n_groups, np.float64)
    pixels = _pixels_of(points_yx)
    nests = level == _PART or level == _GROUP
    memory = np.full(1 << 16 if nests and n_groups >= 8 else 1, -1, np.int64)
    for g in range(n_groups):
        own = slice(group_starts[g], group_starts[g + 1])
        index[g], score[g] = _best_mask_for_group(
            runs, offsets, extents, areas, scores, pixels[own], labels[own], level, image_px, memory
        )
    return index, score


@njit
def best_mask_at(
    runs: Runs,
    offsets: Offsets,
    extents: Extents,
    areas: Indices,
    scores: Scores,
    y: float,
    x: float,
    level: int,
    image_px: int,
) -> tuple[int, float]:
    """Answer one positive point, as :func:`best_masks_for_groups` would: numbers are handed over faster than arrays."""
    pixels = _pixels_of(np.array([[y, x]]))
    memory = np.full(1, -1, np.int64)
    return _best_mask_for_group(
        runs, offsets, extents, areas, scores, pixels, np.ones(1, np.int64), level, image_px, memory
    )


@njit
def nested_at(
    runs: Runs, offsets: Offsets, extents: Extents, areas: Indices, scores: Scores, point_yx: NDArray[np.float64]
) -> Indices:
    """Return the masks that contain a point, shape (1, 2), near-duplicates reduced to one, smallest first."""
    under = hits(runs, offsets, extents, _pixels_of(point_yx))
    candidates = np.flatnonzero(under[0])
    count = _nest(candidates, runs, offsets, extents, areas, scores, np.full(1, -1, np.int64))
    return candidates[:count].copy()


@njit
def _common_px(extents: Extents, i: int, boxes: Indices, k: int) -> int:
    """Count the pixels that box ``k`` and the extent of mask ``i`` share."""
    width = min(extents[i, 2], boxes[k, 2]) - max(extents[i, 0], boxes[k, 0])
    height = min(extents[i, 3], boxes[k, 3]) - max(extents[i, 1], boxes[k, 1])
    return width * height if width > 0 and height > 0 else 0


@njit
def _overlap_with_box(
    runs: Runs, offsets: Offsets, extents: Extents, areas: Indices, i: int, boxes: Indices, k: int
) -> int:
    """Count the pixels of mask ``i`` in box ``k``."""
    x0, y0, x1, y1 = boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3]
    if x0 <= extents[i, 0] and y0 <= extents[i, 1] and extents[i, 2] <= x1 and extents[i, 3] <= y1:
        return int(areas[i])
    total = 0
    for r in range(first_run_at(runs, offsets[i], offsets[i + 1], y0), offsets[i + 1]):
        if runs[r, 0] >= y1:
            break
        shared = min(np.int64(runs[r, 2]), x1) - max(np.int64(runs[r, 1]), x0)
        if shared > 0:
            total += shared
    return total


@njit
def box_overlaps(runs: Runs, offsets: Offsets, extents: Extents, areas: Indices, boxes: Indices) -> Indices:
    """Return (K, N): the number of pixels that box ``k`` and mask ``i`` share."""
    out = np.zeros((boxes.shape[0], areas.shape[0]), np.int64)
    for k in range(boxes.shape[0]):
        for i in range(areas.shape[0]):
            if _common_px(extents, i, boxes, k) > 0:
                out[k, i] = _overlap_with_box(runs, offsets, extents, areas, i, boxes, k)
    return out


@njit
def best_masks_for_boxes(
    extents: Extents, trust: NDArray[np.float64], boxes: Indices
) -> tuple[Indices, NDArray[np.float64]]:
    """Return, per box, the mask whose bounding box fits it best (-1 if none touches it) and the IoU of the two.

    What fits best is the IoU times the trust (N,) in the mask; of equals the earlier.
    """
    index = np.full(boxes.shape[0], -1, np.int64)
    iou = np.zeros(boxes.shape[0], np.float64)
    for k in range(boxes.shape[0]):
        box_px = (boxes[k, 2] - boxes[k, 0]) * (boxes[k, 3] - boxes[k, 1])
        best = -1.0
        for i in range(extents.shape[0]):
            shared = _common_px(extents, i, boxes, k)
            if shared == 0:
                continue
            extent_px = np.int64(extents[i, 2] - extents[i, 0]) * np.int64(extents[i, 3] - extents[i, 1])
            value = shared / (box_px + extent_px - shared)
            if value * trust[i] > best:
                index[k], iou[k], best = i, value, value * trust[i]
    return index, iou
