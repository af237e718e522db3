"""From the network's prototypes to masks: logits only inside boxes, runs at the image's own resolution.

FastSAM (arXiv 2306.12156) inherits YOLACT's masks (arXiv 1904.02689): ``sigmoid(coefficients @ prototypes)``,
upsampled, cropped to the box, cut at a probability. The geometry is that of Ultralytics' ``retina_masks=True``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from fastsam_core._checks import as_number
from fastsam_core._threads import map_slices
from fastsam_core._upsampling import KnotAxis, plan_axes
from fastsam_core.errors import InvalidParameterError
from fastsam_core.geometry import box_areas, snap_boxes_to_border
from fastsam_core.masks import Masks

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastsam_core.network import Prediction

__all__ = [
    "STABILITY_OFFSET",
    "cell_windows",
    "decode",
    "logit_thresholds",
    "over_masks",
    "stability_scores",
    "threshold_logit",
]

_T = TypeVar("_T")

_MANY_CELLS = 50_000.0
"""Cells from which on threads are worth their start: some 0.4 ms of work."""
STABILITY_OFFSET = 1.0
"""Shift of the logit threshold in :func:`stability_scores`, as in Segment Anything (arXiv 2304.02643)."""


def decode(
    prediction: Prediction, *, threshold: float | None = None, snap_px: float = 0, stability: bool = False
) -> Masks:
    """Decode all masks of one image.

    Parameters
    ----------
    prediction : Prediction
        What the network found.
    threshold : float, optional
        Probability in (0, 1) above which a pixel belongs to a mask; the prediction's own when left out.
    snap_px : float
        FastSAM's border rule, with 20 in the original: sides of boxes closer than this to the image border move onto
        it, and a box that then covers more than 90 % of the image becomes the whole image. Masks are cut by the moved
        boxes. 0 leaves boxes alone.
    stability : bool
        Also give ``fields["stability"]``, see :func:`stability_scores`.

    Returns
    -------
    Masks
        One mask for each detection, in the same order. A mask may be empty: where no pixel of the box passes, where the
        box holds no pixel centre, and where coefficients are not finite.

    Raises
    ------
    InvalidParameterError
        If ``threshold`` is not inside (0, 1), or ``snap_px`` is negative or no number.
    """
    from fastsam_core import _decode_kernels

    thresholds = logit_thresholds(prediction, threshold)
    snap_px = as_number("snap_px", snap_px, 0, math.inf)
    image_hw = prediction.letterbox.source_hw
    boxes = prediction.boxes_xyxy
    if snap_px > 0:
        boxes = snap_boxes_to_border(boxes, image_hw, px=snap_px)
    y_axis, x_axis = _axes(prediction)
    windows = _pixel_windows(boxes, image_hw)
    cells = box_areas(windows) * (math.prod(prediction.prototypes.shape[1:]) / math.prod(image_hw))
    parts = over_masks(
        lambda part: _decode_kernels.decode_runs(
            prediction.prototypes,
            prediction.coefficients[part],
            windows[part],
            thresholds[part],
            y_axis,
            x_axis,
        ),
        cells,
    )
    runs, offsets = _joined(parts)
    fields = {"stability": stability_scores(prediction, threshold=threshold)} if stability else {}
    return Masks(
        image_hw=image_hw,
        boxes_xyxy=boxes,
        scores=prediction.scores,
        runs=runs,
        offsets=offsets,
        fields=fields,
    )


def stability_scores(
    prediction: Prediction, *, threshold: float | None = None, offset: float = STABILITY_OFFSET
) -> npt.NDArray[np.float32]:
    """Score how little each mask changes with the threshold: Segment Anything's stability score.

    The IoU of the masks cut at logits ``offset`` above and below the threshold. One mask holds the other, so it is the
    ratio of their areas, here counted in prototype cells inside the box (arXiv 2304.02643, section 5).

    Parameters
    ----------
    prediction : Prediction
        What the network found.
    threshold : float, optional
        Probability in (0, 1); the prediction's own when left out.
    offset : float
        Shift of the logit, above 0.

    Returns
    -------
    float32 array (N,)
        In [0, 1]; 0 where even the larger mask is empty.

    Raises
    ------
    InvalidParameterError
        If ``threshold`` is not inside (0, 1) or ``offset`` is not positive.
    """
    from fastsam_core import _decode_kernels

    limits = logit_thresholds(prediction, threshold)
    if not offset > 0:
        raise InvalidParameterError("The offset is out of range", expected="above 0", actual=f"{offset}")
    windows = cell_windows(prediction)
    both = np.stack([limits + np.float32(offset), limits - np.float32(offset)], axis=1)
    counts = over_masks(
        lambda part: _decode_kernels.count_cells(
            prediction.prototypes, prediction.coefficients[part], windows[part], both[part]
        ),
        box_areas(windows),
    )
    inner, outer = np.concatenate(counts).T
    scores: npt.NDArray[np.float32] = (inner / np.maximum(outer, 1)).astype(np.float32)
    return scores


def cell_windows(prediction: Prediction) -> npt.NDArray[np.int32]:
    """Return the prototype cells whose centres lie inside the boxes, half-open windows (N, 4) in order x, y, x, y."""
    return _cell_windows(_pixel_windows(prediction.boxes_xyxy, prediction.letterbox.source_hw), *_axes(prediction))


def over_masks(kernel: Callable[[slice], _T], cells: npt.NDArray[np.float64]) -> list[_T]:
    """Run a compiled kernel on slices of the masks, in threads if there is much to do; returns its results in order.

    Parameters
    ----------
    kernel : callable
        Called with slices of the masks.
    cells : float64 array (N,)
        How many prototype cells of each mask it looks at.
    """
    return map_slices(kernel, cells, _MANY_CELLS)


def _joined(
    parts: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Join runs and offsets of slices of masks."""
    if len(parts) == 1:
        return parts[0]
    begins = np.cumsum([0, *(len(runs) for runs, _ in parts)])
    offsets = [offsets[:-1] + begin for (_, offsets), begin in zip(parts, begins[:-1], strict=True)]
    return np.concatenate([runs for runs, _ in parts]), np.concatenate([*offsets, begins[-1:]])


def threshold_logit(probability: float) -> float:
    """Return the logit of a threshold, a probability in (0, 1)."""
    if not 0 < probability < 1:
        raise InvalidParameterError(
            "The threshold is out of range", expected="a probability inside (0, 1)", actual=f"{probability}"
        )
    return math.log(probability / (1 - probability))


def logit_thresholds(prediction: Prediction, threshold: float | None = None) -> npt.NDArray[np.float32]:
    """Return the logits (N,) above which pixels belong to masks: of one threshold, or of the prediction's own."""
    limit = threshold_logit(prediction.mask_threshold if threshold is None else threshold)
    limits = np.full(len(prediction), limit, np.float32)
    if threshold is None and prediction.own_thresholds is not None:
        limits[:] = [threshold_logit(float(one)) for one in prediction.own_thresholds]
    return limits


def _axes(prediction: Prediction) -> tuple[KnotAxis, KnotAxis]:
    _, height, width = prediction.prototypes.shape
    return plan_axes((height, width), prediction.letterbox.source_hw)


def _pixel_windows(boxes_xyxy: npt.NDArray[np.float32], image_hw: tuple[int, int]) -> npt.NDArray[np.int32]:
    """Pixels of each box as half-open windows (N, 4): those with ``x0 <= x < x1``, as ``ops.crop_mask`` takes them."""
    height, width = image_hw
    finite = np.isfinite(boxes_xyxy).all(axis=1, keepdims=True)
    sides = np.ceil(np.where(finite, boxes_xyxy, 0))
    return np.clip(sides, 0, (width, height, width, height)).astype(np.int32)


def _cell_windows(windows_xyxy: npt.NDArray[np.int32], y_axis: KnotAxis, x_axis: KnotAxis) -> npt.NDArray[np.int32]:
    """Prototype cells whose centres lie inside pixel windows (N, 4); the nearest cell where there is none."""
    cells = np.zeros_like(windows_xyxy)
    filled = (windows_xyxy[:, :2] < windows_xyxy[:, 2:]).all(axis=1)
    for column, axis in enumerate((x_axis, y_axis)):
        first = axis.pixel_cells[windows_xyxy[filled, column]]
        last = axis.pixel_cells[windows_xyxy[filled, column + 2] - 1]
        begin, end = np.ceil(first), np.floor(last) + 1
        nearest = np.rint((first + last) / 2)
        none = begin >= end
        cells[filled, column] = np.where(none, nearest, begin)
        cells[filled, column + 2] = np.where(none, nearest + 1, end)
    return cells
