"""Which candidates are shown, by limits on what was measured of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastsam_core.candidates import reached, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FILTERED", "Filters"]

FILTERED = ("confidence", "area_px", "solidity", "intensity")
"""The columns that can be limited."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Limits by column, both ends included; a column without limits is not looked at.

    A value that was not measured (NaN) passes.
    """

    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def with_limits(self, column: str, low: float, high: float) -> Filters:
        """Return the same filters with other limits on one column."""
        return Filters({**self.limits, column: (low, high)})

    def without(self, column: str) -> Filters:
        """Return the same filters without limits on one column."""
        return Filters({name: pair for name, pair in self.limits.items() if name != column})

    def keep(self, columns: Mapping[str, NDArray[np.float64]], conf: float = 0.0) -> NDArray[np.bool_]:
        """Tell which rows pass, as bool array of length N; without limits on the confidence those from `conf` on."""
        return shown(columns, self.limits, conf)

    def reach(self, columns: Mapping[str, NDArray[np.float64]]) -> NDArray[np.bool_]:
        """Tell which rows prompts may choose, as bool array of length N: those that pass, whatever their confidence."""
        return reached(columns, self.limits)
