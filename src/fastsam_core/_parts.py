"""Masks of a part of a plane that was segmented by itself, taken into the whole plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastsam_core.masks import Masks

__all__ = ["Region", "is_sure", "new_among", "whole_in"]

Region = tuple[int, int, int, int]
"""Rows and columns (y0, y1, x0, x1) of a plane, half-open."""

_SAME_IOU = 0.7
"""Masks that overlap more are the same object."""


def whole_in(masks: Masks, region: Region, plane_hw: tuple[int, int]) -> Masks:
    """Move masks of a part into the plane, without empty ones and those that the part's border cuts."""
    y0, y1, x0, x1 = region
    height, width = plane_hw
    boxes = masks.extents_xyxy
    whole = (
        ((boxes[:, 0] > 0) | (x0 == 0))
        & ((boxes[:, 1] > 0) | (y0 == 0))
        & ((boxes[:, 2] < x1 - x0) | (x1 == width))
        & ((boxes[:, 3] < y1 - y0) | (y1 == height))
    )
    return masks[whole & (masks.areas_px > 0)].placed((y0, x0), plane_hw)


def is_sure(masks: Masks, conf: float) -> NDArray[np.bool_]:
    """Tell which masks are shown without being asked for, bool (N,): those of this score or more."""
    return masks.scores >= np.float32(conf)


def new_among(found: Masks, known: Masks, conf: float) -> NDArray[np.bool_]:
    """Tell which of the masks that were found are not among the known ones, bool (N,).

    A mask that is sure now counts as new where it was known as a faint one: below `conf`.
    """
    sure = is_sure(found, conf)
    new = np.zeros(len(found), bool)
    new[sure] = _not_among(found[sure], known[is_sure(known, conf)])
    new[~sure] = _not_among(found[~sure], known)
    return new


def _not_among(found: Masks, known: Masks) -> NDArray[np.bool_]:
    """Tell which of the masks that were found overlap none of the known ones enough to be the same, bool (N,)."""
    boxes, others = known.extents_xyxy, found.extents_xyxy
    if not len(boxes) or not len(others):
        return np.ones(len(found), bool)
    low, high = others[:, :2].min(axis=0), others[:, 2:].max(axis=0)
    near = ((boxes[:, :2] < high) & (boxes[:, 2:] > low)).all(axis=1)
    return np.asarray((found.iou(known[near]) <= _SAME_IOU).all(axis=1))
