"""The scene generator: same seed, same scene; masks that are what they claim to be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsam_core.training.canvas import LEAST_AREA_PX
from fastsam_core.training.scenes import KINDS, generate_scene


@given(seed=st.integers(0, 10_000), kind=st.sampled_from(sorted(KINDS)), height=st.integers(48, 96))
@settings(max_examples=30, deadline=None)
def test_masks_are_valid(seed: int, kind: str, height: int) -> None:
    scene = generate_scene(seed, (height, 80), kind)
    assert scene.image.shape == (height, 80, 3)
    assert scene.image.dtype == np.uint8
    assert scene.layers.shape[1:] == (height, 80)
    owners = [set(np.unique(layer).tolist()) - {0} for layer in scene.layers]
    assert sum(map(len, owners)) == len(set.union(*owners)), "an id lives in one layer only"
    assert sorted(set.union(*owners)) == list(range(1, len(scene.ids) + 1))
    areas = np.bincount(scene.layers.ravel())[1:]
    assert (areas >= LEAST_AREA_PX).all()


@given(seed=st.integers(0, 10_000), kind=st.sampled_from(sorted(KINDS)))
@settings(max_examples=20, deadline=None)
def test_parts_lie_in_one_whole(seed: int, kind: str) -> None:
    scene = generate_scene(seed, (96, 96), kind)
    for outer, inner in zip(scene.layers, scene.layers[1:], strict=False):
        for number in np.unique(inner[inner > 0]):
            assert len(np.unique(outer[inner == number])) == 1
            assert (outer[inner == number] > 0).all()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_deterministic_and_not_empty(kind: str) -> None:
    first, again = generate_scene(5, (128, 96), kind), generate_scene(5, (128, 96), kind)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.layers, again.layers)
    assert not np.array_equal(first.image, generate_scene(6, (128, 96), kind).image)
    assert sum(len(generate_scene(seed, (128, 128), kind).ids) for seed in range(4)) >= 4


@pytest.mark.parametrize("seed", range(6))
def test_specks_stand_out(seed: int) -> None:
    scene = generate_scene(seed, (160, 160), "specks")
    gray = scene.image.mean(axis=2)
    ground = gray[scene.labels == 0].mean()
    stand_out = [abs(gray[scene.labels == number].mean() - ground) for number in scene.ids]
    assert np.median(stand_out) > 8, "the instances are where the light is"


def test_masks_stack_follows_ids() -> None:
    scene = generate_scene(3, (96, 96), "droplets")
    assert scene.masks.shape == (len(scene.ids), 96, 96)
    for mask, number in zip(scene.masks, scene.ids, strict=True):
        assert np.array_equal(mask, (scene.layers == number).any(0))
    assert np.array_equal(scene.labels, scene.layers[0])


def test_random_kinds_vary() -> None:
    assert len({generate_scene(seed, (48, 48)).kind for seed in range(30)}) >= 5


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="unknown scene kind 'stars'"):
        generate_scene(0, (64, 64), "stars")
    with pytest.raises(ValueError, match="at least 32"):
        generate_scene(0, (64, 8))
