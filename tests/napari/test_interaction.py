"""Mouse, keys, look-here, journal, several viewers, layers that change under the widget."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Image, Labels
from napari.utils import interactions
from napari.utils.key_bindings import coerce_keybinding
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QItemSelectionModel
from wrapt import ObjectProxy

from fastsam_core.journal import read_journal
from fastsam_core.masks import Masks
from napari_fastsam.models.candidates import Candidates

from .conftest import THREE, BlobModel, Make, discs, run

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def put(widget: Any, stack: list[Any], scores: list[float]) -> None:
    """Give the widget candidates without a network."""
    session = widget.session
    session.put(session.image.unique_id, session.plane, Candidates.measure(Masks.from_dense(stack, scores)))


def nested_widget(viewer: Any, make_widget: Make) -> Any:
    """Open an image with a part in an object in a group, and another object."""
    viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name="Image", scale=(2, 2)))
    widget = make_widget(viewer)
    group = discs(80, 90, (40, 30, 25)) > 0
    parts = [group, discs(80, 90, (40, 30, 12)) > 0, discs(80, 90, (40, 30, 4)) > 0, discs(80, 90, (40, 70, 10)) > 0]
    put(widget, parts, [0.5, 0.9, 0.6, 0.8])
    widget.hover.set_enabled(True)
    return widget


@pytest.mark.usefixtures("no_throttle")
def test_the_hover_tool_finds_faint_candidates_where_none_is_shown(viewer: Any, make_widget: Make) -> None:
    viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name="Image"))
    widget = make_widget(viewer)
    places = [(20, 20, 9), (20, 20, 4), (20, 60, 9), (60, 20, 9), (60, 60, 9)]
    stack = [discs(80, 90, place) > 0 for place in places]
    session = widget.session
    masks = Masks.from_dense(stack, [0.9, 0.1, 0.1, 0.8, 0.04])
    session.put(session.image.unique_id, session.plane, Candidates.measure(masks, conf=0.2))
    widget.hover.set_enabled(True)
    mouse = Mouse(viewer, viewer.layers["Image"])
    mouse.move(20, 20)
    assert widget.hover.index == 0, "a faint part does not come in between"
    assert "level" not in viewer.status
    mouse.move(60, 60)
    assert widget.hover.index == -1, "all too faint"
    mouse.move(20, 60)
    assert widget.hover.index == 2
    mouse.drag([(20, 60)], "Shift")
    assert session.selected == [2]
    assert session.shown.tolist() == [True, False, True, True, False]
    assert viewer.layers["FastSAM candidates"].data[20, 51] == 2
    mouse.drag([(20, 60)], "Shift")
    assert session.selected == []
    assert not session.shown[2]
    mouse.drag([(20, 20), (20, 60), (60, 20)])
    labels = viewer.layers["Image labels"]
    assert [labels.data[y, x] > 0 for y, x in ((20, 20), (20, 60), (60, 20))] == [True, False, True]
    mouse.drag([(20, 60)])
    assert labels.data[20, 60] > 0
    widget.filter_panel.sliders["area_px"].set_limits(300, np.inf)
    widget.labels.undo()
    mouse.move(20, 60)
    assert widget.hover.index == -1, "the other limits hold for faint ones, too"


class Mouse:
    """Moves over the canvas in pixels of the image, as napari reports it."""

    def __init__(self, viewer: Any, image: Any) -> None:
        self.viewer, self.image = viewer, image

    def event(self, kind: str, y: float, x: float, *modifiers: str, turn: float = 0, dragging: bool = False) -> Any:
        world = self.image.data_to_world((y, x))
        plain = SimpleNamespace(
            type=kind, position=world, button=1, modifiers=list(modifiers), delta=(0, turn), handled=False,
            is_dragging=dragging, dims_displayed=[0, 1], view_direction=None,
        )  # fmt: skip
        return ObjectProxy(plain)

    def move(self, y: float, x: float) -> None:
        interactions.mouse_move_callbacks(self.viewer, self.event("mouse_move", y, x))

    def wheel(self, turn: float) -> Any:
        event = self.event("mouse_wheel", 0, 0, "Shift", turn=turn)
        interactions.mouse_wheel_callbacks(self.viewer, event)
        return event

    def drag(self, path: Iterable[tuple[float, float]], *modifiers: str) -> None:
        (y, x), *rest = path
        interactions.mouse_press_callbacks(self.viewer, self.event("mouse_press", y, x, *modifiers))
        for y, x in rest:
            interactions.mouse_move_callbacks(self.viewer, self.event("mouse_move", y, x, *modifiers, dragging=True))
        interactions.mouse_release_callbacks(self.viewer, self.event("mouse_release", y, x, *modifiers))


def press(owner: Any, key: str) -> None:
    """Press a key that is bound to a viewer or layer."""
    owner.keymap[coerce_keybinding(key)](owner)


@pytest.fixture
def no_throttle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer every move, however fast it comes."""
    monkeypatch.setattr("napari_fastsam.controllers.hover._MIN_INTERVAL_S", 0.0)


@pytest.mark.usefixtures("no_throttle")
def test_hover_walk_click_and_sweep(viewer: Any, make_widget: Make) -> None:
    widget = nested_widget(viewer, make_widget)
    mouse = Mouse(viewer, viewer.layers["Image"])
    mouse.move(40, 30)
    assert widget.hover.index == 1, "the object"
    assert "candidate 2" in viewer.status
    assert "units²" in viewer.status
    assert "level 2/3" in viewer.status
    hover = viewer.layers["FastSAM hover"]
    assert hover.get_value(viewer.layers["Image"].data_to_world((40, 30)), world=True) == 1
    assert mouse.wheel(1).handled
    assert widget.hover.index == 0, "the group"
    mouse.wheel(1)
    assert widget.hover.index == 0
    mouse.wheel(-1)
    mouse.wheel(-1)
    assert widget.hover.index == 2, "the part"
    mouse.move(41, 31)
    assert widget.hover.index == 2, "the depth stays inside the same nest"
    mouse.move(0, 89)
    assert widget.hover.index == -1
    assert not hover.visible

    mouse.drag([(40, 70)])
    labels = viewer.layers["Image labels"]
    assert labels.data[40, 70] == 1
    assert labels.data[40, 30] == 0
    mouse.move(40, 70)
    assert "label 1" in viewer.status
    mouse.drag([(40, 30), (40, 50), (40, 70)])
    assert labels.data[40, 30] == 2, "what is committed already is not taken again"
    widget.labels.undo()
    widget.labels.undo()
    assert not labels.data.any()
    mouse.drag([(40, 30), (40, 35), (40, 60), (40, 70)])
    assert sorted(np.unique(labels.data)) == [0, 1, 2]
    widget.labels.undo()
    assert not labels.data.any(), "a sweep is one step"
    mouse.drag([(40, 70)], "Shift")
    assert widget.session.selected == [3]
    assert not labels.data.any()


@pytest.mark.usefixtures("no_throttle")
def test_drawing_is_left_to_the_layer_that_draws(viewer: Any, make_widget: Make) -> None:
    widget = nested_widget(viewer, make_widget)
    mine = Labels(np.zeros((80, 90), int), scale=(2, 2), name="mine")
    viewer.add_layer(mine)
    mine.mode = "paint"
    Mouse(viewer, viewer.layers["Image"]).drag([(40, 30)])
    assert "Image labels" not in viewer.layers
    mine.mode = "pan_zoom"
    widget.hover.set_enabled(False)
    Mouse(viewer, viewer.layers["Image"]).drag([(40, 30)])
    assert "Image labels" not in viewer.layers


def test_look_here_adds_what_a_closer_look_finds(
    viewer: Any, make_widget: Make, qtbot: Any, blob_model: BlobModel
) -> None:
    image = discs(400, 500, (100, 100, 30), (300, 400, 8))
    viewer.add_layer(Image(image, name="Image"))
    widget = make_widget(viewer)
    put(widget, [discs(400, 500, (100, 100, 30)) > 0], [0.9])
    Mouse(viewer, viewer.layers["Image"]).move(300, 400)
    press(viewer, "N")
    qtbot.waitUntil(lambda: len(widget.session.candidates) == 2, timeout=10_000)
    assert blob_model.seen[0].shape[:2] == (251, 251)
    columns = widget.session.candidates.columns
    assert (columns["y"][1], columns["x"][1]) == (300.5, 400.5)
    assert columns["intensity"][1] == 200
    qtbot.waitUntil(lambda: not widget.segmentation.running, timeout=10_000)
    press(viewer, "N")
    qtbot.waitUntil(lambda: not widget.segmentation.running, timeout=10_000)
    assert len(widget.session.candidates) == 2, "what is known is not added again"


def test_merge_split_delete_of_the_user_s_labels(viewer: Any, make_widget: Make) -> None:
    widget = nested_widget(viewer, make_widget)
    data = np.zeros((80, 90), np.int32)
    data[35:45, 22:29], data[35:45, 30:38], data[35:45, 66:75] = 4, 9, 6
    viewer.add_layer(Labels(data.copy(), scale=(2, 2), name="mine"))
    mine = viewer.layers["mine"]
    widget.label_panel.target.set_layer(mine)
    widget.session.select_by_hand([1])
    widget.label_panel._edit("merge")
    assert sorted(np.unique(mine.data)) == [0, 4, 6]
    widget.session.select_by_hand([3])
    widget.label_panel._edit("delete")
    assert sorted(np.unique(mine.data)) == [0, 4]
    widget.label_panel._edit("split")
    assert "nothing to split" in str(notification_manager.records[-1].message)
    for _ in range(2):
        widget.labels.undo()
    np.testing.assert_array_equal(mine.data, data)


@pytest.mark.parametrize("name", ["merge", "split", "delete"])
def test_edits_of_labels_that_are_not_there_add_no_layer(viewer: Any, make_widget: Make, name: str) -> None:
    widget = nested_widget(viewer, make_widget)
    widget.session.select_by_hand([1, 3])
    widget.label_panel._edit(name)
    assert f"nothing to {name}" in str(notification_manager.records[-1].message)
    assert not [layer for layer in viewer.layers if isinstance(layer, Labels)]


def erase(widget: Any, how: str) -> None:
    """Take the label of the candidate at (40, 70) away."""
    labels = widget.labels.target
    if how == "Delete":
        widget.pick_panel.add_points()
        widget.prompts.points.add([[40, 70]])
        widget.label_panel._edit("delete")
        widget.prompts.points.data = np.empty((0, 2))
        widget.prompts.points.mode = "pan_zoom"
    elif how == "fill":
        labels.fill((40, 70), 0)
    elif how == "undo":
        labels.undo()
    else:
        labels.data[:] = 0
        labels.refresh()


@pytest.mark.usefixtures("no_throttle")
@pytest.mark.parametrize("how", ["Delete", "fill", "undo", "in place"])
def test_candidates_whose_label_was_erased_are_available(viewer: Any, make_widget: Make, qtbot: Any, how: str) -> None:
    widget = nested_widget(viewer, make_widget)
    mouse, session = Mouse(viewer, viewer.layers["Image"]), widget.session
    mouse.drag([(40, 70)])
    labels = widget.labels.target
    before = labels.data.copy()
    assert session.committed == {3: 1}
    erase(widget, how)
    assert session.committed == {}
    qtbot.waitUntil(lambda: viewer.layers["FastSAM candidates"].data[40, 60] == 1, timeout=5000)
    mouse.move(40, 70)
    assert widget.hover.index == 3
    assert "label" not in viewer.status
    if how == "fill":
        labels.undo()
        assert session.committed == {3: 1}, "it is there again"
        labels.redo()
    mouse.drag([(40, 70)])
    np.testing.assert_array_equal(labels.data, before)
    assert session.committed == {3: 1}
    mouse.move(0, 0)
    mouse.move(40, 70)
    assert "label 1" in viewer.status


def test_undo_of_a_commit_after_an_erased_one(viewer: Any, make_widget: Make) -> None:
    widget = nested_widget(viewer, make_widget)
    labels, session = widget.labels, widget.session
    labels.commit([3])
    erase(widget, "Delete")
    labels.commit([3])
    known = [session.committed]
    for step in (labels.undo,) * 3 + (labels.redo,) * 3:
        step()
        known.append(session.committed)
    assert known == [{3: 1}, {}, {3: 1}, {}, {3: 1}, {}, {3: 1}]


def test_labels_that_are_merged_renamed_or_taken_are_not_erased(viewer: Any, make_widget: Make) -> None:
    widget = nested_widget(viewer, make_widget)
    labels, session = widget.labels, widget.session
    labels.commit([1])
    labels.commit([3])
    widget.session.select_by_hand([1, 3])
    widget.label_panel._edit("merge")
    assert session.committed == {1: 1, 3: 1}
    labels.target.fill((40, 70), 7)
    assert session.committed == {1: 1, 3: 7}
    labels.overlap = "steal"
    labels.commit([0])
    assert session.committed == {0: 8, 1: 8, 3: 7}, "it lies on another one now"
    labels.target.data = np.zeros((5, 5), np.uint16)
    assert session.committed == {}, "these are none of its pixels"


def test_a_group_whose_parts_took_all_its_pixels_stays_committed(viewer: Any, make_widget: Make) -> None:
    widget = nested_widget(viewer, make_widget)
    left, right = np.zeros((2, 80, 90), bool)
    left[20:40, 20:40], right[20:40, 40:60] = True, True
    put(widget, [left | right, left, right], [0.9, 0.8, 0.7])
    widget.labels.overlap = "steal"
    widget.label_panel.commit_shown()
    assert sorted(widget.session.committed) == [0, 1, 2]
    widget.labels.delete([1])
    assert sorted(widget.session.committed) == [0, 2]
    widget.labels.delete([2])
    assert widget.session.committed == {}


@pytest.mark.usefixtures("no_throttle")
@pytest.mark.parametrize("how", ["table", "Shift"])
def test_committed_candidates_are_picked_for_edits(viewer: Any, make_widget: Make, how: str) -> None:
    widget = nested_widget(viewer, make_widget)
    mouse, session, table = Mouse(viewer, viewer.layers["Image"]), widget.session, widget.table
    mouse.drag([(40, 70)])
    mouse.drag([(40, 30)])
    labels = widget.labels.target
    assert session.committed == {3: 1, 1: 2}
    if how == "table":
        flags = QItemSelectionModel.SelectionFlag
        for candidate in (1, 3):
            index = table.table.index(table.table.row_of(candidate), 0)
            table.selectionModel().select(index, flags.Select | flags.Rows)
    else:
        mouse.drag([(40, 30)], "Shift")
        mouse.drag([(40, 70)], "Shift")
    assert (session.selected, session.picked) == ([], [1, 3])
    rows = [index.row() for index in table.selectionModel().selectedRows()]
    assert sorted(table.table.rows[rows]) == [1, 3]
    assert viewer.layers["FastSAM candidates"].data[40, 60] == 2, "yellow"
    assert widget.label_panel.preview.text() == "2 picked, committed already."
    widget.label_panel.commit_picked()
    assert "committed already" in str(notification_manager.records[-1].message)
    widget.label_panel._edit("merge")
    assert sorted(np.unique(labels.data)) == [0, 1]
    widget.label_panel._edit("delete")
    assert not labels.data.any()
    assert session.selected == [1, 3], "and can be committed again"


@pytest.mark.usefixtures("blob_model")
def test_layers_renamed_and_deleted_during_work(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    viewer.add_layer(Image(discs(80, 90, *THREE), name="Image"))
    widget = make_widget(viewer)
    run(qtbot, widget)
    widget.pick_panel.add_points()
    widget.prompts.points.add([[18, 20]])
    viewer.layers["Image"].name = "renamed"
    viewer.layers["FastSAM points"].name = "prompts"
    assert widget.segment_panel.image.currentText() == "renamed"
    assert widget.session.selected == [0]
    widget.label_panel.commit_picked()
    assert "renamed labels" in viewer.layers
    viewer.layers.remove("renamed labels")
    assert widget.labels.target is None
    viewer.layers.remove("prompts")
    assert widget.prompts.points is None
    viewer.layers.remove("FastSAM candidates")
    widget.session.select_by_hand([1])
    assert "FastSAM candidates" in viewer.layers, "drawn anew when there is something to draw"
    widget.segment_panel.run_button.click()
    viewer.layers.remove("renamed")
    qtbot.waitUntil(lambda: not widget.segmentation.running, timeout=10_000)
    assert widget.session.image is None
    assert [layer.name for layer in viewer.layers if "candidates" in layer.name] == []


@pytest.mark.usefixtures("blob_model")
def test_two_viewers_do_not_mix(make_napari_viewer: Any, make_widget: Make, qtbot: Any, tmp_path: Path) -> None:
    first, second = make_napari_viewer(), make_napari_viewer()
    first.add_layer(Image(discs(80, 90, *THREE), name="one"))
    second.add_layer(Image(discs(60, 60, (30, 30, 9)), name="two"))
    one, two = make_widget(first), make_widget(second)
    run(qtbot, one)
    run(qtbot, two)
    assert (len(one.session.candidates), len(two.session.candidates)) == (3, 1)
    one.label_panel.commit_shown()
    assert [layer.name for layer in second.layers] == ["two", "FastSAM candidates"]


# ---- journal ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("blob_model")
def test_an_interrupted_session_is_offered_and_given_back(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    image = discs(80, 90, *THREE)
    viewer.add_layer(Image(image, name="Image"))
    widget = make_widget(viewer)
    run(qtbot, widget)
    widget.filter_panel.sliders["area_px"].set_limits(250, np.inf)
    widget.label_panel.commit_shown()
    widget.pick_panel.add_points()
    widget.filter_panel.reset()
    widget.prompts.points.add([[18, 20]])
    widget.label_panel.commit_picked()
    widget.labels.undo()
    widget.journal.save_prompts()
    before = viewer.layers["Image labels"].data.copy()
    path = widget.journal.path
    steps = [entry["do"] for entry in read_journal(path).entries]
    assert steps == ["segment", "filter", "commit", "filter", "commit", "undo", "prompts"]
    widget.journal._record.journal = None  # as if the program had died
    viewer.window.remove_dock_widget(widget)
    assert "FastSAM candidates" not in viewer.layers, "closing the dock shuts the widget down"
    viewer.layers.clear()

    viewer.add_layer(Image(image, name="Image"))
    again = make_widget(viewer)
    bar = again.restore_bar
    assert not bar.isHidden()
    assert "1 steps" in bar.text.text() or "1 step" in bar.text.text()
    bar.restore_button.click()
    np.testing.assert_array_equal(viewer.layers["Image labels"].data, before)
    assert bar.isHidden()
    run(qtbot, again)
    again.label_panel.commit_shown()
    assert read_journal(path).entries[-1]["do"] == "commit", "the journal goes on"
    viewer.window.remove_dock_widget(again)
    assert read_journal(path).complete
    third = make_widget(viewer)
    assert third.restore_bar.isHidden(), "a session that was closed is not offered"


@pytest.mark.usefixtures("blob_model")
def test_prompts_of_an_interrupted_session_are_set_again(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    stack = np.stack([discs(80, 90, *THREE)] * 2)
    options = {"name": "Image", "scale": (3, 0.5, 0.5), "translate": (5, 7, 9)}
    viewer.add_layer(Image(stack, **options))
    widget = make_widget(viewer)
    viewer.dims.set_current_step(0, 1)
    run(qtbot, widget)
    widget.pick_panel.add_points()
    widget.prompts.points.add([[1, 18, 20]])
    widget.prompts.points.selected_data = set()
    widget.pick_panel.polarity.click()
    widget.prompts.points.add([[1, 60, 40]])
    widget.pick_panel.add_shapes()
    shapes = widget.prompts.shapes
    shapes.add_rectangles([[1, 9, 49], [1, 9, 71], [1, 31, 71], [1, 31, 49]])
    shapes.add_ellipses([[1, 10, 10], [1, 10, 30], [1, 26, 30], [1, 26, 10]])
    shapes.add_paths([[1, 60, 32], [1, 61, 48]])
    widget.pick_panel.each.setChecked(False)
    picked = widget.session.selected
    assert sorted(picked) == [0, 1, 2]
    widget.journal.save_prompts()
    widget.journal._record.journal = None  # as if the program had died
    viewer.window.remove_dock_widget(widget)
    viewer.layers.clear()

    viewer.add_layer(Image(stack, **options))
    again = make_widget(viewer)
    assert "and prompts" in again.restore_bar.text.text()
    again.restore_bar.restore_button.click()
    assert again.pick_panel.points.layer.name == "FastSAM points"
    assert again.pick_panel.shapes.layer.name == "FastSAM shapes"
    assert not again.pick_panel.each.isChecked()
    points, drawn = again.prompts.points, again.prompts.shapes
    np.testing.assert_allclose(points.data, [[1, 18, 20], [1, 60, 40]])
    assert points.features["polarity"].tolist() == ["positive", "negative"]
    assert list(drawn.shape_type) == ["rectangle", "polygon", "path"]
    viewer.dims.set_current_step(0, 1)
    run(qtbot, again)
    assert again.session.selected == picked


@pytest.mark.usefixtures("blob_model")
def test_work_goes_on_without_a_journal(
    viewer: Any, make_widget: Make, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FASTSAM_JOURNALS", str(tmp_path / "file"))
    said_before = len(notification_manager.records)
    viewer.add_layer(Image(discs(80, 90, *THREE), name="Image"))
    widget = make_widget(viewer)
    run(qtbot, widget)
    widget.label_panel.commit_shown()
    assert viewer.layers["Image labels"].data.max() == 3
    messages = [str(record.message) for record in notification_manager.records[said_before:]]
    assert sum("journal" in message for message in messages) == 1, "said once"


def test_files_of_candidates_and_labels(viewer: Any, make_widget: Make, tmp_path: Path) -> None:
    import csv
    import json

    import roifile
    import tifffile

    viewer.add_layer(Image(discs(80, 90, *THREE), name="Image", scale=(0.5, 0.5), units=("um", "um")))
    widget = make_widget(viewer)
    widget.label_panel.export("tif", path=str(tmp_path / "no.tif"))
    assert not list(tmp_path.glob("*.tif"))
    put(widget, [discs(80, 90, place) > 0 for place in THREE], [0.9, 0.8, 0.7])
    widget.filter_panel.save(str(tmp_path / "mine"))
    widget.session.forget()
    widget.filter_panel.load(str(tmp_path / "mine.npz"))
    assert len(widget.session.candidates) == 3
    widget.label_panel.commit_shown()
    for suffix in ("tif", "json", "csv", "geojson", "zip"):
        widget.label_panel.export(suffix, path=str(tmp_path / f"labels.{suffix}"))
    outlined = json.loads((tmp_path / "labels.geojson").read_text())["features"]
    assert [feature["properties"]["name"] for feature in outlined] == ["1", "2", "3"]
    rois: Any = roifile.roiread(tmp_path / "labels.zip")
    assert [roi.name for roi in rois] == ["00001", "00002", "00003"]
    labels = viewer.layers["Image labels"].data
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "labels.tif"), labels)
    assert len(json.loads((tmp_path / "labels.json").read_text())["annotations"]) == 3
    rows = list(csv.DictReader((tmp_path / "labels.csv").read_text().splitlines()))
    assert float(rows[0]["area"]) == pytest.approx((labels == 1).sum() / 4)
    assert float(rows[0]["intensity_mean"]) == 200
    viewer.add_layer(Image(np.zeros((10, 10)), name="other"))
    widget.segment_panel.image.set_layer(viewer.layers["other"])
    widget.filter_panel.load(str(tmp_path / "mine.npz"))
    assert "another image" in str(notification_manager.records[-1].message)


@pytest.mark.parametrize("kind", ["pyramid", "colour"])
def test_measurements_have_the_intensities_of_pyramids_and_colour_images(
    viewer: Any, make_widget: Make, tmp_path: Path, kind: str
) -> None:
    import csv

    plane = discs(80, 90, *THREE).astype(np.uint16) * 100
    if kind == "pyramid":
        viewer.add_layer(Image([plane[None], plane[None, ::2, ::2]], multiscale=True, name="Image"))
    else:
        viewer.add_layer(Image(np.stack([plane, plane // 2, 0 * plane], axis=-1), rgb=True, name="Image"))
    widget = make_widget(viewer)
    put(widget, [discs(80, 90, place) > 0 for place in THREE], [0.9, 0.8, 0.7])
    widget.label_panel.commit_shown()
    widget.label_panel.export("csv", path=str(tmp_path / "labels.csv"))
    row = next(iter(csv.DictReader((tmp_path / "labels.csv").read_text().splitlines())))
    found = {name: float(value) for name, value in row.items() if name.startswith("intensity_mean")}
    names = {"pyramid": ("",), "colour": ("-0", "-1", "-2")}[kind]
    assert found == dict(zip((f"intensity_mean{name}" for name in names), (20000, 10000, 0), strict=False))


@pytest.mark.usefixtures("no_throttle")
def test_a_click_during_which_the_plane_changes_commits_nothing_there(viewer: Any, make_widget: Make) -> None:
    viewer.add_layer(Image(np.zeros((2, 80, 90), np.uint8), name="Image"))
    widget = make_widget(viewer)
    for place, at in enumerate(((40, 40, 9), (10, 10, 9))):
        viewer.dims.set_current_step(0, place)
        put(widget, [discs(80, 90, at) > 0], [0.9])
    viewer.dims.set_current_step(0, 0)
    widget.hover.set_enabled(True)
    mouse = Mouse(viewer, SimpleNamespace(data_to_world=lambda place: (viewer.dims.point[0], *place)))
    interactions.mouse_press_callbacks(viewer, mouse.event("mouse_press", 40, 40))
    viewer.dims.set_current_step(0, 1)
    interactions.mouse_release_callbacks(viewer, mouse.event("mouse_release", 40, 40))
    assert "Image labels" not in viewer.layers


@pytest.mark.usefixtures("no_throttle")
def test_a_fast_drag_takes_what_lies_between_two_places_of_the_mouse(viewer: Any, make_widget: Make) -> None:
    widget = nested_widget(viewer, make_widget)
    Mouse(viewer, viewer.layers["Image"]).drag([(40, 0), (40, 89)], "Shift")
    assert sorted(widget.session.selected) == [0, 1, 3]
