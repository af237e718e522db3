"""The state of the widget in one place: which image, which plane, which candidates are shown, picked, committed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from psygnal import Signal

from fastsam_core.errors import ImageContentError
from napari_fastsam._convert import Plane, axis_names, layer_shape, pixel_area, shown_plane
from napari_fastsam._napari import depth_of, point_of
from napari_fastsam._planes import PlaneSource, blendable
from napari_fastsam._settings import Settings, read_settings
from napari_fastsam.controllers.canvas import contains, is_overlay
from napari_fastsam.models.candidates import CandidatePool, Candidates, Linked
from napari_fastsam.models.filters import Filters
from napari_fastsam.models.marks import Marks
from napari_fastsam.models.picks import Pick, PickOptions, PromptSet, resolve

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from napari.layers import Image, Layer
    from numpy.typing import NDArray

    from fastsam_core.masks import Masks
    from napari_fastsam.models.candidates import Marked
    from napari_fastsam.models.words import Ranking

__all__ = ["How", "Session"]

How = Literal["replace", "add", "grow"]
"""How candidates of a plane that has some already are taken in: "replace" them, and what was committed or picked by
hand stays so where it was found anew; "add" those that are new behind them; "grow": the old ones are still at their
places."""

_NOTHING = np.empty(0, bool)
_PLACING_EVENTS = ("scale", "translate", "rotate", "shear", "affine", "units")


class Session:
    """What the controllers share. It changes nothing in the viewer.

    Parameters
    ----------
    viewer : napari Viewer
        Or the proxy of it that plugins get.

    Notes
    -----
    Every signal says that something is different now; the values are read from the session.
    """

    image_changed = Signal()
    """Another image layer, or another way to take its channels, or data of another size."""
    image_resized = Signal()
    """The image layer got data of another size, and is taken as it is shown."""
    axes_renamed = Signal()
    """Axes of the image have other names."""
    plane_leaving = Signal()
    """Another plane or image is about to be looked at; everything is still as it was."""
    plane_changed = Signal()
    """The viewer shows another plane of it (or none)."""
    candidates_changed = Signal()
    """The plane has other candidates."""
    links_changed = Signal()
    """A plane became part of a stack."""
    shown_changed = Signal()
    """Other candidates are shown: the filters let others pass, or fainter ones are picked."""
    selection_changed = Signal()
    """Others are picked by prompts or by hand, or were committed."""
    options_changed = Signal()
    """Prompts are answered in another way."""
    hovered = Signal(int)
    """The candidate under the cursor; -1 for none."""

    def __init__(self, viewer: Any) -> None:
        self.viewer = viewer
        self.settings: Settings = read_settings()
        self.image: Image | None = None
        self.channel_axis: int | None = None
        self.blend = False
        self.plane: Plane | None = None
        self.filters = Filters()
        self.options = PickOptions()
        self.prompts = PromptSet()
        self.ranking: Ranking | None = None
        self.picks: tuple[Pick, ...] = ()
        self._hands: dict[tuple[Hashable, Plane], set[int]] = {}
        """By image and plane: candidates that were picked by hand; they are there again when the plane is."""
        self._pools: dict[Hashable, CandidatePool] = {}
        self._shapes: dict[Hashable, tuple[int, ...]] = {}
        """Of the images when they were last looked at: candidates hold for data of this size."""
        self._links: dict[Hashable, dict[Plane, Linked]] = {}
        self.marks = Marks()
        self._former: dict[tuple[Hashable, Plane], list[tuple[Marked, Hashable]]] = {}
        """By image and plane: what an interrupted session committed, and into which Labels layer it came back."""
        self._told: dict[int, int] = {}
        """What was committed when it was last said that the selection is another one."""
        self._passing = self._reached = self._shown = _NOTHING
        dims = viewer.dims.events
        for event in (dims.point, dims.order, dims.ndisplay):
            event.connect(self.update_plane)
        dims.axis_labels.connect(self._on_axis_labels)
        viewer.layers.events.removed.connect(self._on_removed)
        self.selection_changed.connect(self._on_told)

    def close(self) -> None:
        """Let go of the viewer, the image and the candidates: Qt may keep the widget."""
        dims = self.viewer.dims.events
        for event in (dims.point, dims.order, dims.ndisplay):
            event.disconnect(self.update_plane)
        dims.axis_labels.disconnect(self._on_axis_labels)
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        self.set_image(None)
        self._pools.clear()

    # ---- image and plane ----------------------------------------------------------------------------------------

    def set_image(self, image: Image | None, *, channel_axis: int | None = None, blend: bool = False) -> None:
        """Work on this layer from now on; the candidates of others are kept."""
        self._leave()
        if self.image is not None:
            self.image.events.data.disconnect(self._on_data)
            self.image.events.axis_labels.disconnect(self._on_axis_labels)
            for name in _PLACING_EVENTS:
                getattr(self.image.events, name).disconnect(self.update_plane)
        self.image, self.channel_axis, self.blend = image, channel_axis, blend
        if image is not None:
            image.events.data.connect(self._on_data, position="last")  # napari's sliders know of it by then
            image.events.axis_labels.connect(self._on_axis_labels)  # before 0.9 the sliders are not told
            for name in _PLACING_EVENTS:
                getattr(image.events, name).connect(self.update_plane)
            shape = layer_shape(image)
            if self._shapes.setdefault(image.unique_id, shape) != shape:
                self._forget(image.unique_id)
                self._shapes[image.unique_id] = shape
        self.plane = None
        self.image_changed.emit()
        self.update_plane(force=True)

    def _is_resized(self) -> bool:
        return self.image is not None and self._shapes.get(self.image_id) != layer_shape(self.image)

    def _on_data(self, event: object = None) -> None:
        """Begin anew with an image that got data of another size; of the same size, candidates stay."""
        if self._is_resized():
            self.plane = None  # it is none of the image's any more, and has no prompts to be kept
            self.set_image(self.image)
            self.image_resized.emit()

    def _on_axis_labels(self) -> None:
        if self.image is not None and not self._is_resized():  # then all that shows names is made anew
            self.axes_renamed.emit()

    @property
    def image_id(self) -> Hashable:
        """What tells the image from others, also when it was removed; None if there is none."""
        return None if self.image is None else self.image.unique_id

    def update_plane(self, event: object = None, *, force: bool = False) -> None:
        """Look which plane the viewer shows."""
        if event is not None and self._is_resized():
            return  # napari is still making its sliders fit the data; then :meth:`_on_data` looks
        plane = self._find_plane()
        if plane != self.plane or force or event is None or getattr(event, "type", "") in _PLACING_EVENTS:
            self._leave()
            self.plane = plane
            # whoever hears of the plane may ask for its candidates at once
            self.picks = ()
            self._filter()
            self.plane_changed.emit()
            self._new_candidates()

    def _leave(self) -> None:
        if self.plane is not None and contains(self.viewer, self.image):
            self.plane_leaving.emit()

    def _find_plane(self) -> Plane | None:
        if not contains(self.viewer, self.image):
            return None  # there is none, or it is being removed
        free = () if self.channel_axis is None else (self.channel_axis,)
        dims = self.viewer.dims
        plane = shown_plane(self.image, point_of(self.viewer, self.image), dims.displayed, free)
        return None if plane is None or self.channel_axis in plane.axes_yx else plane

    def source(self) -> PlaneSource:
        """Return where the image's planes come from, as it is shown now.

        Raises
        ------
        ImageContentError
            No image is chosen, or it is empty.
        """
        if self.image is None:
            raise ImageContentError("No image is chosen", remedy="open an image and choose it under 'Image'")
        others = [layer for layer in self.viewer.layers if hasattr(layer, "rgb") and not is_overlay(layer)]
        blended = blendable(self.image, others) if self.blend and not self.image.rgb else ()
        depth = depth_of(self.viewer, self.image)
        return PlaneSource.of(self.image, channel_axis=self.channel_axis, blended=blended, depth=depth)

    def require_plane(self) -> Plane:
        """Return the plane that the viewer shows.

        Raises
        ------
        ImageContentError
            There is none, and why.
        """
        name = self.source().name
        if self.viewer.dims.ndisplay != 2:
            raise ImageContentError(
                "The viewer shows the image in 3-D, where there is no plane to work on",
                remedy="switch to 2-D with the button at the lower left (or Ctrl+Y), choose a plane, try again",
            )
        if self.plane is None and self.channel_axis is not None:
            raise ImageContentError(
                f"The viewer shows no plane of '{name}', or its channels as rows or columns of one",
                remedy="move the sliders or roll the axes until the image appears, or take its channels 'As shown'",
            )
        if self.plane is None:
            raise ImageContentError(
                f"The viewer shows no plane of '{name}'",
                remedy="move the sliders below the canvas until the image appears",
            )
        return self.plane

    def axis_names(self, layer: Layer) -> tuple[str, ...]:
        """Return what the axes of a layer are called in this viewer."""
        return axis_names(layer, self.viewer.dims.axis_labels)

    def pixel_area(self) -> tuple[float, str]:
        """Return the area of a pixel and its unit."""
        if self.image is None or self.plane is None:
            return 1.0, "px²"
        return pixel_area(self.image, self.plane)

    # ---- candidates ---------------------------------------------------------------------------------------------

    @property
    def pool(self) -> CandidatePool:
        """Candidates of the image by plane."""
        return self.pool_of(self.image_id)

    def pool_of(self, image_id: Hashable) -> CandidatePool:
        """Return the candidates of any image of this session."""
        return self._pools.setdefault(image_id, CandidatePool(self.settings.cache_mb * 2**20))

    @property
    def candidates(self) -> Candidates | None:
        """Candidates of the plane; None if it was not segmented."""
        return self.pool.get(self.plane)

    @property
    def links(self) -> dict[Plane, Linked]:
        """How candidates belong together, by plane, after whole stacks were segmented."""
        return self._links.setdefault(self.image_id, {})

    def stack_of(self, plane: Plane | None) -> dict[Plane, Linked]:
        """Return the planes of the stack that a plane was segmented with, in its order; none for a plane alone."""
        here = None if plane is None else self.links.get(plane)
        return {} if here is None else {place: one for place, one in self.links.items() if one.run == here.run}

    def put(
        self,
        image_id: Hashable,
        plane: Plane,
        candidates: Candidates,
        *,
        how: How = "replace",
        links: Linked | None = None,
    ) -> None:
        """Take in candidates of a plane (see :data:`How`)."""
        image = next((layer for layer in self.viewer.layers if layer.unique_id == image_id), None)
        if image is None or not _fits(image, plane, candidates):
            return  # it was removed, or got other data, while this was computed
        pool = self.pool_of(image_id)
        old = pool.get(plane)
        if how == "add" and old is not None:
            candidates = old.extended(candidates)
        elif how != "grow" or old is None:
            by_hand = self._hands.pop((image_id, plane), set())
            known = [] if old is None else [*by_hand | self.marks.indices(image_id, plane)]
            places = {} if old is None else candidates.places_of(old.masks, known)
            self.marks.move(image_id, plane, places)
            self._hands[image_id, plane] = {places[i] for i in by_hand if i in places}
            self._links.setdefault(image_id, {}).pop(plane, None)
        if links is not None:
            self._links.setdefault(image_id, {})[plane] = links
        pool.max_bytes = self.settings.cache_mb * 2**20
        pool.put(plane, candidates, self.plane if image_id == self.image_id else None)
        self._mark_former(image_id, plane)
        if links is not None:
            self.links_changed.emit()
        if image_id == self.image_id and plane == self.plane:
            self._new_candidates()

    def forget(self) -> None:
        """Drop all candidates of the image; labels that were committed stay."""
        if self.image is not None:
            self._forget(self.image.unique_id)
            self._shapes[self.image.unique_id] = layer_shape(self.image)
        self._new_candidates()

    def _forget(self, image_id: Hashable) -> None:
        self._pools.pop(image_id, None)
        self._shapes.pop(image_id, None)
        self._links.pop(image_id, None)
        self.marks.forget(image_id)
        for by_plane in (self._hands, self._former):
            for key in [key for key in by_plane if key[0] == image_id]:
                by_plane.pop(key)

    def _new_candidates(self) -> None:
        self.picks = ()  # whoever hears of it would look for them among other candidates
        self._filter()
        self.candidates_changed.emit()
        self.resolve_prompts()

    def set_filters(self, filters: Filters) -> None:
        """Show the candidates inside these limits."""
        self.filters = filters
        self._filter()
        self.shown_changed.emit()
        self.resolve_prompts()

    def _filter(self) -> None:
        candidates = self.candidates
        self._passing = _NOTHING if candidates is None else self.filters.keep(candidates.columns, candidates.conf)
        self._reached = _NOTHING if candidates is None else self.filters.reach(candidates.columns)
        self._shown = self._passing

    def _show_picks(self) -> None:
        """Show what is picked even if it is fainter than what is shown otherwise."""
        shown = self._passing.copy()
        shown[[*(pick.candidate for pick in self.picks), *self.by_hand]] = True
        if not np.array_equal(shown, self._shown):
            self._shown = shown
            self.shown_changed.emit()

    @property
    def shown(self) -> NDArray[np.bool_]:
        """Which candidates of the plane pass the filters or are picked, bool (N,)."""
        return self._shown

    @property
    def passing(self) -> NDArray[np.bool_]:
        """Which candidates of the plane pass the filters, bool (N,)."""
        return self._passing

    @property
    def reached(self) -> NDArray[np.bool_]:
        """Which candidates of the plane prompts for one object choose among, bool (N,)."""
        return self._reached

    # ---- picked and committed -----------------------------------------------------------------------------------

    @property
    def by_hand(self) -> frozenset[int]:
        """Candidates of the plane that were picked by hand."""
        if self.plane is None or self.candidates is None:
            return frozenset()
        return frozenset(self._hands.get((self.image_id, self.plane), ()))

    def _set_by_hand(self, indices: Iterable[int]) -> None:
        if self.plane is not None:
            self._hands[self.image_id, self.plane] = set(indices)

    def set_prompts(self, prompts: PromptSet) -> None:
        """Answer these prompts from now on."""
        self.prompts = prompts
        self.resolve_prompts()

    def set_options(self, options: PickOptions) -> None:
        """Answer prompts in another way."""
        if options != self.options:
            self.options = options
            self.options_changed.emit()
            self.resolve_prompts()

    def set_ranking(self, ranking: Ranking | None) -> None:
        """Pick what answers words or examples, in addition to what other prompts pick."""
        if ranking is not None or self.ranking is not None:
            self.ranking = ranking
            self.resolve_prompts()

    def resolve_prompts(self) -> None:
        """Answer the prompts anew: a look-up."""
        candidates, passing = self.candidates, self._passing
        picks: tuple[Pick, ...] = ()
        if candidates is not None:
            picks = resolve(candidates.masks, passing, self.prompts, self.options, self.reached)
        if self.ranking is not None and len(self.ranking.scores) == len(passing):
            ranking, known = self.ranking, {pick.candidate for pick in picks}
            found = (int(i) for i in ranking.picked(passing))
            picks = (*picks, *(Pick(i, ranking.cause, float(ranking.scores[i])) for i in found if i not in known))
        self.picks = picks
        self._show_picks()
        self.selection_changed.emit()

    @property
    def selected(self) -> list[int]:
        """Picked candidates that are not committed yet: by prompts in their order, then by hand."""
        done = self.committed
        return [index for index in self._chosen() if index not in done]

    @property
    def picked(self) -> list[int]:
        """Picked candidates, with committed ones that were picked by hand: what edits of labels take."""
        done, by_hand = self.committed, self.by_hand
        return [index for index in self._chosen() if index not in done or index in by_hand]

    def _chosen(self) -> list[int]:
        return [*dict.fromkeys([pick.candidate for pick in self.picks] + sorted(self.by_hand))]

    def causes(self, indices: Iterable[int]) -> list[dict[str, object]]:
        """Return what picked each of these candidates, fit for JSON.

        Words are a cause only if all that they pick is among these; of some of it, the user made a choice by hand.
        """
        indices = list(indices)
        by_prompt = {pick.candidate: dict(pick.cause) for pick in self.picks}
        by_words = {index for index, cause in by_prompt.items() if cause["by"] == "text"}
        if self.ranking is not None and by_words:
            limits = [end if np.isfinite(end) else None for end in (self.ranking.low, self.ranking.high)]
            whole = by_words - set(self.committed) <= set(indices)
            by_prompt |= {i: by_prompt[i] | {"threshold": limits} if whole else {"by": "hand"} for i in by_words}
        candidates = self.candidates
        causes = []
        for index in indices:
            cause = by_prompt.get(index, {"by": "hand"})
            if cause["by"] in ("hand", "text", "similar") and candidates is not None:
                y, x = candidates.columns["y"][index], candidates.columns["x"][index]
                cause["box_xyxy"] = candidates.masks.boxes_xyxy[index].round(1).tolist()
                cause["at_yx"] = [float(y), float(x)]
            causes.append(cause)
        return causes

    def select_by_hand(self, indices: Iterable[int]) -> None:
        """Pick exactly these besides what prompts pick."""
        prompted = {pick.candidate for pick in self.picks} - set(self.committed)
        wanted = {index for index in indices if index not in prompted}
        if wanted != self.by_hand:
            self._set_by_hand(wanted)
            self.selection_changed.emit()

    def toggle_by_hand(self, index: int) -> None:
        """Pick one more candidate, or no longer."""
        self._set_by_hand(self.by_hand ^ {index})
        self._show_picks()
        self.selection_changed.emit()

    @property
    def committed(self) -> dict[int, int]:
        """Candidates of the plane that were committed, and their labels."""
        return {} if self.plane is None else self.committed_on(self.plane)

    def committed_on(self, plane: Plane) -> dict[int, int]:
        """Return which candidates of any plane of the image were committed, and their labels."""
        return self.marks.there(self.image_id, plane, self._masks_of(self.image_id, plane))

    def _masks_of(self, image_id: Hashable, plane: Plane) -> Masks | None:
        candidates = self.pool_of(image_id).get(plane)
        return None if candidates is None else candidates.masks

    def mark_committed(self, image_id: Hashable, plane: Plane, labels: dict[int, int], target_id: Hashable) -> None:
        """Remember which candidates of a plane of an image became which labels of a Labels layer."""
        if image_id in self._pools:  # it is not forgotten
            self.marks.add(image_id, plane, self._masks_of(image_id, plane), labels, target_id)
            self._hands.get((image_id, plane), set()).difference_update(labels)
            self.selection_changed.emit()

    def mark_former(self, image_id: Hashable, mark: Marked, target_id: Hashable) -> None:
        """Remember what an interrupted session committed: candidates that overlap it are committed when they come."""
        self._former.setdefault((image_id, mark.plane), []).append((mark, target_id))
        self._mark_former(image_id, mark.plane)

    def _mark_former(self, image_id: Hashable, plane: Plane) -> None:
        candidates = self.pool_of(image_id).get(plane)
        if candidates is None:
            return
        for mark, target_id in self._former.get((image_id, plane), ()):
            known = self.marks.indices(image_id, plane)
            new = {index: label for index, label in mark.among(candidates).items() if index not in known}
            self.marks.add(image_id, plane, candidates.masks, new, target_id)

    def unmark_committed(self, image_id: Hashable, plane: Plane, indices: Iterable[int], target_id: Hashable) -> None:
        """Make candidates available again (their commit into a Labels layer was undone)."""
        self.marks.remove(image_id, plane, indices, target_id)
        self.selection_changed.emit()

    def look_again(self) -> None:
        """Tell of candidates whose labels were erased, or are there again."""
        if self.committed != self._told:
            self.selection_changed.emit()

    def _on_told(self) -> None:
        self._told = self.committed

    def found_again(self, image_id: Hashable, mark: Marked) -> dict[int, int]:
        """Return which candidates those of a former commit are now, and the labels they became then."""
        pool = self._pools.get(image_id)
        return {} if pool is None else mark.among(pool.get(mark.plane))

    def _on_removed(self, event: Any) -> None:
        """Forget an image; make candidates available again that were committed into a Labels layer."""
        layer_id = event.value.unique_id
        self._forget(layer_id)
        for kept in self._former.values():
            kept[:] = [one for one in kept if one[1] != layer_id]
        if self.marks.forget_layer(layer_id):
            self.selection_changed.emit()


def _fits(image: Any, plane: Plane, candidates: Candidates) -> bool:
    """Tell whether an image has such a plane."""
    shape = layer_shape(image)
    if len(shape) != len(plane.index) or any(place >= shape[axis] for axis, place in plane.fixed.items()):
        return False
    return candidates.masks.image_hw == tuple(shape[axis] for axis in plane.axes_yx)
