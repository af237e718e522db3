"""What goes wrong with images, files and disks: a notice that names the remedy, and layers as they were."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
import zarr
from napari.layers import Image, Labels
from napari.utils.notifications import notification_manager

from .conftest import THREE, BlobModel, Make, choose_region, discs, run

if TYPE_CHECKING:
    from pathlib import Path


def messages() -> list[str]:
    return [str(record.message) for record in notification_manager.records]


def press_and_wait(qtbot: Any, widget: Any) -> None:
    """Press the button, and wait whether or not a worker begins."""
    widget.segment_panel.run_button.click()
    qtbot.waitUntil(lambda: not widget.segmentation.running, timeout=120_000)


@pytest.mark.usefixtures("blob_model")
@pytest.mark.filterwarnings("ignore:invalid value encountered in divide:RuntimeWarning:napari")
def test_an_image_without_pixels(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    """Napari cannot make the thumbnail of an empty image, but a stack whose planes are gone can be open."""
    viewer.add_layer(Image(np.stack([discs(80, 90, *THREE)] * 3), name="Image"))
    widget = make_widget(viewer)
    run(qtbot, widget)
    widget.label_panel.commit_shown()
    labels = viewer.layers["Image labels"].data.copy()
    viewer.layers["Image"].data = np.zeros((0, 80, 90), np.uint8)
    press_and_wait(qtbot, widget)
    assert "is empty" in messages()[-1]
    assert "choose another image" in messages()[-1]
    np.testing.assert_array_equal(viewer.layers["Image labels"].data, labels)


@pytest.mark.parametrize("dtype", ["object", "complex64"])
def test_a_type_that_is_no_image(
    viewer: Any, make_widget: Make, qtbot: Any, blob_model: BlobModel, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Napari draws neither, but the array behind a lazy layer may turn out to be of such a type."""
    data = discs(80, 90, *THREE)
    lazy = da.from_array(data).map_blocks(lambda block: block.astype(dtype), dtype=np.float32, meta=np.empty((0, 0)))
    monkeypatch.setattr(Image, "_update_thumbnail", lambda self: None)
    monkeypatch.setattr(Image, "_set_view_slice", lambda self: None)
    viewer.add_layer(Image(lazy, name="odd", contrast_limits=(0, 255), visible=False))
    mine = Labels(np.zeros((80, 90), np.int32), name="mine")
    viewer.add_layer(mine)
    widget = make_widget(viewer)
    press_and_wait(qtbot, widget)
    assert dtype.rstrip("64") in messages()[-1]
    assert "Remedy" in messages()[-1]
    assert not blob_model.seen
    assert not mine.data.any()


@pytest.mark.usefixtures("blob_model")
def test_a_volume_without_a_chosen_plane(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    stack = np.stack([discs(80, 90, *THREE)] * 3)
    viewer.add_layer(Image(stack, name="Image"))
    widget = make_widget(viewer)
    viewer.dims.ndisplay = 3
    before = [layer.name for layer in viewer.layers]
    for region in ("plane", "tiles", "view"):
        choose_region(widget, region)
        press_and_wait(qtbot, widget)
        assert "switch to 2-D" in messages()[-1]
    told = len(messages())
    widget.label_panel.commit_shown()
    assert len(messages()) == told + 1
    assert "where there is no plane to work on" in messages()[-1]
    assert [layer.name for layer in viewer.layers] == before


@pytest.mark.usefixtures("blob_model")
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_without_finite_values(viewer: Any, make_widget: Make, qtbot: Any, value: float) -> None:
    viewer.add_layer(Image(np.full((60, 60), value, np.float32), name="Image", contrast_limits=(0, 1)))
    widget = make_widget(viewer)
    press_and_wait(qtbot, widget)
    found = widget.session.candidates
    assert found is None or np.isnan(found.columns["intensity"]).all() or not len(found)


@pytest.mark.parametrize("through_dask", [False, True])
def test_files_that_go_away_during_the_work(
    viewer: Any, make_widget: Make, qtbot: Any, blob_model: BlobModel, tmp_path: Path, through_dask: bool
) -> None:
    """Zarr gives zeros for chunks that are missing: without a look at the folder the rest would pass for black."""
    folder = tmp_path / "drive" / "image.zarr"
    array = zarr.create_array(folder, data=discs(1100, 1100, (300, 300, 20), (800, 800, 30)), chunks=(256, 256))
    viewer.add_layer(Image(da.from_zarr(array) if through_dask else array, name="Image", contrast_limits=(0, 255)))
    widget = make_widget(viewer)
    choose_region(widget, "tiles")
    run(qtbot, widget)
    widget.label_panel.commit_shown()
    labels = viewer.layers["Image labels"].data.copy()
    seen = len(blob_model.seen)
    blob_model.gate = lambda: shutil.rmtree(tmp_path / "drive", ignore_errors=True)
    press_and_wait(qtbot, widget)
    assert "is gone" in messages()[-1]
    assert "network drive" in messages()[-1]
    assert len(blob_model.seen) == seen, "no black tile goes through the network"
    np.testing.assert_array_equal(viewer.layers["Image labels"].data, labels)


@pytest.mark.usefixtures("blob_model")
def test_a_disk_that_is_full_during_the_work(
    viewer: Any, make_widget: Make, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer.add_layer(Image(discs(80, 90, *THREE), name="Image"))
    widget = make_widget(viewer)
    run(qtbot, widget)

    def no_space(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("fastsam_core.journal.os.fsync", no_space)
    for index in range(3):
        assert widget.labels.commit([index]) == 1
    widget.labels.undo()
    assert sorted(np.unique(viewer.layers["Image labels"].data)) == [0, 1, 2]
    widget.shut_down()
    told = [message for message in messages() if "journal" in message]
    assert len(told) == 1, "said once"
    assert "No space left" in told[0]
    assert "free some space" in told[0]
