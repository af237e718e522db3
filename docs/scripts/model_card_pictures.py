"""Make the picture of ``docs/model-card.md``: twelve images, each beside everything that the built-in model finds.

``python docs/scripts/model_card_pictures.py``; the images come with scikit-image and were never trained on. It also
counts where masks end in a straight line at a side of their extent, as masks do that are cut at a box, and how many of
these lie on the box.
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
BOX_PX = 1.5
"""So near a side of its predicted box, the box may have cut a mask."""


def fitted(rgb8: np.ndarray) -> Image.Image:
    """Return a picture that fits a cell, centred on black."""
    picture = Image.fromarray(rgb8)
    picture.thumbnail((CELL_WIDTH - 6, CELL_HEIGHT - 6))
    cell = Image.new("RGB", (CELL_WIDTH, CELL_HEIGHT))
    cell.paste(picture, ((CELL_WIDTH - picture.width) // 2, (CELL_HEIGHT - picture.height) // 2))
    return cell


def straight_sides(mask: np.ndarray, box_xyxy: np.ndarray) -> tuple[int, int]:
    """Count the sides of the extent of a mask (H, W) along which it runs for long, but for the image's border.

    Also how many of these lie on the predicted box, which may have cut the mask there; the others are the mask's own.
    """
    x0, y0, x1, y1 = box_xyxy.tolist()
    count = on_box = 0
    for across, sides in ((mask, (y0, y1)), (mask.T, (x0, x1))):
        taken = np.flatnonzero(across.any(axis=1))
        for end, edge, side in ((taken[0], taken[0], sides[0]), (taken[-1], taken[-1] + 1, sides[1])):
            if BORDER_PX <= end < len(across) - BORDER_PX:
                changes = np.flatnonzero(np.diff(across[end].astype(np.int8), prepend=0, append=0))
                straight = (changes[1::2] - changes[::2]).max() > STRAIGHT * min(mask.shape)
                count += straight
                on_box += straight and abs(edge - side) <= BOX_PX
    return count, on_box


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
        sides = [straight_sides(mask, box) for mask, box in zip(masks.to_dense(), masks.boxes_xyxy, strict=True)]
        straight, on_box = np.sum(sides, axis=0)
        print(f"{name}: {len(masks)} masks, {straight} straight sides, {on_box} of them on the box")
    sheet.save(OUT, quality=85)


if __name__ == "__main__":
    main()
