"""Windows and tiles: a scene cut up gives the masks of the whole."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsam_core._overview import Overview
from fastsam_core._windows import Window, drop_duplicates, join_tiles, join_windows, plan_windows
from fastsam_core.confidence import best_conf
from fastsam_core.errors import ImageContentError, ImageReadError, InvalidParameterError
from fastsam_core.images import Image, read_image
from fastsam_core.masks import Masks
from fastsam_core.model import FastSAM
from fastsam_core.pipeline import iter_segment
from fastsam_core.tiling import segment_tiles

if TYPE_CHECKING:
    import numpy.typing as npt


class BlobNetwork:
    """Finds each bright blob of a letterboxed image (which is not scaled in these tests)."""

    def forward(self, batch_bhwc: npt.NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        from skimage.measure import label, regionprops

        count, height, width, _ = batch_bhwc.shape
        raw = np.zeros((count, 6, 80), np.float32)
        bright = (batch_bhwc[..., 0] > 150).astype(np.float32)
        prototypes = bright.reshape(count, height // 4, 4, width // 4, 4).mean((2, 4))[:, None] - 0.5
        for index in range(count):
            for column, region in enumerate(regionprops(label(bright[index] > 0))):
                y0, x0, y1, x1 = region.bbox
                raw[index, :, column] = ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, 0.8, 1)
        return torch.from_numpy(raw), torch.from_numpy(prototypes.astype(np.float32))


def discs(image_hw: tuple[int, int], spacing: int, radius: int, seed: int) -> list[tuple[int, int]]:
    rng = np.random.default_rng(seed)
    jitter = spacing // 2 - radius - 3
    return [
        (y + int(rng.integers(-jitter, jitter + 1)), x + int(rng.integers(-jitter, jitter + 1)))
        for y in range(spacing // 2, image_hw[0] - spacing // 2, spacing)
        for x in range(spacing // 2, image_hw[1] - spacing // 2, spacing)
    ]


def draw(image_hw: tuple[int, int], centres_yx: list[tuple[int, int]], radius: int) -> npt.NDArray[np.bool_]:
    y, x = np.indices(image_hw)
    stack = [(y - cy) ** 2 + (x - cx) ** 2 <= radius**2 for cy, cx in centres_yx]
    return np.array(stack).reshape(-1, *image_hw)


@given(
    hw=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    window_hw=st.tuples(st.integers(10, 200), st.integers(10, 200)),
    overlap=st.integers(0, 9),
)
def test_windows_cover_the_image(hw: tuple[int, int], window_hw: tuple[int, int], overlap: int) -> None:
    windows = plan_windows(hw, window_hw, overlap)
    covered = np.zeros(hw, bool)
    for window in windows:
        assert window.hw == (min(window_hw[0], hw[0]), min(window_hw[1], hw[1]))
        covered[window.y0 : window.y1, window.x0 : window.x1] = True
    assert covered.all()
    for axis in (0, 1):
        starts = sorted({(window.y0, window.x0)[axis] for window in windows})
        assert all(b - a <= window_hw[axis] - overlap for a, b in itertools.pairwise(starts))


@pytest.mark.parametrize(("window_hw", "overlap"), [((10, 10), 10), ((10, 10), -1), ((0, 10), 0)])
def test_windows_that_do_not_cover(window_hw: tuple[int, int], overlap: int) -> None:
    with pytest.raises(InvalidParameterError, match="cover"):
        plan_windows((50, 50), window_hw, overlap)


def test_intersection_of_windows() -> None:
    assert Window(0, 0, 10, 20).intersection(Window(5, 15, 30, 30)) == Window(5, 15, 10, 20)
    assert Window(0, 0, 10, 20).intersection(Window(10, 0, 30, 30)) is None


@settings(max_examples=15)
@given(seed=st.integers(0, 1000), window=st.integers(90, 160), overlap=st.integers(45, 60))
def test_joined_windows_give_the_whole_scene(seed: int, window: int, overlap: int) -> None:
    hw = (230, 290)
    truth = draw(hw, discs(hw, 60, 18, seed), 18)
    windows = plan_windows(hw, (window, window), overlap)
    parts = []
    for part in windows:
        crop = truth[:, part.y0 : part.y1, part.x0 : part.x1]
        crop = crop[crop.any((1, 2))]
        scores = np.random.default_rng(seed).uniform(0.5, 0.9, len(crop))
        parts.append(Masks.from_dense(crop.reshape(-1, *part.hw), scores).placed((part.y0, part.x0), hw))
    joined = join_windows(windows, parts)
    iou = Masks.from_dense(truth).iou(joined)
    assert len(joined) == len(truth)
    assert np.all(iou.max(axis=1) == 1)
    assert np.all(np.diff(joined.scores) <= 0)


def test_a_whole_mask_beats_a_cut_one_and_two_cut_ones_are_united() -> None:
    windows = [Window(0, 0, 20, 60), Window(0, 40, 20, 100)]
    bar: npt.NDArray[np.bool_] = np.zeros((3, 20, 100), bool)
    bar[0, 2:5, 30:58] = True  # whole in the first window, cut in the second
    bar[1, 8:11, 10:90] = True  # cut in both
    bar[2, 14:17, 70:95] = True  # in the second only
    first, second = bar.copy(), bar.copy()
    first[:, :, 60:] = False
    second[:, :, :40] = False
    joined = join_windows(
        windows,
        [Masks.from_dense(first[:2], [0.6, 0.7]), Masks.from_dense(second, [0.9, 0.5, 0.4])],
    )
    np.testing.assert_array_equal(joined.to_dense(), bar[[1, 0, 2]])
    assert joined.scores.tolist() == pytest.approx([0.7, 0.6, 0.4])


def test_nested_masks_stay_apart_across_a_border() -> None:
    windows = [Window(0, 0, 40, 60), Window(0, 40, 40, 100)]
    truth = np.zeros((2, 40, 100), bool)
    truth[0, 2:38, 5:95] = True
    truth[1, 15:25, 30:70] = True
    parts = []
    for window in windows:
        inside = np.zeros_like(truth)
        inside[:, :, window.x0 : window.x1] = truth[:, :, window.x0 : window.x1]
        parts.append(Masks.from_dense(inside, [0.9, 0.8]))
    np.testing.assert_array_equal(join_windows(windows, parts).to_dense(), truth)


def test_only_windows_that_meet_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = plan_windows((500, 500), (30, 30), 5)
    meeting = [pair for pair in itertools.combinations(windows, 2) if pair[0].intersection(pair[1])]
    looked: list[tuple[Window, Window]] = []
    monkeypatch.setattr(Window, "intersection", lambda *pair: looked.append(pair))
    join_windows(windows, [Masks.empty((500, 500))] * len(windows))
    assert sorted(looked, key=repr) == sorted(meeting, key=repr)


def test_nothing_to_join() -> None:
    windows = plan_windows((30, 50), (30, 30), 5)
    assert len(join_windows(windows, [Masks.empty((30, 50))] * len(windows))) == 0
    assert len(drop_duplicates(Masks.empty((30, 50)), 0.5)) == 0


def test_duplicates_are_dropped_best_first() -> None:
    stack = np.zeros((4, 10, 10), bool)
    stack[0, :, :5] = stack[1, :, :6] = stack[2, :, :9] = stack[3, :, 5:] = True
    kept = drop_duplicates(Masks.from_dense(stack, [0.5, 0.9, 0.8, 0.1]), 0.7)
    assert kept.scores.tolist() == pytest.approx([0.9, 0.8, 0.1])


def scene(hw: tuple[int, int] = (300, 420)) -> tuple[npt.NDArray[np.uint8], Masks]:
    stack = draw(hw, discs(hw, 70, 20, 3), 20)
    foreground = stack.any(axis=0).astype(np.uint8)
    image = np.dstack([foreground * 180 + 40] * 3)
    return image, Masks.from_dense(stack)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_tiles_give_about_the_masks_of_the_whole(batch_size: int) -> None:
    image, truth = scene()
    model = FastSAM(BlobNetwork())
    steps = list(segment_tiles(image, model, tile_px=160, overlap_px=60, imgsz=160, batch_size=batch_size))
    assert [step.index for step in steps] == list(range(steps[0].count))
    assert [step.result is None for step in steps] == [True] * (len(steps) - 1) + [False]
    result = steps[-1].result
    assert result is not None
    assert len(result) == len(truth)
    assert truth.iou(result).max(axis=1).min() > 0.9
    assert result.metadata["tiles"] == len(steps)
    whole = model.segment(image, imgsz=448)
    assert whole.iou(result).max(axis=1).min() > 0.9


def assert_same(masks: Masks, others: Masks) -> None:
    assert len(masks) == len(others)
    np.testing.assert_array_equal(masks.runs, others.runs)
    np.testing.assert_array_equal(masks.scores, others.scores)


def test_one_call_does_what_the_tiles_one_by_one_do() -> None:
    image, truth = scene()
    model = FastSAM(BlobNetwork())
    how: dict[str, Any] = {"tile_px": 160, "overlap_px": 60, "imgsz": 160}
    *_, last = segment_tiles(image, model, **how)
    assert last.result is not None
    masks = model.segment(image, stability=True, **how)
    assert len(masks) == len(truth)
    assert_same(masks, last.result)
    assert set(masks.fields) == {"stability"}
    assert {"tiles": 12, "at_limit": False, "tile_px": 160, "overlap_px": 60}.items() <= masks.metadata.items()
    [step, small] = iter_segment([image, image[:150, :150]], model, **how)
    assert step.masks is not None
    assert_same(step.masks, masks)
    assert small.masks is not None
    assert "tiles" not in small.masks.metadata


def test_each_tile_that_is_begun_is_told() -> None:
    image, _ = scene()
    how: dict[str, Any] = {"tile_px": 160, "overlap_px": 60, "imgsz": 160}
    told: list[tuple[int, int]] = []
    model = FastSAM(BlobNetwork())
    steps = list(iter_segment([image, image[:150, :150]], model, on_tile=lambda *at: told.append(at), **how))
    assert len(steps) == 2
    assert told == [(number, 12) for number in range(1, 13)]


def test_most_masks_hold_for_each_tile() -> None:
    image, truth = scene()
    how: dict[str, Any] = {"tile_px": 160, "overlap_px": 60, "imgsz": 160}
    plenty, few = (FastSAM(BlobNetwork()).segment(image, max_det=most, **how) for most in (12, 4))
    assert len(plenty) == len(truth) > 12
    assert not plenty.at_limit
    assert few.at_limit


def test_a_conf_of_its_own_is_that_of_the_whole_image() -> None:
    image, truth = scene()
    masks = FastSAM(BlobNetwork()).segment(image, conf="auto", tile_px=160, overlap_px=60, imgsz=160)
    assert len(masks) == len(truth)
    assert masks.metadata["conf"] == best_conf(masks.scores) != 0.01


@pytest.mark.parametrize("longest_px", [2048, 210])
@pytest.mark.parametrize("one_by_one", [False, True])
def test_what_is_larger_than_a_tile_comes_from_the_whole_image(
    longest_px: int, one_by_one: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastsam_core._overview._LONGEST_PX", longest_px)
    image, truth = scene()
    y, x = np.indices(image.shape[:2])
    large = np.asarray((y - 150) ** 2 + (x - 200) ** 2 <= 120**2)
    image[large] = 220
    small = truth[~(truth.to_dense() & large).any(axis=(1, 2))]
    how: dict[str, Any] = {"tile_px": 160, "overlap_px": 60, "imgsz": 160}
    if one_by_one:
        *_, last = segment_tiles(image, FastSAM(BlobNetwork()), **how)
        assert last.result is not None
        masks = last.result
    else:
        masks = FastSAM(BlobNetwork()).segment(image, **how)
    expected = Masks.concatenate([small, Masks.from_dense(large[None])])
    assert len(small) > 3
    assert len(masks) == len(expected)
    assert masks.image_hw == image.shape[:2]
    assert expected.iou(masks).max(axis=1).min() > 0.85


@given(hw=st.tuples(st.integers(1, 90), st.integers(1, 90)), tile_px=st.integers(4, 60))
def test_an_overview_has_each_pixel_of_the_tiles_in_its_place(hw: tuple[int, int], tile_px: int) -> None:
    ramp = np.add.outer(np.arange(hw[0]) * 255 // hw[0], np.zeros(hw[1])).astype(np.uint8)
    across = np.add.outer(np.zeros(hw[0]), np.arange(hw[1]) * 255 // hw[1]).astype(np.uint8)
    rgb8 = np.dstack([ramp, across, ramp])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastsam_core._overview._LONGEST_PX", 40)
        overview = Overview(hw)
    for tile in plan_windows(hw, (tile_px, tile_px), tile_px // 4):
        overview.add(tile, np.ascontiguousarray(rgb8[tile.y0 : tile.y1, tile.x0 : tile.x1]))
    image = overview.image(Image(np.zeros((1, 1, 3), np.uint8), "slide", {"format": "TIFF"}))
    assert (image.source, image.recipe) == ("slide", {"format": "TIFF"})
    assert image.image_hw == hw
    assert max(image.rgb8.shape[:2]) == min(max(hw), 40)
    for axis, channel in enumerate((0, 1)):
        side = image.rgb8.shape[axis]
        expected = (np.arange(side) + 0.5) * hw[axis] / side * 255 / hw[axis]
        seen = image.rgb8[..., channel].mean(axis=1 - axis)
        assert np.abs(seen - expected).max() < 3 * 255 / side


def halves(*, second: bool) -> tuple[list[Window], list[Masks], Masks]:
    """Return two windows, what they see of a square of 40 px and of a small one, and the square."""
    windows = [Window(0, 0, 60, 60), Window(0, 40, 60, 120)]
    square: npt.NDArray[np.bool_] = np.zeros((2, 60, 120), bool)
    square[0, 10:50, 20:80] = True
    square[1, 52:56, 4:8] = True
    left, right = square.copy(), square[:1].copy()
    left[:, :, 60:] = False
    right[:, :, :40] = False
    parts = [Masks.from_dense(left, [0.8, 0.7]), Masks.from_dense(right if second else right[:0], [0.6][:second])]
    if not second:
        parts[1] = Masks.empty((60, 120))
    return windows, parts, Masks.from_dense(square[:1], [0.5])


def test_what_tiles_still_cut_loses_score() -> None:
    windows, parts, _ = halves(second=False)
    masks = join_tiles(windows, parts, sure_conf=0, max_det=9, cut_penalty=4.5)
    assert masks.scores.tolist() == pytest.approx([0.7, 0.8 * np.exp(-4.5 / 4)], rel=1e-3)
    whole = join_tiles(*halves(second=True)[:2], sure_conf=0, max_det=9, cut_penalty=4.5)
    assert whole.scores.tolist() == pytest.approx([0.8, 0.7])
    assert whole.areas_px.tolist() == [2400, 16]


def test_pieces_give_way_to_the_object_and_nothing_else_does() -> None:
    windows, parts, square = halves(second=False)
    masks = join_tiles(windows, parts, sure_conf=0, max_det=9, whole=square, overlap_px=20)
    assert masks.areas_px.tolist() == [16, 2400]
    assert masks.scores.tolist() == pytest.approx([0.7, 0.5])
    windows, parts, square = halves(second=True)  # put together from both tiles, it is finer than in the whole image
    masks = join_tiles(windows, parts, sure_conf=0, max_det=9, whole=square, overlap_px=20)
    assert masks.scores.tolist() == pytest.approx([0.8, 0.7])
    small = join_tiles(*halves(second=False)[:2], sure_conf=0, max_det=9, whole=square, overlap_px=60)
    assert small.areas_px.tolist() == [1600, 16]


@given(data=st.data(), seed=st.integers(0, 1000))
def test_faint_masks_change_nothing_of_the_sure_ones(data: st.DataObject, seed: int) -> None:
    hw = (120, 150)
    rng = np.random.default_rng(seed)
    windows = plan_windows(hw, (70, 70), 25)
    parts = []
    for window in windows:
        count = data.draw(st.integers(0, 5))
        corners = rng.integers(0, 60, (count, 2))
        dense = np.zeros((count, *window.hw), bool)
        for mask, (y, x), size in zip(dense, corners, rng.integers(5, 40, count), strict=True):
            mask[y : y + size, x : x + size] = True
        parts.append(Masks.from_dense(dense, rng.uniform(0, 1, count)).placed((window.y0, window.x0), hw))
    with_faint = join_tiles(windows, parts, sure_conf=0.4, max_det=1000).filter(min_score=0.4)
    assert_same(
        with_faint, join_tiles(windows, [part.filter(min_score=0.4) for part in parts], sure_conf=0.4, max_det=1000)
    )


def test_lazy_arrays_are_read_tile_by_tile() -> None:
    image, truth = scene()
    largest = [0]

    class Lazy:
        shape = image.shape
        dtype = image.dtype

        def __getitem__(self, key: Any) -> npt.NDArray[np.uint8]:
            part: npt.NDArray[np.uint8] = image[key]
            largest[0] = max(largest[0], part.size)
            return part

    how: dict[str, Any] = {"tile_px": 160, "overlap_px": 60, "imgsz": 160, "contrast": (0, 255)}
    *_, last = segment_tiles(Lazy(), FastSAM(BlobNetwork()), **how)
    assert last.result is not None
    assert len(last.result) == len(truth)
    assert largest[0] == 160 * 160 * 3


def test_an_image_is_cut_as_it_is() -> None:
    faint = Image(np.full((300, 420, 3), 90, np.uint8), "slide.tif", {"format": "TIFF"})
    faint.rgb8[40:80, 40:80] = 140  # stretched it would be above the network's threshold
    seen: list[int] = []

    class Watching(BlobNetwork):
        def forward(self, batch_bhwc: npt.NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
            seen.append(int(batch_bhwc.max()))
            return super().forward(batch_bhwc)

    *_, last = segment_tiles(faint, FastSAM(Watching()), tile_px=160, overlap_px=60, imgsz=160)
    assert max(seen) == 140
    assert last.result is not None
    assert last.result.metadata["source"] == "slide.tif"
    [small] = segment_tiles(Image(faint.rgb8[:5].copy(), "thin", {}), FastSAM(BlobNetwork()), tile_px=500)
    assert small.result is not None
    with pytest.raises(ImageContentError, match="no meaning"):
        segment_tiles(faint, FastSAM(BlobNetwork()), channels=0)


def test_a_limit_of_each_tile_is_none_of_their_sum() -> None:
    image, truth = scene()
    for max_det, full in ((len(truth) - 4, False), (2, True)):
        options: dict[str, Any] = {"tile_px": 160, "overlap_px": 60, "imgsz": 160, "max_det": max_det}
        *parts, last = segment_tiles(image, FastSAM(BlobNetwork()), **options)
        assert last.result is not None
        assert any(part.masks.at_limit for part in [*parts, last]) == full
        assert last.result.at_limit == full
        assert full or len(last.result) == len(truth)


def test_an_image_smaller_than_a_tile() -> None:
    image, truth = scene((140, 140))
    [step] = segment_tiles(read_image(image), FastSAM(BlobNetwork()), tile_px=160, overlap_px=20, imgsz=160)
    assert step.result is not None
    assert len(step.result) == len(truth)


@pytest.mark.parametrize(
    "options",
    [
        {"tile_px": 0},
        {"tile_px": "a"},
        {"tile_px": 256.5},
        {"overlap_px": 1024},
        {"overlap_px": -1},
        {"overlap_px": None},
        {"conf": 3},
    ],
)
def test_wrong_settings(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameterError):
        segment_tiles(np.zeros((9, 9), np.uint8), FastSAM(BlobNetwork()), **options)
    with pytest.raises(InvalidParameterError):
        FastSAM(BlobNetwork()).segment(np.zeros((9, 9), np.uint8), **{"tile_px": 1024} | options)


@pytest.mark.parametrize("model", [None, "builtin"])
def test_what_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises(InvalidParameterError, match="no model"):
        segment_tiles(np.zeros((9, 9), np.uint8), model)
    with pytest.raises(InvalidParameterError, match="no model"):
        iter_segment([np.zeros((9, 9), np.uint8)], model)


@pytest.mark.parametrize("shape", [(20, 50, 60), (5,), (2, 3, 4, 5), (0, 4)])
def test_arrays_of_other_axes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageContentError, match=r"axes|pixels"):
        segment_tiles(np.zeros(shape, np.uint8), FastSAM(BlobNetwork()))


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4, 5), (0, 4)])
def test_what_a_reader_cannot_get_tiles_of(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageContentError, match="tiles"):
        segment_tiles(np.zeros(shape, np.uint8), FastSAM(BlobNetwork()), reader=read_image)


def test_a_tile_that_cannot_be_read() -> None:
    def reader(source: object) -> Image:
        raise ImageReadError("broken chunk")

    with pytest.raises(ImageReadError, match="broken chunk"):
        list(segment_tiles(np.zeros((9, 9), np.uint8), FastSAM(BlobNetwork()), reader=reader))
