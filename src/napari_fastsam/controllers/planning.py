"""Plans large commits in a worker thread: watched, given up at once, begun anew when the labels change meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_fastsam._notify import describe, warn
from napari_fastsam.models.commits import CommitTask, Planned, plan_in_worker
from napari_fastsam.models.inference import Failed

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PlanRunner"]


class PlanRunner:
    """One commit at a time; a plan that was given up is dropped when it comes."""

    running_changed = Signal(bool)
    progress = Signal(str, float)
    """What is done, and the share that is ready, 0 to 1."""

    def __init__(self) -> None:
        self._task: CommitTask | None = None
        self._worker: Any = None

    @property
    def running(self) -> bool:
        """Whether a plan is awaited."""
        return self._task is not None

    def start(self, task: CommitTask, done: Callable[[Planned], None]) -> None:
        """Plan a commit, in place of one that is being planned; `done` gets it in the window's thread."""
        from napari.qt.threading import create_worker

        again, self._task = self._task, task
        if again is not None:
            again.stop.set()
        count = len(task.order.indices)
        worker = create_worker(
            plan_in_worker,
            task,
            _progress={"total": 0, "desc": f"FastSAM: commit of {count} candidates"},
            _start_thread=False,
            _ignore_errors=True,
        )
        self._worker = worker
        text = "Labels changed, planning again" if again is not None else f"Planning {count} labels"

        def on_step(step: float | Planned | Failed) -> None:
            if self._task is not task:
                return
            if isinstance(step, Failed):
                self.cancel()
                warn(describe(step.error))
            elif isinstance(step, Planned):
                done(step)
                if self._task is task:
                    self._end()
            else:
                self.progress.emit(text, step)

        worker.yielded.connect(on_step)
        self.progress.emit(text, 0.0)
        if again is None:
            self.running_changed.emit(True)
        worker.start()

    def cancel(self) -> None:
        """Give up at once; nothing is written."""
        if self._task is not None:
            self.abandon()
            self.running_changed.emit(False)

    def abandon(self) -> None:
        """Give up and tell nobody: the window is gone."""
        if self._task is not None:
            self._task.stop.set()
        self._task = self._worker = None

    def _end(self) -> None:
        self._task = self._worker = None
        self.running_changed.emit(False)
