"""Masks cut out as two other programs do it, for comparison and as an oracle in tests.

Both score the pictures one by one and return the mask of highest similarity. Both leave out masks of up to 100 pixels;
the paper's repository then takes the number among those left for the number of the mask, which gives a wrong mask as
soon as one was left out. Here every mask is scored and numbers stay what they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from fastsam_core.masks import Masks
    from fastsam_core.text.crops import Pixels

__all__ = ["BACKGROUNDS", "picture"]

BACKGROUNDS: Final = ("fastsam", "ultralytics")


def picture(image_rgb8: Pixels, masks: Masks, index: int, background: str) -> Any:
    """Return a PIL image of one mask.

    ``"fastsam"``: CASIA-IVA-Lab/FastSAM, ``_segment_image`` in ``fastsam/prompt.py``: the box of the mask on a white
    page of the image's size. ``"ultralytics"``: ``FastSAMPredictor.prompt`` of ultralytics 8.4: the detector's box
    with everything outside the mask black; a box that is empty once cut to whole pixels is replaced by the mask's own.
    """
    from PIL import Image

    if background == "fastsam":
        x0, y0, x1, y1 = masks.extents_xyxy[index].tolist()
        page = np.full(image_rgb8.shape, 255, np.uint8)
        page[y0:y1, x0:x1] = image_rgb8[y0:y1, x0:x1]
        return Image.fromarray(page)
    x0, y0, x1, y1 = masks.boxes_xyxy[index].astype(int).clip(0).tolist()
    if x1 <= x0 or y1 <= y0:
        x0, y0, x1, y1 = masks.extents_xyxy[index].tolist()
    inside = np.zeros((y1 - y0, x1 - x0, 1), bool)
    left, top, right, bottom = masks.extents_xyxy[index].tolist()
    u0, v0, u1, v1 = max(x0, left), max(y0, top), min(x1, right), min(y1, bottom)
    if u1 > u0 and v1 > v0:
        crop = masks.crop(index)
        inside[v0 - y0 : v1 - y0, u0 - x0 : u1 - x0, 0] = crop[v0 - top : v1 - top, u0 - left : u1 - left]
    return Image.fromarray(image_rgb8[y0:y1, x0:x1] * inside)
