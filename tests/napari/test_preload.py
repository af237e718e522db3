"""What is loaded ahead, outside the window's thread: torch's libraries, and what the first commit needs."""

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


WARM = """
import sys
from napari_fastsam.controllers.canvas import warm_up
from napari_fastsam.models import inference
from napari_fastsam.models._kernels import labels_under

warm_up()
assert "pandas.core" in sys.modules, "napari loads it for the first Labels layer"
inference._warm_up()
assert len(labels_under.signatures) == 2
"""


def test_the_worker_makes_ready_for_the_first_commit() -> None:
    """The window stood still while pandas was loaded and a kernel compiled, for a second and more."""
    done = subprocess.run([sys.executable, "-c", WARM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
