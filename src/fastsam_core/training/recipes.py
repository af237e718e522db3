"""Named settings for Ultralytics' trainer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NETWORKS", "RECIPES", "Recipe"]

NETWORKS: Final = {size: f"yolov8{size}-seg" for size in "nsmlx"}
"""Size -> Ultralytics' name of the network."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train.

    Parameters
    ----------
    title : str
        One line for people.
    network : str
        Size, one of `NETWORKS`.
    imgsz, epochs, batch, patience : int
        Long side in pixels, passes over the data, images a step, epochs without a better recall before it stops.
    reg_max : int
        Bins of the distance to each side of a box; with stride 32 a box reaches ``32 (reg_max - 1)`` px to each side.
    settings : mapping
        Further settings of Ultralytics.
    """

    title: str
    network: str
    imgsz: int
    epochs: int
    batch: int
    patience: int
    reg_max: int
    settings: Mapping[str, object] = field(default_factory=dict)


_SGD_2023: Final = {"optimizer": "SGD", "lr0": 0.01, "lrf": 0.01, "momentum": 0.937, "weight_decay": 0.0005}
"""Ultralytics' defaults when FastSAM was trained."""

RECIPES: Final[dict[str, Recipe]] = {
    "paper": Recipe(
        title="FastSAM's own: YOLOv8x-seg, 1024 px, 100 epochs, reg_max 26 (Zhao et al. 2023, section 4)",
        network="x",
        imgsz=1024,
        epochs=100,
        batch=32,
        patience=100,
        reg_max=26,
        settings={**_SGD_2023, "save_period": 5},
    ),
    "small": Recipe(
        title="one machine, some thousand images: 640 px, stops when recall no longer rises",
        network="s",
        imgsz=640,
        epochs=60,
        batch=16,
        patience=10,
        reg_max=16,
        settings={"optimizer": "AdamW", "lr0": 0.001, "cos_lr": True, "nbs": 16, "degrees": 5.0, "flipud": 0.2},
    ),
}
"""Name -> recipe. All train one class with ``overlap_mask=False``, so that nested masks survive."""
