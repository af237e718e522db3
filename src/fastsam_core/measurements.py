"""Shape measurements of masks, computed from their runs: the time goes with the outline, not with the area."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fastsam_core._jit import njit
from fastsam_core.masks import check_masks

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastsam_core.masks import Masks

    FloatArray = npt.NDArray[np.float64]

__all__ = ["measure"]

#: Scores and what is counted; the shape columns follow.
_COUNTED: Final = ("label", "score", "area_px", "y_start", "x_start", "y_stop", "x_stop")


def measure(masks: Masks) -> dict[str, npt.NDArray[Any]]:
    """Measure the shape of every mask (overlaps do not matter: each is measured whole).

    Parameters
    ----------
    masks : Masks
        N masks.

    Returns
    -------
    dict of str to ndarray of length N
        In pixels unless the name says otherwise; shape columns are NaN for an empty mask.

        - ``label``: as in the label map, from 1; ``score``; ``area_px``.
        - ``y_start``, ``x_start``, ``y_stop``, ``x_stop``: the tight half-open box.
        - ``centroid_y``, ``centroid_x``: mean of the pixel indices, as in ``skimage.measure.regionprops``.
        - ``equivalent_diameter_px``: of the disc of equal area.
        - ``axis_major_px``, ``axis_minor_px``, ``eccentricity``, ``orientation_rad``: of the ellipse with equal second
          moments, as in ``regionprops``; the angle is between the row axis and the major axis, in (-π/2, π/2].
        - ``perimeter_px``: Cauchy-Crofton in four directions, as ``skimage.measure.perimeter_crofton``.
        - ``solidity``: area over that of the convex hull of the pixels taken as squares, in (0, 1].
        - the masks' own extra fields.

    Raises
    ------
    InvalidMasksError
        These are no masks.
    """
    check_masks(masks, "measure")
    extents = masks.extents_xyxy.astype(np.int64)
    columns: dict[str, npt.NDArray[Any]] = {
        "label": np.arange(1, len(masks) + 1),
        "score": masks.scores.astype(np.float64),
        "area_px": masks.areas_px,
        **{name: extents[:, axis] for name, axis in zip(_COUNTED[3:], (1, 0, 3, 2), strict=True)},
    }
    empty = masks.areas_px == 0
    shapes = {**_moments(masks), "perimeter_px": _perimeters(masks), "solidity": _solidities(masks)}
    columns |= {name: np.where(empty, np.nan, column) for name, column in shapes.items()}
    return columns | {name: column for name, column in masks.fields.items() if name not in columns}


def _moments(masks: Masks) -> dict[str, FloatArray]:
    """Sum over the pixels of each mask up to second order, and describe the ellipse of equal sums."""
    count = len(masks)
    owner = np.repeat(np.arange(count), np.diff(masks.offsets))
    area = np.maximum(masks.areas_px, 1).astype(np.float64)
    # relative to the middle of the box, where squares of coordinates lose no digits
    middle = (masks.extents_xyxy[:, :2] + masks.extents_xyxy[:, 2:]) // 2
    y = (masks.runs[:, 0] - middle[owner, 1]).astype(np.float64)
    first = (masks.runs[:, 1] - middle[owner, 0]).astype(np.float64)
    length = (masks.runs[:, 2] - masks.runs[:, 1]).astype(np.float64)
    centre = first + (length - 1) / 2
    spread = length * (length**2 - 1) / 12  # sum of squared distances from the run's centre

    def total(values: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(owner, weights=values, minlength=count), dtype=np.float64)

    mean_y, mean_x = total(length * y) / area, total(length * centre) / area
    var_y = total(length * y**2) / area - mean_y**2
    var_x = total(length * centre**2 + spread) / area - mean_x**2
    covariance = total(length * y * centre) / area - mean_y * mean_x
    root = np.hypot(var_y - var_x, 2 * covariance)
    major, minor = np.maximum((var_y + var_x + root) / 2, 0), np.maximum((var_y + var_x - root) / 2, 0)
    # regionprops' convention: 0 is along the rows' axis (downwards), and a shape without direction has -π/4 or π/4
    direction = 0.5 * np.arctan2(2 * covariance, var_y - var_x)
    directed = np.where(var_y == var_x, np.where(covariance < 0, -np.pi / 4, np.pi / 4), direction)
    return {
        "centroid_y": mean_y + middle[:, 1],
        "centroid_x": mean_x + middle[:, 0],
        "equivalent_diameter_px": np.sqrt(4 * area / np.pi),
        "axis_major_px": 4 * np.sqrt(major),
        "axis_minor_px": 4 * np.sqrt(minor),
        "eccentricity": np.sqrt(1 - np.divide(minor, major, out=np.ones(count), where=major > 0)),
        "orientation_rad": directed,
    }


def _perimeters(masks: Masks) -> FloatArray:
    """Count how often lines in four directions cross the outline, and weigh by their distance (Cauchy-Crofton)."""
    runs, offsets = masks.runs, masks.offsets
    across = np.diff(offsets)
    down, falling, rising = (masks.areas_px - _pairs_with_next_row(runs, offsets, step) for step in (0, 1, -1))
    crossings: FloatArray = across + down + (falling + rising) / np.sqrt(2)
    return np.pi / 4 * crossings


@njit
def _pairs_with_next_row(
    runs: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64], step: int
) -> npt.NDArray[np.int64]:
    """Count for each mask its pixels (y, x) with (y + 1, x + step) in the mask too."""
    pairs = np.zeros(len(offsets) - 1, np.int64)
    for mask in range(len(pairs)):
        low = offsets[mask]
        for run in range(offsets[mask], offsets[mask + 1]):
            y, start, stop = runs[run, 0], runs[run, 1] + step, runs[run, 2] + step
            while low < offsets[mask + 1] and (runs[low, 0] <= y or (runs[low, 0] == y + 1 and runs[low, 2] <= start)):
                low += 1
            below = low
            while below < offsets[mask + 1] and runs[below, 0] == y + 1 and runs[below, 1] < stop:
                pairs[mask] += min(stop, runs[below, 2]) - max(start, runs[below, 1])
                below += 1
    return pairs


def _solidities(masks: Masks) -> FloatArray:
    from scipy.spatial import ConvexHull

    solidities = np.ones(len(masks))
    for mask in np.flatnonzero(masks.areas_px):
        runs = masks.runs[masks.offsets[mask] : masks.offsets[mask + 1]].astype(np.float64)
        rows = np.flatnonzero(np.diff(runs[:, 0], prepend=-1))  # first run of each row
        last = np.append(rows[1:], len(runs)) - 1
        y, left, right = runs[rows, 0], runs[rows, 1], runs[last, 2]
        corners = np.concatenate([np.stack([x, v], axis=1) for x in (left, right) for v in (y, y + 1)])
        solidities[mask] = min(1.0, masks.areas_px[mask] / ConvexHull(corners).volume)
    return solidities
