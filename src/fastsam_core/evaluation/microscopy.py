"""Counting and outlining objects, as in microscopy: F1 and the Data Science Bowl's score on label maps.

The Data Science Bowl 2018 (Caicedo et al., Nature Methods 2019) scores an image with the mean, over the IoU thresholds
0.5, 0.55 … 0.95, of TP / (TP + FP + FN); a data set with the mean over images. An object is found when the overlap is
above the threshold. Neither side may overlap there, so overlapping predictions are cut first, best score on top.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fastsam_core._checks import as_integer, as_number
from fastsam_core.evaluation.instances import COCO_IOUS, InstanceScorer
from fastsam_core.evaluation.reports import Curve, Report, Table, counted
from fastsam_core.masks import Masks, check_masks

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MicroscopyScorer", "without_overlap"]

_MAX_COVERED = 0.5


def without_overlap(masks: Masks, max_covered: float = _MAX_COVERED) -> Masks:
    """Cut masks so that no pixel belongs to two: the best scores keep theirs, what is then mostly gone is dropped.

    Parameters
    ----------
    masks : Masks
    max_covered : float
        A mask with a larger share than this under better ones is dropped, in [0, 1] (the merging rule of Panoptic
        Segmentation, Kirillov et al., CVPR 2019).

    Returns
    -------
    Masks
        Best score first.

    Raises
    ------
    InvalidMasksError, InvalidParameterError
        These are no masks, or the share is out of range.
    """
    check_masks(masks, "cut")
    least_free = 1 - as_number("max_covered", max_covered, 0, 1)
    labels = np.zeros(masks.image_hw, np.int32)
    kept: list[int] = []
    for index in np.argsort(-masks.scores, kind="stable").tolist():
        x0, y0, x1, y1 = masks.extents_xyxy[index].tolist()
        window = labels[y0:y1, x0:x1]
        free = masks.crop(index) & (window == 0)
        visible = int(np.count_nonzero(free))
        if visible > 0 and visible >= least_free * masks.areas_px[index]:
            kept.append(index)
            window[free] = len(kept)
    return Masks.from_label_map(labels, scores=masks.scores[kept])


@dataclass
class MicroscopyScorer:
    """Collects images and computes the figures.

    Parameters
    ----------
    conf : float
        F1, the DSB score and counts use masks of at least this score; precision (AP) uses all that are given.
    max_detections : int
        Most masks of an image that count for AP.

    Raises
    ------
    InvalidParameterError
        If one is out of range.
    """

    conf: float
    max_detections: int = 1000
    _instances: InstanceScorer = field(init=False, repr=False)
    _counts: list[NDArray[np.int64]] = field(default_factory=list, init=False, repr=False)
    _names: list[str] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the values and make the scorer of AP."""
        self.conf = as_number("conf", self.conf, 0, 1)
        self.max_detections = as_integer("max_detections", self.max_detections, 1)
        self._instances = InstanceScorer(limits=(self.max_detections,), sizes={"all": (0, 1e10)})

    def add(self, name: str, predicted: Masks, truth: Masks) -> None:
        """Match one image; where masks of ``truth`` overlap, each mask finds one of them at most."""
        self._instances.add(predicted, truth)
        found = without_overlap(predicted.filter(min_score=self.conf))
        best = found.iou(truth).max(axis=1, initial=0.0)  # no object is found twice: masks found do not overlap
        hits = (best[:, None] > COCO_IOUS[None] + 1e-12).sum(axis=0)
        self._counts.append(np.array([hits, hits * 0 + len(found), hits * 0 + len(truth)], np.int64))
        self._names.append(name)

    def dsb_scores(self) -> NDArray[np.float64]:
        """Return the Data Science Bowl's score of each image; 1 where nothing is annotated and nothing found."""
        hits, found, true = np.array(self._counts, np.int64).reshape(-1, 3, len(COCO_IOUS)).transpose(1, 0, 2)
        either = found + true - hits
        precision: NDArray[np.float64] = np.where(either > 0, hits / np.maximum(either, 1), 1.0).mean(axis=1)
        return precision

    def f1(self) -> NDArray[np.float64]:
        """Return F1 over all images at each of the ten IoU thresholds; NaN without any object on either side."""
        hits, found, true = np.sum(self._counts, axis=0)
        both = found + true
        out: NDArray[np.float64] = np.where(both > 0, 2 * hits / np.maximum(both, 1), np.nan)
        return out

    def report(self) -> Report:
        """Compute everything."""
        scores = self._instances.scores()
        dsb, f1 = self.dsb_scores(), self.f1()
        found, true = (np.array([counts[row, 0] for counts in self._counts]) for row in (1, 2))
        off = found - true
        values = {
            "ap": scores.ap,
            "ap50": scores.ap50,
            "ap75": scores.ap75,
            **{f"f1_{round(100 * iou)}": float(value) for iou, value in zip(COCO_IOUS, f1, strict=True)},
            "dsb2018": float(dsb.mean()),
            "count_error_mean_absolute": float(np.abs(off).mean()),
            "count_error_mean": float(off.mean()),
            "count_error_relative": float(np.abs(off).sum() / true.sum()) if true.sum() else float("nan"),
            "mean_best_iou": self._instances.mean_best_overlap(),
            "images": len(self._names),
            "objects": int(true.sum()),
        }
        rows = (
            ("AP (IoU 0.50:0.95)", values["ap"]),
            ("AP at IoU 0.50", values["ap50"]),
            ("AP at IoU 0.75", values["ap75"]),
            ("F1 at IoU 0.50", values["f1_50"]),
            ("F1 at IoU 0.75", values["f1_75"]),
            ("F1 at IoU 0.90", values["f1_90"]),
            ("DSB 2018 score", values["dsb2018"]),
            ("mean IoU with the best mask", values["mean_best_iou"]),
            ("count error, objects an image", values["count_error_mean_absolute"]),
            ("count error, share of all objects", values["count_error_relative"]),
        )
        title = counted(images=values["images"], objects=values["objects"])
        return Report(
            "microscopy",
            (Table(title, ("figure", "value"), rows),),
            values,
            curves=(Curve("f1", "F1", "IoU threshold", "F1", tuple(COCO_IOUS.tolist()), tuple(f1.tolist())),),
            images=tuple(
                {"image": name, "dsb2018": float(score), "found": int(n), "annotated": int(m)}
                for name, score, n, m in zip(self._names, dsb, found, true, strict=True)
            ),
        )
