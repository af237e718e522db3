"""Options that several commands share, and the reading of those that hold more than one value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

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


def read_channels(text: str | None) -> int | Sequence[int] | Mapping[int, str] | None:
    """Read ``1`` (shown in gray), ``0,2`` or ``0:blue,2:green``."""
    from fastsam_core._image_colour import parse_channels

    def split(value: str) -> int | Sequence[int] | Mapping[int, str]:
        parts = value.split(",")
        if any(":" in part for part in parts):
            pairs = [part.split(":") for part in parts]
            coloured = {int(channel): colour.strip() for channel, colour in pairs}
            if len(coloured) < len(pairs):
                raise ValueError(value)
            return coloured
        return int(parts[0]) if len(parts) == 1 else [int(part) for part in parts]

    def read(value: str) -> int | Sequence[int] | Mapping[int, str]:
        channels = split(value)
        if min([channels] if isinstance(channels, int) else channels) < 0:
            raise ValueError(value)
        parse_channels(channels)  # raises for colours that nobody knows, and for a channel named twice
        return channels

    return _read(
        text,
        read,
        "--channels",
        "'1', '0,2' or '0:blue,2:green', from 0, each channel once, in colours known by name or as '#rrggbb'",
    )


def read_axes(text: str | None) -> str | None:
    """Read ``TCZYX``."""

    def read(value: str) -> str:
        letters = set(value.upper())
        if not value.isalpha() or len(letters) < len(value) or not {"Y", "X"} <= letters:
            raise ValueError(value)
        return value

    return _read(text, read, "--axes", "a letter for each axis, each once, Y and X among them, e.g. 'TCZYX'")


def read_axis(text: str | None) -> str | None:
    """Read ``Z``, an axis that planes can lie along."""

    def read(value: str) -> str:
        if not _is_stacked(value):
            raise ValueError(value)
        return value

    return _read(text, read, "--axis", "a letter such as Z or T")


def _is_stacked(axis: str) -> bool:
    return len(axis) == 1 and axis.isalpha() and axis.upper() not in "YXS"


def read_plane(text: str) -> int | Mapping[str, int]:
    """Read ``3``, or an index by axis: ``T=2,Z=5``."""

    def read(value: str) -> int | Mapping[str, int]:
        pairs = [part.split("=") for part in value.split(",")] if "=" in value else []
        places = {axis.strip().upper(): int(index) for axis, index in pairs}
        number = min(places.values()) if places else int(value)
        if number < 0 or len(places) < len(pairs) or not all(map(_is_stacked, places)):
            raise ValueError(value)
        return places or number

    plane = _read(text, read, "--plane", "'3', or 'T=2,Z=5' with each axis once, but Y and X; numbers from 0")
    return 0 if plane is None else plane


def read_existing(*, overwrite: bool, skip_existing: bool) -> Existing:
    """Return what is to be done about results that are there already."""
    if overwrite and skip_existing:
        raise InvalidParameterError("--overwrite and --skip-existing exclude each other")
    return "overwrite" if overwrite else "skip" if skip_existing else "refuse"


def read_series(text: str) -> int | Literal["all"]:
    """Read ``3`` or ``all``."""

    def read(value: str) -> int | Literal["all"]:
        if value == "all":
            return "all"
        if int(value) < 0:
            raise ValueError(value)
        return int(value)

    return _read(text, read, "--series", "a number from 0, or 'all'") or 0


def read_pixel_size(text: str | None) -> tuple[float, float] | None:
    """Read ``0.325``, or width and height ``0.5,0.25``; returns height and width."""

    def read(value: str) -> tuple[float, float]:
        sides = [float(part) for part in value.split(",")]
        if len(sides) > 2 or not all(0 < side < math.inf for side in sides):
            raise ValueError(value)
        return sides[-1], sides[0]

    return _read(text, read, "--pixel-size", "'0.325', or 'width,height': micrometres, more than 0")


def read_sizes(text: str | None) -> int | tuple[int, ...] | Literal["auto"] | None:
    """Read ``640``, ``320,640`` or ``auto``."""
    from fastsam_core._checks import MAX_IMGSZ, MIN_IMGSZ, as_imgsz

    def read(value: str) -> int | tuple[int, ...] | Literal["auto"]:
        if value == "auto":
            return "auto"
        sizes = tuple(as_imgsz(int(size)) for size in value.split(","))
        return sizes[0] if len(sizes) == 1 else sizes

    return _read(text, read, "--imgsz", f"'640', '320,640' or 'auto', from {MIN_IMGSZ} to {MAX_IMGSZ}")


def read_conf(text: str | None) -> float | Literal["auto"] | None:
    """Read a number from 0 to 1, or ``auto``."""

    def read(value: str) -> float | Literal["auto"]:
        if value == "auto":
            return "auto"
        conf = float(value)
        if not 0 <= conf <= 1:
            raise ValueError(value)
        return conf

    return _read(text, read, "--conf", "a number from 0 to 1, or 'auto'")


def read_contrast(text: str | None) -> Any:
    """Read ``low,high``, one such pair for each channel separated by ``;``, or ``percentile``."""

    def read(value: str) -> Any:
        if value == "percentile":
            return value
        pairs = [tuple(float(limit) for limit in pair.split(",")) for pair in value.split(";")]
        if any(len(pair) != 2 or not -math.inf < pair[0] < pair[1] < math.inf for pair in pairs):
            raise ValueError(value)
        return pairs[0] if len(pairs) == 1 else pairs

    return _read(
        text, read, "--contrast", "'low,high' (low < high), 'low,high;low,high' (one for each channel) or 'percentile'"
    )


def _read(text: str | None, read: Callable[[str], _T], option: str, expected: str) -> _T | None:
    if text is None:
        return None
    try:
        return read(text.strip())
    except ValueError as error:
        raise InvalidParameterError(f"Cannot read {option}", expected=expected, actual=repr(text)) from error
