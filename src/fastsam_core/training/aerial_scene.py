"""Painter of land seen from above: fields and lots between roads, with houses, trees, cars and boats."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from fastsam_core.training.canvas import Canvas, log_uniform, noise_field, outline, random_extent, turn
from fastsam_core.training.surfaces import cast_shadow, photographed, random_colour, relief, stain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastsam_core.training.canvas import Shader

_CORNERS = np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])


def aerial(rng: np.random.Generator, size_hw: tuple[int, int]) -> Canvas:
    """Draw a village, fields, a wood or a harbour from above.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    size_hw : tuple of int
        (H, W) in pixels.

    Returns
    -------
    Canvas
        Wholes: fields, ponds, car parks, houses, trees, cars and boats; lawns and roads are ground.
    """
    house_px = random_extent(rng, size_hw, 0.025, 0.16)
    survey = _Survey(rng, size_hw, house_px)
    survey.draw()
    canvas = survey.canvas
    haze = float(rng.uniform(0, 0.25)) if rng.random() < 0.4 else 0.0
    canvas.rgb = canvas.rgb * np.float32(1 - haze) + np.float32(0.7 * haze)
    photographed(canvas, rng, float(rng.uniform(0.3, 1.1)), float(rng.uniform(0, 0.03)))
    if rng.random() < 0.15:
        canvas.rgb = np.repeat(canvas.rgb.mean(axis=2, keepdims=True), 3, axis=2)
    return canvas


class _Survey:
    """One stretch of land: a grid of blocks turned by an angle, and the size of a house."""

    def __init__(self, rng: np.random.Generator, size_hw: tuple[int, int], house_px: float) -> None:
        self.rng, self.size_hw, self.house_px = rng, size_hw, house_px
        self.angle = float(rng.uniform(0, np.pi))
        self.light = float(rng.uniform(0, 2 * np.pi))
        self.middle = np.array([size_hw[1], size_hw[0]]) / 2
        earth = np.array([0.40, 0.42, 0.28]) * rng.uniform(0.5, 1.4) + rng.normal(0, 0.04, 3)
        field = 0.05 * noise_field(rng, size_hw, house_px, 4)
        self.canvas = Canvas(np.asarray(earth + field[..., None], np.float32))
        self.roofs = [self._roof_colour() for _ in range(int(rng.integers(1, 5)))]
        self.dense = float(rng.uniform(0.2, 0.95))

    def _roof_colour(self) -> NDArray[np.float64]:
        tiles, slate, tin = (0.62, 0.33, 0.24), (0.35, 0.36, 0.4), (0.8, 0.8, 0.78)
        base = np.array((tiles, slate, tin)[int(self.rng.integers(3))])
        return np.clip(base * self.rng.uniform(0.6, 1.3) + self.rng.normal(0, 0.04, 3), 0.03, 0.97)

    def _placed(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn points of the grid into the picture."""
        return turn(points, self.angle) + self.middle

    def draw(self) -> None:
        """Draw block after block."""
        rng = self.rng
        reach = float(np.hypot(*self.size_hw)) / 2
        road_px = self.house_px * float(rng.uniform(0.2, 0.5))
        gray = np.full(3, rng.uniform(0.3, 0.65), np.float32)
        wanted = rng.dirichlet((1.5, 1.5, 1.0, 0.6, 0.4))
        block_px = self.house_px * log_uniform(rng, 2.5, 7)
        painters = (self._houses, self._field, self._wood, self._lot, self._water)
        for left, right in _cuts(rng, reach, block_px):
            for top, bottom in _cuts(rng, reach, block_px * float(rng.uniform(0.6, 1.8))):
                painter = painters[int(rng.choice(len(painters), p=wanted))]
                block = np.array([left, top, right, bottom]) + np.array([1, 1, -1, -1]) * road_px / 2
                if min(block[2] - block[0], block[3] - block[1]) > self.house_px:
                    painter(block)
            street = np.array([(left, -reach), (left, reach)])
            side = np.array([road_px / 2, 0.0])
            self.canvas.paint(self._placed(np.concatenate([street - side, (street + side)[::-1]])), stain(gray, 0.95))
            self._traffic(left, reach, road_px)
        if rng.random() < 0.5:
            road = turn(_CORNERS * (reach, road_px * 0.8), float(rng.uniform(0, np.pi)))
            self._through_road(road + self.middle, gray)

    def _through_road(self, polygon: NDArray[np.float64], gray: NDArray[np.float32]) -> None:
        covered = self.canvas.cover(polygon)
        if covered is None:
            return
        window, alpha = covered
        self.canvas.paint(polygon, stain(gray, 0.95))
        self.canvas.layers[:, window[0], window[1]][:, alpha >= 0.5] = 0

    def _traffic(self, across: float, reach: float, road_px: float) -> None:
        rng = self.rng
        along = -reach
        while along < reach:
            along += road_px * log_uniform(rng, 1.5, 20)
            side = road_px * 0.22 * float(rng.choice((-1, 1)))
            self._car((across + side, along), road_px * 0.42, np.pi / 2)

    def _car(self, place: tuple[float, float], length_px: float, heading: float) -> None:
        if length_px < 5:
            return
        rng = self.rng
        body = _CORNERS * length_px / 2 * (1.0, 0.45)
        shape = self._placed(turn(body, heading) + place)
        cast_shadow(self.canvas, shape + self._towards(length_px * 0.1))
        if self.canvas.fill(shape, stain(random_colour(rng), 0.97)) is not None and length_px > 9:
            glass = _CORNERS * length_px / 2 * (0.25, 0.36) + (length_px * 0.12, 0)
            self.canvas.paint(self._placed(turn(glass, heading) + place), stain(np.full(3, 0.12, np.float32), 0.8))

    def _towards(self, length_px: float) -> NDArray[np.float64]:
        return length_px * np.array([np.cos(self.light), np.sin(self.light)])

    def _outline(self, block: NDArray[np.float64]) -> NDArray[np.float64]:
        left, top, right, bottom = block
        corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
        return self._placed(corners + self.rng.normal(0, 0.03, (4, 2)) * (right - left, bottom - top))

    def _places(self, block: NDArray[np.float64], spacing_px: float) -> list[tuple[float, float]]:
        """Return places in rows within a block, some left out."""
        left, top, right, bottom = block
        columns, rows = int((right - left) / spacing_px), int((bottom - top) / spacing_px)
        return [
            (float(left + (right - left) * (i + 0.5) / columns), float(top + (bottom - top) * (j + 0.5) / rows))
            for i in range(columns)
            for j in range(rows)
            if self.rng.random() < self.dense
        ]

    def _houses(self, block: NDArray[np.float64]) -> None:
        rng = self.rng
        lawn = (np.array([0.33, 0.45, 0.22]) * rng.uniform(0.6, 1.4)).astype(np.float32)
        self.canvas.paint(self._outline(block), stain(lawn, 0.6))
        for place in self._places(block, self.house_px * float(rng.uniform(1.2, 1.9))):
            self._house(place)
            if rng.random() < 0.3:
                offset = rng.normal(0, self.house_px * 0.7, 2)
                self._tree((place[0] + offset[0], place[1] + offset[1]), self.house_px * float(rng.uniform(0.1, 0.3)))

    def _house(self, place: tuple[float, float]) -> None:
        """Draw a roof of one to four slopes, some with a wing, with its shadow."""
        rng, canvas = self.rng, self.canvas
        half = self.house_px / 2 * np.exp(rng.normal(0, 0.25, 2))
        heading = float(rng.choice((0.0, np.pi / 2))) + float(rng.normal(0, 0.04))
        corners = _CORNERS * half
        if rng.random() < 0.3:
            # an L
            (x, y), (inner_x, inner_y) = half, rng.uniform(-0.3, 0.3, 2) * half
            corners = np.array([(-x, -y), (x, -y), (x, inner_y), (inner_x, inner_y), (inner_x, y), (-x, y)])
        shape = self._placed(turn(corners, heading) + place)
        cast_shadow(canvas, shape + self._towards(self.house_px * float(rng.uniform(0.05, 0.2))), 0.5)
        colour = self.roofs[int(rng.integers(len(self.roofs)))] * rng.uniform(0.85, 1.15)
        drawn = canvas.fill(shape, self._covering(colour, heading))
        if drawn is None:
            return
        if len(corners) == 4 and rng.random() < 0.7:
            dark = float(rng.uniform(-0.35, 0.35))
            slope = self._placed(turn(np.array([(-1.0, 0), (1, 0), (1, 1), (-1, 1)]) * half, heading) + place)
            canvas.paint(slope, lambda window, _: window * np.float32(1 + dark))
            if rng.random() < 0.4:
                hip = self._placed(
                    turn(np.array([(1.0, -1), (1, 1), (1 - half[1] / half[0], 0)]) * half, heading) + place
                )
                canvas.paint(hip, lambda window, _: window * np.float32(1 - dark / 2))
        for _ in range(int(rng.integers(0, 4)) if self.house_px > 24 else 0):
            spot = rng.uniform(-0.7, 0.7, 2) * half
            pane = self._placed(turn(_CORNERS * self.house_px * 0.04 + spot, heading) + place)
            canvas.paint(pane, stain(random_colour(rng), 0.8))

    def _covering(self, colour: NDArray[np.float64], heading: float) -> Shader:
        rng = self.rng
        rough, rows = float(rng.uniform(0, 0.05)), float(rng.uniform(0, 0.06))
        period = max(self.house_px / float(rng.uniform(6, 20)), 2.5)
        angle = self.angle + heading

        def shade(window: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
            y, x = np.mgrid[0 : mask.shape[0], 0 : mask.shape[1]].astype(np.float32)
            stripes = np.sin((x * np.cos(angle) - y * np.sin(angle)) * (2 * np.pi / period))
            tone = rough * noise_field(rng, (mask.shape[0], mask.shape[1]), 4, 2) + rows * stripes
            return np.asarray(colour * (1 + tone[..., None]), np.float32)

        return shade

    def _field(self, block: NDArray[np.float64]) -> None:
        """Draw a field with rows, some divided into strips."""
        rng = self.rng
        strips = int(rng.choice((1, 1, 2, 4)))
        edges = np.linspace(block[0], block[2], strips + 1)
        for left, right in pairwise(edges):
            colour = np.array([(0.35, 0.48, 0.2), (0.65, 0.58, 0.35), (0.42, 0.32, 0.22)][int(rng.integers(3))])
            strip = np.array([left, block[1], right, block[3]])
            self.canvas.fill(
                self._outline(strip), self._covering(colour * rng.uniform(0.7, 1.3), float(rng.choice((0, 1.57))))
            )
        if rng.random() < 0.3:
            place = rng.uniform(block[:2], block[2:])
            self._tree((float(place[0]), float(place[1])), self.house_px * float(rng.uniform(0.2, 0.5)))

    def _wood(self, block: NDArray[np.float64]) -> None:
        crown_px = self.house_px * float(self.rng.uniform(0.25, 0.6))
        places = self._places(block, crown_px * float(self.rng.uniform(1.3, 2.2)))
        self.rng.shuffle(places)
        for x, y in places[:80]:
            offset = self.rng.normal(0, crown_px * 0.3, 2)
            self._tree((x + float(offset[0]), y + float(offset[1])), crown_px * float(np.exp(self.rng.normal(0, 0.2))))

    def _tree(self, place: tuple[float, float], radius_px: float) -> None:
        rng = self.rng
        x, y = self._placed(np.array([place]))[0]
        shape = outline(rng, (float(x), float(y)), radius_px, 0.25)
        cast_shadow(self.canvas, shape + self._towards(radius_px * 0.5), 0.5)
        colour = np.array([0.2, 0.33, 0.14]) * rng.uniform(0.6, 1.5) + rng.normal(0, 0.03, 3)
        clumps, depth = float(rng.uniform(0.05, 0.25)), float(rng.uniform(0.3, 1.0))

        def shade(window: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
            tone = clumps * noise_field(rng, (mask.shape[0], mask.shape[1]), max(radius_px / 3, 2), 3)
            return np.asarray(colour * (1 + (tone + relief(mask, depth, self.light + np.pi))[..., None]), np.float32)

        self.canvas.fill(shape, shade)

    def _lot(self, block: NDArray[np.float64]) -> None:
        """Draw a car park, or one large hall."""
        rng = self.rng
        if rng.random() < 0.4:
            shape = self._outline(block)
            cast_shadow(self.canvas, shape + self._towards(self.house_px * 0.15), 0.5)
            self.canvas.fill(shape, self._covering(self._roof_colour(), 0.0))
            return
        self.canvas.fill(self._outline(block), self._covering(np.full(3, rng.uniform(0.3, 0.6)), 0.0))
        length_px = self.house_px * float(rng.uniform(0.22, 0.4))
        for place in self._places(block, length_px * 1.35)[:120]:
            if rng.random() < 0.6:
                self._car(place, length_px, np.pi / 2)

    def _water(self, block: NDArray[np.float64]) -> None:
        rng = self.rng
        middle = self._placed(np.array([(block[:2] + block[2:]) / 2]))[0]
        radius_px = float(min(block[2] - block[0], block[3] - block[1])) / 2
        pond = outline(rng, (float(middle[0]), float(middle[1])), radius_px, 0.3)
        shape = pond if rng.random() < 0.5 else self._outline(block)
        colour = np.array([0.15, 0.28, 0.36]) * rng.uniform(0.5, 1.7)
        self.canvas.fill(shape, self._covering(colour, 0.0))
        hull = np.array([(-1.0, -0.25), (0.4, -0.3), (1, 0), (0.4, 0.3), (-1, 0.25)])
        for place in self._places(block, self.house_px)[:20]:
            if rng.random() < 0.4:
                boat = turn(hull * self.house_px * float(rng.uniform(0.15, 0.4)), float(rng.uniform(0, 2 * np.pi)))
                self.canvas.fill(self._placed(boat + place), stain(np.full(3, rng.uniform(0.6, 1.0), np.float32), 0.95))


def _cuts(rng: np.random.Generator, reach: float, spacing_px: float) -> list[tuple[float, float]]:
    """Return stretches of a line from ``-reach`` to ``reach``, of uneven length."""
    edges = [-reach]
    while edges[-1] < reach:
        edges.append(edges[-1] + spacing_px * float(rng.uniform(0.6, 1.5)))
    return list(pairwise(edges))
