"""Planes that are not read as a whole: slides and mosaics, of which only the region being looked at is in memory."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fastsam_core._defaults import MAX_PIXELS
from fastsam_core._image_colour import alpha_of_parts
from fastsam_core._image_contrast import SAMPLE_VALUES, common_limits
from fastsam_core._parts import Region
from fastsam_core.errors import ImageTooLargeError
from fastsam_core.images import open_planes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from fastsam_core._image_colour import Channels
    from fastsam_core._image_contrast import Contrast
    from fastsam_core._image_planes import Alpha, Plane, PlaneChoice
    from fastsam_core.images import Image, Planes

__all__ = ["LargePixels", "LargePlane", "Region", "open_plane"]

_SAMPLES = 5
"""Regions down, and as many across, that decide what is black and white in planes too large to be read for it."""


class LargePlane:
    """A plane that is read region by region, all with the same contrast; from `open_plane`.

    Indexing it with two slices gives a `Region`, and `read` reads that: it can be cut like an array by what hands the
    parts to threads that read them.

    Attributes
    ----------
    shape : tuple of int
        Height and width in pixels.
    source : str
        The path, or ``"<array>"`` and the like.
    """

    def __init__(self, planes: Planes, plane: PlaneChoice, contrast: Contrast | None) -> None:
        self.source = planes.source
        self._planes, self._plane, self._contrast = planes, plane, contrast
        self._lock = Lock()
        self._whole: Plane | None = None
        self.shape = planes.plane_hw(plane)
        if not planes.has_regions:
            self._whole = self._take_whole()
            self.shape = cast("tuple[int, int]", tuple(self._whole.array.shape[at] for at in _places(self._whole)))
        self._alpha: Alpha | None = None
        chosen = contrast is None or isinstance(contrast, str)
        if chosen or planes.sizes.get("S") == 4:
            sample = self._sample()
            self._alpha = alpha_of_parts(sample)
            if chosen:
                self._contrast = common_limits([planes.show(sample, contrast).recipe["contrast_limits"]])

    def __getitem__(self, window: tuple[slice, slice]) -> Region:
        """Return the region of two slices; nothing is read yet."""
        (y0, y1, _), (x0, x1, _) = (bounds.indices(side) for bounds, side in zip(window, self.shape, strict=True))
        return y0, y1, x0, x1

    def read(self, region: Region) -> Image:
        """Read a region; one call at a time does so.

        Parameters
        ----------
        region : Region

        Raises
        ------
        ImageReadError
            It cannot be decoded.
        """
        y0, y1, x0, x1 = region
        return self._planes.show(self._part(slice(y0, y1), slice(x0, x1)), self._contrast)

    @property
    def rgb8(self) -> LargePixels:
        """The pixels, of which those of a region are read where they are asked for."""
        return LargePixels(self)

    def _take_whole(self) -> Plane:
        try:
            return self._planes.take(self._plane)
        except ImageTooLargeError as error:
            raise ImageTooLargeError(
                error.problem,
                expected=error.expected,
                actual=error.actual,
                remedy="convert it to a TIFF file in tiles, or to OME-Zarr, of which regions can be read (of those in "
                "LZW, JPEG and the like: pip install imagecodecs); or, if you trust the file and have the memory, "
                "raise max_pixels= (--max-pixels)",
            ) from error

    def _part(self, rows: slice, columns: slice) -> Plane:
        if self._whole is None:
            with self._lock:
                part = self._planes.take(self._plane, (rows, columns))
        else:
            at_y, _ = _places(self._whole)
            part = replace(self._whole, array=self._whole.array[(slice(None),) * at_y + (rows, columns)])
        return part if self._alpha is None else replace(part, alpha=self._alpha)

    def _sample(self) -> Plane:
        """Return the plane, or parts of it below each other."""
        height, width = self.shape
        if height * width <= SAMPLE_VALUES:
            return self._part(slice(0, height), slice(0, width))
        of_each = SAMPLE_VALUES // _SAMPLES**2
        columns = min(of_each // min(int(of_each**0.5), height), width)
        rows = min(of_each // columns, height)
        tops, lefts = (
            np.unique(np.linspace(0, most, _SAMPLES).astype(int)).tolist() for most in (height - rows, width - columns)
        )
        parts = [self._part(slice(y, y + rows), slice(x, x + columns)) for y, x in product(tops, lefts)]
        array = np.concatenate([part.array for part in parts], axis=_places(parts[0])[0])
        return replace(parts[0], array=array)


class LargePixels:
    """The pixels of a `LargePlane` as an array that is read where two slices index it.

    Attributes
    ----------
    shape : tuple of int
        Height, width and 3.
    dtype : numpy.dtype
        uint8.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, plane: LargePlane) -> None:
        self._plane = plane
        self.shape = (*plane.shape, 3)

    def __getitem__(self, window: tuple[slice, slice]) -> NDArray[np.uint8]:
        """Read rows and columns, at least one of each."""
        return self._plane.read(self._plane[window]).rgb8


def _places(plane: Plane) -> tuple[int, int]:
    return plane.axes.index("Y"), plane.axes.index("X")


@contextmanager
def open_plane(
    source: object,
    *,
    channels: Channels | None = None,
    axes: str | None = None,
    contrast: Contrast | None = None,
    plane: PlaneChoice = 0,
    level: int = 0,
    series: int = 0,
    max_pixels: int | None = MAX_PIXELS,
) -> Iterator[LargePlane]:
    """Open a plane of a file or array of which regions are to be read.

    Of TIFF files in tiles or strips, CZI files, Zarr stores and lazy arrays only what lies in a region is read; other
    files are decoded as a whole once.

    Parameters
    ----------
    source, channels, axes, plane, level, series
        As in `fastsam_core.read_image`.
    contrast : pair of float, one pair for each channel, or "percentile", optional
        As there; where it is chosen, 25 regions of planes of more than 4 million pixels decide for all of it.
    max_pixels : int or None
        Limit for files that have to be decoded as a whole.

    Yields
    ------
    LargePlane

    Raises
    ------
    ImageReadError, ImageNotFoundError, ImageTooLargeError, UnsupportedImageError, ImageContentError
        As in `fastsam_core.read_image`.

    Examples
    --------
    >>> with open_plane("slide.ome.tif") as slide:  # doctest: +SKIP
    ...     corner = slide.read(slide[:1024, :1024])
    """
    reading: dict[str, Any] = {"channels": channels, "axes": axes, "level": level, "series": series}
    with open_planes(source, **reading, max_pixels=max_pixels) as planes:
        yield LargePlane(planes, plane, contrast)
