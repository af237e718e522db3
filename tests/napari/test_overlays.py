"""The layers that show candidates: drawn crisply in their colours, and no image of the user."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Image

from fastsam_core.masks import Masks
from napari_fastsam.controllers.canvas import OUTLINE_NAME, is_overlay, warm_up
from napari_fastsam.models.candidates import Candidates

from .conftest import THREE, Make, discs, run
from .test_interaction import put

if TYPE_CHECKING:
    from numpy.typing import NDArray


def with_candidates(viewer: Any, make_widget: Make) -> Any:
    """Open a black image with a square, a disc and another disc as candidates."""
    viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name="Image"))
    widget = make_widget(viewer)
    stack = [discs(80, 90, one) > 0 for one in THREE]
    candidates = Candidates.measure(Masks.from_dense(stack, [0.9, 0.8, 0.7]))
    widget.session.put(widget.session.image.unique_id, widget.session.plane, candidates)
    return widget


def test_own_layers_are_neither_offered_nor_blended(viewer: Any, make_widget: Make) -> None:
    widget = with_candidates(viewer, make_widget)
    widget.session.hovered.emit(0)
    own = [layer for layer in viewer.layers if is_overlay(layer)]
    assert [layer.name for layer in own] == ["FastSAM candidates", "FastSAM hover"]
    image = widget.segment_panel.image
    assert [image.itemText(k) for k in range(image.count())] == ["Image"]
    second = make_widget(viewer).segment_panel.image
    assert [second.itemText(k) for k in range(second.count())] == ["Image"], "nor in a second widget"
    widget.session.set_image(viewer.layers["Image"], blend=True)
    assert widget.session.plane is not None
    assert len(widget.session.source().arrays) == 1


def test_the_worker_adds_no_colormap(viewer: Any, make_widget: Make) -> None:
    """Else napari, which walks through all of them in the window's thread when a layer is added, may fail."""
    from napari.utils.colormaps import AVAILABLE_COLORMAPS

    widget = with_candidates(viewer, make_widget)
    known = set(AVAILABLE_COLORMAPS)
    warm_up()
    widget.session.hovered.emit(0)
    make_widget(viewer)
    assert set(AVAILABLE_COLORMAPS) == known
    assert {layer.colormap.name for layer in viewer.layers if is_overlay(layer)} == {
        "FastSAM candidates",
        "FastSAM hover",
    }


@pytest.mark.parametrize("names", [{"Image"}, {"Image", "other"}, set()])
def test_what_is_selected_stays_selected_without_a_word(viewer: Any, make_widget: Make, names: set[str]) -> None:
    viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name="Image"))
    viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name="other"))
    widget = make_widget(viewer)
    selection = viewer.layers.selection
    selection.clear()
    selection.update(viewer.layers[name] for name in names)
    active = selection.active
    heard: list[Any] = []
    selection.events.changed.connect(heard.append)
    masks = Masks.from_dense([discs(80, 90, THREE[0]) > 0])
    widget.session.put(widget.session.image.unique_id, widget.session.plane, Candidates.measure(masks))
    assert "FastSAM candidates" in viewer.layers
    assert {layer.name for layer in selection} == names
    assert selection.active is active
    assert not heard
    selection.active = viewer.layers["FastSAM candidates"]
    assert heard, "the user's own choice is heard again"


def shown_colours(viewer: Any) -> dict[tuple[int, ...], int]:
    """Return the colours of the canvas and how many pixels have them."""
    viewer.show()
    viewer.reset_view()
    pixels = viewer.screenshot(flash=False).reshape(-1, 4)[:, :3]
    colours, counts = np.unique(pixels, axis=0, return_counts=True)
    return dict(zip(map(tuple, colours.tolist()), counts.tolist(), strict=True))


def near(colours: dict[tuple[int, ...], int], rgba: tuple[float, ...]) -> bool:
    """Tell whether a colour is there, over black."""
    wanted: NDArray[np.float64] = 255 * rgba[3] * np.array(rgba[:3])
    return any(np.abs(np.array(colour) - wanted).max() <= 2 for colour in colours)


def test_each_state_has_its_colour_and_crisp_borders(viewer: Any, make_widget: Make) -> None:
    widget = with_candidates(viewer, make_widget)
    plain, picked, inside, done = (0.25, 0.85, 1, 0.85), (1, 0.85, 0.1, 1), (1, 0.85, 0.1, 0.3), (0.35, 0.8, 0.4, 0.6)
    colours = shown_colours(viewer)
    assert near(colours, plain)
    assert len(colours) == 2, "no mixed pixels at the borders"
    widget.session.mark_committed(widget.session.image_id, widget.session.plane, {1: 1}, None)
    widget.session.select_by_hand([2])
    colours = shown_colours(viewer)
    assert all(near(colours, rgba) for rgba in (plain, picked, inside, done))
    assert len(colours) == 5
    viewer.layers["FastSAM candidates"].visible = False
    assert len(shown_colours(viewer)) == 1
    widget.session.hovered.emit(0)
    colours = shown_colours(viewer)
    assert near(colours, (1, 1, 1, 1))
    assert near(colours, (1, 1, 1, 0.25))
    assert len(colours) == 3


def test_outlines_are_made_ready_and_taken_away_unused(viewer: Any, make_widget: Make) -> None:
    viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name="Image", scale=(2, 3)))
    widget = make_widget(viewer)
    canvas = widget.canvas
    canvas.make_ready()
    layer = viewer.layers["FastSAM candidates"]
    assert not layer.visible
    canvas.on_running(True)
    assert layer in viewer.layers
    canvas.on_running(False)
    assert layer not in viewer.layers, "nothing was found, or the run was cancelled"

    canvas.make_ready()
    layer = viewer.layers["FastSAM candidates"]
    masks = Masks.from_dense([discs(80, 90, THREE[0]) > 0])
    widget.session.put(widget.session.image.unique_id, widget.session.plane, Candidates.measure(masks))
    canvas.on_running(False)
    assert viewer.layers["FastSAM candidates"] is layer
    assert layer.visible
    assert layer.data.shape == (80, 90)
    np.testing.assert_array_equal(layer.scale, (2, 3))
    layer.visible = False
    widget.session.select_by_hand([0])
    assert not layer.visible, "the user hid it"


@pytest.mark.parametrize("others", [(), ("flat",), ("flat", "points")])
@pytest.mark.usefixtures("blob_model")
def test_the_stack_with_the_candidates_is_removed(
    viewer: Any, make_widget: Make, qtbot: Any, others: tuple[str, ...]
) -> None:
    """The sliders go with it, before the outlines do."""
    stack = viewer.add_layer(Image(np.stack([discs(80, 90, *THREE)] * 3), name="stack"))
    widget = make_widget(viewer)
    run(qtbot, widget)
    if "flat" in others:
        flat = viewer.add_layer(Image(discs(80, 90, *THREE), name="flat"))
        widget.segment_panel.image.set_layer(flat)
        run(qtbot, widget)
        widget.segment_panel.image.set_layer(stack)
    if "points" in others:
        widget.pick_panel.add_points()
        widget.prompts.points.add([[1, 20, 20]])
    assert OUTLINE_NAME in viewer.layers
    viewer.layers.remove("stack")
    assert (OUTLINE_NAME in viewer.layers) == bool(others)
    if others:
        assert viewer.layers[OUTLINE_NAME].ndim == 2
    viewer.layers.clear()
    assert not len(viewer.layers)
    viewer.add_layer(Image(discs(80, 90, *THREE), name="again"))
    run(qtbot, widget)
    viewer.layers.remove(OUTLINE_NAME)
    assert OUTLINE_NAME not in viewer.layers, "whoever takes the outlines away means it"


@pytest.mark.parametrize("how", ["removed", "flat"])
@pytest.mark.usefixtures("blob_model")
def test_the_hover_layer_keeps_no_sliders(viewer: Any, make_widget: Make, qtbot: Any, how: str) -> None:
    image = viewer.add_layer(Image(np.stack([discs(80, 90, *THREE)] * 3), name="Image"))
    widget = make_widget(viewer)
    run(qtbot, widget)
    widget.canvas.draw_hover(1)
    assert "FastSAM hover" in viewer.layers
    viewer.dims.set_current_step(0, 0)
    assert not viewer.layers["FastSAM hover"].visible
    if how == "removed":
        viewer.layers.remove(image)
    else:
        image.data = image.data[0]
    assert "FastSAM hover" not in viewer.layers
    assert viewer.dims.ndim == 2


@pytest.mark.parametrize("hovered", [False, True])
@pytest.mark.usefixtures("blob_model")
def test_a_stack_whose_data_become_a_plane(viewer: Any, make_widget: Make, qtbot: Any, hovered: bool) -> None:
    image = viewer.add_layer(Image(np.stack([discs(80, 90, *THREE)] * 3), name="Image"))
    widget = make_widget(viewer)
    run(qtbot, widget)
    if hovered:
        widget.canvas.draw_hover(1)
    image.data = image.data[0]
    assert [layer.name for layer in viewer.layers] == ["Image"]
    assert viewer.dims.ndim == 2
    run(qtbot, widget)
    assert viewer.layers[OUTLINE_NAME].ndim == 2


def test_outlines_stay_on_an_image_that_is_placed_anew(viewer: Any, make_widget: Make) -> None:
    image = viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name="Image"))
    widget = make_widget(viewer)
    put(widget, [discs(80, 90, (30, 30, 20)) > 0], [0.9])
    outlines = viewer.layers["FastSAM candidates"]
    for name, value in (("scale", (0.5, 2)), ("translate", (3, 4)), ("rotate", 30), ("affine", np.diag([2, 3, 1]))):
        setattr(image, name, value)
        np.testing.assert_allclose(outlines.data_to_world((30, 40)), image.data_to_world((30, 40)))


def test_outlines_lie_above_the_image(viewer: Any, make_widget: Make) -> None:
    """They stayed above another image, or where they were when the image was moved: out of sight."""
    low, high = (viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name=name)) for name in ("low", "high"))
    widget = make_widget(viewer)
    for image in (high, low, high):
        widget.segment_panel.image.set_layer(image)
        if widget.session.candidates is None:
            put(widget, [discs(80, 90, (20, 20, 8)) > 0], [0.9])
    assert [layer.name for layer in viewer.layers] == ["low", "high", "FastSAM candidates"]
    widget.session.hovered.emit(0)
    viewer.layers.move(viewer.layers.index(high), 4)
    assert [layer.name for layer in viewer.layers][:2] == ["low", "high"]


def test_candidates_go_with_the_widget(viewer: Any, make_widget: Make) -> None:
    """The widget itself may stay in memory when its dock is closed."""
    widget = with_candidates(viewer, make_widget)
    kept = weakref.ref(widget.session.candidates.outlines.pixels)
    viewer.window.remove_dock_widget(widget)
    gc.collect()
    assert kept() is None
