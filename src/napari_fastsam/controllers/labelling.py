"""Write picked candidates into a Labels layer so that Ctrl+Z takes them out again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from psygnal import Signal

from fastsam_core import label_edits as edits
from fastsam_core.errors import FastSAMError, ImageContentError, InvalidParameterError
from fastsam_core.label_edits import Edit, Overlap
from fastsam_core.masks import Masks
from napari_fastsam._convert import Plane, layer_shape, placed_like, same_pixels
from napari_fastsam._notify import notices
from napari_fastsam.controllers.canvas import add_quietly, contains

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from napari.layers import Labels
    from numpy.typing import NDArray

    from napari_fastsam.controllers.session import Session

Scope = Literal["picked", "shown"]
"""What a commit takes: what is picked, or everything that is shown."""

__all__ = ["Committed", "LabelController", "label_geometry"]

_HISTORY = 100
_NEW_DTYPE, _WIDE_DTYPE = np.uint16, np.int32
"""Labels of new layers. napari draws 16 bit as they are; of 32 bit it makes a copy of 8 bit for every look at a plane,
which takes a tenth of a second for 8192². Layers made here are widened when their ids no longer fit."""


@dataclass(frozen=True, slots=True, eq=False)
class Committed:
    """One step that was written, to be told from what was undone since.

    Attributes
    ----------
    plane : Plane
    labels : dict of int to int
        Candidates and the labels they became.
    indices : tuple of int64 ndarray
        The first pixels that changed, as indices of the whole label array.
    values : int64 ndarray
        What they became.
    """

    plane: Plane
    labels: dict[int, int]
    indices: tuple[NDArray[np.int64], ...]
    values: NDArray[np.int64]


def label_geometry(image: Any, channel_axis: int | None) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Return shape and transforms of a Labels layer for an image; the channel axis has length one there."""
    shape = list(layer_shape(image))
    steps = np.ones(image.ndim)
    if channel_axis is not None:
        steps[channel_axis] = shape[channel_axis]
        shape[channel_axis] = 1
    return tuple(shape), placed_like(image, np.zeros(image.ndim), steps)


class LabelController:
    """Commits, merges, splits and deletes; every call is one step of the layer's own history.

    Parameters
    ----------
    session : Session
    """

    written = Signal(str, object, object)
    """What was done ("commit", "merge" …), the candidates, and a dict of facts for the journal."""
    undone = Signal(str)
    """"undo" or "redo" of a step of this controller."""
    target_changed = Signal()

    def __init__(self, session: Session) -> None:
        self.session = session
        self.target: Labels | None = None
        self.overlap: Overlap = "keep"
        self.chosen_id: int | None = None
        self.whole_objects = False
        self._made: set[Hashable] = set()
        self._highest: int | None = None
        self._done: list[Committed] = []
        self._undone: list[Committed] = []
        self._writing = False

    # ---- target -------------------------------------------------------------------------------------------------

    def set_target(self, layer: Labels | None) -> None:
        """Commit into this layer; None makes a new one at the next commit."""
        if self.target is not None:
            self.target.events.paint.disconnect(self._on_foreign_change)
            self.target.events.data.disconnect(self._on_foreign_change)
            self.target.bind_key("Control-Z", None)
            self.target.bind_key("Control-Shift-Z", None)
        self.target, self._highest = layer, None
        self._done, self._undone = [], []
        if layer is not None:
            layer.events.paint.connect(self._on_foreign_change)
            layer.events.data.connect(self._on_foreign_change)
            layer.bind_key("Control-Z", lambda _: self.undo(), overwrite=True)
            layer.bind_key("Control-Shift-Z", lambda _: self.redo(), overwrite=True)
        self.target_changed.emit()

    def close(self) -> None:
        """Let go of the layer; it stays as it is."""
        self.set_target(None)

    def _on_foreign_change(self, event: object = None) -> None:
        if not self._writing:
            self._highest = None

    def usable(self, layer: Any) -> str:
        """Return why a Labels layer cannot take labels of the image; "" if it can."""
        image = self.session.image
        if image is None:
            return "no image is chosen"
        if layer.multiscale:
            return "it is multiscale, and napari cannot edit those"
        shape, _ = label_geometry(image, self.session.channel_axis)
        if layer_shape(layer) != shape:
            return f"its shape is {layer_shape(layer)}, the image needs {shape}"
        steps = np.ones(image.ndim)
        if self.session.channel_axis is not None:
            steps[self.session.channel_axis] = layer_shape(image)[self.session.channel_axis]
        if not same_pixels(image, layer, np.zeros(image.ndim), steps):
            return "its pixels lie elsewhere than the image's (scale, translate, rotate, shear or affine differ)"
        if not isinstance(layer.data, np.ndarray) and not hasattr(layer.data, "__setitem__"):
            return "its data are read-only"
        if type(layer.data).__module__.startswith("dask"):
            return "its data are a dask array, which cannot be written"
        if isinstance(layer.data, np.ndarray) and not layer.data.flags.writeable:
            return "its data are read-only"
        return ""

    def _require_target(self) -> Labels:
        target, viewer, image = self.target, self.session.viewer, self.session.image
        if image is None:
            raise ImageContentError("No image is chosen", remedy="open an image and choose it under 'Image'")
        if target is not None and contains(viewer, target):
            if reason := self.usable(target):
                raise InvalidParameterError(
                    f"'{target.name}' cannot take labels of '{image.name}': {reason}",
                    remedy="choose 'New layer' or a Labels layer made from this image",
                )
            return target
        from napari.layers import Labels

        shape, transform = label_geometry(image, self.session.channel_axis)
        # napari looks at the pixels of a layer that is added when it is visible, and again when it is drawn
        layer = Labels(np.zeros(shape, _NEW_DTYPE), name=f"{image.name} labels", visible=False, **transform)
        add_quietly(viewer, layer, image)
        layer.visible = True
        self._made.add(layer.unique_id)
        self.set_target(layer)
        self._highest = 0
        return layer

    def _widen(self, target: Labels, highest: int) -> None:
        """Make room for larger ids in a layer that was made here; its history stays."""
        narrow = np.dtype(target.data.dtype)
        if target.unique_id in self._made and narrow == _NEW_DTYPE and highest > np.iinfo(narrow).max:
            wide = np.asarray(target.data).astype(_WIDE_DTYPE)
            with target.events.data.blocker(self._on_foreign_change):
                target.data = wide

    def next_id(self) -> int:
        """Return the label the next commit begins with."""
        if self.chosen_id is not None:
            return self.chosen_id
        if self.target is None or not contains(self.session.viewer, self.target):
            return 1
        if self._highest is None:
            self._highest = int(np.max(np.asarray(self.target.data), initial=0))
        return self._highest + 1

    # ---- what would happen --------------------------------------------------------------------------------------

    def preview(self, indices: Sequence[int]) -> Callable[[], Edit] | None:
        """Return what plans to commit candidates of the plane, in any thread, without writing; None for nothing."""
        candidates, plane, target = self.session.candidates, self.session.plane, self.target
        if candidates is None or plane is None or not indices:
            return None
        if target is None or not contains(self.session.viewer, target) or self.usable(target):
            return lambda: Edit(*(np.empty(0, np.int64),) * 3, labels=tuple(range(1, len(indices) + 1)))
        labels, ids, overlap = self._labels_of(target, plane), self._ids(len(indices)), self.overlap
        return lambda: edits.plan_commit(labels, candidates.masks[list(indices)], ids, overlap)

    def _ids(self, count: int) -> list[int]:
        first = self.next_id()
        return [first] * count if self.chosen_id is not None else [first + k for k in range(count)]

    def _labels_of(self, target: Labels, plane: Plane) -> NDArray[Any]:
        index: list[Any] = [0 if place is None else place for place in plane.index]
        for axis in plane.axes_yx:
            index[axis] = slice(None)
        return np.asarray(target.data[tuple(index)])

    # ---- writing ------------------------------------------------------------------------------------------------

    def commit(self, indices: Sequence[int], *, scope: Scope = "picked") -> int:
        """Write candidates of the plane as labels, one undo step; return how many were written."""
        with notices():
            return self._commit(list(indices), scope)
        return 0

    def _commit(self, indices: list[int], scope: Scope) -> int:
        session = self.session
        candidates, plane = session.candidates, session.plane
        if candidates is None or plane is None or not indices:
            raise ImageContentError(
                "Nothing is picked",
                remedy="click objects with the hover tool, add prompts, or select rows of the table",
            )
        target = self._require_target()
        if self.whole_objects and plane in session.links:
            return self._commit_objects(target, plane, indices)
        ids = self._ids(len(indices))
        masks = candidates.masks[indices]
        edit = edits.plan_commit(self._labels_of(target, plane), masks, ids, self.overlap)
        if self.chosen_id is None:
            edit = edits.without_gaps(edit)
        labels = {i: label for i, label in zip(indices, edit.labels, strict=True) if label}
        self._write(target, [(plane, edit)], labels)
        facts: dict[str, object] = {"labels": list(edit.labels), "overlap": self.overlap, "scope": scope}
        if scope == "picked":
            facts["causes"] = session.causes(indices)
        self.written.emit("commit", masks, facts)
        session.mark_committed(plane, labels)
        return len(labels)

    def _commit_objects(self, target: Labels, plane: Plane, indices: list[int]) -> int:
        """Write the linked objects of these candidates in all planes of the stack."""
        session = self.session
        objects = [int(session.links[plane][i]) for i in indices if i < len(session.links[plane])]
        label_of = dict(zip(dict.fromkeys(objects), self._ids(len(objects)), strict=False))
        parts: list[tuple[Plane, Edit]] = []
        written: list[tuple[Plane, Masks, tuple[int, ...]]] = []
        for other, links in session.links.items():
            candidates = session.pool.get(other)
            if candidates is None:
                continue
            keep = session.filters.keep(candidates.columns)
            chosen = [i for i in range(len(links)) if int(links[i]) in label_of and (keep[i] or other == plane)]
            if not chosen:
                continue
            ids = [label_of[int(links[i])] for i in chosen]
            masks = candidates.masks[chosen]
            edit = edits.plan_commit(self._labels_of(target, other), masks, ids, self.overlap)
            parts.append((other, edit))
            written.append((other, masks, edit.labels))
            session.mark_committed(other, {i: n for i, n in zip(chosen, edit.labels, strict=True) if n})
        self._write(target, parts, {})
        here = session.candidates
        masks = here.masks[indices] if here is not None else Masks.empty((1, 1))
        facts = {"labels": [label_of[o] for o in objects], "overlap": self.overlap, "parts": written}
        self.written.emit("commit", masks, {**facts, "causes": session.causes(indices)})
        return len(label_of)

    def _edit(self, name: str, indices: Sequence[int], plan: Callable[[NDArray[Any], Masks], Edit]) -> None:
        with notices():
            candidates, plane = self.session.candidates, self.session.plane
            if candidates is None or plane is None or not indices:
                raise ImageContentError(
                    "Nothing is picked", remedy="pick the candidates that lie on the labels you mean, then try again"
                )
            target = self._require_target()
            masks = candidates.masks[list(indices)]
            edit = plan(self._labels_of(target, plane), masks)
            self._write(target, [(plane, edit)], {})
            facts = {"labels": list(edit.labels), "causes": self.session.causes(indices)}
            self.written.emit(name, masks, facts)

    def merge(self, indices: Sequence[int]) -> None:
        """Make one label of those that lie in the candidates."""
        self._edit("merge", indices, edits.plan_merge)

    def delete(self, indices: Sequence[int]) -> None:
        """Erase the labels that lie in the candidates."""
        self._edit("delete", indices, edits.plan_delete)

    def split(self, indices: Sequence[int]) -> None:
        """Cut the label that the candidates share."""
        first = self.next_id() if self.chosen_id is None else self.chosen_id
        self._edit("split", indices, lambda labels, masks: edits.plan_split(labels, masks, first))

    def labels_of(self, plane: Plane) -> NDArray[Any]:
        """Return the labels of a plane in the target, which is made if there is none."""
        return self._labels_of(self._require_target(), plane)

    def write_edit(self, plane: Plane, edit: Edit) -> None:
        """Write a prepared edit (the journal's)."""
        self._write(self._require_target(), [(plane, edit)], {})

    def _write(self, target: Labels, parts: list[tuple[Plane, Edit]], labels: dict[int, int]) -> None:
        changed = [(plane, edit) for plane, edit in parts if len(edit)]
        if not changed:
            return
        values = np.concatenate([edit.values for _, edit in changed])
        indices = tuple(np.concatenate(axis) for axis in zip(*(_full(p, e) for p, e in changed), strict=True))
        highest = self._highest
        self._widen(target, int(values.max()))
        edits.check_ids(np.dtype(target.data.dtype), int(values.max()))
        self._writing = True
        try:
            with target.block_history():
                target.data_setitem(indices, values.astype(target.data.dtype))
        except (OSError, ValueError, TypeError, IndexError) as error:
            raise FastSAMError(
                f"'{target.name}' could not be written",
                actual=f"{type(error).__name__}: {error}",
                remedy="choose 'New layer' as target",
            ) from error
        finally:
            self._writing = False
        if highest is not None:
            self._highest = max(highest, int(values.max()))
        sample = slice(0, 16)
        kept = Committed(changed[0][0], labels, tuple(axis[sample] for axis in indices), values[sample])
        self._done = [*self._done, kept][-_HISTORY:]
        self._undone = []

    # ---- undo ---------------------------------------------------------------------------------------------------

    def undo(self) -> None:
        """Undo the last step of the target's history, be it a commit or a stroke of the user's brush."""
        if self.target is None or not contains(self.session.viewer, self.target):
            return
        self.target.undo()
        self._highest = None
        if self._done and not self._is_there(self._done[-1]):
            step = self._done.pop()
            self._undone.append(step)
            self.session.unmark_committed(step.plane, step.labels)
            self.undone.emit("undo")

    def redo(self) -> None:
        """Do again what was undone last."""
        if self.target is None or not contains(self.session.viewer, self.target):
            return
        self.target.redo()
        self._highest = None
        if self._undone and self._is_there(self._undone[-1]):
            step = self._undone.pop()
            self._done.append(step)
            self.session.mark_committed(step.plane, step.labels)
            self.undone.emit("redo")

    def _is_there(self, step: Committed) -> bool:
        data: Any = self.target.data if self.target is not None else np.zeros((1,) * len(step.indices))
        return bool(np.array_equal(np.asarray(data[step.indices]), step.values))


def _full(plane: Plane, edit: Edit) -> tuple[NDArray[np.int64], ...]:
    """Return the edit's pixels as indices of the whole label array."""
    index = [np.full(len(edit), 0 if place is None else place, np.int64) for place in plane.index]
    index[plane.axes_yx[0]], index[plane.axes_yx[1]] = edit.rows, edit.columns
    return tuple(index)
