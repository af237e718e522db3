"""The table of models: where each one comes from, its sha256, licence and recommended settings. Data only."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from fastsam_core.errors import UnknownModelError

__all__ = ["BUILTIN", "MODELS", "ModelEntry", "find_model", "model_with_sha256"]

BUILTIN = "builtin"
"""Name of the model that ships with the package."""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model that can be loaded by name.

    Parameters
    ----------
    name : str
        What the user writes.
    file_name : str
        Name of the weights file, in the cache folder or (built-in model) inside the package.
    url : str or None
        Where it is downloaded from; None for the built-in model.
    sha256 : str or None
        Hash of the file in lower-case hexadecimal; None where it is not known and recorded on first use.
    size_bytes : int or None
        Size of the file where it is known.
    architecture : str
        Ultralytics' name of the network.
    licence : str
        SPDX identifier of the weights' licence.
    imgsz, conf, iou : int or tuple of int, float, float
        Recommended input size in pixels (several: masks of all are merged, the first is the main one), lowest score,
        and overlap above which the lower-scored box is dropped.
    description : str
        One line for people.
    """

    name: str
    file_name: str
    url: str | None
    sha256: str | None
    size_bytes: int | None
    architecture: str
    licence: str
    imgsz: int | tuple[int, ...]
    conf: float
    iou: float
    description: str


_ASSETS = "https://github.com/ultralytics/assets/releases/download/v8.4.0"

MODELS: dict[str, ModelEntry] = {
    entry.name: entry
    for entry in (
        ModelEntry(
            name=BUILTIN,
            file_name="builtin.safetensors",
            url=None,
            sha256=None,
            size_bytes=None,
            architecture="yolov8n-seg",
            licence="AGPL-3.0-only",
            imgsz=(640, 384),
            conf=0.16,
            iou=0.7,
            description="small model that ships with the package; adds a larger size where objects are small",
        ),
        ModelEntry(
            name="FastSAM-s",
            file_name="FastSAM-s.pt",
            url=f"{_ASSETS}/FastSAM-s.pt",
            sha256="c9f78716a81c7aff0d608ccc73e1b82ab3aaad86005049f6a92106a0be6d0844",
            size_bytes=23_851_578,
            architecture="yolov8s-seg",
            licence="AGPL-3.0-only",
            imgsz=1024,
            conf=0.4,
            iou=0.9,
            description="official small FastSAM, trained on 2 % of SA-1B (Zhao et al. 2023, arXiv 2306.12156)",
        ),
        ModelEntry(
            name="FastSAM-x",
            file_name="FastSAM-x.pt",
            url=f"{_ASSETS}/FastSAM-x.pt",
            sha256=None,
            size_bytes=None,
            architecture="yolov8x-seg",
            licence="AGPL-3.0-only",
            imgsz=1024,
            conf=0.4,
            iou=0.9,
            description="official large FastSAM, trained on 2 % of SA-1B (Zhao et al. 2023, arXiv 2306.12156)",
        ),
    )
}


def find_model(name: str) -> ModelEntry:
    """Look a model up by name; upper and lower case and a trailing ``.pt`` do not matter.

    Raises
    ------
    UnknownModelError
        If there is no such model; names the nearest ones.
    """
    wanted = _normalised(name)
    by_key = {_normalised(entry.name): entry for entry in MODELS.values()}
    if wanted in by_key:
        return by_key[wanted]
    near = [by_key[key].name for key in difflib.get_close_matches(wanted, by_key, n=2, cutoff=0.5)]
    raise UnknownModelError(
        f"There is no model or file {name!r}",
        expected=f"one of {', '.join(MODELS)}, or the path of a .safetensors or .pt file",
        remedy=f"did you mean {' or '.join(map(repr, near))}" if near else "list the models with: fastsam models list",
    )


def model_with_sha256(sha256: str) -> ModelEntry | None:
    """Return the model whose weights have this hash, or None."""
    return next((entry for entry in MODELS.values() if entry.sha256 == sha256), None)


def _normalised(name: str) -> str:
    return name.strip().lower().removesuffix(".pt").removesuffix(".safetensors").replace("_", "-")
