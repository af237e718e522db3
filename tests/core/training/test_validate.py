"""The figures of validation, the choice of test sizes, and the classical baselines."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.core.training.dataset_files import run, write_labels, write_sa1b

from fastsam_core.checkpoints import ModelInfo
from fastsam_core.errors import AnnotationError, InvalidParameterError
from fastsam_core.masks import Masks
from fastsam_core.model import FastSAM
from fastsam_core.testing import RectangleNetwork
from fastsam_core.training import validate
from fastsam_core.training.baselines import BASELINES, felzenszwalb_masks, watershed_masks
from fastsam_core.training.datasets import loading
from fastsam_core.training.datasets.manifest import Dataset
from fastsam_core.training.scenes import generate_scene
from fastsam_core.training.scoring import Case, Scores, best_f1, evaluate, evaluate_groups, greedy_matches, truth_of
from fastsam_core.training.sources import LabelledImage
from fastsam_core.training.trainer import build_network
from fastsam_core.training.validate import Row, Setting, bsds_cases, cases_of, model_of, recommend, segmenter
from fastsam_core.training.validate_prompts import measure_prompts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray


def labelled() -> LabelledImage:
    layers = np.zeros((2, 60, 80), np.uint16)
    layers[0, 10:30, 10:30] = 1
    layers[1, 14:20, 14:20] = 2
    return LabelledImage(np.full((60, 80, 3), 40, np.uint8), layers, np.zeros((60, 80), np.uint8))


def test_each_instance_is_found_once() -> None:
    iou = np.array([[0.9, 0.0], [0.8, 0.0], [0.1, 0.6]], np.float32)
    assert greedy_matches(iou, 0.5).tolist() == [True, False, True]
    assert greedy_matches(np.zeros((2, 0), np.float32), 0.5).tolist() == [False, False]


def test_best_f1_by_hand() -> None:
    """The threshold lies half-way between the last score that is in and the first that is not."""
    hits, scores = np.array([True, False, True, False]), np.array([0.9, 0.8, 0.7, 0.1], np.float32)
    assert best_f1(hits, scores, 2) == pytest.approx((0.8, 0.4))
    assert best_f1(hits[:3], scores[:3], 2) == pytest.approx((0.8, 0.35))
    assert best_f1(hits[:0], scores[:0], 2) == (0.0, 0.0)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 100)), min_size=1, max_size=30))
def test_the_threshold_gives_the_best_f1(found: list[tuple[bool, int]]) -> None:
    hits, scores = np.array([hit for hit, _ in found]), np.array([score / 100 for _, score in found], np.float32)
    instances = len(found)
    best, threshold = best_f1(hits, scores, instances)
    of_all = {level: 2 * hits[scores >= level].sum() / ((scores >= level).sum() + instances) for level in scores}
    assert best >= max(of_all.values()) - 1e-9
    if len(np.unique(scores)) == len(scores):
        shown = scores >= threshold
        assert 2 * hits[shown].sum() / (shown.sum() + instances) == pytest.approx(best)


def test_each_image_has_its_threshold() -> None:
    """Sure masks in one image and faint ones in the other: one threshold for both cannot be right."""
    [case] = cases_of([labelled()])
    [whole, part] = case.truths[0][[0]], case.truths[0][[1]]
    wrong = Masks.from_dense(np.eye(60, 80, 40, dtype=bool)[None], [0.1])
    scored = iter([(0.9, [whole, wrong]), (0.1, [part])])

    def segment(image: NDArray[np.uint8]) -> Masks:
        score, masks = next(scored)
        found = Masks.concatenate(masks)
        return Masks.from_dense(found.to_dense(), [score, 0.1][: len(masks)])

    scores = evaluate(segment, [Case(case.image, (whole,)), Case(case.image, (part,))])
    assert scores.auto_f1 == 1
    assert scores.best_f1 == pytest.approx(0.8)


def test_prompts_find_faint_masks_of_validation_images() -> None:
    """The part of the two nested objects is found with less confidence than is shown."""
    network = RectangleNetwork(((10, 10, 30, 30), (14, 14, 20, 20)), (0.9, 0.05))
    model = FastSAM(network, ModelInfo(name="rectangles", imgsz=96, conf=0.4))
    layers = np.pad(labelled().layers, ((0, 0), (0, 4), (0, 16)))
    image = LabelledImage(np.full((64, 96, 3), 40, np.uint8), layers, np.zeros((64, 96), np.uint8))
    found = measure_prompts(model, cases_of([image]))
    assert (found["images"], found["objects"]) == (1, 2)
    assert found["box_all_miou"] == found["best_all_miou"] == 1
    assert found["box_shown_miou"] == pytest.approx(0.5)
    assert found["best_shown_miou"] == pytest.approx((1 + 36 / 400) / 2)


def test_perfect_masks_score_one_and_nested_ones_count() -> None:
    case = cases_of([labelled()])[0]
    assert truth_of(labelled()).areas_px.tolist() == [400 - 0, 36]
    scores = evaluate(lambda image: case.truths[0], [case])
    assert (scores.ap50, scores.ar10, scores.ar100, scores.best_overlap, scores.best_f1) == pytest.approx((1,) * 5)
    assert scores.auto_f1 == 1
    assert (scores.images, scores.instances) == (1, 2)
    assert scores.ar100_small == pytest.approx(1.0)
    assert scores.ar100_large is None


def test_every_annotator_counts() -> None:
    first, second = Masks.from_dense(np.eye(4, dtype=bool)[None]), Masks.from_dense(np.ones((1, 4, 4), bool))
    scores = evaluate(lambda image: first, [Case(np.zeros((4, 4, 3), np.uint8), (first, second))])
    assert scores.instances == 2
    assert scores.ar100 == pytest.approx(0.5)
    assert scores.images == 1


def test_groups_are_measured_by_themselves() -> None:
    images = [np.full((60, 80, 3), value, np.uint8) for value in (20, 200)]
    colour = images[0].copy()
    colour[..., 0] = 90
    samples = [replace(labelled(), image=image) for image in (*images, colour)]
    cases = cases_of(samples, by_stain=True)
    assert [case.group for case in cases] == ["fluorescence", "brightfield", "stained"]
    found = evaluate_groups(lambda image: cases[0].truths[0] if image.mean() < 100 else Masks.empty((60, 80)), cases)
    assert {group: scores.images for group, scores in found.items()} == {
        "": 3,
        "fluorescence": 1,
        "brightfield": 1,
        "stained": 1,
    }
    assert found["brightfield"].ap50 == 0
    assert found["fluorescence"].ap50 == pytest.approx(1)
    assert 0.5 < found[""].ap50 < 0.7


def always(masks: Masks) -> Callable[[object], Masks]:
    return lambda image: masks


def test_clicks_of_a_brush_are_measured_apart_too() -> None:
    layers = np.zeros((2, 60, 80), np.uint16)
    layers[0, 5:15, 5:15], layers[0, 40:45, 40:45] = 7, 3
    layers[0, [40, 40, 44, 44], [40, 44, 40, 44]] = 0  # a click
    layers[1, 20:30, 30:40], layers[1, 20:25, 60:65] = 9, 12
    sample = replace(labelled(), image=np.full((60, 80, 3), 20, np.uint8), layers=layers)
    [case] = cases_of([sample], by_stain=True)
    [clicks] = case.doubted
    assert case.truths[0].areas_px[clicks].tolist() == [21]
    for found, wanted in ((~clicks, (0.75, 1.0)), (clicks, (0.25, 0.0)), (np.ones(4, bool), (1.0, 1.0))):
        masks = case.truths[0][np.flatnonzero(found)]
        scores = evaluate_groups(always(masks), [case])
        both = scores["fluorescence"], scores["fluorescence, doubted apart"]
        assert tuple(one.ar100 for one in both) == pytest.approx(wanted)
        assert [one.instances for one in both] == [4, 3]
        f1 = [2 * share / (1 + share) for share in wanted]
        assert [one.best_f1 for one in both] == pytest.approx(f1)
    no_click = evaluate_groups(lambda image: case.truths[0], cases_of([sample]))
    assert set(no_click) == {""}


@pytest.mark.parametrize("empty", [False, True])
def test_what_is_found_in_an_image_without_objects_is_wrong_where_it_counts(empty: bool) -> None:
    faint, sure = (Masks.from_dense(np.ones((1, 4, 4), bool), scores=[score]) for score in (0.5, 0.9))
    cases = [Case(np.full((4, 4, 3), value, np.uint8), (truth,)) for value, truth in ((0, faint), (9, faint[:0]))]
    scores = evaluate(lambda image: sure if image.any() else faint, cases, empty=empty)
    assert (scores.images, scores.instances, scores.ap50) == ((2, 1, 0.5) if empty else (1, 1, 1.0))


def test_nothing_to_measure() -> None:
    assert evaluate(lambda image: Masks.empty((4, 4)), []) == Scores()


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network("yolov8n-seg").eval()


def test_untrained_network_scores_near_zero_and_is_left_alone(network: torch.nn.Module) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    scores = evaluate(
        segmenter(model_of(network, ModelInfo(name="training")), Setting("96,64", 0.7)), cases_of([labelled()])
    )
    assert scores.images == 1
    assert 0 <= scores.ap50 < 0.5
    assert network.state_dict().keys() == before.keys()
    assert next(network.parameters()).requires_grad


def test_an_image_of_a_few_rows_is_not_taken_for_channels() -> None:
    model = FastSAM(RectangleNetwork(((0, 0, 64, 2),), (0.9,)), ModelInfo(name="rectangles"))
    assert segmenter(model, Setting("64", 0.7))(np.zeros((3, 90, 3), np.uint8)).image_hw == (3, 90)


def row(source: str, sizes: str, ar100: float, f1: float, *, partial: bool) -> Row:
    scores = Scores(ar100=ar100, best_f1=f1, best_conf=0.3, instances=10, images=1)
    return Row(source, "x", sizes, 0.5, partial, 0.1 * len(sizes), scores)


def test_the_cheaper_of_equals_is_recommended() -> None:
    rows = [row("a", "512", 0.50, 0.6, partial=False), row("b", "512", 0.40, 0.0, partial=True)]
    rows += [row("a", "384,768", 0.51, 0.6, partial=False), row("b", "384,768", 0.40, 0.9, partial=True)]
    setting, conf, means = recommend(rows)
    assert setting == Setting("512", 0.5)
    assert conf == pytest.approx(0.3)
    assert means[setting] == pytest.approx(((0.5 + 0.6) / 2 + 0.4) / 2)
    rows[3] = row("b", "384,768", 0.60, 0.9, partial=True)
    assert recommend(rows)[0] == Setting("384,768", 0.5)
    rows += [row("a", "auto", 0.55, 0.7, partial=False), row("b", "auto", 0.65, 0.9, partial=True)]
    assert recommend(rows)[0] == Setting("auto", 0.5)


def test_bsds_takes_every_annotator(tmp_path: Path) -> None:
    for part in ("images/test", "gt/test"):
        (tmp_path / part).mkdir(parents=True)
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "images/test/a.jpg")
    halves = np.ones((6, 8), np.uint16)
    halves[:, 4:] = 2
    np.savez(tmp_path / "gt/test/a.npz", seg0=halves, seg1=np.ones((6, 8), np.uint16))
    [case] = bsds_cases(tmp_path, "test", 5)
    assert [len(truth) for truth in case.truths] == [2, 1]
    with pytest.raises(AnnotationError):
        next(bsds_cases(tmp_path, "val", 5))


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_baselines_give_valid_masks(name: str) -> None:
    for image in (generate_scene(1, (64, 80)).image, np.zeros((40, 50, 3), np.uint8)):
        masks = BASELINES[name](image)
        assert masks.image_hw == image.shape[:2]
        assert bool((np.diff(masks.scores) <= 0).all())


def discs(inside: int, outside: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[:80, :120]
    image = np.full((80, 120, 3), outside, np.uint8)
    for centre in ((40, 30), (40, 52), (40, 95)):
        image[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 < 12**2] = inside
    return image


@pytest.mark.parametrize(("inside", "outside"), [(200, 20), (40, 210)])
def test_watershed_separates_touching_discs(inside: int, outside: int) -> None:
    masks = watershed_masks(discs(inside, outside))
    assert len(masks) == 3


def test_felzenszwalb_finds_discs() -> None:
    found = felzenszwalb_masks(discs(200, 20))
    assert int((found.areas_px > 300).sum()) >= 2


def test_command_writes_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def one(root: Path, spec: object, split: str, most: int | None) -> list[LabelledImage]:
        return [labelled()]

    monkeypatch.setattr(f"{loading.__name__}.load_source", one)
    arguments = ["validate", "--data", str(tmp_path), "--baseline", "watershed", "--only", "dsb2018"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--out", str(tmp_path / "t.json")])
    validate.main()
    values, stained = json.loads((tmp_path / "t.json").read_text())
    assert stained["source"] == "dsb2018/fluorescence"
    assert values["source"] == "dsb2018"
    assert values["method"] == "watershed"
    assert values["partial"] is False
    assert values["instances"] == 2


def test_data_sets_of_ones_own_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "set"
    run(write_sa1b(tmp_path / "pairs", 6), data, "sa1b", name="pairs", val_share=0.5)
    run(write_labels(tmp_path / "maps", 6), data, "labels", name="maps", val_share=0.5)
    arguments = ["validate", "--data", str(data), "--baseline", "watershed", "--out", str(tmp_path / "t.json")]
    monkeypatch.setattr(sys, "argv", arguments)
    validate.main()
    rows = json.loads((tmp_path / "t.json").read_text())
    held_back = {name: entry.images["val"] for name, entry in Dataset.open(data).sources.items()}
    assert {row["source"]: row["images"] for row in rows} == held_back
    monkeypatch.setattr(sys, "argv", [*arguments, "--only", "dsb2018"])
    with pytest.raises(InvalidParameterError, match="some of pairs, maps"):
        validate.main()
    [(_, samples)] = loading.iter_held_back(data, 1, ["maps"])
    assert [sample.image.shape for sample in samples] == [(48, 64, 3)]
    with pytest.raises(AnnotationError, match=r"source of the built-in model.*fastsam train"):
        next(loading.iter_held_back(tmp_path))
