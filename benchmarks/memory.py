"""Peak memory of one piece of work in a process of its own: ``python -m benchmarks.memory CASE SCALE``."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import Scale

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CASES", "extra_mb"]

_ROOT = Path(__file__).parent.parent
_STATUS = Path("/proc/self/status")


def extra_mb(case: str, scale: Scale) -> float:
    """Run a case in a new process; returns by how many MB its peak was above what the process needed before."""
    if not scale.isolated:
        return _measure(CASES[case](scale))
    command = [sys.executable, "-m", "benchmarks.memory", case, json.dumps(asdict(scale))]
    finished = subprocess.run(command, cwd=_ROOT, check=True, capture_output=True, text=True)
    return float(finished.stdout.strip().splitlines()[-1])


def _ours(image_hw: tuple[int, int], scale: Scale, finish: Callable[[Any], object]) -> Callable[[], object]:
    from benchmarks.sides import head_for, make_ours, make_photo

    warm_up = make_ours(None, head_for(2, (90, 130), 128), 128)
    finish(warm_up.segment(make_photo((90, 130))))
    model = make_ours(None, head_for(scale.many, image_hw, scale.imgsz), scale.imgsz)
    photo = make_photo(image_hw)
    return lambda: finish(model.segment(photo))


def _peer(scale: Scale, *, retina_masks: bool) -> Callable[[], object]:
    from benchmarks.sides import Peer, head_for, make_photo

    small = make_photo((90, 130))
    peer = Peer("yolov8n-seg", 128, tuned=True)
    peer.use(head_for(2, (90, 130), 128))
    peer.segment(small, retina_masks=retina_masks)
    peer.use(head_for(scale.many, scale.image_hw, scale.imgsz))
    photo = make_photo(scale.image_hw)
    return lambda: peer.after_forward(photo, retina_masks=retina_masks)


CASES: dict[str, Callable[[Scale], Callable[[], object]]] = {
    "ours": lambda scale: _ours(scale.image_hw, scale, lambda masks: masks),
    "peer-retina": lambda scale: _peer(scale, retina_masks=True),
    "ours-large-labels": lambda scale: _ours(scale.large_hw, scale, lambda masks: masks.to_label_map()),
    "ours-large-rle": lambda scale: _ours(scale.large_hw, scale, lambda masks: masks.to_rle()),
}
"""Each prepares everything and returns the work to measure."""


def _measure(work: Callable[[], object]) -> float:
    """Return MB between the process's memory now and its peak during the work; the result is alive at the peak."""
    before = _reset_peak()
    result = work()
    after = _peak()
    del result
    return (after - before) / 1e6


def _reset_peak() -> float:
    """Return the bytes in use; where the system can, set the peak back to them (else it is a lower bound)."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5", encoding="ascii")
    return _peak()


def _peak() -> float:
    if _STATUS.exists():
        lines = dict(line.split(":", 1) for line in _STATUS.read_text(encoding="ascii").splitlines() if ":" in line)
        return float(lines["VmHWM"].split()[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit


def _main() -> None:
    case, values = sys.argv[1:]
    settings = json.loads(values)
    settings.update({key: tuple(settings[key]) for key in ("image_hw", "large_hw")})
    work = CASES[case](Scale(**settings))
    print(np.round(_measure(work), 1))


if __name__ == "__main__":
    _main()
