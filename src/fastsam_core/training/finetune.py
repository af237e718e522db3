"""Fine-tune a model on a user's own images and label maps, for instance corrected in napari, on a CPU in minutes.

The project's own loop: low learning rate, frozen batch-norm statistics, generated scenes mixed in so that what the
model knew stays, held-back images that decide which weights are kept.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsam_core._checks import as_integer, as_number
from fastsam_core._files import as_path
from fastsam_core._threads import available_cores
from fastsam_core.checkpoints import ModelInfo, load_checkpoint
from fastsam_core.errors import InvalidParameterError
from fastsam_core.quality import METADATA_KEY
from fastsam_core.training.batches import BatchStream, StreamConfig
from fastsam_core.training.datasets.loading import load_folder
from fastsam_core.training.export import write_weights
from fastsam_core.training.geometric import cutouts
from fastsam_core.training.loss import neighbour_weight
from fastsam_core.training.optimizers import has_muon
from fastsam_core.training.scenes import generate_scene
from fastsam_core.training.scoring import Case, Scores, evaluate
from fastsam_core.training.sources import FULL_WEIGHT, LabelledImage
from fastsam_core.training.trainer import TrainConfig, Trainer, build_network
from fastsam_core.training.validate import Setting, cases_of, model_of, segmenter

if TYPE_CHECKING:
    import os
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from torch import nn

    from fastsam_core.training.batches import Pool
    from fastsam_core.training.optimizers import OptimizerName

__all__ = ["FinetuneConfig", "FinetuneStep", "finetune", "scene_samples"]

_LEARNING_RATES: dict[OptimizerName, float] = {"muon": 1e-3, "adamw": 2e-4}
_SIZES = (0.6, 0.8, 1.0, 1.0)
_LEAST_INSTANCES = 40
"""With fewer held-back instances the model's own score threshold is kept."""


@dataclass(frozen=True, slots=True)
class FinetuneConfig:
    """How to fine-tune.

    Parameters
    ----------
    minutes : float
        Time at most, loading the images and checks included.
    learning_rate : float, optional
        By default 1e-3 with Muon, and with AdamW, where torch is older than 2.9 and has no Muon, 2e-4.
    imgsz : int, optional
        Long side at which to check; training uses 60 to 100 % of it. The model's own, 640 at most, by default.
    check_every : int
        Steps between checks on held-back images.
    patience : int
        Checks without a better result before it stops.
    scene_count, scene_share : int, float
        Generated scenes, and their share among the crops.
    most_checked : int
        Held-back images that are checked, at most.
    pixels : int
        Of each batch.
    threads : int, optional
        Torch threads; one a core by default. On a machine busy with other work, 1 is faster.
    seed : int
        Of the batches.

    Raises
    ------
    InvalidParameterError
        If one is out of range.
    """

    minutes: float = 20.0
    learning_rate: float | None = None
    imgsz: int | None = None
    check_every: int = 40
    patience: int = 4
    scene_count: int = 60
    scene_share: float = 0.25
    most_checked: int = 24
    pixels: int = 12 * 320 * 320
    threads: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        highest = {"minutes": math.inf, "scene_share": 1.0}
        highest |= {"learning_rate": 1.0} if self.learning_rate is not None else {}
        for name, most in highest.items():
            as_number(name, getattr(self, name), 0, most)
        least = {"check_every": 1, "patience": 1, "scene_count": 0, "most_checked": 1, "pixels": 1, "seed": 0}
        least |= {name: 1 for name in ("imgsz", "threads") if getattr(self, name) is not None}
        for name, low in least.items():
            as_integer(name, getattr(self, name), low)


@dataclass(frozen=True, slots=True)
class FinetuneStep:
    """What a check found on held-back images, whether these weights are the best so far, and the ``conf`` for them."""

    step: int
    loss: float
    scores: Scores
    quality: float
    best: bool
    conf: float


def finetune(
    labels: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    weights: str | Path = "builtin",
    trust: bool = False,
    config: FinetuneConfig | None = None,
) -> Generator[FinetuneStep, None, Path]:
    """Fine-tune a model on annotated images.

    Parameters
    ----------
    labels : path
        Folder with ``images/`` and ``masks/`` (label maps), ``annotations.json`` (COCO) or ``labels/`` (YOLO), a COCO
        file or a ``data.yaml``, or a converted data set. A fifth of the images is held back, by a hash of their names,
        at least one with objects.
    out : path
        ``.safetensors`` file to write; there from the first check on.
    weights : str or Path
        Where to start: a model's name or file, as for `fastsam_core.FastSAM.load`.
    trust : bool
        Load a pickle of unknown sha256.
    config : FinetuneConfig, optional
        How.

    Yields
    ------
    FinetuneStep
        Before the first step, then at each check, the last of them when the time is up. The generator can be closed at
        any time: ``out`` holds the best weights so far, which are those it started from until others are better.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    AnnotationError
        If fewer than two annotated images have an instance.
    TrainingError
        If the loss is not finite; ``out`` is kept.
    UnknownModelError, CheckpointError, UntrustedCheckpointError, OutputError
        As for loading and writing weights.
    """
    config = config or FinetuneConfig()
    deadline = time.monotonic() + 60 * config.minutes
    labels, out = as_path(labels), as_path(out)
    if out.suffix != ".safetensors":
        raise InvalidParameterError("Weights are written as safetensors", expected="*.safetensors", actual=out.name)
    start = load_checkpoint(weights, trust=trust)
    splits = load_folder(labels)
    imgsz = config.imgsz or min(_largest(start.info), 640)
    stream_config = StreamConfig(
        sizes=tuple(max(round(imgsz * share / 32) * 32, 64) for share in _SIZES),
        pixels=max(config.pixels, 2 * imgsz * imgsz),
        scene_share=config.scene_share,
        mosaic_share=0.1,
        paste_share=0.2,
        seed=config.seed,
    )
    module: Any = start.module
    optimizer: OptimizerName = "muon" if has_muon() else "adamw"
    trainer = Trainer(
        TrainConfig(
            architecture=start.info.architecture,
            reg_max=int(module.model[-1].reg_max),
            optimizer=optimizer,
            learning_rate=_LEARNING_RATES[optimizer] if config.learning_rate is None else config.learning_rate,
            warmup_steps=10,
            ema_decay=0.98,
            threads=config.threads or available_cores(),
            processes=1,
            freeze_norm=True,
            mask_margin=start.info.mask_margin,
            neighbour_weight=neighbour_weight(start.info.mask_threshold),
            dice_weight=float(start.info.details.get("dice_weight", 0)),
            score_masks=start.info.details.get("score_masks") == "1",
            stream=stream_config,
        ),
        out.parent,
    )
    trainer.start_from(module.state_dict())
    pools = splits["train"]
    objects = cutouts(sample for pool in pools if pool.spec.domain == "photo" for sample in pool.samples)
    stream = BatchStream(pools, scene_samples(config.scene_count, imgsz), objects, stream_config)
    yield from _steps(trainer, stream, splits["val"], start.info, out, config, deadline)
    return out


def scene_samples(count: int, side_px: int, first_seed: int = 1_000_000) -> list[LabelledImage]:
    """Draw generated scenes of ``side_px`` x ``side_px`` pixels, with seeds that no other bank uses."""
    samples = []
    for seed in range(first_seed, first_seed + count):
        scene = generate_scene(seed, (side_px, side_px))
        weight = np.full((side_px, side_px), FULL_WEIGHT, np.uint8)
        samples.append(LabelledImage(scene.image, scene.layers, weight, "scene", str(seed)))
    return samples


def _steps(
    trainer: Trainer,
    stream: BatchStream,
    held_back: Sequence[Pool],
    info: ModelInfo,
    out: Path,
    config: FinetuneConfig,
    deadline: float,
) -> Generator[FinetuneStep, None, None]:
    cases = cases_of(_checked([sample for pool in held_back for sample in pool.samples], config.most_checked))
    complete = all(pool.spec.background_weight == 1.0 for pool in held_back)
    imgsz = stream.config.sizes[-1]
    network = build_network(trainer.config.architecture, trainer.config.reg_max).eval()
    best, since_best, total, taken = -1.0, 0, 0.0, 0
    last_step = 10**6
    batches = trainer.batches(stream, last_step)
    while True:
        began = time.monotonic()
        scores = _check(network, trainer, cases, imgsz, info, complete)
        checking_s = time.monotonic() - began
        quality = (scores.ar100 + scores.ap50) / 2 if complete else scores.ar100
        conf = scores.best_conf if complete and scores.instances >= _LEAST_INSTANCES else info.conf
        conf = min(max(conf, 0.05), 0.9)
        better = quality > best
        if better:
            best, since_best = quality, 0
            write_weights(trainer.ema, out, _facts(info, trainer, conf))
        else:
            since_best += 1
        yield FinetuneStep(trainer.step, total / max(taken, 1), scores, quality, better, conf)
        if since_best >= config.patience:
            return
        total, taken = 0.0, 0
        # what was learnt in the time there is gets checked, too
        while taken < config.check_every and time.monotonic() + checking_s < deadline:
            total += float(trainer.train_step(next(batches)).sum())
            taken += 1
        if not taken:
            return


def _checked(samples: Sequence[LabelledImage], most: int) -> list[LabelledImage]:
    """Take the first images, and one that shows objects if these do not: without, all figures are 0."""
    chosen = list(samples[:most])
    if not any(sample.layers.any() for sample in chosen):
        chosen[-1] = next((sample for sample in samples if sample.layers.any()), chosen[-1])
    return chosen


def _check(
    network: nn.Module, trainer: Trainer, cases: Sequence[Case], imgsz: int, info: ModelInfo, complete: bool
) -> Scores:
    network.load_state_dict(trainer.ema)
    model = model_of(network, info)
    return evaluate(segmenter(model, Setting(str(imgsz), info.iou)), cases, empty=complete)


def _largest(info: ModelInfo) -> int:
    return info.imgsz if isinstance(info.imgsz, int) else max(info.imgsz)


def _facts(info: ModelInfo, trainer: Trainer, conf: float) -> dict[str, str]:
    return {
        **{key: value for key, value in info.details.items() if key != METADATA_KEY},  # fitted for the old weights
        "architecture": trainer.config.architecture,
        "reg_max": str(trainer.config.reg_max),
        "licence": info.licence,
        "imgsz": str(info.imgsz) if isinstance(info.imgsz, int) else ",".join(map(str, info.imgsz)),
        "conf": f"{conf:.3g}",
        "iou": str(info.iou),
        "finetuned_from": f"{info.name} {info.sha256[:16]}",
        "finetuned_steps": str(trainer.step),
    }
