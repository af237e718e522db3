"""How large a pixel is in micrometres, where a file says so in a way that is meant for it.

The resolution of ordinary TIFF, PNG and JPEG files is one for printing, and is not asked.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["both", "micrometres", "size_in_tiff", "size_in_zarr", "sizes_yx"]

_UNITS: Final = {
    "m": 1e6,
    "meter": 1e6,
    "cm": 1e4,
    "centimeter": 1e4,
    "mm": 1e3,
    "millimeter": 1e3,
    "um": 1.0,
    "µm": 1.0,
    "μm": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "å": 1e-4,
    "angstrom": 1e-4,
    "pm": 1e-6,
    "picometer": 1e-6,
}

Size = tuple[float, float]

# What descriptions of files raise that are not as they should be.
_ODD = (AttributeError, IndexError, KeyError, TypeError, ValueError)


def micrometres(value: object, unit: object) -> float | None:
    """Return a length in micrometres; None where it is no positive number, or the unit is none."""
    name = str(unit).strip().replace("\\u00B5", "µ").lower().replace("metre", "meter")
    try:
        length = float(value) * _UNITS[name]  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError):
        return None
    return length if math.isfinite(length) and length > 0 else None


def both(height: float | None, width: float | None) -> Size | None:
    """Return height and width together; None where one of them is not known."""
    return None if height is None or width is None else (height, width)


def size_in_tiff(tiff: Any, series: int, level: int) -> Size | None:
    """Return height and width of a pixel of a series of an open TIFF file (tifffile), at a level of its pyramid.

    OME-TIFF, ImageJ, LSM, MetaMorph, Aperio and Hamamatsu say it.
    """
    chosen = tiff.series[series]
    try:
        size = _size_of_series(tiff, chosen, series)
    except _ODD:
        return None
    if size is None or level == 0:
        return size
    (height, width), (rows, columns) = sizes_yx(chosen.levels[0]), sizes_yx(chosen.levels[level])
    return size[0] * height / rows, size[1] * width / columns


def sizes_yx(series: Any) -> tuple[int, int]:
    """Return height and width of a series of a TIFF file, in pixels."""
    sizes = dict(zip(series.axes, series.shape, strict=True))
    return int(sizes["Y"]), int(sizes["X"])


def _size_of_series(tiff: Any, chosen: Any, series: int) -> Size | None:
    page = chosen.keyframe
    if chosen.kind == "ome":
        return _of_ome(tiff.ome_metadata, series)
    if chosen.kind == "imagej":
        unit = (tiff.imagej_metadata or {}).get("unit")
        return _of_resolution(page, unit)
    if chosen.kind == "lsm":
        sizes = tiff.lsm_metadata or {}
        return both(*(micrometres(sizes.get(f"VoxelSize{axis}"), "m") for axis in "YX"))
    if chosen.kind == "stk":
        sizes = tiff.stk_metadata or {}
        unit = sizes.get("CalibrationUnits")
        return both(*(micrometres(sizes.get(f"{axis}Calibration"), unit) for axis in "YX"))
    if chosen.kind == "svs":
        found = re.search(r"\|\s*MPP\s*=\s*([0-9.]+)", page.description or "")
        side = micrometres(found[1], "um") if found else None
        return both(side, side)
    if chosen.kind in ("ndpi", "scn") and int(page.resolutionunit) == 3:
        return _of_resolution(page, "cm")
    return None


def _of_ome(xml: str | None, series: int) -> Size | None:
    from xml.etree import ElementTree

    try:
        root = ElementTree.fromstring(xml or "")
    except (ElementTree.ParseError, ValueError):
        return None
    images = [image for image in root if image.tag.endswith("}Image") or image.tag == "Image"]
    if series >= len(images):
        return None
    pixels = next((part for part in images[series] if part.tag.endswith("Pixels")), None)
    if pixels is None:
        return None
    return both(*(micrometres(pixels.get(f"PhysicalSize{a}"), pixels.get(f"PhysicalSize{a}Unit", "µm")) for a in "YX"))


def _of_resolution(page: Any, unit: object) -> Size | None:
    """Return the inverse of the pixels for each unit that a page says it has."""
    sizes = []
    for name in ("YResolution", "XResolution"):
        tag = page.tags.get(name)
        first, second = tag.value if tag is not None else (0, 1)
        sizes.append(micrometres(second / first, unit) if first else None)
    return both(*sizes)


def size_in_zarr(multiscale: Mapping[str, Any], level: int) -> Size | None:
    """Return height and width of a pixel of an OME-Zarr image, at a level."""
    try:
        return _of_multiscale(multiscale, level)
    except _ODD:
        return None


def _of_multiscale(multiscale: Mapping[str, Any], level: int) -> Size | None:
    axes: Sequence[Any] = multiscale.get("axes") or ()
    if not all(isinstance(axis, dict) for axis in axes):
        return None  # version 0.3 has no units
    steps = [*multiscale["datasets"][level].get("coordinateTransformations", ())]
    steps += multiscale.get("coordinateTransformations") or ()
    scale = [1.0] * len(axes)
    for step in steps:
        if step.get("type") == "scale" and len(step.get("scale", ())) == len(axes):
            scale = [one * float(other) for one, other in zip(scale, step["scale"], strict=True)]
    by_name = {str(axis.get("name")): (value, axis.get("unit")) for axis, value in zip(axes, scale, strict=True)}
    return both(*(micrometres(*by_name.get(name, (None, None))) for name in "yx"))
