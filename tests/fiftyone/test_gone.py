"""Samples that are deleted from the dataset while it is enriched: they are counted, and stop nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import pytest
from tests.fiftyone.conftest import write_video
from typer.testing import CliRunner

from fastsam_core.cli import app
from fastsam_core.errors import ImageNotFoundError
from fastsam_core.model import FastSAM
from fiftyone_fastsam import EnrichOptions, _items, _queue, _writers, enrich, iter_shared
from fiftyone_fastsam._writers import SdkWriter
from fiftyone_fastsam.enrichment import Enrichment, EnrichStep
from fiftyone_fastsam.errors import TargetChangedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fiftyone.conftest import FakeNetwork

WRITERS = pytest.mark.parametrize("writer", ["direct", "sdk"])


@pytest.fixture
def photos(make_dataset: Callable[..., Any], image_paths: list[Path], tmp_path: Path) -> Any:
    """Return a dataset of four images that may be deleted from the disk."""
    return make_dataset(paths=[Path(shutil.copy(path, tmp_path)) for path in image_paths[:4]])


def during(network: FakeNetwork, act: Callable[[], object], call: int = 1) -> None:
    """Do something once, when the network is at work for the n-th time."""
    forward = network.forward

    def acting(batch_bhwc: Any) -> Any:
        if network.calls == call - 1:
            act()
        return forward(batch_bhwc)

    network.forward = acting  # type: ignore[method-assign]


@WRITERS
@pytest.mark.parametrize("options", [{}, {"existing": "append"}, {"batch_size": 3, "prefetch": 0}])
def test_deleted_samples_are_counted_apart(
    photos: Any, model: FastSAM, network: FakeNetwork, writer: str, options: dict[str, Any]
) -> None:
    first, second, third, last = photos.values("id")
    during(network, lambda: photos.delete_samples([first, last]))
    steps: list[EnrichStep] = []
    report = enrich(photos, "masks", model=model, writer=writer, progress=steps.append, **options)
    assert (report.done, report.failed, report.gone, report.skipped) == (2, 0, 2, 0)
    assert [(step.sample_id, step.gone) for step in steps] == [
        (first, True),
        (second, False),
        (third, False),
        (last, True),
    ]
    assert [step.done for step in steps] == [1, 2, 3, 4]
    assert report.masks == photos.count("masks.detections")
    results = photos.load_run_results("fastsam_masks")
    assert (results.done, results.failed, results.gone) == (2, 0, 2)
    again = enrich(photos, "masks", model=model, writer=writer, **options)
    assert (again.done, again.gone, again.skipped) == (0, 0, 2)


def test_samples_that_are_deleted_before_they_are_looked_up(photos: Any, model: FastSAM) -> None:
    first, *others = photos.values("id")
    run = Enrichment(photos, "masks", EnrichOptions(), model)
    photos.delete_samples([first])
    steps = list(run)
    assert [step.sample_id for step in steps if step.gone] == [first]
    assert [step.sample_id for step in steps if not step.gone] == others
    assert (steps[-1].done, steps[-1].total) == (4, 4)


def test_samples_that_leave_the_view_are_not_taken_for_deleted(
    photos: Any, model: FastSAM, network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = fo.Detection(label="a", bounding_box=[0.1, 0.1, 0.5, 0.5])
    photos.set_values("gt", [fo.Detections(detections=[box.copy()]) for _ in range(4)])
    photos.tag_samples("todo")
    monkeypatch.setattr(_items, "_CHUNK", 1)
    during(network, lambda: photos.untag_samples("todo"), call=2)
    report = enrich(photos.match_tags("todo"), "masks", model=model, box_prompt_field="gt", prefetch=0)
    assert (report.done + report.skipped, report.gone, report.failed) == (4, 0, 0)
    assert 0 < report.skipped < 4
    assert len(photos.exists("masks")) == report.done


@WRITERS
def test_files_that_are_deleted_with_their_samples_stop_nothing(
    photos: Any, model: FastSAM, network: FakeNetwork, writer: str
) -> None:
    last = photos.last()

    def delete() -> None:
        Path(last.filepath).unlink()
        photos.delete_samples([last.id])

    during(network, delete)
    options: dict[str, Any] = {"model": model, "writer": writer, "prefetch": 0, "skip_failures": False}
    report = enrich(photos, "masks", **options)
    assert (report.done, report.failed, report.gone) == (3, 0, 1)
    Path(photos.first().filepath).unlink()
    with pytest.raises(ImageNotFoundError):
        enrich(photos, "masks", existing="overwrite", **options)


@WRITERS
def test_deleted_samples_that_a_program_still_holds(
    photos: Any, model: FastSAM, network: FakeNetwork, writer: str
) -> None:
    held = list(photos)
    elsewhere = photos._sample_collection
    during(network, lambda: elsewhere.delete_one({"_id": held[1]._id}))
    report = enrich(photos, "masks", model=model, writer=writer)
    assert (report.done, report.gone) == (3, 1)
    assert held[0].masks.detections


def test_samples_that_are_deleted_after_they_were_written(
    photos: Any, model: FastSAM, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = list(photos)
    look = _writers._without_frames

    def look_and_delete(target: Any, ids: set[Any]) -> set[Any]:
        gone = look(target, ids)
        photos._sample_collection.delete_one({"_id": held[1]._id})
        return gone

    monkeypatch.setattr(_writers, "_without_frames", look_and_delete)
    assert enrich(photos, "masks", model=model).failed == 0
    assert [bool(sample.masks.detections) for sample in (held[0], held[2], held[3])] == [True] * 3


def test_samples_that_are_deleted_while_fiftyone_writes_them(
    photos: Any, model: FastSAM, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = SdkWriter._put
    first, *_, last = photos.values("id")

    def put_and_delete(writer: SdkWriter, sample: Any, result: Any) -> None:
        put(writer, sample, result)
        if sample.id == first:
            photos.delete_samples([first, last])

    monkeypatch.setattr(SdkWriter, "_put", put_and_delete)
    report = enrich(photos, "masks", model=model, writer="sdk")
    assert (report.done, report.gone) == (2, 2)


def test_samples_that_are_deleted_when_fiftyone_has_written_them(
    photos: Any, model: FastSAM, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fiftyone.core.sample import SampleView

    held = list(photos)
    reload = SampleView._reload_parents

    def delete_and_reload(sample: Any) -> None:
        if sample.id == held[1].id:
            photos._sample_collection.delete_one({"_id": held[1]._id})
        reload(sample)

    monkeypatch.setattr(SampleView, "_reload_parents", delete_and_reload)
    report = enrich(photos, "masks", model=model, writer="sdk", existing="append")
    assert (report.done, report.gone) == (3, 1)
    assert {len(sample.masks.detections) for sample in photos} == {len(held[0].masks.detections)}


def test_masks_that_are_asked_again(photos: Any, model: FastSAM) -> None:
    pytest.importorskip("open_clip", reason="open_clip is not installed; pip install 'fastsam-plugins[text]'")
    enrich(photos, "masks", model=model, embeddings=True, text_encoder="demo")
    run = Enrichment(photos, "found", EnrichOptions(text="red", text_encoder="demo", masks_field="masks"), model)
    photos.delete_samples(photos.limit(1))
    assert [step.gone for step in run] == [True, False, False, False]


def drop_field(dataset: Any, name: str, part: str = "sample") -> None:
    """Delete a field as another process does."""
    documents = dataset._frame_collection if part == "frame" else dataset._sample_collection
    documents.update_many({}, {"$unset": {name: ""}})
    stored = documents.database[dataset._doc._get_collection_name()]
    stored.update_one({"_id": dataset._doc.id}, {"$pull": {f"{part}_fields": {"name": name}}})


@WRITERS
@pytest.mark.parametrize("name", ["masks", "masks_error"])
def test_a_field_that_is_deleted_meanwhile_stops_the_run(
    photos: Any, model: FastSAM, network: FakeNetwork, writer: str, name: str
) -> None:
    Path(photos.first().filepath).unlink()
    during(network, lambda: drop_field(photos, name), call=2)
    with pytest.raises(TargetChangedError, match=rf"Field '{name}' is gone.*run the same again"):
        enrich(photos, "masks", model=model, writer=writer)
    assert not photos._sample_collection.count_documents({name: {"$exists": True}})  # FiftyOne could not read them
    report = enrich(photos, "masks", model=model, writer=writer)
    assert report.done + report.skipped == 3
    assert len(photos.exists("masks")) == 3


@pytest.fixture
def videos(make_dataset: Callable[..., Any], tmp_path: Path) -> Any:
    """Return a dataset of two videos of 200 frames."""
    dataset = make_dataset(0)
    for name in ("a.avi", "b.avi"):
        dataset.add_sample(fo.Sample(filepath=str(write_video(tmp_path / name, 200))))
    return dataset


@WRITERS
def test_the_rest_of_a_deleted_video_is_not_read(
    videos: Any, model: FastSAM, network: FakeNetwork, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    monkeypatch.setattr(_queue, "_BATCH_ITEMS", 4)
    first, second = videos.values("id")
    during(network, lambda: videos.delete_samples([first]), call=9)
    steps: list[EnrichStep] = []
    report = enrich(videos, "masks", model=model, writer=writer, progress=steps.append)
    assert report.gone == 1
    assert [step.sample_id for step in steps if step.gone] == [first]
    assert sum(step.sample_id == second for step in steps) == 200
    assert network.calls < 300
    assert videos.count("frames") == 200
    assert videos._frame_collection.count_documents({}) == 200
    assert videos.load_run_results("fastsam_masks").gone == 1


def test_a_field_of_frames_that_is_deleted_meanwhile_stops_the_run(
    videos: Any, model: FastSAM, network: FakeNetwork
) -> None:
    during(network, lambda: drop_field(videos, "masks", "frame"), call=2)
    with pytest.raises(TargetChangedError, match="Field 'masks' is gone"):
        enrich(videos, "masks", model=model)
    assert not videos._frame_collection.count_documents({"masks": {"$exists": True}})
    assert enrich(videos, "masks", model=model).failed == 0
    assert all(labels is not None for labels in videos.values("frames.masks", unwind=True))


def test_a_video_that_is_deleted_before_its_turn(videos: Any, model: FastSAM, network: FakeNetwork) -> None:
    during(network, lambda: videos.delete_samples(videos.values("id")[1:]))
    report = enrich(videos, "masks", model=model)
    assert (report.done, report.failed, report.gone, report.skipped) == (200, 0, 1, 0)


def test_workers_tell_of_deleted_samples(photos: Any, model: FastSAM, network: FakeNetwork) -> None:
    first = photos.first().id
    during(network, lambda: photos.delete_samples([first]))
    steps = list(iter_shared(photos, "masks", model=model))
    assert [step.gone for step in steps] == [True, False, False, False]


def test_the_command_tells_of_deleted_samples(
    photos: Any, model: FastSAM, network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FastSAM, "load", lambda *_, **__: model)
    during(network, lambda: photos.delete_samples(photos.values("id")[-1:]))
    outcome = CliRunner().invoke(app, ["enrich", photos.name, "--label-field", "masks"])
    assert outcome.exit_code == 0
    assert "0 failed, 0 needed nothing, 1 deleted meanwhile" in outcome.output
