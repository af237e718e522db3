"""Write a source into a data set: one image in memory at a time, files whole or not at all, counted at the end."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from fastsam_core._files import as_path, atomic_path, lock, unwritable
from fastsam_core.errors import AnnotationError, FastSAMError, InvalidParameterError, OutputError
from fastsam_core.training.datasets.manifest import SPLITS, Dataset, IndexRow, SourceEntry
from fastsam_core.training.datasets.polygons import polygon_lines
from fastsam_core.training.datasets.readers import KINDS, list_items
from fastsam_core.training.datasets.records import Broken, Coverage, Record, hash_fraction

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from fractions import Fraction
    from pathlib import Path

__all__ = ["VAL_SHARE", "Progress", "convert"]

VAL_SHARE = 0.1
"""Share of the images that become validation data, by a hash of source and name."""

_LONGEST_NAME = 250
"""Bytes of an image's name, so that file systems take it with ``.json``."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Progress:
    """One image was dealt with: ``done`` of ``total``; ``broken`` says what was wrong with it, if anything."""

    done: int
    total: int
    name: str
    broken: Broken | None = None


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    kind: str,
    name: str,
    licence: str,
    images: str | os.PathLike[str] | None = None,
    coverage: Coverage | None = None,
    subset: Fraction | None = None,
    val_share: float = VAL_SHARE,
    replace: bool = False,
) -> Generator[Progress, None, SourceEntry]:
    """Add one source to the data set in ``out``.

    Parameters
    ----------
    source, images, kind, subset
        See `list_items`.
    out : Path
        Folder of the data set; made if it is missing.
    name : str
        Name of the source in the data set: letters, digits, ``.``, ``_`` and ``-``.
    licence : str
        As its maker states it; goes into the manifest.
    coverage : {"exhaustive", "dense", "partial"}, optional
        How much of what is there was annotated; that of `KINDS` by default.
    val_share : float
        Share of validation images, in [0, 1).
    replace : bool
        Whether a source of this name may be replaced.

    Yields
    ------
    Progress
        After each image. Broken ones are listed, not fatal. Until the generator ends, the data set stays as it was.

    Returns
    -------
    SourceEntry
        What was added.

    Raises
    ------
    InvalidParameterError
        If a name or share is out of range, the source is there already, or ``out`` is the folder of what is converted.
    AnnotationError
        If nothing of the kind is there, two images would have one name, or no image can be used or has an instance.
    OutputError
        If a file cannot be written (no space), or another process converts a source of this name.
    """
    source, out = as_path(source), as_path(out)
    _check_apart(out, source, source / "images" if images is None else as_path(images))
    items = list_items(kind, source, images, subset)
    _check(_opened(out), name, val_share, replace=replace)
    counts: Counter[str] = Counter()
    broken: list[Broken] = []
    digest = hashlib.sha256()
    with _staged(out, name) as staged:
        with atomic_path(staged.index_path(name)) as temporary, temporary.open("w", encoding="utf-8") as index:
            for done, item in enumerate(items, start=1):
                fault = None
                try:
                    _check_length(item.name)
                    record = item.load()
                except OutputError:
                    raise
                except (FastSAMError, OSError) as error:
                    fault = Broken(item.name, str(error))
                    broken.append(fault)
                else:
                    split = "val" if hash_fraction("split", f"{name}/{item.name}") < val_share else "train"
                    row = _write(staged, record, name, item.name, split, counts)
                    line = json.dumps(asdict(row)) + "\n"
                    digest.update(line.encode())
                    index.write(line)
                yield Progress(done, len(items), item.name, fault)
            _check_not_empty(source, counts, broken)
        entry = SourceEntry(
            name=name,
            kind=kind,
            licence=licence,
            coverage=coverage or KINDS[kind].coverage,
            subset=str(subset or 1),
            images={split: counts[f"{split} images"] for split in SPLITS},
            instances={split: counts[f"{split} instances"] for split in SPLITS},
            with_holes=counts["with holes"],
            broken=tuple(broken),
            index_sha256=digest.hexdigest(),
        )
        with _alone(out, wait=True):
            dataset = _opened(out)  # again: other sources may have been added meanwhile
            _check(dataset, name, val_share, replace=replace)
            _exchange(dataset, staged, entry)
    return entry


def _check_apart(out: Path, *folders: Path) -> None:
    if any(out.resolve() == folder.resolve() for folder in folders):
        raise InvalidParameterError(
            "The data set would lie among the files that it is made of",
            expected="a folder of its own",
            actual=str(out),
            remedy="choose another one with --out",
        )


def _check_length(name: str) -> None:
    if (length := len(os.fsencode(name))) > _LONGEST_NAME:
        raise AnnotationError(
            f"The name {name} is too long for files of the data set",
            expected=f"at most {_LONGEST_NAME} bytes, folders included",
            actual=f"{length}",
            remedy="rename the image and its annotation, or their folders",
        )


def _opened(out: Path) -> Dataset:
    return Dataset.open(out) if (out / "manifest.json").is_file() else Dataset(out)


@contextmanager
def _staged(out: Path, name: str) -> Iterator[Dataset]:
    """Give a data set of its own that is gone in the end: what is broken off leaves nothing behind."""
    made = not out.exists()
    staged = Dataset(out / f".{name}.part")
    try:
        with _alone(staged.folder):
            try:
                for left in staged.folder.glob("*"):  # by a process that was killed
                    shutil.rmtree(left, ignore_errors=True)
                yield staged
            finally:
                shutil.rmtree(staged.folder, ignore_errors=True)
    finally:
        if made:
            with suppress(OSError):  # it is not empty if all went well
                out.rmdir()


@contextmanager
def _alone(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Make a folder, and let no other process into such a block for it (but on Windows, where folders have no locks).

    Raises
    ------
    OutputError
        If the folder cannot be made, or another process is in such a block and this one is not to wait.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = None if sys.platform == "win32" else os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        if descriptor is not None and not lock(descriptor, alone=True, wait=wait):
            raise OutputError(
                f"A source of this name is being converted into {folder.parent} now",
                remedy="wait until that ends, or choose another name with --name",
            )
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _exchange(dataset: Dataset, staged: Dataset, entry: SourceEntry) -> None:
    """Put the files of a source into the data set, in place of those that a source of this name had."""
    name = entry.name
    others = {key: one for key, one in dataset.sources.items() if key != name}
    if len(others) < len(dataset.sources):
        Dataset(dataset.folder, others).save()  # should it end here, nothing is named that is not whole
    try:
        for what in ("images", "labels", "rle"):
            for split in SPLITS:
                place, new = dataset.place(what, split, name), staged.place(what, split, name)
                shutil.rmtree(place, ignore_errors=True)
                if new.exists():
                    place.parent.mkdir(parents=True, exist_ok=True)
                    new.rename(place)
        index = dataset.index_path(name)
        index.parent.mkdir(parents=True, exist_ok=True)
        staged.index_path(name).replace(index)
    except OSError as error:
        raise OutputError(
            f"The files of {name!r} cannot be put into {dataset.folder}",
            actual=error.strerror or str(error),
            remedy="close programs that use the folder, and check its permissions",
        ) from error
    Dataset(dataset.folder, {**others, name: entry}).save()


def _check(dataset: Dataset, name: str, val_share: float, *, replace: bool) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidParameterError(
            "The name of the source becomes a folder", expected="letters, digits, '.', '_', '-'", actual=repr(name)
        )
    if name == "images":  # Ultralytics looks for labels in the place of the last folder of this name
        raise InvalidParameterError(
            "A source cannot be called images: its labels would not be found",
            expected="another name",
            remedy="choose one with --name",
        )
    if not 0 <= val_share < 1:
        raise InvalidParameterError("val_share is out of range", expected="0 or more, below 1", actual=f"{val_share}")
    if name in dataset.sources and not replace:
        raise InvalidParameterError(
            f"The data set has a source {name!r} already",
            expected="a new name",
            remedy="choose another one with --name, or replace it with --replace",
        )


def _check_not_empty(source: Path, counts: Counter[str], broken: list[Broken]) -> None:
    if counts["train instances"] + counts["val instances"] > 0:
        return
    images = counts["train images"] + counts["val images"]
    raise AnnotationError(
        f"{source} gives no instances to train on",
        expected="at least one usable image with an instance",
        actual=f"{images} images without one, {len(broken)} broken"
        + (f"; the first: {broken[0].reason}" if broken else ""),
    )


def _write(dataset: Dataset, record: Record, source: str, name: str, split: str, counts: Counter[str]) -> IndexRow:
    masks = record.masks[record.masks.areas_px > 0]
    lines, holes = polygon_lines(masks)
    height, width = masks.image_hw
    image = f"{name}{record.suffix}"
    document = {
        "image": {"image_id": name, "file_name": image, "height": height, "width": width},
        "annotations": masks.to_coco(),
    }
    text = json.dumps(document).encode()
    contents = {
        dataset.place("images", split, source) / image: record.content,
        dataset.place("labels", split, source) / f"{name}.txt": "".join(f"{line}\n" for line in lines).encode(),
        dataset.place("rle", split, source) / f"{name}.json": text,
    }
    for path, content in contents.items():
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    counts[f"{split} images"] += 1
    counts[f"{split} instances"] += len(masks)
    counts["with holes"] += holes
    hashes = hashlib.sha256(record.content).hexdigest(), hashlib.sha256(text).hexdigest()
    return IndexRow(name, split, image, height, width, len(masks), *hashes)
