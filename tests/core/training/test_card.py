"""The model card's tables are made from files alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from fastsam_core.errors import OutputError
from fastsam_core.training.card import BEGIN, END, measured_tables, read_tables, rewrite
from fastsam_core.training.scoring import Scores
from fastsam_core.training.validate import Row

if TYPE_CHECKING:
    from pathlib import Path


KINDS = ("point", "points", "box", "loose_box", "outline", "best")


def row(source: str, method: str, ap50: float, images: int, **more: Any) -> dict[str, object]:
    scores = Scores(ap50=ap50, ar100=ap50 / 2, images=images, instances=9, auto_f1=0.875, best_f1=0.75, **more)
    return Row(source, method, "640", 0.5, False, 0.1, scores).to_json()


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    rows = [row("dsb2018", "builtin", 0.8, 64), row("coco_panoptic", "builtin", 0.3, 5)]
    (tmp_path / "builtin.json").write_text(json.dumps(rows))
    few = [row("dsb2018", "builtin", 0.1, 25), row("bsds500_test", "builtin", 0.1, 25, ar100_large=0.25)]
    (tmp_path / "small.json").write_text(json.dumps(few))
    (tmp_path / "baseline.json").write_text(json.dumps([row("dsb2018", "watershed", 0.4, 64)]))
    kinds = ("spearman", "pearson", "ap", "ap50", "ar10")
    tested = {f"{kind}_{name}": 0.123 for kind in kinds for name in ("score", "quality")}
    report = {"fitted": {"images": 3, "masks": 40}, "tested": {"images": 4, "masks": 50, **tested}}
    (tmp_path / "calibration.json").write_text(json.dumps(report))
    names = [f"{kind}_{among}_miou" for kind in KINDS for among in ("all", "shown")]
    prompts = {
        source: {"images": 2, "objects": 7, **dict.fromkeys(names, 0.5)} for source in ("dsb2018", "rock_grains")
    }
    prompts["dsb2018"] |= {"loose_box_all_miou": 0.75, "loose_box_shown_miou": 0.25}
    (tmp_path / "prompts.json").write_text(json.dumps({"prompts": prompts}))
    return tmp_path


def test_tables_hold_what_the_files_say(tables: Path) -> None:
    text = measured_tables(*read_tables(tables.glob("*.json")))
    assert "| dsb2018 | nuclei, all kinds | built-in, 640 px | 64 (9) | 0.80 |" in text
    assert "| dsb2018 | nuclei, all kinds | Otsu + watershed | 64 (9) | 0.40 |" in text
    assert "| dsb2018 | 64 | AP50 | 0.80 | 0.40 | 2.00 × |" in text
    assert "| bsds500_test | photographs, every annotator | built-in, 640 px | 25 (9) | 0.10 |" in text
    assert "| – | – | 0.25 |" in text
    assert "| quality | 0.12 | 0.12 |" in text
    assert "on 4 others (50 masks)" in text
    assert "| dsb2018 | 2 (7) |" + " 0.50 (0.50) |" * 3 + " 0.75 (0.25) |" + " 0.50 (0.50) |" * 2 in text
    assert "| dsb2018 | 64 | 0.88 | 0.75 | 0.00 |" in text
    assert "| mean |  |" + " 0.50 (0.50) |" * 3 + " 0.62 (0.38) |" in text


def test_only_the_marked_part_changes(tables: Path) -> None:
    card = tables / "card.md"
    card.write_text(f"# Card\n\nbefore\n\n{BEGIN}\n\nold\n\n{END}\n\nafter\n")
    for _ in range(2):
        rewrite(card, "new\n")
        assert card.read_text() == f"# Card\n\nbefore\n\n{BEGIN}\n\nnew\n\n{END}\n\nafter\n"
    card.write_text("# Card\n")
    with pytest.raises(OutputError, match="no place"):
        rewrite(card, "new\n")
