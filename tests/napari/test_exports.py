"""What is written of labels: their ids, and measurements in the layer's units."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from napari.layers import Image, Labels

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Make


def written(viewer: Any, make_widget: Make, folder: Path, labels: Labels) -> tuple[Any, list[dict[str, str]]]:
    """Export labels as an image and as a table, and read both."""
    viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name="Image"))
    viewer.add_layer(labels)
    widget = make_widget(viewer)
    widget.label_panel.target.set_layer(labels)
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
