"""Converting: every kind of annotation gives the same masks back, nested ones too; bad pairs are listed."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.core.training.dataset_files import HW, jpeg, run, sa1b_json, scene_masks, write_labels, write_sa1b

from fastsam_core.errors import AnnotationError, ImageTooLargeError, InvalidParameterError, OutputError
from fastsam_core.evaluation.truth import LabelFolder, read_label_map
from fastsam_core.images import read_image
from fastsam_core.masks import Masks
from fastsam_core.outputs import write_label_map
from fastsam_core.training.datasets import Dataset, convert, list_items, report
from fastsam_core.training.datasets.loading import load_folder, load_split, read_row
from fastsam_core.training.datasets.polygons import polygon_lines
from fastsam_core.training.datasets.records import hash_fraction, read_share
from fastsam_core.training.datasets.report import nesting_depths, write_report

if TYPE_CHECKING:
    from pathlib import Path


def stored(out: Path, source: str = "one") -> list[Masks]:
    dataset = Dataset.open(out)
    return [read_row(dataset, source, row).masks for row in dataset.rows(source)]


def test_sa1b_with_images_in_another_folder(tmp_path: Path) -> None:
    folder = write_sa1b(tmp_path / "in", 3)
    (tmp_path / "pictures" / "deep").mkdir(parents=True)
    for path in folder.glob("*.jpg"):
        path.rename(tmp_path / "pictures" / "deep" / path.name)
    entry = run(folder, tmp_path / "out", "sa1b", images=tmp_path / "pictures")
    assert sum(entry.images.values()) == 3
    assert not entry.broken


def test_sa1b_folder_keeps_every_mask(tmp_path: Path) -> None:
    entry = run(write_sa1b(tmp_path / "in"), tmp_path / "out", "sa1b")
    assert sum(entry.images.values()) == 6
    assert sum(entry.instances.values()) == 24
    assert entry.with_holes == 6
    for masks in stored(tmp_path / "out"):
        assert np.diag(masks.iou(scene_masks())).tolist() == [1.0] * 4
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["sources"][0]["licence"] == "CC0-1.0"


def test_shard_equals_folder(tmp_path: Path) -> None:
    folder = write_sa1b(tmp_path / "in", 4)
    with tarfile.open(tmp_path / "shard.tar", "w") as shard:
        for path in sorted(folder.iterdir(), reverse=True):
            shard.add(path, f"./{path.name}")
    run(folder, tmp_path / "a", "sa1b")
    run(tmp_path / "shard.tar", tmp_path / "b", "sa1b")
    rows = [sorted(Dataset.open(tmp_path / name).rows("one"), key=lambda row: row.name) for name in "ab"]
    assert rows[0] == rows[1]


def test_compressed_shard_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "shard.tar", "w:gz") as shard:
        shard.addfile(tarfile.TarInfo("sa_1.json"))
    with pytest.raises(AnnotationError, match="uncompressed"):
        list_items("sa1b", tmp_path / "shard.tar")


def test_pairs_of_one_name_are_not_joined(tmp_path: Path) -> None:
    folder = write_sa1b(tmp_path / "in", 3)
    write_sa1b(folder / "z", 1)
    (folder / "z" / "sa_0.json").write_bytes(sa1b_json(scene_masks()[:1]))
    (folder / "c").mkdir()
    (folder / "c" / "sa_1.json").write_bytes(b"{}")
    (folder / "a").mkdir()
    (folder / "sa_2.json").rename(folder / "a" / "sa_2.json")  # folders do not matter where ids are unique
    with tarfile.open(folder / "shard.tar", "w") as shard:
        for suffix in ("jpg", "json"):
            shard.add(folder / f"sa_1.{suffix}", f"/sa_1.{suffix}")
    entry = run(folder, tmp_path / "out", "sa1b")
    rows = {row.name: row for row in Dataset.open(tmp_path / "out").rows("one")}
    assert {name: row.instances for name, row in rows.items()} == {"sa_0": 4, "sa_1": 4, "sa_2": 4}
    reasons = {item.name: item.reason for item in entry.broken}
    assert sorted(reasons) == ["c__sa_1.json", "shard.tar__sa_1.jpg", "z__sa_0.jpg"]
    assert "sa_0.jpg, sa_0.json, z/sa_0.jpg, z/sa_0.json" in reasons["z__sa_0.jpg"]


def test_pictures_of_one_name_in_another_folder_are_not_joined(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name in ("a", "b"):
        write_sa1b(folder / name, 1)
        (tmp_path / "pictures" / name).mkdir(parents=True)
        (folder / name / "sa_0.jpg").rename(tmp_path / "pictures" / name / "sa_0.jpg")
    (folder / "b" / "sa_0.json").write_bytes(sa1b_json(scene_masks()[:1]))
    entry = run(folder, tmp_path / "out", "sa1b", images=tmp_path / "pictures")
    assert [len(masks) for masks in stored(tmp_path / "out")] == [4]
    assert [item.name for item in entry.broken] == ["b__sa_0.json"]


def test_names_of_images_are_unique_whatever_reads_them(tmp_path: Path) -> None:
    folder = write_labels(tmp_path / "in", 1)
    for part, suffix in {"images": "jpg", "masks": "png"}.items():
        (folder / part / "b").mkdir()
        for name in ("b/c", "b__c"):
            (folder / part / f"{name}.{suffix}").write_bytes((folder / part / f"a0.{suffix}").read_bytes())
    with pytest.raises(AnnotationError, match=r"one name.*Actual: b__c 2 times"):
        run(folder, tmp_path / "out", "labels")
    assert not (tmp_path / "out").exists()


def test_subset_and_split_depend_on_names_alone(tmp_path: Path) -> None:
    folder = write_sa1b(tmp_path / "in", 40)
    names = [item.name for item in list_items("sa1b", folder, subset=Fraction(1, 4))]
    (folder / "sa_3.json").unlink()
    again = [item.name for item in list_items("sa1b", folder, subset=Fraction(1, 4))]
    assert names == again
    assert 3 <= len(names) <= 20
    assert abs(np.mean([hash_fraction("subset", f"sa_{n}") < 1 / 50 for n in range(20_000)]) - 1 / 50) < 0.004


SQUARE = {"id": 1, "segmentation": [[4, 4, 36, 4, 36, 36, 4, 36]], "bbox": [4, 4, 32, 32], "area": 1024, "image_id": 7}


def write_coco(folder: Path, annotations: list[dict[str, Any]], images: str = "images") -> Path:
    (folder / images).mkdir(parents=True)
    (folder / images / "x.jpg").write_bytes(jpeg())
    image = {"id": 7, "file_name": "x.jpg", "height": HW[0], "width": HW[1]}
    (folder / "annotations.json").write_text(json.dumps({"images": [image], "annotations": annotations}))
    return folder


def test_coco_polygons_and_crowds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    crowd = {**scene_masks().to_coco()[3], "iscrowd": 1, "image_id": 7, "id": 2}
    entry = run(write_coco(tmp_path / "in", [SQUARE, crowd]), tmp_path / "out", "coco")
    assert "1 of 2 annotations are crowds" in caplog.text
    assert entry.partial
    assert entry.background_weight == pytest.approx(0.03)
    assert stored(tmp_path / "out")[0].areas_px.tolist() == [1024]


def test_coco_of_other_programs(tmp_path: Path) -> None:
    plain = {"id": 1, "segmentation": SQUARE["segmentation"], "image_id": 7, "area": None}
    run(write_coco(tmp_path / "no_box", [plain]), tmp_path / "a", "coco")
    run(write_coco(tmp_path / "beside", [SQUARE], "."), tmp_path / "b", "coco")
    assert [stored(tmp_path / name)[0].areas_px.tolist() for name in "ab"] == [[1024], [1024]]
    brush = {**scene_masks().to_coco()[3], "iscrowd": 1, "image_id": 7}
    with pytest.raises(AnnotationError, match=r"iscrowd 1 in all 1.*set their iscrowd to 0"):
        run(write_coco(tmp_path / "cvat", [brush]), tmp_path / "c", "coco")
    with pytest.raises(AnnotationError, match=r"no image .*annotations.*x\.jpg.*--images"):
        run(write_coco(tmp_path / "annotations", [SQUARE], "elsewhere"), tmp_path / "d", "coco")


def write_shifted(folder: Path, files: list[str]) -> None:
    """Write images of different colours, with a rectangle in each, at different places."""
    annotations = []
    for number, file in enumerate(files):
        path = folder / "images" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*HW, 3), 40 * number, np.uint8)).save(path)
        x = 5.0 * number
        annotations.append({"image_id": number, "segmentation": [[x, 4, x + 9, 4, x + 9, 9, x, 9]]})
    images = [{"id": i, "file_name": file, "height": HW[0], "width": HW[1]} for i, file in enumerate(files)]
    (folder / "annotations.json").write_text(json.dumps({"images": images, "annotations": annotations}))


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a.png", "a.jpg", "b.png"], ["a_png", "a_jpg", "b"]),
        (["a.png", "a_png.jpg", "a.jpg"], ["a_png", "a_png_jpg", "a_jpg"]),
        (["x/a.png", "y/a.jpg", "y/b.png"], ["x__a", "y__a", "y__b"]),
    ],
)
def test_coco_images_of_one_stem_keep_their_masks(tmp_path: Path, files: list[str], names: list[str]) -> None:
    folder = tmp_path / "in"
    write_shifted(folder, files)
    assert [item.name for item in list_items("coco", folder)] == names
    run(folder, tmp_path / "out", "coco", val_share=0.0)
    dataset = Dataset.open(tmp_path / "out")
    for number, row in enumerate(dataset.rows("one")):
        record = read_row(dataset, "one", row)
        with Image.open(io.BytesIO(record.content)) as picture:
            assert abs(np.asarray(picture).mean() - 40 * number) < 2
        assert record.masks.extents_xyxy[:, 0].tolist() == [5 * number]


def test_coco_that_names_an_image_twice(tmp_path: Path) -> None:
    write_shifted(tmp_path / "in", ["a.png", "a.png"])
    with pytest.raises(AnnotationError, match=r"annotations\.json names an image twice.*a\.png.*--images"):
        run(tmp_path / "in", tmp_path / "out", "coco")


def test_panoptic(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "pan").mkdir()
    (tmp_path / "images" / "x.jpg").write_bytes(jpeg())
    ids = np.zeros(HW, np.int64)
    ids[:20], ids[20:, :30], ids[20:, 30:] = 70_000, 5, 9
    Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)).save(
        tmp_path / "pan" / "x.png"
    )
    segments = [{"id": 70_000}, {"id": 5}, {"id": 9, "iscrowd": 1}]
    document: dict[str, list[dict[str, Any]]] = {
        "images": [{"id": 1, "file_name": "x.jpg"}],
        "annotations": [{"image_id": 1, "file_name": "x.png", "segments_info": segments}],
    }
    (tmp_path / "pan.json").write_text(json.dumps(document))
    run(tmp_path / "pan.json", tmp_path / "out", "panoptic")
    assert sorted(stored(tmp_path / "out")[0].areas_px.tolist()) == [28 * 30, 20 * 64]
    document["images"].append({"id": 2, "file_name": "x.png"})
    document["annotations"].append({"image_id": 2, "file_name": "x_png.png", "segments_info": []})
    (tmp_path / "pan.json").write_text(json.dumps(document))
    assert [item.name for item in list_items("panoptic", tmp_path / "pan.json")] == ["x_jpg", "x_png"]


def test_label_maps_of_microscopes(tmp_path: Path) -> None:
    import tifffile

    folder = write_labels(tmp_path / "in", 2)
    labels = scene_masks()[[0, 2]].to_label_map()
    image = np.random.default_rng(0).integers(200, 4000, HW).astype(np.uint16)
    tifffile.imwrite(folder / "images" / "deep.tif", image)
    tifffile.imwrite(folder / "masks" / "deep.tif", labels)
    entry = run(folder, tmp_path / "out", "labels", val_share=0.0)
    assert entry.images == {"train": 3, "val": 0}
    assert (tmp_path / "out" / "images" / "train" / "one" / "deep.png").is_file()


def test_what_macos_and_jupyter_leave_behind_is_no_annotation(tmp_path: Path) -> None:
    folder = write_labels(tmp_path / "in", 2)
    for part in ("images", "masks"):
        (folder / part / "._a0.png").write_bytes(b"\0\5\26\7")
        (folder / part / ".ipynb_checkpoints").mkdir()
        (folder / part / ".ipynb_checkpoints" / "a0-checkpoint.png").write_bytes(b"")
    assert [item.name for item in list_items("labels", folder)] == ["a0", "a1"]
    assert len(LabelFolder(folder).images) == 2


def test_names_that_do_not_pair_are_explained(tmp_path: Path) -> None:
    folder = write_labels(tmp_path / "in", 2)
    Image.fromarray(np.zeros((*HW, 3), np.uint8)).save(folder / "images" / "a0.png")
    [broken] = run(folder, tmp_path / "out", "labels").broken
    assert "a0.jpg and a0.png" in broken.reason
    for path in (folder / "masks").iterdir():
        path.rename(path.with_name(f"{path.stem}_cp_masks.png"))
    with pytest.raises(AnnotationError, match=r"a0\.jpg and a0_cp_masks\.png.*without additions such as _mask"):
        load_folder(folder)
    for path in (folder / "masks").iterdir():
        path.unlink()
    with pytest.raises(AnnotationError, match=r"\.png or \.tif or \.tiff.*no files in"):
        list_items("labels", folder)


def test_yolo_round_trip(tmp_path: Path) -> None:
    run(write_sa1b(tmp_path / "in", 3), tmp_path / "out", "sa1b", val_share=0.5)
    run(tmp_path / "out" / "data.yaml", tmp_path / "again", "yolo", name="two")
    solid = [0, 1, 3]
    for masks in stored(tmp_path / "again", "two"):
        assert (np.diag(masks.iou(scene_masks()))[solid] > 0.93).all()


@pytest.mark.parametrize("beside", [False, True])
def test_a_description_of_data_elsewhere(tmp_path: Path, beside: bool) -> None:
    for part in ("images", "labels"):
        (tmp_path / "data" / part).mkdir(parents=True)
    (tmp_path / "data" / "images" / "a.jpg").write_bytes(jpeg())
    (tmp_path / "data" / "labels" / "a.txt").write_text("1 0.1 0.1 0.5 0.1 0.5 0.5\n")
    description = tmp_path / ("data" if beside else "cfg") / "data.yaml"
    description.parent.mkdir(exist_ok=True)
    description.write_text(f"path: {'/not/on/this/machine' if beside else '../data'}\ntrain: images\nnames: [a, b]\n")
    assert run(description, tmp_path / "out", "yolo", val_share=0.0).images == {"train": 1, "val": 0}
    description.write_text("path: [")
    with pytest.raises(AnnotationError, match=r"Cannot read .*data\.yaml"):
        list_items("yolo", description)


def test_yolo_exports_with_a_folder_for_each_split(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        for part in ("images", "labels"):
            (tmp_path / "in" / split / part).mkdir(parents=True)
        (tmp_path / "in" / split / "images" / "a.jpg").write_bytes(jpeg())
        (tmp_path / "in" / split / "labels" / "a.txt").write_text("1 0.1 0.1 0.5 0.1 0.5 0.5\n")
    (tmp_path / "in" / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: [a, b]\n")
    entry = run(tmp_path / "in" / "data.yaml", tmp_path / "out", "yolo", val_share=0.0)
    assert entry.images == {"train": 2, "val": 0}
    assert sorted(path.stem for path in (tmp_path / "out" / "images").rglob("*.jpg")) == ["train__a", "valid__a"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 0.5 0.5 0.2 0.2", "line 3 is a box"),
        ("0 0.1 0.1 0.5", "line 3 is no class followed by three points"),
        ("0 3 3 20 3 20 40", "line 3 has numbers up to 40, where 1 is the image's whole side"),
    ],
)
def test_yolo_files_that_are_not_polygons_alone_are_left_out(tmp_path: Path, line: str, reason: str) -> None:
    for part in ("images", "labels"):
        (tmp_path / "in" / part).mkdir(parents=True)
    for name, last in {"good": "", "mixed": line}.items():
        (tmp_path / "in" / "images" / f"{name}.jpg").write_bytes(jpeg())
        (tmp_path / "in" / "labels" / f"{name}.txt").write_text(f"1 0.1 0.1 0.5 0.1 0.5 0.5\n\n{last}\n")
    entry = run(tmp_path / "in", tmp_path / "out", "yolo", val_share=0.0)
    assert entry.images == {"train": 1, "val": 0}
    [broken] = entry.broken
    assert (broken.name, reason in broken.reason) == ("mixed", True)


def test_paths_may_be_texts(tmp_path: Path) -> None:
    source, out = write_sa1b(tmp_path / "in", 2), tmp_path / "out"
    assert len(list_items("sa1b", str(source))) == 2
    assert len(list(convert(str(source), str(out), kind="sa1b", name="one", licence="CC0-1.0"))) == 2
    assert (out / "data.yaml").is_file()
    with pytest.raises(InvalidParameterError, match="names no file"):
        list_items("sa1b", None)  # type: ignore[arg-type]


def test_cards_of_long_names_show_how_they_end() -> None:
    assert [report._short(name) for name in ("sa_1", "a" * 14)] == ["sa_1", "a" * 14]
    assert report._short("coco_000000000540") == "…_000000000540"


@pytest.mark.parametrize("damage", ["[1]\n", '{"name": "a"}\n', "no JSON\n", None])
def test_a_damaged_index_is_named(damage: str | None, tmp_path: Path) -> None:
    run(write_labels(tmp_path / "in"), tmp_path / "out", "labels")
    index = Dataset.open(tmp_path / "out").index_path("one")
    if damage is None:
        index.unlink()
    else:
        index.write_text(damage)
    with pytest.raises(AnnotationError, match=r"one\.jsonl cannot be read"):
        stored(tmp_path / "out")


def test_missing_folders_come_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"images/ and masks/.*Remedy: name the folder that holds both"):
        list_items("labels", tmp_path)
    with pytest.raises(AnnotationError, match=r"Actual: Is a directory.*Remedy: name the JSON file"):
        list_items("panoptic", tmp_path)


def test_polygons_join_parts_and_say_what_is_lost() -> None:
    stack = np.zeros((1, 40, 40), bool)
    stack[0, 2:14, 2:14] = stack[0, 22:38, 20:38] = True
    stack[0, 26:30, 26:30] = False
    stack[0, 0, 39] = True
    lines, with_holes = polygon_lines(Masks.from_dense(stack))
    assert with_holes == 1
    points = (np.array(lines[0].split()[1:], float).reshape(1, -1) * 40).tolist()
    drawn = Masks.from_coco([{"segmentation": points}], (40, 40))
    assert abs(int(drawn.areas_px[0]) - (12 * 12 + 16 * 18)) < 40
    one_pixel = np.zeros((1, 9, 9), bool)
    one_pixel[0, 4, 4] = True
    assert len(polygon_lines(Masks.from_dense(one_pixel))[0]) == 1


def test_broken_pairs_are_listed_not_fatal(tmp_path: Path) -> None:
    folder = write_sa1b(tmp_path / "in", 5)
    (folder / "sa_0.json").write_text("{")
    (folder / "sa_1.jpg").write_bytes(jpeg(1)[:-400])
    (folder / "sa_2.json").unlink()
    (folder / "sa_3.jpg").write_bytes(jpeg(3, (30, 30)))
    entry = run(folder, tmp_path / "out", "sa1b")
    assert sum(entry.images.values()) == 1
    reasons = {item.name: item.reason for item in entry.broken}
    assert "damaged" in reasons["sa_0"]
    assert "damaged" in reasons["sa_1"]
    assert "no annotation" in reasons["sa_2"]
    assert "another size" in reasons["sa_3"]
    assert Dataset.open(tmp_path / "out").sources["one"].broken == entry.broken


def test_a_label_map_that_ends_early_is_listed(tmp_path: Path) -> None:
    folder = write_labels(tmp_path / "in", 3)
    (folder / "masks" / "a1.png").unlink()
    broken = folder / "masks" / "a1.tif"
    write_label_map(broken, scene_masks())
    with tifffile.TiffFile(broken) as tiff:
        end = tiff.pages[0].dataoffsets[0] + tiff.pages[0].databytecounts[0]
    broken.write_bytes(broken.read_bytes()[: end - 20])
    entry = run(folder, tmp_path / "out", "labels")
    assert sum(entry.images.values()) == 2
    assert [item.name for item in entry.broken] == ["a1"]
    assert "a1.tif cannot be read" in entry.broken[0].reason


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "bmp"])
def test_the_limit_of_pillow_is_not_ours(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow refuses twice its global limit: a size that is ordinary here."""
    folder = write_labels(tmp_path / "in", 2)
    with Image.open(folder / "images" / "a0.jpg") as picture:
        picture.save(folder / "images" / f"a2.{suffix}")
    (folder / "masks" / "a1.png").rename(folder / "masks" / "a2.png")
    (folder / "images" / "a1.jpg").unlink()
    pairs = write_sa1b(tmp_path / "pairs", 1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert not run(folder, tmp_path / "out", "labels", val_share=0.0).broken
    assert not run(pairs, tmp_path / "out", "sa1b", name="two", val_share=0.0).broken
    assert sum(len(pool.samples) for pool in load_split(tmp_path / "out", "train")) == 3
    assert sum(len(pool.samples) for pools in load_folder(folder).values() for pool in pools) == 2
    dataset = Dataset.open(tmp_path / "out")
    row = next(dataset.rows("one"))
    record = read_row(dataset, "one", row)
    assert report._card(row, record, "one", record.masks).main.rgb8.shape == (*HW, 3)


def test_too_large_images_and_label_maps_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, large = write_labels(tmp_path / "in", 4), (2 * HW[0], HW[1])
    (folder / "images" / "a0.jpg").write_bytes(jpeg(0, large))
    Image.fromarray(np.zeros(large, np.uint8)).save(folder / "masks" / "a1.png")
    Image.fromarray(np.zeros((*large, 3), np.uint8)).save(folder / "images" / "a2.tif")
    (folder / "images" / "a2.jpg").unlink()
    (tmp_path / "pan").mkdir()
    Image.fromarray(np.zeros((*large, 3), np.uint8)).save(tmp_path / "pan" / "x.png")
    monkeypatch.setattr("fastsam_core._image_files.MAX_PIXELS", HW[0] * HW[1])
    monkeypatch.setattr("fastsam_core.images.read_image", partial(read_image, max_pixels=HW[0] * HW[1]))
    entry = run(folder, tmp_path / "out", "labels")
    assert sum(entry.images.values()) == 1
    assert [item.name for item in entry.broken] == ["a0", "a1", "a2"]
    assert all("96 × 64 pixels. Expected: at most 3072 pixels. Actual: 6144 pixels" in b.reason for b in entry.broken)
    assert "The label map" in entry.broken[1].reason
    with pytest.raises(AnnotationError, match="The label map"):
        read_label_map(folder / "masks" / "a1.png")
    document = {
        "images": [{"id": 1, "file_name": "in/images/a3.jpg"}],
        "annotations": [{"image_id": 1, "file_name": "x.png", "segments_info": []}],
    }
    (tmp_path / "pan.json").write_text(json.dumps(document))
    with pytest.raises(ImageTooLargeError, match=r"x\.png has 96 × 64"):
        list_items("panoptic", tmp_path / "pan.json")[0].load()


def test_nothing_to_train_on(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnnotationError, match="no pair"):
        run(tmp_path / "empty", tmp_path / "out", "sa1b")
    folder = write_sa1b(tmp_path / "in", 2)
    for path in folder.glob("*.json"):
        path.write_bytes(sa1b_json(Masks.empty(HW)))
    with pytest.raises(AnnotationError, match="no instances"):
        run(folder, tmp_path / "out", "sa1b")
    assert not (tmp_path / "out").exists(), "nothing is left behind"
    with pytest.raises(AnnotationError, match="not a converted data set"):
        load_split(tmp_path / "out", "train")


def test_sources_add_up_and_are_not_overwritten(tmp_path: Path) -> None:
    folder = write_sa1b(tmp_path / "in", 3)
    run(folder, tmp_path / "out", "sa1b")
    run(folder, tmp_path / "out", "sa1b", name="two", coverage="partial")
    with pytest.raises(InvalidParameterError, match="has a source"):
        run(folder, tmp_path / "out", "sa1b")
    run(folder, tmp_path / "out", "sa1b", replace=True, subset=Fraction(1, 1))
    sources = Dataset.open(tmp_path / "out").sources
    assert sorted(sources) == ["one", "two"]
    assert sources["two"].partial


def test_sources_that_are_added_at_the_same_time(tmp_path: Path) -> None:
    folder, out = write_sa1b(tmp_path / "in", 3), tmp_path / "out"
    one, two = (convert(folder, out, kind="sa1b", name=name, licence="CC0-1.0") for name in ("one", "two"))
    next(one)
    list(two)
    list(one)
    assert sorted(Dataset.open(out).sources) == ["one", "two"]


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no locks there")
def test_one_name_at_the_same_time(tmp_path: Path) -> None:
    folder, out = write_sa1b(tmp_path / "in", 3), tmp_path / "out"
    (out / ".one.part" / "rle").mkdir(parents=True)  # by a process that was killed
    one, again = (convert(folder, out, kind="sa1b", name="one", licence="CC0-1.0", replace=True) for _ in range(2))
    next(one)
    with pytest.raises(OutputError, match=r"being converted into .*out now.*--name"):
        next(again)
    list(one)
    assert len(list(Dataset.open(out).rows("one"))) == 3
    assert not list(out.glob(".*"))
    run(folder, out, "sa1b", replace=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("options", [{"name": "two"}, {"replace": True}])
def test_full_disk_leaves_the_data_set_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    from pathlib import Path as AnyPath

    folder = write_sa1b(tmp_path / "in", 3)
    run(folder, tmp_path / "out", "sa1b")
    before = contents(tmp_path / "out")

    def full(self: AnyPath, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(AnyPath, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left"):
        run(folder, tmp_path / "out", "sa1b", **options)
    assert contents(tmp_path / "out") == before
    assert not list((tmp_path / "out").glob(".*"))


def test_replacing_a_source_by_one_without_instances_loses_nothing(tmp_path: Path) -> None:
    run(write_sa1b(tmp_path / "in", 3), tmp_path / "out", "sa1b")
    before = contents(tmp_path / "out")
    other = write_sa1b(tmp_path / "other", 2)
    for path in other.glob("*.json"):
        path.write_bytes(sa1b_json(Masks.empty(HW)))
    with pytest.raises(AnnotationError, match="no instances"):
        run(other, tmp_path / "out", "sa1b", replace=True)
    steps = convert(other, tmp_path / "out", kind="sa1b", name="one", licence="CC0-1.0", replace=True)
    next(steps)
    steps.close()  # Ctrl-C
    assert contents(tmp_path / "out") == before


def test_report_shows_what_is_there(tmp_path: Path) -> None:
    run(write_sa1b(tmp_path / "in", 3), tmp_path / "out", "sa1b")
    written = write_report(tmp_path / "out")
    values = json.loads(written["json"].read_text())["one"]
    assert values["nesting"] == {"whole": 9, "part": 3, "part of a part": 0, "deeper": 0}
    with Image.open(written["sheet"]) as sheet, Image.open(written["histograms"]) as histograms:
        assert min(*sheet.size, *histograms.size) > 300
    assert "| one | sa1b | CC0-1.0 | exhaustive |" in written["markdown"].read_text()


def test_nesting_is_counted() -> None:
    stack = np.zeros((3, 20, 20), bool)
    stack[0, 1:19, 1:19] = stack[1, 3:12, 3:12] = stack[2, 5:8, 5:8] = True
    assert nesting_depths(Masks.from_dense(stack)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("text", ["0", "2", "x", "1/0", "-1/2"])
def test_wrong_shares(text: str) -> None:
    with pytest.raises(InvalidParameterError, match="subset"):
        read_share(text)
