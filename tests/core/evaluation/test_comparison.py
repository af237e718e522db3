"""Two sides on the same images."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

from fastsam_core.cli import app
from fastsam_core.cli._compare import SideSpec
from fastsam_core.errors import InvalidParameterError
from fastsam_core.evaluation.comparison import Comparison, Side
from fastsam_core.evaluation.truth import Truth
from fastsam_core.masks import Masks

if TYPE_CHECKING:
    from pathlib import Path


def squares(n: int, shift: int = 0) -> Masks:
    crops = [np.ones((10, 10), bool)] * n
    return Masks.from_crops(crops, [(15 * i, shift) for i in range(n)], (100, 40), scores=np.linspace(0.9, 0.5, n))


def filled(images: int, worse_by: int) -> Comparison:
    rng = np.random.default_rng(1)
    comparison = Comparison(Side(0.4, 20), Side(0.4, 20))
    for _ in range(images):
        n = int(rng.integers(3, 7))
        good = squares(n, int(rng.integers(0, 3)))
        comparison.add(good, squares(n, worse_by + int(rng.integers(0, 3))), Truth.of_masks(squares(n)))
    return comparison


def test_a_worse_side_is_surely_worse() -> None:
    report = filled(12, worse_by=3).report(("good", "bad"), resamples=60)
    values = report.values
    assert values["ap_second"] < values["ap_first"]
    assert values["ap_low"] <= values["ap_difference"] <= values["ap_high"] < 0
    assert values["ap_difference"] == pytest.approx(values["ap_second"] - values["ap_first"])
    assert report.tables[0].rows[0][-1] == "yes"
    assert 0 < values["agreement"] < 1


def test_the_same_side_twice_does_not_differ() -> None:
    comparison = Comparison(Side(0.4, 20), Side(0.4, 20))
    for n in (3, 5, 4):
        comparison.add(squares(n, 2), squares(n, 2), Truth.of_masks(squares(n)))
    values = comparison.report(("a", "a"), resamples=20).values
    assert values["ap_low"] == values["ap_high"] == values["ap_difference"] == 0
    assert values["agreement"] == 1
    # each square is moved by 2 of 10 pixels: IoU 8 / 12
    assert values["mean_iou_with_the_best_mask_first"] == pytest.approx(8 / 12)
    assert values["f1_at_iou_050_first"] == 1
    assert values["f1_at_iou_075_first"] == 0


def test_chosen_images_count_as_often_as_they_are_named() -> None:
    side = Side(0.0, 20)
    side.add(squares(4), Truth.of_masks(squares(4)))
    side.add(squares(4, 20), Truth.of_masks(squares(4)))
    assert side.figures([0])["average recall"] == 1
    assert side.figures([1])["average recall"] == 0
    assert side.figures([0, 0, 1])["average recall"] == pytest.approx(2 / 3)
    assert side.figures([0, 1, 0])["F1 at IoU 0.50"] == pytest.approx(2 / 3)


def test_one_image_has_no_interval() -> None:
    with pytest.raises(InvalidParameterError, match="Too few images"):
        filled(1, 0).report(("a", "b"))


def test_images_without_objects_have_no_intervals() -> None:
    comparison = Comparison(Side(0.4, 20), Side(0.4, 20))
    nothing = Masks.empty((100, 40))
    for _ in range(2):
        comparison.add(squares(3), nothing, Truth.of_masks(nothing))
    values = comparison.report(("a", "b"), resamples=10).values
    assert np.isnan([values["ap_low"], values["f1_at_iou_050_high"]]).all()


def test_reading_a_side() -> None:
    spec = SideSpec.read("FastSAM-s, precision=bf16,imgsz=640,conf=0.25")
    assert (spec.model, spec.loading, spec.search) == (
        "FastSAM-s",
        {"precision": "bf16"},
        {"imgsz": 640, "conf": 0.25},
    )
    for text in ("builtin,imgsz=large", "builtin,size=3", "builtin,conf"):
        with pytest.raises(InvalidParameterError, match="Cannot read"):
            SideSpec.read(text)


def test_the_command(label_folder: Path, loaded: list[dict[str, Any]], tmp_path: Path) -> None:
    arguments = ["evaluate", "compare", "one", "two,precision=bf16,conf=0.8", "--data", str(label_folder)]
    result = CliRunner().invoke(app, [*arguments, "--resamples", "20", "--json", str(tmp_path / "c.json")])
    assert result.exit_code == 0, result.output
    asked = [{key: value for key, value in one.items() if key != "progress"} for one in loaded]
    assert asked == [{"name": "one"}, {"name": "two", "precision": "bf16"}]
    values = json.loads((tmp_path / "c.json").read_text())["values"]
    assert values["ap_difference"] == 0
    assert values["f1_at_iou_050_second"] < values["f1_at_iou_050_first"]  # a higher threshold loses objects
