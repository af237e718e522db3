"""Zero-shot edge detection on BSDS500, as in the paper's table: ODS, OIS, AP and R50.

The network runs in this process; edge maps are scored by others, because 99 thresholds against five annotators take
longer than finding the edges.
"""

from __future__ import annotations

from itertools import starmap
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsam_core._threads import iter_spawned
from fastsam_core.edges import edge_map
from fastsam_core.errors import AnnotationError
from fastsam_core.evaluation.boundaries import BoundaryCounts, count_boundaries, summarise_boundaries
from fastsam_core.evaluation.bsds import BoundaryData, read_boundaries
from fastsam_core.evaluation.reports import Cell, Curve, Report, Table

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from fastsam_core.edges import Combination
    from fastsam_core.model import FastSAM

__all__ = ["edge_report", "iter_edge_counts", "score_edges"]


def score_edges(edges: NDArray[np.float32], truth: Path, thresholds: int) -> BoundaryCounts:
    """Match one edge map with what the annotators drew.

    Raises
    ------
    AnnotationError
        If the annotations cannot be read or are of another size.
    """
    boundaries = read_boundaries(truth)
    if boundaries[0].shape != edges.shape:
        raise AnnotationError(
            f"{truth} is of another size than its image", expected=str(edges.shape), actual=str(boundaries[0].shape)
        )
    return count_boundaries(edges, boundaries, thresholds=thresholds)


def iter_edge_counts(
    data: BoundaryData,
    model: FastSAM,
    chosen: Sequence[int],
    *,
    thresholds: int = 99,
    workers: int = 0,
    combine: Combination = "sum",
    blur_px: float = 1.0,
    **search: Any,
) -> Generator[tuple[str, BoundaryCounts], None, None]:
    """Detect edges in images and score them.

    Parameters
    ----------
    data, model
    chosen : sequence of int
        Which images.
    thresholds : int
        How many, evenly inside (0, 1).
    workers : int
        Processes that score; 0 scores in this one.
    combine, blur_px
        As in `edge_map`.
    **search
        ``conf``, ``iou``, ``max_det``, ``imgsz``, as in `FastSAM.predict`.

    Yields
    ------
    name : str
        The image's.
    counts : BoundaryCounts
    """

    def rows() -> Iterator[tuple[NDArray[np.float32], Path, int]]:
        for index in chosen:
            prediction = model.predict(data.images[index], **search)
            yield edge_map(prediction, combine=combine, blur_px=blur_px), data.truths[index], thresholds

    counts = iter_spawned(score_edges, rows(), workers) if workers else starmap(score_edges, rows())
    yield from zip((data.images[index].stem for index in chosen), counts, strict=True)


def edge_report(images: Sequence[tuple[str, BoundaryCounts]]) -> Report:
    """Compute the benchmark's figures."""
    scores = summarise_boundaries([counts for _, counts in images])
    values = {
        "ods": scores.ods,
        "ois": scores.ois,
        "ap": scores.ap,
        "r50": scores.r50,
        "best_threshold": scores.best_threshold,
        "images": len(images),
    }
    order = np.argsort(scores.recall, kind="stable")
    curve = Curve(
        "precision-recall",
        "edges",
        "recall",
        "precision",
        tuple(scores.recall[order].tolist()),
        tuple(scores.precision[order].tolist()),
    )
    row = (scores.ods, scores.ois, scores.ap, scores.r50)
    table = Table(f"{len(images)} images", ("ODS", "OIS", "AP", "R50"), (row,))
    each: tuple[dict[str, Cell], ...] = tuple(
        {"image": name, "ods": summarise_boundaries([counts]).ods} for name, counts in images
    )
    return Report("edges", (table,), values, curves=(curve,), images=each)
