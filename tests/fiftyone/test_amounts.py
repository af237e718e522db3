"""How much is asked of the database at once: what is needed, of few samples where these hold much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bson
import fiftyone as fo
import pytest

from fastsam_core.text import TextEncoder
from fiftyone_fastsam import _items, enrich

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fiftyone.conftest import FakeNetwork

    from fastsam_core.model import FastSAM


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """Return a list that gets what each question to the database brings."""
    answers: list[list[Any]] = []
    fetch = _items._fetch

    def listened(collection: Any, stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        answers.append(fetch(collection, stages))
        return answers[-1]

    monkeypatch.setattr(_items, "_fetch", listened)
    return answers


def test_stored_masks_of_few_samples_are_in_memory(
    dataset: Any, model: FastSAM, fetched: list[list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("open_clip", reason="open_clip is not installed; pip install 'fastsam-plugins[text]'")
    encoder = TextEncoder.load("demo")
    enrich(dataset, "masks", model=model, embeddings=True, text_encoder=encoder)
    size = len(bson.encode(dataset._sample_collection.find_one({}, {"masks": 1})["masks"]))
    options: dict[str, Any] = {"model": model, "text": "red", "text_encoder": encoder, "masks_field": "masks"}
    for field, room, most in (("two", size * 2 + 100, 2), ("one", size // 2, 1)):
        monkeypatch.setattr(_items, "_CHUNK_BYTES", room, raising=False)
        fetched.clear()
        assert enrich(dataset, field, **options).done == 3
        whole = [sum("masks" in document for document in answer) for answer in fetched]
        assert (max(whole), sum(whole)) == (most, 3)


def test_views_of_several_parts_bring_each_sample_once(
    dataset: Any, model: FastSAM, fetched: list[list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    box = fo.Detection(label="a", bounding_box=[0.1, 0.1, 0.5, 0.5])
    dataset.set_values("gt", [fo.Detections(detections=[box.copy()]) for _ in range(3)])
    monkeypatch.setattr(_items, "_CHUNK", 1)
    first, *others = (dataset.match(fo.ViewField("filepath") == path) for path in dataset.values("filepath"))
    parts = first.concat(others[0].concat(others[1]))
    assert enrich(parts, "masks", model=model, box_prompt_field="gt").done == 3
    assert [len(answer) for answer in fetched] == [1, 1, 1]
    assert enrich(parts, "masks", model=model, box_prompt_field="gt").done == 0


def test_prompts_of_several_parts_are_answered_once(dataset: Any, model: FastSAM) -> None:
    boxes = [fo.Detection(label=name, bounding_box=[0.1, 0.1, 0.5, 0.5]) for name in ("cat", "dog")]
    dataset.set_values("gt", [fo.Detections(detections=[box.copy() for box in boxes]) for _ in range(3)])
    cats, dogs = (dataset.filter_labels("gt", fo.ViewField("label") == name) for name in ("cat", "dog"))
    for done in (3, 0):
        assert enrich(cats[:1].concat(dogs[1:]), "masks", model=model, box_prompt_field="gt").done == done
        assert dataset.values("masks.detections.label") == [["cat"], ["dog"], ["dog"]]


@pytest.mark.parametrize("existing", ["resume", "append"])
def test_a_sample_in_several_parts_is_done_once(
    dataset: Any, model: FastSAM, network: FakeNetwork, existing: str
) -> None:
    boxes = [fo.Detection(label=name, bounding_box=[0.1, 0.1, 0.5, 0.5]) for name in ("cat", "dog")]
    dataset.set_values("gt", [fo.Detections(detections=[box.copy() for box in boxes]) for _ in range(3)])
    cats, dogs = (dataset.filter_labels("gt", fo.ViewField("label") == name) for name in ("cat", "dog"))
    overlapping = cats[:2].concat(dogs[1:])
    for done in (3, 0):
        for field, prompts in (("everything", None), ("answers", "gt")):
            report = enrich(overlapping, field, model=model, existing=existing, box_prompt_field=prompts)
            assert (report.done, report.skipped) == (done, 3 - done)
    assert network.calls == 6
    assert dataset.values("answers.detections.label") == [["cat"], ["cat", "dog"], ["dog"]]


@pytest.mark.parametrize(
    "group",
    [
        lambda dataset: dataset.group_by("scene").flatten(),
        lambda dataset: dataset.group_by("scene", flat=True, match_expr=fo.ViewField().length() > 1),
    ],
)
def test_views_of_groups_show_all_samples(
    dataset: Any, model: FastSAM, monkeypatch: pytest.MonkeyPatch, group: Callable[..., Any]
) -> None:
    box = fo.Detection(label="a", bounding_box=[0.1, 0.1, 0.5, 0.5])
    dataset.set_values("gt", [fo.Detections(detections=[box.copy()]) for _ in range(3)])
    dataset.set_values("scene", ["a", "a", "b"])
    monkeypatch.setattr(_items, "_CHUNK", 1)
    count = len(group(dataset))
    report = enrich(group(dataset), "masks", model=model, box_prompt_field="gt")
    assert (report.done, report.gone) == (count, 0)
    again = enrich(group(dataset), "masks", model=model, box_prompt_field="gt")
    assert (again.done, again.skipped) == (0, count)
