"""Nuclei drawn into photographs: they take light away where their labels are, and nothing else changes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fastsam_core.training.sources import LabelledImage
from fastsam_core.training.sprinkling import sprinkle


def photograph(light: int, side: int = 160) -> LabelledImage:
    """Return a noisy picture whose left third is black, with one annotated region."""
    rng = np.random.default_rng(1)
    image = np.clip(light + rng.normal(0, 10, (side, side, 3)), 0, 255).astype(np.uint8)
    image[:, : side // 3] = 5
    labels = np.zeros((1, side, side), np.uint16)
    labels[0, 40:120, 40:120] = 7
    return LabelledImage(image, labels, np.full((side, side), 255, np.uint8), "photographs", "a")


@given(seed=st.integers(0, 10_000))
def test_light_is_lost_where_the_labels_say(seed: int) -> None:
    view, before = photograph(190), photograph(190)
    sprinkle(view, np.random.default_rng(seed))
    assert (view.image <= before.image).all()
    np.testing.assert_array_equal(view.layers[0], before.layers[0])
    drawn = view.layers[1:].any(axis=0)
    lost = before.image.astype(int).sum(2) - view.image.astype(int).sum(2)
    # soft rims fall on either side, and the black third shows nothing
    assert (lost[drawn & (before.image[..., 0] > 50)] > 0).all()
    assert (lost[~drawn & (before.image[..., 0] > 50)] > 30).mean() < 0.1


def test_nuclei_are_instances_of_their_own() -> None:
    view = photograph(190)
    sprinkle(view, np.random.default_rng(3))
    numbers = np.unique(view.layers[1])
    assert len(numbers) > 3
    assert numbers[1:].min() > 7


def test_a_dark_picture_stays_as_it_is() -> None:
    view, before = photograph(40), photograph(40)
    sprinkle(view, np.random.default_rng(0))
    np.testing.assert_array_equal(view.image, before.image)
    assert view.layers.shape == before.layers.shape
