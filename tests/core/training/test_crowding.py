"""Cells copied beside others: labels and pixels stay together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.draw import disk

from fastsam_core.training.batches import Pool
from fastsam_core.training.crowding import crowd
from fastsam_core.training.photometric import is_coloured
from fastsam_core.training.sources import LabelledImage, SourceSpec
from fastsam_core.training.stains import restain

GROUND = {"bright": 20, "dark": 230}
TONE = {"bright": 200, "dark": 60}


def cells(polarity: str, count: int = 4, side: int = 128) -> LabelledImage:
    """Discs in a row, far apart."""
    image = np.full((side, side, 3), GROUND[polarity], np.uint8)
    labels = np.zeros((1, side, side), np.uint16)
    for number in range(count):
        rows, columns = disk((20 + 28 * number, 40), 8)
        image[rows, columns] = TONE[polarity]
        labels[0, rows, columns] = number + 1
    return LabelledImage(image, labels, np.full((side, side), 255, np.uint8), "cells", "a")


@given(seed=st.integers(0, 10_000), polarity=st.sampled_from(["bright", "dark"]))
def test_copies_look_like_what_their_labels_say(seed: int, polarity: str) -> None:
    view = cells(polarity)
    crowd(view, np.random.default_rng(seed), 6)
    level = view.image.mean(-1)
    middle = (GROUND[polarity] + TONE[polarity]) / 2
    thing = level > middle if polarity == "bright" else level < middle
    labelled = view.layers[0] > 0
    # the soft rim of a copy may fall on either side of the middle
    assert (thing & labelled).sum() >= 0.85 * labelled.sum()
    assert (thing & ~labelled).sum() <= 0.2 * labelled.sum()


def test_copies_touch_and_are_instances_of_their_own() -> None:
    view = cells("bright")
    before = view.layers.copy()
    crowd(view, np.random.default_rng(3), 6)
    numbers = np.unique(view.layers)
    assert len(numbers) > 5
    padded = np.pad(view.layers[0], 2)
    height, width = view.layers[0].shape
    shifts = [padded[dy : dy + height, dx : dx + width] for dy in (0, 2, 4) for dx in (0, 2, 4)]
    for number in numbers[numbers > 4]:
        near = {int(n) for shift in shifts for n in np.unique(shift[view.layers[0] == number])} - {0, int(number)}
        assert near, f"copy {number} touches nothing"
    assert (view.layers[before > 0] > 0).all()


def test_a_single_cell_and_cells_at_padding_are_not_copied() -> None:
    alone = cells("bright", count=1)
    crowd(alone, np.random.default_rng(0), 6)
    assert set(np.unique(alone.layers)) == {0, 1}
    cut = cells("bright")
    cut.image[:, 40:] = 114
    cut.layers[:, :, 40:] = 0
    crowd(cut, np.random.default_rng(0), 6)
    assert set(np.unique(cut.layers)) == {0, 1, 2, 3, 4}


def stained() -> np.ndarray:
    """Purple discs on pale pink."""
    image = np.full((96, 96, 3), (225, 205, 230), np.uint8)
    for number in range(3):
        image[disk((20 + 28 * number, 40), 9)] = (90, 50, 150)
    return image


@pytest.mark.parametrize("seed", range(12))
def test_restained_nuclei_stay_darker_than_the_ground(seed: int) -> None:
    image = stained()
    nuclei = image[..., 0] == 90
    found = restain(image, np.random.default_rng(seed))
    assert found.shape == image.shape
    assert found.dtype == np.uint8
    assert is_coloured(found)
    assert found[nuclei].mean() < found[~nuclei].mean() - 15


def test_gray_pictures_have_no_stain() -> None:
    assert not is_coloured(cells("bright").image)
    assert is_coloured(stained())


def test_rare_kinds_are_drawn_more_often_than_they_occur() -> None:
    common = [cells("bright") for _ in range(16)]
    rare = LabelledImage(stained(), np.zeros((1, 96, 96), np.uint16), np.zeros((96, 96), np.uint8), "cells", "b")
    pool = Pool.balanced(SourceSpec("cells", 1.0, 1.0, "micro", balance=True), [*common, rare])
    rng = np.random.default_rng(0)
    drawn = [pool.draw(rng) is rare for _ in range(2000)]
    assert np.mean(drawn) == pytest.approx(1 / 5, abs=0.04)
