"""Decoding with NumPy alone, pixel by pixel: the plain form that the kernels must equal, and logits as images.

Sums run in the same order and precision as in :mod:`fastsam_core._decode_kernels`, so both give the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastsam_core._upsampling import plan_axes

if TYPE_CHECKING:
    from fastsam_core._upsampling import KnotAxis
    from fastsam_core.network import Prediction

__all__ = ["count_cells", "decode_runs", "mask_logits"]

Float32Array = npt.NDArray[np.float32]

_LIMIT = np.float32(1e30)
_CHUNK_PX = 1 << 20


def decode_runs(
    prototypes: Float32Array,
    coefficients: Float32Array,
    windows_xyxy: npt.NDArray[np.int32],
    logit_thresholds: Float32Array,
    y_axis: KnotAxis,
    x_axis: KnotAxis,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Decode masks to row runs; parameters and results as in :func:`fastsam_core._decode_kernels.decode_runs`."""
    pieces: list[npt.NDArray[np.int32]] = [np.empty((0, 3), dtype=np.int32)]
    counts = np.zeros(len(coefficients) + 1, dtype=np.int64)
    for i, (x0, y0, x1, y1) in enumerate(windows_xyxy.tolist()):
        if x0 >= x1 or y0 >= y1:
            continue
        rows = max(_CHUNK_PX // (x1 - x0), 1)
        for top in range(y0, y1, rows):
            window = (x0, top, x1, min(top + rows, y1))
            logits = _pixel_logits(prototypes, coefficients[i], window, logit_thresholds[i], y_axis, x_axis)
            runs = _runs_of(logits > 0)
            pieces.append(runs + np.array((top, x0, x0), dtype=np.int32))
            counts[i + 1] += len(runs)
    return np.concatenate(pieces), np.cumsum(counts)


def mask_logits(prediction: Prediction, index: int) -> tuple[Float32Array, tuple[int, int]]:
    """Return the logits (h, w) of one mask inside its box, which holds a pixel, and their first row and column."""
    height, width = prediction.letterbox.source_hw
    x0, y0, x1, y1 = np.clip(np.ceil(prediction.boxes_xyxy[index]), 0, (width, height, width, height)).astype(int)
    axes = plan_axes(prediction.prototypes.shape[1:], (height, width))
    coefficients = prediction.coefficients[index]
    return _pixel_logits(prediction.prototypes, coefficients, (x0, y0, x1, y1), np.float32(0), *axes), (y0, x0)


def _pixel_logits(
    prototypes: Float32Array,
    coefficients: Float32Array,
    window_xyxy: tuple[int, int, int, int],
    logit_threshold: np.float32,
    y_axis: KnotAxis,
    x_axis: KnotAxis,
) -> Float32Array:
    """Logits, less the threshold, of the pixels in a window that is not empty: float32 (h, w)."""
    x0, y0, x1, y1 = window_xyxy
    knot_y, knot_x = y_axis.pixel_knots[y0:y1], x_axis.pixel_knots[x0:x1]
    ys, xs = np.arange(knot_y[0], knot_y[-1] + 2), np.arange(knot_x[0], knot_x[-1] + 2)
    cells_y, cells_x = y_axis.knot_cells[ys], x_axis.knot_cells[xs]
    top, left = int(cells_y.min()), int(cells_x.min())
    cells = _window_logits(
        prototypes, coefficients, (left, top, int(cells_x.max()) + 1, int(cells_y.max()) + 1), logit_threshold
    )
    wide = _blend(cells, cells_x.T - left, x_axis.knot_weights[xs], axis=1)
    knots = _blend(wide, cells_y.T - top, y_axis.knot_weights[ys], axis=0)
    first_y, first_x = knot_y - knot_y[0], knot_x - knot_x[0]
    rows = _blend(knots, np.stack([first_y, first_y + 1]), y_axis.pixel_weights[y0:y1], axis=0)
    return _blend(rows, np.stack([first_x, first_x + 1]), x_axis.pixel_weights[x0:x1], axis=1)


def count_cells(
    prototypes: Float32Array,
    coefficients: Float32Array,
    windows_xyxy: npt.NDArray[np.int32],
    logit_thresholds: Float32Array,
) -> npt.NDArray[np.int64]:
    """Count the prototype cells of each window (N, 4) whose logit is above each of its thresholds (N, T)."""
    counts = np.zeros(logit_thresholds.shape, dtype=np.int64)
    for i, (x0, y0, x1, y1) in enumerate(windows_xyxy.tolist()):
        if x0 < x1 and y0 < y1:
            logits = _window_logits(prototypes, coefficients[i], (x0, y0, x1, y1), np.float32(0))
            counts[i] = [np.count_nonzero(logits > threshold) for threshold in logit_thresholds[i]]
    return counts


def _window_logits(
    prototypes: Float32Array,
    coefficients: Float32Array,
    window_xyxy: tuple[int, int, int, int],
    logit_threshold: np.float32,
) -> Float32Array:
    x0, y0, x1, y1 = window_xyxy
    logits = np.zeros((y1 - y0, x1 - x0), dtype=np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        for weight, prototype in zip(coefficients, prototypes[:, y0:y1, x0:x1], strict=True):
            logits += weight * prototype
        logits -= logit_threshold
    logits[~(np.abs(logits) < _LIMIT)] = -_LIMIT
    return logits


def _blend(values: Float32Array, pair: npt.NDArray[np.integer], weights: Float32Array, axis: int) -> Float32Array:
    near, far = values.take(pair[0], axis=axis), values.take(pair[1], axis=axis)
    blended: Float32Array = near + (weights[:, None] if axis == 0 else weights) * (far - near)
    return blended


def _runs_of(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Find the runs (y, x_start, x_stop) of a boolean array (h, w)."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).view(np.int8), axis=1)
    ys, starts = np.nonzero(edges == 1)
    stops = np.nonzero(edges == -1)[1]
    return np.stack([ys, starts, stops], axis=1).astype(np.int32)
