"""COCO results files of any size: read once for where each image's entries are, then one image at a time."""

from __future__ import annotations

import json
import math
from array import array
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fastsam_core.errors import AnnotationError
from fastsam_core.evaluation.coco_data import stem_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from fastsam_core.evaluation.coco_data import CocoData

__all__ = ["CocoResults", "boxes_of_entries", "scores_of_entries"]

_CHUNK_BYTES: Final = 1 << 22


class CocoResults:
    """A JSON array of ``{"image_id", "score", "bbox" and/or "segmentation"}``, in any order.

    Entries may name their image instead, by ``file_name`` or an ``image_id`` that is its name, as Ultralytics does.
    Only the places of entries in the file are kept in memory: a file of 5 million proposals takes a few megabytes.

    Parameters
    ----------
    path : Path

    Raises
    ------
    AnnotationError
        If the file is no such array, or an entry lacks its image or score; names file and entry.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ranges: dict[int | str, array[int]] = {}
        self._names: dict[int | str, str] = {}
        last: int | str | None = None
        for number, (entry, start, stop) in enumerate(_entries(path)):
            image_id = self._image_of(entry, number)
            if isinstance(name := entry.get("file_name"), str):
                self._names[image_id] = name
            ranges = self._ranges.setdefault(image_id, array("q"))
            if image_id == last:
                ranges[-1] = stop
            else:
                ranges.extend((start, stop))
            last = image_id

    def find_images_of(self, data: CocoData) -> None:
        """Find out which images of an annotation file the entries belong to.

        Raises
        ------
        AnnotationError
            Names the first that belongs to none.
        """
        known, by_stem = set(data.image_ids), data.ids_by_stem
        found: dict[int | str, array[int]] = {}
        strangers = []
        for image_id, ranges in self._ranges.items():
            unknown = image_id if isinstance(image_id, str) and image_id not in known else ""
            name = self._names.get(image_id, unknown)
            named = by_stem.get(name, by_stem.get(stem_of(name), image_id))
            if named not in known:
                strangers.append(image_id)
            found.setdefault(named, array("q")).extend(ranges)
        if strangers:
            raise AnnotationError(
                f"{self.path} has results of images that are not in {data.path}",
                actual=f"image_id {strangers[0]}; {len(strangers)} in all",
                remedy="give the annotations that the results were made for",
            )
        self._ranges, self._names = found, {}

    def entries(self, image_id: int | str, limit: int) -> list[dict[str, Any]]:
        """Read the ``limit`` best entries of one image, best first (equal ones in the file's order)."""
        found: list[dict[str, Any]] = []
        ranges = self._ranges.get(image_id, array("q"))
        with self.path.open("rb") as file:
            for start, stop in zip(ranges[::2], ranges[1::2], strict=True):
                file.seek(start)
                text = file.read(stop - start).decode("utf-8", "replace")  # no text counts, only numbers do
                found += json.loads(f"[{text}]")
        return sorted(found, key=lambda entry: -float(entry["score"]))[:limit]

    def _image_of(self, entry: Any, number: int) -> int | str:
        try:
            image_id, score = entry["image_id"], float(entry["score"])
        except (KeyError, TypeError, ValueError) as error:
            raise AnnotationError(
                f"Entry {number} of {self.path} is no result",
                expected="an object with image_id and score",
                actual=str(entry)[:80],
            ) from error
        if not isinstance(image_id, int | str) or not math.isfinite(score):
            raise AnnotationError(
                f"Entry {number} of {self.path} has no proper image_id or score", actual=f"{image_id!r}, {score}"
            )
        return image_id


def boxes_of_entries(entries: Sequence[Mapping[str, Any]], path: Path) -> NDArray[np.float64]:
    """Return the boxes (N, 4) of entries as x, y, width, height; boxes of the masks (RLE) where there are none.

    Raises
    ------
    AnnotationError
        If an entry has neither; names file and entry.
    """
    from pycocotools import mask as coco

    boxes = np.empty((len(entries), 4))
    for row, entry in enumerate(entries):
        box = entry.get("bbox")
        if not box and isinstance(entry.get("segmentation"), dict):
            box = coco.toBbox(entry["segmentation"])
        try:
            numbers = np.array([] if box is None else box, np.float64)
        except (TypeError, ValueError):
            numbers = np.empty(0)
        if numbers.shape != (4,) or not np.isfinite(numbers).all():
            raise AnnotationError(
                f"An entry for image {entry.get('image_id')} of {path} has no proper box",
                expected="bbox: [x, y, width, height], or segmentation: RLE",
                actual=f"bbox {entry.get('bbox')}",
            )
        boxes[row] = numbers
    return boxes


def scores_of_entries(entries: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """Return the scores (N,) of entries."""
    return np.array([entry["score"] for entry in entries], np.float64)


def _entries(path: Path) -> Iterator[tuple[Any, int, int]]:
    """Yield each element of a JSON array with the bytes it spans, holding a few megabytes of the file at a time."""
    decode = json.JSONDecoder().raw_decode
    number = 0
    try:
        with path.open("rb") as file:
            # bytes as Latin-1: one character a byte, so places in the text are places in the file
            text, base, place = file.read(_CHUNK_BYTES).decode("latin-1"), 0, 0
            place = _skip(text, 0, " \t\r\n")
            if text[place : place + 1] != "[":
                raise AnnotationError(f"{path} is no COCO results file", expected="a JSON array")
            place += 1
            while True:
                place = _skip(text, place, " \t\r\n,")
                if text[place : place + 1] == "]":
                    return
                try:
                    entry, stop = decode(text, place)
                except json.JSONDecodeError as error:
                    more = file.read(max(_CHUNK_BYTES, len(text) - place)).decode("latin-1")
                    if not more:
                        raise AnnotationError(f"Entry {number} of {path} is damaged", actual=str(error)) from error
                    base, text, place = base + place, text[place:] + more, 0
                    continue
                if not (characters := text[place:stop]).isascii():
                    entry = json.loads(characters.encode("latin-1").decode("utf-8", "replace"))
                yield entry, base + place, base + stop
                number, place = number + 1, stop
    except OSError as error:
        raise AnnotationError(
            f"{path} cannot be read", actual=error.strerror or str(error), remedy="check the path and its permissions"
        ) from error


def _skip(text: str, place: int, characters: str) -> int:
    while place < len(text) and text[place] in characters:
        place += 1
    return place
