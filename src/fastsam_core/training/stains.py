"""Dyes of histology: their optical densities, and other dyes put in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fastsam_core.training.canvas import noise_field

if TYPE_CHECKING:
    from numpy.typing import NDArray

STAINS: Final = {
    "haematoxylin": (0.65, 0.70, 0.29),
    "haematoxylin, blue": (0.75, 0.60, 0.28),
    "eosin": (0.07, 0.99, 0.11),
    "DAB": (0.27, 0.57, 0.78),
    "AEC": (0.27, 0.68, 0.68),
}
"""Optical densities in red, green and blue (Ruifrok and Johnston 2001; those of AEC are approximate)."""


def restain(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Take a stained picture's haematoxylin and eosin apart and put other stains in their place.

    Varying stains in optical density follows Tellez et al. 2018 (DOI 10.1109/TMI.2018.2820199); here the stains are
    exchanged too: nuclei turn blue or brown, the ground pale, pink, brown or red, and often as uneven as the cytoplasm
    in immunohistochemistry.
    """
    from skimage.color import combine_stains, hed_from_rgb, separate_stains

    densities = separate_stains(image, hed_from_rgb)[..., :2]
    if rng.random() < 0.5:
        size_hw = (image.shape[0], image.shape[1])
        coarse, fine = (noise_field(rng, size_hw, float(scale_px)) for scale_px in (rng.uniform(20, 80), 3.0))
        uneven = np.clip(0.5 + 0.35 * coarse + 0.1 * fine, 0, None)
        beside = 1 - np.clip(densities[..., 0] / max(float(np.quantile(densities[..., 0], 0.98)), 1e-3), 0, 1)
        densities[..., 1] += rng.uniform(0.02, 0.12) * uneven * beside
    names = ("haematoxylin", "haematoxylin, blue", "DAB") if rng.random() < 0.8 else ("AEC", "DAB", "eosin")
    nuclei = STAINS[names[int(rng.integers(3))]]
    grounds = [stain for stain in STAINS.values() if stain != nuclei]
    ground = grounds[int(rng.integers(len(grounds)))]
    vectors = np.asarray([nuclei, ground]) * np.exp(rng.normal(0, 0.1, (2, 3)))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    strengths = np.exp(rng.normal((-0.3, 0.0), (0.35, 0.5)))
    # combine_stains wants as many stains as colours: the third is absent.
    stains = np.dstack([densities * strengths, np.zeros(image.shape[:2])])
    mixed = combine_stains(stains, np.vstack([vectors, np.ones(3)]))
    return np.asarray(np.clip(mixed * 255, 0, 255), np.uint8)
