"""Masks cut off by their boxes: measured on fields whose shape is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastsam_core import FastSAM
from fastsam_core.checkpoints import ModelInfo
from fastsam_core.cuts import cut_shares, demote_cut
from fastsam_core.geometry import plan_letterbox
from fastsam_core.network import Prediction
from fastsam_core.testing import synthetic_head, synthetic_prediction

SIDE_PX, CELL_PX = 256, 4
OBJECT = (64, 96, 192, 160)
"""What the field shows: x0, y0, x1, y1 in pixels."""


def prediction(*boxes_xyxy: tuple[int, int, int, int], image_hw: tuple[int, int] = (SIDE_PX, SIDE_PX)) -> Prediction:
    """One field for all boxes; scores from 0.9 downwards."""
    plan = plan_letterbox(image_hw, SIDE_PX)
    field = np.full((1, plan.network_hw[0] // CELL_PX, plan.network_hw[1] // CELL_PX), -5, np.float32)
    x0, y0, x1, y1 = (side // CELL_PX for side in OBJECT)
    field[0, y0:y1, x0:x1] = 5
    boxes = np.asarray(boxes_xyxy, np.float32).reshape(-1, 4)
    return Prediction(
        boxes_xyxy=boxes,
        scores=(0.9 - 0.1 * np.arange(len(boxes))).astype(np.float32),
        boxes_network_xyxy=plan.to_network(boxes),
        coefficients=np.ones((len(boxes), 1), np.float32),
        prototypes=field,
        letterbox=plan,
    )


def test_whole_objects_are_not_cut() -> None:
    found = prediction(OBJECT, (56, 88, 200, 168), (0, 0, SIDE_PX, SIDE_PX), (8, 8, 40, 40))
    assert cut_shares(found).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("box", "cut_px"),
    [
        ((64, 96, 128, 160), 64),
        ((128, 96, 192, 160), 64),
        ((64, 96, 192, 128), 128),
        ((64, 128, 192, 160), 128),
        ((96, 112, 160, 144), 2 * 64 + 2 * 32),
    ],
)
def test_cuts_are_the_sides_that_run_through_the_object(box: tuple[int, int, int, int], cut_px: int) -> None:
    outline_px = math.pi * math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
    assert float(cut_shares(prediction(box))[0]) == pytest.approx(min(cut_px / outline_px, 1), rel=1e-5)


def test_the_border_of_the_image_cuts_nothing() -> None:
    cropped = prediction((64, 96, 128, 160), image_hw=(SIDE_PX, 128))
    shifted = cropped.letterbox.to_network(cropped.boxes_xyxy)
    x0 = int(shifted[0, 0]) // CELL_PX
    field = np.full_like(cropped.prototypes, -5)
    field[0, 24:40, x0:] = 5  # the field goes on in the padding behind the image
    assert float(cut_shares(replace(cropped, prototypes=field))[0]) == 0


def test_cut_masks_lose_score_and_rank_and_weak_ones_are_dropped() -> None:
    half, whole, beside = (64, 96, 128, 160), OBJECT, (64, 96, 160, 160)
    found = prediction(half, whole, beside)
    cuts = cut_shares(found)
    kept = demote_cut(found, 2.0, 0.3)
    assert kept.boxes_xyxy.tolist() == [list(whole), list(half), list(beside)]
    np.testing.assert_allclose(kept.scores, (found.scores * np.exp(-2 * cuts))[[1, 0, 2]], rtol=1e-6)
    assert demote_cut(found, 9.0, 0.3).boxes_xyxy.tolist() == [list(whole)]
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.7])


def test_what_counts_as_inside_follows_the_threshold_of_masks() -> None:
    found = prediction((64, 96, 128, 160))
    faint = replace(found, prototypes=np.where(found.prototypes > 0, -1, -5).astype(np.float32))
    assert cut_shares(faint)[0] == 0
    assert cut_shares(replace(faint, mask_threshold=0.2))[0] == cut_shares(found)[0]


def test_small_objects_are_left_alone() -> None:
    small = prediction((96, 112, 106, 122))
    assert cut_shares(small)[0] > 0
    assert demote_cut(small, 9.0, 0.1).scores.tolist() == small.scores.tolist()


@given(seed=st.integers(0, 1000), count=st.integers(0, 12), penalty=st.floats(0, 10))
def test_any_prediction_stays_ranked_and_loses_score_only(seed: int, count: int, penalty: float) -> None:
    found = synthetic_prediction(count, (120, 90), 128, seed)
    kept = demote_cut(found, penalty, 0.0)
    assert len(kept) == len(found)
    assert (np.diff(kept.scores) <= 0).all()
    shares = cut_shares(found)
    assert ((shares >= 0) & (shares <= 1)).all()
    assert sorted(kept.boxes_xyxy.tolist()) == sorted(found.boxes_xyxy.tolist())
    assert (np.sort(kept.scores) <= np.sort(found.scores) + 1e-7).all()


class HeadNetwork:
    """Returns one synthetic head whatever the image."""

    def __init__(self) -> None:
        self.head = synthetic_head(8, (SIDE_PX, SIDE_PX), SIDE_PX, seed=4)
        output = self.head.output
        output[0, 2:4] *= 0.7  # boxes too small for what is in them

    def forward(self, batch_bhwc: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(self.head.output), torch.from_numpy(self.head.prototypes)


def test_a_models_own_penalty_is_applied_and_official_models_have_none() -> None:
    image = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    plain, strict = (
        FastSAM(HeadNetwork(), ModelInfo(name="made up", imgsz=SIDE_PX, conf=0.1, cut_penalty=penalty)).segment(image)
        for penalty in (0.0, 3.0)
    )
    assert ModelInfo(name="any").cut_penalty == 0
    assert ModelInfo(name="any").mask_threshold == 0.5
    wide = FastSAM(HeadNetwork(), ModelInfo(name="made up", imgsz=SIDE_PX, conf=0.1, mask_threshold=0.2)).segment(image)
    assert wide.areas_px.sum() > plain.areas_px.sum()
    assert len(plain) == 8
    assert 0 < strict.scores.sum() < plain.scores.sum()
