"""The letterbox against Ultralytics' own, boxes by their properties."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastsam_core._ultralytics import import_ultralytics
from fastsam_core.errors import InvalidParameterError
from fastsam_core.geometry import (
    Letterbox,
    box_areas,
    box_iou,
    clip_boxes,
    letterbox,
    plan_letterbox,
    round_to_stride,
    snap_boxes_to_border,
)

augment = import_ultralytics("ultralytics.data.augment")
ops = import_ultralytics("ultralytics.utils.ops")
fastsam_utils = import_ultralytics("ultralytics.models.fastsam.utils")

image_sizes = st.tuples(st.integers(1, 700), st.integers(1, 700))


def boxes_in(low: float, high: float) -> st.SearchStrategy[npt.NDArray[np.float32]]:
    sides = st.floats(low, high, width=32)
    return hnp.arrays(np.float32, st.tuples(st.integers(0, 6), st.just(4)), elements=sides)


@pytest.mark.upstream
@settings(max_examples=60)
@given(hw=image_sizes, imgsz=st.sampled_from((32, 64, 224, 320)), seed=st.integers(0, 9))
def test_letterbox_gives_the_pixels_of_ultralytics(hw: tuple[int, int], imgsz: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (*hw, 3), dtype=np.uint8)
    ours, plan = letterbox(image, imgsz)
    theirs = augment.LetterBox(imgsz, auto=True, stride=32)(image=image)
    np.testing.assert_array_equal(ours, theirs)
    assert plan.network_hw == ours.shape[:2]
    assert plan.source_hw == hw


@pytest.mark.upstream
@pytest.mark.parametrize("hw", [(1, 1), (8, 8), (1, 3000), (3000, 1), (50, 20_000)])
def test_letterbox_of_extreme_images(hw: tuple[int, int]) -> None:
    padded, plan = letterbox(np.zeros((*hw, 3), np.uint8), 320)
    np.testing.assert_array_equal(
        padded, augment.LetterBox(320, auto=True, stride=32)(image=np.zeros((*hw, 3), np.uint8))
    )
    assert plan.network_hw[0] % 32 == plan.network_hw[1] % 32 == 0


@pytest.mark.upstream
@example(hw=(126, 418), imgsz=320, boxes=np.array([[230, 10, 300, 90]], np.float32))
@given(hw=image_sizes, imgsz=st.sampled_from((64, 640, 1024)), boxes=boxes_in(-50, 1100))
def test_boxes_come_back_as_scale_boxes_brings_them(
    hw: tuple[int, int], imgsz: int, boxes: npt.NDArray[np.float32]
) -> None:
    plan = plan_letterbox(hw, imgsz)
    theirs = ops.scale_boxes(plan.network_hw, torch.from_numpy(boxes.copy()), hw).numpy()
    np.testing.assert_allclose(plan.to_image(boxes), theirs, atol=1e-3)


@given(hw=image_sizes, imgsz=st.sampled_from((64, 640, 1024)), data=st.data())
def test_to_network_and_back(hw: tuple[int, int], imgsz: int, data: st.DataObject) -> None:
    plan = plan_letterbox(hw, imgsz)
    boxes = clip_boxes(data.draw(boxes_in(0, 700)), hw)
    there = plan.to_network(boxes)
    np.testing.assert_allclose(plan.to_image(there), boxes, atol=2e-3 * max(1, 1 / plan.scale))
    assert np.all(there <= np.tile(plan.network_hw[::-1], 2) + 1e-2)


def test_letterbox_terms_by_hand() -> None:
    plan = plan_letterbox((100, 200), 64)
    assert plan == Letterbox((100, 200), (32, 64), (32, 64), (0, 0))
    assert plan.scale == pytest.approx(0.32)
    plan = plan_letterbox((200, 90), 64)
    assert plan == Letterbox((200, 90), (64, 29), (64, 32), (0, 1))
    np.testing.assert_allclose(plan.to_network([0, 0, 90, 200]), [1, 0, 30, 64])


@pytest.mark.parametrize(("size", "rounded"), [(0, 32), (1, 32), (32, 32), (33, 64), (1000, 1024)])
def test_round_to_stride(size: int, rounded: int) -> None:
    assert round_to_stride(size) == rounded


@pytest.mark.parametrize(("hw", "imgsz"), [((0, 5), 64), ((5, 0), 64), ((5, 5), 0)])
def test_nothing_to_letterbox(hw: tuple[int, int], imgsz: int) -> None:
    with pytest.raises(InvalidParameterError, match="without pixels"):
        plan_letterbox(hw, imgsz)


@given(first=boxes_in(-20, 100), second=boxes_in(-20, 100))
def test_box_iou_against_counting(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> None:
    first, second = np.sort(np.round(first), axis=None).reshape(-1, 4), np.round(second)
    iou = box_iou(first, second)
    assert iou.shape == (len(first), len(second))
    for i, a in enumerate(first.astype(int) + 20):
        for j, b in enumerate(second.astype(int) + 20):
            canvas = np.zeros((2, 121, 121), dtype=bool)
            for plane, (x0, y0, x1, y1) in zip(canvas, (a, b), strict=True):
                plane[y0:y1, x0:x1] = True
            union = (canvas[0] | canvas[1]).sum()
            expected = (canvas[0] & canvas[1]).sum() / union if union else 0.0
            assert iou[i, j] == pytest.approx(expected)


def test_box_areas_of_reversed_boxes() -> None:
    np.testing.assert_array_equal(box_areas([[0, 0, 2, 3], [5, 5, 1, 9], [4, 4, 1, 1]]), [6, 0, 0])


@given(boxes=boxes_in(-10, 110), hw=st.tuples(st.integers(30, 100), st.integers(30, 100)))
def test_snapping_is_that_of_ultralytics(boxes: npt.NDArray[np.float32], hw: tuple[int, int]) -> None:
    before = boxes.copy()
    ours = snap_boxes_to_border(boxes, hw, full_cover=2.0)
    theirs = fastsam_utils.adjust_bboxes_to_image_border(torch.from_numpy(boxes.copy()), hw).numpy()
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(boxes, before)


def test_a_box_over_nearly_everything_becomes_the_image() -> None:
    boxes = [[25, 0, 500, 400], [60, 60, 440, 340], [0, 0, 470, 400]]
    snapped = snap_boxes_to_border(boxes, (400, 500))
    np.testing.assert_array_equal(snapped, [[0, 0, 500, 400], [60, 60, 440, 340], [0, 0, 500, 400]])
    assert snap_boxes_to_border(np.empty((0, 4)), (400, 500)).shape == (0, 4)
