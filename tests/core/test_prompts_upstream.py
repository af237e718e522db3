"""The compatible modes give what ``ultralytics``' ``FastSAMPredictor.prompt`` gives on the same masks.

Left out, because the peer is wrong there and these modes are right on purpose:

- a box that touches no mask (empty, outside, or on background): the peer returns mask 0, we match nothing;
- reversed boxes, NaN and empty prompts: the peer returns mask 0 or raises from inside torch, we raise
  ``InvalidPromptError`` or return nothing;
- several boxes: the peer returns a set of masks in their own order, we one answer per box; the sets are compared;
- boxes and points in one call: the peer adds the masks of both, so a negative point removes nothing; here a prompt is
  of one kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsam_core._ultralytics import import_ultralytics
from fastsam_core.errors import InvalidPromptError
from fastsam_core.masks import Masks
from fastsam_core.prompts import Box, Points, match, select

if TYPE_CHECKING:
    from numpy.typing import NDArray

pytestmark = pytest.mark.upstream

torch = pytest.importorskip("torch")
HEIGHT, WIDTH = 20, 26


@pytest.fixture(scope="module")
def predictor() -> Any:
    """FastSAM's predictor without a model: ``prompt`` needs only a device."""
    peer = import_ultralytics("ultralytics.models.fastsam").FastSAMPredictor

    predictor = peer.__new__(peer)
    predictor.device = torch.device("cpu")
    return predictor


def _prompt(predictor: Any, masks: Masks, **prompt: Any) -> set[int]:
    """Ask the peer; masks are told apart afterwards by the confidence of their box, which counts them."""
    results_of = import_ultralytics("ultralytics.engine.results").Results

    rows = np.concatenate([masks.boxes_xyxy, np.arange(len(masks))[:, None], np.zeros((len(masks), 1))], axis=1)
    results = results_of(
        orig_img=np.zeros((HEIGHT, WIDTH, 3), np.uint8),
        path="",
        names={0: "object"},
        boxes=torch.from_numpy(rows.astype(np.float32)),
        masks=torch.from_numpy(masks.to_dense().astype(np.uint8)),
    )
    (answer,) = predictor.prompt(results, **prompt)
    return {int(k) for k in answer.boxes.conf}


@st.composite
def random_masks(draw: st.DrawFn) -> Masks:
    """One to seven overlapping masks, ragged or solid, some empty, some equal."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    stack = np.zeros((draw(st.integers(1, 7)), HEIGHT, WIDTH), bool)
    for layer in stack:
        y0, x0 = rng.integers(0, HEIGHT), rng.integers(0, WIDTH)
        layer[y0 : y0 + rng.integers(0, HEIGHT), x0 : x0 + rng.integers(0, WIDTH)] = True
        layer &= rng.random((HEIGHT, WIDTH)) > rng.choice([0.0, 0.4])
    if draw(st.booleans()):
        stack[-1] = stack[0]
    return Masks.from_dense(stack, rng.random(len(stack)))


_points = st.lists(
    st.tuples(st.floats(-4, HEIGHT + 4), st.floats(-4, WIDTH + 4), st.integers(0, 1)), min_size=1, max_size=8
)


@settings(deadline=None, max_examples=200)
@given(random_masks(), _points)
def test_union_equals_upstream_points(predictor: Any, masks: Masks, entries: list[tuple[float, float, int]]) -> None:
    table = np.array(entries)
    expected = _prompt(predictor, masks, points=table[:, [1, 0]], labels=table[:, 2])
    found = match(masks, Points(table[:, :2], table[:, 2], mode="union"))
    assert found.index.tolist() == sorted(expected)


@settings(deadline=None, max_examples=100)
@given(random_masks(), _points, st.lists(st.integers(0, 3), min_size=8, max_size=8))
def test_union_equals_upstream_group_by_group(
    predictor: Any, masks: Masks, entries: list[tuple[float, float, int]], numbers: list[int]
) -> None:
    table, groups = np.array(entries), np.array(numbers[: len(entries)])
    found = match(masks, Points(table[:, :2], table[:, 2], groups, mode="union"))
    for position, group in enumerate(np.unique(groups)):
        rows = table[groups == group]
        expected = _prompt(predictor, masks, points=rows[:, [1, 0]], labels=rows[:, 2])
        assert found.index[found.prompt_index == position].tolist() == sorted(expected)


def _boxes(corners: list[tuple[float, ...]]) -> NDArray[np.float64]:
    x, y = np.sort(np.array(corners)[:, :2], axis=1), np.sort(np.array(corners)[:, 2:], axis=1)
    return np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)


_corners = st.lists(
    st.tuples(*[st.floats(-5, WIDTH + 5)] * 2, *[st.floats(-5, HEIGHT + 5)] * 2), min_size=1, max_size=5
)


@settings(deadline=None, max_examples=200)
@given(random_masks(), _corners)
def test_upstream_boxes_equal_upstream(predictor: Any, masks: Masks, corners: list[tuple[float, ...]]) -> None:
    boxes = _boxes(corners)
    found = match(masks, Box(boxes, mode="upstream"))
    assert len(found) == len(boxes)
    for box, index in zip(boxes, found.index, strict=True):
        expected = _prompt(predictor, masks, bboxes=box)
        if index >= 0:
            assert expected == {index}
        else:  # the peer's mask 0, which the box does not touch
            x0, y0, x1, y1 = np.clip(np.trunc(box), 0, [WIDTH, HEIGHT] * 2).astype(int)
            assert not masks.to_dense()[:, y0:y1, x0:x1].any()
    if (found.index >= 0).all():
        assert _prompt(predictor, masks, bboxes=boxes) == set(found.index.tolist())


def test_where_the_peer_is_defective_the_answer_is_right(predictor: Any) -> None:
    stack = np.zeros((3, HEIGHT, WIDTH), bool)
    stack[0, :4, :4] = stack[1, 8:16, 8:16] = stack[2, 2:6, 12:20] = True
    masks = Masks.from_dense(stack)
    empty, outside, background = (9, 9, 9, 12), (30, 30, 40, 40), (0, 18, 6, 20)
    for box in (empty, outside, background):
        assert _prompt(predictor, masks, bboxes=[box]) == {0}
        assert match(masks, Box(box, mode="upstream")).index.tolist() == [-1]
    twice = [(12, 2, 20, 6), (8, 8, 16, 16), (12, 2, 20, 6)]
    assert _prompt(predictor, masks, bboxes=twice) == {1, 2}
    assert select(masks, Box(twice, mode="upstream")).extents_xyxy[:, 0].tolist() == [12, 8, 12]
    with pytest.raises(IndexError):
        _prompt(predictor, masks, points=[])
    assert len(match(masks, Points([], mode="union"))) == 0
    with pytest.raises(InvalidPromptError, match="reversed"):
        Box([(16, 16, 8, 8)], mode="upstream")
    with pytest.raises(AssertionError):
        _prompt(predictor, masks, points=[(1, 1)], labels=[1, 0])
    with pytest.raises(InvalidPromptError, match="labels"):
        Points([(1, 1)], labels=[1, 0], mode="union")
