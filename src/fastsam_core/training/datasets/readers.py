"""The kinds of annotations that can be read, and what their unannotated pixels mean unless the user says otherwise."""

from __future__ import annotations

import zipfile
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fastsam_core._files import as_path
from fastsam_core.errors import AnnotationError, InvalidParameterError
from fastsam_core.training.datasets import coco, folders, sa1b
from fastsam_core.training.datasets.records import Coverage, Item, hash_fraction

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from fractions import Fraction
    from pathlib import Path

__all__ = ["KINDS", "Kind", "check_unpacked", "list_items"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A layout of annotated images: what it is called, how its items are listed, what is annotated in it."""

    title: str
    items: Callable[[Path, Path | None], list[Item]]
    coverage: Coverage


KINDS: Final[dict[str, Kind]] = {
    "sa1b": Kind("SA-1B: sa_*.jpg with sa_*.json, in folders or .tar shards", sa1b.list_pairs, "exhaustive"),
    "coco": Kind("COCO instances: images and one JSON", coco.list_instances, "partial"),
    "panoptic": Kind("COCO panoptic: images, one JSON and a folder of PNG", coco.list_panoptic, "dense"),
    "labels": Kind("label maps or outlines: images/ and masks/", folders.list_label_maps, "exhaustive"),
    "beside": Kind("the same beside images: NAME_masks.*, NAME_RoiSet.zip …", folders.list_beside, "exhaustive"),
    "yolo": Kind("YOLO-seg: images/ and labels/ (TXT)", folders.list_yolo, "exhaustive"),
}
"""Name -> how it is read."""


def check_unpacked(source: Path) -> None:
    """Refuse the ZIP files that CVAT, Label Studio and Roboflow hand out.

    Raises
    ------
    AnnotationError
        If it is one.
    """
    if source.is_file() and zipfile.is_zipfile(source):
        raise AnnotationError(
            f"{source} is packed",
            expected="a folder, or the file of the annotations",
            actual="a ZIP file",
            remedy="unpack it, and name what comes out of it",
        )


def list_items(
    kind: str,
    source: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    subset: Fraction | None = None,
) -> list[Item]:
    """List the annotated images of a source without decoding them.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    source : Path
        Folder, annotation file or tar shard.
    images : Path, optional
        Folder of the images, where it is not beside the annotations.
    subset : Fraction, optional
        Share of the images to take, chosen by a hash of their names: the same ones every time.

    Raises
    ------
    InvalidParameterError
        If there is no such kind.
    AnnotationError
        If nothing of the kind is there, it is packed, or two images would have one name.
    """
    source = as_path(source)
    if kind not in KINDS:
        raise InvalidParameterError("Unknown kind of annotations", expected=f"one of {', '.join(KINDS)}", actual=kind)
    check_unpacked(source)
    items = KINDS[kind].items(source, None if images is None else as_path(images))
    names = Counter(item.name for item in items)
    if twice := [name for name, count in names.items() if count > 1]:  # the files of one would be those of the other
        raise AnnotationError(
            f"Images of {source} would have one name in the data set",
            expected="names that differ, also with __ in the place of /",
            actual=f"{twice[0]} {names[twice[0]]} times" + (f"; {len(twice)} such names" if len(twice) > 1 else ""),
            remedy="rename one of them, and its annotation",
        )
    return items if subset is None else [item for item in items if hash_fraction("subset", item.name) < subset]
