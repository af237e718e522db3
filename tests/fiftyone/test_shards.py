"""Workers that share an enrichment through the database alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import pytest

from fastsam_core.errors import InvalidParameterError
from fiftyone_fastsam import iter_shared
from fiftyone_fastsam.shards import SHARDS, ShardTable, _ranges

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fastsam_core.model import FastSAM


def leases(dataset: Any) -> Any:
    return dataset._sample_collection.database[SHARDS]


def test_two_workers_do_every_sample_once(
    make_dataset: Callable[..., Any], image_paths: list[Path], model: FastSAM
) -> None:
    dataset = make_dataset(paths=image_paths * 2)
    workers = [iter_shared(dataset, "masks", model=model, shard_size=2, lease_s=2) for _ in range(2)]
    with ThreadPoolExecutor(2) as threads:
        shares = [[step.sample_id for step in worker.result()] for worker in [threads.submit(list, w) for w in workers]]
    assert sorted(shares[0] + shares[1]) == sorted(dataset.values("id"))
    assert leases(dataset).count_documents({}) == 0
    assert dataset.has_run("fastsam_masks")
    assert list(iter_shared(dataset, "masks", model=model)) == []


def test_a_dead_workers_shard_is_taken_over(dataset: Any, model: FastSAM) -> None:
    dead = iter_shared(dataset, "masks", model=model, shard_size=3, prefetch=0)
    next(dead)
    dead.close()  # type: ignore[attr-defined]
    assert [lease["attempts"] for lease in leases(dataset).find()] == [1]
    leases(dataset).update_one({}, {"$set": {"renewed_at": datetime.now(UTC) - timedelta(hours=1)}})
    left = [step.sample_id for step in iter_shared(dataset, "masks", model=model)]
    assert len(left) < 3
    assert len(dataset.exists("masks")) == 3
    assert leases(dataset).count_documents({}) == 0


def abandoned(steps: Any) -> None:
    """Do one step, then leave the rest to others."""
    next(steps)
    steps.close()


def test_workers_with_another_view_share_nothing(
    make_dataset: Callable[..., Any], image_paths: list[Path], model: FastSAM
) -> None:
    dataset = make_dataset(paths=image_paths)
    abandoned(iter_shared(dataset[:3], "masks", model=model, shard_size=1, prefetch=0))
    assert len(list(iter_shared(dataset[3:], "masks", model=model))) == 3
    leases(dataset).update_many({}, {"$unset": {"owner": ""}})
    assert len(list(iter_shared(dataset[:3], "masks", model=model))) == 2
    assert len(dataset.exists("masks")) == 6
    assert leases(dataset).count_documents({}) == 0


def test_samples_that_came_after_a_dead_workers_plan_are_done(
    make_dataset: Callable[..., Any], image_paths: list[Path], model: FastSAM
) -> None:
    dataset = make_dataset(2)
    abandoned(iter_shared(dataset, "masks", model=model, shard_size=1, prefetch=0))
    dataset.add_samples([fo.Sample(filepath=str(path)) for path in image_paths[2:]], progress=False)
    leases(dataset).update_many({}, {"$unset": {"owner": ""}})
    list(iter_shared(dataset, "masks", model=model, shard_size=3))
    assert len(dataset.exists("masks")) == 6
    assert leases(dataset).count_documents({}) == 0


def test_a_plan_fills_the_gaps_between_shards() -> None:
    held = [("b", "c"), ("f", "f")]
    assert _ranges(list("abcdefgh"), held, 2) == [("a", "a"), ("d", "e"), ("g", "h")]
    assert _ranges(list("abcde"), [], 2) == [("a", "b"), ("c", "d"), ("e", "e")]
    assert _ranges(list("bf"), held, 2) == []


def test_a_shard_that_kills_its_workers_is_given_up(dataset: Any, model: FastSAM) -> None:
    poisoned = iter_shared(dataset, "masks", model=model, shard_size=3, prefetch=0)
    next(poisoned)
    poisoned.close()  # type: ignore[attr-defined]
    leases(dataset).update_many({}, {"$set": {"attempts": 5}, "$unset": {"owner": ""}})
    dataset.set_values("masks", [None] * 3)
    fresh = iter_shared(dataset.limit(2), "masks", model=model)
    assert len(list(fresh)) == 2  # a new plan gives it another chance


def test_what_cannot_be_shared_is_refused(dataset: Any, model: FastSAM) -> None:
    for options in ({"existing": "overwrite"}, {"shard_size": 0}, {"lease_s": 0}):
        with pytest.raises(InvalidParameterError):
            iter_shared(dataset, "masks", model=model, **options)


def test_one_of_several_planners_is_told_to_record(dataset: Any) -> None:
    tables = [ShardTable(leases(dataset), "run", 10) for _ in range(2)]
    ids = dataset.values("id")
    assert tables[0].plan(ids, 2)
    leased = tables[0].lease()
    tables[1].open_count = lambda: 0  # type: ignore[method-assign]  # looked before the first one planned
    assert not tables[1].plan(ids, 2)
    assert leased is not None
    assert leases(dataset).find_one({"_id": leased.key})["attempts"] == 1
    leases(dataset).delete_many({})
