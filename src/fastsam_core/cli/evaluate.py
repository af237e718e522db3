"""``fastsam evaluate``: the figures of the paper, each one command on the user's data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from fastsam_core._defaults import PROMPT_CONF
from fastsam_core.cli._console import console, guarded, printable
from fastsam_core.cli._options import DebugOption, read_list
from fastsam_core.cli._progress import progress
from fastsam_core.cli._reports import choose, described, presented, shown, tracked
from fastsam_core.cli._searching import Searching, takes_model
from fastsam_core.errors import InvalidParameterError, UnknownWordsError

if TYPE_CHECKING:
    from fastsam_core.evaluation.reports import Report

__all__ = ["app"]

app = typer.Typer(name="evaluate", help="Measure a model: the figures of the paper on your data.", no_args_is_help=True)

_SEARCH: Final = "Search"
_ALL_CONF: Final = 0.001
"""Precision and recall look at the whole ranking, so nearly every mask is kept (as COCO evaluations do)."""

DataArgument = Annotated[
    Path, typer.Argument(metavar="DATA", help="Folder with images/ and masks/, or images/ and annotations.json.")
]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="As many images as this, spread over the set.", rich_help_panel=_SEARCH)
]
OnlyOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Names of the images to take, one a line.", rich_help_panel=_SEARCH)
]


@app.command()
@presented(plots=True)
@takes_model()
def microscopy(data: DataArgument, searching: Searching, limit: LimitOption = None, only: OnlyOption = None) -> Report:
    """Compare with label maps: AP, F1, the Data Science Bowl's score, counts."""
    from fastsam_core.evaluation.microscopy import MicroscopyScorer
    from fastsam_core.evaluation.truth import LabelFolder, iter_predictions

    truths = LabelFolder(data)
    chosen = choose(truths, limit, only)
    network, settings = searching.load()
    scorer = MicroscopyScorer(settings.conf, max_detections=settings.max_det)
    search = {**searching.search, "conf": min(_ALL_CONF, settings.conf)}
    for index, masks, truth in tracked(iter_predictions(truths, network, chosen, **search), len(chosen), "Segmenting"):
        scorer.add(truths.images[index].name, masks, truth.masks)
    return described(scorer.report(), network, settings, conf_for_ap=search["conf"], data=shown(data))


@app.command()
@presented(plots=True)
@takes_model(conf=_ALL_CONF)
def proposals(
    annotations: Annotated[Path, typer.Option("--annotations", "-a", help="COCO or LVIS annotation file.")],
    searching: Searching,
    images: Annotated[Path | None, typer.Option("--images", "-i", help="Their images, to run the model on.")] = None,
    results: Annotated[Path | None, typer.Option("--results", help="COCO results file to score instead.")] = None,
    kind: Annotated[str, typer.Option("--kind", help="Some of box,mask.")] = "box,mask",
    limit: LimitOption = None,
    only: OnlyOption = None,
) -> Report:
    """Average recall of boxes and masks of any class, on COCO or LVIS annotations."""
    from fastsam_core.evaluation.coco_data import CocoData
    from fastsam_core.evaluation.proposals import Kind, ProposalScorer, add_results
    from fastsam_core.evaluation.truth import iter_predictions

    kinds: tuple[Kind, ...] = ("box", "mask")
    scorer = ProposalScorer(read_list(kind, kinds, "--kind"))
    if (images is None) == (results is None):
        raise InvalidParameterError("Proposals come from a model or from a file", expected="--images or --results")
    data = CocoData(annotations, images)
    if results is not None:
        from fastsam_core.evaluation.coco_results import CocoResults

        found = CocoResults(results)
        # the names of images may be missing where nothing is chosen
        chosen = range(len(data.image_ids)) if limit is None and only is None else choose(data, limit, only)
        for _ in tracked(add_results(scorer, data, found, chosen), len(chosen), "Matching"):
            pass
        return replace(scorer.report(), settings={"data": shown(annotations), "results": results.name})
    chosen = choose(data, limit, only)
    network, settings = searching.load()
    steps = iter_predictions(data, network, chosen, **searching.search)
    for _, masks, truth in tracked(steps, len(chosen), "Segmenting"):
        scorer.add(masks, truth)
    return described(scorer.report(), network, settings, data=shown(annotations))


@app.command()
@presented(plots=True)
@takes_model(tiles=False, conf=0.02, iou=0.8, max_det=500)
def edges(
    data: Annotated[Path, typer.Option("--data", "-d", help="Folder of BSDS500.")],
    searching: Searching,
    split: Annotated[str, typer.Option("--split", help="Sub-folder of images and annotations.")] = "test",
    combine: Annotated[str, typer.Option("--combine", help="sum or max: how masks share an edge.")] = "sum",
    blur: Annotated[float, typer.Option("--blur", min=0, help="Sigma before thinning, px.")] = 1.0,
    thresholds: Annotated[int, typer.Option("--thresholds", min=1, help="Number of thresholds.")] = 99,
    workers: Annotated[
        int | None, typer.Option("--workers", min=0, help="Processes that score; one a core by default.")
    ] = None,
    limit: LimitOption = None,
) -> Report:
    """Zero-shot edge detection on BSDS500: ODS, OIS, AP, R50."""
    from fastsam_core._threads import available_cores
    from fastsam_core.edges import COMBINATIONS
    from fastsam_core.evaluation.bsds import BoundaryData
    from fastsam_core.evaluation.edge_detection import edge_report, iter_edge_counts
    from fastsam_core.evaluation.truth import evenly

    [how] = read_list(combine, COMBINATIONS, "--combine")
    berkeley = BoundaryData(data, split)
    chosen = evenly(len(berkeley.images), limit)
    network, settings = searching.load()
    search = {**searching.search, "imgsz": settings.imgsz[0]}
    workers = available_cores() if workers is None else workers
    if workers < 2 or len(chosen) < 4:
        workers = 0
    steps = iter_edge_counts(
        berkeley, network, chosen, thresholds=thresholds, workers=workers, combine=how, blur_px=blur, **search
    )
    counted = list(tracked(steps, len(chosen), "Scoring edges"))
    extra = {"combine": how, "blur": blur, "thresholds": thresholds, "data": f"{shown(data)} {split}"}
    settings = replace(settings, imgsz=settings.imgsz[:1], adaptive=False)
    return described(edge_report(counted), network, settings, **extra)


@app.command()
@presented()
@takes_model(conf=PROMPT_CONF)
def instances(
    annotations: Annotated[Path, typer.Option("--annotations", "-a", help="COCO annotation file.")],
    images: Annotated[Path, typer.Option("--images", "-i", help="Their images.")],
    boxes: Annotated[Path, typer.Option("--boxes", help="COCO results file of a detector.")],
    searching: Searching,
    limit: LimitOption = None,
    only: OnlyOption = None,
) -> Report:
    """Instance segmentation with a detector's boxes as prompts: AP, class by class."""
    from fastsam_core.evaluation.coco_data import CocoData
    from fastsam_core.evaluation.coco_results import CocoResults
    from fastsam_core.evaluation.instance_prompts import CategoryScorer, iter_boxes_as_prompts

    data, scorer = CocoData(annotations, images), CategoryScorer()
    chosen = choose(data, limit, only)
    detections = CocoResults(boxes)
    network, settings = searching.load()
    steps = iter_boxes_as_prompts(scorer, data, detections, network, chosen, **searching.search)
    for _ in tracked(steps, len(chosen), "Segmenting"):
        pass
    return described(scorer.report(), network, settings, data=shown(annotations), boxes=boxes.name)


@app.command()
@presented()
@takes_model(conf=PROMPT_CONF)
def prompts(data: DataArgument, searching: Searching, limit: LimitOption = None, only: OnlyOption = None) -> Report:
    """Points, boxes and outlines as prompts: the masks that they select, against the annotated objects."""
    from fastsam_core.evaluation.prompt_answers import PromptScorer
    from fastsam_core.evaluation.truth import iter_predictions, open_truth

    truths = open_truth(data)
    chosen = choose(truths, limit, only)
    network, settings = searching.load()
    scorer = PromptScorer(network.info.conf)
    steps = iter_predictions(truths, network, chosen, **searching.search)
    for _, masks, truth in tracked(steps, len(chosen), "Segmenting"):
        scorer.add(masks, truth)
    return described(scorer.report(), network, settings, shown_conf=network.info.conf, data=shown(data))


@app.command()
@presented()
@takes_model()
def text(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder with images/, and annotations.json or masks/.")],
    searching: Searching,
    name: Annotated[
        str | None, typer.Option("--name", help="What all objects are: needed where classes have no names.")
    ] = None,
    encoder: Annotated[str | None, typer.Option("--text-encoder", help="See: fastsam models list.")] = None,
    limit: LimitOption = None,
    only: OnlyOption = None,
) -> Report:
    """Text prompts: the mask that a class name selects, against the objects of that class."""
    from fastsam_core.cli._text import load_encoder
    from fastsam_core.evaluation.coco_data import CocoData
    from fastsam_core.evaluation.text_selection import TextScorer, iter_texts, known_names
    from fastsam_core.evaluation.truth import open_truth

    truths, scorer = open_truth(data), TextScorer()
    classes = truths.class_names if isinstance(truths, CocoData) else {1: ""}
    if name is not None:
        classes = dict.fromkeys(classes, name)
    elif not isinstance(truths, CocoData):
        raise InvalidParameterError(
            "Text is measured with the names of classes", expected="annotations.json, or masks/ and --name"
        )
    with progress("Loading the text encoder", 1) as bar:
        words = load_encoder(encoder, searching.device, bar)
    names, unknown = known_names(words, classes)
    if not names:
        raise UnknownWordsError(
            "There is nothing to ask for: the text encoder knows none of the classes",
            expected="at least one name of a class that it knows",
            actual=", ".join(sorted(set(unknown))) or "no classes",
            remedy="another --name, or --text-encoder (fastsam models list shows those of open vocabulary)",
        )
    chosen = choose(truths, limit, only)
    network, settings = searching.load()
    steps = iter_texts(scorer, truths, names, network, words, chosen, **searching.search)
    for _ in tracked(steps, len(chosen), "Asking"):
        pass
    report = described(scorer.report(), network, settings, text_encoder=words.name, data=shown(data))
    notes = [words.notice] if words.notice else []
    if unknown:
        notes.append(f"Not asked for, because the encoder does not know them: {', '.join(sorted(set(unknown)))}.")
    return replace(report, notes=tuple(notes))


@app.command()
@presented()
def compare(
    first: Annotated[str, typer.Argument(metavar="FIRST", help="MODEL[,key=value…], such as builtin,precision=bf16.")],
    second: Annotated[str, typer.Argument(metavar="SECOND", help="The same for the other side.")],
    data: Annotated[Path, typer.Option("--data", "-d", help="Folder with images/ and masks/ or annotations.json.")],
    limit: LimitOption = None,
    only: OnlyOption = None,
    resamples: Annotated[int, typer.Option("--resamples", min=10, help="Bootstrap samples.")] = 1000,
) -> Report:
    """Compare two models, settings or run times on the same images, with confidence intervals.

    Keys: device, runtime, precision, conf, iou, imgsz, max_det.
    """
    from fastsam_core.cli._compare import compare_sides

    return compare_sides(first, second, data, limit=limit, only=only, resamples=resamples)


@app.command()
@presented(plots=True)
@takes_model(tiles=False, max_det=300)
def speed(
    image: Annotated[Path, typer.Argument(help="An image.")],
    searching: Searching,
    peer: Annotated[bool, typer.Option(help="Also measure ultralytics.FastSAM with the same weights.")] = True,
    sam: Annotated[
        Path | None, typer.Option("--sam", help="Also measure ultralytics.SAM with these weights (mobile_sam.pt …).")
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Runs of each case; the median counts.")] = 5,
) -> Report:
    """Time for 1, 10, 100 points and grids of points, from the pixels to the masks; parameters and memory."""
    from fastsam_core.evaluation._machine import describe_machine
    from fastsam_core.evaluation.speed import Request, SideName, measure, speed_report
    from fastsam_core.images import read_image

    request = Request(image, searching.model, repeats, searching.loading, searching.search, sam)
    image_hw = read_image(image).image_hw
    sides: dict[str, SideName] = {"ours": "ours"}
    if peer:
        sides["peer"] = "ultralytics"
    if sam is not None:
        sides["sam"] = "sam"
    figures = []
    with progress("Measuring", len(sides)) as bar:
        for side in sides.values():
            figures.append(measure(side, request))
            bar.advance()
    return replace(
        speed_report(figures, image_hw, list(sides)),
        settings={"model": Path(searching.model).name, **figures[0].settings, "repeats": repeats},
        machine=describe_machine("cuda" if searching.device.startswith("cuda") else "cpu"),
    )


@app.command()
def report(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="What other commands wrote with --json.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page.")] = Path("benchmarks.md"),
    note: Annotated[list[str] | None, typer.Option("--note", help="A remark for the reader. Repeat for more.")] = None,
    debug: DebugOption = False,
) -> None:
    """Write a page with these measurements beside the published figures."""
    with guarded(debug=debug):
        from fastsam_core._files import atomic_path
        from fastsam_core.evaluation.document import benchmarks_page
        from fastsam_core.evaluation.reports import Report

        page = benchmarks_page([Report.load(path) for path in files], note or ())
        with atomic_path(out) as temporary:
            temporary.write_text(page, encoding="utf-8")
        console().print(f"written: {printable(out)}")
