"""The peer of the FiftyOne benchmark: what ``dataset.apply_model(ultralytics.FastSAM(...))`` makes of its argument."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.sides import CONF, IOU, network_module
from fastsam_core._ultralytics import import_ultralytics

if TYPE_CHECKING:
    from fastsam_core.testing import SyntheticHead

__all__ = ["bridged_peer"]


def bridged_peer(architecture: str, imgsz: int, head: SyntheticHead) -> Any:
    """Return ``ultralytics.FastSAM`` as FiftyOne's own converter wraps it, with ``retina_masks=True`` as it sets it.

    The real forward pass runs; its output is then replaced by the head, as on our side. FiftyOne letterboxes images to
    squares, so the head is moved into the middle of a square.
    """
    import fiftyone.utils.ultralytics as fouu
    import torch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "FastSAM-benchmark.pt"
        torch.save({"model": network_module(architecture), "train_args": {"task": "segment"}}, path)
        model: Any = import_ultralytics("ultralytics.models.fastsam").FastSAM(str(path))
    model.overrides.update(conf=CONF, iou=IOU, imgsz=imgsz, max_det=300)
    model.predictor = None
    wrapped = fouu.convert_ultralytics_model(model)
    output, prototypes = (torch.from_numpy(array) for array in _in_a_square(head, imgsz))
    forward = model.predictor.inference

    def inference(batch: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        forward(batch, *args, **kwargs)
        count = len(batch)
        # a copy: Ultralytics' suppression step writes into it
        return (output.repeat(count, 1, 1), prototypes.expand(count, -1, -1, -1)), {}

    model.predictor.inference = inference
    return wrapped


def _in_a_square(head: SyntheticHead, imgsz: int) -> tuple[Any, Any]:
    """Return output and prototypes of the same objects in an input padded to a square."""
    down, right = ((imgsz - side) // 2 for side in head.letterbox.network_hw)
    output = head.output.copy()
    output[:, 0] += right
    output[:, 1] += down
    sizes_pads = zip(head.prototypes.shape[2:], (down // 4, right // 4), strict=True)
    margins = [(pad, imgsz // 4 - size - pad) for size, pad in sizes_pads]
    return output, np.ascontiguousarray(np.pad(head.prototypes, [(0, 0), (0, 0), *margins], mode="edge"))
