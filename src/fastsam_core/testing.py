"""Made-up but realistic network outputs and masks, for tests and benchmarks of this project and of what builds on it.

The heads are what a trained FastSAM would give for a crowded photo: wavy ellipses of log-uniform size all over the
image, each found by several neighbouring anchors. 100 of them have boxes of about 6.4 times the image's area in all,
300 about 21.9 times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastsam_core.errors import InvalidParameterError
from fastsam_core.geometry import Letterbox, box_iou, plan_letterbox

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import DrawFn, SearchStrategy

    from fastsam_core.masks import Masks
    from fastsam_core.network import Prediction

__all__ = ["RectangleNetwork", "SyntheticHead", "masks_strategy", "synthetic_head", "synthetic_prediction"]

Float32Array = npt.NDArray[np.float32]

_PROTOTYPES = 32
_SHAPE_PROTOTYPES = 6  # 1, x, y, x², xy, y²: enough for every ellipse
_STRIDES = (8, 16, 32)
_DIAMETERS = (0.014, 0.83)  # of the square root of the image's area
_WAVINESS = 0.25
_MAX_IOU = 0.85  # below the 0.9 at which FastSAM's NMS would merge two objects
_TRIES = 200


@dataclass(frozen=True, slots=True)
class RectangleNetwork:
    """A network that finds the same rectangles in every image; each mask fills its box.

    Parameters
    ----------
    boxes_xyxy : tuple of boxes
        In pixels of the network's input.
    scores : tuple of float
        One for each.
    """

    boxes_xyxy: tuple[tuple[int, int, int, int], ...]
    scores: tuple[float, ...]

    def forward(self, batch_bhwc: npt.NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what a YOLOv8-seg network would: boxes, scores and coefficients, and prototypes."""
        import torch

        count, height, width, _ = batch_bhwc.shape
        boxes = torch.tensor(self.boxes_xyxy, dtype=torch.float32)
        found = torch.zeros(5 + _PROTOTYPES, len(boxes))
        found[:2] = ((boxes[:, :2] + boxes[:, 2:]) / 2).T
        found[2:4] = (boxes[:, 2:] - boxes[:, :2]).T
        found[4] = torch.tensor(self.scores)
        found[5] = 8
        prototypes = torch.zeros(count, _PROTOTYPES, height // 4, width // 4)
        prototypes[:, 0] = 1
        return found.expand(count, -1, -1).clone(), prototypes


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticHead:
    """What a YOLOv8-seg network would put out for one image.

    Parameters
    ----------
    output : float32 array (1, 37, A)
        Box centre x, centre y, width and height (network pixels), score, and 32 coefficients of every anchor.
    prototypes : float32 array (1, 32, ph, pw)
        Prototype maps at a quarter of the network's input.
    best_anchors : int64 array (N,)
        The anchor of each object with the highest score, best object first: what NMS keeps.
    letterbox : Letterbox
        Where the image lies in the network's input.
    """

    output: Float32Array
    prototypes: Float32Array
    best_anchors: npt.NDArray[np.int64]
    letterbox: Letterbox


def synthetic_head(
    n_masks: int, image_hw: tuple[int, int], imgsz: int, seed: int, *, duplicates: int = 8
) -> SyntheticHead:
    """Make the raw output of a network that finds ``n_masks`` objects.

    Parameters
    ----------
    n_masks : int
        Number of objects left by NMS with an IoU limit of 0.9 and a confidence of 0.4.
    image_hw : tuple of int
        Height and width of the image in pixels.
    imgsz : int
        Longer side of the network's input in pixels.
    seed : int
        Equal seeds give equal heads.
    duplicates : int
        Anchors that find each object, with nearly the same box and coefficients.

    Raises
    ------
    InvalidParameterError
        If the network has fewer anchors than needed, or so many different objects do not fit into the image.
    """
    rng = np.random.default_rng(seed)
    plan = plan_letterbox(image_hw, imgsz)
    height, width = plan.network_hw
    anchors = sum((height // stride) * (width // stride) for stride in _STRIDES)
    if n_masks * duplicates > anchors:
        raise InvalidParameterError(
            "The network has too few anchors", expected=f"at least {n_masks * duplicates}", actual=f"{anchors}"
        )
    centres_xy, half_axes, angles, boxes = _place_ellipses(rng, n_masks, plan)
    coefficients = np.concatenate(
        [
            _ellipse_coefficients(rng, centres_xy, half_axes, angles, plan),
            rng.normal(0, _WAVINESS, (n_masks, _PROTOTYPES - _SHAPE_PROTOTYPES)),
        ],
        axis=1,
    )
    scores = np.sort(rng.uniform(0.45, 0.97, n_masks))[::-1]
    chosen = rng.permutation(anchors)[: n_masks * duplicates].reshape(n_masks, duplicates)
    output = np.zeros((1, 5 + _PROTOTYPES, anchors), dtype=np.float32)
    for rank in range(duplicates):
        jitter = 0 if rank == 0 else 0.01
        sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        moved = boxes + jitter * sides * rng.uniform(-1, 1, boxes.shape)
        columns = chosen[:, rank]
        output[0, :2, columns] = (moved[:, :2] + moved[:, 2:]) / 2
        output[0, 2:4, columns] = moved[:, 2:] - moved[:, :2]
        output[0, 4, columns] = scores * (1 - 0.01 * rank)
        output[0, 5:, columns] = coefficients * (1 + jitter * rng.normal(size=coefficients.shape))
    return SyntheticHead(output, _prototypes(rng, plan)[None], chosen[:, 0], plan)


def synthetic_prediction(n_masks: int, image_hw: tuple[int, int], imgsz: int, seed: int) -> Prediction:
    """Make what NMS would leave of :func:`synthetic_head`: ``n_masks`` detections, best first.

    Parameters
    ----------
    n_masks, image_hw, imgsz, seed
        As in :func:`synthetic_head`.
    """
    from fastsam_core.network import Prediction

    head = synthetic_head(n_masks, image_hw, imgsz, seed, duplicates=1)
    found = np.ascontiguousarray(head.output[0].T[head.best_anchors])
    centres, sizes = found[:, :2], found[:, 2:4]
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    return Prediction(
        boxes_xyxy=head.letterbox.to_image(boxes),
        scores=found[:, 4].copy(),
        boxes_network_xyxy=boxes,
        coefficients=np.ascontiguousarray(found[:, 5:]),
        prototypes=head.prototypes[0],
        letterbox=head.letterbox,
    )


def masks_strategy(*, max_masks: int = 6, max_side_px: int = 24) -> SearchStrategy[Masks]:
    """Strategy for small :class:`~fastsam_core.masks.Masks`: overlapping, nested, touching, empty, or none at all.

    Needs ``hypothesis``.
    """
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as hnp

    from fastsam_core.masks import Masks

    @st.composite
    def build(draw: DrawFn) -> Masks:
        height, width = draw(st.integers(1, max_side_px)), draw(st.integers(1, max_side_px))
        count = draw(st.integers(0, max_masks))
        if count == 0:
            return Masks.empty((height, width))
        stack = np.zeros((count, height, width), dtype=bool)
        for mask in stack:
            y, x = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
            window = mask[y : y + draw(st.integers(1, height)), x : x + draw(st.integers(1, width))]
            window[...] = True
            if draw(st.booleans()):
                window &= draw(hnp.arrays(np.bool_, window.shape))
        return Masks.from_dense(stack, scores=draw(_scores(count)))

    def _scores(count: int) -> SearchStrategy[npt.NDArray[Any]]:
        return hnp.arrays(np.float32, count, elements=st.floats(0, 1, width=32))

    return build()


def _place_ellipses(
    rng: np.random.Generator, count: int, plan: Letterbox
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Draw centres (N, 2), half axes (N, 2), angles (N,) and clipped boxes (N, 4), no two alike, in network pixels."""
    content_h, content_w = plan.resized_hw
    pad_y, pad_x = plan.pad_yx
    low, high = (math.sqrt(content_h * content_w) * share / 2 for share in _DIAMETERS)
    ranks = (rng.permutation(count) + rng.uniform(size=count)) / max(count, 1)
    sizes = low * (high / low) ** ranks
    centres, half_axes, angles, boxes = (np.zeros((count, columns)) for columns in (2, 2, 1, 4))
    limits = np.array((pad_x, pad_y, pad_x + content_w, pad_y + content_h))
    for i in range(count):
        for _ in range(_TRIES):
            centres[i] = limits[:2] + rng.uniform(size=2) * (content_w, content_h)
            stretch = rng.uniform(0.8, 1.25)
            half_axes[i] = sizes[i] * stretch, sizes[i] / stretch
            angles[i] = rng.uniform(0, math.pi)
            cos, sin = math.cos(angles[i, 0]), math.sin(angles[i, 0])
            a, b = half_axes[i]
            reach = 1.1 * np.array((math.hypot(a * cos, b * sin), math.hypot(a * sin, b * cos)))
            box = np.concatenate([centres[i] - reach, centres[i] + reach])
            boxes[i] = np.clip(box, np.tile(limits[:2], 2), np.tile(limits[2:], 2))
            if box_iou(boxes[i], boxes[:i]).max(initial=0.0) < _MAX_IOU:
                break
        else:
            raise InvalidParameterError(
                "So many different objects do not fit into the image", expected="fewer masks", actual=f"{count}"
            )
    return centres, half_axes, angles[:, 0], boxes


def _ellipse_coefficients(
    rng: np.random.Generator,
    centres_xy: npt.NDArray[np.float64],
    half_axes: npt.NDArray[np.float64],
    angles: npt.NDArray[np.float64],
    plan: Letterbox,
) -> npt.NDArray[np.float64]:
    """Return coefficients (N, 6) of 1, x, y, x², xy, y² for ``steepness * (1 - q)`` with ``q`` = 1 on the ellipse."""
    scale = np.array(plan.network_hw)[::-1] / 2
    (x, y), (a, b) = (centres_xy / scale - 1).T, half_axes.T
    cos, sin = np.cos(angles), np.sin(angles)
    along, across = np.stack([cos / a, sin / a]), np.stack([-sin / b, cos / b])
    xx = (along[0] ** 2 + across[0] ** 2) * scale[0] ** 2
    yy = (along[1] ** 2 + across[1] ** 2) * scale[1] ** 2
    xy = 2 * (along[0] * along[1] + across[0] * across[1]) * scale[0] * scale[1]
    constant = xx * x**2 + xy * x * y + yy * y**2
    quadratic = np.stack([1 - constant, 2 * xx * x + xy * y, 2 * yy * y + xy * x, -xx, -xy, -yy], axis=1)
    result: npt.NDArray[np.float64] = rng.uniform(3, 8, (len(angles), 1)) * quadratic
    return result


def _prototypes(rng: np.random.Generator, plan: Letterbox) -> Float32Array:
    """Make the monomials of :func:`_ellipse_coefficients` and smooth random fields, float32 (32, ph, pw)."""
    cells_y, cells_x = (side // 4 for side in plan.network_hw)
    y = ((np.arange(cells_y) + 0.5) / cells_y * 2 - 1)[:, None]
    x = ((np.arange(cells_x) + 0.5) / cells_x * 2 - 1)[None, :]
    one = np.ones((cells_y, cells_x))
    fields = [one, x * one, y * one, x**2 * one, x * y, y**2 * one]
    for _ in range(_PROTOTYPES - _SHAPE_PROTOTYPES):
        waves = rng.uniform(2, 20, 2)
        phases = rng.uniform(0, 2 * math.pi, 2)
        fields.append(np.cos(waves[0] * x + phases[0]) * np.cos(waves[1] * y + phases[1]) * math.sqrt(2))
    return np.stack(fields).astype(np.float32)
