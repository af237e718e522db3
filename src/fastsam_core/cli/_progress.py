"""A progress bar on stderr that appears only when the work lasts."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fastsam_core.cli._console import console, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import TaskID
    from rich.text import Text

__all__ = ["Bar", "progress"]

_DELAY_S: Final = 1.0


class Bar:
    """One bar: :meth:`say` what is going on, :meth:`advance` by one step, :meth:`log` a line above the bar."""

    def __init__(self, rich_progress: Progress, task: TaskID) -> None:
        self._progress = rich_progress
        self._task = task

    def say(self, text: str) -> None:
        """Show what is being done."""
        self._progress.update(self._task, description=printable(text))

    def advance(self) -> None:
        """Count one step as done."""
        self._progress.advance(self._task)

    def downloading(self, name: str) -> Callable[[int, int], None]:
        """Return what is told of a download: bytes received, and expected (0 if that is not known)."""

        def tell(received: int, expected: int) -> None:
            total = f" of {expected / 1e6:.0f}" if expected else ""
            self.say(f"Downloading {name}: {received / 1e6:.0f}{total} MB")

        return tell

    def log(self, text: Text) -> None:
        """Print a line that stays."""
        self._progress.console.print(text)


@contextmanager
def progress(description: str, total: int, *, visible: bool | None = None) -> Iterator[Bar]:
    """Show a bar while the block runs, from its second second on.

    Parameters
    ----------
    description : str
        Text before the bar.
    total : int
        Number of steps.
    visible : bool, optional
        Whether to show it at all; by default only on a terminal.
    """
    screen = console(stderr=True)
    shown = screen.is_terminal if visible is None else visible
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        console=screen,
        transient=screen.is_terminal,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not shown,
    )
    lock = threading.Lock()
    over = False

    def start() -> None:
        with lock:
            if not over:
                bar.start()

    timer = threading.Timer(_DELAY_S, start)
    timer.daemon = True
    timer.start()
    try:
        yield Bar(bar, bar.add_task(description, total=total))
    finally:
        timer.cancel()
        with lock:
            over = True
            bar.stop()
