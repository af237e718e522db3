"""What every benchmark file uses: rows, scales, clocks, and one results file that keeps rows of other runs."""

from __future__ import annotations

import json
import os
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["FULL", "RESULTS", "TINY", "Benchmark", "Row", "Scale", "median_ms", "merge_results", "show", "verdict"]

RESULTS = Path(__file__).parent / "results.json"

_ENOUGH_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the results.

    Parameters
    ----------
    name : str
        What was measured; rows of the same name replace each other.
    ours, peer : float or None
        Measured values; no peer where it cannot do the work at all.
    unit : str
        Of both; smaller is better.
    target : str
        ``">= 40x"`` compares peer / ours, ``"<= 10 ms"`` compares ours; empty where there is none.
    """

    name: str
    ours: float
    peer: float | None
    unit: str
    target: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times less than the peer."""
        return None if self.peer is None or self.ours <= 0 else self.peer / self.ours

    def as_dict(self) -> dict[str, object]:
        """Return name, ours, peer, unit, ratio and target."""
        values = {**asdict(self), "ratio": self.ratio}
        return {
            key: round(value, 4) if isinstance(value, float) else value
            for key, value in ((key, values[key]) for key in ("name", "ours", "peer", "unit", "ratio", "target"))
        }


@dataclass(frozen=True, slots=True)
class Scale:
    """How large a benchmark is run.

    Parameters
    ----------
    image_hw : tuple of int
        Photo in pixels.
    large_hw : tuple of int
        Very large photo in pixels.
    imgsz : int
        Longer side of the network's input.
    architecture : str
        Network that both sides run, with the same random weights.
    few, some, many : int
        Numbers of masks.
    repeats : int
        Measurements of each value at most; their median counts.
    isolated : bool
        Measure memory in processes of their own; without, numbers mean nothing but all code still runs.
    """

    image_hw: tuple[int, int]
    large_hw: tuple[int, int]
    imgsz: int
    architecture: str
    few: int
    some: int
    many: int
    repeats: int
    isolated: bool


FULL = Scale(
    image_hw=(1500, 2250),
    large_hw=(6532, 9798),
    imgsz=1024,
    architecture="yolov8s-seg",
    few=30,
    some=100,
    many=300,
    repeats=7,
    isolated=True,
)
TINY = Scale(
    image_hw=(90, 130),
    large_hw=(200, 300),
    imgsz=128,
    architecture="yolov8n-seg",
    few=3,
    some=5,
    many=8,
    repeats=1,
    isolated=False,
)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A function that measures a few rows that belong together."""

    name: str
    run: Callable[[Scale], Iterable[Row]]


def median_ms(work: Callable[[], object], repeats: int) -> float:
    """Time a call: the median of up to ``repeats`` runs after one that is not counted, fewer where they are long."""
    work()
    seconds: list[float] = []
    while len(seconds) < repeats and (not seconds or sum(seconds) < _ENOUGH_SECONDS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds) * 1e3


def merge_results(rows: Sequence[Row], path: Path = RESULTS) -> list[dict[str, object]]:
    """Write rows to the results file in place of rows of the same name; other rows stay."""
    known: dict[object, dict[str, object]] = {}
    if path.is_file():
        known = {row["name"]: row for row in json.loads(path.read_text(encoding="utf-8"))}
    known.update((row.name, row.as_dict()) for row in rows)
    merged = list(known.values())
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(merged, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)
    return merged


def verdict(row: dict[str, object]) -> str:
    """Return "met", "missed", or "" for a row without a target."""
    target = str(row["target"])
    if not target:
        return ""
    sign, limit = target.split()[:2]
    value = row["ratio"] if sign == ">=" else row["ours"]
    if not isinstance(value, (int, float)):
        return "missed"
    number = float(limit.removesuffix("x"))
    return "met" if (value >= number if sign == ">=" else value <= number) else "missed"


def show(rows: Sequence[dict[str, object]]) -> None:
    """Print rows as a table."""
    table = Table(title="Speed and memory (smaller is better; ratio = peer / ours)")
    for heading, justify in (("work", "left"), ("ours", "right"), ("peer", "right"), ("unit", "left")):
        table.add_column(heading, justify="right" if justify == "right" else "left", overflow="fold")
    for heading in ("ratio", "target", ""):
        table.add_column(heading, justify="right")
    for row in rows:
        ratio = row["ratio"]
        mark = {"met": "[green]met", "missed": "[red]missed"}.get(verdict(row), "")
        table.add_row(
            str(row["name"]),
            _short(row["ours"]),
            _short(row["peer"]),
            str(row["unit"]),
            f"{_short(ratio)}x" if ratio is not None else "",
            str(row["target"]),
            mark,
        )
    Console().print(table)


def _short(value: object) -> str:
    return (
        f"{value:,.3g}" if isinstance(value, float) and abs(value) < 100 else "" if value is None else f"{value:,.0f}"
    )
