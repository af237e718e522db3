"""Small annotated images of several kinds on disk, and their conversion."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from fastsam_core._generators import outcome
from fastsam_core.masks import Masks
from fastsam_core.training.datasets import convert

if TYPE_CHECKING:
    from pathlib import Path

    from fastsam_core.training.datasets import SourceEntry

HW = (48, 64)


def scene_masks() -> Masks:
    """Return a whole with a part inside, a ring, and one that overlaps the whole."""
    stack = np.zeros((4, *HW), bool)
    stack[0, 4:36, 4:36] = True
    stack[1, 10:18, 10:18] = True
    stack[2, 4:20, 42:60] = True
    stack[2, 9:15, 47:55] = False
    stack[3, 30:44, 30:52] = True
    return Masks.from_dense(stack)


def jpeg(seed: int = 0, hw: tuple[int, int] = HW) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*hw, 3), np.uint8)).save(out, "JPEG")
    return out.getvalue()


def sa1b_json(masks: Masks) -> bytes:
    height, width = masks.image_hw
    return json.dumps({"image": {"height": height, "width": width}, "annotations": masks.to_coco()}).encode()


def write_sa1b(folder: Path, count: int = 6) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"sa_{number}.jpg").write_bytes(jpeg(number))
        (folder / f"sa_{number}.json").write_bytes(sa1b_json(scene_masks()))
    return folder


def write_labels(folder: Path, count: int = 4) -> Path:
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    labels = scene_masks()[[0, 2]].to_label_map()
    for number in range(count):
        (folder / "images" / f"a{number}.jpg").write_bytes(jpeg(number))
        Image.fromarray(labels.astype(np.uint16)).save(folder / "masks" / f"a{number}.png")
    return folder


def run(source: Path, out: Path, kind: str, **options: Any) -> SourceEntry:
    return outcome(convert(source, out, kind=kind, name=options.pop("name", "one"), licence="CC0-1.0", **options))
