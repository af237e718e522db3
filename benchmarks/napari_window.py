"""A napari window to measure in, with the widget or without, and a clock that notices when it does not answer."""

from __future__ import annotations

import os
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastsam_core.masks import Masks

__all__ = ["Heartbeat", "Scene", "Window", "blobs", "can_show"]

_BEAT_MS = 5


def blobs(count: int, hw: tuple[int, int]) -> Masks:
    """Make discs of many sizes, some inside others."""
    from fastsam_core.masks import Masks

    rng = np.random.default_rng(0)
    crops, origins = [], []
    for _ in range(count):
        radius = int(np.exp(rng.uniform(np.log(4), np.log(max(min(hw) / 12, 5)))))
        y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
        crops.append(y * y + x * x <= radius * radius)
        origins.append((rng.integers(0, hw[0] - 2 * radius), rng.integers(0, hw[1] - 2 * radius)))
    return Masks.from_crops(crops, origins, hw, rng.uniform(0.3, 1, count))


def can_show() -> bool:
    """Tell whether there is a display and napari to show in it."""
    return bool(os.environ.get("DISPLAY")) and all(find_spec(name) for name in ("napari", "qtpy"))


class Window:
    """A viewer with an image and nothing of ours in it: what napari itself takes."""

    def __init__(self, hw: tuple[int, int], image: Any = None) -> None:
        import napari

        self.viewer = napari.Viewer(show=True)
        data = np.zeros(hw, np.uint8) if image is None else image
        self.viewer.add_image(data, name="photo", contrast_limits=(0, 255) if image is None else (300, 6000))

    def repaint(self) -> None:
        """Draw the canvas now."""
        from qtpy.QtWidgets import QApplication

        self.viewer.window._qt_viewer.canvas.native.repaint()
        QApplication.processEvents()

    def close(self) -> None:
        """Close the viewer."""
        self.viewer.close()


class Scene(Window):
    """A viewer with the widget, and an image or made-up candidates in it."""

    def __init__(self, count: int, hw: tuple[int, int], image: Any = None) -> None:
        from napari_fastsam.models.candidates import Candidates
        from napari_fastsam.widget import FastSAMWidget

        os.environ["FASTSAM_JOURNALS"] = os.path.join(os.environ.get("TMPDIR", "/tmp"), "fastsam-bench")
        super().__init__(hw, image)
        self.widget = FastSAMWidget(self.viewer)
        self.viewer.window.add_dock_widget(self.widget)
        session = self.widget.session
        assert session.image is not None
        assert session.plane is not None
        if image is None:
            session.put(session.image.unique_id, session.plane, Candidates.measure(blobs(count, hw)))
        self.repaint()

    def close(self) -> None:
        """Close the viewer."""
        self.widget.shut_down()
        super().close()


class Heartbeat:
    """A timer on the event loop; the longest gap between two beats is how long the window was blocked."""

    def __init__(self) -> None:
        from qtpy.QtCore import QTimer

        self._timer = QTimer()
        self._timer.setInterval(_BEAT_MS)
        self._timer.timeout.connect(self._beat)
        self._last = 0.0
        self._gaps: list[float] = []

    def _beat(self) -> None:
        now = time.perf_counter()
        self._gaps.append(now - self._last)
        self._last = now

    def longest_ms(self, work: Callable[[], object], done: Callable[[], bool], seconds: float = 600) -> float:
        """Start some work, let Qt run until it is done, and return the longest gap."""
        from qtpy.QtWidgets import QApplication

        self._gaps, self._last = [], time.perf_counter()
        self._timer.start()
        QApplication.processEvents()
        work()
        stop = time.perf_counter() + seconds
        while not done() and time.perf_counter() < stop:
            QApplication.processEvents()
            time.sleep(0.001)
        for _ in range(3):
            QApplication.processEvents()
            time.sleep(_BEAT_MS / 1e3)
        self._timer.stop()
        self._beat()
        return max(self._gaps) * 1e3
