"""Embeddings of masks, kept so that no mask is encoded twice: in memory, and on disk if a folder is given."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from fastsam_core._checks import as_integer
from fastsam_core._files import as_path, atomic_path
from fastsam_core.errors import OutputError

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from numpy.typing import NDArray

    from fastsam_core.masks import Masks
    from fastsam_core.text.crops import CropOptions, Pixels

__all__ = ["EmbeddingStore", "image_digest", "mask_digests", "page_key"]

_LOGGER = logging.getLogger(__name__)
_DIGEST_BYTES: Final = 16
_DIGEST_ROWS: Final = 512
_MAGIC: Final = "fastsam-embeddings/1"


def image_digest(image_rgb8: Pixels) -> str:
    """Return a digest of an image's size and pixels."""
    hasher = hashlib.blake2b(str(image_rgb8.shape).encode(), digest_size=_DIGEST_BYTES)
    height, width = image_rgb8.shape[:2]
    for y in range(0, height, _DIGEST_ROWS):
        hasher.update(np.ascontiguousarray(image_rgb8[y : y + _DIGEST_ROWS, :width]).data)
    return hasher.hexdigest()


def mask_digests(masks: Masks, *, with_boxes: bool = False) -> list[bytes]:
    """Return a digest of each mask's pixels and place, and of the detector's box where that is looked at as well."""
    content = np.ascontiguousarray(masks.runs).tobytes()
    limits = (masks.offsets * (masks.runs.itemsize * 3)).tolist()
    keys = [box.tobytes() for box in masks.boxes_xyxy] if with_boxes else [b""] * len(masks)
    return [
        hashlib.blake2b(content[start:stop], digest_size=_DIGEST_BYTES, key=key).digest()
        for start, stop, key in zip(limits, limits[1:], keys, strict=False)
    ]


def page_key(digest: str, encoder_id: str, options: CropOptions) -> str:
    """Return what belongs together: the masks of one image, encoded and cut out in one way."""
    words = (digest, encoder_id, options.background, f"{options.margin:.6g}")
    return hashlib.blake2b("\n".join(words).encode(), digest_size=_DIGEST_BYTES).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class _Page:
    """The embeddings of the masks of one image, by the digest of the mask."""

    rows: dict[bytes, int]
    embeddings: NDArray[np.float32]

    @property
    def size_bytes(self) -> int:
        return int(self.embeddings.nbytes) + 120 * len(self.rows)


class EmbeddingStore:
    """A bounded memory of mask embeddings; safe to use from several threads.

    Parameters
    ----------
    max_bytes : int
        What is kept in memory; the images longest unused are dropped first. 256 MiB by default, that is about 400
        images of 300 masks with 512 values each.
    folder : path, optional
        Where embeddings are kept as well, one file an image; they survive a restart. Files are written whole or not
        at all, carry a checksum, and one that is damaged is taken for missing. Nothing is deleted there. Of several
        processes that add masks of one image at a time, the last one's file stays; what it lacks is encoded again.

    Raises
    ------
    InvalidParameterError
        If ``max_bytes`` is negative, or ``folder`` no path.
    """

    def __init__(self, max_bytes: int = 256 * 2**20, folder: str | os.PathLike[str] | None = None) -> None:
        self.max_bytes = as_integer("max_bytes", max_bytes, 0)
        self.folder = None if folder is None else as_path(folder)
        self._pages: OrderedDict[str, _Page] = OrderedDict()
        self._lock = threading.RLock()
        self._told = False  # that the folder cannot be written to

    @property
    def size_bytes(self) -> int:
        """What is in memory now."""
        with self._lock:
            return sum(page.size_bytes for page in self._pages.values())

    @staticmethod
    def image_digest(image_rgb8: Pixels) -> str:
        """Return the digest of an image, to hand over where the same image is asked about again and again."""
        return image_digest(image_rgb8)

    def look_up(self, key: str, digests: list[bytes], width: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return what is known of some masks.

        Parameters
        ----------
        key : str
            See `page_key`.
        digests : list of bytes
            See `mask_digests`; N of them.
        width : int
            Length D of an embedding.

        Returns
        -------
        embeddings : ndarray of float32, shape (N, D)
            Zeros where nothing is known.
        known : ndarray of bool, shape (N,)
        """
        embeddings = np.zeros((len(digests), width), np.float32)
        known = np.zeros(len(digests), bool)
        page = self._page(key, width)
        if page is not None:
            rows = np.array([page.rows.get(digest, -1) for digest in digests], np.int64)
            known = rows >= 0
            embeddings[known] = page.embeddings[rows[known]]
        return embeddings, known

    def add(self, key: str, digests: list[bytes], embeddings: NDArray[np.float32]) -> None:
        """Remember the embeddings of some masks, beside what is known of the image already.

        A folder that cannot be written to is told of once in the log; memory serves all the same.
        """
        with self._lock:
            page = self._page(key, embeddings.shape[1])
            rows = dict(page.rows) if page is not None else {}
            fresh: list[int] = []
            for place, digest in enumerate(digests):
                if digest not in rows:
                    rows[digest] = len(rows)
                    fresh.append(place)
            known = [page.embeddings] if page is not None else []
            page = _Page(rows, np.concatenate([*known, embeddings[fresh]]))
            self._keep(key, page)
            if self.folder is not None:  # still locked, or an older page could be written over a newer one
                self._save(self.folder, key, page)

    def _save(self, folder: Path, key: str, page: _Page) -> None:
        try:
            _write(_file(folder, key), page)
        except OutputError as error:
            if not self._told:
                _LOGGER.warning("Embeddings are kept in memory only: %s", error)
            self._told = True

    def _page(self, key: str, width: int) -> _Page | None:
        with self._lock:
            page = self._pages.get(key)
            if page is not None:
                self._pages.move_to_end(key)
            elif self.folder is not None:
                page = _read(_file(self.folder, key))
                if page is not None:
                    self._keep(key, page)
        return page if page is not None and page.embeddings.shape[1] == width else None

    def _keep(self, key: str, page: _Page) -> None:
        self._pages[key] = page
        self._pages.move_to_end(key)
        total = sum(kept.size_bytes for kept in self._pages.values())
        while total > self.max_bytes and self._pages:
            total -= self._pages.popitem(last=False)[1].size_bytes


def _file(folder: Path, key: str) -> Path:
    return folder / key[:2] / f"{key}.safetensors"


def _write(path: Path, page: _Page) -> None:
    from safetensors.numpy import save_file

    digests = np.frombuffer(b"".join(page.rows), np.uint8).reshape(-1, _DIGEST_BYTES)
    metadata = {"format": _MAGIC, "checksum": _checksum(digests, page.embeddings)}
    with atomic_path(path) as temporary:
        save_file({"digests": digests, "embeddings": page.embeddings}, temporary, metadata)


def _read(path: Path) -> _Page | None:
    """Return what a file holds; None if it is not there or damaged."""
    import safetensors

    if not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            digests, embeddings = file.get_tensor("digests"), file.get_tensor("embeddings")
    except (safetensors.SafetensorError, OSError) as error:
        _LOGGER.warning("%s cannot be read and is made again: %s", path, error)
        return None
    if metadata.get("format") != _MAGIC or metadata.get("checksum") != _checksum(digests, embeddings):
        _LOGGER.warning("%s is damaged (wrong checksum) and is made again", path)
        return None
    rows = {digest.tobytes(): row for row, digest in enumerate(digests)}
    return _Page(rows, embeddings)


def _checksum(digests: NDArray[np.uint8], embeddings: NDArray[np.float32]) -> str:
    hasher = hashlib.blake2b(str((digests.shape, embeddings.shape, embeddings.dtype)).encode(), digest_size=16)
    hasher.update(np.ascontiguousarray(digests).data)
    hasher.update(np.ascontiguousarray(embeddings).data)
    return hasher.hexdigest()
