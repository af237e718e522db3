"""``make train-smoke`` in small: the loss falls, and a run that is killed and resumed gives the same weights."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import torch

from fastsam_core.training.checkpoint import load_checkpoint
from fastsam_core.training.scene_bank import load_scene_bank

if TYPE_CHECKING:
    from pathlib import Path

STEPS = 20
pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="the training loop forks"),
    pytest.mark.timeout(900),  # each run imports torch, which takes a minute on a busy machine
]


def start(run: Path, scenes: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "fastsam_core.training", "--run", str(run), "--scenes", str(scenes)]
    arguments = ["--scene-count", "6", "--size", "64", "--steps", str(STEPS), *more]
    return subprocess.Popen([*command, *arguments], start_new_session=True)


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    while not path.is_file() and process.poll() is None:
        time.sleep(0.02)
    assert path.is_file()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    load_scene_bank(folder, 6)
    return folder


def test_killed_and_resumed_runs_end_with_the_same_weights(tmp_path: Path, scenes: Path) -> None:
    assert start(tmp_path / "straight", scenes).wait() == 0
    killed = start(tmp_path / "killed", scenes, "--save-every", "0")
    wait_for(tmp_path / "killed" / "last.pt", killed)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    early = tmp_path / "early.pt"
    shutil.copy(tmp_path / "killed" / "last.pt", early)
    before = load_checkpoint(early)["step"]
    assert start(tmp_path / "killed", scenes).wait() == 0
    straight, resumed = (load_checkpoint(tmp_path / name / "last.pt") for name in ("straight", "killed"))
    assert 0 < before < STEPS
    assert straight["step"] == resumed["step"] == STEPS
    for part in ("network", "ema"):
        for name, value in straight[part].items():
            assert torch.equal(value, resumed[part][name]), f"{part} {name}"
    with (tmp_path / "straight" / "log.csv").open() as stream:
        losses = [sum(float(row[name]) for name in ("box", "seg", "cls", "dfl")) for row in csv.DictReader(stream)]
    assert losses[-1] < losses[0]

    late = tmp_path / "straight" / "last.pt"
    blend = ("--resume", str(late), "--blend", str(early), "--blend-share", "0.25")
    assert start(tmp_path / "blended", scenes, *blend).wait() == 0
    blended, first = load_checkpoint(tmp_path / "blended" / "last.pt"), load_checkpoint(early)
    for name, value in straight["ema"].items():
        if value.is_floating_point():
            torch.testing.assert_close(blended["network"][name], 0.75 * value + 0.25 * first["ema"][name])


def stopped(process: subprocess.Popen[bytes], when: Path, number: signal.Signals) -> int:
    """Send a signal to all processes of a run, as batch systems and terminals do, once a file is there."""
    try:
        wait_for(when, process)
        os.killpg(process.pid, number)
        return process.wait()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_a_run_that_is_stopped_ends_with_a_checkpoint(tmp_path: Path, scenes: Path) -> None:
    process = start(tmp_path, scenes, "--steps", "100000", "--save-every", "0")
    assert stopped(process, tmp_path / "last.pt", signal.SIGTERM) == 0
    assert 0 < load_checkpoint(tmp_path / "last.pt")["step"] < 100000


def test_a_run_may_be_stopped_while_it_draws_scenes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    process = start(tmp_path, tmp_path / "scenes", "--scene-count", "100000")
    assert stopped(process, tmp_path / "scenes" / "000002.png", signal.SIGINT) == 130
    assert "Traceback" not in capfd.readouterr().err
    assert load_scene_bank(tmp_path / "scenes", 3)[2].layers.any()
    assert not list((tmp_path / "scenes").glob(".*"))


def test_a_process_whose_batches_are_still_referred_to_ends(tmp_path: Path, scenes: Path) -> None:
    """It waited for ever: its loader ignored SIGTERM, by which it was to end."""
    script = f"""
from pathlib import Path
from fastsam_core.training import trainer
from fastsam_core.training.batches import BatchStream, StreamConfig
from fastsam_core.training.scene_bank import load_scene_bank

trainer._MOST_TO_STOP_S = 1
stream = StreamConfig(sizes=(64,), pixels=2 * 64 * 64)
config = trainer.TrainConfig(stream=stream, processes=1)
batches = BatchStream([], load_scene_bank(Path({str(scenes)!r}), 6), [], stream)
kept = trainer.Trainer(config, Path({str(tmp_path)!r})).batches(batches, 10)
next(kept)
raise RuntimeError("of the user's own")
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert found.returncode == 1
    assert found.stderr.rstrip().endswith("of the user's own")
