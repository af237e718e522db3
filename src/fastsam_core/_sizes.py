"""Test sizes: how large an image is shown to the network, and a further size where the objects ask for it.

A detector finds objects best at the sizes, in pixels of its input, that it was trained on (Touvron et al. 2019,
arXiv 1906.06423). Small nuclei in a large image want a larger input, things that fill the picture a smaller one. One
pass tells how large the objects are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastsam_core.masks import Masks

__all__ = ["sizes_after_first", "well_seen"]

_SMALL_PX: Final = 32.0
_WANTED_PX: Final = 50.0
"""Objects narrower than the first, in pixels of the network's input, should come to the second."""
_TIMES: Final = (1.6, 2.0)
"""Two larger sizes and no more, because networks are compiled for each size."""
_ENLARGED: Final = 2.0
"""How many times as large as the image a larger size may be: beyond, there is nothing more to see, and texture falls to
pieces."""
_LARGE_SHARE: Final = 0.35
"""Objects that take more of the longer side fill the image."""
_SAME_SIZE: Final = 0.2
"""A further size that differs from one used already by less than this share is not worth a pass."""
_MULTIPLE_PX: Final = 32
_SMALLEST_PX: Final = 256


def sizes_after_first(masks: Masks, sizes: Sequence[int]) -> list[int]:
    """Return the test sizes at which to go on, after what was found at the first.

    Parameters
    ----------
    masks : Masks
        What was surely found at the first size.
    sizes : sequence of int
        The model's own sizes: longer side of the network's input, pixels.

    Returns
    -------
    list of int
        The model's other sizes; before them a larger one, 1.6 times or twice the first but at most twice the image's,
        where the median object is less than 32 px across in the network's input; after them half the first, if the
        median object takes more than a third of the longer side, or nothing was found.
    """
    first, *others = sizes
    if not len(masks):
        return [*others, *_half(sizes)]
    long_px = max(masks.image_hw)
    side_px = float(np.median(np.sqrt(masks.areas_px))) * first / long_px
    larger = [round(first * times / _MULTIPLE_PX) * _MULTIPLE_PX for times in _TIMES]
    larger = [size for size in larger if size <= _ENLARGED * long_px and _is_new(size, sizes)]
    if side_px < _SMALL_PX and larger:
        wanted = first * _WANTED_PX / max(side_px, 1.0)
        return [min(larger, key=lambda size: abs(size - wanted)), *others]
    return [*others, *_half(sizes)] if side_px > _LARGE_SHARE * first else others


def well_seen(masks: Masks, imgsz: int) -> Masks:
    """Leave out objects that are small in the network's input, of which a larger input shows more.

    Parameters
    ----------
    masks : Masks
        What was found at ``imgsz``.
    imgsz : int
        Longer side of the network's input, pixels.

    Returns
    -------
    Masks
        Those of at least 32 x 32 pixels of the network's input.
    """
    return masks.filter(min_area_px=(_SMALL_PX * max(masks.image_hw) / imgsz) ** 2)


def _half(sizes: Sequence[int]) -> list[int]:
    half = round(sizes[0] / 2 / _MULTIPLE_PX) * _MULTIPLE_PX
    return [half] if half >= _SMALLEST_PX and _is_new(half, sizes) else []


def _is_new(size: int, sizes: Sequence[int]) -> bool:
    return all(abs(size - other) > _SAME_SIZE * other for other in sizes)
