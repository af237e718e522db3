"""Precision and recall of instance masks, by COCO's rules, one image at a time.

The matching is that of ``pycocotools.cocoeval.COCOeval`` with ``useCats=0`` (detections by descending score, each to
the best free truth above the threshold; crowds and truths of another size are ignored), and the figures are equal to
it. Only scores and match flags are kept, so data sets of any size are scored without holding their masks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fastsam_core._jit import njit
from fastsam_core.errors import InvalidParameterError
from fastsam_core.masks import check_masks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from fastsam_core.masks import Masks

__all__ = ["COCO_IOUS", "COCO_SIZES", "InstanceScorer", "InstanceScores"]

COCO_IOUS = np.linspace(0.5, 0.95, 10)
"""The ten IoU thresholds that COCO averages over."""

COCO_SIZES: Mapping[str, tuple[float, float]] = {
    "all": (0, 1e10),
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e10),
}
"""COCO's ranges of the truth's area in pixels, both ends included."""


@njit
def _assign(
    iou: NDArray[np.float64],
    truth_ignored: NDArray[np.bool_],
    crowd: NDArray[np.bool_],
    thresholds: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Return (T, D): the truth (index into columns, ignored ones last) that each detection gets, or -1."""
    n_detections, n_truths = iou.shape
    out = np.full((thresholds.shape[0], n_detections), -1, np.int64)
    for t in range(thresholds.shape[0]):
        taken = np.zeros(n_truths, np.bool_)
        for d in range(n_detections):
            best, match = min(thresholds[t], 1 - 1e-10), -1
            for g in range(n_truths):
                if taken[g] and not crowd[g]:
                    continue
                if match > -1 and not truth_ignored[match] and truth_ignored[g]:
                    break  # a real match is not given up for an ignored one
                if iou[d, g] < best:
                    continue
                best, match = iou[d, g], g
            if match >= 0:
                taken[match] = True
                out[t, d] = match
    return out


@dataclass(frozen=True, slots=True, eq=False)
class InstanceScores:
    """Figures of one size range over all images.

    Parameters
    ----------
    ap, ap50, ap75 : float
        Average precision over ten IoU thresholds, and at 0.5 and 0.75; NaN without truths.
    recall : mapping of int to float
        Average recall over the IoU thresholds for each limit of detections per image.
    n_truths : int
        Truths that count.
    """

    ap: float
    ap50: float
    ap75: float
    recall: Mapping[int, float]
    n_truths: int


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """What is kept of one image in one size range: D detections, T IoU thresholds, L limits."""

    score: NDArray[np.float64]
    matched: NDArray[np.bool_]  # (T, D)
    skipped: NDArray[np.bool_]  # (T, D)
    hits: NDArray[np.int64]  # (L, T)
    n_truths: int


@dataclass
class InstanceScorer:
    """Collects matches image by image and computes COCO's figures from them.

    Parameters
    ----------
    limits : tuple of int
        Most detections per image of the recall figures, ascending; precision uses the last one.
    thresholds : ndarray
        IoU thresholds.
    sizes : mapping
        Name to the range of areas in pixels.
    precision : bool
        Whether precision is wanted; without it only counts are kept, a few hundred bytes an image.
    """

    limits: tuple[int, ...] = (10, 100, 1000)
    thresholds: NDArray[np.float64] = field(default_factory=lambda: COCO_IOUS.copy())
    sizes: Mapping[str, tuple[float, float]] = field(default_factory=lambda: dict(COCO_SIZES))
    precision: bool = True
    _parts: dict[str, list[_Part]] = field(default_factory=dict, init=False, repr=False)
    _best_overlaps: list[NDArray[np.float64]] = field(default_factory=list, init=False, repr=False)

    def __len__(self) -> int:
        """Return the number of images added so far."""
        return len(self._best_overlaps)

    def add(
        self,
        predicted: Masks,
        truth: Masks,
        *,
        crowd: ArrayLike | None = None,
        truth_areas: ArrayLike | None = None,
        scores: ArrayLike | None = None,
    ) -> None:
        """Match the masks of one image.

        Parameters
        ----------
        predicted : Masks
            Detections; the ``limits[-1]`` best scores count.
        truth : Masks
            Annotated masks of the same image.
        crowd : array of shape (len(truth),), bool, optional
            Truths that stand for many objects: detections inside them count neither way.
        truth_areas : array of shape (len(truth),), optional
            Areas that decide about the size range; the masks' own by default.
        scores : array of shape (len(predicted),), optional
            Scores in any range to rank by; those of the masks by default.
        """
        check_masks(predicted, "score")
        check_masks(truth, "score against")
        is_crowd = np.zeros(len(truth), bool) if crowd is None else np.asarray(crowd, bool)
        if len(is_crowd) != len(truth):
            raise InvalidParameterError(
                "Each truth needs a crowd flag", expected=str(len(truth)), actual=str(len(is_crowd))
            )
        score = np.asarray(predicted.scores if scores is None else scores, np.float64)
        order = np.argsort(-score, kind="stable")[: self.limits[-1]]
        predicted = predicted[order]
        shared = predicted.overlaps(truth)
        union = np.where(
            is_crowd[None], predicted.areas_px[:, None], predicted.areas_px[:, None] + truth.areas_px - shared
        )
        iou = shared / np.maximum(union, 1)
        areas = truth.areas_px if truth_areas is None else truth_areas
        self.add_overlaps(iou, score[order], predicted.areas_px, areas, is_crowd)

    def add_overlaps(
        self,
        iou: NDArray[np.float64],
        scores: ArrayLike,
        predicted_areas: ArrayLike,
        truth_areas: ArrayLike,
        crowd: NDArray[np.bool_],
    ) -> None:
        """Match detections of one image whose overlaps are known (boxes, for instance).

        Parameters
        ----------
        iou : ndarray of shape (D, G)
            Rows in descending order of score; for crowds the overlap is divided by the detection's area.
        scores, predicted_areas : array of shape (D,)
        truth_areas : array of shape (G,)
        crowd : ndarray of shape (G,), bool
        """
        score = np.asarray(scores, np.float64)
        if np.any(np.diff(score) > 0):
            raise InvalidParameterError("Detections are not sorted", expected="descending scores")
        areas, predicted_area = np.asarray(truth_areas, np.float64), np.asarray(predicted_areas, np.float64)
        self._best_overlaps.append(iou[:, ~crowd].max(axis=0, initial=0.0))
        for name, (low, high) in self.sizes.items():
            ignored = crowd | (areas < low) | (areas > high)
            columns = np.argsort(ignored, kind="stable")
            assigned = _assign(np.ascontiguousarray(iou[:, columns]), ignored[columns], crowd[columns], self.thresholds)
            matched = assigned >= 0
            outside = (predicted_area < low) | (predicted_area > high)
            skipped = np.where(matched, np.append(ignored[columns], False)[assigned], outside[None])
            found = np.cumsum(matched & ~skipped, axis=1)
            last = np.minimum(self.limits, len(score)) - 1
            hits = np.zeros((len(self.limits), len(self.thresholds)), np.int64)
            if len(score):
                hits[:] = found[:, last].T
            kept = slice(None if self.precision else 0)
            part = _Part(score[kept], matched[:, kept], skipped[:, kept], hits, int(np.count_nonzero(~ignored)))
            self._parts.setdefault(name, []).append(part)

    def scores(self, size: str = "all", images: ArrayLike | None = None) -> InstanceScores:
        """Compute the figures of one of the size ranges.

        Parameters
        ----------
        size : str
            Name of the range.
        images : array of int, optional
            Which images, in the order they were added, repeated ones counting as often (for bootstrap samples); all of
            them by default.
        """
        parts = self._parts.get(size, [])
        if images is not None:
            parts = [parts[index] for index in np.asarray(images, np.int64)]
        n_truths = sum(part.n_truths for part in parts)
        nan = float("nan")
        if n_truths == 0:
            return InstanceScores(nan, nan, nan, dict.fromkeys(self.limits, nan), 0)
        hits = np.sum([part.hits for part in parts], axis=0).mean(axis=1)
        recall = {limit: float(value / n_truths) for limit, value in zip(self.limits, hits, strict=True)}
        if not self.precision:
            return InstanceScores(nan, nan, nan, recall, n_truths)
        score = np.concatenate([part.score for part in parts])
        order = np.argsort(-score, kind="stable")
        matched = np.concatenate([part.matched for part in parts], axis=1)[:, order]
        skipped = np.concatenate([part.skipped for part in parts], axis=1)[:, order]
        precision = np.array(
            [_average_precision(m & ~s, ~m & ~s, n_truths) for m, s in zip(matched, skipped, strict=True)]
        )
        return InstanceScores(
            ap=float(precision.mean()),
            ap50=self._at(precision, 0.5),
            ap75=self._at(precision, 0.75),
            recall=recall,
            n_truths=n_truths,
        )

    def f1(self, images: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return F1 of all detections that were given, at each IoU threshold; NaN with nothing on either side.

        Parameters
        ----------
        images : array of int, optional
            As in :meth:`scores`. The scorer needs a size range ``"all"`` and ``precision``.
        """
        parts = self._parts.get("all", [])
        chosen = parts if images is None else [parts[index] for index in np.asarray(images, np.int64)]
        hits = np.sum([part.hits[-1] for part in chosen], axis=0)
        both = np.sum([np.count_nonzero(~part.skipped, axis=1) + part.n_truths for part in chosen], axis=0)
        out: NDArray[np.float64] = np.where(both > 0, 2 * hits / np.maximum(both, 1), np.nan)
        return out

    def mean_best_overlap(self, images: ArrayLike | None = None) -> float:
        """Return the mean, over all truths but crowds, of the IoU with the best detection; NaN without truths."""
        chosen = range(len(self)) if images is None else np.asarray(images, np.int64)
        overlaps = [self._best_overlaps[index] for index in chosen]
        return float(np.concatenate(overlaps).mean()) if any(map(len, overlaps)) else float("nan")

    def _at(self, precision: NDArray[np.float64], threshold: float) -> float:
        index = np.flatnonzero(np.isclose(self.thresholds, threshold))
        return float(precision[index[0]]) if len(index) else float("nan")


def _average_precision(hit: NDArray[np.bool_], miss: NDArray[np.bool_], n_truths: int) -> float:
    """Average the interpolated precision over 101 recalls, as COCO does."""
    true, false = np.cumsum(hit), np.cumsum(miss)
    recall = true / n_truths
    precision = true / np.maximum(true + false, np.spacing(1))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    index = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
    return float(np.append(envelope, 0.0)[np.minimum(index, len(envelope))].mean())
