"""Boxes and the letterbox transform: pure functions on NumPy arrays, no model and no torch.

Boxes are ``xyxy`` in pixels, half-open: ``x1 - x0`` is the width. The letterbox follows Ultralytics' ``LetterBox`` with
``auto=True, center=True`` so that a network trained there sees exactly the input it knows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsam_core.errors import InvalidParameterError

__all__ = [
    "PADDING_VALUE",
    "Letterbox",
    "box_areas",
    "box_intersections",
    "box_iou",
    "clip_boxes",
    "letterbox",
    "plan_letterbox",
    "round_to_stride",
    "size_within",
    "snap_boxes_to_border",
]

Float32Array = npt.NDArray[np.float32]
UInt8Array = npt.NDArray[np.uint8]

PADDING_VALUE = 114
"""Grey value (0 to 255) that Ultralytics pads with."""


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where an image lies inside the network's input.

    Parameters
    ----------
    source_hw : tuple of int
        Height and width of the image in pixels.
    resized_hw : tuple of int
        Height and width of the image after resizing, still without padding.
    network_hw : tuple of int
        Height and width of the padded network input.
    pad_yx : tuple of int
        Rows above and columns left of the image in the network input.
    """

    source_hw: tuple[int, int]
    resized_hw: tuple[int, int]
    network_hw: tuple[int, int]
    pad_yx: tuple[int, int]

    @property
    def scale(self) -> float:
        """Nominal scale, network pixels per image pixel, before rounding to whole pixels."""
        return min(self.network_hw[0] / self.source_hw[0], self.network_hw[1] / self.source_hw[1])

    def to_network(self, boxes_xyxy: npt.ArrayLike) -> Float32Array:
        """Move boxes (..., 4) from image pixels to network pixels."""
        scale, pad = self._box_terms()
        return (np.asarray(boxes_xyxy, dtype=np.float32) * scale + pad).astype(np.float32, copy=False)

    def to_image(self, boxes_xyxy: npt.ArrayLike) -> Float32Array:
        """Move boxes (..., 4) from network pixels to image pixels and clip them to the image."""
        scale, pad = self._box_terms()
        return clip_boxes((np.asarray(boxes_xyxy, dtype=np.float32) - pad) / scale, self.source_hw)

    def _box_terms(self) -> tuple[Float32Array, Float32Array]:
        """Return scale and offset of boxes as Ultralytics' ``scale_boxes`` has them.

        It recovers them from the two sizes alone. For about one image size in a hundred (the rounded side is a
        multiple of the stride, so that nothing was padded) this differs from `resized_hw` and `pad_yx` by up to a
        pixel. Masks are decoded with the same rule, so that boxes and masks stay together.
        """
        resized_h, resized_w = (max(round(side * self.scale), 1) for side in self.source_hw)
        scale_y, scale_x = resized_h / self.source_hw[0], resized_w / self.source_hw[1]
        pad_y = round((self.network_hw[0] - resized_h) / 2 - 0.1)
        pad_x = round((self.network_hw[1] - resized_w) / 2 - 0.1)
        return (
            np.array((scale_x, scale_y, scale_x, scale_y), dtype=np.float32),
            np.array((pad_x, pad_y, pad_x, pad_y), dtype=np.float32),
        )


def round_to_stride(size_px: int, stride: int = 32) -> int:
    """Round a size up to a multiple of the stride, at least one stride."""
    return max(math.ceil(size_px / stride) * stride, stride)


def plan_letterbox(source_hw: tuple[int, int], imgsz: int, stride: int = 32) -> Letterbox:
    """Work out the letterbox of an image without touching pixels.

    Parameters
    ----------
    source_hw : tuple of int
        Height and width of the image, both at least 1.
    imgsz : int
        Length of the longer side of the network input in pixels; rounded up to a multiple of ``stride``.
    stride : int
        Largest stride of the network.

    Raises
    ------
    InvalidParameterError
        If the image has no pixels or ``imgsz`` is not positive.
    """
    height, width = source_hw
    if height < 1 or width < 1 or imgsz < 1:
        raise InvalidParameterError(
            "An image without pixels cannot be letterboxed",
            expected="height, width and imgsz of at least 1",
            actual=f"{height} x {width} at imgsz {imgsz}",
        )
    side = round_to_stride(imgsz, stride)
    scale = min(side / height, side / width)
    resized_h, resized_w = max(round(height * scale), 1), max(round(width * scale), 1)
    spare_h, spare_w = (side - resized_h) % stride, (side - resized_w) % stride
    return Letterbox(
        source_hw=(height, width),
        resized_hw=(resized_h, resized_w),
        network_hw=(resized_h + spare_h, resized_w + spare_w),
        pad_yx=(round(spare_h / 2 - 0.1), round(spare_w / 2 - 0.1)),
    )


def size_within(image_hw: tuple[int, int], longest_px: int) -> tuple[int, int]:
    """Return the size of an image reduced to a longer side of so many pixels, its own where it is smaller."""
    scale = min(1.0, longest_px / max(image_hw))
    height, width = (max(round(side * scale), 1) for side in image_hw)
    return height, width


def letterbox(
    rgb8: UInt8Array, imgsz: int, stride: int = 32, *, source_hw: tuple[int, int] | None = None
) -> tuple[UInt8Array, Letterbox]:
    """Resize an image into the network's input and pad it with grey to whole strides.

    Parameters
    ----------
    rgb8 : uint8 array (H, W, 3)
        The image.
    imgsz : int
        Length of the longer side of the network input in pixels.
    stride : int
        Largest stride of the network.
    source_hw : tuple of int, optional
        Height and width that the image stands for, where it was made smaller before.

    Returns
    -------
    uint8 array (h, w, 3)
        The network's input, C-contiguous.
    Letterbox
        Where the image lies in it.
    """
    import cv2

    pixels_hw = (rgb8.shape[0], rgb8.shape[1])
    plan = plan_letterbox(source_hw or pixels_hw, imgsz, stride)
    (resized_h, resized_w), (height, width), (top, left) = plan.resized_hw, plan.network_hw, plan.pad_yx
    canvas: UInt8Array = np.full((height, width, 3), PADDING_VALUE, dtype=np.uint8)
    inside = canvas[top : top + resized_h, left : left + resized_w]
    if plan.resized_hw == pixels_hw:
        inside[:] = rgb8
    else:
        inside[:] = cv2.resize(np.ascontiguousarray(rgb8), (resized_w, resized_h), interpolation=cv2.INTER_LINEAR)
    return canvas, plan


def clip_boxes(boxes_xyxy: npt.ArrayLike, image_hw: tuple[int, int]) -> Float32Array:
    """Clip boxes (..., 4) to the image; returns a new float32 array."""
    height, width = image_hw
    limit = np.array((width, height, width, height), dtype=np.float32)
    return np.clip(np.asarray(boxes_xyxy, dtype=np.float32), np.float32(0), limit)


def box_areas(boxes_xyxy: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Areas of boxes (..., 4) in square pixels; an empty or reversed box has area 0."""
    boxes = np.asarray(boxes_xyxy, dtype=np.float64)
    sides = np.clip(boxes[..., 2:] - boxes[..., :2], 0.0, None)
    areas: npt.NDArray[np.float64] = sides[..., 0] * sides[..., 1]
    return areas


def box_intersections(first_xyxy: npt.ArrayLike, second_xyxy: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Areas that every box of one set (N, 4) shares with every box of another (M, 4): (N, M), in square pixels."""
    first = np.asarray(first_xyxy, dtype=np.float64).reshape(-1, 4)
    second = np.asarray(second_xyxy, dtype=np.float64).reshape(-1, 4)
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = np.clip(high - low, 0.0, None)
    shared: npt.NDArray[np.float64] = sides[..., 0] * sides[..., 1]
    return shared


def box_iou(first_xyxy: npt.ArrayLike, second_xyxy: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Intersection over union of every box of one set with every box of another.

    Parameters
    ----------
    first_xyxy : array (N, 4)
    second_xyxy : array (M, 4)

    Returns
    -------
    float64 array (N, M)
        In [0, 1]; 0 where both boxes are empty.
    """
    intersection = box_intersections(first_xyxy, second_xyxy)
    areas = [box_areas(np.reshape(boxes, (-1, 4))) for boxes in (first_xyxy, second_xyxy)]
    union = areas[0][:, None] + areas[1][None, :] - intersection
    overlap: npt.NDArray[np.float64] = np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)
    return overlap


def snap_boxes_to_border(
    boxes_xyxy: npt.ArrayLike, image_hw: tuple[int, int], px: float = 20.0, full_cover: float = 0.9
) -> Float32Array:
    """Apply FastSAM's border rule to boxes.

    Sides closer than ``px`` to the image border move onto it; a box whose IoU with the whole image then exceeds
    ``full_cover`` becomes the whole image (``adjust_bboxes_to_image_border`` and ``FastSAMPredictor.postprocess`` in
    Ultralytics).

    Parameters
    ----------
    boxes_xyxy : array (N, 4)
        Boxes in image pixels.
    image_hw : tuple of int
        Height and width of the image.
    px : float
        Distance in pixels.
    full_cover : float
        IoU with the whole image, in [0, 1].

    Returns
    -------
    float32 array (N, 4)
        New boxes; the argument is left alone.
    """
    height, width = image_hw
    boxes = np.array(boxes_xyxy, dtype=np.float32).reshape(-1, 4)
    low, high = boxes[:, :2], boxes[:, 2:]
    low[low < px] = 0
    for axis, length in enumerate((width, height)):
        high[high[:, axis] > length - px, axis] = length
    whole = np.array((0, 0, width, height), dtype=np.float32)
    boxes[box_iou(boxes, whole)[:, 0] > full_cover] = whole
    return boxes
