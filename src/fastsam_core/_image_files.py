"""Open image files by what they contain (not by their name), with the size known before anything is decoded."""

from __future__ import annotations

import importlib
import math
import os
import stat
import struct
import zlib
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from fastsam_core._defaults import MAX_PIXELS
from fastsam_core._image_microscopes import TO_OME, microscope_of, open_microscope
from fastsam_core._image_planes import AnyArray, ArrayLike, Source, pick_level, pick_series
from fastsam_core.errors import (
    FastSAMError,
    ImageNotFoundError,
    ImageReadError,
    ImageTooLargeError,
    UnsupportedImageError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from PIL.Image import Image as PillowImage

IMAGE_SUFFIXES = frozenset(
    ".apng .bmp .btf .czi .gif .jfif .jpeg .jpg .lif .lsm .nd2 .pgm .png .pnm .ppm .svs .tif .tiff .webp".split()
)

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PILLOW = (  # what a file begins with, Pillow's module, and what opens it there
    (b"\xff\xd8\xff", "JpegImagePlugin", "jpeg_factory"),
    (b"\x89PNG\r\n\x1a\n", "PngImagePlugin", "PngImageFile"),
    (b"GIF8", "GifImagePlugin", "GifImageFile"),
    (b"BM", "BmpImagePlugin", "BmpImageFile"),
    (b"RIFF", "WebPImagePlugin", "WebPImageFile"),
    *((b"P%d" % kind, "PpmImagePlugin", "PpmImageFile") for kind in range(1, 7)),
)
_READ = "PNG, JPEG, TIFF, OME-Zarr, BMP, WebP, GIF, PPM, CZI, ND2 or LIF"
_FOREIGN = (  # where a file of another kind has which bytes, its name, and what it can become
    (0, b"\xd0\xcf\x11\xe0", "OLE (Olympus OIB, Zeiss ZVI)", TO_OME),
    (0, b"\x89HDF", "HDF5 (Imaris, ilastik)", TO_OME),
    (0, b"\0\0\0\x0cjP", "JPEG 2000", "TIFF"),
    (0, b"\x93NUMPY", "NumPy", "TIFF"),
    (4, b"ftyp", "HEIF, AVIF or MP4", "PNG or JPEG"),
)
_ORIENTATION = 0x0112
_AS_THEY_ARE = {"1", "L", "I", "I;16", "I;16B", "I;16L", "I;16N", "F", "RGB", "RGBA"}
_TO_RGBA = {"LA", "La", "PA", "RGBa"}
_TO_RGB = {"P", "CMYK", "YCbCr", "HSV", "RGBX"}

DAMAGED_IMAGES = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    RuntimeError,
    SystemError,
    struct.error,
    zlib.error,
)
"""What Pillow and tifffile raise on damaged data. AssertionError and the like come from malformed headers."""


@contextmanager
def open_file(path: str, level: int = 0, series: int = 0) -> Iterator[Source]:
    """Open an image file; its pixels are decoded when the source is indexed, inside the ``with`` block.

    Only opening and decoding raise what is listed here; other errors of the block pass as they are.

    Raises
    ------
    ImageNotFoundError
        There is no such file.
    ImageReadError
        The file cannot be opened or decoded.
    UnsupportedImageError
        It is an image of a kind that is not handled.
    MissingDependencyError
        What reads files of this kind is not installed.
    ImageContentError
        It has no such level or series.
    """
    from fastsam_core._image_zarr import is_zarr, open_zarr

    with ExitStack() as opened:
        with errors_named(path):
            if is_zarr(path):
                source = opened.enter_context(open_zarr(path, level, series))
            else:
                stream = opened.enter_context(_open_stream(path))
                prefix = stream.read(32)
                stream.seek(0)
                if prefix[:4] in _TIFF:
                    from fastsam_core._image_tiff import open_tiff

                    source = opened.enter_context(open_tiff(path, level, series))
                elif (kind := microscope_of(prefix)) is not None:
                    source = opened.enter_context(open_microscope(path, kind, series, level))
                else:
                    pick_level([path], level, path)
                    pick_series(1, series, path)
                    source = _open_pillow(stream, prefix, path)
            array = _Decoded(source.array, path)
        yield replace(source, array=array)


class _Decoded:
    """What a file holds, decoded where it is indexed; what decoders raise names the file."""

    def __init__(self, array: ArrayLike, path: str) -> None:
        self._array, self._path = array, path
        self.shape = tuple(int(n) for n in array.shape)

    def __getitem__(self, key: tuple[Any, ...]) -> AnyArray:
        with errors_named(self._path):
            decoded = np.asarray(self._array[key])
            if decoded.ndim != (axes := sum(isinstance(part, slice) for part in key)):  # tifffile tells it as a warning
                raise ValueError(f"the data have the shape {decoded.shape} instead of {axes} axes")
            return decoded


@contextmanager
def errors_named(path: str) -> Iterator[None]:
    """Raise what decoders raise about a file as errors of this project."""
    from PIL.Image import DecompressionBombError

    try:
        yield
    except FastSAMError:
        raise
    except DecompressionBombError as error:  # Pillow's WebP and GIF decoders have a limit of their own
        raise ImageTooLargeError(
            f"{path} is too large for its format's decoder",
            expected="what Pillow allows",
            actual=str(error),
            remedy="convert it to PNG or TIFF, for which max_pixels= (--max-pixels) is the only limit",
        ) from error
    except DAMAGED_IMAGES as error:
        raise ImageReadError(
            f"{path} cannot be decoded: it is damaged or incomplete",
            expected="a complete image file",
            actual=f"{type(error).__name__}: {error}",
            remedy="copy or export the file again",
        ) from error


def no_file(path: str) -> ImageNotFoundError:
    """Return what to raise where an image file is missing."""
    return ImageNotFoundError(
        f"There is no file {path}",
        expected="the path of an image file",
        actual=repr(path),
        remedy="check the spelling" + ("" if os.path.isabs(path) else f"; paths are relative to {os.getcwd()}"),
    )


def _open_stream(path: str) -> IO[bytes]:
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise ImageReadError(
                f"{path} is a folder",
                expected="an image file",
                actual="a folder",
                remedy="pass the files in it one by one",
            )
        if stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode):  # images are read back and forth
            raise ImageReadError(
                f"{path} is a pipe",
                expected="an image file",
                actual="a pipe",
                remedy="write it to a file, and pass that",
            )
        if status.st_size == 0 and stat.S_ISREG(status.st_mode):
            raise ImageReadError(
                f"{path} is empty", expected="an image file", actual="0 bytes", remedy="copy or export the file again"
            )
        return open(path, "rb")
    except FileNotFoundError:
        raise no_file(path) from None
    except FastSAMError:
        raise
    except (OSError, ValueError) as error:
        raise ImageReadError(
            f"{path} cannot be opened",
            expected="a readable file",
            actual=str(error),
            remedy="check its permissions and that the disk is there",
        ) from error


def _open_pillow(stream: IO[bytes], prefix: bytes, path: str) -> Source:
    """Open the file with the plug-in for its content, past Pillow's own size limit (a global that warns)."""
    factory = _pillow_factory(prefix)
    if factory is None:
        for place, magic, kind, better in _FOREIGN:
            if prefix[place:].startswith(magic):
                raise UnsupportedImageError(
                    f"{path} is a {kind} file, which is not read here",
                    expected=_READ,
                    actual=kind,
                    remedy=f"convert it to {better}, or read it into an array and pass that, with axes such as 'TCZYX'",
                )
        raise ImageReadError(
            f"{path} is not an image that can be read here",
            expected=_READ,
            actual=f"a file that begins with {prefix[:8]!r}",
            remedy="convert it to PNG or TIFF",
        )
    image: PillowImage = factory(stream, path)
    facts: dict[str, object] = {"format": image.format or "", "mode": image.mode}
    if image.format == "PNG" and prefix[24] == 16 and prefix[25] != 0:
        facts["mode"] = "16-bit colour"
        return Source(_DeepPng(image, stream, gray=prefix[25] == 4), "YXS", lambda: _orientation(image), facts=facts)
    frames = _Frames(image, stream)
    return Source(frames, frames.axes, lambda: _orientation(image), facts=facts)


def _pillow_factory(prefix: bytes) -> Callable[[IO[bytes], str], PillowImage] | None:
    """Return what opens a file that begins so, if anything in Pillow is trusted to."""
    for magic, module, opener in _PILLOW:
        if prefix.startswith(magic) and (magic != b"RIFF" or prefix[8:12] == b"WEBP"):
            factory: Callable[[IO[bytes], str], PillowImage] = getattr(importlib.import_module(f"PIL.{module}"), opener)
            return factory
    return None


def open_picture(stream: IO[bytes], name: str) -> PillowImage | None:
    """Open a file with Pillow as it is, up to the size that is read here; None if others read its kind (TIFF, CZI …).

    Raises
    ------
    ImageReadError
        It is damaged; decoding it comes later, and raises what Pillow raises.
    ImageTooLargeError
        It has more pixels than `read_image` takes by default.
    """
    factory = _pillow_factory(stream.read(32))
    stream.seek(0)
    if factory is None:
        return None
    with errors_named(name):
        image = factory(stream, name)
    check_annotated(name, (image.height, image.width))
    return image


def check_annotated(name: str, shape: Sequence[int]) -> None:
    """Make sure before it is decoded that an annotation, or an image that has one, is not larger than is read.

    Raises
    ------
    ImageTooLargeError
        It has more pixels than `read_image` takes by default.
    """
    if math.prod(shape) > MAX_PIXELS:
        raise ImageTooLargeError(
            f"{name} has {' × '.join(map(str, shape))} pixels",
            expected=f"at most {MAX_PIXELS} pixels",
            actual=f"{math.prod(shape)} pixels",
            remedy="reduce it, or cut it into parts: an image and its annotation alike",
        )


def _orientation(image: PillowImage) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except DAMAGED_IMAGES:  # the picture is good all the same
        return 1
    return value if isinstance(value, int) else 1


def pillow_array(image: PillowImage) -> AnyArray:
    """Return the pixels of a Pillow image as (H, W) gray, (H, W, 3) RGB or (H, W, 4) RGBA, in a new array."""
    samples = _samples(image)
    if samples == 4 and image.mode != "RGBA":
        image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    elif samples == 3 and image.mode != "RGB":
        image = image.convert("RGB")
    return np.array(image)


def _samples(image: PillowImage) -> int:
    """Return 1 for gray, 3 for RGB, 4 for RGBA: what `pillow_array` will give, known before decoding."""
    keyed = "transparency" in image.info and image.mode in ("1", "L", "P", "RGB")
    if keyed or image.mode in _TO_RGBA | {"RGBA"}:
        return 4
    if image.mode in _TO_RGB | {"RGB"}:
        return 3
    if image.mode in _AS_THEY_ARE:
        return 1
    raise UnsupportedImageError(
        f"Images of Pillow's mode {image.mode} are not handled",
        expected=f"one of {', '.join(sorted(_AS_THEY_ARE | _TO_RGB | _TO_RGBA))}",
        actual=image.mode,
        remedy="convert it to RGB first",
    )


def _complete_jpeg(stream: IO[bytes]) -> AnyArray | None:
    """Decode a JPEG file with OpenCV, which does it in three quarters of Pillow's time.

    Only files that end as they should: of others OpenCV (until version 5) makes the missing part gray, without an
    error. They are left to Pillow, as is what OpenCV cannot decode.
    """
    import cv2

    stream.seek(0)
    data = stream.read()
    pixels: AnyArray | None = None
    if data.rstrip(b"\0").endswith(b"\xff\xd9"):
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        except cv2.error:  # larger than OpenCV's own limit
            pixels = None
    stream.seek(0)
    return None if pixels is None else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)


class _Frames:
    """The frames of a Pillow file; axes ``T`` (only if there are several), ``Y``, ``X`` and ``S``."""

    def __init__(self, image: PillowImage, stream: IO[bytes]) -> None:
        self._image, self._stream = image, stream
        count = int(getattr(image, "n_frames", 1))
        samples = _samples(image) if count == 1 else 4  # later frames of an animation can bring colours and alpha
        self.axes = ("T" if count > 1 else "") + "YX" + ("S" if samples > 1 else "")
        sizes = {"T": count, "Y": image.height, "X": image.width, "S": samples}
        self.shape = tuple(sizes[name] for name in self.axes)

    def __getitem__(self, key: tuple[Any, ...]) -> AnyArray:
        frame, rest = self._image, key
        if "T" in self.axes:
            frame.seek(key[0])
            frame, rest = frame.convert("RGBA"), key[1:]
        elif frame.format == "JPEG" and frame.mode == "RGB" and (pixels := _complete_jpeg(self._stream)) is not None:
            return np.asarray(pixels[key])
        return np.asarray(pillow_array(frame)[rest])


class _DeepPng:
    """A 16-bit colour PNG, of which Pillow would keep the high bytes only."""

    def __init__(self, image: PillowImage, stream: IO[bytes], *, gray: bool) -> None:
        self._image, self._stream, self._gray = image, stream, gray
        self.shape = (image.height, image.width, 4 if gray or image.mode == "RGBA" else 3)

    def __getitem__(self, key: tuple[Any, ...]) -> AnyArray:
        import cv2

        self._image.load()  # Pillow tells a damaged file from a good one; OpenCV only prints
        self._stream.seek(0)
        pixels: AnyArray | None = cv2.imdecode(np.frombuffer(self._stream.read(), np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None or pixels.shape != self.shape:
            raise ValueError("OpenCV cannot decode this 16-bit PNG")
        order = cv2.COLOR_BGRA2RGBA if self.shape[2] == 4 else cv2.COLOR_BGR2RGB
        return np.asarray(cv2.cvtColor(pixels, order)[key])
