"""Files that are there whole or not at all, and the folders made for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastsam_core._files import atomic_path


def test_a_folder_made_for_a_file_does_not_stay_without_it(tmp_path: Path) -> None:
    with pytest.raises(KeyError), atomic_path(tmp_path / "a" / "b" / "c.txt") as temporary:
        temporary.write_text("half")
        raise KeyError
    assert not list(tmp_path.iterdir())
    (tmp_path / "a").mkdir()
    with pytest.raises(KeyError), atomic_path(tmp_path / "a" / "b" / "c.txt"):
        raise KeyError
    assert [path.name for path in tmp_path.rglob("*")] == ["a"], "what was there before stays"
    with atomic_path(tmp_path / "a" / "b" / "c.txt") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "whole"
    with pytest.raises(KeyError), atomic_path(tmp_path / "a" / "b" / "d.txt"):
        raise KeyError
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["c.txt"]
