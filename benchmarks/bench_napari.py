"""Speed of the napari plugin under Xvfb (software OpenGL), beside the way other plugins do the same work.

Needs a display: ``xvfb-run -s "-screen 0 1600x1200x24" python -m benchmarks --only napari``. Without one, or without
napari, there are no rows.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import Benchmark, Row, Scale, median_ms
from benchmarks.napari_window import Heartbeat, Scene, Window, blobs, can_show

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BENCHMARKS"]

_OBJECT_PX = 160


def look_ups(scale: Scale) -> Iterator[Row]:
    """Prompts, hover and filters: what happens without the network."""
    if not can_show():
        return
    from napari_fastsam.controllers.session import Session
    from napari_fastsam.models.candidates import Candidates
    from napari_fastsam.models.filters import Filters
    from napari_fastsam.models.picks import PickOptions, PromptSet, resolve

    masks = blobs(scale.many, scale.image_hw)
    shown = np.ones(len(masks), bool)
    rng = np.random.default_rng(1)
    for count in (1, 10, 100):
        points = rng.uniform((0, 0), scale.image_hw, (count, 2))
        prompts = PromptSet(points, np.ones(count, bool), np.arange(count))
        ours = median_ms(partial(resolve, masks, shown, prompts, PickOptions()), scale.repeats)
        yield Row(f"napari: {count} points to selection, {scale.many} masks, no repaint", ours, None, "ms", "<= 10 ms")
    scene = Scene(scale.many, scale.image_hw)
    hover, session = scene.widget.hover, scene.widget.session
    hover.set_enabled(True)
    places = iter(rng.uniform((0, 0), scale.image_hw, (10_000, 2)))

    def look() -> None:
        point_yx = hover.locate(next(places))
        if point_yx is not None:
            hover.look(point_yx)

    ours = median_ms(look, 30)
    yield Row(f"napari: hover look-up, {scale.many} masks", ours, None, "ms", "<= 1 ms")
    many = Candidates.measure(blobs(1000, scale.image_hw))
    assert isinstance(session, Session)
    session.put(session.image.unique_id, session.plane, many)  # type: ignore[union-attr,arg-type]
    limits = iter(np.tile(np.linspace(0.3, 0.6, 50), 100))

    def filter_once() -> None:
        session.set_filters(session.filters.with_limits("confidence", float(next(limits)), np.inf))

    filters = Filters({"confidence": (0.4, 0.9), "area_px": (100, 1e5), "solidity": (0.5, 1)})
    yield Row("napari: filter 1000 masks", median_ms(partial(filters.keep, many.columns), 30), None, "ms", "<= 30 ms")
    yield Row("napari: filter 1000 masks, table and outlines drawn", median_ms(filter_once, scale.repeats), None, "ms")
    scene.close()


def commits(scale: Scale) -> Iterator[Row]:
    """Write an object into a large Labels layer, with repaint."""
    if not can_show():
        return
    side = 8192 if scale.isolated else 256
    size = min(_OBJECT_PX, side // 4)
    scene = Scene(0, (side, side))
    from fastsam_core.masks import Masks
    from napari_fastsam.models.candidates import Candidates

    session = scene.widget.session
    repeats = 3 * scale.repeats  # painting in software takes longer at times
    count = repeats + 4
    origins = [(50 + (size + 20) * (k % 20), 60 + (size + 20) * (k // 20)) for k in range(count)]
    masks = Masks.from_crops([np.ones((size, size), bool)] * count, origins, (side, side))
    session.put(session.image.unique_id, session.plane, Candidates.measure(masks))  # type: ignore[union-attr,arg-type]
    scene.widget.labels.commit([0])
    scene.repaint()
    following = iter(range(1, count))

    def commit() -> None:
        scene.widget.labels.commit([next(following)])
        scene.repaint()

    ours = median_ms(commit, repeats)
    layer: Any = scene.widget.labels.target

    def refresh() -> None:
        layer.data[50 : 50 + size, 3000 % side : 3000 % side + size] = int(time.monotonic()) % 100 + 1
        layer.refresh()
        scene.repaint()

    peer = median_ms(refresh, min(scale.repeats, 3))
    name = f"napari: commit a {size}² object into {side}² Labels, repaint (peer: array write and refresh)"
    yield Row(name, ours, peer, "ms", "<= 60 ms")
    scene.close()
    window = Window((side, side))
    alone = window.viewer.add_labels(np.zeros((side, side), np.uint16))
    rows, columns = np.indices((size, size)).reshape(2, -1)
    labels = iter(range(1, 1000))

    def write() -> None:
        alone.data_setitem((rows + 50, columns + 60), next(labels))
        window.repaint()

    yield Row(f"napari alone: {size}² pixels set in {side}² Labels, repaint", median_ms(write, repeats), None, "ms")
    yield Row(f"napari alone: {side}² Labels, repaint", median_ms(window.repaint, repeats), None, "ms")
    window.close()


def responsiveness(scale: Scale) -> Iterator[Row]:
    """How long the window does not answer while the built-in model works, and how soon Cancel gives it back."""
    if not can_show():
        return
    from napari_fastsam._samples import make_mosaic
    from napari_fastsam.models.candidates import Candidates

    large, medium, rows = (8192, 2048, 1000) if scale.isolated else (1100, 256, 20)
    heartbeat = Heartbeat()

    def segment(scene: Scene, **options: Any) -> float:
        work = scene.widget.segmentation
        return heartbeat.longest_ms(partial(work.start, **options), lambda: not work.running)

    scene = Scene(0, (medium, medium), np.asarray(make_mosaic(medium, medium)))
    libraries_loaded = "torch" in sys.modules
    first = segment(scene)  # loads the model and compiled kernels
    if not libraries_loaded:
        yield Row(
            "napari: window blocked, first segmentation of a session, libraries loaded", first, None, "ms", "<= 100 ms"
        )
    name = f"napari: window blocked, {medium}² image segmented"
    yield Row(name, segment(scene), None, "ms", "<= 100 ms")
    scene.close()

    window = Window((large, large), make_mosaic(large, large))
    window.repaint()
    yield Row(f"napari alone: {large}² image, repaint", median_ms(window.repaint, scale.repeats), None, "ms")
    # the first of a session also loads what napari compiles
    for side, dtype in ((large, np.int32), (large, np.uint16), (medium, np.uint8)):
        add = partial(window.viewer.add_labels, np.zeros((side, side), dtype))
        blocked = heartbeat.longest_ms(add, lambda: True)
        name = f"napari alone: window blocked, empty {side}² Labels of {np.dtype(dtype)} added"
        yield Row(name, blocked, None, "ms")
    blocked = heartbeat.longest_ms(partial(window.viewer.add_image, np.zeros((medium, medium), np.uint8)), lambda: True)
    yield Row(f"napari alone: window blocked, empty {medium}² image of uint8 added", blocked, None, "ms")
    window.close()

    scene = Scene(0, (large, large), make_mosaic(large, large))
    blocked = segment(scene, region="tiles")
    name = f"napari: window blocked, {large}² mosaic segmented in tiles"
    yield Row(name, blocked, None, "ms", "<= 100 ms")
    labels, widget = scene.widget.labels, scene.widget
    blocked = heartbeat.longest_ms(lambda: labels.commit([0]), lambda: True)
    yield Row(f"napari: window blocked, first commit into new {large}² Labels", blocked, None, "ms", "<= 100 ms")
    blocked = heartbeat.longest_ms(lambda: labels.commit([1]), lambda: True)
    yield Row(f"napari: window blocked, commit into {large}² Labels", blocked, None, "ms", "<= 100 ms")
    clicks, waits = [], []
    for tiles in (0, 1, 3):
        widget.segmentation.start(region="tiles")
        heartbeat.longest_ms(lambda: None, partial(_reached, widget, tiles), seconds=60)
        started = time.perf_counter()
        widget.segment_panel.run_button.click()
        clicks.append((time.perf_counter() - started) * 1e3)
        scene.repaint()
        waits.append((time.perf_counter() - started) * 1e3)
        waits.append(heartbeat.longest_ms(lambda: None, lambda: False, seconds=1))
    yield Row(f"napari: Cancel to idle widget, {large}² mosaic in tiles", max(waits), None, "ms", "<= 500 ms")
    yield Row(f"napari: Cancel to idle widget, {large}² mosaic in tiles, without repaint", max(clicks), None, "ms")
    scene.close()

    scene = Scene(0, scale.image_hw)
    session, widget = scene.widget.session, scene.widget
    many = Candidates.measure(blobs(rows, scale.image_hw))
    fill = partial(session.put, session.image.unique_id, session.plane, many)  # type: ignore[union-attr,arg-type]
    blocked = heartbeat.longest_ms(fill, lambda: True)
    yield Row(f"napari: window blocked, table of {rows} rows filled and drawn", blocked, None, "ms", "<= 100 ms")
    limit = partial(widget.filter_panel.sliders["confidence"].set_limits, 0.5, np.inf)
    blocked = heartbeat.longest_ms(limit, lambda: True)
    yield Row(f"napari: window blocked, {rows} masks filtered", blocked, None, "ms", "<= 100 ms")
    blocked = heartbeat.longest_ms(widget.table.selectAll, lambda: True)
    yield Row("napari: window blocked, all rows of the table selected", blocked, None, "ms", "<= 100 ms")
    scene.close()


def _reached(widget: Any, tiles: int) -> bool:
    return bool(widget.segment_panel.progress.value() >= tiles)


def words(scale: Scale) -> Iterator[Row]:
    """Answer a text after the candidates were looked at."""
    from napari_fastsam.models.words import can_read_words

    if not (can_show() and can_read_words()):
        return
    scene = Scene(scale.some, scale.image_hw)
    controller = scene.widget.words
    Heartbeat().longest_ms(partial(controller.ask, "red circle"), lambda: not controller.running)
    texts = iter(["star", "blue square, star", "red circle", "circle, triangle"] * 10)
    answer = median_ms(lambda: controller.ask(next(texts)), scale.repeats)
    yield Row(f"napari: further text to selection, {scale.some} masks, no repaint", answer, None, "ms")
    scene.close()


BENCHMARKS = (
    Benchmark("napari look-ups", look_ups),
    Benchmark("napari commits", commits),
    Benchmark("napari responsiveness", responsiveness),
    Benchmark("napari words", words),
)
