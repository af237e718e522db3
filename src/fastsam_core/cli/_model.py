"""Load a model and say what takes long: a download, or compiling on the first run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from fastsam_core._threads import limit_threads
from fastsam_core.model import FastSAM

if TYPE_CHECKING:
    from fastsam_core.cli._progress import Bar

__all__ = ["load_model"]

_PACKAGE = Path(__file__).parents[1]


def load_model(name: str, loading: dict[str, Any], bar: Bar) -> FastSAM:
    """Load a model; see `FastSAM.load` for the options and errors."""
    limit_threads()
    bar.say("Loading the model")
    model = FastSAM.load(name, **loading, progress=bar.downloading(name))
    if not any((_PACKAGE / "__pycache__").glob("*.nbi")):
        bar.log(Text("Compiling kernels with the first image: once on this installation, half a minute"))
    return model
