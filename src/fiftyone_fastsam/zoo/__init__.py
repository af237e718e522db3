"""FastSAM as a remote source of FiftyOne's model zoo. FiftyOne copies this folder, so everything else is imported."""

from __future__ import annotations

import shutil
from typing import Any


def download_model(model_name: str, model_path: str) -> None:
    """Put a model's weights, verified, at a path; FiftyOne calls this."""
    from fastsam_core.downloads import fetch
    from fastsam_core.registry import BUILTIN, find_model

    entry = find_model(model_name.rpartition("/")[2])
    if entry.name == BUILTIN:
        from importlib.resources import as_file, files

        with as_file(files("fastsam_core") / "weights" / entry.file_name) as weights:
            shutil.copyfile(weights, model_path)
    else:
        shutil.copyfile(fetch(entry), model_path)


def load_model(model_name: str, model_path: str, **options: Any) -> Any:
    """Return the model; FiftyOne calls this. Options are those of ``FastSAMModel``."""
    from fiftyone_fastsam.model import FastSAMModel

    return FastSAMModel(model_path, **options)
