"""``fastsam evaluate compare``: reading what the two sides are, and running them side by side."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from fastsam_core.cli._progress import progress
from fastsam_core.cli._reports import choose, shown, tracked
from fastsam_core.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fastsam_core.evaluation.reports import Report

__all__ = ["SideSpec", "compare_sides"]

_LOADING: Final[Mapping[str, Callable[[str], Any]]] = {"device": str, "runtime": str, "precision": str}
_SEARCH: Final[Mapping[str, Callable[[str], Any]]] = {"conf": float, "iou": float, "imgsz": int, "max_det": int}
_ALL_CONF: Final = 0.001


@dataclass(frozen=True, slots=True)
class SideSpec:
    """One side: a model, how to load it, and how to search."""

    text: str
    model: str
    loading: Mapping[str, Any]
    search: Mapping[str, Any]

    @classmethod
    def read(cls, text: str) -> SideSpec:
        """Read ``MODEL[,key=value…]``.

        Raises
        ------
        InvalidParameterError
            If a key is unknown or its value cannot be read.
        """
        model, *pairs = (part.strip() for part in text.split(","))
        values: dict[str, Any] = {}
        for pair in pairs:
            key, equals, value = pair.partition("=")
            kind = (_LOADING | _SEARCH).get(key) if equals else None  # type: ignore[operator]
            try:
                if kind is None:
                    raise ValueError(key)
                values[key] = kind(value)
            except ValueError as error:
                raise InvalidParameterError(
                    f"Cannot read {pair!r} of a side to compare",
                    expected=f"MODEL[,key=value…] with {', '.join((*_LOADING, *_SEARCH))}",
                    actual=repr(text),
                ) from error
        loading = {key: value for key, value in values.items() if key in _LOADING}
        search = {key: value for key, value in values.items() if key in _SEARCH}
        return cls(text, model, loading, search)


def compare_sides(
    first: str, second: str, data: Path, *, limit: int | None, only: Path | None, resamples: int
) -> Report:
    """Segment the images with both sides in step, and compare."""
    from fastsam_core.cli._model import load_model
    from fastsam_core.evaluation._machine import describe_machine
    from fastsam_core.evaluation.comparison import Comparison, Side
    from fastsam_core.evaluation.truth import iter_predictions, open_truth

    specs = (SideSpec.read(first), SideSpec.read(second))
    truths = open_truth(data)
    chosen = choose(truths, limit, only)
    sides, runs = [], []
    for spec in specs:
        with progress("Loading the model", 1) as bar:
            model = load_model(spec.model, dict(spec.loading), bar)
        settings = model.settings(**spec.search)
        sides.append(Side(settings.conf, settings.max_det))
        search = {**spec.search, "conf": min(_ALL_CONF, settings.conf)}
        runs.append(closing(iter_predictions(truths, model, chosen, **search)))
    comparison = Comparison(*sides)
    with runs[0] as mine, runs[1] as other:
        for (_, masks, truth), (_, others, _) in tracked(zip(mine, other, strict=True), len(chosen), "Segmenting"):
            comparison.add(masks, others, truth)
    with progress("Resampling", resamples) as bar:
        report = comparison.report((first, second), resamples=resamples, each=bar.advance)
    return replace(report, settings={"data": shown(data)}, machine=describe_machine())
