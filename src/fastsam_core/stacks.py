"""Link masks of consecutive planes (z or t) into objects, by overlap."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import TYPE_CHECKING

import numpy as np

from fastsam_core.errors import InvalidMasksError, InvalidParameterError
from fastsam_core.masks import Masks

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["StackLinker", "object_of"]


def object_of(links: NDArray[np.int64], index: int) -> int:
    """Return the object of a mask of a plane; masks behind the linked ones are objects of their own, below 0."""
    return int(links[index]) if index < len(links) else -1 - index


@dataclass(slots=True)
class StackLinker:
    """Give masks of one plane after the other ids that stay with the object.

    Each mask continues the object whose last mask it overlaps most, the pairs of highest IoU first; each object
    continues in at most one mask of a plane. This is how Cellpose stitches planes (``stitch_threshold``; Stringer
    et al. 2021, doi:10.1038/s41592-020-01018-x), but with pairs chosen greedily over the whole plane, so that two
    masks never get one id, and with gaps allowed.

    Parameters
    ----------
    min_iou : float in (0, 1]
        Masks that overlap less are different objects.
    max_gap : int
        Planes an object may miss and still go on.

    Raises
    ------
    InvalidParameterError
        A value is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from fastsam_core import Masks
    >>> one, two = np.zeros((2, 4, 4), bool)
    >>> one[:2, :2] = two[2:, 2:] = True
    >>> linker = StackLinker()
    >>> linker.add(Masks.from_dense([one, two])), linker.add(Masks.from_dense([two]))
    (array([1, 2]), array([2]))
    """

    min_iou: float = 0.25
    max_gap: int = 1
    _planes: list[tuple[Masks, NDArray[np.int64]]] = field(default_factory=list, repr=False)
    _last_id: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        numbers = isinstance(self.min_iou, Real) and isinstance(self.max_gap, Integral)
        if not numbers or not 0 < self.min_iou <= 1 or self.max_gap < 0:
            raise InvalidParameterError(
                "min_iou or max_gap is out of range",
                expected="0 < min_iou <= 1 and a whole number max_gap >= 0",
                actual=f"min_iou {self.min_iou!r}, max_gap {self.max_gap!r}",
            )

    def add(self, masks: Masks) -> NDArray[np.int64]:
        """Link the masks of the next plane.

        Parameters
        ----------
        masks : Masks
            N masks, of an image as large as those before.

        Returns
        -------
        ndarray of int64, shape (N,)
            The object of each mask, from 1.

        Raises
        ------
        InvalidMasksError
            These are no masks, or those of an image of another size.
        """
        if not isinstance(masks, Masks):
            raise InvalidMasksError(
                "These are no masks to link",
                expected="Masks, as FastSAM.segment returns them",
                actual=f"an object of type {type(masks).__name__}",
            )
        if self._planes and masks.image_hw != self._planes[-1][0].image_hw:
            raise InvalidMasksError(
                "Planes of different sizes cannot be linked",
                expected=str(self._planes[-1][0].image_hw),
                actual=str(masks.image_hw),
                remedy="use a linker for each stack",
            )
        ids = np.zeros(len(masks), np.int64)
        used: set[int] = set()
        for previous, previous_ids in reversed(self._planes):
            self._continue(masks, ids, previous, previous_ids, used)
            used.update(previous_ids.tolist())  # where these were before, something else is now
        new = ids == 0
        ids[new] = self._last_id + 1 + np.arange(new.sum())
        self._last_id = max(self._last_id, int(ids.max(initial=0)))
        self._planes = [*self._planes, (masks, ids)][-(self.max_gap + 1) :]
        return ids.copy()

    def _continue(
        self, masks: Masks, ids: NDArray[np.int64], previous: Masks, previous_ids: NDArray[np.int64], used: set[int]
    ) -> None:
        if not len(masks) or not len(previous):
            return
        iou = masks.iou(previous)
        rows, columns = np.nonzero(iou >= self.min_iou)
        for k in np.argsort(-iou[rows, columns], kind="stable"):
            mask, label = int(rows[k]), int(previous_ids[columns[k]])
            if ids[mask] == 0 and label not in used:
                ids[mask] = label
                used.add(label)
