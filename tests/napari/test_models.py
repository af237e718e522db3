"""Candidates, filters, picks and edits: no viewer, no network."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fastsam_core.masks import Masks
from napari_fastsam._convert import Plane
from napari_fastsam.models._kernels import labels_under
from napari_fastsam.models.candidates import CandidatePool, Candidates, Outlines
from napari_fastsam.models.filters import Filters
from napari_fastsam.models.picks import PickOptions, PromptSet, resolve

Stack = NDArray[np.bool_]
stacks = hnp.arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(1, 14)))


@given(stacks)
@settings(max_examples=40)
def test_outlines_are_the_pixels_with_a_neighbour_outside(stack: Stack) -> None:
    from scipy.ndimage import binary_erosion

    outlines = Outlines.of(Masks.from_dense(stack))
    for i, mask in enumerate(stack):
        out = np.zeros(mask.shape, np.uint8)
        outlines.paint(out, np.arange(len(stack)) == i, 1)
        np.testing.assert_array_equal(out == 1, mask & ~binary_erosion(mask))


def disc(height: int, width: int, y: float, x: float, radius: float) -> Stack:
    yy, xx = np.ogrid[:height, :width]
    return (yy - y) ** 2 + (xx - x) ** 2 <= radius**2


def nested() -> Masks:
    """Return a part in an object in a group, and another object in the group."""
    return Masks.from_dense(
        [disc(60, 90, 30, 45, 28), disc(60, 90, 30, 32, 10), disc(60, 90, 30, 32, 4), disc(60, 90, 30, 58, 10)],
        [0.5, 0.9, 0.6, 0.8],
    )


def points(*rows: tuple[float, float, bool, int]) -> PromptSet:
    table = np.array(rows, float)
    return PromptSet(table[:, :2], table[:, 2].astype(bool), table[:, 3].astype(int))


def test_large_planes_have_outlines_at_reduced_resolution() -> None:
    masks = nested().placed((100, 4000), (300, 5000))
    outlines = Outlines.of(masks)
    assert (outlines.step, outlines.image_hw) == (3, (100, 1667))
    out = np.zeros(outlines.image_hw, np.uint8)
    outlines.paint(out, np.ones(4, bool), 7)
    rows, columns = np.nonzero(out)
    assert 100 // 3 <= rows.min() <= rows.max() <= 160 // 3
    assert 4000 // 3 <= columns.min() <= columns.max() <= 4090 // 3


def test_measures_of_candidates() -> None:
    image = np.zeros((60, 90), np.uint16)
    image[nested().to_dense()[3]] = 500
    columns = Candidates.measure(nested(), image).columns
    assert columns["intensity"][3] == 500
    assert columns["intensity"][2] == 0
    assert columns["solidity"][1] > 0.9
    assert (columns["y"][1], columns["x"][1]) == (30.5, 32.5)
    assert np.isnan(Candidates.measure(nested()).columns["intensity"]).all()
    assert len(Candidates.measure(Masks.empty((5, 5)))) == 0


def test_what_was_found_in_parts_is_limited_where_a_part_was() -> None:
    """Four found in one look and one in another are less than five of each."""
    some = nested()
    first = Candidates.measure(some[1:].with_metadata(max_det=4))
    again = Candidates.measure(some[:1].with_metadata(max_det=4))
    both = first.extended(again)
    assert len(both) == 4
    assert not both.masks[both.sure].at_limit
    full = first.extended(Candidates.measure(some[:1].with_metadata(max_det=1)))
    assert full.masks[full.sure].at_limit


def test_filters_keep_what_lies_inside_all_limits() -> None:
    columns = Candidates.measure(nested()).columns
    assert Filters().keep(columns).all()
    some = Filters().with_limits("confidence", 0.55, 0.85)
    assert some.keep(columns).tolist() == [False, False, True, True]
    assert some.with_limits("area_px", 100, 1e9).keep(columns).tolist() == [False, False, False, True]
    assert some.with_limits("intensity", 1, 2).without("confidence").keep(columns).all(), "unmeasured values pass"


def test_the_pool_drops_the_planes_unused_for_longest() -> None:
    one = Candidates.measure(nested())
    pool = CandidatePool(max_bytes=2 * one.nbytes)
    planes = [Plane((1, 2), (z, None, None)) for z in range(3)]
    pool.put(planes[0], one)
    pool.put(planes[1], one)
    assert pool.get(planes[0]) is one
    pool.put(planes[2], one)
    assert pool.get(planes[1]) is None
    assert list(pool) == [planes[0], planes[2]]


def test_points_pick_one_candidate_each_by_level() -> None:
    shown = np.ones(4, bool)
    both = points((30.5, 32.5, True, 1), (30.5, 58.5, True, 1))
    picked = {
        level: [p.candidate for p in resolve(nested(), shown, both, PickOptions(level))]
        for level in ("part", "object", "group")
    }
    assert picked == {"part": [2, 3], "object": [1, 3], "group": [0]}


def test_points_of_one_group_describe_one_object() -> None:
    both = points((30.5, 32.5, True, 4), (30.5, 58.5, True, 4))
    picks = resolve(nested(), np.ones(4, bool), both, PickOptions(each_point=False))
    assert [p.candidate for p in picks] == [0]


def test_negative_points_hold_for_all_points() -> None:
    prompts = points((30.5, 24.5, True, 1), (30.5, 58.5, True, 1), (30.5, 45.5, False, 1))
    picks = resolve(nested(), np.ones(4, bool), prompts, PickOptions("group"))
    assert [p.candidate for p in picks] == [1, 3]
    assert resolve(nested(), np.ones(4, bool), points((30, 30, False, 1)), PickOptions()) == ()


def test_hidden_candidates_are_not_picked() -> None:
    shown = np.array([True, False, True, True])
    picks = resolve(nested(), shown, points((30.5, 25.5, True, 1)), PickOptions("part"))
    assert [p.candidate for p in picks] == [0]
    assert resolve(nested(), np.zeros(4, bool), points((30.5, 25.5, True, 1)), PickOptions()) == ()


def test_shapes_pick_the_best_or_everything_inside() -> None:
    shapes = PromptSet(
        boxes_xyxy=np.array([[22.0, 20, 43, 41]]),
        regions_yx=(np.array([[15.0, 15], [45, 15], [45, 45], [15, 45]]),),
        scribbles_yx=(np.array([[30.0, 52], [31, 64]]),),
    )
    shown = np.ones(4, bool)
    assert [p.candidate for p in resolve(nested(), shown, shapes, PickOptions())] == [1, 3]
    everything = resolve(nested(), shown, shapes, PickOptions(everything_inside=True))
    assert sorted(p.candidate for p in everything) == [1, 2, 3]
    assert {p.cause["by"] for p in everything} == {"box", "scribble"}
    json.dumps([dict(p.cause) for p in everything])


@given(stacks, st.integers(0, 99))
@settings(max_examples=40)
def test_labels_under_masks(stack: Stack, seed: int) -> None:
    plane = np.random.default_rng(seed).choice(np.array([0, 0, 1, 2], np.uint16), stack.shape[1:])
    masks, ids, chosen = Masks.from_dense(stack), np.arange(len(stack)) % 3 + 1, np.arange(len(stack))[::-1].copy()
    under = labels_under(plane, masks.runs, masks.offsets, chosen, ids[chosen])
    none = labels_under(plane, masks.runs, masks.offsets, np.array([len(stack)]), ids[:1])
    assert not np.any(none)
    for i, own, labelled, mostly in zip(chosen, *under, strict=True):
        counts = np.bincount(plane[stack[i]], minlength=4)[1:]
        assert (own, labelled) == (counts[ids[i] - 1], counts.sum())
        if 2 * counts.max() > counts.sum():
            assert mostly == counts.argmax() + 1
