"""Printing: consoles, error panels and the exit codes that go with them."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import typer
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from fastsam_core.errors import FastSAMError, InvalidParameterError, InvalidPromptError, UnknownModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import NoReturn

__all__ = [
    "EXIT_BROKEN_PIPE",
    "EXIT_FAILED",
    "EXIT_INTERRUPTED",
    "EXIT_TERMINATED",
    "EXIT_USAGE",
    "console",
    "guarded",
    "printable",
    "run_module",
]

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells say it
EXIT_BROKEN_PIPE: Final = 141  # 128 + SIGPIPE
EXIT_TERMINATED: Final = 143  # 128 + SIGTERM

_WIDTH_WITHOUT_TERMINAL: Final = 120


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Leave it to :func:`guarded` (rich would exit with code 1 here)."""
        raise BrokenPipeError


def console(*, stderr: bool = False) -> Console:
    """Return a console on stdout or stderr that takes no text for markup and breaks no path in pipes."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _WIDTH_WITHOUT_TERMINAL
    return _Console(stderr=stderr, width=width, markup=False, highlight=False, emoji=False)


def printable(text: object) -> str:
    """Return a text or path with what no terminal can show replaced: file names may hold any bytes."""
    return str(text).encode("utf-8", "replace").decode("utf-8")


def error_text(error: FastSAMError) -> Text:
    """Lay out an error: the problem, then expected, actual and remedy on lines of their own."""
    text = Text(printable(error.problem))
    for title, value in (("Expected", error.expected), ("Actual", error.actual), ("Remedy", error.remedy)):
        if value:
            text.append(f"\n{title}: ", style="bold").append(printable(value))
    return text


def exit_code(error: FastSAMError) -> int:
    """Return 2 for what the user typed, 1 for what happened while working."""
    usage = isinstance(error, InvalidParameterError | InvalidPromptError | UnknownModelError)
    return EXIT_USAGE if usage else EXIT_FAILED


class _TerminatedError(KeyboardInterrupt):
    """SIGTERM came, as a batch system sends it when the time is up."""


@contextmanager
def _heeding_sigterm() -> Iterator[None]:
    """Take SIGTERM for Ctrl-C, so that files half written go; a second one ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if os.getpid() != process:  # forked, with this handler
            os.kill(os.getpid(), signal.SIGTERM)
        raise _TerminatedError

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def guarded(*, debug: bool) -> Iterator[None]:
    """Turn errors raised on purpose, Ctrl-C, SIGTERM and a closed pipe into a short message and an exit code.

    Parameters
    ----------
    debug : bool
        Let errors through with their traceback.
    """
    try:
        with _heeding_sigterm():
            yield
        sys.stdout.flush()
    except FastSAMError as error:
        if debug:
            raise
        panel = Panel(error_text(error), title="Error", title_align="left", border_style="red")
        console(stderr=True).print(panel)
        raise typer.Exit(exit_code(error)) from error
    except _TerminatedError as error:
        typer.echo("Terminated.", err=True)
        raise typer.Exit(EXIT_TERMINATED) from error
    except KeyboardInterrupt as error:
        typer.echo("Interrupted.", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from error
    except BrokenPipeError as error:
        # whoever read our output has gone: send the rest nowhere, or the interpreter complains when it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(EXIT_BROKEN_PIPE) from error


def run_module(main: Callable[[], None]) -> None:
    """Run what ``python -m`` of a module does, and end as the command ``fastsam`` does."""
    try:
        with guarded(debug=False):
            main()
    except typer.Exit as end:
        sys.exit(end.exit_code)
