"""A wider network that begins with the outputs of a narrower one (Net2WiderNet, Chen et al. 2016, arXiv 1511.05641).

Every channel of the narrower network becomes a run of equal channels, and the weights that read them are split among
the run. The split is random, so that equal channels get different gradients and part at the first step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch import nn

from fastsam_core.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["WIDENABLE", "widen"]

WIDENABLE: Final = {("yolov8n-seg", "yolov8s-seg")}
"""Pairs of Ultralytics' networks that differ in width only, narrower one first."""
_LEAST_PART = 0.1
"""Of the random numbers that split a weight, so that no part comes near nothing or all."""


def widen(narrow: nn.Module, wide: nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return weights with which a wider network computes what a narrower one does.

    Parameters
    ----------
    narrow, wide : nn.Module
        Networks of convolutions, batch normalisations and concatenations with the same modules. Numbers of channels of
        the wide one, where they differ, are multiples; no convolution has groups.
    seed : int
        Of the random split.

    Returns
    -------
    dict of str to Tensor
        State of ``wide``, which stays as it is; float32, on the CPU.

    Raises
    ------
    CheckpointError
        If the networks differ in more than width.
    """
    generator = torch.Generator().manual_seed(seed)
    # torch stores the weights of transposed convolutions with inputs first
    transposed = {f"{name}.weight" for name, module in narrow.named_modules() if isinstance(module, nn.ConvTranspose2d)}
    weights = {name: value.detach().cpu() for name, value in narrow.state_dict().items()}
    shapes = {name: value.shape for name, value in wide.state_dict().items()}
    if weights.keys() != shapes.keys():
        raise CheckpointError("Networks that differ in more than width cannot be widened")
    widened = {}
    for name, value in weights.items():
        times = _times(name, value.shape, shapes[name])
        if name in transposed:
            widened[name] = _spread(value.transpose(0, 1), times[1::-1] + times[2:], generator).transpose(0, 1)
        else:
            widened[name] = _spread(value, times, generator)
    return widened


def _times(name: str, narrow: Sequence[int], wide: Sequence[int]) -> list[int]:
    """How many channels of the wide network stand for one of the narrow one, in each dimension of a tensor."""
    if len(narrow) != len(wide) or any(there % here for here, there in zip(narrow, wide, strict=True)):
        raise CheckpointError(
            f"{name} cannot be widened", expected=f"multiples of {tuple(narrow)}", actual=str(tuple(wide))
        )
    return [there // here for here, there in zip(narrow, wide, strict=True)]


def _spread(value: torch.Tensor, times: Sequence[int], generator: torch.Generator) -> torch.Tensor:
    """Repeat outputs (first dimension) and split what is read of each input (second) at random."""
    if not value.is_floating_point() or all(count == 1 for count in times):
        return value.clone()
    value = value.repeat_interleave(times[0], dim=0)
    if value.ndim == 1 or times[1] == 1:
        return value
    parts = torch.rand(*value.shape[:2], times[1], generator=generator) + _LEAST_PART
    parts = (parts / parts.sum(-1, keepdim=True)).flatten(1)
    return value.repeat_interleave(times[1], dim=1) * parts.view(*parts.shape, *(1,) * (value.ndim - 2))
