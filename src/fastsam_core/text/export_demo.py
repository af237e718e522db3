"""Write the demonstration encoder that ships: ``python -m fastsam_core.text.export_demo CHECKPOINT FOLDER``.

The folder is one that open_clip loads as ``local-dir:FOLDER``. Rows of the token table that no known word uses are
zero, so that the file compresses well.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import open_clip
import torch

from fastsam_core._files import atomic_path
from fastsam_core.text import encoders
from fastsam_core.text.demo_words import FILLERS, GENERIC_NEGATIVES, RIVALS, TEMPLATES, known_words
from fastsam_core.text.train_demo import MODEL_CONFIG, PREPROCESS_CONFIG
from fastsam_core.training.checkpoint import load_checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["export_demo"]

_LOGGER = logging.getLogger("fastsam_core.text.export_demo")
_TEMPLATES: Final = ("{}", "a {}", "a photo of a {}")
_LICENCE: Final = "AGPL-3.0-only"


def export_demo(checkpoint: Path, folder: Path, calibration: Mapping[str, float]) -> Path:
    """Write configuration and averaged weights (fp16) of a run.

    Parameters
    ----------
    checkpoint : Path
        Written by `DemoTrainer.save`.
    folder : Path
        Where to; its files are replaced.
    calibration : mapping
        ``slope``, ``offset`` and ``threshold``, see `EncoderTraits`.

    Returns
    -------
    Path
        The weights file.
    """
    from safetensors.torch import save_file

    state = load_checkpoint(checkpoint)
    weights = {
        name: value.half().contiguous() if value.is_floating_point() else value.contiguous()
        for name, value in state["ema"].items()
    }
    unused = torch.ones(len(weights["token_embedding.weight"]), dtype=torch.bool)
    unused[_used_tokens()] = False
    weights["token_embedding.weight"][unused] = 0
    config: dict[str, Any] = {
        "model_cfg": MODEL_CONFIG,
        "preprocess_cfg": PREPROCESS_CONFIG,
        "fastsam": {
            "vocabulary": known_words(),
            "fillers": FILLERS,
            "negatives": GENERIC_NEGATIVES,
            "rivals": RIVALS,
            "templates": _TEMPLATES,
            **calibration,
            "licence": _LICENCE,
            "train_steps": state["step"],
            "train_seconds": round(state["train_seconds"]),
            "trained_on": "crops of the sources that docs/model-card.md lists, and generated scenes",
        },
    }
    with atomic_path(folder / encoders.CONFIG_FILE) as temporary:
        temporary.write_text(f"{json.dumps(config, indent=2)}\n", encoding="utf-8")
    target = folder / encoders.WEIGHTS_FILE
    with atomic_path(target) as temporary:
        save_file(weights, temporary, {"format": "pt", "licence": _LICENCE, "vocabulary": " ".join(known_words())})
    return target


def _used_tokens() -> list[int]:
    tokenizer = open_clip.SimpleTokenizer(context_length=MODEL_CONFIG["text_cfg"]["context_length"])
    words = [*known_words(), *FILLERS, *(template.format("") for template in TEMPLATES)]
    tokens = {token for word in words for token in tokenizer.encode(word)}
    return sorted({*tokens, 0, tokenizer.sot_token_id, tokenizer.eot_token_id})


def main() -> None:
    """Export with the settings of the command line."""
    logging.basicConfig(format="%(message)s")
    _LOGGER.setLevel(logging.INFO)
    parser = argparse.ArgumentParser(prog="python -m fastsam_core.text.export_demo", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path, nargs="?", default=encoders.demo_folder())
    parser.add_argument("--slope", type=float, default=15.0)
    parser.add_argument("--offset", type=float, default=0.0)
    parser.add_argument("--threshold", type=float, default=0.5)
    arguments = parser.parse_args()
    calibration = {name: getattr(arguments, name) for name in ("slope", "offset", "threshold")}
    path = export_demo(arguments.checkpoint, arguments.folder, calibration)
    _LOGGER.info("%s: %.2f MB", path, path.stat().st_size / 1e6)


if __name__ == "__main__":
    from fastsam_core.cli._console import run_module

    run_module(main)
