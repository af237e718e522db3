"""Faint candidates: not shown, not linked, not taken by an outline around many; but there for who points at one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from napari.layers import Image
from typer.testing import CliRunner

from fastsam_core._defaults import PROMPT_CONF
from fastsam_core.cli import app
from fastsam_core.masks import Masks
from napari_fastsam.models.candidates import Candidates

from .conftest import FAINT, THREE, BlobModel, Make, choose_region, discs, run

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

DIM_YX = (60, 75)


def scene() -> NDArray[np.uint8]:
    """Draw three bright discs and a dim one."""
    return np.maximum(discs(80, 90, *THREE), discs(80, 90, (*DIM_YX, 6), value=50))


def started(viewer: Any, make_widget: Make, qtbot: Any, data: Any = None) -> Any:
    viewer.add_layer(Image(scene() if data is None else data, name="Image", contrast_limits=(0, 200)))
    widget = make_widget(viewer)
    run(qtbot, widget)
    return widget


def test_a_point_picks_what_is_too_faint_to_be_shown(
    viewer: Any, make_widget: Make, qtbot: Any, blob_model: BlobModel
) -> None:
    widget = started(viewer, make_widget, qtbot)
    session, outlines = widget.session, viewer.layers["FastSAM candidates"]
    assert blob_model.options["conf"] == PROMPT_CONF
    assert session.shown.tolist() == [True, True, True, False]
    assert "3</b> of 3 candidates shown, 0 of 1 fainter" in widget.filter_panel.count.text()
    assert widget.table.table.rowCount() == 3
    assert outlines.data[60, 69] == 0
    assert widget.hover.look(np.array(DIM_YX), faint=False) == -1
    widget.pick_panel.add_points()
    points = widget.prompts.points
    points.add([DIM_YX])
    assert session.selected == [3]
    assert "3</b> of 3 candidates shown, 1 of 1 fainter" in widget.filter_panel.count.text()
    assert widget.table.table.rowCount() == 4
    assert outlines.data[60, 69] == 2
    points.data = np.empty((0, 2))
    assert session.shown.tolist() == [True, True, True, False]
    assert outlines.data[60, 69] == 0
    points.add([DIM_YX])
    widget.label_panel.commit_picked()
    assert (viewer.layers["Image labels"].data[scene() == 50] > 0).all()
    widget.labels.undo()
    points.data = np.empty((0, 2))
    widget.label_panel.commit_shown()
    assert not viewer.layers["Image labels"].data[scene() == 50].any()


@pytest.mark.usefixtures("blob_model")
def test_an_outline_picks_a_faint_one_or_everything_that_is_shown(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    widget = started(viewer, make_widget, qtbot)
    widget.pick_panel.add_shapes()
    shapes = widget.prompts.shapes
    shapes.add_rectangles([[53, 68], [67, 82]])
    assert widget.session.selected == [3]
    shapes.data = []
    shapes.add_ellipses([[53, 68], [53, 82], [67, 82], [67, 68]])
    assert widget.session.selected == [3]
    shapes.data = []
    shapes.add_paths([[60, 72], [60, 78]])
    assert widget.session.selected == [3]
    shapes.data = []
    widget.pick_panel.inside.setChecked(True)
    shapes.add_rectangles([[0, 0], [79, 89]])
    assert widget.session.selected == [0, 1, 2]


@pytest.mark.usefixtures("blob_model")
def test_the_slider_shows_faint_ones_and_does_not_hide_them_from_prompts(
    viewer: Any, make_widget: Make, qtbot: Any
) -> None:
    widget = started(viewer, make_widget, qtbot)
    slider = widget.filter_panel.sliders["confidence"]
    assert slider.limits()[0] == pytest.approx(0.2)
    slider.set_limits(-np.inf, np.inf)
    assert widget.session.shown.all()
    assert widget.hover.look(np.array(DIM_YX)) == 3
    slider.set_limits(0.9, np.inf)
    assert widget.session.shown.tolist() == [True, False, False, False]
    widget.pick_panel.add_points()
    widget.prompts.points.add([DIM_YX])
    assert widget.session.selected == [3]
    widget.filter_panel.sliders["area_px"].set_limits(250, np.inf)
    assert widget.session.selected == [], "the other limits hold for prompts, too"
    widget.filter_panel.reset()
    assert widget.session.shown.tolist() == [True, True, True, True]
    widget.prompts.points.data = np.empty((0, 2))
    assert widget.session.shown.tolist() == [True, True, True, False]
    assert slider.limits()[0] == pytest.approx(0.2)


@pytest.mark.usefixtures("blob_model")
def test_a_button_shows_what_is_right_most_probably(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    widget = started(viewer, make_widget, qtbot)
    widget.filter_panel.be_sure()
    assert widget.session.shown.tolist() == [True, True, False, False], "of 0.95, 0.65, 0.35 and 0.05"
    widget.filter_panel.reset()
    assert widget.session.shown.tolist() == [True, True, True, False]


@pytest.mark.usefixtures("blob_model")
def test_the_lowest_confidence_of_the_preferences_is_where_showing_begins(
    viewer: Any, make_widget: Make, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_fastsam import _settings

    monkeypatch.setattr(
        "napari_fastsam.controllers.segmentation.read_settings", lambda: _settings.Settings(confidence=0.5)
    )
    widget = started(viewer, make_widget, qtbot)
    assert widget.session.shown.tolist() == [True, True, False, False]
    assert widget.hover.look(np.array(DIM_YX)) == -1


@pytest.mark.usefixtures("blob_model")
def test_tiles_have_faint_ones_too(viewer: Any, make_widget: Make, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_fastsam.models.inference._TILE_PX", 64)
    monkeypatch.setattr("napari_fastsam.models.inference._OVERLAP_PX", 40)
    viewer.add_layer(Image(scene(), name="Image", contrast_limits=(0, 200)))
    widget = make_widget(viewer)
    choose_region(widget, "tiles")
    run(qtbot, widget)
    session = widget.session
    assert session.shown.tolist() == [True, True, True, False]
    assert "3</b> of 3 candidates shown, 0 of 1 fainter" in widget.filter_panel.count.text()
    widget.pick_panel.add_points()
    widget.prompts.points.add([DIM_YX])
    assert session.selected == [3]
    widget.label_panel.commit_picked()
    assert (viewer.layers["Image labels"].data[scene() == 50] > 0).all()


def squares(*rows: tuple[int, int, float]) -> Masks:
    """Make squares of 10 px by their corner and score."""
    stack = np.zeros((len(rows), 40, 40), bool)
    for layer, (y, x, _) in zip(stack, rows, strict=True):
        layer[y : y + 10, x : x + 10] = True
    return Masks.from_dense(stack, [score for _, _, score in rows])


def test_a_closer_look_shows_what_was_faint() -> None:
    known = Candidates.measure(squares((0, 0, 0.9), (20, 20, 0.05)), conf=0.2)
    closer = Candidates.measure(squares((20, 20, 0.8), (0, 0, 0.7), (0, 0, 0.1), (20, 0, 0.1), (20, 21, 0.1)), conf=0.2)
    both = known.extended(closer)
    assert both.masks.scores.tolist() == pytest.approx([0.9, 0.05, 0.8, 0.1])
    assert both.sure.tolist() == [True, False, True, False]
    assert both.masks.extents_xyxy[-1].tolist() == [0, 20, 10, 30]


@pytest.mark.usefixtures("blob_model")
def test_saved_candidates_are_shown_as_before(viewer: Any, make_widget: Make, qtbot: Any, tmp_path: Path) -> None:
    widget = started(viewer, make_widget, qtbot)
    widget.filter_panel.save(str(tmp_path / "mine.npz"))
    widget.session.forget()
    widget.filter_panel.load(str(tmp_path / "mine.npz"))
    assert widget.session.shown.tolist() == [True, True, True, False]
    assert widget.session.candidates.masks.scores[3] == pytest.approx(FAINT)


def test_what_was_found_without_faint_ones_takes_none_on() -> None:
    known = Candidates.measure(squares((0, 0, 0.1)))
    closer = Candidates.measure(squares((20, 20, 0.8), (20, 0, 0.1)), conf=0.2)
    assert known.extended(closer).masks.scores.tolist() == pytest.approx([0.1, 0.8])


@pytest.mark.usefixtures("blob_model")
def test_everything_shown_and_a_faint_pick_are_replayed(
    viewer: Any, make_widget: Make, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FASTSAM_JOURNALS")  # beside the image
    both = np.maximum(scene(), discs(80, 90, (20, 40, 5), value=50))
    tifffile.imwrite(tmp_path / "image.tif", both)
    viewer.open(tmp_path / "image.tif")
    viewer.layers[0].contrast_limits = (0, 200)
    widget = make_widget(viewer)
    run(qtbot, widget)
    widget.pick_panel.add_points()
    widget.prompts.points.add([DIM_YX])
    widget.filter_panel.sliders["area_px"].set_limits(-np.inf, 400)
    widget.label_panel.commit_shown()
    labels = viewer.layers["image labels"].data
    assert [bool(labels[at]) for at in (DIM_YX, (20, 40), (20, 20), (60, 40))] == [True, False, True, False]
    widget.shut_down()
    [again] = replayed(tmp_path / "image.tif", tmp_path / "out")
    np.testing.assert_array_equal(again, labels)


def replayed(image: Path, out: Path) -> list[Any]:
    """Run the journal beside an image on that image; return the label images."""
    arguments = [str(image.with_name(f".{image.name}.fastsam.jsonl")), str(image), "--out", str(out)]
    result = CliRunner().invoke(app, ["replay", *arguments])
    assert result.exit_code == 0, result.output
    return [tifffile.imread(path) for path in out.glob("*.tif")]


@pytest.mark.usefixtures("blob_model")
def test_filters_that_were_set_before_are_in_the_journal_of_the_next_image(
    viewer: Any, make_widget: Make, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FASTSAM_JOURNALS")
    for name in ("a", "b"):
        tifffile.imwrite(tmp_path / f"{name}.tif", scene())
        viewer.open(tmp_path / f"{name}.tif")
        viewer.layers[name].contrast_limits = (0, 200)
    widget = make_widget(viewer)
    widget.segment_panel.image.setCurrentText("a")
    run(qtbot, widget)
    widget.filter_panel.sliders["area_px"].set_limits(300, np.inf)
    widget.segment_panel.image.setCurrentText("b")
    assert widget.session.image.name == "b"
    run(qtbot, widget)
    widget.label_panel.commit_shown()
    labels = viewer.layers["b labels"].data
    assert labels.max() == 2
    widget.shut_down()
    [again] = replayed(tmp_path / "b.tif", tmp_path / "out")
    np.testing.assert_array_equal(again, labels)


@pytest.mark.usefixtures("blob_model")
@pytest.mark.parametrize("region", ["plane", "tiles"])
def test_a_stack_links_what_is_shown_and_a_replay_finds_the_faint_one(
    region: str, viewer: Any, make_widget: Make, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FASTSAM_JOURNALS")  # beside the image
    tifffile.imwrite(
        tmp_path / "stack.tif", np.stack([scene()] * 3), photometric="minisblack", metadata={"axes": "ZYX"}
    )
    viewer.open(tmp_path / "stack.tif")
    viewer.layers[0].contrast_limits = (0, 200)
    widget = make_widget(viewer)
    choose_region(widget, region)
    widget.segment_panel.stack.setChecked(True)
    run(qtbot, widget)
    assert [linked.objects.tolist() for linked in widget.session.links.values()] == [[1, 2, 3]] * 3
    viewer.dims.set_current_step(0, 1)
    widget.pick_panel.add_points()
    widget.prompts.points.add([[1, *DIM_YX], [1, 20, 20]])
    assert widget.session.selected == [3, 0]
    widget.label_panel.whole.setChecked(True)
    widget.label_panel.commit_picked()
    labels = viewer.layers["stack labels"].data
    assert [bool(plane[DIM_YX]) for plane in labels] == [False, True, False], "not linked: an object of its plane"
    assert len({int(plane[20, 20]) for plane in labels}) == 1
    assert labels[0, 20, 20] not in (0, labels[1][DIM_YX])
    widget.shut_down()
    [again] = replayed(tmp_path / "stack.tif", tmp_path / "out")
    np.testing.assert_array_equal(again, labels)
