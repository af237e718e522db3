"""Prompts to picks: which candidates answer the points and shapes that are there now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastsam_core.prompts import Box, Points, Polygon, match

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastsam_core._prompt_types import Level
    from fastsam_core.masks import Masks

__all__ = ["Pick", "PickOptions", "PromptSet", "resolve"]

Float = NDArray[np.float64]

_MIN_SCRIBBLE_PX = 3.0


def _no_points() -> Float:
    return np.empty((0, 2))


@dataclass(frozen=True, slots=True, eq=False)
class PromptSet:
    """All prompts on one plane, in its pixels.

    Attributes
    ----------
    points_yx : float64 (K, 2)
    positive : bool (K,)
        On the object, or off it.
    groups : int64 (K,)
        Which points describe the same object.
    boxes_xyxy : float64 (B, 4)
    regions_yx : tuple of float64 (P, 2)
        Closed outlines: polygons, lassos, ellipses, turned rectangles.
    scribbles_yx : tuple of float64 (P, 2)
        Open lines.
    """

    points_yx: Float = field(default_factory=_no_points)
    positive: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, bool))
    groups: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    boxes_xyxy: Float = field(default_factory=lambda: np.empty((0, 4)))
    regions_yx: tuple[Float, ...] = ()
    scribbles_yx: tuple[Float, ...] = ()

    def __len__(self) -> int:
        """Return the number of prompts, each point counted."""
        return len(self.points_yx) + len(self.boxes_xyxy) + len(self.regions_yx) + len(self.scribbles_yx)


@dataclass(frozen=True, slots=True)
class PickOptions:
    """How prompts are answered.

    Attributes
    ----------
    level : {"auto", "part", "object", "group"}
        Which of nested candidates a point takes.
    each_point : bool
        Every positive point is an object of its own (negative ones hold for all); otherwise points of the same
        ``group`` describe one object.
    everything_inside : bool
        Rectangles and regions take every candidate that lies in them, instead of the one that fits best.
    """

    level: Level = "auto"
    each_point: bool = True
    everything_inside: bool = False


@dataclass(frozen=True, slots=True)
class Pick:
    """One object that is picked.

    Attributes
    ----------
    candidate : int
        Its index among the candidates of the plane.
    cause : mapping
        The prompt that picked it, fit for JSON; enough to pick again on another image.
    score : float
        How well it answers, 0 to 1.
    """

    candidate: int
    cause: Mapping[str, object]
    score: float


def resolve(
    masks: Masks,
    shown: NDArray[np.bool_],
    prompts: PromptSet,
    options: PickOptions,
    reached: NDArray[np.bool_] | None = None,
) -> tuple[Pick, ...]:
    """Answer all prompts; a candidate that answers twice is there once.

    Parameters
    ----------
    masks : Masks
        N candidates.
    shown : bool ndarray of shape (N,)
        Those that passed the filters: what everything inside an outline is taken from.
    prompts : PromptSet
    options : PickOptions
    reached : bool ndarray of shape (N,), optional
        Those that prompts for one object choose among, fainter ones, too; without it the ones that are shown.

    Returns
    -------
    tuple of Pick
        Points first (by group), then rectangles, regions, scribbles, in their order.
    """
    if not len(prompts):
        return ()
    reached = shown if reached is None else reached
    within = shown if options.everything_inside else reached
    kinds = (
        (len(prompts.points_yx), reached, _from_points),
        (len(prompts.boxes_xyxy) + len(prompts.regions_yx), within, _from_shapes),
        (len(prompts.scribbles_yx), reached, _from_scribbles),
    )
    unique: dict[int, Pick] = {}
    for count, allowed, answer in kinds:
        places = np.flatnonzero(allowed)
        if not count or not len(places):
            continue
        pool = masks if len(places) == len(masks) else masks[places]
        for index, score, cause in answer(pool, prompts, options):
            candidate = int(places[index])
            unique.setdefault(candidate, Pick(candidate, cause, score))
    return tuple(unique.values())


_Found = list[tuple[int, float, dict[str, object]]]


def _from_points(masks: Masks, prompts: PromptSet, options: PickOptions) -> _Found:
    if not prompts.positive.any():
        return []
    points, positive, groups = prompts.points_yx, prompts.positive, prompts.groups
    if options.each_point:
        inside = points[positive]
        outside = points[~positive]
        count = len(inside)
        points = np.concatenate([inside, np.tile(outside, (count, 1))])
        groups = np.concatenate([np.arange(count), np.repeat(np.arange(count), len(outside))])
        positive = np.arange(len(points)) < count
    matches = match(masks, Points(points, positive, groups, level=options.level))
    found: _Found = []
    for name, index, score in zip(np.unique(groups), matches.index, matches.score, strict=True):
        if index < 0:
            continue
        here = groups == name
        cause: dict[str, object] = {
            "by": "points",
            "points_yx": points[here].round(2).tolist(),
            "labels": positive[here].astype(int).tolist(),
            "level": options.level,
        }
        found.append((int(index), float(score), cause))
    return found


def _from_shapes(masks: Masks, prompts: PromptSet, options: PickOptions) -> _Found:
    found: _Found = []
    many = options.everything_inside
    if len(prompts.boxes_xyxy):
        matches = match(masks, Box(prompts.boxes_xyxy, many=many))
        for k, box in enumerate(prompts.boxes_xyxy):
            here = matches.prompt_index == k
            cause = {"by": "box", "box_xyxy": box.round(2).tolist(), "many": many}
            found += _with_cause(matches.index[here], matches.score[here], cause)
    for vertices in prompts.regions_yx:
        region = Polygon(vertices, "region", criterion="inside" if many else None, many=many)
        matches = match(masks, region)
        cause = {"by": "region", "vertices_yx": vertices.round(2).tolist(), "many": many}
        found += _with_cause(matches.index, matches.score, cause)
    return found


def _from_scribbles(masks: Masks, prompts: PromptSet, options: PickOptions) -> _Found:
    found: _Found = []
    for vertices in prompts.scribbles_yx:
        matches = match(masks, Polygon(vertices, "scribble", width_px=_MIN_SCRIBBLE_PX))
        cause: dict[str, object] = {"by": "scribble", "vertices_yx": vertices.round(2).tolist()}
        found += _with_cause(matches.index, matches.score, cause)
    return found


def _with_cause(index: NDArray[np.int64], score: Float, cause: dict[str, object]) -> _Found:
    return [(int(i), float(s), cause) for i, s in zip(index, score, strict=True) if i >= 0]
