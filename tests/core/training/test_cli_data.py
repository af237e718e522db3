"""``fastsam data`` and ``fastsam train`` as a user types them."""

from __future__ import annotations

import json
import runpy
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from tests.core.training.scene_data import write_label_maps, write_pairs
from typer.testing import CliRunner

from fastsam_core.cli import app
from fastsam_core.errors import AnnotationError
from fastsam_core.training.checkpoint import load_checkpoint
from fastsam_core.training.run import main
from fastsam_core.training.sources import SourceSpec, load_source
from fastsam_core.training.trainer import TrainConfig, Trainer

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_convert_twice_and_report(tmp_path: Path) -> None:
    out = tmp_path / "out"
    pairs, cells = write_pairs(tmp_path / "pairs", 4, 64), write_label_maps(tmp_path / "cells", 3, 64)
    (pairs / "sa_1.json").write_text("{")
    first = run("data", "convert", pairs, "--kind", "sa1b", "--out", out, "--licence", "CC0-1.0", "--subset", "1")
    assert first.exit_code == 0, first.output
    assert "not used: 1" in first.output
    second = run("data", "convert", cells, "-k", "labels", "-o", out, "--licence", "MIT", "--coverage", "partial")
    assert second.exit_code == 0, second.output
    sources = {entry["name"]: entry for entry in json.loads((out / "manifest.json").read_text())["sources"]}
    assert (sources["pairs"]["partial"], sources["cells"]["partial"]) == (False, True)
    report = run("data", "report", out)
    assert report.exit_code == 0, report.output
    assert (out / "report" / "sheet.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("data", "convert", "x", "-k", "what", "-o", "o", "--licence", "MIT"), 2, "--kind"),
        (("data", "convert", "x", "-k", "labels", "-o", "o", "--licence", "MIT"), 1, "no folder"),
        (("data", "convert", "x", "-k", "sa1b", "-o", "o", "--licence", "MIT", "--subset", "7"), 2, "subset"),
        (("data", "report", "x"), 1, "not a converted data set"),
        (("train", "--data", "x"), 1, "data.yaml"),
    ],
)
def test_wrong_use_is_explained(
    arguments: tuple[str, ...], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == code
    assert message in result.output


def test_label_maps_have_to_fit_their_images(tmp_path: Path) -> None:
    folder = write_label_maps(tmp_path / "cells", 2, 64)
    spec = SourceSpec("cells", 1.0, 1.0, "micro", held_out=True)
    assert len(load_source(tmp_path, spec, "val")) == 2
    Image.fromarray(np.zeros((30, 64), np.uint16)).save(folder / "masks" / "cells1.png")
    with pytest.raises(AnnotationError, match="does not fit its image"):
        load_source(tmp_path, spec, "val")
    with pytest.raises(AnnotationError, match="no folder images"):
        load_source(tmp_path / "none", spec, "val")


def test_nothing_to_train_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastsam_core.training.run._on_stopping", lambda do: None)
    monkeypatch.setattr(sys, "argv", ["training", "--run", str(tmp_path), "--scene-count", "0"])
    with pytest.raises(AnnotationError, match="nothing to train on"):
        main()


@pytest.mark.parametrize(("of", "began"), [("own", 3), ("other", 7)])
def test_a_decay_begins_anew_with_another_runs_checkpoint_only(
    of: str, began: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(TrainConfig(processes=1), tmp_path / of)
    trainer.step = 3
    trainer.anneal(9)
    trainer.step = 7
    trainer.save()
    monkeypatch.setattr("fastsam_core.training.run._on_stopping", lambda do: None)
    checkpoint = ["--resume", str(tmp_path / of / "last.pt"), "--anneal-steps", "5", "--steps", "7", "--size", "64"]
    scenes = ["--scenes", str(tmp_path / "scenes"), "--scene-count", "1"]
    monkeypatch.setattr(sys, "argv", ["training", "--run", str(tmp_path / "own"), *checkpoint, *scenes])
    main()
    assert load_checkpoint(tmp_path / "own" / "last.pt")["anneal_start"] == began


@pytest.mark.parametrize("resume", [True, False])
def test_an_average_is_made_where_a_stage_begins_only(
    resume: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainers = [Trainer(TrainConfig(processes=1), tmp_path / name) for name in ("own", "earlier")]
    for number, trainer in enumerate(trainers):
        trainer.start_from({name: torch.full_like(value, number) for name, value in trainer.ema.items()})
        trainer.save()
    monkeypatch.setattr("fastsam_core.training.run._on_stopping", lambda do: None)
    monkeypatch.chdir(tmp_path)
    options = ["--blend", "earlier/last.pt", "--blend-share", "0.5", "--steps", "0", "--scene-count", "1"]
    resumed = ["--resume", "own/last.pt"] if resume else []
    monkeypatch.setattr(sys, "argv", ["training", "--run", "own", *options, *resumed, "--scenes", "scenes"])
    main()
    mean = load_checkpoint(tmp_path / "own" / "last.pt")["network"]["model.0.conv.weight"].mean()
    assert float(mean) == (0.5 if resume else 0)


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize(
    ("module", "options", "code", "message"),
    [
        ("training", ("--run", "run", "--scenes", "scenes", "--network", "q"), 2, "No such network"),
        ("training.calibrate", ("--data", "x", "--weights", "nix"), 2, "no model or file 'nix'"),
        ("training.card", ("--tables", "x"), 1, "no JSON files in x"),
        ("training.card", ("--card", "x", "--tables", "."), 1, "x has no place for the tables"),
        ("training.export", ("x.pt", "y.safetensors"), 1, "x.pt cannot be read"),
        ("training.self_training", ("--data", "x", "--earlier", "x", "--regions", "x", "--out", "x"), 2, "file 'x'"),
        ("training.validate", ("--data", "x"), 1, "no folder images in x"),
        ("training.validate_prompts", ("--data", "x"), 1, "no folder images in x"),
        ("text.evaluate_demo", ("--data", "x", "--encoder", "nix"), 2, "no text encoder or folder 'nix'"),
        ("text.export_demo", ("x",), 1, "x cannot be read"),
        ("text.train_demo", ("--data", "x", "--run", "x"), 1, "no folder images in x"),
    ],
)
def test_modules_that_are_run_explain_errors_as_the_command_does(
    module: str,
    options: tuple[str, ...],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.json").write_text("[]")
    monkeypatch.setattr("fastsam_core.training.run._on_stopping", lambda do: None)
    monkeypatch.setattr(sys, "argv", [module, *options])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"fastsam_core.{module}", run_name="__main__")
    assert ended.value.code == code
    assert message in " ".join(capsys.readouterr().err.split())
