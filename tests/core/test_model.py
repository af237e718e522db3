"""FastSAM on made-up networks: settings, test sizes, long images, batches, and what is recorded."""

from __future__ import annotations

import json
import math
import multiprocessing
import pickle
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.core.heads import HeadNetwork

from fastsam_core import __version__
from fastsam_core.checkpoints import ModelInfo
from fastsam_core.decode import decode
from fastsam_core.errors import ImageNotFoundError, InvalidParameterError
from fastsam_core.masks import Masks
from fastsam_core.model import FastSAM, windows_of
from fastsam_core.network import Prediction
from fastsam_core.pipeline import iter_segment

if TYPE_CHECKING:
    import numpy.typing as npt

UInt8Array = Any


class BlobNetwork:
    """Finds each bright blob: one box a connected component, its mask from a prototype of brightness.

    It works at any size, so that test sizes and windows can be compared.
    """

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []

    def forward(self, batch_bhwc: npt.NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        from skimage.measure import label, regionprops

        self.batches.append(batch_bhwc.shape)
        count, height, width, _ = batch_bhwc.shape
        raw = np.zeros((count, 6, 50), np.float32)
        bright = (batch_bhwc[..., 0] > 150).astype(np.float32)
        prototypes = bright.reshape(count, height // 4, 4, width // 4, 4).mean((2, 4))[:, None] - 0.5
        for index in range(count):
            for column, region in enumerate(regionprops(label(bright[index] > 0))):
                y0, x0, y1, x1 = region.bbox
                score = 0.5 + 0.4 * min(region.area / 2000, 1)
                raw[index, :, column] = ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, score, 1)
        return torch.from_numpy(raw), torch.from_numpy(prototypes.astype(np.float32))


def blobs(image_hw: tuple[int, int], centres_yx: list[tuple[int, int]], radius: int) -> npt.NDArray[np.uint8]:
    y, x = np.indices(image_hw)
    image = np.full((*image_hw, 3), 40, np.uint8)
    for cy, cx in centres_yx:
        image[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = 220
    return image


def test_segment_is_predict_and_decode() -> None:
    hw = (150, 225)
    model = FastSAM(HeadNetwork(20, hw, 256))
    image = np.zeros((*hw, 3), np.uint8)
    prediction = model.predict(image, imgsz=256)
    assert isinstance(prediction, Prediction)
    assert len(prediction) == 20
    expected = decode(prediction).filter(min_area_px=1)
    masks = model.segment(image, imgsz=256)
    np.testing.assert_array_equal(masks.runs, expected.runs)
    assert np.all(np.diff(masks.scores) <= 0)
    assert len(model.predict(image, imgsz=256, max_det=7)) == 7
    assert len(model.segment(image, imgsz=256, max_det=7)) <= 7
    threshold = float(np.median(masks.scores))
    assert np.all(model.segment(image, imgsz=256, conf=threshold).scores > threshold)


def test_border_rule_moves_boxes() -> None:
    hw = (150, 225)
    model = FastSAM(HeadNetwork(20, hw, 256))
    snapped = model.segment(np.zeros((*hw, 3), np.uint8), imgsz=256, snap_px=20).boxes_xyxy
    assert np.all((snapped[:, 0] == 0) | (snapped[:, 0] >= 20))
    assert np.all((snapped[:, 2] == 225) | (snapped[:, 2] <= 205))


def test_metadata_tells_how_masks_were_made() -> None:
    info = ModelInfo(name="mine", sha256="ab" * 32, conf=0.45, iou=0.8, imgsz=96)
    model = FastSAM(BlobNetwork(), info, precision="bf16", runtime="torch")
    masks = model.segment(blobs((90, 90), [(40, 40)], 12))
    assert dict(masks.metadata) == {
        "source": "<array>",
        "model": "mine",
        "weights_sha256": "ab" * 8,
        "conf": 0.45,
        "iou": 0.8,
        "max_det": 1000,
        "imgsz": [96],
        "snap_px": 0.0,
        "runtime": "torch",
        "device": "cpu",
        "precision": "bf16",
        "version": __version__,
    }
    json.dumps(dict(masks.metadata))
    assert "mine" in repr(model)


@pytest.mark.parametrize("imgsz", [31, 2**14 + 1, (320, 100_000)])
def test_sizes_that_no_machine_has_memory_for_are_refused(imgsz: int | tuple[int, ...]) -> None:
    with pytest.raises(InvalidParameterError, match="imgsz is out of range"):
        FastSAM(BlobNetwork(), ModelInfo(name="mine")).settings(imgsz=imgsz)


def test_auto_adds_a_size_that_suits_the_objects() -> None:
    model = FastSAM(BlobNetwork(), ModelInfo(name="mine", imgsz=512))
    assert model.settings(imgsz="auto").imgsz == (512,)
    small = blobs((512, 512), [(60 * y, 60 * x) for y in range(1, 8) for x in range(1, 8)], 6)
    large, middle = blobs((512, 512), [(256, 256)], 200), blobs((512, 512), [(200, 200)], 40)
    for image, sizes in ((small, [512, 1024]), (large, [512, 256]), (middle, [512]), (small[:9, :9], [512, 256])):
        masks = model.segment(image, imgsz="auto")
        assert masks.metadata["imgsz"] == sizes
        [step] = iter_segment([image], model, imgsz="auto")
        assert step.masks is not None
        assert step.masks.metadata["imgsz"] == sizes
        assert len(step.masks) == len(masks) == len(model.segment(image))  # found twice, kept once


def test_sizes_follow_the_objects_where_the_weights_say_so() -> None:
    model = FastSAM(BlobNetwork(), ModelInfo(name="mine", imgsz=(512, 320), adaptive=True))
    small = blobs((512, 512), [(60 * y, 60 * x) for y in range(1, 8) for x in range(1, 8)], 6)
    large, middle = blobs((512, 512), [(256, 256)], 200), blobs((512, 512), [(200, 200)], 40)
    for image, sizes in ((small, [512, 1024, 320]), (large, [512, 320]), (middle, [512, 320])):
        assert model.segment(image).metadata["imgsz"] == sizes
        assert model.segment(image, imgsz="auto").metadata["imgsz"] == sizes
        assert model.segment(image, imgsz=(512, 320)).metadata["imgsz"] == [512, 320]
        assert model.segment(image, imgsz=320).metadata["imgsz"] == [320]
    tiny = blobs((300, 300), [(30 * y, 30 * x) for y in range(1, 8) for x in range(1, 8)], 3)
    assert model.segment(tiny).metadata["imgsz"] == [512, 320]  # 832 px and more would show nothing new
    faint = replace(model.info, conf=1.0)
    assert FastSAM(BlobNetwork(), faint).segment(small, conf=0.1).metadata["imgsz"] == [512, 320]  # nothing is sure


def test_stability_comes_on_request() -> None:
    model = FastSAM(BlobNetwork(), ModelInfo(name="mine", imgsz=96))
    image = blobs((90, 90), [(40, 40)], 12)
    assert "stability" not in model.segment(image).fields
    scores = model.segment(image, stability=True).fields["stability"]
    assert len(scores)
    assert ((scores >= 0) & (scores <= 1)).all()
    [step] = iter_segment([image], model, stability=True)
    assert step.masks is not None
    np.testing.assert_array_equal(step.masks.fields["stability"], scores)


def test_recommended_settings_are_the_models() -> None:
    model = FastSAM(BlobNetwork(), ModelInfo(name="mine", conf=0.1, iou=0.2, imgsz=64))
    settings = model.settings()
    assert (settings.conf, settings.iou, settings.imgsz, settings.max_det) == (0.1, 0.2, (64,), 1000)
    settings = model.settings(conf=0, iou=1, imgsz=np.array([100]), max_det=1)  # type: ignore[arg-type]
    assert (settings.conf, settings.iou, settings.imgsz) == (0.0, 1.0, (100,))
    assert model.settings(imgsz=(64, 96, 64)).imgsz == (64, 96)


@pytest.mark.parametrize(
    "options",
    [
        {"conf": -0.1},
        {"conf": 1.1},
        {"conf": math.nan},
        {"conf": "high"},
        {"conf": True},
        {"iou": 2},
        {"max_det": 0},
        {"max_det": 2.5},
        {"imgsz": 31},
        {"imgsz": 0},
        {"imgsz": 640.0},
        {"imgsz": "640"},
        {"imgsz": ()},
        {"imgsz": (640, -1)},
        {"snap_px": -1},
        {"snap_px": math.inf},
    ],
)
def test_settings_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        FastSAM(BlobNetwork()).segment(np.zeros((9, 9, 3), np.uint8), **options)
    assert next(iter(options)) in str(caught.value)


def test_masks_lie_on_their_objects_at_any_size() -> None:
    image = blobs((203, 317), [(50, 60), (150, 250)], 25)
    truth = Masks.from_dense([image[..., 0] > 150]).iou
    for imgsz in (128, 320, 500):
        masks = FastSAM(BlobNetwork()).segment(image, imgsz=imgsz)
        assert len(masks) == 2
        assert truth(masks.union())[0, 0] > 0.9


def test_several_test_sizes_give_each_object_once() -> None:
    image = blobs((200, 300), [(50, 60), (150, 250)], 25)
    network = BlobNetwork()
    masks = FastSAM(network).segment(image, imgsz=(160, 320))
    assert [shape[1:3] for shape in network.batches] == [(128, 160), (224, 320)]
    assert len(masks) == 2
    assert masks.metadata["imgsz"] == [160, 320]
    assert len(FastSAM(network).segment(image, imgsz=(160, 320), max_det=1)) == 1


def test_masks_say_that_there_may_be_more() -> None:
    hw = (150, 225)
    model = FastSAM(HeadNetwork(20, hw, 256))
    image = np.zeros((*hw, 3), np.uint8)
    all_found = model.segment(image, imgsz=256)
    assert not all_found.at_limit
    # as many as allowed also where some of the first boxes have no mask of their own
    for most in range(1, len(all_found)):
        fewer = model.segment(image, imgsz=256, max_det=most)
        assert len(fewer) == most
        assert fewer.at_limit
        assert not fewer[: most - 1].at_limit
    [step] = iter_segment([image], model, imgsz=256, max_det=2)
    assert step.masks is not None
    assert step.masks.at_limit


def test_a_very_long_image_is_cut_into_windows() -> None:
    centres = [(25, x) for x in range(60, 5000, 170)]
    image = blobs((50, 5000), centres, 15)
    for picture, points in ((image, centres), (image.transpose(1, 0, 2), [(x, y) for y, x in centres])):
        masks = FastSAM(BlobNetwork()).segment(np.ascontiguousarray(picture), imgsz=512)
        assert len(masks) == len(centres)
        assert np.all(masks.hits(points).sum(axis=0) == 1)
        assert masks.image_hw == picture.shape[:2]


@pytest.mark.parametrize(
    ("hw", "imgsz", "count"),
    [((600, 100), 640, 1), ((600, 50), 640, 1), ((1000, 100), 320, 3), ((100, 700), 320, 2), ((1, 4000), 320, 17)],
)
def test_windows_of_long_images(hw: tuple[int, int], imgsz: int, count: int) -> None:
    windows = windows_of(hw, imgsz)
    assert len(windows) == count
    covered = np.zeros(hw, bool)
    for window in windows:
        covered[window.y0 : window.y1, window.x0 : window.x1] = True
    assert covered.all()


@pytest.mark.parametrize("hw", [(1, 1), (8, 8), (1, 2000), (33, 31)])
def test_tiny_images(hw: tuple[int, int]) -> None:
    masks = FastSAM(BlobNetwork()).segment(np.zeros((*hw, 3), np.uint8), imgsz=64)
    assert (len(masks), masks.image_hw) == (0, hw)


def test_a_batch_gives_what_single_images_give() -> None:
    network = BlobNetwork()
    model = FastSAM(network)
    images = [blobs((90, 120), [(40, 40)], 12), blobs((120, 90), [(60, 50)], 20), blobs((90, 120), [(50, 90)], 9)]
    together = model.predict_batch(images, imgsz=128)
    assert sorted(shape[0] for shape in network.batches) == [1, 2]
    for image, found in zip(images, together, strict=True):
        alone = model.predict(image, imgsz=128)
        np.testing.assert_array_equal(found.boxes_xyxy, alone.boxes_xyxy)
        np.testing.assert_array_equal(found.prototypes, alone.prototypes)
    assert model.predict_batch([]) == []


def test_an_absent_image() -> None:
    with pytest.raises(ImageNotFoundError):
        FastSAM(BlobNetwork()).segment(Path("absent.png"))


def test_the_built_in_model_loads_and_finds_coins() -> None:
    from skimage import data

    model = FastSAM.load(device="cpu", runtime="torch")
    assert (model.name, model.device, model.runtime) == ("builtin", "cpu", "torch")
    assert len(model.info.sha256) == 64
    masks = model.segment(data.coins())
    inside_coins = [(45, 335), (190, 100), (50, 45), (50, 110)]
    assert masks.hits(inside_coins).any(axis=1).all()
    assert 10 <= len(masks) <= 60


def test_other_processes_load_a_model_again() -> None:
    model = FastSAM.load(device="cpu")
    image = np.zeros((64, 96, 3), np.uint8)
    image[20:40, 30:60] = 200
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        [there] = pool.map(model.segment, [image])
    here = model.segment(image)
    assert len(here) > 0
    np.testing.assert_array_equal(there.runs, here.runs)
    first, second = (pickle.loads(pickle.dumps(model)) for _ in range(2))
    assert first.network is second.network
    assert repr(first) == repr(model)
    made_up = pickle.loads(pickle.dumps(FastSAM(BlobNetwork(), device="gpu")))
    assert (type(made_up.network), made_up.device) == (BlobNetwork, "gpu")


@pytest.mark.parametrize("images", [None, "a.png", 3])
def test_what_is_no_batch_of_images(images: Any) -> None:
    with pytest.raises(InvalidParameterError, match="no sequence of images"):
        FastSAM(BlobNetwork()).predict_batch(images)
