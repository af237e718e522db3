"""What users install: the wheel, the source archive, the metadata, and the pinned requirements."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import fastsam_core

ROOT = Path(__file__).parent.parent
PACKAGES = ("fastsam_core", "napari_fastsam", "fiftyone_fastsam")
EXTRAS = ("napari", "fiftyone", "text", "zarr", "microscopes", "fast", "distributed", "train", "all")


def _build(target: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (archive,) = folder.iterdir()
    return archive


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return zipfile.ZipFile(_build("wheel", tmp_path_factory.mktemp("wheel")))


@pytest.fixture(scope="module")
def wheel_names(wheel: zipfile.ZipFile) -> set[str]:
    return set(wheel.namelist())


@pytest.fixture(scope="module")
def sdist_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    with tarfile.open(_build("sdist", tmp_path_factory.mktemp("sdist"))) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def _tracked(*patterns: str) -> set[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, check=True, capture_output=True, text=True)
    return set(filter(None, listed.stdout.split("\0")))


def _requirements(profile: str) -> dict[str, set[str]]:
    """Return, for each pinned distribution, its versions (several where they depend on the Python version)."""
    text = (ROOT / "requirements" / f"{profile}.txt").read_text()
    pins: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", text, flags=re.MULTILINE):
        pins.setdefault(name, set()).add(version)
    return pins


@pytest.mark.parametrize("package", PACKAGES)
def test_wheel_carries_typed_packages(wheel_names: set[str], package: str) -> None:
    assert {f"{package}/__init__.py", f"{package}/py.typed"} <= wheel_names


def test_wheel_carries_every_tracked_source_file(wheel_names: set[str]) -> None:
    expected = {path.removeprefix("src/") for path in _tracked("src") if (ROOT / path).exists()}
    assert expected <= wheel_names


def test_wheel_carries_the_built_in_model(wheel: zipfile.ZipFile) -> None:
    assert 0 < wheel.getinfo("fastsam_core/weights/builtin.safetensors").file_size < 8_000_000


def test_wheel_carries_the_licence_and_nothing_foreign(wheel_names: set[str]) -> None:
    (licence,) = (name for name in wheel_names if name.endswith("/licenses/LICENSE"))
    dist_info = licence.partition("/")[0]
    assert {name.partition("/")[0] for name in wheel_names} == {*PACKAGES, dist_info}
    assert not [name for name in wheel_names if re.search(r"__pycache__|\.(pyc|nbi|nbc|pt|png)$", name)]


def test_metadata(wheel: zipfile.ZipFile, wheel_names: set[str]) -> None:
    (name,) = (name for name in wheel_names if name.endswith(".dist-info/METADATA"))
    metadata = Parser().parsestr(wheel.read(name).decode())
    assert metadata["Name"] == "fastsam-plugins"
    assert metadata["Version"] == fastsam_core.__version__
    assert metadata["License-Expression"] == "AGPL-3.0-only"
    assert set(metadata.get_all("Provides-Extra", [])) == set(EXTRAS)
    base = {line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert not {line for line in base if re.match(r"(?i)(napari|fiftyone|qtpy|pyqt|pyside|dask|zarr|ray)\b", line)}
    assert "fiftyone-db" not in str(metadata)


def test_version_stands_in_the_citation() -> None:
    assert f"\nversion: {fastsam_core.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_napari_finds_the_manifest(wheel: zipfile.ZipFile, wheel_names: set[str]) -> None:
    (name,) = (name for name in wheel_names if name.endswith(".dist-info/entry_points.txt"))
    entry_points = configparser.ConfigParser()
    entry_points.read_string(wheel.read(name).decode())
    package, _, manifest = entry_points["napari.manifest"]["fastsam-plugins"].partition(":")
    assert f"{package}/{manifest}" in wheel_names


def test_source_archive_is_complete_and_has_no_junk(sdist_names: set[str]) -> None:
    assert {"pyproject.toml", "README.md", "LICENSE", "Makefile", "src/fastsam_core/__init__.py"} <= sdist_names
    _tracked()  # skips where there is no git
    command = ["git", "check-ignore", "--stdin"]
    names = "\n".join(sorted(sdist_names - {""}))
    ignored = subprocess.run(command, cwd=ROOT, input=names, check=False, capture_output=True, text=True)
    assert ignored.stdout == ""


def test_demo_pins_are_a_subset_of_the_test_pins() -> None:
    demo, test = _requirements("demo"), _requirements("test")
    assert demo
    assert {name: versions for name, versions in demo.items() if not versions <= test.get(name, set())} == {}
    assert not {"napari", "fiftyone", "ray", "pyqt6"} & set(demo)


@pytest.mark.parametrize("profile", ["demo", "test", "uv"])
def test_pins_name_no_host_and_no_local_path(profile: str) -> None:
    text = (ROOT / "requirements" / f"{profile}.txt").read_text()
    assert not re.search(r"://|^--|find-links|^\s*/", text, flags=re.MULTILINE)
    assert len(re.findall(r"^\S+==", text, flags=re.MULTILINE)) <= text.count("--hash=sha256:")
    assert "opencv-python==" not in text
    assert "+cpu" not in text


def test_import_directions() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo"]
    checked = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
