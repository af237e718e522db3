"""What the worker thread does: read planes, run the network on them whole or in tiles, measure what was found."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsam_core._defaults import PROMPT_CONF
from fastsam_core._parts import is_sure, whole_in
from napari_fastsam._preload import preload_torch
from napari_fastsam._window_first import pass_over_old_objects, window_first
from napari_fastsam.models.candidates import Candidates
from napari_fastsam.models.picks import PickOptions, PromptSet, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Hashable, Iterator

    from numpy.typing import NDArray

    from fastsam_core._parts import Region
    from fastsam_core.errors import FastSAMError
    from fastsam_core.images import Image
    from fastsam_core.model import FastSAM
    from napari_fastsam._convert import Plane
    from napari_fastsam._planes import PlaneSource, PlaneValues

__all__ = ["Done", "Failed", "Models", "Task", "count_steps", "steps_of"]

_TILE_PX, _OVERLAP_PX = 1024, 128
_MAX_VALUES_BYTES = 2**29
"""Larger planes get no mean intensities when they are segmented in tiles: their values are not kept."""

_TAKING_S = 0.5
"""The worker waits no longer than this for the window to make ready for results, and to show the first."""

Models = dict[tuple[str, str, int], "FastSAM"]
"""By name or file, device, and when the file was changed (0 for a name)."""


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
    conf : float or None
        Masks of less are faint: only prompts choose among them. None takes the model's own.
    max_det : int
        For each plane, or each tile.
    stack_axis : int or None
        The planes follow each other along this axis and are linked into objects.
    tiled : bool
        Segment each plane in overlapping tiles at full resolution.
    stop : Event
        Set it, and no further plane or tile is begun.
    window_ready : Event
        Set it when the window shows that work has begun and is ready for results: to add layers to it takes half as
        long again while the worker computes beside it.
    taken : Event
        Set it when the first result is shown.
    """

    image_id: Hashable
    source: PlaneSource
    planes: tuple[Plane, ...]
    region: Region | None
    model: str
    device: str
    conf: float | None
    max_det: int
    stack_axis: int | None = None
    tiled: bool = False
    stop: Event = field(default_factory=Event)
    window_ready: Event = field(default_factory=Event)
    taken: Event = field(default_factory=Event)


@dataclass(frozen=True, slots=True, eq=False)
class Done:
    """One plane is ready, or (`partial`) one more tile of it.

    `candidates` is everything found on the plane so far, None after an error.
    """

    plane: Plane
    candidates: Candidates | None = None
    links: NDArray[np.int64] | None = None
    error: FastSAMError | None = None
    partial: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Failed:
    """Nothing more comes."""

    error: Exception


def count_steps(task: Task) -> int:
    """Return how many steps a task has at most."""
    if not task.tiled or not task.planes:
        return len(task.planes)
    from fastsam_core._windows import plan_windows

    plane_hw = task.source.plane_hw(task.planes[0])
    return len(task.planes) * len(plan_windows(plane_hw, (_TILE_PX, _TILE_PX), _OVERLAP_PX))


def steps_of(task: Task, models: Models, warm_up: Callable[[], object]) -> Iterator[Done | Failed]:
    """Do the task; each step is a tick of progress and a place to stop, an error is the last step.

    A worker that raises would run napari's own slot for errors, which takes too few arguments for PySide6.

    Parameters
    ----------
    task : Task
    models : Models
        Those loaded before; a new one is put in.
    warm_up : callable
        What else can be got ready here while a model is loaded.

    Yields
    ------
    Done or Failed
    """
    try:
        with window_first():
            yield from _steps(task, models, warm_up)
    except Exception as error:  # noqa: BLE001 (whatever the network or a lazy array raises becomes a notice)
        yield Failed(error)


def _steps(task: Task, models: Models, warm_up: Callable[[], object]) -> Iterator[Done]:
    task.window_ready.wait(_TAKING_S)
    preload_torch()
    from fastsam_core.model import FastSAM

    pass_over_old_objects()
    file = Path(task.model)
    key = (task.model, task.device, file.stat().st_mtime_ns if file.is_file() else 0)
    model = models.get(key)
    if model is None:
        for other in list(models):
            if other[:2] == key[:2]:
                models.pop(other, None)  # the file was changed
        model = models[key] = FastSAM.load(task.model, device=task.device)
        _warm_up()
        warm_up()
        pass_over_old_objects()
    # closed here and not by the garbage collector, which would wait for reading threads in the GUI's thread
    with closing((_tiled if task.tiled else _whole)(task, model)) as steps:
        while not task.stop.is_set() and (step := next(steps, None)) is not None:
            yield step
            task.taken.wait(_TAKING_S)


def _warm_up() -> None:
    """Compile the kernels behind prompts, mouse and commits here, not in the window's thread at the first click."""
    from fastsam_core.label_edits import plan_commit
    from fastsam_core.masks import Masks
    from fastsam_core.prompts import nesting
    from napari_fastsam.models.marks import pixels_under

    masks = Masks.from_dense(np.ones((2, 4, 4), bool))
    square = np.array([[0.0, 0], [0, 4], [4, 4]])
    prompts = PromptSet(
        np.full((2, 2), 2.0),
        np.array([True, False]),
        np.zeros(2, np.int64),
        np.array([[0.0, 0, 4, 4]]),
        (square,),
        (square,),
    )
    for many in (False, True):
        resolve(masks, np.ones(2, bool), prompts, PickOptions(everything_inside=many))
    nesting(masks, np.array([2.0, 2.0]))
    for dtype in (np.uint16, np.int32):
        plan_commit(np.zeros((4, 4), dtype), masks, [1, 2], "keep")
        pixels_under(np.zeros((4, 4), dtype), masks, [0, 1], [1, 2])


def _whole(task: Task, model: FastSAM) -> Generator[Done, None, None]:
    """Segment planes one after the other, each in one pass."""
    from fastsam_core.pipeline import iter_segment
    from fastsam_core.stacks import StackLinker

    read: dict[Plane, PlaneValues] = {}

    def reader(plane: Any) -> Image:
        read[plane] = task.source.read(plane, task.region)
        return read[plane].image

    linker = StackLinker()
    conf = model.info.conf if task.conf is None else task.conf
    lowest = min(PROMPT_CONF, conf)
    steps = iter_segment(task.planes, model, prefetch=1, reader=reader, conf=lowest, max_det=task.max_det)
    with closing(steps):
        for step in steps:
            plane = task.planes[step.index]
            values = read.pop(plane, None)
            if step.masks is None or values is None:
                yield Done(plane, error=step.error)
                continue
            full = step.masks[is_sure(step.masks, conf)].at_limit
            masks = whole_in(step.masks, values.region, values.plane_hw).with_metadata(at_limit=full)
            y0, _, x0, _ = values.region
            candidates = Candidates.measure(masks, values.values, (y0, x0), conf=conf)
            links = linker.add(masks[: candidates.sure.sum()]) if task.stack_axis is not None else None
            yield Done(plane, candidates, links)


class _Tiles:
    """A plane that is read in tiles; keeps the values it has seen, if there is room for a whole plane."""

    def __init__(self, source: PlaneSource, plane: Plane) -> None:
        self._source, self._plane = source, plane
        self.shape = source.plane_hw(plane)
        self.values: NDArray[Any] | None = None

    def __getitem__(self, window: tuple[slice, slice]) -> Region:
        rows, columns = window
        return rows.start, rows.stop, columns.start, columns.stop

    def image_of(self, region: Any) -> Image:
        """Read a tile, keep its values, and return it as the network takes it."""
        tile = self._source.read(self._plane, region)
        if self.values is None and np.prod(self.shape) * tile.values.itemsize <= _MAX_VALUES_BYTES:
            self.values = np.zeros(self.shape, tile.values.dtype)
        if self.values is not None:
            y0, y1, x0, x1 = tile.region
            self.values[y0:y1, x0:x1] = tile.values
        return tile.image


def _tiled(task: Task, model: FastSAM) -> Generator[Done, None, None]:
    """Segment planes in tiles; what each tile adds is a step, and the last step of a plane has joined its tiles."""
    from fastsam_core.stacks import StackLinker
    from fastsam_core.tiling import segment_tiles

    conf = model.info.conf if task.conf is None else task.conf
    linker = StackLinker()
    for plane in task.planes:
        tiles = _Tiles(task.source, plane)
        steps = segment_tiles(
            tiles,
            model,
            tile_px=_TILE_PX,
            overlap_px=_OVERLAP_PX,
            reader=tiles.image_of,
            conf=min(PROMPT_CONF, conf),
            max_det=task.max_det,
        )
        so_far: Candidates | None = None
        for step in steps:
            if step.result is not None:
                candidates = Candidates.measure(step.result, tiles.values, conf=conf)
                links = linker.add(step.result[candidates.sure]) if task.stack_axis is not None else None
                yield Done(plane, candidates, links)
                break
            full = step.masks[is_sure(step.masks, conf)].at_limit
            found = Candidates.measure(step.masks.with_metadata(at_limit=full), tiles.values, conf=conf)
            so_far = found if so_far is None else so_far.extended(found)
            yield Done(plane, so_far, partial=True)
