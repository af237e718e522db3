"""The Berkeley data set of boundaries, BSDS500 (Arbelaez et al., PAMI 2011): images and what each annotator drew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastsam_core._files import DAMAGED
from fastsam_core.errors import AnnotationError
from fastsam_core.evaluation.boundaries import boundaries_of_labels

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["BoundaryData", "read_boundaries"]

_ROOTS = ("", "data", "BSDS500/data", "BSR/BSDS500/data")
_TRUTHS = (("gt", ".npz"), ("groundTruth", ".mat"))


class BoundaryData:
    """One split: ``images/<split>/<id>.jpg`` and ``groundTruth/<split>/<id>.mat`` or ``gt/<split>/<id>.npz``.

    Parameters
    ----------
    folder : Path
        The data set, or a folder above it in the original archive.
    split : str
        Name of the sub-folders, ``"test"`` for example.

    Raises
    ------
    AnnotationError
        If there is no such split, or an image has no annotation or the other way round.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self.split = split
        root = next((folder / name for name in _ROOTS if (folder / name / "images" / split).is_dir()), None)
        if root is None:
            raise AnnotationError(
                f"There is no images/{split} in {folder}",
                expected="the folder of BSDS500",
                remedy="name the folder that holds images/, or choose a split that is there",
            )
        place = next(
            ((root / name / split, suffix) for name, suffix in _TRUTHS if (root / name / split).is_dir()), None
        )
        if place is None:
            raise AnnotationError(f"There is no groundTruth/{split} and no gt/{split} in {root}")
        images = {path.stem: path for path in sorted((root / "images" / split).glob("[!.]*.jpg"))}
        truths = {path.stem: path for path in sorted(place[0].glob(f"[!.]*{place[1]}"))}
        lonely = sorted(images.keys() ^ truths.keys())
        if lonely or not images:
            raise AnnotationError(
                f"Images and annotations of {root} ({split}) do not belong together",
                expected=f"one {place[1]} file for each image",
                actual=f"{len(lonely)} without the other, such as {lonely[0]}" if lonely else "no images",
            )
        self.images = list(images.values())
        self.truths = [truths[stem] for stem in images]


def read_boundaries(path: Path) -> list[NDArray[np.bool_]]:
    """Read the boundaries that each annotator drew, thin, shape (H, W) each.

    Parameters
    ----------
    path : Path
        The benchmark's own ``.mat`` file, or an ``.npz`` of label maps ``seg0``, ``seg1`` …

    Raises
    ------
    AnnotationError
        If the file cannot be read or holds nothing of the kind.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        if path.suffix == ".mat":
            people = loadmat(path)["groundTruth"].ravel()
            drawn = [np.asarray(person["Boundaries"][0, 0]).astype(bool) for person in people]
        else:
            # NumPy leaves a file that it opened itself open where it is damaged
            with path.open("rb") as stream, np.load(stream) as file:
                drawn = [boundaries_of_labels(file[name]) for name in sorted(file.files) if name.startswith("seg")]
    except (*DAMAGED, LookupError, MatReadError) as error:
        raise AnnotationError(
            f"{path} cannot be read", expected="annotations of BSDS500", actual=f"{type(error).__name__}: {error}"
        ) from error
    if not drawn or any(boundary.ndim != 2 or boundary.shape != drawn[0].shape for boundary in drawn):
        raise AnnotationError(f"{path} holds no boundaries of one image")
    return drawn
