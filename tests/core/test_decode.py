"""Decoding: bit-equal with a per-pixel evaluation, equal to Ultralytics' retina masks, and defined on odd input."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core import plain_decoding
from tests.core.plain_decoding import mask_logits

from fastsam_core._ultralytics import import_ultralytics
from fastsam_core._upsampling import KnotAxis, plan_axes
from fastsam_core.decode import decode, stability_scores
from fastsam_core.errors import InvalidParameterError
from fastsam_core.geometry import plan_letterbox
from fastsam_core.masks import Masks
from fastsam_core.network import Prediction
from fastsam_core.testing import masks_strategy, synthetic_prediction

SHAPES = {
    "landscape, padded": ((300, 450), 256),
    "portrait, padded": ((430, 290), 256),
    "square": ((320, 320), 256),
    "network size": ((256, 256), 256),
    "upscaled": ((60, 77), 256),
    "odd padding": ((333, 517), 320),
    "whole cells of padding": ((200, 256), 256),
    "thin": ((1200, 40), 320),
}


def noise_prediction(
    image_hw: tuple[int, int], imgsz: int, seed: int, *, count: int = 5, scale: float = 1.0
) -> Prediction:
    """Rough random logits and boxes of every size: many sign changes, none of them smooth."""
    rng = np.random.default_rng(seed)
    plan = plan_letterbox(image_hw, imgsz)
    corners = rng.uniform(-3, 1.1, (count, 2, 2)) * image_hw[::-1]
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)
    boxes = np.clip(boxes, 0, np.tile(image_hw[::-1], 2)).astype(np.float32)
    prototypes = rng.normal(size=(32, plan.network_hw[0] // 4, plan.network_hw[1] // 4)) * scale
    return Prediction(
        boxes_xyxy=boxes,
        scores=np.linspace(0.9, 0.5, count, dtype=np.float32),
        boxes_network_xyxy=plan.to_network(boxes),
        coefficients=rng.normal(size=(count, 32)).astype(np.float32),
        prototypes=prototypes.astype(np.float32),
        letterbox=plan,
    )


def pixel_by_pixel(prediction: Prediction, index: int) -> npt.NDArray[np.bool_]:
    """Evaluate one mask at every pixel of the image, one scalar after the other, in single precision."""
    height, width = prediction.letterbox.source_hw
    x0, y0, x1, y1 = prediction.boxes_xyxy[index]
    _, cells_y, cells_x = prediction.prototypes.shape
    y_axis, x_axis = plan_axes((cells_y, cells_x), (height, width))
    cells = np.zeros((cells_y, cells_x), dtype=np.float32)
    for weight, prototype in zip(prediction.coefficients[index], prediction.prototypes, strict=True):
        cells += weight * prototype

    def mix(near: np.float32, far: np.float32, weight: np.float32) -> np.float32:
        return np.float32(near + np.float32(weight * np.float32(far - near)))

    def knot(y: int, x: int) -> np.float32:
        (y_near, y_far), (x_near, x_far) = y_axis.knot_cells[y], x_axis.knot_cells[x]
        rows = [mix(cells[row, x_near], cells[row, x_far], x_axis.knot_weights[x]) for row in (y_near, y_far)]
        return mix(rows[0], rows[1], y_axis.knot_weights[y])

    mask = np.zeros((height, width), dtype=np.bool_)
    for y in range(height):
        for x in range(width):
            if x0 <= x < x1 and y0 <= y < y1:
                ky, kx = y_axis.pixel_knots[y], x_axis.pixel_knots[x]
                left, right = (mix(knot(ky, k), knot(ky + 1, k), y_axis.pixel_weights[y]) for k in (kx, kx + 1))
                mask[y, x] = mix(left, right, x_axis.pixel_weights[x]) > 0
    return mask


def upstream(prediction: Prediction) -> npt.NDArray[np.bool_]:
    """Ultralytics' retina masks of the same boxes, coefficients and prototypes, (N, H, W)."""
    import torch

    ops = import_ultralytics("ultralytics.utils.ops")
    masks = ops.process_mask_native(
        torch.from_numpy(prediction.prototypes),
        torch.from_numpy(prediction.coefficients),
        torch.from_numpy(prediction.boxes_xyxy.copy()),
        prediction.letterbox.source_hw,
    )
    stack: npt.NDArray[np.bool_] = masks.numpy().astype(bool)
    return stack


def same_masks(first: Masks, second: Masks) -> bool:
    return np.array_equal(first.runs, second.runs) and np.array_equal(first.offsets, second.offsets)


# ---- exactness -------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    image_hw=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    imgsz=st.sampled_from([32, 64, 96]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_pixel_has_the_sign_of_its_own_interpolated_logit(
    image_hw: tuple[int, int], imgsz: int, seed: int
) -> None:
    prediction = noise_prediction(image_hw, imgsz, seed, count=2)
    dense = decode(prediction).to_dense()
    for index in range(2):
        np.testing.assert_array_equal(dense[index], pixel_by_pixel(prediction, index))


@settings(max_examples=60, deadline=None)
@given(
    image_hw=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    imgsz=st.sampled_from([32, 64, 160]),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1e-30, 1.0, 1e12]),
)
def test_compiled_and_plain_kernels_give_the_same_runs(
    image_hw: tuple[int, int], imgsz: int, seed: int, scale: float
) -> None:
    prediction = noise_prediction(image_hw, imgsz, seed, scale=scale)
    compiled = decode(prediction, threshold=0.3, stability=True)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("decode_runs", "count_cells"):
            patch.setattr(f"fastsam_core._decode_kernels.{name}", getattr(plain_decoding, name))
        plain = decode(prediction, threshold=0.3, stability=True)
    assert same_masks(compiled, plain)
    np.testing.assert_array_equal(compiled.fields["stability"], plain.fields["stability"])


def test_many_runs_outgrow_the_first_buffer() -> None:
    prediction = noise_prediction((256, 256), 256, seed=3, count=3)
    whole = np.tile(np.array((0, 0, 256, 256), dtype=np.float32), (3, 1))
    masks = decode(dataclasses.replace(prediction, boxes_xyxy=whole))
    assert len(masks.runs) > 2 * 4096
    np.testing.assert_array_equal(masks.to_dense(), upstream(dataclasses.replace(prediction, boxes_xyxy=whole)))


# ---- agreement with Ultralytics --------------------------------------------------------------------------------------


@pytest.mark.upstream
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_masks_agree_with_upstream_retina_masks(shape: str, seed: int) -> None:
    image_hw, imgsz = SHAPES[shape]
    prediction = synthetic_prediction(40, image_hw, imgsz, seed)
    ours, theirs = decode(prediction).to_dense(), upstream(prediction)
    both = (ours & theirs).sum(axis=(1, 2))
    either = (ours | theirs).sum(axis=(1, 2))
    large = theirs.sum(axis=(1, 2)) > 100
    assert large.sum() > 5
    iou = both[large] / either[large]
    assert np.median(iou) >= 0.999
    assert iou.min() >= 0.99
    assert (ours ^ theirs).sum() <= 1e-4 * either.sum() + 2


@pytest.mark.upstream
@settings(max_examples=40, deadline=None)
@given(
    image_hw=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    imgsz=st.sampled_from([64, 128]),
    seed=st.integers(0, 2**32 - 1),
)
def test_rough_logits_agree_with_upstream_but_for_rounding(image_hw: tuple[int, int], imgsz: int, seed: int) -> None:
    prediction = noise_prediction(image_hw, imgsz, seed)
    differing = np.argwhere(decode(prediction).to_dense() != upstream(prediction))
    for index, y, x in differing:
        logits, (top, left) = mask_logits(prediction, int(index))
        assert abs(logits[y - top, x - left]) < 2e-3  # logits are of the order of 5


# ---- options ---------------------------------------------------------------------------------------------------------


def test_a_higher_threshold_gives_nested_masks() -> None:
    prediction = synthetic_prediction(20, (200, 300), 256, seed=1)
    loose, strict = (decode(prediction, threshold=value).to_dense() for value in (0.2, 0.9))
    assert not (strict & ~loose).any()
    assert strict.sum() < loose.sum()


def test_a_predictions_own_threshold_is_the_default() -> None:
    prediction = synthetic_prediction(12, (120, 160), 160, seed=3)
    own = dataclasses.replace(prediction, mask_threshold=0.2)
    np.testing.assert_array_equal(decode(own).to_dense(), decode(prediction, threshold=0.2).to_dense())
    np.testing.assert_array_equal(stability_scores(own), stability_scores(prediction, threshold=0.2))
    assert decode(own).areas_px.sum() > decode(prediction).areas_px.sum()


def test_threshold_is_a_probability() -> None:
    prediction = synthetic_prediction(10, (100, 150), 128, seed=2)
    dense = decode(prediction, threshold=0.8).to_dense()
    for index in range(10):
        logits, (top, left) = mask_logits(prediction, index)
        probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
        inside = dense[index, top : top + logits.shape[0], left : left + logits.shape[1]]
        clear = np.abs(probability - 0.8) > 1e-4
        np.testing.assert_array_equal(inside[clear], (probability > 0.8)[clear])


def test_border_rule_moves_box_and_mask_together() -> None:
    prediction = noise_prediction((120, 160), 160, seed=0, count=3)
    prediction.prototypes[:] = 1
    prediction.coefficients[:] = 1
    boxes = np.array([(8, 50, 90, 101), (30, 30, 100, 110), (5, 6, 155, 118)], dtype=np.float32)
    prediction = dataclasses.replace(prediction, boxes_xyxy=boxes)
    snapped = decode(prediction, snap_px=20)
    expected = [(0, 50, 90, 120), (30, 30, 100, 120), (0, 0, 160, 120)]
    np.testing.assert_array_equal(snapped.boxes_xyxy, expected)
    np.testing.assert_array_equal(snapped.extents_xyxy, expected)
    np.testing.assert_array_equal(decode(prediction).extents_xyxy, boxes)


def test_masks_may_have_thresholds_of_their_own() -> None:
    prediction = synthetic_prediction(3, (90, 120), 128, seed=2)
    values = (0.2, 0.5, 0.9)
    own = dataclasses.replace(prediction, own_thresholds=np.array(values, np.float32))
    masks = decode(own, stability=True)
    for index, value in enumerate(values):
        alone = decode(prediction, threshold=value, stability=True)
        np.testing.assert_array_equal(masks.to_dense()[index], alone.to_dense()[index])
        assert masks.fields["stability"][index] == alone.fields["stability"][index]
    np.testing.assert_array_equal(decode(own, threshold=0.5).to_dense(), decode(prediction).to_dense())
    with pytest.raises(InvalidParameterError, match=r"1\.5"):
        decode(dataclasses.replace(own, own_thresholds=np.array((0.2, 1.5, 0.5), np.float32)))


@pytest.mark.parametrize("threshold", [0, 1, -1, 2, float("nan")])
def test_threshold_outside_its_range_is_refused(threshold: float) -> None:
    prediction = synthetic_prediction(1, (50, 50), 64, seed=0)
    with pytest.raises(InvalidParameterError, match="probability"):
        decode(prediction, threshold=threshold)


def test_negative_snap_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match="snap_px"):
        decode(synthetic_prediction(1, (50, 50), 64, seed=0), snap_px=-1)
    with pytest.raises(InvalidParameterError, match="snap_px"):
        decode(synthetic_prediction(1, (50, 50), 64, seed=0), snap_px="20")  # type: ignore[arg-type]


# ---- logits and stability --------------------------------------------------------------------------------------------


def test_mask_logits_have_the_sign_of_the_mask() -> None:
    prediction = synthetic_prediction(15, (210, 330), 256, seed=5)
    dense = decode(prediction).to_dense()
    for index in (*range(15), -1):
        logits, (top, left) = mask_logits(prediction, index)
        assert logits.dtype == np.float32
        placed = np.zeros((210, 330), dtype=bool)
        placed[top : top + logits.shape[0], left : left + logits.shape[1]] = logits > 0
        np.testing.assert_array_equal(placed, dense[index])


def test_stability_is_the_iou_of_a_tight_and_a_loose_mask() -> None:
    prediction = synthetic_prediction(30, (500, 700), 512, seed=4)
    scores = decode(prediction, stability=True).fields["stability"]
    tight, loose = (1 / (1 + np.exp(-offset)) for offset in (1.0, -1.0))
    inner = decode(prediction, threshold=tight).areas_px
    outer = decode(prediction, threshold=loose).areas_px
    large = outer > 2000
    np.testing.assert_allclose(scores[large], (inner / np.maximum(outer, 1))[large], atol=0.05)
    assert ((scores >= 0) & (scores <= 1)).all()


def test_steeper_logits_are_more_stable() -> None:
    prediction = synthetic_prediction(20, (300, 300), 256, seed=6)
    steeper = dataclasses.replace(prediction, coefficients=prediction.coefficients * np.float32(4))
    assert (stability_scores(steeper) >= stability_scores(prediction)).all()
    assert stability_scores(steeper).mean() > stability_scores(prediction).mean() + 0.05


def test_stability_offset_is_checked() -> None:
    with pytest.raises(InvalidParameterError, match="offset"):
        stability_scores(synthetic_prediction(1, (50, 50), 64, seed=0), offset=0)


# ---- odd input -------------------------------------------------------------------------------------------------------


@pytest.mark.upstream
@pytest.mark.parametrize("image_hw", [(1, 1), (8, 8), (1, 200), (2000, 3)])
def test_small_and_thin_images(image_hw: tuple[int, int]) -> None:
    prediction = noise_prediction(image_hw, 64, seed=7, count=4)
    whole = np.tile(np.array((0, 0, image_hw[1], image_hw[0]), dtype=np.float32), (4, 1))
    prediction = dataclasses.replace(prediction, boxes_xyxy=whole)
    np.testing.assert_array_equal(decode(prediction).to_dense(), upstream(prediction))


def test_no_detections() -> None:
    masks = decode(synthetic_prediction(0, (80, 90), 96, seed=0), stability=True, snap_px=20)
    assert len(masks) == 0
    assert masks.image_hw == (80, 90)
    assert masks.fields["stability"].shape == (0,)


def test_boxes_smaller_than_a_pixel() -> None:
    prediction = noise_prediction((60, 60), 64, seed=0, count=4)
    prediction.prototypes[:] = 1
    prediction.coefficients[:] = 1
    boxes = np.array(
        [(10.2, 10.2, 10.8, 10.8), (9.8, 9.8, 10.2, 10.2), (30, 30, 20, 20), (5, 5, 5, 9)], dtype=np.float32
    )
    masks = decode(dataclasses.replace(prediction, boxes_xyxy=boxes), stability=True)
    np.testing.assert_array_equal(masks.areas_px, [0, 1, 0, 0])
    np.testing.assert_array_equal(masks.extents_xyxy[1], (10, 10, 11, 11))
    np.testing.assert_array_equal(masks.fields["stability"], [0, 1, 0, 0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", ["coefficients", "boxes_xyxy"])
def test_what_is_not_finite_gives_an_empty_mask_and_leaves_the_others(bad: float, column: str) -> None:
    prediction = synthetic_prediction(5, (90, 120), 128, seed=9)
    values = getattr(prediction, column).copy()
    values[2, 1] = bad
    masks = decode(dataclasses.replace(prediction, **{column: values}), stability=True)
    assert masks.areas_px[2] == 0
    assert masks.fields["stability"][2] == 0
    others = [0, 1, 3, 4]
    assert same_masks(masks[others], decode(prediction)[others])


# ---- the plan of an axis ---------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    image_hw=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    imgsz=st.integers(1, 40).map(lambda strides: 32 * strides),
)
def test_axes_are_consistent(image_hw: tuple[int, int], imgsz: int) -> None:
    plan = plan_letterbox(image_hw, imgsz)
    axes = plan_axes((plan.network_hw[0] // 4, plan.network_hw[1] // 4), image_hw)
    for axis, pixels, cells in zip(axes, image_hw, (side // 4 for side in plan.network_hw), strict=True):
        check_axis(axis, pixels, cells)


def check_axis(axis: KnotAxis, pixels: int, cells: int) -> None:
    assert axis.pixel_knots.shape == (pixels,)
    assert 0 <= axis.knot_cells.min() <= axis.knot_cells.max() == cells - 1
    assert (np.diff(axis.pixel_knots) >= 0).all()
    assert (axis.pixel_weights >= 0).all()
    assert (axis.pixel_weights < 1).all()
    assert axis.pixel_knots.max() + 1 < len(axis.knot_cells)
    same_segment = np.diff(axis.pixel_knots) == 0
    assert (np.diff(axis.pixel_weights)[same_segment] >= 0).all()
    for knot in (axis.pixel_knots[0], axis.pixel_knots[-1]):
        pixels_of_knot = np.arange(axis.first_pixels[knot], axis.first_pixels[knot + 1])
        np.testing.assert_array_equal(pixels_of_knot, np.nonzero(axis.pixel_knots == knot)[0])


# ---- what this project's other tests draw from -----------------------------------------------------------------------


def test_synthetic_heads_are_as_crowded_as_photos() -> None:
    for count, expected in ((100, 6.4), (300, 21.9)):
        boxes = synthetic_prediction(count, (1500, 2250), 1024, seed=0).boxes_xyxy
        covered = float(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).sum()) / (1500 * 2250)
        assert covered == pytest.approx(expected, rel=0.35)


@settings(max_examples=25, deadline=None)
@given(masks=masks_strategy())
def test_drawn_masks_are_valid(masks: Masks) -> None:
    assert same_masks(Masks.from_dense(masks.to_dense()), masks) or len(masks) == 0
