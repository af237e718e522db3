"""The cache of downloaded weights: where it is, how a file gets in, and which hashes the user has trusted."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fastsam_core._files import atomic_path
from fastsam_core.errors import OutputError, WeightsDownloadError

if TYPE_CHECKING:
    from fastsam_core.registry import ModelEntry

__all__ = ["Progress", "cache_folder", "cached_path", "fetch", "file_sha256", "is_trusted", "trust"]

Progress = Callable[[int, int], None]
"""Called with the bytes received so far and the bytes expected (0 where the server does not say)."""

_LOGGER = logging.getLogger(__name__)
_TRUSTED = "trusted-sha256.txt"
_TIMEOUT_S = 30


def cache_folder() -> Path:
    """Folder for downloaded weights: ``$FASTSAM_CACHE``, else the user's cache folder. Not created here."""
    if configured := os.environ.get("FASTSAM_CACHE"):
        return Path(configured).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("fastsam", appauthor=False))


def cached_path(entry: ModelEntry) -> Path:
    """Where the weights of a downloadable model lie or would lie."""
    return cache_folder() / entry.file_name


def file_sha256(path: Path) -> str:
    """Sha256 of a file in lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(entry: ModelEntry, progress: Progress | None = None) -> Path:
    """Return the verified weights of a model from the cache, downloading them if they are not there.

    The download goes to a temporary file, which takes its place only after its sha256 is right. A file that is in the
    cache is verified again each time; a damaged one is downloaded anew.

    Parameters
    ----------
    entry : ModelEntry
        A model with a URL.
    progress : callable, optional
        Called with (bytes received, bytes expected).

    Returns
    -------
    Path
        The file in the cache.

    Raises
    ------
    WeightsDownloadError
        Without a connection, when the server refuses, or when the file received has another sha256.
    OutputError
        If the cache folder cannot be written.
    """
    target = cached_path(entry)
    if target.is_file():
        if entry.sha256 is None or file_sha256(target) == entry.sha256:
            return target
        _LOGGER.warning("%s is damaged (wrong sha256) and is downloaded again", target)
    _download(entry, target, progress)
    received = file_sha256(target)
    if entry.sha256 is None:
        _LOGGER.warning("The sha256 of %s is not known to this version; received %s", entry.name, received)
    elif received != entry.sha256:
        raise _failure(entry, target, f"sha256 {received} read back from the disk")
    return target


def _download(entry: ModelEntry, target: Path, progress: Progress | None) -> None:
    import pooch
    import requests

    downloader = pooch.HTTPDownloader(
        progressbar=_PoochProgress(progress) if progress is not None else False, timeout=_TIMEOUT_S
    )
    pooch_logger = pooch.get_logger()
    level = pooch_logger.level
    pooch_logger.setLevel(logging.WARNING)
    try:
        target.unlink(missing_ok=True)
        pooch.retrieve(
            url=entry.url,
            known_hash=f"sha256:{entry.sha256}" if entry.sha256 else None,
            fname=target.name,
            path=target.parent,
            downloader=downloader,
        )
    except (requests.RequestException, ValueError) as error:  # ValueError is pooch's word for a wrong hash
        raise _failure(entry, target, str(error)) from error
    except OSError as error:
        raise OutputError(
            f"The weights of {entry.name} cannot be written to {target.parent}",
            actual=str(error),
            remedy="free some space or set FASTSAM_CACHE to a folder that can be written",
        ) from error
    finally:
        pooch_logger.setLevel(level)


def _failure(entry: ModelEntry, target: Path, actual: str) -> WeightsDownloadError:
    return WeightsDownloadError(
        f"The weights of {entry.name} could not be downloaded from {entry.url}",
        expected=f"sha256 {entry.sha256}" if entry.sha256 else "a file (its sha256 is not known to this version)",
        actual=actual,
        remedy=f"download the file on a machine with internet access and put it at {target}, "
        "or use the built-in model, which needs no download",
    )


class _PoochProgress:
    """The part of tqdm's interface that pooch drives, passed on to a callback."""

    def __init__(self, report: Progress) -> None:
        self.total = 0
        self._report = report
        self._received = 0

    def update(self, count: int) -> None:
        # pooch ends with reset() and update(total), so that bars are left full
        self._received += count
        self._report(self._received, int(self.total))

    def reset(self) -> None:
        self._received = 0

    def close(self) -> None:
        """Nothing to close."""


def is_trusted(sha256: str) -> bool:
    """Whether the user has loaded a file with this hash before and said ``trust=True`` then."""
    try:
        lines = (cache_folder() / _TRUSTED).read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return any(line.split("  ", 1)[0] == sha256 for line in lines)


def trust(sha256: str, name: str) -> None:
    """Record on first use that the user trusts the file with this hash.

    Where the cache cannot be written the word holds for this call only, and a log message says so.
    """
    if is_trusted(sha256):
        return
    record = cache_folder() / _TRUSTED
    try:
        known = record.read_text(encoding="utf-8") if record.is_file() else ""
        with atomic_path(record) as temporary:
            temporary.write_text(f"{known}{sha256}  {name}\n", encoding="utf-8")
    except OSError as error:
        _LOGGER.warning("The trust in %s (sha256 %s) could not be recorded: %s", name, sha256, error)
