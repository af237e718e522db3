"""Run the network in a worker thread: one plane or a stack, the whole plane or a part; cancel at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from psygnal import Signal

from fastsam_core.errors import FastSAMError, ImageContentError
from napari_fastsam._convert import Plane, layer_to_layer, pixels_of_data
from napari_fastsam._notify import describe, notices, warn
from napari_fastsam._settings import read_settings
from napari_fastsam.models.candidates import Candidates

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from numpy.typing import NDArray

    from fastsam_core.images import Image
    from fastsam_core.masks import Masks
    from fastsam_core.model import FastSAM
    from napari_fastsam._planes import PlaneSource, PlaneValues, Region
    from napari_fastsam.controllers.session import Session

__all__ = ["RegionChoice", "SegmentationController", "Task", "segment_planes"]

RegionChoice = Literal["plane", "view", "rectangle"]

_MARGIN_SHARE = 0.1
_LOOK_SIDE_PX = 320


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What a worker is to do; holds arrays, not layers.

    Attributes
    ----------
    image_id : hashable
        The image layer.
    source : PlaneSource
    planes : tuple of Plane
        In the order of the stack.
    region : Region or None
        Part of each plane; None for all of it.
    model, device : str
        What to load.
    conf : float
    max_det : int
    link : bool
        Link the planes into objects.
    """

    image_id: Hashable
    source: PlaneSource
    planes: tuple[Plane, ...]
    region: Region | None
    model: str
    device: str
    conf: float
    max_det: int
    link: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Done:
    """One plane is ready."""

    plane: Plane
    candidates: Candidates | None
    links: NDArray[np.int64] | None
    error: FastSAMError | None


def segment_planes(task: Task, models: dict[tuple[str, str], FastSAM]) -> Iterator[Done]:
    """Segment planes one after the other; each step is a tick of progress and a place to stop.

    Parameters
    ----------
    task : Task
    models : dict
        Models loaded before, by name and device; a new one is put in.

    Yields
    ------
    Done
    """
    from fastsam_core.model import FastSAM
    from fastsam_core.pipeline import iter_segment
    from fastsam_core.stacks import StackLinker

    key = (task.model, task.device)
    if key not in models:
        models[key] = FastSAM.load(task.model, device=task.device)
    read: dict[Plane, PlaneValues] = {}

    def reader(plane: Any) -> Image:
        read[plane] = task.source.read(plane, task.region)
        return read[plane].image

    linker = StackLinker()
    steps = iter_segment(task.planes, models[key], prefetch=1, reader=reader, conf=task.conf, max_det=task.max_det)
    for step in steps:
        plane = task.planes[step.index]
        values = read.pop(plane, None)
        if step.masks is None or values is None:
            yield Done(plane, None, None, step.error)
            continue
        masks = _in_plane(step.masks, values)
        y0, _, x0, _ = values.region
        candidates = Candidates.measure(masks, values.values, (y0, x0))
        yield Done(plane, candidates, linker.add(masks) if task.link else None, None)


def _in_plane(masks: Masks, values: PlaneValues) -> Masks:
    """Move masks of a part into the plane, without those that the part's border cuts."""
    y0, y1, x0, x1 = values.region
    height, width = values.plane_hw
    boxes = masks.extents_xyxy
    whole = (
        ((boxes[:, 0] > 0) | (x0 == 0))
        & ((boxes[:, 1] > 0) | (y0 == 0))
        & ((boxes[:, 2] < x1 - x0) | (x1 == width))
        & ((boxes[:, 3] < y1 - y0) | (y1 == height))
    )
    return masks[whole & (masks.areas_px > 0)].placed((y0, x0), values.plane_hw)


class SegmentationController:
    """Starts and stops workers, and hands their results to the session.

    Parameters
    ----------
    session : Session
    """

    running_changed = Signal(bool)
    progress = Signal(str, int, int)
    """What is done, how many planes are ready, of how many."""
    finished = Signal(int)
    """Number of candidates found in all."""
    started = Signal(object)
    """The Task."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.rectangle_layer: Any = None
        self._models: dict[tuple[str, str], FastSAM] = {}
        self._run = 0
        self._worker: Any = None
        self._found = 0

    @property
    def running(self) -> bool:
        """Whether a worker's results are awaited."""
        return self._worker is not None

    def start(self, *, region: RegionChoice = "plane", stack_axis: int | None = None, model: str = "") -> None:
        """Segment what is shown; problems become notices."""
        with notices():
            part = self._region(region)
            self._start(part, stack_axis, model, add=part is not None)

    def look_at(self, point_yx: NDArray[np.float64], model: str = "") -> None:
        """Segment a small part around a point again, enlarged, and add what is new there."""
        with notices():
            self._require_plane()
            hw = self._plane_hw()
            side = int(min(_LOOK_SIDE_PX, max(hw) / 2 + 1))
            y0, x0 = (
                int(np.clip(at - side / 2, 0, max(size - side, 0))) for at, size in zip(point_yx, hw, strict=True)
            )
            self._start((y0, min(y0 + side, hw[0]), x0, min(x0 + side, hw[1])), None, model, add=True)

    def cancel(self) -> None:
        """Stop waiting at once; what was found so far stays, what comes later is dropped."""
        if self._worker is not None:
            worker, self._worker = self._worker, None
            self._run += 1
            worker.quit()
            self.progress.emit("Cancelled", 0, 0)
            self.running_changed.emit(False)

    def _start(self, region: Region | None, stack_axis: int | None, model: str, *, add: bool) -> None:
        from napari.qt.threading import create_worker

        plane = self._require_plane()
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
            model=model or session.settings.model,
            device=session.settings.device,
            conf=session.settings.confidence,
            max_det=session.settings.max_candidates,
            link=stack_axis is not None,
        )
        self._run += 1
        self._found = 0
        run = self._run
        total = len(planes)
        worker = create_worker(
            segment_planes,
            task,
            self._models,
            _progress={"total": total, "desc": f"FastSAM: {source.name}"},
            _start_thread=False,
            _ignore_errors=True,
        )
        self._worker = worker
        ready = [0]

        def on_plane(done: Done) -> None:
            if run == self._run:
                ready[0] += 1
                self._take(task, done, add=add)
                self.progress.emit(f"{self._found} candidates", ready[0], total)

        worker.yielded.connect(on_plane)
        worker.errored.connect(lambda error: self._on_error(run, error))
        worker.finished.connect(lambda: self._on_finished(run))
        self.progress.emit("Loading the model …" if not self._models else "Segmenting …", 0, total)
        self.running_changed.emit(True)
        self.started.emit(task)
        worker.start()

    def _take(self, task: Task, done: Done, *, add: bool) -> None:
        if done.candidates is None:
            warn(describe(done.error) if done.error is not None else "a plane could not be read")
            return
        self._found += len(done.candidates)
        self.session.put(task.image_id, done.plane, done.candidates, add=add, links=done.links)

    def _on_error(self, run: int, error: BaseException) -> None:
        if run == self._run:
            warn(describe(error))

    def _on_finished(self, run: int) -> None:
        if run == self._run and self._worker is not None:
            self._worker = None
            self.running_changed.emit(False)
            self.finished.emit(self._found)

    # ---- where --------------------------------------------------------------------------------------------------

    def _require_plane(self) -> Plane:
        session = self.session
        name = session.source().name
        if session.viewer.dims.ndisplay != 2:
            raise ImageContentError(
                "The viewer shows the image in 3-D, where there is no plane to segment",
                remedy="switch to 2-D with the button at the lower left (or Ctrl+Y), choose a plane, try again",
            )
        if session.plane is None:
            raise ImageContentError(
                f"The viewer shows no plane of '{name}'",
                remedy="move the sliders below the canvas until the image appears",
            )
        return session.plane

    def _plane_hw(self) -> tuple[int, int]:
        plane, source = self._require_plane(), self.session.source()
        return source.shape[plane.axes_yx[0]], source.shape[plane.axes_yx[1]]

    def _region(self, choice: RegionChoice) -> Region | None:
        if choice == "plane":
            return None
        plane, hw = self._require_plane(), self._plane_hw()
        corners = self._view_corners(plane) if choice == "view" else self._rectangle_corners(plane)
        return _with_margin(corners, hw)

    def _view_corners(self, plane: Plane) -> NDArray[np.float64]:
        layer: Any = self.session.image
        corners = np.asarray(layer.corner_pixels, np.float64)
        if layer.multiscale:
            corners = corners * np.asarray(layer.downsample_factors)[layer.data_level]
        edges: NDArray[np.float64] = corners[:, list(plane.axes_yx)] + np.array([[0.0], [1.0]])
        return edges

    def _rectangle_corners(self, plane: Plane) -> NDArray[np.float64]:
        shapes = self.rectangle_layer
        chosen: Sequence[int] = sorted(shapes.selected_data) if shapes is not None else ()
        if shapes is not None and not chosen and len(shapes.data) == 1:
            chosen = (0,)
        if not chosen or self.session.image is None:
            raise ImageContentError(
                "No rectangle is selected",
                remedy="choose a Shapes layer under 'Prompts', draw a rectangle in it and select it",
            )
        vertices = np.concatenate([shapes.data[k] for k in chosen])
        data = layer_to_layer(shapes, self.session.image, vertices, self.session.viewer.dims.point)
        points_yx, _ = pixels_of_data(data, plane)
        return np.stack([points_yx.min(axis=0), points_yx.max(axis=0)])


def _with_margin(corners_yx: NDArray[np.float64], plane_hw: tuple[int, int]) -> Region | None:
    """Return the part of the plane around a box, a tenth larger; None for all of it."""
    low, high = corners_yx
    margin = _MARGIN_SHARE * (high - low) / 2
    y0, x0 = np.clip(np.floor(low - margin), 0, plane_hw).astype(int)
    y1, x1 = np.clip(np.ceil(high + margin), 0, plane_hw).astype(int)
    if y1 - y0 < 2 or x1 - x0 < 2:
        raise ImageContentError(
            "The chosen region lies outside the image", remedy="move the view or the rectangle onto the image"
        )
    return None if (y0, x0, y1, x1) == (0, 0, *plane_hw) else (int(y0), int(y1), int(x0), int(x1))
