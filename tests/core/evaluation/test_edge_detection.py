"""Edges on BSDS500: both file formats, figures, processes, the command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from typer.testing import CliRunner

from fastsam_core.cli import app
from fastsam_core.errors import AnnotationError
from fastsam_core.evaluation.boundaries import boundaries_of_labels
from fastsam_core.evaluation.bsds import BoundaryData, read_boundaries
from fastsam_core.evaluation.edge_detection import edge_report, iter_edge_counts

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from fastsam_core.model import FastSAM

SIDE = 96


def labels(shift: int = 0) -> NDArray[np.uint16]:
    array = np.ones((SIDE, SIDE), np.uint16)
    array[20 + shift : 72 + shift, 24:64] = 2
    return array


@pytest.fixture
def berkeley(tmp_path: Path) -> Path:
    """Make a test split of two images with two annotators."""
    (tmp_path / "images" / "test").mkdir(parents=True)
    (tmp_path / "gt" / "test").mkdir(parents=True)
    for name in ("12", "3"):
        picture = np.where(labels()[..., None] == 2, 220, 30).repeat(3, axis=2).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / "images" / "test" / f"{name}.jpg", quality=95)
        np.savez(tmp_path / "gt" / "test" / f"{name}.npz", seg0=labels(), seg1=labels(1))
    return tmp_path


def test_the_benchmark_s_own_files_are_read(berkeley: Path, tmp_path: Path) -> None:
    folder = tmp_path / "BSR" / "BSDS500" / "data"
    (folder / "groundTruth" / "test").mkdir(parents=True)
    (berkeley / "images").rename(folder / "images")
    people = np.empty((1, 2), object)
    for place, shift in enumerate((0, 1)):
        people[0, place] = {"Segmentation": labels(shift), "Boundaries": boundaries_of_labels(labels(shift))}
    for name in ("12", "3"):
        savemat(folder / "groundTruth" / "test" / f"{name}.mat", {"groundTruth": people})
    for hidden in ("images/test/._12.jpg", "groundTruth/test/._3.mat"):  # as macOS leaves them
        (folder / hidden).write_bytes(b"\0\5\26\7")
    data = BoundaryData(tmp_path, "test")
    assert [path.name for path in data.images] == ["12.jpg", "3.jpg"]
    expected = read_boundaries(berkeley / "gt" / "test" / "12.npz")
    assert np.array_equal(read_boundaries(data.truths[0]), expected)
    assert len(expected) == 2


def test_a_bright_square_has_good_edges(berkeley: Path, model: FastSAM) -> None:
    data = BoundaryData(berkeley, "test")
    counted = list(iter_edge_counts(data, model, [0, 1], thresholds=9, combine="max"))
    report = edge_report(counted)
    assert [name for name, _ in counted] == ["12", "3"]
    assert report.values["ods"] > 0.85
    assert report.values["images"] == 2
    assert report.images[0]["image"] == "12"


@pytest.mark.slow
def test_processes_find_the_same(berkeley: Path, model: FastSAM) -> None:
    data = BoundaryData(berkeley, "test")
    here = list(iter_edge_counts(data, model, [0, 1, 0], thresholds=5))
    there = list(iter_edge_counts(data, model, [0, 1, 0], thresholds=5, workers=1))
    assert [name for name, _ in there] == ["12", "3", "12"]
    for (_, one), (_, other) in zip(here, there, strict=True):
        assert np.array_equal(one.predicted_matched, other.predicted_matched)
        assert np.array_equal(one.truth_matched, other.truth_matched)


def test_bad_data_sets_are_named(berkeley: Path, model: FastSAM) -> None:
    with pytest.raises(AnnotationError, match="no images/val"):
        BoundaryData(berkeley, "val")
    truth = berkeley / "gt" / "test" / "3.npz"
    np.savez(truth, seg0=labels()[:50])
    with pytest.raises(AnnotationError, match=r"3\.npz is of another size"):
        list(iter_edge_counts(BoundaryData(berkeley, "test"), model, [1], thresholds=3))
    np.savez(truth, other=labels())
    with pytest.raises(AnnotationError, match=r"3\.npz holds no boundaries"):
        read_boundaries(truth)
    for content in (b"nothing", truth.read_bytes()[:-30]):
        truth.write_bytes(content)
        with pytest.raises(AnnotationError, match=r"3\.npz cannot be read"):
            read_boundaries(truth)
    truth.rename(truth.with_suffix(".mat"))
    with pytest.raises(AnnotationError, match=r"3\.mat cannot be read"):
        read_boundaries(truth.with_suffix(".mat"))
    with pytest.raises(AnnotationError, match="1 without the other, such as 3"):
        BoundaryData(berkeley, "test")


def test_the_command(berkeley: Path, loaded: list[dict[str, Any]], tmp_path: Path) -> None:
    out = tmp_path / "edges.json"
    arguments = [
        "evaluate",
        "edges",
        "--data",
        str(berkeley),
        "--thresholds",
        "5",
        "--combine",
        "max",
        "--json",
        str(out),
    ]
    result = CliRunner().invoke(app, [*arguments, "--plots", str(tmp_path)])
    assert result.exit_code == 0, result.output
    document = json.loads(out.read_text())
    assert document["values"]["ods"] > 0.85
    assert document["settings"]["model"] == "blobs"
    assert str(tmp_path) not in out.read_text()
    assert (tmp_path / "precision-recall.png").exists()
    assert CliRunner().invoke(app, [*arguments, "--combine", "mean"]).exit_code == 2
