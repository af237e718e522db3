"""Typed errors: each says what was expected, what came, and what to do about it.

Every leaf is also the builtin exception it stands for, so ``except ValueError`` in a caller's code keeps working.
"""

from __future__ import annotations

__all__ = [
    "AnnotationError",
    "BackendUnavailableError",
    "CheckpointError",
    "FastSAMError",
    "ImageContentError",
    "ImageNotFoundError",
    "ImageReadError",
    "ImageTooLargeError",
    "InvalidMasksError",
    "InvalidParameterError",
    "InvalidPromptError",
    "MissingDependencyError",
    "OutputError",
    "TooMuchMemoryError",
    "UnknownModelError",
    "UnknownWordsError",
    "UnsupportedImageError",
    "UntrustedCheckpointError",
    "WeightsDownloadError",
]


class FastSAMError(Exception):
    """Base of all errors raised on purpose by this project.

    Parameters
    ----------
    problem : str
        What is wrong, in one sentence.
    expected, actual : str, optional
        What was asked for and what came instead.
    remedy : str, optional
        What the user can do about it.
    """

    def __init__(self, problem: str, *, expected: str = "", actual: str = "", remedy: str = "") -> None:
        self.problem = problem
        self.expected = expected
        self.actual = actual
        self.remedy = remedy
        parts = [problem if problem.endswith((".", "?", "!")) else f"{problem}."]
        if expected:
            parts.append(f"Expected: {expected}.")
        if actual:
            parts.append(f"Actual: {actual}.")
        if remedy:
            parts.append(f"Remedy: {remedy}.")
        super().__init__(" ".join(parts))

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling between worker processes (the keywords would be lost otherwise)."""
        return _rebuild, (type(self), self.problem, self.expected, self.actual, self.remedy)


def _rebuild(kind: type[FastSAMError], problem: str, expected: str, actual: str, remedy: str) -> FastSAMError:
    return kind(problem, expected=expected, actual=actual, remedy=remedy)


# ---- images -----------------------------------------------------------------------------------------------------


class ImageReadError(FastSAMError, OSError):
    """A file is there but cannot be read as an image (corrupt, truncated, empty, no permission)."""


class ImageNotFoundError(FastSAMError, FileNotFoundError):
    """No file at the given path."""


class ImageTooLargeError(FastSAMError, ValueError):
    """The image has more pixels than the limit allows (protection against decompression bombs)."""


class UnsupportedImageError(FastSAMError, TypeError):
    """The object or its dtype cannot be taken as an image."""


class ImageContentError(FastSAMError, ValueError):
    """Axes, shape, channel choice or contrast limits do not fit the image."""


# ---- masks and prompts ------------------------------------------------------------------------------------------


class InvalidMasksError(FastSAMError, ValueError):
    """Arrays that do not make a valid set of masks."""


class InvalidPromptError(FastSAMError, ValueError):
    """A prompt whose arrays have the wrong shape, labels or values."""


class UnknownWordsError(InvalidPromptError):
    """A text with words that the chosen encoder has not learned; names the nearest known ones."""


class InvalidParameterError(FastSAMError, ValueError):
    """A threshold or size outside its range."""


class TooMuchMemoryError(FastSAMError, MemoryError):
    """A conversion would allocate more memory than allowed."""


# ---- models -----------------------------------------------------------------------------------------------------


class UnknownModelError(FastSAMError, KeyError):
    """A model name that is neither in the registry nor a file."""

    def __str__(self) -> str:
        """Return the message itself (``KeyError`` would show it quoted)."""
        return Exception.__str__(self)


class CheckpointError(FastSAMError, ValueError):
    """A weights file that is damaged or is not a one-class YOLO segmentation network."""


class UntrustedCheckpointError(FastSAMError, PermissionError):
    """A pickle checkpoint whose sha256 is not in the registry and which the user has not said to trust."""


class WeightsDownloadError(FastSAMError, ConnectionError):
    """Weights could not be downloaded or did not match their sha256."""


class BackendUnavailableError(FastSAMError, RuntimeError):
    """A device or run-time backend that is not present on this machine."""


class MissingDependencyError(FastSAMError, ImportError):
    """An optional package is needed; the message names the pip command."""


# ---- evaluation -------------------------------------------------------------------------------------------------


class AnnotationError(FastSAMError, ValueError):
    """Ground truth or results that are missing, damaged, or do not belong to the images; names file and entry."""


# ---- output -----------------------------------------------------------------------------------------------------


class OutputError(FastSAMError, OSError):
    """A result could not be written (no space, no permission); nothing half-written is left behind."""
