"""How far two fields agree: each label's best partner in the other field, and duplicates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsam_core._checks import as_number
from fastsam_core.geometry import box_iou
from fiftyone_fastsam._convert import masks_from_detections
from fiftyone_fastsam._fiftyone import import_fiftyone
from fiftyone_fastsam._retry import with_retries
from fiftyone_fastsam._target import (
    field_type,
    open_target,
    refuse_other_type,
    refuse_other_values,
    refuse_read_only,
)
from fiftyone_fastsam.errors import InvalidTargetError, LabelFieldError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from fastsam_core.masks import Masks

__all__ = ["DUPLICATE_IOU", "Comparison", "compare_fields"]

DUPLICATE_IOU = 0.9
"""Two labels of one field that overlap by more are the same object."""

_AGREEMENT = "the agreement"
_BATCH = 20
"""Samples whose masks are in memory at once."""


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
    """Compare two fields of detections label by label, and write down what differs.

    Two labels that have masks overlap as their pixels do (IoU), others as their boxes do. The box of a mask that
    FastSAM made is the mask's own extent, so boxes tell how far masks and, say, the ground truth's boxes disagree.
    Every label gets the attribute ``best_iou`` (overlap with the best partner), labels of the second field also
    ``duplicate``; samples get the field ``<second>_vs_<first>`` with the mean agreement, lowest where to look first.
    A mask whose file cannot be read counts as its box, a label without a box overlaps with nothing.

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
        Not images, not fields of detections, one of them is read-only, or a field for the agreement holds something
        else; raised by the call itself.
    InvalidParameterError
        `min_iou` is no overlap, from 0 to 1.
    """
    min_iou = as_number("min_iou", min_iou, 0, 1)
    fo = import_fiftyone()
    target = open_target(view, f"{second}_vs_{first}".replace(".", "_"))  # the fields are looked at below
    if target.is_video:
        raise InvalidTargetError("Videos cannot be compared yet", expected="images")
    for name in (first, second):
        if field_type(target, name) != "Detections" or first == second:
            raise LabelFieldError("Two fields of Detections are needed", actual=f"{first!r} and {second!r}")
    attributes = {first: {"best_iou": fo.FloatField}, second: {"best_iou": fo.FloatField, "duplicate": fo.BooleanField}}
    fields: dict[str, Any] = {target.label_field: fo.FloatField}
    known = target.dataset.get_field_schema(flat=True)
    for name, kinds in attributes.items():
        refuse_read_only(target, name)
        fields |= {f"{name}.detections.{attribute}": kind for attribute, kind in kinds.items()}
        new = {attribute: kind for attribute, kind in kinds.items() if f"{name}.detections.{attribute}" not in known}
        refuse_other_values(target, name, new, _AGREEMENT)
    for path, kind in fields.items():
        refuse_read_only(target, path)
        refuse_other_type(target, path, kind, _AGREEMENT)
    for path, kind in fields.items():
        if path not in known:
            target.dataset.add_sample_field(path, kind)
    return _compare(target.view, first, second, target.label_field, min_iou)


def _compare(view: Any, first: str, second: str, result: str, min_iou: float) -> Iterator[Comparison]:
    ids = with_retries(view.values, "id")
    for start in range(0, len(ids), _BATCH):
        batch = view.select(ids[start : start + _BATCH], ordered=True)
        yield from with_retries(_compare_batch, batch, first, second, result, min_iou)


def _compare_batch(batch: Any, first: str, second: str, result: str, min_iou: float) -> list[Comparison]:
    """Compare some samples and write down what differs, by ids: samples and labels may be deleted meanwhile."""
    found: list[Comparison] = []
    best: dict[str, list[Any]] = {first: [], second: []}
    repeated: list[Any] = []
    for sample in batch.select_fields([first, second]):
        stored = [sample[first], sample[second]]
        a, b = _shapes(sample, stored)
        iou = _overlaps(a, b)
        best_a, best_b = iou.max(axis=1, initial=0), iou.max(axis=0, initial=0)
        duplicate = np.triu(_overlaps(b, b) > DUPLICATE_IOU, 1).any(axis=0)
        both = np.concatenate([best_a, best_b])
        agreement = float(both.mean()) if len(both) else None
        alone_a, alone_b = (int((values < min_iou).sum()) for values in (best_a, best_b))
        found.append(Comparison(sample.id, agreement, alone_a, alone_b, int(duplicate.sum())))
        best[first] += _with_ids(sample, first, best_a)
        best[second] += _with_ids(sample, second, best_b)
        repeated += _with_ids(sample, second, duplicate)
    for name, values in best.items():
        batch.set_label_values(f"{name}.detections.best_iou", values)
    batch.set_label_values(f"{second}.detections.duplicate", repeated)
    batch.set_values(result, {comparison.sample_id: comparison.agreement for comparison in found}, key_field="id")
    return found


def _with_ids(sample: Any, name: str, values: Any) -> list[dict[str, Any]]:
    """Return values of a sample's labels, an array, as FiftyOne sets them."""
    labels = () if sample[name] is None else sample[name].detections
    return [
        {"sample_id": sample.id, "label_id": label.id, "value": value}
        for label, value in zip(labels, values.tolist(), strict=True)
    ]


def _shapes(sample: Any, stored: list[Any]) -> list[_Shapes]:
    """Return the boxes and masks of both fields of a sample."""
    fo = import_fiftyone()
    fields = [[] if labels is None else [_readable(detection) for detection in labels.detections] for labels in stored]
    image_hw = _image_hw(sample, [*fields[0], *fields[1]])
    return [
        _Shapes(
            np.array([detection.bounding_box for detection in detections], np.float64).reshape(-1, 4),
            None if image_hw is None else masks_from_detections(fo.Detections(detections=detections), image_hw),
        )
        for detections in fields
    ]


def _readable(detection: Any) -> Any:
    """Return a label's box, an empty one if it has none, with its mask unless that cannot be read."""
    fo = import_fiftyone()
    box = detection.bounding_box
    if box is None or len(box) != 4:
        return fo.Detection(bounding_box=[0.0, 0.0, 0.0, 0.0])
    try:
        mask = detection.get_mask()
    except OSError:
        mask = None
    return fo.Detection(bounding_box=box, mask=mask, confidence=detection.confidence)


def _image_hw(sample: Any, detections: list[Any]) -> tuple[int, int] | None:
    """Return the image's size, from its metadata or else from a mask and its box; None if there are no masks."""
    with_mask = next((d for d in detections if d.has_mask and min(d.bounding_box[2:]) > 0), None)
    if with_mask is None:
        return None
    metadata = sample.metadata
    if metadata is not None and metadata.height and metadata.width:
        return metadata.height, metadata.width
    height, width = with_mask.get_mask().shape
    return round(height / with_mask.bounding_box[3]), round(width / with_mask.bounding_box[2])


def _overlaps(a: _Shapes, b: _Shapes) -> NDArray[np.float64]:
    """Return the IoU of each pair: of the masks if both have one, else of the boxes."""
    iou = np.asarray(box_iou(a.corners(), b.corners()), np.float64)
    if a.masks is not None and b.masks is not None:
        rows, columns = np.flatnonzero(a.masks.areas_px), np.flatnonzero(b.masks.areas_px)
        iou[np.ix_(rows, columns)] = a.masks[rows].iou(b.masks[columns])
    return iou


@dataclass(frozen=True, slots=True, eq=False)
class _Shapes:
    """Boxes (relative x, y, width, height) and masks of one field of one sample; no masks if nothing has one."""

    boxes_xywh: NDArray[np.float64]
    masks: Masks | None

    def corners(self) -> NDArray[np.float64]:
        """Return the boxes as (x0, y0, x1, y1)."""
        return np.concatenate([self.boxes_xywh[:, :2], self.boxes_xywh[:, :2] + self.boxes_xywh[:, 2:]], axis=1)
