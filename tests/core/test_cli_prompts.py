"""Prompts as typed and as JSON."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np
import pytest

from fastsam_core.cli._prompts import PromptFile, PromptSet
from fastsam_core.errors import InvalidPromptError
from fastsam_core.prompts import Box, Points, Polygon, Text


def test_typed_prompts() -> None:
    prompts = PromptSet.typed(
        points=["10,20; 30.5,40,0;", "1,2,1"],
        boxes=["1,2,3,4;5,6,7,8", "0,0,9,9"],
        polygons=["0,0;4,0;4,3"],
        text=["a cup"],
    )
    points, box, polygon, text = prompts.prompts
    assert isinstance(points, Points)
    np.testing.assert_array_equal(points.points_yx, [(20, 10), (40, 30.5), (2, 1)])
    np.testing.assert_array_equal(points.labels, [1, 0, 1])
    np.testing.assert_array_equal(points.groups, [0, 0, 1])
    assert isinstance(box, Box)
    np.testing.assert_array_equal(box.boxes_xyxy, [(1, 2, 3, 4), (5, 6, 7, 8), (0, 0, 9, 9)])
    assert isinstance(polygon, Polygon)
    np.testing.assert_array_equal(polygon.vertices_yx[0], [(0, 0), (0, 4), (3, 4)])
    assert isinstance(text, Text)
    assert [asked for _, asked in prompts.entries] == [2, 3, 1, 1]
    assert prompts.texts == [text]
    assert prompts.positions_xy().shape == (3 + 6 + 3, 2)
    assert not PromptSet.typed()


@pytest.mark.parametrize(
    ("kind", "entry"),
    [
        ("points", "10"),
        ("points", "10,20,2"),
        ("points", "a,b"),
        ("points", ""),
        ("points", "nan,3"),
        ("boxes", "1,2,3"),
        ("boxes", "9,0,3,4"),
        ("polygons", "0,0;1,1"),
        ("polygons", "0,0,0;1,1,1;2,2,2"),
        ("text", " "),
    ],
)
def test_what_cannot_be_read(kind: str, entry: str) -> None:
    with pytest.raises(InvalidPromptError):
        PromptSet.typed(**{kind: [entry]})  # type: ignore[arg-type]


def test_json_says_the_same_as_what_is_typed() -> None:
    data = {"points": [[10, 20], [30, 40, 0]], "boxes": [[1, 2, 3, 4]], "polygons": [[[0, 0], [4, 0], [4, 3]]]}
    parsed = PromptSet.parsed(data, "p.json")
    typed = PromptSet.typed(points=["10,20;30,40,0"], boxes=["1,2,3,4"], polygons=["0,0;4,0;4,3"])
    np.testing.assert_array_equal(parsed.positions_xy(), typed.positions_xy())
    assert [asked for _, asked in parsed.entries] == [asked for _, asked in typed.entries] == [1, 1, 1]
    grouped = PromptSet.parsed({"points": [[[10, 20]], [[30, 40]]], "text": "a cup"}, "p.json")
    assert [asked for _, asked in grouped.entries] == [2, 1]


@pytest.mark.parametrize(
    "data",
    [
        [],
        {"point": [[1, 2]]},
        {"points": 3},
        {"points": [[1]]},
        {"points": [["a", "b"]]},
        {"points": [[1, 2, 7]]},
        {"boxes": [[1, 2, 3]]},
        {"boxes": [[9, 9, 1, 1]]},
        {"polygons": [[[1, 2]]]},
        {"text": [3]},
        {"images": ["a.png"]},
        {"images": {"a.png": []}},
        {"images": {"a.png": {"boxes": [[1]]}}},
        {},
        {"points": [], "images": {}},
    ],
)
def test_json_that_cannot_be_read(data: Any, tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps(data))
    with pytest.raises(InvalidPromptError, match=r"prompts\.json"):
        PromptFile.load(path)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_no_json(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_bytes(content)
    with pytest.raises(InvalidPromptError, match=r"prompts\.json"):
        PromptFile.load(path)


def test_own_prompts_come_before_those_for_all(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"points": [[1, 1]], "images": {"left/a.png": {"boxes": [[0, 0, 2, 2]]}}}))
    prompts = PromptFile.load(path)
    assert isinstance(prompts.of(Path("/data/left/a.png")).prompts[0], Box)
    assert isinstance(prompts.of(Path("/data/right/a.png")).prompts[0], Points)
    assert isinstance(prompts.of(Path("/data/cleft/a.png")).prompts[0], Points)


@pytest.mark.parametrize("names", [["a.png", "left/a.png"], ["left/a.png", "a.png"]])
def test_the_longest_name_that_fits_an_image_counts(names: list[str], tmp_path: Path) -> None:
    prompts = {"a.png": {"points": [[1, 1]]}, "left/a.png": {"boxes": [[0, 0, 2, 2]]}}
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"images": {name: prompts[name] for name in names}}))
    file = PromptFile.load(path)
    assert isinstance(file.of(Path("/data/left/a.png")).prompts[0], Box)
    assert isinstance(file.of(Path("right/a.png")).prompts[0], Points)


def test_names_are_taken_apart_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"images": {f"{number}.png": {"points": [[1, 2]]} for number in range(30)}}))
    taken: list[str] = []

    def watched(name: str | Path) -> PurePath:
        taken.append(str(name))
        return PurePath(name)

    monkeypatch.setattr("fastsam_core.cli._prompts.PurePath", watched)
    file = PromptFile.load(path)
    assert all(file.of(Path(f"a/{number}.png")) for number in range(30))
    assert len(taken) == 2 * 30  # names and images


def test_names_that_fit_no_image_are_unused(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"images": {name: {} for name in ("a.png", "left/b.png", "c.png", "ft/b.png")}}))
    images = [Path("/data/left/b.png"), Path("a.png")]
    assert PromptFile.load(path).unused(images) == ["c.png", "ft/b.png"]


@pytest.mark.parametrize("typed", ["NFC", "NFD"])
def test_accents_are_the_same_composed_or_not(typed: Literal["NFC", "NFD"], tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    name = unicodedata.normalize(typed, "été/café.png")
    path.write_text(json.dumps({"images": {name: {"points": [[1, 1]]}}}))
    file = PromptFile.load(path)
    forms: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
    for found in forms:
        image = Path(unicodedata.normalize(found, "/data/été/café.png"))
        assert file.of(image).prompts
        assert file.unused([image]) == []
