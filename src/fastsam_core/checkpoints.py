"""Find and load weights: our own safetensors, and Ultralytics ``.pt`` files whose sha256 is known or trusted.

A ``.pt`` file is a pickle: loading one can run any code its author put there. It is therefore read once into memory,
hashed, and unpickled from the very bytes that were hashed, only when that hash is in the table of models, was trusted
before, or the caller says ``trust=True``.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastsam_core import downloads
from fastsam_core._checks import as_imgsz, as_integer, as_number
from fastsam_core._ultralytics import import_ultralytics
from fastsam_core.errors import CheckpointError, InvalidParameterError, UnknownModelError, UntrustedCheckpointError
from fastsam_core.registry import BUILTIN, MODELS, ModelEntry, find_model, model_with_sha256

if TYPE_CHECKING:
    import torch

__all__ = ["Checkpoint", "ModelInfo", "build_module", "find_weights", "load_checkpoint"]

FORMAT = "fastsam-plugins/1"
"""Value of ``format`` in the metadata of our safetensors files."""

_ARCHITECTURE = re.compile(r"yolo(v8|11)[nsmlx]-seg")
_DEFAULT_IMGSZ, _DEFAULT_CONF, _DEFAULT_IOU = 1024, 0.4, 0.9
NUMBERS: Final[Mapping[str, float]] = {
    "conf": 1,
    "iou": 1,
    "mask_threshold": 1,
    "mask_margin": math.inf,
    "cut_penalty": math.inf,
    "least_part": 1,
    "threshold_share": 1,
    "overlap_penalty": math.inf,
}
"""The largest value allowed of each number in the metadata of our files; the least is 0."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known about loaded weights.

    Parameters
    ----------
    name : str
        Name in the table of models, or the file's name.
    sha256 : str
        Hash of the weights file; empty for a network made in memory.
    architecture : str
        Ultralytics' name of the network.
    licence : str
        Licence of the weights, ``"unknown"`` where the file does not say.
    imgsz, conf, iou : int or tuple of int, float, float
        Recommended settings for `FastSAM.segment`.
    adaptive : bool
        Whether ``imgsz="auto"`` is recommended: a size may be added, chosen by the objects that the first one finds.
    mask_threshold : float
        Probability above which a pixel belongs to a mask; not 0.5 for weights trained with weighted pixels.
    mask_margin : float
        How far beyond boxes masks were learnt, in parts of a box's width and height; boxes of large masks grow by so
        much at most (`fastsam_core.cuts.follow_masks`). Official models have 0, whose boxes stay as they are.
    cut_penalty : float
        How much masks lose of their scores that their boxes cut off (`fastsam_core.cuts.demote_cut`); official models
        have 0, which leaves scores alone.
    least_part : float
        Parts of a mask below this share of its largest part are left out (`fastsam_core.Masks.without_small_parts`);
        official models have 0, whose masks stay as they are.
    threshold_share : float
        Each mask is cut at this part of its own best threshold (`fastsam_core.thresholds.cut_each_best`); official
        models have 0, which cuts all at ``mask_threshold``.
    overlap_penalty : float
        How much masks lose of their scores that overlap with surer ones (`fastsam_core.overlaps.demote_overlapping`);
        official models have 0, which leaves scores alone.
    stride : int
        Largest stride of the network in pixels.
    details : mapping of str to str
        Further metadata of the file.
    """

    name: str
    sha256: str = ""
    architecture: str = "unknown"
    licence: str = "unknown"
    imgsz: int | tuple[int, ...] = _DEFAULT_IMGSZ
    conf: float = _DEFAULT_CONF
    iou: float = _DEFAULT_IOU
    adaptive: bool = False
    mask_threshold: float = 0.5
    mask_margin: float = 0.0
    cut_penalty: float = 0.0
    least_part: float = 0.0
    threshold_share: float = 0.0
    overlap_penalty: float = 0.0
    stride: int = 32
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A network with its weights, float32, in evaluation mode, on the CPU, and what is known about it."""

    module: torch.nn.Module
    info: ModelInfo


def find_weights(
    name_or_path: str | Path, progress: downloads.Progress | None = None
) -> tuple[Path, ModelEntry | None]:
    """Return the weights file of a model name or path, downloading a named model where it is not in the cache.

    Raises
    ------
    UnknownModelError
        If it is neither a file nor a model's name.
    InvalidParameterError
        If it is neither text nor a path.
    WeightsDownloadError, OutputError
        See `downloads.fetch`.
    """
    try:
        path = Path(os.path.expanduser(name_or_path))  # leaves ~name as it is where there is no such user
    except TypeError as error:
        raise InvalidParameterError(
            "This names no model",
            expected="a model's name, or the path of a weights file",
            actual=repr(name_or_path),
            remedy="leave it out for the built-in model",
        ) from error
    if name_or_path not in MODELS and path.is_file():
        return path, None
    try:
        entry = find_model(str(name_or_path))
    except UnknownModelError as error:
        if not path.is_dir():
            raise
        found = sorted(file.name for file in path.glob("*.safetensors"))
        raise UnknownModelError(
            f"{path} is a folder",
            expected="a model's name, or the path of a weights file",
            actual="a folder with " + (", ".join(found[:3]) or "no .safetensors file"),
            remedy=f"name the file: {path / found[0]}" if found else "name the weights file itself",
        ) from error
    if entry.url is not None:
        return downloads.fetch(entry, progress), entry
    path = Path(__file__).parent / "weights" / entry.file_name
    if not path.is_file():
        raise CheckpointError(
            "The built-in model is missing from this installation",
            expected=str(path),
            remedy="install the package again: pip install --force-reinstall fastsam-plugins",
        )
    return path, entry


def load_checkpoint(
    name_or_path: str | Path = BUILTIN, *, trust: bool = False, progress: downloads.Progress | None = None
) -> Checkpoint:
    """Load a one-class YOLOv8-seg or YOLO11-seg network.

    Parameters
    ----------
    name_or_path : str or Path
        A model's name, or a ``.safetensors`` or ``.pt`` file.
    trust : bool
        Unpickle a ``.pt`` file of unknown sha256; the hash is recorded and needs no such word again.
    progress : callable, optional
        Called with (bytes received, bytes expected) during a download.

    Raises
    ------
    UnknownModelError, InvalidParameterError, WeightsDownloadError, OutputError
        See `find_weights`.
    UntrustedCheckpointError
        If the file is a pickle whose sha256 is neither known nor trusted.
    CheckpointError
        If the file is damaged or holds another kind of network.
    """
    path, entry = find_weights(name_or_path, progress)
    if path.suffix.lower() == ".safetensors":
        return _load_safetensors(path, entry)
    return _load_pickle(path, entry, trusted=trust)


def build_module(architecture: str, reg_max: int = 16) -> torch.nn.Module:
    """Build an untrained one-class network, float32, in evaluation mode.

    Raises
    ------
    CheckpointError
        If the architecture is not a YOLOv8-seg or YOLO11-seg one.
    """
    if not _ARCHITECTURE.fullmatch(architecture):
        raise CheckpointError(
            f"The architecture {architecture!r} is not supported",
            expected="yolov8n-seg, yolov8s-seg, yolov8m-seg, yolov8l-seg, yolov8x-seg or one of yolo11n-seg to x",
        )
    tasks = import_ultralytics("ultralytics.nn.tasks")
    layout = tasks.yaml_model_load(f"{architecture}.yaml")
    module: torch.nn.Module = tasks.SegmentationModel({**layout, "nc": 1, "reg_max": reg_max}, verbose=False)
    return module.eval()


def _load_safetensors(path: Path, entry: ModelEntry | None) -> Checkpoint:
    import safetensors

    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}
    except (safetensors.SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path.name} was not written by this project",
            expected=f"metadata with format {FORMAT!r}",
            actual=f"format {metadata.get('format')!r}",
        )
    if metadata.get("nc", "1") != "1":
        raise _several_classes(path, metadata["nc"])
    try:
        numbers: dict[str, Any] = {
            key: as_number(key, float(metadata[key]), 0, most) for key, most in NUMBERS.items() if key in metadata
        }
        info = ModelInfo(
            name=entry.name if entry else path.stem,
            sha256=downloads.file_sha256(path),
            architecture=metadata.get("architecture", "unknown"),
            licence=metadata.get("licence", "unknown"),
            imgsz=_sizes(metadata.get("imgsz", str(_DEFAULT_IMGSZ))),
            adaptive=metadata.get("adaptive", "0") == "1",
            details=metadata,
            **numbers,
        )
        reg_max = as_integer("reg_max", int(metadata.get("reg_max", "16")), 1)
    except ValueError as error:
        raise CheckpointError(
            f"{path.name} has metadata that do not make sense",
            expected="imgsz, conf and the like as this project writes them",
            actual=str(error),
            remedy="write it anew: python -m fastsam_core.training.export FILE NEW --conf 0.25 --imgsz 640",
        ) from error
    module = build_module(info.architecture, reg_max)
    expected = module.state_dict()
    needed = {name for name in expected if not name.endswith("num_batches_tracked")}
    wrong = sorted(
        {name for name in needed if name not in weights or not weights[name].is_floating_point()}
        | {name for name, tensor in weights.items() if name not in expected or tensor.shape != expected[name].shape}
    )
    if wrong:
        raise CheckpointError(
            f"{path.name} does not hold the weights of {info.architecture}",
            expected=f"{len(needed)} tensors of floats",
            actual=f"{len(wrong)} missing, unknown, of another shape or not of floats: {', '.join(wrong[:3])}",
            remedy="train or export anew",
        )
    module.load_state_dict({name: tensor.to(expected[name].dtype) for name, tensor in weights.items()}, strict=False)
    _check_finite(path, module)
    return Checkpoint(module, info)


def _check_finite(path: Path, module: torch.nn.Module) -> None:
    """Refuse what a training that went astray leaves behind: it would find nothing, and not say why."""
    for name, tensor in module.state_dict().items():
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(
                f"{path.name} holds weights that are not finite numbers",
                expected="finite numbers",
                actual=f"others in {name}",
                remedy="train or export anew",
            )


def _sizes(text: str) -> int | tuple[int, ...]:
    """Read one test size, or several separated by commas."""
    sizes = tuple(as_imgsz(int(size)) for size in text.split(","))
    return sizes if len(sizes) > 1 else sizes[0]


_PICKLED: Final = (b"PK", b"\x80")
"""How PyTorch's files begin: as a zip archive, or in its old format as a pickle."""


def _load_pickle(path: Path, entry: ModelEntry | None, *, trusted: bool) -> Checkpoint:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _damaged(path, error) from error
    if not content.startswith(_PICKLED):
        raise _damaged(path, ValueError("neither of the two" if content else "it is empty"))
    sha256 = hashlib.sha256(content).hexdigest()
    entry = model_with_sha256(sha256) or (entry if entry is not None and entry.sha256 is None else None)
    known = entry is not None and entry.sha256 == sha256
    if not (known or trusted or downloads.is_trusted(sha256)):
        raise UntrustedCheckpointError(
            f"{path.name} is a pickle of unknown origin, and loading it can run any code its author put there",
            expected="a sha256 from the table of models",
            actual=f"sha256 {sha256}",
            remedy="if you trust its source, load it with trust=True (command line: --trust); "
            "the sha256 is then remembered",
        )
    module, train_args = _unpickle(path, content)
    _check_head(path, module)
    _check_finite(path, module)
    if trusted and not known:
        downloads.trust(sha256, path.name)
    try:
        imgsz = as_imgsz(train_args.get("imgsz"))
    except InvalidParameterError:
        imgsz = _DEFAULT_IMGSZ
    return Checkpoint(
        module,
        ModelInfo(
            name=entry.name if entry else path.stem,
            sha256=sha256,
            architecture=entry.architecture if entry else _architecture_of(module),
            licence=entry.licence if entry else "unknown",
            imgsz=entry.imgsz if entry else imgsz,
            conf=entry.conf if entry else _DEFAULT_CONF,
            iou=entry.iou if entry else _DEFAULT_IOU,
            stride=int(module.model[-1].stride.max()),
        ),
    )


def _unpickle(path: Path, content: bytes) -> tuple[Any, Mapping[str, Any]]:
    """Unpickle an Ultralytics checkpoint of any 8.x version; returns the float32 network and its training settings."""
    import torch

    tasks = import_ultralytics("ultralytics.nn.tasks")
    # Folders that Ultralytics has moved since the official FastSAM weights were saved (torch_safe_load has this list).
    moved = {
        "ultralytics.yolo.utils": "ultralytics.utils",
        "ultralytics.yolo.v8": "ultralytics.models.yolo",
        "ultralytics.yolo.data": "ultralytics.data",
    }
    try:
        with tasks.temporary_modules(modules=moved):
            saved = torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)
    except Exception as error:  # a damaged or foreign pickle can raise anything
        raise _damaged(path, error) from error
    module = (saved.get("ema") or saved.get("model")) if isinstance(saved, dict) else None
    if not isinstance(module, torch.nn.Module):
        raise _not_a_segmentation_network(path, type(module or saved).__name__)
    train_args = saved.get("train_args") or {}
    module = module.float().eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    for part in module.modules():
        if isinstance(part, torch.nn.Upsample) and not hasattr(part, "recompute_scale_factor"):
            part.recompute_scale_factor = None
    return module, train_args if isinstance(train_args, Mapping) else vars(train_args)


def _check_head(path: Path, module: Any) -> None:
    head_module = import_ultralytics("ultralytics.nn.modules.head")
    layers = getattr(module, "model", None)
    head = layers[-1] if layers is not None and hasattr(layers, "__getitem__") and len(layers) else None
    if not isinstance(head, head_module.Segment):
        raise _not_a_segmentation_network(path, type(head or module).__name__)
    if head.nc != 1:
        raise _several_classes(path, str(head.nc))
    if getattr(head, "end2end", False) or not hasattr(module, "fuse"):
        raise _not_a_segmentation_network(path, f"{type(head).__name__} without the usual suppression step")


def _architecture_of(module: Any) -> str:
    layout = getattr(module, "yaml", None)
    return Path(layout.get("yaml_file", "unknown")).stem if isinstance(layout, Mapping) else "unknown"


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path.name} cannot be read as weights",
        expected="a whole .safetensors file or Ultralytics .pt file",
        actual=f"{type(error).__name__}: {str(error)[:200]}",
        remedy="download or export the file again",
    )


def _several_classes(path: Path, count: str) -> CheckpointError:
    return CheckpointError(
        f"{path.name} tells several classes apart; FastSAM needs a network that finds objects of any kind",
        expected="1 class",
        actual=f"{count} classes",
        remedy="train with single_cls=True",
    )


def _not_a_segmentation_network(path: Path, actual: str) -> CheckpointError:
    return CheckpointError(
        f"{path.name} is not a YOLO segmentation network",
        expected="an Ultralytics YOLOv8-seg or YOLO11-seg checkpoint",
        actual=actual,
    )
