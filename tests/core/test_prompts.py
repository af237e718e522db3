"""Prompts against a brute-force reading of the documented rules, on dense masks and by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.draw import disk

from fastsam_core.errors import InvalidMasksError, InvalidPromptError
from fastsam_core.masks import Masks
from fastsam_core.prompts import Box, Points, Polygon, Text, match, nesting, select

if TYPE_CHECKING:
    from fastsam_core.prompts import Prompt

Dense = NDArray[np.bool_]

HEIGHT, WIDTH = 24, 32


def _rectangles(*boxes_xyxy: tuple[int, int, int, int], scores: list[float] | None = None) -> Masks:
    stack = np.zeros((len(boxes_xyxy), HEIGHT, WIDTH), bool)
    for layer, (x0, y0, x1, y1) in zip(stack, boxes_xyxy, strict=True):
        layer[y0:y1, x0:x1] = True
    return Masks.from_dense(stack, None if scores is None else np.array(scores))


@st.composite
def dense_masks(draw: st.DrawFn, max_masks: int = 6) -> tuple[Dense, NDArray[np.float64]]:
    """Random overlapping masks (rectangles with holes knocked out, some empty) and scores."""
    count = draw(st.integers(0, max_masks))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    stack = np.zeros((count, HEIGHT, WIDTH), bool)
    for layer in stack:
        y0, x0 = rng.integers(0, HEIGHT), rng.integers(0, WIDTH)
        layer[y0 : y0 + rng.integers(0, HEIGHT), x0 : x0 + rng.integers(0, WIDTH)] = True
        layer &= rng.random((HEIGHT, WIDTH)) > rng.choice([0.0, 0.3])
    return stack, rng.integers(0, 5, count) / 4


@pytest.fixture
def nested() -> Masks:
    """Return group, object and part around (10, 10), a neighbour, and a near-duplicate of the object."""
    return _rectangles(
        (0, 0, 31, 23),
        (4, 4, 20, 18),
        (8, 8, 13, 13),
        (22, 2, 30, 20),
        (4, 4, 20, 17),
        scores=[0.5, 0.9, 0.6, 0.8, 0.7],
    )


# ---- points -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "expected"), [("part", 2), ("object", 1), ("group", 0), ("auto", 2)])
def test_level_chooses_within_the_nested_masks(nested: Masks, level: Any, expected: int) -> None:
    found = match(nested, Points((10.5, 10.5), level=level))
    assert found.index.tolist() == [expected]
    np.testing.assert_allclose(found.score, nested.scores[expected])


def test_auto_asks_of_a_part_the_score_that_its_size_needs() -> None:
    eight_times_as_large = (4, 4, 20, 12), (8, 6, 12, 10)
    surer, fainter = ([0.9, score] for score in (0.46, 0.44))
    assert match(_rectangles(*eight_times_as_large, scores=surer), Points((8, 10))).index.tolist() == [1]
    assert match(_rectangles(*eight_times_as_large, scores=fainter), Points((8, 10))).index.tolist() == [0]


@pytest.mark.parametrize(("score", "part", "group"), [(0.19, 0, 0), (0.17, 1, 1)])
def test_part_and_group_pass_over_dubious_masks(score: float, part: int, group: int) -> None:
    inner = _rectangles((8, 8, 13, 13), (4, 4, 20, 18), scores=[score, 0.9])
    assert match(inner, Points((10, 10), level="part")).index.tolist() == [part]
    outer = _rectangles((0, 0, 31, 23), (4, 4, 20, 18), scores=[score, 0.9])
    assert match(outer, Points((10, 10), level="group")).index.tolist() == [group]


def test_object_leaves_a_scene_aside_unless_it_is_all_there_is() -> None:
    masks = _rectangles((0, 0, 32, 24), (4, 4, 20, 18), scores=[0.9, 0.3])
    assert match(masks, Points((10, 10), level="object")).index.tolist() == [1]
    assert match(masks, Points((1, 1), level="object")).index.tolist() == [0]


def test_nesting_goes_from_part_to_group_without_near_duplicates(nested: Masks) -> None:
    assert nesting(nested, (10, 10)).tolist() == [2, 1, 0]
    assert nesting(nested, (5, 25)).tolist() == [3, 0]
    assert nesting(nested, (23.5, 31.5)).tolist() == []
    with pytest.raises(InvalidPromptError, match="one point"):
        nesting(nested, [(1, 1), (2, 2)])


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 14), st.integers(0, 14))
def test_nesting_joins_masks_from_an_iou_of_nine_tenths(seed: int, removed: int, added: int) -> None:
    rng = np.random.default_rng(seed)
    stack = np.zeros((2, HEIGHT, WIDTH), bool)
    stack[:, 5:17, 6:20] = True
    inner = [pixel for pixel in np.argwhere(stack[1]).tolist() if pixel != [10, 10]]
    for y, x in rng.permutation(inner)[:removed]:
        stack[1, y, x] = False
    for y, x in rng.permutation(np.argwhere(~stack[0]))[:added]:
        stack[1, y, x] = True
    iou = (stack[0] & stack[1]).sum() / (stack[0] | stack[1]).sum()
    assert len(nesting(Masks.from_dense(stack), (10, 10))) == (1 if iou > 0.9 else 2)


def test_all_positives_are_covered_and_all_negatives_avoided(nested: Masks) -> None:
    assert match(nested, Points([(10, 10), (5, 5)])).index.tolist() == [1]
    not_the_object = Points([(10, 10), (5, 5)], labels=[1, 0], level="group")
    assert match(nested, not_the_object).index.tolist() == [2]


def test_the_most_positives_win_if_no_mask_covers_all(nested: Masks) -> None:
    points = Points([(10, 10), (10, 11), (23, 31)], level="part")
    found = match(nested, points)
    assert found.index.tolist() == [2]
    np.testing.assert_allclose(found.score, [2 / 3 * 0.6], rtol=1e-6)


def test_groups_are_answered_in_ascending_order_each_with_its_own_negatives(nested: Masks) -> None:
    points = Points([(10, 25), (10, 10), (12, 12), (10, 25)], labels=[1, 1, 0, 0], groups=[7, 3, 3, 5], level="part")
    found = match(nested, points)
    assert found.index.tolist() == [-1, -1, 3]  # 3: every mask at (10, 10) holds (12, 12) too; 5: only a negative
    assert found.score[:2].tolist() == [0.0, 0.0]
    chosen = select(nested, points)
    assert chosen.fields["prompt_index"].tolist() == [2]
    np.testing.assert_allclose(chosen.fields["prompt_score"], [0.8], rtol=1e-6)
    np.testing.assert_array_equal(chosen.to_dense()[0], nested.to_dense()[3])


def test_union_returns_every_hit_mask_but_those_of_negatives(nested: Masks) -> None:
    found = match(nested, Points([(10, 10), (10, 25), (1, 1)], labels=[1, 1, 0], mode="union"))
    assert found.index.tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(found.score, nested.scores[1:] / 2)
    only_negative = match(nested, Points([(10, 10)], labels=[0], mode="union"))
    assert only_negative.index.tolist() == [3]
    by_group = match(nested, Points([(10, 25), (10, 10)], groups=[1, 0], mode="union"))
    assert list(zip(by_group.prompt_index.tolist(), by_group.index.tolist(), strict=True)) == [
        (0, 0), (0, 1), (0, 2), (0, 4), (1, 0), (1, 3),
    ]  # fmt: skip


def test_points_outside_the_image_match_nothing(nested: Masks) -> None:
    outside = [(-0.1, 5), (5, -1), (24, 5), (5, 32), (1e300, -1e300)]
    assert match(nested, Points(outside, groups="each")).index.tolist() == [-1] * 5
    assert len(select(nested, Points(outside, groups="each"))) == 0


def _best_by_hand(
    stack: Dense, scores: NDArray[np.float64], points: NDArray[np.float64], labels: NDArray[np.int64], level: str
) -> tuple[int, float]:
    """Read the rules of ``Points`` off dense masks."""
    pixels = np.floor(points).astype(int)
    inside = ((pixels >= 0) & (pixels < (HEIGHT, WIDTH))).all(axis=1)
    hits = np.zeros((len(points), len(stack)), bool)
    hits[inside] = stack[:, pixels[inside, 0], pixels[inside, 1]].T
    covered = hits[labels == 1].sum(axis=0)
    covered[hits[labels == 0].any(axis=0)] = 0
    if not covered.any():
        return -1, 0.0
    areas = stack.sum(axis=(1, 2))
    best = np.flatnonzero(covered == covered.max()).tolist()
    likely = [i for i in best if scores[i] >= 0.2 * scores[best].max()]
    kept: list[int] = []
    for i in sorted(likely, key=lambda i: (-scores[i], areas[i], i)):
        ious = [(stack[i] & stack[k]).sum() / (stack[i] | stack[k]).sum() for k in kept]
        if not ious or max(ious) <= 0.9:
            kept.append(int(i))
    kept.sort(key=lambda i: areas[i])
    small = [i for i in best if areas[i] <= 0.5 * HEIGHT * WIDTH]
    if level == "object" and small:
        chosen = min(small, key=lambda i: (-scores[i], areas[i], i))
    elif level == "auto":
        chosen = min(best, key=lambda i: (-scores[i] / np.cbrt(areas[i]), areas[i], i))
    else:
        chosen = kept[-1] if level == "group" else kept[0]
    return chosen, covered.max() / (labels == 1).sum() * scores[chosen]


@settings(deadline=None, max_examples=150)
@given(
    dense_masks(),
    st.lists(
        st.tuples(st.floats(-3, HEIGHT + 3), st.floats(-3, WIDTH + 3), st.integers(0, 1), st.integers(0, 12)),
        max_size=25,
    ),
    st.sampled_from(["part", "object", "group", "auto"]),
)
def test_points_follow_the_documented_rules(
    masks: tuple[Dense, NDArray[np.float64]], entries: list[tuple[float, float, int, int]], level: Any
) -> None:
    stack, scores = masks
    table = np.array(entries, float).reshape(-1, 4)
    points, labels, groups = table[:, :2], table[:, 2].astype(np.int64), table[:, 3]
    found = match(Masks.from_dense(stack, scores), Points(points, labels, groups, level=level))
    expected = [
        _best_by_hand(stack, scores, points[groups == g], labels[groups == g], level) for g in np.unique(groups)
    ]
    assert found.index.tolist() == [index for index, _ in expected]
    np.testing.assert_allclose(found.score, [score for _, score in expected], rtol=1e-6)


@settings(deadline=None, max_examples=60)
@given(dense_masks(), st.floats(0, HEIGHT), st.floats(0, WIDTH), st.sampled_from(["part", "object", "group", "auto"]))
def test_repeating_masks_does_not_change_the_answer(
    masks: tuple[Dense, NDArray[np.float64]], y: float, x: float, level: Any
) -> None:
    stack, scores = masks
    once = select(Masks.from_dense(stack, scores), Points((y, x), level=level))
    both = Masks.from_dense(np.concatenate([stack, stack]), np.concatenate([scores, scores / 2]))
    np.testing.assert_array_equal(select(both, Points((y, x), level=level)).to_dense(), once.to_dense())


def test_a_grid_is_answered_in_one_call_as_point_by_point() -> None:
    rng = np.random.default_rng(3)
    stack = np.zeros((40, 100, 100), bool)
    for layer in stack:
        layer[disk(rng.integers(0, 100, 2), rng.integers(3, 30), shape=(100, 100))] = True
    masks = Masks.from_dense(stack, rng.random(40))
    grid = np.argwhere(np.ones((100, 100), bool)) + 0.5
    found = match(masks, Points(grid, groups="each"))
    assert found.index.shape == (10_000,)
    np.testing.assert_array_equal(found.index >= 0, stack.any(axis=0).ravel())
    some = rng.choice(10_000, 50, replace=False)
    assert [match(masks, Points(grid[k])).index[0] for k in some] == found.index[some].tolist()


# ---- boxes ------------------------------------------------------------------------------------------------------


def test_boxes_are_answered_one_to_one_in_order(nested: Masks) -> None:
    boxes = Box([(22, 2, 30, 20), (8, 8, 13, 13), (22, 2, 30, 20), (4, 4, 20, 18)])
    found = match(nested, boxes)
    assert found.index.tolist() == [3, 2, 3, 1]
    assert found.score.tolist() == [1.0] * 4
    assert select(nested, boxes).fields["prompt_index"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("mode", ["best", "upstream"])
def test_boxes_that_touch_nothing_match_nothing(mode: Any) -> None:
    masks = _rectangles((4, 4, 20, 18))
    for box in [
        (25, 20, 30, 24),
        (40, 40, 50, 50),
        (-9, -9, 0, 0),
        (5, 5, 5, 9),
        (6.6, 6, 6.9, 9),
        (-1e200, 0, -1e199, 1),
    ]:
        found = match(masks, Box(box, mode=mode))
        assert (found.index.tolist(), found.score.tolist()) == ([-1], [0.0])


def test_min_iou_decides_what_is_no_match() -> None:
    masks = _rectangles((0, 0, 20, 20))
    assert match(masks, Box((0, 0, 20, 5))).index.tolist() == [0]  # IoU 0.25
    assert match(masks, Box((0, 0, 20, 3))).index.tolist() == [-1]  # IoU 0.15
    np.testing.assert_allclose(match(masks, Box((0, 0, 20, 3), min_iou=0.15)).score, [0.15])
    assert match(masks, Box((0, 0, 20, 3), mode="upstream")).index.tolist() == [0]


def test_equal_ious_go_to_the_higher_score() -> None:
    masks = _rectangles((4, 4, 9, 9), (4, 4, 9, 9), (4, 4, 9, 9), scores=[0.3, 0.7, 0.7])
    assert match(masks, Box((4, 4, 9, 9))).index.tolist() == [1]
    assert match(masks, Box((4, 4, 9, 9), mode="upstream")).index.tolist() == [0]


def test_a_box_is_compared_with_bounding_boxes() -> None:
    stack = np.zeros((2, HEIGHT, WIDTH), bool)
    stack[0][np.arange(4, 20), np.arange(4, 20)] = True  # a diagonal that the box is drawn around
    stack[1, 6:18, 6:18] = True
    masks = Masks.from_dense(stack)
    assert match(masks, Box((4, 4, 20, 20))).index.tolist() == [0]
    assert match(masks, Box((4, 4, 20, 20), mode="upstream")).index.tolist() == [1]


def test_of_masks_that_fit_a_box_alike_the_surer_one_answers() -> None:
    box = (4, 4, 24, 20)
    faint, sure = (4, 4, 24, 20), (5, 5, 24, 20)
    assert match(_rectangles(faint, sure, scores=[0.02, 0.8]), Box(box)).index.tolist() == [1]
    assert match(_rectangles(faint, (9, 9, 20, 16), scores=[0.02, 0.8]), Box(box)).index.tolist() == [0]


def test_many_selects_all_masks_inside_a_rectangle(nested: Masks) -> None:
    found = match(nested, Box([(3, 3, 20, 17), (21, 0, 32, 24)], many=True))
    assert list(zip(found.prompt_index.tolist(), found.index.tolist(), strict=True)) == [(0, 1), (0, 2), (0, 4), (1, 3)]
    np.testing.assert_allclose(found.score, [13 / 14, 1, 1, 1])


def _pixels_of_box(box: tuple[float, float, float, float]) -> Dense:
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    pixels: Dense = (box[0] <= x) & (x < box[2]) & (box[1] <= y) & (y < box[3])
    return pixels


@settings(deadline=None, max_examples=150)
@given(dense_masks(), st.lists(st.tuples(*[st.floats(-5, 40)] * 4), max_size=4), st.sampled_from([0.0, 0.2, 0.6]))
def test_boxes_follow_the_documented_rules(
    masks: tuple[Dense, NDArray[np.float64]], corners: list[tuple[float, ...]], min_iou: float
) -> None:
    stack, scores = masks
    boxes = [(min(a, b), min(c, d), max(a, b), max(c, d)) for a, b, c, d in corners]
    found = match(Masks.from_dense(stack, scores), Box(np.array(boxes).reshape(-1, 4), min_iou))
    inside = match(Masks.from_dense(stack, scores), Box(np.array(boxes).reshape(-1, 4), many=True, min_inside=0.5))
    for k, box in enumerate(boxes):
        pixels = _pixels_of_box(box)
        iou = [(pixels & around).sum() / max(int((pixels | around).sum()), 1) for around in map(_filled, stack)]
        touching = [i for i in range(len(iou)) if iou[i] > 0]
        first = min(touching, key=lambda i: (-iou[i] * np.sqrt(np.sqrt(scores[i])), i), default=-1)
        if first >= 0 and iou[first] >= min_iou:
            assert (found.index[k], found.score[k]) == (first, iou[first])
        else:
            assert (found.index[k], found.score[k]) == (-1, 0.0)
        most = [i for i, layer in enumerate(stack) if layer.any() and (pixels & layer).sum() >= 0.5 * layer.sum()]
        assert inside.index[inside.prompt_index == k].tolist() == most


def _filled(layer: Dense) -> Dense:
    """Fill the bounding box of a mask."""
    out = np.zeros_like(layer)
    if layer.any():
        rows, columns = np.flatnonzero(layer.any(axis=1)), np.flatnonzero(layer.any(axis=0))
        out[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return out


# ---- nothing to answer, bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "entries"),
    [
        (Points([(1, 1), (2, 2)], groups="each"), 2),
        (Points([(1, 1)], mode="union"), 0),
        (Box([(0, 0, 4, 4)]), 1),
        (Box([(0, 0, 4, 4)], mode="upstream"), 1),
        (Box([(0, 0, 4, 4)], many=True), 0),
        (Polygon([(0, 0), (0, 4), (4, 4)]), 1),
        (Polygon([(0, 0), (0, 4), (4, 4)], "scribble"), 1),
        (Polygon([(0, 0), (0, 4), (4, 4)], many=True), 0),
    ],
)
def test_no_masks_answer_nothing(prompt: Prompt, entries: int) -> None:
    masks = Masks.empty((HEIGHT, WIDTH))
    assert match(masks, prompt).index.tolist() == [-1] * entries
    assert match(masks, prompt).prompt_index.tolist() == list(range(entries))
    chosen = select(masks, prompt)
    assert len(chosen) == 0
    assert set(chosen.fields) == {"prompt_index", "prompt_score"}
    assert len(nesting(masks, (1, 1))) == 0


@pytest.mark.parametrize(
    "prompt",
    [
        Points([]),
        Points(np.empty((0, 2)), labels=[], groups=[]),
        Points([], mode="union"),
        Box([]),
        Box(np.empty((0, 4)), mode="upstream"),
        Box([], many=True),
        Polygon([]),
        Polygon([], "scribble"),
    ],
)
def test_empty_prompts_have_empty_answers(nested: Masks, prompt: Prompt) -> None:
    for masks in (nested, Masks.empty((HEIGHT, WIDTH))):
        assert len(match(masks, prompt)) == 0
        assert len(select(masks, prompt)) == 0


def test_masks_without_pixels_are_never_chosen() -> None:
    masks = Masks.from_dense(np.zeros((3, HEIGHT, WIDTH), bool))
    assert match(masks, Points((0.5, 0.5))).index.tolist() == [-1]
    assert match(masks, Box((0, 0, 9, 9), min_iou=0)).index.tolist() == [-1]
    assert len(match(masks, Box((0, 0, 9, 9), many=True, min_inside=0))) == 0
    assert match(masks, Polygon([(0, 0), (0, 9), (9, 9)], threshold=0)).index.tolist() == [-1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Points([(1, 2), (np.nan, 3)]), r"points_yx\[1\] is not finite"),
        (lambda: Points([(1, 2, 3)]), "shape"),
        (lambda: Points([[1, 2], [3]]), "regular"),
        (lambda: Points([("a", "b")]), "real numbers"),
        (lambda: Points([(1j, 2)]), "real numbers"),
        (lambda: Points(np.zeros((2, 2, 2))), "shape"),
        (lambda: Points([(1, 2)], labels=[1, 0]), "labels does not match"),
        (lambda: Points([(1, 2)], labels=[2]), r"labels\[0\] is not a label"),
        (lambda: Points([(1, 2), (3, 4)], labels=[1, np.nan]), r"labels\[1\] is not a whole number"),
        (lambda: Points([(1, 2)], labels=["yes"]), "numbers"),
        (lambda: Points([(1, 2)], groups=[0, 1]), "groups does not match"),
        (lambda: Points([(1, 2)], groups="all"), "groups is unknown"),
        (lambda: Points([(1, 2)], mode="worst"), "mode is unknown"),  # type: ignore[arg-type]
        (lambda: Points([(1, 2)], level="cell"), "level is unknown"),  # type: ignore[arg-type]
        (lambda: Box([(0, 0, 4, 4), (9, 0, 4, 4)]), r"boxes_xyxy\[1\] is reversed"),
        (lambda: Box([(0, np.inf, 4, 4)]), r"boxes_xyxy\[0\] is not finite"),
        (lambda: Box([(0, 0, 4)]), "shape"),
        (lambda: Box((0, 0, 4, 4), min_iou=1.5), "min_iou is out of range"),
        (lambda: Box((0, 0, 4, 4), min_iou=np.nan), "min_iou is out of range"),
        (lambda: Box((0, 0, 4, 4), min_iou=True), "min_iou is out of range"),
        (lambda: Box((0, 0, 4, 4), min_iou=None), "min_iou is out of range"),  # type: ignore[arg-type]
        (lambda: Polygon([(0, 0), (1, 1)]), "too few vertices"),
        (lambda: Polygon([np.eye(3, 2), np.array([(0, 0), (1, np.nan), (2, 0)])]), r"vertices_yx\[1\]\[1\] is not"),
        (lambda: Polygon([[[0, 0], [1]], [[0, 0], [1, 1], [2, 0]]]), r"vertices_yx\[0\] is not a regular"),
        (lambda: Polygon(5), "not a sequence"),
        (lambda: Polygon([(0, 0), (0, 1), (1, 1)], width_px=0), "width_px"),
        (lambda: Polygon([(0, 0), (0, 1), (1, 1)], width_px="3"), "width_px"),  # type: ignore[arg-type]
        (lambda: Polygon([(0, 0), (0, 1), (1, 1)], criterion="best"), "criterion"),  # type: ignore[arg-type]
        (lambda: Polygon([(0, 0), (0, 1), (1, 1)], threshold=-1), "threshold"),
        (lambda: Text(["dog", " "]), r"queries\[1\] is empty"),
        (lambda: Text("dog", mode="top_k", k=0), "k is out of range"),
        (lambda: Text("dog", mode="top_k", k=True), "k is out of range"),
        (lambda: Text("dog", mode="top_k", k=2.5), "k is out of range"),  # type: ignore[arg-type]
        (lambda: Text("dog", threshold=np.nan), "threshold is out of range"),
        (lambda: Text("dog", threshold=7), "threshold is out of range"),
        (lambda: Text("dog", threshold=-0.1), "threshold is out of range"),
        (lambda: Text("dog", threshold="0.5"), "threshold is out of range"),  # type: ignore[arg-type]
        (lambda: Text(None), "queries is no text"),  # type: ignore[arg-type]
    ],
)
def test_bad_prompts_say_which_entry_is_wrong(make: Any, message: str) -> None:
    with pytest.raises(InvalidPromptError, match=message):
        make()


@pytest.mark.parametrize("ask", [select, match])
def test_what_are_no_masks_is_refused(ask: Any) -> None:
    for masks in (None, np.ones((2, 4, 4), bool)):
        with pytest.raises(InvalidMasksError, match="no masks"):
            ask(masks, Points([(1, 1)]))


def test_text_points_to_where_it_is_answered(nested: Masks) -> None:
    text = Text("a coin", negatives=("cloth",))
    assert (text.queries, text.negatives) == (("a coin",), ("cloth",))
    with pytest.raises(InvalidPromptError, match=r"fastsam_core\.text"):
        select(nested, text)
    with pytest.raises(InvalidPromptError, match="no prompt"):
        match(nested, "a coin")  # type: ignore[arg-type]


def test_prompts_keep_their_own_copy() -> None:
    points = np.array([[1.0, 2.0]])
    prompt = Points(points)
    points[:] = np.nan
    assert prompt.points_yx.tolist() == [[1.0, 2.0]]


def test_nesting_needs_masks() -> None:
    with pytest.raises(InvalidMasksError, match="choose among"):
        nesting(None, (1, 2))  # type: ignore[arg-type]
