"""Linking the planes of a stack."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsam_core.errors import InvalidMasksError, InvalidParameterError
from fastsam_core.masks import Masks
from fastsam_core.stacks import StackLinker


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


def test_an_object_that_moved_on_leaves_its_old_place() -> None:
    linker = StackLinker(max_gap=2)
    for corner in (0, 4, 8):
        assert linker.add(squares(corner)).tolist() == [1]
    assert linker.add(squares(0)).tolist() == [2]
