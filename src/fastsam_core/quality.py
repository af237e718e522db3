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

from fastsam_core import _measure_kernels
from fastsam_core.errors import CheckpointError
from fastsam_core.measurements import perimeters

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from fastsam_core.masks import Masks

__all__ = ["FIGURES", "METADATA_KEY", "Curve", "QualityModel", "figures_of"]

METADATA_KEY: Final = "quality_model"
"""Where a weights file keeps its model, as JSON."""

_SMALLEST: Final = 1e-6


def _log_odds(masks: Masks) -> NDArray[np.float64]:
    score = np.clip(masks.scores.astype(np.float64), _SMALLEST, 1 - _SMALLEST)
    return np.asarray(np.log(score / (1 - score)))


def _log_share(masks: Masks) -> NDArray[np.float64]:
    return np.asarray(np.log(np.maximum(masks.areas_px, 1) / (masks.image_hw[0] * masks.image_hw[1])))


def _log_side(masks: Masks) -> NDArray[np.float64]:
    return np.asarray(np.log(np.maximum(masks.areas_px, 1)) / 2)


def _fill(masks: Masks) -> NDArray[np.float64]:
    return np.asarray(masks.areas_px / np.maximum(_areas(masks.extents_xyxy), 1))


def _box_agreement(masks: Masks) -> NDArray[np.float64]:
    boxes, extents = masks.boxes_xyxy.astype(np.float64), masks.extents_xyxy.astype(np.float64)
    low, high = np.maximum(boxes[:, :2], extents[:, :2]), np.minimum(boxes[:, 2:], extents[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    return np.asarray(shared / np.maximum(_areas(boxes) + _areas(extents) - shared, _SMALLEST))


def _compactness(masks: Masks) -> NDArray[np.float64]:
    return np.asarray(np.minimum(4 * np.pi * masks.areas_px / np.maximum(perimeters(masks), 1) ** 2, 1.5))


def _solidity(masks: Masks) -> NDArray[np.float64]:
    hulls = _measure_kernels.hull_areas(masks.runs, masks.offsets)
    return np.asarray(np.minimum(masks.areas_px / np.maximum(hulls, 1), 1))


def _stability(masks: Masks) -> NDArray[np.float64]:
    return np.asarray(masks.fields["stability"], np.float64)


def _at_border(masks: Masks) -> NDArray[np.float64]:
    height, width = masks.image_hw
    return np.asarray(np.sum(masks.extents_xyxy == np.array([0, 0, width, height]), axis=1), np.float64)


def _inside_others(masks: Masks) -> NDArray[np.float64]:
    """Largest part of a mask that a better-scored mask covers: doubles and fragments have much of it."""
    shared = masks.overlaps(masks) * (masks.scores[None, :] > masks.scores[:, None])
    return np.asarray(shared.max(axis=1, initial=0) / np.maximum(masks.areas_px, 1))


def _areas(boxes_xyxy: NDArray[np.integer] | NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((boxes_xyxy[:, 2] - boxes_xyxy[:, 0]) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1]), np.float64)


FIGURES: Final[Mapping[str, Callable[[Masks], NDArray[np.float64]]]] = {
    "log_odds": _log_odds,
    "stability": _stability,
    "log_share": _log_share,
    "log_side": _log_side,
    "fill": _fill,
    "box_agreement": _box_agreement,
    "compactness": _compactness,
    "solidity": _solidity,
    "at_border": _at_border,
    "inside_others": _inside_others,
}
"""Name -> figure of N masks, float64 (N,).

The score's log odds, how little the mask changes with the threshold, its share of the image, the root of its area, its
part of its extent, overlap of its extent with the detected box, roundness, its part of its convex hull, sides that
touch the image's border, and the part covered by better-scored masks."""


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

    @property
    def needs_stability(self) -> bool:
        """Whether masks have to be decoded with ``stability=True``."""
        return any(curve.figure == "stability" for curve in self.curves)

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
