"""Image files of every format, read back; and every way in which a file can be bad."""

from __future__ import annotations

import json
import struct
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as Pillow

from fastsam_core._image_files import _Decoded
from fastsam_core.errors import (
    ImageContentError,
    ImageReadError,
    ImageTooLargeError,
    UnsupportedImageError,
)
from fastsam_core.images import open_planes, read_image, read_values
from fastsam_core.large_images import open_plane

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Array = NDArray[Any]


@pytest.fixture(scope="module")
def colours() -> Array:
    """Return four unlike colours in unlike places: no swap of channels, flip or transposition goes unseen."""
    rgb = np.zeros((40, 64, 3), np.uint8)
    rgb[:16, :32] = (200, 30, 60)
    rgb[16:, :32] = (20, 180, 90)
    rgb[:, 32:] = (30, 60, 220)
    rgb[24:32, 40:48] = (250, 240, 120)
    return rgb


def _pillow(mode: str = "RGB", **options: Any) -> Callable[[Path, Array], None]:
    return lambda path, rgb: Pillow.fromarray(rgb).convert(mode).save(path, **options)


def _opencv(*parameters: int, deep: bool = False) -> Callable[[Path, Array], None]:
    def write(path: Path, rgb: Array) -> None:
        bgr = np.ascontiguousarray(rgb[..., ::-1])
        assert cv2.imwrite(str(path), bgr.astype(np.uint16) * 257 if deep else bgr, parameters)

    return write


def _tiff(dtype: str = "uint8", planar: bool = False, **options: Any) -> Callable[[Path, Array], None]:
    def write(path: Path, rgb: Array) -> None:
        values = rgb / 255 if dtype.startswith("float") else rgb.astype(np.uint32) * (257 if "16" in dtype else 1)
        values = np.moveaxis(values, -1, 0) if planar else values
        options["planarconfig"] = "separate" if planar else "contig"
        tifffile.imwrite(path, values.astype(dtype), photometric="rgb", **options)

    return write


def _palette(path: Path, rgb: Array) -> None:
    Pillow.fromarray(rgb).convert("P", palette=Pillow.Palette.ADAPTIVE).save(path)


def _opaque(path: Path, rgb: Array) -> None:
    Pillow.fromarray(np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])).save(path)


WRITERS: dict[str, tuple[str, Callable[[Path, Array], None], int]] = {
    "png": ("png", _pillow(), 0),
    "png with alpha": ("png", _opaque, 0),
    "png palette": ("png", _palette, 0),
    "png by OpenCV": ("png", _opencv(), 0),
    "png 16-bit": ("png", _opencv(deep=True), 0),
    "jpeg": ("jpg", _pillow(quality=98, subsampling=0), 8),
    "jpeg progressive": ("jpeg", _pillow(quality=98, subsampling=0, progressive=True), 8),
    "jpeg CMYK": ("jpg", _pillow("CMYK", quality=98), 8),
    "jpeg by OpenCV": ("jpg", _opencv(cv2.IMWRITE_JPEG_QUALITY, 98), 8),
    "bmp": ("bmp", _pillow(), 0),
    "bmp palette": ("bmp", _palette, 0),
    "gif": ("gif", _pillow(), 0),
    "webp": ("webp", _pillow(lossless=True), 0),
    "webp with alpha": ("webp", lambda path, rgb: _pillow("RGBA", lossless=True)(path, rgb), 0),
    "webp by OpenCV": ("webp", _opencv(cv2.IMWRITE_WEBP_QUALITY, 101), 0),
    "ppm": ("ppm", _pillow(), 0),
    "tiff": ("tif", _pillow(), 0),
    "tiff LZW": ("tif", _pillow(compression="tiff_lzw"), 0),
    "tiff JPEG": ("tif", _pillow(compression="jpeg", quality=98), 8),
    "tiff packbits": ("tif", _pillow(compression="packbits"), 0),
    "tiff CMYK": ("tif", _pillow("CMYK"), 0),
    "tiff palette": ("tif", _palette, 0),
    "tiff palette LZW": ("tif", lambda p, a: Pillow.fromarray(a).quantize(16).save(p, compression="tiff_lzw"), 0),
    "tiff by OpenCV": ("tif", _opencv(), 0),
    "tiff 16-bit LZW by OpenCV": ("tif", _opencv(deep=True), 0),
    "tiff 16-bit": ("tiff", _tiff("uint16"), 0),
    "tiff 16-bit big-endian": ("tif", _tiff("uint16", byteorder=">"), 0),
    "tiff 16-bit planar": ("tif", _tiff("uint16", planar=True), 0),
    "tiff 8-bit planar": ("tif", _tiff(planar=True), 0),
    "tiff float in 0 to 1": ("tif", _tiff("float32"), 0),
    "tiff float64 zipped tiles": ("tif", _tiff("float64", compression="zlib", tile=(16, 16)), 0),
    "tiff BigTIFF": ("tif", _tiff("uint8", bigtiff=True), 0),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_colours_survive_every_format(kind: str, colours: Array, tmp_path: Path) -> None:
    suffix, write, tolerance = WRITERS[kind]
    path = tmp_path / f"colours.{suffix}"
    write(path, colours)
    image = read_image(path)
    assert image.rgb8.flags.c_contiguous
    assert image.rgb8.flags.writeable
    assert image.image_hw == (40, 64)
    assert image.source == str(path)
    inside = np.zeros((40, 64), bool)  # JPEG mixes colours at their borders
    inside[2:14, 2:30] = inside[18:38, 2:30] = inside[2:22, 34:62] = inside[26:30, 42:46] = True
    difference = np.abs(image.rgb8.astype(int) - colours)
    assert difference[inside].max() <= tolerance
    assert tolerance or difference.max() == 0
    assert json.loads(json.dumps(image.recipe)) == image.recipe


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(suffix: str, orientation: int, colours: Array, tmp_path: Path) -> None:
    laid = {
        1: colours,
        2: colours[:, ::-1],
        3: colours[::-1, ::-1],
        4: colours[::-1],
        5: colours.swapaxes(0, 1),
        6: np.rot90(colours, 1),
        7: colours[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(colours, -1),
    }[orientation]
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"camera.{suffix}"
    settings: dict[str, dict[str, Any]] = {"webp": {"lossless": True}, "jpg": {"quality": 98, "subsampling": 0}}
    Pillow.fromarray(np.ascontiguousarray(laid)).save(path, exif=exif.tobytes(), **settings.get(suffix, {}))
    image = read_image(path)
    assert image.image_hw == (40, 64)
    difference = np.abs(image.rgb8.astype(int) - colours)
    assert difference.mean() < 2
    assert suffix == "jpg" or difference.max() == 0
    assert image.recipe.get("orientation", 1) == orientation


def _oriented_tiff(path: Path, values: Array, **options: Any) -> None:
    """Write pixels that a camera took upside down (orientation 6: the first row is the right-hand side)."""
    tifffile.imwrite(path, np.ascontiguousarray(np.rot90(values, 1)), extratags=[(274, 3, 1, 6, True)], **options)


def test_orientation_of_deep_tiff_files(colours: Array, tmp_path: Path) -> None:
    _oriented_tiff(tmp_path / "deep.tif", colours.astype(np.uint16) * 257, photometric="rgb")
    assert np.array_equal(read_image(tmp_path / "deep.tif").rgb8, colours)
    tag = {274: 6}
    Pillow.fromarray(np.ascontiguousarray(np.rot90(colours, 1))).save(
        tmp_path / "lzw.tif", compression="tiff_lzw", tiffinfo=tag
    )
    assert np.array_equal(read_image(tmp_path / "lzw.tif").rgb8, colours)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_gray_of_any_depth(suffix: str, tmp_path: Path) -> None:
    ramp = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000 + 500
    path = tmp_path / f"gray.{suffix}"
    Pillow.fromarray(ramp).save(path)
    given = read_image(path, contrast=(0, 65535)).rgb8
    assert np.array_equal(given[..., 0], np.rint(ramp / 257).astype(np.uint8))
    assert (given == given[..., :1]).all()
    auto = read_image(path)
    assert (int(auto.rgb8.min()), int(auto.rgb8.max())) == (0, 255)
    assert auto.recipe["contrast"] == "percentile"


@pytest.mark.parametrize(("suffix", "options"), [("png", {}), ("tif", {}), ("tif", {"compression": "group4"})])
def test_one_bit_images(suffix: str, options: dict[str, str], tmp_path: Path) -> None:
    bits = np.zeros((10, 20), bool)
    bits[2:5, 3:9] = True
    Pillow.fromarray(bits).save(tmp_path / f"bits.{suffix}", **options)
    assert np.array_equal(read_image(tmp_path / f"bits.{suffix}").rgb8[..., 2], bits * np.uint8(255))


def test_inverted_gray_tiff(tmp_path: Path) -> None:
    gray = np.arange(200, dtype=np.uint8).reshape(10, 20)
    tifffile.imwrite(tmp_path / "white.tif", 255 - gray, photometric="miniswhite")
    assert np.array_equal(read_image(tmp_path / "white.tif").rgb8[..., 0], gray)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_transparent_pixels_are_drawn_over_black(suffix: str, colours: Array, tmp_path: Path) -> None:
    alpha = np.full(colours.shape[:2], 255, np.uint8)
    alpha[:10], alpha[10:20] = 0, 77
    options: dict[str, Any] = {"lossless": True, "exact": True} if suffix == "webp" else {}
    Pillow.fromarray(np.dstack([colours, alpha])).save(tmp_path / f"faded.{suffix}", **options)
    image = read_image(tmp_path / f"faded.{suffix}")
    assert np.array_equal(image.rgb8, np.rint(colours * (alpha[..., None] / 255.0)).astype(np.uint8))
    assert image.recipe["alpha"] == "over black"


def test_gray_with_alpha_and_transparent_palettes(colours: Array, tmp_path: Path) -> None:
    gray, alpha = colours[..., 0], np.where(np.arange(64) < 32, 255, 0).astype(np.uint8)
    both = np.dstack([gray, np.broadcast_to(alpha, gray.shape)])
    Pillow.fromarray(both).save(tmp_path / "la.png")
    assert np.array_equal(read_image(tmp_path / "la.png").rgb8[..., 1], np.where(alpha, gray, 0))
    cv2.imwrite(str(tmp_path / "rgba16.png"), np.dstack([colours[..., ::-1], both[..., 1]]).astype(np.uint16) * 257)
    assert np.array_equal(read_image(tmp_path / "rgba16.png").rgb8, np.where(alpha[:, None], colours, 0))
    for mode, key in (("L", 200), ("1", 0), ("RGB", (200, 30, 60))):
        Pillow.fromarray(colours if mode == "RGB" else gray).convert(mode).save(tmp_path / "key.png", transparency=key)
        plain = np.asarray(Pillow.fromarray(colours if mode == "RGB" else gray).convert(mode).convert("RGB"))
        hidden = (plain == key).all(2, keepdims=True)
        assert np.array_equal(read_image(tmp_path / "key.png").rgb8, np.where(hidden, 0, plain))
    palette = Pillow.fromarray(colours).quantize(8)
    palette.save(tmp_path / "p.png", transparency=palette.getpixel((0, 0)))
    expected = np.where((colours == colours[0, 0]).all(2, keepdims=True), 0, colours)
    assert np.array_equal(read_image(tmp_path / "p.png").rgb8, expected)


def test_sixteen_bit_gray_with_alpha(tmp_path: Path) -> None:
    """Pillow keeps the high byte of such files only; they are rare enough to be written here by hand."""
    gray = np.linspace(0, 65535, 48).astype(">u2").reshape(6, 8)
    rows = b"".join(b"\0" + np.dstack([row, np.full_like(row, 65535)]).astype(">u2").tobytes() for row in gray)
    _write_png(tmp_path / "la16.png", 8, 6, 16, 4, rows)
    image = read_image(tmp_path / "la16.png", contrast=(0, 65535))
    assert np.array_equal(image.rgb8[..., 0], np.rint(gray / 257).astype(np.uint8))


def _write_png(path: Path, width: int, height: int, depth: int, kind: int, rows: bytes) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_animations_and_pages(suffix: str, colours: Array, tmp_path: Path) -> None:
    frames = [Pillow.fromarray(np.ascontiguousarray(np.roll(colours, 9 * i, 1))) for i in range(3)]
    options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    path = tmp_path / f"several.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    assert np.array_equal(read_image(path).rgb8, colours)
    last = read_image(path, plane=2)
    assert np.array_equal(last.rgb8, np.roll(colours, 18, 1))
    assert last.recipe["pages"] == 3
    assert last.recipe["plane"] == {"I" if suffix == "tif" else "T": 2}
    with pytest.raises(ImageContentError, match="no such plane"):
        read_image(path, plane=3)


def test_pages_of_different_size(tmp_path: Path) -> None:
    for i in range(3):
        tifffile.imwrite(tmp_path / "sizes.tif", np.full((20, 30 + i), 50 * i, np.uint8), append=i > 0)
    assert read_image(tmp_path / "sizes.tif").image_hw == (20, 30)
    last = read_image(tmp_path / "sizes.tif", plane=2)
    assert last.image_hw == (20, 32)
    assert last.recipe["pages"] == 3
    assert (last.rgb8 == 100).all()


@pytest.mark.parametrize(
    "options", [{"imagej": True}, {"ome": True}, {"compression": "zlib"}, {"ome": True, "tile": (16, 16)}]
)
def test_stacks_with_named_axes(options: dict[str, Any], tmp_path: Path) -> None:
    values = np.random.default_rng(3).integers(0, 60000, (2, 3, 2, 24, 32), dtype=np.uint16)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, values, metadata={"axes": "TZCYX"}, **options)
    image = read_image(path, plane={"T": 1, "Z": 2}, contrast=(0, 60000))
    scaled = np.rint(values[1, 2] * (255 / 60000)).astype(np.uint8)
    assert np.array_equal(image.rgb8, np.dstack([scaled[0], scaled[1], scaled[0]]))
    assert image.recipe["plane"] == {"T": 1, "Z": 2}
    assert image.recipe["pages"] == 6
    assert np.array_equal(read_image(path, plane=5, contrast=(0, 60000)).rgb8, image.rgb8)
    one = read_image(path, plane={"T": 1, "Z": 2}, channels=1, contrast=(0, 60000))
    assert np.array_equal(one.rgb8, np.dstack([scaled[1]] * 3))


def test_only_the_chosen_page_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "long.tif"
    tifffile.imwrite(
        path, np.arange(20, dtype=np.uint8)[:, None, None] * np.ones((16, 16), np.uint8), compression="zlib"
    )
    decoded: list[int] = []
    for kind in (tifffile.TiffPage, tifffile.TiffFrame):
        original = kind.asarray

        def spy(self: Any, *a: Any, original: Any = original, **k: Any) -> Any:
            decoded.append(self.index)
            return original(self, *a, **k)

        monkeypatch.setattr(kind, "asarray", spy)
    assert (read_image(path, plane=7).rgb8 == 7).all()
    assert set(decoded) == {7}


def test_four_deep_planes_are_channels_not_alpha(tmp_path: Path) -> None:
    """The library tifffile marks (4, H, W) arrays as RGB with alpha unless told otherwise."""
    values = np.zeros((4, 16, 16), np.uint16)
    values[3, 4:8, 4:8] = 1000
    tifffile.imwrite(tmp_path / "four.tif", values, photometric="rgb", planarconfig="separate")
    assert read_image(tmp_path / "four.tif", channels=3).rgb8[5, 5, 0] == 255
    assert read_image(tmp_path / "four.tif").rgb8[5, 5].tolist() == [0, 255, 255]


def test_axes_that_the_file_does_not_name_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, np.zeros((2, 3, 4, 20, 30), np.uint8), photometric="minisblack")
    with pytest.raises(ImageContentError, match="does not say") as caught:
        read_image(path)
    assert "QQ" not in str(caught.value)
    assert read_image(path, axes="TZIYX").image_hw == (20, 30)


@pytest.mark.parametrize("axes", ["YXZ", "ZYXC", "YZX", "XYC", "CYX"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_pages_that_are_no_planes(axes: str, tile: tuple[int, int] | None, tmp_path: Path) -> None:
    sizes = {"Z": 5, "Y": 40, "X": 50, "C": 2}
    values = np.random.default_rng(0).integers(0, 4000, [sizes[axis] for axis in axes], np.uint16)
    path = tmp_path / "pages.tif"
    tifffile.imwrite(path, values, metadata={"axes": axes}, photometric="minisblack", tile=tile)
    plane = {"Z": 3} if "Z" in axes else {}
    whole = read_image(path, plane=plane)
    np.testing.assert_array_equal(whole.rgb8, read_image(values, axes=axes, plane=plane).rgb8)
    with open_plane(path, plane=plane) as part:
        np.testing.assert_array_equal(part.read(part[3:30, 20:45]).rgb8, whole.rgb8[3:30, 20:45])


def test_axes_given_by_the_caller_overrule_the_file(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (20, 30, 2), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "last.tif", values)
    image = read_image(tmp_path / "last.tif", axes="YXC", channels={0: "red", 1: "blue"})
    assert np.array_equal(image.rgb8, np.dstack([values[..., 0], np.zeros((20, 30), np.uint8), values[..., 1]]))
    with pytest.raises(ImageContentError, match="axes='YX'"):
        read_image(tmp_path / "last.tif", axes="YX")


def test_extra_samples_of_tiff_files(colours: Array, tmp_path: Path) -> None:
    path, gray, half = tmp_path / "extra.tif", colours[..., 0], np.full((40, 64), 128, np.uint8)
    faded = np.rint(colours * (128 / 255)).astype(np.uint8)
    four, two = np.dstack([colours, half]), np.dstack([gray, half])
    for kind, expected in {"unassalpha": faded, "assocalpha": colours, "unspecified": colours}.items():
        tifffile.imwrite(path, four, photometric="rgb", extrasamples=[kind])
        assert np.array_equal(read_image(path).rgb8, expected)
    Pillow.fromarray(two).save(path)
    assert np.array_equal(read_image(path).rgb8, np.dstack([faded[..., 0]] * 3))
    Pillow.fromarray(two).save(path, compression="tiff_lzw")
    assert np.array_equal(read_image(path).rgb8, np.dstack([faded[..., 0]] * 3))
    tifffile.imwrite(path, two, photometric="minisblack", planarconfig="contig")  # two channels, no alpha
    assert np.array_equal(read_image(path).rgb8, np.dstack([gray, half, gray]))
    assert np.array_equal(read_image(path, channels=1).rgb8, np.dstack([half] * 3))
    cv2.imwrite(str(path), np.dstack([colours[..., ::-1], half]).astype(np.uint16) * 257)
    assert np.array_equal(read_image(path, channels=2, contrast=(0, 65535)).rgb8, np.dstack([colours[..., 2]] * 3))


def test_damaged_exif_does_not_spoil_the_picture(colours: Array, tmp_path: Path) -> None:
    Pillow.fromarray(colours).save(tmp_path / "exif.png", exif=b"Exif\0\0no exif at all")
    assert np.array_equal(read_image(tmp_path / "exif.png").rgb8, colours)


# ---- bad files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(set(WRITERS) - {"tiff BigTIFF"}))
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.9])
def test_truncated_files_are_errors_never_gray(kind: str, kept: float, tmp_path: Path) -> None:
    suffix, write, _ = WRITERS[kind]
    path = tmp_path / f"cut.{suffix}"
    write(path, np.random.default_rng(1).integers(0, 255, (64, 80, 3)).astype(np.uint8))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ImageReadError, match="cut"):
        read_image(path)


def test_lzw_data_behind_the_end_of_the_file(colours: Array, tmp_path: Path) -> None:
    for deep in (False, True):
        path = tmp_path / "behind.tif"
        _opencv(deep=deep)(path, colours)
        with tifffile.TiffFile(path, mode="r+") as tiff:
            count = len(tiff.pages.first.dataoffsets)
            tiff.pages.first.tags["StripOffsets"].overwrite([10**7] * count)
        with pytest.raises(ImageReadError, match="ends before"):
            read_image(path)


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp", "bmp", "tiff LZW", "tiff 16-bit", "png 16-bit"])
def test_flipped_bytes_give_an_image_or_a_typed_error(kind: str, colours: Array, tmp_path: Path) -> None:
    suffix, write, _ = WRITERS[kind]
    path = tmp_path / f"flipped.{suffix}"
    write(path, colours)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(7)
    for _ in range(60):
        damaged = whole.copy()
        damaged[rng.integers(0, min(len(whole), 400), 3)] = rng.integers(0, 255, 3)
        path.write_bytes(damaged.tobytes())
        try:
            image = read_image(path, max_pixels=1_000_000)
        except (ImageReadError, ImageTooLargeError, ImageContentError, UnsupportedImageError):
            continue
        assert image.rgb8.size


def test_data_of_other_axes_than_the_file_says_are_damage() -> None:
    class Reader:
        shape = (40, 64)

        def __getitem__(self, key: object) -> Array:
            return np.zeros((0, 40, 64), bool)

    decoded = _Decoded(Reader(), "damaged.tif")
    with pytest.raises(ImageReadError, match=r"damaged\.tif cannot be decoded.*\(0, 40, 64\) instead of 2 axes"):
        decoded[(slice(None), slice(None))]


def _file_of_a_set(folder: Path, channel: int, shape: tuple[int, int]) -> tuple[Path, str]:
    """Return the path of a file of an OME-TIFF of two channels, one in each file, and what it says of the set."""
    names = [(f"c{c}.ome.tif", f"urn:uuid:00000000-0000-0000-0000-00000000000{c}") for c in range(2)]
    blocks = "".join(
        f'<TiffData IFD="0" FirstC="{c}" PlaneCount="1"><UUID FileName="{name}">{uuid}</UUID></TiffData>'
        for c, (name, uuid) in enumerate(names)
    )
    pixels = f'DimensionOrder="XYCZT" Type="uint8" SizeX="{shape[1]}" SizeY="{shape[0]}" SizeC="2" SizeZ="1" SizeT="1"'
    words = (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        f'UUID="{names[channel][1]}"><Image ID="Image:0"><Pixels ID="Pixels:0" {pixels}>{blocks}</Pixels></Image></OME>'
    )
    return folder / names[channel][0], words


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_an_ome_tiff_in_several_files(compression: str | None, colours: Array, tmp_path: Path) -> None:
    stored = np.moveaxis(colours[..., :2], -1, 0)
    paths = []
    for channel, plane in enumerate(stored):
        path, words = _file_of_a_set(tmp_path, channel, plane.shape)
        paths.append(path)
        if compression == "lzw":
            Pillow.fromarray(plane).save(path, compression="tiff_lzw", description=words)
        else:
            tile = (16, 16) if compression else None
            tifffile.imwrite(path, plane, description=words, metadata=None, compression=compression, tile=tile)
    for path in paths:
        np.testing.assert_array_equal(read_values(path), stored)
        whole = read_image(path)
        with open_plane(path) as plane:
            np.testing.assert_array_equal(plane.read(plane[3:30, 20:50]).rgb8, whole.rgb8[3:30, 20:50])


@pytest.mark.parametrize("options", [{"imagej": True}, {"byteorder": ">"}], ids=str)
def test_of_stacks_with_a_single_page_only_a_plane_is_read(options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    stack = np.random.default_rng(0).integers(0, 60_000, (20, 2, 90, 110)).astype(np.uint16)
    tifffile.imwrite(path, stack, truncate=True, metadata={"axes": "ZCYX"}, photometric="minisblack", **options)
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.pages) == 1
    with open_planes(path) as planes:
        assert planes.has_regions
        tracemalloc.start()
        taken = planes.take({"Z": 7}).array
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        np.testing.assert_array_equal(taken, stack[7])
        assert most < stack.nbytes / 4
        region = planes.take({"Z": 19}, (slice(10, 20), slice(5, 90))).array
        np.testing.assert_array_equal(region, stack[19, :, 10:20, 5:90])
    if "imagej" in options:  # cut short, tifffile sees a single plane in it
        return
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 5000)
    np.testing.assert_array_equal(read_values(path, plane={"Z": 18}), stack[18])
    with pytest.raises(ImageReadError):
        read_image(path, plane={"Z": 19})


def test_compressions_that_need_imagecodecs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gray = np.arange(40 * 64, dtype=np.uint16).reshape(40, 64)
    Pillow.fromarray(gray).save(tmp_path / "lzw.tif", compression="tiff_lzw")
    monkeypatch.setattr("fastsam_core._tiff_regions._is_decoded", lambda _: False)
    with open_plane(tmp_path / "lzw.tif", contrast=(0, 2560)) as plane:  # decoded as a whole
        assert plane.read(plane[3:9, 4:20]).image_hw == (6, 16)
    with pytest.raises(ImageTooLargeError, match="pip install imagecodecs"):
        open_plane(tmp_path / "lzw.tif", max_pixels=100).__enter__()
    tifffile.imwrite(tmp_path / "zstd.tif", gray, compression="zlib")
    for error in (ModuleNotFoundError("compression"), NotImplementedError("12-bit integers require imagecodecs")):
        monkeypatch.setattr(tifffile.TiffPage, "asarray", Mock(side_effect=error))
        monkeypatch.setattr(cv2, "imdecodemulti", lambda *_, **__: (False, ()))
        with pytest.raises(ImageReadError, match="pip install imagecodecs"):
            read_image(tmp_path / "zstd.tif")


def test_a_channel_of_channels_that_are_in_colour(tmp_path: Path) -> None:
    values = np.zeros((2, 3, 32, 32, 3), np.uint8)
    values[0, ..., 0] = values[1, ..., 1] = 200
    values[:, 2] //= 2
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, values, photometric="rgb", metadata={"axes": "CZYXS"})
    for channels, plane, gray in ((0, 0, (200, 0, 0)), (1, 1, (0, 200, 0)), ([1], {"Z": 2}, (0, 100, 0))):
        image = read_image(path, channels=channels, plane=plane)
        np.testing.assert_array_equal(image.rgb8[0, 0], gray)
        assert image.recipe["pages"] == 3
    assert read_image(path, channels=1, plane={"C": 1, "Z": 2}).recipe["plane"] == {"C": 1, "Z": 2}
    wrong: list[dict[str, Any]] = [
        {"channels": [0, 1]},
        {"channels": 2},
        {"channels": 0, "plane": {"C": 1}},
        {"channels": 0, "plane": 3},
    ]
    for reading in wrong:
        with pytest.raises(ImageContentError):
            read_image(path, **reading)
