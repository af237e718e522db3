"""How numbers are written in the widget and in the status bar."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["decimals_for", "written"]

_MOST_DECIMALS = 6


def decimals_for(values: NDArray[np.float64]) -> int:
    """Return how many decimals show three digits of the largest of these values; 0 if it has as many before the point.

    Parameters
    ----------
    values : float64 ndarray
        Of any shape; NaN and infinity are left out.
    """
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
    return min(max(2 - math.floor(math.log10(largest)), 0), _MOST_DECIMALS) if largest > 0 else 0


def written(value: float, decimals: int) -> str:
    """Return a number with so many decimals, or from 1000 on with none, and with gaps between thousands."""
    return f"{value:.{decimals}f}" if abs(value) < 1000 else f"{value:,.0f}".replace(",", " ")
