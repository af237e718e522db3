"""YOLO's form of a mask: one line, one polygon. Parts are joined by thin bridges, holes are lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastsam_core._ultralytics import import_ultralytics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastsam_core.masks import Masks

__all__ = ["polygon_lines"]

_TOLERANCE_PX = 0.5
_SMALLEST_PART = 0.02
"""Further parts of a mask below this fraction of the largest one's area are left out of its polygon."""


def polygon_lines(masks: Masks) -> tuple[list[str], int]:
    """Write masks as lines of a YOLO-seg label file.

    Parameters
    ----------
    masks : Masks
        None of them empty.

    Returns
    -------
    lines : list of str
        ``0 x y x y …``, relative to the image, one for each mask.
    with_holes : int
        Masks that lost a hole.
    """
    scale = np.array([masks.image_hw[1], masks.image_hw[0]], np.float64)
    lines: list[str] = []
    with_holes = 0
    for crop, extent in zip(masks.crops(), masks.extents_xyxy, strict=True):
        outline, has_hole = _outline(crop)
        with_holes += has_hole
        points = np.clip((outline + extent[:2]) / scale, 0, 1)
        lines.append("0 " + " ".join(f"{value:.6g}" for value in points.ravel()))
    return lines, with_holes


def _outline(crop: NDArray[np.bool_]) -> tuple[NDArray[np.float64], bool]:
    """Trace the outer outline of a mask a quarter of a pixel inside its edge, (K, 2) as x and y of the crop."""
    import cv2

    doubled = np.repeat(np.repeat(crop.view(np.uint8), 2, axis=0), 2, axis=1)  # so that one pixel has an area, too
    rings, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    outer = [ring for ring, parent in zip(rings, hierarchy[0, :, 3], strict=True) if parent < 0]
    areas = np.array([cv2.contourArea(ring) for ring in outer])
    parts = [ring for ring, area in zip(outer, areas, strict=True) if area >= _SMALLEST_PART * areas.max()]
    simple = [cv2.approxPolyDP(ring, 2 * _TOLERANCE_PX, closed=True) for ring in parts]
    whole = [
        np.asarray(short if len(short) > 2 else ring, np.float64)[:, 0] / 2 + 0.25
        for short, ring in zip(simple, parts, strict=True)
    ]
    has_hole = len(outer) < len(rings)
    if len(whole) == 1:
        return whole[0], has_hole
    merge = import_ultralytics("ultralytics.data.converter").merge_multi_segment
    return np.concatenate(merge([part.ravel().tolist() for part in whole])), has_hole
