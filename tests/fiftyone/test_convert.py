"""Masks and FiftyOne's labels: every pixel comes back."""

from __future__ import annotations

import fiftyone as fo
import numpy as np
from fiftyone.core.utils import deserialize_numpy_array
from hypothesis import given, settings

from fastsam_core.masks import Masks
from fastsam_core.testing import masks_strategy
from fiftyone_fastsam import masks_from_detections, to_detections
from fiftyone_fastsam._convert import array_bytes, instances_of, map_of, relative_box


def visible(masks: Masks) -> Masks:
    return masks[masks.areas_px > 0]


@settings(max_examples=60)
@given(masks_strategy(max_side_px=40))
def test_every_pixel_comes_back_through_fiftyone(masks: Masks) -> None:
    detections = to_detections(masks).detections
    dense = visible(masks).to_dense()
    assert len(detections) == len(dense)
    for detection, mask in zip(detections, dense, strict=True):
        drawn = detection.to_segmentation(frame_size=masks.image_hw[::-1], target=255).mask
        np.testing.assert_array_equal(drawn > 0, mask)


@settings(max_examples=60)
@given(masks_strategy(max_side_px=40))
def test_masks_come_back_through_detections(masks: Masks) -> None:
    back = masks_from_detections(to_detections(masks), masks.image_hw)
    np.testing.assert_array_equal(back.to_dense(), visible(masks).to_dense())
    np.testing.assert_array_equal(back.scores, visible(masks).scores)


def test_every_box_of_awkward_sizes_comes_back() -> None:
    # 1 / 3, 1 / 7 … are not exact in binary; int() of a product may fall into the pixel before
    for height, width in [(37, 49), (719, 1279), (1080, 1919)]:
        rng = np.random.default_rng(height)
        for _ in range(30):
            y0, x0 = int(rng.integers(0, height - 1)), int(rng.integers(0, width - 1))
            h, w = int(rng.integers(1, 40)), int(rng.integers(1, 40))
            crop = np.ones((min(h, height - y0), min(w, width - x0)), bool)
            masks = Masks.from_crops([crop], [(y0, x0)], (height, width))
            [detection] = to_detections(masks).detections
            drawn = detection.to_segmentation(frame_size=(width, height), target=255).mask
            np.testing.assert_array_equal(drawn > 0, masks.to_dense()[0])


def test_detections_carry_confidence_area_and_measures() -> None:
    masks = Masks.from_dense(np.ones((1, 4, 5), bool), scores=[0.25]).with_fields(
        stability=np.array([0.5], np.float32), quality=np.array([0.75], np.float32)
    )
    [detection] = to_detections(masks, label="cell").detections
    assert (detection.label, detection.confidence, detection.area_px, detection.stability) == ("cell", 0.25, 20, 0.5)
    assert (detection.quality, detection.tags) == (0.75, [])


def test_documents_hold_what_fiftyone_itself_would_store() -> None:
    masks = Masks.from_dense(np.eye(6, dtype=bool)[None])
    [instance] = instances_of(masks)
    ours = instance.document()
    theirs = instance.detection().to_dict()
    np.testing.assert_array_equal(deserialize_numpy_array(ours.pop("mask")), np.eye(6, dtype=bool))
    theirs.pop("mask")
    ours["_id"] = theirs["_id"] = None
    assert ours == theirs


def test_arrays_are_packed_as_fiftyone_unpacks_them() -> None:
    for array in (np.zeros((3, 4), np.uint16), np.ones((1, 1), bool), np.arange(6, dtype=np.uint8).reshape(2, 3).T):
        back = deserialize_numpy_array(array_bytes(array))
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)


def test_foreign_masks_are_scaled_to_their_boxes() -> None:
    detection = fo.Detection(label="a", bounding_box=[0.25, 0.5, 0.5, 0.25], mask=np.ones((2, 2), bool))
    bare = fo.Detection(label="b", bounding_box=[0, 0, 1, 1])
    masks = masks_from_detections(fo.Detections(detections=[detection, bare]), (8, 16))
    assert masks.extents_xyxy.tolist() == [[4, 4, 12, 6], [0, 0, 0, 0]]
    assert masks.areas_px.tolist() == [16, 0]
    assert masks.fields["label"].tolist() == ["a", "b"]


def test_a_map_takes_as_few_bits_as_its_ids_need() -> None:
    stack = np.zeros((2, 4, 4), bool)
    stack[0, :], stack[1, 1, 1] = True, True
    mask = map_of(Masks.from_dense(stack), [3, 7])
    assert mask.dtype == np.uint8
    assert (mask[0, 0], mask[1, 1]) == (3, 7)
    assert map_of(Masks.from_dense(stack), [3, 700]).dtype == np.uint16


def test_boxes_are_relative_and_inside_their_pixel() -> None:
    x, y, w, h = relative_box([10, 20, 30, 60], (100, 200))
    assert int(x * 200) == 10
    assert int(y * 100) == 20
    assert (w, h) == (0.1, 0.4)
