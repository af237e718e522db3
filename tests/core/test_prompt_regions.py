"""Polygons and scribbles: the pixels they stand for, and the masks these choose."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.draw import polygon2mask

from fastsam_core._regions import polygon_runs, scribble_runs
from fastsam_core.masks import Masks
from fastsam_core.prompts import Polygon, match

Dense = NDArray[np.bool_]

HEIGHT, WIDTH = 24, 32


def _rectangles(*boxes_xyxy: tuple[int, int, int, int], scores: list[float]) -> Masks:
    stack = np.zeros((len(boxes_xyxy), HEIGHT, WIDTH), bool)
    for layer, (x0, y0, x1, y1) in zip(stack, boxes_xyxy, strict=True):
        layer[y0:y1, x0:x1] = True
    return Masks.from_dense(stack, np.array(scores))


@pytest.fixture
def nested() -> Masks:
    """Return group, object and part around (10, 10), a neighbour, and a near-duplicate of the object."""
    boxes = [(0, 0, 31, 23), (4, 4, 20, 18), (8, 8, 13, 13), (22, 2, 30, 20), (4, 4, 20, 17)]
    return _rectangles(*boxes, scores=[0.5, 0.9, 0.6, 0.8, 0.7])


def _dense(runs: NDArray[np.int32]) -> Dense:
    offsets = np.array([0, len(runs)])
    dense: Dense = Masks(
        (HEIGHT, WIDTH), np.zeros((1, 4), np.float32), np.ones(1, np.float32), runs, offsets
    ).to_dense()[0]
    return dense


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(-6, 60), st.integers(-6, 70)), min_size=3, max_size=9))
def test_polygon_fill_agrees_with_scikit_image(corners: list[tuple[int, int]]) -> None:
    vertices = np.array(corners) / 2 + [0.1031, 0.2017]  # keeps the edges off the pixels' centres
    vertices += np.arange(len(vertices))[:, None] * [0.00713, 0.00317]
    expected = polygon2mask((HEIGHT, WIDTH), vertices - 0.5)
    np.testing.assert_array_equal(_dense(polygon_runs(vertices, HEIGHT, WIDTH)), expected)


def test_corners_on_pixel_centres_count_once() -> None:
    diamond = np.array([(4.5, 8.5), (8.5, 12.5), (12.5, 8.5), (8.5, 4.5)])
    assert _dense(polygon_runs(diamond, HEIGHT, WIDTH)).sum(axis=1)[3:14].tolist() == [0, 0, 2, 4, 6, 8, 6, 4, 2, 0, 0]


def test_polygons_that_share_an_edge_share_no_pixel() -> None:
    fan = np.array([(2.5, 3.5), (20.5, 5.5), (18.5, 29.5), (1.5, 20.5)])
    one, other = polygon_runs(fan[[0, 1, 2]], HEIGHT, WIDTH), polygon_runs(fan[[0, 2, 3]], HEIGHT, WIDTH)
    assert not (_dense(one) & _dense(other)).any()
    np.testing.assert_array_equal(_dense(one) | _dense(other), _dense(polygon_runs(fan, HEIGHT, WIDTH)))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.floats(-9, 33), st.floats(-9, 41)), min_size=1, max_size=6), st.floats(0.5, 9))
def test_scribbles_are_the_pixels_near_the_line(corners: list[tuple[float, float]], width_px: float) -> None:
    vertices = np.array(corners)
    centres = np.argwhere(np.ones((HEIGHT, WIDTH), bool)).reshape(HEIGHT, WIDTH, 2) + 0.5
    distance = np.full((HEIGHT, WIDTH), np.inf)
    for a, b in pairwise(vertices if len(vertices) > 1 else vertices[[0, 0]]):
        along = np.clip(((centres - a) @ (b - a)) / max((b - a) @ (b - a), 1e-300), 0, 1)
        distance = np.minimum(distance, np.hypot(*np.moveaxis(centres - a - along[..., None] * (b - a), -1, 0)))
    got = _dense(scribble_runs(vertices, width_px, HEIGHT, WIDTH))
    assert not (got ^ (distance <= width_px / 2))[abs(distance - width_px / 2) > 1e-6].any()


def test_a_region_finds_the_mask_it_outlines(nested: Masks) -> None:
    around_part = np.array([(7.6, 7.6), (7.6, 13.5), (13.4, 13.5), (13.4, 7.6)])
    around_neighbour = np.array([(2, 22), (2, 30), (20, 30), (20, 22), (11, 22)])
    found = match(nested, Polygon([around_part, around_neighbour, around_part + 100]))
    assert found.index.tolist() == [2, 3, -1]
    np.testing.assert_allclose(found.score, [1, 1, 0])


def test_a_region_may_reach_far_out(nested: Masks) -> None:
    everything = [(-1e300, -1e300), (-1e300, 1e300), (1e300, 1e300), (1e300, -1e300)]
    assert match(nested, Polygon(everything, criterion="inside", many=True)).index.tolist() == [0, 1, 2, 3, 4]
    assert match(
        nested, Polygon([(0, -1e300), (0, 1e300)], "scribble", width_px=1e300, threshold=0.9)
    ).index.tolist() == [0]


def test_a_lasso_selects_all_masks_inside(nested: Masks) -> None:
    lasso = [(2, 2), (2, 21), (20, 21), (20, 2)]
    assert match(nested, Polygon(lasso, criterion="inside", many=True)).index.tolist() == [1, 2, 4]
    assert match(nested, Polygon(lasso, criterion="inside")).index.tolist() == [1]  # of these the best IoU


def test_a_scribble_finds_the_surest_mask_for_its_size_that_covers_it(nested: Masks) -> None:
    in_part, in_object = [(9, 9), (12, 12)], [(6, 6), (16, 18)]
    assert match(nested, Polygon([in_part, in_object], "scribble", width_px=1)).index.tolist() == [2, 1]
    a_little_beyond = [(10.5, 8.5), (10.5, 13.5)]  # one of 6 pixels off the part
    assert match(nested, Polygon(a_little_beyond, "scribble", width_px=1)).index.tolist() == [1]
    longer = _rectangles((0, 4, 28, 14), (2, 5, 21, 13), scores=[0.9, 0.9])
    assert match(longer, Polygon([(10.5, 2.5), (10.5, 21.5)], "scribble", width_px=1)).index.tolist() == [1]  # 19 of 20
    across = Polygon([(10, 1), (10, 31)], "scribble", threshold=0.1, many=True)
    assert match(nested, across).index.tolist() == [0, 1, 2, 3, 4]


def test_of_masks_that_fit_a_region_alike_the_surer_one_answers() -> None:
    corners = [(4, 4), (4, 24), (20, 24), (20, 4)]
    faint, sure = (4, 4, 24, 20), (5, 5, 24, 20)
    for criterion in ("iou", "inside"):
        region = Polygon(corners, criterion=criterion)
        assert match(_rectangles(faint, sure, scores=[0.02, 0.8]), region).index.tolist() == [1]
        assert match(_rectangles(faint, (9, 9, 20, 16), scores=[0.02, 0.8]), region).index.tolist() == [0]


def test_polygon_ties_go_to_the_higher_score() -> None:
    masks = _rectangles((4, 4, 10, 10), (4, 4, 10, 10), scores=[0.2, 0.6])
    corners = [(4, 4), (4, 10), (10, 10), (10, 4)]
    for criterion in ("iou", "inside", "coverage"):
        assert match(masks, Polygon(corners, criterion=criterion)).index.tolist() == [1]
