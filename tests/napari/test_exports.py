"""What is written of labels: their ids, and measurements in the layer's units."""

from __future__ import annotations

import csv
import json
import threading
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from napari.layers import Image, Labels
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QFileDialog

from fastsam_core.drawings import Drawing, masks_of_drawings, read_drawings
from fastsam_core.evaluation.coco_data import CocoData
from fastsam_core.images import open_planes
from napari_fastsam.models import export

from .conftest import discs
from .test_interaction import put

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .conftest import Make


def made(viewer: Any, make_widget: Make, labels: Labels) -> Any:
    """Return a widget whose target are labels of a black image."""
    viewer.add_layer(Image(np.zeros(labels.data.shape, np.uint8), name="Image"))
    viewer.add_layer(labels)
    widget = make_widget(viewer)
    widget.label_panel.target.set_layer(labels)
    return widget


def written(viewer: Any, make_widget: Make, folder: Path, labels: Labels) -> tuple[Any, list[dict[str, str]]]:
    """Export labels as an image and as a table, and read both."""
    widget = made(viewer, make_widget, labels)
    for suffix in ("tif", "csv"):
        widget.label_panel.export(suffix, path=str(folder / f"labels.{suffix}"))
    rows = list(csv.DictReader((folder / "labels.csv").read_text().splitlines()))
    return tifffile.imread(folder / "labels.tif"), rows


@pytest.mark.parametrize("ids", [(7, 2**33 + 5), (-3, 4), (5, 2**31 - 1), (80_000, 90_000)])
def test_ids_of_any_size_stay_as_they_are(viewer: Any, make_widget: Make, tmp_path: Path, ids: tuple[int, int]) -> None:
    """Ids beyond 32 bit and negative ones became others; the table took memory for all ids up to the highest."""
    data = np.zeros((80, 90), np.int64)
    data[10:20, 10:20], data[40:50, 40:60] = ids
    image, rows = written(viewer, make_widget, tmp_path, Labels(data, name="mine"))
    np.testing.assert_array_equal(image, data)
    assert [(int(row["label"]), float(row["area"])) for row in rows] == [(ids[0], 100), (ids[1], 200)]


@pytest.mark.parametrize(
    "place", [{"scale": (0.5, 2)}, {"scale": (0.5, 2), "shear": [0.3]}, {"scale": (3, 3), "rotate": 33}]
)
def test_measurements_follow_the_affine(viewer: Any, make_widget: Make, tmp_path: Path, place: dict[str, Any]) -> None:
    data = np.zeros((80, 90), np.uint16)
    data[10:20, 10:20] = 1
    turned = np.array([[0.4, -0.3, 0], [0.3, 0.4, 0], [0, 0, 1]])
    _, [row] = written(viewer, make_widget, tmp_path, Labels(data, name="mine", affine=turned, **place))
    height, width = place["scale"]
    assert float(row["area"]) == pytest.approx(100 * height * width / 4)
    assert float(row["centroid-0"]) == pytest.approx(14.5 * height / 2)
    assert ("perimeter" in row) == (height == width)


@pytest.mark.parametrize("shape", [(1, 90), (90, 1), (1, 1, 90)])
def test_planes_of_one_row_or_column_are_measured(
    viewer: Any, make_widget: Make, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    """Line scans; they were refused, as what has fewer than two axes longer than one."""
    data = np.zeros(90, np.uint16)
    data[10:20] = 1
    _, [row] = written(viewer, make_widget, tmp_path, Labels(data.reshape(shape), name="mine"))
    assert (float(row["area"]), float(row["intensity_max"])) == (10, 0)
    assert float(row[f"centroid-{0 if shape[-1] == 1 else 1}"]) == 14.5


@pytest.mark.parametrize("shape", [(80, 90), (2, 80, 90)])
def test_outlines_and_annotations_have_negative_labels(
    viewer: Any, make_widget: Make, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    """They were left out without a word; the label image and the table had them."""
    data = np.zeros(shape, np.int16)
    data[..., 10:20, 10:20], data[..., 40:50, 40:60] = -3, 4
    widget = made(viewer, make_widget, Labels(data, name="mine"))
    for suffix in ("json", "geojson", "zip"):
        widget.label_panel.export(suffix, path=str(tmp_path / f"labels.{suffix}"))
    annotations = json.loads((tmp_path / "labels.json").read_text())["annotations"]
    features = json.loads((tmp_path / "labels.geojson").read_text())["features"]
    planes = np.prod(shape[:-2], dtype=int)
    assert [(one["attributes"]["label"], one["area"]) for one in annotations] == [(-3, 100), (4, 200)] * planes
    assert [one["properties"]["name"] for one in features] == ["-3", "4"] * planes
    assert len(zipfile.ZipFile(tmp_path / "labels.zip").namelist()) == 2 * planes


@pytest.mark.parametrize("place", [{"scale": (2, 2)}, {"translate": (5, 0)}])
def test_intensities_are_those_where_the_labels_lie(
    viewer: Any, make_widget: Make, tmp_path: Path, place: dict[str, Any]
) -> None:
    """Those of the pixels with the same numbers were written, wherever these are."""
    data = np.zeros((80, 90), np.uint16)
    data[10:20, 10:20] = 1
    _, [row] = written(viewer, make_widget, tmp_path, Labels(data, name="mine"))
    assert "intensity_mean" in row
    viewer.layers.clear()
    notification_manager.records.clear()
    _, [row] = written(viewer, make_widget, tmp_path, Labels(data, name="mine", **place))
    assert "intensity_mean" not in row
    assert "'mine' lie elsewhere than those of 'Image'" in str(notification_manager.records[-1].message)


def test_a_name_without_a_suffix_replaces_no_file(viewer: Any, make_widget: Make, tmp_path: Path) -> None:
    """The dialog asks for leave to replace a file of the name that was typed, not one of that name with a suffix."""
    widget = made(viewer, make_widget, Labels(np.ones((80, 90), np.uint8), name="mine"))
    put(widget, [np.ones((80, 90), bool)], [0.9])
    for name in ("labels.tif", "found.npz"):
        (tmp_path / name).write_text("another's")
    widget.label_panel.export("tif", path=str(tmp_path / "labels"))
    widget.filter_panel.save(str(tmp_path / "found"))
    assert [str(one.message).count("exists") for one in notification_manager.records] == [1, 1]
    widget.label_panel.export("tif", path=str(tmp_path / "scale 0.5"))
    kept = {path.name: path.read_bytes() == b"another's" for path in tmp_path.iterdir() if path.is_file()}
    assert kept == {"labels.tif": True, "found.npz": True, "scale 0.5.tif": False}


def test_names_of_layers_are_no_folders(
    viewer: Any, make_widget: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers name layers 'plate/B07' or 'Image:0'; the dialog proposed 'B07' alone."""
    widget = made(viewer, make_widget, Labels(np.ones((80, 90), np.uint8), name="plate/B07: labels"))
    widget.session.image.name = "plate/B07"
    put(widget, [np.ones((80, 90), bool)], [0.9])
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *args: (str(tmp_path / args[2]), ""))
    widget.label_panel.export("tif")
    widget.filter_panel.save()
    assert {one.name for one in tmp_path.iterdir() if one.is_file()} == {
        "plate_B07_ labels.tif",
        "plate_B07_candidates.npz",
    }


@pytest.mark.parametrize("suffix", ["tif", "json", "csv", "geojson", "zip"])
def test_large_labels_are_written_beside(
    viewer: Any, make_widget: Make, tmp_path: Path, qtbot: Any, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """The window stood still until thousands of outlines were written; what is painted meanwhile is not among them."""
    kinds = {"tif": "write_label_image", "json": "write_coco", "csv": "_write_table", "geojson": "write_geojson"}
    begin, threads = threading.Event(), []
    name = kinds.get(suffix, "write_rois")
    write = getattr(export, name)

    def slow(*args: Any, **options: Any) -> Path:
        threads.append(threading.current_thread())
        assert begin.wait(60)
        written: Path = write(*args, **options)
        return written

    monkeypatch.setattr(export, name, slow)
    labels = np.zeros((2049, 2049), np.uint16)
    labels[10:20, 10:20], labels[2000:2020, 5:9] = 1, 2
    widget = made(viewer, make_widget, Labels(labels, name="mine"))
    path = tmp_path / f"mine.{suffix}"
    widget.label_panel.export(suffix, path=str(path))
    assert not path.exists()
    widget.labels.target.data[:] = 0
    begin.set()
    qtbot.waitUntil(lambda: _last_notice() == f"FastSAM: {path} was written", timeout=60_000)
    assert threads != [threading.main_thread()]
    if suffix == "tif":
        assert np.unique(tifffile.imread(path)).tolist() == [0, 1, 2]
    elif suffix == "csv":
        assert [row["area"] for row in table(path)] == ["100.0", "80.0"]
    elif suffix == "json":
        assert len(json.loads(path.read_text())["annotations"]) == 2
    else:
        assert len(read_drawings(path)) == 2


def test_what_goes_wrong_beside_is_told(viewer: Any, make_widget: Make, tmp_path: Path, qtbot: Any) -> None:
    labels = np.ones((2049, 2049), np.uint16)
    widget = made(viewer, make_widget, Labels(labels, name="mine"))
    (tmp_path / "mine.csv").mkdir()
    widget.label_panel.export("csv", path=str(tmp_path / "mine.csv"))
    qtbot.waitUntil(lambda: "mine.csv" in _last_notice(), timeout=60_000)
    assert _last_notice().startswith("FastSAM: ")
    assert "was written" not in _last_notice()


def _last_notice() -> str:
    records = notification_manager.records
    return str(records[-1].message) if records else ""


def table(path: Path) -> list[dict[str, str]]:
    """Read a table."""
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.mark.parametrize(
    ("shape", "axes", "apart", "pixels"),
    [
        ((2, 3, 40, 50), None, "axis -4", 300),
        ((2, 3, 40, 50), ("t", "z", "y", "x"), "t", 300),
        ((3, 2, 40, 50), ("z", "T", "y", "x"), "T", 300),
        ((3, 2, 40, 50), ("z", "c", "y", "x"), "c", 300),
        ((2, 40, 50), ("time", "y", "x"), "time", 100),
        ((2, 1, 40, 50), ("t", "z", "y", "x"), "t", 100),
    ],
)
def test_objects_of_time_series_are_measured_at_each_time(
    viewer: Any, make_widget: Make, tmp_path: Path, shape: tuple[int, ...], axes: Any, apart: str, pixels: int
) -> None:
    """More axes were refused; times were measured as planes of a volume."""
    place = 1 if axes and axes[1].lower() in "tc" else 0
    data, image = np.zeros(shape, np.uint16), np.zeros(shape, np.uint16)
    later = (slice(None),) * place + (1,)
    data[..., 10:20, 10:20], image[later] = 7, 30
    data[later][..., 30:35, 30:40] = 9
    scale = (*[5] * (len(shape) - 2), 0.5, 0.5)
    viewer.add_layer(Image(image, name="Image", scale=scale, axis_labels=axes))
    labels = viewer.add_labels(data, name="mine", scale=scale, axis_labels=axes)
    widget = make_widget(viewer)
    widget.label_panel.target.set_layer(labels)
    widget.label_panel.export("csv", path=str(tmp_path / "labels.csv"))
    rows = table(tmp_path / "labels.csv")
    assert next(iter(rows[0])) == apart
    assert [(row[apart], row["label"], float(row["intensity_mean"])) for row in rows] == [
        ("0", "7", 0),
        ("1", "7", 30),
        ("1", "9", 30),
    ]
    thick = 5 if pixels == 300 else 1
    assert float(rows[1]["area"]) == pytest.approx(pixels * thick / 4)
    assert ("perimeter" in rows[0]) == (pixels == 100)


SLIDERS = [
    ((2, 3, 40, 50), ("t", "z", "y", "x"), None),
    ((3, 2, 40, 50), ("z", "time", "y", "x"), None),
    ((2, 3, 40, 50), None, None),
    ((3, 2, 40, 50), ("z", "c", "y", "x"), None),
    ((2, 1, 3, 40, 50), ("t", "c", "z", "y", "x"), None),
    ((2, 2, 2, 3, 40, 50), ("p", "t", "c", "z", "y", "x"), None),
    ((2, 40, 3, 50), ("t", "z", "y", "x"), (0, 2, 1, 3)),
    ((3, 40, 50), None, None),
    ((40, 50), None, None),
]
"""Shapes of images, names of their axes, and the order in which they are shown, if it is another."""


def shown_labels(viewer: Any, make_widget: Make, shape: Any, names: Any, order: Any) -> tuple[Any, Any, list[int]]:
    """Return a widget, its target with discs in some of all planes, and the axes of the sliders."""
    places = [(8, 9, 5), (25, 20, 9), (30, 40, 7)]
    along = list(order or range(len(shape)))[:-2]
    data = np.zeros(shape, np.uint16)
    for number, place in enumerate(np.ndindex(*(shape[axis] for axis in along))):
        index: list[Any] = [slice(None)] * len(shape)
        for axis, at in zip(along, place, strict=True):
            index[axis] = at
        for label in range((number + 1) % 4):
            data[tuple(index)][discs(40, 50, places[label]) > 0] = label + 1 + 3 * (number // 2)
    viewer.add_layer(Image(np.zeros(shape, np.uint8), name="Image", axis_labels=names))
    labels = viewer.add_labels(data, name="mine", axis_labels=names)
    if order:
        viewer.dims.order = order
    widget = make_widget(viewer)
    widget.label_panel.target.set_layer(labels)
    return widget, data, along


@pytest.mark.parametrize(("shape", "names", "order"), SLIDERS)
def test_labels_of_all_planes_come_back(
    viewer: Any, make_widget: Make, tmp_path: Path, shape: tuple[int, ...], names: Any, order: Any
) -> None:
    """Of two sliders only the plane that is shown was written, of one as annotations, too."""
    widget, data, along = shown_labels(viewer, make_widget, shape, names, order)
    called = widget.session.axis_names(viewer.layers["mine"])

    def plane_at(place: Sequence[int]) -> tuple[Any, ...]:
        where = dict(zip(along, place, strict=True))
        return tuple(where.get(axis, slice(None)) for axis in range(data.ndim))

    widget.label_panel.export("json", path=str(tmp_path / "mine.json"))
    document = json.loads((tmp_path / "mine.json").read_text())
    coco, again = CocoData(tmp_path / "mine.json"), np.zeros_like(data)
    for number, image in enumerate(document["images"]):
        place = image.get("plane", {})
        assert list(place) == [called[axis] for axis in along if shape[axis] > 1]
        ids = [one["attributes"]["label"] for one in document["annotations"] if one["image_id"] == image["id"]]
        again[plane_at([place.get(called[axis], 0) for axis in along])] = coco.instances(number).to_label_map(ids)
    np.testing.assert_array_equal(again, data)
    for suffix in ("geojson", "zip"):
        widget.label_panel.export(suffix, path=str(tmp_path / f"mine.{suffix}"))
        widget.pick_panel.load(str(tmp_path / f"mine.{suffix}"))
        for place in np.ndindex(*(shape[axis] for axis in along)):
            viewer.dims.set_current_step(along, place)
            expected = data[plane_at(place)]
            outlines = [Drawing("outline", (ring[:, ::-1],)) for ring in widget.session.prompts.regions_yx]
            found = masks_of_drawings(outlines, (40, 50)).to_label_map(np.unique(expected[expected > 0]))
            np.testing.assert_array_equal(found, expected)
    assert not notification_manager.records


def test_a_stack_of_all_times_and_channels(viewer: Any, make_widget: Make, tmp_path: Path) -> None:
    data = np.zeros((2, 3, 2, 40, 50), np.uint16)
    data[1, :, 0, 10:20, 10:20] = 4
    widget = made(viewer, make_widget, Labels(data, name="mine", axis_labels=("t", "z", "c", "y", "x")))
    widget.label_panel.export("csv", path=str(tmp_path / "labels.csv"))
    [row] = table(tmp_path / "labels.csv")
    assert (row["t"], row["c"], row["label"], float(row["area"])) == ("1", "0", "4", 300)


def test_channels_in_colours_have_their_intensities(viewer: Any, make_widget: Make, tmp_path: Path) -> None:
    """They were left out without a word: labels of such an image have one place along its channels."""
    image = np.zeros((3, 2, 80, 90), np.uint16)
    image[:, 0], image[:, 1] = 500, 1000
    image[2, 1] = 4000
    viewer.add_layer(Image(image, name="Image", axis_labels=("t", "c", "y", "x"), scale=(3, 2, 0.5, 0.5)))
    widget = make_widget(viewer)
    channels = widget.segment_panel.channels
    channels.setCurrentIndex(channels.findText("2 channels along c"))
    for time in (0, 2):
        viewer.dims.set_current_step(0, time)
        put(widget, [np.eye(80, 90) > 0], [0.9])
        widget.label_panel.commit_shown()
    widget.label_panel.export("csv", path=str(tmp_path / "labels.csv"))
    found = [(row["t"], row["intensity_mean-0"], row["intensity_max-1"]) for row in table(tmp_path / "labels.csv")]
    assert [(t, float(first), float(second)) for t, first, second in found] == [("0", 500, 1000), ("2", 500, 4000)]


@pytest.mark.parametrize(
    ("shape", "axes", "top", "kind"),
    [
        ((3, 4, 40, 50), "tzyx", 7, "imagej"),
        ((3, 40, 50), "tyx", 7, "imagej"),
        ((4, 3, 40, 50), "ztyx", 7, "ome"),
        ((3, 4, 40, 50), "tzyx", 70_000, "ome"),
        ((3, 1, 4, 40, 50), "tczyx", 7, "shaped"),
        ((2, 3, 4, 40, 50), "ptzyx", 7, "shaped"),
        ((3, 4, 40, 50), "tzyx", 2**40, "shaped"),
        ((40, 50), "yx", 7, "imagej"),
    ],
)
def test_label_images_say_their_axes_and_pixel_size(
    viewer: Any, make_widget: Make, tmp_path: Path, shape: tuple[int, ...], axes: str, top: int, kind: str
) -> None:
    """Fiji showed one long stack of times and depths, and this project's own reader asked what the axes are."""
    data = np.zeros(shape, np.int64)
    data[..., 10:20, 10:20] = top
    sizes = {"t": (5.0, "s"), "z": (2000.0, "nm"), "y": (0.5, "um"), "x": (0.25, "um")}
    scale, units = zip(*(sizes.get(axis, (1.0, "pixel")) for axis in axes), strict=True)
    labels = Labels(data, name="mine", axis_labels=tuple(axes), scale=scale, units=units)
    image, _ = written(viewer, make_widget, tmp_path, labels)
    np.testing.assert_array_equal(image, data)
    with tifffile.TiffFile(tmp_path / "labels.tif") as tiff:
        assert tiff.series[0].kind == kind
        facts = tiff.imagej_metadata or {}
    if kind == "imagej" and axes == "tzyx":
        assert (facts["frames"], facts["slices"], facts["hyperstack"], facts["unit"]) == (3, 4, True, "um")
    with open_planes(tmp_path / "labels.tif") as planes:
        assert tuple(planes.sizes.values()) == shape
        assert set("tz") & set(axes) <= set("".join(planes.sizes).lower())
        if kind != "shaped":
            read = planes.read(dict.fromkeys(list(planes.sizes)[:-2], 0), None)
            assert read.pixel_size_um == pytest.approx((0.5, 0.25))
            assert read.z_step_um == (pytest.approx(2.0) if "z" in axes else None)
    [layer] = viewer.open(tmp_path / "labels.tif", layer_type="labels", plugin="napari")
    assert layer.data.shape == shape


def test_lazy_images_are_read_where_the_table_is_written(tmp_path: Path) -> None:
    """A time series of thousands of planes was read in the window's thread, which stood still for that long."""
    import dask.array as da

    read: list[int] = []

    def block(block_id: tuple[int, ...]) -> Any:
        read.append(block_id[0])
        return np.full((1, 40, 50), block_id[0], np.uint8)

    lazy = da.map_blocks(block, dtype=np.uint8, chunks=((1,) * 9, (40,), (50,)), meta=np.empty((0, 0, 0), np.uint8))
    data = np.zeros((9, 40, 50), np.uint16)
    data[:, 10:20, 10:20] = 1
    image, labels = Image(lazy, name="Image"), Labels(data, name="mine")
    read.clear()
    write = export.writer_of(tmp_path / "labels.csv", "csv", labels, image, None, ("t", "y", "x"))
    assert not read
    write()
    assert sorted(read) == list(range(9))
    rows = list(csv.DictReader((tmp_path / "labels.csv").read_text().splitlines()))
    assert [float(row["intensity_mean"]) for row in rows] == list(range(9))
