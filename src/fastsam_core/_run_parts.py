"""Parts of masks kept as runs (see ``_runs``): pixels that share a side, found without a bitmap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastsam_core._jit import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastsam_core._runs import Offsets, Runs

__all__ = ["in_large_parts", "roots_of"]


@njit
def in_large_parts(runs: Runs, offsets: Offsets, share: float) -> NDArray[np.bool_]:
    """Tell which runs belong to a part at least ``share`` times as large as the largest part of their mask."""
    keep = np.ones(runs.shape[0], np.bool_)
    for i in range(offsets.shape[0] - 1):
        first, last = offsets[i], offsets[i + 1]
        roots = roots_of(runs[first:last].copy())  # of arrays that can be written, as elsewhere: compiled once
        areas = np.zeros(last - first, np.int64)
        largest = np.int64(0)
        for r in range(last - first):
            areas[roots[r]] += runs[first + r, 2] - runs[first + r, 1]
            largest = max(largest, areas[roots[r]])
        for r in range(last - first):
            keep[first + r] = areas[roots[r]] >= share * largest
    return keep


@njit
def roots_of(runs: Runs) -> NDArray[np.int64]:
    """Return for each run of one mask the first run of its part."""
    parents = np.arange(runs.shape[0])
    above = 0
    for r in range(runs.shape[0]):
        while runs[above, 0] < runs[r, 0] - 1 or (runs[above, 0] == runs[r, 0] - 1 and runs[above, 2] <= runs[r, 1]):
            above += 1
        touching = above
        while runs[touching, 0] == runs[r, 0] - 1 and runs[touching, 1] < runs[r, 2]:
            a, b = _find(parents, touching), _find(parents, r)
            parents[max(a, b)] = min(a, b)
            touching += 1
    for r in range(runs.shape[0]):
        parents[r] = _find(parents, r)
    return parents


@njit
def _find(parents: NDArray[np.int64], place: int) -> int:
    while parents[place] != place:
        parents[place] = parents[parents[place]]
        place = parents[place]
    return place
