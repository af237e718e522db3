"""Candidates: everything the network found on a plane, measured once, kept for every plane that was segmented."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fastsam_core._parts import is_sure, new_among
from fastsam_core.candidates import measure_columns
from fastsam_core.masks import Masks
from napari_fastsam.models._kernels import outline_pixels

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_fastsam._convert import Plane

__all__ = ["CandidatePool", "Candidates", "Marked", "Outlines"]

_OUTLINE_SIDE_PX = 2048
"""Outlines of larger planes are drawn at reduced resolution, so that drawing them stays light."""

_TOGETHER = 64
"""So many masks, from the top of the plane down, are compared at once with those near them."""

_FEW = 0.02
"""Share of the candidates up to which borders are painted one by one."""


@dataclass(frozen=True, slots=True, eq=False)
class Outlines:
    """Border pixels of all candidates, ready to be painted into one small image.

    Attributes
    ----------
    image_hw : tuple of int
        Size of that image.
    step : int
        How many pixels of the plane one of its pixels is wide.
    pixels : int64 ndarray
        Flat indices; candidate ``i`` owns ``pixels[starts[i]:starts[i + 1]]``.
    starts : int64 ndarray of shape (N + 1,)
    """

    image_hw: tuple[int, int]
    step: int
    pixels: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, masks: Masks) -> Self:
        """Trace the borders of all masks."""
        height, width = masks.image_hw
        step = -(-max(height, width) // _OUTLINE_SIDE_PX)
        reduced = (-(-height // step), -(-width // step))
        pixels, starts = outline_pixels(masks.runs, masks.offsets, masks.extents_xyxy, step, reduced[1])
        return cls(reduced, step, pixels, starts)

    def joined(self, other: Outlines) -> Outlines:
        """Return the outlines of both, for the same plane."""
        starts = np.concatenate([self.starts, other.starts[1:] + self.starts[-1]])
        return Outlines(self.image_hw, self.step, np.concatenate([self.pixels, other.pixels]), starts)

    def paint(self, out: NDArray[np.uint8], chosen: NDArray[np.bool_], value: int) -> None:
        """Set the borders of the chosen candidates in `out` (of size `image_hw`) to `value`."""
        flat, places = out.reshape(-1), np.flatnonzero(chosen)
        if len(places) > _FEW * len(chosen):
            flat[self.pixels[np.repeat(chosen, np.diff(self.starts))]] = value
            return
        for i in places:
            flat[self.pixels[self.starts[i] : self.starts[i + 1]]] = value


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The candidates of one plane, with what is measured of each.

    Attributes
    ----------
    masks : Masks
        In pixels of the whole plane.
    columns : mapping of str to ndarray of length N
        ``confidence`` (0 to 1), ``area_px``, ``solidity`` (0 to 1), ``intensity`` (mean of the image's own values),
        ``y``, ``x`` (centre of the box, pixels).
    outlines : Outlines
    conf : float
        Candidates of less confidence are faint: prompts choose among them, too, but they are not shown unasked.
    lineage : object
        The same for candidates that were :meth:`extended` and what became of them.
    """

    masks: Masks
    columns: Mapping[str, NDArray[np.float64]]
    outlines: Outlines
    conf: float = 0.0
    lineage: object = field(default_factory=object)

    @classmethod
    def measure(
        cls,
        masks: Masks,
        values: NDArray[Any] | None = None,
        offset_yx: tuple[int, int] = (0, 0),
        *,
        conf: float = 0.0,
    ) -> Self:
        """Measure masks.

        Parameters
        ----------
        masks : Masks
            In pixels of the whole plane.
        values : ndarray of shape (h, w), optional
            The image's own values, of the whole plane or a part of it; ``intensity`` is NaN without them.
        offset_yx : tuple of int
            Where `values` begins in the plane.
        conf : float
            See the attribute.
        """
        columns = measure_columns(masks, values, offset_yx)
        return cls(masks, MappingProxyType(columns), Outlines.of(masks), conf)

    @property
    def sure(self) -> NDArray[np.bool_]:
        """Which of the candidates are not faint, bool (N,)."""
        return is_sure(self.masks, self.conf)

    def extended(self, found: Candidates) -> Candidates:
        """Return these candidates and, behind them, those of `found` that are none of them again.

        The places of these candidates stay the same. Faint ones come along only where these say what is faint.
        """
        new = new_among(found.masks, self.masks, self.conf) & (found.sure | (self.conf >= found.conf))
        added = found.masks[new]
        outlines = found.outlines if new.all() else Outlines.of(added)
        columns = {name: np.concatenate([old, found.columns[name][new]]) for name, old in self.columns.items()}
        full = self.masks[self.sure].at_limit or found.masks[found.sure].at_limit
        masks = Masks.concatenate([self.masks, added]).with_metadata(at_limit=full)
        return Candidates(masks, MappingProxyType(columns), self.outlines.joined(outlines), self.conf, self.lineage)

    def begins_with(self, old: Candidates) -> bool:
        """Tell whether all of `old` are among these, at the same places."""
        starts = old.outlines.starts
        return self.lineage is old.lineage and np.array_equal(self.outlines.starts[: len(starts)], starts)

    def places_of(self, old: Masks, indices: Sequence[int], min_iou: float = 0.5) -> dict[int, int]:
        """Return where some masks of `old` are among these, by overlap; those that are not there are left out."""
        wanted = np.array(indices, np.int64)
        boxes, own = old.extents_xyxy[wanted], self.masks.extents_xyxy
        downwards, places = np.argsort(boxes[:, 1]), dict[int, int]()
        for first in range(0, len(wanted), _TOGETHER):
            some = downwards[first : first + _TOGETHER]
            low, high = boxes[some, :2].min(axis=0), boxes[some, 2:].max(axis=0)
            near = np.flatnonzero(((own[:, :2] < high) & (own[:, 2:] > low)).all(axis=1))
            if not len(near):
                continue
            iou = old[wanted[some]].iou(self.masks[near])
            best = iou.argmax(axis=1)
            same = iou.max(axis=1) >= min_iou
            places |= dict(zip(wanted[some[same]].tolist(), near[best[same]].tolist(), strict=True))
        return places

    def __len__(self) -> int:
        """Return the number of candidates."""
        return len(self.masks)

    @property
    def nbytes(self) -> int:
        """Memory taken, bytes."""
        return self.masks.runs.nbytes + self.outlines.pixels.nbytes + 200 * len(self)


@dataclass(frozen=True, slots=True, eq=False)
class Marked:
    """Candidates of a plane and the labels they became, to be found again among what the plane has later.

    Attributes
    ----------
    plane : Plane
    labels : dict of int to int
        By candidate, as they were numbered then.
    masks : Masks
        Theirs, in the same order.
    lineage : object
        See :class:`Candidates`.
    """

    plane: Plane
    labels: dict[int, int]
    masks: Masks
    lineage: object

    @classmethod
    def of(cls, plane: Plane, candidates: Candidates, labels: dict[int, int]) -> Self:
        """Take the masks of what became labels."""
        return cls(plane, labels, candidates.masks[list(labels)], candidates.lineage)

    def among(self, now: Candidates | None) -> dict[int, int]:
        """Return which candidates they are now, and their labels; those that are not there are left out."""
        if now is None or now.lineage is self.lineage:
            return {} if now is None else self.labels
        ids = list(self.labels.values())
        places = now.places_of(self.masks, range(len(ids)))
        return {place: ids[k] for k, place in places.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Linked:
    """How a plane is part of a stack that was segmented whole.

    Attributes
    ----------
    objects : int64 (N,)
        The object that each of its first candidates belongs to; ids count within the stack.
    axis : int
        The data axis that the stack runs along.
    run : int
        Which segmentation it was: planes of one run are one stack.
    """

    objects: NDArray[np.int64]
    axis: int
    run: int


@dataclass(slots=True)
class CandidatePool:
    """Candidates by plane; those of planes unused for longest go when memory is short.

    Parameters
    ----------
    max_bytes : int
        The newest plane stays even when it alone takes more, and one that is being looked at.
    """

    max_bytes: int = 2**30
    _planes: OrderedDict[Plane, Candidates] = field(default_factory=OrderedDict)

    def get(self, plane: Plane | None) -> Candidates | None:
        """Return the candidates of a plane, or None if it was not segmented (or they were dropped)."""
        if plane is None or plane not in self._planes:
            return None
        self._planes.move_to_end(plane)
        return self._planes[plane]

    def put(self, plane: Plane, candidates: Candidates, shown: Plane | None = None) -> None:
        """Keep candidates, and those of the plane that is shown; others go where memory is short."""
        if shown is not None and shown in self._planes:
            self._planes.move_to_end(shown)
        self._planes[plane] = candidates
        self._planes.move_to_end(plane)
        fewest = len({plane, shown} & set(self._planes))
        while len(self._planes) > fewest and sum(c.nbytes for c in self._planes.values()) > self.max_bytes:
            self._planes.popitem(last=False)

    def __iter__(self) -> Iterator[Plane]:
        """Iterate over the planes."""
        return iter(list(self._planes))

    def __len__(self) -> int:
        """Return the number of planes."""
        return len(self._planes)
