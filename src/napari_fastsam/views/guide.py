"""A short walkthrough for the first use."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QFrame, QLabel, QVBoxLayout

from napari_fastsam._samples import coins
from napari_fastsam._settings import write_setting
from napari_fastsam.views.parts import button, row_of

__all__ = ["Guide"]

_STEPS = (
    "<b>1 / 4 · Open an image</b><br>Any image layer will do: gray, colour, 16 bit, stacks. Or try the coins.",
    "<b>2 / 4 · Segment everything</b><br>The network runs once and finds all candidates. Hide what you do not "
    "want with the sliders: that needs no network any more.",
    "<b>3 / 4 · Pick</b><br>Press <b>H</b>, move over the objects, click. Drag over several, or use Points and Shapes "
    "layers. Shift + wheel walks from part to group.",
    "<b>4 / 4 · Labels</b><br>What you click goes into a Labels layer. Ctrl+Z takes it back. Nothing there? "
    "<b>N</b> looks again, closer. Export when you are done.",
)


class Guide(QFrame):
    """Four steps, one at a time, as far as the user has come; can be put away for good.

    Parameters
    ----------
    viewer : napari Viewer
    """

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._step = 0
        self.setStyleSheet("Guide { border: 1px solid #3a9bc1; border-radius: 4px; }")
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.sample = button("Try the coins", "Open a sample image", self._open_sample)
        self.next_button = button("Next", "Next step", self.next_step)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(self.text)
        layout.addWidget(
            row_of(self.sample, self.next_button, button("Hide", "Do not show again", self._hide_for_good))
        )
        self._show()

    def _show(self) -> None:
        self.text.setText(_STEPS[self._step])
        self.sample.setVisible(self._step == 0)
        self.next_button.setText("Next" if self._step < len(_STEPS) - 1 else "Done")

    def reach(self, step: int) -> None:
        """Go on to a step, counted from 0, if it is not reached yet: what comes before it was done."""
        if step > self._step:
            self._step = step
            self._show()

    def next_step(self) -> None:
        """Go on, or put the walkthrough away after the last step."""
        self._step += 1
        if self._step == len(_STEPS):
            self._hide_for_good()
        else:
            self._show()

    def _open_sample(self) -> None:
        from napari.layers import Image

        for data, options, _ in coins():
            self._viewer.add_layer(Image(data, **options))
        self.reach(1)

    def _hide_for_good(self) -> None:
        write_setting("walkthrough", False)
        self.hide()
