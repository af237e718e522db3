"""What the examples share: arguments, the model, and how much a mask differs from what is around it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import binary_dilation
from skimage.color import rgb2lab

from fastsam_core import FastSAM, Image, Masks, read_image
from fastsam_core.errors import FastSAMError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def arguments(description: str | None, out: str) -> argparse.ArgumentParser:
    """Make a parser with the arguments that all examples take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("image", type=Path)
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--imgsz", type=int)
    parser.add_argument("--conf", type=float)
    return parser


def segment(chosen: argparse.Namespace) -> tuple[Image, Masks]:
    """Read the image and find everything in it."""
    image = read_image(chosen.image)
    masks = FastSAM.load(chosen.model).segment(image, imgsz=chosen.imgsz, conf=chosen.conf)
    return image, masks.filter(min_area_px=1)


def run(main: Callable[[], None]) -> None:
    """Run an example; what cannot be read or written is told in a line, with exit code 1."""
    try:
        main()
    except (FastSAMError, OSError) as error:
        raise SystemExit(f"error: {error}") from None


def contrast_with_surroundings(image: Image, masks: Masks, margin: float = 0.25) -> NDArray[np.float64]:
    """Return how far the mean colour of each mask is from that of a ring around it (CIELAB distance).

    Parameters
    ----------
    margin : float
        Width of the ring as a share of the root of the mask's area.
    """
    lab = rgb2lab(image.rgb8)
    height, width = image.image_hw
    contrast = np.zeros(len(masks))
    for i, mask in enumerate(masks.crops()):
        ring_px = max(int(margin * np.sqrt(masks.areas_px[i])), 2)
        x0, y0, x1, y1 = masks.extents_xyxy[i].tolist()
        padded = np.pad(mask, ring_px)
        ring = binary_dilation(padded, iterations=ring_px) & ~padded
        top, left = y0 - ring_px, x0 - ring_px
        inside = (slice(max(-top, 0), height - top), slice(max(-left, 0), width - left))
        window = lab[max(top, 0) : y1 + ring_px, max(left, 0) : x1 + ring_px]
        if ring[inside].any():
            contrast[i] = np.linalg.norm(window[padded[inside]].mean(axis=0) - window[ring[inside]].mean(axis=0))
    return contrast
