"""COCO's two kinds of annotations: instances (polygons and run lengths) and panoptic PNG files."""

from __future__ import annotations

import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fastsam_core.errors import AnnotationError, FastSAMError, ImageNotFoundError, InvalidParameterError
from fastsam_core.evaluation.coco_data import CocoData, find_file
from fastsam_core.masks import Masks
from fastsam_core.outputs import unique_names
from fastsam_core.training.datasets.records import Item, Record, image_record

__all__ = ["list_instances", "list_panoptic"]

LOGGER = logging.getLogger(__name__)
_CROWD_REMEDY = "where they are single objects, as CVAT's brush masks are, set their iscrowd to 0 in the file"


def list_instances(source: Path, images: Path | None = None) -> list[Item]:
    """List the images of an annotation file, or of a folder with ``images/`` and ``annotations.json``.

    Raises
    ------
    AnnotationError
        If the file is damaged, names no image or one twice, or all it has are crowds.
    """
    path = source / "annotations.json" if source.is_dir() else source
    if path != source and not path.exists():
        raise AnnotationError(
            f"There is no annotations.json in {source}", remedy="name the COCO file itself, in place of its folder"
        )
    folder = images or _beside(path)
    data = CocoData(path, folder)
    names = _unique_stems(path, [_below(folder, file).as_posix() for file in data.images])
    if not names:
        raise AnnotationError(f"{path} names no images", expected="at least one entry in images")
    crowds, annotations = data.crowd_count, data.annotation_count
    if crowds and crowds == annotations:
        raise AnnotationError(
            f"{path} has crowds alone, which stand for many objects each",
            expected="annotations with iscrowd 0",
            actual=f"iscrowd 1 in all {crowds}",
            remedy=_CROWD_REMEDY,
        )
    if crowds:
        LOGGER.warning("%s: %d of %d annotations are crowds and left out; %s", path, crowds, annotations, _CROWD_REMEDY)
    return [Item(name, partial(_load_instances, data, index)) for index, name in enumerate(names)]


def _load_instances(data: CocoData, index: int) -> Record:
    path = _existing(data.images[index])
    return image_record(path, path.name, partial(data.instances, index))


def _below(folder: Path, file: Path) -> Path:
    """Return the path in the folder of the images: subset and splits are not to depend on where that is."""
    return file.relative_to(folder) if file.is_relative_to(folder) else file


def _beside(annotations: Path) -> Path:
    """Return where the images of an annotation file are if nobody says: in ``images/`` beside it, or with it.

    Where it is ``annotations/instances_train.json``, as of CVAT and COCO, they may be in ``images/train``, ``train`` or
    ``images`` beside that folder.
    """
    folder = annotations.parent
    places = [folder / "images"]
    if folder.name == "annotations":
        subset = annotations.stem.partition("_")[2] or annotations.stem
        places += [folder.parent / "images" / subset, folder.parent / subset, folder.parent / "images"]
    return next((place for place in places if place.is_dir()), folder)


def _existing(image: Path) -> Path:
    if not image.is_file():
        raise ImageNotFoundError(
            f"There is no image {image}", remedy="name the folder of the images: --images DIR, or images/ beside it"
        )
    return image


def list_panoptic(source: Path, images: Path | None = None) -> list[Item]:
    """List the images of a panoptic file whose PNG files are in the folder of the same name beside it.

    Raises
    ------
    AnnotationError
        If the file is damaged, or names no image or one twice.
    """
    try:
        document: dict[str, Any] = json.loads(source.read_bytes())
        files = {image["id"]: image["file_name"] for image in document["images"]}
        entries = [entry for entry in document["annotations"] if entry["image_id"] in files]
        sources = [(files[entry["image_id"]], entry["file_name"], entry["segments_info"]) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{error!r}"
        raise AnnotationError(
            f"{source} is no panoptic annotation file",
            expected="JSON with images and annotations",
            actual=str(reason),
            remedy="name the JSON file, such as panoptic_val2017.json, which lies beside the folder of its PNG files",
        ) from error
    if not sources:
        raise AnnotationError(f"{source} names no images", expected="at least one annotation")
    folder, pictures = source.with_suffix(""), images or _beside(source)
    found = [find_file(pictures, image) for image, _, _ in sources]
    names = _unique_stems(source, [_below(pictures, image).as_posix() for image in found])
    return [
        Item(name, partial(_load_panoptic, image, find_file(folder, png), segments))
        for name, image, (_, png, segments) in zip(names, found, sources, strict=True)
    ]


def _load_panoptic(image: Path, png: Path, segments: list[dict[str, Any]]) -> Record:
    def masks_of(image_hw: tuple[int, int]) -> Masks:
        from fastsam_core._image_files import open_picture

        try:
            with png.open("rb") as stream:
                picture = open_picture(stream, str(png))
                if picture is None:
                    raise ValueError("no PNG file")
                colours = np.asarray(picture.convert("RGB"), np.int64)
            wanted = [int(segment["id"]) for segment in segments if not segment.get("iscrowd", 0)]
        except FastSAMError:
            raise
        except (OSError, SyntaxError, KeyError, TypeError, ValueError) as error:
            raise AnnotationError(f"{png} cannot be read", actual=f"{error!r}") from error
        masks = Masks.from_label_map(colours @ np.array([1, 256, 65536]))
        return masks[np.isin(masks.fields["label"], wanted)]

    return image_record(_existing(image), image.name, masks_of)


def _unique_stems(source: Path, names: list[str]) -> list[str]:
    """Return file stems, with their folders where stems alone are not unique, with suffixes where neither is enough."""
    stems = [Path(name).stem for name in names]
    if len(set(stems)) < len(stems):
        stems = [Path(name).with_suffix("").as_posix().strip("./").replace("/", "__") for name in names]
    if len(set(stems)) < len(stems):
        try:
            return unique_names(names)
        except InvalidParameterError as error:
            raise AnnotationError(
                f"{source} names an image twice",
                expected="one entry for each image",
                actual=error.actual,
                remedy="join its entries; or, where names differ in their folders, keep these below --images DIR",
            ) from error
    return stems
