"""Stacks of planes (z or t): segment plane after plane, and link masks that overlap into objects."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from numbers import Integral, Real
from threading import Lock
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from fastsam_core._checks import as_integer
from fastsam_core._defaults import MAX_PIXELS
from fastsam_core._image_contrast import common_limits
from fastsam_core._mask_pixels import label_dtype
from fastsam_core.errors import (
    FastSAMError,
    ImageContentError,
    ImageReadError,
    ImageTooLargeError,
    InvalidMasksError,
    InvalidParameterError,
)
from fastsam_core.images import Image, Planes, open_planes
from fastsam_core.masks import Masks, check_masks
from fastsam_core.pipeline import iter_segment

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from fastsam_core._image_colour import Channels
    from fastsam_core._image_contrast import Contrast
    from fastsam_core.model import FastSAM
    from fastsam_core.pipeline import Step

_Error = TypeVar("_Error", bound=FastSAMError)

__all__ = ["LinkedStack", "PlaneStep", "StackLinker", "object_of", "segment_stack"]

_NO_STACK_AXES = "YXSC"
_SAMPLED_PLANES = 8
"""Planes, spread evenly, that decide what is black and white in all of them."""

_PAIRS = 2**20
"""Pairs of masks that are compared at once."""

_LARGE_PLANES = (
    "planes of stacks are read as a whole: choose a smaller level= of a pyramid (--level); or, if you trust the file "
    "and have the memory, raise max_pixels= (--max-pixels)"
)


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
        check_masks(masks, "link")
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
        rows, columns, overlap = self._pairs(masks, previous)
        for k in np.argsort(-overlap, kind="stable"):
            mask, label = int(rows[k]), int(previous_ids[columns[k]])
            if ids[mask] == 0 and label not in used:
                ids[mask] = label
                used.add(label)

    def _pairs(self, masks: Masks, previous: Masks) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return which masks overlap enough, and by how much; not all pairs are in memory at once."""
        found = []
        some = max(1, _PAIRS // len(previous))
        for first in range(0, len(masks), some):
            iou = masks[first : first + some].iou(previous)
            rows, columns = np.nonzero(iou >= self.min_iou)
            found.append((rows + first, columns, iou[rows, columns]))
        rows, columns, overlap = (np.concatenate(part) for part in zip(*found, strict=True))
        return rows, columns, overlap


@dataclass(frozen=True, slots=True, eq=False)
class LinkedStack:
    """The masks of all planes of a stack, and the objects they belong to.

    Parameters
    ----------
    axis : str
        The letter of the stack's axis.
    planes : tuple of Masks
        The masks of each plane.
    objects : tuple of ndarray of int64
        The object, from 1, of each mask of each plane.
    """

    axis: str
    planes: tuple[Masks, ...]
    objects: tuple[NDArray[np.int64], ...]

    @classmethod
    def of(cls, steps: Iterable[PlaneStep]) -> Self:
        """Keep the masks of all steps of `segment_stack`, without the images.

        Raises
        ------
        InvalidParameterError
            There is no step.
        """
        axis, planes, objects = "", [], []
        for step in steps:
            axis = step.axis
            planes.append(step.masks)
            objects.append(step.objects)
        if not planes:
            raise InvalidParameterError("There is no plane", expected="the steps of segment_stack", actual="none")
        return cls(axis, tuple(planes), tuple(objects))

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(np.unique(np.concatenate(self.objects)))

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width of the planes in pixels."""
        return self.planes[0].image_hw

    def seen_in(self, min_planes: int) -> Self:
        """Return the objects that at least ``min_planes`` planes show, numbered anew from 1.

        What only one or two planes show is often noise, or the blurred cap of something else.

        Raises
        ------
        InvalidParameterError
            The number of planes is below 1.
        """
        least = as_integer("min_planes", min_planes, 1)
        names, counts = np.unique(np.concatenate(self.objects), return_counts=True)
        number = np.zeros(int(names.max(initial=0)) + 1, np.int64)
        kept = names[counts >= least]
        number[kept] = np.arange(1, len(kept) + 1)
        chosen = [number[objects] > 0 for objects in self.objects]
        return replace(
            self,
            planes=tuple(masks[which] for masks, which in zip(self.planes, chosen, strict=True)),
            objects=tuple(number[objects[which]] for objects, which in zip(self.objects, chosen, strict=True)),
        )

    @property
    def label_dtype(self) -> np.dtype[Any]:
        """The type of the label maps: uint16, or uint32 when an object's number needs it."""
        return label_dtype(max(int(objects.max(initial=0)) for objects in self.objects))

    def iter_label_maps(self) -> Iterator[NDArray[Any]]:
        """Yield the label map of each plane, (H, W), with objects as values; smaller masks on top."""
        dtype = self.label_dtype
        for masks, objects in zip(self.planes, self.objects, strict=True):
            yield masks.to_label_map(objects).astype(dtype, copy=False)

    def to_label_maps(self) -> NDArray[Any]:
        """Return the label maps of all planes, (planes, H, W)."""
        return np.stack(list(self.iter_label_maps()))


@dataclass(frozen=True, slots=True, eq=False)
class PlaneStep:
    """One plane of a stack.

    Parameters
    ----------
    index : int
        Number of the plane, from 0.
    count : int
        Number of planes in all.
    axis : str
        The letter of the stack's axis.
    masks : Masks
        N masks of this plane, best first.
    objects : ndarray of int64, shape (N,)
        The object that each mask belongs to, from 1, the same in all planes.
    image : Image
        The plane as the network saw it; black where it could not be read.
    seconds : float
        Reading, network and masks, without waiting.
    error : FastSAMError or None
        Why a plane that was skipped could not be read; it has no masks.
    """

    index: int
    count: int
    axis: str
    masks: Masks
    objects: NDArray[np.int64]
    image: Image
    seconds: float
    error: FastSAMError | None = None


def segment_stack(
    source: object,
    model: FastSAM,
    *,
    axis: str | None = None,
    plane: Mapping[str, int] | None = None,
    channels: Channels | None = None,
    axes: str | None = None,
    contrast: Contrast | None = None,
    level: int = 0,
    series: int = 0,
    max_pixels: int | None = MAX_PIXELS,
    min_iou: float = 0.25,
    max_gap: int = 1,
    skip_unreadable: bool = False,
    prefetch: int = 1,
    **search: Any,
) -> Generator[PlaneStep, None, None]:
    """Segment a stack plane by plane, and link what overlaps in neighbouring planes.

    Parameters
    ----------
    source : path or array
        A stack that `fastsam_core.read_image` takes; one plane is in memory at a time.
    model : FastSAM
        The model.
    axis : str, optional
        The letter of the axis to go along, such as ``"Z"`` or ``"T"``; the longest one where left out.
    plane : mapping from axis letter to int, optional
        Where to stay along further axes; 0 where left out.
    channels, axes, level, series
        As in `fastsam_core.read_image`.
    contrast : pair of float, one pair for each channel, or "percentile", optional
        The values that become black and white. By default the same for all planes, found as `read_image` finds them on
        eight of them (constant ones do not count), so that what is dim stays dim; ``"percentile"`` gives each plane its
        own.
    max_pixels : int or None
        Limit for a plane of files and lazy arrays; None lifts it.
    min_iou, max_gap
        As in `StackLinker`.
    skip_unreadable : bool
        Give planes that cannot be read as steps with an ``error`` and no masks, instead of raising it. Objects go on
        behind as many of them as ``max_gap`` says.
    prefetch : int
        Planes to read ahead.
    **search
        ``conf``, ``iou``, ``max_det``, ``imgsz``, ``stability``, ``tile_px`` … as in `FastSAM.segment`.

    Yields
    ------
    PlaneStep
        In the order of the planes.

    Raises
    ------
    InvalidParameterError
        If a setting is out of range or the model is none.
    ImageContentError
        If there are no planes along this axis, or channels, axes or contrast do not fit.
    ImageReadError, ImageNotFoundError, ImageTooLargeError, UnsupportedImageError
        If a plane cannot be read.

    Examples
    --------
    >>> stack = LinkedStack.of(segment_stack("embryo.tif", model, axis="Z"))  # doctest: +SKIP
    >>> volume = stack.seen_in(3).to_label_maps()  # doctest: +SKIP
    """
    linker = StackLinker(min_iou=min_iou, max_gap=max_gap)
    fixed = {str(name).upper(): index for name, index in (plane or {}).items()}
    reading: dict[str, Any] = {"channels": channels, "axes": axes, "level": level}
    reading |= {"series": series, "max_pixels": max_pixels}
    with open_planes(source, **reading) as opened:
        if opened.opened.sizes_differ:
            raise ImageContentError(
                "The pages differ in size, so that they are no stack",
                expected="planes of one size",
                actual=f"axes {''.join(opened.sizes)} in several sizes",
                remedy="segment them one by one: series=0, 1, … (fastsam segment --series all)",
            )
        along, count = _stack_axis(opened.sizes, axis, fixed)
        planes = [{**fixed, along: index} for index in range(count)]
        limits, image_hw = _look_at_some(opened, planes, along, contrast, skip_unreadable)
    if contrast is None:
        contrast = common_limits(limits)
    planes_of = _OpenedOnce(partial(open_planes, source, **reading), contrast)
    steps = iter_segment(planes, model, prefetch=prefetch, reader=planes_of.read, **search)
    black = np.zeros((*image_hw, 3), np.uint8) if skip_unreadable else None
    return _plane_steps(steps, planes_of, linker, along, count, black)


def _look_at_some(
    opened: Planes, planes: Sequence[Mapping[str, int]], axis: str, contrast: Contrast | None, skip_unreadable: bool
) -> tuple[list[Any], tuple[int, int]]:
    """Return the contrast limits of planes that decide on them, or of one if they are decided, and the planes' size."""
    chosen = np.linspace(0, len(planes) - 1, _SAMPLED_PLANES).round().astype(int)
    limits: list[Any] = []
    image_hw = 0, 0
    unreadable: list[ImageReadError] = []
    for index in np.unique(chosen).tolist():
        try:
            image = opened.read(planes[index], contrast)
            limits.append(image.recipe["contrast_limits"])
            image_hw = image.image_hw
            del image  # not two of them at a time
        except ImageTooLargeError as error:
            words = {"expected": error.expected, "actual": error.actual, "remedy": _LARGE_PLANES}
            raise ImageTooLargeError(error.problem, **words) from error
        except ImageReadError as error:
            unreadable.append(_of_plane(error, axis, index))
            if not skip_unreadable:
                raise unreadable[0] from error
        if limits and contrast is not None:
            break
    if not limits:
        raise unreadable[0]
    return limits, image_hw


def _of_plane(error: _Error, axis: str, index: int) -> _Error:
    """Return an error that says which plane it is of."""
    words = {"expected": error.expected, "actual": error.actual, "remedy": error.remedy}
    return type(error)(f"{axis} = {index}: {error.problem}", **words)


class _OpenedOnce:
    """Read planes one at a time from a source that stays open: to find the pages of a long TIFF file takes time."""

    def __init__(self, opening: Callable[[], AbstractContextManager[Planes]], contrast: Contrast | None) -> None:
        self._opening, self._contrast = opening, contrast
        self._exit, self._lock = ExitStack(), Lock()
        self._opened: Planes | None = None

    def read(self, at: Any) -> Image:
        """Read a plane."""
        with self._lock:
            if self._opened is None:
                self._opened = self._exit.enter_context(self._opening())
            return self._opened.read(at, self._contrast)

    def close(self) -> None:
        """Close the source."""
        self._exit.close()


def _plane_steps(
    steps: Generator[Step, None, None],
    planes_of: _OpenedOnce,
    linker: StackLinker,
    axis: str,
    count: int,
    black: NDArray[np.uint8] | None,
) -> Generator[PlaneStep, None, None]:
    """Link what the steps found; planes that cannot be read are `black` if that is given, and errors otherwise."""
    with closing(planes_of), closing(steps):
        for step in steps:
            image, masks, error = step.image, step.masks, None
            if masks is None or image is None:
                error = _of_plane(step.error or ImageReadError("It gave no masks"), axis, step.index)
                if black is None or not isinstance(error, ImageReadError):
                    raise error from step.error
                image = Image(black, str(step.source), {})
                masks = Masks.empty(image.image_hw)
            objects = linker.add(masks)
            yield PlaneStep(step.index, count, axis, masks, objects, image, step.seconds, error)


def _stack_axis(sizes: Mapping[str, int], wanted: str | None, fixed: Mapping[str, int]) -> tuple[str, int]:
    """Return the axis to go along and its length."""
    stack = {name: size for name, size in sizes.items() if name not in (*_NO_STACK_AXES, *fixed) and size > 1}
    along = max(stack, key=stack.__getitem__, default=None) if wanted is None else str(wanted).upper()
    if along not in stack:
        raise ImageContentError(
            "There is no stack of planes" + ("" if wanted is None else f" along {along}"),
            expected="an axis of several planes"
            + (f": {', '.join(f'{name} has {size}' for name, size in stack.items())}" if stack else ""),
            actual=f"axes {''.join(sizes)}, shape {list(sizes.values())}",
            remedy="name the axes, such as ZYX; a single plane is segmented by itself",
        )
    return along, stack[along]
