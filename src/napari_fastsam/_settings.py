"""The Preferences page of the plugin, read and written."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from fastsam_core._defaults import MAX_DET

__all__ = ["Settings", "read_settings", "write_setting"]

_PLUGIN = "fastsam-plugins"


@dataclass(frozen=True, slots=True)
class Settings:
    """Values of the Preferences page; the defaults equal those of ``napari.yaml``."""

    model: str = "builtin"
    device: str = "auto"
    text_model: str = "auto"
    confidence: float = 0.0
    """0 stands for what the model recommends."""
    max_candidates: int = MAX_DET
    cache_mb: int = 1024
    journal: bool = True
    walkthrough: bool = True


def _page() -> object | None:
    """Return napari's settings of this plugin, or None where it is not registered or napari is too old."""
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return None
    try:
        return getattr(get_plugin_settings(_PLUGIN), "segmentation", None)
    except KeyError:
        return None


def read_settings() -> Settings:
    """Read what the user chose in Preferences → FastSAM."""
    page = _page()
    defaults = Settings()
    if page is None:
        return defaults
    return replace(defaults, **{f.name: getattr(page, f.name, getattr(defaults, f.name)) for f in fields(Settings)})


def write_setting(name: str, value: str | float | bool) -> None:
    """Change one value of the Preferences page; without such a page nothing happens."""
    page = _page()
    if page is not None:
        setattr(page, name, value)
