"""Segment a list of files one by one, write the results, and tell what became of each."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from fastsam_core._files import check_writable
from fastsam_core._image_files import no_file
from fastsam_core.cli._console import console, printable
from fastsam_core.cli._inputs import ImageIn
from fastsam_core.cli._measuring import Measuring
from fastsam_core.cli._origins import Origins, note_origin
from fastsam_core.cli._prompts import PromptSet
from fastsam_core.confidence import best_conf
from fastsam_core.errors import FastSAMError, ImageContentError, InvalidParameterError, OutputError
from fastsam_core.outputs import Format, output_paths, unique_names, write_outputs

if TYPE_CHECKING:
    from rich.table import Table

    from fastsam_core.cli._options import Existing
    from fastsam_core.cli._progress import Bar
    from fastsam_core.cli._text import TextAnswers
    from fastsam_core.pipeline import Step
    from fastsam_core.text.crops import Pixels

__all__ = [
    "Job",
    "Outcome",
    "check_single",
    "exists_already",
    "finish",
    "images_in",
    "outcome_table",
    "plan",
    "report",
    "summarise",
]


_MOST_ROWS = 60
_IN_PIXELS = Measuring()


@dataclass(frozen=True, slots=True)
class Job:
    """One image to segment and where its results go."""

    source: Path
    name: str
    prompts: PromptSet
    formats: Sequence[Format]
    out: Path
    measuring: Measuring = _IN_PIXELS
    series: int = 0
    several: bool = False
    """Whether other images of the file are segmented as well."""
    axis: str | None = None
    """Which axis a stack goes along, ``"longest"`` where none was chosen; None for single planes."""

    def reading(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keywords of `read_image` for this image."""
        return {**options, "series": self.series}

    @property
    def which(self) -> dict[str, Any]:
        """Which image of the file it is, in JSON values."""
        plane = self.measuring.plane
        which = {"series": self.series, "plane": dict(plane) if isinstance(plane, Mapping) else plane}
        return which if self.axis is None else {**which, "axis": self.axis}

    def note_origin(self) -> None:
        """Keep beside the results which image they are of."""
        note_origin(self.out, self.name, self.source, **self.which)

    def outcome(self, status: Literal["ok", "skipped", "failed"], **facts: Any) -> Outcome:
        """Say what became of it."""
        return Outcome(self.source, status, **facts, series=self.series if self.several else None)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one image; ``full`` where as many masks were found as were allowed.

    Of a stack, ``planes`` says how many it has, and ``objects`` how many objects its masks belong to; of a single plane
    ``left_out`` says how many others its file has. ``images`` is how many images the file holds, of which the first was
    segmented; 1 where another was chosen. ``series`` is which one this is, where all are segmented. ``unreadable`` are
    the errors of planes that stayed empty, and ``drawn_on`` the plane of the prompts where it is not that of the image.
    """

    source: Path
    status: Literal["ok", "skipped", "failed"]
    image_hw: tuple[int, int] | None = None
    masks: int | None = None
    unmatched: int = 0
    seconds: float | None = None
    outputs: Mapping[Format, Path] = field(default_factory=dict)
    error: FastSAMError | None = None
    full: bool = False
    planes: int | None = None
    objects: int | None = None
    left_out: int = 0
    images: int = 1
    unreadable: tuple[FastSAMError, ...] = ()
    series: int | None = None
    drawn_on: str | None = None

    @property
    def title(self) -> str:
        """The file, and which of its images where there are several."""
        return os.fspath(self.source) if self.series is None else f"{self.source} [{self.series}]"

    def to_json(self) -> dict[str, Any]:
        """Return the line for ``--jsonl``."""
        line: dict[str, Any] = {"source": os.fspath(self.source), "status": self.status}
        if self.series is not None:
            line["series"] = self.series
        if self.status == "ok":
            line |= {
                "image_hw": self.image_hw,
                "masks": self.masks,
                "unmatched_prompts": self.unmatched,
                "seconds": None if self.seconds is None else round(self.seconds, 4),
            }
            if self.planes is not None:
                line |= {"planes": self.planes, "objects": self.objects}
            if self.drawn_on is not None:
                line["prompts_drawn_on"] = self.drawn_on
            if self.unreadable:
                line["unreadable_planes"] = [str(error) for error in self.unreadable]
        if self.outputs:
            line["outputs"] = {kind: os.fspath(path) for kind, path in self.outputs.items()}
        if self.error is not None:
            line["error"] = {"type": type(self.error).__name__, "message": str(self.error)}
        return line


def plan(
    sources: Sequence[ImageIn],
    prompts_of: Callable[[Path], PromptSet],
    *,
    formats: Sequence[Format],
    out: Path,
    existing: Existing,
    measuring: Measuring = _IN_PIXELS,
    axis: str | None = None,
) -> Iterator[Job | Outcome]:
    """Say for each file what is to be done, or why nothing is: it is missing, or its results cannot be written.

    Parameters
    ----------
    sources : sequence of ImageIn
        Images of files.
    prompts_of : callable
        Gives the prompts of a file; may raise FastSAMError.
    formats : sequence of {"overlay", "labels", "coco", "csv", "objects", "geojson", "rois"}
        What is to be written; objects are those of stacks.
    out : Path
        Folder for the results.
    existing : {"refuse", "overwrite", "skip"}
        What to do about results that are there already; ``"skip"`` only skips images that have all of them, and keeps
        what is known to be of other images.
    measuring : Measuring
        What the tables hold.
    axis : str, optional
        Of stacks, as in `Job`.

    Yields
    ------
    Job or Outcome
        In the order of ``sources``.
    """
    origins = Origins(out) if existing == "skip" else None
    for image, name in zip(sources, _names(sources), strict=True):
        paths = output_paths(out, name, formats)
        job = Job(image.path, name, PromptSet(), formats, out, measuring, image.series, image.last > 0, axis)
        there = {kind: path for kind, path in paths.items() if os.path.exists(path)}
        try:
            if origins is not None and there:
                origins.check(name, image.path, **job.which)
            if existing == "skip" and len(there) == len(paths):
                yield job.outcome("skipped", outputs=paths)
                continue
            if existing == "refuse" and there:
                raise exists_already(next(iter(there.values())))
            if not os.path.lexists(image.path):  # before the model is loaded
                raise no_file(os.fspath(image.path))
            check_writable(max(paths.values(), key=lambda path: len(path.name)))
            yield replace(job, prompts=prompts_of(image.path))
        except FastSAMError as error:
            yield job.outcome("failed", error=error)


def exists_already(path: Path) -> OutputError:
    """Return the error about a result that would be written over."""
    return OutputError(f"{path} exists already", remedy="add --overwrite or --skip-existing, or choose another --out")


def _names(images: Sequence[ImageIn]) -> list[str]:
    """Return a stem for the results of each image.

    Raises
    ------
    InvalidParameterError
        If an image of a file would have the name of another file.
    """
    paths = list(dict.fromkeys(image.path for image in images))
    stems = dict(zip(paths, unique_names(paths), strict=True))
    names = [stems[image.path] + image.ending for image in images]
    name, times = Counter(name.casefold() for name in names).most_common(1)[0] if names else ("", 1)
    if times > 1:
        raise InvalidParameterError(
            "Results of two images would have one name", actual=name, remedy="segment one of their files by itself"
        )
    return names


def finish(
    job: Job,
    step: Step,
    texts: TextAnswers | None = None,
    *,
    conf: float | Literal["auto"] = 0.0,
    pixels: Pixels | None = None,
) -> Outcome:
    """Answer the prompts and write the results of one image; errors become part of the outcome.

    ``texts`` answers texts, if there are any, about ``pixels`` where the step's image has not all of them. Masks below
    ``conf`` only answer prompts that say where something is.
    """
    if step.error is not None or step.masks is None or step.image is None:
        return job.outcome("failed", seconds=step.seconds, error=step.error)
    try:
        conf = best_conf(step.masks.scores) if conf == "auto" else conf
        everything = masks = step.masks.filter(min_score=conf)
        unmatched = 0
        recipe: Mapping[str, Any] = step.image.recipe
        if any(recipe.get("plane", {}).values()):
            check_single(job, recipe)
        full_hw = recipe.get("full_hw")
        image_rgb8 = step.image.rgb8 if pixels is None else pixels
        prompts = job.prompts.at_level(masks.image_hw, full_hw or masks.image_hw)
        if prompts:
            masks, unmatched = prompts.answer(step.masks, image_rgb8, texts, shown=everything)
        origin = {"source": os.fspath(job.source), **({"series": job.series} if job.several else {})}
        intensities = job.measuring.intensities(job.source, masks, job.series) if "csv" in job.formats else None
        outputs = write_outputs(
            job.out,
            job.name,
            masks.with_metadata(**origin),
            step.image.rgb8,
            formats=job.formats,
            file_name=job.source.name,
            prompts=prompts.prompts,
            pixel_size_um=job.measuring.pixel_size_um(step.image),
            intensities=intensities,
            full_hw=full_hw,
        )
        job.note_origin()
    except FastSAMError as error:
        return job.outcome("failed", seconds=step.seconds, error=error)
    no_stack = recipe.get("sizes_differ") or (job.several and recipe.get("pages_are_images"))
    return job.outcome(
        "ok",
        image_hw=masks.image_hw,
        masks=len(masks),
        unmatched=unmatched,
        seconds=step.seconds,
        outputs=outputs,
        full=everything.at_limit,
        left_out=0 if no_stack else recipe.get("pages", 1) - 1,
        images=1 if job.several else images_in(recipe),
        drawn_on=prompts.other_plane(recipe),
    )


def check_single(job: Job, recipe: Mapping[str, Any]) -> None:
    """Make sure that an image of several is not read as a stack of them all.

    Raises
    ------
    ImageContentError
        If it is.
    """
    if job.several and recipe.get("pages_are_images"):
        raise ImageContentError(
            f"Image {job.series} of the file has one plane",
            expected="plane 0",
            actual="a stack of all images of the file",
            remedy="leave out --series all to take the images for planes of a stack",
        )


def images_in(recipe: Mapping[str, Any]) -> int:
    """Return how many images a file holds, of which the first was read without anybody having chosen it."""
    images: int = recipe.get("images", 1)
    return 1 if recipe.get("series") else images


def outcome_table(outcomes: Iterable[Outcome], *, prompted: bool) -> Table:
    """Lay out image, size, masks and seconds; of very long lists the first rows and all failures."""
    from rich.table import Table

    outcomes = list(outcomes)
    stacks = any(outcome.planes is not None for outcome in outcomes)
    table = Table("stack" if stacks else "image", "size")
    titles = [*(["objects"] if stacks else []), "masks", *(["unmatched prompts"] if prompted else []), "seconds"]
    for title in titles:
        table.add_column(title, justify="right")
    left_out = 0
    for row, outcome in enumerate(outcomes):
        if row >= _MOST_ROWS and outcome.status != "failed":
            left_out += 1
            continue
        size = f"{outcome.image_hw[1]} × {outcome.image_hw[0]}" if outcome.image_hw else ""
        size += f" × {outcome.planes}" if outcome.planes is not None else ""
        count = str(outcome.masks) if outcome.status == "ok" else outcome.status
        seconds = "" if outcome.seconds is None else f"{outcome.seconds:.2f}"
        cells = [printable(outcome.title), size]
        cells += ["" if outcome.objects is None else str(outcome.objects)] if stacks else []
        cells += [count]
        cells += [str(outcome.unmatched) if outcome.status == "ok" else ""] if prompted else []
        table.add_row(*cells, seconds, style="red" if outcome.status == "failed" else None)
    if left_out:
        table.add_row(f"… and {left_out} more")
    return table


def report(outcome: Outcome, bar: Bar, *, jsonl: bool) -> None:
    """Print the line for programs, and above the bar what went wrong."""
    if jsonl:
        typer.echo(json.dumps(outcome.to_json()))
    errors = [*outcome.unreadable, *([] if outcome.error is None else [outcome.error])]
    if errors:
        from rich.text import Text

        for error in errors:
            name, problem = printable(f"{outcome.title}: "), printable(error)
            bar.log(Text(name, style="bold red").append(problem, style="not bold red"))


def summarise(outcomes: Sequence[Outcome], out: Path, *, prompted: bool = False, jsonl: bool) -> None:
    """Print the table of all images and how many there are of each kind."""
    screen = console(stderr=jsonl)
    screen.print(outcome_table(outcomes, prompted=prompted))
    counts = Counter(outcome.status for outcome in outcomes)
    words = [f"{counts['ok']} segmented"]
    words += [f"{counts[status]} {status}" for status in ("skipped", "failed") if counts[status]]
    screen.print(f"{', '.join(words)}; results in {printable(out)}")
    if unreadable := sum(len(outcome.unreadable) for outcome in outcomes):
        screen.print(f"Planes that could not be read, and are empty: {unreadable}.")
    if elsewhere := [outcome.drawn_on for outcome in outcomes if outcome.drawn_on is not None]:
        others = f"--plane {elsewhere[0]} takes theirs"
        screen.print(f"Prompts that were drawn on another plane than the one segmented: {len(elsewhere)}. {others}.")
    if several := sum(outcome.images > 1 for outcome in outcomes):
        others = "--series all takes all, --series with a number another one (where it is too high, it lists them)"
        screen.print(f"Files with several images, of which the first was segmented: {several}. {others}.")
    if full := sum(outcome.full for outcome in outcomes):
        screen.print(f"In {full} of them as many masks were found as --max-det allows: there may be more.")
