"""Several Labels layers: each keeps its steps while another is the target, in the widget and in the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from napari.layers import Image, Labels
from napari.utils.notifications import notification_manager
from typer.testing import CliRunner

from fastsam_core.cli import app
from fastsam_core.journal import read_journal
from fastsam_core.masks import Masks
from napari_fastsam.controllers import label_writer
from napari_fastsam.models.candidates import Candidates

from .conftest import THREE, BlobModel, Make, discs, run
from .test_interaction import press, put
from .test_kept_state import stack_widget

if TYPE_CHECKING:
    from pathlib import Path


def two_targets(viewer: Any, widget: Any) -> tuple[Any, Any]:
    """Commit the first candidate into one layer and the second into another, which stays the target."""
    widget.session.select_by_hand([0])
    widget.label_panel.commit_picked()
    first = widget.labels.target
    widget.label_panel.target.set_layer(None)
    widget.session.select_by_hand([1])
    widget.label_panel.commit_picked()
    return first, widget.labels.target


def test_a_target_that_is_chosen_again_knows_its_steps(viewer: Any, make_widget: Make) -> None:
    widget = stack_widget(viewer, make_widget)
    first, second = two_targets(viewer, widget)
    assert (set(np.unique(first.data)), set(np.unique(second.data))) == ({0, 1}, {0, 1})
    widget.label_panel.target.set_layer(first)
    widget.labels.undo()
    assert not first.data.any()
    assert second.data.any()
    assert list(widget.session.committed) == [1]
    widget.labels.redo()
    assert sorted(widget.session.committed) == [0, 1]
    assert first.data.any()


def test_undo_keys_of_a_layer_that_is_no_longer_the_target(viewer: Any, make_widget: Make) -> None:
    widget = stack_widget(viewer, make_widget)
    first, second = two_targets(viewer, widget)
    press(first, "Control-Z")
    assert not first.data.any()
    assert widget.labels.target is second
    assert list(widget.session.committed) == [1]
    press(first, "Control-Shift-Z")
    assert sorted(widget.session.committed) == [0, 1]
    widget.shut_down()
    assert not [key for key in (*first.keymap, *second.keymap) if "Z" in str(key)]


def test_strokes_beside_the_target_are_seen(viewer: Any, make_widget: Make) -> None:
    widget = stack_widget(viewer, make_widget)
    first, _ = two_targets(viewer, widget)
    first.data_setitem((np.array([0]), np.array([0]), np.array([0])), 7)
    widget.label_panel.target.set_layer(first)
    assert widget.labels.next_id() == 8
    widget.labels.undo()
    assert sorted(widget.session.committed) == [0, 1], "a stroke was undone, no commit"
    assert widget.labels.next_id() == 2


@pytest.mark.parametrize("large", [False, True])
def test_no_label_is_given_twice_after_changes_in_place(
    viewer: Any, make_widget: Make, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    """The console, or another plugin, writes into the array; of a large one a refresh says so."""
    if large:
        monkeypatch.setattr(label_writer, "_QUICK_PX", 0)
    widget = stack_widget(viewer, make_widget)
    widget.labels.commit([0])
    widget.labels.commit([1])
    labels = widget.labels.target
    labels.data[1, :10, :10] = 3
    if large:
        labels.refresh()
    assert widget.labels.next_id() == 4
    viewer.dims.set_current_step(0, 1)
    widget.labels.commit([0])
    assert widget.session.committed == {0: 4}


def test_large_labels_are_not_counted_for_each_commit_and_plane(
    viewer: Any, make_widget: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_writer, "_QUICK_PX", 0)
    widget = stack_widget(viewer, make_widget)
    widget.labels.commit([0])
    writer = widget.labels._writer
    assert widget.labels.next_id() == 2
    for place in (0, 1, 2):
        viewer.dims.set_current_step(0, place)
        widget.labels.commit([1])
        assert writer._highest == place + 2


def test_the_journal_tells_targets_apart(viewer: Any, make_widget: Make) -> None:
    """A crash after an undo in the first of two layers: each comes back with what was in it, in a layer of its own."""
    widget = stack_widget(viewer, make_widget)
    first, second = two_targets(viewer, widget)
    names = first.name, second.name
    widget.label_panel.target.set_layer(first)
    viewer.dims.set_current_step(0, 1)
    widget.labels.commit([0])
    widget.label_panel.target.set_layer(second)
    widget.labels.commit([1])
    widget.label_panel.target.set_layer(first)
    widget.labels.undo()
    wanted = [layer.data.copy() for layer in (first, second)]
    assert [set(np.unique(values)) for values in wanted] == [{0, 1}, {0, 1, 2}]
    assert read_journal(widget.journal.path).targets == names
    viewer.layers.remove(first)
    viewer.layers.remove(second)
    widget.label_panel.target.set_layer(None)
    widget.journal.restore(read_journal(widget.journal.path))
    for name, values in zip(names, wanted, strict=True):
        np.testing.assert_array_equal(viewer.layers[name].data, values)


@pytest.mark.usefixtures("blob_model")
def test_one_of_several_targets_is_replayed(viewer: Any, make_widget: Make, qtbot: Any, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", discs(80, 90, *THREE))
    viewer.open(tmp_path / "a.tif")
    widget = make_widget(viewer)
    run(qtbot, widget)
    first, second = two_targets(viewer, widget)
    journal = widget.journal.path
    widget.shut_down()
    arguments = ["replay", str(journal), str(tmp_path / "a.tif"), "--out", str(tmp_path / "out")]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 2, refused.output
    assert first.name in refused.output.replace("\n", " ")
    done = CliRunner().invoke(app, [*arguments, "--target", second.name])
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "a_labels.tif"), second.data)


def test_hand_picks_are_there_again_when_their_plane_is(viewer: Any, make_widget: Make) -> None:
    widget = stack_widget(viewer, make_widget)
    session = widget.session
    session.select_by_hand([1])
    viewer.dims.set_current_step(0, 1)
    assert session.selected == []
    session.select_by_hand([0])
    viewer.dims.set_current_step(0, 0)
    assert session.selected == [1]
    assert [index.row() for index in widget.table.selectionModel().selectedRows()] == [1]
    put(widget, [discs(80, 90, (30, 30, 20)) > 0], [0.9])
    assert session.selected == [], "these are others"
    viewer.dims.set_current_step(0, 1)
    assert session.selected == [0]
    session.forget()
    assert session.selected == []


def test_a_commit_is_undone_and_redone_among_other_candidates(viewer: Any, make_widget: Make) -> None:
    """The plane was segmented anew since: its candidates are others, or stand in another order."""
    widget = stack_widget(viewer, make_widget)
    session = widget.session
    session.select_by_hand([1])
    widget.label_panel.commit_picked()
    big, small = discs(80, 90, (30, 30, 20)) > 0, discs(80, 90, (60, 70, 5)) > 0
    again = Candidates.measure(Masks.from_dense([small, big], [0.9, 0.8]))
    session.put(session.image_id, session.plane, again)
    assert session.committed == {0: 1}
    widget.labels.undo()
    assert session.committed == {}
    widget.labels.redo()
    assert session.committed == {0: 1}
    put(widget, [big], [0.9])
    widget.labels.undo()
    widget.labels.redo()
    assert session.committed == {}, "what was committed is none of these"


@pytest.mark.parametrize("removed", [False, True])
def test_targets_of_one_name_are_told_apart(viewer: Any, make_widget: Make, removed: bool) -> None:
    """The first was renamed or removed before the second was made, which napari could give the same name, then."""
    widget = stack_widget(viewer, make_widget)
    session = widget.session
    session.select_by_hand([0])
    widget.label_panel.commit_picked()
    first = widget.labels.target
    wanted = [first.data.copy()]
    if removed:
        viewer.layers.remove(first)
    else:
        first.name = "final"
        widget.label_panel.target.set_layer(None)
    session.select_by_hand([1])
    widget.label_panel.commit_picked()
    second = widget.labels.target
    wanted.append(second.data.copy())
    assert second.name == "Image labels"
    journal = read_journal(widget.journal.path)
    assert journal.targets == ("Image labels", "Image labels [1]")
    for layer in [layer for layer in viewer.layers if layer in (first, second)]:
        viewer.layers.remove(layer)
    widget.journal.restore(journal)
    for name, values in zip(journal.targets, wanted, strict=True):
        np.testing.assert_array_equal(viewer.layers[name].data, values)
    session.forget()
    widget.labels.undo()
    assert read_journal(widget.journal.path).targets == ("Image labels",)


def test_a_commit_that_changes_nothing_is_no_step_of_the_journal(viewer: Any, make_widget: Make) -> None:
    """What has its label already is marked as committed; undo then takes back the step before, here and there."""
    widget = stack_widget(viewer, make_widget)
    labels = widget.labels
    labels.chosen_id = 3
    labels.commit([0])
    put(widget, [discs(80, 90, (30, 30, 20)) > 0], [0.9])
    labels.commit([0])
    assert widget.session.committed == {0: 3}
    journal = widget.journal.path
    assert [entry["do"] for entry in read_journal(journal).entries] == ["commit"]
    labels.undo()
    assert not labels.target.data.any()
    assert read_journal(journal).label_steps == ()


@pytest.mark.parametrize(("dtype", "highest"), [(np.uint64, 2**64 - 1), (np.uint64, 2**63), (np.int64, 2**63 - 1)])
def test_labels_near_the_end_of_64_bits_cannot_be_counted_on(
    viewer: Any, make_widget: Make, dtype: Any, highest: int
) -> None:
    viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name="Image"))
    widget = make_widget(viewer)
    put(widget, [discs(80, 90, (30, 30, 20)) > 0], [0.9])
    values = np.zeros((80, 90), dtype)
    values[0, 0] = highest
    target = viewer.add_layer(Labels(values, name="hashes"))
    widget.label_panel.target.set_layer(target)
    widget.session.select_by_hand([0])
    assert f"'hashes' cannot be used: it has label {highest}" in widget.label_panel.preview.text()
    widget.label_panel.commit_picked()
    assert f"it has label {highest}" in str(notification_manager.records[-1].message)
    assert np.count_nonzero(target.data) == 1


def test_a_hidden_target_is_written_on_any_plane(viewer: Any, make_widget: Make) -> None:
    """Napari does not follow the slider with a layer that is hidden."""
    viewer.add_layer(Labels(np.zeros((3, 80, 90), np.int32), name="mine"))
    widget = stack_widget(viewer, make_widget)
    mine = viewer.layers["mine"]
    widget.label_panel.target.set_layer(mine)
    widget.labels.commit([0])
    mine.visible = False
    viewer.dims.set_current_step(0, 1)
    widget.labels.commit([0])
    assert not notification_manager.records
    assert [plane.max() for plane in mine.data] == [1, 2, 0]
    mine.visible = True
    widget.labels.undo()
    assert [plane.max() for plane in mine.data] == [1, 0, 0]


@pytest.mark.parametrize("made_here", [True, False])
def test_larger_numbers_in_a_hidden_target(viewer: Any, make_widget: Make, made_here: bool) -> None:
    """Ids were cut to the numbers that the layer had when it was last shown."""
    widget = stack_widget(viewer, make_widget)
    if not made_here:
        viewer.add_layer(Labels(np.zeros((3, 80, 90), np.int8), name="mine"))
        widget.label_panel.target.set_layer(viewer.layers["mine"])
    widget.labels.commit([0])
    target = widget.labels.target
    target.visible = False
    if not made_here:
        target.data = target.data.astype(np.int32)
    widget.labels.chosen_id = 70_000
    widget.labels.commit([1])
    assert sorted(np.unique(target.data)) == [0, 1, 70_000]


def test_steps_of_a_target_with_data_of_another_size_cannot_be_taken_back(viewer: Any, make_widget: Make) -> None:
    widget = stack_widget(viewer, make_widget)
    widget.labels.commit([0])
    target = widget.labels.target
    target.data = np.zeros((2, 20, 20), np.uint16)
    for step in (widget.labels.undo, widget.labels.redo):
        step()
    assert "the layer got data of shape (2, 20, 20) since" in str(notification_manager.records[0].message)
    assert not target.data.any()


@pytest.mark.parametrize("how", ["load", "segment"])
def test_what_was_committed_is_so_among_candidates_found_anew(
    viewer: Any, make_widget: Make, blob_model: BlobModel, qtbot: Any, tmp_path: Path, how: str
) -> None:
    """All were offered again, and with 'Steal pixels' got another label over the one they had."""
    viewer.add_layer(Image(discs(80, 90, *THREE), name="Image"))
    widget = make_widget(viewer)
    session = widget.session
    run(qtbot, widget)
    session.select_by_hand([0, 2])
    widget.label_panel.commit_picked()
    session.select_by_hand([1])
    widget.filter_panel.save(str(tmp_path / "found.npz"))
    if how == "load":
        widget.filter_panel.load(str(tmp_path / "found.npz"))
    else:
        run(qtbot, widget)
    assert (session.committed, session.selected) == ({0: 1, 2: 2}, [1])
    widget.labels.overlap = "steal"
    widget.label_panel.commit_shown()
    assert session.committed == {0: 1, 1: 3, 2: 2}
    labels = widget.labels.target.data
    assert [labels[int(y), int(x)] for y, x, _ in THREE] == [session.committed[i] for i in (0, 1, 2)]
    widget.labels.undo()
    widget.labels.undo()
    assert (session.committed, labels.any()) == ({}, False)
