"""Small datasets, and a model whose network finds the same known masks in every image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from fastsam_core.checkpoints import ModelInfo
from fastsam_core.model import FastSAM
from fastsam_core.testing import synthetic_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    from fastsam_core.masks import Masks

IMAGE_HW = (96, 128)
MASKS = 6


class FakeNetwork:
    """Gives the same head for every image and counts how often it ran."""

    def __init__(self) -> None:
        self.head = synthetic_head(MASKS, IMAGE_HW, 128, seed=3)
        self.calls = 0

    def forward(self, batch_bhwc: npt.NDArray[np.uint8]) -> tuple[Any, Any]:
        import torch

        self.calls += 1
        shape = (len(batch_bhwc), -1, -1)
        output, prototypes = torch.from_numpy(self.head.output), torch.from_numpy(self.head.prototypes)
        return output.expand(*shape).clone(), prototypes.expand(*shape, -1)


@pytest.fixture
def network() -> FakeNetwork:
    return FakeNetwork()


@pytest.fixture
def model(network: FakeNetwork) -> FastSAM:
    return FastSAM(network, ModelInfo(name="fake", imgsz=128, conf=0.4, iou=0.9))


@pytest.fixture(scope="session")
def image_paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return six images of the size that the model knows."""
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / f"{i}.png" for i in range(6)]
    for i, path in enumerate(paths):
        Image.new("RGB", IMAGE_HW[::-1], (40 * i, 90, 200 - 30 * i)).save(path)
    return paths


@pytest.fixture(scope="session")
def known_masks(image_paths: list[Path]) -> Masks:
    """Return what the model finds in each of the images."""
    return FastSAM(FakeNetwork(), ModelInfo(name="fake", imgsz=128, conf=0.4, iou=0.9)).segment(image_paths[0])


@pytest.fixture
def make_dataset(image_paths: list[Path]) -> Iterator[Callable[..., Any]]:
    """Return a function that makes a persistent dataset of the images, deleted after the test."""
    import fiftyone as fo  # not above: this file is read before the database runs

    made = []

    def make(count: int = 3, paths: list[Path] | None = None) -> Any:
        dataset = fo.Dataset(persistent=True)
        made.append(dataset)
        chosen = image_paths[:count] if paths is None else paths
        dataset.add_samples([fo.Sample(filepath=str(path)) for path in chosen], progress=False)
        return dataset

    yield make
    for dataset in made:
        dataset.delete()


@pytest.fixture
def dataset(make_dataset: Callable[..., Any]) -> Any:
    return make_dataset()


def write_video(path: Path, frames: int) -> Path:
    """Write a video of frames of 128 x 96 px, each of another gray."""
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (128, 96))
    for i in range(frames):
        writer.write(np.full((96, 128, 3), 40 * i % 256, np.uint8))
    writer.release()
    return path
