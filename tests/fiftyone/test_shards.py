"""Workers that share an enrichment through the database alone."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import pytest
from bson import ObjectId
from tests.fiftyone.conftest import write_video

from fastsam_core.errors import InvalidParameterError
from fiftyone_fastsam import _queue, enrich, iter_shared
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


def test_a_worker_that_is_stopped_leaves_its_shard_to_others_at_once(
    dataset: Any, model: FastSAM, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(6):  # more often than a shard may kill its workers
        abandoned(iter_shared(dataset, "masks", model=model, shard_size=3, prefetch=0, existing="append"))
        dataset.clear_sample_field("masks")
        dataset.clear_sample_field("masks_error")
    lease = leases(dataset).find_one()
    assert (lease["attempts"], "owner" in lease) == (0, False)
    started = time.monotonic()
    assert len(list(iter_shared(dataset, "masks", model=model, existing="append"))) == 3
    assert time.monotonic() - started < 10


def test_a_dead_workers_shard_is_taken_over(dataset: Any, model: FastSAM, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as dying:
        dying.setattr(ShardTable, "release", lambda *_: None)
        abandoned(iter_shared(dataset, "masks", model=model, shard_size=3, prefetch=0))
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


def results(dataset: Any) -> dict[str, Any]:
    """Return what the dataset remembers of the outcome, without the time it took."""
    dataset.reload()
    dataset.clear_cache()
    told = dataset.load_run_results("fastsam_masks").serialize()
    assert told.pop("seconds") >= 0
    return {name: value for name, value in told.items() if name != "cls"}


def test_shared_work_is_described_as_that_of_one(
    make_dataset: Callable[..., Any], image_paths: list[Path], tmp_path: Path, model: FastSAM
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    one, many = (make_dataset(paths=[*image_paths, broken, *image_paths]) for _ in range(2))
    for dataset in (one, many):
        enrich(dataset[:2], "masks", model=model)
    enrich(one, "masks", model=model)
    workers = [iter_shared(many, "masks", model=model, shard_size=2, lease_s=2) for _ in range(2)]
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(list, workers))
    assert results(many) == results(one)
    assert (results(many)["done"], results(many)["failed"], results(many)["skipped"]) == (10, 1, 2)
    described = [dataset.get_run_info("fastsam_masks").config.serialize() for dataset in (one, many)]
    assert described[0] == described[1]
    assert one.get_field("masks").info == many.get_field("masks").info
    assert many.list_saved_views() == one.list_saved_views()
    assert leases(many).count_documents({}) == 0


def test_what_a_dead_worker_did_is_counted(
    make_dataset: Callable[..., Any], image_paths: list[Path], model: FastSAM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_queue, "_BATCH_ITEMS", 1)
    dataset = make_dataset(paths=image_paths)
    dead = iter_shared(dataset, "masks", model=model, shard_size=6, prefetch=0)
    for _ in range(3):
        next(dead)
    dead.close()  # type: ignore[attr-defined]
    leases(dataset).update_one({}, {"$unset": {"owner": ""}})
    left = len(list(iter_shared(dataset, "masks", model=model)))
    assert left < 6
    told = results(dataset)
    assert told["done"] >= 3 + left
    assert (told["failed"], told["gone"], told["done"] + told["skipped"]) == (0, 0, 6)
    assert told["masks"] == told["done"] * dataset.count("masks.detections") / 6


def test_when_all_workers_are_gone_the_next_one_begins_anew(
    make_dataset: Callable[..., Any], image_paths: list[Path], model: FastSAM
) -> None:
    dataset = make_dataset(paths=image_paths)
    abandoned(iter_shared(dataset, "masks", model=model, shard_size=1, prefetch=0))
    long_ago = {
        "renewed_at": datetime.now(UTC) - timedelta(hours=1),
        "planned_at": datetime.now(UTC) - timedelta(days=1),
    }
    leases(dataset).update_many({}, {"$set": long_ago})
    left = len(list(iter_shared(dataset, "masks", model=model, shard_size=2)))
    assert (results(dataset)["done"], results(dataset)["skipped"]) == (left, 6 - left)
    assert dataset.load_run_results("fastsam_masks").seconds < 3600


def test_a_worker_that_comes_when_all_is_done_changes_nothing(dataset: Any, model: FastSAM) -> None:
    late = iter_shared(dataset, "masks", model=model)
    list(iter_shared(dataset, "masks", model=model))
    before = results(dataset), dataset.get_run_info("fastsam_masks").timestamp
    assert list(late) == []
    assert (results(dataset), dataset.get_run_info("fastsam_masks").timestamp) == before
    assert results(dataset)["done"] == 3
    assert leases(dataset).count_documents({}) == 0


def test_deleted_samples_and_those_that_kill_are_in_the_joint_result(
    make_dataset: Callable[..., Any], image_paths: list[Path], model: FastSAM
) -> None:
    dataset = make_dataset(paths=image_paths)
    ids = dataset.values("id")
    worker = iter_shared(dataset, "masks", model=model, shard_size=2, prefetch=0)
    next(worker)
    dataset.delete_samples(ids[2:3])
    leases(dataset).update_one({"low": ObjectId(ids[4])}, {"$set": {"attempts": 5}})
    list(worker)
    told = results(dataset)
    assert {name: told[name] for name in ("done", "failed", "gone", "skipped")} == {
        "done": 3,
        "failed": 2,  # nobody tries those again
        "gone": 1,
        "skipped": 0,
    }
    assert leases(dataset).count_documents({}) == 0
    assert len(list(iter_shared(dataset, "masks", model=model))) == 2


def test_videos_that_needed_nothing_are_counted(
    make_dataset: Callable[..., Any], model: FastSAM, tmp_path: Path
) -> None:
    dataset = make_dataset(0)
    for name in ("a.avi", "b.avi"):
        dataset.add_sample(fo.Sample(filepath=str(write_video(tmp_path / name, 3))))
    enrich(dataset[:1], "masks", model=model)
    list(iter_shared(dataset, "masks", model=model, shard_size=1))
    assert (results(dataset)["done"], results(dataset)["skipped"]) == (3, 1)
    list(iter_shared(dataset, "masks", model=model, shard_size=1))
    assert (results(dataset)["done"], results(dataset)["skipped"]) == (0, 2)


def test_a_plan_fills_the_gaps_between_shards() -> None:
    held = [("b", "c"), ("f", "f")]
    assert _ranges(list("abcdefgh"), held, 2) == [("a", "a", 1), ("d", "e", 2), ("g", "h", 2)]
    assert _ranges(list("abcde"), [], 2) == [("a", "b", 2), ("c", "d", 2), ("e", "e", 1)]
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


def test_two_that_plan_at_once_make_one_plan(dataset: Any) -> None:
    tables = [ShardTable(leases(dataset), "run", 10) for _ in range(2)]
    ids = dataset.values("id")
    tables[0].plan(ids, 2, 0)
    leased = tables[0].lease()
    tables[1].open_count = lambda: 0  # type: ignore[method-assign]  # looked before the first one planned
    tables[1].in_use = lambda: False  # type: ignore[method-assign]
    tables[1].plan(ids, 2, 0)
    assert leases(dataset).count_documents({"run": "run"}) == 2
    assert leased is not None
    assert leases(dataset).find_one({"_id": leased.key})["attempts"] == 1
    leases(dataset).delete_many({})


def test_samples_in_memory_see_what_others_have_written(
    dataset: Any, model: FastSAM, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = list(dataset)
    enrich(dataset[:2], "masks", model=model)
    change = {"masks.detections": [], "last_modified_at": datetime.now(UTC)}
    dataset._sample_collection.update_one({"_id": held[0]._id}, {"$set": change})
    reload, reloaded = fo.Sample._reload_backing_doc, list[str]()

    def reload_and_tell(sample: Any) -> None:
        reload(sample)
        reloaded.append(sample.id)

    monkeypatch.setattr(fo.Sample, "_reload_backing_doc", reload_and_tell)
    assert len(list(iter_shared(dataset, "masks", model=model))) == 1
    assert [len(sample.masks.detections) > 0 for sample in held] == [False, True, True]
    assert reloaded == [held[0].id]  # others are as they were
