"""Extract buildings from an aerial photo as polygons: masks of the right size that are nearly rectangular."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import cv2
import numpy as np
from _common import arguments, run, segment

from fastsam_core.evaluation.microscopy import without_overlap
from fastsam_core.outputs import write_image
from fastsam_core.overlay import draw_overlay

if TYPE_CHECKING:
    from fastsam_core import Masks


def rectangularity(masks: Masks) -> np.ndarray:
    """Return the share of each mask's smallest rotated rectangle that it fills."""
    filled = np.zeros(len(masks))
    for i, mask in enumerate(masks.crops()):
        points = np.argwhere(np.pad(mask, 1)).astype(np.float32)
        (_, (long, short), _) = cv2.minAreaRect(points)
        filled[i] = masks.areas_px[i] / ((long + 1) * (short + 1))
    return filled


def main() -> None:
    """Run the example."""
    parser = arguments(__doc__, "buildings.geojson")
    parser.add_argument("--smallest", type=int, default=150, help="px")
    parser.add_argument("--largest", type=float, default=0.1, help="largest share of the image")
    parser.add_argument("--rectangularity", type=float, default=0.7)
    chosen = parser.parse_args()
    image, masks = segment(chosen)
    height, width = image.image_hw
    masks = masks.filter(min_area_px=chosen.smallest, max_area_px=chosen.largest * height * width)
    buildings = without_overlap(masks[rectangularity(masks) >= chosen.rectangularity])
    features = []
    for rings, score in zip(buildings.to_polygons(tolerance_px=1.5), buildings.scores.tolist(), strict=True):
        if rings:
            # pixels, x first; add the affine transform of the photo for map coordinates
            outline = max(rings, key=len)[:, ::-1].tolist()
            geometry = {"type": "Polygon", "coordinates": [outline]}
            features.append({"type": "Feature", "properties": {"score": round(score, 3)}, "geometry": geometry})
    chosen.out.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    picture = write_image(chosen.out.with_suffix(".png"), draw_overlay(image.rgb8, buildings))
    print(f"{len(features)} buildings; written: {chosen.out}, {picture}")


if __name__ == "__main__":
    run(main)
