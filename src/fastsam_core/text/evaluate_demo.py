"""Measure the demonstration encoder on held-back images: ``python -m fastsam_core.text.evaluate_demo --data FOLDER``.

Two tables, each beside chance (the share of right masks among those of the image):

- *drawn*: generated scenes of seeds that training never used. Asked for "colour shape" of each mask; right is any mask
  of that colour and shape.
- *kinds*: four held-back images of different sources side by side, with their annotated objects. Asked for the kind of
  each source; right is any of its objects.

Texts about what is not there are asked as well; they should be answered with nothing. ``--calibrate`` fits the slope
and offset that turn cosines into probabilities, on training crops and other scenes.
"""

from __future__ import annotations

import argparse
import logging
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

import numpy as np

from fastsam_core import Masks, Text
from fastsam_core.text import CropOptions, TextEncoder, embed_masks, score_texts
from fastsam_core.text import demo_words as words
from fastsam_core.text._upstream import BACKGROUNDS as UPSTREAM
from fastsam_core.text.crops import Background
from fastsam_core.text.demo_data import CropBank, annotated_masks, crops_of_scenes, kind_of, text_sources
from fastsam_core.text.demo_scenes import draw_shapes
from fastsam_core.training.sources import load_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_LOGGER = logging.getLogger("fastsam_core.text.evaluate_demo")
_HELD_BACK_SEED: Final = 10**6
_CALIBRATION_SEED: Final = 2 * 10**6
_THRESHOLDS: Final = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9)
_TILE_PX: Final = 320
_MOST_OF_A_TILE: Final = 8


@dataclass(slots=True)
class Tally:
    """Answers about present and absent things.

    Attributes
    ----------
    present : list of float
        Probability of the best mask for each text about something that is there; 0 where that mask is wrong.
    chance : list of float
        Shares of right masks for the same texts.
    absent : list of float
        Highest probability for each text about something that is not there.
    """

    present: list[float] = field(default_factory=list)
    chance: list[float] = field(default_factory=list)
    absent: list[float] = field(default_factory=list)

    def ask(self, probabilities: NDArray[np.float64], cosines: NDArray[np.float64], right: NDArray[np.bool_]) -> None:
        """Count one text; ``right`` tells the masks that it is true of."""
        best = int(cosines.argmax())
        if right.any():
            self.present.append(float(probabilities[best]) if right[best] else 0.0)
            self.chance.append(float(right.mean()))
        else:
            self.absent.append(float(probabilities.max()))

    def line(self) -> str:
        """Return shares in per cent; at several thresholds what is found and what is refused."""
        present, absent = np.array(self.present), np.array(self.absent)
        text = f"asked {len(present)}"
        if len(present):
            text += f", top-1 {100 * (present > 0).mean():.1f}, chance {100 * np.mean(self.chance):.1f}"
        for threshold in _THRESHOLDS:
            found = 100 * (present >= threshold).mean() if len(present) else 0
            refused = 100 * (absent < threshold).mean() if len(absent) else 0
            text += f", {threshold}: {found:.0f}/{refused:.0f}"
        return text


@dataclass(slots=True)
class Scene:
    """An image, its masks, and for each text which masks it is true of."""

    group: str
    image: NDArray[np.uint8]
    masks: Masks
    truths: dict[str, NDArray[np.bool_]] = field(default_factory=dict)


def drawn_scenes(count: int) -> Iterator[Scene]:
    """Yield generated scenes that training has not seen, each with as many absent things as present ones."""
    for seed in range(_HELD_BACK_SEED, _HELD_BACK_SEED + count):
        drawn = draw_shapes(seed)
        rng = np.random.default_rng(seed)
        items = np.array(drawn.items)
        truths = {f"{c} {s}": (items == (c, s)).all(1) for c, s in drawn.items}
        for _ in range(len(truths)):
            colour, shape = str(rng.choice(words.COLOURS)), str(rng.choice(list(words.SHAPES)))
            truths.setdefault(f"{colour} {shape}", (items == (colour, shape)).all(1))
        yield Scene("drawn", drawn.image, Masks.from_dense(drawn.masks), truths)


def side_by_side(data: Path, count: int, most: int) -> Iterator[Scene]:
    """Yield mosaics of two by two held-back images of different kinds."""
    import cv2

    by_kind: dict[str, list[tuple[NDArray[np.uint8], Masks]]] = defaultdict(list)
    for spec in text_sources():
        for image in load_source(data, spec, "val", most):
            kind = kind_of(image)
            if kind is None:
                continue
            size = (_TILE_PX, _TILE_PX)
            layers = [cv2.resize(layer, size, interpolation=cv2.INTER_NEAREST) for layer in image.layers]
            small = np.asarray(cv2.resize(image.image, size), np.uint8)
            tile = replace(image, image=small, layers=np.stack(layers))
            masks = annotated_masks(tile).filter(min_area_px=100).sort("area")[:_MOST_OF_A_TILE]
            if len(masks):
                by_kind[kind].append((tile.image, masks))
    rng = np.random.default_rng(_HELD_BACK_SEED)
    for _ in range(count):
        order = [str(kind) for kind in rng.permutation(sorted(by_kind))]
        kinds: list[str] = []
        for kind in order:
            if not any(_related(kind, other) for other in kinds):
                kinds.append(kind)
        parts, owners, corners = [], [], [(0, 0), (0, _TILE_PX), (_TILE_PX, 0), (_TILE_PX, _TILE_PX)]
        canvas = np.zeros((2 * _TILE_PX, 2 * _TILE_PX, 3), np.uint8)
        for kind, (y, x) in zip(kinds[:4], corners, strict=True):
            tile_rgb8, tile_masks = by_kind[kind][int(rng.integers(len(by_kind[kind])))]
            canvas[y : y + _TILE_PX, x : x + _TILE_PX] = tile_rgb8
            parts.append(tile_masks.placed((y, x), (2 * _TILE_PX, 2 * _TILE_PX)))
            owners += [kind] * len(tile_masks)
        truths = {kind: np.array([owner == kind for owner in owners]) for kind in kinds}
        yield Scene("kinds", canvas, Masks.concatenate(parts), dict(list(truths.items())[:8]))


def _related(one: str, other: str) -> bool:
    """Tell whether the objects of one kind might be called by the other."""
    alike = {"pebble", "granule", "grain"}, {"cell", "nucleus", "fluorescent nucleus", "stained nucleus"}
    return one == other or any({one, other} <= group for group in alike)


def measure(encoder: TextEncoder, scenes: list[Scene], options: CropOptions) -> dict[str, Tally]:
    """Ask about every scene; returns a tally for each group, and within the kinds for each of them."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    for scene in scenes:
        embeddings = embed_masks(encoder, scene.image, scene.masks, options)
        scores = score_texts(encoder, embeddings, Text(list(scene.truths)))
        for row, right in enumerate(scene.truths.values()):
            tallies[scene.group].ask(scores.probabilities[row], scores.cosines[row], right)
            if scene.group == "kinds":
                tallies[list(scene.truths)[row]].ask(scores.probabilities[row], scores.cosines[row], right)
    return dict(tallies)


def calibrate(encoder: TextEncoder, bank: CropBank, count: int = 1500) -> tuple[float, float]:
    """Fit slope and offset by logistic regression on pairs of crops and phrases, true and false in equal number."""
    from scipy.optimize import minimize

    rng = np.random.default_rng(0)
    scenes = crops_of_scenes(range(_CALIBRATION_SEED, _CALIBRATION_SEED + count // 16))
    real = np.flatnonzero(bank.group < bank.group.max())
    crops = CropBank.joined([bank.take(rng.choice(real, count // 2, replace=False)), scenes])
    background = CropOptions().background
    pictures = np.stack([crops.view(i, encoder.size_px, background, rng) for i in range(len(crops))])
    embeddings = np.concatenate([encoder.embed_pictures(part) for part in np.array_split(pictures, 16)])
    phrases = [phrase for phrase in words.all_phrases() if phrase.words not in words.GENERIC_NEGATIVES]
    cosines = embeddings @ encoder.embed_texts([phrase.words for phrase in phrases]).T
    negatives = [encoder.embed_texts(encoder.traits.negatives_for(phrase.words)) for phrase in phrases]
    against = np.stack([(embeddings @ vectors.T).max(1) for vectors in negatives], axis=1)
    truth = words.phrase_truth(crops.shown, phrases)
    gaps, labels = (cosines - against)[truth >= 0], truth[truth >= 0] == 1
    weights = np.where(labels, 0.5 / labels.sum(), 0.5 / (~labels).sum())

    def loss(values: NDArray[np.float64]) -> float:
        logits = values[0] * gaps + values[1]
        return float((weights * np.logaddexp(0, np.where(labels, -logits, logits))).sum())

    slope, offset = minimize(loss, (10.0, 0.0), method="Nelder-Mead").x
    return float(slope), float(offset)


def main() -> None:
    """Measure or calibrate as the command line asks."""
    logging.basicConfig(format="%(message)s")
    _LOGGER.setLevel(logging.INFO)
    parser = argparse.ArgumentParser(prog="python -m fastsam_core.text.evaluate_demo", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of labelled sources")
    parser.add_argument("--encoder", default="demo")
    parser.add_argument("--scenes", type=int, default=100, help="generated scenes, and as many mosaics")
    parser.add_argument("--images", type=int, default=20, help="most images of one source")
    parser.add_argument("--backgrounds", nargs="+", default=[CropOptions().background], help="backgrounds, or: all")
    parser.add_argument("--margins", nargs="+", type=float, default=[CropOptions().margin])
    parser.add_argument("--calibrate", type=Path, metavar="CROPS.npz", help="crops that a training run kept")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    encoder = TextEncoder.load(arguments.encoder)
    if arguments.calibrate:
        slope, offset = calibrate(encoder, CropBank.load(arguments.calibrate))
        _LOGGER.info("slope %.3f offset %.3f", slope, offset)
        return
    scenes = [*drawn_scenes(arguments.scenes), *side_by_side(arguments.data, arguments.scenes, arguments.images)]
    backgrounds = get_args(Background) if arguments.backgrounds == ["all"] else arguments.backgrounds
    for background in backgrounds:
        for margin in arguments.margins if background not in UPSTREAM else [0.0]:
            for group, tally in measure(encoder, scenes, CropOptions(background, margin)).items():
                _LOGGER.info("%s, margin %.2f, %s: %s", background, margin, group, tally.line())


if __name__ == "__main__":
    from fastsam_core.cli._console import run_module

    run_module(main)
