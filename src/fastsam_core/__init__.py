"""FastSAM: one forward pass finds all masks of an image; points, boxes, polygons and text only pick among them.

>>> from fastsam_core import FastSAM, Points, select
>>> model = FastSAM.load("builtin")  # doctest: +SKIP
>>> masks = model.segment("cells.tif")  # doctest: +SKIP
>>> chosen = select(masks, Points([(120, 80)]))  # doctest: +SKIP

Public names are loaded on first use; importing this package loads neither torch nor numba.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastsam_core._version import __version__

if TYPE_CHECKING:
    from fastsam_core._defaults import PROMPT_CONF
    from fastsam_core.images import Image, read_image
    from fastsam_core.masks import Masks
    from fastsam_core.model import FastSAM
    from fastsam_core.pipeline import iter_segment
    from fastsam_core.prompts import Box, Points, Polygon, Text, match, select
    from fastsam_core.stacks import LinkedStack, segment_stack
    from fastsam_core.tiling import segment_tiles

_HOME = {
    "PROMPT_CONF": "_defaults",
    "Box": "prompts",
    "FastSAM": "model",
    "Image": "images",
    "LinkedStack": "stacks",
    "Masks": "masks",
    "Points": "prompts",
    "Polygon": "prompts",
    "Text": "prompts",
    "iter_segment": "pipeline",
    "match": "prompts",
    "read_image": "images",
    "segment_stack": "stacks",
    "segment_tiles": "tiling",
    "select": "prompts",
}

__all__ = [
    "PROMPT_CONF",
    "Box",
    "FastSAM",
    "Image",
    "LinkedStack",
    "Masks",
    "Points",
    "Polygon",
    "Text",
    "__version__",
    "iter_segment",
    "match",
    "read_image",
    "segment_stack",
    "segment_tiles",
    "select",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
