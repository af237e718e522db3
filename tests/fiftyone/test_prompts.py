"""Labels that prompt: one answer each, in order, with everything that the label carried."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np
import pytest
from bson import ObjectId

from fastsam_core.checkpoints import ModelInfo
from fastsam_core.errors import InvalidPromptError
from fastsam_core.masks import Masks
from fastsam_core.model import FastSAM
from fiftyone_fastsam import EnrichOptions, FastSAMModel, _queue, enrich, iter_enrich, masks_from_detections
from fiftyone_fastsam._answers import answer, prompts_digest, prompts_in, semantic_map
from fiftyone_fastsam._convert import Instance
from fiftyone_fastsam._items import Item
from fiftyone_fastsam._target import declare_schema, open_target
from fiftyone_fastsam._writers import DirectWriter, Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fiftyone.conftest import FakeNetwork

NAN = math.nan
BOXES = EnrichOptions(box_prompt_field="gt")
POINTS = EnrichOptions(point_prompt_field="clicks")


@pytest.fixture
def two_squares() -> Masks:
    """Return masks of a 20 × 40 image: rows 2-9 × columns 4-11, and rows 10-17 × columns 20-35."""
    stack = np.zeros((2, 20, 40), bool)
    stack[0, 2:10, 4:12] = True
    stack[1, 10:18, 20:36] = True
    return Masks.from_dense(stack, scores=[0.5, 0.75])


def test_each_box_has_one_answer_in_order(two_squares: Masks) -> None:
    prompts = [
        {"_id": 1, "label": "b", "bounding_box": [0.5, 0.5, 0.4, 0.4], "tags": ["t"], "weather": "sun"},
        {"_id": 2, "label": "none", "bounding_box": [0.0, 0.0, 0.05, 0.05]},
        {"_id": 3, "label": "a", "bounding_box": [0.1, 0.1, 0.2, 0.4], "confidence": 0.25},
        {"_id": 4, "label": "b", "bounding_box": [0.5, 0.5, 0.4, 0.4]},
    ]
    found = answer(two_squares, prompts, BOXES)
    assert [i.id for i in found] == [1, 2, 3, 4]
    assert [i.label for i in found] == ["b", "none", "a", "b"]
    assert [i.attributes["matched"] for i in found] == [True, False, True, True]
    assert [i.attributes["fit"] for i in found] == [1.0, 0.0, 1.0, 1.0]
    assert [i.confidence for i in found] == [0.75, None, 0.25, 0.75]
    assert (found[0].tags, found[0].attributes["weather"], found[0].attributes["area_px"]) == (["t"], "sun", 128)
    assert (found[1].mask, found[1].bounding_box) == (None, [0.0, 0.0, 0.05, 0.05])
    assert found[2].mask is not None
    assert found[2].mask.shape == (8, 8)


@pytest.mark.parametrize(("given", "stored"), [(1, 1.0), (0, 0.0), (0.25, 0.25), (True, 0.5), ("sure", 0.5)])
def test_a_confidence_without_decimals_is_one_as_well(two_squares: Masks, given: Any, stored: float) -> None:
    prompts = [{"label": "a", "bounding_box": [0.1, 0.1, 0.2, 0.4], "confidence": given}]
    [found] = answer(two_squares, prompts, BOXES)
    assert found.confidence == stored
    assert isinstance(found.confidence, float)


@pytest.mark.parametrize(
    "box", [None, [], [0.1, 0.1, NAN, 0.1], [0.1, 0.1, 0.0, 0.1], [0.5, 0.5, -0.2, 0.1], [5, 5, 1, 1], ["a"] * 4]
)
def test_boxes_that_are_none_or_out_of_range_match_nothing(two_squares: Masks, box: Any) -> None:
    prompts = [{"label": "x", "bounding_box": box}, {"label": "a", "bounding_box": [0.1, 0.1, 0.2, 0.4]}]
    found = answer(two_squares, prompts, BOXES)
    assert [i.attributes["matched"] for i in found] == [False, True]
    assert all(math.isfinite(value) for value in found[0].bounding_box)


def test_a_poor_fit_is_no_match(two_squares: Masks) -> None:
    prompts = [{"label": "a", "bounding_box": [0.1, 0.1, 0.2, 0.8]}]
    assert answer(two_squares, prompts, BOXES)[0].attributes["fit"] == 0.5
    strict = EnrichOptions(box_prompt_field="gt", min_iou=0.6)
    assert answer(two_squares, prompts, strict)[0].attributes == {"matched": False, "fit": 0.0}


def test_keypoints_pick_masks_and_negatives_avoid_them(two_squares: Masks) -> None:
    both = Masks.concatenate([two_squares, two_squares.union()])
    near, far = [0.2, 0.3], [0.7, 0.7]
    prompts = [
        {"_id": 1, "label": "one", "points": [near, [NAN, NAN]]},
        {"_id": 2, "label": "both", "points": [near, far]},
        {"_id": 3, "label": "negative", "points": [far, near], "sam_labels": [1, 0]},
        {"_id": 4, "label": "off", "points": [[0.99, 0.01]]},
        {"_id": 5, "label": "nothing", "points": [[NAN, NAN]]},
        {"_id": 6, "label": "only negative", "points": [near], "sam_labels": [0]},
        {"_id": 7, "label": "empty", "points": []},
    ]
    found = answer(both, prompts, replace(POINTS, level="part"))
    areas = [None if i.mask is None else int(i.mask.sum()) for i in found]
    assert areas == [64, 192, 128, None, None, None, None]
    assert [i.attributes["matched"] for i in found] == [True] * 3 + [False] * 4
    assert "sam_labels" not in found[2].attributes
    assert found[3].bounding_box == [0.99, 0.01, 0.0, 0.0]
    assert found[4].bounding_box == [0.0] * 4


@pytest.mark.parametrize("signs", [[1, 0], np.array([1, 0]), np.array([1.0, 0.0], np.float32)])
def test_points_are_negative_in_lists_and_arrays(two_squares: Masks, signs: Any) -> None:
    both = Masks.concatenate([two_squares, two_squares.union()])
    point = fo.Keypoint(label="a", points=[[0.7, 0.7], [0.2, 0.3]], sam_labels=signs)
    [found] = answer(both, prompts_in(fo.Keypoints(keypoints=[point]).to_dict()), POINTS)
    assert found.mask is not None
    assert found.mask.sum() == 128


def test_points_whose_sides_cannot_be_read_have_a_reason(dataset: Any, model: FastSAM) -> None:
    points = [fo.Keypoints(keypoints=[fo.Keypoint(points=[[0.5, 0.5]], sam_labels=signs)]) for signs in (1, [1], None)]
    dataset.set_values("clicks", points)
    report = enrich(dataset, "masks", model=model, point_prompt_field="clicks")
    assert (report.done, report.failed) == (2, 1)
    assert "a list with 0 or 1" in dataset.first().masks_error


def test_single_labels_prompt_as_well() -> None:
    assert prompts_in(None) == []
    assert prompts_in({"_cls": "Detections", "detections": []}) == []
    assert [p["label"] for p in prompts_in({"_cls": "Detection", "label": "a"})] == ["a"]
    assert [p["label"] for p in prompts_in({"_cls": "Keypoints", "keypoints": [{"label": "b"}]})] == ["b"]


def test_maps_take_the_values_of_classes(two_squares: Masks) -> None:
    prompts = [
        {"label": "a", "bounding_box": [0.1, 0.1, 0.2, 0.4]},
        {"label": "b", "bounding_box": [0.5, 0.5, 0.4, 0.4]},
    ]
    options = EnrichOptions(box_prompt_field="gt", output="map")
    painted = semantic_map(two_squares, answer(two_squares, prompts, options), options, {"a": 7, "b": 9})
    np.testing.assert_array_equal(painted, two_squares.to_label_map([7, 9]))


@pytest.mark.parametrize("writer", ["direct", "sdk"])
def test_ground_truth_boxes_get_their_masks(
    dataset: Any, model: FastSAM, network: FakeNetwork, known_masks: Masks, writer: str
) -> None:
    height, width = known_masks.image_hw
    first, second, third = dataset
    x0, y0, x1, y1 = known_masks.extents_xyxy[2].tolist()
    prompt = fo.Detection(
        label="cat", bounding_box=[x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height], tags=["keep"], age=3
    )
    first["gt"] = fo.Detections(detections=[prompt, fo.Detection(label="dog", bounding_box=[0, 0, 1e-3, 1e-3])])
    second["gt"] = fo.Detections()
    for sample in (first, second):
        sample.save()
    dataset.add_dynamic_sample_fields()
    report = enrich(dataset, "masks", model=model, box_prompt_field="gt", writer=writer)
    assert (report.done, report.masks, network.calls) == (3, 1, 1)  # nothing to ask, nothing to compute
    first.reload()
    cat, dog = first.masks.detections
    assert (cat.id, cat.label, cat.tags, cat.age, cat.matched) == (prompt.id, "cat", ["keep"], 3, True)
    np.testing.assert_array_equal(
        masks_from_detections(fo.Detections(detections=[cat]), (height, width)).to_dense()[0], known_masks.to_dense()[2]
    )
    assert (dog.matched, dog.mask, dog.fit) == (False, None, 0.0)
    for sample in dataset.skip(1):
        assert sample.masks.detections == []
    assert "masks.detections.age" in dataset.get_field_schema(flat=True)
    assert third.masks is not None


def test_prompts_choose_among_masks_too_faint_to_be_shown(
    dataset: Any, network: FakeNetwork, known_masks: Masks
) -> None:
    """A model that shows nothing, as it asks for more confidence than any mask has."""
    model = FastSAM(network, ModelInfo(name="fake", imgsz=128, conf=0.999, iou=0.9))
    height, width = known_masks.image_hw
    x0, y0, x1, y1 = known_masks.extents_xyxy[2].tolist()
    y, x = np.argwhere(known_masks.to_dense()[2])[0]
    box = [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]
    for sample in dataset:
        sample["gt"] = fo.Detections(detections=[fo.Detection(label="cat", bounding_box=box)])
        click = [(x + 0.5) / width, (y + 0.5) / height]
        sample["clicks"] = fo.Keypoints(keypoints=[fo.Keypoint(label="k", points=[click])])
        sample.save()
    assert enrich(dataset, "everything", model=model).masks == 0
    steps = list(iter_enrich(dataset, "boxed", model=model, box_prompt_field="gt", max_det=len(known_masks)))
    assert [(step.masks, step.at_limit) for step in steps] == [(1, False)] * 3
    assert enrich(dataset, "clicked", model=model, point_prompt_field="clicks").masks == 3
    assert enrich(dataset, "sure", model=model, box_prompt_field="gt", conf=0.999).masks == 0
    assert enrich(dataset, "auto", model=model, box_prompt_field="gt", conf="auto").masks == 3
    assert 0 < enrich(dataset, "likely", model=model, conf="auto").masks <= 3 * len(known_masks)
    dataset.apply_model(FastSAMModel(model), "applied", num_workers=0, progress=False, box_prompt_field="gt")
    for sample in dataset:
        [boxed], [applied] = sample.boxed.detections, sample.applied.detections
        np.testing.assert_array_equal(boxed.mask, known_masks.crop(2))
        np.testing.assert_array_equal(applied.mask, boxed.mask)


def with_boxes(dataset: Any, **attributes: Any) -> Any:
    """Give each sample two boxes of the whole image, a cat and a dog."""
    for sample in dataset:
        boxes = [fo.Detection(label=name, bounding_box=[0, 0, 1, 1], **attributes) for name in ("cat", "dog")]
        sample["gt"] = fo.Detections(detections=boxes)
        sample.save()
    return dataset


@pytest.mark.parametrize("start", [1, 3])
def test_a_view_from_the_middle_prompts_as_well(make_dataset: Callable[..., Any], model: FastSAM, start: int) -> None:
    dataset = with_boxes(make_dataset(6))
    report = enrich(dataset[start : start + 2], "masks", model=model, box_prompt_field="gt")
    assert report.done == 2
    assert dataset.exists("masks").values("id") == dataset.values("id")[start : start + 2]


def test_attributes_of_answers_are_not_those_of_prompts(dataset: Any, model: FastSAM) -> None:
    with_boxes(dataset, quality="good", fit="tight", occluded=True)
    sample = dataset.first()
    sample.gt.detections[0].bounding_box = [0.99, 0.99, 0.001, 0.001]
    sample.save()
    enrich(dataset, "masks", model=model, box_prompt_field="gt", min_iou=0)
    unanswered, answered = dataset.first().masks.detections
    assert [d.matched for d in (unanswered, answered)] == [False, True]
    assert [d.occluded for d in (unanswered, answered)] == [True, True]
    assert unanswered.fit == 0
    assert not unanswered.has_field("quality") or unanswered.quality is None
    sample.reload()
    sample.masks.detections[0].label = "renamed"
    sample.save()  # FiftyOne checks the types


def test_samples_without_prompts_are_steps_like_others(
    make_dataset: Callable[..., Any], model: FastSAM, network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_queue, "_BATCH_ITEMS", 1)
    monkeypatch.setattr(_queue, "_MOST_WAITING", 0)
    dataset = make_dataset(6)
    dataset.add_sample_field("gt", fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    steps = iter_enrich(dataset, "masks", model=model, box_prompt_field="gt", prefetch=0)
    assert [next(steps).done, next(steps).masks] == [1, 0]
    steps.close()  # type: ignore[attr-defined]
    assert len(dataset.exists("masks")) < 6
    assert network.calls == 0


def test_edited_prompts_are_answered_anew(dataset: Any, model: FastSAM) -> None:
    for sample in dataset[:2]:
        sample["gt"] = fo.Detections(detections=[fo.Detection(label="cat", bounding_box=[0, 0, 1, 1])])
        sample.save()
    options: dict[str, Any] = {"model": model, "box_prompt_field": "gt", "min_iou": 0}
    assert enrich(dataset, "masks", **options).done == 3
    assert enrich(dataset, "masks", **options).done == 0
    first, second, third = dataset
    first.gt.detections[0].bounding_box = [0.5, 0.5, 0.25, 0.25]
    second.gt.detections[0]["note"] = "what is not asked for changes nothing"
    third["gt"] = fo.Detections(detections=[fo.Detection(label="new", bounding_box=[0, 0, 1, 1])])
    for sample in (first, second, third):
        sample.save()
    redone = [step.sample_id for step in iter_enrich(dataset, "masks", **options)]
    assert redone == [first.id, third.id]
    assert dataset.values("masks.detections.label") == [["cat"], ["cat"], ["new"]]
    assert enrich(dataset, "masks", **options).done == 0
    third["gt"] = None
    third.save()
    assert enrich(dataset, "masks", **options).done == 1
    assert dataset.last().masks.detections == []


@pytest.mark.parametrize("writer", ["direct", "sdk"])
def test_other_labels_stay_when_edited_prompts_are_answered_anew(dataset: Any, model: FastSAM, writer: str) -> None:
    with_boxes(dataset)
    click = fo.Keypoint(label="click", points=[[0.5, 0.5]])
    dataset.set_values("clicks", [fo.Keypoints(keypoints=[click])] * len(dataset))
    options: dict[str, Any] = {"model": model, "box_prompt_field": "gt", "writer": writer}
    enrich(dataset, "masks", **options)
    enrich(dataset[:1], "masks", model=model, point_prompt_field="clicks", existing="append", writer=writer)
    second = dataset[1:].first()
    second.masks.detections.append(fo.Detection(label="drawn", bounding_box=[0, 0, 0.5, 0.5]))
    second.save()
    for sample in dataset.iter_samples(autosave=True):
        sample.gt.detections[0].label = "lion"
    assert enrich(dataset, "masks", **options).done == 3
    labels = [sorted(found) for found in dataset.values("masks.detections.label")]
    assert labels == [["click", "dog", "lion"], ["dog", "drawn", "lion"], ["dog", "lion"]]
    assert enrich(dataset, "masks", **options).done == 0


@pytest.mark.parametrize("writer", ["direct", "sdk"])
def test_what_answers_a_prompt_again_takes_the_place_of_the_answer(
    dataset: Any, model: FastSAM, known_masks: Masks, writer: str
) -> None:
    height, width = known_masks.image_hw
    boxes = []
    for x0, y0, x1, y1 in known_masks.extents_xyxy[:2].tolist():
        boxes.append([x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height])
    old = fo.Detection(label="old", bounding_box=boxes[0])
    prompts = [fo.Detection(label=name, bounding_box=boxes[0]) for name in ("a", "b")]
    sample = dataset.first()
    sample["gt"] = fo.Detections(detections=prompts)
    sample["here"] = fo.Detections(detections=[old, prompts[0].copy()])
    sample.here.detections[1].id = prompts[0].id
    sample.save()
    options: dict[str, Any] = {"model": model, "box_prompt_field": "gt", "existing": "append", "writer": writer}

    def ask(**changed: Any) -> tuple[int, list[str], Any]:
        done = enrich(dataset[:1], "here", **{**options, **changed}).done
        found = dataset.first().here
        masks = masks_from_detections(found, known_masks.image_hw)
        return done, [d.label for d in found.detections], masks.iou(known_masks).argmax(axis=1).tolist()

    kept = ["old", "a"]  # these are no answers
    assert ask()[:2] == (1, [*kept, "a", "b"])
    assert ask()[:2] == (0, [*kept, "a", "b"])
    sample.gt.detections[1].bounding_box = boxes[1]
    sample.save()
    done, labels, matches = ask()
    assert (done, labels, matches[2:]) == (1, [*kept, "a", "b"], [0, 1])
    assert ask(prompt_ids=[prompts[0].id])[:2] == (1, [*kept, "b", "a"])
    assert ask(min_iou=0.1)[:2] == (1, [*kept, "a", "b"])
    assert ask(min_iou=0.1)[0] == 0
    assert ask()[:2] == (1, [*kept, "a", "b"])
    runs = dataset.first().here.fastsam_run.split("+")
    assert len(runs) == len(set(runs)) == 4
    assert runs[0] == "other"


def in_three(dataset: Any, prompted: str = "gt") -> list[str]:
    """Give each sample three boxes of the whole image, or keypoints in the middle; return the ids of the first ones."""
    for sample in dataset.iter_samples(autosave=True):
        if prompted == "gt":
            boxes = [fo.Detection(label=name, bounding_box=[0, 0, 1, 1]) for name in ("cat", "dog", "cow")]
            sample["gt"] = fo.Detections(detections=boxes)
        else:
            points = [fo.Keypoint(label=name, points=[[0.5, 0.5]]) for name in ("cat", "dog", "cow")]
            sample["clicks"] = fo.Keypoints(keypoints=points)
    labels = dataset.first()[prompted]
    return [label.id for label in labels["detections" if prompted == "gt" else "keypoints"]]


@pytest.mark.parametrize("prompted", ["gt", "clicks"])
@pytest.mark.parametrize("writer", ["direct", "sdk"])
def test_answers_to_prompts_that_are_not_asked_now_stay(
    dataset: Any, model: FastSAM, prompted: str, writer: str
) -> None:
    ids = in_three(dataset, prompted)
    options: dict[str, Any] = {"model": model, "prompt_field": prompted, "writer": writer}
    for asked, labels in (([2], ["cow"]), ([0], ["cat", "cow"]), ([1, 2], ["cat", "dog", "cow"])):
        assert enrich(dataset, "m", prompt_ids=[ids[i] for i in asked], **options).done == 1
        assert [d.label for d in dataset.first().m.detections] == labels
        assert enrich(dataset, "m", prompt_ids=[ids[i] for i in asked], **options).done == 0
    assert [d.id for d in dataset.first().m.detections] == ids
    sample = dataset.first()
    sample[prompted]["detections" if prompted == "gt" else "keypoints"].pop(0)
    sample.save()
    assert enrich(dataset, "m", prompt_ids=ids[1:2], **options).done == 1
    assert [d.label for d in dataset.first().m.detections] == ["dog", "cow"]
    assert enrich(dataset, "m", **options).done == 3


@pytest.mark.parametrize("writer", ["direct", "sdk"])
def test_answers_to_prompts_that_a_view_hides_stay(dataset: Any, model: FastSAM, writer: str) -> None:
    in_three(dataset)
    options: dict[str, Any] = {"model": model, "prompt_field": "gt", "writer": writer}
    enrich(dataset, "m", **options)
    dogs = dataset.filter_labels("gt", fo.ViewField("label") == "dog", only_matches=False)
    assert enrich(dogs, "m", **options).done == 0  # they are answered
    assert enrich(dogs, "m", min_iou=0.0, **options).done == 3
    assert dataset.values("m.detections.label") == [["cat", "dog", "cow"]] * 3
    assert enrich(dogs, "m", min_iou=0.0, **options).done == 0
    parts = dogs[:1].concat(dogs[1:])
    assert enrich(parts, "m", min_iou=0.05, **options).done == 3
    assert dataset.values("m.detections.label") == [["cat", "dog", "cow"]] * 3
    none = dataset.filter_labels("gt", fo.ViewField("label") == "none", only_matches=False)
    assert enrich(none, "m", min_iou=0.1, **options).masks == 0
    assert dataset.values("m.detections.label") == [["cat", "dog", "cow"]] * 3
    assert enrich(dataset, "m", **options).done == 3
    lions = dataset.map_labels("gt", {"dog": "lion"})
    assert enrich(lions, "m", **options).done == 3
    assert dataset.values("m.detections.label") == [["cat", "lion", "cow"]] * 3


@pytest.mark.parametrize("append", [False, True])
def test_answers_that_nearly_fill_their_document_are_written(dataset: Any, append: bool) -> None:
    in_three(dataset)
    sample = dataset.first()
    prompts = [prompt.to_dict() for prompt in sample.gt.detections]
    item = Item(sample._id, sample.filepath, prompts, [prompt["_id"] for prompt in prompts])
    target = open_target(dataset, "masks")
    declare_schema(target, EnrichOptions(box_prompt_field="gt"), "run")
    for run in ("run", "another"):
        large = {"matched": True, "note": run.ljust(5_000_000)}  # three of them
        answers = [Instance(p["label"], p["bounding_box"], None, 0.5, large, (), p["_id"]) for p in prompts]
        DirectWriter(target, run, append=append, in_place=True).write([Result(item, answers)])
        sample.reload()
        assert [(d.label, d.note.strip()) for d in sample.masks.detections] == [(n, run) for n in ("cat", "dog", "cow")]


def test_only_samples_with_the_chosen_prompts_are_touched(dataset: Any, model: FastSAM) -> None:
    dataset.set_values("gt", [fo.Detections(detections=[fo.Detection(bounding_box=[0, 0, 1, 1])]) for _ in dataset])
    chosen = dataset.last()
    report = enrich(dataset, "m", model=model, box_prompt_field="gt", prompt_ids=[chosen.gt.detections[0].id, "none"])
    assert (report.done, report.skipped) == (1, 2)
    assert dataset.exists("m").values("id") == [chosen.id]


def test_chosen_prompts_may_be_more_than_a_document_holds(dataset: Any, model: FastSAM) -> None:
    chosen = in_three(dataset)[1:2]
    many = [*(str(ObjectId()) for _ in range(300_000)), *chosen]
    assert enrich(dataset, "m", model=model, box_prompt_field="gt", prompt_ids=many).done == 1
    assert [label.id for label in dataset.first().m.detections] == chosen
    assert dataset.get_field("m").info["fastsam"]["prompt_ids"] == len(many)


def test_chosen_prompts_are_ids(dataset: Any, model: FastSAM) -> None:
    chosen = in_three(dataset)[1]
    options: dict[str, Any] = {"model": model, "box_prompt_field": "gt", "existing": "overwrite"}
    for ids in (chosen, {chosen}, [ObjectId(chosen)], (id_ for id_ in [chosen])):
        assert enrich(dataset, "m", prompt_ids=ids, **options).masks == 1
    for wrong in (dataset.values("gt.detections.id"), [None], [1], 1):
        with pytest.raises(InvalidPromptError, match="no id of a label"):
            enrich(dataset, "others", prompt_ids=wrong, **options)
    with pytest.raises(InvalidPromptError, match="name it with prompt_field"):
        enrich(dataset, "others", model=model, prompt_ids=[chosen])
    assert dataset.get_field("others") is None


def test_points_that_moved_or_changed_sides_are_edits() -> None:
    stored = {"_id": 1, "label": "a", "points": [[0.5, 0.5], [NAN, NAN]], "sam_labels": [1, 0], "tags": []}
    digest = prompts_digest([stored])
    assert prompts_digest([dict(stored, tags=["seen"])]) == digest
    for change in ({"points": [[0.5, 0.6]]}, {"sam_labels": [1, 1]}, {"label": "b"}):
        assert prompts_digest([{**stored, **change}]) != digest
    assert prompts_digest([]) != digest


def test_the_type_of_a_field_decides_how_it_prompts(dataset: Any, model: FastSAM, known_masks: Masks) -> None:
    y, x = np.argwhere(known_masks.to_dense()[0])[0]
    height, width = known_masks.image_hw
    sample = dataset.first()
    sample["clicks"] = fo.Keypoints(
        keypoints=[fo.Keypoint(label="k", points=[[(x + 0.5) / width, (y + 0.5) / height]])]
    )
    sample.save()
    enrich(dataset, "masks", model=model, prompt_field="clicks", level="group")
    [found] = dataset.first().masks.detections
    assert (found.label, found.matched) == ("k", True)


def test_images_have_no_frames_that_prompt(dataset: Any, model: FastSAM) -> None:
    dataset.add_sample_field("gt", fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    with pytest.raises(InvalidPromptError, match="name it 'gt'"):
        enrich(dataset, "masks", model=model, box_prompt_field="frames.gt")


def test_fields_that_cannot_prompt(dataset: Any, model: FastSAM) -> None:
    dataset.add_sample_field("gt", fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    fields: tuple[dict[str, Any], ...]
    fields = ({"box_prompt_field": "none"}, {"point_prompt_field": "gt"}, {"prompt_field": "filepath"})
    for options in fields:
        with pytest.raises(InvalidPromptError, match="cannot prompt") as problem:
            enrich(dataset, "masks", model=model, **options)
        assert ("another field: gt" in str(problem.value)) == ("point_prompt_field" not in options)
    with pytest.raises(InvalidPromptError, match="cannot replace"):
        enrich(dataset, "gt", model=model, box_prompt_field="gt")


def test_classes_of_maps_are_known_to_the_dataset(
    make_dataset: Callable[..., Any], model: FastSAM, known_masks: Masks
) -> None:
    dataset = make_dataset(1)
    sample = dataset.first()
    sample["gt"] = fo.Detections(detections=[fo.Detection(label="cat", bounding_box=[0, 0, 1, 1])])
    sample.save()
    enrich(dataset, "map", model=model, box_prompt_field="gt", output="map", min_iou=0)
    value = next(value for value, label in dataset.mask_targets["map"].items() if label == "cat")
    assert set(np.unique(dataset.first().map.mask)) <= {0, value}
    assert dataset.first().map.mask.any()


@pytest.mark.parametrize(
    ("default", "expected"),
    [
        ({}, {1: "cat", 2: "dog", 3: ""}),
        ({7: "dog", 255: "ignore"}, {7: "dog", 255: "ignore", 256: "cat", 257: ""}),
        ({"#ff0000": "dog"}, {1: "cat", 2: "dog", 3: ""}),
    ],
)
def test_classes_of_maps_have_the_values_of_the_dataset(
    dataset: Any, model: FastSAM, default: dict[Any, str], expected: dict[int, str]
) -> None:
    dataset = with_boxes(dataset)
    dataset.default_mask_targets = default
    options: dict[str, Any] = {"model": model, "box_prompt_field": "gt", "output": "map", "min_iou": 0}
    enrich(dataset, "map", **options)
    named = {value: label for value, label in expected.items() if label}
    assert dataset.mask_targets["map"] == named
    sample = dataset.last()
    sample.gt.detections[0].label = None
    sample.save()
    assert enrich(dataset, "map", **options).done == 1
    assert dataset.mask_targets["map"] == expected


def test_a_class_that_comes_during_a_run_waits_for_the_next(
    make_dataset: Callable[..., Any], model: FastSAM, known_masks: Masks
) -> None:
    dataset = with_boxes(make_dataset(3))
    options: dict[str, Any] = {"model": model, "box_prompt_field": "gt", "output": "map", "min_iou": 0}
    steps = iter_enrich(dataset, "map", **options)
    dataset._sample_collection.update_one(
        {"_id": dataset.first()._id}, {"$set": {"gt.detections.0.label": "came later"}}
    )
    told = {step.sample_id: step.error for step in steps}
    assert [told[id_] is None for id_ in dataset.values("id")] == [False, True, True]
    assert "'came later'" in (told[dataset.first().id] or "")
    assert [step.error for step in iter_enrich(dataset, "map", **options)] == [None]
    assert {"cat", "dog", "came later"} <= set(dataset.mask_targets["map"].values())


def test_classes_that_a_view_gives_have_values(dataset: Any, model: FastSAM) -> None:
    renamed = with_boxes(dataset).map_labels("gt", {"cat": "animal"})
    options: dict[str, Any] = {"model": model, "box_prompt_field": "gt", "output": "map", "min_iou": 0}
    assert enrich(renamed, "map", **options).failed == 0
    assert {"animal", "cat", "dog"} <= set(dataset.mask_targets["map"].values())
