"""Zarr stores: plain arrays, and OME-Zarr of several versions."""

from __future__ import annotations

import sys
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsam_core._image_zarr import Blocks
from fastsam_core.cli._inputs import expand_paths
from fastsam_core.errors import (
    ImageContentError,
    ImageReadError,
    InvalidParameterError,
    MissingDependencyError,
    UnsupportedImageError,
)
from fastsam_core.images import read_image, read_values
from fastsam_core.large_images import open_plane

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

zarr = pytest.importorskip("zarr")

VALUES: npt.NDArray[np.uint16] = np.random.default_rng(0).integers(0, 4000, (2, 3, 4, 20, 30)).astype(np.uint16)


def write_ome(path: Path, values: npt.NDArray[Any], axes: Any, *, version: str = "0.5") -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    group.create_array("full", data=values, chunks=(1,) * (values.ndim - 2) + (16, 16))
    group.create_array("half", data=values[..., ::2, ::2])
    multiscale: dict[str, Any] = {"version": version, "datasets": [{"path": "full"}, {"path": "half"}]}
    if axes:
        multiscale["axes"] = axes
    described = {"multiscales": [multiscale]}
    group.attrs.update({"ome": described} if version == "0.5" else described)
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_largest_level_with_named_axes(tmp_path: Path, version: str) -> None:
    named = [{"name": name, "type": "space"} for name in "tczyx"]
    path = write_ome(tmp_path / "a.ome.zarr", VALUES, named, version=version)
    plane = {"T": 1, "Z": 3}
    image = read_image(path, plane=plane, channels=[0, 2])
    assert image.image_hw == (20, 30)
    facts = {"format": "OME-Zarr", "levels": 2, "axes": "TCZYX", "shape": [2, 3, 4, 20, 30], "pages": 8}
    assert facts.items() <= image.recipe.items()
    np.testing.assert_array_equal(read_values(path, plane=plane), VALUES[1, :, 3])
    assert read_image(str(path), plane=plane, channels=[0, 2]).rgb8.tolist() == image.rgb8.tolist()


def test_versions_that_name_axes_shortly_or_not_at_all(tmp_path: Path) -> None:
    short = write_ome(tmp_path / "a.zarr", VALUES[0], ["c", "z", "y", "x"], version="0.3")
    assert read_image(short).recipe["axes"] == "CZYX"
    unnamed = write_ome(tmp_path / "b.zarr", VALUES, None, version="0.1")
    assert read_image(unnamed).recipe["axes"] == "TCZYX"


def test_the_first_image_of_bioformats2raw(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    write_ome(tmp_path / "a.zarr" / "0", VALUES[0, 0], ["z", "y", "x"], version="0.4")
    assert read_image(tmp_path / "a.zarr").recipe["images"] == 1
    np.testing.assert_array_equal(read_values(tmp_path / "a.zarr", plane=2), VALUES[0, 0, 2])


def test_bioformats2raw_may_name_its_images(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    group.create_group("OME").attrs["series"] = ["first", "second"]
    write_ome(tmp_path / "a.zarr" / "first", VALUES[0, 0], ["z", "y", "x"], version="0.4")
    np.testing.assert_array_equal(read_values(tmp_path / "a.zarr", plane=2), VALUES[0, 0, 2])
    assert read_image(tmp_path / "a.zarr").recipe["images"] == 2


@pytest.mark.parametrize("name", ["a.ozx", "a.ome.zarr.zip", "noname"])
def test_stores_in_one_file(name: str, tmp_path: Path) -> None:
    folder = write_ome(tmp_path / "store", VALUES[0, 0], ["z", "y", "x"])
    path = tmp_path / "images" / name
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for part in sorted(folder.rglob("*")):
            if part.is_file():
                archive.write(part, part.relative_to(folder))
    np.testing.assert_array_equal(read_values(path, plane=2), VALUES[0, 0, 2])
    assert read_image(path, plane=1, level=1).image_hw == (10, 15)
    with open_plane(path, plane=3, contrast=(0, 4000)) as plane:
        np.testing.assert_array_equal(
            plane.read(plane[3:9, 5:20]).rgb8, read_image(path, plane=3, contrast=(0, 4000)).rgb8[3:9, 5:20]
        )
    assert expand_paths([str(path)], recursive=False, out=tmp_path / "out") == [path]
    if name != "noname":
        assert expand_paths([str(path.parent)], recursive=False, out=tmp_path / "out") == [path]


def test_other_zip_files_are_no_images(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zarr.zip", "w") as archive:
        archive.writestr("readme.txt", "no image")
    with pytest.raises(ImageReadError, match="is not an image"):
        read_image(tmp_path / "a.zarr.zip")
    (tmp_path / "b.ozx").write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(ImageReadError):
        read_image(tmp_path / "b.ozx")


def test_plain_arrays(tmp_path: Path) -> None:
    zarr.save_array(tmp_path / "yx.zarr", VALUES[0, 0, 0])
    np.testing.assert_array_equal(read_values(tmp_path / "yx.zarr"), VALUES[0, 0, 0])
    zarr.create_array(tmp_path / "named.zarr", data=VALUES[0, 0], dimension_names=["z", "y", "x"])
    assert read_image(tmp_path / "named.zarr", plane=3).recipe["plane"] == {"Z": 3}
    zarr.create_array(tmp_path / "stack.zarr", data=np.zeros((9, 20, 30), np.uint8))
    with pytest.raises(ImageContentError, match="axes"):
        read_image(tmp_path / "stack.zarr")
    assert read_image(tmp_path / "stack.zarr", axes="TYX", plane=8).recipe["pages"] == 9
    zarr.create_array(tmp_path / "rgb.zarr", data=np.zeros((20, 30, 3), np.uint8))
    assert read_image(tmp_path / "rgb.zarr").recipe["axes"] == "YXS"


def test_regions_of_plain_arrays_whose_axes_are_given(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "stack.zarr", data=VALUES)
    whole = read_image(tmp_path / "stack.zarr", axes="TCZYX", plane={"Z": 2})
    with open_plane(tmp_path / "stack.zarr", axes="TCZYX", plane={"Z": 2}, max_pixels=10) as plane:
        np.testing.assert_array_equal(plane.read(plane[3:9, 5:20]).rgb8, whole.rgb8[3:9, 5:20])


@pytest.mark.parametrize(("name", "letter"), [("time", "T"), ("depth", "Z"), ("channel", "C"), ("band", "C")])
def test_plain_arrays_with_names_of_several_letters(tmp_path: Path, name: str, letter: str) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=VALUES[0, :, 0], dimension_names=[name, "y", "x"])
    xarray = zarr.create_array(tmp_path / "b.zarr", data=VALUES[0, :, 0], zarr_format=2)
    xarray.attrs["_ARRAY_DIMENSIONS"] = [name, "y", "x"]
    for path in (tmp_path / "a.zarr", tmp_path / "b.zarr"):
        assert read_image(path).recipe["axes"] == f"{letter}YX"


@pytest.mark.parametrize(("first", "height", "width"), [("depth", "Height", "Width"), ("z", "row", "column")])
def test_axes_in_words(tmp_path: Path, first: str, height: str, width: str) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=VALUES[0, :, 0], dimension_names=[first, height, width])
    write_ome(tmp_path / "b.zarr", VALUES[0, :, 0], [first, height, width], version="0.4")
    for path in (tmp_path / "a.zarr", tmp_path / "b.zarr"):
        assert read_image(path).recipe["axes"] == "ZYX"


def test_axes_of_other_names(tmp_path: Path) -> None:
    path = write_ome(tmp_path / "a.zarr", VALUES[0], ["channel", "cycle", "y", "x"], version="0.4")
    assert read_image(path).recipe["axes"] == "CQYX"


def test_what_is_no_image_comes_with_a_remedy(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "group.zarr", mode="w")
    with pytest.raises(ImageReadError, match="name the array inside"):
        read_image(tmp_path / "group.zarr")
    plate = zarr.open_group(tmp_path / "plate.zarr", mode="w")
    plate.attrs["ome"] = {"plate": {"wells": []}}
    with pytest.raises(UnsupportedImageError, match="plate"):
        read_image(tmp_path / "plate.zarr")
    (tmp_path / "broken.zarr").mkdir()
    (tmp_path / "broken.zarr" / "zarr.json").write_text("{")
    with pytest.raises(ImageReadError):
        read_image(tmp_path / "broken.zarr")
    lost = write_ome(tmp_path / "lost.zarr", VALUES[0, 0], ["z", "y", "x"])
    (lost / "full" / "zarr.json").unlink()
    with pytest.raises(ImageReadError, match="full"):
        read_image(lost)
    with pytest.raises(ImageReadError, match="is a folder"):
        read_image(tmp_path)


def test_wrong_planes_keep_their_own_error(tmp_path: Path) -> None:
    zarr.save_array(tmp_path / "a.zarr", VALUES[0, 0, 0])
    with pytest.raises(ImageContentError, match="no such plane"):
        read_image(tmp_path / "a.zarr", plane=4)


def test_without_zarr_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zarr.save_array(tmp_path / "a.zarr", VALUES[0, 0, 0])
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(MissingDependencyError, match=r"fastsam-plugins\[zarr\]"):
        read_image(tmp_path / "a.zarr")


def test_arrays_in_memory_keep_the_names_of_their_axes() -> None:
    columns_first = zarr.create_array({}, data=VALUES[0, 0, 0].T, dimension_names=["x", "y"])
    np.testing.assert_array_equal(read_image(columns_first).rgb8, read_image(VALUES[0, 0, 0]).rgb8)
    few = zarr.create_array({}, data=VALUES[0, 0], dimension_names=["z", "y", "x"])
    np.testing.assert_array_equal(read_values(few, plane=3), VALUES[0, 0, 3])
    every = zarr.create_array({}, data=VALUES, dimension_names=list("tczyx"))
    np.testing.assert_array_equal(read_values(every, plane={"T": 1, "Z": 3}), VALUES[1, :, 3])
    assert read_image(columns_first, axes="YX").image_hw == (30, 20)
    colours = zarr.create_array({}, data=np.zeros((20, 30, 3), np.uint8), dimension_names=["y", "x", "band"])
    assert read_image(colours).recipe["axes"] == "YXS"
    unnamed = zarr.create_array({}, data=VALUES[0, :, 0])
    assert read_image(unnamed).recipe["axes"] == "CYX"


def test_arrays_of_xarray_keep_the_names_of_their_axes() -> None:
    xarray = pytest.importorskip("xarray")
    every = xarray.DataArray(VALUES, dims=list("TCZYX"))
    np.testing.assert_array_equal(read_values(every, plane={"T": 1, "Z": 3}), VALUES[1, :, 3])
    columns_first = xarray.DataArray(VALUES[0, 0, 0].T, dims=["x", "y"])
    np.testing.assert_array_equal(read_image(columns_first).rgb8, read_image(VALUES[0, 0, 0]).rgb8)
    assert read_image(xarray.DataArray(VALUES[0, 0, 0], dims=["lat", "lon"])).image_hw == (20, 30)


def test_groups_are_told_from_arrays() -> None:
    with pytest.raises(UnsupportedImageError, match="path of the store"):
        read_image(zarr.group())


def test_stores_count_as_files(tmp_path: Path) -> None:
    path = write_ome(tmp_path / "images" / "a.ome.zarr", VALUES[0, 0], ["z", "y", "x"])
    write_ome(tmp_path / "images" / "deep" / "b.zarr", VALUES[0, 0], ["z", "y", "x"])

    def names(*typed: str, recursive: bool = False) -> list[str]:
        found = expand_paths(typed, recursive=recursive, out=tmp_path / "out")
        return [path.name for path in found]

    assert names(str(path)) == names(str(tmp_path / "images")) == names(str(tmp_path / "images" / "*.zarr"))
    assert names(str(path)) == ["a.ome.zarr"]
    assert names(str(tmp_path / "images"), recursive=True) == ["a.ome.zarr", "b.zarr"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidParameterError, match="Zarr stores"):
        names(str(tmp_path / "empty"))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_plates_are_the_images_that_they_list(tmp_path: Path, version: str) -> None:
    def describe(path: Path, values: dict[str, Any]) -> Path:
        group = zarr.open_group(path, mode="a", zarr_format=3 if version == "0.5" else 2)
        group.attrs.update({"ome": values} if version == "0.5" else values)
        return path

    def found(*typed: Path, recursive: bool = False) -> list[str]:
        images = expand_paths([str(path) for path in typed], recursive=recursive, out=tmp_path / "out")
        return [path.relative_to(tmp_path).as_posix() for path in images]

    plate = describe(tmp_path / "in" / "p.zarr", {"plate": {"wells": [{"path": "B/1"}, {"path": "A/2"}]}})
    for well in ("A/2", "B/1"):
        describe(plate / well[0], {})
        describe(plate / well, {"well": {"images": [{"path": "0"}, {"path": "1"}]}})
        for field in "01":
            image = write_ome(plate / well / field, VALUES[0, 0], ["z", "y", "x"], version=version)
            describe(image / "labels", {"labels": ["nuclei"]})
            write_ome(image / "labels" / "nuclei", VALUES[0, 0], ["z", "y", "x"], version=version)
    listed = [f"in/p.zarr/{well}/{field}" for well in ("B/1", "A/2") for field in "01"]
    assert found(plate) == found(tmp_path / "in") == found(tmp_path, recursive=True) == listed
    assert found(plate / "A" / "2") == listed[2:]
    for pattern in (plate / "**", tmp_path / "**", plate / "*" / "*" / "*"):
        assert found(pattern) == sorted(listed)
    assert found(plate / "A" / "2" / "1" / "**") == listed[3:]
    assert found(plate / "A" / "2" / "1" / "h*") == ["in/p.zarr/A/2/1/half"]
    damaged: list[dict[str, Any]] = [{"plate": {"wells": []}}, {"plate": {"wells": 3}}, {"well": {}}]
    for values in damaged:
        assert found(describe(tmp_path / "damaged.zarr", values)) == ["damaged.zarr"]


class Recorded:
    """An array in chunks that remembers what was asked for."""

    def __init__(self, values: npt.NDArray[Any], chunks: tuple[int, ...]) -> None:
        self.values, self.chunks = values, chunks
        self.shape, self.dtype = values.shape, values.dtype
        self.asked: list[Any] = []

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        self.asked.append(key)
        part: npt.NDArray[Any] = self.values[key]
        return part


def test_planes_that_share_chunks_are_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = VALUES[0]  # (3, 4, 20, 30)
    array = Recorded(values, (1, 3, 16, 16))
    blocks = Blocks(array)
    for channel in range(3):
        for z in range(4):
            np.testing.assert_array_equal(blocks[channel, z, slice(None), slice(None)], values[channel, z])
    assert len(array.asked) == 6
    monkeypatch.setattr("fastsam_core._image_zarr._BLOCK_BYTES", 3 * 20 * 30 * 2 - 1)
    for z in range(4):
        np.testing.assert_array_equal(blocks[1, z, slice(None), slice(None)], values[1, z])
    assert len(array.asked) == 10


@given(data=st.data(), chunks=st.tuples(*[st.integers(1, 4)] * 4))
def test_blocks_are_the_array(data: st.DataObject, chunks: tuple[int, ...]) -> None:
    values = VALUES[0]
    blocks = Blocks(Recorded(values, chunks))
    for _ in range(4):
        key: tuple[Any, ...] = ()
        for axis, length in enumerate(values.shape):
            start = data.draw(st.integers(0, length - 1))
            whole = axis < 2 and data.draw(st.booleans())
            key += (start if whole else slice(start, data.draw(st.integers(start + 1, length))),)
        np.testing.assert_array_equal(blocks[key], values[key])
