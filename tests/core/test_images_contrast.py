"""Number types, contrast and the composition of channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fastsam_core._image_contrast import SAMPLE_VALUES, percentile_limits, to_uint8
from fastsam_core.errors import ImageContentError
from fastsam_core.images import read_image

Array = NDArray[Any]

INTEGERS = ["int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
FLOATS = ["float16", "float32", "float64"]


def _noise(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(100, 12, shape).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
def test_contrast_does_not_depend_on_the_number_type(dtype: str) -> None:
    values = _noise((64, 64)) // 2
    expected = read_image(values, contrast="percentile").rgb8
    assert len(np.unique(expected)) > 20
    assert np.array_equal(read_image(values.astype(dtype)).rgb8, expected)
    assert np.array_equal(
        read_image(values.astype(dtype), contrast=(20, 90)).rgb8, read_image(values, contrast=(20, 90)).rgb8
    )


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.floats(-1e6, 1e6, width=32)),
    st.floats(1e-3, 1e3),
    st.floats(-1e3, 1e3),
)
def test_gray_contrast_is_monotone_and_free_of_scale(values: Array, gain: float, offset: float) -> None:
    gray = read_image(values).rgb8[..., 0].astype(int)
    order = np.argsort(values.ravel(), kind="stable")
    assert (np.diff(gray.ravel()[order]) >= 0).all()
    spread = float(np.ptp(values))
    if spread > 1e-3:  # below that, offset swallows the last digits
        scaled = read_image(values * gain + offset).rgb8[..., 0].astype(int)
        low, high = percentile_limits(values)
        if high - low > 1e-6 * np.abs(values).max() + 1e-6:
            assert np.abs(scaled - gray).max() <= 1


@given(hnp.arrays(st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i8", "f2", "f4", "f8", "?"]), (9, 7)))
def test_any_values_give_an_image_without_warning(values: Array) -> None:
    for contrast in (None, "percentile", (0.25, 200.0)):
        image = read_image(values, contrast=contrast)
        assert image.image_hw == (9, 7)
    assert not read_image(values).rgb8[~np.isfinite(values) & ~(values > 0)].any()


@given(
    hnp.arrays(st.sampled_from(["u1", "i1", "u2", "i2"]), (5, 5)),
    st.tuples(st.floats(-70000, 70000), st.floats(0.1, 70000)),
)
def test_tables_and_arithmetic_agree(values: Array, window: tuple[float, float]) -> None:
    low, high = window[0], window[0] + window[1]
    exact = np.rint(np.clip((values.astype(np.float64) - low) * (255.0 / (high - low)), 0, 255)).astype(np.uint8)
    assert np.array_equal(to_uint8(values, (low, high)), exact)
    assert np.array_equal(to_uint8(values.astype(np.float64), (low, high)), exact)


def test_blocks_of_rows_cover_the_whole_plane() -> None:
    values = np.random.default_rng(0).random((1500, 1500))
    assert np.array_equal(to_uint8(values, (0.0, 1.0)), np.rint(values * 255).astype(np.uint8))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(bad: float) -> None:
    values = _noise((50, 60)).astype(np.float32)
    expected = read_image(values).rgb8
    values[3, 4:20] = bad
    image = read_image(values).rgb8
    assert (image[3, 4:20] == (255 if bad == np.inf else 0)).all()
    assert np.abs(image[10:].astype(int) - expected[10:]).max() <= 2
    assert (read_image(np.full((4, 4), bad)).rgb8 == (255 if bad == np.inf else 0)).all()


@pytest.mark.parametrize("shape", [(8, 8), (100, 100), (700, 700)])
@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_hot_and_dead_pixels_do_not_decide(shape: tuple[int, int], dtype: str) -> None:
    values = _noise(shape).astype(dtype)
    clean = read_image(values).rgb8.astype(int)
    values[2, 3], values[5, 6] = 60000, 0
    hot = read_image(values).rgb8.astype(int)
    elsewhere = np.ones(shape, bool)
    elsewhere[2, 3] = elsewhere[5, 6] = False
    assert hot[2, 3, 0] == 255
    assert np.abs(hot - clean)[elsewhere].max() < 80
    assert hot[elsewhere].std() > 20


@pytest.mark.parametrize("value", [0, 7, 255])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int64", "float32", "float64"])
def test_constant_images(value: int, dtype: str) -> None:
    for shape in [(1, 1), (20, 30), (20, 30, 3), (2, 20, 30)]:
        rgb8 = read_image(np.full(shape, value, dtype)).rgb8
        assert len(np.unique(rgb8)) == 1 or shape[0] == 2
        assert dtype != "uint8" or value == rgb8.max()


def test_sparse_images_keep_their_few_bright_pixels() -> None:
    values = np.zeros((300, 300), np.uint16)
    values[10:14, 10:14] = 500
    assert (read_image(values).rgb8[10:14, 10:14] == 255).all()
    large = np.zeros((2100, 2100), np.uint16)
    assert large.size > SAMPLE_VALUES
    large[1, 1] = 9
    assert read_image(large).rgb8[1, 1, 0] == 255


def test_limits_of_large_planes_come_from_a_sample() -> None:
    values = np.random.default_rng(0).integers(1000, 3000, (2500, 2500), dtype=np.uint16)
    low, high = percentile_limits(values)
    exact = np.percentile(values, [0.1, 99.9])
    assert np.abs(np.array([low, high]) - exact).max() < 3


def test_contrast_limits_of_the_caller() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = read_image(values, contrast=(50, 150))
    assert np.array_equal(image.rgb8[..., 0], np.rint((values.astype(float) - 50).clip(0, 100) * 2.55))
    assert image.recipe["contrast_limits"] == [[50.0, 150.0]]
    assert image.recipe["contrast"] == "given"
    two = np.stack([values, values])
    apart = read_image(two, contrast=[(0, 255), (100, 101)], channels={0: "red", 1: "blue"}).rgb8
    assert np.array_equal(apart[..., 0], values)
    assert np.array_equal(apart[..., 2], np.where(values > 100, 255, 0))
    colour = read_image(np.dstack([values] * 3), contrast=[(0, 255), (100, 101), (0, 255)]).rgb8
    assert np.array_equal(colour[..., 1], np.where(values > 100, 255, 0))


@pytest.mark.parametrize(
    "contrast",
    [
        (5, 5),
        (9, 3),
        (np.nan, 4),
        (0, np.inf),
        (1,),
        (1, 2, 3),
        [(0, 1)] * 3,
        "auto",
        "",
        7,
        ("a", "b"),
        [(0, 1), (2, 1)],
    ],
)
def test_wrong_contrast_limits(contrast: Any) -> None:
    for array in (np.zeros((2, 20, 30), np.uint8), np.zeros((20, 30), np.float32)):
        with pytest.raises(ImageContentError, match="contrast"):
            read_image(array, contrast=contrast)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_float_photos_are_scaled_by_their_range(dtype: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    fractions = (rgb / 255).astype(dtype)
    assert np.abs(read_image(fractions).rgb8.astype(int) - rgb).max() <= (1 if dtype == "float16" else 0)
    assert np.array_equal(read_image(rgb.astype(dtype)).rgb8, rgb)
    assert read_image(fractions).recipe["contrast"] == "range"
    with_alpha = np.dstack([fractions, np.ones((30, 40), dtype)])
    assert np.array_equal(read_image(with_alpha).rgb8, read_image(fractions).rgb8)
    half = np.dstack([fractions, np.full((30, 40), 0.5, dtype)])
    assert np.abs(read_image(half).rgb8 - rgb / 2).max() <= 1.5


@pytest.mark.parametrize(
    ("dtype", "factor"), [("uint16", 257), ("int32", 257), ("uint16", 1), ("int64", 1), ("int16", 1)]
)
def test_integer_photos_are_scaled_by_their_range(dtype: str, factor: int) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    assert np.array_equal(read_image((rgb.astype(np.int64) * factor).astype(dtype)).rgb8, rgb)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_dim_colour_images_are_stretched_and_keep_their_hue(dtype: str) -> None:
    gray = np.linspace(0, 1000, 3000).reshape(50, 60)
    values = (np.dstack([gray, gray / 2, gray / 4]) + 40).astype(dtype)
    rgb8 = read_image(values).rgb8.astype(float)
    assert rgb8.max() == 255
    assert np.abs(rgb8[25:, :, 1] / rgb8[25:, :, 0] - 0.5).max() < 0.02
    assert np.abs(rgb8[25:, :, 2] / rgb8[25:, :, 0] - 0.25).max() < 0.02


def test_dark_photos_stay_dark_but_twelve_bits_of_sixteen_do_not() -> None:
    photo = np.random.default_rng(0).integers(0, 80, (30, 40, 3), dtype=np.uint8)
    assert np.array_equal(read_image(photo / np.float32(255)).rgb8, photo)
    camera = read_image(photo.astype(np.uint16) * 50)
    assert camera.recipe["contrast"] == "percentile"
    assert camera.rgb8.max() == 255


@pytest.mark.parametrize("shape", [(60, 80), (60, 80, 3)])
def test_faint_8_bit_images_are_stretched(shape: tuple[int, ...]) -> None:
    faint = 10 + np.random.default_rng(0).integers(0, 60, shape, dtype=np.uint8)
    image = read_image(faint)
    assert image.recipe["contrast"] == "percentile"
    assert (int(image.rgb8.min()), int(image.rgb8.max())) == (0, 255)
    assert read_image(faint, contrast=(0, 255)).rgb8.max() == 69
    assert read_image(faint + np.arange(80, dtype=np.uint8).reshape((80,) + (1,) * (len(shape) - 2))).rgb8.max() < 150
    constant = np.full(shape, 40, np.uint8)
    assert np.unique(read_image(constant).rgb8).tolist() == [40]


def test_boolean_images() -> None:
    mask = np.eye(20, dtype=bool)
    assert np.array_equal(read_image(mask).rgb8[..., 0], mask * np.uint8(255))
    assert np.array_equal(read_image(np.dstack([mask, ~mask, mask])).rgb8[..., 1], ~mask * np.uint8(255))


def test_alpha_that_was_never_filled_in_is_ignored() -> None:
    rgba = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    rgba[..., 3] = 0
    image = read_image(rgba)
    assert np.array_equal(image.rgb8, rgba[..., :3])
    assert image.recipe["alpha"] == "ignored (zero everywhere)"


# ---- channels ---------------------------------------------------------------------------------------------------


def test_channels_have_contrast_of_their_own() -> None:
    weak, strong = _noise((60, 80), 1).astype(np.uint16), _noise((60, 80), 2).astype(np.uint16) * 200
    rgb8 = read_image(np.stack([weak, strong])).rgb8
    assert np.array_equal(rgb8[..., 0], read_image(weak).rgb8[..., 0])  # magenta
    assert np.array_equal(rgb8[..., 1], read_image(strong).rgb8[..., 0])  # green
    assert np.array_equal(rgb8[..., 2], rgb8[..., 0])


@given(hnp.arrays(np.uint8, (4, 6, 7)), st.permutations(range(4)))
def test_the_order_of_chosen_channels_is_kept(values: Array, order: list[int]) -> None:
    image = read_image(values, channels=order[:3], contrast=(0, 255))
    assert np.array_equal(image.rgb8, np.dstack([values[c] for c in order[:3]]))
    assert image.recipe["channels"] == order[:3]


def test_colours_add_up_and_saturate() -> None:
    values = np.full((3, 8, 8), 200, np.uint8)
    image = read_image(values, channels={0: "gray", 1: (0.5, 0, 0), 2: "#004080"})
    assert image.rgb8[0, 0].tolist() == [255, 250, 255]
    assert read_image(values, channels={2: (255, 128, 0)}).rgb8[0, 0].tolist() == [200, 100, 0]
    assert read_image(values, channels={1: "Magenta"}).rgb8[0, 0].tolist() == [200, 0, 200]
    assert read_image(values[0], channels={0: "green"}).rgb8[0, 0].tolist() == [0, 200, 0]
    many = np.zeros((6, 8, 8), np.uint8)
    many[np.arange(6), np.arange(6), 0] = 255
    assert read_image(many).rgb8[:6, 0].tolist() == [
        [255, 0, 0],
        [0, 255, 0],
        [0, 0, 255],
        [0, 255, 255],
        [255, 0, 255],
        [255, 255, 0],
    ]


def test_many_channels_need_a_choice_or_a_name() -> None:
    values = np.random.default_rng(0).integers(0, 256, (40, 30, 50), dtype=np.uint8)
    assert np.array_equal(read_image(values, channels=33).rgb8[..., 0], values[33])
    assert read_image(values, axes="CYX").image_hw == (30, 50)


@pytest.mark.parametrize(
    "channels",
    [
        3,
        -1,
        [0, 3],
        [],
        [0, 0],
        "red",
        1.0,
        True,
        [True],
        {0: "mauve"},
        {0: (1, 2)},
        {"0": "red"},
        {0: "#12"},
        {0: (-1, 0, 0)},
        {},
    ],
)
def test_wrong_channels(channels: Any) -> None:
    with pytest.raises(ImageContentError):
        read_image(np.zeros((3, 20, 30), np.uint8), channels=channels)
    with pytest.raises(ImageContentError):
        read_image(np.zeros((20, 30, 3), np.uint8), channels=channels)
