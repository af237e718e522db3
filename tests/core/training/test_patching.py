"""Patches in photographs: what is labelled has changed, and what was annotated stays unless something covers it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fastsam_core.training import patching
from fastsam_core.training.batches import BatchStream, Pool, StreamConfig, collate
from fastsam_core.training.patching import patch
from fastsam_core.training.sources import LabelledImage, SourceSpec
from fastsam_core.training.sprinkling import sprinkle

if TYPE_CHECKING:
    import pytest

SIDE = 160


def photograph(light: int = 150, guessed: int = 0) -> LabelledImage:
    """Return a noisy picture with one annotated region, and perhaps a guessed one beside it."""
    rng = np.random.default_rng(1)
    image = np.clip(light + rng.normal(0, 4, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
    layers = np.zeros((1 + guessed, SIDE, SIDE), np.uint16)
    layers[0, 40:120, 40:120] = 7
    if guessed:
        layers[1, 130:150, 10:60] = 8
    return LabelledImage(image, layers, np.full((SIDE, SIDE), 255, np.uint8), "photographs", "a", guessed)


def texture() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 255, (90, 300, 3), dtype=np.uint8)


@given(seed=st.integers(0, 10_000))
def test_pixels_change_where_the_labels_say(seed: int) -> None:
    view, before = photograph(), photograph()
    patch(view, texture(), np.random.default_rng(seed))
    if not view.guessed:
        np.testing.assert_array_equal(view.image, before.image)
        np.testing.assert_array_equal(view.layers, before.layers)
        return
    change = np.abs(view.image.astype(int) - before.image).mean(axis=2)
    drawn = view.layers[-1]
    assert len(view.layers) == len(before.layers) + 1
    assert drawn[drawn > 0].min() > view.layers[:-1].max()
    # soft rims of up to three pixels of spread fall on either side of an outline
    assert change[drawn > 0].mean() > 4 * change[drawn == 0].mean()


@given(seed=st.integers(0, 10_000))
def test_annotations_are_lost_only_below_large_coverings(seed: int) -> None:
    view, before = photograph(), photograph()
    patch(view, texture(), np.random.default_rng(seed))
    lost = (before.layers[0] > 0) & (view.layers[0] == 0)
    assert not lost.any() or (view.layers[-1][lost] > 0).all()
    if lost.any():
        covering = np.bincount(view.layers[-1].ravel())[np.unique(view.layers[-1][lost])]
        assert (covering >= 0.03 * SIDE**2).all()
    np.testing.assert_array_equal(view.layers[0][~lost], before.layers[0][~lost])


def test_marks_hide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patching, "_COVERINGS", 0.0)
    for seed in range(20):
        view, before = photograph(), photograph()
        patch(view, texture(), np.random.default_rng(seed))
        np.testing.assert_array_equal(view.layers[0], before.layers[0])


def test_patches_make_no_background_of_what_they_show() -> None:
    view = photograph()
    view.weight[:] = 0
    patch(view, texture(), np.random.default_rng(4))
    batch = collate([view], 100, np.random.default_rng(0))
    assert len(batch["bboxes"]) == len(np.unique(view.layers)) - 1 > 1
    annotated = np.asarray(view.annotated.max(axis=0))[2::4, 2::4] > 0
    np.testing.assert_array_equal(batch["weight"][0].numpy() > 0, annotated)


def test_nuclei_drawn_in_are_annotated_and_guesses_stay_guesses() -> None:
    view = photograph(190, guessed=1)
    sprinkle(view, np.random.default_rng(3))
    assert len(view.layers) == 3
    assert (view.layers[-1] == 8).any()
    assert set(np.unique(view.annotated)) >= {7, 9}
    assert not (view.annotated == 8).any()


def test_a_stream_draws_patches_where_it_is_asked_to() -> None:
    spec = SourceSpec("photographs", 1.0, 0.5, "photo")
    pools = [Pool(spec, [photograph()])]
    config = StreamConfig(sizes=(64,), mosaic_share=0.0, stain_share=0.0, paste_share=0.0)
    plain = BatchStream(pools, [], [], config)
    patched = BatchStream(pools, [], [], replace(config, patch_share=1.0))
    views = [stream.sample(np.random.default_rng(5), 64) for stream in (plain, patched)]
    assert [view.guessed for view in views] == [0, 1]
    assert len(views[0].layers) == 1
