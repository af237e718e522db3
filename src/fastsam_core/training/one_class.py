"""Ultralytics' trainer for one class: any ``reg_max``, partly annotated data, recall as the measure, exact resume.

A class of its own module because Ultralytics' multi-GPU launcher imports it by name in every process.
"""

from __future__ import annotations

import json
import logging
import random
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fastsam_core._ultralytics import import_ultralytics
from fastsam_core.errors import OutputError
from fastsam_core.training.checkpoint import forget_rows, read_state, save_checkpoint
from fastsam_core.training.export import write_weights
from fastsam_core.training.loss import WeightedObjectness
from fastsam_core.training.trainer import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["OneClassTrainer", "background_weights"]

_SEGMENT: Any = import_ultralytics("ultralytics.models.yolo.segment")
_LOSS: Any = import_ultralytics("ultralytics.utils.loss").v8SegmentationLoss
_RECALL_DETECTIONS = 100
_EXACT = "exact.pt"

LOGGER = logging.getLogger(__name__)


def background_weights(data: Path) -> dict[str, float]:
    """Return the background weight of each source of a converted data set; none for a foreign ``data.yaml``."""
    path = data.parent / "manifest.json"
    if not path.is_file():
        return {}
    return {
        entry["name"]: float(entry["background_weight"])
        for entry in json.loads(path.read_text(encoding="utf-8"))["sources"]
    }


class PartialLoss(_LOSS):  # type: ignore[misc]
    """Ultralytics' loss in float32, with ``batch["background_weight"]`` (B,) on the negatives of each image."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__(model)
        self.bce = WeightedObjectness()

    def loss(self, preds: dict[str, Any], batch: dict[str, Any]) -> Any:
        """Return the loss and its parts, as the base class does."""
        weight = batch.get("background_weight")
        if weight is not None:
            anchors = preds["scores"].shape[-1]
            self.bce.anchor_weight = weight.to(self.device)[:, None].expand(-1, anchors)
        preds = {key: [f.float() for f in v] if isinstance(v, list) else v.float() for key, v in preds.items()}
        with torch.autocast(self.device.type, enabled=False):
            return super().loss(preds, batch)


class RecallValidator(_SEGMENT.SegmentationValidator):  # type: ignore[misc]
    """Validation by class-agnostic mask AR@100, which also decides which weights are best and when to stop."""

    def get_stats(self) -> dict[str, Any]:
        """Add AR@100 to Ultralytics' figures."""
        hits = [matched[:_RECALL_DETECTIONS].sum(axis=0) for matched in self.metrics.stats["tp_m"] if len(matched)]
        instances = sum(len(found) for found in self.metrics.stats["target_cls"])
        recall = float(np.sum(hits, axis=0).mean() / instances) if hits and instances else 0.0
        stats: dict[str, Any] = super().get_stats()
        return {**stats, "metrics/AR100(M)": recall, "fitness": recall}


def _begin_epoch(trainer: Any) -> None:
    """Make everything random a function of seed, epoch and process, so that a resumed run sees the same batches."""
    process = max(int(import_ultralytics("ultralytics.utils").RANK), 0)
    seed = (int(trainer.args.seed) * 100_003 + trainer.epoch + 1 + 7_919 * process) % 2**31
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (Ultralytics' augmentation draws from it)
    torch.manual_seed(seed)
    loader, data = trainer.train_loader, trainer.train_loader.dataset
    loader.generator.manual_seed(seed)
    if hasattr(data, "buffer"):
        for index in data.buffer:
            data.ims[index] = None  # images in memory do not come into the buffer, and mosaics draw from there
        data.buffer.clear()
    loader.reset()


def _check_loss(trainer: Any) -> None:
    if not bool(torch.isfinite(trainer.loss)):
        parts = {name: float(value) for name, value in trainer.loss_items.items()}
        raise TrainingError(
            f"The loss is not finite in epoch {trainer.epoch + 1}",
            actual=str(parts),
            remedy=f"resume from {trainer.last}, which is as it was after epoch {trainer.epoch}; lower lr0",
        )


def _close_log(trainer: Any) -> None:
    trainer.writer.close()


class OneClassTrainer(_SEGMENT.SegmentationTrainer):  # type: ignore[misc]
    """`ultralytics.models.yolo.segment.SegmentationTrainer` as FastSAM needs it.

    ``args.model`` is a YAML file that holds a whole network layout with ``reg_max`` and ``scale``.
    """

    model: Any
    last: Path
    best: Path
    writer: Any = None
    csv: Path

    def __init__(self, cfg: Any = None, overrides: Any = None, _callbacks: Any = None) -> None:
        default = import_ultralytics("ultralytics.utils").DEFAULT_CFG
        workers = int((overrides or {}).get("workers", 1))
        super().__init__(default if cfg is None else cfg, overrides, _callbacks)
        if self.device.type == "cpu":
            self.args.workers = workers  # Ultralytics loads in the training process there, which leaves cores idle
        self.weights = background_weights(Path(self.args.data))
        for event, functions in self.callbacks.items():  # Ray's session warns where there is no tuning
            self.callbacks[event] = [f for f in functions if f.__module__ != "ultralytics.utils.callbacks.raytune"]
        for event, function in (("on_train_epoch_start", _begin_epoch), ("on_train_batch_end", _check_loss)):
            if function not in self.callbacks[event]:  # the launcher of several processes hands its own on
                self.add_callback(event, function)

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Any:
        """Build the network of a layout file, or of the layout inside a checkpoint."""
        if isinstance(cfg, str | Path):
            cfg = import_ultralytics("ultralytics.utils").YAML.load(cfg)
        return super().get_model(cfg, weights, verbose=False)

    def get_validator(self) -> Any:
        """Validate by recall."""
        return RecallValidator(self.test_loader, self.save_dir, self.args, self.callbacks)

    def set_model_attributes(self) -> None:
        """Set the loss and, on a CPU, the memory format that its kernels want."""
        super().set_model_attributes()
        self.model.criterion = PartialLoss(self.model)
        if self.device.type == "cpu":
            self.model = self.model.to(memory_format=torch.channels_last)

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Look up what unannotated pixels mean in the source of each image."""
        batch = super().preprocess_batch(batch)
        weights = [self.weights.get(Path(name).parent.name, 1.0) for name in batch["im_file"]]
        batch["background_weight"] = torch.tensor(weights)
        if self.device.type == "cpu":
            batch["img"] = batch["img"].contiguous(memory_format=torch.channels_last)
        return batch

    def _setup_train(self) -> None:
        super()._setup_train()
        if self.device.type == "cpu":
            self.amp = self.args.amp not in (False, "fp32")  # CPUs autocast to bf16, which needs no gradient scaling

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Append to ``results.csv``, and to TensorBoard's log where it is installed."""
        super().save_metrics(metrics)
        if self.writer is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                return
            # what was logged after the checkpoint that a run resumes from is hidden
            self.writer = SummaryWriter(str(self.save_dir / "tensorboard"), purge_step=self.epoch + 1)
            self.add_callback("teardown", _close_log)
        for name, value in metrics.items():
            self.writer.add_scalar(name, float(value), self.epoch + 1)
        self.writer.flush()

    # ---- checkpoints --------------------------------------------------------------------------------------------

    def save_model(self) -> Any:
        """Write the checkpoint, what an exact resume needs beside it, and the best weights so far.

        Raises
        ------
        OutputError
            If there is no space; the previous files are as they were, and belong together.
        """
        try:
            with self._staged() as exact:
                super().save_model()
                state = {
                    "epoch": self.epoch,
                    "model": import_ultralytics("ultralytics.utils.torch_utils").unwrap_model(self.model).state_dict(),
                    "ema": self.ema.ema.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                }
                save_checkpoint(exact, state)
                if self.best_fitness == self.fitness:
                    layout = self.ema.ema.yaml
                    facts = {"architecture": str(layout["architecture"]), "reg_max": str(layout["reg_max"])}
                    facts |= {"imgsz": str(self.args.imgsz), "train_epochs": str(self.epoch + 1)}
                    write_weights(self.ema.ema.state_dict(), self.save_dir.parent / "best.safetensors", facts)
        except OSError as error:
            raise OutputError(
                f"The checkpoint of epoch {self.epoch + 1} cannot be written",
                actual=error.strerror or str(error),
                remedy="free some space and resume: the previous checkpoint is whole",
            ) from error
        return True

    @contextmanager
    def _staged(self) -> Iterator[Path]:
        """Let Ultralytics write beside its checkpoints, give a path for the exact state, and rename all at the end."""
        finals = (self.last, self.best)
        staged = tuple(path.with_suffix(".tmp") for path in finals)
        self.last, self.best = staged
        exact = self.wdir / "exact-new.pt"
        renamed = {exact: self.wdir / _EXACT, **dict(zip(staged, finals, strict=True))}
        try:
            yield exact
            for path, final in renamed.items():
                if path.is_file():
                    path.replace(final)
        finally:
            self.last, self.best = finals
            for path in renamed:
                path.unlink(missing_ok=True)

    def check_resume(self, overrides: Any) -> None:
        """Go on in the folder that holds the checkpoint, which may have been moved, and as the data of now want it."""
        kept = {key: value for key, value in overrides.items() if key not in ("project", "mosaic")}
        super().check_resume(kept)
        if self.resume:
            self.args.save_dir = str(Path(self.args.resume).parent.parent)
            self.args.mosaic = overrides.get("mosaic", self.args.mosaic)

    def resume_training(self, ckpt: Any) -> None:
        """Continue after the last whole epoch, with the very weights and optimiser state of then."""
        super().resume_training(ckpt)
        path = self.wdir / _EXACT
        if ckpt is None or not self.resume:
            return
        if import_ultralytics("ultralytics.utils").RANK in (-1, 0):
            forget_rows(self.csv, self.start_epoch)
        exact = read_state(path) if path.is_file() else {}
        if exact.get("epoch") != self.start_epoch - 1:
            LOGGER.warning("%s is missing or of another epoch: resumed from averaged weights in fp16", path)
            return
        import_ultralytics("ultralytics.utils.torch_utils").unwrap_model(self.model).load_state_dict(exact["model"])
        self.ema.ema.load_state_dict(exact["ema"])
        self.optimizer.load_state_dict(exact["optimizer"])

    def final_eval(self) -> None:
        """Leave the checkpoints as they are: the best weights are exported already, and a run may go on later."""
