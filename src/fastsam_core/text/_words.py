"""The text tower for a few short texts: no padding, and compiled by OpenVINO where that is faster."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CompiledWords", "compile_words", "encode_tokens"]

_LOGGER = logging.getLogger(__name__)
#: Cosine between the compiled tower's vectors and torch's; bfloat16 alone leaves about 0.9999.
_LEAST_AGREEMENT: Final = 0.999


def encode_tokens(model: Any, tokens: torch.Tensor, compiled: CompiledWords | None = None) -> torch.Tensor:
    """Run the text tower on as many places as the longest text needs.

    In a tower with a causal mask that reads the result at the end token nothing behind that token has any influence, so
    leaving out the padding gives the same result for a fraction of the work.

    Parameters
    ----------
    model : torch.nn.Module
        open_clip's, in evaluation mode.
    tokens : tensor of int64, shape (T, L)
        As open_clip's tokenizer gives them.
    compiled : CompiledWords, optional
        The same tower, compiled.

    Returns
    -------
    tensor, shape (T, D)
        Vectors of any length, in any precision.
    """
    if not _is_causal(model):
        return model.encode_text(tokens)  # type: ignore[no-any-return]
    shortened = tokens[:, : int(tokens.argmax(-1).max()) + 1]
    return compiled(shortened) if compiled is not None else _encode_short(model, shortened)


class CompiledWords:
    """A causal text tower in OpenVINO, in bfloat16 on the CPU.

    For one text a tower has little to compute but all its weights to read; OpenVINO lays them out once where torch does
    so again for each text.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        from fastsam_core.runtimes._openvino import import_openvino

        openvino = import_openvino()
        example = torch.zeros((2, 5), dtype=torch.int64)
        with warnings.catch_warnings(), torch.no_grad(), _root_logger_kept():
            # torch's tracer warns about each Python number it meets; sizes stay dynamic all the same (tested)
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(
                # a function: tracing a module would take all of the model along, pictures included
                lambda tokens: _encode_short(model, tokens).float(),
                example,
                check_trace=False,  # `compile_words` compares
            )
            converted = openvino.convert_model(traced, example_input=example)
        hints = {
            "INFERENCE_PRECISION_HINT": "bf16",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        self._request = openvino.Core().compile_model(converted, "CPU", hints).create_infer_request()

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return float32 vectors, shape (T, D), of tokens, shape (T, L); one thread at a time."""
        self._request.infer([tokens.numpy()])
        return torch.from_numpy(self._request.get_output_tensor(0).data.copy())


def compile_words(model: torch.nn.Module, tokens: torch.Tensor) -> CompiledWords | None:
    """Compile a text tower, if OpenVINO is installed and gives the vectors that torch gives.

    Parameters
    ----------
    model : torch.nn.Module
        open_clip's, in bfloat16 on the CPU.
    tokens : tensor of int64, shape (T, L)
        A few texts to compare the results of.
    """
    if importlib.util.find_spec("openvino") is None or not _is_causal(model):
        return None
    with torch.inference_mode():
        expected = encode_tokens(model, tokens).float()
    try:
        compiled = CompiledWords(model)
        found = encode_tokens(model, tokens, compiled)
    except Exception as error:  # tracer, converter and compiler raise anything; torch serves as well
        _LOGGER.info("The text tower runs in torch, for OpenVINO cannot: %s", type(error).__name__)
        _LOGGER.debug("What OpenVINO cannot", exc_info=error)
        return None
    agreement = float(functional.cosine_similarity(found, expected).min())
    if not agreement >= _LEAST_AGREEMENT:
        _LOGGER.info("The text tower runs in torch, for OpenVINO gives other vectors: cosine %.4f", agreement)
        return None
    return compiled


def _encode_short(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Run a causal text tower on fewer places than it was made for."""
    with _shortened(_tower(model), tokens.shape[1]):
        return model.encode_text(tokens)  # type: ignore[no-any-return]


def _tower(model: Any) -> Any:
    return getattr(model, "text", model)


def _is_causal(model: Any) -> bool:
    tower = _tower(model)
    pool = getattr(tower, "text_pool_type", getattr(tower, "pool_type", ""))
    plain = getattr(tower, "cls_emb", None) is None and not getattr(tower, "use_pad_mask", False)
    masked = getattr(tower, "attn_mask", None) is not None
    return masked and plain and pool == "argmax" and hasattr(tower, "token_embedding")


@contextmanager
def _shortened(tower: Any, length: int) -> Iterator[None]:
    """Let a tower see the first places of its mask and positions only."""
    mask, positions = tower.attn_mask, tower.positional_embedding
    parameters, buffers = tower._parameters, tower._buffers
    try:
        buffers["attn_mask"] = mask[:length, :length]
        parameters["positional_embedding"] = positions[:length]
        yield
    finally:
        buffers["attn_mask"] = mask
        parameters["positional_embedding"] = positions


@contextmanager
def _root_logger_kept() -> Iterator[None]:
    """Undo what OpenVINO's converter does to the root logger, and leaves so where it raises."""
    root = logging.getLogger()
    level, filters, handlers = root.level, [*root.filters], [*root.handlers]
    try:
        yield
    finally:
        root.setLevel(level)
        root.filters, root.handlers = filters, handlers
