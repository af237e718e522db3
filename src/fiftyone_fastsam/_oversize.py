"""MongoDB's limit of 16 MiB a document: the size of a result is known before it is written, with a chosen way down."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fastsam_core._files import atomic_path
from fiftyone_fastsam._answers import unanswered
from fiftyone_fastsam._convert import Instance, array_bytes
from fiftyone_fastsam._writers import Result, encode
from fiftyone_fastsam.errors import DocumentTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fiftyone_fastsam.options import EnrichOptions

__all__ = ["fitted"]

DOCUMENT_BYTES = 16 * 2**20
"""MongoDB's limit."""
_SPARE_BYTES: Final = 2**16
_PER_ENTRY_BYTES: Final = 12
_SMALLEST_SCALE: Final = 1 / 64


def fitted(result: Result, options: EnrichOptions, folder: Path) -> Result:
    """Return a result that fits into its document, and carries its masks encoded.

    Parameters
    ----------
    result : Result
    options : EnrichOptions
    folder : Path
        Where ``on_oversize="files"`` writes masks; of this field and configuration alone.

    Raises
    ------
    DocumentTooLargeError
        If it does not fit and ``on_oversize="fail"``, or nothing helps.
    OutputError
        If mask files cannot be written.
    """
    if result.reason is not None:
        return result
    room = DOCUMENT_BYTES - _SPARE_BYTES - result.item.stored_bytes
    if result.map is not None:
        if len(array_bytes(result.map)) > room:
            raise _too_large(room, len(array_bytes(result.map)))
        return result
    encoded = [encode(instance) for instance in result.instances]
    if _size(encoded) <= room:
        return replace(result, encoded=encoded)
    ways: dict[str, Callable[[], Result | None]] = {
        "shrink": lambda: _shrunk(result, options, room),
        "files": lambda: _in_files(result, options, folder, room),
        "top_k": lambda: _best(result, encoded, options, room),
        "fail": lambda: None,
    }
    smaller = ways[options.on_oversize]()
    if smaller is None:
        raise _too_large(room, _size(encoded))
    return smaller


def _size(encoded: Sequence[Any]) -> int:
    return sum(len(document.raw) + _PER_ENTRY_BYTES for document in encoded)


def _shrunk(result: Result, options: EnrichOptions, room: int) -> Result | None:
    """Halve the resolution of all masks until they fit; FiftyOne scales them to their boxes."""
    scale = 1.0
    while scale > _SMALLEST_SCALE:
        scale /= 2
        step = round(1 / scale)
        instances = [_subsampled(instance, step, scale) for instance in result.instances]
        encoded = [encode(instance) for instance in instances]
        if _size(encoded) <= room:
            return replace(result, instances=instances, encoded=encoded)
    return _best(replace(result, instances=instances), encoded, options, room)


def _subsampled(instance: Instance, step: int, scale: float) -> Instance:
    if instance.mask is None:
        return instance
    rows, columns = (np.minimum(np.arange(step // 2, n + step // 2, step), n - 1) for n in instance.mask.shape)
    mask = instance.mask[np.ix_(rows, columns)]
    return replace(instance, mask=mask, attributes={**instance.attributes, "mask_scale": scale})


def _best(result: Result, encoded: Sequence[Any], options: EnrichOptions, room: int) -> Result | None:
    """Keep the most confident instances that fit, in their order; answers of prompts stay, without masks."""
    instances, bare = result.instances, []
    if options.kind in ("boxes", "points"):
        bare = unanswered(result.item.prompts or (), options)
    encoded_bare = [encode(instance) for instance in bare]
    kept = _most_confident(instances, encoded, encoded_bare, room)
    if not kept:
        return None
    if not bare:
        return replace(result, instances=[instances[i] for i in kept], encoded=[encoded[i] for i in kept])
    return replace(
        result,
        instances=[(instances if i in kept else bare)[i] for i in range(len(bare))],
        encoded=[(encoded if i in kept else encoded_bare)[i] for i in range(len(bare))],
    )


def _most_confident(
    instances: Sequence[Instance], encoded: Sequence[Any], encoded_bare: Sequence[Any], room: int
) -> list[int]:
    """Return, in order, which instances fit besides the bare ones of all the others."""
    kept, used = [], _size(encoded_bare)
    for index in sorted(range(len(encoded)), key=lambda i: -(instances[i].confidence or 0.0)):
        used += _size(encoded[index : index + 1]) - _size(encoded_bare[index : index + 1])
        if used > room:
            break
        kept.append(index)
    return sorted(kept)


def _in_files(result: Result, options: EnrichOptions, folder: Path, room: int) -> Result | None:
    """Write masks as PNG files and store their paths."""
    from PIL import Image

    item = result.item
    folder = folder / str(item.sample_id)
    if item.frame_number is not None:
        folder /= f"{item.frame_number:06d}"
    instances = []
    for index, instance in enumerate(result.instances):
        if instance.mask is None:
            instances.append(instance)
            continue
        path = folder / f"{instance.id or format(index, '05d')}.png"  # answers to other prompts may be beside
        with atomic_path(path) as temporary:
            Image.fromarray(instance.mask.astype(np.uint8) * 255).save(temporary, format="PNG")
        instances.append(replace(instance, mask=None, mask_path=str(path)))
    encoded = [encode(instance) for instance in instances]
    result = replace(result, instances=instances, encoded=encoded)
    return result if _size(encoded) <= room else _best(result, encoded, options, room)


def _too_large(room: int, size: int) -> DocumentTooLargeError:
    return DocumentTooLargeError(
        "The masks do not fit into the sample's document",
        expected=f"at most {max(room, 0):,} bytes",
        actual=f"{size:,} bytes",
        remedy="choose on_oversize='shrink', 'files' or 'top_k', or lower max_det",
    )
