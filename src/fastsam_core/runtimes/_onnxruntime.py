"""The network in ONNX Runtime on the CPU."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt
import torch

from fastsam_core.runtimes._export import INPUT, OUTPUTS, import_optional, to_onnx

__all__ = ["OnnxRuntimeNetwork"]


class OnnxRuntimeNetwork:
    """Runs the network with ONNX Runtime, float32, on the CPU.

    Parameters
    ----------
    module : torch module
        An Ultralytics ``SegmentationModel``; it is changed (layers are fused).
    """

    def __init__(self, module: torch.nn.Module) -> None:
        # read when the package is imported; without it, it writes a device id and sends usage data
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        onnxruntime = import_optional("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            to_onnx(module), sess_options=options, providers=["CPUExecutionProvider"]
        )

    def forward(self, batch_bhwc: npt.NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the network; see `fastsam_core.network.Network`."""
        images = np.ascontiguousarray(batch_bhwc.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255)
        predictions, prototypes = self._session.run(list(OUTPUTS), {INPUT: images})
        return torch.from_numpy(predictions), torch.from_numpy(prototypes)
