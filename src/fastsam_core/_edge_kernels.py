"""Compiled: gradients of mask probabilities along the outlines of masks, all masks in one map."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastsam_core._jit import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["outline_gradients"]


@njit
def outline_gradients(
    prototypes: NDArray[np.float32],
    coefficients: NDArray[np.float32],
    windows_xyxy: NDArray[np.int32],
    logit_thresholds: NDArray[np.float32],
    summed: bool,
) -> NDArray[np.float32]:
    """Combine the Sobel magnitudes of all masks' probabilities, each kept only along the mask's own outline.

    Parameters
    ----------
    prototypes : ndarray of shape (k, ph, pw), float32
    coefficients : ndarray of shape (N, k), float32
    windows_xyxy : ndarray of shape (N, 4), int32
        The prototype cells of each box, half-open; probabilities outside are not looked at, except for one cell around.
    logit_thresholds : ndarray of shape (N,), float32
        What is above belongs to the mask; probabilities are taken of the logits less this, so that outlines are at 0.5.
    summed : bool
        Add masks up, or take the strongest at each cell.

    Returns
    -------
    ndarray of shape (ph, pw), float32
    """
    n_prototypes, height, width = prototypes.shape
    out = np.zeros((height, width), np.float32)
    for mask in range(coefficients.shape[0]):
        x0, y0, x1, y1 = windows_xyxy[mask]
        if x0 >= x1 or y0 >= y1:
            continue
        # one more cell on each side; the map's own border is repeated, so that it is no outline
        limit = logit_thresholds[mask]
        probability = np.zeros((y1 - y0 + 2, x1 - x0 + 2), np.float32)
        for k in range(n_prototypes):
            coefficient = coefficients[mask, k]
            for row in range(probability.shape[0]):
                y = min(max(y0 - 1 + row, 0), height - 1)
                for column in range(probability.shape[1]):
                    x = min(max(x0 - 1 + column, 0), width - 1)
                    probability[row, column] += coefficient * prototypes[k, y, x]
        for row in range(probability.shape[0]):
            for column in range(probability.shape[1]):
                probability[row, column] = 1 / (1 + math.exp(limit - probability[row, column]))
        for row in range(1, probability.shape[0] - 1):
            for column in range(1, probability.shape[1] - 1):
                inside = 0
                for dy in range(-1, 2):
                    for dx in range(-1, 2):
                        inside += probability[row + dy, column + dx] > 0.5
                if inside == 0 or inside == 9:
                    continue
                p = probability[row - 1 : row + 2, column - 1 : column + 2]
                gx = (p[0, 2] + 2 * p[1, 2] + p[2, 2] - p[0, 0] - 2 * p[1, 0] - p[2, 0]) / 4
                gy = (p[2, 0] + 2 * p[2, 1] + p[2, 2] - p[0, 0] - 2 * p[0, 1] - p[0, 2]) / 4
                value = math.sqrt(gx * gx + gy * gy)
                y, x = y0 + row - 1, x0 + column - 1
                if summed:
                    out[y, x] += value
                else:
                    out[y, x] = max(out[y, x], value)
    return out
