"""The one door through which this project imports Ultralytics, with its side effects off.

Left alone, ``import ultralytics`` writes a settings file into the home folder, looks up host names to see whether it is
online, arms usage analytics and automatic ``pip install``, limits OpenMP to one thread, switches OpenCV's threads off
and changes how NumPy and torch print. `import_ultralytics` lets none of this outlast the import, sends nothing, and
leaves no file behind. Values that the user set (environment, settings file) stay what they are, except that
``sync`` (analytics) is off for this process.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import platform
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

__all__ = ["import_ultralytics"]

_LOCK = threading.Lock()
_QUIET_ENVIRONMENT = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}


def import_ultralytics(module: str = "ultralytics") -> ModuleType:
    """Import a module of Ultralytics without its side effects.

    Parameters
    ----------
    module : str
        Dotted name inside Ultralytics, ``"ultralytics.nn.tasks"`` for example.

    Returns
    -------
    module
        The imported module. Where the host application imported Ultralytics before, its state is left as it is.
    """
    with _LOCK:
        if "ultralytics.utils" not in sys.modules:
            _first_import()
        return importlib.import_module(module)


def _first_import() -> None:
    # torch reads OMP_NUM_THREADS when it loads, so it has to load before Ultralytics sets that to 1.
    import torch  # noqa: F401

    user_folder = _user_settings_folder()
    with (
        tempfile.TemporaryDirectory(prefix="fastsam-settings-") as folder,
        _silent_logger(),
        _kept_global_state(),
    ):
        private_folder = Path(folder) / "Ultralytics"
        private_folder.mkdir()
        (private_folder / "settings.json").write_text(
            json.dumps({**_read_settings(user_folder / "settings.json"), "sync": False}), encoding="utf-8"
        )
        with _environment({**_missing_from_environment(_QUIET_ENVIRONMENT), "YOLO_CONFIG_DIR": folder}):
            importlib.import_module("ultralytics.utils")
        # Whoever uses Ultralytics in this process finds its folders where they belong; nothing is written now.
        for name, module in list(sys.modules.items()):
            if name.startswith("ultralytics.") and getattr(module, "USER_CONFIG_DIR", None) == private_folder:
                vars(module)["USER_CONFIG_DIR"] = user_folder
            if name.startswith("ultralytics.") and hasattr(module, "SETTINGS_FILE"):
                vars(module)["SETTINGS_FILE"] = user_folder / "settings.json"
        settings: Any = sys.modules["ultralytics.utils"].__dict__["SETTINGS"]
        settings.file = settings.file_path = user_folder / "settings.json"


def _user_settings_folder() -> Path:
    """Return the folder Ultralytics would use, without making it (``get_user_config_dir`` in ``ultralytics.utils``)."""
    if configured := os.environ.get("YOLO_CONFIG_DIR"):
        return Path(configured).expanduser() / "Ultralytics"
    system = platform.system()
    if system == "Windows":
        return Path.home() / "AppData" / "Roaming" / "Ultralytics"
    if system == "Darwin":
        return Path.home() / "Library" / "Application Support" / "Ultralytics"
    return Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config")) / "Ultralytics"


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}


def _missing_from_environment(values: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if name not in os.environ}


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables, and put back everything that the body changed."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _silent_logger() -> Iterator[None]:
    """Drop Ultralytics' messages about the settings file it finds."""

    def drop(record: logging.LogRecord) -> bool:
        return False

    logger = logging.getLogger("ultralytics")
    logger.addFilter(drop)
    try:
        yield
    finally:
        logger.removeFilter(drop)


@contextmanager
def _kept_global_state() -> Iterator[None]:
    """Keep what Ultralytics changes for the whole process.

    Print options, OpenCV's thread count, and functions that it replaces by its own: its ``PIL.Image.open`` wants to
    install a package for every file that Pillow does not know.
    """
    import cv2
    import numpy as np
    import PIL.Image
    import torch

    threads = cv2.getNumThreads()
    image_open, torch_save = PIL.Image.open, torch.save
    # torch has no public getter for its print options.
    torch_options = vars(torch._tensor_str.PRINT_OPTS).copy()
    try:
        with np.printoptions():
            yield
    finally:
        cv2.setNumThreads(threads)
        PIL.Image.open, torch.save = image_open, torch_save
        vars(torch._tensor_str.PRINT_OPTS).update(torch_options)
