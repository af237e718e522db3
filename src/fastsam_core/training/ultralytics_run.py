"""``fastsam train``: a run of Ultralytics' trainer with a recipe, its folder, its resume, and what it exports."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fastsam_core._files import write_json
from fastsam_core._processor import multiplies_bf16
from fastsam_core._ultralytics import import_ultralytics
from fastsam_core.errors import (
    AnnotationError,
    BackendUnavailableError,
    CheckpointError,
    InvalidParameterError,
    MissingDependencyError,
)
from fastsam_core.training.recipes import NETWORKS, RECIPES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fastsam_core.training.sources import Split

__all__ = ["TrainRequest", "train"]

LOGGER = logging.getLogger(__name__)
_NUMBERS = ("imgsz", "epochs", "batch", "patience", "reg_max")
_CHECKED_IMAGES = 60
"""Validation images of each source from which the score threshold is chosen."""


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """What to train; what is left out comes from the recipe.

    Parameters
    ----------
    data : Path
        A converted data set, or a ``data.yaml`` of Ultralytics with one class.
    run : Path
        Folder for checkpoints, logs and ``best.safetensors``.
    recipe : str
        One of `RECIPES`.
    network : str, optional
        ``"n"``, ``"s"``, ``"m"``, ``"l"`` or ``"x"``.
    imgsz, epochs, batch, patience, reg_max : int, optional
        See `fastsam_core.training.recipes.Recipe`.
    device : str
        ``"auto"`` (the first GPU, else the CPU), ``"cpu"``, ``"0"``, or ``"0,1"`` for several GPUs.
    workers : int
        Processes that load data, for each GPU.
    seed : int
        Of initial weights and batches.
    """

    data: Path
    run: Path
    recipe: str = "small"
    network: str | None = None
    imgsz: int | None = None
    epochs: int | None = None
    batch: int | None = None
    patience: int | None = None
    reg_max: int | None = None
    device: str = "auto"
    workers: int = 1
    seed: int = 0


def train(request: TrainRequest, *, resume: bool = False, settings: Mapping[str, object] | None = None) -> Path:
    """Train, or continue a run, and export the best weights.

    Parameters
    ----------
    request : TrainRequest
        The run.
    resume : bool
        Continue after its last whole epoch, with the settings it was begun with.
    settings : mapping, optional
        Further settings of Ultralytics.

    Returns
    -------
    Path
        ``best.safetensors`` in the run's folder: the weights with the best validation recall (AR@100), fp16, with
        architecture, ``reg_max``, input size and thresholds inside.

    Raises
    ------
    InvalidParameterError
        If there is no such recipe or network, or the run is there already.
    AnnotationError
        If the data cannot be read or have no instances.
    CheckpointError
        If there is nothing to resume, or the run is of another network or was begun with other settings.
    TrainingError
        If the loss is not finite, or one of several processes ends with an error; the last checkpoint is kept.
    OutputError
        If a checkpoint cannot be written; the previous one is kept.
    BackendUnavailableError
        If there is no such device.
    MissingDependencyError
        If several GPUs are asked for and cloudpickle is not there.
    """
    import torch

    from fastsam_core.training.one_class import OneClassTrainer
    from fastsam_core.training.trainer import TrainingError

    data = _data_file(request.data)
    facts = _facts(request)
    is_converted = (data.parent / "manifest.json").is_file()
    if is_converted and _checked_split(data.parent) == "train":
        LOGGER.warning("nothing is held back for validation: weights and thresholds are chosen on images trained on")
    request.run.mkdir(parents=True, exist_ok=True)
    last = request.run / "ultralytics" / "weights" / "last.pt"
    record = request.run / "run.json"
    if resume:
        facts = _check_resumable(request, record, last)
    elif last.is_file():
        raise InvalidParameterError(
            f"{request.run} holds a run already", remedy="add --resume, or choose another --run"
        )
    else:
        layout = request.run / "network.yaml"
        import_ultralytics("ultralytics.utils").YAML.save(layout, _layout(facts))
        write_json(record, {**facts, "data": str(data.resolve())})
    overrides = {**_overrides(request, facts, data), **(settings or {})}
    overrides |= {"resume": str(last)} if resume else {"model": str(request.run / "network.yaml")}
    if "," in str(overrides["device"]):
        _prepare_processes()
    try:
        trainer = OneClassTrainer(overrides=overrides)
        trainer.train()
    except (RuntimeError, FileNotFoundError) as error:
        if str(error).startswith("Dataset") or "No images found" in str(error):
            raise AnnotationError(f"{data} cannot be trained on", actual=str(error)) from error
        raise
    except subprocess.CalledProcessError as error:  # one of several processes; its own error is in the output
        raise TrainingError(
            "A training process ended with an error",
            actual=f"exit status {error.returncode}; its message is above",
            remedy=f"mend what it says, then add --resume: checkpoints are in {last.parent}",
        ) from error
    except AssertionError as error:  # Ultralytics' way to say that all epochs are done
        raise CheckpointError(
            f"{request.run} cannot be resumed",
            actual=f"all {facts['epochs']} epochs are done",
            remedy="use its best.safetensors, or train longer with --epochs and another --run",
        ) from error
    except ValueError as error:
        if "CUDA" not in str(error):
            raise
        raise BackendUnavailableError(
            "There is no such device to train on",
            expected="auto, cpu, or numbers of GPUs that torch sees: 0 or 0,1",
            actual=f"{request.device}; {torch.cuda.device_count()} GPUs",
            remedy="leave --device out, or install a torch for this machine's GPU",
        ) from error
    best = request.run / "best.safetensors"
    if is_converted:
        write_thresholds(best, data.parent, int(facts["imgsz"]))
    return best


def write_thresholds(weights: Path, dataset: Path, imgsz: int) -> None:
    """Choose score and overlap thresholds on validation images, or those trained on, and store them in the weights."""
    from fastsam_core.training.datasets.loading import load_split
    from fastsam_core.training.export import change_facts
    from fastsam_core.training.scoring import evaluate
    from fastsam_core.training.validate import Setting, cases_of, load_model, segmenter

    split = _checked_split(dataset)
    cases = cases_of(s for pool in load_split(dataset, split, most=_CHECKED_IMAGES) for s in pool.samples)
    model = load_model(str(weights))
    found = {iou: evaluate(segmenter(model, Setting(str(imgsz), iou)), cases) for iou in (0.5, 0.7, 0.9)}
    iou = max(found, key=lambda key: found[key].best_f1)
    conf = f"{max(found[iou].best_conf, 0.05):.2f}"
    LOGGER.info("thresholds from %d images (%s): conf %s, iou %s", found[iou].images, split, conf, iou)
    change_facts(weights, weights, {"conf": conf, "iou": str(iou)})


def _checked_split(dataset: Path) -> Split:
    """Return the split that the trained weights are checked on: small sets may have nothing held back."""
    from fastsam_core.training.datasets.manifest import Dataset

    held_back = any(entry.instances["val"] for entry in Dataset.open(dataset).sources.values())
    return "val" if held_back else "train"


def _facts(request: TrainRequest) -> dict[str, Any]:
    if request.recipe not in RECIPES:
        raise InvalidParameterError("Unknown recipe", expected=f"one of {', '.join(RECIPES)}", actual=request.recipe)
    recipe = RECIPES[request.recipe]
    network = request.network or recipe.network
    if network not in NETWORKS:
        raise InvalidParameterError("Unknown network", expected=f"one of {', '.join(NETWORKS)}", actual=network)
    given = {key: value for key, value in asdict(request).items() if value is not None}
    numbers = {name: int(given.get(name, getattr(recipe, name))) for name in _NUMBERS}
    if min(numbers.values()) < 1 or numbers["reg_max"] < 2 or numbers["imgsz"] < 32:
        raise InvalidParameterError("A setting is out of range", expected="positive numbers", actual=str(numbers))
    return {"recipe": request.recipe, "architecture": NETWORKS[network], "seed": request.seed, **numbers}


def _layout(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole layout of a network, with its scale, ``reg_max`` and one class."""
    layout = import_ultralytics("ultralytics.nn.tasks").yaml_model_load(f"{facts['architecture']}.yaml")
    return {
        **{key: value for key, value in layout.items() if key != "yaml_file"},
        "nc": 1,
        "reg_max": facts["reg_max"],
        "architecture": facts["architecture"],
    }


def _overrides(request: TrainRequest, facts: Mapping[str, Any], data: Path) -> dict[str, object]:
    import torch

    device = request.device
    if device == "auto":
        device = "0" if torch.cuda.is_available() else "cpu"
    return {
        **RECIPES[facts["recipe"]].settings,
        **{name: facts[name] for name in ("imgsz", "epochs", "batch", "patience", "seed")},
        **_mixing(data, str(facts["recipe"])),
        "data": str(data),
        "project": str(request.run.resolve()),
        "name": "ultralytics",
        "exist_ok": True,
        "single_cls": True,
        "overlap_mask": False,
        "pretrained": False,
        "plots": False,
        "amp": _autocast(device),
        "device": device,
        "workers": request.workers,
    }


def _mixing(data: Path, recipe: str) -> dict[str, object]:
    """Mosaics join images of several sources: not where these differ in what their background means."""
    from fastsam_core.training.one_class import background_weights

    if len(set(background_weights(data).values())) < 2:
        return {}
    LOGGER.warning("sources differ in what is annotated: training without mosaics (recipe %s)", recipe)
    return {"mosaic": 0.0}


def _autocast(device: str) -> object:
    """Bf16 wherever it is native: it needs no gradient scaling, and no check that downloads a network."""
    import torch

    if device == "cpu":
        return multiplies_bf16()
    if torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16"
    return True


def _prepare_processes() -> None:
    """Give Ultralytics' launcher what it needs: a folder for its script, and a package it would install by itself."""
    from importlib.util import find_spec

    if find_spec("cloudpickle") is None:
        raise MissingDependencyError(
            "Training on several GPUs needs cloudpickle", remedy="run: pip install 'cloudpickle>=3.1.1'"
        )
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    import_ultralytics("ultralytics.utils").USER_CONFIG_DIR.mkdir(parents=True, exist_ok=True)


def _data_file(data: Path) -> Path:
    path = data / "data.yaml" if data.is_dir() else data
    if not path.is_file():
        raise AnnotationError(
            f"There is no {path}",
            expected="a converted data set or a data.yaml",
            remedy="if it was moved, say where it is with --data, also to resume a run; or run: fastsam data convert",
        )
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise AnnotationError(
            f"{path} is no list of data",
            expected="a converted data set or a data.yaml",
            actual=f"a file that ends in {path.suffix or 'no suffix'!r}",
            remedy="convert annotations first: fastsam data convert",
        )
    return path


def _check_resumable(request: TrainRequest, record: Path, last: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(record.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{request.run} holds no run to resume", actual=str(error), remedy="begin it without --resume"
        ) from error
    if not last.is_file():
        raise CheckpointError(f"{request.run} holds no checkpoint yet", remedy="start it again without --resume")
    wanted = NETWORKS.get(request.network or "")
    if wanted is not None and wanted != facts["architecture"]:
        raise CheckpointError(f"{last} belongs to another network", expected=wanted, actual=str(facts["architecture"]))
    for name in ("recipe", "seed", *_NUMBERS):
        value = getattr(request, name)
        if value not in (TrainRequest.__dataclass_fields__[name].default, facts[name]):
            raise CheckpointError(
                f"{request.run} was begun with another {name}, which stays",
                expected=str(facts[name]),
                actual=str(value),
                remedy=f"leave --{name.replace('_', '-')} out, or begin another --run",
            )
    return facts
