"""The text tower without padding, compiled or not, gives the vectors of open_clip's own."""

from __future__ import annotations

import importlib.util
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import pytest
import torch

from fastsam_core.text import TextEncoder
from fastsam_core.text._towers import without_random_weights
from fastsam_core.text._words import CompiledWords, _tower, compile_words, encode_tokens

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray


SENTENCES = ["cell", "a photo of a red circle.", "red green blue red green yellow pink star"]


@pytest.fixture(scope="module")
def model(encoder_folder: Path) -> Any:
    return open_clip.create_model(f"local-dir:{encoder_folder}").eval()


@pytest.fixture(scope="module")
def half(encoder_folder: Path) -> TextEncoder:
    return TextEncoder.load(encoder_folder, device="cpu", precision="bf16")


def _plain(model: Any, texts: list[str]) -> NDArray[np.float32]:
    tokens = open_clip.tokenize(texts, context_length=model.context_length)
    with torch.inference_mode():
        vectors: NDArray[np.float32] = model.encode_text(tokens, normalize=True).numpy()
    return vectors


@pytest.mark.parametrize("texts", [SENTENCES, SENTENCES[:1], SENTENCES[1:2] * 7])
def test_without_padding_vectors_are_the_same(encoder: TextEncoder, model: Any, texts: list[str]) -> None:
    np.testing.assert_allclose(encoder._towers.encode_words(texts), _plain(model, texts), atol=1e-5)
    assert model.attn_mask.shape == encoder._towers.model.attn_mask.shape == (12, 12)


@pytest.mark.parametrize("texts", [SENTENCES, SENTENCES[:1], SENTENCES[2:] * 7])
def test_the_compiled_tower_gives_the_same_vectors(half: TextEncoder, model: Any, texts: list[str]) -> None:
    pytest.importorskip("openvino")
    assert isinstance(half._towers.words, CompiledWords)
    found = half._towers.encode_words(texts)
    assert found.dtype == np.float32
    cosines = (found * _plain(model, texts)).sum(axis=1)
    assert cosines.min() > 0.999


def test_vectors_of_earlier_texts_are_not_overwritten(half: TextEncoder) -> None:
    first = half._towers.encode_words(["cell"])
    before = first.copy()
    half._towers.encode_words(["star"])
    np.testing.assert_array_equal(first, before)


def test_fp32_is_not_compiled(encoder: TextEncoder) -> None:
    assert encoder._towers.words is None


def test_without_openvino_torch_runs(encoder_folder: Path, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    plain = TextEncoder.load(encoder_folder, device="cpu", precision="bf16")
    assert plain._towers.words is None
    cosines = (plain._towers.encode_words(SENTENCES) * _plain(model, SENTENCES)).sum(axis=1)
    assert cosines.min() > 0.99


@pytest.mark.parametrize("fault", ["other vectors", "no number", "an error"])
def test_a_tower_that_compiles_badly_is_left_to_torch(
    half: TextEncoder, fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("openvino")

    def wrong(self: CompiledWords, tokens: torch.Tensor) -> torch.Tensor:
        if fault == "an error":
            raise RuntimeError("no such layer")
        vectors = torch.ones(len(tokens), 24)
        return vectors if fault == "other vectors" else vectors * torch.nan

    monkeypatch.setattr(CompiledWords, "__call__", wrong)
    tokens = open_clip.tokenize(SENTENCES, context_length=12)
    with caplog.at_level(logging.INFO, logger="fastsam_core"):
        assert compile_words(half._towers.model, tokens) is None
    assert "runs in torch" in caplog.text


def test_a_failed_conversion_leaves_the_root_logger_as_it_is(
    half: TextEncoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenVINO silences it for the moment, and forever where it meets what it cannot convert."""
    pytest.importorskip("openvino")
    unknown = torch.special.bessel_j1
    monkeypatch.setattr(_tower(half._towers.model).ln_final, "forward", lambda x: unknown(x.float()).to(x.dtype))
    root = logging.getLogger()
    before = root.level, [*root.filters], [*root.handlers]
    with caplog.at_level(logging.INFO, logger="fastsam_core"):
        assert compile_words(half._towers.model, open_clip.tokenize(SENTENCES, context_length=12)) is None
    [said] = [record.getMessage() for record in caplog.records if record.name.startswith("fastsam_core")]
    assert "runs in torch" in said
    assert "\n" not in said
    assert (root.level, root.filters, root.handlers) == before


def test_a_tower_that_sees_all_places_is_run_as_it_is(save_encoder: Callable[..., Path], tmp_path: Path) -> None:
    text = {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2, "no_causal_mask": True}
    folder = save_encoder(tmp_path / "sees-all", text_cfg=text)
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    tokens = open_clip.tokenize(SENTENCES, context_length=12)
    assert compile_words(model, tokens) is None
    with torch.inference_mode():
        torch.testing.assert_close(encode_tokens(model, tokens), model.encode_text(tokens))


def test_every_weight_is_read(encoder: TextEncoder, model: Any) -> None:
    """Models are built without random numbers to start from, so nothing may be left as memory happened to be."""
    loaded, expected = encoder._towers.model.state_dict(), model.state_dict()
    assert loaded.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(loaded[name], values, rtol=0, atol=0)


@pytest.mark.parametrize(
    "build",
    [
        lambda: torch.nn.Linear(5, 6),
        lambda: torch.nn.Embedding(5, 6),
        lambda: torch.nn.Conv2d(3, 4, 2),
        lambda: torch.nn.MultiheadAttention(8, 2),
        lambda: torch.nn.init.trunc_normal_(torch.nn.Parameter(torch.zeros(3))),
    ],
)
def test_layers_are_built_without_random_numbers(build: Callable[[], object]) -> None:
    state = torch.get_rng_state()
    with without_random_weights():
        build()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("bounds", [(-2.0, 2.0), (1.0, 2.0)])
@pytest.mark.parametrize("held", [9.0, -1e30])
def test_numbers_are_drawn_until_they_are_within_bounds(
    held: float, bounds: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = torch.nn.Parameter(torch.full((50,), held))
    monkeypatch.setattr(torch, "empty_like", lambda tensor: torch.full_like(tensor, held))  # what memory held before
    with without_random_weights():
        torch.nn.init.trunc_normal_(weight, a=bounds[0], b=bounds[1])
    within = (weight >= bounds[0]) & (weight <= bounds[1])
    assert (within | weight.isnan()).all()  # older versions of torch draw once, and make NaN of it
