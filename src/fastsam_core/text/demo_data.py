"""Crops to train and measure the demonstration encoder with: cut-outs of labelled images and of generated scenes."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from fastsam_core._files import atomic_path
from fastsam_core.masks import Masks
from fastsam_core.text import demo_words as words
from fastsam_core.text.crops import blend, cut_window
from fastsam_core.text.demo_scenes import draw_shapes
from fastsam_core.training.sources import SOURCES, LabelledImage, SourceSpec, Split, load_source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from fastsam_core.text.crops import Background

__all__ = ["CropBank", "Sample", "annotated_masks", "crops_of_scenes", "crops_of_sources", "kind_of", "text_sources"]

_LOGGER = logging.getLogger(__name__)

STORED_PX: Final = 80
_STORED_MARGIN: Final = 0.35
_LEAST_AREA_PX: Final = 30
#: What the objects of a source are called; sources that are not here have no name that holds for all their objects.
_KIND_OF_SOURCE: Final = {
    "animals_openimages": "animal",
    "building_facade": "building",
    "usiigaci_phase": "cell",
    "granular_material": "granule",
    "rock_grains": "pebble",
    "hbn_flakes": "flake",
    "microcontrollers": "circuit board",
    "mushrooms": "mushroom",
    "retail_products": "package",
    "weld_defects": "weld",
    "fruits_nuts": "fruit",
}
#: Frames of one building each; whole in training or in validation, and their objects are "something else".
_INTERIORS: Final = {"tqb_indoor": "train", "dhcn_indoor": "val"}
#: Sources whose unannotated pixels are surely not of their kind.
_EXHAUSTIVE: Final = ("dsb2018", "usiigaci_phase", "mushrooms", "microcontrollers", "hbn_flakes", "fruits_nuts")


@dataclass(frozen=True, slots=True, eq=False)
class CropBank:
    """Crops kept a little larger than they are shown.

    Attributes
    ----------
    rgb8 : ndarray of uint8, shape (N, STORED_PX, STORED_PX, 3)
        The windows.
    alpha : ndarray of uint8, shape (N, STORED_PX, STORED_PX)
        The masks in them.
    shown : ndarray of int8, shape (N, C)
        What they show, see `demo_words`.
    group : ndarray of int64, shape (N,)
        Number of the source; scenes are one source.
    """

    rgb8: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    shown: NDArray[np.int8]
    group: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of crops."""
        return len(self.group)

    @classmethod
    def joined(cls, banks: list[CropBank]) -> CropBank:
        """Put banks one after another."""
        names = ("rgb8", "alpha", "shown", "group")
        return cls(*(np.concatenate([getattr(bank, name) for bank in banks]) for name in names))

    def take(self, index: NDArray[np.int64]) -> CropBank:
        """Return some of the crops."""
        return CropBank(self.rgb8[index], self.alpha[index], self.shown[index], self.group[index])

    def summary(self) -> str:
        """Count the crops of each concept, as JSON."""
        counts = (self.shown == 1).sum(0)
        return json.dumps({name: int(count) for name, count in zip(words.CONCEPTS, counts, strict=True)})

    def save(self, path: Path) -> None:
        """Write the crops to an ``.npz`` file, so that a run need not cut them again."""
        with atomic_path(path) as temporary:
            np.savez(temporary, rgb8=self.rgb8, alpha=self.alpha, shown=self.shown, group=self.group)

    @classmethod
    def load(cls, path: Path) -> CropBank:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            return cls(stored["rgb8"], stored["alpha"], stored["shown"], stored["group"])

    def view(self, index: int, size_px: int, background: Background, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return one crop at a random zoom, turn, flip and brightness, shape (size_px, size_px, 3)."""
        import cv2

        zoom = size_px / STORED_PX * rng.uniform(1.0, 1.55)
        turn = cv2.getRotationMatrix2D((STORED_PX / 2, STORED_PX / 2), rng.normal(0, 8), zoom)
        turn[:, 2] = turn[:, 2] + size_px / 2 - STORED_PX / 2 + rng.uniform(-0.04, 0.04, 2) * size_px
        size = (size_px, size_px)
        rgb8 = cv2.warpAffine(self.rgb8[index], turn, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        alpha = cv2.warpAffine(self.alpha[index], turn, size, flags=cv2.INTER_LINEAR)
        if rng.random() < 0.5:
            rgb8, alpha = rgb8[:, ::-1], alpha[:, ::-1]
        shown = blend(np.asarray(rgb8, np.uint8), np.asarray(alpha, np.uint8), background)
        light = rng.uniform(0.92, 1.08)
        lit: NDArray[np.float64] = np.clip(shown * light + rng.uniform(-6, 6), 0, 255)
        return lit.astype(np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A crop on its way into a bank."""

    rgb8: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    shown: NDArray[np.int8]


def text_sources() -> tuple[SourceSpec, ...]:
    """Return the sources in use, split by image; interiors stay whole."""
    named = (*_KIND_OF_SOURCE, *_INTERIORS, "coco_instances", "coco_panoptic", "dsb2018")
    return tuple(
        spec if spec.name in _INTERIORS else replace(spec, held_out=False) for spec in SOURCES if spec.name in named
    )


def kind_of(image: LabelledImage) -> str | None:
    """Name what is annotated in an image, or return None where there is no one name."""
    if image.source == "dsb2018":
        colourful = np.ptp(image.image.astype(np.int16), axis=2).mean() > 12
        if colourful:
            return "stained nucleus"
        return "fluorescent nucleus" if image.image.mean() < 90 else "nucleus"
    return _KIND_OF_SOURCE.get(image.source)


def annotated_masks(image: LabelledImage) -> Masks:
    """Return the annotated objects of an image."""
    height, width = image.image.shape[:2]
    layers = [Masks.from_label_map(layer) for layer in image.layers if layer.any()]
    return Masks.concatenate(layers) if layers else Masks.empty((height, width))


def _sample(image_rgb8: NDArray[np.uint8], masks: Masks, index: int, shown: NDArray[np.int8]) -> Sample:
    return Sample(*cut_window(image_rgb8, masks, index, STORED_PX, _STORED_MARGIN), shown)


def _colour(image_rgb8: NDArray[np.uint8], masks: Masks, index: int) -> str | None:
    x0, y0, x1, y1 = masks.extents_xyxy[index].tolist()
    return words.colour_of(image_rgb8[y0:y1, x0:x1][masks.crop(index)])


def _background_masks(annotated: Masks, count: int, rng: np.random.Generator) -> Masks:
    """Return random ellipses that hardly touch an annotated object."""
    from skimage.draw import ellipse

    height, width = annotated.image_hw
    crops: list[NDArray[np.bool_]] = []
    for _ in range(4 * count):
        radius_y, radius_x = rng.uniform(4, max(6, min(height, width) / 5), 2)
        y, x = rng.uniform((0, 0), (height, width))
        dense = np.zeros((height, width), bool)
        dense[ellipse(y, x, radius_y, radius_x, shape=dense.shape, rotation=rng.uniform(-3, 3))] = True
        crops.append(dense)
    blobs = Masks.from_dense(np.stack(crops)).filter(min_area_px=_LEAST_AREA_PX)
    if len(annotated) and len(blobs):
        blobs = blobs[blobs.overlaps(annotated).sum(1) < 0.1 * blobs.areas_px]
    return blobs[:count]


def _samples_of(image: LabelledImage, most: int, rng: np.random.Generator) -> Iterator[Sample]:
    annotated = annotated_masks(image).filter(min_area_px=_LEAST_AREA_PX)
    kind = kind_of(image)
    for index in rng.permutation(len(annotated))[:most]:
        colour = _colour(image.image, annotated, int(index))
        shown = words.else_truth(colour) if image.source in _INTERIORS else words.real_truth(kind, colour)
        yield _sample(image.image, annotated, int(index), shown)
    if image.source in _EXHAUSTIVE:
        blobs = _background_masks(annotated, 3, rng)
        for index in range(len(blobs)):
            yield _sample(image.image, blobs, index, words.else_truth(_colour(image.image, blobs, index)))


def _bank(samples: list[Sample], group: int) -> CropBank:
    return CropBank(
        np.stack([sample.rgb8 for sample in samples]),
        np.stack([sample.alpha for sample in samples]),
        np.stack([sample.shown for sample in samples]),
        np.full(len(samples), group),
    )


def crops_of_sources(data: Path, split: Split, most: int, seed: int = 0) -> list[CropBank]:
    """Cut out the annotated objects of every source, and pieces of background where all objects are annotated.

    Parameters
    ----------
    data : Path
        Folder of the sources.
    split : {"train", "val"}
        Which images.
    most : int
        About so many crops of a source.
    seed : int
        Chooses among them.

    Returns
    -------
    list of CropBank
        One for each source that has images in the split.
    """
    rng = np.random.default_rng(seed)
    banks: list[CropBank] = []
    for number, spec in enumerate(text_sources()):
        if _INTERIORS.get(spec.name, split) != split:
            continue
        images = load_source(data, spec, split)
        share = max(2, most // max(1, len(images)))
        samples = [sample for image in images for sample in _samples_of(image, share, rng)]
        _LOGGER.info("%s: %d images, %d crops", spec.name, len(images), len(samples))
        if samples:
            banks.append(_bank(samples, number))
    return banks


def crops_of_scenes(seeds: range) -> CropBank:
    """Cut every shape, and two pieces of background, out of generated scenes."""
    samples: list[Sample] = []
    for seed in seeds:
        scene = draw_shapes(seed)
        masks = Masks.from_dense(scene.masks)
        for index, item in enumerate(scene.items):
            samples.append(_sample(scene.image, masks, index, words.drawn_truth(*item)))
        blobs = _background_masks(masks, 2, np.random.default_rng(seed))
        for index in range(len(blobs)):
            samples.append(_sample(scene.image, blobs, index, words.else_truth(_colour(scene.image, blobs, index))))
    return _bank(samples, len(SOURCES))
