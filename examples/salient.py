"""Cut out the object that stands out: large, central, unlike its surroundings, and not cut off by the border."""

from __future__ import annotations

import numpy as np
from _common import arguments, contrast_with_surroundings, run, segment
from PIL import Image


def main() -> None:
    """Run the example."""
    parser = arguments(__doc__, "salient.png")
    parser.add_argument("--smallest", type=float, default=0.02, help="smallest share of the image")
    chosen = parser.parse_args()
    image, masks = segment(chosen)
    height, width = image.image_hw
    masks = masks.filter(min_area_px=chosen.smallest * height * width)
    if not len(masks):
        raise SystemExit("nothing found: try a lower --conf or --smallest")
    x0, y0, x1, y1 = masks.extents_xyxy.T
    middle = np.hypot((x0 + x1) / 2 / width - 0.5, (y0 + y1) / 2 / height - 0.5)
    borders = (x0 == 0).astype(int) + (y0 == 0) + (x1 == width) + (y1 == height)
    salience = contrast_with_surroundings(image, masks) * masks.scores * np.sqrt(masks.areas_px / (height * width))
    salience *= np.exp(-4 * middle**2) * 0.5**borders
    best = masks[[int(salience.argmax())]]
    cutout = np.dstack([image.rgb8, np.where(best.to_dense()[0], 255, 0).astype(np.uint8)])
    left, top, right, bottom = best.extents_xyxy[0].tolist()
    Image.fromarray(cutout[top:bottom, left:right]).save(chosen.out)
    print(f"x {left}–{right}, y {top}–{bottom}, score {best.scores[0]:.2f}")
    print("written:", chosen.out)


if __name__ == "__main__":
    run(main)
