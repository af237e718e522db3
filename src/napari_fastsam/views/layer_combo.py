"""A drop-down list of the viewer's layers of one kind; follows adding, removing and renaming."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QSizePolicy, QStyle, QStyleOptionComboBox, QStylePainter, QWidget
from superqt.utils import signals_blocked

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtGui import QPaintEvent

from napari_fastsam.views._qt import QtSignal

__all__ = ["LayerCombo"]


class LayerCombo(QComboBox):
    """Choose a layer.

    Parameters
    ----------
    viewer : napari Viewer
    wanted : callable
        Tells which layers are offered.
    empty : str
        Text of the first entry, which means no layer; "" for a list without such an entry.
    """

    chosen = QtSignal(object)
    """The layer that was chosen (by the user or because another one went away), or None."""

    def __init__(
        self, viewer: Any, wanted: Callable[[Any], bool], empty: str = "", parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer, self._wanted, self._empty = viewer, wanted, empty
        self._current: Any = None
        self._tip = ""
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setMinimumContentsLength(6)
        if (names := self.view()) is not None:
            names.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        events = viewer.layers.events
        self._connected = (events.inserted, events.removed, events.reordered, events.renamed)
        for event in self._connected:
            event.connect(self.refresh)
        self.currentIndexChanged.connect(self._on_index)
        self.refresh()

    def disconnect_viewer(self) -> None:
        """Stop following the viewer."""
        for event in self._connected:
            event.disconnect(self.refresh)

    @property
    def layer(self) -> Any:
        """The chosen layer or None."""
        return self._current

    def setToolTip(self, tip: str | None) -> None:
        """Say what the list is for; the name of the chosen layer, which may be cut short, stands above."""
        self._tip = tip or ""
        self._show_tip()

    def _show_tip(self) -> None:
        name = "" if self._current is None else self._current.name
        super().setToolTip("\n".join(text for text in (name, self._tip) if text))

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Show how long names end: that is where the layers of a plate differ."""
        painter, option = QStylePainter(self), QStyleOptionComboBox()
        self.initStyleOption(option)
        style = self.style()
        if style is not None:
            kind, part = QStyle.ComplexControl.CC_ComboBox, QStyle.SubControl.SC_ComboBoxEditField
            width = style.subControlRect(kind, option, part, self).width()
            shown = self.fontMetrics().elidedText(self.currentText(), Qt.TextElideMode.ElideMiddle, width)
            option.currentText = shown
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)

    def set_layer(self, layer: Any) -> None:
        """Choose a layer (None for no layer)."""
        wanted = None if layer is None else layer.unique_id
        for index in range(self.count()):
            if self.itemData(index) == wanted:
                self.setCurrentIndex(index)
                return

    def refresh(self, event: object = None) -> None:
        """Read the viewer's layers anew; the chosen one stays, whatever its name is now."""
        layers = [layer for layer in self._viewer.layers if self._wanted(layer)]
        known = None if self._current is None else self._current.unique_id
        with signals_blocked(self):
            self.clear()
            if self._empty:
                self.addItem(self._empty, None)
            for layer in reversed(layers):
                self.addItem(layer.name, layer.unique_id)
            place = next((k for k in range(self.count()) if self.itemData(k) == known), 0 if self.count() else -1)
            self.setCurrentIndex(place)
        self._on_index(place)

    def _on_index(self, index: int) -> None:
        wanted = self.itemData(index) if index >= 0 else None
        layer = next((one for one in self._viewer.layers if one.unique_id == wanted), None) if wanted else None
        same = (layer is None and self._current is None) or (
            layer is not None and self._current is not None and layer.unique_id == self._current.unique_id
        )
        self._current = layer
        self._show_tip()
        if not same:
            self.chosen.emit(layer)
