"""Maximum bipartite matching for many small, local graphs.

``scipy.sparse.csgraph.maximum_bipartite_matching`` gives the same sizes, but took 300 ms for one pair of boundary
maps, of which the benchmark needs about 100 000; starting from a greedy matching brings it to a few milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastsam_core._jit import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["columns_nearby", "maximum_matching"]


@njit
def columns_nearby(
    rows_yx: NDArray[np.int64], index: NDArray[np.int32], dy: NDArray[np.int64], dx: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Look up what lies at given offsets from each row's place.

    Parameters
    ----------
    rows_yx : ndarray of shape (N, 2), int64
        Places in ``index``, far enough from its border for all offsets.
    index : ndarray of shape (H, W), int32
        The number of the column at each place, -1 for none.
    dy, dx : ndarray of shape (D,), int64
        Offsets, the preferred ones first.

    Returns
    -------
    ndarray of shape (N, up to D), int32
        The columns at the offsets, -1 for none; offsets at which no row has one are left out at the end.
    """
    out = np.full((rows_yx.shape[0], dy.shape[0]), -1, np.int32)
    widest = 0
    for row in range(rows_yx.shape[0]):
        y, x = rows_yx[row]
        for d in range(dy.shape[0]):
            out[row, d] = index[y + dy[d], x + dx[d]]
            if out[row, d] >= 0:
                widest = max(widest, d + 1)
    return out[:, :widest].copy()


@njit
def maximum_matching(neighbours: NDArray[np.int32], n_columns: int) -> NDArray[np.int32]:
    """Match as many rows as possible, each to one column of its own.

    Parameters
    ----------
    neighbours : ndarray of shape (N, D), int32
        The columns that each row may take, the preferred ones first; -1 for none.
    n_columns : int
        How many columns there are.

    Returns
    -------
    ndarray of shape (N,), int32
        The column of each row, or -1.

    Notes
    -----
    Greedy first, then depth-first search for augmenting paths in phases (Hopcroft and Karp's idea without layers): in
    a phase a row that was visited in vain is not visited again.
    """
    n, degree = neighbours.shape
    column_of = np.full(n, -1, np.int32)
    row_of = np.full(n_columns, -1, np.int32)
    for d in range(degree):
        for row in range(n):
            column = neighbours[row, d]
            if column >= 0 and column_of[row] < 0 and row_of[column] < 0:
                column_of[row] = column
                row_of[column] = row
    visited = np.zeros(n, np.bool_)
    stack = np.empty(n + 1, np.int32)
    edge = np.empty(n + 1, np.int32)  # the next edge to try of each row on the stack
    improved = True
    while improved:
        improved = False
        visited[:] = False
        for start in range(n):
            if column_of[start] >= 0 or visited[start]:
                continue
            depth = 0
            stack[0], edge[0] = start, 0
            visited[start] = True
            while depth >= 0:
                row = stack[depth]
                if edge[depth] == degree:
                    depth -= 1
                    continue
                column = neighbours[row, edge[depth]]
                edge[depth] += 1
                if column < 0:
                    continue
                owner = row_of[column]
                if owner < 0:
                    while depth >= 0:  # hand each row on the path the column it was trying
                        row = stack[depth]
                        column = neighbours[row, edge[depth] - 1]
                        column_of[row] = column
                        row_of[column] = row
                        depth -= 1
                    improved = True
                elif not visited[owner]:
                    visited[owner] = True
                    depth += 1
                    stack[depth], edge[depth] = owner, 0
    return column_of
