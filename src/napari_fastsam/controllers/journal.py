"""Keeps the journal of the image, and gives the labels of an interrupted session back."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field, fields
from itertools import chain, count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
from psygnal import Signal

from fastsam_core import label_edits
from fastsam_core._defaults import PROMPT_CONF
from fastsam_core.errors import ImageContentError, InvalidParameterError, OutputError
from fastsam_core.journal import Journal, JournalFile, is_written, read_journal
from fastsam_core.masks import Masks
from napari_fastsam._convert import Plane, layer_shape
from napari_fastsam._napari import point_of
from napari_fastsam._notify import describe, notices, warn
from napari_fastsam.controllers.prompts import prompts_of
from napari_fastsam.models.candidates import Marked
from napari_fastsam.models.picks import PickOptions, PromptSet

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping

    from napari_fastsam.controllers.labelling import LabelController
    from napari_fastsam.controllers.prompts import PromptController
    from napari_fastsam.controllers.segmentation import SegmentationController
    from napari_fastsam.controllers.session import Session
    from napari_fastsam.models.inference import Task

__all__ = ["SUFFIX", "JournalController", "journal_path"]

SUFFIX = ".fastsam.jsonl"
_SAMPLED, _SIDE_PX = 4096, 16
_OTHERS = 8
"""So many journals of further viewers and processes are looked at."""
_PROMPTS = ("points_yx", "boxes_xyxy", "regions_yx", "scribbles_yx")


def journal_path(image: Any, layers: Iterable[Any] = ()) -> Path:
    """Return where the journal of an image layer goes.

    Beside the image's file if there is one in a folder that can be written, by name of the layer where others of these
    layers are of the same file, its channels; else in the user's data folder (or the folder that the environment
    variable ``FASTSAM_JOURNALS`` names), by name, shape and some pixels of the layer. Beside an image the name begins
    with a dot: napari opens a folder by opening every file in it that is not hidden.
    """
    folder = os.environ.get("FASTSAM_JOURNALS")
    source = getattr(image.source, "path", None)
    if not folder and source and Path(source).is_file() and os.access(Path(source).parent, os.W_OK):
        shared = sum(hasattr(layer, "rgb") and layer.source.path == source for layer in layers) > 1
        mark = f".{_file_name(image.name, image.name)}" if shared else ""
        return Path(source).with_name(f".{Path(source).name}{mark}{SUFFIX}")
    from platformdirs import user_data_path

    base = Path(folder) if folder else user_data_path("fastsam-plugins", appauthor=False) / "journals"
    identity = f"{source or f'{image.name} {_some_pixels(image)}'} {layer_shape(image)}"
    return base / f"{_file_name(image.name, identity)}{SUFFIX}"


def _some_pixels(image: Any) -> str:
    """Return what tells images of one name and shape apart: a few pixels of all; of lazy ones, of one place."""
    data = image.data[-1] if image.multiscale else image.data
    count = max(int(_SAMPLED ** (1 / max(data.ndim, 1))), 2)
    if type(data) is np.ndarray:
        index = tuple(slice(None, None, max(-(-size // count), 1)) for size in data.shape)
    else:  # in the middle, which napari shows at first, so that it has been read
        axes, middle = image.ndim - 2, [size // 2 for size in data.shape]
        index = (*middle[:axes], *(slice(at, at + _SIDE_PX) for at in middle[axes : axes + 2]))
    try:
        return hashlib.sha256(np.asarray(data[index]).tobytes()).hexdigest()
    except (OSError, ValueError, RuntimeError, KeyError):
        return ""  # it cannot be read


def _former_path(path: Path) -> Path:
    """Return what a journal was called before names began with a dot; that of a hidden image could be another's."""
    return path if path.name.startswith("..") else path.with_name(path.name.removeprefix("."))


def _like(own: Path, former: Path) -> Path:
    """Return the path of a former journal with a dot where the image's own has one."""
    return former if own.name[0] != "." or former.name[0] == "." else former.with_name(f".{former.name}")


def _file_name(name: str, identity: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)[:60] + f"-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def _plane_of(entry: Mapping[str, Any]) -> Plane:
    first, second = entry["plane"]["axes_yx"]
    return Plane((first, second), tuple(entry["plane"]["index"]))


def prompts_by_plane(journal: JournalFile) -> dict[Plane, Mapping[str, Any]]:
    """Return what the journal says of the prompts on each plane that had some in the end."""
    last: dict[Plane, Mapping[str, Any]] = {}
    for entry in journal.entries:
        if entry["do"] == "prompts" and entry.get("plane") is not None:
            last.pop(_plane_of(entry), None)
            last[_plane_of(entry)] = entry
    return {plane: entry for plane, entry in last.items() if any(entry[name] for name in _PROMPTS)}


def _id_of(layer: Any) -> Hashable:
    return None if layer is None else layer.unique_id


def _positions(prompts: PromptSet) -> dict[str, object]:
    """Return prompts as the journal has them."""
    return {
        "points_yx": prompts.points_yx.round(2).tolist(),
        "positive": prompts.positive.tolist(),
        "groups": prompts.groups.tolist(),
        "boxes_xyxy": prompts.boxes_xyxy.round(2).tolist(),
        "regions_yx": [vertices.round(2).tolist() for vertices in prompts.regions_yx],
        "scribbles_yx": [vertices.round(2).tolist() for vertices in prompts.scribbles_yx],
    }


def _prompt_set(entry: Mapping[str, Any]) -> PromptSet:
    return PromptSet(
        points_yx=np.array(entry["points_yx"], float).reshape(-1, 2),
        positive=np.array(entry["positive"], bool),
        groups=np.array(entry["groups"], np.int64),
        boxes_xyxy=np.array(entry["boxes_xyxy"], float).reshape(-1, 4),
        regions_yx=tuple(np.array(vertices, float) for vertices in entry["regions_yx"]),
        scribbles_yx=tuple(np.array(vertices, float) for vertices in entry["scribbles_yx"]),
    )


_OPEN: WeakSet[JournalController] = WeakSet()
"""Those of all widgets of the process: two viewers may show one image."""


@dataclass(slots=True)
class _Record:
    """The journal of one image, and what it says so far; it goes on when the image is chosen again."""

    journal: Journal | None = None
    failed: bool = False
    last: dict[str, object] = field(default_factory=dict)
    limits: dict[str, list[float | None]] = field(default_factory=dict)
    prompts: dict[Plane, dict[str, object]] = field(default_factory=dict)
    layers: dict[Plane, tuple[Hashable, Hashable]] = field(default_factory=dict)
    """The Points and the Shapes layer that the prompts of a plane came from."""

    def end(self) -> None:
        """End the journal in order."""
        if self.journal is not None and not self.failed:
            try:
                self.journal.append("close")
            except OutputError as error:
                warn(describe(error))
        self.journal, self.last, self.limits, self.prompts, self.layers = None, {}, {}, {}, {}


def _beside(path: Path, mark: str) -> Iterator[Path]:
    """Yield names for journals beside the one of an image."""
    stem = path.name.removesuffix(SUFFIX) + mark
    return (path.with_name(f"{stem}{'' if number == 1 else f'-{number}'}{SUFFIX}") for number in count(1))


def _move_aside(path: Path, mark: str, own: Path) -> Path:
    """Keep a journal beside the image's own one that begins, and those that were kept before; return where."""
    try:
        return path.replace(next(free for free in _beside(_like(own, path), mark) if not free.exists()))
    except OSError as error:
        raise OutputError(
            f"{path} cannot be moved aside", actual=error.strerror or str(error), remedy="remove it by hand"
        ) from error


class JournalController:
    """Writes every step of the session, and offers what an interrupted one left.

    Parameters
    ----------
    session, segmentation, prompts, labels
        What is recorded.
    """

    found = Signal(object)
    """A JournalFile whose session did not end in order, or None if there is none for this image."""

    def __init__(
        self,
        session: Session,
        segmentation: SegmentationController,
        prompts: PromptController,
        labels: LabelController,
    ) -> None:
        self.session, self.prompts, self.labels = session, prompts, labels
        self.interrupted: JournalFile | None = None
        self._record = _Record()
        self._records: dict[tuple[Hashable, int | None, tuple[int, ...]], _Record] = {}
        """By image, channel axis and size: labels have another shape when channels are shown as colours."""
        self._leaving: list[_Record] = []
        """Of images that were removed, as long as it may be that napari is closing."""
        _OPEN.add(self)
        session.viewer.layers.events.removed.connect(self._on_removed)
        session.image_changed.connect(self._on_image)
        session.shown_changed.connect(self._on_filters)
        segmentation.started.connect(self._on_segment)
        labels.written.connect(self._on_written)
        labels.undone.connect(self._on_undone)

    def close(self) -> None:
        """End the journals in order."""
        self.session.viewer.layers.events.removed.disconnect(self._on_removed)
        self.end_removed()
        for record in self._records.values():
            record.end()
        self.abandon()

    def abandon(self) -> None:
        """Let others go on with the journals: nothing more is written, as the window is gone."""
        _OPEN.discard(self)
        for record in (*self._records.values(), *self._leaving):
            record.journal, record.failed = None, True

    @property
    def path(self) -> Path | None:
        """The journal that is written, None as long as there was nothing to write."""
        return None if self._record.journal is None else self._record.journal.path

    # ---- writing ------------------------------------------------------------------------------------------------

    def _on_image(self) -> None:
        image = self.session.image
        shape = () if image is None else layer_shape(image)
        key = (None if image is None else image.unique_id), self.session.channel_axis, shape
        if key not in self._records or self._records[key].failed:
            self._records[key] = _Record()
        self._record = self._records[key]
        self._on_filters()
        found = None
        if image is not None and self._record.journal is None and self.session.settings.journal:
            found = self._find_interrupted(image)
        self.interrupted = found
        self.found.emit(found)

    def _on_removed(self, event: Any) -> None:
        gone = [key for key in self._records if key[0] == event.value.unique_id]
        self._leaving += [self._records.pop(key) for key in gone]

    def end_removed(self) -> None:
        """End the journals of images that the user removed.

        To be called when it is known that napari goes on: it removes all layers when it is closed, and with them labels
        that may be wanted again.
        """
        while self._leaving:
            self._leaving.pop().end()

    def _holder(self, path: Path) -> _Record | None:
        """Return what this session writes into a file, or that of another widget."""
        records = (record for one in (self, *_OPEN) for record in (*one._records.values(), *one._leaving))
        return next((one for one in records if one.journal is not None and one.journal.path == path), None)

    def _path_of(self, image: Any) -> Path:
        """Return where the journal of an image goes: another place than those that other processes write."""
        own = journal_path(image, self.session.viewer.layers)
        paths = chain([own], _beside(own, ".other"))
        return next(path for path in paths if self._holder(path) is not None or not is_written(path))

    def _find_interrupted(self, image: Any) -> JournalFile | None:
        """Read the journal of an image, or one beside it that another viewer or process began.

        Or the one that channels of a file shared once, if it is this channel's.
        """
        own, shared = self._path_of(image), journal_path(image)
        others = islice(_beside(journal_path(image, self.session.viewer.layers), ".other"), _OTHERS)
        found = next((one for path in (own, *others) if (one := self._read_interrupted(path)) is not None), None)
        if found is not None or own == shared or own.exists() or _former_path(own).exists():
            return found
        found = self._read_interrupted(shared)
        facts = {} if found is None else found.header.get("image", {})
        same = (facts.get("name"), facts.get("shape")) == (image.name, list(layer_shape(image)))
        return found if same else None

    def _read_interrupted(self, path: Path) -> JournalFile | None:
        """Read a journal, under its former name if there is none of its name, if its session did not end in order."""
        path = path if path.exists() else _former_path(path)
        if not path.exists() or self._holder(path) is not None or is_written(path):
            return None
        try:
            journal = read_journal(path)
        except OSError:
            return None  # not ours, or damaged: it is moved aside when a new one begins
        return journal if (journal.label_steps or prompts_by_plane(journal)) and not journal.complete else None

    def _write(self, do: str, **facts: object) -> None:
        if self.session.image is not None:
            self._append(self._record, do, facts)

    def _append(self, record: _Record, do: str, *steps: Mapping[str, object]) -> None:
        if not self.session.settings.journal or record.failed:
            return
        try:
            if record.journal is None:
                record.journal = self._begin(self.session.image)
            record.journal.extend(do, steps)
        except OutputError as error:
            record.failed = True
            warn(describe(error))

    def _begin(self, image: Any) -> Journal:
        path = self._path_of(image)
        if (other := self._holder(path)) is not None and other.journal is not None:
            if any(other is record for record in (*self._records.values(), *self._leaving)):
                other.end()
            else:
                other.journal.path = _move_aside(path, ".other", path)
        if self.interrupted is not None:  # the user went on without answering: keep the old one, too
            _move_aside(self.interrupted.path, ".interrupted", path)
            self.interrupted = None
            self.found.emit(None)
        for old in (path, _former_path(path)):
            if old.exists():
                _move_aside(old, ".old", path)
        source = getattr(image.source, "path", None)
        facts = {
            "name": image.name,
            "path": str(source) if source else None,
            "shape": list(layer_shape(image)),
            "axes": list(self.session.axis_names(image)),
            "rgb": bool(image.rgb),
        }
        return Journal(path, {"image": facts})

    def _plane(self, plane: Plane | None) -> dict[str, object] | None:
        return None if plane is None else {"axes_yx": list(plane.axes_yx), "index": list(plane.index)}

    def _on_segment(self, task: Task) -> None:
        self._write(
            "segment",
            plane=self._plane(task.planes[0]),
            planes=len(task.planes),
            region=task.region,
            tiled=task.tiled,
            stack_axis=task.stack_axis,
            contrast=task.source.contrast,
            projection=task.source.projections[0],
            depth=[[axis, *ends] for axis, ends in task.source.depth.items()],
            model=task.model,
            conf=task.conf,
            faint_conf=PROMPT_CONF,
            max_det=task.max_det,
        )

    def _on_filters(self) -> None:
        limits = {
            name: [end if np.isfinite(end) else None for end in pair]
            for name, pair in self.session.filters.limits.items()
        }
        if limits != self._record.limits:
            self._record.limits = self._record.last["filter"] = limits

    def _on_written(self, name: str, masks: Masks, facts: dict[str, object]) -> None:
        if "filter" in self._record.last:
            self._write("filter", limits=self._record.last.pop("filter"))
        plane = facts.pop("plane", self.session.plane)
        encoded = facts.pop("rle") if "rle" in facts else masks.to_rle()
        parts = facts.pop("parts", None)
        if isinstance(parts, list):
            facts["parts"] = [
                {"plane": self._plane(there), "masks": rle, "labels": list(labels)} for there, rle, labels in parts
            ]
        self._write(
            name,
            plane=self._plane(plane if isinstance(plane, Plane) else None),
            image_hw=list(masks.image_hw),
            masks=encoded,
            **facts,
        )

    def _on_undone(self, what: str, image_id: Hashable, target: str) -> None:
        for key, record in self._records.items():
            if key[0] == image_id and record.journal is not None:
                self._append(record, what, {"target": target})

    def save_prompts(self) -> None:
        """Record the prompts that are there now, as far as they are others than last time, on other planes, too."""
        session = self.session
        options = session.options
        answered = {
            "level": options.level,
            "each_point": options.each_point,
            "everything_inside": options.everything_inside,
        }
        for key, record in self._records.items():
            image = next((layer for layer in session.viewer.layers if layer.unique_id == key[0]), None)
            if image is not None and record.journal is not None and layer_shape(image) == key[2]:
                changed = self._changed_elsewhere(record, image)
                record.prompts |= {plane: facts | answered for plane, facts in changed.items()}
                self._append_prompts(record, changed)
        facts = _positions(session.prompts) | answered
        plane, record = session.plane, self._record
        if plane is not None and (len(session.prompts) or plane in record.prompts):
            record.layers[plane] = (_id_of(self.prompts.points), _id_of(self.prompts.shapes))
            if facts != record.prompts.get(plane):
                record.prompts[plane] = facts
                self._append_prompts(record, [plane])

    def _append_prompts(self, record: _Record, planes: Iterable[Plane]) -> None:
        steps = [{"plane": self._plane(plane), **record.prompts[plane]} for plane in planes]
        if steps and self.session.image is not None:
            self._append(record, "prompts", *steps)

    def _changed_elsewhere(self, record: _Record, image: Any) -> dict[Plane, dict[str, object]]:
        """Return the prompts of planes that are not shown, where they are others by now: moved, or removed."""
        viewer = self.session.viewer
        by_id = {layer.unique_id: layer for layer in viewer.layers}
        shown = self.session.plane if image.unique_id == self.session.image_id else None
        changed: dict[Plane, dict[str, object]] = {}
        for plane, known in record.prompts.items():
            points, shapes = (by_id.get(layer_id) for layer_id in record.layers[plane])
            if plane == shown or not any(known[name] for name in _PROMPTS):
                continue
            if any(one is not None and one.ndim < image.ndim and len(one.data) for one in (points, shapes)):
                continue  # it lies on all planes: each hears of changes when it is looked at
            facts = _positions(prompts_of(image, plane, point_of(viewer, image), points, shapes))
            if any(facts[name] != known[name] for name in facts):
                changed[plane] = facts
        return changed

    # ---- giving back --------------------------------------------------------------------------------------------

    def dismiss(self) -> None:
        """Leave the interrupted session alone; its journal is kept beside the new one."""
        journal, self.interrupted = self.interrupted, None
        if journal is not None:
            with notices():
                _move_aside(journal.path, ".old", self._path_of(self.session.image))
        self.found.emit(None)

    def restore(self, journal: JournalFile | None = None) -> int:
        """Write the labels of a journal and set its prompts again; return how many steps were done.

        The journal is continued.
        """
        journal = journal or self.interrupted
        if journal is None:
            return 0
        with notices():
            return self._restore(journal)
        return 0

    def _restore(self, journal: JournalFile) -> int:
        image = self.session.image
        shape = tuple(journal.header.get("image", {}).get("shape", ()))
        if image is None or shape != layer_shape(image):
            raise ImageContentError(
                "This journal belongs to another image",
                expected=f"shape {shape}",
                actual="no image" if image is None else f"shape {layer_shape(image)}",
                remedy="open the image it was made with, and choose it under 'Image'",
            )
        self._require_channels(journal, image)
        if self.interrupted is not None and journal.path == self.interrupted.path:
            self._record.journal = Journal(self._renamed(journal.path), {})
            self._record.last["filter"] = self._record.limits  # the journal ends with those of the former session
            self.interrupted = None
            self.found.emit(None)
        steps = journal.label_steps
        left_out = 0
        for target in journal.targets:
            self.labels.continue_target(target)
            for entry in steps:
                if entry.get("target") == target:
                    left_out += not self._do_again(entry)
        if left_out:
            warn(
                f"{left_out} of {len(steps)} steps were left out: they merge, split or delete labels that no journal "
                "has, like those that were painted. Remedy: do the same again by hand."
            )
        return len(steps) - left_out + self._restore_prompts(journal)

    def _do_again(self, entry: dict[str, Any]) -> bool:
        """Write the labels of a step; tell whether that can be done."""
        try:
            planned = [self._edit_of(entry, part) for part in entry.get("parts") or (entry,)]
        except InvalidParameterError:
            return False
        marks = tuple(marked for *_, marked in planned if marked is not None)
        self.labels.write_edits([(plane, edit) for plane, edit, _ in planned], marks)
        return True

    def _require_channels(self, journal: JournalFile, image: Any) -> None:
        """Raise if the planes of a journal are not those of the image as its channels are taken now."""
        planes = [_plane_of(part) for step in journal.label_steps for part in step.get("parts") or (step,)]
        for plane in (*planes, *prompts_by_plane(journal)):
            free = (axis for axis, at in enumerate(plane.index) if at is None and axis not in plane.axes_yx)
            axis = next(free, None)
            if axis != self.session.channel_axis:
                wanted = "'As shown'" if axis is None else f"the channels along {self.session.axis_names(image)[axis]}"
                raise ImageContentError(
                    "This journal was written with the channels of the image taken in another way",
                    remedy=f"choose {wanted} under 'Channels', then restore it",
                )

    def _renamed(self, path: Path) -> Path:
        """Give a journal that goes on the name that journals have now."""
        new = _like(self._path_of(self.session.image), path)
        if new != path and not new.exists():
            with suppress(OSError):
                return path.replace(new)
        return path

    def _restore_prompts(self, journal: JournalFile) -> int:
        """Put the prompts that were there last into layers of their own; return on how many planes there were some."""
        by_plane = prompts_by_plane(journal)
        if by_plane:
            facts = list(by_plane.values())[-1]
            options = {f.name: facts[f.name] for f in fields(PickOptions) if f.name in facts}
            self.session.set_options(PickOptions(**options))
            self.prompts.restore({plane: _prompt_set(facts) for plane, facts in by_plane.items()})
        return len(by_plane)

    def _edit_of(self, entry: dict[str, Any], part: dict[str, Any]) -> tuple[Plane, label_edits.Edit, Marked | None]:
        """Plan what a step, or its part on one plane, writes, and return what it commits, if anything."""
        plane = _plane_of(part)
        marked: Marked | None = None
        masks = Masks.from_coco(part["masks"], tuple(entry["image_hw"]))
        labels = self.labels.labels_of(plane)
        if entry["do"] == "commit":
            ids = [label for label in part["labels"] if label]
            chosen = masks[[k for k, label in enumerate(part["labels"]) if label]]
            overlap: label_edits.Overlap = "steal" if entry["overlap"] == "steal" else "fill"
            edit = label_edits.plan_commit(labels, chosen, ids, overlap)
            marked = Marked(plane, dict(enumerate(ids)), chosen, object())
        elif entry["do"] == "split":
            edit = label_edits.plan_split(labels, masks, entry["labels"][1])
        else:
            edit = (label_edits.plan_merge if entry["do"] == "merge" else label_edits.plan_delete)(labels, masks)
        return plane, edit, marked
