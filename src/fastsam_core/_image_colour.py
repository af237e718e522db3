"""Turn one plane (gray, RGB, RGBA or microscopy channels) into 8-bit RGB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import index as as_index
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastsam_core._image_contrast import (
    Contrast,
    Stretch,
    colour_stretch,
    given_limits,
    percentile_limits,
    plane_stretch,
    to_uint8,
)
from fastsam_core.errors import ImageContentError, UnsupportedImageError

if TYPE_CHECKING:
    from fastsam_core._image_planes import Alpha, AnyArray, Plane

RGB8 = NDArray[np.uint8]
Colour = tuple[float, float, float]
ColourName = str | Sequence[float]
Channels = int | Sequence[int] | Mapping[int, ColourName]

COLOURS: Mapping[str, Colour] = {
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
    "cyan": (0, 1, 1),
    "magenta": (1, 0, 1),
    "yellow": (1, 1, 0),
    "gray": (1, 1, 1),
    "grey": (1, 1, 1),
    "white": (1, 1, 1),
}
_TWO = ("magenta", "green")
_MORE = ("red", "green", "blue", "cyan", "magenta", "yellow")


@dataclass(frozen=True, slots=True)
class ChannelChoice:
    """Which channels are shown, and in which colours (None: by their number)."""

    indices: tuple[int, ...] | None
    colours: tuple[Colour, ...] | None


def parse_channels(channels: Channels | None) -> ChannelChoice:
    """Check the caller's choice of channels.

    Raises
    ------
    ImageContentError
        Not an integer, a non-empty sequence of different integers, or a mapping from integers to colours.
    """
    if channels is None:
        return ChannelChoice(None, None)
    if isinstance(channels, Mapping):
        keys, colours = list(channels), tuple(_parse_colour(colour) for colour in channels.values())
    else:
        several = isinstance(channels, Sequence | np.ndarray) and not isinstance(channels, str | bytes)
        keys, colours = list(channels) if several else [channels], None  # type: ignore[arg-type,list-item]
    try:
        if any(isinstance(key, bool | np.bool_) for key in keys):
            raise TypeError
        indices = tuple(as_index(key) for key in keys)
    except TypeError:
        indices = ()
    if not indices or len(set(indices)) < len(indices):
        raise ImageContentError(
            "This choice of channels cannot be used",
            expected="a channel number, a list of different numbers, or a mapping such as {0: 'blue', 2: 'green'}",
            actual=f"channels={channels!r}",
            remedy="count channels from 0",
        )
    return ChannelChoice(indices, colours)


def to_rgb8(plane: Plane, choice: ChannelChoice, contrast: Contrast | None) -> tuple[RGB8, dict[str, object]]:
    """Convert a plane to RGB, and say how.

    Raises
    ------
    UnsupportedImageError
        The dtype is not a real number type.
    ImageContentError
        The contrast limits do not fit.
    """
    dtype = plane.array.dtype
    if dtype.kind not in "buif":
        raise UnsupportedImageError(
            f"Pixels of type {dtype} cannot be shown",
            expected="booleans, integers or floating-point numbers",
            actual=f"dtype {dtype}",
            remedy="convert the array first, e.g. np.abs(a) for complex numbers or a.astype(np.float32) for objects",
        )
    if plane.axes == "YXS":
        return _from_colour(plane, contrast)
    if plane.axes == "YX" and choice.colours is None:
        stretch = _stretches([plane.array], contrast)[0]
        return _interleave([to_uint8(plane.array, stretch.limits)] * 3), _contrast_facts([stretch])
    channels: list[AnyArray] = [plane.array] if plane.axes == "YX" else list(plane.array)
    return _from_channels(channels, choice, contrast)


def _from_colour(plane: Plane, contrast: Contrast | None) -> tuple[RGB8, dict[str, object]]:
    colours = plane.array[..., :3]
    stretches = _colour_stretches(colours, contrast)
    if len(stretches) == 1:
        rgb8 = to_uint8(colours, stretches[0].limits)
    else:
        rgb8 = _interleave([to_uint8(colours[..., i], stretches[i].limits) for i in range(3)])
    facts = _contrast_facts(stretches)
    if plane.array.shape[2] == 4:
        rgb8, facts["alpha"] = _over_black(rgb8, plane.array[..., 3], plane.alpha)
    return rgb8, facts


def _from_channels(
    channels: list[AnyArray], choice: ChannelChoice, contrast: Contrast | None
) -> tuple[RGB8, dict[str, object]]:
    """Add the channels up, each in its colour."""
    colours = choice.colours or _default_colours(len(channels))
    stretches = _stretches(channels, contrast)
    scaled = [to_uint8(channel, stretch.limits) for channel, stretch in zip(channels, stretches, strict=True)]
    weights = np.array(colours).T  # (3, C)
    rgb8 = _interleave([_weighted_sum(scaled, of_component) for of_component in weights])
    facts = _contrast_facts(stretches)
    facts["channels"] = list(choice.indices or range(len(channels)))
    facts["colours"] = [list(colour) for colour in colours]
    return rgb8, facts


def _weighted_sum(channels: list[RGB8], weights: NDArray[np.float64]) -> RGB8:
    parts = [(values, weight) for values, weight in zip(channels, weights, strict=True) if weight > 0]
    if len(parts) == 1 and parts[0][1] == 1:
        return parts[0][0]
    total = np.zeros(channels[0].shape, np.float32)
    for values, weight in parts:
        total += values if weight == 1 else values * np.float32(weight)
    return np.rint(np.minimum(total, 255, out=total), out=total).astype(np.uint8)


def _default_colours(count: int) -> tuple[Colour, ...]:
    names = ("gray",) if count == 1 else _TWO if count == 2 else tuple(_MORE[i % len(_MORE)] for i in range(count))
    return tuple(COLOURS[name] for name in names)


def _stretches(channels: list[AnyArray], contrast: Contrast | None) -> list[Stretch]:
    if contrast is None:
        return [plane_stretch(channel) for channel in channels]
    if isinstance(contrast, str):
        return [_percentiles(channel, contrast) for channel in channels]
    return [Stretch(limits, "given") for limits in given_limits(contrast, len(channels))]


def _colour_stretches(colours: AnyArray, contrast: Contrast | None) -> list[Stretch]:
    """Return one stretch for all three, or one for each."""
    if contrast is None:
        eight_bit = colours.dtype in (np.uint8, np.bool_)
        return [plane_stretch(colours) if eight_bit else colour_stretch(colours)]
    if isinstance(contrast, str):
        return [_percentiles(colours, contrast)]
    limits = given_limits(contrast, 1 if np.ndim(contrast) == 1 else 3)
    return [Stretch(pair, "given") for pair in limits]


def _percentiles(values: AnyArray, contrast: str) -> Stretch:
    if contrast != "percentile":
        given_limits(contrast, 1)  # type: ignore[arg-type]  # raises: this word means nothing
    return Stretch(percentile_limits(values), "percentile")


def _over_black(rgb8: RGB8, alpha: AnyArray, kind: Alpha) -> tuple[RGB8, str]:
    """Draw colours over black, as image viewers do; an alpha of zero everywhere is taken as never filled in."""
    if kind == "none":
        return rgb8, "ignored (the file says that it is none)"
    if kind == "associated":
        return rgb8, "over black (as the file has it)"
    opacity = _opacity(alpha)
    if opacity.min() == 255:
        return rgb8, "opaque"
    if opacity.max() == 0 and kind != "filled":
        return rgb8, "ignored (zero everywhere)"
    faded = rgb8.astype(np.uint16)
    faded *= opacity[..., None]
    faded += 127
    faded //= 255
    return faded.astype(np.uint8), "over black"


def _opacity(alpha: AnyArray) -> RGB8:
    """Return opacity from 0 to 255."""
    if alpha.dtype.kind == "f":
        top = 1.0 if np.nanmax(alpha, initial=0) <= 1 else 255.0
    else:
        top = 1.0 if alpha.dtype == np.bool_ else float(np.iinfo(alpha.dtype).max)
    return to_uint8(alpha, (0.0, top))


def alpha_of_parts(plane: Plane) -> Alpha:
    """Return what the alpha of all parts of an image is, given enough of it: none if it is zero everywhere."""
    if plane.alpha != "straight" or plane.axes != "YXS" or plane.array.shape[2] != 4:
        return plane.alpha
    return "filled" if _opacity(plane.array[..., 3]).any() else "none"


def _interleave(components: list[RGB8]) -> RGB8:
    """Make (H, W, 3) of three planes: `numpy.stack` does the same in three times the time."""
    import cv2

    rgb8: Any = cv2.merge([np.ascontiguousarray(component) for component in components])
    return np.asarray(rgb8, dtype=np.uint8)


def _contrast_facts(stretches: list[Stretch]) -> dict[str, object]:
    return {
        "contrast": stretches[0].rule,
        "contrast_limits": [[float(low), float(high)] for low, high in (stretch.limits for stretch in stretches)],
    }


def _parse_colour(colour: ColourName) -> Colour:
    """Read a name, ``#rrggbb`` or three numbers (fractions if none is above 1, otherwise of 255)."""
    if isinstance(colour, str) and colour.lower() in COLOURS:
        return COLOURS[colour.lower()]
    try:
        given = list(bytes.fromhex(colour.removeprefix("#"))) if isinstance(colour, str) else colour
        values = np.asarray(given, dtype=float)
    except (TypeError, ValueError):
        values = np.empty(0)
    if isinstance(colour, str) or values.max(initial=0) > 1:
        values = values / 255
    if values.shape != (3,) or not ((values >= 0) & (values <= 1)).all():
        raise ImageContentError(
            f"{colour!r} is no colour known here",
            expected=f"one of {', '.join(COLOURS)}, '#rrggbb', or three numbers (red, green, blue)",
            actual=repr(colour),
            remedy="for example channels={0: 'blue', 1: '#00ff80'}",
        )
    return float(values[0]), float(values[1]), float(values[2])
