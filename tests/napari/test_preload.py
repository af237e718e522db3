"""Torch's libraries are loaded before torch is imported, and the import works with them."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from pathlib import Path
from napari_fastsam._preload import preload_torch

def loaded():
    return "libtorch_cpu" in Path("/proc/self/maps").read_text()

assert not loaded()
preload_torch()
assert loaded() and "torch" not in sys.modules
import torch
assert float(torch.ones(3).sum()) == 3.0
preload_torch()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="done on Linux only")
def test_libraries_come_first() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_torch_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_fastsam import _preload

    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(_preload, "find_spec", lambda name: None)
    _preload.preload_torch()
