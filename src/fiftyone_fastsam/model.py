"""`FastSAMModel`: FastSAM for ``dataset.apply_model``, with the prompts' names that FiftyOne uses for SAM.

``fiftyone_fastsam.enrich`` does the same faster and goes on after interruptions; this one fits where FiftyOne or a
plugin wants a model.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import fiftyone as fo
import fiftyone.utils.torch as fout
import torch

from fastsam_core._defaults import MAX_PIXELS
from fastsam_core.errors import (
    FastSAMError,
    ImageReadError,
    ImageTooLargeError,
    InvalidParameterError,
    InvalidPromptError,
)
from fastsam_core.images import Image, read_image
from fastsam_core.large_images import open_plane
from fastsam_core.model import FastSAM
from fastsam_core.tiling import segment_tiles
from fiftyone_fastsam._answers import answer, prompts_in
from fiftyone_fastsam._texts import ENCODER_KEY, Words
from fiftyone_fastsam.options import EnrichOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fiftyone_fastsam._convert import Document, Instance

__all__ = ["FastSAMGetItem", "FastSAMGetItemForVideo", "FastSAMModel"]

_LOGGER = logging.getLogger(__name__)
_OF_ENRICH = ("existing", "on_oversize", "mask_dir", "writer", "prefetch", "batch_size")
_PROMPT_KEYS = ("box_prompt_field", "point_prompt_field", "prompt_field")


@dataclass(frozen=True, slots=True, eq=False)
class ModelInput:
    """What the model gets for one sample.

    Parameters
    ----------
    image : Image or None
        None if it could not be read.
    prompts : list of dict
        Stored labels that prompt.
    kind : {"everything", "boxes", "points"}
    error : FastSAMError or None
        Why there is no image; one bad file then costs one sample, not its batch.
    filepath : str or None
        The file, if it is known.
    """

    image: Image | None
    prompts: list[Document]
    kind: str = "everything"
    error: FastSAMError | None = None
    filepath: str | None = None


class FastSAMGetItem(fout.GetItem):  # type: ignore[misc] # FiftyOne has no types
    """Reads a sample's image and prompts; runs in FiftyOne's data loader.

    Parameters
    ----------
    field_mapping : mapping, optional
        Which field prompts, by the prompt's name.
    max_pixels : int or None
        Files with more pixels are not read here.
    **keywords
        Of FiftyOne's ``GetItem``.
    """

    SOURCE: ClassVar[str] = "filepath"
    """What is read: a field of samples, or what FiftyOne gives instead."""

    def __init__(
        self, field_mapping: Mapping[str, str] | None = None, max_pixels: int | None = MAX_PIXELS, **keywords: Any
    ) -> None:
        self.max_pixels = max_pixels
        given = [key for key in _PROMPT_KEYS if key in (field_mapping or {})]
        if len(given) > 1:
            raise InvalidPromptError("Only one kind of prompt at a time", actual=", ".join(given))
        self.prompt_key = given[0] if given else None  # required_keys is read by the next line
        super().__init__(field_mapping=field_mapping, **keywords)

    @property
    def required_keys(self) -> list[str]:
        """Names of what is needed of a sample."""
        return [self.SOURCE, *([self.prompt_key] if self.prompt_key else [])]

    def __call__(self, sample: Mapping[str, Any]) -> ModelInput:
        """Read one sample."""
        label = sample.get(self.prompt_key) if self.prompt_key else None
        source = sample[self.SOURCE]
        filepath = source if isinstance(source, str) else None
        prompts: list[Document] = []
        kind = "everything"
        try:
            if self.prompt_key is not None:
                prompts, kind = read_prompts(label, self.prompt_key)
            return ModelInput(read_image(source, max_pixels=self.max_pixels), prompts, kind, filepath=filepath)
        except FastSAMError as error:
            return ModelInput(None, prompts, kind, error, filepath)


class FastSAMGetItemForVideo(FastSAMGetItem):
    """The same for frames that FiftyOne has read itself; it finds this class by its name."""

    SOURCE = "image"


class FastSAMModel(fout.TorchImageModelWithPrompts):  # type: ignore[misc] # FiftyOne has no types
    """FastSAM as a FiftyOne model.

    Parameters
    ----------
    model : FastSAM, str or path
        A model, its name or its file.
    **options
        Of :class:`~fiftyone_fastsam.EnrichOptions`: thresholds, ``label``, ``min_iou``, ``level``, ``text`` …
        Samples that fail have no label and are told in the log; with ``skip_failures=False``, here and for
        ``apply_model``, the first one stops it.

    Raises
    ------
    InvalidPromptError, InvalidParameterError
        For fields that prompt, which ``apply_model`` takes, for ``output="map"``, and for what only `enrich` does.

    Examples
    --------
    >>> dataset.apply_model(FastSAMModel(), "masks")  # doctest: +SKIP
    >>> dataset.apply_model(FastSAMModel(), "objects", box_prompt_field="ground_truth")  # doctest: +SKIP
    """

    def __init__(self, model: FastSAM | str | Path = "builtin", **options: Any) -> None:
        self.fastsam = model if isinstance(model, FastSAM) else FastSAM.load(model)
        self.options = EnrichOptions(**options)
        _check(self.options)
        self.words = Words(self.options) if self.options.needs_encoder else None
        placeholder = torch.nn.Identity()  # the base class wants a module to move and to freeze
        super().__init__(
            fout.TorchImageModelConfig({"model": placeholder, "raw_inputs": True, "ragged_batches": False})
        )
        self.config.get_item_cls = FastSAMGetItem.__name__  # FiftyOne adds "ForVideo" for frames

    def build_get_item(self, field_mapping: Mapping[str, str] | None = None) -> FastSAMGetItem:
        """Return what reads samples for :meth:`predict_all`."""
        of_video = self.config.get_item_cls == FastSAMGetItemForVideo.__name__
        return (FastSAMGetItemForVideo if of_video else FastSAMGetItem)(field_mapping, self.options.max_pixels)

    @property
    def ragged_batches(self) -> bool:
        """False: batches are made by :meth:`collate_fn`."""
        return False

    @property
    def has_collate_fn(self) -> bool:
        """True: images of a batch may differ in size."""
        return True

    @staticmethod
    def collate_fn(batch: list[Any]) -> list[Any]:
        """Keep a batch as a list."""
        return batch

    def predict(self, img: Any) -> Any:
        """Return the ``Detections`` of one image (array, Pillow image or input of the data loader)."""
        return self.predict_all([img])[0]

    def predict_all(self, imgs: Sequence[Any]) -> list[Any]:
        """Return the ``Detections`` of several images; None for one that could not be read."""
        return [self._predict(img if isinstance(img, ModelInput) else ModelInput(read_image(img), [])) for img in imgs]

    def _predict(self, given: ModelInput) -> Any:
        large = self.options.tile_px is not None and isinstance(given.error, ImageTooLargeError)
        if given.image is None and not large:
            return self._left_out(given, given.error or ImageReadError("The image cannot be read"))
        if given.kind != "everything" and not given.prompts:
            return fo.Detections()
        slots = {"boxes": "box_prompt_field", "points": "point_prompt_field"}
        options = self.options
        if given.kind in slots:
            changed: dict[str, Any] = {slots[given.kind]: "prompts"}
            options = replace(options, **changed)
        try:
            instances = self._instances(given, options)
        except FastSAMError as error:
            if not (large or isinstance(error, InvalidPromptError)):  # tiles and signs of points are read here
                raise
            return self._left_out(given, error)
        lowest, classes = self.config.confidence_thresh, self.config.filter_classes  # apply_model leaves them to models
        if lowest is not None:
            instances = [i for i in instances if i.confidence is None or i.confidence >= lowest]
        if classes is not None:
            instances = [i for i in instances if i.label in classes]
        remarks = {ENCODER_KEY: self.words.encoder.encoder_id} if self.words is not None and options.embeddings else {}
        return fo.Detections(detections=[instance.detection() for instance in instances], **remarks)

    def _left_out(self, given: ModelInput, error: FastSAMError) -> None:
        if not self.options.skip_failures:
            raise error
        _LOGGER.warning("%s: %s", given.filepath, error)

    def _instances(self, given: ModelInput, options: EnrichOptions) -> list[Instance]:
        """Return what is to be stored; what was too large to be read is read tile by tile."""
        if given.image is not None:
            masks = self.fastsam.segment(given.image, **options.search())
            if self.words is None:
                return answer(masks, given.prompts, options)
            return self.words.instances(masks, given.image.rgb8)
        *_, last = segment_tiles(given.filepath, self.fastsam, max_pixels=options.max_pixels, **options.search())
        if last.result is None:
            raise ImageReadError("The image cannot be read", actual=str(given.filepath))
        if self.words is None:
            return answer(last.result, given.prompts, options)
        with open_plane(given.filepath, max_pixels=options.max_pixels) as plane:
            return self.words.instances(last.result, plane.rgb8)


def _check(options: EnrichOptions) -> None:
    """Refuse what only `enrich` can do, or `apply_model` has to be told."""
    if options.field is not None or options.prompt_ids is not None:
        raise InvalidPromptError(
            "A model has no fields of a dataset",
            actual=str(options.field),
            remedy="give fields of boxes or keypoints to apply_model; for masks_field and prompt_ids use enrich",
        )
    if options.output == "map":
        raise InvalidParameterError("A model gives instances", expected="output='instances'", remedy="use enrich")
    plain = EnrichOptions()
    if given := [name for name in _OF_ENRICH if getattr(options, name) != getattr(plain, name)]:
        raise InvalidParameterError(
            "A model does not write labels",
            expected="no options of how that is done",
            actual=", ".join(given),
            remedy="use enrich, which does; apply_model takes batch_size",
        )


def read_prompts(label: Any, key: str) -> tuple[list[Document], str]:
    """Return the labels that prompt, as stored, and whether they are "boxes" or "points".

    Raises
    ------
    InvalidPromptError
        The label is of another type.
    """
    kinds = {"Detections": "boxes", "Detection": "boxes", "Keypoints": "points", "Keypoint": "points"}
    if label is None:
        return [], "points" if key == "point_prompt_field" else "boxes"
    name = type(label).__name__
    kind = kinds.get(name)
    expected = {"box_prompt_field": "boxes", "point_prompt_field": "points"}.get(key, kind)
    if kind is None or kind != expected:
        fitting = [label for label, its_kind in kinds.items() if expected in (None, its_kind)]
        raise InvalidPromptError(f"{name} cannot prompt through {key}", expected=" or ".join(fitting), actual=name)
    return prompts_in(label.to_dict()), kind
