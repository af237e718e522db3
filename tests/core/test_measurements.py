"""Measurements from runs against scikit-image's from pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import perimeter_crofton, regionprops

from fastsam_core import Masks
from fastsam_core.errors import InvalidParameterError
from fastsam_core.measurements import measure, measure_intensities, measure_objects
from fastsam_core.stacks import LinkedStack
from fastsam_core.testing import masks_strategy


@given(masks_strategy())
def test_measurements_are_those_of_scikit_image(masks: Masks) -> None:
    table = measure(masks)
    for index, mask in enumerate(masks.to_dense()):
        assert table["label"][index] == index + 1
        assert table["area_px"][index] == mask.sum()
        if not mask.any():
            assert np.isnan(table["centroid_y"][index])
            assert np.isnan(table["solidity"][index])
            continue
        [region] = regionprops(mask.astype(np.uint8))
        assert tuple(table[name][index] for name in ("y_start", "x_start", "y_stop", "x_stop")) == region.bbox
        assert (table["centroid_y"][index], table["centroid_x"][index]) == pytest.approx(region.centroid)
        assert table["equivalent_diameter_px"][index] == pytest.approx(region.equivalent_diameter_area)
        assert table["axis_major_px"][index] == pytest.approx(region.axis_major_length, abs=1e-6)
        assert table["axis_minor_px"][index] == pytest.approx(region.axis_minor_length, abs=1e-6)
        assert table["eccentricity"][index] == pytest.approx(region.eccentricity, abs=1e-6)
        expected = perimeter_crofton(np.pad(mask, 2), directions=4)
        assert table["perimeter_px"][index] == pytest.approx(expected)
        assert 0 < table["solidity"][index] <= 1


@pytest.mark.parametrize("degrees", range(-75, 90, 15))
def test_orientation_is_that_of_regionprops(degrees: int) -> None:
    y, x = np.mgrid[-40:40, -50:50]
    angle = np.radians(degrees)
    along, across = y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)
    mask = (along / 35) ** 2 + (across / 12) ** 2 < 1
    [region] = regionprops(mask.astype(np.uint8))
    table = measure(Masks.from_dense(mask))
    assert table["orientation_rad"][0] == pytest.approx(region.orientation, abs=1e-9)
    assert table["orientation_rad"][0] == pytest.approx(angle, abs=0.02)
    assert table["solidity"][0] == pytest.approx(region.solidity, abs=0.04)


def test_solidity_of_known_shapes() -> None:
    square = np.zeros((30, 30), dtype=bool)
    square[5:25, 5:25] = True
    corner = square.copy()
    corner[5:15, 15:25] = False  # hull: the square without a triangle of half the missing quarter
    diagonal = np.eye(30, dtype=bool)
    table = measure(Masks.from_dense([square, corner, diagonal]))
    assert table["solidity"] == pytest.approx([1, 300 / 350, 30 / 59])


def test_position_does_not_matter_even_far_from_the_origin() -> None:
    rng = np.random.default_rng(0)
    blob = rng.random((40, 30)) > 0.4
    near, far = measure(Masks.from_dense(blob)), measure(Masks.from_crops([blob], [(60_000, 50_000)], (70_000, 60_000)))
    for name in ("axis_major_px", "axis_minor_px", "orientation_rad", "perimeter_px", "solidity"):
        assert far[name] == pytest.approx(near[name], rel=1e-9)
    assert far["centroid_x"] - near["centroid_x"] == pytest.approx(50_000)


def test_extra_fields_follow() -> None:
    masks = Masks.from_dense(np.ones((2, 3, 3), bool)).with_fields(quality=[1, 2], area_px=[7, 7])
    table = measure(masks)
    assert table["quality"].tolist() == [1, 2]
    assert table["area_px"].tolist() == [9, 9]
    assert all(len(column) == 0 for column in measure(Masks.empty((4, 4))).values())


# ---- micrometres ------------------------------------------------------------------------------------------------


def test_micrometres_of_square_pixels() -> None:
    mask = np.zeros((30, 40), bool)
    mask[4:14, 6:26] = True
    table = measure(Masks.from_dense(mask), pixel_size_um=(0.5, 0.5))
    assert table["area_um2"][0] == 50
    assert (table["centroid_y_um"][0], table["centroid_x_um"][0]) == (4.5, 8)
    for name in ("equivalent_diameter", "axis_major", "axis_minor", "perimeter"):
        assert table[f"{name}_um"][0] == pytest.approx(table[f"{name}_px"][0] / 2)
    assert not [name for name in measure(Masks.from_dense(mask)) if "um" in name]


def test_micrometres_of_oblong_pixels() -> None:
    mask = np.zeros((30, 40), bool)
    mask[4:14, 6:26] = True
    table = measure(Masks.from_dense([mask, mask & False]), pixel_size_um=(2, 0.5))
    assert table["area_um2"].tolist() == [200, 0]
    assert table["equivalent_diameter_um"][0] == pytest.approx(2 * np.sqrt(200 / np.pi))
    assert (table["centroid_y_um"][0], table["centroid_x_um"][0]) == (18, 8)
    assert np.isnan(table["centroid_y_um"][1])
    assert "perimeter_um" not in table  # lengths depend on the direction
    assert "axis_major_um" not in table


@pytest.mark.parametrize("size", [(0, 1), (1, float("nan")), 1, (1, 2, 3), "ab"])
def test_no_pixel_size(size: object) -> None:
    with pytest.raises(InvalidParameterError, match="no pixel size"):
        measure(Masks.empty((3, 3)), pixel_size_um=size)  # type: ignore[arg-type]


# ---- intensities ------------------------------------------------------------------------------------------------


@given(masks_strategy(), st.sampled_from(["u1", ">u2", "i4", "f4", "?"]), st.integers(1, 40))
def test_intensities_are_those_of_numpy(masks: Masks, dtype: str, rows: int) -> None:
    rng = np.random.default_rng(len(masks))
    image = (rng.normal(100, 30, (2, *masks.image_hw)).clip(0, 255)).astype(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastsam_core.measurements._ROWS", rows)
        table = measure_intensities(masks, image, ["DAPI", "GFP"])
        [alone, first] = measure_intensities(masks, image[0]), measure_intensities(masks, image[:1])
    for index, mask in enumerate(masks.to_dense()):
        for name, channel in zip(("DAPI", "GFP"), image, strict=True):
            inside = channel[mask].astype(float)
            for what in ("mean", "std", "min", "max"):
                expected = getattr(np, what)(inside) if len(inside) else np.nan
                assert table[f"intensity_{what}_{name}"][index] == pytest.approx(
                    expected, rel=1e-9, abs=1e-9, nan_ok=True
                )
            assert table[f"intensity_sum_{name}"][index] == pytest.approx(inside.sum(), rel=1e-9)
    for what in ("mean", "std", "min", "max", "sum"):
        np.testing.assert_array_equal(alone[f"intensity_{what}"], table[f"intensity_{what}_DAPI"])
        np.testing.assert_array_equal(first[f"intensity_{what}_0"], table[f"intensity_{what}_DAPI"])


def test_pixels_without_a_value_do_not_count() -> None:
    image = np.array([[1, np.nan, 4], [np.nan] * 3], np.float32)
    masks = Masks.from_dense([[[1, 1, 1], [0, 0, 0]], [[0, 0, 0], [1, 1, 1]]])
    table = measure_intensities(masks, image)
    assert table["intensity_mean"].tolist() == [2.5, pytest.approx(np.nan, nan_ok=True)]
    assert table["intensity_sum"].tolist() == [5, 0]
    assert table["intensity_std"][0] == 1.5


@pytest.mark.parametrize(
    "values", [np.zeros((4, 5)), np.zeros((5, 4, 3)), np.zeros((5, 4), complex), [[1]], None, np.zeros((1, 1, 5, 4))]
)
def test_values_of_another_image(values: object) -> None:
    with pytest.raises(InvalidParameterError, match="no values of the image"):
        measure_intensities(Masks.empty((5, 4)), values)
    with pytest.raises(InvalidParameterError, match="Each channel needs a name"):
        measure_intensities(Masks.empty((5, 4)), np.zeros((3, 5, 4)), ["a", "b"])


def test_colours_of_a_photograph_come_first() -> None:
    colours = np.zeros((5, 4, 3), np.uint8)
    with pytest.raises(InvalidParameterError, match=r"Remedy: colours come first: numpy\.moveaxis\(values, -1, 0\)"):
        measure_intensities(Masks.empty((5, 4)), colours)
    assert len(measure_intensities(Masks.empty((5, 4)), np.moveaxis(colours, -1, 0))) == 3 * 5


# ---- objects of stacks ------------------------------------------------------------------------------------------


def _moving(axis: str) -> tuple[LinkedStack, np.ndarray]:
    """Object 7 goes right by 3 px a plane in planes 0 and 1 and comes back; object 9 is in the last plane alone."""
    labels = np.zeros((3, 20, 30), np.int64)
    for plane, x in enumerate((2, 5, 2)):
        labels[plane, 4:8, x : x + 5] = 7
    labels[2, 10:12, 20:22] = 9
    planes = [
        Masks.from_label_map(one, scores=[0.5 + plane / 10] * len(np.unique(one[one > 0])))
        for plane, one in enumerate(labels)
    ]
    return LinkedStack(axis, tuple(planes), tuple(one.fields["label"].astype(np.int64) for one in planes)), labels


def test_objects_of_a_z_stack() -> None:
    stack, labels = _moving("Z")
    values = np.random.default_rng(0).integers(0, 99, (3, 2, 20, 30))
    of_planes = [measure_intensities(masks, one) for masks, one in zip(stack.planes, values, strict=True)]
    table = measure_objects(stack, pixel_size_um=(0.5, 0.25), z_step_um=2, intensities=of_planes)
    assert table["label"].tolist() == [7, 9]
    assert table["score"] == pytest.approx([0.7, 0.7])
    assert table["planes"].tolist() == [3, 1]
    assert (table["plane_first"].tolist(), table["plane_last"].tolist()) == ([0, 2], [2, 2])
    for index, label in enumerate((7, 9)):
        inside = labels == label
        assert table["volume_px"][index] == inside.sum()
        assert table["area_px_max"][index] == inside.sum(axis=(1, 2)).max()
        centre = [table[f"centroid_{axis}"][index] for axis in ("plane", "y", "x")]
        assert centre == pytest.approx(np.argwhere(inside).mean(axis=0))
        assert table["volume_um3"][index] == inside.sum() * 0.25
        assert table["area_um2_max"][index] == table["area_px_max"][index] / 8
        for channel in range(2):
            of_object = values[:, channel][inside]
            for what in ("mean", "min", "max", "sum"):
                assert table[f"intensity_{what}_{channel}"][index] == pytest.approx(getattr(of_object, what)())
    assert not [name for name in table if name.startswith(("path", "displacement"))]


def test_pixels_of_an_object_without_a_value_do_not_count() -> None:
    mask = np.zeros((10, 10), bool)
    mask[:4, :4] = True
    masks = Masks.from_dense([mask])
    stack = LinkedStack("Z", (masks,) * 3, (np.array([1]),) * 3)
    values = np.full((3, 2, 10, 10), np.nan, np.float32)
    values[0, 0, 0, 0], values[1, 0] = 100, 0  # in the last plane nothing, in the second channel neither
    of_planes = [measure_intensities(masks, one) for one in values]
    assert not [name for name in of_planes[0] if name.split("_")[1] not in ("mean", "std", "min", "max", "sum")]
    table = measure_objects(stack, intensities=of_planes)
    assert table["intensity_mean_0"] == pytest.approx([100 / 17])
    assert [table[f"intensity_{what}_0"].tolist() for what in ("min", "max", "sum")] == [[0], [100], [100]]
    assert (np.isnan(table["intensity_mean_1"]).tolist(), table["intensity_sum_1"].tolist()) == ([True], [0])
    copies = [dict(one) for one in of_planes]
    assert measure_objects(stack, intensities=copies)["intensity_mean_0"] == pytest.approx([100 / 32])


def test_objects_of_a_time_stack_go_somewhere() -> None:
    stack, _ = _moving("T")
    table = measure_objects(stack, pixel_size_um=(0.5, 0.5), z_step_um=2)
    assert table["path_px"].tolist() == [6, 0]
    assert table["displacement_px"].tolist() == [0, 0]
    assert table["path_um"].tolist() == [3, 0]
    assert "volume_um3" not in table
    assert not [name for name in table if "intensity" in name]
    first_two = LinkedStack("T", stack.planes[:2], stack.objects[:2])
    assert measure_objects(first_two)["displacement_px"].tolist() == [3]


def test_a_stack_without_objects() -> None:
    nothing = Masks.empty((5, 6))
    for axis in "ZT":
        stack = LinkedStack(axis, (nothing, nothing), (np.empty(0, np.int64),) * 2)
        table = measure_objects(stack, pixel_size_um=(1, 1), z_step_um=1)
        assert all(len(column) == 0 for column in table.values())
    wrong: list[Any] = [-1, 0, math.inf, "2"]
    for step in wrong:
        with pytest.raises(InvalidParameterError, match="z_step_um"):
            measure_objects(LinkedStack("Z", (nothing,), (np.empty(0, np.int64),)), z_step_um=step)
