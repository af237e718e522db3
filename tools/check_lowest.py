"""Install the lowest versions that pyproject.toml allows into an empty environment, and run tests with them.

Usage: python tools/check_lowest.py [--keep FOLDER] [PATH...]

By default the tests of the core and of the napari plugin; not those that compare with how the newest Ultralytics rounds
(marked ``upstream``), and warnings of old packages are no errors. Needs Xvfb and uv, and takes about half an hour.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from check_wheel import UV, run
from local_services import display

EXTRAS = "napari,text,fast,train"


def check(folder: Path, tests: list[str]) -> None:
    """Do everything in a folder that is empty at first."""
    python = folder / "env" / "bin" / "python"
    run(UV, "venv", "--quiet", "--python", sys.executable, folder / "env")
    lowest = ("--resolution", "lowest-direct", "--overrides", "requirements/test-overrides.txt")
    wanted = ("--group", "demo", "--group", "test", "--editable", f".[{EXTRAS}]")
    run(UV, "pip", "install", "--quiet", "--python", python, *lowest, *wanted)
    run(UV, "pip", "list", "--python", python)
    home = folder / "home"
    home.mkdir()
    with display() as name:
        chosen = ("-m", "not upstream and not fiftyone", "-o", "filterwarnings=default")
        run(python, "-m", "pytest", "-q", *chosen, *tests, DISPLAY=name, HOME=str(home))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Run tests with the lowest versions allowed.")
    parser.add_argument("tests", nargs="*", default=["tests/core", "tests/napari"], help="what to run")
    parser.add_argument("--keep", type=Path, help="an empty folder for the environment")
    options = parser.parse_args()
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        check(options.keep.resolve(), options.tests)
        return
    with tempfile.TemporaryDirectory(prefix="fastsam-lowest-") as folder:
        check(Path(folder), options.tests)


if __name__ == "__main__":
    main()
