"""Answers from embeddings: which masks fit, which fit best, and that sometimes nothing does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsam_core import Masks, Text, select
from fastsam_core.errors import InvalidMasksError, InvalidParameterError, InvalidPromptError
from fastsam_core.text import (
    EncoderTraits,
    classify_masks,
    find_similar,
    match_text,
    score_texts,
    select_text,
    similarities,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

AXES = {"x": 0, "y": 1, "z": 2, "nothing": 3}


class AxisEncoder:
    """Knows four words, each a vector along an axis of its own."""

    width = 4
    slope = 20.0
    threshold = 0.5
    traits = EncoderTraits(negatives=("nothing",), offset=-1.0)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = np.eye(4, dtype=np.float32)[[AXES[text] for text in texts]].reshape(-1, 4)
        return rows


@pytest.fixture
def axes() -> Any:
    return AxisEncoder()


def _embeddings(*rows: Sequence[float]) -> NDArray[np.float32]:
    table = np.array(rows, np.float32)
    table /= np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9)
    return table


# 0: x, 1: mostly y, 2: x and z alike, 3: none of them, 4: a mask without a pixel
EMBEDDINGS = _embeddings((1, 0, 0, 0), (0.3, 1, 0, 0), (1, 0, 1, 0), (0, 0, 0, 1), (0, 0, 0, 0))


@pytest.fixture
def five() -> Masks:
    dense = np.zeros((5, 4, 10), bool)
    for index in range(4):
        dense[index, :, 2 * index : 2 * index + 2] = True
    return Masks.from_dense(dense)


def test_scores_follow_the_formula(axes: Any) -> None:
    scores = score_texts(axes, EMBEDDINGS, Text(["x", "y"], negatives=["z"]))
    np.testing.assert_allclose(scores.cosines[0], [1, 0.3 / np.hypot(0.3, 1), np.sqrt(0.5), 0, 0], atol=1e-6)
    against = EMBEDDINGS[:, 2:].max(1)  # the prompt's negative z and the encoder's own
    expected = 1 / (1 + np.exp(1 - 20 * (scores.cosines - against)))
    np.testing.assert_allclose(scores.probabilities[:, :4], expected[:, :4], atol=1e-6)
    np.testing.assert_array_equal(scores.probabilities[:, 4], 0)


def test_embeddings_may_be_read_only_and_lie_in_memory_as_they_like(axes: Any) -> None:
    rng = np.random.default_rng(4)
    wide = rng.normal(size=(7, 8)).astype(np.float32)[::-1, ::2]
    wide.flags.writeable = False
    cosines = score_texts(axes, wide, Text(["x", "z"])).cosines
    assert cosines.dtype == np.float64
    np.testing.assert_allclose(cosines, wide[:, [0, 2]].T, atol=1e-6)


def test_best_takes_one_mask_for_each_text(axes: Any) -> None:
    matches = match_text(axes, EMBEDDINGS, Text(["y", "z", "x"]))
    np.testing.assert_array_equal(matches.index, [1, 2, 0])
    np.testing.assert_array_equal(matches.prompt_index, [0, 1, 2])


def test_nothing_fits(axes: Any, five: Masks) -> None:
    few = np.array([3, 4])
    prompt = Text(["x", "z"])
    np.testing.assert_array_equal(match_text(axes, EMBEDDINGS[few], prompt).index, [-1, -1])
    assert len(select_text(axes, five[few], EMBEDDINGS[few], prompt)) == 0


def test_a_threshold_of_zero_always_answers_with_a_mask_that_has_pixels(axes: Any) -> None:
    matches = match_text(axes, EMBEDDINGS[3:], Text("x", threshold=0))
    np.testing.assert_array_equal(matches.index, [0])


def test_negatives_take_masks_away(axes: Any, five: Masks) -> None:
    assert select_text(axes, five, EMBEDDINGS, Text("x", mode="all")).extents_xyxy[:, 0].tolist() == [0, 4, 2]
    without = select_text(axes, five, EMBEDDINGS, Text("x", negatives=["z", "y"], mode="all", threshold=0.6))
    assert without.extents_xyxy[:, 0].tolist() == [0]


def test_top_k_is_the_start_of_all(axes: Any, five: Masks) -> None:
    every = select_text(axes, five, EMBEDDINGS, Text(["x", "z"], mode="all"))
    np.testing.assert_array_equal(every.fields["prompt_index"], [0, 0, 0, 1])
    top = select_text(axes, five, EMBEDDINGS, Text(["x", "z"], mode="top_k", k=2))
    np.testing.assert_array_equal(top.fields["prompt_index"], [0, 0, 1])
    np.testing.assert_array_equal(top.fields["prompt_score"][:2], every.fields["prompt_score"][:2])
    np.testing.assert_allclose(top.fields["text_cosine"], [1, np.sqrt(0.5), np.sqrt(0.5)], atol=1e-6)


def test_a_generic_negative_may_be_asked_for(axes: Any) -> None:
    matches = match_text(axes, EMBEDDINGS, Text("nothing"))
    np.testing.assert_array_equal(matches.index, [3])


@given(st.integers(0, 12), st.sampled_from(["best", "all", "top_k"]), st.integers(0, 1000))
def test_answers_are_sorted_above_the_threshold_and_each_mask_once(count: int, mode: Any, seed: int) -> None:
    encoder: Any = AxisEncoder()
    rows = np.random.default_rng(seed).normal(size=(count, 4))
    embeddings = _embeddings(*rows) if count else np.empty((0, 4), np.float32)
    prompt = Text(["x", "y"], mode=mode, k=3, threshold=0.3)
    scores = score_texts(encoder, embeddings, prompt).probabilities
    matches = match_text(encoder, embeddings, prompt)
    for query in (0, 1):
        index = matches.index[(matches.prompt_index == query) & (matches.index >= 0)]
        fitting = np.flatnonzero(scores[query] >= 0.3)
        assert len(set(index.tolist())) == len(index) == min(len(fitting), {"best": 1, "all": count, "top_k": 3}[mode])
        assert (np.diff(scores[query][index]) <= 0).all()
        if len(index):
            assert scores[query][index[0]] == scores[query].max()


def test_classes(axes: Any) -> None:
    index, probability = classify_masks(axes, EMBEDDINGS, ["z", "x", "y"])
    np.testing.assert_array_equal(index[[0, 1, 3, 4]], [1, 2, -1, -1])
    assert index[2] in (0, 1)
    assert (probability[:3] > 0.9).all()
    np.testing.assert_array_equal(probability[3:], 0)
    index, _ = classify_masks(axes, EMBEDDINGS, ["x"], negatives=["z"], threshold=0.6)
    np.testing.assert_array_equal(index, [0, 0, -1, -1, -1])  # mask 2 is as much z as it is x
    with pytest.raises(InvalidPromptError):
        classify_masks(axes, EMBEDDINGS, [])


def test_embeddings_of_another_encoder(axes: Any, five: Masks) -> None:
    with pytest.raises(InvalidMasksError, match="do not fit the encoder"):
        score_texts(axes, EMBEDDINGS[:, :3], Text("x"))
    with pytest.raises(InvalidMasksError, match="needs its embedding"):
        select_text(axes, five[:2], EMBEDDINGS, Text("x"))


def test_without_the_image_text_says_what_to_do(five: Masks) -> None:
    with pytest.raises(InvalidPromptError, match=r"fastsam_core\.text"):
        select(five, Text("x"))


# ---- similar masks ------------------------------------------------------------------------------------------------


def test_similar_masks_come_after_the_examples(five: Masks) -> None:
    found = find_similar(five, EMBEDDINGS, [2], threshold=0.5)
    assert found.extents_xyxy[:, 0].tolist() == [4, 0]
    np.testing.assert_allclose(found.fields["prompt_score"], [1, np.sqrt(0.5)], atol=1e-6)
    assert len(find_similar(five, EMBEDDINGS, [2])) == 1
    assert find_similar(five, EMBEDDINGS, [2], k=3).extents_xyxy[:, 0].tolist()[:2] == [4, 0]


def test_examples_from_another_image(five: Masks) -> None:
    found = find_similar(five, EMBEDDINGS, np.array([[0, 1, 0, 0]], np.float32), threshold=0.9)
    assert found.extents_xyxy[:, 0].tolist() == [2]


def test_the_mean_of_examples_counts() -> None:
    cosines = similarities(EMBEDDINGS, [0, 1])
    mean = EMBEDDINGS[0] + EMBEDDINGS[1]
    np.testing.assert_allclose(cosines, EMBEDDINGS @ mean / np.linalg.norm(mean), atol=1e-6)


@pytest.mark.parametrize("examples", [[], [5], [-6], [4], np.zeros((1, 3), np.float32), np.zeros((2, 4), np.float32)])
def test_examples_that_are_none(examples: Any) -> None:
    with pytest.raises(InvalidPromptError):
        similarities(EMBEDDINGS, examples)


def test_k_below_one(five: Masks) -> None:
    with pytest.raises(InvalidParameterError):
        find_similar(five, EMBEDDINGS, [0], k=0)


@pytest.mark.parametrize("wrong", [None, "x", 3, np.zeros(4)])
def test_arguments_of_another_kind_are_named(axes: Any, five: Masks, wrong: Any) -> None:
    with pytest.raises(InvalidPromptError, match="no text prompt"):
        select_text(axes, five, EMBEDDINGS, wrong)
    with pytest.raises(InvalidMasksError, match="no masks"):
        select_text(axes, wrong, EMBEDDINGS, Text("x"))
    for answer in (match_text, score_texts):
        with pytest.raises(InvalidMasksError, match="embed_masks"):
            answer(axes, wrong, Text("x"))
        with pytest.raises(InvalidParameterError, match=r"TextEncoder\.load"):
            answer(wrong, EMBEDDINGS, Text("x"))
    with pytest.raises(InvalidMasksError, match="embed_masks"):
        find_similar(five, wrong, [0])
    with pytest.raises(InvalidMasksError, match="embed_masks"):
        similarities(wrong, [0])


@pytest.mark.parametrize("wrong", ["x", [1], -0.5, float("nan")])
def test_limits_that_are_none(axes: Any, five: Masks, wrong: Any) -> None:
    with pytest.raises(InvalidParameterError, match="k is"):
        find_similar(five, EMBEDDINGS, [0], k=wrong)
    with pytest.raises(InvalidParameterError, match="threshold is"):
        classify_masks(axes, EMBEDDINGS, ["x"], threshold=wrong)


def test_classes_that_are_none(axes: Any) -> None:
    for wrong in (None, 3, [], [None], [""]):
        with pytest.raises(InvalidPromptError):
            classify_masks(axes, EMBEDDINGS, wrong)  # type: ignore[arg-type]
    np.testing.assert_array_equal(classify_masks(axes, EMBEDDINGS, "x")[0], classify_masks(axes, EMBEDDINGS, ["x"])[0])
