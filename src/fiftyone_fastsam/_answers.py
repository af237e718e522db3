"""From the masks of an image and the prompts of its sample to the instances to store: pure functions."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from fastsam_core.errors import InvalidPromptError
from fastsam_core.masks import Masks
from fastsam_core.prompts import Box, Points, match
from fiftyone_fastsam._convert import (
    MEASURES,
    Document,
    Instance,
    array_of,
    instances_of,
    map_of,
    measured,
    relative_box,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from fiftyone_fastsam.options import EnrichOptions

__all__ = [
    "MEASURED",
    "NOT_CARRIED",
    "OWN_ATTRIBUTES",
    "answer",
    "are_among",
    "prompts_digest",
    "prompts_in",
    "semantic_map",
    "unanswered",
]

_SIGNS = ("sam_labels", "sam2_labels")
NOT_CARRIED = {"_id", "_cls", "tags", "label", "bounding_box", "mask", "mask_path", "confidence", "points"}
NOT_CARRIED |= {*_SIGNS, "last_modified_at", "created_at"}
MEASURED = {"matched", "fit", "area_px", "mask_scale", *MEASURES}
"""Attributes of an answer itself; those of the same name that the prompt's label has tell of something else."""
OWN_ATTRIBUTES = ("area_px", "matched")
"""Each label that is written has one of these: a label without any was drawn by hand."""


def prompts_in(value: Mapping[str, Any] | None) -> list[Document]:
    """Return the labels inside a stored ``Detections``, ``Detection``, ``Keypoints`` or ``Keypoint``; none for None."""
    if value is None:
        return []
    for name in ("detections", "keypoints"):
        if name in value:
            return list(value[name] or ())
    return [dict(value)]


def prompts_digest(prompts: Sequence[Document]) -> str:
    """Return 12 hexadecimal digits that change when a prompt is added, removed, moved or renamed."""
    return hashlib.sha256(json.dumps([_told(prompt) for prompt in prompts], default=str).encode()).hexdigest()[:12]


def are_among(prompts: Sequence[Document], others: Sequence[Document]) -> bool:
    """Tell whether all prompts are among others, not moved or renamed."""
    some, all_of_them = ({json.dumps(_told(prompt), default=str) for prompt in each} for each in (prompts, others))
    return some <= all_of_them


def _told(prompt: Document) -> list[Any]:
    return [prompt.get(key) for key in ("_id", "label", "bounding_box", "points", *_SIGNS)]


def answer(masks: Masks, prompts: Sequence[Document], options: EnrichOptions) -> list[Instance]:
    """Return what to store for one image.

    Parameters
    ----------
    masks : Masks
        Everything found in it.
    prompts : sequence of dict
        The stored labels that prompt; ignored in everything mode.
    options : EnrichOptions

    Returns
    -------
    list of Instance
        With prompts, one for each in their order, with attributes ``matched`` and ``fit`` (0 … 1); where nothing
        answers, there is a box and no mask.
    """
    if options.kind == "boxes":
        return _answer_boxes(masks, prompts, options)
    if options.kind == "points":
        return _answer_points(masks, prompts, options)
    return instances_of(masks.filter(min_area_px=max(options.min_area_px, 1)), options.label)


def unanswered(prompts: Sequence[Document], options: EnrichOptions) -> list[Instance]:
    """Return what to store for prompts, boxes or points, that no mask answers."""
    return answer(Masks.empty((1, 1)), prompts, options)


def semantic_map(
    masks: Masks, instances: Sequence[Instance], options: EnrichOptions, classes: Mapping[str, int]
) -> NDArray[Any]:
    """Paint one map (H, W) of the instances: class values if prompts brought classes, else 1, 2, 3 and so on."""
    shown = [instance for instance in instances if instance.mask is not None]
    height, width = masks.image_hw
    origins = [(int(i.bounding_box[1] * height), int(i.bounding_box[0] * width)) for i in shown]
    painted = Masks.from_crops(
        [i.mask for i in shown if i.mask is not None],
        np.reshape(np.array(origins, np.int64), (-1, 2)),
        masks.image_hw,
        [i.confidence or 0.0 for i in shown],
    )
    ids = None if options.kind == "everything" else [_value_of(i.label or "", classes) for i in shown]
    return map_of(painted, ids)


def _value_of(label: str, classes: Mapping[str, int]) -> int:
    if label not in classes:  # values are given once for all, before the first map
        raise InvalidPromptError(
            f"The class {label!r} came while the run was going on", remedy="run the same again: it then has a value"
        )
    return classes[label]


def _answer_boxes(masks: Masks, prompts: Sequence[Document], options: EnrichOptions) -> list[Instance]:
    height, width = masks.image_hw
    boxes = np.array([_numbers(prompt.get("bounding_box"), 4) for prompt in prompts]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    boxes *= (width, height, width, height)
    usable = np.isfinite(boxes).all(axis=1)
    usable[usable] &= (boxes[usable, 2:] > boxes[usable, :2]).all(axis=1)
    index, score = np.full(len(boxes), -1), np.zeros(len(boxes))
    matches = match(masks, Box(boxes[usable], min_iou=options.min_iou))
    index[usable], score[usable] = matches.index, matches.score
    return [_one(masks, *entry) for entry in zip(prompts, index.tolist(), score.tolist(), strict=True)]


def _answer_points(masks: Masks, prompts: Sequence[Document], options: EnrichOptions) -> list[Instance]:
    height, width = masks.image_hw
    points: list[tuple[float, float]] = []
    labels: list[int] = []
    groups: list[int] = []
    for group, prompt in enumerate(prompts):
        stored = prompt.get("points") or []
        signs = _signs_of(prompt)
        for k, point in enumerate(stored):
            x, y = _numbers(point, 2)
            if math.isfinite(x) and math.isfinite(y):
                points.append((y * height, x * width))
                labels.append(0 if k < len(signs) and signs[k] == 0 else 1)
                groups.append(group)
    index, score = [-1] * len(prompts), [0.0] * len(prompts)
    matches = match(masks, Points(points, labels, groups, level=options.level))
    positive = {group for group, label in zip(groups, labels, strict=True) if label}
    for group, found, value in zip(sorted(set(groups)), matches.index, matches.score, strict=True):
        if group in positive:
            index[group], score[group] = int(found), float(value)
    return [
        _one(masks, {**prompt, "bounding_box": _box_around(prompt)}, index[k], score[k])
        for k, prompt in enumerate(prompts)
    ]


def _signs_of(prompt: Document) -> Sequence[Any]:
    """Return which of a keypoint's points are positive, from a list or an array; nothing where that is not told.

    Raises
    ------
    InvalidPromptError
        It is told by something else.
    """
    for name in _SIGNS:
        stored = prompt.get(name)
        signs = array_of(stored).tolist() if isinstance(stored, bytes) else stored
        if signs is not None and not isinstance(signs, list | tuple):
            raise InvalidPromptError(
                f"{name!r} of a keypoint cannot be read",
                expected="a list with 0 or 1 for each point",
                actual=repr(signs),
            )
        if signs:
            return signs
    return ()


def _one(masks: Masks, prompt: Document, index: int, score: float) -> Instance:
    """Answer a prompt: the mask, or nothing, with all that the prompt's label carries."""
    carried = {key: value for key, value in prompt.items() if key not in NOT_CARRIED | MEASURED}
    given = prompt.get("confidence")
    bare = Instance(
        prompt.get("label"),
        [value if math.isfinite(value) else 0.0 for value in _numbers(prompt.get("bounding_box"), 4)],
        None,
        float(given) if _is_number(given) else None,
        {**carried, "matched": False, "fit": 0.0},
        prompt.get("tags") or (),
        prompt.get("_id"),
    )
    if index < 0 or not masks.areas_px[index]:
        return bare
    return replace(
        bare,
        bounding_box=relative_box(masks.extents_xyxy[index], masks.image_hw),
        mask=masks.crop(index),
        confidence=float(masks.scores[index]) if bare.confidence is None else bare.confidence,
        attributes={**carried, "matched": True, "fit": float(score), **measured(masks, index)},
    )


def _box_around(prompt: Document) -> list[float]:
    """Return the relative box of a keypoint's points."""
    points = np.array([_numbers(point, 2) for point in prompt.get("points") or []]).reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return [0.0, 0.0, 0.0, 0.0]
    low, high = points.min(axis=0), points.max(axis=0)
    return [*low.tolist(), *(high - low).tolist()]


def _numbers(values: object, count: int) -> list[float]:
    """Read numbers as stored; what is not ``count`` numbers (None, text, too few) is NaN."""
    if not isinstance(values, list | tuple) or len(values) != count:
        return [math.nan] * count
    return [float(value) if _is_number(value) else math.nan for value in values]


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
