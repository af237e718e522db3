"""The size of a pixel: where files say it, and what comes of it."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage
from skimage import data
from typer.testing import CliRunner

from fastsam_core import read_image
from fastsam_core._image_values import PlaneValues, open_values
from fastsam_core._pixel_size import micrometres, size_facts, sizes_in_tiff, sizes_in_zarr
from fastsam_core.cli import app
from fastsam_core.errors import ImageTooLargeError

if TYPE_CHECKING:
    from pathlib import Path

    from fastsam_core._image_colour import Channels

COINS = data.coins()


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


# ---- files that say it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "size"),
    [
        ({"PhysicalSizeX": 0.2, "PhysicalSizeY": 0.4}, (0.4, 0.2)),  # µm where nothing is said
        ({"PhysicalSizeX": 200, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.4}, (0.4, 0.2)),
        (
            {"PhysicalSizeX": 2e-4, "PhysicalSizeXUnit": "mm", "PhysicalSizeY": 4e-7, "PhysicalSizeYUnit": "m"},
            (0.4, 0.2),
        ),
        ({"PhysicalSizeX": 0.2}, None),
        ({"PhysicalSizeX": 0.2, "PhysicalSizeY": 1, "PhysicalSizeYUnit": "pixel"}, None),
        ({"PhysicalSizeX": 0, "PhysicalSizeY": 0}, None),
        ({}, None),
    ],
)
def test_ome_tiff(said: dict[str, Any], size: tuple[float, float] | None, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", COINS, metadata={"axes": "YX", **said})
    assert read_image(tmp_path / "a.ome.tif").pixel_size_um == (None if size is None else pytest.approx(size))


def test_each_series_and_level_has_its_own(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tiff:
        for size in (0.5, 0.25):
            said = {"axes": "YX", "PhysicalSizeX": size, "PhysicalSizeY": size}
            tiff.write(COINS, subifds=1, metadata=said)
            tiff.write(COINS[::2, ::4], subfiletype=1)
    assert read_image(tmp_path / "a.ome.tif", series=1).pixel_size_um == (0.25, 0.25)
    small = read_image(tmp_path / "a.ome.tif", series=1, level=1)
    assert small.pixel_size_um == pytest.approx((0.25 * 303 / 152, 1))
    assert small.recipe["full_hw"] == [303, 384]


@pytest.mark.parametrize(("unit", "size"), [("micron", (0.4, 0.2)), (r"\u00B5m", (0.4, 0.2)), ("pixel", None)])
def test_imagej(unit: str, size: tuple[float, float] | None, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", COINS, imagej=True, resolution=(5, 2.5), metadata={"unit": unit})
    assert read_image(tmp_path / "a.tif").pixel_size_um == (None if size is None else pytest.approx(size))


def test_aperio(tmp_path: Path) -> None:
    description = "Aperio Image Library v1\n384x303 |AppMag = 20|MPP = 0.4990|Left = 5"
    tifffile.imwrite(tmp_path / "a.svs", COINS, tile=(64, 64), description=description, metadata=None)
    assert read_image(tmp_path / "a.svs").pixel_size_um == (0.499, 0.499)


@pytest.mark.parametrize(
    "file",
    [
        {"kind": "lsm", "lsm_metadata": {"VoxelSizeX": 2e-7, "VoxelSizeY": 4e-7}},
        {"kind": "stk", "stk_metadata": {"XCalibration": 0.2, "YCalibration": 0.4, "CalibrationUnits": "um"}},
    ],
)
def test_zeiss_lsm_and_metamorph(file: dict[str, Any]) -> None:
    """As tifffile gives them, which does not write such files."""
    series = SimpleNamespace(kind=file["kind"], keyframe=None)
    facts = size_facts(sizes_in_tiff(SimpleNamespace(series=[series], **file), 0, 0))
    assert facts["pixel_size_um"] == pytest.approx([0.4, 0.2])
    assert sizes_in_tiff(SimpleNamespace(series=[series]), 0, 0) == {}


def test_resolutions_for_printing_are_no_pixel_sizes(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", COINS, resolution=(300, 300), resolutionunit="INCH")
    PillowImage.fromarray(COINS).save(tmp_path / "a.png", dpi=(300, 300))
    for name in ("a.tif", "a.png"):
        assert read_image(tmp_path / name).pixel_size_um is None
    assert read_image(COINS).pixel_size_um is None


def test_a_turned_picture_is_measured_as_it_is_shown(tmp_path: Path) -> None:
    options: dict[str, Any] = {"extratags": [(274, "H", 1, 6, True)]}
    tifffile.imwrite(tmp_path / "a.tif", COINS, imagej=True, resolution=(5, 2.5), metadata={"unit": "um"}, **options)
    image = read_image(tmp_path / "a.tif")
    assert image.image_hw == (384, 303)
    assert image.pixel_size_um == pytest.approx((0.2, 0.4))


def test_ome_zarr(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    store = zarr.open_group(tmp_path / "a.zarr", mode="w")
    scales = {"0": [1, 300, 0.2], "1": [1, 600, 0.4]}
    axes = [{"name": "c", "type": "channel"}, {"name": "y", "unit": "nanometer"}, {"name": "x", "unit": "micrometer"}]
    datasets = []
    for name, scale in scales.items():
        step = int(name) + 1
        store.create_array(name, data=np.stack([COINS, COINS])[:, ::step, ::step])
        datasets.append({"path": name, "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    store.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    image = read_image(tmp_path / "a.zarr", channels=0)
    assert image.pixel_size_um == pytest.approx((0.3, 0.2))
    assert "full_hw" not in image.recipe
    small = read_image(tmp_path / "a.zarr", channels=0, level=1)
    assert small.pixel_size_um == pytest.approx((0.6, 0.4))
    assert small.recipe["full_hw"] == [303, 384]


@pytest.mark.parametrize(
    "described",
    [
        {"axes": ["y", "x"], "datasets": [{}]},
        {"datasets": [{}]},
        {"axes": [{"name": "y", "unit": "micrometer"}, {"name": "x"}], "datasets": [{}]},
        {"axes": [{"name": "y"}], "datasets": []},
        {"axes": [{"name": "y"}], "datasets": [{"coordinateTransformations": [7]}]},
    ],
)
def test_ome_zarr_that_does_not_say_it(described: dict[str, Any]) -> None:
    assert size_facts(sizes_in_zarr(described, 0)) == {}


@pytest.mark.parametrize(("value", "unit"), [("a", "um"), (None, "um"), (1, None), (-1, "um"), (float("inf"), "um")])
def test_no_lengths(value: object, unit: object) -> None:
    assert micrometres(value, unit) is None


# ---- values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 10**6])
def test_values_are_those_of_all_channels_row_by_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    monkeypatch.setattr("fastsam_core._image_values.SAMPLE_VALUES", kept)  # so many pixels are read at once
    many = np.stack([COINS + np.uint16(number) for number in range(9)])
    tifffile.imwrite(tmp_path / "a.ome.tif", many[:, None], tile=(64, 64), metadata={"axes": "CZYX"})
    with open_values(tmp_path / "a.ome.tif", max_pixels=10) as planes:
        values = PlaneValues(planes, 0)
        assert (values.shape, values.dtype.name, len(values.names)) == ((9, 303, 384), "uint16", 9)
        np.testing.assert_array_equal(values[..., 100:140, :], many[:, 100:140])
    colours = data.immunohistochemistry()
    PillowImage.fromarray(colours).convert("RGBA").save(tmp_path / "a.png")
    with open_values(tmp_path / "a.png") as planes:
        values = PlaneValues(planes, 0)
        assert (values.shape, values.names) == ((3, 512, 512), ("red", "green", "blue"))
        np.testing.assert_array_equal(values[..., 5:9, :], np.moveaxis(colours[5:9], -1, 0))
    with pytest.raises(ImageTooLargeError), open_values(tmp_path / "a.png", max_pixels=10) as planes:
        PlaneValues(planes, 0)


@pytest.mark.parametrize("count", [3, 9])
def test_pages_that_are_taken_for_channels_are_all_measured(count: int, tmp_path: Path) -> None:
    """Of pages without a name the choice of a channel says that they are channels."""
    pages = np.stack([COINS.astype(np.uint16) + 1000 * number for number in range(count)])
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack")
    with open_values(tmp_path / "a.tif", channels=2) as planes:
        values = PlaneValues(planes, 0)
        assert values.shape == pages.shape
        np.testing.assert_array_equal(values[..., 7:9, :], pages[:, 7:9])
    run("segment", tmp_path / "a.tif", "--channels", 2, "--intensities", "--format", "csv", "--out", tmp_path / "out")
    for row in rows_of(tmp_path / "out" / "a_measurements.csv"):
        assert [float(row[f"intensity_min_{number}"]) // 1000 for number in range(count)] == list(range(count))


@pytest.mark.parametrize("channels", [None, 0, {0: "red"}, [1, 2]])
def test_colours_are_colours_whichever_is_shown(channels: Channels | None, tmp_path: Path) -> None:
    colours = data.immunohistochemistry()
    four = np.dstack([colours, colours[..., 0] // 2])
    PillowImage.fromarray(colours).save(tmp_path / "rgb.png")
    PillowImage.fromarray(four).save(tmp_path / "rgba.png")
    tifffile.imwrite(tmp_path / "rgba.tif", [four] * 2, photometric="rgb", metadata={"axes": "ZYXS"})
    tifffile.imwrite(tmp_path / "other.tif", four, photometric="rgb", extrasamples=["unspecified"])  # is no alpha
    names = ("red", "green", "blue")
    for file, expected in {"rgb.png": 3, "rgba.png": 3, "rgba.tif": 3, "other.tif": 4}.items():
        with open_values(tmp_path / file, channels=channels) as planes:
            values = PlaneValues(planes, 0)
            assert (values.shape, values.names) == ((expected, 512, 512), (*names, "3")[:expected]), file
            np.testing.assert_array_equal(values[..., 5:9, :], np.moveaxis(four[5:9, :, :expected], -1, 0))
    with open_values(tmp_path / "rgba.png", channels=channels, axes="YXC") as planes:  # channels, if they are called so
        assert PlaneValues(planes, 0).names == ("0", "1", "2", "3")


# ---- on the command line ----------------------------------------------------------------------------------------


def test_the_table_has_micrometres_and_intensities(tmp_path: Path) -> None:
    channels = np.stack([COINS.astype(np.uint16) * 100, np.full(COINS.shape, 7, np.uint16)])
    said = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(tmp_path / "a.ome.tif", channels, metadata=said)
    plain = ["--channels", 0, "--format", "csv,labels", "--out", tmp_path / "out", "--overwrite"]
    run("segment", tmp_path / "a.ome.tif", *plain, "--intensities")
    rows = rows_of(tmp_path / "out" / "a.ome_measurements.csv")
    labels = tifffile.imread(tmp_path / "out" / "a.ome_labels.tif")
    assert len(rows) >= 24
    for row in rows:
        inside = channels[0][labels == int(row["label"])]
        if len(inside) == int(row["area_px"]):  # nothing lies on it
            assert float(row["intensity_mean_0"]) == pytest.approx(inside.mean(), rel=1e-5)
        assert float(row["area_um2"]) == pytest.approx(float(row["area_px"]) / 4, rel=1e-5)
        assert float(row["intensity_max_1"]) == 7
    run("segment", tmp_path / "a.ome.tif", *plain, "--pixel-size", "2,1")
    row = rows_of(tmp_path / "out" / "a.ome_measurements.csv")[0]
    assert float(row["area_um2"]) == pytest.approx(float(row["area_px"]) * 2)
    assert float(row["centroid_x_um"]) == pytest.approx(2 * (float(row["centroid_x"]) + 0.5), rel=1e-5)
    assert "perimeter_um" not in row
    assert "intensity_mean_0" not in row


def test_a_stack_has_them_in_each_plane(tmp_path: Path) -> None:
    stack = np.stack([COINS, np.zeros_like(COINS), COINS // 2])
    said = {"axes": "ZYX", "unit": "um", "spacing": 3}
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, resolution=(2, 2), metadata=said)
    how = ["--intensities", "--out", tmp_path / "out"]
    run("stack", tmp_path / "a.tif", *how)
    objects = rows_of(tmp_path / "out" / "a_objects.csv")
    for row in objects:
        assert float(row["volume_um3"]) == pytest.approx(float(row["volume_px"]) * 0.75, rel=1e-5)
    assert max(float(row["intensity_max"]) for row in objects) == COINS.max()
    run("stack", tmp_path / "a.tif", *how, "--format", "objects", "--z-step", 1, "--overwrite")
    assert float(rows_of(tmp_path / "out" / "a_objects.csv")[0]["volume_um3"]) * 3 == pytest.approx(
        float(objects[0]["volume_um3"]), rel=1e-5
    )
    rows = rows_of(tmp_path / "out" / "a_measurements.csv")
    means = {z: np.mean([float(row["intensity_mean"]) for row in rows if row["plane"] == z]) for z in ("0", "2")}
    assert {row["plane"] for row in rows} == {"0", "2"}
    assert means["2"] == pytest.approx(means["0"] / 2, abs=6)
    assert all(float(row["area_um2"]) == pytest.approx(float(row["area_px"]) / 4, rel=1e-5) for row in rows)


def test_planes_larger_than_memory_are_measured_by_rows(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.tile(COINS, (2, 2)), tile=(128, 128))
    how = ["--tile-px", 384, "--max-pixels", 200_000, "--intensities", "--format", "csv,labels"]
    run("segment", tmp_path / "a.tif", *how, "--out", tmp_path / "out")
    rows = rows_of(tmp_path / "out" / "a_measurements.csv")
    labels = tifffile.imread(tmp_path / "out" / "a_labels.tif")
    whole = [row for row in rows if (labels == int(row["label"])).sum() == int(row["area_px"])]
    assert len(whole) > 80
    for row in whole:
        inside = np.tile(COINS, (2, 2))[labels == int(row["label"])]
        assert float(row["intensity_mean"]) == pytest.approx(inside.mean(), rel=1e-5)


def test_outlines_of_a_smaller_level_lie_on_the_full_size(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tiff:
        tiff.write(np.kron(COINS, np.ones((2, 2), np.uint8)), subifds=1, metadata={"axes": "YX"})
        tiff.write(COINS, subfiletype=1)
    run("segment", tmp_path / "a.ome.tif", "--level", 1, "--format", "geojson,rois", "--out", tmp_path / "out")
    document = json.loads((tmp_path / "out" / "a.ome_outlines.geojson").read_text())
    corners = [point for feature in document["features"] for point in feature["geometry"]["coordinates"][0]]
    assert np.max(corners, axis=0)[0] > 700
    drawn = tmp_path / "out" / "a.ome_outlines.geojson"
    again = ["--prompts", drawn, "--format", "csv", "--out", tmp_path / "again"]
    found = json.loads(run("segment", tmp_path / "a.ome.tif", "--level", 1, *again, "--jsonl").splitlines()[0])
    assert (found["masks"], found["unmatched_prompts"]) == (len(document["features"]), 0)
    columns = rows_of(tmp_path / "again" / "a.ome_measurements.csv")
    assert max(int(row["x_stop"]) for row in columns) <= 384


def test_what_is_asked_of_no_table_is_refused(tmp_path: Path) -> None:
    for asked in (["--intensities"], ["--pixel-size", "0.3"]):
        result = CliRunner().invoke(app, ["segment", str(tmp_path), "--format", "labels", *asked])
        assert result.exit_code == 2
        assert "add csv to --format" in " ".join(result.output.split())
    for wrong in ("0", "a", "1,2,3", "-1"):
        result = CliRunner().invoke(app, ["segment", str(tmp_path), "--pixel-size", wrong])
        assert result.exit_code == 2, wrong
