"""What a dataset remembers of an enrichment: a custom run, the field's description, and saved views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastsam_core._version import __version__
from fiftyone_fastsam._fiftyone import refresh
from fiftyone_fastsam._target import RUN_KEY

if TYPE_CHECKING:
    from fiftyone_fastsam._target import Target

__all__ = [
    "DONE_VIEW",
    "FAILED_VIEW",
    "METHOD",
    "record_results",
    "record_start",
    "results_of",
    "run_key",
    "view_description",
]

FAILED_VIEW = "fastsam: failed"
DONE_VIEW = "fastsam: done"
METHOD = "fastsam"
"""Method of our custom runs."""


def run_key(target: Target) -> str:
    """Return the key of the custom run that describes a field."""
    return _key(target.view, target.label_field)


def _key(view: Any, label_field: str) -> str:
    beside_images = view._root_dataset.media_type == "group" and view.media_type == "video"
    return f"fastsam_{'frames_' if beside_images else ''}{label_field}"


def view_description(path: str) -> str:
    """Return how a saved view says which field it tells of."""
    return f"Field {path}"


def record_start(target: Target, described: dict[str, Any], digest: str) -> None:
    """Write down what is about to be done, so that even a killed run explains itself."""
    from fiftyone.core.utils import to_slug

    dataset = target.dataset
    config = dataset.init_run(method=METHOD, label_field=target.path, digest=digest, fastsam=__version__)
    for name, value in described.items():
        setattr(config, f"asked_{name}", value)
    dataset.register_run(run_key(target), config, overwrite=True)
    field = dataset.get_field(target.path)
    field.description = f"Masks by FastSAM ({described['model']}, {described['kind']}); run {run_key(target)}"
    field.info = {**(field.info or {}), "fastsam": {**described, "digest": digest}}
    field.save()
    theirs = _slugs_of_others(dataset)
    for name, view in _views(target).items():
        if to_slug(name) not in theirs:
            dataset.save_view(name, view, description=view_description(target.path), overwrite=True)


def _slugs_of_others(dataset: Any) -> set[str]:
    """Return what FiftyOne tells saved views apart by, of all that were not saved here."""
    from fiftyone.core.utils import to_slug

    told, ours = dataset.list_saved_views(info=True), view_description("")
    return {to_slug(view["name"]) for view in told if not (view["description"] or "").startswith(ours)}


def _views(target: Target) -> dict[str, Any]:
    """Return the views of finished and failed samples; they ask anew whenever they are opened."""
    from fiftyone import ViewField

    def holds(name: str) -> Any:
        return ViewField(name).exists()  # a new one each time: filter() ties an expression to its array

    failed, done = target.error_field, f"{target.label_field}.{RUN_KEY}"
    samples = target.everything
    if not target.is_video:
        return {DONE_VIEW: samples.match(holds(done)), FAILED_VIEW: samples.match(holds(failed))}
    frames = ViewField("frames")
    return {
        DONE_VIEW: samples.match(frames.filter(holds(done)).length() > 0),
        FAILED_VIEW: samples.match(holds(failed) | (frames.filter(holds(failed)).length() > 0)),
    }


def results_of(view: Any, label_field: str) -> dict[str, Any] | None:
    """Return the outcome that a dataset remembers for a field of what a view shows, None without one."""
    dataset, key = view._root_dataset, _key(view, label_field.removeprefix("frames."))
    refresh(view)  # another process may have recorded it
    if not dataset.has_run(key):
        return None
    results = dataset.load_run_results(key, cache=False, load_view=False)
    return None if results is None else dict(results.serialize())


def record_results(target: Target, results: dict[str, Any]) -> None:
    """Add the outcome to the run."""
    key = run_key(target)
    outcome = target.dataset.init_run_results(key, **results)
    target.dataset.save_run_results(key, outcome, overwrite=True)
