"""Text prompts: masks that words describe, from the image, or from embeddings that labels carry already."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsam_core.errors import InvalidPromptError
from fiftyone_fastsam._answers import NOT_CARRIED
from fiftyone_fastsam._convert import EMBEDDING, Document, Instance, array_bytes, array_of, instances_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastsam_core.masks import Masks
    from fastsam_core.text import TextEncoder
    from fastsam_core.text.crops import Pixels
    from fiftyone_fastsam._target import Target
    from fiftyone_fastsam.options import EnrichOptions

__all__ = ["ENCODER_KEY", "Words", "check_embeddings"]

ENCODER_KEY = "fastsam_encoder"
"""Attribute of a label that holds the id of the encoder of its masks' vectors, where the field cannot tell it."""


class Words:
    """A text encoder with what it is asked for.

    Parameters
    ----------
    options : EnrichOptions
        ``text_encoder`` is loaded, and told the words, so that unknown ones are refused before any work.

    Raises
    ------
    InvalidPromptError, MissingDependencyError, UnknownModelError, WeightsDownloadError
        See ``TextEncoder``.
    """

    def __init__(self, options: EnrichOptions) -> None:
        from fastsam_core.prompts import Text
        from fastsam_core.text import TextEncoder

        given = options.text_encoder
        self.encoder: TextEncoder = given if isinstance(given, TextEncoder) else TextEncoder.load(given)
        self._options = options
        if options.texts:
            self.encoder.check(Text(options.texts, options.negatives))

    def instances(self, masks: Masks, image_rgb8: Pixels) -> list[Instance]:
        """Return the masks that fit the words, each with the word as its label and its probability as confidence.

        Without words, all masks as they are. With ``embeddings``, each carries its vector. Of an image that is read
        where it is indexed, only what is around each mask is read.
        """
        from fastsam_core.text import embed_masks

        options = self._options
        masks = masks.filter(min_area_px=max(options.min_area_px, 1))
        vectors = embed_masks(self.encoder, image_rgb8, masks)
        instances = instances_of(masks, options.label)
        if options.texts:
            kept, labels, probabilities = self._classify(vectors)
            instances = [
                _renamed(instances[i], label, p) for i, label, p in zip(kept, labels, probabilities, strict=True)
            ]
            vectors = vectors[kept]
        if not options.embeddings:
            return instances
        return [
            replace(instance, attributes={**instance.attributes, EMBEDDING: array_bytes(vector)})
            for instance, vector in zip(instances, vectors, strict=True)
        ]

    def chosen(self, labels: Sequence[Document]) -> list[Instance]:
        """Return those of stored labels that fit the words; only labels with an embedding of the encoder can."""
        packed = [(label, array_of(label[EMBEDDING])) for label in labels if isinstance(label.get(EMBEDDING), bytes)]
        carrying = [(label, vector) for label, vector in packed if vector.shape == (self.encoder.width,)]
        vectors = np.array([vector for _, vector in carrying], np.float32).reshape(-1, self.encoder.width)
        kept, names, probabilities = self._classify(vectors)
        return [
            _renamed(_stored(carrying[i][0], keep_vector=self._options.embeddings), name, p)
            for i, name, p in zip(kept, names, probabilities, strict=True)
        ]

    def _classify(self, vectors: Any) -> tuple[list[int], list[str], list[float]]:
        from fastsam_core.text import classify_masks

        options = self._options
        texts = options.texts
        index, probability = classify_masks(self.encoder, vectors, texts, options.negatives, options.text_threshold)
        kept = np.flatnonzero(index >= 0).tolist()
        return kept, [texts[index[i]] for i in kept], probability[kept].tolist()


def check_embeddings(target: Target, options: EnrichOptions, encoder: TextEncoder) -> None:
    """Check that a field's masks carry vectors of an encoder.

    Raises
    ------
    InvalidPromptError
        They do not, or another encoder made them.
    """
    name = options.masks_field
    field = target.dataset.get_field(f"{target.prefix}{name}")
    told = ((field.info or {}).get("fastsam") or {}).get("encoder")
    labelled, remark = target.view.match({name: {"$type": "object"}}), {"_id": f"${name}.{ENCODER_KEY}"}
    found = target.samples.aggregate([*labelled._pipeline(), {"$group": remark}])
    made_by = {str(group["_id"] or told) for group in found if group["_id"] or told}
    if made_by != {encoder.encoder_id}:
        raise InvalidPromptError(
            f"The masks in {options.masks_field!r} carry no embeddings of this text encoder",
            expected=encoder.encoder_id,
            actual=", ".join(sorted(made_by)) or "none",
            remedy="enrich that field with embeddings=True and the same text_encoder, or leave out masks_field",
        )


def _renamed(instance: Instance, label: str, probability: float) -> Instance:
    return replace(instance, label=label, confidence=probability)


def _stored(label: Document, *, keep_vector: bool) -> Instance:
    """Return a stored label as a new instance with the same mask and measures."""
    left_out = NOT_CARRIED if keep_vector else NOT_CARRIED | {EMBEDDING}
    mask = label.get("mask")
    return Instance(
        label.get("label"),
        label["bounding_box"],
        None if mask is None else array_of(mask),
        label.get("confidence"),
        {key: value for key, value in label.items() if key not in left_out},
        label.get("tags") or (),
        mask_path=label.get("mask_path"),
    )
