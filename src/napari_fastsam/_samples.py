"""Sample images: three that scikit-image brings along, three made on the spot. Nothing is downloaded."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import dask.array as da
    from numpy.typing import NDArray

__all__ = ["cell", "coins", "ihc", "make_mosaic", "make_nuclei", "mosaic", "nuclei_stack", "two_channels"]

LayerData = tuple[Any, dict[str, Any], str]

_TILE = 512
_TILES = 4


def coins() -> list[LayerData]:
    """Return Greek coins from Pompeii, 8 bit gray, 303 × 384."""
    from skimage import data

    return [(data.coins(), {"name": "coins"}, "image")]


def cell() -> list[LayerData]:
    """Return one cell in transmitted light, 8 bit gray, 660 × 550."""
    from skimage import data

    return [(data.cell(), {"name": "cell"}, "image")]


def ihc() -> list[LayerData]:
    """Return stained tissue in colour, 8 bit RGB, 512 × 512."""
    from skimage import data

    return [(data.immunohistochemistry(), {"name": "ihc", "rgb": True}, "image")]


def make_nuclei(
    shape_zyx: tuple[int, int, int], count: int, seed: int = 0
) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Make ellipsoidal nuclei with texture, blur and camera noise.

    Parameters
    ----------
    shape_zyx : tuple of int
        Size in voxels; z is three times coarser than y and x.
    count : int
        How many nuclei are tried; those that would touch another one are left out.
    seed : int
        Start of the random numbers.

    Returns
    -------
    image : uint16 ndarray of shape (Z, Y, X)
        About 400 in the background and 2000 to 6000 in nuclei.
    labels : uint16 ndarray of shape (Z, Y, X)
        The truth.
    """
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    depth, height, width = shape_zyx
    labels = np.zeros(shape_zyx, np.uint16)
    image = np.zeros(shape_zyx, np.float32)
    label = 0
    for _ in range(count):
        centre = rng.uniform([0, 12, 12], [depth, max(13, height - 12), max(13, width - 12)])
        radii = rng.uniform([3, 9, 9], [5, 16, 16])
        turn = rng.uniform(0, np.pi)
        around = tuple(
            slice(max(0, int(at - reach)), min(size, int(at + reach) + 2))
            for at, reach, size in zip(centre, (6.0, 19.0, 19.0), shape_zyx, strict=True)
        )
        z, y, x = (axis - at for axis, at in zip(np.ogrid[around], centre, strict=True))
        along = (y * np.cos(turn) + x * np.sin(turn)) / radii[1]
        across = (x * np.cos(turn) - y * np.sin(turn)) / radii[2]
        distance = (z / radii[0]) ** 2 + along**2 + across**2
        if (labels[around][distance <= 1.25] > 0).any():
            continue
        label += 1
        inside = distance <= 1
        labels[around][inside] = label
        image[around][inside] = rng.uniform(2000, 5000)
    texture = ndimage.gaussian_filter(rng.normal(0, 1, shape_zyx).astype(np.float32), (0.7, 2, 2))
    image *= 1 + 0.8 * texture
    image = ndimage.gaussian_filter(image, (0.7, 1.2, 1.2)) + 400
    image += rng.normal(0, 1, shape_zyx) * np.sqrt(np.maximum(image, 1)) * 1.5
    return np.clip(image, 0, 65535).astype(np.uint16), labels


def nuclei_stack() -> list[LayerData]:
    """Return a stack of nuclei with its truth, 16 bit, 24 × 256 × 256 voxels of 0.9 × 0.3 × 0.3 µm."""
    image, labels = make_nuclei((24, 256, 256), 90)
    common = {"scale": (0.9, 0.3, 0.3), "units": ("um", "um", "um"), "axis_labels": ("z", "y", "x")}
    limits = (300.0, float(np.percentile(image, 99.8)))
    return [
        (image, {"name": "nuclei stack", "contrast_limits": limits, **common}, "image"),
        (labels.astype(np.int32), {"name": "nuclei truth", "visible": False, **common}, "labels"),
    ]


def two_channels() -> list[LayerData]:
    """Return nuclei and the cells around them as one image (C, Y, X), 16 bit, 2 × 384 × 384."""
    from scipy import ndimage

    nuclei, labels = make_nuclei((1, 384, 384), 70, seed=3)
    rng = np.random.default_rng(4)
    near = ndimage.distance_transform_edt(labels[0] == 0)
    cells = 300 + 2400 * np.exp(-near / 9) * (near > 0) + 500 * (near == 0)
    cells = ndimage.gaussian_filter(cells, 1.5) + rng.normal(0, 60, cells.shape)
    image = np.stack([nuclei[0], np.clip(cells, 0, 65535).astype(np.uint16)])
    options = {
        "name": "two channels",
        "contrast_limits": (300, 5000),
        "scale": (1, 0.3, 0.3),
        "axis_labels": ("c", "y", "x"),
    }
    return [(image, options, "image")]


@cache
def _mosaic_tile(variant: int) -> NDArray[np.uint16]:
    image: NDArray[np.uint16] = make_nuclei((1, _TILE, _TILE), 120, seed=variant)[0][0]
    return image


def make_mosaic(height: int = 8192, width: int = 8192, step: int = 1) -> da.Array:
    """Make a large field of nuclei whose tiles are computed when they are looked at.

    Parameters
    ----------
    height, width : int
        Size in pixels, before it is reduced.
    step : int
        Take every n-th pixel.

    Returns
    -------
    dask array of shape (height // step, width // step), uint16
        Four tiles of 512 × 512, turned and mirrored in a fixed order.
    """
    import dask.array as da

    def block(block_info: Any = None) -> NDArray[np.uint16]:
        row, column = block_info[None]["chunk-location"]
        rows, columns = block_info[None]["chunk-shape"]
        number = 7 * row + 3 * column + row * column
        tile = np.rot90(_mosaic_tile(number % _TILES), number // _TILES % 4)
        tile = tile[:, ::-1] if number % 3 == 0 else tile
        return np.ascontiguousarray(tile[::step, ::step][:rows, :columns])

    side = _TILE // step
    chunks = tuple(
        tuple(min(side, size // step - start) for start in range(0, size // step, side)) for size in (height, width)
    )
    lazy: da.Array = da.map_blocks(block, dtype=np.uint16, chunks=chunks, meta=np.empty((0, 0), np.uint16))
    return lazy


def mosaic() -> list[LayerData]:
    """Return 8192 × 8192 pixels of nuclei as a lazy pyramid of four levels."""
    levels = [make_mosaic(step=step) for step in (1, 2, 4, 8)]
    options = {"name": "mosaic", "contrast_limits": (300, 6000), "multiscale": True, "scale": (0.3, 0.3)}
    return [(levels, options, "image")]
