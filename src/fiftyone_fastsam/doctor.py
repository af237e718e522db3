"""What may stand between a user and working operators: found, and how to mend it."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastsam_core.errors import MissingDependencyError
from fiftyone_fastsam._fiftyone import import_fiftyone, no_database
from fiftyone_fastsam._provenance import METHOD, view_description
from fiftyone_fastsam._target import open_dataset
from fiftyone_fastsam.install import PLUGIN_NAME, operator_names

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ALLOW_SCHEDULING", "Finding", "can_schedule", "diagnose", "unused_mask_files"]

ALLOW_SCHEDULING: Final = "FIFTYONE_ALLOW_LEGACY_ORCHESTRATORS=true"
"""What lets the App schedule operations for ``fiftyone delegated launch``; set where FiftyOne is started."""

_STUCK_AFTER: Final = timedelta(minutes=10)
_MASK_FILE: Final = re.compile(r"[^/]+/[0-9a-f]{12}/[0-9a-f]{24}(/[0-9]{6,})?/[0-9a-f]+\.png$")
"""Field, configuration, sample, perhaps frame, and label: what `enrich` writes into ``mask_dir``."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Parameters
    ----------
    well : bool
    text : str
        What was found.
    remedy : str
        What to do; empty if there is nothing to do.
    """

    well: bool
    text: str
    remedy: str = ""


def diagnose(dataset: Any = None, mask_dir: str | Path | None = None) -> list[Finding]:
    """Look at the installation and, if given, at a dataset and a folder of mask files.

    Parameters
    ----------
    dataset : fiftyone.Dataset or str, optional
        The dataset, or its name.
    mask_dir : path, optional

    Raises
    ------
    InvalidTargetError
        There is no dataset of that name.
    """
    try:
        fo = import_fiftyone()
    except MissingDependencyError as error:
        return [Finding(False, error.problem, error.remedy)]
    findings = [Finding(True, f"FiftyOne {fo.__version__}"), _torchvision()]
    database = _database(fo)
    findings.append(database)
    if database.well:
        findings += [*_plugin(), _scheduling(), *_stuck_operations()]
        if isinstance(dataset, str):
            dataset = open_dataset(dataset)
        if dataset is not None:
            findings += [_persistence(dataset), *_leftovers(dataset)]
        if mask_dir is not None:
            findings.append(_mask_files(mask_dir))
    return findings


def _torchvision() -> Finding:
    try:
        import torch
        import torchvision

        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (ImportError, RuntimeError) as error:
        return Finding(
            False, f"torch and torchvision do not fit together: {error}", "pip install -U torch torchvision (as a pair)"
        )
    return Finding(True, f"torch {torch.__version__} and torchvision {torchvision.__version__} fit")


def _database(fo: Any) -> Finding:
    try:
        count = len(fo.list_datasets())
    except no_database() as error:
        return Finding(
            False, f"The database does not answer: {str(error)[:200]}", "start MongoDB, or set FIFTYONE_DATABASE_URI"
        )
    return Finding(True, f"The database answers and holds {count} dataset(s)")


def _plugin() -> Iterator[Finding]:
    import fiftyone.operators as foo
    import fiftyone.plugins as fop

    plugins = {plugin.name: plugin for plugin in fop.list_plugins(enabled="all")}
    if PLUGIN_NAME not in plugins:
        yield Finding(False, "The plugin is not installed in FiftyOne", "fastsam fiftyone install")
        return
    yield Finding(True, f"The plugin is in {plugins[PLUGIN_NAME].directory}")
    if PLUGIN_NAME not in {plugin.name for plugin in fop.list_plugins()}:
        yield Finding(False, "The plugin is disabled", f"fiftyone plugins enable {PLUGIN_NAME}")
        return
    registered = {operator.uri for operator in foo.list_operators()}
    missing = [name for name in operator_names() if f"{PLUGIN_NAME}/{name}" not in registered]
    if missing:
        yield Finding(
            False,
            f"Operators that FiftyOne does not know: {', '.join(missing)}",
            "fastsam fiftyone install --force, then restart the App; the App's log tells why they did not load",
        )
    else:
        yield Finding(True, f"All {len(operator_names())} operators are registered")
    yield _double_loading()


def _double_loading() -> Finding:
    """Tell whether files of this package are loaded under other names (through a linked or copied folder)."""
    own = Path(__file__).parent
    stub = own / "plugin"
    twice = [
        name
        for name, module in sys.modules.copy().items()
        if not name.startswith("fiftyone_fastsam")
        and (file := getattr(module, "__file__", None))
        and own in (path := Path(file).resolve()).parents
        and stub not in path.parents
    ]
    if twice:
        return Finding(
            False,
            f"Loaded twice: {', '.join(twice[:3])}",
            "remove the link to the package, then fastsam fiftyone install",
        )
    return Finding(True, "No module is loaded twice")


def can_schedule() -> bool:
    """Tell whether forms offer to schedule an operation without a registered orchestrator."""
    return bool(getattr(import_fiftyone().config, "allow_legacy_orchestrators", True))


def _scheduling() -> Finding:
    if can_schedule():
        return Finding(True, "The App's forms can schedule operations for `fiftyone delegated launch`")
    return Finding(
        True, "The App's forms execute at once and cannot schedule", f"to change that, start it with {ALLOW_SCHEDULING}"
    )


def _stuck_operations() -> Iterator[Finding]:
    import fiftyone.operators.delegated as food

    before = datetime.now(UTC).replace(tzinfo=None) - _STUCK_AFTER
    service = food.DelegatedOperationService()
    stuck = [
        operation
        for operation in service.list_operations(run_state="running")
        if PLUGIN_NAME in operation.operator and _last_sign(operation) < before
    ]
    if stuck:
        yield Finding(
            False,
            f"{len(stuck)} delegated operation(s) have shown no progress for ten minutes: {stuck[0].id}",
            f"if its worker is gone: fiftyone delegated fail {stuck[0].id}, and schedule it again (it goes on)",
        )


def _last_sign(operation: Any) -> datetime:
    progress = getattr(operation, "status", None)
    updated = getattr(progress, "updated_at", None) or operation.started_at
    return datetime.now(UTC).replace(tzinfo=None) if updated is None else updated.replace(tzinfo=None)


def _leftovers(dataset: Any) -> Iterator[Finding]:
    """Tell what is left of enrichments whose field was deleted or has another name now."""
    views = dataset.list_saved_views(info=True)
    for key in dataset.list_runs():
        config = dataset.get_run_info(key).config
        if getattr(config, "method", None) != METHOD or dataset.get_field(path := config.label_field) is not None:
            continue
        name = path.removeprefix("frames.")
        reasons, steps = f"{name}_error", [f"dataset.delete_run({key!r})"]
        # videos have reasons of samples, too, beside those of images
        for kind, prefix, users in (("sample", "", {name, f"frames.{name}"}), ("frame", "frames.", {f"frames.{name}"})):
            if dataset.get_field(prefix + reasons) is not None and not any(map(dataset.get_field, users)):
                steps.append(f"dataset.delete_{kind}_field({reasons!r})")
        shown = [view["name"] for view in views if view["description"] == view_description(path)]
        steps += [f"dataset.delete_saved_view({name!r})" for name in shown]
        yield Finding(True, f"Field {path!r} was deleted or renamed, its run and reasons are left", "; ".join(steps))


def unused_mask_files(mask_dir: str | Path) -> list[Path]:
    """Return the files that `enrich` wrote into a folder, and that no label of any dataset refers to any more.

    Labels count whatever the folder is called on the machine that wrote them. Those of other databases are not known.

    Parameters
    ----------
    mask_dir : path
        As for `enrich`.
    """
    folder = Path(os.path.expanduser(mask_dir))
    files = {path: path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
    ours = {path: name for path, name in files.items() if _MASK_FILE.fullmatch(name)}
    used = _used_mask_files() if ours else set()
    return sorted(path for path, name in ours.items() if name not in used)


def _used_mask_files() -> set[str]:
    """Return which files of ``mask_dir``, as named inside it, labels in the database refer to."""
    fo = import_fiftyone()
    used: set[str] = set()
    for name in fo.list_datasets():
        dataset = fo.load_dataset(name)
        database = dataset._sample_collection.database
        schemas = {dataset._sample_collection_name: dataset.get_field_schema(flat=True)}
        schemas[dataset._frame_collection_name] = dataset.get_frame_field_schema(flat=True) or {}
        for collection, schema in schemas.items():
            for path in (path for path in schema if path.endswith(".mask_path")):
                for label in database[collection].find({path: {"$regex": _MASK_FILE.pattern}}, {path: 1}):
                    found = (_MASK_FILE.search(text.replace("\\", "/")) for text in _texts_in(label))
                    used.update(match.group() for match in found if match is not None)
    return used


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(each)


def _mask_files(mask_dir: str | Path) -> Finding:
    unused = unused_mask_files(mask_dir)
    if not unused:
        return Finding(True, f"All mask files in {mask_dir} belong to labels")
    return Finding(
        True,
        f"{len(unused)} mask file(s) in {mask_dir} belong to no label of this database: {unused[0]}",
        "if no other database uses that folder, unlink() each of fiftyone_fastsam.doctor.unused_mask_files("
        f"{str(mask_dir)!r})",
    )


def _persistence(dataset: Any) -> Finding:
    if dataset.persistent:
        return Finding(True, f"Dataset {dataset.name!r} is persistent")
    return Finding(
        False,
        f"Dataset {dataset.name!r} is not persistent: it is deleted when the last program that uses it ends",
        "dataset.persistent = True",
    )
