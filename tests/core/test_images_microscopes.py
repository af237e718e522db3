"""Files of microscopes: CZI files that Zeiss's own library writes, and what bioio gives of ND2 and LIF files."""

from __future__ import annotations

import struct
import sys
from contextlib import nullcontext
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from skimage import data

from fastsam_core import FastSAM
from fastsam_core.cli._inputs import expand_paths
from fastsam_core.errors import ImageContentError, ImageReadError, ImageTooLargeError, MissingDependencyError
from fastsam_core.images import is_image_path, read_image, read_values
from fastsam_core.large_images import open_plane
from fastsam_core.stacks import LinkedStack, segment_stack
from fastsam_core.tiling import segment_tiles

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Array = Any
PACKAGES = {
    "CZI": ("pylibCZIrw", "pylibCZIrw.czi"),
    "ND2": ("bioio-nd2", "bioio_nd2"),
    "LIF": ("bioio-lif", "bioio_lif"),
}
MAGIC = {"CZI": b"ZISRAWFILE\0\0\0\0", "ND2": b"\xda\xce\xbe\n\0\0", "LIF": b"\x70\0\0\0\x2a\0"}


# ---- without the packages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MAGIC)
def test_without_the_extra_the_command_is_named(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, module = PACKAGES[kind]
    monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / "image.tif"  # what it is, its content says
    path.write_bytes(MAGIC[kind] + bytes(100))
    with pytest.raises(MissingDependencyError, match=rf"{kind} file.*fastsam-plugins\[microscopes\]") as caught:
        read_image(path)
    assert caught.value.expected == package


def test_they_count_as_images(tmp_path: Path) -> None:
    for name in ("a.czi", "b.ND2", "c.lif"):
        (tmp_path / name).write_bytes(b"")
        assert is_image_path(name)
    found = expand_paths([str(tmp_path)], recursive=False, out=tmp_path / "out")
    assert [path.name for path in found] == ["a.czi", "b.ND2", "c.lif"]


# ---- stand-ins for bioio's readers ------------------------------------------------------------------------------


class Chunks:
    """A dask array, of which each decoded plane is noted."""

    def __init__(self, values: Array, asked: list[Any]) -> None:
        self.values, self.asked = values, asked

    def __getitem__(self, key: Any) -> Any:
        def compute(scheduler: str) -> Array:
            self.asked.append(key)
            return self.values[key]

        return SimpleNamespace(compute=compute)


class Reader:
    """What is used of a reader of bioio: scenes with named axes, of which parts are decoded when asked for."""

    def __init__(self, scenes: dict[str, tuple[str, Array]], *, chunked: bool) -> None:
        self._content, self._chunked, self._at = list(scenes.values()), chunked, 0
        self.scenes = tuple(scenes)
        self.asked: list[Any] = []

    physical_pixel_sizes: ClassVar = SimpleNamespace(Z=None, Y=0.4, X=0.2)

    def set_scene(self, number: int) -> None:
        assert type(number) is int
        self._at = number

    @property
    def dims(self) -> Any:
        return SimpleNamespace(order=self._content[self._at][0])

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self._content[self._at][1].shape
        return shape

    def get_image_data(self, order: str, **where: int) -> Array:
        assert not self._chunked, "this would read all of the file"
        self.asked.append(where)
        axes, values = self._content[self._at]
        left = [axis for axis in axes if axis not in where]
        plane = values[tuple(where.get(axis, slice(None)) for axis in axes)]
        return np.transpose(plane, [left.index(axis) for axis in order])

    @property
    def xarray_dask_data(self) -> Any:
        axes, values = self._content[self._at]
        return SimpleNamespace(dims=tuple(axes), shape=values.shape, data=Chunks(values, self.asked))


def stand_in(
    kind: str, path: Path, scenes: dict[str, tuple[str, Array]], monkeypatch: pytest.MonkeyPatch
) -> list[Reader]:
    """Let a file of the kind be read by stand-ins; returns them as they are made."""
    made: list[Reader] = []

    def open_it(opened: str, **options: Any) -> Reader:
        assert opened == str(path)
        assert options == ({"chunk_dims": ["Y", "X"]} if kind == "LIF" else {})
        made.append(Reader(scenes, chunked=kind == "LIF"))
        return made[-1]

    module = ModuleType(f"bioio_{kind.lower()}")
    vars(module)["Reader"] = open_it
    monkeypatch.setitem(sys.modules, module.__name__, module)
    path.write_bytes(MAGIC[kind] + bytes(100))
    return made


VALUES = np.random.default_rng(0).integers(0, 4000, (2, 3, 4, 20, 30)).astype(np.uint16)


@pytest.mark.parametrize("kind", ["ND2", "LIF"])
def test_planes_of_nd2_and_lif_files(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"a.{kind.lower()}"
    scenes = {"field 1": ("TCZYX", VALUES), "field 2": ("TCZYX", VALUES[:1, :1, :1])}
    made = stand_in(kind, path, scenes, monkeypatch)
    image = read_image(path, plane={"T": 1, "Z": 3})
    facts = {"format": kind, "series": 0, "images": 2, "axes": "TCZYX", "shape": [2, 3, 4, 20, 30], "pages": 8}
    assert facts.items() <= image.recipe.items()
    assert len(made[0].asked) == 3  # the channels of one plane
    np.testing.assert_array_equal(image.rgb8, read_image(VALUES[1, :, 3], axes="CYX").rgb8)
    np.testing.assert_array_equal(read_values(path, plane={"T": 1, "Z": 3}, channels=[2, 0]), VALUES[1, [2, 0], 3])
    np.testing.assert_array_equal(read_values(path, series=1), VALUES[0, 0, 0])
    with pytest.raises(ImageContentError, match="1: field 2 TCZYX 1×1×1×20×30"):
        read_image(path, series=2)
    with pytest.raises(ImageContentError, match="no pyramid"):
        read_image(path, level=1)
    with pytest.raises(ImageTooLargeError):
        read_image(path, max_pixels=500)
    made.clear()
    with open_plane(path, plane={"Z": 1}, channels=1, contrast=(0, 4000)) as plane:
        parts = [plane.read(plane[3:9, x : x + 5]).rgb8 for x in range(0, 30, 5)]
    whole = read_image(path, plane={"Z": 1}, channels=1, contrast=(0, 4000)).rgb8
    np.testing.assert_array_equal(np.hstack(parts), whole[3:9])
    assert len(made[0].asked) == 1  # a plane in one piece is decoded once for all regions


def test_tiles_of_a_lif_file_are_planes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in("LIF", tmp_path / "a.lif", {"tiles": ("MTCZYX", VALUES[None].repeat(5, 0))}, monkeypatch)
    assert read_image(tmp_path / "a.lif", plane={"M": 4, "T": 1}).recipe["pages"] == 40


def test_colours_of_an_nd2_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rgb = np.random.default_rng(1).integers(0, 255, (2, 1, 20, 30, 3)).astype(np.uint8)
    stand_in("ND2", tmp_path / "a.nd2", {"": ("ZCYXS", rgb)}, monkeypatch)
    image = read_image(tmp_path / "a.nd2", plane=1)
    assert image.recipe["axes"] == "ZYXS"
    np.testing.assert_array_equal(image.rgb8, rgb[1, 0])
    np.testing.assert_array_equal(read_values(tmp_path / "a.nd2", plane=1, channels=2), rgb[1, 0, ..., 2])


def test_files_without_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in("LIF", tmp_path / "a.lif", {}, monkeypatch)
    with pytest.raises(ImageReadError, match="holds no image"):
        read_image(tmp_path / "a.lif")


def test_what_bioio_raises_while_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OfItsOwnError(Exception):
        pass

    def fail(*_: object, **__: object) -> None:
        raise OfItsOwnError("sub-block 3")

    made = stand_in("ND2", tmp_path / "a.nd2", {"": ("ZYX", VALUES[0, 0])}, monkeypatch)
    monkeypatch.setattr(Reader, "get_image_data", fail)
    with pytest.raises(ImageReadError, match=r"a\.nd2 cannot be read as ND2.*OfItsOwnError: sub-block 3.*OME"):
        read_image(tmp_path / "a.nd2")
    assert made


class CziReader:
    """What is used of pylibCZIrw's reader of a file without scenes."""

    total_bounding_box_no_pyramid: ClassVar = {"T": (0, 1), "Z": (0, 2), "C": (0, 2), "X": (7, 37), "Y": (-3, 17)}
    scenes_bounding_rectangle_no_pyramid: ClassVar[dict[int, Any]] = {}
    raw_metadata = "<ImageDocument/>"

    def __init__(self, pixels: dict[tuple[int, int], Array]) -> None:
        self.pixels = pixels

    def get_channel_pixel_type(self, channel: int) -> str:
        return "Bgr24" if self.pixels[0, channel].ndim == 3 else "Gray8"

    def read(self, roi: tuple[int, int, int, int], plane: dict[str, int], scene: int | None, zoom: float) -> Array:
        assert scene is None
        assert zoom == 1
        left, top, width, height = roi
        values = self.pixels[plane["Z"], plane["C"]]
        return np.atleast_3d(values)[top + 3 : top + 3 + height, left - 7 : left - 7 + width]


def test_a_czi_file_without_scenes_but_with_a_channel_in_colour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    pixels = {(z, c): rng.integers(0, 250, (20, 30, 3)[: 2 + c]).astype(np.uint8) for z in range(2) for c in range(2)}
    module = ModuleType("pylibCZIrw.czi")
    vars(module)["CacheOptions"] = lambda max_memory_usage: max_memory_usage
    vars(module)["open_czi"] = lambda path, cache_options: nullcontext(CziReader(pixels))
    monkeypatch.setitem(sys.modules, "pylibCZIrw", ModuleType("pylibCZIrw"))
    monkeypatch.setitem(sys.modules, "pylibCZIrw.czi", module)
    path = tmp_path / "a.czi"
    path.write_bytes(MAGIC["CZI"] + bytes(100))
    for z in range(2):
        np.testing.assert_array_equal(read_values(path, plane={"Z": z, "C": 1}), pixels[z, 1][..., ::-1])
        np.testing.assert_array_equal(read_values(path, plane={"Z": z}), pixels[z, 0][..., None].repeat(3, -1))
    assert {"series": 0, "images": 1, "axes": "TCZYXS"}.items() <= read_image(path).recipe.items()
    with open_plane(path, plane={"Z": 1, "C": 1}, max_pixels=10, contrast=(0, 255)) as plane:
        np.testing.assert_array_equal(plane.read(plane[4:9, 11:20]).rgb8, pixels[1, 1][4:9, 11:20, ::-1])
    with pytest.raises(ImageContentError, match="holds one image"):
        read_image(path, series=1)


# ---- CZI files --------------------------------------------------------------------------------------------------


def write_czi(path: Path, parts: Iterable[dict[str, Any]], names: tuple[str, ...] = ()) -> Path:
    """Write pixels, as Zeiss's library takes them, and names of scenes, which it does not write."""
    writer = pytest.importorskip("pylibCZIrw.czi", reason="pylibCZIrw of the extra microscopes is not installed")
    with writer.create_czi(str(path)) as czi:
        for part in parts:
            czi.write(**part)
        czi.write_metadata(document_name="test", scale_x=3e-7, scale_y=3e-7)
    if names:
        with writer.open_czi(str(path)) as czi:
            root = ElementTree.fromstring(czi.raw_metadata)
        dimensions = root.find("./Metadata/Information/Image/Dimensions")
        assert dimensions is not None
        scenes = ElementTree.SubElement(ElementTree.SubElement(dimensions, "S"), "Scenes")
        for number, name in enumerate(names):
            ElementTree.SubElement(scenes, "Scene", {"Index": str(number), "Name": name})
        _append_metadata(path, ElementTree.tostring(root))
    return path


def _append_metadata(path: Path, xml: bytes) -> None:
    """Write a metadata segment behind the others, and let the header point to it."""
    content = bytearray(path.read_bytes())
    content += bytes(-len(content) % 32)
    struct.pack_into("<q", content, 32 + 60, len(content))
    payload = struct.pack("<ii", len(xml), 0).ljust(256, b"\0") + xml
    payload += bytes(-len(payload) % 32)
    content += b"ZISRAWMETADATA".ljust(16, b"\0") + struct.pack("<qq", len(payload), len(payload)) + payload
    path.write_bytes(content)


def test_the_size_of_a_pixel_is_that_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("ND2", "LIF"):
        path = tmp_path / f"a.{kind.lower()}"
        stand_in(kind, path, {"": ("ZYX", VALUES[0, 0])}, monkeypatch)
        assert read_image(path).pixel_size_um == (0.4, 0.2)
    path = write_czi(tmp_path / "a.czi", [{"data": data.coins()[..., None]}])
    assert read_image(path).pixel_size_um == pytest.approx((0.3, 0.3))


def test_a_size_that_cannot_be_read_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.nd2"
    stand_in("ND2", path, {"": ("ZYX", VALUES[0, 0])}, monkeypatch)
    monkeypatch.delattr(Reader, "physical_pixel_sizes")
    image = read_image(path)
    assert image.pixel_size_um is None


def test_levels_of_a_czi_file(tmp_path: Path) -> None:
    """Each is half as large; even pixels of blocks of 8 stay what they are however they are made smaller."""
    values = np.kron(data.coins()[:200, :300], np.ones((8, 8), np.uint8))
    path = write_czi(tmp_path / "a.czi", tiles_of(values[..., None], side=500))
    full, small = read_image(path), read_image(path, level=2)
    assert (full.image_hw, full.recipe["levels"]) == ((1600, 2400), 3)
    assert "full_hw" not in full.recipe
    assert (small.image_hw, small.recipe["full_hw"]) == ((400, 600), [1600, 2400])
    assert small.pixel_size_um == pytest.approx((1.2, 1.2))
    np.testing.assert_array_equal(read_values(path), values)
    with open_plane(path, level=2, contrast=(0, 255), max_pixels=10) as plane:
        np.testing.assert_array_equal(plane.read(plane[:, :]).rgb8[..., 0], values[::4, ::4])
        np.testing.assert_array_equal(
            plane.read(plane[101:203, 57:399]).rgb8[..., 0], values[::4, ::4][101:203, 57:399]
        )
    with pytest.raises(ImageContentError, match=r"has no level 3.*0 to 2"):
        read_image(path, level=3)


def bgr(rgb: Array) -> Array:
    return np.ascontiguousarray(rgb[..., ::-1])


def tiles_of(values: Array, side: int = 120, overlap: int = 20, **at: Any) -> list[dict[str, Any]]:
    """Cut a picture into the overlapping tiles of a mosaic, which lies somewhere on the stage."""
    step = side - overlap
    return [
        {"data": np.ascontiguousarray(values[y : y + side, x : x + side]), "location": (x - 1000, y + 500), **at}
        for y in range(0, values.shape[0] - overlap, step)
        for x in range(0, values.shape[1] - overlap, step)
    ]


def labels(source: Any, model: FastSAM, **reading: Any) -> Array:
    return model.segment(read_image(source, **reading)).to_label_map()


@pytest.fixture(scope="module")
def model() -> FastSAM:
    return FastSAM.load("builtin")


@pytest.mark.parametrize("picture", ["coins", "immunohistochemistry"])
@pytest.mark.parametrize("mosaic", [False, True])
def test_the_same_labels_as_of_a_tiff_file(picture: str, mosaic: bool, model: FastSAM, tmp_path: Path) -> None:
    values = getattr(data, picture)()
    stored = bgr(values) if values.ndim == 3 else values
    parts = tiles_of(stored) if mosaic else [{"data": stored}]
    path = write_czi(tmp_path / "a.czi", [{"plane": {"C": 0}, **part} for part in parts])
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb" if values.ndim == 3 else "minisblack")
    np.testing.assert_array_equal(read_image(path).rgb8, read_image(tmp_path / "a.tif").rgb8)
    found = labels(path, model)
    assert found.max() > 5
    np.testing.assert_array_equal(found, labels(tmp_path / "a.tif", model))
    if values.ndim == 3:
        np.testing.assert_array_equal(read_values(path, channels=0), values[..., 0])


def test_a_stack_of_two_channels(model: FastSAM, tmp_path: Path) -> None:
    coins = data.coins()[:128, :160]
    stack = np.stack([np.stack([np.roll(coins, 2 * z, 1), coins // (1 + z)]) for z in range(3)]).astype(np.uint16) * 9
    parts = [{"data": stack[z, c].copy(), "plane": {"Z": z, "C": c}} for z in range(3) for c in range(2)]
    path = write_czi(tmp_path / "a.czi", parts)
    tifffile.imwrite(tmp_path / "a.tif", stack, metadata={"axes": "ZCYX"}, photometric="minisblack")
    image = read_image(path, plane={"Z": 2})
    assert {"axes": "TCZYX", "pages": 3, "dtype": "uint16"}.items() <= image.recipe.items()
    np.testing.assert_array_equal(image.rgb8, read_image(tmp_path / "a.tif", plane={"Z": 2}).rgb8)
    np.testing.assert_array_equal(read_values(path, plane={"Z": 1}, channels=1), stack[1, 1])
    both = [
        LinkedStack.of(segment_stack(source, model, axis="Z", channels=0)).to_label_maps()
        for source in (path, tmp_path / "a.tif")
    ]
    assert both[0].max() > 3
    np.testing.assert_array_equal(both[0], both[1])


@pytest.mark.parametrize("first", [np.uint8, np.uint16])
@pytest.mark.parametrize("mosaic", [False, True])
def test_channels_of_different_depth(first: Any, mosaic: bool, tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 60_000, (200, 230), np.uint16)
    flat = (deep >> 8).astype(np.uint8)
    channels = [flat, deep] if first is np.uint8 else [deep, flat]
    parts: list[dict[str, Any]] = []
    for number, channel in enumerate(channels):
        cut = tiles_of(channel) if mosaic else [{"data": channel}]
        parts += [{**part, "plane": {"C": number}} for part in cut]
    path = write_czi(tmp_path / "a.czi", parts)
    values = read_values(path)
    assert values.dtype == np.uint16
    np.testing.assert_array_equal(values, np.stack(channels))
    for number, channel in enumerate(channels):
        one = read_values(path, channels=number)
        assert one.dtype == channel.dtype
        np.testing.assert_array_equal(one, channel)


@pytest.mark.parametrize("picture", ["coins", "immunohistochemistry"])
def test_regions_of_mosaics(picture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = getattr(data, picture)()
    colour = values.ndim == 3
    path = write_czi(tmp_path / "a.czi", tiles_of(bgr(values) if colour else values, plane={"C": 0}))
    whole = read_image(path).rgb8
    from pylibCZIrw.czi import CziReader

    asked: list[tuple[int, ...]] = []
    original = CziReader.read

    def note(self: Any, roi: tuple[int, ...], **options: Any) -> Any:
        asked.append(roi)
        return original(self, roi, **options)

    monkeypatch.setattr(CziReader, "read", note)
    with open_plane(path, max_pixels=10_000, contrast=None if colour else (0, 255)) as plane:
        assert plane.shape == values.shape[:2]
        asked.clear()
        part = plane.read(plane[130:170, 10:100])
        assert [roi[2:] for roi in asked] == [(90, 40)]
        np.testing.assert_array_equal(part.rgb8, whole[130:170, 10:100])
        np.testing.assert_array_equal(plane.read(plane[90:250, 30:301]).rgb8, whole[90:250, 30:301])


def test_tiles_of_a_mosaic_are_segmented_as_those_of_a_tiff_file(model: FastSAM, tmp_path: Path) -> None:
    coins = data.coins()
    path = write_czi(tmp_path / "a.czi", tiles_of(coins, plane={"C": 0}))
    tifffile.imwrite(tmp_path / "a.tif", coins, tile=(64, 64))
    maps = []
    for source in (path, tmp_path / "a.tif"):
        for tile in segment_tiles(source, model, tile_px=256, overlap_px=64, max_pixels=1000):
            result = tile.result
        assert result is not None
        maps.append(result.to_label_map())
    assert maps[0].max() > 5
    np.testing.assert_array_equal(maps[0], maps[1])


@pytest.mark.parametrize("names", [(), ("left", "middle", "right")])
@pytest.mark.parametrize("same", [False, True])
def test_scenes_are_series(names: tuple[str, ...], same: bool, tmp_path: Path) -> None:
    coins = data.coins()
    scenes = [coins[: 100 if same else 100 + 20 * number, 30 * number : 30 * number + 90] for number in range(3)]
    parts = [
        {"data": scene.copy(), "plane": {"C": 0}, "location": (0, 200 * number), "scene": number}
        for number, scene in enumerate(scenes)
    ]
    path = write_czi(tmp_path / "a.czi", parts, names)
    for number, scene in enumerate(scenes):
        np.testing.assert_array_equal(read_values(path, series=number), scene)
        assert {"series": number, "images": 3}.items() <= read_image(path, series=number).recipe.items()
    with pytest.raises(ImageContentError) as caught:
        read_image(path, series=3)
    assert f"1: {'middle ' if names else ''}TCZYX 1×1×1×{len(scenes[1])}×90" in caught.value.expected


def test_scenes_that_are_mosaics(tmp_path: Path) -> None:
    coins = data.coins()
    scenes = [coins[:200, :250], coins[50:130, 20:110]]
    parts = [
        part | {"scene": number, "location": (part["location"][0], part["location"][1] + 1000 * number)}
        for number, scene in enumerate(scenes)
        for part in tiles_of(scene, plane={"C": 0})
    ]
    path = write_czi(tmp_path / "a.czi", parts)
    for number, scene in enumerate(scenes):
        np.testing.assert_array_equal(read_values(path, series=number), scene)
        with open_plane(path, series=number, contrast=(0, 255)) as plane:
            np.testing.assert_array_equal(plane.read(plane[20:70, 10:80]).rgb8[..., 0], scene[20:70, 10:80])


@pytest.mark.parametrize("kept", [0.001, 0.3, 0.9])
def test_damaged_files_are_typed_errors(kept: float, tmp_path: Path) -> None:
    path = write_czi(tmp_path / "a.czi", [{"data": data.coins(), "plane": {"C": 0}}])
    content = path.read_bytes()
    path.write_bytes(content[: max(16, int(len(content) * kept))])
    with pytest.raises(ImageReadError, match=r"a\.czi cannot be read as CZI.*Remedy: copy it again"):
        read_image(path)


def test_files_stay_movable(tmp_path: Path) -> None:
    path = write_czi(tmp_path / "a.czi", [{"data": data.coins(), "plane": {"C": 0}}])
    with open_plane(path) as plane:
        assert plane.shape == (303, 384)
    path.unlink()
