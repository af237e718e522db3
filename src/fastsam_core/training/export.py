"""Turn a training checkpoint into the weights file that ships: ``python -m fastsam_core.training.export``."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fastsam_core._files import atomic_path
from fastsam_core.checkpoints import FORMAT
from fastsam_core.errors import OutputError
from fastsam_core.training.checkpoint import load_checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

LOGGER = logging.getLogger("fastsam_core.training.export")
LICENCE = "AGPL-3.0-only"


def write_weights(weights: Mapping[str, torch.Tensor], target: Path, facts: Mapping[str, str]) -> Path:
    """Write a one-class network as fp16 safetensors that `fastsam_core.FastSAM.load` reads.

    Parameters
    ----------
    weights : mapping of str to Tensor
        State of an Ultralytics segmentation network.
    target : Path
        ``.safetensors`` file to write; replaced at once, never half-written.
    facts : mapping of str to str
        Metadata: ``architecture``, and where they differ from the defaults ``reg_max``, ``imgsz``, ``conf``, ``iou``, …

    Returns
    -------
    Path
        ``target``.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    halves = {
        name: value.to(torch.float16).contiguous(memory_format=torch.contiguous_format)
        for name, value in weights.items()
        if value.is_floating_point()
    }
    metadata = {"format": FORMAT, "nc": "1", "reg_max": "16", "nm": "32", "licence": LICENCE, **facts}
    try:
        with atomic_path(target) as temporary:
            save_file(halves, temporary, metadata)
    except SafetensorError as error:
        raise OutputError(f"Cannot write {target}", actual=str(error), remedy="check the free space") from error
    return target


def export_weights(checkpoint: Path, target: Path, details: Mapping[str, str]) -> Path:
    """Write the averaged weights of a checkpoint as fp16 safetensors.

    Parameters
    ----------
    checkpoint : Path
        Written by `Trainer.save`.
    target : Path
        ``.safetensors`` file to write; replaced at once, never half-written.
    details : mapping of str to str
        Metadata beside those of the format: ``imgsz``, ``conf``, ``iou``, ``commit``, ...

    Returns
    -------
    Path
        ``target``.
    """
    state = load_checkpoint(checkpoint)
    facts = {
        "architecture": state["config"]["architecture"],
        "reg_max": str(state["config"].get("reg_max", 16)),
        "train_seconds": str(round(state["train_seconds"])),
        "train_steps": str(state["step"]),
        "train_images": str(state["images"]),
    }
    return write_weights(state["ema"], target, {**facts, **details})


def main() -> None:
    """Export with the settings of the command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m fastsam_core.training.export", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--imgsz", default="640", help="recommended long side of the network input")
    parser.add_argument("--conf", default="0.25", help="recommended score threshold")
    parser.add_argument("--iou", default="0.7", help="recommended overlap above which boxes are duplicates")
    parser.add_argument("--trained-on", default="see docs/model-card.md")
    parser.add_argument("--commit", default="unknown", help="commit of the training code")
    arguments = parser.parse_args()
    details = {name: str(getattr(arguments, name)) for name in ("imgsz", "conf", "iou", "trained_on", "commit")}
    path = export_weights(arguments.checkpoint, arguments.target, details)
    LOGGER.info("%s: %.2f MB", path, path.stat().st_size / 1e6)


if __name__ == "__main__":
    main()
