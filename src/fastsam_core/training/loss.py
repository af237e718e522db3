"""The YOLOv8 segmentation loss with weighted background and a bounded number of mask targets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from fastsam_core._ultralytics import import_ultralytics

if TYPE_CHECKING:
    from collections.abc import Mapping

_BASE: Any = import_ultralytics("ultralytics.utils.loss").v8SegmentationLoss
_CROP: Any = import_ultralytics("ultralytics.utils.ops").crop_mask
LOSS_NAMES = ("box", "seg", "cls", "dfl")
GAINS = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5, overlap_mask=False)
"""Ultralytics' default gains; ``overlap_mask=False`` because instances may be nested."""


def mask_threshold(neighbour_weight: float) -> float:
    """Return the probability at which "inside" and "of a neighbour" are equally likely, see `SegmentationLoss`."""
    return 1 / (2 + neighbour_weight)


def neighbour_weight(mask_threshold: float) -> float:
    """Return the weight that weights with this threshold were trained with, the inverse of `mask_threshold`."""
    return max(1 / mask_threshold - 2, 0.0)


def learnt_masks(config: Mapping[str, Any]) -> tuple[float, float]:
    """Return threshold and margin of the masks that a checkpoint's settings taught; older checkpoints name neither."""
    return mask_threshold(config.get("neighbour_weight", 0.0)), config.get("mask_margin", 0.0)


class WeightedObjectness(nn.Module):
    """Binary cross-entropy in which the negatives of each anchor carry a weight.

    Positives keep weight 1. ``anchor_weight`` (B, A), in [0, 1], is set before each call.
    """

    def __init__(self) -> None:
        super().__init__()
        self.anchor_weight: torch.Tensor | None = None
        self.last = torch.empty(0), torch.empty(0)
        """Logits and targets of the last call."""

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the element-wise loss of shape (B, A, 1)."""
        self.last = logits, targets
        loss = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        if self.anchor_weight is None:
            return loss
        weight = torch.where(targets > 0, torch.ones_like(loss), self.anchor_weight.unsqueeze(-1).to(loss.dtype))
        return loss * weight


def anchor_weights(weight_map: torch.Tensor, feature_sizes_hw: list[tuple[int, int]]) -> torch.Tensor:
    """Average a background-weight map over the cell of every anchor.

    Parameters
    ----------
    weight_map : Tensor, shape (B, H, W)
        Weights in [0, 1] at any resolution.
    feature_sizes_hw : list of tuple of int
        Grid size of each detection level.

    Returns
    -------
    Tensor, shape (B, A)
        In the order of the network's anchors.
    """
    grids = [functional.adaptive_avg_pool2d(weight_map[:, None], size).flatten(1) for size in feature_sizes_hw]
    return torch.cat(grids, dim=1)


class SegmentationLoss(_BASE):  # type: ignore[misc]
    """YOLOv8-seg loss for class-agnostic training on partly annotated images.

    Parameters
    ----------
    model : ultralytics SegmentationModel
        Network in training mode; gives strides and the number of distance bins.
    masks_per_image : int
        Mask loss is taken on at most this many random positive anchors of each image.
    neighbour_weight : float
        Pixels that belong to another instance and not to this one weigh so much more than others, after the border
        weights of U-Net (arXiv 1505.04597): masks that run into their neighbours are cut straight by their boxes. Where
        both are equally likely the network then answers `mask_threshold`, which is where masks are to be cut.
    mask_margin : float
        It is taken in boxes grown on every side by this part of their width or height. A network that never saw what
        is beside the box (0, as in the base class) answers anything there, and masks end in straight lines wherever a
        predicted box is wrong.
    dice_weight : float
        Weight of 1 - Dice of each mask (with squares in the denominator, V-Net, arXiv 1606.04797) beside its
        cross-entropy, which leaves large masks soft where they end.
    score_masks : bool
        Multiply the score to be learnt by the Dice of the mask, so that poor masks get low scores, as IoU-aware
        detectors do (VarifocalNet, arXiv 2008.13367). An anchor whose mask was not drawn takes the mean of its image.
    """

    def __init__(
        self,
        model: nn.Module,
        masks_per_image: int = 80,
        mask_margin: float = 0.0,
        neighbour_weight: float = 0.0,
        dice_weight: float = 0.0,
        score_masks: bool = False,
    ) -> None:
        model.args = GAINS  # type: ignore[assignment]
        super().__init__(model)
        self.masks_per_image = masks_per_image
        self.mask_margin = mask_margin
        self.neighbour_weight = neighbour_weight
        self.dice_weight, self.score_masks = dice_weight, score_masks
        self.mask_dice: torch.Tensor | None = None
        """Of the last batch, for each anchor, where scores learn from it."""
        self.bce = WeightedObjectness()
        self.generator = torch.Generator(self.device)

    def total(self, preds: dict[str, Any], batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the summed loss and its four detached parts (box, seg, cls, dfl)."""
        sizes = [(int(f.shape[2]), int(f.shape[3])) for f in preds["feats"]]
        self.bce.anchor_weight = anchor_weights(batch["weight"], sizes)
        self.mask_dice = None
        parts, _ = self.loss(preds, batch)
        parts = parts[:4] / batch["weight"].shape[0]
        if self.score_masks and self.mask_dice is not None:
            parts = torch.stack([*parts[:2], self._score_loss(self.mask_dice), parts[3]])
        return parts.sum(), parts.detach()

    def _score_loss(self, mask_dice: torch.Tensor) -> torch.Tensor:
        """Loss of the scores where their targets (B, A, 1) are multiplied by the Dice of the anchors' masks (B, A)."""
        logits, targets = self.bce.last
        total = targets.sum().clamp(min=1)
        loss: torch.Tensor = self.bce(logits, targets * mask_dice[..., None]).sum() / total * GAINS.cls
        return loss

    def mask_losses(
        self,
        targets: torch.Tensor,
        coefficients: torch.Tensor,
        proto: torch.Tensor,
        boxes_xyxy: torch.Tensor,
        area: torch.Tensor,
        covered: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Mask loss of each anchor, inside its box and just outside.

        Parameters
        ----------
        targets : Tensor, shape (B, K, h, w)
            In [0, 1].
        coefficients : Tensor, shape (B, K, 32)
            Of the prototypes.
        proto : Tensor, shape (B, 32, h, w)
            Prototypes.
        boxes_xyxy : Tensor, shape (B, K, 4)
            True boxes in prototype pixels.
        area : Tensor, shape (B, K)
            Their share of the image, which divides the sum so that small objects count as much as large ones.
        covered : Tensor, shape (B, h, w), optional
            How much of each pixel belongs to any instance, in [0, 1].

        Returns
        -------
        losses : Tensor, shape (B, K)
        dice : Tensor, shape (B, K), or None
            In [0, 1], without gradient; None where neither masks nor scores learn from it.
        """
        logits = (coefficients @ proto.flatten(2)).view_as(targets)
        loss = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        if covered is not None and self.neighbour_weight:
            loss = loss * (1 + self.neighbour_weight * (covered[:, None] - targets))
        margin = self.mask_margin * (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2])
        grown = torch.cat([boxes_xyxy[..., :2] - margin, boxes_xyxy[..., 2:] + margin], dim=-1)
        window = _CROP(torch.ones_like(targets).flatten(0, 1), grown.flatten(0, 1)).view_as(targets)
        losses: torch.Tensor = (loss * window).mean(dim=(2, 3)) / area
        if not (self.dice_weight or self.score_masks):
            return losses, None
        dice = _dice(logits.sigmoid() * window, targets * window)
        return losses + self.dice_weight * (1 - dice), dice.detach()

    def calculate_segmentation_loss(
        self,
        fg_mask: torch.Tensor,
        masks: torch.Tensor,
        target_gt_idx: torch.Tensor,
        target_bboxes: torch.Tensor,
        batch_idx: torch.Tensor,
        proto: torch.Tensor,
        pred_masks: torch.Tensor,
        imgsz: torch.Tensor,
    ) -> torch.Tensor:
        """Mask loss on a random subset of the positive anchors of each image; arguments as in the base class.

        ``masks`` is (N, h, w) with the covered fraction of each prototype pixel in [0, 1]. All images are computed at
        once: a loop over them keeps a GPU waiting for Python.
        """
        height, width = proto.shape[-2:]
        keys = torch.rand(fg_mask.shape, generator=self.generator, device=fg_mask.device).masked_fill_(~fg_mask, -1)
        most = min(self.masks_per_image, int(fg_mask.sum(1).max()))
        drawn, anchors = keys.topk(most, dim=1)
        chosen = drawn >= 0

        def of_anchors(values: torch.Tensor) -> torch.Tensor:
            return values.gather(1, anchors[..., None].expand(-1, -1, values.shape[-1]))

        scale = proto.new_tensor([width, height, width, height]) / imgsz[[1, 0, 1, 0]]
        boxes = of_anchors(target_bboxes) * scale
        area = ((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]) / (width * height)).clamp(min=1e-5)
        counts = torch.bincount(batch_idx.view(-1).long(), minlength=len(proto))
        first = (counts.cumsum(0) - counts)[:, None]
        owners = (first + target_gt_idx.gather(1, anchors)).clamp(max=len(masks) - 1)
        covered = None
        if self.neighbour_weight:
            nothing = masks.new_zeros(1, height, width)
            covered = torch.stack([torch.cat([nothing, part]).amax(0) for part in masks.split(counts.tolist())])
        losses, dice = self.mask_losses(masks[owners], of_anchors(pred_masks), proto, boxes, area, covered)
        if dice is not None:
            mean = (dice * chosen).sum(1) / chosen.sum(1).clamp(min=1)
            spread = mean[:, None].expand(fg_mask.shape).clone()
            self.mask_dice = spread.scatter_(1, anchors, torch.where(chosen, dice, mean[:, None]))
        return (losses * chosen).sum() / chosen.sum()


def _dice(inside: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Dice of soft masks of shape (..., h, w), 1 where they are equal; one pixel more or less hardly counts."""
    shared = (inside * targets).sum(dim=(-2, -1))
    both = inside.square().sum(dim=(-2, -1)) + targets.square().sum(dim=(-2, -1))
    return (2 * shared + 1) / (both + 1)
