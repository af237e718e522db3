"""What keeps Python from stopping the window's thread while another thread works."""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["pass_over_old_objects", "window_first"]

_SWITCH_S = 0.0005
"""How long a thread keeps Python's lock when another one wants it; Python's own default is ten times that."""

_lock = Lock()
_users = 0
_freezes = False
_usual_switch_s = 0.0


@contextmanager
def window_first() -> Iterator[None]:
    """Let the window's thread wait less for Python's lock and collector, until the last who asked for it is done.

    The lock changes hands sooner: the window's thread takes it up many times while it paints. And the collector looks
    only at objects that are made from now on, because it stops all threads, and a full collection takes 0.1 to 0.2 s
    once napari and torch are loaded. Nothing is lost: garbage among the old objects is found later. Where the
    application froze objects itself, that is left to it.
    """
    global _users, _freezes, _usual_switch_s
    with _lock:
        if _users == 0:
            _freezes = gc.get_freeze_count() == 0
            _usual_switch_s = sys.getswitchinterval()
            sys.setswitchinterval(min(_SWITCH_S, _usual_switch_s))
        _users += 1
    pass_over_old_objects()
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                sys.setswitchinterval(_usual_switch_s)
                if _freezes:
                    gc.unfreeze()


def pass_over_old_objects() -> None:
    """Count all objects there are now among the old ones; only inside :func:`window_first`."""
    with _lock:
        if _users and _freezes:
            gc.freeze()
