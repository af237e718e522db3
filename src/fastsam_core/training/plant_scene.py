"""Painter of plants: rosettes, twigs and litter of overlapping leaves, with fruits and flowers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastsam_core.training.canvas import Canvas, log_uniform, noise_field, outline, random_extent, random_place, turn
from fastsam_core.training.surfaces import cast_shadow, photographed, relief, stain, texture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastsam_core.training.canvas import Shader


def plants(rng: np.random.Generator, size_hw: tuple[int, int]) -> Canvas:
    """Draw leaves over soil, over other leaves or on paper.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    size_hw : tuple of int
        (H, W) in pixels.

    Returns
    -------
    Canvas
        Wholes: leaves, fruits and flowers, each what is to be seen of it. Parts: petals, and spots of sick leaves.
    """
    canvas = Canvas(_ground(rng, size_hw))
    grower = _Grower(rng, canvas)
    layout = rng.integers(4)
    if layout == 0:
        for _ in range(int(rng.integers(1, 7))):
            grower.rosette(random_place(rng, size_hw), random_extent(rng, size_hw, 0.08, 0.45))
    elif layout == 1:
        length_px = random_extent(rng, size_hw, 0.06, 0.35)
        for _ in range(int(min(rng.uniform(0.2, 2) * size_hw[0] * size_hw[1] / length_px**2, 120)) + 1):
            grower.leaf(random_place(rng, size_hw), length_px, float(rng.uniform(0, 2 * np.pi)))
    elif layout == 2:
        for _ in range(int(rng.integers(1, 5))):
            grower.twig(random_extent(rng, size_hw, 0.08, 0.25))
    else:
        middle = float(size_hw[1] * rng.uniform(0.3, 0.7)), float(size_hw[0] * rng.uniform(0.3, 0.7))
        heading = float(rng.uniform(0, 2 * np.pi))
        length_px = min(size_hw) * float(rng.uniform(0.5, 1.1))
        start = np.asarray(middle) - length_px / 2 * np.array([np.cos(heading), np.sin(heading)])
        grower.leaf((float(start[0]), float(start[1])), length_px, heading)
    if rng.random() < 0.35:
        radius_px = random_extent(rng, size_hw, 0.03, 0.12)
        for _ in range(int(rng.integers(1, 15))):
            grower.fruit(random_place(rng, size_hw), radius_px)
    if rng.random() < 0.25:
        radius_px = random_extent(rng, size_hw, 0.04, 0.2)
        for _ in range(int(rng.integers(1, 8))):
            grower.flower(random_place(rng, size_hw), radius_px)
    light = 1 + 0.3 * float(rng.random()) * noise_field(rng, size_hw, max(size_hw) / 2, 2)
    canvas.rgb *= np.clip(light, 0.3, 1.7)[..., None].astype(np.float32)
    return photographed(canvas, rng, float(rng.uniform(0.3, 1.2)), float(rng.uniform(0, 0.03)))


def _ground(rng: np.random.Generator, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    kind = rng.integers(4)
    if kind == 0:  # soil
        colour, rough = np.array([0.34, 0.25, 0.18]) * rng.uniform(0.5, 1.5), float(rng.uniform(0.04, 0.12))
    elif kind == 1:  # paper
        colour, rough = np.full(3, rng.uniform(0.6, 1.0)), 0.01
    elif kind == 2:  # green that is not in focus
        colour, rough = np.array([0.25, 0.38, 0.16]) * rng.uniform(0.4, 1.6), 0.0
    else:
        return texture(rng, size_hw)
    field = rough * noise_field(rng, size_hw, log_uniform(rng, 3, 20), 4)
    field = field + 0.06 * noise_field(rng, size_hw, min(size_hw) / 3, 2)
    return np.asarray(colour + field[..., None], np.float32)


def leaf_outline(
    base_xy: tuple[float, float],
    length_px: float,
    heading: float,
    breadth: float,
    widest: float,
    bend: float,
    teeth: float,
) -> NDArray[np.float64]:
    """Return the outline of a leaf.

    Parameters
    ----------
    base_xy : tuple of float
        Where its stalk ends, in pixels.
    length_px, heading : float
        Along its middle rib, and the direction there in radians.
    breadth : float
        Of its length.
    widest : float
        Where along the leaf (0..1) it is broadest.
    bend : float
        By how much (radians) the rib turns to its tip.
    teeth : float
        Depth of teeth or lobes, of the breadth.

    Returns
    -------
    ndarray of float64, shape (K, 2)
        Vertices (x, y).
    """
    share = np.linspace(0, 1, 40)
    angle = heading + bend * share
    step = length_px / (len(share) - 1)
    rib = np.cumsum(np.stack([np.cos(angle), np.sin(angle)], axis=1) * step, axis=0) + base_xy
    power = np.log(0.5) / np.log(np.clip(widest, 0.15, 0.85))
    half = breadth * length_px / 2 * np.sin(np.pi * share**power)
    half = half * (1 - teeth * (np.arange(len(share)) % 4 < 2))
    normal = np.stack([-np.sin(angle), np.cos(angle)], axis=1) * half[:, None]
    return np.concatenate([rib + normal, (rib - normal)[::-1]])


class _Grower:
    """Plants of one picture: one kind of leaf, fruit and flower, seen from one side of the light."""

    def __init__(self, rng: np.random.Generator, canvas: Canvas) -> None:
        self.rng, self.canvas = rng, canvas
        autumn = rng.random() < 0.25
        greens, browns = np.array([0.27, 0.45, 0.16]), np.array([0.6, 0.35, 0.12])
        self.colour = (browns if autumn else greens) * rng.uniform(0.5, 1.7) + rng.normal(0, 0.05, 3)
        self.spread = 0.12 if autumn else 0.04
        self.breadth, self.widest = float(rng.uniform(0.15, 0.85)), float(rng.uniform(0.3, 0.65))
        self.teeth = float(rng.choice((0.0, rng.uniform(0.05, 0.5))))
        self.veins = float(rng.normal(0.05, 0.06))
        self.light = float(rng.uniform(0, 2 * np.pi))
        self.sick = rng.random() < 0.2
        self.fruit_colour = np.clip(
            rng.choice([(0.75, 0.1, 0.1), (0.9, 0.55, 0.1), (0.35, 0.1, 0.35), (0.5, 0.65, 0.2)]), 0, 1
        )
        self.petal_colour = rng.uniform(0.3, 1.0, 3)
        self.petals = int(rng.integers(4, 13))

    def leaf(self, base_xy: tuple[float, float], length_px: float, heading: float) -> None:
        """Draw a leaf with its shadow, veins, and spots if the plant is sick."""
        rng, canvas = self.rng, self.canvas
        length_px = length_px * float(np.exp(rng.normal(0, 0.2)))
        breadth, widest = self.breadth * float(np.exp(rng.normal(0, 0.12))), self.widest
        bend = float(rng.normal(0, 0.35))
        shape = leaf_outline(base_xy, length_px, heading, breadth, widest, bend, self.teeth)
        if rng.random() < 0.5:
            cast_shadow(canvas, shape + length_px * 0.03 * np.array([np.cos(self.light), np.sin(self.light)]))
        colour = np.clip(self.colour * rng.uniform(0.75, 1.25) + rng.normal(0, self.spread, 3), 0.02, 0.98)
        drawn = canvas.fill(shape, self._blade(colour, heading, length_px))
        if drawn is None:
            return
        rib = leaf_outline(base_xy, length_px * 0.97, heading, min(0.03, 2.5 / length_px), 0.3, bend, 0)
        vein = np.clip(colour + 2 * self.veins, 0, 1).astype(np.float32)
        canvas.paint(rib, stain(vein, 0.7))
        for _ in range(int(rng.integers(0, 7)) if self.sick else 0):
            place = rib[int(rng.integers(len(rib)))] + rng.normal(0, breadth * length_px / 4, 2)
            spot = outline(rng, (float(place[0]), float(place[1])), length_px * float(rng.uniform(0.015, 0.06)), 0.3)
            brown = np.array([0.4, 0.28, 0.12]) * rng.uniform(0.5, 1.8)
            canvas.fill(spot, stain(brown.astype(np.float32), float(rng.uniform(0.5, 0.9))), 1, inside=drawn[0])

    def _blade(self, colour: NDArray[np.float64], heading: float, length_px: float) -> Shader:
        """Shader with a lit side, side veins and mottling."""
        rng = self.rng
        relief_depth, mottle = float(rng.uniform(0, 0.5)), float(rng.uniform(0.01, 0.07))
        spacing_px = max(length_px * float(rng.uniform(0.06, 0.14)), 4.0)
        far = float(rng.normal(0, 0.12))

        def shade(window: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
            rows, columns = np.nonzero(mask)
            middle = np.array([columns.mean(), rows.mean()]) if len(rows) else np.zeros(2)
            y, x = np.mgrid[0 : mask.shape[0], 0 : mask.shape[1]].astype(np.float32)
            along = (x - middle[0]) * np.cos(heading) + (y - middle[1]) * np.sin(heading)
            across = (y - middle[1]) * np.cos(heading) - (x - middle[0]) * np.sin(heading)
            stripes = np.cos(2 * np.pi * (along - np.abs(across)) / spacing_px)
            tone = self.veins * np.clip(3 * stripes - 2, 0, 1) + far * np.sign(across) * 0.3 + far * along / length_px
            tone = tone + mottle * noise_field(rng, (mask.shape[0], mask.shape[1]), max(length_px / 8, 3), 3)
            tone = tone + relief(mask, relief_depth, self.light)
            return np.asarray(colour * (1 + tone[..., None]), np.float32)

        return shade

    def rosette(self, middle_xy: tuple[float, float], radius_px: float) -> None:
        """Draw the leaves of a plant seen from above, small ones in the middle on top."""
        count = int(self.rng.integers(4, 16))
        start = float(self.rng.uniform(0, 2 * np.pi))
        for index in range(count):
            length_px = radius_px * (1 - 0.7 * index / count)
            heading = start + 2.4 * index + float(self.rng.normal(0, 0.15))
            self.leaf(middle_xy, length_px, heading)

    def twig(self, length_px: float) -> None:
        """Draw a stalk across the picture with leaves to both sides."""
        rng, canvas = self.rng, self.canvas
        height, width = canvas.rgb.shape[:2]
        x, y = random_place(rng, (height, width))
        heading, bend = float(rng.uniform(0, 2 * np.pi)), float(rng.normal(0, 0.1))
        brown = np.array([0.35, 0.27, 0.15]) * rng.uniform(0.6, 1.6)
        for index in range(int(rng.integers(4, 16))):
            step = length_px * 0.5 * np.array([np.cos(heading), np.sin(heading)])
            half_px = max(length_px * 0.03, 1.0)
            side = turn(np.array([[0.0, half_px]]), heading)[0]
            stalk = np.array([side, step + side, step - side, -side]) + np.array([x, y])
            canvas.paint(stalk, stain(brown.astype(np.float32), 0.95))
            x, y = float(x + step[0]), float(y + step[1])
            heading += bend
            self.leaf((x, y), length_px, heading + (0.9 if index % 2 else -0.9) + float(rng.normal(0, 0.2)))

    def fruit(self, middle_xy: tuple[float, float], radius_px: float) -> None:
        """Draw a round fruit with a highlight."""
        rng = self.rng
        own_px = radius_px * float(np.exp(rng.normal(0, 0.15)))
        shape = outline(rng, middle_xy, own_px, 0.05, float(np.exp(abs(rng.normal(0, 0.12)))))
        colour = np.clip(self.fruit_colour * rng.uniform(0.7, 1.2) + rng.normal(0, 0.04, 3), 0, 1)
        depth = float(rng.uniform(0.4, 1.2))

        def shade(window: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
            return np.asarray(colour * (1 + relief(mask, depth, self.light)[..., None]), np.float32)

        if self.canvas.fill(shape, shade) is not None and rng.random() < 0.6:
            offset = own_px * 0.4 * np.array([np.cos(self.light), np.sin(self.light)])
            gloss = outline(rng, (middle_xy[0] - offset[0], middle_xy[1] - offset[1]), own_px * 0.2, 0.1)
            self.canvas.paint(gloss, stain(np.ones(3, np.float32), float(rng.uniform(0.2, 0.8))), own_px * 0.08)

    def flower(self, middle_xy: tuple[float, float], radius_px: float) -> None:
        """Draw a flower whose petals are its parts."""
        rng, canvas = self.rng, self.canvas
        own_px = radius_px * float(np.exp(rng.normal(0, 0.2)))
        start = float(rng.uniform(0, 2 * np.pi))
        angles = start + np.linspace(0, 2 * np.pi, 8 * self.petals, endpoint=False)
        reach = own_px * (0.75 + 0.25 * np.abs(np.sin((angles - start) * self.petals / 2)))
        whole = np.stack([np.cos(angles), np.sin(angles)], axis=1) * reach[:, None] + middle_xy
        colour = self.petal_colour * rng.uniform(0.85, 1.1)
        drawn = canvas.fill(whole, stain((colour * 0.7).astype(np.float32), 0.95))
        if drawn is None:
            return
        for index in range(self.petals):
            heading = start + (index + 0.5) * 2 * np.pi / self.petals
            petal = leaf_outline(middle_xy, own_px, heading, 2.4 / self.petals, 0.6, 0.0, 0)
            tone = np.clip(colour * rng.uniform(0.85, 1.15), 0, 1).astype(np.float32)
            canvas.fill(petal, stain(tone, 0.9), 1, inside=drawn[0])
        heart = outline(rng, middle_xy, own_px * float(rng.uniform(0.15, 0.35)), 0.05)
        canvas.fill(heart, stain(np.array([0.85, 0.65, 0.1], np.float32), 0.9), 1, inside=drawn[0])
