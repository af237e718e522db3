"""Annotated images for the tests of training, drawn by the scene generator."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from fastsam_core.masks import Masks
from fastsam_core.training.datasets import convert
from fastsam_core.training.scenes import generate_scene

if TYPE_CHECKING:
    from pathlib import Path


def write_pairs(folder: Path, count: int, side_px: int, kind: str = "objects") -> Path:
    """Write images with annotations as in SA-1B."""
    folder.mkdir(parents=True)
    for seed in range(count):
        scene = generate_scene(seed, (side_px, side_px), kind)
        Image.fromarray(scene.image).save(folder / f"sa_{seed}.png")
        document = {
            "image": {"height": side_px, "width": side_px},
            "annotations": Masks.from_dense(scene.masks).to_coco(),
        }
        (folder / f"sa_{seed}.json").write_text(json.dumps(document))
    return folder


def write_label_maps(folder: Path, count: int, side_px: int, kind: str = "nuclei") -> Path:
    """Write images with label maps, as napari saves them."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for seed in range(count):
        scene = generate_scene(seed, (side_px, side_px), kind)
        Image.fromarray(scene.image).save(folder / "images" / f"cells{seed}.png")
        Image.fromarray(scene.labels.astype(np.uint16)).save(folder / "masks" / f"cells{seed}.png")
    return folder


def convert_pairs(source: Path, out: Path, **options: object) -> Path:
    """Convert pairs into a data set."""
    values = {"kind": "sa1b", "name": "scenes", "licence": "CC0-1.0", "val_share": 0.4, **options}
    for _ in convert(source, out, **values):  # type: ignore[arg-type]
        pass
    return out
