"""Object proposals: average recall of boxes and masks, whatever their class, at several numbers of proposals.

As in the paper's tables on COCO and LVIS (Zhao et al. 2023, section 4.3) and in ``pycocotools`` with ``useCats=0``.
AUC is the area under average recall over the logarithm of the number of proposals from 1 to 1000, with recall 0 at 1,
as OLN computes it (Kim et al., RA-L 2022, ``tools/compute_auc.py`` of its repository).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from fastsam_core.evaluation.coco_data import masks_of_entries
from fastsam_core.evaluation.coco_results import boxes_of_entries, scores_of_entries
from fastsam_core.evaluation.instances import COCO_SIZES, InstanceScorer
from fastsam_core.evaluation.reports import Cell, Curve, Report, Table, counted
from fastsam_core.masks import check_masks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from fastsam_core.evaluation.coco_data import CocoData
    from fastsam_core.evaluation.coco_results import CocoResults
    from fastsam_core.evaluation.truth import Truth
    from fastsam_core.masks import Masks

__all__ = ["BUDGETS", "Kind", "ProposalScorer", "add_results", "box_overlaps"]

Kind = Literal["box", "mask"]

BUDGETS = (1, 10, 30, 50, 100, 300, 500, 1000)
"""Numbers of proposals per image that average recall is computed for."""


def box_overlaps(
    first_xywh: NDArray[np.float64], second_xywh: NDArray[np.float64], crowd: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return IoU (N, M) of boxes; for crowds the overlap divided by the area of the first (``pycocotools``)."""
    from pycocotools import mask as coco

    if not len(first_xywh) or not len(second_xywh):
        return np.zeros((len(first_xywh), len(second_xywh)))
    return np.asarray(coco.iou(first_xywh, second_xywh, crowd.astype(np.uint8).tolist()), np.float64)


@dataclass
class ProposalScorer:
    """Collects images and computes average recall.

    Parameters
    ----------
    kinds : tuple of "box" and "mask"
        What to score.
    """

    kinds: tuple[Kind, ...] = ("box", "mask")
    _scorers: dict[Kind, InstanceScorer] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Make a scorer for each kind."""
        self._scorers = {kind: InstanceScorer(limits=BUDGETS, precision=False) for kind in self.kinds}

    def add(self, predicted: Masks, truth: Truth) -> None:
        """Match one image of a model's output: its boxes and its masks."""
        check_masks(predicted, "score")
        if "box" in self._scorers:
            boxes = predicted.boxes_xyxy.astype(np.float64)
            boxes[:, 2:] -= boxes[:, :2]
            self.add_boxes(boxes, predicted.scores.astype(np.float64), truth.boxes_xywh, truth.areas_px, truth.crowd)
        if "mask" in self._scorers:
            self.add_masks(predicted, truth)

    def add_masks(self, predicted: Masks, truth: Truth, scores: NDArray[np.float64] | None = None) -> None:
        """Match the masks of one image, ranked by ``scores`` or else by their own."""
        scorer = self._scorers["mask"]
        scorer.add(predicted, truth.masks, crowd=truth.crowd, truth_areas=truth.areas_px, scores=scores)

    def add_boxes(
        self,
        boxes_xywh: NDArray[np.float64],
        scores: NDArray[np.float64],
        truth_xywh: NDArray[np.float64],
        truth_areas: NDArray[np.float64],
        crowd: NDArray[np.bool_],
    ) -> None:
        """Match the boxes of one image.

        Parameters
        ----------
        boxes_xywh, scores : ndarray of shape (D, 4) and (D,)
        truth_xywh, truth_areas, crowd : ndarray of shape (G, 4), (G,) and (G,)
        """
        order = np.argsort(-scores, kind="stable")[: BUDGETS[-1]]
        boxes = np.ascontiguousarray(boxes_xywh[order])
        iou = box_overlaps(boxes, truth_xywh, crowd)
        self._scorers["box"].add_overlaps(iou, scores[order], boxes[:, 2] * boxes[:, 3], truth_areas, crowd)

    def report(self) -> Report:
        """Compute everything."""
        rows: list[tuple[Cell, ...]] = []
        values: dict[str, float] = {}
        curves = []
        images = objects = 0
        for kind, scorer in self._scorers.items():
            sizes = {size: scorer.scores(size) for size in COCO_SIZES}
            recall = sizes["all"].recall
            auc = _area_under(recall)
            large = [sizes[size].recall[1000] for size in ("small", "medium", "large")]
            rows.append((kind, recall[10], recall[100], recall[1000], auc, *large))
            values |= {f"{kind}_ar{budget}": value for budget, value in recall.items()} | {f"{kind}_auc": auc}
            for size in ("small", "medium", "large"):
                values |= {f"{kind}_ar{k}_{size}": sizes[size].recall[k] for k in (100, 1000)}
            numbers = tuple(float(budget) for budget in BUDGETS)
            heights = tuple(recall.values())
            curves.append(Curve("recall", kind, "proposals an image", "average recall", numbers, heights, log_x=True))
            images, objects = len(scorer), sizes["all"].n_truths
        values |= {"images": images, "objects": objects}
        columns = ("proposals", "AR@10", "AR@100", "AR@1000", "AUC", "AR@1000 small", "medium", "large")
        table = Table(counted(images=images, objects=objects), columns, tuple(rows))
        return Report("proposals", (table,), values, curves=tuple(curves))


def add_results(
    scorer: ProposalScorer, data: CocoData, results: CocoResults, chosen: Sequence[int] | None = None
) -> Iterator[int]:
    """Score a results file image by image, all of the data or those chosen; yields the number of images done.

    Raises
    ------
    AnnotationError
        If results belong to images that the annotations do not have, or an entry cannot be read.
    """
    results.find_images_of(data)
    image_ids = data.image_ids
    for done, index in enumerate(range(len(image_ids)) if chosen is None else chosen, start=1):
        entries = results.entries(image_ids[index], BUDGETS[-1])
        scores = scores_of_entries(entries)
        if "box" in scorer.kinds:
            scorer.add_boxes(boxes_of_entries(entries, results.path), scores, *data.boxes(index))
        if "mask" in scorer.kinds:
            masks = masks_of_entries(entries, data.image_hw(index), results.path)
            scorer.add_masks(masks, data.truth(index), scores)
        yield done


def _area_under(recall: Mapping[int, float]) -> float:
    """Integrate recall over the logarithm of the number of proposals, by trapezoids."""
    log = np.log(np.array(list(recall), np.float64)) / np.log(BUDGETS[-1])
    heights = np.array([0.0, *list(recall.values())[1:]])
    return float(np.sum(np.diff(log) * (heights[1:] + heights[:-1]) / 2))
