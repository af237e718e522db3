"""Turn a training checkpoint into the weights file that ships: ``python -m fastsam_core.training.export``."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fastsam_core.training.checkpoint import load_checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

LOGGER = logging.getLogger("fastsam_core.training.export")
LICENCE = "AGPL-3.0-only"


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
    from safetensors.torch import save_file

    state = load_checkpoint(checkpoint)
    weights = {
        name: value.to(torch.float16).contiguous(memory_format=torch.contiguous_format)
        for name, value in state["ema"].items()
        if value.is_floating_point()
    }
    metadata = {
        "format": "fastsam-plugins/1",
        "architecture": state["config"]["architecture"],
        "nc": "1",
        "reg_max": "16",
        "nm": "32",
        "licence": LICENCE,
        "train_seconds": str(round(state["train_seconds"])),
        "train_steps": str(state["step"]),
        "train_images": str(state["images"]),
        **details,
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.tmp")
    try:
        save_file(weights, temporary, metadata)
        temporary.chmod(0o644)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


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
