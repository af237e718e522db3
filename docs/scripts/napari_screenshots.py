"""Make the pictures of ``docs/napari.md`` with the real widget, the real model and real images.

Run with a display: ``xvfb-run -s "-screen 0 1600x1200x24" python docs/scripts/napari_screenshots.py``.
"""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

OUT = Path(__file__).parents[1] / "images" / "napari"
SIZE = (1280, 1000)


def pump(seconds: float = 0.3) -> None:
    """Let Qt draw for a while."""
    from qtpy.QtWidgets import QApplication

    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        QApplication.processEvents()
        time.sleep(0.005)


def take(viewer: Any, name: str) -> None:
    """Save a picture of the whole window."""
    from skimage.io import imsave

    pump()
    OUT.mkdir(parents=True, exist_ok=True)
    imsave(OUT / f"{name}.png", viewer.screenshot(canvas_only=False, flash=False))
    print("made", name, flush=True)


def segment(widget: Any) -> None:
    """Press the button and wait."""
    widget.segment_panel.run_button.click()
    while widget.segmentation.running:
        pump(0.05)


def open_sample(viewer: Any, make: Any) -> None:
    """Put a sample in place of what is there."""
    from napari.layers import Layer

    viewer.layers.clear()
    for data in make():
        viewer.add_layer(Layer.create(*data))
    pump()
    viewer.reset_view()


def hover_over(widget: Any, index: int) -> None:
    """Move the mouse over a candidate."""
    image, columns = widget.session.image, widget.session.candidates.columns
    place = np.zeros(image.ndim)
    for axis, at in widget.session.plane.fixed.items():
        place[axis] = at
    place[list(widget.session.plane.axes_yx)] = columns["y"][index] - 0.5, columns["x"][index] - 0.5
    event = SimpleNamespace(position=image.data_to_world(place), modifiers=[], is_dragging=False)
    time.sleep(0.05)
    for callback in widget.viewer.mouse_move_callbacks:
        callback(widget.viewer, event)


def scroll_to(widget: Any, part: Any) -> None:
    """Bring a part of the widget into view."""
    from qtpy.QtWidgets import QScrollArea

    area = widget.findChild(QScrollArea)
    area.verticalScrollBar().setValue(part.mapTo(area.widget(), part.rect().topLeft()).y() - 30)


def main() -> None:
    """Make all pictures."""
    import napari

    from napari_fastsam import _samples

    viewer = napari.Viewer(show=True)
    viewer.window.resize(*SIZE)
    _dock, widget = viewer.window.add_plugin_dock_widget("fastsam-plugins", "FastSAM")
    open_sample(viewer, _samples.coins)
    segment(widget)
    take(viewer, "coins")

    widget.hover.set_enabled(True)
    hover_over(widget, int(np.argsort(widget.session.candidates.columns["y"])[-3]))
    widget.guide.hide()
    scroll_to(widget, widget.pick_panel)
    take(viewer, "hover")

    widget.hover.set_enabled(False)
    widget.pick_panel.add_points()
    columns = widget.session.candidates.columns
    for index in (1, 4, 6):
        widget.prompts.points.add([[columns["y"][index] - 0.5, columns["x"][index] - 0.5]])
    widget.label_panel.commit_picked()
    widget.prompts.points.add([[columns["y"][9] - 0.5, columns["x"][9] - 0.5]])
    scroll_to(widget, widget.label_panel)
    take(viewer, "table")

    open_sample(viewer, _samples.nuclei_stack)
    viewer.dims.set_current_step(0, 12)
    scroll_to(widget, widget.segment_panel)
    segment(widget)
    take(viewer, "nuclei")
    viewer.close()


if __name__ == "__main__":
    main()
