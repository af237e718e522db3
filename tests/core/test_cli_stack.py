"""``fastsam stack`` with a made-up network that always finds the same three rectangles."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from fastsam_core import FastSAM, Masks
from fastsam_core.checkpoints import ModelInfo
from fastsam_core.cli import app
from fastsam_core.cli._progress import Bar
from fastsam_core.cli._prompts import PromptSet
from fastsam_core.drawings import Drawing
from fastsam_core.testing import RectangleNetwork

if TYPE_CHECKING:
    import numpy.typing as npt
    from typer.testing import Result

IMAGE_HW = (64, 96)
BOXES_XYXY = ((4, 4, 40, 60), (50, 8, 90, 56), (60, 16, 72, 28))


class Blobs:
    """Finds the third rectangle in bright planes only."""

    def forward(self, batch_bhwc: npt.NDArray[np.uint8]) -> Any:
        boxes = BOXES_XYXY if batch_bhwc[:, 20:40, 20:40].max() > 0 else BOXES_XYXY[:2]
        return RectangleNetwork(boxes, (0.9, 0.8, 0.7)[: len(boxes)]).forward(batch_bhwc)


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replace the loading of models; returns what was asked for."""
    asked: list[dict[str, Any]] = []

    def load(name: str, *, progress: Any, **options: Any) -> FastSAM:
        asked.append({"name": name, **options})
        return FastSAM(Blobs(), ModelInfo(name="blobs", imgsz=96))

    monkeypatch.setattr(FastSAM, "load", load)
    return asked


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with a stack, whose planes 2 to 4 are black, and a single plane."""
    monkeypatch.chdir(tmp_path)
    pixels = np.full((6, *IMAGE_HW), 100, np.uint16)
    pixels += np.arange(96, dtype=np.uint16)
    pixels[2:5] = 100
    tifffile.imwrite("cells.tif", pixels, metadata={"axes": "ZYX"}, photometric="minisblack")
    Image.new("L", IMAGE_HW[::-1], 90).save("single.png")
    return tmp_path


def run(*arguments: str, command: str = "stack") -> Result:
    return CliRunner().invoke(app, [command, *arguments])


def write_damaged(name: str, plane: int) -> None:
    """Write a stack of six planes, of which one cannot be read."""
    pixels = np.random.default_rng(0).integers(0, 900, (6, *IMAGE_HW), np.uint16)
    tifffile.imwrite(name, pixels, metadata={"axes": "ZYX"}, photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(name) as tiff:
        start = tiff.pages[plane].dataoffsets[0]
    content = bytearray(Path(name).read_bytes())
    content[start : start + 100] = b"U" * 100
    Path(name).write_bytes(content)


def test_a_plane_that_cannot_be_read_stays_empty(folder: Path) -> None:
    write_damaged("cells.tif", 3)
    result = run("cells.tif", "--jsonl", "--out", "out")
    assert result.exit_code == 1
    [line] = [json.loads(line) for line in result.stdout.splitlines()]
    assert (line["status"], line["planes"], line["objects"]) == ("ok", 6, 3)
    assert [words.split(":")[0] for words in line["unreadable_planes"]] == ["Z = 3"]
    assert "cells.tif: Z = 3" in result.stderr
    assert "Planes that could not be read, and are empty: 1." in result.stderr
    labels = tifffile.imread("out/cells_labels.tif")
    assert labels.any(axis=(1, 2)).tolist() == [True, True, True, False, True, True]


def test_all_formats(folder: Path) -> None:
    result = run("cells.tif", "--jsonl", "--out", "out")
    assert result.exit_code == 0, result.output
    [line] = [json.loads(line) for line in result.stdout.splitlines()]
    assert (line["planes"], line["objects"], line["masks"], line["image_hw"]) == (6, 4, 15, list(IMAGE_HW))
    assert "96 × 64 × 6" in result.stderr
    with tifffile.TiffFile(line["outputs"]["labels"]) as file:
        assert (file.series[0].axes, file.series[0].dtype.name) == ("ZYX", "uint16")
        labels = file.asarray()
    assert [np.unique(plane).tolist() for plane in labels] == [[0, 1, 2, 3]] * 2 + [[0, 1, 2]] * 3 + [[0, 1, 2, 4]]
    with Path(line["outputs"]["csv"]).open() as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["plane"]), int(row["label"])) for row in rows][-3:] == [(5, 1), (5, 2), (5, 4)]
    coco = json.loads(Path(line["outputs"]["coco"]).read_text())
    assert [image["plane"] for image in coco["images"]] == [{"Z": index} for index in range(6)]
    assert [entry["id"] for entry in coco["annotations"]] == list(range(1, 16))
    last = [entry for entry in coco["annotations"] if entry["image_id"] == 6]
    assert [entry["attributes"]["object"] for entry in last] == [1, 2, 4]
    np.testing.assert_array_equal(Masks.from_coco(last).to_label_map([1, 2, 4]), labels[5])
    with Image.open(line["outputs"]["overlay"]) as picture:
        assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 100


def test_objects_have_the_mean_of_the_pixels_with_a_value(folder: Path) -> None:
    pixels = np.zeros((2, *IMAGE_HW), np.float32)
    pixels[0] = np.nan
    pixels[0, 20, 20] = 100  # in the first rectangle
    tifffile.imwrite("a.tif", pixels, metadata={"axes": "ZYX"}, photometric="minisblack")
    result = run("a.tif", "--intensities", "--format", "csv,objects", "--contrast", "0,1000", "--out", "out")
    assert result.exit_code == 0, result.output
    masks, objects = (
        list(csv.DictReader(Path(f"out/a_{name}.csv").read_text().splitlines())) for name in ("measurements", "objects")
    )
    [area] = [int(row["area_px"]) for row in masks if (row["plane"], row["label"]) == ("1", "1")]
    assert float(objects[0]["intensity_mean"]) == pytest.approx(100 / (area + 1), rel=1e-4)


@pytest.mark.parametrize("damaged", [False, True])
def test_tables_without_masks_have_the_same_columns(damaged: bool, folder: Path) -> None:
    if damaged:
        write_damaged("cells.tif", 0)
    heads = []
    for conf in ("0.5", "0.95"):
        how = ("--conf", conf, "--intensities", "--format", "csv,objects", "--overwrite")
        assert run("cells.tif", *how).exit_code == damaged
        tables = [Path(f"fastsam-output/cells_{name}.csv").read_text() for name in ("measurements", "objects")]
        heads.append([table.splitlines()[0] for table in tables])
        assert all((table.count("\n") > 1) == (conf == "0.5") for table in tables)
    assert heads[0] == heads[1]
    assert all("intensity_mean" in head for head in heads[0])


def test_linking_options(folder: Path) -> None:
    def objects(*arguments: str) -> list[int]:
        result = run("cells.tif", "--format", "labels", "--overwrite", *arguments)
        assert result.exit_code == 0, result.output
        labels = tifffile.imread("fastsam-output/cells_labels.tif")
        return [int(plane.max()) for plane in labels]

    assert objects("--max-gap", "3") == [3, 3, 2, 2, 2, 3]
    assert objects("--min-planes", "2") == [3, 3, 2, 2, 2, 2]
    assert objects("--min-planes", "3") == [2] * 6
    assert objects("--axis", "z", "--conf", "0.85") == [1] * 6


def test_options_reach_model_reader_and_search(folder: Path, loaded: list[dict[str, Any]]) -> None:
    pixels = np.zeros((2, 3, 4, *IMAGE_HW), np.uint16)
    pixels[1, :, 2, :, :] = 700
    tifffile.imwrite("movie.tif", pixels, metadata={"axes": "TZCYX"}, photometric="minisblack")
    reading = ("--axis", "Z", "--plane", "T=1", "--channels", "2", "--contrast", "0,1400")
    search = (
        "--conf",
        "0.3",
        "--iou",
        "0.6",
        "--max-det",
        "7",
        "--imgsz",
        "96",
        "--tile-px",
        "64",
        "--overlap-px",
        "9",
    )
    loading = ("--model", "FastSAM-x", "--device", "cpu", "--runtime", "torch", "--precision", "bf16", "--trust")
    result = run("movie.tif", *reading, *search, *loading, "--format", "coco")
    assert result.exit_code == 0, result.output
    assert loaded == [{"name": "FastSAM-x", "device": "cpu", "runtime": "torch", "precision": "bf16", "trust": True}]
    coco = json.loads(Path("fastsam-output/movie_coco.json").read_text())
    assert len(coco["images"]) == 3
    wanted = {"conf": 0.3, "iou": 0.6, "max_det": 7, "imgsz": [96], "tile_px": 64, "overlap_px": 9}
    assert wanted.items() <= coco["info"].items()


def test_one_bad_stack_does_not_stop_the_rest(folder: Path, loaded: list[dict[str, Any]]) -> None:
    result = run("single.png", "cells.tif", "--format", "labels")
    assert result.exit_code == 1
    words = " ".join(result.output.split())
    assert "There is no stack of planes" in words
    assert "1 segmented, 1 failed" in words
    assert len(loaded) == 1
    names = sorted(path.name for path in Path("fastsam-output").iterdir())
    assert names == [".fastsam-sources.jsonl", "cells_labels.tif"]


def test_the_bar_says_which_plane_and_tile_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(Bar, "say", lambda _, text: said.append(text))
    assert run("cells.tif", "--format", "coco", "--tile-px", "64", "--overlap-px", "32").exit_code == 0
    first = ["cells.tif", "cells.tif, tile 1 of 2", "cells.tif, tile 2 of 2", "cells.tif, Z 2 of 6"]
    begin = said.index("cells.tif")
    assert said[begin : begin + 5] == [*first, "cells.tif, Z 2 of 6, tile 1 of 2"]
    assert said[-2:] == ["cells.tif, Z 6 of 6", "Writing cells"]


def test_a_folder_that_cannot_be_written_is_said_before_the_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").write_text("in the way")
    seen: list[Path] = []
    monkeypatch.setattr("fastsam_core.stacks.segment_stack", lambda source, *_, **__: seen.append(source))
    result = run("cells.tif", "--format", "coco", "--out", "file/out")
    assert result.exit_code == 1
    assert "Cannot write" in result.output
    assert not seen
    assert run("single.png", "--format", "coco", "--out", "new").exit_code == 1
    assert not Path("new").exists()


def test_earlier_results_are_kept_unless_told_otherwise(folder: Path, loaded: list[dict[str, Any]]) -> None:
    assert run("cells.tif", "--format", "labels").exit_code == 0
    assert "exists already" in " ".join(run("cells.tif", "--format", "labels").output.split())
    assert "1 skipped" in run("cells.tif", "--format", "labels", "--skip-existing").output
    assert len(loaded) == 1
    assert run("cells.tif", "--format", "labels", "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--plane", "3"], "an axis and an index"),
        (["--plane", "T=1,t=0"], "each axis once"),
        (["--format", "png"], "some of overlay,labels,coco,csv"),
        (["--overwrite", "--skip-existing"], "exclude each other"),
        (["--channels", "x"], "Cannot read --channels"),
        (["--axis", "Y"], "Cannot read --axis"),
        (["--axis", "ZZ"], "Cannot read --axis"),
        (["--axes", "ZX"], "Cannot read --axes"),
        (["--min-iou", "0"], "'--min-iou': 0.0 is not in the range 0<x<=1"),
        (["--min-iou", "nan"], "'--min-iou'"),
    ],
)
def test_wrong_usage(folder: Path, arguments: list[str], problem: str, loaded: list[dict[str, Any]]) -> None:
    result = run("cells.tif", *arguments)
    assert result.exit_code == 2
    assert problem in " ".join(result.output.split())
    assert not loaded


def test_tiles_that_share_more_than_there_is_of_them_are_wrong_usage(folder: Path) -> None:
    result = run("cells.tif", "--tile-px", "64", "--overlap-px", "64")
    assert result.exit_code == 2
    assert "an overlap_px below tile_px, which is 64" in " ".join(result.output.split())


def test_segment_says_that_a_file_has_more_planes(folder: Path) -> None:
    hint = "Stacks, of which the first plane was segmented: 1. fastsam stack takes all planes."
    both = run("cells.tif", "single.png", "--format", "coco", command="segment")
    assert hint in " ".join(both.output.split())
    for arguments in (["cells.tif", "--plane", "2"], ["single.png"]):
        result = run(*arguments, "--format", "coco", "--overwrite", command="segment")
        assert hint not in " ".join(result.output.split())


def test_all_stacks_of_a_file(folder: Path) -> None:
    with tifffile.TiffWriter(folder / "wells.ome.tif") as tiff:
        for _ in range(2):
            tiff.write(np.zeros((3, 40, 50), np.uint8), metadata={"axes": "ZYX"})
    result = run("wells.ome.tif", "--series", "all", "--format", "labels,csv", "--intensities", "--jsonl")
    assert result.exit_code == 0, result.output
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["series"], line["planes"]) for line in found] == [(0, 3), (1, 3)]
    assert all(Path(line["outputs"]["labels"]).name == f"wells.ome_s{line['series']}_labels.tif" for line in found)


@pytest.mark.parametrize("command", ["segment", "stack"])
def test_one_of_several_images_is_not_read_as_a_stack_of_them(command: str, folder: Path) -> None:
    with tifffile.TiffWriter(folder / "images.tif") as tiff:
        for _ in range(3):
            tiff.write(np.full(IMAGE_HW, 90, np.uint8), photometric="minisblack", contiguous=False)
    which = {"segment": ("--plane", "1"), "stack": ()}[command]
    result = run("images.tif", "--series", "all", *which, "--format", "csv", "--jsonl", command=command)
    assert result.exit_code == 1
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["status"] for line in found] == ["failed"] * 3
    assert "Image 0 of the file has one plane" in found[0]["error"]["message"]
    assert not list(Path("fastsam-output").glob("*.csv"))
    assert run("images.tif", *which, "--format", "csv", command=command).exit_code == 0  # pages by their number


def test_prompts_that_were_drawn_on_another_plane_are_told_of(folder: Path) -> None:
    square = {"type": "Polygon", "coordinates": [[[9, 9], [30, 9], [30, 30], [9, 9]]], "plane": {"z": 3, "t": 0}}
    Path("drawn.geojson").write_text(json.dumps(square), encoding="utf-8-sig")
    said = "Prompts that were drawn on another plane than the one segmented: 1. --plane Z=3 takes theirs."
    for plane, told in (("0", True), ("Z=3", False), ("3", False), ("4", True)):
        reading = ("--prompts", "drawn.geojson", "--plane", plane, "--format", "csv", "--overwrite", "--jsonl")
        result = run("cells.tif", *reading, command="segment")
        assert (said in " ".join(result.output.split())) == told, plane
        assert json.loads(result.stdout).get("prompts_drawn_on") == ("Z=3" if told else None)
    assert said not in run("single.png", "--prompts", "drawn.geojson", "--format", "csv", command="segment").output


@pytest.mark.parametrize(
    ("axes", "plane", "expected"),
    [
        ("TZYX", {"T": 2, "Z": 5}, None),
        ("TZYX", {"T": 1, "Z": 5}, "Z=5,T=2"),
        ("PZYX", {"P": 1, "Z": 5}, None),
        ("TYX", {"T": 5}, None),
        ("TYX", {"T": 2}, "T=5"),
        ("CYX", {"C": 1}, None),
        ("YX", {}, None),
    ],
)
def test_planes_of_drawings(axes: str, plane: dict[str, int], expected: str | None) -> None:
    drawn = PromptSet.drawn([Drawing("points", (np.ones((1, 2)),), (5, 2))])
    assert drawn.other_plane({"axes": axes, "shape": [9] * len(axes), "plane": plane}) == expected
    assert PromptSet.drawn([Drawing("points", (np.ones((1, 2)),))]).other_plane({}) is None
