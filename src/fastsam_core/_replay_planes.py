"""The planes of a journal: how the session read them, so that the same is read of other files."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, Self, get_args

from fastsam_core._image_planes import Projection
from fastsam_core.journal import LABEL_STEPS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fastsam_core._parts import Region

__all__ = ["Look", "PlaneKey", "View", "key_of"]

PlaneKey = tuple[tuple[int, int], tuple[int | None, ...]]
"""The axes that are rows and columns, and the place along every other axis (None for a channel axis)."""

_STACK_LETTERS = "TZPMHABDEFGJKLNO"
_MAX_CHANNELS = 6
_PROJECTIONS = get_args(Projection)


def key_of(plane: Mapping[str, Any] | None) -> PlaneKey | None:
    """Return the plane of a step; None in a step that names none."""
    if plane is None:
        return None
    rows, columns = plane["axes_yx"]
    return (rows, columns), tuple(plane["index"])


@dataclass(frozen=True, slots=True)
class Look:
    """One time that a plane, or a part of it, was segmented.

    Attributes
    ----------
    step : int
        Where it stands among the steps; label steps behind it see what was found.
    region : Region or None
        The part, whose masks were added to those that were there; None for the whole plane, whose masks replaced them.
    tiled : bool
        In tiles.
    """

    step: int = -1
    region: Region | None = None
    tiled: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """How a session looked at its image.

    Attributes
    ----------
    shape : tuple of int
        Of the image, without the colour axis of RGB; empty if the journal does not say.
    rgb : bool
        The last axis is colour.
    contrast : tuple of float or None
        The values that were black and white; None where there were several channels, or colour.
    stack_axis : int or None
        The axis along which a whole stack was segmented and linked.
    tiled : bool
        Planes were segmented in tiles.
    projection : {"sum", "mean", "max", "min"} or None
        How planes around each were seen in one with it.
    depth : mapping of int to pair of int
        By axis, the first of these planes and the one behind the last, counted from the plane.
    """

    shape: tuple[int, ...] = ()
    rgb: bool = False
    contrast: tuple[float, float] | None = None
    stack_axis: int | None = None
    tiled: bool = False
    projection: Projection | None = None
    depth: Mapping[int, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, header: Mapping[str, Any], steps: Iterable[Mapping[str, Any]]) -> Self:
        """Read it from a journal."""
        image = header.get("image", {})
        segmented = [step for step in steps if step["do"] == "segment"]
        contrasts = [step["contrast"] for step in segmented if step.get("contrast")]
        axes = [step["stack_axis"] for step in segmented if step.get("stack_axis") is not None]
        thick = next((step for step in segmented if step.get("depth") and step.get("projection") in _PROJECTIONS), {})
        return cls(
            shape=tuple(image.get("shape") or ()),
            rgb=bool(image.get("rgb")),
            contrast=(float(contrasts[0][0]), float(contrasts[0][1])) if contrasts else None,
            stack_axis=axes[-1] if axes else None,
            tiled=any(step.get("tiled") for step in segmented),
            projection=thick.get("projection"),
            depth={axis: (first, behind) for axis, first, behind in thick.get("depth", ())},
        )

    def planes(self, steps: Iterable[Mapping[str, Any]]) -> list[PlaneKey | None]:
        """Return the planes that label steps need, in the order of the stack."""
        needed: dict[PlaneKey | None, None] = {}
        for step in steps:
            if step["do"] in LABEL_STEPS:
                key = key_of(step.get("plane"))
                along = self.along_stack(key, step) if step.get("parts") else [key]
                needed |= dict.fromkeys(along)
        return list(needed)

    def looks(self, key: PlaneKey | None, steps: Sequence[Mapping[str, Any]]) -> list[Look]:
        """Return how a plane was segmented, without what was found again before anything was done with it."""
        looks: list[Look] = []
        used = 0
        for number, step in enumerate(steps):
            if step["do"] in LABEL_STEPS:
                used = len(looks)
            elif step["do"] == "segment" and self._covers(step, key):
                region = step.get("region")
                if region is None:
                    del looks[used:]
                looks.append(Look(number, None if region is None else tuple(region), bool(step.get("tiled"))))
        return looks[:used] or [Look(tiled=self.tiled)]

    def _covers(self, step: Mapping[str, Any], key: PlaneKey | None) -> bool:
        """Tell whether a step segmented a plane, alone or as one of a stack."""
        first, axis = key_of(step.get("plane")), step.get("stack_axis")
        if first is None or key is None or axis is None:
            return first == key or first is None or key is None
        return first[0] == key[0] and first[1][:axis] == key[1][:axis] and first[1][axis + 1 :] == key[1][axis + 1 :]

    def plane_hw(self, key: PlaneKey | None) -> tuple[int, int] | None:
        """Return the size of the session's plane, None if the journal does not say."""
        if len(self.shape) < 2:
            return None
        rows, columns = (0, 1) if key is None else key[0]
        return self.shape[rows], self.shape[columns]

    def along_stack(self, key: PlaneKey | None, step: Mapping[str, Any]) -> list[PlaneKey | None]:
        """Return the planes of the stack that a step wrote whole objects of, through a plane, up to the last written.

        What is linked in a plane depends on those before it, written or not.
        """
        axis = step.get("stack_axis", self.stack_axis)
        if key is None or axis is None:
            return [key]
        axes_yx, index = key
        count = max(step.get("places") or (self.shape[axis] - 1,)) + 1
        return [(axes_yx, (*index[:axis], place, *index[axis + 1 :])) for place in range(count)]

    def options(self, key: PlaneKey | None) -> dict[str, Any]:
        """Return the keywords of `read_image` and `read_values` that read a plane of a file of the same kind."""
        options: dict[str, Any] = {}
        if key is not None and len(self.shape) > 2:
            axes_yx, index = key
            letters = iter(_STACK_LETTERS)
            names = ["YX"[axes_yx.index(a)] if a in axes_yx else "C" if i is None else "" for a, i in enumerate(index)]
            names = [name or next(letters) for name in names]
            options["axes"] = "".join(names) + "S" * self.rgb
            options["plane"] = {n: i for n, i in zip(names, index, strict=True) if i is not None}
            if "C" in names:
                options["channels"] = list(range(min(self.shape[names.index("C")], _MAX_CHANNELS)))
        return options

    def seen_in(self, key: PlaneKey | None) -> list[PlaneKey | None]:
        """Return the planes that were seen in one with a plane, itself included."""
        if key is None or self.projection is None:
            return [key]
        axes_yx, index = key
        places = [
            (place,) if place is None or axis not in self.depth else range(*self._ends(axis, place))
            for axis, place in enumerate(index)
        ]
        return [(axes_yx, one) for one in product(*places)]

    def _ends(self, axis: int, place: int) -> tuple[int, int]:
        first, behind = self.depth[axis]
        low = max(place + first, 0)
        return low, min(max(place + behind, low + 1), self.shape[axis])

    def label_index(self, key: PlaneKey | None) -> tuple[int | slice, ...]:
        """Return where a plane lies in the label array, which has length one along a channel axis."""
        if key is None or len(self.shape) <= 2:
            return (slice(None), slice(None))
        axes_yx, index = key
        return tuple(slice(None) if a in axes_yx else i or 0 for a, i in enumerate(index))

    def label_shape(self, sizes: Mapping[PlaneKey | None, tuple[int, int]]) -> tuple[int, ...]:
        """Return the shape of the label array for planes of these sizes."""
        shape = list(self.shape)
        for key, image_hw in sizes.items():
            if key is None or len(shape) <= 2:
                return image_hw
            axes_yx, index = key
            for axis, place in enumerate(index):
                if axis in axes_yx:
                    shape[axis] = image_hw[axes_yx.index(axis)]
                elif place is None:
                    shape[axis] = 1
        return tuple(shape)
