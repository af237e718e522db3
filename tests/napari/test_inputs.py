"""Images of every kind: bit depths, colour, channels, stacks, pyramids, transforms; and what cannot be used."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
from napari.layers import Image, Labels
from napari.utils.notifications import notification_manager

from napari_fastsam._napari import camera_of
from napari_fastsam.controllers.segmentation import _with_margin

from .conftest import NAPARI_0_9, THREE, BlobModel, Make, choose_region, discs, needs_napari_0_9, run


def open_image(viewer: Any, make_widget: Make, data: Any, **options: Any) -> Any:
    viewer.add_layer(Image(data, **{"name": "Image", **options}))
    return make_widget(viewer)


def last_notice() -> str:
    return str(notification_manager.records[-1].message) if notification_manager.records else ""


def stack_of_discs(planes: int = 3) -> np.ndarray[Any, Any]:
    return np.stack([discs(80, 90, *((y + z, x, r) for y, x, r in THREE)) for z in range(planes)])


def test_contrast_limits_decide_what_the_network_sees(
    viewer: Any, make_widget: Make, qtbot: Any, blob_model: BlobModel
) -> None:
    data = np.full((60, 60), 1000, np.uint16)
    data[20:40, 20:40] = 1500
    data[0, 0] = 65535
    widget = open_image(viewer, make_widget, data, contrast_limits=(1000, 1500))
    run(qtbot, widget)
    assert blob_model.seen[0][30, 30].tolist() == [255, 255, 255]
    assert blob_model.seen[0][50, 50].tolist() == [0, 0, 0]
    assert widget.session.candidates.columns["intensity"].max() == 1500 or len(widget.session.candidates) == 2


@pytest.mark.usefixtures("blob_model")
@pytest.mark.parametrize("dtype", [">u2", pytest.param(">f4", marks=needs_napari_0_9), "float16"])
def test_numbers_that_are_stored_in_other_ways(viewer: Any, make_widget: Make, qtbot: Any, dtype: str) -> None:
    """FITS files and what is mapped into memory hold the other byte order; networks make floats of 16 bit."""
    widget = open_image(viewer, make_widget, discs(80, 90, *THREE).astype(dtype), contrast_limits=(0, 255))
    run(qtbot, widget)
    assert len(widget.session.candidates) == 3
    assert np.isfinite(widget.session.candidates.columns["intensity"]).all()
    widget.label_panel.commit_shown()
    assert viewer.layers["Image labels"].data.max() == 3


@pytest.mark.usefixtures("blob_model")
def test_labels_that_napari_writes_wrongly_are_refused(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    """Labels of 16 bit are colours to napari 0.9 as they are, whatever their byte order, and it paints into them."""
    widget = open_image(viewer, make_widget, discs(80, 90, *THREE))
    run(qtbot, widget)
    swapped = np.dtype(np.uint16).newbyteorder("S")
    viewer.add_layer(Labels(np.full((80, 90), 5, swapped), name="mine"))
    assert "byte order" in widget.labels.usable(viewer.layers["mine"])
    widget.labels.set_target(viewer.layers["mine"])
    widget.labels.commit([0])
    assert "byte order" in last_notice()
    assert (viewer.layers["mine"].data == 5).all()


def test_channels_are_those_chosen_when_an_image_is_chosen_again(viewer: Any, make_widget: Make) -> None:
    """They were 'As shown': what had been found in their colours seemed gone, and a run took one channel."""
    widget = open_image(viewer, make_widget, np.zeros((2, 3, 80, 90), np.uint8), name="first")
    viewer.add_layer(Image(np.zeros((4, 80, 90), np.uint8), name="second"))
    panel = widget.segment_panel
    panel.image.set_layer(viewer.layers["first"])
    for choice, expected in ((2, (1, False)), (3, (None, True)), (0, (None, False)), (1, (0, False))):
        panel.channels.setCurrentIndex(choice)
        panel.image.set_layer(viewer.layers["second"])
        assert (widget.session.channel_axis, widget.session.blend) == (None, False)
        panel.image.set_layer(viewer.layers["first"])
        assert (panel.channels.currentIndex(), widget.session.channel_axis, widget.session.blend) == (choice, *expected)
    viewer.layers["first"].data = np.zeros((4, 80, 90), np.uint8)
    panel.image.set_layer(viewer.layers["second"])
    panel.image.set_layer(viewer.layers["first"])
    assert (panel.channels.currentText(), widget.session.channel_axis) == ("As shown", None), "other data"
    panel.channels.setCurrentIndex(1)
    panel.image.set_layer(viewer.layers["second"])
    viewer.layers["first"].data = np.zeros((80, 90), np.uint8)
    panel.image.set_layer(viewer.layers["first"])
    assert (panel.channels.currentText(), widget.session.channel_axis) == ("As shown", None)


def test_rgb_channels_and_blended_layers(viewer: Any, make_widget: Make, qtbot: Any, blob_model: BlobModel) -> None:
    red = np.zeros((80, 90, 3), np.uint8)
    red[..., 0] = discs(80, 90, *THREE)
    red[..., 1] = red[..., 0]
    widget = open_image(viewer, make_widget, red, rgb=True, name="rgb")
    run(qtbot, widget)
    assert blob_model.seen[-1][20, 60].tolist() == [200, 200, 0]
    assert widget.canvas.outlines.data.shape == (80, 90)

    channels = np.stack([discs(80, 90, THREE[0]), discs(80, 90, *THREE[1:])]).astype(np.uint16) * 10
    viewer.add_layer(Image(channels, name="cyx", scale=(1, 0.5, 0.5)))
    widget.segment_panel.image.set_layer(viewer.layers["cyx"])
    widget.segment_panel.channels.setCurrentIndex(1)
    run(qtbot, widget)
    assert blob_model.seen[-1][18, 20].tolist() == [255, 0, 255], "two channels are magenta and green"
    assert blob_model.seen[-1][20, 60].tolist() == [0, 255, 0]
    widget.label_panel.commit_shown()
    labels = viewer.layers["cyx labels"]
    assert labels.data.shape == (1, 80, 90)
    for channel in (0, 1):
        assert labels.get_value((channel, 9, 10), world=True) > 0, "labels show on every channel"

    options = {"scale": (0.5, 0.5), "blending": "additive", "contrast_limits": (0, 2000)}
    viewer.add_layer(Image(channels[0], name="dapi", colormap="blue", **options))
    viewer.add_layer(Image(channels[1], name="gfp", colormap="green", **options))
    viewer.layers["rgb"].visible = viewer.layers["cyx"].visible = False
    widget.segment_panel.image.set_layer(viewer.layers["dapi"])
    widget.segment_panel.channels.setCurrentIndex(widget.segment_panel.channels.count() - 1)
    run(qtbot, widget)
    assert blob_model.seen[-1][18, 20].tolist() == [0, 0, 255]
    assert blob_model.seen[-1][20, 60].tolist() == [0, 255, 0]


def test_a_stack_is_linked_plane_by_plane(viewer: Any, make_widget: Make, qtbot: Any, blob_model: BlobModel) -> None:
    stack = stack_of_discs()
    read: list[int] = []

    def block(block: Any, block_info: Any = None) -> Any:
        read.append(block_info[0]["chunk-location"][0])
        return block

    lazy = da.from_array(stack, chunks=(1, 80, 90)).map_blocks(block, dtype=stack.dtype, meta=stack[:0])
    widget = open_image(viewer, make_widget, lazy, contrast_limits=(0, 255), scale=(3, 1, 1))
    read.clear()
    run(qtbot, widget)
    assert set(read) <= {0, 1, 2}
    assert len(widget.session.pool) == 1, "without the tick only the plane that is shown"
    widget.segment_panel.stack.setChecked(True)
    run(qtbot, widget)
    assert len(widget.session.pool) == 3
    assert [linked.objects.tolist() for linked in widget.session.links.values()] == [[1, 2, 3]] * 3
    viewer.dims.set_current_step(0, 2)
    assert widget.session.plane.index == (2, None, None)
    assert len(widget.session.candidates) == 3
    widget.label_panel.whole.setChecked(True)
    widget.session.select_by_hand([0])
    widget.label_panel.commit_picked()
    labels = viewer.layers["Image labels"]
    assert labels.data.shape == (3, 80, 90)
    assert all((plane == 1).sum() > 100 for plane in labels.data)
    widget.labels.undo()
    assert not labels.data.any(), "one step for all planes"


@pytest.mark.usefixtures("blob_model")
def test_planes_across_the_other_axes(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    widget = open_image(viewer, make_widget, np.repeat(discs(40, 50, (20, 25, 8))[:, None], 6, axis=1))
    viewer.dims.order = (1, 0, 2)
    run(qtbot, widget)
    assert widget.session.plane.axes_yx == (0, 2)
    assert len(widget.session.candidates) == 1
    widget.label_panel.commit_shown()
    labels = viewer.layers["Image labels"].data
    place = widget.session.plane.index[1]
    assert (labels[:, place] > 0).sum() == widget.session.candidates.columns["area_px"][0]


def test_field_of_view_and_rectangle_at_full_resolution(
    viewer: Any, make_widget: Make, qtbot: Any, blob_model: BlobModel
) -> None:
    full = da.from_array(discs(2048, 2048, (300, 300, 20), (1500, 1500, 30)), chunks=512)
    widget = open_image(
        viewer, make_widget, [full, full[::2, ::2], full[::4, ::4]], multiscale=True, contrast_limits=(0, 255)
    )
    widget.pick_panel.add_shapes()
    widget.prompts.shapes.add_rectangles([[1400, 1400], [1600, 1600]])
    choose_region(widget, "rectangle")
    run(qtbot, widget)
    assert blob_model.seen[-1].shape[0] in range(200, 230)
    assert len(widget.session.candidates) == 1
    assert widget.session.candidates.columns["y"][0] == pytest.approx(1500.5)
    widget.prompts.shapes.selected_data = set()
    widget.prompts.shapes.data = [np.array([[250, 250], [250, 350], [350, 350], [350, 250]])]
    run(qtbot, widget)
    assert sorted(widget.session.candidates.columns["y"]) == pytest.approx([300.5, 1500.5]), "found in addition"
    widget.label_panel.commit_shown()
    assert viewer.layers["Image labels"].data[300, 300] > 0


def test_a_plane_in_tiles_grows_and_is_joined_in_the_end(
    viewer: Any, make_widget: Make, qtbot: Any, blob_model: BlobModel
) -> None:
    """Objects on the borders of tiles are whole; what was committed while tiles came in stays committed."""
    places = [(300, 300, 20), (960, 960, 40), (1400, 1500, 30), (950, 200, 25)]
    full = da.from_array(discs(1800, 1800, *places), chunks=512)
    widget = open_image(viewer, make_widget, full, contrast_limits=(0, 255))
    choose_region(widget, "tiles")
    commits = []

    def commit_first(_text: str, done: int, total: int) -> None:
        assert total == 4
        if done == 1:
            index = int(np.argmin(np.abs(widget.session.candidates.columns["y"] - 300.5)))
            commits.append(widget.labels.commit([index]))

    widget.segmentation.progress.connect(commit_first)
    run(qtbot, widget)
    assert commits == [1]
    columns = widget.session.candidates.columns
    assert sorted(columns["y"]) == [300.5, 950.5, 960.5, 1400.5]
    assert columns["intensity"].tolist() == [200] * 4
    assert sorted(columns["area_px"]) == sorted(
        (full > 0).compute()[y - 50 : y + 50, x - 50 : x + 50].sum() for y, x, _ in places
    )
    [done] = widget.session.committed
    assert columns["y"][done] == 300.5
    assert {shape.shape[:2] for shape in blob_model.seen} == {(1024, 1024)}


@pytest.mark.usefixtures("blob_model")
def test_a_committed_mask_lies_on_the_object_under_any_transform(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    affine = np.array([[1.1, 0.3, -4], [-0.2, 0.9, 7], [0, 0, 1]])
    options = {"scale": (0.3, 0.5), "rotate": 25, "shear": [0.2], "translate": (5, -8), "affine": affine}
    named = {"units": ("um", "um"), "axis_labels": ("row", "column")}
    widget = open_image(viewer, make_widget, discs(80, 90, *THREE), **options, **named)
    run(qtbot, widget)
    widget.label_panel.commit_shown()
    image, labels = viewer.layers["Image"], viewer.layers["Image labels"]
    assert labels.units == image.units
    assert labels.axis_labels == ("row", "column")
    for y, x, _ in THREE:
        world = image.data_to_world((y, x))
        assert labels.get_value(world, world=True) > 0
        assert widget.canvas.outlines.get_value(world, world=True) == 0
    index = 2
    widget.session.hovered.emit(index)
    hover = viewer.layers["FastSAM hover"]
    assert hover.get_value(image.data_to_world(THREE[2][:2]), world=True) == 1
    assert hover.get_value(image.data_to_world(THREE[0][:2]), world=True) in (None, 0)


def test_an_image_without_objects(viewer: Any, make_widget: Make, qtbot: Any, blob_model: BlobModel) -> None:
    widget = open_image(viewer, make_widget, np.zeros((40, 40), np.uint8))
    run(qtbot, widget)
    assert len(widget.session.candidates) == 0
    assert "Nothing was found" in widget.filter_panel.count.text()
    widget.label_panel.commit_shown()
    assert "Nothing is picked" in last_notice()
    nan = np.where(discs(80, 90, *THREE) > 0, 1.0, np.nan).astype(np.float32)
    viewer.add_layer(Image(nan, name="nan", contrast_limits=(0, 1)))
    widget.segment_panel.image.set_layer(viewer.layers["nan"])
    run(qtbot, widget)
    assert len(widget.session.candidates) == 3
    assert len(blob_model.seen) == 2


@pytest.mark.usefixtures("blob_model")
def test_what_cannot_be_done_is_said_with_its_remedy(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    widget = make_widget(viewer)
    widget.segment_panel.run_button.click()
    assert "open an image" in last_notice()
    viewer.add_layer(Image(stack_of_discs()))
    viewer.dims.ndisplay = 3
    widget.segment_panel.run_button.click()
    assert "switch to 2-D" in last_notice()
    viewer.dims.ndisplay = 2
    choose_region(widget, "rectangle")
    widget.segment_panel.run_button.click()
    assert "No rectangle is selected" in last_notice()
    widget.pick_panel.add_shapes()
    for row, problem in ((30, "too small"), (-30, "lies outside")):
        widget.prompts.shapes.data = []
        widget.prompts.shapes.add_lines(np.array([[1, row, 10], [1, row, 50]]))
        widget.segment_panel.run_button.click()
        assert problem in last_notice()
    choose_region(widget, "plane")
    run(qtbot, widget)
    mine = Labels(np.zeros((5, 5), int), name="mine")
    viewer.add_layer(mine)
    widget.label_panel.target.set_layer(mine)
    assert "its shape is" in widget.label_panel.preview.text()
    widget.label_panel.commit_shown()
    assert "choose 'New layer'" in last_notice()
    assert not mine.data.any()


@pytest.mark.usefixtures("blob_model")
def test_a_label_that_does_not_fit_is_refused_before_anything_is_written(
    viewer: Any, make_widget: Make, qtbot: Any
) -> None:
    widget = open_image(viewer, make_widget, discs(80, 90, *THREE))
    run(qtbot, widget)
    mine = Labels(np.full((80, 90), 254, np.uint8), name="mine")
    viewer.add_layer(mine)
    widget.label_panel.target.set_layer(mine)
    widget.label_panel.overlap.setCurrentIndex(1)
    widget.label_panel.commit_shown()
    assert "does not fit" in last_notice()
    assert (mine.data == 254).all()


def test_a_file_that_goes_away_and_a_model_that_is_missing(
    viewer: Any, make_widget: Make, qtbot: Any, blob_model: BlobModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = [False]

    def block(block: Any) -> Any:
        if gone[0]:
            raise OSError("Stale file handle")
        return block

    lazy = da.from_array(discs(80, 90, *THREE), chunks=90).map_blocks(block, dtype=np.uint8)
    widget = open_image(viewer, make_widget, lazy, contrast_limits=(0, 255))
    gone[0] = True
    widget.segment_panel.run_button.click()
    qtbot.waitUntil(lambda: not widget.segmentation.running, timeout=10_000)
    assert "Stale file handle" in last_notice()
    assert "network drive" in last_notice()
    gone[0] = False
    from fastsam_core.errors import UnknownModelError
    from fastsam_core.model import FastSAM

    def load(cls: type[FastSAM], /, name: str, **options: object) -> None:
        raise UnknownModelError(f"No model {name}", remedy="choose one of the list")

    monkeypatch.setattr(FastSAM, "load", classmethod(load))
    widget.segment_panel.model.setCurrentText("FastSAM-x")
    widget.segment_panel.run_button.click()
    qtbot.waitUntil(lambda: not widget.segmentation.running, timeout=10_000)
    assert "No model FastSAM-x" in last_notice()
    assert widget.segment_panel.run_button.text() == "Segment everything"


@pytest.mark.usefixtures("blob_model")
def test_layers_of_several_units_are_shown_together(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    """Light and electron microscopy: napari's sliders and mouse count in nm, the image in µm."""
    if not hasattr(viewer.dims, "units"):
        pytest.skip("this napari takes all units as the same")
    stack = np.stack([discs(80, 90, (20 + 5 * z, 30, 8)) for z in range(5)])
    shape, unit = {"scale": (2, 0.5, 0.5), "units": ("um",) * 3}, ("nm",) * 3
    image = viewer.add_layer(Image(stack, name="light", contrast_limits=(0, 255), **shape))
    viewer.add_layer(Image(np.zeros((5, 20, 20), np.uint8), name="electrons", scale=(2000, 100, 100), units=unit))
    widget = make_widget(viewer)
    widget.segment_panel.image.set_layer(image)
    viewer.dims.set_point(0, 6000)
    assert widget.session.plane.index == (3, None, None)
    run(qtbot, widget)
    assert widget.hover.locate((6000, 35 * 500, 30 * 500)).tolist() == [35.5, 30.5]
    assert widget.hover.look(np.array([35.5, 30.5])) == 0
    widget.go_to(0)
    assert tuple(camera_of(viewer).center)[-2:] == (17500, 15000)
    places = {"nm": (2000, 500, 500), "mm": (2, 0.5, 0.5)}
    for name, scale in places.items():
        viewer.add_layer(Labels(np.zeros(stack.shape, np.uint16), name=name, scale=scale, units=(name,) * 3))
    assert not widget.labels.usable(viewer.layers["nm"])
    assert "its pixels lie elsewhere" in widget.labels.usable(viewer.layers["mm"])


@pytest.mark.parametrize("place", [{}, {"scale": (0.5, 2), "translate": (30, -40), "rotate": 30}])
@pytest.mark.parametrize("multiscale", [False, True])
def test_the_field_of_view_is_what_the_canvas_shows(
    viewer: Any, make_widget: Make, multiscale: bool, place: dict[str, Any]
) -> None:
    data = np.zeros((3000, 4000), np.uint8)
    levels = [data[:: 2**k, :: 2**k] for k in range(4)] if multiscale else data
    viewer.add_layer(layer := Image(levels, multiscale=multiscale, name="Image", **place))
    widget = make_widget(viewer)
    canvas, camera = viewer.window._qt_viewer.canvas, camera_of(viewer)
    for centre, zoom in (((1200, 1600), 1), ((1200, 1600), 8), ((1500, 2000), 8), ((0, 0), 8)):
        camera.center, camera.zoom = layer.data_to_world(centre), zoom
        canvas.on_draw()  # napari loads more of a pyramid than is seen, and keeps it
        (top, left), (bottom, right) = canvas._viewbox_corners_in_world
        seen = np.array([layer.world_to_data((y, x)) for y in (top, bottom) for x in (left, right)]) + 0.5
        low, high = np.clip([seen.min(axis=0), seen.max(axis=0)], 0, data.shape)
        margin = (high - low) / 20
        y0, y1, x0, x1 = widget.segmentation._region("view")
        np.testing.assert_allclose((y0, x0), np.clip(low - margin, 0, None), atol=1.01)
        np.testing.assert_allclose((y1, x1), np.clip(high + margin, None, data.shape), atol=1.01)
    camera.zoom = 1e-3
    canvas.on_draw()
    assert widget.segmentation._region("view") is None, "all of it is seen"
    camera.center, camera.zoom = layer.data_to_world((9000, 9000)), 8
    canvas.on_draw()
    widget.segmentation.start(region="view")
    assert not widget.segmentation.running
    assert "lies outside the image" in last_notice()


def test_the_field_of_view_of_rolled_axes(viewer: Any, make_widget: Make) -> None:
    viewer.add_layer(Image(np.zeros((600, 5, 900), np.uint8), name="Image", scale=(1, 3, 1)))
    widget = make_widget(viewer)
    viewer.dims.order = (1, 2, 0)
    camera_of(viewer).center, camera_of(viewer).zoom = (500, 200), 10
    size = viewer.canvas.size if NAPARI_0_9 else viewer._canvas_size
    height, width = np.array(size) / 10
    y0, y1, x0, x1 = widget.segmentation._region("view")
    assert ((y0 + y1) / 2, (x0 + x1) / 2) == pytest.approx((200.5, 500.5), abs=1)
    assert (x1 - x0, y1 - y0) == pytest.approx((1.1 * height, 1.1 * width), abs=2)


@pytest.mark.usefixtures("blob_model")
def test_only_the_visible_image_is_blended(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    for name, count in (("hidden", 3), ("visible", 1)):
        viewer.add_layer(Image(discs(80, 90, *THREE[:count]), name=name))
    widget = make_widget(viewer)
    widget.segment_panel.image.set_layer(viewer.layers["hidden"])
    widget.segment_panel.channels.setCurrentText("Visible images, blended")
    viewer.layers["hidden"].visible = False
    run(qtbot, widget)
    assert len(widget.session.candidates) == 1


@pytest.mark.usefixtures("blob_model")
def test_units_that_are_set_later(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    image = viewer.add_layer(Image(discs(80, 90, *THREE), name="Image", scale=(0.5, 0.5)))
    widget = make_widget(viewer)
    run(qtbot, widget)
    image.units = ("um", "um")
    assert widget.table.table.headers[1][0] == "µm²"
    assert [str(unit) for unit in viewer.layers["FastSAM candidates"].units] == ["micrometer", "micrometer"]


def test_the_field_of_view_of_an_image_of_one_row_is_all_of_it() -> None:
    """It was said to lie outside of the image."""
    assert _with_margin(np.array([[0.0, 0], [1, 90]]), (1, 90)) is None
    assert _with_margin(np.array([[0.0, 20], [1, 30]]), (1, 90)) == (0, 1, 19, 31)
