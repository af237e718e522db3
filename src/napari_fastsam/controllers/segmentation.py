"""Run the network in a worker thread: one plane or a stack, the whole plane or a part; cancel at once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from psygnal import Signal

from fastsam_core.errors import ImageContentError
from napari_fastsam._convert import Plane, layer_map, layer_shape, layer_to_layer, pixels_of_data
from napari_fastsam._napari import point_of, seen_by
from napari_fastsam._notify import describe, notices, warn
from napari_fastsam._settings import read_settings
from napari_fastsam.controllers.canvas import warm_up
from napari_fastsam.models.candidates import Linked
from napari_fastsam.models.inference import Done, Failed, Models, Task, count_steps, steps_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from fastsam_core._parts import Region
    from napari_fastsam.controllers.session import How, Session

__all__ = ["LOADED", "RegionChoice", "SegmentationController"]

RegionChoice = Literal["plane", "tiles", "view", "rectangle"]

LOADED: Models = {}
"""Models for all widgets of the process: loading one holds up the window for a tenth of a second."""

_MARGIN_SHARE = 0.1
_SHOW_EVERY_S = 0.25
"""Tiles that are ready sooner after each other are shown together."""
_LOOK_SIDE_PX = 320


class SegmentationController:
    """Starts and stops workers, and hands their results to the session.

    Parameters
    ----------
    session : Session
    """

    running_changed = Signal(bool)
    progress = Signal(str, int, int)
    """What is done, how many planes (or tiles) are ready, of how many."""
    finished = Signal(int)
    """Number of candidates found in all, without faint ones."""
    started = Signal(object)
    """The Task."""
    begun = Signal()
    """The window shows that work has begun; the worker waits until it is ready for results."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.rectangle_layer: Any = None
        self.model = ""
        """The model that is chosen; "" for that of the preferences."""
        self._run = 0
        self._worker: Any = None
        self._task: Task | None = None
        self._found: dict[Plane, int] = {}
        self._waiting: tuple[Task, Done] | None = None
        self._shown_s = 0.0

    @property
    def running(self) -> bool:
        """Whether a worker's results are awaited."""
        return self._worker is not None

    def start(self, *, region: RegionChoice = "plane", stack_axis: int | None = None) -> None:
        """Segment what is shown; problems become notices."""
        with notices():
            part = self._region(region)
            self._start(part, stack_axis, add=part is not None, tiled=region == "tiles")

    def look_at(self, point_yx: NDArray[np.float64]) -> None:
        """Segment a small part around a point again, enlarged, and add what is new there."""
        with notices():
            self.session.require_plane()
            hw = self._plane_hw()
            side = int(min(_LOOK_SIDE_PX, max(hw) / 2 + 1))
            y0, x0 = (
                int(np.clip(at - side / 2, 0, max(size - side, 0))) for at, size in zip(point_yx, hw, strict=True)
            )
            self._start((y0, min(y0 + side, hw[0]), x0, min(x0 + side, hw[1])), None, add=True)

    def cancel(self) -> None:
        """Stop waiting at once; what was found so far stays, what comes later is dropped.

        The worker ends behind the scenes when the forward pass it is in is over.
        """
        if self._worker is not None:
            self._show_waiting()
            self.abandon()
            self.progress.emit("Cancelled", 0, 0)
            self.running_changed.emit(False)

    def abandon(self) -> None:
        """Drop what is awaited and tell nobody: the window is gone."""
        if self._task is not None:
            for event in (self._task.stop, self._task.window_ready, self._task.taken):
                event.set()
        self._worker = self._task = self._waiting = None
        self._run += 1

    def _start(self, region: Region | None, stack_axis: int | None, *, add: bool, tiled: bool = False) -> None:
        from napari.qt.threading import create_worker

        from napari_fastsam.controllers._worker import ClosingWorker

        plane = self.session.require_plane()
        session = self.session
        source = session.source()
        session.settings = read_settings()
        self.cancel()
        planes = (
            (plane,)
            if stack_axis is None
            else tuple(plane.at(stack_axis, place) for place in range(source.shape[stack_axis]))
        )
        task = Task(
            image_id=session.image.unique_id if session.image is not None else None,
            source=source,
            planes=planes,
            region=region,
            model=self.model or session.settings.model,
            device=session.settings.device,
            conf=session.settings.confidence or None,
            max_det=session.settings.max_candidates,
            stack_axis=stack_axis,
            tiled=tiled,
        )
        self._run += 1
        self._found = {}
        run = self._run
        total = count_steps(task)
        worker = create_worker(
            steps_of,
            task,
            LOADED,
            warm_up,
            _progress={"total": total, "desc": f"FastSAM: {source.name}"},
            _start_thread=False,
            _worker_class=ClosingWorker,
            _ignore_errors=True,
        )
        self._worker, self._task = worker, task
        ready = [0]

        def on_step(step: Done | Failed) -> None:
            if run != self._run:
                return
            if isinstance(step, Failed):
                self._show_waiting()
                warn(describe(step.error))
                return
            ready[0] += 1
            self._take(task, step, add=add)
            _when_painted(task.taken.set)
            self.progress.emit(f"{sum(self._found.values())} candidates", ready[0], total)

        def on_begun() -> None:
            if run == self._run and self._worker is not None:
                self.begun.emit()
            _when_painted(task.window_ready.set)

        worker.started.connect(lambda: _when_painted(on_begun))
        worker.yielded.connect(on_step)
        worker.finished.connect(lambda: self._on_finished(run))
        self.progress.emit("Loading the model …" if not LOADED else "Segmenting …", 0, total)
        self.running_changed.emit(True)
        self.started.emit(task)
        worker.start()

    def _take(self, task: Task, done: Done, *, add: bool) -> None:
        if done.candidates is None:
            warn(describe(done.error) if done.error is not None else "a plane could not be read")
            return
        layers = self.session.viewer.layers
        if any(one.unique_id == task.image_id and layer_shape(one) != task.source.shape for one in layers):
            self.abandon()
            self.running_changed.emit(False)
            warn(
                f"'{task.source.name}' got data of another size while it was segmented. Remedy: segment it again, "
                "as it is now."
            )
            return
        how: How = "add" if add else "replace"
        if task.tiled and done.plane in self._found:
            how = "grow" if done.partial else "replace"
        self._found[done.plane] = int(done.candidates.sure.sum())
        self._waiting = (task, done) if how == "grow" else None
        if how != "grow":
            axis, linked = task.stack_axis, None
            if done.links is not None and axis is not None:
                linked = Linked(done.links, axis, self._run)
            self.session.put(task.image_id, done.plane, done.candidates, how=how, links=linked)
            self._shown_s = time.monotonic()
        elif time.monotonic() - self._shown_s >= _SHOW_EVERY_S:
            self._show_waiting()

    def _show_waiting(self) -> None:
        """Show the tiles that are ready and were not shown yet: the last of them has all of them."""
        if self._waiting is not None:
            (task, done), self._waiting = self._waiting, None
            if done.candidates is not None:
                self.session.put(task.image_id, done.plane, done.candidates, how="grow")
            self._shown_s = time.monotonic()

    def _on_finished(self, run: int) -> None:
        if run == self._run and self._worker is not None:
            self._show_waiting()
            self._worker = self._task = None
            self.running_changed.emit(False)
            self.finished.emit(sum(self._found.values()))

    # ---- where --------------------------------------------------------------------------------------------------

    def _plane_hw(self) -> tuple[int, int]:
        return self.session.source().plane_hw(self.session.require_plane())

    def _region(self, choice: RegionChoice) -> Region | None:
        if choice in ("plane", "tiles"):
            return None
        plane, hw = self.session.require_plane(), self._plane_hw()
        corners = self._view_corners(plane) if choice == "view" else self._rectangle_corners(plane)
        return _with_margin(corners, hw)

    def _view_corners(self, plane: Plane) -> NDArray[np.float64]:
        """Return the part of the plane that the canvas shows; not what napari has loaded of it, which is more."""
        layer: Any = self.session.image
        points_yx, _ = pixels_of_data(layer_map(layer).inverse()(seen_by(self.session.viewer, layer)), plane)
        corners: NDArray[np.float64] = np.stack([points_yx.min(axis=0), points_yx.max(axis=0)])
        return np.clip(corners, 0, self._plane_hw())

    def _rectangle_corners(self, plane: Plane) -> NDArray[np.float64]:
        shapes = self.rectangle_layer
        chosen: Sequence[int] = sorted(shapes.selected_data) if shapes is not None else ()
        if shapes is not None and not chosen and len(shapes.data) == 1:
            chosen = (0,)
        if not chosen or self.session.image is None:
            raise ImageContentError(
                "No rectangle is selected",
                remedy="choose a Shapes layer under 'Pick', draw a rectangle in it and select it",
            )
        vertices = np.concatenate([shapes.data[k] for k in chosen])
        point = point_of(self.session.viewer, self.session.image)
        data = layer_to_layer(shapes, self.session.image, vertices, point)
        points_yx, _ = pixels_of_data(data, plane)
        return np.stack([points_yx.min(axis=0), points_yx.max(axis=0)])


def _when_painted(call: Callable[[], object]) -> None:
    """Call something when the window has been painted next."""
    from qtpy.QtCore import QTimer

    # a timer comes before the window is painted, one that it starts comes afterwards
    QTimer.singleShot(0, lambda: QTimer.singleShot(0, call))


def _with_margin(corners_yx: NDArray[np.float64], plane_hw: tuple[int, int]) -> Region | None:
    """Return the part of the plane around a box, a tenth larger; None for all of it."""
    low, high = corners_yx
    outside = bool((high <= 0).any() or (low >= plane_hw).any())
    margin = _MARGIN_SHARE * (high - low) / 2
    y0, x0 = np.clip(np.floor(low - margin), 0, plane_hw).astype(int)
    y1, x1 = np.clip(np.ceil(high + margin), 0, plane_hw).astype(int)
    if outside:
        raise ImageContentError(
            "The chosen region lies outside the image", remedy="move the view or the rectangle onto the image"
        )
    if y1 - y0 < min(2, plane_hw[0]) or x1 - x0 < min(2, plane_hw[1]):
        raise ImageContentError(
            "The chosen region is too small",
            expected="at least 2 × 2 px of the image",
            actual=f"{y1 - y0} × {x1 - x0} px",
            remedy="draw a rectangle around what is to be segmented, or zoom out",
        )
    return None if (y0, x0, y1, x1) == (0, 0, *plane_hw) else (int(y0), int(y1), int(x0), int(x1))
