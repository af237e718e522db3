"""The two sides of every comparison: this project and ``ultralytics.FastSAM``, with one network and one output.

Both run the real forward pass of the same network with calibrated random weights; its output is then replaced by the
same made-up head (:func:`fastsam_core.testing.synthetic_head`), so that both get as many masks of realistic size.
"""

from __future__ import annotations

import copy
import tempfile
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastsam_core._threads import available_cores
from fastsam_core._ultralytics import import_ultralytics
from fastsam_core.checkpoints import ModelInfo, build_module
from fastsam_core.model import FastSAM
from fastsam_core.testing import SyntheticHead, synthetic_head

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from fastsam_core.network import Network

__all__ = ["CONF", "IOU", "Peer", "SyntheticNetwork", "head_for", "make_ours", "make_photo", "network_module"]

UInt8Array = npt.NDArray[np.uint8]

CONF, IOU = 0.4, 0.9
_SEED = 0


@lru_cache(maxsize=2)
def make_photo(image_hw: tuple[int, int]) -> UInt8Array:
    """Make a smooth colourful RGB image (H, W, 3)."""
    import cv2

    coarse = np.random.default_rng(_SEED).integers(0, 256, (24, 36, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, image_hw[::-1], interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


@lru_cache(maxsize=4)
def head_for(n_masks: int, image_hw: tuple[int, int], imgsz: int) -> SyntheticHead:
    """Make the head output that both sides get."""
    return synthetic_head(n_masks, image_hw, imgsz, _SEED)


@lru_cache(maxsize=1)
def _calibrated_module(architecture: str) -> torch.nn.Module:
    import torch

    torch.manual_seed(_SEED)
    module = build_module(architecture)
    norms = [part for part in module.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    module.train()
    with torch.no_grad():
        module(torch.rand(4, 3, 128, 160))
    return module.eval()


def network_module(architecture: str) -> torch.nn.Module:
    """Return a network with random weights whose normalisation fits, so that numbers stay in their usual range."""
    return copy.deepcopy(_calibrated_module(architecture))


class SyntheticNetwork:
    """A real network whose output is replaced after it has been computed.

    Parameters
    ----------
    network : Network or None
        Runs first; None for measurements of what comes after.
    head : SyntheticHead
        What to return.
    device : str
        Where the output lies, as that of a network that runs there.
    """

    def __init__(self, network: Network | None, head: SyntheticHead, device: str = "cpu") -> None:
        self._network = network
        self._output, self._prototypes = _tensors(head, device)

    def forward(self, batch_bhwc: UInt8Array) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the real network, forget what it says, and return the head."""
        if self._network is not None:
            self._network.forward(batch_bhwc)
        return self._output.clone(), self._prototypes


def _tensors(head: SyntheticHead, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    return torch.from_numpy(head.output.copy()).to(device), torch.from_numpy(head.prototypes).to(device)


def make_ours(network: Network | None, head: SyntheticHead, imgsz: int, device: str = "cpu") -> FastSAM:
    """Make this project's side."""
    info = ModelInfo(name="benchmark", imgsz=imgsz, conf=CONF, iou=IOU)
    return FastSAM(SyntheticNetwork(network, head, device), info)


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Peer:
    """``ultralytics.FastSAM`` as a user would call it.

    Parameters
    ----------
    architecture : str
        Network; loaded from a checkpoint file as Ultralytics does.
    imgsz : int
        Longer side of the network's input.
    tuned : bool
        Set its ``channels_last=True`` and give it all cores. Without, it has its defaults: it chooses the memory layout
        itself and takes one core less than there are.
    device : str
        Where it runs.
    half : bool
        In half precision.
    """

    def __init__(self, architecture: str, imgsz: int, *, tuned: bool, device: str = "cpu", half: bool = False) -> None:
        import torch

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "FastSAM-benchmark.pt"
            torch.save({"model": network_module(architecture), "train_args": {"task": "segment"}}, path)
            self._model: Any = import_ultralytics("ultralytics.models.fastsam").FastSAM(str(path))
        self._settings = {
            "conf": CONF,
            "iou": IOU,
            "imgsz": imgsz,
            "max_det": 300,
            "device": device,
            "channels_last": True if tuned else None,
            "verbose": False,
            **({"half": True} if half else {}),
        }
        self._tuned = tuned
        self._threads = available_cores()
        self._device, self._dtype = device, torch.float16 if half else torch.float32
        self._head: SyntheticHead | None = None
        self._raw: tuple[torch.Tensor, torch.Tensor] | None = None
        self._wrapped: Any = None

    def use(self, head: SyntheticHead) -> None:
        """Replace the network's output from now on."""
        self._head = head
        output, prototypes = _tensors(head, self._device)
        self._raw = output.to(self._dtype), prototypes.to(self._dtype)

    def segment(self, photo: UInt8Array, *, retina_masks: bool) -> Any:
        """Run everything mode on an RGB photo; returns Ultralytics' result."""
        import torch

        bgr = photo[..., ::-1]
        if self._wrapped is None:
            # the first call makes the predictor; its network runs on a small image
            with _torch_threads(self._threads):
                self._model.predict(np.zeros((32, 32, 3), dtype=np.uint8), **{**self._settings, "imgsz": 32})
                if not self._tuned:
                    self._threads = torch.get_num_threads()  # as Ultralytics has just set it
            self._wrapped = self.predictor.inference

            def inference(batch: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
                self._wrapped(batch, *args, **kwargs)
                return self.raw_output()

            self.predictor.inference = inference
        with _torch_threads(self._threads):
            return self._model.predict(np.ascontiguousarray(bgr), retina_masks=retina_masks, **self._settings)[0]

    def raw_output(self) -> Any:
        """Return the head as Ultralytics' network does; a copy, because its suppression step writes into it."""
        if self._raw is None:
            raise RuntimeError("use() comes first")
        output, prototypes = self._raw
        return (output.clone(), prototypes), {}

    def after_forward(self, photo: UInt8Array, *, retina_masks: bool) -> Any:
        """Do only what comes after the forward pass; :meth:`segment` must have run once with this photo."""
        import torch

        if self._head is None:
            raise RuntimeError("use() comes first")
        self.predictor.args.retina_masks = retina_masks
        image = torch.empty(1, 3, *self._head.letterbox.network_hw)
        with torch.inference_mode(), _torch_threads(self._threads):
            return self.predictor.postprocess(self.raw_output(), image, [photo])[0]

    @property
    def predictor(self) -> Any:
        """Ultralytics' predictor, which answers prompts."""
        return self._model.predictor
