"""The two light layers the widget draws into: outlines of all candidates, and the one under the cursor."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fastsam._convert import Plane, layer_shape, placed_like

if TYPE_CHECKING:
    from napari.layers import Image
    from numpy.typing import NDArray

    from napari_fastsam.controllers.session import Session
    from napari_fastsam.models.candidates import Candidates

__all__ = [
    "HOVER_NAME",
    "OUTLINE_NAME",
    "OutlineCanvas",
    "add_quietly",
    "contains",
    "is_overlay",
    "region_transform",
    "warm_up",
]

OUTLINE_NAME = "FastSAM candidates"
HOVER_NAME = "FastSAM hover"

_CANDIDATE, _PICKED, _PICKED_INSIDE, _DONE = 1, 2, 3, 4
_OUTLINE_COLOURS = (
    (0.0, 0.0, 0.0, 0.0),
    (0.25, 0.85, 1.0, 0.85),
    (1.0, 0.85, 0.1, 1.0),
    (1.0, 0.85, 0.1, 0.3),
    (0.35, 0.8, 0.4, 0.6),
)
"""Of nothing and of the four states above."""
_HOVER_COLOURS = ((0.0, 0.0, 0.0, 0.0), (1.0, 1.0, 1.0, 0.25), (1.0, 1.0, 1.0, 1.0))
"""Of nothing, the inside and the border."""
_COLOURS = {OUTLINE_NAME: _OUTLINE_COLOURS, HOVER_NAME: _HOVER_COLOURS}
_HOVER_SIDE_PX = 512
_MARK = "fastsam_overlay"


def add_quietly(viewer: Any, layer: Any, above: Any = None) -> None:
    """Add a layer (right above another one, or on top) without selecting it.

    Nobody hears that napari selects it: the controls on the left would be exchanged twice, with a repaint of the
    whole window.
    """
    layers, selection = viewer.layers, viewer.layers.selection
    chosen = set(selection)
    places = [k for k, other in enumerate(layers) if above is not None and other.unique_id == above.unique_id]
    with selection.events.blocker_all():
        layers.insert(places[0] + 1 if places else len(layers), layer)
        selection.clear()
        selection.update(chosen)


def contains(viewer: Any, layer: Any) -> bool:
    """Tell whether a layer is still in the viewer."""
    return layer is not None and any(layer.unique_id == other.unique_id for other in viewer.layers)


def is_overlay(layer: Any) -> bool:
    """Tell whether a layer is one that this plugin draws into: it is no image of the user."""
    return bool(layer.metadata.get(_MARK))


def region_transform(image: Any, plane: Plane, offset_yx: tuple[float, float], step: int) -> dict[str, Any]:
    """Return what places a small layer at a part of a plane (see :func:`placed_like`), across all channels."""
    shape = layer_shape(image)
    offset, steps = np.zeros(image.ndim), np.ones(image.ndim)
    for axis, place in enumerate(plane.index):
        if axis in plane.axes_yx:
            offset[axis], steps[axis] = offset_yx[plane.axes_yx.index(axis)], step
        elif place is None:
            steps[axis] = shape[axis]
        else:
            offset[axis] = place
    return placed_like(image, offset, steps)


def _expanded(pixels: NDArray[np.uint8], plane: Plane) -> NDArray[np.uint8]:
    """Give an image (h, w) axes of length one where the plane has its place."""
    shape = [1] * len(plane.index)
    for axis, size in zip(plane.axes_yx, pixels.shape, strict=True):
        shape[axis] = size
    return pixels.reshape(shape)


def _place(layer: Any, transform: dict[str, Any]) -> None:
    for name in ("scale", "translate", "rotate", "shear", "affine"):
        new = np.asarray(transform[name])
        old = np.asarray(layer.affine.affine_matrix if name == "affine" else getattr(layer, name))
        if old.shape != new.shape or not np.allclose(old, new, rtol=1e-12, atol=0):
            setattr(layer, name, transform[name])
    if tuple(layer.units) != tuple(transform["units"]):
        layer.units = transform["units"]


def _repaint(layer: Any, data: NDArray[np.uint8], part: tuple[slice, ...]) -> None:
    """Change the pixels of an overlay inside a part of it."""
    if layer.data.shape != data.shape:
        layer.data = data
    elif not np.array_equal(layer.data[part], data[part]):
        layer.data[part] = data[part]
        layer.refresh(extent=False, highlight=False, thumbnail=False)


@cache
def _colormap(name: str) -> Any:
    """Make the colormap of an overlay, one colour for each value, and let napari know it by the layer's name."""
    from napari.utils.colormaps import Colormap, ensure_colormap

    colours = _COLOURS[name]
    highest = len(colours) - 1
    between = (np.arange(highest) + 0.5) / highest
    return ensure_colormap(Colormap(colours, name=name, interpolation="zero", controls=[0, *between, 1]))


def _overlay(pixels: NDArray[np.uint8], name: str, transform: dict[str, Any]) -> Image:
    """Make a layer that shows each value in its own colour.

    It is an image, not labels: for each Labels layer that is added napari makes visuals for brush and polygon, which
    takes half a tenth of a second, twice that for the first one.
    """
    from napari.layers import Image

    layer = Image(
        pixels,
        name=name,
        rgb=False,
        colormap=_colormap(name),
        contrast_limits=(0, len(_COLOURS[name]) - 1),
        interpolation2d="nearest",
        interpolation3d="nearest",
        blending="translucent",
        metadata={_MARK: True},
        **transform,
    )
    layer.editable = False
    return layer


def warm_up() -> None:
    """Load and compile what napari needs for overlays and labels; in the worker's thread, not later in the window's."""
    from napari.layers import Labels

    for name in _COLOURS:
        _overlay(np.zeros((2, 2), np.uint8), name, {})
    Labels(np.zeros((2, 2), np.uint8))  # its table of features loads pandas


class OutlineCanvas:
    """Shows candidates as outlines: blue when shown, yellow when picked, green when committed; white under the cursor.

    Parameters
    ----------
    session : Session
    """

    def __init__(self, session: Session) -> None:
        # Here, in the window's thread: napari walks through all colormaps when a layer is added, and none may come from
        # the worker meanwhile.
        for name in _COLOURS:
            _colormap(name)
        self.session = session
        self.outlines: Any = None
        self.hover: Any = None
        self._drawn: tuple[Candidates, Plane, NDArray[np.uint8]] | None = None
        """What the outlines show: candidates, their plane, and the state of each of them."""
        self._removing = self._late = False
        """Whether napari is removing a layer, and whether there was something to draw meanwhile."""
        events = session.viewer.layers.events
        events.removing.connect(self._on_removing)
        events.removed.connect(self._on_removed, position="last")
        events.reordered.connect(self._raise)
        session.candidates_changed.connect(self.draw)
        session.selection_changed.connect(self.draw)
        session.hovered.connect(self.draw_hover)

    def close(self) -> None:
        """Take the own layers out of the viewer."""
        events = self.session.viewer.layers.events
        events.removing.disconnect(self._on_removing)
        events.removed.disconnect(self._on_removed)
        events.reordered.disconnect(self._raise)
        for layer in (self.outlines, self.hover):
            self._remove(layer)
        self.outlines = self.hover = self._drawn = None

    def _on_removing(self) -> None:
        self._removing, self._late = True, False

    def _on_removed(self) -> None:
        """Draw what was put off: napari's sliders and lists know by now that a layer is gone, and can take another."""
        self._removing = False
        if self._late:
            self.draw()

    def _remove(self, layer: Any) -> None:
        if contains(self.session.viewer, layer):
            self.session.viewer.layers.remove(layer)

    def _raise(self) -> None:
        """Move own layers that lie under the image, where they cannot be seen, right above it."""
        layers = self.session.viewer.layers
        for own in (self.outlines, self.hover):
            ids = [layer.unique_id for layer in layers]
            if own is not None and {own.unique_id, self.session.image_id} <= set(ids):
                place, under = ids.index(own.unique_id), ids.index(self.session.image_id)
                if place < under:
                    layers.move(place, under + 1)

    # ---- all candidates -----------------------------------------------------------------------------------------

    def make_ready(self) -> None:
        """Add the layer of the outlines, hidden, before there are any: drawing them takes less time than adding it."""
        session = self.session
        if session.image is None or session.plane is None or contains(session.viewer, self.outlines):
            return
        self._add_outlines(np.zeros((1, 1), np.uint8), session.image, session.plane, step=1, visible=False)

    def on_running(self, running: bool) -> None:
        """Take the layer of the outlines away again when a run ends and none were drawn."""
        if not running and self._drawn is None:
            self._remove(self.outlines)
            self.outlines = None

    def _add_outlines(
        self, pixels: NDArray[np.uint8], image: Any, plane: Plane, *, step: int, visible: bool = True
    ) -> None:
        transform = region_transform(image, plane, (0, 0), step)
        self.outlines = _overlay(_expanded(pixels, plane), OUTLINE_NAME, transform)
        self.outlines.visible = visible
        self._drawn = None
        add_quietly(self.session.viewer, self.outlines, image)

    def draw(self) -> None:
        """Draw the outlines of the shown candidates anew."""
        self._late = self._removing
        if self._removing:
            return
        session = self.session
        candidates, plane = session.candidates, session.plane
        if candidates is None or plane is None or session.image is None:
            if self.outlines is not None:
                self._remove(self.outlines)
                self.outlines = self._drawn = None
            self.draw_hover(-1)
            image = session.image if contains(session.viewer, session.image) else None
            if self.hover is not None and (image is None or image.ndim != self.hover.ndim):
                self._remove(self.hover)  # it would keep the sliders of an image that is gone
                self.hover = None
            return
        states = self._states()
        part = self._part_to_draw(candidates, plane, states)
        step = candidates.outlines.step
        if part is None:
            _place(self.outlines, region_transform(session.image, plane, (0, 0), step))
            return
        pixels = _painted(candidates, np.where(_touching(candidates, part), states, 0))
        if not contains(session.viewer, self.outlines) or self.outlines.ndim != len(plane.index):
            self._remove(self.outlines)
            self._add_outlines(pixels, session.image, plane, step=step)
        else:
            data = _expanded(pixels, plane)
            along = dict(zip(plane.axes_yx, part, strict=True))
            _repaint(self.outlines, data, tuple(along.get(axis, slice(None)) for axis in range(data.ndim)))
            _place(self.outlines, region_transform(session.image, plane, (0, 0), step))
            if self._drawn is None:
                self.outlines.visible = True
            self._raise()
        self._drawn = (candidates, plane, states)

    def _states(self) -> NDArray[np.uint8]:
        """Return how each candidate is drawn; 0 if it is not."""
        session = self.session
        states = np.where(session.shown, _CANDIDATE, 0).astype(np.uint8)
        states[list(session.committed)] = _DONE
        states[session.picked] = _PICKED
        return states

    def _part_to_draw(
        self, candidates: Candidates, plane: Plane, states: NDArray[np.uint8]
    ) -> tuple[slice, slice] | None:
        """Return rows and columns of the outlines that can be different now, None if nothing can."""
        everything = (slice(None), slice(None))
        if self._drawn is None or not contains(self.session.viewer, self.outlines):
            return everything
        before, old_plane, old_states = self._drawn
        if old_plane != plane or not candidates.begins_with(before):
            return everything
        changed = np.flatnonzero(states != np.pad(old_states, (0, len(candidates) - len(before))))
        if not len(changed):
            return None
        step, boxes = candidates.outlines.step, candidates.masks.extents_xyxy[changed]
        low, high = boxes[:, :2].min(axis=0) // step, -(-boxes[:, 2:].max(axis=0) // step)
        return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))

    # ---- the candidate under the cursor -------------------------------------------------------------------------

    def draw_hover(self, index: int) -> None:
        """Show one candidate, or none (-1), as a small layer that moves under the cursor."""
        session = self.session
        candidates, plane = session.candidates, session.plane
        if self._removing:
            return
        if index < 0 or candidates is None or plane is None or session.image is None:
            if contains(session.viewer, self.hover):
                self.hover.visible = False
            return
        pixels, offset_yx, step = hover_pixels(candidates, index)
        transform = region_transform(session.image, plane, offset_yx, step)
        data = _expanded(pixels, plane)
        if not contains(session.viewer, self.hover) or self.hover.ndim != data.ndim:
            self._remove(self.hover)
            self.hover = _overlay(data, HOVER_NAME, transform)
            add_quietly(session.viewer, self.hover)
            return
        self.hover.visible = False
        self.hover.data = data
        _place(self.hover, transform)
        self.hover.visible = True


def _touching(candidates: Candidates, part: tuple[slice, slice]) -> NDArray[np.bool_]:
    """Tell which candidates reach into a part of the outlines."""
    rows, columns = part
    if rows.stop is None:
        return np.ones(len(candidates), bool)
    step, boxes = candidates.outlines.step, candidates.masks.extents_xyxy
    low, high = np.array([columns.start, rows.start]) * step, np.array([columns.stop, rows.stop]) * step
    return np.asarray(((boxes[:, :2] < high) & (boxes[:, 2:] > low)).all(axis=1))


def _painted(candidates: Candidates, states: NDArray[np.uint8]) -> NDArray[np.uint8]:
    outlines = candidates.outlines
    pixels = np.zeros(outlines.image_hw, np.uint8)
    if (states == _PICKED).any():
        _fill(pixels, candidates, states == _PICKED)
    for state in (_CANDIDATE, _DONE, _PICKED):
        outlines.paint(pixels, states == state, state)
    return pixels


def hover_pixels(candidates: Candidates, index: int) -> tuple[NDArray[np.uint8], tuple[float, float], int]:
    """Return a small picture of one candidate (inside 1, border 2), where it begins, and how reduced it is."""
    x0, y0, _, _ = candidates.masks.extents_xyxy[index].tolist()
    mask = np.pad(candidates.masks.crop(index), 1)
    step = -(-max(mask.shape) // _HOVER_SIDE_PX)
    mask = mask[::step, ::step]
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return np.where(inner, 1, 2 * mask).astype(np.uint8), (y0 - 1, x0 - 1), step


def _fill(pixels: NDArray[np.uint8], candidates: Candidates, chosen: NDArray[np.bool_]) -> None:
    step = candidates.outlines.step
    part = candidates.masks[chosen]
    for k in range(len(part)):
        x0, y0, _, _ = part.extents_xyxy[k].tolist()
        top, left = -y0 % step, -x0 % step
        crop = part.crop(k)[top::step, left::step]
        row, column = (y0 + top) // step, (x0 + left) // step
        pixels[row : row + crop.shape[0], column : column + crop.shape[1]][crop] = _PICKED_INSIDE
