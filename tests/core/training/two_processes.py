"""`OneClassTrainer` in two processes on one CPU, joined by gloo where GPUs are joined by NCCL.

In a module of its own because Ultralytics' launcher imports the trainer by name in every process.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from fastsam_core.training.one_class import OneClassTrainer
from fastsam_core.training.trainer import TrainingError

PROCESSES = 2
STOP_BEFORE_EPOCH = "FASTSAM_TEST_STOP_BEFORE_EPOCH"
"""Environment variable: the epoch (from 0) that is not begun, as if the run were killed."""


def _parallel(module: nn.Module, device_ids: Any = None, *, wrapped: Any, **settings: Any) -> Any:
    return wrapped(module, **settings)


def _reduce(values: torch.Tensor, dst: int, op: Any, *, wrapped: Any) -> None:
    """Average as NCCL does, for gloo of torch 2.6 can only add."""
    if op == torch.distributed.ReduceOp.AVG:
        values, op = values.div_(PROCESSES), torch.distributed.ReduceOp.SUM
    wrapped(values, dst=dst, op=op)


class TwoProcessTrainer(OneClassTrainer):
    """Asks for two GPUs and takes two processes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with patch("ultralytics.engine.trainer.select_device", lambda *_, **__: torch.device("cpu")):
            super().__init__(*args, **kwargs)
        self.world_size, self.ddp = PROCESSES, "LOCAL_RANK" not in os.environ
        self.callbacks["on_train_epoch_start"].insert(0, _stop)
        self.callbacks["on_train_batch_end"] = [*self.callbacks["on_train_batch_end"], _note]
        self.seen: list[str] = []

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        if self.model.training:
            self.seen += batch["im_file"]
        return super().preprocess_batch(batch)

    def _setup_ddp(self) -> None:
        self.device = torch.device("cpu")
        torch.distributed.init_process_group("gloo", timeout=timedelta(minutes=2))

    def _setup_train(self) -> None:
        wrapped = partial(_parallel, wrapped=nn.parallel.DistributedDataParallel)
        with patch.object(nn.parallel, "DistributedDataParallel", wrapped):
            super()._setup_train()

    def validate(self) -> Any:
        with patch.object(torch.distributed, "reduce", partial(_reduce, wrapped=torch.distributed.reduce)):
            return super().validate()


def _stop(trainer: Any) -> None:
    trainer.seen = []
    if os.environ.get(STOP_BEFORE_EPOCH) == str(trainer.epoch):
        raise TrainingError("stopped by the test")


def _note(trainer: Any) -> None:
    """Leave what this process has seen in its epoch, and a sum of its weights."""
    total = sum(float(value.detach().double().abs().sum()) for value in trainer.model.parameters())
    note = {"epoch": trainer.epoch, "seen": trainer.seen, "total": total}
    (trainer.save_dir / f"process{os.environ['RANK']}.json").write_text(json.dumps(note))
