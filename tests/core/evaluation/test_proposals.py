"""Average recall of proposals: equal to pycocotools, from a model or from files of any order."""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

from fastsam_core.cli import app
from fastsam_core.errors import AnnotationError
from fastsam_core.evaluation import coco_results
from fastsam_core.evaluation.coco_data import CocoData
from fastsam_core.evaluation.coco_results import CocoResults
from fastsam_core.evaluation.proposals import BUDGETS, ProposalScorer, add_results
from fastsam_core.evaluation.truth import choose_images
from fastsam_core.masks import Masks
from fastsam_core.outputs import write_coco

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HW = (160, 200)


def rectangles(rng: np.random.Generator, n: int) -> Masks:
    sides, corners = rng.integers(4, 120, (n, 2)), rng.integers(0, 140, (n, 2))
    return Masks.from_crops([np.ones(tuple(side), bool) for side in sides], corners, HW)


def polygon(box: Sequence[float]) -> list[list[float]]:
    x, y, w, h = box
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def write_case(folder: Path, seed: int) -> tuple[Path, Path]:
    """Write made-up annotations (polygons, RLE, crowds, an image of nothing) and results in shuffled order."""
    rng = np.random.default_rng(seed)
    images = [{"id": 10 + i, "height": HW[0], "width": HW[1], "file_name": f"{i}.png"} for i in range(8)]
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image in images[:-1]:
        truth = rectangles(rng, int(rng.integers(1, 9)))
        for place, annotation in enumerate(truth.to_coco(int(str(image["id"])), first_id=len(annotations) + 1)):
            annotation["category_id"] = 1 + place % 3
            annotation["iscrowd"] = int(rng.random() < 0.2)
            annotation["area"] *= 0.9  # what the file says decides about sizes
            if not annotation["iscrowd"] and place % 2:
                annotation["segmentation"] = polygon(annotation["bbox"])
            annotations.append(annotation)
        moved = truth[np.repeat(np.arange(len(truth)), 3)]
        shifted = [moved[i].placed(tuple(rng.integers(-6, 7, 2)), HW) for i in range(len(moved))]
        found = Masks.concatenate([*shifted, rectangles(rng, 25)])
        for entry in found[found.areas_px > 0].to_coco(int(str(image["id"]))):
            kept = {key: entry[key] for key in ("image_id", "category_id", "segmentation")}
            results.append({**kept, "score": round(float(rng.random()), 2)})  # with ties
    rng.shuffle(results)
    document = {"images": images, "annotations": annotations, "categories": [{"id": i} for i in (1, 2, 3)]}
    (folder / "truth.json").write_text(json.dumps(document))
    (folder / "results.json").write_text(json.dumps(results, indent=seed % 2))
    return folder / "truth.json", folder / "results.json"


def reference(truth: Path, results: Path, kind: str) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        run = COCOeval(coco, coco.loadRes(str(results)), kind)
        run.params.useCats = 0
        run.params.maxDets = list(BUDGETS)
        run.evaluate()
        run.accumulate()
    return run.eval["recall"].mean(axis=0)[0]  # (areas, budgets)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("seed", range(3))
def test_recall_equals_pycocotools(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco_results, "_CHUNK_BYTES", 500)  # entries across the ends of what is read at once
    truth, results = write_case(tmp_path, seed)
    scorer = ProposalScorer()
    assert list(add_results(scorer, CocoData(truth), CocoResults(results))) == list(range(1, 9))
    values = scorer.report().values
    for kind, name in (("box", "bbox"), ("mask", "segm")):
        expected = reference(truth, results, name)
        assert [values[f"{kind}_ar{k}"] for k in BUDGETS] == pytest.approx(expected[0], abs=1e-12)
        for area, size in enumerate(("small", "medium", "large"), start=1):
            figure = np.nan if expected[area, -1] == -1 else expected[area, -1]  # nothing of that size
            assert values[f"{kind}_ar1000_{size}"] == pytest.approx(figure, abs=1e-12, nan_ok=True)
    assert values["images"] == 8


def test_results_of_chosen_images(tmp_path: Path) -> None:
    truth, results = write_case(tmp_path, 0)
    document = json.loads(truth.read_text())
    for image in document["images"]:
        image["file_name"] = f"{image['id']}.png"
    truth.write_text(json.dumps(document))
    chosen = max(document["annotations"], key=lambda entry: entry["area"])["image_id"]
    (tmp_path / "only.txt").write_text(f"{chosen}.png\n")
    out = tmp_path / "out.json"
    arguments = ["evaluate", "proposals", "-a", truth, "--results", results, "--only", tmp_path / "only.txt"]
    assert CliRunner().invoke(app, [*map(str, arguments), "--json", str(out)]).exit_code == 0
    values = json.loads(out.read_text())["values"]
    assert values["images"] == 1
    document["images"] = [image for image in document["images"] if image["id"] == chosen]
    document["annotations"] = [entry for entry in document["annotations"] if entry["image_id"] == chosen]
    truth.write_text(json.dumps(document))
    results.write_text(json.dumps([e for e in json.loads(results.read_text()) if e["image_id"] == chosen]))
    scorer = ProposalScorer()
    assert list(add_results(scorer, CocoData(truth), CocoResults(results))) == [1]
    alone = scorer.report().values
    assert [values[f"mask_ar{k}"] for k in BUDGETS] == pytest.approx([alone[f"mask_ar{k}"] for k in BUDGETS])


def test_area_under_recall_is_oln_s() -> None:
    """The example in OLN's own script: K = 1 … 1000 and the recalls of its paper."""
    from fastsam_core.evaluation.proposals import _area_under

    recall = dict(zip(BUDGETS, (0.5, 0.18, 0.265, 0.296, 0.334, 0.39, 0.415, 0.45), strict=True))
    x = np.log(BUDGETS) / np.log(1000)
    steps = zip(x, x[1:], [0.0, *list(recall.values())[1:]], list(recall.values())[1:], strict=False)
    assert _area_under(recall) == pytest.approx(sum((b - a) * (u + v) / 2 for a, b, u, v in steps))
    assert _area_under(dict.fromkeys(BUDGETS, 1.0)) == pytest.approx(1 - np.log(10) / np.log(1000) / 2)


def test_lvis_names_images_by_url(tmp_path: Path) -> None:
    image = {"id": 1, "height": 4, "width": 4, "coco_url": "http://example.org/val2017/0001.jpg"}
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps({"images": [image], "annotations": []}))
    (tmp_path / "0001.jpg").write_bytes(b"")
    assert CocoData(path, tmp_path).images == [tmp_path / "0001.jpg"]
    (tmp_path / "val2017").mkdir()
    (tmp_path / "val2017" / "0001.jpg").write_bytes(b"")
    assert CocoData(path, tmp_path).images == [tmp_path / "val2017" / "0001.jpg"]


def test_planes_of_a_stack_are_no_images(tmp_path: Path) -> None:
    """Each would be judged by what is found in the first plane of the one file."""
    planes = [({"t": 1, "z": place}, rectangles(np.random.default_rng(place), 3)) for place in range(2)]
    data = CocoData(write_coco(tmp_path / "labels.json", planes, file_name="stack.tif"), tmp_path)
    assert data.truth(1).masks.areas_px.tolist() == planes[1][1].areas_px.tolist()
    with pytest.raises(AnnotationError, match=r"plane of a stack(.|\n)*Actual: t=1 z=0(.|\n)*each plane as a file"):
        _ = data.images


def test_where_images_are_is_looked_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [{"id": number, "file_name": f"{number}.png"} for number in range(30)]
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "annotations": []}))
    looked: list[Path] = []

    def exists(path: Path) -> bool:
        looked.append(path)
        return False

    monkeypatch.setattr("pathlib.Path.exists", exists)
    data = CocoData(tmp_path / "a.json", tmp_path)
    assert choose_images(data, only=["7", "9.png"]) == [7, 9]
    assert [data.images[index].name for index in (3, 4)] == ["3.png", "4.png"]
    assert len(looked) == 3 * 30  # three places for each


def test_file_names_of_windows_are_found(tmp_path: Path) -> None:
    image = {"id": 1, "height": 4, "width": 4, "file_name": "..\\upload\\0001.jpg"}
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({"images": [image, {**image, "id": 2, "file_name": "a\\b.jpg"}], "annotations": []}))
    (tmp_path / "0001.jpg").write_bytes(b"")
    for folder in (tmp_path, tmp_path / "a"):
        folder.mkdir(exist_ok=True)
        (folder / "b.jpg").write_bytes(b"")
    assert CocoData(path, tmp_path).images == [tmp_path / "0001.jpg", tmp_path / "a" / "b.jpg"]


@pytest.mark.parametrize("area", [None, "much", math.nan])
def test_areas_that_are_none(area: object, tmp_path: Path) -> None:
    entry = {"id": 5, "image_id": 1, "bbox": [0, 0, 4, 3], "area": area}
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({"images": [{"id": 1, "height": 4, "width": 4}], "annotations": [entry]}))
    if area is None:
        assert CocoData(path).boxes(0)[1].tolist() == [12]
    else:
        with pytest.raises(AnnotationError, match=r"Annotation 5 of .* has no proper area"):
            CocoData(path).boxes(0)


# ---- bad input --------------------------------------------------------------------------------------------------

IMAGE = {"id": 1, "height": 10, "width": 10, "file_name": "a.png"}
BOX = {"id": 7, "image_id": 1, "bbox": [0, 0, 4, 4], "area": 16, "iscrowd": 0, "segmentation": polygon([0, 0, 4, 4])}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("nothing", "is no COCO annotation file"),
        ('{"images": []}', "is no COCO annotation file"),
        ('{"images": [1], "annotations": []}', "is no COCO annotation file"),
        ('{"images": [{"id": 1, "file_name": 5}], "annotations": []}', "is no COCO annotation file"),
        ("[" * 100_000, "is no COCO annotation file"),
        ('{"images": [{"id": 1}, {"id": "a"}], "annotations": []}', "is no COCO annotation file"),
        ('{"images": [{"id": [1]}], "annotations": []}', "is no COCO annotation file"),
        ('{"images": [{"id": 1}], "annotations": [{"image_id": [1]}]}', "is no COCO annotation file"),
        ("{}", "Actual: JSON without images and annotations"),
        ('{"images": [{}], "annotations": []}', "Actual: an image has no id"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": [1]}', "is no COCO annotation file"),
        ({"images": [IMAGE, IMAGE], "annotations": []}, "Image id 1 occurs twice"),
        ({"images": [IMAGE], "annotations": [{**BOX, "image_id": 2}]}, "Annotation 7 .* belongs to no image"),
        ({"images": [IMAGE], "annotations": [{**BOX, "bbox": [1, 2]}]}, "Annotation 7 .* no proper box"),
        ({"images": [IMAGE], "annotations": [{**BOX, "segmentation": []}]}, "Annotation 7 .* no readable segm"),
        ({"images": [IMAGE], "annotations": [{**BOX, "segmentation": [[]]}]}, "Annotation 7 .* no readable segm"),
        (
            {"images": [IMAGE], "annotations": [{**BOX, "segmentation": {"size": [9, 10], "counts": [90]}}]},
            "Annotation 7 .* no readable segm",
        ),
        ({"images": [{**IMAGE, "width": None}], "annotations": [BOX]}, "Image 1 .* no height and width"),
    ],
)
def test_bad_annotations_are_named(document: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    with pytest.raises(AnnotationError, match=words):
        CocoData(path).truth(0)


def test_annotations_without_boxes_have_those_of_their_masks(tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    no_box = {key: value for key, value in BOX.items() if key not in ("bbox", "area")}
    path.write_text(json.dumps({"images": [IMAGE], "annotations": [{**no_box, "segmentation": polygon([2, 1, 4, 3])}]}))
    boxes, areas, _ = CocoData(path).boxes(0)
    assert (boxes.tolist(), areas.tolist()) == ([[2, 1, 4, 3]], [12])
    assert np.array_equal(CocoData(path).truth(0).boxes_xywh, boxes)


def test_an_image_of_another_size_is_named(tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"images": [IMAGE], "annotations": [BOX]}))
    assert CocoData(path).truth(0, (10, 10)).masks.areas_px.tolist() == [16]
    with pytest.raises(AnnotationError, match=r"Image 1 .* another size"):
        CocoData(path).truth(0, (10, 12))


RESULT = {"image_id": 1, "score": 0.5, "bbox": [0, 0, 4, 4], "segmentation": polygon([0, 0, 4, 4])}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "is no COCO results file"),
        ("", "is no COCO results file"),
        (json.dumps([RESULT])[:-8], "Entry 0 of .* is damaged"),
        (json.dumps([RESULT, RESULT])[:-1], "Entry 2 of .* is damaged"),
        (json.dumps([RESULT, 3]), "Entry 1 of .* is no result"),
        (json.dumps([{**RESULT, "score": "high"}]), "Entry 0 of .* is no result"),
        (json.dumps([{**RESULT, "score": float("nan")}]), "Entry 0 of .* score"),
        (json.dumps([{**RESULT, "image_id": 5}]), "images that are not in .*image_id 5; 1 in all"),
        (json.dumps([{**RESULT, "bbox": [1]}]), "image 1 of .* no proper box"),
        (json.dumps([{"image_id": 1, "score": 1, "bbox": [0, 0, 2, 2]}]), "image 1 of .* no readable segmentation"),
    ],
)
def test_bad_results_are_named(text: str, words: str, tmp_path: Path) -> None:
    truth, results = tmp_path / "truth.json", tmp_path / "results.json"
    truth.write_text(json.dumps({"images": [IMAGE], "annotations": [BOX]}))
    results.write_text(text)
    with pytest.raises(AnnotationError, match=words):
        list(add_results(ProposalScorer(), CocoData(truth), CocoResults(results)))


@pytest.mark.parametrize(
    ("ids", "entries"),
    [
        ((1, 2), [{"image_id": "a.b"}, {"image_id": "bär"}]),
        ((1, 2), [{"image_id": "a.b", "file_name": "a.b.png"}, {"image_id": "bär", "file_name": "bär.tif"}]),
        ((1, 2), [{"image_id": 2, "file_name": "a.b.png"}, {"image_id": 1, "file_name": "bär.png"}]),
        ((1, 2), [{"image_id": 1, "file_name": "of another data set.png"}, {"image_id": 2, "file_name": None}]),
        (("x", "y"), [{"image_id": "x"}, {"image_id": "y"}]),
        (("bär", "a.b"), [{"image_id": "bär"}, {"image_id": "a.b"}]),  # ids that others have for their names
    ],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_results_may_name_their_images(
    ids: tuple[int | str, int | str], entries: list[dict[str, Any]], ascii_only: bool, tmp_path: Path
) -> None:
    truth, results = tmp_path / "truth.json", tmp_path / "results.json"
    names = ("left/a.b.png", "right/bär.png")
    images = [{**IMAGE, "id": id_, "file_name": name} for id_, name in zip(ids, names, strict=True)]
    annotations = [{**BOX, "image_id": ids[0]}, {**BOX, "image_id": ids[1], "bbox": [5, 5, 2, 2]}]
    truth.write_text(json.dumps({"images": images, "annotations": annotations}))
    found = [{**RESULT, **entries[0]}, {**RESULT, "bbox": [5, 5, 2, 2], **entries[1]}]
    results.write_text(json.dumps(found, ensure_ascii=ascii_only), encoding="utf-8")
    scorer = ProposalScorer(("box",))
    list(add_results(scorer, CocoData(truth), CocoResults(results)))
    assert scorer.report().values["box_ar10"] == 1


def test_results_with_texts_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(json.dumps([{**RESULT, "name": "Bär"}], ensure_ascii=False).encode("latin-1"))
    [entry] = CocoResults(path).entries(1, 10)
    assert (entry["score"], entry["bbox"]) == (0.5, [0, 0, 4, 4])


def test_no_results_at_all_are_recall_zero(tmp_path: Path) -> None:
    truth, results = tmp_path / "truth.json", tmp_path / "results.json"
    truth.write_text(json.dumps({"images": [IMAGE], "annotations": [BOX]}))
    results.write_text(" [ ]\n")
    scorer = ProposalScorer(("mask",))
    list(add_results(scorer, CocoData(truth), CocoResults(results)))
    assert scorer.report().values["mask_ar1000"] == 0
    assert "box_ar10" not in scorer.report().values


# ---- the command ------------------------------------------------------------------------------------------------


def annotate(folder: Path) -> Path:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, name in enumerate("abc"):
        images.append({"id": number, "height": 96, "width": 96, "file_name": f"{name}.png"})
    for box in ([8, 8, 32, 32], [48, 8, 40, 40], [60, 60, 20, 20]):
        area = box[2] * box[3]
        annotations.append(
            {"id": len(annotations), "image_id": 0, "bbox": box, "area": area, "segmentation": polygon(box)}
        )
    path = folder / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def test_a_model_s_proposals(label_folder: Path, loaded: list[dict[str, Any]], tmp_path: Path) -> None:
    truth, out = annotate(label_folder), tmp_path / "p.json"
    arguments = ["evaluate", "proposals", "-a", str(truth), "-i", str(label_folder / "images"), "--json", str(out)]
    result = CliRunner().invoke(app, [*arguments, "--plots", str(tmp_path)])
    assert result.exit_code == 0, result.output
    values = json.loads(out.read_text())["values"]
    assert values["box_ar10"] == pytest.approx(2 / 3)
    assert values["mask_ar1"] == pytest.approx(1 / 3)
    assert values["mask_ar1000_small"] == 0.5  # one of two: 32 x 32 px is still small
    assert (tmp_path / "recall.png").exists()


def test_wrong_use_of_the_command(label_folder: Path) -> None:
    truth = annotate(label_folder)
    result = CliRunner().invoke(app, ["evaluate", "proposals", "-a", str(truth)])
    assert result.exit_code == 2
    assert "--images or --results" in result.stderr
    result = CliRunner().invoke(app, ["evaluate", "proposals", "-a", str(truth), "-i", "x", "--kind", "point"])
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["proposals", "--annotations", "none.json"], "none.json cannot be read.*Remedy: check the path"),
        (["proposals", "--annotations", "list.json"], "Actual: a list, as results are.*Remedy: name the file"),
        (["edges", "--data", "."], "no images/test.*Remedy: name the folder"),
        (["prompts", "."], "no annotated images.*Remedy: name the folder"),
        (["report", "list.json"], "no evaluation report.*Remedy: write one"),
    ],
)
def test_what_cannot_be_evaluated_comes_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    (tmp_path / "list.json").write_text("[]")
    monkeypatch.chdir(tmp_path)
    images = ["--images", "."] if arguments[0] == "proposals" else []
    result = CliRunner().invoke(app, ["evaluate", *arguments, *images])
    assert result.exit_code == 1
    assert re.search(message, " ".join(result.stderr.replace("│", " ").split()))
