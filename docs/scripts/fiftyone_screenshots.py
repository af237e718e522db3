"""Pictures of the plugin in the FiftyOne App, made by using it as a user would, in a headless browser.

Usage: PYTHONPATH=tools python tools/local_services.py python docs/scripts/fiftyone_screenshots.py [FOLDER]
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import fiftyone_app as app

IMAGES = ("coins.png", "coffee.png", "chelsea.png", "rocket.jpg", "astronaut.png", "retina.jpg")
FIELD = "fastsam"
FOLDER = Path(__file__).parents[1] / "images" / "fiftyone"
OPERATOR = "FastSAM: segment everything"


def make_dataset(name: str, folder: Path) -> Any:
    """Make a persistent dataset of copies of scikit-image's pictures."""
    import fiftyone as fo
    import skimage

    for image in IMAGES:
        shutil.copy(Path(skimage.__file__).parent / "data" / image, folder)
    dataset = fo.Dataset(name, persistent=True, overwrite=True)
    dataset.add_samples([fo.Sample(filepath=str(folder / image)) for image in IMAGES], progress=False)
    dataset.compute_metadata(progress=False)
    return dataset


def segment_everything(page: Any, out: Path, dataset: Any, samples: int) -> None:
    """Run "segment everything" on selected samples through its form, and wait until the masks are in the database."""
    app.select_samples(page, samples)
    app.browse_operators(page, "FastSAM", OPERATOR)
    page.screenshot(path=out / "operators.png")
    app.open_form(page, OPERATOR)
    page.screenshot(path=out / "form.png")
    app.execute(page, f"on {samples} samples")
    page.get_by_text(FIELD, exact=True).first.wait_for()
    page.wait_for_timeout(4000)
    page.screenshot(path=out / "done.png")
    dataset.reload()
    if len(dataset.exists(FIELD)) != samples:
        raise RuntimeError("the masks are not in the database")


def run_delegated(dataset: Any) -> None:
    """Queue the operator for all samples, let a worker do it, and read its outcome back."""
    import fiftyone.operators as foo

    params = {"label_field": FIELD, "view_target": "DATASET"}
    uri = "@fastsam/fastsam/segment_everything"
    foo.execute_operator(uri, {"dataset": dataset, "params": params}, request_delegation=True)
    operation = app.run_worker(dataset)
    if operation is None or operation.run_state != "completed":
        raise RuntimeError(f"the delegated run did not complete: {operation and operation.result}")
    print("delegated:", operation.run_state, operation.status and operation.status.progress, operation.result.result)


def show_masks(page: Any, out: Path) -> None:
    """Look at one sample with its masks."""
    page.wait_for_timeout(4000)
    app.open_sample(page)
    page.wait_for_timeout(4000)
    page.screenshot(path=out / "sample.png")


def main(folder: Path) -> None:
    """Make all pictures."""
    chromium = app.find_chromium()
    if chromium is None:
        raise SystemExit("there is no Chromium; run tools/system-packages.sh as root")
    with tempfile.TemporaryDirectory(prefix="pictures-") as images, tempfile.TemporaryDirectory() as plugins:
        os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "true")
        os.environ["FIFTYONE_PLUGINS_DIR"] = plugins
        from fiftyone_fastsam.install import install

        install(plugins)
        dataset = make_dataset("fastsam-pictures", Path(images))
        with app.served_app() as address:
            with app.browser_page(chromium) as page:
                app.open_dataset(page, address, dataset.name, len(IMAGES))
                segment_everything(page, folder, dataset, samples=2)
            run_delegated(dataset)
        # a new server: the App takes a dataset's colours when it opens the dataset first
        with app.served_app() as address, app.browser_page(chromium) as page:
            app.open_dataset(page, address, dataset.name, len(IMAGES))
            show_masks(page, folder)
        dataset.delete()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
