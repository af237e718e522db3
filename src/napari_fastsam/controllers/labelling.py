"""Write picked candidates into a Labels layer so that Ctrl+Z takes them out again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from psygnal import Signal

from fastsam_core import label_edits as edits
from fastsam_core._generators import outcome
from fastsam_core.errors import ImageContentError, InvalidParameterError
from fastsam_core.label_edits import Edit, Overlap
from fastsam_core.stacks import object_of
from napari_fastsam._convert import Plane, layer_shape, placed_like, same_pixels
from napari_fastsam._notify import notices, warn
from napari_fastsam.controllers.canvas import add_quietly, contains
from napari_fastsam.controllers.label_writer import NEW_DTYPE, LabelWriter
from napari_fastsam.controllers.planning import PlanRunner
from napari_fastsam.models.commits import CommitTask, Order, Part, Planned, Scope, plan_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from napari.layers import Labels
    from numpy.typing import NDArray

    from fastsam_core.masks import Masks
    from napari_fastsam.controllers.session import Session
    from napari_fastsam.models.candidates import Marked

__all__ = ["LabelController", "label_geometry"]

_AT_ONCE_PX = 150_000
"""Commits of more pixels are planned in a worker; this many take less than 0.05 s."""


def label_geometry(image: Any, channel_axis: int | None) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Return shape and transforms of a Labels layer for an image; the channel axis has length one there."""
    shape = list(layer_shape(image))
    steps = np.ones(image.ndim)
    if channel_axis is not None:
        steps[channel_axis] = shape[channel_axis]
        shape[channel_axis] = 1
    return tuple(shape), placed_like(image, np.zeros(image.ndim), steps)


_MAX_LABEL = 2**62
"""New labels are counted on from the highest one, in 64 bits with a sign: it must be far from their end."""


class LabelController:
    """Commits, merges, splits and deletes; every call is one step of the layer's own history.

    Parameters
    ----------
    session : Session
    """

    written = Signal(str, object, object)
    """What was done ("commit", "merge" …), the candidates, and a dict of facts for the journal."""
    undone = Signal(str, object, str)
    """"undo" or "redo" of a step of this controller, the id of the image layer it was written for, and the target's
    name in the journal."""
    target_changed = Signal()
    touched = Signal()
    """Labels may be others, by whatever hand."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.planning = PlanRunner()
        self.overlap: Overlap = "keep"
        self.chosen_id: int | None = None
        self.whole_objects = False
        self._writer: LabelWriter | None = None
        self._writers: dict[Hashable, LabelWriter] = {}
        """Of all layers that were targets and are still there, by layer: each knows its steps."""
        self._names: dict[Hashable, str] = {}
        """What the journal calls them, and those that were removed."""
        self._made: set[Hashable] = set()
        session.marks.look = self._look
        session.viewer.layers.events.removed.connect(self._on_removed)

    # ---- target -------------------------------------------------------------------------------------------------

    @property
    def target(self) -> Labels | None:
        """The layer that is committed into; None if the next commit makes a new one."""
        return None if self._writer is None else self._writer.layer

    def set_target(self, layer: Labels | None) -> None:
        """Commit into this layer; None makes a new one at the next commit."""
        self._writer = None if layer is None else self._writers.get(layer.unique_id) or self._take(layer)
        self.target_changed.emit()

    def _take(self, layer: Labels) -> LabelWriter:
        """Begin to follow a layer; its undo keys also take back what was committed, whatever the target is."""
        self._names.setdefault(layer.unique_id, self._free_name(layer.name))
        writer = LabelWriter(layer, made_here=layer.unique_id in self._made, where=self._where)
        writer.touched.connect(self.touched.emit)
        self._writers[layer.unique_id] = writer
        layer.bind_key("Control-Z", lambda _: self._retrace(writer, "undo"), overwrite=True)
        layer.bind_key("Control-Shift-Z", lambda _: self._retrace(writer, "redo"), overwrite=True)
        return writer

    def _look(self, layer_id: Hashable, plane: Plane) -> tuple[int, NDArray[Any]] | None:
        """Return the labels of a plane in a layer, and their version; None for a layer that is not followed."""
        writer = self._writers.get(layer_id)
        if writer is None:
            return None
        try:
            return writer.version, writer.labels_of(plane)
        except IndexError:  # it has other data by now, without such a plane
            return writer.version, np.empty((0, 0), NEW_DTYPE)

    def _where(self) -> Hashable:
        dims = self.session.viewer.dims
        return tuple(dims.current_step), tuple(dims.displayed)

    def _name_of(self, writer: LabelWriter) -> str:
        """Return what the journal calls a layer, also when the user gives it another name."""
        return self._names[writer.layer.unique_id]

    def _free_name(self, name: str) -> str:
        """Return a name that no other layer has in the journal, be it removed or called otherwise by now."""
        taken = set(self._names.values())
        others = (f"{name} [{number}]" for number in range(1, len(taken) + 1))
        return next(one for one in (name, *others) if one not in taken)

    def _let_go(self, layer_id: Hashable) -> None:
        writer = self._writers.pop(layer_id, None)
        if writer is not None:
            writer.close()
            writer.layer.bind_key("Control-Z", None)
            writer.layer.bind_key("Control-Shift-Z", None)

    def _on_removed(self, event: Any) -> None:
        self._let_go(event.value.unique_id)

    def close(self) -> None:
        """Let go of the layers; they stay as they are. What is being planned is given up."""
        self.planning.cancel()
        self.session.viewer.layers.events.removed.disconnect(self._on_removed)
        for layer_id in [*self._writers]:
            self._let_go(layer_id)
        self.set_target(None)

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
        if not np.dtype(layer.data.dtype).isnative:
            return "its numbers have a byte order in which napari writes other labels than it is given"
        writer = self._writers.get(layer.unique_id)
        if writer is not None and np.dtype(layer.data.dtype).itemsize == 8 and writer.highest > _MAX_LABEL:
            return f"it has label {writer.highest}, and new ones are counted on from {_MAX_LABEL} at most"
        if not isinstance(layer.data, np.ndarray) and not hasattr(layer.data, "__setitem__"):
            return "its data are read-only"
        if type(layer.data).__module__.startswith("dask"):
            return "its data are a dask array, which cannot be written"
        if isinstance(layer.data, np.ndarray) and not layer.data.flags.writeable:
            return "its data are read-only"
        return ""

    def _current(self) -> LabelWriter | None:
        """Return the writer of the target, if that is in the viewer and can be used; None if a new one is needed."""
        writer, image = self._writer, self.session.image
        if image is None:
            raise ImageContentError("No image is chosen", remedy="open an image and choose it under 'Image'")
        if writer is None or not contains(self.session.viewer, writer.layer):
            return None
        if reason := self.usable(writer.layer):
            raise InvalidParameterError(
                f"'{writer.layer.name}' cannot take labels of '{image.name}': {reason}",
                remedy="choose 'New layer' or a Labels layer made from this image",
            )
        return writer

    def _require_target(self, name: str | None = None) -> LabelWriter:
        """Return the writer of the target, which is made if there is none, with this name if one is given."""
        writer, image = self._current(), self.session.image
        if writer is not None:
            return writer
        from napari.layers import Labels

        shape, transform = label_geometry(image, self.session.channel_axis)
        # napari looks at the pixels of a layer that is added when it is visible, and again when it is drawn
        name = name or f"{image.name if image is not None else 'FastSAM'} labels"
        layer = Labels(np.zeros(shape, NEW_DTYPE), name=name, visible=False, **transform)
        add_quietly(self.session.viewer, layer, image)
        layer.visible = True
        self._made.add(layer.unique_id)
        self.set_target(layer)
        return self._require_target()

    def next_id(self) -> int:
        """Return the label the next commit begins with."""
        if self.chosen_id is not None:
            return self.chosen_id
        writer = self._writer
        return 1 if writer is None or not contains(self.session.viewer, writer.layer) else writer.highest + 1

    # ---- what would happen --------------------------------------------------------------------------------------

    def preview(self, indices: Sequence[int]) -> Callable[[], Edit] | None:
        """Return what plans to commit candidates of the plane, in any thread, without writing; None for nothing."""
        candidates, plane, writer = self.session.candidates, self.session.plane, self._writer
        if candidates is None or plane is None or not indices:
            return None
        if writer is None or not contains(self.session.viewer, writer.layer) or self.usable(writer.layer):
            return lambda: Edit(*(np.empty(0, np.int64),) * 3, labels=tuple(range(1, len(indices) + 1)))
        ids, overlap = self._ids(len(indices), self.chosen_id), self.overlap
        return lambda: edits.plan_commit(writer.labels_of(plane), candidates.masks[list(indices)], ids, overlap)

    def is_large(self, indices: Sequence[int]) -> bool:
        """Tell whether planning to commit these takes so long that it is for a thread."""
        candidates = self.session.candidates
        return candidates is not None and int(candidates.masks.areas_px[list(indices)].sum()) > _AT_ONCE_PX

    def _ids(self, count: int, chosen: int | None) -> list[int]:
        first = self.next_id() if chosen is None else chosen
        return list(range(first, first + count)) if chosen is None else [first] * count

    # ---- commits ------------------------------------------------------------------------------------------------

    def commit(self, indices: Sequence[int], *, scope: Scope = "picked") -> int:
        """Write candidates of the plane as labels, one undo step.

        A large commit is planned in a worker and written when that is done.

        Returns
        -------
        int
            How many were written; 0 as long as they are being planned.
        """
        with notices():
            order = self._order(list(indices), scope)
            task = self._task(order)
            if task.area_px <= _AT_ONCE_PX:
                return self._write_planned(task, outcome(plan_steps(task)))
            if self.planning.running:
                raise InvalidParameterError(
                    "Another commit is being planned", remedy="wait until its labels are written, or cancel it"
                )
            self._plan(order)
        return 0

    def _order(self, indices: list[int], scope: Scope) -> Order:
        session = self.session
        candidates, plane, image = session.candidates, session.plane, session.image
        if scope == "shown" and candidates is not None and len(candidates) and not indices:
            raise ImageContentError(
                "Nothing is shown that is not committed",
                remedy="let the sliders under 'Filter' show more candidates",
            )
        if image is not None:
            session.require_plane()
        if scope == "picked" and not indices and session.picked:
            raise ImageContentError(
                "What is picked is committed already",
                remedy="pick others, or change its labels with 'Merge', 'Split' or 'Delete'",
            )
        if candidates is None or plane is None or image is None or not indices:
            raise ImageContentError(
                "Nothing is picked",
                remedy="click objects with the hover tool, add prompts, or select rows of the table",
            )
        whole = self.whole_objects and bool(session.stack_of(plane))
        caused = indices if scope == "picked" or whole else [index for index in indices if not session.passing[index]]
        return Order(
            image_id=image.unique_id,
            plane=plane,
            candidates=candidates,
            indices=tuple(indices),
            causes=dict(zip(caused, session.causes(caused), strict=True)),
            known=frozenset(session.committed),
            scope=scope,
            overlap=self.overlap,
            chosen_id=self.chosen_id,
            whole=whole,
        )

    def _task(self, order: Order) -> CommitTask:
        """Say which labels the candidates get, as things are now."""
        writer = self._current()
        parts = self._linked_parts(order) if order.whole else self._plain_parts(order)
        if writer is not None:
            read = writer.labels_of
        else:
            shape = order.candidates.masks.image_hw

            def read(plane: Plane) -> NDArray[Any]:
                return np.zeros(shape, NEW_DTYPE)

        return CommitTask(order, parts, read)

    def _plain_parts(self, order: Order) -> tuple[Part, ...]:
        ids = self._ids(len(order.indices), order.chosen_id)
        return (Part(order.plane, order.candidates, order.indices, tuple(ids)),)

    def _linked_parts(self, order: Order) -> tuple[Part, ...]:
        """Find the linked objects of the candidates in all planes of the stack."""
        session = self.session
        objects = self._objects(order)
        label_of = dict(zip(dict.fromkeys(objects), self._ids(len(objects), order.chosen_id), strict=False))
        parts = []
        for plane, linked in session.stack_of(order.plane).items():
            links, candidates = linked.objects, session.pool.get(plane)
            if candidates is None:
                continue
            keep = session.filters.keep(candidates.columns, candidates.conf)
            chosen = [i for i in range(len(links)) if int(links[i]) in label_of and (keep[i] or plane == order.plane)]
            if plane == order.plane:
                chosen += [i for i in order.indices if i >= len(links)]
            if chosen:
                ids = tuple(label_of[object_of(links, i)] for i in chosen)
                parts.append(Part(plane, candidates, tuple(chosen), ids))
        return tuple(parts)

    def _objects(self, order: Order) -> list[int]:
        return [object_of(self.session.links[order.plane].objects, i) for i in order.indices]

    def _plan(self, order: Order) -> None:
        task, writer = self._task(order), self._current()
        version = 0 if writer is None else writer.version

        def on_planned(planned: Planned) -> None:
            with notices():
                if reason := self._void(task, writer):
                    warn(f"Nothing was committed: {reason}. Remedy: commit again.")
                elif self._current() is not writer or (writer is not None and writer.version != version):
                    self._plan_again(order)
                else:
                    self._write_planned(task, planned)

        self.planning.start(task, on_planned)

    def _plan_again(self, order: Order) -> None:
        """Plan anew, with the labels as they are now and without candidates that were committed meanwhile."""
        done = set(self.session.committed_on(order.plane)) - order.known
        places = [k for k, index in enumerate(order.indices) if index not in done]
        if places:
            indices = tuple(order.indices[k] for k in places)
            causes = {index: cause for index, cause in order.causes.items() if index in indices}
            self._plan(replace(order, indices=indices, causes=causes))

    def _void(self, task: CommitTask, writer: LabelWriter | None) -> str:
        """Return why a plan is worth nothing any more; "" if it can be written, or made again."""
        session = self.session
        if session.image is None or session.image.unique_id != task.order.image_id:
            return "another image was chosen while it was planned"
        if writer is not None and (self._writer is not writer or not contains(session.viewer, writer.layer)):
            return f"'{writer.layer.name}' was removed, or another target chosen, while it was planned"
        for part in task.parts:
            now = session.pool.get(part.plane)
            if now is None or not (now is part.candidates or now.begins_with(part.candidates)):
                return "the candidates changed while it was planned"
        return ""

    def _write_planned(self, task: CommitTask, planned: Planned) -> int:
        session, order = self.session, task.order
        marks = tuple(piece.marked() for piece in planned.parts)
        if not any(mark.labels for mark in marks):
            found = sorted({label for piece in planned.parts for label in piece.edit.conflicts})
            raise ImageContentError(
                "Nothing was committed",
                actual=f"what was asked for lies on label {', '.join(map(str, found[:4]))}{' …' if found[4:] else ''}",
                remedy="choose another rule under 'Overlap'",
            )
        writer = self._require_target()
        changed = writer.write([(piece.part.plane, piece.edit) for piece in planned.parts], order.image_id, marks)
        facts: dict[str, object] = {"plane": order.plane, "rle": planned.rle, "overlap": order.overlap}
        facts["target"] = self._name_of(writer)
        if order.whole:
            pairs = [(i, label) for part in task.parts for i, label in zip(self._links(part), part.ids, strict=True)]
            label_of, objects = dict(pairs), self._objects(order)
            facts["labels"] = [label_of[n] for n in objects if n in label_of]
            facts["stack_axis"] = session.links[order.plane].axis
            facts["places"] = self._places(order.plane)
            facts["parts"] = [(piece.part.plane, piece.rle, piece.edit.labels) for piece in planned.parts]
            count = len(set(objects))
        else:
            facts |= {"labels": list(planned.parts[0].edit.labels), "scope": order.scope}
            count = len(marks[0].labels)
        if order.causes:
            facts["causes"] = list(order.causes.values())
        if order.whole:
            self._warn_of_dropped(order.plane)
        if changed:  # or there is no step to undo, and the journal must not have one either
            self.written.emit("commit", planned.masks, facts)
        for mark in marks:
            session.mark_committed(order.image_id, mark.plane, mark.labels, writer.layer.unique_id)
        return count

    def _places(self, plane: Plane) -> list[int]:
        """Return where along its axis a stack could be written: the planes whose candidates are there."""
        axis, stack, kept = self.session.links[plane].axis, self.session.stack_of(plane), set(self.session.pool)
        return [place for there in stack if there in kept and (place := there.index[axis]) is not None]

    def _warn_of_dropped(self, plane: Plane) -> None:
        """Say in how many planes of a stack objects could not be written, as their candidates are there no more."""
        stack, kept = self.session.stack_of(plane), set(self.session.pool)
        if dropped := len(stack) - len(kept & set(stack)):
            warn(
                f"Nothing was written in {dropped} of the stack's {len(stack)} planes: their candidates had to go, "
                "as memory was short. Remedy: raise the memory for candidates in the preferences and segment the stack "
                "again."
            )

    def _links(self, part: Part) -> list[int]:
        return [object_of(self.session.links[part.plane].objects, i) for i in part.indices]

    # ---- edits --------------------------------------------------------------------------------------------------

    def _edit(self, name: str, indices: Sequence[int], plan: Callable[[NDArray[Any], Masks], Edit]) -> None:
        with notices():
            candidates, plane = self.session.candidates, self.session.require_plane()
            if candidates is None or not indices:
                raise ImageContentError(
                    "Nothing is picked", remedy="pick the candidates that lie on the labels you mean, then try again"
                )
            writer, masks = self._current(), candidates.masks[list(indices)]
            labels = np.zeros(masks.image_hw, NEW_DTYPE) if writer is None else writer.labels_of(plane)
            edit = plan(labels, masks)  # raises where there is nothing to change
            writer = writer or self._require_target()
            if writer.write([(plane, edit)], self.session.image_id):
                facts = {"labels": list(edit.labels), "causes": self.session.causes(indices)}
                facts["target"] = self._name_of(writer)
                self.written.emit(name, masks, facts)
            self.session.look_again()

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
        return self._require_target().labels_of(plane)

    def continue_target(self, name: str | None) -> None:
        """Go on in a new layer with the Labels layer that a journal calls by this name, None for one without."""
        self.set_target(None)
        writer = self._require_target(name)
        if name is None:
            return
        for layer_id in [other for other, known in self._names.items() if known == name]:
            self._names[layer_id] = self._free_name(name)
        self._names[writer.layer.unique_id] = name

    def write_edits(self, parts: Sequence[tuple[Plane, Edit]], marks: tuple[Marked, ...]) -> None:
        """Write prepared edits of planes as one step (the journal's), and remember what they commit."""
        writer, session = self._require_target(), self.session
        writer.write(parts, session.image_id, marks)
        for mark in marks:
            session.mark_former(session.image_id, mark, writer.layer.unique_id)

    # ---- undo ---------------------------------------------------------------------------------------------------

    def undo(self) -> None:
        """Undo the last step of the target's history, be it a commit or a stroke of the user's brush."""
        if self._writer is not None:
            self._retrace(self._writer, "undo")

    def redo(self) -> None:
        """Do again what was undone last."""
        if self._writer is not None:
            self._retrace(self._writer, "redo")

    def _retrace(self, writer: LabelWriter, what: Literal["undo", "redo"]) -> None:
        """Undo or redo a step of a layer; if it is one of ours, its candidates are available again, or no longer."""
        if not contains(self.session.viewer, writer.layer):
            return
        step = None
        with notices():
            step = writer.retrace(what)
        if step is None:
            self.session.look_again()
            return
        mark_or_not = self.session.unmark_committed if what == "undo" else self.session.mark_committed
        for mark in step.marks:
            again = self.session.found_again(step.image_id, mark)
            mark_or_not(step.image_id, mark.plane, again, writer.layer.unique_id)
        self.session.look_again()
        self.undone.emit(what, step.image_id, self._name_of(writer))
