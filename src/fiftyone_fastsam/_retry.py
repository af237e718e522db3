"""Waiting for a database that went away, and saying clearly when it does not come back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from fiftyone_fastsam.errors import DatabaseUnavailableError, DatabaseWriteError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["with_retries"]

_T = TypeVar("_T")
_P = ParamSpec("_P")

GIVE_UP_S = 120.0
"""For how long a database may be gone."""
_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 10.0


def with_retries(work: Callable[_P, _T], *args: _P.args, **keywords: _P.kwargs) -> _T:
    """Do database work, again and again with growing pauses while there is no connection.

    The work must be safe to repeat.

    Raises
    ------
    DatabaseUnavailableError
        If there is no connection for :data:`GIVE_UP_S` seconds.
    DatabaseWriteError
        If the server refuses the work.
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
            details = error.details if isinstance(error, BulkWriteError) else None
            reason = details["writeErrors"][0]["errmsg"] if details and details.get("writeErrors") else str(error)
            raise DatabaseWriteError(
                "The database refuses to write", actual=str(reason)[:300], remedy="use a user who may write, free space"
            ) from error
