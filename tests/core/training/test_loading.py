"""What the trainers read: converted data sets, and folders of users, split into what is learnt and held back."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from PIL import Image
from tests.core.training.dataset_files import HW, jpeg, run, scene_masks, write_labels, write_sa1b

from fastsam_core.errors import AnnotationError
from fastsam_core.evaluation.truth import LabelFolder, open_truth
from fastsam_core.training.datasets.loading import load_folder, load_split
from fastsam_core.training.datasets.readers import KINDS, list_items
from fastsam_core.training.datasets.records import hash_fraction

if TYPE_CHECKING:
    from fastsam_core.training.sources import Split


def test_what_the_trainer_reads_has_nested_masks(tmp_path: Path) -> None:
    run(write_sa1b(tmp_path / "in", 8), tmp_path / "out", "sa1b", val_share=0.3, coverage="dense")
    [pool] = load_split(tmp_path / "out", "train", max_side_px=32)
    sample = pool.samples[0]
    assert sample.image.shape == (24, 32, 3)
    assert len(sample.layers) >= 2
    assert len(np.unique(sample.layers)) == 5
    assert set(np.unique(sample.weight).tolist()) == {38}


def test_folders_of_users_are_split(tmp_path: Path) -> None:
    splits = load_folder(write_labels(tmp_path / "in", 6))
    assert [sum(len(pool.samples) for pool in splits[split]) for split in ("train", "val")] == [5, 1]
    stems = {split: {s.stem for pool in splits[split] for s in pool.samples} for split in splits}
    assert not stems["train"] & stems["val"]
    with pytest.raises(AnnotationError, match="too little"):
        load_folder(write_labels(tmp_path / "single", 1))


def test_label_maps_in_a_folder_called_labels(tmp_path: Path) -> None:
    folder = write_labels(tmp_path / "in", 2)
    (folder / "masks").rename(folder / "labels")
    (folder / "labels" / ".DS_Store").write_bytes(b"")
    with pytest.raises(
        AnnotationError, match=r"a0\.jpg and a0\.png\. Remedy: label maps belong in masks/: rename labels/"
    ):
        load_folder(folder)


def test_a_folder_that_holds_a_coco_file(tmp_path: Path) -> None:
    (tmp_path / "_annotations.coco.json").write_text("{}")  # as Roboflow exports it
    with pytest.raises(AnnotationError, match=r"holds no annotated images.*a COCO file itself"):
        load_folder(tmp_path)
    with pytest.raises(AnnotationError, match=r"There is no annotations\.json in .*name the COCO file itself"):
        run(tmp_path, tmp_path / "out", "coco")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"There is no file or folder .*a\.json"):
        load_folder(tmp_path / "a.json")


def write_bowl(folder: Path, count: int = 3) -> Path:
    """Write images as the Data Science Bowl 2018 has them: a folder for each, a file for each object."""
    for name in (f"{number:064x}" for number in range(count)):
        for part in ("images", "masks"):
            (folder / name / part).mkdir(parents=True)
        (folder / name / "images" / f"{name}.jpg").write_bytes(jpeg())
        for number, dense in enumerate(scene_masks().to_dense()):
            Image.fromarray(dense.astype(np.uint8) * 255).save(folder / name / "masks" / f"{number:064x}.png")
        (folder / name / "masks" / ".DS_Store").write_bytes(b"")
    return folder


def test_a_folder_for_each_image_with_a_file_for_each_object(tmp_path: Path) -> None:
    folder = write_bowl(tmp_path / "stage1_train")
    (folder / "no_masks" / "images").mkdir(parents=True)
    truths = LabelFolder(folder)
    assert [path.stem for path in truths.images] == [f"{number:064x}" for number in range(3)]
    for masks in (truths.truth(0).masks, open_truth(folder).truth(1, HW).masks):
        assert np.diag(masks.iou(scene_masks())).tolist() == [1.0] * 4
    splits = load_folder(folder)
    assert [sum(len(pool.samples) for pool in splits[split]) for split in ("train", "val")] == [2, 1]
    first = folder / f"{0:064x}" / "masks"
    Image.new("L", (8, 8), 255).save(first / "small.png")
    Image.fromarray(np.arange(HW[0] * HW[1], dtype=np.uint16).reshape(HW)).save(folder / f"{1:064x}/masks/smooth.png")
    entry = run(folder, tmp_path / "out", "beside")
    assert sum(entry.instances.values()) == 4
    assert ["8 x 8" in item.reason or "3071 values" in item.reason for item in entry.broken] == [True, True]
    for path in first.iterdir():
        path.unlink()
    assert len(truths.truth(0)) == 0


@pytest.mark.parametrize("where", ["annotations", "images/default", "default", "images"])
def test_exports_are_named_by_their_file(tmp_path: Path, where: str) -> None:
    images = [{"id": n, "file_name": f"{n}.jpg", "height": HW[0], "width": HW[1]} for n in (1, 2)]
    for image in images:
        (tmp_path / where).mkdir(parents=True, exist_ok=True)
        (tmp_path / where / str(image["file_name"])).write_bytes(jpeg())
    objects = [{**entry, "id": n, "image_id": n} for n, entry in zip((1, 2), scene_masks().to_coco(), strict=False)]
    path = tmp_path / "annotations" / "instances_default.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": objects}))
    splits = load_folder(path)
    assert [sum(len(pool.samples) for pool in splits[split]) for split in ("train", "val")] == [1, 1]


@pytest.mark.parametrize("named", [".", "data.yaml"])
def test_splits_of_yolo_exports_are_joined(tmp_path: Path, named: str) -> None:
    for split in ("train", "valid"):
        for part, name, content in (("images", "a.jpg", jpeg()), ("labels", "a.txt", b"0 .1 .1 .6 .1 .6 .7 .1 .7")):
            (tmp_path / split / part).mkdir(parents=True)
            (tmp_path / split / part / name).write_bytes(content)
    (tmp_path / "data.yaml").write_text("train: ../train/images")
    splits = load_folder(tmp_path / named)
    assert sorted(s.stem for pools in splits.values() for pool in pools for s in pool.samples) == [
        "train__a",
        "valid__a",
    ]


@pytest.mark.parametrize(
    ("places", "held_back"),
    [
        ((0, 3), (0, 1)),  # by the hash: as it is
        ((2, 4, 7), (2, 0)),
        ((0, 1), (0, 2)),
        ((8, 9), (8, 0)),
        (tuple(range(10)), (0, 1)),
    ],
)
def test_both_parts_have_objects(tmp_path: Path, places: tuple[int, ...], held_back: tuple[int, ...]) -> None:
    folder = write_labels(tmp_path / "in", 10)
    names = sorted((f"a{number}" for number in range(10)), key=lambda name: hash_fraction("split", name))
    for place in set(range(10)) - set(places):
        Image.fromarray(np.zeros(HW, np.uint8)).save(folder / "masks" / f"{names[place]}.png")
    splits = load_folder(folder)
    stems = {split: [s.stem for pool in splits[split] for s in pool.samples] for split in splits}
    assert stems["val"] == [names[place] for place in held_back]
    assert sorted(stems["val"] + stems["train"]) == sorted(names)
    for pools in splits.values():
        assert any(sample.layers.any() for pool in pools for sample in pool.samples)


@pytest.mark.parametrize(("val_share", "lacking"), [(0.0, "val"), (0.89, "train")])
def test_small_data_sets_with_an_empty_part_are_split_anew(tmp_path: Path, val_share: float, lacking: Split) -> None:
    out = tmp_path / "out"
    run(write_labels(tmp_path / "one", 2), out, "labels", val_share=val_share)
    run(write_sa1b(tmp_path / "two", 3), out, "sa1b", name="two", val_share=val_share, coverage="partial")
    with pytest.raises(AnnotationError, match=rf"has no instances for {lacking}.*another --val"):
        load_split(out, lacking)
    splits = load_folder(out)
    found = {split: [(s.source, s.stem) for pool in pools for s in pool.samples] for split, pools in splits.items()}
    assert (len(found["val"]), len(found["train"])) == (1, 4)
    assert len(set(found["val"] + found["train"])) == 5
    assert {pool.spec.name: pool.spec.partial for pools in splits.values() for pool in pools} == {
        "one": False,
        "two": True,
    }


def test_objects_that_are_lost_where_images_are_reduced_are_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_labels(tmp_path / "in", 2)
    labels = np.kron(np.arange(1, 10, dtype=np.uint8).reshape(3, 3), np.ones((30, 30), np.uint8))
    labels[0:26, 0:26] = 0
    Image.fromarray(labels).save(folder / "masks" / "large.png")
    Image.fromarray(labels).save(folder / "images" / "large.png")
    load_folder(folder)
    assert not caplog.text
    load_folder(folder, max_side_px=70)
    assert not caplog.text
    load_folder(folder, max_side_px=16)
    assert "of 13 objects are too small to be learnt, below 10 px" in caplog.text


def test_one_image_with_objects_is_too_little(tmp_path: Path) -> None:
    folder = write_labels(tmp_path / "in", 5)
    for number in range(4):
        Image.fromarray(np.zeros(HW, np.uint8)).save(folder / "masks" / f"a{number}.png")
    with pytest.raises(AnnotationError, match=r"too little.*that show objects.*5 images, 1 with instances"):
        load_folder(folder)


def test_data_that_are_packed_are_to_be_unpacked(tmp_path: Path) -> None:
    packed = Path(shutil.make_archive(str(tmp_path / "export"), "zip", write_labels(tmp_path / "in", 2)))
    with pytest.raises(AnnotationError, match=r"export\.zip is packed.*unpack it"):
        load_folder(packed)
    for kind in KINDS:
        with pytest.raises(AnnotationError, match="unpack it"):
            list_items(kind, packed)


@pytest.mark.parametrize("side_px", [480, 210])
def test_masks_of_many_objects_are_not_held_whole(tmp_path: Path, side_px: int) -> None:
    folder = write_labels(tmp_path / "in", 1)
    labels = np.kron(np.arange(1, 1601, dtype=np.uint16).reshape(40, 40), np.ones((12, 12), np.uint16))
    labels[::12] = labels[:, ::12] = 0
    Image.fromarray(labels).save(folder / "masks" / "many.png")
    Image.fromarray((labels % 251).astype(np.uint8)).save(folder / "images" / "many.png")
    tracemalloc.start()
    splits = load_folder(folder, max_side_px=side_px)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6  # 1600 masks of the whole image are 369 MB
    [sample] = [s for pools in splits.values() for pool in pools for s in pool.samples if s.stem == "many"]
    resized = cv2.resize(labels, (side_px, side_px), interpolation=cv2.INTER_NEAREST_EXACT)
    assert len(sample.layers) == 1
    pairs = np.unique(np.stack([sample.layers[0].ravel(), resized.ravel()]), axis=1).T
    assert pairs[0].tolist() == [0, 0]
    assert [len(set(side)) for side in pairs.T.tolist()] == [1601, 1601]  # each has one number, where it was
    assert len(pairs) == 1601
