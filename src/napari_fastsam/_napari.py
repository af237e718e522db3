"""What differs between the supported versions of napari."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fastsam._convert import in_layer_units, layer_map

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["camera_of", "depth_of", "grid_of", "point_of", "seen_by", "units_of"]


def camera_of(viewer: Any) -> Any:
    """Return the camera; it moved to ``viewer.scene`` in napari 0.9."""
    return viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera


def grid_of(viewer: Any) -> Any:
    """Return how layers are shown beside each other; it moved to ``viewer.canvas`` in napari 0.9."""
    return viewer.canvas.grid if hasattr(viewer, "canvas") else viewer.grid


def units_of(viewer: Any) -> Sequence[Any] | None:
    """Return the units of the viewer's world; napari before 0.9 has none."""
    units: Sequence[Any] | None = getattr(viewer.dims, "units", None)
    return units


def seen_by(viewer: Any, layer: Any) -> NDArray[np.float64]:
    """Return the four corners of what the canvas shows in 2-D, in the units of a layer, shape (4, ndim)."""
    camera, displayed = camera_of(viewer), list(viewer.dims.displayed)
    # napari before 0.9 does not tell plugins how large the canvas is
    model = getattr(viewer, "__wrapped__", viewer)
    size = viewer.canvas.viewbox_size(viewer.layers) if hasattr(viewer, "canvas") else model._canvas_size
    half = np.asarray(size, np.float64) / (2 * camera.zoom)
    corners = []
    for side in ((-1, -1), (-1, 1), (1, 1), (1, -1)):
        world = np.array(viewer.dims.point, np.float64)
        world[displayed] = camera.center[-2:] + half * side
        corners.append(in_layer_units(layer, world, units_of(viewer))[-layer.ndim :])
    return np.stack(corners)


def point_of(viewer: Any, layer: Any) -> NDArray[np.float64]:
    """Return where the sliders stand, in the units of a layer."""
    return in_layer_units(layer, viewer.dims.point, units_of(viewer))


def depth_of(viewer: Any, layer: Any) -> dict[int, tuple[int, int]]:
    """Return which planes a thick slice has, by axis of a layer: the first one and the one behind the last.

    They are counted from the plane where the sliders stand; axes along which that is the only one are left out.
    """
    dims, inverse, count = viewer.dims, layer_map(layer).inverse(), layer.ndim
    place, inward = inverse(point_of(viewer, layer)[None, -count:])[0], inverse.matrix.diagonal()
    before, behind = (
        in_layer_units(layer, margin, units_of(viewer))[-count:] * inward
        for margin in (dims.margin_left, dims.margin_right)
    )
    low, high = np.round(place - before), np.round(place + behind)
    high += np.isclose(high, place + behind) | (low == high)  # as napari does
    ends = np.stack([low, high], axis=1) - np.round(place)[:, None]
    hidden = (axis - dims.ndim + count for axis in dims.not_displayed)
    return {k: (int(ends[k, 0]), int(ends[k, 1])) for k in hidden if k >= 0 and tuple(ends[k]) != (0, 1)}
