"""Pictures of the plugin in the FiftyOne App, made by using it as a user would, in a headless browser.

Usage: python tools/local_services.py python docs/images/fiftyone/make_pictures.py [FOLDER]
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 180_000
IMAGES = ("coins.png", "coffee.png", "chelsea.png", "rocket.jpg", "astronaut.png", "retina.jpg")
FIELD = "fastsam"


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


@contextmanager
def served_app(dataset_name: str) -> Iterator[str]:
    """Serve the App and yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "fiftyone.server.main", "--port", str(port), "--address", "127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            wait_for_port(port, server)
            yield f"http://127.0.0.1:{port}/datasets/{dataset_name}"
        finally:
            server.terminate()


def wait_for_port(port: int, server: subprocess.Popen[Any]) -> None:
    """Wait until the server takes connections."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while time.monotonic() < deadline and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise RuntimeError("the App's server did not start")


@contextmanager
def browser_page() -> Iterator[Page]:
    """Yield a page of a headless Chromium with a profile of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        playwright.selectors.set_test_id_attribute("data-cy")
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, args=FLAGS, viewport={"width": 1440, "height": 900}
        )
        context.set_default_timeout(PATIENCE_MS)
        try:
            yield context.pages[0]
        finally:
            context.close()


def open_dataset(page: Page, address: str) -> None:
    """Open a dataset and wait for its grid; the advertisement of the first visit is sent away."""
    page.goto(address)
    page.get_by_test_id("looker").nth(len(IMAGES) - 1).wait_for()
    page.wait_for_timeout(2000)
    advertisement = page.get_by_role("button", name="Dismiss")
    if advertisement.count():
        advertisement.click()


def select_samples(page: Page, count: int) -> None:
    """Tick the first samples."""
    for number in range(count):
        looker = page.get_by_test_id("looker").nth(number)
        looker.hover()
        looker.locator("label").first.click()


def choose_operator(page: Page, label: str) -> None:
    """Open the operator browser and choose an operator."""
    page.keyboard.press("Backquote")
    page.get_by_placeholder("Search operations by name...").fill("FastSAM")
    page.get_by_text(label, exact=True).first.wait_for()


def segment_everything(page: Page, out: Path, dataset: Any, samples: int) -> None:
    """Run "segment everything" on selected samples through its form, and wait until the masks are in the database."""
    select_samples(page, samples)
    choose_operator(page, "FastSAM: segment everything")
    page.screenshot(path=out / "operators.png")
    page.get_by_text("FastSAM: segment everything", exact=True).first.click()
    page.get_by_text("Label field", exact=True).first.wait_for()
    page.wait_for_timeout(2000)
    page.screenshot(path=out / "form.png")
    page.get_by_role("button", name="Execute").first.click()
    page.get_by_text(f"on {samples} samples").first.wait_for()
    page.wait_for_timeout(4000)
    page.screenshot(path=out / "done.png")
    dataset.reload()
    if len(dataset.exists(FIELD)) != samples:
        raise RuntimeError("the masks are not in the database")


def run_delegated(dataset: Any) -> None:
    """Queue the operator for all samples, let a worker do it, and read its outcome back."""
    import fiftyone.operators as foo
    import fiftyone.operators.delegated as food

    params = {"label_field": FIELD, "view_target": "DATASET"}
    uri = "@fastsam/fastsam/segment_everything"
    foo.execute_operator(uri, {"dataset": dataset, "params": params}, request_delegation=True)
    service = food.DelegatedOperationService()
    worker = [str(Path(sys.executable).with_name("fiftyone")), "delegated", "launch"]
    with subprocess.Popen(worker, stdout=subprocess.DEVNULL) as process:
        operation = None
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while time.monotonic() < deadline:
            operation = next(iter(service.list_operations(dataset_name=dataset.name)), None)
            if operation is not None and operation.run_state in ("completed", "failed"):
                break
            time.sleep(1)
        process.kill()  # it does not mind a request to stop
    if operation is None or operation.run_state != "completed":
        raise RuntimeError(f"the delegated run did not complete: {operation and operation.result}")
    print("delegated:", operation.run_state, operation.status and operation.status.progress, operation.result.result)


def show_masks(page: Page, address: str, out: Path) -> None:
    """Look at the grid and at one sample with its masks."""
    open_dataset(page, address)
    page.wait_for_timeout(4000)
    page.screenshot(path=out / "grid.png")
    page.get_by_test_id("looker").first.click(position={"x": 60, "y": 100})
    page.get_by_test_id("modal").wait_for()
    page.wait_for_timeout(4000)
    page.screenshot(path=out / "sample.png")


def main(folder: Path) -> None:
    """Make all pictures."""
    with tempfile.TemporaryDirectory(prefix="pictures-") as images, tempfile.TemporaryDirectory() as plugins:
        os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "true")
        os.environ["FIFTYONE_PLUGINS_DIR"] = plugins
        from fiftyone_fastsam.install import install

        install(plugins)
        dataset = make_dataset("fastsam-pictures", Path(images))
        with served_app(dataset.name) as address:
            with browser_page() as page:
                open_dataset(page, address)
                segment_everything(page, folder, dataset, samples=2)
            run_delegated(dataset)
            with browser_page() as page:
                show_masks(page, address, folder)
        dataset.delete()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
