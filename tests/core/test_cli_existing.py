"""Results of other images that are in the output folder already, with a made-up network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from fastsam_core import FastSAM
from fastsam_core.checkpoints import ModelInfo
from fastsam_core.cli import app
from fastsam_core.testing import RectangleNetwork


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with ``left/a.tif`` and ``right/a.tif``; every network finds one rectangle."""
    monkeypatch.chdir(tmp_path)
    info = ModelInfo(name="rectangles", imgsz=96)
    monkeypatch.setattr(FastSAM, "load", lambda *_, **__: FastSAM(RectangleNetwork(((4, 4, 40, 60),), (0.9,)), info))
    for name in ("left", "right"):
        (tmp_path / name).mkdir()
        planes = np.full((3, 64, 96), 90, np.uint8)
        tifffile.imwrite(tmp_path / name / "a.tif", planes, photometric="minisblack", metadata={"axes": "ZYX"})
    return tmp_path


def statuses(command: str, *arguments: str) -> tuple[list[str], str]:
    """Run a command that resumes; returns what became of each image, and all that was said."""
    typed = [command, "--skip-existing", "--format", "csv", "--jsonl", *arguments]
    result = CliRunner().invoke(app, typed)
    lines: list[dict[str, Any]] = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == any(line["status"] == "failed" for line in lines), result.output
    return [line["status"] for line in lines], result.output


@pytest.mark.parametrize("command", ["segment", "stack"])
def test_results_of_a_file_of_the_same_name_are_not_taken_for_those_of_another(command: str, folder: Path) -> None:
    assert statuses(command, "left/a.tif")[0] == ["ok"]
    before = Path("fastsam-output/a_measurements.csv").stat()
    said, output = statuses(command, "right/a.tif")
    assert said == ["failed"]
    assert "are of another image" in output
    assert str(Path("right/a.tif")) in output
    assert Path("fastsam-output/a_measurements.csv").stat() == before
    assert statuses(command, "left/a.tif")[0] == ["skipped"]
    assert statuses(command, str(folder / "left" / "a.tif"))[0] == ["skipped"]
    assert statuses(command, "right/a.tif", "left/a.tif")[0] == ["ok", "ok"]
    assert statuses(command, "left/a.tif", "right/a.tif")[0] == ["skipped", "skipped"]


def test_results_of_some_formats_are_not_replaced_by_those_of_another_image() -> None:
    assert statuses("segment", "left/a.tif")[0] == ["ok"]
    assert statuses("segment", "right/a.tif", "--format", "csv,labels")[0] == ["failed"]
    assert not Path("fastsam-output/a_labels.tif").exists()


@pytest.mark.parametrize("which", [("--plane", "1"), ("--plane", "Z=2")])
def test_results_of_another_plane_are_not_taken_for_those_of_this(which: tuple[str, str]) -> None:
    assert statuses("segment", "left/a.tif")[0] == ["ok"]
    said, output = statuses("segment", "left/a.tif", *which)
    assert said == ["failed"]
    assert "plane 0" in output
    assert CliRunner().invoke(app, ["segment", "left/a.tif", *which, "-f", "csv", "--overwrite"]).exit_code == 0
    assert statuses("segment", "left/a.tif", *which)[0] == ["skipped"]


def test_results_of_another_command_or_of_other_planes_of_a_stack_are_not_taken_for_those_wanted(folder: Path) -> None:
    asked = ("both.tif", "--format", "csv", "--axis")
    tifffile.imwrite("both.tif", np.full((2, 3, 64, 96), 90, np.uint8), imagej=True, metadata={"axes": "TZYX"})
    assert statuses("stack", *asked, "Z", "--plane", "T=0")[0] == ["ok"]
    for others in (("Z", "--plane", "T=1"), ("T", "--plane", "Z=0")):
        said, output = statuses("stack", *asked, *others)
        assert said == ["failed"]
        assert "plane {'T': 0}" in output
    assert statuses("stack", *asked, "Z", "--plane", "T=0")[0] == ["skipped"]
    said, output = statuses("segment", "both.tif")
    assert said == ["failed"]
    assert "axis Z" in output

    assert statuses("segment", "left/a.tif", "--format", "labels")[0] == ["ok"]
    steps: list[dict[str, Any]] = [
        {"do": "open", "version": 1, "image": {"shape": [64, 96], "rgb": False}},
        {"do": "commit", "causes": [{"by": "everything"}], "overlap": "keep", "target": "A"},
    ]
    journal = folder / "a.fastsam.jsonl"
    journal.write_text("".join(json.dumps(step | {"at": "2026-11-29T10:21:17.442+00:00"}) + "\n" for step in steps))
    again = ["replay", str(journal), "left/a.tif", "--out", "fastsam-output", "--skip-existing"]
    result = CliRunner().invoke(app, again)
    assert result.exit_code == 1, result.output
    assert "journal a.fastsam.jsonl" in " ".join(result.output.split())


def test_images_and_results_can_be_moved_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert statuses("segment", "left/a.tif", "--out", "results")[0] == ["ok"]
    (folder / "moved").mkdir()
    (folder / "left").rename(folder / "moved" / "left")
    (folder / "results").rename(folder / "moved" / "results")
    monkeypatch.chdir(folder / "moved")
    assert statuses("segment", "left/a.tif", "--out", "results")[0] == ["skipped"]


def test_what_is_kept_about_results_may_be_damaged_or_missing() -> None:
    assert statuses("segment", "left/a.tif")[0] == ["ok"]
    kept = Path("fastsam-output/.fastsam-sources.jsonl")
    kept.write_text('no JSON\n[1]\n{"name": [], "source": 1}\n' + kept.read_text() + '\n{"name": "a", "sou')
    assert statuses("segment", "left/a.tif")[0] == ["skipped"]
    assert statuses("segment", "right/a.tif")[0] == ["failed"]
    assert CliRunner().invoke(app, ["segment", "right/a.tif", "-f", "csv", "--overwrite"]).exit_code == 0
    assert statuses("segment", "right/a.tif")[0] == ["skipped"]
    kept.unlink()
    assert statuses("segment", "left/a.tif")[0] == ["skipped"]


def test_results_in_other_folders_are_no_images(folder: Path) -> None:
    kept = ("-f", "labels,overlay", "--out")
    assert statuses("segment", "left", *kept, "left/first")[0] == ["ok"]
    assert statuses("segment", "left", "-r", *kept, "right/second")[0] == ["ok"]
    assert statuses("segment", ".", "-r", *kept, "third")[0] == ["ok", "ok"]
    assert statuses("segment", "**/*", *kept, "third")[0] == ["skipped", "skipped"]
    (folder / "left" / "first" / "drawn_labels.tif").write_bytes((folder / "left" / "a.tif").read_bytes())
    assert statuses("segment", "left", "-r", *kept, "fourth")[0] == ["ok", "ok"]
    assert statuses("segment", "left/first/a_labels.tif", *kept, "fifth")[0] == ["ok"]
    (folder / "left" / "first" / ".fastsam-sources.jsonl").unlink()
    (folder / "left" / "first" / ".fastsam-sources.jsonl").mkdir()
    assert len(statuses("segment", "left", "-r", *kept, "sixth")[0]) == 4


def test_names_that_are_too_long_or_empty_are_told_of(folder: Path) -> None:
    assert statuses("segment", "left/a.tif")[0] == ["ok"]
    (folder / "left" / "a.tif").rename(folder / f"{'n' * 245}.tif")
    assert statuses("segment", "n" * 245 + ".tif", "right/a.tif", "x" * 300)[0].count("failed") == 3
    result = CliRunner().invoke(app, ["segment", ""])
    assert (result.exit_code, "A path is empty" in result.output) == (2, True)


@pytest.mark.parametrize("command", ["segment", "stack"])
def test_missing_files_are_told_of_before_a_model_is_loaded(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FastSAM, "load", lambda *_, **__: pytest.fail("loaded"))
    said, output = statuses(command, "nosuch.tif", "left/b.tif")
    assert said == ["failed", "failed"]
    assert "There is no file nosuch.tif" in output
