"""Scores that take into account what surer masks show already.

Beside an object a network gives pieces of it, and the object joined with its neighbours, whose boxes overlap too little
for one of them to be dropped. As in Soft-NMS (Bodla et al. 2017, arXiv 1704.04503) they stay and lose score, so that
different things come first. Parts of a whole lose little: they are objects of their own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from fastsam_core import _runs

if TYPE_CHECKING:
    from fastsam_core.masks import Masks

__all__ = ["demote_overlapping"]

_INSIDE: Final = 0.125
"""What lying in another mask counts, beside the IoU with it."""


def demote_overlapping(masks: Masks, penalty: float) -> Masks:
    """Lower the scores of masks that overlap with surer ones, and rank anew.

    Parameters
    ----------
    masks : Masks
        N masks of one image.
    penalty : float
        A score is divided by ``sqrt(1 + penalty * n)``, where n sums up, over the masks of higher score, the IoU with
        each and an eighth of the share of the mask that lies in it, times that score. 0 leaves scores as they are.

    Returns
    -------
    Masks
        Best score first. A mask's score depends on surer masks only, so those above a threshold are the same whether
        fainter ones are given or not.
    """
    ranked = masks.sort()
    inside, iou = _runs.claimed(ranked.runs, ranked.offsets, ranked.extents_xyxy, ranked.areas_px, ranked.scores)
    scores = ranked.scores / np.sqrt(1 + penalty * (iou + _INSIDE * inside))
    return replace(ranked, scores=scores.astype(np.float32)).sort()
