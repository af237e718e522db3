"""SA-1B (Kirillov et al. 2023, arXiv 2304.02643): pairs ``sa_*.jpg`` and ``sa_*.json`` with COCO run lengths."""

from __future__ import annotations

import json
import tarfile
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from fastsam_core.errors import AnnotationError
from fastsam_core.evaluation.coco_data import masks_of_entries
from fastsam_core.training.datasets.records import Item, Record, image_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastsam_core.masks import Masks

__all__ = ["list_pairs", "read_sidecar"]

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


def list_pairs(source: Path, images: Path | None = None) -> list[Item]:
    """List the pairs below a folder, in its ``.tar`` shards too, or in one shard; images may be below another folder.

    Raises
    ------
    AnnotationError
        If there is no pair at all, a shard is damaged or compressed (pairs are read by their place in the file).
    """
    if source.is_file():
        items = _pairs_of_shard(source)
    else:
        files = sorted(path for path in source.rglob("*") if path.is_file())
        found = {path.relative_to(source).as_posix(): partial(path.read_bytes) for path in files}
        if images is not None:
            found = {name: read for name, read in found.items() if not name.endswith(_IMAGE_SUFFIXES)}
            found |= {path.name: partial(path.read_bytes) for path in sorted(images.rglob("*")) if path.is_file()}
        items = _pairs({name: read for name, read in found.items() if not name.endswith(".tar")})
        for path in files:
            if path.suffix == ".tar":
                items += _pairs_of_shard(path)
    if not items:
        raise AnnotationError(f"There is no pair of image and annotation in {source}", expected="sa_*.jpg, sa_*.json")
    return items


def read_sidecar(document: Any, path: Path, image_hw: tuple[int, int]) -> Masks:
    """Decode the masks of one annotation document; raises AnnotationError if it does not fit the image."""
    try:
        entries = document["annotations"]
        size = (int(document["image"]["height"]), int(document["image"]["width"]))
    except (KeyError, TypeError, ValueError) as error:
        raise AnnotationError(
            f"{path} is no annotation of SA-1B", expected="image and annotations", actual=f"{error!r}"
        ) from error
    if size != image_hw:
        raise AnnotationError(
            f"{path} belongs to an image of another size",
            expected=f"{image_hw[0]} x {image_hw[1]}",
            actual=f"{size[0]} x {size[1]}",
        )
    return masks_of_entries(entries, image_hw, path)


def _pairs_of_shard(path: Path) -> list[Item]:
    try:
        with tarfile.open(path, "r:") as shard:
            members = [member for member in shard if member.isfile()]
    except (tarfile.TarError, OSError) as error:
        raise AnnotationError(
            f"The shard {path} cannot be read",
            expected="an uncompressed .tar file",
            actual=str(error),
            remedy="fetch it again, or unpack it and give the folder",
        ) from error
    return _pairs({member.name: partial(_read_part, path, member.offset_data, member.size) for member in members})


def _read_part(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(offset)
        content = stream.read(size)
    if len(content) < size:
        raise AnnotationError(f"The shard {path} ends early", expected=f"{size} bytes", actual=f"{len(content)}")
    return content


def _pairs(files: dict[str, Callable[[], bytes]]) -> list[Item]:
    stems: dict[str, dict[str, Callable[[], bytes]]] = {}
    for name, read in files.items():
        place = PurePosixPath(name)
        kind = "image" if place.suffix in _IMAGE_SUFFIXES else "json" if place.suffix == ".json" else None
        if kind is not None:
            stems.setdefault(place.stem, {})[kind] = read
    return [Item(stem, partial(_load, stem, parts.get("image"), parts.get("json"))) for stem, parts in stems.items()]


def _load(stem: str, image: Callable[[], bytes] | None, annotation: Callable[[], bytes] | None) -> Record:
    if image is None or annotation is None:
        raise AnnotationError(f"{stem} has no {'image' if image is None else 'annotation'}")
    path = Path(f"{stem}.json")
    try:
        document = json.loads(annotation())
    except ValueError as error:
        raise AnnotationError(f"{path} is damaged", expected="JSON", actual=str(error)) from error
    return image_record(image(), stem, lambda image_hw: read_sidecar(document, path, image_hw))
