"""Instance segmentation with the boxes of a detector as prompts, as in the paper's experiment with ViTDet.

Zhao et al. 2023, section 4.4: each box of the detector selects a mask by its bounding box; classes and scores are the
detector's. Average precision is COCO's, class by class.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fastsam_core.errors import AnnotationError
from fastsam_core.evaluation.coco_data import category_of
from fastsam_core.evaluation.coco_results import boxes_of_entries, scores_of_entries
from fastsam_core.evaluation.instances import COCO_SIZES, InstanceScorer
from fastsam_core.evaluation.reports import Report, Table, counted, mean
from fastsam_core.prompts import Box, match

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from fastsam_core.evaluation.coco_data import CocoData
    from fastsam_core.evaluation.coco_results import CocoResults
    from fastsam_core.evaluation.truth import Truth
    from fastsam_core.masks import Masks
    from fastsam_core.model import FastSAM

__all__ = ["CategoryScorer", "iter_boxes_as_prompts", "masks_for_boxes"]

_LIMITS = (1, 10, 100)
_MOST_ENTRIES = 10_000


@dataclass
class CategoryScorer:
    """COCO's average precision, class by class; equal to ``pycocotools`` with its defaults."""

    _scorers: dict[int, InstanceScorer] = field(default_factory=dict, init=False, repr=False)
    _images: int = field(default=0, init=False, repr=False)

    def add(
        self,
        predicted: Masks,
        categories: Sequence[int],
        scores: NDArray[np.float64],
        truth: Truth,
        truth_categories: Sequence[int],
    ) -> None:
        """Match one image.

        Parameters
        ----------
        predicted : Masks
        categories, scores
            Class and score of each predicted mask.
        truth : Truth
        truth_categories
            Class of each annotated object.
        """
        self._images += 1
        of_predicted, of_truth = np.asarray(categories, np.int64), np.asarray(truth_categories, np.int64)
        for category in np.union1d(of_predicted, of_truth).tolist():
            here, there = np.flatnonzero(of_predicted == category), np.flatnonzero(of_truth == category)
            self._scorers.setdefault(category, InstanceScorer(limits=_LIMITS)).add(
                predicted[here],
                truth.masks[there],
                crowd=truth.crowd[there],
                truth_areas=truth.areas_px[there],
                scores=scores[here],
            )

    def report(self) -> Report:
        """Average over the classes that have objects."""
        sizes = {size: [scorer.scores(size) for scorer in self._scorers.values()] for size in COCO_SIZES}
        known = {size: [scores for scores in found if scores.n_truths > 0] for size, found in sizes.items()}
        values = {
            "ap": mean([scores.ap for scores in known["all"]]),
            "ap50": mean([scores.ap50 for scores in known["all"]]),
            "ap75": mean([scores.ap75 for scores in known["all"]]),
            **{f"ap_{size}": mean([scores.ap for scores in known[size]]) for size in ("small", "medium", "large")},
            "ar100": mean([scores.recall[100] for scores in known["all"]]),
            "images": self._images,
            "objects": sum(scores.n_truths for scores in known["all"]),
            "classes": len(known["all"]),
        }
        title = counted(images=values["images"], objects=values["objects"], classes=values["classes"])
        columns = ("AP", "AP50", "AP75", "AP small", "medium", "large")
        row = tuple(values[name] for name in ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"))
        return Report("instances", (Table(title, columns, (row,)),), values)


def masks_for_boxes(
    masks: Masks, entries: Sequence[dict[str, Any]], path: Path
) -> tuple[Masks, list[int], NDArray[np.float64]]:
    """Select a mask for each box of a detector.

    Returns
    -------
    masks : Masks
        One for each box that touches any mask.
    categories : list of int
    scores : ndarray
        Class and score of their boxes.
    """
    boxes = boxes_of_entries(entries, path)
    if np.any(boxes[:, 2:] < 0):
        raise AnnotationError(f"A box of {path} has a negative side", expected="bbox: [x, y, width, height]")
    boxes[:, 2:] += boxes[:, :2]
    found = match(masks, Box(boxes, min_iou=0.0)).index
    kept = np.flatnonzero(found >= 0)
    categories = [category_of(entries[place], path) for place in kept.tolist()]
    return masks[found[kept]], categories, scores_of_entries(entries)[kept]


def iter_boxes_as_prompts(
    scorer: CategoryScorer,
    data: CocoData,
    detections: CocoResults,
    model: FastSAM,
    chosen: Sequence[int],
    **search: Any,
) -> Generator[int, None, None]:
    """Segment images, prompt with the detector's boxes, and score; yields the images done.

    Parameters
    ----------
    scorer, data, detections, model
    chosen : sequence of int
        Which images.
    **search
        ``conf``, ``iou``, ``max_det``, ``imgsz``, as in `fastsam_core.FastSAM.segment`.

    Raises
    ------
    AnnotationError
        If detections belong to images that the annotations do not have, or an entry cannot be read.
    """
    from fastsam_core.evaluation.truth import iter_predictions

    detections.find_images_of(data)
    with closing(iter_predictions(data, model, chosen, **search)) as steps:
        for index, masks, truth in steps:
            entries = detections.entries(data.image_ids[index], _MOST_ENTRIES)
            scorer.add(*masks_for_boxes(masks, entries, detections.path), truth, data.categories(index))
            yield index
