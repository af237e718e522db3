"""A range slider under the histogram of what it limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent
from qtpy.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget
from superqt import QDoubleRangeSlider
from superqt.utils import signals_blocked

if TYPE_CHECKING:
    from numpy.typing import NDArray

from napari_fastsam._numbers import decimals_for, written
from napari_fastsam.views._qt import QtSignal

__all__ = ["HistogramSlider"]

_BINS = 48
_BARS_HEIGHT_PX = 22
_IN, _OUT = QColor(64, 217, 255), QColor(120, 120, 120, 120)


class _Bars(QWidget):
    """The histogram; bars outside the limits are gray."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(_BARS_HEIGHT_PX)
        self.counts = np.zeros(_BINS)
        self.inside = (0.0, 1.0)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        painter = QPainter(self)
        painter.setPen(Qt.PenStyle.NoPen)
        width = self.width() / _BINS
        highest = max(float(np.sqrt(self.counts).max(initial=0)), 1.0)
        for k, count in enumerate(self.counts):
            height = self.height() * float(np.sqrt(count)) / highest
            middle = (k + 0.5) / _BINS
            painter.setBrush(_IN if self.inside[0] <= middle <= self.inside[1] else _OUT)
            painter.drawRect(QRectF(k * width, self.height() - height, max(width - 1, 1), height))
        painter.end()


class HistogramSlider(QWidget):
    """Limits of one column.

    Parameters
    ----------
    title : str
    tip : str
        Tool tip.
    logarithmic : bool
        Give small values as much room as large ones.
    decimals : int, optional
        Of the numbers that are shown; without it, as many as the largest value needs.
    """

    limits_changed = QtSignal(float, float)
    """New limits, in the column's unit; infinite at an end that lets everything pass."""

    def __init__(self, title: str, tip: str, *, logarithmic: bool = False, decimals: int | None = None) -> None:
        super().__init__()
        self._logarithmic, self._decimals = logarithmic, decimals or 0
        self._own_decimals = decimals is None
        self._span = (0.0, 1.0)
        self._factor = 1.0
        self._limits = (-np.inf, np.inf)
        self._places = (0.0, 1.0)
        """Where the handles stand: for limits outside of the values, at an end."""
        self._empty = True
        self._title = QLabel()
        self._numbers = QLabel("")
        self._numbers.setAlignment(Qt.AlignmentFlag.AlignRight)
        self._bars = _Bars()
        self.slider = QDoubleRangeSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0.0, 1.0)
        self.slider.setValue((0.0, 1.0))
        self.slider.valueChanged.connect(self._on_value)
        top = QHBoxLayout()
        top.addWidget(self._title)
        top.addWidget(self._numbers, 1)
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(0)
        box.addLayout(top)
        box.addWidget(self._bars)
        box.addWidget(self.slider)
        self.setToolTip(tip)
        self.set_title(title)

    def set_title(self, title: str) -> None:
        """Change what is written above."""
        self._title.setText(title)
        self.slider.setAccessibleName(title)

    def set_values(self, values: NDArray[np.float64], factor: float = 1.0) -> None:
        """Show the histogram of these values; the limits stay.

        Parameters
        ----------
        values : float64 (N,)
            NaN is left out.
        factor : float
            What a value is multiplied by to be shown in another unit.
        """
        if self._own_decimals:
            self._decimals = decimals_for(values * factor)
        finite = self._scale(values[np.isfinite(values)])
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
        largest = max(abs(low), abs(high))
        if high - low <= 1e-9 * largest:  # all alike, or as good as
            margin = max(0.5 * min(largest or 1.0, 1.0), 1e-6 * largest)
            low, high = low - margin, high + margin
        self._span, self._factor, self._empty = (low, high), factor, False
        self._bars.counts = np.histogram(finite, bins=_BINS, range=(low, high))[0].astype(float)
        self._move()

    def clear(self) -> None:
        """Show no values; the limits stay."""
        self._bars.counts = np.zeros(_BINS)
        self._empty = True
        self._show()

    def limits(self) -> tuple[float, float]:
        """Return the limits; infinite where everything passes."""
        return self._limits

    def set_limits(self, low: float, high: float) -> None:
        """Move the slider."""
        changed, self._limits = (low, high) != self._limits, (low, high)
        self._move()
        if changed:
            self.limits_changed.emit(low, high)

    def _move(self) -> None:
        """Put the handles where the limits are."""
        low, high = self._limits
        ends = (0.0 if np.isinf(low) else self._place(low), 1.0 if np.isinf(high) else self._place(high))
        with signals_blocked(self.slider):
            self.slider.setValue(ends)
        places: Any = self.slider.value()
        self._places = places
        self._show()

    def _place(self, value: float) -> float:
        scaled = float(self._scale(np.array([value]))[0])
        return float(np.clip((scaled - self._span[0]) / (self._span[1] - self._span[0]), 0, 1))

    def _scale(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.log10(np.maximum(values, 1e-6)) if self._logarithmic else values

    def _unscale(self, value: float) -> float:
        return float(10**value) if self._logarithmic else value

    def _on_value(self, value: tuple[float, float]) -> None:
        """Set the limit whose handle was moved; the other stays, wherever it lies."""
        (low, high), (old_low, old_high), self._places = self._limits, self._places, value
        if value[0] != old_low:
            low = -np.inf if value[0] <= 0 else self._value_at(value[0])
        if value[1] != old_high:
            high = np.inf if value[1] >= 1 else self._value_at(value[1])
        self._limits = low, high
        self._show()
        self.limits_changed.emit(low, high)

    def _value_at(self, place: float) -> float:
        return self._unscale(self._span[0] + place * (self._span[1] - self._span[0]))

    def _show(self) -> None:
        self._bars.inside = self._places
        self._bars.update()
        ends = [self._value_at(place) * self._factor for place in self._places]
        low, high = (
            written(end, decimals_for(np.array([end])) if self._logarithmic else self._decimals) for end in ends
        )
        self._numbers.setText("" if self._empty else f"{low} – {high}")
