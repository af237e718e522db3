"""A second process that computes the gradients of half of each batch.

Two single-threaded processes that meet once a step lose far less to a busy machine than two OpenMP threads that meet
at every layer. Weights live in shared memory and are only written by the main process, between steps.
"""

from __future__ import annotations

from multiprocessing import get_context
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    Batches = Callable[[], Iterator[dict[str, torch.Tensor]]]
    Backward = Callable[[dict[str, torch.Tensor], int], torch.Tensor]

SECONDS_TO_STOP = 10.0


class GradientHelper:
    """Forked copy of the trainer that follows it step by step.

    Parameters
    ----------
    network : nn.Module
        The network, with parameters in shared memory.
    backward : callable
        ``backward(batch, step)`` leaves gradients in the network and returns the parts of the loss.
    batches : callable
        Called in the helper; yields its half of every batch.
    first_step : int
        Number of the first step.
    """

    def __init__(self, network: nn.Module, backward: Backward, batches: Batches, first_step: int) -> None:
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.gradients = [torch.zeros_like(p).share_memory_() for p in self.parameters]
        context = get_context("fork")
        self.connection, remote = context.Pipe()
        arguments = (remote, self.connection, network, self.gradients, backward, batches, first_step)
        self.process = context.Process(target=_serve, args=arguments)
        self.process.start()
        remote.close()

    def begin(self) -> None:
        """Let the helper start on the next step; the weights must not change until `join`."""
        self.connection.send(True)

    def join(self, parts: torch.Tensor) -> torch.Tensor:
        """Wait for the helper, average its gradients into the network's, and return the averaged loss parts."""
        other = torch.tensor(self.connection.recv())
        with torch.no_grad():
            for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
                if parameter.grad is not None:
                    parameter.grad.lerp_(gradient, 0.5)
        return (parts + other) / 2

    def close(self) -> None:
        """Stop the process."""
        self.connection.close()
        self.process.join(SECONDS_TO_STOP)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _serve(
    connection: Connection,
    parents_end: Connection,
    network: nn.Module,
    gradients: list[torch.Tensor],
    backward: Backward,
    batches: Batches,
    first_step: int,
) -> None:
    parents_end.close()
    for module in network.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.clone())
    parameters = [p for p in network.parameters() if p.requires_grad]
    try:
        for step, batch in enumerate(batches(), start=first_step):
            connection.recv()
            parts = backward(batch, step)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if parameter.grad is None:
                    gradient.zero_()
                else:
                    gradient.copy_(parameter.grad)
            connection.send(parts.tolist())
    except (EOFError, BrokenPipeError):
        return
