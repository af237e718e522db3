"""Offers the labels and prompts of a session that was not ended: a crash, or napari was closed with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFrame, QLabel, QVBoxLayout, QWidget

from napari_fastsam.controllers.journal import prompts_by_plane
from napari_fastsam.views.parts import button, row_of

if TYPE_CHECKING:
    from fastsam_core.journal import JournalFile
    from napari_fastsam.controllers.journal import JournalController

__all__ = ["RestoreBar"]


class RestoreBar(QFrame):
    """Shown only when there is something to restore.

    Parameters
    ----------
    journal : JournalController
    parent : QWidget
    """

    def __init__(self, journal: JournalController, parent: QWidget) -> None:
        super().__init__(parent)
        self.journal = journal
        self.setObjectName("restore")
        self.setStyleSheet("#restore { border: 1px solid #d99a2b; border-radius: 4px; }")
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.restore_button = button(
            "Restore", "Write the labels of that session again, and set its prompts", journal.restore
        )
        self.dismiss_button = button("Begin anew", "The old journal is kept beside the new one", journal.dismiss)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(self.text)
        layout.addWidget(row_of(self.restore_button, self.dismiss_button))
        journal.found.connect(self._show)
        self._show(journal.interrupted)

    def _show(self, found: JournalFile | None) -> None:
        self.setVisible(found is not None)
        if found is not None:
            count, planes = len(found.label_steps), len(prompts_by_plane(found))
            when = str(found.entries[-1].get("at", ""))[:16].replace("T", " ")
            steps = f"{count} step{'' if count == 1 else 's'}{' and prompts' if planes else ''}"
            self.text.setText(f"<b>An earlier session was not ended</b><br>{steps}, last at {when} UTC")
            self.text.setToolTip(str(found.path))
