"""A threshold for each image: the F1 to expect, by hand and against drawn outcomes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsam_core import FastSAM, iter_segment
from fastsam_core.checkpoints import ModelInfo
from fastsam_core.confidence import best_conf, expected_f1
from fastsam_core.errors import InvalidParameterError
from fastsam_core.testing import RectangleNetwork
from fastsam_core.tiling import segment_tiles

IMAGE = np.zeros((64, 96, 3), np.uint8)
BOXES_XYXY = ((4, 4, 24, 24), (30, 4, 50, 24), (60, 4, 80, 24), (4, 34, 24, 54), (30, 34, 50, 54))


def test_expected_f1_by_hand() -> None:
    assert expected_f1([0.2, 1.0, 0.3]).tolist() == pytest.approx([2 / 2.5, 2.6 / 3.5, 3 / 4.5])
    assert expected_f1([]).tolist() == []
    assert best_conf([0.2, 1.0, 0.3]) == 1.0
    assert best_conf([]) == 1.0
    assert best_conf([0.0, 0.0]) == 0.0


def test_faint_masks_stay_among_faint_ones_and_go_beside_sure_ones() -> None:
    faint = np.linspace(0.2, 0.22, 20)
    assert best_conf(faint) == pytest.approx(0.2)
    assert best_conf([*[0.95] * 20, *faint[:5]]) == pytest.approx(0.95)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(40, 200))
def test_of_masks_as_right_as_their_scores_say_no_threshold_is_much_better(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.beta(0.4, 0.8, count)
    right = rng.random((400, count)) < scores
    chosen = best_conf(scores)

    def mean_f1(conf: float) -> float:
        kept = scores >= conf
        return float(np.mean(2 * right[:, kept].sum(axis=1) / np.maximum(kept.sum() + right.sum(axis=1), 1)))

    assert mean_f1(chosen) >= max(mean_f1(conf) for conf in scores) - 0.02


def test_each_image_is_cut_at_a_threshold_of_its_own() -> None:
    def model(*scores: float) -> FastSAM:
        return FastSAM(RectangleNetwork(BOXES_XYXY, scores), ModelInfo(name="rectangles", imgsz=96, conf=0.4))

    sure, faint = model(0.95, 0.95, 0.95, 0.95, 0.1), model(0.12, 0.12, 0.13, 0.13, 0.14)
    assert [len(made.segment(IMAGE)) for made in (sure, faint)] == [4, 0]
    assert [len(made.segment(IMAGE, conf="auto")) for made in (sure, faint)] == [4, 5]
    assert sure.segment(IMAGE, conf="auto").metadata["conf"] == pytest.approx(0.95)
    [step] = iter_segment([IMAGE], faint, conf="auto")
    assert step.masks is not None
    assert len(step.masks) == 5
    assert not faint.segment(IMAGE, conf="auto", max_det=6).at_limit
    with pytest.raises(InvalidParameterError, match="conf"):
        sure.segment(IMAGE, conf="best")  # type: ignore[arg-type]
    [tile] = segment_tiles(IMAGE, faint, conf="auto")
    assert tile.result is not None
    assert len(tile.result) == 5


@pytest.mark.parametrize("scores", ["a", [[0.1], [0.2, 0.3]], {}])
def test_what_are_no_scores(scores: Any) -> None:
    with pytest.raises(InvalidParameterError, match="scores"):
        best_conf(scores)
