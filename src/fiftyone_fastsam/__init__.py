"""FastSAM in FiftyOne: writes masks onto whole datasets.

>>> from fiftyone_fastsam import enrich
>>> report = enrich(dataset, "masks")  # doctest: +SKIP

Public names are loaded on first use; importing this package loads neither FiftyOne nor torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fiftyone_fastsam._convert import masks_from_detections, to_detections
    from fiftyone_fastsam.compare import compare_fields
    from fiftyone_fastsam.enrichment import EnrichReport, EnrichStep, enrich, iter_enrich
    from fiftyone_fastsam.model import FastSAMModel
    from fiftyone_fastsam.options import EnrichOptions
    from fiftyone_fastsam.ray_runner import iter_on_ray
    from fiftyone_fastsam.shards import iter_shared

_HOME = {
    "EnrichOptions": "options",
    "EnrichReport": "enrichment",
    "EnrichStep": "enrichment",
    "FastSAMModel": "model",
    "compare_fields": "compare",
    "enrich": "enrichment",
    "iter_on_ray": "ray_runner",
    "iter_shared": "shards",
    "iter_enrich": "enrichment",
    "masks_from_detections": "_convert",
    "to_detections": "_convert",
}

__all__ = [
    "EnrichOptions",
    "EnrichReport",
    "EnrichStep",
    "FastSAMModel",
    "compare_fields",
    "enrich",
    "iter_enrich",
    "iter_on_ray",
    "iter_shared",
    "masks_from_detections",
    "to_detections",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
