"""The one place that imports FiftyOne (about ten seconds), when it is first needed; what its own functions lack."""

from __future__ import annotations

import os
from typing import Any

from fastsam_core.errors import MissingDependencyError

__all__ = ["import_fiftyone", "no_database", "refresh"]


def import_fiftyone() -> Any:
    """Import FiftyOne with its usage tracking switched off, unless the user has decided otherwise.

    Raises
    ------
    MissingDependencyError
        If FiftyOne is not installed.
    """
    os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "true")
    try:
        import fiftyone
    except ImportError as error:
        raise MissingDependencyError(
            "FiftyOne is not installed", actual=str(error), remedy="pip install 'fastsam-plugins[fiftyone]'"
        ) from error
    return fiftyone


def no_database() -> tuple[type[Exception], ...]:
    """Return what FiftyOne raises where no database answers, and where it cannot start one of its own."""
    from pymongo.errors import PyMongoError

    core = import_fiftyone().core
    return PyMongoError, core.config.FiftyOneConfigError, core.service.ServiceException, OSError, RuntimeError


def refresh(view: Any) -> None:
    """Let a dataset or view, and a view's dataset, know what other programs have changed.

    FiftyOne's `reload` makes new classes of samples; views that were iterated over keep theirs, which fails as soon as
    there is a further field. So classes are made anew only where there are other fields, or renamed ones, which do not
    know their new path until then; and of all views, this one can be told.

    Raises
    ------
    fiftyone.core.dataset.DatasetNotFoundError
        It was deleted.
    """
    from fiftyone.core.dataset import DatasetNotFoundError
    from fiftyone.core.fields import flatten_schema
    from mongoengine.errors import DoesNotExist  # type: ignore[import-untyped] # it has no types

    dataset = view._root_dataset
    document = dataset._doc
    try:
        document.reload()
    except DoesNotExist as error:
        raise DatasetNotFoundError(dataset.name) from error
    for fields, schema in (
        (document.sample_fields, dataset.get_field_schema(flat=True)),
        (document.frame_fields, dataset.get_frame_field_schema(flat=True) or {}),
    ):
        stored = flatten_schema({each.name: each.to_field() for each in fields})
        renamed = any((field.path or path).removeprefix("frames.") != path for path, field in schema.items())
        if renamed or _described(stored) != _described(schema):
            dataset.reload()
            for name in ("_make_sample_fcn", "_make_frame_fcn"):
                if view is not dataset and hasattr(view, name):
                    delattr(view, name)
            return


def _described(schema: dict[str, Any]) -> dict[str, Any]:
    """Return what is to be known of fields, by their paths."""
    return {
        path: (type(field), getattr(field, "document_type", None), field.description, field.info, field.read_only)
        for path, field in schema.items()
    }
