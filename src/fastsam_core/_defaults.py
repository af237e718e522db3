"""Defaults that every interface shares; light, because command lines read it when they start."""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_DET", "MAX_IMGSZ", "MAX_PIXELS", "MIN_IMGSZ", "OVERLAP_PX", "PROMPT_CONF"]

MAX_DET: Final = 1000
"""Most masks of one image (of one tile, where it is segmented in tiles)."""

PROMPT_CONF: Final = 0.01
"""The score down to which prompts choose among masks: they say what is wanted, so that less is asked of the network."""

OVERLAP_PX: Final = 128
"""How much neighbouring tiles share, in pixels of the image: more than the diameter of usual small objects."""

MAX_PIXELS: Final = 1 << 28
"""Files and lazy arrays with more pixels in a plane are refused before they are decoded, unless the caller says so."""

MIN_IMGSZ: Final = 32
MAX_IMGSZ: Final = 1 << 14
"""Long sides of the network's input. A digit more, mistyped, would ask for more memory than any machine has."""
