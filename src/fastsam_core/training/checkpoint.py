"""Training state on disk: written atomically, read without executing pickled code."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

import torch

from fastsam_core._files import atomic_path
from fastsam_core.errors import CheckpointError, OutputError

if TYPE_CHECKING:
    from pathlib import Path


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint through a temporary file, so that a kill or a full disk leaves the previous one intact.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as RuntimeError
        raise OutputError(
            f"The checkpoint {path.name} cannot be written",
            actual=str(error)[:200],
            remedy="free some space and resume: the previous checkpoint is whole",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def read_state(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote (tensors and plain containers only).

    Raises
    ------
    CheckpointError
        If the file is damaged or was not written by `save_checkpoint`.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, OSError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path.name} cannot be read as a training checkpoint", actual=str(error)[:200]
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path.name} is not a training checkpoint", actual=type(state).__name__)
    return state


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read the checkpoint of a `fastsam_core.training.trainer.Trainer`.

    Raises
    ------
    CheckpointError
        If the file is damaged or is none.
    """
    state = read_state(path)
    if not {"config", "network", "ema", "optimizer", "step"} <= state.keys():
        raise CheckpointError(f"{path.name} is not a training checkpoint", remedy="give a last.pt of a training run")
    return state


def forget_rows(log: Path, last: int) -> None:
    """Take out of a CSV log, if it is there, what was written after a checkpoint: a resumed run writes it again.

    Parameters
    ----------
    log : Path
        Its first column is a step or an epoch.
    last : int
        That of the checkpoint; rows behind it go, as does one that was cut off.
    """
    if not log.is_file():
        return
    header, *rows = log.read_bytes().splitlines(keepends=True) or [b""]
    kept = [row for row in rows if row.endswith(b"\n") and int(float(row.split(b",")[0])) <= last]
    if kept != rows:
        with atomic_path(log) as temporary:
            temporary.write_bytes(b"".join([header, *kept]))
