"""Labelled training sources: where they are, what their background means, and how they are split.

Every instance of an image is stored in one of a few *layers*: label maps of shape (L, H, W), uint16, in which 0 is
background and instance ids are unique over all layers. Nested parts live in a deeper layer than their whole, so both
survive every geometric transform at the cost of one more nearest-neighbour resize.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import ndimage

from fastsam_core.errors import AnnotationError
from fastsam_core.training.photometric import is_coloured

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

Split = Literal["train", "val"]
Domain = Literal["photo", "micro"]

FULL_WEIGHT = 255
"""Background weight 1.0 in the uint8 weight maps."""
_BRIGHT = 100.0
_VAL_SHARE = 0.12
_CLICK = np.array([[0, 1, 1, 1, 0], [1] * 5, [1] * 5, [1] * 5, [0, 1, 1, 1, 0]], bool)
"""What one click of an annotator's brush leaves, mostly where nothing is to be seen."""


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """One folder of labelled images.

    Attributes
    ----------
    name : str
        Folder name below the data root.
    share : float
        Relative share among the real training crops.
    background_weight : float
        Weight in [0, 1] of unannotated pixels as negatives: 1 where everything of the kind is annotated, about 0.15
        for gaps of dense annotations, 0.03 where most objects are not annotated.
    domain : {"photo", "micro"}
        Which colour augmentations and pasted objects make sense.
    partial : bool
        Only some objects are annotated: crops are centred on one of them.
    paste : bool
        Whether its instances may be cut out and pasted elsewhere.
    held_out : bool
        The whole source is validation data.
    guess : bool
        Regions that nobody annotated, guessed by `regions.stable_regions`, are targets too.
    crowd : bool
        Cells, all annotated: copies of them may be set beside others.
    balance : bool
        Rare kinds of pictures (`stain_of`) are drawn more often than they occur.
    clicks : bool
        Instances of the shape of a brush's click (`clicks_in`) are not to be learnt; validation keeps them.
    """

    name: str
    share: float
    background_weight: float
    domain: Domain
    partial: bool = False
    paste: bool = False
    held_out: bool = False
    guess: bool = False
    crowd: bool = False
    balance: bool = False
    clicks: bool = False


SOURCES: tuple[SourceSpec, ...] = (
    SourceSpec("coco_instances", 0.16, 0.03, "photo", partial=True, paste=True, guess=True),
    SourceSpec("coco_panoptic", 0.14, 0.15, "photo", paste=True, guess=True),
    SourceSpec("animals_openimages", 0.08, 0.03, "photo", partial=True, paste=True, guess=True),
    SourceSpec("building_facade", 0.07, 0.15, "photo"),
    SourceSpec("tqb_indoor", 0.05, 0.15, "photo"),
    SourceSpec("microcontrollers", 0.03, 0.03, "photo", partial=True, paste=True, guess=True),
    SourceSpec("otonom_road", 0.02, 0.03, "photo", partial=True, paste=True, guess=True),
    SourceSpec("retail_products", 0.03, 0.10, "photo", partial=True, paste=True, guess=True),
    SourceSpec("granular_material", 0.04, 0.15, "photo"),
    SourceSpec("rock_grains", 0.02, 0.15, "photo"),
    SourceSpec("mushrooms", 0.02, 0.5, "photo"),
    SourceSpec("hbn_flakes", 0.04, 0.05, "micro", partial=True),
    SourceSpec("dsb2018", 0.24, 1.0, "micro", crowd=True, balance=True, clicks=True),
    SourceSpec("usiigaci_phase", 0.08, 0.7, "micro", crowd=True),
    SourceSpec("dhcn_indoor", 0.0, 0.15, "photo", held_out=True),
    SourceSpec("fruits_nuts", 0.0, 0.03, "photo", partial=True, held_out=True),
    SourceSpec("weld_defects", 0.0, 0.03, "photo", partial=True, held_out=True),
)


@dataclass(slots=True, eq=False)
class LabelledImage:
    """An image with its instances in layers.

    Attributes
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        RGB.
    layers : ndarray of uint16, shape (L, H, W)
        Instance ids, 0 is background; an id occurs in one layer only.
    weight : ndarray of uint8, shape (H, W)
        Weight of the pixel as background, 255 is 1.0; ignored where an instance is.
    source : str
        Name of the source.
    stem : str
        File name without suffix.
    guessed : int
        How many of the last layers nobody annotated (see `regions`): their regions are targets, but do not make
        background of what else is there.
    """

    image: NDArray[np.uint8]
    layers: NDArray[np.uint16]
    weight: NDArray[np.uint8]
    source: str = ""
    stem: str = ""
    guessed: int = 0

    @property
    def annotated(self) -> NDArray[np.uint16]:
        """The layers that were annotated."""
        return self.layers[: len(self.layers) - self.guessed]


def split_of(source: SourceSpec, stem: str) -> Split:
    """Return the split of an image, fixed by a hash of its source and its name; frames of one recording may part."""
    if source.held_out:
        return "val"
    digest = hashlib.sha256(f"{source.name}/{stem}".encode()).digest()
    return "val" if int.from_bytes(digest[:4], "big") / 2**32 < _VAL_SHARE else "train"


def stain_of(image: NDArray[np.uint8]) -> str:
    """Tell images of nuclei apart: dark gray ones, bright gray ones, and coloured ones."""
    if is_coloured(image):
        return "stained"
    return "fluorescence" if image.mean() < _BRIGHT else "brightfield"


def clicks_in(labels: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Return the pixels, (H, W), of the instances of a label map that are 21 px in a square of 5 without corners."""
    clicked = np.zeros(labels.shape, bool)
    for number, window in enumerate(ndimage.find_objects(labels.astype(np.int32)), start=1):
        if window is not None and np.array_equal(mask := labels[window] == number, _CLICK):
            clicked[window] |= mask
    return clicked


def stack_layers(
    masks: Iterable[NDArray[np.bool_]], size_hw: tuple[int, int], slack: float = 0.1
) -> NDArray[np.uint16]:
    """Distribute possibly overlapping masks over as few label-map layers as needed, largest first.

    Parameters
    ----------
    masks : iterable of bool arrays, shape (H, W)
        Instance masks.
    size_hw : tuple of int
        (H, W).
    slack : float
        A mask may take up to this fraction of its area from a neighbour in the same layer (ragged common edges).

    Returns
    -------
    ndarray of uint16, shape (L, H, W)
        At least one layer.
    """
    return stack_crops(((mask, 0, 0) for mask in masks), size_hw, slack)


def stack_crops(
    crops: Iterable[tuple[NDArray[np.bool_], int, int]], size_hw: tuple[int, int], slack: float = 0.1
) -> NDArray[np.uint16]:
    """Do what `stack_layers` does with masks that are cut out, each with its first row and column in the image."""
    layers: list[NDArray[np.uint16]] = [np.zeros(size_hw, np.uint16)]
    sized = [(int(np.count_nonzero(crop)), crop, top, left) for crop, top, left in crops]
    ordered = sorted((entry for entry in sized if entry[0]), key=lambda entry: -entry[0])
    for number, (area, crop, top, left) in enumerate(ordered, start=1):
        window = (slice(top, top + crop.shape[0]), slice(left, left + crop.shape[1]))
        for layer in layers:
            taken = crop & (layer[window] > 0)
            if np.count_nonzero(taken) <= slack * area:
                layer[window][crop & ~taken] = number
                break
        else:
            layer = np.zeros(size_hw, np.uint16)
            layer[window][crop] = number
            layers.append(layer)
    return np.stack(layers)


def _decode_segmentation(segmentation: Any, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    import cv2

    if isinstance(segmentation, dict):
        from pycocotools import mask as rle

        if isinstance(segmentation["counts"], list):
            segmentation = rle.frPyObjects(segmentation, *size_hw)
        return np.asarray(rle.decode(segmentation), dtype=bool)
    canvas = np.zeros(size_hw, np.uint8)
    polygons = [np.asarray(p, np.float32).reshape(-1, 2) for p in segmentation if len(p) >= 6]
    for polygon in polygons:
        cv2.fillPoly(canvas, [np.round(polygon * 16).astype(np.int32)], 1, shift=4)
    return canvas.astype(bool)


def load_source(root: Path, spec: SourceSpec, split: Split, most: int | None = None) -> list[LabelledImage]:
    """Decode one split of a source into memory.

    Parameters
    ----------
    root : Path
        Folder that holds the sources.
    spec : SourceSpec
        Which source.
    split : {"train", "val"}
        Which images of it.
    most : int, optional
        Decode no more than the first so many.

    Returns
    -------
    list of LabelledImage
        Sorted by file name; images without an instance are kept.

    Raises
    ------
    AnnotationError
        If the source's image folder is missing, or a label map does not fit its image.
    """
    import cv2

    folder = root / spec.name
    if not (folder / "images").is_dir():
        raise AnnotationError(
            f"There is no folder images in {folder}",
            expected="a folder for each source of the built-in model (docs/model-card.md)",
            remedy="check --data; networks of your own are trained by fastsam train and fastsam finetune",
        )
    annotations: dict[str, list[Any]] = {}
    if (folder / "annotations.json").is_file():
        document = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
        names = {image["id"]: image["file_name"] for image in document["images"]}
        for annotation in document["annotations"]:
            annotations.setdefault(names[annotation["image_id"]], []).append(annotation["segmentation"])
    loaded: list[LabelledImage] = []
    for path in sorted((folder / "images").iterdir()):
        if split_of(spec, path.stem) != split:
            continue
        if len(loaded) == most:
            break
        bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if bgr is None:
            continue
        image = np.ascontiguousarray(bgr[..., ::-1], np.uint8)
        size_hw = (image.shape[0], image.shape[1])
        mask_path = folder / "masks" / f"{path.stem}.png"
        if mask_path.is_file():
            labels = cv2.imread(str(mask_path), cv2.IMREAD_UNCHANGED)
            if labels is None or labels.shape != size_hw:
                raise AnnotationError(
                    f"The label map {mask_path} does not fit its image",
                    expected=f"{size_hw[0]} x {size_hw[1]}",
                    actual="not readable" if labels is None else " x ".join(map(str, labels.shape)),
                )
            layers = np.asarray(labels, np.uint16)[None]
        else:
            masks = [_decode_segmentation(item, size_hw) for item in annotations.get(path.name, [])]
            layers = stack_layers(masks, size_hw)
        weight = np.full(size_hw, round(spec.background_weight * FULL_WEIGHT), np.uint8)
        if spec.clicks and split == "train":
            for layer in layers:
                clicked = clicks_in(layer)
                layer[clicked] = weight[clicked] = 0  # neither objects nor background
        loaded.append(LabelledImage(image, layers, weight, spec.name, path.stem))
    return loaded
