"""What an enrichment is asked to do, checked once, and the digest that tells finished samples from others."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from fastsam_core._checks import as_integer, as_number
from fastsam_core._defaults import MAX_DET, MAX_PIXELS, OVERLAP_PX, PROMPT_CONF
from fastsam_core._prompt_types import Level
from fastsam_core.errors import InvalidParameterError, InvalidPromptError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from fastsam_core.model import FastSAM
    from fastsam_core.text import TextEncoder

__all__ = ["EnrichOptions", "Existing", "Kind", "Output", "Oversize", "WriterName", "check_shared", "digest_of"]

Kind: TypeAlias = Literal["everything", "boxes", "points", "text"]
Output: TypeAlias = Literal["instances", "map"]
Existing: TypeAlias = Literal["resume", "skip", "overwrite", "append"]
Oversize: TypeAlias = Literal["shrink", "files", "top_k", "fail"]
WriterName: TypeAlias = Literal["auto", "direct", "sdk"]

_DIGEST_VERSION = 3
_SEARCH = ("conf", "iou", "max_det", "imgsz", "snap_px", "stability", "tile_px", "overlap_px")
_HOW_NOT_WHAT = {"existing", "on_oversize", "mask_dir", "writer", "prefetch", "batch_size", "skip_failures"}
_HOW_NOT_WHAT |= {"max_pixels", "text_encoder"}  # of the encoder, its id counts, see described
_LABEL_ID = re.compile(r"[0-9a-fA-F]{24}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrichOptions:
    """Options of :func:`fiftyone_fastsam.enrich`.

    Parameters
    ----------
    box_prompt_field : str, optional
        ``Detections`` (or ``Detection``) that are answered with one mask each: ground truth, another detector's boxes.
    point_prompt_field : str, optional
        ``Keypoints`` (or ``Keypoint``) that are answered with one mask each. A point counts as negative where the
        keypoint's list ``sam_labels`` says 0 (SAM's convention in FiftyOne); points that are NaN are left out.
    prompt_field : str, optional
        Either of the two; the field's type decides.
    prompt_ids : collection of str, optional
        Answer only the prompts with these label ids; samples and frames without any of them are left alone, and so
        are answers to the others unless ``existing="overwrite"``.
    text : str or sequence of str, optional
        Names to look for: each mask gets the one that fits it best, with the probability as its confidence; masks that
        nothing fits are left out.
    negatives : str or sequence of str
        What masks may be besides.
    text_threshold : float, optional
        Probability below which a name does not fit; the encoder's own by default.
    text_encoder : TextEncoder, str or path, optional
        As for ``TextEncoder.load``.
    masks_field : str, optional
        Ask the masks of this field, which was enriched with ``embeddings=True``, instead of the images: no image is
        read, so further lists of names cost next to nothing.
    embeddings : bool
        Give each mask the attribute ``embedding``, the text encoder's vector: for ``masks_field``, and for
        ``fiftyone.brain``.
    label : str
        Class of the masks when there is no prompt.
    output : {"instances", "map"}
        ``Detections`` with instance masks, or one ``Segmentation``: classes as values when prompts bring classes,
        else one value an object.
    conf, iou, max_det, imgsz, snap_px, tile_px, overlap_px
        As in ``FastSAM.segment``; None takes the model's recommended value. Boxes and keypoints choose among masks of
        any ``conf`` from 0.01 on if it is None. ``tile_px`` finds what is small in mosaics and slides.
    max_pixels : int or None
        Files with more pixels are not read as a whole: with ``tile_px`` one tile is in memory at a time, as in
        ``fastsam_core.segment_tiles``, and words and embeddings read what is around each mask; else the sample fails.
        Maps need the whole image.
    stability : bool
        Write how little each mask changes with the threshold, 0 to 1, into the attribute ``stability``.
    min_iou : float
        Below this IoU of the mask's bounding box with it a box counts as not answered.
    level : {"auto", "part", "object", "group"}
        Which of nested masks answers a keypoint.
    min_area_px : int
        Smaller masks are dropped (without prompts).
    existing : {"resume", "skip", "overwrite", "append"}
        ``"resume"``: do what is missing or was made with other settings, and refuse a field that holds foreign
        labels. ``"skip"``: leave everything that has a label. ``"overwrite"``: do all again. ``"append"``: add to
        what is there, once per setting; what answers a prompt takes the place of an earlier answer to it; not for
        maps.
    on_oversize : {"shrink", "files", "top_k", "fail"}
        When a sample's masks do not fit into its document (16 MiB): halve the masks' resolution until they do, write
        them to PNG files in ``mask_dir``, keep the most confident ones, or count the sample as failed.
    mask_dir : path, optional
        Where ``"files"`` go, for each field and configuration into a folder of its own.
    writer : {"auto", "direct", "sdk"}
        ``"direct"`` writes bulk BSON, ``"sdk"`` goes through FiftyOne's samples; both give equal samples. ``"auto"``
        is direct where this FiftyOne allows it.
    prefetch, batch_size
        As in ``fastsam_core.iter_segment``.
    skip_failures : bool
        Record what went wrong with a sample and go on; otherwise raise it.

    Raises
    ------
    InvalidParameterError, InvalidPromptError
        If a value is out of range or options exclude each other.
    """

    box_prompt_field: str | None = None
    point_prompt_field: str | None = None
    prompt_field: str | None = None
    prompt_ids: Collection[str] | None = None
    text: str | Sequence[str] | None = None
    negatives: str | Sequence[str] = ()
    text_threshold: float | None = None
    text_encoder: TextEncoder | str | Path | None = None
    masks_field: str | None = None
    embeddings: bool = False
    label: str = "object"
    output: Output = "instances"
    conf: float | Literal["auto"] | None = None
    iou: float | None = None
    max_det: int = MAX_DET
    imgsz: int | Sequence[int] | None = None
    snap_px: float = 0
    tile_px: int | None = None
    overlap_px: int = OVERLAP_PX
    max_pixels: int | None = MAX_PIXELS
    stability: bool = True
    min_iou: float = 0.2
    level: Level = "auto"
    min_area_px: int = 1
    existing: Existing = "resume"
    on_oversize: Oversize = "shrink"
    mask_dir: str | Path | None = None
    writer: WriterName = "auto"
    prefetch: int = 2
    batch_size: int = 1
    skip_failures: bool = True

    def __post_init__(self) -> None:
        """Check everything that can be checked without data."""
        choices = {"output": Output, "existing": Existing, "on_oversize": Oversize, "writer": WriterName}
        for name, kind in {**choices, "level": Level}.items():
            allowed, value = get_args(kind), getattr(self, name)
            if value not in allowed:
                raise InvalidParameterError(
                    f"{name} is unknown", expected=" or ".join(map(repr, allowed)), actual=repr(value)
                )
        for name in ("box_prompt_field", "point_prompt_field", "prompt_field", "masks_field", "label"):
            _check_name(name, getattr(self, name))
        for name in ("text", "negatives"):
            object.__setattr__(self, name, _words(name, getattr(self, name)))
        names = ("box_prompt_field", "point_prompt_field", "prompt_field", "text")
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            raise InvalidPromptError("Only one kind of prompt at a time", expected="one", actual=", ".join(given))
        if "" in (self.box_prompt_field, self.point_prompt_field, self.prompt_field, self.masks_field):
            raise InvalidPromptError("The field of the prompts has no name", expected="a field, or None", actual="''")
        if self.prompt_ids is not None:
            object.__setattr__(self, "prompt_ids", _label_ids(self.prompt_ids))
        if self.text is not None and not (self.texts and all(name.strip() for name in self.texts)):
            raise InvalidPromptError("A text prompt is empty", expected="words", actual=repr(self.text))
        if self.masks_field is not None and (self.text is None or self.output == "map"):
            raise InvalidPromptError(
                "masks_field goes with words, and gives instances", expected="text and output='instances'"
            )
        if self.existing == "append" and self.output == "map":
            raise InvalidParameterError(
                "Maps cannot be appended to",
                expected="existing of 'resume', 'skip' or 'overwrite', or output='instances'",
                actual="existing='append'",
            )
        if self.embeddings and (given not in ([], ["text"]) or self.output == "map"):
            raise InvalidParameterError("Embeddings are for instances of everything or text", actual=", ".join(given))
        as_number("min_iou", self.min_iou, 0, 1)
        as_number("min_area_px", self.min_area_px, 0, math.inf)
        if self.max_pixels is not None:
            as_integer("max_pixels", self.max_pixels, 1)
        if self.text_threshold is not None:
            as_number("text_threshold", self.text_threshold, 0, 1)
        if self.mask_dir is not None and not isinstance(self.mask_dir, str | os.PathLike):
            raise InvalidParameterError("mask_dir is no folder", expected="a path", actual=repr(self.mask_dir))
        if self.on_oversize == "files" and self.mask_dir is None:
            raise InvalidParameterError("Mask files need a folder", expected="mask_dir", actual="none")

    @property
    def kind(self) -> Kind:
        """What the masks answer."""
        if self.text is not None:
            return "text"
        if self.box_prompt_field is not None:
            return "boxes"
        return "everything" if self.point_prompt_field is None else "points"

    @property
    def texts(self) -> tuple[str, ...]:
        """The names to look for."""
        return tuple(self.text or ())

    @property
    def needs_encoder(self) -> bool:
        """Whether a text encoder takes part."""
        return self.text is not None or self.embeddings

    @property
    def field(self) -> str | None:
        """The field that holds the prompts."""
        return self.box_prompt_field or self.point_prompt_field or self.prompt_field or self.masks_field

    @property
    def follows_edits(self) -> bool:
        """Whether prompts that were edited since they were answered are answered anew."""
        return (self.existing == "resume" and self.field is not None) or self.replaces_answers

    @property
    def answers_in_place(self) -> bool:
        """Whether earlier answers stay where their prompts are not shown or not asked now."""
        return self.existing == "resume" and self.kind in ("boxes", "points") and self.output == "instances"

    @property
    def replaces_answers(self) -> bool:
        """Whether answers are added to other labels, in place of earlier ones to the same prompts."""
        return self.existing == "append" and self.kind in ("boxes", "points")

    def search(self) -> dict[str, Any]:
        """Return the arguments of ``FastSAM.settings``."""
        search = {name: getattr(self, name) for name in _SEARCH}
        if self.conf in (None, "auto") and self.kind in ("boxes", "points"):
            search["conf"] = PROMPT_CONF
        return search

    def described(self, model: FastSAM, encoder_id: str | None = None) -> dict[str, Any]:
        """Return everything that decides what the masks are, with the model's own values filled in."""
        asked = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in _HOW_NOT_WHAT}
        asked["text"], asked["negatives"], asked["encoder"] = list(self.texts), list(self.negatives), encoder_id
        asked["prompt_ids"] = None if self.prompt_ids is None else sorted(self.prompt_ids)
        settings = asdict(model.settings(**self.search()))
        described = {
            **asked,
            **settings,
            "imgsz": list(settings["imgsz"]),
            "kind": self.kind,
            "model": model.name,
            "weights_sha256": model.info.sha256,
            "version": _DIGEST_VERSION,
        }
        without = ("tile_px", "overlap_px") if self.tile_px is None else ()
        return {name: value for name, value in described.items() if name not in without}


def _check_name(name: str, value: object) -> None:
    if value is not None and not isinstance(value, str):
        raise InvalidParameterError(f"{name} is no name", expected="text", actual=repr(value)[:80])


def _words(name: str, given: object) -> tuple[str, ...] | None:
    """Return words, a single one or several, as a tuple."""
    if given is None and name == "text":
        return None
    words = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str | bytes) else (given,)
    if wrong := [word for word in words if not isinstance(word, str)]:
        raise InvalidPromptError(f"{name} holds what is no word", expected="text", actual=repr(wrong[0])[:80])
    return words


def _label_ids(given: object) -> frozenset[str]:
    """Return ids of labels as text, each once."""
    ids = given if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    told = [(id_, str(id_)) for id_ in ids]
    if wrong := [id_ for id_, text in told if not (isinstance(id_, str) or _LABEL_ID.fullmatch(text))]:
        raise InvalidPromptError(
            "prompt_ids holds what is no id of a label",
            expected="text",
            actual=repr(wrong[0])[:80],
            remedy="values(..., unwind=True) gives one list of ids instead of one for each sample",
        )
    return frozenset(text.lower() for _, text in told)


def check_shared(options: EnrichOptions, shard_size: int, lease_s: float) -> None:
    """Refuse what workers cannot share; numbers as of :func:`fiftyone_fastsam.iter_shared`.

    Raises
    ------
    InvalidParameterError
        For ``existing="overwrite"``, a `shard_size` below 1, or a `lease_s` that is not positive.
    """
    if options.existing == "overwrite" or shard_size < 1 or lease_s <= 0:
        raise InvalidParameterError(
            "Workers cannot share this",
            expected="existing of 'resume', 'skip' or 'append', a shard_size of at least 1, a positive lease_s",
            actual=f"existing {options.existing!r}, shard_size {shard_size}, lease_s {lease_s}",
        )


def digest_of(described: dict[str, Any]) -> str:
    """Return 12 hexadecimal digits that stand for a configuration."""
    text = json.dumps(described, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
