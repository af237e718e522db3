"""Generated pictures of coloured shapes: what the demonstration encoder learns colours and shapes from."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fastsam_core.text.demo_words import COLOURS, SHAPES

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ShapeScene", "draw_shapes"]

#: Hue in degrees, saturation and value: lowest and highest of each.
_PAINTS: Final[dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]]] = {
    "red": ((-8, 8), (0.75, 1.0), (0.6, 1.0)),
    "orange": ((22, 36), (0.8, 1.0), (0.85, 1.0)),
    "yellow": ((50, 64), (0.65, 1.0), (0.85, 1.0)),
    "green": ((90, 150), (0.5, 1.0), (0.35, 0.9)),
    "blue": ((200, 248), (0.6, 1.0), (0.45, 1.0)),
    "purple": ((268, 288), (0.5, 0.95), (0.4, 0.8)),
    "pink": ((312, 338), (0.35, 0.75), (0.85, 1.0)),
    "brown": ((16, 32), (0.55, 0.85), (0.3, 0.52)),
    "black": ((0, 360), (0.0, 0.2), (0.0, 0.14)),
    "white": ((0, 360), (0.0, 0.06), (0.93, 1.0)),
    "gray": ((0, 360), (0.0, 0.08), (0.4, 0.68)),
}
_SUPERSAMPLING: Final = 4


@dataclass(frozen=True, slots=True, eq=False)
class ShapeScene:
    """A picture of shapes.

    Attributes
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        RGB.
    masks : ndarray of bool, shape (N, H, W)
        What of each shape can be seen.
    items : tuple of (colour, shape)
        What each mask shows, in words of `COLOURS` and keys of `SHAPES`.
    """

    image: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    items: tuple[tuple[str, str], ...]


def draw_shapes(seed: int, size_hw: tuple[int, int] = (320, 320), most: int = 9) -> ShapeScene:
    """Draw shapes of random colours, sizes and angles on a random background.

    Parameters
    ----------
    seed : int
        Equal arguments give equal scenes.
    size_hw : tuple of int
        (H, W) in pixels.
    most : int
        Most shapes; they keep apart.

    Returns
    -------
    ShapeScene
        With at least one shape.
    """
    rng = np.random.default_rng(seed)
    height, width = size_hw
    canvas, base = _background(rng, size_hw)
    short = min(size_hw)
    placed: list[tuple[float, float, float]] = []
    masks: list[NDArray[np.bool_]] = []
    items: list[tuple[str, str]] = []
    wanted = int(rng.integers(4, most + 1))
    for _ in range(20 * wanted):
        radius = short * rng.uniform(0.05, 0.17)
        centre = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
        if any(math.hypot(centre[0] - x, centre[1] - y) < 1.08 * (radius + r) for x, y, r in placed):
            continue
        colour, shape = str(rng.choice(COLOURS)), str(rng.choice(list(SHAPES)))
        paint = _paint(rng, colour)
        if np.abs(paint - base).max() < 0.18:  # could not be told from the background
            continue
        rings = _outline(rng, shape, centre, radius)
        corner, coverage = _coverage(rings, size_hw)
        patch = tuple(slice(start, start + size) for start, size in zip(corner, coverage.shape, strict=True))
        shade = 1 + rng.uniform(0, 0.18) * _ramp(rng, (coverage.shape[0], coverage.shape[1]))
        canvas[patch] += coverage[..., None] * (np.clip(paint * shade[..., None], 0, 1) - canvas[patch])
        placed.append((*centre, radius))
        masks.append(np.zeros(size_hw, bool))
        masks[-1][patch] = coverage > 0.5
        items.append((colour, shape))
        if len(items) == wanted:
            break
    if rng.random() < 0.6:
        canvas += rng.normal(0, rng.uniform(0.005, 0.04), canvas.shape)
    image = (255 * canvas.clip(0, 1)).astype(np.uint8)
    if rng.random() < 0.4:
        import cv2

        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.3)), np.uint8)
    return ShapeScene(image, np.stack(masks), tuple(items))


def _paint(rng: np.random.Generator, colour: str) -> NDArray[np.float64]:
    (h0, h1), (s0, s1), (v0, v1) = _PAINTS[colour]
    hue = rng.uniform(h0, h1) % 360 / 360
    return np.array(colorsys.hsv_to_rgb(hue, rng.uniform(s0, s1), rng.uniform(v0, v1)))


def _ramp(rng: np.random.Generator, size_hw: tuple[int, int]) -> NDArray[np.float64]:
    """Return a plane that falls from 1 to -1 in a random direction."""
    angle = rng.uniform(0, math.tau)
    y, x = np.mgrid[-1 : 1 : size_hw[0] * 1j, -1 : 1 : size_hw[1] * 1j]
    ramp: NDArray[np.float64] = (math.cos(angle) * x + math.sin(angle) * y) / math.sqrt(2)
    return ramp


def _background(rng: np.random.Generator, size_hw: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a background in [0, 1] and its mean colour."""
    import cv2

    base = np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.75) ** 1.5, rng.uniform(0.05, 1)))
    canvas = base * (1 + rng.uniform(0, 0.3) * _ramp(rng, size_hw)[..., None])
    if rng.random() < 0.6:
        grain = max(2, int(min(size_hw) / rng.uniform(3, 60)))
        cells = (size_hw[1] // grain + 2, size_hw[0] // grain + 2)
        noise = rng.normal(0, rng.uniform(0.02, 0.13), (cells[1], cells[0], 3 if rng.random() < 0.4 else 1))
        scaled = cv2.resize(noise, size_hw[::-1], interpolation=cv2.INTER_CUBIC)
        canvas = canvas + (scaled if scaled.ndim == 3 else scaled[..., None])
    return canvas.clip(0, 1), base


def _outline(
    rng: np.random.Generator, shape: str, centre_xy: tuple[float, float], radius: float
) -> list[NDArray[np.float64]]:
    """Return closed rings (x, y), filled by the even-odd rule."""
    turn = np.linspace(0, math.tau, 64, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], 1)
    tilt = rng.uniform(0, math.tau)
    flat = rng.uniform(0.45, 0.68)
    if shape == "circle":
        rings = [circle]
    elif shape == "ellipse":
        rings = [circle * (1, flat)]
    elif shape == "ring":
        rings = [circle, circle * rng.uniform(0.5, 0.7)]
    elif shape in ("square", "rectangle"):
        rings = [np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (0.8, 0.8 if shape == "square" else 0.8 * flat)]
    elif shape == "triangle":
        rings = [circle[[0, 21, 43]] * (1, 1)]
    elif shape == "star":
        spokes = np.linspace(0, math.tau, 10, endpoint=False)
        reach = np.where(np.arange(10) % 2, rng.uniform(0.36, 0.48), 1.0)
        rings = [np.stack([reach * np.cos(spokes), reach * np.sin(spokes)], 1)]
    elif shape == "cross":
        arm = rng.uniform(0.24, 0.36)
        quarter = np.array([(arm, 1), (arm, arm), (1, arm)])
        rotations = [np.array([[c, s], [-s, c]]) for c, s in ((1, 0), (0, -1), (-1, 0), (0, 1))]
        rings = [np.concatenate([quarter @ rotation for rotation in rotations])]
    else:  # heart: the classic curve 16 sin³ t, 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t
        rings = [
            np.stack(
                [
                    16 * np.sin(turn) ** 3,
                    5 * np.cos(2 * turn) + 2 * np.cos(3 * turn) + np.cos(4 * turn) - 13 * np.cos(turn),
                ],
                1,
            )
            / 17
        ]
        tilt = rng.normal(0, 0.3)
    rotation = np.array([[math.cos(tilt), math.sin(tilt)], [-math.sin(tilt), math.cos(tilt)]])
    return [radius * ring @ rotation + centre_xy for ring in rings]


def _coverage(
    rings: list[NDArray[np.float64]], size_hw: tuple[int, int]
) -> tuple[tuple[int, int], NDArray[np.float64]]:
    """Return the share of each pixel inside the rings, for the smallest patch around them, and its corner (y, x)."""
    import cv2

    points = np.concatenate(rings)
    low = np.maximum(np.floor(points.min(0)).astype(int), 0)
    high = np.minimum(np.ceil(points.max(0)).astype(int), size_hw[::-1])
    width, height = (high - low).tolist()
    large = np.zeros((height * _SUPERSAMPLING, width * _SUPERSAMPLING), np.uint8)
    cv2.fillPoly(large, [np.round((ring - low) * _SUPERSAMPLING).astype(np.int32) for ring in rings], 255)
    small = cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA)
    return (int(low[1]), int(low[0])), np.asarray(small, np.float64) / 255
