"""Masks that were written are scored by FiftyOne itself, on scenes whose masks are known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from fastsam_core.masks import Masks
from fastsam_core.training.scenes import generate_scene
from fiftyone_fastsam import enrich, masks_from_detections, to_detections

if TYPE_CHECKING:
    from collections.abc import Callable

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


def test_the_builtin_model_on_generated_scenes(make_dataset: Callable[..., Any], tmp_path: Path) -> None:
    truth = {}
    for seed in range(4):
        scene = generate_scene(seed, (256, 256), kind="droplets")
        path = tmp_path / f"{seed}.png"
        Image.fromarray(scene.image).save(path)
        truth[str(path)] = Masks.from_label_map(scene.labels)
    dataset = make_dataset(paths=[Path(path) for path in truth])
    dataset.compute_metadata(progress=False)
    for sample in dataset:
        sample["truth"] = to_detections(truth[sample.filepath])
        sample.save()
    enrich(dataset, "masks", imgsz=256)
    results = dataset.evaluate_detections(
        "masks", gt_field="truth", eval_key="eval", use_masks=True, iou=0.5, progress=False
    )
    # FiftyOne's own matching and the core's IoU agree on how many are found
    found = sum(
        int((masks_from_detections(sample.masks, (256, 256)).iou(truth[sample.filepath]).max(axis=0) >= 0.5).sum())
        for sample in dataset
    )
    assert dataset.sum("eval_tp") == pytest.approx(found, abs=1)
    assert results.metrics()["recall"] > 0.25, "small as it is, the built-in model finds much of this"


def test_missed_and_false_masks_are_counted(dataset: Any, model: FastSAM, known_masks: Masks) -> None:
    dataset.compute_metadata(progress=False)
    sample = dataset.first()
    sample["truth"] = to_detections(known_masks[:1])
    sample.save()
    enrich(dataset[:1], "masks", model=model)
    dataset[:1].evaluate_detections("masks", gt_field="truth", eval_key="eval", use_masks=True, progress=False)
    assert dataset.first().eval_tp == 1
    assert dataset.first().eval_fp == len(known_masks) - 1
