"""How numbers are written in the widget and in the status bar."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["decimals_for", "written"]

_MOST_DECIMALS = 6
_PLAIN = (1e-4, 1e15)
"""Columns whose largest number lies outside are written with powers of ten."""
_POWERS = -1


def decimals_for(values: NDArray[np.float64]) -> int:
    """Return how many decimals show three digits of the largest of these values; 0 if it has as many before the point.

    A negative number, which :func:`written` takes, too, stands for powers of ten.

    Parameters
    ----------
    values : float64 ndarray
        Of any shape; NaN and infinity are left out.
    """
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
    if largest and not _PLAIN[0] <= largest < _PLAIN[1]:
        return _POWERS
    return min(max(2 - math.floor(math.log10(largest)), 0), _MOST_DECIMALS) if largest > 0 else 0


def written(value: float, decimals: int, *, gaps: bool = True) -> str:
    """Return a number with so many decimals (see :func:`decimals_for`).

    Unless `gaps` is False, there are gaps between thousands, and no decimals from 1000 on.
    """
    if decimals < 0:
        return f"{value:.2e}"
    return f"{value:z.{decimals}f}" if abs(value) < 1000 or not gaps else f"{value:z,.0f}".replace(",", " ")
