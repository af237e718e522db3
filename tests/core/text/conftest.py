"""A tiny encoder of random weights, in the form open_clip saves models."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest

from fastsam_core.masks import Masks
from fastsam_core.text import TextEncoder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

MODEL_CONFIG: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"layers": 1, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 32},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


SaveEncoder: TypeAlias = "Callable[..., Path]"


@pytest.fixture(scope="session")
def save_encoder() -> SaveEncoder:
    """Return what writes an encoder of random weights to a folder."""
    return _save_encoder


def _save_encoder(folder: Path, fastsam: dict[str, Any] | None = None, **model_config: Any) -> Path:
    """Write an encoder of random weights to a folder."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    config = {**MODEL_CONFIG, **model_config}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = open_clip.CLIP(**config)
    folder.mkdir(parents=True, exist_ok=True)
    written = {"model_cfg": config, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    if fastsam is not None:
        written["fastsam"] = fastsam
    (folder / "open_clip_config.json").write_text(json.dumps(written))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _save_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="session")
def encoder(encoder_folder: Path) -> TextEncoder:
    return TextEncoder.load(encoder_folder, device="cpu")


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 255, (48, 64, 3), np.uint8)


@pytest.fixture
def masks() -> Masks:
    """Five masks: three boxes, one pixel in the corner, and one without a pixel."""
    dense = np.zeros((5, 48, 64), bool)
    dense[0, 4:20, 5:30] = True
    dense[1, 30:44, 40:60] = True
    dense[2, 10:14, 10:50] = True
    dense[3, 47, 63] = True
    return Masks.from_dense(dense)
