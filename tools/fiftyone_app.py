"""Drive the FiftyOne App as a user would: its server, a headless browser, the operator browser, a background worker."""

from __future__ import annotations

import os
import re
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
PATIENCE_S = 180
_LAST_WORDS = 4000
_NOTICE = "#notistack-snackbar"
_SAYS = "([kind, text]) => [...document.querySelectorAll(kind)].some(each => each.innerText.includes(text))"


def find_chromium() -> str | None:
    """Return the path of a Chromium: the system's, else Playwright's own; None if there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if (path := shutil.which(name)) is not None:
            return path
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if os.path.isfile(path) else None


@contextmanager
def served_app() -> Iterator[str]:
    """Serve the App on a free port and yield its address; an error is told with the server's last words."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "fiftyone.server.main", "--port", str(port), "--address", "127.0.0.1"]
    with (
        tempfile.TemporaryFile("a+") as words,
        subprocess.Popen(command, stdout=words, stderr=subprocess.STDOUT) as server,
    ):
        try:
            _wait_for_port(port, server)
            yield f"http://127.0.0.1:{port}"
        except BaseException as error:
            ended = "runs" if server.poll() is None else f"ended with {server.returncode}"
            words.seek(0)
            error.add_note(f"The App's server {ended}; it said last:\n{words.read()[-_LAST_WORDS:]}")
            raise
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()


def _wait_for_port(port: int, server: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise RuntimeError("the App's server did not start")


@contextmanager
def browser_page(chromium: str) -> Iterator[Page]:
    """Yield a page of a headless Chromium with a profile of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        playwright.selectors.set_test_id_attribute("data-cy")
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=chromium, args=FLAGS, viewport={"width": 1440, "height": 900}
        )
        context.set_default_timeout(PATIENCE_S * 1000)
        try:
            yield context.pages[0]
        finally:
            context.close()


@contextmanager
def _shown_on_failure(page: Page) -> Iterator[None]:
    """Add what the page says to the error of a wait that was in vain."""
    from playwright.sync_api import TimeoutError as WaitedInVain

    try:
        yield
    except WaitedInVain as error:
        error.add_note(f"The page says:\n{page.locator('body').inner_text()}")
        raise


def open_dataset(page: Page, address: str, name: str, samples: int) -> None:
    """Open a dataset and wait for its grid; the advertisement of the first visit is sent away."""
    page.goto(f"{address}/datasets/{name}")
    page.get_by_test_id("looker").nth(samples - 1).wait_for()
    page.wait_for_timeout(2000)
    advertisement = page.get_by_role("button", name="Dismiss")
    if advertisement.count():
        advertisement.click()


def select_samples(page: Page, count: int) -> None:
    """Tick the first samples, and wait until the App counts them as selected."""
    for number in range(count):
        looker = page.get_by_test_id("looker").nth(number)
        looker.hover()
        looker.locator("label").first.click()
        with _shown_on_failure(page):
            page.get_by_test_id("selection-count-container").filter(has_text=re.compile(f"^{number + 1}$")).wait_for()


def browse_operators(page: Page, query: str, label: str) -> None:
    """Open the operator browser, and wait until it lists an operator."""
    page.keyboard.press("Backquote")
    page.get_by_placeholder("Search operations by name...").fill(query)
    page.get_by_text(label, exact=True).first.wait_for()


def open_form(page: Page, label: str, says: str = "Label field") -> None:
    """Choose an operator that is listed, and wait for its form and something that it says."""
    with _shown_on_failure(page):
        page.get_by_text(label, exact=True).first.click()
        page.get_by_text("Label field", exact=True).first.wait_for()
        page.get_by_text(says, exact=True).first.wait_for()
    page.wait_for_timeout(2000)


def fill_in(page: Page, label: str, text: str) -> None:
    """Write into the field of the open form that has a label, and wait until the form has taken it."""
    page.locator(f'//*[text()="{label}"]/following::input[1]').fill(text)
    page.get_by_text("Required property").first.wait_for(state="hidden")
    page.wait_for_timeout(1000)


def execute(page: Page, notice: str) -> None:
    """Run the operator whose form is open, and wait until the App shows a notice, the last that operators send."""
    notices = page.locator(_NOTICE)
    with _shown_on_failure(page):
        notices.first.wait_for(state="hidden")  # of what was run before
        page.get_by_role("button", name="Execute").first.click()
        page.wait_for_function(_SAYS, arg=[_NOTICE, notice])  # by the page itself: notices are shown for seconds
        page.get_by_role("button", name="Done").first.wait_for()


def schedule(page: Page) -> None:
    """Schedule the operator whose form is open, and wait until the App has done so."""
    execute_now = page.get_by_role("button", name="Execute", exact=True).first
    execute_now.locator("xpath=following-sibling::button").click()
    page.get_by_text("Schedule", exact=True).first.click()
    button = page.get_by_role("button", name="Schedule", exact=True).first
    button.click()
    button.wait_for(state="hidden")
    page.wait_for_timeout(2000)


def close_form(page: Page) -> None:
    """Close what an operator that has ended shows."""
    done = page.get_by_role("button", name="Done").first
    done.click()
    done.wait_for(state="hidden")
    page.wait_for_timeout(1000)


def open_sample(page: Page) -> None:
    """Open the first sample of the grid."""
    page.get_by_test_id("looker").first.click(position={"x": 60, "y": 100})
    page.get_by_test_id("modal").wait_for()


def run_worker(dataset: Any) -> Any:
    """Let ``fiftyone delegated launch`` do what is queued for a dataset; returns the operation at its end."""
    import fiftyone.operators.delegated as food

    service = food.DelegatedOperationService()
    worker = [str(Path(sys.executable).with_name("fiftyone")), "delegated", "launch"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(worker, stdout=quiet, stderr=quiet) as process:
        operation = None
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            operation = next(iter(service.list_operations(dataset_name=dataset.name)), None)
            if operation is not None and operation.run_state in ("completed", "failed"):
                break
            time.sleep(0.5)
        process.kill()  # it does not mind a request to stop
    return operation
