"""`segment_tiles`: images much larger than the network's input, tile by tile, joined across tile borders."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fastsam_core._defaults import MAX_DET, MAX_PIXELS, OVERLAP_PX
from fastsam_core._overview import Overview
from fastsam_core._windows import Window, plan_windows
from fastsam_core.errors import FastSAMError, ImageContentError, InvalidParameterError
from fastsam_core.images import Image, read_image
from fastsam_core.large_images import open_plane
from fastsam_core.pipeline import check_model, iter_segment

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from numpy.typing import NDArray

    from fastsam_core._image_colour import Channels
    from fastsam_core._image_contrast import Contrast
    from fastsam_core._image_planes import PlaneChoice
    from fastsam_core.masks import Masks
    from fastsam_core.model import FastSAM, OnTile, Settings
    from fastsam_core.pipeline import Step

__all__ = ["TileStep", "segment_tiles", "step_in_tiles"]


@dataclass(frozen=True, slots=True, eq=False)
class TileStep:
    """One tile of an image.

    Parameters
    ----------
    index : int
        Number of the tile, from 0.
    count : int
        Number of tiles in all.
    window : Window
        Where the tile lies, pixels of the whole image.
    masks : Masks
        Masks of this tile, in the coordinates of the whole image, not yet joined with its neighbours'.
    result : Masks or None
        The joined masks of the whole image, best score first; only in the last step.
    overview : Image or None
        The whole image, of which ``rgb8`` is reduced to about 2000 px; only in the last step.
    """

    index: int
    count: int
    window: Window
    masks: Masks
    result: Masks | None = None
    overview: Image | None = None


def segment_tiles(
    source: object,
    model: FastSAM,
    *,
    tile_px: int = 1024,
    overlap_px: int = OVERLAP_PX,
    prefetch: int = 1,
    batch_size: int = 1,
    reader: Callable[[Any], Image] | None = None,
    channels: Channels | None = None,
    axes: str | None = None,
    contrast: Contrast | None = None,
    plane: PlaneChoice = 0,
    level: int = 0,
    series: int = 0,
    max_pixels: int | None = MAX_PIXELS,
    conf: float | Literal["auto"] | None = None,
    iou: float | None = None,
    max_det: int = MAX_DET,
    imgsz: int | Sequence[int] | Literal["auto"] | None = None,
    snap_px: float = 0,
    stability: bool = False,
) -> Generator[TileStep, None, None]:
    """Segment a large image in overlapping tiles, without ever having all of it in memory.

    An object that the border between tiles cuts becomes one mask again: masks that agree where their tiles overlap are
    one object. Objects longer than ``overlap_px`` that tiles cut come from a pass over the whole image, reduced to
    about 2000 px. The joined masks are those of `FastSAM.segment` with ``tile_px``.

    Parameters
    ----------
    source : path, array, or Image
        Of TIFF and CZI files, Zarr stores and lazy arrays only the tiles being worked on are read; see
        `fastsam_core.large_images.open_plane`.
    model : FastSAM
        The model.
    tile_px : int
        Side of the square tiles in image pixels.
    overlap_px : int
        How much neighbours share at least: more than the diameter of usual objects.
    prefetch, batch_size
        As in `fastsam_core.iter_segment`.
    reader : callable, optional
        Reads a tile; then the source is whatever has a ``shape`` of (H, W) and gives, indexed with two slices, what the
        reader takes.
    channels, axes, contrast, plane, level, series, max_pixels
        How to read the source without a reader, as in `open_plane`: all tiles with the same contrast.
    conf, iou, max_det, imgsz, snap_px, stability
        As in `FastSAM.segment`; ``max_det`` holds for each tile. ``imgsz`` is the network's input for a tile, the
        model's own where left out.

    Yields
    ------
    TileStep
        Row by row. The last one carries the joined result.

    Raises
    ------
    InvalidParameterError
        If a setting is out of range or the model is none.
    ImageContentError
        If channels, axes, plane or contrast do not fit the source.
    ImageReadError, ImageNotFoundError, UnsupportedImageError, TooMuchMemoryError
        If the source or a tile cannot be read, or a tile not be segmented.

    Examples
    --------
    >>> for tile in segment_tiles("slide.ome.tif", model):  # doctest: +SKIP
    ...     print(tile.index + 1, "of", tile.count)
    >>> masks = tile.result  # doctest: +SKIP
    """
    check_model(model)
    given: dict[str, Any] = {"iou": iou, "max_det": max_det, "imgsz": imgsz, "snap_px": snap_px, "stability": stability}
    settings = model.settings(conf=conf, tile_px=tile_px, overlap_px=overlap_px, **given)
    with ExitStack() as opening:
        tiled: Any = source
        read = reader
        if read is None:
            reading: dict[str, Any] = {"channels": channels, "axes": axes, "contrast": contrast}
            reading |= {"plane": plane, "level": level, "series": series}
            if isinstance(source, Image):
                tiled, read = read_image(source, **reading).rgb8, partial(_part_of, source)
            else:
                tiled = opening.enter_context(open_plane(source, **reading, max_pixels=max_pixels))
                read = tiled.read
        image_hw = _size_of(tiled)
        windows = plan_windows(image_hw, (tile_px, tile_px), overlap_px)
        steps = iter_segment(
            (tiled[window.y0 : window.y1, window.x0 : window.x1] for window in windows),
            model,
            prefetch=prefetch,
            batch_size=batch_size,
            reader=read,
            conf=settings.conf,
            **given,
        )
        return _tile_steps(steps, windows, image_hw, model, settings, opening.pop_all())


def step_in_tiles(step: Step, source: object, model: FastSAM, *, on_tile: OnTile | None = None, **options: Any) -> Step:
    """Return a step whose image is too large to be read as a whole with its masks, of which one tile is read at a time.

    Parameters
    ----------
    step : Step
        From `iter_segment`, with the error.
    source : path or array
        What is to be read.
    model : FastSAM
    on_tile : callable, optional
        As in `iter_segment`.
    **options
        Of `segment_tiles`.

    Returns
    -------
    Step
        Its image is the whole, reduced to about 2000 px; or it has another error.
    """
    start = time.perf_counter()
    masks = image = error = None
    try:
        for tile in segment_tiles(source, model, **options):
            masks, image = tile.result, tile.overview
            if masks is None and on_tile is not None:
                on_tile(tile.index + 2, tile.count)
    except FastSAMError as problem:
        error = problem
    return replace(step, masks=masks, error=error, image=image, seconds=step.seconds + time.perf_counter() - start)


def _part_of(image: Image, rgb8: NDArray[np.uint8]) -> Image:
    return Image(np.ascontiguousarray(rgb8), image.source, image.recipe)


def _tile_steps(
    steps: Generator[Step, None, None],
    windows: list[Window],
    image_hw: tuple[int, int],
    model: FastSAM,
    settings: Settings,
    opened: ExitStack,
) -> Generator[TileStep, None, None]:
    parts: list[Masks] = []
    overview = Overview(image_hw, max(settings.imgsz))
    with opened, closing(steps):
        for step, window in zip(steps, windows, strict=True):
            if step.masks is None or step.image is None:
                raise step.error or InvalidParameterError("A tile gave no masks")
            parts.append(step.masks.placed((window.y0, window.x0), image_hw))
            overview.add(window, step.image.rgb8)
            if len(parts) < len(windows):
                yield TileStep(step.index, len(windows), window, parts[-1])
                continue
            whole = overview.image(step.image)
            result = model.join(windows, parts, whole, settings)
            yield TileStep(step.index, len(windows), window, parts[-1], result, whole)


def _size_of(source: Any) -> tuple[int, int]:
    """Return height and width of what a reader's tiles are cut from."""
    shape: tuple[int, ...] = tuple(getattr(source, "shape", ()))
    if len(shape) not in (2, 3) or 0 in shape:
        raise ImageContentError(
            "This cannot be cut into tiles for a reader",
            expected="a shape of (H, W) or (H, W, samples)",
            actual=str(shape),
            remedy="leave the reader out, and choose plane and channels",
        )
    return int(shape[0]), int(shape[1])
