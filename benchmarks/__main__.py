"""Run benchmarks: ``python -m benchmarks [--only TEXT] [--list]``; results go to ``benchmarks/results.json``."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from pathlib import Path

from rich.progress import Progress

from benchmarks.harness import FULL, Benchmark, Row, merge_results, show


def find_benchmarks() -> list[Benchmark]:
    """Return the ``BENCHMARKS`` of all files here whose names begin with ``bench_``."""
    names = sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    modules = (importlib.import_module(f"benchmarks.{name}") for name in names if name.startswith("bench_"))
    return [benchmark for module in modules for benchmark in module.BENCHMARKS]


def main() -> None:
    """Run the chosen benchmarks, keep earlier rows of the others, and print everything."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure speed and memory.")
    parser.add_argument("--only", default="", metavar="TEXT", help="run benchmarks whose names contain this")
    parser.add_argument("--list", action="store_true", help="show the names and stop")
    options = parser.parse_args()
    chosen = [benchmark for benchmark in find_benchmarks() if options.only in benchmark.name]
    if options.list:
        print(*(benchmark.name for benchmark in chosen), sep="\n")
        return
    merged: list[dict[str, object]] = []
    with Progress() as progress:
        task = progress.add_task("", total=len(chosen))
        for benchmark in chosen:
            progress.update(task, description=benchmark.name)
            rows: list[Row] = list(benchmark.run(FULL))
            merged = merge_results(rows)
            progress.advance(task)
    show(merged)


if __name__ == "__main__":
    main()
