"""Measurements from runs against scikit-image's from pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from skimage.measure import perimeter_crofton, regionprops

from fastsam_core import Masks
from fastsam_core.measurements import measure
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
