"""Fit the quality model of a network: the IoU its masks will have, learned on one half of the held-back images.

``python -m fastsam_core.training.calibrate --data FOLDER --weights FILE --out report.json --write``
"""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastsam_core._files import write_json
from fastsam_core.errors import AnnotationError
from fastsam_core.evaluation.instances import InstanceScorer
from fastsam_core.quality import FIGURES, METADATA_KEY, Curve, QualityModel, figures_of
from fastsam_core.training.datasets.loading import iter_held_back
from fastsam_core.training.datasets.records import hash_fraction
from fastsam_core.training.scoring import truth_of
from fastsam_core.training.validate import LOWEST_CONF, is_partial, load_model

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from fastsam_core.masks import Masks
    from fastsam_core.model import FastSAM
    from fastsam_core.training.sources import LabelledImage

LOGGER = logging.getLogger("fastsam_core.training.calibrate")
_KNOTS = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
_SMOOTHING = 10.0
_RIDGE = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """The masks found in one image and how good they are.

    Parameters
    ----------
    masks : Masks
        Best score first.
    iou : ndarray of shape (N, M)
        With each of the image's instances.
    areas_px : ndarray of shape (M,)
        Of these.
    weight : float
        Of each mask in the fit.
    """

    masks: Masks
    iou: NDArray[np.float64]
    areas_px: NDArray[np.int64]
    weight: float = 1.0

    @property
    def true_iou(self) -> NDArray[np.float64]:
        """IoU with the best instance, shape (N,)."""
        return np.asarray(self.iou.max(axis=1, initial=0.0))


def judge(model: FastSAM, samples: Iterable[LabelledImage], sizes: Sequence[int] | None, iou: float) -> list[Judged]:
    """Segment images and compare with what is annotated; every source weighs the root of its number of masks."""
    found = []
    for sample in samples:
        truth = truth_of(sample)
        masks = model.segment(sample.image, conf=LOWEST_CONF, iou=iou, imgsz=sizes)
        if len(truth) and len(masks):
            masks = masks.sort()
            found.append((masks, masks.iou(truth), truth.areas_px))
    count = sum(len(masks) for masks, _, _ in found)
    return [Judged(masks, overlap, areas, max(count, 1) ** -0.5) for masks, overlap, areas in found]


def fit(judged: Sequence[Judged], names: Sequence[str] = tuple(FIGURES)) -> QualityModel:
    """Fit one curve a figure by least squares, smoothed along the knots.

    Raises
    ------
    AnnotationError
        If there are too few masks.
    """
    _check_enough(judged, 10 * len(_KNOTS))
    figures = np.concatenate([figures_of(item.masks, tuple(names)) for item in judged])
    target = np.concatenate([item.true_iou for item in judged])
    weight = np.concatenate([np.full(len(item.masks), item.weight) for item in judged])
    offset = float(np.average(target, weights=weight))
    knots = [np.unique(np.round(np.quantile(column, _KNOTS), 6)) for column in figures.T]
    design = np.concatenate([_hats(column, at) for column, at in zip(figures.T, knots, strict=True)], axis=1)
    root = np.sqrt(weight / weight.mean())[:, None]
    penalty = _penalty([len(at) for at in knots]) * np.sqrt(len(target) / 1000)
    left = np.concatenate([design * root, penalty])
    right = np.concatenate([(target - offset) * root[:, 0], np.zeros(len(penalty))])
    values = np.linalg.lstsq(left, right, rcond=None)[0]
    curves = []
    for name, at in zip(names, knots, strict=True):
        own, values = values[: len(at)], values[len(at) :]
        curves.append(Curve(name, tuple(map(float, at)), tuple(round(float(value), 5) for value in own)))
    return QualityModel(round(offset, 5), tuple(curves))


def _check_enough(judged: Sequence[Judged], least: int) -> None:
    found = sum(len(item.masks) for item in judged)
    if found < least:
        raise AnnotationError(
            "There are too few masks to calibrate",
            expected=f"{least} or more in each half of the validation images that are not partly annotated",
            actual=str(found),
            remedy="convert more images, or with a larger --val",
        )


def _hats(column: NDArray[np.float64], knots: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the basis of piecewise linear functions, shape (N, K): 1 at the own knot, 0 at all others."""
    return np.stack([np.interp(column, knots, row) for row in np.eye(len(knots))], axis=1)


def _penalty(counts: Sequence[int]) -> NDArray[np.float64]:
    rows = []
    first, total = 0, sum(counts)
    for count in counts:
        for order in range(max(count - 2, 0)):
            row = np.zeros(total)
            row[first + order : first + order + 3] = _SMOOTHING * np.array([1, -2, 1])
            rows.append(row)
        first += count
    return np.concatenate([np.array(rows).reshape(-1, total), _RIDGE * np.eye(total)])


def compare(judged: Sequence[Judged], model: QualityModel) -> dict[str, float]:
    """Tell how well score and quality follow the true IoU, and what ranking by each gives.

    Returns
    -------
    dict of str to float
        ``pearson_*`` and ``spearman_*`` with the true IoU, ``ap_*`` (IoU 0.5:0.95) and ``ap50_*`` by rank, for
        ``score`` and ``quality``; numbers of masks and images.

    Raises
    ------
    AnnotationError
        If there are fewer than two masks.
    """
    _check_enough(judged, 2)
    from scipy.stats import pearsonr, spearmanr

    truth = np.concatenate([item.true_iou for item in judged])
    out: dict[str, float] = {"images": len(judged), "masks": len(truth)}
    for name in ("score", "quality"):
        ranks = [model.predict(item.masks) if name == "quality" else item.masks.scores for item in judged]
        joined = np.concatenate(ranks)
        out[f"pearson_{name}"] = float(pearsonr(joined, truth).statistic)
        out[f"spearman_{name}"] = float(spearmanr(joined, truth).statistic)
        scorer = InstanceScorer()
        for item, rank in zip(judged, ranks, strict=True):
            order = np.argsort(-rank, kind="stable")
            crowd = np.zeros(len(item.areas_px), bool)
            scorer.add_overlaps(item.iou[order], rank[order], item.masks.areas_px[order], item.areas_px, crowd)
        found = scorer.scores()
        out |= {f"ap_{name}": found.ap, f"ap50_{name}": found.ap50, f"ar10_{name}": found.recall[10]}
    return {key: round(value, 4) for key, value in out.items()}


def _half_of(sample: LabelledImage) -> int:
    return int(hash_fraction("calibration", f"{sample.source}/{sample.stem}") < 0.5)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fastsam_core.training.calibrate", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="converted data set, or the built-in model's sources")
    parser.add_argument("--weights", default="builtin", help="model, weights file or training checkpoint")
    parser.add_argument("--sizes", help="long sides, 384,768 merges two (default: the model's)")
    parser.add_argument("--iou", type=float, help="box overlap of duplicates (default: the model's)")
    parser.add_argument("--most", type=int, default=40, help="images a source at most")
    parser.add_argument("--precision", default="fp32", help="fp32 or bf16")
    parser.add_argument("--out", type=Path, help="JSON report to write")
    parser.add_argument("--write", action="store_true", help="store the quality model in the weights file")
    arguments = parser.parse_args()
    if arguments.write and Path(arguments.weights).suffix != ".safetensors":
        parser.error(f"--write wants a weights file (.safetensors) by --weights, got {arguments.weights}")
    return arguments


def main() -> None:
    """Fit on one half of the held-back images of complete sources, test on the other, and report."""
    from fastsam_core.training.export import change_facts

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = _arguments()
    model = load_model(arguments.weights, arguments.precision)
    sizes = tuple(map(int, arguments.sizes.split(","))) if arguments.sizes else None
    iou = model.info.iou if arguments.iou is None else arguments.iou
    halves: tuple[list[Judged], list[Judged]] = ([], [])
    for spec, samples in iter_held_back(arguments.data, arguments.most):
        if is_partial(spec):
            continue  # a right mask of something unannotated would count as a poor one
        for place, half in enumerate(halves):
            half += judge(model, [sample for sample in samples if _half_of(sample) == place], sizes, iou)
        LOGGER.info("%s: %d images", spec.name, len(samples))
    quality = fit(halves[0])
    report = {
        "fitted": compare(halves[0], quality),
        "tested": compare(halves[1], quality),
        "sizes": arguments.sizes or "the model's",
    }
    for name, values in report.items():
        LOGGER.info("%s: %s", name, values)
    if arguments.out:
        write_json(arguments.out, {**report, "model": json.loads(quality.to_json())})
    if arguments.write:
        path = Path(arguments.weights)
        change_facts(path, path, {METADATA_KEY: quality.to_json()})
        LOGGER.info("stored in %s", path)


if __name__ == "__main__":
    from fastsam_core.cli._console import run_module

    run_module(main)
