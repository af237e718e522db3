"""Masks that their box cuts off: boxes that follow their masks, and scores that take what is still cut into account.

YOLACT's masks (arXiv 1904.02689) are cut at their boxes. Where a box is wrong, a large region ends in a straight line
although the network's own field of logits goes on behind it. Such a mask is a piece of something, found with the
confidence of a whole; FastSAM's paper (arXiv 2306.12156, section 5) counts it among the model's failures. Weights that
learnt masks beyond their boxes (`fastsam_core.training.loss`) tell where the object ends.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from fastsam_core.decode import cell_windows, over_masks, threshold_logit
from fastsam_core.geometry import box_areas, box_intersections

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastsam_core.network import Prediction

__all__ = ["cut_shares", "demote_cut", "follow_masks"]

_DEPTH: Final = 0.06
"""How far behind the box, in parts of its shorter side, the field is looked at; one cell at least."""
_SIDES: Final = (0.1, 0.25)
"""Objects up to this part of the image's side keep box and score, and from this part on cuts count in full: of small
ones a cell or two of the prototypes decide, and touching cells that are cut are cells all the same."""
_WINDOW: Final = 0.7
"""A small mask with more of its outline cut than this is a window onto something larger: its cut counts in full."""
_PIECE: Final = 0.2
"""So does that of a small mask with more of its outline cut than this, if it lies in the box of a larger one that was
found with at least its confidence: a square part of a cell, say. Cells that touch lie beside each other."""
_LARGER: Final = (1.25, 8.0)
"""How many times as large such a box is, in area."""
_INSIDE: Final = 0.95
"""Share of a box that lies in another's, from which on it is inside."""
_TIGHTER: Final = (0.4, 0.5, 0.65, 0.8)
"""Thresholds that are tried in turn for a mask that goes on beyond what its box may grow."""


def cut_shares(prediction: Prediction) -> npt.NDArray[np.float32]:
    """Measure how much of each mask's outline is a cut by its box.

    Parameters
    ----------
    prediction : Prediction
        What the network found.

    Returns
    -------
    float32 array (N,)
        Length of the box's sides at which the mask's field goes on behind the box, relative to the circumference of the
        ellipse in the box; at most 1. Sides at the border of the image cut nothing. The field is looked at with the
        threshold of all masks, whatever a mask's own.
    """
    from fastsam_core import _decode_kernels

    windows = cell_windows(prediction)
    sides = (windows[:, 2:] - windows[:, :2]).astype(np.float64)
    depths = np.maximum(np.rint(_DEPTH * sides.min(axis=1, initial=np.inf)), 1).astype(np.int32)
    [whole] = cell_windows(replace(prediction, boxes_xyxy=_whole(prediction)))
    limit = np.float32(threshold_logit(prediction.mask_threshold))
    counts = over_masks(
        lambda part: _decode_kernels.count_cut_cells(
            prediction.prototypes, prediction.coefficients[part], limit, windows[part], depths[part], whole
        ),
        4 * sides.sum(axis=1),
    )
    cells = np.concatenate(counts)
    outlines = math.pi * np.sqrt(np.maximum(sides.prod(axis=1), 1))
    shares: npt.NDArray[np.float32] = np.minimum(cells / outlines, 1).astype(np.float32)
    return shares


def follow_masks(prediction: Prediction, margin: float) -> Prediction:
    """Draw the boxes of large masks out to where the mask ends, so that its own field and no box draws the outline.

    Parameters
    ----------
    prediction : Prediction
        What the network found.
    margin : float
        How far a side moves at most, in parts of the box's width or height: as far as the weights learnt masks.

    Returns
    -------
    Prediction
        In the same order; different boxes may have become one. A box only grows, to hold those parts of its mask that
        lie in it by half at least; objects below a tenth of the image's side keep theirs. A mask that goes on beyond
        `margin` runs into something else, and is cut at the first higher threshold at which it does not, if there is
        one (``own_thresholds``).
    """
    windows = cell_windows(prediction)
    filled = (windows[:, :2] < windows[:, 2:]).all(axis=1)  # no pixel's corner lies in others: their masks are empty
    large = np.flatnonzero(filled & (_relative_sides(prediction) > _SIDES[0]))
    if not len(large):
        return prediction
    found, windows = _take(prediction, large), windows[large]
    ends, thresholds = _mask_ends(found, windows, margin)
    # half a cell further, to the centre of the next: masks are interpolated between centres
    _, cells_h, cells_w = found.prototypes.shape
    network_h, network_w = found.letterbox.network_hw
    cell_px = np.array((network_w / cells_w, network_h / cells_h) * 2)
    sides = ((ends + np.array((-0.5, -0.5, 0.5, 0.5))) * cell_px).astype(np.float32)
    boxes, boxes_network = prediction.boxes_xyxy.copy(), prediction.boxes_network_xyxy.copy()
    boxes[large] = _union(found.boxes_xyxy, found.letterbox.to_image(sides))
    boxes_network[large] = _union(found.boxes_network_xyxy, sides)
    own_thresholds = np.full(len(prediction), prediction.mask_threshold, np.float32)
    own_thresholds[large] = thresholds
    return replace(prediction, boxes_xyxy=boxes, boxes_network_xyxy=boxes_network, own_thresholds=own_thresholds)


def demote_cut(prediction: Prediction, penalty: float, conf: float) -> Prediction:
    """Lower the scores of masks that their boxes cut off, most of all of large ones, and rank anew.

    Parameters
    ----------
    prediction : Prediction
        What the network found.
    penalty : float
        A score is multiplied by ``exp(-penalty * cut)``, see :func:`cut_shares`; less for objects below a quarter of
        the image's side, and below a tenth only if most of the outline is cut, or the mask is a piece of a larger one.
    conf : float
        Scores have to stay above this, in [0, 1].

    Returns
    -------
    Prediction
        Best score first.
    """
    low, high = _SIDES
    cuts = cut_shares(prediction)
    sides = _relative_sides(prediction)
    small = sides <= low
    windows = (small & (cuts > _WINDOW)) | _pieces(prediction, cuts, small)
    weights = np.where(windows, 1, np.clip((sides - low) / (high - low), 0, 1))
    scores = (prediction.scores * np.exp(-penalty * weights * cuts)).astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    return _take(replace(prediction, scores=scores), order[scores[order] > conf])


def _mask_ends(
    prediction: Prediction, windows_xyxy: npt.NDArray[np.int32], margin: float
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Find the cells (N, 4) at which masks end around those of their boxes, and the thresholds (N,) for that."""
    from fastsam_core import _decode_kernels

    [whole] = cell_windows(replace(prediction, boxes_xyxy=_whole(prediction)))
    reaches = np.maximum(np.rint(margin * (windows_xyxy[:, 2:] - windows_xyxy[:, :2])), 1).astype(np.int32)
    outer = np.concatenate(
        [np.maximum(windows_xyxy[:, :2] - reaches, whole[:2]), np.minimum(windows_xyxy[:, 2:] + reaches, whole[2:])],
        axis=1,
    )

    base = prediction.mask_threshold
    thresholds = np.array([base, *(threshold for threshold in _TIGHTER if threshold > base)], np.float32)
    logits = np.array([threshold_logit(float(threshold)) for threshold in thresholds], np.float32)
    parts = over_masks(
        lambda part: _decode_kernels.mask_ends(
            prediction.prototypes, prediction.coefficients[part], logits, windows_xyxy[part], outer[part], whole
        ),
        box_areas(outer),
    )
    ends, places = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return ends, thresholds[places]


def _union(boxes_xyxy: npt.NDArray[np.float32], others_xyxy: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    low = np.minimum(boxes_xyxy[:, :2], others_xyxy[:, :2])
    return np.concatenate([low, np.maximum(boxes_xyxy[:, 2:], others_xyxy[:, 2:])], axis=1)


def _relative_sides(prediction: Prediction) -> npt.NDArray[np.float32]:
    """Sides of squares as large as the boxes, in parts of the image's."""
    boxes, (height, width) = prediction.boxes_xyxy, prediction.letterbox.source_hw
    sides: npt.NDArray[np.float32] = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) / (height * width))
    return sides


def _pieces(
    prediction: Prediction, cuts: npt.NDArray[np.float32], small: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Tell which small masks (N,) are cut and lie in the box of a larger one of at least their score."""
    boxes, scores = prediction.boxes_xyxy, prediction.scores
    areas = box_areas(boxes)
    cut = np.flatnonzero(small & (cuts > _PIECE) & (areas > 0))
    inside = box_intersections(boxes[cut], boxes) > _INSIDE * areas[cut, None]
    times = areas / areas[cut, None]
    around = inside & (times > _LARGER[0]) & (times < _LARGER[1]) & (scores >= scores[cut, None])
    pieces = np.zeros(len(prediction), bool)
    pieces[cut] = around.any(axis=1)
    return pieces


def _whole(prediction: Prediction) -> npt.NDArray[np.float32]:
    height, width = prediction.letterbox.source_hw
    return np.array([[0, 0, width, height]], np.float32)


def _take(prediction: Prediction, indices: npt.NDArray[np.int64]) -> Prediction:
    return replace(
        prediction,
        boxes_xyxy=prediction.boxes_xyxy[indices],
        scores=prediction.scores[indices],
        boxes_network_xyxy=prediction.boxes_network_xyxy[indices],
        coefficients=prediction.coefficients[indices],
        own_thresholds=None if prediction.own_thresholds is None else prediction.own_thresholds[indices],
    )
