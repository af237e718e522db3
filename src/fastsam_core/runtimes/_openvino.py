"""The network in OpenVINO, the fastest run time on Intel CPUs."""

from __future__ import annotations

import io
import sys
import threading
from typing import TYPE_CHECKING

import torch

from fastsam_core.runtimes._export import import_optional, to_onnx

if TYPE_CHECKING:
    from types import ModuleType

    import numpy as np
    import numpy.typing as npt

__all__ = ["OpenVinoNetwork", "import_openvino"]

_HINTS = {"fp32": "f32", "bf16": "bf16"}
_IMPORT_LOCK = threading.Lock()


def import_openvino() -> ModuleType:
    """Import OpenVINO without its telemetry.

    ``import openvino`` sends an event and writes a client id into the home folder unless the user opted out; it does
    neither where the package ``openvino_telemetry`` cannot be imported, so that is hidden for the moment.

    Raises
    ------
    MissingDependencyError
        If OpenVINO is not installed.
    """
    with _IMPORT_LOCK:
        if "openvino" in sys.modules or "openvino_telemetry" in sys.modules:
            return import_optional("openvino")
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # makes its import fail
        try:
            return import_optional("openvino")
        finally:
            del sys.modules["openvino_telemetry"]


class OpenVinoNetwork:
    """Runs the network with OpenVINO on the CPU, compiled once for all input sizes.

    Parameters
    ----------
    module : torch module
        An Ultralytics ``SegmentationModel``; it is changed (layers are fused).
    precision : str
        ``"fp32"`` or ``"bf16"`` (on CPUs with bf16 instructions).
    """

    def __init__(self, module: torch.nn.Module, precision: str = "fp32") -> None:
        openvino = import_openvino()
        core = openvino.Core()
        model = core.read_model(io.BytesIO(to_onnx(module)))
        self._compiled = core.compile_model(
            _with_uint8_input(openvino, model),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": _HINTS[precision],
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            },
        )
        self._request = self._compiled.create_infer_request()
        self._lock = threading.Lock()

    def forward(self, batch_bhwc: npt.NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the network; see `fastsam_core.network.Network`."""
        with self._lock:
            self._request.infer([batch_bhwc])
            predictions, prototypes = (
                torch.from_numpy(self._request.get_output_tensor(index).data.copy()) for index in (0, 1)
            )
        return predictions, prototypes


def _with_uint8_input(openvino: ModuleType, model: object) -> object:
    """Let the compiled network take uint8 (B, h, w, 3) and do the division by 255 itself."""
    steps = openvino.preprocess.PrePostProcessor(model)
    image = steps.input(0)
    image.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    image.model().set_layout(openvino.Layout("NCHW"))
    image.preprocess().convert_element_type(openvino.Type.f32).scale(255.0)
    return steps.build()
