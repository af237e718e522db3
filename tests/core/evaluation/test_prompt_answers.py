"""Simulated prompts: where they lie, what they select among made-up masks, and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from scipy.ndimage import distance_transform_edt
from typer.testing import CliRunner

from fastsam_core._defaults import PROMPT_CONF
from fastsam_core.cli import app
from fastsam_core.errors import InvalidMasksError
from fastsam_core.evaluation.document import benchmarks_page
from fastsam_core.evaluation.prompt_answers import KINDS, PromptScorer, simulate_prompts
from fastsam_core.evaluation.truth import Truth
from fastsam_core.masks import Masks
from fastsam_core.prompts import Box, Points, Polygon, match
from fastsam_core.testing import masks_strategy

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from fastsam_core.model import FastSAM

ROWS = (*(kind.replace(" ", "_") for kind in KINDS), "best")


def rectangles(*boxes_xyxy: tuple[int, int, int, int], scores: list[float] | None = None) -> Masks:
    """Make masks that are rectangles of an image of 80 × 100 pixels."""
    stack = np.zeros((len(boxes_xyxy), 80, 100), bool)
    for mask, (x0, y0, x1, y1) in zip(stack, boxes_xyxy, strict=True):
        mask[y0:y1, x0:x1] = True
    return Masks.from_dense(stack, scores)


def scored(masks: Masks, truth: Masks | Truth, shown_conf: float = 0.4) -> dict[str, float]:
    scorer = PromptScorer(shown_conf)
    scorer.add(masks, truth if isinstance(truth, Truth) else Truth.of_masks(truth))
    return dict(scorer.report().values)


def as_arrays(objects: Masks) -> dict[str, list[NDArray[np.float64]]]:
    """Return for each kind of prompt the coordinates of each entry."""
    prompts = simulate_prompts(objects)
    out: dict[str, list[NDArray[np.float64]]] = {}
    for kind, prompt in prompts.items():
        if isinstance(prompt, Points):
            assert prompt.groups is not None
            rows = np.column_stack([prompt.points_yx, prompt.labels])
            out[kind] = [rows[prompt.groups == index] for index in range(len(objects))]
        else:
            out[kind] = list(prompt.boxes_xyxy if isinstance(prompt, Box) else prompt.vertices_yx)
    return out


# ---- answers ----------------------------------------------------------------------------------------------------


def test_objects_that_were_found_exactly() -> None:
    truth = rectangles((10, 10, 30, 40), (50, 20, 90, 60))
    values = scored(rectangles((50, 20, 90, 60), (10, 10, 30, 40), scores=[0.9, 0.5]), truth)
    assert (values["images"], values["objects"]) == (1, 2)
    for row in ROWS:
        for among in ("all", "shown"):
            figures = [values[f"{row}_{among}_{figure}"] for figure in ("miou", "iou50", "answered")]
            assert figures == [1, 1, 1], (row, among)


def test_a_point_in_nested_objects_means_the_part() -> None:
    nested = rectangles((20, 20, 60, 60), (35, 35, 45, 45), scores=[0.9, 0.5])  # 0.5 / 10 is above 0.9 / 40
    assert scored(nested, nested[1])["point_all_miou"] == 1
    assert scored(nested, nested[0])["point_all_miou"] == pytest.approx(100 / 1600)
    values = scored(nested, nested)
    assert values["point_all_iou50"] == 0.5
    assert values["point_all_answered"] == 1
    for row in ("box", "loose_box", "outline", "best"):
        assert values[f"{row}_all_miou"] == 1, row


def test_a_negative_point_rules_out_the_whole() -> None:
    part, whole = (35, 35, 45, 45), (20, 20, 60, 60)
    values = scored(rectangles(part, whole, scores=[0.1, 0.9]), rectangles(part), shown_conf=0)
    assert values["point_all_miou"] == pytest.approx(100 / 1600)  # 0.9 / 40 is above 0.1 / 10
    assert values["points_all_miou"] == 1


def test_the_best_mask_is_that_of_each_object() -> None:
    truth = rectangles((0, 0, 10, 10), (50, 50, 60, 60), (80, 0, 90, 10))
    values = scored(rectangles((0, 0, 10, 8), (0, 0, 10, 4), (50, 50, 60, 54)), truth)
    assert values["best_all_miou"] == pytest.approx((0.8 + 0.4 + 0) / 3)
    assert values["best_all_iou50"] == pytest.approx(1 / 3)
    assert values["best_all_answered"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("masks", [rectangles((70, 60, 90, 75)), Masks.empty((80, 100))], ids=["elsewhere", "none"])
def test_nothing_there(masks: Masks) -> None:
    values = scored(masks, rectangles((5, 5, 25, 25)))
    assert {value for name, value in values.items() if name not in ("images", "objects")} == {0}


def test_a_wrong_answer_is_an_answer() -> None:
    values = scored(rectangles((30, 30, 70, 70)), rectangles((30, 30, 70, 50), (0, 0, 8, 8)))
    assert values["point_all_answered"] == 0.5
    assert values["point_all_miou"] == 0.25
    assert values["point_all_iou50"] == 0.5  # from 0.5 on, that included


def test_a_faint_mask_is_found_among_all_only() -> None:
    truth = rectangles((10, 10, 30, 40), (50, 20, 90, 60))
    values = scored(rectangles((10, 10, 30, 40), (50, 20, 90, 60), scores=[0.05, 0.4]), truth)
    for row in ROWS:
        assert [values[f"{row}_all_{figure}"] for figure in ("miou", "answered")] == [1, 1], row
        assert [values[f"{row}_shown_{figure}"] for figure in ("miou", "answered")] == [0.5, 0.5], row


def test_crowds_and_empty_objects_get_no_prompt() -> None:
    masks = rectangles((10, 10, 30, 40), (50, 20, 90, 60), (0, 0, 0, 0))
    truth = Truth(masks, np.zeros((3, 4)), np.ones(3), np.array([False, True, False]))
    values = scored(masks[:1], truth)
    assert values["objects"] == 1
    assert values["box_all_miou"] == 1


def test_images_are_averaged_object_by_object() -> None:
    two, one = rectangles((10, 10, 30, 40), (50, 20, 90, 60)), rectangles((10, 10, 30, 40))
    scorer = PromptScorer(0.4)
    scorer.add(Masks.empty((80, 100)), Truth.of_masks(one))
    scorer.add(two, Truth.of_masks(two))
    scorer.add(two, Truth.of_masks(Masks.empty((80, 100))))
    values = scorer.report().values
    assert (values["images"], values["objects"]) == (3, 3)
    assert values["outline_all_miou"] == pytest.approx(2 / 3)


def test_no_objects_have_no_figures() -> None:
    values = scored(rectangles((10, 10, 30, 40)), Masks.empty((80, 100)))
    assert values["objects"] == 0
    assert np.isnan(values["points_all_miou"])
    assert np.isnan(values["best_shown_answered"])


def test_masks_of_another_image() -> None:
    with pytest.raises(InvalidMasksError, match="different images"):
        scored(Masks.empty((80, 90)), rectangles((10, 10, 30, 40)))


def test_the_table_has_two_rows_a_kind() -> None:
    scorer = PromptScorer(0.25)
    scorer.add(rectangles((0, 0, 10, 10), scores=[0.1]), Truth.of_masks(rectangles((0, 0, 10, 10))))
    page = benchmarks_page([scorer.report()])
    assert "## Points, boxes and outlines as prompts" in page
    assert "Measured: 1 image, 1 object; shown: score at least 0.25:" in page
    assert page.count("| all | 1.000 | 1.000 | 1.000 |") == page.count("| those shown | 0.000 | 0.000 | 0.000 |") == 6
    assert "| loose box | those shown |" in page


# ---- simulated users --------------------------------------------------------------------------------------------


@given(masks_strategy())
def test_prompts_lie_where_users_give_them(masks: Masks) -> None:
    objects = masks[masks.areas_px > 0]
    own = np.arange(len(objects))
    prompts, given_ = simulate_prompts(objects), as_arrays(objects)
    point, points, box, loose = (prompts[kind] for kind in ("point", "points", "box", "loose box"))
    assert isinstance(point, Points)
    assert isinstance(points, Points)
    assert isinstance(box, Box)
    assert isinstance(loose, Box)
    assert points.groups is not None
    assert [len(given_["points"][index]) in (2, 3) for index in own] == [True] * len(objects)
    assert objects.hits(point.points_yx)[own, own].all()
    hits = objects.hits(points.points_yx)[np.arange(len(points.groups)), points.groups]
    assert hits.tolist() == (points.labels == 1).tolist()
    assert ((points.points_yx >= 0) & (points.points_yx < objects.image_hw)).all()
    for mask, clicks in zip(objects.to_dense(), given_["points"], strict=True):
        framed = np.pad(mask, 1)
        depth, away = distance_transform_edt(framed)[1:-1, 1:-1], distance_transform_edt(~framed)[1:-1, 1:-1]
        first, second, *negative = np.floor(clicks[:, :2]).astype(int)
        assert tuple(first) == np.unravel_index(depth.argmax(), depth.shape)
        assert depth[tuple(second)] >= depth.max() / 2
        assert len(negative) == ((away >= 3) & (away <= 6)).any()
        assert all(3 <= away[tuple(pixel)] <= 6 for pixel in negative)
    assert box.boxes_xyxy.tolist() == objects.extents_xyxy.tolist()
    outwards = (loose.boxes_xyxy - box.boxes_xyxy) * (-1, -1, 1, 1)
    assert (outwards >= 0).all()
    assert (outwards <= 0.3 * np.tile(box.boxes_xyxy[:, 2:] - box.boxes_xyxy[:, :2], 2) + 1e-9).all()
    height, width = objects.image_hw
    assert (loose.boxes_xyxy[:, :2] >= 0).all()
    assert (loose.boxes_xyxy[:, 2:] <= (width, height)).all()


@given(masks_strategy())
def test_outlines_enclose_their_objects_closely(masks: Masks) -> None:
    objects = masks[masks.areas_px > 0]
    rings = as_arrays(objects)["outline"]
    enclosed = match(objects, Polygon(rings, criterion="inside", threshold=1.0, many=True))
    pairs = set(zip(enclosed.prompt_index.tolist(), enclosed.index.tolist(), strict=True))
    assert {(index, index) for index in range(len(objects))} <= pairs
    for ring, (x0, y0, x1, y1) in zip(rings, objects.extents_xyxy.tolist(), strict=True):
        sides = ring.max(axis=0) - ring.min(axis=0)
        assert (sides <= 1.25 * np.array([y1 - y0, x1 - x0]) + 1e-9).all()


@given(masks_strategy())
def test_prompts_depend_on_their_object_alone(masks: Masks) -> None:
    objects = masks[masks.areas_px > 0]
    together, reversed_ = as_arrays(objects), as_arrays(objects[::-1])
    for kind in KINDS:
        for index, entry in enumerate(together[kind]):
            assert np.array_equal(entry, reversed_[kind][len(objects) - 1 - index])
            assert np.array_equal(entry, as_arrays(objects[index])[kind][0])


def test_random_prompts_differ_between_objects() -> None:
    boxes = [(20 + 5 * step, 20 + 3 * step, 30 + 5 * step, 40 + 3 * step) for step in range(5)]
    given_ = as_arrays(rectangles(*boxes))
    for kind, place in (("points", 1), ("points", 2)):
        moved = [tuple(entry[place, :2] - entry[0, :2]) for entry in given_[kind]]
        assert len(set(moved)) > 1, (kind, place)
    widths = [np.ptp(ring[:, 1]) / 10 for ring in given_["outline"]]
    assert len({round(width, 6) for width in widths}) == 5
    sides = np.array([(entry - box) * (-1, -1, 1, 1) for entry, box in zip(given_["loose box"], boxes, strict=True)])
    assert len({round(side, 6) for side in sides.ravel().tolist()}) == 20


def test_the_order_of_images_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    images = []
    for _ in range(6):
        boxes = rng.integers(0, 60, (8, 2))
        truth = rectangles(*((x, y, x + 15, y + 12) for x, y in boxes.tolist()))
        found = rectangles(*((x + 2, y + 1, x + 17, y + 14) for x, y in boxes.tolist()), scores=rng.random(8).tolist())
        images.append((found, Truth.of_masks(truth)))
    reports = []
    for order in (images, images, images[::-1]):
        scorer = PromptScorer(0.4)
        for masks, objects in order:
            scorer.add(masks, objects)
        reports.append(scorer.report().values)
    assert reports[0] == reports[1]
    assert reports[2] == pytest.approx(reports[0])
    assert 0 < reports[0]["points_all_miou"] < reports[0]["best_all_miou"]


def test_a_ring_is_clicked_on_its_first_innermost_pixel() -> None:
    ring = np.zeros((20, 20), bool)
    ring[2:17, 2:17] = True
    ring[5:14, 5:14] = False
    point = simulate_prompts(Masks.from_dense(ring))["point"]
    assert isinstance(point, Points)
    assert point.points_yx.tolist() == [[3.5, 3.5]]


def test_outlines_grow_about_the_centre_of_mass() -> None:
    tee = np.zeros((60, 60), bool)
    tee[10:15, 20:50] = True
    tee[15:50, 20:24] = True
    [ring] = as_arrays(Masks.from_dense(tee))["outline"]
    low, high = np.array([10, 20]), np.array([50, 50])
    [growth, same] = (ring.max(axis=0) - ring.min(axis=0)) / (high - low) - 1
    assert growth == pytest.approx(same)
    assert ring.min(axis=0) - low == pytest.approx(growth * (low - np.argwhere(tee).mean(axis=0) - 0.5))


def test_an_object_that_fills_the_image_has_no_negative_point() -> None:
    points = simulate_prompts(rectangles((0, 0, 100, 80)))["points"]
    assert isinstance(points, Points)
    assert points.labels.tolist() == [1, 1]


def test_an_object_without_pixels_has_no_prompts() -> None:
    with pytest.raises(InvalidMasksError, match="object 1 is empty"):
        simulate_prompts(rectangles((0, 0, 5, 5), (3, 3, 3, 3)))


# ---- the command ------------------------------------------------------------------------------------------------


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["evaluate", "prompts", *arguments])


def test_the_command_on_label_maps(
    label_folder: Path, model: FastSAM, loaded: list[dict[str, Any]], tmp_path: Path
) -> None:
    model.info = replace(model.info, conf=0.75)  # of the three squares only the largest is shown
    out = tmp_path / "out"
    result = run(str(label_folder), "--model", "mine", "--json", str(out / "p.json"), "--markdown", str(out / "p.md"))
    assert result.exit_code == 0, result.output
    assert loaded[0]["name"] == "mine"
    document = json.loads((out / "p.json").read_text())
    assert document["command"] == "prompts"
    assert (document["settings"]["conf"], document["settings"]["shown_conf"]) == (PROMPT_CONF, 0.75)
    values = document["values"]
    assert (values["images"], values["objects"]) == (3, 5)
    for row in ROWS:
        assert values[f"{row}_all_iou50"] == 1, row
        assert values[f"{row}_shown_answered"] == 2 / 5, row
    mean = values["outline_shown_miou"]
    assert mean == pytest.approx(0.4, abs=0.02)
    assert f"| outline | those shown | {mean:.3f} | 0.400 | 0.400 |" in (out / "p.md").read_text()
    assert "loose box" in result.stdout
    result = run(str(label_folder), "--conf", "0.7", "--limit", "1", "--json", str(out / "p.json"))
    assert result.exit_code == 0, result.output
    values = json.loads((out / "p.json").read_text())["values"]
    assert (values["images"], values["objects"]) == (1, 2)  # the image in the middle
    assert values["box_all_answered"] == 1
    result = run(str(label_folder), "--conf", "0.8", "--limit", "1", "--json", str(out / "p.json"))
    assert json.loads((out / "p.json").read_text())["values"]["box_all_answered"] == 0.5


@pytest.mark.usefixtures("loaded")
def test_the_command_on_coco(label_folder: Path, tmp_path: Path) -> None:
    for path in (label_folder / "masks").iterdir():
        path.unlink()
    (label_folder / "masks").rmdir()
    squares = ([8, 8, 40, 8, 40, 40, 8, 40], [48, 8, 88, 8, 88, 48, 48, 48])
    annotations: list[dict[str, Any]] = [
        {"id": crowd, "image_id": 1, "bbox": [8, 8, 32, 32], "segmentation": [square], "iscrowd": crowd}
        for crowd, square in enumerate(squares)
    ]
    image = {"id": 1, "height": 96, "width": 96, "file_name": "a.png"}
    document = {"images": [image], "annotations": annotations}
    (label_folder / "annotations.json").write_text(json.dumps(document))
    result = run(str(label_folder), "--json", str(tmp_path / "p.json"))
    assert result.exit_code == 0, result.output
    values = json.loads((tmp_path / "p.json").read_text())["values"]
    assert values["objects"] == 1
    assert values["point_all_miou"] > 0.9


@pytest.mark.usefixtures("loaded")
def test_the_command_names_what_is_wrong(label_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = run(str(tmp_path / "empty"))
    assert result.exit_code == 1
    assert "holds no annotated images" in result.stderr.replace("\n", "")
    result = run(str(label_folder), "--conf", "2")
    assert result.exit_code == 2
    assert "--conf" in result.stderr
