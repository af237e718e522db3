"""Commands in the documentation exist, with the options that they are given there."""

from __future__ import annotations

import io
import re
import runpy
import shlex
import sys
import warnings
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import typer

from fastsam_core.cli import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")])
_FENCE = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_MODULE = re.compile(r"python -m (fastsam_core[\w.]*)(.*)")


def lines_of(page: Path) -> list[str]:
    """Return the lines of all code blocks; those that go on are joined."""
    blocks = _FENCE.findall(page.read_text(encoding="utf-8"))
    return [line.strip().removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def options_of(words: list[str]) -> list[str]:
    return [word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)]


@cache
def known_options(*words: str) -> frozenset[str]:
    """Return the options of the command that these words begin with."""
    command: Any = typer.main.get_command(app)
    for word in words:
        if not hasattr(command, "get_command"):
            break
        command = command.get_command(None, word)  # of other packages, too, by their entry points
        assert command is not None, f"there is no command {' '.join(words)}"
    return frozenset(name for one in command.params for name in (*one.opts, *one.secondary_opts)) | {"--help"}


@cache
def module_options(name: str) -> frozenset[str]:
    """Return the options that a module names itself when it is run with ``--help``."""
    told = io.StringIO()
    with mock.patch.object(sys, "argv", [name, "--help"]), redirect_stdout(told), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # that it is imported already
        with pytest.raises(SystemExit, match=r"^0$"):
            runpy.run_module(name, run_name="__main__")
    return frozenset(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", told.getvalue()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_their_options(page: Path) -> None:
    for line in lines_of(page):
        if line.startswith("fastsam "):
            words = shlex.split(line, comments=True)[1:]
            place = next((k for k, word in enumerate(words) if word.startswith("-")), len(words))
            known = known_options(*words[: min(place, 2)])
            assert set(options_of(words)) <= known, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_modules_that_are_run_and_their_options(page: Path) -> None:
    for line in lines_of(page):
        if match := _MODULE.search(line):
            name, rest = match.groups()
            known = module_options(name)
            for option in options_of(shlex.split(rest, comments=True)):
                assert option in known, line


def test_there_are_some() -> None:
    lines = [line for page in PAGES for line in lines_of(page)]
    assert sum(line.startswith("fastsam ") for line in lines) >= 30
    assert sum(bool(_MODULE.search(line)) for line in lines) >= 10
