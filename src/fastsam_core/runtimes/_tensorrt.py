"""The network in TensorRT on NVIDIA GPUs. Needs the ``tensorrt`` package, which no extra installs."""

from __future__ import annotations

import importlib
import threading
from typing import TYPE_CHECKING, Any

import torch

from fastsam_core.errors import BackendUnavailableError
from fastsam_core.runtimes._export import INPUT, OUTPUTS, to_onnx

if TYPE_CHECKING:
    from types import ModuleType

    import numpy as np
    import numpy.typing as npt

__all__ = ["TensorRtNetwork"]

_SHAPES_BCHW = ((1, 3, 32, 32), (1, 3, 1024, 1024), (16, 3, 2048, 2048))
"""Smallest, usual and largest input that the engine is built for."""


class TensorRtNetwork:
    """Runs the network with TensorRT; the engine is built in memory when this is made, which takes minutes.

    Parameters
    ----------
    module : torch module
        An Ultralytics ``SegmentationModel``; it is changed (layers are fused).
    device : str
        ``"cuda"`` or ``"cuda:<index>"``.
    precision : str
        ``"fp32"``, ``"bf16"`` or ``"fp16"``.

    Raises
    ------
    BackendUnavailableError
        If TensorRT is not installed or cannot build the engine.
    """

    def __init__(self, module: torch.nn.Module, device: str, precision: str) -> None:
        tensorrt = _import_tensorrt()
        self._device = torch.device(device)
        with torch.cuda.device(self._device):
            plan = _build_plan(tensorrt, to_onnx(module), precision)
            self._engine = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR)).deserialize_cuda_engine(plan)
            if self._engine is None:
                raise _failed("the engine could not be loaded")
            self._context = self._engine.create_execution_context()
        self._lock = threading.Lock()

    def forward(self, batch_bhwc: npt.NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the network; see `fastsam_core.network.Network`."""
        with self._lock, torch.cuda.device(self._device), torch.inference_mode():
            batch = torch.from_numpy(batch_bhwc).pin_memory().to(self._device, non_blocking=True)
            images = (batch.permute(0, 3, 1, 2).float() / 255).contiguous()
            context: Any = self._context
            context.set_input_shape(INPUT, tuple(images.shape))
            context.set_tensor_address(INPUT, images.data_ptr())
            outputs = [
                torch.empty(tuple(context.get_tensor_shape(name)), dtype=torch.float32, device=self._device)
                for name in OUTPUTS
            ]
            for name, output in zip(OUTPUTS, outputs, strict=True):
                context.set_tensor_address(name, output.data_ptr())
            stream = torch.cuda.current_stream()
            if not context.execute_async_v3(stream.cuda_stream):
                raise _failed("the engine did not run")
            stream.synchronize()
        return outputs[0], outputs[1]


def _import_tensorrt() -> ModuleType:
    try:
        return importlib.import_module("tensorrt")
    except ImportError as error:
        raise BackendUnavailableError(
            "TensorRT is not installed",
            actual=str(error),
            remedy='pip install tensorrt (NVIDIA GPUs only), or use runtime="torch"',
        ) from error


def _build_plan(tensorrt: Any, onnx: bytes, precision: str) -> Any:
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse(onnx):
        raise _failed("; ".join(str(parser.get_error(index)) for index in range(parser.num_errors)))
    config = builder.create_builder_config()
    if precision == "fp32":
        config.clear_flag(tensorrt.BuilderFlag.TF32)
    else:
        config.set_flag(tensorrt.BuilderFlag.FP16 if precision == "fp16" else tensorrt.BuilderFlag.BF16)
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT, *_SHAPES_BCHW)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _failed("the engine could not be built")
    return plan


def _failed(actual: str) -> BackendUnavailableError:
    return BackendUnavailableError(
        "TensorRT cannot run this network", actual=actual, remedy='use runtime="torch" on this GPU'
    )
