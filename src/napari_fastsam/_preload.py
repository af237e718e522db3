"""Loading torch's libraries while the window goes on."""

from __future__ import annotations

import ctypes
import os
import sys
from importlib.util import find_spec
from pathlib import Path

__all__ = ["preload_torch"]

_LIBRARIES = {"libtorch_global_deps.so": os.RTLD_NOW | os.RTLD_GLOBAL, "libtorch.so": os.RTLD_NOW}
"""Those that ``import torch`` loads first, in its order and with its flags; none of them calls Python."""


def preload_torch() -> None:
    """Load torch's libraries as ``import torch`` does, but without Python's lock (on Linux; elsewhere nothing is done).

    The import statement keeps the lock while the system loads libraries, which stops the window for 0.2 s. A function
    called through ctypes does not. What cannot be loaded here is left to the import, which says why.
    """
    if sys.platform != "linux" or "torch" in sys.modules:
        return
    spec = find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        return
    load = ctypes.CDLL(None).dlopen
    load.argtypes, load.restype = [ctypes.c_char_p, ctypes.c_int], ctypes.c_void_p
    for name, flags in _LIBRARIES.items():
        file = Path(spec.submodule_search_locations[0]) / "lib" / name
        if file.is_file():
            load(os.fsencode(file), flags)
