"""Stacks of more than three axes: the axis that is linked along, and stacks beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from napari.layers import Image
from napari.utils.notifications import notification_manager

from fastsam_core.journal import read_journal
from napari_fastsam._settings import Settings

from .conftest import THREE, BlobModel, Make, discs, run
from .test_replay import replay

if TYPE_CHECKING:
    from pathlib import Path


def two_times_three() -> np.ndarray[Any, Any]:
    """Return planes over time (2) and depth (3): objects shift by a pixel a plane in depth, others are there later."""
    times = (THREE[:2], THREE[2:])
    return np.stack([np.stack([discs(80, 90, *((y + z, x, r) for y, x, r in one)) for z in range(3)]) for one in times])


def segment_stack(viewer: Any, widget: Any, qtbot: Any, *place: int) -> None:
    for axis, index in enumerate(place):
        viewer.dims.set_current_step(axis, index)
    widget.segment_panel.stack.setChecked(True)
    run(qtbot, widget)


def present(labels: Any) -> list[list[list[int]]]:
    return [[sorted(set(np.unique(plane).tolist()) - {0}) for plane in planes] for planes in labels]


@pytest.mark.usefixtures("blob_model")
def test_the_longest_axis_is_offered_first(viewer: Any, make_widget: Make) -> None:
    viewer.add_layer(Image(two_times_three(), name="Image", axis_labels=("t", "z", "y", "x")))
    panel = make_widget(viewer).segment_panel
    assert panel.stack_axis() == 1
    assert panel.stack.text() == "All 3 planes along z, linked"
    assert panel.along.isHidden(), "as long as no stack is asked for"
    panel.stack.setChecked(True)
    assert not panel.along.isHidden()
    panel.along.setCurrentText("Along t: 2 planes")
    assert panel.stack.text() == "All 2 planes along t, linked"
    viewer.dims.set_current_step(1, 2)
    assert panel.stack_axis() == 0, "what was chosen stays"
    viewer.dims.ndisplay = 3
    assert panel.stack.isHidden()
    viewer.dims.ndisplay = 2
    assert panel.stack_axis() == 0
    viewer.add_layer(Image(two_times_three()[0], name="one"))
    panel.image.set_layer(viewer.layers["one"])
    assert panel.along.isHidden()
    assert panel.stack_axis() == 0
    viewer.add_layer(Image(two_times_three()[0, 0], name="flat"))
    panel.image.set_layer(viewer.layers["flat"])
    assert panel.stack_axis() is None
    assert panel.stack.isHidden()
    panel.image.set_layer(viewer.layers["Image"])
    assert panel.stack_axis() == 0
    assert not panel.along.isHidden()


@pytest.mark.usefixtures("blob_model")
def test_objects_of_two_stacks_are_told_apart(
    viewer: Any, make_widget: Make, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time point is linked along depth; a whole object is written at its own time point alone."""
    monkeypatch.delenv("FASTSAM_JOURNALS")
    tifffile.imwrite(tmp_path / "tz.tif", two_times_three(), photometric="minisblack", metadata={"axes": "TZYX"})
    viewer.open(tmp_path / "tz.tif")
    widget = make_widget(viewer)
    segment_stack(viewer, widget, qtbot, 0, 0)
    assert not widget.label_panel.whole.isHidden()
    viewer.dims.set_current_step(0, 1)
    assert widget.label_panel.whole.isHidden(), "this plane is not part of a stack"
    segment_stack(viewer, widget, qtbot, 1, 0)
    widget.label_panel.whole.setChecked(True)
    assert len(widget.session.candidates) == 1
    widget.labels.commit([0])
    labels = viewer.layers["tz labels"].data
    assert present(labels) == [[[], [], []], [[1], [1], [1]]]
    viewer.dims.set_current_step(0, 0)
    widget.labels.commit([0, 1])
    assert present(labels) == [[[2, 3]] * 3, [[1]] * 3]
    widget.segment_panel.along.setCurrentIndex(0)
    segment_stack(viewer, widget, qtbot, 0, 2)
    assert [len(widget.session.stack_of(widget.session.plane.at(1, z))) for z in range(3)] == [2, 2, 2]
    path = widget.journal.path
    widget.shut_down()
    assert [entry["stack_axis"] for entry in read_journal(path).label_steps] == [1, 1]
    [again] = replay(path, tmp_path / "tz.tif", out=tmp_path / "out")
    np.testing.assert_array_equal(again, labels)


@pytest.mark.usefixtures("blob_model")
def test_a_whole_object_that_was_restored_is_undone_in_one_step(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    viewer.add_layer(Image(two_times_three(), name="Image"))
    widget = make_widget(viewer)
    segment_stack(viewer, widget, qtbot, 0, 0)
    widget.label_panel.whole.setChecked(True)
    widget.labels.commit([0])
    widget.labels.commit([1])
    viewer.layers.remove("Image labels")
    widget.journal.restore(read_journal(widget.journal.path))
    labels = viewer.layers["Image labels"]
    assert present(labels.data)[0] == [[1, 2]] * 3
    widget.labels.undo()
    assert present(labels.data)[0] == [[1]] * 3
    [step] = read_journal(widget.journal.path).label_steps
    assert step["labels"] == [1]


@pytest.mark.usefixtures("blob_model")
def test_whole_objects_when_memory_was_short(
    viewer: Any, make_widget: Make, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plane that is shown keeps its candidates; what cannot be written elsewhere is said, and how to get it."""
    monkeypatch.setattr("napari_fastsam.controllers.segmentation.read_settings", lambda: Settings(cache_mb=0))
    viewer.add_layer(Image(two_times_three()[0], name="Image"))
    widget = make_widget(viewer)
    segment_stack(viewer, widget, qtbot, 0)
    assert len(widget.session.candidates) == 2
    assert {plane.index[0] for plane in widget.session.pool} == {0, 2}
    widget.label_panel.whole.setChecked(True)
    widget.labels.commit([0])
    assert present([viewer.layers["Image labels"].data]) == [[[1], [], [1]]]
    assert "Nothing was written in 1 of the stack's 3 planes" in str(notification_manager.records[-1].message)
    notification_manager.records.clear()
    monkeypatch.setattr("napari_fastsam.controllers.segmentation.read_settings", Settings)
    segment_stack(viewer, widget, qtbot, 0)
    widget.labels.commit([1])
    assert present([viewer.layers["Image labels"].data]) == [[[1, 2], [2], [1, 2]]]
    assert not notification_manager.records


@pytest.mark.usefixtures("blob_model")
def test_channels_in_colours_are_no_rows_of_a_plane(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    """The axes are rolled: what was taken as channels lies in the plane; rolled back, everything is there again."""
    viewer.add_layer(Image(two_times_three(), name="Image"))
    widget = make_widget(viewer)
    widget.segment_panel.channels.setCurrentIndex(1)
    assert widget.session.channel_axis == 0
    run(qtbot, widget)
    found = widget.session.candidates
    viewer.dims.order = (1, 2, 3, 0)
    assert widget.session.plane is None
    widget.segment_panel.run_button.click()
    assert not widget.segmentation.running
    assert "channels 'As shown'" in str(notification_manager.records[-1].message)
    viewer.dims.order = (1, 0, 3, 2)
    assert widget.session.candidates is found, "transposed, but of the same axes"
    widget.segment_panel.stack.setChecked(True)
    run(qtbot, widget)
    widget.label_panel.whole.setChecked(True)
    widget.label_panel.commit_shown()
    assert widget.labels.target.data.shape == (1, 3, 80, 90)
    assert present(widget.labels.target.data) == [[[1, 2]] * 3]


def test_halfway_between_planes_is_the_one_that_is_shown(viewer: Any, make_widget: Make) -> None:
    """Where another layer has planes twice as near to each other, the slider stands there, too."""
    stack = np.arange(4, dtype=np.uint8).reshape(4, 1, 1) * np.ones((4, 80, 90), np.uint8)
    viewer.add_layer(Image(np.zeros((8, 80, 90), np.uint8), name="near"))
    image = viewer.add_layer(Image(stack, name="far", scale=(2, 1, 1)))
    widget = make_widget(viewer)
    widget.segment_panel.image.set_layer(image)
    for place in range(7):
        viewer.dims.set_point(0, place)
        shown = image.get_value((place, 5, 5), world=True)
        assert widget.session.plane.fixed == {0: shown}
        viewer.dims.set_point(0, place + 0.4)  # the slider is as far as before; programs that link viewers do this
        shown = image.get_value((place + 0.4, 5, 5), world=True)
        assert widget.session.plane.fixed == {0: shown}


def in_turn(planes: int = 5) -> np.ndarray[Any, Any]:
    """Make a stack with one of the discs in each of the planes 1 to 3."""
    return np.stack([discs(80, 90, *THREE[max(z - 1, 0) : z]) if z < 4 else discs(80, 90) for z in range(planes)])


@pytest.mark.parametrize(
    ("mode", "margins", "counts"),
    [
        ("max", (1, 1), [1, 2, 3, 2, 1]),
        ("max", (2, 0), [0, 1, 2, 3, 2]),
        ("max", (1, 0.4), [0, 0, 1, 1, 1]),
        ("none", (1, 1), [0, 1, 1, 1, 0]),
    ],
)
def test_a_thick_slice_is_segmented_as_it_is_shown(
    viewer: Any,
    make_widget: Make,
    qtbot: Any,
    blob_model: BlobModel,
    mode: str,
    margins: tuple[float, float],
    counts: list[int],
) -> None:
    """What is seen was the brightest of several planes; one of them was segmented."""
    image = Image(in_turn(), name="Image", scale=(2, 1, 1), contrast_limits=(0, 255), projection_mode=mode)
    viewer.add_layer(image)
    viewer.dims.set_current_step(0, 2)
    viewer.dims.margin_left, viewer.dims.margin_right = (2 * margins[0], 0, 0), (2 * margins[1], 0, 0)
    widget = make_widget(viewer)
    run(qtbot, widget)
    np.testing.assert_array_equal(blob_model.seen[-1][..., 0], image._slice.image.raw)
    assert len(widget.session.candidates) == counts[2]
    widget.segment_panel.stack.setChecked(True)
    run(qtbot, widget)
    assert [len(widget.session.pool.get(widget.session.plane.at(0, z))) for z in range(5)] == counts
