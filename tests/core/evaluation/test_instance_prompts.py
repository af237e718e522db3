"""A detector's boxes as prompts: AP by class, equal to pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

from fastsam_core.cli import app
from fastsam_core.errors import AnnotationError
from fastsam_core.evaluation.coco_data import CocoData
from fastsam_core.evaluation.instance_prompts import CategoryScorer, masks_for_boxes
from fastsam_core.masks import Masks

if TYPE_CHECKING:
    from pathlib import Path

HW = (120, 150)


def rectangles(rng: np.random.Generator, n: int) -> Masks:
    sides, corners = rng.integers(4, 110, (n, 2)), rng.integers(0, 100, (n, 2))
    return Masks.from_crops([np.ones(tuple(side), bool) for side in sides], corners, HW)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("seed", range(3))
def test_precision_equals_pycocotools(seed: int, tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(seed)
    images = [{"id": i, "height": HW[0], "width": HW[1], "file_name": f"{i}.png"} for i in range(6)]
    annotations: list[dict[str, Any]] = []
    found: list[tuple[Masks, list[int], Any]] = []
    results = []
    for image in images:
        number = int(str(image["id"]))
        truth = rectangles(rng, int(rng.integers(0, 7)))
        for annotation in truth.to_coco(number, first_id=len(annotations) + 1):
            annotations.append(
                {**annotation, "category_id": int(rng.integers(1, 4)), "iscrowd": int(rng.random() < 0.2)}
            )
        moved = [truth[i % max(len(truth), 1)].placed(tuple(rng.integers(-5, 6, 2)), HW) for i in range(2 * len(truth))]
        masks = Masks.concatenate([*moved, rectangles(rng, 5)])
        masks = masks[masks.areas_px > 0]
        categories = rng.integers(1, 5, len(masks)).tolist()  # class 4 has no objects
        scores = np.round(rng.random(len(masks)), 2)
        found.append((masks, categories, scores))
        for rle, category, score in zip(masks.to_rle(), categories, scores, strict=True):
            results.append({"image_id": number, "category_id": category, "segmentation": rle, "score": float(score)})
    path = tmp_path / "truth.json"
    document = {"images": images, "annotations": annotations, "categories": [{"id": i} for i in range(1, 5)]}
    path.write_text(json.dumps(document))
    data, scorer = CocoData(path), CategoryScorer()
    for index, one in enumerate(found):
        scorer.add(*one, data.truth(index), data.categories(index))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
        run = COCOeval(coco, coco.loadRes(results), "segm")
        run.evaluate()
        run.accumulate()
        run.summarize()
    values = scorer.report().values
    ours = [values[name] for name in ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")]
    expected = np.where(run.stats[:6] == -1, np.nan, run.stats[:6])
    assert ours == pytest.approx(expected.tolist(), abs=1e-9, nan_ok=True)
    assert values["ar100"] == pytest.approx(run.stats[8], abs=1e-9)


def test_boxes_select_masks(tmp_path: Path) -> None:
    masks = Masks.from_crops([np.ones((10, 10), bool), np.ones((20, 20), bool)], [(0, 0), (50, 50)], HW)
    entries = [
        {"image_id": 1, "category_id": 3, "bbox": [48, 48, 20, 20], "score": 0.4},
        {"image_id": 1, "category_id": 1, "bbox": [100, 100, 5, 5], "score": 0.9},  # no mask there
        {"image_id": 1, "category_id": 2, "bbox": [0, 0, 10, 10], "score": 7},
    ]
    chosen, categories, scores = masks_for_boxes(masks, entries, tmp_path)
    assert chosen.areas_px.tolist() == [400, 100]
    assert categories == [3, 2]
    assert scores.tolist() == [0.4, 7]
    assert len(masks_for_boxes(masks, [], tmp_path)[0]) == 0
    with pytest.raises(AnnotationError, match="no class"):
        masks_for_boxes(masks, [{"image_id": 1, "bbox": [0, 0, 10, 10], "score": 1}], tmp_path)
    with pytest.raises(AnnotationError, match="negative side"):
        masks_for_boxes(masks, [{"image_id": 1, "bbox": [9, 9, -9, 2], "score": 1}], tmp_path)


def test_the_command(label_folder: Path, loaded: list[dict[str, Any]], tmp_path: Path) -> None:
    images = [{"id": i, "height": 96, "width": 96, "file_name": f"{name}.png"} for i, name in enumerate("abc")]
    box = {"image_id": 0, "category_id": 2, "bbox": [8, 8, 32, 32]}
    polygon = [[8, 8, 40, 8, 40, 40, 8, 40]]
    annotation = {**box, "id": 1, "area": 1024, "iscrowd": 0, "segmentation": polygon}
    (tmp_path / "t.json").write_text(json.dumps({"images": images, "annotations": [annotation]}))
    (tmp_path / "b.json").write_text(json.dumps([{**box, "score": 0.5}]))
    arguments = ["evaluate", "instances", "-a", str(tmp_path / "t.json"), "-i", str(label_folder / "images")]
    arguments += ["--boxes", str(tmp_path / "b.json")]
    result = CliRunner().invoke(app, [*arguments, "--json", str(tmp_path / "i.json")])
    assert result.exit_code == 0, result.output
    values = json.loads((tmp_path / "i.json").read_text())["values"]
    assert values["ap50"] == pytest.approx(1.0)
    assert values["ap_large"] is None
