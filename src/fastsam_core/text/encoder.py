"""The text encoder: words and cut-out masks to vectors that can be compared."""

from __future__ import annotations

import difflib
import json
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from fastsam_core._checks import described
from fastsam_core._prompt_types import Text
from fastsam_core.errors import CheckpointError, InvalidParameterError, InvalidPromptError, UnknownWordsError
from fastsam_core.text import encoders
from fastsam_core.text._weights import find_files, sha256_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from fastsam_core.downloads import Progress
    from fastsam_core.text._towers import Towers

__all__ = ["EncoderTraits", "TextEncoder", "check_encoder"]

#: "A photo of a …" is the wording of the CLIP paper (Radford et al. 2021, section 3.1.4).
_TEMPLATES: Final = ("a photo of a {}.",)
#: What any picture might be called: the canonical phrases of LERF (Kerr et al. 2023, arXiv 2303.09553).
_GENERIC_NEGATIVES: Final = ("object", "things", "stuff", "texture")
_ARTICLE: Final = re.compile(r"^(?:an?|the)\s+(?=\S)", re.IGNORECASE)
_WORD: Final = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*|\d+")
_MOST_REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True)
class EncoderTraits:
    """What an encoder is told to do with words; its folder's configuration can say so under ``"fastsam"``.

    Parameters
    ----------
    templates : tuple of str
        Sentences a text is put into; the mean of their vectors stands for the text.
    negatives : tuple of str
        What every text is held against.
    rivals : tuple of tuple of tuple of str
        Sets of groups of texts that exclude each other ("circle", "star" …), for closed vocabularies: a text that names
        one group of a set is held against the first text of every other group of it.
    vocabulary : tuple of str or None
        All words it knows; None where the vocabulary is open.
    fillers : tuple of str
        Words it takes without learning from them; a text of these alone is refused.
    slope, offset : float or None
        A cosine that is higher than the highest of the negatives by d becomes the probability
        ``1 / (1 + exp(-(slope * d + offset)))``. Without a slope the encoder's own logit scale is taken.
    threshold : float
        Probability from which on a mask fits.
    """

    templates: tuple[str, ...] = _TEMPLATES
    negatives: tuple[str, ...] = _GENERIC_NEGATIVES
    rivals: tuple[tuple[tuple[str, ...], ...], ...] = ()
    vocabulary: tuple[str, ...] | None = None
    fillers: tuple[str, ...] = ()
    slope: float | None = None
    offset: float = 0.0
    threshold: float = 0.5

    @classmethod
    def read(cls, config_file: Path) -> Self:
        """Read what a configuration file says, and nothing else, from its entry ``"fastsam"``.

        Raises
        ------
        CheckpointError
            If the file is no JSON object or the entry holds values of a wrong kind.
        """
        try:
            said = json.loads(config_file.read_text(encoding="utf-8")).get("fastsam", {})
            vocabulary = said.get("vocabulary")
            slope = said.get("slope")
            return cls(
                tuple(map(str, said.get("templates", _TEMPLATES))),
                tuple(map(str, said.get("negatives", _GENERIC_NEGATIVES))),
                tuple(tuple(tuple(map(str, group)) for group in groups) for groups in said.get("rivals", ())),
                None if vocabulary is None else tuple(map(str, vocabulary)),
                tuple(map(str, said.get("fillers", ()))),
                None if slope is None else float(slope),
                float(said.get("offset", 0.0)),
                float(said.get("threshold", 0.5)),
            )
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{config_file.name} of a text encoder cannot be read", actual=f"{type(error).__name__}: {error}"
            ) from error

    def negatives_for(self, query: str) -> tuple[str, ...]:
        """Return what a text is held against: the rivals of what it names, and every generic negative but itself."""
        asked = query.strip().lower()
        words = set(_WORD.findall(asked))
        found = [text for text in self.negatives if text.lower() != asked]
        for groups in self.rivals:
            named = [any(words.issuperset(text.split()) for text in group) for group in groups]
            if any(named):
                found += [group[0] for group, is_named in zip(groups, named, strict=True) if not is_named]
        return tuple(found)


class TextEncoder:
    """An open_clip model, ready to turn texts and cut-out masks into unit vectors.

    Make one with `TextEncoder.load`. It may be used from several threads: one encodes at a time.
    """

    def __init__(self, name: str, encoder_id: str, towers: Towers, traits: EncoderTraits) -> None:
        self.name = name
        self.encoder_id = encoder_id
        self.traits = traits
        self._towers = towers
        self._remembered: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.RLock()
        self._known = None if traits.vocabulary is None else {*traits.vocabulary, *traits.fillers}
        self.width: int = towers.width

    @classmethod
    def load(
        cls,
        name: str | Path | None = None,
        *,
        device: str = "auto",
        precision: str = "auto",
        progress: Progress | None = None,
    ) -> Self:
        """Load an encoder, downloading it on first use.

        Parameters
        ----------
        name : str or Path, optional
            ``"demo"``; open_clip's model and tag, ``"ViT-B-32-256/datacomp_s34b_b86k"``; ``"hf-hub:…"``; or a folder
            with ``open_clip_config.json`` and weights. None stands for the recommended encoder if it has been
            downloaded before, and for the demonstration encoder if not.
        device : str
            ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        precision : {"auto", "fp32", "bf16", "fp16"}
            ``"auto"``: fp16 on a GPU, bf16 for large models on CPUs that multiply it, else fp32.
        progress : callable, optional
            Called with (bytes received, bytes expected) during a download.

        Raises
        ------
        MissingDependencyError
            Without open_clip.
        UnknownModelError
            If there is no such encoder; names the nearest ones.
        WeightsDownloadError
            Without a connection; names the command and the cache folder.
        CheckpointError
            If the files are damaged.
        BackendUnavailableError, InvalidParameterError
            If the device is not there, or the precision is unknown or not for this device.
        """
        from fastsam_core.text._towers import build_towers

        files = find_files(encoders.default_encoder() if name is None else name, progress)
        towers = build_towers(files, device, precision)
        config_file = files.weights.parent / encoders.CONFIG_FILE
        traits = EncoderTraits.read(config_file) if config_file.is_file() else EncoderTraits()
        return cls(files.name, f"{files.name}:{sha256_of(files)[:32]}:{towers.precision}", towers, traits)

    def __repr__(self) -> str:
        """Return a one-line summary."""
        known = "open vocabulary" if self.vocabulary is None else f"{len(self.vocabulary)} words"
        return f"TextEncoder({self.name!r}, {known}, {self.precision} on {self.device})"

    @property
    def device(self) -> str:
        """Where it runs."""
        return self._towers.device

    @property
    def precision(self) -> str:
        """What it computes in: "fp32", "bf16" or "fp16"."""
        return self._towers.precision

    @property
    def size_px(self) -> int:
        """Side of the pictures that it looks at."""
        return self._towers.size_px

    @property
    def vocabulary(self) -> tuple[str, ...] | None:
        """All words it knows, or None where any may be used."""
        return self.traits.vocabulary

    @property
    def threshold(self) -> float:
        """Probability from which on a mask fits, unless a prompt says otherwise."""
        return self.traits.threshold

    @property
    def slope(self) -> float:
        """See `EncoderTraits`."""
        return self._towers.logit_scale if self.traits.slope is None else self.traits.slope

    @property
    def notice(self) -> str:
        """One line that users should see, or nothing."""
        if self.vocabulary is None:
            return ""
        return (
            f"The text encoder {self.name!r} knows {len(self.vocabulary)} words only (colours, drawn shapes, a dozen "
            f"kinds of things). For any words: fastsam models download {encoders.RECOMMENDED}"
        )

    def check(self, prompt: Text) -> None:
        """Raise what `embed_texts` would raise for the texts of a prompt, without encoding anything."""
        self._check_all([_bare(text) for text in (*prompt.queries, *prompt.negatives)])

    def embed_texts(self, texts: str | Sequence[str]) -> NDArray[np.float32]:
        """Encode texts; those encoded before are remembered.

        Returns
        -------
        ndarray of float32, shape (T, D)
            Rows of unit length.

        Raises
        ------
        InvalidPromptError
            An empty text, none at all, or one of more tokens than the encoder takes.
        UnknownWordsError
            Words that an encoder of a closed vocabulary does not know.
        """
        with self._lock:
            bare = [_bare(text) for text in Text(texts).queries]
            fresh = [text for text in dict.fromkeys(bare) if text not in self._remembered]
            self._check_all(fresh)
            if fresh:
                self._encode(fresh)
            rows = [self._remembered[text] for text in bare]
            for text in bare:
                self._remembered.move_to_end(text)
            while len(self._remembered) > max(_MOST_REMEMBERED, len(bare)):
                self._remembered.popitem(last=False)
        return np.stack(rows) if rows else np.empty((0, self.width), np.float32)

    def embed_pictures(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode square pictures, shape (N, `size_px`, `size_px`, 3), into rows of unit length, shape (N, D)."""
        with self._lock:
            return self._towers.encode_pictures(pictures)

    def embed_pixels(self, pixels: Any) -> NDArray[np.float32]:
        """Encode a tensor of normalised pictures, shape (N, 3, `size_px`, `size_px`), made by `preprocess`."""
        with self._lock:
            return self._towers.encode_pixels(pixels)

    def preprocess(self) -> Any:
        """Return open_clip's own transform from a PIL image to a normalised tensor."""
        from fastsam_core.text._weights import import_open_clip

        open_clip = import_open_clip()
        return open_clip.transform.image_transform(
            self.size_px, is_train=False, mean=self._towers.mean, std=self._towers.std
        )

    def _encode(self, texts: list[str]) -> None:
        templates = self.traits.templates
        sentences = [template.format(text) for text in texts for template in templates]
        vectors = self._towers.encode_words(sentences).reshape(len(texts), len(templates), -1).mean(1)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        self._remembered.update(zip(texts, vectors, strict=True))

    def _check_all(self, texts: Sequence[str]) -> None:
        self._refuse_unknown_words(texts)
        for text in texts:
            self._check(text)

    def _check(self, text: str) -> None:
        if not text.strip():
            raise InvalidPromptError("The text is empty", expected="words", actual=repr(text))
        vocabulary = self.traits.vocabulary
        if vocabulary is not None and not any(word in vocabulary for word in _words(text)):
            raise InvalidPromptError(
                "The text says nothing", expected="at least one word that means something", actual=repr(text)
            )
        most = self._towers.context_length
        longest = max(self._towers.count_tokens(template.format(text)) for template in self.traits.templates)
        if longest > most:
            raise InvalidPromptError(
                "The text is too long for the encoder",
                expected=f"at most {most} tokens",
                actual=f"{longest} tokens in {text[:60]!r}{'…' if len(text) > 60 else ''}",
                remedy="say it in fewer words; nothing is cut off silently",
            )

    def _refuse_unknown_words(self, texts: Sequence[str]) -> None:
        """Refuse the unknown words of all texts at once, so that nobody has to mend them one by one."""
        if self._known is None:
            return
        vocabulary = self.traits.vocabulary or ()
        words_of = {text: _words(text) for text in texts}
        unknown = [word for word in dict.fromkeys(chain(*words_of.values())) if word not in self._known]
        if unknown:
            near = {word: difflib.get_close_matches(word, vocabulary, n=2, cutoff=0.6) for word in unknown}
            hints = [f"{' or '.join(map(repr, found))} for {word!r}" for word, found in near.items() if found]
            hint = f"try {', '.join(hints)}, or" if hints else "use known words, or"
            raise UnknownWordsError(
                f"The text encoder {self.name!r} does not know {', '.join(map(repr, unknown))}",
                expected=f"words of its vocabulary: {', '.join(vocabulary)}",
                actual=", ".join(repr(text) for text, words in words_of.items() if not self._known.issuperset(words)),
                remedy=f"{hint} an encoder of open vocabulary (fastsam models download {encoders.RECOMMENDED})",
            )


def check_encoder(given: object) -> None:
    """Refuse what is no text encoder, such as the name of one.

    Raises
    ------
    InvalidParameterError
        It is none.
    """
    if not callable(getattr(given, "embed_texts", None)) and not callable(getattr(given, "embed_pictures", None)):
        raise InvalidParameterError(
            "This is no text encoder",
            expected="a TextEncoder",
            actual=described(given),
            remedy="load one: TextEncoder.load(NAME)",
        )


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _bare(text: str) -> str:
    """Return a text without blanks around it and without its leading article, which templates bring along."""
    return _ARTICLE.sub("", " ".join(text.split()))
