"""What an evaluation says: tables, curves and figures, as JSON and Markdown."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsam_core._files import write_json
from fastsam_core.errors import AnnotationError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["Cell", "Curve", "Report", "Table", "counted", "format_cell", "markdown_table", "mean"]

Cell = str | int | float | None

_FORMAT = "fastsam-evaluation/1"


def counted(**counts: float) -> str:
    """Say how many there are of each kind, named in the plural: "3 images, 1 object"."""
    singular = {"classes": "class", "queries": "query"}
    return ", ".join(
        f"{count:g} {singular.get(kind, kind.removesuffix('s')) if count == 1 else kind}"
        for kind, count in counts.items()
    )


def mean(values: Sequence[float] | NDArray[np.float64] | NDArray[np.bool_]) -> float:
    """Return the mean of some values; NaN of none."""
    return float(np.mean(values)) if len(values) else math.nan


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it is shown; numbers stay numbers until then.

    Parameters
    ----------
    title : str
    columns : tuple of str
    rows : tuple of tuples
        As many cells as columns; None where there is no figure.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a plot.

    Parameters
    ----------
    plot : str
        Curves of the same plot are drawn together; its file name.
    label, x_label, y_label : str
    x, y : tuple of float
    log_x : bool
        Whether the horizontal axis is logarithmic.
    """

    plot: str
    label: str
    x_label: str
    y_label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    log_x: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one evaluation.

    Parameters
    ----------
    command : str
        Name of the sub-command: ``"edges"``, ``"proposals"`` …
    tables : tuple of Table
        What is shown.
    values : mapping of str to float
        The figures under fixed names, for programs.
    settings, machine : mapping
        How and where they were measured.
    curves : tuple of Curve
    images : tuple of mapping
        Figures of each image, where they make sense.
    notes : tuple of str
        What a reader has to know.
    """

    command: str
    tables: tuple[Table, ...]
    values: Mapping[str, float]
    settings: Mapping[str, object] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    curves: tuple[Curve, ...] = ()
    images: tuple[Mapping[str, Cell], ...] = ()
    notes: tuple[str, ...] = ()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write everything as JSON (figures that do not exist as null); the file is whole or not there."""
        write_json(path, {"format": _FORMAT, **asdict(self)})
        return Path(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Report:
        """Read what :meth:`save` wrote.

        Raises
        ------
        AnnotationError
            If the file is no such report.
        """
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
            if document.pop("format") != _FORMAT:
                raise ValueError("another format")
            document["tables"] = tuple(
                Table(table["title"], tuple(table["columns"]), tuple(map(tuple, table["rows"])))
                for table in document["tables"]
            )
            document["curves"] = tuple(map(_curve, document["curves"]))
            document["values"] = {
                name: math.nan if value is None else value for name, value in document["values"].items()
            }
            document["images"], document["notes"] = tuple(document["images"]), tuple(document["notes"])
            return cls(**document)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise AnnotationError(
                f"{path} is no evaluation report",
                expected="a file written with --json",
                actual=str(error),
                remedy="write one with: fastsam evaluate COMMAND … --json FILE",
            ) from error

    def to_markdown(self) -> str:
        """Return tables, settings and notes as Markdown."""
        parts = [f"## {self.command.capitalize()}"]
        for table in self.tables:
            parts += [f"{table.title}:", markdown_table(table.columns, table.rows)]
        parts += list(self.notes)
        if self.settings:
            parts.append("Settings: " + ", ".join(f"{key} {value}" for key, value in self.settings.items()) + ".")
        if self.machine:
            parts.append("Measured on " + ", ".join(f"{key} {value}" for key, value in self.machine.items()) + ".")
        return "\n\n".join(parts) + "\n"


def format_cell(value: Cell) -> str:
    """Write a figure with as many digits as mean something; a dash where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Lay out a table for Markdown, numbers to the right."""
    numeric = [
        bool(rows) and all(row[place] is None or isinstance(row[place], int | float) for row in rows)
        for place in range(len(columns))
    ]
    lines = [list(columns), ["--:" if right else "---" for right in numeric]]
    lines += [[format_cell(cell).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _curve(entries: dict[str, Any]) -> Curve:
    numbers = {axis: tuple(math.nan if value is None else value for value in entries[axis]) for axis in "xy"}
    return Curve(**(entries | numbers))
