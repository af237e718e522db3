"""``fastsam models``: list, download and verify weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastsam_core.cli._options import DebugOption

if TYPE_CHECKING:
    from fastsam_core.registry import ModelEntry

__all__ = ["app", "byte_progress"]

app = typer.Typer(name="models", help="List, download and verify models.", no_args_is_help=True)

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]…", help="Models; all of them by default.")]


@app.command("list")
def list_models(debug: DebugOption = False) -> None:
    """Show the models that can be loaded by name."""
    from rich.table import Table

    from fastsam_core.cli._console import console, guarded
    from fastsam_core.registry import MODELS

    with guarded(debug=debug):
        table = Table("model", "network", "imgsz", "size", "licence", "where", "what")
        for entry in MODELS.values():
            where = _weights_file(entry)
            size = where.stat().st_size if where.is_file() else entry.size_bytes
            place = "not downloaded" if not where.is_file() else "in the package" if entry.url is None else str(where)
            table.add_row(
                entry.name,
                entry.architecture,
                str(entry.imgsz),
                f"{size / 1e6:.1f} MB" if size else "unknown",
                entry.licence,
                place,
                entry.description,
            )
        console().print(table)


@app.command()
def download(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="Models to download.")],
    debug: DebugOption = False,
) -> None:
    """Download models into the cache and check their sha256."""
    from fastsam_core import downloads
    from fastsam_core.cli._console import console, guarded
    from fastsam_core.registry import find_model

    with guarded(debug=debug):
        screen = console()
        for entry in [find_model(name) for name in names]:
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
    """Check the sha256 of downloaded models and that the built-in one can be read; exit code 1 if one is damaged."""
    from fastsam_core.cli._console import EXIT_FAILED, console, guarded
    from fastsam_core.registry import MODELS, find_model

    with guarded(debug=debug):
        entries = [find_model(name) for name in names] if names else list(MODELS.values())
        failed = False
        screen = console()
        for entry in entries:
            fine, verdict = _verdict(entry, asked=bool(names))
            failed |= not fine
            screen.print(f"{entry.name}: {verdict}", style=None if fine else "red")
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
        import safetensors

        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                tensors = len(list(file.keys()))
        except (safetensors.SafetensorError, OSError) as error:
            return False, f"damaged: {error}"
        return True, f"fine, {tensors} tensors, sha256 {downloads.file_sha256(path)}"
    sha256 = downloads.file_sha256(path)
    if entry.sha256 is None:
        return True, f"sha256 {sha256} (not in the table of models: compare it yourself)"
    return sha256 == entry.sha256, f"fine, sha256 {sha256}" if sha256 == entry.sha256 else f"damaged: sha256 {sha256}"


@contextmanager
def byte_progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar of bytes on a terminal; gives the callback that moves it."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from fastsam_core.cli._console import console

    screen = console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=screen, transient=True, disable=not screen.is_terminal
    ) as bar:
        task = bar.add_task(f"Downloading {name}", total=None, visible=False)

        def report(received: int, expected: int) -> None:
            bar.update(task, completed=received, total=expected or None, visible=True)

        yield report
