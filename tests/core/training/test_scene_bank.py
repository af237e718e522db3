"""The bank of generated scenes on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastsam_core.training.scene_bank import load_scene_bank
from fastsam_core.training.scenes import generate_scene

if TYPE_CHECKING:
    from pathlib import Path


def test_bank_starts_at_its_first_seed_and_is_drawn_once(tmp_path: Path) -> None:
    bank = load_scene_bank(tmp_path, 2, first_seed=5, workers=1)
    drawn = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = load_scene_bank(tmp_path, 2, first_seed=5, workers=1)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == drawn
    for seed, scene, reread in zip((5, 6), bank, again, strict=True):
        size_hw = (scene.image.shape[0], scene.image.shape[1])
        expected = generate_scene(seed, size_hw)
        assert np.array_equal(scene.image, expected.image)
        assert np.array_equal(scene.layers, expected.layers)
        assert np.array_equal(reread.layers, scene.layers)
        assert (scene.weight == 255).all()


def test_bank_of_chosen_kinds_takes_them_in_turn(tmp_path: Path) -> None:
    bank = load_scene_bank(tmp_path, 6, first_seed=3, workers=1, kinds=("specks", "nuclei"))
    for seed, scene, kind in zip(range(3, 9), bank, ["nuclei"] * 3 + ["specks"] * 3, strict=True):
        side = len(scene.image)
        assert np.array_equal(scene.image, generate_scene(seed, (side, side), kind).image)
    assert {len(scene.image) for scene in bank[:3]} == {len(scene.image) for scene in bank[3:]} == {384, 512, 640}
