"""A large image at a smaller scale, put together from its tiles, to find objects larger than tiles in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastsam_core.geometry import size_within
from fastsam_core.images import Image

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastsam_core._windows import Window

__all__ = ["Overview", "ReducedImage", "pixels_in"]

_LONGEST_PX = 2048
"""Longer side that larger images are reduced to, above every usual input of a network."""


@dataclass(frozen=True, slots=True, eq=False)
class ReducedImage(Image):
    """An image kept at a smaller scale; masks are found at its full size.

    Parameters
    ----------
    full_hw : tuple of int
        Height and width that it stands for.
    """

    full_hw: tuple[int, int]

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width in pixels, before it was reduced."""
        return self.full_hw


class Overview:
    """Collects the tiles of an image at a smaller scale.

    Parameters
    ----------
    image_hw : tuple of int
        Height and width of the image.
    least_px : int
        Longer side that is kept at least, of images that have it.
    """

    def __init__(self, image_hw: tuple[int, int], least_px: int = 0) -> None:
        self._image_hw = image_hw
        reduced_hw = size_within(image_hw, max(_LONGEST_PX, least_px))
        self._rgb8: npt.NDArray[np.uint8] = np.zeros((*reduced_hw, 3), np.uint8)

    def add(self, tile: Window, rgb8: npt.NDArray[np.uint8]) -> None:
        """Put in the pixels of a tile, uint8 (h, w, 3)."""
        import cv2

        inside = pixels_in(self._rgb8, tile, self._image_hw)
        if inside.shape == rgb8.shape:
            inside[:] = rgb8
        elif inside.size:
            inside[:] = cv2.resize(rgb8, (inside.shape[1], inside.shape[0]), interpolation=cv2.INTER_AREA)

    def image(self, of: Image) -> ReducedImage:
        """Return the image as a whole, given itself or one of its tiles for source and recipe."""
        return ReducedImage(self._rgb8, of.source, of.recipe, self._image_hw)


def pixels_in(rgb8: npt.NDArray[np.uint8], window: Window, image_hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Return a view of the pixels in a window of an image; ``rgb8`` may be that image at a smaller scale."""
    scale_y, scale_x = (have / full for have, full in zip(rgb8.shape, image_hw, strict=False))
    y0, y1 = round(window.y0 * scale_y), round(window.y1 * scale_y)
    x0, x1 = round(window.x0 * scale_x), round(window.x1 * scale_x)
    return rgb8[y0:y1, x0:x1]
