"""Every FiftyOne benchmark runs once, tiny and unjudged, so that it still works when it is needed."""

from __future__ import annotations

import math

import pytest
from benchmarks import bench_fiftyone
from benchmarks.harness import TINY, Benchmark, verdict


@pytest.mark.parametrize("benchmark", bench_fiftyone.BENCHMARKS, ids=lambda benchmark: benchmark.name)
def test_benchmark_runs(benchmark: Benchmark) -> None:
    rows = list(benchmark.run(TINY))
    assert rows
    for row in rows:
        assert math.isfinite(row.ours)
        assert row.peer is None or math.isfinite(row.peer)
        assert verdict(row.as_dict()) in ({"met", "missed"} if row.target else {""})
