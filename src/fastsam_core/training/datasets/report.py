"""Look before you train: a contact sheet of masks over images, and histograms of size, count and nesting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsam_core._files import atomic_path, write_json
from fastsam_core.errors import AnnotationError, MissingDependencyError
from fastsam_core.evaluation.truth import evenly
from fastsam_core.training.datasets.loading import pixels_of, read_row
from fastsam_core.training.datasets.manifest import Dataset

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from fastsam_core.contact_sheet import Card
    from fastsam_core.masks import Masks
    from fastsam_core.training.datasets.manifest import IndexRow, SourceEntry
    from fastsam_core.training.datasets.records import Record

__all__ = ["nesting_depths", "write_report"]

CARDS = 12
MEASURED_IMAGES = 400
_INSIDE = 0.9
"""A mask of which this fraction lies in a larger one is a part of it."""
_DEPTH_NAMES = ("whole", "part", "part of a part", "deeper")
_TITLE_CHARS = 14
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """Figures of one source over the images looked at."""

    entry: SourceEntry
    images: int
    sides_px: NDArray[np.float64]
    relative: NDArray[np.float64]
    counts: NDArray[np.int64]
    depths: NDArray[np.int64]


def nesting_depths(masks: Masks) -> NDArray[np.int64]:
    """Count for each mask the larger masks that hold 90 % of it, shape (N,)."""
    areas = masks.areas_px
    shared = masks.overlaps(masks)
    larger = areas[None, :] > areas[:, None]
    depths: NDArray[np.int64] = np.sum(larger & (shared >= _INSIDE * areas[:, None]), axis=1)
    return depths


def write_report(folder: Path, out: Path | None = None) -> dict[str, Path]:
    """Write ``sheet.png``, ``histograms.png``, ``report.json`` and ``report.md``.

    Parameters
    ----------
    folder : Path
        A converted data set.
    out : Path, optional
        Where the files go; ``report/`` in the data set by default.

    Returns
    -------
    mapping of str to Path
        Kind of file to its path.

    Raises
    ------
    AnnotationError
        If the folder is no converted data set or has no images.
    MissingDependencyError
        Without matplotlib.
    """
    from fastsam_core.contact_sheet import contact_sheet
    from fastsam_core.outputs import write_image

    dataset = Dataset.open(folder)
    out = out or folder / "report"
    measured: list[_Measured] = []
    cards: list[Card] = []
    for number, (name, entry) in enumerate(dataset.sources.items()):
        share = CARDS // len(dataset.sources) + (number < CARDS % len(dataset.sources))
        figures, more = _look_at(dataset, name, entry, max(share, 1))
        measured.append(figures)
        cards += more
    if not cards:
        raise AnnotationError(f"{folder} has no images to show")
    sheet = write_image(out / "sheet.png", contact_sheet(cards))
    histograms = _draw_histograms(measured, out / "histograms.png")
    values = {figures.entry.name: _values(figures) for figures in measured}
    write_json(out / "report.json", values)
    with atomic_path(out / "report.md") as temporary:
        temporary.write_text(_markdown(values), encoding="utf-8")
    return {"sheet": sheet, "histograms": histograms, "json": out / "report.json", "markdown": out / "report.md"}


def _look_at(dataset: Dataset, name: str, entry: SourceEntry, shown: int) -> tuple[_Measured, list[Card]]:
    rows = list(dataset.rows(name))
    measured_rows = [rows[place] for place in evenly(len(rows), MEASURED_IMAGES)]
    with_masks = [row.name for row in measured_rows if row.instances]
    chosen = {with_masks[place] for place in evenly(len(with_masks), shown)}
    cards: list[Card] = []
    sides, relative, counts, depths = [], [], [], []
    for row in measured_rows:
        record = read_row(dataset, name, row)
        masks = record.masks
        sides.append(np.sqrt(masks.areas_px))
        relative.append(masks.areas_px / (masks.image_hw[0] * masks.image_hw[1]))
        counts.append(len(masks))
        depths.append(nesting_depths(masks))
        if row.name in chosen:
            cards.append(_card(row, record, name, masks[depths[-1] > 0]))
    figures = _Measured(
        entry,
        len(measured_rows),
        np.concatenate(sides or [np.empty(0)]),
        np.concatenate(relative or [np.empty(0)]),
        np.array(counts, np.int64),
        np.concatenate(depths or [np.empty(0, np.int64)]),
    )
    return figures, cards


def _card(row: IndexRow, record: Record, source: str, parts: Masks) -> Card:
    from fastsam_core.contact_sheet import Card, Picture
    from fastsam_core.overlay import draw_overlay

    rgb8 = pixels_of(record, f"{row.name} of {source}")
    whole = Picture(
        draw_overlay(rgb8, record.masks), f"{source[:18]}: {row.instances} masks, {row.height} x {row.width}"
    )
    nested = Picture(draw_overlay(rgb8, parts), f"{len(parts)} inside others")
    return Card(_short(row.name), whole, (Picture(rgb8, f"image, {row.split}"), nested))


def _short(name: str) -> str:
    """Cut a long name in front: files of one source often differ in their last digits only."""
    return name if len(name) <= _TITLE_CHARS else f"…{name[1 - _TITLE_CHARS :]}"


def _values(figures: _Measured) -> dict[str, object]:
    entry = figures.entry
    quantiles = np.quantile(figures.sides_px, _QUANTILES) if len(figures.sides_px) else np.full(len(_QUANTILES), np.nan)
    depths = np.bincount(np.minimum(figures.depths, 3), minlength=4)
    return {
        **entry.to_json(),
        "measured_images": figures.images,
        "sqrt_area_px": {f"{q:.0%}": round(float(v), 1) for q, v in zip(_QUANTILES, quantiles, strict=True)},
        "instances_per_image": {
            "median": float(np.median(figures.counts)) if len(figures.counts) else 0.0,
            "most": int(figures.counts.max(initial=0)),
        },
        "nesting": dict(zip(_DEPTH_NAMES, depths.tolist(), strict=True)),
    }


def _markdown(values: dict[str, dict[str, Any]]) -> str:
    lines = ["# Data set", "", "![masks over images](sheet.png)", "", "![histograms](histograms.png)", ""]
    lines += ["| Source | Kind | Licence | Annotated | Images (val) | Instances | √area, px | Nested | Broken |"]
    lines += ["|---|---|---|---|---|---|---|---|---|"]
    for name, entry in values.items():
        images, instances, broken = entry["images"], sum(entry["instances"].values()), len(entry["broken"])
        looked_at = sum(entry["nesting"].values())
        share = 1 - entry["nesting"]["whole"] / max(looked_at, 1)
        lines.append(
            f"| {name} | {entry['kind']} | {entry['licence']} | {entry['coverage']} | {sum(images.values())} "
            f"({images['val']}) | {instances} | {entry['sqrt_area_px']['50%']:g} | {share:.0%} | {broken} |"
        )
    unused = [(name, item) for name, entry in values.items() for item in entry["broken"]]
    if unused:
        lines += ["", "## Not used", "", *(f"- {name}/{item['name']}: {item['reason']}" for name, item in unused)]
    return "\n".join(lines) + "\n"


def _draw_histograms(measured: Sequence[_Measured], path: Path) -> Path:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("Histograms need matplotlib", remedy="run: pip install matplotlib") from error
    figure = Figure(figsize=(14, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    sizes, relative, counts, nesting = figure.subplots(1, 4)
    width = 0.8 / max(len(measured), 1)
    for number, source in enumerate(measured):
        label = source.entry.name
        sizes.hist(source.sides_px, bins=np.geomspace(1, 2048, 34), histtype="step", label=label)
        relative.hist(source.relative, bins=np.geomspace(1e-5, 1, 26), histtype="step")
        counts.hist(source.counts, bins=np.geomspace(0.7, 2000, 26), histtype="step")
        share = np.bincount(np.minimum(source.depths, 3), minlength=4) / max(len(source.depths), 1)
        nesting.bar(np.arange(4) + number * width, share, width)
    for axes, title in ((sizes, "√area, px"), (relative, "share of the image"), (counts, "instances an image")):
        axes.set(xlabel=title, xscale="log", yscale="log")
    sizes.set(ylabel="instances")
    counts.set(ylabel="images")
    nesting.set(ylabel="share of instances", xlabel="nesting")
    nesting.set_xticks(np.arange(4) + 0.4 - width / 2, ["whole", "part", "of part", "deeper"])
    figure.legend(loc="outside lower center", ncols=min(len(measured), 6))
    with atomic_path(path) as temporary:
        figure.savefig(temporary)
    return path
