"""Commands of other packages: entry points of the group ``fastsam.commands``, loaded when they are asked for."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

import typer
from typer.core import TyperGroup

__all__ = ["GROUP", "CommandGroup"]

GROUP: Final = "fastsam.commands"


class CommandGroup(TyperGroup):
    """A group whose further commands are entry points: a name, and where its ``typer.Typer`` lives."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands, own ones first."""
        own = list(super().list_commands(ctx))
        return own + sorted({point.name for point in entry_points(group=GROUP)} - set(own))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, loading it if it comes from elsewhere."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        found: EntryPoint | None = next(iter(entry_points(group=GROUP, name=cmd_name)), None)
        if found is None:
            return None
        command = typer.main.get_command(found.load())
        command.name = cmd_name
        return command
