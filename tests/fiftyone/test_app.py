"""End to end: the operators in the real App, by a headless browser and by a background worker, with the real model."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
import skimage
from PIL import Image

import fiftyone_app as app
from fiftyone_fastsam.doctor import ALLOW_SCHEDULING
from fiftyone_fastsam.install import PLUGIN_NAME, install

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

OPERATOR = "FastSAM: segment everything"
BOXES = "FastSAM: boxes to masks"
TEXT = "FastSAM: text to masks"
FEWEST = 5  # of the 24 coins; the model may change


@pytest.fixture
def chromium() -> str:
    path = app.find_chromium()
    if path is None:
        pytest.skip("there is no Chromium; run tools/system-packages.sh as root, or `playwright install chromium`")
    return path


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the plugin for this process and those that it starts."""
    folder = tmp_path / "plugins"
    install(folder)
    monkeypatch.setenv("FIFTYONE_PLUGINS_DIR", str(folder))
    monkeypatch.setattr(fo.config, "plugins_dir", str(folder))


@pytest.fixture
def grey_dataset(tmp_path: Path, make_dataset: Callable[..., Any]) -> Any:
    """Return a dataset of three grey pictures of coins: whatever is coloured in the App is a label."""
    coins = Path(skimage.__file__).parent / "data" / "coins.png"
    paths = [shutil.copy(coins, tmp_path / f"{i}.png") for i in range(3)]
    dataset = make_dataset(paths=paths)
    dataset.compute_metadata(progress=False)
    return dataset


@pytest.mark.usefixtures("plugin")
def test_masks_appear_in_the_app(grey_dataset: Any, chromium: str) -> None:
    sample = grey_dataset.first()
    sample["gt"] = fo.Detections(detections=[fo.Detection(label="coin", bounding_box=[0.37, 0.78, 0.15, 0.17])])
    sample.save()
    with app.served_app() as address, app.browser_page(chromium) as page:
        app.open_dataset(page, address, grey_dataset.name, samples=3)
        app.browse_operators(page, "FastSAM", BOXES)
        icon = page.locator("img[src*=icon]").first.screenshot()  # of the operator that is highlighted, in orange
        assert np.asarray(Image.open(io.BytesIO(icon)).convert("RGB"))[..., 2].max() > 200
        app.open_form(page, BOXES)
        app.execute(page, "1 mask on 3 samples")
        app.close_form(page)
        app.browse_operators(page, "FastSAM", TEXT)
        app.open_form(page, TEXT)
        app.fill_in(page, "Words", "product, pebble")
        app.execute(page, "on 3 samples")
        app.close_form(page)
        grey_dataset.reload()
        [answer] = grey_dataset.first().fastsam_boxes.detections
        assert (answer.label, answer.matched, answer.id) == ("coin", True, sample.gt.detections[0].id)
        assert answer.fit > 0.8
        assert grey_dataset.count("fastsam_text.detections.mask")
        assert set(grey_dataset.distinct("fastsam_text.detections.label")) <= {"product", "pebble"}
        grey_dataset.delete_sample_fields(["gt", "fastsam_boxes", "fastsam_text"])
        app.open_dataset(page, address, grey_dataset.name, samples=3)
        app.select_samples(page, 2)
        app.browse_operators(page, "FastSAM", OPERATOR)
        app.open_form(page, OPERATOR, says="Selected samples")
        app.execute(page, "on 2 samples")
        grey_dataset.reload()
        assert grey_dataset.exists("fastsam").values("id") == grey_dataset.values("id")[:2]
        assert len(grey_dataset.first().fastsam.detections) >= FEWEST
        app.open_dataset(page, address, grey_dataset.name, samples=3)
        app.open_sample(page)
        page.wait_for_timeout(3000)
        picture = page.get_by_test_id("modal-looker-container").screenshot()
    saturations = np.asarray(Image.open(io.BytesIO(picture)).convert("HSV"))[..., 1]
    assert (saturations > 80).mean() > 0.05


@pytest.mark.usefixtures("plugin")
def test_a_form_schedules_for_a_background_worker(
    grey_dataset: Any, chromium: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(*ALLOW_SCHEDULING.split("="))
    with app.served_app() as address, app.browser_page(chromium) as page:
        app.open_dataset(page, address, grey_dataset.name, samples=3)
        app.select_samples(page, 2)
        app.browse_operators(page, "FastSAM", OPERATOR)
        app.open_form(page, OPERATOR, says="Selected samples")
        app.schedule(page)
        operation = app.run_worker(grey_dataset)
    assert operation is not None
    assert operation.run_state == "completed", operation.result
    assert operation.result.result["done"] == 2
    grey_dataset.reload()
    assert grey_dataset.exists("fastsam").values("id") == grey_dataset.values("id")[:2]


@pytest.mark.usefixtures("plugin")
def test_a_background_worker_does_what_was_queued(grey_dataset: Any) -> None:
    params = {"label_field": "fastsam", "view_target": "DATASET"}
    uri = f"{PLUGIN_NAME}/segment_everything"
    foo.execute_operator(uri, {"dataset": grey_dataset, "params": params}, request_delegation=True)
    operation = app.run_worker(grey_dataset)
    assert operation is not None
    assert operation.run_state == "completed", operation.result
    assert operation.status.progress == 1
    outcome = operation.result.result
    assert (outcome["label_field"], outcome["done"], outcome["failed"]) == ("fastsam", 3, 0)
    grey_dataset.reload()
    assert outcome["masks"] == grey_dataset.count("fastsam.detections") >= 3 * FEWEST
