"""Checks of arguments: each returns the value in its own type, or raises an error that says what was expected."""

from __future__ import annotations

import math
from contextlib import suppress
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsam_core._defaults import MAX_IMGSZ, MIN_IMGSZ
from fastsam_core.errors import FastSAMError, InvalidMasksError, InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import DTypeLike, NDArray

__all__ = [
    "as_array",
    "as_distance",
    "as_imgsz",
    "as_integer",
    "as_iterator",
    "as_number",
    "as_pair",
    "as_rows",
    "as_sides",
    "as_size",
    "described",
]


def as_number(
    name: str, value: object, low: float, high: float, kind: type[FastSAMError] = InvalidParameterError
) -> float:
    """Return a finite number from `low` to `high`, or raise an error of this `kind`."""
    if isinstance(value, Real) and not isinstance(value, bool):
        with suppress(OverflowError):  # whole numbers beyond all floats
            number = float(value)
            if low <= number <= high and number != math.inf:
                return number
    raise kind(
        f"{name} is out of range",
        expected=f"a number from {low:g} to {high:g}" if math.isfinite(high) else f"a number of at least {low:g}",
        actual=repr(value),
    )


def as_distance(name: str, value: object, kind: type[FastSAMError] = InvalidParameterError) -> float:
    """Return a finite number above 0, or raise an error of this `kind`."""
    if isinstance(value, Real) and not isinstance(value, bool):
        with suppress(OverflowError):
            distance = float(value)
            if 0 < distance < math.inf:
                return distance
    raise kind(f"{name} is out of range", expected="a number above 0", actual=repr(value))


def as_integer(name: str, value: object, low: int, kind: type[FastSAMError] = InvalidParameterError) -> int:
    """Return a whole number of at least `low`, or raise an error of this `kind`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < low:
        raise kind(f"{name} is out of range", expected=f"a whole number of at least {low}", actual=repr(value))
    return int(value)


def as_imgsz(size: object) -> int:
    """Return a long side of the network's input, or raise InvalidParameterError."""
    imgsz = as_integer("imgsz", size, MIN_IMGSZ)
    if imgsz > MAX_IMGSZ:
        raise InvalidParameterError(
            "imgsz is out of range",
            expected=f"a whole number from {MIN_IMGSZ} to {MAX_IMGSZ}",
            actual=repr(size),
            remedy="segment large images in tiles (tile_px=, --tile-px)",
        )
    return imgsz


def as_pair(
    problem: str, given: Any, expected: str, kind: type[FastSAMError] = InvalidParameterError
) -> tuple[int, int]:
    """Return two whole numbers, or raise an error of this `kind` with this `problem`."""
    try:
        first, second = (int(value) for value in given)
        if (first, second) == tuple(given):  # neither digits of a text nor fractions
            return first, second
    except (TypeError, ValueError, OverflowError):
        pass
    raise kind(problem, expected=expected, actual=repr(given))


def as_sides(problem: str, given: Any, expected: str) -> tuple[float, float]:
    """Return two finite numbers above 0, or raise an error with this `problem`."""
    with suppress(TypeError, ValueError):
        first, second = (float(value) for value in given)
        if 0 < first < math.inf and 0 < second < math.inf:
            return first, second
    raise InvalidParameterError(problem, expected=expected, actual=repr(given))


def as_iterator(sources: Any) -> Iterator[Any]:
    """Begin to go through several images, or raise an error; a path alone would be taken letter by letter."""
    with suppress(TypeError):
        if not isinstance(sources, str | bytes):
            return iter(sources)
    raise InvalidParameterError(
        "The sources are no sequence of images",
        expected="several paths, arrays or other images",
        actual=repr(sources),
        remedy="put a single image into a list",
    )


def as_size(given: object) -> tuple[int, int]:
    """Return height and width of an image in pixels.

    Raises
    ------
    InvalidMasksError
        They are not two whole numbers of at least 0.
    """
    problem, expected = "Not the size of an image", "(height, width), whole numbers of at least 0"
    height, width = as_pair(problem, given, expected, InvalidMasksError)
    if height < 0 or width < 0:
        raise InvalidMasksError(problem, expected=expected, actual=repr(given))
    return height, width


def as_array(
    name: str, values: object, dtype: DTypeLike | None = None, kind: type[FastSAMError] = InvalidMasksError
) -> NDArray[Any]:
    """Return a contiguous array of this `dtype`, or raise an error of this `kind`: for rows of unequal length, say."""
    try:
        return np.ascontiguousarray(values, dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise kind(f"{name} is no array of numbers", expected="rows of the same length", actual=str(error)) from error


def as_rows(
    name: str, values: object, dtype: DTypeLike, columns: int, kind: type[FastSAMError] = InvalidMasksError
) -> NDArray[Any]:
    """Return an array of shape (K, `columns`), or raise an error of this `kind`; one row alone is a table."""
    array = as_array(name, values, dtype, kind)
    if array.size % columns or (array.ndim > 1 and array.size and array.shape[-1] != columns):
        raise kind(f"{name} has the wrong shape", expected=f"(K, {columns})", actual=str(array.shape))
    return array.reshape(-1, columns)


def described(given: object) -> str:
    """Name what came for an error: dtype and shape of an array, the type of anything else."""
    if isinstance(given, np.ndarray):
        return f"{given.dtype} of shape {given.shape}"
    return f"an object of type {type(given).__name__}"
