"""Masks cut off by their boxes, and boxes that follow their masks: on fields whose shape is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.heads import HeadNetwork

from fastsam_core import FastSAM
from fastsam_core.checkpoints import ModelInfo
from fastsam_core.cuts import cut_shares, demote_cut, follow_masks
from fastsam_core.decode import decode
from fastsam_core.geometry import plan_letterbox
from fastsam_core.network import Prediction
from fastsam_core.testing import synthetic_prediction

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
    small = prediction((54, 86, 74, 106))
    assert 0 < cut_shares(small)[0] <= 0.7
    assert demote_cut(small, 9.0, 0.1).scores.tolist() == small.scores.tolist()


def test_a_small_window_onto_something_large_loses_score() -> None:
    window = prediction((96, 112, 106, 122))
    assert cut_shares(window)[0] > 0.7
    assert demote_cut(window, 9.0, 0.0).scores[0] < 0.01


def test_a_small_piece_of_something_larger_loses_score_and_a_neighbour_does_not() -> None:
    small = (54, 86, 74, 106)  # cut in part
    larger, beside = (50, 82, 90, 122), (20, 86, 56, 122)
    assert demote_cut(prediction(larger, small), 9.0, 0.0).scores[1] < 0.2
    for kept in (prediction(beside, small), prediction(small, larger)):  # the second: better than what is around it
        place = kept.boxes_xyxy.tolist().index(list(small))
        demoted = demote_cut(kept, 9.0, 0.0)
        assert demoted.scores[demoted.boxes_xyxy.tolist().index(list(small))] == kept.scores[place]


@pytest.mark.parametrize("box", [(64, 96, 160, 160), (80, 104, 192, 152), (80, 96, 176, 140), OBJECT])
def test_boxes_grow_until_they_hold_the_object(box: tuple[int, int, int, int]) -> None:
    found = prediction(box)
    whole = prediction(OBJECT)
    grown = follow_masks(found, 0.5)
    [sides], [expected] = grown.boxes_xyxy, np.array([OBJECT])
    assert (np.abs(sides - expected) <= CELL_PX / 2).all(), "to the centre of the next cell"
    np.testing.assert_allclose(grown.boxes_network_xyxy, found.letterbox.to_network(grown.boxes_xyxy), atol=1e-3)
    assert decode(grown)[0].iou(decode(whole)).item() > 0.93
    assert cut_shares(grown)[0] == 0
    assert grown.scores.tolist() == found.scores.tolist()


@given(
    x=st.integers(0, 150),
    y=st.integers(0, 90),
    width=st.integers(30, SIDE_PX),
    height=st.integers(30, SIDE_PX),
    margin=st.floats(0.05, 1),
    image_hw=st.sampled_from([(SIDE_PX, SIDE_PX), (SIDE_PX, 192), (128, SIDE_PX), (512, 300)]),
)
def test_boxes_only_grow_and_no_further_than_the_margin(
    x: int, y: int, width: int, height: int, margin: float, image_hw: tuple[int, int]
) -> None:
    found = prediction((x, y, min(x + width, image_hw[1]), min(y + height, image_hw[0])), image_hw=image_hw)
    [box], [grown] = found.boxes_xyxy, follow_masks(found, margin).boxes_xyxy
    assert (grown[:2] <= box[:2]).all()
    assert (grown[2:] >= box[2:]).all()
    assert (grown[:2] >= 0).all()
    assert (grown[2:] <= image_hw[::-1]).all()
    slack_px = 2 * CELL_PX / found.letterbox.scale  # whole cells, and half a cell beyond
    reach = (box[2:] - box[:2]) * margin + slack_px
    assert (np.abs(grown - box) <= np.tile(reach, 2)).all()


@pytest.mark.parametrize("image_hw", [(1, 1), (5, 5), (3, 30), (40, 1)])
def test_boxes_between_pixels_stay_as_they_are(image_hw: tuple[int, int]) -> None:
    height, width = image_hw
    found = prediction((0, 0, width, height), (0, 0, width, height), image_hw=image_hw)
    boxes = found.boxes_xyxy.copy()
    boxes[0] = (0.2, 0.2, width - 0.2, 0.8)
    found = replace(found, boxes_xyxy=boxes, boxes_network_xyxy=found.letterbox.to_network(boxes))
    assert follow_masks(found, 0.5).boxes_xyxy[0].tolist() == boxes[0].tolist()


def test_boxes_follow_the_parts_that_lie_mostly_in_them() -> None:
    found = prediction((64, 96, 160, 160))
    beside = found.prototypes.copy()
    beside[0, 28:32, 42:64] = -5
    beside[0, 24:40, 41] = -5  # the object ends at 164; what was beyond is another, mostly outside the box
    [box] = follow_masks(replace(found, prototypes=beside), 0.5).boxes_xyxy
    assert box.tolist() == [62, 94, 166, 162]
    elsewhere = (72, 64, 136, 112)  # a box that holds a quarter of the object, not half
    assert follow_masks(prediction(elsewhere), 1.0).boxes_xyxy.tolist() == [list(elsewhere)]


def test_a_box_short_by_less_than_a_cell_does_not_draw_the_outline() -> None:
    whole = prediction(OBJECT)
    short = prediction((OBJECT[0], OBJECT[1], OBJECT[2] - 1, OBJECT[3] - 1))
    outline = decode(follow_masks(whole, 0.5)).to_dense()
    np.testing.assert_array_equal(decode(follow_masks(short, 0.5)).to_dense(), outline)
    assert not (decode(short).to_dense() == outline).all()


def test_a_box_near_the_border_of_the_image_reaches_it_where_its_mask_does() -> None:
    found = prediction((0, 0, SIDE_PX - 3, SIDE_PX - 3))
    full = replace(found, prototypes=np.full_like(found.prototypes, 5))
    assert decode(follow_masks(full, 0.5)).areas_px.tolist() == [SIDE_PX**2]


def joined(bridge: float) -> Prediction:
    """Show the object in a box of its own, and right of it a bridge to something else, of this logit."""
    found = prediction(OBJECT)
    field = found.prototypes.copy()
    field[0, 30:34, 48:] = bridge
    field[0, 26:38, 58:] = 5
    return replace(found, prototypes=field, mask_threshold=0.3)


@pytest.mark.parametrize(
    ("bridge", "threshold"), [(-5, 0.3), (-0.5, 0.4), (-0.2, 0.5), (0.5, 0.65), (1, 0.8), (3, 0.3)]
)
def test_a_mask_that_runs_into_something_else_is_cut_where_it_does_not(bridge: float, threshold: float) -> None:
    found = joined(bridge)
    grown = follow_masks(found, 0.2)
    assert grown.own_thresholds is not None
    assert grown.own_thresholds.tolist() == pytest.approx([threshold])
    alone = decode(follow_masks(replace(prediction(OBJECT), mask_threshold=threshold), 0.2))
    if bridge < 1.5:
        assert decode(grown).iou(alone).item() > 0.95
    else:
        assert grown.boxes_xyxy[0, 2] > OBJECT[2] + 5 * CELL_PX, "no threshold helps, so the margin ends it"


def test_scores_take_into_account_what_a_tighter_threshold_hides() -> None:
    tight = follow_masks(joined(0.5), 0.2)
    assert cut_shares(tight)[0] == cut_shares(replace(tight, own_thresholds=None))[0] > 0


def test_boxes_of_small_objects_do_not_follow() -> None:
    small = prediction((58, 112, 70, 124))
    assert cut_shares(small)[0] > 0
    assert follow_masks(small, 0.5) is small


@given(seed=st.integers(0, 1000), count=st.integers(0, 12), margin=st.floats(0.01, 1))
def test_boxes_of_any_prediction_only_grow(seed: int, count: int, margin: float) -> None:
    found = synthetic_prediction(count, (120, 90), 128, seed)
    grown = follow_masks(found, margin)
    assert (grown.boxes_xyxy[:, :2] <= found.boxes_xyxy[:, :2]).all()
    assert (grown.boxes_xyxy[:, 2:] >= found.boxes_xyxy[:, 2:]).all()
    loose = replace(grown, own_thresholds=None)
    assert (decode(loose).areas_px >= decode(found).areas_px).all()
    assert (decode(grown).areas_px <= decode(loose).areas_px).all()
    if grown.own_thresholds is not None:
        assert set(grown.own_thresholds.tolist()) <= {found.mask_threshold, *np.array((0.65, 0.8), np.float32).tolist()}
    assert grown.scores is found.scores


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


def tight_network() -> HeadNetwork:
    """Make a network whose boxes are too small for what is in them."""
    network = HeadNetwork(8, (SIDE_PX, SIDE_PX), SIDE_PX)
    network.head.output[0, 2:4] *= 0.7
    return network


def test_a_models_own_penalty_is_applied_and_official_models_have_none() -> None:
    image = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    plain, strict = (
        FastSAM(tight_network(), ModelInfo(name="made up", imgsz=SIDE_PX, conf=0.1, cut_penalty=penalty)).segment(image)
        for penalty in (0.0, 3.0)
    )
    assert ModelInfo(name="any").cut_penalty == 0
    assert ModelInfo(name="any").mask_threshold == 0.5
    wide = FastSAM(tight_network(), ModelInfo(name="made up", imgsz=SIDE_PX, conf=0.1, mask_threshold=0.2)).segment(
        image
    )
    assert wide.areas_px.sum() > plain.areas_px.sum()
    assert len(plain) == 8
    assert 0 < strict.scores.sum() < plain.scores.sum()


def test_boxes_follow_masks_where_the_weights_learnt_them_so() -> None:
    image = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    plain, grown = (
        FastSAM(tight_network(), ModelInfo(name="made up", imgsz=SIDE_PX, conf=0.1, mask_margin=margin)).segment(image)
        for margin in (0.0, 0.5)
    )
    assert ModelInfo(name="any").mask_margin == 0
    assert grown.areas_px.sum() > plain.areas_px.sum()
    overlap = grown.iou(grown)
    np.fill_diagonal(overlap, 0)
    assert overlap.max() <= 0.7, "objects that have become the same are kept once"


def test_crumbs_are_left_out_where_the_weights_ask_for_it() -> None:
    image = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    network = tight_network()
    network.head.prototypes[:] *= np.random.default_rng(0).choice((-1, 1), network.head.prototypes.shape)
    whole, cleaned = (
        FastSAM(network, ModelInfo(name="made up", imgsz=SIDE_PX, conf=0.1, least_part=share)).segment(image)
        for share in (0.0, 0.5)
    )
    assert ModelInfo(name="any").least_part == 0
    assert 0 < cleaned.areas_px.sum() < whole.areas_px.sum()
    np.testing.assert_array_equal(cleaned.to_dense(), whole.without_small_parts(0.5).to_dense())
