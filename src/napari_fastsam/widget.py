"""The dock widget: builds models, controllers and views, and binds keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QFrame, QScrollArea, QSlider, QVBoxLayout, QWidget

from napari_fastsam._convert import in_layer_units
from napari_fastsam._napari import camera_of, units_of
from napari_fastsam.controllers.canvas import OutlineCanvas
from napari_fastsam.controllers.hover import HoverController
from napari_fastsam.controllers.journal import JournalController
from napari_fastsam.controllers.labelling import LabelController
from napari_fastsam.controllers.prompts import PromptController
from napari_fastsam.controllers.segmentation import SegmentationController
from napari_fastsam.controllers.session import Session
from napari_fastsam.controllers.status import StatusLine
from napari_fastsam.controllers.words import WordsController
from napari_fastsam.views.columns import Columns
from napari_fastsam.views.filter_panel import FilterPanel
from napari_fastsam.views.guide import Guide
from napari_fastsam.views.label_panel import LabelPanel
from napari_fastsam.views.parts import Passing, section
from napari_fastsam.views.pick_panel import PickPanel
from napari_fastsam.views.restore_bar import RestoreBar
from napari_fastsam.views.segment_panel import SegmentPanel
from napari_fastsam.views.table import CandidateTable
from napari_fastsam.views.words_panel import WordsPanel

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FastSAMWidget"]

_MIN_WIDTH_PX = 300
_AUTOSAVE_MS = 800
_CLOSING_MS = 500
"""napari removes all layers when it is closed; if the widget is still there after so long, the user removed them."""


class FastSAMWidget(QWidget):
    """Segment everything once, then pick.

    Parameters
    ----------
    napari_viewer : napari Viewer
        The viewer it works in.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self._docked = False
        self.viewer = napari_viewer
        self.session = Session(napari_viewer)
        self.segmentation = SegmentationController(self.session)
        self.prompts = PromptController(self.session)
        self.labels = LabelController(self.session)
        self.hover = HoverController(self.session, self.labels.commit)
        self.canvas = OutlineCanvas(self.session)
        self.segmentation.begun.connect(self.canvas.make_ready)
        self.segmentation.running_changed.connect(self.canvas.on_running)
        self.journal = JournalController(self.session, self.segmentation, self.prompts, self.labels)
        self.status = StatusLine(self.session, self.hover)
        self.words = WordsController(self.session)
        self.filter_panel = FilterPanel(self.session)
        self.pick_panel = PickPanel(self.session, self.prompts, self.hover, self.segmentation)
        self.words_panel = WordsPanel(self.words)
        self.label_panel = LabelPanel(self.session, self.labels)
        self.table = CandidateTable(self.session)
        self.segment_panel = SegmentPanel(self.session, self.segmentation)
        self.table.activated_candidate.connect(self.go_to)
        self._autosave = QTimer(self)
        self._autosave.setSingleShot(True)
        self._autosave.setInterval(_AUTOSAVE_MS)
        self._autosave.timeout.connect(self.journal.save_prompts)
        self._goes_on = QTimer(self)  # it is gone with napari's window
        self._goes_on.setSingleShot(True)
        self._goes_on.setInterval(_CLOSING_MS)
        self._goes_on.timeout.connect(self.journal.end_removed)
        self._fonts = QTimer(self)
        self._fonts.setSingleShot(True)
        self._fonts.timeout.connect(self._take_font)
        napari_viewer.layers.events.removed.connect(self._on_removed)
        self.session.candidates_changed.connect(self._guide_on)
        self.labels.written.connect(self._guide_on)
        self.session.selection_changed.connect(self._save_soon)
        self.session.plane_leaving.connect(self._save_now)
        self._lay_out()
        self._guide_on()
        self._keys: dict[str, Callable[[Any], object]] = {
            "H": lambda _: self.hover.set_enabled(not self.hover.enabled),
            "K": lambda _: self.label_panel.commit_picked(),
            "N": lambda _: self.pick_panel.look_here(),
            "Q": lambda _: self.pick_panel.polarity.click(),
            "G": lambda _: self.pick_panel.group.click(),
            "Control-Z": lambda _: self.labels.undo(),
            "Control-Shift-Z": lambda _: self.labels.redo(),
        }
        work = (self.segmentation, self.labels.planning, self.words, self.label_panel, self.journal)
        self.destroyed.connect(lambda: [one.abandon() for one in work])  # napari's window was closed with it
        for key, action in self._keys.items():
            napari_viewer.bind_key(key, action, overwrite=True)

    def _lay_out(self) -> None:
        self.guide = Guide(self.viewer)
        self.restore_bar = RestoreBar(self.journal, self)
        self._columns = Columns(
            (
                self.guide,
                self.restore_bar,
                section("1 · Segment", self.segment_panel),
                section("2 · Filter", self.filter_panel),
                section("3 · Pick", self.pick_panel),
                section("Words and likeness", self.words_panel),
                section("4 · Labels", self.label_panel),
                section("Table", self.table),
            )
        )
        self.guide.setVisible(self.session.settings.walkthrough)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setWidget(self._columns)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)
        self.setMinimumWidth(_MIN_WIDTH_PX)
        passing = Passing(self)
        self.table.installEventFilter(passing)
        for kind in (QComboBox, QAbstractSpinBox, QSlider):
            for child in self.findChildren(kind):
                child.installEventFilter(passing)

    def _guide_on(self, *written: object) -> None:
        found, image = self.session.candidates, self.session.image
        self.guide.reach(3 if written else 2 if found is not None and len(found) else int(image is not None))

    def _on_removed(self) -> None:
        self._goes_on.start()

    def _save_soon(self) -> None:
        self._autosave.start()

    def _save_now(self) -> None:
        if self._autosave.isActive():
            self._autosave.stop()
            self.journal.save_prompts()

    def go_to(self, index: int) -> None:
        """Bring a candidate into the middle of the canvas."""
        candidates, image, plane = self.session.candidates, self.session.image, self.session.plane
        if candidates is None or image is None or plane is None:
            return
        position = np.zeros(image.ndim)
        for axis, place in plane.fixed.items():
            position[axis] = place
        position[list(plane.axes_yx)] = candidates.columns["y"][index] - 0.5, candidates.columns["x"][index] - 0.5
        factors = in_layer_units(image, np.ones(image.ndim), units_of(self.viewer))
        world = np.asarray(image.data_to_world(position)) / factors
        missing = self.viewer.dims.ndim - image.ndim
        shown = [axis - missing for axis in self.viewer.dims.displayed]
        camera_of(self.viewer).center = tuple(world[shown])

    def changeEvent(self, event: Any) -> None:
        """Notice that napari's font size may be another one; labels have it a moment later."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange:
            self._fonts.start()

    def _take_font(self) -> None:
        """Give napari's font to what its style leaves as small as it is: the table, and the field for words."""
        font = self.label_panel.preview.font()
        self.words_panel.text.setFont(font)
        self.table.take_font(font)

    def resizeEvent(self, event: Any) -> None:
        """Put sections side by side where there is room."""
        super().resizeEvent(event)
        self._columns.fit(self.width())

    def event(self, event: Any) -> bool:
        """Notice that the dock was closed: napari takes the widget out of it then."""
        if event.type() == QEvent.Type.ParentChange:
            if self._docked and self.parent() is None:
                self.shut_down()
            self._docked = self.parent() is not None
        return bool(super().event(event))

    def closeEvent(self, event: Any) -> None:
        """Leave the viewer as it was: no callbacks, no own overlay layers; labels and prompts stay."""
        self.shut_down()
        super().closeEvent(event)

    def shut_down(self) -> None:
        """Stop work and let go of the viewer; safe to call twice."""
        if self._keys:
            for key in self._keys:
                self.viewer.bind_key(key, None, overwrite=True)
            self._keys = {}
            self.segmentation.cancel()
            self._autosave.stop()
            self._goes_on.stop()
            self.viewer.layers.events.removed.disconnect(self._on_removed)
            self.session.candidates_changed.disconnect(self._guide_on)
            self.session.selection_changed.disconnect(self._save_soon)
            self.session.plane_leaving.disconnect(self._save_now)
            self.journal.save_prompts()
            self.journal.close()
            self.hover.close()
            self.status.close()
            self.words.close()
            self.prompts.close()
            self.labels.close()
            for combo in (
                self.segment_panel,
                self.pick_panel.points,
                self.pick_panel.shapes,
                self.label_panel.target,
            ):
                combo.disconnect_viewer()
            self.table.close_session()
            self.canvas.close()
            self.session.close()
