"""The table of candidates: sortable, selecting rows picks candidates and the other way round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QAbstractTableModel, QItemSelection, QItemSelectionModel, QModelIndex, Qt
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QWidget

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qtpy.QtGui import QFont

    from napari_fastsam.controllers.session import Session
from napari_fastsam._numbers import decimals_for, written
from napari_fastsam.views._qt import QtSignal

__all__ = ["CandidateTable", "TableModel"]

_ROW_HEIGHT_PX, _ROW_GAP_PX = 20, 2
_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter


class TableModel(QAbstractTableModel):
    """Columns of numbers, sorted by NumPy; row ``r`` shows candidate ``rows[r]``."""

    def __init__(self) -> None:
        super().__init__()
        self.headers: list[tuple[str, str]] = []
        self.columns: list[NDArray[np.float64]] = []
        self.decimals: list[int] = []
        self.rows = np.empty(0, np.int64)
        self._sorting = (-1, Qt.SortOrder.AscendingOrder)

    def set_columns(self, columns: list[tuple[str, str, NDArray[np.float64], int]], rows: NDArray[np.int64]) -> None:
        """Show other columns (header, tool tip, values of all candidates, decimals) of these candidates."""
        self.beginResetModel()
        self.headers = [(header, tip) for header, tip, _, _ in columns]
        self.columns = [values for _, _, values, _ in columns]
        self.decimals = [decimals for *_, decimals in columns]
        self.rows = rows
        self._sort_rows()
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Return how many candidates are shown."""
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Return how many columns there are."""
        return len(self.headers)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the text of a cell."""
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _RIGHT
        if role != Qt.ItemDataRole.DisplayRole or not index.isValid():
            return None
        value = self.columns[index.column()][self.rows[index.row()]]
        return "–" if np.isnan(value) else written(value, self.decimals[index.column()], gaps=False)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return header or tool tip of a column."""
        if orientation != Qt.Orientation.Horizontal or section >= len(self.headers):
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return self.headers[section][0]
        return self.headers[section][1] if role == Qt.ItemDataRole.ToolTipRole else None

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort the rows by a column; what is selected goes along with its candidates."""
        self.layoutAboutToBeChanged.emit()
        self._sorting = (column, order)
        before, place = self.rows, np.zeros(self.rows.max(initial=0) + 1, np.int64)
        self._sort_rows()
        place[self.rows] = np.arange(len(self.rows))
        kept = self.persistentIndexList()
        self.changePersistentIndexList(kept, [self.index(int(place[before[one.row()]]), one.column()) for one in kept])
        self.layoutChanged.emit()

    def _sort_rows(self) -> None:
        column, order = self._sorting
        if 0 <= column < len(self.columns):
            ranks = np.argsort(self.columns[column][self.rows], kind="stable")
            self.rows = self.rows[ranks if order == Qt.SortOrder.AscendingOrder else ranks[::-1]]

    def row_of(self, candidate: int) -> int:
        """Return where a candidate is shown, -1 if it is not."""
        places = np.flatnonzero(self.rows == candidate)
        return int(places[0]) if len(places) else -1


class CandidateTable(QTableView):
    """Shows the candidates that pass the filters.

    Parameters
    ----------
    session : Session
    """

    activated_candidate = QtSignal(int)
    """A row was double-clicked."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self._following = False
        self.table = TableModel()
        self.setModel(self.table)
        self.setSortingEnabled(True)
        self.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setMinimumHeight(120)
        vertical, horizontal = self.verticalHeader(), self.horizontalHeader()
        if vertical is not None:
            vertical.hide()
            vertical.setDefaultSectionSize(_ROW_HEIGHT_PX)
        if horizontal is not None:
            horizontal.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
            horizontal.setMinimumSectionSize(30)
        self.setAccessibleName("Candidates")
        self.setToolTip("Select rows to pick candidates; double-click a row to go there")
        session.candidates_changed.connect(self.refresh)
        session.shown_changed.connect(self.refresh)
        session.selection_changed.connect(self.follow_selection)
        session.hovered.connect(self.follow_hover)
        self.doubleClicked.connect(lambda index: self.activated_candidate.emit(int(self.table.rows[index.row()])))

    def close_session(self) -> None:
        """Stop following the session."""
        session = self.session
        session.candidates_changed.disconnect(self.refresh)
        session.shown_changed.disconnect(self.refresh)
        session.selection_changed.disconnect(self.follow_selection)
        session.hovered.disconnect(self.follow_hover)

    def take_font(self, font: QFont) -> None:
        """Write in this font, in rows as high as it needs."""
        self.setFont(font)
        vertical = self.verticalHeader()
        if vertical is not None:
            vertical.setDefaultSectionSize(max(_ROW_HEIGHT_PX, self.fontMetrics().height() + _ROW_GAP_PX))

    def refresh(self) -> None:
        """Read the candidates anew."""
        candidates = self.session.candidates
        self._following = True
        if candidates is None:
            self.table.set_columns([], np.empty(0, np.int64))
        else:
            pixel, unit = self.session.pixel_area()
            columns = candidates.columns
            means = columns["intensity"]
            areas = np.multiply(columns["area_px"], pixel, dtype=np.float64)
            decimals = decimals_for(areas)
            if 0 <= decimals and areas.max(initial=0) < 1000:
                decimals = max(decimals, 2)
            self.table.set_columns(
                [
                    ("id", "Number of the candidate", np.arange(1, len(candidates) + 1, dtype=np.float64), 0),
                    (unit, f"Area in {unit}", areas, decimals if unit != "px²" else 0),
                    ("conf.", "Confidence of the network, 0 to 1", columns["confidence"], 2),
                    ("mean", "Mean of the image's values inside", means, decimals_for(means)),
                    ("solid.", "Solidity: area divided by the area of the convex hull", columns["solidity"], 2),
                ],
                np.flatnonzero(self.session.shown),
            )
        self._following = False
        self.follow_selection()

    def follow_selection(self) -> None:
        """Select the rows of what is picked."""
        model = self.selectionModel()
        if model is None:
            return
        wanted = set(self.session.picked)
        selection = QItemSelection()
        last = self.table.columnCount() - 1
        rows = np.flatnonzero(np.isin(self.table.rows, list(wanted)))
        for stretch in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
            if len(stretch):
                selection.select(self.table.index(int(stretch[0]), 0), self.table.index(int(stretch[-1]), last))
        self._following = True
        model.select(selection, QItemSelectionModel.SelectionFlag.ClearAndSelect)
        self._following = False

    def follow_hover(self, candidate: int) -> None:
        """Bring the row of the candidate under the cursor into view."""
        row = self.table.row_of(candidate)
        if row >= 0:
            self.scrollTo(self.table.index(row, 0))

    def selectionChanged(self, selected: QItemSelection, deselected: QItemSelection) -> None:
        """Pick what the user selects."""
        super().selectionChanged(selected, deselected)
        model = self.selectionModel()
        if not self._following and model is not None:
            self.session.select_by_hand(int(self.table.rows[index.row()]) for index in model.selectedRows())
