"""Scoring of proposals next to pycocotools, which holds every mask of every image until the end."""

from __future__ import annotations

import contextlib
import io
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import Benchmark, Row, Scale
from fastsam_core.evaluation.proposals import BUDGETS, ProposalScorer
from fastsam_core.evaluation.truth import Truth
from fastsam_core.masks import Masks

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BENCHMARKS"]

_IMAGES_OF_COCO = 5000
_OBJECTS = 8


def _discs(rng: np.random.Generator, count: int, image_hw: tuple[int, int]) -> Masks:
    """Return discs of all sizes anywhere in the image, with random scores."""
    height, width = image_hw
    radii = np.exp(rng.uniform(np.log(2), np.log(height / 4), count))
    crops, origins = [], []
    for radius in radii:
        side = np.arange(-int(radius), int(radius) + 1)
        crops.append(side[:, None] ** 2 + side**2 <= radius**2)
        origins.append((rng.uniform((0, 0), (height - 2, width - 2)) - radius).round())
    return Masks.from_crops(crops, np.array(origins), image_hw, rng.random(count).astype(np.float32))


def _pycocotools_s(truths: list[Masks], found: list[Masks]) -> float:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    height, width = truths[0].image_hw
    images = [{"id": index, "height": height, "width": width} for index in range(len(truths))]
    truth: dict[str, Any] = {"images": images, "categories": [{"id": 1, "name": "object"}], "annotations": []}
    results = []
    for image_id, (masks, others) in enumerate(zip(truths, found, strict=True)):
        first = len(truth["annotations"]) + 1
        truth["annotations"] += [{**entry, "iscrowd": 0} for entry in masks.to_coco(image_id, 1, first)]
        results += others.to_coco(image_id, 1)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        started = time.perf_counter()
        loaded = coco.loadRes(results)
        for kind in ("bbox", "segm"):
            evaluation = COCOeval(coco, loaded, kind)
            evaluation.params.maxDets = [10, 100, BUDGETS[-1]]
            evaluation.params.useCats = 0
            evaluation.evaluate()
            evaluation.accumulate()
        return time.perf_counter() - started


def proposals(scale: Scale) -> Iterator[Row]:
    """Boxes and masks of many proposals an image, as they come from a model."""
    rng = np.random.default_rng(0)
    count, images = (BUDGETS[-1], 25) if scale.isolated else (scale.many, 2)
    image_hw = (480, 640)
    truths = [_discs(rng, _OBJECTS, image_hw) for _ in range(images)]
    found = [_discs(rng, count, image_hw) for _ in range(images)]

    def score() -> ProposalScorer:
        scorer = ProposalScorer()
        for masks, truth in zip(found, truths, strict=True):
            scorer.add(masks, Truth.of_masks(truth))
        scorer.report()
        return scorer

    score()
    started = time.perf_counter()
    score()
    ours = (time.perf_counter() - started) / images
    peer = _pycocotools_s(truths, found) / images
    yield Row(f"evaluation: {count} proposals of one image, boxes and masks", 1e3 * ours, 1e3 * peer, "ms")
    tracemalloc.start()
    kept = score()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    megabytes = held / images * _IMAGES_OF_COCO / 2**20
    name = f"evaluation: kept for {_IMAGES_OF_COCO} images of {count} proposals (from {images} images)"
    yield Row(name, megabytes, None, "MB")


BENCHMARKS = [Benchmark("evaluation: proposals", proposals)]
