"""The compatible way of cutting out gives the pictures, and the answer, of ``FastSAMPredictor.prompt(texts=…)``."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from fastsam_core import Masks, Text
from fastsam_core._ultralytics import import_ultralytics
from fastsam_core.text import CropOptions, TextEncoder, embed_masks, score_texts
from fastsam_core.text._upstream import picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEIGHT, WIDTH = 40, 56


class PeerClip:
    """Stands for the peer's CLIP: the same encoder, and a note of the pictures it was shown."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder
        self.shown: list[NDArray[np.uint8]] = []
        self._transform = encoder.preprocess()

    def image_preprocess(self, image: Any) -> torch.Tensor:
        self.shown.append(np.asarray(image))
        pixels: torch.Tensor = self._transform(image)
        return pixels

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.encoder.embed_pixels(pixels))

    def tokenize(self, texts: list[str]) -> list[str]:
        return texts

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        return torch.from_numpy(self.encoder.embed_texts(texts))


def _random_masks(rng: np.random.Generator) -> Masks:
    """Return masks of which the second is too small for the peer, with boxes a little larger than the masks."""
    stack = np.zeros((6, HEIGHT, WIDTH), bool)
    for layer in stack:
        y, x = rng.integers(0, HEIGHT - 20), rng.integers(0, WIDTH - 20)
        layer[y : y + rng.integers(12, 20), x : x + rng.integers(14, 20)] = True
        layer &= rng.random((HEIGHT, WIDTH)) > 0.2
    stack[1] = False
    stack[1, 5:10, 5:12] = True
    tight = Masks.from_dense(stack)
    boxes = tight.extents_xyxy + rng.uniform((-1.5, -1.5, 0, 0), (0, 0, 1.5, 1.5), (6, 4))
    boxes = np.clip(boxes, 0, (WIDTH, HEIGHT, WIDTH, HEIGHT))
    return Masks.from_crops(list(stack), np.zeros((6, 2)), (HEIGHT, WIDTH), rng.random(6), boxes)


@pytest.mark.parametrize("seed", range(5))
def test_pictures_and_answers_are_the_peers(encoder: TextEncoder, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # the peer imports OpenAI's CLIP, which is on no package index, before it looks whether it has an encoder
    monkeypatch.setitem(sys.modules, "ultralytics.nn.text_model", SimpleNamespace(CLIP=None))
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    masks = _random_masks(rng)
    predictor_of = import_ultralytics("ultralytics.models.fastsam").FastSAMPredictor
    results_of = import_ultralytics("ultralytics.engine.results").Results
    predictor = predictor_of.__new__(predictor_of)
    predictor.device = torch.device("cpu")
    predictor.clip = PeerClip(encoder)
    rows = np.concatenate([masks.boxes_xyxy, np.arange(6)[:, None], np.zeros((6, 1))], axis=1)
    results = results_of(
        orig_img=np.ascontiguousarray(image[..., ::-1]),
        path="",
        names={0: "object"},
        boxes=torch.from_numpy(rows.astype(np.float32)),
        masks=torch.from_numpy(masks.to_dense().astype(np.uint8)),
    )
    (answer,) = predictor.prompt(results, texts=["red circle"])

    large = np.flatnonzero(masks.areas_px > 100)  # the peer looks at no others
    assert large.tolist() == [0, 2, 3, 4, 5]
    for theirs, index in zip(predictor.clip.shown, large, strict=True):
        np.testing.assert_array_equal(np.asarray(picture(image, masks, int(index), "ultralytics")), theirs)
    embeddings = embed_masks(encoder, image, masks[large], CropOptions("ultralytics"))
    cosines = score_texts(encoder, embeddings, Text("red circle")).cosines[0]
    assert answer.boxes.conf.tolist() == [float(large[cosines.argmax()])]


def test_the_papers_way_shows_the_box_on_a_white_page() -> None:
    image = np.random.default_rng(0).integers(0, 200, (HEIGHT, WIDTH, 3), np.uint8)
    masks = _random_masks(np.random.default_rng(1))
    page = np.asarray(picture(image, masks, 1, "fastsam"))
    assert page.shape == image.shape
    np.testing.assert_array_equal(page[5:10, 5:12], image[5:10, 5:12])
    page = page.copy()
    page[5:10, 5:12] = 255
    assert (page == 255).all()


def test_small_masks_are_scored_as_well(encoder: TextEncoder) -> None:
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    masks = _random_masks(np.random.default_rng(2))
    for background in ("fastsam", "ultralytics"):
        embeddings = embed_masks(encoder, image, masks, CropOptions(background))
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)


def test_a_box_without_a_whole_pixel_falls_back_to_the_mask() -> None:
    image = np.full((HEIGHT, WIDTH, 3), 7, np.uint8)
    masks = Masks.from_crops([np.ones((1, 1))], [(3, 4)], (HEIGHT, WIDTH), [0.5], [(4.1, 3.1, 4.9, 3.9)])
    np.testing.assert_array_equal(np.asarray(picture(image, masks, 0, "ultralytics")), np.full((1, 1, 3), 7))
