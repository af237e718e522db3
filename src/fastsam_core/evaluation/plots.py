"""Curves of reports as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastsam_core._files import atomic_path
from fastsam_core.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fastsam_core.evaluation.reports import Curve

__all__ = ["draw_curves"]


def draw_curves(curves: Sequence[Curve], folder: Path) -> list[Path]:
    """Draw one picture for each plot, ``<folder>/<plot>.png``.

    Parameters
    ----------
    curves : sequence of Curve
        Those of the same plot are drawn together.
    folder : Path
        Made if it is missing.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    MissingDependencyError
        Without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("Plots need matplotlib", remedy="run: pip install matplotlib") from error
    written = []
    for plot in dict.fromkeys(curve.plot for curve in curves):
        figure = Figure(figsize=(6.4, 4.4), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for curve in (curve for curve in curves if curve.plot == plot):
            axes.plot(curve.x, curve.y, marker="." if len(curve.x) < 30 else "", label=curve.label)
            axes.set(xlabel=curve.x_label, ylabel=curve.y_label, xscale="log" if curve.log_x else "linear")
        axes.grid(alpha=0.3)
        axes.legend()
        axes.set_ylim(bottom=0)
        with atomic_path(folder / f"{plot}.png") as temporary:
            figure.savefig(temporary)
        written.append(folder / f"{plot}.png")
    return written
