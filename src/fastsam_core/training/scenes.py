"""Generated scenes with exact instance masks: photographs' clutter and many kinds of microscopy.

A scene is drawn with random shapes, textures, light, blur and noise, so its masks are exhaustive and free of any
licence. It is a function of its seed and size alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastsam_core.training import (
    aerial_scene,
    cell_scene,
    flaw_scene,
    gland_scene,
    plant_scene,
    scene_kinds,
    speck_scene,
)
from fastsam_core.training.canvas import LEAST_AREA_PX

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from fastsam_core.training.canvas import Canvas

KINDS: dict[str, tuple[float, Callable[[np.random.Generator, tuple[int, int]], Canvas]]] = {
    "objects": (0.17, scene_kinds.objects),
    "regions": (0.14, scene_kinds.regions),
    "nuclei": (0.06, scene_kinds.nuclei),
    "cells": (0.06, cell_scene.cells),
    "tissue": (0.03, scene_kinds.tissue),
    "glands": (0.12, gland_scene.glands),
    "phase": (0.06, scene_kinds.phase),
    "grains": (0.04, scene_kinds.grains),
    "filaments": (0.04, scene_kinds.filaments),
    "droplets": (0.05, scene_kinds.droplets),
    "electron": (0.04, scene_kinds.electron),
    "specks": (0.03, speck_scene.specks),
    "flaws": (0.06, flaw_scene.flaws),
    "plants": (0.05, plant_scene.plants),
    "aerial": (0.05, aerial_scene.aerial),
}
"""Name -> (share among random scenes, painter)."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A generated picture and its instances.

    Attributes
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        RGB.
    layers : ndarray of uint16, shape (L, H, W)
        Label maps by nesting depth: wholes first, then their parts. Ids are unique over all layers, 0 is background.
    kind : str
        One of `KINDS`.
    """

    image: NDArray[np.uint8]
    layers: NDArray[np.uint16]
    kind: str

    @property
    def labels(self) -> NDArray[np.uint16]:
        """Label map of the wholes alone, shape (H, W)."""
        return np.asarray(self.layers[0])

    @property
    def ids(self) -> NDArray[np.uint16]:
        """Ids of all instances, ascending."""
        found = np.unique(self.layers)
        return found[found > 0]

    @property
    def masks(self) -> NDArray[np.bool_]:
        """All instances as masks of shape (N, H, W), in the order of `ids`; a whole includes its parts."""
        height, width = self.image.shape[:2]
        masks = [(self.layers == number).any(0) for number in self.ids]
        return np.stack(masks) if masks else np.zeros((0, height, width), bool)


def generate_scene(seed: int, size_hw: tuple[int, int] = (512, 512), kind: str | None = None) -> Scene:
    """Draw a scene.

    Parameters
    ----------
    seed : int
        Same seed, size and kind give the same scene.
    size_hw : tuple of int
        (H, W) in pixels, at least 32.
    kind : str, optional
        One of `KINDS`; drawn at random by default.

    Returns
    -------
    Scene

    Raises
    ------
    ValueError
        If the kind is unknown or the size too small.
    """
    if min(size_hw) < 32:
        raise ValueError(f"expected a scene of at least 32 x 32 pixels, got {size_hw}; draw larger and crop")
    rng = np.random.default_rng(seed)
    drawn = str(rng.choice(list(KINDS), p=np.array([share for share, _ in KINDS.values()])))
    kind = kind or drawn
    if kind not in KINDS:
        raise ValueError(f"unknown scene kind {kind!r}; expected one of {', '.join(KINDS)}")
    canvas = KINDS[kind][1](rng, size_hw)
    image = np.clip(canvas.rgb * 255, 0, 255).astype(np.uint8)
    return Scene(image, _tidy(canvas.layers), kind)


def _tidy(layers: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Drop remnants of hidden instances, number the rest 1..N and leave out empty layers."""
    areas = np.bincount(layers.ravel())
    keep = areas >= LEAST_AREA_PX
    keep[0] = False
    table = np.zeros(len(areas), np.uint16)
    table[keep] = np.arange(1, int(keep.sum()) + 1)
    layers = table[layers]
    used = [layer for layer in layers[1:] if layer.any()]
    return np.stack([layers[0], *used])
