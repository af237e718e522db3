"""Read the files of microscopes: CZI with Zeiss's pylibCZIrw, ND2 and LIF with bioio; never more than is asked for."""

from __future__ import annotations

import importlib
import math
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, Protocol
from xml.etree import ElementTree

import numpy as np

from fastsam_core._image_planes import Source, describe_image, pick_level, pick_series
from fastsam_core._pixel_size import micrometres, size_facts
from fastsam_core.errors import FastSAMError, ImageReadError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fastsam_core._image_planes import AnyArray
    from fastsam_core._pixel_size import Sizes

__all__ = ["TO_OME", "Kind", "microscope_of", "open_microscope"]

Kind = Literal["CZI", "ND2", "LIF"]

TO_OME = "OME-TIFF or OME-Zarr (with Fiji, bfconvert or bioformats2raw)"
"""What files that cannot be read here can become."""

_BEGINNINGS: dict[bytes, Kind] = {b"ZISRAWFILE": "CZI", b"\xda\xce\xbe\n": "ND2", b"\x70\0\0\0": "LIF"}
_MAKERS: dict[Kind, str] = {"CZI": "Zeiss", "ND2": "Nikon", "LIF": "Leica"}
_READERS: dict[Kind, tuple[str, str]] = {
    "CZI": ("pylibCZIrw", "pylibCZIrw.czi"),
    "ND2": ("bioio-nd2", "bioio_nd2"),
    "LIF": ("bioio-lif", "bioio_lif"),
}
"""The package that reads files of a kind, and its module."""

_PLANE = "YXS"
_MOST_CHANNELS = 64
"""As many channels are asked whether they are in colour; damaged files speak of millions."""

_SMALL_PX = 256
"""Scenes of CZI files are offered in levels down to about this side."""

_CACHE_BYTES = 2**28
"""Tiles of a CZI file that were decoded are kept up to this size: neighbouring regions share them."""


def microscope_of(prefix: bytes) -> Kind | None:
    """Return which microscope's file begins like this, if it is one."""
    return next((kind for begins, kind in _BEGINNINGS.items() if prefix.startswith(begins)), None)


@contextmanager
def open_microscope(path: str, kind: Kind, series: int = 0, level: int = 0) -> Iterator[Source]:
    """Open an image (scene, position) of a microscope's file; planes are decoded when indexed.

    Of CZI files, mosaics or not, only what lies in a region is decoded; each level of them is half as large as the one
    before, whether the file holds it or it is made when it is read. The tiles of a LIF file are planes along ``M``.

    Raises
    ------
    MissingDependencyError
        What reads such files is not installed.
    ImageReadError
        It cannot open the file, or there is no image in it.
    ImageContentError
        There is no such image.
    """
    with ExitStack() as opened:
        with _errors_named(path, kind):
            module = _module(path, kind)
            scenes: _Scenes = opened.enter_context(_open_czi(module, path)) if kind == "CZI" else _Bioio(module, path)

            def describe(number: int) -> str:
                sizes = scenes.sizes(number)
                return describe_image(scenes.name(number), "".join(sizes), list(sizes.values()))

            number = pick_series(scenes.count, series, path, describe)
            levels = scenes.levels(number)
            chosen = pick_level(range(levels), level, path)
            array = _Lazy(scenes, number, chosen, path, kind)
            try:
                sizes_um = scenes.sizes_um(number, chosen)
            except Exception:  # noqa: BLE001 (whatever a library raises: pixels can be read all the same)
                sizes_um = {}
        facts: dict[str, object] = {"format": kind, "series": number, "images": scenes.count}
        facts |= {"levels": levels, "level": chosen}
        if chosen:
            full = scenes.sizes(number)
            facts["full_hw"] = [full["Y"], full["X"]]
        facts |= size_facts(sizes_um)
        yield Source(array, array.axes, facts=facts, regions=kind == "CZI")


class _Scenes(Protocol):
    """The images of a file."""

    @property
    def count(self) -> int: ...
    def name(self, number: int) -> str: ...
    def levels(self, number: int) -> int: ...
    def sizes(self, number: int, level: int = 0) -> dict[str, int]:
        """Return the size of each axis by its letter; ``Y``, ``X`` and ``S`` are the last."""

    def sizes_um(self, number: int, level: int) -> Sizes:
        """Return how large a pixel is, as far as the file says."""

    def read(self, number: int, level: int, at: Mapping[str, int], inside: Sequence[Any]) -> AnyArray:
        """Decode rows and columns (and, of colour, samples) of the plane that lies there."""


class _Lazy:
    """One of the scenes as an array whose planes are decoded where it is indexed."""

    def __init__(self, scenes: _Scenes, number: int, level: int, path: str, kind: Kind) -> None:
        self._scenes, self._which, self._path, self._kind = scenes, (number, level), path, kind
        sizes = scenes.sizes(number, level)
        self._fixed: dict[str, int] = {}
        if "S" in sizes and sizes.get("C") == 1:  # so that a choice of channels is one among red, green and blue
            del sizes["C"]
            self._fixed["C"] = 0
        self.axes, self.shape = "".join(sizes), tuple(sizes.values())
        self._stack = [name for name in sizes if name not in _PLANE]

    def __getitem__(self, key: tuple[Any, ...]) -> AnyArray:
        leading, inside = key[: len(self._stack)], key[len(self._stack) :]
        places = [
            range(size)[at] if isinstance(at, slice) else [at] for at, size in zip(leading, self.shape, strict=False)
        ]
        with _errors_named(self._path, self._kind):  # one by one, for channels may differ in depth
            planes = [
                self._scenes.read(*self._which, self._fixed | dict(zip(self._stack, place, strict=True)), inside)
                for place in product(*places)
            ]
        kept = [len(place) for place, at in zip(places, leading, strict=True) if isinstance(at, slice)]
        return np.stack(planes).reshape(*kept, *planes[0].shape) if kept else planes[0]


# ---- CZI --------------------------------------------------------------------------------------------------------


@contextmanager
def _open_czi(module: Any, path: str) -> Iterator[_Czi]:
    with module.open_czi(path, cache_options=module.CacheOptions(max_memory_usage=_CACHE_BYTES)) as file:
        yield _Czi(file)


@dataclass(frozen=True, slots=True)
class _Box:
    """Where a scene lies in the file's plane."""

    scene: int | None
    x: int
    y: int
    width: int
    height: int


class _Czi:
    """The scenes of a CZI file; what lies between the tiles of a mosaic is black.

    Parameters
    ----------
    file : pylibCZIrw.czi.CziReader
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        bounds = file.total_bounding_box_no_pyramid
        lengths = {name: stop - start for name, (start, stop) in bounds.items()}
        scenes = file.scenes_bounding_rectangle_no_pyramid
        self._boxes = [_Box(scene, box.x, box.y, box.w, box.h) for scene, box in sorted(scenes.items())]
        if not scenes and lengths["X"] > 0:  # older files have a picture, but no scenes
            self._boxes = [_Box(None, bounds["X"][0], bounds["Y"][0], lengths["X"], lengths["Y"])]
        others = [name for name, length in lengths.items() if name not in "TCZYXB" and length > 1]
        self._stack = {name: lengths[name] for name in [*others, *"TCZ"]}
        channels = range(min(lengths["C"], _MOST_CHANNELS))
        self._colour = any(file.get_channel_pixel_type(channel).startswith("Bgr") for channel in channels)

    @property
    def count(self) -> int:
        """How many scenes there are."""
        return len(self._boxes)

    def name(self, number: int) -> str:
        """Return the name that a scene was given, empty if it has none."""
        described = ElementTree.fromstring(self._file.raw_metadata)
        scene = described.find(f".//S/Scenes/Scene[@Index='{self._boxes[number].scene}']")
        return "" if scene is None else scene.get("Name", "")

    def levels(self, number: int) -> int:
        """Return how often a scene is halved before it is small, and once more."""
        shorter = min(self._boxes[number].height, self._boxes[number].width)
        return 1 + max(0, int(math.log2(max(shorter, 1) / _SMALL_PX)))

    def sizes(self, number: int, level: int = 0) -> dict[str, int]:
        """Return the size of each axis of a scene."""
        box = self._boxes[number]
        return self._stack | {"Y": box.height >> level, "X": box.width >> level} | ({"S": 3} if self._colour else {})

    def sizes_um(self, number: int, level: int) -> Sizes:  # all scenes have one
        """Return how large a pixel is."""
        described = ElementTree.fromstring(self._file.raw_metadata)
        path = ".//Scaling/Items/Distance[@Id='{}']/Value"
        sizes = {axis: micrometres(described.findtext(path.format(axis)), "m") for axis in "ZYX"}
        return {axis: size if size is None or axis == "Z" else size * 2**level for axis, size in sizes.items()}

    def read(self, number: int, level: int, at: Mapping[str, int], inside: Sequence[Any]) -> AnyArray:
        """Decode the tiles that a region of a plane lies in."""
        box, sizes = self._boxes[number], self.sizes(number, level)
        (y0, y1, _), (x0, x1, _) = inside[0].indices(sizes["Y"]), inside[1].indices(sizes["X"])
        x, y, width, height = (side << level for side in (x0, y0, x1 - x0, y1 - y0))
        region = box.x + x, box.y + y, width, height
        pixels = np.asarray(self._file.read(roi=region, plane=dict(at), scene=box.scene, zoom=0.5**level))
        if not self._colour:
            return pixels[..., 0]
        bgr = pixels if pixels.shape[-1] == 3 else pixels.repeat(3, axis=-1)  # of gray beside a channel in colour
        return bgr[..., ::-1][..., inside[2]]


# ---- ND2 and LIF ------------------------------------------------------------------------------------------------


class _Bioio:
    """The scenes of a file that a reader of bioio opens.

    Parameters
    ----------
    module : module
        With the `Reader`.
    path : str
    """

    def __init__(self, module: Any, path: str) -> None:
        self._chunked = module.__name__ == "bioio_lif"  # it reads the whole file for a plane, but not for a chunk
        self._reader = module.Reader(path, **({"chunk_dims": ["Y", "X"]} if self._chunked else {}))
        self._names = [str(name) for name in self._reader.scenes]

    @property
    def count(self) -> int:
        """How many scenes there are."""
        return len(self._names)

    def name(self, number: int) -> str:
        """Return the name of a scene."""
        return self._names[number]

    def levels(self, number: int) -> int:  # these files have no pyramids
        """Return 1."""
        return 1

    def sizes(self, number: int, level: int = 0) -> dict[str, int]:
        """Return the size of each axis of a scene."""
        self._reader.set_scene(number)
        sizes = dict(zip(str(self._reader.dims.order), map(int, self._reader.shape), strict=True))
        stack = [name for name in sizes if name not in _PLANE]
        return {name: sizes[name] for name in (*stack, *_PLANE) if name in sizes}

    def sizes_um(self, number: int, level: int) -> Sizes:
        """Return how large a pixel is."""
        self._reader.set_scene(number)
        sizes = self._reader.physical_pixel_sizes
        return {axis: micrometres(getattr(sizes, axis), "um") for axis in "ZYX"}

    def read(self, number: int, level: int, at: Mapping[str, int], inside: Sequence[Any]) -> AnyArray:
        """Decode a plane, and return what is asked for of it."""
        self._reader.set_scene(number)
        order = "YXS"[: len(inside)]
        if not self._chunked:
            plane = np.asarray(self._reader.get_image_data(order, **at))
            return np.asarray(plane[tuple(inside)])
        lazy = self._reader.xarray_dask_data
        wanted = {**at, **dict(zip(order, inside, strict=True))}
        chunk = lazy.data[tuple(wanted[name] for name in lazy.dims)]
        return np.asarray(chunk.compute(scheduler="synchronous"))


# ---- packages and errors ----------------------------------------------------------------------------------------


def _module(path: str, kind: Kind) -> Any:
    package, name = _READERS[kind]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(
            f"{path} is a {_MAKERS[kind]} {kind} file: those need a package that is not installed",
            expected=package,
            actual=str(error),
            remedy=f"pip install 'fastsam-plugins[microscopes]', or convert it to {TO_OME}",
        ) from error


@contextmanager
def _errors_named(path: str, kind: Kind) -> Iterator[None]:
    """Raise what the libraries raise about a file, each in its own way, as errors of this project."""
    package, _ = _READERS[kind]
    try:
        yield
    except (FastSAMError, MemoryError):
        raise
    except Exception as error:
        raise ImageReadError(
            f"{path} cannot be read as {kind}: it is damaged, incomplete, or unknown to {package}",
            expected=f"a complete file that {package} reads",
            actual=f"{type(error).__name__}: {error}",
            remedy=f"copy it again; if that does not help, convert it to {TO_OME}",
        ) from error
