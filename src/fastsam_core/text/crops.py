"""Cut each mask out of the image as a small square picture, the way an image encoder wants it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias, get_args

import numpy as np

from fastsam_core._checks import as_number
from fastsam_core._mask_pixels import reduced
from fastsam_core.errors import InvalidParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastsam_core.masks import Masks

__all__ = ["Background", "CropOptions", "Pixels", "blend", "cut_out", "cut_window"]

Background: TypeAlias = Literal["keep", "grey", "blur", "white", "black", "fastsam", "ultralytics"]

#: Shortest side of a window in image pixels, so that a mask of one pixel is seen with what is around it.
_LEAST_WINDOW_PX: Final = 8
_FILLS: Final = {"grey": 124, "white": 255, "black": 0}
#: Blur of the background, as a share of the crop's side.
_BLUR_SHARE: Final = 0.06
#: Windows of at least twice this side are reduced to about it while they are read, block by block.
_LONGEST_PX: Final = 2048
_BLOCK_PX: Final = 4096


class Pixels(Protocol):
    """An image of uint8, (H, W, 3), of which two slices give a part: an array, or what reads parts of a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width and 3."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the values."""

    def __getitem__(self, window: tuple[slice, slice], /) -> NDArray[np.uint8]:
        """Return rows and columns."""


@dataclass(frozen=True, slots=True)
class CropOptions:
    """How masks are cut out.

    Parameters
    ----------
    background : {"keep", "grey", "blur", "white", "black", "fastsam", "ultralytics"}
        What is shown around the mask: the image itself, gray, the image blurred, white, or black. Two more do as other
        programs, for comparison: ``"fastsam"`` pastes the mask's box onto a white page of the image's size (the
        paper's repository), ``"ultralytics"`` cuts the detector's box out and blackens what is not the mask.
    margin : float
        Room on each side of the mask, as a share of the longer side of its extent (not for the last two).

    Raises
    ------
    InvalidParameterError
        An unknown background, or a margin outside [0, 2].
    """

    background: Background = "keep"
    margin: float = 0.1

    def __post_init__(self) -> None:
        """Check the values."""
        if self.background not in get_args(Background):
            raise InvalidParameterError(
                "Unknown background of crops", expected=", ".join(get_args(Background)), actual=repr(self.background)
            )
        as_number("margin", self.margin, 0, 2)


def cut_window(
    image_rgb8: Pixels, masks: Masks, index: int, size_px: int, margin: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Cut the square around one mask out of the image and scale it.

    Parameters
    ----------
    image_rgb8 : ndarray of uint8, shape (H, W, 3), or what is read like one
        The image.
    masks : Masks
        Masks of that image.
    index : int
        Which of them; it must not be empty.
    size_px : int
        Side of the result.
    margin : float
        See `CropOptions`.

    Returns
    -------
    rgb8 : ndarray of uint8, shape (size_px, size_px, 3)
        Where the square leaves the image, the border pixels are repeated.
    alpha : ndarray of uint8, shape (size_px, size_px)
        Share of each pixel inside the mask, 255 is all of it.
    """
    window = _window(masks, index, margin)
    return _picture(image_rgb8, window, size_px), _cover(masks, index, window, size_px)


def _window(masks: Masks, index: int, margin: float) -> tuple[int, int, int]:
    """Return left, top and side of the square around a mask; it may leave the image."""
    x0, y0, x1, y1 = masks.extents_xyxy[index].tolist()
    side = max(_LEAST_WINDOW_PX, round(max(x1 - x0, y1 - y0) * (1 + 2 * margin)))
    return (x0 + x1 - side) // 2, (y0 + y1 - side) // 2, side


def _step(side: int, size_px: int) -> int:
    """Return how many pixels of a window become one before it is scaled: 1, but for very large ones."""
    return max(1, side // max(_LONGEST_PX, 4 * size_px))


def _picture(image_rgb8: Pixels, window: tuple[int, int, int], size_px: int) -> NDArray[np.uint8]:
    import cv2

    left, top, side = window
    height, width = image_rgb8.shape[:2]
    rows, columns = slice(max(top, 0), min(top + side, height)), slice(max(left, 0), min(left + side, width))
    step = _step(side, size_px)
    inside = np.asarray(image_rgb8[rows, columns]) if step == 1 else _in_small(image_rgb8, rows, columns, step)
    edges = (-top, top + side - height, -left, left + side - width)
    up, down, before, behind = (round(max(edge, 0) / step) for edge in edges)
    beyond = max(edges) > 0
    shown = cv2.copyMakeBorder(inside, up, down, before, behind, cv2.BORDER_REPLICATE) if beyond else inside
    way = cv2.INTER_AREA if side > size_px else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(shown, (size_px, size_px), interpolation=way), np.uint8)


def _in_small(image_rgb8: Pixels, rows: slice, columns: slice, step: int) -> NDArray[np.uint8]:
    """Read a part of the image as the means of blocks of step x step pixels, with little of it in memory."""
    import cv2

    height, width = rows.stop - rows.start, columns.stop - columns.start
    small = np.empty((-(-height // step), -(-width // step), 3), np.uint8)
    at_once = step * max(1, _BLOCK_PX // step)
    for y, x in product(range(0, height, at_once), range(0, width, at_once)):
        to_y, to_x = min(y + at_once, height), min(x + at_once, width)
        block = image_rgb8[rows.start + y : rows.start + to_y, columns.start + x : columns.start + to_x]
        target = small[y // step : -(-to_y // step), x // step : -(-to_x // step)]
        target[:] = cv2.resize(np.asarray(block), target.shape[1::-1], interpolation=cv2.INTER_AREA)
    return small


def _cover(masks: Masks, index: int, window: tuple[int, int, int], size_px: int) -> NDArray[np.uint8]:
    import cv2

    left, top, side = window
    small = side // _step(side, size_px)
    placed = masks[[index]].placed((-top, -left), (side, side))
    alpha = reduced(placed, (small, small)).to_dense()[0].astype(np.uint8) * np.uint8(255)
    way = cv2.INTER_AREA if side > size_px else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(alpha, (size_px, size_px), interpolation=way), np.uint8)


def blend(rgb8: NDArray[np.uint8], alpha: NDArray[np.uint8], background: Background) -> NDArray[np.uint8]:
    """Replace what is outside the mask; ``alpha`` as `cut_window` gives it."""
    import cv2

    if background == "keep":
        return rgb8
    if background == "blur":
        behind = cv2.GaussianBlur(rgb8, (0, 0), _BLUR_SHARE * rgb8.shape[0]).astype(np.uint16)
    else:
        behind = np.full(rgb8.shape, _FILLS[background], np.uint16)
    share = alpha[..., None].astype(np.uint16)
    mixed = (rgb8 * share + behind * (255 - share) + 127) // 255
    return mixed.astype(np.uint8)


def cut_out(image_rgb8: Pixels, masks: Masks, index: int, size_px: int, options: CropOptions) -> NDArray[np.uint8]:
    """Return one mask as a picture of shape (size_px, size_px, 3); see `cut_window`."""
    if options.background == "keep":  # the mask's pixels do not matter
        return _picture(image_rgb8, _window(masks, index, options.margin), size_px)
    return blend(*cut_window(image_rgb8, masks, index, size_px, options.margin), options.background)
