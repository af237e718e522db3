"""Images too large to be read as a whole: tile by tile, then answered and written like any other."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

from fastsam_core._files import check_writable
from fastsam_core.cli._batch import Outcome, finish
from fastsam_core.errors import FastSAMError
from fastsam_core.large_images import open_plane
from fastsam_core.outputs import output_paths
from fastsam_core.pipeline import Step
from fastsam_core.tiling import segment_tiles

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastsam_core.cli._batch import Job
    from fastsam_core.cli._progress import Bar
    from fastsam_core.cli._text import TextAnswers
    from fastsam_core.model import FastSAM

__all__ = ["in_tiles"]


def in_tiles(
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
    start = time.perf_counter()
    try:
        for path in output_paths(job.out, job.name, job.formats).values():
            check_writable(path)
        with open_plane(job.source, **reading) as plane:
            for tile in segment_tiles(plane, model, reader=plane.read, **search):
                if tile.result is None:
                    bar.say(f"Segmenting, tile {tile.index + 2} of {tile.count}")
            step = Step(0, job.source, tile.result, None, tile.overview, time.perf_counter() - start)
            bar.say(f"Writing {job.name}")
            return finish(job, step, texts and texts.reading(plane.rgb8), conf=conf)
    except FastSAMError as error:
        return Outcome(job.source, "failed", seconds=time.perf_counter() - start, error=error)
