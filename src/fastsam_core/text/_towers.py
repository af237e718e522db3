"""The two halves of an open_clip model: build them, and run them on pictures and words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fastsam_core._processor import multiplies_bf16
from fastsam_core.errors import (
    BackendUnavailableError,
    CheckpointError,
    InvalidParameterError,
    MissingDependencyError,
)
from fastsam_core.text._weights import EncoderFiles, import_open_clip

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray
    from torch.overrides import TorchFunctionMode

    from fastsam_core.text._words import CompiledWords

__all__ = ["Towers", "build_towers", "choose_precision", "without_random_weights"]

_PRECISIONS: Final = ("auto", "fp32", "bf16", "fp16")
#: Models whose weights take less gain nothing from half precision on a CPU.
_SMALL_BYTES: Final = 40_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Towers:
    """A model on its device, and how it wants its input.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode.
    tokenizer : callable
        open_clip's.
    device, precision : str
        Where it runs, and in what: "fp32", "bf16" or "fp16".
    size_px : int
        Side of its pictures.
    mean, std : tuple of float
        Normalisation of each channel.
    context_length : int
        Most tokens of a text, both ends included.
    words : CompiledWords, optional
        The text half once more, compiled; without, the model's own runs.
    """

    model: Any
    tokenizer: Any
    device: str
    precision: str
    size_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    context_length: int
    words: CompiledWords | None = None

    @property
    def width(self) -> int:
        """Length of its vectors."""
        return int(self.encode_words([""]).shape[1])

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied with."""
        return float(self.model.logit_scale.detach().exp().max())

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text, both ends included."""
        if hasattr(self.tokenizer, "encode"):
            return len(self.tokenizer.encode(text)) + 2
        return len(self.tokenizer.tokenizer(text).input_ids)

    def encode_pictures(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return unit vectors, shape (N, D), of pictures of shape (N, size_px, size_px, 3)."""
        import torch

        pixels = torch.from_numpy(pictures).to(self.device).permute(0, 3, 1, 2).float()
        mean = torch.tensor(self.mean, device=self.device).view(1, 3, 1, 1) * 255
        std = torch.tensor(self.std, device=self.device).view(1, 3, 1, 1) * 255
        return self.encode_pixels((pixels - mean) / std)

    def encode_pixels(self, pixels: torch.Tensor) -> NDArray[np.float32]:
        """Return unit vectors of pictures that are normalised already, shape (N, 3, size_px, size_px)."""
        import torch

        with torch.inference_mode():
            features = self.model.encode_image(pixels.to(self.device, self._dtype()))
        return _unit(features)

    def encode_words(self, texts: list[str]) -> NDArray[np.float32]:
        """Return unit vectors, shape (T, D)."""
        import torch

        from fastsam_core.text._words import encode_tokens

        with torch.inference_mode():
            tokens = self.tokenizer(texts, context_length=self.context_length).to(self.device)
            return _unit(encode_tokens(self.model, tokens, self.words))

    def _dtype(self) -> torch.dtype:
        import torch

        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.precision]


def _unit(features: torch.Tensor) -> NDArray[np.float32]:
    from torch.nn import functional

    vectors = functional.normalize(features.float(), dim=-1).cpu().numpy()
    return np.ascontiguousarray(vectors, np.float32)


def choose_precision(wanted: str, device: str, weights_bytes: int) -> str:
    """Say what "auto" means: half precision on a GPU, bfloat16 where the CPU multiplies it, else fp32.

    Raises
    ------
    InvalidParameterError
        If there is no such precision.
    """
    if wanted not in _PRECISIONS:
        raise InvalidParameterError("Unknown precision", expected=", ".join(_PRECISIONS), actual=repr(wanted))
    if wanted == "fp16" and device == "cpu":
        raise InvalidParameterError(
            "Half precision (fp16) needs a GPU", expected="fp32 or bf16 on a CPU", remedy="leave the precision out"
        )
    if wanted != "auto":
        return wanted
    if device.startswith("cuda"):
        return "fp16"
    if device == "cpu" and weights_bytes >= _SMALL_BYTES and multiplies_bf16():
        return "bf16"
    return "fp32"


def _choose_device(wanted: str) -> str:
    import torch

    found = ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted
    try:
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise BackendUnavailableError(
            f"The device {found!r} is not there", actual=str(error).splitlines()[0], remedy="use device='cpu'"
        ) from error
    return found


def build_towers(files: EncoderFiles, device: str, precision: str) -> Towers:
    """Build the model and read its weights.

    Raises
    ------
    CheckpointError
        If the configuration or the weights are damaged or do not belong together.
    BackendUnavailableError, InvalidParameterError
        See `TextEncoder.load`.
    """
    open_clip = import_open_clip()
    place = _choose_device(device)
    try:
        chosen = choose_precision(precision, place, files.weights.stat().st_size)
        with without_random_weights():
            model = open_clip.create_model(
                files.model,
                pretrained=None if files.model.startswith("local-dir:") else str(files.weights),
                precision=chosen,
                device=place,
                force_quick_gelu=bool(files.settings.get("quick_gelu", False)),
                force_preprocess_cfg={key: files.settings[key] for key in _PREPROCESSING if key in files.settings},
                require_pretrained=True,
                weights_only=True,
            ).eval()
        tokenizer = open_clip.get_tokenizer(files.model)
    except (InvalidParameterError, MemoryError):
        raise
    except ImportError as error:
        raise MissingDependencyError(
            f"The text encoder {files.name} needs another package", actual=str(error), remedy="install that package"
        ) from error
    except Exception as error:  # open_clip, torch, json and safetensors each raise their own
        raise CheckpointError(
            f"The text encoder {files.name} cannot be read",
            expected="weights that belong to the configuration, as open_clip saves them",
            actual=f"{type(error).__name__}: {str(error).strip()[:200]}",
            remedy="download or export it again",
        ) from error
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    preprocessing = open_clip.get_model_preprocess_cfg(model)
    size = preprocessing["size"]
    side = int(size if isinstance(size, int) else max(size))
    context_length = int(model.context_length)
    words = None
    if chosen == "bf16" and place == "cpu":
        from fastsam_core.text._words import compile_words

        words = compile_words(model, tokenizer(_PROBES, context_length=context_length))
    return Towers(
        model,
        tokenizer,
        place,
        chosen,
        side,
        _channels(preprocessing["mean"]),
        _channels(preprocessing["std"]),
        context_length,
        words,
    )


def without_random_weights() -> TorchFunctionMode:
    """Leave out the random numbers that a model starts from, half of the time it takes to build one.

    Weights are read strictly: all of them or an error, so that nothing of what memory held before remains. Tensors that
    are no weights get their numbers: `init.trunc_normal_` draws such until all are within its bounds.
    """
    from torch import Tensor
    from torch.nn import Parameter, init
    from torch.overrides import TorchFunctionMode

    initialising = {init.normal_, init.uniform_, init.kaiming_uniform_}
    drawing = {Tensor.normal_, Tensor.uniform_}

    class Skipping(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            given = kwargs or {}
            if func in initialising or (func in drawing and isinstance(args[0], Parameter)):
                return args[0] if args else given["tensor"]
            return func(*args, **given)

    return Skipping()


def _channels(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue


#: Texts that a compiled tower is tried with.
_PROBES: Final = ["object", "a photo of a red circle."]
_PREPROCESSING: Final = ("mean", "std", "interpolation", "resize_mode")
