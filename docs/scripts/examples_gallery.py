"""Make the pictures of ``docs/examples.md``: ``python docs/scripts/examples_gallery.py [--model NAME]``.

Runs the scripts of ``examples/`` on images that come with scikit-image, and on a drawn aerial tile.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from skimage import data, filters, transform

DOCS = Path(__file__).parents[1]
OUT = DOCS / "images" / "examples"
EXAMPLES = DOCS.parent / "examples"
PICTURE_HEIGHT = 320


def aerial_tile(seed: int = 7) -> np.ndarray:
    """Draw roofs along two streets on uneven ground, seen from above; uint8 (512, 512, 3)."""
    rng = np.random.default_rng(seed)
    ground = filters.gaussian(rng.normal(size=(512, 512)), 12)
    tile = Image.fromarray((np.clip(ground[..., None] * 300 + (96, 122, 70), 0, 255)).astype(np.uint8))
    draw = ImageDraw.Draw(tile)
    draw.line((0, 262, 512, 240), fill=(150, 150, 152), width=26)
    draw.line((250, 0, 268, 512), fill=(150, 150, 152), width=26)
    colours = ((168, 84, 62), (196, 186, 170), (120, 74, 60), (110, 112, 120), (214, 208, 200))
    for y in (60, 170, 340, 450):
        for x in (50, 130, 210, 320, 400, 475):
            turn, (long, wide) = rng.normal(0, 0.12), rng.uniform((38, 26), (58, 44))
            rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
            centre = np.array((x, y)) + rng.normal(0, 4, 2)
            corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (long / 2, wide / 2) @ rotation + centre
            ridge = np.array([[-1, 0], [1, 0]]) * (long / 2, 0) @ rotation + centre
            draw.polygon([tuple(corner + 5) for corner in corners], fill=(46, 56, 38))
            colour = np.array(colours[rng.integers(len(colours))])
            draw.polygon([tuple(corner) for corner in corners], fill=tuple(colour))
            shaded = [tuple(corners[2]), tuple(corners[3]), *map(tuple, ridge)]
            draw.polygon(shaded, fill=tuple((colour * 0.82).astype(int)))
    noisy = np.asarray(tile) + rng.normal(0, 5, (512, 512, 3))
    return (np.clip(filters.gaussian(noisy, 0.7, channel_axis=-1), 0, 255)).astype(np.uint8)


def beside(left: np.ndarray, right: np.ndarray, name: str) -> None:
    """Save two RGB pictures side by side at equal height."""
    parts = []
    for picture in (left, right):
        width = round(picture.shape[1] * PICTURE_HEIGHT / picture.shape[0])
        parts.append(transform.resize(picture, (PICTURE_HEIGHT, width), anti_aliasing=True))
    OUT.mkdir(parents=True, exist_ok=True)
    joined = np.concatenate([parts[0], np.ones((PICTURE_HEIGHT, 8, 3)), parts[1]], axis=1)
    Image.fromarray((joined * 255).round().astype(np.uint8)).save(OUT / f"{name}.jpg", quality=88)


def run(script: str, image: Path, out: Path, *arguments: str) -> None:
    """Run an example."""
    command = [sys.executable, str(EXAMPLES / script), str(image), "--out", str(out), *arguments]
    subprocess.run(command, check=True)


def rgb(path: Path) -> np.ndarray:
    """Read a picture, with a transparent background in white."""
    picture = Image.open(path).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return np.asarray(Image.alpha_composite(white, picture).convert("RGB"))


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="builtin")
    model = ("--model", parser.parse_args().model)
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        images = {"moon": np.dstack([data.moon()] * 3), "coffee": data.coffee(), "tile": aerial_tile()}
        for name, picture in images.items():
            Image.fromarray(picture).save(here / f"{name}.png")
        run("anomaly.py", here / "moon.png", here / "anomaly.png", "--most", "8", *model)
        run("salient.py", here / "coffee.png", here / "salient.png", *model)
        run("buildings.py", here / "tile.png", here / "buildings.geojson", *model)
        for name, source in (("anomaly", "moon"), ("salient", "coffee"), ("buildings", "tile")):
            beside(images[source], rgb(here / f"{name}.png"), name)


if __name__ == "__main__":
    main()
