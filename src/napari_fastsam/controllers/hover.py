"""The hover tool: the candidate under the cursor, click to commit, drag to sweep, Shift + wheel for part and group."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from fastsam_core.prompts import nesting
from napari_fastsam._convert import in_layer_units, layer_map, pixels_of_data
from napari_fastsam._napari import units_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from napari_fastsam.controllers.session import Session

__all__ = ["HoverController"]

_MIN_INTERVAL_S = 1 / 30
_MAX_PIECES = 200
"""Places that are looked at between two of the mouse, in a drag."""
_FREE_MODES = {"pan_zoom", "none", ""}
_FAINTEST_SHARE = 0.25
"""Of the confidence from which on candidates are shown: fainter ones do not light up."""

_HIDDEN = "FastSAM: what was found here is hidden by the sliders under 'Filter'"


class HoverController:
    """Follows the mouse over the canvas while it is switched on.

    Parameters
    ----------
    session : Session
    commit : callable
        Called with the candidates that were clicked or swept.
    """

    enabled_changed = Signal(bool)

    def __init__(self, session: Session, commit: Callable[[list[int]], object]) -> None:
        self.session = session
        self.commit = commit
        self.enabled = False
        self.index = -1
        self.point_yx: NDArray[np.float64] | None = None
        self._depth = 0
        self._nested: tuple[int, ...] = ()
        self._last_look_s = 0.0
        viewer = session.viewer
        viewer.mouse_move_callbacks.append(self._on_move)
        viewer.mouse_wheel_callbacks.append(self._on_wheel)
        viewer.mouse_drag_callbacks.append(self._on_press)
        session.candidates_changed.connect(self._reset)
        session.shown_changed.connect(self._reset)

    def close(self) -> None:
        """Leave the mouse alone."""
        viewer = self.session.viewer
        for callbacks, own in (
            (viewer.mouse_move_callbacks, self._on_move),
            (viewer.mouse_wheel_callbacks, self._on_wheel),
            (viewer.mouse_drag_callbacks, self._on_press),
        ):
            if own in callbacks:
                callbacks.remove(own)
        self.set_enabled(False)

    def set_enabled(self, enabled: bool) -> None:
        """Switch the tool on or off."""
        if enabled != self.enabled:
            self.enabled = enabled
            self._reset()
            self.enabled_changed.emit(enabled)

    def _reset(self) -> None:
        self._nested, self._depth = (), 0
        self._set_index(-1)

    def _set_index(self, index: int) -> None:
        if index != self.index:
            self.index = index
            self.session.hovered.emit(index)

    # ---- looking up ---------------------------------------------------------------------------------------------

    def locate(self, world: Any) -> NDArray[np.float64] | None:
        """Return a world position in pixels of the plane."""
        session = self.session
        if session.image is None or session.plane is None:
            return None
        position = in_layer_units(session.image, world, units_of(session.viewer))[-session.image.ndim :]
        data = layer_map(session.image).inverse()(position[None])
        points_yx, _ = pixels_of_data(data, session.plane)
        point: NDArray[np.float64] = points_yx[0]
        return point

    def look(self, point_yx: NDArray[np.float64], *, faint: bool = True) -> int:
        """Return the candidate under a pixel at the chosen depth of nesting, -1 for none: a look-up.

        Where none is shown, it is one that is not all too faint, unless that is unwanted.
        """
        session = self.session
        candidates = session.candidates
        if candidates is None or not np.isfinite(point_yx).all():
            return -1
        here = nesting(candidates.masks, point_yx)
        chosen = here[session.shown[here]]
        if faint and not len(chosen):
            sufficient = candidates.masks.scores[here] >= _FAINTEST_SHARE * candidates.conf
            chosen = here[session.reached[here] & sufficient]
        nested = tuple(int(i) for i in chosen)
        if nested != self._nested:
            self._nested = nested
            self._depth = self._object_level(nested)
        return nested[self._depth] if nested else -1

    def _object_level(self, nested: tuple[int, ...]) -> int:
        """Return where to begin: at the most confident one that is not most of the image."""
        candidates = self.session.candidates
        if candidates is None or not nested:
            return 0
        plane_px = candidates.masks.image_hw[0] * candidates.masks.image_hw[1]
        places = list(nested)
        scores = np.where(
            candidates.masks.areas_px[places] > plane_px / 2, -1.0, candidates.masks.scores[places].astype(np.float64)
        )
        return int(scores.argmax())

    @property
    def level(self) -> str:
        """Where the candidate stands among those that lie in each other: "1/3" is the smallest of three."""
        return f"{self._depth + 1}/{len(self._nested)}" if self._nested else ""

    def walk(self, steps: int) -> None:
        """Go outwards (+1) to the object or group, or inwards (-1) to the part."""
        if self._nested:
            self._depth = int(np.clip(self._depth + steps, 0, len(self._nested) - 1))
            self._set_index(self._nested[self._depth])

    # ---- mouse --------------------------------------------------------------------------------------------------

    def _on_move(self, viewer: Any, event: Any) -> None:
        self.point_yx = self.locate(event.position)
        now = time.monotonic()
        if not self.enabled or now - self._last_look_s < _MIN_INTERVAL_S or self.point_yx is None:
            return
        self._last_look_s = now
        self._set_index(self.look(self.point_yx))

    def _on_wheel(self, viewer: Any, event: Any) -> None:
        if self.enabled and "Shift" in event.modifiers:
            turn = float(event.delta[1]) or float(event.delta[0])
            self.walk(1 if turn > 0 else -1)
            event.handled = True

    def _on_press(self, viewer: Any, event: Any) -> Iterator[None]:
        if not self._is_free(event):
            return
        event.handled = True  # or the camera would pan
        pressed = self.session.candidates
        swept = self._collect({}, event, faint=True)
        yield
        while event.type == "mouse_move":
            event.handled = True
            swept = self._sweep(swept, event)
            yield
        now = self.session.candidates
        if now is None or pressed is None or not (now is pressed or now.begins_with(pressed)):
            return  # another plane is shown, or it was segmented anew: numbers are those of other candidates
        if "Shift" in event.modifiers:
            for index in swept:
                self.session.toggle_by_hand(index)
        elif fresh := [index for index in swept if index not in self.session.committed]:
            self.commit(fresh)
        if not swept:
            self._explain()

    def _explain(self) -> None:
        """Say why nothing is done where something was found."""
        candidates, point_yx = self.session.candidates, self.point_yx
        if candidates is None or point_yx is None or self.index >= 0 or not np.isfinite(point_yx).all():
            return
        if len(nesting(candidates.masks, point_yx)):
            self.session.viewer.status = _HIDDEN

    def _is_free(self, event: Any) -> bool:
        """Tell whether a press is meant for this tool and not for painting, drawing or moving."""
        if not self.enabled or event.button != 1 or self.session.candidates is None:
            return False
        active = self.session.viewer.layers.selection.active
        return active is None or str(getattr(active, "mode", "")) in _FREE_MODES

    def _sweep(self, swept: dict[int, None], event: Any) -> dict[int, None]:
        """Collect what lies between where the mouse was and where it is: when it is fast, it is seen here and there."""
        before, after = self.point_yx, self.locate(event.position)
        if before is not None and after is not None and np.isfinite(after - before).all():
            pieces = int(np.clip(np.abs(after - before).max(), 1, _MAX_PIECES))
            way = (self.look(point, faint=False) for point in np.linspace(before, after, pieces, endpoint=False)[1:])
            swept = {**swept, **{index: None for index in way if index >= 0}}
        return self._collect(swept, event, faint=False)

    def _collect(self, swept: dict[int, None], event: Any, *, faint: bool) -> dict[int, None]:
        self.point_yx = self.locate(event.position)
        if self.point_yx is None:
            return swept
        index = self.look(self.point_yx, faint=faint)
        self._set_index(index)
        return swept if index < 0 else {**swept, index: None}
