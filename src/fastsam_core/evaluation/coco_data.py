"""COCO and LVIS annotation files: one JSON with all images, masks decoded one image at a time."""

from __future__ import annotations

import json
from collections import Counter
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsam_core._files import as_path
from fastsam_core.errors import AnnotationError, InvalidMasksError
from fastsam_core.evaluation.truth import LABELME_REMEDY, Truth, is_labelme
from fastsam_core.masks import Masks

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["CocoData", "category_of", "find_file", "masks_of_entries", "stem_of"]


class CocoData:
    """The images and objects of a COCO or LVIS file, all classes taken for one.

    Parameters
    ----------
    path : Path
        The JSON file. LVIS names images by ``coco_url`` instead of ``file_name``.
    folder : Path, optional
        Where the images are; with sub-folders as in the file, or without. Not needed when only results are scored.

    Attributes
    ----------
    class_names : dict of int to str
        Name of each class by its id.

    Raises
    ------
    AnnotationError
        If the file is damaged, an image occurs twice, or an annotation belongs to no image; names file and entry.

    Notes
    -----
    As in ``pycocotools``: crowds are ignored, images without objects count, and sizes are judged by ``area``.
    """

    def __init__(self, path: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None) -> None:
        self.path = path = as_path(path)
        document = _read(path)
        self._images: list[dict[str, Any]] = sorted(document["images"], key=lambda image: image["id"])
        self._places = {image["id"]: place for place, image in enumerate(self._images)}
        if len(self._places) < len(self._images):
            ids = [image["id"] for image in self._images]
            twice = next(a for a, b in pairwise(ids) if a == b)
            raise AnnotationError(f"Image id {twice} occurs twice in {path}", expected="one entry for each image")
        self.class_names: dict[int, str] = {
            entry["id"]: str(entry.get("name", entry["id"])) for entry in document["categories"] if "id" in entry
        }
        self._objects: list[list[dict[str, Any]]] = [[] for _ in self._images]
        for annotation in document["annotations"]:
            place = self._places.get(annotation.get("image_id"))
            if place is None:
                raise AnnotationError(
                    f"{_name(annotation)} of {path} belongs to no image",
                    expected="the id of an entry in images",
                    actual=f"image_id {annotation.get('image_id')}",
                )
            self._objects[place].append(annotation)
        self._folder = None if folder is None else as_path(folder)

    @property
    def image_ids(self) -> list[int | str]:
        """Ids of the images, ascending."""
        return [image["id"] for image in self._images]

    @property
    def ids_by_stem(self) -> dict[str, int | str]:
        """Ids of the images by the name of their file without its suffix, where no other has it."""
        stems = [stem_of(_file_name(image)) for image in self._images]
        times = Counter(stems)
        return {stem: id_ for stem, id_ in zip(stems, self.image_ids, strict=True) if stem and times[stem] == 1}

    @cached_property
    def images(self) -> list[Path]:
        """The image files by ascending id; where they are is looked up once.

        Raises
        ------
        AnnotationError
            If an image has no name, or is a plane of a stack, as `fastsam_core.outputs.write_coco` says of it.
        """
        folder = self._folder or Path()
        paths = []
        for image in self._images:
            if isinstance(image.get("plane"), dict):
                raise AnnotationError(
                    f"Image {image['id']} of {self.path} is a plane of a stack",
                    expected="images in files of their own",
                    actual=" ".join(f"{name}={place}" for name, place in image["plane"].items()),
                    remedy="save each plane as a file, and give that name to its entry in place of plane",
                )
            name = _file_name(image)
            if not name:
                raise AnnotationError(f"Image {image['id']} of {self.path} has no file_name and no coco_url")
            paths.append(find_file(folder, name))
        return paths

    @property
    def crowd_count(self) -> int:
        """Number of annotations that stand for many objects."""
        return sum(bool(annotation.get("iscrowd", 0)) for objects in self._objects for annotation in objects)

    @property
    def annotation_count(self) -> int:
        """Number of annotations, crowds included."""
        return sum(map(len, self._objects))

    def image_hw(self, index: int) -> tuple[int, int]:
        """Return the height and width that the file gives for an image."""
        image = self._images[index]
        try:
            return int(image["height"]), int(image["width"])
        except (KeyError, TypeError, ValueError) as error:
            raise AnnotationError(f"Image {image['id']} of {self.path} has no height and width") from error

    def boxes(self, index: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Return boxes (N, 4) as x, y, width, height, areas (N,) and crowd flags (N,) of an image, without masks.

        Where an annotation has no box, that of its mask is taken; where it has no area, that of its box.
        """
        objects = self._objects[index]
        boxes = np.array([self._box(annotation, index) for annotation in objects], np.float64).reshape(-1, 4)
        areas = [self._area(annotation, box) for annotation, box in zip(objects, boxes, strict=True)]
        crowd = np.array([bool(annotation.get("iscrowd", 0)) for annotation in objects], bool)
        return boxes, np.array(areas, np.float64), crowd

    def categories(self, index: int) -> list[int]:
        """Return the class of each object of an image.

        Raises
        ------
        AnnotationError
            If one has none.
        """
        return [category_of(annotation, self.path) for annotation in self._objects[index]]

    def truth(self, index: int, image_hw: tuple[int, int] | None = None) -> Truth:
        """Decode the objects of an image.

        Raises
        ------
        AnnotationError
            If a segmentation cannot be read or belongs to an image of another size; names file and entry.
        """
        masks = masks_of_entries(self._objects[index], self._checked_hw(index, image_hw), self.path)
        return Truth(masks, *self.boxes(index))

    def instances(self, index: int, image_hw: tuple[int, int] | None = None) -> Masks:
        """Decode the objects of an image but for crowds; parameters and errors as `truth`, boxes are not looked at."""
        single = [annotation for annotation in self._objects[index] if not annotation.get("iscrowd", 0)]
        return masks_of_entries(single, self._checked_hw(index, image_hw), self.path)

    def _checked_hw(self, index: int, image_hw: tuple[int, int] | None) -> tuple[int, int]:
        hw = self.image_hw(index)
        if image_hw is not None and image_hw != hw:
            raise AnnotationError(
                f"Image {self._images[index]['id']} of {self.path} has another size than its file",
                expected=f"{image_hw[0]} x {image_hw[1]}",
                actual=f"{hw[0]} x {hw[1]} in the annotations",
            )
        return hw

    def _area(self, annotation: dict[str, Any], box: NDArray[np.float64]) -> float:
        given = annotation.get("area")
        try:
            area = float(box[2] * box[3]) if given is None else float(given)
        except (TypeError, ValueError):
            area = np.nan
        if not np.isfinite(area):
            raise AnnotationError(
                f"{_name(annotation)} of {self.path} has no proper area", expected="a number", actual=str(given)
            )
        return area

    def _box(self, annotation: dict[str, Any], index: int) -> NDArray[np.float64]:
        if annotation.get("bbox") is None and annotation.get("segmentation"):
            mask = masks_of_entries([annotation], self.image_hw(index), self.path)
            annotation = {**annotation, "bbox": Truth.of_masks(mask).boxes_xywh[0]}
        try:
            box = np.array(annotation["bbox"], np.float64)
        except (KeyError, TypeError, ValueError):
            box = np.empty(0)
        if box.shape != (4,) or not np.isfinite(box).all() or np.any(box[2:] < 0):
            raise AnnotationError(
                f"{_name(annotation)} of {self.path} has no proper box",
                expected="bbox: [x, y, width, height]",
                actual=str(annotation.get("bbox")),
            )
        return box


def _file_name(image: Mapping[str, Any]) -> str:
    return image.get("file_name") or "/".join(str(image.get("coco_url", "")).split("/")[-2:])


def stem_of(name: str) -> str:
    """Return the name of a file without its folders and suffix."""
    return PureWindowsPath(name).stem  # which takes both slashes


def find_file(folder: Path, name: str) -> Path:
    """Return where the file that an annotation names is: below the folder as named, or straight in it."""
    windows = PureWindowsPath(name)  # which takes both slashes
    places = [folder / name, folder / windows.as_posix(), folder / windows.name]
    return next((path for path in places if path.exists()), places[-1])


def masks_of_entries(entries: Sequence[dict[str, Any]], image_hw: tuple[int, int], path: Path) -> Masks:
    """Decode the segmentations (polygons, compressed or plain RLE, also mixed) of entries of one image.

    Raises
    ------
    AnnotationError
        If one cannot be read or is of another size; names file and entry.
    """
    parts = []
    for entry in entries:
        segmentation = entry.get("segmentation")
        try:
            if not segmentation:
                raise InvalidMasksError("There is no segmentation")
            if isinstance(segmentation, list) and not all(map(_is_ring, segmentation)):
                raise InvalidMasksError("A polygon needs three points or more, as one list of x and y")
            parts.append(Masks.from_coco([{"segmentation": segmentation}], image_hw))
        except InvalidMasksError as error:
            raise AnnotationError(
                f"{_name(entry)} of {path} has no readable segmentation",
                expected=f"polygons or RLE of an image of {image_hw[0]} x {image_hw[1]}",
                actual=str(error),
                remedy="outline the object, or take the entry out of the file",
            ) from error
    return Masks.concatenate(parts) if parts else Masks.empty(image_hw)


def category_of(entry: Mapping[str, Any], path: Path) -> int:
    """Return the class of an annotation or result; raises AnnotationError if it has none."""
    category = entry.get("category_id")
    if not isinstance(category, int):
        raise AnnotationError(
            f"{_name(entry)} of {path} has no class", expected="category_id, a whole number", actual=str(category)
        )
    return category


def _is_ring(ring: object) -> bool:
    if not isinstance(ring, list) or len(ring) < 6 or len(ring) % 2:
        return False
    return all(isinstance(value, int | float) for value in ring)


def _name(entry: Mapping[str, Any]) -> str:
    return f"Annotation {entry['id']}" if "id" in entry else f"An entry for image {entry.get('image_id')}"


def _read(path: Path) -> dict[str, Any]:
    document: Any = None
    try:
        document = json.loads(path.read_bytes())
        if not isinstance(document, dict):
            raise TypeError("a list, as results are" if isinstance(document, list) else type(document).__name__)
        document["categories"] = document.get("categories") or []
        if lacking := [name for name in ("images", "annotations") if name not in document]:
            raise TypeError(f"JSON without {' and '.join(lacking)}")
        parts = [document[name] for name in ("images", "annotations", "categories")]
        if not all(isinstance(part, list) for part in parts):
            raise TypeError("images, annotations or categories are no list")
        for entry in chain(*parts):
            if not isinstance(entry, dict):
                raise TypeError(f"an entry is no object: {str(entry)[:40]}")
            if any(isinstance(entry.get(name), list | dict) for name in ("id", "image_id")):
                raise TypeError(f"an id is no number: {str(entry)[:40]}")
        if any(image.get("id") is None for image in document["images"]):
            raise TypeError("an image has no id")
        if not all(isinstance(image.get("file_name"), str | None) for image in document["images"]):
            raise TypeError("the file_name of an image is no text")
        if len({isinstance(image["id"], int | float) for image in document["images"]}) > 1:
            raise TypeError("some ids of images are numbers, others are not")
    except OSError as error:
        raise AnnotationError(
            f"{path} cannot be read", actual=error.strerror or str(error), remedy="check the path and its permissions"
        ) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise AnnotationError(
            f"{path} is no COCO annotation file",
            expected="JSON with images and annotations",
            actual="a file of LabelMe" if is_labelme(document) else str(error),
            remedy=LABELME_REMEDY
            if is_labelme(document)
            else "name the file of the annotations, such as instances_val2017.json",
        ) from error
    return document
