"""The measured tables of the model card, made from what ``validate``, ``validate_prompts`` and ``calibrate`` wrote.

``python -m fastsam_core.training.card`` rewrites ``docs/model-card.md`` between its markers.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastsam_core._files import atomic_path
from fastsam_core.errors import AnnotationError, OutputError
from fastsam_core.evaluation.prompt_answers import KINDS
from fastsam_core.training.scoring import DOUBTED_APART

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

LOGGER = logging.getLogger("fastsam_core.training.card")
BEGIN: Final = "<!-- measured: begin (made by fastsam_core.training.card) -->"
END: Final = "<!-- measured: end -->"
METHODS: Final = ("watershed", "felzenszwalb")
_TITLES: Final = {"watershed": "Otsu + watershed", "felzenszwalb": "Felzenszwalb"}
_WHAT: Final = {
    "dsb2018": "nuclei, all kinds",
    "dsb2018/fluorescence": "dark gray images",
    f"dsb2018/fluorescence{DOUBTED_APART}": "the same, a brush's clicks ignored",
    "dsb2018/stained": "colour images",
    "dsb2018/brightfield": "bright gray images",
    "usiigaci_phase": "phase contrast cells",
    "hbn_flakes": "2D material flakes",
    "fruits_nuts": "nuts, held out",
    "mushrooms": "dense mushrooms",
    "granular_material": "grains",
    "rock_grains": "pebbles, up to 1300 an image",
    "building_facade": "facades, nested",
    "tqb_indoor": "indoor, same building trained on",
    "dhcn_indoor": "indoor, held out",
    "coco_panoptic": "photographs, dense",
    "coco_instances": "photographs",
    "animals_openimages": "animals",
    "microcontrollers": "boards",
    "retail_products": "packs",
    "otonom_road": "road",
    "weld_defects": "weld defects, held out",
    "bsds500_val": "photographs, every annotator",
    "bsds500_test": "photographs, every annotator",
}
_ORDER: Final = {name: place for place, name in enumerate(_WHAT)}
_COLUMNS: Final = (
    ("AP50", "ap50"),
    ("AR@10", "ar10"),
    ("AR@100", "ar100"),
    ("AR@1000", "ar1000"),
    ("small", "ar100_small"),
    ("medium", "ar100_medium"),
    ("large", "ar100_large"),
    ("Overlap", "best_overlap"),
)


def read_tables(
    files: Iterable[Path],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, dict[str, float]]]:
    """Read the rows of validation tables, the reports of calibrations and prompts; of equal ones the last counts.

    Returns
    -------
    rows : list of dict
        One for each source, method, setting and number of images.
    calibrations : list of dict
        Reports of ``calibrate``.
    prompts : dict of str to dict
        What ``validate_prompts`` measured on each source.
    """
    rows: dict[tuple[str, str, str, int], dict[str, Any]] = {}
    calibrations: list[dict[str, Any]] = []
    prompts: dict[str, dict[str, float]] = {}
    for path in sorted(files):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            prompts |= content.get("prompts", {})
            calibrations += [content] if "tested" in content else []
            continue
        for row in content:
            rows[row["source"], _method(row), row["sizes"], row["images"]] = row
    return list(rows.values()), calibrations, prompts


def measured_tables(
    rows: Sequence[Mapping[str, Any]],
    calibrations: Sequence[Mapping[str, Any]],
    prompts: Mapping[str, Mapping[str, float]],
) -> str:
    """Return the tables as Markdown."""
    lines: list[str] = []
    for title, wanted in (("Microscopy", _MICROSCOPY), ("Photographs", None), ("BSDS500, evaluation only", _BSDS)):
        chosen = [row for row in _largest(rows) if _belongs(row["source"], wanted)]
        if chosen:
            lines += [f"### {title}", "", *_table(chosen), ""]
    lines += _gains(rows)
    lines += _thresholds(rows)
    lines += _prompts(prompts)
    for report in calibrations:
        lines += _calibration(report)
    return "\n".join(lines).rstrip() + "\n"


_FIGURES: Final = {"ap50": "AP50", "ar100": "AR@100"}
_MICROSCOPY: Final = ("dsb2018", "usiigaci_phase", "hbn_flakes")
_BSDS: Final = ("bsds500_val", "bsds500_test")


def _method(row: Mapping[str, Any]) -> str:
    return str(row["method"]) if row["method"] in METHODS else "model"


def _largest(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Keep of each source, method and setting the row over the most images."""
    kept: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for row in rows:
        key = (row["source"], _method(row), row["sizes"])
        if key not in kept or row["images"] > kept[key]["images"]:
            kept[key] = row
    return list(kept.values())


def _belongs(source: str, wanted: tuple[str, ...] | None) -> bool:
    name = source.partition("/")[0]
    return name in wanted if wanted is not None else name not in _MICROSCOPY + _BSDS


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "| Source | What | Method | Images (instances) | " + " | ".join(title for title, _ in _COLUMNS) + " |",
        "|---" * (4 + len(_COLUMNS)) + "|",
    ]
    for row in sorted(rows, key=lambda row: (_ORDER.get(row["source"], 99), row["method"] in METHODS)):
        partial = " (partial)" if row["partial"] else ""
        sizes = row["sizes"] if row["sizes"] == "auto" else f"{row['sizes'].replace(',', ' + ')} px"
        method = _TITLES.get(row["method"], f"built-in, {sizes}")
        cells = [_number(row[name]) for _, name in _COLUMNS]
        lines.append(
            f"| {row['source']} | {_WHAT.get(row['source'], '')}{partial} | {method} | {row['images']} "
            f"({row['instances']}) | " + " | ".join(cells) + " |"
        )
    return lines


def _gains(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say by how much the model is ahead of the baseline on the very same images, source by source."""
    models = {(row["source"], row["images"]): row for row in rows if row["method"] not in METHODS}
    lines = []
    for row in _largest(rows):
        model = models.get((row["source"], row["images"]))
        if row["method"] not in METHODS or model is None:
            continue
        name = "ap50" if _belongs(row["source"], _MICROSCOPY) else "ar100"
        gain = f"{model[name] / row[name]:.2f} ×" if row[name] >= 0.005 else "–"  # shown as 0.00
        figures = f"{_number(model[name])} | {_number(row[name])} | {gain}"
        lines.append(f"| {row['source']} | {row['images']} | {_FIGURES[name]} | {figures} |")
    if not lines:
        return []
    head = ["### Against classical methods, same images", ""]
    head += ["| Source | Images | Figure | Built-in | Classical | Ratio |", "|---|---|---|---|---|---|"]
    return [*head, *lines, ""]


def _thresholds(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what a threshold chosen for each image is worth, where all that is there was annotated."""
    chosen = [row for row in _largest(rows) if row["method"] not in METHODS and not row["partial"] and "auto_f1" in row]
    if not chosen:
        return []
    lines = [
        "### A threshold for each image",
        "",
        'F1 at IoU 0.5 with `conf="auto"`, and with the one threshold for all images of a source that is best for it.',
        "",
        "| Source | Images | F1, auto | F1, best | at |",
        "|---|---|---|---|---|",
    ]
    for row in sorted(chosen, key=lambda row: _ORDER.get(row["source"], 99)):
        figures = " | ".join(_number(row[name]) for name in ("auto_f1", "best_f1", "best_conf"))
        lines.append(f"| {row['source']} | {row['images']} | {figures} |")
    return [*lines, ""]


def _prompts(prompts: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Say what prompts find among all masks and, in brackets, among those that everything mode shows."""
    if not prompts:
        return []
    lines = [
        "### Prompts",
        "",
        "Mean IoU of the answer with the object, among all masks and, in brackets, among those that everything mode",
        "shows ([what is simulated](evaluation.md)). The last row is the mean of the sources.",
        "",
        "| Source | Images (objects) | " + " | ".join((*KINDS, "best mask there")) + " |",
        "|---" * (3 + len(KINDS)) + "|",
    ]
    names = [kind.replace(" ", "_") for kind in (*KINDS, "best")]
    means = {
        f"{name}_{among}_miou": sum(row[f"{name}_{among}_miou"] for row in prompts.values()) / len(prompts)
        for name in names
        for among in ("all", "shown")
    }
    entries = [(source, prompts[source]) for source in sorted(prompts, key=lambda name: _ORDER.get(name, 99))]
    for source, row in (*entries, ("mean", means)):
        size = f"{row['images']:.0f} ({row['objects']:.0f})" if "images" in row else ""
        cells = [f"{row[f'{name}_all_miou']:.2f} ({row[f'{name}_shown_miou']:.2f})" for name in names]
        lines.append(f"| {source} | {size} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _calibration(report: Mapping[str, Any]) -> list[str]:
    tested = report["tested"]
    lines = [
        "### Score and quality",
        "",
        f"Fitted on {report['fitted']['images']} validation images ({report['fitted']['masks']} masks), measured on "
        f"{tested['images']} others ({tested['masks']} masks).",
        "",
        "| Ranked by | Spearman with true IoU | Pearson | AP | AP50 | AR@10 |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("score", "quality"):
        cells = [_number(tested[f"{kind}_{name}"]) for kind in ("spearman", "pearson", "ap", "ap50", "ar10")]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def rewrite(card: Path, text: str) -> None:
    """Put text between the markers of a card.

    Raises
    ------
    OutputError
        If there is no card, or none with markers.
    """
    old = card.read_text(encoding="utf-8") if card.is_file() else ""
    if old.count(BEGIN) != 1 or old.count(END) != 1 or old.index(BEGIN) > old.index(END):
        raise OutputError(f"{card} has no place for the tables", expected=f"{BEGIN} … {END}", remedy="add the markers")
    before, after = old.split(BEGIN)[0], old.split(END)[1]
    with atomic_path(card) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Rewrite the tables of the card."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m fastsam_core.training.card", description=__doc__)
    parser.add_argument("--tables", type=Path, default=Path("docs/training"), help="folder of JSON files")
    parser.add_argument("--card", type=Path, default=Path("docs/model-card.md"))
    arguments = parser.parse_args()
    if not (files := list(arguments.tables.glob("*.json"))):
        raise AnnotationError(f"There are no JSON files in {arguments.tables}", remedy="check --tables")
    rows, calibrations, prompts = read_tables(files)
    rewrite(arguments.card, measured_tables(rows, calibrations, prompts))
    LOGGER.info("%s: %d rows, %d calibrations", arguments.card, len(rows), len(calibrations))


if __name__ == "__main__":
    from fastsam_core.cli._console import run_module

    run_module(main)
