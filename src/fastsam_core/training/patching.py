"""Patches in photographs: regions of any shape that show another texture, or are lighter or darker than their ground.

Cut-outs of annotated objects have the shapes that annotators chose. Real surfaces also carry stains, seams, flaws and
coverings, and what tells those is the change of texture alone; drawn scenes have the shapes but no real texture.
Patches of other places in random outlines have both, as in CutPaste (Li et al. 2021, arXiv 2104.04015) and its
successors, which tell flaws from sound surfaces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fastsam_core.training.canvas import (
    LEAST_AREA_PX,
    Canvas,
    corner_shape,
    log_uniform,
    noise_field,
    outline,
    random_extent,
    random_place,
    ribbon,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastsam_core.training.sources import LabelledImage

__all__ = ["patch"]

_LEAST_CHANGE: Final = 0.06
"""Mean change of a patch's pixels, of the range of brightness; fainter ones are not drawn."""
_COVERINGS: Final = 0.7
"""Share of the patches that show another picture's texture; the others change what is there."""
_HIDING_SHARE: Final = 0.03
"""Of the picture: larger coverings hide what was annotated below them, smaller ones are parts of it."""


def patch(sample: LabelledImage, texture: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Draw some patches into a picture (in place).

    Parameters
    ----------
    sample : LabelledImage
        Gets the patches as a further layer, which like guessed ones makes no background of what it shows: a texture
        may have objects of its own.
    texture : ndarray of uint8, shape (H, W, 3)
        Another picture, of any size.
    rng : numpy.random.Generator
        Source of randomness.
    """
    canvas = Canvas(sample.image.astype(np.float32) / np.float32(255))
    other = texture.astype(np.float32) / np.float32(255)
    coverings: list[int] = []
    for _ in range(round(log_uniform(rng, 1, 7))):
        covers = rng.random() < _COVERINGS
        owned = _draw(canvas, other if covers else None, rng)
        if covers and owned:
            coverings.append(owned)
    drawn = canvas.layers[0]
    if not drawn.any():
        return
    sample.image = np.clip(canvas.rgb * 255, 0, 255).astype(np.uint8)
    areas_px = np.bincount(drawn.ravel(), minlength=canvas.count + 1)
    hidden = np.zeros(len(areas_px), bool)
    hidden[coverings] = areas_px[coverings] >= _HIDING_SHARE * drawn.size
    below = np.where(hidden[drawn], np.uint16(0), sample.layers)
    numbered = np.where(drawn > 0, drawn + below.max(), 0).astype(np.uint16)
    sample.layers = np.concatenate([below, numbered[None]])
    sample.guessed += 1


def _draw(canvas: Canvas, other: NDArray[np.float32] | None, rng: np.random.Generator) -> int:
    """Draw one patch, of another picture's texture if there is one; return its id, 0 if nothing is to be seen."""
    covered = canvas.cover(_shape(rng, canvas.rgb.shape[:2]), float(rng.choice((0.5, 0.8, 1.5, 3.0))))
    if covered is None:
        return 0
    window, alpha = covered
    mask = alpha > 0.5
    if np.count_nonzero(mask) < LEAST_AREA_PX:
        return 0
    ground = canvas.rgb[window]
    shown = _mark(ground, rng) if other is None else _covering(ground, mask, other, rng)
    if np.abs(shown - ground)[mask].mean() < _LEAST_CHANGE:
        return 0
    canvas.rgb[window] = ground + (shown - ground) * alpha[..., None]
    return canvas.own(window, mask)


def _shape(rng: np.random.Generator, size_hw: tuple[int, int]) -> NDArray[np.float64]:
    kind = rng.random()
    if kind < 0.2:
        return ribbon(rng, size_hw, max(random_extent(rng, size_hw, 0.008, 0.08), 3.0), float(rng.uniform(0.02, 0.3)))
    radius_px = max(random_extent(rng, size_hw, 0.012, 0.3), 4.0)
    if kind < 0.4:
        return corner_shape(rng, random_place(rng, size_hw), radius_px)
    roughness, longish = float(rng.uniform(0.05, 0.7)), float(np.exp(abs(rng.normal(0, 0.7))))
    return outline(rng, random_place(rng, size_hw), radius_px, roughness, longish)


def _mark(ground: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the ground lighter or darker, unevenly, and perhaps tinted."""
    change = float(rng.choice((-1, 1))) * log_uniform(rng, 0.1, 0.6)
    tint = np.ones(3) if rng.random() < 0.5 else rng.uniform(0.2, 1.3, 3)
    uneven = np.clip(1 + 0.3 * noise_field(rng, ground.shape[:2], max(ground.shape[0] / 4, 3), 3), 0.3, 1.7)
    strength = (change * uneven)[..., None] * tint
    # what is laid on takes light away in proportion, what shines adds it
    return np.asarray(ground * (1 + strength) if change < 0 else ground + strength, np.float32)


def _covering(
    ground: NDArray[np.float32], mask: NDArray[np.bool_], other: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return a place of another picture in the ground's window, its tone drawn towards the ground's."""
    import cv2

    height, width = ground.shape[:2]
    zoom = log_uniform(rng, 0.5, 2)
    rows, columns = (
        max(min(round(side / zoom), most), 2) for side, most in zip((height, width), other.shape[:2], strict=True)
    )
    top, left = (
        int(rng.integers(most - side + 1)) for side, most in zip((rows, columns), other.shape[:2], strict=True)
    )
    cut = np.ascontiguousarray(other[top : top + rows, left : left + columns])
    shrunk = rows > height
    shown = cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA if shrunk else cv2.INTER_LINEAR)
    mean, aim = shown[mask].mean(axis=0), ground[mask].mean(axis=0)
    tone = mean + float(rng.uniform(0, 1)) * (aim - mean)
    return np.asarray(tone + float(rng.uniform(0.4, 1.2)) * (shown - mean), np.float32)
