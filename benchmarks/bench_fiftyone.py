"""Speed of enriching FiftyOne datasets next to FiftyOne's own bridge to ``ultralytics.FastSAM``.

Needs a database: ``python tools/local_services.py python -m benchmarks --only fiftyone``. FASTSAM_BENCH_IMAGES=4 does
the comparison with fewer images, as a try; the row then says so.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.fiftyone_bridge import bridged_peer
from benchmarks.fiftyone_memory import resident_mb
from benchmarks.harness import FULL, Benchmark, Row, Scale
from benchmarks.sides import CONF, IOU, head_for, make_ours, make_photo, network_module

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BENCHMARKS"]

_IMAGE_HW = (864, 1152)  # about a megapixel
_SMALL_HW, _SMALL_IMGSZ = (240, 320), 256
_MASK_SIDE = 64
_BATCH = 64


def _sizes(scale: Scale) -> tuple[Scale, int, int, int, int]:
    """Return the scale with images of a megapixel, and how many images, written samples and finished samples."""
    if scale is FULL:
        images = int(os.environ.get("FASTSAM_BENCH_IMAGES", "100"))
        # the architecture of the built-in model
        return replace(scale, image_hw=_IMAGE_HW, architecture="yolov8n-seg"), images, 200, 10_000, 2_000
    return scale, 2, 3, 5, 4


@contextmanager
def _dataset(count: int, image_hw: tuple[int, int], files: int = 1) -> Iterator[Any]:
    """Make a dataset of pictures, deleted afterwards; the samples share a number of files."""
    os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "true")
    import fiftyone as fo
    from PIL import Image

    photo = make_photo(image_hw)
    dataset = fo.Dataset(persistent=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{i:05d}.jpg" for i in range(files)]
            for shift, path in enumerate(paths):
                Image.fromarray(np.roll(photo, 5 * shift, axis=1)).save(path, quality=90)
            # no list of samples stays in memory: whoever writes would refresh them
            dataset.add_samples((fo.Sample(filepath=str(paths[i % files])) for i in range(count)), progress=False)
            yield dataset
    finally:
        dataset.delete()


def everything(scale: Scale) -> Iterator[Row]:
    """Everything mode until the masks are in the database: one network, equal images and masks on both sides."""
    from fastsam_core.runtimes import create_network, resolve_runtime
    from fiftyone_fastsam import enrich

    scale, images, *_ = _sizes(scale)
    head = head_for(scale.some, scale.image_hw, scale.imgsz)
    runtime = resolve_runtime("auto", "cpu", "fp32")
    module = network_module(scale.architecture)
    ours = make_ours(create_network(module, device="cpu", precision="fp32", runtime=runtime), head, scale.imgsz)
    peer = bridged_peer(scale.architecture, scale.imgsz, head)
    with _dataset(images, scale.image_hw, images) as dataset:
        one = dataset[:1]
        enrich(one, "warm", model=ours)
        one.apply_model(peer, label_field="warm_theirs", progress=False)
        started = time.perf_counter()
        report = enrich(dataset, "ours", model=ours, conf=CONF, iou=IOU)
        our_ms = (time.perf_counter() - started) / images * 1e3
        started = time.perf_counter()
        dataset.apply_model(peer, label_field="theirs", progress=False)
        peer_ms = (time.perf_counter() - started) / images * 1e3
        found = {name: dataset.count(f"{name}.detections") for name in ("ours", "theirs")}
    if report.failed or min(found.values()) < 0.75 * images * scale.some:
        raise RuntimeError(f"nothing to compare: {found} of {report}")
    yield Row(
        f"FiftyOne: everything, {images} images of 1 MPix with {scale.some} masks", our_ms, peer_ms, "ms", ">= 4x"
    )


def writing(scale: Scale) -> Iterator[Row]:
    """Many small masks into the database: the direct writer against building labels and ``set_values``."""
    import fiftyone as fo
    from bson import ObjectId

    from fiftyone_fastsam._convert import Instance
    from fiftyone_fastsam._items import Item
    from fiftyone_fastsam._oversize import fitted
    from fiftyone_fastsam._target import declare_schema, open_target
    from fiftyone_fastsam._writers import DirectWriter, Result
    from fiftyone_fastsam.options import EnrichOptions

    scale, _, samples, *_ = _sizes(scale)
    rng = np.random.default_rng(0)
    yy, xx = np.mgrid[:_MASK_SIDE, :_MASK_SIDE] - _MASK_SIDE / 2
    masks = [yy**2 + xx**2 < radius**2 for radius in rng.uniform(8, _MASK_SIDE / 2, scale.some)]
    box = [0.25, 0.25, 0.125, 0.125]
    with _dataset(samples, (90, 130)) as dataset:
        ids = dataset.values("id")
        target, options = open_target(dataset, "ours"), EnrichOptions()
        declare_schema(target, options, "benchmark")
        writer = DirectWriter(target, "benchmark", append=False)
        started = time.perf_counter()
        for start in range(0, len(ids), _BATCH):
            batch = []
            for id_ in ids[start : start + _BATCH]:
                instances = [Instance("object", box, mask, 0.5, {"area_px": 1}) for mask in masks]
                batch.append(fitted(Result(Item(ObjectId(id_), ""), instances), options, Path()))
            writer.write(batch)
        ours = time.perf_counter() - started
        started = time.perf_counter()
        labels = {
            id_: fo.Detections(
                detections=[fo.Detection(label="object", bounding_box=box, mask=m, confidence=0.5) for m in masks]
            )
            for id_ in ids
        }
        dataset.set_values("theirs", labels, key_field="id", progress=False)
        peer = time.perf_counter() - started
    yield Row(f"FiftyOne: write {samples} samples with {scale.some} masks of 64 x 64", ours, peer, "s", ">= 5x")


def nothing_to_do(scale: Scale) -> Iterator[Row]:
    """Resume a finished dataset."""
    from fiftyone_fastsam import enrich
    from fiftyone_fastsam.enrichment import Enrichment
    from fiftyone_fastsam.options import EnrichOptions

    scale, _, _, finished, _ = _sizes(scale)
    model = make_ours(None, head_for(scale.few, scale.image_hw, scale.imgsz), scale.imgsz)
    with _dataset(finished, (90, 130)) as dataset:
        run = Enrichment(dataset, "masks", EnrichOptions(), model)
        label = {"_cls": "Detections", "detections": [], "fastsam_run": run.digest}
        dataset._sample_collection.update_many({}, {"$set": {"masks": label}})
        started = time.perf_counter()
        report = enrich(dataset, "masks", model=model)
        seconds = time.perf_counter() - started
        if report.done:
            raise RuntimeError("finished samples were done again")
    yield Row(f"FiftyOne: find nothing to do in {finished} finished samples", seconds, None, "s", "<= 5 s")


def memory(scale: Scale) -> Iterator[Row]:
    """Growth of a process over many small pictures, each a file of its own, from a tenth of them to the end."""
    scale, _, _, _, images = _sizes(scale)
    hw, imgsz = (_SMALL_HW, _SMALL_IMGSZ) if scale.isolated else (scale.image_hw, scale.imgsz)
    with _dataset(images, hw, images) as dataset:
        early, late = resident_mb(dataset, hw, imgsz, isolated=scale.isolated)
    yield Row(f"FiftyOne: memory after {images} images", late, None, "MB")
    yield Row(f"FiftyOne: memory growth over {images} images", max(late - early, 0.0), None, "MB", "<= 100 MB")


BENCHMARKS = (
    Benchmark("fiftyone everything", everything),
    Benchmark("fiftyone writing", writing),
    Benchmark("fiftyone nothing to do", nothing_to_do),
    Benchmark("fiftyone memory", memory),
)
