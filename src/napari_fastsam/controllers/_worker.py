"""A worker that leaves nothing of its work open."""

from __future__ import annotations

from typing import Any

from napari.qt.threading import GeneratorWorker

__all__ = ["ClosingWorker"]


class ClosingWorker(GeneratorWorker):  # type: ignore[misc] # napari leaves its types open
    """Closes its generator, in its own thread, also when napari tells it to quit: when a window is closed."""

    def work(self) -> Any:
        """Run the generator to its end, or to where it is told to quit."""
        try:
            return super().work()
        finally:
            self._gen.close()
