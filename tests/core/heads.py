"""A network whose one answer is made up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fastsam_core.testing import synthetic_head

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class HeadNetwork:
    """Gives one made-up head whatever the image."""

    def __init__(self, n_masks: int, image_hw: tuple[int, int], imgsz: int) -> None:
        self.head = synthetic_head(n_masks, image_hw, imgsz, seed=4)

    def forward(self, batch_bhwc: npt.NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        assert batch_bhwc.shape[1:3] == self.head.letterbox.network_hw
        return torch.from_numpy(self.head.output), torch.from_numpy(self.head.prototypes)
