"""One limit for the threads of all libraries, so that they share the cores instead of multiplying."""

from __future__ import annotations

import os

from fastsam_core.errors import InvalidParameterError

__all__ = ["available_cores", "limit_threads"]


def available_cores() -> int:
    """Cores this process may use (its CPU affinity where the system tells it)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limit_threads(count: int | None = None) -> int:
    """Bound the threads of torch, OpenCV and numba together.

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
        If ``count`` is less than 1.
    """
    if count is not None and count < 1:
        raise InvalidParameterError("The number of threads is out of range", expected="at least 1", actual=str(count))
    import cv2
    import numba
    import torch

    threads = available_cores() if count is None else count
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    numba.set_num_threads(min(threads, int(vars(numba.config)["NUMBA_NUM_THREADS"])))
    return threads
