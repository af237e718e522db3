"""``fastsam data``: annotations of others into training data, and a look at it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fastsam_core.cli._console import console, guarded, printable
from fastsam_core.cli._options import DebugOption, read_list
from fastsam_core.cli._progress import progress
from fastsam_core.errors import InvalidParameterError

__all__ = ["app"]

app = typer.Typer(name="data", help="Make training data from annotated images, and look at it.", no_args_is_help=True)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Folder, annotation file or tar shard.")],
    kind: Annotated[str, typer.Option("--kind", "-k", help="sa1b, coco, panoptic, labels, beside or yolo.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the data set; sources add up.")],
    licence: Annotated[str, typer.Option("--licence", help="Licence of the source, as its maker states it.")],
    images: Annotated[Path | None, typer.Option("--images", "-i", help="Its images, if not beside.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the source; that of SOURCE by default.")] = None,
    coverage: Annotated[
        str | None, typer.Option("--coverage", help="How much is annotated: exhaustive, dense or partial.")
    ] = None,
    subset: Annotated[
        str | None, typer.Option("--subset", help="Share of the images, by a hash of their names: 1/50.")
    ] = None,
    val: Annotated[float, typer.Option("--val", min=0, max=0.9, help="Share of validation images.")] = 0.1,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a source of this name.")] = False,
    debug: DebugOption = False,
) -> None:
    """Add a source to a data set: one class, nested masks kept, hashes and licences in manifest.json."""
    with guarded(debug=debug):
        from fastsam_core._generators import outcome
        from fastsam_core.training.datasets import KINDS
        from fastsam_core.training.datasets import convert as convert_source
        from fastsam_core.training.datasets.records import BACKGROUND_WEIGHTS, read_share

        if kind not in KINDS:
            raise InvalidParameterError("Cannot read --kind", expected=f"one of {', '.join(KINDS)}", actual=kind)
        covered = None if coverage is None else read_list(coverage, tuple(BACKGROUND_WEIGHTS), "--coverage")[0]
        steps = convert_source(
            source,
            out,
            kind=kind,
            name=name or source.resolve().name.removesuffix(source.suffix),
            licence=licence,
            images=images,
            coverage=covered,
            subset=None if subset is None else read_share(subset),
            val_share=val,
            replace=replace,
        )
        first = next(steps)
        with progress("Converting", first.total) as bar:
            bar.advance()
            entry = outcome(steps, lambda _: bar.advance())
        screen = console()
        counts = [f"{entry.images[split]} images, {entry.instances[split]} instances" for split in ("train", "val")]
        screen.print(f"{entry.name}: train {counts[0]}; val {counts[1]}; {entry.coverage} annotations")
        if entry.with_holes:
            screen.print(f"{entry.with_holes} instances have holes, which YOLO polygons lose (rle/ keeps them)")
        if entry.broken:
            screen.print(
                f"not used: {len(entry.broken)}, listed in manifest.json; the first: "
                f"{printable(entry.broken[0].name)}: {printable(entry.broken[0].reason)}"
            )
        screen.print(f"written: {printable(out / 'data.yaml')}")


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A converted data set.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the files; DIR/report.")] = None,
    debug: DebugOption = False,
) -> None:
    """Draw masks over some images, and histograms of their size, number and nesting."""
    with guarded(debug=debug):
        from fastsam_core.training.datasets.report import write_report

        written = write_report(folder, out)
        console().print("written: " + ", ".join(printable(path) for path in written.values()))
