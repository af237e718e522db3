"""One way to compile kernels: releases the GIL, and caches machine code only beside the package itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numba
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_F = TypeVar("_F", bound=Callable[..., object])

__all__ = ["compilable", "njit"]


def _cache_dir_is_writable() -> bool:
    """Tell whether numba may keep its cache in this package's ``__pycache__``.

    Without this check numba would fall back to a folder in the user's home, or fail where there is none.
    """
    if os.environ.get("NUMBA_CACHE_DIR"):
        return True
    package = Path(__file__).parent
    pycache = package / "__pycache__"
    return os.access(pycache if pycache.is_dir() else package, os.W_OK)


_CACHE = _cache_dir_is_writable()


def njit(function: _F) -> _F:
    """Compile ``function`` in numba's nopython mode on its first call, without holding the GIL."""
    return cast("_F", numba.njit(nogil=True, cache=_CACHE)(function))


def compilable(values: NDArray[Any]) -> NDArray[Any]:
    """Return numbers as kernels take them: in the processor's byte order, floats of 32 or 64 bit.

    FITS files, and many that are mapped into memory, hold the other byte order.

    Parameters
    ----------
    values : ndarray
        Booleans, integers or floats; as they are where they are fit.
    """
    dtype = values.dtype.newbyteorder("=")
    if dtype.kind == "f" and dtype.itemsize not in (4, 8):
        dtype = np.dtype(np.float32 if dtype.itemsize < 4 else np.float64)
    return values.astype(dtype, copy=False)
