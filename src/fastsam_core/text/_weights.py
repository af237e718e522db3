"""Find or fetch the files of an encoder, and say in our own words what went wrong."""

from __future__ import annotations

import difflib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastsam_core import downloads
from fastsam_core.errors import CheckpointError, MissingDependencyError, UnknownModelError, WeightsDownloadError
from fastsam_core.text import encoders

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastsam_core.downloads import Progress

__all__ = ["EncoderFiles", "download", "find_files", "import_open_clip"]

_LOGGER = logging.getLogger(__name__)
HUB: Final = "hf-hub:"
_SHA256_LENGTH: Final = 64


@dataclass(frozen=True, slots=True)
class EncoderFiles:
    """What it takes to build an encoder.

    Parameters
    ----------
    name : str
        What it is called.
    model : str
        open_clip's name of the architecture, or ``local-dir:`` and a folder with its own configuration.
    weights : Path
        The weights.
    settings : mapping
        What open_clip's table of pretrained models says of this tag (normalisation, resizing, activation).
    """

    name: str
    model: str
    weights: Path
    settings: Mapping[str, Any]


def import_open_clip() -> Any:
    """Import open_clip.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    try:
        import open_clip
    except ImportError as error:
        raise MissingDependencyError(
            "Text prompts need open_clip", actual=str(error), remedy="run: pip install 'fastsam-plugins[text]'"
        ) from error
    return open_clip


def find_files(name: str | Path, progress: Progress | None = None) -> EncoderFiles:
    """Find the files of an encoder, downloading them where they are neither in the package nor in the cache.

    Parameters
    ----------
    name : str or Path
        ``demo``, ``MODEL/TAG`` of open_clip, ``hf-hub:ORGANISATION/REPOSITORY``, or a folder with
        ``open_clip_config.json`` and weights.
    progress : callable, optional
        Called with (bytes received, bytes expected).

    Raises
    ------
    UnknownModelError, WeightsDownloadError, CheckpointError, MissingDependencyError
        See `TextEncoder.load`.
    """
    text = str(name)
    if text == encoders.DEMO:
        return _in_folder(encoders.DEMO, encoders.demo_folder())
    if text.startswith(HUB):
        repository = text.removeprefix(HUB).strip("/")
        _fetch(text, repository, (encoders.CONFIG_FILE,), progress)
        weights = _fetch(text, repository, encoders.WEIGHTS_FILES, progress)
        return EncoderFiles(text, f"local-dir:{weights.parent}", weights, {})
    folder = Path(os.path.expanduser(text.removeprefix("local-dir:")))  # leaves ~name where there is no such user
    if folder.is_dir():
        return _in_folder(folder.name, folder)
    if folder.is_file():
        return _in_folder(folder.parent.name, folder.parent)
    return _tagged(text, progress)


def download(name: str, progress: Progress | None = None) -> Path:
    """Fetch an encoder into the cache and return its weights file; see `find_files`."""
    return find_files(name, progress).weights


def _in_folder(name: str, folder: Path) -> EncoderFiles:
    found = [folder / file for file in encoders.WEIGHTS_FILES if (folder / file).is_file()]
    found += sorted(folder.glob("[!.]*.safetensors"))
    if not (folder / encoders.CONFIG_FILE).is_file() or not found:
        raise CheckpointError(
            f"{folder} holds no text encoder",
            expected=f"{encoders.CONFIG_FILE} and {encoders.WEIGHTS_FILE}, as open_clip saves them",
            remedy="install the package again: pip install --force-reinstall fastsam-plugins"
            if name == encoders.DEMO
            else "give the folder that open_clip.push_to_hf_hub or save_for_hf wrote",
        )
    return EncoderFiles(name, f"local-dir:{folder}", found[0], {})


def _tagged(name: str, progress: Progress | None) -> EncoderFiles:
    open_clip = import_open_clip()
    entry = encoders.find(name)
    full = entry.name if entry is not None else name
    model, _, tag = full.partition("/")
    settings = open_clip.get_pretrained_cfg(model, tag) if tag else {}
    if not settings:
        raise _unknown(name, [f"{known}/{its_tag}" for known, its_tag in open_clip.list_pretrained()])
    hub = str(settings.get("hf_hub", ""))
    if not hub:
        path = open_clip.download_pretrained(settings, cache_dir=str(encoders.cache_folder()))
        return EncoderFiles(full, model, Path(path), settings)
    repository, _, file = hub.rpartition("/")
    names = (file,) if file else encoders.WEIGHTS_FILES
    return EncoderFiles(full, model, _fetch(full, repository, names, progress), settings)


def _unknown(name: str, known: list[str]) -> UnknownModelError:
    by_key = {key.lower(): key for key in (*encoders.ENCODERS, *known)}
    model = f"{name.lower().partition('/')[0]}/"
    tags = [key for key in by_key if key.startswith(model)]
    near = difflib.get_close_matches(name.lower(), tags or by_key, n=3, cutoff=0.0 if tags else 0.5)
    return UnknownModelError(
        f"There is no text encoder or folder {name!r}",
        expected="demo, MODEL/TAG of open_clip, hf-hub:ORGANISATION/REPOSITORY, or a folder with open_clip_config.json",
        remedy=f"did you mean {' or '.join(repr(by_key[key]) for key in near)}"
        if near
        else "list the encoders with: fastsam models list",
    )


def _fetch(name: str, repository: str, files: tuple[str, ...], progress: Progress | None) -> Path:
    """Return the first of the files that is in the cache and whole, else the first that the hub has."""
    cached = encoders.cached_file(repository, files)
    if cached is not None:
        if is_whole(cached):
            return cached
        _LOGGER.warning("%s is damaged (wrong sha256) and is downloaded again", cached)
        cached.resolve().unlink()
        cached.unlink(missing_ok=True)
    import huggingface_hub

    problem: Exception | None = None
    for file in files:
        try:
            _require_network()
            path = huggingface_hub.hf_hub_download(
                repository,
                file,
                cache_dir=encoders.cache_folder(),
                tqdm_class=_progress_class(progress) if progress is not None else None,
            )
        except (OSError, ValueError, RuntimeError) as error:  # the hub's own errors are all of these
            problem = error
            if _missing_there(error):
                continue
            break
        if is_whole(Path(path)):
            return Path(path)
        problem = OSError("what was received has another sha256")
    if problem is None:
        raise CheckpointError(f"{repository} names no weights")
    raise WeightsDownloadError(
        f"The text encoder {name} could not be downloaded from the Hugging Face hub ({repository})",
        expected=f"{' or '.join(files)}, or an earlier download in {encoders.cache_folder()}",
        actual=f"{type(problem).__name__}: {str(problem).splitlines()[0][:160] if str(problem) else ''}",
        remedy=f"with internet access run: fastsam models download {name} (the cache folder can then be copied), "
        f"or use the encoder {encoders.DEMO!r}, which needs no download",
    ) from problem


def _require_network() -> None:
    """Raise OSError at once where the hub's name is not known; its client would try for half a minute."""
    import socket
    import urllib.parse
    import urllib.request

    from huggingface_hub import constants

    host = urllib.parse.urlsplit(constants.ENDPOINT).hostname
    if not urllib.request.getproxies():
        socket.getaddrinfo(host, 443)


def _missing_there(error: Exception) -> bool:
    """Tell whether the hub answered that it has no such file."""
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    return isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError)


def is_whole(path: Path) -> bool:
    """Check a file of the hub's cache: large files are stored there under their sha256."""
    name = _sha256_by_name(path)
    return not name or downloads.file_sha256(path) == name


def sha256_of(files: EncoderFiles) -> str:
    """Return the sha256 of weights; those in the hub's cache were checked against their names when they were found."""
    return _sha256_by_name(files.weights) or downloads.file_sha256(files.weights)


def _sha256_by_name(path: Path) -> str:
    """Return the sha256 that the hub's cache stores a file under, "" for a file from elsewhere."""
    name = path.resolve().name
    return name if len(name) == _SHA256_LENGTH else ""


def _progress_class(report: Progress) -> type[Any]:
    from tqdm.auto import tqdm

    class Reporting(tqdm):  # type: ignore[misc]
        """Passes the hub's progress on and draws nothing."""

        def __init__(self, *args: Any, **keywords: Any) -> None:
            keywords.pop("name", None)
            super().__init__(*args, **{**keywords, "disable": False, "file": _Nowhere()})

        def update(self, n: float | None = 1) -> None:
            super().update(n)
            report(int(self.n), int(self.total or 0))

    return Reporting


class _Nowhere:
    """A stream that keeps nothing."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        """Nothing to do."""
