"""Memory of a process that enriches a dataset: ``python -m benchmarks.fiftyone_memory DATASET IMGSZ``.

Prints the resident megabytes after a tenth of the samples and at the end.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["resident_mb"]

_ROOT = Path(__file__).parent.parent
_ARCHITECTURE = "yolov8n-seg"
_MASKS = 30


def resident_mb(dataset: Any, image_hw: tuple[int, int], imgsz: int, *, isolated: bool) -> tuple[float, float]:
    """Enrich a dataset, in a new process if isolated; returns the memory after a tenth of it and at the end, in MB."""
    if not isolated:
        return _measure(dataset, image_hw, imgsz)
    command = [sys.executable, "-m", "benchmarks.fiftyone_memory", dataset.name, *map(str, (*image_hw, imgsz))]
    finished = subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.PIPE, text=True)
    early, late = map(float, finished.stdout.split()[-2:])
    return early, late


def _measure(dataset: Any, image_hw: tuple[int, int], imgsz: int) -> tuple[float, float]:
    from benchmarks.sides import head_for, make_ours, network_module
    from fastsam_core.runtimes import create_network, resolve_runtime
    from fiftyone_fastsam import iter_enrich

    runtime = resolve_runtime("auto", "cpu", "fp32")
    network = create_network(network_module(_ARCHITECTURE), device="cpu", precision="fp32", runtime=runtime)
    model = make_ours(network, head_for(_MASKS, image_hw, imgsz), imgsz)
    early = 0.0
    for step in iter_enrich(dataset, "masks", model=model):
        if step.error:
            raise RuntimeError(step.error)
        if step.done == max((step.total or 0) // 10, 1):
            early = _resident_mb()
    return early, _resident_mb()


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _main() -> None:
    import fiftyone as fo

    name, height, width, imgsz = sys.argv[1:]
    print(*_measure(fo.load_dataset(name), (int(height), int(width)), int(imgsz)))


if __name__ == "__main__":
    _main()
