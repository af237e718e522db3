"""The network as an ONNX file in memory, which OpenVINO, ONNX Runtime and TensorRT all read."""

from __future__ import annotations

import importlib
import io
import warnings
from typing import TYPE_CHECKING, Any

import torch

from fastsam_core.errors import MissingDependencyError
from fastsam_core.runtimes._torch import fuse

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["INPUT", "OUTPUTS", "import_optional", "to_onnx"]

INPUT = "images"
OUTPUTS = ("predictions", "prototypes")
_OPSET = 17
_EXAMPLE_HW = (64, 96)


def import_optional(package: str) -> ModuleType:
    """Import a package of the ``fast`` extra.

    Raises
    ------
    MissingDependencyError
        Naming the pip command.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingDependencyError(
            f"This run time needs the package {package!r}",
            actual=str(error),
            remedy='pip install "fastsam-plugins[fast]"',
        ) from error


def to_onnx(module: torch.nn.Module) -> bytes:
    """Export the network for any batch size, height and width (multiples of its stride).

    The input is a float32 (B, 3, h, w) batch in [0, 1]; the outputs are those of `fastsam_core.network.Network`.

    Raises
    ------
    MissingDependencyError
        If the ``onnx`` package is not installed.
    """
    import_optional("onnx")
    network = fuse(module)
    head: Any = network.model[-1]
    head.export = head.dynamic = True
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            # torch's tracer warns about each Python number it meets; sizes stay dynamic all the same (tested)
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network,
                (torch.zeros(1, 3, *_EXAMPLE_HW),),
                buffer,  # type: ignore[arg-type]  # the stub knows paths only
                dynamo=False,
                opset_version=_OPSET,
                input_names=[INPUT],
                output_names=list(OUTPUTS),
                dynamic_axes={
                    INPUT: {0: "batch", 2: "height", 3: "width"},
                    OUTPUTS[0]: {0: "batch", 2: "anchors"},
                    OUTPUTS[1]: {0: "batch", 2: "prototype_height", 3: "prototype_width"},
                },
            )
    finally:
        head.export = head.dynamic = False
    return buffer.getvalue()
