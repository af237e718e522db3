"""``fastsam stack``: z and time stacks in; label stacks, measurements, COCO files and sheets of planes out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastsam_core._defaults import MAX_DET, MAX_PIXELS, OVERLAP_PX
from fastsam_core.cli._console import EXIT_FAILED, console, guarded
from fastsam_core.cli._options import (
    AxesOption,
    ChannelsOption,
    DebugOption,
    DeviceOption,
    ImgszOption,
    IntensitiesOption,
    IouOption,
    JsonlOption,
    LevelOption,
    MaxPixelsOption,
    ModelOption,
    OutOption,
    OverlapOption,
    OverwriteOption,
    PixelSizeOption,
    PrecisionOption,
    RecursiveOption,
    RuntimeOption,
    SeriesOption,
    SkipExistingOption,
    StackFormatOption,
    TileOption,
    TrustOption,
    read_axes,
    read_axis,
    read_channels,
    read_contrast,
    read_existing,
    read_list,
    read_pixel_size,
    read_plane,
    read_series,
    read_sizes,
)
from fastsam_core.cli._progress import progress
from fastsam_core.errors import FastSAMError, InvalidParameterError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastsam_core.cli._batch import Job, Outcome
    from fastsam_core.cli._progress import Bar
    from fastsam_core.model import FastSAM
    from fastsam_core.stacks import PlaneStep

__all__ = ["stack"]

_LINKING = "Linking"
_SEARCH = "Search"
_READING = "Reading images"
_SEARCHING = ("imgsz", "conf", "iou", "max_det", "tile_px", "overlap_px")
_FORMATS = ["overlay,labels,coco,csv,objects"]
_MOST_PICTURES = 12
_PICTURE_BYTES = 2**28
"""Planes that the sheet shows are kept in memory until the stack is done: at most as much as this."""


def _above_zero(value: float) -> float:
    """Refuse 0, which masks that do not even touch have, too, and NaN, which typer before 0.29 lets through."""
    if not value > 0:
        raise typer.BadParameter(f"{value} is not in the range 0<x<=1.")
    return value


def stack(
    paths: Annotated[list[str], typer.Argument(metavar="PATHS…", help="Stacks: files, folders, patterns.")],
    axis: Annotated[
        str | None,
        typer.Option(metavar="Z|T|…", help="Axis to go along; the longest by default.", rich_help_panel=_LINKING),
    ] = None,
    min_iou: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            callback=_above_zero,
            help="Masks that overlap less are different objects.",
            rich_help_panel=_LINKING,
        ),
    ] = 0.25,
    max_gap: Annotated[
        int, typer.Option(min=0, help="Planes that an object may miss and go on.", rich_help_panel=_LINKING)
    ] = 1,
    min_planes: Annotated[
        int, typer.Option(min=1, help="Leave out objects that fewer planes show.", rich_help_panel=_LINKING)
    ] = 1,
    model: ModelOption = "builtin",
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "auto",
    precision: PrecisionOption = "fp32",
    trust: TrustOption = False,
    imgsz: ImgszOption = None,
    conf: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Lowest score; the model's own by default.", rich_help_panel=_SEARCH),
    ] = None,
    iou: IouOption = None,
    max_det: Annotated[
        int, typer.Option(min=1, help="Most masks of one plane, or of a tile.", rich_help_panel=_SEARCH)
    ] = MAX_DET,
    tile_px: TileOption = None,
    overlap_px: OverlapOption = OVERLAP_PX,
    channels: ChannelsOption = None,
    axes: AxesOption = None,
    plane: Annotated[
        str | None,
        typer.Option(metavar="T=2", help="Where to stay along further axes.", rich_help_panel=_READING),
    ] = None,
    contrast: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,HIGH|percentile",
            help="Values shown black and white; by default the same for all planes. percentile: each its own.",
            rich_help_panel=_READING,
        ),
    ] = None,
    level: LevelOption = 0,
    series: SeriesOption = "0",
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    out: OutOption = Path("fastsam-output"),
    formats: StackFormatOption = _FORMATS,
    pixel_size: PixelSizeOption = None,
    z_step: Annotated[
        float | None,
        typer.Option(metavar="UM", help="Distance of planes in micrometres, for volumes.", rich_help_panel="Results"),
    ] = None,
    intensities: IntensitiesOption = False,
    recursive: RecursiveOption = False,
    jsonl: JsonlOption = False,
    overwrite: OverwriteOption = False,
    skip_existing: SkipExistingOption = False,
    debug: DebugOption = False,
) -> None:
    """Segment stacks plane by plane, and link what overlaps in neighbouring planes into objects.

    An object has one number in all planes of the label stack. One plane is in memory at a time.
    A plane that cannot be read stays empty and is reported.
    Exit code: 0 all fine, 1 some failed, 2 wrong usage.

    fastsam stack embryo.tif --axis Z --min-planes 3

    fastsam stack movies/ --axis T --channels 0
    """
    with guarded(debug=debug):
        existing = read_existing(overwrite=overwrite, skip_existing=skip_existing)
        options: dict[str, Any] = {
            "axis": read_axis(axis),
            "plane": _other_axes(plane),
            "channels": read_channels(channels),
            "axes": read_axes(axes),
            "contrast": read_contrast(contrast),
            "level": level,
            "max_pixels": max_pixels,
            "min_iou": min_iou,
            "max_gap": max_gap,
            "imgsz": read_sizes(imgsz),
            "conf": conf,
            "iou": iou,
            "max_det": max_det,
            "tile_px": tile_px,
            "overlap_px": overlap_px,
        }
        loading = {"device": device, "precision": precision, "runtime": runtime, "trust": trust}
        from fastsam_core._checks import as_distance
        from fastsam_core.cli._batch import plan, summarise
        from fastsam_core.cli._inputs import expand_paths, images_in_files
        from fastsam_core.cli._measuring import Measuring
        from fastsam_core.cli._prompts import PromptSet
        from fastsam_core.outputs import STACK_FORMATS

        if z_step is not None:
            as_distance("--z-step", z_step)
        chosen = read_list(",".join(formats), STACK_FORMATS, "--format")
        measuring = Measuring.asked(
            chosen, read_pixel_size(pixel_size), intensities=intensities, reading=options, z_step_um=z_step
        )
        sources = expand_paths(paths, recursive=recursive, out=out)
        writing: dict[str, Any] = {"formats": chosen, "out": out, "measuring": measuring}
        images = images_in_files(sources, read_series(series), axes=axes, level=level, max_pixels=max_pixels)
        along = options["axis"] or "longest"
        planned = list(plan(images, lambda _: PromptSet(), **writing, existing=existing, axis=along))
        outcomes = _run(planned, model, loading, options, min_planes, jsonl=jsonl)
        summarise(outcomes, out, jsonl=jsonl)
        if any(outcome.status == "failed" or outcome.unreadable for outcome in outcomes):
            raise typer.Exit(EXIT_FAILED)


def _other_axes(text: str | None) -> Mapping[str, int] | None:
    """Read ``T=2,C=1``; a number alone says nothing about which axis it is of."""
    plane = read_plane(text)
    if plane is None or isinstance(plane, Mapping):
        return plane
    raise InvalidParameterError("Cannot read --plane", expected="an axis and an index, e.g. 'T=2'", actual=repr(text))


def _run(
    planned: list[Job | Outcome],
    model: str,
    loading: dict[str, Any],
    options: dict[str, Any],
    min_planes: int,
    *,
    jsonl: bool,
) -> list[Outcome]:
    """Do the jobs, one stack after the other; returns what became of each, in order."""
    from fastsam_core.cli._batch import Outcome, report

    outcomes: list[Outcome] = []
    screen = console(stderr=True)
    network: FastSAM | None = None
    with progress("Loading the model", len(planned), visible=screen.is_terminal or not jsonl) as bar:
        for entry in planned:
            if isinstance(entry, Outcome):
                outcome = entry
            else:
                if network is None:
                    from fastsam_core.cli._model import load_model

                    network = load_model(model, loading, bar)
                    network.settings(**{name: options[name] for name in _SEARCHING})  # raises what is wrong usage
                outcome = _segment(entry, network, options, min_planes, bar)
            outcomes.append(outcome)
            report(outcome, bar, jsonl=jsonl)
            bar.advance()
    return outcomes


class _Watch:
    """What the planes of a stack tell besides their masks, and how far it is."""

    def __init__(self, job: Job, bar: Bar) -> None:
        self._job, self._bar = job, bar
        self._title = job.source.name + (f" [{job.series}]" if job.several else "")
        self._now = self._title
        self.pictures: dict[int, NDArray[np.uint8]] = {}
        self.unreadable: list[FastSAMError] = []
        self.places: list[Mapping[str, int]] = []
        self.facts: Mapping[str, Any] = {}
        self.size_um: tuple[float, float] | None = None
        self.z_step_um = job.measuring.z_step_um
        self.seconds, self.full, self.images = 0.0, False, 1
        bar.say(self._now)

    def on_tile(self, number: int, count: int) -> None:
        self._bar.say(f"{self._now}, tile {number} of {count}")

    def iterate(self, steps: Iterable[PlaneStep]) -> Iterator[PlaneStep]:
        """Give the steps on."""
        from fastsam_core.cli._batch import check_single, images_in

        job = self._job
        for step in steps:
            self._now = f"{self._title}, {step.axis} {min(step.index + 2, step.count)} of {step.count}"
            self._bar.say(self._now)
            self.seconds += step.seconds
            self.full |= step.masks.at_limit
            if step.error is not None:
                self.unreadable.append(step.error)
            else:
                self.facts, self.size_um = step.image.recipe, job.measuring.pixel_size_um(step.image)
                check_single(job, self.facts)
                self.images = max(self.images, images_in(self.facts))
                self.z_step_um = job.measuring.z_step_um or step.image.z_step_um
            read: Mapping[str, Any] = step.image.recipe
            self.places.append(read.get("plane", {}))
            if "overlay" in job.formats and step.index in _shown_planes(step):
                self.pictures[step.index] = step.image.rgb8
            yield step


def _segment(job: Job, model: FastSAM, options: dict[str, Any], min_planes: int, bar: Bar) -> Outcome:
    """Segment a stack and write the results; errors become part of the outcome."""
    from fastsam_core.outputs import write_stack
    from fastsam_core.stacks import LinkedStack, segment_stack

    seen = _Watch(job, bar)
    try:
        with closing(
            segment_stack(job.source, model, on_tile=seen.on_tile, skip_unreadable=True, **job.reading(options))
        ) as steps:
            linked = LinkedStack.of(seen.iterate(steps)).seen_in(min_planes)
        bar.say(f"Writing {job.name}")
        outputs = write_stack(
            job.out,
            job.name,
            linked,
            seen.pictures,
            formats=job.formats,
            file_name=job.source.name,
            pixel_size_um=seen.size_um,
            intensities=job.measuring.of_planes(job.source, linked.planes, seen.places, job.series),
            z_step_um=seen.z_step_um,
            full_hw=seen.facts.get("full_hw"),
        )
        job.note_origin()
    except FastSAMError as error:
        return job.outcome("failed", error=error)
    return job.outcome(
        "ok",
        image_hw=linked.image_hw,
        masks=sum(map(len, linked.planes)),
        seconds=seen.seconds,
        outputs=outputs,
        full=seen.full,
        planes=len(linked.planes),
        objects=len(linked),
        images=1 if job.several else seen.images,
        unreadable=tuple(seen.unreadable),
    )


def _shown_planes(step: PlaneStep) -> set[int]:
    """Return the planes that the sheet shows, spread evenly, as many as memory allows."""
    from fastsam_core.evaluation.truth import evenly

    return set(evenly(step.count, min(_MOST_PICTURES, max(1, _PICTURE_BYTES // step.image.rgb8.nbytes))))
