"""Find defects: masks that points or boxes select, or else those that differ most from their surroundings."""

from __future__ import annotations

from _common import arguments, contrast_with_surroundings, run, segment

from fastsam_core import PROMPT_CONF, Box, Masks, Points, select
from fastsam_core.outputs import write_image
from fastsam_core.overlay import draw_overlay


def numbers(text: str) -> list[float]:
    """Read ``x,y`` or ``x0,y0,x1,y1``."""
    return [float(part) for part in text.split(",")]


def main() -> None:
    """Run the example."""
    parser = arguments(__doc__, "anomalies.png")
    parser.add_argument("--point", type=numbers, action="append", help="x,y on a defect")
    parser.add_argument("--box", type=numbers, action="append", help="x0,y0,x1,y1 around a defect")
    parser.add_argument("--most", type=int, default=5, help="defects to look for without prompts")
    parser.add_argument("--largest", type=float, default=0.1, help="largest share of the image a defect takes")
    chosen = parser.parse_args()
    if (chosen.point or chosen.box) and chosen.conf is None:
        chosen.conf = PROMPT_CONF
    image, masks = segment(chosen)
    if chosen.point or chosen.box:
        parts = []
        if chosen.point:
            parts.append(select(masks, Points([point[::-1] for point in chosen.point], groups="each", level="part")))
        if chosen.box:
            parts.append(select(masks, Box(chosen.box)))
        found = Masks.concatenate(parts)
    else:
        height, width = image.image_hw
        small = masks.filter(max_area_px=chosen.largest * height * width)
        ranked = small.with_fields(contrast=contrast_with_surroundings(image, small)).sort("contrast")
        found = ranked[: chosen.most]
    for i, (x0, y0, x1, y1) in enumerate(found.extents_xyxy.tolist()):
        print(f"{i + 1}: x {x0}–{x1}, y {y0}–{y1}, {found.areas_px[i]} px")
    print("written:", write_image(chosen.out, draw_overlay(image.rgb8, found)))


if __name__ == "__main__":
    run(main)
