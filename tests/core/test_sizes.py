"""Further test sizes: a larger one where objects are small, a smaller one where they fill the image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsam_core._sizes import sizes_after_first, well_seen
from fastsam_core.masks import Masks


def squares(side_px: int, image_hw: tuple[int, int]) -> Masks:
    """Return five squares along the diagonal, as far as they fit."""
    labels = np.zeros(image_hw, np.uint16)
    for number in range(1, 6):
        start = (number - 1) * (side_px + 1)
        labels[start : start + side_px, start : start + side_px] = number
    return Masks.from_label_map(labels)


@pytest.mark.parametrize(
    ("side_px", "image_hw", "sizes", "expected"),
    [
        (12, (400, 640), (640, 384), [1280, 384]),
        (30, (400, 640), (640, 384), [1024, 384]),
        (34, (400, 640), (640, 384), [384]),
        (60, (3000, 3000), (640, 384), [1280, 384]),
        (4, (256, 256), (640, 384), [384]),  # 1024 px would be four times the image
        (4, (512, 512), (640, 384), [1024, 384]),  # and 1280 px more than twice
        (12, (400, 640), (640,), [1280]),
        (12, (400, 640), (640, 1024), [1280, 1024]),
        (30, (400, 640), (640, 1024), [1280, 1024]),  # 1024 px is there already
        (300, (400, 640), (640, 384), [384]),  # half would be too near to 384
        (300, (400, 640), (640,), [320]),
    ],
)
def test_sizes(side_px: int, image_hw: tuple[int, int], sizes: tuple[int, ...], expected: list[int]) -> None:
    assert sizes_after_first(squares(side_px, image_hw), sizes) == expected


def test_nothing_found_asks_for_a_smaller_size() -> None:
    nothing = Masks.from_label_map(np.zeros((90, 90), np.uint16))
    assert sizes_after_first(nothing, (1024,)) == [512]
    assert sizes_after_first(nothing, (640, 384)) == [384]


@given(st.integers(1, 200), st.integers(32, 1500), st.sampled_from([(640, 384), (1024,), (320,), (512, 704)]))
def test_own_sizes_stay_and_one_more_at_most_is_added(side_px: int, long_px: int, sizes: tuple[int, ...]) -> None:
    found = sizes_after_first(squares(side_px, (40, long_px)), sizes)
    added = [size for size in found if size not in sizes[1:]]
    assert [size for size in found if size not in added] == list(sizes[1:])
    assert len(added) <= 1
    assert all(size % 32 == 0 and (size < sizes[0] or size <= 2 * long_px) for size in added)


def test_what_a_smaller_size_sees_badly_is_left_out() -> None:
    labels = np.zeros((200, 768), np.uint16)
    labels[:63, :64], labels[:64, 100:164] = 1, 2  # 32 px across at 384, but for a row
    assert well_seen(Masks.from_label_map(labels), 384).areas_px.tolist() == [64 * 64]
    assert len(well_seen(Masks.from_label_map(labels), 768)) == 2
