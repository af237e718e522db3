"""``fastsam segment`` with a made-up network that always finds the same three rectangles."""

from __future__ import annotations

import csv
import json
import sys
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
from fastsam_core.confidence import best_conf
from fastsam_core.testing import RectangleNetwork

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    from typer.testing import Result

IMAGE_HW = (64, 96)
BOXES_XYXY = ((4, 4, 40, 60), (50, 8, 90, 56), (60, 16, 72, 28))
SCORES = (0.9, 0.8, 0.7)


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replace the loading of models; returns what was asked for."""
    asked: list[dict[str, Any]] = []

    def load(name: str, *, progress: Callable[[int, int], None], **options: Any) -> FastSAM:
        progress(1, 0)
        progress(1, 2)
        asked.append({"name": name, **options})
        return FastSAM(RectangleNetwork(BOXES_XYXY, SCORES), ModelInfo(name="rectangles", imgsz=96))

    monkeypatch.setattr(FastSAM, "load", load)
    return asked


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with images in ``photos`` and below it."""
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "photos"
    (photos / "deep" / "er").mkdir(parents=True)
    save(photos / "b.png")
    save(photos / "a.jpg")
    save(photos / "deep" / "er" / "c.tif")
    (photos / "notes.txt").write_text("no image")
    return tmp_path


def save(path: Path, value: int = 90) -> None:
    Image.fromarray(np.full((*IMAGE_HW, 3), value, dtype=np.uint8)).save(path)


def read_png(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["segment", *arguments])


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


# ---- which images -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["photos"], ["a.jpg", "b.png"]),
        (["photos", "--recursive"], ["a.jpg", "b.png", "c.tif"]),
        (["photos/*.png"], ["b.png"]),
        (["photos/**/*.tif"], ["c.tif"]),
        (["photos/b.png", "photos", "photos/../photos/a.jpg"], ["b.png", "a.jpg"]),
    ],
)
@pytest.mark.usefixtures("folder")
def test_files_folders_and_patterns(arguments: list[str], names: list[str]) -> None:
    result = run(*arguments, "--jsonl", "--format", "labels")
    assert result.exit_code == 0, result.output
    assert [Path(line["source"]).name for line in lines(result)] == names


@pytest.mark.parametrize("pattern", ["photos/**", "**/*.*", "ph*/**/*.*", "**/photos/**/*.*"])
def test_patterns_go_through_no_links_which_may_lead_back(folder: Path, pattern: str) -> None:
    (folder / "photos" / "back").symlink_to(".")
    result = run(pattern, "--jsonl", "--format", "labels")
    assert sorted(line["source"] for line in lines(result)) == ["photos/a.jpg", "photos/b.png", "photos/deep/er/c.tif"]


@pytest.mark.parametrize("out", ["photos", "photos/results"])
@pytest.mark.usefixtures("folder")
def test_results_are_not_taken_for_images(out: str) -> None:
    for _ in range(2):
        result = run("photos", "-r", "--out", out, "--jsonl", "--overwrite")
        assert result.exit_code == 0
        assert len(lines(result)) == 3


@pytest.mark.parametrize("path", ["photos/*.webp", "empty"])
def test_a_pattern_or_folder_without_images(path: str, folder: Path) -> None:
    (folder / "empty").mkdir()
    result = run(path)
    assert result.exit_code == 2
    assert f"No images in {path}" in result.stderr


# ---- results ----------------------------------------------------------------------------------------------------


def test_all_formats(folder: Path) -> None:
    result = run("photos/b.png", "--out", "results", "--jsonl")
    assert result.exit_code == 0, result.output
    [line] = lines(result)
    assert line["status"] == "ok"
    assert line["image_hw"] == list(IMAGE_HW)
    assert line["masks"] == 3
    out = folder / "results"
    assert {kind: Path(path) for kind, path in line["outputs"].items()} == {
        "overlay": Path("results/b_overlay.png"),
        "labels": Path("results/b_labels.tif"),
        "coco": Path("results/b_coco.json"),
        "csv": Path("results/b_measurements.csv"),
    }
    labels = tifffile.imread(out / "b_labels.tif")
    expected = np.zeros(IMAGE_HW, dtype=np.uint16)
    for label, (x_start, y_start, x_stop, y_stop) in enumerate(BOXES_XYXY, start=1):
        expected[y_start:y_stop, x_start:x_stop] = label
    np.testing.assert_array_equal(labels, expected)
    coco = json.loads((out / "b_coco.json").read_text())
    assert coco["images"][0]["file_name"] == "b.png"
    assert [entry["score"] for entry in coco["annotations"]] == pytest.approx(SCORES)
    assert read_png(out / "b_overlay.png").shape == (*IMAGE_HW, 3)
    with (out / "b_measurements.csv").open(newline="") as file:
        assert [int(row["area_px"]) for row in csv.DictReader(file)] == [36 * 56, 40 * 48, 144]


@pytest.mark.parametrize("formats", [("--format", "csv,labels"), ("-f", "csv", "--format", "labels")])
def test_chosen_formats_alone(folder: Path, formats: tuple[str, ...]) -> None:
    assert run("photos/b.png", *formats).exit_code == 0
    names = sorted(path.name for path in (folder / "fastsam-output").iterdir())
    assert names == [".fastsam-sources.jsonl", "b_labels.tif", "b_measurements.csv"]


def test_images_that_share_a_name_do_not_overwrite_each_other(folder: Path) -> None:
    save(folder / "photos" / "b.tif")
    (folder / "more").mkdir()
    save(folder / "more" / "b.png")
    assert run("photos", "more", "--format", "labels").exit_code == 0
    names = sorted(path.name for path in (folder / "fastsam-output").iterdir())
    images = ["a_labels.tif", "b_tif_labels.tif", "more__b_png_labels.tif", "photos__b_png_labels.tif"]
    assert names == [".fastsam-sources.jsonl", *images]


def test_options_reach_model_and_search(loaded: list[dict[str, Any]], folder: Path) -> None:
    result = run(
        *("photos/b.png", "--model", "FastSAM-x", "--device", "cpu", "--runtime", "torch", "--precision", "bf16"),
        *("--conf", "0.75", "--iou", "0.6", "--max-det", "7", "--imgsz", "96", "--format", "coco", "--trust"),
    )
    assert result.exit_code == 0, result.output
    assert loaded == [{"name": "FastSAM-x", "device": "cpu", "runtime": "torch", "precision": "bf16", "trust": True}]
    info = json.loads((folder / "fastsam-output" / "b_coco.json").read_text())["info"]
    assert (info["conf"], info["iou"], info["max_det"], info["imgsz"]) == (0.75, 0.6, 7, [96])
    assert info["source"] == "photos/b.png"


def test_says_when_there_may_be_more_masks_than_allowed(folder: Path) -> None:
    assert "there may be more" not in run("photos/b.png", "--format", "coco").output
    result = run("photos/b.png", "--format", "coco", "--max-det", "2", "--overwrite")
    assert "In 1 of them as many masks were found as --max-det allows" in " ".join(result.output.split())
    assert len(json.loads((folder / "fastsam-output" / "b_coco.json").read_text())["annotations"]) == 2


def test_large_images_in_tiles(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["fastsam_core.cli.segment"], "_LARGE_PX", 90)
    whole = run("photos/b.png", "--format", "coco")
    assert "Longer than 90 px: 1. --tile-px 1024 finds their small objects" in " ".join(whole.output.split())
    result = run("photos/b.png", "--format", "coco", "--tile-px", "64", "--overlap-px", "32", "--overwrite")
    assert result.exit_code == 0, result.output
    assert "--tile-px" not in result.output
    info = json.loads((folder / "fastsam-output" / "b_coco.json").read_text())["info"]
    assert (info["tiles"], info["tile_px"], info["overlap_px"]) == (2, 64, 32)
    refused = run("photos/b.png", "--tile-px", "64", "--overwrite")
    assert refused.exit_code == 2
    assert "overlap_px below tile_px" in " ".join(refused.output.split())


def test_what_is_too_large_for_memory_is_read_tile_by_tile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(Bar, "say", lambda _, text: said.append(text))
    tifffile.imwrite("photos/slide.tif", np.full((*IMAGE_HW, 3), 90, np.uint8), tile=(16, 16), photometric="rgb")
    tiles = ("--tile-px", "64", "--overlap-px", "32", "--format", "coco,labels,overlay", "--jsonl")
    small = lines(run("photos/slide.tif", "photos/b.png", *tiles, "--out", "whole"))
    result = run("photos/slide.tif", "photos/b.png", *tiles, "--out", "tiles", "--max-pixels", "5000")
    assert result.exit_code == 1
    slide, refused = lines(result)
    assert (slide["status"], slide["image_hw"], slide["masks"]) == ("ok", list(IMAGE_HW), small[0]["masks"])
    for name in ("slide_coco.json", "slide_labels.tif", "slide_overlay.png"):
        assert Path("tiles", name).read_bytes() == Path("whole", name).read_bytes()
    assert "Segmenting, tile 2 of 2" in said
    assert refused["error"]["type"] == "ImageTooLargeError"  # a PNG has to be decoded as a whole
    assert "convert it to a TIFF file in tiles" in refused["error"]["message"]
    refused = lines(run("photos/slide.tif", "--jsonl", "--max-pixels", "5000"))[0]
    assert "--tile-px 1024" in refused["error"]["message"]


def test_prompts_of_what_is_read_tile_by_tile(folder: Path) -> None:
    tifffile.imwrite("photos/slide.tif", np.full((*IMAGE_HW, 3), 90, np.uint8), tile=(16, 16), photometric="rgb")
    tiles = ("--tile-px", "64", "--overlap-px", "32", "--max-pixels", "5000", "--jsonl")
    [line] = lines(run("photos/slide.tif", *tiles, "--points", "66,20", "--format", "csv,overlay"))
    assert (line["status"], line["masks"]) == ("ok", 1)
    texts = ("--text", "a nucleus", "--text", "red", "--text-mode", "top-k", "--text-threshold", "0")
    in_tiles, whole = (
        run("photos/slide.tif", *tiles, *limit, *texts, "--format", "coco", "--out", out)
        for limit, out in (((), "tiles"), (("--max-pixels", "9999"), "whole"))
    )
    assert lines(in_tiles)[0]["masks"] == lines(whole)[0]["masks"] > 2
    assert Path("tiles", "slide_coco.json").read_bytes() == Path("whole", "slide_coco.json").read_bytes()


def test_before_long_work_it_is_seen_whether_results_can_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite("photos/slide.tif", np.full((*IMAGE_HW, 3), 90, np.uint8), tile=(16, 16), photometric="rgb")
    (folder / "taken").write_text("a file")
    monkeypatch.setattr(RectangleNetwork, "forward", lambda *_: pytest.fail("worked for nothing"))
    tiles = ("--tile-px", "64", "--overlap-px", "32", "--max-pixels", "5000", "--jsonl")
    [line] = lines(run("photos/slide.tif", *tiles, "--out", "taken/out"))
    assert line["error"]["type"] == "OutputError"


def test_the_bar_says_which_tile_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(Bar, "say", lambda _, text: said.append(text))
    assert run("photos/b.png", "--format", "coco", "--tile-px", "64", "--overlap-px", "32").exit_code == 0
    assert said[-5:] == ["Segmenting", *(f"Segmenting, tile {n} of 2" for n in (1, 2)), "Writing b", "Segmenting"]


def test_reading_options_reach_the_reader(folder: Path) -> None:
    large = run("photos/b.png", "--max-pixels", "6000")
    assert large.exit_code == 1
    assert "(--max-pixels)" in " ".join(large.output.split())
    stack = np.zeros((3, 2, *IMAGE_HW), dtype=np.uint16)
    stack[2, 1] = 500
    tifffile.imwrite(folder / "stack.tif", stack)
    arguments = ("--axes", "TCYX", "--plane", "T=2", "--channels", "1:red", "--contrast", "0,1000", "--conf", "0.95")
    result = run("stack.tif", *arguments, "--format", "overlay")
    assert result.exit_code == 0, result.output
    overlay = read_png(folder / "fastsam-output" / "stack_overlay.png")
    np.testing.assert_allclose(overlay, np.broadcast_to((127, 0, 0), overlay.shape), atol=1)


def test_says_where_a_file_holds_several_images(folder: Path) -> None:
    channels = np.zeros((2, *IMAGE_HW), np.uint16)
    for name, images in (("one", 1), ("two", 2)):
        with tifffile.TiffWriter(folder / f"{name}.ome.tif") as tiff:
            for _ in range(images):
                tiff.write(channels, metadata={"axes": "CYX"}, photometric="minisblack")
    assert "several images" not in run("one.ome.tif", "--format", "csv").output
    result = run("one.ome.tif", "two.ome.tif", "--format", "csv", "--overwrite")
    said = " ".join(result.output.split())
    assert "Files with several images, of which the first was segmented: 1. --series all takes all" in said


def test_another_image_of_a_file(folder: Path) -> None:
    with tifffile.TiffWriter(folder / "three.ome.tif") as tiff:
        for value in (0, 500, 1000):
            tiff.write(np.full((2, *IMAGE_HW), value, np.uint16), metadata={"axes": "CYX"}, photometric="minisblack")
    how = ("--channels", "1", "--contrast", "0,1000", "--conf", "0.95", "--format", "overlay", "--overwrite")
    assert "--series with a number another one" in " ".join(run("three.ome.tif", *how).output.split())
    for series, gray in (("1", 127), ("2", 255)):
        result = run("three.ome.tif", "--series", series, *how)
        assert result.exit_code == 0, result.output
        assert "several images" not in result.output
        overlay = read_png(folder / "fastsam-output" / "three.ome_overlay.png")
        np.testing.assert_allclose(overlay, np.full(overlay.shape, gray), atol=1)
    [line] = lines(run("three.ome.tif", "--series", "3", "--jsonl", *how))
    assert line["error"]["type"] == "ImageContentError"
    assert "0 to 2" in line["error"]["message"]


def test_all_images_of_one_size_are_no_stack(folder: Path) -> None:
    with tifffile.TiffWriter(folder / "positions.ome.tif") as tiff:
        for value in range(3):
            tiff.write(np.full(IMAGE_HW, value, np.uint8), metadata={"axes": "YX"})
    result = run("positions.ome.tif", "--series", "all", "--format", "csv")
    assert "3 segmented" in result.output
    assert "first plane was segmented" not in result.output


def test_all_images_of_a_file(folder: Path) -> None:
    with tifffile.TiffWriter(folder / "wells.ome.tif") as tiff:
        for value in range(11):
            tiff.write(np.full((2, *IMAGE_HW), value * 100, np.uint16), metadata={"axes": "CYX"})
    (folder / "broken.tif").write_bytes(b"II*\0")
    how = ("--channels", "1", "--contrast", "0,1000", "--conf", "0.95", "--format", "overlay,csv", "--intensities")
    result = run("wells.ome.tif", "photos/a.jpg", "broken.tif", "--series", "all", *how, "--channels", "0", "--jsonl")
    found = lines(result)
    assert [line["status"] for line in found] == [*["ok"] * 12, "failed"]
    assert [line.get("series") for line in found if "wells" in line["source"]] == list(range(11))
    assert "series" not in next(line for line in found if "a.jpg" in line["source"])
    for series in range(11):
        overlay = read_png(folder / "fastsam-output" / f"wells.ome_s{series:02}_overlay.png")
        np.testing.assert_allclose(overlay, np.full(overlay.shape, series * 25.5), atol=1)
    again = run("wells.ome.tif", "--series", "all", *how, "--skip-existing")
    assert again.exit_code == 0
    assert "wells.ome.tif [10]" in again.output
    assert "several images" not in again.output
    (folder / "wells.ome_s03.tif").write_bytes((folder / "photos" / "a.jpg").read_bytes())
    clash = run("wells.ome.tif", "wells.ome_s03.tif", "--series", "all", *how, "--overwrite")
    assert clash.exit_code == 2
    assert "wells.ome_s03" in clash.output
    for wrong in ("-1", "some", "1,2"):
        assert run("wells.ome.tif", "--series", wrong).exit_code == 2, wrong


# ---- failures and repeats ---------------------------------------------------------------------------------------


def test_one_bad_file_does_not_stop_the_rest(folder: Path) -> None:
    (folder / "photos" / "aa.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    result = run("photos", "missing.png", "--jsonl", "--format", "labels")
    assert result.exit_code == 1
    by_name = {Path(line["source"]).name: line for line in lines(result)}
    assert {name: line["status"] for name, line in by_name.items()} == {
        "a.jpg": "ok",
        "aa.png": "failed",
        "b.png": "ok",
        "missing.png": "failed",
    }
    assert by_name["aa.png"]["error"]["type"] == "ImageReadError"
    assert by_name["missing.png"]["error"]["type"] == "ImageNotFoundError"
    assert "aa.png: " in result.stderr
    assert "2 segmented, 2 failed" in result.stderr


def test_table_names_every_image(folder: Path) -> None:
    (folder / "photos" / "bad.png").write_bytes(b"")
    result = run("photos", "--format", "labels")
    assert result.exit_code == 1
    cells = [[cell.strip() for cell in row.split("│")] for row in result.stdout.splitlines() if "photos/" in row]
    rows = {row[1]: row[2:5] for row in cells}
    assert rows["photos/a.jpg"][:2] == ["96 × 64", "3"]
    assert float(rows["photos/a.jpg"][2]) >= 0
    assert rows["photos/bad.png"][1] == "failed"
    assert "2 segmented, 1 failed; results in fastsam-output" in result.stdout


def test_earlier_results_are_kept_unless_told_otherwise(folder: Path, loaded: list[dict[str, Any]]) -> None:
    assert run("photos/a.jpg", "--format", "labels").exit_code == 0
    path = folder / "fastsam-output" / "a_labels.tif"
    path.write_bytes(b"mine")
    refused = run("photos", "--format", "labels", "--jsonl")
    assert refused.exit_code == 1
    assert [line["status"] for line in lines(refused)] == ["failed", "ok"]
    assert "--overwrite" in lines(refused)[0]["error"]["message"]
    loaded.clear()
    skipped = run("photos", "--format", "labels", "--jsonl", "--skip-existing")
    assert skipped.exit_code == 0
    assert [line["status"] for line in lines(skipped)] == ["skipped", "skipped"]
    assert loaded == []
    assert path.read_bytes() == b"mine"
    assert run("photos", "--format", "labels", "--overwrite").exit_code == 0
    assert tifffile.imread(path).max() == 3


def test_skip_existing_completes_what_is_partly_there(folder: Path) -> None:
    assert run("photos/a.jpg", "--format", "labels").exit_code == 0
    result = run("photos/a.jpg", "--format", "labels,csv", "--skip-existing", "--jsonl")
    assert [line["status"] for line in lines(result)] == ["ok"]


def test_an_output_folder_that_cannot_be_made(folder: Path, loaded: list[dict[str, Any]]) -> None:
    (folder / "taken").write_text("a file")
    result = run("photos", "--out", "taken/results", "--jsonl")
    assert result.exit_code == 1
    assert [line["error"]["type"] for line in lines(result)] == ["OutputError", "OutputError"]
    assert not loaded


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--format", "overlay,png"], "--format"),
        (["--format", ""], "--format"),
        (["--contrast", "1"], "--contrast"),
        (["--contrast", "5,1"], "--contrast"),
        (["--contrast", "0,nan"], "--contrast"),
        (["--channels", "red"], "--channels"),
        (["--channels", "0,0"], "--channels"),
        (["--channels", "0:mauve"], "--channels"),
        (["--channels", "0:blue,0:green"], "--channels"),
        (["--channels", "0,-1"], "--channels"),
        (["--channels", "-1"], "--channels"),
        (["--plane", "T"], "--plane"),
        (["--plane", "-1"], "--plane"),
        (["--plane", "T=0,Z=-1"], "--plane"),
        (["--plane", "Y=0"], "--plane"),
        (["--plane", "=0"], "--plane"),
        (["--axes", "ZX"], "--axes"),
        (["--axes", "YXY"], "--axes"),
        (["--axes", "Z Y X"], "--axes"),
        (["--axes", ""], "--axes"),
        (["--overwrite", "--skip-existing"], "exclude"),
        (["--points", "1,2,3,4"], "prompt"),
        (["--points", "1,2", "--prompts", "p.json"], "exclude"),
        (["--prompts", "p.json"], "p.json"),
        (["--conf", "2"], "conf"),
        (["--imgsz", "1"], "imgsz"),
        (["--imgsz", "640,16385"], "--imgsz"),
        (["--imgsz", "320,large"], "imgsz"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_wrong_usage(arguments: list[str], problem: str, loaded: list[dict[str, Any]]) -> None:
    result = run("photos", *arguments)
    assert result.exit_code == 2
    assert problem in result.stderr
    assert result.stdout == ""
    assert loaded == []


def test_markup_in_file_names_is_printed_as_it_is(folder: Path) -> None:
    name = "[/red] [bold]x[link=y].png"
    (folder / "[").mkdir()
    save(folder / name)
    (folder / "[red].png").write_bytes(b"")
    result = run(name, "[red].png", "--format", "labels")
    assert result.exit_code == 1
    assert name in result.stdout
    assert "[red].png: " in result.stderr


# ---- prompts ----------------------------------------------------------------------------------------------------


def test_points_boxes_and_polygons(folder: Path) -> None:
    result = run(
        *("photos/b.png", "--jsonl", "--format", "coco,overlay,csv"),
        *("--points", "65,20", "--points", "52,10;10,10,0"),
        *("--boxes", "4,4,40,60; 0,0,3,3", "--polygon", "50,8;90,8;90,56;50,56"),
    )
    [line] = lines(result)
    assert result.exit_code == 0, result.output
    assert (line["masks"], line["unmatched_prompts"]) == (4, 1)
    coco = json.loads(Path(line["outputs"]["coco"]).read_text())
    masks = Masks.from_coco(coco["annotations"])
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in BOXES_XYXY]
    indices = [entry["attributes"]["prompt_index"] for entry in coco["annotations"]]
    assert dict(zip(indices, masks.areas_px.tolist(), strict=True)) == {
        0: areas[2],
        1: areas[1],
        2: areas[0],
        4: areas[1],
    }


def test_prompts_choose_among_fainter_masks_than_are_shown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = RectangleNetwork(BOXES_XYXY, (0.9, 0.8, 0.05))
    faint = FastSAM(network, ModelInfo(name="rectangles", imgsz=96))
    monkeypatch.setattr(FastSAM, "load", lambda *_, **__: faint)
    (folder / "both.json").write_text(json.dumps({"images": {"b.png": {"boxes": [[60, 16, 72, 28]]}, "a.jpg": {}}}))

    def counts(*arguments: str) -> list[int]:
        result = run("photos", "--jsonl", "--format", "coco", "--overwrite", *arguments)
        assert result.exit_code == 0, result.output
        return [line["masks"] for line in lines(result)]

    assert counts() == [2, 2]
    assert counts("--boxes", "60,16,72,28") == [1, 1]
    assert counts("--points", "65,20", "--conf", "0.2", "--max-det", "2") == [1, 1]
    assert counts("--boxes", "60,16,72,28", "--conf", "0.2") == [0, 0]
    assert counts("--prompts", "both.json") == [2, 1]
    assert counts("--conf", "auto") == [2, 2]
    assert counts("--prompts", "both.json", "--conf", "auto") == [2, 1]
    result = run("photos/b.png", "--boxes", "60,16,72,28", "--max-det", "3", "--overwrite")
    assert "there may be more" not in result.stdout
    assert "there may be more" in run("photos/b.png", "--boxes", "60,16,72,28", "--max-det", "2", "--overwrite").stdout


def test_a_threshold_is_chosen_once_for_each_image(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among those that one choice leaves, a second one would leave fewer."""
    boxes = tuple((x, y, x + 8, y + 8) for y in range(4, 60, 12) for x in range(4, 76, 12))
    faint = FastSAM(
        RectangleNetwork(boxes, tuple(np.linspace(0.5, 0.05, 30).tolist())), ModelInfo(name="faint", imgsz=96)
    )
    monkeypatch.setattr(FastSAM, "load", lambda *_, **__: faint)
    chosen = faint.segment(folder / "photos" / "b.png", conf="auto")
    assert 0 < len(chosen.filter(min_score=best_conf(chosen.scores))) < len(chosen) < 30
    [line] = lines(run("photos/b.png", "--conf", "auto", "--format", "coco", "--jsonl"))
    assert line["masks"] == len(chosen)


def test_prompt_file_with_an_entry_for_each_image(folder: Path) -> None:
    entries = {
        "points": [[10, 10]],
        "images": {"b.png": {"boxes": [[50, 8, 90, 56]]}, "deep/er/c.tif": {"points": [[[65, 20]], [[10, 10]]]}},
    }
    (folder / "prompts.json").write_text(json.dumps(entries))
    result = run("photos", "-r", "--prompts", "prompts.json", "--jsonl", "--format", "coco")
    assert result.exit_code == 0, result.output
    areas = {}
    for line in lines(result):
        coco = json.loads(Path(line["outputs"]["coco"]).read_text())
        areas[Path(line["source"]).name] = [entry["area"] for entry in coco["annotations"]]
    assert areas == {"a.jpg": [36 * 56], "b.png": [40 * 48], "c.tif": [144, 36 * 56]}


def test_an_image_that_the_prompt_file_leaves_out_is_reported(folder: Path) -> None:
    (folder / "prompts.json").write_text(json.dumps({"images": {"b.png": {"points": [[10, 10]]}}}))
    result = run("photos", "--prompts", "prompts.json", "--jsonl")
    assert result.exit_code == 1
    assert [line["status"] for line in lines(result)] == ["failed", "ok"]


def test_prompts_that_fit_no_image_are_named(folder: Path) -> None:
    entry = {"points": [[10, 10]]}
    (folder / "prompts.json").write_text(json.dumps({**entry, "images": {"b.png": entry, "[x].png": entry}}))
    result = run("photos", "--prompts", "prompts.json", "--jsonl", "--format", "coco")
    assert result.exit_code == 0, result.output
    assert "fit no image (1): [x].png" in " ".join(result.stderr.split())


def test_text_says_what_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    result = run("photos", "--text", "a cup")
    assert result.exit_code == 1
    assert "pip install 'fastsam-plugins[text]'" in result.stderr


def test_the_first_run_says_that_it_compiles(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastsam_core.cli._model._PACKAGE", folder)
    assert "Compiling" in run("photos/b.png", "--format", "labels").stderr
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "kernel.nbi").touch()
    assert "Compiling" not in run("photos/b.png", "--format", "labels", "--overwrite").stderr
