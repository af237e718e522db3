"""``fastsam segment --text`` and ``fastsam models`` with encoders, without a download."""

from __future__ import annotations

import json
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fastsam_core import FastSAM, Masks
from fastsam_core.checkpoints import ModelInfo
from fastsam_core.cli import app
from fastsam_core.cli._prompts import PromptFile, PromptSet
from fastsam_core.cli._text import TextOptions
from fastsam_core.errors import InvalidParameterError
from fastsam_core.pipeline import Step
from fastsam_core.testing import RectangleNetwork
from fastsam_core.text.demo_scenes import ShapeScene, draw_shapes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from typer.testing import Result


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ShapeScene:
    """Make a picture of shapes, a model that finds exactly these, and an empty cache."""
    drawn = draw_shapes(5_000_000)
    Image.fromarray(drawn.image).save(tmp_path / "shapes.png")

    def segment(sources: Sequence[object], *_: Any, reader: Callable[[object], Any], **__: Any) -> Iterator[Step]:
        for index, source in enumerate(sources):
            yield Step(index, source, Masks.from_dense(drawn.masks), None, reader(source), 0.1)

    finds_shapes = FastSAM(RectangleNetwork((), ()), ModelInfo(name="shapes"))
    monkeypatch.setattr(FastSAM, "load", lambda *_, **__: finds_shapes)
    import_module("fastsam_core.tiling")  # or it would keep what stands in for `iter_segment`
    monkeypatch.setattr("fastsam_core.pipeline.iter_segment", segment)
    monkeypatch.setenv("FASTSAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    return drawn


def run(folder: Path, *options: str) -> Result:
    arguments = ["segment", str(folder / "shapes.png"), "--out", str(folder / "out"), "--overwrite", "-f", "coco"]
    return CliRunner().invoke(app, [*arguments, *options])


def answers(folder: Path) -> list[dict[str, Any]]:
    annotations: list[dict[str, Any]] = json.loads((folder / "out" / "shapes_coco.json").read_text())["annotations"]
    return annotations


def test_texts_choose_masks(scene: ShapeScene, tmp_path: Path) -> None:
    colour, shape = scene.items[0]
    texts = ["--text", f"a {colour} {shape}", "--text", shape]
    result = run(tmp_path, *texts, "--text-mode", "top-k", "--text-top", "2", "--text-threshold", "0")
    assert result.exit_code == 0, result.output
    assert "knows 51 words only" in result.stderr
    found = answers(tmp_path)
    assert [entry["attributes"]["prompt_index"] for entry in found] == [0, 0, 1, 1]
    assert [entry["attributes"]["text"] for entry in found] == [f"a {colour} {shape}"] * 2 + [shape] * 2
    scores = [entry["attributes"]["prompt_score"] for entry in found]
    assert scores[0] >= scores[1]
    assert scores[2] >= scores[3]


def test_texts_leave_out_masks_that_are_too_faint_to_show(
    scene: ShapeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = np.full(len(scene.masks), 0.05)
    scores[0] = 0.9

    def segment(sources: Sequence[object], *_: Any, reader: Callable[[object], Any], **__: Any) -> Iterator[Step]:
        yield Step(0, sources[0], Masks.from_dense(scene.masks, scores), None, reader(sources[0]), 0.1)

    monkeypatch.setattr("fastsam_core.pipeline.iter_segment", segment)
    y, x = np.argwhere(scene.masks[1] & (scene.masks.sum(axis=0) == 1))[0]
    options = ("--text", scene.items[0][1], "--text-mode", "all", "--text-threshold", "0", "--points", f"{x},{y}")
    assert run(tmp_path, *options).exit_code == 0
    assert [entry["score"] for entry in answers(tmp_path)] == pytest.approx([0.05, 0.9])
    assert [entry["attributes"]["text"] for entry in answers(tmp_path)] == ["", scene.items[0][1]]


def test_nothing_fits(scene: ShapeScene, tmp_path: Path) -> None:
    result = run(tmp_path, "--text", "a mushroom", "--text-threshold", "1")
    assert result.exit_code == 0, result.output
    assert answers(tmp_path) == []


def test_a_cache_folder_is_filled_and_used(scene: ShapeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--text", scene.items[0][1], "--text-threshold", "0", "--text-cache", str(tmp_path / "seen"))
    assert run(tmp_path, *options).exit_code == 0
    first = answers(tmp_path)
    assert any(path.suffix == ".safetensors" for path in (tmp_path / "seen").rglob("*"))
    monkeypatch.setattr("fastsam_core.text.embedding.cut_out", lambda *_: pytest.fail("encoded again"))
    assert run(tmp_path, *options).exit_code == 0
    assert answers(tmp_path) == first


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--text", "a zebra"), 2, "does not know 'zebra'"),
        (("--text", "red " * 30), 2, "tokens"),
        (("--text", ""), 2, "empty"),
        (("--not", "red"), 2, "--not goes with --text"),
        (("--text", "red", "--text-mode", "some"), 2, "best, top-k or all"),
        (("--text", "red", "--text-encoder", "ViT-B-33"), 2, "did you mean"),
        (("--text", "red", "--text-encoder", "ViT-B-32-256"), 1, "fastsam models download ViT-B-32-256/datacomp"),
    ],
)
def test_what_cannot_be_done(scene: ShapeScene, tmp_path: Path, options: tuple[str, ...], code: int, said: str) -> None:
    result = run(tmp_path, *options)
    assert result.exit_code == code, result.output
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_the_options_hold_for_texts_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"text": "cell", "not": ["red"], "images": {"a.png": {"text": ["star", "ring"]}}}))
    prompts = PromptFile.load(path, TextOptions(("blue",), "top-k", 3, 0.2))
    everywhere, image = prompts.texts
    assert (everywhere.queries, everywhere.negatives) == (("cell",), ("blue", "red"))
    assert (image.queries, image.negatives) == (("star", "ring"), ("blue",))
    assert {(text.mode, text.k, text.threshold) for text in prompts.texts} == {("top_k", 3, 0.2)}
    assert [asked for _, asked in prompts.of(tmp_path / "a.png").entries] == [2]


def test_texts_and_other_prompts_are_answered_in_order(scene: ShapeScene) -> None:
    class Answers:
        def answer(self, image: Any, masks: Masks, prompts: Sequence[Any]) -> list[Masks]:
            numbers = np.array([2, 1])
            return [masks.take(numbers, prompt_index=[0, 1], prompt_score=[0.9, 0.8]) for _ in prompts]

    masks = Masks.from_dense(scene.masks)
    point = f"{masks.extents_xyxy[0, :3:2].mean():.0f},{masks.extents_xyxy[0, 1::2].mean():.0f}"
    prompts = PromptSet.typed(points=[point], text=["red", "blue"])
    found, unmatched = prompts.answer(masks, scene.image, Answers())  # type: ignore[arg-type]
    assert unmatched + len(found) == 3
    assert found.fields["prompt_index"].tolist()[-2:] == [1, 2]


def test_an_unknown_mode() -> None:
    with pytest.raises(InvalidParameterError):
        TextOptions(mode="top_k")


def test_models_lists_and_verifies_encoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTSAM_CACHE", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    listed = CliRunner().invoke(app, ["models", "list"])
    assert "ViT-B-32-256/datacomp_s34b_b86k" in listed.output
    assert "without --text-encoder: demo" in listed.output
    checked = CliRunner().invoke(app, ["models", "verify", "demo"])
    assert checked.exit_code == 0
    assert checked.output.startswith("demo: fine, ")
    assert CliRunner().invoke(app, ["models", "verify", "ViT-B-32-256"]).exit_code == 1
    assert "nothing to download" in CliRunner().invoke(app, ["models", "download", "demo"]).output
    missing = CliRunner().invoke(app, ["models", "download", "ViT-B-32-256"])
    assert missing.exit_code == 1
    assert "Hugging Face hub" in missing.stderr
