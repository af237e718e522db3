"""Kernels that paint masks into a label plane, run by run, without a copy of the plane."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsam_core._jit import njit

__all__ = ["assign", "changes", "overlaps"]

Runs = NDArray[np.int32]
Offsets = NDArray[np.int64]
Ids = NDArray[np.int64]


@njit
def overlaps(plane: NDArray[Any], runs: Runs, offsets: Offsets, ids: Ids) -> tuple[Ids, Ids]:
    """Return labels under the masks other than the masks' own, and how many pixels each stretch of a row has."""
    labels, counts = np.empty(256, np.int64), np.empty(256, np.int64)
    at = 0
    for i in range(ids.shape[0]):
        for r in range(offsets[i], offsets[i + 1]):
            previous = np.int64(0)
            for x in range(runs[r, 1], runs[r, 2]):
                label = np.int64(plane[runs[r, 0], x])
                if label == 0 or label == ids[i]:
                    previous = np.int64(0)
                    continue
                if label != previous:
                    if at == labels.shape[0]:
                        labels, counts = np.append(labels, labels), np.append(counts, counts)
                    labels[at], counts[at] = label, 0
                    at += 1
                    previous = label
                counts[at - 1] += 1
    return labels[:at].copy(), counts[:at].copy()


@njit
def assign(
    plane: NDArray[Any],
    runs: Runs,
    offsets: Offsets,
    ids: Ids,
    order: NDArray[np.int64],
    owners: NDArray[np.int32],
    y0: int,
    x0: int,
    steal: bool,
    max_taken_share: float,
) -> NDArray[np.bool_]:
    """Decide which mask gets which pixel.

    Masks come in `order`. A mask is left out if labels, or masks before it, take more than `max_taken_share` of its
    pixels; else it gets the pixels that are free, or (`steal`) all of them. `owners` is a plane of zeros for the window
    that begins at (y0, x0); a pixel becomes one more than the number of its mask. Returns which masks got any.
    """
    written = np.zeros(ids.shape[0], np.bool_)
    for i in order:
        area = taken = 0
        for r in range(offsets[i], offsets[i + 1]):
            y = runs[r, 0]
            area += runs[r, 2] - runs[r, 1]
            for x in range(runs[r, 1], runs[r, 2]):
                owner = owners[y - y0, x - x0]
                label = ids[owner - 1] if owner else np.int64(plane[y, x])
                taken += label != 0 and label != ids[i]
        if taken > max_taken_share * area:
            continue
        for r in range(offsets[i], offsets[i + 1]):
            y = runs[r, 0]
            for x in range(runs[r, 1], runs[r, 2]):
                owner = owners[y - y0, x - x0]
                label = ids[owner - 1] if owner else np.int64(plane[y, x])
                if steal or label == 0 or label == ids[i]:
                    owners[y - y0, x - x0] = i + 1
                    written[i] = True
    return written


@njit
def changes(
    plane: NDArray[Any],
    runs: Runs,
    order: NDArray[np.int64],
    mask_of_run: NDArray[np.int64],
    ids: Ids,
    owners: NDArray[np.int32],
    y0: int,
    x0: int,
) -> tuple[Ids, Ids, Ids]:
    """Return rows, columns and new labels of the pixels that :func:`assign` changes, looking at the runs in `order`."""
    most = np.int64(0)
    for r in order:
        most += runs[r, 2] - runs[r, 1]
    rows, columns, values = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    at = 0
    for r in order:
        y, i = runs[r, 0], mask_of_run[r]
        for x in range(runs[r, 1], runs[r, 2]):
            if owners[y - y0, x - x0] == i + 1 and plane[y, x] != ids[i]:
                rows[at], columns[at], values[at] = y, x, ids[i]
                at += 1
    return rows[:at].copy(), columns[:at].copy(), values[:at].copy()
