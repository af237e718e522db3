"""Options that several commands share, and the reading of those that hold more than one value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar, cast, overload

import typer

from fastsam_core._defaults import MAX_IMGSZ, MIN_IMGSZ
from fastsam_core.errors import InvalidParameterError

__all__ = [
    "AxesOption",
    "ChannelsOption",
    "DebugOption",
    "DeviceOption",
    "FormatOption",
    "ImgszOption",
    "IntensitiesOption",
    "IouOption",
    "JsonlOption",
    "LevelOption",
    "MaxPixelsOption",
    "ModelOption",
    "OutOption",
    "OverlapOption",
    "OverwriteOption",
    "PixelSizeOption",
    "PrecisionOption",
    "RecursiveOption",
    "RuntimeOption",
    "SeriesOption",
    "SkipExistingOption",
    "StackFormatOption",
    "TileOption",
    "TrustOption",
    "read_axes",
    "read_axis",
    "read_channels",
    "read_conf",
    "read_contrast",
    "read_list",
    "read_pixel_size",
    "read_plane",
    "read_series",
    "read_sizes",
]

_T = TypeVar("_T")
_R = TypeVar("_R", covariant=True)

_MODEL = "Model"
ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="Name (see: fastsam models list) or weights file.", rich_help_panel=_MODEL)
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps …", rich_help_panel=_MODEL)]
RuntimeOption = Annotated[
    str, typer.Option("--runtime", help="auto, torch, openvino, onnxruntime or tensorrt.", rich_help_panel=_MODEL)
]
PrecisionOption = Annotated[str, typer.Option("--precision", help="fp32, bf16 or fp16.", rich_help_panel=_MODEL)]
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust", help="Load a pickle (.pt) whose sha256 is not known: it can run code.", rich_help_panel=_MODEL
    ),
]
ImgszOption = Annotated[
    str | None,
    typer.Option(
        "--imgsz", help="Longer side of the network's input, px; 320,640 for both; or auto.", rich_help_panel="Search"
    ),
]
TileOption = Annotated[
    int | None,
    typer.Option(
        "--tile-px",
        min=1,
        help="Cut larger images into tiles of this side: finds what is small in mosaics and slides.",
        rich_help_panel="Search",
    ),
]
OverlapOption = Annotated[
    int,
    typer.Option(
        "--overlap-px", min=0, help="How much tiles share: more than usual objects.", rich_help_panel="Search"
    ),
]
IouOption = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Box overlap from which on the weaker mask is dropped.", rich_help_panel="Search"),
]
_READING = "Reading images"
ChannelsOption = Annotated[
    str | None,
    typer.Option(metavar="0,2|0:blue,2:green", help="Channels to show the network.", rich_help_panel=_READING),
]
AxesOption = Annotated[str | None, typer.Option(metavar="TCZYX", help="Meaning of the axes.", rich_help_panel=_READING)]
LevelOption = Annotated[
    int, typer.Option(min=0, help="Level of a pyramid; 0 is the full size.", rich_help_panel=_READING)
]
SeriesOption = Annotated[
    str,
    typer.Option(
        metavar="N|all", help="Which image of files that hold several; 0 is the first.", rich_help_panel=_READING
    ),
]
MaxPixelsOption = Annotated[
    int,
    typer.Option(
        min=1, help="Files with more pixels in a plane are refused before they are decoded.", rich_help_panel=_READING
    ),
]
RecursiveOption = Annotated[
    bool, typer.Option("--recursive", "-r", help="Also look into sub-folders.", rich_help_panel=_READING)
]
_RESULTS = "Results"
FormatOption = Annotated[
    list[str],
    typer.Option(
        *("--format", "-f"),
        metavar="A,B",
        help="Some of overlay, labels, coco, csv, geojson, rois.",
        rich_help_panel=_RESULTS,
    ),
]
StackFormatOption = Annotated[
    list[str],
    typer.Option(
        *("--format", "-f"),
        metavar="A,B",
        help="Some of overlay, labels, coco, csv, objects, geojson, rois.",
        rich_help_panel=_RESULTS,
    ),
]
PixelSizeOption = Annotated[
    str | None,
    typer.Option(
        metavar="UM|W,H",
        help="Side of a pixel in micrometres (or width and height), where files do not say it or are wrong.",
        rich_help_panel=_RESULTS,
    ),
]
IntensitiesOption = Annotated[
    bool,
    typer.Option("--intensities", help="Add the intensities of all channels to the table.", rich_help_panel=_RESULTS),
]
JsonlOption = Annotated[
    bool, typer.Option("--jsonl", help="Print one JSON line for each file on stdout.", rich_help_panel=_RESULTS)
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace earlier results.", rich_help_panel=_RESULTS)
]
SkipExistingOption = Annotated[
    bool, typer.Option("--skip-existing", help="Leave out files that have results.", rich_help_panel=_RESULTS)
]
Existing = Literal["refuse", "overwrite", "skip"]
"""What to do about results that are there already."""
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.", file_okay=False)]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of errors.")]


def read_list(text: str, allowed: Sequence[_T], option: str) -> tuple[_T, ...]:
    """Read ``a,b,c`` where each is one of ``allowed``; order is that of ``allowed``.

    Raises
    ------
    InvalidParameterError
        If a value is not allowed or there is none.
    """
    wanted = {part.strip() for part in text.split(",") if part.strip()}
    chosen = tuple(value for value in allowed if value in wanted)
    if not chosen or len(chosen) < len(wanted):
        raise InvalidParameterError(
            f"Cannot read {option}", expected=f"some of {','.join(map(str, allowed))}", actual=repr(text)
        )
    return chosen


class _Reader(Protocol[_R]):
    """Reads what was typed after an option; raises InvalidParameterError where that cannot be read."""

    @overload
    def __call__(self, text: str, /) -> _R: ...
    @overload
    def __call__(self, text: str | None, /) -> _R | None: ...


def _reader(option: str, expected: str) -> Callable[[Callable[[str], _T]], _Reader[_T]]:
    """Make a reader of a function that raises ValueError; what was not typed stays None."""

    def decorate(read: Callable[[str], _T]) -> _Reader[_T]:
        @wraps(read)
        def checked(text: str | None) -> _T | None:
            try:
                return None if text is None else read(text.strip())
            except ValueError as error:
                raise InvalidParameterError(f"Cannot read {option}", expected=expected, actual=repr(text)) from error

        return cast("_Reader[_T]", checked)

    return decorate


@_reader(
    "--channels", "'1', '0,2' or '0:blue,2:green', from 0, each channel once, in colours known by name or as '#rrggbb'"
)
def read_channels(text: str) -> int | Sequence[int] | Mapping[int, str]:
    """Read ``1`` (shown in gray), ``0,2`` or ``0:blue,2:green``."""
    from fastsam_core._image_colour import parse_channels

    pairs = [part.split(":") for part in text.split(",")]
    numbers = [int(pair[0]) for pair in pairs]
    coloured = {int(channel): colour.strip() for channel, colour in pairs} if ":" in text else {}
    if min(numbers) < 0 or 0 < len(coloured) < len(pairs):
        raise ValueError(text)
    channels = coloured or (numbers if len(numbers) > 1 else numbers[0])
    parse_channels(channels)  # raises for colours that nobody knows, and for a channel named twice
    return channels


@_reader("--axes", "a letter for each axis, each once, Y and X among them, e.g. 'TCZYX'")
def read_axes(text: str) -> str:
    """Read ``TCZYX``."""
    letters = set(text.upper())
    if not text.isalpha() or len(letters) < len(text) or not {"Y", "X"} <= letters:
        raise ValueError(text)
    return text


@_reader("--axis", "a letter such as Z or T")
def read_axis(text: str) -> str:
    """Read ``Z``, an axis that planes can lie along."""
    if not _is_stacked(text):
        raise ValueError(text)
    return text


def _is_stacked(axis: str) -> bool:
    return len(axis) == 1 and axis.isalpha() and axis.upper() not in "YXS"


@_reader("--plane", "'3', or 'T=2,Z=5' with each axis once, but Y and X; numbers from 0")
def read_plane(text: str) -> int | Mapping[str, int]:
    """Read ``3``, or an index by axis: ``T=2,Z=5``."""
    pairs = [part.split("=") for part in text.split(",")] if "=" in text else []
    places = {axis.strip().upper(): int(index) for axis, index in pairs}
    number = min(places.values()) if places else int(text)
    if number < 0 or len(places) < len(pairs) or not all(map(_is_stacked, places)):
        raise ValueError(text)
    return places or number


def read_existing(*, overwrite: bool, skip_existing: bool) -> Existing:
    """Return what is to be done about results that are there already."""
    if overwrite and skip_existing:
        raise InvalidParameterError("--overwrite and --skip-existing exclude each other")
    return "overwrite" if overwrite else "skip" if skip_existing else "refuse"


@_reader("--series", "a number from 0, or 'all'")
def read_series(text: str) -> int | Literal["all"]:
    """Read ``3`` or ``all``."""
    if text == "all":
        return "all"
    if int(text) < 0:
        raise ValueError(text)
    return int(text)


@_reader("--pixel-size", "'0.325', or 'width,height': micrometres, more than 0")
def read_pixel_size(text: str) -> tuple[float, float]:
    """Read ``0.325``, or width and height ``0.5,0.25``; returns height and width."""
    sides = [float(part) for part in text.split(",")]
    if len(sides) > 2 or not all(0 < side < math.inf for side in sides):
        raise ValueError(text)
    return sides[-1], sides[0]


@_reader("--imgsz", f"'640', '320,640' or 'auto', from {MIN_IMGSZ} to {MAX_IMGSZ}")
def read_sizes(text: str) -> int | tuple[int, ...] | Literal["auto"]:
    """Read ``640``, ``320,640`` or ``auto``."""
    if text == "auto":
        return "auto"
    sizes = tuple(int(size) for size in text.split(","))
    if min(sizes) < MIN_IMGSZ or max(sizes) > MAX_IMGSZ:
        raise ValueError(text)
    return sizes[0] if len(sizes) == 1 else sizes


@_reader("--conf", "a number from 0 to 1, or 'auto'")
def read_conf(text: str) -> float | Literal["auto"]:
    """Read a number from 0 to 1, or ``auto``."""
    if text == "auto":
        return "auto"
    conf = float(text)
    if not 0 <= conf <= 1:
        raise ValueError(text)
    return conf


@_reader("--contrast", "'low,high' (low < high), 'low,high;low,high' (one for each channel) or 'percentile'")
def read_contrast(text: str) -> Any:
    """Read ``low,high``, one such pair for each channel separated by ``;``, or ``percentile``."""
    if text == "percentile":
        return text
    pairs = [tuple(float(limit) for limit in pair.split(",")) for pair in text.split(";")]
    if any(len(pair) != 2 or not -math.inf < pair[0] < pair[1] < math.inf for pair in pairs):
        raise ValueError(text)
    return pairs[0] if len(pairs) == 1 else pairs
