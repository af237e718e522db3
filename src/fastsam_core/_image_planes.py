"""Name the axes of an array, and take one plane out of it.

Axes are letters as tifffile and OME use them: ``Y`` and ``X`` are the plane, ``S`` are interleaved colour samples
(RGB or RGBA), ``C`` are microscopy channels, and any other letter (``T``, ``Z``, ``I``, ``Q`` …) counts planes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from operator import index as as_index
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastsam_core.errors import ImageContentError, ImageReadError, ImageTooLargeError

AnyArray = NDArray[Any]
_Level = TypeVar("_Level")
PlaneChoice = int | Mapping[str, int]
Alpha = Literal["straight", "filled", "associated", "none"]
"""Opacity, opacity also where it is zero everywhere, opacity that the colours are already multiplied by, or something
else than opacity."""

Projection = Literal["sum", "mean", "max", "min"]

_NAME_AXES = (
    "name them, e.g. axes='TCZYX' (--axes TCZYX), and choose a plane, e.g. plane={'T': 0, 'Z': 3} (--plane T=0,Z=3)"
)
_MOST_LISTED = 12
"""Most images of a file that an error lists."""

MAX_CHANNELS = 6
"""An unnamed leading axis of up to this length means channels; a longer one could be a stack, so it must be named."""


class ArrayLike(Protocol):
    """What is needed of a lazy array (zarr, dask, TIFF pages): a shape, and indexing with integers and slices."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __getitem__(self, key: Any, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Source:
    """An array that may not be in memory yet, with the names of its axes."""

    array: ArrayLike
    axes: str
    orientation: Callable[[], int] = lambda: 1
    """Returns the EXIF orientation still to be applied, 1 to 8; asked after decoding, for it can stand behind it."""
    alpha: Alpha = "straight"
    """What a fourth colour sample is."""
    facts: dict[str, object] = field(default_factory=dict)
    """What the recipe should say about where the pixels come from."""
    regions: bool = False
    """Whether a part of a plane is read without the rest."""
    page_shapes: Sequence[tuple[int, ...]] | None = None
    """The shapes of pages that differ in size, which the first axis chooses among; `array` has the largest."""
    images: Sequence[int] | None = None
    """Which series of the file are images, where some are something else (thumbnails, labels of slides)."""
    held: NDArray[np.bool_] | None = None
    """Which pages, along the first axes of `array`, are in the file itself; others hold the rest of its stack."""

    @property
    def sizes_differ(self) -> bool:
        """Whether the first axis counts pages of several sizes, which are no stack."""
        return self.page_shapes is not None and len(set(self.page_shapes)) > 1


@dataclass(frozen=True, slots=True)
class Plane:
    """One plane in memory: ``(Y, X)``, ``(Y, X, S)`` or ``(C, Y, X)``, upright."""

    array: AnyArray
    axes: str
    alpha: Alpha
    facts: dict[str, object]


def infer_axes(shape: tuple[int, ...], *, channels_chosen: bool) -> str:
    """Name the axes of an array that carries no names.

    Rules, in this order:

    1. two axes are ``YX``;
    2. a last axis of 3 or 4 is colour (``YXS``) and one of 1 is a single channel (``YXC``), unless the first axis could
       be channels too (its length is 2 to 6): then it is ambiguous;
    3. a first axis of 1 to 6 is channels (``CYX``), unless the last axis is as short: then it is ambiguous. With
       channels chosen by the caller it may be of any length;
    4. a last axis of 2 to 6 is channels (``YXC``);
    5. everything else must be named.

    Raises
    ------
    ImageContentError
        The axes are ambiguous, or their number fits no image.
    """
    if len(shape) == 2:
        return "YX"
    if len(shape) != 3:
        raise ImageContentError(
            f"Cannot tell the axes of an array of shape {shape}",
            expected="two axes (Y, X), or three: (Y, X, RGB), (Y, X, RGBA) or (C, Y, X)",
            actual=f"{len(shape)} axes",
            remedy=_NAME_AXES,
        )
    first, _, last = shape
    first_short = 2 <= first <= MAX_CHANNELS
    last_short = last <= MAX_CHANNELS
    if last in (1, 3, 4) and not first_short:
        return "YXC" if last == 1 else "YXS"
    if not last_short and (first <= MAX_CHANNELS or channels_chosen):
        return "CYX"
    if last_short and not first_short:
        return "YXC"
    meaning = "the first and the last could be channels" if last_short else "the first could be channels or a stack"
    raise ImageContentError(
        f"The axes of an array of shape {shape} are ambiguous: {meaning}",
        expected=f"colour in a last axis of 3 or 4, or at most {MAX_CHANNELS} channels in the first axis",
        actual=f"shape {shape}",
        remedy="name them (--axes): axes='YXS' for colour, 'CYX' or 'YXC' for channels, 'ZYX' or 'TYX' for a stack",
    )


def check_axes(axes: str, shape: tuple[int, ...]) -> str:
    """Return the caller's axes in upper case, or say what is wrong with them."""
    letters = str(axes).upper()
    valid = letters.isalpha() and len(set(letters)) == len(letters) == len(shape) and {"Y", "X"} <= set(letters)
    if not valid:
        raise ImageContentError(
            "The axes do not fit the image",
            expected=f"{len(shape)} different letters with Y and X among them, e.g. axes='CYX'",
            actual=f"axes={axes!r} for shape {shape}",
            remedy="give one letter for each axis: Y, X, S (RGB or RGBA samples), C (channels), others for planes",
        )
    return letters


def _check_named(axes: str, shape: tuple[int, ...]) -> None:
    """Raise if the file calls several of its axes by one letter (tifffile: ``Q``), that is by none."""
    if len(set(axes)) < len(axes):
        raise ImageContentError(
            "The file does not say what its axes are",
            expected=f"a name for each of its {len(shape)} axes",
            actual=f"shape {shape}",
            remedy=_NAME_AXES,
        )


def pick_level(levels: Sequence[_Level], level: object, path: str) -> _Level:
    """Return a level of a pyramid, 0 being the full size.

    Raises
    ------
    ImageContentError
        There is no such level.
    """
    number = _integer(level, "level")
    if not 0 <= number < len(levels):
        raise ImageContentError(
            f"{path} has no level {number}",
            expected=f"0 to {len(levels) - 1}" if len(levels) > 1 else "0: it is no pyramid",
            actual=f"level={level!r}",
            remedy="0 is the full size",
        )
    return levels[number]


def describe_image(name: str, axes: str, shape: Sequence[int]) -> str:
    """Return what a list of a file's images says about one of them: name, axes and size, as far as they are known."""
    return " ".join(part for part in (name, axes, "×".join(map(str, shape))) if part)


def pick_series(count: int, series: object, path: str, describe: Callable[[int], str] = str) -> int:
    """Return the number of an image among those that a file holds.

    Parameters
    ----------
    count : int
        How many there are.
    series : int
        The wanted one, from 0.
    path : str
    describe : callable
        Says what an image is, for the error.

    Raises
    ------
    ImageContentError
        There is no such image.
    ImageReadError
        There is none at all.
    """
    number = _integer(series, "series")
    if count == 0:
        raise ImageReadError(
            f"{path} holds no image: it is damaged or incomplete",
            expected="at least one image",
            actual="none",
            remedy="copy or export the file again",
        )
    if 0 <= number < count:
        return number
    listed = [f"{at}: {describe(at)}" for at in range(min(count, _MOST_LISTED))] if count > 1 else []
    more = ["…"] if count > _MOST_LISTED else []
    raise ImageContentError(
        f"{path} has no image {number}",
        expected=f"0 to {count - 1} ({'; '.join(listed + more)})" if count > 1 else "0: it holds one image",
        actual=f"series={series!r}",
        remedy="choose an image by its number (series=, --series); the first is 0",
    )


def regions_of(source: Source, axes: str | None) -> bool:
    """Tell whether regions of planes can be read one by one, upright, also with axes that overrule the source's."""
    unnamed = not {"Y", "X"} <= set(source.axes)  # a plain Zarr array, of which any axes can be cut
    same = axes is None or unnamed or [axes.upper().find(a) for a in "YX"] == [source.axes.find(a) for a in "YX"]
    return source.regions and same and source.orientation() not in range(2, 9)


def named_sizes(source: Source, axes: str | None, channels: tuple[int, ...] | None) -> dict[str, int]:
    """Return the size of each axis by its name, in order, as they are stored.

    Raises
    ------
    ImageContentError
        Axes do not fit the shape, or there are no pixels.
    """
    shape = tuple(int(n) for n in source.array.shape)
    if not axes:
        _check_named(source.axes, shape)
    names = _settle_roles(check_axes(axes or source.axes, shape), shape, channels is not None)
    if 0 in shape:
        raise ImageContentError(
            "The image has no pixels", expected="a size of at least 1 along every axis", actual=f"shape {shape}"
        )
    return dict(zip(names, shape, strict=True))


def _plane_axes(names: Container[str]) -> str:
    """Return the axes of one plane among those of its source."""
    return "YXS" if "S" in names else "CYX" if "C" in names else "YX"


def plane_sizes(
    source: Source, *, axes: str | None, plane: PlaneChoice, channels: tuple[int, ...] | None
) -> tuple[dict[str, int], dict[str, int]]:
    """Return the size of each axis as `named_sizes`, but as one plane has it, and where it lies along the stack's axes.

    Raises
    ------
    ImageContentError
        Axes, plane or channels do not fit the shape, or there are no pixels.
    """
    sizes = named_sizes(source, axes, channels)
    names = list(sizes)
    kept = _plane_axes(names)
    stack = {name: size for name, size in sizes.items() if name not in kept}
    if source.held is not None and not isinstance(plane, Mapping):
        plane = _held_plane(plane, source.held, names, stack)
        if channels:
            plane.pop("C", None)
    chosen = _choose_channel(plane, stack, channels) if channels and "C" in stack else _choose_plane(plane, stack)
    if source.page_shapes is not None and names[0] in chosen:
        sizes |= zip(names[1:], source.page_shapes[chosen[names[0]]], strict=True)
    return sizes, chosen


def take_plane(
    source: Source,
    *,
    axes: str | None,
    plane: PlaneChoice,
    channels: tuple[int, ...] | None,
    max_pixels: int | None,
    region: tuple[slice, slice] | None = None,
) -> Plane:
    """Read one plane of the source, with the chosen channels only, and put it upright.

    Of a source that has regions (`regions_of`) a `region`, rows and columns, may be read instead.

    Raises
    ------
    ImageContentError
        Axes, plane or channels do not fit the shape, or the image has no pixels.
    ImageTooLargeError
        More than `max_pixels` would have to be read.
    """
    sizes, chosen = plane_sizes(source, axes=axes, plane=plane, channels=channels)
    names = "".join(sizes)
    kept = _plane_axes(names)
    _check_channels(channels, sizes.get("C", 1))
    count = sizes.get("S", 1 if "C" not in kept else len(channels) if channels else sizes["C"])
    rows, columns = region or (slice(0, sizes["Y"]), slice(0, sizes["X"]))
    _check_pixels(rows.stop - rows.start, columns.stop - columns.start, count, max_pixels)

    index: dict[str, int | slice] = {name: chosen.get(name, slice(None)) for name in names}
    if region is not None:
        index |= {"Y": rows, "X": columns}
    if channels is None or "C" not in kept:
        array = _ordered(np.asarray(source.array[tuple(index.values())]), names, kept)
    else:
        parts = [np.asarray(source.array[tuple((index | {"C": c}).values())]) for c in channels]
        array = np.stack([_ordered(part, names, "YX") for part in parts])
    if array.ndim == 3 and kept == "CYX" and array.shape[0] == 1:
        array, kept = array[0], "YX"
    facts = dict(source.facts) | {"shape": list(sizes.values()), "axes": names, "dtype": array.dtype.name}
    pages = math.prod(sizes[name] for name in chosen if name != "C" or channels is None)
    facts |= {"pages": pages, "plane": chosen}
    if source.sizes_differ:
        facts["sizes_differ"] = True
    if source.page_shapes is not None:
        facts["pages_are_images"] = True
    if (orientation := source.orientation()) in range(2, 9):
        facts["orientation"] = orientation
        array = upright(array, orientation, kept)
    return Plane(array, kept, source.alpha, facts)


def _settle_roles(names: str, shape: tuple[int, ...], channels_chosen: bool) -> str:
    """Let S be RGB or RGBA only, and C be channels where the caller chooses among them."""
    if "S" in names and "C" not in names and (channels_chosen or shape[names.index("S")] not in (3, 4)):
        return names.replace("S", "C")
    if channels_chosen and not {"C", "S"} & set(names):
        for unnamed in ("Q", "I"):  # tifffile's letters for pages whose meaning the file does not tell
            if unnamed in names:
                return names.replace(unnamed, "C")
    return names


def _held_plane(
    plane: object, held: NDArray[np.bool_], names: Sequence[str], stack: Mapping[str, int]
) -> dict[str, int]:
    """Return where the plane of this number lies, counted over those of which the file itself holds pages."""
    number = _integer(plane, "plane")
    places = np.argwhere(held.any(axis=tuple(at for at, name in enumerate(names[: held.ndim]) if name not in stack)))
    if not 0 <= number < len(places):
        raise ImageContentError(
            f"There is no such plane: {number}",
            expected=f"0 to {len(places) - 1}: the file holds a part of a stack only",
            actual=f"plane={plane!r}",
            remedy="choose a plane of the other files by axis, e.g. plane={'T': 0} (--plane T=0)",
        )
    counted = [name for name in names[: held.ndim] if name in stack]
    return dict(zip(counted, places[number].tolist(), strict=True))


def _choose_plane(plane: PlaneChoice, stack: dict[str, int]) -> dict[str, int]:
    """Return an index for every axis of the stack."""
    described = ", ".join(f"{name} has {size}" for name, size in stack.items()) or "the image has one plane"
    if isinstance(plane, Mapping):
        chosen = dict.fromkeys(stack, 0) | {str(name).upper(): _integer(at, "plane") for name, at in plane.items()}
        wrong = [f"{name}={at}" for name, at in chosen.items() if name not in stack or not 0 <= at < stack[name]]
    else:
        number, total = _integer(plane, "plane"), math.prod(stack.values())
        wrong = [] if 0 <= number < total else [str(number)]
        at_each = np.unravel_index(number, tuple(stack.values())) if stack and not wrong else ()
        chosen = {name: int(at) for name, at in zip(stack, at_each, strict=not wrong)}
    if wrong:
        remedy = "choose a plane by its number or by axis, e.g. plane={'Z': 0} (--plane Z=0)"
        if "C" in chosen and "C" not in stack:
            remedy = f"channels are chosen apart from planes: channels=[{chosen['C']}] (--channels {chosen['C']})"
        raise ImageContentError(
            f"There is no such plane: {', '.join(wrong)}",
            expected=f"an index from 0 along each axis of the stack ({described})",
            actual=f"plane={plane!r}",
            remedy=remedy,
        )
    return chosen


def _choose_channel(plane: PlaneChoice, stack: dict[str, int], channels: tuple[int, ...]) -> dict[str, int]:
    """Return an index for every axis of a stack of coloured channels, of which one can be taken."""
    _check_channels(channels, stack["C"])
    named = {str(name).upper(): at for name, at in plane.items()} if isinstance(plane, Mapping) else None
    if len(set(channels)) > 1 or (named is not None and named.get("C", channels[0]) != channels[0]):
        raise ImageContentError(
            "Each channel of the image is in colour of its own, so one is taken at a time",
            expected="one channel",
            actual=f"channels {list(channels)}" + (f", plane={plane!r}" if named is not None and "C" in named else ""),
            remedy="choose one, e.g. channels=0 (--channels 0)",
        )
    if named is not None:
        return _choose_plane(named | {"C": channels[0]}, stack)
    others = _choose_plane(plane, {name: size for name, size in stack.items() if name != "C"})
    return {name: others.get(name, channels[0]) for name in stack}


def _check_channels(channels: tuple[int, ...] | None, count: int) -> None:
    wrong = [c for c in channels or () if not 0 <= c < count]
    if wrong:
        raise ImageContentError(
            f"There is no channel {wrong[0]}",
            expected=f"channels from 0 to {count - 1}",
            actual=f"channels {list(channels or ())}",
            remedy="choose among the channels that the image has, or name the axes, e.g. axes='CYX' (--axes CYX)",
        )


def _check_pixels(height: int, width: int, samples: int, max_pixels: int | None) -> None:
    pixels = height * width * math.ceil(samples / 4)
    if max_pixels is not None and pixels > max_pixels:
        raise ImageTooLargeError(
            f"The image has {height} × {width} pixels" + (f" in {samples} channels" if samples > 4 else ""),
            expected=f"at most {max_pixels} pixels",
            actual=f"{pixels} pixels",
            remedy="segment it in tiles, of which one is read at a time (segment_tiles, --tile-px 1024); or, if you "
            "trust the file and have the memory, raise max_pixels= (--max-pixels), or lift it with max_pixels=None",
        )


def _integer(value: object, what: str) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        return as_index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ImageContentError(f"{what} is not a whole number", expected="an integer", actual=repr(value)) from None


def _ordered(array: AnyArray, names: str, kept: str) -> AnyArray:
    """Put the axes that are left after indexing into the order `kept`."""
    left = [name for name in names if name in kept]
    return array.transpose([left.index(name) for name in kept])


def upright(array: AnyArray, orientation: int, axes: str) -> AnyArray:
    """Undo the camera's orientation (EXIF and TIFF tag 274)."""
    y, x = axes.index("Y"), axes.index("X")
    if orientation >= 5:
        array = array.swapaxes(y, x)
    if orientation in (3, 4, 7, 8):
        array = np.flip(array, y)
    if orientation in (2, 3, 6, 7):
        array = np.flip(array, x)
    return array


def project(planes: AnyArray, mode: Projection, axes: tuple[int, ...], *, colour: bool = False) -> AnyArray:
    """Make one plane of several, along these axes; colour keeps its dtype, which says what is white."""
    flat: AnyArray = getattr(np, mode)(planes, axis=axes)
    if not colour or flat.dtype == planes.dtype:
        return flat
    whole = np.issubdtype(planes.dtype, np.integer)
    return (np.minimum(flat, np.iinfo(planes.dtype).max) if whole else flat).astype(planes.dtype)
