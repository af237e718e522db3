"""Confidence that means quality: the expected IoU of each mask, from figures of the mask itself.

The paper names small poor masks with high scores as a failure (Zhao et al. 2023, section 5). A detector's score says
whether something is there, not whether its outline is right. `QualityModel` adds up one piecewise linear curve for each
figure (a generalised additive model, Hastie & Tibshirani 1986), fitted on images that were not trained on; it is stored
in the weights file, and reads like a table.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from fastsam_core.errors import CheckpointError
from fastsam_core.geometry import box_areas

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from fastsam_core.masks import Masks

__all__ = ["FIGURES", "METADATA_KEY", "Curve", "QualityModel", "figures_of"]

METADATA_KEY: Final = "quality_model"
"""Where a weights file keeps its model, as JSON."""

_SMALLEST: Final = 1e-6
_BEST: Final = 10


def _log_odds(masks: Masks) -> NDArray[np.float64]:
    score = np.clip(masks.scores.astype(np.float64), _SMALLEST, 1 - _SMALLEST)
    return np.asarray(np.log(score / (1 - score)))


def _image_log_odds(masks: Masks) -> NDArray[np.float64]:
    best = np.sort(_log_odds(masks))[-_BEST:]
    return np.full(len(masks), best.mean() if len(best) else 0.0)


def _relative_side(masks: Masks) -> NDArray[np.float64]:
    log_side = np.log(np.maximum(masks.areas_px, 1)) / 2
    weights = masks.scores.astype(np.float64) ** 2 + _SMALLEST
    return np.asarray(log_side - np.average(log_side, weights=weights)) if len(masks) else log_side


def _box_agreement(masks: Masks) -> NDArray[np.float64]:
    boxes, extents = masks.boxes_xyxy.astype(np.float64), masks.extents_xyxy.astype(np.float64)
    low, high = np.maximum(boxes[:, :2], extents[:, :2]), np.minimum(boxes[:, 2:], extents[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    return np.asarray(shared / np.maximum(box_areas(boxes) + box_areas(extents) - shared, _SMALLEST))


def _fill(masks: Masks) -> NDArray[np.float64]:
    return np.asarray(masks.areas_px / np.maximum(box_areas(masks.extents_xyxy), 1))


FIGURES: Final[Mapping[str, Callable[[Masks], NDArray[np.float64]]]] = {
    "log_odds": _log_odds,
    "image_log_odds": _image_log_odds,
    "relative_side": _relative_side,
    "box_agreement": _box_agreement,
    "fill": _fill,
}
"""Name -> figure of N masks, float64 (N,).

The score's log odds; those of the ten best masks of the image; the logarithm of the mask's side over that of the
image's surest masks; IoU of the mask's extent with the detected box; the mask's part of its extent. All come from areas
and boxes. Stability, roundness and convexity were tried and added nothing to these.
"""


def figures_of(masks: Masks, names: tuple[str, ...] = tuple(FIGURES)) -> NDArray[np.float64]:
    """Compute figures of masks, shape (N, number of names)."""
    return np.stack([FIGURES[name](masks) for name in names], axis=1).reshape(len(masks), len(names))


@dataclass(frozen=True, slots=True)
class Curve:
    """What one figure adds: linear between the knots, constant beyond them."""

    figure: str
    knots: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class QualityModel:
    """Expected IoU of masks with what they show.

    Parameters
    ----------
    offset : float
        Where all curves add nothing.
    curves : tuple of Curve
        One for each figure.
    """

    offset: float
    curves: tuple[Curve, ...]

    def predict(self, masks: Masks) -> NDArray[np.float32]:
        """Estimate the IoU of each mask, float32 (N,) in [0, 1]."""
        figures = figures_of(masks, tuple(curve.figure for curve in self.curves))
        parts = [np.interp(column, c.knots, c.values) for column, c in zip(figures.T, self.curves, strict=True)]
        total: NDArray[np.float64] = np.sum(parts, axis=0) + self.offset
        return np.clip(total, 0, 1).astype(np.float32).reshape(len(masks))

    def to_json(self) -> str:
        """Return the model as one line of JSON."""
        return json.dumps({"offset": self.offset, "curves": [asdict(curve) for curve in self.curves]})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a model.

        Raises
        ------
        CheckpointError
            If it is damaged or uses unknown figures.
        """
        try:
            values = json.loads(text)
            curves = tuple(
                Curve(str(c["figure"]), tuple(map(float, c["knots"])), tuple(map(float, c["values"])))
                for c in values["curves"]
            )
            offset = float(values["offset"])
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError("The quality model of the weights cannot be read", actual=repr(error)) from error
        broken = [c.figure for c in curves if c.figure not in FIGURES or not len(c.knots) == len(c.values) > 0]
        if broken or any(np.any(np.diff(curve.knots) <= 0) for curve in curves):
            raise CheckpointError(
                "The quality model of the weights is not valid",
                expected=f"ascending knots of {', '.join(FIGURES)}",
                actual=", ".join(broken) or "knots out of order",
            )
        return cls(offset, curves)
