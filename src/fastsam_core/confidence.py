"""How much confidence to ask for in one image: scores as probabilities, the threshold with the best F1 to expect."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastsam_core._checks import as_array
from fastsam_core.errors import InvalidParameterError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["best_conf", "expected_f1"]


def expected_f1(scores: ArrayLike) -> NDArray[np.float64]:
    """Estimate the F1 of the 1, 2, … N best masks of an image, float64 (N,).

    Parameters
    ----------
    scores : array_like of float, shape (N,)
        How probable it is that each mask shows an object, in [0, 1]; those of faint masks, too, as together they say
        how many objects the image has.

    Raises
    ------
    InvalidParameterError
        These are no numbers.

    Notes
    -----
    Of k masks the sum of their probabilities is to be right, and of all masks that many objects are there: the ratio of
    expectations stands for that of F1, as in Lipton, Elkan and Narayanaswamy 2014 (arXiv 1402.1892).
    """
    best_first = np.sort(_checked(scores))[::-1]
    found = np.cumsum(best_first)
    f1: NDArray[np.float64] = 2 * found / np.maximum(np.arange(1, len(found) + 1) + found[-1:].sum(), 1)
    return f1


def best_conf(scores: ArrayLike) -> float:
    """Choose the score from which on the masks of an image have the best F1 to expect.

    Parameters
    ----------
    scores : array_like of float, shape (N,)
        As for :func:`expected_f1`.

    Returns
    -------
    float
        The lowest score that passes, one of those given; 1 without any.
    """
    f1 = expected_f1(scores)
    if not len(f1):
        return 1.0
    return float(np.sort(_checked(scores))[::-1][int(f1.argmax())])


def _checked(scores: ArrayLike) -> NDArray[np.float64]:
    values: NDArray[np.float64] = as_array("scores", scores, np.float64, InvalidParameterError).reshape(-1)
    return values
