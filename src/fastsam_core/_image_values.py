"""The values of a plane as they are stored, of all channels, rows of which are read where they are asked for."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsam_core._image_colour import parse_channels
from fastsam_core._image_contrast import SAMPLE_VALUES
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
    """An array (H, W), or (C, H, W) of channels or colours; alpha is left out, a fourth sample that is not alpha stays.

    Small planes are read once and kept.

    Parameters
    ----------
    planes : Planes
        From `open_values`.
    plane : int or mapping from axis letter to int

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    names : tuple of str
        Of the channels: colours by their names, others by their numbers from 0; empty without channels.
    """

    def __init__(self, planes: Planes, plane: PlaneChoice) -> None:
        self._planes, self._plane = planes, plane
        self._whole: Plane | None = None
        if not planes.has_regions:
            self._whole = planes.take(plane)
        elif math.prod(planes.plane_hw(plane)) <= SAMPLE_VALUES:
            self._whole = self._rows(0, planes.plane_hw(plane)[0])
        first = self._whole or self._rows(0, 1)
        values = _channels_first(first)
        self.dtype = values.dtype
        self.shape = (*values.shape[:-2], *(planes.plane_hw(plane) if self._whole is None else values.shape[-2:]))
        numbers = tuple(map(str, range(len(values)))) if values.ndim == 3 else ()
        self.names = (*_COLOURS, *numbers[len(_COLOURS) :]) if "S" in first.axes else numbers

    def _rows(self, first: int, last: int) -> Plane:
        return self._planes.take(self._plane, (slice(first, last), slice(0, self._planes.plane_hw(self._plane)[1])))

    def __getitem__(self, key: tuple[Any, slice, slice]) -> NDArray[Any]:
        """Read whole rows: ``values[..., first:last, :]``."""
        first, last, _ = key[1].indices(self.shape[-2])
        if self._whole is not None:
            return _channels_first(self._whole)[..., first:last, :]
        return _channels_first(self._rows(first, last))


def _channels_first(plane: Plane) -> NDArray[Any]:
    if "S" not in plane.axes:
        return plane.array
    return np.moveaxis(plane.array if plane.alpha == "none" else plane.array[..., :3], -1, 0)


@contextmanager
def open_values(source: object, *, channels: Channels | None = None, **reading: Any) -> Iterator[Planes]:
    """Open a file or array for the values of all its channels, of which `PlaneValues` gives those of a plane.

    Of TIFF files in tiles or strips, of CZI files, Zarr stores and lazy arrays only the rows that are asked for are in
    memory; other files are decoded as a whole, up to `max_pixels`.

    Parameters
    ----------
    source : object
    channels : optional
        What was shown of it: that channels are chosen may say what the axes of a file mean, but colours stay colours.
    **reading
        Further keywords of `open_planes`.

    Yields
    ------
    Planes
    """
    with open_planes(source, channels=channels, **reading) as planes:
        unchosen = replace(planes, choice=parse_channels(None))
        if channels is None or "S" in unchosen.sizes:
            yield unchosen
        else:
            yield replace(planes, choice=parse_channels(range(planes.sizes.get("C", 1))))
