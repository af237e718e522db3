"""Small validation of a network on held-back images: AP50, AR@100 and mean best overlap by source.

For choosing thresholds during training; the project's evaluation package gives the full tables.
``python -m fastsam_core.training.validate --data FOLDER --weights FILE`` writes a JSON table.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fastsam_core.training.geometric import PAD_VALUE
from fastsam_core.training.photometric import stretch_contrast
from fastsam_core.training.sources import SOURCES, load_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import nn

    from fastsam_core.training.sources import LabelledImage

LOGGER = logging.getLogger("fastsam_core.training.validate")
IOU_THRESHOLDS = np.arange(0.5, 1.0, 0.05)


@dataclass(frozen=True, slots=True)
class Scores:
    """Class-agnostic mask figures over some images.

    Attributes
    ----------
    ap50 : float
        Average precision at IoU 0.5, all detections against all instances.
    ar100 : float
        Recall averaged over IoU 0.5:0.05:0.95 with the best 100 detections of each image.
    best_overlap : float
        Mean over instances of the highest IoU of any of the 100 detections.
    best_f1, best_conf : float
        Highest F1 at IoU 0.5 over all score thresholds, and that threshold; of no meaning for partial sources.
    images, instances : int
        How many were measured.
    """

    ap50: float
    ar100: float
    best_overlap: float
    best_f1: float
    best_conf: float
    images: int
    instances: int


@torch.inference_mode()
def predict_masks(
    network: nn.Module, image: NDArray[np.uint8], imgsz: int, *, conf: float = 0.02, iou: float = 0.7, top: int = 300
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Run everything-mode on one image.

    Parameters
    ----------
    network : nn.Module
        Ultralytics SegmentationModel in evaluation mode.
    image : ndarray of uint8, shape (H, W, 3)
        RGB.
    imgsz : int
        Long side of the network input.
    conf, iou, top : float, float, int
        Score threshold, overlap above which boxes are duplicates, most detections.

    Returns
    -------
    masks : ndarray of bool, shape (N, H, W)
        Sorted by score.
    scores : ndarray of float32, shape (N,)
    """
    import cv2
    from torchvision.ops import nms

    height, width = image.shape[:2]
    scale = imgsz / max(height, width)
    inner_wh = (max(round(width * scale), 1), max(round(height * scale), 1))
    canvas = np.full((-(-inner_wh[1] // 32) * 32, -(-inner_wh[0] // 32) * 32, 3), PAD_VALUE, np.uint8)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas[: inner_wh[1], : inner_wh[0]] = cv2.resize(image, inner_wh, interpolation=how)
    batch = torch.from_numpy(canvas).permute(2, 0, 1)[None].float() / 255
    with torch.autocast("cpu", torch.bfloat16):
        output: Any = network(batch.contiguous(memory_format=torch.channels_last))
    (rows, proto), _ = output
    rows, proto = rows[0].float().T, proto[0].float()
    rows = rows[rows[:, 4] > conf]
    corners = torch.cat([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], dim=1)
    keep = nms(corners, rows[:, 4], iou)[:top]
    rows, corners = rows[keep], corners[keep]
    masks = np.zeros((len(rows), height, width), bool)
    logits = (rows[:, 5:] @ proto.flatten(1)).view(len(rows), *proto.shape[1:]).numpy()
    boxes = (corners / scale).numpy()
    used_h, used_w = inner_wh[1] / 4, inner_wh[0] / 4
    grid_y = ((np.arange(height, dtype=np.float32) + 0.5) * used_h / height - 0.5)[:, None]
    grid_x = ((np.arange(width, dtype=np.float32) + 0.5) * used_w / width - 0.5)[None]
    map_y, map_x = np.broadcast_to(grid_y, (height, width)), np.broadcast_to(grid_x, (height, width))
    for mask, logit, box in zip(masks, logits, boxes, strict=True):
        x0, y0 = max(int(box[0]), 0), max(int(box[1]), 0)
        x1, y1 = min(int(np.ceil(box[2])), width), min(int(np.ceil(box[3])), height)
        if x1 > x0 and y1 > y0:
            window = (slice(y0, y1), slice(x0, x1))
            maps = np.ascontiguousarray(map_x[window]), np.ascontiguousarray(map_y[window])
            mask[window] = cv2.remap(logit, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) > 0
    return masks, rows[:, 4].numpy()


def mask_iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Pairwise IoU of two mask stacks, shape (N, M)."""
    pixels = first.shape[1] * first.shape[2]
    a = first.reshape(len(first), pixels).astype(np.float32)
    b = second.reshape(len(second), pixels).astype(np.float32)
    common = a @ b.T
    union = a.sum(1)[:, None] + b.sum(1)[None] - common
    return np.asarray(common / np.maximum(union, 1), np.float32)


def greedy_matches(iou: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    """Which detections (rows, best first) find an instance of their own at this IoU."""
    free = np.ones(iou.shape[1], bool)
    hits = np.zeros(len(iou), bool)
    for row, values in enumerate(iou):
        candidates = np.where(free, values, -1.0)
        best = int(candidates.argmax()) if len(candidates) else -1
        if best >= 0 and candidates[best] >= threshold:
            free[best] = False
            hits[row] = True
    return hits


def average_precision(hits: NDArray[np.bool_], scores: NDArray[np.float32], instances: int) -> float:
    """Area under the interpolated precision–recall curve of detections pooled over images."""
    if not instances or not len(hits):
        return 0.0
    ordered = hits[np.argsort(-scores, kind="stable")]
    found = np.cumsum(ordered)
    precision = found / np.arange(1, len(ordered) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(precision[ordered]) / instances)


def best_f1(hits: NDArray[np.bool_], scores: NDArray[np.float32], instances: int) -> tuple[float, float]:
    """Highest F1 over all score thresholds, and the threshold that gives it."""
    if not len(hits):
        return 0.0, 0.0
    order = np.argsort(-scores, kind="stable")
    f1 = 2 * np.cumsum(hits[order]) / (np.arange(1, len(hits) + 1) + instances)
    best = int(f1.argmax())
    return float(f1[best]), float(scores[order[best]])


def instance_masks(sample: LabelledImage) -> NDArray[np.bool_]:
    """All instances of a labelled image as a stack (N, H, W); nested parts stay part of their whole."""
    numbers = np.unique(sample.layers)
    stacks = [(sample.layers == number).any(0) for number in numbers[numbers > 0]]
    return np.stack(stacks) if stacks else np.zeros((0, *sample.image.shape[:2]), bool)


def network_image(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Stretch gray pictures as the program does with microscope images; colour stays as it is."""
    gray = bool((np.ptp(image[::4, ::4].astype(np.int16), axis=2) <= 2).all())
    return stretch_contrast(image, 0.1, 99.9) if gray else image


def evaluate(
    network: nn.Module, samples: Sequence[LabelledImage], imgsz: int, *, iou: float = 0.7, max_side: int = 512
) -> Scores:
    """Measure a network on labelled images.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode.
    samples : sequence of LabelledImage
        Ground truth.
    imgsz : int
        Long side of the network input.
    iou : float
        Box overlap above which detections are duplicates.
    max_side : int
        Masks are compared at no more than this resolution.
    """
    hits, scores, recalls, overlaps = [], [], [], []
    for sample in samples:
        truth = instance_masks(sample)
        if not len(truth):
            continue
        masks, confidence = predict_masks(network, network_image(sample.image), imgsz, iou=iou)
        every = max(1, -(-max(sample.image.shape[:2]) // max_side))
        table = mask_iou(masks[:, ::every, ::every], truth[:, ::every, ::every])
        hits.append(greedy_matches(table, 0.5))
        scores.append(confidence)
        top = table[:100]
        recalls.append([int(greedy_matches(top, threshold).sum()) for threshold in IOU_THRESHOLDS])
        overlaps.append(top.max(0) if len(top) else np.zeros(len(truth), np.float32))
    if not overlaps:
        return Scores(0.0, 0.0, 0.0, 0.0, 0.0, 0, 0)
    instances = sum(len(item) for item in overlaps)
    all_hits, all_scores = np.concatenate(hits), np.concatenate(scores)
    return Scores(
        average_precision(all_hits, all_scores, instances),
        float(np.sum(recalls) / (instances * len(IOU_THRESHOLDS))),
        float(np.concatenate(overlaps).mean()),
        *best_f1(all_hits, all_scores, instances),
        len(overlaps),
        instances,
    )


def load_network(path: Path) -> nn.Module:
    """Return the network of a training checkpoint (averaged weights) or of an exported weights file."""
    from fastsam_core import checkpoints
    from fastsam_core.training.checkpoint import load_checkpoint
    from fastsam_core.training.trainer import build_network

    if path.suffix == ".safetensors":
        return checkpoints.load_checkpoint(path).module.to(memory_format=torch.channels_last)
    state = load_checkpoint(path)
    network = build_network(state["config"]["architecture"], state["config"].get("reg_max", 16))
    network.load_state_dict(state["ema"])
    return network.eval()


def main() -> None:
    """Measure every source at every size and write the table."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m fastsam_core.training.validate", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of labelled sources")
    parser.add_argument("--weights", type=Path, required=True, help="checkpoint or weights file")
    parser.add_argument("--sizes", type=int, nargs="+", default=[640])
    parser.add_argument("--iou", type=float, default=0.7)
    parser.add_argument("--most", type=int, help="images a source at most")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    network = load_network(arguments.weights)
    table = []
    for spec in SOURCES:
        samples = load_source(arguments.data, spec, "val", arguments.most)
        for imgsz in arguments.sizes:
            began = time.perf_counter()
            scores = evaluate(network, samples, imgsz, iou=arguments.iou)
            LOGGER.info(
                "%-20s %4d: AP50 %.3f AR100 %.3f overlap %.3f F1 %.3f at %.2f, %d images, %d instances, %.1f s",
                *(spec.name, imgsz, scores.ap50, scores.ar100, scores.best_overlap, scores.best_f1, scores.best_conf),
                *(scores.images, scores.instances),
                time.perf_counter() - began,
            )
            table.append({"source": spec.name, "imgsz": imgsz, "iou": arguments.iou, **asdict(scores)})
    if arguments.out:
        arguments.out.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
