"""A wider network that begins with a narrower one's outputs."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from fastsam_core.checkpoints import load_checkpoint
from fastsam_core.errors import BackendUnavailableError, CheckpointError, InvalidParameterError
from fastsam_core.training.batches import BatchStream, StreamConfig
from fastsam_core.training.checkpoint import load_checkpoint as load_state
from fastsam_core.training.loop import fit
from fastsam_core.training.run import main
from fastsam_core.training.scenes import generate_scene
from fastsam_core.training.sources import LabelledImage
from fastsam_core.training.trainer import TrainConfig, Trainer, build_network, for_device
from fastsam_core.training.widening import widen

if TYPE_CHECKING:
    from pathlib import Path

STREAM = StreamConfig(sizes=(64,), pixels=2 * 64 * 64, mosaic_share=0.0, paste_share=0.0)
CONFIG = TrainConfig(stream=STREAM, processes=1, warmup_steps=4, log_every=2)


@pytest.fixture(scope="module")
def builtin() -> nn.Module:
    return load_checkpoint("builtin").module


@pytest.fixture(scope="module")
def stream() -> BatchStream:
    scene = generate_scene(0, (96, 96), "objects")
    weight = torch.full((96, 96), 255, dtype=torch.uint8).numpy()
    return BatchStream([], [LabelledImage(scene.image, scene.layers, weight, "scene")], [], STREAM)


def outputs(network: Any, images: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        found = network.train(False)(images)[1]
    return {name: found[name] for name in ("boxes", "scores", "mask_coefficient", "proto")}


def test_a_widened_network_has_the_same_outputs(builtin: nn.Module) -> None:
    wide: Any = build_network("yolov8s-seg")
    wide.load_state_dict(widen(builtin, wide))
    assert sum(p.numel() for p in wide.parameters()) > 3 * sum(p.numel() for p in builtin.parameters())
    images = torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    for name, expected in outputs(builtin, images).items():
        torch.testing.assert_close(outputs(wide, images)[name], expected, rtol=1e-3, atol=1e-3)


def test_equal_channels_part() -> None:
    """Twins with the same weights would get the same gradients for ever."""
    narrow, wide = (nn.Sequential(nn.Conv2d(2, c, 1), nn.Conv2d(c, 2, 1)) for c in (3, 6))
    wide.load_state_dict(widen(narrow, wide))
    wide(torch.rand(1, 2, 4, 4)).square().sum().backward()
    first: Any = wide[0]
    assert torch.equal(first.weight[0], first.weight[1])
    assert not torch.allclose(first.weight.grad[0], first.weight.grad[1])


@pytest.mark.parametrize("layer", [nn.Conv2d, nn.ConvTranspose2d])
def test_both_kinds_of_convolution(layer: Any) -> None:
    narrow, wide = (nn.Sequential(nn.Conv2d(2, c, 1), layer(c, c + c, 2, 2), nn.Conv2d(c + c, 1, 1)) for c in (2, 6))
    wide.load_state_dict(widen(narrow, wide, seed=3))
    images = torch.rand(1, 2, 4, 4)
    torch.testing.assert_close(wide(images), narrow(images))


def test_networks_that_differ_in_more_than_width_are_refused(builtin: nn.Module) -> None:
    with pytest.raises(CheckpointError, match="differ in more than width"):
        widen(builtin, build_network("yolov8m-seg"))
    with pytest.raises(CheckpointError, match="cannot be widened"):
        widen(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 3, 1))


def test_two_networks_learn_from_the_same_batches(tmp_path: Path, stream: BatchStream) -> None:
    alone = Trainer(CONFIG, tmp_path / "alone")
    fit([alone], stream, last_step=2)
    small = Trainer(CONFIG, tmp_path / "n")
    large = Trainer(replace(CONFIG, architecture="yolov8s-seg"), tmp_path / "s")
    start = large.ema["model.0.conv.weight"].clone()
    fit([small, large], stream, last_step=2)
    assert small.step == large.step == 2
    assert small.images == large.images == alone.images
    assert all(torch.equal(value, small.ema[name]) for name, value in alone.ema.items())
    assert not torch.equal(start, large.ema["model.0.conv.weight"])
    shared = Trainer(replace(CONFIG, processes=2), tmp_path / "shared")
    with pytest.raises(InvalidParameterError, match="of one network"):
        fit([shared, large], stream, last_step=3)
    for name in ("n", "s"):
        assert (tmp_path / name / "last.pt").is_file()
        assert len((tmp_path / name / "log.csv").read_text().splitlines()) == 2


def test_a_wider_network_goes_on_with_a_file(tmp_path: Path) -> None:
    model = load_checkpoint("builtin")
    trainer = Trainer(replace(CONFIG, architecture="yolov8s-seg"), tmp_path)
    trainer.continue_from(model)
    assert trainer.step == int(model.info.details["train_steps"])
    with pytest.raises(CheckpointError, match="belongs to another network"):
        Trainer(replace(CONFIG, architecture="yolov8m-seg"), tmp_path).continue_from(model)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("fastsam_core.training.run._on_stopping", lambda do: None)
    monkeypatch.setattr(sys, "argv", ["training", "--scene-count", "1", "--size", "64", *arguments])
    main()


def test_several_networks_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = ("--run", str(tmp_path / "run"), "--scenes", str(tmp_path / "scenes"), "--network", "n,s")
    decay = ("--weights", "builtin", "--hold-steps", "1", "--anneal-steps", "1")
    run(monkeypatch, *folders, *decay)
    steps = int(load_checkpoint("builtin").info.details["train_steps"])
    for size in "ns":
        state = load_state(tmp_path / "run" / size / "last.pt")
        assert state["config"]["architecture"] == f"yolov8{size}-seg"
        assert (state["step"], state["anneal_start"]) == (steps + 2, steps + 1)
    (tmp_path / "run" / "s" / "last.pt").unlink()
    with pytest.raises(InvalidParameterError, match="must be at the same step"):
        run(monkeypatch, *folders)
    with pytest.raises(InvalidParameterError, match="No such network"):
        run(monkeypatch, *folders[:-1], "q")


def test_a_gpu_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(BackendUnavailableError, match="not available"):
        run(monkeypatch, "--run", str(tmp_path), "--device", "cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_learns_as_the_cpu_does(tmp_path: Path, stream: BatchStream) -> None:
    losses = []
    for device in ("cpu", "cuda"):
        trainer = Trainer(for_device(CONFIG, device), tmp_path / device)
        trainer.bf16 = False
        trainer.loss.masks_per_image = 10**4
        losses.append(trainer.train_step(stream[0]).cpu())
        trainer.save()
        trainer.restore(tmp_path / device / "last.pt")
        assert torch.isfinite(trainer.train_step(stream[1])).all()
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-2, atol=1e-2)
