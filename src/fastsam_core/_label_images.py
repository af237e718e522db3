"""Label images as TIFF files that tell other programs what their axes are, and how large their pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastsam_core._axis_names import czt_of, is_channels
from fastsam_core._files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["write_label_image"]

_IMAGEJ_AXES, _OTHER_AXES = "TZCYX", "QVRHAPE"
_IMAGEJ_BYTES = 2**32


def write_label_image(
    path: Path, data: NDArray[Any], names: Sequence[str], sides_um: Sequence[float | None] = ()
) -> Path:
    """Write labels of any number of axes, in 16 bits where they fit, else 32.

    Parameters
    ----------
    path : Path
    data : ndarray of integers, shape (..., H, W)
        Labels; negative ones keep their type.
    names : sequence of str
        What the axes are called, in the user's words.
    sides_um : sequence of float or None, optional
        The sides of a pixel along each axis in micrometres; None where they are none.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    import tifffile

    low, high = int(data.min(initial=0)), int(data.max(initial=0))
    fitting = (kind for kind in (np.uint16, np.uint32) if low >= 0 and high <= np.iinfo(kind).max)
    data = data.astype(next(fitting, data.dtype))
    how = _described(data, _letters(names, data.shape), sides_um or [None] * data.ndim)
    with atomic_path(path) as temporary:
        tifffile.imwrite(temporary, data, photometric="minisblack", compression="zlib", **how)
    return path


def _letters(names: Sequence[str], shape: Sequence[int]) -> str:
    """Return a letter for each axis, as TIFF files name them."""
    others = names[:-2]
    found = czt_of([name for name, size in zip(others, shape, strict=False) if size > 1 or is_channels(name)])
    spare = iter(_OTHER_AXES)
    return "".join(found.get(name) or next(spare) for name in others).upper() + "YX"


def _described(data: NDArray[Any], axes: str, sides_um: Sequence[float | None]) -> dict[str, Any]:
    """Return what tells others the axes and sizes of pixels: as ImageJ does, else OME; both drop axes of length one."""
    sides = {axis: side for axis, side in zip(axes, sides_um, strict=True) if side is not None}
    plain = 1 not in data.shape[:-2] and set(axes) <= set(_IMAGEJ_AXES)
    in_order = list(axes) == sorted(axes, key=_IMAGEJ_AXES.find)
    if plain and in_order and data.dtype == np.uint16 and data.nbytes < _IMAGEJ_BYTES:
        how: dict[str, Any] = {"imagej": True, "metadata": {"axes": axes}}
        if {"Y", "X"} <= set(sides):
            how["resolution"] = 1 / sides["X"], 1 / sides["Y"]
            how["metadata"] |= {"unit": "um"} | ({"spacing": sides["Z"]} if "Z" in sides else {})
        return how
    if plain and data.itemsize <= 4:
        sizes = {f"PhysicalSize{axis}": side for axis, side in sides.items() if axis in "ZYX"}
        return {"ome": True, "metadata": {"axes": axes} | sizes | {f"{name}Unit": "µm" for name in sizes}}
    return {"metadata": {"axes": axes}}
