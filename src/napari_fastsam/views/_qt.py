"""Qt's signal class, whichever binding there is (qtpy does not tell type checkers about it)."""

from typing import Any

from qtpy import QtCore

__all__ = ["QtSignal"]

QtSignal: Any = QtCore.Signal  # type: ignore[attr-defined]
