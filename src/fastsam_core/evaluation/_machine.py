"""The machine that figures were measured on, said without naming it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["describe_machine"]

_FLAGS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "bf16", "amx_bf16": "AMX"}


def describe_machine(device: str = "cpu") -> dict[str, str]:
    """Return cores, processor, device and versions.

    Parameters
    ----------
    device : str
        What the network ran on; a CUDA device is named.
    """
    from fastsam_core._threads import available_cores
    from fastsam_core._version import __version__

    facts = {"CPU cores": str(available_cores()), "processor": f"{platform.machine()}{_instruction_sets()}"}
    if device.startswith("cuda"):
        import torch

        facts["GPU"] = torch.cuda.get_device_name(device)
    facts["Python"] = platform.python_version()
    for package in ("torch", "numpy", "numba"):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return facts | {"fastsam-plugins": __version__}


def _instruction_sets() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    found = [name for flag, name in _FLAGS.items() if flag in line.split()]
    return f" with {', '.join(found)}" if found else ""
