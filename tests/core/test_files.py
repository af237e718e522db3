"""Files that are there whole or not at all, and the folders made for them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fastsam_core._files import atomic_path, check_writable
from fastsam_core.errors import ImageReadError, OutputError

if TYPE_CHECKING:
    from pathlib import Path


def fail_to_write(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyError


def test_a_folder_made_for_a_file_does_not_stay_without_it(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        fail_to_write(tmp_path / "a" / "b" / "c.txt")
    assert not list(tmp_path.iterdir())
    (tmp_path / "a").mkdir()
    with pytest.raises(KeyError):
        fail_to_write(tmp_path / "a" / "b" / "c.txt")
    assert [path.name for path in tmp_path.rglob("*")] == ["a"], "what was there before stays"
    with atomic_path(tmp_path / "a" / "b" / "c.txt") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "whole"
    with pytest.raises(KeyError):
        fail_to_write(tmp_path / "a" / "b" / "d.txt")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["c.txt"]


def test_a_name_that_is_too_long_is_told_of_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="Cannot write"):
        check_writable(tmp_path / "new" / ("n" * 300 + ".txt"))
    assert not list(tmp_path.iterdir())


def test_what_the_block_says_of_another_file_is_not_taken_for_the_target(tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match="another"), atomic_path(tmp_path / "out.txt"):
        raise ImageReadError("another file cannot be read")
    assert list(tmp_path.iterdir()) == []


def test_files_have_the_permissions_of_any_new_file_and_other_threads_keep_their_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain.txt").write_text("")
    calls: list[int] = []
    monkeypatch.setattr(os, "umask", calls.append)
    with atomic_path(tmp_path / "whole.txt") as temporary:
        temporary.chmod(0o600)  # as safetensors leaves it
    assert (tmp_path / "whole.txt").stat().st_mode == (tmp_path / "plain.txt").stat().st_mode
    assert not calls, "it belongs to the whole process"
