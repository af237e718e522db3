"""How prototype cells map to image pixels, one axis at a time: the geometry of Ultralytics' retina masks.

``ultralytics.utils.ops.process_mask_native`` upsamples the logits by 1, 2 or 4 so that the letterbox padding can be cut
off on whole samples, then interpolates bilinearly (``align_corners=False``) to the image. Both steps are linear in the
logits and separable, so together they are ONE piecewise linear function along each axis. Its knots are the samples next
to cell centres: the centres themselves (upsampling by 1), or points 1/4 (by 2) or 1/8 (by 4) of a cell either side.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["KnotAxis", "plan_axes"]

_PROTOTYPE_STRIDE = 4
_BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))


class KnotAxis(NamedTuple):
    """One axis of the piecewise linear function from prototype cells to image pixels.

    A NamedTuple because compiled kernels take it as it is.

    Parameters
    ----------
    knot_cells : int32 array (K, 2)
        The two cells that knot ``k`` lies between.
    knot_weights : float32 array (K,)
        Weight of the second cell, in [0, 1).
    first_pixels : int32 array (K + 1,)
        First pixel at or after each knot; the pixels of segment ``k`` (between knots ``k`` and ``k + 1``) are
        ``first_pixels[k]`` to ``first_pixels[k + 1]``.
    pixel_knots : int32 array (P,)
        The last knot at or before each pixel's centre.
    pixel_weights : float32 array (P,)
        Where the pixel's centre lies between that knot and the next, in [0, 1); never decreasing inside a segment.
    pixel_cells : float32 array (P,)
        Position of each pixel's centre in prototype cells (whole numbers are centres of cells).
    """

    knot_cells: npt.NDArray[np.int32]
    knot_weights: npt.NDArray[np.float32]
    first_pixels: npt.NDArray[np.int32]
    pixel_knots: npt.NDArray[np.int32]
    pixel_weights: npt.NDArray[np.float32]
    pixel_cells: npt.NDArray[np.float32]


def plan_axes(prototype_hw: tuple[int, int], image_hw: tuple[int, int]) -> tuple[KnotAxis, KnotAxis]:
    """Plan both axes, first y and then x.

    Parameters
    ----------
    prototype_hw : tuple of int
        Height and width of the prototypes: a quarter of the letterboxed network input.
    image_hw : tuple of int
        Height and width of the image in pixels, both at least 1.
    """
    inputs = tuple(_PROTOTYPE_STRIDE * cells for cells in prototype_hw)
    pad_y, pad_x = (size - content for size, content in zip(inputs, _content(inputs, image_hw), strict=True))
    either = pad_y | pad_x
    factor = _PROTOTYPE_STRIDE // math.gcd(_PROTOTYPE_STRIDE, either | either // 2)
    samples = tuple(factor * cells for cells in prototype_hw)
    contents = _content(samples, image_hw)
    y_axis, x_axis = (
        _plan_axis(cells, factor, content, pixels)
        for cells, content, pixels in zip(prototype_hw, contents, image_hw, strict=True)
    )
    return y_axis, x_axis


def _content(grid_hw: tuple[int, ...], image_hw: tuple[int, int]) -> tuple[int, ...]:
    """Height and width of the image inside a grid that covers the letterboxed input, in samples of the grid."""
    gain = min(size / pixels for size, pixels in zip(grid_hw, image_hw, strict=True))
    return tuple(max(round(pixels * gain), 1) for pixels in image_hw)


def _plan_axis(cells: int, factor: int, content: int, pixels: int) -> KnotAxis:
    knot_cells, knot_weights, knot_positions = _knots(cells, factor)
    start = round((factor * cells - content) / 2 - 0.1)
    content = min(content, factor * cells - start)
    samples = (np.arange(pixels, dtype=np.float64) + 0.5) * (content / pixels) - 0.5
    samples = start + np.clip(samples, 0, content - 1)
    positions = (samples + 0.5) / factor - 0.5
    pixel_knots = np.searchsorted(knot_positions, positions, side="right") - 1
    left, right = knot_positions[pixel_knots], knot_positions[pixel_knots + 1]
    weights = ((positions - left) / (right - left)).astype(np.float32)
    return KnotAxis(
        knot_cells=knot_cells,
        knot_weights=knot_weights,
        first_pixels=np.searchsorted(pixel_knots, np.arange(knot_weights.size + 1)).astype(np.int32),
        pixel_knots=pixel_knots.astype(np.int32),
        pixel_weights=np.minimum(weights, _BELOW_ONE),
        pixel_cells=positions.astype(np.float32),
    )


def _knots(cells: int, factor: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Cells, weights and positions of all knots; one more knot beyond each end repeats the end's value."""
    centres = np.arange(cells)
    shift = 0.0 if factor == 1 else 0.5 / factor
    sides = (0,) if factor == 1 else (-1, 1)
    near = np.repeat(centres, len(sides))
    side = np.tile(sides, cells)
    knot_cells = np.stack([near, np.clip(near + side, 0, cells - 1)], axis=1)
    positions = near + side * shift
    return (
        np.concatenate([[[0, 0]], knot_cells, [[cells - 1, cells - 1]]]).astype(np.int32),
        np.concatenate([[0.0], np.full(near.size, shift), [0.0]]).astype(np.float32),
        np.concatenate([[-1.0], positions, [float(cells)]]),
    )
