"""Masks that were written are scored by FiftyOne itself, on scenes whose masks are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fiftyone_fastsam import enrich, to_detections

if TYPE_CHECKING:
    from fastsam_core.masks import Masks
    from fastsam_core.model import FastSAM


def test_known_masks_score_perfectly(dataset: Any, model: FastSAM, known_masks: Masks) -> None:
    dataset.compute_metadata(progress=False)
    for sample in dataset:
        sample["truth"] = to_detections(known_masks)
        sample.save()
    enrich(dataset, "masks", model=model)
    results = dataset.evaluate_detections(
        "masks", gt_field="truth", eval_key="eval", use_masks=True, compute_mAP=True, progress=False
    )
    assert results.mAP() == pytest.approx(1.0)
    assert dataset.sum("eval_tp") == 3 * len(known_masks)
    assert dataset.values("masks.detections.eval_iou", unwind=True) == pytest.approx([1.0] * 3 * len(known_masks))


def test_missed_and_false_masks_are_counted(dataset: Any, model: FastSAM, known_masks: Masks) -> None:
    dataset.compute_metadata(progress=False)
    sample = dataset.first()
    sample["truth"] = to_detections(known_masks[:1])
    sample.save()
    enrich(dataset[:1], "masks", model=model)
    dataset[:1].evaluate_detections("masks", gt_field="truth", eval_key="eval", use_masks=True, progress=False)
    assert dataset.first().eval_tp == 1
    assert dataset.first().eval_fp == len(known_masks) - 1
