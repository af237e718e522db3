"""Between masks and FiftyOne's labels, exact to the pixel.

FiftyOne keeps an instance mask as a crop inside a relative box (x, y, width, height), and its consumers round that box
differently. Boxes at whole pixels, crops of exactly that many pixels, and corners a hair inside their pixel come back
unchanged from all of them.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fastsam_core.masks import Masks
from fiftyone_fastsam._fiftyone import import_fiftyone

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = [
    "EMBEDDING",
    "MEASURES",
    "Document",
    "Instance",
    "array_bytes",
    "array_of",
    "instances_of",
    "map_of",
    "masks_from_detections",
    "relative_box",
    "to_detections",
]

Document: TypeAlias = dict[str, Any]

EMBEDDING = "embedding"
"""Attribute of labels that holds the text encoder's vector of the mask."""
EVERYTHING_LABEL = "object"
MEASURES = ("stability", "quality")
"""Columns of :class:`Masks` that become attributes of labels."""
_INSIDE_PX = 1e-7


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """One object as FiftyOne stores it.

    Parameters
    ----------
    label : str or None
        Its class.
    bounding_box : list of float
        Relative (x, y, width, height).
    mask : bool ndarray (h, w), optional
        Inside the box; None for a prompt that nothing answers.
    confidence : float, optional
    attributes : mapping
        Further attributes, as stored in the database.
    tags : sequence of str
    id : bson.ObjectId, optional
        A new one by default.
    mask_path : str, optional
        File that holds the mask instead.
    """

    label: str | None
    bounding_box: list[float]
    mask: NDArray[np.bool_] | None
    confidence: float | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    tags: Sequence[str] = ()
    id: Any = None
    mask_path: str | None = None

    def document(self, *, with_mask: bool = True) -> Document:
        """Return the label as it lies in the database."""
        from bson import ObjectId

        document: Document = {
            "_id": self.id or ObjectId(),
            "_cls": "Detection",
            "attributes": self.attributes.get("attributes", {}),
            "tags": list(self.tags),
        }
        if self.label is not None:
            document["label"] = self.label
        document["bounding_box"] = self.bounding_box
        if with_mask and self.mask is not None:
            document["mask"] = array_bytes(self.mask)
        if self.mask_path is not None:
            document["mask_path"] = self.mask_path
        if self.confidence is not None:
            document["confidence"] = self.confidence
        document.update((key, value) for key, value in self.attributes.items() if key != "attributes")
        return document

    def detection(self) -> Any:
        """Return the label as a ``fiftyone.Detection``."""
        detection = import_fiftyone().Detection.from_dict(self.document(with_mask=False))
        detection.mask = self.mask
        return detection


def relative_box(extent_xyxy: Sequence[int] | NDArray[np.int32], image_hw: tuple[int, int]) -> list[float]:
    """Turn a half-open pixel box into FiftyOne's relative (x, y, width, height)."""
    (x0, y0, x1, y1), (height, width) = (int(v) for v in extent_xyxy), image_hw
    return [(x0 + _INSIDE_PX) / width, (y0 + _INSIDE_PX) / height, (x1 - x0) / width, (y1 - y0) / height]


def instances_of(masks: Masks, label: str = EVERYTHING_LABEL) -> list[Instance]:
    """Turn masks into instances, in order; empty masks are left out."""
    measures = [name for name in MEASURES if name in masks.fields]
    return [
        Instance(
            label,
            relative_box(masks.extents_xyxy[i], masks.image_hw),
            masks.crop(i),
            float(masks.scores[i]),
            measured(masks, i, measures),
        )
        for i in range(len(masks))
        if masks.areas_px[i]
    ]


def measured(masks: Masks, index: int, measures: Sequence[str] = MEASURES) -> Document:
    """Return what is known about one mask: its area, and stability and quality where they were computed."""
    found: Document = {"area_px": int(masks.areas_px[index])}
    found.update((name, float(masks.fields[name][index])) for name in measures if name in masks.fields)
    return found


def to_detections(masks: Masks, label: str = EVERYTHING_LABEL) -> Any:
    """Return masks as ``fiftyone.Detections``, with confidence and ``area_px``; empty masks are left out.

    Parameters
    ----------
    masks : Masks
        Of one image.
    label : str
        Class of all of them.
    """
    return import_fiftyone().Detections(detections=[instance.detection() for instance in instances_of(masks, label)])


def map_of(masks: Masks, ids: Sequence[int] | None = None) -> NDArray[Any]:
    """Return a label map (0 is background, 1, 2, … the objects by default), in 8 bits if its ids allow it."""
    labels = masks.to_label_map(ids)
    return labels.astype(np.uint8) if labels.max(initial=0) <= np.iinfo(np.uint8).max else labels


def masks_from_detections(detections: Any, image_hw: tuple[int, int]) -> Masks:
    """Read instance masks back.

    Parameters
    ----------
    detections : fiftyone.Detections
        Those without a mask become empty masks, so that order and number stay. Masks whose size is not that of their
        box are scaled to it (nearest neighbour).
    image_hw : tuple of int
        Size of the image in pixels.
    """
    height, width = image_hw
    crops: list[NDArray[np.bool_]] = []
    origins: list[tuple[int, int]] = []
    for detection in detections.detections:
        mask = detection.get_mask()
        x, y, w, h = detection.bounding_box
        y0, x0, y1, x1 = round(y * height), round(x * width), round((y + h) * height), round((x + w) * width)
        crop = np.zeros((0, 0), bool) if mask is None else _fitted(np.asarray(mask) > 0, (y1 - y0, x1 - x0))
        crops.append(crop)
        origins.append((y0, x0))
    scores = [1.0 if d.confidence is None else d.confidence for d in detections.detections]
    masks = Masks.from_crops(crops, np.reshape(np.array(origins, np.int64), (-1, 2)), image_hw, scores)
    return masks.with_fields(label=np.array([d.label or "" for d in detections.detections], dtype=str))


def _fitted(mask: NDArray[np.bool_], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    if mask.shape == size_hw or 0 in mask.shape:
        return mask
    rows, columns = (
        np.minimum(((np.arange(max(new, 1)) + 0.5) * old / max(new, 1)).astype(int), old - 1)
        for new, old in zip(size_hw, mask.shape, strict=True)
    )
    return mask[np.ix_(rows, columns)]


def array_bytes(array: NDArray[Any]) -> bytes:
    """Pack an array as FiftyOne's ``ArrayField`` does (``numpy.save``, zlib), with quick compression."""
    packer = zlib.compressobj(1)
    plain = np.ascontiguousarray(array)
    return packer.compress(_npy_header(plain.shape, plain.dtype.str)) + packer.compress(plain.data) + packer.flush()


def array_of(stored: bytes) -> NDArray[Any]:
    """Unpack what :func:`array_bytes` or FiftyOne has packed."""
    import io

    array: NDArray[Any] = np.load(io.BytesIO(zlib.decompress(stored)), allow_pickle=False)
    return array


@lru_cache(maxsize=4096)
def _npy_header(shape: tuple[int, ...], dtype: str) -> bytes:
    import io

    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue()
