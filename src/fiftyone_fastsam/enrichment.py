"""`enrich`: masks onto a whole dataset; one generator underneath everything that FiftyOne users touch."""

from __future__ import annotations

import copy
import os
import time
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from fastsam_core.errors import FastSAMError, ImageReadError, ImageTooLargeError, InvalidPromptError
from fastsam_core.large_images import open_plane
from fastsam_core.model import FastSAM
from fastsam_core.pipeline import iter_segment
from fastsam_core.tiling import step_in_tiles
from fiftyone_fastsam._answers import answer, semantic_map
from fiftyone_fastsam._fiftyone import import_fiftyone, refresh
from fiftyone_fastsam._items import Item, image_items, read_item, video_items
from fiftyone_fastsam._lock import alone
from fiftyone_fastsam._oversize import fitted
from fiftyone_fastsam._pending import sample_count, unfinished
from fiftyone_fastsam._provenance import record_results, record_start, run_key
from fiftyone_fastsam._queue import WriteQueue, reason_of
from fiftyone_fastsam._retry import with_retries
from fiftyone_fastsam._target import Target, declare_schema, open_target, resolve_prompts
from fiftyone_fastsam._texts import Words, check_embeddings
from fiftyone_fastsam._writers import Result, choose_writer
from fiftyone_fastsam.options import EnrichOptions, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from fastsam_core.pipeline import Step

__all__ = ["EnrichReport", "EnrichStep", "Enrichment", "enrich", "iter_enrich"]


@dataclass(frozen=True, slots=True)
class EnrichStep:
    """One image that is finished, in the database.

    Parameters
    ----------
    done : int
        Images finished so far in this run, this one included.
    total : int or None
        Images to do in this run; None for videos, whose frames are not counted beforehand.
    sample_id : str
    filepath : str
        Empty if the sample was deleted before it was looked up.
    frame_number : int or None
        From 1, in a video.
    masks : int
        Number of masks written.
    error : str or None
        Why there is no label.
    at_limit : bool
        Whether as many masks were found as are allowed (``max_det``), so that there may be more.
    gone : bool
        The sample was deleted from the dataset meanwhile: there is no label, and no error. Of a video, the last step.
    """

    done: int
    total: int | None
    sample_id: str
    filepath: str
    frame_number: int | None
    masks: int
    error: str | None
    at_limit: bool = False
    gone: bool = False

    @property
    def counted(self) -> dict[str, int]:
        """What the step adds to the counts of a run: one "done", "failed" or "gone", and "masks"."""
        if self.gone:
            return {"gone": 1}
        return {"done": 1, "masks": self.masks} if self.error is None else {"failed": 1}


@dataclass(frozen=True, slots=True)
class EnrichReport:
    """Outcome of a run.

    Parameters
    ----------
    label_field : str
        Full name, with ``frames.`` for videos.
    digest : str
        Stands for the configuration.
    done, failed : int
        Images with labels, and with a reason instead, in this run.
    skipped : int
        Samples (whole videos) that needed nothing.
    masks : int
        Masks written.
    seconds : float
    gone : int
        Samples (whole videos) that were deleted from the dataset during the run.
    """

    label_field: str
    digest: str
    done: int
    failed: int
    skipped: int
    masks: int
    seconds: float
    gone: int = 0


class Enrichment:
    """A checked and prepared run: iterate over it once.

    Parameters
    ----------
    view : fiftyone.Dataset, fiftyone.DatasetView or str
        What to enrich.
    label_field : str
        Where masks go.
    options : EnrichOptions
    model : FastSAM, str or path
        A model, its name or its file.

    Raises
    ------
    InvalidTargetError, LabelFieldError, InvalidPromptError
        Everything that is wrong with the whole, before any work.
    """

    def __init__(
        self,
        view: Any,
        label_field: str,
        options: EnrichOptions,
        model: FastSAM | str | Path,
    ) -> None:
        self.is_part = False
        self.target: Target = open_target(view, label_field)
        with_retries(refresh, self.target.view)  # others may have declared fields meanwhile
        self.options = resolve_prompts(self.target, options)
        self.model = model if isinstance(model, FastSAM) else FastSAM.load(model)
        self.words = Words(self.options) if self.options.needs_encoder else None
        if self.words is not None and self.options.masks_field is not None:
            with_retries(check_embeddings, self.target, self.options, self.words.encoder)
        encoder_id = None if self.words is None else self.words.encoder.encoder_id
        self.described = self.options.described(self.model, encoder_id)
        self.digest = digest_of(self.described)
        if self.options.prompt_ids is not None:  # the dataset keeps their number: all of them may be too many
            self.described["prompt_ids"] = len(self.options.prompt_ids)
        folder = Path(os.path.expanduser(self.options.mask_dir or "."))  # leaves ~name where there is no such user
        self.mask_dir = folder.resolve() / self.target.label_field / self.digest
        with alone(self.target):
            with_retries(declare_schema, self.target, self.options, self.digest)
            self.classes = with_retries(self._classes) if self.options.output == "map" else {}
        self._list_work()

    def part(self, view: Any) -> Self:
        """Return the same for some of the samples; the whole has written down what is done, parts do not."""
        part = copy.copy(self)
        part.is_part = True
        part.target = replace(self.target, view=view)
        part._list_work()
        return part

    def _list_work(self) -> None:
        self.ids = with_retries(unfinished, self.target, self.options, self.digest)
        count = with_retries(sample_count, self.target.view)
        self.skipped = max(count - len(self.ids), 0)  # some may be deleted between the two
        self.gone: set[Any] = set()
        self.total = None if self.target.is_video else len(self.ids)
        self.share = 0.0
        """How much of the samples, and within videos of their frames, is done: 0 to 1."""

    def _classes(self) -> dict[str, int]:
        """Give each class of the prompts a value, and tell FiftyOne; those of the dataset and of earlier runs stay."""
        fo, target, options = import_fiftyone(), self.target, self.options
        if options.texts:
            return self._valued(options.texts)
        if options.field is None:
            return {}
        path = next(
            path
            for part in ("detections.label", "keypoints.label", "label")
            if target.dataset.get_field(path := f"{target.prefix}{options.field}.{part}") is not None
        )
        views = [target.everything, *([] if target.view is target.dataset else [target.view])]  # it may rename some
        labels = {label or "" for view in views for label in view.distinct(path)}
        counts = [fo.Count(path.removesuffix(".label")), fo.Count(path)]
        if any(objects > named for objects, named in (view.aggregate(counts) for view in views)):  # some have none
            labels.add("")
        return self._valued(sorted(labels, key=lambda label: (not label, label)))

    def _valued(self, labels: Iterable[str]) -> dict[str, int]:
        dataset, target = self.target.dataset, self.target
        told = dataset.mask_targets.get(target.path) or dataset.default_mask_targets
        known = {label: int(value) for value, label in told.items() if str(value).isdigit()}  # defaults may be colours
        for label in labels:
            known.setdefault(label, max(known.values(), default=0) + 1)
        dataset.mask_targets = {**dataset.mask_targets, target.path: {value: label for label, value in known.items()}}
        return known

    def __iter__(self) -> Generator[EnrichStep, None, None]:
        """Do the work; a step is yielded when its sample is in the database."""
        target, options = self.target, self.options
        told = self.is_part or options.existing == "skip" or target.dataset.has_run(run_key(target))
        if not self.ids and told:  # our labels in a field that was renamed or merged have no run yet
            return
        started = time.monotonic()
        if not self.is_part:
            with alone(target):
                with_retries(record_start, target, self.described, self.digest)
        queue = WriteQueue(choose_writer(options, target, self.digest), skip_failures=options.skip_failures)
        counts = Counter(done=0, failed=0, gone=0, masks=0)
        before = {id_: number for number, id_ in enumerate(self.ids)}

        def report(results: Iterable[Result]) -> Iterator[EnrichStep]:
            for result in results:
                if result.gone and result.item.sample_id in self.gone:
                    continue  # another frame of the same video
                if result.gone:
                    self.gone.add(result.item.sample_id)
                step = _step(result, counts["done"] + counts["failed"] + counts["gone"] + 1, self.total)
                counts.update(step.counted)
                self.share = (before[step.sample_id] + result.item.share) / len(before)
                yield step

        try:
            for result in self._results():
                queue.put(result)
                yield from report(queue.finished())
            yield from report(queue.finished(all_of_them=True))
            if not target.is_video:  # what the view does not show any more was left out
                self.skipped += len(self.ids) - counts["done"] - counts["failed"] - counts["gone"]
        finally:
            queue.close()
        if not self.is_part:
            seconds = round(time.monotonic() - started, 1)
            with alone(target):
                with_retries(record_results, target, {**counts, "skipped": self.skipped, "seconds": seconds})

    def _results(self) -> Iterator[Callable[[], Result]]:
        """Yield what makes the result of each item, when its masks are there."""
        target, options = self.target, self.options
        if options.masks_field is not None:
            for item in image_items(target, options, self.ids):
                yield partial(self._made, item, partial(self._chosen, item))
            return
        segmented = iter_segment(
            self._items(),
            self.model,
            prefetch=options.prefetch,
            batch_size=options.batch_size,
            reader=partial(read_item, max_pixels=options.max_pixels),
            **options.search(),
        )
        for step in segmented:
            large = options.tile_px is not None and isinstance(step.error, ImageTooLargeError)
            if large:
                step = self._in_tiles(step)
            yield partial(self._made, _item_of(step), partial(self._answered, step, large=large))

    def _in_tiles(self, step: Step) -> Step:
        """Segment what is too large to be read as a whole, one tile of it in memory at a time."""
        options = self.options
        if options.output == "map":
            error = ImageTooLargeError(
                "Maps need the whole image, which is too large to be read",
                expected=f"at most {options.max_pixels} pixels",
                remedy="raise max_pixels if there is memory for it, or ask for instances",
            )
            return replace(step, error=error)
        return step_in_tiles(
            step,
            _item_of(step).filepath,
            self.model,
            prefetch=options.prefetch,
            batch_size=options.batch_size,
            max_pixels=options.max_pixels,
            **options.search(),
        )

    def _items(self) -> Iterator[Item]:
        """Yield the items to segment; those without prompts are marked, and get an empty label."""
        target, options = self.target, self.options
        items = (
            video_items(target, options, self.ids, self.digest, self.gone)
            if target.is_video
            else image_items(target, options, self.ids)
        )
        begun: set[Any] = set()
        for item in items:
            begun.add(item.sample_id)
            item.unasked = options.field is not None and not item.prompts and options.output != "map"
            yield item
        if target.is_video:
            self.skipped = len(self.ids) - len(begun)

    def _made(self, item: Item, make: Callable[[], Result]) -> Result:
        """Make a result that fits into its document, or one with the reason why there is none."""
        if item.gone:
            return Result(item, gone=True)
        try:
            return fitted(make(), self.options, self.mask_dir)
        except FastSAMError as problem:
            if not self.options.skip_failures and with_retries(self.target.still_there, {item.sample_id}):
                raise
            return Result(item, reason=reason_of(problem))

    def _answered(self, step: Step, *, large: bool = False) -> Result:
        item = _item_of(step)
        if item.unasked and item.error is None:
            return Result(item)
        if step.error is not None or step.masks is None or step.image is None:
            raise step.error or ImageReadError("The image cannot be read")
        if self.words is not None and large:  # the step's image is reduced
            with open_plane(item.filepath, max_pixels=self.options.max_pixels) as plane:
                instances = self.words.instances(step.masks, plane.rgb8)
        elif self.words is not None:
            instances = self.words.instances(step.masks, step.image.rgb8)
        else:
            instances = answer(step.masks, item.prompts or (), self.options)
        drawn = None
        if self.options.output == "map":
            drawn = semantic_map(step.masks, instances, self.options, self.classes)
        everything = step.masks if self.options.conf is not None else step.masks.filter(min_score=self.model.info.conf)
        return Result(item, instances, map=drawn, at_limit=everything.at_limit)

    def _chosen(self, item: Item) -> Result:
        if item.error is not None or self.words is None:
            raise item.error or InvalidPromptError("No words are given")
        return Result(item, self.words.chosen(item.prompts or ()))


def enrich(
    view: Any,
    label_field: str,
    *,
    model: FastSAM | str | Path = "builtin",
    progress: Callable[[EnrichStep], object] | None = None,
    **options: Any,
) -> EnrichReport:
    """Write masks onto the samples of a dataset.

    Parameters
    ----------
    view : fiftyone.Dataset, fiftyone.DatasetView or str
        What to enrich: images, or videos frame by frame. A grouped dataset must be flattened first.
    label_field : str
        Where masks go; made if it is missing.
    model : FastSAM, str or path
        A model, its name or its file.
    progress : callable, optional
        Called with each :class:`EnrichStep`.
    **options
        Of :class:`~fiftyone_fastsam.EnrichOptions`: prompts, thresholds, what to do with existing labels …

    Returns
    -------
    EnrichReport
        Samples that failed have the reason in the field ``<label_field>_error``; see also the saved view
        ``fastsam: failed``.

    Raises
    ------
    InvalidTargetError, LabelFieldError, InvalidPromptError, InvalidParameterError
        If something is wrong with the whole; nothing was written then.
    TargetChangedError
        If the dataset was deleted, or the field deleted or renamed, meanwhile.
    DatabaseUnavailableError, DatabaseWriteError
        If the database went away for long or refuses; call again to go on.

    Examples
    --------
    >>> enrich(dataset, "masks")  # doctest: +SKIP
    >>> enrich(dataset, "objects", box_prompt_field="ground_truth", min_iou=0.3)  # doctest: +SKIP
    """
    run = Enrichment(view, label_field, EnrichOptions(**options), model)
    started = time.monotonic()
    counts = Counter[str]()
    for step in run:
        counts.update(step.counted)
        if progress is not None:
            progress(step)
    seconds = time.monotonic() - started
    return EnrichReport(
        run.target.path,
        run.digest,
        counts["done"],
        counts["failed"],
        run.skipped,
        counts["masks"],
        seconds,
        counts["gone"],
    )


def iter_enrich(
    view: Any, label_field: str, *, model: FastSAM | str | Path = "builtin", **options: Any
) -> Iterator[EnrichStep]:
    """Do the same as :func:`enrich`, one step at a time; stopping keeps what is done.

    Checks are made by the call itself, before the first step.
    """
    return iter(Enrichment(view, label_field, EnrichOptions(**options), model))


def _item_of(step: Step) -> Item:
    item = step.source
    if not isinstance(item, Item):
        raise TypeError(f"expected an Item, not {type(item).__name__}")
    item.pixels = None  # a frame is not needed any more
    return item


def _step(result: Result, done: int, total: int | None) -> EnrichStep:
    item = result.item
    place = str(item.sample_id), item.filepath, item.frame_number
    if result.gone:
        return EnrichStep(done, total, *place, 0, None, gone=True)
    return EnrichStep(done, total, *place, result.mask_count, result.reason, result.at_limit)
