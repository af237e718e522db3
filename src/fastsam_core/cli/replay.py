"""``fastsam replay``: do on a folder of images what a journal of the napari plugin says was done on one."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from fastsam_core.cli._console import EXIT_FAILED, console, guarded, printable
from fastsam_core.cli._options import (
    DebugOption,
    DeviceOption,
    ModelOption,
    OutOption,
    OverwriteOption,
    RuntimeOption,
    SkipExistingOption,
    TrustOption,
    read_existing,
)
from fastsam_core.cli._progress import progress
from fastsam_core.errors import FastSAMError, OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from fastsam_core.cli._options import Existing
    from fastsam_core.cli._progress import Bar
    from fastsam_core.replay import Replayed
    from fastsam_core.text import TextEncoder

__all__ = ["replay"]

_SUFFIX = "_labels.tif"


def replay(
    journal: Annotated[Path, typer.Argument(metavar="JOURNAL", help="A file that ends in .fastsam.jsonl.")],
    paths: Annotated[list[str], typer.Argument(metavar="IMAGES…", help="Image files, folders, patterns.")],
    model: ModelOption = "builtin",
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "auto",
    trust: TrustOption = False,
    out: OutOption = Path("fastsam-replay"),
    target: Annotated[
        str | None,
        typer.Option(
            help="The Labels layer whose labels are wanted, where the journal writes several.", metavar="NAME"
        ),
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Also look into sub-folders.")] = False,
    overwrite: OverwriteOption = False,
    skip_existing: SkipExistingOption = False,
    debug: DebugOption = False,
) -> None:
    """Segment images, and pick and edit labels as a journal of the napari plugin did on its image.

    Prompts are taken at the same pixels. One label image (TIFF) is written for each image; the journal of a stack asks
    for stacks with as many planes.
    Exit code: 0 all fine, 1 some failed, 2 wrong usage.

    fastsam replay .plate-1.tif.fastsam.jsonl plate/*.tif --out labels
    """
    with guarded(debug=debug):
        from fastsam_core import replay as replaying
        from fastsam_core._image_files import no_file
        from fastsam_core.cli._inputs import expand_paths
        from fastsam_core.cli._model import load_model
        from fastsam_core.cli._origins import note_origin
        from fastsam_core.journal import read_journal
        from fastsam_core.outputs import unique_names

        existing = read_existing(overwrite=overwrite, skip_existing=skip_existing)
        steps = read_journal(journal)
        axes = steps.header.get("image", {}).get("axes")
        which = {"journal": journal.name, "target": replaying.chosen_target(steps, target)}
        sources = expand_paths(paths, recursive=recursive, out=out)
        names = dict(zip(sources, unique_names(sources), strict=True))
        written = {source: out / f"{name}{_SUFFIX}" for source, name in names.items()}
        there = {source: path for source, path in written.items() if existing != "overwrite" and os.path.exists(path)}
        unwritten = [source for source in sources if source not in there]
        wanted = [source for source in unwritten if os.path.lexists(source)]
        missing = [no_file(os.fspath(source)) for source in unwritten if not os.path.lexists(source)]

        def save(source: Path, found: NDArray[np.int32]) -> int:
            count = _write(written[source], found, axes)
            note_origin(out, names[source], source, **which)
            return count

        failed = labels = 0
        refused = _refused(there, names, existing, out, which)
        with progress("Loading the model", len(wanted)) as bar:
            for reason in [*refused, *missing]:
                bar.log(Text(printable(reason), style="red"))
            if wanted:
                network = load_model(model, {"device": device, "runtime": runtime, "trust": trust}, bar)
                encoder = _encoder(steps.text_encoder, device, bar)
                bar.say("Replaying")
                with closing(replaying.replay(steps, wanted, network, encoder=encoder, target=target)) as results:
                    labels, failed = _save_all(results, wanted, save, bar)
        skipped = len(there) - len(refused)
        kept = f", {skipped} skipped" if skipped else ""
        done = f"{labels} objects in {len(wanted) - failed} of {len(sources)} images{kept}"
        console().print(f"{done}, written to {printable(out)}")
        if failed or refused or missing:
            raise typer.Exit(EXIT_FAILED)


def _refused(
    there: Mapping[Path, Path], names: Mapping[Path, str], existing: Existing, out: Path, which: Mapping[str, object]
) -> list[OutputError]:
    """Return what is wrong with results that are there already, by image: they were not expected, or are of another."""
    from fastsam_core.cli._batch import exists_already
    from fastsam_core.cli._origins import Origins

    if existing == "refuse" or not there:
        return [exists_already(path) for path in there.values()]
    origins = Origins(out)
    refused = []
    for source in there:
        try:
            origins.check(names[source], source, **which)
        except OutputError as error:
            refused.append(error)
    return refused


def _save_all(
    results: Iterable[Replayed], sources: Sequence[Path], save: Callable[[Path, NDArray[np.int32]], int], bar: Bar
) -> tuple[int, int]:
    """Save what is found in each image; returns the number of objects, and how many images failed."""
    objects = failed = 0
    for result in results:
        source, problem = sources[result.index], result.error
        if result.labels is not None:
            try:
                objects += save(source, result.labels)
            except OutputError as error:
                problem = error
        if problem is not None:
            failed += 1
            bar.log(Text(printable(f"{source}: {problem}"), style="red"))
        elif result.unanswered:
            bar.log(Text(printable(f"{source}: {result.unanswered} prompts found nothing")))
        bar.advance()
    return objects, failed


def _encoder(name: str | None, device: str, bar: Bar) -> TextEncoder | None:
    """Load the encoder behind picks by words; without it, they go by the boxes of the session."""
    if name is None:
        return None
    from fastsam_core.cli._text import load_encoder

    try:
        return load_encoder(name, device, bar)
    except FastSAMError as error:
        bar.log(Text(f"Words pick by the boxes of the session: {error}", style="yellow"))
        return None


def _write(path: Path, labels: NDArray[np.int32], names: Sequence[str] | None) -> int:
    """Write a label image, with the names of the journal's axes if it has as many; return the number of objects."""
    import numpy as np

    from fastsam_core._label_images import write_label_image

    if names is None or len(names) != labels.ndim:
        names = [f"axis {axis - labels.ndim}" for axis in range(labels.ndim)]
    write_label_image(path, labels, names)
    return len(np.unique(labels[labels > 0]))
