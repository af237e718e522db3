"""What every reader gives: annotated images one at a time, each decoded when its turn comes."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final, Literal

from fastsam_core.errors import AnnotationError, ImageReadError, InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL.Image import Image as PillowImage

    from fastsam_core.masks import Masks

__all__ = ["BACKGROUND_WEIGHTS", "Broken", "Coverage", "Item", "Record", "hash_fraction", "image_record", "read_share"]

Coverage = Literal["exhaustive", "dense", "partial"]

BACKGROUND_WEIGHTS: Final[dict[Coverage, float]] = {"exhaustive": 1.0, "dense": 0.15, "partial": 0.03}
"""Weight of unannotated pixels as negatives, by how much of what is there was annotated."""

_KEPT_FORMATS: Final = {"JPEG": ".jpg", "PNG": ".png"}
_KEPT_MODES: Final = ("RGB", "L")
_ORIENTATION_TAG: Final = 0x0112


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One annotated image.

    Parameters
    ----------
    content : bytes
        An 8-bit JPEG or PNG file, upright.
    suffix : {".jpg", ".png"}
        Its kind.
    masks : Masks
        Every annotated instance, overlapping and nested ones as well, at the image's own size.
    """

    content: bytes
    suffix: str
    masks: Masks


@dataclass(frozen=True, slots=True)
class Broken:
    """An image or pair that could not be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Item:
    """An annotated image that is yet to be read.

    Parameters
    ----------
    name : str
        Unique in its source and fit for a file name.
    load : callable
        Reads it; raises FastSAMError or OSError if it is broken.
    """

    name: str
    load: Callable[[], Record]


def hash_fraction(purpose: str, name: str) -> float:
    """Return a number in [0, 1) that depends on the name alone; other purposes give unrelated numbers."""
    digest = hashlib.sha256(f"{purpose}:{name}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def read_share(text: str) -> Fraction:
    """Read ``1/50`` or ``0.02``.

    Raises
    ------
    InvalidParameterError
        If it is no number above 0 and at most 1.
    """
    try:
        share = Fraction(text)
    except (ValueError, ZeroDivisionError):
        share = Fraction(0)
    if not 0 < share <= 1:
        raise InvalidParameterError("Cannot read the subset", expected="1/50, 0.02 or the like", actual=repr(text))
    return share


def image_record(source: Path | bytes, name: str, masks_of: Callable[[tuple[int, int]], Masks]) -> Record:
    """Pair an image with its masks; 8-bit JPEG and PNG stay as they are, all else becomes PNG as the program sees it.

    Parameters
    ----------
    source : Path or bytes
        The image file, or its content.
    name : str
        For messages.
    masks_of : callable
        Given the image's (H, W), returns its masks; raises if they are of another size.

    Raises
    ------
    ImageReadError
        If the image is damaged.
    ImageTooLargeError
        If it has more pixels than are read here; Pillow's own limit does not hold.
    AnnotationError
        If the masks are of another size.
    """
    from fastsam_core._image_files import errors_named, open_picture

    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        raise ImageReadError(f"{name} cannot be read", actual=error.strerror or str(error)) from error
    with errors_named(name):
        picture = open_picture(io.BytesIO(content), name)
        if picture is None and isinstance(source, bytes):
            raise ImageReadError(f"{name} is not an image")
        if picture is not None and _is_kept(picture):
            picture.load()
            suffix, image_hw = _KEPT_FORMATS[str(picture.format)], (picture.height, picture.width)
        else:
            content, image_hw = _as_png(source, picture)
            suffix = ".png"
    masks = masks_of(image_hw)
    if masks.image_hw != image_hw:
        raise AnnotationError(
            f"The masks of {name} have another size than the image",
            expected=f"{image_hw[0]} x {image_hw[1]}",
            actual=f"{masks.image_hw[0]} x {masks.image_hw[1]}",
        )
    return Record(content, suffix, masks)


def _is_kept(picture: PillowImage) -> bool:
    plain = picture.format in _KEPT_FORMATS and picture.mode in _KEPT_MODES
    return plain and picture.getexif().get(_ORIENTATION_TAG, 1) in (0, 1)


def _as_png(source: Path | bytes, picture: PillowImage | None) -> tuple[bytes, tuple[int, int]]:
    from PIL import Image

    from fastsam_core.images import read_image

    rgb8 = read_image(picture if isinstance(source, bytes) else source).rgb8
    out = io.BytesIO()
    Image.fromarray(rgb8).save(out, "PNG", compress_level=3)
    return out.getvalue(), (rgb8.shape[0], rgb8.shape[1])
