"""A text field, "find similar", and the limit from which on candidates fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QLineEdit, QProgressBar, QVBoxLayout, QWidget
from superqt.utils import signals_blocked

from napari_fastsam.models.words import INSTALL, can_read_words
from napari_fastsam.views.histogram import HistogramSlider
from napari_fastsam.views.parts import button, hint, painted_later, row_of

if TYPE_CHECKING:
    from napari_fastsam.controllers.words import WordsController
    from napari_fastsam.models.words import Ranking

__all__ = ["WordsPanel"]

_MISSING = f"Words need another package. Run\n{INSTALL}\nand start napari again."


class WordsPanel(QWidget):
    """Pick by words, or by what is picked already.

    Parameters
    ----------
    words : WordsController
    """

    def __init__(self, words: WordsController) -> None:
        super().__init__()
        self.words = words
        self.text = QLineEdit()
        self.text.setObjectName("words")
        self.text.setAccessibleName("Words")
        self.text.setPlaceholderText("What is wanted, e.g. red circle, star")
        self.text.setToolTip(
            "Press Enter: all candidates are looked at once, every further text is answered while you type. "
            "Commas stand between alternatives."
        )
        self.text.setClearButtonEnabled(True)
        self.similar = button("Find similar", "Pick all that look like what is picked now", words.find_similar)
        self.stop = button("Clear", "Take the question back, or stop looking", self._clear)
        self.progress = QProgressBar()
        self.progress.setFormat("%v of %m looked at")
        self.progress.hide()
        self.limit = HistogramSlider("Fits", "How well candidates fit; those inside the limits are picked")
        self.limit.hide()
        self.message = hint()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for widget in (self.text, row_of(self.similar, self.stop), self.progress, self.limit, self.message):
            layout.addWidget(widget)
        self.message.hide()
        if not can_read_words():
            self.message.show()
            for disabled in (self.text, self.similar, self.stop):
                disabled.setEnabled(False)
                disabled.setToolTip(_MISSING)
            self.message.setText(_MISSING)
        self.text.returnPressed.connect(lambda: words.ask(self.text.text()))
        self.text.textEdited.connect(lambda text: words.ask(text, begin=False))
        self.limit.limits_changed.connect(words.set_limits)
        words.running_changed.connect(self._on_running)
        words.progress.connect(self._on_progress)
        words.said.connect(self._on_said)
        words.ranked.connect(self._on_ranked)

    def _clear(self) -> None:
        self.words.cancel()
        self.text.clear()
        self.words.clear()

    def _on_running(self, running: bool) -> None:
        self.progress.setVisible(running)
        self.stop.setText("Cancel" if running else "Clear")

    def _on_progress(self, done: int, total: int) -> None:
        with painted_later(self.progress):
            self.progress.setRange(0, total)
            self.progress.setValue(done)

    def _on_said(self, message: str) -> None:
        self.message.setText(message)
        self.message.setVisible(bool(message))

    def _on_ranked(self, ranking: Ranking | None) -> None:
        self.limit.setVisible(ranking is not None)
        if ranking is not None:
            self.limit.set_title("Likeness" if ranking.cause["by"] == "similar" else "Fits the words")
            with signals_blocked(self.limit):
                self.limit.set_values(ranking.scores)
                self.limit.set_limits(ranking.low, ranking.high)
