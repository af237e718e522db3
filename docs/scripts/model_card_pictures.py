"""Make the picture of ``docs/model-card.md``: twelve images, each beside everything that the built-in model finds.

``python docs/scripts/model_card_pictures.py``; the images come with scikit-image and were never trained on. It also
counts where masks end in a straight line at a side of their extent, as masks do that are cut at a box.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from fastsam_core import FastSAM
from fastsam_core.overlay import draw_overlay

OUT = Path(__file__).parents[1] / "images" / "model_card.jpg"
NAMES = (
    *("astronaut.png", "coffee.png", "chelsea.png", "camera.png", "motorcycle_left.png", "rocket.jpg"),
    *("coins.png", "cell.png", "ihc.png", "retina.jpg", "moon.png", "hubble_deep_field.jpg"),
)
CELL_WIDTH, CELL_HEIGHT, COLUMNS = 270, 220, 3
STRAIGHT = 0.06
"""Straight from this part of the image's shorter side on."""
BORDER_PX = 3
"""So near the border of the image, the border may draw a side."""


def fitted(rgb8: np.ndarray) -> Image.Image:
    """Return a picture that fits a cell, centred on black."""
    picture = Image.fromarray(rgb8)
    picture.thumbnail((CELL_WIDTH - 6, CELL_HEIGHT - 6))
    cell = Image.new("RGB", (CELL_WIDTH, CELL_HEIGHT))
    cell.paste(picture, ((CELL_WIDTH - picture.width) // 2, (CELL_HEIGHT - picture.height) // 2))
    return cell


def straight_sides(mask: np.ndarray) -> int:
    """Count the sides of the extent of a mask (H, W) along which it runs for long, but for the image's border."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    count = 0
    for across, ends in ((mask, rows), (mask.T, columns)):
        for end in {ends[0], ends[-1]}:
            if BORDER_PX <= end < len(across) - BORDER_PX:
                changes = np.flatnonzero(np.diff(across[end].astype(np.int8), prepend=0, append=0))
                count += (changes[1::2] - changes[::2]).max() > STRAIGHT * min(mask.shape)
    return count


def main() -> None:
    """Make the picture."""
    model = FastSAM.load("builtin")
    sheet = Image.new("RGB", (2 * COLUMNS * CELL_WIDTH, len(NAMES) // COLUMNS * CELL_HEIGHT))
    for place, name in enumerate(NAMES):
        rgb8 = np.asarray(Image.open(Path(data.__file__).parent / name).convert("RGB"))
        masks = model.segment(rgb8)
        row, column = divmod(place, COLUMNS)
        for half, picture in enumerate((rgb8, draw_overlay(rgb8, masks))):
            sheet.paste(fitted(picture), ((2 * column + half) * CELL_WIDTH, row * CELL_HEIGHT))
        straight = sum(straight_sides(mask) for mask in masks.to_dense())
        print(f"{name}: {len(masks)} masks, {straight} straight sides")
    sheet.save(OUT, quality=85)


if __name__ == "__main__":
    main()
