"""What Muon changes, what is left to AdamW, and optimisers that do not belong to a run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch
from torch import nn

from fastsam_core.errors import CheckpointError, InvalidParameterError
from fastsam_core.training.optimizers import build_optimizer, has_muon
from fastsam_core.training.trainer import TrainConfig, Trainer

if TYPE_CHECKING:
    from pathlib import Path

needs_muon = pytest.mark.skipif(not has_muon(), reason="torch has Muon from 2.9 on")


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(16, 24, 3), nn.BatchNorm2d(24), nn.Conv2d(24, 8, 1), nn.Conv2d(8, 1, 1))
    return layers.to(memory_format=torch.channels_last)


@needs_muon
def test_steps_of_muon_are_orthogonal_and_as_large_as_adamws(network: nn.Module) -> None:
    wide = cast("nn.Conv2d", cast("nn.Sequential", network)[0]).weight
    optimizer = build_optimizer("muon", network, 1e-2, 0.0)
    before = wide.detach().clone()
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    step = (before - wide.detach()).movedim(1, -1).reshape(24, -1)
    stretch = torch.linalg.svdvals(step) / (1e-2 * 0.2 * 144**0.5)
    assert ((stretch > 0.5) & (stretch < 1.5)).all()
    assert float(step.square().mean().sqrt()) == pytest.approx(1e-2 * 0.2, rel=0.3)


@needs_muon
def test_few_numbers_are_left_to_adamw(network: nn.Module) -> None:
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    optimizer = build_optimizer("muon", network, 1e-2, 0.0)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    steps = {name: (before[name] - value.detach()).abs() / 1e-2 for name, value in network.named_parameters()}
    # the first step of AdamW is the rate for every number
    alike = {name for name, step in steps.items() if torch.allclose(step, torch.ones_like(step), atol=1e-3)}
    assert alike == {name for name in before if name.endswith("bias") or name.startswith(("1.", "3."))}
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in network.parameters())
    kept = {name: value.detach().clone() for name, value in network.named_parameters()}
    optimizer.step()
    assert all(torch.equal(kept[name], value) for name, value in network.named_parameters())


@pytest.mark.parametrize("name", ["adamw", pytest.param("muon", marks=needs_muon)])
def test_only_weights_decay(network: nn.Module, name: Any) -> None:
    before = {key: value.detach().clone() for key, value in network.named_parameters()}
    optimizer = build_optimizer(name, network, 0.1, 0.5)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for key, value in network.named_parameters():
        share = 0.95 if value.ndim > 1 else 1.0
        torch.testing.assert_close(value.detach(), before[key] * share)


def test_unknown_optimisers_are_refused(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidParameterError, match="No such optimiser") as told:
        build_optimizer(cast("Any", "lion"), network, 1e-3, 0.0)
    assert "adamw or muon" in str(told.value)
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(InvalidParameterError, match="has no Muon") as told:
        build_optimizer("muon", network, 1e-3, 0.0)
    assert torch.__version__ in str(told.value)


@needs_muon
def test_the_state_of_another_optimiser_is_refused(tmp_path: Path) -> None:
    config = TrainConfig(processes=1)
    Trainer(config, tmp_path).save()
    trainer = Trainer(replace(config, optimizer="muon"), tmp_path)
    before = trainer.network.state_dict()["model.0.conv.weight"].clone()
    with pytest.raises(CheckpointError, match=r"last\.pt holds the state of another optimiser") as told:
        trainer.restore(tmp_path / "last.pt")
    assert "adamw" in str(told.value)
    assert torch.equal(trainer.network.state_dict()["model.0.conv.weight"], before)
