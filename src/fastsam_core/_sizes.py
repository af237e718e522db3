"""Test sizes: how large an image is shown to the network, and a further size where the objects ask for it.

A detector finds objects best at the sizes, in pixels of its input, that it was trained on (Touvron et al. 2019,
arXiv 1906.06423). Small nuclei in a large image want a larger input, things that fill the picture a smaller one. One
pass tells how large the objects are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from fastsam_core.masks import Masks

__all__ = ["further_size"]

_SMALL_PX: Final = 24.0
_LARGE_SHARE: Final = 0.35
_WANTED_PX: Final = 40.0
_MOST_TIMES: Final = 2.0
_MULTIPLE_PX: Final = 32
_SMALLEST_PX: Final = 256


def further_size(masks: Masks, imgsz: int) -> int | None:
    """Return another test size at which the objects found would have a better size, or None if they have.

    Parameters
    ----------
    masks : Masks
        What was found at ``imgsz``.
    imgsz : int
        Longer side of the network's input, pixels.

    Returns
    -------
    int or None
        Up to twice ``imgsz`` where the median object is less than 24 px across in the network's input, so that it comes
        to 40 px; half of it where the median object takes more than a third of the longer side, or nothing was found.
    """
    if not len(masks):
        return _half(imgsz)
    side_px = float(np.median(np.sqrt(masks.areas_px))) * imgsz / max(masks.image_hw)
    if side_px < _SMALL_PX:
        times = min(_WANTED_PX / max(side_px, 1.0), _MOST_TIMES)
        return round(imgsz * times / _MULTIPLE_PX) * _MULTIPLE_PX
    return _half(imgsz) if side_px > _LARGE_SHARE * imgsz else None


def _half(imgsz: int) -> int | None:
    half = round(imgsz / 2 / _MULTIPLE_PX) * _MULTIPLE_PX
    return half if half >= _SMALLEST_PX else None
