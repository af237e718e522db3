"""Choose what to segment, run, watch, cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QProgressBar, QSizePolicy, QVBoxLayout, QWidget

from fastsam_core.registry import MODELS
from napari_fastsam._convert import layer_shape
from napari_fastsam._planes import MAX_COLOUR_CHANNELS
from napari_fastsam.controllers.canvas import is_overlay
from napari_fastsam.views.layer_combo import LayerCombo
from napari_fastsam.views.parts import button, form, hint, painted_later

if TYPE_CHECKING:
    from napari_fastsam.controllers.segmentation import RegionChoice, SegmentationController
    from napari_fastsam.controllers.session import Session

__all__ = ["SegmentPanel", "is_image"]

_REGIONS: dict[RegionChoice, str] = {
    "plane": "Whole plane",
    "tiles": "Whole plane, in tiles",
    "view": "Field of view",
    "rectangle": "Selected rectangle",
}
_FILE = "Weights file …"
_LARGE_PX = 3000


def is_image(layer: Any) -> bool:
    """Tell whether a layer is an image of the user with at least two axes."""
    from napari.layers import Image

    return isinstance(layer, Image) and layer.ndim >= 2 and not is_overlay(layer)


class SegmentPanel(QWidget):
    """Image, channels, model, region; the button that runs everything.

    Parameters
    ----------
    session : Session
    controller : SegmentationController
    """

    def __init__(self, session: Session, controller: SegmentationController) -> None:
        super().__init__()
        self.session, self.controller = session, controller
        self.image = LayerCombo(session.viewer, is_image)
        self.image.setToolTip("The image to segment; its contrast limits decide what the network sees")
        self.channels = _narrow_combo("How several channels become one picture")
        self.model = _narrow_combo("The network. 'builtin' needs no download; others are fetched once")
        self.model.addItems([*MODELS, _FILE])
        self.region = _narrow_combo(
            "Segment the whole plane at once, or in tiles at full resolution; only what the canvas shows (at full "
            "resolution); or the rectangle that is selected in the Shapes layer under 'Pick'"
        )
        for key, text in _REGIONS.items():
            self.region.addItem(text, key)
        self.stack = QCheckBox("All planes of the stack")
        self.stack.setToolTip("Segment plane after plane along the slider's axis and link objects by their overlap")
        self.run_button = button(
            "Segment everything", "Run the network once; picking needs no network any more", self._run
        )
        self.run_button.setObjectName("segment_everything")
        self.progress = QProgressBar()
        self.progress.setTextVisible(True)
        self.progress.hide()
        self.note = hint()
        self.note.hide()
        fields = form()
        fields.addRow("Image", self.image)
        fields.addRow("Channels", self.channels)
        fields.addRow("Model", self.model)
        fields.addRow("Region", self.region)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(fields)
        for widget in (self.stack, self.run_button, self.progress, self.note):
            layout.addWidget(widget)
        self.model.currentTextChanged.connect(self._on_model_name)
        self._select_model(session.settings.model)
        self._on_model_name(self.model.currentText())
        self.image.chosen.connect(self._on_image)
        self.channels.currentIndexChanged.connect(self._on_channels)
        self.model.activated.connect(self._on_model)
        self.region.currentIndexChanged.connect(lambda _: self._advise())
        controller.running_changed.connect(self._on_running)
        controller.progress.connect(self._on_progress)
        session.plane_changed.connect(self._on_plane)
        self._on_image(self.image.layer)

    # ---- choices ------------------------------------------------------------------------------------------------

    def _select_model(self, name: str) -> None:
        if self.model.findText(name) < 0:
            self.model.insertItem(self.model.count() - 1, name)
        self.model.setCurrentText(name)

    def _on_model_name(self, name: str) -> None:
        self.controller.model = "" if name == _FILE else name

    def _on_model(self, index: int) -> None:
        if self.model.currentText() == _FILE:
            path, _ = QFileDialog.getOpenFileName(self, "Weights", "", "Weights (*.safetensors *.pt)")
            self._select_model(path or self.session.settings.model)

    def _on_image(self, layer: Any) -> None:
        self.channels.blockSignals(True)
        self.channels.clear()
        self.channels.addItem("As shown", (None, False))
        if layer is not None and not layer.rgb:
            shape = layer_shape(layer)
            for axis in range(layer.ndim):
                if layer.ndim > 2 and 2 <= shape[axis] <= MAX_COLOUR_CHANNELS:
                    name = layer.axis_labels[axis]
                    self.channels.addItem(f"Axis {name}: {shape[axis]} channels as colours", (axis, False))
            self.channels.addItem("Visible images, blended", (None, True))
        self.channels.blockSignals(False)
        self._on_channels()

    def _on_channels(self, index: int = 0) -> None:
        axis, blend = self.channels.currentData() or (None, False)
        self.session.set_image(self.image.layer, channel_axis=axis, blend=blend)

    def _on_plane(self) -> None:
        axis = self.stack_axis()
        self.stack.setVisible(axis is not None)
        if axis is not None and self.session.image is not None:
            image = self.session.image
            name = image.axis_labels[axis]
            named = f"axis {name}" if name.lstrip("-").isdigit() else name  # napari's own names are numbers
            self.stack.setText(f"All {layer_shape(image)[axis]} planes along {named}, linked")
        self._advise()

    def _advise(self) -> None:
        image, plane = self.session.image, self.session.plane
        text = ""
        if image is not None and plane is not None and self.region.currentData() == "plane":
            side = max(layer_shape(image)[axis] for axis in plane.axes_yx)
            if side > _LARGE_PX:
                text = f"The plane is {side} px wide: small objects are missed. Segment it in tiles."
        self.note.setText(text)
        self.note.setVisible(bool(text))

    def stack_axis(self) -> int | None:
        """Return the axis of the image that the stack runs along: the first one that has a slider."""
        image, plane = self.session.image, self.session.plane
        if image is None or plane is None:
            return None
        shape = layer_shape(image)
        return next((axis for axis in plane.fixed if shape[axis] > 1), None)

    # ---- running ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        if self.controller.running:
            self.controller.cancel()
            return
        axis = self.stack_axis() if self.stack.isChecked() else None
        self.controller.start(region=cast("RegionChoice", self.region.currentData()), stack_axis=axis)

    def _on_running(self, running: bool) -> None:
        self.run_button.setText("Cancel" if running else "Segment everything")
        self.progress.setVisible(running)

    def _on_progress(self, text: str, done: int, total: int) -> None:
        with painted_later(self.progress):
            self.progress.setRange(0, total if total > 1 else 0)
            self.progress.setValue(done)
            self.progress.setFormat(f"{text} · {done}/{total}" if total > 1 else text)


def _narrow_combo(tip: str) -> QComboBox:
    combo = QComboBox()
    combo.setToolTip(tip)
    combo.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    return combo
