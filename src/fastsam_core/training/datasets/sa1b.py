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
    from collections.abc import Callable, Mapping

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
        found = _members(source, source.name)
    else:
        files = sorted(path for path in source.rglob("*") if path.is_file())
        found = {path.relative_to(source).as_posix(): partial(path.read_bytes) for path in files}
        if images is not None:
            pictures = sorted(path for path in images.rglob("*") if path.is_file() and path.suffix in _IMAGE_SUFFIXES)
            found = {name: read for name, read in found.items() if not name.endswith(_IMAGE_SUFFIXES)}
            found |= {path.relative_to(images).as_posix(): partial(path.read_bytes) for path in pictures}
        for path in files:
            if path.suffix == ".tar" and not path.name.startswith("."):
                found |= _members(path, path.relative_to(source).as_posix())
    items = _pairs({name: read for name, read in found.items() if "/." not in f"/{name}"})  # as macOS leaves them
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


def _members(path: Path, name: str) -> dict[str, partial[bytes]]:
    """Give the files of a shard by their names, below that of the shard."""
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
    places = [(PurePosixPath(name, member.name.lstrip("/")), member) for member in members]
    return {place.as_posix(): partial(_read_part, path, member.offset_data, member.size) for place, member in places}


def _read_part(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(offset)
        content = stream.read(size)
    if len(content) < size:
        raise AnnotationError(f"The shard {path} ends early", expected=f"{size} bytes", actual=f"{len(content)}")
    return content


def _pairs(files: Mapping[str, Callable[[], bytes]]) -> list[Item]:
    """Pair files of one stem, which is the image's id, wherever they are.

    Where several have it, the first pair of one folder is taken; the others are listed by their paths, and refused.
    """
    stems: dict[str, list[str]] = {}
    for name in files:
        place = PurePosixPath(name)
        if place.suffix in (*_IMAGE_SUFFIXES, ".json"):
            stems.setdefault(place.stem, []).append(name)
    items = []
    for stem, names in stems.items():
        folders: dict[PurePosixPath, list[str]] = {}
        for name in names:
            folders.setdefault(PurePosixPath(name).parent, []).append(name)
        groups = [names] if _has_one_each(names) else list(folders.values())
        taken = next((group for group in groups if _has_one_each(group) and len(group) in (2, len(names))), None)
        for group in groups:
            if group is taken:
                parts = {"json" if name.endswith(".json") else "image": files[name] for name in group}
                items.append(Item(stem, partial(_load, stem, parts.get("image"), parts.get("json"))))
            else:
                items.append(Item("__".join(PurePosixPath(group[0]).parts), partial(_refuse, stem, names)))
    return items


def _has_one_each(names: list[str]) -> bool:
    """Tell whether there is no more than one annotation and one image among them."""
    annotations = sum(name.endswith(".json") for name in names)
    return annotations <= 1 and len(names) - annotations <= 1


def _refuse(stem: str, names: list[str]) -> Record:
    raise AnnotationError(
        f"Several files have the name {stem}",
        expected="one image and one annotation of each name, in all folders and shards",
        actual=", ".join(names),
        remedy="rename those that are of other images, and take out those of the same",
    )


def _load(stem: str, image: Callable[[], bytes] | None, annotation: Callable[[], bytes] | None) -> Record:
    if image is None or annotation is None:
        raise AnnotationError(f"{stem} has no {'image' if image is None else 'annotation'}")
    path = Path(f"{stem}.json")
    try:
        document = json.loads(annotation())
    except ValueError as error:
        raise AnnotationError(f"{path} is damaged", expected="JSON", actual=str(error)) from error
    return image_record(image(), stem, lambda image_hw: read_sidecar(document, path, image_hw))
