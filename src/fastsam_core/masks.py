"""The result of segmentation: many, possibly overlapping masks of one image, kept as rows of runs.

A run is (y, x_start, x_stop). 300 masks of a 3.4-megapixel photo take about 2 MB this way, where a boolean stack
takes 1 GB; areas, overlaps, look-ups by point and label maps are all computed from the runs directly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from numbers import Real
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from fastsam_core import _mask_pixels, _runs
from fastsam_core._checks import as_array, as_integer, as_number, as_pair, as_rows, as_size, described
from fastsam_core._run_parts import in_large_parts
from fastsam_core.errors import InvalidMasksError, InvalidParameterError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

__all__ = ["Masks", "check_masks"]


def _freeze(*arrays: NDArray[Any]) -> None:
    for array in arrays:
        array.setflags(write=False)


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """Instance masks of one image, immutable.

    Masks may overlap and nest; their order is kept by every operation that does not say otherwise. Build one with
    :meth:`from_dense`, :meth:`from_label_map`, :meth:`from_crops`, :meth:`from_coco` or :meth:`load` rather than
    from runs by hand.

    Parameters
    ----------
    image_hw : tuple of int
        Height and width of the image, pixels.
    boxes_xyxy : ndarray of shape (N, 4), float32
        The detector's boxes (x0, y0, x1, y1) in pixels; a mask's own extent is :attr:`extents_xyxy`.
    scores : ndarray of shape (N,), float32
        Confidence in [0, 1].
    runs : ndarray of shape (R, 3), int32
        Rows (y, x_start, x_stop), ``x_stop`` exclusive, sorted inside each mask, neither empty nor touching.
    offsets : ndarray of shape (N + 1,), int64
        Mask ``i`` owns ``runs[offsets[i]:offsets[i + 1]]``; it may own none.
    fields : mapping of str to ndarray of length N, optional
        Further columns, one value a mask (``"prompt_index"``, ``"quality"`` …).
    metadata : mapping, optional
        How the masks were made (JSON-able values).

    Raises
    ------
    InvalidMasksError
        If the arrays do not fit together or a run leaves the image.
    """

    image_hw: tuple[int, int]
    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    runs: NDArray[np.int32]
    offsets: NDArray[np.int64]
    fields: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    metadata: Mapping[str, object] = field(default_factory=dict)
    areas_px: NDArray[np.int64] = field(init=False, repr=False)
    """Pixels of each mask, shape (N,)."""
    extents_xyxy: NDArray[np.int32] = field(init=False, repr=False)
    """Tight half-open box of each mask's pixels, shape (N, 4); zeros for an empty mask."""

    def __post_init__(self) -> None:
        """Bring every array to its dtype, check that they fit together, and make them read-only."""
        height, width = as_size(self.image_hw)
        boxes_xyxy: NDArray[np.float32] = as_rows("boxes_xyxy", self.boxes_xyxy, np.float32, 4)
        scores: NDArray[np.float32] = as_array("scores", self.scores, np.float32).reshape(-1)
        runs: NDArray[np.int32] = as_rows("runs", self.runs, np.int32, 3)
        offsets: NDArray[np.int64] = as_array("offsets", self.offsets, np.int64).reshape(-1)
        for name, mapping in {"fields": self.fields, "metadata": self.metadata}.items():
            if not isinstance(mapping, Mapping):
                raise InvalidMasksError(f"{name} is no mapping", expected="a dict", actual=repr(mapping))
        n = len(offsets) - 1
        if n < 0 or offsets[0] != 0 or offsets[-1] != len(runs) or np.any(np.diff(offsets) < 0):
            raise InvalidMasksError(
                "The offsets of the masks do not divide the runs",
                expected=f"non-decreasing from 0 to {len(runs)}",
                actual=f"{offsets[:1].tolist()} to {offsets[-1:].tolist()}",
            )
        columns = {key: np.asarray(value).view() for key, value in self.fields.items()}
        for name, column in {"boxes_xyxy": boxes_xyxy, "scores": scores, **columns}.items():
            if column.shape[:1] != (n,):
                raise InvalidMasksError(f"Wrong length of {name}", expected=f"{n} masks", actual=_length(column))
        given = boxes_xyxy.view(), scores.view(), runs.view(), offsets.view()
        _freeze(*given, *columns.values())  # before kernels see them, which are compiled anew for others
        bad = _runs.first_bad_run(given[2], given[3], height, width)
        if bad >= 0:
            raise InvalidMasksError(
                f"Run {bad} is out of order or outside the image",
                expected=f"sorted, separate runs inside {height} x {width}",
                actual=f"(y, x_start, x_stop) = {tuple(runs[bad].tolist())}",
                remedy="use Masks.from_dense, from_crops or from_label_map",
            )
        derived = _runs.areas(given[2], given[3]), _runs.extents(given[2], given[3])
        _freeze(*derived)
        self._set((height, width), given, derived, columns, self.metadata)

    def _set(
        self,
        image_hw: tuple[int, int],
        given: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32], NDArray[np.int64]],
        derived: tuple[NDArray[np.int64], NDArray[np.int32]],
        fields: dict[str, NDArray[Any]],
        metadata: Mapping[str, object],
    ) -> None:
        """Store checked and read-only values; ``given``: boxes, scores, runs, offsets, ``derived``: areas, extents."""
        store = object.__setattr__
        store(self, "image_hw", image_hw)
        store(self, "boxes_xyxy", given[0])
        store(self, "scores", given[1])
        store(self, "runs", given[2])
        store(self, "offsets", given[3])
        store(self, "areas_px", derived[0])
        store(self, "extents_xyxy", derived[1])
        store(self, "fields", MappingProxyType(fields))
        store(self, "metadata", metadata if type(metadata) is MappingProxyType else MappingProxyType(dict(metadata)))

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the plain values (read-only mappings cannot be pickled); what is derived is computed anew."""
        plain = (self.image_hw, self.boxes_xyxy, self.scores, self.runs, self.offsets)
        return type(self), (*plain, dict(self.fields), dict(self.metadata))

    # ---- construction -------------------------------------------------------------------------------------------

    @classmethod
    def empty(cls, image_hw: tuple[int, int]) -> Self:
        """Return no masks at all, for an image of the given size."""
        return cls._of_runs(image_hw, np.empty((0, 3), np.int32), np.zeros(1, np.int64))

    @classmethod
    def from_dense(cls, stack: ArrayLike, scores: ArrayLike | None = None) -> Self:
        """Make masks from a boolean stack of shape (N, H, W), or a single mask (H, W)."""
        dense = as_array("The stack", stack).astype(bool, copy=False)
        dense = dense[None] if dense.ndim == 2 else dense
        if dense.ndim != 3:
            raise InvalidMasksError("A stack of masks has three axes", expected="(N, H, W)", actual=str(dense.shape))
        return cls.from_crops(list(dense), np.zeros((len(dense), 2)), (dense.shape[1], dense.shape[2]), scores)

    @classmethod
    def from_crops(
        cls,
        crops: Sequence[ArrayLike],
        origins_yx: ArrayLike,
        image_hw: tuple[int, int],
        scores: ArrayLike | None = None,
        boxes_xyxy: ArrayLike | None = None,
    ) -> Self:
        """Make masks from boolean crops (h, w) whose corners lie at ``origins_yx``; outside parts are cut off."""
        origins = as_rows("origins_yx", origins_yx, np.int64, 2)
        images = _mask_pixels.boolean_images(crops)
        if len(origins) != len(images):
            raise InvalidMasksError("Each crop needs an origin", expected=f"{len(images)}", actual=f"{len(origins)}")
        parts = [_runs.runs_of_mask(crop, int(y), int(x)) for crop, (y, x) in zip(images, origins, strict=True)]
        runs, offsets = _runs.place(*_runs.joined(parts), 0, 0, *as_size(image_hw))
        return cls._of_runs(image_hw, runs, offsets, scores, boxes_xyxy)

    @classmethod
    def from_label_map(cls, labels: ArrayLike, scores: ArrayLike | None = None) -> Self:
        """Make one mask for each id > 0 of a label map (H, W), in ascending order; ids go to ``fields["label"]``."""
        image_hw, ids, runs, offsets = _mask_pixels.runs_of_label_map(labels)
        return cls._of_runs(image_hw, runs, offsets, scores).with_fields(label=ids)

    @classmethod
    def _of_runs(
        cls,
        image_hw: tuple[int, int],
        runs: NDArray[np.int32],
        offsets: NDArray[np.int64],
        scores: ArrayLike | None = None,
        boxes_xyxy: ArrayLike | None = None,
    ) -> Self:
        """Fill in what is not given: a score of 1, and the mask's own extent as box."""
        boxes = _runs.extents(runs, offsets) if boxes_xyxy is None else boxes_xyxy
        ones = np.ones(len(offsets) - 1, np.float32)
        given = ones if scores is None else as_array("scores", scores, np.float32)
        return cls(image_hw, as_array("boxes_xyxy", boxes, np.float32), given, runs, offsets)

    @classmethod
    def from_coco(cls, annotations: Sequence[Mapping[str, Any]], image_hw: tuple[int, int] | None = None) -> Self:
        """Make masks from COCO annotations or bare RLE dicts (polygons, compressed or plain counts) of one image."""
        from fastsam_core import _mask_formats

        return _mask_formats.from_coco(cls, annotations, image_hw)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read masks written by :meth:`save` (``.npz`` or ``.json``)."""
        from fastsam_core import _mask_formats

        return _mask_formats.load(cls, path)

    @classmethod
    def concatenate(cls, parts: Sequence[Masks]) -> Self:
        """Join masks of the same image, in order. Only fields that all parts have are kept; metadata is the first's."""
        given: Any = parts
        parts = list(given) if isinstance(given, Iterable) else []
        if not parts:
            raise InvalidMasksError("Nothing to join", expected="at least one set of masks", remedy="use Masks.empty")
        for part in parts:
            check_masks(part, "join")
        sizes = {part.image_hw for part in parts}
        if len(sizes) > 1:
            raise InvalidMasksError(
                "Masks of different images cannot be joined",
                expected="one image size",
                actual=str(sorted(sizes)),
                remedy="move them into one image with placed() first",
            )
        shared = [key for key in parts[0].fields if all(key in part.fields for part in parts)]
        starts = np.cumsum([0, *(len(part.runs) for part in parts)])
        return cls(
            parts[0].image_hw,
            np.concatenate([part.boxes_xyxy for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.runs for part in parts]),
            np.concatenate([[0], *(part.offsets[1:] + start for part, start in zip(parts, starts, strict=False))]),
            {key: _joined(key, [part.fields[key] for part in parts]) for key in shared},
            parts[0].metadata,
        )

    # ---- operations ---------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of masks."""
        return len(self.offsets) - 1

    @property
    def at_limit(self) -> bool:
        """Whether these are as many as the search was allowed to keep (its ``max_det``), so that there may be more.

        Of what was found in parts, such as tiles: whether one of the searches was (``at_limit`` in the metadata).
        """
        known, most = self.metadata.get("at_limit"), self.metadata.get("max_det")
        if isinstance(known, bool):
            return known
        return isinstance(most, int) and len(self) >= most

    def __repr__(self) -> str:
        """Return a one-line summary."""
        height, width = self.image_hw
        return f"Masks({len(self)} on {height} x {width} px, fields={sorted(self.fields)})"

    def __getitem__(self, index: int | slice | ArrayLike) -> Self:
        """Return the chosen masks: an integer, a slice, a boolean mask or an array of indices.

        One mask, like a slice in NumPy, shares memory with the masks it was taken from.
        """
        wanted = index if isinstance(index, slice) else np.asarray(index)
        if not isinstance(wanted, slice) and wanted.size == 0:
            wanted = wanted.astype(np.int64)  # an empty list is an array of floats to numpy
        return self.take(np.atleast_1d(np.arange(len(self), dtype=np.int64)[wanted]))

    def take(self, index: NDArray[np.int64], **columns: ArrayLike) -> Self:
        """Return masks by their numbers, with further columns of the same length added: the fast way to choose.

        One mask alone shares memory with these masks, like a slice in NumPy.

        Parameters
        ----------
        index : ndarray of shape (K,), int64
            Numbers in [0, N), in any order, repeated or not.
        **columns : array of length K
            Added to (or replacing) the fields of the chosen masks.

        Raises
        ------
        InvalidMasksError
            If there is no such mask, these are no numbers of masks, or a column has another length.
        """
        given_index: Any = index
        if not isinstance(given_index, np.ndarray) or given_index.ndim != 1 or given_index.dtype.kind not in "iu":
            raise InvalidMasksError(
                "Masks are taken by their numbers",
                expected="an array of whole numbers, shape (K,)",
                actual=described(index),
                remedy="masks[index] takes a number, a slice, a list of numbers, or a boolean for each mask",
            )
        if len(index) == 1 and 0 <= (only := index.item()) < len(self.scores):
            one = slice(only, only + 1)
            first, last = self.offsets[only : only + 2].tolist()
            offsets = np.array((0, last - first))
            given = self.boxes_xyxy[one], self.scores[one], self.runs[first:last], offsets
            derived = self.areas_px[one], self.extents_xyxy[one]
            fields = {key: column[one] for key, column in self.fields.items()}
            offsets.setflags(write=False)  # slices of read-only arrays are read-only
        else:
            runs, offsets = _runs.take(self.runs, self.offsets, index)
            if len(offsets) == 0:
                raise InvalidMasksError(
                    "There is no such mask",
                    expected=f"numbers from 0 to {len(self) - 1}",
                    actual=f"{index.min()} to {index.max()}",
                )
            given = self.boxes_xyxy.take(index, 0), self.scores.take(index), runs, offsets
            derived = self.areas_px.take(index), self.extents_xyxy.take(index, 0)
            fields = {key: column[index] for key, column in self.fields.items()}
            _freeze(*given, *derived, *fields.values())
        for key, column in columns.items():
            added = np.asarray(column)
            if added.flags.writeable:
                added = added.view()
                added.setflags(write=False)
            fields[key] = added
            if added.shape[:1] != index.shape:
                raise InvalidMasksError(f"Wrong length of {key}", expected=f"{len(index)} masks", actual=_length(added))
        chosen = object.__new__(type(self))  # its parts are checked already: __post_init__ would only cost time
        chosen._set(self.image_hw, given, derived, fields, self.metadata)
        return chosen

    def filter(
        self, *, min_area_px: float = 0, max_area_px: float | None = None, min_score: float | None = None
    ) -> Self:
        """Return the masks whose area and score lie inside the limits (both ends included).

        Raises
        ------
        InvalidParameterError
            If a limit is no number.
        """
        limits: dict[str, Any] = {"min_area_px": min_area_px, "max_area_px": max_area_px, "min_score": min_score}
        for name, limit in limits.items():
            if not (isinstance(limit, Real) or (limit is None and name != "min_area_px")):
                raise InvalidParameterError(f"{name} is no number", expected="a number", actual=repr(limit))
        keep = self.areas_px >= min_area_px
        if max_area_px is not None:
            keep &= self.areas_px <= max_area_px
        if min_score is not None:
            keep &= self.scores >= min_score
        return self[keep]

    def sort(self, by: str = "score", *, descending: bool = True) -> Self:
        """Return the masks ordered by ``"score"``, ``"area"`` or the name of a field; equal ones keep their order."""
        keys: dict[str, NDArray[Any]] = {**self.fields, "score": self.scores, "area": self.areas_px}
        wanted: Any = by
        if not isinstance(wanted, str) or wanted not in keys:
            raise InvalidParameterError("Unknown sort key", expected=f"one of {sorted(keys)}", actual=repr(by))
        if descending:  # reversed twice, so that equal keys stay in order for strings as well
            return self[len(self) - 1 - np.argsort(keys[by][::-1], kind="stable")[::-1]]
        return self[np.argsort(keys[by], kind="stable")]

    def with_fields(self, **columns: ArrayLike) -> Self:
        """Return the same masks with these columns (one value a mask) added or replaced."""
        return replace(self, fields={**self.fields, **{key: np.asarray(value) for key, value in columns.items()}})

    def with_metadata(self, **values: object) -> Self:
        """Return the same masks with these metadata added or replaced."""
        return replace(self, metadata={**self.metadata, **values})

    def placed(self, offset_yx: tuple[int, int], image_hw: tuple[int, int]) -> Self:
        """Move the masks by whole pixels into an image of another size; parts outside it are cut off.

        A tile's masks get back into the whole image with the tile's corner as offset, and a crop of an image's masks
        is a move by the crop's negative corner. The number of masks stays; some may become empty.
        """
        dy, dx = as_pair("offset_yx is no move", offset_yx, "(dy, dx), whole numbers")
        height, width = as_size(image_hw)
        runs, offsets = _runs.place(self.runs, self.offsets, dy, dx, height, width)
        boxes = self.boxes_xyxy + np.array([dx, dy, dx, dy], np.float32)
        boxes = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
        return replace(self, image_hw=(height, width), boxes_xyxy=boxes, runs=runs, offsets=offsets)

    def without_small_parts(self, share: float) -> Self:
        """Leave out the crumbs of masks: parts much smaller than the largest part of the same mask.

        Parameters
        ----------
        share : float
            Area that a part needs, as a share of that of the mask's largest part, in [0, 1]. Pixels that share a side
            are one part. 0 keeps everything, 1 the largest part alone.

        Returns
        -------
        Masks
            As many masks, with the same boxes, scores and fields.

        Raises
        ------
        InvalidParameterError
            If ``share`` is out of range.
        """
        keep = in_large_parts(self.runs, self.offsets, as_number("share", share, 0, 1))
        if keep.all():
            return self
        kept = np.concatenate([[0], np.cumsum(keep)])
        return replace(self, runs=self.runs[keep], offsets=kept[self.offsets])

    def union(self) -> Self:
        """Return one mask that covers all of them; its score is the highest one. No masks stay no masks."""
        if len(self) == 0:
            return self
        runs = _runs.merge_sorted(self.runs[np.lexsort((self.runs[:, 1], self.runs[:, 0]))])
        boxes = np.concatenate([self.boxes_xyxy[:, :2].min(axis=0), self.boxes_xyxy[:, 2:].max(axis=0)])
        return replace(
            self,
            boxes_xyxy=boxes[None],
            scores=self.scores.max(keepdims=True),
            runs=runs,
            offsets=np.array([0, len(runs)]),
            fields={},
        )

    # ---- questions ----------------------------------------------------------------------------------------------

    def hits(self, points_yx: ArrayLike) -> NDArray[np.bool_]:
        """Tell which masks contain which points.

        Parameters
        ----------
        points_yx : array of shape (K, 2)
            Positions in pixels; (y, x) lies in the pixel ``(floor(y), floor(x))``. Outside the image nothing is hit.

        Returns
        -------
        ndarray of shape (K, N), bool

        Raises
        ------
        InvalidParameterError
            If these are no points.
        """
        points = np.floor(as_rows("points_yx", points_yx, np.float64, 2, InvalidParameterError))
        inside = np.all((points >= 0) & (points < self.image_hw), axis=1)  # False for NaN as well
        pixels = np.where(inside[:, None], points, -1).astype(np.int64)
        return _runs.hits(self.runs, self.offsets, self.extents_xyxy, pixels)

    def overlaps(self, other: Masks) -> NDArray[np.int64]:
        """Count the pixels that each of these masks shares with each of the others, shape (N, M)."""
        check_masks(other, "compare with")
        if self.image_hw != other.image_hw:
            raise InvalidMasksError(
                "Masks of different images", expected=str(self.image_hw), actual=str(other.image_hw)
            )
        return _runs.overlaps(self.runs, self.offsets, self.extents_xyxy, other.runs, other.offsets, other.extents_xyxy)

    def iou(self, other: Masks) -> NDArray[np.float64]:
        """Return the intersection over union with each of the other masks, shape (N, M); 0 where both are empty."""
        shared = self.overlaps(other)
        union = self.areas_px[:, None] + other.areas_px[None, :] - shared
        out: NDArray[np.float64] = shared / np.maximum(union, 1)
        return out

    # ---- conversions --------------------------------------------------------------------------------------------

    def crop(self, index: int) -> NDArray[np.bool_]:
        """Return one mask as a boolean image (h, w) of exactly its :attr:`extents_xyxy`."""
        index = as_integer("index", index, -len(self))
        x0, y0, x1, y1 = self.extents_xyxy[index].tolist()
        index = index % len(self)
        out = np.zeros((y1 - y0, x1 - x0), bool)
        _runs.fill(self.runs[self.offsets[index] : self.offsets[index + 1]], y0, x0, out)
        return out

    def crops(self) -> Iterator[NDArray[np.bool_]]:
        """Yield :meth:`crop` of each mask."""
        for index in range(len(self)):
            yield self.crop(index)

    def to_dense(self, *, max_bytes: int = 2**31) -> NDArray[np.bool_]:
        """Return a boolean stack of shape (N, H, W).

        Raises
        ------
        TooMuchMemoryError
            If it would take more than ``max_bytes`` (2 GiB by default).
        """
        return _mask_pixels.to_dense(self, max_bytes)

    def to_label_map(
        self, ids: ArrayLike | None = None, *, on_overlap: Literal["smaller", "score"] = "smaller"
    ) -> NDArray[np.uint16] | NDArray[np.uint32]:
        """Paint all masks into one label map.

        Parameters
        ----------
        ids : array of shape (N,), optional
            The positive id of each mask; ``i + 1`` by default.
        on_overlap : {"smaller", "score"}
            Which mask stays on top where several overlap: the smaller one, or the one with the higher score.

        Returns
        -------
        ndarray of shape (H, W)
            0 is background; uint16, or uint32 when an id needs it.
        """
        return _mask_pixels.to_label_map(self, ids, on_overlap)

    def to_rle(self) -> list[dict[str, Any]]:
        """Return COCO's compressed run-length encoding of each mask (``counts`` as str)."""
        from fastsam_core import _mask_formats

        return _mask_formats.to_rle(self)

    def to_coco(self, image_id: int = 1, category_id: int = 1, first_id: int = 1) -> list[dict[str, Any]]:
        """Return COCO annotations: RLE, bbox (x, y, w, h) of the mask, area, score; fields become attributes."""
        from fastsam_core import _mask_formats

        return _mask_formats.to_coco(self, image_id, category_id, as_integer("first_id", first_id, 0))

    def to_polygons(self, tolerance_px: float = 0.0) -> list[list[NDArray[np.float64]]]:
        """Return the outlines of each mask, holes included, as closed rings (P, 2) of (y, x).

        Coordinates are those of points and boxes: pixel (0, 0) covers [0, 1) x [0, 1), its centre is at 0.5. An outline
        runs along the edges of pixels, cutting corners, so that filling the rings (even-odd, by pixel centres) gives
        back the mask. ``tolerance_px`` > 0 simplifies them.
        """
        from fastsam_core import _mask_formats

        return _mask_formats.to_polygons(self, as_number("tolerance_px", tolerance_px, 0, math.inf))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write everything to ``path``: ``.npz`` (compact) or ``.json`` (COCO). The file is whole or not there.

        JSON has no NaN, which is null there, and no infinities, which are texts; `load` reads them back as numbers.
        """
        from fastsam_core import _mask_formats

        return _mask_formats.save(self, path)


def check_masks(given: object, use: str) -> None:
    """Refuse what are no masks.

    Parameters
    ----------
    given : object
        What came in their place, perhaps.
    use : str
        What they are needed for: "These are no masks to …".

    Raises
    ------
    InvalidMasksError
        These are none.
    """
    if not isinstance(given, Masks):
        raise InvalidMasksError(
            f"These are no masks to {use}",
            expected="Masks, as FastSAM.segment returns them",
            actual=described(given),
        )


def _joined(name: str, columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
    shapes = {column.shape[1:] for column in columns}
    if len(shapes) > 1:
        raise InvalidMasksError(
            f"The fields {name!r} cannot be joined", expected="values of one shape", actual=str(sorted(shapes))
        )
    return np.concatenate(columns)


def _length(column: NDArray[Any]) -> str:
    return str(len(column)) if column.ndim else "a single value"
