"""``fastsam demo``: its images and prompts, and what it leaves behind."""

from __future__ import annotations

import json
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from fastsam_core import PROMPT_CONF, FastSAM, Masks, Points, read_image, select
from fastsam_core.checkpoints import ModelInfo
from fastsam_core.cli import _demo_scenes, app
from fastsam_core.cli._demo_scenes import SCENES, scene_path, two_channel_cells
from fastsam_core.cli._progress import progress
from fastsam_core.cli._prompts import PromptSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAMES = {scene.name for scene in SCENES}


def test_the_promised_images_are_there() -> None:
    assert NAMES >= {"coins", "cell", "ihc", "hubble_deep_field", "coffee", "astronaut", "two_channel_16bit", "shapes"}


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_prompts_lie_in_the_image(scene: _demo_scenes.DemoScene, tmp_path: Path) -> None:
    height, width = read_image(scene_path(scene, tmp_path)).image_hw
    prompts = PromptSet.typed(points=scene.points, boxes=scene.boxes, polygons=scene.polygons)
    assert len(prompts.entries) == 3
    positions_xy = prompts.positions_xy()
    assert (positions_xy >= 0).all()
    assert (positions_xy <= (width, height)).all()


def test_generated_image_has_two_16_bit_channels_and_prompts_on_its_cells(tmp_path: Path) -> None:
    [scene] = [scene for scene in SCENES if scene.name == "two_channel_16bit"]
    planes = tifffile.imread(scene_path(scene, tmp_path))
    assert planes.dtype == np.uint16
    assert planes.shape[0] == 2
    expected, cells_yxr = two_channel_cells()
    np.testing.assert_array_equal(planes, expected)
    y, x = np.mgrid[: planes.shape[1], : planes.shape[2]]
    cells = Masks.from_dense([(y - v) ** 2 + (x - u) ** 2 < (0.9 * r) ** 2 for v, u, r in cells_yxr])
    for prompts in (
        PromptSet.typed(points=scene.points),
        PromptSet.typed(boxes=scene.boxes),
        PromptSet.typed(polygons=scene.polygons),
    ):
        assert prompts.answer(cells)[1] == 0
    inside = select(cells, Points(cells_yxr[:, :2], groups="each"))
    bodies, nuclei = planes.astype(float)
    for mask in inside.to_dense():
        assert bodies[mask].mean() > 4 * bodies.min()
    assert np.median(nuclei) < 200 < nuclei.max()


class _Blobs:
    """Stands for a model: finds what is much brighter than the mean, and faintly the rest."""

    info = ModelInfo(name="blobs")

    def __init__(self) -> None:
        self.warm: list[Path] = []

    def segment(self, path: Path, *, conf: float) -> Masks:
        assert conf == PROMPT_CONF
        self.warm.append(path)
        return self(path)

    def __call__(self, path: Path) -> Masks:
        from skimage.filters import gaussian
        from skimage.measure import label

        gray = gaussian(read_image(path).rgb8.mean(axis=-1), 2)
        bright = gray > gray.mean() + gray.std()
        blobs = Masks.from_label_map(label(bright)).filter(min_area_px=60)
        return Masks.concatenate([blobs, Masks.from_dense(~bright[None], [0.05])])


def test_what_the_demo_leaves_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastsam_core.pipeline import Step

    scenes = tuple(scene for scene in SCENES if scene.name in {"coins", "two_channel_16bit"})
    blobs = _Blobs()
    monkeypatch.setattr(_demo_scenes, "SCENES", scenes)
    monkeypatch.setattr(FastSAM, "load", lambda *_, **__: blobs)

    def iter_segment(paths: list[Path], _: object, *, conf: float) -> Iterator[Step]:
        assert conf == PROMPT_CONF
        assert blobs.warm == paths[:1]  # the first image is not timed with what is compiled for it
        return (Step(i, path, blobs(path), None, read_image(path), 0.25) for i, path in enumerate(paths))

    import_module("fastsam_core.stacks")  # or it would keep what stands in for `iter_segment`
    monkeypatch.setattr("fastsam_core.pipeline.iter_segment", iter_segment)
    monkeypatch.setenv("COLUMNS", "120")
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "demo")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    names = {path.name for path in (tmp_path / "demo").iterdir()}
    assert names == {"contact_sheet.png", "inputs"} | {
        f"{scene.name}_{kind}"
        for scene in scenes
        for kind in (
            *("overlay.png", "points.png", "boxes.png", "polygons.png"),
            *("labels.tif", "coco.json", "measurements.csv", "prompts_coco.json"),
        )
    }
    for scene in scenes:
        masks = blobs(scene_path(scene, tmp_path)).filter(min_score=blobs.info.conf)
        labels = tifffile.imread(tmp_path / "demo" / f"{scene.name}_labels.tif")
        np.testing.assert_array_equal(labels, masks.to_label_map())
        coco = json.loads((tmp_path / "demo" / f"{scene.name}_coco.json").read_text())
        assert len(coco["annotations"]) == len(masks) > 0
        answers = json.loads((tmp_path / "demo" / f"{scene.name}_prompts_coco.json").read_text())
        assert 0 < len(answers["annotations"]) <= 4
        height, width = masks.image_hw
        with Image.open(tmp_path / "demo" / f"{scene.name}_overlay.png") as picture:
            assert picture.width * height == picture.height * width
        assert f"{width} × {height}" in result.stdout
    assert "0.25" in result.stdout
    with Image.open(tmp_path / "demo" / "contact_sheet.png") as sheet:
        assert sheet.width > 900


class _ElapsedTimer:
    """A timer whose time has passed when it starts."""

    def __init__(self, delay_s: float, function: Callable[[], None]) -> None:
        self.function = function

    def start(self) -> None:
        self.function()

    def cancel(self) -> None:
        """Too late."""


def test_a_bar_appears_only_when_work_lasts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress("Quick work", 2, visible=True) as bar:
        bar.advance()
    assert "Quick work" not in capsys.readouterr().err
    monkeypatch.setattr("fastsam_core.cli._progress.threading.Timer", _ElapsedTimer)
    with progress("Slow work", 1, visible=True) as bar:
        bar.advance()
    assert "Slow work" in capsys.readouterr().err
    with progress("Hidden work", 1, visible=False) as bar:
        bar.advance()
    assert "Hidden work" not in capsys.readouterr().err
