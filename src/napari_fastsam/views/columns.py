"""The sections of the widget, in as many columns as there is room for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Columns"]

_COLUMN_PX = 320


class Columns(QWidget):
    """Sections one below the other; side by side where it is wide, as at the bottom of napari's window.

    Parameters
    ----------
    sections : sequence of QWidget
        In the order of reading: down the first column, then down the next.
    """

    def __init__(self, sections: Sequence[QWidget]) -> None:
        super().__init__()
        self._sections = tuple(sections)
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(6, 4, 6, 4)
        self._row.setSpacing(10)
        self._columns: list[QVBoxLayout] = []
        self.fit(0)

    def fit(self, width: int) -> None:
        """Make as many columns as fit into a width, of about the same height."""
        least = max(_COLUMN_PX, *(section.minimumSizeHint().width() for section in self._sections))
        count = min(max(width // least, 1), len(self._sections))
        if count == len(self._columns):
            return
        for column in self._columns:
            while column.takeAt(0) is not None:
                pass
            self._row.removeItem(column)
            column.deleteLater()
        self._columns = [QVBoxLayout() for _ in range(count)]
        for column in self._columns:
            column.setSpacing(2)
            self._row.addLayout(column, 1)
        heights = [0 if section.isHidden() else section.sizeHint().height() for section in self._sections]
        above, whole = 0, max(sum(heights), 1)
        for section, height in zip(self._sections, heights, strict=True):
            self._columns[min(int(count * (above + height / 2) / whole), count - 1)].addWidget(section)
            above += height
        for column in self._columns:
            column.addStretch(1)
