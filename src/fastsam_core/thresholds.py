"""A threshold of its own for each mask, where the network's field is surer of some objects than of others.

A mask is scored by its overlap with the object, Dice or IoU, not by its pixels. For the best Dice to expect of pixels
with given probabilities, those above half of that very Dice belong to the mask (Lipton, Elkan and Narayanaswamy 2014,
arXiv 1402.1892): faint masks are cut lower than sure ones.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from fastsam_core.decode import cell_windows, over_masks
from fastsam_core.geometry import box_areas

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastsam_core.network import Prediction

__all__ = ["best_thresholds", "cut_each_best"]

_LOWEST: Final = 0.2
_HIGHEST: Final = 0.5


def best_thresholds(prediction: Prediction) -> npt.NDArray[np.float32]:
    """Find the probability at which the mask in each box has the best Dice to expect.

    Parameters
    ----------
    prediction : Prediction
        What the network found.

    Returns
    -------
    float32 array (N,)
        In [0, 0.5]: half of that Dice, as measured on the cells of the prototypes. 0 where a box has no cell.
    """
    from fastsam_core import _decode_kernels

    windows = cell_windows(prediction)
    parts = over_masks(
        lambda part: _decode_kernels.best_thresholds(
            prediction.prototypes, prediction.coefficients[part], windows[part]
        ),
        box_areas(windows),
    )
    thresholds: npt.NDArray[np.float32] = np.concatenate(parts)
    return thresholds


def cut_each_best(prediction: Prediction, share: float) -> Prediction:
    """Cut each mask at its own threshold in place of one for all.

    Parameters
    ----------
    prediction : Prediction
        What the network found; its own thresholds, if it has some that are higher, stay.
    share : float
        Part of the best threshold to cut at, above 0. Below 1 where the probabilities are too low as a whole.

    Returns
    -------
    Prediction
        With ``own_thresholds`` between 0.2 and 0.5.
    """
    thresholds = np.clip(np.float32(share) * best_thresholds(prediction), _LOWEST, _HIGHEST).astype(np.float32)
    if prediction.own_thresholds is not None:
        tightened = prediction.own_thresholds > prediction.mask_threshold
        thresholds = np.where(tightened, np.maximum(prediction.own_thresholds, thresholds), thresholds)
    return replace(prediction, own_thresholds=thresholds)
