"""Prompts as typed on the command line, kept in a JSON file, or drawn in QuPath or ImageJ.

On the command line and in files positions are (x, y) in pixels, as image viewers show them.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from fastsam_core.cli._text import TextOptions
from fastsam_core.drawings import DRAWING_SUFFIXES, Drawing, Places, read_drawings
from fastsam_core.errors import AnnotationError, InvalidPromptError
from fastsam_core.masks import Masks
from fastsam_core.prompts import Box, Points, Polygon, Prompt, Text, select

if TYPE_CHECKING:
    from fastsam_core.cli._text import TextAnswers
    from fastsam_core.text.crops import Pixels

__all__ = ["PromptFile", "PromptSet"]

_KEYS = ("boxes", "not", "points", "polygons", "text")
_DEFAULT_TEXT: Final = TextOptions()
_POINTS = "'x,y' or 'x,y,0' for a point to avoid, several separated by ';'"
_BOXES = "'x0,y0,x1,y1', several separated by ';'"
_POLYGON = "corners 'x,y;x,y;x,y'"
_JSON = (
    '{"points": [[x, y, label], ...], "boxes": [[x0, y0, x1, y1], ...], "polygons": [[[x, y], ...], ...], '
    '"text": [], "not": []}'
)

_Row = list[float]


@dataclass(frozen=True, slots=True)
class PromptSet:
    """The prompts for one image, each with the number of answers it asks for.

    ``full_size`` are the drawings they were made of, if these are in pixels of the full size whatever level is read;
    ``plane_zt`` is the plane that drawings name.
    """

    entries: tuple[tuple[Prompt, int], ...] = ()
    full_size: tuple[Drawing, ...] = ()
    plane_zt: tuple[int, int] | None = None

    @classmethod
    def typed(
        cls,
        points: Sequence[str] = (),
        boxes: Sequence[str] = (),
        polygons: Sequence[str] = (),
        text: Sequence[str] = (),
        text_options: TextOptions = _DEFAULT_TEXT,
    ) -> Self:
        """Read what was typed after ``--points``, ``--boxes``, ``--polygon`` and ``--text``.

        Each entry of ``points`` is about one object; ``text_options`` hold for all texts.

        Raises
        ------
        InvalidPromptError
            If an entry cannot be read as what it stands for.
        """
        return cls._of(
            [_split(entry, (2, 3), _POINTS) for entry in points],
            [row for entry in boxes for row in _split(entry, (4,), _BOXES)],
            [_split(entry, (2,), _POLYGON) for entry in polygons],
            text_options.prompt(text) if text else None,
        )

    @classmethod
    def parsed(cls, data: Mapping[str, Any], where: str, text_options: TextOptions = _DEFAULT_TEXT) -> Self:
        """Read the JSON form; ``points`` is a list of points of one object, or a list of such lists.

        What ``not`` names is held against the texts, beside the negatives of ``text_options``.

        Raises
        ------
        InvalidPromptError
            If it holds anything else.
        """
        unknown = sorted(set(data) - set(_KEYS))
        if unknown:
            raise InvalidPromptError(f"Unknown key in {where}", expected=", ".join(_KEYS), actual=", ".join(unknown))
        try:
            groups = data.get("points", [])
            if groups and not isinstance(groups[0][0], list):
                groups = [groups]
            texts = data.get("text", []), data.get("not", [])
            text, negatives = ([words] if isinstance(words, str) else list(words) for words in texts)
            return cls._of(
                [[_numbers(row, (2, 3)) for row in group] for group in groups],
                [_numbers(row, (4,)) for row in data.get("boxes", [])],
                [[_numbers(row, (2,)) for row in ring] for ring in data.get("polygons", [])],
                text_options.prompt(text, negatives) if text else None,
            )
        except InvalidPromptError as error:
            raise InvalidPromptError(
                f"{error.problem} ({where})", expected=error.expected, actual=error.actual, remedy=error.remedy
            ) from error
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise InvalidPromptError(f"Cannot read {where}", expected=_JSON, actual=str(error)) from error

    @classmethod
    def drawn(cls, drawings: Sequence[Drawing], *, full_size: bool = False) -> Self:
        """Take each point, box and outline as an object; of an outline of several rings the largest."""
        places = Places.of(drawings)
        points = [[point] for point in places.points_xy.tolist()]
        polygons = [outline.tolist() for outline in places.outlines_xy]
        made = cls._of(points, places.boxes_xyxy.tolist(), polygons, None)
        named = next((drawing.plane_zt for drawing in drawings if drawing.plane_zt is not None), None)
        return replace(made, full_size=tuple(drawings) if full_size else (), plane_zt=named)

    def other_plane(self, recipe: Mapping[str, Any]) -> str | None:
        """Return the plane that they were drawn on, as ``--plane`` takes it, if another one was read."""
        sizes = dict(zip(recipe.get("axes", ""), recipe.get("shape", ()), strict=False))
        read = {axis: at for axis, at in recipe.get("plane", {}).items() if axis != "C" and sizes.get(axis, 1) > 1}
        if self.plane_zt is None or not read:
            return None
        if len(read) == 1:  # simple stacks have their one axis along either
            drawn = dict.fromkeys(read, max(self.plane_zt))
        else:
            drawn = {axis: at for axis, at in zip("ZT", self.plane_zt, strict=True) if axis in read}
        return None if drawn.items() <= read.items() else ",".join(f"{axis}={at}" for axis, at in drawn.items())

    def at_level(self, image_hw: tuple[int, int], full_hw: tuple[int, int]) -> Self:
        """Return the prompts in pixels of a smaller level, if they are in those of the full size."""
        if not self.full_size or image_hw == full_hw:
            return self
        scale_xy = np.divide(image_hw, full_hw)[::-1]
        smaller = [replace(one, rings_xy=tuple(ring * scale_xy for ring in one.rings_xy)) for one in self.full_size]
        return self.drawn(smaller)

    @classmethod
    def _of(cls, points: list[list[_Row]], boxes: list[_Row], polygons: list[list[_Row]], text: Text | None) -> Self:
        entries: list[tuple[Prompt, int]] = []
        rows = [
            (row[0], row[1], row[2] if len(row) == 3 else 1, group)
            for group, group_rows in enumerate(points)
            for row in group_rows
        ]
        if rows:
            points_yx = [(y, x) for x, y, _, _ in rows]
            labels, groups = [row[2] for row in rows], [row[3] for row in rows]
            entries.append((Points(points_yx, labels=labels, groups=groups), len(set(groups))))
        if boxes:
            entries.append((Box(boxes), len(boxes)))
        if polygons:
            entries.append((Polygon([[(y, x) for x, y in ring] for ring in polygons]), len(polygons)))
        if text is not None:
            entries.append((text, len(text.queries)))
        return cls(tuple(entries))

    def __bool__(self) -> bool:
        """Whether there is any prompt."""
        return bool(self.entries)

    @property
    def prompts(self) -> list[Prompt]:
        """The prompts alone."""
        return [prompt for prompt, _ in self.entries]

    @property
    def texts(self) -> list[Text]:
        """The texts among them."""
        return [prompt for prompt, _ in self.entries if isinstance(prompt, Text)]

    @property
    def positional(self) -> bool:
        """Whether any prompt says where something is."""
        return len(self.texts) < len(self.entries)

    def positions_xy(self) -> NDArray[np.float64]:
        """All points, box corners and polygon corners, shape (K, 2)."""
        rows = [np.empty((0, 2))]
        for prompt in self.prompts:
            if isinstance(prompt, Points):
                rows.append(prompt.points_yx[:, ::-1])
            elif isinstance(prompt, Box):
                rows.append(prompt.boxes_xyxy.reshape(-1, 2))
            elif isinstance(prompt, Polygon):
                rows.extend(vertices_yx[:, ::-1] for vertices_yx in prompt.vertices_yx)
        return np.concatenate(rows)

    def answer(
        self,
        masks: Masks,
        image_rgb8: Pixels | None = None,
        texts: TextAnswers | None = None,
        *,
        shown: Masks | None = None,
    ) -> tuple[Masks, int]:
        """Return the masks that answer, in order, and how many prompts found none.

        Texts need the image and what answers them, and choose among the masks ``shown``, all of them by default.

        The field ``"prompt_index"`` counts through the whole set: objects by points, then boxes, polygons and texts.
        Where there are texts, the field ``"text"`` says which one a mask answers, and is empty for other prompts.
        """
        parts: list[Masks] = []
        worded = bool(self.texts)
        first = 0
        by_text: Iterator[Masks] = iter(())
        if texts and image_rgb8 is not None:
            by_text = iter(texts.answer(image_rgb8, masks if shown is None else shown, self.texts))
        for prompt, asked in self.entries:
            part = next(by_text, None) if isinstance(prompt, Text) else None
            part = select(masks, prompt) if part is None else part
            if worded:
                words = prompt.queries if isinstance(prompt, Text) else [""] * asked
                part = part.with_fields(text=np.array(words, str)[part.fields["prompt_index"]])
            parts.append(part.with_fields(prompt_index=part.fields["prompt_index"] + first))
            first += asked
        answers = Masks.concatenate(parts)
        return answers, first - len(set(answers.fields["prompt_index"].tolist()))


@dataclass(frozen=True, slots=True)
class PromptFile:
    """Prompts of many images: ``everywhere`` for all, ``by_image`` for those named (file name or end of the path)."""

    everywhere: PromptSet
    by_image: Mapping[str, PromptSet]
    _ends: Mapping[tuple[str, ...], PromptSet] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Take the names apart, once for all images."""
        ends = {_parts(name): prompts for name, prompts in self.by_image.items()}
        object.__setattr__(self, "_ends", ends)

    @classmethod
    def load(cls, path: Path, text_options: TextOptions = _DEFAULT_TEXT) -> Self:
        """Read ``{"points": ..., "images": {"a.png": {"boxes": ...}}}``, or drawings, which are for all images.

        Raises
        ------
        InvalidPromptError
            If the file cannot be read or holds something else, or nothing was drawn.
        """
        if path.suffix.lower() in DRAWING_SUFFIXES:
            return cls(_drawn(path), {})
        try:
            data = json.loads(path.read_text(encoding="utf-8-sig"))  # as Windows writes it, too
        except (OSError, ValueError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise InvalidPromptError(
                f"Cannot read {path}", expected="JSON, GeoJSON or ROIs of ImageJ", actual=str(reason)
            ) from error
        images = data.pop("images", {}) if isinstance(data, dict) else None
        if not isinstance(images, dict) or not all(isinstance(entry, dict) for entry in images.values()):
            raise InvalidPromptError(f"Cannot read {path}", expected=_JSON[:-1] + ', "images": {"a.png": {...}}}')
        by_image = {
            name: PromptSet.parsed(entry, f"{path}, image {name}", text_options) for name, entry in images.items()
        }
        everywhere = PromptSet.parsed(data, str(path), text_options)
        if not everywhere and not by_image:
            raise _empty(path)
        return cls(everywhere, by_image)

    @property
    def prompted(self) -> bool:
        """Whether there is any prompt at all."""
        return bool(self.everywhere or self.by_image)

    @property
    def positional(self) -> bool:
        """Whether any prompt says where something is."""
        return any(prompts.positional for prompts in (self.everywhere, *self.by_image.values()))

    @property
    def texts(self) -> list[Text]:
        """The texts among the prompts."""
        return [text for prompts in (self.everywhere, *self.by_image.values()) for text in prompts.texts]

    def of(self, image: Path) -> PromptSet:
        """Return the prompts of one image: its own, by the longest name that fits, instead of those for all.

        Raises
        ------
        InvalidPromptError
            If there is none for it.
        """
        parts = _parts(image)
        for length in range(len(parts), 0, -1):
            if (own := self._ends.get(parts[-length:])) is not None:
                return own
        if not self.everywhere and self.by_image:
            raise InvalidPromptError(
                "The prompt file says nothing of this image",
                expected=f'an entry for {image.name} under "images", or prompts for all images',
            )
        return self.everywhere

    def unused(self, images: Iterable[Path]) -> list[str]:
        """Return the names under "images" that fit none of the images."""
        ends = {parts[-length:] for parts in map(_parts, images) for length in range(1, len(parts) + 1)}
        return [name for name in self.by_image if _parts(name) not in ends]


def _parts(path: str | Path) -> tuple[str, ...]:
    """Take a path apart, its letters with their accents composed: macOS keeps them apart in names of files."""
    return PurePath(unicodedata.normalize("NFC", os.fspath(path))).parts


def _drawn(path: Path) -> PromptSet:
    try:
        drawings = read_drawings(path)
    except AnnotationError as error:
        raise InvalidPromptError(
            error.problem, expected=error.expected, actual=error.actual, remedy=error.remedy
        ) from error
    if not drawings:
        raise _empty(path)
    return PromptSet.drawn(drawings, full_size=path.suffix.lower() == ".geojson")


def _empty(path: Path) -> InvalidPromptError:
    return InvalidPromptError(f"{path} is empty", expected="points, boxes or outlines")


def _split(entry: str, lengths: tuple[int, ...], expected: str) -> list[_Row]:
    try:
        rows = [_numbers(part.split(","), lengths) for part in entry.split(";") if part.strip()]
    except ValueError as error:
        raise InvalidPromptError("Cannot read the prompt", expected=expected, actual=repr(entry)) from error
    if not rows:
        raise InvalidPromptError("The prompt is empty", expected=expected, actual=repr(entry))
    return rows


def _numbers(row: Sequence[str | float], lengths: tuple[int, ...]) -> _Row:
    if len(row) not in lengths:
        raise ValueError(f"{len(row)} values in {list(row)!r}")
    return [float(value) for value in row]
