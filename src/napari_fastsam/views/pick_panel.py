"""Hover tool, prompt layers, and how prompts are answered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QHBoxLayout, QVBoxLayout, QWidget
from superqt.utils import signals_blocked

from fastsam_core.drawings import DRAWING_SUFFIXES
from fastsam_core.errors import ImageContentError
from napari_fastsam._notify import notices
from napari_fastsam.controllers.status import describe_candidate
from napari_fastsam.views.layer_combo import LayerCombo
from napari_fastsam.views.parts import button, form, hint, row_of

if TYPE_CHECKING:
    from fastsam_core._prompt_types import Level
    from napari_fastsam.controllers.hover import HoverController
    from napari_fastsam.controllers.prompts import PromptController
    from napari_fastsam.controllers.segmentation import SegmentationController
    from napari_fastsam.controllers.session import Session

__all__ = ["PickPanel"]

_LEVELS: dict[Level, str] = {
    "auto": "Automatic",
    "part": "Part (smallest)",
    "object": "Object (most confident)",
    "group": "Group (largest)",
}
_DRAWINGS = f"Drawings ({' '.join('*' + suffix for suffix in DRAWING_SUFFIXES)})"
_HOVER_HINT = "Click commits, drag sweeps, Shift + wheel: part ↔ group, Shift + click picks"


class PickPanel(QWidget):
    """How the user says which candidates are wanted.

    Parameters
    ----------
    session, prompts, hover, segmentation
        What the panel controls.
    """

    def __init__(
        self,
        session: Session,
        prompts: PromptController,
        hover: HoverController,
        segmentation: SegmentationController,
    ) -> None:
        super().__init__()
        self.session, self.prompts, self.hover, self.segmentation = session, prompts, hover, segmentation
        self.hover_button = button("Hover tool  [H]", _HOVER_HINT, checkable=True)
        self.hover_button.toggled.connect(hover.set_enabled)
        hover.enabled_changed.connect(lambda enabled: self.hover_button.setChecked(enabled))
        self.look_button = button(
            "Look here  [N]",
            "No candidate under the cursor? Look again at the surroundings of the cursor, enlarged; put the mouse over "
            "the object and press N",
            self.look_here,
        )
        self.under_cursor = hint(_HOVER_HINT)
        self.points = LayerCombo(session.viewer, _is("Points"), "none")
        self.points.setToolTip("Points say where objects are; their feature 'polarity' tells on from off the object")
        self.shapes = LayerCombo(session.viewer, _is("Shapes"), "none")
        self.shapes.setToolTip(
            "Rectangles are boxes; polygons, lassos and ellipses are regions; lines and paths are scribbles"
        )
        self.level = QComboBox()
        self.level.setToolTip("Which one a point takes where candidates lie in each other")
        for key, text in _LEVELS.items():
            self.level.addItem(text, key)
        self.each = QCheckBox("Each point is an object")
        self.each.setToolTip("Otherwise points with the same 'group' feature describe one object (G: next group)")
        self.each.setChecked(True)
        self.inside = QCheckBox("Shapes take everything inside")
        self.inside.setToolTip("Otherwise a shape takes the one candidate that fits it best")
        self.polarity = button("+ / −  [Q]", "Switch between points on and off the object", self._toggle_polarity)
        self.group = button("Next group  [G]", "The next points describe another object", self._next_group)
        self.load_button = button(
            "Load …", "Prompts drawn in QuPath (GeoJSON), or in ImageJ or Fiji (.roi, .zip), each an object", self.load
        )
        self.points.setAccessibleName("Points")
        self.shapes.setAccessibleName("Shapes")
        fields = form()
        fields.addRow("Points", _with_new(self.points, "Add a Points layer for prompts", self.add_points))
        fields.addRow("Shapes", _with_new(self.shapes, "Add a Shapes layer for prompts", self.add_shapes))
        fields.addRow("Level", self.level)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(row_of(self.hover_button, self.look_button))
        layout.addWidget(self.under_cursor)
        layout.addLayout(fields)
        layout.addWidget(row_of(self.polarity, self.group, self.load_button))
        layout.addWidget(self.each)
        layout.addWidget(self.inside)
        self.points.chosen.connect(prompts.set_points)
        self.shapes.chosen.connect(self._on_shapes)
        self.level.currentIndexChanged.connect(self._on_options)
        self.each.toggled.connect(self._on_options)
        self.inside.toggled.connect(self._on_options)
        session.hovered.connect(self._show_hovered)
        session.options_changed.connect(self._show_options)
        prompts.followed.connect(self._show_followed)

    def add_points(self) -> None:
        """Add a Points layer and follow it."""
        with notices():
            self.points.set_layer(self.prompts.add_points() or _no_image())

    def add_shapes(self) -> None:
        """Add a Shapes layer and follow it."""
        with notices():
            self.shapes.set_layer(self.prompts.add_shapes() or _no_image())

    def load(self, path: str = "") -> None:
        """Take what was drawn in another program as prompts."""
        with notices():
            plane = self.session.require_plane()
            path = path or QFileDialog.getOpenFileName(self, "Load prompts", "", _DRAWINGS)[0]
            if path:
                self.prompts.load(Path(path), plane)

    def look_here(self) -> None:
        """Look again around the cursor."""
        with notices():
            self.session.require_plane()
            if self.hover.point_yx is None:
                raise ImageContentError(
                    "The mouse has not been over the image yet", remedy="move it onto an object and press N"
                )
            self.segmentation.look_at(self.hover.point_yx)

    def _on_shapes(self, layer: Any) -> None:
        self.prompts.set_shapes(layer)
        self.segmentation.rectangle_layer = layer

    def _on_options(self, value: object = None) -> None:
        options = replace(
            self.session.options,
            level=cast("Level", self.level.currentData()),
            each_point=self.each.isChecked(),
            everything_inside=self.inside.isChecked(),
        )
        self.session.set_options(options)

    def _show_options(self) -> None:
        options = self.session.options
        with signals_blocked(self.level), signals_blocked(self.each), signals_blocked(self.inside):
            self.level.setCurrentIndex(self.level.findData(options.level))
            self.each.setChecked(options.each_point)
            self.inside.setChecked(options.everything_inside)

    def _show_followed(self) -> None:
        self.points.set_layer(self.prompts.points)
        self.shapes.set_layer(self.prompts.shapes)

    def _toggle_polarity(self) -> None:
        if new := self.prompts.toggle_polarity():
            self.polarity.setText(f"{'−' if new == 'negative' else '+'}  points  [Q]")

    def _next_group(self) -> None:
        if number := self.prompts.next_group():
            self.group.setText(f"Group {number}  [G]")
            self.each.setChecked(False)

    def _show_hovered(self, index: int) -> None:
        self.under_cursor.setText(describe_candidate(self.session, index, self.hover.level) or _HOVER_HINT)


def _no_image() -> NoReturn:
    raise ImageContentError("No image is chosen", remedy="open an image and choose it under 'Image'")


def _is(kind: str) -> Any:
    def wanted(layer: Any) -> bool:
        from napari import layers

        return isinstance(layer, getattr(layers, kind))

    return wanted


def _with_new(combo: QWidget, tip: str, clicked: Any) -> QWidget:
    holder = QWidget()
    layout = QHBoxLayout(holder)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(4)
    layout.addWidget(combo, 1)
    layout.addWidget(button("New", tip, clicked))
    return holder
