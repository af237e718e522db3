"""F1, the Data Science Bowl's score and counts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.optimize import linear_sum_assignment
from typer.testing import CliRunner

from fastsam_core.cli import app
from fastsam_core.cli._reports import choose
from fastsam_core.errors import AnnotationError, InvalidMasksError, InvalidParameterError
from fastsam_core.evaluation.coco_data import CocoData
from fastsam_core.evaluation.instances import COCO_IOUS
from fastsam_core.evaluation.microscopy import MicroscopyScorer, without_overlap
from fastsam_core.evaluation.truth import LabelFolder, choose_images, open_truth, read_label_map
from fastsam_core.masks import Masks
from fastsam_core.testing import masks_strategy

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def rows(*spans: tuple[int, int], scores: list[float] | None = None) -> Masks:
    """Make masks that are spans of one row of 100 pixels."""
    stack = np.zeros((len(spans), 1, 100), bool)
    for mask, (start, stop) in zip(stack, spans, strict=True):
        mask[:, start:stop] = True
    return Masks.from_dense(stack, scores) if len(spans) else Masks.empty((1, 100))


def test_scores_by_hand() -> None:
    scorer = MicroscopyScorer(conf=0.5)
    truth = rows((0, 10), (20, 30))
    # IoU 1 with the first, 0.6 with the second, one that is nothing, and one below the confidence limit
    scorer.add("a", rows((0, 10), (20, 26), (50, 60), (70, 80), scores=[0.9, 0.8, 0.7, 0.3]), truth)
    scorer.add("b", Masks.empty((1, 100)), Masks.empty((1, 100)))
    report = scorer.report()
    # two hits of 3 found and 2 true below IoU 0.6 (0.5, 0.55), one hit from there on: "above", as in the contest
    expected = np.mean([2 / 3] * 2 + [1 / 4] * 8)
    assert scorer.dsb_scores() == pytest.approx([expected, 1.0])
    assert report.values["dsb2018"] == pytest.approx((expected + 1) / 2)
    assert scorer.f1() == pytest.approx([4 / 5] * 2 + [2 / 5] * 8)
    assert report.values["count_error_mean_absolute"] == 0.5
    assert report.values["count_error_relative"] == 0.5
    assert report.values["ap50"] == pytest.approx(1.0)  # the nothings rank below both hits
    assert report.images[1] == {"image": "b", "dsb2018": 1.0, "found": 0, "annotated": 0}


def counted_by_hand(found: NDArray[np.int32], true: NDArray[np.int32]) -> list[tuple[int, int, int]]:
    """Assign label maps to each other as well as can be: hits, found and annotated objects at each threshold."""
    ids = [np.setdiff1d(labels, 0) for labels in (found, true)]
    iou = np.zeros((len(ids[0]), len(ids[1])))
    for row, column in np.ndindex(*iou.shape):
        first, second = found == ids[0][row], true == ids[1][column]
        iou[row, column] = (first & second).sum() / (first | second).sum()
    counts = []
    for threshold in COCO_IOUS:
        above = iou > threshold + 1e-12
        counts.append((int(above[linear_sum_assignment(-above.astype(float))].sum()), *iou.shape))
    return counts


@given(seed=st.integers(0, 10**6))
def test_figures_equal_those_of_the_best_assignment(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def objects(most: int) -> NDArray[np.int32]:
        labels = np.zeros((40, 50), np.int32)
        for number in range(1, 1 + int(rng.integers(0, most))):
            y, x, height, width = rng.integers((0, 0, 2, 2), (36, 46, 14, 14))
            labels[y : y + height, x : x + width] = number
        return labels

    scorer, counts = MicroscopyScorer(0.5), []
    for number in range(3):
        true = objects(9)
        found = np.where(rng.random(true.shape) < 0.1, 0, true) if number else objects(5)
        masks = Masks.from_label_map(found)
        scores = rng.random(len(masks))
        scorer.add(str(number), Masks.from_label_map(found, scores=scores), Masks.from_label_map(true))
        sure = np.setdiff1d(found, 0)[scores > 0.5]
        counts.append(counted_by_hand(np.where(np.isin(found, sure), found, 0), true))
    hits, found_n, true_n = np.array(counts).transpose(2, 0, 1)
    both = (found_n + true_n).sum(0)
    assert np.allclose(scorer.f1(), np.where(both > 0, 2 * hits.sum(0) / np.maximum(both, 1), np.nan), equal_nan=True)
    either = found_n + true_n - hits
    assert np.allclose(scorer.dsb_scores(), np.where(either > 0, hits / np.maximum(either, 1), 1).mean(1))


def test_a_mask_finds_one_object_though_outlines_may_overlap() -> None:
    scorer = MicroscopyScorer(conf=0.1)
    scorer.add("a", rows((0, 10), (40, 50)), rows((0, 10), (0, 10), (1, 10), (40, 50)))
    # two hits of two found and four true
    assert scorer.f1() == pytest.approx([4 / 6] * 10)
    assert scorer.dsb_scores() == pytest.approx([2 / 4])


def test_objects_found_where_there_are_none_score_zero() -> None:
    scorer = MicroscopyScorer(conf=0.1)
    scorer.add("a", rows((0, 5)), Masks.empty((1, 100)))
    assert scorer.dsb_scores().tolist() == [0.0]
    assert np.isnan(scorer.report().values["count_error_relative"])
    scorer.add("b", Masks.empty((1, 100)), rows((0, 5)))
    assert scorer.f1().tolist() == [0.0] * 10


@given(masks_strategy())
def test_cut_masks_keep_the_better_ones_pixels(masks: Masks) -> None:
    cut = without_overlap(masks)
    dense = cut.to_dense()
    assert dense.sum(axis=0).max(initial=0) <= 1
    assert np.all(np.diff(cut.scores) <= 0)
    before = masks.to_dense()
    for mask in dense:
        assert any(np.all(mask <= old) and 2 * mask.sum() >= old.sum() for old in before)
    if len(masks) and masks.areas_px[masks.scores.argmax()]:
        assert len(cut) >= 1


def test_a_mask_mostly_under_a_better_one_is_dropped() -> None:
    half = without_overlap(rows((5, 15), (0, 10), scores=[0.8, 0.9]))
    assert half.runs[:, 1:].tolist() == [[0, 10], [10, 15]]
    assert half.scores.tolist() == pytest.approx([0.9, 0.8])
    assert without_overlap(rows((0, 10), (4, 14), scores=[0.9, 0.8])).runs[:, 1:].tolist() == [[0, 10]]


# ---- folders ----------------------------------------------------------------------------------------------------


def test_a_tiff_and_a_mask_of_two_values_are_read(label_folder: Path) -> None:
    (label_folder / "masks" / "a.png").unlink()
    tifffile.imwrite(label_folder / "masks" / "a.tif", np.full((96, 96), 70_000, np.uint32))
    Image.fromarray(np.eye(96) > 0).save(label_folder / "masks" / "b.png")
    truths = open_truth(label_folder)
    assert truths.truth(0).masks.fields["label"].tolist() == [70_000]
    assert truths.truth(1).masks.areas_px.tolist() == [96]
    assert len(truths.truth(2)) == 0


def damage(folder: Path, kind: str) -> None:
    target = folder / "masks" / "b.png"
    colour: NDArray[Any] = np.zeros((96, 96, 3), np.uint8)
    target.unlink()
    if kind == "colour":
        Image.fromarray(colour).save(target)
    elif kind == "size":
        Image.fromarray(np.zeros((96, 90), np.uint8)).save(target)
    elif kind == "torn":
        target.write_bytes(b"\x89PNG\r\n")
    elif kind == "image":
        (folder / "images" / "b.png").unlink()
        target.write_bytes(b"")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "b has no label map; 1 in all"),
        ("image", "b has no image"),
        ("colour", r"b\.png is no label map"),
        ("size", r"b\.png has another size"),
        ("torn", r"b\.png cannot be read.*complete PNG or TIFF"),
    ],
)
def test_bad_annotations_are_named(label_folder: Path, kind: str, words: str) -> None:
    damage(label_folder, kind)
    with pytest.raises(AnnotationError, match=words):
        LabelFolder(label_folder).truth(1, (96, 96))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_label_maps_in_lzw_are_read(label_folder: Path, dtype: type[np.integer]) -> None:
    labels = np.zeros((96, 96), dtype)
    labels[5:20, 5:20], labels[40:60, 40:60] = 1, 100
    (label_folder / "masks" / "b.png").unlink()
    Image.fromarray(labels).save(label_folder / "masks" / "b.tif", compression="tiff_lzw")
    assert LabelFolder(label_folder).truth(1, (96, 96)).masks.areas_px.tolist() == [225, 400]


@pytest.mark.parametrize("shape", [(1, 96, 96), (96, 96, 1)])
def test_a_label_map_may_have_an_axis_of_length_one(label_folder: Path, shape: tuple[int, ...]) -> None:
    labels = np.zeros(shape, np.uint16)
    labels.reshape(96, 96)[5:20, 5:20] = 7
    (label_folder / "masks" / "b.png").unlink()
    tifffile.imwrite(label_folder / "masks" / "b.tif", labels)
    assert LabelFolder(label_folder).truth(1, (96, 96)).masks.areas_px.tolist() == [225]


@pytest.mark.parametrize(
    ("labels", "remedy"),
    [
        (np.full((96, 96), 0.5, np.float32), "number the objects: probabilities do not"),
        (np.zeros((2, 96, 96), np.uint16), "save each plane of a stack"),
    ],
)
def test_what_to_do_about_other_arrays(label_folder: Path, labels: NDArray[Any], remedy: str) -> None:
    (label_folder / "masks" / "b.png").unlink()
    tifffile.imwrite(label_folder / "masks" / "b.tif", labels)
    with pytest.raises(AnnotationError, match=rf"b\.tif is no label map.*{remedy}"):
        LabelFolder(label_folder).truth(1, (96, 96))


@pytest.mark.parametrize("value", [1, 255, 65_535, True])
def test_binary_masks_do_not_pass_for_one_object(label_folder: Path, value: int) -> None:
    target = label_folder / "masks" / "b.tif"
    (label_folder / "masks" / "b.png").unlink()
    parts = np.zeros((96, 96), bool if value is True else np.uint16)
    parts[10:30, 10:30] = parts[50:60, 10:30] = parts[10:30, 50:70] = value
    tifffile.imwrite(target, parts)
    with pytest.raises(AnnotationError, match=r"b\.tif is a binary mask.*in 3 parts.*number the objects"):
        LabelFolder(label_folder).truth(1)
    parts[40:] = parts[:, 40:] = 0
    parts[90, 90] = value  # a crumb
    tifffile.imwrite(target, parts)
    assert len(LabelFolder(label_folder).truth(1)) == 1, "one object may be marked so"


@pytest.mark.parametrize(("ignored", "kind"), [(-1, np.int32), (-1, np.float32), (255, np.uint8), (65_535, np.uint16)])
def test_pixels_to_be_ignored_are_neither_object_nor_background(label_folder: Path, ignored: int, kind: type) -> None:
    labels: NDArray[Any] = np.zeros((96, 96), kind)
    labels[:20], labels[40:50], labels[60:, ::2] = 1, 2, ignored
    (label_folder / "masks" / "b.png").unlink()
    tifffile.imwrite(label_folder / "masks" / "b.tif", labels)
    with pytest.raises(AnnotationError, match=rf"b\.tif has numbers .* ignored.*Actual: {ignored}.*give such pixels 0"):
        LabelFolder(label_folder).truth(1)


@pytest.mark.parametrize("values", [[85, 170, 255], list(range(1, 256)), [255]])
def test_the_highest_number_may_be_an_object(label_folder: Path, values: list[int]) -> None:
    labels = np.zeros((96, 96), np.uint8)
    labels.flat[: len(values)] = values
    Image.fromarray(labels).save(label_folder / "masks" / "b.png")
    assert LabelFolder(label_folder).truth(1).masks.fields["label"].tolist() == values


def test_one_object_of_several_parts_has_another_number(label_folder: Path) -> None:
    parts = np.zeros((96, 96), np.uint8)
    parts[:, ::8] = 2
    Image.fromarray(parts).save(label_folder / "masks" / "b.png")
    assert len(LabelFolder(label_folder).truth(1)) == 1


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_label_maps_of_too_many_pixels_are_refused(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.ones((20, 30), np.uint8)).save(path)
    assert read_label_map(path).shape == (20, 30)
    monkeypatch.setattr("fastsam_core._image_files.MAX_PIXELS", 599)
    with pytest.raises(AnnotationError, match=rf"The label map .*a\.{suffix} has 20 × 30 pixels"):
        read_label_map(path)


def test_whole_numbers_may_be_floats(label_folder: Path) -> None:
    target = label_folder / "masks" / "b.tif"
    (label_folder / "masks" / "b.png").unlink()
    labels = np.zeros((96, 96), np.float32)
    labels[:20], labels[40:] = 3, 70_000
    tifffile.imwrite(target, labels)
    assert LabelFolder(label_folder).truth(1).masks.fields["label"].tolist() == [3, 70_000]
    tifffile.imwrite(target, labels / 7)
    with pytest.raises(AnnotationError, match="whole numbers"):
        LabelFolder(label_folder).truth(1)


@pytest.mark.parametrize(("kind", "suffix"), [("images", ".bmp"), ("masks", ".tif")])
def test_two_files_of_one_name_are_refused(label_folder: Path, kind: str, suffix: str) -> None:
    [first, *_] = sorted((label_folder / kind).iterdir())
    Image.new("L", (96, 96)).save(first.with_suffix(suffix))
    with pytest.raises(AnnotationError, match="one name"):
        LabelFolder(label_folder)


def test_suffixes_in_capitals(label_folder: Path) -> None:
    count = len(LabelFolder(str(label_folder)).images)
    for path in [*(label_folder / "masks").iterdir(), *(label_folder / "images").iterdir()]:
        path.rename(path.with_suffix(path.suffix.upper()))
    folder = LabelFolder(label_folder)
    assert len(folder.images) == count > 0
    assert len(folder.truth(0)) > 0


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="holds no annotated images"):
        open_truth(tmp_path)
    with pytest.raises(AnnotationError, match="no folder images"):
        LabelFolder(tmp_path)


def test_choosing_images(label_folder: Path) -> None:
    truths = LabelFolder(label_folder)
    assert choose_images(truths, limit=1) == [1]
    assert choose_images(truths, only=["c.png", "a", "a.png"]) == [0, 2]
    assert choose_images(truths, limit=5) == [0, 1, 2]
    with pytest.raises(InvalidParameterError, match="no image d"):
        choose_images(truths, only=["d"])
    with pytest.raises(InvalidParameterError, match="No image is left"):
        choose_images(truths, only=[])


def test_a_name_chooses_all_images_that_have_it(tmp_path: Path) -> None:
    images = [
        {"id": i, "file_name": name, "height": 4, "width": 4} for i, name in enumerate(["x/a.png", "b.png", "y/a.png"])
    ]
    (tmp_path / "annotations.json").write_text(json.dumps({"images": images, "annotations": []}))
    assert choose_images(CocoData(tmp_path / "annotations.json"), only=["a.png"]) == [0, 2]


# ---- the command ------------------------------------------------------------------------------------------------


def test_names_of_images_as_windows_writes_them(label_folder: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_bytes(b"\xef\xbb\xbfa.png\r\nc.png\r\n")
    assert choose(open_truth(label_folder), None, names) == [0, 2]


def test_the_command_writes_everything(label_folder: Path, loaded: list[dict[str, Any]], tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["evaluate", "microscopy", str(label_folder), "--model", "mine", "--json", str(out / "m.json")]
    result = CliRunner().invoke(app, [*arguments, "--markdown", str(out / "m.md"), "--plots", str(out)])
    assert result.exit_code == 0, result.output
    assert loaded[0]["name"] == "mine"
    values = json.loads((out / "m.json").read_text())["values"]
    assert values["images"] == 3
    assert values["objects"] == 5
    assert values["f1_50"] == pytest.approx(2 * 5 / 11)
    assert values["dsb2018"] == pytest.approx((1 + 2 / 3 + 1) / 3)
    assert "| F1 at IoU 0.50 | 0.909 |" in (out / "m.md").read_text()
    assert "0.909" in result.stdout
    assert (out / "f1.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_in_tiles(label_folder: Path, loaded: list[dict[str, Any]], tmp_path: Path) -> None:
    arguments = ["evaluate", "microscopy", str(label_folder), "--json", str(tmp_path / "m.json")]
    result = CliRunner().invoke(app, [*arguments, "--tile-px", "40", "--overlap-px", "10"])
    assert result.exit_code == 0, result.output
    settings = json.loads((tmp_path / "m.json").read_text())["settings"]
    assert (settings["tile_px"], settings["overlap_px"]) == (40, 10)
    result = CliRunner().invoke(app, [*arguments, "--tile-px", "40"])
    assert result.exit_code == 2
    assert "overlap_px below tile_px" in " ".join(result.stderr.split())


def test_the_command_names_what_is_wrong(label_folder: Path, loaded: list[dict[str, Any]]) -> None:
    (label_folder / "images" / "a.png").write_bytes(b"no image")
    result = CliRunner().invoke(app, ["evaluate", "microscopy", str(label_folder)])
    assert result.exit_code == 1
    assert "a.png" in result.stderr.replace("\n", "")


def test_a_folder_may_be_named_by_a_text(label_folder: Path) -> None:
    assert len(open_truth(str(label_folder)).images) == 3


@pytest.mark.parametrize("wrong", [None, "a", -1, float("nan")])
def test_arguments_of_another_kind_are_refused(wrong: Any) -> None:
    masks = Masks.from_dense(np.eye(4, dtype=bool))
    with pytest.raises(InvalidParameterError, match="conf"):
        MicroscopyScorer(conf=wrong)
    with pytest.raises(InvalidParameterError, match="max_detections"):
        MicroscopyScorer(0.5, max_detections=wrong)
    with pytest.raises(InvalidParameterError, match="max_covered"):
        without_overlap(masks, wrong)
    with pytest.raises(InvalidMasksError, match="to cut"):
        without_overlap(wrong)
    for pair in ((wrong, masks), (masks, wrong)):
        with pytest.raises(InvalidMasksError, match="to score"):
            MicroscopyScorer(0.5).add("image", *pair)
