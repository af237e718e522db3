"""Outlines of masks in the files of other programs: GeoJSON for QuPath, sets of ROIs for ImageJ and Fiji."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from fastsam_core._axis_names import czt_of
from fastsam_core._checks import as_sides
from fastsam_core._files import atomic_path
from fastsam_core.masks import Masks, check_masks

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from fastsam_core.stacks import LinkedStack

__all__ = ["PlacedMasks", "Polygon", "planes_of", "polygons", "write_geojson", "write_rois"]

Polygon: TypeAlias = "list[NDArray[np.float64]]"
"""Closed rings (P, 2) of (x, y), pixels: the outline of one part of a mask, and after it those of its holes."""

PlacedMasks: TypeAlias = "Iterable[tuple[Mapping[str, int], Masks]]"
"""The masks of several planes, each with its place, from 0, along axes by their names."""

_ALL_CHANNELS: Final = -1
_MOVE_TO, _LINE_TO, _CLOSE = 0.0, 1.0, 4.0
"""What ImageJ's composite ROIs are made of."""


def polygons(masks: Masks) -> Iterator[list[Polygon]]:
    """Yield the parts of each mask as polygons with holes.

    The rings are those of :meth:`Masks.to_polygons`, without the points on straight sides. Rings of one mask neither
    cross nor touch, so that the polygons are valid in the sense of OGC's Simple Features. The area of a polygon is that
    of its pixels, less half a pixel for its corners, and half a pixel more for each hole.

    Parameters
    ----------
    masks : Masks
        N masks.

    Yields
    ------
    list of Polygon
        The parts of one mask, none of an empty one. Coordinates are (x, y) in pixels; pixel (0, 0) covers
        [0, 1) x [0, 1).

    Raises
    ------
    InvalidMasksError
        If these are no masks.
    """
    check_masks(masks, "outline")
    for index in range(len(masks)):
        yield _with_holes([_corners(ring[:, ::-1]) for ring in masks[index].to_polygons()[0]])


def _corners(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """Leave out the points of a closed ring at which it does not turn."""
    steps = np.diff(ring, axis=0)
    kept = ring[:-1][np.any(steps != np.roll(steps, 1, axis=0), axis=1)]
    return np.concatenate([kept, kept[:1]])


def _area(ring: NDArray[np.float64]) -> float:
    """Return the area that a closed ring encloses, negative for what winds the other way: a hole."""
    x, y = ring.T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2


def _with_holes(rings: list[NDArray[np.float64]]) -> list[Polygon]:
    """Put each hole with the smallest part around it."""
    from skimage.measure import points_in_poly

    areas = [_area(ring) for ring in rings]
    parts = sorted((area, index) for index, area in enumerate(areas) if area > 0)
    found = {index: [rings[index]] for _, index in parts}
    order = np.array([index for _, index in parts], np.int64)
    low, high = (np.array([end(rings[part], axis=0) for part in order]).reshape(-1, 2) for end in (np.min, np.max))
    for hole, area in zip(rings, areas, strict=True):
        if area < 0:
            near = order[((low < hole[0]) & (hole[0] < high)).all(axis=1)].tolist()
            around = (part for part in near if len(near) == 1 or points_in_poly(hole[:1], rings[part])[0])
            found[next(around)].append(hole)
    return list(found.values())


def planes_of(given: Masks | LinkedStack | PlacedMasks, use: str) -> PlacedMasks:
    """Yield the masks of each plane and where it is; those of a stack labelled as objects, one image is nowhere.

    Raises
    ------
    InvalidMasksError
        If these are no masks.
    """
    from fastsam_core.stacks import LinkedStack

    if isinstance(given, LinkedStack):
        for index, (masks, objects) in enumerate(zip(given.planes, given.objects, strict=True)):
            yield {given.axis: index}, masks.with_fields(label=objects)
        return
    for one in [given] if isinstance(given, Masks) or not isinstance(given, Iterable) else given:
        place, masks = one if isinstance(one, tuple) else ({}, one)
        check_masks(masks, use)
        yield place, masks


def _labels(masks: Masks) -> list[int]:
    """Return the number of each mask in label maps: of what came from one, its own."""
    labels = masks.fields.get("label", np.arange(1, len(masks) + 1))
    return [int(label) for label in labels]


def _text(masks: Masks, index: int) -> str:
    """Return the text that a mask answers, empty without one."""
    return str(masks.fields["text"][index]) if "text" in masks.fields else ""


# ---- GeoJSON ----------------------------------------------------------------------------------------------------


def write_geojson(
    path: str | os.PathLike[str],
    masks: Masks | LinkedStack | PlacedMasks,
    *,
    scale_yx: tuple[float, float] = (1.0, 1.0),
) -> Path:
    """Write masks as GeoJSON, laid out as QuPath reads and writes its objects.

    Each mask is a feature, a detection with a polygon or several; its name is its number in the label map (the object's
    in a stack), its measurements are the score and the numbers among the fields, its class is the ``text`` that it
    answers, if there is such a field, and its metadata hold the place of its plane along the axes, by their names. In
    QuPath: drag the file onto the image, or *File > Import objects from file*.

    Parameters
    ----------
    path : str or path
        The file to write.
    masks : Masks, LinkedStack or pairs of a place and Masks
        What to write: of one image, or of several planes. Masks without pixels are left out.
    scale_yx : tuple of float, default (1, 1)
        Pixels of the file for each pixel of the masks. QuPath counts in pixels of the full size: for masks of a smaller
        level of a slide, how much smaller that is.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InvalidMasksError
        If these are no masks.
    InvalidParameterError
        If the scale is not two positive numbers.
    OutputError
        If the file cannot be written.

    Notes
    -----
    A plane's ``c``, ``z`` and ``t`` are its places along the axes named so, in letters or words. Of axes with other
    names, the first is taken for time and the last for depth; one alone is depth.

    References
    ----------
    RFC 7946; the members beyond it are those that QuPath's ``QuPathTypeAdapters`` reads and writes.
    """
    scale_xy = np.array(as_sides("This is no scale", scale_yx, "(y, x), two positive numbers"))[::-1]
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        separator = "\n"
        for place, of_plane in planes_of(masks, "outline"):
            for feature in _features(of_plane, scale_xy, place):
                file.write(separator + json.dumps(feature, separators=(",", ":"), allow_nan=False))
                separator = ",\n"
        file.write("\n]}\n")
    return Path(path)


def _positions_czt(place: Mapping[str, int]) -> dict[str, int]:
    """Return the place along the axes that other programs know, as far as it has them."""
    return {letter: place[name] for name, letter in czt_of(list(place)).items()}


def _features(masks: Masks, scale_xy: NDArray[np.float64], place: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    table = {"score": masks.scores, **{name: column for name, column in masks.fields.items() if name != "label"}}
    numbers = {name: column for name, column in table.items() if column.ndim == 1 and column.dtype.kind in "biuf"}
    for index, (label, parts) in enumerate(zip(_labels(masks), polygons(masks), strict=True)):
        if not parts:
            continue
        drawn = [[(ring * scale_xy).round(2).tolist() for ring in rings] for rings in parts]
        geometry: dict[str, Any] = (
            {"type": "Polygon", "coordinates": drawn[0]}
            if len(drawn) == 1
            else {"type": "MultiPolygon", "coordinates": drawn}
        )
        if place:  # without further axes: QuPath reads no plane that has others
            geometry["plane"] = {"c": _ALL_CHANNELS, "z": 0, "t": 0} | _positions_czt(place)
        values = {name: round(float(column[index]), 6) for name, column in numbers.items()}
        measured = {name: value for name, value in values.items() if np.isfinite(value)}
        properties: dict[str, Any] = {"objectType": "detection", "name": str(label), "measurements": measured}
        if text := _text(masks, index):
            properties["classification"] = {"name": text}
        if place:
            properties["metadata"] = {"plane": json.dumps(dict(place))}
        yield {"type": "Feature", "geometry": geometry, "properties": properties}


# ---- ImageJ -----------------------------------------------------------------------------------------------------


def write_rois(path: str | os.PathLike[str], masks: Masks | LinkedStack | PlacedMasks) -> Path:
    """Write masks as ROIs in a ZIP file, as ImageJ's ROI Manager saves and opens them.

    Each mask is an ROI, named by its number in the label map (in a stack by plane and object, and with its position),
    with the score, the place of its plane along all axes and, if there is such a field, the ``text`` that it answers as
    properties; of several parts, or with holes, a composite one. Its position is the plane's number along the one axis
    there is, or channel, slice and frame (see :func:`write_geojson`). In Fiji: drag the file onto the window, or
    *More > Open…* in the ROI Manager.

    Parameters
    ----------
    path : str or path
        The file to write, ``.zip``.
    masks : Masks, LinkedStack or pairs of a place and Masks
        As in :func:`write_geojson`. Masks without pixels are left out.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InvalidMasksError
        If these are no masks.
    OutputError
        If the file cannot be written.
    """
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
        for place, of_plane in planes_of(masks, "outline"):
            for number, (label, parts) in enumerate(zip(_labels(of_plane), polygons(of_plane), strict=True)):
                name = "-".join([*(f"{at + 1:04}" for at in place.values()), f"{label:05}"])
                said = f"score: {of_plane.scores[number]:.4f}\n"
                if text := _text(of_plane, number):
                    said += f"text: {text}\n"
                if place:
                    said += f"plane: {json.dumps(dict(place))}\n"
                if parts:
                    file.writestr(f"{name}.roi", _roi(parts, name, said, place))
    return Path(path)


def _roi(parts: list[Polygon], name: str, properties: str, place: Mapping[str, int]) -> bytes:
    from roifile import ROI_TYPE, ImagejRoi

    rings = [ring for polygon in parts for ring in polygon]
    roi = ImagejRoi.frompoints(np.concatenate([ring[:-1] for ring in rings]).astype(np.float32), name=name)
    if len(place) == 1:
        [roi.position] = (at + 1 for at in place.values())
    else:
        for letter, at in _positions_czt(place).items():
            setattr(roi, f"{letter}_position", at + 1)
    roi.props = properties
    if len(rings) > 1:
        roi.roitype = ROI_TYPE.RECT
        roi.multi_coordinates = np.concatenate([_path(ring) for ring in rings])
        roi.shape_roi_size = len(roi.multi_coordinates)
        roi.integer_coordinates = roi.subpixel_coordinates = None
        roi.n_coordinates = 0
    return roi.tobytes()


def _path(ring: NDArray[np.float64]) -> NDArray[np.float32]:
    """Describe a ring as Java's PathIterator does."""
    steps = np.full((len(ring) - 1, 3), _LINE_TO, np.float32)
    steps[0, 0] = _MOVE_TO
    steps[:, 1:] = ring[:-1]
    return np.append(steps.ravel(), np.float32(_CLOSE))
