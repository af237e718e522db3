"""Loading weights: our safetensors and Ultralytics pickles, whole, damaged, foreign and untrusted."""

from __future__ import annotations

import hashlib
import os
import pickle
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import safetensors.torch
import torch

from fastsam_core import checkpoints, registry
from fastsam_core._ultralytics import import_ultralytics
from fastsam_core.checkpoints import build_module, find_weights, load_checkpoint
from fastsam_core.errors import (
    CheckpointError,
    InvalidParameterError,
    UnknownModelError,
    UntrustedCheckpointError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

tasks = import_ultralytics("ultralytics.nn.tasks")
METADATA = {"format": "fastsam-plugins/1", "architecture": "yolov8n-seg", "nc": "1", "reg_max": "16"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FASTSAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def module() -> torch.nn.Module:
    torch.manual_seed(3)
    return build_module("yolov8n-seg")


@pytest.fixture(scope="module")
def pickled(module: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a file as Ultralytics' trainer does: the whole network in half precision."""
    path = tmp_path_factory.mktemp("weights") / "mine.pt"
    network = build_module("yolov8n-seg")
    network.load_state_dict(module.state_dict())
    save(path, network.half(), train_args={"imgsz": 416})
    return path


def save(path: Path, network: Any, **more: Any) -> None:
    torch.save({"epoch": -1, "model": network, "ema": None, **more}, path)


def save_safetensors(path: Path, weights: dict[str, torch.Tensor], **metadata: str) -> Path:
    half = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    safetensors.torch.save_file(half, path, metadata={**METADATA, **metadata})
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def outputs(module: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        predictions: torch.Tensor = module(torch.full((1, 3, 64, 64), 0.5))[0][0]
    return predictions


def test_safetensors_round_trip(module: torch.nn.Module, tmp_path: Path) -> None:
    path = save_safetensors(
        tmp_path / "own.safetensors", module.state_dict(), imgsz="512", conf="0.3", iou="0.8", licence="AGPL-3.0-only"
    )
    loaded = load_checkpoint(path)
    assert (loaded.info.name, loaded.info.architecture) == ("own", "yolov8n-seg")
    assert (loaded.info.imgsz, loaded.info.conf, loaded.info.iou) == (512, 0.3, 0.8)
    assert loaded.info.sha256 == sha256(path)
    assert loaded.info.licence == "AGPL-3.0-only"
    assert not loaded.module.training
    torch.testing.assert_close(outputs(loaded.module), outputs(module), atol=0.05, rtol=0.01)


@pytest.mark.parametrize("architecture", ["yolov8s-seg", "yolo11n-seg", "yolo11s-seg"])
def test_other_architectures(architecture: str, tmp_path: Path) -> None:
    network = build_module(architecture)
    path = save_safetensors(tmp_path / "a.safetensors", network.state_dict(), architecture=architecture)
    loaded = load_checkpoint(path).module
    assert sum(p.numel() for p in loaded.parameters()) == sum(p.numel() for p in network.parameters())
    assert outputs(loaded).shape == (1, 37, 84)


def test_other_box_bins(tmp_path: Path) -> None:
    network = build_module("yolov8n-seg", reg_max=26)
    loaded = load_checkpoint(save_safetensors(tmp_path / "a.safetensors", network.state_dict(), reg_max="26"))
    assert outputs(loaded.module).shape == (1, 37, 84)


def _without_one(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in weights.items() if name != "model.0.conv.weight"}


def _with_a_stranger(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**weights, "model.99.conv.weight": torch.zeros(1)}


def _reshaped(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**weights, "model.0.conv.weight": torch.zeros(1, 2)}


def _of_whole_numbers(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**weights, "model.0.conv.weight": weights["model.0.conv.weight"].to(torch.int8)}


@pytest.mark.parametrize("change", [_without_one, _with_a_stranger, _reshaped, _of_whole_numbers])
def test_safetensors_of_another_network(
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], module: torch.nn.Module, tmp_path: Path
) -> None:
    path = save_safetensors(tmp_path / "a.safetensors", change(dict(module.state_dict())))
    with pytest.raises(CheckpointError, match=r"conv\.weight"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format": "other"}, "not written by this project"),
        ({"nc": "80"}, "80 classes"),
        ({"architecture": "resnet50"}, "not supported"),
        ({"architecture": "../../yolov8n-seg"}, "not supported"),
        ({"imgsz": "many"}, "many"),
        ({"imgsz": "640,0"}, "imgsz is out of range"),
        ({"imgsz": "100000"}, "imgsz is out of range"),
        ({"conf": "nan"}, "conf is out of range"),
        ({"conf": "40"}, "conf is out of range"),
        ({"mask_margin": "-1"}, "mask_margin is out of range"),
        ({"reg_max": "0"}, "reg_max is out of range"),
    ],
)
def test_safetensors_with_wrong_metadata(metadata: dict[str, str], message: str, tmp_path: Path) -> None:
    path = save_safetensors(tmp_path / "a.safetensors", {"x": torch.zeros(1)}, **metadata)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


def test_weights_that_are_not_finite(module: torch.nn.Module, tmp_path: Path) -> None:
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    weights["model.0.conv.weight"][0, 0, 0, 0] = float("nan")
    with pytest.raises(CheckpointError, match="finite"):
        load_checkpoint(save_safetensors(tmp_path / "a.safetensors", weights))
    network = build_module("yolov8n-seg")
    network.load_state_dict(weights)
    save(tmp_path / "a.pt", network, train_args={"imgsz": 0})
    with pytest.raises(CheckpointError, match=r"finite.*others in model\.0\.conv\.weight"):
        load_checkpoint(tmp_path / "a.pt", trust=True)


def test_a_pickle_is_not_opened_without_a_word(pickled: Path, cache: Path) -> None:
    with pytest.raises(UntrustedCheckpointError) as caught:
        load_checkpoint(pickled)
    assert sha256(pickled) in str(caught.value)
    assert "trust=True" in str(caught.value)
    assert isinstance(caught.value, PermissionError)
    assert not cache.exists()


class _Intruder:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["INTRUDER_FOLDER"],)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n", b"weights"])
def test_what_is_no_pickle_is_not_to_be_trusted(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "coins.png"
    path.write_bytes(content)
    for trust in (False, True):
        with pytest.raises(CheckpointError, match="cannot be read as weights") as caught:
            load_checkpoint(path, trust=trust)
        assert "--trust" not in str(caught.value)


def test_an_untrusted_pickle_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTRUDER_FOLDER", str(tmp_path / "intruder"))
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(_Intruder()))
    with pytest.raises(UntrustedCheckpointError):
        load_checkpoint(tmp_path / "evil.pt")
    assert not (tmp_path / "intruder").exists()


def test_trust_is_remembered(pickled: Path, module: torch.nn.Module) -> None:
    first = load_checkpoint(pickled, trust=True)
    again = load_checkpoint(pickled)
    assert first.info == again.info
    assert (again.info.name, again.info.architecture, again.info.imgsz) == ("mine", "yolov8n-seg", 416)
    assert next(again.module.parameters()).dtype is torch.float32
    torch.testing.assert_close(outputs(again.module), outputs(module), atol=0.05, rtol=0.01)


def test_a_known_sha256_needs_no_word(pickled: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = replace(registry.MODELS["FastSAM-s"], sha256=sha256(pickled))
    monkeypatch.setitem(registry.MODELS, entry.name, entry)
    loaded = load_checkpoint(pickled)
    assert (loaded.info.name, loaded.info.imgsz, loaded.info.licence) == ("FastSAM-s", 1024, "AGPL-3.0-only")
    assert not cache.exists()


def test_a_named_model_comes_from_the_cache(pickled: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = replace(registry.MODELS["FastSAM-s"], sha256=sha256(pickled))
    monkeypatch.setitem(registry.MODELS, entry.name, entry)
    cache.mkdir()
    (cache / entry.file_name).write_bytes(pickled.read_bytes())
    assert load_checkpoint("fastsam-s").info.sha256 == entry.sha256


def test_a_model_of_unknown_sha256_is_trusted_on_first_use(pickled: Path, cache: Path) -> None:
    cache.mkdir()
    (cache / "FastSAM-x.pt").write_bytes(pickled.read_bytes())
    with pytest.raises(UntrustedCheckpointError, match=sha256(pickled)):
        load_checkpoint("FastSAM-x")
    assert load_checkpoint("FastSAM-x", trust=True).info.name == "FastSAM-x"
    assert load_checkpoint("FastSAM-x").info.conf == 0.4
    (cache / "FastSAM-x.pt").write_bytes(pickled.read_bytes() + b"changed")
    with pytest.raises(UntrustedCheckpointError):
        load_checkpoint("FastSAM-x")


def test_a_pickle_of_several_classes(tmp_path: Path) -> None:
    layout = tasks.yaml_model_load("yolov8n-seg.yaml")
    save(tmp_path / "a.pt", tasks.SegmentationModel({**layout, "nc": 3}, verbose=False))
    with pytest.raises(CheckpointError, match="3 classes"):
        load_checkpoint(tmp_path / "a.pt", trust=True)


def test_a_pickle_of_a_detector(tmp_path: Path) -> None:
    layout = tasks.yaml_model_load("yolov8n.yaml")
    save(tmp_path / "a.pt", tasks.DetectionModel({**layout, "nc": 1}, verbose=False))
    with pytest.raises(CheckpointError, match=r"not a YOLO segmentation network.*Detect"):
        load_checkpoint(tmp_path / "a.pt", trust=True)


@pytest.mark.parametrize("content", [{"model": None}, [1, 2], {"model": torch.nn.Linear(1, 1)}, {}])
def test_a_pickle_of_something_else(content: Any, tmp_path: Path, cache: Path) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="not a YOLO segmentation network"):
        load_checkpoint(tmp_path / "a.pt", trust=True)
    assert not cache.exists()


@pytest.mark.parametrize("length", [0, 10, 1000, -1000])
def test_a_truncated_pickle(length: int, pickled: Path, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(pickled.read_bytes()[:length])
    with pytest.raises(CheckpointError, match="cannot be read as weights"):
        load_checkpoint(tmp_path / "a.pt", trust=True)


@pytest.mark.parametrize("length", [0, 4, 5000, -100])
def test_truncated_safetensors(length: int, module: torch.nn.Module, tmp_path: Path) -> None:
    path = save_safetensors(tmp_path / "a.safetensors", module.state_dict())
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError, match="cannot be read as weights"):
        load_checkpoint(path)


def test_modules_that_ultralytics_has_moved(tmp_path: Path) -> None:
    """The official weights were saved when settings lived in ``ultralytics.yolo.utils``."""
    utils = import_ultralytics("ultralytics.utils")
    save(tmp_path / "new.pt", build_module("yolov8n-seg"), train_args=utils.IterableSimpleNamespace(imgsz=736))
    with zipfile.ZipFile(tmp_path / "new.pt") as new, zipfile.ZipFile(tmp_path / "old.pt", "w") as old:
        for item in new.infolist():
            content = new.read(item)
            if item.filename.endswith("data.pkl"):
                before = b"cultralytics.utils\nIterableSimpleNamespace"
                assert before in content
                content = content.replace(before, b"cultralytics.yolo.utils\nIterableSimpleNamespace")
            old.writestr(item.filename, content)
    assert load_checkpoint(tmp_path / "old.pt", trust=True).info.imgsz == 736


def test_neither_file_nor_name(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="no model or file"):
        load_checkpoint("~nobody.of.this.name/weights.pt")
    with pytest.raises(UnknownModelError, match="no model or file"):
        load_checkpoint(tmp_path / "absent.pt")
    with pytest.raises(UnknownModelError, match="is a folder"):
        load_checkpoint(tmp_path)
    (tmp_path / "best.safetensors").touch()
    with pytest.raises(UnknownModelError, match=r"name the file: .*best\.safetensors"):
        load_checkpoint(tmp_path)


def test_an_installation_without_its_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checkpoints, "__file__", str(tmp_path / "checkpoints.py"))
    with pytest.raises(CheckpointError, match="install the package again"):
        find_weights("builtin")


def test_the_table_tells_what_the_shipped_file_says() -> None:
    entry, info = registry.MODELS["builtin"], load_checkpoint("builtin").info
    assert (entry.imgsz, entry.conf, entry.iou) == (info.imgsz, info.conf, info.iou)
    assert (entry.architecture, entry.licence) == (info.architecture, info.licence)


@pytest.mark.parametrize("name", [None, 3, b"builtin"])
def test_what_names_no_model_is_refused(name: Any) -> None:
    with pytest.raises(InvalidParameterError, match="no model"):
        load_checkpoint(name)
