"""Histogram sliders that hide candidates at once, and the candidates' file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtWidgets import QFileDialog, QLabel, QVBoxLayout, QWidget
from superqt.utils import signals_blocked

from fastsam_core.confidence import best_conf
from fastsam_core.errors import ImageContentError
from fastsam_core.masks import Masks
from napari_fastsam._notify import notices
from napari_fastsam.models.candidates import Candidates
from napari_fastsam.models.filters import FILTERED, Filters
from napari_fastsam.views.histogram import HistogramSlider
from napari_fastsam.views.parts import button, file_name, row_of, with_suffix

if TYPE_CHECKING:
    from napari_fastsam.controllers.session import Session

__all__ = ["FilterPanel"]

_TITLES = {
    "confidence": ("Confidence", "How sure the network is, 0 to 1; prompts choose among fainter ones, too", False, 2),
    "area_px": ("Area", "Area of a candidate; the scale is logarithmic", True, None),
    "solidity": (
        "Solidity",
        "Area divided by the area of the convex hull: 1 is round or square, less is ragged",
        False,
        2,
    ),
    "intensity": ("Mean intensity", "Mean of the image's own values inside a candidate", False, None),
}


class FilterPanel(QWidget):
    """Limits of what is shown; nothing is computed again.

    Parameters
    ----------
    session : Session
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.count = QLabel("No candidates yet")
        self.count.setWordWrap(True)
        self.sliders: dict[str, HistogramSlider] = {}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.count)
        for column in FILTERED:
            title, tip, logarithmic, decimals = _TITLES[column]
            slider = HistogramSlider(title, tip, logarithmic=logarithmic, decimals=decimals)
            slider.limits_changed.connect(lambda low, high, name=column: self._limit(name, low, high))
            self.sliders[column] = slider
            layout.addWidget(slider)
        layout.addWidget(
            row_of(
                button("All", "Take all limits back", self.reset),
                button(
                    "Auto",
                    "Show from where on the fewest false and missed objects are to be expected (F1)",
                    self.be_sure,
                ),
                button("Forget", "Drop all candidates of this image; labels stay", session.forget),
            )
        )
        layout.addWidget(
            row_of(
                button("Save …", "Save the candidates of this plane, to go on later without the network", self.save),
                button("Load …", "Load candidates saved before", self.load),
            )
        )
        session.candidates_changed.connect(self.refresh)
        session.shown_changed.connect(self._show_count)

    def _limit(self, column: str, low: float, high: float) -> None:
        filters = self.session.filters
        if np.isinf(low) and np.isinf(high) and column != "confidence":  # all of them is more than at first there
            self.session.set_filters(filters.without(column))
        else:
            self.session.set_filters(filters.with_limits(column, low, high))

    def reset(self) -> None:
        """Let all candidates pass."""
        for slider in self.sliders.values():
            with signals_blocked(slider):
                slider.set_limits(-np.inf, np.inf)
        self.session.set_filters(Filters())
        candidates = self.session.candidates
        self._begin_at(0.0 if candidates is None else candidates.conf)

    def be_sure(self) -> None:
        """Move the slider of the confidence to where what is shown has the best F1 to expect."""
        candidates = self.session.candidates
        if candidates is not None and len(candidates):
            self.sliders["confidence"].set_limits(best_conf(candidates.masks.scores), np.inf)

    def refresh(self) -> None:
        """Show the histograms of the plane's candidates."""
        candidates = self.session.candidates
        if candidates is not None and len(candidates):
            pixel, unit = self.session.pixel_area()
            sure = candidates.sure if candidates.sure.any() else np.ones(len(candidates), bool)
            for column, slider in self.sliders.items():
                values = candidates.columns[column]
                slider.set_values(
                    values if column == "confidence" else values[sure], pixel if column == "area_px" else 1.0
                )
                with signals_blocked(slider):  # it may stand at an end of what another plane had
                    slider.set_limits(*self.session.filters.limits.get(column, (-np.inf, np.inf)))
            self._begin_at(candidates.conf)
            self.sliders["area_px"].set_title(f"Area ({unit})")
            self.sliders["intensity"].setVisible(bool(np.isfinite(candidates.columns["intensity"]).any()))
        else:
            for slider in self.sliders.values():
                slider.clear()
        self._show_count()

    def _begin_at(self, conf: float) -> None:
        """Let the slider of the confidence stand where candidates are shown from, as long as nobody has moved it."""
        slider = self.sliders["confidence"]
        if "confidence" not in self.session.filters.limits:
            with signals_blocked(slider):
                slider.set_limits(conf, np.inf)

    def _show_count(self) -> None:
        candidates = self.session.candidates
        if candidates is None and self.session.image is not None and self.session.viewer.dims.ndisplay != 2:
            self.count.setText("Candidates belong to planes: switch to 2-D to see them")
        elif candidates is None:
            self.count.setText("No candidates on this plane yet")
        elif not len(candidates):
            self.count.setText("Nothing was found on this plane")
        else:
            sure, shown = candidates.sure, self.session.shown
            known, faint = int(sure.sum()), int((~sure).sum())
            if not known and not shown.any():
                found = "a faint candidate" if faint == 1 else f"{faint} faint candidates"
                self.count.setText(f"Nothing but {found} was found: move 'Confidence' to the left")
                return
            fainter = f", {int((shown & ~sure).sum())} of {faint} fainter ones" if faint else ""
            limited = candidates.masks[sure].at_limit
            more = ". There may be more: the preferences limit their number" if limited else ""
            self.count.setText(f"<b>{int((shown & sure).sum())}</b> of {known} candidates shown{fainter}{more}")

    # ---- files --------------------------------------------------------------------------------------------------

    def save(self, path: str = "") -> None:
        """Write the candidates of the plane to a file."""
        with notices():
            self.session.require_plane()
            candidates, image = self.session.candidates, self.session.image
            if candidates is None or image is None:
                raise ImageContentError("There are no candidates to save", remedy="run 'Segment everything' first")
            path = (
                path
                or QFileDialog.getSaveFileName(
                    self, "Save candidates", f"{file_name(image.name)}_candidates.npz", "Candidates (*.npz *.json)"
                )[0]
            )
            if path:
                masks = candidates.masks.with_metadata(image=image.name, shown_from=candidates.conf)
                masks.save(with_suffix(path, ".npz", ".json"))

    def load(self, path: str = "") -> None:
        """Read candidates of the plane from a file."""
        with notices():
            session, plane = self.session, self.session.require_plane()
            path = path or QFileDialog.getOpenFileName(self, "Load candidates", "", "Candidates (*.npz *.json)")[0]
            if not path:
                return
            masks = Masks.load(path)
            values = session.source().read(plane)
            if masks.image_hw != values.plane_hw:
                raise ImageContentError(
                    "These candidates belong to another image",
                    expected=f"{values.plane_hw[0]} × {values.plane_hw[1]} px",
                    actual=f"{masks.image_hw[0]} × {masks.image_hw[1]} px",
                    remedy="choose the image they were made from",
                )
            stored = masks.metadata.get("shown_from")
            conf = float(stored) if isinstance(stored, float | int) else 0.0
            candidates = Candidates.measure(masks, values.values, conf=conf)
            session.put(session.image_id, plane, candidates)
