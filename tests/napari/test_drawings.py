"""What was drawn in QuPath or ImageJ becomes prompts, on the plane that it was drawn on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Image, Shapes
from napari.utils.notifications import notification_manager

from fastsam_core import Masks
from fastsam_core.outlines import write_geojson, write_rois
from fastsam_core.stacks import LinkedStack

from .conftest import THREE, Make, discs, run

if TYPE_CHECKING:
    from pathlib import Path


def _masks(*places: tuple[int, int, int]) -> Masks:
    return Masks.from_dense([discs(80, 90, place) > 0 for place in places])


@pytest.mark.usefixtures("blob_model")
@pytest.mark.parametrize("scale", [1, 0.2])
def test_drawings_are_prompts_on_the_image(
    viewer: Any, make_widget: Make, qtbot: Any, tmp_path: Path, scale: float
) -> None:
    viewer.add_layer(Image(discs(80, 90, *THREE), name="Image", scale=(scale, scale)))
    widget = make_widget(viewer)
    run(qtbot, widget)
    path = write_rois(tmp_path / "RoiSet.zip", _masks(*THREE[:2]))
    widget.pick_panel.load(str(path))
    assert widget.pick_panel.shapes.layer is viewer.layers["FastSAM shapes"]
    assert len(widget.session.prompts.regions_yx) == 2
    widget.label_panel.commit_picked()
    labels = viewer.layers["Image labels"].data
    np.testing.assert_array_equal(labels > 0, discs(80, 90, *THREE[:2]) > 0)


def test_points_alone_make_no_empty_shapes(viewer: Any, make_widget: Make, tmp_path: Path) -> None:
    """An empty layer took the place of the user's shapes."""
    viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name="Image"))
    viewer.add_layer(Shapes([[[1, 1], [9, 9]]], name="mine"))
    widget = make_widget(viewer)
    widget.pick_panel.shapes.set_layer(viewer.layers["mine"])
    geometry = {"type": "Point", "coordinates": [20, 30]}
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "Feature", "geometry": geometry, "properties": {}}))
    widget.pick_panel.load(str(tmp_path / "a.geojson"))
    assert [layer.name for layer in viewer.layers] == ["Image", "mine", "FastSAM points"]
    assert widget.pick_panel.shapes.layer is viewer.layers["mine"]


@pytest.mark.parametrize("axes", [("z", "y", "x"), ("t", "y", "x"), ("t", "z", "y", "x")])
def test_drawings_of_a_stack_go_to_their_planes(
    viewer: Any, make_widget: Make, tmp_path: Path, axes: tuple[str, ...]
) -> None:
    shape = (*(4,) * (len(axes) - 2), 80, 90)
    viewer.add_layer(Image(np.zeros(shape, np.uint8), name="Image", axis_labels=axes))
    widget = make_widget(viewer)
    viewer.dims.set_current_step(range(len(axes) - 2), (2, 0)[: len(axes) - 2])
    one = _masks(THREE[0])
    nothing = Masks.empty(one.image_hw)
    numbered = tuple(np.arange(1, 1 + len(masks)) for masks in (nothing, one, nothing, one))
    stack = LinkedStack(axes[0].upper(), (nothing, one, nothing, one), numbered)
    widget.pick_panel.load(str(write_geojson(tmp_path / "a.geojson", stack)))
    assert [float(shape[0, 0]) for shape in viewer.layers["FastSAM shapes"].data] == [1, 3]
    assert len(widget.session.prompts.regions_yx) == 0
    viewer.dims.set_current_step(0, 3)
    assert len(widget.session.prompts.regions_yx) == 1
    assert len(viewer.layers) == 2


def test_drawings_that_do_not_belong_here(viewer: Any, make_widget: Make, tmp_path: Path) -> None:
    viewer.add_layer(Image(np.zeros((2, 80, 90), np.uint8), name="Image"))
    widget = make_widget(viewer)
    masks = _masks(THREE[0])
    stack = LinkedStack("Z", (masks,) * 3, (np.array([1]),) * 3)
    for path, said in (
        (write_rois(tmp_path / "a.zip", stack), "on a plane that the image does not have"),
        (write_rois(tmp_path / "b.zip", masks[:0]), "is empty"),
        (tmp_path / "c.roi", "No such file"),
    ):
        widget.pick_panel.load(str(path))
        assert said in str(notification_manager.records[-1].message)
    assert [layer.name for layer in viewer.layers] == ["Image"]
