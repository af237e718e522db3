"""The manifest, the menus, the preferences and the samples."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npe2 import PluginManifest

import napari_fastsam
from napari_fastsam import _samples
from napari_fastsam._settings import Settings, read_settings, write_setting

from .conftest import needs_napari_0_9

MANIFEST = Path(napari_fastsam.__file__).with_name("napari.yaml")


def test_the_manifest_is_valid_and_all_it_names_can_be_imported() -> None:
    manifest = PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    assert manifest.name == "fastsam-plugins"
    assert list(manifest.contributions.menus) == ["napari/layers/segment"]


def test_the_manifest_in_the_root_is_the_one_in_the_package() -> None:
    link = Path(__file__).parents[2] / "napari.yaml"
    assert link.read_text() == MANIFEST.read_text()


def test_defaults_of_the_preferences_page_equal_those_in_code() -> None:
    page = PluginManifest.from_file(MANIFEST).contributions.configurations["segmentation"]
    assert {f.name: f.default for f in fields(Settings)} == {
        name: setting.default for name, setting in page.properties.items()
    }


@needs_napari_0_9
def test_preferences_are_read_and_written(plugin_settings: Any, npe2pm: Any) -> None:
    assert read_settings() == Settings(), "without the plugin registered there are defaults"
    npe2pm.register(PluginManifest.from_file(MANIFEST))
    write_setting("confidence", 0.5)
    write_setting("walkthrough", False)
    assert read_settings() == Settings(confidence=0.5, walkthrough=False)


@pytest.mark.parametrize("name", ["coins", "cell", "ihc", "nuclei_stack", "two_channels", "mosaic"])
def test_samples_make_layers(name: str) -> None:
    from napari.layers import Layer

    layers = [Layer.create(*data) for data in getattr(_samples, name)()]
    assert layers[0].ndim == {"nuclei_stack": 3, "two_channels": 3}.get(name, 2)


def test_made_nuclei_are_bright_and_do_not_touch() -> None:
    image, labels = _samples.make_nuclei((8, 96, 96), 20)
    assert labels.max() > 3
    assert image[labels > 0].mean() > 3 * image[labels == 0].mean()


def test_only_the_tiles_that_are_looked_at_are_made() -> None:
    mosaic = _samples.make_mosaic(1024, 1300)
    tile = np.asarray(mosaic[512:600, 1024:1300])
    assert tile.shape == (88, 276)
    assert mosaic.chunks == ((512, 512), (512, 512, 276))
    reduced = np.asarray(_samples.make_mosaic(1024, 1300, step=4))
    np.testing.assert_array_equal(reduced[128:150, 256:], tile[::4, ::4])


def test_the_menu_entry_opens_the_widget(make_napari_viewer: Any) -> None:
    from napari._app_model import get_app_model

    viewer = make_napari_viewer()
    items = [item for item in get_app_model().menus.get_menu("napari/layers/segment") if hasattr(item, "command")]
    assert any("FastSAM" in item.command.title for item in items)
    _, widget = viewer.window.add_plugin_dock_widget("fastsam-plugins", "FastSAM")
    assert widget.session.image is None
    widget.shut_down()
