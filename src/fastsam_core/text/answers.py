"""Answers to texts and to examples, from embeddings that are there: one matrix product each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fastsam_core._checks import as_array, as_integer, as_number, described
from fastsam_core._prompt_types import Text
from fastsam_core.errors import InvalidMasksError, InvalidPromptError
from fastsam_core.masks import check_masks
from fastsam_core.prompts import Matches
from fastsam_core.text.encoder import check_encoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from fastsam_core.masks import Masks
    from fastsam_core.text.encoder import TextEncoder

__all__ = [
    "SIMILAR_THRESHOLD",
    "TextScores",
    "classify_masks",
    "find_similar",
    "match_text",
    "score_texts",
    "select_text",
    "similarities",
]

SIMILAR_THRESHOLD: Final = 0.8
"""Cosine from which on a mask counts as similar to the examples, unless the caller says otherwise."""


@dataclass(frozen=True, slots=True, eq=False)
class TextScores:
    """How well texts fit masks.

    Attributes
    ----------
    cosines : ndarray of float64, shape (Q, N)
        Similarity of each query to each mask, in [-1, 1].
    probabilities : ndarray of float64, shape (Q, N)
        Probability that the query says more of the mask than any of the negatives does; 0 for masks without a pixel.
    """

    cosines: NDArray[np.float64]
    probabilities: NDArray[np.float64]


def score_texts(encoder: TextEncoder, embeddings: NDArray[np.float32], prompt: Text) -> TextScores:
    """Score masks for texts.

    A query is held against the prompt's negatives and those that the encoder always brings along ("something else",
    "object" …), as in LERF (Kerr et al. 2023, arXiv 2303.09553): with the cosines q of the query and n of the
    negatives, the probability is min over n of ``1 / (1 + exp(-(slope (q - n) + offset)))``. So it does not depend on
    how many negatives there are. A generic negative that is asked for takes no part; if none is left, n is 0. An
    encoder of closed vocabulary also brings the words that exclude the query (see `EncoderTraits`).

    Parameters
    ----------
    encoder : TextEncoder
        The one that made the embeddings.
    embeddings : ndarray of float32, shape (N, D)
        See `embed_masks`.
    prompt : Text
        Its mode does not matter here.

    Raises
    ------
    InvalidPromptError
        See `TextEncoder.embed_texts`; also if the prompt is no `Text`.
    InvalidMasksError
        If the embeddings are not of this encoder's width.
    InvalidParameterError
        If the encoder is none.
    """
    from scipy.special import expit

    check_encoder(encoder)
    if not isinstance(prompt, Text):
        raise InvalidPromptError(
            "This is no text prompt",
            expected="Text",
            actual=described(prompt),
            remedy='Text("a red car")',
        )
    if _rows(embeddings).shape[1] != encoder.width:
        raise InvalidMasksError(
            "The embeddings do not fit the encoder",
            expected=f"shape (N, {encoder.width})",
            actual=str(embeddings.shape),
            remedy="encode the masks with the same encoder",
        )
    against = [(*prompt.negatives, *encoder.traits.negatives_for(query)) for query in prompt.queries]
    texts = list(dict.fromkeys([*prompt.queries, *(text for negatives in against for text in negatives)]))
    products = _products(encoder.embed_texts(texts), embeddings)
    row_of = {text: row for row, text in enumerate(texts)}
    cosines = products[[row_of[query] for query in prompt.queries]]
    highest = np.zeros_like(cosines)
    for query, negatives in enumerate(against):
        if negatives:
            highest[query] = products[[row_of[text] for text in negatives]].max(axis=0)
    probabilities = expit(encoder.slope * (cosines - highest) + encoder.traits.offset)
    probabilities[:, ~embeddings.any(axis=1)] = 0.0
    return TextScores(cosines, probabilities)


def _products(words: NDArray[np.float32], embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return words @ embeddings.T, computed by one thread of torch.

    NumPy's product runs in a pool of threads of its own. The encoder's threads, still spinning, and those wait for each
    other's core, which took 8 ms on two cores where the product takes 0.1 ms; torch's own pool took 1 ms.
    """
    import torch

    left, right = (torch.from_numpy(np.require(part, np.float32, ["C", "W"])) for part in (words, embeddings))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        products: NDArray[np.float64] = (left @ right.T).double().numpy()
    finally:
        torch.set_num_threads(threads)
    return products


def match_text(encoder: TextEncoder, embeddings: NDArray[np.float32], prompt: Text) -> Matches:
    """Find the masks that fit texts.

    Parameters
    ----------
    encoder, embeddings
        As for `score_texts`.
    prompt : Text
        Masks below its threshold (a probability; None is the encoder's own) match nothing, in every mode.

    Returns
    -------
    Matches
        ``mode="best"``: one answer a query, -1 where nothing fits. ``"top_k"`` and ``"all"``: any number a query, the
        best first. The score is the probability.

    Raises
    ------
    InvalidPromptError, InvalidMasksError
        As `score_texts`.
    """
    return _matches(score_texts(encoder, embeddings, prompt), prompt, _threshold(encoder, prompt.threshold))


def _matches(scores: TextScores, prompt: Text, threshold: float) -> Matches:
    count = {"best": 1, "top_k": prompt.k, "all": scores.cosines.shape[1]}[prompt.mode]
    index: list[int] = []
    score: list[float] = []
    query: list[int] = []
    for number, row in enumerate(scores.probabilities):
        # a sigmoid saturates; cosines decide between equal probabilities
        order = np.lexsort((-scores.cosines[number], -row))[:count]
        found = order[(row[order] >= threshold) & (row[order] > 0)]
        if prompt.mode == "best" and not len(found):
            index, score, query = [*index, -1], [*score, 0.0], [*query, number]
        index += found.tolist()
        score += row[found].tolist()
        query += [number] * len(found)
    return Matches(np.array(index, np.int64), np.array(score, np.float64), np.array(query, np.int64))


def select_text(encoder: TextEncoder, masks: Masks, embeddings: NDArray[np.float32], prompt: Text) -> Masks:
    """Return the masks that fit texts, query by query, the best first; none if nothing fits.

    Parameters
    ----------
    encoder, embeddings, prompt
        As for `match_text`.
    masks : Masks
        The masks that were encoded.

    Returns
    -------
    Masks
        With the columns ``prompt_index`` (number of the query), ``prompt_score`` (probability) and ``text_cosine``.

    Raises
    ------
    InvalidPromptError, InvalidMasksError
        As `score_texts`; also if there are not as many embeddings as masks.
    """
    _check_count(masks, embeddings)
    scores = score_texts(encoder, embeddings, prompt)
    matches = _matches(scores, prompt, _threshold(encoder, prompt.threshold))
    found = matches.index >= 0
    index, query = matches.index[found], matches.prompt_index[found]
    return masks.take(
        index, prompt_index=query, prompt_score=matches.score[found], text_cosine=scores.cosines[query, index]
    )


def classify_masks(
    encoder: TextEncoder,
    embeddings: NDArray[np.float32],
    classes: Sequence[str],
    negatives: Sequence[str] = (),
    threshold: float | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Give each mask the class that fits it best.

    Parameters
    ----------
    encoder, embeddings
        As for `score_texts`.
    classes, negatives : sequence of str
        What masks may be, and what they are not.
    threshold : float, optional
        Probability below which a mask is of no class; None is the encoder's own.

    Returns
    -------
    index : ndarray of int64, shape (N,)
        Number of the class, -1 where none fits.
    probability : ndarray of float64, shape (N,)
        Of that class against the negatives; 0 where none fits.

    Raises
    ------
    InvalidPromptError, InvalidMasksError
        As `score_texts`; also without classes.
    """
    classes = Text(classes).queries
    if not classes:
        raise InvalidPromptError("There are no classes", expected="at least one text")
    scores = score_texts(encoder, embeddings, Text(classes, negatives))
    index = scores.cosines.argmax(axis=0).astype(np.int64)
    probability = scores.probabilities[index, np.arange(len(index))]
    fits = (probability >= _threshold(encoder, threshold)) & (probability > 0)
    return np.where(fits, index, -1), np.where(fits, probability, 0.0)


def similarities(embeddings: NDArray[np.float32], examples: ArrayLike | NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the cosine of each mask with the mean of examples.

    Parameters
    ----------
    embeddings : ndarray of float32, shape (N, D)
        See `embed_masks`.
    examples : sequence of int, or ndarray of float of shape (E, D)
        Numbers of masks among them, or embeddings, which may come from other images.

    Raises
    ------
    InvalidPromptError
        No examples, numbers that are not there, embeddings of another width, or examples that cancel out.
    """
    given = as_array("examples", examples, kind=InvalidPromptError)
    width = _rows(embeddings).shape[1]
    if given.size == 0:
        raise InvalidPromptError("There are no examples", expected="at least one mask")
    if given.dtype.kind in "iu":
        numbers = given.reshape(-1)
        if numbers.min() < -len(embeddings) or numbers.max() >= len(embeddings):
            raise InvalidPromptError(
                "There is no such mask", expected=f"numbers below {len(embeddings)}", actual=str(numbers.tolist()[:8])
            )
        vectors = embeddings[numbers]
    else:
        vectors = np.atleast_2d(given)
    if vectors.ndim != 2 or vectors.shape[1] != width or vectors.dtype.kind != "f":
        raise InvalidPromptError(
            "The examples are no embeddings of this encoder",
            expected=f"mask numbers, or float of shape (E, {width})",
            actual=f"{given.dtype} of shape {given.shape}",
        )
    mean = vectors.astype(np.float64).mean(axis=0)
    length = np.linalg.norm(mean)
    if not length > 0:
        raise InvalidPromptError("The examples have nothing in common", expected="examples with at least one pixel")
    cosines: NDArray[np.float64] = embeddings.astype(np.float64) @ (mean / length)
    return cosines


def find_similar(
    masks: Masks,
    embeddings: NDArray[np.float32],
    examples: ArrayLike | NDArray[np.float32],
    *,
    threshold: float | None = None,
    k: int | None = None,
) -> Masks:
    """Return the masks that look like examples, the most similar first.

    Parameters
    ----------
    masks : Masks
        The masks that were encoded.
    embeddings, examples
        As for `similarities`.
    threshold : float, optional
        Cosine from which on a mask counts, `SIMILAR_THRESHOLD` by default. With ``k`` alone there is none.
    k : int, optional
        Most masks, examples among the masks included.

    Returns
    -------
    Masks
        With the columns ``prompt_index`` (0) and ``prompt_score`` (the cosine). Examples that are masks of this image
        come first, whatever their similarity.

    Raises
    ------
    InvalidPromptError, InvalidMasksError
        As `similarities`; also if there are not as many embeddings as masks.
    InvalidParameterError
        If ``k`` is below 1, or a limit no number.
    """
    _check_count(masks, embeddings)
    if k is not None:
        k = as_integer("k", k, 1)
    if threshold is not None:
        threshold = as_number("threshold", threshold, -math.inf, math.inf)
    cosines = similarities(embeddings, examples)
    least = threshold if threshold is not None else SIMILAR_THRESHOLD if k is None else -np.inf
    given = np.asarray(examples)
    shown = np.zeros(len(masks), bool)
    if given.dtype.kind in "iu":
        shown[given.reshape(-1)] = True
    order = np.lexsort((-cosines, ~shown))
    order = order[shown[order] | ((cosines[order] >= least) & (masks.areas_px[order] > 0))][:k]
    return masks.take(order, prompt_index=np.zeros(len(order), np.int64), prompt_score=cosines[order])


def _check_count(masks: Masks, embeddings: NDArray[np.float32]) -> None:
    check_masks(masks, "choose among")
    if len(_rows(embeddings)) != len(masks):
        raise InvalidMasksError(
            "Each mask needs its embedding", expected=f"{len(masks)} rows", actual=f"{len(embeddings)}"
        )


def _threshold(encoder: TextEncoder, wanted: float | None) -> float:
    return encoder.threshold if wanted is None else as_number("threshold", wanted, 0, 1)


def _rows(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return embeddings, if they are some."""
    given: Any = embeddings
    if not isinstance(given, np.ndarray) or given.ndim != 2:
        raise InvalidMasksError(
            "These are no embeddings",
            expected="an array of shape (N, D)",
            actual=described(embeddings),
            remedy="let embed_masks make them",
        )
    return embeddings
