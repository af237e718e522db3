"""A model's own masks as further things to learn in photographs that are annotated in part only.

``python -m fastsam_core.training.self_training --data FOLDER --weights NOW --earlier BEFORE --regions IN --out OUT``

What a model finds is often right where nobody annotated. Those masks are kept that it finds again in the mirrored
image, and that an earlier model found too: what is there by chance, one of these views misses. Learning from what
several views agree on is data distillation (Radosavovic et al. 2018, arXiv 1712.04440).
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from fastsam_core._files import atomic_path
from fastsam_core.masks import Masks
from fastsam_core.training.regions import add_regions
from fastsam_core.training.sources import SOURCES, load_source, stack_layers
from fastsam_core.training.validate import load_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastsam_core.model import FastSAM
    from fastsam_core.training.sources import LabelledImage

__all__ = ["add_own_masks", "agreed_masks"]

LOGGER = logging.getLogger("fastsam_core.training.self_training")
_AGREED_IOU: Final = 0.7
"""Masks of two views that overlap by more than this show the same thing."""
_SAME_IOU: Final = 0.8
"""Masks that overlap an annotation or a region by more than this are known already."""


def agreed_masks(rgb8: NDArray[np.uint8], model: FastSAM, earlier: FastSAM) -> Masks:
    """Segment an image and keep what is found in every view.

    Parameters
    ----------
    rgb8 : ndarray of uint8, shape (H, W, 3)
    model, earlier : FastSAM
        The first one's masks are kept if it finds them in the mirrored image too, and if the second finds them.

    Returns
    -------
    Masks
        Best first.
    """
    found = model.segment(rgb8)
    mirrored = np.ascontiguousarray(model.segment(np.ascontiguousarray(rgb8[:, ::-1])).to_dense()[..., ::-1])
    views = (Masks.from_dense(mirrored), earlier.segment(rgb8))
    agreed = [found.iou(view).max(axis=1, initial=0) > _AGREED_IOU for view in views]
    return found[np.logical_and.reduce(agreed)]


def add_own_masks(sample: LabelledImage, own: Masks) -> LabelledImage:
    """Add masks to the layers that nobody annotated.

    Parameters
    ----------
    sample : LabelledImage
        With regions (`fastsam_core.training.regions.add_regions`) or without.
    own : Masks

    Returns
    -------
    LabelledImage
        With one more object for each mask that is neither annotated nor a region already.
    """
    known = [Masks.from_label_map(layer) for layer in sample.layers]
    fresh = own[np.logical_and.reduce([own.iou(masks).max(axis=1, initial=0) <= _SAME_IOU for masks in known])]
    if not len(fresh):
        return sample
    layers = stack_layers(fresh.to_dense(), sample.image.shape[:2], slack=0.0)
    layers[layers > 0] += sample.layers.max()
    return replace(sample, layers=np.concatenate([sample.layers, layers]), guessed=sample.guessed + len(layers))


def _write(sample: LabelledImage, path: Path) -> None:
    """Write what nobody annotated as `add_regions` reads it."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, layers=sample.layers[len(sample.annotated) :])


def main() -> None:
    """Make a folder for ``python -m fastsam_core.training --regions``."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m fastsam_core.training.self_training", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of labelled sources")
    parser.add_argument("--weights", default="builtin", help="model, weights file or training checkpoint")
    parser.add_argument("--earlier", required=True, help="weights that have to agree")
    parser.add_argument("--regions", type=Path, required=True, help="folder of regions found in photographs")
    parser.add_argument("--out", type=Path, required=True, help="folder for these regions and the model's masks")
    arguments = parser.parse_args()
    model, earlier = load_model(arguments.weights), load_model(arguments.earlier)
    for spec in SOURCES:
        if spec.guess:
            folder = arguments.out / spec.name
            folder.mkdir(parents=True, exist_ok=True)
            samples = add_regions(load_source(arguments.data, spec, "train"), arguments.regions / spec.name)
            for sample in samples:
                _write(add_own_masks(sample, agreed_masks(sample.image, model, earlier)), folder / f"{sample.stem}.npz")
            LOGGER.info("%s: %d images", spec.name, len(samples))


if __name__ == "__main__":
    from fastsam_core.cli._console import run_module

    run_module(main)
