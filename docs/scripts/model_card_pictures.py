"""Make the picture of ``docs/model-card.md``: twelve images, each beside everything that the built-in model finds.

``python docs/scripts/model_card_pictures.py``; the images come with scikit-image and were never trained on.
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


def fitted(rgb8: np.ndarray) -> Image.Image:
    """Return a picture that fits a cell, centred on black."""
    picture = Image.fromarray(rgb8)
    picture.thumbnail((CELL_WIDTH - 6, CELL_HEIGHT - 6))
    cell = Image.new("RGB", (CELL_WIDTH, CELL_HEIGHT))
    cell.paste(picture, ((CELL_WIDTH - picture.width) // 2, (CELL_HEIGHT - picture.height) // 2))
    return cell


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
        print(f"{name}: {len(masks)} masks")
    sheet.save(OUT, quality=85)


if __name__ == "__main__":
    main()
