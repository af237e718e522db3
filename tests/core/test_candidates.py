"""Columns of numbers about masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fastsam_core._measure_kernels import hull_areas, run_means
from fastsam_core.candidates import inside_limits, measure_columns
from fastsam_core.errors import InvalidMasksError
from fastsam_core.masks import Masks

Stack = NDArray[np.bool_]
stacks = hnp.arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(1, 14)))


@given(stacks)
@settings(max_examples=40)
def test_hulls_and_means_agree_with_other_libraries(stack: Stack) -> None:
    from scipy.spatial import ConvexHull

    masks = Masks.from_dense(stack)
    values = np.arange(stack[0].size, dtype=np.float32).reshape(stack[0].shape)
    means = run_means(masks.runs, masks.offsets, values)
    hulls = hull_areas(masks.runs, masks.offsets)
    for i, mask in enumerate(stack):
        if not mask.any():
            assert np.isnan(means[i])
            assert hulls[i] == 0
            continue
        corners = np.argwhere(mask)[:, None] + np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
        assert hulls[i] == pytest.approx(ConvexHull(corners.reshape(-1, 2)).volume)
        assert means[i] == pytest.approx(values[mask].mean())


def test_columns_of_a_part_of_the_image() -> None:
    stack = np.zeros((1, 20, 30), bool)
    stack[0, 10:14, 20:26] = True
    values = np.full((8, 10), 7.0)
    columns = measure_columns(Masks.from_dense(stack, [0.5]), values, (9, 18))
    assert tuple(columns) == ("confidence", "area_px", "solidity", "intensity", "y", "x")
    assert {name: column[0] for name, column in columns.items()} == {
        "confidence": 0.5,
        "area_px": 24,
        "solidity": 1,
        "intensity": 7,
        "y": 12,
        "x": 23,
    }


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float16", "longdouble", ">u2", ">i4", ">f4", ">f8"])
def test_values_of_any_type_and_byte_order(dtype: str) -> None:
    stack = np.zeros((1, 20, 30), bool)
    stack[0, 10:14, 20:26] = True
    assert measure_columns(Masks.from_dense(stack), stack[0].astype(dtype))["intensity"] == [1]


def test_limits_include_their_ends_and_let_unmeasured_values_pass() -> None:
    columns = {"a": np.array([1.0, 2, 3, np.nan])}
    assert inside_limits(columns, {"a": (2, 3)}).tolist() == [False, True, True, True]
    assert inside_limits(columns, {}).all()


def test_what_are_no_masks_is_not_measured() -> None:
    with pytest.raises(InvalidMasksError, match="no masks to measure"):
        measure_columns(None)  # type: ignore[arg-type]
