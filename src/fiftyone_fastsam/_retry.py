"""Waiting for a database that went away, and saying clearly when it does not come back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from fiftyone_fastsam.errors import DatabaseUnavailableError, DatabaseWriteError, DocumentTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastsam_core.errors import FastSAMError

__all__ = ["with_retries"]

_T = TypeVar("_T")
_P = ParamSpec("_P")

GIVE_UP_S = 120.0
"""For how long a database may be gone."""
_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 10.0
_TOO_LARGE = {10334, 17419, 17420}
"""MongoDB's codes of documents beyond its limit."""


def with_retries(work: Callable[_P, _T], *args: _P.args, **keywords: _P.kwargs) -> _T:
    """Do database work, again and again with growing pauses while there is no connection.

    The work must be safe to repeat.

    Raises
    ------
    DatabaseUnavailableError
        If there is no connection for :data:`GIVE_UP_S` seconds.
    DatabaseWriteError
        If the server refuses the work.
    DocumentTooLargeError
        If it refuses nothing but documents that are too large.
    """
    from pymongo.errors import BulkWriteError, ConnectionFailure, OperationFailure

    started, wait_s = time.monotonic(), _FIRST_WAIT_S
    while True:
        try:
            return work(*args, **keywords)
        except ConnectionFailure as error:
            if time.monotonic() - started + wait_s > GIVE_UP_S:
                raise DatabaseUnavailableError(
                    "The database is gone",
                    actual=f"no connection for {time.monotonic() - started:.0f} s: {str(error)[:200]}",
                    remedy="start it and run the same command again; finished samples are kept and not repeated",
                ) from error
            time.sleep(wait_s)
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
        except OperationFailure as error:
            raise _refusal(error) from error
        except ValueError as error:  # FiftyOne tells it so where it writes in bulk
            if not isinstance(error.__cause__, BulkWriteError):
                raise
            raise _refusal(error.__cause__) from error


def _refusal(error: Any) -> FastSAMError:
    details = (error.details or {}).get("writeErrors") or [{"code": error.code, "errmsg": str(error)}]
    reason = str(details[0]["errmsg"])[:300]
    if all(each["code"] in _TOO_LARGE for each in details):
        return DocumentTooLargeError(
            "The document has grown since it was looked up",
            expected="at most 16 MiB",
            actual=reason,
            remedy="run the same again: the masks are then fitted into the room that is left",
        )
    return DatabaseWriteError(
        "The database refuses to write", actual=reason, remedy="use a user who may write, free space"
    )
