"""What axes are by their names: time, depth or channels; and which of QuPath's and ImageJ's axes they become."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["czt_of", "is_channels", "is_depth", "is_time"]

_CHANNEL_NAMES = ("c", "ch", "channel", "channels")
_DEPTH_NAMES = ("z", "depth")


def is_channels(axis_name: str) -> bool:
    """Tell whether an axis is named as channels."""
    return axis_name.lower() in _CHANNEL_NAMES


def is_depth(axis_name: str) -> bool:
    """Tell whether an axis is named as depth."""
    return axis_name.lower() in _DEPTH_NAMES


def is_time(axis_name: str) -> bool:
    """Tell whether an axis is named as time."""
    return axis_name.lower().startswith("t")


def czt_of(names: Sequence[str]) -> dict[str, str]:
    """Return which axes are ``c``, ``z`` and ``t`` to programs that know no others, by their names.

    Of several that are not named as channels the first is time and the last is depth, but for their names; one alone is
    depth unless it is named as time. Those between have none of the letters.
    """
    found = dict.fromkeys(filter(is_channels, names), "c")
    others = sorted((name for name in names if name not in found), key=lambda name: (not is_time(name), is_depth(name)))
    if len(others) > 1 or (others and is_time(others[0])):
        found[others.pop(0)] = "t"
    if others:
        found[others[-1]] = "z"
    return found
