"""One limit for the threads of all libraries, so that they share the cores instead of multiplying; work in slices."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from fastsam_core._checks import as_integer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    import numpy.typing as npt

__all__ = ["available_cores", "iter_spawned", "limit_threads", "map_slices"]

_T = TypeVar("_T")

_limit: int | None = None
_SLICES_EACH: Final = 3
"""Slices for each thread, so that one that takes longer than its costs say holds up little."""


def available_cores() -> int:
    """Cores this process may use (its CPU affinity where the system tells it)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limit_threads(count: int | None = None) -> int:
    """Bound the threads of torch, OpenCV, numba and :func:`map_slices` together.

    OpenVINO and ONNX Runtime take torch's number when a network is made, so call this before `FastSAM.load`.

    Parameters
    ----------
    count : int, optional
        Threads per library; all available cores when left out.

    Returns
    -------
    int
        The number that was set.

    Raises
    ------
    InvalidParameterError
        If ``count`` is no whole number, or less than 1.
    """
    threads = available_cores() if count is None else as_integer("The number of threads", count, 1)
    import cv2
    import numba
    import torch

    global _limit
    _limit = threads
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    numba.set_num_threads(min(threads, int(vars(numba.config)["NUMBA_NUM_THREADS"])))
    return threads


def map_slices(work: Callable[[slice], _T], costs: npt.NDArray[np.number], least: float) -> list[_T]:
    """Do work that releases the GIL on slices of many things, each in a thread of its own.

    Parameters
    ----------
    work : callable
        Called with slices that cover the things in order; must not call this function.
    costs : array (N,)
        What each thing costs, in any unit; slices cost about the same.
    least : float
        Cost from which on threads are worth their start. Less is done at once, as is everything where one thread is
        allowed: by `limit_threads`, else by ``OMP_NUM_THREADS``, else by the number of cores.

    Returns
    -------
    list
        What `work` returned, in the order of the slices; at least one.
    """
    ends = np.cumsum(costs, dtype=np.float64)
    threads = _allowed_threads()
    if threads == 1 or len(ends) < 2 or ends[-1] < least:
        return [work(slice(0, len(ends)))]
    shares = np.arange(1, _SLICES_EACH * threads) / (_SLICES_EACH * threads)
    inner = np.searchsorted(ends, shares * ends[-1], side="right")
    bounds = sorted({0, *(int(bound) for bound in inner), len(ends)})
    slices = [slice(begin, end) for begin, end in itertools.pairwise(bounds)]
    return list(_pool(threads).map(work, slices))


def iter_spawned(work: Callable[..., _T], rows: Iterable[tuple[object, ...]], workers: int) -> Iterator[_T]:
    """Do work on each row of arguments in processes of its own; yields the results in order.

    SIGINT and SIGTERM count between two rows: what handles them may raise an exception anywhere, also where a pool has
    just taken a lock, which would never be given back. The processes leave Ctrl-C to this one. They are not forked: a
    copy of a process that has used OpenMP threads waits for them for ever.
    """
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    leave, context = (signal.SIGINT, signal.SIG_IGN), get_context("spawn")
    begun: deque[Future[_T]] = deque()
    with (
        _signals_kept() as handle,
        ProcessPoolExecutor(workers, mp_context=context, initializer=signal.signal, initargs=leave) as pool,
    ):
        try:
            for row in rows:
                begun.append(pool.submit(work, *row))
                if len(begun) > 2 * workers:
                    yield begun.popleft().result()
                handle()
            while begun:
                yield begun.popleft().result()
                handle()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _signals_kept() -> Iterator[Callable[[], None]]:
    """Keep SIGINT and SIGTERM until the given function is called, or the block ends; in the main thread only."""
    kept: list[signal.Signals] = []
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if threading.current_thread() is not threading.main_thread() or None in former.values():
        yield lambda: None
        return

    def keep(number: int, _: object) -> None:
        kept.append(signal.Signals(number))

    def handle() -> None:
        while kept:
            number = kept.pop(0)
            signal.signal(number, former[number])
            signal.raise_signal(number)
            signal.signal(number, keep)

    for number in former:
        signal.signal(number, keep)
    try:
        yield handle
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        if kept:
            signal.raise_signal(kept[0])


def _allowed_threads() -> int:
    if _limit is not None:
        return _limit
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return min(int(wanted), available_cores()) if wanted.isdecimal() and int(wanted) else available_cores()


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="fastsam-masks")


if hasattr(os, "register_at_fork"):
    # threads do not survive in a forked process
    os.register_at_fork(after_in_child=_pool.cache_clear)
