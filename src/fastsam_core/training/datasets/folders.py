"""Folders of images beside folders of annotations: label maps (as napari saves them), outlines, YOLO's polygons."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from fastsam_core.errors import AnnotationError, InvalidMasksError
from fastsam_core.masks import Masks
from fastsam_core.training.datasets.records import Item, Record, image_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["list_beside", "list_label_maps", "list_yolo"]

_BEYOND = 0.5
"""How far polygons of YOLO files may reach beyond the image; pixels in the place of fractions are farther."""


def list_label_maps(source: Path, images: Path | None = None) -> list[Item]:
    """List ``images/<stem>.*`` with ``masks/<stem>.*``: label maps, 0 is background, or outlines drawn on the image.

    Raises
    ------
    AnnotationError
        If a folder is missing or both are empty, or no two names are alike.
    """
    from fastsam_core.evaluation.truth import LABEL_SUFFIXES

    return _pairs(images or source / "images", source / "masks", LABEL_SUFFIXES, _load_label_map)


def list_beside(source: Path, images: Path | None = None) -> list[Item]:
    """List the images of a folder that have an annotation beside them: ``<stem>_masks.*``, …; see `pairs_beside`.

    Raises
    ------
    AnnotationError
        If there is none, or an image has two.
    """
    from fastsam_core.evaluation.truth import ENDINGS, pairs_beside

    pairs = pairs_beside(images or source)
    if not pairs:
        raise AnnotationError(
            f"{images or source} holds no image with an annotation beside it",
            expected=f"NAME.tif with one of {', '.join('NAME' + ending for ending in ENDINGS)}; or NAME/masks",
            remedy="check the path, or --kind: fastsam data convert --help lists the kinds",
        )
    return [Item(image.stem, partial(_load_label_map, [image], [label])) for image, label in pairs]


def list_yolo(source: Path, images: Path | None = None) -> list[Item]:
    """List ``images/**/<stem>.*`` with ``labels/**/<stem>.txt`` of a folder, or of the one a ``data.yaml`` is about.

    Exports that have a folder for each split (``train/images`` with ``train/labels``, ``valid/images``, …) do as well.
    All classes become one. The data's own split is not kept: splits are made by hash for all sources alike.

    Raises
    ------
    AnnotationError
        If a folder is missing or both are empty, or no two names are alike.
    """
    folder = source if source.is_dir() else _described_folder(source)
    if images is None and not (folder / "images").is_dir():
        splits = sorted(path.parent for path in folder.glob("*/labels") if (path.parent / "images").is_dir())
        if splits:
            return [
                replace(item, name=f"{split.name}__{item.name}")
                for split in splits
                for item in _pairs(split / "images", split / "labels", (".txt",), _load_yolo, any_pair=False)
            ]
    return _pairs(images or folder / "images", folder / "labels", (".txt",), _load_yolo)


def _described_folder(description: Path) -> Path:
    """Return the folder that a ``data.yaml`` names as ``path``, or its own where it names none that is here."""
    import yaml

    try:
        said = yaml.safe_load(description.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise AnnotationError(
            f"Cannot read {description}",
            expected="a folder, or a data.yaml",
            actual=str(error),
            remedy="check the path",
        ) from error
    path = said.get("path") if isinstance(said, dict) else None
    named = description.parent / str(path or "")
    return named if named.is_dir() else description.parent


def _pairs(
    images: Path,
    labels: Path,
    suffixes: tuple[str, ...],
    load: Callable[[list[Path], list[Path]], Record],
    *,
    any_pair: bool = True,
) -> list[Item]:
    """List what two folders hold, with or without the other half; with `any_pair`, one pair there has to be."""
    from fastsam_core.images import is_image_path

    for folder in (images, labels):
        if not folder.is_dir():
            raise AnnotationError(
                f"There is no folder {folder}",
                expected=f"{images.name}/ and {labels.name}/",
                remedy="name the folder that holds both, or check --kind: fastsam data convert --help lists the kinds",
            )

    def named(folder: Path, wanted: Callable[[Path], bool]) -> dict[str, list[Path]]:
        files: dict[str, list[Path]] = {}
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and wanted(path)):
            name = path.relative_to(folder)
            # macOS and Jupyter leave hidden files behind, LabelImg the names of classes among the annotations
            if not any(part.startswith(".") for part in name.parts) and name.name != "classes.txt":
                files.setdefault(name.with_suffix("").as_posix(), []).append(path)
        return files

    pictures = named(images, is_image_path)
    annotations = named(labels, lambda path: path.suffix.lower() in suffixes)
    if not pictures and not annotations:
        raise AnnotationError(
            f"{images} holds no images",
            expected="at least one image with its annotation",
            remedy="check the path: images are files such as PNG, JPEG and TIFF",
        )
    names = sorted(pictures.keys() | annotations.keys())
    if any_pair and pictures and not pictures.keys() & annotations.keys():
        first = next(iter(pictures.values()))[0].name
        others = [paths[0].name for paths in named(labels, lambda _: True).values()]
        remedy = "give each annotation the name of its image, without additions such as _mask"
        if labels.name != "masks" and any(map(is_image_path, others)):
            remedy = f"label maps belong in masks/: rename {labels.name}/"
        raise AnnotationError(
            f"No image of {images} has its annotation in {labels}",
            expected=f"files of the same names but for the suffix, which is {' or '.join(suffixes)} in {labels.name}",
            actual=f"{first} and {others[0]}" if others else f"no files in {labels}",
            remedy=remedy,
        )
    return [
        Item(name.replace("/", "__"), partial(load, pictures.get(name, []), annotations.get(name, [])))
        for name in names
    ]


def _both(images: list[Path], annotations: list[Path]) -> tuple[Path, Path]:
    for files in (images, annotations):
        if len(files) > 1:
            raise AnnotationError(
                f"Two files of {files[0].parent} have one name",
                expected="names that differ in more than the suffix",
                actual=f"{files[0].name} and {files[1].name}",
                remedy="rename one of them, or take it out of the folder",
            )
    if not images or not annotations:
        raise AnnotationError(
            f"{(images or annotations)[0].name} has no {'annotation' if images else 'image'}",
            expected="two files of one name but for the suffix",
            remedy="take it out of the folder, or add the other half: an empty one where an image shows no objects",
        )
    return images[0], annotations[0]


def _load_label_map(images: list[Path], labels: list[Path]) -> Record:
    from fastsam_core.evaluation.truth import read_annotated

    picture, path = _both(images, labels)
    return image_record(picture, picture.name, partial(read_annotated, path))


def _load_yolo(images: list[Path], labels: list[Path]) -> Record:
    picture, path = _both(images, labels)

    def masks_of(image_hw: tuple[int, int]) -> Masks:
        try:
            rows: list[NDArray[np.float64]] = []
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                if line.strip():
                    rows.append(np.array(line.split()[1:], np.float64))
                    _check_polygon(number, rows[-1])
            scale = np.array([image_hw[1], image_hw[0]])
            polygons = [{"segmentation": [(row.reshape(-1, 2) * scale).ravel().tolist()]} for row in rows]
            return Masks.from_coco(polygons, image_hw)
        except (OSError, ValueError, InvalidMasksError) as error:
            raise AnnotationError(f"{path} cannot be read as polygons", actual=str(error)) from error

    return image_record(picture, picture.name, masks_of)


def _check_polygon(line: int, numbers: NDArray[np.float64]) -> None:
    if len(numbers) == 4:  # its object has no outline, and left out it would be taught as background
        raise ValueError(f"line {line} is a box (a class and 4 numbers), not a polygon")
    if len(numbers) < 6 or len(numbers) % 2 or not np.isfinite(numbers).all():
        raise ValueError(f"line {line} is no class followed by three points or more")
    if numbers.min() < -_BEYOND or numbers.max() > 1 + _BEYOND:
        raise ValueError(f"line {line} has numbers up to {np.abs(numbers).max():g}, where 1 is the image's whole side")
