"""`segment_tiles`: images much larger than the network's input, tile by tile, joined across tile borders."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fastsam_core._defaults import MAX_DET, OVERLAP_PX
from fastsam_core._overview import Overview
from fastsam_core._windows import Window, plan_windows
from fastsam_core.errors import ImageContentError, InvalidParameterError
from fastsam_core.images import Image, read_image
from fastsam_core.pipeline import check_model, iter_segment

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from fastsam_core.masks import Masks
    from fastsam_core.model import FastSAM, Settings
    from fastsam_core.pipeline import Step

__all__ = ["TileStep", "segment_tiles"]


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
    """

    index: int
    count: int
    window: Window
    masks: Masks
    result: Masks | None = None


def segment_tiles(
    source: object,
    model: FastSAM,
    *,
    tile_px: int = 1024,
    overlap_px: int = OVERLAP_PX,
    prefetch: int = 1,
    batch_size: int = 1,
    reader: Callable[[object], Image] = read_image,
    conf: float | Literal["auto"] | None = None,
    iou: float | None = None,
    max_det: int = MAX_DET,
    imgsz: int | Sequence[int] | Literal["auto"] | None = None,
) -> Generator[TileStep, None, None]:
    """Segment a large image in overlapping tiles, without ever having all of it in memory.

    An object that the border between tiles cuts becomes one mask again: masks that agree where their tiles overlap are
    one object. Objects longer than ``overlap_px`` that tiles cut come from a pass over the whole image, reduced to
    about 2000 px. The joined masks are those of `FastSAM.segment` with ``tile_px``.

    Parameters
    ----------
    source : Image, path, or array of shape (H, W) or (H, W, 3)
        Of zarr and dask arrays only the tiles being worked on are read. Values that are not 8-bit need a reader with
        fixed contrast limits, or each tile would be stretched by itself.
    model : FastSAM
        The model.
    tile_px : int
        Side of the square tiles in image pixels.
    overlap_px : int
        How much neighbours share at least: more than the diameter of usual objects.
    prefetch, batch_size, reader
        As in `fastsam_core.iter_segment`.
    conf, iou, max_det, imgsz
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
        If an array has other axes.
    ImageReadError, UnsupportedImageError, TooMuchMemoryError
        If a tile cannot be read or segmented.
    """
    check_model(model)
    settings = model.settings(conf=conf, iou=iou, max_det=max_det, imgsz=imgsz, tile_px=tile_px, overlap_px=overlap_px)
    array, image_hw = _sliceable(source, reader)
    windows = plan_windows(image_hw, (tile_px, tile_px), overlap_px)
    steps = iter_segment(
        (array[window.y0 : window.y1, window.x0 : window.x1] for window in windows),
        model,
        prefetch=prefetch,
        batch_size=batch_size,
        reader=reader,
        conf=settings.conf,
        iou=iou,
        max_det=max_det,
        imgsz=imgsz,
    )
    return _tile_steps(steps, windows, image_hw, model, settings)


def _tile_steps(
    steps: Generator[Step, None, None],
    windows: list[Window],
    image_hw: tuple[int, int],
    model: FastSAM,
    settings: Settings,
) -> Generator[TileStep, None, None]:
    parts: list[Masks] = []
    overview = Overview(image_hw, max(settings.imgsz))
    with closing(steps):
        for step, window in zip(steps, windows, strict=True):
            if step.masks is None or step.image is None:
                raise step.error or InvalidParameterError("A tile gave no masks")
            parts.append(step.masks.placed((window.y0, window.x0), image_hw))
            overview.add(window, step.image.rgb8)
            last = len(parts) == len(windows)
            result = model.join(windows, parts, overview.image(step.image.source), settings) if last else None
            yield TileStep(step.index, len(windows), window, parts[-1], result)


def _sliceable(source: object, reader: Callable[[object], Image]) -> tuple[Any, tuple[int, int]]:
    """Return what tiles are cut from, and its size: a lazy array itself, anything else read."""
    shape = getattr(source, "shape", None)
    if shape is None or isinstance(source, Image) or type(source).__module__.partition(".")[0] in ("torch", "PIL"):
        image = reader(source)
        return image.rgb8, image.image_hw
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3, 4)) or 0 in shape:
        raise ImageContentError(
            "An array of this shape cannot be cut into tiles",
            expected="(H, W) or (H, W, 3)",
            actual=str(tuple(shape)),
            remedy="choose plane and channels first, or pass the result of read_image",
        )
    return source, (int(shape[0]), int(shape[1]))
