"""``ultralytics.SAM`` as a side of the speed table: a network pass for the image, and one for every prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastsam_core._ultralytics import import_ultralytics
from fastsam_core.errors import CheckpointError, InvalidParameterError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from fastsam_core.evaluation.speed import Answer

__all__ = ["SamPeer", "sam_peer"]


@dataclass(frozen=True, slots=True)
class SamPeer:
    """What `speed.time_cases` needs of SAM.

    Parameters
    ----------
    name : str
    parameters : int
    device : str
    answer : Answer
        Each point is an object; with a grid SAM segments everything.
    """

    name: str
    parameters: int
    device: str
    answer: Answer


def sam_peer(weights: Path | None, rgb8: NDArray[np.uint8], device: str = "auto") -> SamPeer:
    """Load SAM from a local file.

    Raises
    ------
    InvalidParameterError
        If there is no such file.
    CheckpointError
        If the file is no SAM that Ultralytics knows by its name.
    """
    if weights is None or not weights.is_file():
        raise InvalidParameterError(
            "SAM needs weights that are on this machine",
            expected="a file such as mobile_sam.pt or sam_b.pt",
            actual=str(weights),
            remedy="download it as Ultralytics' documentation of SAM says, and give its path",
        )
    try:
        model = import_ultralytics("ultralytics").SAM(str(weights))
    except Exception as error:  # Ultralytics and torch raise whatever they meet in a foreign file
        raise CheckpointError(
            f"{weights.name} cannot be loaded as SAM",
            expected="a SAM checkpoint under its usual name",
            actual=str(error),
        ) from error
    bgr = np.ascontiguousarray(rgb8[..., ::-1])
    height, width = bgr.shape[:2]
    options = {"verbose": False} if device == "auto" else {"verbose": False, "device": device}
    model.predict(bgr, points=[[width / 2, height / 2]], labels=[1], **options)  # makes the predictor

    def answer(points_yx: NDArray[np.float64], grid: int | None) -> int:
        model.predictor.reset_image()
        if grid is not None:
            found = model.predictor(source=bgr, points_stride=grid)[0]
        else:
            points = points_yx[:, ::-1].tolist()
            found = model.predict(bgr, points=points, labels=[1] * len(points), **options)[0]
        return 0 if found.masks is None else len(found.masks)

    parameters = sum(parameter.numel() for parameter in model.model.parameters())
    return SamPeer(f"ultralytics.SAM ({weights.stem})", parameters, str(model.predictor.device), answer)
