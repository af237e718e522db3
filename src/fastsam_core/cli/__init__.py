"""The command ``fastsam``: segment files and folders, manage models, show what is installed, run the demo.

Only typer and rich are imported here, so that ``--help`` answers at once; each command imports what it needs when it
runs.
"""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from fastsam_core.cli import data, demo, evaluate, info, models, replay, segment, stack, train
from fastsam_core.cli._plugins import CommandGroup

__all__ = ["app", "main"]

app = typer.Typer(
    name="fastsam",
    cls=CommandGroup,
    help="Segment everything in images with FastSAM, then pick masks by point, box or polygon.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("segment")(segment.segment)
app.command("stack")(stack.stack)
app.command("demo")(demo.demo)
app.command("replay")(replay.replay)
app.add_typer(models.app, name="models")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(data.app, name="data")
app.command("train")(train.train)
app.command("finetune")(train.finetune)
app.command("info")(info.info)


def _show_version(wanted: bool) -> None:
    if wanted:
        from fastsam_core._version import __version__

        typer.echo(f"fastsam {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line and exit with its code: 0 all fine, 1 something failed, 2 wrong usage, 130 interrupted."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # names, and lines of tables, that its encoding lacks end no work
    app(prog_name="fastsam")
