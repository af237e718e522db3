"""Images too large to be read as a whole: tile by tile, then answered and written like any other."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fastsam_core.errors import FastSAMError, InvalidParameterError
from fastsam_core.pipeline import Step
from fastsam_core.tiling import segment_tiles

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastsam_core.cli._batch import Job
    from fastsam_core.model import FastSAM, OnTile

__all__ = ["in_tiles"]


def in_tiles(job: Job, model: FastSAM, search: Mapping[str, Any], reading: Mapping[str, Any], on_tile: OnTile) -> Step:
    """Segment a file of which only tiles are in memory; the step's image is the whole, reduced."""
    start = time.perf_counter()
    try:
        if job.prompts.texts:
            raise InvalidParameterError(
                "Texts cannot be asked of an image that is read tile by tile",
                expected=f"at most --max-pixels {reading['max_pixels']} pixels",
                remedy="raise --max-pixels if there is memory for the whole image, or use points and boxes",
            )
        for tile in segment_tiles(job.source, model, **search, **reading):
            if tile.result is None:
                on_tile(tile.index + 2, tile.count)
        return Step(0, job.source, tile.result, None, tile.overview, time.perf_counter() - start)
    except FastSAMError as error:
        return Step(0, job.source, None, error, None, time.perf_counter() - start)
