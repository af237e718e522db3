"""Masks that their box cuts off: how straight a cut is, and scores that take it into account.

YOLACT's masks (arXiv 1904.02689) are cut at their boxes. Where a box is wrong, a large region ends in a straight line
although the network's own field of logits goes on behind it. Such a mask is a piece of something, found with the
confidence of a whole; FastSAM's paper (arXiv 2306.12156, section 5) counts it among the model's failures.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from fastsam_core.decode import cell_windows, threshold_logit

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastsam_core.network import Prediction

__all__ = ["cut_shares", "demote_cut"]

_DEPTH: Final = 0.06
"""How far behind the box, in parts of its shorter side, the field is looked at; one cell at least."""
_SIDES: Final = (0.1, 0.25)
"""Objects up to this part of the image's side are left alone, and from this part on count in full: of small ones a cell
or two of the prototypes decide, and touching cells that are cut are cells all the same."""


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
        ellipse in the box; at most 1. Sides at the border of the image cut nothing.
    """
    from fastsam_core import _decode_kernels

    windows = cell_windows(prediction)
    sides = (windows[:, 2:] - windows[:, :2]).astype(np.float64)
    depths = np.maximum(np.rint(_DEPTH * sides.min(axis=1, initial=np.inf)), 1).astype(np.int32)
    [whole] = cell_windows(replace(prediction, boxes_xyxy=_whole(prediction)))
    limit = np.float32(threshold_logit(prediction))
    cells = _decode_kernels.count_cut_cells(
        prediction.prototypes, prediction.coefficients, limit, windows, depths, whole
    )
    outlines = math.pi * np.sqrt(np.maximum(sides.prod(axis=1), 1))
    shares: npt.NDArray[np.float32] = np.minimum(cells / outlines, 1).astype(np.float32)
    return shares


def demote_cut(prediction: Prediction, penalty: float, conf: float) -> Prediction:
    """Lower the scores of large masks that their boxes cut off, and rank anew.

    Parameters
    ----------
    prediction : Prediction
        What the network found.
    penalty : float
        A score is multiplied by ``exp(-penalty * cut)``, see :func:`cut_shares`; less for objects below a quarter of
        the image's side, not at all below a tenth.
    conf : float
        Scores have to stay above this, in [0, 1].

    Returns
    -------
    Prediction
        Best score first.
    """
    low, high = _SIDES
    boxes, (height, width) = prediction.boxes_xyxy, prediction.letterbox.source_hw
    shares = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) / (height * width))
    weights = np.clip((shares - low) / (high - low), 0, 1)
    large = np.flatnonzero(weights)
    scores = prediction.scores.copy()
    scores[large] *= np.exp(-penalty * weights[large] * cut_shares(_take(prediction, large)))
    order = np.argsort(-scores, kind="stable")
    return _take(replace(prediction, scores=scores), order[scores[order] > conf])


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
    )
