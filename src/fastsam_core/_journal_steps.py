"""What the steps of a journal hold: checked when it is read, as journals are text, which is edited by hand, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

__all__ = ["header_problem", "problem_of"]

_Check = Callable[[Any], bool]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value - value == 0  # finite


def _integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    return _integer(value) and value >= 0


def _or_none(check: _Check) -> _Check:
    return lambda value: value is None or check(value)


def _rows(check: _Check, *lengths: int) -> _Check:
    """Check lists of one of these lengths, or of any if none is given."""
    return lambda value: isinstance(value, list) and (not lengths or len(value) in lengths) and all(map(check, value))


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _limit(value: Any) -> bool:
    return value is None or _number(value) or value in (float("inf"), -float("inf"))


_LIMITS: Final = _rows(_limit, 2)


def _plane(value: Any) -> bool:
    if not isinstance(value, Mapping) or not _rows(_whole, 2)(value.get("axes_yx")):
        return False
    rows, columns = value["axes_yx"]
    index: Any = value.get("index")
    return _rows(_or_none(_whole))(index) and rows != columns and max(rows, columns) < len(index)


_POSITIONS: Final = _rows(_rows(_number, 2))
_FIELDS: Final[Mapping[str, tuple[_Check, str]]] = {
    "plane": (_or_none(_plane), "axes_yx and index of a plane"),
    "contrast": (lambda value: not value or _rows(_number, 2)(value), "two numbers"),
    "conf": (_or_none(_number), "a number"),
    "faint_conf": (_or_none(_number), "a number"),
    "max_det": (_or_none(_whole), "a whole number"),
    "stack_axis": (_or_none(_whole), "a whole number"),
    "projection": (_or_none(_text), "a name"),
    "depth": (_or_none(_rows(_rows(_integer, 3))), "an axis and two whole numbers for each"),
    "region": (_or_none(_rows(_whole, 4)), "four whole numbers"),
    "places": (_or_none(_rows(_whole)), "whole numbers"),
    "parts": (_or_none(_rows(lambda part: isinstance(part, Mapping))), "parts"),
    "target": (_or_none(_text), "a name"),
    "overlap": (_text, "a text"),
    "limits": (
        lambda value: isinstance(value, Mapping) and all(map(_LIMITS, value.values())),
        "two numbers or null for each name",
    ),
    "points_yx": (_POSITIONS, "positions"),
    "positive": (_rows(lambda value: isinstance(value, bool)), "true or false for each point"),
    "groups": (_rows(_whole), "whole numbers"),
    "boxes_xyxy": (_rows(_rows(_number, 4)), "boxes"),
    "regions_yx": (_rows(_POSITIONS), "outlines"),
    "scribbles_yx": (_rows(_POSITIONS), "lines"),
    "causes": (_rows(lambda cause: isinstance(cause, Mapping)), "prompts"),
}
_OF_POINTS: Final = ("points_yx", "positive", "groups")
_OF_PROMPTS: Final = (*_OF_POINTS, "boxes_xyxy", "regions_yx", "scribbles_yx")
_OF_CAUSES: Final[Mapping[str, tuple[_Check, str]]] = {
    "points_yx": (_POSITIONS, "positions"),
    "labels": (_rows(_number), "numbers"),
    "box_xyxy": (_rows(_number, 4), "four numbers"),
    "vertices_yx": (_POSITIONS, "positions"),
    "text": (_text, "a text"),
    "encoder": (_or_none(_text), "a name"),
    "threshold": (_LIMITS, "two numbers or null"),
}


def problem_of(step: Mapping[str, Any], shape: Sequence[int] = ()) -> str | None:
    """Say what is wrong with a step, if anything is.

    What it leaves out, but for prompts, or holds besides, is not looked at.

    Parameters
    ----------
    step : mapping
        With what is done under ``"do"``.
    shape : sequence of int
        Of the session's image, as far as it is known.
    """
    if not isinstance(step["do"], str):
        return f"do is {step['do']!r}, not a name"
    problem = _first_problem(step, _FIELDS)
    if problem is None:
        problems = (_first_problem(cause, _OF_CAUSES) for cause in step.get("causes", ()))
        problem = next((one for one in problems if one is not None), None)
    if problem is None and step["do"] == "prompts" and step.get("plane") is not None:
        problem = _prompts_problem(step)
    if problem is None and shape:
        plane, axis = step.get("plane"), step.get("stack_axis")
        if plane is not None and len(plane["index"]) != len(shape):
            problem = f"index has {len(plane['index'])} axes, but the image {len(shape)}"
        elif axis is not None and axis >= len(shape):
            problem = f"stack_axis is {axis}, but the image has {len(shape)} axes"
    return problem


def _prompts_problem(step: Mapping[str, Any]) -> str | None:
    missing = next((name for name in _OF_PROMPTS if name not in step), None)
    if missing is not None:
        return f"{missing} is missing"
    return None if len({len(step[name]) for name in _OF_POINTS}) == 1 else f"{', '.join(_OF_POINTS)} differ in length"


def header_problem(header: Mapping[str, Any]) -> str | None:
    """Say what is wrong with the first line, if anything is."""
    image = header.get("image", {})
    if not isinstance(image, Mapping):
        return f"image is {str(image)[:60]}, not what is known of it"
    facts = {"shape": (_or_none(_rows(_whole)), "whole numbers"), "axes": (_or_none(_rows(_text)), "names")}
    return _first_problem(image, facts)


def _first_problem(values: Mapping[str, Any], checks: Mapping[str, tuple[_Check, str]]) -> str | None:
    wrong = (name for name, (check, _) in checks.items() if name in values and not check(values[name]))
    name = next(wrong, None)
    return None if name is None else f"{name} is {str(values[name])[:60]}, not {checks[name][1]}"
