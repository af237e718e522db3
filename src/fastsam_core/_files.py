"""Paths as users give them, and writing a file so that it is there whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
import stat
import sys
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fastsam_core.errors import FastSAMError, InvalidParameterError, OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "DAMAGED",
    "as_path",
    "atomic_path",
    "check_writable",
    "lock",
    "plain",
    "to_json",
    "unwritable",
    "write_json",
]

DAMAGED: Final = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    EOFError,
    RuntimeError,  # ZIP files that would be encrypted, or packed in an unknown way
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy and readers of JSON and ZIP files raise on damaged files."""


def as_path(path: object) -> Path:
    """Return a path as `Path`.

    Raises
    ------
    InvalidParameterError
        It is none.
    """
    name = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(name, str):
        raise InvalidParameterError(
            "This names no file", expected="a path: a str or a pathlib.Path", actual=repr(path)[:100]
        )
    return Path(name)


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``target`` that takes its place when the block ends without an error.

    Parameters
    ----------
    target : path
        The file to write; its folder is made if it is missing, and does not stay without it. The temporary name keeps
        the suffix.

    Raises
    ------
    InvalidParameterError
        When ``target`` is no path.
    OutputError
        When the folder or the file cannot be written (no permission, no space). ``target`` is then as it was.
    """
    target = as_path(target)
    temporary: Path | None = None
    missing = list(takewhile(lambda folder: not folder.exists(), target.parents))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            target.lstat()  # a name that is too long, which the temporary one is not, is told of before the work
        temporary = _new_file(target)
        permissions = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        temporary.chmod(permissions)  # writers such as safetensors put a private file in its place
        temporary.replace(target)
    except FastSAMError:
        raise
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        with suppress(OSError):  # those that hold something stay
            for folder in missing:
                folder.rmdir()


def unwritable(target: Path, error: OSError) -> OutputError:
    """Return what to raise where a file or folder cannot be written."""
    return OutputError(
        f"Cannot write {target}",
        actual=error.strerror or str(error),
        remedy="check the folder's permissions and the free space, or choose another output folder",
    )


def _new_file(target: Path) -> Path:
    """Make an empty file beside another, with the permissions of any new file (those of `tempfile` are narrower)."""
    path = target.with_name(f".{target.stem[:40]}-{secrets.token_hex(8)}{target.suffix}")
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return path


def plain(value: object) -> object:
    """Turn NumPy values and other objects into what JSON knows, as ``default`` of its writers."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, Sequence | set) else str(value)


def to_json(
    value: object, *, infinite: bool = False, default: Callable[[Any], object] | None = None, **layout: Any
) -> str:
    """Return JSON for strict parsers, too: NaN is null, and so are infinities unless they are to be texts."""
    try:
        return json.dumps(value, allow_nan=False, default=default, **layout)
    except ValueError:
        constants = {"Infinity": "Infinity", "-Infinity": "-Infinity"} if infinite else {}
        finite = json.loads(json.dumps(value, default=default), parse_constant=constants.get)
        return json.dumps(finite, **layout)


def write_json(target: str | os.PathLike[str], value: object) -> None:
    """Write a report as JSON that people read, too, see `to_json`; errors as of `atomic_path`."""
    with atomic_path(target) as temporary:
        temporary.write_text(to_json(value, indent=1) + "\n", encoding="utf-8")


class _EnoughError(Exception):
    """Ends a block of `atomic_path` without a file."""


def check_writable(target: str | os.PathLike[str]) -> None:
    """Raise `OutputError` if ``target`` cannot be written, before hours of work for it; leaves nothing behind."""
    with suppress(_EnoughError), atomic_path(target):
        raise _EnoughError


def lock(descriptor: int, *, alone: bool, wait: bool = False) -> bool:
    """Lock a file or folder, alone or beside others, until it is closed or its process ends (not on Windows).

    Return False if others forbid it, unless it is to wait for them.
    """
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        except OSError:
            pass  # a file system without locks
    return True
