"""An enrichment on a Ray cluster: one machine or many.

Ray starts the workers and carries their reports; who does which samples is decided by the leases in the database
(:mod:`fiftyone_fastsam.shards`). So workers may die, and workers without Ray may help.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final

from fastsam_core.errors import FastSAMError, InvalidParameterError, MissingDependencyError
from fiftyone_fastsam._fiftyone import import_fiftyone
from fiftyone_fastsam._target import open_target
from fiftyone_fastsam.errors import WorkersDiedError
from fiftyone_fastsam.options import EnrichOptions, check_shared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fastsam_core.model import FastSAM
    from fiftyone_fastsam.enrichment import EnrichStep

__all__ = ["iter_on_ray"]

_REPORT_S: Final = 0.5
_MOST_DEATHS: Final = 5


def iter_on_ray(
    view: Any,
    label_field: str,
    *,
    model: str | Path | Callable[[], FastSAM] = "builtin",
    workers: int | None = None,
    cpus: float = 1,
    gpus: float = 0,
    shard_size: int = 1000,
    lease_s: float = 60.0,
    **options: Any,
) -> Iterator[EnrichStep]:
    """Enrich a dataset with workers all over a Ray cluster.

    The cluster that ``ray.init`` was called for is used, else the one of ``RAY_ADDRESS``, else this machine. All nodes
    need this package, the database, and the samples' files under the same paths.

    Parameters
    ----------
    view, label_field, **options
        As for :func:`fiftyone_fastsam.enrich`; ``existing`` is "resume", "skip" or "append".
    model : str, path or callable
        A model's name or file, or what makes the model, called once in each worker.
    workers : int, optional
        Processes; as many as the cluster has room for by default.
    cpus, gpus : float
        What one worker occupies.
    shard_size, lease_s
        As for :func:`fiftyone_fastsam.iter_shared`.

    Yields
    ------
    EnrichStep
        From all workers, as they come.

    Raises
    ------
    MissingDependencyError
        If Ray is not installed.
    InvalidParameterError
        For numbers out of range, or ``existing="overwrite"``.
    WorkersDiedError
        If workers die again and again; what is finished is kept.
    """
    check_shared(EnrichOptions(**options), shard_size, lease_s)
    if (workers is not None and workers < 1) or cpus <= 0 or gpus < 0:
        raise InvalidParameterError(
            "There can be no such workers",
            expected="at least one worker, cpus above 0",
            actual=f"workers {workers}, cpus {cpus}, gpus {gpus}",
        )
    ray = _import_ray()
    target = open_target(view, label_field)
    fo = import_fiftyone()
    stages = target.view._serialize() if isinstance(target.view, fo.DatasetView) else []
    if not ray.is_initialized():
        ray.init(log_to_driver=False, configure_logging=False)
    count = workers or _room(ray, cpus, gpus)
    work = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(_work).options(num_returns="streaming")
    settings = {"model": model, "shard_size": shard_size, "lease_s": lease_s, **options}
    environment = {"FIFTYONE_DATABASE_URI": fo.config.database_uri, "FIFTYONE_DATABASE_NAME": fo.config.database_name}
    known = {name: value for name, value in environment.items() if value}

    def start() -> Any:
        return work.remote(known, target.dataset.name, stages, label_field, settings)

    return _reports(ray, start, count)


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError(
            "Ray is not installed", actual=str(error), remedy="pip install 'fastsam-plugins[distributed]'"
        ) from error
    return ray


def _room(ray: Any, cpus: float, gpus: float) -> int:
    """Return how many workers the cluster can hold."""
    resources = ray.cluster_resources()
    room = resources.get("CPU", 1) // cpus
    return max(int(min(room, resources.get("GPU", 0) // gpus) if gpus else room), 1)


def _work(
    environment: dict[str, str], dataset: str, stages: list[Any], label_field: str, settings: dict[str, Any]
) -> Iterator[list[EnrichStep]]:
    """Take part, in a process of the cluster; reports what is finished twice a second."""
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    fo = import_fiftyone()
    from fiftyone_fastsam.shards import iter_shared

    loaded = fo.load_dataset(dataset)
    view = fo.DatasetView._build(loaded, stages) if stages else loaded
    model = settings.pop("model")
    steps, reported = [], time.monotonic()
    for step in iter_shared(view, label_field, model=model() if callable(model) else model, **settings):
        steps.append(step)
        if time.monotonic() - reported >= _REPORT_S:
            yield steps
            steps, reported = [], time.monotonic()
    yield steps


def _reports(ray: Any, start: Callable[[], Any], count: int) -> Iterator[EnrichStep]:
    """Yield what the workers report; a worker that died is replaced, as its shard is free again after a while."""
    running = [start() for _ in range(count)]
    deaths = 0
    try:
        while running:
            [ready], _ = ray.wait(running, num_returns=1)
            try:
                yield from ray.get(next(ready))
            except StopIteration:
                running.remove(ready)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, FastSAMError):
                    raise error.cause from None
                raise
            except ray.exceptions.RayError as error:
                running.remove(ready)
                deaths += 1
                if deaths > _MOST_DEATHS:
                    raise WorkersDiedError(
                        "Workers die again and again",
                        actual=f"{deaths} deaths, the last: {str(error)[:200]}",
                        remedy="see Ray's logs; run the same again to go on",
                    ) from error
                running.append(start())
    finally:
        for worker in running:
            ray.cancel(worker, force=True)
