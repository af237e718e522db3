"""Names of images and sources in a data set: where the files lie, and what left them there, has no part in them."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.core.training.dataset_files import HW, jpeg, run, scene_masks, write_labels, write_sa1b

from fastsam_core._ultralytics import import_ultralytics
from fastsam_core.errors import InvalidParameterError
from fastsam_core.training.datasets import list_items
from fastsam_core.training.datasets.loading import load_folder


def write_coco(folder: Path, files: list[str]) -> Path:
    [square] = scene_masks()[:1].to_coco()
    for file in files:
        path = folder / "images" / file.replace("\\", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg())
    document = {
        "images": [{"id": i, "file_name": file, "height": HW[0], "width": HW[1]} for i, file in enumerate(files)],
        "annotations": [{**square, "id": i, "image_id": i} for i in range(len(files))],
    }
    (folder / "annotations.json").write_text(json.dumps(document))
    return folder


def test_names_do_not_depend_on_where_the_images_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_coco(tmp_path / "in", ["x/a.jpg", "y/a.jpg", "y/b.jpg"])
    monkeypatch.chdir(tmp_path / "in")
    for source, images in ((tmp_path / "in", None), (Path("annotations.json"), Path("images"))):
        assert [item.name for item in list_items("coco", source, images)] == ["x__a", "y__a", "y__b"]


def test_panoptic_files_of_windows(tmp_path: Path) -> None:
    write_coco(tmp_path, ["x\\a.jpg", "y\\a.jpg"])
    document: dict[str, list[dict[str, Any]]] = json.loads((tmp_path / "annotations.json").read_text())
    document["annotations"] = []
    for number, folder in enumerate("xy"):
        path = tmp_path / "pan" / folder / "a.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.full((*HW, 3), (7, 0, 0), np.uint8)).save(path)
        entry = {"image_id": number, "file_name": f"{folder}\\a.png", "segments_info": [{"id": 7}]}
        document["annotations"].append(entry)
    (tmp_path / "pan.json").write_text(json.dumps(document))
    assert [item.name for item in list_items("panoptic", tmp_path / "pan.json")] == ["x__a", "y__a"]
    assert run(tmp_path / "pan.json", tmp_path / "out", "panoptic").broken == ()


def test_labels_of_every_source_are_found(tmp_path: Path) -> None:
    folder = write_labels(tmp_path / "in", 2)
    with pytest.raises(InvalidParameterError, match=r"cannot be called images.*--name"):
        run(folder, tmp_path / "out", "labels", name="images")
    run(folder, tmp_path / "out", "labels", name="my.images", val_share=0.0)
    images = sorted(map(str, (tmp_path / "out" / "images").rglob("*.jpg")))
    labels = sorted(map(str, (tmp_path / "out" / "labels").rglob("*.txt")))
    assert import_ultralytics("ultralytics.data.utils").img2label_paths(images) == labels


def test_what_macos_leaves_behind_is_no_pair(tmp_path: Path) -> None:
    folder = write_sa1b(tmp_path / "in", 2)
    (folder / "._sa_0.jpg").write_bytes(b"\0\5\26\7")
    (folder / "._shard.tar").write_bytes(b"\0\5\26\7")
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "sa_0-checkpoint.json").write_text("{}")
    with tarfile.open(folder / "more.tar", "w") as shard:
        for name, content in {"./sa_9.jpg": jpeg(), "./._sa_9.jpg": b"", "./sa_9.json": b"{}"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))
    assert [item.name for item in list_items("sa1b", folder)] == ["sa_0", "sa_1", "sa_9"]


def test_a_name_too_long_for_files_is_listed(tmp_path: Path) -> None:
    folder = write_labels(tmp_path / "in", 2)
    for part in ("images", "masks"):
        [first, _] = sorted((folder / part).iterdir())
        below = first.with_name("n" * 130) / ("ü" * 60 + first.suffix)
        below.parent.mkdir()
        first.rename(below)
    entry = run(folder, tmp_path / "out", "labels")
    assert sum(entry.images.values()) == 1
    [broken] = entry.broken
    assert len(os.fsencode(broken.name)) == 252
    assert "too long for files of the data set. Expected: at most 250 bytes" in broken.reason


def test_a_data_set_has_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = write_labels(tmp_path / "in", 2)
    for out in (folder, folder / "masks" / ".." / "images"):
        with pytest.raises(InvalidParameterError, match=r"among the files that it is made of.*--out"):
            run(folder, out, "labels")
    run(folder, folder / "data", "labels")


def test_names_of_classes_are_no_annotation(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for name in "ab":
        (folder / "images" / f"{name}.jpg").write_bytes(jpeg())
        (folder / "labels" / f"{name}.txt").write_text("0 .1 .1 .5 .1 .5 .5\n")
    (folder / "labels" / "classes.txt").write_text("cell\n")
    assert [item.name for item in list_items("yolo", folder)] == ["a", "b"]
    assert sum(len(pool.samples) for pools in load_folder(folder).values() for pool in pools) == 2
