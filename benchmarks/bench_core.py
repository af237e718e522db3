"""Speed of the core next to ``ultralytics.FastSAM``: the table of targets the project works towards."""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
import time
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import Benchmark, Row, Scale, median_ms
from benchmarks.memory import extra_mb
from benchmarks.sides import CONF, IOU, Peer, head_for, make_ours, make_photo, network_module
from fastsam_core.decode import decode
from fastsam_core.network import suppress
from fastsam_core.prompts import Box, Points, match, select

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastsam_core.masks import Masks

__all__ = ["BENCHMARKS"]

_TUNED = "channels_last=True and all cores"


@lru_cache(maxsize=2)
def _peer(scale: Scale, *, tuned: bool) -> Peer:
    return Peer(scale.architecture, scale.imgsz, tuned=tuned)


@lru_cache(maxsize=16)
def _peer_ms(scale: Scale, count: int, *, retina_masks: bool, tuned: bool) -> float:
    peer, photo = _peer(scale, tuned=tuned), make_photo(scale.image_hw)
    peer.use(head_for(count, scale.image_hw, scale.imgsz))
    return median_ms(lambda: peer.segment(photo, retina_masks=retina_masks), scale.repeats)


def _after_forward(count: int, image_hw: tuple[int, int], imgsz: int) -> Masks:
    """All that follows the forward pass: suppression and decoding."""
    import torch

    head = head_for(count, image_hw, imgsz)
    [prediction] = suppress(
        torch.from_numpy(head.output),
        torch.from_numpy(head.prototypes),
        [head.letterbox],
        conf=CONF,
        iou=IOU,
        max_det=300,
    )
    return decode(prediction)


def after_forward(scale: Scale) -> Iterator[Row]:
    """Everything after the forward pass, many masks at the photo's own resolution."""
    peer, photo = _peer(scale, tuned=True), make_photo(scale.image_hw)
    peer.use(head_for(scale.many, scale.image_hw, scale.imgsz))
    peer.segment(photo, retina_masks=True)
    ours = median_ms(lambda: _after_forward(scale.many, scale.image_hw, scale.imgsz), scale.repeats)
    theirs = median_ms(lambda: peer.after_forward(photo, retina_masks=True), scale.repeats)
    yield Row(f"after the forward pass, {scale.many} masks, retina", ours, theirs, "ms", ">= 40x")
    yield Row(
        f"peak memory after the forward pass, {scale.many} masks, retina",
        extra_mb("ours", scale),
        extra_mb("peer-retina", scale),
        "MB",
        ">= 8x",
    )


def end_to_end(scale: Scale) -> Iterator[Row]:
    """Segment a whole photo, base installation and ``fast`` extra, against the peer's defaults and other options."""
    from fastsam_core.runtimes import create_network

    photo = make_photo(scale.image_hw)
    runtimes = {"base": "torch"}
    if importlib.util.find_spec("openvino") is not None:
        runtimes["fast"] = "openvino"
    targets = {(scale.some, "base"): 6, (scale.some, "fast"): 8, (scale.many, "base"): 15, (scale.many, "fast"): 20}
    for install, runtime in runtimes.items():
        network = create_network(network_module(scale.architecture), device="cpu", precision="fp32", runtime=runtime)
        ours: dict[int, float] = {}
        for count in (scale.some, scale.many):
            model = make_ours(network, head_for(count, scale.image_hw, scale.imgsz), scale.imgsz)
            ours[count] = median_ms(partial(model.segment, photo), scale.repeats)
        for count, milliseconds in ours.items():
            name = f"end to end, {count} masks, {install} install ({runtime}), against retina"
            theirs = _peer_ms(scale, count, retina_masks=True, tuned=False)
            yield Row(name, milliseconds, theirs, "ms", f">= {targets[count, install]}x")
            theirs = _peer_ms(scale, count, retina_masks=True, tuned=True)
            yield Row(f"{name}, {_TUNED}", milliseconds, theirs, "ms")
        name = f"end to end, {scale.some} masks, {install} install ({runtime}), against low resolution"
        theirs = _peer_ms(scale, scale.some, retina_masks=False, tuned=False)
        yield Row(name, ours[scale.some], theirs, "ms", ">= 2.5x")
        theirs = _peer_ms(scale, scale.some, retina_masks=False, tuned=True)
        yield Row(f"{name}, {_TUNED}", ours[scale.some], theirs, "ms")


def prompts(scale: Scale) -> Iterator[Row]:
    """Point and box prompts on masks that are there already."""
    masks = _after_forward(scale.many, scale.image_hw, scale.imgsz)
    peer, photo = _peer(scale, tuned=True), make_photo(scale.image_hw)
    peer.use(head_for(scale.many, scale.image_hw, scale.imgsz))
    result = peer.segment(photo, retina_masks=True)
    rng = np.random.default_rng(0)
    points_yx = rng.uniform(size=(1000, 2)) * scale.image_hw
    boxes_xyxy = masks.boxes_xyxy[rng.permutation(len(masks))[:20]] + 3
    peer_point = _median_each_ms(
        lambda point: peer.predictor.prompt(result, points=point[::-1].copy()), points_yx[: max(scale.repeats, 2)]
    )
    for label, ask, target in (("select", select, ">= 1000x"), ("match, without the masks themselves", match, "")):
        ours = _median_each_ms(lambda point, ask=ask: ask(masks, Points(point)), points_yx)
        yield Row(f"a point prompt on {scale.many} masks ({label})", ours, peer_point, "ms", target)
    yield Row(
        f"1000 points in one call on {scale.many} masks",
        median_ms(lambda: select(masks, Points(points_yx, groups="each")), scale.repeats),
        None,
        "ms",
        "<= 10 ms",
    )
    yield Row(
        f"a box prompt on {scale.many} masks",
        _median_each_ms(lambda box: select(masks, Box(box)), boxes_xyxy),
        _median_each_ms(lambda box: peer.predictor.prompt(result, bboxes=box), boxes_xyxy[:1]),
        "ms",
        ">= 100x",
    )


def _median_each_ms(work: Any, entries: Any) -> float:
    """Median time of a call with each of the entries, after one that is not counted."""
    work(entries[0])
    milliseconds = []
    for entry in entries:
        started = time.perf_counter()
        work(entry)
        milliseconds.append((time.perf_counter() - started) * 1e3)
    return statistics.median(milliseconds)


def large_image(scale: Scale) -> Iterator[Row]:
    """Make the label map and the RLE of many masks of a very large photo."""
    height, width = scale.large_hw
    size = f"{height * width / 1e6:.0f} MPix, {scale.many} masks"

    def masks() -> Masks:
        return _after_forward(scale.many, scale.large_hw, scale.imgsz)

    for label, work in (("label map", lambda: masks().to_label_map()), ("RLE", lambda: masks().to_rle())):
        ours = median_ms(work, scale.repeats)
        yield Row(f"{label} of {size}", ours / 1e3, None, "s", "<= 1 s")
    for label, case in (("label map", "ours-large-labels"), ("RLE", "ours-large-rle")):
        yield Row(f"peak memory, {label} of {size}", extra_mb(case, scale), None, "MB", "<= 1500 MB")


def start_up(scale: Scale) -> Iterator[Row]:
    """Import and help, in processes of their own; an empty Python process is taken off."""
    empty = _process_ms("pass", scale.repeats)
    ours = _process_ms("import fastsam_core", scale.repeats) - empty
    peer = "from fastsam_core._ultralytics import import_ultralytics as i; i('ultralytics.models.fastsam').FastSAM"
    theirs = _process_ms(peer, 1) - empty
    yield Row("import fastsam_core", max(ours, 0.0) / 1e3, theirs / 1e3, "s", "<= 0.3 s")
    if importlib.util.find_spec("fastsam_core.cli") is not None:
        shown = _process_ms(
            "import sys; sys.argv = ['fastsam', '--help']; from fastsam_core.cli import main; main()", scale.repeats
        )
        yield Row("fastsam --help, whole process", shown / 1e3, None, "s", "<= 0.5 s")


def _process_ms(code: str, repeats: int) -> float:
    return median_ms(
        lambda: subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL), repeats
    )


def first_call(scale: Scale) -> Iterator[Row]:
    """Decode for the first time in a process, with the kernels' machine code in the cache on disk."""
    code = (
        "import time; from fastsam_core.decode import decode; from fastsam_core.testing import synthetic_prediction;"
        "p = synthetic_prediction(3, (60, 60), 64, 0); t = time.perf_counter(); decode(p);"
        "print(time.perf_counter() - t)"
    )
    seconds = [
        float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
        for _ in range(max(scale.repeats // 2, 1) + 1)
    ]
    yield Row("first decoding in a process, kernels cached", statistics.median(seconds[1:]), None, "s")


BENCHMARKS = [
    Benchmark("core: after the forward pass", after_forward),
    Benchmark("core: end to end", end_to_end),
    Benchmark("core: prompts", prompts),
    Benchmark("core: large image", large_image),
    Benchmark("core: start-up", start_up),
    Benchmark("core: first call", first_call),
]
