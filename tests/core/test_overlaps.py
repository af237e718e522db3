"""Masks that overlap with surer ones lose score: on random masks against pixels, and in the model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import data

from fastsam_core import FastSAM, Masks
from fastsam_core.overlaps import demote_overlapping
from fastsam_core.testing import masks_strategy

PENALTIES = st.floats(0, 8)


def rectangles(*boxes_xyxy: tuple[int, int, int, int], side_px: int = 40) -> Masks:
    """Make filled rectangles, with scores from 0.9 downwards."""
    dense = np.zeros((len(boxes_xyxy), side_px, side_px), bool)
    for layer, (x0, y0, x1, y1) in zip(dense, boxes_xyxy, strict=True):
        layer[y0:y1, x0:x1] = True
    return Masks.from_dense(dense, (0.9 - 0.1 * np.arange(len(dense))).astype(np.float32))


@given(masks_strategy(), PENALTIES)
def test_scores_are_those_of_the_pixels(masks: Masks, penalty: float) -> None:
    masks = masks.filter(min_area_px=1).sort()
    dense = masks.to_dense().reshape(len(masks), masks.image_hw[0] * masks.image_hw[1])
    expected = []
    for i, mask in enumerate(dense):
        shared = (dense[:i] & mask).sum(axis=1)
        n = (masks.scores[:i] * (shared / (dense[:i] | mask).sum(axis=1) + shared / mask.sum() / 8)).sum()
        expected.append(masks.scores[i] / np.sqrt(1 + penalty * n))
    found = demote_overlapping(masks, penalty)
    np.testing.assert_allclose(found.scores, sorted(expected, reverse=True), rtol=1e-5)
    assert len(found) == len(masks)


@given(masks_strategy(), PENALTIES, st.floats(0, 1))
def test_fainter_masks_change_nothing(masks: Masks, penalty: float, conf: float) -> None:
    masks = masks.filter(min_area_px=1)
    of_all = demote_overlapping(masks, penalty).filter(min_score=conf)
    of_sure = demote_overlapping(masks.filter(min_score=conf), penalty).filter(min_score=conf)
    np.testing.assert_array_equal(of_all.scores, of_sure.scores)
    np.testing.assert_array_equal(of_all.to_dense(), of_sure.to_dense())


def test_pieces_lose_more_than_parts_and_neighbours_nothing() -> None:
    whole, piece, part, neighbour = (0, 0, 20, 20), (0, 0, 20, 12), (8, 8, 11, 11), (20, 0, 40, 20)
    for other, kept in ((piece, (0.5, 0.75)), (part, (0.85, 0.95)), (neighbour, (1, 1))):
        found = demote_overlapping(rectangles(whole, other), 2)
        assert found.scores[0] == np.float32(0.9)
        low, high = kept
        assert low <= found.scores[1] / np.float32(0.8) <= high


def test_the_rank_changes() -> None:
    masks = rectangles((0, 0, 20, 20), (0, 0, 20, 18), (20, 20, 30, 30))
    assert demote_overlapping(masks, 4).areas_px.tolist() == [400, 100, 360]
    assert demote_overlapping(masks, 0).areas_px.tolist() == [400, 360, 100]
    assert len(demote_overlapping(masks[:0], 4)) == 0


@pytest.mark.slow
def test_the_built_in_model_shows_what_it_chooses_from() -> None:
    model = FastSAM.load("builtin")
    assert model.info.overlap_penalty > 0
    image = data.coffee()
    shown = model.segment(image)
    among = model.segment(image, conf=0.01).filter(min_score=model.info.conf)
    np.testing.assert_array_equal(shown.scores, among.scores)
    np.testing.assert_array_equal(shown.to_dense(), among.to_dense())
    assert np.all(np.diff(shown.scores) <= 0)
