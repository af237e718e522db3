"""A threshold of its own for each mask: the best Dice to expect, found by trying every threshold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from tests.core.heads import HeadNetwork

from fastsam_core import FastSAM
from fastsam_core.checkpoints import ModelInfo
from fastsam_core.decode import cell_windows, decode
from fastsam_core.testing import synthetic_prediction
from fastsam_core.thresholds import best_thresholds, cut_each_best


def best_dice(probabilities: npt.NDArray[np.float64]) -> float:
    """Largest Dice to expect of the k likeliest cells, for every k."""
    likeliest = np.sort(probabilities.ravel())[::-1]
    counts = np.arange(1, likeliest.size + 1)
    return float((2 * likeliest.cumsum() / (counts + likeliest.sum())).max())


@given(seed=st.integers(0, 500), sharpness=st.floats(1e-4, 2), shift=st.floats(-4, 4))
def test_thresholds_are_half_of_the_best_dice_to_expect(seed: int, sharpness: float, shift: float) -> None:
    found = synthetic_prediction(5, (90, 120), 128, seed=seed)
    found = replace(found, coefficients=(found.coefficients * sharpness).astype(np.float32))
    found.prototypes[:] += np.float32(shift / 32)
    for own, (x0, y0, x1, y1), coefficients in zip(
        best_thresholds(found), cell_windows(found), found.coefficients, strict=True
    ):
        field = np.tensordot(coefficients.astype(np.float64), found.prototypes[:, y0:y1, x0:x1], axes=1)
        assert 2 * own == pytest.approx(best_dice(expit(field)), abs=1e-4)
        assert 0 <= own <= 0.5


def flat_fields(*logits: float) -> npt.NDArray[np.float32]:
    """Coefficients that make a prediction's fields constant, where its first prototype is 1."""
    coefficients = np.zeros((len(logits), 32), np.float32)
    coefficients[:, 0] = logits
    return coefficients


def test_faint_masks_are_cut_lower_than_sure_ones_within_limits() -> None:
    found = synthetic_prediction(3, (90, 120), 128, seed=0)
    found.prototypes[0] = 1
    found = replace(found, coefficients=flat_fields(-4, 0, 6))
    cut = cut_each_best(found, 0.8)
    assert cut.own_thresholds is not None
    # flat fields of p: Dice of all cells is 2 p / (1 + p)
    np.testing.assert_allclose(cut.own_thresholds, (0.2, 0.8 * 0.5 / 1.5, 0.8 * 0.5), rtol=0.01)
    assert decode(cut).areas_px[1] == decode(found, threshold=0.3).areas_px[1] > 0
    assert cut_each_best(found, 9).own_thresholds == pytest.approx((0.2, 0.5, 0.5), abs=0.03)


def test_a_threshold_that_was_tightened_stays_and_others_do_not() -> None:
    found = synthetic_prediction(3, (90, 120), 128, seed=0)
    found.prototypes[0] = 1
    found = replace(
        found,
        coefficients=flat_fields(6, 6, 6),
        mask_threshold=0.3,
        own_thresholds=np.array((0.3, 0.65, 0.35), np.float32),
    )
    assert cut_each_best(found, 0.8).own_thresholds == pytest.approx((0.4, 0.65, 0.4), abs=0.01)


def test_boxes_without_a_cell_and_no_boxes_are_allowed() -> None:
    found = synthetic_prediction(2, (90, 120), 128, seed=0)
    outside = replace(found, boxes_xyxy=np.array([(-30, -30, -10, -10), (5, 5, 5, 5)], np.float32))
    assert best_thresholds(outside).tolist() == [0, 0]
    assert decode(cut_each_best(outside, 0.8)).areas_px.tolist() == [0, 0]
    none = replace(
        found,
        boxes_xyxy=found.boxes_xyxy[:0],
        boxes_network_xyxy=found.boxes_network_xyxy[:0],
        scores=found.scores[:0],
        coefficients=found.coefficients[:0],
    )
    assert best_thresholds(none).shape == (0,)


def test_what_is_not_finite_is_background() -> None:
    found = synthetic_prediction(1, (90, 120), 128, seed=0)
    found.prototypes[:, ::2] = np.nan
    assert np.isfinite(best_thresholds(found)).all()


def test_a_models_own_share_is_applied_and_official_models_have_none() -> None:
    image, network = np.zeros((128, 128, 3), np.uint8), HeadNetwork(4, (128, 128), 128)
    alike, each = (
        FastSAM(network, ModelInfo(name="made up", imgsz=128, conf=0.1, mask_threshold=0.05, threshold_share=share))
        for share in (0.0, 0.8)
    )
    assert ModelInfo(name="any").threshold_share == 0
    expected = alike.predict(image)
    assert expected.own_thresholds is None
    expected = cut_each_best(expected, 0.8)
    np.testing.assert_array_equal(each.segment(image).to_dense(), decode(expected).filter(min_area_px=1).to_dense())
    assert each.segment(image).areas_px.sum() < alike.segment(image).areas_px.sum()
