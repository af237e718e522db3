"""What a replay finds on the planes of an image: segmented as often and in the same parts as in the session."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from fastsam_core._image_planes import project
from fastsam_core._parts import is_sure, new_among, whole_in
from fastsam_core._replay_planes import Look, PlaneKey, View
from fastsam_core.candidates import inside_limits, measure_columns, reached, shown
from fastsam_core.errors import FastSAMError
from fastsam_core.images import Image, mean_values, read_image, read_values
from fastsam_core.masks import Masks
from fastsam_core.pipeline import iter_segment
from fastsam_core.tiling import segment_tiles

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from fastsam_core.model import FastSAM
    from fastsam_core.text import TextEncoder

__all__ = ["Found", "FoundPlane", "Job", "Words", "find", "limits_of"]

Job = tuple[object, PlaneKey | None]
"""A source, and a plane of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Everything found on a plane up to a step, measured.

    Attributes
    ----------
    masks : Masks
    columns : mapping of str to ndarray
        See `measure_columns`.
    whole : int
        How many of the masks, the first ones, came from the whole plane and not from parts of it that were added.
    conf : float
        Masks of less score are faint: only prompts for one object choose among them.
    """

    masks: Masks
    columns: Mapping[str, NDArray[np.float64]]
    whole: int
    conf: float = 0.0

    @classmethod
    def of(
        cls, masks: Masks, values: NDArray[Any] | None = None, whole: int | None = None, *, conf: float = 0.0
    ) -> Found:
        """Measure masks."""
        return cls(masks, measure_columns(masks, values), len(masks) if whole is None else whole, conf)

    @property
    def linked(self) -> int:
        """How many of the masks, the first ones, are linked with those of other planes."""
        return int(is_sure(self.masks[: self.whole], self.conf).sum())

    def shown(self, limits: Mapping[str, tuple[float, float]]) -> NDArray[np.bool_]:
        """Tell which masks a session with these limits shows, bool (N,)."""
        return shown(self.columns, limits, self.conf)

    def reached(self, limits: Mapping[str, tuple[float, float]]) -> NDArray[np.bool_]:
        """Tell which masks prompts for one object choose among, bool (N,): limits on the confidence do not count."""
        return reached(self.columns, limits)


@dataclass(slots=True, eq=False)
class Words:
    """Scores the masks of a plane for texts.

    Parameters
    ----------
    encoder : TextEncoder
    rgb8 : uint8 ndarray of shape (H, W, 3)
        The plane.
    """

    encoder: TextEncoder
    rgb8: NDArray[np.uint8]
    _vectors: dict[tuple[int, bytes], NDArray[np.float32]] = field(default_factory=dict)

    def pick(self, found: Found, shown: NDArray[np.bool_], cause: Mapping[str, Any]) -> list[int]:
        """Return the shown masks that answer, the best first."""
        from fastsam_core.prompts import Text
        from fastsam_core.text import embed_masks, score_texts

        places, key = np.flatnonzero(shown), (id(found), shown.tobytes())
        if not len(places):
            return []
        if key not in self._vectors:
            self._vectors[key] = embed_masks(self.encoder, self.rgb8, found.masks[places])
        queries = [part.strip() for part in cause["text"].split(",") if part.strip()]
        scores = score_texts(self.encoder, self._vectors[key], Text(queries)).probabilities.max(axis=0)
        fits = np.flatnonzero(inside_limits({"score": scores}, {"score": limits_of(cause["threshold"])}))
        return [int(places[k]) for k in fits[np.argsort(-scores[fits], kind="stable")]]


@dataclass(frozen=True, slots=True, eq=False)
class FoundPlane:
    """What was found on a plane in the course of the steps.

    Attributes
    ----------
    looks : tuple of (int, Found)
        Behind which step what was there.
    words : Words or None
        None where no text is asked for, or its encoder is missing.
    """

    looks: tuple[tuple[int, Found], ...]
    words: Words | None = None

    @property
    def image_hw(self) -> tuple[int, int]:
        """Size of the plane."""
        return self.looks[0][1].masks.image_hw

    def at(self, step: int) -> Found:
        """Return what was there at a step."""
        return next((found for when, found in reversed(self.looks) if when <= step), self.looks[0][1])


def limits_of(pair: Sequence[float | None]) -> tuple[float, float]:
    """Return limits, infinite where JSON has null."""
    low, high = pair
    return (-np.inf if low is None else low, np.inf if high is None else high)


def find(
    jobs: Iterable[Job],
    view: View,
    steps: Sequence[Mapping[str, Any]],
    model: FastSAM,
    options: Mapping[str, Any],
    *,
    by_intensity: bool,
    encoder: TextEncoder | None,
) -> Generator[tuple[Job, FoundPlane | None, FastSAMError | None], None, None]:
    """Segment planes of files as the session did."""

    def read(job: Any) -> Image:
        reading = view.options(job[1])
        if view.contrast is not None and not view.rgb and "channels" not in reading:
            reading["contrast"] = view.contrast
        if view.projection is None:
            return read_image(job[0], **reading)
        reading["axes"] = "CYX" if "channels" in reading else "YXS" if view.rgb else "YX"
        return read_image(_seen(job, view), **reading | {"plane": 0})

    search = _Search.of(options, model)

    def finish(job: Job, looks: Sequence[tuple[int, Masks, int]], image: Image | None) -> FoundPlane:
        values = _values(job, view) if by_intensity else None
        words = Words(encoder, image.rgb8) if encoder is not None and image is not None else None
        found = ((step, Found.of(masks, values, whole, conf=search.shown_from)) for step, masks, whole in looks)
        return FoundPlane(tuple(found), words)

    plans: dict[PlaneKey | None, list[Look]] = {key: view.looks(key, steps) for key in view.planes(steps)}
    if all(len(looks) == 1 and not looks[0].tiled and looks[0].region is None for looks in plans.values()):
        with closing(iter_segment(jobs, model, reader=read, **search.options)) as found:
            for step in found:
                job = cast("Job", step.source)
                if step.masks is None:
                    yield job, None, step.error
                    continue
                try:
                    yield job, finish(job, [(-1, step.masks, len(step.masks))], step.image), None
                except FastSAMError as error:
                    yield job, None, error
        return
    for job in jobs:
        try:
            image = read(job)
            yield job, finish(job, _look(image, plans[job[1]], view.plane_hw(job[1]), model, search), image), None
        except FastSAMError as error:
            yield job, None, error


@dataclass(frozen=True, slots=True)
class _Search:
    """How masks are looked for, down to faint ones, and from which confidence on they are shown."""

    options: Mapping[str, Any]
    shown_from: float

    @classmethod
    def of(cls, recorded: Mapping[str, Any], model: FastSAM) -> Self:
        """Read what a journal says; older ones know of no faint masks."""
        options = {name: value for name, value in recorded.items() if name != "faint_conf"}
        if "faint_conf" not in recorded:
            return cls(options, 0.0)
        shown_from = float(recorded.get("conf", model.info.conf))
        return cls({**options, "conf": min(recorded["faint_conf"], shown_from)}, shown_from)


def _look(
    image: Image, looks: Sequence[Look], plane_hw: tuple[int, int] | None, model: FastSAM, search: _Search
) -> list[tuple[int, Masks, int]]:
    """Segment a plane, or the parts of it if it is as large as the session's, one look after the other."""
    if image.image_hw != plane_hw and any(look.region is not None for look in looks):
        looks = [Look(tiled=any(look.tiled for look in looks))]
    found: list[tuple[int, Masks, int]] = []
    masks, whole = Masks.empty(image.image_hw), 0
    for look in looks:
        if look.region is None:
            masks = (_segment_tiles if look.tiled else _segment)(image, model, search.options)
            whole = len(masks)
        else:
            y0, y1, x0, x1 = look.region
            part = Image(np.ascontiguousarray(image.rgb8[y0:y1, x0:x1]), image.source, image.recipe)
            added = whole_in(_segment(part, model, search.options), look.region, image.image_hw)
            masks = Masks.concatenate([masks, added[new_among(added, masks, search.shown_from)]])
        found.append((look.step, masks, whole))
    return found


def _segment(image: Image, model: FastSAM, options: Mapping[str, Any]) -> Masks:
    with closing(iter_segment([image], model, prefetch=0, **options)) as steps:
        step = next(steps)
    if step.masks is None:
        raise step.error or FastSAMError("A plane gave no masks")
    return step.masks


def _segment_tiles(image: Image, model: FastSAM, options: Mapping[str, Any]) -> Masks:
    masks = Masks.empty(image.image_hw)
    for tile in segment_tiles(image, model, **options):
        masks = tile.result or masks
    return masks


def _seen(job: Job, view: View) -> NDArray[Any]:
    """Return the own values of a plane, of thick slices those of all planes that were seen in one with it."""
    values = [read_values(job[0], **view.options(key)) for key in view.seen_in(job[1])]
    if view.projection is None or len(values) == 1:
        return values[0]
    return project(np.stack(values), view.projection, (0,), colour=view.rgb)


def _values(job: Job, view: View) -> NDArray[Any]:
    """Return the plane's values: the mean of its channels, or of red, green and blue."""
    values = _seen(job, view)
    if values.ndim == 3 and values.shape[-1] in (3, 4) and "C" not in view.options(job[1]).get("axes", ""):
        return mean_values(values)
    return values if values.ndim == 2 else np.asarray(values.mean(axis=0, dtype=np.float32))
