"""Write results to disk: label map, COCO JSON, table, overlay, outlines; each file appears whole or not at all."""

from __future__ import annotations

import csv
import math
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from fastsam_core._files import atomic_path, plain, to_json
from fastsam_core._mask_pixels import label_dtype, label_strips, reduced
from fastsam_core.errors import InvalidParameterError
from fastsam_core.geometry import size_within
from fastsam_core.masks import check_masks
from fastsam_core.outlines import planes_of, write_geojson, write_rois

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from fastsam_core.masks import Masks
    from fastsam_core.outlines import PlacedMasks
    from fastsam_core.prompts import Prompt
    from fastsam_core.stacks import LinkedStack

__all__ = [
    "DEFAULT_FORMATS",
    "DEFAULT_STACK_FORMATS",
    "FORMATS",
    "STACK_FORMATS",
    "SUFFIXES",
    "Format",
    "output_paths",
    "unique_names",
    "write_coco",
    "write_image",
    "write_label_map",
    "write_measurements",
    "write_outputs",
    "write_stack",
]

Format = Literal["overlay", "labels", "coco", "csv", "objects", "geojson", "rois"]
SUFFIXES: Final[Mapping[Format, str]] = {
    "overlay": "_overlay.png",
    "labels": "_labels.tif",
    "coco": "_coco.json",
    "csv": "_measurements.csv",
    "objects": "_objects.csv",
    "geojson": "_outlines.geojson",
    "rois": "_RoiSet.zip",
}
STACK_FORMATS: Final[tuple[Format, ...]] = tuple(SUFFIXES)
FORMATS: Final[tuple[Format, ...]] = tuple(kind for kind in STACK_FORMATS if kind != "objects")
DEFAULT_FORMATS: Final[tuple[Format, ...]] = ("overlay", "labels", "coco", "csv")
DEFAULT_STACK_FORMATS: Final[tuple[Format, ...]] = (*DEFAULT_FORMATS, "objects")

_LARGE_PX: Final = 2**28
"""Label maps of more pixels are written in tiles, and never are in memory as a whole."""

_TILE_PX: Final = 1024

_BIGTIFF_BYTES: Final = 2**34
"""Stacks of labels of more bytes are BigTIFF: compressed, too, they could take the 4 GB that a plain TIFF file can."""

_PLANE_PX: Final = 400
"""About the longer side of a plane on the sheet of a stack."""


# ---- names ------------------------------------------------------------------------------------------------------


def unique_names(sources: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Give every source a file stem of its own, equal for equal sets of sources whatever their order.

    A stem that only one source has is kept (``coins.png`` -> ``coins``). Sources that share a stem get their
    extension (``coins_png``, ``coins_tif``), and where that is not enough the folders that tell them apart
    (``left__coins_png``). Upper and lower case count as equal, as they do on many file systems.

    Parameters
    ----------
    sources : sequence of str or path
        The input files; the same file twice is an error.

    Returns
    -------
    list of str
        One stem for each source, in order.

    Raises
    ------
    InvalidParameterError
        If the same path is given twice.
    """
    paths = [Path(os.path.abspath(source)) for source in sources]
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise InvalidParameterError("The same input is given twice", actual=str(twice), remedy="name each file once")
    names = [path.stem for path in paths]
    extended = [f"{path.stem}_{path.suffix.lstrip('.')}" if path.suffix else path.stem for path in paths]
    names = _replace_shared(names, extended)
    if _shared(names):
        depth = len(Path(os.path.commonpath([path.parent for path in paths])).parts)
        qualified = ["__".join([*path.parts[depth:-1], name]) for path, name in zip(paths, extended, strict=True)]
        names = _replace_shared(names, qualified)
    shared = _shared(names)  # left: paths that differ in case, or that contain "__" themselves
    taken = {name.casefold() for name in names} - shared
    for rank, index in enumerate(sorted(range(len(names)), key=lambda i: str(paths[i])), start=1):
        if names[index].casefold() in shared:
            names[index] += f"-{rank}"
            while names[index].casefold() in taken:
                names[index] += "-"
            taken.add(names[index].casefold())
    return names


def _shared(names: Iterable[str]) -> set[str]:
    return {name for name, times in Counter(map(str.casefold, names)).items() if times > 1}


def _replace_shared(names: list[str], replacements: list[str]) -> list[str]:
    shared = _shared(names)
    return [new if old.casefold() in shared else old for old, new in zip(names, replacements, strict=True)]


def output_paths(folder: Path, name: str, formats: Iterable[Format]) -> dict[Format, Path]:
    """Return where each format of one image goes: ``<folder>/<name><suffix>``."""
    return {kind: folder / f"{name}{SUFFIXES[kind]}" for kind in formats}


# ---- writing ----------------------------------------------------------------------------------------------------


def write_image(path: str | os.PathLike[str], rgb8: npt.NDArray[np.uint8]) -> Path:
    """Write a picture as PNG.

    Parameters
    ----------
    path : str or path
        The file to write.
    rgb8 : uint8 ndarray of shape (H, W, 3)
        The picture.
    """
    from PIL import Image

    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(rgb8)).save(temporary, format="PNG", compress_level=3)
    return Path(path)


def write_label_map(path: str | os.PathLike[str], masks: Masks) -> Path:
    """Write the label map as TIFF (zlib), 16 bit up to 65 535 masks and 32 bit above; very large ones in tiles.

    Pixel value 0 is background and i + 1 is mask i; where masks overlap the smaller is on top.
    """
    check_masks(masks, "write")
    height, width = masks.image_hw
    if height * width <= _LARGE_PX:
        return _write_labels(path, masks.to_label_map(), "YX")
    strips = label_strips(masks, _TILE_PX)
    dtype = label_dtype(len(masks))
    tiles = (strip[:, x : x + _TILE_PX] for strip in strips for x in range(0, width, _TILE_PX))
    return _write_labels(path, tiles, "YX", shape=masks.image_hw, dtype=dtype, tile=(_TILE_PX, _TILE_PX), bigtiff=True)


def _write_labels(path: str | os.PathLike[str], labels: Any, axes: str, **of_parts: Any) -> Path:
    """Write a label map, or the pages of a stack or tiles of one, whose shape and dtype must then be said."""
    import tifffile

    how: dict[str, Any] = {"compression": "zlib", "predictor": True, "photometric": "minisblack"}
    with atomic_path(path) as temporary:
        tifffile.imwrite(temporary, labels, metadata={"axes": axes}, **how, **of_parts)
    return Path(path)


def write_coco(path: str | os.PathLike[str], masks: Masks | PlacedMasks, *, file_name: str) -> Path:
    """Write a COCO data set: ``info``, ``images``, ``categories`` and ``annotations`` with RLE masks.

    Parameters
    ----------
    path : str or path
        The file to write.
    masks : Masks or pairs of a place and Masks
        The masks of one image, or of the planes of a stack: each is an image of the data set, whose ``plane`` is its
        place along each axis by name.
    file_name : str
        The ``file_name`` of all images in the data set.
    """
    info: Mapping[str, Any] = {}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (place, of_plane) in enumerate(planes_of(masks, "write"), 1):
        info = info or of_plane.metadata  # planes that could not be read have none
        name = {"id": image_id, "file_name": file_name} | ({"plane": dict(place)} if place else {})
        images.append(name | {"height": of_plane.image_hw[0], "width": of_plane.image_hw[1]})
        annotations += of_plane.to_coco(image_id=image_id, category_id=1, first_id=len(annotations) + 1)
    data = {
        "info": {"description": "Masks by fastsam-plugins", **info},
        "images": images,
        "categories": [{"id": 1, "name": "object"}],
        "annotations": annotations,
    }
    with atomic_path(path) as temporary:
        temporary.write_text(to_json(data, separators=(",", ":"), default=plain), encoding="utf-8")
    return Path(path)


def write_measurements(
    path: str | os.PathLike[str],
    masks: Masks,
    *,
    pixel_size_um: tuple[float, float] | None = None,
    intensities: Mapping[str, npt.NDArray[Any]] | None = None,
) -> Path:
    """Write one CSV row for each mask.

    Parameters
    ----------
    path : str or path
        The file to write.
    masks : Masks
        N masks.
    pixel_size_um : tuple of float, optional
        Height and width of a pixel in micrometres; see :func:`fastsam_core.measurements.measure`.
    intensities : mapping of str to ndarray of length N, optional
        Further columns, from :func:`fastsam_core.measurements.measure_intensities`.
    """
    from fastsam_core.measurements import measure

    return _write_tables(path, [{**measure(masks, pixel_size_um=pixel_size_um), **(intensities or {})}])


def _write_tables(path: str | os.PathLike[str], tables: Sequence[Mapping[str, npt.NDArray[Any]]]) -> Path:
    """Write tables below each other, in the order of columns of those with rows; what a table lacks stays empty."""
    filled_first = sorted(tables, key=lambda table: len(table["label"]) == 0)
    names = list(dict.fromkeys(name for table in filled_first for name in table))
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        for table in tables:
            columns = [column.tolist() for column in table.values()]
            rows = zip(*columns, strict=True)
            writer.writerows(dict(zip(table, map(_cell, row), strict=True)) for row in rows)
    return Path(path)


def _cell(value: object) -> object:
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return "" if math.isnan(value) else value
    # places on slides and sums of intensities keep two digits behind the point
    whole = len(str(abs(int(value))))
    return f"{value:.{min(max(whole + 2, 6), 15)}g}"


def write_outputs(
    folder: str | os.PathLike[str],
    name: str,
    masks: Masks,
    rgb8: npt.NDArray[np.uint8],
    *,
    formats: Iterable[Format] = DEFAULT_FORMATS,
    file_name: str | None = None,
    prompts: Sequence[Prompt] = (),
    pixel_size_um: tuple[float, float] | None = None,
    intensities: Mapping[str, npt.NDArray[Any]] | None = None,
    full_hw: tuple[int, int] | None = None,
) -> dict[Format, Path]:
    """Write the chosen formats of one image.

    Parameters
    ----------
    folder : str or path
        Where to write; made if missing.
    name : str
        Stem of the files.
    masks : Masks
        The masks.
    rgb8 : uint8 ndarray of shape (H, W, 3)
        The image the masks lie on, for the overlay; or the same image reduced, and so will the overlay be.
    formats : iterable of {"overlay", "labels", "coco", "csv", "geojson", "rois"}
        What to write; the first four by default.
    file_name : str, optional
        The image's name in the COCO file; the stem by default.
    prompts : sequence of Points, Box, Polygon or Text
        What the masks answer; drawn into the overlay, unless that is reduced.
    pixel_size_um, intensities : optional
        For the table; see :func:`write_measurements`.
    full_hw : tuple of int, optional
        Height and width of the image at its full size, where the masks are of a smaller level of a slide: GeoJSON is in
        pixels of the full size.

    Returns
    -------
    dict of str to Path
        The files written.

    Raises
    ------
    OutputError
        If a file cannot be written.
    InvalidParameterError
        If the formats are not those of one image.
    """
    paths = output_paths(Path(folder), name, formats)
    if "objects" in paths:
        raise InvalidParameterError("One image has no objects of several planes", remedy="use write_stack")
    for kind, path in paths.items():
        if kind == "overlay":
            from fastsam_core.overlay import draw_answer, draw_overlay

            if _is_reduced(rgb8.shape, masks.image_hw):
                write_image(path, draw_overlay(rgb8, reduced(masks, (rgb8.shape[0], rgb8.shape[1]))))
            else:
                write_image(path, draw_answer(rgb8, masks, prompts) if prompts else draw_overlay(rgb8, masks))
        elif kind == "labels":
            write_label_map(path, masks)
        elif kind == "coco":
            write_coco(path, masks, file_name=file_name or name)
        elif kind == "csv":
            write_measurements(path, masks, pixel_size_um=pixel_size_um, intensities=intensities)
        elif kind == "geojson" or kind == "rois":
            _write_outlines(kind, path, masks, full_hw)
    return paths


def _write_outlines(
    kind: Literal["geojson", "rois"], path: Path, masks: Masks | LinkedStack, full_hw: tuple[int, int] | None
) -> None:
    if kind == "geojson":
        height, width = masks.image_hw
        full = full_hw or (height, width)
        write_geojson(path, masks, scale_yx=(full[0] / height, full[1] / width))
    else:
        write_rois(path, masks)


def _is_reduced(shape: tuple[int, ...], image_hw: tuple[int, int]) -> bool:
    """Tell whether pixels of this shape are an image of this size, made smaller."""
    return shape[:2] != image_hw and shape[:2] == size_within(image_hw, max(shape[:2]))


def write_stack(
    folder: str | os.PathLike[str],
    name: str,
    stack: LinkedStack,
    pictures: Mapping[int, npt.NDArray[np.uint8]],
    *,
    formats: Iterable[Format] = DEFAULT_STACK_FORMATS,
    file_name: str | None = None,
    pixel_size_um: tuple[float, float] | None = None,
    intensities: Sequence[Mapping[str, npt.NDArray[Any]]] | None = None,
    z_step_um: float | None = None,
    full_hw: tuple[int, int] | None = None,
) -> dict[Format, Path]:
    """Write the chosen formats of a stack, whose objects have one number in all planes.

    Parameters
    ----------
    folder : str or path
        Where to write; made if missing.
    name : str
        Stem of the files.
    stack : LinkedStack
        Masks and objects of all planes.
    pictures : mapping of int to uint8 ndarray of shape (H, W, 3)
        The planes to show in the overlay, by number; at least one for it.
    formats : iterable of {"overlay", "labels", "coco", "csv", "objects", "geojson", "rois"}
        What to write: a sheet of planes, a TIFF of (planes, H, W), a COCO data set with an image for each plane, a
        table with a row for each mask, with ``plane`` and, as ``label``, the object, one with a row for each object, or
        outlines with their planes. The first five by default.
    file_name : str, optional
        The stack's name in the COCO file; the stem by default.
    pixel_size_um, intensities, full_hw : optional
        As in :func:`write_outputs`; the intensities of each plane.
    z_step_um : float, optional
        Distance of planes in micrometres; see :func:`fastsam_core.measurements.measure_objects`.

    Returns
    -------
    dict of str to Path
        The files written.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    from fastsam_core.measurements import measure, measure_objects

    paths = output_paths(Path(folder), name, formats)
    numbered = list(zip(stack.planes, stack.objects, strict=True))
    for kind, path in paths.items():
        if kind == "overlay":
            write_image(path, _sheet_of_planes(stack, pictures))
        elif kind == "labels":
            shape, dtype = (len(stack.planes), *stack.image_hw), stack.label_dtype
            of_pages = {"shape": shape, "dtype": dtype, "bigtiff": math.prod(shape) * dtype.itemsize > _BIGTIFF_BYTES}
            _write_labels(path, stack.iter_label_maps(), f"{stack.axis}YX", **of_pages)
        elif kind == "coco":
            images = enumerate(masks.with_fields(object=objects) for masks, objects in numbered)
            placed = (({stack.axis: index}, masks) for index, masks in images)
            write_coco(path, placed, file_name=file_name or name)
        elif kind == "csv":
            tables = [
                {
                    "plane": np.full(len(masks), index),
                    **measure(masks, pixel_size_um=pixel_size_um),
                    "label": objects,
                    **(intensities[index] if intensities else {}),
                }
                for index, (masks, objects) in enumerate(numbered)
            ]
            _write_tables(path, tables)
        elif kind == "objects":
            sizes: dict[str, Any] = {"pixel_size_um": pixel_size_um, "z_step_um": z_step_um}
            _write_tables(path, [measure_objects(stack, **sizes, intensities=intensities or ())])
        else:
            _write_outlines(kind, path, stack, full_hw)
    return paths


def _sheet_of_planes(stack: LinkedStack, pictures: Mapping[int, npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Draw planes side by side, each object in its colour."""
    from fastsam_core.contact_sheet import Card, Picture, contact_sheet
    from fastsam_core.overlay import assign_colours, display_scale, draw_overlay

    scale = display_scale(stack.image_hw, _PLANE_PX)
    colours: dict[int, npt.NDArray[np.uint8]] = {}
    cards = []
    for index, rgb8 in sorted(pictures.items()):
        masks, objects = stack.planes[index], stack.objects[index].tolist()
        for label, colour in zip(objects, assign_colours(masks, rgb8), strict=True):
            colours.setdefault(label, colour)
        of_masks = np.array([colours[label] for label in objects], np.uint8).reshape(-1, 3)
        picture = Picture(draw_overlay(rgb8, masks, scale=scale, colours=of_masks), f"objects: {len(masks)}")
        cards.append(Card(f"{stack.axis} = {index}", picture))
    return contact_sheet(cards, columns=min(4, len(cards)))
