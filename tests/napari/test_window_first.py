"""While a worker computes, Python's lock and collector favour the window; afterwards all is as it was."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

import pytest
from napari.layers import Image

from napari_fastsam._window_first import pass_over_old_objects, window_first

from .conftest import THREE, BlobModel, Make, discs, run

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def nothing_frozen() -> Iterator[None]:
    """Begin and end as other tests do."""
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_the_last_one_gives_the_old_objects_back() -> None:
    with window_first():
        first = gc.get_freeze_count()
        assert first > 1000
        with window_first():
            pass
        assert gc.get_freeze_count() >= first
        new = [[] for _ in range(1000)]  # type: list[list[int]]
        pass_over_old_objects()
        assert gc.get_freeze_count() > first
        del new
    assert gc.get_freeze_count() == 0
    pass_over_old_objects()
    assert gc.get_freeze_count() == 0, "not outside"


def test_what_the_application_froze_stays_frozen() -> None:
    gc.freeze()
    with window_first():
        pass_over_old_objects()
    assert gc.get_freeze_count() > 0


def test_the_lock_changes_hands_sooner_meanwhile() -> None:
    usual = sys.getswitchinterval()
    with window_first():
        with window_first():
            assert sys.getswitchinterval() < usual
        assert sys.getswitchinterval() < usual
    assert sys.getswitchinterval() == pytest.approx(usual)


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_passes_over_old_objects_until_it_ends(
    viewer: Any, make_widget: Make, qtbot: Any, blob_model: BlobModel, fails: bool
) -> None:
    viewer.add_layer(Image(discs(80, 90, *THREE), name="Image"))
    widget = make_widget(viewer)
    counts: list[int] = []

    def gate() -> None:
        counts.append(gc.get_freeze_count())
        if fails:
            raise RuntimeError("lost")

    blob_model.gate = gate
    run(qtbot, widget)
    assert counts[0] > 1000
    qtbot.waitUntil(lambda: gc.get_freeze_count() == 0)
