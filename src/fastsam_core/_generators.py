"""Generators of steps whose result is what matters."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["outcome"]

_S = TypeVar("_S")
_T = TypeVar("_T")


def outcome(steps: Generator[_S, None, _T], on_step: Callable[[_S], None] | None = None) -> _T:
    """Run all steps to their end, telling ``on_step`` of each, and return what the generator returns."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return cast("_T", end.value)
        if on_step is not None:
            on_step(step)
