"""Draw masks over images: coloured overlays and prompt answers."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fastsam_core._checks import as_integer, as_number, described
from fastsam_core.errors import InvalidParameterError
from fastsam_core.masks import check_masks

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from PIL.ImageDraw import ImageDraw

    from fastsam_core.masks import Masks
    from fastsam_core.prompts import Prompt

__all__ = ["assign_colours", "display_scale", "draw_answer", "draw_overlay"]

_HUES: Final = 14
_FIRST_HUE_DEGREES: Final = 245  # azure: rare in photographs, so that a single mask stands out
_SUPERSAMPLED_MAX_PX: Final = 2_000_000  # pictures up to this size are drawn at twice the size and averaged
_STRIPE_ROWS: Final = 512
_WEIGHT_OF_IMAGE: Final = 0.8  # of what a mask covers, in the choice of its colour; a touching mask counts 1
_DIMMING: Final = 0.62
_SMOOTHING_PX: Final = 0.55
_MARGIN_PX: Final = 3
_FINE_LINE_PX: Final = 3
_SIDE_PER_LINE: Final = 16  # outlines wider than fine ones are at most this fraction of the usual mask's side
_POSITIVE: Final = (46, 204, 113)
_NEGATIVE: Final = (231, 60, 80)
_REGION: Final = (255, 221, 51)


# ---- colours ----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _palette() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
    """Return the palette as CIELAB (P, 3) and as uint8 RGB (P, 3): evenly spaced hues at two lightnesses."""
    from skimage.color import lab2rgb, rgb2lab

    hue = np.radians(_FIRST_HUE_DEGREES) + np.arange(_HUES) * 2 * np.pi / _HUES
    rings = [(72.0, 68.0, 0.0), (56.0, 74.0, np.pi / _HUES)]
    lab = [
        np.stack([np.full(_HUES, light), c * np.cos(hue + turn), c * np.sin(hue + turn)], 1) for light, c, turn in rings
    ]
    rgb = np.clip(lab2rgb(np.concatenate(lab)[None], channel_axis=-1), 0, 1)
    return rgb2lab(rgb)[0], np.round(rgb[0] * 255).astype(np.uint8)


def assign_colours(masks: Masks, rgb8: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.uint8]:
    """Give every mask a colour unlike the colours of the masks near it, and unlike what it covers.

    Masks are coloured from the largest to the smallest; each takes the palette's colour that is least like those of
    the masks around it, the nearer the more it counts. The same masks always get the same colours.

    Parameters
    ----------
    masks : Masks
        N masks.
    rgb8 : uint8 ndarray of shape (H, W, 3), optional
        The image below them.

    Returns
    -------
    uint8 ndarray of shape (N, 3)
        RGB.
    """
    lab, rgb = _palette()
    count = len(masks)
    chosen = np.zeros(count, dtype=np.intp)
    likeness = _likeness(lab, lab)
    below = np.zeros((count, len(lab))) if rgb8 is None else _WEIGHT_OF_IMAGE * _likeness(_mean_lab(masks, rgb8), lab)
    unit = 0.04 * float(np.hypot(*masks.image_hw))
    used = np.zeros(len(rgb))
    order = np.argsort(-np.asarray(masks.areas_px), kind="stable")
    x_start, y_start, x_stop, y_stop = np.ascontiguousarray(masks.extents_xyxy[order].T / unit).reshape(4, count)
    ranked = np.zeros(count, dtype=np.intp)
    for rank, index in enumerate(order.tolist()):
        done = slice(rank)
        gap_x = np.maximum(x_start[done] - x_stop[rank], x_start[rank] - x_stop[done]).clip(min=0)
        gap_y = np.maximum(y_start[done] - y_stop[rank], y_start[rank] - y_stop[done]).clip(min=0)
        weight = 1 / (1 + np.sqrt(gap_x * gap_x + gap_y * gap_y)) ** 2
        near = np.bincount(ranked[done], weights=weight, minlength=len(rgb))  # how much of each colour
        cost = near @ likeness + below[index] + 1e-3 * used
        chosen[index] = ranked[rank] = int(np.argmin(cost))
        used[chosen[index]] += 1
    return rgb[chosen]


def _likeness(lab: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Say how much alike colours (N, 3) and (M, 3) look: (N, M), 1 for the same, near 0 from a distance of 60."""
    likeness: npt.NDArray[np.float64] = np.exp(-((lab[:, None] - others[None]) ** 2).sum(axis=-1) / (2 * 28.0**2))
    return likeness


def _mean_lab(masks: Masks, rgb8: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Return the mean colour below each mask in CIELAB (N, 3), from the middle pixel of each run."""
    from skimage.color import rgb2lab

    runs, count = masks.runs, len(masks)
    owner = np.repeat(np.arange(count), np.diff(masks.offsets))
    length = (runs[:, 2] - runs[:, 1]).astype(np.float64)
    pixels = rgb8[runs[:, 0], (runs[:, 1] + runs[:, 2]) // 2] / 255.0
    sums = [np.bincount(owner, weights=length * pixels[:, channel], minlength=count) for channel in range(3)]
    mean = np.stack(sums, axis=1) / np.maximum(masks.areas_px, 1)[:, None]
    lab: npt.NDArray[np.float64] = rgb2lab(mean[None])[0]
    return lab


# ---- drawing ----------------------------------------------------------------------------------------------------


def display_scale(image_hw: tuple[int, int], side_px: int = 960) -> int:
    """Return the whole-number factor that brings a small image's longer side to about ``side_px`` (at least 1)."""
    return max(1, round(side_px / max(image_hw)))


def draw_overlay(
    rgb8: npt.NDArray[np.uint8],
    masks: Masks,
    *,
    alpha: float = 0.38,
    scale: int = 1,
    colours: npt.NDArray[np.uint8] | None = None,
) -> npt.NDArray[np.uint8]:
    """Draw masks over an image: half-transparent fill, thin outline, small masks on top.

    Parameters
    ----------
    rgb8 : uint8 ndarray of shape (H, W, 3)
        The image.
    masks : Masks
        N masks on the image.
    alpha : float
        Opacity of the fill, in [0, 1].
    scale : int
        Enlargement of the picture; masks are smoothed, not pixelated.
    colours : uint8 ndarray of shape (N, 3), optional
        RGB of each mask; :func:`assign_colours` by default.

    Returns
    -------
    uint8 ndarray of shape (H * scale, W * scale, 3)

    Raises
    ------
    InvalidParameterError
        If image, masks and colours do not fit together, or alpha or scale is out of range.
    """
    _check(rgb8, masks, alpha, scale)
    colours = assign_colours(masks, rgb8) if colours is None else colours
    if colours.shape != (len(masks), 3):
        raise InvalidParameterError(
            "Colours do not fit the masks", expected=f"shape ({len(masks)}, 3)", actual=f"shape {colours.shape}"
        )
    factor = _drawing_factor(masks.image_hw, scale)
    canvas = _paint(
        _enlarge(rgb8, scale, factor),
        _label_canvas(masks, scale, factor),
        colours,
        alpha,
        _line_px(masks, factor),
    )
    return _reduce(canvas, factor // scale)


def draw_answer(
    rgb8: npt.NDArray[np.uint8], masks: Masks, prompts: Sequence[Prompt], *, alpha: float = 0.38, scale: int = 1
) -> npt.NDArray[np.uint8]:
    """Draw the masks that answer prompts in colour over the dimmed image, and the prompts themselves.

    Parameters
    ----------
    rgb8 : uint8 ndarray of shape (H, W, 3)
        The image.
    masks : Masks
        The answer.
    prompts : sequence of Points, Box, Polygon or Text
        Positive points are drawn green, negative ones red, boxes and polygons yellow; a text is not drawn.
    alpha : float
        Opacity of the fill, in [0, 1].
    scale : int
        Enlargement of the picture.

    Returns
    -------
    uint8 ndarray of shape (H * scale, W * scale, 3)

    Raises
    ------
    InvalidParameterError
        If image and masks do not fit together, or alpha or scale is out of range.
    """
    from PIL import Image
    from PIL.ImageDraw import Draw

    _check(rgb8, masks, alpha, scale)
    factor = _drawing_factor(masks.image_hw, scale)
    base = _enlarge(rgb8, scale, factor)
    labels = _label_canvas(masks, scale, factor)
    gray = rgb8.mean(axis=-1, keepdims=True, dtype=np.float32)
    dimmed = _enlarge((_DIMMING * (0.35 * rgb8 + 0.65 * gray)).astype(np.uint8), scale, factor)
    line_px = _line_px(masks, factor)
    canvas = _paint(np.where(labels[..., None] > 0, base, dimmed), labels, assign_colours(masks, rgb8), alpha, line_px)
    picture = Image.fromarray(canvas)
    for prompt in prompts:
        _draw_prompt(Draw(picture), prompt, factor, mark_px=0.008 * max(picture.size), line_px=line_px)
    return _reduce(np.asarray(picture), factor // scale)


def _check(rgb8: npt.NDArray[np.uint8], masks: Masks, alpha: float, scale: int) -> None:
    check_masks(masks, "draw")
    height, width = masks.image_hw
    image: Any = rgb8
    if not isinstance(image, np.ndarray) or image.shape != (height, width, 3) or image.dtype != np.uint8:
        raise InvalidParameterError(
            "The image does not fit the masks",
            expected=f"uint8 of shape ({height}, {width}, 3)",
            actual=described(rgb8),
        )
    as_number("alpha", alpha, 0, 1)
    as_integer("scale", scale, 1)


def _drawing_factor(image_hw: tuple[int, int], scale: int) -> int:
    """Return the factor to draw at: twice the scale where the picture is small enough, for smooth outlines."""
    return scale * (2 if image_hw[0] * image_hw[1] * scale * scale <= _SUPERSAMPLED_MAX_PX else 1)


def _line_px(masks: Masks, factor: int) -> int:
    """Return the width of outlines: in large pictures more, but not so much that small masks are all outline."""
    wide = max(1, round(factor * max(masks.image_hw) / 640))
    if wide <= _FINE_LINE_PX or not len(masks):
        return wide
    side = float(np.sqrt(np.median(masks.areas_px)))
    return min(wide, max(_FINE_LINE_PX, round(factor * side / _SIDE_PER_LINE)))


def _enlarge(rgb8: npt.NDArray[np.uint8], scale: int, factor: int) -> npt.NDArray[np.uint8]:
    """Enlarge smoothly to ``scale`` and by repetition to ``factor``, so that averaging gives the former back."""
    picture = np.ascontiguousarray(rgb8)
    if scale > 1:
        from PIL import Image

        size = (rgb8.shape[1] * scale, rgb8.shape[0] * scale)
        picture = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
    times = factor // scale
    return picture.repeat(times, axis=0).repeat(times, axis=1) if times > 1 else picture


def _reduce(canvas: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.uint8]:
    if factor == 1:
        return canvas
    from PIL import Image

    return np.asarray(Image.fromarray(canvas).reduce(factor))


def _label_canvas(masks: Masks, scale: int, factor: int) -> npt.NDArray[Any]:
    """Return the label map enlarged ``factor`` times; at a ``scale`` above 1 with smooth outlines."""
    if scale == 1:
        labels = masks.to_label_map()
        return labels.repeat(factor, axis=0).repeat(factor, axis=1) if factor > 1 else labels
    from PIL import Image, ImageFilter

    height, width = masks.image_hw
    canvas = np.zeros((height * factor, width * factor), dtype=np.int32)
    extents = np.asarray(masks.extents_xyxy)
    for index in np.argsort(-np.asarray(masks.areas_px), kind="stable"):
        crop = masks.crop(int(index))
        if crop.size == 0:
            continue
        x_start, y_start, x_stop, y_stop = (int(value) for value in extents[index])
        # beyond the mask there is nothing, but beyond the image it goes on
        beyond = ((y_start == 0, y_stop == height), (x_start == 0, x_stop == width))
        soft = np.pad(crop.astype(np.uint8) * 255, [[0 if on else _MARGIN_PX for on in axis] for axis in beyond])
        soft = np.pad(soft, [[_MARGIN_PX if on else 0 for on in axis] for axis in beyond], mode="edge")
        picture = Image.fromarray(soft).filter(ImageFilter.GaussianBlur(_SMOOTHING_PX))
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.BICUBIC)
        inside = slice(_MARGIN_PX * factor, -_MARGIN_PX * factor)
        inner = np.asarray(picture)[inside, inside] > 127
        if not inner.any():  # too fine to smooth
            inner = crop.repeat(factor, axis=0).repeat(factor, axis=1)
        window = canvas[y_start * factor : y_stop * factor, x_start * factor : x_stop * factor]
        window[inner] = index + 1
    return canvas


def _edges(labels: npt.NDArray[Any], line_px: int) -> npt.NDArray[np.bool_]:
    """Mark the pixels of masks that touch another label, ``line_px`` wide (odd widths exact, even ones rounded up)."""
    import cv2

    edge = np.zeros(labels.shape, dtype=bool)
    down = labels[1:] != labels[:-1]
    right = labels[:, 1:] != labels[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    grown = cv2.dilate(edge.view(np.uint8), cross, iterations=line_px // 2)
    return np.asarray(grown.view(np.bool_) & (labels > 0))


def _paint(
    base: npt.NDArray[np.uint8],
    labels: npt.NDArray[Any],
    colours: npt.NDArray[np.uint8],
    alpha: float,
    line_px: int,
) -> npt.NDArray[np.uint8]:
    """Blend fill and outlines into a copy of ``base``, in stripes to keep memory low."""
    opacity = np.zeros(len(colours) + 1, dtype=np.uint16)
    opacity[1:] = round(alpha * 256)
    fill = np.concatenate([np.zeros((1, 3)), colours]).astype(np.uint16) * opacity[:, None]
    line = np.concatenate([np.zeros((1, 3)), np.round(0.7 * colours + 0.3 * 255)]).astype(np.uint8)
    edge = _edges(labels, line_px)
    canvas = np.empty(base.shape, dtype=np.uint8)
    for top in range(0, labels.shape[0], _STRIPE_ROWS):
        rows = slice(top, top + _STRIPE_ROWS)
        ids = labels[rows]
        rest = 256 - opacity[ids]
        for channel in range(3):
            blend = (base[rows, :, channel] * rest + fill[:, channel][ids]) >> 8
            canvas[rows, :, channel] = np.where(edge[rows], line[:, channel][ids], blend)
    return canvas


# ---- prompts ----------------------------------------------------------------------------------------------------


def _draw_prompt(draw: ImageDraw, prompt: Prompt, factor: int, *, mark_px: float, line_px: int) -> None:
    from fastsam_core.prompts import Box, Points, Polygon

    width = max(2, round(1.4 * line_px))
    if isinstance(prompt, Points):
        for (y, x), sign in zip(prompt.points_yx * factor, prompt.labels, strict=True):
            colour = _POSITIVE if sign else _NEGATIVE
            for radius, ink in (
                (mark_px * 1.35, (20, 20, 20)),
                (mark_px * 1.2, (255, 255, 255)),
                (mark_px * 0.82, colour),
            ):
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)
    elif isinstance(prompt, Box):
        for x_start, y_start, x_stop, y_stop in prompt.boxes_xyxy * factor:
            corners = [(x_start, y_start), (x_stop, y_start), (x_stop, y_stop), (x_start, y_stop), (x_start, y_start)]
            _draw_path(draw, corners, width)
    elif isinstance(prompt, Polygon):
        for vertices_yx in prompt.vertices_yx:
            path = [(x, y) for y, x in (vertices_yx * factor).tolist()]
            _draw_path(draw, path + path[: 2 if prompt.kind == "region" else 0], width)


def _draw_path(draw: ImageDraw, path_xy: list[tuple[float, float]], width: int) -> None:
    draw.line(path_xy, fill=(20, 20, 20), width=2 * width + 1, joint="curve")
    draw.line(path_xy, fill=_REGION, width=width, joint="curve")
