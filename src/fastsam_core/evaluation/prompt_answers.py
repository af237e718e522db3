"""Points, boxes and outlines as prompts: how well what a user would give for an object selects the object.

Users are simulated from annotations, as usual in interactive segmentation: the first click is the innermost pixel
(Kirillov et al., Segment Anything, ICCV 2023, section 7.1). Beside the mask that a prompt selects stands the best mask
that it could have selected, so that the figures tell what choosing loses from what was not found at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias
from zlib import crc32

import numpy as np

from fastsam_core.errors import InvalidMasksError
from fastsam_core.evaluation.reports import Cell, Report, Table, counted, mean
from fastsam_core.prompts import Box, Points, Polygon, match

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from fastsam_core.evaluation.truth import Truth
    from fastsam_core.masks import Masks

__all__ = ["KINDS", "PromptScorer", "simulate_prompts"]

KINDS: Final = ("point", "points", "box", "loose box", "outline")
"""The kinds of prompt that are simulated."""

_BEST: Final = "best mask there"
_AMONG: Final = {"all": "all", "shown": "those shown"}
_RIGHT_IOU: Final = 0.5
_MIN_DEPTH: Final = 0.5
"""Depth of the second point, as a share of the innermost pixel's."""
_BESIDE_PX: Final = (3, 6)
"""Distance of the negative point from the object."""
_MAX_LOOSENESS: Final = 0.3
_MAX_GROWTH: Final = 0.25

_MaskPrompt: TypeAlias = Points | Box | Polygon


@dataclass
class PromptScorer:
    """Collects images and averages over their objects.

    Parameters
    ----------
    shown_conf : float
        Score in [0, 1] from which on everything mode shows a mask. Prompts are answered twice: among all masks that
        are given, and among those shown.
    """

    shown_conf: float
    _images: list[NDArray[np.float64]] = field(default_factory=list, init=False, repr=False)
    """For each image IoU and whether there is an answer: (kind, among which masks, figure, object)."""

    def add(self, masks: Masks, truth: Truth) -> None:
        """Answer the prompts for the objects of one image.

        Parameters
        ----------
        masks : Masks
            All that prompts can choose from.
        truth : Truth
            Crowds and objects without pixels are left out.

        Raises
        ------
        InvalidMasksError
            If masks and truth belong to images of different sizes.
        """
        objects = truth.masks[~truth.crowd & (truth.masks.areas_px > 0)]
        prompts = simulate_prompts(objects)
        figures = np.zeros((len(KINDS) + 1, len(_AMONG), 2, len(objects)))
        for among, choice in enumerate((masks, masks.filter(min_score=self.shown_conf))):
            iou = np.concatenate([choice.iou(objects), np.zeros((1, len(objects)))])  # the last row is that of index -1
            answers = [match(choice, prompts[kind]).index for kind in KINDS]
            answers.append(np.where(iou.any(axis=0), iou.argmax(axis=0), -1))
            for kind, index in enumerate(answers):
                figures[kind, among] = iou[index, np.arange(len(objects))], index >= 0
        self._images.append(figures)

    def report(self) -> Report:
        """Average over all objects; NaN without any."""
        every = np.concatenate([np.zeros((len(KINDS) + 1, len(_AMONG), 2, 0)), *self._images], axis=3)
        values: dict[str, float] = {"images": len(self._images), "objects": every.shape[3]}
        rows: list[tuple[Cell, ...]] = []
        for kind, of_kind in zip((*KINDS, _BEST), every, strict=True):
            for among, (overlap, answered) in zip(_AMONG, of_kind, strict=True):
                figures = mean(overlap), mean(overlap >= _RIGHT_IOU), mean(answered)
                rows.append((kind, _AMONG[among], *figures))
                name = f"{'best' if kind == _BEST else kind.replace(' ', '_')}_{among}"
                values |= dict(zip((f"{name}_miou", f"{name}_iou50", f"{name}_answered"), figures, strict=True))
        counts = counted(images=len(self._images), objects=every.shape[3])
        title = f"{counts}; shown: score at least {self.shown_conf:g}"
        columns = ("prompt", "among the masks", "mean IoU", f"IoU ≥ {_RIGHT_IOU}", "answered")
        return Report("prompts", (Table(title, columns, tuple(rows)),), values)


def simulate_prompts(objects: Masks) -> Mapping[str, _MaskPrompt]:
    """Make the prompts that a user might give for annotated objects.

    Random numbers depend on the pixels of each object alone: neither on other objects nor on the order of images.

    Parameters
    ----------
    objects : Masks
        Each of at least one pixel.

    Returns
    -------
    mapping of str to Points, Box or Polygon
        One prompt for each of `KINDS`, with an entry for each object, in order; coordinates in image pixels.

        - ``"point"``: the innermost pixel, furthest from the nearest pixel that is not the object's.
        - ``"points"``: that pixel, another one that is at least half as deep, and, where the image has one, a negative
          point 3 to 6 px outside.
        - ``"box"``: the bounding box.
        - ``"loose box"``: each side moved outwards by up to 30 % of the width or height, cut at the image border.
        - ``"outline"``: the convex hull, up to 25 % larger, scaled about the object's centre of mass.

    Raises
    ------
    InvalidMasksError
        If an object has no pixels.
    """
    if not objects.areas_px.all():
        raise InvalidMasksError(
            "There is no prompt for an object without pixels",
            expected="objects of at least one pixel",
            actual=f"object {int(objects.areas_px.argmin())} is empty",
        )
    clicks: list[NDArray[np.float64]] = []
    outlines: list[NDArray[np.float64]] = []
    looseness = np.zeros((len(objects), 4))
    for index in range(len(objects)):
        runs = objects.runs[objects.offsets[index] : objects.offsets[index + 1]]
        rng = np.random.default_rng(crc32(runs.tobytes()))
        clicks.append(_clicks(objects, index, rng))
        looseness[index] = rng.uniform(0, _MAX_LOOSENESS, 4)
        outlines.append(_grown_hull(runs, rng.uniform(0, _MAX_GROWTH)))
    height, width = objects.image_hw
    boxes = objects.extents_xyxy.astype(np.float64)
    outwards = np.tile(boxes[:, 2:] - boxes[:, :2], 2) * (-1, -1, 1, 1)
    return {
        "point": Points([points[0] for points in clicks], groups="each"),
        "points": Points(
            np.concatenate([np.zeros((0, 2)), *clicks]),
            labels=[label for points in clicks for label in (1, 1, 0)[: len(points)]],
            groups=np.repeat(np.arange(len(clicks)), [len(points) for points in clicks]),
        ),
        "box": Box(boxes),
        "loose box": Box(np.clip(boxes + looseness * outwards, 0, (width, height, width, height))),
        "outline": Polygon(outlines),
    }


def _clicks(objects: Masks, index: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return pixel centres (y, x), shape (2 or 3, 2): innermost, deep inside, and beside if the image has such."""
    from scipy.ndimage import distance_transform_edt

    near, far = _BESIDE_PX
    crop = np.pad(objects.crop(index), far)
    corner = objects.extents_xyxy[index, [1, 0]] - far
    depth, away = distance_transform_edt(crop), distance_transform_edt(~crop)
    inside = np.argwhere(depth >= _MIN_DEPTH * depth.max()) + corner
    beside = np.argwhere((away >= near) & (away <= far)) + corner
    beside = beside[((beside >= 0) & (beside < objects.image_hw)).all(axis=1)]
    pixels = [np.array(np.unravel_index(depth.argmax(), depth.shape)) + corner, rng.choice(inside)]
    if len(beside):
        pixels.append(rng.choice(beside))
    centres: NDArray[np.float64] = np.stack(pixels) + 0.5
    return centres


def _grown_hull(runs: NDArray[np.int32], growth: float) -> NDArray[np.float64]:
    """Return the vertices (y, x) of the convex hull of an object's pixels, scaled about its centre of mass."""
    from scipy.spatial import ConvexHull

    y, start, stop = runs.T.astype(np.float64)
    corners = np.concatenate([np.stack([row, column], axis=1) for row in (y, y + 1) for column in (start, stop)])
    centre = np.average(np.stack([y + 0.5, (start + stop) / 2], axis=1), axis=0, weights=stop - start)
    hull: NDArray[np.float64] = centre + (1 + growth) * (corners[ConvexHull(corners).vertices] - centre)
    return hull
