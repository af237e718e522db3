"""Read images of any kind as 8-bit RGB, and remember how they were made.

What goes in: files (PNG, JPEG, TIFF, OME-Zarr, BMP, WebP, GIF, PPM, CZI, ND2, LIF), NumPy arrays, Pillow images, torch
tensors, zarr and dask arrays. What comes out is always `Image`: uint8, (H, W, 3), red first.

- 8-bit values pass untouched, unless they are faint (their percentiles lie less than 100 apart). Those, 16-bit, float
  and other values are scaled: gray planes and microscopy channels by their 0.1 and 99.9 percentiles, each by itself;
  colour by its natural range, or by joint percentiles (hues stay).
- Transparent pixels are drawn over black.
- Two channels are shown in magenta and green, three in red, green and blue, more in red, green, blue, cyan, magenta and
  yellow in turn, added up. `channels` chooses others.
- Files are turned upright as their EXIF orientation says; Pillow images are taken as they are.
- Masked values of NumPy's masked arrays are taken for NaN, which is shown black and does not count; 8-bit ones for 0.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from operator import index as as_index
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsam_core._checks import as_integer
from fastsam_core._defaults import MAX_PIXELS
from fastsam_core._image_colour import ChannelChoice, Channels, parse_channels, to_rgb8
from fastsam_core._image_files import IMAGE_SUFFIXES, open_file, pillow_array
from fastsam_core._image_planes import (
    MAX_CHANNELS,
    Plane,
    PlaneChoice,
    Source,
    infer_axes,
    named_sizes,
    pick_level,
    pick_series,
    plane_sizes,
    regions_of,
    take_plane,
)
from fastsam_core._image_zarr import axes_named
from fastsam_core.errors import ImageContentError, ImageReadError, UnsupportedImageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import DTypeLike, NDArray

    from fastsam_core._image_contrast import Contrast

__all__ = ["IMAGE_SUFFIXES", "Image", "is_image_path", "mean_values", "open_planes", "read_image", "read_values"]


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """An image as the network takes it.

    Parameters
    ----------
    rgb8 : ndarray of shape (H, W, 3), uint8, C-contiguous
        Red, green, blue. May share memory with the array it was made from: do not write into it.
    source : str
        The path it was read from, or ``"<array>"``, ``"<tensor>"``, ``"<pillow>"``.
    recipe : mapping
        How it was made, fit for JSON: format, shape, axes, dtype, plane, channels, contrast limits, orientation.

    Raises
    ------
    ImageContentError
        `rgb8` is not such an array.
    """

    rgb8: NDArray[np.uint8]
    source: str
    recipe: Mapping[str, object]

    def __post_init__(self) -> None:
        """Check the array."""
        array: Any = self.rgb8
        valid = isinstance(array, np.ndarray) and array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3
        if not valid or not array.size or not array.flags.c_contiguous:
            raise ImageContentError(
                "This is no 8-bit RGB image",
                expected="a C-contiguous uint8 array of shape (H, W, 3) with at least one pixel",
                actual=f"{type(array).__name__} {getattr(array, 'dtype', '')} {getattr(array, 'shape', '')}",
                remedy="let read_image make it",
            )

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.rgb8.shape[0], self.rgb8.shape[1]

    @property
    def pixel_size_um(self) -> tuple[float, float] | None:
        """Height and width of a pixel in micrometres; None where the file does not say."""
        recipe: Mapping[str, Any] = self.recipe
        size = recipe.get("pixel_size_um")
        return None if size is None else (float(size[0]), float(size[1]))

    @property
    def z_step_um(self) -> float | None:
        """Distance from plane to plane in micrometres; None where the file does not say."""
        recipe: Mapping[str, Any] = self.recipe
        step = recipe.get("z_step_um")
        return None if step is None else float(step)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Return `rgb8`, so that NumPy functions take the image itself."""
        if copy:
            return np.array(self.rgb8, dtype=dtype)
        return np.asarray(self.rgb8, dtype=dtype)


def is_image_path(path: str | os.PathLike[str]) -> bool:
    """Tell by its name whether a file looks like an image that `read_image` reads (hidden files do not)."""
    name = os.path.basename(os.fspath(path))
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def read_image(
    source: object,
    *,
    channels: Channels | None = None,
    axes: str | None = None,
    contrast: Contrast | None = None,
    plane: PlaneChoice = 0,
    level: int = 0,
    series: int = 0,
    max_pixels: int | None = MAX_PIXELS,
) -> Image:
    """Read an image from a file or an array, as 8-bit RGB.

    Parameters
    ----------
    source : path, ndarray, Pillow image, torch tensor, zarr, dask or xarray array, Image
        Arrays are (H, W), (H, W, 1), (H, W, 3) RGB, (H, W, 4) RGBA or (C, H, W) with few channels C; others, and those
        that could be either, need `axes`. Tensors are (H, W) or (C, H, W), where 3 is RGB and 4 is RGBA; (H, W, 3)
        is told from (C, H, W) by its many rows. Axes of zarr and xarray arrays may have names, which hold. Of lazy
        arrays and TIFF stacks only the chosen plane is read. An `Image` is returned as it is.
    channels : int, sequence of int, or mapping from int to colour, optional
        Which channels to show: one in gray, several added up in colours, which a mapping names (``{0: "blue", 2:
        "green"}``; names, ``"#rrggbb"`` or three numbers). Of colour images too: ``channels=0`` is the red one.
    axes : str, optional
        One letter for each axis, such as ``"TCZYX"``: ``Y``, ``X``, ``S`` for RGB(A) samples, ``C`` for channels,
        others for stacks. Overrules what a file says.
    contrast : pair of float, one pair for each channel, or "percentile", optional
        The values that become black and white. By default 8-bit values stay unless they are faint, colour is scaled by
        its natural range, and all else by percentiles 0.1 and 99.9 over finite pixels (over a sample of about 4 million
        pixels of larger ones). NaN becomes black.
    plane : int or mapping from axis letter to int, default 0
        Which plane of a stack or animation: its number (counted row by row over all stack axes; where several files
        share a stack, over the planes of this one) or an index by axis.
    level : int, default 0
        Which level of a pyramid (OME-TIFF, OME-Zarr, Aperio SVS, CZI …): 0 is the full size, each next one is smaller.
    series : int, default 0
        Which image of a file that holds several: a series of a TIFF file, an image of an OME-Zarr store, a scene or
        position of a microscope's file.
    max_pixels : int or None, default 2**28
        Limit for files and lazy arrays, checked before decoding; None lifts it. Up to 4 channels count once.

    Returns
    -------
    Image

    Raises
    ------
    ImageNotFoundError
        There is no such file.
    ImageReadError
        The file is empty, damaged, not readable or not an image.
    ImageTooLargeError
        It has more than `max_pixels` pixels.
    UnsupportedImageError
        The object, its dtype or its colour space cannot be taken as an image.
    ImageContentError
        Axes, plane, channels or contrast do not fit the image, the axes are ambiguous, or there is no such series.
    MissingDependencyError
        What reads files of this kind is not installed.
    """
    if isinstance(source, Image):
        if (channels, axes, contrast) != (None, None, None) or plane != 0 or level != 0 or series != 0:
            raise ImageContentError(
                "An Image is already 8-bit RGB: channels, axes, contrast, plane, level, series have no meaning for it",
                expected="the original file or array",
                actual=repr(source.source),
                remedy="read the original with these options",
            )
        return source
    reading: dict[str, Any] = {"channels": channels, "axes": axes, "level": level, "series": series}
    with open_planes(source, **reading, max_pixels=max_pixels) as planes:
        return planes.read(plane, contrast)


@dataclass(frozen=True, slots=True, eq=False)
class Planes:
    """A source that was opened, and how its planes are read."""

    opened: Source
    source: str
    choice: ChannelChoice
    axes: str | None
    max_pixels: int | None

    @property
    def sizes(self) -> dict[str, int]:
        """The size of each axis by its letter, known before anything is decoded."""
        return named_sizes(self.opened, self.axes, self.choice.indices)

    @property
    def images(self) -> Sequence[int]:
        """The numbers of the images (series, scenes) that the file holds, of which this is one."""
        facts: Mapping[str, Any] = self.opened.facts
        return self.opened.images or range(int(facts.get("images", 1)))

    def plane_hw(self, plane: PlaneChoice) -> tuple[int, int]:
        """Return height and width of a plane, as they are stored."""
        sizes, _ = plane_sizes(self.opened, axes=self.axes, plane=plane, channels=self.choice.indices)
        return sizes["Y"], sizes["X"]

    @property
    def has_regions(self) -> bool:
        """Whether a part of a plane is read without the rest."""
        return regions_of(self.opened, self.axes)

    def take(self, plane: PlaneChoice, region: tuple[slice, slice] | None = None) -> Plane:
        """Read a plane with its own values, or rows and columns of it, whatever its size; one call at a time."""
        return take_plane(
            self.opened,
            axes=self.axes,
            plane=plane,
            channels=self.choice.indices,
            max_pixels=self.max_pixels if region is None else None,
            region=region,
        )

    def show(self, plane: Plane, contrast: Contrast | None) -> Image:
        """Return what was taken as the network takes it."""
        rgb8, facts = to_rgb8(plane, self.choice, contrast)
        return Image(np.ascontiguousarray(rgb8), self.source, plane.facts | facts)

    def read(self, plane: PlaneChoice, contrast: Contrast | None) -> Image:
        """Read a plane; one call at a time."""
        return self.show(self.take(plane), contrast)


@contextmanager
def open_planes(
    source: object,
    *,
    channels: Channels | None = None,
    axes: str | None = None,
    level: int = 0,
    series: int = 0,
    max_pixels: int | None = MAX_PIXELS,
) -> Iterator[Planes]:
    """Open a file or array once for several of its planes; parameters and errors as in `read_image`.

    Yields
    ------
    Planes
    """
    if max_pixels is not None:
        as_integer("max_pixels", max_pixels, 1)
    choice = parse_channels(channels)
    name, opening, limited = _open(source, choice.indices is not None, axes, level, series)
    limit = max_pixels if limited else None
    with opening as opened:
        yield Planes(opened, name, choice, axes, limit)


def read_values(
    source: object,
    *,
    channels: Channels | None = None,
    axes: str | None = None,
    plane: PlaneChoice = 0,
    series: int = 0,
    max_pixels: int | None = MAX_PIXELS,
) -> NDArray[Any]:
    """Read one plane with its own values, of any dtype; parameters and errors as in `read_image`.

    Returns
    -------
    ndarray of shape (H, W), (C, H, W) for channels, or (H, W, 3 or 4) for colour
    """
    with open_planes(source, channels=channels, axes=axes, series=series, max_pixels=max_pixels) as planes:
        return planes.take(plane).array


def mean_values(colours: NDArray[Any]) -> NDArray[np.float32]:
    """Return the mean of red, green and blue of colour with its own values, (H, W, 3 or 4); alpha does not count."""
    return np.asarray(colours[..., :3].mean(axis=-1, dtype=np.float32))


def _open(
    source: object, channels_chosen: bool, axes: str | None, level: int, series: int
) -> tuple[str, AbstractContextManager[Source], bool]:
    """Return a name for the source, a way to open it, and whether the pixel limit holds for it."""
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        if isinstance(path, str):
            return path, open_file(path, level, series), True
    pick_level([source], level, "An array")
    pick_series(1, series, "An array")
    if isinstance(source, np.ndarray):
        return "<array>", nullcontext(_array_source(source, "array", channels_chosen, axes)), False
    package = type(source).__module__.partition(".")[0]
    if package == "torch" and hasattr(source, "detach"):
        return "<tensor>", nullcontext(_tensor_source(source, axes)), False
    if package == "PIL" and hasattr(source, "mode"):
        return "<pillow>", nullcontext(_pillow_source(source)), False
    if hasattr(source, "shape") and hasattr(source, "dtype") and hasattr(source, "__getitem__"):
        return "<array>", nullcontext(_array_source(source, package, channels_chosen, axes)), True
    raise UnsupportedImageError(
        f"An object of type {type(source).__name__} cannot be read as an image",
        expected="a path, a NumPy, zarr, dask or xarray array, a torch tensor or a Pillow image",
        actual=f"{type(source).__module__}.{type(source).__qualname__}",
        remedy="pass the path of the store, or one of the arrays in it"
        if package == "zarr"
        else "convert it with numpy.asarray, or save it to a file and pass the path",
    )


def _array_source(array: Any, kind: str, channels_chosen: bool, axes: str | None) -> Source:
    try:
        shape = tuple(as_index(n) for n in array.shape)
    except TypeError:
        raise ImageContentError(
            "The size of this array is not known yet",
            expected="a shape of whole numbers",
            actual=f"shape {array.shape}",
            remedy="call array.compute_chunk_sizes() first",
        ) from None
    if isinstance(array, np.ma.MaskedArray):
        array = _unmasked(array)
    named = axes or axes_named(array)
    if not named or (axes is None and named[:2] == "YX" and shape[2:] in ((3,), (4,))):  # colours, whatever their name
        named = infer_axes(shape, channels_chosen=channels_chosen)
    return Source(array, named, facts={"format": kind}, regions=True)


def _unmasked(array: Any) -> NDArray[Any]:
    """Return the values of a masked array, with NaN in place of masked ones; 0 in 8-bit arrays and booleans."""
    if not np.ma.is_masked(array):
        return np.asarray(array.data)
    if array.dtype.kind in "iu" and array.dtype.itemsize > 1:
        array = array.astype(np.float32 if array.dtype.itemsize == 2 else np.float64)
    return np.asarray(array.filled(np.nan if array.dtype.kind == "f" else 0))


def _tensor_source(tensor: Any, axes: str | None) -> Source:
    tensor = tensor.detach()
    if str(tensor.dtype) == "torch.bfloat16":
        tensor = tensor.float()
    try:
        array = tensor.cpu().resolve_neg().numpy()
    except (RuntimeError, TypeError) as error:  # sparse, quantised, complex, or without data
        raise UnsupportedImageError(
            "This tensor cannot be taken as an array",
            expected="a dense tensor of booleans, integers or floating-point numbers",
            actual=f"{tensor.dtype}, {tensor.layout}, on {tensor.device}",
            remedy="convert it first, e.g. with tensor.to_dense()",
        ) from error
    if axes is None:
        channels_first = array.ndim == 3 and (array.shape[0] <= MAX_CHANNELS or array.shape[2] > MAX_CHANNELS)
        colours_first = channels_first and array.shape[0] in (3, 4)
        axes = "SYX" if colours_first else "CYX" if channels_first else infer_axes(array.shape, channels_chosen=False)
    return Source(array, axes, facts={"format": "torch"}, regions=True)


def _pillow_source(image: Any) -> Source:
    try:
        array = pillow_array(image)
    except (OSError, ValueError) as error:
        raise ImageReadError(
            "This Pillow image cannot be decoded",
            expected="a complete image that is open",
            actual=str(error),
            remedy="open a complete file, and keep it open",
        ) from error
    axes = "YX" if array.ndim == 2 else "YXS"
    return Source(array, axes, facts={"format": "pillow", "mode": image.mode}, regions=True)
