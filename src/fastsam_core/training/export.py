"""Turn a training checkpoint into the weights file that ships: ``python -m fastsam_core.training.export``."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fastsam_core._files import atomic_path
from fastsam_core.checkpoints import FORMAT
from fastsam_core.errors import CheckpointError, OutputError
from fastsam_core.training.checkpoint import load_checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

LOGGER = logging.getLogger("fastsam_core.training.export")
LICENCE = "AGPL-3.0-only"
_DEFAULT_FACTS = {
    "imgsz": "640",
    "conf": "0.25",
    "iou": "0.7",
    "trained_on": "see docs/model-card.md",
    "commit": "unknown",
}


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


def change_facts(source: Path, target: Path, facts: Mapping[str, str]) -> Path:
    """Write a weights file again with other metadata, ``conf`` or ``imgsz`` for example; weights stay as they are.

    Raises
    ------
    CheckpointError
        If ``source`` is no weights file of this project.
    OutputError
        If ``target`` cannot be written.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(source), framework="pt") as file:
            known = dict(file.metadata() or {})
            weights = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{source} cannot be read as weights", actual=str(error)) from error
    if known.get("format") != FORMAT:
        raise CheckpointError(f"{source} was not written by this project", expected=f"format {FORMAT}")
    return write_weights(weights, target, {**known, **facts})


def main() -> None:
    """Export a checkpoint, or change the metadata of a weights file."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m fastsam_core.training.export", description=__doc__)
    parser.add_argument("source", type=Path, help="checkpoint (.pt), or weights file (.safetensors)")
    parser.add_argument("target", type=Path)
    parser.add_argument("--imgsz", help="recommended long side of the network input; several: 384,768")
    parser.add_argument("--conf", help="recommended score threshold")
    parser.add_argument("--iou", help="recommended overlap above which boxes are duplicates")
    parser.add_argument("--mask-margin", help="how far masks may reach beyond their boxes, as a part of their sides")
    parser.add_argument("--trained-on", help="where the data are listed (docs/model-card.md)")
    parser.add_argument("--commit", help="commit of the training code")
    arguments = parser.parse_args()
    names = ("imgsz", "conf", "iou", "mask_margin", "trained_on", "commit")
    given = {name: str(getattr(arguments, name)) for name in names if getattr(arguments, name) is not None}
    if arguments.source.suffix == ".safetensors":
        path = change_facts(arguments.source, arguments.target, given)
    else:
        path = export_weights(arguments.source, arguments.target, {**_DEFAULT_FACTS, **given})
    LOGGER.info("%s: %.2f MB", path, path.stat().st_size / 1e6)


if __name__ == "__main__":
    main()
