"""Read Zarr stores, above all OME-Zarr (https://ngff.openmicroscopy.org): only the chunks that are asked for."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsam_core._image_planes import Source, describe_image, infer_axes, pick_level, pick_series
from fastsam_core._pixel_size import size_facts, sizes_in_zarr
from fastsam_core.errors import (
    FastSAMError,
    ImageContentError,
    ImageReadError,
    MissingDependencyError,
    UnsupportedImageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["ZIP_SUFFIXES", "Blocks", "axes_named", "images_listed", "is_zarr", "open_zarr", "without_parts"]

ZIP_SUFFIXES = (".ozx", ".zarr.zip")
"""How stores in one file are called: OME-Zarr's own suffix, and the usual one."""

_BLOCK_BYTES = 2**29
"""Planes that share chunks are kept together up to this size; larger ones are decoded anew for each plane."""

_ZIP = b"PK\x03\x04"
_MULTISCALE = frozenset(("multiscales", "bioformats2raw.layout"))
_MARKS = ("zarr.json", ".zgroup", ".zarray")
_OLD_AXES = "TCZYX"
"""The axes of OME-Zarr up to version 0.2, which does not name them."""

_SYNONYMS = {"height": "y", "row": "y", "width": "x", "column": "x", "col": "x", "depth": "z", "band": "channel"}
"""What axes are called elsewhere; names are compared in small letters."""


def is_zarr(path: str | os.PathLike[str]) -> bool:
    """Tell whether a folder or a ZIP file is a Zarr store, by the file that describes it."""
    if not os.path.isfile(path):
        return any(os.path.isfile(os.path.join(path, mark)) for mark in _MARKS)
    try:
        with open(path, "rb") as stream:
            if stream.read(len(_ZIP)) != _ZIP:
                return False
        with zipfile.ZipFile(path) as archive:
            return not set(_MARKS).isdisjoint(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def images_listed(path: Path) -> list[Path]:
    """Return the images that a plate or a well of OME-Zarr lists, in its order, and of all else the path itself."""
    described = _described_in(path)
    try:
        if "plate" in described:
            wells = [path / well["path"] for well in described["plate"]["wells"]]
            return [image for well in wells for image in images_listed(well)] or [path]
        if "well" in described:
            return [path / image["path"] for image in described["well"]["images"]] or [path]
    except (KeyError, TypeError):  # reading it says what is wrong
        pass
    return [path]


def without_parts(paths: Sequence[Path]) -> list[Path]:
    """Leave out what lies in an image of OME-Zarr, as its levels and labels do, and groups of other stores alone."""
    images = {path for path in paths if not _MULTISCALE.isdisjoint(_described_in(path))}
    kept = [path for path in paths if images.isdisjoint(path.parents)]
    groups = {parent for path in kept for parent in path.parents} - images
    return [path for path in kept if path not in groups]


def _described_in(folder: Path) -> Mapping[str, Any]:
    """Return what OME says of a group in a folder, without Zarr; nothing where there is none."""
    for mark in ("zarr.json", ".zattrs"):
        try:
            document = json.loads((folder / mark).read_bytes())
            attributes = document.get("attributes", {}) if mark == "zarr.json" else document
            return dict(attributes.get("ome", attributes))
        except (AttributeError, OSError, TypeError, ValueError):
            continue
    return {}


@contextmanager
def open_zarr(path: str, level: int = 0, series: int = 0) -> Iterator[Source]:
    """Open an array, or a level of an image of an OME-Zarr store, by default the largest of the first.

    Raises
    ------
    ImageReadError
        The store is damaged, or a group without an image.
    UnsupportedImageError
        It is a plate, which holds many images.
    MissingDependencyError
        Zarr is not installed.
    """
    try:
        import zarr
    except ImportError as error:
        raise MissingDependencyError(
            "Zarr stores need a package that is not installed",
            expected="zarr",
            actual=str(error),
            remedy="pip install 'fastsam-plugins[zarr]'",
        ) from error
    with ExitStack() as opened:
        store: Any = path
        if os.path.isfile(path):
            store = opened.enter_context(closing(zarr.storage.ZipStore(path, mode="r")))
        yield _source_in(store, path, level, series)


def _source_in(store: Any, path: str, level: int, series: int) -> Source:
    import zarr

    try:
        node: Any = zarr.open(store, mode="r")
        if isinstance(node, zarr.Array):
            pick_level([node], level, path)
            pick_series(1, series, path)
            axes = axes_named(node) or _guessed(node.shape)
            return Source(Blocks(node), axes, facts={"format": "Zarr"}, regions=True)
        image, multiscale, among = _image(node, path, series)
        levels = multiscale["datasets"]
        array: Any = image[pick_level(levels, level, path)["path"]]
        facts = {"format": "OME-Zarr", **among, "levels": len(levels), "level": level}
        axes = _axes(multiscale, array)
        if level:
            full = dict(zip(axes, image[levels[0]["path"]].shape, strict=True))
            facts["full_hw"] = [full["Y"], full["X"]]
        facts |= size_facts(sizes_in_zarr(multiscale, level))
        return Source(Blocks(array), axes, facts=facts, regions=True)
    except FastSAMError:
        raise
    except (AttributeError, IndexError, KeyError, OSError, TypeError, ValueError) as error:
        raise ImageReadError(
            f"{path} is no image that Zarr and OME-Zarr describe",
            expected="a Zarr array, or a group with 'multiscales'",
            actual=f"{type(error).__name__}: {error}",
            remedy="name the array inside, e.g. image.zarr/0",
        ) from error


class Blocks:
    """An array whose chunks may hold several planes: what was decoded with the last plane is kept for the next ones.

    Parameters
    ----------
    array : zarr.Array or alike
        With ``shape``, ``chunks`` and ``dtype``.
    """

    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape = tuple(int(n) for n in array.shape)
        self._kept: tuple[tuple[int | slice, ...], NDArray[Any]] | None = None

    def __getitem__(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        wider: list[int | slice] = []
        inside: list[int | slice] = []
        values = 1
        for at, length, depth in zip(key, self.shape, self._array.chunks, strict=True):
            if isinstance(at, slice):
                wider.append(at)
                inside.append(slice(None))
                values *= len(range(length)[at])
            elif depth > 1:
                first = at // depth * depth
                wider.append(slice(first, min(first + depth, length)))
                inside.append(at - first)
                values *= depth
            else:
                wider.append(at)
        block = tuple(wider)
        if block == key or values * self._array.dtype.itemsize > _BLOCK_BYTES:
            return np.asarray(self._array[key])
        if self._kept is None or self._kept[0] != block:
            self._kept = None  # not two of them at a time
            self._kept = block, np.asarray(self._array[block])
        return np.asarray(self._kept[1][tuple(inside)])


def _image(group: Any, path: str, series: int) -> tuple[Any, Mapping[str, Any], dict[str, object]]:
    """Return the group of an image, what describes its levels, and which of how many images it is.

    bioformats2raw lists or numbers groups of one image each; a group itself may describe several.
    """
    attributes = _ome(group)
    if "plate" in attributes or "well" in attributes:
        raise UnsupportedImageError(
            f"{path} holds the images of a plate",
            expected="one image",
            actual="plate" if "plate" in attributes else "well",
            remedy="name one of them, e.g. plate.zarr/A/1/0; the command line takes all of a plate that is a folder",
        )
    if "multiscales" not in attributes and "bioformats2raw.layout" in attributes:
        listed = dict(group["OME"].attrs) if "OME" in group else {}
        numbered = sorted(filter(str.isdigit, group.group_keys()), key=int)
        names = list(listed.get("ome", listed).get("series", ())) or numbered or ["0"]

        def image(number: int) -> tuple[Any, Mapping[str, Any]]:
            return group[names[number]], _ome(group[names[number]])["multiscales"][0]

        count = len(names)
    else:

        def image(number: int) -> tuple[Any, Mapping[str, Any]]:
            return group, attributes["multiscales"][number]

        count = len(attributes["multiscales"])
    number = pick_series(count, series, path, lambda at: _described(*image(at)))
    return *image(number), {"series": number, "images": count}


def _described(group: Any, multiscale: Mapping[str, Any]) -> str:
    array = group[multiscale["datasets"][0]["path"]]
    return describe_image(str(multiscale.get("name") or group.basename), _axes(multiscale, array), array.shape)


def _ome(group: Any) -> Mapping[str, Any]:
    """Return what OME says of a group: under 'ome' from version 0.5 on."""
    attributes: dict[str, Any] = dict(group.attrs)
    described: Mapping[str, Any] = attributes.get("ome", attributes)
    return described


def _axes(multiscale: Mapping[str, Any], array: Any) -> str:
    """Return a letter for each axis; those that OME does not name count planes."""
    given: Sequence[Any] = multiscale.get("axes") or _OLD_AXES[-array.ndim :].lower()
    return _letters([axis["name"] if isinstance(axis, Mapping) else axis for axis in given])


def axes_named(array: Any) -> str | None:
    """Return the axes of an array of Zarr or xarray if all have names, Y and X among them.

    In Zarr, xarray keeps the names in an attribute.
    """
    names = getattr(getattr(array, "metadata", None), "dimension_names", None) or getattr(array, "dims", None)
    attributes = getattr(array, "attrs", None)
    if not names and isinstance(attributes, Mapping):
        names = attributes.get("_ARRAY_DIMENSIONS")
    names = names or ()
    if len(names) != len(array.shape) or not all(isinstance(name, str) and name for name in names):
        return None
    if not {"y", "x"} <= {_SYNONYMS.get(name.lower(), name.lower()) for name in names}:
        return None
    return _letters(names)


def _guessed(shape: tuple[int, ...]) -> str:
    """Return axes as for an array in memory; where they are ambiguous, as for files that do not tell."""
    try:
        return infer_axes(shape, channels_chosen=False)
    except ImageContentError:
        return "Q" * len(shape)


def _letters(names: Sequence[str]) -> str:
    """Return one letter for each name, other ones where two begin alike."""
    letters = ""
    for name in names:
        known = _SYNONYMS.get(str(name).lower(), str(name))
        wanted = [known[:1].upper(), *"QRUVW"]
        letters += next((letter for letter in wanted if letter.isalpha() and letter not in letters), "?")
    return letters
