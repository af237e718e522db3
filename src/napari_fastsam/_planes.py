"""Read planes of an image layer as the network takes them; made on the GUI thread, used on any."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fastsam_core._image_planes import project
from fastsam_core.errors import ImageContentError, ImageReadError
from fastsam_core.images import Image, mean_values, read_image
from napari_fastsam._convert import Plane, layer_shape, same_pixels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.layers import Image as ImageLayer
    from numpy.typing import NDArray

    from fastsam_core._image_planes import Projection
    from fastsam_core._parts import Region

__all__ = ["MAX_COLOUR_CHANNELS", "PlaneSource", "PlaneValues", "blendable"]

MAX_COLOUR_CHANNELS = 6


@dataclass(frozen=True, slots=True, eq=False)
class PlaneValues:
    """A part of a plane.

    Attributes
    ----------
    image : Image
        As the network takes it.
    values : ndarray of shape (H, W)
        The image's own values (the mean of several channels, or of red, green and blue).
    region : Region
        Which part of the plane it is.
    plane_hw : tuple of int
        Size of the whole plane.
    """

    image: Image
    values: NDArray[Any]
    region: Region
    plane_hw: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class PlaneSource:
    """Where planes come from: arrays and the way they are shown, taken from layers once.

    Attributes
    ----------
    name : str
        Of the layer.
    arrays : tuple
        One array at full resolution, or several that are blended.
    limits : tuple of pair of float
        The contrast limits of each.
    colours : tuple of tuple of float
        The colour of each (red, green, blue in 0 to 1), when there are several.
    rgb : bool
        The last axis is colour.
    channel_axis : int or None
        This axis is shown as colours.
    shape : tuple of int
        Without the colour axis of RGB.
    paths : tuple of Path
        Files and folders behind lazy arrays, as far as they are known.
    depth : mapping of int to pair of int
        By axis, which planes are seen in one: the first and the one behind the last, counted from the plane.
    projections : tuple of str
        How the planes of each array are seen in one: "sum", "mean", "max", "min"; "none" for the plane alone.
    """

    name: str
    arrays: tuple[Any, ...]
    limits: tuple[tuple[float, float], ...]
    rgb: bool
    shape: tuple[int, ...]
    colours: tuple[tuple[float, ...], ...] = ()
    channel_axis: int | None = None
    paths: tuple[Path, ...] = ()
    depth: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    projections: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        layer: ImageLayer,
        *,
        channel_axis: int | None = None,
        blended: tuple[ImageLayer, ...] = (),
        depth: Mapping[int, tuple[int, int]] | None = None,
    ) -> PlaneSource:
        """Take what is needed from an image layer.

        Parameters
        ----------
        layer : napari Image layer
        channel_axis : int, optional
            Show the channels along this axis in colours, each with its own contrast.
        blended : tuple of Image layers
            Instead of `layer` alone, add up these layers in their colours.
        depth : mapping of int to pair of int, optional
            See the attribute; layers whose projection mode is "none" are read without.

        Raises
        ------
        ImageContentError
            The layer has no pixels.
        """
        layers = blended or (layer,)
        shape = layer_shape(layer)
        arrays = tuple(one.data[0] if one.multiscale else one.data for one in layers)
        if 0 in shape:
            raise ImageContentError(
                f"The layer '{layer.name}' is empty",
                expected="at least one pixel",
                actual=f"shape {shape}",
                remedy="choose another image",
            )
        return cls(
            name=layer.name,
            arrays=arrays,
            limits=tuple((0.0, 255.0) if one.rgb else _limits(one) for one in layers),
            rgb=bool(layer.rgb),
            shape=shape,
            colours=tuple(_top_colour(one) for one in blended),
            channel_axis=channel_axis,
            paths=tuple(path for array in arrays if (path := _folder_of(array)) is not None),
            depth={axis: ends for axis, ends in (depth or {}).items() if axis != channel_axis},
            projections=tuple(str(one.projection_mode) for one in layers),
        )

    @property
    def contrast(self) -> tuple[float, float] | None:
        """The values that become black and white, of a single gray image."""
        gray = not self.rgb and self.channel_axis is None and len(self.arrays) == 1
        return self.limits[0] if gray else None

    def plane_hw(self, plane: Plane) -> tuple[int, int]:
        """Return the size of a plane."""
        return self.shape[plane.axes_yx[0]], self.shape[plane.axes_yx[1]]

    def read(self, plane: Plane, region: Region | None = None) -> PlaneValues:
        """Read a plane, or a part of it, and nothing else.

        Raises
        ------
        FastSAMError
            Values, dtype or contrast cannot be taken; or the file behind a lazy array cannot be read.
        """
        plane_hw = self.plane_hw(plane)
        y0, y1, x0, x1 = region or (0, plane_hw[0], 0, plane_hw[1])
        index: list[Any] = [0 if place is None else place for place in plane.index]
        index[plane.axes_yx[0]], index[plane.axes_yx[1]] = slice(y0, y1), slice(x0, x1)
        if self.channel_axis is not None:
            index[self.channel_axis] = slice(0, MAX_COLOUR_CHANNELS)
        modes = self.projections or ("none",) * len(self.arrays)
        try:
            parts = [self._part(array, index, mode) for array, mode in zip(self.arrays, modes, strict=True)]
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise self._unreadable(f"{type(error).__name__}: {error}") from error
        if gone := next((path for path in self.paths if not path.exists()), None):
            raise self._unreadable(f"{gone} is gone")  # zarr gives zeros for chunks that are missing
        return PlaneValues(*self._convert(parts, plane), (y0, y1, x0, x1), plane_hw)

    def _part(self, array: Any, index: list[Any], mode: str) -> NDArray[Any]:
        """Read what an index says, and the planes around it that are seen in one with it."""
        if mode == "none" or not self.depth:
            return np.asarray(array[tuple(index)])
        thick = index.copy()
        for axis, (first, behind) in self.depth.items():
            low = max(index[axis] + first, 0)
            thick[axis] = slice(low, max(index[axis] + behind, low + 1))
        kept = [axis for axis, at in enumerate(thick) if isinstance(at, slice)]
        along = tuple(kept.index(axis) for axis in self.depth)
        return project(np.asarray(array[tuple(thick)]), cast("Projection", mode), along, colour=self.rgb)

    def _unreadable(self, actual: str) -> ImageReadError:
        return ImageReadError(
            f"The plane of '{self.name}' cannot be read",
            actual=actual,
            remedy="check that the file or the network drive behind the layer is still there, then try again",
        )

    def _convert(self, parts: list[NDArray[Any]], plane: Plane) -> tuple[Image, NDArray[Any]]:
        if self.rgb:
            return read_image(parts[0], axes="YXS"), mean_values(parts[0])
        if self.channel_axis is not None:
            position = sum(axis < self.channel_axis for axis in plane.axes_yx)  # axes with one index are gone
            channels = np.moveaxis(parts[0], position, 0)
            return read_image(channels, axes="CYX", channels=list(range(len(channels)))), channels.mean(axis=0)
        if len(parts) > 1:
            stack = np.stack(parts)
            image = read_image(stack, axes="CYX", channels=dict(enumerate(self.colours)), contrast=list(self.limits))
            return image, stack.mean(axis=0)
        return read_image(parts[0], axes="YX", contrast=self.limits[0]), parts[0]


def _folder_of(array: Any) -> Path | None:
    """Return the local folder of a zarr array, or of the one a dask array was made from."""
    layers = getattr(getattr(array, "dask", None), "layers", {})
    for name, layer in layers.items():
        if name.startswith("original-from-zarr"):
            array = layer[name]
    root = getattr(getattr(array, "store", None), "root", None)
    return Path(root) if root is not None and hasattr(array, "store_path") else None


def _limits(layer: ImageLayer) -> tuple[float, float]:
    low, high = (float(v) for v in layer.contrast_limits)
    return low, high


def _top_colour(layer: ImageLayer) -> tuple[float, ...]:
    return tuple(float(v) for v in layer.colormap.map(np.array([1.0]))[0, :3])


def blendable(layer: ImageLayer, others: list[ImageLayer]) -> tuple[ImageLayer, ...]:
    """Return the visible gray layers with the same pixels as `layer`, itself included."""
    zero, one = np.zeros(layer.ndim), np.ones(layer.ndim)
    return tuple(
        other
        for other in others
        if other.visible
        and not other.rgb
        and layer_shape(other) == layer_shape(layer)
        and same_pixels(layer, other, zero, one)
    )
