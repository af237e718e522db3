"""Coordinates under any transforms: pure arithmetic, no viewer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from napari.layers import Image, Labels, Points

from napari_fastsam import _convert
from napari_fastsam._convert import Plane

# napari says so whenever a plane is cut through a turned volume; the coordinates stay right
pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")

reals = st.floats(-50, 50, allow_nan=False)
factors = st.floats(0.05, 20) | st.floats(-20, -0.05)


@st.composite
def transforms(draw: st.DrawFn, ndim: int) -> dict[str, Any]:
    """Scale, translate, rotate, shear and affine of a layer, all at once."""
    angles = [draw(st.floats(-180, 180)) for _ in range(3)]
    linear = (
        np.eye(ndim)
        + 0.3
        * np.array(draw(st.lists(st.floats(-1, 1), min_size=ndim**2, max_size=ndim**2))).reshape(ndim, ndim)
        / ndim
    )
    affine = np.eye(ndim + 1)
    affine[:-1, :-1] = linear
    affine[:-1, -1] = [draw(reals) for _ in range(ndim)]
    return {
        "scale": [draw(factors) for _ in range(ndim)],
        "translate": [draw(reals) for _ in range(ndim)],
        "rotate": angles[0] if ndim == 2 else angles,
        "shear": [draw(st.floats(-0.5, 0.5)) for _ in range(ndim * (ndim - 1) // 2)],
        "affine": affine,
    }


@given(st.data(), st.sampled_from([2, 3]))
def test_layer_map_is_napari_s_own(data: st.DataObject, ndim: int) -> None:
    layer = Image(np.zeros((4,) * ndim), **data.draw(transforms(ndim)))
    point = np.array([data.draw(reals) for _ in range(ndim)])
    np.testing.assert_allclose(_convert.layer_map(layer)(point[None])[0], layer.data_to_world(point), atol=1e-6)


@given(st.data(), st.sampled_from([2, 3]))
def test_a_placed_layer_covers_the_same_world(data: st.DataObject, ndim: int) -> None:
    """A pixel of an output layer has the world coordinates of the image pixels that it stands for."""
    image = Image(np.zeros((8,) * ndim), **data.draw(transforms(ndim)))
    offset = np.array([data.draw(st.integers(0, 5)) for _ in range(ndim)])
    step = np.array([data.draw(st.integers(1, 3)) for _ in range(ndim)])
    placed = Labels(np.zeros((2,) * ndim, int), **_convert.placed_like(image, offset, step))
    pixel = np.array([data.draw(st.integers(0, 1)) for _ in range(ndim)])
    covered = offset + pixel * step + (step - 1) / 2
    np.testing.assert_allclose(placed.data_to_world(pixel), image.data_to_world(covered), atol=1e-6)
    assert _convert.same_pixels(image, placed, offset, step)
    assert not _convert.same_pixels(image, placed, offset + 1, step)


@given(st.data())
def test_points_of_any_layer_reach_the_image_pixel_they_lie_on(data: st.DataObject) -> None:
    image = Image(np.zeros((5, 40, 30)), **data.draw(transforms(3)))
    points = Points(np.zeros((1, 3)), **data.draw(transforms(3)))
    pixel = np.array([data.draw(st.integers(0, n - 1)) for n in (5, 40, 30)])
    coordinates = np.asarray(points.world_to_data(image.data_to_world(pixel)))
    back = _convert.layer_to_layer(points, image, coordinates, (0, 0, 0))
    yx, on_plane = _convert.pixels_of_data(back, Plane((1, 2), (int(pixel[0]), None, None)))
    np.testing.assert_allclose(yx[0], pixel[1:] + 0.5, atol=1e-6)
    assert on_plane.tolist() == [True]


def test_a_flat_points_layer_lies_on_the_plane_that_is_shown() -> None:
    image = Image(np.zeros((5, 40, 30)), scale=(2, 1, 1))
    points = Points([[10, 20]])
    back = _convert.layer_to_layer(points, image, points.data, (6, 0, 0))
    np.testing.assert_allclose(back, [[3, 10, 20]])


def test_units_that_differ_are_converted() -> None:
    image = Image(np.zeros((40, 30)), scale=(0.5, 0.5), units=("um", "um"))
    points = Points([[5000, 10000]], units=("nm", "nm"))
    np.testing.assert_allclose(_convert.layer_to_layer(points, image, points.data, (0, 0)), [[10, 20]])


@pytest.mark.parametrize(
    ("point", "displayed", "free", "expected"),
    [
        ((0, 4.4, 0, 0), (2, 3), (), Plane((1, 2), (2, None, None))),
        ((0, 5.6, 0, 0), (2, 3), (), Plane((1, 2), (3, None, None))),
        ((0, 5, 0, 0), (2, 3), (), Plane((1, 2), (2, None, None))),
        ((0, 7, 0, 0), (2, 3), (), Plane((1, 2), (4, None, None))),
        ((0, 99, 0, 0), (2, 3), (), None),
        ((0, 0, 7, 0), (3, 1), (), Plane((0, 2), (None, 7, None))),
        ((0, 0, 7, 0), (0, 1), (), None),
        ((0, 0, 7, 0), (1, 2, 3), (), None),
        ((0, 99, 0, 0), (2, 3), (0,), Plane((1, 2), (None, None, None))),
    ],
)
def test_the_shown_plane(
    point: tuple[float, ...], displayed: tuple[int, ...], free: tuple[int, ...], expected: Plane | None
) -> None:
    image = Image(np.zeros((5, 40, 30)), scale=(2, 1, 1))
    assert _convert.shown_plane(image, point, displayed, free) == expected


def test_colour_is_no_axis() -> None:
    image = Image(np.zeros((40, 30, 3), np.uint8), rgb=True)
    assert _convert.layer_shape(image) == (40, 30)
    assert _convert.shown_plane(image, (0, 0), (0, 1)) == Plane((0, 1), (None, None))


def test_the_area_of_a_pixel_follows_all_transforms() -> None:
    plane = Plane((0, 1), (None, None))
    assert _convert.pixel_area(Image(np.zeros((4, 4))), plane) == (1.0, "px²")
    area, unit = _convert.pixel_area(Image(np.zeros((4, 4)), scale=(0.5, 0.2), rotate=30, units=("um", "um")), plane)
    assert area == pytest.approx(0.1)
    assert unit == "µm²"
