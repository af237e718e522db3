"""Painter of stained glands: columnar cells with nuclei around a lumen, spindle-shaped nuclei in the tissue between.

Drawn as amounts of two dyes, because a slide shows the light that the dyes let through (Beer-Lambert): red, green and
blue are ``exp(-amounts @ absorption)``.
"""

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
    turn,
)
from fastsam_core.training.stains import STAINS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from fastsam_core.training.canvas import Shader

_COUNTER_DYES: Final = {"DAB": 0.62, "eosin": 0.26, "AEC": 0.12}
"""Share of each other dye: brown, pink or red."""

_NUCLEAR, _OTHER = 0, 1


def glands(rng: np.random.Generator, size_hw: tuple[int, int]) -> Canvas:
    """Immunohistochemistry or H&E at low power.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    size_hw : tuple of int
        (H, W) in pixels.

    Returns
    -------
    Canvas
        Wholes: glands and the nuclei between them. Parts: lumina and the glands' nuclei.
    """
    radius_px = random_extent(rng, size_hw, 0.007, 0.026)
    flow = float(rng.uniform(0, np.pi))
    canvas = Canvas(_stroma(rng, size_hw, flow))
    strength, crowded = float(rng.uniform(0.3, 1.0)), rng.random() < 0.5
    for _ in range(int(rng.integers(3, 8)) if crowded else int(rng.integers(0, 5))):
        extent_px = random_extent(rng, size_hw, 0.2 if crowded else 0.1, 0.55)
        _gland(canvas, rng, extent_px, radius_px * float(rng.uniform(0.9, 1.4)), strength)
    for _ in range(int(rng.integers(0, 3))):
        _gap(canvas, outline(rng, random_place(rng, size_hw), min(size_hw) * float(rng.uniform(0.02, 0.12)), 0.3, 1.6))
    scatter_nuclei(canvas, rng, radius_px, flow, lambda amount, own_px: _dyed(rng, amount, 1.0, own_px))
    if rng.random() < 0.6:
        canvas.rgb = _unfocused(canvas.rgb, rng, radius_px)
    canvas.rgb = _transmitted(canvas.rgb, rng)
    return canvas


def _amounts(nuclear: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Stack the amounts of both dyes; the third channel of the canvas stays empty."""
    return np.stack([nuclear, other, np.zeros_like(nuclear)], axis=-1)


def _stroma(rng: np.random.Generator, size_hw: tuple[int, int], flow: float) -> NDArray[np.float32]:
    """Amounts of dye in fibrous tissue that runs along ``flow`` (radians)."""
    y, x = np.mgrid[0 : size_hw[0], 0 : size_hw[1]].astype(np.float32)
    along, across = x * np.cos(flow) + y * np.sin(flow), y * np.cos(flow) - x * np.sin(flow)
    across = across + 0.05 * min(size_hw) * noise_field(rng, size_hw, min(size_hw) / 3, 3)
    width_px = log_uniform(rng, 0.6, 2.5)
    table = noise_field(rng, (256, 256), 4.0, 3)
    fibres = table[_mirrored(across / width_px), _mirrored(along / (width_px * 8))]
    cloud = noise_field(rng, size_hw, min(size_hw) / 5, 4)
    contrast, net = float(rng.uniform(0.05, 0.3)), float(rng.uniform(0, 0.7)) * _grain(rng, size_hw)
    nuclear = float(rng.uniform(0.01, 0.1)) * (1 + contrast * (fibres + cloud) + net)
    other = float(rng.uniform(0.0, 0.12)) * (1 + contrast * (fibres + 0.7 * cloud) + net)
    return _amounts(np.maximum(nuclear, 0).astype(np.float32), np.maximum(other, 0).astype(np.float32))


def _mirrored(place: NDArray[np.float32]) -> NDArray[np.int64]:
    """Fold numbers into 0..255 back and forth, so that a table of 256 has no seams."""
    return np.asarray(np.abs(place.astype(np.int64) % 510 - 255))


def _grain(rng: np.random.Generator, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Fine unevenness of real tissue: specks, or the bright meshes of a net."""
    field = noise_field(rng, size_hw, float(rng.uniform(1.5, 6)), 2)
    return field if rng.random() < 0.5 else np.asarray(0.6 - 2 * np.exp(-((3 * field) ** 2)), np.float32)


def _gland(canvas: Canvas, rng: np.random.Generator, extent_px: float, radius_px: float, strength: float) -> None:
    """Draw a gland of columnar cells (membranes dark, nuclei pale blue) that point to its middle."""
    size_hw = canvas.rgb.shape[0], canvas.rgb.shape[1]
    centre = random_place(rng, size_hw)
    shape = outline(rng, centre, extent_px, 0.22, float(np.exp(rng.normal(0.2, 0.35))))
    whole = canvas.fill(shape, lambda window, _: window)
    if whole is None:
        return
    number = whole[0]
    y, x = np.nonzero(canvas.layers[0] == number)
    if len(y) < 64:
        return
    cell_px, column = radius_px * float(rng.uniform(2.2, 3.2)), float(np.exp(rng.uniform(0.1, 1.9)))
    seeds, (nearest, gap_px) = _cells(rng, np.stack([x, y], axis=1) - np.array(centre), cell_px, column)
    cloud = noise_field(rng, size_hw, cell_px * 2, 4)[y, x]
    grain = float(rng.uniform(0.05, 0.45)) * _grain(rng, size_hw)[y, x]
    tone = np.exp(rng.normal(0, 0.2, len(seeds)))[nearest]
    body = strength * float(rng.uniform(0.3, 0.8)) * tone * (1 + float(rng.uniform(0.1, 0.45)) * cloud + grain)
    wall_px = max(0.16 * cell_px, 1.0) * np.exp(0.4 * cloud)
    patchy = np.clip(1 + 0.6 * noise_field(rng, size_hw, cell_px * 3, 2)[y, x], 0.1, 2)
    wall = strength * float(rng.uniform(0.0, 1.3)) * patchy * np.exp(-((gap_px / wall_px) ** 2))
    canvas.rgb[y, x, _OTHER] = np.maximum(body + wall, 0)
    canvas.rgb[y, x, _NUCLEAR] = float(rng.uniform(0.02, 0.15)) * (1 + 0.3 * cloud)
    dense, clear = float(rng.uniform(0.15, 0.6)), float(rng.uniform(0.15, 0.8))
    for seed_x, seed_y in seeds:
        if rng.random() < 0.12:
            continue
        angle = float(np.arctan2(seed_y, seed_x) + rng.normal(0, 0.2))
        place = centre[0] + float(seed_x), centre[1] + float(seed_y)
        own = radius_px * float(np.exp(rng.normal(0, 0.15)))
        body_shape = _spindle(rng, place, own, float(np.exp(abs(rng.normal(0.15 * column, 0.15)))), angle)
        amount = dense * float(np.exp(rng.normal(0, 0.25)))
        canvas.fill(body_shape, _dyed(rng, amount, clear, own), 1, inside=number)
    if rng.random() < 0.6:
        slit = _spindle(rng, centre, extent_px * float(rng.uniform(0.06, 0.25)), 3.0, float(rng.uniform(0, np.pi)))
        _gap(canvas, slit, inside=number)


def _cells(
    rng: np.random.Generator, xy: NDArray[np.float64], cell_px: float, column: float
) -> tuple[NDArray[np.float64], tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Divide the pixels around (0, 0) into cells that are ``column`` times as long (outwards) as wide.

    Returns the cells' middles, and of each pixel its cell and how far the border is.
    """
    from scipy.spatial import cKDTree

    rings = []
    for ring in np.arange(0.5 * cell_px * column, np.hypot(*xy.T).max() + cell_px * column, cell_px * column):
        count = max(int(2 * np.pi * ring / cell_px), 1)
        angle = (np.arange(count) + rng.uniform() + rng.normal(0, 0.15, count)) * 2 * np.pi / count
        reach = ring + rng.normal(0, 0.22, count) * cell_px * column
        rings.append(np.stack([np.cos(angle), np.sin(angle)], axis=1) * reach[:, None])
    seeds = np.concatenate(rings)
    inside = cKDTree(xy).query(seeds, distance_upper_bound=cell_px)[0] < np.inf
    seeds = seeds[inside] if inside.sum() > 1 else seeds[:2]
    # a few neighbours by distance, then the two that are nearest where outwards counts less
    _, candidates = cKDTree(seeds).query(xy, k=min(8, len(seeds)))
    offset = xy[:, None] - seeds[candidates]
    outwards = seeds[candidates] / np.maximum(np.linalg.norm(seeds[candidates], axis=-1, keepdims=True), 1e-6)
    radial = (offset * outwards).sum(axis=-1)
    across = offset[..., 0] * outwards[..., 1] - offset[..., 1] * outwards[..., 0]
    nearest, _, gap_px = nearest_two(np.hypot(across, radial / column), candidates)
    return seeds, (nearest, gap_px)


def _gap(canvas: Canvas, shape: NDArray[np.float64], inside: int | None = None) -> None:
    """Draw a lumen or a vessel: glass without dye."""
    canvas.fill(shape, lambda window, _: window * np.float32(0.06), 0 if inside is None else 1, inside)


def _dyed(rng: np.random.Generator, amount: float, clear: float, radius_px: float) -> Shader:
    """Shader of a nucleus: grainy dye, and of the other dye only the share ``clear`` left."""
    grain = noise_field(rng, (int(radius_px * 10) + 8, int(radius_px * 10) + 8), max(radius_px / 2, 1.5), 3)

    def shade(window: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        chromatin = 1 + 0.25 * grain[: mask.shape[0], : mask.shape[1]]
        return _amounts(np.asarray(amount * chromatin, np.float32), window[..., _OTHER] * np.float32(clear))

    return shade


def scatter_nuclei(
    canvas: Canvas,
    rng: np.random.Generator,
    radius_px: float,
    flow: float,
    dyed: Callable[[float, float], Shader],
) -> None:
    """Draw spindle-shaped nuclei along fibres, and round ones that gather, wherever nothing is yet.

    Parameters
    ----------
    canvas : Canvas
        Drawn on; each nucleus is a whole.
    rng : numpy.random.Generator
        Source of randomness.
    radius_px : float
        Of a typical nucleus.
    flow : float
        Direction of the fibres, in radians.
    dyed : callable
        Given the amount of dye and the extent of a nucleus in pixels, returns its shader.
    """
    height, width = canvas.rgb.shape[:2]
    free = canvas.layers[0] == 0
    density = log_uniform(rng, 0.03, 0.3)
    count = int(min(density * free.sum() / (np.pi * radius_px**2), 400))
    dense, placed = log_uniform(rng, 0.15, 0.9), [random_place(rng, (height, width))]
    for _ in range(count):
        gathered = rng.random() < 0.35
        if gathered:
            x, y = placed[int(rng.integers(len(placed)))]
            angle = rng.uniform(0, 2 * np.pi)
            x, y = x + 2.3 * radius_px * float(np.cos(angle)), y + 2.3 * radius_px * float(np.sin(angle))
        else:
            x, y = random_place(rng, (height, width))
        row, column = min(max(int(y), 0), height - 1), min(max(int(x), 0), width - 1)
        if not free[row, column]:
            continue
        placed.append((x, y))
        own = radius_px * float(np.exp(rng.normal(-0.1, 0.25)))
        aspect = float(np.exp(abs(rng.normal(0.15 if gathered else 0.6, 0.3))))
        shape = _spindle(rng, (x, y), own, aspect, flow + float(rng.normal(0, 0.4)))
        canvas.fill(shape, dyed(dense * float(np.exp(rng.normal(0, 0.35))), own * aspect))


def _spindle(
    rng: np.random.Generator, centre_xy: tuple[float, float], radius_px: float, aspect: float, angle: float
) -> NDArray[np.float64]:
    """Outline of an elongated body along ``angle`` (radians)."""
    around = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    wobble = 1 + 0.12 * np.sin(2 * around + rng.uniform(0, 7)) + 0.08 * np.sin(3 * around + rng.uniform(0, 7))
    stretch = np.sqrt(aspect)
    local = np.stack([np.cos(around) * stretch, np.sin(around) / stretch], axis=1) * (radius_px * wobble[:, None])
    return np.asarray(turn(local, -angle) + centre_xy, np.float64)


def _unfocused(amounts: NDArray[np.float32], rng: np.random.Generator, radius_px: float) -> NDArray[np.float32]:
    """Soften the dyes here and there: a section is thicker than what is in focus, and not flat."""
    import cv2

    softest_px = float(rng.uniform(0.08, 0.3)) * radius_px
    soft = cv2.GaussianBlur(amounts, (0, 0), max(softest_px, 0.5))
    size_hw = amounts.shape[0], amounts.shape[1]
    share = np.clip(0.6 + 0.6 * noise_field(rng, size_hw, radius_px * float(rng.uniform(2, 20)), 2), 0, 1)
    uneven = 1 + float(rng.uniform(0, 0.25)) * noise_field(rng, size_hw, float(rng.uniform(1.5, 4)), 2)
    mixed = (amounts + share[..., None] * (soft - amounts)) * uneven[..., None]
    return np.asarray(np.maximum(mixed, 0), np.float32)


def _transmitted(amounts: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the light (RGB, 0..1) that passes through the dyes, as a slightly soft and noisy picture."""
    import cv2

    other = str(rng.choice(list(_COUNTER_DYES), p=list(_COUNTER_DYES.values())))
    absorption = np.array([STAINS["haematoxylin, blue"], STAINS[other]]) * np.exp(rng.normal(0, 0.1, (2, 3)))
    light = rng.uniform(0.86, 0.98) * (1 + rng.normal(0, 0.02, 3))
    passed = light * np.exp(-2.0 * np.maximum(amounts[..., :2], 0) @ absorption)
    soft = cv2.GaussianBlur(np.asarray(passed, np.float32), (0, 0), float(rng.uniform(0.4, 1.3)))
    if rng.random() < 0.5:
        # scanners sharpen
        softer = cv2.GaussianBlur(soft, (0, 0), float(rng.uniform(1, 2)))
        soft = soft + np.float32(rng.uniform(0.2, 1.5)) * (soft - softer)
    return np.asarray(soft + rng.normal(0, rng.uniform(0.002, 0.03), soft.shape), np.float32)
