"""The training loop: batches in, log lines and checkpoints out."""

from __future__ import annotations

import csv
import logging
import time
from functools import partial
from typing import TYPE_CHECKING

import torch

from fastsam_core.errors import InvalidParameterError
from fastsam_core.training.checkpoint import forget_rows
from fastsam_core.training.loss import LOSS_NAMES
from fastsam_core.training.parallel import GradientHelper

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fastsam_core.training.batches import BatchStream
    from fastsam_core.training.trainer import Trainer

__all__ = ["fit"]

LOGGER = logging.getLogger("fastsam_core.training")
_LOG = "log.csv"
LONGEST_STEP_S = 20.0
"""Longer steps were paused; the excess does not count as training time."""


def fit(trainers: Sequence[Trainer], stream: BatchStream, last_step: int, deadline: float | None = None) -> None:
    """Train until a step, the end of the first trainer's decay phase, a time, or until it is told to stop.

    Parameters
    ----------
    trainers : sequence of Trainer
        One, or several of different networks that learn from the same batches: loading these, which a GPU waits for, is
        done once. Several need ``processes=1``.
    stream : BatchStream
        The data; the first trainer's step says where it begins.
    last_step : int
        Where to end.
    deadline : float, optional
        Seconds since the epoch.

    Raises
    ------
    InvalidParameterError
        If several trainers would each learn from a half of every batch.
    TrainingError, OutputError
        See `Trainer.train_step` and `Trainer.save`.
    """
    first = trainers[0]
    if first.config.processes == 2 and len(trainers) > 1:
        raise InvalidParameterError(
            "Two processes share the batches of one network", expected="processes=1 for several"
        )
    if first.anneal_start is not None:
        last_step = min(last_step, first.anneal_start + first.anneal_steps)
    for trainer in trainers:
        trainer.folder.mkdir(parents=True, exist_ok=True)
        forget_rows(trainer.folder / _LOG, trainer.step)
    helper = None
    if first.config.processes == 2:
        batches = partial(first.batches, stream, last_step, shard=1)
        helper = GradientHelper(first.network, first.backward, batches, first.step)
    try:
        _loop(trainers, first.batches(stream, last_step, shard=0), helper, deadline)
    finally:
        if helper is not None:
            helper.close()


def _loop(
    trainers: Sequence[Trainer],
    batches: Iterator[dict[str, torch.Tensor]],
    helper: GradientHelper | None,
    deadline: float | None,
) -> None:
    first, *others = trainers
    every = first.config.log_every
    sums = torch.zeros(len(trainers), len(LOSS_NAMES))
    saved_at = began = time.monotonic()
    counted = waited = 0.0
    for number, batch in enumerate(batches, start=1):
        waited += time.monotonic() - began
        parts = [first.train_step(batch, helper), *(trainer.train_step(batch) for trainer in others)]
        sums += torch.stack(parts).cpu()
        now = time.monotonic()
        for trainer in trainers:
            trainer.train_seconds += min(now - began, LONGEST_STEP_S)
        counted += now - began
        began = now
        if number % every == 0:
            for trainer, total in zip(trainers, sums, strict=True):
                _log(trainer, total / every, counted / every, waited / every)
            sums.zero_()
            counted = waited = 0.0
        if now - saved_at > first.config.save_every_s:
            _save(trainers)
            saved_at = now
        if first.stopping or (deadline is not None and time.time() > deadline):
            break
    _save(trainers)


def _save(trainers: Sequence[Trainer]) -> None:
    for trainer in trainers:
        trainer.save()


def _log(trainer: Trainer, parts: torch.Tensor, seconds: float, waited: float) -> None:
    values = [round(float(value), 4) for value in parts]
    rate = trainer.optimizer.param_groups[0]["lr"]
    LOGGER.info(
        "%s step %d images %d %s lr %.5f grad %.2f %.2f s/step, %.2f waiting",
        *(trainer.config.architecture, trainer.step, trainer.images, dict(zip(LOSS_NAMES, values, strict=True)), rate),
        *(trainer.grad_norm, seconds, waited),
    )
    path = trainer.folder / _LOG
    fresh = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.writer(stream)
        if fresh:
            writer.writerow(["step", "images", "train_seconds", "lr", *LOSS_NAMES])
        writer.writerow([trainer.step, trainer.images, round(trainer.train_seconds, 1), rate, *values])
