"""Training steps: warm-up, a stable learning rate for as long as wanted, and a decay branched off at any time."""

from __future__ import annotations

import math
import os
import signal
import sys
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fastsam_core._processor import multiplies_bf16
from fastsam_core.checkpoints import build_module
from fastsam_core.errors import CheckpointError, FastSAMError
from fastsam_core.training.batches import BatchStream, StreamConfig, split_batch
from fastsam_core.training.checkpoint import load_checkpoint, save_checkpoint
from fastsam_core.training.loss import LOSS_NAMES, SegmentationLoss
from fastsam_core.training.optimizers import OptimizerName, build_optimizer
from fastsam_core.training.widening import WIDENABLE, widen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from fastsam_core.checkpoints import Checkpoint
    from fastsam_core.training.parallel import GradientHelper

FEW_IMAGES = 16
"""Batches of fewer images are too small to learn statistics of batch normalisation from in the decay phase."""
MASK_MARGIN = 0.5
NEIGHBOUR_WEIGHT = 2.0
"""How far beyond the boxes the built-in model learns its masks, and how much more a neighbour's pixels weigh, see
`SegmentationLoss`."""
_MOST_TO_STOP_S = 30
"""How long loaders go on after SIGTERM; the trainer takes the step that it is in."""


class TrainingError(FastSAMError, RuntimeError):
    """Training cannot go on."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How the network is trained.

    Attributes
    ----------
    architecture, reg_max : str, int
        Ultralytics model name, whose YAML file gives the network, and its bins of box distances.
    optimizer : {"adamw", "muon"}
        See `build_optimizer`.
    learning_rate, weight_decay, clip_norm : float
        The optimiser's; gradients of a greater norm than the last are scaled down.
    warmup_steps : int
        Steps of linear warm-up.
    ema_decay : float
        Of the averaged weights, which are what is evaluated and shipped.
    log_every, save_every_s : int, float
        Steps between log lines, seconds between checkpoints.
    threads : int
        Torch threads of each process.
    processes : int
        1, or 2 to share each batch with a `GradientHelper` (on a CPU, one network).
    device : str
        torch's name of it, ``"cpu"`` or ``"cuda"``.
    workers : int
        Processes of each of these that load batches.
    micro_batch : int
        Images that are computed at once, so that large batches fit into memory and caches; the gradients of a batch's
        parts are averaged. 0: all of them.
    freeze_norm : bool
        Keep the statistics of batch normalisation as they are, also outside the decay phase.
    mask_margin, neighbour_weight : float
        How far beyond the boxes masks are learnt, and how much more a neighbour's pixels weigh, see `SegmentationLoss`.
    dice_weight, score_masks : float, bool
        Whether masks learn from their Dice too, and scores, see there.
    stream : StreamConfig
        The data.
    """

    architecture: str = "yolov8n-seg"
    reg_max: int = 16
    optimizer: OptimizerName = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 0.03
    clip_norm: float = 10.0
    warmup_steps: int = 200
    ema_decay: float = 0.999
    log_every: int = 10
    save_every_s: float = 300.0
    threads: int = 1
    processes: int = 2
    device: str = "cpu"
    workers: int = 1
    micro_batch: int = 0
    freeze_norm: bool = False
    mask_margin: float = 0.0
    neighbour_weight: float = 0.0
    dice_weight: float = 0.0
    score_masks: bool = False
    stream: StreamConfig = field(default_factory=StreamConfig)


def build_network(architecture: str, reg_max: int = 16) -> nn.Module:
    """Return an untrained one-class network, with batch-norm momentum for runs of some thousand steps."""
    network = build_module(architecture, reg_max).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    return network.to(memory_format=torch.channels_last)


def for_device(config: TrainConfig, device: str) -> TrainConfig:
    """Return settings for a device: on a GPU one process computes, and all processors load batches for it."""
    if device == "cpu":
        return config
    return replace(config, device=device, processes=1, workers=os.cpu_count() or 1)


def learning_rate_factor(
    step: int, warmup_steps: int, anneal_start: int | None, anneal_steps: int, first_step: int = 0
) -> float:
    """Warm-up–stable–decay schedule; the decay is ``1 - sqrt`` (Hägele et al. 2024, arXiv 2405.18392)."""
    factor = min(1.0, (step - first_step + 1) / max(warmup_steps, 1))
    if anneal_start is not None:
        progress = min(max((step - anneal_start) / max(anneal_steps, 1), 0.0), 1.0)
        factor *= 1.0 - math.sqrt(progress)
    return factor


def _leave_stopping_to_the_trainer(worker: int) -> None:
    """Go on for a while after what batch systems and Ctrl-C send to all processes of a run.

    A loader that ends is an error to torch. One that never does keeps a process from ending whose batches are still
    referred to, as by the traceback of an error: it sends SIGTERM to its loaders then, and waits for them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_MOST_TO_STOP_S))


class Trainer:
    """Network, optimiser and averaged weights of one run.

    Parameters
    ----------
    config : TrainConfig
        Settings; they may differ from those of the checkpoint resumed from.
    folder : Path
        Where ``last.pt`` and ``log.csv`` go.
    """

    def __init__(self, config: TrainConfig, folder: Path) -> None:
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.stream.seed)
        self.config, self.folder = config, folder
        self.network = build_network(config.architecture, config.reg_max).to(config.device)
        if config.processes > 1:
            self.network.share_memory()
        self.optimizer = build_optimizer(config.optimizer, self.network, config.learning_rate, config.weight_decay)
        self.loss = SegmentationLoss(
            self.network, 80, config.mask_margin, config.neighbour_weight, config.dice_weight, config.score_masks
        )
        self.ema = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.step = self.first_step = 0
        """The next step, and the first one that this optimiser has seen."""
        self.images = 0
        self.train_seconds = 0.0
        self.grad_norm = 0.0
        """Of the last step, before it was clipped."""
        self.anneal_start: int | None = None
        self.anneal_steps = 0
        self.bf16 = multiplies_bf16() if config.device == "cpu" else torch.cuda.is_bf16_supported()
        """Whether the network runs in bfloat16; the loss is computed in float32."""
        self.stopping = False
        """Set to end training after the step under way, with a checkpoint."""

    def start_from(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Begin with these weights, averaged ones too."""
        self.network.load_state_dict(weights)
        self.ema = {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def continue_from(self, model: Checkpoint) -> None:
        """Go on where a weights file ends: its steps, images and seconds count on.

        The file does not hold the optimiser's state, so the learning rate warms up again. A wider network than the
        file's begins with the same outputs (`widen`).

        Raises
        ------
        CheckpointError
            If it belongs to another network that is not narrower.
        """
        module: Any = model.module
        if (model.info.architecture, self.config.architecture) in WIDENABLE:
            self.start_from(widen(module, self.network, self.config.stream.seed))
        else:
            self._must_match(model.info.name, model.info.architecture, int(module.model[-1].reg_max))
            self.start_from(module.state_dict())
        details = model.info.details
        self.step = self.first_step = int(details.get("train_steps", 0))
        self.images = int(details.get("train_images", 0))
        self.train_seconds = float(details.get("train_seconds", 0))

    def _must_match(self, name: str, *actual: str | int) -> None:
        expected = self.config.architecture, self.config.reg_max
        if actual != expected:
            raise CheckpointError(
                f"{name} belongs to another network",
                expected="{} with reg_max {}".format(*expected),
                actual="{} with reg_max {}".format(*actual),
            )

    def state(self) -> dict[str, Any]:
        """Return everything that a resumed run needs."""
        return {
            "config": asdict(self.config),
            "network": self.network.state_dict(),
            "ema": self.ema,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "first_step": self.first_step,
            "images": self.images,
            "train_seconds": self.train_seconds,
            "anneal_start": self.anneal_start,
            "anneal_steps": self.anneal_steps,
        }

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint.

        Raises
        ------
        CheckpointError
            If it belongs to another network or cannot be read.
        """
        state = load_checkpoint(path)
        self._must_match(path.name, state["config"]["architecture"], state["config"].get("reg_max", 16))
        if (optimizer := state["config"].get("optimizer", "adamw")) != self.config.optimizer:
            raise CheckpointError(
                f"{path.name} holds the state of another optimiser",
                expected=self.config.optimizer,
                actual=str(optimizer),
                remedy="export it and give the file with --weights, where the optimiser begins anew",
            )
        self.network.load_state_dict(state["network"])
        self.ema = {name: value.to(self.config.device, copy=True) for name, value in state["ema"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.images = state["step"], state["images"]
        self.first_step = state.get("first_step", 0)
        self.train_seconds = state["train_seconds"]
        self.anneal_start, self.anneal_steps = state["anneal_start"], state["anneal_steps"]

    @property
    def annealing(self) -> bool:
        """Whether a decay phase has begun and not ended."""
        return self.anneal_start is not None and self.step < self.anneal_start + self.anneal_steps

    def anneal(self, steps: int, hold_steps: int = 0) -> None:
        """Begin the decay phase here, or after some more steps at the full rate."""
        self.anneal_start, self.anneal_steps = self.step + hold_steps, steps

    def hold(self) -> None:
        """Go on at a constant learning rate, also after a decay phase that has ended."""
        self.anneal_start, self.anneal_steps = None, 0

    def save(self, name: str = "last.pt") -> None:
        """Write a checkpoint into the run's folder."""
        save_checkpoint(self.folder / name, self.state())

    def train_step(self, batch: dict[str, torch.Tensor], helper: GradientHelper | None = None) -> torch.Tensor:
        """Take one optimiser step and return the parts of the loss (box, seg, cls, dfl).

        Parameters
        ----------
        batch : dict of Tensor
            As made by `collate`.
        helper : GradientHelper, optional
            Process that does the other half of the batch.

        Raises
        ------
        TrainingError
            If the loss is not finite; the weights are left as they were.
        """
        config = self.config
        decay = self.anneal_start, self.anneal_steps
        factor = learning_rate_factor(self.step, config.warmup_steps, *decay, self.first_step)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * factor
        if helper is not None:
            helper.begin()
        parts = self.backward(batch, self.step)
        if helper is not None:
            parts = helper.join(parts)
        if not torch.isfinite(parts).all():
            raise TrainingError(
                f"The loss is not finite at step {self.step}",
                actual=f"{dict(zip(LOSS_NAMES, parts.tolist(), strict=True))}",
                remedy="resume from the last checkpoint, which is kept, with a lower learning rate",
            )
        self.grad_norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), config.clip_norm))
        self.optimizer.step()
        self.step += 1
        self.images += len(batch["img"]) * (1 if helper is None else 2)
        self._average()
        return parts

    def backward(self, batch: dict[str, torch.Tensor], step: int) -> torch.Tensor:
        """Leave the gradients of a batch in the network and return the parts of its loss."""
        self.network.train()
        images = len(batch["img"])
        at_once = self.config.micro_batch or images
        few = self.anneal_start is not None and min(images, at_once) < FEW_IMAGES
        if few or self.config.freeze_norm:
            # Small batches of large images: learn with the statistics that the finished network will use.
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        self.loss.generator.manual_seed(self.config.stream.seed * 1_000_003 + step)
        self.optimizer.zero_grad(set_to_none=True)
        parts = torch.zeros(len(LOSS_NAMES))
        for piece in split_batch(batch, at_once):
            share = len(piece["img"]) / images
            total, found = self._forward(piece)
            (total * share).backward()
            parts = parts.to(found.device) + found * share
        return parts

    def _forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the summed loss of a batch and its detached parts."""
        device = self.config.device
        batch = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
        images = (batch["img"].to(torch.float32) / 255).contiguous(memory_format=torch.channels_last)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=self.bf16):
            preds = self.network(images)
        preds = {key: [f.float() for f in v] if isinstance(v, list) else v.float() for key, v in preds.items()}
        targets = {
            **batch,
            "masks": batch["masks"].to(torch.float32) / 16,
            "weight": batch["weight"].to(torch.float32) / 255,
        }
        return self.loss.total(preds, targets)

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        current = self.network.state_dict()
        floats = [name for name, value in self.ema.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.ema[n] for n in floats], [current[n] for n in floats], 1 - decay)

    def batches(self, stream: BatchStream, last_step: int, shard: int = 0) -> Iterator[dict[str, torch.Tensor]]:
        """Load the batches from the present step up to ``last_step`` in processes of their own."""
        shards = self.config.processes
        sampler = range(self.step * shards + shard, last_step * shards + shard, shards)
        loader: torch.utils.data.DataLoader[dict[str, torch.Tensor]] = torch.utils.data.DataLoader(
            stream,
            batch_size=None,
            sampler=sampler,
            num_workers=self.config.workers,
            prefetch_factor=6 if self.config.workers == 1 else 3,
            worker_init_fn=_leave_stopping_to_the_trainer,
            pin_memory=self.config.device != "cpu",
        )
        return iter(loader)
