"""Read a converted data set, or a plain folder of images and annotations, into what the project's own trainer takes."""

from __future__ import annotations

import itertools
import json
import logging
import sys
from typing import TYPE_CHECKING

import numpy as np

from fastsam_core.errors import AnnotationError, ImageReadError, InvalidParameterError
from fastsam_core.evaluation.truth import pairs_beside
from fastsam_core.training.batches import LEAST_PX, Pool
from fastsam_core.training.datasets.manifest import Dataset
from fastsam_core.training.datasets.readers import KINDS, check_unpacked, list_items
from fastsam_core.training.datasets.records import BACKGROUND_WEIGHTS, Coverage, Record, hash_fraction
from fastsam_core.training.datasets.sa1b import read_sidecar
from fastsam_core.training.sources import FULL_WEIGHT, SOURCES, LabelledImage, SourceSpec, load_source, stack_crops

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from fastsam_core.masks import Masks
    from fastsam_core.training.datasets.manifest import IndexRow
    from fastsam_core.training.sources import Split

__all__ = ["LoadedSplits", "iter_held_back", "load_folder", "load_split", "pixels_of", "read_row"]

LOGGER = logging.getLogger(__name__)
LoadedSplits = dict["Split", list[Pool]]
_GRAY_SPREAD = 2
"""Colour channels of gray images differ by no more than this."""


def read_row(dataset: Dataset, source: str, row: IndexRow) -> Record:
    """Read one image of a data set with its run lengths.

    Raises
    ------
    AnnotationError
        If a file is missing or does not fit its image.
    """
    image = dataset.place("images", row.split, source) / row.file
    path = dataset.place("rle", row.split, source) / f"{row.name}.json"
    try:
        content, document = image.read_bytes(), json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise AnnotationError(
            f"{row.name} of {source} cannot be read", actual=str(error), remedy="convert the source again"
        ) from error
    return Record(content, image.suffix, read_sidecar(document, path, (row.height, row.width)))


def pixels_of(record: Record, name: str) -> NDArray[np.uint8]:
    """Decode the image of a record, RGB; raises ImageReadError with its name if it cannot be."""
    import cv2

    bgr = cv2.imdecode(np.frombuffer(record.content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if bgr is None:
        raise ImageReadError(f"{name} cannot be decoded")
    return np.ascontiguousarray(bgr[..., ::-1], np.uint8)


def load_split(folder: Path, split: Split, *, max_side_px: int = 768, most: int | None = None) -> list[Pool]:
    """Decode one split of a converted data set into memory, one pool a source.

    Sources are sampled in proportion to the square root of their number of images.

    Parameters
    ----------
    folder : Path
        Made by `fastsam_core.training.datasets.convert`.
    split : {"train", "val"}
        Which images.
    max_side_px : int
        Larger images are reduced to this.
    most : int, optional
        Images of each source at most.

    Raises
    ------
    AnnotationError
        If the folder is no converted data set, or the split is empty.
    """
    dataset = Dataset.open(folder)
    found = {name: _rows(dataset, name, split, max_side_px, most) for name in dataset.sources}
    if not any(sample.layers.any() for samples in found.values() for sample in samples):
        raise AnnotationError(
            f"{folder} has no instances for {split}",
            expected="at least one",
            remedy="add images to it, or convert them again with another --val",
        )
    return _pools(dataset, found)


def iter_held_back(
    folder: Path, most: int | None = None, only: Collection[str] = ()
) -> Iterator[tuple[SourceSpec, list[LabelledImage]]]:
    """Read validation images at their full size, one source at a time: a converted data set's, or the built-in model's.

    Parameters
    ----------
    folder : Path
        Made by `fastsam_core.training.datasets.convert`, or with a folder for each of
        `fastsam_core.training.sources.SOURCES`.
    most : int, optional
        Images of each source at most.
    only : collection of str
        Names of sources; all by default.

    Raises
    ------
    AnnotationError
        If a source cannot be read.
    InvalidParameterError
        If there is no source of a name.
    """
    dataset = Dataset.open(folder) if (folder / "manifest.json").is_file() else None
    names = [spec.name for spec in SOURCES] if dataset is None else list(dataset.sources)
    if unknown := set(only).difference(names):
        raise InvalidParameterError("No such source", expected=f"some of {', '.join(names)}", actual=str(unknown))
    if dataset is None:
        for spec in SOURCES:
            if not only or spec.name in only:
                yield spec, load_source(folder, spec, "val", most)
        return
    for name in names:
        if (not only or name in only) and (samples := _rows(dataset, name, "val", sys.maxsize, most)):
            yield _pool(name, samples, dataset.sources[name].coverage).spec, samples


def _rows(
    dataset: Dataset, source: str, split: Split, max_side_px: int, most: int | None = None
) -> list[LabelledImage]:
    rows = itertools.islice((row for row in dataset.rows(source) if row.split == split), most)
    coverage = dataset.sources[source].coverage
    return [_sample(read_row(dataset, source, row), source, row.name, coverage, max_side_px) for row in rows]


def _pools(dataset: Dataset, found: Mapping[str, list[LabelledImage]]) -> list[Pool]:
    return [_pool(name, samples, dataset.sources[name].coverage) for name, samples in found.items() if samples]


def load_folder(folder: Path, *, max_side_px: int = 1024, val_share: float = 0.2) -> LoadedSplits:
    """Read a user's own annotated images and split them by a hash of their names, both parts with instances.

    Parameters
    ----------
    folder : Path
        ``images/`` with ``masks/`` (label maps, outlines), with ``annotations.json`` (COCO) or with ``labels/`` (YOLO);
        another COCO file, a ``data.yaml`` of YOLO, or the folder of its splits;
        images with ``NAME_masks.*`` and the like beside them, or a folder for each (`pairs_beside`); or a converted
        data set, which has splits of its own.
        Where one of these shows no objects, as in small sets, the images are split anew.
    max_side_px : int
        Larger images are reduced to this.
    val_share : float
        Share of the images for validation; at least one with instances is, and at least one is not.

    Raises
    ------
    AnnotationError
        If fewer than two images have an instance, or an annotation cannot be read.
    """
    if (folder / "manifest.json").is_file():
        return _load_dataset(Dataset.open(folder), max_side_px, val_share)
    check_unpacked(folder)
    kind = _kind_of(folder)
    if not folder.exists():
        raise AnnotationError(f"There is no file or folder {folder}", remedy="check the path")
    if kind is None:
        raise AnnotationError(
            f"{folder} holds no annotated images",
            expected="images/ with masks/, annotations.json or labels/, images with NAME_masks.* beside them, or "
            "NAME/images/ with NAME/masks/",
            remedy="name the folder that holds both, or a COCO file itself; or make a data set: fastsam data convert",
        )
    coverage = KINDS[kind].coverage
    items = sorted(list_items(kind, folder), key=lambda item: hash_fraction("split", item.name))
    samples: list[LabelledImage] = []
    lost = objects = 0
    for item in items:
        record = item.load()
        samples.append(_sample(record, folder.name, item.name, coverage, max_side_px))
        objects += len(record.masks)
        if max(record.masks.image_hw) > max_side_px:
            lost += len(record.masks) - int((np.bincount(samples[-1].layers.ravel())[1:] >= LEAST_PX).sum())
    if lost:
        LOGGER.warning(
            "%s: %d of %d objects are too small to be learnt, below %d px, as larger images are reduced to %d px: "
            "cut these into parts, with their annotations",
            *(folder, lost, objects, LEAST_PX, max_side_px),
        )
    parts = _held_back(folder, samples, val_share)
    return {split: [_pool(folder.name, part, coverage)] for split, part in parts.items()}


def _load_dataset(dataset: Dataset, max_side_px: int, val_share: float) -> LoadedSplits:
    splits: tuple[Split, Split] = "val", "train"
    found = {split: {name: _rows(dataset, name, split, max_side_px) for name in dataset.sources} for split in splits}
    if not all(any(s.layers.any() for samples in found[split].values() for s in samples) for split in splits):
        every = [sample for parts in found.values() for samples in parts.values() for sample in samples]
        every.sort(key=lambda sample: hash_fraction("split", f"{sample.source}/{sample.stem}"))
        anew = _held_back(dataset.folder, every, val_share)
        found = {
            split: {name: [sample for sample in part if sample.source == name] for name in dataset.sources}
            for split, part in anew.items()
        }
    return {split: _pools(dataset, parts) for split, parts in found.items()}


def _held_back(folder: Path, samples: list[LabelledImage], val_share: float) -> dict[Split, list[LabelledImage]]:
    """Split images: the first ones are held back, others where either part would show no objects."""
    shown = [sample for sample in samples if sample.layers.any()]
    if len(shown) < 2:
        raise AnnotationError(
            f"{folder} is too little to train on",
            expected="two annotated images or more that show objects, one to train on and one to check",
            actual=f"{len(samples)} images, {len(shown)} with instances",
        )
    held_back = min(max(round(val_share * len(samples)), 1), len(samples) - 1)
    if not any(sample.layers.any() for sample in samples[:held_back]):  # nothing would ever be found better
        samples.sort(key=lambda sample: sample is not shown[0])
    elif not any(sample.layers.any() for sample in samples[held_back:]):
        samples.sort(key=lambda sample: sample is shown[-1])
    return {"val": samples[:held_back], "train": samples[held_back:]}


_FILES = {".json": "coco", ".yaml": "yolo", ".yml": "yolo"}
_LAYOUTS = {"labels": "masks", "coco": "annotations.json", "yolo": "labels"}


def _kind_of(source: Path) -> str | None:
    """Return which of `KINDS` a user's own annotated images are, if any."""
    if source.is_file():
        return _FILES.get(source.suffix.lower())
    kind = next((kind for kind, part in _LAYOUTS.items() if (source / part).exists()), None)
    if kind is None and pairs_beside(source):
        kind = "beside"
    return "yolo" if kind is None and any(source.glob("*/labels")) else kind


def _pool(name: str, samples: list[LabelledImage], coverage: Coverage) -> Pool:
    gray = np.mean([bool((np.ptp(sample.image[::8, ::8], axis=2) <= _GRAY_SPREAD).all()) for sample in samples])
    spec = SourceSpec(
        name,
        share=len(samples) ** 0.5,
        background_weight=BACKGROUND_WEIGHTS[coverage],
        domain="micro" if gray > 0.5 else "photo",
        partial=coverage == "partial",
    )
    return Pool(spec, samples)


def _sample(record: Record, source: str, stem: str, coverage: Coverage, max_side_px: int) -> LabelledImage:
    import cv2

    image = pixels_of(record, f"{stem} of {source}")
    scale = min(1.0, max_side_px / max(image.shape[:2]))
    size_hw = (max(round(image.shape[0] * scale), 1), max(round(image.shape[1] * scale), 1))
    if scale < 1:
        image = np.asarray(cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    layers = stack_crops(_resized_crops(record.masks, size_hw), size_hw)
    weight = np.full(size_hw, round(BACKGROUND_WEIGHTS[coverage] * FULL_WEIGHT), np.uint8)
    return LabelledImage(image, layers, weight, source, stem)


def _resized_crops(masks: Masks, size_hw: tuple[int, int]) -> Iterator[tuple[NDArray[np.bool_], int, int]]:
    """Give each mask as it is at another size of the image, with its first row and column."""
    rows, columns = (_nearest(length, new) for length, new in zip(masks.image_hw, size_hw, strict=True))
    for crop, (x0, y0, x1, y1) in zip(masks.crops(), masks.extents_xyxy.tolist(), strict=True):
        top, bottom = np.searchsorted(rows, (y0, y1)).tolist()
        left, right = np.searchsorted(columns, (x0, x1)).tolist()
        yield crop[np.ix_(rows[top:bottom] - y0, columns[left:right] - x0)], top, left


def _nearest(length: int, new: int) -> NDArray[np.intp]:
    """Return which of so many pixels each of the new ones shows, ascending, as the trainer's other resizing has it."""
    import cv2

    places = np.arange(length, dtype=np.float32)[None]  # exact up to 2^24
    shown = cv2.resize(places, (new, 1), interpolation=cv2.INTER_NEAREST_EXACT)[0]
    return np.asarray(shown, np.intp)
