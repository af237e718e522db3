"""`enrich`: what is written, what is not done twice, and what a bad sample does to the others."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np
import pytest

from fastsam_core.errors import ImageReadError, InvalidParameterError, InvalidPromptError
from fastsam_core.model import FastSAM
from fastsam_core.testing import synthetic_head
from fiftyone_fastsam import (
    EnrichOptions,
    _convert,
    _oversize,
    _writers,
    doctor,
    enrich,
    iter_enrich,
    masks_from_detections,
)
from fiftyone_fastsam._items import Item
from fiftyone_fastsam._pending import finished_filter
from fiftyone_fastsam._target import open_target
from fiftyone_fastsam._writers import Result
from fiftyone_fastsam.errors import LabelFieldError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fiftyone.conftest import FakeNetwork

    from fastsam_core.masks import Masks

WRITERS = ("direct", "sdk")


def found_in(sample: Any, masks: Masks, field: str = "masks") -> Any:
    return masks_from_detections(sample[field], masks.image_hw)


@pytest.mark.parametrize("writer", WRITERS)
def test_everything_is_written_pixel_by_pixel(dataset: Any, model: FastSAM, known_masks: Masks, writer: str) -> None:
    report = enrich(dataset, "masks", model=model, writer=writer)
    assert (report.done, report.failed, report.skipped) == (3, 0, 0)
    assert report.masks == 3 * len(known_masks)
    for sample in dataset:
        np.testing.assert_array_equal(found_in(sample, known_masks).to_dense(), known_masks.to_dense())
        np.testing.assert_allclose([d.confidence for d in sample.masks.detections], known_masks.scores)
        assert [d.area_px for d in sample.masks.detections] == known_masks.areas_px.tolist()
        assert sample.masks_error is None


def test_stability_is_written_unless_unwanted(dataset: Any, model: FastSAM) -> None:
    enrich(dataset[:1], "masks", model=model)
    found = model.segment(dataset.first().filepath, stability=True).fields["stability"]
    np.testing.assert_allclose([d.stability for d in dataset.first().masks.detections], found)
    assert {"masks.detections.stability", "masks.detections.quality"} <= set(dataset.get_field_schema(flat=True))
    enrich(dataset[:1], "masks", model=model, stability=False)
    assert not any(d.has_field("stability") for d in dataset.first().masks.detections)


def test_both_writers_leave_equal_samples(make_dataset: Callable[..., Any], model: FastSAM) -> None:
    documents = {}
    for writer in WRITERS:
        dataset = make_dataset(2)
        before = dataset.values("last_modified_at")
        enrich(dataset, "masks", model=model, writer=writer)
        assert all(new > old for new, old in zip(dataset.values("last_modified_at"), before, strict=True))
        documents[writer] = [plain(sample.to_dict(include_private=True)) for sample in dataset]
        stored = list(dataset._sample_collection.find())
        assert [list(document) for document in stored] == [list(stored[0])] * 2
        documents[writer + " keys"] = [sorted(document) for document in stored]
        documents[writer + " schema"] = sorted(dataset.get_field_schema(flat=True))
    assert documents["direct"] == documents["sdk"]
    assert documents["direct keys"] == documents["sdk keys"]
    assert documents["direct schema"] == documents["sdk schema"]


def plain(value: Any) -> Any:
    """Replace what must differ between two samples, and unpack arrays."""
    if isinstance(value, dict):
        differing = {"_id", "_rand", "_dataset_id", "created_at", "last_modified_at", "id"}
        return {
            key: type(item).__name__
            if key in differing
            else fo.core.utils.deserialize_numpy_array(
                item["$binary"]["base64"] if isinstance(item, dict) else item, ascii=isinstance(item, dict)
            ).tolist()
            if key == "mask" and item is not None
            else plain(item)
            for key, item in value.items()
        }
    return [plain(item) for item in value] if isinstance(value, list) else value


def test_a_finished_dataset_needs_nothing(dataset: Any, model: FastSAM, network: FakeNetwork) -> None:
    enrich(dataset, "masks", model=model)
    calls, modified = network.calls, dataset.values("last_modified_at")
    report = enrich(dataset, "masks", model=model)
    assert (report.done, report.skipped, network.calls) == (0, 3, calls)
    assert dataset.values("last_modified_at") == modified


def test_what_is_finished_is_found_through_the_index(make_dataset: Callable[..., Any], model: FastSAM) -> None:
    dataset = make_dataset(6)
    digest = enrich(dataset[:5], "masks", model=model).digest
    finished = finished_filter(open_target(dataset, "masks"), EnrichOptions(), digest)
    left = dataset.match({"$nor": [finished]})
    samples = dataset._sample_collection
    asked = {"aggregate": samples.name, "pipeline": left._pipeline(), "cursor": {}}
    told = samples.database.command("explain", asked, verbosity="executionStats")["executionStats"]
    assert (told["nReturned"], told["totalDocsExamined"]) == (1, 1)


def test_only_what_is_missing_or_changed_is_done_again(dataset: Any, model: FastSAM) -> None:
    enrich(dataset[:2], "masks", model=model)
    assert enrich(dataset, "masks", model=model).skipped == 2
    assert enrich(dataset, "masks", model=model, conf=0.9).done == 3
    dataset.match({}).limit(1).set_field("masks", None).save()
    assert enrich(dataset, "masks", model=model, conf=0.9).done == 1


def test_how_it_is_done_does_not_count_as_a_change(dataset: Any, model: FastSAM) -> None:
    enrich(dataset, "masks", model=model)
    assert enrich(dataset, "masks", model=model, prefetch=0, batch_size=2, writer="sdk", conf=0.4).done == 0


@pytest.mark.parametrize("writer", WRITERS)
def test_append_adds_once(dataset: Any, model: FastSAM, known_masks: Masks, writer: str) -> None:
    dataset.add_sample_field("masks", fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    sample = dataset.first()
    sample["masks"] = fo.Detections(detections=[fo.Detection(label="mine", bounding_box=[0, 0, 0.5, 0.5])])
    sample.save()
    for _ in range(2):
        enrich(dataset, "masks", model=model, existing="append", writer=writer)
    labels = [[d.label for d in sample.masks.detections] for sample in dataset]
    assert labels == [["mine"] + ["object"] * len(known_masks)] + [["object"] * len(known_masks)] * 2
    enrich(dataset, "masks", model=model, existing="append", writer=writer, label="other")
    assert len(dataset.last().masks.detections) == 2 * len(known_masks)
    assert enrich(dataset, "masks", model=model, existing="append", writer=writer).done == 0


def test_skip_and_overwrite(dataset: Any, model: FastSAM) -> None:
    enrich(dataset[:1], "masks", model=model, label="first")
    assert enrich(dataset, "masks", model=model, existing="skip").done == 2
    assert dataset.first().masks.detections[0].label == "first"
    assert enrich(dataset, "masks", model=model, existing="overwrite").done == 3
    assert dataset.first().masks.detections[0].label == "object"


@pytest.mark.parametrize(
    "hide",
    [
        lambda dataset: dataset.select_fields(),
        lambda dataset: dataset.exclude_fields("gt"),
        lambda dataset: dataset[:1].select_fields().concat(dataset[1:].select_fields()),
    ],
)
def test_labels_that_a_view_hides_are_there_all_the_same(
    dataset: Any, model: FastSAM, hide: Callable[..., Any]
) -> None:
    for sample in dataset.iter_samples(autosave=True):
        sample["gt"] = fo.Detections(detections=[fo.Detection(label="cat", bounding_box=[0, 0, 1, 1])])
    view = hide(dataset)[:2]
    assert enrich(view, "gt", model=model, existing="skip").skipped == 2
    assert dataset.values("gt.detections.label") == [["cat"]] * 3
    assert enrich(view, "boxed", model=model, box_prompt_field="gt").masks == 2
    for done in (2, 0):
        assert enrich(dataset[:2].select_fields(), "masks", model=model).done == done
    assert dataset.exists("masks").values("id") == dataset.values("id")[:2]


def test_foreign_labels_are_not_replaced_unasked(dataset: Any, model: FastSAM) -> None:
    sample = dataset.first()
    sample["masks"] = fo.Detections()
    sample.save()
    with pytest.raises(LabelFieldError, match="did not make"):
        enrich(dataset, "masks", model=model)
    assert enrich(dataset, "masks", model=model, existing="overwrite").done == 3


@pytest.mark.parametrize("writer", WRITERS)
def test_labels_that_were_appended_to_are_not_replaced_unasked(
    dataset: Any, model: FastSAM, known_masks: Masks, writer: str
) -> None:
    sample = dataset.first()
    sample["gt"] = fo.Detections(detections=[fo.Detection(label="mine", bounding_box=[0, 0, 0.5, 0.5])])
    sample.save()
    options: dict[str, Any] = {"model": model, "writer": writer}
    digest = enrich(dataset, "gt", existing="append", **options).digest
    wanted = ["mine"] + ["object"] * len(known_masks)
    assert dataset.values("gt.fastsam_run") == [f"other+{digest}", digest, digest]
    assert enrich(dataset, "gt", **options).done == 0
    with pytest.raises(LabelFieldError, match="did not make"):
        enrich(dataset, "gt", conf=0.5, **options)
    assert [d.label for d in dataset.first().gt.detections] == wanted
    dataset._sample_collection.update_many({}, {"$set": {"gt.fastsam_run": digest}})  # as earlier versions wrote it
    assert enrich(dataset, "gt", **options).done == 0
    with pytest.raises(LabelFieldError, match="did not make"):
        enrich(dataset, "gt", conf=0.5, **options)
    assert enrich(dataset, "gt", conf=0.5, existing="overwrite", **options).done == 3


@pytest.mark.parametrize("writer", WRITERS)
def test_appended_answers_are_not_replaced_unasked(dataset: Any, model: FastSAM, writer: str) -> None:
    click = fo.Keypoint(label="click", points=[[0.5, 0.5]])
    dataset.set_values("clicks", [fo.Keypoints(keypoints=[click])] * len(dataset))
    options: dict[str, Any] = {"model": model, "writer": writer}
    enrich(dataset, "masks", **options)
    enrich(dataset[:1], "masks", point_prompt_field="clicks", existing="append", **options)
    labels = dataset.values("masks.detections.label")
    assert labels[0][-1] == "click"
    assert enrich(dataset, "masks", **options).done == 0
    with pytest.raises(LabelFieldError, match="were appended"):
        enrich(dataset, "masks", conf=0.5, **options)
    assert dataset.values("masks.detections.label") == labels
    assert enrich(dataset[1:], "masks", conf=0.5, existing="overwrite", **options).done == 2


def test_labels_drawn_into_ours_are_not_replaced_unasked(dataset: Any, model: FastSAM) -> None:
    enrich(dataset, "masks", model=model)
    sample = dataset.last()
    sample.masks.detections.append(fo.Detection(label="drawn", bounding_box=[0, 0, 0.5, 0.5]))
    sample.save()
    assert enrich(dataset, "masks", model=model).done == 0
    for view in (dataset, dataset[2:], dataset.filter_labels("masks", fo.ViewField("label") == "object")):
        with pytest.raises(LabelFieldError, match="did not make"):
            enrich(view, "masks", model=model, conf=0.5)
    assert enrich(dataset[:2], "masks", model=model, conf=0.5).done == 2
    assert dataset.last().masks.detections[-1].label == "drawn"


def test_a_bad_file_has_a_reason_and_stops_nothing(
    make_dataset: Callable[..., Any], image_paths: list[Path], tmp_path: Path, model: FastSAM
) -> None:
    corrupt = tmp_path / "corrupt.png"
    corrupt.write_bytes(image_paths[0].read_bytes()[:60])
    dataset = make_dataset(paths=[image_paths[0], tmp_path / "missing.png", corrupt, image_paths[1]])
    report = enrich(dataset, "masks", model=model)
    assert (report.done, report.failed) == (2, 2)
    reasons = dataset.values("masks_error")
    assert [reason is None for reason in reasons] == [True, False, False, True]
    assert reasons[1].startswith("ImageNotFoundError:")
    assert reasons[2].startswith("ImageReadError:")
    assert [label is None for label in dataset.values("masks")] == [False, True, True, False]
    assert dataset.load_saved_view("fastsam: failed").values("filepath") == [
        str(tmp_path / "missing.png"),
        str(corrupt),
    ]
    assert len(dataset.load_saved_view("fastsam: done")) == 2
    corrupt.write_bytes(image_paths[2].read_bytes())
    assert enrich(dataset, "masks", model=model).done == 1
    assert dataset.values("masks_error")[2] is None


def test_failures_are_raised_on_request(
    make_dataset: Callable[..., Any], tmp_path: Path, image_paths: list[Path], model: FastSAM
) -> None:
    corrupt = tmp_path / "corrupt.png"
    corrupt.write_bytes(b"not an image")
    dataset = make_dataset(paths=[image_paths[0], corrupt])
    with pytest.raises(ImageReadError):
        enrich(dataset, "masks", model=model, skip_failures=False)
    assert dataset.first().masks is not None


def test_nothing_found_is_not_the_same_as_not_done(dataset: Any, model: FastSAM) -> None:
    enrich(dataset[:1], "masks", model=model, conf=1.0)
    assert dataset.first().masks.detections == []
    assert dataset.last().masks is None


def test_stopping_keeps_what_is_done(dataset: Any, model: FastSAM) -> None:
    steps = iter_enrich(dataset, "masks", model=model, prefetch=0)
    for step in steps:
        assert dataset[step.sample_id].masks is not None
        break
    steps.close()  # type: ignore[attr-defined]
    done = len(dataset.exists("masks"))
    assert done >= 1
    assert enrich(dataset, "masks", model=model).done == 3 - done


def test_steps_count_up(dataset: Any, model: FastSAM) -> None:
    steps = list(iter_enrich(dataset, "masks", model=model))
    assert [(step.done, step.total) for step in steps] == [(1, 3), (2, 3), (3, 3)]
    assert [step.sample_id for step in steps] == dataset.values("id")


def test_the_dataset_remembers_how(dataset: Any, model: FastSAM) -> None:
    report = enrich(dataset, "masks", model=model)
    config = dataset.get_run_info("fastsam_masks").config
    assert (config.digest, config.asked_model, config.asked_conf) == (report.digest, "fake", 0.4)
    assert dataset.load_run_results("fastsam_masks").done == 3
    assert "FastSAM" in dataset.get_field("masks").description
    assert dataset.get_field("masks").info["fastsam"]["digest"] == report.digest


def test_a_renamed_field_is_remembered_when_nothing_is_left_to_do(dataset: Any, model: FastSAM) -> None:
    enrich(dataset, "masks", model=model)
    dataset.rename_sample_field("masks", "things")
    assert enrich(dataset, "things", model=model).skipped == 3
    assert dataset.get_run_info("fastsam_things").config.asked_model == "fake"
    results = dataset.load_run_results("fastsam_things")
    assert (results.done, results.failed, results.skipped) == (0, 0, 3)
    assert len(dataset.load_saved_view("fastsam: done")) == 3
    dataset.set_values("foreign", [fo.Detections() for _ in dataset])
    enrich(dataset, "foreign", model=model, existing="skip")
    assert not dataset.has_run("fastsam_foreign")


def test_in_tiles(dataset: Any, model: FastSAM, network: FakeNetwork) -> None:
    whole = enrich(dataset, "masks", model=model)
    assert network.calls == 3
    tiled = enrich(dataset, "masks", model=model, tile_px=96, overlap_px=64)
    assert (tiled.done, network.calls) == (3, 3 + 3 * (1 + 2))  # the whole image, and two tiles
    assert whole.digest != tiled.digest
    info = dataset.get_field("masks").info["fastsam"]
    assert (info["tile_px"], info["overlap_px"]) == (96, 64)
    assert enrich(dataset, "masks", model=model).done == 3


@pytest.mark.parametrize("output", ["instances", "map"])
def test_masks_are_told_apart_by_colour_unless_there_is_a_scheme(
    make_dataset: Callable[..., Any], model: FastSAM, output: str
) -> None:
    plain, chosen = make_dataset(1), make_dataset(1)
    chosen.app_config.color_scheme = fo.ColorScheme(color_by="value")
    chosen.save()
    for dataset in (plain, chosen):
        enrich(dataset, "masks", model=model, output=output)
        dataset.reload()
    assert plain.app_config.color_scheme.color_by == "instance"
    assert chosen.app_config.color_scheme.color_by == "value"


def test_a_map_instead_of_instances(dataset: Any, model: FastSAM, known_masks: Masks) -> None:
    enrich(dataset, "map", model=model, output="map")
    mask = dataset.first().map.mask
    np.testing.assert_array_equal(mask, known_masks.to_label_map())
    assert mask.dtype == np.uint8
    assert enrich(dataset, "map", model=model, output="map").done == 0


@pytest.mark.parametrize("declared", [False, True])
def test_maps_cannot_be_appended_to(dataset: Any, model: FastSAM, declared: bool) -> None:
    if declared:
        enrich(dataset, "map", model=model, output="map")
    before = dataset.values("map.mask") if declared else None
    with pytest.raises(InvalidParameterError, match="Maps cannot be appended to"):
        enrich(dataset, "map", model=model, output="map", existing="append")
    assert (dataset.get_field("map") is not None) is declared
    if before is not None:
        np.testing.assert_array_equal(dataset.values("map.mask"), before)


@pytest.mark.parametrize("kind", [_writers.DirectWriter, _writers.SdkWriter])
def test_writers_never_put_maps_into_detections(dataset: Any, model: FastSAM, kind: type[_writers.Writer]) -> None:
    enrich(dataset[:1], "map", model=model, output="map")
    sample = dataset.last()
    item = Item(sample._id, sample.filepath)
    writer = kind(open_target(dataset, "map"), "run", append=True)
    assert writer.write([Result(item, map=np.ones((4, 4), np.uint8))]) == set()
    sample.reload()
    assert isinstance(sample.map, fo.Segmentation)
    assert sample.map.mask.all()


def stored_bytes(dataset: Any, path: str = "$ROOT") -> int:
    """Return the size of the first sample's document, or of what is in it."""
    measured = {"size": {"$bsonSize": {"a": f"${path}"}}}
    found = dataset._sample_collection.aggregate([{"$limit": 1}, {"$project": measured}])
    return int(found.next()["size"])


def leave_room_for_halves(dataset: Any, masks: Masks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make MongoDB's limit so low that masks fit into the first sample at half their resolution only."""
    halves = [_oversize._subsampled(instance, 2, 0.5) for instance in _convert.instances_of(masks)]
    stages = [{"$limit": 1}, {"$project": {"size": {"$bsonSize": "$$ROOT"}}}]
    stored = dataset._sample_collection.aggregate(stages).next()["size"]
    room = stored + _oversize._size([_writers.encode(instance) for instance in halves])
    monkeypatch.setattr(_oversize, "DOCUMENT_BYTES", _oversize._SPARE_BYTES + room)


@pytest.mark.parametrize("way", ["shrink", "files", "top_k", "fail"])
def test_masks_that_do_not_fit(
    dataset: Any, model: FastSAM, known_masks: Masks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
) -> None:
    leave_room_for_halves(dataset, known_masks, monkeypatch)
    report = enrich(dataset[:1], "masks", model=model, on_oversize=way, mask_dir=tmp_path, stability=False)
    label = dataset.first().masks
    if way == "fail":
        assert report.failed == 1
        assert "DocumentTooLarge" in dataset.first().masks_error
        return
    assert report.done == 1
    if way == "top_k":
        best = sorted(known_masks.scores, reverse=True)[: len(label.detections)]
        assert 0 < len(label.detections) < len(known_masks)
        np.testing.assert_allclose([d.confidence for d in label.detections], best)
    elif way == "shrink":
        assert {d.mask_scale for d in label.detections} == {0.5}
        iou = np.diag(found_in(dataset.first(), known_masks).iou(known_masks))
        assert iou.min() > 0.5
    else:
        assert all(d.mask is None for d in label.detections)
        back = found_in(dataset.first(), known_masks)
        np.testing.assert_array_equal(back.to_dense(), known_masks.to_dense())


@pytest.mark.parametrize("way", ["shrink", "top_k"])
def test_each_prompt_keeps_its_answer_when_masks_do_not_fit(
    dataset: Any, model: FastSAM, known_masks: Masks, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    prompts = [
        fo.Detection(label=str(i), bounding_box=found.bounding_box)
        for i, found in enumerate(_convert.instances_of(known_masks))
    ]
    sample = dataset.first()
    sample["gt"] = fo.Detections(detections=prompts)
    sample.save()
    monkeypatch.setattr(_oversize, "_subsampled", lambda instance, *_: instance)  # no resolution is low enough
    options: dict[str, Any] = {"model": model, "box_prompt_field": "gt", "stability": False, "on_oversize": way}
    enrich(dataset[:1], "masks", **options)
    whole = stored_bytes(dataset, "masks.detections")
    monkeypatch.setattr(_oversize, "DOCUMENT_BYTES", _oversize._SPARE_BYTES + stored_bytes(dataset) - whole // 4)
    assert enrich(dataset[:1], "masks", existing="overwrite", **options).failed == 0
    found = dataset.first().masks.detections
    assert [(d.id, d.label) for d in found] == [(d.id, d.label) for d in prompts]
    assert 0 < sum(d.mask is not None for d in found) < len(found)
    assert [d.matched for d in found] == [d.mask is not None for d in found]
    assert [d.fit for d in found if d.mask is None] == [0.0] * sum(d.mask is None for d in found)
    least = min(d.confidence for d in found if d.mask is not None)
    dropped = [k for k, d in enumerate(found) if d.mask is None]
    assert known_masks.scores[dropped].max() <= least
    assert [found[k].bounding_box for k in dropped] == [prompts[k].bounding_box for k in dropped]


@pytest.mark.parametrize("asked", [[0], [0, 1, 2]])
def test_there_is_room_for_answers_that_stay(
    dataset: Any, model: FastSAM, known_masks: Masks, monkeypatch: pytest.MonkeyPatch, asked: list[int]
) -> None:
    boxes = [found.bounding_box for found in _convert.instances_of(known_masks)[:3]]
    sample = dataset.first()
    sample["gt"] = fo.Detections(detections=[fo.Detection(label="a", bounding_box=box) for box in boxes])
    sample.save()
    ids = [box.id for box in sample.gt.detections]
    options: dict[str, Any] = {"model": model, "box_prompt_field": "gt", "stability": False, "on_oversize": "fail"}
    enrich(dataset[:1], "masks", prompt_ids=ids, **options)
    monkeypatch.setattr(_oversize, "DOCUMENT_BYTES", _oversize._SPARE_BYTES + stored_bytes(dataset))
    chosen = [ids[i] for i in asked]
    report = enrich(dataset[:1], "masks", min_iou=0.1, prompt_ids=chosen, **options)
    assert report.failed == (len(chosen) < len(ids))  # all of what is there counts then


def test_fields_that_share_a_folder_keep_their_mask_files(
    dataset: Any,
    model: FastSAM,
    network: FakeNetwork,
    known_masks: Masks,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    other_network = copy.copy(network)
    other_network.head = synthetic_head(4, known_masks.image_hw, 128, seed=4)
    other = FastSAM(other_network, model.info)
    for field, finder in (("one", model), ("two", other)):
        leave_room_for_halves(dataset, finder.segment(dataset.first().filepath), monkeypatch)
        enrich(dataset[:1], field, model=finder, on_oversize="files", mask_dir=tmp_path, stability=False)
        assert all(d.mask is None for d in dataset.first()[field].detections)
    back = found_in(dataset.first(), known_masks, "one")
    np.testing.assert_array_equal(back.to_dense(), known_masks.to_dense())


def test_mask_files_of_answers_that_stay_are_kept(
    dataset: Any, model: FastSAM, known_masks: Masks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_oversize, "_size", lambda encoded: 2**30 * any("mask" in label for label in encoded))
    boxes = [found.bounding_box for found in _convert.instances_of(known_masks)[:2]]
    labels = [fo.Detection(label=name, bounding_box=box) for name, box in zip("ab", boxes, strict=True)]
    dataset.set_values("gt", [fo.Detections(detections=labels)] * len(dataset))
    options: dict[str, Any] = {"model": model, "box_prompt_field": "gt", "on_oversize": "files", "mask_dir": tmp_path}
    for name in "ba":  # of one configuration
        enrich(dataset.filter_labels("gt", fo.ViewField("label") == name), "masks", **options)
    found = dataset.first().masks.detections
    assert [d.label for d in found] == ["a", "b"]
    assert len({d.mask_path for d in found}) == 2
    back = found_in(dataset.first(), known_masks)
    np.testing.assert_array_equal(back.iou(known_masks).argmax(axis=1), [0, 1])


def test_the_folder_of_mask_files_may_be_told_from_the_home(
    dataset: Any, model: FastSAM, known_masks: Masks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    leave_room_for_halves(dataset, known_masks, monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    enrich(dataset[:1], "masks", model=model, on_oversize="files", mask_dir="~/masks", stability=False)
    paths = [Path(d.mask_path) for d in dataset.first().masks.detections]
    assert paths
    assert all(path.is_file() and path.is_relative_to(tmp_path / "home" / "masks") for path in paths)


def test_mask_files_that_no_label_refers_to_are_found(
    dataset: Any, model: FastSAM, known_masks: Masks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    leave_room_for_halves(dataset, known_masks, monkeypatch)
    options: dict[str, Any] = {"model": model, "on_oversize": "files", "mask_dir": tmp_path, "stability": False}
    enrich(dataset[:1], "masks", **options)
    (tmp_path / "masks" / "drawn.png").touch()  # somebody else's
    first = sorted(Path(label.mask_path) for label in dataset.first().masks.detections)
    assert doctor.unused_mask_files(tmp_path) == []
    copied = dataset.clone(persistent=True)
    enrich(dataset[:1], "masks", conf=0.3, **options)
    assert doctor.unused_mask_files(tmp_path) == []
    copied.delete()
    assert doctor.unused_mask_files(tmp_path) == first
    (tmp_path / "masks").rename(tmp_path / "moved")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "moved").rename(tmp_path / "elsewhere" / "masks")
    assert len(doctor.unused_mask_files(tmp_path / "elsewhere")) == len(first)
    [told] = [each for each in doctor.diagnose(mask_dir=tmp_path / "elsewhere") if "mask file" in each.text]
    assert f"{len(first)} mask file" in told.text


def test_a_folder_that_takes_no_mask_files_is_told(
    dataset: Any, model: FastSAM, known_masks: Masks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    leave_room_for_halves(dataset, known_masks, monkeypatch)
    (tmp_path / "file").touch()
    report = enrich(dataset, "masks", model=model, on_oversize="files", mask_dir=tmp_path / "file", stability=False)
    assert (report.done, report.failed) == (0, 3)
    assert "OutputError: Cannot write" in dataset.first().masks_error


def test_in_memory_samples_see_what_was_written(dataset: Any, model: FastSAM) -> None:
    sample = dataset.first()
    enrich(dataset, "masks", model=model, writer="direct")
    assert len(sample.masks.detections) > 0


def test_options_are_checked(dataset: Any, model: FastSAM) -> None:
    with pytest.raises(InvalidParameterError, match="existing is unknown"):
        EnrichOptions(existing="maybe")  # type: ignore[arg-type]
    with pytest.raises(InvalidPromptError, match="one kind"):
        EnrichOptions(box_prompt_field="a", text="b")
    with pytest.raises(InvalidPromptError, match="empty"):
        EnrichOptions(text=["dog", " "])
    with pytest.raises(InvalidPromptError, match="empty"):
        EnrichOptions(text=[])
    with pytest.raises(InvalidPromptError, match="no name"):
        EnrichOptions(box_prompt_field="")
    for threshold in (-0.1, 7.0, float("nan"), "0.5"):
        with pytest.raises(InvalidParameterError, match="text_threshold"):
            EnrichOptions(text="dog", text_threshold=threshold)  # type: ignore[arg-type]
        with pytest.raises(InvalidParameterError, match="min_iou"):
            EnrichOptions(min_iou=threshold)  # type: ignore[arg-type]
    assert EnrichOptions(text="dog", negatives="cat").negatives == ("cat",)
    assert EnrichOptions(text=iter(["dog", "cat"])).texts == ("dog", "cat")  # type: ignore[arg-type]
    with pytest.raises(InvalidParameterError, match="folder"):
        EnrichOptions(on_oversize="files")
    with pytest.raises(InvalidParameterError, match="conf"):
        enrich(dataset, "masks", model=model, conf=2)
    with pytest.raises(InvalidPromptError, match="goes with words"):
        enrich(dataset, "masks", model=model, masks_field="others")
    with pytest.raises(InvalidParameterError, match="Embeddings"):
        enrich(dataset, "masks", model=model, embeddings=True, output="map")
    assert dataset.get_field("masks") is None


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("label", 7),  # FiftyOne could not read the dataset any more
        ("box_prompt_field", ["gt"]),
        ("mask_dir", 7),
        ("min_area_px", "7"),
        ("min_area_px", -1),
        ("text", 7),
        ("text", ["dog", 7]),
        ("negatives", None),
    ],
)
def test_options_of_other_kinds_are_refused(dataset: Any, model: FastSAM, option: str, value: Any) -> None:
    with pytest.raises((InvalidParameterError, InvalidPromptError), match=option):
        enrich(dataset, "masks", model=model, **{option: value})
    assert dataset.get_field("masks") is None
