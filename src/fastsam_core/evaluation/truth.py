"""Annotated images, whatever file format they come in, one image in memory at a time."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from fastsam_core._defaults import OVERLAP_PX
from fastsam_core._files import as_path
from fastsam_core.drawings import DRAWING_SUFFIXES, masks_of_drawings, read_drawings
from fastsam_core.errors import AnnotationError, FastSAMError, InvalidParameterError
from fastsam_core.masks import Masks

if TYPE_CHECKING:
    import os
    from collections.abc import Generator, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from fastsam_core.model import FastSAM

__all__ = [
    "ENDINGS",
    "LABELME_REMEDY",
    "LABEL_SUFFIXES",
    "LabelFolder",
    "Truth",
    "TruthSet",
    "choose_images",
    "evenly",
    "is_labelme",
    "iter_predictions",
    "open_truth",
    "pairs_beside",
    "read_annotated",
    "read_label_map",
]

LABEL_SUFFIXES: Final = (".png", ".tif", ".tiff", *DRAWING_SUFFIXES)
ENDINGS: Final = ("_cp_masks", "_masks", "_labels", "_RoiSet", "_outlines")
"""What follows an image's name in those of annotations beside it: as Cellpose and `fastsam segment` write them."""
LABELME_REMEDY: Final = "make a COCO file of LabelMe's, with its labelme2coco.py, and name that"
_IMAGE_ENDING: Final = "_img"
"""What Cellpose's data sets put behind the names of images."""
_BINARY = (1, 255, 65_535)
"""What programs write for "object" in a binary mask."""
_LEAST_PART = 0.1
"""Parts of a mask below this share of the largest one are crumbs."""


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The annotated objects of one image.

    Parameters
    ----------
    masks : Masks
    boxes_xywh : ndarray of shape (N, 4), float64
        Boxes as annotated, pixels.
    areas_px : ndarray of shape (N,), float64
        Areas as annotated: what sizes are judged by.
    crowd : ndarray of shape (N,), bool
        Regions that stand for many objects.
    """

    masks: Masks
    boxes_xywh: NDArray[np.float64]
    areas_px: NDArray[np.float64]
    crowd: NDArray[np.bool_]

    def __len__(self) -> int:
        """Return the number of objects, crowds included."""
        return len(self.crowd)

    @classmethod
    def of_masks(cls, masks: Masks) -> Truth:
        """Take boxes and areas from the masks; nothing is a crowd."""
        boxes = masks.extents_xyxy.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        return cls(masks, boxes, masks.areas_px.astype(np.float64), np.zeros(len(masks), bool))


class TruthSet(Protocol):
    """A set of annotated images."""

    @property
    def images(self) -> Sequence[Path]:
        """The image files, in a fixed order."""
        ...

    def truth(self, index: int, image_hw: tuple[int, int] | None = None) -> Truth:
        """Read the objects of one image; raises AnnotationError if they do not fit ``image_hw``."""
        ...


class LabelFolder:
    """Images with label maps or outlines: ``images/<stem>.*`` and ``masks/<stem>.*``; see `read_annotated`.

    Parameters
    ----------
    folder : path
        Holds ``images`` and ``masks``, or images with their annotations beside them; see `pairs_beside`.

    Raises
    ------
    InvalidParameterError
        If ``folder`` is no path.
    AnnotationError
        If a folder is missing or empty, if an image has no label map or the other way round, or if two files of a
        folder differ in their suffix alone.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        from fastsam_core.images import is_image_path

        folder = as_path(folder)
        if not any((folder / name).is_dir() for name in ("images", "masks")) and (beside := pairs_beside(folder)):
            self._pairs = beside
            return
        for name in ("images", "masks"):
            if not (folder / name).is_dir():
                raise AnnotationError(
                    f"There is no folder {name} in {folder}",
                    expected="images/ and masks/<stem>.png, .tif, .zip or .geojson, <stem>_masks.* beside images, or "
                    "<stem>/images/ and <stem>/masks/",
                    remedy="name the folder that holds both",
                )
        images = _by_stem(path for path in (folder / "images").iterdir() if is_image_path(path))
        visible = (path for path in (folder / "masks").iterdir() if not path.name.startswith("."))
        labels = _by_stem(path for path in visible if path.suffix.lower() in LABEL_SUFFIXES)
        lonely = sorted(images.keys() ^ labels.keys())
        if lonely or not images:
            has = "no images at all" if not images else f"{lonely[0]} has {_what(lonely[0], images, labels)}"
            raise AnnotationError(
                f"Images and label maps of {folder} do not belong together",
                expected="one file masks/<stem>.png, .tif, .zip or .geojson for each image",
                actual=f"{has}; {len(lonely)} in all" if lonely else has,
                remedy="give each label map the name of its image, without additions such as _mask",
            )
        self._pairs = [(path, labels[stem]) for stem, path in images.items()]

    @property
    def images(self) -> list[Path]:
        """The images by name."""
        return [image for image, _ in self._pairs]

    def truth(self, index: int, image_hw: tuple[int, int] | None = None) -> Truth:
        """Read one label map, or what was drawn on one image."""
        from fastsam_core.images import read_image

        image, path = self._pairs[index]
        sizeless = path.is_dir() or path.suffix.lower() in DRAWING_SUFFIXES
        masks = read_annotated(path, read_image(image).image_hw if image_hw is None and sizeless else image_hw)
        if image_hw is not None and masks.image_hw != image_hw:
            raise AnnotationError(
                f"The label map {path} has another size than its image",
                expected=f"{image_hw[0]} x {image_hw[1]}",
                actual=f"{masks.image_hw[0]} x {masks.image_hw[1]}",
            )
        return Truth.of_masks(masks)


def pairs_beside(folder: Path) -> list[tuple[Path, Path]]:
    """List the images of a folder that have an annotation beside them, with it.

    That is a label map ``<stem>_masks.*`` or ``<stem>_cp_masks.*``, as Cellpose writes them, ``<stem>_labels.*``, or
    outlines, ``<stem>_RoiSet.zip`` or ``<stem>_outlines.geojson``. The image is ``<stem>.*`` or ``<stem>_img.*``.
    Where an image has a folder of its own, ``<stem>/images/<stem>.*``, as in the Data Science Bowl 2018, that is the
    folder ``<stem>/masks``, with a file for each object.

    Raises
    ------
    AnnotationError
        If an image has two of them, or one of them has two images, or there are none but Cellpose's own ``_seg.npy`` or
        LabelMe's files.
    """
    from fastsam_core.images import is_image_path

    visible = sorted(path for path in folder.glob("*") if not path.name.startswith("."))
    files = [path for path in visible if path.is_file()]
    annotations: dict[str, Path] = {}
    for path in files:
        ending = next((ending for ending in ENDINGS if path.stem.endswith(ending)), None)
        if ending is None or path.suffix.lower() not in LABEL_SUFFIXES:
            continue
        if (other := annotations.setdefault(path.stem.removesuffix(ending), path)) != path:
            raise AnnotationError(
                f"Two files of {folder} annotate one image",
                expected="one",
                actual=f"{other.name} and {path.name}",
                remedy="take one of them out of the folder",
            )
    taken = set(annotations.values())
    images = [path for path in files if path not in taken and is_image_path(path)]
    for own in visible:
        if (own / "masks").is_dir() and (inside := [p for p in (own / "images").glob("*") if p.stem == own.name]):
            annotations.setdefault(own.name, own / "masks")
            images += sorted(path for path in inside if is_image_path(path))
    by_stem: dict[str, list[Path]] = {}
    for path in images:
        by_stem.setdefault(path.stem, []).append(path)
    pairs: list[tuple[Path, Path]] = []
    for stem, annotation in annotations.items():
        named = by_stem.get(stem) or by_stem.get(stem + _IMAGE_ENDING) or []
        if len(named) > 1:
            raise AnnotationError(
                f"Two images of {folder} have the name of one annotation, {annotation.name}",
                expected="one",
                actual=f"{named[0].name} and {named[1].name}",
                remedy="take one of them out of the folder",
            )
        pairs += [(image, annotation) for image in named]
    if not pairs and (pickles := [path.name for path in files if path.name.endswith("_seg.npy")]):
        raise AnnotationError(
            f"{folder} has annotations as files of Cellpose that are not read: they are pickles, which can run code",
            expected=f"NAME{ENDINGS[0]}.png or .tif beside the images",
            actual=pickles[0] + (f"; {len(pickles)} such files" if len(pickles) > 1 else ""),
            remedy="in Cellpose: File > Save masks as PNG/tif (Ctrl+N), for each image; or cellpose.io.save_masks",
        )
    beside = (path for path in files if not pairs and path.suffix.lower() == ".json" and path.stem in by_stem)
    if (first := next(beside, None)) is not None and is_labelme(_json_of(first)):
        raise AnnotationError(
            f"{folder} has annotations as files of LabelMe, which are not read",
            expected=f"a COCO file, or NAME{ENDINGS[0]}.png or .tif beside the images",
            actual=first.name,
            remedy=LABELME_REMEDY,
        )
    return pairs


def is_labelme(document: object) -> bool:
    """Tell whether JSON is what LabelMe saves for an image."""
    return isinstance(document, dict) and {"shapes", "imagePath"} <= document.keys()


def _json_of(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(paths):
        if (other := files.setdefault(path.stem, path)) != path:
            raise AnnotationError(
                f"Two files of {path.parent} have one name",
                expected="names that differ in more than the suffix",
                actual=f"{other.name} and {path.name}",
                remedy="rename one of them, and its label map",
            )
    return files


def _what(stem: str, images: dict[str, Path], labels: dict[str, Path]) -> str:
    return "no label map" if stem in images else "no image" if stem in labels else "neither"


def read_annotated(path: Path, image_hw: tuple[int, int] | None) -> Masks:
    """Read the objects of an image: a label map (PNG, TIFF), outlines of QuPath or ImageJ, or a folder of masks.

    Parameters
    ----------
    path : Path
    image_hw : tuple of int or None
        Size of the image, pixels. A label map has a size of its own: whether they are equal is for the caller to see.
        None will do for label maps alone.

    Raises
    ------
    AnnotationError
        If a file cannot be read or is none of these, or masks of a folder are of another size.
    """
    if image_hw is not None and path.is_dir():
        return _masks_of_files(path, image_hw)
    if image_hw is None or path.suffix.lower() not in DRAWING_SUFFIXES:
        return Masks.from_label_map(read_label_map(path))
    try:
        return masks_of_drawings(read_drawings(path), image_hw)
    except AnnotationError as error:
        known = error.problem if str(path) in error.problem else f"{path}: {error.problem}"
        raise AnnotationError(known, expected=error.expected, actual=error.actual, remedy=error.remedy) from error


def _masks_of_files(folder: Path, image_hw: tuple[int, int]) -> Masks:
    """Read a folder of masks, one object a file, which may overlap."""
    from fastsam_core.images import is_image_path

    parts = [Masks.empty(image_hw)]
    for path in sorted(filter(is_image_path, folder.iterdir())):
        labels = _read_numbers(path)
        inside = labels > 0
        values = np.unique(labels[inside])
        if len(values) > 1 or labels.shape != image_hw:
            raise AnnotationError(
                f"{path} is no mask of one object of its image",
                expected=f"one value beside 0, {image_hw[0]} x {image_hw[1]}",
                actual=f"{len(values)} values, {labels.shape[0]} x {labels.shape[1]}",
                remedy="save a PNG or TIFF file without smooth edges for each object, or a label map NAME_masks.png",
            )
        if len(values):
            parts.append(Masks.from_dense(inside))
    return Masks.concatenate(parts)


def read_label_map(path: Path) -> NDArray[np.integer]:
    """Read a label map, PNG or TIFF, shape (H, W); whole numbers may be stored as floats.

    Raises
    ------
    AnnotationError
        If it cannot be read, is none, is a binary mask of several objects, has numbers that mark pixels to be ignored,
        or has more pixels than are read.
    """
    labels = _read_numbers(path)
    _check_none_ignored(path, labels)
    _check_told_apart(path, labels)
    return labels.astype(np.int64) if labels.dtype == bool else labels


def _read_numbers(path: Path) -> NDArray[Any]:
    from fastsam_core._image_files import DAMAGED_IMAGES, open_picture

    try:
        with path.open("rb") as stream:
            picture = open_picture(stream, f"The label map {path}")
            if picture is not None:
                labels = np.asarray(picture)
        if picture is None:
            labels = _tiff_labels(path)
    except FastSAMError as error:
        words = {"expected": error.expected, "actual": error.actual, "remedy": error.remedy}
        raise AnnotationError(error.problem, **words) from error
    except DAMAGED_IMAGES as error:
        raise AnnotationError(
            f"The label map {path} cannot be read",
            expected="a complete PNG or TIFF file",
            actual=str(error) or type(error).__name__,
            remedy="copy or save the file again",
        ) from error
    if np.issubdtype(labels.dtype, np.floating) and np.isfinite(labels).all() and (labels == np.rint(labels)).all():
        labels = labels.astype(np.int64)
    if labels.ndim == 3 and 1 in labels.shape:  # a stack of one plane, or one channel
        labels = labels.squeeze(labels.shape.index(1))
    if labels.ndim != 2 or not (np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool):
        if labels.ndim == 2:
            remedy = "number the objects: probabilities do not, nor label maps that were resized with interpolation"
        elif labels.ndim == 3 and labels.shape[2] in (2, 3, 4):
            remedy = "save it with one channel: colours do not number objects"
        else:
            remedy = "save each plane of a stack as a file of its own, as its image"
        raise AnnotationError(
            f"{path} is no label map",
            expected="one channel of whole numbers: 0 background, 1 … N objects",
            actual=f"{labels.dtype} of shape {labels.shape}",
            remedy=remedy,
        )
    return labels


def _tiff_labels(path: Path) -> NDArray[Any]:
    """Read the first image of a TIFF file; Pillow decodes what tifffile needs imagecodecs for, such as LZW."""
    import tifffile
    from PIL.TiffImagePlugin import TiffImageFile

    from fastsam_core._image_files import check_annotated

    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        check_annotated(f"The label map {path}", series.shape)
        try:
            return np.asarray(series.asarray())
        except (ImportError, NotImplementedError, ValueError):
            if len(series.pages) > 1:
                raise
    with TiffImageFile(path) as picture:
        return np.asarray(picture)


def _check_none_ignored(path: Path, labels: NDArray[Any]) -> None:
    """Refuse numbers below 0, and the highest of 8 or 16 bits far above all others: pixels of no known object."""
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    is_highest = labels.dtype in (np.uint8, np.uint16) and high == np.iinfo(labels.dtype).max
    beside = int(labels[labels < high].max(initial=0)) if is_highest else 0
    if low < 0 or 0 < beside < high // 4:
        raise AnnotationError(
            f"{path} has numbers that may mark pixels to be ignored, which is not done here",
            expected="0 background, 1 … N objects",
            actual=f"{low}" if low < 0 else f"{high} beside 1 to {beside}",
            remedy="give such pixels 0, or another number if they are an object; where much is not annotated: "
            "fastsam data convert --coverage partial",
        )


def _check_told_apart(path: Path, labels: NDArray[Any]) -> None:
    """Refuse a binary mask of several objects; that of one object will do, also in two parts where it may be id 1."""
    import cv2

    value = int(labels.max(initial=0))
    if value not in _BINARY or bool(((labels > 0) & (labels != value)).any()):
        return
    _, _, stats, _ = cv2.connectedComponentsWithStats((labels > 0).astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    parts = int((areas >= _LEAST_PART * areas.max()).sum())
    if parts > (2 if value == 1 and labels.dtype != bool else 1):
        raise AnnotationError(
            f"{path} is a binary mask, which does not tell its objects apart",
            expected="0 background, 1 … N objects",
            actual=f"{value} alone, in {parts} parts",
            remedy="number the objects, by skimage.measure.label where none touch; a single object of several parts "
            "may have any number but 1 and 255",
        )


def open_truth(folder: str | os.PathLike[str]) -> TruthSet:
    """Open a folder of annotated images: ``images/`` with ``masks/``, or with a COCO ``annotations.json``.

    Raises
    ------
    AnnotationError
        If it holds neither, or what it holds does not fit together.
    """
    folder = as_path(folder)
    if (folder / "masks").is_dir() or (not (folder / "images").is_dir() and pairs_beside(folder)):
        return LabelFolder(folder)
    if (folder / "annotations.json").is_file():
        from fastsam_core.evaluation.coco_data import CocoData

        return CocoData(folder / "annotations.json", folder / "images")
    raise AnnotationError(
        f"{folder} holds no annotated images",
        expected="images/ and masks/, images/ and annotations.json, images and NAME_masks.* beside them, or "
        "NAME/images/ and NAME/masks/",
        remedy="name the folder that holds both",
    )


def choose_images(truths: TruthSet, *, limit: int | None = None, only: Iterable[str] | None = None) -> list[int]:
    """Choose images to evaluate.

    Parameters
    ----------
    truths : TruthSet
    limit : int, optional
        Take as many as this, spread evenly over the set.
    only : iterable of str, optional
        Names or stems of the images to take.

    Raises
    ------
    InvalidParameterError
        If a name is not in the set, or nothing is left.
    """
    images = truths.images
    chosen = list(range(len(images)))
    if only is not None:
        places: dict[str, list[int]] = {}
        for index, path in enumerate(images):
            for name in (path.name, path.stem):
                places.setdefault(name, []).append(index)
        names = list(only)
        unknown = [name for name in names if name not in places]
        if unknown:
            raise InvalidParameterError(f"There is no image {unknown[0]} in this data set")
        chosen = sorted({index for name in names for index in places[name]})
    chosen = [chosen[place] for place in evenly(len(chosen), limit)]
    if not chosen:
        raise InvalidParameterError("No image is left to evaluate", expected="at least one")
    return chosen


def evenly(count: int, limit: int | None) -> list[int]:
    """Return ``limit`` places of ``count``, spread evenly; all of them without a limit or with fewer than it."""
    if limit is None or limit >= count:
        return list(range(count))
    return [int((2 * i + 1) * count / (2 * limit)) for i in range(limit)]


def iter_predictions(
    truths: TruthSet,
    model: FastSAM,
    chosen: Sequence[int],
    *,
    conf: float | None = None,
    iou: float | None = None,
    max_det: int = 300,
    imgsz: int | Sequence[int] | None = None,
    tile_px: int | None = None,
    overlap_px: int = OVERLAP_PX,
) -> Generator[tuple[int, Masks, Truth], None, None]:
    """Segment images and read what is annotated in them, one image at a time.

    Parameters
    ----------
    truths, model
    chosen : sequence of int
        Which images.
    conf, iou, max_det, imgsz, tile_px, overlap_px
        As in `fastsam_core.FastSAM.segment`.

    Yields
    ------
    index : int
        Which image.
    masks : Masks
        What the model found.
    truth : Truth

    Raises
    ------
    ImageReadError
        If an image cannot be read: figures without it would not be those of the data set.
    AnnotationError
        If its annotation cannot be read or is of another size.
    """
    from fastsam_core.pipeline import iter_segment

    images = truths.images
    sources = [images[index] for index in chosen]
    how: dict[str, Any] = {"conf": conf, "iou": iou, "max_det": max_det, "imgsz": imgsz}
    with closing(iter_segment(sources, model, tile_px=tile_px, overlap_px=overlap_px, **how)) as steps:
        for step in steps:
            if step.masks is None:
                raise step.error or AnnotationError(f"{step.source} was not segmented")
            index = chosen[step.index]
            yield index, step.masks, truths.truth(index, step.masks.image_hw)
