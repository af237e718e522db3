"""``manifest.json`` and ``data.yaml``: what a converted data set holds, where it is from, and under which licences."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from fastsam_core._files import atomic_path, write_json
from fastsam_core.errors import AnnotationError
from fastsam_core.training.datasets.records import BACKGROUND_WEIGHTS, Broken, Coverage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["SPLITS", "Dataset", "IndexRow", "SourceEntry"]

FORMAT: Final = "fastsam-dataset/1"
SPLITS: Final = ("train", "val")


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One image of a data set, a line of ``index/<source>.jsonl``."""

    name: str
    split: str
    file: str
    height: int
    width: int
    instances: int
    image_sha256: str
    masks_sha256: str


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """One source of a data set.

    Parameters
    ----------
    name, kind, licence : str
        Its folder, how it was annotated, and the licence its maker states.
    coverage : {"exhaustive", "dense", "partial"}
        How much of what is there was annotated.
    subset : str
        Share of the source that was taken, ``"1"`` for all of it.
    images, instances : mapping of split to int
        Counts.
    with_holes : int
        Instances whose holes are lost in YOLO polygons, but not in the run lengths.
    broken : tuple of Broken
        What could not be used.
    index_sha256 : str
        Hash of the source's index, which holds the hashes of all files.
    """

    name: str
    kind: str
    licence: str
    coverage: Coverage
    subset: str
    images: Mapping[str, int]
    instances: Mapping[str, int]
    with_holes: int = 0
    broken: tuple[Broken, ...] = ()
    index_sha256: str = ""

    @property
    def background_weight(self) -> float:
        """Weight in [0, 1] of unannotated pixels as negatives."""
        return BACKGROUND_WEIGHTS[self.coverage]

    @property
    def partial(self) -> bool:
        """Whether what is not annotated is unknown rather than background."""
        return self.coverage == "partial"

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "partial": self.partial, "background_weight": self.background_weight}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read plain values."""
        known = {key: values[key] for key in cls.__dataclass_fields__ if key in values}
        return cls(**{**known, "broken": tuple(Broken(**item) for item in values.get("broken", ()))})


@dataclass(frozen=True, slots=True)
class Dataset:
    """A converted data set on disk.

    Parameters
    ----------
    folder : Path
        Holds ``manifest.json``, ``data.yaml``, ``index/``, and for each split and source ``images/<split>/<source>``,
        ``labels/…`` (YOLO polygons) and ``rle/…`` (run lengths, laid out as in SA-1B).
    sources : mapping of str to SourceEntry
        By name.
    """

    folder: Path
    sources: Mapping[str, SourceEntry] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read the manifest.

        Raises
        ------
        AnnotationError
            If there is none, or it is damaged.
        """
        path = folder / "manifest.json"
        try:
            document = json.loads(path.read_bytes())
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']!r}")
            sources = {entry["name"]: SourceEntry.from_json(entry) for entry in document["sources"]}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise AnnotationError(
                f"{folder} is not a converted data set",
                expected=f"manifest.json of format {FORMAT}",
                actual=f"{type(error).__name__}: {error}",
                remedy="make one with: fastsam data convert",
            ) from error
        return cls(folder, sources)

    def place(self, kind: str, split: str, source: str) -> Path:
        """Return the folder of one kind of file: ``"images"``, ``"labels"`` or ``"rle"``."""
        return self.folder / kind / split / source

    def index_path(self, source: str) -> Path:
        """Return the file that lists the images of a source."""
        return self.folder / "index" / f"{source}.jsonl"

    def rows(self, source: str) -> Iterator[IndexRow]:
        """Read the index of a source, one image at a time.

        Raises
        ------
        AnnotationError
            If it is missing or damaged.
        """
        path = self.index_path(source)
        try:
            with path.open(encoding="utf-8") as lines:
                for line in lines:
                    yield IndexRow(**json.loads(line))
        except (OSError, ValueError, TypeError) as error:
            raise AnnotationError(
                f"{path} cannot be read",
                expected="the index that the conversion wrote",
                actual=f"{type(error).__name__}: {error}",
                remedy="convert the source again, with --replace",
            ) from error

    def save(self) -> None:
        """Write ``data.yaml`` for Ultralytics, then the manifest, which makes the change count."""
        splits = {
            split: [f"images/{split}/{name}" for name, entry in self.sources.items() if entry.images.get(split)]
            for split in SPLITS
        }
        splits["val"] = splits["val"] or splits["train"]
        lines = ["# One class: any object. Instances may be nested: train with overlap_mask=False."]
        for split, folders in splits.items():
            lines += [f"{split}:", *(f"  - {json.dumps(folder)}" for folder in folders)]
        lines += ["names:", "  0: object", ""]
        document = {
            "format": FORMAT,
            "images": self._total("images"),
            "instances": self._total("instances"),
            "sources": [entry.to_json() for entry in self.sources.values()],
        }
        with atomic_path(self.folder / "data.yaml") as temporary:
            temporary.write_text("\n".join(lines), encoding="utf-8")
        write_json(self.folder / "manifest.json", document)

    def _total(self, what: str) -> dict[str, int]:
        counts = [getattr(entry, what) for entry in self.sources.values()]
        return {split: sum(count.get(split, 0) for count in counts) for split in SPLITS}
