"""Masks against a boolean stack, which is slow and obviously right."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fastsam_core._runs import columns_of_counts, rle_counts, runs_of_mask, transpose
from fastsam_core.errors import (
    ImageNotFoundError,
    InvalidMasksError,
    InvalidParameterError,
    OutputError,
    TooMuchMemoryError,
)
from fastsam_core.masks import Masks
from fastsam_core.outputs import write_coco

if TYPE_CHECKING:
    from collections.abc import Callable

Stack = NDArray[np.bool_]
sizes = st.tuples(st.integers(0, 4), st.integers(1, 12), st.integers(1, 12))
stacks = sizes.flatmap(lambda shape: hnp.arrays(bool, shape))


def make(stack: Stack) -> Masks:
    n = len(stack)
    masks = Masks.from_dense(stack, scores=np.linspace(0.9, 0.2, n))
    return masks.with_fields(name=np.array([f"m{i}" for i in range(n)], dtype="U4")).with_metadata(model="test")


def same(a: Masks, b: Masks) -> None:
    assert a.image_hw == b.image_hw
    assert dict(a.metadata) == dict(b.metadata)
    assert a.fields.keys() == b.fields.keys()
    for name in ("runs", "offsets", "areas_px", "extents_xyxy"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    np.testing.assert_allclose(a.scores, b.scores)
    np.testing.assert_allclose(a.boxes_xyxy, b.boxes_xyxy)
    for key in a.fields:
        np.testing.assert_array_equal(a.fields[key], b.fields[key])
        assert a.fields[key].shape == b.fields[key].shape


@given(stacks)
def test_dense_round_trip_and_sizes(stack: Stack) -> None:
    masks = make(stack)
    np.testing.assert_array_equal(masks.to_dense(), stack)
    np.testing.assert_array_equal(masks.areas_px, stack.sum((1, 2)))
    for i, mask in enumerate(stack):
        x0, y0, x1, y1 = masks.extents_xyxy[i]
        np.testing.assert_array_equal(masks.crop(i), mask[y0:y1, x0:x1])
        assert mask[y0:y1, x0:x1].sum() == mask.sum()


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=15)))
def test_runs_transpose_and_count_as_coco_does(mask: NDArray[np.bool_]) -> None:
    from pycocotools import mask as coco

    height, width = mask.shape
    rows = runs_of_mask(mask, 0, 0)
    columns = transpose(rows)
    np.testing.assert_array_equal(columns, runs_of_mask(np.ascontiguousarray(mask.T), 0, 0))
    np.testing.assert_array_equal(transpose(columns), rows)
    counts = rle_counts(columns, height, width)
    np.testing.assert_array_equal(columns_of_counts(counts, height), columns)
    expected = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    assert [rle["counts"] for rle in Masks.from_dense(mask).to_rle()] == [expected]


@given(stacks, st.data())
def test_hits_and_iou_agree_with_pixels(stack: Stack, data: st.DataObject) -> None:
    masks = make(stack)
    height, width = masks.image_hw
    points = data.draw(hnp.arrays(np.float64, (5, 2), elements=st.floats(-3, 15)))
    expected = np.zeros((5, len(stack)), bool)
    for k, (y, x) in enumerate(np.floor(points).astype(int)):
        if 0 <= y < height and 0 <= x < width:
            expected[k] = stack[:, y, x]
    np.testing.assert_array_equal(masks.hits(points), expected)
    shared = (stack[:, None] & stack[None]).sum((2, 3))
    union = (stack[:, None] | stack[None]).sum((2, 3))
    np.testing.assert_array_equal(masks.overlaps(masks), shared)
    np.testing.assert_allclose(masks.iou(masks), shared / np.maximum(union, 1))


def test_points_that_are_not_numbers_hit_nothing() -> None:
    masks = Masks.from_dense(np.ones((1, 3, 3), bool))
    outside = [(np.nan, 1), (1, np.inf), (3, 0), (-0.5, 0)]
    assert masks.hits([*outside, (2.9, 2.9)]).ravel().tolist() == [False] * 4 + [True]


@given(stacks, st.data())
def test_choosing_keeps_everything_of_a_mask(stack: Stack, data: st.DataObject) -> None:
    masks = make(stack)
    n = len(masks)
    indices = st.lists(st.integers(-n, n - 1), max_size=5) if n else st.just([])
    index = np.array(data.draw(indices), dtype=np.int64)
    chosen = masks[index]
    np.testing.assert_array_equal(chosen.to_dense(), stack[index])
    np.testing.assert_array_equal(chosen.fields["name"], masks.fields["name"][index])
    same(masks[masks.areas_px > 3], masks.filter(min_area_px=4))
    same(masks[:], masks)
    assert len(masks[[]]) == 0


@pytest.mark.parametrize("index", [True, np.False_, [[0, 1]], np.zeros((0, 2), int)])
def test_what_chooses_no_masks_is_told_what_does(index: Any) -> None:
    with pytest.raises(InvalidMasksError, match="or a boolean for each mask"):
        Masks.from_dense(np.ones((2, 3, 3), bool))[index]


@given(stacks, st.integers(-6, 6), st.integers(-6, 6), st.integers(1, 10), st.integers(1, 10))
def test_placed_is_a_shifted_canvas(stack: Stack, dy: int, dx: int, height: int, width: int) -> None:
    expected = np.zeros((len(stack), 40, 40), bool)
    expected[:, 12 + dy : 12 + dy + stack.shape[1], 12 + dx : 12 + dx + stack.shape[2]] = stack
    placed = make(stack).placed((dy, dx), (height, width))
    np.testing.assert_array_equal(placed.to_dense(), expected[:, 12 : 12 + height, 12 : 12 + width])


@given(stacks)
def test_union_joins_and_concatenate_appends(stack: Stack) -> None:
    masks = make(stack)
    np.testing.assert_array_equal(masks.union().to_dense().any(0), stack.any(0))
    assert len(masks.union()) == min(len(masks), 1)
    same(Masks.concatenate([masks[:1], masks[1:]]), masks)


@given(hnp.arrays(bool, st.tuples(st.integers(0, 3), st.integers(1, 20), st.integers(1, 20))), st.floats(0, 1))
def test_small_parts_are_those_that_pixels_show(stack: Stack, share: float) -> None:
    from skimage.measure import label

    masks = make(stack)
    expected = np.zeros_like(stack)
    for mask, kept in zip(stack, expected, strict=True):
        parts = label(mask, connectivity=1)
        areas_px = np.bincount(parts.ravel())[1:]
        if len(areas_px):
            kept[:] = np.isin(parts, 1 + np.flatnonzero(areas_px >= share * areas_px.max()))
    cleaned = masks.without_small_parts(share)
    np.testing.assert_array_equal(cleaned.to_dense(), expected)
    np.testing.assert_array_equal(cleaned.boxes_xyxy, masks.boxes_xyxy)
    assert cleaned.fields["name"].tolist() == masks.fields["name"].tolist()


def test_the_share_of_parts_is_a_share() -> None:
    for wrong in (-0.1, 1.1, float("nan"), 10**400, "a", None):
        with pytest.raises(InvalidParameterError, match="from 0 to 1"):
            make(np.ones((1, 2, 2), bool)).without_small_parts(wrong)  # type: ignore[arg-type]


@given(stacks, st.sampled_from(["smaller", "score"]))
def test_label_map_puts_the_right_mask_on_top(stack: Stack, rule: str) -> None:
    masks = make(stack)
    key = -masks.areas_px if rule == "smaller" else masks.scores
    expected = np.zeros(masks.image_hw, np.uint16)
    for i in np.argsort(key, kind="stable"):
        expected[stack[i]] = i + 1
    labels = masks.to_label_map(on_overlap=rule)  # type: ignore[arg-type]  # drawn from the two literals
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, expected)
    again = Masks.from_label_map(labels)
    np.testing.assert_array_equal(again.to_label_map(ids=again.fields["label"]), labels)


def test_label_map_widens_rather_than_wraps() -> None:
    masks = Masks.from_dense(np.eye(2, dtype=bool)[:, None])
    labels = masks.to_label_map(ids=[1, 70_000])
    assert labels.dtype == np.uint32
    assert labels.tolist() == [[1, 70_000]]
    for bad in ([1], [0, 1], [1, -2], [1, 2**32]):
        with pytest.raises(InvalidParameterError):
            masks.to_label_map(ids=bad)
    with pytest.raises(InvalidParameterError, match="overlap rule"):
        masks.to_label_map(on_overlap="larger")  # type: ignore[arg-type]  # what a typing mistake does


def test_ids_that_fields_cannot_hold_are_refused() -> None:
    assert Masks.from_label_map(np.array([[2**63 - 1, 2]], np.uint64)).fields["label"].tolist() == [2, 2**63 - 1]
    with pytest.raises(InvalidMasksError, match="too large"):
        Masks.from_label_map(np.array([[2**63, 2]], np.uint64))


def test_label_map_with_negative_and_sparse_ids() -> None:
    labels = np.array([[-1, 0, 900_000], [5, 5, 900_000]])
    masks = Masks.from_label_map(labels)
    assert masks.fields["label"].tolist() == [5, 900_000]
    np.testing.assert_array_equal(masks.to_dense(), [labels == 5, labels == 900_000])
    assert len(Masks.from_label_map(np.zeros((3, 3), int))) == 0
    with pytest.raises(InvalidMasksError, match="label map"):
        Masks.from_label_map(np.zeros((3, 3)))


def test_outlines_are_in_the_coordinates_of_points() -> None:
    (ring,) = Masks.from_crops([np.ones((2, 3), bool)], [(4, 7)], (10, 12)).to_polygons()[0]
    assert (ring.min(axis=0).tolist(), ring.max(axis=0).tolist()) == ([4, 7], [6, 10])


@given(stacks)
def test_polygons_fill_back_to_the_mask(stack: Stack) -> None:
    from skimage.draw import polygon

    for rings, mask in zip(make(stack).to_polygons(), stack, strict=True):
        filled = np.zeros_like(mask)
        for ring in rings:
            inside = np.zeros_like(mask)
            inside[polygon(ring[:, 0] - 0.5, ring[:, 1] - 0.5, mask.shape)] = True  # its pixels are points
            filled ^= inside
        np.testing.assert_array_equal(filled, mask)


@given(stacks)
def test_files_give_back_what_was_saved(stack: Stack) -> None:
    import tempfile

    masks = make(stack)
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".npz", ".json"):
            path = masks.save(Path(folder) / f"masks{suffix}")
            again = Masks.load(path)
            if suffix == ".json" and len(masks) == 0:  # COCO has nowhere to keep the columns of no masks
                again = again.with_fields(name=masks.fields["name"])
            same(again, masks)
        assert len(list(Path(folder).iterdir())) == 2
    same(pickle.loads(pickle.dumps(masks)), masks)


@pytest.mark.parametrize("path", [None, 3, b"masks.npz"])
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(InvalidParameterError, match="names no file"):
        make(np.ones((1, 4, 4), bool)).save(path)
    with pytest.raises(InvalidParameterError, match="names no file"):
        Masks.load(path)


def test_files_that_hold_no_masks_are_named(tmp_path: Path) -> None:
    masks = make(np.ones((1, 4, 4), bool))
    with pytest.raises(OutputError, match="ending in"):
        masks.save(tmp_path / "masks.png")
    with pytest.raises(OutputError, match="Cannot write"):
        masks.save(_under_a_file(tmp_path))
    whole = masks.save(tmp_path / "whole.npz").read_bytes()
    middle, listed = whole.index(b"runs.npy") + 60, whole.index(b"PK\x01\x02")
    no_annotation = {"images": [{"height": 4, "width": 4}], "annotations": [1]}
    for name, content in (
        ("a.json", b"{"),
        ("b.npz", b"PK"),
        ("c.json", json.dumps({"images": []}).encode()),
        ("d.json", json.dumps(no_annotation).encode()),
        ("e.npz", whole[: len(whole) // 2]),
        ("f.npz", whole[:middle] + bytes(20) + whole[middle + 20 :]),
        ("g.npz", whole[: listed + 6] + b"\xff" + whole[listed + 7 :]),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidMasksError, match=name):
            Masks.load(tmp_path / name)
    for name in ("missing.npz", "missing.json"):
        with pytest.raises(ImageNotFoundError, match=name):
            Masks.load(tmp_path / name)


@pytest.mark.parametrize("chosen", [slice(None), slice(0)])
@pytest.mark.parametrize("suffix", ["npz", "json"])
def test_fields_come_back_as_they_were(suffix: str, chosen: slice, tmp_path: Path) -> None:
    masks = make(np.ones((3, 4, 4), bool)).with_fields(
        index=np.arange(3),
        small=np.arange(3, dtype=np.uint8),
        large=np.full(3, 2**63 + 1, np.uint64),
        quality=np.array([0.1, math.nan, math.inf], np.float32),
        pairs=np.ones((3, 2)),
        words=np.array(["é", "", "abc"]),
        flags=np.array([True, False, True]),
    )[chosen]
    again = Masks.load(masks.save(tmp_path / f"masks.{suffix}"))
    same(again, masks)
    for name in set(masks.fields) - {"name", "words"}:
        assert again.fields[name].dtype == masks.fields[name].dtype


def test_files_are_json_for_strict_parsers(tmp_path: Path) -> None:
    def refuse(name: str) -> None:
        raise ValueError(name)

    masks = make(np.ones((3, 4, 4), bool)).with_fields(
        none=np.full(3, math.nan),
        some=np.array([2, math.nan, 0.5], np.float32),
        pairs=np.array([[1, math.nan], [math.inf, 2], [-math.inf, math.inf]]),
        infinite=np.full(3, -math.inf, np.float16),
        mixed=np.array([1, None, 2.5], object),
    )
    boxes, scores = masks.boxes_xyxy.copy(), masks.scores.copy()
    boxes[1], scores[2] = (math.nan, 0, math.inf, 2), math.nan
    masks = replace(masks, boxes_xyxy=boxes, scores=scores)
    path = masks.save(tmp_path / "a.json")
    json.loads(path.read_text(), parse_constant=refuse)
    again = Masks.load(path)
    same(again, masks)
    assert {name: column.dtype for name, column in again.fields.items() if name != "name"} == {
        name: column.dtype for name, column in masks.fields.items() if name != "name"
    }
    document = json.loads(
        write_coco(tmp_path / "b.json", masks.with_metadata(gain=math.nan), file_name="b.png").read_text(),
        parse_constant=refuse,
    )
    assert document["info"]["gain"] is None
    read = Masks.from_coco(document["annotations"])
    np.testing.assert_array_equal(read.fields["some"], [2, math.nan, 0.5])
    assert read.fields["some"].dtype == np.float64


def test_fields_that_were_edited_in_a_file_are_taken_as_they_are(tmp_path: Path) -> None:
    masks = make(np.ones((1, 4, 4), bool)).with_fields(size=np.array([3], np.uint8), word=np.array(["a"]))
    path = masks.save(tmp_path / "masks.json")
    document = json.loads(path.read_text())
    for size in (300, 2.5):
        document["annotations"][0]["attributes"] = {"size": size, "word": "longer"}
        path.write_text(json.dumps(document))
        again = Masks.load(path)
        assert again.fields["size"].tolist() == [size]
        assert again.fields["word"].tolist() == ["longer"]
    document["info"]["fields"] = 3
    path.write_text(json.dumps(document))
    with pytest.raises(InvalidMasksError, match="does not hold masks"):
        Masks.load(path)


def test_fields_of_different_shapes_are_not_joined() -> None:
    masks = make(np.ones((1, 4, 4), bool))
    with pytest.raises(InvalidMasksError, match="'size'"):
        Masks.concatenate([masks.with_fields(size=[1]), masks.with_fields(size=[[1, 2]])])


def _under_a_file(folder: Path) -> Path:
    (folder / "file").write_text("not a folder")
    return folder / "file" / "masks.npz"


@given(stacks)
def test_coco_annotations_round_trip(stack: Stack) -> None:
    masks = make(stack)
    annotations = masks.to_coco(image_id=7, first_id=3)
    assert [a["id"] for a in annotations] == list(range(3, 3 + len(masks)))
    again = Masks.from_coco(annotations, masks.image_hw)
    np.testing.assert_array_equal(again.to_dense(), stack)
    np.testing.assert_allclose(again.scores, masks.scores)


@pytest.mark.parametrize(
    "annotations",
    [
        None,
        3,
        {},
        [3],
        [{"segmentation": {"size": [2, 2], "counts": [0, 4]}, "score": "high"}],
        [{"segmentation": {"size": [2], "counts": [0, 4]}}],
        [{"segmentation": {"size": 2, "counts": [0, 4]}}],
        [{"segmentation": {"size": ["a", "b"], "counts": [0, 4]}}],
        [{"segmentation": {"size": [2, 2], "counts": [0, 4]}, "attributes": [1]}],
        [{"segmentation": {"size": [2, 2], "counts": [0, 4]}, "attributes": {"a": a}} for a in ([1], [1, 2])],
        [{"segmentation": {"size": [2, 2], "counts": [0, 4]}}, {"segmentation": []}],
    ],
)
def test_what_is_no_annotation_is_refused(annotations: Any) -> None:
    with pytest.raises(InvalidMasksError):
        Masks.from_coco(annotations)


def test_coco_annotations_may_have_neither_score_nor_attributes() -> None:
    rle = {"segmentation": {"size": [2, 2], "counts": [0, 4]}}
    masks = Masks.from_coco([{**rle, "score": None, "attributes": None}, {**rle, "score": 0.5}], [2, 2])  # type: ignore[arg-type]
    assert masks.scores.tolist() == [1, 0.5]
    assert not masks.fields


def test_coco_polygons_and_plain_counts_are_read() -> None:
    polygon = {"segmentation": [[1, 1, 5, 1, 5, 4, 1, 4]]}
    plain = {"segmentation": {"size": [6, 8], "counts": [6, 6, 36]}, "score": 0.5}
    masks = Masks.from_coco([polygon, plain], (6, 8))
    assert masks.areas_px.tolist() == [12, 6]
    assert masks.extents_xyxy.tolist() == [[1, 1, 5, 4], [1, 0, 2, 6]]
    assert masks.scores.tolist() == [1.0, 0.5]
    with pytest.raises(InvalidMasksError, match="image size"):
        Masks.from_coco([polygon])
    with pytest.raises(InvalidMasksError, match="image size"):
        Masks.from_coco([plain], (5, 8))
    with pytest.raises(InvalidMasksError, match="Annotation 0"):
        Masks.from_coco([{"segmentation": {"size": [6, 8], "counts": [1, 2]}}])


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e9])
def test_polygons_that_pycocotools_would_crash_on_are_refused(value: float) -> None:
    with pytest.raises(InvalidMasksError, match="not in the image"):
        Masks.from_coco([{"segmentation": [[0, 0, value, 0, 5, 5]]}], (6, 8))


def test_polygons_may_reach_beyond_the_image() -> None:
    masks = Masks.from_coco([{"segmentation": [[-30_000, -20_000, 30_000, -20_000, 30_000, 3, -30_000, 3]]}], (6, 8))
    assert masks.areas_px.tolist() == [24]


def test_a_column_from_the_bottom_of_one_to_the_top_of_the_next_is_one_count() -> None:
    mask = np.zeros((3, 4), bool)
    mask[1:, 1] = mask[:2, 2] = True
    rle = Masks.from_dense(mask).to_rle()[0]
    assert rle == {"size": [3, 4], "counts": rle["counts"]}
    assert rle_counts(transpose(runs_of_mask(mask, 0, 0)), 3, 4).tolist() == [4, 4, 4]


def test_arrays_that_do_not_fit_are_refused() -> None:
    run = np.array([[0, 1, 3]])
    good = {"image_hw": (4, 4), "boxes_xyxy": np.zeros((1, 4)), "scores": [1.0], "runs": run, "offsets": [0, 1]}
    Masks(**good)  # type: ignore[arg-type]  # lists are taken as arrays
    bad: list[dict[str, object]] = [
        {"runs": [[0, 1, 5]]},
        {"runs": [[0, 2, 2]]},
        {"runs": [[4, 0, 1]]},
        {"offsets": [0, 2]},
        {"offsets": [1, 1]},
        {"scores": [1.0, 0.5]},
        {"fields": {"x": np.zeros(2)}},
        {"runs": [[1, 0, 1], [0, 0, 1]], "offsets": [0, 2]},
        {"runs": [[0, 0, 1], [0, 1, 2]], "offsets": [0, 2]},
    ]
    for change in bad:
        with pytest.raises(InvalidMasksError):
            Masks(**{**good, **change})  # type: ignore[arg-type]  # deliberately wrong


def test_results_cannot_be_changed_in_place() -> None:
    masks = make(np.ones((2, 3, 3), bool))
    with pytest.raises(ValueError, match="read-only"):
        masks.scores[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        masks.fields["name"][0] = "x"
    with pytest.raises(TypeError):
        masks.fields["new"] = np.zeros(2)  # type: ignore[index]  # a read-only mapping


def test_what_a_file_cannot_give_back_is_not_written(tmp_path: Path) -> None:
    annotations = Masks.from_dense(np.ones((3, 1, 2), bool)).to_coco()
    given = [{**one, "attributes": {"kind": kind}} for one, kind in zip(annotations, ["a", None, "c"], strict=True)]
    masks = Masks.from_coco(given).with_metadata(lowest=np.float32(0.5))
    again = Masks.load(masks.save(tmp_path / "a.json"))
    assert again.fields["kind"].tolist() == ["a", None, "c"]
    assert again.metadata["lowest"] == 0.5
    unknown = ONE.with_metadata(at={1})
    for name, wrong in {"a.npz": masks, "b.npz": unknown, "b.json": unknown}.items():
        with pytest.raises(InvalidMasksError, match="cannot be written"):
            wrong.save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_stack_too_large_is_refused_before_it_is_made() -> None:
    masks = Masks.from_crops([np.ones((2, 2), bool)] * 3, [(0, 0)] * 3, (60_000, 60_000))
    with pytest.raises(TooMuchMemoryError, match="label_map"):
        masks.to_dense()
    assert masks.areas_px.tolist() == [4, 4, 4]


def test_sort_is_stable_and_knows_fields() -> None:
    masks = Masks.from_dense(np.tri(4, dtype=bool)[:, None]).with_fields(rank=np.array([1, 0, 1, 0]))
    assert masks.sort("area").areas_px.tolist() == [4, 3, 2, 1]
    assert masks.sort("rank", descending=False).areas_px.tolist() == [2, 4, 1, 3]
    assert masks.sort("rank").areas_px.tolist() == [1, 3, 2, 4]
    with pytest.raises(InvalidParameterError, match="sort key"):
        masks.sort("beauty")


def test_joining_different_images_is_refused() -> None:
    with pytest.raises(InvalidMasksError, match="placed"):
        Masks.concatenate([Masks.empty((2, 2)), Masks.empty((3, 2))])
    with pytest.raises(InvalidMasksError):
        Masks.concatenate([])
    with pytest.raises(InvalidMasksError):
        Masks.empty((2, 2)).iou(Masks.empty((3, 2)))


@pytest.mark.parametrize("limits", [{"min_score": "a"}, {"min_area_px": None}, {"max_area_px": [1]}])
def test_limits_that_are_no_numbers_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameterError, match="no number"):
        Masks.empty((2, 2)).filter(**limits)


NONSENSE: list[Any] = [None, "a", -1.5, object(), {}, [[1, [2]], 3], [[1, 2, 3]], np.zeros((2, 2, 2, 2))]
ONE = Masks.from_dense(np.eye(5, dtype=bool))
CALLS: dict[str, Callable[[Any], object]] = {
    "empty": Masks.empty,
    "from_crops": lambda wrong: Masks.from_crops(wrong, [(0, 0)], (5, 5)),
    "from_crops, origins": lambda wrong: Masks.from_crops([np.eye(2)], wrong, (5, 5)),
    "from_crops, size": lambda wrong: Masks.from_crops([np.eye(2)], [(0, 0)], wrong),
    "concatenate": Masks.concatenate,
    "concatenate, a part": lambda wrong: Masks.concatenate([ONE, wrong]),
    "take": ONE.take,
    "sort": ONE.sort,
    "placed": lambda wrong: ONE.placed(wrong, (5, 5)),
    "placed, size": lambda wrong: ONE.placed((0, 0), wrong),
    "overlaps": ONE.overlaps,
    "iou": ONE.iou,
    "crop": ONE.crop,
    "to_label_map": lambda wrong: ONE.to_label_map(wrong if wrong is not None else "a"),
    "to_polygons": ONE.to_polygons,
    "to_coco": lambda wrong: ONE.to_coco(first_id=wrong),
    "runs": lambda wrong: replace(ONE, runs=wrong),
    "offsets": lambda wrong: replace(ONE, offsets=wrong),
    "image_hw": lambda wrong: replace(ONE, image_hw=wrong),
}


@pytest.mark.parametrize("wrong", NONSENSE, ids=repr)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_nonsense_is_refused_in_words(call: Callable[[Any], object], wrong: Any) -> None:
    with pytest.raises((InvalidMasksError, InvalidParameterError)) as refused:
        call(wrong)
    assert refused.value.expected


@pytest.mark.parametrize("crop", [None, "a", 1.0, [True, False], np.ones((2, 2, 2)), [[1, [2]], 3]])
def test_crops_that_are_no_images_are_refused(crop: Any) -> None:
    with pytest.raises(InvalidMasksError, match="crop"):
        Masks.from_crops([crop], [(0, 0)], (5, 5))


def test_a_column_of_one_value_is_refused() -> None:
    for add in (partial(ONE.take, np.array([0])), ONE.with_fields):
        with pytest.raises(InvalidMasksError, match="a single value"):
            add(kind="cell")


@pytest.mark.parametrize("points_yx", [None, "a", [1], [(1, 2, 3)], [[1, [2]]]])
def test_points_that_are_none_are_refused(points_yx: Any) -> None:
    with pytest.raises(InvalidParameterError, match="points_yx"):
        ONE.hits(points_yx)
    assert ONE.hits((2, 2)).tolist() == ONE.hits([(2.9, 2.1)]).tolist() == [[True]]


@pytest.mark.parametrize("image_hw", ["55", (5.5, 5), (-1, 5), (np.inf, 5), (5,), (5, 5, 3)])
def test_a_size_is_two_whole_numbers(image_hw: Any) -> None:
    with pytest.raises(InvalidMasksError, match="size of an image"):
        Masks.empty(image_hw)
    assert Masks.empty((np.int64(5), 6.0)).image_hw == (5, 6)  # type: ignore[arg-type]


@pytest.mark.parametrize("scores", ["a", [object()], [[0.5], [0.5, 0.5]], [0.5, 0.5]])
def test_scores_that_are_none_are_refused(scores: Any) -> None:
    with pytest.raises(InvalidMasksError, match="scores"):
        Masks.from_dense(np.eye(5, dtype=bool), scores)
