"""Start napari as a user does, open the widget from both menus, segment a sample: run by tools/check_wheel.py.

Usage: python tools/napari_menu_probe.py PICTURE.png   with the interpreter of the environment to be checked
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

TITLE = "FastSAM"
SECONDS = 900


def action_of(window: Any, *titles: str) -> Any:
    """Return the action under these titles of the menu bar; sub-menus are filled when they are about to show."""
    menu = window.menuBar()
    for depth, title in enumerate(titles):
        actions = {action.text().replace("&", ""): action for action in menu.actions()}
        found = next((action for text, action in actions.items() if text.startswith(title)), None)
        if found is None:
            raise SystemExit(f"menu: no '{title}' in {' > '.join(titles[:depth]) or 'the menu bar'}: {list(actions)}")
        if depth == len(titles) - 1:
            return found
        menu = found.menu()
        menu.aboutToShow.emit()
    raise SystemExit("menu: no titles")


def wait(application: Any, ready: Callable[[], object], what: str) -> None:
    """Let Qt work until something has come about."""
    stop = time.monotonic() + SECONDS
    while not ready():
        if time.monotonic() > stop:
            raise SystemExit(f"waited {SECONDS} s for {what}")
        application.processEvents()
        time.sleep(0.01)


def main(picture: str) -> None:
    """Open, segment, look."""
    import napari
    import qtpy
    from qtpy.QtWidgets import QApplication, QMainWindow, QPushButton

    viewer = napari.Viewer(show=True)
    application: Any = QApplication.instance()
    [window] = [widget for widget in application.topLevelWidgets() if isinstance(widget, QMainWindow)]
    action_of(window, "Layers", "Segment", TITLE)  # is there
    action_of(window, "Plugins", TITLE).trigger()
    wait(application, lambda: window.findChildren(QPushButton, "segment_everything"), "the widget")
    viewer.open_sample("fastsam-plugins", "coins")
    [widget] = [dock for name, dock in viewer.window.dock_widgets.items() if name.startswith(TITLE)]
    widget = getattr(widget, "inner_widget", lambda: widget)()
    window.findChildren(QPushButton, "segment_everything")[0].click()
    wait(application, lambda: widget.session.candidates is not None and not widget.segmentation.running, "candidates")
    count = len(widget.session.candidates)
    widget.label_panel.commit_shown()
    viewer.screenshot(picture, canvas_only=False, flash=False)
    labels = int(viewer.layers["coins labels"].data.max())
    print(
        f"napari {napari.__version__}, {qtpy.API_NAME} {qtpy.QT_VERSION}: opened from the Plugins menu, "
        f"listed under Layers > Segment, {count} coins, {labels} labels"
    )
    viewer.close()
    if count < 15:
        raise SystemExit("fewer than 15 of the 24 coins were found")


if __name__ == "__main__":
    main(sys.argv[1])
