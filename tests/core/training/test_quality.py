"""Expected IoU of masks: figures, the fitted model, its file form, and what it says when it is damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings

from fastsam_core import FastSAM
from fastsam_core.checkpoints import find_weights
from fastsam_core.errors import AnnotationError, CheckpointError, InvalidParameterError
from fastsam_core.masks import Masks
from fastsam_core.quality import FIGURES, METADATA_KEY, Curve, QualityModel, figures_of
from fastsam_core.testing import masks_strategy
from fastsam_core.training import calibrate
from fastsam_core.training.calibrate import Judged, compare, fit
from fastsam_core.training.export import change_facts
from fastsam_core.training.scenes import generate_scene

if TYPE_CHECKING:
    from pathlib import Path


@given(masks_strategy())
@settings(max_examples=40, deadline=None)
def test_figures_are_finite(masks: Masks) -> None:
    figures = figures_of(masks)
    assert figures.shape == (len(masks), len(FIGURES))
    assert np.isfinite(figures).all()


def test_figures_of_known_shapes() -> None:
    stack = np.zeros((2, 40, 60), bool)
    stack[0, :20, :20] = True
    stack[1, 25:35, 20:50] = True
    stack[1, 25:30, 35:50] = False
    masks = replace(Masks.from_dense(stack, [0.5, 0.9]), boxes_xyxy=np.array([[0, 0, 20, 40], [20, 25, 50, 35]]))
    named = dict(zip(FIGURES, figures_of(masks).T, strict=True))
    assert named["fill"] == pytest.approx([1.0, 225 / 300])
    assert named["log_odds"] == pytest.approx([0.0, np.log(9)])
    assert named["image_log_odds"] == pytest.approx([np.log(9) / 2] * 2)
    assert named["box_agreement"] == pytest.approx([0.5, 1.0])
    sides = np.log([20, 15])
    assert named["relative_side"] == pytest.approx(sides - np.average(sides, weights=[0.25, 0.81]), abs=1e-4)


def test_the_extent_of_a_mask_may_have_more_pixels_than_32_bits_count() -> None:
    side = 50_000
    runs = np.array([[0, 0, side], [side - 1, 0, 1]], np.int32)
    masks = Masks((side, side), np.array([[0, 0, side, side]]), np.array([0.5]), runs, np.array([0, 2]))
    named = dict(zip(FIGURES, figures_of(masks).T, strict=True))
    assert named["fill"] == pytest.approx([(side + 1) / side**2])


def judged(seed: int, count: int = 60) -> Judged:
    """Return made-up masks whose true IoU follows roundness, while their scores are noise."""
    rng = np.random.default_rng(seed)
    stack = np.zeros((count, 64, 64), bool)
    quality = rng.random(count)
    for mask, good in zip(stack, quality, strict=True):
        y, x = rng.integers(2, 30, 2)
        side = int(rng.integers(10, 30))
        mask[y : y + side, x : x + side] = rng.random((side, side)) < 0.4 + 0.6 * good
    masks = Masks.from_dense(stack, rng.random(count)).sort()
    fill = masks.areas_px / np.prod(masks.extents_xyxy[:, 2:] - masks.extents_xyxy[:, :2], axis=1)
    true = np.clip((fill - 0.4) / 0.6, 0, 1)
    iou = np.zeros((count, count))
    np.fill_diagonal(iou, true)
    return Judged(masks, iou, np.full(count, 400))


def test_quality_follows_the_true_iou_better_than_noise() -> None:
    model = fit([judged(seed) for seed in range(6)])
    report = compare([judged(seed) for seed in range(10, 14)], model)
    assert report["spearman_quality"] > 0.8
    assert abs(report["spearman_score"]) < 0.3
    assert report["ap_quality"] > report["ap_score"]


def test_file_form_is_exact() -> None:
    model = fit([judged(seed) for seed in range(3)], ("log_odds", "fill"))
    again = QualityModel.from_json(model.to_json())
    assert again == model
    masks = judged(9).masks
    assert np.array_equal(again.predict(masks), model.predict(masks))
    assert again.predict(masks[:0]).shape == (0,)
    assert float(model.predict(masks).min()) >= 0


def test_curves_add_up() -> None:
    model = QualityModel(0.2, (Curve("fill", (0.0, 1.0), (0.0, 0.5)),))
    masks = Masks.from_dense(np.ones((1, 4, 4), bool))
    assert model.predict(masks).tolist() == pytest.approx([0.7])
    assert replace(model, offset=0.9).predict(masks).tolist() == [1.0]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        json.dumps({"offset": 0}),
        json.dumps({"offset": 0, "curves": [{"figure": "beauty", "knots": [0], "values": [0]}]}),
        json.dumps({"offset": 0, "curves": [{"figure": "fill", "knots": [1, 0], "values": [0, 0]}]}),
        json.dumps({"offset": 0, "curves": [{"figure": "fill", "knots": [0, 1], "values": [0]}]}),
    ],
)
def test_damaged_models_are_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match="quality model"):
        QualityModel.from_json(text)


def test_weights_carry_their_quality_model(tmp_path: Path) -> None:
    model = QualityModel(0.5, (Curve("relative_side", (-1.0, 1.0), (-0.3, 0.3)),))
    source = find_weights("builtin")[0]
    path = change_facts(source, tmp_path / "calibrated.safetensors", {METADATA_KEY: model.to_json()})
    calibrated = FastSAM.load(path, runtime="torch")
    image = generate_scene(3, (96, 128), "objects").image
    masks = calibrated.segment(image, imgsz=128, conf=0.02)
    assert len(masks) > 1
    assert masks.fields["quality"].tolist() == pytest.approx(model.predict(masks).tolist())
    assert bool((np.diff(masks.scores) <= 0).all())
    ranked = calibrated.segment(image, imgsz=128, conf=0.02, rank_by="quality")
    assert bool((np.diff(ranked.fields["quality"]) <= 0).all())
    assert sorted(ranked.areas_px.tolist()) == sorted(masks.areas_px.tolist())


def test_ranking_by_quality_needs_a_model() -> None:
    plain = FastSAM(FastSAM.load("builtin", runtime="torch").network)
    with pytest.raises(InvalidParameterError, match="no quality model"):
        plain.settings(rank_by="quality")
    with pytest.raises(InvalidParameterError, match="Unknown ranking"):
        plain.settings(rank_by="beauty")  # type: ignore[arg-type]


def test_too_few_masks() -> None:
    with pytest.raises(AnnotationError, match="too few masks"):
        fit([judged(0, 5)])
    with pytest.raises(AnnotationError, match="too few masks"):
        compare([], fit([judged(0)]))


@pytest.mark.parametrize("weights", ["builtin", "last.pt"])
def test_models_that_cannot_hold_curves_are_refused_before_the_work(
    weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["calibrate", "--data", str(tmp_path), "--weights", weights, "--write"])
    with pytest.raises(SystemExit):
        calibrate.main()
    assert f"--write wants a weights file (.safetensors) by --weights, got {weights}" in capsys.readouterr().err
