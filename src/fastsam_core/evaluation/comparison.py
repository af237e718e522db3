"""Two models, thresholds or run times on the same images: differences with confidence intervals.

Intervals are those of a paired bootstrap over images (Efron and Tibshirani 1993): the same resampled images for both
sides, so that what makes an image hard for both cancels out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fastsam_core.errors import InvalidParameterError
from fastsam_core.evaluation.instances import InstanceScorer
from fastsam_core.evaluation.reports import Cell, Report, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import ArrayLike

    from fastsam_core.evaluation.truth import Truth
    from fastsam_core.masks import Masks

__all__ = ["Comparison", "Side"]

_ONE_SIZE = {"all": (0.0, 1e10)}


@dataclass
class Side:
    """The figures of one of the two.

    Parameters
    ----------
    conf : float
        F1 uses masks of at least this score; the others use all that are given.
    max_detections : int
        Most masks of an image that count.
    """

    conf: float
    max_detections: int = 300
    _ranked: InstanceScorer = field(init=False, repr=False)
    _confident: InstanceScorer = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Make the scorers."""
        self._ranked, self._confident = (
            InstanceScorer(limits=(self.max_detections,), sizes=dict(_ONE_SIZE)) for _ in range(2)
        )

    def __len__(self) -> int:
        """Return the number of images added so far."""
        return len(self._ranked)

    def add(self, masks: Masks, truth: Truth) -> None:
        """Match one image."""
        for scorer, chosen in ((self._ranked, masks), (self._confident, masks.filter(min_score=self.conf))):
            scorer.add(chosen, truth.masks, crowd=truth.crowd, truth_areas=truth.areas_px)

    def figures(self, images: ArrayLike | None = None) -> dict[str, float]:
        """Compute the figures over all images, or over some, repeated ones counting as often."""
        scores, f1 = self._ranked.scores(images=images), self._confident.f1(images)
        return {
            "AP": scores.ap,
            "AP at IoU 0.50": scores.ap50,
            "average recall": scores.recall[self.max_detections],
            "F1 at IoU 0.50": float(f1[0]),
            "F1 at IoU 0.75": float(f1[5]),
            "mean IoU with the best mask": self._ranked.mean_best_overlap(images),
        }


@dataclass
class Comparison:
    """Collects the same images of both sides.

    Parameters
    ----------
    first, second : Side
    """

    first: Side
    second: Side
    _agreement: list[float] = field(default_factory=list, init=False, repr=False)

    def add(self, first: Masks, second: Masks, truth: Truth) -> None:
        """Match one image that both have segmented."""
        self.first.add(first, truth)
        self.second.add(second, truth)
        mine, other = first.filter(min_score=self.first.conf), second.filter(min_score=self.second.conf)
        if len(mine):
            self._agreement += mine.iou(other).max(axis=1, initial=0.0).tolist()

    def resample(self, resamples: int, seed: int = 0) -> Iterator[dict[str, float]]:
        """Yield the differences, second minus first, of bootstrap samples of the images."""
        rng = np.random.default_rng(seed)
        for _ in range(resamples):
            images = rng.integers(0, len(self.first), len(self.first))
            yield _difference(self.first.figures(images), self.second.figures(images))

    def report(
        self,
        names: tuple[str, str],
        *,
        resamples: int = 1000,
        level: float = 0.95,
        each: Callable[[], None] | None = None,
    ) -> Report:
        """Compute everything.

        Parameters
        ----------
        names : pair of str
            What to call the two.
        resamples : int
            Bootstrap samples.
        level : float
            Of the intervals, in (0, 1).
        each : callable, optional
            Called after each sample, for progress.

        Raises
        ------
        InvalidParameterError
            With fewer than two images.
        """
        if len(self.first) < 2:
            raise InvalidParameterError(
                "Too few images for intervals", expected="two or more", actual=str(len(self.first))
            )
        first, second = self.first.figures(), self.second.figures()
        samples = []
        for sample in self.resample(resamples):
            samples.append(list(sample.values()))
            if each is not None:
                each()
        tail = 100 * (1 - level) / 2
        drawn = np.array(samples)
        known = ~np.isnan(drawn).all(axis=0)  # without objects there are figures that do not exist
        ends = np.full((2, drawn.shape[1]), np.nan)
        ends[:, known] = np.nanpercentile(drawn[:, known], (tail, 100 - tail), axis=0)
        low, high = ends
        rows: list[tuple[Cell, ...]] = []
        values: dict[str, float] = {"images": len(self.first)}
        for place, (name, difference) in enumerate(_difference(first, second).items()):
            sure = "yes" if low[place] > 0 or high[place] < 0 else "no"
            rows.append((name, first[name], second[name], difference, float(low[place]), float(high[place]), sure))
            key = name.lower().replace(" ", "_").replace(".", "")
            values |= {f"{key}_first": first[name], f"{key}_second": second[name], f"{key}_difference": difference}
            values |= {f"{key}_low": float(low[place]), f"{key}_high": float(high[place])}
        agreement = float(np.mean(self._agreement)) if self._agreement else float("nan")
        values["agreement"] = agreement
        percent = f"{100 * level:g} %"
        columns = ("figure", "first", "second", "difference", f"{percent} from", "to", "differs")
        notes = (
            f"First: {names[0]}. Second: {names[1]}.",
            f"Mean IoU of the first's masks with the nearest of the second's: {agreement:.4f}.",
            f"Intervals: paired bootstrap over images, {resamples} samples.",
        )
        return Report("compare", (Table(f"{len(self.first)} images", columns, tuple(rows)),), values, notes=notes)


def _difference(first: dict[str, float], second: dict[str, float]) -> dict[str, float]:
    return {name: second[name] - first[name] for name in first}
