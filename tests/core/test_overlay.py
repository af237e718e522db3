"""Overlays: colours, fill, outlines, order, prompts, and the contact sheet."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from skimage.color import rgb2lab

from fastsam_core import Box, Masks, Points, Polygon
from fastsam_core.contact_sheet import Card, Picture, contact_sheet
from fastsam_core.errors import InvalidParameterError
from fastsam_core.overlay import assign_colours, display_scale, draw_answer, draw_overlay
from fastsam_core.testing import masks_strategy

if TYPE_CHECKING:
    from fastsam_core.prompts import Prompt

UInt8Array = npt.NDArray[np.uint8]


def rectangles(image_hw: tuple[int, int], *boxes_xyxy: tuple[int, int, int, int]) -> Masks:
    stack = np.zeros((len(boxes_xyxy), *image_hw), dtype=bool)
    for mask, (x_start, y_start, x_stop, y_stop) in zip(stack, boxes_xyxy, strict=True):
        mask[y_start:y_stop, x_start:x_stop] = True
    return Masks.from_dense(stack)


@pytest.fixture
def photo() -> UInt8Array:
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


@given(masks_strategy())
def test_any_masks_can_be_drawn_and_nothing_else_changes(masks: Masks) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*masks.image_hw, 3), dtype=np.uint8)
    before = image.copy()
    drawn = draw_overlay(image, masks)
    untouched = masks.to_label_map() == 0
    np.testing.assert_array_equal(drawn[untouched], image[untouched])
    np.testing.assert_array_equal(image, before)
    assert draw_overlay(image, masks, scale=3).shape == (masks.image_hw[0] * 3, masks.image_hw[1] * 3, 3)


def test_fill_is_the_blend_of_image_and_colour(photo: UInt8Array) -> None:
    masks = rectangles((48, 64), (8, 8, 40, 40))
    drawn = draw_overlay(photo, masks, alpha=0.5, colours=np.array([[200, 100, 0]], dtype=np.uint8))
    expected = 0.5 * photo[20, 20] + np.array([100, 50, 0])
    np.testing.assert_allclose(drawn[20, 20], expected, atol=1)


def test_outline_is_brighter_than_the_fill() -> None:
    black = np.zeros((48, 64, 3), dtype=np.uint8)
    drawn = draw_overlay(black, rectangles((48, 64), (8, 8, 40, 40)), alpha=0.3)
    assert drawn[24, 8].sum() > 1.5 * drawn[24, 24].sum()
    assert not drawn[24, 7].any()


def test_smaller_masks_lie_on_top_whatever_their_order(photo: UInt8Array) -> None:
    colours = np.array([[255, 0, 0], [0, 0, 255]], dtype=np.uint8)
    for boxes, top in (((0, 0, 64, 48), (20, 20, 40, 40)), 1), (((20, 20, 40, 40), (0, 0, 64, 48)), 0):
        drawn = draw_overlay(photo, rectangles((48, 64), *boxes), alpha=1.0, colours=colours)
        np.testing.assert_allclose(drawn[30, 30], colours[top], atol=1)
        np.testing.assert_allclose(drawn[8, 8], colours[1 - top], atol=1)


@pytest.mark.parametrize("scale", [1, 2, 5])
def test_a_single_pixel_is_visible(scale: int) -> None:
    black = np.zeros((20, 30, 3), dtype=np.uint8)
    drawn = draw_overlay(black, rectangles((20, 30), (7, 4, 8, 5)), scale=scale)
    rows, columns = np.nonzero(drawn.any(axis=-1))
    assert {int(row) // scale for row in rows} == {4}
    assert {int(column) // scale for column in columns} == {7}


def test_masks_reach_the_border_of_the_picture() -> None:
    black = np.zeros((20, 30, 3), dtype=np.uint8)
    drawn = draw_overlay(black, rectangles((20, 30), (0, 0, 30, 20)), scale=3)
    assert drawn.any(axis=-1).all()


def test_large_images_are_drawn_without_supersampling() -> None:
    image = np.full((1500, 1600, 3), 100, dtype=np.uint8)
    masks = rectangles((1500, 1600), (100, 100, 700, 700), (600, 600, 1500, 1400))
    drawn = draw_overlay(image, masks)
    assert drawn.shape == image.shape
    changed = (drawn != image).any(axis=-1)
    np.testing.assert_array_equal(changed, masks.to_label_map() > 0)


def test_neighbours_get_different_colours() -> None:
    boxes = [(x, y, x + 10, y + 10) for y in range(0, 100, 10) for x in range(0, 120, 10)]
    colours = assign_colours(rectangles((100, 120), *boxes))
    lab = rgb2lab(colours.reshape(10, 12, 3) / 255)
    across = np.linalg.norm(np.diff(lab, axis=1), axis=-1)
    down = np.linalg.norm(np.diff(lab, axis=0), axis=-1)
    assert min(across.min(), down.min()) > 25


def test_colours_differ_from_the_image_below() -> None:
    masks = rectangles((40, 40), (0, 0, 40, 20), (0, 20, 40, 40))
    favourite = assign_colours(masks[:1])[0]
    image = np.zeros((40, 40, 3), dtype=np.uint8)
    image[:20] = favourite
    chosen = rgb2lab(assign_colours(masks, image)[None] / 255)[0]
    assert np.linalg.norm(chosen[0] - rgb2lab(favourite[None, None] / 255)[0, 0]) > 40
    assert assign_colours(Masks.empty((40, 40)), image).shape == (0, 3)


def test_colours_are_repeatable() -> None:
    masks = rectangles((40, 40), (0, 0, 9, 9), (5, 5, 30, 30), (20, 0, 40, 9))
    np.testing.assert_array_equal(assign_colours(masks), assign_colours(masks))
    assert assign_colours(Masks.empty((4, 4))).shape == (0, 3)


def test_answer_dims_the_rest_and_shows_the_prompts() -> None:
    image = np.full((100, 120, 3), 200, dtype=np.uint8)
    masks = rectangles((100, 120), (20, 20, 60, 60))
    prompts: list[Prompt] = [
        Points([(40.5, 40.5), (80.5, 90.5)], labels=[1, 0]),
        Box([(70, 10, 110, 50)]),
        Polygon([(70, 10), (95, 10), (95, 40)]),
    ]
    drawn = draw_answer(image, masks, prompts)
    assert drawn[5, 5].max() < 140
    assert drawn[25, 25].max() > 140
    red, green, blue = drawn[40, 40].astype(int)
    assert green > red
    assert green > blue
    red, green, blue = drawn[80, 90].astype(int)
    assert red > green
    yellow = (drawn[..., 0] > 150) & (drawn[..., 1] > 130) & (drawn[..., 2] < 110)
    assert yellow[10, 80:100].any()
    assert yellow[94:97, 20:30].any()


def test_answer_without_masks_shows_the_prompt_alone(photo: UInt8Array) -> None:
    assert draw_answer(photo, Masks.empty((48, 64)), [Points([(5, 5)])]).shape == (48, 64, 3)


@pytest.mark.parametrize(("side_px", "scale"), [(100, 10), (384, 2), (960, 1), (5000, 1)])
def test_display_scale(side_px: int, scale: int) -> None:
    assert display_scale((10, side_px)) == scale


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (np.zeros((5, 4, 3), np.uint8), {}),
        (np.zeros((4, 4, 3), np.float32), {}),
        (np.zeros((4, 4), np.uint8), {}),
        (np.zeros((4, 4, 3), np.uint8), {"alpha": 1.5}),
        (np.zeros((4, 4, 3), np.uint8), {"scale": 0}),
        (np.zeros((4, 4, 3), np.uint8), {"colours": np.zeros((2, 3), np.uint8)}),
    ],
)
def test_what_does_not_fit_is_refused(image: UInt8Array, options: dict[str, object]) -> None:
    with pytest.raises(InvalidParameterError, match="Expected"):
        draw_overlay(image, rectangles((4, 4), (0, 0, 2, 2)), **options)  # type: ignore[arg-type]


def test_contact_sheet_shows_every_picture(photo: UInt8Array) -> None:
    red, green, blue = (np.full((30, 40, 3), np.eye(3)[c] * 255, dtype=np.uint8) for c in range(3))
    cards = [Card(f"image {i}", Picture(red, "4 masks"), [Picture(green, "a"), Picture(blue, "b")]) for i in range(4)]
    sheet = contact_sheet(cards, columns=3)
    areas = [int((sheet == np.eye(3)[c] * 255).all(axis=-1).sum()) for c in range(3)]
    assert areas[0] > 4 * areas[1] > 0
    assert areas[1] == areas[2]
    single = contact_sheet([Card("alone", Picture(photo, ""))])
    assert single.shape[1] < sheet.shape[1] / 2


def test_contact_sheet_needs_a_card() -> None:
    with pytest.raises(InvalidParameterError):
        contact_sheet([])


def test_outlines_leave_small_masks_of_large_images_to_be_seen() -> None:
    stack = np.zeros((1, 40, 6400), bool)
    stack[0, 5:35, 5:35] = True
    drawn = draw_overlay(np.zeros((40, 6400, 3), np.uint8), Masks.from_dense(stack), alpha=0)
    assert drawn[6, 6].any()
    assert not drawn[10:30, 10:30].any()


def test_colours_of_many_masks_take_little_memory_at_a_time() -> None:
    corners = [(y, x) for y in range(0, 640, 10) for x in range(0, 640, 10)]
    masks = Masks.from_crops([np.ones((6, 6), bool)] * len(corners), corners, (640, 640))
    assign_colours(masks[:10])
    tracemalloc.start()
    colours = assign_colours(masks)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(np.unique(colours, axis=0)) > 4
    assert peak < 1_600_000  # 0.9 MB for a number of each mask and colour, once


@pytest.mark.parametrize("names", [("größe", "grÖße"), ("клетка", "ядерки")])
def test_names_in_other_letters_are_drawn_in_them(names: tuple[str, str]) -> None:
    """Pillow's own font draws one box for each letter that it lacks."""
    pytest.importorskip("matplotlib")
    picture = Picture(np.zeros((8, 8, 3), np.uint8), "")
    first, second = (contact_sheet([Card(name, picture)]) for name in names)
    assert not np.array_equal(first, second)
