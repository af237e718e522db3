"""Planes that are read region by region: the same pixels as of the whole, and no more read than asked for."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PillowImage

from fastsam_core.errors import ImageContentError, ImageReadError, ImageTooLargeError
from fastsam_core.images import read_image
from fastsam_core.large_images import open_plane

if TYPE_CHECKING:
    from pathlib import Path

HW = (70, 90)
REGION = (slice(5, 41), slice(10, 77))
LAYOUTS = {"YX": HW, "YXS": (*HW, 3), "SYX": (3, *HW)}


def pixels(axes: str, dtype: str) -> npt.NDArray[Any]:
    values = np.random.default_rng(0).random(LAYOUTS[axes])
    return values > 0.5 if dtype == "bool" else (values * 200 + 20).astype(dtype)


def same(source: Any, **reading: Any) -> None:
    """Check that a region is what the whole image has there."""
    whole = read_image(source, **reading)
    with open_plane(source, **reading) as plane:
        assert plane.shape == whole.image_hw
        part = plane.read(plane[REGION])
        np.testing.assert_array_equal(part.rgb8, whole.rgb8[REGION])
        assert part.source == whole.source


CASES = [
    (axes, dtype, compression, tile, byteorder)
    for axes, dtype, compression, tile, byteorder in product(
        LAYOUTS, ("uint8", "uint16", "float32", "bool"), (None, "zlib"), (None, (16, 32)), "<>"
    )
    if dtype != "bool" or axes == "YX"
]


@pytest.mark.parametrize(("axes", "dtype", "compression", "tile", "byteorder"), CASES)
def test_regions_of_tiff_files(
    axes: str, dtype: str, compression: str | None, tile: tuple[int, int] | None, byteorder: Any, tmp_path: Path
) -> None:
    path = tmp_path / "slide.tif"
    tifffile.imwrite(
        path,
        pixels(axes, dtype),
        compression=compression,
        predictor=compression is not None and dtype[0] == "u",
        tile=tile,
        rowsperstrip=None if tile else 7,
        byteorder=byteorder,
        photometric="rgb" if "S" in axes else "minisblack",
        planarconfig={"YXS": "contig", "SYX": "separate"}.get(axes),
    )
    same(path)


def test_a_file_in_one_piece_is_decoded_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastsam_core._tiff_regions._MOST_PX", 1000)
    path = tmp_path / "plane.tif"
    tifffile.imwrite(path, pixels("YX", "uint16"), compression="zlib", rowsperstrip=HW[0])
    same(path)
    with pytest.raises(ImageTooLargeError), open_plane(path, max_pixels=1000):
        pass


def test_regions_of_planes_and_channels(tmp_path: Path) -> None:
    path = tmp_path / "stack.ome.tif"
    stack = np.random.default_rng(1).integers(0, 60_000, (3, 2, *HW), np.uint16)
    tifffile.imwrite(path, stack, tile=(32, 16), compression="zlib", metadata={"axes": "ZCYX"})
    for plane in ({"Z": 2}, 1):
        same(path, plane=plane)
        same(path, plane=plane, channels=1)
        same(path, plane=plane, channels={0: "blue", 1: "red"}, contrast=((0, 9_000), (100, 60_000)))
    same(stack[0], axes="CYX", channels=[1])


@pytest.mark.parametrize("nodata", ["0", "250"])
def test_tiles_that_are_left_out(nodata: str, tmp_path: Path) -> None:
    path = tmp_path / "slide.tif"
    tiles = (None if i in (2, 5, 6) else np.full((32, 32), 10 * i, np.uint8) for i in range(12))
    how: dict[str, Any] = {"tile": (32, 32), "compression": "zlib", "extratags": [(42113, "s", 0, nodata, True)]}
    tifffile.imwrite(path, tiles, shape=(96, 128), dtype=np.uint8, photometric="minisblack", **how)
    same(path)


def test_pages_that_differ_in_size(tmp_path: Path) -> None:
    path = tmp_path / "pages.tif"
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for hw in (HW, (80, 80), (48, 79)):
            tiff.write(np.random.default_rng(6).integers(0, 900, hw, np.uint16), tile=(16, 16), metadata={"axes": "YX"})
    for plane, hw in enumerate((HW, (80, 80), (48, 79))):
        same(path, plane=plane)
        assert read_image(path, plane=plane, max_pixels=hw[0] * hw[1]).image_hw == hw


def test_palettes_inverted_gray_and_turned_files(tmp_path: Path) -> None:
    gray = pixels("YX", "uint8")
    tifffile.imwrite(tmp_path / "inverted.tif", gray, photometric="miniswhite", tile=(16, 16))
    colours = np.random.default_rng(2).integers(0, 65_535, (3, 256), np.uint16)
    tifffile.imwrite(tmp_path / "palette.tif", gray, photometric="palette", colormap=colours, tile=(16, 16))
    tifffile.imwrite(tmp_path / "turned.tif", gray, extratags=[(274, "H", 1, 3, True)], tile=(16, 16))
    for path in sorted(tmp_path.glob("*.tif")):
        same(path)


def test_axes_that_overrule_the_file(tmp_path: Path) -> None:
    path = tmp_path / "turned.tif"
    tifffile.imwrite(path, pixels("YX", "uint16"), tile=(16, 16))
    whole = read_image(path, axes="XY")
    with open_plane(path, axes="XY") as plane:
        assert plane.shape == whole.image_hw == HW[::-1]
        np.testing.assert_array_equal(plane.read(plane[10:50, 3:60]).rgb8, whole.rgb8[10:50, 3:60])


def test_files_that_are_decoded_as_a_whole(tmp_path: Path) -> None:
    for axes in ("YX", "YXS"):
        path = tmp_path / f"{axes}.png"
        PillowImage.fromarray(pixels(axes, "uint8")).save(path)
        same(path)
        with pytest.raises(ImageTooLargeError, match="max_pixels"), open_plane(path, max_pixels=1000):
            pass


@pytest.mark.parametrize("wrap", ["zarr", "dask"])
def test_of_lazy_arrays_only_the_chunks_of_a_region_are_read(wrap: str, tmp_path: Path) -> None:
    values = pixels("YX", "uint16")
    if wrap == "zarr":
        import zarr

        path = tmp_path / "plane.zarr"
        array = zarr.create_array(path, shape=HW, chunks=(16, 16), dtype="u2")
        array[:] = values
        for chunk in (path / "c").glob("3/*"):
            chunk.write_bytes(b"damaged")
        source: Any = path
    else:
        import dask.array as da

        def block(block_info: Any = None) -> npt.NDArray[Any]:
            (y0, y1), (x0, x1) = block_info[None]["array-location"]
            if y0 >= 48:
                raise AssertionError("this chunk is not asked for")
            return values[y0:y1, x0:x1]

        source = da.map_blocks(block, chunks=((16, 16, 16, 16, 6), (90,)), dtype="u2")
    with open_plane(source, contrast=(20, 220)) as plane:
        region = plane.read(plane[5:41, 10:77]).rgb8
        np.testing.assert_array_equal(region, read_image(values, contrast=(20, 220)).rgb8[REGION])
        if wrap == "zarr":
            with pytest.raises(ImageReadError):
                plane.read(plane[40:60, 0:20])


def test_a_tile_is_read_without_the_others(tmp_path: Path) -> None:
    path = tmp_path / "slide.tif"
    values = pixels("YX", "uint16")
    tifffile.imwrite(path, values, tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        [page] = tiff.pages
        damaged = [(page.dataoffsets[i], page.databytecounts[i]) for i in range(len(page.dataoffsets)) if i >= 24]
    with path.open("r+b") as file:
        for offset, length in damaged:
            file.seek(offset)
            file.write(b"x" * length)
    with open_plane(path, contrast=(20, 220)) as plane:
        whole = read_image(values, contrast=(20, 220)).rgb8
        np.testing.assert_array_equal(plane.read(plane[0:64, 10:77]).rgb8, whole[0:64, 10:77])
        with pytest.raises(ImageReadError, match="slide"):
            plane.read(plane[60:70, 0:20])


@given(
    hw=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    high=st.sampled_from([90, 255, 4000]),
    colour=st.booleans(),
    data=st.data(),
)
def test_the_contrast_is_that_of_the_whole_and_the_same_everywhere(
    hw: tuple[int, int], high: int, colour: bool, data: st.DataObject
) -> None:
    rng = np.random.default_rng(high)
    dtype = np.uint8 if high <= 255 else np.uint16
    values = rng.integers(0, high, (*hw, 3) if colour else hw, dtype, endpoint=True)
    y0, x0 = data.draw(st.integers(0, hw[0] - 1)), data.draw(st.integers(0, hw[1] - 1))
    y1, x1 = data.draw(st.integers(y0 + 1, hw[0])), data.draw(st.integers(x0 + 1, hw[1]))
    whole = read_image(values, axes="YXS" if colour else "YX")
    with open_plane(values, axes="YXS" if colour else "YX") as plane:
        np.testing.assert_array_equal(plane.read(plane[y0:y1, x0:x1]).rgb8, whole.rgb8[y0:y1, x0:x1])


@pytest.mark.parametrize("contrast", [None, (0, 255)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_transparent_parts_are_black_unless_all_is_transparent(
    contrast: Any, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastsam_core.large_images.SAMPLE_VALUES", 2500)
    top = 1 if dtype == "float32" else np.iinfo(dtype).max
    path = tmp_path / "slide.tif"
    values = np.full((96, 112, 4), top, dtype)
    values[..., 3] = 0
    for inside in (top, 0):
        values[40:72, 30:80, 3] = inside
        tifffile.imwrite(path, values, photometric="rgb", extrasamples=["unassalpha"], tile=(16, 16))
        whole = read_image(path, contrast=contrast).rgb8
        with open_plane(path, contrast=contrast) as plane:
            for y, x in product(range(0, 96, 32), range(0, 112, 28)):
                part = plane.read(plane[y : y + 32, x : x + 28]).rgb8
                np.testing.assert_array_equal(part, whole[y : y + 32, x : x + 28])


def test_alpha_that_is_as_good_as_zero() -> None:
    values = np.random.default_rng(7).integers(0, 2**31, (*HW, 4), np.int32)
    values[..., 3] = 0
    values[20:30, 20:30, 3] = 4000  # of 2 ** 31
    same(values, axes="YXS")


@pytest.mark.parametrize("value", [2**63, 1e17, 1e300, -3e18])
def test_constant_planes_of_very_large_values_are_black(value: float) -> None:
    values = np.full((70, 90), value, np.uint64 if value == 2**63 else np.float64)
    same(values)


@pytest.mark.parametrize("hw", [(90, 70), (4, 3000), (3000, 4), (61, 59)])
def test_regions_of_large_planes_decide_on_the_contrast(hw: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastsam_core.large_images.SAMPLE_VALUES", 2500)
    values = np.random.default_rng(3).integers(500, 4000, hw, np.uint16)
    values[0, 0] = 65_535
    with open_plane(values, axes="YX") as plane:
        [limits] = cast("list[list[float]]", plane.read(plane[: hw[0], : hw[1]]).recipe["contrast_limits"])
    assert limits == pytest.approx([500, 4000], abs=40)


def test_what_does_not_fit_is_said_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "plane.tif"
    tifffile.imwrite(path, pixels("YX", "uint16"), tile=(16, 16))
    wrong: list[dict[str, Any]] = [{"plane": 4}, {"channels": 3}, {"axes": "YXC"}, {"contrast": (4, 1)}]
    for reading in wrong:
        with pytest.raises(ImageContentError), open_plane(path, **reading) as plane:
            plane.read(plane[:10, :10])


# ---- pyramids ---------------------------------------------------------------------------------------------------


def write_pyramid(path: Path, beside: bool = False) -> list[npt.NDArray[np.uint8]]:
    """Write a pyramid of three levels, laid out as OME-TIFF or, with pictures beside it, as Aperio's slides."""
    values = np.random.default_rng(4).integers(30, 220, (128, 192, 3), np.uint8)
    levels = [np.ascontiguousarray(values[::step, ::step]) for step in (1, 2, 4)]
    how: dict[str, Any] = {"photometric": "rgb", "tile": (32, 48), "compression": "zlib"}
    with tifffile.TiffWriter(path) as tiff:
        if beside:
            words = "Aperio Image Library v11\n192x128 (48x32) Q=30|AppMag = 20"
            tiff.write(levels[0], description=words, metadata=None, **how)
            tiff.write(levels[2][::2, ::2], description=words, metadata=None, photometric="rgb", rowsperstrip=4)
            for level in levels[1:]:
                tiff.write(level, description=words, metadata=None, **how)
            for _ in range(2):  # the label and the whole glass
                tiff.write(values[:80, :40], description=words, metadata=None, subfiletype=1, photometric="rgb")
        else:
            tiff.write(levels[0], subifds=2, metadata={"axes": "YXS"}, **how)
            for level in levels[1:]:
                tiff.write(level, subfiletype=1, **how)
    return levels


@pytest.mark.parametrize(("name", "beside"), [("slide.ome.tif", False), ("slide.svs", True)])
def test_levels_of_a_pyramid(name: str, beside: bool, tmp_path: Path) -> None:
    path = tmp_path / name
    levels = write_pyramid(path, beside)
    for level, values in enumerate(levels):
        image = read_image(path, level=level)
        np.testing.assert_array_equal(image.rgb8, values)
        assert {"levels": 3, "level": level}.items() <= image.recipe.items()
        with open_plane(path, level=level) as plane:
            assert plane.shape == values.shape[:2]
            np.testing.assert_array_equal(plane.read(plane[5:30, 7:44]).rgb8, values[5:30, 7:44])
    with pytest.raises(ImageContentError, match=r"no level 3\. Expected: 0 to 2"):
        read_image(path, level=3)
    with pytest.raises(ImageContentError, match="whole number"):
        read_image(path, level=0.5)  # type: ignore[arg-type]


def test_levels_of_an_ome_zarr_store(tmp_path: Path) -> None:
    import zarr

    values = np.random.default_rng(5).integers(0, 250, (40, 60), np.uint8)
    group = zarr.open_group(tmp_path / "slide.ome.zarr", mode="w")
    for name, level in (("0", values), ("1", values[::2, ::2])):
        group.create_array(name, data=level)
    described = {"axes": [{"name": name} for name in "yx"], "datasets": [{"path": "0"}, {"path": "1"}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [described]}
    np.testing.assert_array_equal(read_image(tmp_path / "slide.ome.zarr", level=1).rgb8[..., 0], values[::2, ::2])
    with pytest.raises(ImageContentError, match="0 to 1"):
        read_image(tmp_path / "slide.ome.zarr", level=2)


def test_what_is_no_pyramid_has_level_0(tmp_path: Path) -> None:
    values = pixels("YX", "uint8")
    tifffile.imwrite(tmp_path / "plain.tif", values)
    PillowImage.fromarray(values).save(tmp_path / "plain.png")
    for source in (tmp_path / "plain.tif", tmp_path / "plain.png", values):
        assert read_image(source, level=0).image_hw == HW
        with pytest.raises(ImageContentError, match="no pyramid"):
            read_image(source, level=1)
