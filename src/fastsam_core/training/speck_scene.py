"""Painter of small bright sources on a dark ground: puncta, particles, stars and galaxies, most of them faint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fastsam_core.training.canvas import Canvas, log_uniform, noise_field, random_extent, random_place

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EDGE: Final = 0.3
"""Share of its brightness at which a source ends."""
_LEAST_RADIUS_PX: Final = 2.2


def specks(rng: np.random.Generator, size_hw: tuple[int, int]) -> Canvas:
    """Draw sources of light that fade outwards, many small and few large, some hardly above the noise.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    size_hw : tuple of int
        (H, W) in pixels.

    Returns
    -------
    Canvas
        Wholes: the sources, without the glow around them.
    """
    ground, noise = float(rng.uniform(0.01, 0.15)), log_uniform(rng, 0.004, 0.05)
    field = ground * (1 + 0.3 * float(rng.uniform(0, 1)) * noise_field(rng, size_hw, max(size_hw) / 2, 2))
    canvas = Canvas(np.repeat(np.asarray(field, np.float32)[..., None], 3, axis=2))
    coloured = rng.random() < 0.5
    common = rng.dirichlet((2, 2, 2)) * 3 if rng.random() < 0.3 else np.ones(3)
    typical_px, spread = random_extent(rng, size_hw, 0.004, 0.012), float(rng.uniform(0.15, 0.7))
    brightest = log_uniform(rng, 0.4, 2.5)
    faintest = max(6 * noise, 0.08)
    for _ in range(int(log_uniform(rng, 10, 250))):
        tint = common * (np.exp(rng.normal(0, 0.35, 3)) if coloured else 1.0)
        light = log_uniform(rng, min(faintest, brightest / 2), brightest)
        radius_px = max(typical_px * float(np.exp(rng.normal(0, spread))), _LEAST_RADIUS_PX)
        _glow(canvas, rng, radius_px, (light * tint).astype(np.float32))
    if rng.random() < 0.3:
        canvas.rgb = 1 - np.clip(canvas.rgb, 0, 1)
    grain = rng.standard_normal(canvas.rgb.shape if coloured else (*size_hw, 1), dtype=np.float32)
    canvas.rgb = canvas.rgb + grain * np.float32(noise)
    return canvas


def _glow(canvas: Canvas, rng: np.random.Generator, radius_px: float, light: NDArray[np.float32]) -> None:
    """Add the light of one source, and take the pixels where it is bright for an instance."""
    height, width = canvas.rgb.shape[:2]
    centre_x, centre_y = random_place(rng, (height, width))
    # a spot is as the lens draws it (2), a galaxy is pointed (1), a disc has an edge (4)
    power = float(rng.choice((1.0, 2.0, 4.0), p=(0.3, 0.5, 0.2)))
    aspect = float(np.exp(abs(rng.normal(0, 0.4))))
    reach = int(np.ceil(4 * radius_px * aspect)) + 1
    top, bottom = max(int(centre_y) - reach, 0), min(int(centre_y) + reach + 1, height)
    left, right = max(int(centre_x) - reach, 0), min(int(centre_x) + reach + 1, width)
    y, x = np.mgrid[top:bottom, left:right] - np.array([centre_y, centre_x])[:, None, None]
    angle = float(rng.uniform(0, np.pi))
    along = (x * np.cos(angle) + y * np.sin(angle)) / aspect**0.5
    across = (y * np.cos(angle) - x * np.sin(angle)) * aspect**0.5
    profile = np.exp(np.log(_EDGE) * (np.hypot(along, across) / radius_px) ** power)
    if power < 2 and radius_px > 4:
        profile = profile * np.clip(1 + 0.25 * noise_field(rng, profile.shape, radius_px / 2, 2), 0.2, 2)
    window = slice(top, bottom), slice(left, right)
    canvas.rgb[window] += profile.astype(np.float32)[..., None] * light
    bright = profile > _EDGE
    # what is brighter than white looks larger
    bright |= profile * float(light.max()) > 0.5
    canvas.count += 1
    canvas.layers[0][window][bright] = canvas.count
