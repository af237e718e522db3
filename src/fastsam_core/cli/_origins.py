"""Which image the results in a folder are of: their names only tell the images of one run apart."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastsam_core.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Origins", "named_results", "note_origin"]

_FILE: Final = ".fastsam-sources.jsonl"


class Origins:
    """What is known of the results in a folder.

    Parameters
    ----------
    out : Path
        The folder.

    Raises
    ------
    OutputError
        If what is known of it cannot be read.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._known: dict[str, dict[str, Any]] = {}
        try:
            lines = (out / _FILE).read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutputError(f"Cannot read {out / _FILE}", actual=error.strerror or str(error)) from error
        for line in lines:
            try:
                entry = json.loads(line)
                self._known[entry["name"]] = {**entry, "source": os.fspath(entry["source"])}
            except (ValueError, TypeError, KeyError):  # cut off: less is known
                continue

    @property
    def names(self) -> frozenset[str]:
        """What the names of results begin with whose image is known."""
        return frozenset(self._known)

    def check(self, name: str, source: Path, **which: Any) -> None:
        """Make sure that the results of a name are not known to be others.

        Parameters
        ----------
        name : str
            What the names of their files begin with.
        source : Path
            The image's file.
        **which : dict
            What else they are of, as told to `note_origin`.

        Raises
        ------
        OutputError
            If they are.
        """
        if name not in self._known:
            return
        known = {key: value for key, value in self._known[name].items() if key not in ("name", "source")}
        before = os.path.normpath(self._out / self._known[name]["source"])
        if os.path.realpath(before) != os.path.realpath(source) or known != which:
            raise OutputError(
                f"The results {name} in {self._out} are of another image, plane or command",
                expected=_described(source, which, known),
                actual=_described(before, known, which),
                remedy="choose another --out; or, if the image was moved, remove "
                f"{self._out / _FILE}, which says where it was",
            )


def named_results(folder: str) -> frozenset[str]:
    """Return what the names of results in a folder begin with, as far as it is known."""
    try:
        return Origins(Path(folder)).names
    except OutputError:
        return frozenset()


def _described(source: str | os.PathLike[str], which: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Name a file, and what of it sets it apart from the other."""
    own = (f"{key} {value}" for key, value in which.items() if other.get(key, ...) != value)
    return ", ".join([os.fspath(source), *own])


def note_origin(out: Path, name: str, source: Path, **which: Any) -> None:
    """Keep in the folder of results which image those of a name are of.

    Parameters
    ----------
    out : Path
        The folder.
    name : str
        What the names of their files begin with.
    source : Path
        The image's file; kept relative to the folder, so that both can be moved together.
    **which : dict
        Which of its images it is, and what else sets the results apart from others of it, as JSON values.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    at = os.path.abspath(source)
    with suppress(ValueError):  # another drive of Windows
        at = os.path.relpath(at, out)
    line = "\n" + json.dumps({"name": name, "source": at, **which})  # begins a line of its own behind one cut off
    try:
        with (out / _FILE).open("a", encoding="utf-8") as file:
            file.write(line)
    except OSError as error:
        raise OutputError(f"Cannot write {out / _FILE}", actual=error.strerror or str(error)) from error
