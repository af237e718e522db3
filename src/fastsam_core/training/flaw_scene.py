"""Painter of surfaces with faint marks: pores, cracks, scratches, stains and lesions, in light or in X-rays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fastsam_core.training.canvas import (
    LEAST_AREA_PX,
    Canvas,
    log_uniform,
    noise_field,
    outline,
    random_extent,
    random_place,
    ribbon,
    turn,
)
from fastsam_core.training.surfaces import photographed, random_colour, stain, texture

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FAINTEST: Final = 0.06
"""Contrast of the faintest marks, of the range of brightness."""
_FAMILIES: Final = ("pores", "blotches", "cracks", "scratches", "lesion")


def flaws(rng: np.random.Generator, size_hw: tuple[int, int]) -> Canvas:
    """Draw a surface, plain or grained, with a few marks that hardly stand out.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    size_hw : tuple of int
        (H, W) in pixels.

    Returns
    -------
    Canvas
        Wholes: the marks, each to where it is half as strong as in its middle. Parts: spots within lesions.
    """
    xray = rng.random() < 0.4
    ground = _radiograph(rng, size_hw) if xray else _surface(rng, size_hw)
    canvas = Canvas(ground)
    contrast = log_uniform(rng, _FAINTEST, 0.45)
    # X-ray pores let more light through or less, all of them alike
    sign = float(rng.choice((-1.0, 1.0), p=(0.7, 0.3)))
    tint = np.ones(3) if xray or rng.random() < 0.4 else rng.uniform(0.2, 1.4, 3)
    families = rng.choice(_FAMILIES, int(rng.integers(1, 3)), replace=False, p=(0.3, 0.25, 0.15, 0.1, 0.2))
    for family in families:
        for polygon, depth in _marks(rng, size_hw, str(family)):
            change = sign * contrast * float(np.exp(rng.normal(0.2, 0.25))) * tint
            _mark(canvas, rng, polygon, change, depth)
    if not xray and set(families) <= {"lesion", "blotches"} and rng.random() < 0.4:
        _hairs(canvas, rng)
    return photographed(canvas, rng, float(rng.uniform(0.4, 1.4)), float(rng.uniform(0, contrast / 3)))


def _radiograph(rng: np.random.Generator, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Return a gray plate of uneven brightness, most with a rippled seam across it."""
    y, x = np.mgrid[0 : size_hw[0], 0 : size_hw[1]].astype(np.float32)
    angle = float(rng.choice((0.0, np.pi / 2))) + float(rng.normal(0, 0.1))
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    span = float(np.ptp(across))
    plate = float(rng.uniform(0.2, 0.75)) + 0.06 * noise_field(rng, size_hw, max(size_hw) / 2, 2)
    plate = plate + float(rng.normal(0, 0.15)) * (across - across.mean()) / span
    if rng.random() < 0.75:
        half_px = span * float(rng.uniform(0.08, 0.4))
        middle = float(np.median(across)) + span * float(rng.normal(0, 0.1))
        edge = across - middle + 0.1 * half_px * noise_field(rng, size_hw, half_px, 3)
        seam = 1 / (1 + np.exp((np.abs(edge) - half_px) / (half_px * float(rng.uniform(0.03, 0.25)))))
        bow = along + edge**2 / half_px * float(rng.uniform(0, 0.5))
        ripple = 1 + float(rng.uniform(0, 0.12)) * np.sin(bow / half_px * float(rng.uniform(3, 20)))
        plate = plate + float(rng.choice((-1, 1))) * float(rng.uniform(0.05, 0.25)) * seam * ripple
    plate = plate + float(rng.uniform(0, 0.015)) * noise_field(rng, size_hw, 6, 3)
    return np.repeat(np.clip(plate, 0.03, 0.97).astype(np.float32)[..., None], 3, axis=2)


def _surface(rng: np.random.Generator, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Return brushed metal, stone, skin, or a texture of low contrast."""
    import cv2

    kind = rng.integers(4)
    colour = random_colour(rng)
    if kind == 0:
        # scratched one way: noise stretched along it
        coarse_hw = (size_hw[0], max(size_hw[1] // int(rng.integers(8, 40)), 2))
        lines = cv2.resize(rng.standard_normal(coarse_hw, dtype=np.float32), (size_hw[1], size_hw[0]))
        field = float(rng.uniform(0.01, 0.06)) * lines
        colour = np.full(3, colour.mean(), np.float32)
    elif kind == 1:
        field = float(rng.uniform(0.01, 0.07)) * noise_field(rng, size_hw, log_uniform(rng, 3, 60), 5)
    elif kind == 2:
        colour = np.array([0.82, 0.6, 0.5], np.float32) * np.float32(rng.uniform(0.4, 1.15))
        field = float(rng.uniform(0.005, 0.04)) * noise_field(rng, size_hw, log_uniform(rng, 3, 12), 3)
    else:
        drawn = texture(rng, size_hw)
        return np.asarray(drawn.mean((0, 1)) + (drawn - drawn.mean((0, 1))) * np.float32(0.25), np.float32)
    light = 1 + float(rng.uniform(0, 0.3)) * noise_field(rng, size_hw, max(size_hw), 1)
    return np.asarray((colour + field[..., None]) * np.clip(light, 0.4, 1.6)[..., None], np.float32)


def _marks(rng: np.random.Generator, size_hw: tuple[int, int], family: str) -> list[tuple[NDArray[np.float64], int]]:
    """Return outlines (x, y) of the marks of a family and their depths."""
    if family == "pores":
        radius_px = max(random_extent(rng, size_hw, 0.006, 0.03), 2.0)
        places = [random_place(rng, size_hw) for _ in range(int(log_uniform(rng, 1, 25)))]
        if rng.random() < 0.4:
            # a cluster, or a row along a seam
            spread = np.array([random_extent(rng, size_hw, 0.05, 0.3), random_extent(rng, size_hw, 0.01, 0.1)])
            offsets = turn(rng.standard_normal((len(places), 2)) * spread, float(rng.uniform(0, np.pi)))
            places = [(float(x), float(y)) for x, y in offsets + random_place(rng, size_hw)]
        longish = float(rng.choice((0.1, 0.7)))
        return [
            (outline(rng, place, radius_px * np.exp(rng.normal(0, 0.3)), 0.1, np.exp(abs(rng.normal(0, longish)))), 0)
            for place in places
        ]
    if family in ("cracks", "scratches"):
        width_px = max(random_extent(rng, size_hw, 0.005, 0.02), 2.0)
        bend = float(rng.uniform(0.15, 0.5)) if family == "cracks" else 0.005
        return [(ribbon(rng, size_hw, width_px, bend), 0) for _ in range(int(rng.integers(1, 6)))]
    if family == "blotches":
        rough = float(rng.uniform(0.2, 0.7))
        return [
            (outline(rng, random_place(rng, size_hw), random_extent(rng, size_hw, 0.02, 0.12), rough, 1.5), 0)
            for _ in range(int(rng.integers(1, 9)))
        ]
    middle = np.array([size_hw[1], size_hw[0]]) * rng.uniform(0.3, 0.7, 2)
    radius_px = random_extent(rng, size_hw, 0.1, 0.38)
    whole = outline(rng, (float(middle[0]), float(middle[1])), radius_px, float(rng.uniform(0.1, 0.5)), 1.3)
    spots = []
    for _ in range(int(rng.integers(0, 4))):
        x, y = middle + rng.normal(0, radius_px / 3, 2)
        spots.append((outline(rng, (float(x), float(y)), radius_px * float(rng.uniform(0.1, 0.3)), 0.3), 1))
    return [(whole, 0), *spots]


def _mark(
    canvas: Canvas, rng: np.random.Generator, polygon: NDArray[np.float64], change: NDArray[np.float64], depth: int
) -> None:
    """Change the brightness within an outline, softly, and take for an instance what is changed by half at least."""
    import cv2

    points = polygon.astype(np.float32)
    # a disc's radius, a band's width
    width_px = max(2 * cv2.contourArea(points) / max(cv2.arcLength(points, True), 1.0), 1.0)
    soft_px = width_px * float(rng.uniform(0.05, 0.35))
    found = canvas.cover(polygon, soft_px)
    if found is None:
        return
    window, alpha = found
    if depth:
        owners = canvas.layers[depth - 1][window]
        whole = np.bincount(owners[alpha > 0.5].ravel(), minlength=1).argmax()
        if whole == 0:
            return
        alpha = alpha * (owners == whole)
    marked = alpha > 0.5
    if int(marked.sum()) < LEAST_AREA_PX:
        return
    uneven = 1 + float(rng.uniform(0, 0.35)) * noise_field(rng, alpha.shape, max(width_px / 2, 2), 3)
    canvas.rgb[window] += (alpha * np.clip(uneven, 0.3, 2))[..., None] * change.astype(np.float32)
    canvas.own(window, marked, depth)


def _hairs(canvas: Canvas, rng: np.random.Generator) -> None:
    """Lay dark hairs over the picture, which are no objects."""
    height, width = canvas.rgb.shape[:2]
    dark = float(rng.uniform(0.05, 0.3))
    for _ in range(int(rng.integers(3, 25))):
        hair = ribbon(rng, (height, width), float(rng.uniform(0.8, 1.6)), 0.03)
        canvas.paint(hair, stain(np.full(3, dark, np.float32), 0.9))
