"""Qt's signal class, whichever binding there is (qtpy's types do not tell which)."""

from typing import Any

from qtpy import QtCore

__all__ = ["QtSignal"]

QtSignal: Any = vars(QtCore)["Signal"]
