"""The optimisers of the built-in model's training: AdamW, and Muon for the weights of convolutions."""

from __future__ import annotations

from itertools import compress
from operator import not_
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import nn

from fastsam_core.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Muon", "Optimizer", "OptimizerName", "build_optimizer", "has_muon"]

OptimizerName = Literal["adamw", "muon"]
_LEAST_SIDE = 8
"""Matrices with a shorter side are left to AdamW: there is little to orthogonalise."""
_BETAS = (0.9, 0.99)


class Optimizer(Protocol):
    """What the trainer uses of an optimiser."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups of parameters, each with its learning rate in ``"lr"``."""

    def step(self) -> Any:
        """Change the weights by their gradients."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be kept to go on exactly."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Take back what `state_dict` returned."""


def has_muon() -> bool:
    """Tell whether the installed torch has Muon (2.9 and newer)."""
    return hasattr(torch.optim, "Muon")


def build_optimizer(name: OptimizerName, network: nn.Module, learning_rate: float, weight_decay: float) -> Optimizer:
    """Return an optimiser of a network's parameters; biases and norms do not decay.

    Parameters
    ----------
    name : {"adamw", "muon"}
        Which.
    network : nn.Module
        In the memory that it will be trained in.
    learning_rate, weight_decay : float
        Of all parameters; Muon's steps are scaled to those of AdamW.

    Raises
    ------
    InvalidParameterError
        If there is no such optimiser, or the installed torch does not have it.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    free = {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
    decayed = [p for p in parameters if p.ndim > 1]
    if name == "adamw":
        return _adamw([{"params": decayed}, free], learning_rate, weight_decay)
    if name != "muon":
        raise InvalidParameterError("No such optimiser", expected="adamw or muon", actual=str(name))
    if not has_muon():
        raise InvalidParameterError(
            "The installed torch has no Muon", expected="torch 2.9 or newer", actual=torch.__version__, remedy="adamw"
        )
    large = [min(len(p), p[0].numel()) >= _LEAST_SIDE for p in decayed]
    matrices, others = list(compress(decayed, large)), list(compress(decayed, map(not_, large)))
    return Muon(matrices, _adamw([{"params": others}, free], learning_rate, weight_decay), learning_rate, weight_decay)


def _adamw(groups: list[dict[str, Any]], learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    return torch.optim.AdamW(groups, lr=learning_rate, weight_decay=weight_decay, betas=_BETAS, fused=True)


class Muon:
    """torch's Muon for the weights of convolutions, each as a matrix of a row for every output; AdamW for the rest.

    Momentum whose singular values are all made about 1 (https://kellerjordan.github.io/posts/muon), scaled so that its
    root mean square is that of AdamW's steps (arXiv 2502.16982): one learning rate serves both.

    Parameters
    ----------
    weights : list of Parameter
        Of two or four dimensions, contiguous or channels-last.
    adamw : AdamW
        Of the other parameters.
    learning_rate, weight_decay : float
        Muon's.
    """

    def __init__(
        self, weights: list[nn.Parameter], adamw: torch.optim.AdamW, learning_rate: float, weight_decay: float
    ) -> None:
        self._weights, self._adamw = weights, adamw
        self._matrices = [nn.Parameter(_as_matrix(weight.detach())) for weight in weights]
        self._muon = torch.optim.Muon(
            self._matrices, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        )

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Muon's groups, and those of AdamW."""
        return [*self._muon.param_groups, *self._adamw.param_groups]

    def step(self) -> None:
        """Change the weights by their gradients."""
        for weight, matrix in zip(self._weights, self._matrices, strict=True):
            matrix.grad = None if weight.grad is None else _as_matrix(weight.grad)
        self._muon.step()
        self._adamw.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for weight in self._weights:
            weight.grad = None
        self._adamw.zero_grad(set_to_none=set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be kept to go on exactly."""
        return {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self._muon.load_state_dict(state_dict["muon"])
        self._adamw.load_state_dict(state_dict["adamw"])


def _as_matrix(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight as a matrix (outputs, everything else), a view where it is contiguous or channels-last."""
    last = weight.movedim(1, -1) if weight.ndim > 2 and not weight.is_contiguous() else weight
    return last.reshape(len(weight), -1)
