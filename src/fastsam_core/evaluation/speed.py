"""The paper's table of run times: one image, 1, 10 and 100 points, and grids of points, from the pixels to the masks.

Each side is measured in a process of its own, so that its memory is its own. The peers are ``ultralytics.FastSAM`` with
the same network, weights and thresholds, at full mask resolution, and ``ultralytics.SAM`` with weights of the user's.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np

from fastsam_core.evaluation.reports import Cell, Curve, Report, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from fastsam_core.model import FastSAM, Settings

__all__ = ["CASES", "Figures", "Request", "SideName", "measure", "measure_here", "speed_report", "time_cases"]

SideName = Literal["ours", "ultralytics", "sam"]

CASES: Final[Mapping[str, int]] = {
    "1": 1,
    "10": 10,
    "100": 100,
    "E(16x16)": 16**2,
    "E(32x32)": 32**2,
    "E(64x64)": 64**2,
}
"""Name and number of points of each column; those with E are grids over the image, the others random points."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to measure.

    Parameters
    ----------
    image : Path
    model : str
        Name or weights file.
    repeats : int
        Runs of each case after one that does not count; the median is taken.
    loading, search : mapping
        Options of `FastSAM.load` and `FastSAM.segment`.
    sam : Path, optional
        Weights for the side ``"sam"``, under a name that ``ultralytics.SAM`` knows (``mobile_sam.pt``, ``sam_b.pt`` …).
    """

    image: Path
    model: str
    repeats: int = 5
    loading: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)
    sam: Path | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of one side.

    Parameters
    ----------
    name : str
    parameters : int
        Weights of the network.
    masks : int
        Masks found in the image.
    milliseconds : mapping of str to float
        For each of :data:`CASES`.
    memory_mb : float
        Peak of the process, or of the GPU if one is used; NaN where the system does not tell.
    settings : dict
        Weights and search that were used.
    """

    name: str
    parameters: int
    masks: int
    milliseconds: dict[str, float]
    memory_mb: float
    settings: dict[str, object] = field(default_factory=dict)


Answer: TypeAlias = "Callable[[NDArray[np.float64], int | None], int]"
"""Segments the image and answers points (K, 2), y, x, a grid of so many a side or any; returns the masks found."""


def measure(side: SideName, request: Request) -> Figures:
    """Measure one side in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure_here, side, request).result()


def measure_here(side: SideName, request: Request) -> Figures:
    """Measure one side in this process."""
    from fastsam_core.images import read_image
    from fastsam_core.model import FastSAM

    rgb8 = read_image(request.image).rgb8
    if side == "sam":
        from fastsam_core.evaluation._sam_peer import sam_peer

        peer = sam_peer(request.sam, rgb8, str(request.loading.get("device", "auto")))
        masks, milliseconds = time_cases(peer.answer, (rgb8.shape[0], rgb8.shape[1]), request.repeats)
        return Figures(peer.name, peer.parameters, masks, milliseconds, _peak_memory_mb(peer.device))
    model = FastSAM.load(request.model, **request.loading)
    settings = model.settings(**request.search)
    device, parameters = model.device, _parameters(request)
    how: dict[str, object] = {"weights_sha256": model.info.sha256[:16], "imgsz": settings.imgsz[0]}
    how |= {"conf": settings.conf, "iou": settings.iou, "max_det": settings.max_det}
    with tempfile.TemporaryDirectory() as folder:
        answer = _ours(model, rgb8, {**request.search, "imgsz": settings.imgsz[0]})
        name = f"fastsam-plugins ({model.name}, {model.runtime} {model.precision})"
        if side == "ultralytics":
            answer = _peer(request, rgb8, settings, device, Path(folder))
            name = f"ultralytics.FastSAM ({model.name})"
            del model
        masks, milliseconds = time_cases(answer, (rgb8.shape[0], rgb8.shape[1]), request.repeats)
    return Figures(name, parameters, masks, milliseconds, _peak_memory_mb(device), how)


def time_cases(
    answer: Answer,
    image_hw: tuple[int, int],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[int, dict[str, float]]:
    """Time every case.

    Parameters
    ----------
    answer : Answer
    image_hw : tuple of int
    repeats : int
    clock : callable
        Seconds.

    Returns
    -------
    int
        Masks found in the image.
    dict of str to float
        Median milliseconds of each case.
    """
    rng = np.random.default_rng(0)
    milliseconds = {}
    masks = 0
    for name, count in CASES.items():
        grid = round(count**0.5) if name.startswith("E") else None
        if grid is not None:
            side = (np.arange(grid) + 0.5) / grid
            points = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2) * image_hw
        else:
            points = rng.random((count, 2)) * image_hw
        seconds = []
        for repeat in range(repeats + 1):
            start = clock()
            masks = answer(points, grid)
            if repeat:
                seconds.append(clock() - start)
        milliseconds[name] = 1000 * statistics.median(seconds)
    return masks, milliseconds


def speed_report(sides: Sequence[Figures], image_hw: tuple[int, int], keys: Sequence[str] = ("ours", "peer")) -> Report:
    """Make the table and the plot of time against prompts; ``keys`` begin the names of each side's values."""
    columns = ("method", "parameters", *CASES, "peak memory MB")
    rows: list[tuple[Cell, ...]] = []
    values: dict[str, float] = {}
    curves = []
    for key, side in zip(keys, sides, strict=True):
        rows.append((side.name, f"{side.parameters / 1e6:.1f}M", *side.milliseconds.values(), side.memory_mb))
        values |= {f"{key}_{name}": value for name, value in side.milliseconds.items()}
        values |= {f"{key}_masks": side.masks, f"{key}_parameters": side.parameters}
        values[f"{key}_memory_mb"] = side.memory_mb
        points = tuple(float(count) for count in CASES.values())
        milliseconds = tuple(side.milliseconds.values())
        curves.append(Curve("time", side.name, "points", "milliseconds", points, milliseconds, log_x=True))
    masks = " and ".join(str(side.masks) for side in sides)
    title = f"milliseconds for 1, 10, 100 points and grids; image of {image_hw[0]} x {image_hw[1]} px, {masks} masks"
    return Report("speed", (Table(title, columns, tuple(rows)),), values, curves=tuple(curves))


def _ours(model: FastSAM, rgb8: NDArray[np.uint8], search: Mapping[str, Any]) -> Answer:
    from fastsam_core.prompts import Points, match

    def answer(points_yx: NDArray[np.float64], grid: int | None) -> int:
        masks = model.segment(rgb8, **search)
        match(masks, Points(points_yx, groups="each"))
        return len(masks)

    return answer


def _peer(request: Request, rgb8: NDArray[np.uint8], settings: Settings, device: str, folder: Path) -> Answer:
    import torch

    from fastsam_core._ultralytics import import_ultralytics

    path = folder / "FastSAM-peer.pt"
    torch.save({"model": _module(request), "train_args": {"task": "segment"}}, path)
    peer = import_ultralytics("ultralytics.models.fastsam").FastSAM(str(path))
    bgr = np.ascontiguousarray(rgb8[..., ::-1])
    options = {
        "conf": settings.conf,
        "iou": settings.iou,
        "imgsz": settings.imgsz[0],
        "max_det": settings.max_det,
        "retina_masks": True,
        "device": device,
        "verbose": False,
    }
    found = len(peer.predict(bgr, **options)[0])

    def answer(points_yx: NDArray[np.float64], grid: int | None) -> int:
        points = points_yx[:, ::-1].round().astype(int).tolist()
        peer.predict(bgr, points=points, labels=[1] * len(points), **options)
        return found

    return answer


def _module(request: Request) -> torch.nn.Module:
    from fastsam_core.checkpoints import load_checkpoint

    return load_checkpoint(request.model, trust=bool(request.loading.get("trust", False))).module


def _parameters(request: Request) -> int:
    return sum(parameter.numel() for parameter in _module(request).parameters())


def _peak_memory_mb(device: str) -> float:
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
