"""What can be said of every mask at once, fast enough for sliders: columns of numbers, and limits on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastsam_core.masks import check_masks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from fastsam_core.masks import Masks

__all__ = ["inside_limits", "measure_columns", "reached", "shown"]


def measure_columns(
    masks: Masks, values: NDArray[Any] | None = None, offset_yx: tuple[int, int] = (0, 0)
) -> dict[str, NDArray[np.float64]]:
    """Measure masks from their runs; a few milliseconds for hundreds of masks.

    Parameters
    ----------
    masks : Masks
        N masks.
    values : ndarray of shape (h, w), optional
        The image's own values, of the whole image or a part of it; without them ``intensity`` is NaN.
    offset_yx : tuple of int
        Where `values` begins in the image.

    Returns
    -------
    dict of str to float64 ndarray of shape (N,)
        ``confidence`` (0 to 1), ``area_px``, ``solidity`` (area divided by that of the convex hull of the pixel
        squares, 0 to 1), ``intensity`` (mean of the finite values inside), ``y``, ``x`` (centre of the box, pixels).
    """
    from fastsam_core._jit import compilable
    from fastsam_core._measure_kernels import hull_areas, run_means

    check_masks(masks, "measure")
    boxes = masks.extents_xyxy
    if values is None:
        intensity = np.full(len(masks), np.nan)
    else:
        part = masks.placed((-offset_yx[0], -offset_yx[1]), (values.shape[0], values.shape[1]))
        intensity = run_means(part.runs, part.offsets, np.ascontiguousarray(compilable(values)))
    return {
        "confidence": masks.scores.astype(np.float64),
        "area_px": masks.areas_px.astype(np.float64),
        "solidity": masks.areas_px / np.maximum(hull_areas(masks.runs, masks.offsets), 1),
        "intensity": intensity,
        "y": (boxes[:, 1] + boxes[:, 3]) / 2,
        "x": (boxes[:, 0] + boxes[:, 2]) / 2,
    }


def inside_limits(
    columns: Mapping[str, NDArray[np.float64]], limits: Mapping[str, tuple[float, float]]
) -> NDArray[np.bool_]:
    """Tell which rows lie inside all limits, both ends included; a value that was not measured (NaN) passes."""
    passed = np.ones(len(next(iter(columns.values()))), bool)
    for name, (low, high) in limits.items():
        passed &= ~((columns[name] < low) | (columns[name] > high))
    return passed


def shown(
    columns: Mapping[str, NDArray[np.float64]], limits: Mapping[str, tuple[float, float]], conf: float
) -> NDArray[np.bool_]:
    """Tell which rows are shown: inside all limits, and from `conf` on as long as the confidence has no limits."""
    return inside_limits(columns, {"confidence": (float(np.float32(conf)), np.inf), **limits})


def reached(columns: Mapping[str, NDArray[np.float64]], limits: Mapping[str, tuple[float, float]]) -> NDArray[np.bool_]:
    """Tell among which rows prompts for one object choose: inside all limits but those on the confidence."""
    return inside_limits(columns, {name: pair for name, pair in limits.items() if name != "confidence"})
