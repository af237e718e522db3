"""The libraries that can run the network, behind one function.

``torch`` is always there; ``openvino`` and ``onnxruntime`` come with the ``fast`` extra; ``tensorrt`` is for NVIDIA
GPUs. All float32 run times agree to about 1e-4.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Literal, get_args

from fastsam_core.errors import BackendUnavailableError, InvalidParameterError

if TYPE_CHECKING:
    import torch

    from fastsam_core.network import Network

__all__ = ["Precision", "Runtime", "create_network", "resolve_device", "resolve_runtime"]

Runtime = Literal["auto", "torch", "openvino", "onnxruntime", "tensorrt"]
Precision = Literal["fp32", "bf16", "fp16"]

_PRECISIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "torch": {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16"), "mps": ("fp32", "fp16")},
    "openvino": {"cpu": ("fp32", "bf16")},
    "onnxruntime": {"cpu": ("fp32",)},
    "tensorrt": {"cuda": ("fp32", "bf16", "fp16")},
}
"""For each run time: the devices it runs on, and the precisions it offers there."""


def resolve_device(device: str = "auto") -> str:
    """Turn ``"auto"`` into the best device there is, and check a named one.

    Parameters
    ----------
    device : str
        ``"auto"`` (CUDA, else Apple's MPS, else CPU), ``"cpu"``, ``"mps"``, ``"cuda"`` or ``"cuda:<index>"``.

    Raises
    ------
    BackendUnavailableError
        If the device is not there.
    InvalidParameterError
        If the name means nothing.
    """
    import torch

    has_mps = torch.backends.mps.is_available()
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    kind, _, index = str(device).partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not (kind == "cuda" and index.isdecimal())):
        raise InvalidParameterError(
            f"There is no device {device!r}", expected='"auto", "cpu", "mps", "cuda" or "cuda:<index>"'
        )
    missing = (kind == "cuda" and int(index or 0) >= torch.cuda.device_count()) or (kind == "mps" and not has_mps)
    if missing:
        raise BackendUnavailableError(
            f"The device {device!r} is not available on this machine",
            actual=f"{torch.cuda.device_count()} CUDA devices, MPS {'present' if has_mps else 'absent'}, "
            f"torch {torch.__version__}",
            remedy='use device="auto" or device="cpu"',
        )
    return device


def resolve_runtime(runtime: str, device: str, precision: str) -> str:
    """Turn ``"auto"`` into a run time, and check that it can do what is asked on the device.

    Raises
    ------
    InvalidParameterError
        If the run time is unknown, or does not offer the precision on this device.
    BackendUnavailableError
        If the run time does not run on this kind of device.
    """
    if runtime not in get_args(Runtime):
        raise InvalidParameterError(
            f"There is no run time {runtime!r}", expected=f"one of {', '.join(get_args(Runtime))}"
        )
    if precision not in get_args(Precision):
        raise InvalidParameterError(
            f"There is no precision {precision!r}", expected=f"one of {', '.join(get_args(Precision))}"
        )
    kind = device.partition(":")[0]
    chosen = _best_runtime(kind) if runtime == "auto" else runtime
    by_device = _PRECISIONS[chosen]
    if kind not in by_device:
        raise BackendUnavailableError(
            f"The run time {chosen!r} does not run on {device!r}",
            expected=f"a device of {', '.join(by_device)}",
            remedy='use runtime="auto"',
        )
    if precision not in by_device[kind]:
        raise InvalidParameterError(
            f"The run time {chosen!r} does not offer precision {precision!r} on {device!r}",
            expected=f"one of {', '.join(by_device[kind])}",
            remedy="fp16 needs a GPU; bf16 is the fast precision of CPUs",
        )
    return chosen


def _best_runtime(device_kind: str) -> str:
    has_openvino = all(importlib.util.find_spec(package) is not None for package in ("openvino", "onnx"))
    return "openvino" if device_kind == "cpu" and has_openvino else "torch"


def create_network(module: torch.nn.Module, *, device: str, precision: str, runtime: str) -> Network:
    """Prepare a network for running: fused layers, the device's best memory layout, the precision asked for.

    Parameters
    ----------
    module : torch module
        From `fastsam_core.checkpoints`; it is taken over and changed (layers are fused).
    device, precision, runtime : str
        As resolved by `resolve_device` and `resolve_runtime`.

    Raises
    ------
    MissingDependencyError
        If the run time's package is not installed; names the pip command.
    BackendUnavailableError
        If the run time cannot start on this machine.
    """
    match runtime:
        case "openvino":
            from fastsam_core.runtimes._openvino import OpenVinoNetwork

            return OpenVinoNetwork(module, precision)
        case "onnxruntime":
            from fastsam_core.runtimes._onnxruntime import OnnxRuntimeNetwork

            return OnnxRuntimeNetwork(module)
        case "tensorrt":
            from fastsam_core.runtimes._tensorrt import TensorRtNetwork

            return TensorRtNetwork(module, device, precision)
        case _:
            from fastsam_core.runtimes._torch import TorchNetwork

            return TorchNetwork(module, device, precision)
