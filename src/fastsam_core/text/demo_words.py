"""What the demonstration encoder is taught: concepts, the words for them, and which of them a crop shows.

A *concept* is a colour, a drawn shape, a kind of thing of one source of training images, or "something else". What a
crop shows is one of 1 (yes), 0 (no) and -1 (not known: the pair takes no part in training) for each concept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "COLOURS",
    "CONCEPTS",
    "ELSE",
    "FILLERS",
    "GENERIC_NEGATIVES",
    "KINDS",
    "RIVALS",
    "SHAPES",
    "TEMPLATES",
    "Phrase",
    "all_phrases",
    "colour_of",
    "drawn_truth",
    "else_truth",
    "known_words",
    "phrase_truth",
    "real_truth",
]

COLOURS: Final = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "gray")
SHAPES: Final[dict[str, tuple[str, ...]]] = {
    "circle": ("circle", "disc"),
    "ellipse": ("ellipse", "oval"),
    "square": ("square",),
    "rectangle": ("rectangle",),
    "triangle": ("triangle",),
    "star": ("star",),
    "cross": ("cross",),
    "ring": ("ring",),
    "heart": ("heart",),
}
KINDS: Final[dict[str, tuple[str, ...]]] = {
    "animal": ("animal",),
    "building": ("building",),
    "nucleus": ("nucleus",),
    "fluorescent nucleus": ("fluorescent nucleus",),
    "stained nucleus": ("stained nucleus",),
    "cell": ("cell",),
    "granule": ("granule", "particle"),
    "pebble": ("pebble", "stone", "rock"),
    "grain": ("grain",),
    "flake": ("flake",),
    "circuit board": ("circuit board", "microcontroller"),
    "mushroom": ("mushroom",),
    "package": ("package", "product"),
    "weld": ("weld",),
    "fruit": ("fruit",),
}
ELSE: Final = "something else"
#: Nouns that say nothing; they come with a colour.
THINGS: Final = ("object", "thing", "shape")
SYNONYMS: Final = {"gray": ("gray", "grey"), "purple": ("purple", "violet")}
CONCEPTS: Final[tuple[str, ...]] = (*COLOURS, *SHAPES, *KINDS, ELSE)
TEMPLATES: Final = ("{}", "a {}", "the {}", "a photo of a {}", "a picture of a {}", "an image of a {}")
#: Words that carry no meaning here: they are known, and no query consists of them alone.
FILLERS: Final = ("a", "an", "the", "of", "one", "photo", "picture", "image", "my", "this")
GENERIC_NEGATIVES: Final = (ELSE, "background")

#: Texts of one group may be true of the same thing, texts of different groups of a set may not.
RIVALS: Final[tuple[tuple[tuple[str, ...], ...], ...]] = (
    tuple(SYNONYMS.get(colour, (colour,)) for colour in COLOURS),
    (
        ("circle", "disc", "ellipse", "oval"),
        ("square", "rectangle"),
        *((shape,) for shape in ("triangle", "star", "cross", "ring", "heart")),
    ),
    (
        ("nucleus", "cell"),
        ("granule", "particle", "pebble", "stone", "rock", "grain"),
        ("circuit board", "microcontroller"),
        ("package", "product"),
        *((kind,) for kind in ("animal", "building", "flake", "mushroom", "weld", "fruit")),
    ),
)

_INDEX: Final = {name: number for number, name in enumerate(CONCEPTS)}
#: What round or boxy things of the real sources might pass for.
_UNSURE_SHAPES: Final = ("circle", "ellipse", "square", "rectangle", "ring")
#: Kinds that cannot be ruled out for a kind of thing.
_UNSURE_KINDS: Final = {
    "nucleus": ("cell",),
    "granule": ("pebble",),
    "pebble": ("granule",),
    None: ("animal", "building", "fruit", "package", "circuit board", ELSE),
}
#: Kinds that a kind is as well.
_ALSO: Final = {"granule": ("grain",), "pebble": ("grain",)}


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words, and the concepts that must all hold for them to be true."""

    words: str
    concepts: tuple[int, ...]


def all_phrases() -> tuple[Phrase, ...]:
    """Return everything that can be said: kinds, shapes, colours, and colours of shapes, things and kinds."""
    nouns = [(word, _INDEX[name]) for table in (SHAPES, KINDS) for name, words in table.items() for word in words]
    colours = [(word, _INDEX[name]) for name in COLOURS for word in SYNONYMS.get(name, (name,))]
    phrases = [Phrase(word, (concept,)) for word, concept in nouns]
    phrases += [Phrase(word, (concept,)) for word, concept in colours]
    phrases += [Phrase(f"{colour} {noun}", (c, n)) for colour, c in colours for noun, n in nouns]
    phrases += [Phrase(f"{colour} {thing}", (c,)) for colour, c in colours for thing in THINGS]
    phrases += [Phrase(word, (_INDEX[ELSE],)) for word in GENERIC_NEGATIVES]
    return tuple(phrases)


def known_words() -> tuple[str, ...]:
    """Return the vocabulary: single words, sorted, without the fillers."""
    words = {word for phrase in all_phrases() for word in phrase.words.split()}
    return tuple(sorted(words))


def phrase_truth(shown: NDArray[np.int8], phrases: Sequence[Phrase]) -> NDArray[np.int8]:
    """Say which phrases are true of which crops.

    Parameters
    ----------
    shown : ndarray of int8, shape (B, C)
        1, 0 or -1 for each concept.
    phrases : sequence of Phrase
        T of them.

    Returns
    -------
    ndarray of int8, shape (B, T)
        0 as soon as one concept does not hold, else -1 as soon as one is not known, else 1.
    """
    truth = np.ones((len(shown), len(phrases)), np.int8)
    for column, phrase in enumerate(phrases):
        values = shown[:, phrase.concepts]
        truth[:, column] = np.where((values == 0).any(1), 0, np.where((values < 0).any(1), -1, 1))
    return truth


def drawn_truth(colour: str, shape: str) -> NDArray[np.int8]:
    """Return what a drawn shape shows: its colour and its shape (a square is a rectangle, a circle an ellipse)."""
    shown = np.zeros(len(CONCEPTS), np.int8)
    shown[[_INDEX[colour], _INDEX[shape]]] = 1
    if shape in ("square", "circle"):
        shown[_INDEX["rectangle" if shape == "square" else "ellipse"]] = -1
    return shown


def real_truth(kind: str | None, colour: str | None) -> NDArray[np.int8]:
    """Return what an annotated object shows; ``None`` where its kind or colour is not known."""
    shown = np.zeros(len(CONCEPTS), np.int8)
    shown[[_INDEX[name] for name in _UNSURE_SHAPES]] = -1
    base = "nucleus" if kind is not None and kind.endswith("nucleus") else kind
    shown[[_INDEX[name] for name in _UNSURE_KINDS.get(base, ())]] = -1
    if base is not None:
        names = {base, *([kind] if kind else []), *_ALSO.get(base, ())}
        shown[[_INDEX[name] for name in names]] = 1
    _set_colour(shown, colour)
    return shown


def else_truth(colour: str | None) -> NDArray[np.int8]:
    """Return what a piece of background shows."""
    shown = np.zeros(len(CONCEPTS), np.int8)
    shown[[_INDEX[name] for name in _UNSURE_SHAPES]] = -1
    shown[_INDEX[ELSE]] = 1
    _set_colour(shown, colour)
    return shown


def _set_colour(shown: NDArray[np.int8], colour: str | None) -> None:
    if colour is None:
        shown[: len(COLOURS)] = -1
    else:
        shown[_INDEX[colour]] = 1


def colour_of(pixels: NDArray[np.uint8]) -> str | None:
    """Name the colour of pixels, shape (P, 3) RGB, or return None where they are mixed or lie between two names.

    The median decides; it is named by hue, saturation and value (HSV). Where the hue of saturated pixels spreads
    widely (mean resultant length below 0.8) there is no one colour.
    """
    import colorsys

    if not len(pixels):
        return None
    red, green, blue = (float(v) / 255 for v in np.median(pixels, axis=0))
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    degrees = 360 * hue
    if value < 0.16:
        return "black"
    if saturation < 0.12:
        return "white" if value > 0.88 else "gray" if 0.3 < value < 0.75 else None
    if saturation < 0.28 or value < 0.25 or _hue_spreads(pixels):
        return None
    if 12 <= degrees < 42 and value < 0.58:
        return "brown"
    for name, low, high in _HUES:
        if low <= degrees < high:
            return name
    return None


_HUES: Final = (
    ("red", 0, 10),
    ("orange", 20, 42),
    ("yellow", 48, 68),
    ("green", 85, 160),
    ("blue", 195, 252),
    ("purple", 265, 292),
    ("pink", 308, 340),
    ("red", 350, 361),
)


def _hue_spreads(pixels: NDArray[np.uint8]) -> bool:
    values = pixels.astype(np.float64)
    # the hue as an angle in the plane of equal sums (Hanbury 2008, "Constructing cylindrical coordinate colour spaces")
    x = values[:, 0] - (values[:, 1] + values[:, 2]) / 2
    y = np.sqrt(3) / 2 * (values[:, 1] - values[:, 2])
    chroma = np.hypot(x, y)
    total = chroma.sum()
    return bool(total == 0 or np.hypot(x.sum(), y.sum()) / total < 0.8)
