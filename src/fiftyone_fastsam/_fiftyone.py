"""The one place that imports FiftyOne (about ten seconds), when it is first needed."""

from __future__ import annotations

import os
from typing import Any

from fastsam_core.errors import MissingDependencyError

__all__ = ["import_fiftyone", "no_database"]


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
