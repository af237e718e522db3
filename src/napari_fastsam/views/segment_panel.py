"""Choose what to segment, run, watch, cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QProgressBar, QSizePolicy, QVBoxLayout, QWidget
from superqt.utils import signals_blocked

from fastsam_core._axis_names import is_channels
from fastsam_core.registry import MODELS
from napari_fastsam._convert import layer_shape
from napari_fastsam._napari import grid_of
from napari_fastsam._planes import MAX_COLOUR_CHANNELS
from napari_fastsam.controllers.canvas import is_overlay
from napari_fastsam.views.layer_combo import LayerCombo
from napari_fastsam.views.parts import button, form, hint, painted_later

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

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
_OPAQUE = ("translucent", "translucent_no_depth", "opaque")


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
        self.stack.setToolTip("Segment plane after plane along an axis and link objects by their overlap")
        self._watched: list[Any] = []
        events = session.viewer.layers.events
        shown_beside = grid_of(session.viewer).events.enabled
        self._connected = (events.inserted, events.removed, events.reordered, shown_beside)
        self._axes: dict[Hashable, int] = {}
        """By image: the axis that was chosen for its stacks."""
        self._chosen_channels: dict[Hashable, tuple[int | None, bool]] = {}
        """By image: the axis of the channels that was chosen, and whether all visible images are blended."""
        self.along = _narrow_combo("The axis that the stack runs along; the other sliders stay where they are")
        self.along.setAccessibleName("Axis of the stack")
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
        for widget in (self.stack, self.along, self.run_button, self.progress, self.note):
            layout.addWidget(widget)
        self.model.currentTextChanged.connect(self._on_model_name)
        self._select_model(session.settings.model)
        self._on_model_name(self.model.currentText())
        self.image.chosen.connect(self._on_image)
        self.channels.currentIndexChanged.connect(self._on_channels)
        self.model.activated.connect(self._on_model)
        self.region.currentIndexChanged.connect(lambda _: self._advise())
        self.along.currentIndexChanged.connect(self._on_along)
        self.stack.toggled.connect(lambda _: self._describe_stack())
        controller.running_changed.connect(self._on_running)
        controller.progress.connect(self._on_progress)
        session.plane_changed.connect(self._on_plane)
        session.image_resized.connect(self._on_resized)
        session.axes_renamed.connect(self._on_axis_names)
        self._on_image(self.image.layer)
        for event in self._connected:
            event.connect(self._advise)

    # ---- choices ------------------------------------------------------------------------------------------------

    def _select_model(self, name: str) -> None:
        if self.model.findText(name) < 0:
            self.model.insertItem(self.model.count() - 1, name)
        self.model.setCurrentText(name)

    def _on_model_name(self, name: str) -> None:
        if name != _FILE:
            self.controller.model = name

    def _on_model(self, index: int) -> None:
        if self.model.currentText() == _FILE:
            path, _ = QFileDialog.getOpenFileName(self, "Weights", "", "Weights (*.safetensors *.pt)")
            self._select_model(path or self.controller.model)

    def _on_image(self, layer: Any) -> None:
        self._offer_channels(layer, self._chosen_channels.get(getattr(layer, "unique_id", None), (None, False)))
        self._on_channels()

    def _on_resized(self) -> None:
        self._chosen_channels.pop(self.session.image_id, None)
        self._offer_channels(self.session.image)

    def _on_axis_names(self) -> None:
        self._offer_channels(self.session.image, (self.session.channel_axis, self.session.blend))
        self._on_plane()

    def _offer_channels(self, layer: Any, chosen: tuple[int | None, bool] = (None, False)) -> None:
        choices: list[tuple[str, tuple[int | None, bool]]] = [("As shown", (None, False))]
        if layer is not None and not layer.rgb:
            shape, names = layer_shape(layer), self.session.axis_names(layer)
            for axis in sorted(range(layer.ndim), key=lambda axis: not is_channels(names[axis])):
                if layer.ndim > 2 and 2 <= shape[axis] <= MAX_COLOUR_CHANNELS:
                    choices.append((f"{shape[axis]} channels along {names[axis]}", (axis, False)))
            choices.append(("Visible images, blended", (None, True)))
        known = [choice for _, choice in choices]
        with signals_blocked(self.channels):
            self.channels.clear()
            for text, choice in choices:
                self.channels.addItem(text, choice)
            self.channels.setCurrentIndex(known.index(chosen) if chosen in known else 0)

    def _on_channels(self, index: int = 0) -> None:
        axis, blend = self.channels.currentData() or (None, False)
        self.session.set_image(self.image.layer, channel_axis=axis, blend=blend)
        self._chosen_channels[self.session.image_id] = axis, blend

    def _on_plane(self) -> None:
        axes = self._stack_axes()
        names = {axis: f"Along {self._axis_name(axis)}: {self._planes_along(axis)} planes" for axis in axes}
        if {self.along.itemData(k): self.along.itemText(k) for k in range(self.along.count())} != names:
            with signals_blocked(self.along):
                self.along.clear()
                for axis, name in names.items():
                    self.along.addItem(name, axis)
                if axes:
                    chosen = self._axes.get(self.session.image_id)
                    axis = chosen if chosen in axes else max(axes, key=self._suits)
                    self.along.setCurrentIndex(axes.index(axis))
        self._describe_stack()
        self._advise()

    def _on_along(self, index: int) -> None:
        if (axis := self.stack_axis()) is not None:
            self._axes[self.session.image_id] = axis
        self._describe_stack()

    def _describe_stack(self) -> None:
        axis = self.stack_axis()
        self.stack.setVisible(axis is not None)
        self.along.setVisible(self.along.count() > 1 and self.stack.isChecked())
        if axis is not None:
            self.stack.setText(f"All {self._planes_along(axis)} planes along {self._axis_name(axis)}, linked")

    def _stack_axes(self) -> list[int]:
        """Return the axes of the image that have a slider."""
        plane = self.session.plane
        return [] if plane is None else [axis for axis in plane.fixed if self._planes_along(axis) > 1]

    def _suits(self, axis: int) -> tuple[bool, int]:
        """Say how well a stack may run along an axis: the longest one best, channels last."""
        return not is_channels(self._axis_name(axis)), self._planes_along(axis)

    def _planes_along(self, axis: int) -> int:
        image = self.session.image
        return 0 if image is None else layer_shape(image)[axis]

    def _axis_name(self, axis: int) -> str:
        image = self.session.image
        return "" if image is None else self.session.axis_names(image)[axis]

    def _advise(self, event: object = None) -> None:
        image, plane = self.session.image, self.session.plane
        above = self._above()
        self._watch([] if image is None else [image, *above])
        text = ""
        if image is not None and plane is not None and self.region.currentData() == "plane":
            side = max(layer_shape(image)[axis] for axis in plane.axes_yx)
            if side > _LARGE_PX:
                text = f"The plane is {side} px wide: small objects are missed. Segment it in tiles."
        if image is not None and not image.visible:
            text = f"{text} The image is hidden.".strip()
        elif cover := next((one.name for one in above if self._is_covered(one)), ""):
            text = f"{text} '{cover}' covers the image: what is found lies under it.".strip()
        self.note.setText(text)
        self.note.setVisible(bool(text))

    def _above(self) -> list[Any]:
        """Return the images that lie above the one that is chosen, the lowest first."""
        viewer, image_id = self.session.viewer, self.session.image_id
        place = next((k for k, one in enumerate(viewer.layers) if one.unique_id == image_id), len(viewer.layers))
        return [one for one in viewer.layers[place + 1 :] if is_image(one)]

    def _is_covered(self, by: Any) -> bool:
        """Tell whether an image above hides the middle of the one that is chosen."""
        image = self.session.image
        opaque = by.visible and by.opacity == 1 and by.blending in _OPAQUE
        if image is None or not opaque or grid_of(self.session.viewer).enabled:
            return False
        low, high = by.extent.world[:, -2:]
        middle = image.extent.world[:, -2:].mean(axis=0)
        return bool(((low <= middle) & (middle <= high)).all())

    def _watch(self, layers: Sequence[Any]) -> None:
        """Look again when one of these images is shown, hidden or made transparent."""
        for connect, those in ((False, self._watched), (True, layers)):
            for layer in those:
                for event in (layer.events.visible, layer.events.opacity, layer.events.blending):
                    (event.connect if connect else event.disconnect)(self._advise)
        self._watched = list(layers)

    def disconnect_viewer(self) -> None:
        """Stop following the viewer."""
        self.image.disconnect_viewer()
        self._watch(())
        for event in self._connected:
            event.disconnect(self._advise)

    def stack_axis(self) -> int | None:
        """Return the axis of the image that the stack runs along: the one that was chosen, or that suits best."""
        return cast("int | None", self.along.currentData())

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
