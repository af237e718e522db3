"""Pick by words and by likeness: the encoder looks once at every candidate, each question after that is a look-up."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from fastsam_core.errors import FastSAMError, ImageContentError, MissingDependencyError
from napari_fastsam._notify import describe, notices, warn
from napari_fastsam._settings import read_settings
from napari_fastsam.models.inference import Failed
from napari_fastsam.models.words import INSTALL, Look, Ranking, Ticked, Vectors, can_read_words, look_at_all, queries_of

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

    from fastsam_core.text import EmbeddingStore, TextEncoder
    from napari_fastsam._convert import Plane
    from napari_fastsam.controllers.session import Session

__all__ = ["WordsController"]

_PLANES_KEPT = 32
_MAX_STORE_BYTES = 2**28
_NOT_YET = "These candidates were not looked at yet: press Enter in the text."


class WordsController:
    """Answers texts and examples among the candidates of the plane.

    Parameters
    ----------
    session : Session
    """

    running_changed = Signal(bool)
    progress = Signal(int, int)
    """How many candidates were looked at, of how many."""
    said = Signal(str)
    """What the user should know of the last question: an unknown word, a note about the encoder; "" for nothing."""
    ranked = Signal(object)
    """The Ranking that answers now, None if nothing is asked."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.encoder: TextEncoder | None = None
        self._encoder_name = ""
        self._store: EmbeddingStore | None = None
        self._vectors: OrderedDict[tuple[Hashable, Plane], Vectors] = OrderedDict()
        self._question: tuple[str, ...] | list[int] = ()
        self._look: Look | None = None
        session.candidates_changed.connect(self._on_candidates)

    @property
    def running(self) -> bool:
        """Whether candidates are being looked at."""
        return self._look is not None

    def close(self) -> None:
        """Stop work, and forget what was seen."""
        self.cancel()
        self._vectors.clear()
        self.session.candidates_changed.disconnect(self._on_candidates)

    # ---- questions ----------------------------------------------------------------------------------------------

    def ask(self, text: str, *, begin: bool = True) -> None:
        """Pick what a text says.

        Parameters
        ----------
        text : str
            Alternatives between commas; "" asks nothing.
        begin : bool
            Look at the candidates if that was not done; otherwise such a question is dropped.
        """
        queries = queries_of(text)
        if not queries:
            self.clear()
            return
        self._put(queries, begin=begin)

    def find_similar(self) -> None:
        """Pick what looks like the candidates that are picked now."""
        with notices():
            examples = self.session.selected or [pick.candidate for pick in self.session.picks]
            if not examples:
                raise ImageContentError(
                    "There is no example", remedy="pick one or more candidates first: click, select rows, or add points"
                )
            self._put(list(examples), begin=True)

    def clear(self, said: str = "") -> None:
        """Ask nothing, and say why if there is a reason."""
        self._question = ()
        self.session.set_ranking(None)
        self.ranked.emit(None)
        self.said.emit(said)

    def set_limits(self, low: float, high: float) -> None:
        """Pick between these scores from now on; nothing is encoded for it."""
        ranking = self.session.ranking
        if ranking is not None:
            self.session.set_ranking(Ranking(ranking.scores, low, high, ranking.cause))

    def _put(self, question: tuple[str, ...] | list[int], *, begin: bool) -> None:
        with notices():
            if begin:
                self.session.settings = read_settings()  # another encoder may be wanted by now
            vectors = self._known()
            if vectors is None and not begin:
                return
            self._question = question
            if vectors is None or (begin and (self._wanted() & ~vectors.looked_at).any()):
                self._start()
            else:
                self._answer(vectors)

    def _known(self) -> Vectors | None:
        """Return the vectors of the plane's candidates, if they are there and of the encoder that is wanted."""
        session = self.session
        if session.image is None or session.plane is None:
            return None
        found = self._vectors.get((session.image.unique_id, session.plane))
        current = found is not None and found.candidates is session.candidates and found.encoder is self.encoder
        return found if current and self._encoder_name == session.settings.text_model else None

    def _wanted(self) -> NDArray[np.bool_]:
        """Tell which candidates of the plane can be asked for, bool (N,): those that are sure, shown or picked."""
        session = self.session
        if session.candidates is None:
            return np.zeros(0, bool)
        wanted: NDArray[np.bool_] = session.candidates.sure | session.shown
        return wanted

    def _answer(self, vectors: Vectors) -> None:
        """Score all candidates: a matrix product."""
        from fastsam_core.prompts import Text
        from fastsam_core.text import SIMILAR_THRESHOLD, score_texts, similarities

        question = self._question
        try:
            if isinstance(question, list):
                scores, low = similarities(vectors.rows, vectors.places_of(question)), SIMILAR_THRESHOLD
                cause: dict[str, object] = {"by": "similar", "examples": len(question)}
                message = ""
            else:
                scores = score_texts(vectors.encoder, vectors.rows, Text(question)).probabilities.max(axis=0)
                low, message = vectors.encoder.threshold, vectors.encoder.notice
                cause = {"by": "text", "text": ", ".join(question), "encoder": vectors.encoder.name}
        except FastSAMError as error:
            self.clear(describe(error))
            return
        ranking = Ranking(vectors.spread(scores), low, np.inf, cause)
        count = len(ranking.picked(self.session.shown))
        asked = len(vectors.rows)
        fit = "fits" if count == 1 else "fit"
        found = f"{count} of {asked} candidates {fit}." if count else "Nothing here fits; lower the limit?"
        self.said.emit(f"{found} {message}".strip())
        self.session.set_ranking(ranking)
        self.ranked.emit(ranking)

    def _on_candidates(self) -> None:
        """Answer on another plane what was asked, if that is a look-up; examples belong to their plane."""
        vectors = self._known()
        if self.session.image is None:
            self.cancel()
        if isinstance(self._question, list):
            self._question = ()
        if self._question and vectors is not None:
            self._answer(vectors)
        elif self.session.ranking is not None:
            self.session.set_ranking(None)
            self.ranked.emit(None)
            self.said.emit(_NOT_YET if self._question and self.session.candidates is not None else "")

    # ---- looking ------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Stop waiting at once; what was encoded so far is remembered."""
        if self._look is not None:
            self.abandon()
            self._end("")

    def abandon(self) -> None:
        """Stop waiting and tell nobody: the window is gone."""
        if self._look is not None:
            self._look.stop.set()
        self._look = None

    def _end(self, message: str) -> None:
        self._look = None
        self.said.emit(message)
        self.running_changed.emit(False)

    def _start(self) -> None:
        from napari.qt.threading import create_worker

        session = self.session
        if not can_read_words():
            raise MissingDependencyError("Words and likeness need open_clip", remedy=INSTALL)
        if session.candidates is None or session.plane is None or session.image is None:
            raise ImageContentError("There are no candidates to choose from", remedy="run 'Segment everything' first")
        self.cancel()
        name = session.settings.text_model
        look = Look(
            image_id=session.image.unique_id,
            source=session.source(),
            plane=session.plane,
            candidates=session.candidates,
            wanted=self._wanted(),
            encoder=self.encoder if name == self._encoder_name else None,
            name=name,
            device=session.settings.device,
            queries=self._question if isinstance(self._question, tuple) else (),
        )
        worker = create_worker(
            look_at_all,
            look,
            self._storage(),
            _progress={"total": 0, "desc": f"FastSAM: words for {look.source.name}"},
            _start_thread=False,
            _ignore_errors=True,
        )
        self._look = look
        worker.yielded.connect(lambda step: self._on_step(look, step))
        worker.finished.connect(lambda: self._on_finished(look))
        self.said.emit("Looking at all candidates, once …")
        self.progress.emit(0, 0)
        self.running_changed.emit(True)
        worker.start()

    def _storage(self) -> EmbeddingStore:
        if self._store is None:
            from fastsam_core.text import EmbeddingStore

            self._store = EmbeddingStore(max_bytes=_MAX_STORE_BYTES)
        return self._store

    def _on_step(self, look: Look, step: Any) -> None:
        if self._look is not look:
            return
        if isinstance(step, Ticked):
            self.progress.emit(step.done, step.total)
        elif isinstance(step, Failed):
            if not isinstance(step.error, ValueError):  # an unknown word is said in the widget alone
                warn(describe(step.error))
            self.clear(describe(step.error))
            self._look = None
            self.running_changed.emit(False)
        else:
            self._take(look, step)

    def _take(self, look: Look, vectors: Vectors) -> None:
        self.encoder, self._encoder_name = vectors.encoder, look.name
        self._vectors[look.image_id, look.plane] = vectors
        while len(self._vectors) > _PLANES_KEPT:
            self._vectors.popitem(last=False)
        self._end("")
        known = self._known()
        if known is not None and self._question:
            self._answer(known)

    def _on_finished(self, look: Look) -> None:
        if self._look is look:
            self._end("")
