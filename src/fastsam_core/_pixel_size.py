"""How large a pixel is in micrometres, and how far planes are apart, where a file says it and means it.

The resolution of ordinary TIFF, PNG and JPEG files is one for printing, and is not asked.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Sizes", "hw_of", "micrometres", "size_facts", "sizes_in_tiff", "sizes_in_zarr"]

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

Sizes = dict[str, float | None]
"""Micrometres for each pixel along ``Y`` and ``X``, and from plane to plane along ``Z``, as far as they are known."""

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


def size_facts(sizes: Sizes, *, turned: bool = False) -> dict[str, object]:
    """Return what an image's recipe says of sizes: height and width of a pixel, the other way round if it is turned."""
    height, width, step = (sizes.get(axis) for axis in "YXZ")
    facts: dict[str, object] = {}
    if height is not None and width is not None:
        facts["pixel_size_um"] = [width, height] if turned else [height, width]
    return facts if step is None else facts | {"z_step_um": step}


def sizes_in_tiff(tiff: Any, series: int, level: int) -> Sizes:
    """Return the sizes of a series of an open TIFF file (tifffile), at a level of its pyramid.

    OME-TIFF, ImageJ, LSM, MetaMorph, Aperio, Hamamatsu and Leica say them.
    """
    chosen = tiff.series[series]
    try:
        sizes = _sizes_of_series(tiff, chosen, series)
    except _ODD:
        return {}
    if level:
        for axis, full, smaller in zip("YX", hw_of(chosen.levels[0]), hw_of(chosen.levels[level]), strict=True):
            if (size := sizes.get(axis)) is not None:
                sizes[axis] = size * full / smaller
    return sizes


def hw_of(series: Any) -> tuple[int, int]:
    """Return height and width of a series of a TIFF file, in pixels."""
    sizes = dict(zip(series.axes, series.shape, strict=True))
    return int(sizes["Y"]), int(sizes["X"])


def _sizes_of_series(tiff: Any, chosen: Any, series: int) -> Sizes:
    page = chosen.keyframe
    if chosen.kind == "ome":
        return _of_ome(tiff.ome_metadata, series)
    if chosen.kind == "imagej":
        said = tiff.imagej_metadata or {}
        return _of_resolution(page, said.get("unit")) | {"Z": micrometres(said.get("spacing"), said.get("unit"))}
    if chosen.kind == "lsm":
        return {axis: micrometres((tiff.lsm_metadata or {}).get(f"VoxelSize{axis}"), "m") for axis in "ZYX"}
    if chosen.kind == "stk":
        said = tiff.stk_metadata or {}
        return {axis: micrometres(said.get(f"{axis}Calibration"), said.get("CalibrationUnits")) for axis in "YX"}
    if chosen.kind == "svs":
        found = re.search(r"\|\s*MPP\s*=\s*([0-9.]+)", page.description or "")
        return dict.fromkeys("YX", micrometres(found[1], "um") if found else None)
    if chosen.kind in ("ndpi", "scn") and int(page.resolutionunit) == 3:
        return _of_resolution(page, "cm")
    return {}


def _of_ome(xml: str | None, series: int) -> Sizes:
    from xml.etree import ElementTree

    try:
        root = ElementTree.fromstring(xml or "")
    except (ElementTree.ParseError, ValueError):
        return {}
    images = [image for image in root if image.tag.endswith("}Image") or image.tag == "Image"]
    pixels = next(part for part in images[series] if part.tag.endswith("Pixels"))
    said = {axis: (pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "ZYX"}
    return {axis: micrometres(value, unit) for axis, (value, unit) in said.items()}


def _of_resolution(page: Any, unit: object) -> Sizes:
    """Return the inverse of the pixels for each unit that a page says it has."""
    sizes: Sizes = {}
    for axis in "YX":
        tag = page.tags.get(f"{axis}Resolution")
        first, second = tag.value if tag is not None else (0, 1)
        sizes[axis] = micrometres(second / first, unit) if first else None
    return sizes


def sizes_in_zarr(multiscale: Mapping[str, Any], level: int) -> Sizes:
    """Return the sizes of an OME-Zarr image, at a level."""
    try:
        return _of_multiscale(multiscale, level)
    except _ODD:
        return {}


def _of_multiscale(multiscale: Mapping[str, Any], level: int) -> Sizes:
    axes: Sequence[Mapping[str, Any]] = multiscale.get("axes") or ()
    steps = [*multiscale["datasets"][level].get("coordinateTransformations", ())]
    steps += multiscale.get("coordinateTransformations") or ()
    scale = [1.0] * len(axes)
    for step in steps:
        if step.get("type") == "scale" and len(step.get("scale", ())) == len(axes):
            scale = [one * float(other) for one, other in zip(scale, step["scale"], strict=True)]
    sizes = {str(axis["name"]).upper(): micrometres(s, axis.get("unit")) for axis, s in zip(axes, scale, strict=True)}
    return {axis: sizes.get(axis) for axis in "ZYX"}
