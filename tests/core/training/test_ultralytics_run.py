"""``fastsam train``: any reg_max, partial data, exact resume, and errors that lose nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.core.training.scene_data import convert_pairs, write_pairs
from tests.core.training.two_processes import STOP_BEFORE_EPOCH, TwoProcessTrainer

from fastsam_core._ultralytics import import_ultralytics
from fastsam_core.checkpoints import load_checkpoint
from fastsam_core.errors import (
    AnnotationError,
    BackendUnavailableError,
    CheckpointError,
    InvalidParameterError,
    MissingDependencyError,
    OutputError,
)
from fastsam_core.training import one_class, ultralytics_run
from fastsam_core.training.checkpoint import read_state, save_checkpoint
from fastsam_core.training.one_class import OneClassTrainer, PartialLoss, RecallValidator, background_weights
from fastsam_core.training.trainer import TrainingError, build_network
from fastsam_core.training.ultralytics_run import TrainRequest, train

if TYPE_CHECKING:
    from pathlib import Path

QUICK = {"nbs": 4, "verbose": False, "warmup_epochs": 1.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    return convert_pairs(write_pairs(folder / "pairs", 12, 64), folder / "set")


def request(data: Path, run: Path) -> TrainRequest:
    return TrainRequest(data, run, network="n", imgsz=64, epochs=3, batch=4, reg_max=20, workers=0, device="cpu")


@pytest.fixture(scope="module")
def straight(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that was not interrupted."""
    run = tmp_path_factory.mktemp("straight")
    train(request(data, run), settings=QUICK)
    return run


def test_papers_settings(data: Path, tmp_path: Path) -> None:
    facts = ultralytics_run._facts(TrainRequest(data, tmp_path, recipe="paper"))
    assert (facts["architecture"], facts["imgsz"], facts["epochs"]) == ("yolov8x-seg", 1024, 100)
    assert ultralytics_run._layout(facts)["reg_max"] == facts["reg_max"] == 26
    settings = ultralytics_run._overrides(TrainRequest(data, tmp_path, device="cpu"), facts, data / "data.yaml")
    assert (settings["overlap_mask"], settings["single_cls"], settings["batch"]) == (False, True, 32)


@pytest.mark.parametrize("native", [True, False])
def test_bf16_only_where_the_processor_multiplies_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr(ultralytics_run, "multiplies_bf16", lambda: native)
    train(replace(request(data, tmp_path), epochs=1), settings=QUICK)
    assert f"amp: {str(native).lower()}" in (tmp_path / "ultralytics" / "args.yaml").read_text().splitlines()


def test_several_gpus_need_cloudpickle(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="cloudpickle"):
        train(replace(request(data, tmp_path), device="0,1"))


def test_several_processes_share_each_epoch_and_resume(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # two processes of two threads wait for each other on two cores
    monkeypatch.setattr(one_class, "OneClassTrainer", TwoProcessTrainer)
    pair = replace(request(data, tmp_path), device="0,1", epochs=2)
    with monkeypatch.context() as patch:
        patch.setenv(STOP_BEFORE_EPOCH, "1")
        with pytest.raises(TrainingError, match="process ended with an error"):
            train(pair, settings={**QUICK, "amp": False})
    exact = tmp_path / "ultralytics" / "weights" / "exact.pt"
    assert read_state(exact)["epoch"] == 0
    best = train(pair, resume=True)
    assert read_state(exact)["epoch"] == 1
    assert len((tmp_path / "ultralytics" / "results.csv").read_text().splitlines()) == 1 + 2
    notes = [json.loads((tmp_path / "ultralytics" / f"process{rank}.json").read_text()) for rank in (0, 1)]
    assert notes[0]["total"] == pytest.approx(notes[1]["total"], rel=1e-6)
    seen = [set(note["seen"]) for note in notes]
    assert all(seen)
    assert seen[0] != seen[1]
    assert seen[0] | seen[1] == {str(path) for path in (data / "images").glob("train/**/*.png")}
    assert load_checkpoint(best).info.architecture == "yolov8n-seg"


def test_sources_that_differ_in_coverage_are_not_mixed(data: Path, tmp_path: Path) -> None:
    assert ultralytics_run._mixing(data / "data.yaml", "small") == {}
    sources = [{"name": "a", "background_weight": 0.03}, {"name": "b", "background_weight": 1}]
    (tmp_path / "manifest.json").write_text(json.dumps({"sources": sources}))
    assert ultralytics_run._mixing(tmp_path / "data.yaml", "small") == {"mosaic": 0.0}


def test_mosaics_are_drawn_without_a_loader_process_in_later_epochs_too(data: Path, tmp_path: Path) -> None:
    train(replace(request(data, tmp_path), epochs=2), settings={**QUICK, "close_mosaic": 0})
    assert len((tmp_path / "ultralytics" / "results.csv").read_text().splitlines()) == 1 + 2


def test_exports_what_the_program_loads(straight: Path) -> None:
    info = load_checkpoint(straight / "best.safetensors").info
    assert (info.architecture, info.imgsz) == ("yolov8n-seg", 64)
    assert info.details["reg_max"] == "20"
    assert 0.05 <= info.conf <= 1
    assert "metrics/AR100(M)" in (straight / "ultralytics" / "results.csv").read_text().splitlines()[0]


def test_kill_and_resume_elsewhere_give_the_same_weights(
    data: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = one_class._begin_epoch

    def killed(trainer: Any) -> None:
        if trainer.epoch == 2:
            raise KeyboardInterrupt
        begin(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(one_class, "_begin_epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            train(request(data, tmp_path / "begun"), settings=QUICK)
    moved = (tmp_path / "begun").rename(tmp_path / "moved")
    best = train(request(shutil.copytree(data, tmp_path / "data"), moved), resume=True)
    assert best.parent == moved
    assert not (tmp_path / "begun").exists()
    states = [read_state(run / "ultralytics" / "weights" / "exact.pt") for run in (straight, moved)]
    assert states[0]["epoch"] == states[1]["epoch"] == 2
    for part in ("model", "ema"):
        for name, value in states[0][part].items():
            assert torch.equal(value, states[1][part][name]), f"{part} {name}"


def test_a_run_goes_on_without_mosaics_where_sources_differ_by_now(data: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(data, tmp_path / "data")
    asked = replace(request(folder, tmp_path / "run"), epochs=2)

    class Stopped(OneClassTrainer):
        def save_model(self) -> Any:
            super().save_model()
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one_class, "OneClassTrainer", Stopped)
        with pytest.raises(KeyboardInterrupt):
            train(asked, settings=QUICK)
    args = tmp_path / "run" / "ultralytics" / "args.yaml"
    assert "mosaic: 1.0" in args.read_text().splitlines()
    convert_pairs(write_pairs(tmp_path / "pairs", 4, 64), folder, name="partly", coverage="partial")
    train(asked, resume=True)
    assert "mosaic: 0.0" in args.read_text().splitlines()


def test_disk_full_while_the_exact_state_is_written_keeps_all_of_the_epoch_before(
    data: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, state: dict[str, Any]) -> None:
        if state["epoch"] == 1:
            raise OutputError("No space left")
        save_checkpoint(path, state)

    with monkeypatch.context() as patch:
        patch.setattr(one_class, "save_checkpoint", full)
        with pytest.raises(OutputError, match="epoch 2 cannot be written"):
            train(request(data, tmp_path), settings=QUICK)
    train(request(data, tmp_path), resume=True)
    assert "of another epoch" not in caplog.text
    states = [read_state(run / "ultralytics" / "weights" / "exact.pt") for run in (straight, tmp_path)]
    for name, value in states[0]["model"].items():
        assert torch.equal(value, states[1]["model"][name]), name
    rows = (tmp_path / "ultralytics" / "results.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "1", "2", "3"]
    weights = sorted(path.name for path in (tmp_path / "ultralytics" / "weights").iterdir())
    assert weights == ["best.pt", "exact.pt", "last.pt"]


def test_finished_and_foreign_runs_are_not_resumed(data: Path, straight: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot be resumed.*all 3 epochs are done.*--epochs"):
        train(request(data, straight), resume=True)
    with pytest.raises(CheckpointError, match="another network"):
        train(replace(request(data, straight), network="s"), resume=True)
    with pytest.raises(CheckpointError, match=r"begun with another epochs.*Expected: 3.* Actual: 9"):
        train(replace(request(data, straight), epochs=9), resume=True)
    with pytest.raises(CheckpointError, match=r"begun with another seed"):
        train(replace(request(data, straight), seed=1), resume=True)
    with pytest.raises(CheckpointError, match=r"no run to resume.*without --resume"):
        train(request(data, tmp_path), resume=True)
    with pytest.raises(InvalidParameterError, match="holds a run already"):
        train(request(data, straight))


@pytest.mark.parametrize(
    ("change", "message"), [({"recipe": "x"}, "recipe"), ({"network": "q"}, "network"), ({"epochs": 0}, "range")]
)
def test_wrong_requests(data: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        train(replace(request(data, tmp_path), **change))


def test_a_set_without_validation_images_is_checked_on_those_trained_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = convert_pairs(write_pairs(tmp_path / "pairs", 4, 64), tmp_path / "set", val_share=0.0)
    best = train(replace(request(data, tmp_path / "run"), epochs=1), settings=QUICK)
    assert "nothing is held back" in caplog.text
    assert 0.05 <= load_checkpoint(best).info.conf <= 1


@pytest.mark.parametrize("device", ["99", "nowhere"])
def test_a_device_that_is_not_there_is_named(data: Path, tmp_path: Path, device: str) -> None:
    with pytest.raises(BackendUnavailableError, match=f"Actual: {device}; .*Remedy"):
        train(replace(request(data, tmp_path), device=device))


def test_missing_data(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"There is no .*none.*data\.yaml.*moved.*--data"):
        train(request(tmp_path / "none", tmp_path / "run"))
    (tmp_path / "list.json").write_text("{}")
    with pytest.raises(AnnotationError, match=r"ends in '\.json'"):
        train(request(tmp_path / "list.json", tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames:\n  0: object\n")
    with pytest.raises(AnnotationError, match="cannot be trained on"):
        train(request(tmp_path, tmp_path / "run"))


def test_not_finite_loss_stops_and_keeps_the_checkpoint(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = PartialLoss.loss
    calls: list[int] = []

    def spoiled(self: PartialLoss, preds: Any, batch: Any) -> Any:
        loss, parts = original(self, preds, batch)
        calls.append(1)
        return (loss * float("nan"), parts) if len(calls) > 4 else (loss, parts)

    monkeypatch.setattr(PartialLoss, "loss", spoiled)
    with pytest.raises(TrainingError, match="not finite in epoch 2"):
        train(request(data, tmp_path), settings=QUICK)
    state = read_state(tmp_path / "ultralytics" / "weights" / "exact.pt")
    assert state["epoch"] == 0
    assert all(bool(torch.isfinite(value).all()) for value in state["model"].values())


class Stub(OneClassTrainer):
    """Only what saving needs."""

    def __init__(self, folder: Path) -> None:
        self.last, self.best, self.wdir, self.epoch = folder / "last.pt", folder / "best.pt", folder, 3


def test_full_disk_keeps_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "last.pt").write_bytes(b"previous")

    def full(self: Stub) -> None:
        self.last.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(OneClassTrainer.__mro__[1], "save_model", full)
    with pytest.raises(OutputError, match="No space left"):
        Stub(tmp_path).save_model()
    assert (tmp_path / "last.pt").read_bytes() == b"previous"
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_unannotated_things_of_partial_sources_are_not_punished(data: Path) -> None:
    assert background_weights(data / "data.yaml") == {"scenes": 1.0}
    assert background_weights(data / "other" / "data.yaml") == {}
    network: Any = build_network("yolov8n-seg")
    network.args = import_ultralytics("ultralytics.utils").DEFAULT_CFG
    network.args.overlap_mask = False
    loss = PartialLoss(network)
    torch.manual_seed(0)
    preds = network(torch.rand(2, 3, 64, 64))
    batch = {"batch_idx": torch.zeros(0), "cls": torch.zeros(0, 1), "bboxes": torch.zeros(0, 4)}
    full = loss.loss(preds, {**batch, "background_weight": torch.ones(2)})[1]["cls_loss"]
    light = loss.loss(preds, {**batch, "background_weight": torch.full((2,), 0.03)})[1]["cls_loss"]
    assert float(light) == pytest.approx(0.03 * float(full), rel=1e-4)


def test_recall_counts_the_first_hundred(monkeypatch: pytest.MonkeyPatch) -> None:
    hits = np.zeros((150, 10), bool)
    hits[:50], hits[120:] = True, True
    validator = RecallValidator.__new__(RecallValidator)
    stats = {"tp_m": [hits, np.zeros((0, 10), bool)], "target_cls": [np.zeros(80), np.zeros(20)]}
    validator.metrics = SimpleNamespace(stats=stats)
    monkeypatch.setattr(RecallValidator.__mro__[1], "get_stats", lambda self: {"metrics/mAP50(M)": 0.1})
    assert validator.get_stats()["fitness"] == pytest.approx(0.5)


def test_manifest_tells_the_weights(tmp_path: Path) -> None:
    sources = [{"name": "a", "background_weight": 0.03}, {"name": "b", "background_weight": 1}]
    (tmp_path / "manifest.json").write_text(json.dumps({"sources": sources}))
    assert background_weights(tmp_path / "data.yaml") == {"a": 0.03, "b": 1.0}
