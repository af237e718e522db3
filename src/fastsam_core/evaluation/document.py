"""The page of benchmarks: our measurements beside published figures, made from report files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastsam_core.evaluation.published import PUBLISHED, SOURCE
from fastsam_core.evaluation.reports import markdown_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastsam_core.evaluation.reports import Report

__all__ = ["benchmarks_page"]

_TITLES: Final[Mapping[str, str]] = {
    "speed": "Time for prompts",
    "edges": "Zero-shot edge detection",
    "proposals": "Object proposals",
    "instances": "Instance segmentation with a detector's boxes",
    "prompts": "Points, boxes and outlines as prompts",
    "text": "Text prompts",
    "microscopy": "Microscopy",
    "compare": "Two models or settings",
}


def benchmarks_page(reports: Sequence[Report], notes: Sequence[str] = ()) -> str:
    """Write the page.

    Parameters
    ----------
    reports : sequence of Report
        What was measured, in any order.
    notes : sequence of str
        What a reader has to know, such as what could not be run and why.

    Returns
    -------
    str
        Markdown. Published figures have their source, measured ones their machine and settings; what was not measured
        is named.
    """
    parts = [
        "# Benchmarks",
        "Made by `fastsam evaluate report` from the files that `fastsam evaluate … --json` writes; nothing here is "
        "typed by hand. How each figure is computed: [Evaluation](evaluation.md).",
    ]
    missing = [name for name in _TITLES if all(report.command != name for report in reports)]
    if missing:
        parts.append("Not measured here: " + ", ".join(_TITLES[name].lower() for name in missing) + ".")
    if notes:
        parts.append("\n".join(f"- {note}" for note in notes))
    machines = sorted({_machine(report) for report in reports if report.machine})
    if len(machines) == 1:
        parts.append(f"Measured on {machines[0]}.")
    for name, title in _TITLES.items():
        measured = [report for report in reports if report.command == name]
        if not measured and name not in PUBLISHED:
            continue
        parts.append(f"## {title}")
        for report in measured:
            parts += _measured(report, with_machine=len(machines) > 1)
        for table in PUBLISHED.get(name, ()):
            parts += [f"{table.title}:", markdown_table(table.columns, table.rows)]
        if name in PUBLISHED:
            parts.append(f"Source: {SOURCE}.")
    return "\n\n".join(parts) + "\n"


def _machine(report: Report) -> str:
    return ", ".join(f"{key} {value}" for key, value in report.machine.items())


def _measured(report: Report, *, with_machine: bool) -> list[str]:
    where = str(report.settings.get("data", ""))
    parts = []
    for table in report.tables:
        title = f"Measured: {where}, {table.title}" if where else f"Measured: {table.title}"
        parts += [f"{title}:", markdown_table(table.columns, table.rows)]
    parts += report.notes
    settings = ", ".join(f"{key} {value}" for key, value in report.settings.items() if key != "data")
    how = [settings, _machine(report) if with_machine else ""]
    line = "; ".join(part for part in how if part)
    return [*parts, f"{line}."] if line else parts
