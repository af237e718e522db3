"""Masks to and from pixels: boolean images, stacks and label maps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fastsam_core import _runs
from fastsam_core._checks import as_array, described
from fastsam_core.errors import InvalidMasksError, InvalidParameterError, TooMuchMemoryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from fastsam_core.masks import Masks

__all__ = ["boolean_images", "label_dtype", "label_strips", "reduced", "runs_of_label_map", "to_dense", "to_label_map"]


def boolean_images(crops: Iterable[ArrayLike]) -> list[NDArray[np.bool_]]:
    """Return images (h, w) of booleans."""
    given: Any = crops
    images = [as_array("A crop", crop, bool) for crop in given] if isinstance(given, Iterable) else None
    if images is None or any(image.ndim != 2 for image in images):
        raise InvalidMasksError("The crops are no images", expected="arrays of shape (h, w)", actual=described(crops))
    return images


def runs_of_label_map(
    labels: ArrayLike,
) -> tuple[tuple[int, int], NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """Return the size of a label map, its ids above 0, and runs and offsets of each; see `Masks.from_label_map`."""
    array = as_array("The label map", labels)
    if array.ndim != 2 or not (np.issubdtype(array.dtype, np.integer) or array.dtype == bool):
        raise InvalidMasksError(
            "Not a label map", expected="integers of shape (H, W)", actual=f"{array.dtype} {array.shape}"
        )
    ids, dense = np.unique(array, return_inverse=True)
    background = np.searchsorted(ids, 0, side="right")
    if len(ids) and int(ids[-1]) > np.iinfo(np.int64).max:
        raise InvalidMasksError("An id of the label map is too large", expected="ids below 2**63", actual=str(ids[-1]))
    ids = ids[background:].astype(np.int64)
    dense = np.maximum(dense.reshape(array.shape).astype(np.int64) + (1 - background), 0)
    runs, offsets = _runs.runs_of_labels(np.ascontiguousarray(dense), len(ids))
    return (array.shape[0], array.shape[1]), ids, runs, offsets


def to_dense(masks: Masks, max_bytes: int) -> NDArray[np.bool_]:
    """Fill a boolean stack; see `Masks.to_dense`."""
    height, width = masks.image_hw
    needed = len(masks) * height * width
    if not isinstance(max_bytes, Real):
        raise InvalidParameterError("max_bytes is no number", expected="bytes", actual=repr(max_bytes))
    if needed > max_bytes:
        raise TooMuchMemoryError(
            f"A stack of {len(masks)} masks of {height} x {width} px is too large",
            expected=f"at most {max_bytes:,} bytes",
            actual=f"{needed:,} bytes",
            remedy="use crops(), to_label_map() or to_rle(), or raise max_bytes",
        )
    out = np.zeros((len(masks), height, width), bool)
    for index in range(len(masks)):
        _runs.fill(masks.runs[masks.offsets[index] : masks.offsets[index + 1]], 0, 0, out[index])
    return out


def label_dtype(highest: int) -> np.dtype[Any]:
    """Return the type of a label map, given its highest label: uint16, or uint32 where that is too small."""
    return np.dtype(np.uint16 if highest <= np.iinfo(np.uint16).max else np.uint32)


def label_strips(masks: Masks, rows: int) -> Iterator[NDArray[np.uint16] | NDArray[np.uint32]]:
    """Paint the label map strip by strip, of so many rows each: label i + 1 is mask i, smaller ones on top."""
    height, width = masks.image_hw
    dtype = label_dtype(len(masks))
    order = np.argsort(-masks.areas_px, kind="stable")
    top, bottom = masks.extents_xyxy[order, 1], masks.extents_xyxy[order, 3]
    for y0 in range(0, height, rows):
        y1 = min(y0 + rows, height)
        here = order[(top < y1) & (bottom > y0)]
        strip = np.zeros((y1 - y0, width), dtype)
        part = masks[here].placed((-y0, 0), strip.shape)
        _runs.paint_labels(part.runs, part.offsets, np.arange(len(here)), here + 1, strip)
        yield strip


def reduced(masks: Masks, image_hw: tuple[int, int]) -> Masks:
    """Return the masks in a smaller image: each of its pixels has the value at its centre; some masks may be empty."""
    (height, width), (rows, columns) = masks.image_hw, image_hw
    at_y = ((np.arange(rows) + 0.5) * height / rows).astype(np.int64)
    at_x = ((np.arange(columns) + 0.5) * width / columns).astype(np.int64)
    y = np.searchsorted(at_y, masks.runs[:, 0])
    x0, x1 = (np.searchsorted(at_x, masks.runs[:, column]) for column in (1, 2))
    kept = (at_y[np.minimum(y, rows - 1)] == masks.runs[:, 0]) & (x0 < x1)
    owner = np.repeat(np.arange(len(masks)), np.diff(masks.offsets))[kept]
    y, x0, x1 = y[kept], x0[kept], x1[kept]
    touches = (owner[1:] == owner[:-1]) & (y[1:] == y[:-1]) & (x0[1:] == x1[:-1])
    first, last = np.append(True, ~touches)[: len(y)], np.append(~touches, True)[: len(y)]
    runs = np.stack([y[first], x0[first], x1[last]], axis=1).astype(masks.runs.dtype)
    offsets = np.searchsorted(owner[first], np.arange(len(masks) + 1))
    boxes = masks.boxes_xyxy * np.array([columns / width, rows / height] * 2, np.float32)
    return replace(masks, image_hw=image_hw, boxes_xyxy=boxes, runs=runs, offsets=offsets)


def to_label_map(
    masks: Masks, ids: ArrayLike | None, on_overlap: Literal["smaller", "score"]
) -> NDArray[np.uint16] | NDArray[np.uint32]:
    """Paint all masks into one label map; see `Masks.to_label_map`."""
    given = np.arange(1, len(masks) + 1) if ids is None else ids
    labels = as_array("ids", given, np.int64, InvalidParameterError).reshape(-1)
    if len(labels) != len(masks) or np.any((labels < 1) | (labels > np.iinfo(np.uint32).max)):
        raise InvalidParameterError(
            "Ids of a label map are positive, one a mask", expected=f"{len(masks)} ids in 1 … 2**32 - 1"
        )
    if on_overlap not in ("smaller", "score"):
        raise InvalidParameterError("Unknown overlap rule", expected="'smaller' or 'score'", actual=repr(on_overlap))
    keys = -masks.areas_px if on_overlap == "smaller" else masks.scores
    order = np.argsort(keys, kind="stable").astype(np.int64)
    dtype = label_dtype(int(labels.max(initial=0)))
    out = np.zeros(masks.image_hw, dtype)
    _runs.paint_labels(masks.runs, masks.offsets, order, labels.astype(np.int64), out)
    return out
