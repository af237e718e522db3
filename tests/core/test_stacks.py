"""Segmenting stacks plane by plane, and linking their planes."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsam_core.checkpoints import ModelInfo
from fastsam_core.errors import (
    ImageContentError,
    ImageReadError,
    ImageTooLargeError,
    InvalidMasksError,
    InvalidParameterError,
)
from fastsam_core.masks import Masks
from fastsam_core.model import FastSAM
from fastsam_core.stacks import LinkedStack, StackLinker, segment_stack
from fastsam_core.testing import RectangleNetwork

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    import torch


def squares(*corners: int) -> Masks:
    stack = np.zeros((len(corners), 12, 40), bool)
    for mask, corner in zip(stack, corners, strict=True):
        mask[:10, corner : corner + 10] = True
    return Masks.from_dense(stack) if corners else Masks.empty((12, 40))


def test_objects_keep_their_ids_and_new_ones_get_new_ids() -> None:
    linker = StackLinker()
    assert linker.add(squares(0, 20)).tolist() == [1, 2]
    assert linker.add(squares(22, 3)).tolist() == [2, 1]
    assert linker.add(squares(30, 5)).tolist() == [3, 1]


def test_the_better_overlap_wins_and_no_id_is_given_twice() -> None:
    linker = StackLinker()
    linker.add(squares(10))
    assert linker.add(squares(14, 11)).tolist() == [2, 1]


def test_an_object_may_miss_a_plane() -> None:
    for max_gap, expected in ((0, 2), (1, 1)):
        linker = StackLinker(max_gap=max_gap)
        linker.add(squares(10))
        linker.add(squares())
        assert linker.add(squares(10)).tolist() == [expected]


def test_the_threshold_decides() -> None:
    for min_iou, expected in ((0.2, 1), (0.5, 2)):
        linker = StackLinker(min_iou=min_iou)
        linker.add(squares(0))
        assert linker.add(squares(5)).tolist() == [expected]


def test_wrong_settings_are_refused() -> None:
    for settings_ in ({"min_iou": 0.0}, {"min_iou": 1.5}, {"min_iou": "a"}, {"max_gap": -1}, {"max_gap": 1.5}):
        with pytest.raises(InvalidParameterError):
            StackLinker(**settings_)


def test_what_cannot_be_linked_is_refused() -> None:
    linker = StackLinker()
    with pytest.raises(InvalidMasksError, match="no masks to link"):
        linker.add(None)  # type: ignore[arg-type]
    linker.add(squares(0))
    with pytest.raises(InvalidMasksError, match="different sizes"):
        linker.add(Masks.empty((12, 41)))
    assert linker.add(squares(0)).tolist() == [1]


@given(st.lists(st.lists(st.integers(0, 30), max_size=4), max_size=5))
@settings(max_examples=30)
def test_ids_are_unique_in_a_plane(planes: list[list[int]]) -> None:
    linker = StackLinker()
    for corners in planes:
        ids = linker.add(squares(*corners))
        assert len(set(ids.tolist())) == len(ids) == len(corners)
        assert (ids > 0).all()


def test_thousands_of_masks_are_linked_without_a_table_of_all_pairs() -> None:
    masks = Masks.from_label_map(np.arange(1, 4001).reshape(50, 80))
    linker = StackLinker()
    linker.add(masks)
    assert linker.add(masks[::-1]).tolist() == list(range(4000, 0, -1))
    tracemalloc.start()
    ids = linker.add(masks)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert ids.tolist() == list(range(1, 4001))
    assert peak < 60e6  # overlaps of all pairs are 128 MB, of which there are three tables


def test_an_object_that_moved_on_leaves_its_old_place() -> None:
    linker = StackLinker(max_gap=2)
    for corner in (0, 4, 8):
        assert linker.add(squares(corner)).tolist() == [1]
    assert linker.add(squares(0)).tolist() == [2]


# ---- segmenting a stack -----------------------------------------------------------------------------------------

IMAGE_HW = (64, 96)
BOXES_XYXY = ((4, 4, 40, 60), (50, 8, 90, 56), (60, 16, 72, 28))


class Blobs:
    """Finds the same rectangles in every plane, one fewer in planes that are black."""

    def forward(self, batch_bhwc: npt.NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        boxes = BOXES_XYXY if batch_bhwc[:, 20:40, 20:40].max() > 0 else BOXES_XYXY[:2]
        return RectangleNetwork(boxes, (0.9, 0.8, 0.7)[: len(boxes)]).forward(batch_bhwc)


@pytest.fixture
def model() -> FastSAM:
    return FastSAM(Blobs(), ModelInfo(name="blobs", imgsz=96))


def volume(planes: int, *, dark: tuple[int, ...] = ()) -> npt.NDArray[np.uint16]:
    pixels = np.full((planes, *IMAGE_HW), 100, np.uint16)
    pixels += np.arange(96, dtype=np.uint16)
    pixels[[*dark]] = 100
    return pixels


def test_planes_are_segmented_in_order_and_linked(model: FastSAM) -> None:
    steps = list(segment_stack(volume(4, dark=(1, 2)), model, axes="ZYX"))
    assert [(step.index, step.count, step.axis) for step in steps] == [(index, 4, "Z") for index in range(4)]
    assert [step.objects.tolist() for step in steps] == [[1, 2, 3], [1, 2], [1, 2], [1, 2, 4]]
    assert all(step.image.image_hw == IMAGE_HW for step in steps)
    longer_gap = list(segment_stack(volume(4, dark=(1, 2)), model, axes="ZYX", max_gap=2))
    assert longer_gap[-1].objects.tolist() == [1, 2, 3]


def test_search_reaches_the_model(model: FastSAM) -> None:
    steps = list(segment_stack(volume(2), model, axes="ZYX", conf=0.75, imgsz=96, tile_px=64, overlap_px=32))
    assert steps[0].masks.metadata["conf"] == 0.75
    assert steps[0].masks.metadata["tile_px"] == 64
    with pytest.raises(InvalidParameterError, match="conf is out of range"):
        list(segment_stack(volume(2), model, axes="ZYX", conf=3))
    with pytest.raises(InvalidParameterError, match="no model"):
        list(segment_stack(volume(2), None, axes="ZYX"))  # type: ignore[arg-type]


def test_the_longest_axis_or_the_one_that_is_named(model: FastSAM) -> None:
    pixels = np.stack([volume(5) + 50 * t for t in range(2)])

    def lowest(**options: Any) -> list[tuple[str, int]]:
        steps = segment_stack(pixels, model, axes="TZYX", contrast=(0, 255), **options)
        return [(step.axis, int(step.image.rgb8.min())) for step in steps]

    assert lowest() == [("Z", 100)] * 5
    assert lowest(plane={"t": 1}) == [("Z", 150)] * 5
    assert lowest(axis="t", plane={"Z": 3}) == [("T", 100), ("T", 150)]


@pytest.mark.parametrize(
    ("axes", "options", "problem"),
    [
        ("ZYX", {"axis": "T"}, "no stack of planes along T"),
        ("CYX", {}, "no stack of planes"),
        ("ZYX", {"plane": {"Z": 0}}, "no stack of planes"),
        ("ZYX", {"plane": {"T": 0}}, "no such plane"),
        ("ZYX", {"channels": 4}, "no channel 4"),
    ],
)
def test_what_is_no_stack_is_refused(model: FastSAM, axes: str, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ImageContentError, match=problem):
        list(segment_stack(volume(4), model, axes=axes, **options))


def test_planes_share_their_contrast_unless_each_is_to_have_its_own(model: FastSAM) -> None:
    pixels = volume(12)
    pixels[6:] = 100 + (pixels[6:] - 100) // 10
    highest = [int(step.image.rgb8.max()) for step in segment_stack(pixels, model, axes="ZYX")]
    assert highest == [255] * 6 + [24] * 6
    each = [int(step.image.rgb8.max()) for step in segment_stack(pixels, model, axes="ZYX", contrast="percentile")]
    assert each == [255] * 12


def test_planes_that_decide_on_the_contrast_are_not_kept(model: FastSAM) -> None:
    planes = np.random.default_rng(0).integers(0, 4000, (8, 400, 400), np.uint16)
    segment_stack(planes[:, :9, :9], model, axes="ZYX").close()
    tracemalloc.start()
    segment_stack(planes, model, axes="ZYX").close()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4 * 3 * planes[0].size


def test_what_to_do_about_planes_that_are_too_large(model: FastSAM, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((5, 40, 50), np.uint8), metadata={"axes": "ZYX"})
    with pytest.raises(ImageTooLargeError, match=r"--level.*--max-pixels") as caught:
        segment_stack(tmp_path / "stack.tif", model, max_pixels=1000, tile_px=30, overlap_px=4)
    assert "--tile-px" not in str(caught.value)


@pytest.mark.parametrize("channels", [(), (2,)])
def test_constant_planes_have_no_say_in_the_contrast(model: FastSAM, channels: tuple[int, ...]) -> None:
    pixels = 3000 + np.random.default_rng(0).integers(0, 200, (6, *channels, *IMAGE_HW)).astype(np.uint16)
    axes = "ZCYX" if channels else "ZYX"
    alone = [step.image.recipe["contrast_limits"] for step in segment_stack(pixels[1:5], model, axes=axes)]
    pixels[[0, 5]] = 0
    padded = list(segment_stack(pixels, model, axes=axes))
    assert [step.image.recipe["contrast_limits"] for step in padded[1:5]] == alone
    assert not padded[0].image.rgb8.any()


@pytest.mark.parametrize(
    ("shape", "axes"), [((3, 2, *IMAGE_HW), "ZCYX"), ((3, *IMAGE_HW, 3), "ZYXS"), ((3, 1, *IMAGE_HW), "ZCYX")]
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_channels_colours_and_constant_planes(model: FastSAM, shape: tuple[int, ...], axes: str, dtype: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    pixels[1] = 0
    steps = list(segment_stack(pixels, model, axes=axes))
    assert [step.image.rgb8.any() for step in steps] == [True, False, True]
    black = list(segment_stack(np.zeros(shape, dtype), model, axes=axes))
    assert not any(step.image.rgb8.any() for step in black)


def test_a_plane_that_cannot_be_read_ends_it(model: FastSAM, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.random.default_rng(0).integers(0, 99, (9, 64, 96), np.uint8), photometric="minisblack")
    path.write_bytes(path.read_bytes()[: 64 * 96 * 5])
    with pytest.raises(ImageReadError, match=r"a\.tif"):
        list(segment_stack(path, model))


def damaged_stack(path: Path, *damaged: int) -> Path:
    """Write a stack of 20 compressed planes, of which some cannot be decoded."""
    pixels = np.random.default_rng(0).integers(0, 99, (20, 64, 96), np.uint8)
    tifffile.imwrite(path, pixels, metadata={"axes": "TYX"}, photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        starts = [tiff.pages[index].dataoffsets[0] for index in damaged]
    content = bytearray(path.read_bytes())
    for start in starts:
        content[start : start + 100] = b"U" * 100
    path.write_bytes(content)
    return path


def test_a_plane_that_cannot_be_decoded_is_named(model: FastSAM, tmp_path: Path) -> None:
    steps = segment_stack(damaged_stack(tmp_path / "a.tif", 4), model)
    assert [next(steps).index for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ImageReadError, match=r"^T = 4: .*a\.tif"):
        next(steps)


@pytest.mark.parametrize("contrast", [None, (0, 99), "percentile"])
def test_planes_that_cannot_be_decoded_are_empty_on_request(contrast: Any, model: FastSAM, tmp_path: Path) -> None:
    path = damaged_stack(tmp_path / "a.tif", 0, 4, 19)
    steps = list(segment_stack(path, model, contrast=contrast, skip_unreadable=True))
    assert [step.index for step in steps] == list(range(20))
    for step in steps:
        unreadable = step.index in (0, 4, 19)
        assert (step.error is not None, len(step.masks) == 0, not step.image.rgb8.any()) == (unreadable,) * 3
    assert str(steps[4].error).startswith("T = 4: ")
    assert isinstance(steps[4].error, ImageReadError)
    stack = LinkedStack.of(steps)
    assert stack.to_label_maps().shape == (20, 64, 96)
    assert set(stack.objects[3]) & set(stack.objects[5]), "objects go on behind it"
    with pytest.raises(ImageReadError, match=r"^T = 0: "):
        segment_stack(path, model, contrast=contrast)
    everything = damaged_stack(tmp_path / "b.tif", *range(20))
    with pytest.raises(ImageReadError, match=r"^T = 0: "):
        segment_stack(everything, model, contrast=contrast, skip_unreadable=True)


def test_the_pages_of_a_file_are_looked_for_once(
    model: FastSAM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        for plane in volume(12):
            tiff.write(plane, contiguous=False, photometric="minisblack")
    opened: list[tifffile.TiffFile] = []

    original = tifffile.TiffFile

    def counted(*args: Any, **kwargs: Any) -> tifffile.TiffFile:
        opened.append(original(*args, **kwargs))
        return opened[-1]

    monkeypatch.setattr(tifffile, "TiffFile", counted)
    for prefetch in (0, 3):
        opened.clear()
        steps = segment_stack(path, model, prefetch=prefetch)
        assert [step.index for step in steps] == list(range(12))
        assert len(opened) == 2  # for the contrast, and for the planes
        assert all(file.filehandle.closed for file in opened)
    opened.clear()
    steps = segment_stack(path, model)
    next(steps)
    steps.close()
    assert all(file.filehandle.closed for file in opened)


# ---- the whole stack --------------------------------------------------------------------------------------------


def test_a_stack_of_label_maps(model: FastSAM) -> None:
    stack = LinkedStack.of(segment_stack(volume(4, dark=(1, 2)), model, axes="ZYX"))
    assert (len(stack), stack.axis, stack.image_hw) == (4, "Z", IMAGE_HW)
    labels = stack.to_label_maps()
    assert (labels.shape, labels.dtype.name) == ((4, *IMAGE_HW), "uint16")
    assert [np.unique(plane).tolist() for plane in labels] == [[0, 1, 2, 3], [0, 1, 2], [0, 1, 2], [0, 1, 2, 4]]
    np.testing.assert_array_equal(labels[0], stack.planes[0].to_label_map())


def test_objects_that_few_planes_show_can_be_left_out(model: FastSAM) -> None:
    stack = LinkedStack.of(segment_stack(volume(4, dark=(0, 1)), model, axes="ZYX"))
    assert [objects.tolist() for objects in stack.objects] == [[1, 2], [1, 2], [1, 2, 3], [1, 2, 3]]
    assert stack.seen_in(1).to_label_maps().tolist() == stack.to_label_maps().tolist()
    often = stack.seen_in(3)
    assert [objects.tolist() for objects in often.objects] == [[1, 2]] * 4
    assert [len(masks) for masks in often.planes] == [2] * 4
    nothing = stack.seen_in(5)
    assert len(nothing) == 0
    assert not nothing.to_label_maps().any()
    for wrong in (0, 1.5, True, None):
        with pytest.raises(InvalidParameterError, match="min_planes"):
            stack.seen_in(wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidParameterError, match="no plane"):
        LinkedStack.of([])


@given(st.lists(st.lists(st.integers(0, 30), max_size=3), min_size=1, max_size=5), st.integers(1, 4))
@settings(max_examples=40)
def test_what_is_left_is_numbered_from_one_and_seen_often_enough(planes: list[list[int]], min_planes: int) -> None:
    linker = StackLinker()
    masks = [squares(*plane) for plane in planes]
    stack = LinkedStack("Z", tuple(masks), tuple(linker.add(plane) for plane in masks)).seen_in(min_planes)
    names, counts = np.unique(np.concatenate(stack.objects), return_counts=True)
    assert names.tolist() == list(range(1, len(stack) + 1))
    assert np.all(counts >= min_planes)


def test_many_objects_need_32_bits() -> None:
    masks = squares(0)
    assert LinkedStack("Z", (masks,), (np.array([65_535]),)).to_label_maps().dtype == np.uint16
    many = LinkedStack("Z", (masks, squares()), (np.array([65_536]), np.zeros(0, np.int64))).to_label_maps()
    assert (many.dtype.name, int(many.max())) == ("uint32", 65_536)
