"""Speed of enriching FiftyOne datasets next to FiftyOne's own bridge to ``ultralytics.FastSAM``.

Needs a database: ``python tools/local_services.py python -m benchmarks --only fiftyone``.
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

from benchmarks.harness import FULL, Benchmark, Row, Scale
from benchmarks.sides import CONF, IOU, Peer, head_for, make_ours, make_photo, network_module

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BENCHMARKS"]

_IMAGE_HW = (864, 1152)  # about a megapixel
_MASK_SIDE = 64
_BATCH = 64


def _sizes(scale: Scale) -> tuple[Scale, int, int, int, int]:
    """Return the scale with images of a megapixel, and how many images, written samples and finished samples."""
    if scale is FULL:
        # the architecture of the built-in model
        return replace(scale, image_hw=_IMAGE_HW, architecture="yolov8n-seg"), 100, 200, 10_000, 2_000
    return scale, 2, 3, 5, 4


@contextmanager
def _dataset(count: int, folder: Path, image_hw: tuple[int, int]) -> Iterator[Any]:
    """Make a dataset of copies of one photo, deleted afterwards."""
    os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "true")
    import fiftyone as fo
    from PIL import Image

    path = folder / "photo.jpg"
    Image.fromarray(make_photo(image_hw)).save(path, quality=90)
    dataset = fo.Dataset(persistent=True)
    try:
        dataset.add_samples([fo.Sample(filepath=str(path)) for _ in range(count)], progress=False)
        yield dataset
    finally:
        dataset.delete()


def everything(scale: Scale) -> Iterator[Row]:
    """Everything mode until the masks are in the database, with one network and one set of masks on both sides."""
    from fastsam_core.runtimes import create_network, resolve_runtime
    from fiftyone_fastsam import enrich

    scale, images, *_ = _sizes(scale)
    head = head_for(scale.some, scale.image_hw, scale.imgsz)
    network = create_network(
        network_module(scale.architecture),
        device="cpu",
        precision="fp32",
        runtime=resolve_runtime("auto", "cpu", "fp32"),
    )
    ours = make_ours(network, head, scale.imgsz)
    peer = Peer(scale.architecture, scale.imgsz, tuned=False)
    peer.use(head)
    peer.segment(make_photo(scale.image_hw), retina_masks=True)
    few = max(images // 5, 2)  # the peer takes minutes for all of them
    with tempfile.TemporaryDirectory() as folder, _dataset(images, Path(folder), scale.image_hw) as dataset:
        enrich(dataset[:1], "warm", model=ours)
        started = time.perf_counter()
        report = enrich(dataset, "ours", model=ours, conf=CONF, iou=IOU)
        our_ms = (time.perf_counter() - started) / images * 1e3
        if report.failed or not report.masks:
            raise RuntimeError(f"nothing to measure: {report}")
        started = time.perf_counter()
        dataset[:few].apply_model(_bridge(peer), label_field="theirs", batch_size=1, num_workers=0, progress=False)
        peer_ms = (time.perf_counter() - started) / few * 1e3
    yield Row(f"FiftyOne: everything, image of 1 MPix with {scale.some} masks", our_ms, peer_ms, "ms", ">= 4x")


def _bridge(peer: Peer) -> Any:
    """Return FiftyOne's own converter of ultralytics models around the peer."""
    import fiftyone.core.models as fom
    import fiftyone.utils.ultralytics as fouu

    class Bridged(fom.Model):  # type: ignore[misc] # FiftyOne has no types
        media_type, ragged_batches, transforms, preprocess = "image", True, None, False

        def predict(self, arg: Any) -> Any:
            return fouu.to_instances(peer.segment(np.asarray(arg), retina_masks=True))

    return Bridged()


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
    with tempfile.TemporaryDirectory() as folder, _dataset(samples, Path(folder), (90, 130)) as dataset:
        ids = dataset.values("id")
        target, options = open_target(dataset, "ours"), EnrichOptions()
        declare_schema(target, options)
        writer = DirectWriter(target, "benchmark", append=False)
        started = time.perf_counter()
        for start in range(0, len(ids), _BATCH):
            batch = []
            for id_ in ids[start : start + _BATCH]:
                instances = [Instance("object", box, mask, 0.5, {"area_px": 1}) for mask in masks]
                batch.append(fitted(Result(Item(ObjectId(id_), ""), instances), options))
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
    with tempfile.TemporaryDirectory() as folder, _dataset(finished, Path(folder), (90, 130)) as dataset:
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
    """Growth of the process over many images, after the first tenth."""
    from fiftyone_fastsam import iter_enrich

    scale, _, _, _, images = _sizes(scale)
    model = make_ours(None, head_for(scale.few, scale.image_hw, scale.imgsz), scale.imgsz)
    warm = 0.0
    with tempfile.TemporaryDirectory() as folder, _dataset(images, Path(folder), scale.image_hw) as dataset:
        for step in iter_enrich(dataset, "masks", model=model):
            if step.done == max(images // 10, 1):
                warm = _resident_mb()
        grown = _resident_mb() - warm
    yield Row(f"FiftyOne: memory growth over {images} images", max(grown, 0.0), None, "MB", "<= 100 MB")


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


BENCHMARKS = (
    Benchmark("fiftyone everything", everything),
    Benchmark("fiftyone writing", writing),
    Benchmark("fiftyone nothing to do", nothing_to_do),
    Benchmark("fiftyone memory", memory),
)
