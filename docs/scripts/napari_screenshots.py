"""Make the pictures of ``docs/napari.md`` with the real widget, the real model and real images.

Run ``python docs/scripts/napari_screenshots.py``; without a display it starts Xvfb.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
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


def drawn_shapes() -> Any:
    """Draw circles, squares and triangles in four colours on gray paper."""
    from skimage.draw import disk, polygon

    rng = np.random.default_rng(4)
    image = rng.normal(205, 4, (420, 560, 3))
    colours = {"red": (200, 40, 40), "blue": (40, 70, 200), "green": (40, 150, 60), "yellow": (225, 200, 40)}
    for number, (row, column) in enumerate(np.ndindex(3, 4)):
        y, x = 75 + 135 * row + rng.integers(-12, 12), 75 + 137 * column + rng.integers(-12, 12)
        size = int(rng.integers(34, 48))
        turn = np.deg2rad(rng.uniform(0, 90)) + np.arange(4 if number % 3 == 1 else 3) * 2 * np.pi
        angles = turn / (4 if number % 3 == 1 else 3) + 1.5 * np.pi
        corners = polygon(y + 1.2 * size * np.sin(angles), x + 1.2 * size * np.cos(angles), image.shape[:2])
        place = disk((y, x), size, shape=image.shape[:2]) if number % 3 == 0 else corners
        image[place] = list(colours.values())[(number + number // 4) % 4] + rng.normal(0, 5, (len(place[0]), 3))
    return [(np.clip(image, 0, 255).astype(np.uint8), {"name": "shapes", "rgb": True}, "image")]


def ask(widget: Any, text: str) -> None:
    """Type a text and press Enter."""
    widget.words_panel.text.setText(text)
    widget.words.ask(text)
    while widget.words.running:
        pump(0.05)


def make_pictures() -> None:
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
    lowest_first = np.argsort(-widget.session.candidates.columns["y"])
    hover_over(widget, int(lowest_first[widget.session.shown[lowest_first]][2]))
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

    open_sample(viewer, drawn_shapes)
    segment(widget)
    ask(widget, "red, blue")
    scroll_to(widget, widget.words_panel)
    take(viewer, "words")
    viewer.close()


def main() -> None:
    """Make all pictures on the display there is, or on a virtual one."""
    sys.path.insert(0, str(ROOT / "tools"))
    from local_services import display

    with display() as name:
        os.environ["DISPLAY"] = name
        make_pictures()


if __name__ == "__main__":
    main()
