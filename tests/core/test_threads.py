"""Masks are decoded in slices, in threads: the same masks, with as many threads as are allowed."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fastsam_core import _threads
from fastsam_core import decode as decoding
from fastsam_core._threads import iter_spawned, map_slices
from fastsam_core.cuts import cut_shares, follow_masks
from fastsam_core.decode import decode, stability_scores
from fastsam_core.errors import InvalidParameterError
from fastsam_core.testing import synthetic_prediction
from fastsam_core.thresholds import best_thresholds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastsam_core.network import Prediction


@given(
    costs=arrays(np.float64, st.integers(0, 40), elements=st.floats(0, 1e6)),
    threads=st.integers(1, 5),
    least=st.sampled_from([0.0, 1e5]),
)
def test_slices_cover_everything_in_order(costs: npt.NDArray[np.float64], threads: int, least: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_threads, "_limit", threads)
        parts = map_slices(lambda part: list(range(*part.indices(len(costs)))), costs, least)
    assert parts
    assert [number for part in parts for number in part] == list(range(len(costs)))
    assert all(parts) or not len(costs)


def test_slices_cost_about_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_threads, "_limit", 4)
    costs = np.random.default_rng(0).integers(1, 100, 1000)
    sums = map_slices(lambda part: int(costs[part].sum()), costs, 0)
    assert len(sums) == 12
    assert max(sums) - min(sums) < 2 * costs.max()


def test_little_work_stays_in_the_thread_that_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_threads, "_limit", 4)
    asking = threading.current_thread()
    assert map_slices(lambda _: threading.current_thread(), np.ones(9), 10) == [asking]
    assert asking not in map_slices(lambda _: threading.current_thread(), np.ones(9), 9)


@pytest.mark.parametrize(("wanted", "threads"), [("1", 1), ("1,2", 1), ("0", 4), ("", 4), ("many", 4), ("64", 4)])
def test_the_environment_bounds_threads(monkeypatch: pytest.MonkeyPatch, wanted: str, threads: int) -> None:
    monkeypatch.setattr(_threads, "_limit", None)
    monkeypatch.setattr(_threads, "available_cores", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert _threads._allowed_threads() == threads


def test_threads_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2
    import numba
    import torch

    monkeypatch.setattr(_threads, "_limit", None)
    before = (torch.get_num_threads(), cv2.getNumThreads(), numba.get_num_threads())
    try:
        assert _threads.limit_threads(1) == 1
        assert (torch.get_num_threads(), cv2.getNumThreads(), numba.get_num_threads()) == (1, 1, 1)
        assert len(map_slices(lambda part: part, np.ones(9), 0)) == 1
        assert _threads.limit_threads() == _threads.available_cores()
        assert torch.get_num_threads() == _threads.available_cores()
        for wrong in (0, 1.5, "2"):
            with pytest.raises(InvalidParameterError, match="threads"):
                _threads.limit_threads(wrong)  # type: ignore[arg-type]
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
        numba.set_num_threads(before[2])


def everything(prediction: Prediction) -> list[npt.NDArray[np.generic]]:
    """All that is found by kernels that run in threads."""
    followed = follow_masks(prediction, 0.5)
    masks = decode(followed)
    thresholds = followed.own_thresholds if followed.own_thresholds is not None else np.empty(0)
    return [
        *(masks.runs, masks.offsets, followed.boxes_xyxy, thresholds),
        *(cut_shares(prediction), best_thresholds(prediction), stability_scores(prediction)),
    ]


@given(count=st.integers(0, 40), seed=st.integers(0, 50), threads=st.integers(2, 5))
def test_threads_find_the_same_masks(count: int, seed: int, threads: int) -> None:
    prediction = synthetic_prediction(count, (150, 200), 256, seed)
    alone = everything(prediction)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_threads, "_limit", threads)
        patch.setattr(decoding, "_MANY_CELLS", 0.0)
        together = everything(prediction)
    for one, other in zip(alone, together, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork on Windows")
def test_a_forked_process_has_threads_of_its_own() -> None:
    script = """
import os, numpy
from fastsam_core import _threads
_threads._limit = 2
total = lambda: sum(_threads.map_slices(lambda part: part.stop - part.start, numpy.ones(9), 0))
assert total() == 9
child = os.fork()
if not child:
    os._exit(0 if total() == 9 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "0", done.stderr


def rows(until: int, signalled: int | None = None) -> Iterator[tuple[float, float]]:
    """Give rows of arguments, and a Ctrl-C in between."""
    for number in range(until):
        if number == signalled:
            signal.raise_signal(signal.SIGINT)
        yield float(number), 0.0


def test_processes_answer_in_order() -> None:
    assert list(iter_spawned(math.hypot, rows(20), 2)) == list(range(20))


@pytest.mark.usefixtures("heeded_interrupts")
def test_ctrl_c_counts_between_two_rows() -> None:
    with pytest.raises(KeyboardInterrupt):
        list(iter_spawned(math.hypot, rows(1000, signalled=3), 2))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    told: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: told.append(number))
    assert list(iter_spawned(math.hypot, rows(9, signalled=3), 2)) == list(range(9))  # nothing was raised: all is done
    assert told == [signal.SIGINT]
