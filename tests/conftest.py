"""What all tests share: an environment of their own, and services that start only for the tests that need them."""

from __future__ import annotations

import atexit
import importlib
import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

import local_services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

TESTS = Path(__file__).parent
ROOT = TESTS.parent
REAL_HOME = Path.home()
QT = os.environ.get("FASTSAM_TEST_QT", "PyQt6")
"""The Qt binding of the napari tests; tools/check_wheel.py runs them on PySide6, too."""

# pytest plug-ins of the napari tests; see --disable-plugin-autoload in pyproject.toml.
NAPARI_PLUGINS = ("pytestqt.plugin", "npe2._pytest_plugin", "napari.utils._testsupport")

# For the tests in a folder: the service they need, and the environment variable that carries its address.
SERVICES: dict[str, tuple[str, Callable[[], AbstractContextManager[str]]]] = {
    "napari": ("DISPLAY", local_services.display),
    "fiftyone": ("FIFTYONE_DATABASE_URI", local_services.mongod),
}

_open_services = ExitStack()
atexit.register(_open_services.close)  # after FiftyOne's own clean-up, which still talks to the database
_service_problems: dict[str, str | None] = {}  # folder -> why its service did not start, None when it runs


def _separate_environment() -> None:
    """Keep tests out of the user's home, off the network, and on two threads."""
    home = ROOT / ".tools" / "test-home"
    home.mkdir(parents=True, exist_ok=True)
    xauthority = REAL_HOME / ".Xauthority"
    if xauthority.exists():
        os.environ.setdefault("XAUTHORITY", str(xauthority))
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        os.environ.pop(name, None)
    os.environ.update(
        HOME=str(home),
        FIFTYONE_DO_NOT_TRACK="true",
        HF_HUB_OFFLINE="1",
        MPLBACKEND="agg",
        ORT_DISABLE_TELEMETRY="1",
        PYTEST_QT_API=QT.lower(),
        QT_API=QT.lower(),
        RAY_USAGE_STATS_ENABLED="0",
        YOLO_AUTOINSTALL="false",
        YOLO_CONFIG_DIR=str(home),
        YOLO_OFFLINE="true",
    )
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, str(min(2, os.cpu_count() or 1)))


_separate_environment()

hypothesis.settings.register_profile("deterministic", derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("explore", max_examples=1000, deadline=None, database=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "deterministic"))


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Load the plug-ins of the napari tests if some of these are to run and Qt can."""
    arguments = pluginmanager.getplugin("pytestconfig").known_args_namespace.file_or_dir
    chosen = [Path(argument.split("::")[0]).resolve() for argument in arguments] or [TESTS]
    if not (TESTS / "napari").is_dir() or not any(_overlap(path, TESTS / "napari") for path in chosen):
        return
    if (problem := _qt_problem()) is not None:
        _service_problems["napari"] = problem
        return
    for name in NAPARI_PLUGINS:
        pluginmanager.import_plugin(name)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Start the service of a test module before it is imported; where it cannot start, the module is skipped."""
    if not module_path.is_relative_to(TESTS):
        return None
    folder = module_path.relative_to(TESTS).parts[0]
    if folder in SERVICES and (problem := _start(folder)) is not None:
        module: _SkippedModule = _SkippedModule.from_parent(parent, path=module_path)
        module.reason = problem
        return module
    return None


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    """Mark the tests of an adapter with its name."""
    for item in items:
        if item.path.is_relative_to(TESTS) and (folder := item.path.relative_to(TESTS).parts[0]) in SERVICES:
            item.add_marker(folder)


@pytest.fixture(scope="session")
def mongo_uri() -> str:
    """Return the address of a MongoDB server: the user's FIFTYONE_DATABASE_URI, else one of the tests' own."""
    if (problem := _start("fiftyone")) is not None:
        pytest.skip(problem)
    return os.environ["FIFTYONE_DATABASE_URI"]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real images, from $FASTSAM_DATA or beside the checkout; skips where there is none."""
    folder = Path(os.environ.get("FASTSAM_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}; set FASTSAM_DATA")
    return folder


class _SkippedModule(pytest.Module):
    reason = ""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        pytest.skip(self.reason, allow_module_level=True)


def _overlap(path: Path, folder: Path) -> bool:
    return path.is_relative_to(folder) or folder.is_relative_to(path)


def _qt_problem() -> str | None:
    try:
        for name in ("QtOpenGLWidgets", "QtWidgets"):
            importlib.import_module(f"{QT}.{name}")
    except ImportError as error:
        return f"Qt cannot load ({error}); run tools/system-packages.sh as root"
    return None


def _start(folder: str) -> str | None:
    """Start the service for a folder of tests unless that was tried before; return what stood in the way."""
    if folder not in _service_problems:
        variable, service = SERVICES[folder]
        try:
            os.environ[variable] = _open_services.enter_context(service())
        except local_services.ServiceUnavailableError as error:
            _service_problems[folder] = str(error)
        else:
            _service_problems[folder] = None
    return _service_problems[folder]


@pytest.fixture
def heeded_interrupts() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt, here and in what is started, which the background jobs of a shell ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
