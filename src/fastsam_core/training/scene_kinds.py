"""Painters of the scene kinds: each turns random numbers and a size into a `Canvas`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastsam_core.training.canvas import (
    Canvas,
    corner_shape,
    log_uniform,
    noise_field,
    outline,
    random_extent,
    random_place,
    ribbon,
)
from fastsam_core.training.surfaces import cast_shadow, photographed, random_colour, relief, stain, texture, textured

if TYPE_CHECKING:
    from numpy.typing import NDArray


Size = tuple[int, int]


def _parts(canvas: Canvas, rng: np.random.Generator, whole: tuple[int, tuple[slice, slice]], depth: int) -> None:
    """Draw parts inside an instance, and sometimes parts inside those."""
    number, (rows, columns) = whole
    extent = min(rows.stop - rows.start, columns.stop - columns.start)
    if extent < 24:
        return
    for _ in range(int(rng.integers(1, 5))):
        centre = float(rng.uniform(columns.start, columns.stop)), float(rng.uniform(rows.start, rows.stop))
        radius = extent * float(rng.uniform(0.06, 0.28))
        shape = outline(rng, centre, radius, 0.15, 1.3) if rng.random() < 0.5 else corner_shape(rng, centre, radius)
        part = canvas.fill(shape, textured(rng), depth, inside=number)
        if part is not None and depth < 2 and rng.random() < 0.25:
            _parts(canvas, rng, part, depth + 1)


def _scatter(canvas: Canvas, rng: np.random.Generator, count: int, low: float, high: float) -> None:
    """Draw opaque objects of all shapes, with soft shadows and nested parts."""
    size_hw = (canvas.rgb.shape[0], canvas.rgb.shape[1])
    light = float(rng.uniform(0, 2 * np.pi))
    family = rng.random()
    for _ in range(count):
        centre, radius = random_place(rng, size_hw), random_extent(rng, size_hw, low, high)
        rounded = rng.random() < family
        shape = outline(rng, centre, radius, rng.uniform(0, 0.5), np.exp(rng.uniform(-1, 1))) if rounded else None
        polygon = corner_shape(rng, centre, radius) if shape is None else shape
        if rng.random() < 0.3:
            cast_shadow(canvas, polygon + radius * 0.12 * np.array([np.cos(light), np.sin(light)]))
        whole = canvas.fill(polygon, textured(rng, light))
        if whole is not None and rng.random() < 0.3:
            _parts(canvas, rng, whole, 1)


def objects(rng: np.random.Generator, size_hw: Size) -> Canvas:
    """Opaque objects with nested parts on a textured background."""
    canvas = Canvas(texture(rng, size_hw))
    crowd = rng.random()
    if crowd < 0.35:
        _scatter(canvas, rng, int(rng.integers(1, 6)), 0.15, 0.6)
    elif crowd < 0.8:
        _scatter(canvas, rng, int(rng.integers(4, 25)), 0.03, 0.3)
    else:
        _scatter(canvas, rng, int(rng.integers(20, 90)), 0.02, 0.09)
    return photographed(canvas, rng, float(rng.uniform(0, 1)), float(rng.uniform(0, 0.04)))


def regions(rng: np.random.Generator, size_hw: Size) -> Canvas:
    """Divide the picture wholly into large textured regions with irregular borders, some with objects in front."""
    height, width = size_hw
    canvas = Canvas(np.zeros((*size_hw, 3), np.float32))
    cells = int(rng.integers(2, 12))
    seeds = np.stack([rng.uniform(0, height, cells), rng.uniform(0, width, cells)], axis=1).astype(np.float32)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    warp = float(rng.uniform(0, 0.12)) * min(size_hw)
    stretch = np.exp(rng.uniform(-0.8, 0.8))
    wobble_y = y + warp * noise_field(rng, size_hw, min(size_hw) / 3, 4)
    wobble_x = x + warp * noise_field(rng, size_hw, min(size_hw) / 3, 4)
    distance = np.stack([(wobble_y - sy) ** 2 * stretch + (wobble_x - sx) ** 2 / stretch for sy, sx in seeds])
    owner = distance.argmin(0)
    for number in range(cells):
        mask = owner == number
        if mask.sum() >= 12:
            canvas.count += 1
            canvas.rgb[mask] = texture(rng, size_hw)[mask]
            canvas.layers[0][mask] = canvas.count
    if rng.random() < 0.6:
        _scatter(canvas, rng, int(rng.integers(1, 12)), 0.04, 0.3)
    return photographed(canvas, rng, float(rng.uniform(0, 1.2)), float(rng.uniform(0, 0.04)))


def _clustered(rng: np.random.Generator, size_hw: Size, count: int, spread_px: float) -> list[tuple[float, float]]:
    """Points that partly gather in clusters, so that bodies touch."""
    points: list[tuple[float, float]] = []
    for _ in range(count):
        if points and rng.random() < 0.5:
            x, y = points[int(rng.integers(len(points)))]
            angle = rng.uniform(0, 2 * np.pi)
            points.append((x + spread_px * float(np.cos(angle)), y + spread_px * float(np.sin(angle))))
        else:
            points.append(random_place(rng, size_hw))
    return points


def nuclei(rng: np.random.Generator, size_hw: Size) -> Canvas:
    """Fluorescent nuclei or cells: bright textured blobs, touching, uneven in brightness, on a dark field."""
    radius = random_extent(rng, size_hw, 0.012, 0.09)
    count = int(min(rng.uniform(0.05, 0.5) * size_hw[0] * size_hw[1] / (np.pi * radius**2), 150)) + 1
    field = 0.03 + 0.04 * np.abs(noise_field(rng, size_hw, min(size_hw) / 2, 2))
    canvas = Canvas(np.repeat(field[..., None], 3, axis=2))
    colour = np.ones(3, np.float32) if rng.random() < 0.7 else rng.dirichlet((1, 1, 1)).astype(np.float32) * 1.6
    contrast = rng.uniform(0.3, 1.0)
    for centre in _clustered(rng, size_hw, count, radius * 2.05):
        own = radius * float(np.exp(rng.normal(0, 0.2)))
        grain = 0.08 * noise_field(rng, (int(own * 6) + 8, int(own * 6) + 8), max(own / 2, 2), 3)
        bright = float(np.clip(contrast * np.exp(rng.normal(0, 0.35)), 0.12, 1.1))
        shape = outline(rng, centre, own, 0.12, float(np.exp(rng.normal(0, 0.3))))
        whole = canvas.fill(shape, stain(colour * np.float32(bright), 0.95, grain * bright))
        if whole is not None and own > 12 and rng.random() < 0.2:
            spot = outline(rng, centre, own * rng.uniform(0.15, 0.3), 0.1)
            canvas.fill(spot, stain(colour * np.float32(bright * rng.uniform(0.3, 1.4)), 0.7), 1, inside=whole[0])
    return photographed(canvas, rng, float(rng.uniform(0.3, 0.02 * radius + 1.5)), float(rng.uniform(0, 0.06)))


def tissue(rng: np.random.Generator, size_hw: Size) -> Canvas:
    """Stained tissue: purple (H&E) or blue and brown (IHC) nuclei over fibrous pink or pale ground."""
    immuno = rng.random() < 0.45
    ground = np.array([0.90, 0.87, 0.86] if immuno else [0.88, 0.68, 0.80], np.float32)
    fibre = np.array([0.78, 0.76, 0.82] if immuno else [0.80, 0.48, 0.66], np.float32)
    ground = np.clip(ground + rng.normal(0, 0.05, 3), 0, 1).astype(np.float32)
    fibre = np.clip(fibre + rng.normal(0, 0.07, 3), 0, 1).astype(np.float32)
    coarse = noise_field(rng, size_hw, float(rng.uniform(20, 90)), 5) * 0.5 + rng.uniform(0, 0.8)
    canvas = Canvas(ground + (fibre - ground) * np.clip(coarse, 0, 1)[..., None].astype(np.float32))
    for _ in range(int(rng.integers(0, 5))):
        lumen = outline(rng, random_place(rng, size_hw), random_extent(rng, size_hw, 0.04, 0.2), 0.35, 1.4)
        if canvas.fill(lumen, stain(np.array([0.95, 0.94, 0.95], np.float32), 0.95)) is not None:
            canvas.layers[0][canvas.layers[0] == canvas.count] = 0
    radius = random_extent(rng, size_hw, 0.010, 0.045)
    count = int(min(rng.uniform(0.05, 0.45) * size_hw[0] * size_hw[1] / (np.pi * radius**2), 150)) + 1
    purple = np.array([0.40, 0.24, 0.55], np.float32)
    blue, brown = np.array([0.45, 0.52, 0.72], np.float32), np.array([0.42, 0.25, 0.14], np.float32)
    positive = rng.uniform(0, 0.9)
    common = rng.normal(0, 0.06, 3)
    for centre in _clustered(rng, size_hw, count, radius * 2.2):
        colour = (brown if rng.random() < positive else blue) if immuno else purple
        colour = np.clip(colour + common + rng.normal(0, 0.05, 3) + rng.normal(0, 0.05), 0, 1).astype(np.float32)
        own = radius * float(np.exp(rng.normal(0, 0.25)))
        if immuno and rng.random() < 0.35:
            halo = outline(rng, centre, own * rng.uniform(1.3, 1.9), 0.25)
            if canvas.fill(halo, stain(brown + 0.15, float(rng.uniform(0.1, 0.5)))) is not None:
                canvas.layers[0][canvas.layers[0] == canvas.count] = 0
        grain = 0.07 * noise_field(rng, (int(own * 8) + 8, int(own * 8) + 8), max(own / 3, 1.5), 3)
        shape = outline(rng, centre, own, 0.15, float(np.exp(rng.normal(0.2, 0.45))))
        canvas.fill(shape, stain(colour, float(rng.uniform(0.55, 0.95)), grain))
    return photographed(canvas, rng, float(rng.uniform(0.3, 1.3)), float(rng.uniform(0, 0.03)))


def phase(rng: np.random.Generator, size_hw: Size) -> Canvas:
    """Phase contrast or DIC: gray ground, thin irregular or round bodies with bright halos and dark rims."""
    import cv2

    level = float(rng.uniform(0.35, 0.65))
    ground = level + rng.uniform(0.005, 0.03) * noise_field(rng, size_hw, float(rng.uniform(4, 40)), 4)
    canvas = Canvas(np.repeat(np.asarray(ground, np.float32)[..., None], 3, axis=2))
    radius = random_extent(rng, size_hw, 0.015, 0.09)
    count = int(min(rng.uniform(0.03, 0.4) * size_hw[0] * size_hw[1] / (np.pi * radius**2), 100)) + 1
    rough, longish = rng.uniform(0.05, 0.6), rng.uniform(0, 1.2)
    halo, sidelit = float(rng.uniform(0.12, 0.45)), rng.random() < 0.3
    angle = float(rng.uniform(0, 2 * np.pi))
    body = float(rng.normal(0, 0.06))

    def shade(window: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        inner = noise_field(rng, (mask.shape[0], mask.shape[1]), max(radius / 2, 2), 4) * texture_gain
        shaded = level + body + inner
        if sidelit:
            shaded = shaded + relief(mask, 0.7, angle)
        return np.repeat(np.asarray(shaded, np.float32)[..., None], 3, axis=2)

    for centre in _clustered(rng, size_hw, count, radius * 2.0):
        texture_gain = float(rng.uniform(0.01, 0.09))
        own = radius * float(np.exp(rng.normal(0, 0.3)))
        whole = canvas.fill(outline(rng, centre, own, rough, float(np.exp(rng.normal(0, longish)))), shade)
        if whole is not None and own > 10 and rng.random() < 0.3:
            spot = outline(rng, centre, own * rng.uniform(0.25, 0.45), 0.1)
            canvas.fill(spot, stain(np.full(3, level + rng.normal(0, 0.1), np.float32), 0.5), 1, inside=whole[0])
    if not sidelit:
        covered = (canvas.layers[0] > 0).astype(np.float32)
        near = cv2.GaussianBlur(covered, (0, 0), max(radius * 0.15, 1.2))
        rim = near * (1 - covered) - 0.8 * (1 - near) * covered
        borders = cv2.morphologyEx(canvas.layers[0], cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        rim = rim + cv2.GaussianBlur(borders.astype(np.float32), (0, 0), 0.8) * rng.uniform(-0.5, 0.8)
        canvas.rgb += np.asarray(rim * halo, np.float32)[..., None]
    return photographed(canvas, rng, float(rng.uniform(0.3, 1.5)), float(rng.uniform(0, 0.04)))


def grains(rng: np.random.Generator, size_hw: Size) -> Canvas:
    """Coins, pebbles, seeds: shaded bodies with embossed texture on unevenly lit ground, loose or packed."""
    canvas = Canvas(texture(rng, size_hw))
    radius = random_extent(rng, size_hw, 0.02, 0.12)
    spacing = radius * float(rng.uniform(1.9, 3.5))
    light, rough = float(rng.uniform(0, 2 * np.pi)), float(rng.choice([0.0, 0.08, 0.25]))
    longish = float(rng.choice([0.0, 0.4]))
    for row in range(int(size_hw[0] / spacing) + 2):
        for column in range(int(size_hw[1] / spacing) + 2):
            if rng.random() < 0.12:
                continue
            jitter = rng.normal(0, spacing * 0.12, 2)
            centre = float(column * spacing + jitter[0]), float(row * spacing + jitter[1])
            own = radius * float(np.exp(rng.normal(0, 0.15)))
            shape = outline(rng, centre, own, rough, float(np.exp(rng.normal(0, longish))))
            whole = canvas.fill(shape, textured(rng, light))
            if whole is not None and own > 16 and rng.random() < 0.1:
                canvas.fill(outline(rng, centre, own * 0.6, 0.1), textured(rng, light), 1, inside=whole[0])
    uneven = 1 + 0.35 * noise_field(rng, size_hw, max(size_hw), 1) * rng.random()
    canvas.rgb *= np.clip(uneven, 0.3, 1.7)[..., None].astype(np.float32)
    return photographed(canvas, rng, float(rng.uniform(0.2, 1.2)), float(rng.uniform(0, 0.04)))


def filaments(rng: np.random.Generator, size_hw: Size) -> Canvas:
    """Fibres, worms, rods and bacteria: curved bands, bright or dark, crossing each other."""
    dark = rng.random() < 0.5
    ground = rng.uniform(0.02, 0.3) if dark else rng.uniform(0.5, 0.95)
    field = ground + 0.03 * noise_field(rng, size_hw, 40, 4)
    canvas = Canvas(np.repeat(np.asarray(field, np.float32)[..., None], 3, axis=2) * (0.7 + 0.3 * random_colour(rng)))
    width, bend = random_extent(rng, size_hw, 0.012, 0.05), float(rng.uniform(0.02, 0.3))
    colour = random_colour(rng) * np.float32(0.5) + np.float32(0.5 if dark else 0.0)
    for _ in range(int(rng.integers(3, 40))):
        shade = np.clip(colour * rng.uniform(0.7, 1.2), 0, 1).astype(np.float32)
        if rng.random() < 0.5:
            shape = ribbon(rng, size_hw, width * float(rng.uniform(0.7, 1.4)), bend)
        else:
            shape = outline(rng, random_place(rng, size_hw), width * 1.3, 0.05, float(rng.uniform(2, 6)))
        canvas.fill(shape, stain(shade, float(rng.uniform(0.6, 1.0))))
    return photographed(canvas, rng, float(rng.uniform(0.3, 1.2)), float(rng.uniform(0, 0.05)))


def droplets(rng: np.random.Generator, size_hw: Size) -> Canvas:
    """Droplets, bubbles, organoids: discs with bright or dark rims and often smaller droplets inside."""
    ground = noise_field(rng, size_hw, min(size_hw) / 2, 2) * 0.05 + rng.uniform(0.2, 0.85)
    canvas = Canvas(np.asarray(ground[..., None] * (0.85 + 0.15 * random_colour(rng)), np.float32))
    radius = random_extent(rng, size_hw, 0.02, 0.15)
    rim_dark, inner = float(rng.uniform(-0.5, 0.4)), float(rng.normal(0, 0.08))
    rim_width = float(rng.uniform(0.06, 0.22))

    def shade(window: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        import cv2

        depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
        scale = max(float(depth.max()), 1.0)
        profile = np.exp(-((depth / scale / rim_width) ** 2)) * rim_dark + inner * (depth > 0)
        return np.asarray(window + profile[..., None], np.float32)

    for centre in _clustered(rng, size_hw, int(rng.integers(2, 60)), radius * 2.1):
        own = radius * float(np.exp(rng.normal(0, 0.35)))
        whole = canvas.fill(outline(rng, centre, own, 0.04, float(np.exp(rng.normal(0, 0.08)))), shade)
        if whole is not None and own > 14 and rng.random() < 0.3:
            for _ in range(int(rng.integers(1, 4))):
                place = np.array(centre) + rng.normal(0, own * 0.4, 2)
                inner_shape = outline(rng, (float(place[0]), float(place[1])), own * rng.uniform(0.15, 0.4), 0.03)
                canvas.fill(inner_shape, shade, 1, inside=whole[0])
    return photographed(canvas, rng, float(rng.uniform(0.3, 1.5)), float(rng.uniform(0, 0.04)))


def electron(rng: np.random.Generator, size_hw: Size) -> Canvas:
    """Electron microscopy and epithelia: packed cells with membranes, organelles inside, strong grain."""
    height, width = size_hw
    cells = int(log_uniform(rng, 5, 90))
    seeds = np.stack([rng.uniform(0, height, cells), rng.uniform(0, width, cells)], axis=1).astype(np.float32)
    from scipy.spatial import cKDTree

    warp = 0.3 * float(np.sqrt(height * width / cells))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    wave = warp * float(rng.uniform(0.1, 0.6))
    wobbled = np.stack(
        [y + wave * noise_field(rng, size_hw, warp * 4, 2), x + wave * noise_field(rng, size_hw, warp * 4, 2)], axis=-1
    )
    distance, owner = cKDTree(seeds).query(wobbled.reshape(-1, 2), k=2)
    gap = (distance[:, 1] - distance[:, 0]).reshape(size_hw)
    membrane = gap < rng.uniform(2, 5)
    level = rng.uniform(0.45, 0.85)
    tone = (level + rng.normal(0, 0.07, cells))[owner[:, 0]].reshape(size_hw)
    tone = tone + rng.uniform(0.02, 0.08) * noise_field(rng, size_hw, float(rng.uniform(3, 10)), 3)
    edge = rng.uniform(0.1, 0.4) if rng.random() < 0.8 else 0.95
    tone = np.where(membrane, edge, tone).astype(np.float32)
    canvas = Canvas(np.repeat(tone[..., None], 3, axis=2))
    canvas.layers[0] = np.where(membrane, 0, owner[:, 0].reshape(size_hw) + 1)
    canvas.count = cells
    for number in range(1, cells + 1):
        for _ in range(int(rng.integers(0, 4)) if rng.random() < 0.5 else 0):
            centre = (
                float(seeds[number - 1, 1] + rng.normal(0, warp)),
                float(seeds[number - 1, 0] + rng.normal(0, warp)),
            )
            shape = outline(rng, centre, warp * float(rng.uniform(0.2, 0.9)), 0.15, float(np.exp(rng.normal(0, 0.4))))
            shade = np.full(3, np.clip(level + rng.normal(0, 0.25), 0.05, 0.95), np.float32)
            canvas.fill(shape, stain(shade, 0.8), 1, inside=number)
    return photographed(canvas, rng, float(rng.uniform(0.3, 1.2)), float(rng.uniform(0.01, 0.1)))
