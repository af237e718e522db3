"""The status bar: what is under the cursor, kept there while napari writes its own text on every move."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_fastsam._numbers import written

if TYPE_CHECKING:
    from napari_fastsam.controllers.hover import HoverController
    from napari_fastsam.controllers.session import Session

__all__ = ["StatusLine", "describe_candidate"]


def describe_candidate(session: Session, index: int, level: str) -> str:
    """Return label, area and confidence of a candidate; "" for none."""
    candidates = session.candidates
    if index < 0 or candidates is None or index >= len(candidates):
        return ""
    pixel, unit = session.pixel_area()
    columns = candidates.columns
    parts = [f"candidate {index + 1}"]
    if index in session.committed:
        parts.append(f"label {session.committed[index]}")
    area = float(columns["area_px"][index]) * pixel
    parts.append(f"{f'{area:.4g}' if area < 1000 else written(area, 0)} {unit}")
    parts.append(f"confidence {columns['confidence'][index]:.2f}")
    if level and not level.endswith("/1"):
        parts.append(f"level {level}")
    return " · ".join(parts)


class StatusLine:
    """Writes the hovered candidate into the viewer's status bar.

    Parameters
    ----------
    session : Session
    hover : HoverController
    """

    def __init__(self, session: Session, hover: HoverController) -> None:
        self.session, self.hover = session, hover
        self.text = ""
        session.hovered.connect(self._on_hovered)
        session.selection_changed.connect(self._on_selection)
        session.viewer.events.status.connect(self._keep)

    def close(self) -> None:
        """Leave the status bar to napari."""
        self.session.viewer.events.status.disconnect(self._keep)
        self.session.hovered.disconnect(self._on_hovered)
        self.session.selection_changed.disconnect(self._on_selection)

    def _on_hovered(self, index: int) -> None:
        before, self.text = self.text, describe_candidate(self.session, index, self.hover.level)
        viewer = self.session.viewer
        if before and not self.text and viewer.status == before:
            viewer.status = "Ready"
        self._keep()

    def _on_selection(self) -> None:
        self._on_hovered(self.hover.index)

    def _keep(self, event: object = None) -> None:
        viewer = self.session.viewer
        if self.text and viewer.status != self.text:
            viewer.status = self.text
