"""The figures of the small validation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastsam_core.training.sources import LabelledImage
from fastsam_core.training.trainer import build_network
from fastsam_core.training.validate import average_precision, best_f1, evaluate, greedy_matches, mask_iou, predict_masks


def test_iou_of_known_masks() -> None:
    masks = np.zeros((2, 4, 4), bool)
    masks[0, :2] = masks[1, :, :2] = True
    assert mask_iou(masks, masks) == pytest.approx(np.array([[1, 1 / 3], [1 / 3, 1]]))


def test_each_instance_is_found_once() -> None:
    iou = np.array([[0.9, 0.0], [0.8, 0.0], [0.1, 0.6]], np.float32)
    assert greedy_matches(iou, 0.5).tolist() == [True, False, True]
    assert greedy_matches(np.zeros((2, 0), np.float32), 0.5).tolist() == [False, False]


def test_best_f1_by_hand() -> None:
    hits, scores = np.array([True, False, True]), np.array([0.9, 0.8, 0.7], np.float32)
    assert best_f1(hits, scores, 2) == pytest.approx((0.8, 0.7))


def test_average_precision_by_hand() -> None:
    hits, scores = np.array([True, False, True]), np.array([0.9, 0.8, 0.7], np.float32)
    assert average_precision(hits, scores, 2) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert average_precision(hits[:0], scores[:0], 2) == 0.0


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network("yolov8n-seg").eval()


def test_untrained_network_scores_near_zero(network: torch.nn.Module) -> None:
    layers = np.zeros((1, 60, 80), np.uint16)
    layers[0, 10:30, 10:30] = 1
    sample = LabelledImage(np.zeros((60, 80, 3), np.uint8), layers, np.zeros((60, 80), np.uint8))
    scores = evaluate(network, [sample], 96)
    assert scores.images == scores.instances == 1
    assert 0 <= scores.ap50 < 0.5
    assert evaluate(network, [], 96).images == 0


def test_masks_have_the_images_shape(network: torch.nn.Module) -> None:
    masks, scores = predict_masks(network, np.zeros((50, 70, 3), np.uint8), 96, conf=0.0, top=5)
    assert masks.shape == (5, 50, 70)
    assert (np.diff(scores) <= 0).all()
