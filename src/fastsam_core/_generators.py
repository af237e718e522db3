"""Generators of steps whose result is what matters."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["outcome"]

_T = TypeVar("_T")


def outcome(steps: Generator[object, None, _T]) -> _T:
    """Go all steps at once and return what they lead to."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast("_T", end.value)
