"""The plugin stub: a small folder that tells FiftyOne to load the operators from the installed package."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Final

from fastsam_core.errors import OutputError
from fiftyone_fastsam._fiftyone import import_fiftyone

__all__ = ["PLUGIN_NAME", "STUB", "install", "operator_names"]

PLUGIN_NAME: Final = "@fastsam/fastsam"
STUB: Final = Path(__file__).parent / "plugin"


def operator_names() -> list[str]:
    """Return the names listed in ``fiftyone.yml``; FiftyOne drops operators that are not."""
    import yaml

    return list(yaml.safe_load((STUB / "fiftyone.yml").read_text(encoding="utf-8"))["operators"])


def install(plugins_dir: str | Path | None = None, *, force: bool = False) -> Path:
    """Write the stub into FiftyOne's plugins folder.

    The code itself stays in the installed package, so that it is loaded once, and an upgrade of the package is an
    upgrade of the plugin.

    Parameters
    ----------
    plugins_dir : path, optional
        FiftyOne's own (``FIFTYONE_PLUGINS_DIR``) by default.
    force : bool
        Replace a folder that is there.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    OutputError
        A folder is there already, or the place is not writable.
    """
    parent = Path(plugins_dir) if plugins_dir is not None else Path(import_fiftyone().config.plugins_dir)
    folder = parent / PLUGIN_NAME
    if folder.exists() and not force:
        raise OutputError(f"{folder} is there already", remedy="--force replaces it")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix=".fastsam-") as temporary:
            new = Path(temporary) / "new"
            shutil.copytree(STUB, new, ignore=shutil.ignore_patterns("__pycache__"))
            if folder.is_symlink():
                folder.unlink()
            elif folder.exists():
                folder.rename(Path(temporary) / "old")
            new.rename(folder)
    except OSError as error:
        raise OutputError(
            f"The plugin cannot be written to {folder}", actual=str(error), remedy="make the folder writable"
        ) from error
    return folder
