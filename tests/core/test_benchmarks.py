"""Every core benchmark runs once, tiny and unjudged, so that it still works when it is needed."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest
from benchmarks import bench_core, bench_evaluation, bench_gpu, bench_text
from benchmarks.harness import TINY, Benchmark, Row, merge_results, show, verdict

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "benchmark",
    [*bench_core.BENCHMARKS, *bench_evaluation.BENCHMARKS, *bench_text.BENCHMARKS],
    ids=lambda benchmark: benchmark.name,
)
def test_benchmark_runs(benchmark: Benchmark) -> None:
    rows = list(benchmark.run(TINY))
    assert rows
    for row in rows:
        assert math.isfinite(row.ours)
        assert row.unit in {"ms", "s", "MB"}
        assert row.peer is None or math.isfinite(row.peer)
        assert verdict(row.as_dict()) in ({"met", "missed"} if row.target else {""})


def test_the_gpu_benchmark_runs_on_a_cpu_too() -> None:
    rows = list(bench_gpu.end_to_end(TINY, "yolov8n-seg", "fp32", "cpu", "some card"))
    assert len(rows) == 9
    assert all(row.name.startswith("some card: yolov8n-seg fp32, ") and math.isfinite(row.ours) for row in rows)
    assert len({row.name for row in rows}) == len(rows)


def test_both_sides_find_the_same_masks() -> None:
    from benchmarks.sides import Peer, head_for, make_ours, make_photo

    photo, head = make_photo(TINY.image_hw), head_for(TINY.many, TINY.image_hw, TINY.imgsz)
    peer = Peer(TINY.architecture, TINY.imgsz, tuned=False)
    peer.use(head)
    theirs = peer.segment(photo, retina_masks=True).masks.data.numpy().astype(bool)
    ours = make_ours(None, head, TINY.imgsz).segment(photo)
    dense = ours.to_dense()
    assert dense.shape == theirs.shape
    assert len(dense) > TINY.many // 2
    assert (dense != theirs).mean() < 1e-4


def test_other_rows_stay_in_the_results(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    merge_results([Row("a", 2.0, 8.0, "ms", ">= 3x"), Row("b", 1.0, None, "s", "<= 0.5 s")], path)
    merged = merge_results([Row("a", 4.0, 8.0, "ms", ">= 3x")], path)
    assert json.loads(path.read_text()) == merged
    assert [row["name"] for row in merged] == ["a", "b"]
    assert list(merged[0]) == ["name", "ours", "peer", "unit", "ratio", "target"]
    assert [verdict(row) for row in merged] == ["missed", "missed"]
    assert merged[0]["ratio"] == 2
    assert merged[1]["ratio"] is None


def test_the_table_names_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    show([Row("work", 2.0, 8.0, "ms", ">= 3x").as_dict()])
    printed = capsys.readouterr().out
    assert "work" in printed
    assert "met" in printed
