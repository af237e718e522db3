"""Files that are no images, or larger than they may be; and what a file is called."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as Pillow

from fastsam_core.errors import (
    ImageNotFoundError,
    ImageReadError,
    ImageTooLargeError,
    InvalidParameterError,
    UnsupportedImageError,
)
from fastsam_core.images import IMAGE_SUFFIXES, is_image_path, read_image

Array = NDArray[Any]


@pytest.fixture(scope="module")
def colours() -> Array:
    return np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "OLE"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\0\0\0\x0cjP  \r\n", "JPEG 2000"),
        (b"\x93NUMPY\x01\0", "NumPy"),
        (b"\0\0\0\x18ftypheic", "HEIF"),
    ],
)
def test_files_of_other_programs_are_named(content: bytes, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    path.write_bytes(content + bytes(100))
    with pytest.raises(UnsupportedImageError, match=rf"is a {kind}.*Remedy: convert it to"):
        read_image(path)


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_files_of_noise_are_errors(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"noise{suffix}"
    noise = np.random.default_rng(2).integers(0, 255, 5000).astype(np.uint8).tobytes()
    for magic in (
        b"",
        b"\xff\xd8\xff\xe0",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"BM",
        b"RIFF\0\1\0\0WEBP",
        b"II*\0",
        b"MM\0+",
    ):
        path.write_bytes(magic + noise)
        with pytest.raises((ImageReadError, ImageTooLargeError)) as caught:
            read_image(path)
        assert caught.value.remedy


def _claim_size(path: Path, side: int) -> None:
    """Write a small PNG whose header speaks of a large square."""
    stream = io.BytesIO()
    Pillow.new("L", (8, 8)).save(stream, "PNG")
    data = bytearray(stream.getvalue())
    data[16:24] = struct.pack(">II", side, side)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)


def test_decompression_bombs_are_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    _claim_size(path, 60000)
    with pytest.raises(ImageTooLargeError, match="max_pixels=None") as caught:
        read_image(path)
    assert "3600000000 pixels" in caught.value.actual
    _claim_size(path, 3000)
    with pytest.raises(ImageReadError):  # within the limit, there is still no data in it
        read_image(path)
    tifffile.imwrite(tmp_path / "bomb.tif", np.zeros((16, 16), np.uint8), compression="zlib")
    with tifffile.TiffFile(tmp_path / "bomb.tif", mode="r+") as tiff:
        tiff.pages.first.tags["ImageWidth"].overwrite(40000)
        tiff.pages.first.tags["ImageLength"].overwrite(40000)
    with pytest.raises(ImageTooLargeError):
        read_image(tmp_path / "bomb.tif")


def test_the_limit_can_be_set(colours: Array, tmp_path: Path) -> None:
    Pillow.fromarray(colours).save(tmp_path / "small.png")
    assert read_image(tmp_path / "small.png", max_pixels=40 * 64).image_hw == (40, 64)
    with pytest.raises(ImageTooLargeError):
        read_image(tmp_path / "small.png", max_pixels=40 * 64 - 1)
    for wrong in (0, -3, True):
        with pytest.raises(InvalidParameterError):
            read_image(tmp_path / "small.png", max_pixels=wrong)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "tif"])
def test_the_limit_of_pillow_is_not_ours(
    suffix: str, colours: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow warns above its global limit and refuses above twice that: both at sizes that are ordinary here."""
    Pillow.fromarray(colours).save(tmp_path / f"large.{suffix}")
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 1000)
    assert read_image(tmp_path / f"large.{suffix}").image_hw == (40, 64)


def test_paths_that_are_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageNotFoundError, match="There is no file") as caught:
        read_image(tmp_path / "missing.png")
    assert caught.value.remedy == "check the spelling"
    with pytest.raises(ImageNotFoundError, match="paths are relative to"):
        read_image("missing.png")
    with pytest.raises(FileNotFoundError):
        read_image("")
    with pytest.raises(ImageReadError, match="folder"):
        read_image(tmp_path)
    with pytest.raises(ImageReadError, match="cannot be opened"):
        read_image("nul\0byte.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        with pytest.raises(
            ImageReadError, match="is a pipe"
        ):  # that nobody writes into: opening it would wait for ever
            read_image(tmp_path / "pipe.png")
    (tmp_path / "locked.png").write_bytes(b"x")

    def refuse(*_: object, **__: object) -> io.BytesIO:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)  # the tests may run as root, for whom every file is readable
    with pytest.raises(ImageReadError, match="permissions"):
        read_image(tmp_path / "locked.png")


def test_content_decides_not_the_name(colours: Array, tmp_path: Path) -> None:
    Pillow.fromarray(colours).save(tmp_path / "truth.png")
    os.rename(tmp_path / "truth.png", tmp_path / "lie.jpg")
    assert np.array_equal(read_image(tmp_path / "lie.jpg").rgb8, colours)
    (tmp_path / "text.png").write_text("not an image at all")
    with pytest.raises(ImageReadError, match="PNG, JPEG, TIFF"):
        read_image(tmp_path / "text.png")


def test_files_are_closed(colours: Array, tmp_path: Path) -> None:
    """Warnings are errors here, so that a file left open fails the run; on Windows it could not be removed."""
    for suffix in ("png", "jpg", "gif", "tif", "webp"):
        path = tmp_path / f"open.{suffix}"
        Pillow.fromarray(colours).save(path)
        read_image(path)
        path.unlink()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.PNG", True), ("b/c.ome.tiff", True), ("d.jpeg", True), ("e.txt", False), (".f.png", False), ("png", False)],
)
def test_image_paths_by_name(name: str, expected: bool) -> None:
    assert is_image_path(name) is expected
    assert is_image_path(Path(name)) is expected
