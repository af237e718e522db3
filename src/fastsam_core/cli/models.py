"""``fastsam models``: list, download and verify weights, of networks and of text encoders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastsam_core.cli._console import EXIT_FAILED, console, guarded
from fastsam_core.cli._options import DebugOption

if TYPE_CHECKING:
    from fastsam_core.registry import ModelEntry
    from fastsam_core.text import EncoderEntry

__all__ = ["app", "byte_progress"]

app = typer.Typer(name="models", help="List, download and verify models.", no_args_is_help=True)

Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]…", help="Models or text encoders; all of them by default.")
]


@app.command("list")
def list_models(debug: DebugOption = False) -> None:
    """Show the models and the text encoders that can be loaded by name."""
    from rich.table import Column, Table

    from fastsam_core.registry import MODELS
    from fastsam_core.text import ENCODERS, default_encoder

    with guarded(debug=debug):
        table = Table("model", "network", "imgsz", "size", "licence", "where", "what")
        for entry in MODELS.values():
            where = _weights_file(entry)
            size = where.stat().st_size if where.is_file() else entry.size_bytes
            place = "not downloaded" if not where.is_file() else "in the package" if entry.url is None else str(where)
            table.add_row(
                entry.name,
                entry.architecture,
                str(entry.imgsz) if isinstance(entry.imgsz, int) else "+".join(map(str, entry.imgsz)),
                f"{size / 1e6:.1f} MB" if size else "unknown",
                entry.licence,
                place,
                entry.description,
            )
        screen = console()
        screen.print(table)
        table = Table(Column("text encoder", no_wrap=True), "size", "licence", "ImageNet zero-shot", "where", "what")
        for encoder in ENCODERS.values():
            path = encoder.weights_path()
            table.add_row(
                encoder.name,
                f"{(path.stat().st_size if path else encoder.size_bytes) / 1e6:.0f} MB",
                encoder.licence,
                f"{encoder.accuracy:.1f} %" if encoder.accuracy else "",
                "not downloaded" if path is None else "in the package" if encoder.repository is None else str(path),
                encoder.description,
            )
        screen.print(table)
        screen.print(f"without --text-encoder: {default_encoder()}; any other of open_clip's works as MODEL/TAG")


@app.command()
def download(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="Models or text encoders to download.")],
    debug: DebugOption = False,
) -> None:
    """Download models and text encoders into the cache and check their sha256."""
    from fastsam_core import downloads
    from fastsam_core.registry import find_model

    with guarded(debug=debug):
        screen = console()
        networks = [find_model(name) for name in names if not _names_encoder(name)]
        for name in filter(_names_encoder, names):
            _download_encoder(name)
        for entry in networks:
            if entry.url is None:
                screen.print(f"{entry.name} is in the package: nothing to download")
                continue
            with byte_progress(entry.name) as report:
                path = downloads.fetch(entry, report)
            screen.print(f"{entry.name}: {path}")
            if entry.sha256 is None:
                screen.print(
                    f"  sha256 {downloads.file_sha256(path)} (not in the table of models: compare it yourself)"
                )


@app.command()
def verify(names: Names = None, debug: DebugOption = False) -> None:
    """Check the sha256 of what was downloaded and that what ships can be read; exit code 1 if a file is damaged."""
    from fastsam_core.registry import MODELS, find_model
    from fastsam_core.text import ENCODERS
    from fastsam_core.text.encoders import find

    with guarded(debug=debug):
        asked = names or []
        encoders = list(ENCODERS.values()) if not asked else [entry for name in asked if (entry := find(name))]
        networks = [find_model(name) for name in asked if find(name) is None] if asked else list(MODELS.values())
        failed = False
        screen = console()
        verdicts = [(entry.name, _verdict(entry, asked=bool(asked))) for entry in networks]
        verdicts += [(entry.name, _encoder_verdict(entry, asked=bool(asked))) for entry in encoders]
        for name, (fine, verdict) in verdicts:
            failed |= not fine
            screen.print(f"{name}: {verdict}", style=None if fine else "red")
        if failed:
            raise typer.Exit(EXIT_FAILED)


def _weights_file(entry: ModelEntry) -> Path:
    from fastsam_core import downloads

    if entry.url is None:
        return Path(__file__).parents[1] / "weights" / entry.file_name
    return downloads.cached_path(entry)


def _verdict(entry: ModelEntry, *, asked: bool) -> tuple[bool, str]:
    """Return whether a model is fine, and what to say about it."""
    from fastsam_core import downloads

    path = _weights_file(entry)
    if not path.is_file():
        missing = "missing from this installation" if entry.url is None else "not downloaded"
        return entry.url is not None and not asked, missing
    if path.suffix == ".safetensors":
        return _readable(path)
    sha256 = downloads.file_sha256(path)
    if entry.sha256 is None:
        return True, f"sha256 {sha256} (not in the table of models: compare it yourself)"
    return sha256 == entry.sha256, f"fine, sha256 {sha256}" if sha256 == entry.sha256 else f"damaged: sha256 {sha256}"


def _readable(path: Path) -> tuple[bool, str]:
    """Tell whether a safetensors file can be read, and what to say about it."""
    import safetensors

    from fastsam_core import downloads

    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            tensors = len(list(file.keys()))
    except (safetensors.SafetensorError, OSError) as error:
        return False, f"damaged: {error}"
    return True, f"fine, {tensors} tensors, sha256 {downloads.file_sha256(path)}"


def _names_encoder(name: str) -> bool:
    """Tell names of text encoders from those of networks: in the table, MODEL/TAG, or a repository of the hub."""
    import re

    from fastsam_core.text.encoders import find

    return find(name) is not None or re.fullmatch(r"(hf-hub:)?[\w.-]+/[\w.-]+", name) is not None


def _download_encoder(name: str) -> None:
    from fastsam_core.text import DEMO
    from fastsam_core.text._weights import download as download_encoder

    if name == DEMO:
        console().print(f"{name} is in the package: nothing to download")
        return
    with byte_progress(name) as report:
        path = download_encoder(name, report)
    console().print(f"{name}: {path}")


def _encoder_verdict(entry: EncoderEntry, *, asked: bool) -> tuple[bool, str]:
    """Return whether a text encoder is fine, and what to say about it."""
    from fastsam_core import downloads
    from fastsam_core.text._weights import is_whole

    path = entry.weights_path()
    if path is None:
        missing = "missing from this installation" if entry.repository is None else "not downloaded"
        return entry.repository is not None and not asked, missing
    if entry.repository is None:
        return _readable(path)
    if not is_whole(path):
        return False, f"damaged; download it again: fastsam models download {entry.name}"
    return True, f"fine, sha256 {downloads.file_sha256(path)}"


@contextmanager
def byte_progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar of bytes on a terminal; gives the callback that moves it."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    screen = console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=screen, transient=True, disable=not screen.is_terminal
    ) as bar:
        task = bar.add_task(f"Downloading {name}", total=None, visible=False)

        def report(received: int, expected: int) -> None:
            bar.update(task, completed=received, total=expected or None, visible=True)

        yield report
