"""Images too large to be read as a whole: tile by tile, then answered and written like any other."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from fastsam_core.cli._batch import Outcome, finish
from fastsam_core.errors import FastSAMError
from fastsam_core.large_images import open_plane
from fastsam_core.tiling import step_in_tiles

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastsam_core.cli._batch import Job
    from fastsam_core.cli._progress import Bar
    from fastsam_core.cli._text import TextAnswers
    from fastsam_core.model import FastSAM
    from fastsam_core.pipeline import Step

__all__ = ["in_tiles"]


def in_tiles(
    step: Step,
    job: Job,
    model: FastSAM,
    search: Mapping[str, Any],
    reading: Mapping[str, Any],
    texts: TextAnswers | None,
    bar: Bar,
    *,
    conf: float | Literal["auto"],
) -> Outcome:
    """Do with a file, of which only tiles are in memory, what `finish` does; the overlay shows the whole, reduced."""
    start = time.perf_counter() - step.seconds
    try:
        with open_plane(job.source, **job.reading(reading)) as plane:
            opened = replace(step, seconds=time.perf_counter() - start)
            step = step_in_tiles(opened, plane, model, reader=plane.read, **search)
            bar.say(f"Writing {job.name}")
            return finish(job, step, texts, conf=conf, pixels=plane.rgb8)
    except FastSAMError as error:
        return job.outcome("failed", seconds=time.perf_counter() - start, error=error)
