"""The generator over many images: order, errors, laziness, clean-up."""

from __future__ import annotations

import itertools
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from fastsam_core.errors import ImageReadError, InvalidParameterError, TooMuchMemoryError
from fastsam_core.images import Image, read_image
from fastsam_core.model import FastSAM
from fastsam_core.pipeline import Step, iter_segment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt


class BrightnessNetwork:
    """Finds one box in the middle of each image, its score the image's brightness; counts what runs at once."""

    def __init__(self) -> None:
        self.batch_sizes: list[int] = []
        self.failure: Exception | None = None
        self._running = threading.Semaphore(1)

    def forward(self, batch_bhwc: npt.NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        if not self._running.acquire(blocking=False):
            raise RuntimeError("two forward passes at once")
        try:
            if self.failure is not None and batch_bhwc[0, 0, 0, 0] == 255:
                raise self.failure
            count, height, width, _ = batch_bhwc.shape
            self.batch_sizes.append(count)
            raw = torch.zeros(count, 6, 1)
            raw[:, :, 0] = torch.tensor((width / 2, height / 2, width / 2, height / 2, 0.0, 1.0))
            raw[:, 4, 0] = torch.from_numpy(batch_bhwc.mean((1, 2, 3), dtype=np.float32)) / 255
            return raw, torch.ones(count, 1, height // 4, width // 4)
        finally:
            self._running.release()


@pytest.fixture
def network() -> BrightnessNetwork:
    return BrightnessNetwork()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())  # the pool that decodes masks is shared and stays
    yield
    left = set(threading.enumerate()) - before
    assert [thread.name for thread in left if thread.name.startswith("fastsam-")] == []


def gray(value: int, hw: tuple[int, int] = (64, 64)) -> npt.NDArray[np.uint8]:
    return np.full((*hw, 3), value, np.uint8)


def run(sources: Any, network: BrightnessNetwork, device: str = "cpu", **options: Any) -> list[Step]:
    return list(iter_segment(sources, FastSAM(network, device=device), imgsz=64, conf=0.0, **options))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(("prefetch", "batch_size"), [(0, 1), (2, 1), (5, 1), (0, 3), (4, 2)])
def test_steps_come_in_order(device: str, prefetch: int, batch_size: int, network: BrightnessNetwork) -> None:
    values = [10, 250, 90, 30, 170, 60, 200]
    steps = run(map(gray, values), network, device, prefetch=prefetch, batch_size=batch_size)
    assert [step.index for step in steps] == list(range(7))
    for step, value in zip(steps, values, strict=True):
        assert step.error is None
        assert step.masks is not None
        assert step.masks.scores[0] == pytest.approx(value / 255, abs=1e-5)
        assert step.image is not None
        assert step.image.rgb8[0, 0, 0] == value
        assert step.seconds > 0
        assert step.masks.metadata["imgsz"] == [64]
    assert max(network.batch_sizes) <= batch_size
    assert sum(network.batch_sizes) == 7


def test_images_of_different_sizes_share_a_batch_where_they_can(network: BrightnessNetwork) -> None:
    sources = [gray(10), gray(20, (32, 64)), gray(30), gray(40, (32, 64))]
    steps = run(sources, network, batch_size=4)
    assert sorted(network.batch_sizes) == [2, 2]
    assert [round(float(step.masks.scores[0] * 255)) for step in steps if step.masks] == pytest.approx([10, 20, 30, 40])


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_bad_sources_are_reported_and_stop_nothing(device: str, network: BrightnessNetwork, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG broken")
    (tmp_path / "empty.png").touch()
    sources = [gray(9), tmp_path / "broken.png", tmp_path / "absent.png", tmp_path / "empty.png", object(), gray(8)]
    steps = run(sources, network, device)
    assert [step.error is None for step in steps] == [True, False, False, False, False, True]
    for step in steps[1:5]:
        assert step.masks is None
        assert step.image is None
    assert isinstance(steps[1].error, ImageReadError)
    assert [step.source for step in steps] == sources


def test_a_reader_that_raises_anything(network: BrightnessNetwork) -> None:
    def reader(source: object) -> Image:
        raise ZeroDivisionError("inside a decoder")

    [step] = run([1], network, reader=reader)
    assert isinstance(step.error, ImageReadError)
    assert "ZeroDivisionError: inside a decoder" in str(step.error)
    assert isinstance(step.error.__cause__, ZeroDivisionError)


def test_a_reader_with_options(network: BrightnessNetwork) -> None:
    two_channels = np.stack((gray(0)[..., 0], gray(200)[..., 0]))
    [step] = run([two_channels], network, reader=partial(read_image, channels=1))
    assert step.masks is not None
    assert step.masks.scores[0] > 0.7


@pytest.mark.parametrize("failure", [MemoryError("too big"), torch.OutOfMemoryError("too big")])
def test_lack_of_memory_is_reported(failure: Exception, network: BrightnessNetwork) -> None:
    network.failure = failure
    steps = run([gray(9), gray(255), gray(8)], network)
    assert [type(step.error) for step in steps] == [type(None), TooMuchMemoryError, type(None)]
    assert steps[1].image is not None


def test_a_defect_is_not_hidden(network: BrightnessNetwork) -> None:
    network.failure = RuntimeError("shapes do not match")
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run([gray(255)], network)


def test_long_images_and_several_sizes(network: BrightnessNetwork) -> None:
    steps = run([gray(99), gray(99, (40, 600))], network)
    assert [step.error for step in steps] == [None, None]
    assert all(step.masks is not None and len(step.masks) for step in steps)
    [step] = list(iter_segment([gray(99)], FastSAM(network), imgsz=(64, 96), conf=0.0))
    assert step.masks is not None
    assert step.masks.metadata["imgsz"] == [64, 96]


def test_sources_are_read_only_as_far_as_needed(network: BrightnessNetwork) -> None:
    taken = itertools.count()
    steps = iter_segment((gray(next(taken)) for _ in range(10**9)), FastSAM(network), imgsz=64, prefetch=2)
    next(steps)
    next(steps)
    steps.close()
    assert next(taken) <= 4


def test_closing_early_stops_the_readers(network: BrightnessNetwork) -> None:
    started: list[object] = []

    def reader(source: object) -> Image:
        started.append(source)
        return read_image(gray(50))

    steps = iter_segment(range(100), FastSAM(network), imgsz=64, reader=reader, prefetch=8)
    next(steps)
    steps.close()
    assert len(started) <= 9


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_an_error_in_the_sources_themselves_is_the_callers_once_all_before_is_done(
    device: str, network: BrightnessNetwork
) -> None:
    def sources() -> Iterator[object]:
        yield from (gray(value) for value in (1, 2, 3))
        raise KeyError("my own mistake")

    steps = iter_segment(sources(), FastSAM(network, device=device), imgsz=64, batch_size=2)
    assert [next(steps).index for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="my own mistake"):
        next(steps)


@pytest.mark.parametrize("sources", [None, 3, "cells.tif", b"cells.tif"])
def test_sources_that_are_no_sequence_of_images_are_refused(sources: Any, network: BrightnessNetwork) -> None:
    with pytest.raises(InvalidParameterError, match="no sequence"):
        iter_segment(sources, FastSAM(network))


def test_no_sources(network: BrightnessNetwork) -> None:
    assert run([], network) == []


@pytest.mark.parametrize(
    "options",
    [
        {"conf": 2},
        {"imgsz": 1},
        {"imgsz": b"auto"},
        {"prefetch": -1},
        {"prefetch": "a"},
        {"batch_size": 0},
        {"batch_size": 1.5},
        {"rank_by": "quality"},
    ],
)
def test_wrong_settings_are_refused_at_once(options: dict[str, Any], network: BrightnessNetwork) -> None:
    with pytest.raises(InvalidParameterError):
        iter_segment([], FastSAM(network), **options)
