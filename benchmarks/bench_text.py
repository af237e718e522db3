"""Text prompts next to ``FastSAMPredictor.prompt(texts=…)``: open_clip's ViT-B-32 with random weights on both sides.

The peer loads OpenAI's CLIP from a package of its own; here it is handed the very model that this project uses, behind
the same four methods, so that both sides compute the same.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from benchmarks.harness import TINY, Benchmark, Row, Scale, median_ms
from benchmarks.sides import head_for, make_ours, make_photo
from fastsam_core import Text
from fastsam_core._ultralytics import import_ultralytics
from fastsam_core.text import EncoderTraits, TextEncoder, embed_masks, match_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastsam_core.masks import Masks

__all__ = ["BENCHMARKS"]

_TINY_MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"layers": 1, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 32},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


class _PeerClip:
    """What ``ultralytics.nn.text_model.CLIP`` offers the predictor, over an open_clip model in fp32."""

    def __init__(self, model: Any, tokenizer: Any, size_px: int) -> None:
        import open_clip

        self._model = model
        self._tokenizer = tokenizer
        self.image_preprocess = open_clip.transform.image_transform(size_px, is_train=False)

    def tokenize(self, texts: list[str]) -> Any:
        return self._tokenizer(texts, context_length=self._model.context_length)

    def encode_text(self, tokens: Any) -> Any:
        import torch

        with torch.inference_mode():
            return self._model.encode_text(tokens, normalize=True)

    def encode_image(self, pixels: Any) -> Any:
        import torch

        with torch.inference_mode():
            return self._model.encode_image(pixels, normalize=True)


@lru_cache(maxsize=2)
def _model(scale: Scale) -> Any:
    import open_clip
    import torch

    torch.manual_seed(0)
    if scale == TINY:
        return open_clip.CLIP(**_TINY_MODEL).eval()
    return open_clip.create_model("ViT-B-32", load_weights=False).eval()


def _ours(scale: Scale, precision: str) -> TextEncoder:
    import copy

    import open_clip
    import torch
    from open_clip.model import convert_weights_to_lp

    from fastsam_core.text._towers import Towers
    from fastsam_core.text._words import compile_words

    model = copy.deepcopy(_model(scale)).requires_grad_(False)
    tokenizer, length = open_clip.SimpleTokenizer(), int(model.context_length)
    words = None
    if precision == "bf16":
        convert_weights_to_lp(model, torch.bfloat16)
        words = compile_words(model, tokenizer(["a probe"], context_length=length))
    size = model.visual.image_size
    side = int(size if isinstance(size, int) else size[0])
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    towers = Towers(model, tokenizer, "cpu", precision, side, mean, std, length, words)
    return TextEncoder("random", f"random:{precision}", towers, EncoderTraits())


def _masks(scale: Scale, wanted: int) -> Masks:
    head = head_for(wanted, scale.image_hw, scale.imgsz)
    masks = make_ours(None, head, scale.imgsz).segment(make_photo(scale.image_hw))
    return masks.filter(min_area_px=101)  # the peer leaves smaller ones out


def _peer_prompt(scale: Scale, masks: Masks) -> Any:
    """Return a function that asks the peer about a text."""
    import torch

    predictor_of = import_ultralytics("ultralytics.models.fastsam").FastSAMPredictor
    results_of = import_ultralytics("ultralytics.engine.results").Results
    predictor = predictor_of.__new__(predictor_of)
    predictor.device = torch.device("cpu")
    ours = _ours(scale, "fp32")
    predictor.clip = _PeerClip(_model(scale), ours._towers.tokenizer, ours.size_px)
    rows = np.concatenate([masks.boxes_xyxy, masks.scores[:, None], np.zeros((len(masks), 1))], axis=1)
    results = results_of(
        orig_img=np.ascontiguousarray(make_photo(scale.image_hw)[..., ::-1]),
        path="",
        names={0: "object"},
        boxes=torch.from_numpy(rows.astype(np.float32)),
        masks=torch.from_numpy(masks.to_dense().astype(np.uint8)),
    )

    def ask(text: str) -> Any:
        # the peer imports OpenAI's CLIP, which is on no package index, before it looks whether it has an encoder
        with mock.patch.dict(sys.modules, {"ultralytics.nn.text_model": SimpleNamespace(CLIP=None)}):
            return predictor.prompt(results, texts=[text])

    return ask


def first_text(scale: Scale) -> Iterator[Row]:
    """Encode every mask and answer one text, in fp32 and in what this CPU is best at."""
    masks, photo = _masks(scale, scale.some), make_photo(scale.image_hw)
    ask = _peer_prompt(scale, masks)
    theirs = median_ms(lambda: ask("a red car"), scale.repeats)
    for precision in ("fp32", "bf16"):
        encoder = _ours(scale, precision)

        def work(encoder: TextEncoder = encoder) -> object:
            return match_text(encoder, embed_masks(encoder, photo, masks), Text("a red car"))

        ours = median_ms(work, scale.repeats)
        target = ">= 1.5x" if precision == "bf16" else ""
        yield Row(f"first text, {scale.some} masks, ViT-B-32, {precision}", ours, theirs, "ms", target)


def second_text(scale: Scale) -> Iterator[Row]:
    """Answer further texts, each of them new, about masks that have been encoded; the first pass stands as the peer."""
    masks, photo = _masks(scale, scale.many), make_photo(scale.image_hw)
    for name, encoder in (("ViT-B-32", _ours(scale, "bf16")), ("demo encoder", TextEncoder.load("demo"))):
        texts = (f"{colour} {thing}" for _ in count() for colour in _COLOURS for thing in _THINGS)
        embeddings = embed_masks(encoder, photo, masks)

        def first(encoder: TextEncoder = encoder) -> object:
            return match_text(encoder, embed_masks(encoder, photo, masks), Text("red circle"))

        def second(
            encoder: TextEncoder = encoder, texts: Iterator[str] = texts, embeddings: Any = embeddings
        ) -> object:
            return match_text(encoder, embeddings, Text(next(texts)))

        again = median_ms(second, 5 * scale.repeats)
        yield Row(f"second text, {scale.many} masks, {name}", again, None, "ms", "<= 5 ms")
        yield Row(f"second text next to the first, {name}", again, median_ms(first, scale.repeats), "ms", ">= 100x")
        known = median_ms(lambda: match_text(encoder, embeddings, Text("red circle")), 5 * scale.repeats)  # noqa: B023
        yield Row(f"text asked before, {scale.many} masks, {name}", known, None, "ms")


_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "gray")
_THINGS = ("circle", "ellipse", "square", "rectangle", "triangle", "star", "cross", "ring", "heart")

BENCHMARKS = [Benchmark("first text", first_text), Benchmark("second text", second_text)]
