"""Results on their way into the database: prepared and written by one thread, while the next image is segmented."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from fastsam_core.errors import FastSAMError
from fiftyone_fastsam._retry import with_retries
from fiftyone_fastsam._writers import Result
from fiftyone_fastsam.errors import DocumentTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fiftyone_fastsam._writers import Writer

__all__ = ["WriteQueue", "reason_of"]

_BATCH_ITEMS: Final = 64
_BATCH_BYTES: Final = 8 * 2**20
_BATCH_SECONDS: Final = 1.0
_MOST_WAITING: Final = 16


class WriteQueue:
    """Collects results into batches and writes them.

    Parameters
    ----------
    writer : Writer
    skip_failures : bool
        Whether a document that has grown too large since it was looked up costs its own result only.
    """

    def __init__(self, writer: Writer, *, skip_failures: bool = True) -> None:
        self._writer = writer
        self._skip_failures = skip_failures
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fastsam-write")
        self._waiting: deque[Future[list[Result]]] = deque()
        self._batch: list[Result] = []
        self._batch_bytes = 0
        self._written_at = time.monotonic()
        self._broken = False

    def put(self, make: Callable[[], Result]) -> None:
        """Take on one result; ``make`` is called by the writing thread."""
        self._waiting.append(self._thread.submit(self._accept, make))

    def finished(self, *, all_of_them: bool = False) -> Iterator[Result]:
        """Yield the results that were written since the last call, waiting only when too many pile up.

        Parameters
        ----------
        all_of_them : bool
            Write and wait for everything that was put.

        Raises
        ------
        FastSAMError
            What went wrong while a result was made or written.
        """
        if all_of_them:
            self._waiting.append(self._thread.submit(self._write))
        while self._waiting and (all_of_them or self._waiting[0].done() or len(self._waiting) > _MOST_WAITING):
            yield from self._waiting.popleft().result()

    def close(self) -> None:
        """Write what is still there if that is possible, and stop the thread."""
        if not self._broken:
            self._thread.submit(self._write)
        self._thread.shutdown(wait=True)

    def _accept(self, make: Callable[[], Result]) -> list[Result]:
        if self._broken:
            return []
        try:
            result = make()
        except FastSAMError:
            self._broken = True  # what is in the batch is still written by close()
            self._write()
            raise
        self._batch.append(result)
        self._batch_bytes += result.size_bytes
        full = len(self._batch) >= _BATCH_ITEMS or self._batch_bytes >= _BATCH_BYTES
        if full or time.monotonic() - self._written_at >= _BATCH_SECONDS:
            return self._write()
        return []

    def _write(self) -> list[Result]:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        if not batch:
            return []
        try:
            written = self._written(batch)
        except FastSAMError:
            self._broken = True
            raise
        self._written_at = time.monotonic()
        return written

    def _written(self, batch: list[Result]) -> list[Result]:
        """Write results, and return what became of them."""
        there = [result for result in batch if not result.gone]
        try:
            gone = with_retries(self._writer.write, there) if there else set()
        except DocumentTooLargeError as error:
            if len(batch) > 1:
                return [written for result in batch for written in self._written([result])]
            if not self._skip_failures:
                raise
            [result] = batch
            if result.reason is not None:  # there is no room for that, either
                return batch
            return self._written([Result(result.item, reason=reason_of(error))])
        return [replace(result, gone=True) if result.item.sample_id in gone else result for result in batch]


def reason_of(error: FastSAMError) -> str:
    """Return what goes into the reason field: the kind of error and its message."""
    return f"{type(error).__name__}: {error}"
