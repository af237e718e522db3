"""A folder of generated scenes, drawn once and then cropped and augmented like photographs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from fastsam_core._files import atomic_path
from fastsam_core._threads import iter_spawned
from fastsam_core.training.canvas import MAX_DEPTH
from fastsam_core.training.scenes import generate_scene
from fastsam_core.training.sources import FULL_WEIGHT, LabelledImage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SIDES_PX = (384, 512, 640)


def _path(folder: Path, seed: int) -> Path:
    return folder / f"{seed:06d}.png"


def _draw(folder: Path, seed: int, kind: str | None) -> None:
    import cv2

    path = _path(folder, seed)
    cv2.setNumThreads(1)
    side = SIDES_PX[seed % len(SIDES_PX)]
    scene = generate_scene(seed, (side, side), kind)
    layers = np.zeros((MAX_DEPTH, side, side), np.uint16)
    layers[: len(scene.layers)] = scene.layers
    quick = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    ids = path.with_suffix(".ids.png"), np.moveaxis(layers, 0, -1)
    for target, pixels in (ids, (path, scene.image[..., ::-1])):
        with atomic_path(target) as temporary:
            cv2.imwrite(str(temporary), pixels, quick)


def load_scene_bank(
    folder: Path, count: int, first_seed: int = 0, workers: int = 2, kinds: Sequence[str] = ()
) -> list[LabelledImage]:
    """Draw the missing scenes of a bank and load all of it.

    Parameters
    ----------
    folder : Path
        Where the scenes are kept; made if missing.
    count : int
        Number of scenes.
    first_seed : int
        Seeds run from here to ``first_seed + count - 1``.
    workers : int
        Processes that draw, threads that read.
    kinds : sequence of str
        Of the scenes, in turn (see `scenes.KINDS`); all kinds at random by default.

    Returns
    -------
    list of LabelledImage
        In the order of the seeds, with background weight 1 because their masks are exhaustive.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seeds = range(first_seed, first_seed + count)
    # the image is written last
    missing = [seed for seed in seeds if not _path(folder, seed).is_file()]
    if missing:
        kind_of = [kinds[seed // len(SIDES_PX) % len(kinds)] if kinds else None for seed in missing]
        rows = ((folder, seed, kind) for seed, kind in zip(missing, kind_of, strict=True))
        list(iter_spawned(_draw, rows, workers))
    with ThreadPoolExecutor(workers) as threads:
        return list(threads.map(_load, (_path(folder, seed) for seed in seeds)))


def _load(path: Path) -> LabelledImage:
    import cv2

    bgr = np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR), np.uint8)
    ids = np.asarray(cv2.imread(str(path.with_suffix(".ids.png")), cv2.IMREAD_UNCHANGED), np.uint16)
    image, layers = np.ascontiguousarray(bgr[..., ::-1]), np.ascontiguousarray(np.moveaxis(ids, -1, 0))
    depth = max(1, sum(bool(layer.any()) for layer in layers))
    weight = np.full(image.shape[:2], FULL_WEIGHT, np.uint8)
    return LabelledImage(image, layers[:depth], weight, "scene", path.stem)
