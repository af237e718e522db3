"""Boundary precision and recall as in the Berkeley benchmark (Martin et al., PAMI 2004; Arbelaez et al., PAMI 2011).

A predicted boundary pixel is right when it can be paired with a boundary pixel of an annotator at most 0.0075 of the
image diagonal away, each pixel being paired at most once. Pairs are found by a maximum matching for each annotator.
Recall counts the annotators' pixels one by one; for precision it is enough that any annotator has the pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastsam_core.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "BoundaryCounts",
    "BoundaryScores",
    "boundaries_of_labels",
    "count_boundaries",
    "match_boundaries",
    "summarise_boundaries",
    "thin",
]

MAX_DISTANCE = 0.0075
"""Largest distance of a matched pair, as a share of the image diagonal (the benchmark's value)."""


@dataclass(frozen=True, slots=True, eq=False)
class BoundaryCounts:
    """Pixel counts of one image at T thresholds; each array has shape (T,) and dtype int64.

    Parameters
    ----------
    thresholds : ndarray of shape (T,)
        The prediction counts as boundary where it is >= the threshold.
    truth_matched, truth_total : ndarray
        Annotated boundary pixels that were found, and all of them, summed over annotators.
    predicted_matched, predicted_total : ndarray
        Predicted boundary pixels that some annotator has, and all of them.
    """

    thresholds: NDArray[np.float64]
    truth_matched: NDArray[np.int64]
    truth_total: NDArray[np.int64]
    predicted_matched: NDArray[np.int64]
    predicted_total: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class BoundaryScores:
    """The benchmark's figures over a set of images.

    Parameters
    ----------
    ods, ois : float
        Best F-measure with one threshold for all images, and with the best threshold of each image.
    ap : float
        Area under the precision-recall curve, in recall steps of 0.01, nothing beyond the curve's ends.
    r50 : float
        Recall at 50 % precision; 0 where the curve never reaches that precision.
    best_threshold : float
        The threshold of ``ods``.
    recall, precision : ndarray of shape (T,)
        The curve.
    """

    ods: float
    ois: float
    ap: float
    r50: float
    best_threshold: float
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]


def boundaries_of_labels(labels: ArrayLike) -> NDArray[np.bool_]:
    """Mark the pixels whose right, lower or lower-right neighbour has another label, thinned to one pixel."""
    array = np.asarray(labels)
    padded = np.pad(array, ((0, 1), (0, 1)), mode="edge")
    edges = (array != padded[:-1, 1:]) | (array != padded[1:, :-1]) | (array != padded[1:, 1:])
    return thin(edges)


def thin(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Reduce lines to a width of one pixel, keeping their connections."""
    from skimage.morphology import skeletonize

    return np.asarray(skeletonize(mask), dtype=bool)


def match_boundaries(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], *, max_distance: float = MAX_DISTANCE
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Pair boundary pixels one to one, as many as possible.

    Parameters
    ----------
    predicted, truth : ndarray of shape (H, W), bool
        Thin boundaries.
    max_distance : float
        As a share of the image diagonal.

    Returns
    -------
    predicted_matched, truth_matched : ndarray of shape (H, W), bool
        The pixels of each that have a partner.
    """
    from fastsam_core.evaluation._matching import columns_nearby, maximum_matching

    if predicted.shape != truth.shape:
        raise InvalidParameterError(
            "Prediction and annotation differ in size", expected=str(truth.shape), actual=str(predicted.shape)
        )
    radius = max_distance * float(np.hypot(*truth.shape))
    reach = int(radius)
    predicted_yx, truth_yx = np.argwhere(predicted), np.argwhere(truth)
    predicted_matched, truth_matched = np.zeros_like(predicted), np.zeros_like(truth)
    index = np.full(np.add(truth.shape, 2 * reach), -1, np.int32)
    index[reach + truth_yx[:, 0], reach + truth_yx[:, 1]] = np.arange(len(truth_yx))
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    near = np.argsort(dy**2 + dx**2, kind="stable")[: np.count_nonzero(dy**2 + dx**2 <= radius**2)]
    neighbours = columns_nearby(predicted_yx + reach, index, dy[near], dx[near])
    partner = maximum_matching(neighbours, len(truth_yx))
    predicted_matched[tuple(predicted_yx[partner >= 0].T)] = True
    truth_matched[tuple(truth_yx[partner[partner >= 0]].T)] = True
    return predicted_matched, truth_matched


def count_boundaries(
    edge_map: NDArray[np.floating],
    truths: Sequence[NDArray[np.bool_]],
    *,
    thresholds: ArrayLike | int = 99,
) -> BoundaryCounts:
    """Count the matches of one image at every threshold.

    Parameters
    ----------
    edge_map : ndarray of shape (H, W)
        Strength of the predicted boundary in [0, 1].
    truths : sequence of ndarray of shape (H, W), bool
        The boundaries drawn by each annotator.
    thresholds : array or int
        The thresholds, or how many of them evenly inside (0, 1).

    Returns
    -------
    BoundaryCounts
    """
    if isinstance(thresholds, int):
        levels = np.linspace(1 / (thresholds + 1), thresholds / (thresholds + 1), thresholds)
    else:
        levels = np.asarray(thresholds, np.float64)
    total = sum(int(truth.sum()) for truth in truths)
    counts = np.zeros((4, len(levels)), np.int64)
    last: NDArray[np.bool_] | None = None
    for t, level in enumerate(levels):
        predicted = edge_map >= level
        if last is not None and np.array_equal(predicted, last):
            counts[:, t] = counts[:, t - 1]
            continue
        last = predicted
        thinned = thin(predicted)
        found_by_any = np.zeros_like(thinned)
        truth_matched = 0
        for truth in truths:
            predicted_hit, truth_hit = match_boundaries(thinned, truth)
            found_by_any |= predicted_hit
            truth_matched += int(truth_hit.sum())
        counts[:, t] = truth_matched, total, found_by_any.sum(), thinned.sum()
    return BoundaryCounts(levels, *counts)


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """Divide; nothing out of nothing is 0, as in the benchmark's code."""
    out: NDArray[np.float64] = part / np.maximum(whole, 1)
    return out


def _f_measure(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> NDArray[np.float64]:
    out: NDArray[np.float64] = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return out


def summarise_boundaries(images: Sequence[BoundaryCounts]) -> BoundaryScores:
    """Compute ODS, OIS, AP and R50 from the counts of all images (which share their thresholds)."""
    if not images:
        raise InvalidParameterError("No image was scored", expected="counts of at least one image")
    table = np.array(
        [[i.truth_matched, i.truth_total, i.predicted_matched, i.predicted_total] for i in images], np.int64
    )  # (images, 4, thresholds)
    total = table.sum(axis=0)
    recall, precision = _ratio(total[0], total[1]), _ratio(total[2], total[3])

    # one threshold for all images, looked for between the sampled ones as well
    weight = np.linspace(0, 1, 101)[:, None]
    between = [v[:-1] * (1 - weight) + v[1:] * weight if len(v) > 1 else v[None] for v in (recall, precision)]
    fine = _f_measure(between[0], between[1])
    step, left = np.unravel_index(int(fine.argmax()), fine.shape)
    thresholds = images[0].thresholds
    right = min(int(left) + 1, len(thresholds) - 1)
    best_threshold = thresholds[left] + (thresholds[right] - thresholds[left]) * weight[step, 0]

    # the best threshold of each image
    each = _f_measure(_ratio(table[:, 0], table[:, 1]), _ratio(table[:, 2], table[:, 3])).argmax(axis=1)
    chosen = table[np.arange(len(table)), :, each].sum(axis=0)
    ois = _f_measure(_ratio(chosen[:1], chosen[1:2]), _ratio(chosen[2:3], chosen[3:]))[0]

    unique_recall, first = np.unique(recall, return_index=True)
    grid = np.linspace(0, 1, 101)
    area = np.interp(grid, unique_recall, precision[first], left=0, right=0).sum() * 0.01
    return BoundaryScores(
        ods=float(fine.max()),
        ois=float(ois),
        ap=float(area),
        r50=_recall_at_half_precision(recall, precision),
        best_threshold=float(best_threshold),
        recall=recall,
        precision=precision,
    )


def _recall_at_half_precision(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """Return the largest recall on the curve, joined by straight lines, at which precision is at least 0.5."""
    order = np.argsort(recall, kind="stable")
    r, p = recall[order], precision[order]
    enough = np.flatnonzero(p >= 0.5)
    if len(enough) == 0:
        return 0.0
    i = int(enough[-1])
    if i + 1 == len(r):
        return float(r[i])
    share = (p[i] - 0.5) / (p[i] - p[i + 1])
    return float(r[i] + share * (r[i + 1] - r[i]))
