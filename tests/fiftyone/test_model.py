"""`FastSAMModel` in ``dataset.apply_model``, and the remote zoo source."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import cv2
import fiftyone as fo
import fiftyone.zoo as foz
import numpy as np
import pytest
from PIL import Image
from tests.fiftyone.conftest import write_video

import fiftyone_fastsam.zoo
from fastsam_core.errors import ImageNotFoundError, InvalidParameterError, InvalidPromptError
from fiftyone_fastsam import masks_from_detections
from fiftyone_fastsam.model import FastSAMModel, read_prompts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastsam_core.masks import Masks
    from fastsam_core.model import FastSAM


def test_everything(dataset: Any, model: FastSAM, known_masks: Masks) -> None:
    dataset.apply_model(FastSAMModel(model), "masks", batch_size=2, num_workers=0, progress=False)
    for sample in dataset:
        back = masks_from_detections(sample.masks, known_masks.image_hw)
        np.testing.assert_array_equal(back.to_dense(), known_masks.to_dense())


def test_one_bad_file_costs_one_sample(
    make_dataset: Callable[..., Any], image_paths: list[Path], tmp_path: Path, model: FastSAM
) -> None:
    (tmp_path / "corrupt.png").write_bytes(b"no image")
    dataset = make_dataset(paths=[image_paths[0], tmp_path / "corrupt.png", image_paths[1]])
    dataset.apply_model(FastSAMModel(model), "masks", batch_size=3, num_workers=0, progress=False)
    assert [label is None for label in dataset.values("masks")] == [False, True, False]


@pytest.mark.parametrize("skip_failures", [True, False])
def test_a_file_that_cannot_be_read_stops_a_model_on_request(
    make_dataset: Callable[..., Any], tmp_path: Path, model: FastSAM, *, skip_failures: bool
) -> None:
    dataset = make_dataset(paths=[tmp_path / "missing.png"])
    fastsam = FastSAMModel(model, skip_failures=skip_failures)
    with nullcontext() if skip_failures else pytest.raises(ImageNotFoundError):
        dataset.apply_model(fastsam, "masks", num_workers=0, progress=False, skip_failures=skip_failures)
    assert not dataset.has_field("masks")


def test_a_prompt_that_cannot_be_read_costs_one_sample(dataset: Any, model: FastSAM) -> None:
    points = [fo.Keypoints(keypoints=[fo.Keypoint(points=[[0.5, 0.5]], sam_labels=signs)]) for signs in ("1", [1], [1])]
    dataset.set_values("clicks", points)
    dataset.apply_model(
        FastSAMModel(model), "masks", batch_size=3, num_workers=0, progress=False, point_prompt_field="clicks"
    )
    assert [label is None for label in dataset.values("masks")] == [True, False, False]


@pytest.mark.parametrize("slot", ["box_prompt_field", "prompt_field"])
def test_boxes_prompt(dataset: Any, model: FastSAM, slot: str) -> None:
    sample = dataset.first()
    sample["gt"] = fo.Detections(detections=[fo.Detection(label="cat", bounding_box=[0, 0, 1, 1], tags=["t"])])
    sample.save()
    fastsam = FastSAMModel(model, min_iou=0)
    dataset.apply_model(fastsam, "masks", num_workers=0, progress=False, **{slot: "gt"})
    [found] = dataset.first().masks.detections
    assert (found.label, found.tags, found.matched) == ("cat", ["t"], True)
    assert dataset.last().masks.detections == []


@pytest.mark.parametrize(
    ("slot", "expected"), [("point_prompt_field", "Keypoints or Keypoint"), ("box_prompt_field", "Detections or Det")]
)
def test_labels_that_cannot_prompt_are_told_from_those_that_can(slot: str, expected: str) -> None:
    label = fo.Detections() if slot == "point_prompt_field" else fo.Keypoints()
    with pytest.raises(InvalidPromptError, match=rf"Expected: {expected}\w*\. Actual: {type(label).__name__}"):
        read_prompts(label, slot)
    assert read_prompts(label, "prompt_field")[0] == []
    with pytest.raises(InvalidPromptError, match="Detections or Detection or Keypoints or Keypoint"):
        read_prompts(fo.Polylines(), "prompt_field")


def test_only_the_classes_that_are_asked_for(dataset: Any, model: FastSAM) -> None:
    labels = [fo.Detection(label=name, bounding_box=[0, 0, 1, 1]) for name in ("cat", "dog")]
    dataset.set_values("gt", [fo.Detections(detections=[label.copy() for label in labels]) for _ in range(3)])
    options: dict[str, Any] = {"num_workers": 0, "progress": False, "box_prompt_field": "gt"}
    dataset.apply_model(FastSAMModel(model), "masks", classes=["dog"], **options)
    assert dataset.values("masks.detections.label") == [["dog"]] * 3


class Frames:
    """Reads a video as FiftyOne's own reader, which needs ffmpeg, does."""

    def __init__(self, path: str, frames: object = None) -> None:
        self.capture, self.frame_number = cv2.VideoCapture(path), 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.capture.release()

    def __iter__(self) -> Iterator[Any]:
        while (read := self.capture.read())[0]:
            self.frame_number += 1
            yield read[1][..., ::-1].copy()


@pytest.mark.parametrize("batch_size", [None, 2])
@pytest.mark.parametrize("prompted", [False, True])
def test_videos(
    make_dataset: Callable[..., Any],
    model: FastSAM,
    known_masks: Masks,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    batch_size: int | None,
    prompted: bool,
) -> None:
    monkeypatch.setattr("eta.core.video.FFmpegVideoReader", Frames)
    dataset = make_dataset(0)
    video = write_video(tmp_path / "a.avi", 3)
    sample = fo.Sample(filepath=str(video), metadata=fo.VideoMetadata(total_frame_count=3))
    for number in (1, 2, 3):
        boxes = [fo.Detection(label="cat", bounding_box=[0, 0, 1, 1])] * (number == 2)
        sample.frames[number] = fo.Frame(gt=fo.Detections(detections=boxes))
    dataset.add_sample(sample)
    options: dict[str, Any] = {"batch_size": batch_size, "skip_failures": False, "progress": False}
    fields = {"box_prompt_field": "frames.gt"} if prompted else {}
    dataset.apply_model(FastSAMModel(model, min_iou=0), "frames.masks", **options, **fields)
    [found] = dataset.values("frames.masks.detections.label")
    assert found == ([[], ["cat"], []] if prompted else [["object"] * len(known_masks)] * 3)


def test_points_prompt(dataset: Any, model: FastSAM, known_masks: Masks) -> None:
    y, x = np.argwhere(known_masks.to_dense()[0])[0]
    height, width = known_masks.image_hw
    sample = dataset.first()
    sample["clicks"] = fo.Keypoints(
        keypoints=[fo.Keypoint(label="k", points=[[(x + 0.5) / width, (y + 0.5) / height]])]
    )
    sample.save()
    dataset.apply_model(FastSAMModel(model), "masks", num_workers=0, progress=False, point_prompt_field="clicks")
    assert [d.matched for d in dataset.first().masks.detections] == [True]


def test_what_a_model_cannot_do_is_refused(model: FastSAM) -> None:
    refused: list[dict[str, Any]] = [{"box_prompt_field": "gt"}, {"prompt_field": "gt"}, {"prompt_ids": ["1"]}]
    for options in (*refused, {"masks_field": "masks", "text": "pebble"}):
        with pytest.raises(InvalidPromptError, match="apply_model"):
            FastSAMModel(model, **options)
    with pytest.raises(InvalidParameterError, match="instances"):
        FastSAMModel(model, output="map")
    for how, value in {"existing": "append", "writer": "sdk", "batch_size": 4}.items():
        with pytest.raises(InvalidParameterError, match=f"{how}. Remedy: use enrich"):
            FastSAMModel(model, **{how: value})


def test_images_without_samples(model: FastSAM, known_masks: Masks, image_paths: list[Path]) -> None:
    with Image.open(image_paths[0]) as image:
        found = FastSAMModel(model).predict(np.asarray(image))
    assert len(found.detections) == len(known_masks)


def test_the_zoo_source_loads_the_builtin_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image_paths: list[Path]
) -> None:
    source = Path(fiftyone_fastsam.zoo.__file__).parent
    assert sum(path.stat().st_size for path in source.iterdir() if path.is_file()) < 20_000
    shutil.copytree(source, tmp_path / "fastsam", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fo.config, "model_zoo_dir", str(tmp_path))
    forget = getattr(foz.models, "_invalidate_zoo_models_manifest", lambda: None)  # FiftyOne 1.21 keeps nothing
    forget()
    assert {"fastsam/builtin", "fastsam/FastSAM-s"} <= set(foz.list_zoo_models())
    model = foz.load_zoo_model("fastsam/builtin", conf=0.3)
    assert type(model) is FastSAMModel
    assert model.options.conf == 0.3
    forget()
