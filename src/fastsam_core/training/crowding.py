"""Copies of cells set beside others: touching pairs whose common border is known exactly.

Copy-paste (Ghiasi et al. 2021, arXiv 2012.07177) for microscopy: nuclei that touch are what instance segmentation of
cells most often gets wrong, and few of them are in any training set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from scipy import ndimage

from fastsam_core.training.geometric import PAD_VALUE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastsam_core.training.sources import LabelledImage

__all__ = ["crowd"]

_HALO_PX: Final = 3
_LEAST_PX: Final = 40
_MOST_SHARE: Final = 0.06
"""Of the picture."""
_LEAST_FILL: Final = 0.35
"""Of its box; what fills less is a fragment or a net."""
_MOST_PADDING: Final = 0.3
_MOST_HIDDEN: Final = 0.4
"""A copy is left out where more of it would lie on other instances."""


def crowd(sample: LabelledImage, rng: np.random.Generator, copies: int) -> None:
    """Set copies of a sample's instances beside others of its instances (in place).

    Bright things are joined by the lighter pixel and dark ones by the darker, so that halos add no seam.

    Parameters
    ----------
    sample : LabelledImage
        Its first layer is what is copied.
    rng : numpy.random.Generator
        Chooses what is copied and where to.
    copies : int
        So many at most.
    """
    labels = sample.layers[0]
    height, width = labels.shape
    whole: list[tuple[int, tuple[slice, slice]]] = []
    for number, window in enumerate(ndimage.find_objects(labels.astype(np.int32)), start=1):
        if window is None:
            continue
        rows, columns = window
        inner = rows.start >= _HALO_PX and columns.start >= _HALO_PX
        inner &= rows.stop <= height - _HALO_PX and columns.stop <= width - _HALO_PX
        inside = labels[window] == number
        if not inner or not _LEAST_PX <= inside.sum() <= _MOST_SHARE * labels.size or inside.mean() < _LEAST_FILL:
            continue
        if not _padded(sample.image[_grown(window)]):
            whole.append((number, window))
    if len(whole) < 2:
        return
    for _ in range(copies):
        (number, window), (other, beside) = (whole[int(rng.integers(len(whole)))] for _ in range(2))
        grown = _grown(window)
        mask = labels[grown] == number
        anchor = labels[beside] == other
        if mask.sum() < _LEAST_PX or anchor.sum() < _LEAST_PX:
            continue
        turns, mirror = int(rng.integers(4)), bool(rng.random() < 0.5)
        rgb, turned = sample.image[grown], mask
        if mirror:
            rgb, turned = rgb[:, ::-1], turned[:, ::-1]
        rgb, turned = np.rot90(rgb, turns), np.rot90(turned, turns)
        top, left = _beside(anchor, turned, rng)
        _join(sample, rgb, turned, (beside[0].start + top, beside[1].start + left), rng)


def _grown(window: tuple[slice, slice]) -> tuple[slice, slice]:
    rows, columns = (slice(side.start - _HALO_PX, side.stop + _HALO_PX) for side in window)
    return rows, columns


def _padded(image: NDArray[np.uint8]) -> bool:
    """Tell whether any side of a picture is padding for a good part: what is in it may be cut off there."""
    padding = (image == PAD_VALUE).all(-1)
    sides = (padding[0], padding[-1], padding[:, 0], padding[:, -1])
    return max(float(side.mean()) for side in sides) > _MOST_PADDING


def _beside(anchor: NDArray[np.bool_], mask: NDArray[np.bool_], rng: np.random.Generator) -> tuple[int, int]:
    """Place a mask so that it touches or slightly overlaps an anchor, in a random direction; its corner's (y, x)."""
    angle = float(rng.uniform(0, 2 * np.pi))
    direction = np.array([np.sin(angle), np.cos(angle)])
    centres, reaches = [], []
    for region, sign in ((anchor, 1.0), (mask, -1.0)):
        points_yx = np.argwhere(region)
        centres.append(points_yx.mean(0))
        reaches.append(float(((points_yx - centres[-1]) @ direction * sign).max()))
    distance_px = sum(reaches) + 1 - float(rng.uniform(0, 0.3)) * min(reaches)
    corner = centres[0] + direction * distance_px - centres[1]
    return round(float(corner[0])), round(float(corner[1]))


def _join(
    sample: LabelledImage,
    rgb: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    corner_yx: tuple[int, int],
    rng: np.random.Generator,
) -> None:
    height, width = sample.image.shape[:2]
    (y0, x0), (h, w) = corner_yx, mask.shape
    top, left, bottom, right = max(y0, 0), max(x0, 0), min(y0 + h, height), min(x0 + w, width)
    if bottom <= top or right <= left:
        return
    src, dst = (slice(top - y0, bottom - y0), slice(left - x0, right - x0)), (slice(top, bottom), slice(left, right))
    inside, taken = mask[src], sample.layers[:, *dst].any(0)
    if inside.sum() < _LEAST_PX or (inside & taken).sum() > _MOST_HIDDEN * inside.sum():
        return
    if _padded(sample.image[dst]):
        return
    ground = rgb[~mask].mean(0)
    bright = float(rgb[mask].mean()) >= float(ground.mean())
    toned = ground + (rgb[src] - ground) * rng.uniform(0.75, 1.25)
    reach = ndimage.gaussian_filter(ndimage.binary_dilation(inside, iterations=1).astype(np.float32), 0.8)[..., None]
    present = sample.image[dst]
    blended = np.clip(present * (1 - reach) + toned * reach, 0, 255).astype(np.uint8)
    joined = np.maximum(present, blended) if bright else np.minimum(present, blended)
    stronger = (blended.sum(2, dtype=int) > present.sum(2, dtype=int)) == bright
    shown = inside & (~taken | stronger)
    number = int(sample.layers.max()) + 1
    sample.image[dst] = joined
    for layer in sample.layers:
        layer[dst][shown] = 0
    sample.layers[0][dst][shown] = number
