"""Writes into one Labels layer, each call one step of its history, and knows which steps of it are ours."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from psygnal import Signal

from fastsam_core import label_edits as edits
from fastsam_core.errors import FastSAMError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from napari.layers import Labels
    from numpy.typing import NDArray

    from fastsam_core.label_edits import Edit
    from napari_fastsam._convert import Plane
    from napari_fastsam.models.candidates import Marked

__all__ = ["NEW_DTYPE", "Committed", "LabelWriter"]

NEW_DTYPE, _WIDE_DTYPE = np.uint16, np.int32
"""Labels of new layers. napari draws 16 bit as they are; of 32 bit it makes a copy of 8 bit for every look at a plane,
which takes a tenth of a second for 8192². Layers made here are widened when their ids no longer fit."""

_HISTORY = 100
_SAMPLE_PX = 16
_WRITTEN_PX = 2**18
"""Pixels that are given to napari at once: it makes a dozen arrays of them, and small ones stay in the cache."""
_TOUCHING_EVENTS = ("paint", "data", "labels_update", "set_data")
_QUICK_PX = 2**24
"""An array of up to so many labels is counted whenever it is asked for: 2 ms, and nothing can be overlooked."""

_WRITE_ERRORS = (OSError, ValueError, TypeError, IndexError)


@dataclass(frozen=True, slots=True, eq=False)
class Committed:
    """One step that was written, to be told from what was undone since.

    Attributes
    ----------
    image_id : hashable
        The image layer it was written for.
    marks : tuple of Marked
        Candidates of planes and the labels they became.
    indices : tuple of int64 ndarray
        The first pixels that changed, as indices of the whole label array.
    values : int64 ndarray
        What they became.
    """

    image_id: Hashable
    marks: tuple[Marked, ...]
    indices: tuple[NDArray[np.int64], ...]
    values: NDArray[np.int64]


class LabelWriter:
    """Writes, undoes and does again.

    Parameters
    ----------
    layer : Labels
    made_here : bool
        It may be widened when ids run out.
    where : callable
        Returns where the viewer's sliders stand.
    """

    touched = Signal()
    """There is another version."""

    def __init__(self, layer: Labels, *, made_here: bool, where: Callable[[], Hashable]) -> None:
        self.layer, self._made_here = layer, made_here
        self._where, self._seen_at = where, where()
        self.version = 0
        """Another one whenever pixels may be others: after strokes, undo, new data, and our own steps."""
        self._highest: int | None = None
        self._done: list[Committed] = []
        self._undone: list[Committed] = []
        self._writing = False
        self._stepped = False
        for name in _TOUCHING_EVENTS:
            getattr(layer.events, name).connect(self._on_touched)
        for name in ("paint", "data"):
            getattr(layer.events, name).connect(self._on_change)
        layer.events.set_data.connect(self._on_slice)

    def close(self) -> None:
        """Let go of the layer."""
        for name in _TOUCHING_EVENTS:
            getattr(self.layer.events, name).disconnect(self._on_touched)
        for name in ("paint", "data"):
            getattr(self.layer.events, name).disconnect(self._on_change)
        self.layer.events.set_data.disconnect(self._on_slice)

    def _on_touched(self, event: object = None) -> None:
        self.version += 1
        self.touched.emit()

    def _on_change(self, event: object = None) -> None:
        if self._writing:
            self._stepped = True
        else:
            self._highest = None

    def _on_slice(self, event: object = None) -> None:
        """Take a refresh at the same place as what it is: pixels were changed in place, by a console or a plugin."""
        before, self._seen_at = self._seen_at, self._where()
        if before == self._seen_at and not self._writing:
            self._highest = None

    @property
    def highest(self) -> int:
        """The highest label that is there."""
        data: Any = self.layer.data
        if self._highest is None or (isinstance(data, np.ndarray) and data.size <= _QUICK_PX):
            self._highest = int(np.max(np.asarray(data), initial=0))
        return self._highest

    def labels_of(self, plane: Plane) -> NDArray[Any]:
        """Return the labels of a plane; a view where the data are an array."""
        index: list[Any] = [0 if place is None else place for place in plane.index]
        for axis in plane.axes_yx:
            index[axis] = slice(None)
        data: Any = self.layer.data
        return np.asarray(data[tuple(index)])

    # ---- writing ------------------------------------------------------------------------------------------------

    def write(self, parts: Sequence[tuple[Plane, Edit]], image_id: Hashable, marks: tuple[Marked, ...] = ()) -> bool:
        """Write edits of planes of an image as one step; tell whether there was anything to change.

        Raises
        ------
        InvalidParameterError
            A label does not fit; nothing was written.
        FastSAMError
            The data cannot be written; what was written of it is undone.
        """
        changed = [(plane, edit) for plane, edit in parts if len(edit)]
        if not changed:
            return False
        top = max(int(edit.values.max()) for _, edit in changed)
        highest = self._highest
        self._widen(top)
        edits.check_ids(np.dtype(self.layer.data.dtype), top)
        self._set_pixels(changed)
        if highest is not None:
            self._highest = max(highest, top)
        plane, edit = changed[0]
        sample = slice(0, _SAMPLE_PX)
        indices = _whole_indices(plane, edit, sample, np.dtype(np.int64))
        self._done = [*self._done, Committed(image_id, marks, indices, edit.values[sample])][-_HISTORY:]
        self._undone = []
        return True

    def _set_pixels(self, changed: list[tuple[Plane, Edit]]) -> None:
        problem: Exception | None = None
        layer, pieces = self.layer, list(self._pieces(changed))
        if not (layer.visible and layer.loaded):
            layer.set_view_slice()  # napari writes into what it last showed, too, in the numbers of that
        self._writing, self._stepped = True, False
        try:
            with layer.block_history():
                try:
                    for number, (plane, edit, piece, dtype) in enumerate(pieces, 1):
                        values = edit.values[piece].astype(layer.data.dtype)
                        places = _whole_indices(plane, edit, piece, dtype)
                        layer.data_setitem(places, values, refresh=number == len(pieces))
                except _WRITE_ERRORS as error:
                    problem = error
            if problem is not None and self._stepped:
                with suppress(*_WRITE_ERRORS):
                    layer.undo()
        finally:
            self._writing = False
        if problem is not None:
            raise FastSAMError(
                f"'{layer.name}' could not be written",
                actual=f"{type(problem).__name__}: {problem}",
                remedy="choose 'New layer' as target",
            ) from problem

    def _pieces(self, changed: list[tuple[Plane, Edit]]) -> Iterator[tuple[Plane, Edit, slice, np.dtype[Any]]]:
        """Divide the edits into what is written at once; with indices as narrow as an array takes them.

        The layer's history keeps the indices.
        """
        data: Any = self.layer.data
        narrow = np.min_scalar_type(max(data.shape)) if isinstance(data, np.ndarray) else np.dtype(np.int64)
        for plane, edit in changed:
            for start in range(0, len(edit), _WRITTEN_PX):
                yield plane, edit, slice(start, start + _WRITTEN_PX), narrow

    def _widen(self, highest: int) -> None:
        """Make room for larger ids in a layer that was made here; its history stays."""
        narrow = np.dtype(self.layer.data.dtype)
        if self._made_here and narrow == NEW_DTYPE and highest > np.iinfo(narrow).max:
            wide = np.asarray(self.layer.data).astype(_WIDE_DTYPE)
            with self.layer.events.data.blocker(self._on_change):
                self.layer.data = wide

    # ---- undo ---------------------------------------------------------------------------------------------------

    def retrace(self, what: Literal["undo", "redo"]) -> Committed | None:
        """Undo the last step of the layer's history, or do it again; return it if it is one of ours."""
        steps, others = (self._done, self._undone) if what == "undo" else (self._undone, self._done)
        step = steps[-1] if steps else None
        was_there = step is not None and self._is_there(step)  # or a later stroke lies on it
        try:
            getattr(self.layer, what)()
        except IndexError as error:
            raise FastSAMError(
                f"A step of '{self.layer.name}' cannot be taken back or done again",
                actual=f"the layer got data of shape {self.layer.data.shape} since",
                remedy="go on from the labels that are there",
            ) from error
        self._on_touched()
        self._highest = None
        if step is None or was_there != (what == "undo") or self._is_there(step) == was_there:
            return None
        others.append(steps.pop())
        return step

    def _is_there(self, step: Committed) -> bool:
        data: Any = self.layer.data
        if len(step.indices) != data.ndim or any(
            at.max() >= size for at, size in zip(step.indices, data.shape, strict=True)
        ):
            return False  # the layer got data of another size
        return bool(np.array_equal(np.asarray(data[step.indices]), step.values))


def _whole_indices(plane: Plane, edit: Edit, piece: slice, dtype: np.dtype[Any]) -> tuple[NDArray[Any], ...]:
    """Return a piece of the edit's pixels as indices of the whole label array."""
    rows, columns = edit.rows[piece].astype(dtype), edit.columns[piece].astype(dtype)
    index = [np.full(len(rows), 0 if place is None else place, dtype) for place in plane.index]
    index[plane.axes_yx[0]], index[plane.axes_yx[1]] = rows, columns
    return tuple(index)
