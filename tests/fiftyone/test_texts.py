"""Words to masks, on images whose masks have known colours; asked again from embeddings without reading an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

from fastsam_core.errors import InvalidPromptError, UnknownWordsError
from fastsam_core.text import TextEncoder, classify_masks, embed_masks
from fiftyone_fastsam import enrich, masks_from_detections
from fiftyone_fastsam.model import FastSAMModel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fiftyone.conftest import FakeNetwork

    from fastsam_core.masks import Masks
    from fastsam_core.model import FastSAM

COLOURS = {"red": (220, 30, 30), "green": (30, 170, 40)}


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    pytest.importorskip("open_clip", reason="open_clip is not installed; pip install 'fastsam-plugins[text]'")
    return TextEncoder.load("demo")


@pytest.fixture
def painted(make_dataset: Callable[..., Any], known_masks: Masks, tmp_path: Path) -> Any:
    """Return a dataset of two images whose known masks are red and green by turns, on grey."""
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for first, path in enumerate(paths):
        picture = np.full((*known_masks.image_hw, 3), 128, np.uint8)
        for i in np.argsort(-known_masks.areas_px):
            picture[known_masks.to_dense()[i]] = list(COLOURS.values())[(i + first) % 2]
        Image.fromarray(picture).save(path)
    return make_dataset(paths=paths)


def expected(model: FastSAM, encoder: TextEncoder, path: str, words: list[str]) -> tuple[list[str], list[float]]:
    """Return labels and probabilities by the core alone."""
    image = np.asarray(Image.open(path))
    index, probability = classify_masks(encoder, embed_masks(encoder, image, model.segment(image)), words)
    kept = np.flatnonzero(index >= 0)
    return [words[index[i]] for i in kept], probability[kept].tolist()


@pytest.mark.parametrize("writer", ["direct", "sdk"])
def test_masks_are_named_by_the_words_that_fit(
    painted: Any, model: FastSAM, encoder: TextEncoder, known_masks: Masks, writer: str
) -> None:
    words = list(COLOURS)
    report = enrich(painted, "found", model=model, text=words, text_encoder=encoder, writer=writer)
    assert report.done == 2
    for sample in painted:
        labels, probabilities = expected(model, encoder, sample.filepath, words)
        assert labels
        assert [d.label for d in sample.found.detections] == labels
        np.testing.assert_allclose([d.confidence for d in sample.found.detections], probabilities, rtol=1e-5)
        overlaps = masks_from_detections(sample.found, known_masks.image_hw).iou(known_masks)
        np.testing.assert_allclose(overlaps.max(axis=1), 1.0)
    assert enrich(painted, "found", model=model, text=words, text_encoder=encoder).done == 0
    assert enrich(painted, "found", model=model, text=words[:1], text_encoder=encoder).done == 2


@pytest.mark.parametrize("writer", ["direct", "sdk"])
def test_further_words_need_no_image(
    painted: Any, model: FastSAM, network: FakeNetwork, encoder: TextEncoder, known_masks: Masks, writer: str
) -> None:
    enrich(painted, "masks", model=model, embeddings=True, text_encoder=encoder, writer=writer)
    calls = network.calls
    wanted = {sample.id: expected(model, encoder, sample.filepath, ["green"]) for sample in painted}
    network.calls = calls
    for path in painted.values("filepath"):
        Image.new("L", (1, 1)).save(path)  # who reads it now finds nothing
    options: dict[str, Any] = {"model": model, "text_encoder": encoder, "masks_field": "masks", "writer": writer}
    report = enrich(painted, "green", text="green", **options)
    assert (report.done, report.failed, network.calls) == (2, 0, calls)
    for sample in painted:
        labels, probabilities = wanted[sample.id]
        assert [d.label for d in sample.green.detections] == labels
        np.testing.assert_allclose([d.confidence for d in sample.green.detections], probabilities, rtol=1e-4)
        overlaps = masks_from_detections(sample.green, known_masks.image_hw).iou(known_masks)
        np.testing.assert_allclose(overlaps.max(axis=1, initial=1.0), 1.0)
        assert {d.id for d in sample.green.detections}.isdisjoint({d.id for d in sample.masks.detections})
    assert enrich(painted, "green", text="green", **options).done == 0
    painted.set_values("masks", [None, painted.last().masks])
    report = enrich(painted, "green", text="red", **options)
    assert (report.done, report.failed) == (1, 1)
    assert "no masks in 'masks'" in painted.first().green_error


def test_words_that_were_appended_stay(painted: Any, model: FastSAM, encoder: TextEncoder) -> None:
    enrich(painted, "masks", model=model, embeddings=True, text_encoder=encoder)
    options: dict[str, Any] = {"model": model, "text_encoder": encoder, "masks_field": "masks"}
    enrich(painted, "found", text="green", **options)
    enrich(painted, "found", text="red", existing="append", **options)
    labels = painted.values("found.detections.label")
    assert all({"green", "red"} <= set(found) for found in labels)
    painted.set_values("masks.detections", [sample.masks.detections[1:] for sample in painted])
    assert enrich(painted, "found", text="green", **options).done == 0
    assert painted.values("found.detections.label") == labels


def test_labels_with_embeddings_of_other_kinds_are_passed_over(
    painted: Any, model: FastSAM, encoder: TextEncoder
) -> None:
    enrich(painted, "masks", model=model, embeddings=True, text_encoder=encoder)
    sample = painted.first()
    for vector in ([0.1, 0.2], np.ones(3)):
        sample.masks.detections.append(fo.Detection(label="mine", bounding_box=[0, 0, 1, 1], embedding=vector))
    sample.save()
    report = enrich(painted, "found", model=model, text="green", text_encoder=encoder, masks_field="masks")
    assert (report.done, report.failed) == (2, 0)
    assert "mine" not in painted.values("found.detections.label")[0]


@pytest.mark.parametrize("made_by", ["enrich", "a model"])
def test_embeddings_serve_fiftyones_similarity(
    painted: Any, model: FastSAM, encoder: TextEncoder, made_by: str
) -> None:
    brain = pytest.importorskip("fiftyone.brain")
    if made_by == "enrich":
        enrich(painted, "masks", model=model, embeddings=True, text_encoder=encoder)
    else:
        fastsam = FastSAMModel(model, embeddings=True, text_encoder=encoder)
        painted.apply_model(fastsam, "masks", num_workers=0, progress=False)
        painted.add_sample_field("masks.detections.embedding", fo.VectorField)
    vectors = np.stack([d.embedding for sample in painted for d in sample.masks.detections])
    assert vectors.shape[1] == encoder.width
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    brain.compute_similarity(painted, patches_field="masks", embeddings="embedding", brain_key="alike", progress=False)
    asked = painted.first().masks.detections[0].id
    ranked = painted.to_patches("masks").sort_by_similarity(asked, brain_key="alike")
    assert ranked.first().masks.id == asked


def test_maps_have_a_value_for_each_word(painted: Any, model: FastSAM, encoder: TextEncoder) -> None:
    enrich(painted, "map", model=model, text=["red", "green"], text_encoder=encoder, output="map")
    assert set(painted.mask_targets["map"].values()) == {"red", "green"}
    assert set(np.unique(painted.first().map.mask)) <= {0, *map(int, painted.mask_targets["map"])}
    assert painted.first().map.mask.any()


def test_the_model_takes_words_too(painted: Any, model: FastSAM, encoder: TextEncoder) -> None:
    painted.apply_model(
        FastSAMModel(model, text=["red", "green"], text_encoder=encoder), "masks", num_workers=0, progress=False
    )
    labels, _ = expected(model, encoder, painted.first().filepath, ["red", "green"])
    assert [d.label for d in painted.first().masks.detections] == labels


def test_embeddings_of_the_model_serve_further_words(painted: Any, model: FastSAM, encoder: TextEncoder) -> None:
    fastsam = FastSAMModel(model, embeddings=True, text_encoder=encoder)
    painted.apply_model(fastsam, "masks", num_workers=0, progress=False)
    options: dict[str, Any] = {"model": model, "text": "green", "text_encoder": encoder}
    assert enrich(painted, "green", masks_field="masks", **options).done == 2
    labels, _ = expected(model, encoder, painted.first().filepath, ["green"])
    assert [d.label for d in painted.first().green.detections] == labels
    sample = painted.last()
    sample.masks["fastsam_encoder"] = "another"
    sample.save()
    with pytest.raises(InvalidPromptError, match="Actual: another, demo"):
        enrich(painted, "others", masks_field="masks", **options)


def test_words_that_cannot_be_asked(painted: Any, model: FastSAM, encoder: TextEncoder) -> None:
    with pytest.raises(UnknownWordsError, match="zeppelin"):
        enrich(painted, "found", model=model, text="zeppelin", text_encoder=encoder)
    enrich(painted, "masks", model=model)
    options: dict[str, Any] = {"model": model, "text": "red", "text_encoder": encoder}
    with pytest.raises(InvalidPromptError, match="no embeddings"):
        enrich(painted, "found", masks_field="masks", **options)
    with pytest.raises(InvalidPromptError, match="cannot prompt"):
        enrich(painted, "found", masks_field="filepath", **options)
    assert painted.get_field("found") is None
    assert fo.dataset_exists(painted.name)
