"""Text prompts: an open_clip encoder looks once at every mask; each text after that is a matrix product.

>>> from fastsam_core import FastSAM, Text
>>> from fastsam_core.text import TextEncoder, embed_masks, select_text
>>> encoder = TextEncoder.load("demo")  # doctest: +SKIP
>>> embeddings = embed_masks(encoder, image.rgb8, masks)  # doctest: +SKIP
>>> red = select_text(encoder, masks, embeddings, Text("red circle", mode="all"))  # doctest: +SKIP

Importing this package loads neither torch nor open_clip.
"""

from __future__ import annotations

from fastsam_core.text.answers import (
    SIMILAR_THRESHOLD,
    TextScores,
    classify_masks,
    find_similar,
    match_text,
    score_texts,
    select_text,
    similarities,
)
from fastsam_core.text.crops import CropOptions
from fastsam_core.text.embedding import embed_masks, iter_embed_masks
from fastsam_core.text.encoder import EncoderTraits, TextEncoder
from fastsam_core.text.encoders import DEMO, ENCODERS, RECOMMENDED, EncoderEntry, default_encoder
from fastsam_core.text.store import EmbeddingStore

__all__ = [
    "DEMO",
    "ENCODERS",
    "RECOMMENDED",
    "SIMILAR_THRESHOLD",
    "CropOptions",
    "EmbeddingStore",
    "EncoderEntry",
    "EncoderTraits",
    "TextEncoder",
    "TextScores",
    "classify_masks",
    "default_encoder",
    "embed_masks",
    "find_similar",
    "iter_embed_masks",
    "match_text",
    "score_texts",
    "select_text",
    "similarities",
]
