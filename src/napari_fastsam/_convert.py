"""Coordinates: between the world, the data of any layer, and the pixels of one plane of an image layer.

Three conventions meet here. napari's data coordinates count pixel centres (pixel 0 reaches from -0.5 to 0.5); the core
counts pixel edges (pixel 0 reaches from 0 to 1) and orders points (y, x), boxes (x0, y0, x1, y1). World coordinates
are whatever the layers' scale, translate, rotate, shear and affine make of data coordinates.

Only arithmetic on public attributes of layers happens here: nothing is drawn or changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image, Layer

__all__ = [
    "AffineMap",
    "Plane",
    "axis_names",
    "in_layer_units",
    "layer_map",
    "layer_to_layer",
    "pixel_area",
    "pixels_of_data",
    "placed_like",
    "same_pixels",
    "shown_plane",
]

Float = NDArray[np.float64]

_HALF_PIXEL = 0.5


@dataclass(frozen=True, slots=True)
class Plane:
    """One image plane of a layer.

    Attributes
    ----------
    axes_yx : tuple of int
        The data axes of the layer that are the rows and the columns of the plane.
    index : tuple of int or None
        Where the plane lies along each axis of the layer; None along `axes_yx` and along axes that do not matter
        (a channel axis that is shown as colours).
    """

    axes_yx: tuple[int, int]
    index: tuple[int | None, ...]

    @property
    def fixed(self) -> dict[int, int]:
        """Axes along which the plane has a place, and that place."""
        return {axis: place for axis, place in enumerate(self.index) if place is not None}

    def at(self, axis: int, place: int) -> Plane:
        """Return the parallel plane at another place along `axis`."""
        return Plane(self.axes_yx, tuple(place if a == axis else old for a, old in enumerate(self.index)))


@dataclass(frozen=True, slots=True, eq=False)
class AffineMap:
    """``matrix @ x + offset``."""

    matrix: Float
    offset: Float

    def __call__(self, points: ArrayLike) -> Float:
        """Map points of shape (K, D)."""
        return np.asarray(points, np.float64) @ self.matrix.T + self.offset

    def inverse(self) -> AffineMap:
        """Return the way back.

        Raises
        ------
        numpy.linalg.LinAlgError
            The map flattens space (a scale of zero).
        """
        matrix: Float = np.linalg.inv(self.matrix).astype(np.float64)
        return AffineMap(matrix, -matrix @ self.offset)


def layer_map(layer: Layer) -> AffineMap:
    """Return the map from data to world coordinates of a layer, all of its transforms included."""
    linear = _linear(layer)
    affine = np.asarray(layer.affine.affine_matrix, np.float64)
    matrix, shift = affine[:-1, :-1], affine[:-1, -1]
    return AffineMap(matrix @ linear, matrix @ np.asarray(layer.translate, np.float64) + shift)


def _linear(layer: Layer) -> Float:
    """Return rotate @ shear @ scale of a layer."""
    shear = np.asarray(layer.shear, np.float64)
    if shear.ndim == 1:  # the strictly upper triangle, row by row
        full = np.eye(layer.ndim)
        full[np.triu_indices(layer.ndim, 1)] = shear
        shear = full
    rotate, scale = np.asarray(layer.rotate, np.float64), np.asarray(layer.scale, np.float64)
    return np.asarray(rotate @ shear @ np.diag(scale))


def _unit_factors(given: Sequence[Any], wanted: Sequence[Any], count: int) -> Float:
    """Return how many of the wanted units make a given one, for the last `count` axes; 1 if not comparable."""
    factors = np.ones(count)
    for k in range(1, count + 1):
        have, want = given[-k], wanted[-k]
        if have != want and have.dimensionality == want.dimensionality:
            factors[-k] = (1 * have).to(want).magnitude
    return factors


def in_layer_units(layer: Layer, world: ArrayLike, units: Sequence[Any] | None) -> Float:
    """Express a position in a viewer's world in the units of a layer: napari shows layers of several units together.

    Parameters
    ----------
    layer : Layer
    world : array of float
        Of at least as many axes as the layer has; the last ones are the layer's.
    units : sequence of pint.Unit, optional
        Of the viewer's world (``viewer.dims.units``); None where napari takes all units as the same.
    """
    position = np.array(world, np.float64)
    if units is not None and len(units) >= layer.ndim:
        position[-layer.ndim :] *= _unit_factors(units, layer.units, layer.ndim)
    return position


def layer_to_layer(source: Layer, target: Layer, points: ArrayLike, world_point: Sequence[float] | Float) -> Float:
    """Express data coordinates of one layer in data coordinates of another.

    Parameters
    ----------
    source, target : Layer
        Any layers of a viewer; their last axes belong together, as napari has it.
    points : array of shape (K, source.ndim)
        Data coordinates of `source`.
    world_point : sequence of float
        Where the viewer's sliders stand, in the units of `target`: stands in for axes that `source` does not have.

    Returns
    -------
    float64 ndarray of shape (K, target.ndim)
    """
    world = layer_map(source)(np.asarray(points, np.float64).reshape(-1, source.ndim))
    shared = min(source.ndim, target.ndim)
    full = np.zeros((len(world), target.ndim))
    full[:] = _last(world_point, target.ndim)
    full[:, target.ndim - shared :] = world[:, source.ndim - shared :] * _unit_factors(
        source.units, target.units, shared
    )
    return layer_map(target).inverse()(full)


def _last(values: Sequence[float] | Float, count: int) -> Float:
    """Return the last `count` values, with zeros put in front of too few."""
    array = np.asarray(values, np.float64)[-count:]
    return np.concatenate([np.zeros(count - len(array)), array])


def shown_plane(
    layer: Layer, world_point: Sequence[float] | Float, displayed: Sequence[int], free_axes: Sequence[int] = ()
) -> Plane | None:
    """Return the plane of an image layer that a viewer shows in 2-D.

    Parameters
    ----------
    layer : Layer
        The image.
    world_point : sequence of float
        Where the viewer's sliders stand, in the layer's units.
    displayed : sequence of int
        ``viewer.dims.displayed``, two of them.
    free_axes : sequence of int
        Axes of the layer along which the place does not matter.

    Returns
    -------
    Plane or None
        None if the layer has no pixels there or if one of the displayed axes is not one of the layer's.
    """
    missing = len(world_point) - layer.ndim
    first, second = sorted(axis - missing for axis in displayed[-2:])
    if len(displayed) != 2 or first < 0:
        return None
    inverse = layer_map(layer).inverse()
    place = np.round(inverse(_last(world_point, layer.ndim)[None])[0]).astype(int)  # halfway to the even one, as napari
    shape = layer_shape(layer)
    index: list[int | None] = []
    for axis in range(layer.ndim):
        if axis in (first, second) or axis in free_axes:
            index.append(None)
        elif 0 <= place[axis] < shape[axis]:
            index.append(int(place[axis]))
        else:
            return None
    return Plane((first, second), tuple(index))


def layer_shape(layer: Any) -> tuple[int, ...]:
    """Return the size of an image or labels layer at full resolution, without the colour axis of RGB."""
    data = layer.data[0] if layer.multiscale else layer.data
    return tuple(int(n) for n in data.shape[: layer.ndim])


def axis_names(layer: Layer, sliders: Sequence[str]) -> tuple[str, ...]:
    """Return what the axes of a layer are called: by the layer, else by the viewer's sliders, else by a number.

    So are those that share a name.

    Parameters
    ----------
    layer : Layer
    sliders : sequence of str
        ``viewer.dims.axis_labels``; the last ones are the layer's.
    """
    own = layer.axis_labels
    shown = (*own, *sliders)[-layer.ndim :]
    names = [next((name for name in both if not _is_number(name)), "") for both in zip(own, shown, strict=True)]
    return tuple(
        name if name and names.count(name) == 1 else f"axis {axis - layer.ndim}" for axis, name in enumerate(names)
    )


def _is_number(name: str) -> bool:
    """Tell whether a name of an axis is one of napari's own, or none."""
    return not name.strip() or name.lstrip("-").isdigit()


def pixels_of_data(points: ArrayLike, plane: Plane) -> tuple[Float, NDArray[np.bool_]]:
    """Turn data coordinates of an image layer into the core's pixel coordinates of a plane.

    Parameters
    ----------
    points : array of shape (K, ndim)
        Data coordinates: pixel centres are whole numbers.
    plane : Plane

    Returns
    -------
    points_yx : float64 ndarray of shape (K, 2)
        Pixel edges are whole numbers.
    on_plane : bool ndarray of shape (K,)
        Whether a point lies in the plane (within half a pixel) or only projects onto it.
    """
    data = np.asarray(points, np.float64).reshape(-1, len(plane.index))
    on_plane = np.ones(len(data), bool)
    for axis, place in plane.fixed.items():
        on_plane &= np.round(data[:, axis]) == place
    return data[:, list(plane.axes_yx)] + _HALF_PIXEL, on_plane


def pixel_area(layer: Layer, plane: Plane) -> tuple[float, str]:
    """Return the area of one pixel in world units, and the name of its unit (``"px²"``, ``"µm²"`` …)."""
    sides = layer_map(layer).matrix[:, list(plane.axes_yx)]
    area = float(np.sqrt(max(np.linalg.det(sides.T @ sides), 0.0)))
    of_rows, of_columns = (layer.units[axis] for axis in plane.axes_yx)
    unit = f"{of_columns:~}".replace("\u03bc", "\u00b5") if of_rows == of_columns else ""  # Pint 0.26 writes a Greek mu
    return (area, f"{unit}²") if unit not in ("", "px", "pixel") else (area, "px²" if np.isclose(area, 1) else "units²")


def placed_like(image: Layer, offset: ArrayLike, step: ArrayLike) -> dict[str, Any]:
    """Return what puts a new layer where a part of an image is, under any transforms.

    Pixel ``i`` of the new layer covers ``step`` pixels of the image along each axis, from ``offset + i * step`` on.

    Parameters
    ----------
    image : Layer
        The image.
    offset : array of shape (ndim,)
        First pixel of the image that is covered.
    step : array of shape (ndim,)
        How many pixels of the image one pixel of the new layer is wide, along each axis.

    Returns
    -------
    dict
        Keywords of a layer: scale, translate, rotate, shear, affine, units, axis_labels.
    """
    steps = np.asarray(step, np.float64)
    centre = np.asarray(offset, np.float64) + (steps - 1) / 2
    return {
        "scale": np.asarray(image.scale) * steps,
        "translate": np.asarray(image.translate) + _linear(image) @ centre,
        "rotate": image.rotate,
        "shear": image.shear,
        "affine": np.asarray(image.affine.affine_matrix),
        "units": image.units,
        "axis_labels": image.axis_labels,
    }


def same_pixels(image: Image, other: Layer, offset: ArrayLike, step: ArrayLike) -> bool:
    """Tell whether another layer's pixels lie where :func:`placed_like` would put them."""
    if other.ndim != image.ndim:
        return False
    wanted = layer_map(image)
    steps = np.asarray(step, np.float64)
    centre = np.asarray(offset, np.float64) + (steps - 1) / 2
    have = layer_map(other)
    factors = _unit_factors(other.units, image.units, image.ndim)
    size = max(float(np.abs(wanted.matrix).max()), 1e-12)
    extent = np.asarray(layer_shape(other), np.float64)
    corners = np.stack([np.zeros(image.ndim), extent - 1])
    return bool(np.allclose(have(corners) * factors, wanted(corners * steps + centre), rtol=0, atol=0.01 * size))
