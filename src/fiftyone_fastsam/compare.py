"""How far two fields agree: each label's best partner in the other field, and duplicates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsam_core.geometry import box_iou
from fiftyone_fastsam._fiftyone import import_fiftyone
from fiftyone_fastsam._target import field_type, open_target
from fiftyone_fastsam.errors import InvalidTargetError, LabelFieldError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["DUPLICATE_IOU", "Comparison", "compare_fields"]

DUPLICATE_IOU = 0.9
"""Two labels of one field whose boxes overlap by more are the same object."""

_BATCH = 100


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the two fields of one sample agree.

    Parameters
    ----------
    sample_id : str
    agreement : float or None
        Mean over all labels of both fields of the overlap with the best partner; None if both are empty.
    unmatched_first, unmatched_second : int
        Labels whose best partner overlaps by less than asked.
    duplicates_second : int
        Labels of the second field that repeat an earlier one.
    """

    sample_id: str
    agreement: float | None
    unmatched_first: int
    unmatched_second: int
    duplicates_second: int


def compare_fields(view: Any, first: str, second: str, *, min_iou: float = 0.5) -> Iterator[Comparison]:
    """Compare two fields of detections box by box, and write down what differs.

    The box of a mask that FastSAM made is the mask's own extent, so this tells how far masks and, say, the boxes of
    the ground truth disagree. Every label gets the attribute ``best_iou`` (overlap with the best partner), labels of
    the second field also ``duplicate``; samples get the field ``<second>_vs_<first>`` with the mean agreement, lowest
    where to look first.

    Parameters
    ----------
    view : fiftyone.Dataset or fiftyone.DatasetView
        Images.
    first, second : str
        Fields of ``Detections``.
    min_iou : float
        Below this overlap labels count as unmatched.

    Raises
    ------
    InvalidTargetError, LabelFieldError
        Not images, or not fields of detections; raised by the call itself.
    """
    fo = import_fiftyone()
    target = open_target(view, f"{second}_vs_{first}")
    if target.is_video:
        raise InvalidTargetError("Videos cannot be compared yet", expected="images")
    for name in (first, second):
        if field_type(target, name) != "Detections" or first == second:
            raise LabelFieldError("Two fields of Detections are needed", actual=f"{first!r} and {second!r}")
    known = target.dataset.get_field_schema(flat=True)
    fields: dict[str, Any] = {
        target.label_field: fo.FloatField,
        f"{first}.detections.best_iou": fo.FloatField,
        f"{second}.detections.best_iou": fo.FloatField,
        f"{second}.detections.duplicate": fo.BooleanField,
    }
    for path, kind in fields.items():
        if path not in known:
            target.dataset.add_sample_field(path, kind)
    return _compare(target.view, first, second, target.label_field, min_iou)


def _compare(view: Any, first: str, second: str, result: str, min_iou: float) -> Iterator[Comparison]:
    ids = view.values("id")
    for start in range(0, len(ids), _BATCH):
        batch = view.select(ids[start : start + _BATCH], ordered=True)
        paths = [f"{name}.detections.bounding_box" for name in (first, second)]
        found: list[Comparison] = []
        best: tuple[list[Any], list[Any]] = ([], [])
        repeated: list[Any] = []
        for id_, *stored in zip(*batch.values(["id", *paths]), strict=True):
            a, b = (_corners(boxes or []) for boxes in stored)
            iou = box_iou(a, b)
            best_a, best_b = iou.max(axis=1, initial=0), iou.max(axis=0, initial=0)
            duplicate = np.triu(box_iou(b, b) > DUPLICATE_IOU, 1).any(axis=0)
            both = np.concatenate([best_a, best_b])
            agreement = float(both.mean()) if len(both) else None
            alone_a, alone_b = (int((values < min_iou).sum()) for values in (best_a, best_b))
            found.append(Comparison(id_, agreement, alone_a, alone_b, int(duplicate.sum())))
            for column, values, boxes in zip(best, (best_a, best_b), stored, strict=True):
                column.append(None if boxes is None else values.tolist())
            repeated.append(None if stored[1] is None else duplicate.tolist())
        batch.set_values(f"{first}.detections.best_iou", best[0])
        batch.set_values(f"{second}.detections.best_iou", best[1])
        batch.set_values(f"{second}.detections.duplicate", repeated)
        batch.set_values(result, [comparison.agreement for comparison in found])
        yield from found


def _corners(boxes_xywh: list[list[float]]) -> NDArray[np.float64]:
    boxes = np.array(boxes_xywh, np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
