"""Regions that stand out of a photograph although nobody annotated them, as further things to learn.

Few photographs are annotated completely, and a network that segments everything should also find a wall or a shirt.
Felzenszwalb's graph-based segmentation (IJCV 2004) finds such regions at every scale, most of them by chance; those
that stay the same while the scale doubles are kept, an idea of MSER (Matas et al. 2004). Training on regions found
without supervision is described in CutLER (arXiv 2301.11320) and UnSAM (arXiv 2406.20081).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from fastsam_core._files import atomic_path
from fastsam_core._threads import iter_spawned
from fastsam_core.training.sources import LabelledImage, stack_layers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["add_regions", "stable_regions"]

_SCALES: Final = (50, 100, 200, 400, 800, 1600, 3200)
_LONG_SIDE_PX: Final = 480
_LEAST_PX: Final = 40
_SHARES: Final = (0.0015, 0.6)
"""Smallest and largest part of the image that a region may take."""
_SAME_IOU: Final = 0.8
_MOST_REGIONS: Final = 40


def stable_regions(rgb8: NDArray[np.uint8]) -> list[NDArray[np.bool_]]:
    """Find regions that hardly change from one scale to the next.

    Parameters
    ----------
    rgb8 : ndarray of uint8, shape (H, W, 3)

    Returns
    -------
    list of bool arrays, shape (H, W)
        Those that last longest first, at most 40; no two overlap by an IoU above 0.8.
    """
    import cv2
    from skimage.segmentation import felzenszwalb

    height, width = rgb8.shape[:2]
    factor = min(1.0, _LONG_SIDE_PX / max(height, width))
    size_wh = (max(round(width * factor), 1), max(round(height * factor), 1))
    image = cv2.resize(rgb8, size_wh, interpolation=cv2.INTER_AREA).astype(np.float64) / 255
    maps = [felzenszwalb(image, scale=scale, sigma=0.8, min_size=_LEAST_PX) for scale in _SCALES]
    found: list[tuple[NDArray[np.bool_], int]] = []
    for finer, coarser in pairwise(maps):
        areas_px = np.bincount(finer.ravel())
        right_size = (areas_px >= _SHARES[0] * finer.size) & (areas_px <= _SHARES[1] * finer.size)
        for number in np.flatnonzero(right_size & (_ious(finer, coarser).max(1) >= _SAME_IOU)):
            _remember(found, finer == number)
    found.sort(key=lambda entry: (-entry[1], -int(entry[0].sum())))
    whole = [
        cv2.resize(region.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) for region, _ in found
    ]
    return [region > 0 for region in whole[:_MOST_REGIONS]]


def _ious(
    first: NDArray[np.uint16] | NDArray[np.int64], second: NDArray[np.uint16] | NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the IoU of every number of one label map with every number of another, 0 included."""
    rows, columns = int(first.max()) + 1, int(second.max()) + 1
    shared = np.bincount((first.astype(np.int64) * columns + second).ravel(), minlength=rows * columns)
    shared_px = shared.reshape(rows, columns)
    either_px = shared_px.sum(1, keepdims=True) + shared_px.sum(0, keepdims=True) - shared_px
    ious: NDArray[np.float64] = shared_px / np.maximum(either_px, 1)
    return ious


def _iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    shared = int((first & second).sum())
    return shared / (int(first.sum()) + int(second.sum()) - shared)


def _remember(found: list[tuple[NDArray[np.bool_], int]], region: NDArray[np.bool_]) -> None:
    """Add a region, or count once more the one that it repeats."""
    for place, (known, times) in enumerate(found):
        if _iou(known, region) > _SAME_IOU:
            found[place] = known, times + 1
            return
    found.append((region, 1))


def add_regions(samples: Sequence[LabelledImage], folder: Path, workers: int = 2) -> list[LabelledImage]:
    """Add layers of stable regions to labelled images.

    Parameters
    ----------
    samples : sequence of LabelledImage
        Images of one source.
    folder : Path
        Where regions are kept, one file an image; made if missing.
    workers : int
        Processes that look for those that are not there yet, threads that read.

    Returns
    -------
    list of LabelledImage
        With further layers, counted by ``guessed``, without regions that an annotation covers already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{sample.stem}.npz" for sample in samples]
    missing = [(sample.image, path) for sample, path in zip(samples, paths, strict=True) if not path.is_file()]
    if missing:
        list(iter_spawned(_find, missing, workers))
    with ThreadPoolExecutor(workers) as threads:
        return list(threads.map(_with_regions, samples, paths))


def _find(rgb8: NDArray[np.uint8], path: Path) -> None:
    import cv2

    cv2.setNumThreads(1)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, layers=stack_layers(stable_regions(rgb8), rgb8.shape[:2], slack=0.0))


def _with_regions(sample: LabelledImage, path: Path) -> LabelledImage:
    with np.load(path) as file:
        regions = np.asarray(file["layers"], np.uint16)
    highest = int(sample.layers.max())
    kept = [layer.copy() for layer in regions]
    for layer in kept:
        for annotated in sample.layers:
            known: NDArray[np.bool_] = np.any(_ious(layer, annotated)[:, 1:] > _SAME_IOU, axis=1)
            layer[known[layer]] = 0
        layer[layer > 0] += np.uint16(highest)
    layers = [layer for layer in kept if layer.any()]
    return replace(sample, layers=np.stack([*sample.layers, *layers]), guessed=len(layers))
