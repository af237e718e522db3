"""Speed on a GPU next to ``ultralytics.FastSAM``; measures nothing where there is no NVIDIA GPU."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.harness import Benchmark, Row, Scale, median_ms
from benchmarks.sides import Peer, head_for, make_ours, make_photo, network_module
from fastsam_core.runtimes import create_network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastsam_core.network import Network, UInt8Array

__all__ = ["BENCHMARKS", "end_to_end"]

_NETWORKS = ("yolov8s-seg", "yolov8x-seg")
"""Those of FastSAM-s and FastSAM-x."""
_PEER_MASKS = {"retina, copied to memory": (True, True), "retina, left on the GPU": (True, False)} | {
    "low resolution, left on the GPU": (False, False)
}
"""Whether the peer's masks are as large as the photo, and whether they are copied. Ultralytics leaves them on the GPU;
saving, showing or measuring them copies them first. Ours are in memory always."""


def on_gpu(scale: Scale) -> Iterator[Row]:
    """Segment a whole photo on the first GPU, if there is one."""
    import torch

    if torch.cuda.is_available():
        for architecture in _NETWORKS:
            for precision in ("fp32", "fp16"):
                yield from end_to_end(scale, architecture, precision, "cuda", torch.cuda.get_device_name())


def end_to_end(scale: Scale, architecture: str, precision: str, device: str, card: str) -> Iterator[Row]:
    """Segment a whole photo with one network and precision; ``card`` is the device's name in the results."""
    photo = make_photo(scale.image_hw)
    network = create_network(network_module(architecture), device=device, precision=precision, runtime="torch")
    peer = Peer(architecture, scale.imgsz, tuned=False, device=device, half=precision == "fp16")
    about = f"{card}: {architecture} {precision}"
    yield Row(f"{about}, forward pass", median_ms(_forward(network, scale), scale.repeats), None, "ms")
    for count in (scale.some, scale.many):
        head = head_for(count, scale.image_hw, scale.imgsz)
        peer.use(head)
        name = f"{about}, {count} masks"
        after_ms = median_ms(partial(make_ours(None, head, scale.imgsz, device).segment, photo), scale.repeats)
        yield Row(f"{name}, without the forward pass", after_ms, None, "ms")
        ours_ms = median_ms(partial(make_ours(network, head, scale.imgsz, device).segment, photo), scale.repeats)
        for masks, (retina_masks, copied) in _PEER_MASKS.items():
            theirs = partial(_peer_segment, peer, photo, retina_masks, copied, device)
            yield Row(f"{name}, end to end, against {masks}", ours_ms, median_ms(theirs, scale.repeats), "ms")


def _forward(network: Network, scale: Scale) -> Callable[[], float]:
    """Return a call that runs the network on an empty photo and waits for it."""
    height, width = scale.image_hw
    rows = -(-scale.imgsz * min(height, width) // max(height, width) // 32) * 32
    batch = np.zeros((1, rows, scale.imgsz, 3), np.uint8)
    return lambda: float(network.forward(batch)[0][0, 4].max())


def _peer_segment(peer: Peer, photo: UInt8Array, retina_masks: bool, copied: bool, device: str) -> None:
    import torch

    result = peer.segment(photo, retina_masks=retina_masks)
    if copied:
        result.cpu()
    elif device != "cpu":
        torch.cuda.synchronize()


BENCHMARKS = [Benchmark("GPU: end to end", on_gpu)]
