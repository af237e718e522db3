"""What was chosen, limited or committed stays so: across planes, strokes, files and a closer look."""

from __future__ import annotations

import gc
import json
import threading
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import roifile
import tifffile
from napari.layers import Image, Labels
from napari.utils.key_bindings import coerce_keybinding
from napari.utils.notifications import notification_manager

from fastsam_core.journal import Journal, read_journal
from fastsam_core.masks import Masks
from napari_fastsam.controllers.journal import prompts_by_plane
from napari_fastsam.controllers.status import describe_candidate
from napari_fastsam.models.candidates import Candidates, Linked

from .conftest import THREE, BlobModel, Make, discs, needs_napari_0_9, run
from .test_interaction import Mouse, press, put

if TYPE_CHECKING:
    from pathlib import Path


def stack_widget(viewer: Any, make_widget: Make) -> Any:
    """Open three planes: a large and a small object on the first, small ones on the others."""
    viewer.add_layer(Image(np.zeros((3, 80, 90), np.uint8), name="Image"))
    widget = make_widget(viewer)
    for place, radius in enumerate((20, 4, 4)):
        viewer.dims.set_current_step(0, place)
        put(widget, [discs(80, 90, (30, 30, radius)) > 0, discs(80, 90, (60, 70, 5)) > 0], [0.9, 0.8])
    viewer.dims.set_current_step(0, 0)
    return widget


def test_limits_are_shown_again_when_their_plane_is(viewer: Any, make_widget: Make) -> None:
    widget = stack_widget(viewer, make_widget)
    slider = widget.filter_panel.sliders["area_px"]
    slider.set_limits(-np.inf, 500)
    wanted = slider.limits()
    viewer.dims.set_current_step(0, 1)
    viewer.dims.set_current_step(0, 0)
    assert widget.session.shown.tolist() == [False, True]
    np.testing.assert_allclose(slider.limits(), wanted, rtol=1e-6)


def test_a_stroke_that_is_undone_takes_no_commit_back(viewer: Any, make_widget: Make) -> None:
    widget = stack_widget(viewer, make_widget)
    widget.label_panel.commit_shown()
    labels = viewer.layers["Image labels"]
    rows, columns = np.nonzero(labels.data[0])
    labels.data_setitem((np.zeros_like(rows), rows, columns), 9)
    labels.data_setitem((np.array([0]), np.array([0]), np.array([0])), 5)
    widget.labels.undo()
    assert len(widget.session.committed) == 2
    widget.labels.undo()
    widget.labels.undo()
    assert not labels.data.any()
    assert widget.session.committed == {}


def test_a_stack_of_three_planes_is_exported_as_planes(viewer: Any, make_widget: Make, tmp_path: Path) -> None:
    widget = stack_widget(viewer, make_widget)
    widget.label_panel.commit_shown()
    widget.label_panel.export("tif", path=str(tmp_path / "labels.tif"))
    with tifffile.TiffFile(tmp_path / "labels.tif") as file:
        assert len(file.pages) == 3
        np.testing.assert_array_equal(file.asarray(), viewer.layers["Image labels"].data)


def test_outlines_of_a_stack_are_those_of_all_planes(viewer: Any, make_widget: Make, tmp_path: Path) -> None:
    widget = stack_widget(viewer, make_widget)
    labels = np.zeros((3, 80, 90), np.uint8)
    labels[1:, 5:20, 10:30], labels[2, 40:50, 40:50] = 4, 7
    viewer.add_layer(Labels(labels, name="mine"))
    widget.label_panel.target.set_layer(viewer.layers["mine"])
    widget.label_panel.export("zip", path=str(tmp_path / "mine.zip"))
    rois: Any = roifile.roiread(tmp_path / "mine.zip")
    assert [(roi.name, roi.position) for roi in rois] == [("0002-00004", 2), ("0003-00004", 3), ("0003-00007", 3)]
    widget.label_panel.export("geojson", path=str(tmp_path / "mine.geojson"))
    features = json.loads((tmp_path / "mine.geojson").read_text())["features"]
    assert [feature["geometry"]["plane"]["z"] for feature in features] == [1, 2, 2]


def test_annotations_of_labels_that_have_no_plane_here(viewer: Any, make_widget: Make, tmp_path: Path) -> None:
    widget = stack_widget(viewer, make_widget)
    widget.label_panel.commit_shown()
    viewer.dims.ndisplay = 3
    widget.label_panel.export("json", path=str(tmp_path / "in_3d.json"))
    assert "no plane is shown" in str(notification_manager.records[-1].message)
    viewer.dims.ndisplay = 2
    for name, shape in (("flat", (80, 90)), ("times", (2, 3, 80, 90))):
        viewer.add_layer(Labels(np.ones(shape, np.uint8), name=name))
        widget.label_panel.target.set_layer(viewer.layers[name])
        widget.label_panel.export("json", path=str(tmp_path / f"{name}.json"))
    assert "(2, 3, 80, 90)" in str(notification_manager.records[-1].message)
    assert [path.name for path in tmp_path.glob("*.json")] == ["flat.json"]


def test_a_closer_look_takes_the_model_that_is_chosen(
    viewer: Any, make_widget: Make, qtbot: Any, blob_model: BlobModel
) -> None:
    viewer.add_layer(Image(discs(80, 90, (30, 30, 9)), name="Image"))
    widget = make_widget(viewer)
    masks = Masks.from_dense([discs(80, 90, (30, 30, 9)) > 0], [0.9])
    widget.session.put(widget.session.image.unique_id, widget.session.plane, Candidates.measure(masks))
    widget.segment_panel.model.setCurrentText("FastSAM-x")
    tasks: list[Any] = []
    widget.segmentation.started.connect(tasks.append)
    Mouse(viewer, viewer.layers["Image"]).move(60, 60)
    press(viewer, "N")
    qtbot.waitUntil(lambda: not widget.segmentation.running, timeout=60_000)
    assert [task.model for task in tasks] == ["FastSAM-x"]
    assert len(blob_model.seen) == 1


def test_candidates_of_a_removed_labels_layer_can_be_committed_again(viewer: Any, make_widget: Make) -> None:
    widget = stack_widget(viewer, make_widget)
    widget.session.select_by_hand([0])
    widget.label_panel.commit_picked()
    first = viewer.layers["Image labels"]
    widget.label_panel.target.set_layer(None)
    widget.session.select_by_hand([1])
    widget.label_panel.commit_picked()
    viewer.layers.remove(first)
    assert list(widget.session.committed) == [1], "what another layer holds stays committed"
    viewer.layers.remove("Image labels [1]")
    assert widget.session.committed == {}
    widget.label_panel.commit_shown()
    assert sorted(np.unique(viewer.layers["Image labels"].data)) == [0, 1, 2]
    viewer.layers.clear()
    assert len(viewer.layers) == 0


@pytest.mark.usefixtures("blob_model")
def test_the_journal_of_an_image_goes_on_when_it_is_chosen_again(
    viewer: Any, make_widget: Make, qtbot: Any, tmp_path: Path
) -> None:
    for name in ("Image", "other"):
        viewer.add_layer(Image(discs(80, 90, *THREE), name=name))
    widget = make_widget(viewer)
    choose = widget.segment_panel.image.set_layer
    choose(viewer.layers["Image"])
    run(qtbot, widget)
    widget.filter_panel.sliders["area_px"].set_limits(250, np.inf)
    widget.labels.commit([1])
    path = widget.journal.path
    choose(viewer.layers["other"])
    assert not read_journal(path).complete, "it is offered after a crash from now on, too"
    widget.filter_panel.reset()
    choose(viewer.layers["Image"])
    assert widget.restore_bar.isHidden()
    widget.labels.commit([2])
    assert [entry["do"] for entry in read_journal(path).entries] == ["segment", "filter", "commit", "filter", "commit"]
    assert len(list(path.parent.iterdir())) == 1
    viewer.layers.remove("Image")
    qtbot.waitUntil(lambda: read_journal(path).complete, timeout=10_000)  # an image that is removed is not offered


def test_labels_that_went_with_napari_are_offered_again(
    viewer: Any, make_napari_viewer: Any, make_widget: Make, qtbot: Any
) -> None:
    """File → Exit closes the viewer, which removes all layers before the window is gone."""
    viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name="Image"))
    _, widget = viewer.window.add_plugin_dock_widget("fastsam-plugins", "FastSAM")
    put(widget, [discs(80, 90, (30, 30, 20)) > 0], [0.9])
    widget.labels.commit([0])
    path = widget.journal.path
    gone: list[bool] = []
    widget.destroyed.connect(lambda: gone.append(True))  # qtbot.waitSignal fails to let go of it with PySide6
    viewer.close()
    qtbot.waitUntil(lambda: bool(gone), timeout=10_000)
    assert not read_journal(path).complete
    another = make_napari_viewer()
    another.add_layer(Image(np.zeros((80, 90), np.uint8), name="Image"))
    again = make_widget(another)
    assert not again.restore_bar.isHidden()
    assert "<br>1 step, last at" in again.restore_bar.text.text()
    again.journal.restore()
    assert another.layers["Image labels"].data.any()


def test_an_image_that_is_opened_again_at_once_is_not_offered(viewer: Any, make_widget: Make) -> None:
    image = np.zeros((80, 90), np.uint8)
    viewer.add_layer(Image(image, name="Image"))
    widget = make_widget(viewer)
    put(widget, [discs(80, 90, (30, 30, 20)) > 0], [0.9])
    widget.labels.commit([0])
    path = widget.journal.path
    viewer.layers.clear()
    viewer.add_layer(Image(image, name="Image"))
    assert widget.restore_bar.isHidden()
    put(widget, [discs(80, 90, (30, 30, 20)) > 0], [0.9])
    widget.labels.commit([0])
    old = path.with_name(path.name.replace(".fastsam", ".old.fastsam"))
    assert read_journal(old).complete
    widget.shut_down()
    assert read_journal(path).complete


@pytest.mark.parametrize("answer", ["", "Begin anew"])
def test_journals_that_were_not_ended_are_all_kept(viewer: Any, make_widget: Make, answer: str) -> None:
    kept = []
    for number in range(1, 4):
        viewer.layers.clear()
        viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name="Image"))
        widget = make_widget(viewer)
        assert widget.restore_bar.isHidden() == (number == 1)
        if answer:
            widget.restore_bar.dismiss_button.click()
        put(widget, [discs(80, 90, (30, 30, 20)) > 0], [0.9])
        for _ in range(number):
            widget.labels.undo()
            widget.labels.commit([0])
        path = widget.journal.path
        kept.append(path.read_text())
        widget.journal._record.journal = None  # as if the program had died
        viewer.window.remove_dock_widget(widget)
    assert sorted(one.read_text() for one in path.parent.iterdir()) == sorted(kept)
    assert path.read_text() == kept[-1]


def test_a_folder_with_a_journal_can_be_opened(
    viewer: Any, make_widget: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FASTSAM_JOURNALS")
    for name in "ab":
        tifffile.imwrite(tmp_path / f"{name}.tif", np.zeros((80, 90), np.uint8))
    viewer.open(tmp_path / "a.tif")
    widget = make_widget(viewer)
    put(widget, [discs(80, 90, (30, 30, 20)) > 0], [0.9])
    widget.labels.commit([0])
    assert widget.journal.path == tmp_path / ".a.tif.fastsam.jsonl"
    [layer] = viewer.open(tmp_path, plugin="napari")
    assert layer.data.shape == (2, 80, 90)


@pytest.mark.parametrize("ended", [False, True])
def test_journals_of_earlier_versions_are_found_and_hidden(
    viewer: Any, make_widget: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    monkeypatch.delenv("FASTSAM_JOURNALS")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((80, 90), np.uint8))
    viewer.open(tmp_path / "a.tif")
    widget = make_widget(viewer)
    put(widget, [discs(80, 90, (30, 30, 20)) > 0], [0.9])
    widget.labels.commit([0])
    path = widget.journal.path
    if not ended:
        widget.journal._record.journal = None  # as if the program had died
    viewer.window.remove_dock_widget(widget)
    path.replace(tmp_path / "a.tif.fastsam.jsonl")
    viewer.layers.remove("a labels")
    again = make_widget(viewer)
    assert again.restore_bar.isHidden() == ended
    again.restore_bar.restore_button.click()
    put(again, [discs(80, 90, (60, 70, 5)) > 0], [0.9])
    again.labels.commit([0])
    assert len(read_journal(path).label_steps) == (1 if ended else 2)
    old = {".a.tif.old.fastsam.jsonl"} if ended else set()
    assert {one.name for one in tmp_path.iterdir()} == {"a.tif", ".a.tif.fastsam.jsonl", *old}


def test_a_journal_that_cannot_be_moved_aside_is_a_notice(
    viewer: Any, make_widget: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    widget = stack_widget(viewer, make_widget)
    widget.labels.commit([0])
    viewer.window.remove_dock_widget(widget)
    again = make_widget(viewer)
    put(again, [discs(80, 90, (30, 30, 20)) > 0], [0.9])

    def refuse(path: Path, target: Path) -> None:
        raise PermissionError(13, "in use")

    monkeypatch.setattr("pathlib.Path.replace", refuse)
    again.label_panel.target.set_layer(None)
    again.labels.commit([0])
    assert list(again.session.committed) == [0]
    assert "cannot be moved aside" in str(notification_manager.records[-1].message)


@pytest.mark.usefixtures("blob_model")
@pytest.mark.parametrize(("channel", "shape"), [(2, [80, 90]), (0, [3, 80, 90])])
def test_channels_of_a_file_have_journals_of_their_own(
    channel: int,
    shape: list[int],
    viewer: Any,
    make_widget: Make,
    qtbot: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("FASTSAM_JOURNALS")
    channels = np.stack([discs(80, 90, place) for place in THREE])
    tifffile.imwrite(tmp_path / "cells.tif", channels, photometric="minisblack", metadata={"axes": "CYX"})
    viewer.open(tmp_path / "cells.tif", channel_axis=0)
    layers = list(viewer.layers)
    shared = Journal(tmp_path / "cells.tif.fastsam.jsonl", {"image": {"name": layers[channel].name, "shape": shape}})
    shared.append("commit", masks=[], labels=[])
    del shared  # as if the program had died
    widget = make_widget(viewer)
    for layer in layers:
        widget.segment_panel.image.set_layer(layer)
        of_this_channel = layer is layers[channel] and len(shape) == 2
        assert (widget.journal.interrupted is not None) == of_this_channel, "of the time when they shared one"
        run(qtbot, widget)
        widget.labels.commit([0])
    assert (tmp_path / ".cells.tif.interrupted.fastsam.jsonl").exists() == (len(shape) == 2)
    names = [read_journal(path).header["image"]["name"] for path in tmp_path.glob(".cells.tif.cells*.jsonl")]
    assert sorted(names) == [layer.name for layer in layers]


def test_what_was_found_in_a_removed_image_is_forgotten(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    widget = stack_widget(viewer, make_widget)
    session, image = widget.session, widget.session.image
    widget.label_panel.commit_shown()
    viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name="other"))
    runs = weakref.ref(session.candidates.masks.runs)
    places = session.plane, Candidates.measure(Masks.from_dense([discs(80, 90, (30, 30, 9)) > 0], [0.9]))
    viewer.layers.remove("Image")
    gc.collect()
    assert runs() is None
    session.put(image.unique_id, *places)
    viewer.add_layer(image)
    widget.segment_panel.image.set_layer(image)
    assert session.candidates is None, "what comes too late is dropped"
    assert session.committed == {}


def test_undo_belongs_to_the_image_that_was_committed(viewer: Any, make_widget: Make) -> None:
    for name in ("first", "second"):
        viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name=name))
    widget = make_widget(viewer)
    session, choose = widget.session, widget.segment_panel.image.set_layer
    paths = []
    for name, places in (("first", THREE[:1]), ("second", THREE[1:])):
        choose(viewer.layers[name])
        put(widget, [discs(80, 90, place) > 0 for place in places], [0.9, 0.8][: len(places)])
        widget.labels.commit([0])
        paths.append(widget.journal.path)
    choose(viewer.layers["first"])
    widget.labels.undo()
    assert list(session.committed) == [0]
    choose(viewer.layers["second"])
    assert session.committed == {}
    choose(viewer.layers["first"])
    widget.labels.redo()
    assert list(session.committed) == [0]
    choose(viewer.layers["second"])
    assert list(session.committed) == [0]
    steps = [[entry["do"] for entry in read_journal(path).entries] for path in paths]
    assert steps == [["commit"], ["commit", "undo", "redo"]]


def test_a_click_that_does_nothing_says_why(viewer: Any, make_widget: Make) -> None:
    widget = stack_widget(viewer, make_widget)
    widget.hover.set_enabled(True)
    mine = np.zeros((3, 80, 90), np.uint16)
    mine[0, :, :60] = 7
    viewer.add_layer(Labels(mine, name="mine"))
    widget.label_panel.target.set_layer(viewer.layers["mine"])
    mouse = Mouse(viewer, viewer.layers["Image"])
    mouse.drag([(30, 30)])
    assert "lies on label 7" in str(notification_manager.records[-1].message)
    assert widget.session.committed == {}
    assert widget.journal.path is None, "nothing was done that could be undone"
    widget.filter_panel.sliders["area_px"].set_limits(500, np.inf)
    mouse.drag([(5, 5)])
    assert "hidden" not in viewer.status
    mouse.drag([(60, 70)])
    assert "hidden by the sliders" in viewer.status


def test_linked_objects_of_other_planes_leave_hand_picks_alone(viewer: Any, make_widget: Make) -> None:
    widget = stack_widget(viewer, make_widget)
    session = widget.session
    first, second = session.plane, session.plane.at(0, 1)
    session.links[first] = Linked(np.array([0, 1]), axis=0, run=1)
    session.links[second] = Linked(np.array([2, 0]), axis=0, run=1)
    widget.label_panel.whole.setChecked(True)
    session.select_by_hand([0, 1])
    widget.labels.commit([0])
    assert session.committed_on(second) == {1: 1}
    assert session.selected == [1]


def test_labels_of_four_axes_are_exported(viewer: Any, make_widget: Make, tmp_path: Path) -> None:
    """Their table was refused."""
    viewer.add_layer(Image(np.zeros((2, 3, 80, 90), np.uint8), name="Image"))
    widget = make_widget(viewer)
    viewer.dims.set_current_step(0, 1)
    put(widget, [discs(80, 90, (30, 30, 20)) > 0], [0.9])
    widget.label_panel.commit_shown()
    for suffix in ("csv", "tif"):
        widget.label_panel.export(suffix, path=str(tmp_path / f"labels.{suffix}"))
    assert (tmp_path / "labels.csv").read_text().splitlines()[1].startswith("1,1,1257.0,")
    assert tifffile.imread(tmp_path / "labels.tif").shape == (2, 3, 80, 90)


def test_redo_works_where_undo_does(viewer: Any, make_widget: Make) -> None:
    widget = stack_widget(viewer, make_widget)
    widget.label_panel.commit_shown()
    press(viewer, "Control-Z")
    assert widget.session.committed == {}
    press(viewer, "Control-Shift-Z")
    assert len(widget.session.committed) == 2
    widget.shut_down()
    assert coerce_keybinding("Control-Shift-Z") not in viewer.keymap


def test_a_stack_with_candidates_can_be_removed(viewer: Any, make_widget: Make) -> None:
    widget = stack_widget(viewer, make_widget)
    viewer.dims.set_current_step(0, 2)
    viewer.layers.clear()
    assert not len(viewer.layers)
    assert widget.session.candidates is None
    assert not widget.filter_panel.sliders["area_px"]._bars.counts.any()


def test_an_axis_without_a_name_is_called_an_axis(viewer: Any, make_widget: Make) -> None:
    widget = stack_widget(viewer, make_widget)
    assert widget.segment_panel.stack.text() == "All 3 planes along axis -3, linked"
    viewer.layers[0].axis_labels = ("z", "y", "x")
    widget.session.update_plane(force=True)
    assert widget.segment_panel.stack.text() == "All 3 planes along z, linked"


def test_the_window_can_be_closed_during_work(viewer: Any, blob_model: BlobModel, qtbot: Any) -> None:
    gc.unfreeze()
    waiting, going_on = threading.Event(), threading.Event()

    def gate() -> None:
        waiting.set()
        going_on.wait(60)

    blob_model.gate = gate
    viewer.add_layer(Image(discs(80, 90, *THREE), name="Image"))
    _, widget = viewer.window.add_plugin_dock_widget("fastsam-plugins", "FastSAM")
    with qtbot.waitSignal(widget.destroyed, timeout=10_000):
        widget.segment_panel.run_button.click()
        qtbot.waitUntil(waiting.is_set, timeout=60_000)
        viewer.close()
    assert not widget.segmentation.running
    going_on.set()
    qtbot.waitUntil(lambda: bool(blob_model.seen), timeout=30_000)
    # what the worker found comes now, and nobody is there
    qtbot.waitUntil(lambda: gc.get_freeze_count() == 0, timeout=30_000)


def test_prompts_of_a_plane_that_is_left_at_once_are_in_the_journal(viewer: Any, make_widget: Make) -> None:
    widget = stack_widget(viewer, make_widget)
    widget.pick_panel.add_points()
    widget.prompts.points.add([[0, 30, 30]])
    viewer.dims.set_current_step(0, 1)
    path = widget.journal.path
    widget.prompts.points.add([[1, 60, 70]])
    viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name="other"))
    widget.segment_panel.image.set_layer(viewer.layers["other"])
    kept = prompts_by_plane(read_journal(path))
    assert [(plane.index[0], entry["points_yx"]) for plane, entry in kept.items()] == [
        (0, [[30.5, 30.5]]),
        (1, [[60.5, 70.5]]),
    ]
    viewer.layers.remove("Image")
    assert widget.journal.path is None, "no journal begins for an image that is gone"
    assert len(list(path.parent.iterdir())) == 1


@pytest.mark.parametrize("how", ["layer", "points", "moved"])
def test_prompts_that_are_gone_from_other_planes_do_not_come_back(viewer: Any, make_widget: Make, how: str) -> None:
    widget = stack_widget(viewer, make_widget)
    widget.pick_panel.add_points()
    points = widget.prompts.points
    for place in (0, 1, 2):
        viewer.dims.set_current_step(0, place)
        points.add([[place, 30, 30]])
    widget.pick_panel.add_points()
    widget.prompts.points.add([[2, 60, 70]])
    widget.journal.save_prompts()
    path = widget.journal.path
    assert len(prompts_by_plane(read_journal(path))) == 3, "those of a layer that is not followed any more stay"
    if how == "layer":
        viewer.layers.remove(points)
    else:
        points.data = np.array([[0, 30, 30], [0, 60, 70]] if how == "moved" else [[0, 30, 30]])
    lines = path.read_text().count("\n")
    widget.journal.save_prompts()
    found = {plane.index[0]: entry["points_yx"] for plane, entry in prompts_by_plane(read_journal(path)).items()}
    on_first = {"layer": {}, "points": {0: [[30.5, 30.5]]}, "moved": {0: [[30.5, 30.5], [60.5, 70.5]]}}[how]
    assert found == {**on_first, 2: [[60.5, 70.5]]}
    widget.journal.save_prompts()
    assert path.read_text().count("\n") <= lines + 2, "nothing is said twice"


def test_prompts_that_are_gone_while_another_image_is_chosen_do_not_come_back(viewer: Any, make_widget: Make) -> None:
    widget = stack_widget(viewer, make_widget)
    widget.pick_panel.add_shapes()
    square = np.array([[0, 20, 20], [0, 20, 40], [0, 40, 40], [0, 40, 20]])
    widget.prompts.shapes.add(square, shape_type="rectangle")
    widget.journal.save_prompts()
    path = widget.journal.path
    assert len(prompts_by_plane(read_journal(path))) == 1
    viewer.add_layer(Image(np.zeros((50, 60), np.uint8), name="other"))
    widget.segment_panel.image.set_layer(viewer.layers["other"])
    viewer.layers.remove("FastSAM shapes")
    widget.journal.save_prompts()
    assert not prompts_by_plane(read_journal(path))


@pytest.mark.parametrize(
    ("factor", "text"), [(1 / 255, "0.784"), (1, "200"), (200, "40000"), (1e12, "200000000000000")]
)
def test_the_image_s_own_values_are_shown_with_three_digits(
    viewer: Any, make_widget: Make, factor: float, text: str
) -> None:
    image = (np.full((80, 90), 200) * factor).astype(np.float64)
    viewer.add_layer(Image(image, name="Image"))
    widget = make_widget(viewer)
    masks = Masks.from_dense([discs(80, 90, (30, 30, 20)) > 0], [0.9])
    widget.session.put(widget.session.image.unique_id, widget.session.plane, Candidates.measure(masks, image))
    column = [header for header, _ in widget.table.table.headers].index("mean")
    assert widget.table.table.index(0, column).data() == text
    assert widget.filter_panel.sliders["intensity"]._decimals == (3 if factor < 1 else 0)


def test_large_areas_in_the_status_bar_are_whole_numbers(viewer: Any, make_widget: Make) -> None:
    viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name="Image", scale=(10, 10)))
    widget = make_widget(viewer)
    put(widget, [discs(80, 90, (30, 30, 20)) > 0], [0.9])
    area = 100 * int(widget.session.candidates.masks.areas_px[0])
    assert f"{area // 1000} {area % 1000:03d} " in describe_candidate(widget.session, 0, "")


@needs_napari_0_9
@pytest.mark.usefixtures("blob_model")
def test_an_image_that_gets_data_of_another_size_begins_anew(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    image = viewer.add_layer(Image(discs(80, 90, *THREE), name="Image"))
    widget = make_widget(viewer)
    run(qtbot, widget)
    widget.session.select_by_hand([2])
    widget.label_panel.commit_picked()
    widget.session.select_by_hand([1])
    image.data = discs(80, 90, *THREE[1:])
    assert widget.session.selected == [1], "data of the same size: candidates stay"
    path = widget.journal.path
    image.data = np.stack([discs(40, 50, (20, 20, 8))] * 3)
    assert widget.session.candidates is None
    assert widget.session.selected == []
    assert "FastSAM candidates" not in viewer.layers
    assert widget.segment_panel.stack_axis() == 0
    assert widget.segment_panel.channels.count() == 3, "one of them is the new axis"
    assert "its shape is (80, 90)" in widget.label_panel.preview.text()
    run(qtbot, widget)
    widget.label_panel.target.set_layer(None)
    widget.label_panel.commit_shown()
    assert widget.labels.target.data.shape == (3, 40, 50)
    assert widget.labels.target.data.any()
    assert read_journal(widget.journal.path).header["image"]["shape"] == [3, 40, 50]
    assert read_journal(path).header["image"]["shape"] == [80, 90]
    viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name="other"))
    widget.segment_panel.image.set_layer(viewer.layers["other"])
    image.data = discs(80, 90, *THREE)
    widget.segment_panel.image.set_layer(image)
    assert widget.session.candidates is None, "it was changed while another was worked on"


def test_data_of_another_size_during_the_work(
    viewer: Any, make_widget: Make, qtbot: Any, blob_model: BlobModel
) -> None:
    waiting, going_on = threading.Event(), threading.Event()

    def gate() -> None:
        waiting.set()
        going_on.wait(60)

    blob_model.gate = gate
    image = viewer.add_layer(Image(np.stack([discs(80, 90, *THREE)] * 3), name="Image"))
    widget = make_widget(viewer)
    widget.segment_panel.stack.setChecked(True)
    widget.segment_panel.run_button.click()
    qtbot.waitUntil(waiting.is_set, timeout=60_000)
    image.data = np.stack([discs(40, 50, (20, 20, 8))] * 2)
    going_on.set()
    qtbot.waitUntil(lambda: not widget.segmentation.running, timeout=30_000)
    assert "data of another size" in str(notification_manager.records[-1].message)
    assert widget.session.candidates is None
    assert not len(widget.session.pool)
    run(qtbot, widget)
    widget.label_panel.commit_shown()
    assert viewer.layers["Image labels"].data.any()
