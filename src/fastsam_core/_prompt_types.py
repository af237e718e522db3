"""The prompts themselves: small frozen objects, checked once when they are made; they know nothing about masks.

Coordinates are image pixels. A pixel (row ``y``, column ``x``) covers the half-open square [y, y + 1) × [x, x + 1),
so its centre is (y + 0.5, x + 0.5) and a point belongs to the pixel (floor(y), floor(x)).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from fastsam_core._checks import as_distance, as_integer, as_number, described
from fastsam_core.errors import InvalidPromptError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Box", "Points", "Polygon", "Prompt", "Text"]

Level: TypeAlias = Literal["auto", "part", "object", "group"]
_LEVELS: tuple[str, ...] = get_args(Level)
_POINT_MODES = ("best", "union")
Criterion: TypeAlias = Literal["iou", "inside", "coverage"]

#: A region answers nothing below these values of its criterion, unless the caller gives another threshold.
DEFAULT_THRESHOLDS: dict[Criterion, float] = {"iou": 0.2, "inside": 0.8, "coverage": 0.5}


_FEW = 16
"""Numbers of a table that are looked at one by one."""


def _table(values: ArrayLike, columns: int, name: str) -> NDArray[np.float64]:
    """Copy ``values`` into a finite float64 (K, ``columns``) array; one bare row counts as a table of one."""
    try:
        raw = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise _no_table(f"{name} is not a regular array", columns, str(error)) from error
    if raw.size == 0 and raw.ndim <= 2:
        return np.empty((0, columns))
    if raw.dtype.kind not in "buif":
        raise _no_table(f"{name} does not hold real numbers", columns, f"dtype {raw.dtype}")
    table = np.array(raw, dtype=np.float64, order="C", ndmin=2)
    if table.ndim != 2 or table.shape[1] != columns:
        raise _no_table(f"{name} has the wrong shape", columns, f"shape {raw.shape}")
    if table.size <= _FEW and all(map(math.isfinite, table.ravel().tolist())):
        return table  # the interactive case, three times faster than below
    finite = np.isfinite(table).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise _no_table(f"{name}[{row}] is not finite", columns, str(table[row].tolist()), "drop that entry")
    return table


def _no_table(problem: str, columns: int, actual: str, remedy: str = "") -> InvalidPromptError:
    return InvalidPromptError(problem, expected=f"finite numbers of shape (K, {columns})", actual=actual, remedy=remedy)


def _column(values: ArrayLike, length: int, name: str) -> NDArray[np.int64]:
    """Copy ``values`` into an int64 (``length``,) array of whole numbers."""
    expected = f"{length} whole numbers, one per point"
    try:
        raw = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise InvalidPromptError(f"{name} is not a regular array", expected=expected, actual=str(error)) from error
    if raw.shape != (length,):
        raise InvalidPromptError(f"{name} does not match the points", expected=expected, actual=f"shape {raw.shape}")
    if raw.dtype.kind == "f":
        whole = np.isfinite(raw) & (raw == np.round(raw))
        if not whole.all():
            row = int(np.argmin(whole))
            raise InvalidPromptError(f"{name}[{row}] is not a whole number", expected=expected, actual=str(raw[row]))
    elif raw.dtype.kind not in "bui" and length:
        raise InvalidPromptError(f"{name} does not hold numbers", expected=expected, actual=f"dtype {raw.dtype}")
    return raw.astype(np.int64)


def _one_of(value: str, allowed: tuple[str, ...], name: str) -> None:
    if value not in allowed:
        raise InvalidPromptError(f"{name} is unknown", expected=" or ".join(map(repr, allowed)), actual=repr(value))


def _share(value: float, name: str) -> float:
    return as_number(name, value, 0, 1, InvalidPromptError)


def _all_on(count: int) -> NDArray[np.int64]:
    signs = np.empty(count, np.int64)
    signs.fill(1)  # half the time of np.ones
    return signs


def _signs(labels: ArrayLike, count: int) -> NDArray[np.int64]:
    signs = _column(labels, count, "labels")
    wrong = (signs != 0) & (signs != 1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InvalidPromptError(f"labels[{row}] is not a label", expected="0 or 1", actual=str(signs[row]))
    return signs


@dataclass(frozen=True, slots=True, eq=False, init=False)
class Points:
    """Points on objects (label 1) and on what is not wanted (label 0).

    Parameters
    ----------
    points_yx : array_like, shape (K, 2)
        Rows (y, x) in image pixels. Points outside the image lie on nothing.
    labels : array_like, shape (K,), optional
        1 = on the object, 0 = off it. All 1 by default.
    groups : array_like of int, shape (K,), or "each", optional
        Which points describe the same object. By default all of them describe one; ``"each"`` makes every point
        an object of its own. Groups are answered in ascending order of their numbers.
    mode : {"best", "union"}
        ``"best"``: one mask per group. It contains none of the group's negatives and as many of its positives as
        any such mask; ``level`` decides between several. ``"union"``: per group all masks that contain a positive
        and no negative (with negatives only: all masks without one), as ``ultralytics`` answers points; as there,
        points outside the image are moved to its border.
    level : {"auto", "part", "object", "group"}
        Choice within nested candidates. ``"auto"``: the highest score for its size, that is over the cube root of
        the area. ``"object"``: the highest score, where masks over half the image count only if nothing smaller is
        there. ``"part"``: the smallest, ``"group"``: the largest of those with at least a fifth of the highest score,
        after near-duplicates (IoU > 0.9) are reduced to their surest.

    Raises
    ------
    InvalidPromptError
        Not finite, wrong shape, a label that is neither 0 nor 1, or not one label and one group for each point.
    """

    points_yx: NDArray[np.float64]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64] | None
    mode: Literal["best", "union"]
    level: Level

    def __init__(
        self,
        points_yx: ArrayLike,
        labels: ArrayLike | None = None,
        groups: ArrayLike | Literal["each"] | None = None,
        mode: Literal["best", "union"] = "best",
        level: Level = "auto",
    ) -> None:
        if mode not in _POINT_MODES or level not in _LEVELS:
            _one_of(mode, _POINT_MODES, "mode")
            _one_of(level, _LEVELS, "level")
        points = _table(points_yx, 2, "points_yx")
        count = len(points)
        signs = _all_on(count) if labels is None else _signs(labels, count)
        members: NDArray[np.int64] | None = None
        if isinstance(groups, str):
            _one_of(groups, ("each",), "groups")
            members = np.arange(count)
        elif groups is not None:
            members = _column(groups, count, "groups")
        store = object.__setattr__
        store(self, "points_yx", points)
        store(self, "labels", signs)
        store(self, "groups", members)
        store(self, "mode", mode)
        store(self, "level", level)


@dataclass(frozen=True, slots=True, eq=False, init=False)
class Box:
    """Boxes around objects.

    Parameters
    ----------
    boxes_xyxy : array_like, shape (K, 4)
        Rows (x0, y0, x1, y1) in image pixels, half-open. They are cut at the image border.
    min_iou : float in [0, 1]
        Below this IoU a box matches nothing (``mode="best"``).
    mode : {"best", "upstream"}
        ``"best"``: each box is answered by the mask whose bounding box has the highest IoU with it, as in the paper
        (section 3.3), times the fourth root of the mask's score: of those that fit alike the surer one. A pixel
        belongs to the box if its centre does. ``"upstream"``: by the mask of highest IoU between the mask's pixels
        and the box's, as in ``ultralytics``, that is coordinates are truncated, scores do not count, no threshold,
        ties go to the first mask; but a box that touches no mask matches nothing, where ``ultralytics`` returns mask 0.
    many : bool
        Select instead all masks that have at least the share ``min_inside`` of their pixels in the box.
    min_inside : float in [0, 1]
        See ``many``.

    Raises
    ------
    InvalidPromptError
        Not finite, wrong shape, a box that is reversed (x1 < x0 or y1 < y0), or a threshold out of range.
    """

    boxes_xyxy: NDArray[np.float64]
    min_iou: float
    mode: Literal["best", "upstream"]
    many: bool
    min_inside: float

    def __init__(
        self,
        boxes_xyxy: ArrayLike,
        min_iou: float = DEFAULT_THRESHOLDS["iou"],
        mode: Literal["best", "upstream"] = "best",
        *,
        many: bool = False,
        min_inside: float = DEFAULT_THRESHOLDS["inside"],
    ) -> None:
        _one_of(mode, ("best", "upstream"), "mode")
        min_iou, min_inside = _share(min_iou, "min_iou"), _share(min_inside, "min_inside")
        boxes = _table(boxes_xyxy, 4, "boxes_xyxy")
        reversed_ = (boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1])
        if reversed_.any():
            row = int(np.argmax(reversed_))
            raise InvalidPromptError(
                f"boxes_xyxy[{row}] is reversed",
                expected="(x0, y0, x1, y1) with x0 <= x1 and y0 <= y1",
                actual=str(boxes[row].tolist()),
                remedy="swap its corners; rows are x first, not (x, y, width, height)",
            )
        object.__setattr__(self, "boxes_xyxy", boxes)
        object.__setattr__(self, "min_iou", min_iou)
        object.__setattr__(self, "mode", mode)
        object.__setattr__(self, "many", bool(many))
        object.__setattr__(self, "min_inside", min_inside)


@dataclass(frozen=True, slots=True, eq=False, init=False)
class Polygon:
    """Hand-drawn regions or scribbles.

    Parameters
    ----------
    vertices_yx : array_like, shape (P, 2), or a sequence of such arrays
        One polygon, or several of any lengths: rows (y, x) in image pixels. A region is closed by itself.
    kind : {"region", "scribble"}
        ``"region"``: the pixels whose centre is inside, by the even-odd rule. ``"scribble"``: the pixels whose
        centre is within ``width_px / 2`` of the line through the vertices.
    criterion : {"iou", "inside", "coverage"}, optional
        What a mask is measured by. ``"iou"`` (default of regions): IoU with the region; the highest wins, times the
        fourth root of the score. ``"inside"``: share of the mask in the region; of the masks that pass, the one wins
        that would by IoU. ``"coverage"`` (default of scribbles): share of the region that the mask covers; of the
        masks that cover at least 0.9 times as much as the one that covers most, the highest score for its size wins,
        as with ``Points``.
    threshold : float in [0, 1], optional
        Masks below this value of the criterion do not match. By default 0.2 / 0.8 / 0.5.
    many : bool
        Select all masks that pass the threshold, instead of one per polygon (a lasso: ``criterion="inside"``).
    width_px : float
        Width of a scribble.

    Raises
    ------
    InvalidPromptError
        Not finite, wrong shape, fewer than 3 vertices in a region or 1 in a scribble, or a value out of range.
    """

    vertices_yx: tuple[NDArray[np.float64], ...]
    kind: Literal["region", "scribble"]
    criterion: Criterion
    threshold: float
    many: bool
    width_px: float

    def __init__(
        self,
        vertices_yx: ArrayLike | Sequence[ArrayLike],
        kind: Literal["region", "scribble"] = "region",
        *,
        criterion: Criterion | None = None,
        threshold: float | None = None,
        many: bool = False,
        width_px: float = 3.0,
    ) -> None:
        _one_of(kind, ("region", "scribble"), "kind")
        criterion = criterion or ("iou" if kind == "region" else "coverage")
        _one_of(criterion, get_args(Criterion), "criterion")
        threshold = DEFAULT_THRESHOLDS[criterion] if threshold is None else _share(threshold, "threshold")
        width_px = as_distance("width_px", width_px, InvalidPromptError)
        least = 3 if kind == "region" else 1
        polygons = _polygons(vertices_yx)
        for row, polygon in enumerate(polygons):
            if len(polygon) < least:
                raise InvalidPromptError(
                    f"vertices_yx[{row}] has too few vertices", expected=f"at least {least}", actual=str(len(polygon))
                )
        object.__setattr__(self, "vertices_yx", polygons)
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "criterion", criterion)
        object.__setattr__(self, "threshold", threshold)
        object.__setattr__(self, "many", bool(many))
        object.__setattr__(self, "width_px", width_px)


def _polygons(vertices_yx: ArrayLike | Sequence[ArrayLike]) -> tuple[NDArray[np.float64], ...]:
    """Tell one polygon from several and check each."""
    if not isinstance(vertices_yx, (Sequence, np.ndarray)) or isinstance(vertices_yx, str):
        raise InvalidPromptError(
            "vertices_yx is not a sequence",
            expected="(P, 2) numbers or a sequence of such",
            actual=described(vertices_yx),
        )
    polygons: list[Any] = list(vertices_yx)
    if polygons and _rank(polygons[0]) == 1:
        polygons = [polygons]
    return tuple(_table(polygon, 2, f"vertices_yx[{row}]") for row, polygon in enumerate(polygons))


def _rank(values: ArrayLike) -> int | None:
    try:
        return np.ndim(values)
    except ValueError:  # ragged; the check of each polygon says so
        return None


@dataclass(frozen=True, slots=True, eq=False, init=False)
class Text:
    """Words for what is wanted; answered by ``fastsam_core.text``, which looks at the image.

    Parameters
    ----------
    queries : str or sequence of str
        What to look for.
    negatives : sequence of str
        What the queries are held against (for example the other kinds of object in the image).
    mode : {"best", "all", "top_k"}
        One mask per query, all masks from ``threshold`` on, or the ``k`` best of each query.
    k : int, at least 1
        For ``mode="top_k"``.
    threshold : float in [0, 1], optional
        Probability below which a mask does not match, in every mode; ``None`` leaves it to the encoder, 0 always
        answers.

    Raises
    ------
    InvalidPromptError
        An empty query, an unknown mode, or a value out of range.
    """

    queries: tuple[str, ...]
    negatives: tuple[str, ...]
    mode: Literal["best", "all", "top_k"]
    k: int
    threshold: float | None

    def __init__(
        self,
        queries: str | Sequence[str],
        negatives: str | Sequence[str] = (),
        mode: Literal["best", "all", "top_k"] = "best",
        *,
        k: int = 5,
        threshold: float | None = None,
    ) -> None:
        _one_of(mode, ("best", "all", "top_k"), "mode")
        k = as_integer("k", k, 1, InvalidPromptError)
        threshold = None if threshold is None else _share(threshold, "threshold")
        object.__setattr__(self, "queries", _words(queries, "queries"))
        object.__setattr__(self, "negatives", _words(negatives, "negatives"))
        object.__setattr__(self, "mode", mode)
        object.__setattr__(self, "k", k)
        object.__setattr__(self, "threshold", threshold)


def _words(words: str | Sequence[object], name: str) -> tuple[str, ...]:
    if not isinstance(words, Iterable):
        raise InvalidPromptError(f"{name} is no text", expected="words, or a sequence of such", actual=repr(words))
    listed = (words,) if isinstance(words, str) else tuple(words)
    checked: list[str] = []
    for row, word in enumerate(listed):
        if not isinstance(word, str) or not word.strip():
            raise InvalidPromptError(f"{name}[{row}] is empty or no text", expected="words", actual=repr(word))
        checked.append(word)
    return tuple(checked)


Prompt: TypeAlias = Points | Box | Polygon | Text
