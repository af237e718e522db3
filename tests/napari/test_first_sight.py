"""What the widget says and shows: numbers of any size, planes that are not there, keys, names that are cut short."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Image
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLabel,
    QLineEdit,
    QPushButton,
    QScrollArea,
    QSlider,
    QTableView,
)

import napari_fastsam
from fastsam_core.errors import InvalidMasksError
from fastsam_core.masks import Masks
from napari_fastsam._napari import grid_of
from napari_fastsam.models.candidates import Candidates

from .conftest import FAINT, THREE, BlobModel, Make, discs, run

if TYPE_CHECKING:
    from collections.abc import Iterator


def last_notice() -> str:
    return str(notification_manager.records[-1].message) if notification_manager.records else ""


@pytest.mark.parametrize("factor", [1e-300, 1e-12, 1e-9, 1e300])
@pytest.mark.usefixtures("blob_model")
def test_sliders_of_values_that_are_tiny_or_huge(viewer: Any, make_widget: Make, qtbot: Any, factor: float) -> None:
    """Heights in metres are 1e-9; they are told apart, and the widget stays narrow."""
    values = discs(80, 90, THREE[0], value=150).astype(float) + discs(80, 90, *THREE[1:])
    viewer.add_layer(Image(values * factor, name="Image", contrast_limits=(0, 200 * factor)))
    widget = make_widget(viewer)
    run(qtbot, widget)
    means = np.sort(widget.session.candidates.columns["intensity"])
    numbers = widget.filter_panel.sliders["intensity"]._numbers.text()
    assert numbers == f"{means[0]:.2e} – {means[-1]:.2e}"
    table = widget.table.table
    cells = sorted(table.data(table.index(row, 3)) for row in range(len(means)))
    assert cells == [f"{mean:.2e}" for mean in means]
    widget.filter_panel.sliders["intensity"].set_limits(float(means.mean()), np.inf)
    assert widget.session.passing.sum() == (means > means.mean()).sum()


@pytest.mark.usefixtures("blob_model")
def test_areas_of_small_pixels_in_large_units(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    """Pixels of 0.3 µm in an image whose file counts in millimetres: all areas were 0.0."""
    viewer.add_layer(Image(discs(80, 90, *THREE), name="Image", scale=(3e-4, 3e-4), units=("mm", "mm")))
    widget = make_widget(viewer)
    run(qtbot, widget)
    assert widget.filter_panel.sliders["area_px"]._numbers.text() == "1.77e-05 – 3.97e-05"
    cells = [widget.table.table.index(row, 1) for row in range(3)]
    assert [widget.table.table.data(cell) for cell in cells] == ["1.77e-05", "2.85e-05", "3.97e-05"]
    viewer.layers[0].scale = (0.5, 0.5)
    assert widget.filter_panel.sliders["area_px"]._numbers.text() == "49.2 – 110"
    assert widget.table.table.data(widget.table.table.index(0, 1)) == "49.25"


@pytest.mark.usefixtures("blob_model")
def test_zeros_have_no_sign(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    viewer.add_layer(Image(discs(80, 90, *THREE), name="Image"))
    widget = make_widget(viewer)
    run(qtbot, widget)
    widget.filter_panel.sliders["intensity"].set_values(np.zeros(3))
    assert widget.filter_panel.sliders["intensity"]._numbers.text() == "0 – 0"


def test_nothing_but_faint_candidates(viewer: Any, make_widget: Make, qtbot: Any, blob_model: BlobModel) -> None:
    assert blob_model.info.conf > FAINT
    viewer.add_layer(Image(discs(80, 90, *THREE, value=60), name="Image", contrast_limits=(0, 255)))
    widget = make_widget(viewer)
    run(qtbot, widget)
    assert "Nothing but 3 faint" in widget.filter_panel.count.text()
    widget.label_panel.commit_shown()
    assert "Nothing is shown that is not committed" in last_notice()
    assert "sliders" in last_notice()
    widget.filter_panel.sliders["confidence"].set_limits(-np.inf, np.inf)
    assert "3 of 3 fainter ones" in widget.filter_panel.count.text()


@pytest.mark.usefixtures("blob_model")
def test_no_plane_in_3d_and_no_numbers_of_another_plane(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    viewer.add_layer(Image(np.stack([discs(80, 90, *THREE)] * 2), name="Image"))
    widget = make_widget(viewer)
    viewer.dims.set_current_step(0, 0)
    run(qtbot, widget)
    numbers = widget.filter_panel.sliders["area_px"]._numbers
    assert numbers.text()
    viewer.dims.set_current_step(0, 1)
    assert not numbers.text()
    widget.filter_panel.reset()
    assert not numbers.text()
    viewer.dims.ndisplay = 3
    assert "switch to 2-D" in widget.filter_panel.count.text()
    viewer.dims.ndisplay = 2
    viewer.dims.set_current_step(0, 0)
    assert numbers.text()


def test_a_stack_does_not_run_along_channels_unasked(viewer: Any, make_widget: Make) -> None:
    viewer.add_layer(Image(np.zeros((2, 5, 3, 40, 50), np.uint8), name="Image", axis_labels=("t", "C", "z", "y", "x")))
    widget = make_widget(viewer)
    assert widget.segment_panel.stack_axis() == 2
    widget.segment_panel.along.setCurrentText("Along C: 5 planes")
    assert widget.segment_panel.stack_axis() == 1
    viewer.layers.clear()
    viewer.add_layer(Image(np.zeros((5, 40, 50), np.uint8), name="Image", axis_labels=("c", "y", "x")))
    assert widget.segment_panel.stack_axis() == 0, "there is no other"


def test_an_image_under_another_one(viewer: Any, make_widget: Make) -> None:
    first = viewer.add_layer(Image(np.zeros((40, 50), np.uint8), name="first"))
    widget = make_widget(viewer)
    note = widget.segment_panel.note
    second = viewer.add_layer(Image(np.zeros((40, 50), np.uint8), name="second"))
    assert "'second' covers the image" in note.text()
    for name, value in (("visible", False), ("opacity", 0.5), ("blending", "additive")):
        before = getattr(second, name)
        setattr(second, name, value)
        assert note.isHidden(), name
        setattr(second, name, before)
        assert "covers" in note.text()
    for enabled in (True, False):
        grid_of(viewer).enabled = enabled
        assert note.isHidden() == enabled
    first.visible = False
    assert "is hidden" in note.text()
    first.visible = True
    viewer.layers.move(0, 2)
    assert note.isHidden()
    viewer.layers.move(1, 0)
    assert "covers" in note.text()
    viewer.layers.remove("second")
    assert note.isHidden()
    viewer.add_layer(Image(np.zeros((40, 50), np.uint8), name="beside", translate=(0, 60)))
    assert note.isHidden()


@pytest.mark.usefixtures("blob_model")
def test_the_walkthrough_goes_along(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    widget = make_widget(viewer)
    steps = [widget.guide.text.text()[3:4]]
    viewer.add_layer(Image(discs(80, 90, *THREE), name="Image"))
    steps.append(widget.guide.text.text()[3:4])
    run(qtbot, widget)
    steps.append(widget.guide.text.text()[3:4])
    widget.label_panel.commit_shown()
    steps.append(widget.guide.text.text()[3:4])
    assert steps == ["1", "2", "3", "4"]


@pytest.mark.usefixtures("blob_model")
def test_keys_of_the_plugin_while_the_table_has_the_focus(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    viewer.add_layer(Image(discs(80, 90, *THREE), name="Image"))
    widget = make_widget(viewer)
    run(qtbot, widget)
    qtbot.keyClick(widget.table, Qt.Key.Key_Down)
    assert len(widget.session.selected) == 1
    qtbot.keyClick(widget.table, Qt.Key.Key_K)
    assert len(widget.session.committed) == 1


def test_undo_while_a_list_has_the_focus(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    """The list that was chosen from last looked for an entry that begins with Ctrl+Z."""
    viewer.add_layer(Image(discs(80, 90, *THREE), name="Image"))
    widget = make_widget(viewer)
    done: list[str] = []
    widget.labels.undo, widget.labels.redo = lambda: done.append("undo"), lambda: done.append("redo")
    for one in (widget.segment_panel.image, widget.label_panel.overlap):
        qtbot.keyClick(one, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
        qtbot.keyClick(one, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)
    assert done == ["undo", "redo"] * 2
    qtbot.keyClick(widget.label_panel.overlap, Qt.Key.Key_Down)
    assert widget.labels.overlap == "steal", "arrows are the list's"


def test_what_a_screen_reader_says(viewer: Any, make_widget: Make) -> None:
    """Fields have the name of the label beside them where that is a label of theirs."""
    widget = make_widget(viewer)
    labelled = {label.buddy() for label in widget.findChildren(QLabel)}
    kinds = (QComboBox, QAbstractSpinBox, QSlider, QTableView, QLineEdit)
    fields = [one for kind in kinds for one in widget.findChildren(kind) if one.objectName() != "qt_spinbox_lineedit"]
    assert len(fields) > 15
    assert [one for one in fields if one not in labelled and not one.accessibleName()] == []


@pytest.mark.parametrize("name", ["overlap", "target", "label_id"])
def test_keys_of_the_plugin_while_a_list_or_number_has_the_focus(
    viewer: Any, make_widget: Make, qtbot: Any, name: str
) -> None:
    viewer.add_layer(Image(discs(80, 90, *THREE), name="Image"))
    widget = make_widget(viewer)
    widget.label_panel.overlap.setCurrentIndex(1)
    qtbot.keyClick(getattr(widget.label_panel, name), Qt.Key.Key_H)
    qtbot.keyClick(getattr(widget.label_panel, name), Qt.Key.Key_K)
    assert widget.hover.enabled
    assert widget.label_panel.overlap.currentIndex() == 1  # K looks for no 'Keep objects'


def test_a_label_can_be_typed_after_a_click(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    """Qt takes no digit among the words that stand for no number."""
    panel = make_widget(viewer).label_panel
    for place in (0, 2, len(panel.label_id.text())):
        panel.label_id.setValue(0)
        panel.label_id.lineEdit().setCursorPosition(place)
        qtbot.keyClicks(panel.label_id, "12")
        assert panel.labels.chosen_id == 12
    panel.label_id.selectAll()
    qtbot.keyClicks(panel.label_id, "0")
    assert panel.labels.chosen_id is None


def turn_wheel(widget: Any) -> None:
    """Turn the mouse's wheel over a widget, or over what it lies in where it does not take it."""
    place = QPointF(widget.rect().center())
    none = Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False
    for angle in (-120, 120, 120):
        event = QWheelEvent(place, QPointF(widget.mapToGlobal(place.toPoint())), QPoint(), QPoint(0, angle), *none)
        QApplication.sendEvent(widget, event)


@pytest.mark.usefixtures("blob_model")
def test_scrolling_over_lists_and_sliders_changes_nothing(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    for name in ("one", "two", "three"):
        viewer.add_layer(Image(discs(80, 90, *THREE), name=name))
    widget = make_widget(viewer)
    run(qtbot, widget)
    filters = widget.session.filters
    for slider in widget.filter_panel.sliders.values():
        turn_wheel(slider.slider)
    assert widget.session.filters == filters
    segment, pick, label = widget.segment_panel, widget.pick_panel, widget.label_panel
    lists = (segment.image, segment.channels, segment.model, segment.region, pick.level, label.overlap)
    for one in lists:
        one.setCurrentIndex(1)
        turn_wheel(one)
        assert one.currentIndex() == 1
    turn_wheel(label.label_id)
    assert label.label_id.value() == 0


def test_names_of_layers_that_are_too_long(viewer: Any, make_widget: Make) -> None:
    """They differ at the end; what a list is for is still said, and nothing of layers that are gone."""
    widget = make_widget(viewer)
    combo = widget.segment_panel.image
    assert "contrast limits" in combo.toolTip()
    pictures = []
    for well in ("B07", "B08"):
        layer = viewer.add_layer(Image(np.zeros((40, 50), np.uint8), name=f"a plate with a long name, well {well}"))
        combo.set_layer(layer)
        combo.resize(120, combo.sizeHint().height())
        picture = combo.grab().toImage()
        pictures.append([picture.pixel(x, y) for x in range(picture.width()) for y in range(picture.height())])
        assert well in combo.toolTip()
        assert "contrast limits" in combo.toolTip()
    assert pictures[0] != pictures[1]
    viewer.layers.clear()
    assert "plate" not in combo.toolTip()


def test_buttons_without_an_image_say_so(viewer: Any, make_widget: Make) -> None:
    widget = make_widget(viewer)
    for do in (widget.pick_panel.add_points, widget.pick_panel.add_shapes, widget.pick_panel.look_here):
        notification_manager.records.clear()
        do()
        assert "No image is chosen" in last_notice()
    viewer.add_layer(Image(np.zeros((40, 50), np.uint8), name="Image"))
    widget.pick_panel.look_here()
    assert "press N" in last_notice()


@pytest.mark.usefixtures("blob_model")
def test_why_a_target_cannot_be_used_stays(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    """What all that is shown would become, asked for just before, does not take its place."""
    image = viewer.add_layer(Image(discs(80, 90, *THREE), name="Image"))
    widget = make_widget(viewer)
    run(qtbot, widget)
    widget.session.select_by_hand([0])
    widget.label_panel.commit_picked()
    image.scale = (2, 2)
    assert "cannot be used" in widget.label_panel.preview.text()
    qtbot.wait(700)
    assert "cannot be used" in widget.label_panel.preview.text()


def test_a_file_that_holds_no_candidates(tmp_path: Path) -> None:
    (tmp_path / "notes.npz").write_text("no candidates")
    with pytest.raises(InvalidMasksError, match=r"no \.npz file") as caught:
        Masks.load(tmp_path / "notes.npz")
    assert "pickle" not in str(caught.value)


def test_channels_are_offered_first_and_in_few_words(viewer: Any, make_widget: Make) -> None:
    viewer.add_layer(Image(np.zeros((3, 2, 4, 64, 80), np.uint16), axis_labels=("t", "c", "z", "y", "x")))
    widget = make_widget(viewer)
    channels = widget.segment_panel.channels
    offered = [channels.itemText(k) for k in range(channels.count())]
    assert offered[1:4] == ["2 channels along c", "3 channels along t", "4 channels along z"]


def test_a_single_faint_candidate_is_said_so(viewer: Any, make_widget: Make) -> None:
    viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name="Image"))
    widget = make_widget(viewer)
    masks = Masks.from_dense([discs(80, 90, (30, 30, 20)) > 0], [0.05])
    widget.session.put(widget.session.image_id, widget.session.plane, Candidates.measure(masks, conf=0.2))
    assert widget.filter_panel.count.text().startswith("Nothing but a faint candidate was found")


def test_sections_stand_side_by_side_where_it_is_wide(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    """At the bottom of napari's window the widget is wide and low."""
    viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name="Image"))
    widget = make_widget(viewer)
    widget.setParent(None)
    qtbot.addWidget(widget)
    parts = (widget.segment_panel, widget.filter_panel, widget.pick_panel, widget.label_panel, widget.table)
    sections = [part.parentWidget() for part in parts]
    hidden = [section.isHidden() for section in sections]
    for width, count in ((300, 1), (1300, 4), (660, 2), (310, 1)):
        widget.resize(width, 600)
        widget.show()
        qtbot.waitUntil(lambda count=count: len({section.x() for section in sections}) == count)
        qtbot.waitUntil(lambda width=width: max(section.geometry().right() for section in sections) < width)
        places = [(section.x(), section.y()) for section in sections]
        assert places == sorted(places), "in the order of reading"
    assert [section.isHidden() for section in sections] == hidden


def test_large_letters_are_not_cut(viewer: Any, make_widget: Make, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Napari's preferences have a font size; the right third of the widget could not be reached."""
    viewer.add_layer(Image(np.zeros((80, 90), np.uint8), name="Image"))
    widget = make_widget(viewer)
    widget.setParent(None)
    qtbot.addWidget(widget)
    small = widget.pick_panel.under_cursor.fontMetrics().height()
    widget.setStyleSheet("QWidget { font-size: 24px; }")
    widget.resize(300, 600)
    widget.show()
    area = widget.findChild(QScrollArea)
    qtbot.waitUntil(lambda: area.horizontalScrollBar().isVisible())
    assert area.viewport().width() + area.horizontalScrollBar().maximum() == area.widget().width()
    assert widget.pick_panel.under_cursor.fontMetrics().height() > 1.5 * small
    widget.resize(700, 600)
    sections = [part.parentWidget() for part in (widget.segment_panel, widget.filter_panel, widget.table)]
    qtbot.waitUntil(lambda: not area.horizontalScrollBar().maximum())
    assert len({section.x() for section in sections}) == 1, "two columns do not fit"


def remedies() -> Iterator[str]:
    """Yield what the plugin's notices say can be done."""
    for path in Path(napari_fastsam.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "remedy":
                yield ast.unparse(node.value)
            elif isinstance(node, ast.Constant) and "Remedy: " in str(node.value):
                yield str(node.value)


def test_notices_name_what_the_widget_shows(viewer: Any, make_widget: Make) -> None:
    """They sent to 'Prompts' and 'New points', which nothing is called."""
    widget = make_widget(viewer)
    texts = {one.text().split("·")[-1].strip() for kind in (QLabel, QPushButton) for one in widget.findChildren(kind)}
    texts |= {combo.itemText(k) for combo in widget.findChildren(QComboBox) for k in range(combo.count())}
    named = {name for text in remedies() for name in re.findall(r"'([A-Z][a-z][^'{}]+)'", text)}
    assert {"Image", "Filter", "New layer"} <= named
    assert named <= texts


def test_buttons_that_need_a_plane_say_so_in_3d(viewer: Any, make_widget: Make) -> None:
    viewer.add_layer(Image(np.zeros((4, 80, 90), np.uint8), name="Image"))
    widget = make_widget(viewer)
    viewer.dims.ndisplay = 3
    labels, filters, picks = widget.label_panel, widget.filter_panel, widget.pick_panel
    acts = (labels.commit_shown, labels.commit_picked, lambda: widget.labels.merge([]), picks.look_here, picks.load)
    for act in (*acts, filters.load, filters.save):
        notification_manager.records.clear()
        act()
        assert "in 3-D" in last_notice()


def test_a_choice_of_weights_that_is_cancelled_keeps_the_model(
    viewer: Any, make_widget: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    widget = make_widget(viewer)
    model = widget.segment_panel.model
    monkeypatch.setattr("napari_fastsam.views.segment_panel.QFileDialog.getOpenFileName", lambda *_: ("", ""))
    model.setCurrentText("FastSAM-x")
    model.setCurrentIndex(model.count() - 1)
    model.activated.emit(model.count() - 1)
    assert (model.currentText(), widget.segmentation.model) == ("FastSAM-x", "FastSAM-x")


def test_the_table_is_written_in_the_font_of_the_preferences(viewer: Any, make_widget: Make, qtbot: Any) -> None:
    """It stayed as small as it is, and so did the field for words."""
    from napari.settings import get_settings

    widget = make_widget(viewer)
    appearance, size = get_settings().appearance, get_settings().appearance.font_size
    small = widget.table.fontMetrics().height()
    try:
        appearance.font_size = 2 * size
        qtbot.waitUntil(lambda: widget.table.fontMetrics().height() > 1.5 * small)
        assert widget.words_panel.text.fontMetrics().height() > 1.5 * small
        assert widget.table.verticalHeader().defaultSectionSize() >= widget.table.fontMetrics().height()
    finally:
        appearance.font_size = size
    qtbot.waitUntil(lambda: widget.table.fontMetrics().height() < 1.5 * small)
