"""A network that finds bright rectangles, and folders of images that hold some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastsam_core.checkpoints import ModelInfo
from fastsam_core.model import FastSAM

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SIDE = 96
SQUARES = ((8, 8, 40, 40), (48, 8, 88, 48), (16, 56, 40, 80))  # x0, y0, x1, y1


class BlobNetwork:
    """Finds each bright blob; larger ones have higher scores (0.5 to 0.9)."""

    def forward(self, batch_bhwc: NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        from skimage.measure import label, regionprops

        count, height, width, _ = batch_bhwc.shape
        raw = np.zeros((count, 37, 50), np.float32)
        bright = (batch_bhwc[..., 0] > 150).astype(np.float32)
        prototypes = np.zeros((count, 32, height // 4, width // 4), np.float32)
        prototypes[:, 0] = bright.reshape(count, height // 4, 4, width // 4, 4).mean((2, 4)) - 0.5
        for index in range(count):
            for column, region in enumerate(regionprops(label(bright[index] > 0))):
                y0, x0, y1, x1 = region.bbox
                raw[index, :4, column] = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
                raw[index, 4, column] = 0.5 + 0.4 * min(region.area / 2000, 1)
                raw[index, 5, column] = 16
        return torch.from_numpy(raw), torch.from_numpy(prototypes)


@pytest.fixture
def model() -> FastSAM:
    return FastSAM(BlobNetwork(), ModelInfo(name="blobs", imgsz=SIDE))


@pytest.fixture
def loaded(model: FastSAM, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replace the loading of models; returns what was asked for."""
    asked: list[dict[str, Any]] = []

    def load(name: str, **options: Any) -> FastSAM:
        asked.append({"name": name, **options})
        return model

    monkeypatch.setattr(FastSAM, "load", load)
    return asked


def label_map(squares: tuple[tuple[int, int, int, int], ...]) -> NDArray[np.uint16]:
    labels = np.zeros((SIDE, SIDE), np.uint16)
    for number, (x0, y0, x1, y1) in enumerate(squares, start=1):
        labels[y0:y1, x0:x1] = number
    return labels


@pytest.fixture
def label_folder(tmp_path: Path) -> Path:
    """Three images: all objects annotated, one bright object that is not, and an image of nothing."""
    folder = tmp_path / "cells"
    for name, bright, annotated in (("a", SQUARES, SQUARES), ("b", SQUARES, SQUARES[:2]), ("c", (), ())):
        save(folder / "images" / f"{name}.png", np.where(label_map(bright)[..., None] > 0, 220, 30).repeat(3, axis=2))
        save(folder / "masks" / f"{name}.png", label_map(annotated))
    return folder


def save(path: Path, array: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8) if array.ndim == 3 else array).save(path)
