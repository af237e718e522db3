"""Painter of fluorescent cells with stained cytoplasm or membranes: alone, in islands, or as a closed sheet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fastsam_core.training.canvas import (
    Canvas,
    log_uniform,
    nearest_two,
    noise_field,
    outline,
    random_extent,
    random_place,
)
from fastsam_core.training.surfaces import stain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastsam_core.training.canvas import Shader

_MOST_CELLS: Final = 150
_FAINTEST: Final = 0.35
"""Of its typical brightness, where a cell's edge lies."""
_COLOURS: Final = np.array([(0.1, 1, 0.1), (1, 0.1, 0.1), (0.15, 0.3, 1), (0.1, 0.9, 1), (1, 0.1, 0.9), (1, 0.9, 0.1)])


def cells(rng: np.random.Generator, size_hw: tuple[int, int]) -> Canvas:
    """Draw cells with uneven cytoplasm, bright or dark borders, and nuclei in another colour, as holes or not at all.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    size_hw : tuple of int
        (H, W) in pixels.

    Returns
    -------
    Canvas
        Wholes: cells. Parts: nuclei, where they are to be seen.
    """
    spacing_px = random_extent(rng, size_hw, 0.05, 0.28)
    seeds = _places(rng, size_hw, spacing_px)
    owner, far, gap_px = _territories(rng, size_hw, seeds, spacing_px)
    reach = float(rng.uniform(0.45, 0.75)) if rng.random() < 0.6 else 2.0
    ragged = float(rng.uniform(0.05, 0.5)) * noise_field(rng, size_hw, spacing_px / 2, 3)
    depth = far * np.exp(ragged) / reach  # 0 in a cell's middle, 1 where it ends
    inside = _without_crumbs(depth < 1, spacing_px / 12)
    light = np.exp(rng.normal(0, rng.uniform(0.05, 0.5), len(seeds)))[owner]
    body = light * (_FAINTEST + (1 - _FAINTEST) * np.exp(-float(rng.uniform(0.3, 4)) * depth**2))
    grain = noise_field(rng, size_hw, log_uniform(rng, 2, max(spacing_px / 4, 3)), 3)
    body = body * np.maximum(1 + float(rng.uniform(0.03, 0.4)) * grain, 0.1)
    wall_px = max(0.02 * spacing_px, 1.0) * float(rng.uniform(0.7, 2))
    membranes = rng.random() < 0.35
    to_edge_px = (1 - depth) * reach * spacing_px if membranes else np.inf
    wall = np.exp(-((np.minimum(gap_px, to_edge_px) / wall_px) ** 2))
    body = body * float(rng.uniform(0.05, 0.5)) + light * wall if membranes else body * (1 - wall * rng.uniform(0.2, 1))
    haze, level = float(rng.uniform(0.01, 0.1)), float(rng.uniform(0.25, 0.8))
    field = haze * (1 + 0.3 * noise_field(rng, size_hw, min(size_hw) / 2, 2)) + np.where(inside, level * body, 0)
    of_body, of_nuclei = _tints(rng)
    canvas = Canvas(np.asarray(np.maximum(field, 0)[..., None] * of_body, np.float32))
    between = wall > 0.8 if membranes else np.zeros(size_hw, bool)
    canvas.layers[0] = np.where(inside & ~between, owner + 1, 0)
    canvas.count = len(seeds)
    if rng.random() < (0.4 if membranes else 0.85):
        _nuclei(canvas, rng, seeds, spacing_px * float(rng.uniform(0.14, 0.3)), level, of_nuclei)
    return _photographed(canvas, rng)


def _without_crumbs(inside: NDArray[np.bool_], width_px: float) -> NDArray[np.bool_]:
    """Leave out what is narrower than a width."""
    import cv2

    side = 2 * int(width_px / 2) + 1
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(cv2.morphologyEx(inside.astype(np.uint8), cv2.MORPH_OPEN, element) > 0)


def _places(rng: np.random.Generator, size_hw: tuple[int, int], spacing_px: float) -> NDArray[np.float64]:
    """Middles of cells (x, y): spread evenly, or in islands, none nearer than most of the spacing."""
    wanted = int(min(log_uniform(rng, 0.15, 1.4) * size_hw[0] * size_hw[1] / spacing_px**2, _MOST_CELLS)) + 1
    islands = rng.random() < 0.4
    found = [random_place(rng, size_hw)]
    for _ in range(8 * wanted):
        if len(found) == wanted:
            break
        x, y = random_place(rng, size_hw)
        if islands and rng.random() < 0.9:
            x, y = np.asarray(found[int(rng.integers(len(found)))]) + rng.normal(0, spacing_px, 2)
        nearest = np.hypot(*(np.asarray(found) - (x, y)).T).min()
        if nearest > spacing_px * rng.uniform(0.5, 0.9):
            found.append((float(x), float(y)))
    return np.asarray(found)


def _territories(
    rng: np.random.Generator, size_hw: tuple[int, int], seeds: NDArray[np.float64], spacing_px: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Divide the picture between the cells.

    Returns the nearest cell of each pixel, its distance in spacings, and the way to the next cell in pixels, each of
    shape (H, W). Distances are longer across a cell than along it.
    """
    from scipy.spatial import cKDTree

    y, x = np.mgrid[0 : size_hw[0], 0 : size_hw[1]].astype(np.float64)
    wave_px = float(rng.uniform(0.02, 0.3)) * spacing_px
    wobbled = np.stack([axis + wave_px * noise_field(rng, size_hw, spacing_px, 3) for axis in (x, y)], axis=-1)
    near = min(6, len(seeds))
    _, candidates = cKDTree(seeds).query(wobbled.reshape(-1, 2), k=near)
    candidates = candidates.reshape(-1, near)
    angle, stretch = rng.uniform(0, np.pi, len(seeds)), np.exp(rng.normal(0, rng.uniform(0, 0.4), len(seeds)))
    offset = wobbled.reshape(-1, 1, 2) - seeds[candidates]
    cosine, sine = np.cos(angle)[candidates], np.sin(angle)[candidates]
    along = (offset[..., 0] * cosine + offset[..., 1] * sine) / stretch[candidates]
    across = (offset[..., 1] * cosine - offset[..., 0] * sine) * stretch[candidates]
    owner, far_px, gap_px = nearest_two(np.hypot(along, across), candidates)
    return owner.reshape(size_hw), far_px.reshape(size_hw) / spacing_px, gap_px.reshape(size_hw)


def _tints(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Colours of cytoplasm and nuclei: false colours of two channels, or one channel in gray."""
    if rng.random() < 0.45:
        return np.ones(3), np.ones(3) * float(rng.choice((0.3, 1.0)))
    first, second = rng.choice(len(_COLOURS), 2, replace=False)
    return _COLOURS[first], _COLOURS[second]


def _nuclei(
    canvas: Canvas,
    rng: np.random.Generator,
    seeds: NDArray[np.float64],
    radius_px: float,
    level: float,
    tint: NDArray[np.float64],
) -> None:
    """Draw a nucleus into most cells: light of its own colour over what is left of the cytoplasm's, or a dark hole."""
    dark = rng.random() < 0.3
    left = float(rng.uniform(0.1, 0.6) if dark else rng.uniform(0.2, 1.0))
    bright = 0.0 if dark else float(rng.uniform(0.5, 1.5)) * level
    for number, (x, y) in enumerate(seeds, start=1):
        if rng.random() < 0.06:
            continue
        own_px = radius_px * float(np.exp(rng.normal(0, 0.15)))
        centre = float(x + rng.normal(0, radius_px / 4)), float(y + rng.normal(0, radius_px / 4))
        side = int(own_px * 5) + 8
        grain = 1 + 0.15 * noise_field(rng, (side, side), max(own_px / 2, 2), 3)
        light = (bright * float(np.exp(rng.normal(0, 0.25))) * tint).astype(np.float32)
        shape = outline(rng, centre, own_px, 0.08, float(np.exp(abs(rng.normal(0, 0.25)))))
        drawn = canvas.fill(shape, _lit(light, left, grain), 1, inside=number)
        if drawn is not None and own_px > 14 and rng.random() < 0.15:
            spot = outline(rng, centre, own_px * float(rng.uniform(0.15, 0.3)), 0.1)
            canvas.fill(spot, stain(light * np.float32(rng.uniform(0.2, 1.4)), 0.7), 2, inside=drawn[0])


def _lit(light: NDArray[np.float32], left: float, grain: NDArray[np.float32]) -> Shader:
    """Shader that adds grainy light to the share ``left`` of what is there."""

    def shade(window: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        return window * np.float32(left) + grain[: mask.shape[0], : mask.shape[1], None] * light

    return shade


def _photographed(canvas: Canvas, rng: np.random.Generator) -> Canvas:
    """Blur as a lens does, and add the noise of few photons."""
    import cv2

    rgb = cv2.GaussianBlur(canvas.rgb, (0, 0), float(rng.uniform(0.4, 1.6)))
    photons = log_uniform(rng, 30, 3000)
    noise = rng.standard_normal(rgb.shape, dtype=np.float32)
    canvas.rgb = np.asarray(rgb + noise * np.sqrt(np.maximum(rgb, 0.01) / photons), np.float32)
    return canvas
