"""`fastsam replay` on files, with journals that the widget wrote: the same image gives the labels of the session."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from fastsam_core.cli import app
from napari_fastsam._settings import Settings
from napari_fastsam.widget import FastSAMWidget

from .conftest import THREE, BlobModel, Make, choose_region, discs, relay, run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def beside_the_image(monkeypatch: pytest.MonkeyPatch, viewer: Any) -> None:
    """Let journals go where they go by default."""
    monkeypatch.delenv("FASTSAM_JOURNALS")


def replay(journal: Path, *images: Path, out: Path) -> list[Any]:
    """Run the command; return the label images."""
    result = CliRunner().invoke(app, ["replay", str(journal), *map(str, images), "--out", str(out)])
    assert result.exit_code == 0, result.output
    return [tifffile.imread(path) for path in sorted(out.glob("*.tif"))]


def test_coins_with_the_built_in_model(viewer: Any, make_widget: Make, qtbot: Any, tmp_path: Path) -> None:
    from skimage import data

    for name, image in (("a", data.coins()), ("b", np.ascontiguousarray(data.coins()[:, 30:]))):
        tifffile.imwrite(tmp_path / f"{name}.tif", image)
    viewer.open(tmp_path / "a.tif")
    widget = make_widget(viewer)
    run(qtbot, widget)
    columns = widget.session.candidates.columns
    widget.pick_panel.add_points()
    order = np.argsort(columns["area_px"])
    widget.prompts.points.add([[columns["y"][i] - 0.5, columns["x"][i] - 0.5] for i in order[3:6]])
    widget.label_panel.commit_picked()
    ranked = np.sort(columns["intensity"])
    bright = float(ranked[len(ranked) // 2 - 1 : len(ranked) // 2 + 1].mean())  # not the value of any mask
    widget.filter_panel.sliders["intensity"].set_limits(bright, np.inf)
    widget.label_panel.commit_shown()
    labels = viewer.layers["a labels"].data
    assert labels.max() >= 10
    widget.shut_down()
    journal = tmp_path / ".a.tif.fastsam.jsonl"
    same, other = replay(journal, tmp_path / "a.tif", tmp_path / "b.tif", out=tmp_path / "out")
    np.testing.assert_array_equal(same, labels)
    assert other.shape == (303, 354)
    assert other.max() >= 5


@pytest.mark.usefixtures("blob_model")
def test_planes_and_linked_objects_of_a_stack(viewer: Any, make_widget: Make, qtbot: Any, tmp_path: Path) -> None:
    """Two channels, three planes; one plane picked by a point, then a whole object, filtered by own 16-bit values."""
    planes = [discs(80, 90, *((y + z, x, r) for y, x, r in THREE)) for z in range(3)]
    stack = np.stack(planes).astype(np.uint16) * 20
    stack[:, :, :40] //= 2
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack", metadata={"axes": "ZYX"})
    viewer.open(tmp_path / "stack.tif")
    viewer.layers[0].contrast_limits = (0, 3000)
    widget = make_widget(viewer)
    widget.segment_panel.stack.setChecked(True)
    choose_region(widget, "tiles")
    run(qtbot, widget)
    viewer.dims.set_current_step(0, 2)
    widget.pick_panel.add_points()
    widget.prompts.points.add([[2, 20, 20]])
    widget.label_panel.commit_picked()
    widget.prompts.points.data = np.empty((0, 3))
    widget.filter_panel.sliders["intensity"].set_limits(3000, np.inf)
    widget.label_panel.whole.setChecked(True)
    widget.session.select_by_hand([1])
    widget.label_panel.commit_picked()
    labels = viewer.layers["stack labels"].data
    assert [sorted(np.unique(plane)) for plane in labels] == [[0, 2], [0, 2], [0, 1, 2]]
    widget.shut_down()
    [again] = replay(tmp_path / ".stack.tif.fastsam.jsonl", tmp_path / "stack.tif", out=tmp_path / "out")
    np.testing.assert_array_equal(again, labels)


@pytest.mark.parametrize("why", ["memory", "cancel"])
def test_whole_objects_are_written_where_the_session_could_write_them(
    viewer: Any,
    make_widget: Make,
    qtbot: Any,
    tmp_path: Path,
    blob_model: BlobModel,
    monkeypatch: pytest.MonkeyPatch,
    why: str,
) -> None:
    """Candidates of some planes had to go, or the stack was cancelled: its other planes have no labels."""
    stack = np.stack([discs(80, 90, *((y + z, x, r) for y, x, r in THREE)) for z in range(4)])
    tifffile.imwrite(tmp_path / "s.tif", stack, photometric="minisblack", metadata={"axes": "ZYX"})
    viewer.open(tmp_path / "s.tif")
    viewer.layers[0].contrast_limits = (0, 255)
    widget = make_widget(viewer)
    viewer.dims.set_current_step(0, 0)
    widget.segment_panel.stack.setChecked(True)
    if why == "memory":
        settings = "napari_fastsam.controllers.segmentation.read_settings"
        monkeypatch.setattr(settings, lambda: Settings(cache_mb=0))
        run(qtbot, widget)
    else:
        blob_model.gate = lambda: None if len(blob_model.seen) < 2 else time.sleep(0.3)
        widget.segment_panel.run_button.click()
        qtbot.waitUntil(lambda: len(widget.session.pool) == 2, timeout=30_000)
        widget.segment_panel.run_button.click()
        blob_model.gate = None
    widget.label_panel.whole.setChecked(True)
    widget.session.select_by_hand([0, 2])
    widget.label_panel.commit_picked()
    labels = viewer.layers["s labels"].data
    written = [place for place in range(4) if labels[place].any()]
    assert written == ([0, 3] if why == "memory" else [0, 1])
    widget.shut_down()
    [again] = replay(tmp_path / ".s.tif.fastsam.jsonl", tmp_path / "s.tif", out=tmp_path / "out")
    np.testing.assert_array_equal(again, labels)


@pytest.mark.usefixtures("blob_model")
def test_channels_shown_as_colours(viewer: Any, make_widget: Make, qtbot: Any, tmp_path: Path) -> None:
    channels = np.stack([discs(80, 90, THREE[0]), discs(80, 90, *THREE[1:])]).astype(np.uint16) * 10
    tifffile.imwrite(tmp_path / "two.tif", channels, photometric="minisblack", metadata={"axes": "CYX"})
    viewer.open(tmp_path / "two.tif")
    widget = make_widget(viewer)
    widget.segment_panel.channels.setCurrentIndex(1)
    run(qtbot, widget)
    widget.label_panel.commit_shown()
    labels = viewer.layers["two labels"].data
    assert labels.max() > 0
    widget.shut_down()
    [again] = replay(tmp_path / ".two.tif.fastsam.jsonl", tmp_path / "two.tif", out=tmp_path / "out")
    np.testing.assert_array_equal(again, labels)


@pytest.mark.usefixtures("blob_model")
def test_parts_are_segmented_again_in_images_of_the_same_size(
    viewer: Any, make_widget: Make, qtbot: Any, tmp_path: Path, blob_model: BlobModel
) -> None:
    """A rectangle, a commit, then a closer look: each commit sees what was there at its time, and no more."""
    image = discs(240, 240, (60, 60, 20), (180, 70, 18), (120, 190, 15))
    shifted = np.roll(image, 4, axis=1)
    for name, pixels in (("a", image), ("b", shifted), ("c", np.pad(image, ((0, 20), (0, 0))))):
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels)
    viewer.open(tmp_path / "a.tif")
    viewer.layers[0].contrast_limits = (0, 255)
    widget = make_widget(viewer)
    widget.pick_panel.add_shapes()
    shapes = widget.prompts.shapes
    shapes.add(np.array([[20, 20], [20, 110], [110, 110], [110, 20]]), shape_type="rectangle")
    shapes.selected_data = {0}
    choose_region(widget, "rectangle")
    run(qtbot, widget)
    assert len(widget.session.candidates) == 1
    shapes.data = []
    widget.label_panel.commit_shown()
    with qtbot.waitSignal(relay(qtbot, widget.segmentation.finished), timeout=60_000):
        widget.segmentation.look_at(np.array([180.0, 70.0]))
    assert len(widget.session.candidates) == 2
    widget.session.select_by_hand([1])
    widget.label_panel.commit_picked()
    labels = viewer.layers["a labels"].data
    assert sorted(np.unique(labels)) == [0, 1, 2]
    widget.shut_down()
    sizes = {seen.shape[:2] for seen in blob_model.seen}
    assert all(max(size) < 240 for size in sizes)
    blob_model.seen.clear()
    names = [tmp_path / f"{name}.tif" for name in "abc"]
    same, other, larger = replay(tmp_path / ".a.tif.fastsam.jsonl", *names, out=tmp_path / "out")
    np.testing.assert_array_equal(same, labels)
    np.testing.assert_array_equal(other, np.roll(labels, 4, axis=1))
    assert sorted(np.unique(larger)) == [0, 1, 2, 3], "another size: the whole plane, where all three are shown"
    assert [seen.shape[:2] in sizes for seen in blob_model.seen] == [True] * 4 + [False]


@pytest.mark.usefixtures("blob_model")
def test_limits_of_the_session_before_a_crash_end_with_it(
    viewer: Any, make_widget: Make, qtbot: Any, tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", discs(80, 90, *THREE))
    viewer.open(tmp_path / "a.tif")
    widget = make_widget(viewer)
    run(qtbot, widget)
    widget.filter_panel.sliders["area_px"].set_limits(400, np.inf)
    widget.label_panel.commit_shown()
    journal = widget.journal.path
    kept = journal.read_text()
    widget.shut_down()
    journal.write_text(kept)
    viewer.layers.remove("a labels")
    after = FastSAMWidget(viewer)
    after.journal.restore()
    run(qtbot, after)
    after.label_panel.commit_shown()
    labels = viewer.layers["a labels"].data
    assert sorted(np.unique(labels)) == [0, 1, 2, 3]
    after.shut_down()
    [again] = replay(journal, tmp_path / "a.tif", out=tmp_path / "out")
    np.testing.assert_array_equal(again, labels)


@pytest.mark.parametrize(("dtype", "factor"), [("uint8", 1), ("uint8", 0.1), ("uint16", 250), ("float32", 1 / 255)])
@pytest.mark.parametrize("region", ["plane", "tiles"])
@pytest.mark.usefixtures("blob_model")
def test_intensities_of_colour_images_are_their_own_values(
    viewer: Any, make_widget: Make, qtbot: Any, tmp_path: Path, dtype: str, factor: float, region: str
) -> None:
    """Of faint ones, too, and of those that the network sees as 8 bit; the same limits hold in a replay."""
    first, second = (discs(80, 90, place).astype(float) for place in THREE[:2])
    colours = np.stack([first, second, np.maximum(first, second)], axis=-1)
    colours[second > 0] *= 0.9
    image = (colours * factor).astype(dtype)
    tifffile.imwrite(tmp_path / "c.tif", image, photometric="rgb")
    viewer.open(tmp_path / "c.tif", rgb=True)
    widget = make_widget(viewer)
    choose_region(widget, region)
    run(qtbot, widget)
    means = np.sort(widget.session.candidates.columns["intensity"])
    own = [image[20, 60].mean(dtype=float), image[18, 20].mean(dtype=float)]
    assert means == pytest.approx(own, rel=1e-5)
    widget.filter_panel.sliders["intensity"].set_limits(float(np.mean(own)), np.inf)
    widget.label_panel.commit_shown()
    labels = viewer.layers["c labels"].data
    assert labels.max() == 1
    path = widget.journal.path
    widget.shut_down()
    [again] = replay(path, tmp_path / "c.tif", out=tmp_path / "out")
    np.testing.assert_array_equal(again, labels)


@pytest.mark.parametrize("mode", ["max", "mean"])
@pytest.mark.usefixtures("blob_model")
def test_thick_slices_are_replayed_as_they_were_shown(
    viewer: Any, make_widget: Make, qtbot: Any, tmp_path: Path, mode: str
) -> None:
    planes = [discs(80, 90, *THREE[max(z - 1, 0) : z]).astype(np.uint16) * 20 for z in range(4)]
    tifffile.imwrite(tmp_path / "stack.tif", np.stack(planes), photometric="minisblack", metadata={"axes": "ZYX"})
    viewer.open(tmp_path / "stack.tif")
    viewer.layers[0].contrast_limits = (0, 1500)
    viewer.layers[0].projection_mode = mode
    viewer.dims.margin_left, viewer.dims.margin_right = (1, 0, 0), (1, 0, 0)
    viewer.dims.set_current_step(0, 2)
    widget = make_widget(viewer)
    run(qtbot, widget)
    widget.filter_panel.sliders["intensity"].set_limits(1000, np.inf)
    widget.label_panel.commit_shown()
    labels = viewer.layers["stack labels"].data
    assert labels[2].max() == 3
    widget.shut_down()
    [again] = replay(tmp_path / ".stack.tif.fastsam.jsonl", tmp_path / "stack.tif", out=tmp_path / "out")
    np.testing.assert_array_equal(again, labels)
