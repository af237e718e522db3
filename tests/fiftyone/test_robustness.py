"""Interruptions: a killed process, a database that goes away, videos that break off."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np
import pymongo.errors
import pytest
from tests.fiftyone.conftest import write_video

import local_services
from fiftyone_fastsam import (
    _lock,
    _provenance,
    _retry,
    doctor,
    enrich,
    enrichment,
    iter_enrich,
    iter_shared,
    masks_from_detections,
)
from fiftyone_fastsam._lock import LOCKS
from fiftyone_fastsam._writers import DirectWriter
from fiftyone_fastsam.errors import (
    DatabaseUnavailableError,
    DatabaseWriteError,
    DocumentTooLargeError,
    TargetChangedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fiftyone.conftest import FakeNetwork

    from fastsam_core.masks import Masks
    from fastsam_core.model import FastSAM

ROOT = Path(__file__).parents[2]

ENDLESS = """
import sys, time
from tests.fiftyone.conftest import FakeNetwork
from fastsam_core.checkpoints import ModelInfo
from fastsam_core.model import FastSAM
from fiftyone_fastsam import iter_enrich, _queue

_queue._BATCH_ITEMS = 3
class Slow(FakeNetwork):
    def forward(self, batch):
        time.sleep(0.02)
        return super().forward(batch)
model = FastSAM(Slow(), ModelInfo(name="fake", imgsz=128, conf=0.4, iou=0.9))
for step in iter_enrich(sys.argv[1], "masks", model=model, existing=sys.argv[2]):
    print("done", step.done, flush=True)
"""


def test_kill_9_leaves_whole_samples_and_the_next_run_goes_on(
    make_dataset: Callable[..., Any], image_paths: list[Path], model: FastSAM, known_masks: Masks
) -> None:
    dataset = make_dataset(paths=image_paths * 10)
    command = [sys.executable, "-c", ENDLESS, dataset.name, "append"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("done") and int(line.split()[1]) >= 10:
                process.send_signal(signal.SIGKILL)
                break
    assert process.wait() == -signal.SIGKILL
    dataset.reload()
    done = len(dataset.exists("masks"))
    assert 10 <= done < 60
    assert {len(sample.masks.detections) for sample in dataset.exists("masks")} == {len(known_masks)}
    report = enrich(dataset, "masks", model=model, existing="append")
    assert (report.done, report.skipped) == (60 - done, done)
    for sample in dataset:
        back = masks_from_detections(sample.masks, known_masks.image_hw)
        np.testing.assert_array_equal(back.to_dense(), known_masks.to_dense())


RIVAL = """
import sys
import fiftyone as fo
from tests.fiftyone.conftest import FakeNetwork
from fastsam_core.checkpoints import ModelInfo
from fastsam_core.model import FastSAM
from fiftyone_fastsam import enrich
model = FastSAM(FakeNetwork(), ModelInfo(name="fake", imgsz=128, conf=0.4, iou=0.9))
dataset = fo.load_dataset(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
enrich(dataset, "masks", model=model, existing="append")
"""


@pytest.mark.slow
def test_plain_runs_at_once_leave_one_whole_dataset(
    make_dataset: Callable[..., Any], image_paths: list[Path], known_masks: Masks
) -> None:
    dataset = make_dataset(paths=image_paths * 3)
    command = [sys.executable, "-c", RIVAL, dataset.name]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    rivals: list[Any] = [subprocess.Popen(command, **pipes) for _ in range(3)]
    for rival in rivals:
        while rival.stdout.readline().strip() not in ("ready", ""):
            pass
    for rival in rivals:
        rival.stdin.write("go\n")
        rival.stdin.flush()
    for rival in rivals:
        rival.communicate()
    assert [rival.returncode for rival in rivals] == [0, 0, 0]
    dataset.reload()
    assert {len(sample.masks.detections) for sample in dataset} == {len(known_masks)}
    assert sorted(dataset.list_saved_views()) == ["fastsam: done", "fastsam: failed"]
    assert dataset.load_run_results("fastsam_masks").done > 0
    assert dataset._sample_collection.database[LOCKS].count_documents({}) == 0


class Flaky:
    """Lets a number of writes fail, before or after they reached the database."""

    def __init__(self, failures: int, *, after: bool) -> None:
        self.failures, self.after = failures, after
        self.real = DirectWriter.write

    def __call__(self, writer: DirectWriter, results: Any) -> set[Any]:
        self.failures -= 1
        if self.failures >= 0 and not self.after:
            raise pymongo.errors.AutoReconnect("gone")
        gone = self.real(writer, results)
        if self.failures >= 0:
            raise pymongo.errors.AutoReconnect("gone after the work was done")
        return gone


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_retry, "_FIRST_WAIT_S", 0.001)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("after", [False, True])
def test_a_database_that_comes_back_costs_nothing(
    dataset: Any, model: FastSAM, known_masks: Masks, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    flaky = Flaky(2, after=after)
    monkeypatch.setattr(DirectWriter, "write", lambda writer, results: flaky(writer, results))
    assert enrich(dataset, "masks", model=model, existing="append").done == 3
    assert [len(s.masks.detections) for s in dataset] == [len(known_masks)] * 3


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("method", ["refresh", "count", "distinct"])
@pytest.mark.parametrize("shared", [False, True])
def test_questions_are_asked_again(
    dataset: Any, model: FastSAM, monkeypatch: pytest.MonkeyPatch, method: str, shared: bool
) -> None:
    boxes = [fo.Detections(detections=[fo.Detection(label="a", bounding_box=[0.1, 0.1, 0.5, 0.5])]) for _ in range(3)]
    dataset.set_values("gt", boxes)
    places = (_lock, _provenance, enrichment) if method == "refresh" else (fo.Dataset,)
    real, calls = getattr(places[0], method), itertools.count()

    def every_other_time(*arguments: Any) -> Any:
        if next(calls) % 2 == 0:
            raise pymongo.errors.AutoReconnect("gone")
        return real(*arguments)

    for place in places:
        monkeypatch.setattr(place, method, every_other_time)
    options: dict[str, Any] = {"model": model, "box_prompt_field": "gt", "output": "map"}
    run = iter_shared(dataset, "masks", **options) if shared else iter_enrich(dataset, "masks", **options)
    assert len(list(run)) == 3
    assert next(calls) > 0


@pytest.mark.usefixtures("quick")
def test_a_database_that_stays_away_stops_the_run_which_can_go_on(
    dataset: Any, model: FastSAM, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(_retry, "GIVE_UP_S", 0.01)
        flaky = Flaky(1000, after=False)
        patch.setattr(DirectWriter, "write", lambda writer, results: flaky(writer, results))
        with pytest.raises(DatabaseUnavailableError, match="run the same command again"):
            enrich(dataset, "masks", model=model)
    assert enrich(dataset, "masks", model=model).done == 3


def test_a_database_that_refuses_is_reported(dataset: Any, model: FastSAM, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise pymongo.errors.OperationFailure("not authorized")

    monkeypatch.setattr(DirectWriter, "write", refuse)
    with pytest.raises(DatabaseWriteError, match="not authorized"):
        enrich(dataset, "masks", model=model)


@pytest.mark.parametrize("writer", ["direct", "sdk"])
def test_a_server_that_refuses_writes_is_reported(dataset: Any, model: FastSAM, writer: str) -> None:
    enrich(dataset[:1], "masks", model=model)
    database, name = dataset._sample_collection.database, dataset._sample_collection_name
    database.command("collMod", name, validator={"never": True}, validationLevel="strict")
    with pytest.raises(DatabaseWriteError, match="failed validation"):
        enrich(dataset, "masks", model=model, writer=writer)
    database.command("collMod", name, validator={}, validationLevel="off")
    assert enrich(dataset, "masks", model=model, writer=writer).done == 2


@pytest.mark.parametrize("options", [{}, {"writer": "sdk"}, {"existing": "append"}], ids=str)
@pytest.mark.parametrize("spare_bytes", [1500, 0])
def test_a_document_that_grows_meanwhile_costs_its_sample_only(
    dataset: Any, model: FastSAM, network: FakeNetwork, options: dict[str, Any], spare_bytes: int
) -> None:
    held = list(dataset)
    documents, this = dataset._sample_collection, {"_id": held[1]._id}
    for name in ("notes", "masks_error"):
        dataset.add_sample_field(name, fo.StringField)
    stages = [{"$match": this}, {"$project": {"size": {"$bsonSize": "$$ROOT"}}}]

    def grow() -> None:
        documents.update_one(this, {"$set": {"notes": ""}})
        room = 16 * 2**20 - documents.aggregate(stages).next()["size"] - spare_bytes
        documents.update_one(this, {"$set": {"notes": "x" * room}})

    run_first(network, grow)
    report = enrich(dataset, "masks", model=model, **options)
    assert (report.done, report.failed) == (2, 1)
    assert [bool(sample["masks"]) for sample in held] == [True, False, True]
    assert ("has grown" in str(documents.find_one(this).get("masks_error"))) == bool(spare_bytes)
    documents.update_one(this, {"$set": {"notes": "short"}})
    run_first(network, grow)
    with pytest.raises(DocumentTooLargeError, match="has grown"):
        enrich(dataset, "masks", model=model, skip_failures=False, **options)
    documents.update_one(this, {"$set": {"notes": "short"}})
    assert enrich(dataset, "masks", model=model, **options).done == 1


OUTAGE = f"""
import sys
import fiftyone as fo
dataset = fo.Dataset("outage", persistent=True)
dataset.add_samples([fo.Sample(filepath=sys.argv[1]) for _ in range(60)], progress=False)
sys.argv[1:] = ["outage", "resume"]
{ENDLESS}
dataset.reload()
print("finished", len(dataset.exists("masks")), flush=True)
"""


@pytest.mark.slow
def test_a_server_that_dies_in_the_middle_is_waited_for(image_paths: list[Path], tmp_path: Path) -> None:
    try:
        program = str(local_services._mongod_program())
    except local_services.ServiceUnavailableError as problem:
        pytest.skip(f"the test needs a server of its own to kill: {problem}")
    port = local_services._free_port()
    command = [program, "--dbpath", str(tmp_path), "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"]

    @contextmanager
    def server() -> Iterator[subprocess.Popen[bytes]]:
        libraries = {**os.environ, "LD_LIBRARY_PATH": str(local_services.LIBSSL_DIR)}
        with subprocess.Popen(command, env=libraries, stdout=subprocess.DEVNULL) as process:
            try:
                assert local_services._answers(port, process)
                yield process
            finally:
                process.kill()

    environment = {**os.environ, "FIFTYONE_DATABASE_URI": f"mongodb://127.0.0.1:{port}"}
    child = [sys.executable, "-c", OUTAGE, str(image_paths[0])]
    with server() as first:
        client = subprocess.Popen(child, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
        assert client.stdout is not None
        for line in client.stdout:
            if line.startswith("done") and int(line.split()[1]) >= 5:
                break
        first.kill()
    time.sleep(1)
    with server():
        told, _ = client.communicate()
    assert client.returncode == 0
    # a killed server may forget its last tenth of a second; the next run would do that again
    assert int(told.split()[-1]) >= 50


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "video.avi", 5)


def test_samples_may_be_loaded_while_others_are_written(
    make_dataset: Callable[..., Any], model: FastSAM, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_dataset(4)
    first, second, _, last = dataset.values("id")
    held, reload = [dataset[first], dataset[second]], fo.Sample.reload

    def reload_and_load(sample: Any, **how: Any) -> None:
        reload(sample, **how)
        held.append(dataset[last])  # as another thread may do

    monkeypatch.setattr(fo.Sample, "reload", reload_and_load)
    assert enrich(dataset[:2], "masks", model=model).done == 2
    assert [len(sample.masks.detections) > 0 for sample in held[:2]] == [True, True]


@pytest.mark.parametrize("writer", ["direct", "sdk"])
def test_videos_are_done_frame_by_frame(
    make_dataset: Callable[..., Any], model: FastSAM, known_masks: Masks, video: Path, writer: str
) -> None:
    broken = video.with_name("broken.avi")
    broken.write_bytes(b"no video")
    dataset = make_dataset(0)
    dataset.add_samples([fo.Sample(filepath=str(video)), fo.Sample(filepath=str(broken))], progress=False)
    report = enrich(dataset, "masks", model=model, writer=writer)
    assert (report.label_field, report.done, report.failed) == ("frames.masks", 5, 1)
    first, second = dataset
    assert sorted(first.frames) == [1, 2, 3, 4, 5]
    for frame in first.frames.values():
        assert len(frame.masks.detections) == len(known_masks)
    assert "cannot be read" in second.masks_error
    assert dataset.load_saved_view("fastsam: failed").values("id") == [second.id]
    assert dataset.load_saved_view("fastsam: done").values("id") == [first.id]
    first.frames[3].clear_field("masks")
    first.save()
    assert enrich(dataset, "frames.masks", model=model, writer=writer).done == 1


def test_finished_videos_needed_nothing(make_dataset: Callable[..., Any], model: FastSAM, video: Path) -> None:
    dataset = make_dataset(0)
    dataset.add_samples([fo.Sample(filepath=str(video))] * 2, progress=False)
    assert enrich(dataset, "masks", model=model).skipped == 0
    second = dataset.last()
    second.frames[3].clear_field("masks")
    second.save()
    report = enrich(dataset, "masks", model=model)
    assert (report.done, report.failed, report.skipped) == (1, 0, 1)
    report = enrich(dataset, "masks", model=model)
    assert (report.done, report.failed, report.skipped) == (0, 0, 2)
    assert dataset.load_run_results("fastsam_masks").skipped == 2


@pytest.mark.parametrize("writer", ["direct", "sdk"])
def test_frames_of_a_video_that_is_deleted_meanwhile_do_not_come_back(
    make_dataset: Callable[..., Any], model: FastSAM, network: FakeNetwork, video: Path, writer: str
) -> None:
    dataset = make_dataset(0)
    dataset.add_samples([fo.Sample(filepath=str(shutil.copy(video, video.with_name(f"{i}.avi")))) for i in range(2)])
    first, second = dataset.values("id")
    run_first(network, lambda: dataset.delete_samples([first]))
    enrich(dataset, "masks", model=model, writer=writer)
    assert dataset.values("id") == [second]
    assert dataset.count("frames") == 5


def test_a_dataset_that_is_deleted_meanwhile(image_paths: list[Path], model: FastSAM, network: FakeNetwork) -> None:
    dataset = fo.Dataset(persistent=True)
    dataset.add_samples([fo.Sample(filepath=str(path)) for path in image_paths], progress=False)
    collection = dataset._sample_collection

    def delete_elsewhere() -> None:
        collection.database.datasets.delete_one({"_id": dataset._doc.id})
        collection.drop()

    run_first(network, delete_elsewhere)
    with pytest.raises(TargetChangedError, match=r"is gone.*deleted"):
        enrich(dataset, "masks", model=model)
    assert collection.estimated_document_count() == 0


def test_a_dataset_that_is_renamed_meanwhile(dataset: Any, model: FastSAM, network: FakeNetwork) -> None:
    datasets, renamed = dataset._sample_collection.database.datasets, f"{dataset.name}-renamed"
    run_first(network, lambda: datasets.update_one({"_id": dataset._doc.id}, {"$set": {"name": renamed}}))
    assert enrich(dataset, "masks", model=model).done == 3
    assert dataset.name == renamed
    assert dataset.load_run_results("fastsam_masks").done == 3


def run_first(network: Any, action: Callable[[], object]) -> None:
    """Do something at the first forward pass, before anything was written."""
    forward = network.forward

    def once(batch: Any) -> Any:
        network.forward = forward
        action()
        return forward(batch)

    network.forward = once


def test_only_the_frames_of_the_chosen_prompts_are_touched(
    make_dataset: Callable[..., Any], model: FastSAM, network: FakeNetwork, video: Path
) -> None:
    dataset = make_dataset(0)
    dataset.add_samples([fo.Sample(filepath=str(video)) for _ in range(2)], progress=False)
    boxes = [fo.Detection(label=str(number), bounding_box=[0, 0, 1, 1]) for number in range(3)]
    sample = dataset.first()
    for number, box in enumerate(boxes, 1):
        sample.frames[number] = fo.Frame(gt=fo.Detections(detections=[box]))
    sample.save()
    options: dict[str, Any] = {"model": model, "prompt_field": "frames.gt", "prompt_ids": [boxes[1].id]}
    report = enrich(dataset, "frames.here", existing="append", **options)
    assert (report.done, report.skipped, network.calls) == (1, 1, 1)
    assert dataset.values("frames.here.detections.label") == [[None, ["1"], None], []]
    assert enrich(dataset, "frames.here", existing="append", **options).done == 0
    sample.frames[2].gt.detections[0].bounding_box = [0, 0, 0.5, 0.5]
    sample.save()
    assert enrich(dataset, "frames.here", existing="append", **options).done == 1


def test_a_mended_video_has_no_reason_any_more(make_dataset: Callable[..., Any], model: FastSAM, video: Path) -> None:
    good = video.read_bytes()
    video.write_bytes(b"no video")
    dataset = make_dataset(paths=[video])
    assert enrich(dataset, "masks", model=model).failed == 1
    video.write_bytes(good)
    assert enrich(dataset, "masks", model=model).done == 5
    assert dataset.values("masks_error") == [None]
    assert len(dataset.load_saved_view("fastsam: failed")) == 0


def test_views_of_frames_count(make_dataset: Callable[..., Any], model: FastSAM, video: Path) -> None:
    dataset = make_dataset(0)
    sample = fo.Sample(filepath=str(video))
    for number in range(1, 6):
        boxes = [fo.Detection(label=name, bounding_box=[0, 0, 1, 1]) for name in ("cat", "dog")]
        sample.frames[number] = fo.Frame(gt=fo.Detections(detections=boxes))
    dataset.add_sample(sample)
    dogs = dataset.filter_labels("frames.gt", fo.ViewField("label") == "dog")
    for done in (5, 0):
        assert enrich(dogs, "masks", model=model, box_prompt_field="frames.gt").done == done
    assert dataset.values("frames.masks.detections.label") == [[["dog"]] * 5]
    cats = dataset.filter_labels("frames.gt", fo.ViewField("label") == "cat")
    for done in (5, 0):
        assert enrich(cats, "masks", model=model, box_prompt_field="frames.gt").done == done
    assert dataset.values("frames.masks.detections.label") == [[["cat", "dog"]] * 5]
    for done in (5, 0):
        assert enrich(dataset, "masks", model=model, box_prompt_field="frames.gt").done == done
    assert enrich(dogs, "masks", model=model, box_prompt_field="frames.gt").done == 0
    some = dataset.match_frames(fo.ViewField("frame_number") < 3)
    assert enrich(some, "others", model=model).done == 2
    assert [label is None for label in dataset.values("frames.others")[0]] == [False, False, True, True, True]


def test_frames_that_a_view_does_not_choose_are_left_alone(
    make_dataset: Callable[..., Any], model: FastSAM, network: FakeNetwork, video: Path
) -> None:
    """Not those without a document, either: videos are often annotated here and there only."""
    dataset = make_dataset(0)
    sample = fo.Sample(filepath=str(video))
    for number in (2, 4):
        boxes = [fo.Detection(label=str(number), bounding_box=[0, 0, 1, 1])]
        sample.frames[number] = fo.Frame(gt=fo.Detections(detections=boxes))
    dataset.add_sample(sample)
    annotated = dataset.match_frames(fo.ViewField("gt.detections").length() > 0)
    for done in (2, 0):
        report = enrich(annotated, "masks", model=model, box_prompt_field="gt")
        assert (report.done, report.skipped, network.calls) == (done, int(not done), 2)
    selected = dataset.select_frames([sample.frames[4].id])
    assert enrich(selected, "others", model=model).done == 1
    assert sorted(dataset.first().frames) == [2, 4]
    both = dataset.match_frames(fo.ViewField("frame_number") < 3).concat(dataset)
    assert enrich(both, "others", model=model).done == 4


def test_videos_of_chosen_groups_prompt(make_dataset: Callable[..., Any], model: FastSAM, video: Path) -> None:
    grouped = make_dataset(0)
    grouped.add_group_field("group", default="left")
    for number in range(2):
        group = fo.Group()
        for side in ("left", "right"):
            sample = fo.Sample(filepath=str(video), group=group.element(side), number=number)
            sample.frames[2] = fo.Frame(
                gt=fo.Detections(detections=[fo.Detection(label="a", bounding_box=[0, 0, 1, 1])])
            )
            grouped.add_sample(sample)
    chosen = grouped.match(fo.ViewField("number") == 1).select_group_slices("right")
    shown = chosen.filter_labels("frames.gt", fo.ViewField("label") == "a")
    report = enrich(shown, "masks", model=model, box_prompt_field="gt")
    assert (report.done, report.skipped) == (5, 0)
    assert chosen.first().frames[2].masks.detections[0].label == "a"


def test_images_and_videos_of_groups_are_remembered_apart(
    make_dataset: Callable[..., Any], model: FastSAM, video: Path, image_paths: list[Path]
) -> None:
    grouped = make_dataset(0)
    grouped.add_group_field("group", default="image")
    group = fo.Group()
    files = {"image": image_paths[0], "video": video}
    grouped.add_samples([fo.Sample(filepath=str(f), group=group.element(s)) for s, f in files.items()], progress=False)
    for media in ("image", "video"):
        enrich(grouped.select_group_slices(media_type=media), "masks", model=model)
    told = {key: grouped.get_run_info(key).config.label_field for key in grouped.list_runs()}
    assert told == {"fastsam_masks": "masks", "fastsam_frames_masks": "frames.masks"}
    assert [grouped.load_run_results(key).done for key in ("fastsam_masks", "fastsam_frames_masks")] == [1, 5]
    grouped.delete_frame_field("masks")
    [left] = [finding for finding in doctor.diagnose(grouped) if "renamed" in finding.text]
    for step in left.remedy.split("; "):
        exec(step, {"dataset": grouped})
    assert grouped.get_field("frames.masks_error") is None
    assert grouped.get_field("masks_error") is not None  # images have it
    assert grouped.list_runs() == ["fastsam_masks"]
