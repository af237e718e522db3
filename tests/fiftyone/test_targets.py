"""Which datasets, views and fields can be enriched, and what is refused before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np
import pytest
import tifffile

from fiftyone_fastsam import enrich
from fiftyone_fastsam.errors import InvalidTargetError, LabelFieldError, NonPersistentDatasetWarning

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fastsam_core.model import FastSAM

WRITERS = ("direct", "sdk")


def test_bad_targets_are_refused(dataset: Any, model: FastSAM, make_dataset: Callable[..., Any]) -> None:
    for target, problem in [
        (dataset.match({"filepath": "none"}), "no samples"),
        ("no-such-dataset", f"no dataset 'no-such-dataset'. Expected: one of .*{dataset.name}"),
        (3, "no dataset or view"),
    ]:
        with pytest.raises(InvalidTargetError, match=problem):
            enrich(target, "masks", model=model)
    with pytest.raises(LabelFieldError, match="Actual: None"):
        enrich(dataset, None, model=model)  # type: ignore[arg-type]
    grouped = make_dataset(0)
    grouped.add_group_field("group", default="left")
    group = fo.Group()
    grouped.add_samples(
        [fo.Sample(filepath=f"/{side}.png", group=group.element(side)) for side in ("left", "right")], progress=False
    )
    with pytest.raises(InvalidTargetError, match="select_group_slices"):
        enrich(grouped, "masks", model=model)
    with pytest.raises(InvalidTargetError, match="flatten"):
        enrich(dataset.group_by("filepath"), "masks", model=model)
    with pytest.raises(InvalidTargetError, match=r"choose slices after flatten\(\)"):
        enrich(grouped.select_group_slices().group_by("filepath").flatten(), "masks", model=model)
    flat = grouped.group_by("filepath").flatten().select_group_slices()
    assert enrich(flat, "masks", model=model).failed == 2
    clouds = make_dataset(0)
    clouds.add_sample(fo.Sample(filepath="/a.pcd"))
    with pytest.raises(InvalidTargetError, match="images or videos"):
        enrich(clouds, "masks", model=model)


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")  # FiftyOne's, which pytest repeats
def test_non_persistent_datasets_are_warned_about(image_paths: list[Path], model: FastSAM) -> None:
    dataset = fo.Dataset()
    dataset.add_sample(fo.Sample(filepath=str(image_paths[0])))
    with pytest.warns(NonPersistentDatasetWarning, match="deletes it"):
        enrich(dataset, "masks", model=model)
    dataset.delete()


@pytest.mark.parametrize("key", [None, "$filepath", {"file": "$filepath"}])
def test_documents_that_are_no_samples_are_refused(dataset: Any, model: FastSAM, key: Any) -> None:
    made = dataset.mongo([{"$group": {"_id": key, "files": {"$push": "$filepath"}}}])
    with pytest.raises(InvalidTargetError, match="documents that are no samples"):
        enrich(made, "masks", model=model)
    assert "masks" not in dataset.get_field_schema()


def test_flattened_groups_are_enriched(
    make_dataset: Callable[..., Any], image_paths: list[Path], model: FastSAM
) -> None:
    grouped = make_dataset(0)
    grouped.add_group_field("group", default="left")
    group = fo.Group()
    grouped.add_samples(
        [
            fo.Sample(filepath=str(p), group=group.element(s))
            for p, s in zip(image_paths, ("left", "right"), strict=False)
        ],
        progress=False,
    )
    assert enrich(grouped.select_group_slices("right"), "masks", model=model).done == 1
    assert grouped.select_group_slices("right").first().masks is not None
    assert grouped.select_group_slices("left").first().masks is None


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("grouped", [False, True])
def test_files_of_microscopes_and_slides_are_images(
    make_dataset: Callable[..., Any],
    image_paths: list[Path],
    model: FastSAM,
    tmp_path: Path,
    writer: str,
    grouped: bool,
) -> None:
    tifffile.imwrite(tmp_path / "a.svs", np.full((96, 128, 3), 90, np.uint8), tile=(16, 16), photometric="rgb")
    (tmp_path / "a.czi").write_bytes(b"no image")
    paths = [tmp_path / "a.svs", tmp_path / "a.czi"]
    slides = make_dataset(0 if grouped else 2, None if grouped else paths)
    if grouped:
        slides.add_group_field("group", default="picture")
        for path in paths:
            group = fo.Group()
            elements = (group.element("picture"), group.element("slide"))
            pictured = zip((image_paths[0], path), elements, strict=True)
            slides.add_samples([fo.Sample(filepath=str(file), group=each) for file, each in pictured], progress=False)
        with pytest.raises(InvalidTargetError, match=r"mixed\. Remedy: .*media_type='image'"):
            enrich(slides.select_group_slices(_allow_mixed=True), "masks", model=model)
    chosen = slides.select_group_slices("slide") if grouped else slides
    assert chosen.media_type == "unknown"  # to FiftyOne
    report = enrich(chosen, "masks", model=model, writer=writer)
    assert (report.done, report.failed) == (1, 1)
    readable, broken = slides.load_saved_view("fastsam: done"), slides.load_saved_view("fastsam: failed")
    assert (readable.values("filepath"), broken.values("filepath")) == ([str(paths[0])], [str(paths[1])])
    assert readable.first().masks.detections


def test_saved_views_of_others_stay(dataset: Any, model: FastSAM) -> None:
    dataset.save_view("FastSAM failed", dataset[:1])  # to FiftyOne the same as "fastsam: failed"
    for threshold in (0.4, 0.5):
        enrich(dataset, "masks", model=model, conf=threshold)
        assert sorted(dataset.list_saved_views()) == ["FastSAM failed", "fastsam: done"]
    assert len(dataset.load_saved_view("FastSAM failed")) == 1


@pytest.fixture
def pairs(make_dataset: Callable[..., Any], image_paths: list[Path]) -> Any:
    """Return a dataset of one group, whose slices have boxes of different classes, one without an image."""
    grouped = make_dataset(0)
    grouped.add_group_field("group", default="left")
    paths = {"left": image_paths[0], "right": image_paths[1], "broken": "/missing.png"}
    group = fo.Group()
    for side, path in paths.items():
        boxes = fo.Detections(detections=[fo.Detection(label=side, bounding_box=[0.1, 0.1, 0.5, 0.5])])
        grouped.add_sample(fo.Sample(filepath=str(path), group=group.element(side), boxes=boxes))
    return grouped


@pytest.mark.parametrize("writer", WRITERS)
def test_all_slices_of_groups_are_written_and_shown(pairs: Any, model: FastSAM, writer: str) -> None:
    flat = pairs.select_group_slices()
    report = enrich(flat, "masks", model=model, writer=writer)
    assert (report.done, report.failed) == (2, 1)
    by_side = {sample.group.name: sample for sample in flat}
    assert {side: sample.masks is not None for side, sample in by_side.items()} == {
        "left": True,
        "right": True,
        "broken": False,
    }
    assert by_side["broken"].masks_error is not None
    shown = {name: [s.group.name for s in pairs.load_saved_view(name)] for name in pairs.list_saved_views()}
    assert shown == {"fastsam: done": ["left", "right"], "fastsam: failed": ["broken"]}


def test_classes_of_all_slices_of_groups_have_values(pairs: Any, model: FastSAM) -> None:
    report = enrich(pairs.select_group_slices(), "map", model=model, box_prompt_field="boxes", output="map")
    assert (report.done, report.failed) == (2, 1)
    assert {"left", "right"} <= set(pairs.mask_targets["map"].values())


def test_views_that_choose_groups_before_slices_prompt(
    make_dataset: Callable[..., Any], image_paths: list[Path], model: FastSAM
) -> None:
    grouped = make_dataset(0)
    grouped.add_group_field("group", default="left")
    for k, path in enumerate(image_paths[:3]):
        group = fo.Group()
        for side in ("left", "right"):
            boxes = [fo.Detection(label=label, bounding_box=[0, 0, 1, 1]) for label in ("cat", "dog")]
            sample = fo.Sample(filepath=str(path), group=group.element(side), number=k)
            sample["boxes"] = fo.Detections(detections=boxes)
            grouped.add_sample(sample)
    chosen = grouped.match(fo.ViewField("number") > 0).select_group_slices("right")
    options: dict[str, Any] = {"model": model, "box_prompt_field": "boxes"}
    cats = chosen.filter_labels("boxes", fo.ViewField("label") == "cat")
    for view, done in ((cats, 2), (cats, 0), (chosen, 2), (cats, 0), (chosen, 0)):
        report = enrich(view, "masks", **options)
        assert (report.done, report.gone, report.skipped) == (done, 0, 2 - done)
    assert grouped.select_group_slices().exists("masks").values("id") == chosen.values("id")
    sample = chosen.last()
    sample.boxes.detections[0].bounding_box = [0, 0, 0.5, 1]
    sample.save()
    assert enrich(cats, "masks", **options).done == 1
    assert [label.label for label in chosen.last().masks.detections] == ["cat", "dog"]


@pytest.mark.parametrize("writer", WRITERS)
def test_views_that_were_looked_at_show_the_masks(dataset: Any, model: FastSAM, writer: str) -> None:
    """FiftyOne's views keep what they read samples with; a reloaded dataset reads them with something else."""
    views = [dataset[:2], dataset.skip(1), dataset.view()]
    assert [len([sample.filepath for sample in view]) for view in views] == [2, 2, 3]
    enrich(views[0], "masks", model=model, writer=writer)
    assert [sum(sample.masks is not None for sample in view) for view in views] == [2, 1, 2]


def test_views_that_were_looked_at_know_what_other_programs_add(dataset: Any, model: FastSAM) -> None:
    dataset.set_values("note", ["a", "b", "c"])
    view = dataset[:2]
    assert [sample.note for sample in view] == ["a", "b"]
    note = next(each for each in _stored_fields(dataset) if each["name"] == "note")
    query, others = {"_id": dataset._doc.id}, {"sample_fields": {**note, "name": "other", "db_field": "other"}}
    dataset._sample_collection.database.datasets.update_one(query, {"$push": others})
    dataset._sample_collection.update_many({}, {"$set": {"other": "x"}})
    assert enrich(view, "masks", model=model).done == 2
    assert [(sample.other, sample.masks is not None) for sample in view] == [("x", True)] * 2


def test_fields_that_another_program_adds_are_known(dataset: Any, model: FastSAM) -> None:
    enrich(dataset, "masks", model=model)
    theirs = {each["name"]: each for each in _stored_fields(dataset)}["masks_error"]
    datasets, query = dataset._sample_collection.database.datasets, {"_id": dataset._doc.id}
    datasets.update_one(query, {"$push": {"sample_fields": {**theirs, "name": "note", "db_field": "note"}}})
    dataset.list_runs()  # FiftyOne reads the list of fields anew here, but uses the former one
    with pytest.raises(LabelFieldError, match="'note' has another type"):
        enrich(dataset, "note", model=model)
    read_only = {"$set": {"sample_fields.$[each].read_only": True}}
    datasets.update_one(query, read_only, array_filters=[{"each.name": "masks"}])
    with pytest.raises(LabelFieldError, match="read-only"):
        enrich(dataset, "masks", model=model, conf=0.7)
    datasets.update_one(query, {"$pull": {"sample_fields": {"name": "note"}}})
    enrich(dataset, "note", model=model)
    assert len(dataset.exists("note")) == 3


def _stored_fields(dataset: Any) -> list[dict[str, Any]]:
    found = dataset._sample_collection.database.datasets.find_one({"_id": dataset._doc.id})
    fields: list[dict[str, Any]] = found["sample_fields"]
    return fields


def test_views_of_places_prompt(dataset: Any, model: FastSAM) -> None:
    for k, sample in enumerate(dataset):
        sample["location"] = fo.GeoLocation(point=[k, 0])
        sample["boxes"] = fo.Detections(detections=[fo.Detection(label="cat", bounding_box=[0, 0, 1, 1])])
        sample.save()
    dataset._sample_collection.create_index([("location.point", "2dsphere")])
    near = dataset.geo_near([3, 0], location_field="location", max_distance=250_000)
    options: dict[str, Any] = {"model": model, "box_prompt_field": "boxes"}
    assert [enrich(near, "masks", **options).done for _ in range(2)] == [2, 0]
    assert len(dataset.exists("masks")) == 2


@pytest.mark.parametrize("name", ["filepath", "id", "tags", "a.b", "_x", "not a name", "save", ""])
def test_names_that_cannot_be_fields(dataset: Any, model: FastSAM, name: str) -> None:
    with pytest.raises(LabelFieldError):
        enrich(dataset, name, model=model)


def test_images_have_no_fields_of_frames(dataset: Any, model: FastSAM) -> None:
    with pytest.raises(LabelFieldError, match="name it 'masks'"):
        enrich(dataset, "frames.masks", model=model)
    assert dataset.get_field("masks") is None


def test_fields_of_another_type(dataset: Any, model: FastSAM) -> None:
    dataset.add_sample_field("note", fo.StringField)
    with pytest.raises(LabelFieldError, match="another type"):
        enrich(dataset, "note", model=model)


def test_read_only_fields_are_left_alone(dataset: Any, model: FastSAM) -> None:
    enrich(dataset, "masks", model=model)
    field = dataset.get_field("masks")
    field.read_only = True
    field.save()
    made = dataset.values("masks.fastsam_run")
    with pytest.raises(LabelFieldError, match="read-only"):
        enrich(dataset, "masks", model=model, conf=0.7)
    assert dataset.values("masks.fastsam_run") == made
    dataset.get_field("masks").read_only = False


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("existing", ["append", "skip", "overwrite"])
@pytest.mark.parametrize(
    ("name", "value"), [("quality", "good"), ("stability", True), ("area_px", "large"), ("fit", "tight"), ("age", 3)]
)
def test_attributes_of_another_type_are_left_alone(
    dataset: Any, model: FastSAM, name: str, value: Any, existing: str, declared: bool
) -> None:
    mine = fo.Detection(label="mine", bounding_box=[0, 0, 0.5, 0.5], **{name: value})
    box = fo.Detection(label="box", bounding_box=[0, 0, 0.5, 0.5], age="old")
    sample = dataset.last()
    sample["gt"], sample["boxes"] = fo.Detections(detections=[mine]), fo.Detections(detections=[box])
    sample.save()
    if declared:
        dataset.add_dynamic_sample_fields()
    else:
        dataset.add_sample_field("boxes.detections.age", fo.StringField)
    schema = sorted(dataset.get_field_schema(flat=True))
    with pytest.raises(LabelFieldError, match="what is told of each mask"):
        enrich(dataset, "gt", model=model, existing=existing, box_prompt_field="boxes")
    assert sorted(dataset.get_field_schema(flat=True)) == schema
    sample.gt.detections[0].label = "renamed"
    sample.save()
    assert dataset.values("gt.detections.label") == [None, None, ["renamed"]]


def test_numbers_of_either_type_are_numbers(dataset: Any, model: FastSAM) -> None:
    sample = dataset.first()
    mine = fo.Detection(label="mine", bounding_box=[0, 0, 0.5, 0.5], quality=1, area_px=3.0)
    sample["gt"] = fo.Detections(detections=[mine])
    sample.save()
    dataset.add_dynamic_sample_fields()
    assert enrich(dataset, "gt", model=model, existing="append").done == 3
    sample.reload()
    sample.gt.detections[-1].label = "renamed"
    sample.save()


@pytest.mark.parametrize("writer", WRITERS)
def test_a_field_of_the_reasons_name_is_left_alone(dataset: Any, model: FastSAM, writer: str) -> None:
    dataset.set_values("masks_error", [0.1, 0.2, 0.3])
    with pytest.raises(LabelFieldError, match="masks_error"):
        enrich(dataset, "masks", model=model, writer=writer)
    assert dataset.values("masks_error") == [0.1, 0.2, 0.3]
    assert dataset.get_field("masks") is None


def test_a_field_of_the_reasons_that_may_not_be_written(dataset: Any, model: FastSAM) -> None:
    dataset.add_sample_field("masks_error", fo.StringField)
    field = dataset.get_field("masks_error")
    field.read_only = True
    field.save()
    with pytest.raises(LabelFieldError, match="read-only"):
        enrich(dataset, "masks", model=model)
    assert dataset.get_field("masks") is None


def test_maps_whose_classes_are_colours(dataset: Any, model: FastSAM) -> None:
    dataset.mask_targets = {"map": {"#ff0000": "cat"}}
    with pytest.raises(LabelFieldError, match="are colours"):
        enrich(dataset, "map", model=model, text="red", output="map")
    assert dataset.get_field("map") is None
