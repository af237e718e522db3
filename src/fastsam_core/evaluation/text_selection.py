"""Text prompts: the mask that the name of a class selects, against the annotated objects of that class.

The paper shows this task in pictures only (Zhao et al. 2023, section 4.5). Here every class that occurs in an image is
one query, answered with one mask whatever its probability; its IoU is that with the best object of the class.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fastsam_core.errors import UnknownWordsError
from fastsam_core.evaluation.reports import Cell, Report, Table, counted, mean
from fastsam_core.prompts import Text

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from numpy.typing import NDArray

    from fastsam_core.evaluation.truth import Truth, TruthSet
    from fastsam_core.masks import Masks
    from fastsam_core.model import FastSAM
    from fastsam_core.text import TextEncoder

__all__ = ["TextScorer", "iter_texts", "known_names"]

_RIGHT_IOU: Final = 0.5
_COUNTED: Final = ("answers", "right", "overlap", "chance", "reachable")


@dataclass
class TextScorer:
    """Collects queries and averages over them, all classes together and class by class."""

    _queries: list[tuple[str, NDArray[np.float64]]] = field(default_factory=list, init=False, repr=False)
    _images: int = field(default=0, init=False, repr=False)

    def add(self, masks: Masks, truth: Truth, names: Sequence[str], answers: Mapping[str, int]) -> None:
        """Score one image.

        Parameters
        ----------
        masks : Masks
            All that the text could choose from.
        truth : Truth
        names : sequence of str
            Class of each annotated object.
        answers : mapping of str to int
            For each class asked for the mask chosen, -1 for none.
        """
        self._images += 1
        iou = masks.iou(truth.masks)
        for name, chosen in answers.items():
            best = iou[:, [place for place, other in enumerate(names) if other == name]].max(axis=1, initial=0.0)
            right = best >= _RIGHT_IOU
            overlap = float(best[chosen]) if chosen >= 0 else 0.0
            chance = float(right.mean()) if len(masks) else 0.0
            figures = (chosen >= 0, overlap >= _RIGHT_IOU, overlap, chance, right.any())
            self._queries.append((name, np.array(figures, np.float64)))

    def report(self) -> Report:
        """Average over queries; the most frequent classes have rows of their own."""
        every = np.array([figures for _, figures in self._queries]).reshape(-1, len(_COUNTED))
        values = {"images": float(self._images), "queries": float(len(every))}
        values |= {"accuracy": mean(every[:, 1]), "miou": mean(every[:, 2]), "chance": mean(every[:, 3])}
        reachable = every[:, 4] > 0
        values |= {"reachable": mean(every[:, 4]), "accuracy_where_reachable": mean(every[reachable, 1])}
        values |= {"chance_where_reachable": mean(every[reachable, 3])}
        columns = ("class", "queries", "right", "by chance", "a right mask is there", "mean IoU")
        rows: list[tuple[Cell, ...]] = [_row("all", every)]
        for name, _ in Counter(name for name, _ in self._queries).most_common(20):
            rows.append(_row(name, np.array([figures for other, figures in self._queries if other == name])))
        title = f"{counted(images=self._images, queries=len(every))}; right: IoU at least {_RIGHT_IOU}"
        return Report("text", (Table(title, columns, tuple(rows)),), values)


def known_names(encoder: TextEncoder, names: Mapping[int, str]) -> tuple[dict[int, str], tuple[str, ...]]:
    """Divide the names of classes into those that the encoder can be asked for, by id, and the others."""
    known, unknown = {}, []
    for number, name in names.items():
        try:
            encoder.check(Text(name))
        except UnknownWordsError:
            unknown.append(name)
        else:
            known[number] = name
    return known, tuple(unknown)


def iter_texts(
    scorer: TextScorer,
    truths: TruthSet,
    names: Mapping[int, str],
    model: FastSAM,
    encoder: TextEncoder,
    chosen: Sequence[int],
    **search: Any,
) -> Generator[int, None, None]:
    """Segment images, ask for each class in them by name, and score; yields the images done.

    Parameters
    ----------
    scorer, truths, model, encoder
    names : mapping of int to str
        Name of each class; objects of others are not asked for. In a folder of label maps all objects are of class 1.
    chosen : sequence of int
        Which images.
    **search
        ``conf``, ``iou``, ``max_det``, ``imgsz``, as in `fastsam_core.FastSAM.segment`.
    """
    from fastsam_core.evaluation.coco_data import CocoData
    from fastsam_core.evaluation.truth import iter_predictions
    from fastsam_core.images import read_image
    from fastsam_core.text import embed_masks, match_text

    with closing(iter_predictions(truths, model, chosen, **search)) as steps:
        for index, masks, truth in steps:
            classes = truths.categories(index) if isinstance(truths, CocoData) else [1] * len(truth)
            objects = [names.get(number, "") for number in classes]
            asked = sorted(set(objects) - {""})
            answers = dict.fromkeys(asked, -1)
            if asked and len(masks):
                embeddings = embed_masks(encoder, read_image(truths.images[index]).rgb8, masks)
                found = match_text(encoder, embeddings, Text(asked, threshold=0.0)).index
                answers = dict(zip(asked, found.tolist(), strict=True))
            scorer.add(masks, truth, objects, answers)
            yield index


def _row(name: str, figures: NDArray[np.float64]) -> tuple[Cell, ...]:
    return (name, len(figures), *(mean(figures[:, column]) for column in (1, 3, 4, 2)))
