"""``fastsam enrich`` and ``fastsam fiftyone``, found through their entry points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fiftyone as fo
import pytest
from fiftyone.core.service import ServiceListenTimeout
from typer.testing import CliRunner

from fastsam_core.cli import app
from fastsam_core.model import FastSAM
from fiftyone_fastsam import enrich

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fiftyone.conftest import FakeNetwork

    from fastsam_core.masks import Masks

run = CliRunner().invoke


@pytest.fixture(autouse=True)
def fake_model(monkeypatch: pytest.MonkeyPatch, model: FastSAM) -> None:
    monkeypatch.setattr(FastSAM, "load", classmethod(lambda cls, *args, **options: model))


def test_commands_are_listed() -> None:
    shown = run(app, ["--help"]).output
    assert "enrich" in shown
    assert "fiftyone" in shown


def test_enriching_twice(dataset: Any, known_masks: Masks) -> None:
    first = run(app, ["enrich", dataset.name, "--label-field", "masks"])
    assert first.exit_code == 0, first.output
    assert f"masks: 3 done with {3 * len(known_masks)} masks, 0 failed, 0 needed nothing" in first.output
    second = run(app, ["enrich", dataset.name, "-l", "masks"])
    assert "0 done with 0 masks, 0 failed, 3 needed nothing" in second.output


def test_a_limited_number_of_masks_is_said(dataset: Any) -> None:
    result = run(app, ["enrich", dataset.name, "-l", "masks", "--max-det", "2"])
    assert "In 3 of them as many masks were found as --max-det allows" in " ".join(result.output.split())


def test_large_images_in_tiles(dataset: Any, network: FakeNetwork) -> None:
    result = run(app, ["enrich", dataset.name, "-l", "masks", "--tile-px", "96", "--overlap-px", "64"])
    assert result.exit_code == 0, result.output
    assert network.calls == 3 * (1 + 2)  # the whole image, and two tiles
    assert run(app, ["enrich", dataset.name, "-l", "masks", "--tile-px", "96"]).exit_code == 2
    refused = run(app, ["enrich", dataset.name, "-l", "others", "--max-pixels", "5000"])
    assert refused.exit_code == 1
    assert "The image has 96 × 128 pixels" in " ".join(refused.output.split())


def test_workers_tell_of_their_part_and_of_the_whole(dataset: Any, known_masks: Masks) -> None:
    n = len(known_masks)
    enrich(dataset[:1], "masks", model="builtin")
    told = run(app, ["enrich", dataset.name, "-l", "masks", "--worker"]).output
    assert f"masks, by this worker: 2 done with {2 * n} masks, 0 failed" in told
    assert f"masks, by all workers: 2 done with {2 * n} masks, 0 failed, 1 needed nothing" in told
    assert "by this worker: 0 done" in run(app, ["enrich", dataset.name, "-l", "masks", "--worker"]).output


def test_failures_give_exit_code_1(make_dataset: Callable[..., Any], image_paths: list[Path], tmp_path: Path) -> None:
    dataset = make_dataset(paths=[image_paths[0], tmp_path / "missing.png"])
    result = run(app, ["enrich", dataset.name, "-l", "masks"])
    assert result.exit_code == 1
    assert "missing.png" in result.output
    assert "'masks_error'" in result.output


def test_wrong_use_gives_exit_code_2(dataset: Any) -> None:
    together = (["--boxes", "a", "--points", "b"], ["--worker", "--ray", "1"])
    for options in (["--existing", "maybe"], ["--view", "none"], *together):
        assert run(app, ["enrich", dataset.name, "-l", "masks", *options]).exit_code == 2, options
    assert run(app, ["enrich", dataset.name, "-l", "not a name"]).exit_code == 2
    assert run(app, ["enrich", "no-such-dataset", "-l", "masks"]).exit_code == 2
    assert run(app, ["fiftyone", "doctor", "no-such-dataset"]).exit_code == 2


def test_saved_views_choose_samples(dataset: Any) -> None:
    dataset.save_view("first", dataset.limit(1))
    assert "1 done" in run(app, ["enrich", dataset.name, "-l", "masks", "--view", "first"]).output


def test_the_plugin_is_installed(tmp_path: Path) -> None:
    result = run(app, ["fiftyone", "install", "--plugins-dir", str(tmp_path)])
    assert result.exit_code == 0
    assert (tmp_path / "@fastsam" / "fastsam" / "fiftyone.yml").is_file()
    assert run(app, ["fiftyone", "install", "--plugins-dir", str(tmp_path)]).exit_code == 1


@pytest.mark.parametrize("gone", [ConnectionError("no mongod"), ServiceListenTimeout("a service", 1)])
def test_it_is_said_that_there_is_no_database(monkeypatch: pytest.MonkeyPatch, gone: Exception) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise gone

    for name in ("dataset_exists", "list_datasets"):
        monkeypatch.setattr(fo, name, refuse)
    for command in (["enrich", "photos", "-l", "masks"], ["enrich", "photos", "-l", "masks", "--view", "some"]):
        result = run(app, command)
        assert result.exit_code == 1
        assert "database does not answer" in result.output
    result = run(app, ["fiftyone", "doctor", "photos"])
    assert result.exit_code == 1
    assert "WRONG The database does not answer" in result.output
