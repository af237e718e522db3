"""Run the linters and the test suites, each to its end, and close with one line over all tests.

Usage: python tools/run_checks.py lint core napari fiftyone

Each suite is a process of its own, so that a crash in Qt or a thread left by FiftyOne cannot spoil the others.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
ADAPTER_SUITES = ("napari", "fiftyone")
LINTERS = (
    ("ruff", "check", "."),
    ("mypy",),
    ("lint-imports",),
)
CLOSING_LINE = re.compile(r"^=+ (?P<counts>.*) in [\d.]+s.* =+$")
NOTHING_COLLECTED = 5  # pytest's exit status


def run_linters() -> bool:
    """Run every linter over the checkout and say whether all are content."""
    commands = [[str(Path(sys.executable).with_name(name)), *rest] for name, *rest in LINTERS]
    statuses = [_announced(command) for command in commands]
    return not any(statuses)


def run_suite(paths: list[Path]) -> tuple[bool, Counter[str]]:
    """Run pytest on some paths; return whether it went well, and its counts ("passed", "failed", ...)."""
    command = [sys.executable, "-m", "pytest", *(str(path.relative_to(ROOT)) for path in paths)]
    counts: Counter[str] = Counter()
    _announce(command)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            closing = CLOSING_LINE.match(line.strip())
            if closing:
                counts = Counter({word: int(number) for number, word in re.findall(r"(\d+) (\w+)", closing["counts"])})
    if process.returncode < 0:
        print(f"\nended by {signal.Signals(-process.returncode).name}, not by itself", flush=True)
    elif not counts:
        print(f"\nended with exit status {process.returncode}, without counts", flush=True)
    only_skipped = process.returncode == NOTHING_COLLECTED and counts["skipped"] > 0
    return process.returncode == 0 or only_skipped, counts


def suite_paths(name: str) -> list[Path]:
    """Return the test files and folders of a suite; "core" is all that belongs to no adapter."""
    if name in ADAPTER_SUITES:
        return [path for path in [TESTS / name] if path.is_dir()]
    folders = [path for path in TESTS.iterdir() if path.is_dir() and path.name[0] not in "._"]
    return sorted([path for path in folders if path.name not in ADAPTER_SUITES] + list(TESTS.glob("test_*.py")))


def main(names: list[str]) -> int:
    """Run the named checks and return the exit status."""
    unknown = set(names) - {"lint", "core", *ADAPTER_SUITES}
    if unknown or not names:
        print(f"{__doc__}\nunknown: {', '.join(sorted(unknown)) or 'nothing named'}", file=sys.stderr)
        return 2
    started = time.monotonic()
    verdicts: dict[str, bool] = {}
    total: Counter[str] = Counter()
    for name in names:
        if name == "lint":
            verdicts[name] = run_linters()
        elif paths := suite_paths(name):
            verdicts[name], counts = run_suite(paths)
            total += counts
    print()
    for name, well in verdicts.items():
        print(f"{name}: {'ok' if well else 'FAILED'}")
    if total:
        summary = ", ".join(f"{number} {word}" for word, number in total.items())
        print(f" {summary} in {time.monotonic() - started:.2f}s ".center(80, "="))
    return 0 if all(verdicts.values()) else 1


def _announced(command: list[str]) -> int:
    _announce(command)
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def _announce(command: list[str]) -> None:
    print(f"\n$ {Path(command[0]).name} {' '.join(command[1:])}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
