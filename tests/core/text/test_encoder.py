"""Encoders from folders and names, texts they take and refuse, and what goes wrong when files are missing."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import open_clip
import pytest
import torch

from fastsam_core import Text
from fastsam_core.errors import (
    BackendUnavailableError,
    CheckpointError,
    InvalidParameterError,
    InvalidPromptError,
    MissingDependencyError,
    UnknownModelError,
    UnknownWordsError,
    WeightsDownloadError,
)
from fastsam_core.text import DEMO, ENCODERS, RECOMMENDED, EncoderTraits, TextEncoder, default_encoder
from fastsam_core.text._towers import choose_precision
from fastsam_core.text._weights import find_files
from fastsam_core.text.encoders import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CLOSED = {"vocabulary": ["red", "circle", "cell"], "fillers": ["a", "the", "of"], "negatives": ["cell"], "slope": 9.0}


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FASTSAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def closed(save_encoder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    return TextEncoder.load(save_encoder(tmp_path_factory.mktemp("closed") / "c", CLOSED), device="cpu")


# ---- texts --------------------------------------------------------------------------------------------------------


def test_texts_become_unit_vectors(encoder: TextEncoder) -> None:
    vectors = encoder.embed_texts(["red circle", "cell", "the  red circle"])
    assert vectors.shape == (3, encoder.width) == (3, 24)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert vectors[0] @ vectors[1] < 0.9999
    assert encoder.embed_texts([]).shape == (0, 24)


def test_a_text_is_encoded_once(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    first = encoder.embed_texts(["green star"])
    monkeypatch.setattr(encoder, "_encode", lambda texts: pytest.fail(f"encoded again: {texts}"))
    np.testing.assert_array_equal(encoder.embed_texts(["a green star"]), first)


def test_short_texts_give_what_padded_ones_give(encoder_folder: Path, encoder: TextEncoder) -> None:
    model = open_clip.create_model(f"local-dir:{encoder_folder}").eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{encoder_folder}")(["a photo of a red circle."])
    with torch.inference_mode():
        expected = model.encode_text(tokens, normalize=True)[0].numpy()
    np.testing.assert_allclose(encoder.embed_texts(["red circle"])[0], expected, atol=1e-5)


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_an_empty_text(encoder: TextEncoder, text: str) -> None:
    with pytest.raises(InvalidPromptError, match="empty"):
        encoder.embed_texts(["cell", text])


def test_a_text_over_the_limit_is_refused_with_its_length(encoder: TextEncoder) -> None:
    words = "red green blue red green"  # a photo of a … . and both ends: 5 + 5 + 2
    assert encoder.embed_texts([words]).shape == (1, 24)
    with pytest.raises(InvalidPromptError, match=r"at most 12 tokens.*13 tokens") as caught:
        encoder.check(Text(f"{words} blue"))
    assert "fewer words" in caught.value.remedy


def test_negatives_are_checked_as_well(encoder: TextEncoder) -> None:
    with pytest.raises(InvalidPromptError, match="too long"):
        encoder.check(Text("cell", negatives=["word " * 20]))


# ---- closed vocabularies ------------------------------------------------------------------------------------------


def test_a_closed_vocabulary_takes_its_words(closed: TextEncoder) -> None:
    assert closed.vocabulary == ("red", "circle", "cell")
    assert closed.slope == 9.0
    assert "3 words" in closed.notice
    assert RECOMMENDED in closed.notice
    assert closed.embed_texts(["A Red circle", "the cell"]).shape == (2, 24)


def test_unknown_words_are_named_with_the_nearest_known(closed: TextEncoder) -> None:
    with pytest.raises(UnknownWordsError) as caught:
        closed.check(Text("a red circel of zebra"))
    assert "'circel', 'zebra'" in caught.value.problem
    assert "'circle' or 'cell' for 'circel'" in caught.value.remedy
    assert "red, circle, cell" in caught.value.expected


def test_unknown_words_of_all_texts_are_named_at_once(closed: TextEncoder) -> None:
    asked = ["zebra", "red", "a gnu", "zebra yak"]
    for ask in (
        lambda: closed.check(Text(("zebra", "red", "a gnu"), ["zebra yak"])),
        lambda: closed.embed_texts(asked),
    ):
        with pytest.raises(UnknownWordsError) as caught:
            ask()
        assert "'zebra', 'gnu', 'yak'" in caught.value.problem
        assert caught.value.actual == "'zebra', 'gnu', 'zebra yak'"


def test_fillers_alone_say_nothing(closed: TextEncoder) -> None:
    with pytest.raises(InvalidPromptError, match="says nothing"):
        closed.check(Text("the a"))


def test_words_that_exclude_each_other_are_negatives() -> None:
    traits = EncoderTraits(
        negatives=("else",), rivals=((("red",), ("blue", "navy")), (("round disc", "ball"), ("box",)))
    )
    assert traits.negatives_for("thing") == ("else",)
    assert traits.negatives_for("a Navy thing") == ("else", "red")
    assert traits.negatives_for("blue box") == ("else", "red", "round disc")
    assert traits.negatives_for("red round disc") == ("else", "blue", "box")
    assert traits.negatives_for("Else") == ()


def test_an_open_vocabulary_needs_no_notice(encoder: TextEncoder) -> None:
    assert encoder.vocabulary is None
    assert encoder.notice == ""


# ---- loading ------------------------------------------------------------------------------------------------------


def test_what_macos_leaves_behind_is_no_weights(encoder_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(encoder_folder, tmp_path / "own")
    (folder / "open_clip_model.safetensors").rename(folder / "mine.safetensors")
    (folder / "._mine.safetensors").write_bytes(b"\0\5\26\7")
    assert find_files(str(folder)).weights.name == "mine.safetensors"


def test_a_folder_and_its_file_are_the_same_encoder(encoder_folder: Path, encoder: TextEncoder) -> None:
    again = TextEncoder.load(str(encoder_folder / "open_clip_model.safetensors"), device="cpu")
    assert again.encoder_id == encoder.encoder_id
    assert again.name == "tiny"
    assert again.precision == "fp32"


def test_bf16_is_close_to_fp32(encoder_folder: Path, encoder: TextEncoder) -> None:
    half = TextEncoder.load(encoder_folder, device="cpu", precision="bf16")
    assert half.encoder_id != encoder.encoder_id
    pictures = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), np.uint8)
    cosines = (half.embed_pictures(pictures) * encoder.embed_pictures(pictures)).sum(1)
    assert cosines.min() > 0.99
    assert (half.embed_texts(["cell"]) @ encoder.embed_texts(["cell"]).T).item() > 0.99


@pytest.mark.parametrize(
    ("wanted", "device", "weights_bytes", "chosen"),
    [
        ("auto", "cuda:0", 10, "fp16"),
        ("auto", "cpu", 10, "fp32"),
        ("bf16", "cpu", 10, "bf16"),
        ("auto", "mps", 10**9, "fp32"),
    ],
)
def test_precision(wanted: str, device: str, weights_bytes: int, chosen: str) -> None:
    assert choose_precision(wanted, device, weights_bytes) == chosen


@pytest.mark.parametrize(("wanted", "device"), [("fp8", "cpu"), ("fp16", "cpu")])
def test_precisions_that_are_not_there(wanted: str, device: str) -> None:
    with pytest.raises(InvalidParameterError):
        choose_precision(wanted, device, 1)


def test_a_device_that_is_not_there(encoder_folder: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(BackendUnavailableError, match="cuda"):
        TextEncoder.load(encoder_folder, device="cuda")


@pytest.mark.parametrize(
    ("name", "near"), [("ViT-B-33", "ViT-B-32/"), ("ViT-L-14/datacomp", "ViT-L-14/datacomp_xl"), ("RN50", "RN50/")]
)
def test_unknown_names_suggest_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UnknownModelError) as caught:
        TextEncoder.load(name)
    assert near in caught.value.remedy


def test_a_name_like_nothing() -> None:
    with pytest.raises(UnknownModelError, match="no text encoder or folder"):
        TextEncoder.load("~nobody.of.this.name/encoder")
    with pytest.raises(UnknownModelError, match="fastsam models list"):
        TextEncoder.load("§§§")


@pytest.mark.parametrize("name", [RECOMMENDED, "vit-b-32-256", "hf-hub:nobody/nothing"])
def test_without_a_connection_the_command_and_the_folder_are_named(empty_cache: Path, name: str) -> None:
    with pytest.raises(WeightsDownloadError) as caught:
        TextEncoder.load(name)
    assert f"fastsam models download {RECOMMENDED if 'hub' not in name else name}" in caught.value.remedy
    assert str(empty_cache) in caught.value.expected


def test_the_default_is_the_demo_until_the_recommended_one_is_there(empty_cache: Path) -> None:
    assert default_encoder() == DEMO
    _put_into_cache(b"weights")
    assert ENCODERS[RECOMMENDED].is_cached()
    assert default_encoder() == RECOMMENDED


def test_a_damaged_download_is_thrown_away_and_fetched_again(empty_cache: Path) -> None:
    blob = _put_into_cache(b"not what was downloaded")
    with pytest.raises(WeightsDownloadError):  # it would be fetched here, but there is no connection
        TextEncoder.load(RECOMMENDED)
    assert not blob.exists()
    assert not ENCODERS[RECOMMENDED].is_cached()


def _put_into_cache(content: bytes) -> Path:
    """Lay a file out as the hub's cache does: a blob under the sha256 it should have, and a link to it."""
    repository = ENCODERS[RECOMMENDED].repository or ""
    folder = cache_folder() / f"models--{repository.replace('/', '--')}"
    (folder / "blobs").mkdir(parents=True)
    (folder / "snapshots" / "1").mkdir(parents=True)
    blob = folder / "blobs" / ("ab" * 32)
    blob.write_bytes(content)
    (folder / "snapshots" / "1" / "open_clip_model.safetensors").symlink_to(blob)
    return blob


def test_a_folder_without_an_encoder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no text encoder"):
        TextEncoder.load(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "another model", "no json", "wrong entry"])
def test_damaged_folders(encoder_folder: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(encoder_folder, folder)
    weights, config_file = folder / "open_clip_model.safetensors", folder / "open_clip_config.json"
    config = json.loads(config_file.read_text())
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "another model":
        config["model_cfg"]["embed_dim"] = 25
    elif damage == "wrong entry":
        config["fastsam"] = {"slope": "steep"}
    config_file.write_text("{" if damage == "no json" else json.dumps(config))
    with pytest.raises(CheckpointError):
        TextEncoder.load(folder, device="cpu")


def test_without_open_clip_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "open_clip", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'fastsam-plugins\[text\]'"):
        TextEncoder.load(RECOMMENDED)
