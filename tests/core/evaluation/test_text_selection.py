"""Text evaluation: what counts as right, chance, classes that the encoder does not know, and the command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

import fastsam_core.text as text_prompts
from fastsam_core.cli import app
from fastsam_core.errors import UnknownWordsError
from fastsam_core.evaluation.text_selection import TextScorer, known_names
from fastsam_core.evaluation.truth import Truth
from fastsam_core.masks import Masks
from fastsam_core.prompts import Matches, Text

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class ColourWords:
    """Knows "bright" and "dark" and fits masks by their mean brightness."""

    name, notice = "colours", "knows 2 words"

    @classmethod
    def load(cls, name: str | None, *, device: str, progress: object) -> ColourWords:
        return cls()

    def check(self, prompt: Text) -> None:
        if not set(prompt.queries) <= {"bright", "dark"}:
            raise UnknownWordsError("no such word")


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    def embed(encoder: ColourWords, image: NDArray[np.uint8], masks: Masks) -> NDArray[np.float32]:
        return masks.areas_px[:, None].astype(np.float32)

    def match(encoder: ColourWords, embeddings: NDArray[np.float32], prompt: Text) -> Matches:
        assert prompt.threshold == 0
        largest = np.full(len(prompt.queries), int(embeddings[:, 0].argmax()))
        return Matches(largest, np.ones(len(largest)), np.arange(len(largest)))

    for name, value in {"TextEncoder": ColourWords, "embed_masks": embed, "match_text": match}.items():
        monkeypatch.setattr(text_prompts, name, value, raising=False)


def squares(*corners: int) -> Masks:
    stack = np.zeros((len(corners), 40, 40), bool)
    for mask, corner in zip(stack, corners, strict=True):
        mask[corner : corner + 10, corner : corner + 10] = True
    return Masks.from_dense(stack)


def test_right_chance_and_reachable() -> None:
    scorer = TextScorer()
    truth = Truth.of_masks(squares(0, 12, 24))
    scorer.add(squares(0, 12, 30, 14), truth, ["cat", "dog", "cat"], {"cat": 0, "dog": 3})
    scorer.add(squares(0), truth, ["", "bird", ""], {"bird": 0})
    scorer.add(Masks.empty((40, 40)), truth, ["cat", "cat", "cat"], {"cat": -1})
    values = scorer.report().values
    assert (values["images"], values["queries"]) == (3, 4)
    assert values["accuracy"] == 1 / 4  # the dog's mask is moved by 2 px in both directions: IoU 64 / 136
    assert values["miou"] == pytest.approx((1 + 64 / 136) / 4)
    assert values["chance"] == pytest.approx((1 / 4 + 1 / 4) / 4)
    assert values["reachable"] == 2 / 4
    assert values["accuracy_where_reachable"] == 1 / 2
    rows = {row[0]: row[1] for row in scorer.report().tables[0].rows}
    assert rows == {"all": 4, "cat": 2, "dog": 1, "bird": 1}


def test_unknown_words_are_left_out() -> None:
    known, unknown = known_names(ColourWords(), {1: "bright", 5: "zebra"})  # type: ignore[arg-type]
    assert known == {1: "bright"}
    assert unknown == ("zebra",)


@pytest.mark.usefixtures("words", "loaded")
def test_the_command_on_label_maps(label_folder: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", "text", str(label_folder), "--name", "bright", "--json", str(tmp_path / "t.json")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads((tmp_path / "t.json").read_text())
    assert document["values"]["queries"] == 2  # the third image shows nothing
    assert document["values"]["accuracy"] == 1
    assert document["settings"]["text_encoder"] == "colours"
    assert document["notes"] == ["knows 2 words"]


@pytest.mark.usefixtures("words", "loaded")
def test_label_maps_need_a_name(label_folder: Path) -> None:
    result = CliRunner().invoke(app, ["evaluate", "text", str(label_folder)])
    assert result.exit_code == 2
    assert "--name" in result.output


@pytest.mark.usefixtures("words", "loaded")
def test_a_name_that_the_encoder_does_not_know_ends_the_command(label_folder: Path) -> None:
    result = CliRunner().invoke(app, ["evaluate", "text", str(label_folder), "--name", "zebra"])
    assert result.exit_code == 2
    assert "zebra" in result.output
    assert "Traceback" not in result.output
