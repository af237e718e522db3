"""The network in torch: fused convolutions, channels-last memory, optionally half precision."""

from __future__ import annotations

import threading
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["TorchNetwork", "fuse"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def fuse(module: torch.nn.Module) -> Any:
    """Merge each batch normalisation into the convolution before it; the module is changed and returned."""
    whole: Any = module
    return whole.eval().fuse(verbose=False)


class TorchNetwork:
    """Runs the network with torch on a CPU or GPU.

    Parameters
    ----------
    module : torch module
        An Ultralytics ``SegmentationModel``; it is taken over and changed.
    device : str
        torch's name of the device.
    precision : str
        ``"fp32"``, ``"bf16"`` or ``"fp16"``. With half precision the convolutions run in it, while boxes are
        decoded and scores computed in float32: eight significant bits would move boxes by several pixels.
    """

    def __init__(self, module: torch.nn.Module, device: str = "cpu", precision: str = "fp32") -> None:
        self._device = torch.device(device)
        self._dtype = _DTYPES[precision]
        network = fuse(module)
        if self._dtype is not torch.float32:
            head = network.model[-1]
            head._inference = MethodType(_decode_in_float32, head)
            network = network.to(self._dtype)
            head.dfl.float()
        self._network = network.to(device=self._device, memory_format=torch.channels_last)
        # The head keeps the anchors of the last input size: one forward pass at a time.
        self._lock = threading.Lock()

    @torch.inference_mode()
    def forward(self, batch_bhwc: npt.NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the network; see `fastsam_core.network.Network`."""
        batch = torch.from_numpy(batch_bhwc)
        if self._device.type == "cuda":
            batch = batch.pin_memory().to(self._device, non_blocking=True)
        else:
            batch = batch.to(self._device)
        # uint8 (B, h, w, 3) seen as (B, 3, h, w) is channels-last already
        images = (batch.permute(0, 3, 1, 2).float() / 255).to(self._dtype)
        with self._lock:
            (predictions, prototypes), _raw = self._network(images)
        return predictions.float(), prototypes.float()


def _decode_in_float32(head: Any, raw: dict[str, Any]) -> torch.Tensor:
    """Stand in for ``Segment._inference``: the same computation on float32 copies of the raw maps."""
    wide = {name: value.float() for name, value in raw.items() if isinstance(value, torch.Tensor)}
    # anchors are made from the maps' size and type only
    sizes = [features[:, :1].float() for features in raw["feats"]]
    decoded: torch.Tensor = type(head)._inference(head, {**wide, "feats": sizes})
    return decoded
