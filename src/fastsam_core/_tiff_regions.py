"""Decode a part of a TIFF page: only the tiles or strips that it lies in."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fastsam_core._image_planes import AnyArray

__all__ = ["has_regions", "read_region"]

_YCBCR = 6
_JPEG = (6, 7, 33007, 34892)
"""Compressions of which tifffile gives colours that are not stored as such, as RGB."""

_MOST_PX = 2**26
"""Pixels of the largest tiles and strips of which reading a region pays."""


def has_regions(page: Any, keyframe: Any) -> bool:
    """Tell whether `read_region` can read a page like this: one plane of tiles or strips that are not all too large.

    What tifffile only decodes with imagecodecs, such as LZW and JPEG, has none without it.
    """
    _, depth, *_ = keyframe.shaped
    if depth != 1 or keyframe.axes not in ("YX", "YXS", "SYX") or page is None:
        return False
    if keyframe.photometric == _YCBCR and keyframe.compression not in _JPEG:
        return False
    if keyframe.is_memmappable:
        return True
    usable = 0 < math.prod(_segment_hw(keyframe)) <= _MOST_PX and _is_decoded(keyframe)
    return usable and len(page.dataoffsets) == math.prod(_grid(keyframe))


def _is_decoded(keyframe: Any) -> bool:
    from tifffile import TIFF

    try:
        return None not in (TIFF.DECOMPRESSORS[keyframe.compression], TIFF.UNPREDICTORS[keyframe.predictor])
    except KeyError:
        return False


def _grid(keyframe: Any) -> tuple[int, int, int]:
    """Return how many tiles or strips there are: for separate samples, down and across."""
    planes, _, height, width, _ = keyframe.shaped
    down_px, across_px = _segment_hw(keyframe)
    return planes, math.ceil(height / down_px), math.ceil(width / across_px)


def _segment_hw(keyframe: Any) -> tuple[int, int]:
    if keyframe.is_tiled:
        return keyframe.tilelength, keyframe.tilewidth
    return min(keyframe.rowsperstrip, keyframe.shaped[2]), keyframe.shaped[3]


def read_region(page: Any, keyframe: Any, rows: slice, columns: slice) -> AnyArray:
    """Decode rows and columns of a page that has regions.

    Parameters
    ----------
    page : tifffile.TiffPage, TiffFrame, or alike
        Where the data lies; its file is open.
    keyframe : tifffile.TiffPage
        What it is like.
    rows, columns : slice
        With bounds inside the page, and without steps.

    Returns
    -------
    ndarray
        The page's axes, Y and X restricted.

    Raises
    ------
    ValueError
        tifffile cannot decode it, for instance without imagecodecs.
    """
    handle = page.parent.filehandle
    if keyframe.is_memmappable:
        stored = keyframe.parent.byteorder + np.dtype(keyframe.dtype).str[1:]
        whole = handle.memmap_array(stored, keyframe.shape, offset=page.dataoffsets[0])
        at = keyframe.axes.index("Y")
        region: AnyArray = np.array(whole[(slice(None),) * at + (rows, columns)], keyframe.dtype)
        return region
    decode = keyframe.decode  # reads from the file when it is made, so before anything is looked up there
    tables = {"jpegtables": keyframe.jpegtables} if keyframe.jpegtables else {}
    planes, down, across = _grid(keyframe)
    down_px, across_px = _segment_hw(keyframe)
    region_hw = rows.stop - rows.start, columns.stop - columns.start
    out: AnyArray = np.full((planes, *region_hw, keyframe.shaped[4]), keyframe.nodata, keyframe.dtype)
    of_rows = range(rows.start // down_px, -(-rows.stop // down_px))
    of_columns = range(columns.start // across_px, -(-columns.stop // across_px))
    for plane, row, column in product(range(planes), of_rows, of_columns):
        index = (plane * down + row) * across + column
        length = page.databytecounts[index]
        if not length:  # left out by the writer
            continue
        handle.seek(page.dataoffsets[index])
        encoded = handle.read(length)
        segment, (_, _, y, x, _), (_, height, width, _) = decode(encoded, index, **tables)
        y0, y1 = max(y, rows.start), min(y + height, rows.stop)
        x0, x1 = max(x, columns.start), min(x + width, columns.stop)
        here = slice(y0 - rows.start, y1 - rows.start), slice(x0 - columns.start, x1 - columns.start)
        out[plane][here] = segment[0, y0 - y : y1 - y, x0 - x : x1 - x]
    if keyframe.axes == "SYX":
        return out[..., 0]
    return out[0] if keyframe.axes == "YXS" else out[0, ..., 0]
