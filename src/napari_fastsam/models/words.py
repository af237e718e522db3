"""Words and likeness: vectors of candidates of a plane, made in the worker thread, and how well each answers."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import dataclass, field
from importlib.util import find_spec
from threading import Event
from typing import TYPE_CHECKING, cast

import numpy as np

from napari_fastsam.models.inference import Failed

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence
    from types import ModuleType

    from numpy.typing import NDArray

    from fastsam_core.text import EmbeddingStore, TextEncoder
    from napari_fastsam._convert import Plane
    from napari_fastsam._planes import PlaneSource
    from napari_fastsam.models.candidates import Candidates

__all__ = ["INSTALL", "Look", "Ranking", "Ticked", "Vectors", "can_read_words", "look_at_all", "queries_of"]

INSTALL = 'pip install "fastsam-plugins[text]"'


def can_read_words() -> bool:
    """Tell whether the text extra is there, without importing it."""
    return find_spec("open_clip") is not None


def queries_of(text: str) -> tuple[str, ...]:
    """Return what is asked for: texts between commas, each of which will do."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """How well each candidate of a plane answers, and from where on it is picked.

    Attributes
    ----------
    scores : float64 ndarray of shape (N,)
        Probability that a text fits, or cosine with the examples.
    low, high : float
        Candidates with scores between them are picked.
    cause : mapping
        What was asked, fit for JSON.
    """

    scores: NDArray[np.float64]
    low: float
    high: float
    cause: Mapping[str, object]

    def picked(self, shown: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the shown candidates inside the limits, the best first."""
        places = np.flatnonzero(shown & (self.scores >= self.low) & (self.scores <= self.high))
        return places[np.argsort(-self.scores[places], kind="stable")]


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What the worker is to do: look at candidates of a plane once.

    Attributes
    ----------
    image_id : hashable
    source : PlaneSource
    plane : Plane
    candidates : Candidates
    wanted : bool ndarray of shape (N,)
        Which of them to look at.
    encoder : TextEncoder or None
        The one in use; None to load `name`.
    name : str
        Of the encoder; "auto" takes the best that is on this machine.
    device : str
    queries : tuple of str
        Texts to check before the work begins.
    stop : Event
    """

    image_id: Hashable
    source: PlaneSource
    plane: Plane
    candidates: Candidates
    wanted: NDArray[np.bool_]
    encoder: TextEncoder | None
    name: str
    device: str
    queries: tuple[str, ...] = ()
    stop: Event = field(default_factory=Event)


@dataclass(frozen=True, slots=True)
class Ticked:
    """So many candidates were looked at."""

    done: int
    total: int


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """What an encoder saw of candidates.

    Attributes
    ----------
    encoder : TextEncoder
    candidates : Candidates
    looked_at : bool ndarray of shape (N,)
        Which of them.
    rows : float32 ndarray of shape (M, D)
        Of those, in their order.
    """

    encoder: TextEncoder
    candidates: Candidates
    looked_at: NDArray[np.bool_]
    rows: NDArray[np.float32]

    def places_of(self, indices: Sequence[int]) -> list[int]:
        """Return the rows of candidates that were looked at."""
        return [int(self.looked_at[:index].sum()) for index in indices if self.looked_at[index]]

    def spread(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the scores (M,) of the rows as those of all candidates (N,): the others have minus infinity."""
        spread = np.full(len(self.looked_at), -np.inf)
        spread[self.looked_at] = scores
        return spread


def look_at_all(look: Look, store: EmbeddingStore) -> Iterator[Ticked | Vectors | Failed]:
    """Encode candidates of a plane; each step is a tick of progress and a place to stop, the last the result."""
    try:
        yield from _look_at_all(look, store)
    except Exception as error:  # noqa: BLE001 (see `napari_fastsam.models.inference.steps_of`)
        yield Failed(error)


def _keep_triton_out() -> None:
    """Let torch do without Triton, which only GPUs use and which open_clip's imports would load.

    Triton brings an LLVM of its own along, and Mesa's OpenGL drivers use the system's: in one process they crash.
    """
    import torch

    if "triton" not in sys.modules and not torch.cuda.is_available():
        sys.modules["triton"] = cast("ModuleType", None)  # `import triton` raises ImportError now


def _look_at_all(look: Look, store: EmbeddingStore) -> Iterator[Ticked | Vectors]:
    from fastsam_core.prompts import Text
    from fastsam_core.text import TextEncoder, iter_embed_masks

    masks = look.candidates.masks[look.wanted]
    total = len(masks)
    encoder = look.encoder
    if encoder is None:
        _keep_triton_out()
        encoder = TextEncoder.load(None if look.name == "auto" else look.name, device=look.device)
    if look.queries:
        encoder.check(Text(look.queries))
    yield Ticked(0, total)
    image = look.source.read(look.plane).image
    with closing(iter_embed_masks(encoder, image.rgb8, masks, store=store)) as steps:
        while not look.stop.is_set():
            try:
                yield Ticked(*next(steps))
            except StopIteration as end:
                yield Vectors(encoder, look.candidates, look.wanted, end.value)
                return
