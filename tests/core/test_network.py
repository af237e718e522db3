"""Suppression against Ultralytics' own, on made-up and on real network output."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsam_core._suppression import keep_best
from fastsam_core._ultralytics import import_ultralytics
from fastsam_core.checkpoints import build_module
from fastsam_core.geometry import Letterbox, letterbox, plan_letterbox
from fastsam_core.network import Prediction, suppress
from fastsam_core.testing import synthetic_head

nms = import_ultralytics("ultralytics.utils.nms")
ops = import_ultralytics("ultralytics.utils.ops")


def check_against_ultralytics(
    raw: torch.Tensor, prototypes: torch.Tensor, plan: Letterbox, conf: float, iou: float, max_det: int
) -> Prediction:
    [ours] = suppress(raw, prototypes, [plan], conf=conf, iou=iou, max_det=max_det)
    [theirs] = nms.non_max_suppression(raw.clone(), conf, iou, agnostic=True, max_det=max_det, nc=1, max_time_img=60)
    assert len(ours) == len(theirs)
    np.testing.assert_allclose(ours.scores, theirs[:, 4], atol=1e-5)
    np.testing.assert_allclose(ours.boxes_network_xyxy, theirs[:, :4], atol=1e-3)
    np.testing.assert_array_equal(ours.coefficients, theirs[:, 6:])
    scaled = ops.scale_boxes(plan.network_hw, theirs[:, :4].clone(), plan.source_hw)
    np.testing.assert_allclose(ours.boxes_xyxy, scaled, atol=1e-3)
    np.testing.assert_array_equal(ours.prototypes, prototypes[0])
    assert ours.prototypes.flags.c_contiguous
    assert {array.dtype for array in (ours.boxes_xyxy, ours.scores, ours.coefficients, ours.prototypes)} == {
        np.dtype(np.float32)
    }
    return ours


@pytest.mark.upstream
@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    conf=st.sampled_from((0.0, 0.1, 0.4, 0.9, 1.0)),
    iou=st.sampled_from((0.0, 0.3, 0.7, 0.9, 1.0)),
    max_det=st.sampled_from((1, 5, 300)),
    hw=st.tuples(st.integers(20, 900), st.integers(20, 900)),
)
def test_made_up_output(seed: int, conf: float, iou: float, max_det: int, hw: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    plan = plan_letterbox(hw, 320)
    raw = torch.rand(1, 37, 120, generator=generator)
    raw[:, :4] *= 320
    raw[:, 4] = (raw[:, 4] * 20).round() / 20  # equal scores are common in practice
    prototypes = torch.randn(1, 32, plan.network_hw[0] // 4, plan.network_hw[1] // 4, generator=generator)
    check_against_ultralytics(raw, prototypes, plan, conf, iou, max_det)


@pytest.mark.upstream
def test_realistic_output() -> None:
    head = synthetic_head(60, (375, 562), 512, seed=2)
    found = check_against_ultralytics(
        torch.from_numpy(head.output), torch.from_numpy(head.prototypes), head.letterbox, 0.4, 0.9, 300
    )
    assert len(found) == 60


@pytest.mark.parametrize("architecture", ["yolov8n-seg", "yolo11n-seg"])
def test_output_of_a_network(architecture: str) -> None:
    torch.manual_seed(1)
    module = build_module(architecture)
    image = np.random.default_rng(1).integers(0, 256, (150, 210, 3), dtype=np.uint8)
    padded, plan = letterbox(image, 160)
    with torch.inference_mode():
        (raw, prototypes), _ = module(torch.from_numpy(padded).permute(2, 0, 1)[None] / 255)
    conf = float(raw[0, 4].quantile(0.5))
    found = check_against_ultralytics(raw, prototypes, plan, conf, 0.7, 50)
    assert len(found) > 0


def test_more_candidates_than_suppression_takes() -> None:
    raw = torch.rand(1, 6, 31_000, generator=torch.Generator().manual_seed(0))
    raw[:, :2] *= 5000
    raw[:, 2:4] *= 100
    check_against_ultralytics(raw, torch.zeros(1, 1, 8, 8), plan_letterbox((32, 32), 32), 0.0, 0.5, 30_000)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), iou=st.floats(0, 1), count=st.integers(0, 200))
def test_suppression_is_torchvisions(seed: int, iou: float, count: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 60, (count, 2))
    boxes = np.hstack((corners, corners + rng.uniform(-2, 40, (count, 2)))).astype(np.float32)
    scores = (rng.integers(0, 12, count) / 12).astype(np.float32)
    expected = torchvision.ops.nms(torch.from_numpy(boxes), torch.from_numpy(scores), iou).numpy()
    np.testing.assert_array_equal(keep_best(boxes, scores, iou, max(count, 1)), expected)
    np.testing.assert_array_equal(keep_best(boxes, scores, iou, 3), expected[:3])


def test_nothing_found() -> None:
    [found] = suppress(
        torch.zeros(1, 37, 84), torch.zeros(1, 32, 16, 16), [plan_letterbox((64, 64), 64)], conf=0.4, iou=0.9, max_det=9
    )
    assert len(found) == 0
    assert found.boxes_xyxy.shape == found.boxes_network_xyxy.shape == (0, 4)
    assert found.coefficients.shape == (0, 32)


def test_a_batch_is_its_images() -> None:
    heads = [synthetic_head(8, (90, 120), 128, seed=seed) for seed in (0, 1)]
    raw = torch.from_numpy(np.concatenate([head.output for head in heads]))
    prototypes = torch.from_numpy(np.concatenate([head.prototypes for head in heads]))
    together = suppress(raw, prototypes, [head.letterbox for head in heads], conf=0.4, iou=0.9, max_det=300)
    for index, (head, found) in enumerate(zip(heads, together, strict=True)):
        [alone] = suppress(
            raw[index : index + 1], prototypes[index : index + 1], [head.letterbox], conf=0.4, iou=0.9, max_det=300
        )
        np.testing.assert_array_equal(found.boxes_xyxy, alone.boxes_xyxy)
        np.testing.assert_array_equal(found.prototypes, head.prototypes[0])
