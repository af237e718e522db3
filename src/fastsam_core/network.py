"""From the network's raw output to one `Prediction` an image: suppression of duplicates, boxes in image pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from fastsam_core._suppression import keep_best

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from fastsam_core.geometry import Letterbox

__all__ = ["Network", "Prediction", "suppress"]

Float32Array = npt.NDArray[np.float32]
UInt8Array = npt.NDArray[np.uint8]

_MAX_CANDIDATES = 30_000
"""Boxes that enter suppression at most, best first (``max_nms`` in Ultralytics)."""


class Network(Protocol):
    """What `FastSAM` needs of a network, whichever library runs it.

    Anything with this method can take a real network's place, in tests and benchmarks for example.
    """

    def forward(self, batch_bhwc: UInt8Array) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the network on a batch of letterboxed images.

        Parameters
        ----------
        batch_bhwc : uint8 array (B, h, w, 3)
            RGB images, C-contiguous; h and w are multiples of the network's stride.

        Returns
        -------
        predictions : float32 tensor (B, 5 + k, A)
            For each of A anchors: centre x, centre y, width, height in network pixels, score in [0, 1], and k mask
            coefficients. On any device.
        prototypes : float32 tensor (B, k, h / 4, w / 4)
            Prototype maps.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What the network found in one image, after suppression; everything on the CPU.

    Parameters
    ----------
    boxes_xyxy : float32 array (N, 4)
        Boxes in image pixels, clipped to the image; best score first.
    scores : float32 array (N,)
        In [0, 1].
    boxes_network_xyxy : float32 array (N, 4)
        The same boxes in pixels of the letterboxed network input, not clipped.
    coefficients : float32 array (N, k)
        Mask coefficients; k is 32 for FastSAM.
    prototypes : float32 array (k, ph, pw)
        Prototype maps of the letterboxed input at a quarter of its size, C-contiguous. A mask's logits are
        ``coefficients @ prototypes``.
    letterbox : Letterbox
        Where the image lies in the network input.
    mask_threshold : float
        Probability above which a pixel belongs to a mask, in (0, 1).
    own_thresholds : float32 array (N,), optional
        The same for each mask, where they differ, and then used instead (`fastsam_core.cuts.follow_masks`).
    """

    boxes_xyxy: Float32Array
    scores: Float32Array
    boxes_network_xyxy: Float32Array
    coefficients: Float32Array
    prototypes: Float32Array
    letterbox: Letterbox
    mask_threshold: float = 0.5
    own_thresholds: Float32Array | None = None

    def __len__(self) -> int:
        """Return the number of boxes."""
        return len(self.scores)


def suppress(
    predictions: torch.Tensor,
    prototypes: torch.Tensor,
    letterboxes: Sequence[Letterbox],
    *,
    conf: float,
    iou: float,
    max_det: int,
) -> list[Prediction]:
    """Drop weak and duplicate boxes and move the rest to image pixels.

    Greedy non-maximum suppression, equal to Ultralytics' ``non_max_suppression`` for one class. Of the boxes only
    those above ``conf`` are copied to the CPU.

    Parameters
    ----------
    predictions, prototypes : tensors
        As returned by `Network.forward`.
    letterboxes : sequence of Letterbox
        One for each image of the batch.
    conf : float
        Boxes need a score above this, in [0, 1].
    iou : float
        A box that overlaps a better one by more than this is dropped, in [0, 1].
    max_det : int
        Boxes to keep at most in each image.

    Returns
    -------
    list of Prediction
        One for each image, best score first.
    """
    import torch

    with torch.inference_mode():
        return [
            _suppress_one(rows, maps, plan, conf, iou, max_det)
            for rows, maps, plan in zip(predictions, prototypes, letterboxes, strict=True)
        ]


def _suppress_one(
    columns: torch.Tensor, prototypes: torch.Tensor, letterbox: Letterbox, conf: float, iou: float, max_det: int
) -> Prediction:
    import torch

    candidates = columns[:, columns[4] > conf].T.float()
    if len(candidates) > _MAX_CANDIDATES:
        candidates = candidates[candidates[:, 4].argsort(descending=True)[:_MAX_CANDIDATES]]
    centres, half_sides = candidates[:, :2], candidates[:, 2:4] / 2
    boxes = torch.cat((centres - half_sides, centres + half_sides), dim=1).cpu().numpy()
    rows = candidates.cpu().numpy()
    kept = keep_best(boxes, rows[:, 4], iou, max_det)
    boxes_network = boxes[kept]
    return Prediction(
        boxes_xyxy=letterbox.to_image(boxes_network),
        scores=rows[kept, 4],
        boxes_network_xyxy=boxes_network,
        coefficients=rows[kept, 5:],
        # channels last from most networks; put in order where it is, a GPU does so faster
        prototypes=prototypes.float().contiguous().cpu().numpy(),
        letterbox=letterbox,
    )
