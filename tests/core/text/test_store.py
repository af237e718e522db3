"""The memory of embeddings: what it gives back, what it drops, and what it does with damaged files."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given

from fastsam_core import Masks
from fastsam_core.errors import InvalidParameterError
from fastsam_core.testing import masks_strategy
from fastsam_core.text import CropOptions, EmbeddingStore
from fastsam_core.text import store as store_module
from fastsam_core.text.store import image_digest, mask_digests, page_key

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

KEY = "0123456789abcdef"


def _rows(count: int, width: int = 6, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def _digests(*names: str) -> list[bytes]:
    return [name.encode().ljust(16) for name in names]


def test_what_was_added_comes_back_in_any_order() -> None:
    store = EmbeddingStore()
    rows = _rows(3)
    store.add(KEY, _digests("a", "b", "a"), rows)
    store.add(KEY, _digests("b", "c"), _rows(2, seed=1))
    found, known = store.look_up(KEY, _digests("c", "a", "x", "b"), 6)
    np.testing.assert_array_equal(known, [True, True, False, True])
    np.testing.assert_array_equal(found, [_rows(2, seed=1)[1], rows[0], np.zeros(6), rows[1]])


def test_other_keys_and_widths_know_nothing() -> None:
    store = EmbeddingStore()
    store.add(KEY, _digests("a"), _rows(1))
    assert not store.look_up("fedcba", _digests("a"), 6)[1].any()
    assert not store.look_up(KEY, _digests("a"), 7)[1].any()


def test_the_longest_unused_goes_first() -> None:
    store = EmbeddingStore(max_bytes=400)  # two pages of one row
    for key in ("one", "two"):
        store.add(key, _digests("a"), _rows(1))
    store.look_up("one", _digests("a"), 6)
    store.add("three", _digests("a"), _rows(1))
    assert store.size_bytes <= 400
    known = [bool(store.look_up(key, _digests("a"), 6)[1]) for key in ("one", "two", "three")]
    assert known == [True, False, True]


def test_no_memory_at_all_keeps_nothing() -> None:
    store = EmbeddingStore(max_bytes=0)
    store.add(KEY, _digests("a"), _rows(1))
    assert store.size_bytes == 0
    with pytest.raises(InvalidParameterError):
        EmbeddingStore(max_bytes=-1)


def test_a_folder_survives_a_restart(tmp_path: Path) -> None:
    EmbeddingStore(folder=tmp_path).add(KEY, _digests("a", "b"), _rows(2))
    EmbeddingStore(folder=tmp_path).add(KEY, _digests("c"), _rows(1, seed=1))
    found, known = EmbeddingStore(folder=tmp_path).look_up(KEY, _digests("b", "c"), 6)
    assert known.all()
    np.testing.assert_array_equal(found, [_rows(2)[1], _rows(1, seed=1)[0]])
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".safetensors"]


def test_threads_that_add_to_one_image_lose_nothing_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_writes, other_is_done = threading.Event(), threading.Event()
    write = store_module._write

    def slow(path: Path, page: Any) -> None:
        if not one_writes.is_set():
            one_writes.set()
            other_is_done.wait(0.5)  # which waits for this one
        write(path, page)

    monkeypatch.setattr(store_module, "_write", slow)
    store = EmbeddingStore(folder=tmp_path)
    thread = threading.Thread(target=store.add, args=(KEY, _digests("a"), _rows(1)))
    thread.start()
    one_writes.wait()
    store.add(KEY, _digests("b"), _rows(1, seed=1))
    other_is_done.set()
    thread.join()
    assert EmbeddingStore(folder=tmp_path).look_up(KEY, _digests("a", "b"), 6)[1].all()


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign"])
def test_a_damaged_file_counts_as_missing_and_is_written_anew(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    EmbeddingStore(folder=tmp_path).add(KEY, _digests("a"), _rows(1))
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[-3] ^= 0x40
    path.write_bytes(b"foreign" if damage == "foreign" else bytes(content[:-8] if damage == "cut" else content))
    store = EmbeddingStore(folder=tmp_path)
    with caplog.at_level(logging.WARNING):
        assert not store.look_up(KEY, _digests("a"), 6)[1].any()
    assert "made again" in caplog.text
    store.add(KEY, _digests("a"), _rows(1))
    assert EmbeddingStore(folder=tmp_path).look_up(KEY, _digests("a"), 6)[1].all()


def test_a_folder_that_cannot_be_written_leaves_the_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    store = EmbeddingStore(folder=tmp_path / "file")
    store.add(KEY, _digests("a"), _rows(1))
    assert store.look_up(KEY, _digests("a"), 6)[1].all()
    store.add("9f", _digests("a"), _rows(1))
    assert caplog.text.count("in memory only") == 1


@given(masks_strategy())
def test_equal_masks_have_equal_digests_and_others_do_not(masks: Masks) -> None:
    digests = mask_digests(masks)
    assert mask_digests(masks[::-1]) == digests[::-1]
    pixels = [crop.tobytes() + masks.extents_xyxy[i].tobytes() for i, crop in enumerate(masks.crops())]
    for i in range(len(masks)):
        for j in range(len(masks)):
            assert (digests[i] == digests[j]) == (pixels[i] == pixels[j])


def test_boxes_count_where_they_are_looked_at() -> None:
    dense = np.ones((1, 4, 4), bool)
    one = Masks.from_crops(list(dense), [(0, 0)], (4, 4), boxes_xyxy=[(0, 0, 4, 4)])
    other = Masks.from_crops(list(dense), [(0, 0)], (4, 4), boxes_xyxy=[(0, 0, 3, 4)])
    assert mask_digests(one) == mask_digests(other)
    assert mask_digests(one, with_boxes=True) != mask_digests(other, with_boxes=True)


def test_the_key_tells_images_encoders_and_crops_apart() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    digests = {image_digest(image), image_digest(image.reshape(6, 4, 3)), image_digest(image + np.uint8(1))}
    assert len(digests) == 3
    options = (CropOptions(), CropOptions("grey"), CropOptions(margin=0.2))
    keys = {page_key(d, encoder, option) for d in digests for encoder in ("a", "b") for option in options}
    assert len(keys) == 18
