"""Nothing is written, sent, installed or changed for the whole process by what this project imports and runs.

Each script runs in a fresh interpreter with an empty home folder that must stay empty, while an audit hook records
every file opened for writing, every folder made and every use of the network.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = Path(__file__).parents[2] / "src"
TRACKERS = ("YOLO_", "ORT_", "ULTRALYTICS_", "FASTSAM_", "XDG_", "OMP_", "CI", "GITHUB_", "PYTEST_")

PREAMBLE = """
import json, os, socket, sys
import numpy.testing, torch, cv2  # numpy.testing runs lscpu in NumPy 2.0
events = []
def record(name, args):
    if name == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        events.append([name, str(args[0])])
    elif name in ("os.mkdir", "os.rename", "subprocess.Popen", "os.system"):
        events.append([name, str(args[0])])
    elif name in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        events.append([name, str(args[-1])])
        raise OSError("no network in this test")
"""
WATCH = """
sys.addaudithook(record)
"""
REPORT = """
print("RESULT" + json.dumps({"events": events, "result": result}))
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()

    def run(script: str, **environment: str) -> dict[str, Any]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(TRACKERS)}
        home.chmod(0o500)
        try:
            done = subprocess.run(
                [sys.executable, "-c", PREAMBLE + WATCH + script + REPORT],
                env={
                    **inherited,
                    "HOME": str(home),
                    "TMPDIR": str(temporary),
                    "PYTHONPATH": str(SOURCE),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    **environment,
                },
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            home.chmod(0o700)
        assert done.returncode == 0, done.stderr
        assert list(home.rglob("*")) == []
        assert list(temporary.rglob("*")) == []
        report: dict[str, Any] = json.loads(done.stdout.partition("RESULT")[2])
        # allowed: a private folder for settings while Ultralytics is imported, numba's cache beside its code, and the
        # eight-letter file by which Python's tempfile finds out where it can write
        allowed = re.compile(rf"fastsam-settings-|__pycache__|^{os.devnull}$|^{re.escape(str(temporary))}/\w{{8}}$")
        report["events"] = [event for event in report["events"] if not allowed.search(event[1])]
        return report

    return run


def test_import_of_ultralytics_changes_nothing(run: Callable[..., dict[str, Any]]) -> None:
    report = run("""
import numpy as np
import PIL.Image
def state():
    return [str(PIL.Image.open), str(torch.save), torch.get_num_threads(),
            cv2.getNumThreads(), repr(np.array([1/3])), repr(torch.tensor([1/3, 1e-9])),
            {k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"}]
before = state()
from fastsam_core._ultralytics import import_ultralytics
import_ultralytics("ultralytics.nn.tasks")
from ultralytics.utils import AUTOINSTALL, ONLINE, SETTINGS, USER_CONFIG_DIR
result = [before == state(), AUTOINSTALL, ONLINE, SETTINGS["sync"], str(SETTINGS.file), str(USER_CONFIG_DIR)]
""")
    same, autoinstall, online, sync, file, folder = report["result"]
    assert same
    assert (autoinstall, online, sync) == (False, False, False)
    assert file.endswith("home/.config/Ultralytics/settings.json")
    assert folder.endswith("home/.config/Ultralytics")
    assert report["events"] == []


def test_a_users_own_settings_hold(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    own = tmp_path / "own" / "Ultralytics"
    own.mkdir(parents=True)
    (own / "settings.json").write_text(json.dumps({"datasets_dir": "/my/data", "sync": True}))
    before = (own / "settings.json").read_bytes()
    report = run(
        """
from fastsam_core._ultralytics import import_ultralytics
import_ultralytics()
from ultralytics.utils import AUTOINSTALL, SETTINGS
result = [AUTOINSTALL, SETTINGS["datasets_dir"], SETTINGS["sync"], str(SETTINGS.file), os.environ["YOLO_CONFIG_DIR"]]
""",
        YOLO_CONFIG_DIR=str(own.parent),
        YOLO_AUTOINSTALL="true",
    )
    assert report["result"] == [True, "/my/data", False, str(own / "settings.json"), str(own.parent)]
    assert (own / "settings.json").read_bytes() == before
    assert report["events"] == []


def test_segmenting_leaves_no_trace(run: Callable[..., dict[str, Any]]) -> None:
    report = run("""
from fastsam_core.checkpoints import build_module
from fastsam_core.model import FastSAM
from fastsam_core.runtimes import create_network
result = []
for runtime in ("torch", "openvino", "onnxruntime"):
    network = create_network(build_module("yolov8n-seg"), device="cpu", precision="fp32", runtime=runtime)
    masks = FastSAM(network).segment(numpy.zeros((40, 60, 3), numpy.uint8), imgsz=64)
    result.append(len(masks))
""")
    assert report["result"] == [0, 0, 0]
    assert report["events"] == []


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = ("torch", "numba", "cv2", "ultralytics")
    script = f"import sys, fastsam_core; print([name for name in {heavy} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
