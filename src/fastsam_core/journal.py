"""A journal of a labelling session: one JSON line a step, written at once, so that a crash loses nothing.

The first line of a session is ``{"do": "open", …}`` with what is known of the image; then come ``segment``, ``filter``,
``prompts``, ``commit``, ``merge``, ``split``, ``delete``, ``undo`` and ``redo``, and ``close`` when the session ended
in order. A step that wrote labels holds the masks (COCO RLE), so that the same image needs no network to get its labels
back, and what picked them (`causes`), so that the same can be picked on other images. Such a step, and ``undo`` and
``redo``, name the Labels layer (`target`): each layer has a history of its own.
"""

from __future__ import annotations

import json
import os
import sys
import weakref
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from fastsam_core._files import as_path, lock, plain
from fastsam_core._journal_steps import header_problem, problem_of
from fastsam_core.errors import ImageReadError, OutputError

if TYPE_CHECKING:
    import io
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["LABEL_STEPS", "VERSION", "Journal", "JournalFile", "is_written", "read_journal"]

VERSION: Final = 1
LABEL_STEPS: Final = ("commit", "merge", "split", "delete")
"""Steps that wrote labels."""

_Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class JournalFile:
    """What a journal says.

    Attributes
    ----------
    path : Path
    header : dict
        Of the first line.
    entries : tuple of dict
        All further lines.
    complete : bool
        The session was closed in order; False after a crash.
    """

    path: Path
    header: _Entry
    entries: tuple[_Entry, ...]
    complete: bool

    def effective(self, target: str | None = None) -> tuple[_Entry, ...]:
        """Return the steps without those that were undone and without the undoing itself.

        Parameters
        ----------
        target : str, optional
            Leave out what was written into other Labels layers than this.
        """
        kept: list[_Entry] = []
        undone: list[_Entry] = []
        for entry in self.entries:
            if entry["do"] == "undo":
                place = _last(kept, entry)
                if place is not None:
                    undone.append(kept.pop(place))
            elif entry["do"] == "redo":
                place = _last(undone, entry)
                if place is not None:
                    kept.append(undone.pop(place))
            elif entry["do"] != "close":
                if entry["do"] in LABEL_STEPS:
                    undone = [step for step in undone if not _share_target(step, entry)]
                kept.append(entry)
        other = {"target": target} if target is not None else {}
        return tuple(step for step in kept if step["do"] not in LABEL_STEPS or _share_target(step, other))

    @property
    def label_steps(self) -> tuple[_Entry, ...]:
        """The effective steps that wrote labels."""
        return tuple(entry for entry in self.effective() if entry["do"] in LABEL_STEPS)

    @property
    def targets(self) -> tuple[str | None, ...]:
        """The names of the Labels layers that were written, in their order; None for steps that name none."""
        return tuple(dict.fromkeys(step.get("target") for step in self.label_steps))

    @property
    def text_encoder(self) -> str | None:
        """The encoder behind picks by words, None if there are none."""
        causes = (cause for entry in self.label_steps for cause in entry.get("causes", ()))
        return next((cause["encoder"] for cause in causes if cause.get("by") == "text" and "encoder" in cause), None)


def _share_target(step: _Entry, other: _Entry) -> bool:
    """Tell whether two steps belong to one Labels layer; one that names none belongs to all."""
    return step.get("target") is None or other.get("target") is None or step["target"] == other["target"]


def _last(steps: Sequence[_Entry], entry: _Entry) -> int | None:
    """Return where the last step stands that wrote labels into the layer of an entry."""
    places = (k for k, step in enumerate(steps) if step["do"] in LABEL_STEPS and _share_target(step, entry))
    return max(places, default=None)


class Journal:
    """Appends to a journal; every step is on disk when :meth:`append` returns.

    Several sessions may write into one file: each step is written at once. A file that was removed is begun anew. As
    long as there is this object, the file is locked for :func:`is_written` (not on Windows).

    Parameters
    ----------
    path : path
        The file; its folder is made if it is missing. An existing one is continued; a last line that was cut off, by a
        crash or a full disk, goes first.
    header : mapping
        Goes into the first line of a new file.

    Raises
    ------
    OutputError
        The file cannot be written.
    InvalidParameterError
        `path` is no path.
    """

    def __init__(self, path: str | os.PathLike[str], header: Mapping[str, object]) -> None:
        self.path = as_path(path)
        self._header = {"version": VERSION, **header}
        self._file: tuple[int, int] | None = None
        self._is_whole = False
        self._mark: weakref.finalize[[int], Journal] | None = None
        self._append([])

    def append(self, do: str, **facts: object) -> None:
        """Write one step.

        Raises
        ------
        OutputError
            The disk is full, the folder is gone or not writable, or there is another file in the journal's place.
        """
        self.extend(do, [facts])

    def extend(self, do: str, steps: Iterable[Mapping[str, object]]) -> None:
        """Write several steps of a kind, each with its facts, as fast as one; errors as of :meth:`append`."""
        self._append([_line(do, facts) for facts in steps])

    def _append(self, lines: list[str]) -> None:
        """Write lines behind those that are there, all at once; first the header."""
        with _writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b", buffering=0) as file:
                if not self._is_whole:  # else it is another session that has not written all of its line yet
                    _end_last_line(file)
                facts = os.fstat(file.fileno())
                if not facts.st_size:
                    lines = [_line("open", self._header), *lines]
                elif self._file not in (None, (facts.st_dev, facts.st_ino)):
                    raise OutputError(
                        f"Another session has taken the place of the journal {self.path}",
                        expected="the file that this session began",
                        remedy="close the other session; work goes on without a journal until then",
                    )
                if self._file != (facts.st_dev, facts.st_ino):
                    self._file = facts.st_dev, facts.st_ino
                    self._mark_written(file)
                self._is_whole = False
                _write_all(file, "".join(lines).encode())
                self._is_whole = True
                os.fsync(file.fileno())

    def _mark_written(self, file: io.FileIO) -> None:
        """Lock the file as long as there is this object, beside others that write it."""
        if sys.platform != "win32":  # there, files that are open cannot be renamed
            if self._mark is not None:
                self._mark()
            descriptor = os.dup(file.fileno())
            self._mark = weakref.finalize(self, os.close, descriptor)
            lock(descriptor, alone=False)


def _line(do: str, facts: Mapping[str, object]) -> str:
    begin = {"do": do, "at": datetime.now(UTC).isoformat(timespec="milliseconds")}
    return json.dumps(begin | dict(facts), separators=(",", ":"), default=plain) + "\n"


def _write_all(file: io.FileIO, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def is_written(path: Path) -> bool:
    """Tell whether a :class:`Journal`, most probably of another process, writes a file; False where none can know."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        return not lock(descriptor, alone=True)
    finally:
        os.close(descriptor)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what the file system says into an error of this project."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"The journal {path} cannot be written",
            actual=error.strerror or str(error),
            remedy="free some space or make the folder writable; work goes on without a journal until then",
        ) from error


def _end_last_line(file: io.FileIO) -> None:
    """Take away a last line that was cut off: with the next step behind it neither could be read."""
    size = file.seek(0, os.SEEK_END)
    if not size:
        return
    file.seek(size - 1)
    if file.read(1) == b"\n":
        return
    file.seek(0)
    start = file.read().rfind(b"\n") + 1
    file.seek(start)
    try:
        json.loads(file.read())
    except ValueError:
        file.truncate(start)
    else:
        _write_all(file, b"\n")


def read_journal(path: str | os.PathLike[str]) -> JournalFile:
    """Read a journal; a last line that a crash cut off is left out.

    Raises
    ------
    ImageReadError
        The file is missing, empty or no journal, or a step in it holds what none can.
    InvalidParameterError
        ``path`` is no path.
    """
    path = as_path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise ImageReadError(
            f"The journal {path} cannot be read", actual=error.strerror or str(error), remedy="check the path"
        ) from error
    entries: list[_Entry] = []
    shape: Sequence[int] = ()
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            if number == len(lines):
                break
            raise _no_journal(path, f"line {number} is no JSON") from None
        if not isinstance(entry, dict) or "do" not in entry:
            raise _no_journal(path, f"line {number} is no step")
        problem = problem_of(entry, shape) if entries else header_problem(entry)
        if problem is not None:
            raise _no_journal(path, f"line {number}: {problem}")
        entries.append(entry)
        shape = entries[0].get("image", {}).get("shape") or ()
    if not entries or entries[0]["do"] != "open":
        raise _no_journal(path, "it does not begin with a header")
    if entries[0].get("version") != VERSION:
        raise _no_journal(path, f"version {entries[0].get('version')}")
    return JournalFile(path, entries[0], tuple(entries[1:]), complete=entries[-1]["do"] == "close")


def _no_journal(path: Path, actual: str) -> ImageReadError:
    return ImageReadError(
        f"{path.name} is not a journal of this program",
        expected=f"JSON lines of version {VERSION} that begin with a header",
        actual=actual,
        remedy="choose a file that ends in .fastsam.jsonl",
    )
