"""Small helpers to build compact panels."""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QComboBox, QFormLayout, QGridLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from fastsam_core.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Passing", "button", "file_name", "form", "hint", "painted_later", "row_of", "section", "with_suffix"]

_SPACING_PX = 4


class Passing(QObject):
    """Event filter that passes letters on to napari, where they are keys of this plugin, and the wheel to what scrolls.

    Else a list would look for an entry that begins with the letter, Ctrl+Z included, and a list, number or slider that
    comes under the mouse while the widget is scrolled would change. Numbers keep Ctrl+Z for what is typed in them.
    """

    def eventFilter(self, watched: QObject | None, event: Any) -> bool:
        """Tell whether the event is kept from the widget."""
        kind = event.type()
        if kind == QEvent.Type.KeyPress:
            held = event.modifiers()
            letter = held == Qt.KeyboardModifier.NoModifier and event.text().isalpha()
            passed = letter or (isinstance(watched, QComboBox) and bool(held & Qt.KeyboardModifier.ControlModifier))
        else:
            passed = kind == QEvent.Type.Wheel
        if not passed:
            return False
        event.ignore()
        return True


def button(text: str, tip: str, clicked: Callable[[], object] | None = None, *, checkable: bool = False) -> QPushButton:
    """Return a button that may be narrow."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.setCheckable(checkable)
    made.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Fixed)
    if clicked is not None:
        made.clicked.connect(lambda *_: clicked())
    return made


def form() -> QFormLayout:
    """Return a layout of labelled fields without margins."""
    layout = QFormLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(_SPACING_PX)
    layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    return layout


def row_of(*widgets: QWidget) -> QWidget:
    """Return widgets side by side, of equal width."""
    holder = QWidget()
    layout = QGridLayout(holder)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(_SPACING_PX)
    for column, widget in enumerate(widgets):
        layout.addWidget(widget, 0, column)
        layout.setColumnStretch(column, 1)
    return holder


def hint(text: str = "") -> QLabel:
    """Return text that wraps."""
    label = QLabel(text)
    label.setWordWrap(True)
    return label


def file_name(name: str) -> str:
    """Return a layer's name as a file's: a dialog takes what stands before a slash for a folder."""
    return re.sub(r'[\\/:*?"<>|\x00-\x1f]+', "_", name)


def with_suffix(path: str, *suffixes: str) -> Path:
    """Return what a file dialog gave, with the first suffix if it has none of these.

    Raises
    ------
    OutputError
        There is a file with the suffix: the dialog did not ask whether it may be replaced.
    """
    named = Path(path)
    if named.suffix.lower() not in suffixes:
        named = Path(path + suffixes[0])
        if named.exists():
            raise OutputError(f"{named} exists", remedy="choose it by its full name to replace it, or another name")
    return named


@contextmanager
def painted_later(widget: QWidget) -> Iterator[None]:
    """Paint what changes in a widget once, with the next frame.

    A QProgressBar paints itself, and with it the whole window with its canvas, at every change of value or text.
    """
    widget.setUpdatesEnabled(False)
    try:
        yield
    finally:
        widget.setUpdatesEnabled(True)


def section(title: str, content: QWidget, *, expanded: bool = True) -> QWidget:
    """Return a part of the widget that can be folded by a click on its title."""
    holder = QWidget()
    head = QPushButton()
    head.setCheckable(True)
    head.setToolTip("Fold or unfold")
    head.setStyleSheet("QPushButton { text-align: left; font-weight: bold; padding: 2px 6px; }")

    def fold(shown: bool) -> None:
        head.setText(f"{'▾' if shown else '▸'}  {title}")
        content.setVisible(shown)

    layout = QVBoxLayout(holder)
    layout.setContentsMargins(0, 0, 0, _SPACING_PX)
    layout.setSpacing(_SPACING_PX)
    layout.addWidget(head)
    layout.addWidget(content)
    head.toggled.connect(fold)
    head.setChecked(expanded)
    fold(expanded)
    return holder
