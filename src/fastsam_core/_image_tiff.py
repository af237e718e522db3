"""Read TIFF files (OME, ImageJ, plain; 1 to 64 bits; stacks), only the pages that are asked for."""

from __future__ import annotations

import math
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsam_core._image_planes import Alpha, AnyArray, Source, describe_image, pick_level, pick_series, upright
from fastsam_core._pixel_size import hw_of, size_facts, sizes_in_tiff
from fastsam_core._tiff_regions import has_regions, read_region
from fastsam_core.errors import ImageReadError, UnsupportedImageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from tifffile import TiffFile, TiffPage, TiffPageSeries

# Photometric interpretations, TIFF 6.0 tag 262
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _PALETTE, _SEPARATED, _YCBCR, _CFA = 0, 1, 2, 3, 5, 6, 32803
_LINEAR_RAW, _MASK = 34892, 4
_ORIENTATION = 274
_SLIDES = ("avs", "bif", "ndpi", "philips", "qpi", "scn", "svs")  # tifffile's kinds of slide scanners' files
_BESIDE_SLIDES = re.compile(r"\b(label|macro|overview|thumbnail)\b", re.IGNORECASE)
"""How OME-TIFF files call their pictures of a slide and its label."""
_ASSOCIATED, _STRAIGHT = 1, 2  # kinds of alpha, tag 338
_WITHOUT_CODEC = (ImportError, NotImplementedError, ValueError)
"""What tifffile raises where it needs imagecodecs, or for zstd Python 3.14."""


@contextmanager
def open_tiff(path: str, level: int = 0, series: int = 0) -> Iterator[Source]:
    """Open a series of a TIFF file, of a pyramid one level; pages are decoded when indexed.

    Pages that differ in size form several series; with series 0 they are all opened, and addressed by page number, but
    not those beside a pyramid or in a slide scanner's file, which are pictures of the slide and its label. Of several
    stacks or images of several channels one is opened; `Source.images` says which there are. Of OME-TIFF sets, whose
    files all tell of the images of the others, those count that the file has a part of.
    """
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        inside = [at for at, one in enumerate(tiff.series) if _has_part(tiff, one)] or range(len(tiff.series))
        every = [tiff.series[at] for at in inside]

        def describe(number: int) -> str:
            return describe_image(every[number].name, every[number].axes, every[number].shape)

        number = pick_series(len(every), series, path, describe)
        levels = every[number].levels
        chosen = TiffPages(pick_level(levels, level, path))
        pages: TiffPages | _Unequal = chosen
        shapes: list[tuple[int, ...]] | None = None
        images = _images_among(every)
        alike = len(images) == len(every) > 1 and {other.axes for other in every} == {chosen.axes}
        if number == 0 and alike and len(levels) == 1 and set(chosen.axes) <= set("YXS"):
            unequal = [chosen, *map(TiffPages, every[1:])]
            pages, shapes = _Unequal(unequal), [page.shape for page in unequal]
        orientation = _orientation(every[number].keyframe)
        facts: dict[str, object] = {"format": "TIFF", "series": number, "images": len(images)}
        facts |= {"levels": len(levels), "level": level}
        turned = orientation > 4
        if level:
            facts["full_hw"] = list(hw_of(levels[0]))[:: -1 if turned else 1]
        facts |= size_facts(sizes_in_tiff(tiff, inside[number], level), turned=turned)
        held = None if pages is not chosen else chosen.held(tiff)
        yield Source(pages, pages.axes, lambda: orientation, chosen.alpha, facts, pages.regions, shapes, images, held)


def _has_part(tiff: TiffFile, series: TiffPageSeries) -> bool:
    """Tell whether pages of a series are in the file itself, and not all in others of an OME-TIFF set."""
    return series.kind != "ome" or any(_is_in(tiff, page) for page in series)


def _is_in(tiff: TiffFile, page: Any) -> bool:
    return page is not None and page.parent.filehandle.name == tiff.filehandle.name


def _images_among(series: Sequence[TiffPageSeries]) -> list[int]:
    """Return the numbers of the images; others are thumbnails, or pictures of a slide and its label."""
    first = series[0]
    if first.kind in (*_SLIDES, "lsm"):  # LSM files have thumbnails
        return [0]
    if first.kind == "ome":
        return [at for at, one in enumerate(series) if at == 0 or not _BESIDE_SLIDES.search(one.name)]
    if len(first.levels) > 1:
        return [0]
    alike = {first.axes, "YX"} if first.axes == "YXS" else {first.axes}  # of what is gray, colours are a preview
    return [at for at, one in enumerate(series) if one.axes in alike]


def _orientation(page: Any) -> int:
    tag = page.tags.get(_ORIENTATION)
    return tag.value if tag is not None and tag.value in range(1, 9) else 1


class TiffPages:
    """One series as a lazy array: indexing with integers and slices decodes the pages that it touches."""

    def __init__(self, series: TiffPageSeries) -> None:
        self._series = series
        page: Any = series.keyframe
        self.axes, self.shape = str(series.axes), tuple(int(n) for n in series.shape)
        self._leading = len(self.shape) - len(page.shape)
        count = math.prod(self.shape[: self._leading])
        self._pages: Sequence[Any] = series.pages
        if len(series.pages) == 1 < count and series.dataoffset is not None and page.is_memmappable:
            self._pages = [_Consecutive(page, series.dataoffset + number * page.nbytes) for number in range(count)]
        self._paged = (
            self._leading >= 0 and self.shape[self._leading :] == tuple(page.shape) and count == len(self._pages)
        )
        in_pages = {"Y", "X"} <= set(self.axes[self._leading :])  # not so where pages are (X, C), for example
        self.regions = self._paged and in_pages and has_regions(self._pages[0], page)
        """Whether a part of a page is decoded without the rest."""
        if page.photometric == _PALETTE:
            self.axes, self.shape = self.axes + "S", (*self.shape, 3)
        elif page.photometric in (_SEPARATED, _YCBCR):
            at = self.axes.index("S")
            self.shape = (*self.shape[:at], 3, *self.shape[at + 1 :])
        elif page.photometric not in (_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _MASK, _CFA, _LINEAR_RAW):
            raise UnsupportedImageError(
                f"TIFF files with colours in {page.photometric.name} are not handled",
                expected="gray, RGB, palette, CMYK or YCbCr",
                actual=str(page.photometric.name),
                remedy="convert the file to RGB first",
            )
        extra = int(page.extrasamples[0]) if page.extrasamples else _STRAIGHT
        self.alpha: Alpha = {_ASSOCIATED: "associated", _STRAIGHT: "straight"}.get(extra, "none")  # type: ignore[assignment]
        gray = page.photometric in (_MIN_IS_WHITE, _MIN_IS_BLACK)
        self._gray_alpha = gray and "S" in self.axes and page.samplesperpixel == 2 and self.alpha != "none"
        if self._gray_alpha:
            at = self.axes.index("S")
            self.shape = (*self.shape[:at], 4, *self.shape[at + 1 :])
        elif gray or (page.planarconfig == 2 and page.dtype != np.uint8 and page.samplesperpixel == 4):
            # Four separate deep planes are microscopy channels that a writer has marked as colour and alpha.
            self.axes = self.axes.replace("S", "C")

    def held(self, tiff: TiffFile) -> NDArray[np.bool_] | None:
        """Return which pages, along the first axes, are in this file of several that share a stack; None if all are."""
        if not self._paged or not self._series.is_multifile:
            return None
        inside = np.array([_is_in(tiff, page) for page in self._pages]).reshape(self.shape[: self._leading])
        return inside if inside.any() else None

    def __getitem__(self, key: tuple[int | slice, ...]) -> AnyArray:
        if not self._paged:
            return self._finish(self._series.asarray(), self._series.keyframe)[key]
        numbers = np.arange(len(self._pages)).reshape(self.shape[: self._leading])[key[: self._leading]]
        decoded = [self._part(int(number), key[self._leading :]) for number in numbers.reshape(-1)]
        return decoded[0] if numbers.ndim == 0 else np.stack(decoded).reshape(numbers.shape + decoded[0].shape)

    def _part(self, number: int, key: tuple[int | slice, ...]) -> AnyArray:
        """Return what is asked for of a page, decoded without the rest where bounds are given and it can be."""
        page: Any = self._pages[number]
        axes, keyframe = self.axes[self._leading :], self._series.keyframe
        wanted: dict[str, Any] = dict(zip(axes, key, strict=True))
        if page is None or not self.regions:
            return self._page(number)[key]
        rows, columns = wanted["Y"], wanted["X"]
        if not all(isinstance(part, slice) and part != slice(None) for part in (rows, columns)):
            return self._page(number)[key]
        try:
            with _opened(page):
                region = read_region(page, keyframe, rows, columns)
        except _WITHOUT_CODEC as error:
            if not _lacks_codec(error):
                raise
            raise _undecodable(page, keyframe, error) from error
        wanted |= {"Y": slice(None), "X": slice(None)}
        part: AnyArray = self._finish(region, keyframe)[tuple(wanted.values())]
        return part

    def _page(self, number: int) -> AnyArray:
        page: Any = self._pages[number]
        keyframe = self._series.keyframe
        if page is None:  # an OME-TIFF may leave planes out
            return np.zeros(self.shape[self._leading :], keyframe.dtype)
        if keyframe.photometric == _YCBCR:
            return self._other_library(page)
        try:
            with _opened(page):
                array = page.asarray()
            return self._finish(array, keyframe)
        except _WITHOUT_CODEC as error:
            if not _lacks_codec(error):
                raise
            if isinstance(error, NotImplementedError):  # packed integers, such as 12 bits: others scale them
                raise _undecodable(page, keyframe, error) from error
        return self._other_library(page)

    def _finish(self, array: AnyArray, page: TiffPage) -> AnyArray:
        """Turn palette indices, CMYK and inverted gray into what they mean."""
        if page.photometric == _PALETTE and page.colormap is not None:
            colours = page.colormap >> 8 if page.colormap.max() > 255 else page.colormap
            return np.moveaxis(colours.astype(np.uint8)[:, array], 0, -1)
        if page.photometric == _SEPARATED:
            at = page.axes.index("S")
            cmyk = np.moveaxis(array, at, -1)
            if cmyk.dtype != np.uint8 or cmyk.shape[-1] != 4:
                raise ValueError(f"CMYK in {cmyk.shape[-1]} samples of {cmyk.dtype} is not handled")
            left = 255 - cmyk.astype(np.uint16)
            return np.moveaxis((left[..., :3] * left[..., 3:] // 255).astype(np.uint8), -1, at)
        if self._gray_alpha:
            return np.take(array, [0, 0, 0, 1], axis=page.axes.index("S"))
        if page.photometric == _MIN_IS_WHITE and array.dtype.kind in "bu":
            return ~array
        return array

    def _other_library(self, page: Any) -> AnyArray:
        """Decode with Pillow or OpenCV (libtiff) what tifffile only does with imagecodecs: LZW, JPEG, fax."""
        keyframe: Any = self._series.keyframe
        path = page.parent.filehandle.path
        ends = [at + count for at, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
        if max(ends) > os.path.getsize(path) or (keyframe.photometric == _PALETTE and keyframe.colormap is None):
            raise ValueError("the file ends before its pixels do")
        expected = self.shape[self._leading :]
        try:
            by_pillow = keyframe.dtype in (np.uint8, np.bool_)
            pixels = self._by_pillow(path, page) if by_pillow else self._by_opencv(path, page)
            if pixels.ndim == 3 and str(keyframe.axes).startswith("S"):
                pixels = np.moveaxis(pixels, -1, 0)
            if pixels.shape != expected:
                raise ValueError(f"decoded to shape {pixels.shape} instead of {expected}")
        except (OSError, SyntaxError, ValueError) as error:
            raise _undecodable(page, keyframe, error) from error
        return pixels

    def _by_pillow(self, path: str, page: Any) -> AnyArray:
        from PIL.TiffImagePlugin import TiffImageFile

        from fastsam_core._image_files import pillow_array

        with TiffImageFile(path) as image:
            image.seek(page.index)
            pixels = pillow_array(image)
        turned = _orientation(self._series.keyframe)
        # Pillow turns TIFF images upright; here that is done later, for all decoders alike.
        return upright(pixels, {6: 8, 8: 6}.get(turned, turned), "YXS")

    def _by_opencv(self, path: str, page: Any) -> AnyArray:
        import cv2

        data = np.fromfile(path, np.uint8)
        _, decoded = cv2.imdecodemulti(data, cv2.IMREAD_UNCHANGED, range=(page.index, page.index + 1))
        if not decoded:
            raise ValueError("OpenCV cannot decode it either")
        pixels = np.asarray(decoded[0])
        return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]] if pixels.ndim == 3 else pixels


@dataclass(frozen=True, slots=True)
class _Consecutive:
    """A plane without a page of its own: of large stacks ImageJ describes the first one, and the others follow it."""

    keyframe: TiffPage
    offset: int

    @property
    def parent(self) -> Any:
        return self.keyframe.parent

    @property
    def dataoffsets(self) -> tuple[int]:
        return (self.offset,)

    def asarray(self) -> AnyArray:
        rows, columns = slice(0, self.keyframe.imagelength), slice(0, self.keyframe.imagewidth)
        return read_region(self, self.keyframe, rows, columns)


@contextmanager
def _opened(page: Any) -> Iterator[None]:
    """Open the file of a page while the block runs: OME-TIFF images may lie in several, and tifffile closes them."""
    file = page.parent.filehandle
    closed = file.closed
    if closed:
        file.open()
    try:
        yield
    finally:
        if closed:
            file.close()


def _lacks_codec(error: Exception) -> bool:
    said = str(error)  # tifffile before 2026 names the compression only
    return isinstance(error, ImportError) or "imagecodecs" in said or said.endswith("> not supported")


def _undecodable(page: Any, keyframe: Any, error: Exception) -> ImageReadError:
    return ImageReadError(
        f"Page {page.index} of the TIFF file cannot be decoded",
        expected=f"complete data in {keyframe.compression.name} compression",
        actual=str(error),
        remedy="pip install imagecodecs (it knows more compressions); if that does not help, copy it again",
    )


class _Unequal:
    """Pages that differ in size: axis ``I`` chooses among them; the shape is what the largest one has."""

    def __init__(self, pages: list[TiffPages]) -> None:
        self._pages = pages
        self.axes = "I" + pages[0].axes
        self.regions = all(page.regions for page in pages)
        self.shape = (len(pages), *(max(sizes) for sizes in zip(*(page.shape for page in pages), strict=True)))

    def __getitem__(self, key: tuple[Any, ...]) -> AnyArray:
        return self._pages[int(key[0])][tuple(key[1:])]
