"""One process at a time declares fields, runs and saved views: FiftyOne reads, changes and writes them in steps."""

from __future__ import annotations

import time
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from fiftyone_fastsam._fiftyone import refresh
from fiftyone_fastsam._retry import with_retries
from fiftyone_fastsam.errors import TargetChangedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fiftyone_fastsam._target import Target

__all__ = ["LOCKS", "alone"]

LOCKS: Final = "fastsam_locks"
"""MongoDB collection of who changes which dataset, in FiftyOne's own database."""

_PAUSE_S: Final = 0.05
_DEAD_AFTER_MS: Final = 60_000
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


@contextmanager
def alone(target: Target) -> Iterator[None]:
    """Run the block while no other process is in such a block for this dataset, with the dataset as it is now.

    Whoever is in it for a minute, by the server's clock, is taken for dead.

    Raises
    ------
    TargetChangedError
        The dataset is gone.
    """
    from fiftyone.core.dataset import DatasetNotFoundError

    locks, key, owner = target.samples.database[LOCKS], str(target.dataset._doc.id), uuid.uuid4().hex
    while not with_retries(_taken, locks, key, owner):
        time.sleep(_PAUSE_S)
    try:
        try:
            with_retries(refresh, target.view)
        except DatasetNotFoundError as error:
            raise TargetChangedError(
                f"Dataset {target.dataset.name!r} is gone", actual="it was deleted meanwhile"
            ) from error
        yield
    finally:
        with_retries(locks.delete_one, {"_id": key, "owner": owner})


def _taken(locks: Any, key: str, owner: str) -> bool:
    """Take the lock if nobody has it; tell whether this owner has it now."""
    from pymongo.errors import DuplicateKeyError

    free = {"$lt": [{"$ifNull": ["$since", _LONG_AGO]}, {"$subtract": ["$$NOW", _DEAD_AFTER_MS]}]}
    change = {
        "owner": {"$cond": [free, owner, "$owner"]},
        "since": {"$cond": [free, "$$NOW", "$since"]},
    }
    try:
        locks.update_one({"_id": key}, [{"$set": change}], upsert=True)
    except DuplicateKeyError:  # another one was quicker
        return False
    return locks.find_one({"_id": key, "owner": owner}) is not None
