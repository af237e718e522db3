"""Errors become notices that say what to do; they never reach the user as a traceback."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from fastsam_core.errors import FastSAMError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["describe", "notices", "tell", "warn"]


def describe(error: BaseException) -> str:
    """Return what went wrong and what to do about it, in one paragraph."""
    if isinstance(error, FastSAMError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"There is not enough memory. Remedy: choose a smaller region or close other images. ({error})"
    return f"{type(error).__name__}: {error}"


def warn(message: str) -> None:
    """Show a notice in the corner of the viewer."""
    from napari.utils.notifications import show_warning

    show_warning(f"FastSAM: {message}")


def tell(message: str) -> None:
    """Show in the same place what is no problem."""
    from napari.utils.notifications import show_info

    show_info(f"FastSAM: {message}")


@contextmanager
def notices() -> Iterator[None]:
    """Show errors that were foreseen as notices; others go on to napari, which shows them with their traceback."""
    try:
        yield
    except (FastSAMError, MemoryError) as error:
        warn(describe(error))
