"""Greedy non-maximum suppression, compiled.

The same arithmetic as ``torchvision.ops.nms`` on a CPU, to the last bit. Importing torchvision's operators would load
torch's compiler (seconds, and a folder in the temporary directory) for this one function.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastsam_core._jit import njit

__all__ = ["keep_best"]


def keep_best(
    boxes_xyxy: npt.NDArray[np.float32], scores: npt.NDArray[np.float32], iou: float, max_det: int
) -> npt.NDArray[np.int64]:
    """Return the boxes to keep, best score first.

    Parameters
    ----------
    boxes_xyxy : float32 array (N, 4)
    scores : float32 array (N,)
    iou : float
        A box that overlaps a better one by more than this is dropped.
    max_det : int
        Boxes to keep at most.

    Returns
    -------
    int64 array (K,)
        Indices; of equal scores the earlier box counts as the better one.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = np.ascontiguousarray(boxes_xyxy[order], dtype=np.float32)
    kept: npt.NDArray[np.int64] = order[_keep_ranked(ranked, iou, max_det)]
    return kept


@njit
def _keep_ranked(boxes: npt.NDArray[np.float32], iou: float, max_det: int) -> npt.NDArray[np.int64]:
    """Suppress among boxes in descending order of score; everything in float32, as torchvision does."""
    count = len(boxes)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    dropped = np.zeros(count, dtype=np.bool_)
    kept = np.empty(min(count, max_det), dtype=np.int64)
    found = 0
    for i in range(count):
        if dropped[i]:
            continue
        kept[found] = i
        found += 1
        if found == len(kept):
            break
        for j in range(i + 1, count):
            width = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
            height = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
            if width <= 0 or height <= 0:
                continue
            shared = width * height
            dropped[j] |= shared / (areas[i] + areas[j] - shared) > iou
    return kept[:found]
