"""Masks become vectors: batches, stores, early stops, and masks of hardly any pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from fastsam_core import Masks
from fastsam_core.errors import ImageContentError, InvalidMasksError, InvalidParameterError
from fastsam_core.large_images import open_plane
from fastsam_core.testing import masks_strategy
from fastsam_core.text import CropOptions, EmbeddingStore, TextEncoder, embed_masks, iter_embed_masks
from fastsam_core.text.crops import blend, cut_out, cut_window

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Counted = list[int]


@pytest.fixture
def counted(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Count the pictures of each batch that the encoder sees."""
    seen: Counted = []
    encode = encoder.embed_pictures

    def count(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.append(len(pictures))
        return encode(pictures)

    monkeypatch.setattr(encoder, "embed_pictures", count)
    return seen


# ---- crops --------------------------------------------------------------------------------------------------------


@given(masks_strategy(), st.integers(4, 40), st.floats(0, 1))
def test_a_window_shows_the_whole_mask_in_its_middle(masks: Masks, size_px: int, margin: float) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (*masks.image_hw, 3), np.uint8)
    for index in np.flatnonzero(masks.areas_px):
        rgb8, alpha = cut_window(image, masks, int(index), size_px, margin)
        assert rgb8.shape == (size_px, size_px, 3)
        assert alpha.shape == (size_px, size_px)
        x0, y0, x1, y1 = masks.extents_xyxy[index].tolist()
        side = max(8, round(max(x1 - x0, y1 - y0) * (1 + 2 * margin)))
        # resizing keeps the share of the window that the mask covers, to within its own resolution
        covered = alpha.astype(float).mean() / 255 * side**2
        assert abs(covered - masks.areas_px[index]) <= 0.5 + 2 * (x1 - x0 + y1 - y0) * max(1, side / size_px)


def test_a_window_of_the_masks_own_size_is_the_image_itself() -> None:
    image = np.random.default_rng(1).integers(0, 255, (20, 30, 3), np.uint8)
    dense = np.zeros((1, 20, 30), bool)
    dense[0, 4:14, 8:18] = True
    dense[0, 5, 9] = False
    masks = Masks.from_dense(dense)
    rgb8, alpha = cut_window(image, masks, 0, 10, 0.0)
    np.testing.assert_array_equal(rgb8, image[4:14, 8:18])
    np.testing.assert_array_equal(alpha, np.where(dense[0, 4:14, 8:18], 255, 0))
    np.testing.assert_array_equal(cut_out(image, masks, 0, 10, CropOptions("keep", 0)), rgb8)
    white = cut_out(image, masks, 0, 10, CropOptions("white", 0))
    np.testing.assert_array_equal(white[1, 1], 255)
    np.testing.assert_array_equal(white[0], rgb8[0])


def test_beyond_the_border_the_border_is_repeated() -> None:
    image = np.arange(12 * 12 * 3, dtype=np.uint8).reshape(12, 12, 3)
    dense = np.zeros((1, 12, 12), bool)
    dense[0, 0:4, 8:12] = True
    rgb8, alpha = cut_window(image, Masks.from_dense(dense), 0, 8, 0.5)
    np.testing.assert_array_equal(rgb8[:2, :6], np.broadcast_to(image[0, 6:12], (2, 6, 3)))
    np.testing.assert_array_equal(rgb8[2:, 6:], np.broadcast_to(image[:6, 11:], (6, 2, 3)))
    assert alpha[2:6, 2:6].all()
    assert alpha.sum() == 16 * 255


def smooth_image(image_hw: tuple[int, int]) -> NDArray[np.uint8]:
    import cv2

    noise = np.random.default_rng(3).integers(0, 255, (*image_hw, 3), np.uint8)
    return np.asarray(cv2.normalize(cv2.blur(noise, (71, 71)), np.empty(0), 0, 255, cv2.NORM_MINMAX), np.uint8)


class Watched:
    """An image of which parts are read; keeps the size of each."""

    dtype = np.dtype(np.uint8)

    def __init__(self, rgb8: NDArray[np.uint8]) -> None:
        self.shape, self.read, self._rgb8 = rgb8.shape, list[tuple[int, ...]](), rgb8

    def __getitem__(self, window: tuple[slice, slice]) -> NDArray[np.uint8]:
        part = self._rgb8[window]
        self.read.append(part.shape[:2])
        return part


@pytest.mark.parametrize("x0", [0, 100, 199])
@pytest.mark.parametrize("background", ["keep", "white"])
def test_very_large_windows_are_read_block_by_block(background: Any, x0: int, monkeypatch: pytest.MonkeyPatch) -> None:
    image = smooth_image((700, 1300))
    y, x = np.ogrid[:700, :1300]
    masks = Masks.from_dense([((y - 350) / 350) ** 2 + ((x - x0 - 550) / 550) ** 2 < 1])
    options = CropOptions(background)
    expected = cut_out(image, masks, 0, 8, options)
    monkeypatch.setattr("fastsam_core.text.crops._LONGEST_PX", 400)
    monkeypatch.setattr("fastsam_core.text.crops._BLOCK_PX", 100)
    watched = Watched(image)
    found = cut_out(watched, masks, 0, 8, options).astype(int)
    np.testing.assert_allclose(found[2:6], expected[2:6], atol=4)
    np.testing.assert_allclose(found, expected, atol=20)  # of the border, some pixels are repeated instead of one
    assert max(max(hw) for hw in watched.read) <= 100
    assert sum(height * width for height, width in watched.read) <= image[..., 0].size


@pytest.mark.parametrize("background", ["grey", "blur", "white", "black"])
def test_backgrounds_leave_the_mask_as_it_is(background: str) -> None:
    rgb8 = np.random.default_rng(2).integers(0, 255, (16, 16, 3), np.uint8)
    alpha = np.zeros((16, 16), np.uint8)
    alpha[4:9, 3:12] = 255
    shown = blend(rgb8, alpha, CropOptions(background).background)  # type: ignore[arg-type]
    np.testing.assert_array_equal(shown[4:9, 3:12], rgb8[4:9, 3:12])
    assert (shown[alpha == 0] != rgb8[alpha == 0]).any()


@pytest.mark.parametrize("options", [{"background": "pink"}, {"margin": -0.1}, {"margin": float("nan")}])
def test_options_out_of_range(options: dict[str, object]) -> None:
    with pytest.raises(InvalidParameterError):
        CropOptions(**options)  # type: ignore[arg-type]


# ---- embeddings ---------------------------------------------------------------------------------------------------


def test_every_mask_has_a_unit_vector_but_those_without_pixels(
    encoder: TextEncoder, picture: NDArray[np.uint8], masks: Masks
) -> None:
    embeddings = embed_masks(encoder, picture, masks)
    assert embeddings.shape == (5, encoder.width)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), [1, 1, 1, 1, 0], atol=1e-5)


@pytest.mark.parametrize("device", ["cpu", "cuda"])  # as far as cutting out ahead of the encoder goes
@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_batches_do_not_matter(
    encoder: TextEncoder,
    picture: NDArray[np.uint8],
    masks: Masks,
    batch_size: int,
    device: str,
    counted: Counted,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = embed_masks(encoder, picture, masks)
    counted.clear()
    monkeypatch.setattr(TextEncoder, "device", device)
    np.testing.assert_allclose(embed_masks(encoder, picture, masks, batch_size=batch_size), expected, atol=1e-5)
    assert max(counted) <= batch_size
    assert sum(counted) == 4


def test_an_image_of_which_only_parts_are_read(
    encoder: TextEncoder, picture: NDArray[np.uint8], masks: Masks, counted: Counted, tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "slide.tif", picture, tile=(16, 16), photometric="rgb")
    store = EmbeddingStore()
    with open_plane(tmp_path / "slide.tif") as slide:
        for options in (CropOptions(), CropOptions("blur", 1), CropOptions("ultralytics")):
            expected = embed_masks(encoder, picture, masks, options, store=store)
            np.testing.assert_array_equal(embed_masks(encoder, slide.rgb8, masks, options), expected)
            counted.clear()
            np.testing.assert_array_equal(embed_masks(encoder, slide.rgb8, masks, options, store=store), expected)
            assert counted == []  # the digest of an image is the same, however it is read


def test_no_masks(encoder: TextEncoder, picture: NDArray[np.uint8], counted: Counted) -> None:
    embeddings = embed_masks(encoder, picture, Masks.empty((48, 64)), store=EmbeddingStore())
    assert embeddings.shape == (0, encoder.width)
    assert counted == []


def test_each_step_tells_how_far_it_is(encoder: TextEncoder, picture: NDArray[np.uint8], masks: Masks) -> None:
    steps = iter_embed_masks(encoder, picture, masks, batch_size=3)
    assert list(steps) == [(4, 5), (5, 5)]  # the mask without a pixel needs no work


def test_a_store_spares_the_encoder_known_masks(
    encoder: TextEncoder, picture: NDArray[np.uint8], masks: Masks, counted: Counted
) -> None:
    store = EmbeddingStore()
    first = embed_masks(encoder, picture, masks[:2], store=store)
    every = embed_masks(encoder, picture, masks, store=store)
    assert counted == [2, 2]
    np.testing.assert_array_equal(embed_masks(encoder, picture, masks[::-1], store=store), every[::-1])
    np.testing.assert_array_equal(every[:2], first)
    assert counted == [2, 2]
    embed_masks(encoder, picture, masks, CropOptions("white"), store=store)
    embed_masks(encoder, picture[::-1].copy(), masks, store=store)
    assert counted == [2, 2, 4, 4]


def test_what_was_done_before_a_stop_is_kept(
    encoder: TextEncoder, picture: NDArray[np.uint8], masks: Masks, counted: Counted
) -> None:
    store = EmbeddingStore()
    steps = iter_embed_masks(encoder, picture, masks, batch_size=1, store=store)
    next(steps)
    steps.close()
    embed_masks(encoder, picture, masks, batch_size=8, store=store)
    assert counted == [1, 3]


@pytest.mark.parametrize(
    "image", [np.zeros((48, 64), np.uint8), np.zeros((48, 60, 3), np.uint8), np.zeros((48, 64, 3), np.float32)]
)
def test_another_image(encoder: TextEncoder, masks: Masks, image: NDArray[np.uint8]) -> None:
    with pytest.raises(ImageContentError, match="does not fit"):
        embed_masks(encoder, image, masks)


def test_batches_of_nothing(encoder: TextEncoder, picture: NDArray[np.uint8], masks: Masks) -> None:
    with pytest.raises(InvalidParameterError, match="batch_size"):
        embed_masks(encoder, picture, masks, batch_size=0)


def test_arguments_of_another_kind_are_named(encoder: TextEncoder, tmp_path: Path) -> None:
    image, masks, wrong = np.zeros((4, 4, 3), np.uint8), Masks.from_dense(np.eye(4, dtype=bool)), cast("Any", "a")
    with pytest.raises(InvalidParameterError, match="no text encoder"):
        embed_masks(wrong, image, masks)
    with pytest.raises(ImageContentError, match=r"Image\.rgb8"):
        embed_masks(encoder, wrong, masks)
    with pytest.raises(InvalidMasksError, match="no masks"):
        embed_masks(encoder, image, wrong)
    with pytest.raises(InvalidParameterError, match="options of crops"):
        embed_masks(encoder, image, masks, wrong)
    with pytest.raises(InvalidParameterError, match="batch_size"):
        embed_masks(encoder, image, masks, batch_size=wrong)
    with pytest.raises(InvalidParameterError, match="EmbeddingStore"):
        embed_masks(encoder, image, masks, store=cast("Any", tmp_path))
    for values in ({"max_bytes": wrong}, {"folder": 3}):
        with pytest.raises(InvalidParameterError):
            EmbeddingStore(**values)
    with pytest.raises(InvalidParameterError, match="margin"):
        CropOptions(margin=wrong)
