"""Text prompts on the command line: the options, and the encoder that answers them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fastsam_core._generators import outcome
from fastsam_core.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastsam_core.cli._progress import Bar
    from fastsam_core.masks import Masks
    from fastsam_core.prompts import Text
    from fastsam_core.text import EmbeddingStore, TextEncoder
    from fastsam_core.text.crops import Pixels

__all__ = [
    "NotOption",
    "TextAnswers",
    "TextCacheOption",
    "TextEncoderOption",
    "TextModeOption",
    "TextOptions",
    "TextThresholdOption",
    "TextTopOption",
    "load_encoder",
    "load_text_answers",
]

_TEXT = "Text prompts"

NotOption = Annotated[
    list[str] | None,
    typer.Option("--not", metavar="TEXT", help="What it is not. Repeat for more.", rich_help_panel=_TEXT),
]
TextEncoderOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Encoder (see: fastsam models list), open_clip MODEL/TAG, hf-hub:REPOSITORY or folder.",
        rich_help_panel=_TEXT,
    ),
]
TextModeOption = Annotated[
    str, typer.Option(metavar="best|top-k|all", help="Masks for each text.", rich_help_panel=_TEXT)
]
TextTopOption = Annotated[int, typer.Option(min=1, help="Masks of each text with top-k.", rich_help_panel=_TEXT)]
TextThresholdOption = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Probability from which on a mask fits; 0 always answers.", rich_help_panel=_TEXT),
]
TextCacheOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder that keeps what the encoder saw, for later runs.", rich_help_panel=_TEXT, file_okay=False
    ),
]


@dataclass(frozen=True, slots=True)
class TextOptions:
    """How texts are answered.

    Parameters
    ----------
    negatives : tuple of str
        What the texts are held against.
    mode : {"best", "top-k", "all"}
        Masks for each text.
    k : int
        How many with "top-k".
    threshold : float or None
        Probability from which on a mask fits; None leaves it to the encoder.

    Raises
    ------
    InvalidParameterError
        If there is no such mode.
    """

    negatives: tuple[str, ...] = ()
    mode: str = "best"
    k: int = 5
    threshold: float | None = None

    def __post_init__(self) -> None:
        """Check the mode."""
        if self.mode not in ("best", "top-k", "all"):
            raise InvalidParameterError("Cannot read --text-mode", expected="best, top-k or all", actual=self.mode)

    def prompt(self, queries: Iterable[str], negatives: Iterable[str] = ()) -> Text:
        """Return the prompt of some texts; ``negatives`` join those given for all."""
        from fastsam_core.prompts import Text

        mode: Literal["best", "top_k", "all"] = {"best": "best", "top-k": "top_k", "all": "all"}[self.mode]  # type: ignore[assignment]
        return Text(list(queries), (*self.negatives, *negatives), mode, k=self.k, threshold=self.threshold)


class TextAnswers:
    """Answers texts about one image after the other."""

    def __init__(self, encoder: TextEncoder, store: EmbeddingStore | None, bar: Bar) -> None:
        self.encoder = encoder
        self._store, self._bar = store, bar

    def check(self, prompts: Iterable[Text]) -> None:
        """Raise what is wrong with texts before long work begins; see `TextEncoder.check`."""
        for prompt in prompts:
            self.encoder.check(prompt)

    def answer(self, image_rgb8: Pixels, masks: Masks, prompts: Iterable[Text]) -> list[Masks]:
        """Return the masks for each prompt; the image is encoded once."""
        from fastsam_core.text import iter_embed_masks, select_text

        steps = iter_embed_masks(self.encoder, image_rgb8, masks, store=self._store)
        embeddings = outcome(steps, lambda step: self._bar.say(f"Looking at masks, {step[0]} of {step[1]}"))
        return [select_text(self.encoder, masks, embeddings, prompt) for prompt in prompts]


def load_encoder(name: str | None, device: str, bar: Bar) -> TextEncoder:
    """Load a text encoder; see `TextEncoder.load` for the errors."""
    from fastsam_core.text import TextEncoder

    bar.say("Loading the text encoder")
    return TextEncoder.load(name, device=device, progress=bar.downloading("the text encoder"))


def load_text_answers(name: str | None, device: str, cache: Path | None, bar: Bar) -> TextAnswers:
    """Load a text encoder and say what users should know of it."""
    from rich.text import Text as Line

    from fastsam_core.text import EmbeddingStore

    encoder = load_encoder(name, device, bar)
    if encoder.notice:
        bar.log(Line(encoder.notice))
    return TextAnswers(encoder, None if cache is None else EmbeddingStore(folder=cache), bar)
