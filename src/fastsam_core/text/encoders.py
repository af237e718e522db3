"""The table of text encoders, and which one is meant when none is named. Data only; nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastsam_core import downloads

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["DEMO", "ENCODERS", "RECOMMENDED", "EncoderEntry", "cache_folder", "default_encoder", "demo_folder", "find"]

DEMO: Final = "demo"
"""Name of the encoder that ships with the package; it knows a few dozen words."""
RECOMMENDED: Final = "ViT-B-32-256/datacomp_s34b_b86k"
"""Name of the encoder to use in earnest; downloaded when it is asked for."""

CONFIG_FILE: Final = "open_clip_config.json"
WEIGHTS_FILE: Final = "open_clip_model.safetensors"
WEIGHTS_FILES: Final = (WEIGHTS_FILE, "open_clip_pytorch_model.bin")
"""Names that weights have on the hub, the preferred one first."""


@dataclass(frozen=True, slots=True)
class EncoderEntry:
    """One encoder that is worth a line in a list; `TextEncoder.load` takes any other of open_clip's as well.

    Parameters
    ----------
    name : str
        What the user writes: ``demo``, or open_clip's model and tag with a slash between.
    repository : str or None
        Where the Hugging Face hub has it; None for the encoder in the package.
    size_bytes : int
        About so much is downloaded.
    licence : str
        SPDX identifier of the weights' licence.
    accuracy : float or None
        Zero-shot top-1 on ImageNet in per cent as open_clip's table of pretrained models gives it.
    description : str
        One line for people.
    """

    name: str
    repository: str | None
    size_bytes: int
    licence: str
    accuracy: float | None
    description: str

    def weights_path(self) -> Path | None:
        """Return the weights file if it is on this machine."""
        if self.repository is None:
            path = demo_folder() / WEIGHTS_FILE
            return path if path.is_file() else None
        return cached_file(self.repository, WEIGHTS_FILES)

    def is_cached(self) -> bool:
        """Tell whether it can be loaded without a download."""
        return self.weights_path() is not None


ENCODERS: Final[dict[str, EncoderEntry]] = {
    entry.name: entry
    for entry in (
        EncoderEntry(
            DEMO,
            None,
            6_100_000,
            "AGPL-3.0-only",
            None,
            "tiny, ships with the package: colours, drawn shapes and a dozen kinds of things; for trying out",
        ),
        EncoderEntry(
            RECOMMENDED,
            "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K",
            605_000_000,
            "MIT",
            72.8,
            "recommended: nearly as accurate as ViT-B-16 at a third of its cost on a CPU",
        ),
        EncoderEntry(
            "ViT-B-16/datacomp_xl_s13b_b90k",
            "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K",
            599_000_000,
            "MIT",
            73.5,
            "finer patches, three times slower",
        ),
        EncoderEntry(
            "ViT-L-14/datacomp_xl_s13b_b90k",
            "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
            1_710_000_000,
            "MIT",
            79.2,
            "large, for a GPU",
        ),
    )
}


def default_encoder() -> str:
    """Return the name that stands for no name: the recommended encoder if it is in the cache, else the demo's."""
    return RECOMMENDED if ENCODERS[RECOMMENDED].is_cached() else DEMO


def demo_folder() -> Path:
    """Return the folder of the encoder in the package."""
    return Path(__file__).parents[1] / "weights" / "demo-text"


def cache_folder() -> Path:
    """Return the folder for downloaded encoders, laid out as the Hugging Face hub's cache. Not created here."""
    return downloads.cache_folder() / "text-encoders"


def cached_file(repository: str, names: Iterable[str]) -> Path | None:
    """Return the first of the files of a repository on the hub that is in the cache, newest snapshot first."""
    snapshots = cache_folder() / f"models--{repository.replace('/', '--')}" / "snapshots"
    if not snapshots.is_dir():
        return None
    folders = sorted(snapshots.iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)
    found = (folder / name for folder in folders for name in names)
    return next((path for path in found if path.is_file()), None)


def find(name: str) -> EncoderEntry | None:
    """Return the encoder of a name, or of a model's name without its tag; None if it is not in the table."""
    wanted = name.strip().lower()
    for entry in ENCODERS.values():
        if wanted in (entry.name.lower(), entry.name.partition("/")[0].lower()):
            return entry
    return None
