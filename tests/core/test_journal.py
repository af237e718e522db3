"""The journal and its replay on other images."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from fastsam_core._replay_found import Found, FoundPlane
from fastsam_core._replay_planes import Look, View
from fastsam_core.cli import app
from fastsam_core.errors import ImageReadError, InvalidParameterError, OutputError
from fastsam_core.journal import Journal, read_journal
from fastsam_core.masks import Masks
from fastsam_core.model import FastSAM
from fastsam_core.replay import _labels, replay

if TYPE_CHECKING:
    from pathlib import Path


def squares(*corners: int) -> Masks:
    stack = np.zeros((len(corners), 20, 60), bool)
    for mask, corner in zip(stack, corners, strict=True):
        mask[5:15, corner : corner + 10] = True
    return Masks.from_dense(stack, np.linspace(0.9, 0.4, len(corners)))


def steps_of(path: Path) -> list[str]:
    return [entry["do"] for entry in read_journal(path).effective()]


def test_steps_are_on_disk_at_once_and_survive_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "a.fastsam.jsonl"
    journal = Journal(path, {"image": {"name": "a", "shape": (20, 60)}})
    journal.append("commit", labels=[np.int64(1)], causes=[{"by": "hand"}])
    journal.append("filter", limits={"area_px": (1.0, None)})
    with path.open("a") as file:
        file.write('{"do":"com')
    read = read_journal(path)
    assert read.header["image"] == {"name": "a", "shape": [20, 60]}
    assert [entry["do"] for entry in read.entries] == ["commit", "filter"]
    assert not read.complete
    assert [entry["labels"] for entry in read.label_steps] == [[1]]


def test_an_existing_journal_is_continued(tmp_path: Path) -> None:
    for _ in range(2):
        Journal(tmp_path / "a.jsonl", {"image": {}}).append("commit", labels=[1])
    Journal(tmp_path / "a.jsonl", {}).append("close")
    assert steps_of(tmp_path / "a.jsonl") == ["commit", "commit"]
    assert read_journal(tmp_path / "a.jsonl").complete


@pytest.mark.parametrize("cut", [0, 1, 12])
def test_a_journal_that_a_crash_cut_off_is_continued(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.jsonl"
    Journal(path, {}).append("commit", labels=[1])
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"do":"merge"}'[: 14 - cut])
    Journal(path, {}).append("delete")
    Journal(path, {}).append("close")
    assert steps_of(path) == (["commit", "merge", "delete"] if cut == 0 else ["commit", "delete"])


@pytest.mark.parametrize("kept", [0, 10])
def test_a_journal_without_a_whole_header_is_begun_anew(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "a.jsonl"
    Journal(path, {"image": {}})
    path.write_bytes(path.read_bytes()[:kept])
    Journal(path, {"image": {}}).append("commit")
    assert steps_of(path) == ["commit"]


def test_undo_and_redo_take_steps_out_and_in(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.jsonl", {})
    for do in ("filter", "commit", "merge", "undo", "undo", "redo", "delete", "redo", "undo", "undo", "undo"):
        journal.append(do)
        if do == "delete":
            assert steps_of(journal.path) == ["filter", "commit", "delete"]
    assert steps_of(journal.path) == ["filter"]


@pytest.mark.parametrize("text", ["", "not json\n{}", '{"do":"commit"}', '{"do":"open","version":99}', "[1]\n[2]\n"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(ImageReadError, match="not a journal"):
        read_journal(tmp_path / "a.jsonl")
    with pytest.raises(ImageReadError, match="cannot be read"):
        read_journal(tmp_path / "b.jsonl")
    with pytest.raises(InvalidParameterError, match="names no file"):
        read_journal(None)  # type: ignore[arg-type]
    with pytest.raises(InvalidParameterError, match="names no file"):
        Journal(None, {})  # type: ignore[arg-type]


PROMPTS: dict[str, Any] = {
    "do": "prompts",
    "plane": {"axes_yx": [0, 1], "index": [None, None]},
    "points_yx": [[3.5, 4.5]],
    "positive": [True],
    "groups": [0],
    "boxes_xyxy": [],
    "regions_yx": [],
    "scribbles_yx": [],
}


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ({"do": ["commit"]}, "do is"),
        ({"do": "segment", "conf": "0.3"}, "conf is 0.3, not a number"),
        ({"do": "segment", "max_det": 2.5}, "max_det"),
        ({"do": "segment", "contrast": ["a", 3]}, "contrast"),
        ({"do": "segment", "stack_axis": 3}, "the image has 2 axes"),
        ({"do": "segment", "region": [1, 2, 3]}, "region"),
        ({"do": "filter", "limits": [1, 2]}, "limits"),
        ({"do": "filter", "limits": {"area_px": 3}}, "limits"),
        ({"do": "commit", "plane": 3}, "plane"),
        ({"do": "commit", "plane": {"axes_yx": [0, 2], "index": [None, None]}}, "plane"),
        ({"do": "commit", "plane": {"axes_yx": [1, 2], "index": [0, None, None]}}, "index has 3 axes"),
        ({"do": "commit", "target": ["a"]}, "target"),
        ({"do": "commit", "places": 3}, "places"),
        ({"do": "commit", "causes": {"by": "points"}}, "causes"),
        ({"do": "commit", "causes": [{"by": "points", "points_yx": [[1]], "labels": [1]}]}, "points_yx"),
        ({"do": "commit", "causes": [{"by": "box", "box_xyxy": [1, 2, None, 4]}]}, "box_xyxy"),
        ({"do": "commit", "causes": [{"by": "text", "text": 3}]}, "text"),
        ({**PROMPTS, "positive": [1]}, "positive is [1]"),
        ({**PROMPTS, "groups": [0, 1]}, "differ in length"),
        ({name: value for name, value in PROMPTS.items() if name != "regions_yx"}, "regions_yx is missing"),
    ],
)
def test_steps_that_hold_what_none_can_are_told_of(tmp_path: Path, step: dict[str, Any], problem: str) -> None:
    journal = Journal(tmp_path / "a.jsonl", {"image": {"shape": [20, 60]}})
    journal.append("segment", conf=0.3, contrast=None, region=None, stack_axis=None, plane=None, max_det=100)
    journal.append("filter", limits={"score": [0.5, float("inf")], "area_px": [None, 3]})
    journal.append(**PROMPTS)
    read_journal(journal.path)
    with journal.path.open("a") as file:
        file.write(json.dumps(step) + "\n")
    with pytest.raises(ImageReadError, match="not a journal") as refused:
        read_journal(journal.path)
    assert problem in str(refused.value)
    assert "line 5" in str(refused.value)
    result = CliRunner().invoke(app, ["replay", str(journal.path), "a.png"])
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)


@pytest.mark.parametrize("image", ["a.png", {"shape": ["20", "60"]}, {"shape": 3}, {"axes": "YX"}])
def test_a_header_that_holds_what_none_can_is_told_of(tmp_path: Path, image: Any) -> None:
    journal = Journal(tmp_path / "a.jsonl", {"image": image})
    with pytest.raises(ImageReadError, match="line 1: "):
        read_journal(journal.path)


def test_what_windows_editors_do_to_a_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.jsonl", {})
    journal.append("commit")
    journal.path.write_bytes(b"\xef\xbb\xbf" + journal.path.read_bytes().replace(b"\n", b"\r\n"))
    assert steps_of(journal.path) == ["commit"]


def test_a_journal_that_was_removed_is_begun_anew(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.jsonl", {"image": {"name": "a"}})
    journal.append("commit")
    journal.path.unlink()
    journal.append("merge")
    assert steps_of(journal.path) == ["merge"]
    assert read_journal(journal.path).header["image"] == {"name": "a"}


def test_a_session_does_not_write_into_the_journal_of_another(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.jsonl", {})
    journal.append("commit")
    journal.path.rename(tmp_path / "a.old.jsonl")  # as a second session does with what it finds
    other = Journal(tmp_path / "a.jsonl", {})
    other.append("merge")
    with pytest.raises(OutputError, match="Another session"):
        journal.append("delete")
    assert steps_of(tmp_path / "a.old.jsonl") == ["commit"]
    assert steps_of(tmp_path / "a.jsonl") == ["merge"]


def test_steps_of_sessions_that_write_at_a_time_stay_whole(tmp_path: Path) -> None:
    sessions = {name: Journal(tmp_path / "a.jsonl", {}) for name in "ab"}

    def write(name: str) -> None:
        for _ in range(40):
            sessions[name].append(name, long=name * 200_000)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, sessions))
    assert sorted(steps_of(tmp_path / "a.jsonl")) == ["a"] * 40 + ["b"] * 40


def test_a_full_disk_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        Journal(tmp_path / "file" / "a.jsonl", {})


def entry(do: str, *causes: dict[str, Any], **facts: Any) -> dict[str, Any]:
    return {"do": do, "causes": list(causes), **facts}


POINT = {"by": "points", "points_yx": [[10, 12]], "labels": [1], "level": "auto"}
BOX = {"by": "box", "box_xyxy": [19, 4, 31, 16], "many": False}
REGION = {"by": "region", "vertices_yx": [[4, 38], [16, 38], [16, 52], [4, 52]], "many": False}
SCRIBBLE = {"by": "scribble", "vertices_yx": [[10, 42], [10, 47]]}
HAND = {"by": "hand", "box_xyxy": [40, 5, 50, 15], "at_yx": [10, 45]}


VALUES = np.full((20, 60), 7.0)
VALUES[:, 35:] = 900


def labels_after(*steps: dict[str, Any]) -> tuple[list[int], int]:
    masks = squares(10, 20, 40)
    found = FoundPlane(((-1, Found.of(masks, VALUES)),))
    labels, unanswered = _labels([json.loads(json.dumps(step)) for step in steps], View(), {None: found})
    return [int(labels[10, x]) for x in (15, 25, 45)], unanswered


def test_recorded_prompts_pick_again() -> None:
    assert labels_after(entry("commit", POINT, BOX, REGION)) == ([1, 2, 3], 0)
    assert labels_after(entry("commit", SCRIBBLE), entry("commit", HAND, POINT, overlap="keep")) == ([2, 0, 1], 0)
    missed = {**POINT, "points_yx": [[1, 1]]}
    assert labels_after(entry("commit", missed, BOX)) == ([0, 1, 0], 1)


def test_everything_shown_follows_the_filter() -> None:
    limit = {"do": "filter", "limits": {"confidence": [0.5, None]}}
    assert labels_after(limit, entry("commit", scope="shown"))[0] == [1, 2, 0]


def test_limits_on_the_intensity_are_those_of_the_image_s_own_values() -> None:
    limit = {"do": "filter", "limits": {"intensity": [500, None]}}
    assert labels_after(limit, entry("commit", scope="shown"))[0] == [0, 0, 1]


def test_edits_are_repeated_where_they_mean_something() -> None:
    commit = entry("commit", POINT, BOX, REGION)
    assert labels_after(commit, entry("merge", POINT, BOX))[0] == [1, 1, 3]
    assert labels_after(commit, entry("delete", POINT))[0] == [0, 2, 3]
    assert labels_after(commit, entry("merge", POINT), entry("split", POINT))[0] == [1, 2, 3]


def test_unknown_prompts_and_empty_journals_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameterError, match="unknown kind"):
        labels_after(entry("commit", {"by": "magic"}))
    for by in ("points", "box", "text", "region", "scribble"):
        with pytest.raises(InvalidParameterError, match="does not say where"):
            labels_after(entry("commit", {"by": by}))
    Journal(tmp_path / "a.jsonl", {}).append("segment", conf=0.3)
    with pytest.raises(InvalidParameterError, match="writes no labels"):
        replay(read_journal(tmp_path / "a.jsonl"), [], None)  # type: ignore[arg-type]


def segmented(place: int, **facts: Any) -> dict[str, Any]:
    return {"do": "segment", "plane": {"axes_yx": [1, 2], "index": [place, None, None]}, **facts}


def committed(place: int) -> dict[str, Any]:
    return {**segmented(place), "do": "commit"}


def test_a_replay_segments_what_the_session_did() -> None:
    part = [2, 8, 0, 9]
    steps = [
        segmented(0),
        segmented(1, stack_axis=0, tiled=True),
        segmented(0, region=part),
        committed(0),
        segmented(0, region=part),
        segmented(0),
        committed(0),
        segmented(0),
    ]
    view = View.of({"image": {"shape": [3, 20, 30]}}, steps)
    at_0, at_2 = (((1, 2), (place, None, None)) for place in (0, 2))
    assert view.plane_hw(at_0) == (20, 30)
    assert view.looks(at_0, steps) == [
        Look(1, None, tiled=True),
        Look(2, (2, 8, 0, 9)),
        Look(5),
    ]
    assert view.looks(at_2, steps) == [Look(1, None, tiled=True)]
    alone = View.of({"image": {"shape": [3, 20, 30]}}, steps[:1])
    assert alone.looks(at_2, [steps[0], committed(2)]) == [Look()]


def test_an_old_journal_says_nothing_of_parts() -> None:
    view = View.of({}, [])
    assert view.looks(None, [{"do": "segment", "conf": 0.3}, entry("commit", POINT)]) == [Look(0)]
    assert view.looks(None, [entry("commit", POINT)]) == [Look()]
    assert view.plane_hw(None) is None


def test_each_labels_layer_has_a_history_of_its_own(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.jsonl", {})
    done = [("commit", "A"), ("commit", "B"), ("undo", "A"), ("merge", "B"), ("redo", "A"), ("undo", "B")]
    for number, (do, target) in enumerate(done):
        journal.append(do, target=target, number=number)
    found = read_journal(journal.path)
    assert [step["number"] for step in found.effective()] == [1, 0]
    assert found.targets == ("B", "A")
    assert [step["number"] for step in found.effective("A")] == [0]


def test_steps_that_name_no_layer_belong_to_all(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.jsonl", {})
    journal.append("commit")
    journal.append("segment")
    journal.append("undo", target="A")
    assert steps_of(journal.path) == ["segment"]
    journal.append("commit")
    assert [step["do"] for step in read_journal(journal.path).effective("A")] == ["segment", "commit"]


@pytest.mark.parametrize("target", [None, "C"])
def test_replay_asks_which_of_several_layers_is_wanted(tmp_path: Path, target: str | None) -> None:
    journal = Journal(tmp_path / "a.jsonl", {"image": {}})
    for name in ("A", "B"):
        journal.append("commit", target=name)
    model: Any = None
    with pytest.raises(InvalidParameterError, match="one of 'A', 'B'"):
        replay(read_journal(journal.path), [], model, target=target)


def replayable(folder: Path, *targets: str) -> Path:
    """Write a journal with a commit into each Labels layer, and images ``a.tif`` and ``b.tif``."""
    steps: list[dict[str, Any]] = [
        {"do": "open", "version": 1, "image": {"shape": [64, 64], "rgb": False}},
        {"do": "segment", "conf": 0.3},
    ]
    causes = [{"by": "points", "points_yx": [[30, 40]], "labels": [1]}]
    steps += [{"do": "commit", "causes": causes, "overlap": "keep", "target": target} for target in targets]
    journal = folder / "a.fastsam.jsonl"
    journal.write_text("".join(json.dumps(step | {"at": "2026-11-29T10:21:17.442+00:00"}) + "\n" for step in steps))
    for name in "ab":
        tifffile.imwrite(folder / f"{name}.tif", np.zeros((64, 64), np.uint8))
    return journal


def test_earlier_results_are_kept_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, out = replayable(tmp_path, "A"), tmp_path / "out"
    out.mkdir()
    (out / "a_labels.tif").write_bytes(b"by hand")

    def run_with(*options: str) -> tuple[int, str]:
        images = [str(tmp_path / f"{name}.tif") for name in "ab"]
        result = CliRunner().invoke(app, ["replay", str(journal), *images, "--out", str(out), *options])
        return result.exit_code, result.output

    code, said = run_with()
    assert code == 1
    assert "exists already" in said
    assert "in 1 of 2 images" in " ".join(said.split())
    assert (out / "b_labels.tif").exists()
    with monkeypatch.context() as patch:
        patch.setattr(FastSAM, "load", None)  # nothing is to be done
        code, said = run_with("--skip-existing")
        assert run_with()[0] == 1
        missing = CliRunner().invoke(app, ["replay", str(journal), "nosuch.tif", "--out", str(out)])
    assert (missing.exit_code, "There is no file nosuch.tif" in missing.output) == (1, True)
    assert (code, (out / "a_labels.tif").read_bytes()) == (0, b"by hand")
    assert "2 skipped" in said
    code, said = run_with("--overwrite")
    assert (code, tifffile.imread(out / "a_labels.tif").shape) == (0, (64, 64))
    assert run_with("--overwrite", "--skip-existing")[0] == 2


@pytest.mark.parametrize(("axes", "told"), [(["time", "Y", "X"], "TYX"), (["a", "b", "c"], "ZYX"), (None, "ZYX")])
def test_label_images_of_stacks_say_their_axes(tmp_path: Path, axes: list[str] | None, told: str) -> None:
    plane = {"axes_yx": [1, 2], "index": [1, None, None]}
    causes = [{"by": "points", "points_yx": [[30, 40]], "labels": [1]}]
    journal = Journal(
        tmp_path / "a.fastsam.jsonl", {"image": {"shape": [3, 64, 64]} | ({"axes": axes} if axes else {})}
    )
    journal.append("segment", plane=plane, conf=0.3)
    journal.append("commit", plane=plane, causes=causes, overlap="keep")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 64, 64), np.uint8), photometric="minisblack")
    images = str(tmp_path / "a.tif"), "--out", str(tmp_path)
    result = CliRunner().invoke(app, ["replay", str(journal.path), *images], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    with tifffile.TiffFile(tmp_path / "a_labels.tif") as tiff:
        assert (tiff.series[0].axes, tiff.series[0].shape, tiff.is_imagej) == (told, (3, 64, 64), True)


def test_results_of_another_image_or_layer_are_not_taken_for_those_wanted(tmp_path: Path) -> None:
    journal = replayable(tmp_path, "A", "B")
    other = tmp_path / "other" / "a.tif"
    other.parent.mkdir()
    other.write_bytes((tmp_path / "a.tif").read_bytes())

    def run_with(image: Path, target: str) -> tuple[int, str]:
        options = ["--out", str(tmp_path / "out"), "--skip-existing", "--target", target]
        result = CliRunner().invoke(app, ["replay", str(journal), str(image), *options])
        return result.exit_code, " ".join(result.output.split())

    assert run_with(tmp_path / "a.tif", "A")[0] == 0
    code, said = run_with(tmp_path / "a.tif", "A")
    assert (code, "1 skipped" in said) == (0, True)
    for image, target in ((other, "A"), (tmp_path / "a.tif", "B")):
        code, said = run_with(image, target)
        assert (code, "are of another image" in said) == (1, True)
    assert run_with(tmp_path / "a.tif", "C")[0] == 2


def test_a_result_that_cannot_be_written_ends_no_replay(tmp_path: Path) -> None:
    journal = replayable(tmp_path, "A")
    images = [(tmp_path / "a.tif").rename(tmp_path / f"{'a' * 245}.tif"), tmp_path / "b.tif"]
    result = CliRunner().invoke(app, ["replay", str(journal), *map(str, images), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "in 1 of 2 images" in " ".join(result.output.split())
    assert (tmp_path / "out" / "b_labels.tif").exists()
