"""What differs between the supported versions of napari."""

from __future__ import annotations

from typing import Any

__all__ = ["camera_of"]


def camera_of(viewer: Any) -> Any:
    """Return the camera; it moved to ``viewer.scene`` in napari 0.9."""
    return viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera
