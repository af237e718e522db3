"""Class-agnostic mask figures of a segmentation, whatever made it: a network, several sizes merged, a baseline."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fastsam_core import confidence
from fastsam_core.evaluation.instances import InstanceScorer
from fastsam_core.masks import Masks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from fastsam_core.training.sources import LabelledImage

__all__ = [
    "DOUBTED_APART",
    "Case",
    "Scorer",
    "Scores",
    "best_f1",
    "evaluate",
    "evaluate_groups",
    "greedy_matches",
    "truth_of",
]

DOUBTED_APART = ", doubted apart"
"""What the name of a group ends with in which slips of annotators count neither way."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Class-agnostic mask figures over some images, by COCO's rules.

    Attributes
    ----------
    ap50 : float
        Average precision at IoU 0.5, all detections against all instances.
    ar10, ar100, ar1000 : float
        Recall averaged over IoU 0.5:0.05:0.95 with so many detections of each image at most.
    ar100_small, ar100_medium, ar100_large : float or None
        The same for instances below 32², up to 96² and above 96² pixels; None where there are none.
    best_overlap : float
        Mean over instances of the highest IoU of any detection.
    best_f1, best_conf : float
        Highest F1 at IoU 0.5 over all score thresholds, and that threshold; of no meaning for partial sources.
    auto_f1 : float
        F1 at IoU 0.5 with a threshold of its own for each image (`fastsam_core.confidence.best_conf`).
    images, instances : int
        How many were measured.
    """

    ap50: float = 0.0
    ar10: float = 0.0
    ar100: float = 0.0
    ar1000: float = 0.0
    ar100_small: float | None = None
    ar100_medium: float | None = None
    ar100_large: float | None = None
    best_overlap: float = 0.0
    best_f1: float = 0.0
    best_conf: float = 0.0
    auto_f1: float = 0.0
    images: int = 0
    instances: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """An image and what is in it.

    Attributes
    ----------
    image : ndarray of uint8, shape (H, W, 3)
    truths : tuple of Masks
        What each annotator drew.
    group : str
        To be reported by itself, if any.
    doubted : tuple of bool ndarrays, shape (len(truth),)
        Which instances of each annotator are slips: there is a group ``GROUP, doubted apart``, too, where these count
        neither as found nor as missed.
    """

    image: NDArray[np.uint8]
    truths: tuple[Masks, ...]
    group: str = ""
    doubted: tuple[NDArray[np.bool_], ...] = ()


def truth_of(sample: LabelledImage) -> Masks:
    """Return all instances of a labelled image; nested parts stay part of their whole."""
    return Masks.concatenate([Masks.from_label_map(layer) for layer in sample.layers])


def evaluate(segment: Callable[[NDArray[np.uint8]], Masks], cases: Iterable[Case], *, empty: bool = False) -> Scores:
    """Measure a segmentation on annotated images.

    Parameters
    ----------
    segment : callable
        Given an image, uint8 (H, W, 3), returns scored masks.
    cases : iterable of Case
        Images and what is in them.
    empty : bool
        Measure those without an instance, too: whatever is found there is wrong.
    """
    return evaluate_groups(segment, cases, empty=empty)[""]


def evaluate_groups(
    segment: Callable[[NDArray[np.uint8]], Masks], cases: Iterable[Case], *, empty: bool = False
) -> dict[str, Scores]:
    """Measure all images together (``""``) and, in one go, each group of them; parameters as of `evaluate`."""
    scorers = {"": Scorer()}
    for case in cases:
        if empty or any(map(len, case.truths)):
            masks = segment(case.image)
            for group in {"", case.group}:
                scorers.setdefault(group, Scorer()).add(masks, case.truths)
            if case.doubted:
                scorers.setdefault(f"{case.group}{DOUBTED_APART}", Scorer()).add(masks, case.truths, case.doubted)
    return {group: scorer.scores() for group, scorer in scorers.items()}


@dataclass
class Scorer:
    """Collects images; keeps match flags, not masks."""

    _scorer: InstanceScorer = field(default_factory=InstanceScorer, repr=False)
    _hits: list[NDArray[np.bool_]] = field(default_factory=list, repr=False)
    _ranks: list[NDArray[np.float32]] = field(default_factory=list, repr=False)
    _sure: list[NDArray[np.bool_]] = field(default_factory=list, repr=False)
    _images: int = 0

    def add(
        self, predicted: Masks, truths: Sequence[Masks], ignored: Sequence[NDArray[np.bool_]] | None = None
    ) -> None:
        """Match one image's masks with what each annotator drew, one annotator at a time.

        What finds an instance that is ignored, and no other, counts neither way.
        """
        ranked = predicted.sort()[: self._scorer.limits[-1]]
        sure = ranked.scores >= np.float32(confidence.best_conf(ranked.scores))
        self._images += 1
        for truth, left_out in zip(truths, ignored or [np.zeros(len(truth), bool) for truth in truths], strict=True):
            iou = ranked.iou(truth)
            self._scorer.add_overlaps(iou, ranked.scores, ranked.areas_px, truth.areas_px, left_out)
            hits = greedy_matches(iou[:, ~left_out], 0.5)
            counted = hits | (iou[:, left_out].max(axis=1, initial=0.0) < 0.5)
            self._hits.append(hits[counted])
            self._ranks.append(ranked.scores[counted])
            self._sure.append(sure[counted])

    def scores(self) -> Scores:
        """Compute everything."""
        if not self._images:
            return Scores()
        whole = self._scorer.scores()
        sizes = [self._scorer.scores(size) for size in ("small", "medium", "large")]
        small, medium, large = (found.recall[100] if found.n_truths else None for found in sizes)
        f1, conf = best_f1(np.concatenate(self._hits), np.concatenate(self._ranks), whole.n_truths)
        return Scores(
            ap50=whole.ap50,
            ar10=whole.recall[10],
            ar100=whole.recall[100],
            ar1000=whole.recall[1000],
            ar100_small=small,
            ar100_medium=medium,
            ar100_large=large,
            best_overlap=self._scorer.mean_best_overlap(),
            best_f1=f1,
            best_conf=conf,
            auto_f1=self._auto_f1(whole.n_truths),
            images=self._images,
            instances=whole.n_truths,
        )

    def _auto_f1(self, instances: int) -> float:
        hits, sure = np.concatenate(self._hits), np.concatenate(self._sure)
        return float(2 * (hits & sure).sum() / max(int(sure.sum()) + instances, 1))


def greedy_matches(iou: NDArray[np.floating], threshold: float) -> NDArray[np.bool_]:
    """Which detections (rows, best first) find an instance of their own at this IoU."""
    free = np.ones(iou.shape[1], bool)
    hits = np.zeros(len(iou), bool)
    for row in np.flatnonzero(iou.max(axis=1, initial=0.0) >= threshold):
        candidates = np.where(free, iou[row], -1.0)
        best = int(candidates.argmax())
        if candidates[best] >= threshold:
            free[best] = False
            hits[row] = True
    return hits


def best_f1(hits: NDArray[np.bool_], scores: NDArray[np.float32], instances: int) -> tuple[float, float]:
    """Highest F1 over all score thresholds, and the threshold that gives it: half-way to the first score left out."""
    if not len(hits):
        return 0.0, 0.0
    order = np.argsort(-scores, kind="stable")
    f1 = 2 * np.cumsum(hits[order]) / (np.arange(1, len(hits) + 1) + instances)
    best = int(f1.argmax())
    last, next_one = np.append(scores[order], 0.0)[best : best + 2].tolist()
    return float(f1[best]), (last + next_one) / 2
