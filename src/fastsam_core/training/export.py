"""Turn a training checkpoint into the weights file that ships: ``python -m fastsam_core.training.export``."""

from __future__ import annotations

import argparse
import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from fastsam_core._checks import as_number
from fastsam_core._files import atomic_path
from fastsam_core.checkpoints import FORMAT, NUMBERS
from fastsam_core.checkpoints import load_checkpoint as load_weights
from fastsam_core.errors import CheckpointError, InvalidParameterError, OutputError
from fastsam_core.training.checkpoint import load_checkpoint
from fastsam_core.training.loss import learnt_masks

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

_HELP: Final[Mapping[str, str]] = {
    "conf": "recommended score threshold",
    "iou": "recommended overlap above which boxes are duplicates",
    "mask_threshold": "probability at which masks are cut (default: as the loss wants it)",
    "mask_margin": "how far boxes may grow to hold their masks (default: as it was learnt)",
    "cut_penalty": "what masks lose of their scores that their boxes cut off (0: nothing)",
    "least_part": "parts of a mask below this share of its largest are left out (0: none)",
    "threshold_share": "cut each mask at this part of its own best threshold (0: all alike)",
    "overlap_penalty": "what masks lose of their scores that overlap surer ones (0: nothing)",
}
"""What the options for facts that are numbers say."""


def write_weights(weights: Mapping[str, torch.Tensor], target: Path, facts: Mapping[str, str]) -> Path:
    """Write a one-class network as fp16 safetensors that `fastsam_core.FastSAM.load` reads.

    Parameters
    ----------
    weights : mapping of str to Tensor
        State of an Ultralytics segmentation network.
    target : Path
        ``.safetensors`` file to write; replaced at once, never half-written.
    facts : mapping of str to str
        Metadata: ``architecture``, and where they differ from the defaults ``reg_max``, ``imgsz``, ``adaptive`` ("1"),
        ``conf``, ``iou``, ``mask_threshold``, ``mask_margin``, ``cut_penalty``, ``least_part``, ``threshold_share``,
        ``overlap_penalty``, …

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


def export_weights(
    checkpoint: Path,
    target: Path,
    details: Mapping[str, str],
    blend: str | Path | None = None,
    blend_share: float = 0.3,
) -> Path:
    """Write the averaged weights of a checkpoint as fp16 safetensors.

    Parameters
    ----------
    checkpoint : Path
        Written by `Trainer.save`.
    target : Path
        ``.safetensors`` file to write; replaced at once, never half-written.
    details : mapping of str to str
        Metadata beside those of the format: ``imgsz``, ``conf``, ``iou``, ``commit``, ...
    blend : str or Path, optional
        Model, weights file or checkpoint of an earlier stage of the same training to average the weights with: what a
        stage gained and what it lost then both count in part (model soups, arXiv 2203.05482).
    blend_share : float
        Its share of the average, in [0, 1].

    Returns
    -------
    Path
        ``target``.

    Raises
    ------
    CheckpointError
        If a file cannot be read, or the two are of different networks.
    InvalidParameterError
        If ``blend_share`` is out of range.
    """
    state = load_checkpoint(checkpoint)
    weights = state["ema"]
    if blend is not None:
        weights = average(weights, stage_weights(blend), blend_share)
    threshold, margin = learnt_masks(state["config"])
    facts = {
        "mask_threshold": f"{threshold:.3g}",
        "mask_margin": f"{margin:g}",
        "dice_weight": f"{state['config'].get('dice_weight', 0):g}",
        "score_masks": str(int(state["config"].get("score_masks", False))),
        "architecture": state["config"]["architecture"],
        "reg_max": str(state["config"].get("reg_max", 16)),
        "train_seconds": str(round(state["train_seconds"])),
        "train_steps": str(state["step"]),
        "train_images": str(state["images"]),
    }
    return write_weights(weights, target, {**facts, **details})


def stage_weights(stage: str | Path) -> dict[str, torch.Tensor]:
    """Return what a stage of training ended with: a checkpoint's averaged weights, or those of a model.

    Raises
    ------
    CheckpointError
        If the file cannot be read.
    UnknownModelError
        If it is neither a file nor a model's name.
    """
    if Path(stage).suffix != ".pt":
        return load_weights(stage).module.state_dict()
    averaged: dict[str, torch.Tensor] = load_checkpoint(Path(stage))["ema"]
    return averaged


def average(
    later: Mapping[str, torch.Tensor], earlier: Mapping[str, torch.Tensor], share: float
) -> dict[str, torch.Tensor]:
    """Average the weights of two stages of a training, ``share`` of the earlier one.

    Raises
    ------
    CheckpointError
        If they are of different networks.
    InvalidParameterError
        If ``share`` is not in [0, 1].
    """
    share = as_number("The share", share, 0, 1)
    shapes = [{name: value.shape for name, value in weights.items()} for weights in (later, earlier)]
    if shapes[0] != shapes[1]:
        raise CheckpointError("Weights of different networks cannot be averaged")
    return {
        name: torch.lerp(value, earlier[name], share) if value.is_floating_point() else value
        for name, value in later.items()
    }


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


def _number(text: str, most: float) -> str:
    """Check what is written into the file as it is given; a file that cannot be loaded would be found out later."""
    try:
        as_number("It", float(text), 0, most)
    except (ValueError, InvalidParameterError) as error:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to {most:g}, got {text!r}") from error
    return text


def _sizes(text: str) -> str:
    if not all(part.isdecimal() and int(part) >= 32 for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"expected 640 or 640,384, got {text!r}")
    return text


def main() -> None:
    """Export a checkpoint, or change the metadata of a weights file."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m fastsam_core.training.export", description=__doc__)
    parser.add_argument("source", type=Path, help="checkpoint (.pt), or weights file (.safetensors)")
    parser.add_argument("target", type=Path)
    parser.add_argument("--imgsz", type=_sizes, help="recommended long side of the network input; several: 384,768")
    parser.add_argument(
        "--adaptive",
        action="store_const",
        const="1",
        help="add a size where the objects found are small, or fill the image",
    )
    for name, most in NUMBERS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=partial(_number, most=most), help=_HELP[name])
    parser.add_argument("--blend", help="model, weights file or checkpoint to average the weights with")
    parser.add_argument("--blend-share", type=float, default=0.3, help="its share of the average")
    parser.add_argument("--trained-on", help="where the data are listed (docs/model-card.md)")
    parser.add_argument("--commit", help="commit of the training code")
    arguments = parser.parse_args()
    names = ("imgsz", "adaptive", *NUMBERS, "trained_on", "commit")
    given = {name: str(getattr(arguments, name)) for name in names if getattr(arguments, name) is not None}
    if arguments.source.suffix == ".safetensors":
        if arguments.blend is not None:
            parser.error(f"--blend wants a checkpoint (.pt) as source, got {arguments.source}")
        path = change_facts(arguments.source, arguments.target, given)
    else:
        blend = arguments.blend, arguments.blend_share
        path = export_weights(arguments.source, arguments.target, {**_DEFAULT_FACTS, **given}, *blend)
    LOGGER.info("%s: %.2f MB", path, path.stat().st_size / 1e6)


if __name__ == "__main__":
    from fastsam_core.cli._console import run_module

    run_module(main)
