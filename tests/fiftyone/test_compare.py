"""Where two fields disagree: boxes, the pixels of masks, duplicates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np
import pytest

from fastsam_core.errors import InvalidParameterError
from fastsam_core.masks import Masks
from fiftyone_fastsam import compare, to_detections
from fiftyone_fastsam.compare import compare_fields
from fiftyone_fastsam.errors import InvalidTargetError, LabelFieldError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_comparing_two_fields(dataset: Any) -> None:
    def detections(*boxes: list[float]) -> Any:
        return fo.Detections(detections=[fo.Detection(label="x", bounding_box=box) for box in boxes])

    a, b = [0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]
    first, second, third = dataset
    first["one"], first["two"] = detections(a, b), detections(a, b, b)
    second["one"], second["two"] = detections(a), detections([0.0, 0.0, 0.5, 0.25], b)
    third["one"], third["two"] = detections(), None
    for sample in (first, second, third):
        sample.save()
    found = list(compare_fields(dataset, "one", "two"))
    assert [(c.agreement, c.unmatched_first, c.unmatched_second, c.duplicates_second) for c in found] == [
        (1.0, 0, 0, 1),
        (pytest.approx(1 / 3), 0, 1, 0),
        (None, 0, 0, 0),
    ]
    assert dataset.values("two_vs_one") == [1.0, pytest.approx(1 / 3), None]
    assert dataset.first().two.detections[2].duplicate
    assert dataset.last().two is None
    with pytest.raises(LabelFieldError):
        compare_fields(dataset, "one", "filepath")
    with pytest.raises(InvalidParameterError, match="min_iou"):
        compare_fields(dataset, "one", "two", min_iou=50)


def test_fields_that_cannot_be_compared_say_why(make_dataset: Callable[..., Any], tmp_path: Path) -> None:
    videos = make_dataset(paths=[tmp_path / "some.mp4"])
    with pytest.raises(InvalidTargetError, match="Videos cannot be compared"):
        compare_fields(videos, "frames.one", "frames.two")
    with pytest.raises(LabelFieldError, match="Two fields of Detections"):
        compare_fields(make_dataset(), "masks.detections", "boxes.detections")


@pytest.mark.parametrize("with_metadata", [False, True])
def test_masks_are_compared_by_their_pixels(dataset: Any, with_metadata: bool) -> None:
    stack = np.zeros((3, 96, 128), bool)
    stack[0, 10:30, 10:30] = True
    stack[1, 10:30, 10:30] = np.eye(20, dtype=bool)  # the same box, a twentieth of the pixels
    stack[2, 50:70, 50:90] = True
    sample = dataset.first()
    if with_metadata:
        dataset.compute_metadata(progress=False)
        sample.reload()
    sample["one"] = to_detections(Masks.from_dense(stack[[0, 2]]))
    sample["two"] = to_detections(Masks.from_dense(stack[[1, 2]]))
    bare = fo.Detection(label="box only", bounding_box=[10 / 128, 10 / 96, 20 / 128, 20 / 96])
    sample.two.detections.append(bare)
    sample.save()
    [found] = compare_fields(dataset[:1], "one", "two")
    sample.reload()
    assert [d.best_iou for d in sample.one.detections] == pytest.approx([1.0, 1.0], abs=1e-6)
    assert [d.best_iou for d in sample.two.detections] == pytest.approx([0.05, 1.0, 1.0], abs=1e-6)
    assert (found.unmatched_first, found.unmatched_second, found.duplicates_second) == (0, 1, 1)


def test_labels_that_are_not_whole_count_as_what_there_is_of_them(dataset: Any) -> None:
    box, square = [0.0, 0.0, 0.5, 0.5], np.ones((48, 64), bool)
    sample = dataset.first()
    sample["one"] = fo.Detections(
        detections=[
            fo.Detection(label="no box"),
            fo.Detection(label="empty", bounding_box=[0.5, 0.5, 0, 0], mask=square),
            fo.Detection(label="lost file", bounding_box=box, mask_path="/no/such/mask.png"),
        ]
    )
    sample["two"] = fo.Detections(detections=[fo.Detection(label="whole", bounding_box=box, mask=square)])
    sample.save()
    assert len(list(compare_fields(dataset, "one", "two"))) == len(dataset)
    sample.reload()
    assert [d.best_iou for d in sample.one.detections] == [0, 0, 1]
    assert [d.best_iou for d in sample.two.detections] == [1]


def test_fields_that_a_view_hides_are_compared(dataset: Any) -> None:
    for name in ("one", "two"):
        dataset.set_values(name, [fo.Detections(detections=[fo.Detection(bounding_box=[0, 0, 1, 1])])] * len(dataset))
    assert [found.agreement for found in compare_fields(dataset.select_fields("one"), "one", "two")] == [1] * 3


def test_a_field_of_the_agreements_name_is_left_alone(dataset: Any) -> None:
    for name in ("one", "two"):
        dataset.add_sample_field(name, fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    dataset.add_sample_field("two_vs_one", fo.StringField)
    with pytest.raises(LabelFieldError, match="agreement"):
        compare_fields(dataset, "one", "two")


@pytest.fixture
def pair(dataset: Any) -> Any:
    """Return a dataset with the fields "one" and "two", of one label for each sample."""
    for name in ("one", "two"):
        dataset.set_values(name, [fo.Detections(detections=[fo.Detection(bounding_box=[0, 0, 1, 1])])] * len(dataset))
    return dataset


@pytest.mark.parametrize("name", ["one", "two", "two_vs_one", "two.detections.duplicate"])
def test_read_only_fields_are_not_compared(pair: Any, name: str) -> None:
    if "_" in name or "." in name:
        list(compare_fields(pair, "one", "two"))
    schema = sorted(pair.get_field_schema(flat=True))
    field = pair.get_field(name)
    field.read_only = True
    field.save()
    with pytest.raises(LabelFieldError, match=f"'{name}' is read-only"):
        compare_fields(pair, "one", "two")
    assert sorted(pair.get_field_schema(flat=True)) == schema


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(("name", "attribute"), [("one", "best_iou"), ("two", "best_iou"), ("two", "duplicate")])
def test_attributes_of_the_agreements_names_are_left_alone(
    pair: Any, name: str, attribute: str, declared: bool
) -> None:
    sample = pair.last()
    sample[name].detections[0][attribute] = "mine"
    sample.save()
    if declared:
        pair.add_dynamic_sample_fields()
    schema = sorted(pair.get_field_schema(flat=True))
    with pytest.raises(LabelFieldError, match=f"{attribute}.* is needed for the agreement"):
        compare_fields(pair, "one", "two")
    assert sorted(pair.get_field_schema(flat=True)) == schema
    assert pair.last()[name].detections[0][attribute] == "mine"


def test_samples_and_labels_that_are_deleted_meanwhile(dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def detections(*heights: float) -> Any:
        return fo.Detections(detections=[fo.Detection(bounding_box=[0.0, 0.0, 1.0, height]) for height in heights])

    dataset.set_values("one", [detections(1.0)] * 3)
    dataset.set_values("two", [detections(1.0), detections(0.5, 0.25), detections(0.75)])
    shapes, seen = compare._shapes, []

    def deleting(sample: Any, stored: list[Any]) -> Any:
        seen.append(sample.id)
        if len(seen) == 3:
            dataset.delete_samples(seen[:1])
            dataset.delete_labels(ids=[dataset.first().two.detections[0].id], fields="two")
        return shapes(sample, stored)

    monkeypatch.setattr(compare, "_shapes", deleting)
    assert len(list(compare_fields(dataset, "one", "two"))) == 3
    assert dataset.values("two.detections.best_iou") == [[0.25], [0.75]]
    assert dataset.values("two_vs_one") == [pytest.approx((0.5 + 0.5 + 0.25) / 3), 0.75]
