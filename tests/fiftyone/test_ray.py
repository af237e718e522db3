"""An enrichment on a Ray cluster of two nodes, here on one machine."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from fastsam_core.errors import InvalidParameterError
from fiftyone_fastsam import iter_on_ray, ray_runner
from fiftyone_fastsam.errors import LabelFieldError
from fiftyone_fastsam.shards import SHARDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fastsam_core.masks import Masks
    from fastsam_core.model import FastSAM

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Start two nodes of one CPU each, connected to this process."""
    os.environ.setdefault("RAY_agent_register_timeout_ms", "120000")
    ray = pytest.importorskip("ray", reason="Ray is not installed; pip install 'fastsam-plugins[distributed]'")
    from ray.cluster_utils import Cluster

    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster: Any = Cluster()
    try:
        try:
            cluster.add_node(**node, include_dashboard=False)
            cluster.add_node(**node)
        except Exception as error:  # noqa: BLE001 (Ray raises nothing more precise when a busy machine is too slow)
            pytest.skip(f"Ray does not start on this machine: {error}")
        ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def load_fake() -> FastSAM:
    """Make the model of the tests in a worker."""
    from tests.fiftyone.conftest import FakeNetwork

    from fastsam_core.checkpoints import ModelInfo
    from fastsam_core.model import FastSAM

    return FastSAM(FakeNetwork(), ModelInfo(name="fake", imgsz=128, conf=0.4, iou=0.9))


def test_a_workers_part_needs_no_cluster(dataset: Any) -> None:
    settings = {"model": load_fake, "shard_size": 2, "lease_s": 5}
    view = dataset.skip(1)
    reports = list(ray_runner._work({}, dataset.name, view._serialize(), "masks", settings))
    assert [step.sample_id for report in reports for step in report] == view.values("id")


@pytest.mark.usefixtures("cluster")
def test_two_nodes_do_every_sample_once(
    make_dataset: Callable[..., Any], image_paths: list[Path], known_masks: Masks
) -> None:
    dataset = make_dataset(paths=image_paths * 3)
    view = dataset.skip(2)
    steps = list(iter_on_ray(view, "masks", model=load_fake, shard_size=3, lease_s=5))
    assert sorted(step.sample_id for step in steps) == sorted(view.values("id"))
    dataset.reload()
    assert dataset.exists("masks").values("id") == view.values("id")
    assert dataset.count("masks.detections") == 16 * len(known_masks)
    assert dataset._sample_collection.database[SHARDS].count_documents({}) == 0
    told = dataset.load_run_results("fastsam_masks")
    assert (told.done, told.failed, told.skipped, told.masks) == (16, 0, 0, 16 * len(known_masks))
    with pytest.raises(LabelFieldError):
        list(iter_on_ray(view, "filepath", model=load_fake))


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_dies_is_replaced(dataset: Any, tmp_path: Path) -> None:
    first = tmp_path / "first"

    def load_and_die_once() -> FastSAM:
        if not first.exists():
            first.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return load_fake()

    steps = list(iter_on_ray(dataset, "masks", model=load_and_die_once, workers=1, lease_s=1))
    assert len(steps) == 3
    assert first.exists()


def test_wrong_numbers_are_refused(dataset: Any) -> None:
    for options in ({"workers": 0}, {"cpus": 0}, {"existing": "overwrite"}, {"shard_size": 0}, {"lease_s": 0}):
        with pytest.raises(InvalidParameterError):
            iter_on_ray(dataset, "masks", **options)
