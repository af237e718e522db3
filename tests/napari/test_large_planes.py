"""What keeps the window free on large planes: little is drawn anew, narrow labels, tiles shown together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Image

from fastsam_core.masks import Masks
from napari_fastsam.controllers import segmentation
from napari_fastsam.models.candidates import Candidates

from .conftest import THREE, BlobModel, Make, choose_region, discs, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def squares(count: int, side: int = 20) -> Masks:
    """Return squares on a diagonal, each of which overlaps the next."""
    stack = np.zeros((count, 400, 400), bool)
    for k in range(count):
        stack[k, 7 * k : 7 * k + side, 6 * k : 6 * k + side] = True
    return Masks.from_dense(stack)


def test_extending_compares_only_what_lies_near() -> None:
    masks = squares(50)
    known = Candidates.measure(masks[:30])
    extended = known.extended(Candidates.measure(masks[28:]))
    assert len(extended) == 50  # 28 and 29 were there
    assert extended.begins_with(known)
    assert not known.begins_with(extended)
    assert not Candidates.measure(masks).begins_with(known)


def test_outlines_drawn_in_part_equal_those_drawn_anew(viewer: Any, make_widget: Make) -> None:
    viewer.add_layer(Image(np.zeros((400, 400), np.uint8), name="Image"))
    widget = make_widget(viewer)
    session, canvas = widget.session, widget.canvas
    masks = squares(50)
    known = Candidates.measure(masks[:40])

    def drawn_anew() -> NDArray[np.uint8]:
        kept: NDArray[np.uint8] = canvas.outlines.data.copy()
        canvas._drawn = None
        canvas.draw()
        fresh = canvas.outlines.data
        assert fresh.max() > 0
        np.testing.assert_array_equal(kept, fresh)
        return kept

    session.put(session.image.unique_id, session.plane, known)
    before = drawn_anew()
    more = Candidates.measure(masks[40:])
    steps: tuple[Callable[[], object], ...] = (
        lambda: session.select_by_hand([3, 4]),
        lambda: widget.labels.commit([4, 5]),
        lambda: session.select_by_hand([20]),
        lambda: session.put(session.image.unique_id, session.plane, more, how="add"),
        lambda: widget.labels.undo(),
    )
    for step in steps:
        step()
        after = drawn_anew()
        assert (before != after).any()
        before = after


def test_a_layer_made_here_is_widened_when_ids_run_out(viewer: Any, make_widget: Make) -> None:
    viewer.add_layer(Image(np.zeros((400, 400), np.uint8), name="Image"))
    widget = make_widget(viewer)
    session = widget.session
    session.put(session.image.unique_id, session.plane, Candidates.measure(squares(20)))
    widget.labels.commit([0])
    layer = widget.labels.target
    assert layer.data.dtype == np.uint16
    assert layer.visible
    widget.labels.chosen_id = 65_535
    widget.labels.commit([5])
    assert layer.data.dtype == np.uint16
    widget.labels.chosen_id = None
    widget.labels.commit([10])
    assert layer.data.dtype == np.int32
    assert sorted(np.unique(layer.data)) == [0, 1, 65_535, 65_536]
    assert widget.labels.next_id() == 65_537
    widget.labels.undo()
    widget.labels.undo()
    assert sorted(np.unique(layer.data)) == [0, 1]
    assert set(session.committed) == {0}
    widget.labels.redo()
    assert sorted(np.unique(layer.data)) == [0, 1, 65_535]


def test_tiles_that_come_fast_are_shown_together(
    viewer: Any, make_widget: Make, qtbot: Any, blob_model: BlobModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first tile and the joined plane are shown at once; what waited is shown when the user cancels."""
    monkeypatch.setattr(segmentation, "_SHOW_EVERY_S", 1e6)
    monkeypatch.setattr("napari_fastsam.models.inference._TILE_PX", 64)
    monkeypatch.setattr("napari_fastsam.models.inference._OVERLAP_PX", 16)
    viewer.add_layer(Image(discs(80, 90, *THREE), name="Image"))
    widget = make_widget(viewer)
    put: list[str] = []
    original = widget.session.put

    def record(*args: Any, how: str, **more: Any) -> None:
        put.append(how)
        original(*args, how=how, **more)

    monkeypatch.setattr(widget.session, "put", record)
    choose_region(widget, "tiles")
    run(qtbot, widget)
    assert put == ["replace", "replace"]
    put.clear()

    def stop(_text: str, done: int, _total: int) -> None:
        if done == 3:
            widget.segmentation.cancel()

    widget.segmentation.progress.connect(stop)
    widget.segment_panel.run_button.click()
    qtbot.waitUntil(lambda: not widget.segmentation.running, timeout=60_000)
    assert put == ["replace", "grow"]
    assert len(widget.session.candidates) > 0


@pytest.mark.parametrize("stopped", [False, True])
def test_the_worker_computes_on_when_its_first_result_is_shown(
    viewer: Any, make_widget: Make, qtbot: Any, blob_model: BlobModel, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    monkeypatch.setattr("napari_fastsam.models.inference._TAKING_S", 60.0)
    viewer.add_layer(Image(np.stack([discs(80, 90, *THREE)] * 3), name="Image"))
    widget = make_widget(viewer)
    tasks: list[Any] = []
    widget.segmentation.started.connect(tasks.append)
    if stopped:
        widget.segment_panel.run_button.click()
        widget.segmentation.cancel()
    else:
        widget.segment_panel.stack.setChecked(True)
        run(qtbot, widget)
        assert len(blob_model.seen) == 3
    assert tasks[0].window_ready.is_set()
    assert tasks[0].taken.is_set()
