"""Masks to and from COCO annotations, polygons and files."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from fastsam_core import _runs
from fastsam_core._checks import as_size
from fastsam_core._files import DAMAGED, as_path, atomic_path, to_json
from fastsam_core.errors import ImageNotFoundError, InvalidMasksError, OutputError
from fastsam_core.masks import Masks

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from numpy.typing import NDArray

_M = TypeVar("_M", bound=Masks)
_FORMAT = "fastsam-masks/1"
_FARTHEST_PX = 1e6
"""Polygons may reach beyond their image, as they do on tiles of a larger one, but not as far as this."""

# ---- COCO -------------------------------------------------------------------------------------------------------


def to_rle(masks: Masks) -> list[dict[str, Any]]:
    """Encode each mask; see :meth:`Masks.to_rle`."""
    from pycocotools import mask as coco

    height, width = masks.image_hw
    out: list[dict[str, Any]] = []
    for i in range(len(masks)):
        columns = _runs.transpose(masks.runs[masks.offsets[i] : masks.offsets[i + 1]])
        counts = _runs.rle_counts(columns, height, width)
        rle = coco.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
        out.append({"size": [height, width], "counts": rle["counts"].decode("ascii")})
    return out


def to_coco(masks: Masks, image_id: int, category_id: int, first_id: int) -> list[dict[str, Any]]:
    """Describe each mask as an annotation; see :meth:`Masks.to_coco`."""
    out: list[dict[str, Any]] = []
    columns = {key: column.tolist() for key, column in masks.fields.items()}
    for i, rle in enumerate(to_rle(masks)):
        x0, y0, x1, y1 = masks.extents_xyxy[i].tolist()
        annotation = {
            "id": first_id + i,
            "image_id": image_id,
            "category_id": category_id,
            "segmentation": rle,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": int(masks.areas_px[i]),
            "iscrowd": 0,
            "score": float(masks.scores[i]),
        }
        if columns:
            annotation["attributes"] = {key: column[i] for key, column in columns.items()}
        out.append(annotation)
    return out


def _counts(segmentation: object, image_hw: tuple[int, int]) -> NDArray[np.int64]:
    """Return the plain RLE counts of one COCO segmentation: compressed or plain RLE, or polygons."""
    height, width = image_hw
    if not isinstance(segmentation, Mapping):
        from pycocotools import mask as coco

        _check_polygons(segmentation, image_hw)
        counts = coco.merge(coco.frPyObjects(segmentation, height, width))["counts"]
    else:
        counts = segmentation["counts"]
    if isinstance(counts, list):
        plain = np.asarray(counts, np.int64)
    else:
        text = counts.encode("ascii") if isinstance(counts, str) else bytes(counts)
        plain = _runs.counts_of_string(np.frombuffer(text, np.uint8))
    if plain.sum() != height * width or np.any(plain < 0):
        raise InvalidMasksError(
            "RLE counts do not fill the image", expected=f"a sum of {height * width}", actual=str(plain.sum())
        )
    return plain


def _check_polygons(polygons: object, image_hw: tuple[int, int]) -> None:
    """Refuse coordinates for which pycocotools, which steps along each edge, takes all memory or crashes."""
    given: Any = polygons
    numbers = np.concatenate([np.asarray(ring, np.float64).ravel() for ring in given]) if len(given) else np.empty(0)
    if not (np.abs(numbers) <= _FARTHEST_PX).all():  # NaN is not
        raise InvalidMasksError(
            "A polygon is not in the image",
            expected=f"coordinates in pixels of an image of {image_hw[0]} x {image_hw[1]}",
            actual=f"from {numbers.min():.4g} to {numbers.max():.4g}",
        )


def _size_of(annotation: Mapping[str, Any]) -> tuple[int, int] | None:
    segmentation = annotation.get("segmentation", annotation)
    size = segmentation.get("size") if isinstance(segmentation, Mapping) else None
    return None if size is None else as_size(size)


def _annotations(given: object) -> list[Mapping[str, Any]]:
    """Return a list of mappings, or say what else came."""
    if not isinstance(given, Iterable) or isinstance(given, str | bytes | Mapping):
        raise InvalidMasksError("Not a list of annotations", expected="mappings", actual=type(given).__name__)
    listed = list(given)
    for index, annotation in enumerate(listed):
        if not isinstance(annotation, Mapping):
            raise InvalidMasksError(
                f"Annotation {index} is none", expected="a mapping with a segmentation", actual=repr(annotation)
            )
    return listed


def from_coco(cls: type[_M], annotations: Sequence[Mapping[str, Any]], image_hw: tuple[int, int] | None) -> _M:
    """Read annotations of one image; see :meth:`Masks.from_coco`."""
    annotations = _annotations(annotations)
    sizes = {size for size in map(_size_of, annotations) if size is not None}
    if image_hw is not None:
        sizes.add(as_size(image_hw))
    if len(sizes) != 1:
        raise InvalidMasksError(
            "The image size of the annotations is not clear",
            expected="one size, from the RLE or given as image_hw",
            actual=str(sorted(sizes)) if sizes else "none",
            remedy="pass image_hw=(height, width) and annotations of one image only",
        )
    hw = sizes.pop()
    parts: list[NDArray[np.int32]] = []
    for index, annotation in enumerate(annotations):
        try:
            counts = _counts(annotation.get("segmentation", annotation), hw)
            parts.append(_runs.transpose(_runs.columns_of_counts(counts, hw[0])))
        except (TypeError, ValueError, LookupError, RuntimeError) as error:
            raise InvalidMasksError(f"Annotation {index} has no readable segmentation", actual=str(error)) from error
    runs, offsets = _runs.joined(parts)
    boxes = _runs.extents(runs, offsets).astype(np.float32)
    return cls(hw, boxes, _scores(annotations), runs, offsets, _fields(annotations))


def _scores(annotations: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
    """Return the scores, 1 where there is none."""
    given = [annotation.get("score") for annotation in annotations]
    try:
        return np.array([1.0 if score is None else float(score) for score in given], np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidMasksError("A score is no number", expected="numbers", actual=str(error)) from error


def _fields(annotations: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[Any]]:
    """Return the attributes that all annotations have, as columns."""
    attributes = [annotation.get("attributes") or {} for annotation in annotations]
    names = set.intersection(*map(set, attributes)) if attributes else set()
    try:
        return {name: _column([one[name] for one in attributes]) for name in sorted(names)}
    except (TypeError, ValueError, LookupError) as error:
        raise InvalidMasksError(
            "The attributes of the annotations do not make columns", expected="mappings alike", actual=str(error)
        ) from error


def _column(values: list[Any]) -> NDArray[Any]:
    """Return values as an array; among numbers, null is NaN."""
    column = np.array(values)
    kinds = {type(value) for value in column.flat} if column.dtype.hasobject else set()
    return column.astype(np.float64) if kinds & {int, float} and kinds <= {int, float, type(None)} else column


# ---- polygons ---------------------------------------------------------------------------------------------------


def to_polygons(masks: Masks, tolerance_px: float) -> list[list[NDArray[np.float64]]]:
    """Trace each mask; see :meth:`Masks.to_polygons`."""
    from skimage.measure import approximate_polygon, find_contours

    out: list[list[NDArray[np.float64]]] = []
    for i, crop in enumerate(masks.crops()):
        corner = masks.extents_xyxy[i, 1::-1] - 0.5  # centre of the padded crop's first pixel, (y, x)
        rings = find_contours(np.pad(crop, 1).astype(np.float32), 0.5) if crop.size else []
        if tolerance_px > 0:
            rings = [approximate_polygon(ring, tolerance_px) for ring in rings]
        out.append([np.asarray(ring, np.float64) + corner for ring in rings])
    return out


# ---- files ------------------------------------------------------------------------------------------------------


def save(masks: Masks, path: str | os.PathLike[str]) -> Path:
    """Write to ``.npz`` or ``.json``; see :meth:`Masks.save`."""
    path = as_path(path)
    if path.suffix not in (".npz", ".json"):
        raise OutputError(
            "Unknown file type for masks",
            expected="a name ending in .npz or .json",
            actual=path.name,
            remedy="fastsam_core.outputs and fastsam_core.outlines write label maps, tables and outlines",
        )
    with atomic_path(path) as temporary:
        try:
            (_save_npz if path.suffix == ".npz" else _save_json)(masks, temporary)
        except TypeError as error:
            raise InvalidMasksError(
                f"Fields or metadata of the masks cannot be written to {path}",
                expected="numbers and texts, of which .json also takes None and mixed ones",
                actual=str(error),
            ) from error
    return path


def _save_npz(masks: Masks, path: Path) -> None:
    mixed = [key for key, column in masks.fields.items() if column.dtype.hasobject]
    if mixed:  # NumPy would pickle them, and pickles are not read
        raise TypeError(f"field {mixed[0]!r} of Python objects")
    arrays: dict[str, Any] = {f"field_{key}": column for key, column in masks.fields.items()}
    arrays |= {name: getattr(masks, name) for name in ("image_hw", "boxes_xyxy", "scores", "runs", "offsets")}
    arrays |= {"format": _FORMAT, "metadata": json.dumps(dict(masks.metadata), default=_plain)}
    np.savez_compressed(path, **arrays)


def _save_json(masks: Masks, path: Path) -> None:
    annotations = to_coco(masks, 1, 1, 1)
    for annotation, box in zip(annotations, masks.boxes_xyxy, strict=True):
        annotation["detector_box_xyxy"] = box.tolist()
    document = {
        "info": {
            "format": _FORMAT,
            "metadata": dict(masks.metadata),
            "fields": {key: (column.dtype.str, column.shape[1:]) for key, column in masks.fields.items()},
        },
        "images": [{"id": 1, "height": masks.image_hw[0], "width": masks.image_hw[1]}],
        "categories": [{"id": 1, "name": "object"}],
        "annotations": annotations,
    }
    path.write_text(to_json(document, infinite=True, default=_plain), encoding="utf-8")


def _plain(value: object) -> object:
    """Turn NumPy scalars and arrays into what JSON knows."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {str(value)[:40]}")


def load(cls: type[_M], path: str | os.PathLike[str]) -> _M:
    """Read ``.npz`` or ``.json``; see :meth:`Masks.load`."""
    path = as_path(path)
    try:
        return _load_json(cls, path) if path.suffix == ".json" else _load_npz(cls, path)
    except FileNotFoundError as error:
        raise ImageNotFoundError(
            f"There is no file {path}", expected="a file written by Masks.save", remedy="check the spelling"
        ) from error
    except DAMAGED as error:
        raise InvalidMasksError(
            f"{path} does not hold masks", expected="a file written by Masks.save", actual=str(error)
        ) from error


def _load_npz(cls: type[_M], path: Path) -> _M:
    if not zipfile.is_zipfile(path):  # what NumPy says of it is about pickles
        raise zipfile.BadZipFile(f"{path.stat().st_size} bytes that are no .npz file")
    # NumPy leaves a file that it opened itself open where it is damaged
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        fields = {key.removeprefix("field_"): file[key] for key in file.files if key.startswith("field_")}
        metadata = json.loads(str(file["metadata"]))
        height, width = file["image_hw"].tolist()
        return cls((height, width), file["boxes_xyxy"], file["scores"], file["runs"], file["offsets"], fields, metadata)


def _of_dtype(column: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return numbers in the dtype that they were saved from, if it still holds them."""
    if dtype.hasobject and column.dtype.kind == "f":
        return np.where(np.isnan(column), np.array(None), column.astype(object))
    if dtype.kind == "f" and column.dtype.kind in "OU":  # NaN is null, and infinities are texts
        with suppress(TypeError, ValueError):
            return column.astype(dtype)
    if {column.dtype.kind, dtype.kind} <= {"i", "u"} or column.dtype.kind == dtype.kind == "f":
        cast = column.astype(dtype)
        return cast if np.array_equal(cast, column, equal_nan=True) else column
    return column


def _load_json(cls: type[_M], path: Path) -> _M:
    document = json.loads(path.read_text(encoding="utf-8"))
    images = document["images"]
    if len(images) != 1:
        raise InvalidMasksError("The file describes several images", expected="one", actual=str(len(images)))
    masks = from_coco(cls, document["annotations"], (images[0]["height"], images[0]["width"]))
    boxes = [a.get("detector_box_xyxy") for a in document["annotations"]]
    info = document.get("info", {})
    fields = dict(masks.fields)
    for name, (dtype, shape) in info.get("fields", {}).items():
        if not len(masks):
            fields[name] = np.empty((0, *shape), dtype)
        elif name in fields:
            fields[name] = _of_dtype(fields[name], np.dtype(dtype))
    return cls(
        masks.image_hw,
        np.array(boxes, np.float32) if boxes and None not in boxes else masks.boxes_xyxy,
        np.where([a.get("score", 1) is None for a in document["annotations"]], np.nan, masks.scores),
        masks.runs,
        masks.offsets,
        fields,
        info.get("metadata", {}),
    )
