"""Reports: JSON and back, Markdown, plots, the page of benchmarks, timings."""

from __future__ import annotations

import json
import math
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fastsam_core._ultralytics import import_ultralytics
from fastsam_core.cli import app
from fastsam_core.errors import AnnotationError, CheckpointError, InvalidParameterError
from fastsam_core.evaluation import speed
from fastsam_core.evaluation.document import benchmarks_page
from fastsam_core.evaluation.plots import draw_curves
from fastsam_core.evaluation.published import PUBLISHED
from fastsam_core.evaluation.reports import Curve, Report, Table, format_cell, markdown_table
from fastsam_core.evaluation.speed import CASES, Figures, speed_report, time_cases

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CURVE = Curve("pr", "a", "x", "y", (0.0, 1.0), (1.0, math.nan))
REPORT = Report(
    "edges",
    (Table("2 images", ("ODS", "what"), ((0.5, "a|b"), (math.nan, None))),),
    {"ods": 0.5, "ap": math.nan},
    settings={"data": "data/bsds500 test", "conf": 0.1},
    machine={"CPU cores": "2"},
    curves=(CURVE,),
    images=({"image": "x", "ods": None},),
    notes=("Mind this.",),
)


def test_json_and_back(tmp_path: Path) -> None:
    path = REPORT.save(tmp_path / "r.json")
    assert "NaN" not in path.read_text()
    again = Report.load(path)
    assert again.to_markdown() == REPORT.to_markdown()
    assert math.isnan(again.values["ap"])
    assert again.curves[0].x == CURVE.x
    assert math.isnan(again.curves[0].y[1])
    assert (again.settings, again.machine, again.notes) == (REPORT.settings, REPORT.machine, REPORT.notes)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "other"}', '{"format": "fastsam-evaluation/1"}', "[" * 100_000]
)
def test_other_files_are_no_reports(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(AnnotationError, match=r"r\.json is no evaluation report"):
        Report.load(tmp_path / "r.json")
    with pytest.raises(AnnotationError, match="no evaluation report"):
        Report.load(tmp_path / "missing.json")


def test_markdown() -> None:
    assert markdown_table(("n", "what"), ((0.5, "a|b"), (None, "c"))).splitlines() == [
        "| n | what |",
        "| --: | --- |",
        "| 0.500 | a\\|b |",
        "| – | c |",
    ]
    cells = (1234.56, 123.456, 3, math.nan, "x")
    assert [format_cell(cell) for cell in cells] == ["1235", "123.5", "3", "–", "x"]


def test_plots(tmp_path: Path) -> None:
    other = Curve("time", "b", "x", "y", (1.0, 10.0), (2.0, 3.0), log_x=True)
    written = draw_curves([CURVE, other, CURVE], tmp_path)
    assert [path.name for path in written] == ["pr.png", "time.png"]
    for path in written:
        with Image.open(path) as picture:
            assert picture.size > (300, 200)


def test_the_page_tells_measured_from_published(tmp_path: Path) -> None:
    path, out = REPORT.save(tmp_path / "r.json"), tmp_path / "page.md"
    result = CliRunner().invoke(app, ["evaluate", "report", str(path), "--out", str(out), "--note", "No weights of X."])
    assert result.exit_code == 0, result.output
    page = out.read_text()
    assert page == benchmarks_page([REPORT], ["No weights of X."])
    assert "Measured: data/bsds500 test, 2 images:" in page
    assert "| FastSAM | 0.750 | 0.790 | 0.793 | 0.903 |" in page
    assert page.index("Measured:") < page.index("Published: BSDS500")
    assert "- No weights of X." in page
    assert "Not measured here: time for prompts, object proposals" in page
    assert "CPU cores 2" in page
    assert CliRunner().invoke(app, ["evaluate", "report", str(out)]).exit_code == 1


def test_published_tables_are_whole() -> None:
    for tables in PUBLISHED.values():
        for table in tables:
            assert all(len(row) == len(table.columns) for row in table.rows)


# ---- speed ------------------------------------------------------------------------------------------------------


def test_timing_takes_the_median_without_the_first_run() -> None:
    asked: list[NDArray[np.float64]] = []
    grids: list[int | None] = []

    def answer(points_yx: NDArray[np.float64], grid: int | None) -> int:
        asked.append(points_yx)
        grids.append(grid)
        return 7

    ticks = count()
    masks, milliseconds = time_cases(answer, (50, 100), repeats=3, clock=lambda: float(next(ticks)))
    assert masks == 7
    assert list(milliseconds) == list(CASES)
    assert all(value == 1000 for value in milliseconds.values())
    assert [len(points) for points in asked[::4]] == list(CASES.values())
    assert grids[::4] == [None, None, None, 16, 32, 64]
    grid = asked[12]
    assert grid[[0, -1]].tolist() == [[50 / 32, 100 / 32], [50 - 50 / 32, 100 - 100 / 32]]
    assert all(((points >= 0) & (points < (50, 100))).all() for points in asked)


def test_table_of_times() -> None:
    sides = [Figures("ours", 3_400_000, 12, dict.fromkeys(CASES, 20.0), 500.0)]
    sides.append(Figures("theirs", 3_400_000, 12, dict.fromkeys(CASES, 90.0), math.nan))
    report = speed_report(sides, (480, 640))
    assert report.values["ours_100"] == 20
    assert report.values["peer_E(64x64)"] == 90
    assert report.tables[0].rows[0][1] == "3.4M"
    assert {curve.plot for curve in report.curves} == {"time"}


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    picture = np.full((64, 64, 3), 40, np.uint8)
    picture[16:48, 16:48] = 220
    Image.fromarray(picture).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.mark.slow
def test_both_sides_are_measured_with_the_same_network(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "CASES", {"1": 1, "10": 10})
    request = speed.Request(photo, "builtin", repeats=1, search={"imgsz": 64})
    ours, peer = (speed.measure_here(side, request) for side in ("ours", "ultralytics"))
    assert ours.parameters == peer.parameters > 1e6
    assert all(value > 0 for value in (*ours.milliseconds.values(), *peer.milliseconds.values()))
    assert abs(ours.masks - peer.masks) <= 1


@pytest.mark.slow
def test_sam_is_measured_with_weights_of_the_users(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    sam_build = import_ultralytics("ultralytics.models.sam.build")
    weights = tmp_path / "mobile_sam.pt"
    torch.save(sam_build.build_mobile_sam().state_dict(), weights)
    monkeypatch.setattr(speed, "CASES", {"10": 10, "E(2x2)": 4})
    figures = speed.measure_here("sam", speed.Request(photo, "builtin", repeats=1, sam=weights))
    assert figures.name == "ultralytics.SAM (mobile_sam)"
    assert figures.parameters == 10_130_092
    assert all(value > 0 for value in figures.milliseconds.values())


def test_sam_without_its_weights(photo: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidParameterError, match=r"Expected: a file such as mobile_sam\.pt"):
        speed.measure_here("sam", speed.Request(photo, "builtin", sam=tmp_path / "sam_b.pt"))
    (tmp_path / "sam_b.pt").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="cannot be loaded as SAM"):
        speed.measure_here("sam", speed.Request(photo, "builtin", sam=tmp_path / "sam_b.pt"))


def test_the_command_measures_each_side_apart(photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(side: str, request: speed.Request) -> Figures:
        assert request.repeats == 2
        return Figures(side, 1, 2, dict.fromkeys(CASES, 3.0), 4.0)

    monkeypatch.setattr(speed, "measure", measure)
    arguments = ["evaluate", "speed", str(photo), "--repeats", "2", "--json", str(tmp_path / "s.json")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert json.loads((tmp_path / "s.json").read_text())["values"]["peer_1"] == 3
    assert CliRunner().invoke(app, [*arguments, "--no-peer"]).exit_code == 0
    assert "peer_1" not in json.loads((tmp_path / "s.json").read_text())["values"]
