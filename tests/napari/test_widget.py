"""The widget in a real viewer: segment, filter, pick, commit, undo, as a user does."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Image, Labels, Points, Shapes
from napari.utils.key_bindings import coerce_keybinding
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QItemSelectionModel, Qt

from fastsam_core.masks import Masks
from fastsam_core.model import FastSAM
from napari_fastsam._napari import camera_of

from .conftest import THREE, BlobModel, Make, choose_region, discs, relay, run
from .test_interaction import put

if TYPE_CHECKING:
    from pathlib import Path


def started(viewer: Any, make_widget: Make, qtbot: Any, data: Any = None, **options: Any) -> Any:
    """Open an image (three discs by default), the widget, and segment."""
    viewer.add_layer(Image(discs(80, 90, *THREE) if data is None else data, name="Image", **options))
    widget = make_widget(viewer)
    run(qtbot, widget)
    return widget


@pytest.mark.usefixtures("blob_model")
def test_segment_everything_shows_candidates_and_a_table(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    widget = started(viewer, make_widget, qtbot)
    assert len(widget.session.candidates) == 3
    outlines = viewer.layers["FastSAM candidates"]
    assert set(np.unique(outlines.data)) == {0, 1}
    assert outlines.data[18, 12] == 1
    assert outlines.data[18, 20] == 0
    assert widget.table.table.rowCount() == 3
    assert viewer.layers.selection.active.name == "Image", "own layers do not take the focus"
    assert "3</b> of 3" in widget.filter_panel.count.text()


@pytest.mark.usefixtures("blob_model")
def test_a_limited_number_of_candidates_is_said(
    viewer: Any, make_widget: Make, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Masks, "at_limit", True)
    widget = started(viewer, make_widget, qtbot)
    assert "There may be more" in widget.filter_panel.count.text()


def test_filters_hide_without_inference(viewer: Any, make_widget: Make, qtbot: Any, blob_model: BlobModel) -> None:
    widget = started(viewer, make_widget, qtbot)
    slider = widget.filter_panel.sliders["area_px"]
    slider.set_limits(300, np.inf)
    assert widget.session.shown.tolist() == [False, True, True]
    assert widget.table.table.rowCount() == 2
    assert viewer.layers["FastSAM candidates"].data[18, 12] == 0
    widget.filter_panel.reset()
    assert widget.session.shown.all()
    assert len(blob_model.seen) == 1


def test_a_limit_outside_of_the_values_of_a_plane_is_kept(viewer: Any, make_widget: Make) -> None:
    """It was taken back when the other one was moved there."""
    viewer.add_layer(Image(np.zeros((2, 80, 90), np.uint8), name="Image"))
    widget = make_widget(viewer)
    for place, radius in enumerate((4, 15)):
        viewer.dims.set_current_step(0, place)
        put(widget, [discs(80, 90, (20, 20, radius)) > 0, discs(80, 90, (60, 60, 18)) > 0], [0.9, 0.8])
    slider = widget.filter_panel.sliders["area_px"]
    viewer.dims.set_current_step(0, 0)
    slider.set_limits(100, np.inf)
    viewer.dims.set_current_step(0, 1)
    assert slider.slider.value() == (0, 1)
    slider.slider.setValue((0, 0.5))
    assert widget.session.shown.tolist() == [True, False]
    slider.slider.setValue((0, 1))
    viewer.dims.set_current_step(0, 0)
    assert widget.session.shown.tolist() == [False, True]
    slider.slider.setValue((0, 1))
    assert "area_px" not in widget.session.filters.limits


def test_what_is_picked_is_not_looked_for_among_other_candidates(viewer: Any, make_widget: Make) -> None:
    """There was an error when there were fewer of them."""
    viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name="Image"))
    widget = make_widget(viewer)
    put(widget, [discs(80, 90, place) > 0 for place in THREE], [0.9, 0.8, 0.7])
    widget.pick_panel.add_points()
    widget.prompts.points.add([[60, 40]])
    assert widget.session.selected == [2]
    put(widget, [discs(80, 90, THREE[2]) > 0], [0.9])
    assert widget.session.selected == [0]


@pytest.mark.usefixtures("blob_model")
def test_points_pick_live(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    widget = started(viewer, make_widget, qtbot)
    widget.pick_panel.add_points()
    points = widget.prompts.points
    assert widget.session.selected == []
    points.add([[20, 20]])
    assert widget.session.selected == [0]
    points.add([[60, 40]])
    assert widget.session.selected == [0, 2]
    moved = points.data.copy()
    moved[0] = [20, 60]
    points.data = moved
    assert widget.session.selected == [1, 2]
    points.selected_data = {0}
    points.remove_selected()
    assert widget.session.selected == [2]
    assert viewer.layers["FastSAM candidates"].data[60, 28] == 2


@pytest.mark.usefixtures("blob_model")
def test_keys_switch_polarity_and_group(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    widget = started(viewer, make_widget, qtbot)
    widget.pick_panel.add_points()
    points = widget.prompts.points
    points.add([[20, 20]])
    assert points.selected_data == {0}, "napari selects what is added"
    widget.pick_panel.polarity.click()
    points.add([[20, 60]])
    assert points.features["polarity"].tolist() == ["positive", "negative"]
    assert len({tuple(colour) for colour in points.border_color}) == len(set(points.features["polarity"]))
    widget.pick_panel.group.click()
    points.add([[60, 40]])
    assert points.features["group"].tolist()[-1] == 2
    assert not widget.pick_panel.each.isChecked()


@pytest.mark.usefixtures("blob_model")
@pytest.mark.filterwarnings("ignore:Feature .* looks like categorical data:RuntimeWarning")
@pytest.mark.parametrize("coloured", [False, True])
@pytest.mark.parametrize(
    ("column", "values", "dtype", "wanted"),
    [
        ("polarity", [1, 0], int, [0, 0, 0]),
        ("polarity", [1.0, -1.0], float, [-1, -1, -1]),
        ("polarity", [True, False], bool, [False, False, False]),
        ("polarity", ["fg", "off"], "category", ["negative", "off", "negative"]),
        ("group", [1.0, 2.0], float, [1, 2, 3]),
        ("group", [4, 2], int, [4, 2, 5]),
        ("group", ["a", "7"], str, ["a", "7", "8"]),
        ("group", [1, 2], "category", ["1", "2", "3"]),
    ],
)
def test_keys_keep_to_the_terms_of_the_user_s_columns(
    viewer: Any,
    make_widget: Make,
    qtbot: Any,
    coloured: bool,
    column: str,
    values: list[Any],
    dtype: Any,
    wanted: list[Any],
) -> None:
    widget = started(viewer, make_widget, qtbot)
    colour = {"face_color": column, "face_color_cycle": ["red", "green"]} if coloured else {}
    mine = Points([[20, 20], [60, 40]], features={column: values}, name="mine", **colour)
    mine.features = mine.features.astype(dtype)
    viewer.add_layer(mine)
    widget.pick_panel.points.set_layer(mine)
    mine.selected_data = {0}
    getattr(widget.pick_panel, column).click()
    mine.add([[20, 60]])
    assert mine.features[column].tolist() == wanted
    prompts = widget.session.prompts
    if column == "polarity":
        assert not prompts.positive.any()
    else:
        assert len(set(prompts.groups.tolist())) == 3
    getattr(widget.pick_panel, column).click()
    assert not notification_manager.records


@pytest.mark.usefixtures("blob_model")
def test_columns_that_cannot_be_changed_stay_whole(
    viewer: Any, make_widget: Make, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    widget = started(viewer, make_widget, qtbot)
    mine = Points([[20, 20], [60, 40]], features={"polarity": ["a", "b"]}, name="mine")
    viewer.add_layer(mine)
    widget.pick_panel.points.set_layer(mine)
    mine.selected_data = {0}
    monkeypatch.setattr(mine, "refresh_colors", lambda: (1).colours)  # type: ignore[attr-defined]
    text = widget.pick_panel.polarity.text()
    widget.pick_panel.polarity.click()
    assert "'polarity' of the layer 'mine' cannot be changed" in str(notification_manager.records[-1].message)
    assert mine.features["polarity"].tolist() == ["a", "b"]
    assert mine.feature_defaults["polarity"].tolist() == ["a"]
    assert widget.pick_panel.polarity.text() == text


@pytest.mark.usefixtures("blob_model")
def test_shapes_pick(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    widget = started(viewer, make_widget, qtbot)
    widget.pick_panel.add_shapes()
    shapes = widget.prompts.shapes
    shapes.add_rectangles([[11, 11], [29, 29]])
    assert widget.session.selected == [0]
    shapes.add_ellipses([[10, 50], [10, 70], [30, 70], [30, 50]])
    assert widget.session.selected == [0, 1]
    shapes.add_paths([[60, 32], [61, 48]])
    assert widget.session.selected == [0, 1, 2]
    shapes.data = []
    assert widget.session.selected == []
    widget.pick_panel.inside.setChecked(True)
    shapes.add_polygons([[0, 0], [79, 0], [79, 89], [0, 89]])
    assert widget.session.selected == [0, 1, 2]


@pytest.mark.usefixtures("blob_model")
def test_layers_of_the_user_are_prompts_too_and_are_not_changed(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    widget = started(viewer, make_widget, qtbot, scale=(0.5, 0.5), rotate=30, translate=(3, 4))
    image = viewer.layers["Image"]
    world = np.array([image.data_to_world((20, 60)), image.data_to_world((60, 40))])
    mine = Points(world / 2 - 7, scale=(2, 2), translate=(14, 14), name="mine")
    before = mine.data.copy()
    viewer.add_layer(mine)
    widget.pick_panel.points.set_layer(mine)
    assert widget.session.selected == [1, 2]
    widget.pick_panel.polarity.click()
    np.testing.assert_array_equal(mine.data, before)
    assert list(mine.features.columns) == []
    mine.translate = (1000, 0)
    assert widget.session.selected == []


@pytest.mark.usefixtures("blob_model")
def test_points_that_their_layer_does_not_show_are_no_prompts(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    """Other tools hide points by a threshold on a feature of theirs: what is not seen asks for nothing."""
    widget = started(viewer, make_widget, qtbot)
    viewer.add_layer(Points([[18, 20], [20, 60], [60, 40]], shown=[True, False, True], name="spots"))
    points = viewer.layers["spots"]
    widget.pick_panel.points.set_layer(points)
    assert len(widget.session.picks) == 2
    points.shown = [False, True, False]
    assert [pick.cause["points_yx"] for pick in widget.session.picks] == [[[20.5, 60.5]]]
    points.visible = False
    assert len(widget.session.picks) == 1, "a layer that is hidden to see what lies under it keeps its points"
    points.shown = True
    points.visible = True
    assert len(widget.session.picks) == 3


@pytest.mark.usefixtures("blob_model")
def test_commit_and_undo(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    widget = started(viewer, make_widget, qtbot)
    widget.label_panel.commit_shown()
    labels = viewer.layers["Image labels"]
    assert sorted(np.unique(labels.data)) == [0, 1, 2, 3]
    assert widget.session.selected == []
    assert len(widget.session.committed) == 3
    viewer.layers.selection.active = labels
    labels.keymap[coerce_keybinding("Control-Z")](labels)
    assert not labels.data.any()
    assert widget.session.committed == {}
    widget.labels.redo()
    assert len(widget.session.committed) == 3


@pytest.mark.usefixtures("blob_model")
def test_commit_into_the_user_s_labels_follows_the_overlap_rule(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    widget = started(viewer, make_widget, qtbot)
    mine = np.zeros((80, 90), np.uint16)
    mine[:, :20] = 7
    viewer.add_layer(Labels(mine.copy(), name="mine"))
    layer = viewer.layers["mine"]
    widget.label_panel.target.set_layer(layer)
    widget.session.select_by_hand([0, 1])
    assert "overlap with label 7" in widget.label_panel.preview.text()
    assert "1 left out" in widget.label_panel.preview.text()
    widget.label_panel.commit_picked()
    assert sorted(np.unique(layer.data)) == [0, 7, 8]
    widget.label_panel.overlap.setCurrentIndex(1)
    widget.label_panel.label_id.setValue(42)
    widget.session.select_by_hand([0])
    widget.label_panel.commit_picked()
    assert layer.data[20, 16] == 42
    widget.labels.undo()
    assert layer.data[20, 16] == 7
    widget.labels.undo()
    np.testing.assert_array_equal(layer.data, mine)


@pytest.mark.usefixtures("blob_model")
def test_consequences_are_said_for_any_number_of_picks(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    places = [(12 + 20 * row, 12 + 20 * column, 7) for row in range(8) for column in range(10)]
    widget = started(viewer, make_widget, qtbot, discs(170, 210, *places))
    mine = np.zeros((170, 210), np.uint16)
    mine[:20] = 3
    mine[160:, :30] = 5
    viewer.add_layer(Labels(mine, name="mine"))
    panel = widget.label_panel
    panel.target.set_layer(viewer.layers["mine"])
    qtbot.waitUntil(lambda: "All shown" in panel.preview.text(), timeout=5_000)
    assert "70 to commit, 10 left out" in panel.preview.text()
    widget.session.select_by_hand(range(80))
    assert panel.preview.text().startswith("70 to commit, 10 left out; overlap with label 3 (")
    panel.overlap.setCurrentIndex(1)
    assert panel.preview.text().startswith("80 to commit; takes pixels of label 3 (")
    panel.overlap.setCurrentIndex(2)
    assert panel.preview.text().startswith("70 to commit, 10 left out; stops at label 3 (")
    panel.commit_picked()
    assert len(np.unique(viewer.layers["mine"].data)) == 73, "as it was said"


@pytest.mark.usefixtures("blob_model")
def test_table_and_selection_follow_each_other(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    widget = started(viewer, make_widget, qtbot)
    widget.table.sortByColumn(1, widget.table.horizontalHeader().sortIndicatorOrder().DescendingOrder)
    assert widget.table.table.rows.tolist() == [2, 1, 0]
    widget.table.selectRow(0)
    assert widget.session.selected == [2]
    widget.session.select_by_hand([0])
    assert [index.row() for index in widget.table.selectionModel().selectedRows()] == [2]
    widget.go_to(2)
    assert camera_of(viewer).center[-2:] == pytest.approx((60, 40), abs=0.6)


@pytest.mark.usefixtures("blob_model")
def test_sorting_takes_what_is_selected_along(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    table = (widget := started(viewer, make_widget, qtbot)).table
    orders, flags = Qt.SortOrder, QItemSelectionModel.SelectionFlag
    table.sortByColumn(0, orders.AscendingOrder)
    table.selectRow(0)
    for column, order in ((1, orders.DescendingOrder), (1, orders.AscendingOrder), (2, orders.AscendingOrder)):
        table.sortByColumn(column, order)
        rows = [index.row() for index in table.selectionModel().selectedRows()]
        assert table.table.rows[rows].tolist() == widget.session.selected == [0]
        assert table.table.rows[table.currentIndex().row()] == 0
    add = flags.Select | flags.Rows  # Ctrl + click
    table.selectionModel().select(table.table.index(table.table.row_of(2), 0), add)
    assert widget.session.selected == [0, 2]


def test_cancel_gives_the_widget_back_at_once_and_drops_what_comes_later(
    viewer: Any, make_widget: Make, qtbot: Any, blob_model: BlobModel
) -> None:
    gate, reached = threading.Event(), threading.Event()

    def wait() -> None:
        reached.set()
        gate.wait(10)

    blob_model.gate = wait
    viewer.add_layer(Image(discs(1100, 1100, *THREE), name="Image"))
    widget = make_widget(viewer)
    choose_region(widget, "tiles")
    widget.segment_panel.run_button.click()
    assert widget.segmentation.running
    assert widget.segment_panel.run_button.text() == "Cancel"
    qtbot.waitUntil(reached.is_set, timeout=10_000)
    widget.segment_panel.run_button.click()
    assert not widget.segmentation.running
    assert widget.segment_panel.run_button.text() == "Segment everything"
    gate.set()
    qtbot.waitUntil(lambda: bool(blob_model.seen), timeout=10_000)
    qtbot.wait(200)
    assert len(blob_model.seen) == 1, "no tile is begun after that"
    assert len(widget.session.pool) == 0
    blob_model.gate = None
    run(qtbot, widget)
    assert len(widget.session.candidates) == 3


@pytest.mark.usefixtures("blob_model")
def test_closing_the_widget_leaves_the_viewer_clean(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    widget = started(viewer, make_widget, qtbot)
    widget.label_panel.commit_shown()
    widget.pick_panel.add_shapes()
    widget.shut_down()
    assert [layer.name for layer in viewer.layers] == ["Image", "Image labels", "FastSAM shapes"]
    assert not viewer.mouse_move_callbacks
    assert isinstance(viewer.layers[2], Shapes)
    viewer.dims.ndisplay = 3
    viewer.layers[1].data_setitem((np.array([0]), np.array([0])), 5)


def test_widgets_share_a_model_until_its_file_changes(
    make_napari_viewer: Any, make_widget: Make, qtbot: Any, blob_model: BlobModel, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    loaded: list[str] = []

    def load(_cls: type, name: str, /, **_options: object) -> BlobModel:
        loaded.append(name)
        return blob_model

    monkeypatch.setattr(FastSAM, "load", classmethod(load))
    weights = tmp_path / "own.safetensors"
    weights.write_bytes(b"1")
    os.utime(weights, ns=(10**9, 10**9))
    for _ in range(2):
        viewer = make_napari_viewer()
        viewer.add_layer(Image(discs(80, 90, *THREE), name="Image"))
        widget = make_widget(viewer)
        run(qtbot, widget)
    assert loaded == ["builtin"]
    for changed in (False, False, True):
        if changed:
            os.utime(weights, ns=(2 * 10**9, 2 * 10**9))
        with qtbot.waitSignal(relay(qtbot, widget.segmentation.finished)):
            widget.segmentation.model = str(weights)
            widget.segmentation.start()
    assert loaded == ["builtin", str(weights), str(weights)]
