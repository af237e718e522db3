"""Errors that only FiftyOne's side can raise; in the style of :mod:`fastsam_core.errors`."""

from __future__ import annotations

from fastsam_core.errors import FastSAMError, InvalidParameterError

__all__ = [
    "DatabaseUnavailableError",
    "DatabaseWriteError",
    "DocumentTooLargeError",
    "InvalidTargetError",
    "LabelFieldError",
    "NonPersistentDatasetWarning",
    "TargetChangedError",
    "WorkersDiedError",
]


class InvalidTargetError(InvalidParameterError):
    """A dataset or view that is missing or cannot be enriched: no samples, wrong media type, or not flat."""


class TargetChangedError(FastSAMError, RuntimeError):
    """A dataset that was deleted, or a field that was deleted or renamed, during a run."""


class LabelFieldError(InvalidParameterError):
    """A field that is missing, reserved, of another type, or holds somebody else's labels."""


class DocumentTooLargeError(FastSAMError, ValueError):
    """Masks that do not fit into a sample's document (MongoDB allows 16 MiB)."""


class DatabaseUnavailableError(FastSAMError, ConnectionError):
    """The database went away and did not come back in time."""


class DatabaseWriteError(FastSAMError, PermissionError):
    """The database refuses to write (read-only user, dataset or disk)."""


class WorkersDiedError(FastSAMError, RuntimeError):
    """Processes of a cluster died more often than can be put down to chance."""


class NonPersistentDatasetWarning(UserWarning):
    """The dataset will be deleted when the program ends."""
