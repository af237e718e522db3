"""COCO's figures: equal to pycocotools on made-up data."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from fastsam_core.errors import InvalidParameterError
from fastsam_core.evaluation.instances import InstanceScorer
from fastsam_core.masks import Masks


def made_up_image(rng: np.random.Generator) -> tuple[Masks, Masks, list[bool]]:
    """Rectangles, detections that are shifted copies of them, and some that are nothing."""
    hw = (160, 200)
    n = int(rng.integers(0, 9))
    sides, corners = rng.integers(4, 120, (n, 2)), rng.integers(0, 150, (n, 2))
    truth = Masks.from_crops([np.ones(tuple(side), bool) for side in sides], corners, hw)
    moved = np.repeat(np.arange(n), 2)
    shapes = np.concatenate([sides[moved], rng.integers(4, 60, (6, 2))])
    places = np.concatenate([corners[moved] + rng.integers(-6, 7, (2 * n, 2)), rng.integers(0, 150, (6, 2))])
    scores = np.round(rng.random(len(shapes)), 2)  # with ties
    predicted = Masks.from_crops([np.ones(tuple(shape), bool) for shape in shapes], places, hw, scores)
    return predicted[predicted.areas_px > 0], truth, (rng.random(n) < 0.2).tolist()


def coco_figures(images: list[tuple[Masks, Masks, list[bool]]], limits: tuple[int, ...]) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truths: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for i, (predicted, truth, crowd) in enumerate(images, 1):
        for annotation, is_crowd in zip(truth.to_coco(i, first_id=len(truths) + 1), crowd, strict=True):
            truths.append({**annotation, "iscrowd": int(is_crowd)})
        detections += predicted.to_coco(i, first_id=len(detections) + 1)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": i + 1, "height": 160, "width": 200} for i in range(len(images))],
            "categories": [{"id": 1}],
            "annotations": truths,
        }
        coco.createIndex()
        results = coco.loadRes(
            [{k: d[k] for k in ("image_id", "category_id", "segmentation", "score")} for d in detections]
        )
        run = COCOeval(coco, results, "segm")
        run.params.useCats = 0
        run.params.maxDets = list(limits)
        run.evaluate()
        run.accumulate()
    return run.eval


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("seed", range(4))
def test_figures_equal_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = [made_up_image(rng) for _ in range(12)]
    limits = (2, 8, 100)
    scorer = InstanceScorer(limits=limits)
    for predicted, truth, crowd in images:
        scorer.add(predicted, truth, crowd=crowd)
    reference = coco_figures(images, limits)
    for a, size in enumerate(("all", "small", "medium", "large")):
        ours = scorer.scores(size)
        precision, recall = reference["precision"][:, :, 0, a, -1], reference["recall"][:, 0, a, :]
        assert ours.n_truths > 0
        assert ours.ap == pytest.approx(precision.mean(), abs=1e-9)
        assert ours.ap50 == pytest.approx(precision[0].mean(), abs=1e-9)
        assert list(ours.recall.values()) == pytest.approx(recall.mean(axis=0), abs=1e-9)


def test_perfect_and_empty_answers() -> None:
    truth = Masks.from_label_map(np.kron(np.arange(1, 5).reshape(2, 2), np.ones((20, 20), int)))
    scorer = InstanceScorer()
    scorer.add(truth, truth)
    assert (scorer.scores().ap, scorer.scores().recall[10], scorer.mean_best_overlap()) == (1.0, 1.0, 1.0)
    scorer.add(truth[[]], truth)
    assert (scorer.scores().recall[100], scorer.mean_best_overlap()) == (0.5, 0.5)
    assert np.isnan(scorer.scores("large").ap)
    assert np.isnan(InstanceScorer().mean_best_overlap())


def test_images_without_objects_cost_precision_only() -> None:
    truth = Masks.from_dense(np.ones((1, 40, 40), bool), scores=[0.5])
    scorer = InstanceScorer()
    scorer.add(truth, truth)
    scorer.add(Masks.from_dense(np.ones((1, 40, 40), bool), scores=[0.9]), Masks.empty((40, 40)))
    assert scorer.scores().recall[100] == 1.0
    assert scorer.scores().ap == pytest.approx(0.5)


def test_what_does_not_fit_is_refused() -> None:
    masks = Masks.from_dense(np.ones((2, 4, 4), bool))
    with pytest.raises(InvalidParameterError, match="crowd"):
        InstanceScorer().add(masks, masks, crowd=[True])
    with pytest.raises(InvalidParameterError, match="sorted"):
        InstanceScorer().add_overlaps(np.zeros((2, 0)), [0.1, 0.2], [1, 1], [], np.zeros(0, bool))
