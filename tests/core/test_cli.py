"""The command line as a whole: start-up, help, models, info, errors, Ctrl-C and closed pipes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import safetensors.numpy
import skimage.data
import tifffile
from typer.testing import CliRunner

import fastsam_core
from fastsam_core import __version__, downloads, registry
from fastsam_core._files import atomic_path
from fastsam_core.cli import app
from fastsam_core.cli._console import exit_code
from fastsam_core.errors import FastSAMError, ImageReadError, InvalidPromptError, OutputError, UnknownModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMAND = (sys.executable, "-m", "fastsam_core.cli")


def start(arguments: Sequence[str], folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
    )


# ---- start-up ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["segment", "--help"], ["models", "--help"]])
def test_help_and_version_load_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys, atexit\n"
        "heavy = {'torch', 'numba', 'ultralytics', 'numpy', 'skimage', 'scipy', 'cv2', 'PIL'}\n"
        "atexit.register(lambda: print('LOADED', sorted(heavy & set(sys.modules))))\n"
        f"sys.argv = ['fastsam', *{arguments!r}]\n"
        "from fastsam_core.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout
    assert __version__ in done.stdout or "Usage: fastsam" in done.stdout


def test_help_lists_every_command() -> None:
    result = CliRunner().invoke(app, ["--help"])
    for name in ("segment", "demo", "models", "info"):
        assert re.search(rf"\b{name}\b", result.stdout)


def test_every_option_is_explained_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    for command in ("segment", "demo"):
        shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, [command, "--help"]).stdout
        options = set(re.findall(r"(?<!\S)--[a-z-]+", shown)) - {"--help"}
        assert len(options) > 6
        assert {option for option in options if f"`{option}" not in text} == set()


def test_unknown_commands_and_options_are_wrong_usage() -> None:
    assert CliRunner().invoke(app, ["segmnt"]).exit_code == 2
    assert CliRunner().invoke(app, ["segment", "x.png", "--modle", "y"]).exit_code == 2
    assert CliRunner().invoke(app, ["segment"]).exit_code == 2


# ---- models and info --------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FASTSAM_CACHE", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "250")
    return tmp_path


def test_list_of_models(cache: Path) -> None:
    (cache / "FastSAM-s.pt").write_bytes(b"x" * 2_000_000)
    result = CliRunner().invoke(app, ["models", "list"])
    assert result.exit_code == 0
    rows = {row.split("│")[1].strip(): row for row in result.stdout.splitlines() if "│" in row}
    assert set(rows) >= set(registry.MODELS)
    assert "2.0 MB" in rows["FastSAM-s"]
    assert "FastSAM-s.pt" in rows["FastSAM-s"]
    assert "not downloaded" in rows["FastSAM-x"]


def test_verify_finds_a_damaged_file(cache: Path) -> None:
    (cache / "FastSAM-s.pt").write_bytes(b"not the weights")
    result = CliRunner().invoke(app, ["models", "verify", "FastSAM-s"])
    assert result.exit_code == 1
    assert "damaged: sha256" in result.stdout
    assert CliRunner().invoke(app, ["models", "verify", "FastSAM-x"]).exit_code == 1


def test_verify_accepts_the_right_hash(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cache / "FastSAM-s.pt"
    path.write_bytes(b"the weights")
    entry = registry.MODELS["FastSAM-s"]
    fitting = registry.ModelEntry(
        **{name: getattr(entry, name) for name in entry.__slots__} | {"sha256": downloads.file_sha256(path)}
    )
    monkeypatch.setitem(registry.MODELS, "FastSAM-s", fitting)
    result = CliRunner().invoke(app, ["models", "verify", "FastSAM-s"])
    assert result.exit_code == 0
    assert f"fine, sha256 {fitting.sha256}" in result.stdout


@pytest.mark.parametrize(("content", "code"), [(None, 0), (b"damaged", 1)])
def test_verify_reads_the_builtin_model(
    content: bytes | None, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "builtin.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(3, np.float16)}, path)
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr("fastsam_core.cli.models._weights_file", lambda entry: path)
    result = CliRunner().invoke(app, ["models", "verify", "builtin"])
    assert result.exit_code == code
    assert ("fine, 1 tensors" in result.stdout) == (code == 0)


def test_download_says_where_the_file_is(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(entry: registry.ModelEntry, progress: downloads.Progress) -> Path:
        progress(1, 2)
        path = cache / entry.file_name
        path.write_bytes(b"weights")
        return path

    monkeypatch.setattr(downloads, "fetch", fetch)
    result = CliRunner().invoke(app, ["models", "download", "fastsam-s", "FastSAM-x", "builtin"])
    assert result.exit_code == 0, result.output
    assert str(cache / "FastSAM-s.pt") in result.stdout
    assert "nothing to download" in result.stdout
    assert downloads.file_sha256(cache / "FastSAM-x.pt") in result.stdout


def test_unknown_model_suggests_the_nearest(cache: Path) -> None:
    result = CliRunner().invoke(app, ["models", "download", "FastSAM-xs"])
    assert result.exit_code == 2
    assert "FastSAM-x" in result.stderr
    assert "Traceback" not in result.output
    assert not list(cache.iterdir())


def test_info_names_what_is_missing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastsam_core.cli import info

    monkeypatch.setattr(info, "_version", lambda package: None if package == "openvino" else "1.2.3")
    result = CliRunner().invoke(app, ["info"])
    assert result.exit_code == 0, result.output
    assert "pip install 'fastsam-plugins[fast]'" in result.stdout
    assert "[napari]" in result.stdout
    facts = json.loads(CliRunner().invoke(app, ["info", "--json"]).stdout)
    assert facts["system"]["fastsam-plugins"] == __version__
    assert facts["extras"]["fast"]["installed"] is False
    assert facts["extras"]["napari"]["installed"] is True
    assert facts["packages"]["torch"] == "1.2.3"


# ---- the whole program ------------------------------------------------------------------------------------------


def test_builtin_model_on_a_real_image(tmp_path: Path) -> None:
    if not (Path(fastsam_core.__file__).parent / "weights" / "builtin.safetensors").is_file():
        pytest.skip("this checkout comes without the built-in model")
    coins = Path(skimage.data.__file__).parent / "coins.png"
    arguments = ["segment", str(coins), "--runtime", "torch", "--jsonl", "--points", "215,51", "--points", "276,53"]
    process = start(arguments, tmp_path)
    stdout, stderr = process.communicate(timeout=250)
    assert process.returncode == 0, stderr
    line = json.loads(stdout)
    assert (line["status"], line["masks"], line["unmatched_prompts"]) == ("ok", 2, 0)
    assert "Traceback" not in stderr
    labels = tifffile.imread(tmp_path / line["outputs"]["labels"])
    assert labels.shape == (303, 384)
    assert labels[51, 215] == 1
    assert labels[53, 276] == 2
    assert 0.02 < (labels > 0).mean() < 0.1


# ---- errors, Ctrl-C, pipes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [(InvalidPromptError("x"), 2), (UnknownModelError("x"), 2), (ImageReadError("x"), 1), (OutputError("x"), 1)],
)
def test_exit_codes(error: FastSAMError, code: int) -> None:
    assert exit_code(error) == code


def test_errors_are_panels_and_with_debug_tracebacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    result = CliRunner().invoke(app, ["models", "verify", "no[/]ne"])
    assert result.exit_code == 2
    assert "no[/]ne" in result.stderr
    assert "Expected: " in result.stderr
    assert "Remedy: " in result.stderr
    debugged = CliRunner().invoke(app, ["models", "verify", "none", "--debug"])
    assert isinstance(debugged.exception, UnknownModelError)


def test_ctrl_c_while_working(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "x.png").touch()
    monkeypatch.setattr("fastsam_core.model.FastSAM.load", interrupted)
    result = CliRunner().invoke(app, ["segment", str(tmp_path / "x.png"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 130
    assert "Interrupted." in result.stderr
    assert not (tmp_path / "out").exists()


def test_sigterm_while_working(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    half = tmp_path / "out" / "half.txt"

    def terminated(*_: object, **__: object) -> None:
        with atomic_path(half):
            assert list(half.parent.iterdir())
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)

    (tmp_path / "x.png").touch()
    monkeypatch.setattr("fastsam_core.model.FastSAM.load", terminated)
    result = CliRunner().invoke(app, ["segment", str(tmp_path / "x.png"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 143
    assert "Terminated." in result.stderr
    assert not half.parent.exists(), "nothing half written stays"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.usefixtures("heeded_interrupts")
def test_interrupt_signal_ends_the_program_quietly(tmp_path: Path) -> None:
    fifo = tmp_path / "prompts.json"
    os.mkfifo(fifo)
    process = start(["segment", str(tmp_path / "x.png"), "--prompts", str(fifo)], tmp_path)
    with fifo.open("w"):  # blocks until the program reads its prompts
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert stderr.strip() == "Interrupted."


@pytest.mark.parametrize("arguments", [["models", "list"], ["segment", "nothing.png", "--jsonl", "--skip-existing"]])
def test_a_closed_pipe_ends_the_program_quietly(arguments: list[str], tmp_path: Path) -> None:
    for suffix in ("_overlay.png", "_labels.tif", "_coco.json", "_measurements.csv"):
        path = tmp_path / "fastsam-output" / f"nothing{suffix}"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    process = start(arguments, tmp_path)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    stderr = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=120) == 141
    assert stderr == ""


def test_a_file_name_that_is_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / name).write_bytes(b"")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / os.fsdecode(b"caf\xe9_labels.tif")).touch()
    arguments = ["segment", name, "--out", "out", "--format", "labels"]
    for more, code in (["--skip-existing"], 0), (["--skip-existing", "--jsonl"], 0), ([], 1):
        command = [*COMMAND, *arguments, *more]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        assert "caf" in done.stdout


@pytest.mark.parametrize("arguments", [["segment", "--help"], ["segment", "日本.png", "--skip-existing"]])
def test_letters_that_the_output_lacks_end_no_work(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "fastsam-output").mkdir()
    for suffix in ("_overlay.png", "_labels.tif", "_coco.json", "_measurements.csv"):
        (tmp_path / "fastsam-output" / f"日本{suffix}").touch()
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "??.png" in done.stdout or "Usage: fastsam" in done.stdout
