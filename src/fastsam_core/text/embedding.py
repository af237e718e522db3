"""Encode the masks of an image, a batch at a time, leaving out those that a store knows already."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fastsam_core._checks import as_integer, described
from fastsam_core._generators import outcome
from fastsam_core.errors import ImageContentError, InvalidParameterError
from fastsam_core.masks import check_masks
from fastsam_core.text import _upstream
from fastsam_core.text.crops import CropOptions, cut_out
from fastsam_core.text.encoder import check_encoder
from fastsam_core.text.store import EmbeddingStore, mask_digests, page_key
from fastsam_core.text.store import image_digest as digest_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    from fastsam_core.masks import Masks
    from fastsam_core.text.crops import Pixels
    from fastsam_core.text.encoder import TextEncoder

__all__ = ["DEFAULT_OPTIONS", "embed_masks", "iter_embed_masks"]

DEFAULT_OPTIONS: Final = CropOptions()
#: Threads that cut masks out; OpenCV and PIL let go of Python's lock.
_WORKERS: Final = min(4, os.cpu_count() or 1)


def embed_masks(
    encoder: TextEncoder,
    image_rgb8: Pixels,
    masks: Masks,
    options: CropOptions = DEFAULT_OPTIONS,
    *,
    store: EmbeddingStore | None = None,
    batch_size: int = 32,
    image_digest: str | None = None,
) -> NDArray[np.float32]:
    """Encode every mask of an image; parameters and errors as `iter_embed_masks`.

    Returns
    -------
    ndarray of float32, shape (N, D)
        Rows of unit length, in the order of the masks; zeros for masks without a pixel.
    """
    steps = iter_embed_masks(
        encoder, image_rgb8, masks, options, store=store, batch_size=batch_size, image_digest=image_digest
    )
    return outcome(steps)


def iter_embed_masks(
    encoder: TextEncoder,
    image_rgb8: Pixels,
    masks: Masks,
    options: CropOptions = DEFAULT_OPTIONS,
    *,
    store: EmbeddingStore | None = None,
    batch_size: int = 32,
    image_digest: str | None = None,
) -> Generator[tuple[int, int], None, NDArray[np.float32]]:
    """Encode every mask of an image step by step.

    Memory is bounded by the batch: beside the result, one batch of crops exists at a time, or two with an encoder on a
    GPU, for the next batch is cut out while the encoder works on this one. What has been encoded is stored even when
    the caller stops early.

    Parameters
    ----------
    encoder : TextEncoder
        Turns pictures into vectors.
    image_rgb8 : ndarray of uint8, shape (H, W, 3), or what is read like one
        The image; of one that is too large for memory, `LargePlane.rgb8`, only what is around each mask is read, and
        with a store once all of it, for its digest.
    masks : Masks
        N masks of that image.
    options : CropOptions
        How they are cut out.
    store : EmbeddingStore, optional
        Remembers what has been encoded, whatever subset of masks is asked for next.
    batch_size : int
        Masks encoded at a time, at least 1.
    image_digest : str, optional
        `EmbeddingStore.image_digest` of the image, if it is known; saves hashing the image again.

    Yields
    ------
    (int, int)
        Masks done and N, after each batch: a tick of progress and a place to stop.

    Returns
    -------
    ndarray of float32, shape (N, D)
        See `embed_masks`.

    Raises
    ------
    ImageContentError
        If the image is not uint8 RGB or not of the masks' size.
    InvalidMasksError
        If the masks are none.
    InvalidParameterError
        If ``batch_size`` is below 1, or encoder, options or store are none.
    """
    check_encoder(encoder)
    check_masks(masks, "encode")
    _check_image(image_rgb8, masks.image_hw)
    as_integer("batch_size", batch_size, 1)
    if not isinstance(options, CropOptions):
        raise InvalidParameterError("These are no options of crops", expected="CropOptions", actual=repr(options))
    if store is not None and not isinstance(store, EmbeddingStore):
        raise InvalidParameterError(
            "This is no store", expected="an EmbeddingStore", actual=repr(store), remedy="EmbeddingStore(folder=PATH)"
        )
    if store is None:
        embeddings = np.zeros((len(masks), encoder.width), np.float32)
        known = np.zeros(len(masks), bool)
    else:
        key = page_key(image_digest or digest_of(image_rgb8), encoder.encoder_id, options)
        digests = mask_digests(masks, with_boxes=options.background in _upstream.BACKGROUNDS)
        embeddings, known = store.look_up(key, digests, encoder.width)
    wanted = np.flatnonzero(~known & (masks.areas_px > 0))
    batches = [wanted[start : start + batch_size] for start in range(0, len(wanted), batch_size)]
    prepare = _Preparation(encoder, image_rgb8, masks, options)
    finished = 0
    try:
        with ThreadPoolExecutor(_WORKERS, thread_name_prefix="fastsam-crops") as workers:
            # an encoder on a CPU takes all cores, so that crops cut out meanwhile would only be in its way
            ahead = 0 if encoder.device == "cpu" else 1
            following = iter(batches)
            coming = deque(_submit(workers, prepare, batch) for batch in islice(following, ahead))
            for batch in batches:
                coming.extend(_submit(workers, prepare, later) for later in islice(following, 1))
                embeddings[batch] = prepare.encode([crop.result() for crop in coming.popleft()])
                finished += len(batch)
                yield len(masks) - len(wanted) + finished, len(masks)
    finally:
        if store is not None and finished:
            done = wanted[:finished]
            store.add(key, [digests[index] for index in done], embeddings[done])
    return embeddings


class _Preparation:
    """Makes the encoder's input from the number of a mask, and runs it."""

    def __init__(self, encoder: TextEncoder, image_rgb8: Pixels, masks: Masks, options: CropOptions) -> None:
        self._encoder, self._image, self._masks, self._options = encoder, image_rgb8, masks, options
        self._transform = encoder.preprocess() if options.background in _upstream.BACKGROUNDS else None

    def __call__(self, index: int) -> Any:
        if self._transform is None:
            return cut_out(self._image, self._masks, index, self._encoder.size_px, self._options)
        return self._transform(_upstream.picture(self._image, self._masks, index, self._options.background))

    def encode(self, pictures: list[Any]) -> NDArray[np.float32]:
        if self._transform is None:
            return self._encoder.embed_pictures(np.stack(pictures))
        import torch

        return self._encoder.embed_pixels(torch.stack(pictures))


def _submit(workers: ThreadPoolExecutor, prepare: _Preparation, batch: NDArray[np.int64]) -> list[Future[Any]]:
    return [workers.submit(prepare, index) for index in batch.tolist()]


def _check_image(image_rgb8: object, image_hw: tuple[int, int]) -> None:
    expected = (*image_hw, 3)
    if getattr(image_rgb8, "shape", None) != expected or getattr(image_rgb8, "dtype", None) != np.uint8:
        raise ImageContentError(
            "The image does not fit the masks",
            expected=f"uint8 of shape {expected}",
            actual=described(image_rgb8),
            remedy="give the image that was segmented, as Image.rgb8",
        )
