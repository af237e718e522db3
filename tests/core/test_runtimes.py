"""Every run time against the plain network; what is missing says so."""

from __future__ import annotations

import copy
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from fastsam_core.checkpoints import build_module
from fastsam_core.errors import BackendUnavailableError, InvalidParameterError, MissingDependencyError
from fastsam_core.runtimes import create_network, resolve_device, resolve_runtime

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastsam_core.network import Network

SIZES = [(1, 64, 96), (2, 96, 64), (1, 128, 128)]


@pytest.fixture(scope="module", params=["yolov8n-seg", "yolo11n-seg"])
def module(request: pytest.FixtureRequest) -> torch.nn.Module:
    torch.manual_seed(5)
    module = build_module(request.param)
    for part in module.modules():  # statistics as if trained, so that fusing has something to do
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            part.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    return module


def batch_of(size_bhw: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(sum(size_bhw)).integers(0, 256, (*size_bhw, 3), dtype=np.uint8)


def expected_of(module: torch.nn.Module, batch: npt.NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode():
        predictions, prototypes = module(torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous().float() / 255)[0]
    return predictions, prototypes


def network_of(module: torch.nn.Module, runtime: str, precision: str = "fp32") -> Network:
    return create_network(copy.deepcopy(module), device="cpu", precision=precision, runtime=runtime)


@pytest.mark.parametrize("runtime", ["torch", "openvino", "onnxruntime"])
def test_run_times_agree(runtime: str, module: torch.nn.Module) -> None:
    network = network_of(module, runtime)
    for size in SIZES:
        batch = batch_of(size)
        predictions, prototypes = network.forward(batch)
        expected_predictions, expected_prototypes = expected_of(module, batch)
        assert predictions.dtype == prototypes.dtype == torch.float32
        torch.testing.assert_close(predictions[:, :4], expected_predictions[:, :4], atol=1e-3, rtol=1e-5)
        torch.testing.assert_close(predictions[:, 4:], expected_predictions[:, 4:], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(prototypes, expected_prototypes, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("runtime", ["torch", "openvino", "onnxruntime"])
def test_results_outlive_the_next_pass(runtime: str, module: torch.nn.Module) -> None:
    network = network_of(module, runtime)
    first = network.forward(batch_of(SIZES[0]))
    before = [value.clone() for value in first]
    network.forward(batch_of(SIZES[0])[:, ::-1].copy())
    for value, copied in zip(first, before, strict=True):
        assert torch.equal(value, copied)


def test_bf16_decodes_boxes_in_float32(module: torch.nn.Module) -> None:
    """Convolutions may be coarse; boxes at a large input must not fall on bf16's grid of eight pixels."""
    batch = batch_of((1, 32, 1120))
    predictions, prototypes = network_of(module, "torch", "bf16").forward(batch)
    expected_predictions, expected_prototypes = expected_of(module, batch)
    assert (predictions[:, :4] - expected_predictions[:, :4]).abs().median() < 0.5
    assert (predictions[:, 4:] - expected_predictions[:, 4:]).abs().max() < 0.1
    assert (prototypes - expected_prototypes).abs().max() < 0.1
    centres = predictions[0, 0]
    assert not torch.equal(centres, centres.bfloat16().float())


@pytest.mark.parametrize(
    ("runtime", "package"), [("openvino", "onnx"), ("openvino", "openvino"), ("onnxruntime", "onnxruntime")]
)
def test_a_missing_package_names_the_extra(
    runtime: str, package: str, module: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=r'pip install "fastsam-plugins\[fast\]"'):
        network_of(module, runtime)


def test_tensorrt_is_not_here(module: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendUnavailableError, match="TensorRT is not installed"):
        create_network(copy.deepcopy(module), device="cuda", precision="fp32", runtime="tensorrt")


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == "cpu"
    for absent in ("cuda", "cuda:3", "mps"):
        with pytest.raises(BackendUnavailableError, match="not available"):
            resolve_device(absent)
    for senseless in ("gpu", "", "cpu:1", "cuda:x", None, 0):
        with pytest.raises(InvalidParameterError, match="no device"):
            resolve_device(senseless)  # type: ignore[arg-type]
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto") == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == "cuda"
    assert resolve_device("cuda:1") == "cuda:1"
    with pytest.raises(BackendUnavailableError):
        resolve_device("cuda:2")


@pytest.mark.parametrize(
    ("runtime", "device", "precision", "error"),
    [
        ("torch", "cpu", "fp16", InvalidParameterError),
        ("onnxruntime", "cpu", "bf16", InvalidParameterError),
        ("tensorrt", "cpu", "fp32", BackendUnavailableError),
        ("openvino", "cuda:0", "fp32", BackendUnavailableError),
        ("tvm", "cpu", "fp32", InvalidParameterError),
        ("torch", "cpu", "int8", InvalidParameterError),
    ],
)
def test_combinations_that_do_not_go(runtime: str, device: str, precision: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        resolve_runtime(runtime, device, precision)


def test_auto_takes_torch_where_openvino_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert resolve_runtime("auto", "cpu", "fp32") == "torch"
    assert resolve_runtime("auto", "cuda:0", "fp16") == "torch"
