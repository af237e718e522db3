"""Measure a model, several test sizes of it, or a classical baseline on held-back images, source by source.

``python -m fastsam_core.training.validate --data FOLDER --weights FILE --sizes 512 640 384,768 --recommend``
"""

from __future__ import annotations

import argparse
import logging
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsam_core._files import write_json
from fastsam_core.errors import AnnotationError
from fastsam_core.evaluation.bsds import BoundaryData
from fastsam_core.evaluation.truth import evenly
from fastsam_core.masks import Masks
from fastsam_core.model import FastSAM
from fastsam_core.training.baselines import BASELINES
from fastsam_core.training.datasets.loading import iter_held_back
from fastsam_core.training.scoring import Case, Scores, evaluate_groups, truth_of
from fastsam_core.training.sources import SourceSpec, clicks_in, stain_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import nn

    from fastsam_core.checkpoints import ModelInfo
    from fastsam_core.training.sources import LabelledImage

LOGGER = logging.getLogger("fastsam_core.training.validate")
LOWEST_CONF = 0.01
"""Masks are measured down to this score, so that the number of masks and no threshold limits the recall."""
MOST_MASKS = 1000
_WORTH_IT = 0.005
"""A larger test size has to add this much to the mean of the figures to be recommended."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How images are segmented.

    Parameters
    ----------
    sizes : str
        Test sizes as on the command line: ``"640"``, ``"384,768"`` (masks are merged) or ``"auto"``.
    iou : float
        Box overlap of duplicates.
    """

    sizes: str
    iou: float

    @property
    def imgsz(self) -> Any:
        """What `FastSAM.segment` takes."""
        return "auto" if self.sizes == "auto" else tuple(map(int, self.sizes.split(",")))


@dataclass(frozen=True, slots=True)
class Row:
    """Figures of one source at one setting."""

    source: str
    method: str
    sizes: str
    iou: float
    partial: bool
    seconds: float
    scores: Scores

    def to_json(self) -> dict[str, object]:
        """Return plain values, rounded to what they are worth."""
        values = {**asdict(self), **asdict(self.scores)}
        del values["scores"]
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in values.items()}


def cases_of(samples: Iterable[LabelledImage], *, by_stain: bool = False) -> list[Case]:
    """Turn labelled images into cases, of microscopes by what they look like; clicks are doubted (`clicks_in`)."""
    cases = []
    for sample in samples:
        group = stain_of(sample.image) if by_stain else ""
        doubted = (_clicked(sample),) if group == "fluorescence" else ()
        cases.append(Case(sample.image, (truth_of(sample),), group, doubted))
    if not any(clicks.any() for case in cases for clicks in case.doubted):
        cases = [replace(case, doubted=()) for case in cases]
    return cases


def _clicked(sample: LabelledImage) -> NDArray[np.bool_]:
    """Tell which instances, in the order of `truth_of`, are nothing but a brush's click."""
    found = [np.zeros(0, np.bool_)]
    for layer in sample.layers:
        masks = Masks.from_label_map(layer)
        first = masks.runs[masks.offsets[:-1]]
        found.append(clicks_in(layer)[first[:, 0], first[:, 1]])
    return np.concatenate(found)


def bsds_cases(folder: Path, split: str, most: int | None) -> Iterator[Case]:
    """Read images of BSDS500 with the regions of every annotator; evaluation only.

    Raises
    ------
    AnnotationError
        If there is no such split, or its annotations are not label maps (``.npz``).
    """
    from fastsam_core.images import read_image

    data = BoundaryData(folder, split)
    for place in evenly(len(data.images), most):
        path = data.truths[place]
        if path.suffix != ".npz":
            raise AnnotationError(f"{path} holds no regions", expected=".npz files of label maps seg0, seg1 …")
        with np.load(path) as file:
            drawn = [Masks.from_label_map(file[name]) for name in sorted(file.files) if name.startswith("seg")]
        yield Case(read_image(data.images[place]).rgb8, tuple(drawn))


def model_of(network: nn.Module, info: ModelInfo, precision: str = "fp32") -> FastSAM:
    """Wrap a network under training in the program's own model; the network is copied.

    Parameters
    ----------
    network : ultralytics SegmentationModel
    info : ModelInfo
        How its masks are cut and scored; the score threshold is lowered.
    precision : str
        "fp32" or "bf16".
    """
    from copy import deepcopy

    from fastsam_core.runtimes import create_network

    clone = deepcopy(network)
    for parameter in clone.parameters():
        parameter.requires_grad_(False)
    ready = create_network(clone, device="cpu", precision=precision, runtime="torch")
    return FastSAM(ready, replace(info, conf=LOWEST_CONF))


def load_model(weights: str, precision: str = "fp32") -> FastSAM:
    """Load a model by name or file, or the averaged weights of a training checkpoint."""
    if not weights.endswith(".pt"):
        return FastSAM.load(weights, device="cpu", runtime="torch", precision=precision)
    from fastsam_core.checkpoints import ModelInfo
    from fastsam_core.training.checkpoint import load_checkpoint
    from fastsam_core.training.loss import learnt_masks
    from fastsam_core.training.trainer import build_network

    state = load_checkpoint(Path(weights))
    network = build_network(state["config"]["architecture"], state["config"].get("reg_max", 16))
    network.load_state_dict(state["ema"])
    threshold, margin = learnt_masks(state["config"])
    info = ModelInfo(name="training", iou=0.7, mask_threshold=threshold, mask_margin=margin)
    return model_of(network.eval(), info, precision)


def segmenter(model: FastSAM, setting: Setting) -> Callable[[NDArray[np.uint8]], Masks]:
    """Return everything mode at one setting, with low thresholds."""
    from fastsam_core.images import read_image

    def segment(image: NDArray[np.uint8]) -> Masks:
        colours = read_image(image, axes="YXS")  # of a few rows they could be channels
        return model.segment(colours, conf=LOWEST_CONF, iou=setting.iou, imgsz=setting.imgsz, max_det=MOST_MASKS)

    return segment


def measure(
    name: str,
    cases: Iterable[Case],
    method: str,
    settings: Sequence[Setting],
    segments: Sequence[Callable[[NDArray[np.uint8]], Masks]],
    *,
    partial: bool = False,
) -> Iterator[Row]:
    """Measure one source at every setting.

    Parameters
    ----------
    name : str
        The source.
    cases : iterable of Case
        Its images; read once.
    method : str
        What segments.
    settings, segments : sequences
        One segmentation for each setting.
    partial : bool
        Whether only some of what is there was annotated.

    Yields
    ------
    Row
        One for each setting, and one for each group of images in it, ``source/group``.
    """
    held = list(cases)
    for setting, segment in zip(settings, segments, strict=True):
        timed = _Timed(segment)
        found = evaluate_groups(timed, held)
        seconds = float(np.median(timed.seconds)) if timed.seconds else 0.0
        for group, scores in found.items():
            title = f"{name}/{group}" if group else name
            LOGGER.info(
                "%-20s %-9s iou %.2f: AP50 %.3f AR %.3f %.3f %.3f overlap %.3f F1 %.3f at %.2f, %d images, "
                "%d instances, %.2f s/image",
                *(title, setting.sizes, setting.iou, scores.ap50, scores.ar10, scores.ar100, scores.ar1000),
                *(scores.best_overlap, scores.best_f1, scores.best_conf, scores.images, scores.instances, seconds),
            )
            yield Row(title, method, setting.sizes, setting.iou, partial, round(seconds, 3), scores)


class _Timed:
    """A segmentation that remembers how long each image took."""

    def __init__(self, segment: Callable[[NDArray[np.uint8]], Masks]) -> None:
        self.segment = segment
        self.seconds: list[float] = []

    def __call__(self, image: NDArray[np.uint8]) -> Masks:
        began = time.perf_counter()
        masks = self.segment(image)
        self.seconds.append(time.perf_counter() - began)
        return masks


def recommend(rows: Sequence[Row]) -> tuple[Setting, float, dict[Setting, float]]:
    """Choose the setting with the best figures; a cheaper one if it is nearly as good.

    Every source counts the same: by AR@100 and, where all of the kind is annotated, also by its best F1.

    Returns
    -------
    setting : Setting
        What to use.
    conf : float
        Score threshold with the best F1, averaged over fully annotated sources by their number of instances.
    means : mapping of Setting to float
        Mean of the figures of each setting.
    """
    by_setting: dict[Setting, list[Row]] = {}
    for row in (row for row in rows if "/" not in row.source):
        by_setting.setdefault(Setting(row.sizes, row.iou), []).append(row)
    means: dict[Setting, float] = {}
    for setting, found in by_setting.items():
        figures = [row.scores.ar100 if row.partial else (row.scores.ar100 + row.scores.best_f1) / 2 for row in found]
        means[setting] = float(np.mean(figures))
    cost = {setting: np.mean([row.seconds for row in found]) for setting, found in by_setting.items()}
    chosen = max(means, key=lambda setting: means[setting])
    for setting in sorted(means, key=lambda setting: cost[setting]):
        if means[setting] >= means[chosen] - _WORTH_IT:
            chosen = setting
            break
    complete = [row.scores for row in by_setting[chosen] if not row.partial and row.scores.instances]
    counts = [np.sqrt(scores.instances) for scores in complete]
    conf = float(np.average([s.best_conf for s in complete], weights=counts)) if complete else 0.25
    return chosen, conf, means


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fastsam_core.training.validate", description=__doc__)
    parser.add_argument("--data", type=Path, help="converted data set, or folder of the built-in model's sources")
    parser.add_argument("--bsds", type=Path, help="folder of BSDS500: val and test instead of the sources")
    parser.add_argument("--weights", default="builtin", help="model, weights file or training checkpoint")
    parser.add_argument("--baseline", choices=sorted(BASELINES), help="a classical method instead of a network")
    parser.add_argument("--sizes", nargs="+", help="long sides; 384,768 merges two; auto")
    parser.add_argument("--iou", type=float, nargs="+", help="box overlap of duplicates (default: the model's)")
    parser.add_argument("--precision", default="fp32", help="fp32 or bf16")
    parser.add_argument("--most", type=int, help="images a source at most")
    parser.add_argument("--only", nargs="+", help="names of sources")
    parser.add_argument("--recommend", action="store_true", help="say which setting to use")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    if (arguments.data is None) == (arguments.bsds is None):
        parser.error("give one of --data and --bsds")
    return arguments


def _sources(arguments: argparse.Namespace) -> Iterator[tuple[str, bool, Iterable[Case]]]:
    if arguments.bsds is not None:
        for split in ("val", "test"):
            yield f"bsds500_{split}", False, bsds_cases(arguments.bsds, split, arguments.most)
        return
    for spec, samples in iter_held_back(arguments.data, arguments.most, arguments.only or ()):
        yield spec.name, is_partial(spec), cases_of(samples, by_stain=spec.name == "dsb2018")


def is_partial(spec: SourceSpec) -> bool:
    """Tell whether right detections of a source may have no annotation, so that F1 means nothing."""
    return spec.partial or spec.background_weight < 0.15


def main() -> None:
    """Measure every source at every setting and write the table."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = _arguments()
    if arguments.baseline:
        settings = [Setting("0", 0.0)]
        segments: list[Any] = [BASELINES[arguments.baseline]]
    else:
        model = load_model(arguments.weights, arguments.precision)
        own = "auto" if model.info.adaptive else ",".join(map(str, model.settings().imgsz))
        sizes = arguments.sizes or [own]
        settings = [Setting(size, iou) for size in sizes for iou in arguments.iou or [model.info.iou]]
        segments = [segmenter(model, setting) for setting in settings]
    method = arguments.baseline or Path(arguments.weights).name
    rows: list[Row] = []
    for name, partial, cases in _sources(arguments):
        rows += measure(name, cases, method, settings, segments, partial=partial)
    if arguments.out:
        write_json(arguments.out, [row.to_json() for row in rows])
    if arguments.recommend:
        chosen, conf, means = recommend(rows)
        for setting, mean in means.items():
            seconds = np.mean([r.seconds for r in rows if (r.sizes, r.iou) == (setting.sizes, setting.iou)])
            LOGGER.info("sizes %-12s iou %.2f: %.4f, %.2f s/image", setting.sizes, setting.iou, mean, seconds)
        sizes_option = "--adaptive" if chosen.sizes == "auto" else f"--imgsz {chosen.sizes}"
        LOGGER.info("recommended: %s --iou %s --conf %.2f", sizes_option, chosen.iou, conf)


if __name__ == "__main__":
    from fastsam_core.cli._console import run_module

    run_module(main)
