"""What an interrupted session left: into which layers it comes back, and whose journal it is."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Image, Labels
from napari.utils.notifications import notification_manager

from fastsam_core.journal import Journal, read_journal
from napari_fastsam.controllers.journal import journal_path

from .conftest import THREE, BlobModel, Make, choose_region, discs, run
from .test_interaction import put

if TYPE_CHECKING:
    from pathlib import Path


def opened_again(viewer: Any, widget: Any, make_widget: Make, **options: Any) -> Any:
    """Open the image of a session that crashed, and a widget."""
    data = widget.session.image.data
    widget.journal._record.journal = None  # as if the program had died
    viewer.window.remove_dock_widget(widget)
    viewer.layers.clear()
    viewer.add_layer(Image(data, name="Image", **options))
    return make_widget(viewer)


def test_labels_come_back_in_a_layer_of_their_own(viewer: Any, make_widget: Make) -> None:
    """Another layer that is chosen under 'Into' may be unfit, or have labels of its own."""
    viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name="Image"))
    widget = make_widget(viewer)
    put(widget, [discs(80, 90, (30, 30, 20)) > 0], [0.9])
    widget.labels.commit([0])
    again = opened_again(viewer, widget, make_widget)
    small = viewer.add_layer(Labels(np.zeros((20, 20), np.int8), name="small"))
    again.label_panel.target.set_layer(small)
    again.restore_bar.restore_button.click()
    assert not notification_manager.records
    assert viewer.layers["Image labels"].data[30, 30] == 1
    assert not small.data.any()


def test_steps_on_painted_labels_do_not_stop_the_others(viewer: Any, make_widget: Make) -> None:
    viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name="Image"))
    widget = make_widget(viewer)
    put(widget, [discs(80, 90, place) > 0 for place in ((20, 20, 8), (20, 60, 8), (60, 60, 8))], [0.9, 0.8, 0.7])
    widget.labels.commit([0])
    painted = np.nonzero(discs(80, 90, (20, 60, 8)))
    widget.labels.target.data_setitem(painted, 9)
    widget.labels.merge([0, 1])
    widget.labels.commit([2])
    again = opened_again(viewer, widget, make_widget)
    again.restore_bar.restore_button.click()
    assert [viewer.layers["Image labels"].data[at] > 0 for at in ((20, 20), (20, 60), (60, 60))] == [True, False, True]
    assert "1 of 3 steps were left out" in str(notification_manager.records[-1].message)


@pytest.mark.usefixtures("blob_model")
def test_channels_are_to_be_taken_as_in_the_session(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    """Labels of channels in colours have no channel axis; in labels of each channel they were those of the first."""
    names = {"axis_labels": ("c", "y", "x")}
    viewer.add_layer(Image(np.stack([discs(80, 90, *THREE)] * 3), name="Image", **names))
    widget = make_widget(viewer)
    widget.segment_panel.channels.setCurrentIndex(1)
    run(qtbot, widget)
    widget.label_panel.commit_shown()
    before = viewer.layers["Image labels"].data.copy()
    again = opened_again(viewer, widget, make_widget, **names)
    again.restore_bar.restore_button.click()
    assert "choose the channels along c under 'Channels'" in str(notification_manager.records[-1].message)
    assert not again.restore_bar.isHidden()
    assert "Image labels" not in viewer.layers
    again.segment_panel.channels.setCurrentIndex(1)
    again.restore_bar.restore_button.click()
    np.testing.assert_array_equal(viewer.layers["Image labels"].data, before)


def test_an_image_in_two_viewers_has_two_journals(
    make_napari_viewer: Any, make_widget: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is an earlier session of the other, and undo in one takes back nothing in the other."""
    monkeypatch.setenv("FASTSAM_JOURNALS", str(tmp_path))
    widgets = []
    for y in (20, 60):
        viewer = make_napari_viewer()
        viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name="Image"))
        widgets.append(make_widget(viewer))
        assert widgets[-1].restore_bar.isHidden()
        put(widgets[-1], [discs(80, 90, (y, 20, 8)) > 0], [0.9])
        widgets[-1].labels.commit([0])
    one, two = widgets
    one.labels.undo()
    steps = [[entry["do"] for entry in read_journal(each.journal.path).entries] for each in widgets]
    assert steps == [["commit", "undo"], ["commit"]]
    two.shut_down()
    one.shut_down()
    assert all(read_journal(path).complete for path in tmp_path.iterdir())


ANOTHER = """
import sys
from napari.layers import Image
import numpy as np
from fastsam_core.journal import Journal
from napari_fastsam.controllers.journal import journal_path
journal = Journal(journal_path(Image(np.zeros((80, 90), np.uint8), name="Image")), {"image": {"shape": [80, 90]}})
journal.append("commit", masks=[], labels=[])
print(flush=True)
sys.stdin.read()
journal.append("commit", masks=[], labels=[])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no locks")
def test_an_image_in_two_processes_has_two_journals(viewer: Any, make_widget: Make) -> None:
    """One was an interrupted session to the other, which took it away and wrote into the same file."""
    with subprocess.Popen([sys.executable, "-c", ANOTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name="Image"))
        widget = make_widget(viewer)
        assert widget.restore_bar.isHidden()
        put(widget, [discs(80, 90, (20, 20, 8)) > 0], [0.9])
        widget.labels.commit([0])
        widget.labels.undo()
        path = widget.journal.path
        other.stdin.close()
    assert other.returncode == 0
    steps = {
        one.name.count(".other"): [step["do"] for step in read_journal(one).entries] for one in path.parent.iterdir()
    }
    assert steps == {0: ["commit", "commit"], 1: ["commit", "undo"]}
    again = opened_again(viewer, widget, make_widget)
    assert len(again.journal.interrupted.entries) == 2, "that of the other process, which has ended"
    assert ".other" not in again.journal.interrupted.path.name


@pytest.mark.skipif(sys.platform == "win32", reason="no locks")
def test_a_journal_that_a_second_process_began_is_offered(viewer: Any, make_widget: Make) -> None:
    """It crashed, and the first one was closed in order."""
    image = viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name="Image"))
    first = Journal(journal_path(image), {"image": {"shape": [80, 90]}})
    widget = make_widget(viewer)
    put(widget, [discs(80, 90, (20, 20, 8)) > 0], [0.9])
    widget.labels.commit([0])
    path = widget.journal.path
    assert ".other" in path.name
    first.append("close")
    del first
    again = opened_again(viewer, widget, make_widget)
    assert again.restore_bar.text.toolTip() == str(path)
    again.restore_bar.restore_button.click()
    assert viewer.layers["Image labels"].data[20, 20] == 1
    assert again.journal.path == path
    viewer.window.remove_dock_widget(again)
    assert make_widget(viewer).restore_bar.isHidden()


@pytest.mark.parametrize("kind", ["array", "dask", "pyramid"])
def test_arrays_of_one_name_and_shape_have_journals_of_their_own(viewer: Any, make_widget: Make, kind: str) -> None:
    import dask.array as da

    def layer(value: int) -> Image:
        data: Any = np.full((3, 80, 90), value, np.uint8)
        data = da.from_array(data, chunks=(1, 40, 45)) if kind == "dask" else data
        return Image([data, data[:, ::2, ::2]] if kind == "pyramid" else data, name="Image")

    viewer.add_layer(layer(1))
    widget = make_widget(viewer)
    put(widget, [discs(80, 90, (20, 20, 8)) > 0], [0.9])
    widget.labels.commit([0])
    widget.journal._record.journal = None  # as if the program had died
    viewer.window.remove_dock_widget(widget)
    for value in (2, 1):
        viewer.layers.clear()
        viewer.add_layer(layer(value))
        again = make_widget(viewer)
        assert again.restore_bar.isHidden() == (value == 2)
        viewer.window.remove_dock_widget(again)


@pytest.mark.parametrize("region", ["plane", "tiles"])
def test_what_comes_back_is_committed_among_candidates_found_anew(
    viewer: Any, make_widget: Make, blob_model: BlobModel, qtbot: Any, region: str
) -> None:
    """All objects were offered again, those too that had their labels back."""
    viewer.add_layer(Image(discs(80, 90, *THREE), name="Image"))
    widget = make_widget(viewer)
    run(qtbot, widget)
    for index in (2, 0):
        widget.session.select_by_hand([index])
        widget.label_panel.commit_picked()
    again = opened_again(viewer, widget, make_widget)
    again.restore_bar.restore_button.click()
    choose_region(again, region)
    run(qtbot, again)
    session = again.session
    assert sorted(session.committed.values()) == [1, 2]
    again.labels.undo()
    assert list(session.committed.values()) == [1]
    again.label_panel.commit_shown()
    assert sorted(session.committed.values()) == [1, 2, 3]
    viewer.layers.remove(again.labels.target)
    run(qtbot, again)
    assert session.committed == {}
