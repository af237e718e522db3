"""Make docs/images/text.jpg: four texts asked about the drawn picture of the demo, and their answers."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fastsam_core import FastSAM, Text, read_image
from fastsam_core.cli._demo_scenes import SCENES, scene_path
from fastsam_core.overlay import draw_overlay
from fastsam_core.text import DEMO, TextEncoder, embed_masks, select_text

TARGET = Path(__file__).parents[1] / "images" / "text.jpg"


def main() -> None:
    """Segment, ask, draw the answers beside the image, and write the words under the masks they chose."""
    [scene] = [scene for scene in SCENES if scene.texts]
    with tempfile.TemporaryDirectory() as folder:
        image = read_image(scene_path(scene, Path(folder))).rgb8
    masks = FastSAM.load("builtin").segment(image)
    encoder = TextEncoder.load(DEMO)
    prompt = Text(scene.texts)
    found = select_text(encoder, masks, embed_masks(encoder, image, masks), prompt)
    width = image.shape[1]
    chosen = found.to_dense().any(axis=0)[..., None]
    answer = draw_overlay(np.where(chosen, image, image // 3), found, alpha=0.0)  # colours are what is asked for
    picture = Image.fromarray(np.concatenate([image, answer], axis=1))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(20)
    columns = (found.extents_xyxy, found.fields["prompt_index"], found.fields["prompt_score"])
    for (x0, _, x1, y1), query, score in zip(*columns, strict=True):
        words = f"{prompt.queries[query]} {score:.2f}"
        at = (min(width + (x0 + x1) / 2, 2 * width - draw.textlength(words, font) / 2 - 4), y1 + 4)
        draw.text(at, words, (255, 255, 255), font, "mt", stroke_width=1, stroke_fill=(0, 0, 0))
    picture.save(TARGET, quality=88)


if __name__ == "__main__":
    main()
