"""Where two fields disagree: boxes, the pixels of masks, duplicates."""

from __future__ import annotations

from typing import Any

import fiftyone as fo
import numpy as np
import pytest

from fastsam_core.masks import Masks
from fiftyone_fastsam import to_detections
from fiftyone_fastsam.compare import compare_fields
from fiftyone_fastsam.errors import LabelFieldError


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
