"""How long the window does not answer while everything that was found on a large plane becomes labels."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import Benchmark, Row, Scale
from benchmarks.napari_window import Heartbeat, Scene, Window, can_show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastsam_core.masks import Masks

__all__ = ["BENCHMARKS"]

_CELL_PX = 59
"""One object in each square of this size: 19 000 on 8192², as many as the mosaic has."""
_REACH_PX = 17


def nuclei(side_px: int) -> Masks:
    """Make ellipses beside each other, of the size of the mosaic's nuclei."""
    from fastsam_core.masks import Masks

    rng = np.random.default_rng(0)
    y, x = np.mgrid[-_REACH_PX : _REACH_PX + 1, -_REACH_PX : _REACH_PX + 1]
    shapes = []
    for _ in range(200):
        (a, b), turn = rng.uniform(9, 16, 2), rng.uniform(0, np.pi)
        along, across = y * np.cos(turn) + x * np.sin(turn), x * np.cos(turn) - y * np.sin(turn)
        shapes.append((along / a) ** 2 + (across / b) ** 2 <= 1)
    places = [(row, column) for row in range(side_px // _CELL_PX) for column in range(side_px // _CELL_PX)]
    shift = rng.integers(0, _CELL_PX - 2 * _REACH_PX - 1, (len(places), 2))
    origins = [(r * _CELL_PX + dy, c * _CELL_PX + dx) for (r, c), (dy, dx) in zip(places, shift.tolist(), strict=True)]
    crops = [shapes[k] for k in rng.integers(0, len(shapes), len(places))]
    return Masks.from_crops(crops, origins, (side_px, side_px), rng.uniform(0.3, 1, len(places)))


def large_commits(scale: Scale) -> Iterator[Row]:
    """Commit all candidates of a plane at once, take that back and do it again; beside napari's own writing."""
    if not can_show():
        return
    from napari_fastsam.models.candidates import Candidates

    side = 8192 if scale.isolated else 1200
    masks = nuclei(side)
    heartbeat = Heartbeat()
    scene = Scene(0, (side, side))
    session, labels = scene.widget.session, scene.widget.labels
    session.put(session.image.unique_id, session.plane, Candidates.measure(masks))  # type: ignore[union-attr,arg-type]
    labels.commit([0])  # adds the layer
    labels.commit([1])
    scene.repaint()
    heartbeat.longest_ms(lambda: None, lambda: False, seconds=1)
    blocked = heartbeat.longest_ms(scene.widget.label_panel.commit_shown, lambda: not labels.planning.running)
    peer = _written_by_napari(masks, heartbeat)
    name = f"napari: window blocked, {len(masks)} candidates committed into {side}² Labels"
    yield Row(f"{name} (peer: napari sets the same pixels)", blocked, peer, "ms")
    heartbeat.longest_ms(lambda: None, lambda: False, seconds=1)
    blocked = heartbeat.longest_ms(labels.undo, lambda: True)
    yield Row(f"napari: window blocked, commit of {len(masks)} candidates undone", blocked, None, "ms")
    scene.widget.label_panel.commit_shown()
    blocked = heartbeat.longest_ms(labels.planning.cancel, lambda: True)
    yield Row(f"napari: Cancel of a commit of {len(masks)} candidates", blocked, None, "ms", "<= 500 ms")
    heartbeat.longest_ms(lambda: None, lambda: False, seconds=2)  # the worker ends
    scene.close()


def _written_by_napari(masks: Masks, heartbeat: Heartbeat) -> float:
    """Return how long napari alone blocks the window when the pixels of all masks are set in one call."""
    window = Window(masks.image_hw)
    layer: Any = window.viewer.add_labels(np.zeros(masks.image_hw, np.uint16))
    rows, columns = [], []
    for y, start, stop in masks.runs.tolist():
        rows.append(np.full(stop - start, y))
        columns.append(np.arange(start, stop))
    pixels = np.concatenate(rows), np.concatenate(columns)
    values = np.repeat(np.arange(1, len(masks) + 1), masks.areas_px).astype(np.uint16)
    window.repaint()
    blocked = heartbeat.longest_ms(partial(layer.data_setitem, pixels, values), lambda: True)
    window.close()
    return blocked


BENCHMARKS = (Benchmark("napari large commits", large_commits),)
