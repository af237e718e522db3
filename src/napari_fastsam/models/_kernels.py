"""Kernels on the runs of masks: outlines, and the labels that lie under them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsam_core._jit import njit

__all__ = ["labels_under", "outline_pixels"]

Runs = NDArray[np.int32]
Offsets = NDArray[np.int64]


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


@njit
def labels_under(
    plane: NDArray[Any], runs: Runs, offsets: Offsets, chosen: NDArray[np.int64], ids: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return, of each chosen mask, the pixels of its label, those of any label, and the label that most of these have.

    Where no label has more than half of them it is any that is there. A number that is none of a mask has no pixels.
    """
    own, labelled = np.zeros(chosen.shape[0], np.int64), np.zeros(chosen.shape[0], np.int64)
    mostly = np.zeros(chosen.shape[0], np.int64)
    for k in range(chosen.shape[0]):
        i, lead = chosen[k], 0
        if i + 1 >= offsets.shape[0]:
            continue
        for r in range(offsets[i], offsets[i + 1]):
            for x in range(runs[r, 1], runs[r, 2]):
                label = np.int64(plane[runs[r, 0], x])
                if label == 0:
                    continue
                labelled[k] += 1
                own[k] += label == ids[k]
                if lead == 0:
                    mostly[k] = label
                lead += 1 if label == mostly[k] else -1
    return own, labelled, mostly
