"""What axes are called: by the layer, else by the sliders; and what is done along time, depth and channels."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Image, Labels

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Make


def choices(combo: Any) -> list[str]:
    return [combo.itemText(k) for k in range(combo.count())]


def test_names_that_the_user_gave_the_sliders(viewer: Any, make_widget: Make, tmp_path: Path) -> None:
    """They were not seen: napari keeps them apart from the layers' names."""
    viewer.add_layer(Image(np.zeros((2, 3, 80, 90), np.uint8), name="Image"))
    labels = viewer.add_layer(Labels(np.ones((2, 3, 80, 90), np.uint8), name="mine"))
    widget = make_widget(viewer)
    panel = widget.segment_panel
    panel.channels.setCurrentText("2 channels along axis -4")
    assert panel.stack.text() == "All 3 planes along axis -3, linked"
    viewer.dims.axis_labels = ("c", "t", "y", "x")
    assert choices(panel.channels)[:3] == ["As shown", "2 channels along c", "3 channels along t"]
    assert (panel.channels.currentText(), widget.session.channel_axis) == ("2 channels along c", 0)
    assert panel.stack.text() == "All 3 planes along t, linked"
    panel.channels.setCurrentText("As shown")
    viewer.dims.set_axis_label(1, "c")
    assert panel.stack_axis() == 1, "the longer of two"
    viewer.dims.set_axis_label(0, "")
    assert panel.stack.text() == "All 2 planes along axis -4, linked", "the other is one of channels"
    viewer.dims.axis_labels = ("z", "t", "y", "x")
    widget.label_panel.target.set_layer(labels)
    widget.label_panel.export("csv", path=str(tmp_path / "labels.csv"))
    rows = list(csv.DictReader((tmp_path / "labels.csv").read_text().splitlines()))
    assert [(row["t"], row["area"]) for row in rows] == [(place, "14400.0") for place in "012"]


def test_names_of_the_layer_come_first(viewer: Any, make_widget: Make) -> None:
    """They come from the file; napari, too, puts them over those of the sliders as soon as layers change."""
    viewer.add_layer(Image(np.zeros((2, 4, 80, 90), np.uint8), name="Image", axis_labels=("t", "-3", "y", "x")))
    widget = make_widget(viewer)
    viewer.dims.axis_labels = ("c", "depth", "y", "x")
    assert widget.segment_panel.stack.text() == "All 4 planes along depth, linked"
    assert "2 channels along t" in choices(widget.segment_panel.channels)
    viewer.layers[0].axis_labels = ("t", "z", "y", "x")
    assert widget.segment_panel.stack.text() == "All 4 planes along z, linked", "without another step"


def test_axes_that_share_a_name_are_told_apart(viewer: Any, make_widget: Make) -> None:
    """The table had one column for both."""
    labels = viewer.add_labels(np.ones((2, 3, 40, 50), np.uint8), name="mine", axis_labels=("t", "t", "y", "x"))
    widget = make_widget(viewer)
    assert widget.session.axis_names(labels) == ("axis -4", "axis -3", "y", "x")


def test_names_while_the_image_goes(viewer: Any, make_widget: Make) -> None:
    viewer.add_layer(Image(np.zeros((5, 3, 2, 80, 90), np.uint8), name="Image", axis_labels=("t", "z", "c", "y", "x")))
    widget = make_widget(viewer)
    viewer.dims.order = (3, 4, 1, 2, 0)
    viewer.layers[0].data = np.zeros((80, 90), np.uint8)
    assert choices(widget.segment_panel.channels) == ["As shown", "Visible images, blended"]
    viewer.layers.clear()
    viewer.dims.axis_labels = ("q", "r")
    assert choices(widget.segment_panel.channels) == ["As shown"]


@pytest.mark.parametrize(
    ("axes", "place"),
    [
        (("t", "z", "c", "y", "x"), (1, 2, 1)),
        (("z", "c", "y", "x"), (2, 1)),
        (("z", "p", "y", "x"), (2, 1)),
        (("c", "y", "x"), (1,)),
    ],
)
def test_drawings_keep_to_depth_and_time(
    viewer: Any, make_widget: Make, tmp_path: Path, axes: tuple[str, ...], place: tuple[int, ...]
) -> None:
    """Channels were taken for depth, and depth for time where another axis was last."""
    viewer.add_layer(Image(np.zeros((*[3] * (len(axes) - 2), 80, 90), np.uint8), name="Image"))
    viewer.dims.axis_labels = axes
    widget = make_widget(viewer)
    viewer.dims.set_current_step(range(len(place)), (1,) * len(place))
    geometry = {"type": "Point", "coordinates": [20, 30], "plane": {"c": -1, "z": 2, "t": 1}}
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "Feature", "geometry": geometry, "properties": {}}))
    widget.pick_panel.load(str(tmp_path / "a.geojson"))
    assert tuple(viewer.layers["FastSAM points"].data[0, :-2]) == place
