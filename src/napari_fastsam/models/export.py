"""Committed labels as files: label image, COCO annotations, measurements, outlines."""

from __future__ import annotations

import csv
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsam_core._axis_names import is_channels, is_time
from fastsam_core._files import atomic_path
from fastsam_core._label_images import write_label_image
from fastsam_core.errors import ImageContentError
from fastsam_core.masks import Masks
from fastsam_core.outlines import PlacedMasks, write_geojson, write_rois
from fastsam_core.outputs import write_coco
from napari_fastsam._convert import layer_map, layer_shape, same_pixels
from napari_fastsam._notify import warn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_fastsam._convert import Plane

__all__ = ["require_labels", "writer_of"]

_PROPERTIES_2D = (
    "label",
    "area",
    "centroid",
    "bbox",
    "equivalent_diameter_area",
    "axis_major_length",
    "axis_minor_length",
    "eccentricity",
    "perimeter",
    "solidity",
)
_PROPERTIES_3D = ("label", "area", "centroid", "bbox", "equivalent_diameter_area")
_INTENSITIES = ("intensity_mean", "intensity_min", "intensity_max")


def require_labels(layer: Any) -> Any:
    """Return the layer if it has labels.

    Raises
    ------
    ImageContentError
        There is none, or it is empty.
    """
    if layer is None or not np.any(np.asarray(layer.data)):
        raise ImageContentError("There are no labels to export", remedy="commit some candidates first")
    return layer


def writer_of(
    path: Path, suffix: str, labels: Any, image: Any, plane: Plane | None, axes: Sequence[str]
) -> Callable[[], Path]:
    """Return what writes the labels of a layer as they are now; to be called once, in any thread.

    Parameters
    ----------
    path : Path
    suffix : {"tif", "json", "csv", "geojson", "zip"}
        Label image; COCO annotations; measurements of all objects, apart at each place along axes named as time or
        channels and along the first ones of more than three; outlines for QuPath and for ImageJ. Annotations and
        outlines are those of all planes that lie as the one that is shown.
    labels : Labels layer
    image : Image layer or None
        For intensities, if it has the same pixels; of colour, for each of red, green and blue; of channels that are
        shown as colours, for each of them.
    plane : Plane or None
    axes : sequence of str
        What the axes of `labels` are called.

    Raises
    ------
    OutputError
        The file cannot be written; only when what is returned is called.
    ImageContentError
        Annotations are wanted where no plane is shown.
    """
    data = np.array(labels.data)  # not what is painted while it is being written
    if suffix == "tif":
        return partial(write_label_image, path, data, axes, _sides_um(labels))
    if suffix == "csv":
        return partial(_write_table, path, data, _values(image, labels), axes, _sides(labels))
    planes = _planes(axes, data, _flat(data, plane))
    if suffix == "json":
        return partial(write_coco, path, planes, file_name=(labels if image is None else image).name)
    return partial(write_geojson if suffix == "geojson" else write_rois, path, planes)


def _measured(names: Sequence[str], data: NDArray[Any]) -> tuple[list[int], list[int]]:
    """Return the axes along which each place is measured apart, and those that are measured: planes or stacks.

    Of planes of one row or column both axes are measured.
    """
    long = [axis for axis, size in enumerate(data.shape) if size > 1]
    named = [axis for axis in long if axis < data.ndim - 2 and (is_time(names[axis]) or is_channels(names[axis]))]
    axes = [axis for axis in long if axis not in named][-3:]
    short = [axis for axis in range(data.ndim) if axis not in long]
    return [axis for axis in long if axis not in axes], sorted([*axes, *short[len(short) - max(2 - len(axes), 0) :]])


def _flat(data: NDArray[Any], plane: Plane | None) -> tuple[int, int]:
    """Return the axes that are the rows and columns of all planes: those of the plane that is shown."""
    if data.ndim == 2:
        return (0, 1)
    if plane is None or len(plane.index) != data.ndim:
        raise ImageContentError(
            "There is no plane to annotate",
            expected="a plane of the image, in 2-D view, and labels with the image's axes",
            actual="no plane is shown" if plane is None else f"labels of shape {data.shape}",
            remedy="switch to 2-D, choose a plane, and under 'Into' labels of this image",
        )
    return plane.axes_yx


def _planes(names: Sequence[str], data: NDArray[Any], flat: tuple[int, int]) -> PlacedMasks:
    """Yield the masks of all planes, and where each is."""
    steps = [1 if axis in flat else size for axis, size in enumerate(data.shape)]
    for place in np.ndindex(*steps):
        index = tuple(slice(None) if axis in flat else at for axis, at in enumerate(place))
        yield {names[axis]: at for axis, at in enumerate(place) if steps[axis] > 1}, _masks(data[index])


def _masks(labels: NDArray[Any]) -> Masks:
    """Return a mask for each label of a plane, negative ones included."""
    numbered, ids = _numbered(labels)
    masks = Masks.from_label_map(np.ascontiguousarray(numbered))
    return masks.with_fields(label=ids[masks.fields["label"]].astype(np.int64))


def _values(image: Any, labels: Any) -> Callable[[], NDArray[Any]] | None:
    """Return what reads the values of the image's pixels, if they are the labels'; of lazy images it takes long."""
    if image is None or len(shape := layer_shape(image)) != labels.data.ndim:
        return None
    colours = [axis for axis, size in enumerate(labels.data.shape) if size == 1 < shape[axis]]
    steps = np.ones(image.ndim)
    steps[colours] = np.array(shape)[colours]
    if len(colours) > 1 or tuple(shape // steps) != labels.data.shape:
        return None
    if not same_pixels(image, labels, np.zeros(image.ndim), steps):
        warn(
            f"Intensities were left out: the pixels of '{labels.name}' lie elsewhere than those of '{image.name}'. "
            "Remedy: give both layers the same scale, translate, rotate, shear, affine and units, and export again."
        )
        return None
    return partial(_read_values, image.data[0] if image.multiscale else image.data, colours, rgb=image.rgb)


def _read_values(data: Any, colours: Sequence[int], *, rgb: bool) -> NDArray[Any]:
    """Return the values of pixels, colours and channels along one more axis."""
    values = np.asarray(data)
    if colours:
        return np.expand_dims(np.moveaxis(values, colours[0], -1), colours[0])
    return values[..., :3] if rgb else values


def _sides(labels: Any) -> list[float]:
    """Return the sides of the pixels along each axis, without rotations and shear, in the layer's units."""
    sides = np.abs(np.diag(np.linalg.qr(layer_map(labels).matrix, mode="r")))
    # rounded: pixels that are turned stay square, or they would have no perimeter
    return [float(f"{side:.12g}") for side in sides]


def _sides_um(labels: Any) -> list[float | None]:
    """Return the same in micrometres, None where the unit is no length."""
    lengths = [side * unit for side, unit in zip(_sides(labels), labels.units, strict=True)]
    return [float(one.to("um").magnitude) if one.is_compatible_with("um") else None for one in lengths]


def _numbered(data: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return numbers from 0 on, and which label each stands for.

    scikit-image makes a list as long as the highest label and, like `Masks.from_label_map`, passes over negative ones:
    such labels are numbered from 1 on.
    """
    low, high = int(data.min()), int(data.max())
    if low >= 0 and high <= data.size:
        return data, np.arange(high + 1)
    ids = np.unique(data)
    ids = np.concatenate([np.zeros(1, ids.dtype), ids[ids != 0]])
    return np.where(data == 0, 0, np.searchsorted(ids[1:], data) + 1), ids


def _write_table(
    path: Path,
    data: NDArray[Any],
    read_values: Callable[[], NDArray[Any]] | None,
    names: Sequence[str],
    sides: Sequence[float],
) -> Path:
    from skimage.measure import regionprops_table

    values = None if read_values is None else read_values()
    apart, axes = _measured(names, data)
    spacing = tuple(sides[axis] for axis in axes)
    properties: tuple[str, ...] = _PROPERTIES_2D if len(axes) == 2 else _PROPERTIES_3D
    if values is not None:
        properties = (*properties, *_INTENSITIES)
    if len(set(spacing)) > 1:  # scikit-image measures perimeters of square pixels only
        properties = tuple(name for name in properties if name != "perimeter")
    table: dict[str, list[Any]] = {}
    for place in np.ndindex(*(data.shape[axis] for axis in apart)):
        where = dict(zip(apart, place, strict=True))
        at = tuple(slice(None) if axis in axes else where.get(axis, 0) for axis in range(data.ndim))
        if not data[at].any():
            continue
        numbered, ids = _numbered(data[at])
        part = None if values is None else values[at]
        columns = regionprops_table(numbered, part, properties=properties, spacing=spacing)
        columns["label"] = ids[columns["label"]]
        places = {names[axis]: np.full(len(columns["label"]), number) for axis, number in where.items()}
        for name, column in (places | columns).items():
            table.setdefault(name, []).extend(column.tolist())
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    return path
