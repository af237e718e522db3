"""What a commit is to write and how that is planned: in the window's thread when it is small, else in a worker."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

from fastsam_core.label_edits import Edit, Overlap, commit_steps, without_gaps
from napari_fastsam.models.candidates import Marked
from napari_fastsam.models.inference import Failed

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Hashable, Iterator, Mapping

    from numpy.typing import NDArray

    from fastsam_core.masks import Masks
    from napari_fastsam._convert import Plane
    from napari_fastsam.models.candidates import Candidates

__all__ = ["CommitTask", "Order", "Part", "Planned", "PlannedPart", "Scope", "plan_in_worker", "plan_steps"]

Scope = Literal["picked", "shown"]
"""What a commit takes: what is picked, or everything that is shown."""


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """What the user asked to commit, and how, at that moment.

    Attributes
    ----------
    image_id : hashable
        The image layer.
    plane : Plane
    candidates : Candidates
        Of the plane.
    indices : tuple of int
        Which of them.
    causes : mapping of int to dict
        What picked each of them, for the journal; when everything shown is committed, of those that the filters hide.
    known : frozenset of int
        Candidates of the plane that were committed already.
    scope : {"picked", "shown"}
    overlap : {"keep", "steal", "fill"}
    chosen_id : int or None
        The label of all of them; None numbers them.
    whole : bool
        Write linked objects in all planes of the stack.
    """

    image_id: Hashable
    plane: Plane
    candidates: Candidates
    indices: tuple[int, ...]
    causes: Mapping[int, dict[str, object]]
    known: frozenset[int]
    scope: Scope
    overlap: Overlap
    chosen_id: int | None
    whole: bool


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Candidates of one plane and the labels they are to get."""

    plane: Plane
    candidates: Candidates
    indices: tuple[int, ...]
    ids: tuple[int, ...]

    @property
    def area_px(self) -> int:
        """Pixels of all of them."""
        return int(self.candidates.masks.areas_px[list(self.indices)].sum())

    def masks(self) -> Masks:
        """Return their masks."""
        return self.candidates.masks[list(self.indices)]


@dataclass(frozen=True, slots=True, eq=False)
class CommitTask:
    """What is to be planned; holds arrays, not layers.

    Attributes
    ----------
    order : Order
    parts : tuple of Part
        One a plane.
    read : callable
        Returns the labels of a plane as they are now.
    stop : Event
        Set it, and planning ends soon.
    """

    order: Order
    parts: tuple[Part, ...]
    read: Callable[[Plane], NDArray[Any]]
    stop: Event = field(default_factory=Event)

    @property
    def area_px(self) -> int:
        """Pixels of all candidates."""
        return sum(part.area_px for part in self.parts)


@dataclass(frozen=True, slots=True, eq=False)
class PlannedPart:
    """What becomes of a plane; `rle` is its masks as the journal takes them."""

    part: Part
    edit: Edit
    rle: list[dict[str, Any]]

    def marked(self) -> Marked:
        """Return the candidates and the labels they get, without those left out."""
        labels = {i: label for i, label in zip(self.part.indices, self.edit.labels, strict=True) if label}
        return Marked.of(self.part.plane, self.part.candidates, labels)


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """What :func:`plan_steps` leads to; `masks` are those the user asked for, `rle` the same for the journal."""

    masks: Masks
    rle: list[dict[str, Any]]
    parts: tuple[PlannedPart, ...]


def plan_steps(task: CommitTask) -> Generator[float, None, Planned]:
    """Plan a commit, and encode it for the journal, step by step; each step yields the share that is done."""
    order = task.order
    asked = Part(order.plane, order.candidates, order.indices, ()).masks()
    rle = asked.to_rle()
    planned = []
    for number, part in enumerate(task.parts):
        same = part.candidates is order.candidates and part.indices == order.indices
        masks = asked if same else part.masks()
        steps = commit_steps(task.read(part.plane), masks, part.ids, order.overlap)
        edit = yield from _scaled(steps, number, len(task.parts))
        if order.chosen_id is None and not order.whole:
            edit = without_gaps(edit)
        planned.append(PlannedPart(part, edit, rle if same else masks.to_rle()))
    return Planned(asked, rle, tuple(planned))


def _scaled(steps: Generator[float, None, Edit], done: int, total: int) -> Generator[float, None, Edit]:
    while True:
        try:
            share = next(steps)
        except StopIteration as end:
            edit: Edit = end.value
            return edit
        yield (done + share) / total


def plan_in_worker(task: CommitTask) -> Iterator[float | Planned | Failed]:
    """Plan until it is done or stopped; the plan, or what went wrong, comes last."""
    result: list[Planned] = []

    def steps() -> Generator[float, None, None]:
        result.append((yield from plan_steps(task)))

    try:
        with closing(steps()) as shares:
            for share in shares:
                if task.stop.is_set():
                    return
                yield share
    except Exception as error:  # noqa: BLE001 (whatever a lazy array raises becomes a notice)
        yield Failed(error)
        return
    yield result[0]
