"""`iter_segment`: many images, one step at a time, with reading done ahead.

One generator serves every face of the software: each step is a progress tick and a place to cancel.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Literal

from fastsam_core._checks import as_iterator, described
from fastsam_core._defaults import MAX_DET, OVERLAP_PX
from fastsam_core.decode import decode
from fastsam_core.errors import FastSAMError, ImageReadError, InvalidParameterError, TooMuchMemoryError
from fastsam_core.geometry import letterbox
from fastsam_core.images import Image, read_image
from fastsam_core.model import FastSAM, OnTile, RankBy, Settings, tiles_of, windows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from fastsam_core.geometry import Letterbox
    from fastsam_core.masks import Masks
    from fastsam_core.network import Prediction

__all__ = ["Step", "check_model", "iter_segment"]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One image of a run: its masks, or why there are none.

    Parameters
    ----------
    index : int
        Position in the sources, from 0.
    source : object
        The source itself.
    masks : Masks or None
        None if there was an error.
    error : FastSAMError or None
        What went wrong with this image.
    image : Image or None
        The image that was read; None if it could not be read.
    seconds : float
        Time spent on this image: reading, forward pass and masks, without waiting.
    """

    index: int
    source: object
    masks: Masks | None
    error: FastSAMError | None
    image: Image | None
    seconds: float


@dataclass(slots=True)
class _Job:
    """An image on its way through the stages."""

    index: int
    source: object
    seconds: float = 0.0
    image: Image | None = None
    network_input: tuple[npt.NDArray[np.uint8], Letterbox] | None = None
    prediction: Prediction | None = None
    masks: Masks | None = None
    error: FastSAMError | None = None

    def step(self) -> Step:
        return Step(self.index, self.source, self.masks, self.error, self.image, self.seconds)


def iter_segment(
    sources: Iterable[object],
    model: FastSAM,
    *,
    prefetch: int = 2,
    batch_size: int = 1,
    reader: Callable[[object], Image] = read_image,
    conf: float | Literal["auto"] | None = None,
    iou: float | None = None,
    max_det: int = MAX_DET,
    imgsz: int | Sequence[int] | Literal["auto"] | None = None,
    snap_px: float = 0,
    stability: bool = False,
    rank_by: RankBy = "score",
    tile_px: int | None = None,
    overlap_px: int = OVERLAP_PX,
    on_tile: OnTile | None = None,
) -> Generator[Step, None, None]:
    """Segment many images, giving one step for each, in order.

    Images are read and letterboxed by threads, at most ``prefetch`` ahead; one forward pass runs at a time. With a
    GPU the masks of an image are decoded while the next one is in the network. A file that cannot be read gives a step
    with an error and stops nothing. What the sources themselves raise comes after the steps of all before.

    Parameters
    ----------
    sources : iterable
        Anything `fastsam_core.read_image` takes; it is not read further ahead than needed.
    model : FastSAM
        The model.
    prefetch : int
        Images to read ahead; 0 reads each when it is its turn.
    batch_size : int
        Consecutive images of equal network size to put through the network together; more than 1 pays on GPUs.
    reader : callable
        Reads a source; a partial of ``read_image`` to choose channels or contrast.
    conf, iou, max_det, imgsz, snap_px, stability, rank_by, tile_px, overlap_px
        As in `FastSAM.segment`.
    on_tile : callable, optional
        Called before each tile of an image in tiles, with its number, from 1, and how many there are.

    Yields
    ------
    Step
        In the order of the sources.

    Raises
    ------
    InvalidParameterError
        If a setting is out of range, the model is none or the sources are one path; raised by the call itself, not at
        the first step.
    """
    check_model(model)
    settings = model.settings(
        conf=conf,
        iou=iou,
        max_det=max_det,
        imgsz=imgsz,
        snap_px=snap_px,
        stability=stability,
        rank_by=rank_by,
        tile_px=tile_px,
        overlap_px=overlap_px,
    )
    if not isinstance(prefetch, Integral) or not isinstance(batch_size, Integral) or prefetch < 0 or batch_size < 1:
        raise InvalidParameterError(
            "prefetch or batch_size is out of range",
            expected="whole numbers, prefetch of at least 0 and batch_size of at least 1",
            actual=f"prefetch {prefetch!r}, batch_size {batch_size!r}",
        )
    overlap_decoding = not model.device.startswith("cpu")
    return _steps(
        as_iterator(sources),
        model,
        settings,
        max(prefetch, batch_size - 1),
        batch_size,
        reader,
        overlap_decoding,
        on_tile,
    )


def check_model(model: object) -> None:
    """Refuse what is no model, such as the name of one.

    Raises
    ------
    InvalidParameterError
        It is none.
    """
    if not callable(getattr(model, "settings", None)):
        raise InvalidParameterError(
            "This is no model",
            expected="a FastSAM",
            actual=described(model),
            remedy="load one: FastSAM.load(NAME)",
        )


def _steps(
    sources: Iterator[object],
    model: FastSAM,
    settings: Settings,
    ahead: int,
    batch_size: int,
    reader: Callable[[object], Image],
    overlap_decoding: bool,
    on_tile: OnTile | None,
) -> Generator[Step, None, None]:
    readers = ThreadPoolExecutor(max_workers=max(min(ahead, 2), 1), thread_name_prefix="fastsam-read")
    decoder = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fastsam-decode")
    waiting: deque[Future[_Job]] = deque()
    decoding: deque[Future[_Job]] = deque()
    numbered = enumerate(sources)
    failure: Exception | None = None
    try:
        while True:
            while len(waiting) <= ahead and failure is None:
                try:
                    following = next(numbered, None)
                except Exception as error:  # noqa: BLE001 (raised below, when all that came before is done)
                    failure = error
                    break
                if following is None:
                    break
                waiting.append(readers.submit(_prepare, _Job(*following), model, settings, reader))
            if not waiting:
                break
            jobs = [waiting.popleft().result() for _ in range(min(batch_size, len(waiting)))]
            _forward(jobs, model, settings, on_tile)
            if overlap_decoding:
                # what was given to the decoder before this forward pass is done or nearly so
                for _ in range(len(decoding)):
                    yield decoding.popleft().result().step()
                decoding.extend(decoder.submit(_decode, job, model, settings) for job in jobs)
            else:
                for job in jobs:
                    yield _decode(job, model, settings).step()
        while decoding:
            yield decoding.popleft().result().step()
        if failure is not None:
            raise failure
    finally:
        for future in (*waiting, *decoding):
            future.cancel()
        readers.shutdown(wait=True, cancel_futures=True)
        decoder.shutdown(wait=True, cancel_futures=True)


def _prepare(job: _Job, model: FastSAM, settings: Settings, reader: Callable[[object], Image]) -> _Job:
    start = time.perf_counter()
    try:
        job.image = reader(job.source)
        if _is_simple(job.image, settings):
            job.network_input = letterbox(job.image.rgb8, settings.imgsz[0], model.info.stride)
    except FastSAMError as error:
        job.error = error
    except Exception as error:  # noqa: BLE001 (file decoders raise anything; one bad file must not stop the rest)
        job.error = ImageReadError(
            "The image cannot be read", actual=f"{type(error).__name__}: {error}", remedy="check the file"
        )
        job.error.__cause__ = error
    job.seconds += time.perf_counter() - start
    return job


def _is_simple(image: Image, settings: Settings) -> bool:
    """Tell whether one forward pass is enough: one test size, and no tiles or windows."""
    return (
        not settings.adaptive
        and len(settings.imgsz) == 1
        and len(tiles_of(image.image_hw, settings)) == 1
        and len(windows_of(image.image_hw, settings.imgsz[0])) == 1
    )


def _forward(jobs: Sequence[_Job], model: FastSAM, settings: Settings, on_tile: OnTile | None) -> None:
    start = time.perf_counter()
    simple = [job for job in jobs if job.network_input is not None]
    with _errors_recorded(simple):
        inputs = [job.network_input for job in simple if job.network_input is not None]
        for job, prediction in zip(simple, model.predict_prepared(inputs, settings.roomy), strict=True):
            job.prediction, job.network_input = prediction, None
    for job in jobs:
        if job.image is not None and job.prediction is None and job.error is None:
            with _errors_recorded([job]):
                job.masks = model.segment_with(job.image, settings, on_tile)
    share = (time.perf_counter() - start) / len(jobs)
    for job in jobs:
        job.seconds += share


def _decode(job: _Job, model: FastSAM, settings: Settings) -> _Job:
    start = time.perf_counter()
    if job.prediction is not None and job.image is not None:
        with _errors_recorded([job]):
            masks = decode(job.prediction, snap_px=settings.snap_px, stability=settings.stability)
            job.masks = model.finish(masks, job.image, settings)
            job.prediction = None
    job.seconds += time.perf_counter() - start
    return job


@contextmanager
def _errors_recorded(jobs: Sequence[_Job]) -> Iterator[None]:
    """Put errors of this project, and lack of memory, into the jobs instead of raising them."""
    try:
        yield
        return
    except FastSAMError as error:
        known = error
    except (MemoryError, RuntimeError) as error:
        # torch.OutOfMemoryError is a RuntimeError
        if not isinstance(error, MemoryError) and type(error).__name__ != "OutOfMemoryError":
            raise
        known = TooMuchMemoryError(
            "There is not enough memory for this image",
            actual=str(error)[:200],
            remedy="use a smaller imgsz or batch_size, or another device",
        )
        known.__cause__ = error
    for job in jobs:
        job.error, job.network_input = known, None
