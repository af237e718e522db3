"""What differs between the supported versions of napari."""

from __future__ import annotations

from typing import Any

__all__ = ["camera_of", "in_grid"]


def camera_of(viewer: Any) -> Any:
    """Return the camera; it moved to ``viewer.scene`` in napari 0.9."""
    return viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera


def in_grid(viewer: Any) -> bool:
    """Tell whether layers are shown beside each other; the grid moved to ``viewer.canvas`` in napari 0.9."""
    return bool(viewer.canvas.grid.enabled if hasattr(viewer, "canvas") else viewer.grid.enabled)
