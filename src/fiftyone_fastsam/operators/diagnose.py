"""Operator: whether everything is in order."""

from __future__ import annotations

import re
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_fastsam.doctor import diagnose

__all__ = ["Doctor"]


class Doctor(foo.Operator):  # type: ignore[misc] # FiftyOne has no types
    """Shows what :func:`fiftyone_fastsam.doctor.diagnose` finds."""

    @property
    def config(self) -> Any:
        """FiftyOne's description of the operator."""
        return foo.OperatorConfig(
            name="doctor",
            label="FastSAM: doctor",
            description="Check installation, operators, delegated runs and this dataset",
            icon="/assets/icon.svg",
        )

    def execute(self, ctx: Any) -> dict[str, Any]:
        """Look at everything."""
        findings = diagnose(ctx.dataset)
        lines = [
            f"- {'✓' if f.well else '✗'} {_plain(f.text)}" + (f" — **{_plain(f.remedy)}**" if f.remedy else "")
            for f in findings
        ]
        return {"findings": "\n".join(lines), "problems": sum(not f.well for f in findings)}

    def resolve_output(self, ctx: Any) -> Any:
        """Show the findings."""
        outputs = types.Object()
        outputs.int("problems", label="Problems")
        outputs.str("findings", label="Findings", view=types.MarkdownView())
        return types.Property(outputs, view=types.View(label="FastSAM: doctor"))


def _plain(text: str) -> str:
    """Return text for Markdown that shows it as it is: underlines of a path are no emphasis."""
    return re.sub(r"([\\`*_\[\]<>~&|#])", r"\\\1", text)
