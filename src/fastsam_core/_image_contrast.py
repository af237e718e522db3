"""Bring pixel values of any number type into 0 to 255."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastsam_core.errors import ImageContentError

AnyArray = NDArray[Any]
Limits = tuple[float, float]
Contrast = Literal["percentile"] | Sequence[float] | Sequence[Sequence[float]]

PERCENTILES = (0.1, 99.9)
SAMPLE_VALUES = 4_000_000
"""Percentiles of larger planes are taken from every n-th row and column, at most about this many values."""

FAINT_SPAN = 100
"""8-bit images whose percentiles lie closer together than this are stretched: they use under 40 % of the range."""

_FAINT_SAMPLE_VALUES = 300_000
_CHUNK_VALUES = 1 << 20


@dataclass(frozen=True, slots=True)
class Stretch:
    """The values that become 0 and 255, and where they come from."""

    limits: Limits
    rule: Literal["untouched", "range", "percentile", "given"]


def given_limits(contrast: Contrast, count: int) -> list[Limits]:
    """Return the caller's contrast limits as one pair for each of `count` channels.

    Raises
    ------
    ImageContentError
        Not a pair, not one pair a channel, not finite, or the lower limit is not below the upper one.
    """
    try:
        values = np.asarray(contrast, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape == (2,):
        values = np.broadcast_to(values, (count, 2))
    if values.shape != (count, 2) or not np.isfinite(values).all() or not (values[:, 0] < values[:, 1]).all():
        raise ImageContentError(
            "These contrast limits cannot be used",
            expected=f"(low, high) with low < high, both finite, or {count} such pairs (one for each channel)",
            actual=f"contrast={contrast!r}",
            remedy="give the value that becomes black and the value that becomes white, e.g. contrast=(100, 4000)",
        )
    return [(float(low), float(high)) for low, high in values]


def percentile_limits(values: AnyArray, sample_values: int = SAMPLE_VALUES) -> Limits:
    """Return robust limits of a plane: its 0.1 and 99.9 percentiles over finite values.

    The percentiles are taken inwards to real values, so that in small images too the highest and the lowest pixel (hot
    and dead ones) do not decide. Where that leaves nothing (sparse or constant images) minimum and maximum are taken.

    Parameters
    ----------
    values : ndarray of shape (H, W) or (H, W, S)
    sample_values : int
        About how many values of a larger plane are looked at.
    """
    step = max(1, math.ceil(math.sqrt(values.size / sample_values)))
    low, high = _inner_percentiles(_finite(values[::step, ::step]))
    if low >= high:
        finite = _finite(values)
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    return low, high


def colour_stretch(rgb: AnyArray) -> Stretch:
    """Choose the limits of colour data that is not 8-bit: one pair for all three, so that hues stay.

    Floats that lie in [0, 1] and values that lie in [0, 255] or [0, 65535] are scaled by that range, unless they use
    less than an eighth of it (12-bit cameras, for example); everything else gets percentiles over the three together.
    """
    low, high = percentile_limits(rgb)
    ranges = (1.0, 255.0) if rgb.dtype.kind == "f" else (255.0, 65535.0)
    for top in ranges:
        if -0.05 * top <= low and top / 8 <= high <= 1.05 * top:
            return Stretch((0.0, top), "range")
    return Stretch((low, high), "percentile")


def plane_stretch(values: AnyArray) -> Stretch:
    """Choose the limits of one gray plane or channel, or of 8-bit colour.

    8-bit values stay as they are, unless they are faint: a dark fluorescence image saved as 8-bit shows a network
    hardly more than it shows the eye. Everything else gets percentiles.
    """
    if values.dtype == np.uint8:
        low, high = percentile_limits(values, _FAINT_SAMPLE_VALUES)
        faint = 0 < high - low < FAINT_SPAN
        return Stretch((low, high), "percentile") if faint else Stretch((0.0, 255.0), "untouched")
    if values.dtype == np.bool_:
        return Stretch((0.0, 1.0), "range")
    return Stretch(percentile_limits(values), "percentile")


def common_limits(limits: Sequence[Any]) -> Contrast:
    """Return limits that hold all values that each of several planes or regions would be shown with.

    Constant ones have no say unless all are: black ones before and behind the specimen, or where a camera dropped a
    frame, would leave the others pale. If all are, they become black.

    Parameters
    ----------
    limits : sequence of sequences of pairs
        Of each plane the limits of its channels.
    """
    low, high = np.moveaxis(np.array(limits, np.float64), -1, 0)
    counts = (low < high) | (low >= high).all(axis=0)
    low, high = low.min(axis=0, where=counts, initial=np.inf), high.max(axis=0, where=counts, initial=-np.inf)
    above = np.maximum(low + 1, np.nextafter(low, np.inf))
    pairs: list[list[float]] = np.stack([low, np.where(low < high, high, above)], axis=-1).tolist()
    return pairs if len(pairs) > 1 else pairs[0]


def to_uint8(values: AnyArray, limits: Limits) -> NDArray[np.uint8]:
    """Scale values linearly so that `limits` become 0 and 255; what lies outside is clipped, NaN becomes 0.

    Integers of 8 and 16 bits and booleans go through a look-up table, everything else in blocks of rows, so that no
    second full-size array of floats is made.
    """
    if values.dtype == np.bool_:
        values = values.astype(np.uint8)
        if limits == (0.0, 1.0):
            return values * np.uint8(255)
    if values.dtype == np.uint8 and limits == (0.0, 255.0):
        return values
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
        unsigned = np.dtype(f"u{values.dtype.itemsize}")
        every = np.arange(1 << (8 * unsigned.itemsize), dtype=np.uint32).astype(unsigned)
        table = _scale(every.view(values.dtype), limits)
        result: NDArray[np.uint8] = np.take(table, values.view(unsigned), mode="clip")
        return result
    scaled = np.empty(values.shape, np.uint8)
    rows = max(1, _CHUNK_VALUES // max(1, values[0].size))
    for start in range(0, values.shape[0], rows):
        scaled[start : start + rows] = _scale(values[start : start + rows], limits)
    return scaled


def _scale(values: AnyArray, limits: Limits) -> NDArray[np.uint8]:
    low, high = limits
    small = values.dtype in (np.float16, np.float32) and 1e-30 < high - low < 1e30
    precision = np.float32 if small else np.float64
    with np.errstate(over="ignore", invalid="ignore"):
        scaled: NDArray[np.float32 | np.float64] = values.astype(precision)
        if high > low:
            scaled -= precision(low)
            scaled *= precision(255.0 / (high - low))
        else:  # nothing to stretch: a constant image is black
            scaled -= precision(high)
        np.clip(scaled, 0, 255, out=scaled)
        np.rint(scaled, out=scaled)
        scaled[np.isnan(scaled)] = 0
    return scaled.astype(np.uint8)


def _finite(values: AnyArray) -> AnyArray:
    flat = values.reshape(-1)
    return flat[np.isfinite(flat)] if values.dtype.kind == "f" else flat


def _inner_percentiles(values: AnyArray) -> Limits:
    last = values.size - 1
    if last < 0:
        return 0.0, 0.0
    low_rank = math.ceil(PERCENTILES[0] / 100 * last)
    high_rank = math.floor(PERCENTILES[1] / 100 * last)
    if values.dtype in (np.uint8, np.uint16):
        below = np.cumsum(np.bincount(values))
        low, high = np.searchsorted(below, [low_rank, high_rank], side="right")
        return float(low), float(high)
    ordered = np.partition(values, [low_rank, high_rank])
    return float(ordered[low_rank]), float(ordered[high_rank])
