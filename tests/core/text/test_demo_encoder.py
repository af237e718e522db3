"""The encoder that ships: what it knows, what it answers on pictures it has not seen, and what it was taught."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fastsam_core import Masks, Text
from fastsam_core.errors import UnknownWordsError
from fastsam_core.text import DEMO, ENCODERS, TextEncoder, embed_masks, score_texts, select_text
from fastsam_core.text import demo_words as words
from fastsam_core.text.demo_scenes import draw_shapes
from fastsam_core.text.encoders import CONFIG_FILE, demo_folder


@pytest.fixture(scope="module")
def demo() -> TextEncoder:
    return TextEncoder.load(DEMO, device="cpu")


def test_it_is_small_and_says_what_it_is(demo: TextEncoder) -> None:
    path = ENCODERS[DEMO].weights_path()
    assert path is not None
    assert path.stat().st_size < 8e6
    assert demo.vocabulary == words.known_words()
    assert json.loads((demo_folder() / CONFIG_FILE).read_text())["fastsam"]["licence"] == "AGPL-3.0-only"


def test_every_phrase_it_was_taught_is_taken(demo: TextEncoder) -> None:
    phrases = [phrase.words for phrase in words.all_phrases()]
    assert demo.embed_texts(phrases).shape == (len(phrases), 96)
    with pytest.raises(UnknownWordsError, match="zebra"):
        demo.embed_texts(["a red zebra"])


def test_it_finds_most_shapes_of_new_pictures(demo: TextEncoder) -> None:
    right = asked = 0
    for seed in range(5_000_000, 5_000_006):
        scene = draw_shapes(seed)
        masks = Masks.from_dense(scene.masks)
        texts = sorted({" ".join(item) for item in scene.items})
        embeddings = embed_masks(demo, scene.image, masks)
        best = score_texts(demo, embeddings, Text(texts)).cosines.argmax(1)
        right += sum(" ".join(scene.items[index]) == text for index, text in zip(best, texts, strict=True))
        asked += len(texts)
    assert right / asked > 0.7  # chance is one in four to nine


def test_what_is_not_there_is_not_found(demo: TextEncoder) -> None:
    scene = draw_shapes(5_000_010)
    masks = Masks.from_dense(scene.masks)
    embeddings = embed_masks(demo, scene.image, masks)
    shapes = {shape for _, shape in scene.items}
    absent = [f"{colour} {shape}" for shape in words.SHAPES if shape not in shapes for colour in ("red", "blue")]
    found = select_text(demo, masks, embeddings, Text(absent))
    assert len(found) < 0.5 * len(absent)


# ---- what it was taught -------------------------------------------------------------------------------------------


def test_scenes_are_functions_of_their_seed() -> None:
    one, again, other = draw_shapes(3), draw_shapes(3), draw_shapes(4)
    np.testing.assert_array_equal(one.image, again.image)
    assert one.items == again.items != other.items
    assert one.masks.shape == (len(one.items), 320, 320)
    assert (one.masks.sum(0) <= 1).all()
    assert one.masks.any((1, 2)).all()


def test_drawn_colours_have_the_names_they_were_drawn_for() -> None:
    for seed in range(4):
        scene = draw_shapes(seed)
        for mask, (colour, _) in zip(scene.masks, scene.items, strict=True):
            assert words.colour_of(scene.image[mask]) in (colour, None)


def test_mixed_colours_have_no_name() -> None:
    half = np.array([(220, 20, 20)] * 10 + [(20, 20, 220)] * 9, np.uint8)
    assert words.colour_of(half) is None
    assert words.colour_of(np.empty((0, 3), np.uint8)) is None


def test_phrases_are_true_when_all_their_words_are() -> None:
    phrases = {phrase.words: phrase for phrase in words.all_phrases()}
    asked = [phrases[name] for name in ("red circle", "violet circle", "red object", "oval", "cell", "something else")]
    shown = np.stack([words.drawn_truth("red", "circle"), words.real_truth("stained nucleus", "purple")])
    truth = words.phrase_truth(shown, asked)
    np.testing.assert_array_equal(truth, [(1, 0, 1, -1, 0, 0), (0, -1, 0, -1, -1, 0)])


def test_an_object_without_a_name_may_be_anything() -> None:
    names = dict(zip(words.CONCEPTS, words.real_truth(None, None).tolist(), strict=True))
    assert names["animal"] == names[words.ELSE] == names["red"] == -1
    assert names["star"] == names["flake"] == 0
