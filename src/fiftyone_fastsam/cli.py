"""Commands that ``fastsam`` gets from here: ``fastsam enrich`` and ``fastsam fiftyone``.

The command line finds them by their entry points, so that the core does not know this package.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from fastsam_core._defaults import MAX_DET, MAX_PIXELS, OVERLAP_PX, PROMPT_CONF
from fastsam_core.cli._console import EXIT_FAILED, guarded
from fastsam_core.cli._options import DebugOption, MaxPixelsOption, OverlapOption, TileOption, read_conf
from fastsam_core.cli._progress import progress
from fastsam_core.errors import InvalidParameterError

__all__ = ["enrich_app", "fiftyone_app"]

enrich_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
fiftyone_app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Put the operators into the FiftyOne App, and check them.",
)

_PROMPTS = "Prompts (everything is segmented without any)"
_SEARCH = "Search"
_CONF_HELP = (
    "Lowest score, or one chosen for each image; by default the model's own, and "
    f"{PROMPT_CONF} where boxes or keypoints prompt."
)
_WRITING = "Writing"


@enrich_app.command()
def enrich(
    dataset: Annotated[str, typer.Argument(help="Name of a FiftyOne dataset.")],
    label_field: Annotated[str, typer.Option("--label-field", "-l", help="Field for the masks.")],
    view: Annotated[str | None, typer.Option(help="Name of a saved view: only its samples.")] = None,
    boxes: Annotated[
        str | None, typer.Option(metavar="FIELD", help="Detections to answer one by one.", rich_help_panel=_PROMPTS)
    ] = None,
    points: Annotated[
        str | None, typer.Option(metavar="FIELD", help="Keypoints to answer one by one.", rich_help_panel=_PROMPTS)
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="Name of an object. Repeat for more.", rich_help_panel=_PROMPTS)
    ] = None,
    negative: Annotated[
        list[str] | None, typer.Option(help="What masks may be besides. Repeat for more.", rich_help_panel=_PROMPTS)
    ] = None,
    text_threshold: Annotated[
        float | None, typer.Option(help="Lowest probability of a name.", rich_help_panel=_PROMPTS)
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Text encoder, see `fastsam models`.", rich_help_panel=_PROMPTS)
    ] = None,
    masks_field: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="Ask these masks, made with --embeddings.", rich_help_panel=_PROMPTS),
    ] = None,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Store a vector with each mask.", rich_help_panel=_WRITING)
    ] = False,
    output: Annotated[str, typer.Option(help="instances or map.", rich_help_panel=_WRITING)] = "instances",
    existing: Annotated[
        str, typer.Option(help="resume, skip, overwrite or append.", rich_help_panel=_WRITING)
    ] = "resume",
    on_oversize: Annotated[
        str, typer.Option(help="shrink, files, top_k or fail: if 16 MiB are not enough.", rich_help_panel=_WRITING)
    ] = "shrink",
    mask_dir: Annotated[Path | None, typer.Option(help="Folder for files.", rich_help_panel=_WRITING)] = None,
    writer: Annotated[str, typer.Option(help="auto, direct or sdk.", rich_help_panel=_WRITING)] = "auto",
    model: Annotated[str, typer.Option("--model", "-m", help="Name or weights file.")] = "builtin",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda …")] = "auto",
    runtime: Annotated[str, typer.Option(help="auto, torch, openvino, onnxruntime or tensorrt.")] = "auto",
    conf: Annotated[str | None, typer.Option(metavar="0…1|auto", help=_CONF_HELP, rich_help_panel=_SEARCH)] = None,
    iou: Annotated[float | None, typer.Option(help="Overlap of duplicates.", rich_help_panel=_SEARCH)] = None,
    max_det: Annotated[
        int, typer.Option(help="Most masks of one image, or of a tile.", rich_help_panel=_SEARCH)
    ] = MAX_DET,
    imgsz: Annotated[int | None, typer.Option(help="Network size, px.", rich_help_panel=_SEARCH)] = None,
    tile_px: TileOption = None,
    overlap_px: OverlapOption = OVERLAP_PX,
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    min_iou: Annotated[float, typer.Option(help="Boxes that fit worse get no mask.", rich_help_panel=_SEARCH)] = 0.2,
    batch_size: Annotated[int, typer.Option(help="Images in a forward pass.")] = 1,
    worker: Annotated[
        bool, typer.Option("--worker", help="Share the work with all others that run this command.")
    ] = False,
    ray: Annotated[
        int | None, typer.Option(metavar="N", help="Share the work among N workers of a Ray cluster; 0: all it holds.")
    ] = None,
    shard_size: Annotated[int, typer.Option(help="Samples a worker takes at once.")] = 1000,
    debug: DebugOption = False,
) -> None:
    """Write masks onto all samples of a FiftyOne dataset.

    Run the same command again after an interruption: finished samples are left alone.
    Exit code: 0 all fine, 1 some failed, 2 wrong usage, 130 interrupted.

    fastsam enrich photos --label-field masks

    fastsam enrich photos --label-field objects --boxes ground_truth

    fastsam enrich photos --label-field masks --worker   # on as many machines as there are
    """
    options: dict[str, Any] = {
        "box_prompt_field": boxes,
        "point_prompt_field": points,
        "text": text or None,
        "negatives": tuple(negative or ()),
        "text_threshold": text_threshold,
        "text_encoder": encoder,
        "masks_field": masks_field,
        "embeddings": embeddings,
        "output": output,
        "existing": existing,
        "on_oversize": on_oversize,
        "mask_dir": mask_dir,
        "writer": writer,
        "iou": iou,
        "max_det": max_det,
        "imgsz": imgsz,
        "tile_px": tile_px,
        "overlap_px": overlap_px,
        "max_pixels": max_pixels,
        "min_iou": min_iou,
        "batch_size": batch_size,
    }
    with guarded(debug=debug):
        from fastsam_core.model import FastSAM
        from fiftyone_fastsam.enrichment import Enrichment
        from fiftyone_fastsam.options import EnrichOptions

        if worker and ray is not None:
            raise InvalidParameterError("Workers are started by hand or by Ray", expected="--worker or --ray, not both")
        options["conf"] = read_conf(conf)
        checked = EnrichOptions(**options)
        samples = _samples(dataset, view)
        load = partial(FastSAM.load, model, device=device, runtime=runtime)
        if ray is not None:
            failed = _on_cluster(samples, label_field, load, options, shard_size, ray)
            raise typer.Exit(EXIT_FAILED if failed else 0)
        network = load()
        if worker:
            failed = _take_part(samples, label_field, network, options, shard_size)
        else:
            failed = _run(Enrichment(samples, label_field, checked, network))
    raise typer.Exit(EXIT_FAILED if failed else 0)


def _samples(dataset: str, view: str | None) -> Any:
    from fiftyone_fastsam._target import open_dataset

    loaded = open_dataset(dataset)
    if view is None:
        return loaded
    if not loaded.has_saved_view(view):
        known = ", ".join(loaded.list_saved_views()) or "none"
        raise InvalidParameterError(f"There is no saved view {view!r}", expected=f"one of: {known}")
    return loaded.load_saved_view(view)


def _run(run: Any) -> int:
    counts = _count(run, run.total or 0)
    typer.echo(
        f"{run.target.path}: {_told(counts)}{_not_done({**counts, 'skipped': run.skipped})}"
        + (f" (reasons in {run.target.error_field!r}, saved view 'fastsam: failed')" if counts["failed"] else "")
    )
    return counts["failed"]


def _told(counts: Mapping[str, int]) -> str:
    return f"{counts['done']} done with {counts['masks']} masks, {counts['failed']} failed"


def _not_done(counts: Mapping[str, int]) -> str:
    gone = counts.get("gone", 0)
    return f", {counts['skipped']} needed nothing" + (f", {gone} deleted meanwhile" if gone else "")


def _on_cluster(
    samples: Any, label_field: str, load: Any, options: dict[str, Any], shard_size: int, workers: int
) -> int:
    from fiftyone_fastsam.ray_runner import iter_on_ray

    steps = iter_on_ray(samples, label_field, model=load, workers=workers or None, shard_size=shard_size, **options)
    counts = _count(steps, 0)
    typer.echo(f"{label_field}, by the cluster: {_told(counts)}")
    return counts["failed"]


def _take_part(samples: Any, label_field: str, model: Any, options: dict[str, Any], shard_size: int) -> int:
    from fiftyone_fastsam._provenance import results_of
    from fiftyone_fastsam._retry import with_retries
    from fiftyone_fastsam.shards import iter_shared

    steps = iter_shared(samples, label_field, model=model, shard_size=shard_size, **options)
    counts = _count(steps, 0)
    typer.echo(f"{label_field}, by this worker: {_told(counts)}")
    joint = with_retries(results_of, samples, label_field) if counts else None
    if joint is not None:
        typer.echo(f"{label_field}, by all workers: {_told(joint)}{_not_done(joint)}")
    return counts["failed"]


def _count(steps: Any, total: int) -> Counter[str]:
    """Show steps as they come, and say where there are as many masks as allowed.

    Returns how many are done, failed and gone, and how many masks there are.
    """
    counts, full = Counter[str](), 0
    with progress("Enriching", total) as bar, closing(iter(steps)) as running:
        for step in running:
            counts.update(step.counted)
            full += step.at_limit
            if step.error is not None:
                bar.log(Text(f"{step.filepath}: {step.error}"))
            bar.advance()
    if full:
        typer.echo(f"In {full} of them as many masks were found as --max-det allows: there may be more.")
    return counts


@fiftyone_app.command("install")
def install_plugin(
    plugins_dir: Annotated[Path | None, typer.Option(help="FiftyOne's plugins folder.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
    debug: DebugOption = False,
) -> None:
    """Put the operators into the FiftyOne App."""
    with guarded(debug=debug):
        from fiftyone_fastsam.install import install

        typer.echo(f"Installed: {install(plugins_dir, force=force)}")


@fiftyone_app.command("doctor")
def doctor(
    dataset: Annotated[str | None, typer.Argument(help="Look at this dataset as well.")] = None,
    mask_dir: Annotated[Path | None, typer.Option(help="Look for mask files that no label refers to.")] = None,
    debug: DebugOption = False,
) -> None:
    """Check installation, database, operators and delegated runs. Exit code 1 if something is wrong."""
    with guarded(debug=debug):
        from fiftyone_fastsam.doctor import diagnose

        findings = diagnose(dataset, mask_dir)
        for finding in findings:
            typer.echo(f"{'ok   ' if finding.well else 'WRONG'} {finding.text}")
            if finding.remedy:
                typer.echo(f"      -> {finding.remedy}")
    raise typer.Exit(0 if all(finding.well for finding in findings) else EXIT_FAILED)
