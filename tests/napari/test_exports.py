"""What is written of labels: their ids, and measurements in the layer's units."""

from __future__ import annotations

import csv
import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from napari.layers import Image, Labels
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QFileDialog

from .test_interaction import put

if TYPE_CHECKING:
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
    assert [(one["attributes"]["label"], one["area"]) for one in annotations] == [(-3, 100), (4, 200)]
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
