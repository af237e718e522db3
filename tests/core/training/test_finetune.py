"""Fine-tuning on a user's label maps: the loss falls, what the model knew stays, the file loads."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from skimage import color, io
from tests.core.training.scene_data import write_label_maps
from typer.testing import CliRunner

from fastsam_core import FastSAM
from fastsam_core.checkpoints import build_module, load_checkpoint
from fastsam_core.cli import app
from fastsam_core.errors import AnnotationError, InvalidParameterError
from fastsam_core.training import finetune as module
from fastsam_core.training.batches import BatchStream
from fastsam_core.training.datasets.loading import load_folder
from fastsam_core.training.export import write_weights
from fastsam_core.training.finetune import FinetuneConfig, FinetuneStep, finetune, scene_samples
from fastsam_core.training.scoring import Scores, evaluate
from fastsam_core.training.sources import LabelledImage
from fastsam_core.training.trainer import TrainConfig, Trainer, TrainingError
from fastsam_core.training.validate import Setting, cases_of, load_model, segmenter

if TYPE_CHECKING:
    from pathlib import Path

    from fastsam_core.training.datasets.loading import LoadedSplits

QUICK = FinetuneConfig(imgsz=96, check_every=6, patience=2, scene_count=4, pixels=4 * 96 * 96, threads=1, minutes=5)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_label_maps(tmp_path_factory.mktemp("user") / "cells", 10, 128)


@pytest.fixture(scope="module")
def tuned(labels: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[FinetuneStep]]:
    """Fine-tune for some steps on the same two batches, so that losses can be compared."""
    out = tmp_path_factory.mktemp("tuned") / "mine.safetensors"
    draw = BatchStream.__getitem__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchStream, "__getitem__", lambda self, index: draw(self, index % 2))
        steps = finetune(labels, out, config=replace(QUICK, patience=4))  # four checks, whether they get better or not
        return out, [next(steps) for _ in range(4)]


def test_loss_falls(tuned: tuple[Path, list[FinetuneStep]]) -> None:
    _, steps = tuned
    assert steps[-1].loss < 0.97 * steps[1].loss


def test_the_best_is_kept(tuned: tuple[Path, list[FinetuneStep]]) -> None:
    out, steps = tuned
    assert [step.step for step in steps] == [0, 6, 12, 18]
    best = max(steps, key=lambda step: step.quality)
    assert best.best
    with safe_open(str(out), framework="pt") as file:
        facts = file.metadata()
    assert facts["finetuned_steps"] == str(best.step)
    assert facts["finetuned_from"].startswith("builtin ")
    assert facts["conf"] == f"{best.conf:.3g}"


@pytest.mark.timeout(900)  # the tuning alone may take five minutes
def test_gets_better_and_what_the_model_knew_stays(tmp_path: Path) -> None:
    # at sizes that people use: at a hundred pixels, every few steps change what is found at others
    out, labels = tmp_path / "mine.safetensors", write_label_maps(tmp_path / "cells", 10, 320)
    y, x = np.mgrid[:320, :320]
    for path in (labels / "images").iterdir():  # seen through a grating: nuclei as they are, the model knows already
        striped = color.rgb2gray(io.imread(path)) * (0.5 + 0.5 * np.sin(0.9 * x + 0.5 * y))
        io.imsave(path, (255 * striped / striped.max()).astype(np.uint8), check_contrast=False)
    steps = finetune(labels, out, config=FinetuneConfig(imgsz=320, check_every=20, scene_count=24, minutes=5))
    start, tuned = next(steps), next(steps)
    assert tuned.best
    assert tuned.quality > start.quality
    cases, setting = cases_of(scene_samples(12, 320, first_seed=500)), Setting("320", 0.7)
    before, after = (evaluate(segmenter(load_model(name), setting), cases) for name in ("builtin", str(out)))
    assert after.ar100 > 0.85 * before.ar100


def test_statistics_of_normalisation_are_frozen(tuned: tuple[Path, list[FinetuneStep]]) -> None:
    before, after = (load_checkpoint(name).module.state_dict() for name in ("builtin", tuned[0]))
    for name, value in before.items():
        if name.endswith(("running_mean", "running_var")):
            assert torch.equal(value, after[name]), name


def test_file_loads_and_segments(tuned: tuple[Path, list[FinetuneStep]], labels: Path) -> None:
    model = FastSAM.load(tuned[0], runtime="torch")
    masks = model.segment(labels / "images" / "cells0.png", imgsz=128)
    assert len(masks) > 0
    of_builtin = load_checkpoint("builtin").info
    assert (model.info.mask_threshold, model.info.mask_margin) == (of_builtin.mask_threshold, of_builtin.mask_margin)
    assert "quality" not in masks.fields  # what was fitted for the old weights says nothing of these


def test_too_little_and_wrong_names(labels: Path, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="holds no annotated images"):
        next(finetune(tmp_path, tmp_path / "x.safetensors", config=QUICK))
    with pytest.raises(AnnotationError, match="too little"):
        next(finetune(write_label_maps(tmp_path / "one", 1, 64), tmp_path / "x.safetensors", config=QUICK))
    with pytest.raises(InvalidParameterError, match="safetensors"):
        next(finetune(labels, tmp_path / "x.pt", config=QUICK))


def test_held_back_images_without_objects_count(tmp_path: Path) -> None:
    labels = write_label_maps(tmp_path / "cells", 10, 96)
    io.imsave(labels / "masks" / "cells2.png", np.zeros((96, 96), np.uint8), check_contrast=False)  # is held back
    assert next(finetune(labels, tmp_path / "x.safetensors", config=QUICK)).scores.images == 2


def test_not_finite_loss_keeps_the_file(labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "x.safetensors"
    steps = finetune(labels, out, config=QUICK)
    next(steps)
    before = out.read_bytes()

    def spoiled(self: Trainer, batch: Any, step: int) -> torch.Tensor:
        return torch.full((4,), float("nan"))

    monkeypatch.setattr(Trainer, "backward", spoiled)
    with pytest.raises(TrainingError, match="not finite at step 0"):
        next(steps)
    assert out.read_bytes() == before


def test_official_checkpoints_with_more_bins(labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTSAM_CACHE", str(tmp_path / "cache"))
    network: Any = build_module("yolov8n-seg", reg_max=26)
    network.yaml["yaml_file"] = "yolov8n-seg.yaml"
    torch.save({"model": network.half(), "train_args": {"imgsz": 96}}, tmp_path / "official.pt")
    out = tmp_path / "x.safetensors"
    steps = finetune(labels, out, weights=tmp_path / "official.pt", trust=True, config=QUICK)
    assert next(steps).best
    loaded = load_checkpoint(out)
    assert loaded.info.details["reg_max"] == "26"
    expected, found = network.float().state_dict(), loaded.module.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in expected.items() if value.is_floating_point())


@pytest.mark.parametrize(
    ("facts", "expected"), [({}, (0, False)), ({"dice_weight": "2", "score_masks": "1"}, (2, True))]
)
def test_learns_masks_and_scores_as_the_weights_did(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: dict[str, str], expected: tuple[float, bool]
) -> None:
    seen: list[TrainConfig] = []

    class Recorded(Trainer):
        def __init__(self, config: TrainConfig, folder: Path) -> None:
            seen.append(config)
            super().__init__(config, folder)

    monkeypatch.setattr(module, "Trainer", Recorded)
    start = write_weights(
        build_module("yolov8n-seg").state_dict(),
        tmp_path / "start.safetensors",
        {"architecture": "yolov8n-seg", **facts},
    )
    next(finetune(labels, tmp_path / "x.safetensors", weights=start, config=QUICK))
    assert [(config.dice_weight, config.score_masks) for config in seen] == [expected]


@pytest.mark.parametrize(("most", "expected"), [(2, [0, 2]), (3, [0, 1, 2]), (9, [0, 1, 2, 3])])
def test_what_is_checked_shows_objects(most: int, expected: list[int]) -> None:
    pixels, weight = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)
    layers = [np.full((1, 8, 8), place == 2, np.uint16) for place in range(4)]
    samples = [LabelledImage(pixels, each, weight) for each in layers]
    assert [samples.index(sample) for sample in module._checked(samples, most)] == expected


def test_stops_when_nothing_gets_better(labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_check", lambda *arguments: Scores())
    monkeypatch.setattr(Trainer, "train_step", lambda self, batch: torch.zeros(4))
    found = list(finetune(labels, tmp_path / "x.safetensors", config=QUICK))
    assert [step.best for step in found] == [True, False, False]


def test_what_was_learnt_when_the_time_is_up_is_checked(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def step(trainer: Trainer, batch: object) -> torch.Tensor:
        now[0] += 1
        trainer.step += 1
        return torch.ones(4)

    def check(*_: object) -> Scores:
        now[0] += 2
        return Scores(ap50=now[0])

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def load(folder: Path) -> LoadedSplits:
        now[0] += 5
        return load_folder(folder)

    monkeypatch.setattr(module, "load_folder", load)
    monkeypatch.setattr(module, "_check", check)
    monkeypatch.setattr(Trainer, "train_step", step)
    found = list(finetune(labels, tmp_path / "x.safetensors", config=replace(QUICK, minutes=30 / 60)))
    assert [(step.step, step.loss) for step in found] == [(0, 0), (6, 4), (12, 4), (17, 4)]
    assert now == [30], "loading and checks included"


def test_command_says_where_the_weights_are(labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.count()  # each look at the clock takes one
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    out = tmp_path / "mine.safetensors"
    arguments = [
        "finetune",
        "--labels",
        str(labels),
        "--out",
        str(out),
        "--minutes",
        "0.01",
        "--imgsz",
        "96",
        "--threads",
        "1",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "step 0: held back" in result.output  # nothing was learnt yet, so there is no loss
    assert "no time for a step" in result.output
    assert f"with a score of {load_checkpoint(out).info.conf:.2f} or more" in " ".join(result.output.split())
    assert out.is_file()
    failed = CliRunner().invoke(
        app, ["finetune", "--labels", str(tmp_path / "none"), "--out", str(tmp_path / "a.safetensors")]
    )
    assert failed.exit_code == 1
    # the weights of an earlier training are not replaced unless they are what it goes on with
    before = out.read_bytes()
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 1
    assert "--overwrite" in refused.output
    assert out.read_bytes() == before
    assert CliRunner().invoke(app, [*arguments, "--weights", str(out)]).exit_code == 0


def test_command_that_is_stopped_says_where_the_weights_are(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "train_step", stop)
    out = tmp_path / "mine.safetensors"
    result = CliRunner().invoke(app, ["finetune", "--labels", str(labels), "--out", str(out), "--imgsz", "96"])
    assert result.exit_code == 130
    assert f"those of step 0, are in {out}" in " ".join(result.stdout.split())
    assert out.is_file()


@pytest.mark.parametrize(
    ("muon", "given", "expected"),
    [(True, None, ("muon", 1e-3)), (False, None, ("adamw", 2e-4)), (False, 5e-4, ("adamw", 5e-4))],
)
def test_the_rate_is_the_optimisers_unless_given(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, muon: bool, given: float | None, expected: object
) -> None:
    def stop(trainer: Trainer, *_: object) -> None:
        used.append((trainer.config.optimizer, trainer.config.learning_rate))
        raise KeyboardInterrupt

    used: list[object] = []
    monkeypatch.setattr("fastsam_core.training.finetune.has_muon", lambda: muon)
    monkeypatch.setattr("fastsam_core.training.trainer.build_optimizer", lambda *_: None)
    monkeypatch.setattr(Trainer, "train_step", stop)
    with pytest.raises(KeyboardInterrupt):
        list(finetune(labels, tmp_path / "mine.safetensors", config=replace(QUICK, learning_rate=given)))
    assert used == [expected]


@pytest.mark.parametrize("name", ["minutes", "learning_rate", "imgsz", "check_every", "patience", "threads", "seed"])
def test_values_out_of_range_are_refused_before_any_work(name: str) -> None:
    for wrong in ("a", -1, float("nan")):
        with pytest.raises(InvalidParameterError, match=name):
            FinetuneConfig(**{name: wrong})  # type: ignore[arg-type]
