"""Edge maps from masks: FastSAM as a zero-shot edge detector.

Zhao et al. 2023 (arXiv 2306.12156, section 4.2) after Kirillov et al. 2023 (arXiv 2304.02643, section 7.2): the
probability maps of all masks are filtered with Sobel, kept along the outlines of their masks, combined into one map,
brought to [0, 1], and thinned by non-maximum suppression across the edges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from fastsam_core._checks import as_number, described
from fastsam_core.decode import logit_thresholds
from fastsam_core.errors import InvalidParameterError
from fastsam_core.network import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["COMBINATIONS", "Combination", "edge_map", "suppress_beside_ridges"]

Combination = Literal["sum", "max"]
COMBINATIONS: Final[tuple[Combination, ...]] = ("sum", "max")

_RIDGE_SIGMA_PX = 2.0
_TIE = 1.01
_SHARED_BY = np.float32(6)
"""So many masks with the same sharp outline give an edge of strength 0.63."""


def edge_map(
    prediction: Prediction, *, combine: Combination = "sum", blur_px: float = 1.0, thin: bool = True
) -> NDArray[np.float32]:
    """Turn the masks of one image into a map of edge strength.

    Computed at the resolution of the prototypes and enlarged: a few milliseconds for hundreds of masks.

    Parameters
    ----------
    prediction : Prediction
        What the network found (`FastSAM.predict`); many masks are good here, so use a low ``conf`` and a high
        ``max_det``.
    combine : {"sum", "max"}
        Add up the outlines of all masks, so that those which many masks share count more; or take the strongest at
        each place (as Segment Anything does). Scores have no influence: a weak mask often has a good outline.
    blur_px : float
        Sigma of the Gaussian applied before thinning, in image pixels.
    thin : bool
        Suppress what lies beside the ridges.

    Returns
    -------
    ndarray of shape (H, W), float32
        In [0, 1]. With ``"max"`` the strongest edge is 1; sums are brought into the range by ``1 - exp(-sum / 6)``, the
        same for all images. Zeros without masks.

    Raises
    ------
    InvalidParameterError
        If `combine` is unknown, `blur_px` negative or larger than the image, or the prediction none.
    """
    import cv2

    from fastsam_core._edge_kernels import outline_gradients

    if combine not in COMBINATIONS:
        raise InvalidParameterError("Unknown combination", expected="'sum' or 'max'", actual=repr(combine))
    if not isinstance(prediction, Prediction):
        raise InvalidParameterError(
            "This is no prediction to draw edges of",
            expected="a Prediction",
            actual=described(prediction),
            remedy="let FastSAM.predict(image) make one",
        )
    height, width = prediction.letterbox.source_hw
    blur_px = as_number("blur_px", blur_px, 0, max(height, width))
    y0, x0, y1, x1 = _content_cells(prediction)
    windows = _cells_of_boxes(prediction) - np.array((x0, y0, x0, y0), np.int32)
    windows = np.clip(windows, 0, (x1 - x0, y1 - y0, x1 - x0, y1 - y0)).astype(np.int32)
    content = np.ascontiguousarray(prediction.prototypes[:, y0:y1, x0:x1])
    limits = logit_thresholds(prediction)
    strength = outline_gradients(content, prediction.coefficients, windows, limits, combine == "sum")
    if combine == "sum":
        strength = 1 - np.exp(-strength / _SHARED_BY)
    edges = np.asarray(cv2.resize(strength, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    if blur_px > 0:
        edges = np.asarray(cv2.GaussianBlur(edges, (0, 0), blur_px, borderType=cv2.BORDER_REFLECT), np.float32)
    if thin:
        edges = suppress_beside_ridges(edges)
    strongest = float(edges.max()) if combine == "max" else 1.0
    return edges / np.float32(strongest) if strongest > 0 else edges


def suppress_beside_ridges(edges: NDArray[np.float32]) -> NDArray[np.float32]:
    """Set to zero what is weaker than a neighbour one pixel away across the edge.

    Parameters
    ----------
    edges : ndarray of shape (H, W), float32
        Smooth edge strength.

    Returns
    -------
    ndarray of shape (H, W), float32

    Notes
    -----
    As in Structured Edges (Dollár and Zitnick, PAMI 2015), with the direction across an edge taken from the Hessian:
    the eigenvector of the strongest curvature.
    """
    from scipy.ndimage import gaussian_filter, map_coordinates

    yy, xy, xx = (gaussian_filter(edges, _RIDGE_SIGMA_PX, order=order) for order in ((2, 0), (1, 1), (0, 2)))
    across = 0.5 * np.arctan2(2 * xy, xx - yy) + np.where(xx + yy < 0, np.pi / 2, 0)
    dy, dx = np.sin(across), np.cos(across)
    y, x = np.mgrid[: edges.shape[0], : edges.shape[1]]
    beside = np.maximum(
        map_coordinates(edges, (y + dy, x + dx), order=1, mode="nearest"),
        map_coordinates(edges, (y - dy, x - dx), order=1, mode="nearest"),
    )
    ridge = edges * _TIE >= beside
    return np.where(ridge, edges, np.float32(0)).astype(np.float32)


def _content_cells(prediction: Prediction) -> tuple[int, int, int, int]:
    """Return the prototype cells that show the image, not padding: y0, x0, y1, x1."""
    plan = prediction.letterbox
    _, cells_h, cells_w = prediction.prototypes.shape
    stride_y, stride_x = plan.network_hw[0] / cells_h, plan.network_hw[1] / cells_w
    (pad_y, pad_x), (content_h, content_w) = plan.pad_yx, plan.resized_hw
    y0, x0 = round(pad_y / stride_y), round(pad_x / stride_x)
    y1, x1 = round((pad_y + content_h) / stride_y), round((pad_x + content_w) / stride_x)
    return y0, x0, max(y1, y0 + 1), max(x1, x0 + 1)


def _cells_of_boxes(prediction: Prediction) -> NDArray[np.int32]:
    """Return the prototype cells that each box touches and one more around (N, 4), half-open.

    The gradient of an outline along the side of a box is shared by the cells on both sides.
    """
    _, cells_h, cells_w = prediction.prototypes.shape
    network_h, network_w = prediction.letterbox.network_hw
    scale = np.array((cells_w / network_w, cells_h / network_h) * 2)
    boxes = np.nan_to_num(prediction.boxes_network_xyxy.astype(np.float64)) * scale
    return np.concatenate([np.floor(boxes[:, :2]) - 1, np.ceil(boxes[:, 2:]) + 1], axis=1).astype(np.int32)
