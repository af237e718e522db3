"""Regions that nobody annotated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastsam_core.training.regions import add_regions, stable_regions
from fastsam_core.training.sources import LabelledImage

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

RECTANGLES_XYXY = ((20, 20, 70, 60), (100, 30, 180, 100))
COLOURS = ((200, 40, 40), (60, 90, 220))


def picture() -> NDArray[np.uint8]:
    """Two rectangles on noise too faint to be anything."""
    image = np.random.default_rng(0).normal(120, 3, (120, 200, 3))
    for (x0, y0, x1, y1), colour in zip(RECTANGLES_XYXY, COLOURS, strict=True):
        image[y0:y1, x0:x1] += np.array(colour) - 120
    return image.clip(0, 255).astype(np.uint8)


def rectangle(number: int) -> NDArray[np.bool_]:
    inside = np.zeros((120, 200), bool)
    x0, y0, x1, y1 = RECTANGLES_XYXY[number]
    inside[y0:y1, x0:x1] = True
    return inside


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float((first & second).sum() / (first | second).sum())


def test_what_stands_out_is_found() -> None:
    found = stable_regions(picture())
    for number in range(2):
        assert max(iou(region, rectangle(number)) for region in found) > 0.9
    assert all(0.0015 <= region.mean() <= 0.6 for region in found)


def test_noise_holds_nothing() -> None:
    noise = np.random.default_rng(0).normal(120, 3, (120, 200, 3)).astype(np.uint8)
    assert stable_regions(noise) == []


def test_annotated_regions_are_not_added_again(tmp_path: Path) -> None:
    layers = np.zeros((1, 120, 200), np.uint16)
    layers[0][rectangle(0)] = 5
    plain = LabelledImage(picture(), layers, np.zeros((120, 200), np.uint8), "generated", "a")
    [more] = add_regions([plain], tmp_path, workers=1)
    assert more.guessed == len(more.layers) - 1 > 0
    np.testing.assert_array_equal(more.annotated, layers)
    added = [more.layers[1:] == number for number in np.unique(more.layers[1:])[1:]]
    assert min(np.unique(more.layers[1:])[1:]) > 5
    assert max(iou(region.any(0), rectangle(1)) for region in added) > 0.9
    assert max(iou(region.any(0), rectangle(0)) for region in added) < 0.5
    np.savez(tmp_path / "a.npz", layers=np.zeros((1, 120, 200), np.uint16))
    [again] = add_regions([plain], tmp_path, workers=1)
    assert again.guessed == 0  # what the folder keeps is not looked for again
