"""Masks of a model's own as further targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from skimage.measure import label

from fastsam_core.masks import Masks
from fastsam_core.training.regions import add_regions
from fastsam_core.training.self_training import _write, add_own_masks, agreed_masks
from fastsam_core.training.sources import LabelledImage

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SHAPE = (60, 90)


def rectangle(x0: int, y0: int, x1: int, y1: int) -> NDArray[np.bool_]:
    inside = np.zeros(SHAPE, bool)
    inside[y0:y1, x0:x1] = True
    return inside


LEFT, RIGHT, SMALL = rectangle(5, 5, 25, 40), rectangle(50, 10, 80, 50), rectangle(10, 45, 20, 55)


class Brightness:
    """Stands for a model: finds what is bright, and besides always the same masks."""

    def __init__(self, *always: NDArray[np.bool_], least: int = 100) -> None:
        self.always, self.least = always, least

    def segment(self, rgb8: NDArray[np.uint8]) -> Masks:
        found = [label(rgb8[..., 0] >= self.least) == number for number in range(1, 4)]
        return Masks.from_dense(np.stack([*(mask for mask in found if mask.any()), *self.always]))


def picture() -> NDArray[np.uint8]:
    image = np.zeros((*SHAPE, 3), np.uint8)
    image[LEFT], image[RIGHT], image[SMALL] = 200, 150, 250
    return image


def same(masks: Masks, *wanted: NDArray[np.bool_]) -> bool:
    return {mask.tobytes() for mask in masks.to_dense()} == {mask.tobytes() for mask in wanted}


def test_masks_have_to_be_found_in_every_view() -> None:
    model: Any = Brightness(rectangle(30, 0, 40, 60))
    earlier: Any = Brightness(rectangle(30, 0, 40, 60), least=180)
    agreed = agreed_masks(picture(), model, earlier)
    # the stripe stays where it is in the mirrored image, and the earlier model misses what is at the right
    assert same(agreed, LEFT, SMALL)


def test_what_is_known_is_not_added() -> None:
    layers = np.zeros((2, *SHAPE), np.uint16)
    layers[0][LEFT], layers[1][SMALL] = 7, 9
    sample = LabelledImage(picture(), layers, np.zeros(SHAPE, np.uint8), "generated", "a", guessed=1)
    whole = rectangle(0, 0, 90, 60)
    more = add_own_masks(sample, Masks.from_dense(np.stack([LEFT, RIGHT, SMALL, whole])))
    np.testing.assert_array_equal(more.annotated, layers[:1])
    np.testing.assert_array_equal(more.layers[:2], layers)
    added = [layer == number for layer in more.layers[2:] for number in np.unique(layer[layer > 0])]
    assert same(Masks.from_dense(np.stack(added)), RIGHT, whole)
    assert more.guessed == 1 + len(more.layers) - 2
    numbers = [number for layer in more.layers for number in np.unique(layer[layer > 0])]
    assert len(numbers) == len(set(numbers))
    assert add_own_masks(sample, Masks.empty(SHAPE)) is sample


def test_training_reads_them_as_regions(tmp_path: Path) -> None:
    layers = np.zeros((1, *SHAPE), np.uint16)
    layers[0][LEFT] = 3
    sample = LabelledImage(picture(), layers, np.zeros(SHAPE, np.uint8), "generated", "a")
    more = add_own_masks(sample, Masks.from_dense(np.stack([LEFT, RIGHT, SMALL])))
    _write(more, tmp_path / "a.npz")
    [read] = add_regions([sample], tmp_path, workers=1)
    np.testing.assert_array_equal(read.layers > 0, more.layers > 0)
    assert read.guessed == more.guessed == 1
