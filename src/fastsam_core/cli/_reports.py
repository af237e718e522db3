"""Showing and writing what an evaluation found."""

from __future__ import annotations

from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fastsam_core.cli._console import console, guarded, printable
from fastsam_core.cli._options import DebugOption
from fastsam_core.cli._progress import progress
from fastsam_core.cli._searching import option, parameters_of, with_parameters
from fastsam_core.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fastsam_core.evaluation.reports import Report
    from fastsam_core.evaluation.truth import TruthSet
    from fastsam_core.model import FastSAM, Settings

__all__ = ["choose", "described", "presented", "shown", "tracked"]

_PANEL: Final = "Results"
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write everything here.", rich_help_panel=_PANEL)]
MarkdownOption = Annotated[
    Path | None, typer.Option("--markdown", help="Write the tables here.", rich_help_panel=_PANEL)
]
PlotsOption = Annotated[Path | None, typer.Option("--plots", help="Folder for the plots.", rich_help_panel=_PANEL)]


def presented(*, plots: bool = False) -> Callable[[Callable[..., Report]], Callable[..., None]]:
    """Make a command show and write the report that it returns, with the options for that."""
    options = [option("json", JsonOption), option("markdown", MarkdownOption), option("plots", PlotsOption)]
    chosen = [*options[: 3 if plots else 2], option("debug", DebugOption, default=False)]

    def decorate(command: Callable[..., Report]) -> Callable[..., None]:
        @wraps(command)
        def run(
            *, json: Path | None, markdown: Path | None, plots: Path | None = None, debug: bool, **values: Any
        ) -> None:
            with guarded(debug=debug):
                _present(command(**values), json=json, markdown=markdown, plots=plots)

        return with_parameters(run, [*parameters_of(command), *chosen])

    return decorate


def _present(report: Report, *, json: Path | None, markdown: Path | None, plots: Path | None) -> None:
    """Show the tables on screen and write the files that were asked for."""
    from rich.table import Table

    from fastsam_core._files import atomic_path
    from fastsam_core.evaluation.reports import format_cell

    screen = console()
    for table in report.tables:
        grid = Table(*table.columns, title=printable(table.title), title_justify="left")
        for place, column in enumerate(grid.columns):
            if all(isinstance(row[place], int | float | None) for row in table.rows):
                column.justify = "right"
        for row in table.rows:
            grid.add_row(*(printable(format_cell(cell)) for cell in row))
        screen.print(grid)
    for note in report.notes:
        screen.print(printable(note))
    written: list[Path] = []
    if json is not None:
        written.append(report.save(json))
    if markdown is not None:
        with atomic_path(markdown) as temporary:
            temporary.write_text(report.to_markdown(), encoding="utf-8")
        written.append(markdown)
    if plots is not None:
        from fastsam_core.evaluation.plots import draw_curves

        written += draw_curves(report.curves, plots)
    if written:
        screen.print("written: " + ", ".join(printable(path) for path in written))


def described(report: Report, model: FastSAM, settings: Settings, **more: object) -> Report:
    """Add how and where the figures were measured."""
    from fastsam_core.evaluation._machine import describe_machine

    how: dict[str, object] = {"model": model.name}
    if model.info.sha256:
        how["weights_sha256"] = model.info.sha256[:16]
    sizes = "+".join(map(str, settings.imgsz)) + (", larger where objects are small" if settings.adaptive else "")
    how |= {"imgsz": sizes, "conf": settings.conf, "iou": settings.iou}
    if settings.tile_px is not None:
        how |= {"tile_px": settings.tile_px, "overlap_px": settings.overlap_px}
    how |= {"max_det": settings.max_det, "runtime": model.runtime, "precision": model.precision}
    return replace(report, settings={**how, **more}, machine=describe_machine(model.device))


def choose(truths: TruthSet, limit: int | None, only: Path | None) -> list[int]:
    """Choose images by ``--limit`` and ``--only``."""
    from fastsam_core.evaluation.truth import choose_images

    names = None
    if only is not None:
        try:
            names = [line.strip() for line in only.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidParameterError(
                f"Cannot read {only}",
                expected="names of images, one a line",
                actual=getattr(error, "strerror", None) or str(error),
                remedy="check the path that --only names",
            ) from error
    return choose_images(truths, limit=limit, only=names)


def shown(path: Path) -> str:
    """Name a data set by its last two folders, so that reports tell nothing of a machine."""
    return "/".join(path.resolve().parts[-2:])


def tracked(steps: Iterable[Any], total: int, text: str) -> Iterator[Any]:
    """Show a bar while stepping."""
    with progress(text, total) as bar:
        for step in steps:
            yield step
            bar.advance()
