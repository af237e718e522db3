"""The values of a plane as they are stored, of all channels, rows of which are read where they are asked for."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsam_core._defaults import MAX_PIXELS
from fastsam_core._image_colour import parse_channels
from fastsam_core.images import open_planes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from fastsam_core._image_colour import Channels
    from fastsam_core._image_planes import Plane, PlaneChoice
    from fastsam_core.images import Planes

__all__ = ["PlaneValues", "open_values"]

_COLOURS = ("red", "green", "blue")


class PlaneValues:
    """An array (H, W), or (C, H, W) of channels or colours; alpha is no channel. From `open_values`.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    names : tuple of str
        Of the channels: colours by their names, others by their numbers; empty without channels.
    """

    def __init__(self, planes: Planes, plane: PlaneChoice) -> None:
        self._planes, self._plane = planes, plane
        self._whole = None if planes.has_regions else planes.take(plane)
        first = self._whole or self._rows(0, 1)
        values = _channels_first(first)
        self.dtype = values.dtype
        self.shape = (*values.shape[:-2], *(planes.plane_hw(plane) if self._whole is None else values.shape[-2:]))
        self.names = _COLOURS if "S" in first.axes else tuple(map(str, range(len(values)))) if values.ndim == 3 else ()

    def _rows(self, first: int, last: int) -> Plane:
        return self._planes.take(self._plane, (slice(first, last), slice(0, self._planes.plane_hw(self._plane)[1])))

    def __getitem__(self, key: tuple[Any, slice, slice]) -> NDArray[Any]:
        """Read whole rows: ``values[..., first:last, :]``."""
        first, last, _ = key[1].indices(self.shape[-2])
        if self._whole is not None:
            return _channels_first(self._whole)[..., first:last, :]
        return _channels_first(self._rows(first, last))


def _channels_first(plane: Plane) -> NDArray[Any]:
    return np.moveaxis(plane.array[..., :3], -1, 0) if "S" in plane.axes else plane.array


@contextmanager
def open_values(
    source: object,
    *,
    channels: Channels | None = None,
    axes: str | None = None,
    plane: PlaneChoice = 0,
    level: int = 0,
    series: int = 0,
    max_pixels: int | None = MAX_PIXELS,
) -> Iterator[PlaneValues]:
    """Open the values of a plane, of all its channels; parameters and errors as in `fastsam_core.read_image`.

    That `channels` are chosen may say what the axes of a file mean.

    Of TIFF files in tiles or strips, of CZI files, Zarr stores and lazy arrays only the rows that are asked for are in
    memory; other files are decoded as a whole, up to `max_pixels`.

    Yields
    ------
    PlaneValues
    """
    reading: dict[str, Any] = {"axes": axes, "level": level, "series": series, "max_pixels": max_pixels}
    with open_planes(source, channels=channels, **reading) as planes:
        if channels is not None:
            planes = replace(planes, choice=parse_channels(range(planes.sizes.get("C", 1))))
        yield PlaneValues(planes, plane)
