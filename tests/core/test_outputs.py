"""Output files: names, contents, and what happens when they cannot be written."""

from __future__ import annotations

import csv
import json
import resource
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

from fastsam_core import Masks
from fastsam_core._mask_pixels import label_strips, reduced
from fastsam_core.errors import InvalidMasksError, InvalidParameterError, OutputError
from fastsam_core.measurements import measure
from fastsam_core.outlines import write_geojson, write_rois
from fastsam_core.outputs import (
    DEFAULT_FORMATS,
    FORMATS,
    output_paths,
    unique_names,
    write_coco,
    write_image,
    write_label_map,
    write_measurements,
    write_outputs,
    write_stack,
)
from fastsam_core.overlay import draw_overlay
from fastsam_core.stacks import LinkedStack
from fastsam_core.testing import masks_strategy

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def masks() -> Masks:
    stack = np.zeros((3, 40, 50), dtype=bool)
    stack[0, 5:30, 5:35] = True
    y, x = np.mgrid[:40, :50]
    stack[1] = (y - 18) ** 2 + (x - 20) ** 2 < 49
    stack[2, 32:38, 40:48] = True
    return Masks.from_dense(stack, scores=[0.9, 0.8, 0.5])


# ---- names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (["a.png", "b.png"], ["a", "b"]),
        (["a.png", "a.tif", "b.png"], ["a_png", "a_tif", "b"]),
        (["left/a.png", "right/a.png", "b.png"], ["left__a_png", "right__a_png", "b"]),
        (["a.png", "A.png"], ["a_png-2", "A_png-1"]),
        (["a.png", "A.png", "A_png-1.png"], ["a_png-3", "A_png-1-", "A_png-1"]),
        (["x/y.png", "x__y_png.png", "z/y.png"], ["x__y_png-1", "x__y_png-2", "z__y_png"]),
        (["cells.ome.tif"], ["cells.ome"]),
        ([], []),
    ],
)
def test_names(sources: list[str], names: list[str]) -> None:
    assert unique_names(sources) == names


_PARTS = st.sampled_from(["a", "b", "A", "a_png", "b__a", "x.y", "A_png-1", "a-1"])


@given(
    st.lists(
        st.builds(
            lambda folders, stem, suffix: "/".join([*folders, stem + suffix]),
            st.lists(_PARTS, max_size=3),
            _PARTS,
            st.sampled_from([".png", ".PNG", ".tif", ""]),
        ),
        unique=True,
        max_size=9,
    ),
)
def test_names_are_unique_and_do_not_depend_on_order(sources: list[str]) -> None:
    names = unique_names(sources)
    assert len({name.casefold() for name in names}) == len(sources)
    assert not any("/" in name for name in names)
    shuffled = sorted(sources, reverse=True)
    assert dict(zip(shuffled, unique_names(shuffled), strict=True)) == dict(zip(sources, names, strict=True))


def test_the_same_file_twice_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match=r"a\.png"):
        unique_names(["a.png", "./x/../a.png"])


# ---- contents ---------------------------------------------------------------------------------------------------


def test_label_map_keeps_small_masks_on_top(masks: Masks, tmp_path: Path) -> None:
    labels = tifffile.imread(write_label_map(tmp_path / "labels.tif", masks))
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, masks.to_label_map())
    assert labels[18, 20] == 2
    assert labels[6, 6] == 1


def test_label_map_of_many_masks_has_32_bits(tmp_path: Path) -> None:
    many = Masks.from_label_map(np.arange(66_000).reshape(220, 300) + 1)
    labels = tifffile.imread(write_label_map(tmp_path / "labels.tif", many))
    assert labels.dtype == np.uint32
    assert labels.max() == 66_000


@given(masks_strategy(), st.integers(1, 40))
def test_strips_are_the_label_map(masks: Masks, rows: int) -> None:
    strips = list(label_strips(masks, rows))
    assert all(len(strip) == rows for strip in strips[:-1])
    np.testing.assert_array_equal(np.concatenate(strips), masks.to_label_map())


@pytest.mark.parametrize(("limit", "large"), [(1000, True), (2000, False)])
def test_very_large_stacks_of_labels_are_big_tiff(
    limit: int, large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastsam_core.outputs._BIGTIFF_BYTES", limit)
    masks = Masks.from_dense(np.eye(20, dtype=bool)[None])
    stack = LinkedStack("Z", (masks, masks), (np.array([1]), np.array([1])))
    path = write_stack(tmp_path, "a", stack, {}, formats=["labels"])["labels"]
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff is large
    np.testing.assert_array_equal(tifffile.imread(path), stack.to_label_maps())


def test_very_large_label_maps_are_written_in_tiles(
    masks: Masks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastsam_core.outputs._LARGE_PX", 1000)
    monkeypatch.setattr("fastsam_core.outputs._TILE_PX", 16)
    path = write_label_map(tmp_path / "labels.tif", masks)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.series[0].keyframe.is_tiled
        assert tiff.is_bigtiff
    np.testing.assert_array_equal(tifffile.imread(path), masks.to_label_map())


@given(masks_strategy(), st.data())
def test_reduced_masks_have_the_values_at_pixel_centres(masks: Masks, data: st.DataObject) -> None:
    height, width = masks.image_hw
    hw = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    y, x = (
        ((np.arange(short) + 0.5) * long / short).astype(int) for short, long in zip(hw, (height, width), strict=True)
    )
    small = reduced(masks, hw)
    np.testing.assert_array_equal(small.to_dense(), masks.to_dense()[:, y][:, :, x])
    np.testing.assert_array_equal(small.scores, masks.scores)


def test_the_overlay_of_a_reduced_image_is_as_small(masks: Masks, tmp_path: Path) -> None:
    rgb8 = np.full((20, 25, 3), 90, np.uint8)
    paths = write_outputs(tmp_path, "slide", masks, rgb8, formats=("overlay", "labels"))
    with Image.open(paths["overlay"]) as picture:
        np.testing.assert_array_equal(np.asarray(picture), draw_overlay(rgb8, reduced(masks, (20, 25))))
    assert tifffile.imread(paths["labels"]).shape == masks.image_hw
    with pytest.raises(InvalidParameterError):  # another image
        write_outputs(tmp_path, "other", masks, np.full((20, 30, 3), 90, np.uint8), formats=("overlay",))


@given(masks_strategy())
def test_coco_gives_the_masks_back(masks: Masks) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tagged = masks.with_fields(prompt_index=np.arange(len(masks))).with_metadata(conf=np.float32(0.5))
        path = write_coco(Path(folder) / "masks.json", tagged, file_name="cells.png")
        data = json.loads(path.read_text())
    assert data["images"] == [
        {"id": 1, "file_name": "cells.png", "height": masks.image_hw[0], "width": masks.image_hw[1]}
    ]
    assert data["info"]["conf"] == 0.5
    back = Masks.from_coco(data["annotations"], masks.image_hw)
    np.testing.assert_array_equal(back.to_dense(), masks.to_dense())


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_coco_is_read_by_pycocotools(masks: Masks, tmp_path: Path) -> None:
    data = COCO(str(write_coco(tmp_path / "masks.json", masks, file_name="cells.png")))
    annotations = data.loadAnns(data.getAnnIds(imgIds=[1]))
    assert [data.annToMask(entry).sum() for entry in annotations] == masks.areas_px.tolist()
    assert [entry["score"] for entry in annotations] == pytest.approx([0.9, 0.8, 0.5])


def test_measurements_as_csv(masks: Masks, tmp_path: Path) -> None:
    with_empty = Masks.concatenate([masks, Masks.from_dense(np.zeros((1, 40, 50), bool))])
    with write_measurements(tmp_path / "m.csv", with_empty).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[0]["area_px"] == "750"
    assert float(rows[0]["score"]) == pytest.approx(0.9)
    assert rows[3]["area_px"] == "0"
    assert rows[3]["centroid_y"] == rows[3]["solidity"] == ""


def test_large_numbers_in_tables_keep_two_digits_behind_the_point(masks: Masks, tmp_path: Path) -> None:
    on_a_slide = masks.placed((123_456, 98_765), (200_000, 150_000))
    sums = {"sum": np.array([1_234_567_890.25, 0.1234567, -np.inf])}
    with write_measurements(tmp_path / "m.csv", on_a_slide, intensities=sums).open(newline="") as file:
        rows = list(csv.DictReader(file))
    with write_measurements(tmp_path / "n.csv", masks).open(newline="") as file:
        near = list(csv.DictReader(file))
    for row, other in zip(rows, near, strict=True):
        assert float(row["centroid_y"]) - 123_456 == pytest.approx(float(other["centroid_y"]), abs=0.006)
        assert float(row["centroid_x"]) - 98_765 == pytest.approx(float(other["centroid_x"]), abs=0.006)
    assert [row["sum"] for row in rows] == ["1234567890.25", "0.123457", "-inf"]


def test_all_formats_without_any_mask(tmp_path: Path) -> None:
    image = np.full((20, 30, 3), 7, dtype=np.uint8)
    paths = write_outputs(tmp_path / "new" / "folder", "blank", Masks.empty((20, 30)), image, formats=FORMATS)
    assert paths == output_paths(tmp_path / "new" / "folder", "blank", FORMATS)
    with Image.open(paths["overlay"]) as picture:
        np.testing.assert_array_equal(np.asarray(picture), image)
    assert not tifffile.imread(paths["labels"]).any()
    assert json.loads(paths["coco"].read_text())["annotations"] == []
    assert len(paths["csv"].read_text().splitlines()) == 1
    assert json.loads(paths["geojson"].read_text())["features"] == []
    assert len(list((tmp_path / "new" / "folder").iterdir())) == 6
    assert write_outputs(tmp_path, "by default", Masks.empty((20, 30)), image).keys() == set(DEFAULT_FORMATS)
    with pytest.raises(InvalidParameterError, match="write_stack"):
        write_outputs(tmp_path, "a stack", Masks.empty((20, 30)), image, formats=("labels", "objects"))
    assert not list(tmp_path.glob("a stack*"))  # nothing was written before the error


def test_planes_of_a_stack_may_lack_fields_and_metadata(masks: Masks, tmp_path: Path) -> None:
    """As those that could not be read do, and the first may be one."""
    found = masks.with_fields(quality=[0.7, 0.6, 0.5]).with_metadata(conf=0.4)
    planes = (Masks.empty(masks.image_hw), found, masks)
    stack = LinkedStack("Z", planes, (np.empty(0, np.int64), np.array([4, 5, 6]), np.array([4, 5, 6])))
    values = [{"intensity_mean": np.arange(10.0, 10 + len(plane))} for plane in planes]
    paths = write_stack(tmp_path, "a", stack, {}, formats=["csv", "coco"], intensities=values)
    with paths["csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[-3:] == ["solidity", "quality", "intensity_mean"]
    assert [row["plane"] for row in rows] == ["1"] * 3 + ["2"] * 3
    assert [row["label"] for row in rows] == ["4", "5", "6"] * 2
    assert [row["quality"] for row in rows] == ["0.7", "0.6", "0.5", "", "", ""]
    assert [row["intensity_mean"] for row in rows] == ["10", "11", "12"] * 2
    assert json.loads(paths["coco"].read_text())["info"]["conf"] == 0.4


# ---- failures ---------------------------------------------------------------------------------------------------

WRITERS: list[Callable[[Path, Masks], object]] = [
    write_label_map,
    write_measurements,
    write_geojson,
    write_rois,
    lambda path, masks: write_coco(path, masks, file_name="x"),
    lambda path, masks: write_image(path, np.random.default_rng(0).integers(0, 255, (90, 90, 3), dtype=np.uint8)),
]


@pytest.mark.parametrize("write", WRITERS)
def test_no_space_leaves_the_earlier_file_and_nothing_else(
    write: Callable[[Path, Masks], Path], masks: Masks, tmp_path: Path
) -> None:
    target = tmp_path / "result.bin"
    target = target.with_suffix(".png" if write is WRITERS[-1] else ".tif")
    target.write_bytes(b"earlier")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"result\.(png|tif)"):
            write(target, masks)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert target.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_where_the_folder_should_be(masks: Masks, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("not a folder")
    with pytest.raises(OutputError, match="folder"):
        write_label_map(tmp_path / "out" / "labels.tif", masks)


@pytest.mark.parametrize("wrong", [None, "a", 3, np.zeros((4, 4), bool)])
def test_what_is_no_masks_no_image_or_no_path_is_named(wrong: Any, tmp_path: Path) -> None:
    masks = Masks.from_dense(np.eye(4, dtype=bool))
    rgb8 = np.zeros((4, 4, 3), np.uint8)
    for refused in (
        lambda: measure(wrong),
        lambda: write_label_map(tmp_path / "a.tif", wrong),
        lambda: write_measurements(tmp_path / "a.csv", wrong),
        lambda: draw_overlay(rgb8, wrong),
    ):
        with pytest.raises(InvalidMasksError, match="no masks"):
            refused()
    with pytest.raises(InvalidParameterError, match="does not fit"):
        draw_overlay(wrong, masks)
    if not isinstance(wrong, str):
        with pytest.raises(InvalidParameterError, match="names no file"):
            write_image(wrong, rgb8)
