"""The demo's images, with prompts that ask for something in each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from fastsam_core._files import atomic_path
from fastsam_core.errors import MissingDependencyError
from fastsam_core.text.demo_scenes import draw_shapes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SCENES", "DemoScene", "scene_path", "two_channel_cells"]

_CELLS: Final = 26
_CELLS_HW: Final = (480, 640)
_SHAPES_HW: Final = (480, 640)
_SHAPES_SEED: Final = 3108


@dataclass(frozen=True, slots=True)
class DemoScene:
    """An image and prompts on it, written as on the command line: positions are (x, y).

    Parameters
    ----------
    name : str
        Stem of the results.
    file_name : str or None
        File in scikit-image's data folder; None for generated images.
    title : str
        Caption on the contact sheet.
    points, boxes, polygons, texts : tuple of str
        Prompts.
    """

    name: str
    file_name: str | None
    title: str
    points: tuple[str, ...]
    boxes: tuple[str, ...]
    polygons: tuple[str, ...]
    texts: tuple[str, ...] = ()


def _ring(x: float, y: float, radius_px: float) -> str:
    angles = [math.tau * corner / 10 for corner in range(10)]
    return ";".join(f"{x + radius_px * math.cos(a):.0f},{y + radius_px * math.sin(a):.0f}" for a in angles)


SCENES: Final = (
    DemoScene("coins", "coins.png", "Coins", ("215,51", "276,53"), ("187,168,238,218",), (_ring(46, 260, 30),)),
    DemoScene(
        "coffee",
        "coffee.png",
        "Coffee",
        ("290,160", "440,270;300,225,0"),
        ("172,17,412,290",),
        ("396,68;426,68;408,130;394,230;407,270;395,310;360,328;330,310;325,270;345,245;375,230;386,190",),
    ),
    DemoScene(
        "astronaut",
        "astronaut.png",
        "Astronaut",
        ("225,130;100,300,0", "172,385"),
        ("277,343,498,512",),
        ("355,225;380,150;385,60;400,0;435,0;455,50;456,230;470,275;365,290",),
    ),
    DemoScene(
        "ihc",
        "ihc.png",
        "Immunohistochemistry",
        ("136,130", "320,410"),
        ("252,302,386,512",),
        ("262,0;300,200;350,262;425,300;457,200;455,60;430,0",),
    ),
    DemoScene(
        "hubble_deep_field",
        "hubble_deep_field.jpg",
        "Hubble deep field",
        ("726,473", "421,404"),
        ("401,693,444,740",),
        ("385,74;392,62;408,58;424,70;422,86;402,91;388,84",),
    ),
    DemoScene("cell", "cell.png", "Cell", ("429,383;150,200,0",), ("360,312,498,452",), (_ring(429, 383, 66),)),
    DemoScene(
        "motorcycle",
        "motorcycle_left.png",
        "Motorcycle",
        ("420,205", "640,235"),
        ("120,238,280,402",),
        ("148,160;250,170;357,188;320,215;270,230;200,208;150,195",),
    ),
    DemoScene(
        "two_channel_16bit",
        None,
        "Two channels, 16 bit",
        ("264,174", "512,319;475,400,0"),
        ("330,138,410,217",),
        (_ring(476, 401, 42),),
    ),
    DemoScene(
        "shapes",
        None,
        "Shapes, asked for in words",
        ("280,277", "525,280"),
        ("515,368,636,448",),
        (_ring(177, 407, 45),),
        ("a yellow circle", "the black square", "a purple star", "a gray ellipse"),
    ),
)


def scene_path(scene: DemoScene, generated: Path) -> Path:
    """Return the image file of a scene; those that are generated are written to ``generated``.

    Raises
    ------
    MissingDependencyError
        If this scikit-image comes without the image.
    OutputError
        If a generated image cannot be written.
    """
    if scene.file_name is not None:
        path = Path(str(files("skimage").joinpath("data", scene.file_name)))
        if not path.is_file():
            raise MissingDependencyError(
                f"This scikit-image comes without {scene.file_name}", remedy="run: pip install 'scikit-image>=0.24'"
            )
        return path
    if scene.name == "shapes":
        from fastsam_core.outputs import write_image

        path = generated / f"{scene.name}.png"
        write_image(path, draw_shapes(_SHAPES_SEED, _SHAPES_HW, most=12).image)
        return path
    import tifffile

    planes, _ = two_channel_cells()
    path = generated / f"{scene.name}.tif"
    with atomic_path(path) as temporary:
        tifffile.imwrite(temporary, planes, metadata={"axes": "CYX"}, compression="zlib", photometric="minisblack")
    return path


def two_channel_cells(seed: int = 7) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    """Make a fluorescence-like image: cell bodies in the first channel, their nuclei in the second.

    Parameters
    ----------
    seed : int
        Equal seeds give equal images.

    Returns
    -------
    planes : uint16 ndarray of shape (2, H, W)
        Camera counts with Poisson noise, most of them far below 65 535 as in real 12-bit recordings.
    centres_yxr : ndarray of shape (N, 3)
        Centre (y, x) and mean radius of each cell in pixels.
    """
    from scipy import ndimage
    from scipy.special import expit

    rng = np.random.default_rng(seed)
    height, width = _CELLS_HW
    y, x = np.mgrid[:height, :width].astype(float)
    bodies, nuclei = np.zeros((2, height, width))
    cells: list[tuple[float, float, float]] = []
    while len(cells) < _CELLS:
        radius = rng.uniform(27, 44)
        centre_y, centre_x = rng.uniform(radius, height - radius), rng.uniform(radius, width - radius)
        if any(math.hypot(centre_y - v, centre_x - u) < 0.92 * (radius + r) for v, u, r in cells):
            continue
        cells.append((centre_y, centre_x, radius))
        angle, distance = np.arctan2(y - centre_y, x - centre_x), np.hypot(y - centre_y, x - centre_x)
        waves = sum(rng.uniform(0.1, 0.5 / k) * np.sin(k * angle + rng.uniform(0, math.tau)) for k in (2, 3, 5))
        edge = radius * (0.9 + 0.4 * waves)
        body = expit((edge - distance) / 1.2)
        bodies = np.maximum(bodies, rng.uniform(0.55, 1) * body * (0.65 + 0.35 * (distance / edge).clip(0, 1) ** 2))
        shift_y, shift_x = rng.uniform(-0.15, 0.15, 2) * radius
        ratio = np.hypot((y - centre_y - shift_y) / rng.uniform(0.34, 0.46), (x - centre_x - shift_x) / 0.4) / radius
        nuclei = np.maximum(nuclei, rng.uniform(0.6, 1) * expit((1 - ratio) * 14))
    texture = ndimage.gaussian_filter(rng.normal(size=(2, height, width)), (0, 2.5, 2.5))
    texture /= texture.std()
    light = np.stack([bodies * (1 - 0.35 * nuclei), nuclei]) * (1 + 0.09 * texture)
    counts = 140 + np.array([2600, 3400])[:, None, None] * light.clip(0)
    return rng.poisson(counts).astype(np.uint16), np.array(cells)
