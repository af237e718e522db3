"""Stained nuclei drawn into photographs: small bodies on real texture, whatever the rest of the picture looks like.

Without them a network learns that pictures with the texture of a photograph hold nothing small, and then overlooks the
nuclei of a section whose glands and fibres look like one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fastsam_core.training.canvas import Canvas, random_extent
from fastsam_core.training.gland_scene import scatter_nuclei
from fastsam_core.training.stains import STAINS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastsam_core.training.canvas import Shader
    from fastsam_core.training.sources import LabelledImage

__all__ = ["sprinkle"]

_LEAST_LIGHT: Final = 0.35
"""Light of a place (0..1) that leaves dye to be seen."""
_LEAST_SHARE: Final = 0.3
"""Of the picture that must be so light."""
_TAKEN: Final = np.iinfo(np.uint16).max
_LEAST_RADIUS_PX: Final = 3.5


def sprinkle(sample: LabelledImage, rng: np.random.Generator) -> None:
    """Draw nuclei that take light away from a picture (in place); a dark picture stays as it is.

    Parameters
    ----------
    sample : LabelledImage
        Gets the nuclei as a further layer, above all that is annotated.
    rng : numpy.random.Generator
        Source of randomness.
    """
    import cv2

    light = sample.image.astype(np.float32) / np.float32(255)
    dark = cv2.GaussianBlur(light.mean(axis=2), (0, 0), 3) < _LEAST_LIGHT
    if 1 - dark.mean() < _LEAST_SHARE:
        return
    dye = np.asarray(STAINS["haematoxylin, blue"] if rng.random() < 0.7 else rng.uniform(0, 1, 3))
    dye = dye * np.exp(rng.normal(0, 0.2, 3))

    def dyed(amount: float, _: float) -> Shader:
        passed = np.exp(-2.0 * max(amount, 0.2) * dye).astype(np.float32)

        def shade(window: NDArray[np.float32], _: NDArray[np.bool_]) -> NDArray[np.float32]:
            return window * passed

        return shade

    canvas = Canvas(light)
    canvas.layers[0][dark] = _TAKEN
    radius_px = max(random_extent(rng, dark.shape, 0.008, 0.03), _LEAST_RADIUS_PX)
    scatter_nuclei(canvas, rng, radius_px, float(rng.uniform(0, np.pi)), dyed)
    drawn = np.where(canvas.layers[:1] == _TAKEN, 0, canvas.layers[:1])
    sample.image = np.clip(canvas.rgb * 255, 0, 255).astype(np.uint8)
    if drawn.any():
        numbered = np.where(drawn > 0, drawn + sample.layers.max(), 0).astype(np.uint16)
        # guessed layers stay the last ones
        known = len(sample.annotated)
        sample.layers = np.concatenate([sample.layers[:known], numbered, sample.layers[known:]])
