"""Commits of very many candidates: planned in a worker, while the user goes on."""

from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Image, Labels
from napari.utils.notifications import notification_manager

from fastsam_core import label_edits
from fastsam_core.errors import FastSAMError
from fastsam_core.journal import read_journal
from fastsam_core.masks import Masks
from napari_fastsam.controllers import labelling
from napari_fastsam.models import commits
from napari_fastsam.models.candidates import Candidates, Linked

from .test_interaction import Mouse, press

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Make

_ROWS, _CELL_PX, _SIDE_PX = 33, 21, 13
_COUNT, _PLANE_PX = _ROWS**2, _ROWS * _CELL_PX


def grid(seed: int = 0) -> Candidates:
    """Return a thousand squares with room between them, together larger than what is committed at once."""
    rng = np.random.default_rng(seed)
    origins = [(_CELL_PX * (k // _ROWS) + 3, _CELL_PX * (k % _ROWS) + 4) for k in range(_COUNT)]
    crops = [np.ones((_SIDE_PX, _SIDE_PX), bool)] * _COUNT
    masks = Masks.from_crops(crops, origins, (_PLANE_PX, _PLANE_PX), rng.permutation(np.linspace(0.3, 1, _COUNT)))
    assert masks.areas_px.sum() > labelling._AT_ONCE_PX
    return Candidates.measure(masks)


class Scene:
    """A widget with a grid of candidates, whose plans wait for `gate`."""

    def __init__(self, viewer: Any, make_widget: Make, qtbot: Any, gate: Event) -> None:
        viewer.add_layer(Image(np.zeros((2, _PLANE_PX, _PLANE_PX), np.uint8), name="Image"))
        self.viewer, self.widget, self.qtbot, self.gate = viewer, make_widget(viewer), qtbot, gate
        self.session, self.labels, self.panel = self.widget.session, self.widget.labels, self.widget.label_panel
        viewer.dims.set_current_step(0, 0)
        self.candidates = grid()
        self.put(self.candidates)
        self.said = len(notification_manager.records)

    def put(self, candidates: Candidates, how: Any = "replace") -> None:
        self.session.put(self.session.image.unique_id, self.session.plane, candidates, how=how)

    def begin(self) -> None:
        """Press the button; the plan waits."""
        self.panel.all_button.click()
        assert self.labels.planning.running
        assert self.panel.all_button.text() == "Cancel"
        assert not self.panel.progress.isHidden()

    def end(self) -> None:
        """Let the plan be made."""
        self.gate.set()
        self.qtbot.waitUntil(lambda: not self.labels.planning.running, timeout=60_000)
        assert self.panel.all_button.text() == "Commit all shown"
        assert self.panel.progress.isHidden()

    @property
    def plane(self) -> Any:
        return self.viewer.layers["Image labels"].data[0]

    @property
    def messages(self) -> list[str]:
        return [str(record.message) for record in notification_manager.records[self.said :]]

    def nothing_written(self) -> bool:
        return not self.session.committed and "Image labels" not in self.viewer.layers


@pytest.fixture
def scene(viewer: Any, make_widget: Make, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """Return a scene; whatever a test leaves waiting goes on at its end."""
    gate = Event()

    def waiting(*args: Any) -> Any:
        yield 0.0
        if len(args[1]) > _COUNT // 2:
            assert gate.wait(60)
        return (yield from label_edits.commit_steps(*args))

    monkeypatch.setattr(commits, "commit_steps", waiting)
    yield Scene(viewer, make_widget, qtbot, gate)
    gate.set()


def expected(before: Any, candidates: Candidates, first: int, overlap: label_edits.Overlap = "keep") -> Any:
    """Return what a commit of all candidates makes of a plane."""
    ids = list(range(first, first + len(candidates)))
    edit = label_edits.without_gaps(label_edits.plan_commit(before, candidates.masks, ids, overlap))
    after = before.copy()
    after[edit.rows, edit.columns] = edit.values
    return after


def test_a_large_commit_is_one_step(scene: Scene) -> None:
    scene.begin()
    assert scene.nothing_written(), "the button comes back at once"
    scene.end()
    target = scene.labels.target
    wanted = expected(np.zeros((_PLANE_PX,) * 2, np.int64), scene.candidates, 1)
    np.testing.assert_array_equal(scene.plane, wanted)
    assert scene.session.committed == {k: k + 1 for k in range(_COUNT)}
    entry = read_journal(scene.widget.journal.path).entries[-1]
    assert (entry["do"], entry["scope"], entry["labels"]) == ("commit", "shown", list(range(1, _COUNT + 1)))
    assert Masks.from_coco(entry["masks"], tuple(entry["image_hw"])).runs.tolist() == (
        scene.candidates.masks.runs.tolist()
    )
    press(target, "Control-Z")
    assert not target.data.any()
    assert not scene.session.committed
    press(target, "Control-Shift-Z")
    np.testing.assert_array_equal(scene.plane, wanted)
    assert len(scene.session.committed) == _COUNT
    assert [entry["do"] for entry in read_journal(scene.widget.journal.path).entries] == ["commit", "undo", "redo"]
    assert not scene.messages


def test_what_is_planned_in_pieces_is_written_in_pieces(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_fastsam.controllers.label_writer._WRITTEN_PX", 10_000)
    monkeypatch.setattr(label_edits, "_STEP_MASKS", 100)
    monkeypatch.setattr(label_edits, "_STEP_RUNS", 500)
    shares: list[float] = []
    scene.labels.planning.progress.connect(lambda _text, share: shares.append(share))
    scene.begin()
    scene.end()
    assert len(shares) > 50
    assert shares == sorted(shares)
    np.testing.assert_array_equal(scene.plane, expected(np.zeros((_PLANE_PX,) * 2, np.int64), scene.candidates, 1))
    scene.labels.undo()
    assert not scene.plane.any(), "still one step"


def test_a_stroke_meanwhile_is_respected(scene: Scene) -> None:
    scene.labels.commit([0])
    target = scene.labels.target
    scene.begin()
    scene.viewer.layers.selection.active = target
    target.mode, target.selected_label, target.brush_size = "paint", 7000, 9
    stroke = [(60.0, float(x)) for x in range(50, 300, 25)]
    mouse = Mouse(scene.viewer, _Plane(scene.viewer.layers["Image"]))
    _drag(target, mouse, stroke)
    drawn = scene.plane.copy()
    assert (drawn == 7000).sum() > 1500
    scene.end()
    np.testing.assert_array_equal(scene.plane == 7000, drawn == 7000, "no pixel of the stroke is taken")
    left = [k for k in range(_COUNT) if k not in scene.session.committed]
    assert len(left) > 5, "objects under the stroke are left out"
    assert scene.plane.max() == 7001 + _COUNT - 2 - len(left), "ids go on behind the user's"
    scene.labels.undo()
    np.testing.assert_array_equal(scene.plane, drawn)
    scene.labels.undo()
    assert sorted(np.unique(scene.plane)) == [0, 1]


class _Plane:
    """The first plane of an image, for a mouse that moves in two dimensions."""

    def __init__(self, image: Any) -> None:
        self.image = image

    def data_to_world(self, point_yx: tuple[float, float]) -> Any:
        return self.image.data_to_world((0, *point_yx))


def _drag(layer: Any, mouse: Mouse, path: list[tuple[float, float]]) -> None:
    """Drag over a layer in drawing mode, as napari hands the mouse to it."""
    from napari.utils import interactions

    def event(kind: str, y: float, x: float, *, dragging: bool = False) -> Any:
        made = mouse.event(kind, y, x, dragging=dragging)
        made.dims_displayed = [1, 2]
        return made

    interactions.mouse_press_callbacks(layer, event("mouse_press", *path[0]))
    for y, x in path[1:]:
        interactions.mouse_move_callbacks(layer, event("mouse_move", y, x, dragging=True))
    interactions.mouse_release_callbacks(layer, event("mouse_release", *path[-1]))


@pytest.mark.parametrize("overlap", ["keep", "steal"])
def test_commits_and_undo_meanwhile(scene: Scene, overlap: label_edits.Overlap) -> None:
    scene.labels.overlap = overlap
    scene.labels.commit([3])
    scene.labels.commit([4])
    scene.begin()
    scene.labels.undo()  # candidate 4 was not asked for: it was committed then
    scene.labels.commit([10])
    assert scene.plane[3, 4 + 10 * _CELL_PX] == 2
    scene.end()
    assert scene.session.committed[3] == 1
    assert scene.session.committed[10] == 2
    assert 4 not in scene.session.committed
    assert sorted(np.unique(scene.plane)) == list(range(_COUNT)), "zero and one label for each but one"
    for k, label in scene.session.committed.items():
        assert scene.plane[_CELL_PX * (k // _ROWS) + 5, _CELL_PX * (k % _ROWS) + 6] == label
    assert not scene.messages


def test_cancel_leaves_everything_as_it_was(scene: Scene) -> None:
    scene.begin()
    scene.panel.all_button.click()
    assert not scene.labels.planning.running
    scene.end()
    scene.qtbot.wait(100)
    assert scene.nothing_written()
    scene.panel.all_button.click()
    scene.end()
    assert len(scene.session.committed) == _COUNT


@pytest.mark.parametrize("what", ["target removed", "target chosen", "image removed", "candidates", "dock closed"])
def test_a_plan_without_ground_is_dropped(scene: Scene, what: str) -> None:
    scene.labels.commit([0])
    target = scene.labels.target
    before = target.data.copy()
    scene.begin()
    mine = Labels(np.zeros((2, _PLANE_PX, _PLANE_PX), np.uint16), name="mine")
    if what == "target removed":
        scene.viewer.layers.remove(target)
    elif what == "target chosen":
        scene.viewer.add_layer(mine)
        scene.panel.target.set_layer(scene.viewer.layers["mine"])
    elif what == "image removed":
        scene.viewer.layers.remove("Image")
    elif what == "candidates":
        scene.put(grid(1))
    else:
        scene.viewer.window.remove_dock_widget(scene.widget)
    scene.gate.set()
    scene.qtbot.waitUntil(lambda: not scene.labels.planning.running, timeout=60_000)
    scene.qtbot.wait(50)
    np.testing.assert_array_equal(target.data, before)
    assert not mine.data.any()
    assert len(scene.session.committed) <= 1
    assert [name for name in scene.viewer.layers if "labels" in name.name] == (
        [] if what == "target removed" else [target]
    )
    if what != "dock closed":
        assert len(scene.messages) == 1
        assert "Nothing was committed" in scene.messages[0]
    if what not in ("image removed", "dock closed"):
        scene.panel.all_button.click()
        scene.end()
        assert len(scene.session.committed) >= _COUNT - 1, "it can be asked for again"


def test_the_plane_it_was_asked_for_is_written(scene: Scene) -> None:
    scene.begin()
    scene.viewer.dims.set_current_step(0, 1)
    scene.end()
    assert not scene.viewer.layers["Image labels"].data[1].any()
    assert len(np.unique(scene.plane)) == _COUNT + 1
    assert not scene.session.committed
    scene.viewer.dims.set_current_step(0, 0)
    assert len(scene.session.committed) == _COUNT
    entry = read_journal(scene.widget.journal.path).entries[-1]
    assert entry["plane"]["index"] == [0, None, None]


def test_candidates_that_are_added_meanwhile_change_nothing(scene: Scene) -> None:
    scene.begin()
    more = Masks.from_crops([np.ones((2, 2), bool)], [(0, 0)], (_PLANE_PX, _PLANE_PX))
    scene.put(Candidates.measure(more), how="add")
    scene.end()
    assert set(scene.session.committed) == set(range(_COUNT))
    assert len(scene.session.candidates) == _COUNT + 1


def test_many_picks_are_previewed_in_a_worker(scene: Scene) -> None:
    scene.session.select_by_hand(range(_COUNT))
    assert scene.panel.preview.text() == f"{_COUNT} picked."
    scene.gate.set()
    scene.qtbot.waitUntil(lambda: scene.panel.preview.text() == f"{_COUNT} to commit.", timeout=60_000)
    scene.session.select_by_hand([1])
    assert scene.panel.preview.text() == "1 to commit."


def test_an_error_while_writing_takes_back_what_was_written(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_fastsam.controllers.label_writer._WRITTEN_PX", 50_000)
    scene.labels.commit([5])
    before = scene.plane.copy()
    original, calls = Labels.data_setitem, []

    def fail(layer: Any, *args: Any, **options: Any) -> None:
        calls.append(layer)
        if len(calls) == 3:
            raise OSError("the disk is full")
        original(layer, *args, **options)

    monkeypatch.setattr(Labels, "data_setitem", fail)
    scene.begin()
    scene.end()
    assert "the disk is full" in scene.messages[-1]
    np.testing.assert_array_equal(scene.plane, before)
    assert set(scene.session.committed) == {5}
    monkeypatch.setattr(Labels, "data_setitem", original)
    scene.labels.undo()
    assert not scene.plane.any(), "earlier steps are still there"


def test_an_error_while_planning_becomes_a_notice(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> Any:
        raise FastSAMError("The network file is gone", remedy="mount it again")

    monkeypatch.setattr(commits, "commit_steps", fail)
    scene.begin()
    scene.end()
    assert "mount it again" in scene.messages[-1]
    assert scene.nothing_written()


def test_whole_objects_come_back_after_undo(scene: Scene) -> None:
    image_id, plane = scene.session.image.unique_id, scene.session.plane
    other = plane.at(0, 1)
    links = Linked(np.arange(_COUNT), axis=0, run=1)
    scene.session.put(image_id, plane, scene.candidates, links=links)
    scene.session.put(image_id, other, grid(1), links=links)
    scene.labels.whole_objects = True
    scene.begin()
    scene.end()
    data = scene.viewer.layers["Image labels"].data
    np.testing.assert_array_equal(data[0], data[1])
    assert data.max() == _COUNT
    assert len(scene.session.committed_on(other)) == len(scene.session.committed_on(plane)) == _COUNT
    entry = read_journal(scene.widget.journal.path).entries[-1]
    assert [len(part["masks"]) for part in entry["parts"]] == [_COUNT, _COUNT]
    scene.labels.undo()
    assert not data.any()
    assert not scene.session.committed_on(other)
    assert not scene.session.committed_on(plane)
