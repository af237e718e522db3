"""Points and Shapes layers as prompts: whichever the user has, wherever they lie, followed live."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from fastsam_core._axis_names import czt_of, is_channels
from fastsam_core.drawings import Drawing, Places, read_drawings
from fastsam_core.errors import FastSAMError, InvalidPromptError
from napari_fastsam._convert import Plane, layer_shape, layer_to_layer, pixels_of_data, placed_like
from napari_fastsam._napari import point_of
from napari_fastsam._notify import describe, notices, warn
from napari_fastsam.controllers.canvas import contains
from napari_fastsam.models.picks import PromptSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from napari.layers import Image, Points, Shapes
    from numpy.typing import NDArray

    from napari_fastsam.controllers.session import Session

__all__ = ["PromptController", "prompts_of", "read_polarity"]

_EVENTS = ("data", "set_data", "features", "scale", "translate", "rotate", "shear", "affine")
_POSITIVE_COLOUR, _NEGATIVE_COLOUR = "#2ca02c", "#ff4040"
_POINT_SIZE_PX = 10
_ARC_STEPS = 48
_NEGATIVE_WORDS = {"negative", "neg", "-", "−", "background", "false", "off", "no"}
_NEGATIVE_NUMBERS = {0.0, -1.0}
_COLUMN_ERRORS = (ArithmeticError, AttributeError, KeyError, IndexError, TypeError, ValueError)
"""What pandas and napari raise where a column cannot take a value, or colours cannot be made of it."""
_OWN_COLUMNS = "press 'New' beside 'Points' for points with polarity and groups; your own layer is not changed"


def read_polarity(layer: Points) -> NDArray[np.bool_]:
    """Return which points of a layer are positive: by its ``polarity`` or ``label`` feature; all without one."""
    count = len(layer.data)
    for name in ("polarity", "label"):
        if name in layer.features:
            return np.array([not _is_negative(value) for value in layer.features[name]], bool)
    return np.ones(count, bool)


def _is_negative(value: object) -> bool:
    text = str(value).strip().lower()
    return text in _NEGATIVE_WORDS or _number(text) in _NEGATIVE_NUMBERS


def _number(value: object) -> float:
    """Return the finite number that a value is or says, NaN if there is none."""
    try:
        number = float(str(value))
    except ValueError:
        return np.nan
    return number if np.isfinite(number) else np.nan


def read_groups(layer: Points) -> NDArray[np.int64]:
    """Return the object each point belongs to: by its ``group`` feature (any values); one for all without one."""
    if "group" not in layer.features:
        return np.ones(len(layer.data), np.int64)
    _, groups = np.unique(layer.features["group"].astype(str), return_inverse=True)
    return groups.astype(np.int64)


def _outline(kind: str, vertices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the outline of an ellipse from the corners of its box; other shapes have theirs already."""
    if kind != "ellipse":
        return vertices
    centre = vertices.mean(axis=0)
    first, second = (vertices[1] - vertices[0]) / 2, (vertices[3] - vertices[0]) / 2
    angles = np.linspace(0, 2 * np.pi, _ARC_STEPS, endpoint=False)[:, None]
    outline: NDArray[np.float64] = centre + np.cos(angles) * first + np.sin(angles) * second
    return outline


def _is_upright(corners_yx: NDArray[np.float64]) -> bool:
    """Tell whether four corners are a box along the image's axes."""
    sides = np.abs(np.diff(corners_yx, axis=0))
    return bool((sides.min(axis=1) <= 1e-3 * sides.max(axis=1)).all())


def prompts_of(image: Image, plane: Plane, world_point: Any, points: Points | None, shapes: Shapes | None) -> PromptSet:
    """Return the prompts that lie on a plane, in its pixels.

    Parameters
    ----------
    image : Image layer
    plane : Plane
    world_point : sequence of float
        Where the viewer's sliders stand, in the image's units.
    points, shapes : layers, optional
        At any transforms, of any number of axes. Points that are not `shown` are left out.
    """
    parts: dict[str, Any] = {}
    if points is not None and len(points.data):
        yx, here = pixels_of_data(layer_to_layer(points, image, points.data, world_point), plane)
        here &= np.isfinite(yx).all(axis=1) & points.shown
        parts |= {"points_yx": yx[here], "positive": read_polarity(points)[here], "groups": read_groups(points)[here]}
    boxes, regions, scribbles = [], [], []
    for kind, vertices in zip(shapes.shape_type, shapes.data, strict=False) if shapes is not None else ():
        outline = _outline(str(kind), np.asarray(vertices, np.float64))
        yx, here = pixels_of_data(layer_to_layer(shapes, image, outline, world_point), plane)
        if not here.all() or not np.isfinite(yx).all():
            continue
        if kind == "rectangle" and _is_upright(yx):
            (top, left), (bottom, right) = yx.min(axis=0), yx.max(axis=0)
            boxes.append((left, top, right, bottom))
        elif kind in ("line", "path", "polyline"):
            scribbles.append(yx)
        elif len(yx) >= 3:
            regions.append(yx)
    return PromptSet(
        boxes_xyxy=np.array(boxes, np.float64).reshape(-1, 4),
        regions_yx=tuple(regions),
        scribbles_yx=tuple(scribbles),
        **parts,
    )


class PromptController:
    """Follows a Points and a Shapes layer and tells the session what they say.

    Parameters
    ----------
    session : Session
    """

    followed = Signal()
    """Other layers are followed now, chosen here and not in the widget."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.points: Points | None = None
        self.shapes: Shapes | None = None
        session.plane_changed.connect(self.update)

    def close(self) -> None:
        """Let go of the layers; they stay as they are."""
        self.set_points(None)
        self.set_shapes(None)

    def set_points(self, layer: Points | None) -> None:
        """Follow this Points layer, the user's own or one of :meth:`add_points`."""
        self._follow(self.points, layer)
        self.points = layer
        self.update()

    def set_shapes(self, layer: Shapes | None) -> None:
        """Follow this Shapes layer."""
        self._follow(self.shapes, layer)
        self.shapes = layer
        self.update()

    def _follow(self, old: Any, new: Any) -> None:
        for name in _EVENTS:
            if old is not None and hasattr(old.events, name):
                getattr(old.events, name).disconnect(self.update)
            if new is not None and hasattr(new.events, name):
                getattr(new.events, name).connect(self.update)

    def update(self, event: object = None) -> None:
        """Read the layers anew; a few hundred microseconds."""
        session = self.session
        if session.image is None or session.plane is None:
            return
        try:
            point = point_of(session.viewer, session.image)
            prompts = prompts_of(session.image, session.plane, point, self.points, self.shapes)
            session.set_prompts(prompts)
        except FastSAMError as error:
            warn(describe(error))

    # ---- own layers ---------------------------------------------------------------------------------------------

    def add_points(self) -> Points | None:
        """Add a Points layer on the image, ready to click, and follow it."""
        from napari.layers import Points

        image = self.session.image
        if image is None:
            return None
        layer = Points(
            np.empty((0, image.ndim)),
            features={"polarity": np.empty(0, str), "group": np.empty(0, int)},
            feature_defaults={"polarity": "positive", "group": 1},
            border_color="polarity",
            border_color_cycle={"positive": _POSITIVE_COLOUR, "negative": _NEGATIVE_COLOUR},
            face_color="transparent",
            border_width=0.25,
            size=_POINT_SIZE_PX,
            name="FastSAM points",
            **_like(image),
        )
        self.session.viewer.add_layer(layer)
        layer.mode = "add"
        self.set_points(layer)
        return layer

    def add_shapes(self) -> Shapes | None:
        """Add a Shapes layer on the image, ready to draw rectangles, and follow it."""
        from napari.layers import Shapes

        image = self.session.image
        if image is None:
            return None
        layer = Shapes(
            ndim=image.ndim,
            edge_color="#ff9f1c",
            face_color="transparent",
            edge_width=2,
            name="FastSAM shapes",
            **_like(image),
        )
        self.session.viewer.add_layer(layer)
        layer.mode = "add_rectangle"
        self.set_shapes(layer)
        return layer

    def restore(self, by_plane: Mapping[Plane, PromptSet]) -> None:
        """Put prompts of one plane or several into new layers, and follow these."""
        image = self.session.image
        if image is None:
            return
        if any(len(prompts.points_yx) for prompts in by_plane.values()) and (points := self.add_points()) is not None:
            points.mode = "pan_zoom"
            with points.events.data.blocker(self.update):
                points.data = np.concatenate([_data_of(p.points_yx, plane) for plane, p in by_plane.items()])
                points.features = {
                    "polarity": np.concatenate(
                        [np.where(p.positive, "positive", "negative") for p in by_plane.values()]
                    ),
                    "group": np.concatenate([p.groups for p in by_plane.values()]),
                }
                points.refresh_colors()
        shapes = None
        for plane, prompts in by_plane.items():
            for kind, outlines in _shapes_of(prompts).items():
                shapes = shapes or (self.add_shapes() if outlines else None)
                if shapes is not None and outlines:
                    shapes.add([_data_of(outline, plane) for outline in outlines], shape_type=kind)
        if shapes is not None:
            shapes.mode = "pan_zoom"
        self.followed.emit()
        self.update()

    def load(self, path: Path, shown: Plane) -> None:
        """Put what was drawn in QuPath or ImageJ into new layers, and follow these.

        Parameters
        ----------
        path : Path
        shown : Plane
            Where drawings go that say nothing of a plane.

        Raises
        ------
        AnnotationError
            The file cannot be read.
        InvalidPromptError
            Nothing was drawn, or on a plane that is not there.
        """
        by_plane: dict[Plane, list[Drawing]] = {}
        for drawing in read_drawings(path, several_planes=True):
            by_plane.setdefault(self._plane_of(drawing, shown), []).append(drawing)
        if not by_plane:
            raise InvalidPromptError(f"{path} is empty", expected="points, boxes or outlines")
        self.restore({plane: _prompts_drawn(drawings) for plane, drawings in by_plane.items()})

    def _plane_of(self, drawing: Drawing, shown: Plane) -> Plane:
        """Return the plane of a drawing: by the names of the axes, else by depth and time.

        A stack along one axis has both along that one.
        """
        image: Any = self.session.image
        shape, names = layer_shape(image), self.session.axis_names(image)
        axes = {names[axis]: axis for axis in shown.fixed if shape[axis] > 1}
        places: dict[int, int] = {}
        if drawing.plane_zt is not None:
            depth, time = drawing.plane_zt
            known = [name for name in axes if not is_channels(name)]
            found = {"z": depth, "t": time} if len(known) > 1 else dict.fromkeys("zt", max(depth, time))
            places = {axes[name]: found[letter] for name, letter in czt_of(known).items()}
        places |= {axes[name]: place for name, place in drawing.place.items() if name in axes}
        for axis, place in places.items():
            if place >= shape[axis]:
                raise InvalidPromptError(
                    "There is a drawing on a plane that the image does not have",
                    expected=f"0 to {shape[axis] - 1}",
                    actual=str(place),
                    remedy="choose the image that it was drawn on",
                )
            shown = shown.at(axis, place)
        return shown

    def toggle_polarity(self) -> str:
        """Switch the next points between on and off the object; return the new polarity.

        Selected ones, too, but not while points are added: napari selects the last one then, and it is meant as it is.
        """
        points = self._points_there()
        if points is None:
            return ""
        if str(points.mode) == "add":
            points.selected_data = set()
        defaults = points.feature_defaults
        positive = "polarity" in defaults and _is_negative(defaults["polarity"].iloc[0])
        new = "positive" if positive else "negative"
        return new if self._set_feature(points, "polarity", lambda column: _polarity_for(column, positive)) else ""

    def next_group(self) -> int:
        """Let the next points describe another object; return its number."""
        points = self._points_there()
        if points is None:
            return 0
        groups = points.features["group"] if "group" in points.features else ()
        new = int(np.floor(np.nanmax([0.0, *map(_number, groups)]))) + 1
        points.selected_data = set()
        return new if self._set_feature(points, "group", lambda column: new if _is_numeric(column) else str(new)) else 0

    def _points_there(self) -> Points | None:
        if self.points is not None and contains(self.session.viewer, self.points):
            return self.points
        warn("There is no Points layer. Remedy: choose one under 'Pick', or press 'New' beside 'Points'.")
        return None

    def _set_feature(self, points: Points, name: str, value_for: Callable[[Any], object]) -> bool:
        """Give the next and the selected points a value that suits the column, or change nothing and say why."""
        with notices():
            if name not in points.features:
                raise FastSAMError(
                    f"The layer '{points.name}' has no '{name}' feature",
                    remedy=_OWN_COLUMNS,
                )
            before = points.features.copy(), points.feature_defaults.copy()
            try:
                _set_column(points, name, value_for)
            except _COLUMN_ERRORS as error:
                with suppress(*_COLUMN_ERRORS):
                    points.features, points.feature_defaults = before
                raise FastSAMError(
                    f"The feature '{name}' of the layer '{points.name}' cannot be changed",
                    actual=f"{type(error).__name__}: {error}",
                    remedy=_OWN_COLUMNS,
                ) from error
            self.update()
            return True
        return False


def _is_numeric(column: Any) -> bool:
    return column.dtype.kind in "iuf"


def _polarity_for(column: Any, positive: bool) -> object:
    """Return a polarity in a column's own terms: a truth value, a number or a word."""
    if column.dtype.kind == "b":
        return positive
    if _is_numeric(column):
        return 1 if positive else -1 if (column == -1).any() else 0
    return "positive" if positive else "negative"


def _set_column(points: Points, name: str, value_for: Callable[[Any], object]) -> None:
    """Set a feature of the selected and of the next points; a column of neither numbers nor words becomes words."""
    features, defaults = points.features.copy(), points.feature_defaults.copy()
    value = value_for(features[name])
    if isinstance(value, str):
        features[name] = features[name].astype(str)
    features.loc[sorted(points.selected_data), name] = value
    defaults[name] = [value]
    if not features.equals(points.features):
        points.features = features
    points.feature_defaults = defaults.astype({name: features[name].dtype})
    points.refresh_colors()


def _prompts_drawn(drawings: Iterable[Drawing]) -> PromptSet:
    """Take each point, box and outline as a prompt of its own."""
    places = Places.of(drawings)
    count = len(places.points_xy)
    return PromptSet(
        points_yx=places.points_xy[:, ::-1],
        positive=np.ones(count, bool),
        groups=np.arange(1, count + 1),
        boxes_xyxy=places.boxes_xyxy,
        regions_yx=tuple(outline[:, ::-1] for outline in places.outlines_xy),
    )


def _data_of(points_yx: NDArray[np.float64], plane: Plane) -> NDArray[np.float64]:
    """Turn pixels of a plane into data coordinates of the image: the way back from `pixels_of_data`."""
    data = np.zeros((len(points_yx), len(plane.index)))
    for axis, place in plane.fixed.items():
        data[:, axis] = place
    data[:, list(plane.axes_yx)] = points_yx - 0.5
    return data


def _shapes_of(prompts: PromptSet) -> dict[str, list[NDArray[np.float64]]]:
    """Return the vertices (y, x) of all shapes by napari's name of their kind."""
    boxes = [np.array([[y0, x0], [y0, x1], [y1, x1], [y1, x0]]) for x0, y0, x1, y1 in prompts.boxes_xyxy]
    return {"rectangle": boxes, "polygon": list(prompts.regions_yx), "path": list(prompts.scribbles_yx)}


def _like(image: Any) -> dict[str, Any]:
    return placed_like(image, np.zeros(image.ndim), np.ones(image.ndim))
