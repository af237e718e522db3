"""``fastsam info``: versions, device, what is installed and how to get what is missing."""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from fastsam_core.cli._console import console, guarded
from fastsam_core.cli._options import DebugOption

__all__ = ["info"]

_BASE: Final = (
    "torch",
    "torchvision",
    "ultralytics",
    "numba",
    "numpy",
    "scikit-image",
    "tifffile",
    "pillow",
    "pycocotools",
)


@dataclass(frozen=True, slots=True)
class _Extra:
    name: str
    packages: tuple[str, ...]
    purpose: str


_EXTRAS: Final = (
    _Extra("fast", ("openvino", "onnxruntime"), "faster network on CPUs"),
    _Extra("napari", ("napari", "magicgui"), "napari plugin"),
    _Extra("fiftyone", ("fiftyone",), "FiftyOne plugin"),
    _Extra("text", ("open-clip-torch",), "text prompts"),
    _Extra("zarr", ("zarr",), "OME-Zarr images"),
    _Extra("microscopes", ("pylibCZIrw", "bioio-nd2", "bioio-lif"), "CZI, ND2 and LIF files"),
    _Extra("distributed", ("ray",), "many machines"),
    _Extra("train", ("tensorboard",), "training"),
)


def info(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False, debug: DebugOption = False
) -> None:
    """Show versions, devices, what is installed, and the pip command for what is missing."""
    with guarded(debug=debug):
        facts = _collect()
        if as_json:
            typer.echo(json.dumps(facts, indent=2))
            return
        from rich.table import Table

        table = Table(box=None, show_header=False, pad_edge=False)
        for name, value in facts["system"].items():
            table.add_row(name, str(value))
        table.add_section()
        for name, installed in facts["packages"].items():
            table.add_row(name, installed or "MISSING: pip install --force-reinstall fastsam-plugins")
        table.add_section()
        for name, extra in facts["extras"].items():
            present = ", ".join(f"{package} {found}" for package, found in extra["packages"].items() if found)
            text = present if extra["installed"] else f"not installed: {extra['install']}"
            table.add_row(f"[{name}]", f"{text}   ({extra['purpose']})")
        console().print(table)


def _collect() -> dict[str, Any]:
    from fastsam_core import downloads
    from fastsam_core._threads import available_cores
    from fastsam_core._version import __version__

    extras = {}
    for extra in _EXTRAS:
        found = {package: _version(package) for package in extra.packages}
        extras[extra.name] = {
            "installed": all(found.values()),
            "packages": found,
            "purpose": extra.purpose,
            "install": f"pip install 'fastsam-plugins[{extra.name}]'",
        }
    return {
        "system": {
            "fastsam-plugins": __version__,
            "python": f"{platform.python_version()} ({sys.executable})",
            "platform": platform.platform(),
            "cores": f"{available_cores()} of {os.cpu_count()}",
            "devices": ", ".join(_devices()),
            "downloaded models": str(downloads.cache_folder()),
        },
        "packages": {package: _version(package) for package in _BASE},
        "extras": extras,
    }


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> list[str]:
    try:
        import torch
    except ImportError as error:
        return [f"torch cannot be loaded: {error}"]
    found = ["cpu"]
    if torch.cuda.is_available():
        found += [f"cuda:{index} ({torch.cuda.get_device_name(index)})" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return found
