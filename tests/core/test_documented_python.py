"""Python in the documentation runs, one snippet after the other, on images that come with scikit-image."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage import data
from skimage.measure import label

ROOT = Path(__file__).parents[2]
_SNIPPET = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make what the snippets read."""
    monkeypatch.chdir(tmp_path)
    coins = data.coins()
    for folder in ("photos", "cells/images", "cells/masks"):
        Path(folder).mkdir(parents=True)
    for name in ("cells.tif", "photo.jpg", "street.jpg", "slide.ome.tif", "photos/good.png", "cells/images/coins.png"):
        Image.fromarray(coins).save(name)
    Image.fromarray(label(coins > 130).astype(np.uint16)).save("cells/masks/coins.png")
    Path("photos/bad.png").write_bytes(b"no image")


def run(page: str, **instead: str) -> dict[str, Any]:
    """Run all snippets of a page, with other words where they are given, and return the names that they leave."""
    names: dict[str, Any] = {}
    for snippet in _SNIPPET.findall((ROOT / page).read_text(encoding="utf-8")):
        for words, others in instead.items():
            snippet = snippet.replace(f'"{words}', f'"{others}')
        exec(compile(snippet, page, "exec"), names)
    return names


def test_page_on_python(capsys: pytest.CaptureFixture[str]) -> None:
    names = run("docs/python.md")
    assert len(names["masks"]) > 10
    assert len(names["again"]) == len(names["masks"])
    assert (names["labels"] > 0).any()
    assert [len(names[name]) for name in ("one", "several", "boxed", "drawn")] == [1, 2, 2, 1]
    assert names["answers"].index[1] == -1
    assert len(names["whole"]) > 10
    assert len(names["in_tiles"]) > 10
    assert names["numbered"].shape == (4, *names["image"].image_hw)
    assert names["numbered"].max() == len(names["stack"])
    assert Path("good.json").is_file()
    printed = capsys.readouterr().out
    assert "bad.png" in printed
    assert "missing.png" in printed


def test_page_on_texts() -> None:
    pytest.importorskip("open_clip")
    known = {"a red car": "a red thing", "a car": "a stone", "a bus": "a fruit"}  # to the encoder that ships
    without_download = {"FastSAM-s": "builtin", "ViT-B-32-256/datacomp_s34b_b86k": "demo"}
    names = run("docs/text.md", **without_download, **known)
    assert len(names["cars"]) > 10
    assert len(names["alike"]) > 2
    assert list(Path("embeddings").iterdir())
    assert names["last"].result.image_hw == (303, 384)
    assert "prompt_score" in names["nuclei"].fields


@pytest.mark.parametrize("page", ["README.md", "docs/evaluation.md"])
def test_other_pages(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = run(page)
    assert len(names["masks"]) > 10
    if "edges" in names:
        assert names["edges"].max() > 0
        assert "AP" in capsys.readouterr().out
