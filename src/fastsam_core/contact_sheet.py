"""Many pictures on one sheet: cards of one large picture, small ones below it, and captions."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fastsam_core.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

__all__ = ["Card", "Picture", "contact_sheet"]

_PAPER: Final = (17, 19, 24)
_CARD: Final = (30, 33, 41)
_TITLE: Final = (240, 242, 246)
_CAPTION: Final = (158, 166, 182)
_GAP_PX: Final = 20
_INSET_PX: Final = 14
_MAIN_HW: Final = (372, 496)
_HEAD_PX: Final = 58
_FOOT_PX: Final = 26


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture, uint8 (H, W, 3), and a few words about it."""

    rgb8: npt.NDArray[np.uint8]
    caption: str


@dataclass(frozen=True, slots=True, eq=False)
class Card:
    """What the sheet shows of one image.

    Parameters
    ----------
    title : str
        Name of the image.
    main : Picture
        Drawn large.
    details : sequence of Picture
        Drawn small, side by side below; every card of a sheet has as many.
    """

    title: str
    main: Picture
    details: Sequence[Picture] = ()


def contact_sheet(cards: Sequence[Card], columns: int = 3) -> npt.NDArray[np.uint8]:
    """Arrange cards in rows.

    Parameters
    ----------
    cards : sequence of Card
        At least one.
    columns : int
        Cards in a row.

    Returns
    -------
    uint8 ndarray of shape (H, W, 3)

    Raises
    ------
    InvalidParameterError
        If there is no card or no column.
    """
    if not cards or columns < 1:
        raise InvalidParameterError(
            "Nothing to arrange", expected="at least one card and one column", actual=f"{len(cards)} and {columns}"
        )
    from PIL import Image
    from PIL.ImageDraw import Draw

    columns = min(columns, len(cards))
    rows = -(-len(cards) // columns)
    most_details = max(len(card.details) for card in cards)
    card_w = _MAIN_HW[1] + 2 * _INSET_PX
    detail_w = (_MAIN_HW[1] - (most_details - 1) * _INSET_PX) // most_details if most_details else 0
    detail_h = detail_w * 3 // 4
    card_h = _HEAD_PX + _MAIN_HW[0] + _INSET_PX + (detail_h + _FOOT_PX + _INSET_PX // 2 if most_details else 0)
    sheet = Image.new("RGB", (_GAP_PX + columns * (card_w + _GAP_PX), _GAP_PX + rows * (card_h + _GAP_PX)), _PAPER)
    draw = Draw(sheet)
    for place, card in enumerate(cards):
        row, column = divmod(place, columns)
        left, top = _GAP_PX + column * (card_w + _GAP_PX), _GAP_PX + row * (card_h + _GAP_PX)
        draw.rounded_rectangle((left, top, left + card_w, top + card_h), radius=10, fill=_CARD)
        x, y = left + _INSET_PX, top + _HEAD_PX // 2
        _write(draw, card.title, (x, y), 22, _TITLE, "lm")
        _write(draw, card.main.caption, (x + _MAIN_HW[1], y + 2), 15, _CAPTION, "rm")
        _paste(sheet, card.main, (left + _INSET_PX, top + _HEAD_PX), _MAIN_HW)
        for number, detail in enumerate(card.details):
            x = left + _INSET_PX + number * (detail_w + _INSET_PX)
            y = top + _HEAD_PX + _MAIN_HW[0] + _INSET_PX
            _paste(sheet, detail, (x, y), (detail_h, detail_w))
            _write(draw, detail.caption, (x + detail_w // 2, y + detail_h + _FOOT_PX // 2), 14, _CAPTION, "mm")
    return np.asarray(sheet)


def _paste(sheet: Image, picture: Picture, at_xy: tuple[int, int], box_hw: tuple[int, int]) -> None:
    """Fit a picture into a box, centred, with its aspect kept."""
    from PIL import Image

    height, width = picture.rgb8.shape[:2]
    scale = min(box_hw[0] / height, box_hw[1] / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = Image.fromarray(np.ascontiguousarray(picture.rgb8)).resize(size, Image.Resampling.LANCZOS)
    sheet.paste(small, (at_xy[0] + (box_hw[1] - size[0]) // 2, at_xy[1] + (box_hw[0] - size[1]) // 2))


def _write(
    draw: ImageDraw, text: str, at_xy: tuple[int, int], size_px: int, colour: tuple[int, int, int], anchor: str
) -> None:
    draw.text(at_xy, text, fill=colour, font=_font(size_px, plain=text.replace("…", "").isascii()), anchor=anchor)


def _font(size_px: int, *, plain: bool) -> FreeTypeFont | ImageFont:
    """Return Pillow's own font, which has ASCII alone, or for other letters one of the system's or Matplotlib's."""
    from PIL import ImageFont

    for path in () if plain else _fonts():
        with suppress(OSError):
            return ImageFont.truetype(path, size_px)
    return ImageFont.load_default(size=size_px)


def _fonts() -> Iterator[str]:
    yield from ("Arial Unicode.ttf", "arial.ttf", "DejaVuSans.ttf")
    with suppress(ImportError):
        from matplotlib import get_data_path

        yield os.path.join(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
