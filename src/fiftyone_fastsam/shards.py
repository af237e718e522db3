"""Many processes on many machines share one enrichment, with nothing but the database between them.

The samples that are left are divided into ranges of ids. A worker leases a range, renews the lease while it works, and
removes it when it is done; a range whose worker has died is leased by another one, which goes on where that one
stopped. Times are the server's, so the machines' clocks do not matter.
"""

from __future__ import annotations

import os
import socket
import threading
import uuid
from bisect import bisect_right
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from fastsam_core.model import FastSAM
from fiftyone_fastsam._lock import alone
from fiftyone_fastsam._provenance import record_start
from fiftyone_fastsam._retry import with_retries
from fiftyone_fastsam.enrichment import Enrichment, EnrichStep
from fiftyone_fastsam.options import EnrichOptions, check_shared, digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["SHARDS", "iter_shared"]

SHARDS: Final = "fastsam_shards"
"""MongoDB collection of the leases, in FiftyOne's own database."""

_MOST_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class Shard:
    """A leased range of samples: ids from ``low`` to ``high``, both included."""

    key: str
    low: Any
    high: Any


class ShardTable:
    """The leases of one enrichment.

    Parameters
    ----------
    collection : pymongo Collection
    run : str
        Stands for dataset, field, configuration and view.
    lease_s : float
        A lease that was not renewed for so long is free again.
    """

    def __init__(self, collection: Any, run: str, lease_s: float) -> None:
        self._collection = collection
        self._run = run
        self._lease_s = lease_s
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"

    def plan(self, ids: list[str], size: int) -> bool:
        """Divide those samples into shards that are in none yet: an earlier run may have left some.

        Several workers may do this at once; True is returned to the one that made the first shard.
        """
        from bson import ObjectId
        from pymongo import UpdateOne

        if not self.open_count():
            given_up = {"run": self._run, "attempts": {"$gte": _MOST_ATTEMPTS}}  # gets another chance
            self._collection.delete_many(given_up)
        held = sorted((str(shard["low"]), str(shard["high"])) for shard in self._collection.find({"run": self._run}))
        ranges = _ranges(sorted(ids), held, size)
        if not ranges:
            return False
        shards = [
            UpdateOne(
                {"_id": f"{self._run}:{low}"},
                {"$setOnInsert": {"run": self._run, "low": ObjectId(low), "high": ObjectId(high), "attempts": 0}},
                upsert=True,
            )
            for low, high in ranges
        ]
        made = self._collection.bulk_write(shards, ordered=False).upserted_ids
        return 0 in (made or {})

    def open_count(self) -> int:
        """Return how many shards are left, leased ones included."""
        return int(self._collection.count_documents({"run": self._run, "attempts": {"$lt": _MOST_ATTEMPTS}}))

    def lease(self) -> Shard | None:
        """Take a shard that nobody works on."""
        expired = {"$lt": ["$renewed_at", {"$subtract": ["$$NOW", round(self._lease_s * 1000)]}]}
        free = {"$or": [{"owner": {"$exists": False}}, {"$expr": expired}]}
        found = self._collection.find_one_and_update(
            {"run": self._run, "attempts": {"$lt": _MOST_ATTEMPTS}, **free},
            [{"$set": {"owner": self._owner, "renewed_at": "$$NOW", "attempts": {"$add": ["$attempts", 1]}}}],
            sort=[("low", 1)],
        )
        return None if found is None else Shard(found["_id"], found["low"], found["high"])

    def finish(self, shard: Shard) -> None:
        """Remove a shard that is done."""
        self._collection.delete_one({"_id": shard.key, "owner": self._owner})

    @contextmanager
    def renewed(self, shard: Shard) -> Iterator[threading.Event]:
        """Keep the lease while the block runs; the event tells that it was lost all the same."""
        lost, over = threading.Event(), threading.Event()
        mine = {"_id": shard.key, "owner": self._owner}

        def renew() -> None:
            while not over.wait(self._lease_s / 4):
                renewal = with_retries(self._collection.update_one, mine, [{"$set": {"renewed_at": "$$NOW"}}])
                if not renewal.matched_count:
                    lost.set()
                    return

        thread = threading.Thread(target=renew, name="fastsam-lease", daemon=True)
        thread.start()
        try:
            yield lost
        finally:
            over.set()
            thread.join()


def _ranges(ids: list[str], held: list[tuple[str, str]], size: int) -> list[tuple[str, str]]:
    """Return the first and last of at most ``size`` ids each, between the ranges that are held; all in order."""
    lows = [low for low, _ in held]
    gaps: dict[int, list[str]] = {}
    for id_ in ids:
        gap = bisect_right(lows, id_)
        if not gap or id_ > held[gap - 1][1]:
            gaps.setdefault(gap, []).append(id_)
    parts = [gap[i : i + size] for gap in gaps.values() for i in range(0, len(gap), size)]
    return [(part[0], part[-1]) for part in parts]


def _run_name(whole: Enrichment) -> str:
    """Return what stands for dataset, field, configuration and view; workers with another view share nothing."""
    target = whole.target
    stages = target.view._serialize(include_uuids=False) if hasattr(target.view, "_stages") else []
    view = f":{digest_of({'view': stages})}" if stages else ""
    return f"{target.dataset._doc.id}:{target.path}:{whole.digest}{view}"


def iter_shared(
    view: Any,
    label_field: str,
    *,
    model: FastSAM | str | Path = "builtin",
    shard_size: int = 1000,
    lease_s: float = 60.0,
    **options: Any,
) -> Iterator[EnrichStep]:
    """Take part in an enrichment: call this in as many processes and on as many machines as there are.

    All of them need the same arguments, the same database, and the samples' files under the same paths. Workers may
    come and go at any time.

    Parameters
    ----------
    view, label_field, model, **options
        As for :func:`fiftyone_fastsam.enrich`; ``existing`` is "resume", "skip" or "append".
    shard_size : int
        Samples that are leased at once.
    lease_s : float
        After so many seconds without a sign a worker is taken for dead.

    Yields
    ------
    EnrichStep
        What this worker has finished.

    Raises
    ------
    InvalidParameterError
        For ``existing="overwrite"``, which cannot tell what others have done already, and numbers out of range.
    """
    checked = EnrichOptions(**options)
    check_shared(checked, shard_size, lease_s)
    network = model if isinstance(model, FastSAM) else FastSAM.load(model)
    return _work(Enrichment(view, label_field, checked, network), shard_size, lease_s)


def _work(whole: Enrichment, shard_size: int, lease_s: float) -> Iterator[EnrichStep]:
    target = whole.target
    collection = target.samples.database[SHARDS]
    table = ShardTable(collection, _run_name(whole), lease_s)
    if with_retries(table.plan, whole.ids, shard_size):
        with alone(target):
            with_retries(record_start, target, whole.described, whole.digest)
    waiting = threading.Event()
    done = 0
    while True:
        shard = with_retries(table.lease)
        if shard is None:
            if not with_retries(table.open_count):
                return
            waiting.wait(lease_s / 4)  # others work on what is left; one of them may die
            continue
        with table.renewed(shard) as lost:
            part = target.view.match({"_id": {"$gte": shard.low, "$lte": shard.high}})
            for step in whole.part(part):
                done += 1
                yield replace(step, done=done, total=None)
                if lost.is_set():
                    break
            else:
                with_retries(table.finish, shard)
