"""Operators of the FiftyOne App. FiftyOne reads them through the stub that ``fastsam fiftyone install`` writes."""

from __future__ import annotations

from typing import Any

from fiftyone_fastsam.operators.compare import CompareFields
from fiftyone_fastsam.operators.diagnose import Doctor
from fiftyone_fastsam.operators.enriching import (
    BoxesToMasks,
    KeypointsToMasks,
    PromptHere,
    SegmentEverything,
    TextToMasks,
)

__all__ = ["OPERATORS", "register"]

OPERATORS = (SegmentEverything, BoxesToMasks, KeypointsToMasks, TextToMasks, PromptHere, CompareFields, Doctor)


def register(plugin: Any) -> None:
    """Register all operators; FiftyOne calls this."""
    for operator in OPERATORS:
        plugin.register(operator)
