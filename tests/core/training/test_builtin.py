"""The weights that ship: small, complete, and good enough for the first picture a newcomer tries."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest
from safetensors import safe_open
from scipy import ndimage
from skimage import data, filters, measure, morphology, segmentation

from fastsam_core import FastSAM, Masks

WEIGHTS = files("fastsam_core") / "weights" / "builtin.safetensors"
FACTS = {"format", "architecture", "nc", "reg_max", "nm", "imgsz", "adaptive", "conf", "iou"} | {
    "licence",
    "trained_on",
    "train_seconds",
    "commit",
}


def coin_masks() -> np.ndarray[tuple[int, int, int], np.dtype[np.bool_]]:
    """Separate the 24 coins by watershed on the gradient, as scikit-image's own tutorial does."""
    image = data.coins()
    markers = np.zeros(image.shape, np.int32)
    markers[image < 30], markers[image > 150] = 1, 2
    filled = ndimage.binary_fill_holes(segmentation.watershed(filters.sobel(image), markers) == 2)
    labels = measure.label(morphology.opening(filled, morphology.disk(3)))
    regions = [region for region in measure.regionprops(labels) if region.area > 500]
    return np.stack([labels == region.label for region in regions])


def test_weights_are_small_and_tell_about_themselves() -> None:
    with safe_open(str(WEIGHTS), framework="pt") as file:
        facts = file.metadata()
        types = {file.get_slice(name).get_dtype() for name in file.keys()}
    assert facts.keys() >= FACTS
    assert types == {"F16"}
    assert len(WEIGHTS.read_bytes()) < 8_000_000


@pytest.mark.slow
def test_finds_the_coins() -> None:
    truth = Masks.from_dense(coin_masks())
    assert len(truth) == 24
    found = FastSAM.load("builtin").segment(data.coins())
    assert int((truth.iou(found).max(axis=1) >= 0.5).sum()) >= 22
