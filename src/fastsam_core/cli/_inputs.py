"""From what the user typed to the list of image files."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fastsam_core._image_zarr import ZIP_SUFFIXES, images_listed, is_zarr, without_parts
from fastsam_core.cli._origins import named_results
from fastsam_core.errors import FastSAMError, ImageReadError, InvalidParameterError
from fastsam_core.images import IMAGE_SUFFIXES, is_image_path, open_planes
from fastsam_core.outputs import SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["ImageIn", "expand_paths", "images_in_files"]


@dataclass(frozen=True, slots=True)
class ImageIn:
    """An image of a file; ``last`` is the highest number of those of the file that are wanted."""

    path: Path
    series: int = 0
    last: int = 0

    @property
    def ending(self) -> str:
        """What tells its results from those of the file's other images."""
        return f"_s{self.series:0{len(str(self.last))}}" if self.last else ""


def images_in_files(paths: Iterable[Path], series: int | Literal["all"], **reading: Any) -> list[ImageIn]:
    """Return the chosen image of each file, or all of them; what cannot be opened is reported later with the others.

    Parameters
    ----------
    paths : iterable of Path
    series : int or "all"
    **reading : dict
        Keywords of `open_planes`.
    """
    if series != "all":
        return [ImageIn(path, series) for path in paths]
    found: list[ImageIn] = []
    for path in paths:
        try:
            with open_planes(path, **reading) as planes:
                numbers = list(planes.images)
        except FastSAMError:
            numbers = [0]
        found += [ImageIn(path, number, numbers[-1]) for number in numbers]
    return found


def expand_paths(typed: Sequence[str], *, recursive: bool, out: Path) -> list[Path]:
    """Turn files, folders and glob patterns into image files, in order and each once.

    A folder gives the images in it (with ``recursive``, in all folders below), sorted by name; hidden files, the
    output folder and files that an earlier run wrote, there or elsewhere, are left out. A file is taken as it is,
    whatever its suffix; if it does not exist, that is reported later with the other images. A Zarr store counts as a
    file, a plate or well of OME-Zarr as the images that it lists; patterns find no parts of images.

    Parameters
    ----------
    typed : sequence of str
        What the user typed.
    recursive : bool
        Also look into sub-folders.
    out : Path
        The folder that results go to.

    Raises
    ------
    InvalidParameterError
        If a folder or pattern holds no image, or a path is empty.
    ImageReadError
        If a folder cannot be listed.
    """
    out = Path(os.path.abspath(out))
    named_in = cache(named_results)
    found: dict[str, Path] = {}
    for text in typed:
        if not text:
            raise InvalidParameterError("A path is empty", expected="a file, folder or pattern", remedy="'.' is here")
        path = Path(text)
        if os.path.isdir(path) and not is_zarr(path):  # names too long are none
            batch = [image for image in _images_in(path, recursive, out) if not _is_written(image, out, named_in)]
        elif os.path.lexists(path) or not glob.has_magic(text):
            batch = [path]
        else:
            matches = [Path(match) for match in sorted(_matches(text))]
            batch = [match for match in matches if _is_image(match) and not _is_written(match, out, named_in)]
            batch = without_parts(batch)
        if not batch:
            raise InvalidParameterError(
                f"No images in {text}",
                expected="Zarr stores, or files ending in " + ", ".join(sorted(IMAGE_SUFFIXES)),
                remedy="check the path, or add --recursive to look into sub-folders",
            )
        for image in itertools.chain.from_iterable(map(images_listed, batch)):
            found.setdefault(os.path.abspath(image), image)
    return list(found.values())


def _matches(pattern: str) -> Iterator[str]:
    """List what fits a pattern; unlike that of `glob`, ``**`` goes through no links, which may lead back."""
    parts = Path(pattern).parts
    if "**" not in parts:
        yield from glob.iglob(pattern)
        return
    place = parts.index("**")
    for top in glob.iglob(os.path.join(*parts[:place])) if place else [os.curdir]:
        if place == len(parts) - 1:
            yield top
        for folder, below, _ in os.walk(top):
            below[:] = [name for name in below if not name.startswith(".")]
            yield from _matches(os.path.join(glob.escape(folder), *(parts[place + 1 :] or "*")))


def _is_image(path: Path) -> bool:
    return is_zarr(path) if path.is_dir() or path.name.endswith(ZIP_SUFFIXES) else is_image_path(path)


def _is_written(path: Path, out: Path, named_in: Callable[[str], frozenset[str]]) -> bool:
    ending = next((ending for ending in SUFFIXES.values() if path.name.endswith(ending)), None)
    if ending is None:
        return False
    folder = os.path.abspath(path.parent)
    return folder == str(out) or path.name.removesuffix(ending) in named_in(folder)


def _images_in(folder: Path, recursive: bool, out: Path) -> Iterator[Path]:
    folders: list[Path] = []
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise ImageReadError(f"Cannot list the folder {folder}", actual=error.strerror or str(error)) from error
    for path in entries:
        if _is_image(path):
            yield path
        elif recursive and path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
            folders.append(path)
    for sub in folders:
        if os.path.abspath(sub) != str(out):
            yield from _images_in(sub, recursive, out)
