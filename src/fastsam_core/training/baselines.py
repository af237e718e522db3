"""Classical segmentation from scikit-image: what the built-in model is measured against.

Photographs: Felzenszwalb's graph-based regions (IJCV 2004) at several scales, merged. Microscopy: Otsu's threshold,
then a watershed on the distance transform that separates touching objects. Neither has scores: regions are ranked by
area (which gave them a higher recall than contrast), objects by how much they stand out from what surrounds them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from fastsam_core._windows import drop_duplicates
from fastsam_core.masks import Masks

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["BASELINES", "felzenszwalb_masks", "watershed_masks"]

_SCALES: Final = (100, 400, 1600)
_SAME_IOU: Final = 0.85
"""Regions of several scales that overlap by more than this are one."""
_LEAST_PX: Final = 20
_LEAST_REGION_PX: Final = 60


def felzenszwalb_masks(rgb8: NDArray[np.uint8]) -> Masks:
    """Segment a photograph at three scales and keep every region once.

    Parameters
    ----------
    rgb8 : ndarray of uint8, shape (H, W, 3)

    Returns
    -------
    Masks
        Largest first.
    """
    from skimage.segmentation import felzenszwalb

    image = rgb8.astype(np.float64) / 255
    labels = [felzenszwalb(image, scale=scale, sigma=0.8, min_size=_LEAST_REGION_PX) + 1 for scale in _SCALES]
    regions = Masks.concatenate([Masks.from_label_map(found) for found in labels])
    share = regions.areas_px / (rgb8.shape[0] * rgb8.shape[1])
    return drop_duplicates(replace(regions, scores=share.astype(np.float32)), _SAME_IOU)


def watershed_masks(rgb8: NDArray[np.uint8]) -> Masks:
    """Separate objects of a microscope image from a smooth background, whichever of the two is brighter.

    Parameters
    ----------
    rgb8 : ndarray of uint8, shape (H, W, 3)

    Returns
    -------
    Masks
        Best contrast first. Of both signs of contrast the one is taken whose objects cover less of the border.
    """
    from scipy import ndimage
    from skimage.feature import peak_local_max
    from skimage.filters import gaussian, threshold_otsu
    from skimage.morphology import remove_small_objects
    from skimage.segmentation import watershed

    gray = gaussian(rgb8.mean(axis=2), 1.0, preserve_range=True)
    threshold = threshold_otsu(gray) if np.ptp(gray) > 0 else np.inf
    inside = gray > threshold
    border = np.concatenate([inside[0], inside[-1], inside[:, 0], inside[:, -1]])
    if border.mean() > 0.5:
        inside = ~inside
    inside = ndimage.binary_fill_holes(remove_small_objects(inside, max_size=_LEAST_PX))
    distance = gaussian(ndimage.distance_transform_edt(inside), 1.0, preserve_range=True)
    parts, _ = ndimage.label(inside)
    peaks = peak_local_max(distance, min_distance=5, labels=parts, exclude_border=False)
    markers = np.zeros(gray.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    masks = Masks.from_label_map(watershed(-distance, markers, mask=inside).astype(np.int32))
    return _ranked(masks[masks.areas_px >= _LEAST_PX], rgb8)


BASELINES: Final[dict[str, Callable[[NDArray[np.uint8]], Masks]]] = {
    "felzenszwalb": felzenszwalb_masks,
    "watershed": watershed_masks,
}
"""Name -> segmentation of an image (H, W, 3), uint8."""


def _ranked(masks: Masks, rgb8: NDArray[np.uint8]) -> Masks:
    """Score masks by the difference of mean colour between them and the rest of a window around them, in [0, 1]."""
    height, width = masks.image_hw
    scores = np.zeros(len(masks), np.float32)
    for index, (crop, extent) in enumerate(zip(masks.crops(), masks.extents_xyxy.tolist(), strict=True)):
        margin = max(2, round(0.15 * max(crop.shape)))
        x0, y0 = max(extent[0] - margin, 0), max(extent[1] - margin, 0)
        x1, y1 = min(extent[2] + margin, width), min(extent[3] + margin, height)
        inside = np.zeros((y1 - y0, x1 - x0), bool)
        inside[extent[1] - y0 : extent[3] - y0, extent[0] - x0 : extent[2] - x0] = crop
        window = rgb8[y0:y1, x0:x1].astype(np.float32)
        if not inside.all():
            scores[index] = np.abs(window[inside].mean(axis=0) - window[~inside].mean(axis=0)).max() / 255
    return Masks(masks.image_hw, masks.boxes_xyxy, scores, masks.runs, masks.offsets).sort()
