"""Stage 2 of FastSAM: prompts choose among the masks that stage 1 found; nothing is computed on the image again.

The paper (Zhao et al. 2023, arXiv 2306.12156, section 3.3) answers points, boxes and text; polygons and scribbles are
answered here by the same look-up. A prompt costs microseconds because it works on runs, not on pixels.

A prompt says that something is there, so it may choose among masks that are too faint to be shown where everything is
asked for: give it masks down to `fastsam_core.PROMPT_CONF`. Scores take part in every choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from fastsam_core import _select
from fastsam_core._checks import described
from fastsam_core._prompt_types import Box, Points, Polygon, Prompt, Text
from fastsam_core._regions import polygon_runs, regions_as_runs, scribble_runs
from fastsam_core.errors import InvalidPromptError
from fastsam_core.masks import Masks, check_masks

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Box", "Matches", "Points", "Polygon", "Prompt", "Text", "match", "nesting", "select"]

#: Masks that cover a scribble nearly as well as the best one does are as good an answer.
_NEARLY_AS_MUCH = 0.9
#: The only entry of a prompt; never written to.
_FIRST = np.zeros(1, np.int64)
_FIRST.setflags(write=False)


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Which mask answers which prompt.

    Attributes
    ----------
    index : ndarray of int64, shape (K,)
        Masks, in the order of the prompts; -1 where a prompt matches nothing.
    score : ndarray of float64, shape (K,)
        In [0, 1]; 0 where nothing matches. Points: share of the group's positives in the mask, times the mask's
        own score. Boxes: IoU with the mask's bounding box, or the share of the mask in the box with ``many``. Polygons:
        their criterion.
    prompt_index : ndarray of int64, shape (K,)
        Entry of the prompt that is answered: the box, the polygon, or the group by ascending number. It counts
        0, 1, 2, … where each entry has one answer; entries with many answers are repeated, those with none left out.
    """

    index: NDArray[np.int64]
    score: NDArray[np.float64]
    prompt_index: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of answers, those that match nothing included."""
        return len(self.index)


def match(masks: Masks, prompt: Prompt) -> Matches:
    """Find the masks that answer a prompt.

    Parameters
    ----------
    masks : Masks
        Everything found in the image.
    prompt : Points, Box or Polygon
        All its entries are answered in one call.

    Returns
    -------
    Matches
        One answer per entry, in order (-1 = none); or any number per entry for ``Points(mode="union")`` and
        prompts with ``many=True``.

    Raises
    ------
    InvalidPromptError
        The prompt is a ``Text``, which needs the image, or no prompt at all.
    InvalidMasksError
        The masks are none.
    """
    return Matches(*_answers(masks, prompt))


def select(masks: Masks, prompt: Prompt) -> Masks:
    """Return the masks that answer a prompt, in the order of its entries.

    Parameters
    ----------
    masks, prompt
        As for :func:`match`.

    Returns
    -------
    Masks
        A mask that answers two entries is there twice; entries without an answer are left out. The columns
        ``fields["prompt_index"]`` and ``fields["prompt_score"]`` tell which entry each mask answers, and how well
        (see :class:`Matches`).

    Raises
    ------
    InvalidPromptError, InvalidMasksError
        As :func:`match`.
    """
    index, score, entry = _answers(masks, prompt)
    if len(index) != 1 or index.item() < 0:
        found = index >= 0
        index, entry, score = index[found], entry[found], score[found]
    return masks.take(index, prompt_index=entry, prompt_score=score)


def nesting(masks: Masks, point_yx: ArrayLike) -> NDArray[np.int64]:
    """List the masks under a point from part to group.

    Parameters
    ----------
    masks : Masks
        Everything found in the image.
    point_yx : array_like, shape (2,)
        A point (y, x) in image pixels.

    Returns
    -------
    ndarray of int64
        Indices into ``masks``, smallest mask first. Of masks that are nearly the same (IoU > 0.9) only the one of
        highest score is listed. Empty if the point lies on nothing.

    Raises
    ------
    InvalidPromptError
        Not one finite point.
    InvalidMasksError
        The masks are none.
    """
    check_masks(masks, "choose among")
    points = Points(point_yx).points_yx
    if len(points) != 1:
        raise InvalidPromptError("nesting needs one point", expected="(y, x)", actual=f"{len(points)} points")
    return _select.nested_at(masks.runs, masks.offsets, masks.extents_xyxy, masks.areas_px, masks.scores, points)


_Answers: TypeAlias = "tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]"


def _answers(masks: Masks, prompt: Prompt) -> _Answers:
    """Return the columns of :class:`Matches`: masks, scores, and the entries that they answer."""
    check_masks(masks, "choose among")
    if isinstance(prompt, Points):
        return _match_union(masks, prompt) if prompt.mode == "union" else _match_points(masks, prompt)
    if isinstance(prompt, Box):
        return _match_boxes(masks, prompt)
    if isinstance(prompt, Polygon):
        return _match_polygons(masks, prompt)
    if isinstance(prompt, Text):
        raise InvalidPromptError(
            "Text cannot be answered from masks alone",
            expected="Points, Box or Polygon",
            actual="Text",
            remedy="use fastsam_core.text: encoder = TextEncoder.load(); "
            "embeddings = embed_masks(encoder, image, masks); select_text(encoder, masks, embeddings, prompt)",
        )
    raise InvalidPromptError(
        "This is no prompt",
        expected="Points, Box, Polygon or Text",
        actual=described(prompt),
    )


def _one_each(index: NDArray[np.int64], score: NDArray[np.float64]) -> _Answers:
    return index, score, np.arange(len(index))


def _by_group(prompt: Points) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the points and labels sorted by group, and where each group starts (with the end appended)."""
    points, labels, groups = prompt.points_yx, prompt.labels, prompt.groups
    if not len(points):
        return points, labels, np.zeros(1, np.int64)
    if groups is None:
        return points, labels, np.array([0, len(points)])
    if (groups[1:] < groups[:-1]).any():
        order = np.argsort(groups, kind="stable")
        points, labels, groups = points[order], labels[order], groups[order]
    starts = np.flatnonzero(groups[1:] != groups[:-1]) + 1
    return points, labels, np.concatenate(([0], starts, [len(points)]))


def _match_points(masks: Masks, prompt: Points) -> _Answers:
    table = masks.runs, masks.offsets, masks.extents_xyxy, masks.areas_px, masks.scores
    level = _select.LEVELS.index(prompt.level)
    image_px = masks.image_hw[0] * masks.image_hw[1]
    if len(prompt.points_yx) == 1 and prompt.labels.item():
        [[y, x]] = prompt.points_yx.tolist()
        mask, value = _select.best_mask_at(*table, y, x, level, image_px)
        return np.array((mask,)), np.array((value,)), _FIRST
    points, labels, starts = _by_group(prompt)
    return _one_each(*_select.best_masks_for_groups(*table, points, labels, starts, level, image_px))


def _match_union(masks: Masks, prompt: Points) -> _Answers:
    """Answer as ``FastSAMPredictor.prompt`` of ultralytics 8.4 does, group by group."""
    points, labels, starts = _by_group(prompt)
    if not len(points):
        return _one_each(np.empty(0, np.int64), np.empty(0))
    hits = masks.hits(np.clip(np.trunc(points), 0, np.array(masks.image_hw) - 1))
    positive = labels[:, None] == 1
    covered = np.add.reduceat(hits & positive, starts[:-1], axis=0, dtype=np.int64)
    avoided = ~np.logical_or.reduceat(hits & ~positive, starts[:-1], axis=0)
    positives = np.add.reduceat(labels, starts[:-1])[:, None]
    share = np.where(positives > 0, covered / np.maximum(positives, 1), 1.0)
    group, index = np.nonzero((share > 0) & avoided)
    return index, share[group, index] * masks.scores[index], group


def _trust(masks: Masks) -> NDArray[np.float64]:
    """Return what an IoU is multiplied by (N,), so that of masks that fit alike the surer one wins."""
    trust: NDArray[np.float64] = np.sqrt(np.sqrt(masks.scores.astype(np.float64)))
    return trust


def _rasterise_boxes(masks: Masks, prompt: Box) -> NDArray[np.int64]:
    """Return the pixels of each box as whole half-open boxes inside the image."""
    height, width = masks.image_hw
    edges = np.trunc(prompt.boxes_xyxy) if prompt.mode == "upstream" else np.ceil(prompt.boxes_xyxy - 0.5)
    return np.clip(edges, 0, (width, height, width, height)).astype(np.int64)


def _match_boxes(masks: Masks, prompt: Box) -> _Answers:
    boxes = _rasterise_boxes(masks, prompt)
    runs, offsets, extents, areas = masks.runs, masks.offsets, masks.extents_xyxy, masks.areas_px
    if prompt.many:
        shared = _select.box_overlaps(runs, offsets, extents, areas, boxes)
        inside = shared / np.maximum(areas, 1)
        box, index = np.nonzero((inside >= prompt.min_inside) & (shared > 0))
        return index, inside[box, index], box
    if prompt.mode == "best" or not len(masks):
        index, iou = _select.best_masks_for_boxes(extents, _trust(masks), boxes)
        return _one_each(*_above(index, iou, prompt.min_iou if prompt.mode == "best" else 0.0))
    shared = _select.box_overlaps(runs, offsets, extents, areas, boxes)
    box_px = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    union = np.maximum(box_px[:, None] + areas - shared, 1)
    ious = shared.astype(np.float32) / union.astype(np.float32)  # upstream's precision, for the same ties
    index = np.argmax(ious, axis=1)
    return _one_each(*_above(index, ious[np.arange(len(index)), index].astype(np.float64), 0.0))


def _above(
    index: NDArray[np.int64], score: NDArray[np.float64], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Turn answers of no score, or below the threshold, into "no match"."""
    matched = (score > 0) & (score >= threshold)
    return np.where(matched, index, -1), np.where(matched, score, 0.0)


def _match_polygons(masks: Masks, prompt: Polygon) -> _Answers:
    height, width = masks.image_hw
    if prompt.kind == "region":
        rasterise = partial(polygon_runs, height=height, width=width)
    else:
        rasterise = partial(scribble_runs, width_px=prompt.width_px, height=height, width=width)
    runs, offsets = regions_as_runs(prompt.vertices_yx, rasterise)
    count = len(offsets) - 1
    regions = Masks(masks.image_hw, np.zeros((count, 4), np.float32), np.ones(count, np.float32), runs, offsets)
    shared = regions.overlaps(masks)
    region_px, areas = regions.areas_px[:, None], masks.areas_px
    iou = shared / np.maximum(region_px + areas - shared, 1)
    if prompt.criterion == "iou":
        value, rank = iou, iou * _trust(masks)
    elif prompt.criterion == "inside":
        value, rank = shared / np.maximum(areas, 1), iou * _trust(masks)
    else:
        value = shared / np.maximum(region_px, 1)
        best = value.max(axis=1, keepdims=True, initial=0.0)
        rank = np.where(value >= _NEARLY_AS_MUCH * best, masks.scores / np.cbrt(np.maximum(areas, 1)), -1.0)
    passed = (value >= prompt.threshold) & (shared > 0)
    if prompt.many:
        polygon, index = np.nonzero(passed)
        return index, value[polygon, index], polygon
    if not len(masks):
        return _one_each(np.full(len(shared), -1), np.zeros(len(shared)))
    order = np.argsort(-masks.scores, kind="stable")  # ties of the rank go to the higher score
    index = order[np.argmax(np.where(passed, rank, -1.0)[:, order], axis=1)]
    entries = np.arange(len(index))
    matched = passed[entries, index]
    return _one_each(np.where(matched, index, -1), np.where(matched, value[entries, index], 0.0))
