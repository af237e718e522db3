"""Surfaces of generated scenes: colours, textures and the shaders that lay them on a shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastsam_core.training.canvas import noise_field

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastsam_core.training.canvas import Canvas, Shader


def random_colour(rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw a colour: often muted, sometimes vivid or gray."""
    base = rng.uniform(0.05, 0.95)
    spread = rng.choice([0.02, 0.15, 0.45], p=[0.3, 0.45, 0.25])
    return np.clip(base + rng.uniform(-spread, spread, 3), 0, 1).astype(np.float32)


def texture(rng: np.random.Generator, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Draw a textured RGB surface (H, W, 3): two colours mixed by noise, stripes, checks, speckle or a gradient."""
    height, width = size_hw
    kind = rng.choice(["noise", "fine", "stripes", "checks", "gradient", "flat", "marble"])
    first, second = random_colour(rng), random_colour(rng)
    closeness = rng.uniform(0.1, 0.8)
    second = first + (second - first) * np.float32(closeness)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    if kind == "noise":
        mix = noise_field(rng, size_hw, float(np.exp(rng.uniform(1.5, 4.5)))) * 0.4 + 0.5
    elif kind == "fine":
        mix = noise_field(rng, size_hw, float(rng.uniform(1.5, 6)), 2) * 0.4 + 0.5
    elif kind == "stripes":
        period = float(np.exp(rng.uniform(1.4, 4)))
        bend = noise_field(rng, size_hw, 60, 2) * rng.uniform(0, 0.25) * period
        mix = np.sin((along + bend) * (2 * np.pi / period)) * rng.uniform(0.5, 2) + 0.5
    elif kind == "checks":
        period = float(np.exp(rng.uniform(1.8, 4)))
        across = y * np.cos(angle) - x * np.sin(angle)
        mix = ((np.floor(along / period) + np.floor(across / period)) % 2).astype(np.float32)
    elif kind == "marble":
        mix = np.sin(along * 0.05 + 2.5 * noise_field(rng, size_hw, 70, 4)) * 0.5 + 0.5
    elif kind == "gradient":
        mix = (along - along.min()) / max(float(np.ptp(along)), 1.0)
    else:
        mix = np.full(size_hw, 0.5, np.float32)
    surface = first + (second - first) * np.clip(mix, 0, 1).astype(np.float32)[..., None]
    grain = rng.normal(0, rng.uniform(0, 0.05), size_hw).astype(np.float32)
    return np.asarray(surface + grain[..., None], np.float32)


def relief(mask: NDArray[np.bool_], depth: float, angle: float) -> NDArray[np.float32]:
    """Shading of a rounded body lit from one side, from the blurred mask's gradient."""
    import cv2

    sigma = max(min(mask.shape) * 0.15, 1.0)
    height = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma)
    slope_y, slope_x = np.gradient(height)
    return np.asarray((slope_x * np.cos(angle) + slope_y * np.sin(angle)) * (depth * sigma * 2), np.float32)


def textured(rng: np.random.Generator, light: float | None = None) -> Shader:
    """Shader of an opaque, textured and shaded body."""
    depth = float(rng.uniform(0, 0.6)) if light is not None else 0.0
    edge = float(rng.uniform(-0.4, 0.2)) if rng.random() < 0.3 else 0.0

    def shade(window: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        import cv2

        surface = texture(rng, (mask.shape[0], mask.shape[1]))
        if depth:
            surface += relief(mask, depth, light or 0.0)[..., None]
        if edge:
            core = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0)
            surface[core == 0] += np.float32(edge)
        return surface

    return shade


def stain(colour: NDArray[np.float32], strength: float, grain: NDArray[np.float32] | float = 0.0) -> Shader:
    """Shader that moves the window towards a colour, with optional grain."""

    def shade(window: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        field = grain[: mask.shape[0], : mask.shape[1], None] if isinstance(grain, np.ndarray) else grain
        return np.asarray(window + (colour - window) * np.float32(strength) + field, np.float32)

    return shade


def cast_shadow(canvas: Canvas, polygon_xy: NDArray[np.float64], dark: float = 0.4) -> None:
    """Darken what lies under an outline, with soft edges."""
    canvas.paint(polygon_xy, lambda window, _: window * np.float32(1 - dark), 3)


def photographed(canvas: Canvas, rng: np.random.Generator, blur_px: float, noise: float) -> Canvas:
    """Blur a picture as a lens does, and add noise, in all colours alike or in each its own."""
    import cv2

    if blur_px > 0.3:
        canvas.rgb = np.asarray(cv2.GaussianBlur(canvas.rgb, (0, 0), blur_px), np.float32)
    if noise > 0:
        shape = canvas.rgb.shape if rng.random() < 0.5 else (*canvas.rgb.shape[:2], 1)
        canvas.rgb = canvas.rgb + rng.standard_normal(shape, dtype=np.float32) * np.float32(noise)
    return canvas
