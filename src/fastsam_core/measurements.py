"""Measurements of masks, computed from their runs: those of shape take time with the outline, not with the area."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fastsam_core._checks import as_distance, as_sides, described
from fastsam_core._jit import njit
from fastsam_core._measure_kernels import hull_areas
from fastsam_core.errors import InvalidParameterError
from fastsam_core.masks import check_masks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from fastsam_core.masks import Masks
    from fastsam_core.stacks import LinkedStack

    FloatArray = npt.NDArray[np.float64]

__all__ = ["measure", "measure_intensities", "measure_objects"]

_ROWS: Final = 512
"""Rows of an image that are in memory at once while intensities are measured."""

_SQUARE: Final = 1e-3
"""Pixels whose sides differ by less are squares."""


def measure(masks: Masks, *, pixel_size_um: tuple[float, float] | None = None) -> dict[str, npt.NDArray[Any]]:
    """Measure the shape of every mask (overlaps do not matter: each is measured whole).

    Parameters
    ----------
    masks : Masks
        N masks.
    pixel_size_um : pair of float, optional
        Height and width of a pixel in micrometres, for columns in these; see `fastsam_core.Image.pixel_size_um`.

    Returns
    -------
    dict of str to ndarray of length N
        In pixels unless the name says otherwise; shape columns are NaN for an empty mask.

        - ``label``: as in the label map, from 1; ``score``; ``area_px``.
        - ``y_start``, ``x_start``, ``y_stop``, ``x_stop``: the tight half-open box.
        - ``centroid_y``, ``centroid_x``: mean of the pixel indices, as in ``skimage.measure.regionprops``.
        - ``equivalent_diameter_px``: of the disc of equal area.
        - ``axis_major_px``, ``axis_minor_px``, ``eccentricity``, ``orientation_rad``: of the ellipse with equal second
          moments, as in ``regionprops``; the angle is between the row axis and the major axis, in (-π/2, π/2].
        - ``perimeter_px``: Cauchy-Crofton in four directions, as ``skimage.measure.perimeter_crofton``.
        - ``solidity``: area over that of the convex hull of the pixels taken as squares, in (0, 1].
        - with `pixel_size_um`: ``area_um2``, ``equivalent_diameter_um``, and ``centroid_y_um``, ``centroid_x_um`` from
          the image's corner; where pixels are squares ``axis_major_um``, ``axis_minor_um`` and ``perimeter_um``, too.
        - the masks' own extra fields.

    Raises
    ------
    InvalidMasksError
        These are no masks.
    InvalidParameterError
        The pixel size is not two positive numbers.
    """
    check_masks(masks, "measure")
    extents = masks.extents_xyxy.astype(np.int64)
    columns: dict[str, npt.NDArray[Any]] = {
        "label": np.arange(1, len(masks) + 1),
        "score": masks.scores.astype(np.float64),
        "area_px": masks.areas_px,
        "y_start": extents[:, 1],
        "x_start": extents[:, 0],
        "y_stop": extents[:, 3],
        "x_stop": extents[:, 2],
    }
    empty = masks.areas_px == 0
    shapes = {**_moments(masks), "perimeter_px": _perimeters(masks)}
    shapes["solidity"] = masks.areas_px / np.maximum(hull_areas(masks.runs, masks.offsets), 1)
    columns |= {name: np.where(empty, np.nan, column) for name, column in shapes.items()}
    if pixel_size_um is not None:
        columns |= _micrometres(columns, _sides(pixel_size_um))
    return columns | {name: column for name, column in masks.fields.items() if name not in columns}


def _sides(pixel_size_um: tuple[float, float]) -> tuple[float, float]:
    return as_sides("This is no pixel size", pixel_size_um, "height and width in micrometres")


def _micrometres(columns: dict[str, npt.NDArray[Any]], size_um: tuple[float, float]) -> dict[str, FloatArray]:
    """Return what was measured in pixels in micrometres, as far as that can be said."""
    height, width = size_um
    side = float(np.sqrt(height * width))
    out = {"area_um2": columns["area_px"] * side**2}
    out |= {
        f"centroid_{axis}_um": (columns[f"centroid_{axis}"] + 0.5) * s for axis, s in zip("yx", size_um, strict=True)
    }
    lengths = ["equivalent_diameter"]
    if abs(height - width) <= _SQUARE * side:
        lengths += ["axis_major", "axis_minor", "perimeter"]
    return out | {f"{name}_um": columns[f"{name}_px"] * side for name in lengths}


def measure_intensities(masks: Masks, values: Any, names: Sequence[str] = ()) -> dict[str, FloatArray]:
    """Measure what values an image has in every mask (overlaps do not matter: each is measured whole).

    Parameters
    ----------
    masks : Masks
        N masks.
    values : array of shape (H, W) or (C, H, W)
        The image as it was stored; a lazy one is read by 512 rows. Pixels that are NaN do not count.
    names : sequence of str, optional
        A name for each channel; their numbers from 0 by default. Of shape (H, W), none is needed.

    Returns
    -------
    dict of str to ndarray of length N, float64
        ``intensity_mean``, ``intensity_std``, ``intensity_min``, ``intensity_max`` and ``intensity_sum``, with ``_``
        and the channel's name behind them where there are channels. NaN for a mask without a pixel that has a value,
        and 0 as its sum.

    Raises
    ------
    InvalidMasksError
        These are no masks.
    InvalidParameterError
        The values are of another size than the image of the masks, are no real numbers, or the names are too few or
        too many.
    """
    check_masks(masks, "measure")
    shape = tuple(getattr(values, "shape", ()))
    kind = np.dtype(getattr(values, "dtype", object)).kind
    if len(shape) not in (2, 3) or shape[-2:] != masks.image_hw or kind not in "buif":
        height, width = masks.image_hw
        raise InvalidParameterError(
            "These are no values of the image",
            expected=f"real numbers of shape ({height}, {width}) or (channels, {height}, {width})",
            actual=f"{getattr(values, 'dtype', '')} of shape {shape}" if shape else described(values),
            remedy="colours come first: numpy.moveaxis(values, -1, 0)"
            if len(shape) == 3 and shape[:2] == masks.image_hw
            else "",
        )
    channels = shape[0] if len(shape) == 3 else 1
    if len(shape) == 3 and not names:
        names = [str(number) for number in range(channels)]
    if names and len(names) != channels:
        raise InvalidParameterError("Each channel needs a name", expected=str(channels), actual=str(len(names)))
    endings = [f"_{name}" for name in names] or [""]
    sums = np.zeros((channels, len(masks), 5))
    sums[..., 3:] = np.inf, -np.inf
    extents = masks.extents_xyxy
    for top in range(0, masks.image_hw[0], _ROWS):
        inside = np.flatnonzero((extents[:, 1] < top + _ROWS) & (extents[:, 3] > top))
        if len(inside):
            rows = np.asarray(values[..., top : top + _ROWS, :], np.float64).reshape(channels, -1, shape[-1])
            for channel in range(channels):
                _add_values(masks.runs, masks.offsets, inside, top, rows[channel], sums[channel])
    out = _Intensities()
    for ending, of_channel in zip(endings, sums, strict=True):
        out |= {f"intensity_{name}{ending}": column for name, column in _statistics(of_channel).items()}
        out.pixels[ending] = of_channel[:, 0]
    return out


class _Intensities(dict[str, "FloatArray"]):
    """Columns of intensities, which also know of how many pixels they are.

    Attributes
    ----------
    pixels : dict of str to ndarray of length N, float64
        How many pixels have a value, by the ending that the columns of the channel have.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pixels: dict[str, FloatArray] = {}


def _statistics(sums: FloatArray) -> dict[str, FloatArray]:
    """Turn count, mean, summed squares of distances from it, least and largest value into columns."""
    count, mean, squares, least, largest = sums.T
    none = count == 0
    columns = {"mean": mean, "std": np.sqrt(squares / np.maximum(count, 1)), "min": least, "max": largest}
    return {name: np.where(none, np.nan, column) for name, column in columns.items()} | {"sum": mean * count}


@njit
def _add_values(
    runs: npt.NDArray[np.int32],
    offsets: npt.NDArray[np.int64],
    inside: npt.NDArray[np.int64],
    top: int,
    rows: npt.NDArray[np.float64],
    sums: npt.NDArray[np.float64],
) -> None:
    """Add the values in some rows of an image to the sums of the masks that reach into them (Welford's algorithm)."""
    bottom = top + rows.shape[0]
    for mask in inside:
        count, mean, squares, least, largest = sums[mask]
        for run in range(offsets[mask], offsets[mask + 1]):
            y = runs[run, 0]
            if y >= bottom:
                break
            if y < top:
                continue
            for x in range(runs[run, 1], runs[run, 2]):
                value = rows[y - top, x]
                if not np.isnan(value):
                    count += 1
                    away = value - mean
                    mean += away / count
                    squares += away * (value - mean)
                    least, largest = min(least, value), max(largest, value)
        sums[mask] = np.array((count, mean, squares, least, largest))


def measure_objects(
    stack: LinkedStack,
    *,
    pixel_size_um: tuple[float, float] | None = None,
    z_step_um: float | None = None,
    intensities: Sequence[Mapping[str, npt.NDArray[Any]]] = (),
) -> dict[str, npt.NDArray[Any]]:
    """Measure the objects that masks of several planes belong to.

    Parameters
    ----------
    stack : LinkedStack
        Masks and objects of all planes, N objects.
    pixel_size_um : pair of float, optional
        Height and width of a pixel in micrometres.
    z_step_um : float, optional
        Distance from plane to plane in micrometres; of stacks along ``Z``.
    intensities : sequence of mapping, optional
        What `measure_intensities` returned for each plane. Pass on the very objects: they know how many pixels of each
        mask have a value, where a plain dict of the columns counts all pixels.

    Returns
    -------
    dict of str to ndarray of length N
        In pixels unless the name says otherwise.

        - ``label``: the object's number; ``score``: the highest of its masks.
        - ``planes``: in how many it is seen, ``plane_first``, ``plane_last``: from 0.
        - ``volume_px``: pixels in all planes; ``area_px_max``: in the plane that shows most of it.
        - ``centroid_plane``, ``centroid_y``, ``centroid_x``: mean of the pixel indices.
        - of time stacks (``T``): ``path_px``, from centroid to centroid, and ``displacement_px``, from first to last.
        - with `pixel_size_um`: ``area_um2_max``; along ``Z``, with `z_step_um`, ``volume_um3``; along ``T`` ``path_um``
          and ``displacement_um``.
        - with `intensities`, for each channel: ``intensity_mean``, ``_min``, ``_max`` and ``_sum`` of all its pixels.

    Raises
    ------
    InvalidParameterError
        A size is no positive number.
    """
    count = len(stack.planes)
    plane = np.repeat(np.arange(count), [len(masks) for masks in stack.planes])
    areas = [masks.areas_px for masks in stack.planes]
    area = np.concatenate(areas)
    seen = area > 0
    score = np.concatenate([masks.scores for masks in stack.planes])[seen]
    moments = [_moments(masks) for masks in stack.planes]
    y, x = (np.concatenate([one[name] for one in moments])[seen] for name in ("centroid_y", "centroid_x"))
    plane, area = plane[seen], area[seen]
    labels, owner = np.unique(np.concatenate(stack.objects)[seen], return_inverse=True)

    objects = _Groups(owner, len(labels))
    volume = objects.total(area)
    size = None if pixel_size_um is None else _sides(pixel_size_um)
    step = None if z_step_um is None else as_distance("z_step_um", z_step_um)
    columns: dict[str, npt.NDArray[Any]] = {
        "label": labels,
        "score": objects.extreme(np.maximum, score, 0),
        "planes": np.bincount(np.unique(owner * count + plane) // count, minlength=len(labels)),
        "plane_first": objects.extreme(np.minimum, plane, count).astype(np.int64),
        "plane_last": objects.extreme(np.maximum, plane, 0).astype(np.int64),
        "volume_px": volume.astype(np.int64),
        "area_px_max": objects.extreme(np.maximum, area, 0).astype(np.int64),
        "centroid_plane": objects.total(area * plane) / volume,
        "centroid_y": objects.total(area * y) / volume,
        "centroid_x": objects.total(area * x) / volume,
    }
    if size is not None:
        columns["area_um2_max"] = columns["area_px_max"] * size[0] * size[1]
        if stack.axis == "Z" and step is not None:
            columns["volume_um3"] = volume * size[0] * size[1] * step
    if stack.axis == "T":
        places = np.stack([y, x], axis=1)
        columns |= _tracks(places, owner, plane, "px")
        columns |= _tracks(places * size, owner, plane, "um") if size is not None else {}
    if intensities:
        columns |= _pooled(intensities, areas, seen, objects)
    return columns


class _Groups:
    """Values of masks, summed up for the objects that they belong to.

    Parameters
    ----------
    owner : ndarray of int64
        The object of each mask, from 0.
    count : int
        How many objects there are.
    """

    def __init__(self, owner: npt.NDArray[np.int64], count: int) -> None:
        self._owner, self._count = owner, count

    def total(self, values: npt.NDArray[Any]) -> FloatArray:
        """Add up."""
        return np.asarray(np.bincount(self._owner, weights=values, minlength=self._count), np.float64)

    def extreme(self, of: np.ufunc, values: npt.NDArray[Any], start: float) -> FloatArray:
        """Take the least or the largest, from a value to start with."""
        out = np.full(self._count, start, np.float64)
        of.at(out, self._owner, values)
        return out


def _pooled(
    intensities: Sequence[Mapping[str, npt.NDArray[Any]]],
    areas: Sequence[npt.NDArray[np.int64]],
    seen: npt.NDArray[np.bool_],
    objects: _Groups,
) -> dict[str, FloatArray]:
    """Return the intensities of objects from those of the masks of each plane, of which those `seen` count."""
    out: dict[str, FloatArray] = {}
    table = {name: np.concatenate([one[name] for one in intensities])[seen] for name in intensities[0]}
    for ending in (name.removeprefix("intensity_mean") for name in table if name.startswith("intensity_mean")):
        least, largest, total = (table[f"intensity_{name}{ending}"] for name in ("min", "max", "sum"))
        pixels = [_pixels(one, ending, area) for one, area in zip(intensities, areas, strict=True)]
        count, summed = objects.total(np.concatenate(pixels)[seen]), objects.total(total)
        out[f"intensity_mean{ending}"] = np.where(count > 0, summed / np.maximum(count, 1), np.nan)
        out[f"intensity_min{ending}"] = objects.extreme(np.fmin, least, np.nan)
        out[f"intensity_max{ending}"] = objects.extreme(np.fmax, largest, np.nan)
        out[f"intensity_sum{ending}"] = summed
    return out


def _pixels(table: Mapping[str, npt.NDArray[Any]], ending: str, area: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Return how many pixels of each mask have a value in a channel."""
    if isinstance(table, _Intensities):
        return table.pixels[ending]
    return np.where(np.isnan(table[f"intensity_mean{ending}"]), 0, area)


def _tracks(
    places: FloatArray, owner: npt.NDArray[np.int64], plane: npt.NDArray[np.int64], unit: str
) -> dict[str, FloatArray]:
    """Measure how far each object goes: its places (N, 2) are taken in the order of the planes."""
    order = np.lexsort((plane, owner))
    places, owner = places[order], owner[order]
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    path = np.bincount(
        owner[1:], weights=np.where(owner[1:] == owner[:-1], steps, 0), minlength=owner.max(initial=-1) + 1
    )
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    last = np.append(first[1:], len(owner))[: len(first)] - 1
    return {f"path_{unit}": path, f"displacement_{unit}": np.linalg.norm(places[last] - places[first], axis=1)}


def _moments(masks: Masks) -> dict[str, FloatArray]:
    """Sum over the pixels of each mask up to second order, and describe the ellipse of equal sums."""
    count = len(masks)
    owner = np.repeat(np.arange(count), np.diff(masks.offsets))
    area = np.maximum(masks.areas_px, 1).astype(np.float64)
    # relative to the middle of the box, where squares of coordinates lose no digits
    middle = (masks.extents_xyxy[:, :2] + masks.extents_xyxy[:, 2:]) // 2
    y = (masks.runs[:, 0] - middle[owner, 1]).astype(np.float64)
    first = (masks.runs[:, 1] - middle[owner, 0]).astype(np.float64)
    length = (masks.runs[:, 2] - masks.runs[:, 1]).astype(np.float64)
    centre = first + (length - 1) / 2
    spread = length * (length**2 - 1) / 12  # sum of squared distances from the run's centre

    total = _Groups(owner, count).total
    mean_y, mean_x = total(length * y) / area, total(length * centre) / area
    var_y = total(length * y**2) / area - mean_y**2
    var_x = total(length * centre**2 + spread) / area - mean_x**2
    covariance = total(length * y * centre) / area - mean_y * mean_x
    root = np.hypot(var_y - var_x, 2 * covariance)
    major, minor = np.maximum((var_y + var_x + root) / 2, 0), np.maximum((var_y + var_x - root) / 2, 0)
    # regionprops' convention: 0 is along the rows' axis (downwards), and a shape without direction has -π/4 or π/4
    direction = 0.5 * np.arctan2(2 * covariance, var_y - var_x)
    directed = np.where(var_y == var_x, np.where(covariance < 0, -np.pi / 4, np.pi / 4), direction)
    return {
        "centroid_y": mean_y + middle[:, 1],
        "centroid_x": mean_x + middle[:, 0],
        "equivalent_diameter_px": np.sqrt(4 * area / np.pi),
        "axis_major_px": 4 * np.sqrt(major),
        "axis_minor_px": 4 * np.sqrt(minor),
        "eccentricity": np.sqrt(1 - np.divide(minor, major, out=np.ones(count), where=major > 0)),
        "orientation_rad": directed,
    }


def _perimeters(masks: Masks) -> FloatArray:
    """Count how often lines in four directions cross the outline, and weigh by their distance (Cauchy-Crofton)."""
    runs, offsets = masks.runs, masks.offsets
    across = np.diff(offsets)
    down, falling, rising = (masks.areas_px - _pairs_with_next_row(runs, offsets, step) for step in (0, 1, -1))
    crossings: FloatArray = across + down + (falling + rising) / np.sqrt(2)
    return np.pi / 4 * crossings


@njit
def _pairs_with_next_row(
    runs: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64], step: int
) -> npt.NDArray[np.int64]:
    """Count for each mask its pixels (y, x) with (y + 1, x + step) in the mask too."""
    pairs = np.zeros(len(offsets) - 1, np.int64)
    for mask in range(len(pairs)):
        low = offsets[mask]
        for run in range(offsets[mask], offsets[mask + 1]):
            y, start, stop = runs[run, 0], runs[run, 1] + step, runs[run, 2] + step
            while low < offsets[mask + 1] and (runs[low, 0] <= y or (runs[low, 0] == y + 1 and runs[low, 2] <= start)):
                low += 1
            below = low
            while below < offsets[mask + 1] and runs[below, 0] == y + 1 and runs[below, 1] < stop:
                pairs[mask] += min(stop, runs[below, 2]) - max(start, runs[below, 1])
                below += 1
    return pairs
