"""Many processes on many machines share one enrichment, with nothing but the database between them.

The samples that are left are divided into ranges of ids. A worker leases a range, renews the lease while it works, and
says when it is done; a range whose worker has died is leased by another one, which goes on where that one stopped. The
ranges also hold what was done in them: whoever finds that nothing is left sums it up, as one run would have told it,
and removes them. Times are the server's, so the machines' clocks do not matter.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from bisect import bisect_right
from collections import Counter
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from fastsam_core.errors import FastSAMError
from fastsam_core.model import FastSAM
from fiftyone_fastsam._lock import alone
from fiftyone_fastsam._provenance import record_results, record_start, results_of, run_key
from fiftyone_fastsam._retry import with_retries
from fiftyone_fastsam._writers import refresh_changed
from fiftyone_fastsam.enrichment import Enrichment, EnrichStep
from fiftyone_fastsam.options import EnrichOptions, check_shared, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

__all__ = ["SHARDS", "iter_shared"]

SHARDS: Final = "fastsam_shards"
"""MongoDB collection of the leases, in FiftyOne's own database."""

_MOST_ATTEMPTS: Final = 5
_COUNTED: Final = ("done", "failed", "gone", "masks")
_TELL_S: Final = 1.0


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

    def plan(self, ids: list[str], size: int, skipped: int) -> None:
        """Divide those samples into shards that are in none yet: an earlier run may have left some.

        Several workers may do this at once. What a run has left whose workers are all gone counts no more.

        Parameters
        ----------
        ids : list of str
            Samples that are left to do.
        size : int
            Most samples of a shard.
        skipped : int
            How many others need nothing; it counts for the first plan of all.
        """
        from bson import ObjectId
        from pymongo import UpdateOne

        if not self.in_use():
            self._collection.delete_many({"run": self._run, "$expr": self._expired})  # not what others plan just now
        elif not self.open_count():
            given_up = {**self._unfinished, "attempts": {"$gte": _MOST_ATTEMPTS}}  # gets another chance
            self._collection.delete_many(given_up)
        held = sorted((str(shard["low"]), str(shard["high"])) for shard in self._collection.find({"run": self._run}))
        ranges = _ranges(sorted(ids), held, size)
        shards: list[UpdateOne] = []
        for low, high, count in ranges:
            needless = 0 if held or shards else skipped
            first = {"run": self._run, "low": ObjectId(low), "high": ObjectId(high), "samples": count}
            first |= {"skipped": needless, "planned_at": "$$NOW", "renewed_at": "$$NOW"}
            first |= dict.fromkeys(("attempts", *_COUNTED), 0)
            change = {name: {"$ifNull": [f"${name}", value]} for name, value in first.items()}
            shards.append(UpdateOne({"_id": f"{self._run}:{low}"}, [{"$set": change}], upsert=True))
        if shards:
            self._collection.bulk_write(shards, ordered=False)

    @property
    def _unfinished(self) -> dict[str, Any]:
        return {"run": self._run, "finished": {"$exists": False}}

    @property
    def _expired(self) -> dict[str, Any]:
        return {"$lt": ["$renewed_at", {"$subtract": ["$$NOW", round(self._lease_s * 1000)]}]}

    def in_use(self) -> bool:
        """Tell whether there is a shard whose worker has given a sign of late."""
        return self._collection.find_one({"run": self._run, "$expr": {"$not": self._expired}}) is not None

    def open_count(self) -> int:
        """Return how many shards are left, leased ones included."""
        tried = [{"attempts": {"$lt": _MOST_ATTEMPTS}}, {"owner": {"$exists": True}, "$expr": {"$not": self._expired}}]
        return int(self._collection.count_documents({**self._unfinished, "$or": tried}))

    def lease(self) -> Shard | None:
        """Take a shard that nobody works on."""
        free = {"$or": [{"owner": {"$exists": False}}, {"$expr": self._expired}]}
        found = self._collection.find_one_and_update(
            {**self._unfinished, "attempts": {"$lt": _MOST_ATTEMPTS}, **free},
            [{"$set": {"owner": self._owner, "renewed_at": "$$NOW", "attempts": {"$add": ["$attempts", 1]}}}],
            sort=[("low", 1)],
        )
        return None if found is None else Shard(found["_id"], found["low"], found["high"])

    def release(self, shard: Shard) -> None:
        """Give a shard back that is not done; this was no attempt that failed."""
        change = [{"$set": {"attempts": {"$subtract": ["$attempts", 1]}}}, {"$unset": "owner"}]
        with_retries(self._collection.update_one, {"_id": shard.key, "owner": self._owner}, change)

    def finish(self, shard: Shard, there: int, idle: int | None = None) -> None:
        """Say that a shard is done.

        Parameters
        ----------
        shard : Shard
        there : int
            How many samples of the dataset are in its range; if they are fewer than were planned, some were deleted.
        idle : int, optional
            How many of its samples needed nothing; those that are not counted by default.
        """
        missing: Any = {"$subtract": ["$samples", there]}
        if idle is None:
            missing = {"$min": [missing, {"$subtract": ["$samples", {"$add": ["$done", "$failed"]}]}]}
        counted = {"$add": ["$done", "$failed", "$gone"]}
        left: Any = {"$max": [0, {"$subtract": ["$samples", counted]}]} if idle is None else idle
        change = [
            {"$set": {"finished": True, "renewed_at": "$$NOW", "gone": {"$max": ["$gone", missing]}}},
            {"$set": {"skipped": {"$add": ["$skipped", left]}}},
            {"$unset": "owner"},
        ]
        self._collection.update_one({"_id": shard.key, "owner": self._owner}, change)

    @contextmanager
    def counting(self, shard: Shard) -> Iterator[Callable[[Mapping[str, int]], None]]:
        """Give what adds to a shard's counts: in the database about once a second, and at the end.

        So a worker that dies takes little with it; those samples then count as such that needed nothing.
        """
        counts, told = Counter[str](), time.monotonic()

        def tell() -> None:
            if counts:
                with_retries(self._collection.update_one, {"_id": shard.key}, {"$inc": dict(counts)})
            counts.clear()

        def count(more: Mapping[str, int]) -> None:
            nonlocal told
            counts.update(more)
            if time.monotonic() - told >= _TELL_S:
                tell()
                told = time.monotonic()

        try:
            yield count
        except FastSAMError:  # perhaps the database is gone
            raise
        except BaseException:
            tell()
            raise
        tell()

    def outcome(self) -> tuple[dict[str, Any], list[str]] | None:
        """Return the counts of the whole, as one run tells them, and the keys of the shards; None if some are open.

        Samples of shards that are tried no more count as failed.
        """
        if self.open_count():
            return None
        shards = list(self._collection.aggregate([{"$match": {"run": self._run}}, {"$set": {"now": "$$NOW"}}]))
        if not shards:
            return None
        totals = Counter(dict.fromkeys((*_COUNTED, "skipped"), 0))
        for shard in shards:
            counted = {name: shard.get(name) or 0 for name in (*_COUNTED, "skipped", "samples")}
            left = counted.pop("samples") - sum(counted[name] for name in ("done", "failed", "gone"))
            totals.update(counted)
            if "finished" not in shard:
                totals["failed"] += max(left, 0)
        seconds = (shards[0]["now"] - min(shard.get("planned_at", shard["now"]) for shard in shards)).total_seconds()
        return {**totals, "seconds": round(seconds, 1)}, [shard["_id"] for shard in shards]

    def remove(self, keys: list[str]) -> None:
        """Remove shards that were summed up."""
        self._collection.delete_many({"_id": {"$in": keys}})

    @contextmanager
    def renewed(self, shard: Shard) -> Iterator[threading.Event]:
        """Keep the lease while the block runs; the event tells that it was lost all the same.

        A block that is left because the user stops the worker gives the lease back at once.
        """
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
        except (GeneratorExit, KeyboardInterrupt, SystemExit):
            self.release(shard)
            raise
        finally:
            over.set()
            thread.join()


def _ranges(ids: list[str], held: list[tuple[str, str]], size: int) -> list[tuple[str, str, int]]:
    """Return the first and last of at most ``size`` ids each, and how many, between the ranges that are held."""
    lows = [low for low, _ in held]
    gaps: dict[int, list[str]] = {}
    for id_ in ids:
        gap = bisect_right(lows, id_)
        if not gap or id_ > held[gap - 1][1]:
            gaps.setdefault(gap, []).append(id_)
    parts = [gap[i : i + size] for gap in gaps.values() for i in range(0, len(gap), size)]
    return [(part[0], part[-1], len(part)) for part in parts]


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
    come and go at any time. The last one writes down what all have done, as :func:`fiftyone_fastsam.enrich` does.

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
    if not whole.ids:
        yield from whole  # it yields nothing, but sees to it that the field is described
    with_retries(table.plan, whole.ids, shard_size, whole.skipped)
    waiting = threading.Event()
    done = 0
    while True:
        shard = with_retries(table.lease)
        if shard is None:
            if not with_retries(table.open_count):
                _record(whole, table)
                return
            waiting.wait(lease_s / 4)  # others work on what is left; one of them may die
            continue
        with table.renewed(shard) as lost:
            of_shard = {"_id": {"$gte": shard.low, "$lte": shard.high}}
            part = whole.part(target.view.match(of_shard))
            if part.ids and not done:  # a plan made of a list that is old by now may hold nothing to do
                with alone(target):
                    with_retries(record_start, target, whole.described, whole.digest)
            with table.counting(shard) as count, closing(iter(part)) as steps:
                for step in steps:
                    done += 1
                    count(step.counted)
                    yield replace(step, done=done, total=None)
                    if lost.is_set():
                        break
            if not lost.is_set():
                there = with_retries(target.samples.count_documents, of_shard)
                with_retries(table.finish, shard, there, part.skipped if target.is_video else None)


def _record(whole: Enrichment, table: ShardTable) -> None:
    """Write down what all workers together have done, unless another one has."""
    target = whole.target
    with alone(target):
        outcome = with_retries(table.outcome)
        if outcome is None:
            return
        counts, keys = outcome
        if not target.dataset.has_run(run_key(target)):
            with_retries(record_start, target, whole.described, whole.digest)
        busy = any(counts[name] for name in ("done", "failed", "gone"))
        if busy or with_retries(results_of, target.view, target.label_field) is None:
            with_retries(record_results, target, counts)
        with_retries(table.remove, keys)
    with_retries(refresh_changed, target)
