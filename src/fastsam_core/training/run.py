"""The command ``python -m fastsam_core.training``, which trains the built-in model."""

from __future__ import annotations

import argparse
import logging
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from fastsam_core.checkpoints import load_checkpoint as load_weights
from fastsam_core.errors import AnnotationError, InvalidParameterError
from fastsam_core.runtimes import resolve_device
from fastsam_core.training.batches import BatchStream, Pool, StreamConfig, as_used, for_decay
from fastsam_core.training.export import average, stage_weights
from fastsam_core.training.geometric import cutouts
from fastsam_core.training.loop import fit
from fastsam_core.training.recipes import NETWORKS
from fastsam_core.training.regions import add_regions
from fastsam_core.training.scene_bank import load_scene_bank
from fastsam_core.training.sources import SOURCES, load_source
from fastsam_core.training.trainer import MASK_MARGIN, NEIGHBOUR_WEIGHT, TrainConfig, Trainer, for_device

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

LOGGER = logging.getLogger("fastsam_core.training")
CROP_PX = 320


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fastsam_core.training", description="Train the built-in model.")
    parser.add_argument("--data", type=Path, help="folder of labelled sources (default: generated scenes only)")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoints and the log")
    parser.add_argument("--scenes", type=Path, help="folder of generated scenes (default: RUN/scenes)")
    parser.add_argument("--scene-count", type=int, default=1500)
    parser.add_argument("--first-scene", type=int, default=0, help="seed of the first generated scene")
    parser.add_argument("--regions", type=Path, help="folder of regions found in photographs, which are learnt too")
    parser.add_argument(
        "--network",
        default="n",
        help="size, n to x; several (n,s) learn from the same batches, each in a folder of RUN (default: n)",
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default: cpu")
    parser.add_argument("--steps", type=int, default=10**7, help="last step")
    parser.add_argument("--minutes", type=float, help="stop after this time")
    parser.add_argument("--resume", type=Path, help="checkpoint to continue from (default: RUN/last.pt if there)")
    parser.add_argument("--weights", help="model to go on with where RUN has no checkpoint: builtin, or a file")
    parser.add_argument(
        "--blend", help="begin a stage from the average with the weights of this model, file or checkpoint"
    )
    parser.add_argument("--blend-share", type=float, default=0.3, help="its share of the average")
    parser.add_argument(
        "--anneal-steps",
        type=int,
        help="decay the learning rate to zero over so many steps (anew with another run's checkpoint)",
    )
    parser.add_argument("--hold-steps", type=int, default=0, help="steps at the full rate before it decays")
    parser.add_argument(
        "--optimizer", default="adamw", choices=("adamw", "muon"), help="muon needs torch 2.9 (default: adamw)"
    )
    parser.add_argument("--learning-rate", type=float, default=TrainConfig().learning_rate)
    parser.add_argument(
        "--neighbour-weight", type=float, default=NEIGHBOUR_WEIGHT, help="further weight of neighbours' pixels in masks"
    )
    parser.add_argument("--dice-weight", type=float, default=0.0, help="weight of 1 - Dice in the loss of masks")
    parser.add_argument("--score-masks", action="store_true", help="teach scores the Dice of the masks too")
    parser.add_argument(
        "--plain-share", type=float, default=0.0, help="share of whole pictures as they are, for a last stage"
    )
    parser.add_argument("--scene-kinds", default="", help="kinds of generated scenes, as glands,tissue (default: all)")
    parser.add_argument("--scene-share", type=float, help="share of generated scenes (default: 0.25, 0.18 in a decay)")
    parser.add_argument(
        "--patch-share", type=float, default=0.0, help="share of photographs with patches of other textures drawn in"
    )
    parser.add_argument("--save-every", type=float, default=TrainConfig().save_every_s, help="seconds")
    parser.add_argument("--crops", type=int, default=12, help="320 px crops a batch, or as many pixels of other sizes")
    parser.add_argument(
        "--micro-batch", type=int, default=0, help="images computed at once; their gradients are averaged (0: all)"
    )
    parser.add_argument("--size", type=int, help="train at this long side only (for trying things out)")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _on_stopping(do: Callable[[int, FrameType | None], None]) -> None:
    """Say what SIGTERM and Ctrl-C do."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, do)


def _end(number: int, frame: FrameType | None) -> None:
    """End the run, which has learnt nothing yet; scenes and regions that are there already stay."""
    raise SystemExit(128 + number)


def _stream_config(arguments: argparse.Namespace) -> StreamConfig:
    config = StreamConfig(pixels=arguments.crops * CROP_PX**2, patch_share=arguments.patch_share, seed=arguments.seed)
    if arguments.plain_share:
        config = as_used(config, arguments.plain_share)
    elif arguments.anneal_steps:
        config = for_decay(config)
    if arguments.scene_share is not None:
        config = replace(config, scene_share=arguments.scene_share)
    if arguments.size:
        config = replace(config, sizes=(arguments.size,), pixels=8 * arguments.size**2)
    return config


def _trainer(arguments: argparse.Namespace, network: str, folder: Path, stream_config: StreamConfig) -> Trainer:
    """Return a trainer where its run left off, or where a checkpoint or weights file ends."""
    config = TrainConfig(
        architecture=NETWORKS[network],
        optimizer=arguments.optimizer,
        learning_rate=arguments.learning_rate,
        save_every_s=arguments.save_every,
        micro_batch=arguments.micro_batch,
        processes=1 if "," in arguments.network else 2,
        mask_margin=MASK_MARGIN,
        neighbour_weight=arguments.neighbour_weight,
        dice_weight=arguments.dice_weight,
        score_masks=arguments.score_masks,
        stream=stream_config,
    )
    trainer = Trainer(for_device(config, resolve_device(arguments.device)), folder)
    checkpoint = arguments.resume or folder / "last.pt"
    if arguments.resume or checkpoint.is_file():
        trainer.restore(checkpoint)
        LOGGER.info("resumed at step %d from %s", trainer.step, checkpoint)
    elif arguments.weights:
        trainer.continue_from(load_weights(arguments.weights))
        LOGGER.info("goes on at step %d with %s", trainer.step, arguments.weights)
    if arguments.blend and (arguments.resume or not checkpoint.is_file()):  # not again where the stage goes on
        trainer.start_from(average(trainer.ema, stage_weights(arguments.blend), arguments.blend_share))
    next_stage = checkpoint.parent.resolve() != folder.resolve()
    if arguments.anneal_steps and (next_stage or not trainer.annealing):
        trainer.anneal(arguments.anneal_steps, arguments.hold_steps)
    elif not trainer.annealing:
        trainer.hold()
    return trainer


def _trainers(arguments: argparse.Namespace, stream_config: StreamConfig) -> list[Trainer]:
    networks = arguments.network.split(",")
    if unknown := set(networks) - NETWORKS.keys():
        raise InvalidParameterError("No such network", expected=f"some of {', '.join(NETWORKS)}", actual=str(unknown))
    several = len(networks) > 1
    trainers = [
        _trainer(arguments, name, arguments.run / name if several else arguments.run, stream_config)
        for name in networks
    ]
    if len({trainer.step for trainer in trainers}) > 1:
        raise InvalidParameterError(
            "Networks that learn from the same batches must be at the same step",
            actual=", ".join(f"{trainer.config.architecture} at {trainer.step}" for trainer in trainers),
        )
    return trainers


def _pools(arguments: argparse.Namespace, workers: int) -> list[Pool]:
    specs = [spec for spec in SOURCES if spec.share > 0] if arguments.data else []
    with ThreadPoolExecutor(workers) as threads:
        loaded = list(threads.map(lambda spec: load_source(arguments.data, spec, "train"), specs))
    pools = [
        (Pool.balanced if spec.balance else Pool)(spec, samples) for spec, samples in zip(specs, loaded, strict=True)
    ]
    if arguments.regions is None:
        return pools
    return [
        Pool(pool.spec, add_regions(pool.samples, arguments.regions / pool.spec.name, workers))
        if pool.spec.guess
        else pool
        for pool in pools
    ]


def main() -> None:
    """Run the training that the command line asks for."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    arguments = _arguments()
    _on_stopping(_end)
    cv2.setNumThreads(0)
    deadline = None if arguments.minutes is None else time.time() + 60 * arguments.minutes
    stream_config = _stream_config(arguments)
    trainers = _trainers(arguments, stream_config)
    trainer = trainers[0]
    workers = max(trainer.config.workers, 2)
    pools = _pools(arguments, workers)
    objects = cutouts(sample for pool in pools if pool.spec.paste for sample in pool.samples)
    scenes = load_scene_bank(
        arguments.scenes or arguments.run / "scenes",
        arguments.scene_count,
        arguments.first_scene,
        workers,
        arguments.scene_kinds.split(",") if arguments.scene_kinds else (),
    )
    if not scenes and not any(sample.layers.any() for pool in pools for sample in pool.samples):
        raise AnnotationError("There is nothing to train on", expected="an annotated image or a generated scene")
    LOGGER.info("%d images, %d objects, %d scenes", sum(len(p.samples) for p in pools), len(objects), len(scenes))
    stream = BatchStream(pools, scenes, objects, stream_config, trainer.config.processes)

    def stop(number: int, frame: FrameType | None) -> None:
        trainer.stopping = True  # after this step, with a checkpoint; the helper ends with the trainer
        signal.signal(number, signal.SIG_DFL)

    _on_stopping(stop)
    fit(trainers, stream, arguments.steps, deadline)
