"""Training batches as a function of the step number, so that a resumed run sees exactly the same stream."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage

from fastsam_core.training.crowding import crowd
from fastsam_core.training.geometric import Cutout, crop_resize, mosaic, orient, paste, random_window, rotate
from fastsam_core.training.patching import patch
from fastsam_core.training.photometric import jitter
from fastsam_core.training.sources import FULL_WEIGHT, stain_of
from fastsam_core.training.sprinkling import sprinkle

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from fastsam_core.training.sources import LabelledImage, SourceSpec

MASK_STRIDE = 4
LEAST_PX = 10
"""Smaller remnants of instances are not learnt."""
MIN_IMAGES = 2
"""Images of a shard at least, for batch normalisation's sake."""


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """What the batches are made of.

    Attributes
    ----------
    sizes : tuple of int
        Network input sizes to draw from, one per batch; repeat a size to draw it more often.
    pixels : int
        Pixels a batch (its number of images follows from the size).
    scene_share, mosaic_share, paste_share : float
        Probability of a generated scene, of a 2 x 2 mosaic, of pasted objects.
    crowd_share : float
        Probability that cells are copied beside others, where all are annotated.
    stain_share : float
        Probability that stained nuclei are drawn into a photograph.
    patch_share : float
        Probability that patches of other textures are drawn into a photograph.
    guess_share : float
        Probability that the regions guessed in a photograph are targets.
    plain_share : float
        Probability of a whole picture as it is when the model is used: letterboxed, at most turned or mirrored.
    max_instances : int
        Instances kept an image; the rest is ignored, not background.
    seed : int
        Of the whole stream.
    """

    sizes: tuple[int, ...] = (256, 320, 320, 384, 384, 448, 512, 640)
    pixels: int = 12 * 320 * 320
    scene_share: float = 0.25
    mosaic_share: float = 0.22
    paste_share: float = 0.35
    crowd_share: float = 0.3
    stain_share: float = 0.2
    patch_share: float = 0.0
    guess_share: float = 0.6
    plain_share: float = 0.0
    max_instances: int = 160
    seed: int = 0


def for_decay(config: StreamConfig) -> StreamConfig:
    """Return the settings of the decay phase: test sizes, no mosaics, fewer generated pictures."""
    sizes = (320, 384, 512, 512, 640, 640)
    return replace(config, sizes=sizes, mosaic_share=0.0, scene_share=0.18, paste_share=0.25)


def as_used(config: StreamConfig, plain_share: float) -> StreamConfig:
    """Return the settings of a last stage, most of whose pictures are as they are when the model is used."""
    return replace(for_decay(config), sizes=(384, 512, 640, 640, 640), plain_share=plain_share)


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """One source in memory, and the probability of each of its images (none: all alike)."""

    spec: SourceSpec
    samples: Sequence[LabelledImage]
    odds: NDArray[np.float64] | None = None

    @classmethod
    def balanced(cls, spec: SourceSpec, samples: Sequence[LabelledImage]) -> Pool:
        """Draw each kind of picture (`stain_of`) in proportion to the square root of how many there are."""
        kinds = [stain_of(sample.image) for sample in samples]
        _, kind_of, counts = np.unique(kinds, return_inverse=True, return_counts=True)
        odds = 1 / np.sqrt(counts[kind_of])
        return cls(spec, samples, odds / odds.sum())

    def draw(self, rng: np.random.Generator) -> LabelledImage:
        """Choose one of the images."""
        if self.odds is None:
            return self.samples[int(rng.integers(len(self.samples)))]
        return self.samples[int(rng.choice(len(self.samples), p=self.odds))]


class BatchStream(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Map-style dataset whose item ``step`` is the whole batch of that step.

    Parameters
    ----------
    pools : sequence of Pool
        Sources with ``spec.share`` as sampling weights.
    scenes : sequence of LabelledImage
        Generated scenes; may be empty.
    objects : sequence of Cutout
        Objects to paste; may be empty.
    config : StreamConfig
        Sizes and shares.
    shards : int
        Parts of each batch that different processes work on.
    """

    def __init__(
        self,
        pools: Sequence[Pool],
        scenes: Sequence[LabelledImage],
        objects: Sequence[Cutout],
        config: StreamConfig,
        shards: int = 1,
    ) -> None:
        self.pools = [pool for pool in pools if pool.samples and pool.spec.share > 0]
        self.scenes, self.objects, self.config = scenes, objects, config
        self.shards = shards
        shares = np.array([pool.spec.share for pool in self.pools], np.float64)
        self.shares = shares / shares.sum() if len(shares) else shares

    def __len__(self) -> int:
        """Return the number of items, steps times shards: more steps than any run takes."""
        return 10**7 * self.shards

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Build shard ``index % shards`` of step ``index // shards``; see `collate` for its content."""
        step, shard = divmod(index, self.shards)
        size = int(np.random.default_rng((self.config.seed, step)).choice(self.config.sizes))
        rng = np.random.default_rng((self.config.seed, step, shard + 1))
        count = max(round(self.config.pixels / self.shards / size**2), MIN_IMAGES)
        return collate([self.sample(rng, size) for _ in range(count)], self.config.max_instances, rng)

    def sample(self, rng: np.random.Generator, size: int) -> LabelledImage:
        """Draw one augmented training image of ``size`` x ``size`` pixels."""
        if self.config.plain_share and rng.random() < self.config.plain_share:
            source, spec = self._draw(rng)
            side = max(source.image.shape[:2])
            left, top = ((length - side) / 2 for length in source.image.shape[1::-1])
            view = crop_resize(source, (left, top, left + side, top + side), (size, size))
            return orient(view, rng, quarter_turns=spec is None or spec.domain == "micro")
        if rng.random() < self.config.mosaic_share:
            cut_y, cut_x = (int(cut) for cut in rng.integers(size // 4, size - size // 4, 2))
            quadrants = [(h, w) for h in (cut_y, size - cut_y) for w in (cut_x, size - cut_x)]
            return mosaic([self._view(rng, quadrant) for quadrant in quadrants])
        return self._view(rng, (size, size))

    def _draw(self, rng: np.random.Generator) -> tuple[LabelledImage, SourceSpec | None]:
        """Choose a generated scene, or an image of a source."""
        if self.scenes and (not self.pools or rng.random() < self.config.scene_share):
            return self.scenes[int(rng.integers(len(self.scenes)))], None
        pool = self.pools[int(rng.choice(len(self.pools), p=self.shares))]
        source = pool.draw(rng)
        if source.guessed and rng.random() >= self.config.guess_share:
            source = replace(source, layers=source.annotated, guessed=0)
        return source, pool.spec

    def _view(self, rng: np.random.Generator, size_hw: tuple[int, int]) -> LabelledImage:
        source, spec = self._draw(rng)
        if spec is None:
            domain, partial, crowded, quarter_turns = "photo", False, False, True
        else:
            domain, partial, crowded = spec.domain, spec.partial, spec.crowd
            quarter_turns = domain == "micro" or rng.random() < 0.1
        photographed = spec is not None and domain == "photo"
        window = random_window(source, rng, size_hw, partial=partial, whole_share=0.2 if partial else 0.4)
        view = orient(
            crop_resize(source, window, size_hw), rng, quarter_turns=quarter_turns and size_hw[0] == size_hw[1]
        )
        if rng.random() < 0.12:
            view = rotate(view, float(rng.uniform(-30, 30)))
        if self.objects and domain == "photo" and rng.random() < self.config.paste_share:
            for _ in range(int(rng.integers(1, 5))):
                paste(view, self.objects[int(rng.integers(len(self.objects)))], rng)
        if crowded and rng.random() < self.config.crowd_share:
            crowd(view, rng, int(rng.integers(1, 9)))
        if rng.random() < self.config.stain_share and photographed:
            sprinkle(view, rng)
        if photographed and self.config.patch_share and rng.random() < self.config.patch_share:
            patch(view, self._draw(rng)[0].image, rng)
        view.image = jitter(view.image, rng, "micro" if domain == "micro" else "photo")
        return view


def instance_targets(
    layers: NDArray[np.uint16], max_instances: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.bool_]]:
    """Turn label layers into boxes and prototype-sized masks.

    Parameters
    ----------
    layers : ndarray of uint16, shape (L, H, W)
        Label layers; H and W multiples of 4.
    max_instances : int
        Keep at most this many, at random.
    rng : numpy.random.Generator
        For that choice.

    Returns
    -------
    boxes_xyxy : ndarray of float32, shape (N, 4)
        Pixels.
    masks : ndarray of uint8, shape (N, H / 4, W / 4)
        Covered sixteenths of each cell, 0..16.
    ignored : ndarray of bool, shape (H, W)
        Pixels of instances that were left out: too many, or remnants of less than 10 pixels.
    """
    import cv2

    height, width = layers.shape[1:]
    mask_hw = height // MASK_STRIDE, width // MASK_STRIDE
    found = [
        (depth, number, window)
        for depth, layer in enumerate(layers)
        for number, window in enumerate(ndimage.find_objects(layer.astype(np.int32)), start=1)
        if window is not None
    ]
    order = rng.permutation(len(found))
    boxes: list[tuple[int, int, int, int]] = []
    masks: list[NDArray[np.uint8]] = []
    ignored = np.zeros((height, width), bool)
    for index in order:
        depth, number, (rows, columns) = found[index]
        top, left = rows.start // MASK_STRIDE * MASK_STRIDE, columns.start // MASK_STRIDE * MASK_STRIDE
        bottom = -(-rows.stop // MASK_STRIDE) * MASK_STRIDE
        right = -(-columns.stop // MASK_STRIDE) * MASK_STRIDE
        inside = layers[depth, top:bottom, left:right] == number
        if len(boxes) == max_instances or np.count_nonzero(inside) < LEAST_PX:
            ignored[top:bottom, left:right] |= inside
            continue
        # the mean of sixteen pixels of 0 or 16 is how many are inside
        cells_wh = ((right - left) // MASK_STRIDE, (bottom - top) // MASK_STRIDE)
        cells = cv2.resize(inside.view(np.uint8) * np.uint8(16), cells_wh, interpolation=cv2.INTER_AREA)
        mask = np.zeros(mask_hw, np.uint8)
        cell_window = (
            slice(top // MASK_STRIDE, bottom // MASK_STRIDE),
            slice(left // MASK_STRIDE, right // MASK_STRIDE),
        )
        mask[cell_window] = cells
        boxes.append((columns.start, rows.start, columns.stop, rows.stop))
        masks.append(mask)
    stacked = np.stack(masks) if masks else np.zeros((0, *mask_hw), np.uint8)
    return np.asarray(boxes, np.float32).reshape(-1, 4), stacked, ignored


def collate(samples: Sequence[LabelledImage], max_instances: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """Join equally sized samples into a batch.

    Returns
    -------
    dict of Tensor
        ``img`` uint8 (B, 3, S, S); ``bboxes`` float32 (N, 4), centre and size relative to the image; ``cls`` (N, 1),
        all 0; ``batch_idx`` (N,), ascending; ``masks`` uint8 (N, S / 4, S / 4), 0..16; ``weight`` uint8 (B, S / 4,
        S / 4), the weight of background, 255 is 1.
    """
    size = samples[0].image.shape[0]
    boxes, masks, owners, weights = [], [], [], []
    for index, sample in enumerate(samples):
        boxes_xyxy, instance_masks, ignored = instance_targets(sample.layers, max_instances, rng)
        weight = sample.weight.copy()
        weight[sample.annotated.any(0)] = FULL_WEIGHT
        weight[ignored] = 0
        weights.append(weight[2::MASK_STRIDE, 2::MASK_STRIDE])
        boxes.append(boxes_xyxy)
        masks.append(instance_masks)
        owners.append(np.full(len(boxes_xyxy), index, np.float32))
    corners = np.concatenate(boxes) / size
    middles = (corners[:, :2] + corners[:, 2:]) / 2
    images = np.stack([sample.image for sample in samples])
    return {
        "img": torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))),
        "bboxes": torch.from_numpy(np.concatenate([middles, corners[:, 2:] - corners[:, :2]], axis=1)),
        "cls": torch.zeros(len(corners), 1),
        "batch_idx": torch.from_numpy(np.concatenate(owners)),
        "masks": torch.from_numpy(np.concatenate(masks)),
        "weight": torch.from_numpy(np.stack(weights)),
    }


def split_batch(batch: dict[str, torch.Tensor], images: int) -> Iterator[dict[str, torch.Tensor]]:
    """Divide a batch as made by `collate` into batches of so many images, the last one of what is left.

    Parameters
    ----------
    batch : dict of Tensor
        See `collate`.
    images : int
        At least 1.

    Yields
    ------
    dict of Tensor
        Views of the batch, ``batch_idx`` counted from each one's first image.
    """
    owners = batch["batch_idx"]
    for first in range(0, len(batch["img"]), images):
        last = first + images
        low, high = (int(n) for n in torch.searchsorted(owners, torch.tensor([first, last], dtype=owners.dtype)))
        yield {
            "img": batch["img"][first:last],
            "weight": batch["weight"][first:last],
            **{name: batch[name][low:high] for name in ("bboxes", "cls", "masks")},
            "batch_idx": owners[low:high] - first,
        }
