"""Words and likeness in the widget: an encoder that knows colours stands in, and the one of the package once."""

from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Image
from napari.utils.notifications import notification_manager

from fastsam_core.journal import read_journal
from fastsam_core.model import FastSAM
from fastsam_core.replay import replay
from fastsam_core.text import TextEncoder
from fastsam_core.text.encoder import EncoderTraits
from napari_fastsam._settings import Settings
from napari_fastsam.models.words import can_read_words, queries_of

from .conftest import Make, discs, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

NEEDS_TEXT = pytest.mark.skipif(not can_read_words(), reason="the text extra is not installed")
COLOURS = {"red": (255, 90, 90), "blue": (90, 90, 255), "green": (90, 255, 90)}
PLACES = (("red", 20, 20), ("blue", 20, 60), ("red", 60, 20), ("green", 60, 60))


class ColourTowers:
    """Encodes a picture as the colour of its middle, and words as theirs."""

    device, precision, size_px, width, logit_scale, context_length = "cpu", "fp32", 16, 3, 50.0, 20

    def __init__(self) -> None:
        self.pictures = 0
        self.gate: Callable[[], object] | None = None

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def encode_pictures(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self.gate is not None:
            self.gate()
        self.pictures += len(pictures)
        return self._unit(pictures[:, 6:10, 6:10].reshape(len(pictures), -1, 3).mean(axis=1))

    def encode_words(self, texts: list[str]) -> NDArray[np.float32]:
        named = [[rgb for name, rgb in COLOURS.items() if name in text] or [(128, 128, 128)] for text in texts]
        return self._unit(np.array([rgbs[0] for rgbs in named], float))

    def _unit(self, colours: Any) -> NDArray[np.float32]:
        centred = np.asarray(colours, np.float64) - 80
        unit: NDArray[np.float32] = (centred / np.linalg.norm(centred, axis=1, keepdims=True)).astype(np.float32)
        return unit


@pytest.fixture
def towers(monkeypatch: pytest.MonkeyPatch) -> ColourTowers:
    made = ColourTowers()
    traits = EncoderTraits(templates=("{}",), negatives=("thing",), vocabulary=(*COLOURS, "thing"))
    load = classmethod(lambda cls, *args, **options: TextEncoder("colours", "colours:1", made, traits))  # type: ignore[arg-type]
    monkeypatch.setattr(TextEncoder, "load", load)
    return made


def coloured() -> NDArray[np.uint8]:
    image = np.zeros((80, 80, 3), np.uint8)
    for name, y, x in PLACES:
        image[discs(80, 80, (y, x, 9)) > 0] = COLOURS[name]
    return image


def opened(viewer: Any, make_widget: Make, qtbot: Any) -> Any:
    viewer.add_layer(Image(coloured(), rgb=True, name="Image"))
    widget = make_widget(viewer)
    run(qtbot, widget)
    assert len(widget.session.candidates) == 4
    return widget


def ask(qtbot: Any, widget: Any, text: str) -> None:
    """Type and press Enter."""
    field = widget.words_panel.text
    field.clear()
    qtbot.keyClicks(field, text)
    qtbot.keyClick(field, "\r")
    qtbot.waitUntil(lambda: not widget.words.running, timeout=120_000)


def picked_colours(widget: Any) -> list[str]:
    columns = widget.session.candidates.columns
    at = {(y, x): name for name, y, x in PLACES}
    return sorted(at[round(columns["y"][i] - 0.5), round(columns["x"][i] - 0.5)] for i in widget.session.selected)


@NEEDS_TEXT
@pytest.mark.usefixtures("blob_model")
def test_words_pick_and_a_second_text_is_a_look_up(
    viewer: Any, make_widget: Make, qtbot: Any, towers: ColourTowers
) -> None:
    widget = opened(viewer, make_widget, qtbot)
    ask(qtbot, widget, "red")
    assert picked_colours(widget) == ["red", "red"]
    assert "2 of 4 candidates fit" in widget.words_panel.message.text()
    assert not widget.words_panel.limit.isHidden()
    assert towers.pictures == 4
    widget.words_panel.text.clear()
    qtbot.keyClicks(widget.words_panel.text, "blue, green")
    assert picked_colours(widget) == ["blue", "green"], "while it is typed, without Enter"
    assert towers.pictures == 4
    widget.words.set_limits(1.5, np.inf)
    assert picked_colours(widget) == []
    widget.words_panel.limit.set_limits(-np.inf, np.inf)
    assert len(picked_colours(widget)) == 4
    widget.words_panel.limit.set_limits(0.5, np.inf)
    widget.label_panel.commit_picked()
    labels = viewer.layers["Image labels"].data
    assert [labels[20, 60] > 0, labels[60, 60] > 0, labels[20, 20] > 0] == [True, True, False]
    widget.words_panel.stop.click()
    assert widget.session.selected == []
    assert widget.words_panel.limit.isHidden()


@NEEDS_TEXT
@pytest.mark.usefixtures("blob_model")
def test_what_looks_like_the_picks(viewer: Any, make_widget: Make, qtbot: Any, towers: ColourTowers) -> None:
    widget = opened(viewer, make_widget, qtbot)
    widget.words_panel.similar.click()
    assert "pick one or more candidates" in str(notification_manager.records[-1].message)
    widget.pick_panel.add_points()
    widget.prompts.points.add([[20, 20]])
    widget.words_panel.similar.click()
    qtbot.waitUntil(lambda: not widget.words.running, timeout=120_000)
    assert picked_colours(widget) == ["red", "red"]
    assert widget.words_panel.limit._title.text() == "Likeness"
    widget.filter_panel.sliders["confidence"].set_limits(0.9, np.inf)
    assert picked_colours(widget) == ["red"], "what the filters hide is not picked"


@NEEDS_TEXT
@pytest.mark.usefixtures("blob_model")
def test_examples_of_a_plane_that_is_left_pick_nothing_on_another(
    viewer: Any, make_widget: Make, qtbot: Any, towers: ColourTowers
) -> None:
    viewer.add_layer(Image(np.stack([coloured(), coloured() // 10 * 9]), rgb=True, name="Image"))
    widget = make_widget(viewer)
    for place in (0, 1):
        viewer.dims.set_current_step(0, place)
        run(qtbot, widget)
    ask(qtbot, widget, "red")  # what the other plane holds is known
    widget.words.clear()
    viewer.dims.set_current_step(0, 0)
    gate, reached = Event(), Event()

    def wait() -> None:
        reached.set()
        gate.wait(10)

    towers.gate = wait
    widget.session.select_by_hand([0])
    widget.words_panel.similar.click()
    qtbot.waitUntil(reached.is_set, timeout=120_000)
    viewer.dims.set_current_step(0, 1)
    gate.set()
    qtbot.waitUntil(lambda: not widget.words.running, timeout=120_000)
    assert widget.session.ranking is None
    assert widget.session.selected == []


@NEEDS_TEXT
@pytest.mark.usefixtures("blob_model", "towers")
def test_unknown_words_are_said_in_the_widget(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    widget = opened(viewer, make_widget, qtbot)
    notices = len(notification_manager.records)
    ask(qtbot, widget, "grean")
    assert "does not know 'grean'" in widget.words_panel.message.text()
    assert "'green'" in widget.words_panel.message.text()
    assert widget.session.selected == []
    ask(qtbot, widget, "green")
    assert picked_colours(widget) == ["green"]
    ask(qtbot, widget, "purple")
    assert "does not know 'purple'" in widget.words_panel.message.text()
    assert widget.session.selected == []
    assert len(notification_manager.records) == notices
    widget.session.forget()
    ask(qtbot, widget, "red")
    assert "Segment everything" in str(notification_manager.records[-1].message)


@NEEDS_TEXT
@pytest.mark.usefixtures("blob_model")
def test_looking_can_be_cancelled(viewer: Any, make_widget: Make, qtbot: Any, towers: ColourTowers) -> None:
    widget = opened(viewer, make_widget, qtbot)
    gate, reached = Event(), Event()

    def wait() -> None:
        reached.set()
        gate.wait(10)

    towers.gate = wait
    qtbot.keyClicks(widget.words_panel.text, "red")
    qtbot.keyClick(widget.words_panel.text, "\r")
    qtbot.waitUntil(reached.is_set, timeout=10_000)
    assert widget.words_panel.stop.text() == "Cancel"
    widget.words_panel.stop.click()
    assert not widget.words.running
    gate.set()
    qtbot.wait(200)
    assert widget.session.selected == []
    towers.gate = None
    ask(qtbot, widget, "red")
    assert picked_colours(widget) == ["red", "red"]


def test_without_the_extra_the_field_names_the_command(
    viewer: Any, make_widget: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_fastsam.views.words_panel.can_read_words", lambda: False)
    panel = make_widget(viewer).words_panel
    assert not panel.text.isEnabled()
    assert 'pip install "fastsam-plugins[text]"' in panel.text.toolTip()


@NEEDS_TEXT
@pytest.mark.usefixtures("blob_model")
def test_the_encoder_of_the_package_tells_red_from_blue(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    widget = opened(viewer, make_widget, qtbot)
    ask(qtbot, widget, "red circle")
    assert set(picked_colours(widget)) == {"red"}
    ask(qtbot, widget, "blue circle")
    assert picked_colours(widget) == ["blue"]
    assert "words only" in widget.words_panel.message.text()


def test_commas_stand_between_alternatives() -> None:
    assert queries_of(" red circle, star ,, ") == ("red circle", "star")
    assert queries_of("  ") == ()


@NEEDS_TEXT
@pytest.mark.usefixtures("blob_model", "towers")
def test_words_are_replayed_as_words(
    viewer: Any, make_widget: Make, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that a text picks is picked by the text; a choice among it, or without the encoder, by its boxes."""
    monkeypatch.setenv("FASTSAM_JOURNALS", str(tmp_path))
    widget = opened(viewer, make_widget, qtbot)
    ask(qtbot, widget, "red")
    assert picked_colours(widget) == ["red", "red"]
    widget.label_panel.commit_picked()
    ask(qtbot, widget, "blue, green")
    widget.labels.commit(widget.session.selected[:1])
    path = widget.journal.path
    widget.shut_down()
    journal = read_journal(path)
    causes = [cause["by"] for entry in journal.label_steps for cause in entry["causes"]]
    assert causes == ["text", "text", "hand"]
    assert journal.text_encoder == "colours"
    mirrored = np.ascontiguousarray(coloured()[:, ::-1])  # red is where blue and green were
    model = FastSAM.load()
    encoder = TextEncoder.load()
    for helped, reds in ((encoder, [1, 2]), (None, [0, 3])):
        [result] = replay(journal, [mirrored], model, encoder=helped)
        assert result.labels is not None
        red = (mirrored == COLOURS["red"]).all(axis=2)
        assert [int(label) for label in np.unique(result.labels[red])] == reds


@NEEDS_TEXT
@pytest.mark.usefixtures("blob_model")
def test_what_is_said_of_words_belongs_to_the_plane(
    viewer: Any, make_widget: Make, qtbot: Any, towers: ColourTowers
) -> None:
    viewer.add_layer(Image(np.stack([coloured()] * 2), rgb=True, name="Image"))
    widget = make_widget(viewer)
    for place in (1, 0):
        viewer.dims.set_current_step(0, place)
        run(qtbot, widget)
    message = widget.words_panel.message
    ask(qtbot, widget, "red")
    assert "2 of 4 candidates fit" in message.text()
    viewer.dims.set_current_step(0, 1)
    assert "press Enter" in message.text()
    ask(qtbot, widget, "red")
    assert "2 of 4 candidates fit" in message.text()
    going_on = Event()
    towers.gate = lambda: going_on.wait(60)
    widget.session.forget()
    assert message.isHidden()
    run(qtbot, widget)
    widget.words_panel.text.setText("blue")
    qtbot.keyClick(widget.words_panel.text, "\r")
    assert widget.words.running
    viewer.layers.remove("Image")
    assert not widget.words.running
    assert message.isHidden()
    going_on.set()


@NEEDS_TEXT
@pytest.mark.usefixtures("blob_model")
def test_another_encoder_is_taken_from_the_preferences_at_once(
    viewer: Any, make_widget: Make, qtbot: Any, towers: ColourTowers, monkeypatch: pytest.MonkeyPatch
) -> None:
    widget = opened(viewer, make_widget, qtbot)
    ask(qtbot, widget, "red")
    changed = Settings(text_model="ViT-B-32")
    monkeypatch.setattr("napari_fastsam.controllers.words.read_settings", lambda: changed)
    ask(qtbot, widget, "red")
    assert widget.words._encoder_name == "ViT-B-32"
    assert towers.pictures == 4, "the same pictures, by the fingerprint of the stand-in"
