"""The example scripts run and write what they say."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastsam_core.checkpoints import ModelInfo
from fastsam_core.model import FastSAM
from fastsam_core.testing import RectangleNetwork

EXAMPLES = Path(__file__).parents[2] / "examples"
BOXES_XYXY = ((8, 8, 40, 56), (56, 16, 84, 40), (60, 48, 72, 60))


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(
        FastSAM,
        "load",
        lambda name: FastSAM(RectangleNetwork(BOXES_XYXY, (0.9, 0.8, 0.7)), ModelInfo(name=name, imgsz=96)),
    )
    monkeypatch.syspath_prepend(str(EXAMPLES))
    picture = np.full((64, 96, 3), 60, np.uint8)
    for (x0, y0, x1, y1), value in zip(BOXES_XYXY, (90, 120, 250), strict=True):
        picture[y0:y1, x0:x1] = value
    Image.fromarray(picture).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def run(name: str, *arguments: object) -> None:
    before = sys.argv
    sys.argv = [name, *map(str, arguments)]
    try:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    finally:
        sys.argv = before


def test_anomaly(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("anomaly.py", photo, "--out", tmp_path / "a.png", "--largest", "0.3")
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert first == "1: x 60–72, y 48–60, 144 px"  # the brightest differs most
    assert second.startswith("2: x 56–84")
    run("anomaly.py", photo, "--out", tmp_path / "a.png", "--point", "20,20", "--box", "56,16,84,40")
    assert [line[:10] for line in capsys.readouterr().out.splitlines()[:2]] == ["1: x 8–40,", "2: x 56–84"]
    assert (tmp_path / "a.png").exists()


def test_salient(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("salient.py", photo, "--out", tmp_path / "s.png")
    assert capsys.readouterr().out.startswith("x 56–84, y 16–40")
    with Image.open(tmp_path / "s.png") as cutout:
        assert (cutout.mode, cutout.size) == ("RGBA", (28, 24))
    with pytest.raises(SystemExit, match="nothing found"):
        run("salient.py", photo, "--out", tmp_path / "s.png", "--smallest", "0.9")


def test_buildings(photo: Path, tmp_path: Path) -> None:
    run("buildings.py", photo, "--out", tmp_path / "b.geojson", "--smallest", "200", "--largest", "0.5")
    document = json.loads((tmp_path / "b.geojson").read_text())
    rings = [feature["geometry"]["coordinates"][0] for feature in document["features"]]
    assert len(rings) == 2
    assert all(ring[0] == ring[-1] for ring in rings)
    xs, ys = np.array(rings[0]).T
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == (8, 40, 8, 56)
    assert (tmp_path / "b.png").exists()


@pytest.mark.parametrize("name", ["anomaly.py", "buildings.py", "salient.py"])
def test_what_cannot_be_read_or_written_is_told_in_a_line(name: str, photo: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^error: .*missing\.png"):
        run(name, tmp_path / "missing.png")
    with pytest.raises(SystemExit, match=r"^error: "):
        run(name, photo, "--smallest" if name == "salient.py" else "--largest", "0.1", "--out", photo / "a.png")
