"""Commit picks into a Labels layer: where to, under which id, what happens on overlap; edit and export labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QMenu, QProgressBar, QSpinBox, QVBoxLayout, QWidget

from napari_fastsam._notify import notices, tell
from napari_fastsam.models import export
from napari_fastsam.views.layer_combo import LayerCombo
from napari_fastsam.views.parts import button, file_name, form, hint, painted_later, row_of, with_suffix

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtGui import QKeyEvent

    from fastsam_core.label_edits import Edit, Overlap
    from napari_fastsam.controllers.labelling import LabelController
    from napari_fastsam.controllers.session import Session

__all__ = ["LabelPanel"]

_OVERLAPS: dict[Overlap, tuple[str, str]] = {
    "keep": (
        "Keep objects",
        "existing objects stay whole; a candidate that lies on them by more than 10 % is left out",
    ),
    "steal": ("Steal pixels", "the candidate takes the pixels from existing objects"),
    "fill": ("Fill empty", "only pixels without a label are written"),
}
_CONSEQUENCES: dict[Overlap, str] = {"keep": "overlap with", "steal": "takes pixels of", "fill": "stops at"}
_EXPORTS = (
    ("Label image (TIFF) …", "tif", "Label image (*.tif *.tiff)"),
    ("COCO annotations (JSON) …", "json", "COCO JSON (*.json)"),
    ("Measurements (CSV) …", "csv", "Table (*.csv)"),
    ("Outlines for QuPath (GeoJSON) …", "geojson", "GeoJSON (*.geojson)"),
    ("Outlines for ImageJ, Fiji (ROI set) …", "zip", "ROI set (*.zip)"),
)
_MAX_ID = 2**31 - 1
_LATER_MS = 400
"""What would become of very many candidates is looked up when the sliders have come to rest."""
_LOOK_MS = 150
"""Whether labels of candidates were erased is looked up when nothing is painted for so long."""
_COMMIT_SHOWN = "Commit all shown"
_AT_ONCE_PX = 2**22
"""Larger labels are written in a thread: outlines and measurements of thousands of objects take seconds."""


class _Number(QSpinBox):
    """A number; the words that stand for none give way to what is typed, wherever the cursor is."""

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        if self.text() == self.specialValueText():
            self.selectAll()
        super().keyPressEvent(event)


class LabelPanel(QWidget):
    """Commit, edit, export.

    Parameters
    ----------
    session, labels
        What the panel shows and controls.
    """

    def __init__(self, session: Session, labels: LabelController) -> None:
        super().__init__()
        self.session, self.labels = session, labels
        self.target = LayerCombo(session.viewer, _is_labels, "New layer")
        self.target.setToolTip("Where labels go: a new layer, or any Labels layer with the image's pixels")
        self.overlap = QComboBox()
        self.overlap.setToolTip("On overlap:\n" + "\n".join(f"{name}: {tip}" for name, tip in _OVERLAPS.values()))
        for key, (text, _) in _OVERLAPS.items():
            self.overlap.addItem(text, key)
        self.label_id = _Number()
        self.label_id.setRange(0, _MAX_ID)
        self.label_id.setSpecialValueText("next free")
        self.label_id.setToolTip("The label of what is committed; all of it gets this one id unless it is 'next free'")
        self.whole = QCheckBox("Whole linked objects (all planes)")
        self.whole.setToolTip("Commit the picked objects in every plane of the stack, by the links between planes")
        self.whole.hide()
        self.preview = hint()
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(_LATER_MS)
        self._later.timeout.connect(self._preview_many)
        self._planning = False
        self._asked = 0
        self.commit_button = button("Commit picked  [K]", "Write the picked candidates as labels", self.commit_picked)
        self.all_button = button(_COMMIT_SHOWN, "Write every candidate that is shown as labels", self._commit_or_cancel)
        self.progress = QProgressBar()
        self.progress.setRange(0, 100)
        self.progress.hide()
        export_button = button("Export", "Save the labels as TIFF or COCO JSON, a table of measurements, or outlines")
        menu = QMenu(export_button)
        for text, suffix, pattern in _EXPORTS:
            menu.addAction(text).triggered.connect(  # type: ignore[union-attr]
                lambda _=False, s=suffix, p=pattern: self.export(s, p)
            )
        export_button.setMenu(menu)
        fields = form()
        fields.addRow("Into", self.target)
        fields.addRow("Overlap", self.overlap)
        fields.addRow("Label", self.label_id)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(fields)
        layout.addWidget(self.whole)
        layout.addWidget(self.preview)
        layout.addWidget(row_of(self.commit_button, self.all_button))
        layout.addWidget(self.progress)
        layout.addWidget(
            row_of(
                button("Merge", "One label of those that lie in the picked candidates", lambda: self._edit("merge")),
                button("Split", "Cut the label that the picked candidates share", lambda: self._edit("split")),
                button("Delete", "Erase the labels under the picked candidates", lambda: self._edit("delete")),
            )
        )
        layout.addWidget(row_of(button("Undo", "Ctrl+Z in the Labels layer", labels.undo), export_button))
        self.target.chosen.connect(labels.set_target)
        self.overlap.currentIndexChanged.connect(self._on_options)
        self.label_id.valueChanged.connect(self._on_options)
        self.whole.toggled.connect(self._on_options)
        self._looks = QTimer(self)
        self._looks.setSingleShot(True)
        self._looks.setInterval(_LOOK_MS)
        self._looks.timeout.connect(session.look_again)
        labels.touched.connect(self._look_soon)
        session.selection_changed.connect(self.show_preview)
        session.candidates_changed.connect(self._offer_whole)
        session.links_changed.connect(self._offer_whole)
        labels.target_changed.connect(self._on_target)
        labels.planning.running_changed.connect(self._on_running)
        labels.planning.progress.connect(self._on_progress)

    def _on_options(self, value: object = None) -> None:
        self.labels.overlap = cast("Overlap", self.overlap.currentData())
        self.labels.chosen_id = self.label_id.value() or None
        self.labels.whole_objects = self.whole.isChecked()
        self.show_preview()

    def _on_target(self) -> None:
        self.target.refresh()
        self.target.set_layer(self.labels.target)
        self.show_preview()

    def _offer_whole(self) -> None:
        self.whole.setVisible(len(self.session.stack_of(self.session.plane)) > 1)

    def show_preview(self) -> None:
        """Say what a commit would do."""
        picked = self.session.selected
        self._asked += 1
        self._later.stop()
        self.commit_button.setText(f"Commit {len(picked)}  [K]" if picked else "Commit picked  [K]")
        target = self.labels.target
        if target is not None and (reason := self.labels.usable(target)):
            self.preview.setText(f"'{target.name}' cannot be used: {reason}.")
        elif picked and not self.labels.is_large(picked):
            plan = self.labels.preview(picked)
            self.preview.setText("" if plan is None else self._consequences(plan()))
        else:
            done = len(self.session.picked) - len(picked)
            text = f"{len(picked)} picked." if picked else "Nothing is picked."
            self.preview.setText(f"{done} picked, committed already." if done and not picked else text)
            self._later.start()

    def _preview_many(self) -> None:
        """Find out what committing what is picked, or everything, would do: in a thread, one at a time."""
        from napari.qt.threading import create_worker

        picked = self.session.selected
        plan = self.labels.preview(picked or self._shown())
        if plan is None:
            return
        if self._planning or self.labels.planning.running:
            self._later.start()
            return
        asked, begin = self._asked, "" if picked else "Nothing is picked. All shown: "

        def on_planned(edit: Edit) -> None:
            if self._asked == asked:
                self.preview.setText(begin + self._consequences(edit))

        worker = create_worker(plan, _start_thread=False)
        worker.returned.connect(on_planned)
        worker.finished.connect(self._on_plan_finished)
        self._planning = True
        worker.start()

    def abandon(self) -> None:
        """Drop a preview that is awaited: the window is gone."""
        self._asked += 1

    def _look_soon(self) -> None:
        self._looks.start()

    def _on_plan_finished(self) -> None:
        self._planning = False

    def _consequences(self, plan: Edit) -> str:
        left_out = sum(1 for label in plan.labels if not label)
        text = f"{len(plan.labels) - left_out} to commit"
        if left_out:
            text += f", {left_out} left out"
        if plan.conflicts:
            ids = ", ".join(str(label) for label in sorted(plan.conflicts)[:4])
            labels = f"label {ids}{' …' if len(plan.conflicts) > 4 else ''} ({sum(plan.conflicts.values())} px)"
            text += f"; {_CONSEQUENCES[self.labels.overlap]} {labels}"
        return f"{text}."

    def _shown(self) -> list[int]:
        done = self.session.committed
        return [int(i) for i in self.session.shown.nonzero()[0] if int(i) not in done]

    def commit_picked(self) -> None:
        """Commit what is picked."""
        self.labels.commit(self.session.selected)

    def commit_shown(self) -> None:
        """Commit everything that is shown and not committed yet."""
        self.labels.commit(self._shown(), scope="shown")

    def _commit_or_cancel(self) -> None:
        if self.labels.planning.running:
            self.labels.planning.cancel()
        else:
            self.commit_shown()

    def _on_running(self, running: bool) -> None:
        self.all_button.setText("Cancel" if running else _COMMIT_SHOWN)
        self.progress.setVisible(running)

    def _on_progress(self, text: str, share: float) -> None:
        with painted_later(self.progress):
            self.progress.setValue(round(100 * share))
            self.progress.setFormat(f"{text} · %p %")

    def _edit(self, name: str) -> None:
        picked = self.session.picked or [pick.candidate for pick in self.session.picks]
        getattr(self.labels, name)(picked)

    def export(self, suffix: str, pattern: str = "", path: str = "") -> None:
        """Write the labels of the target layer to a file."""
        with notices():
            target, image = export.require_labels(self.labels.target), self.session.image
            proposed = f"{file_name(target.name)}.{suffix}"
            path = path or QFileDialog.getSaveFileName(self, "Export", proposed, pattern)[0]
            if path:
                also = (".tiff",) if suffix == "tif" else ()
                named, axes = with_suffix(path, f".{suffix}", *also), self.session.axis_names(target)
                write = export.writer_of(named, suffix, target, image, self.session.plane, axes)
                if target.data.size > _AT_ONCE_PX:
                    self._write_beside(write, str(named))
                else:
                    write()

    def _write_beside(self, write: Callable[[], object], name: str) -> None:
        """Write in a thread, with its progress among napari's, and say when it is done."""
        from napari.qt.threading import create_worker

        def on_error(error: Exception) -> None:
            with notices():
                raise error

        progress = {"total": 0, "desc": f"FastSAM: writing {name}"}
        worker = create_worker(write, _progress=progress, _start_thread=False, _ignore_errors=True)
        worker.returned.connect(lambda _: tell(f"{name} was written"))
        worker.errored.connect(on_error)
        worker.start()


def _is_labels(layer: Any) -> bool:
    from napari.layers import Labels

    return isinstance(layer, Labels)
