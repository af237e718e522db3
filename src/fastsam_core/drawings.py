"""Points, boxes and outlines that were drawn in QuPath (GeoJSON) or in ImageJ and Fiji (ROIs)."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import numpy as np

from fastsam_core import _runs
from fastsam_core._files import DAMAGED, as_path
from fastsam_core._regions import polygon_runs
from fastsam_core.errors import AnnotationError
from fastsam_core.masks import Masks

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["DRAWING_SUFFIXES", "Drawing", "Places", "masks_of_drawings", "read_drawings"]

DRAWING_SUFFIXES: Final = (".geojson", ".roi", ".zip")

_FARTHEST_PX: Final = 1e6
"""What is drawn may reach beyond the image, but not as far as this."""

_SQUARE: Final = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float64)

_PATH_NUMBERS: Final = (2, 2, 4, 6, 0)
"""Coordinates after each command of a path: a begin, a line, curves with one and two control points, an end."""
_CURVE: Final = np.linspace(0, 1, 17)[1:, None]
"""Where along a curve its points are taken."""

_GEOMETRIES: Final = ("Point", "MultiPoint", "Polygon", "MultiPolygon")

_UNREADABLE: Final = (*DAMAGED, AssertionError, struct.error)
"""roifile raises the latter two, too."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """One thing that was drawn.

    Parameters
    ----------
    kind : {"points", "box", "outline"}
    rings_xy : tuple of ndarray of shape (P, 2), float64
        Points, the corners of a box, or an outline: what an odd number of rings encloses. Positions (x, y) in pixels;
        pixel (0, 0) covers [0, 1) x [0, 1).
    plane_zt : tuple of int, optional
        The plane of the stack, from 0; None where the file does not say.
    place : mapping of str to int
        The same along axes by their names, as files of `fastsam_core.outlines` say it; empty in others.
    """

    kind: Literal["points", "box", "outline"]
    rings_xy: tuple[NDArray[np.float64], ...]
    plane_zt: tuple[int, int] | None = None
    place: Mapping[str, int] = field(default_factory=dict)


def read_drawings(path: str | os.PathLike[str], *, several_planes: bool = False) -> list[Drawing]:
    """Read what was drawn on one image.

    Parameters
    ----------
    path : str or path
        GeoJSON (as QuPath exports it: *File > Export objects as GeoJSON*), an ROI of ImageJ, or a ZIP file of them, as
        the ROI Manager saves it. What it is, its content says.
    several_planes : bool, default False
        Allow drawings on several planes of a stack.

    Returns
    -------
    list of Drawing
        In the file's order. A rectangle is a box, all else that encloses something an outline; a multi-point selection
        is one drawing.

    Raises
    ------
    AnnotationError
        If the file cannot be read, or holds lines or, unless allowed, things on several planes.
    """
    path = as_path(path)
    try:
        with path.open("rb") as file:
            start = file.read(4)
        drawings = _of_rois(path) if start[:2] == b"PK" or start == b"Iout" else _of_geojson(path)
        positions = [np.concatenate(drawing.rings_xy) for drawing in drawings]
    except AnnotationError:
        raise
    except _UNREADABLE as error:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise AnnotationError(
            f"{path} cannot be read as drawings", expected="GeoJSON, or ROIs of ImageJ (.roi, .zip)", actual=str(reason)
        ) from error
    for numbers in positions:
        if not (np.abs(numbers) <= _FARTHEST_PX).all():  # NaN is not
            raise AnnotationError(
                f"{path} holds positions that are in no image", expected="pixels", actual=f"{numbers.max():g}"
            )
    planes = list(dict.fromkeys(_plane_text(drawing) for drawing in drawings if drawing.plane_zt is not None))
    if len(planes) > 1 and not several_planes:
        raise AnnotationError(
            f"{path} holds drawings on several planes",
            expected="one plane",
            actual=", ".join(planes[:4]) + (", …" if len(planes) > 4 else ""),
            remedy="save those of each plane in a file of their own",
        )
    return drawings


def _plane_text(drawing: Drawing) -> str:
    place = drawing.place or dict(zip("zt", drawing.plane_zt or (), strict=False))
    return " ".join(f"{name}={at}" for name, at in place.items())


def _check_enclosing(path: Path, drawn: Sequence[tuple[bool, str, str]]) -> None:
    """Refuse lines and the like among what was drawn: whether it is an area or a point, its name, its kind."""
    lines = [f"{name} ({kind})" if name else kind for is_used, name, kind in drawn if not is_used]
    if lines:
        raise AnnotationError(
            f"{path} holds what encloses nothing",
            expected="areas and points",
            actual=f"{len(lines)} of {len(drawn)}: " + ", ".join(lines[:4]) + (", …" if len(lines) > 4 else ""),
            remedy="take these out of the file, or draw rectangles, ovals, polygons or outlines by hand instead",
        )


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where objects are, by kind of drawing: each point, box and outline is one.

    Parameters
    ----------
    points_xy : ndarray of shape (K, 2), float64
    boxes_xyxy : ndarray of shape (B, 4), float64
    outlines_xy : tuple of ndarray of shape (P, 2), float64
        Of an outline of several rings the largest.
    """

    points_xy: NDArray[np.float64]
    boxes_xyxy: NDArray[np.float64]
    outlines_xy: tuple[NDArray[np.float64], ...]

    @classmethod
    def of(cls, drawings: Iterable[Drawing]) -> Self:
        """Sort drawings by their kind."""
        kinds: dict[str, list[NDArray[np.float64]]] = {"points": [], "box": [], "outline": []}
        for drawing in drawings:
            kinds[drawing.kind].append(max(drawing.rings_xy, key=lambda ring: float(np.ptp(ring, axis=0).prod())))
        boxes = [np.concatenate([corners.min(axis=0), corners.max(axis=0)]) for corners in kinds["box"]]
        points = np.concatenate([np.empty((0, 2)), *kinds["points"]])
        return cls(points, np.reshape(boxes, (-1, 4)), tuple(kinds["outline"]))


def masks_of_drawings(drawings: Iterable[Drawing], image_hw: tuple[int, int]) -> Masks:
    """Fill boxes and outlines.

    Parameters
    ----------
    drawings : iterable of Drawing
    image_hw : tuple of int
        Height and width of the image, pixels; what reaches beyond it is cut off.

    Returns
    -------
    Masks
        One for each drawing: the pixels whose centres are inside. They may overlap.

    Raises
    ------
    AnnotationError
        If there are points among the drawings, or one lies outside of the image.
    """
    crops, corners = [], []
    for number, drawing in enumerate(drawings, 1):
        if drawing.kind == "points":
            raise AnnotationError(
                f"Drawing {number} is a point", expected="outlines of objects", remedy="leave the points out"
            )
        crop, corner = _filled(drawing.rings_xy, image_hw)
        if not crop.any():
            x, y = drawing.rings_xy[0].mean(axis=0)
            raise AnnotationError(
                f"Drawing {number} covers no pixel of the image",
                expected=f"an outline within {image_hw[0]} x {image_hw[1]}",
                actual=f"one around x = {x:.0f}, y = {y:.0f}",
                remedy="check that it was drawn on this image, at its full size",
            )
        crops.append(crop)
        corners.append(corner)
    return Masks.from_crops(crops, np.reshape(corners, (-1, 2)), image_hw)


def _filled(
    rings_xy: Sequence[NDArray[np.float64]], image_hw: tuple[int, int]
) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """Fill rings by the even-odd rule in the part of the image that they reach; its corner is (y, x)."""
    first, last = _reach(np.concatenate(rings_xy), image_hw)
    inside = np.zeros(last - first, bool)
    for ring in rings_xy:
        low, high = _reach(ring, image_hw)
        filled = np.zeros(high - low, bool)
        _runs.fill(polygon_runs(np.ascontiguousarray(ring[:, ::-1] - low), *filled.shape), 0, 0, filled)
        (top, left), (bottom, right) = low - first, high - first
        inside[top:bottom, left:right] ^= filled
    return inside, (int(first[0]), int(first[1]))


def _reach(positions_xy: NDArray[np.float64], image_hw: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first (y, x) of the part of the image that positions reach, and the last + 1."""
    positions = positions_xy[:, ::-1]
    first = np.clip(np.floor(positions.min(axis=0)), 0, image_hw).astype(np.int64)
    return first, np.clip(np.ceil(positions.max(axis=0)), first, image_hw).astype(np.int64)


def _place(said: object) -> dict[str, int]:
    """Return the place along axes by their names from the text that `fastsam_core.outlines` writes; none of another."""
    try:
        given = json.loads(str(said))
        return {name: int(at) for name, at in given.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


# ---- GeoJSON ----------------------------------------------------------------------------------------------------


def _of_geojson(path: Path) -> list[Drawing]:
    document = json.loads(path.read_text(encoding="utf-8-sig"))
    if isinstance(document, Mapping) and document.get("type") == "FeatureCollection":
        document = document["features"]
    features = [document] if isinstance(document, Mapping) else list(document)
    drawn = [
        (geometry, feature.get("properties") or {})
        for feature in features
        if (whole := feature.get("geometry", feature)) is not None  # the format has features without one
        for geometry in _simple(whole)
    ]
    if features and not drawn:
        raise AnnotationError(
            f"{path} holds nothing that was drawn",
            expected="points and polygons",
            actual=f"{len(features)} features without a geometry",
            remedy="save rectangles, ovals, polygons, freehand outlines or points",
        )
    kinds = [(geometry["type"], str(properties.get("name") or "")) for geometry, properties in drawn]
    _check_enclosing(path, [(kind in _GEOMETRIES, name, kind) for kind, name in kinds])
    return [_of_geometry(geometry, properties.get("metadata") or {}) for geometry, properties in drawn]


def _simple(geometry: Any) -> Iterator[Any]:
    if geometry["type"] == "GeometryCollection":
        for part in geometry["geometries"]:
            yield from _simple(part)
    else:
        yield geometry


def _of_geometry(geometry: Any, metadata: Mapping[str, Any]) -> Drawing:
    kind, place = geometry["type"], _place(metadata.get("plane"))
    numbers, plane = geometry.get("coordinates", ()), geometry.get("plane")
    plane_zt = None if plane is None else (int(plane.get("z", 0)), int(plane.get("t", 0)))
    if kind in ("Point", "MultiPoint"):
        return Drawing("points", (_positions([numbers] if kind == "Point" else numbers),), plane_zt, place)
    rings = tuple(_positions(ring) for part in ([numbers] if kind == "Polygon" else numbers) for ring in part)
    return Drawing("box" if len(rings) == 1 and _is_rectangle(rings[0]) else "outline", rings, plane_zt, place)


def _positions(rows: Any) -> NDArray[np.float64]:
    positions = np.array([row[:2] for row in rows], np.float64)
    if positions.ndim != 2 or positions.shape[1] != 2:
        raise ValueError("positions that are not (x, y)")
    return positions


def _is_rectangle(ring: NDArray[np.float64]) -> bool:
    """Whether a ring has four corners and upright sides."""
    corners = ring[:-1] if np.array_equal(ring[0], ring[-1]) else ring
    sides = np.diff(corners, axis=0, append=corners[:1])
    upright = np.all(np.count_nonzero(sides, axis=1) == 1)
    return len(corners) == 4 and bool(upright and np.all(corners[0] != corners[2]))


# ---- ImageJ -----------------------------------------------------------------------------------------------------


def _of_rois(path: Path) -> list[Drawing]:
    from roifile import ImagejRoi

    if not zipfile.is_zipfile(path):
        return _of_each(path, [ImagejRoi.frombytes(path.read_bytes())])
    with zipfile.ZipFile(path) as file:
        visible = [name for name in file.namelist() if not name.rpartition("/")[2].startswith(".")]  # macOS adds "._…"
        names = [name for name in visible if name.lower().endswith(".roi")]
        if not names and file.namelist():
            raise AnnotationError(
                f"{path} holds no ROIs", expected="files NAME.roi", actual=", ".join(file.namelist()[:3])
            )
        return _of_each(path, [ImagejRoi.frombytes(file.read(name)) for name in names])


def _of_each(path: Path, rois: Sequence[Any]) -> list[Drawing]:
    from roifile import ROI_SUBTYPE, ROI_TYPE

    used = (ROI_TYPE.RECT, ROI_TYPE.OVAL, ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED, ROI_TYPE.POINT)
    drawn = []
    for roi in rois:
        is_laid_over = roi.subtype in (ROI_SUBTYPE.TEXT, ROI_SUBTYPE.IMAGE)
        kind = roi.subtype if is_laid_over else roi.roitype
        drawn.append((roi.roitype in used and not is_laid_over, roi.name, kind.name.lower()))
    _check_enclosing(path, drawn)
    return [_of_roi(roi) for roi in rois]


def _circle() -> NDArray[np.float64]:
    """Return the corners of a regular polygon in the unit square."""
    angles = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    return 0.5 + 0.5 * np.column_stack([np.cos(angles), np.sin(angles)])


def _rings(path: NDArray[np.float32]) -> tuple[NDArray[np.float64], ...]:
    """Return the rings of a path of Java (see `_PATH_NUMBERS`), curves as points."""
    rings: list[list[NDArray[np.float64]]] = []
    at = 0
    while at < len(path):
        kind = int(path[at])
        numbers = np.asarray(path[at + 1 : at + 1 + _PATH_NUMBERS[kind]], np.float64).reshape(-1, 2)
        if kind == 0:
            rings.append([numbers])
        elif kind < 4:
            corners = np.concatenate([rings[-1][-1][-1:], numbers])[:, None]
            while kind > 1 and len(corners) > 1:  # by de Casteljau
                corners = corners[:-1] + _CURVE * np.diff(corners, axis=0)
            rings[-1].append(numbers if kind == 1 else corners[0])
        at += 1 + numbers.size
    return tuple(np.concatenate(ring) for ring in rings)


def _plane_of(roi: Any) -> tuple[int, int] | None:
    """Return the place in a stack; ImageJ counts from 1, and 0 is every plane."""
    places = (roi.z_position or roi.position, roi.t_position)
    return (max(places[0] - 1, 0), max(places[1] - 1, 0)) if any(places) else None


def _of_roi(roi: Any) -> Drawing:
    kind, rings = _outline(roi)
    said = dict(line.partition(": ")[::2] for line in (roi.props or "").splitlines())
    return Drawing(kind, rings, _plane_of(roi), _place(said.get("plane")))


def _outline(roi: Any) -> tuple[Literal["points", "box", "outline"], tuple[NDArray[np.float64], ...]]:
    from roifile import ROI_TYPE

    if roi.composite:
        return "outline", _rings(roi.multi_coordinates)
    if roi.roitype in (ROI_TYPE.RECT, ROI_TYPE.OVAL):
        corner, size = (roi.left, roi.top), (roi.right - roi.left, roi.bottom - roi.top)
        if roi.subpixelrect:
            corner, size = (roi.xd, roi.yd), (roi.widthd, roi.heightd)
        if roi.roitype == ROI_TYPE.RECT:
            return "box", (np.asarray(corner) + np.asarray(size) * _SQUARE,)
        return "outline", (np.asarray(corner) + np.asarray(size) * _circle(),)
    positions = np.asarray(roi.coordinates(), np.float64)
    return "points" if roi.roitype == ROI_TYPE.POINT else "outline", (positions,)
