"""Which candidates were committed into which labels, and whether those are still there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastsam_core.label_edits import as_compiled
from napari_fastsam.models._kernels import labels_under

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

    from numpy.typing import NDArray

    from fastsam_core.masks import Masks
    from napari_fastsam._convert import Plane

__all__ = ["Marks", "pixels_under"]


class _Mark(NamedTuple):
    """The label that a candidate became, and how many pixels of the candidate had it, or another one, then."""

    label: int
    own_px: int
    others_px: int

    @property
    def least_px(self) -> float:
        """Labelled pixels from which on the label was renamed or merged with others; with fewer it was erased."""
        return max(1, self.others_px + self.own_px / 2 if self.own_px else self.others_px / 2)


@dataclass(slots=True)
class _OfLayer:
    """The marks of a plane's candidates in one Labels layer; each candidate's last one counts."""

    marks: dict[int, list[_Mark]] = field(default_factory=dict)
    there: tuple[int, dict[int, int]] | None = None
    """What was there last, and the version of the labels then."""


class Marks:
    """Committed candidates by image, plane and Labels layer.

    A candidate is no longer committed when its label was erased under it, and is again when the label comes back; one
    whose label was merged with another or renamed stays committed.
    """

    def __init__(self) -> None:
        self.look: Callable[[Hashable, Plane], tuple[int, NDArray[Any]] | None] = lambda target_id, plane: None
        """Returns the labels of a plane in a Labels layer, and a number that is another one when they may be others."""
        self._known: dict[tuple[Hashable, Plane], dict[Hashable, _OfLayer]] = {}

    def add(
        self, image_id: Hashable, plane: Plane, masks: Masks | None, labels: Mapping[int, int], target_id: Hashable
    ) -> None:
        """Remember which candidates (of these masks) became which labels."""
        held = self._known.setdefault((image_id, plane), {}).setdefault(target_id, _OfLayer())
        looked = self.look(target_id, plane)
        pixels = np.ones((2, len(labels)), np.int64)
        if looked is not None and masks is not None and looked[1].shape == masks.image_hw:
            own, labelled, _ = pixels_under(looked[1], masks, list(labels), list(labels.values()))
            pixels = np.stack([own, labelled - own])
        for (index, label), own_px, others_px in zip(labels.items(), *pixels.tolist(), strict=True):
            held.marks.setdefault(index, []).append(_Mark(label, own_px, others_px))
        held.there = None

    def remove(self, image_id: Hashable, plane: Plane, indices: Iterable[int], target_id: Hashable) -> None:
        """Forget what these candidates became last: their commit was undone."""
        held = self._known.get((image_id, plane), {}).get(target_id, _OfLayer())
        for index in indices:
            if marks := held.marks.pop(index, [])[:-1]:
                held.marks[index] = marks
        held.there = None

    def there(self, image_id: Hashable, plane: Plane, masks: Masks | None) -> dict[int, int]:
        """Return which candidates are committed, and the labels that lie there now."""
        found: dict[int, int] = {}
        for target_id, held in self._known.get((image_id, plane), {}).items():
            found |= self._there(held, masks, self.look(target_id, plane) if held.marks else None)
        return found

    def _there(self, held: _OfLayer, masks: Masks | None, looked: tuple[int, NDArray[Any]] | None) -> dict[int, int]:
        last = {index: marks[-1] for index, marks in held.marks.items()}
        if looked is None or masks is None:
            return {index: mark.label for index, mark in last.items()}
        version, labels = looked
        if held.there is None or held.there[0] != version:
            here: dict[int, int] = {}
            if labels.shape == masks.image_hw:
                own, labelled, mostly = pixels_under(labels, masks, list(last), [mark.label for mark in last.values()])
                here = {
                    index: mark.label if own_px else most
                    for (index, mark), own_px, px, most in zip(
                        last.items(), own.tolist(), labelled.tolist(), mostly.tolist(), strict=True
                    )
                    if own_px or px >= mark.least_px
                }
            held.there = version, here
        return held.there[1]

    # ---- other candidates, layers and images --------------------------------------------------------------------

    def indices(self, image_id: Hashable, plane: Plane) -> set[int]:
        """Return all candidates of a plane that were committed, their labels there or not."""
        return {index for held in self._known.get((image_id, plane), {}).values() for index in held.marks}

    def move(self, image_id: Hashable, plane: Plane, places: Mapping[int, int]) -> None:
        """Give candidates other numbers; those without one are forgotten."""
        for held in self._known.get((image_id, plane), {}).values():
            held.marks = {places[index]: marks for index, marks in held.marks.items() if index in places}
            held.there = None

    def forget(self, image_id: Hashable) -> None:
        """Forget all planes of an image."""
        for key in [key for key in self._known if key[0] == image_id]:
            self._known.pop(key)

    def forget_layer(self, target_id: Hashable) -> bool:
        """Forget what was committed into a Labels layer; tell whether there was anything."""
        held = [known.pop(target_id, None) for known in self._known.values()]
        return any(one is not None and one.marks for one in held)


def pixels_under(
    plane: NDArray[Any], masks: Masks, indices: list[int], labels: list[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return, of each of these masks, pixels of its label, pixels of any label, and a label that most of them have."""
    chosen, ids = np.array(indices, np.int64), np.array(labels, np.int64)
    plane = as_compiled(plane, masks.extents_xyxy[chosen[chosen < len(masks)]])
    own, labelled, mostly = labels_under(plane, masks.runs, masks.offsets, chosen, ids)
    return own, labelled, mostly
