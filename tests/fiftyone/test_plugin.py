"""The plugin in FiftyOne: installed as a stub, registered whole, run from forms, delegated, diagnosed."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import fiftyone.operators as foo
import fiftyone.operators.delegated as food
import pytest
from fiftyone.plugins.context import build_plugin_contexts
from tests.fiftyone.conftest import write_video

from fastsam_core._defaults import PROMPT_CONF
from fastsam_core.errors import OutputError
from fiftyone_fastsam import _convert, doctor, enrich
from fiftyone_fastsam.doctor import Finding
from fiftyone_fastsam.install import PLUGIN_NAME, install, operator_names
from fiftyone_fastsam.model import FastSAMModel
from fiftyone_fastsam.operators import OPERATORS, _forms, diagnose, enriching

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fastsam_core.masks import Masks
    from fastsam_core.model import FastSAM


@pytest.fixture(scope="module")
def plugins_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Install the plugin into a folder of its own."""
    folder = tmp_path_factory.mktemp("plugins")
    before, fo.config.plugins_dir = fo.config.plugins_dir, str(folder)
    install()
    yield folder
    fo.config.plugins_dir = before


@pytest.fixture
def operators(plugins_dir: Path, model: FastSAM, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the prefix of the operators' names; all of them use the fake model."""
    monkeypatch.setattr(_forms, "load_model", lambda name: model)
    return f"{PLUGIN_NAME}/"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list that notices in the App are added to."""
    notices: list[str] = []

    def trigger(self: object, name: str, params: dict[str, Any] | None = None) -> None:
        if name == "notify" and params is not None:
            notices.append(params["message"])

    monkeypatch.setattr(foo.executor.ExecutionContext, "trigger", trigger)
    return notices


def run_operator(uri: str, dataset: Any, params: dict[str, Any], **context: Any) -> None:
    """Run an operator at once, to its end."""
    result = foo.execute_operator(uri, {"dataset": dataset, "params": params, **context})
    if asyncio.isfuture(result):
        result = asyncio.get_event_loop().run_until_complete(result)
    assert not result.error, result.error
    if result.is_generator:
        for _ in result.result:
            pass


def refusal(form: Any) -> str:
    """Return why a form cannot be sent, as it says last; nothing if it can."""
    assert not form.invalid, "the App would tell the reason a second time, above the form"
    *_, last = form.type.properties.values()
    return str(last.error_message) if last.invalid else ""


def as_app(operators: str) -> dict[str, Any]:
    """Return what requests of the App hold besides: the operator's name."""
    return {"operator_uri": operators}


def test_every_listed_operator_is_registered(plugins_dir: Path) -> None:
    [context] = [context for context in build_plugin_contexts() if context.name == PLUGIN_NAME]
    assert context.errors == []
    assert [operator.name for operator in context.instances] == operator_names()
    assert len(OPERATORS) == len(operator_names())
    for operator in context.instances:
        assert type(operator) in OPERATORS
        assert (plugins_dir / PLUGIN_NAME / operator.config.icon.lstrip("/")).is_file()


def test_nothing_is_loaded_twice(plugins_dir: Path) -> None:
    build_plugin_contexts()
    files = [module.__file__ for name, module in sys.modules.items() if "operators.enriching" in name]
    assert len(files) == 1


def test_the_stub_is_replaced_only_on_request(tmp_path: Path) -> None:
    folder = install(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == [
        "__init__.py",
        "assets",
        "fiftyone.yml",
        "requirements.txt",
    ]
    (folder / "old.txt").touch()
    with pytest.raises(OutputError, match="--force"):
        install(tmp_path)
    install(tmp_path, force=True)
    assert not (folder / "old.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["@fastsam"]


@pytest.mark.parametrize("name", [operator.__name__ for operator in OPERATORS])
def test_forms_open_with_and_without_labels(operators: str, dataset: Any, model: FastSAM, name: str) -> None:
    [operator] = [kind() for kind in OPERATORS if kind.__name__ == name]
    ctx = foo.executor.ExecutionContext({"dataset_name": dataset.name, "params": {}})
    operator.resolve_type(ctx, "inputs")
    enrich(dataset, "masks", model=model)
    enrich(dataset, "others", model=model)
    ctx = foo.executor.ExecutionContext({"dataset_name": dataset.name, "params": {}})
    operator.resolve_type(ctx, "inputs")


@pytest.mark.parametrize("name", ["BoxesToMasks", "KeypointsToMasks", "PromptHere", "CompareFields"])
def test_a_form_without_prompts_cannot_be_sent(operators: str, dataset: Any, name: str) -> None:
    [operator] = [kind() for kind in OPERATORS if kind.__name__ == name]
    ctx = foo.executor.ExecutionContext({"dataset_name": dataset.name, "params": {}})
    form = operator.resolve_type(ctx, "inputs")
    assert refusal(form)
    assert form.view.label == operator.config.label
    with pytest.raises(foo.executor.ExecutionError, match=r"Reason: (This dataset has no field|There are no two)"):
        run_operator(operators + operator.config.name, dataset, {"label_field": "masks"})


@pytest.mark.parametrize("name", [kind().config.name for kind in OPERATORS if kind is not diagnose.Doctor])
def test_without_a_dataset_it_is_said_that_there_is_none(operators: str, name: str) -> None:
    with pytest.raises(foo.executor.ExecutionError, match="No dataset is open"):
        run_operator(operators + name, None, {"label_field": "masks"})


def test_comparing_shows_the_worst_samples_first(
    operators: str, dataset: Any, model: FastSAM, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(foo.operations.Operations, "set_view", lambda self, view: shown.append(view))
    for field, conf in (("one", 0.4), ("two", 0.75)):
        enrich(dataset[:2], field, model=model, conf=conf)
    run_operator(operators + "compare_fields", dataset, {"first": "one", "second": "two"})
    worst = dataset.first()
    worst["two"] = fo.Detections()
    worst.save()
    run_operator(operators + "compare_fields", dataset, {"first": "one", "second": "two"})
    assert shown[-1].values("id") == dataset.values("id")[:2]


def test_comparing_tells_how_far_it_is(
    operators: str, dataset: Any, model: FastSAM, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, float]] = []
    monkeypatch.setattr(
        foo.operations.Operations, "set_progress", lambda self, label, progress: told.append((label, progress))
    )
    for field, conf in (("one", 0.4), ("two", 0.75)):
        enrich(dataset, field, model=model, conf=conf)
    run_operator(operators + "compare_fields", dataset, {"first": "one", "second": "two"})
    label, progress = told[-1]
    assert (label.partition(":")[0], progress) == ("3 samples", 1)


def test_segmenting_selected_samples(operators: str, dataset: Any, known_masks: Masks, told: list[str]) -> None:
    chosen = dataset.values("id")[1]
    params = {"label_field": "masks", "view_target": "SELECTED_SAMPLES"}
    run_operator(operators + "segment_everything", dataset, params, selected=[chosen])
    assert dataset.exists("masks").values("id") == [chosen]
    assert len(dataset[chosen].masks.detections) == len(known_masks)
    assert told == [f"{len(known_masks)} masks on 1 sample"]


def test_segmenting_tells_how_far_it_is(
    operators: str, dataset: Any, make_dataset: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[float] = []
    monkeypatch.setattr(
        foo.operations.Operations, "set_progress", lambda self, label, progress: told.append(round(progress, 2))
    )
    monkeypatch.setattr(enriching, "_REPORT_S", 0)
    videos = make_dataset(0)
    for name in ("a.avi", "b.avi"):
        videos.add_sample(fo.Sample(filepath=str(write_video(tmp_path / name, 2))))
    for target, shares in ((dataset, [0, 0.33, 0.67, 1, 1]), (videos, [0, 0.25, 0.5, 0.75, 1, 1])):
        told.clear()
        run_operator(operators + "segment_everything", target, {"label_field": "masks"})
        assert told == shares


@pytest.mark.parametrize("own", [False, True])
def test_each_image_may_get_a_confidence_of_its_own(operators: str, dataset: Any, model: FastSAM, own: bool) -> None:
    [operator] = [kind() for kind in OPERATORS if kind.__name__ == "SegmentEverything"]
    ctx = foo.executor.ExecutionContext({"dataset_name": dataset.name, "params": {"own_conf": own}})
    assert ("conf" in operator.resolve_type(ctx, "inputs").type.properties) is not own
    run_operator(operators + "segment_everything", dataset, {"label_field": "masks", "conf": 0.9, "own_conf": own})
    enrich(dataset, "wanted", model=model, conf="auto" if own else 0.9)
    scores = [[d.confidence for d in found.detections] for found in dataset.values("masks")]
    assert scores == [[d.confidence for d in found.detections] for found in dataset.values("wanted")]


def test_a_limited_number_of_masks_is_told(operators: str, dataset: Any, told: list[str]) -> None:
    run_operator(operators + "segment_everything", dataset, {"label_field": "masks", "max_det": 2})
    assert told == ["6 masks on 3 samples, 3 with as many masks as allowed: there may be more"]


def test_a_problem_is_told_in_the_app(operators: str, dataset: Any, told: list[str]) -> None:
    run_operator(operators + "segment_everything", dataset, {"label_field": "m", "imgsz": 7}, **as_app(operators))
    assert "imgsz" in told[-1]
    run_operator(operators + "text_to_masks", dataset, {"label_field": "masks", "text": " , "}, **as_app(operators))
    assert "text prompt is empty" in told[-1]


def test_comparing_says_when_it_has_stopped(
    operators: str, dataset: Any, model: FastSAM, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    for field in ("one", "two"):
        enrich(dataset, field, model=model)
    monkeypatch.setattr(foo.operations.Operations, "set_progress", lambda self, label, progress: shown.append(label))
    run_operator(operators + "compare_fields", dataset, {"first": "one", "second": "one"}, **as_app(operators))
    assert shown[-1] == "Stopped"
    assert "Two fields of Detections are needed" in told[-1]


@pytest.mark.parametrize("output", ["instances", "map"])
def test_what_was_made_is_shown(operators: str, dataset: Any, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    shown: list[list[str]] = []
    monkeypatch.setattr(foo.operations.Operations, "set_active_fields", lambda self, fields: shown.append(fields))
    for _ in range(2):
        request = {"active_fields": shown[-1] if shown else ["other"]}
        run_operator(operators + "segment_everything", dataset, {"label_field": "made", "output": output}, **request)
    assert shown == [["other", "made"]]


def test_a_form_refuses_to_append_to_maps(operators: str, dataset: Any) -> None:
    told = {}
    for existing, output in (("append", "map"), ("append", "instances"), ("resume", "map")):
        params = {"label_field": "masks", "existing": existing, "output": output}
        ctx = foo.executor.ExecutionContext({"dataset_name": dataset.name, "params": params})
        form = enriching.SegmentEverything().resolve_type(ctx, "inputs")
        errors = foo.executor.ValidationContext(ctx, form, enriching.SegmentEverything()).errors
        told[existing, output] = [error.reason for error in errors]
    assert told.pop(("append", "map")) == ["Maps cannot be appended to"]
    assert set(map(tuple, told.values())) == {()}


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"label_field": "masks"}, None),
        ({"label_field": " new "}, None),
        ({"label_field": "filepath"}, "belongs to FiftyOne"),
        ({"label_field": "my masks"}, "letters, digits and _"),
        ({"label_field": "a.b"}, "letters, digits and _"),
        ({"label_field": "frames.masks"}, "have no frames"),
        ({"label_field": "note"}, "Actual: no label"),
        ({"label_field": "masks", "output": "map"}, "Expected: Segmentation"),
        ({"label_field": "locked"}, "read-only"),
        ({"label_field": "bad"}, "'bad_error' is needed for the reasons"),
        ({"label_field": "gt"}, "labels that FastSAM did not make"),
        ({"label_field": "gt", "existing": "append"}, None),
        ({"label_field": "gt", "existing": "skip", "prompts": "gt"}, "cannot replace the labels that prompt"),
        ({}, "Actual: Classification"),
    ],
)
def test_forms_tell_of_label_fields_that_cannot_be_used(
    operators: str, dataset: Any, model: FastSAM, params: dict[str, Any], told: str | None
) -> None:
    for name in ("masks", "locked"):
        enrich(dataset[:1], name, model=model)
    dataset.set_values("gt", [fo.Detections() for _ in dataset])
    dataset.set_values("note", list("abc"))
    dataset.set_values("bad_error", [1, 2, 3])
    dataset.set_values("fastsam", [fo.Classification() for _ in dataset])
    dataset.set_values("fastsam_boxes", [fo.Classification() for _ in dataset])
    field = dataset.get_field("locked")
    field.read_only = True
    field.save()
    kind = enriching.BoxesToMasks if "prompts" in params else enriching.SegmentEverything
    ctx = foo.executor.ExecutionContext({"dataset_name": dataset.name, "params": params})
    field_of_form = kind().resolve_type(ctx, "inputs").type.properties["label_field"]
    field.read_only = False
    field.save()
    assert field_of_form.invalid is (told is not None)
    assert (told or "") in field_of_form.error_message


def test_forms_of_targets_that_cannot_be_enriched_say_why(operators: str, make_dataset: Callable[..., Any]) -> None:
    clouds = make_dataset(0)
    told = {}
    for kind in ("empty", "clouds"):
        for operator in (enriching.SegmentEverything, enriching.TextToMasks):
            ctx = foo.executor.ExecutionContext({"dataset_name": clouds.name, "params": {}})
            form = operator().resolve_type(ctx, "inputs")
            told[kind] = refusal(form)
            more = form.type.properties["refused"].view.description
            assert more.startswith("Expected: ")  # the problem stands above it
        clouds.add_sample(fo.Sample(filepath="/a.pcd"))
    assert told == {"empty": "There are no samples", "clouds": "Masks need images or videos"}


@pytest.mark.parametrize("operator", [enriching.SegmentEverything, enriching.BoxesToMasks, enriching.TextToMasks])
def test_forms_refuse_numbers_out_of_range(operators: str, dataset: Any, model: FastSAM, operator: Any) -> None:
    enrich(dataset, "boxes", model=model)
    wrong: dict[str, float] = {"conf": 1.5, "iou": -0.1, "max_det": 0, "tile_px": 0}
    wrong |= {enriching.BoxesToMasks: {"min_iou": 2}, enriching.TextToMasks: {"text_threshold": 2}}.get(operator, {})
    params: dict[str, Any] = {"label_field": "masks", "prompts": "boxes", "text": "pebble", "output": "instances"}
    for changed, refused in (({}, set()), (wrong, set(wrong))):
        ctx = foo.executor.ExecutionContext({"dataset_name": dataset.name, "params": {**params, **changed}})
        form = operator().resolve_type(ctx, "inputs")
        errors = foo.executor.ValidationContext(ctx, form, operator()).errors
        assert {error.path.removeprefix(".") for error in errors} == refused


def test_forms_tell_the_lowest_confidence_of_their_own_prompts(operators: str, dataset: Any, model: FastSAM) -> None:
    enrich(dataset, "boxes", model=model)
    ctx = foo.executor.ExecutionContext({"dataset_name": dataset.name, "params": {}})
    told = {
        kind: kind().resolve_type(ctx, "inputs").type.properties["conf"].view.description
        for kind in (enriching.SegmentEverything, enriching.TextToMasks, enriching.BoxesToMasks, enriching.PromptHere)
    }
    assert [f"empty: {PROMPT_CONF}" in text for text in told.values()] == [False, False, True, True]
    assert ["0.4 for FastSAM" in text for text in told.values()] == [True, True, False, False]


def test_masks_with_embeddings_of_a_model_can_be_asked(operators: str, dataset: Any, model: FastSAM) -> None:
    pytest.importorskip("open_clip", reason="open_clip is not installed; pip install 'fastsam-plugins[text]'")
    for name, embeddings in (("plain", False), ("masks", True)):
        dataset[1:].apply_model(FastSAMModel(model, embeddings=embeddings), name, num_workers=0, progress=False)
    [operator] = [kind() for kind in OPERATORS if kind.__name__ == "TextToMasks"]
    ctx = foo.executor.ExecutionContext({"dataset_name": dataset.name, "params": {}})
    asked = operator.resolve_type(ctx, "inputs").type.properties["masks_field"]
    assert asked.type.values == ["masks"]


def test_prompting_with_selected_labels(operators: str, dataset: Any) -> None:
    boxes = [fo.Detection(label=name, bounding_box=[0, 0, 1, 1]) for name in ("a", "b", "c")]
    sample = dataset.first()
    sample["gt"] = fo.Detections(detections=boxes)
    sample.save()
    for box in (boxes[1], boxes[1], boxes[2]):
        selected = [{"field": "gt", "label_id": box.id, "sample_id": sample.id}]
        run_operator(operators + "prompt_here", dataset, {"label_field": "here"}, selected_labels=selected)
    assert [d.label for d in dataset.first().here.detections] == ["b", "c"]
    assert dataset.exists("here").values("id") == [sample.id]


def test_few_selected_labels_of_many_samples_need_no_worker(
    operators: str, dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enriching, "_MANY_SAMPLES", len(dataset) - 1)
    dataset.set_values("gt", [fo.Detections(detections=[fo.Detection(bounding_box=[0, 0, 1, 1])]) for _ in dataset])
    sample = dataset.first()
    one = [{"field": "gt", "label_id": sample.gt.detections[0].id, "sample_id": sample.id}]
    suggested = []
    for selected in ([], one):
        request = {"dataset_name": dataset.name, "params": {}, "selected_labels": selected}
        ctx = foo.executor.ExecutionContext(request)
        form = enriching.PromptHere().resolve_type(ctx, "inputs")
        options = enriching.PromptHere().resolve_execution_options(ctx)
        suggested.append(("many" in form.type.properties, options.default_choice_to_delegated))
    assert suggested == [(True, True), (False, False)]


def test_selected_labels_that_cannot_prompt(operators: str, dataset: Any) -> None:
    lines = fo.Polylines(polylines=[fo.Polyline(points=[[(0.1, 0.1), (0.5, 0.5)]])])
    dataset.set_values("lines", [lines.copy() for _ in range(3)])
    sample = dataset.first()
    selected = [{"sample_id": sample.id, "label_id": sample.lines.polylines[0].id, "field": "lines"}]
    with pytest.raises(foo.executor.ExecutionError, match="lines holds Polylines, which cannot prompt"):
        run_operator(operators + "prompt_here", dataset, {"label_field": "here"}, selected_labels=selected)


def test_prompting_with_a_label_that_was_moved(operators: str, dataset: Any, told: list[str]) -> None:
    sample = dataset.first()
    sample["gt"] = fo.Detections(detections=[fo.Detection(bounding_box=[0, 0, 1, 1])])
    sample.save()
    selected = [{"field": "gt", "label_id": sample.gt.detections[0].id, "sample_id": sample.id}]
    for size in (1, 1, 0.5):
        sample.gt.detections[0].bounding_box = [0, 0, size, size]
        sample.save()
        run_operator(operators + "prompt_here", dataset, {"label_field": "here"}, selected_labels=selected)
    assert ["needed nothing" in notice for notice in told] == [False, True, False]
    assert len(dataset.first().here.detections) == 1


@pytest.mark.parametrize("ticked", [[0, 2], []])
def test_patches_prompt(operators: str, dataset: Any, known_masks: Masks, ticked: list[int]) -> None:
    boxes = _convert.to_detections(known_masks).detections
    for sample in dataset[:2].iter_samples(autosave=True):
        found = [fo.Detection(label="a", bounding_box=box.bounding_box) for box in boxes[:2]]
        sample["gt"] = fo.Detections(detections=found)
    dataset.set_values("other", [None, None, fo.Detections()])
    patches = dataset.to_patches("gt")
    ids = [patches.values("id")[i] for i in ticked]
    context = {"view": patches, "selected": ids} if ids else {"view": patches}
    target = "SELECTED_SAMPLES" if ids else "CURRENT_VIEW"
    run_operator(operators + "prompt_here", dataset, {"label_field": "here", "view_target": target}, **context)
    answers = dataset.values("here.detections", unwind=True)
    assert [answer.id for answer in answers if answer is not None] == (ids or patches.values("id"))
    assert all(answer.matched for answer in answers if answer is not None)


def test_forms_refuse_copies_of_samples(operators: str, dataset: Any, model: FastSAM) -> None:
    enrich(dataset, "masks", model=model)
    enrich(dataset, "others", model=model)
    patches = dataset.to_patches("masks")
    request = {"dataset_name": dataset.name, "view": patches._serialize(), "params": {"label_field": "here"}}
    allowed = []
    for operator in (kind() for kind in OPERATORS if kind is not diagnose.Doctor):
        form = operator.resolve_type(foo.executor.ExecutionContext(request), "inputs")
        assert bool(refusal(form)) == ("copies" in form.type.properties)
        allowed += [] if refusal(form) else [operator.config.name]
    assert allowed == ["prompt_here"]


@pytest.mark.parametrize("side", ["left", "right"])
def test_prompting_with_selected_labels_of_a_group(
    operators: str, make_dataset: Callable[..., Any], image_paths: list[Path], side: str
) -> None:
    grouped = make_dataset(0)
    grouped.add_group_field("group", default="left")
    group = fo.Group()
    samples = {
        name: fo.Sample(
            filepath=str(path),
            group=group.element(name),
            gt=fo.Detections(detections=[fo.Detection(label="a", bounding_box=[0, 0, 1, 1])]),
        )
        for name, path in zip(("left", "right"), image_paths, strict=False)
    }
    grouped.add_samples(list(samples.values()), progress=False)
    sample = samples[side]
    selected = [{"field": "gt", "label_id": sample.gt.detections[0].id, "sample_id": sample.id}]
    run_operator(operators + "prompt_here", grouped, {"label_field": "here"}, selected_labels=selected)
    assert grouped.select_group_slices().exists("here").values("id") == [sample.id]


def test_prompting_with_selected_labels_of_patches(operators: str, dataset: Any) -> None:
    dataset.set_values("gt", [fo.Detections(detections=[fo.Detection(bounding_box=[0, 0, 1, 1])]) for _ in dataset])
    patches = dataset.to_patches("gt")
    patch = patches.first()
    selected = [{"field": "gt", "label_id": patch.gt.id, "sample_id": patch.id}]
    run_operator(operators + "prompt_here", dataset, {"label_field": "here"}, selected_labels=selected, view=patches)
    assert dataset.exists("here").values("id") == [patch.sample_id]


def test_forms_of_videos_know_the_fields_of_frames(make_dataset: Callable[..., Any]) -> None:
    videos = make_dataset(0)
    videos.add_group_field("group", default="clip")
    group = fo.Group()
    videos.add_samples(
        [
            fo.Sample(filepath="/a.mp4", group=group.element("clip")),
            fo.Sample(filepath="/a.png", group=group.element("still")),
        ],
        progress=False,
    )
    for name in ("one", "two"):
        videos.add_frame_field(name, fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    told = {}
    for kind in OPERATORS:
        ctx = foo.executor.ExecutionContext({"dataset_name": videos.name, "params": {}})
        if kind.__name__ in ("BoxesToMasks", "CompareFields"):
            told[kind.__name__] = refusal(kind().resolve_type(ctx, "inputs"))
    assert told == {"BoxesToMasks": "", "CompareFields": "Videos cannot be compared yet"}


def test_only_labels_that_a_view_shows_prompt(operators: str, dataset: Any, model: FastSAM) -> None:
    sample = dataset.first()
    sample["gt"] = fo.Detections(
        detections=[fo.Detection(label=name, bounding_box=[0, 0, 1, 1]) for name in ("cat", "dog")]
    )
    sample.save()
    enrich(dataset.filter_labels("gt", fo.ViewField("label") == "dog"), "masks", model=model, box_prompt_field="gt")
    assert [d.label for d in dataset.first().masks.detections] == ["dog"]


def test_delegated_runs_report_progress_and_outcome(operators: str, dataset: Any, known_masks: Masks) -> None:
    foo.execute_operator(
        operators + "segment_everything",
        {"dataset": dataset, "params": {"label_field": "masks"}, "request_delegation": True},
        request_delegation=True,
    )
    service = food.DelegatedOperationService()
    service.execute_queued_operations(limit=1, dataset_name=dataset.name, log=False)
    [operation] = service.list_operations(dataset_name=dataset.name)
    assert operation.run_state == "completed", operation.result
    assert operation.result.result == {
        "label_field": "masks",
        "done": 3,
        "failed": 0,
        "skipped": 0,
        "gone": 0,
        "masks": 3 * len(known_masks),
    }
    assert operation.status.progress == 1
    assert len(dataset.exists("masks")) == 3


@pytest.mark.parametrize(
    ("name", "params"),
    [("segment_everything", {"label_field": "a.b"}), ("compare_fields", {"first": "masks", "second": "others"})],
)
def test_programs_that_call_operators_learn_of_errors(
    operators: str, dataset: Any, model: FastSAM, told: list[str], name: str, params: dict[str, Any]
) -> None:
    enrich(dataset, "masks", model=model)
    enrich(dataset, "others", model=model)
    dataset.add_sample_field("others_vs_masks", fo.StringField)  # where the comparison would write numbers
    with pytest.raises(foo.executor.ExecutionError, match=r"Expected: .*"):
        run_operator(operators + name, dataset, params)
    of_app = {"dataset_name": dataset.name, "params": params, "operator_uri": operators + name}
    [operator] = [kind() for kind in OPERATORS if kind().config.name == name]
    list(operator.execute(foo.executor.ExecutionContext(of_app)))  # the App shows a notice
    assert "Expected: " in told[-1]


def test_the_doctor_finds_what_is_wrong(plugins_dir: Path, dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [finding for finding in doctor.diagnose(dataset) if not finding.well] == []
    dataset.persistent = False
    monkeypatch.setattr(doctor, "operator_names", lambda: ["segment_everything", "forgotten"])
    wrong = [finding for finding in doctor.diagnose(dataset) if not finding.well]
    dataset.persistent = True
    assert ["forgotten" in finding.text or "not persistent" in finding.text for finding in wrong] == [True, True]
    monkeypatch.setattr(fo.config, "plugins_dir", str(plugins_dir / "none"))
    assert any("fastsam fiftyone install" in finding.remedy for finding in doctor.diagnose())


def test_the_doctor_tells_what_fields_have_left(dataset: Any, model: FastSAM) -> None:
    enrich(dataset, "first", model=model)
    enrich(dataset, "masks", model=model)
    assert not [finding for finding in doctor.diagnose(dataset) if "renamed" in finding.text]
    dataset.rename_sample_field("masks", "things")
    dataset.delete_sample_field("first")
    told = [finding for finding in doctor.diagnose(dataset) if "renamed" in finding.text]
    assert [("'first'" in finding.text, "'masks'" in finding.text) for finding in told] == [
        (True, False),
        (False, True),
    ]
    for finding in told:
        for step in finding.remedy.split("; "):
            exec(step, {"dataset": dataset})
    assert {"first_error", "masks_error"}.isdisjoint(dataset.get_field_schema())
    assert (dataset.list_runs(), dataset.list_saved_views()) == ([], [])
    assert not [finding for finding in doctor.diagnose(dataset) if "renamed" in finding.text]
    assert enrich(dataset, "things", model=model).skipped == 3


@pytest.mark.parametrize("allowed", [False, True])
def test_it_is_said_when_the_app_cannot_schedule(
    operators: str, dataset: Any, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    monkeypatch.setattr(enriching, "_MANY_SAMPLES", 2)
    monkeypatch.setattr(fo.config, "allow_legacy_orchestrators", allowed)
    ctx = foo.executor.ExecutionContext({"dataset_name": dataset.name, "params": {}})
    notice = enriching.SegmentEverything().resolve_type(ctx, "inputs").type.properties["many"].view.description
    told = [finding for finding in doctor.diagnose() if "schedule" in finding.text]
    assert ("fiftyone delegated launch" in notice) is allowed
    assert (doctor.ALLOW_SCHEDULING in notice) is not allowed
    assert [(finding.well, doctor.ALLOW_SCHEDULING in finding.remedy) for finding in told] == [(True, not allowed)]


def test_what_the_doctor_finds_is_shown_as_it_is(dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Finding(True, "in fiftyone/__plugins__/x"), Finding(False, "<a*b>", "set persistent_one")]
    monkeypatch.setattr(diagnose, "diagnose", lambda dataset: found)
    ctx = foo.executor.ExecutionContext({"dataset_name": dataset.name, "params": {}})
    first, second = diagnose.Doctor().execute(ctx)["findings"].splitlines()
    assert first == r"- ✓ in fiftyone/\_\_plugins\_\_/x"
    assert second == r"- ✗ \<a\*b\> — **set persistent\_one**"
