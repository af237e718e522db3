"""``fastsam segment``: files, folders and patterns in; overlays, label maps, COCO files and measurements out."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fastsam_core._defaults import MAX_DET, MAX_PIXELS, OVERLAP_PX, PROMPT_CONF
from fastsam_core.cli._console import EXIT_FAILED, console, guarded, printable
from fastsam_core.cli._options import (
    AxesOption,
    ChannelsOption,
    DebugOption,
    DeviceOption,
    FormatOption,
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
    TileOption,
    TrustOption,
    read_axes,
    read_channels,
    read_conf,
    read_contrast,
    read_existing,
    read_list,
    read_pixel_size,
    read_plane,
    read_series,
    read_sizes,
)
from fastsam_core.cli._progress import progress
from fastsam_core.cli._text import (
    NotOption,
    TextCacheOption,
    TextEncoderOption,
    TextModeOption,
    TextOptions,
    TextThresholdOption,
    TextTopOption,
)
from fastsam_core.errors import ImageTooLargeError, InvalidParameterError

if TYPE_CHECKING:
    from fastsam_core.cli._batch import Job, Outcome
    from fastsam_core.cli._prompts import PromptFile
    from fastsam_core.images import Image

__all__ = ["segment"]

_PROMPTS = "Prompts (all masks are written without any)"
_SEARCH = "Search"
_READING = "Reading images"
_MOST_NAMES = 5
_FIRST_IMAGE = "0"
_FIRST_PLANE = "0"
_FORMATS = ["overlay,labels,coco,csv"]
_LARGE_PX = 4096
"""Images whose longer side is above this may be mosaics or slides with many small objects."""


def segment(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATHS…", help="Image files, folders, patterns like 'a/**/*.tif'.")
    ],
    points: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y[,0];…",
            help="Points of one object (0: not on it). Repeat for more objects.",
            rich_help_panel=_PROMPTS,
        ),
    ] = None,
    boxes: Annotated[
        list[str] | None,
        typer.Option(metavar="X0,Y0,X1,Y1;…", help="Boxes, one object each.", rich_help_panel=_PROMPTS),
    ] = None,
    polygon: Annotated[
        list[str] | None,
        typer.Option(metavar="X,Y;X,Y;X,Y…", help="Outline of an object. Repeat for more.", rich_help_panel=_PROMPTS),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="Description of an object. Repeat for more.", rich_help_panel=_PROMPTS)
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Prompts for all or each of the images (.json), or what was drawn in QuPath (.geojson) or ImageJ "
            "(.roi, .zip).",
            rich_help_panel=_PROMPTS,
        ),
    ] = None,
    negatives: NotOption = None,
    text_encoder: TextEncoderOption = None,
    text_mode: TextModeOption = "best",
    text_top: TextTopOption = 5,
    text_threshold: TextThresholdOption = None,
    text_cache: TextCacheOption = None,
    model: ModelOption = "builtin",
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "auto",
    precision: PrecisionOption = "fp32",
    trust: TrustOption = False,
    imgsz: ImgszOption = None,
    conf: Annotated[
        str | None,
        typer.Option(
            metavar="0…1|auto",
            help="Lowest score, or one chosen for each image; by default the model's own, and "
            f"{PROMPT_CONF} for prompts that say where something is.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    iou: IouOption = None,
    max_det: Annotated[
        int, typer.Option(min=1, help="Most masks of one image, or of a tile.", rich_help_panel=_SEARCH)
    ] = MAX_DET,
    tile_px: TileOption = None,
    overlap_px: OverlapOption = OVERLAP_PX,
    channels: ChannelsOption = None,
    axes: AxesOption = None,
    plane: Annotated[
        str, typer.Option(metavar="N|T=2,Z=5", help="Plane of a stack.", rich_help_panel=_READING)
    ] = _FIRST_PLANE,
    contrast: Annotated[
        str | None,
        typer.Option(metavar="LOW,HIGH|percentile", help="Values shown black and white.", rich_help_panel=_READING),
    ] = None,
    level: LevelOption = 0,
    series: SeriesOption = _FIRST_IMAGE,
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    out: OutOption = Path("fastsam-output"),
    formats: FormatOption = _FORMATS,
    pixel_size: PixelSizeOption = None,
    intensities: IntensitiesOption = False,
    recursive: RecursiveOption = False,
    jsonl: JsonlOption = False,
    overwrite: OverwriteOption = False,
    skip_existing: SkipExistingOption = False,
    debug: DebugOption = False,
) -> None:
    """Segment everything in images, or what prompts ask for, and write the results.

    A file that cannot be read is reported and does not stop the others.
    Exit code: 0 all fine, 1 some failed, 2 wrong usage.

    fastsam segment photos/ --out masks

    fastsam segment cells.tif --points "120,80;130,90,0" --format overlay,csv
    """
    with guarded(debug=debug):
        existing = read_existing(overwrite=overwrite, skip_existing=skip_existing)
        reading: dict[str, Any] = {
            "channels": read_channels(channels),
            "axes": read_axes(axes),
            "plane": read_plane(plane),
            "contrast": read_contrast(contrast),
            "level": level,
            "max_pixels": max_pixels,
        }
        loading = {"device": device, "precision": precision, "runtime": runtime, "trust": trust}
        search = {
            "imgsz": read_sizes(imgsz),
            "conf": read_conf(conf),
            "iou": iou,
            "max_det": max_det,
            "tile_px": tile_px,
            "overlap_px": overlap_px,
        }
        text_options = TextOptions(tuple(negatives or ()), text_mode, text_top, text_threshold)
        prompt_file = _prompt_file(prompts, points, boxes, polygon, text, text_options)
        if prompt_file.texts:
            from fastsam_core.text._weights import import_open_clip

            import_open_clip()  # a missing extra is said at once
        from fastsam_core.cli._batch import plan, summarise
        from fastsam_core.cli._inputs import expand_paths, images_in_files
        from fastsam_core.cli._measuring import Measuring
        from fastsam_core.outputs import FORMATS

        chosen = read_list(",".join(formats), FORMATS, "--format")
        measuring = Measuring.asked(chosen, read_pixel_size(pixel_size), intensities=intensities, reading=reading)
        sources = expand_paths(paths, recursive=recursive, out=out)
        writing: dict[str, Any] = {"formats": chosen, "out": out, "measuring": measuring}
        images = images_in_files(sources, read_series(series), axes=axes, level=level, max_pixels=max_pixels)
        planned = plan(images, prompt_file.of, **writing, existing=existing)
        encoding = {"name": text_encoder, "device": device, "cache": text_cache}
        outcomes = _run(list(planned), model, loading, search, reading, prompt_file, encoding=encoding, jsonl=jsonl)
        summarise(outcomes, out, prompted=prompt_file.prompted, jsonl=jsonl)
        _suggest(outcomes, whole=tile_px is None, any_plane=plane == _FIRST_PLANE, jsonl=jsonl)
        _warn_of_unused(prompt_file.unused(sources), jsonl=jsonl)
        if any(outcome.status == "failed" for outcome in outcomes):
            raise typer.Exit(EXIT_FAILED)


def _prompt_file(
    path: Path | None,
    points: list[str] | None,
    boxes: list[str] | None,
    polygons: list[str] | None,
    text: list[str] | None,
    text_options: TextOptions,
) -> PromptFile:
    """Return the prompts of the file or those typed, whichever is there."""
    from fastsam_core.cli._prompts import PromptFile, PromptSet

    typed = PromptSet.typed(points or (), boxes or (), polygons or (), text or (), text_options)
    if path is not None and typed:
        raise InvalidParameterError("--prompts and prompts on the command line exclude each other")
    prompts = PromptFile.load(path, text_options) if path is not None else PromptFile(typed, {})
    if text_options.negatives and not prompts.texts:
        raise InvalidParameterError("--not goes with --text", remedy="say with --text what is wanted")
    return prompts


def _run(
    planned: list[Job | Outcome],
    model: str,
    loading: dict[str, Any],
    search: dict[str, Any],
    reading: dict[str, Any],
    prompts: PromptFile,
    *,
    encoding: dict[str, Any],
    jsonl: bool,
) -> list[Outcome]:
    """Do the jobs; returns what became of each image, in order."""
    from fastsam_core.cli._batch import Job, Outcome, finish, report

    results: list[Outcome | None] = [entry if isinstance(entry, Outcome) else None for entry in planned]
    jobs = [(place, entry) for place, entry in enumerate(planned) if not isinstance(entry, Outcome)]
    screen = console(stderr=True)
    with progress("Loading the model", len(jobs), visible=screen.is_terminal or not jsonl) as bar:
        for outcome in results:
            if outcome is not None:
                report(outcome, bar, jsonl=jsonl)
        if jobs:
            from fastsam_core.cli._large import in_tiles
            from fastsam_core.cli._model import load_model
            from fastsam_core.cli._text import load_text_answers
            from fastsam_core.images import read_image
            from fastsam_core.pipeline import iter_segment

            answers = load_text_answers(**encoding, bar=bar) if prompts.texts else None
            if answers is not None:
                answers.check(prompts.texts)
            network = load_model(model, loading, bar)
            conf: float | Literal["auto"] = 0.0
            if prompts.positional and search["conf"] in (None, "auto"):
                conf = search["conf"] or network.info.conf
                search = {**search, "conf": min(PROMPT_CONF, network.info.conf)}
            bar.say("Segmenting")

            def reader(job: object) -> Image:
                if not isinstance(job, Job):
                    raise TypeError(f"expected a Job, not {type(job).__name__}")
                return read_image(job.source, **job.reading(reading))

            def on_tile(number: int, count: int) -> None:
                bar.say(f"Segmenting, tile {number} of {count}")

            search = {**search, "on_tile": on_tile}
            stepping = iter_segment([job for _, job in jobs], network, reader=reader, **search)
            with closing(stepping) as steps:
                for step in steps:
                    place, job = jobs[step.index]
                    if search["tile_px"] is not None and isinstance(step.error, ImageTooLargeError):
                        outcome = in_tiles(step, job, network, search, reading, answers, bar, conf=conf)
                    else:
                        bar.say(f"Writing {job.name}")
                        outcome = finish(job, step, answers, conf=conf)
                    results[place] = outcome
                    report(outcome, bar, jsonl=jsonl)
                    bar.advance()
                    bar.say("Segmenting")
    return [outcome for outcome in results if outcome is not None]


def _suggest(outcomes: list[Outcome], *, whole: bool, any_plane: bool, jsonl: bool) -> None:
    """Say where another way may be meant: large images seen as a whole, stacks of which one plane was seen."""
    screen = console(stderr=jsonl)
    large = sum(outcome.image_hw is not None and max(outcome.image_hw) > _LARGE_PX for outcome in outcomes)
    if whole and large:
        screen.print(f"Longer than {_LARGE_PX} px: {large}. --tile-px 1024 finds their small objects, too.")
    if any_plane and (stacks := sum(outcome.left_out > 0 for outcome in outcomes)):
        screen.print(f"Stacks, of which the first plane was segmented: {stacks}. fastsam stack takes all planes.")


def _warn_of_unused(names: list[str], *, jsonl: bool) -> None:
    """Say which prompts of the file were for none of the images."""
    if names:
        shown = ", ".join(names[:_MOST_NAMES]) + (" …" if len(names) > _MOST_NAMES else "")
        words = f"Prompts of the file that fit no image ({len(names)}): {printable(shown)}"
        console(stderr=jsonl).print(words, markup=False)
