"""Run the linters and the test suites, each to its end, and close with one line over all tests.

Usage: python tools/run_checks.py lint core napari fiftyone

Each suite is a process of its own, so that a crash in Qt or a thread left by FiftyOne cannot spoil the others.
What is wrong with one stands at the very end again, as logs of continuous integration are often cut off before.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections import Counter, deque
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
CRASHED = "Current thread "  # begins faulthandler's stack of the thread that crashed
REPEATED_LINES = 16


def run_linters() -> list[str] | None:
    """Run every linter over the checkout and say which are not content, if any."""
    wrong = [name for name, *rest in LINTERS if _announced([str(Path(sys.executable).with_name(name)), *rest])]
    return wrong or None


def run_suite(paths: list[Path]) -> tuple[list[str] | None, Counter[str]]:
    """Run pytest on some paths; return what went wrong, if anything did, and its counts ("passed", "failed", ...)."""
    command = [sys.executable, "-m", "pytest", *(str(path.relative_to(ROOT)) for path in paths)]
    counts: Counter[str] = Counter()
    last: deque[str] = deque(maxlen=REPEATED_LINES)
    crash: list[str] = []
    _announce(command)
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            last.append(line.rstrip())
            if line.startswith(CRASHED) or 0 < len(crash) < REPEATED_LINES:
                crash.append(line.rstrip())
            closing = CLOSING_LINE.match(line.strip())
            if closing:
                counts = Counter({word: int(number) for number, word in re.findall(r"(\d+) (\w+)", closing["counts"])})
    if process.returncode == 0 or (process.returncode == NOTHING_COLLECTED and counts["skipped"] > 0):
        return None, counts
    wrong = list(last)
    if process.returncode < 0:
        wrong = crash or wrong
        wrong.append(f"ended by {signal.Signals(-process.returncode).name}, not by itself")
    elif not counts:
        wrong.append(f"ended with exit status {process.returncode}, without counts")
    return wrong, counts


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
    wrongs: dict[str, list[str] | None] = {}
    total: Counter[str] = Counter()
    for name in names:
        if name == "lint":
            wrongs[name] = run_linters()
        elif paths := suite_paths(name):
            wrongs[name], counts = run_suite(paths)
            total += counts
    print()
    for name, wrong in wrongs.items():
        print(f"{name}: {'ok' if wrong is None else 'FAILED'}", *(f"    {line}" for line in wrong or ()), sep="\n")
    if total:
        summary = ", ".join(f"{number} {word}" for word, number in total.items())
        print(f" {summary} in {time.monotonic() - started:.2f}s ".center(80, "="))
    return int(any(wrong is not None for wrong in wrongs.values()))


def _announced(command: list[str]) -> int:
    _announce(command)
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def _announce(command: list[str]) -> None:
    print(f"\n$ {Path(command[0]).name} {' '.join(command[1:])}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
