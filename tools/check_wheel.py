"""Build the wheel, look inside, install it into an empty environment, and use the napari plugin from its menus there.

Usage: python tools/check_wheel.py [--qt PyQt6|PySide6] [--keep FOLDER] [--tests PATH...]

With ``--tests`` those tests of the checkout run against the installed wheel, too, e.g. ``--qt PySide6 --tests
tests/napari``. Needs Xvfb and uv, and takes a minute without tests when uv has the packages in its cache.
"""

from __future__ import annotations

import argparse
import configparser
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from local_services import display

ROOT = Path(__file__).resolve().parent.parent
UV = Path(sys.executable).with_name("uv")
PLUGIN = "fastsam-plugins"
# PySide6 6.11 and newer drop references to None on Python 3.11 until the interpreter aborts; napari itself excludes
# 6.11.0 and 6.11.1.
QT = {"PyQt6": "PyQt6", "PySide6": "PySide6>=6.8,<6.11"}
TEST_PACKAGES = ("hypothesis", "pytest", "pytest-qt", "pytest-timeout", "psutil")


def run(*command: object, **variables: str) -> None:
    """Run a command from the root of the checkout; end with its error if it fails."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    finished = subprocess.run(list(map(str, command)), cwd=ROOT, env=environment | variables, check=False)
    if finished.returncode:
        raise SystemExit(f"check_wheel: failed with {finished.returncode}: {' '.join(map(str, command))}")


def inspect(wheel: Path) -> None:
    """Say what is in the wheel; end if something that napari needs is not."""
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        [entry_points] = (name for name in sizes if name.endswith(".dist-info/entry_points.txt"))
        parser = configparser.ConfigParser()
        parser.read_string(archive.read(entry_points).decode())
    manifest = parser["napari.manifest"][PLUGIN].replace(":", "/")
    for name in (manifest, "fastsam_core/weights/builtin.safetensors", "napari_fastsam/py.typed"):
        if name not in sizes:
            raise SystemExit(f"check_wheel: {name} is missing in {wheel.name}")
        print(f"{sizes[name]:>10}  {name}")
    print(f"{wheel.stat().st_size:>10}  {wheel.name}, {len(sizes)} files")


def write_pins(path: Path) -> None:
    """Write the pinned versions without hashes, and without the Qt binding."""
    text = (ROOT / "requirements" / "test.txt").read_text(encoding="utf-8")
    pins = re.findall(r"^([A-Za-z0-9._-]+==[^\\\n]*?) *\\?$", text, flags=re.MULTILINE)
    path.write_text("\n".join(pin for pin in pins if not pin.startswith("pyqt6")) + "\n", encoding="utf-8")


def check(folder: Path, qt: str, tests: list[str]) -> None:
    """Do everything in a folder that is empty at first."""
    python = folder / "env" / "bin" / "python"
    run(UV, "build", "--quiet", "--wheel", "--out-dir", folder)
    [wheel] = folder.glob("*.whl")
    inspect(wheel)
    write_pins(folder / "pins.txt")
    run(UV, "venv", "--quiet", "--python", sys.executable, folder / "env")
    # opencv-python-headless stands for opencv-python, as in the tests' own environment
    overrides = ("--constraints", folder / "pins.txt", "--overrides", "requirements/test-overrides.txt")
    wanted = (f"{wheel}[napari]", "opencv-python-headless", QT[qt], *(TEST_PACKAGES if tests else ()))
    run(UV, "pip", "install", "--quiet", "--python", python, *overrides, *wanted)
    run(python.with_name("npe2"), "validate", PLUGIN)
    home = folder / "home"
    home.mkdir()
    with display() as name:
        variables = {"DISPLAY": name, "QT_API": qt.lower(), "HOME": str(home), "FASTSAM_TEST_QT": qt}
        run(python, "tools/napari_menu_probe.py", folder / "window.png", **variables)
        if tests:
            run(python, "-m", "pytest", "-q", *tests, **variables)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Check the wheel in an empty environment.")
    parser.add_argument("--qt", choices=sorted(QT), default="PyQt6", help="the binding napari is to use")
    parser.add_argument("--keep", type=Path, help="an empty folder for wheel, environment and picture")
    parser.add_argument("--tests", nargs="*", default=[], help="tests to run against the installed wheel")
    options = parser.parse_args()
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        check(options.keep.resolve(), options.qt, options.tests)
        return
    with tempfile.TemporaryDirectory(prefix="fastsam-wheel-") as folder:
        check(Path(folder), options.qt, options.tests)


if __name__ == "__main__":
    main()
