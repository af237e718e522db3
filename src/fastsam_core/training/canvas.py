"""Drawing with labels: a float RGB canvas that records which instance owns each pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Shader = Callable[[NDArray[np.float32], NDArray[np.bool_]], NDArray[np.float32]]

SUBPIXEL_BITS = 4
MAX_DEPTH = 3
LEAST_AREA_PX = 12
"""Smaller instances are not drawn."""


class Canvas:
    """A scene being drawn.

    Parameters
    ----------
    background : ndarray of float32, shape (H, W, 3)
        Starting picture, nominal range 0..1; taken over, not copied.

    Attributes
    ----------
    rgb : ndarray of float32, shape (H, W, 3)
        The picture.
    layers : ndarray of uint16, shape (3, H, W)
        Owner of each pixel at nesting depth 0 (wholes), 1 (parts) and 2 (parts of parts); 0 is nobody.
    """

    def __init__(self, background: NDArray[np.float32]) -> None:
        self.rgb = background
        self.layers = np.zeros((MAX_DEPTH, *background.shape[:2]), np.uint16)
        self.count = 0

    def fill(
        self, polygon_xy: NDArray[np.float64], shader: Shader, depth: int = 0, inside: int | None = None
    ) -> tuple[int, tuple[slice, slice]] | None:
        """Draw a filled polygon with soft edges as a new instance.

        Parameters
        ----------
        polygon_xy : ndarray, shape (K, 2)
            Vertices in pixels, x first.
        shader : callable
            Given the present RGB window and the bool mask in it, returns the new RGB of the window.
        depth : int
            Nesting depth; a new whole (0) hides everything below it, a part only other parts.
        inside : int, optional
            Clip to the visible pixels of this instance at ``depth - 1``.

        Returns
        -------
        tuple or None
            Instance id and the window drawn in, or None if nothing was visible.
        """
        covered = self.cover(polygon_xy)
        if covered is None:
            return None
        window, alpha = covered
        mask = alpha >= 0.5
        if inside is not None:
            owned = self.layers[depth - 1][window] == inside
            mask &= owned
            alpha *= owned
        if int(mask.sum()) < LEAST_AREA_PX:
            return None
        drawn = self.rgb[window]
        drawn += (shader(drawn, mask) - drawn) * alpha[..., None]
        return self.own(window, mask, depth), window

    def cover(
        self, polygon_xy: NDArray[np.float64], soft_px: float = 0.0
    ) -> tuple[tuple[slice, slice], NDArray[np.float32]] | None:
        """Return how far a polygon covers the pixels of a window around it, without drawing it.

        Parameters
        ----------
        polygon_xy : ndarray, shape (K, 2)
            Vertices in pixels, x first.
        soft_px : float
            Standard deviation by which its edges are blurred.

        Returns
        -------
        tuple or None
            The window and float32 shares 0..1 in it, or None outside the picture.
        """
        import cv2

        window = self._window(polygon_xy, 2 + int(np.ceil(3 * soft_px)))
        if window is None:
            return None
        alpha = _rasterise(polygon_xy, *window)
        if soft_px > 0:
            alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), soft_px), np.float32)
        return window, alpha

    def paint(self, polygon_xy: NDArray[np.float64], shader: Shader, soft_px: float = 0.0) -> None:
        """Draw a polygon that is no instance of its own: a shadow, a marking, a vein."""
        covered = self.cover(polygon_xy, soft_px)
        if covered is None:
            return
        window, alpha = covered
        drawn = self.rgb[window]
        drawn += (shader(drawn, alpha >= 0.5) - drawn) * alpha[..., None]

    def own(self, window: tuple[slice, slice], mask: NDArray[np.bool_], depth: int = 0) -> int:
        """Make pixels of a window a new instance and return its id; parts that lay there are hidden."""
        self.count += 1
        self.layers[depth][window][mask] = self.count
        for deeper in self.layers[depth + 1 :]:
            deeper[window][mask] = 0
        return self.count

    def _window(self, polygon_xy: NDArray[np.float64], margin_px: int) -> tuple[slice, slice] | None:
        height, width = self.rgb.shape[:2]
        low = np.floor(polygon_xy.min(0)).astype(int) - margin_px
        high = np.ceil(polygon_xy.max(0)).astype(int) + margin_px + 1
        left, top = max(int(low[0]), 0), max(int(low[1]), 0)
        right, bottom = min(int(high[0]), width), min(int(high[1]), height)
        if right - left < 3 or bottom - top < 3:
            return None
        return slice(top, bottom), slice(left, right)


def _rasterise(polygon_xy: NDArray[np.float64], rows: slice, columns: slice) -> NDArray[np.float32]:
    import cv2

    local = (polygon_xy - (columns.start, rows.start)) * 2**SUBPIXEL_BITS
    drawn = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    cv2.fillPoly(drawn, [np.round(local).astype(np.int32)], 255, lineType=cv2.LINE_AA, shift=SUBPIXEL_BITS)
    return np.asarray(drawn / np.float32(255), np.float32)


def random_place(rng: np.random.Generator, size_hw: tuple[int, int]) -> tuple[float, float]:
    """Draw a place (x, y) in a picture, in pixels."""
    return float(rng.uniform(0, size_hw[1])), float(rng.uniform(0, size_hw[0]))


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a positive number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def random_extent(rng: np.random.Generator, size_hw: tuple[int, int], low: float, high: float) -> float:
    """Draw a length in pixels between two shares of a picture's shorter side, small ones as often as large ones."""
    return min(size_hw) * log_uniform(rng, low, high)


def noise_field(
    rng: np.random.Generator, size_hw: tuple[int, int], cell_px: float, octaves: int = 3
) -> NDArray[np.float32]:
    """Smooth noise with zero mean and about unit spread.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    size_hw : tuple of int
        (H, W).
    cell_px : float
        Size of the coarsest blobs in pixels.
    octaves : int
        Each further octave halves blob size and amplitude.

    Returns
    -------
    ndarray of float32, shape (H, W)
    """
    import cv2

    total = np.zeros(size_hw, np.float32)
    for octave in range(octaves):
        cell = max(cell_px / 2**octave, 1.0)
        coarse_hw = (max(round(size_hw[0] / cell), 1) + 2, max(round(size_hw[1] / cell), 1) + 2)
        coarse = rng.standard_normal(coarse_hw, dtype=np.float32)
        total += cv2.resize(coarse, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_CUBIC) * np.float32(0.5**octave)
        if cell <= 1.0:
            break
    return total


def outline(
    rng: np.random.Generator,
    centre_xy: tuple[float, float],
    radius_px: float,
    roughness: float,
    elongation: float = 1.0,
) -> NDArray[np.float64]:
    """Return a closed curve: a circle with random low harmonics, stretched and turned.

    ``roughness`` 0 gives an ellipse, 0.3 a blob, 0.6 something amoeba-like.
    """
    angles = np.linspace(0, 2 * np.pi, max(24, min(int(radius_px * 1.5), 96)), endpoint=False)
    radius = np.ones_like(angles)
    for harmonic in range(2, 7):
        amplitude = rng.normal(0, roughness / harmonic)
        radius += amplitude * np.cos(harmonic * angles + rng.uniform(0, 2 * np.pi))
    radius = np.maximum(radius, 0.25) * radius_px
    points = np.stack([radius * np.cos(angles) * elongation**0.5, radius * np.sin(angles) / elongation**0.5], axis=1)
    return turn(points, rng.uniform(0, 2 * np.pi)) + centre_xy


def nearest_two(
    far: NDArray[np.float64], candidates: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return of each row of candidates (N, K) the one least far, how far it is, and how much farther the next is."""
    order = far.argsort(axis=1)
    ranked = np.take_along_axis(far, order[:, :2], axis=1)
    nearest = np.take_along_axis(candidates, order[:, :1], axis=1)[:, 0]
    gap = ranked[:, 1] - ranked[:, 0] if far.shape[1] > 1 else np.full(len(far), np.inf)
    return nearest, ranked[:, 0], gap


def turn(points_xy: NDArray[np.float64], radians: float) -> NDArray[np.float64]:
    """Rotate points about the origin."""
    cosine, sine = np.cos(radians), np.sin(radians)
    return np.asarray(points_xy @ np.array([[cosine, sine], [-sine, cosine]]))


def corner_shape(rng: np.random.Generator, centre_xy: tuple[float, float], radius_px: float) -> NDArray[np.float64]:
    """Return a shape with corners: rectangle, triangle, regular or irregular polygon, star, rounded box."""
    kind = rng.integers(5)
    if kind == 0:
        aspect = np.exp(rng.uniform(-0.9, 0.9))
        half = radius_px * np.array([aspect**0.5, aspect**-0.5]) * 0.8
        points = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    elif kind == 1:
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
        points = radius_px * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    elif kind == 2:
        corners = int(rng.integers(4, 8)) * 2
        angles = np.arange(corners) * 2 * np.pi / corners
        radius = np.where(np.arange(corners) % 2 == 0, 1.0, rng.uniform(0.35, 0.8)) * radius_px
        points = np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)
    elif kind == 3:
        angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        power = rng.uniform(0.3, 0.8)
        aspect = np.exp(rng.uniform(-0.7, 0.7))
        points = np.stack(
            [
                np.sign(np.cos(angles)) * np.abs(np.cos(angles)) ** power * aspect,
                np.sign(np.sin(angles)) * np.abs(np.sin(angles)) ** power / aspect,
            ],
            axis=1,
        )
        points *= radius_px * 0.8
    else:
        corners = int(rng.integers(3, 9))
        angles = np.arange(corners) * 2 * np.pi / corners
        points = radius_px * np.stack([np.cos(angles), np.sin(angles) * rng.uniform(0.6, 1.0)], axis=1)
    angle = rng.uniform(0, 2 * np.pi) if rng.random() < 0.6 else 0.0
    return turn(points, angle) + centre_xy


def ribbon(rng: np.random.Generator, size_hw: tuple[int, int], width_px: float, bend: float) -> NDArray[np.float64]:
    """Return a curved band: the outline of a random walk of smooth curvature, thickened."""
    steps = int(rng.integers(16, 60))
    step_px = max(width_px * 0.8, 3.0)
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(np.cumsum(rng.normal(0, bend, steps)) * 0.3)
    path = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1) * step_px, axis=0)
    path += rng.uniform((0, 0), (size_hw[1], size_hw[0])) - path[steps // 2]
    half = width_px / 2 * (1 + 0.15 * np.sin(np.linspace(0, rng.uniform(2, 12), steps)))
    half *= np.minimum(1, np.minimum(np.arange(1, steps + 1), np.arange(steps, 0, -1)) / 2)
    normal = np.stack([-np.sin(heading), np.cos(heading)], axis=1) * half[:, None]
    return np.concatenate([path + normal, (path - normal)[::-1]])
