"""Files that hold several images: which one is read, how many there are, and what is said of a number too high."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from fastsam_core import FastSAM
from fastsam_core.checkpoints import ModelInfo
from fastsam_core.cli._inputs import images_in_files
from fastsam_core.errors import ImageContentError
from fastsam_core.images import open_planes, read_image, read_values
from fastsam_core.large_images import open_plane
from fastsam_core.stacks import segment_stack
from fastsam_core.testing import RectangleNetwork
from fastsam_core.tiling import segment_tiles

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

SHAPES = ((3, 2, 40, 60), (2, 48, 72), (64, 96))
AXES = ("ZCYX", "CYX", "YX")


def pictures() -> list[npt.NDArray[np.uint16]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 60_000, shape, np.uint16) for shape in SHAPES]


def write_tiff(path: Path, axes: tuple[str, ...] = AXES, **options: Any) -> list[npt.NDArray[np.uint16]]:
    """Write a picture of each kind as a series with a name."""
    written = [values for values, has in zip(pictures(), AXES, strict=True) if has in axes]
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for number, (values, kind) in enumerate(zip(written, axes, strict=True)):
            described = {"axes": kind, "Name": f"well {number}"}
            tiff.write(values, metadata=described, photometric="minisblack", **options)
    return written


def test_series_of_tiff_files(tmp_path: Path) -> None:
    path = tmp_path / "wells.ome.tif"
    for number, values in enumerate(write_tiff(path)):
        np.testing.assert_array_equal(read_values(path, series=number), values[0] if values.ndim == 4 else values)
        image = read_image(path, series=number)
        assert {"series": number, "images": 3, "axes": AXES[number]}.items() <= image.recipe.items()
        assert image.image_hw == SHAPES[number][-2:]
    assert read_image(path).recipe["series"] == 0
    np.testing.assert_array_equal(read_values(path, plane={"Z": 2}), pictures()[0][2])


def test_a_number_that_is_too_high_lists_the_images(tmp_path: Path) -> None:
    path = tmp_path / "wells.ome.tif"
    write_tiff(path)
    with pytest.raises(ImageContentError, match="has no image 3") as caught:
        read_image(path, series=3)
    assert caught.value.expected == "0 to 2 (0: well 0 ZCYX 3×2×40×60; 1: well 1 CYX 2×48×72; 2: well 2 YX 64×96)"
    assert caught.value.actual == "series=3"
    assert "--series" in caught.value.remedy
    for wrong in (-1, 0.5, True):
        with pytest.raises(ImageContentError):
            read_image(path, series=wrong)  # type: ignore[arg-type]


def test_long_lists_of_images_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "many.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for _ in range(30):
            tiff.write(np.zeros((2, 16, 16), np.uint8), metadata={"axes": "CYX"}, photometric="minisblack")
    with pytest.raises(ImageContentError) as caught:
        read_image(path, series=30)
    assert caught.value.expected.startswith("0 to 29 (0: ")
    assert caught.value.expected.endswith("…)")
    assert "12: " not in caught.value.expected


def test_how_many_images_a_tiff_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "same.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for _ in range(4):
            tiff.write(np.zeros((2, 16, 16), np.uint8), metadata={"axes": "CYX"}, photometric="minisblack")
    for number in (0, 3):
        assert {"series": number, "images": 4}.items() <= read_image(path, series=number).recipe.items()
    tifffile.imwrite(tmp_path / "one.tif", np.zeros((16, 16), np.uint8))
    tifffile.imwrite(tmp_path / "thumbnail.tif", np.zeros((64, 64), np.uint16))
    tifffile.imwrite(tmp_path / "thumbnail.tif", np.zeros((16, 16, 3), np.uint8), photometric="rgb", append=True)
    assert {"series": 0, "images": 1}.items() <= read_image(tmp_path / "thumbnail.tif").recipe.items()
    assert read_image(tmp_path / "thumbnail.tif", series=1).image_hw == (16, 16)
    assert {"series": 0, "images": 1}.items() <= read_image(tmp_path / "one.tif").recipe.items()


def test_pages_that_differ_in_size_are_planes_or_series(tmp_path: Path) -> None:
    path = tmp_path / "sizes.tif"
    for i in range(3):
        tifffile.imwrite(path, np.full((20, 30 + i), 50 * i, np.uint8), append=i > 0)
    for i in range(3):
        page = read_image(path, plane=i)
        assert page.recipe["pages"] == 3
        np.testing.assert_array_equal(page.rgb8, np.full((20, 30 + i, 3), 50 * i))
    alone = read_image(path, series=2)
    np.testing.assert_array_equal(alone.rgb8, page.rgb8)
    assert {"series": 2, "images": 3, "pages": 1}.items() <= alone.recipe.items()
    with pytest.raises(ImageContentError, match="no stack"):
        segment_stack(path, FastSAM.load("builtin"))


def test_pages_in_gray_and_in_colour_are_images_alike(tmp_path: Path) -> None:
    pages = [np.full(shape, 90, np.uint8) for shape in ((40, 60, 3), (20, 60, 3), (40, 60))]
    first, *others = map(Pillow.fromarray, pages)
    first.save(tmp_path / "pages.tif", save_all=True, append_images=others)
    assert [image.series for image in images_in_files([tmp_path / "pages.tif"], "all")] == [0, 1, 2]
    assert [read_image(tmp_path / "pages.tif", series=at).image_hw for at in range(3)] == [(40, 60), (20, 60), (40, 60)]


def test_which_series_of_a_tiff_file_are_images(tmp_path: Path) -> None:
    gray, colour = np.zeros((64, 64), np.uint8), np.zeros((48, 48, 3), np.uint8)
    with tifffile.TiffWriter(tmp_path / "mixed.tif") as tiff:
        tiff.write(gray)
        tiff.write(colour, photometric="rgb")
        tiff.write(gray[:40, :40])
    with tifffile.TiffWriter(tmp_path / "scenes.ome.tif", ome=True) as tiff:
        for name in ("a", "b", "label image", "c"):
            how: dict[str, Any] = {"photometric": "rgb", "tile": (16, 16)}
            tiff.write(colour, subifds=1, metadata={"axes": "YXS", "Name": name}, **how)
            tiff.write(colour[::2, ::2], subfiletype=1, **how)
    with tifffile.TiffWriter(tmp_path / "sizes.tif") as tiff:
        for height in (64, 40, 50):
            tiff.write(gray[:height])
    for name, numbers in {"mixed.tif": [0, 2], "scenes.ome.tif": [0, 1, 3], "sizes.tif": [0, 1, 2]}.items():
        with open_planes(tmp_path / name) as planes:
            assert list(planes.images) == numbers, name
        found = images_in_files([tmp_path / name], "all")
        assert [(image.series, image.ending) for image in found] == [(at, f"_s{at}") for at in numbers]


def test_levels_of_a_series(tmp_path: Path) -> None:
    path = tmp_path / "slides.ome.tif"
    values = np.random.default_rng(1).integers(30, 220, (2, 64, 96, 3), np.uint8)
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for slide in values:
            how: dict[str, Any] = {"photometric": "rgb", "tile": (16, 16)}
            tiff.write(slide, subifds=1, metadata={"axes": "YXS"}, **how)
            tiff.write(slide[::2, ::2], subfiletype=1, **how)
    for number in (0, 1):
        for level in (0, 1):
            image = read_image(path, series=number, level=level)
            np.testing.assert_array_equal(image.rgb8, values[number, :: level + 1, :: level + 1])
            with open_plane(path, series=number, level=level) as plane:
                part = plane.read(plane[3:20, 5:30]).rgb8
            np.testing.assert_array_equal(part, image.rgb8[3:20, 5:30])


def write_zarr(path: Path, names: tuple[str, ...], *, listed: bool) -> None:
    """Write images as bioformats2raw does: groups that are numbered, or listed by name."""
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    if listed:
        group.create_group("OME").attrs["series"] = list(names)
    for number, name in enumerate(names):
        image = group.create_group(name)
        for level in (0, 1):
            image.create_array(str(level), data=_zarr_values(number)[..., :: level + 1, :: level + 1])
        multiscale: dict[str, Any] = {"axes": [{"name": axis} for axis in "zyx"], "version": "0.4"}
        multiscale["datasets"] = [{"path": "0"}, {"path": "1"}]
        image.attrs["multiscales"] = [multiscale | ({"name": f"field {number}"} if not listed else {})]


def _zarr_values(number: int) -> npt.NDArray[np.uint16]:
    shape = (2, 20 + 4 * number, 30)
    return np.random.default_rng(number).integers(0, 4000, shape, np.uint16)


@pytest.mark.parametrize(("names", "listed"), [(("0", "1", "2"), False), (("left", "right", "middle"), True)])
def test_images_of_an_ome_zarr_store(names: tuple[str, ...], listed: bool, tmp_path: Path) -> None:
    path = tmp_path / "wells.zarr"
    write_zarr(path, names, listed=listed)
    for number in range(3):
        np.testing.assert_array_equal(read_values(path, series=number, plane=1), _zarr_values(number)[1])
        half = read_image(path, series=number, level=1)
        assert half.image_hw == (10 + 2 * number, 15)
        assert {"series": number, "images": 3, "level": 1}.items() <= half.recipe.items()
    with pytest.raises(ImageContentError) as caught:
        read_image(path, series=3)
    first = names[1] if listed else "field 1"
    assert f"1: {first} ZYX 2×24×30" in caught.value.expected


def test_an_ome_zarr_group_may_describe_several_images(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(tmp_path / "two.zarr", mode="w")
    described = []
    for number in range(2):
        group.create_array(f"image{number}", data=_zarr_values(number)[0])
        axes = [{"name": axis} for axis in "yx"]
        described.append({"axes": axes, "datasets": [{"path": f"image{number}"}], "name": f"image {number}"})
    group.attrs["ome"] = {"version": "0.5", "multiscales": described}
    for number in range(2):
        np.testing.assert_array_equal(read_values(tmp_path / "two.zarr", series=number), _zarr_values(number)[0])
    assert read_image(tmp_path / "two.zarr").recipe["images"] == 2
    with pytest.raises(ImageContentError, match="1: image 1 YX 24×30"):
        read_image(tmp_path / "two.zarr", series=2)


def test_what_holds_one_image_has_series_0(tmp_path: Path) -> None:
    values = np.zeros((20, 30), np.uint8)
    Pillow.fromarray(values).save(tmp_path / "plain.png")
    sources: list[Any] = [tmp_path / "plain.png", values]
    zarr = pytest.importorskip("zarr")
    zarr.save_array(tmp_path / "plain.zarr", values)
    for source in (*sources, tmp_path / "plain.zarr"):
        assert read_image(source, series=0).image_hw == (20, 30)
        with pytest.raises(ImageContentError, match="holds one image"):
            read_image(source, series=1)
    with pytest.raises(ImageContentError, match="already 8-bit RGB"):
        read_image(read_image(values), series=1)


def test_tiles_and_stacks_of_a_series(tmp_path: Path) -> None:
    path = tmp_path / "wells.ome.tif"
    write_tiff(path, axes=("CYX", "YX"), tile=(16, 16))
    model = FastSAM(RectangleNetwork(((4, 4, 40, 40),), (0.9,)), ModelInfo(name="rectangles", imgsz=96))
    for tile in segment_tiles(path, model, series=1, tile_px=64, overlap_px=32):
        result = tile.result
    assert result is not None
    assert result.image_hw == (64, 96)
    with closing(segment_stack(path, model, series=0, axes="ZYX")) as steps:
        found = [step.image.recipe for step in steps]
    assert [(recipe["series"], recipe["plane"]) for recipe in found] == [(0, {"Z": 0}), (0, {"Z": 1})]
    with pytest.raises(ImageContentError, match="no image 2"):
        list(segment_stack(path, model, series=2))


def test_files_of_an_ome_tiff_set_give_their_own_images(tmp_path: Path) -> None:
    """As bfconvert writes an image into each file, with the metadata of all."""
    names = [f"s{number}.ome.tif" for number in range(3)]
    uuids = [f"urn:uuid:00000000-0000-0000-0000-00000000000{number}" for number in range(3)]
    images = "".join(
        f'<Image ID="Image:{at}"><Pixels ID="Pixels:{at}" DimensionOrder="XYZCT" Type="uint8" SizeX="{30 + at}" '
        f'SizeY="20" SizeC="1" SizeZ="1" SizeT="1" PhysicalSizeX="{at + 1}" PhysicalSizeY="{at + 1}">'
        f'<TiffData IFD="0" PlaneCount="1"><UUID FileName="{name}">{uuid}</UUID></TiffData></Pixels></Image>'
        for at, (name, uuid) in enumerate(zip(names, uuids, strict=True))
    )
    head = '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
    for number, (name, uuid) in enumerate(zip(names, uuids, strict=True)):
        values = np.full((20, 30 + number), 50 * number, np.uint8)
        words = f'{head} UUID="{uuid}">{images}</OME>'
        tifffile.imwrite(tmp_path / name, values, description=words, metadata=None, photometric="minisblack")
    for number, name in enumerate(names):
        image = read_image(tmp_path / name)
        assert (image.image_hw, int(image.rgb8[0, 0, 0])) == ((20, 30 + number), 50 * number)
        assert image.recipe["images"] == image.recipe["pages"] == 1
        assert image.recipe["pixel_size_um"] == [number + 1] * 2
        with open_planes(tmp_path / name) as planes:
            assert list(planes.images) == [0]


def test_files_of_one_stack_give_their_own_planes(tmp_path: Path) -> None:
    """As microscopes write a file for each time: any of them tells of all, and each gave the first time."""
    names = [f"t{time}.ome.tif" for time in range(3)]
    places = "".join(
        f'<TiffData FirstT="{time}" FirstC="{channel}" IFD="{channel}" PlaneCount="1"><UUID FileName="{name}">'
        f"urn:uuid:00000000-0000-0000-0000-00000000000{time}</UUID></TiffData>"
        for time, name in enumerate(names)
        for channel in range(2)
    )
    pixels = 'DimensionOrder="XYCZT" Type="uint8" SizeX="30" SizeY="20" SizeC="2" SizeZ="1" SizeT="3"'
    image = f'<Image ID="Image:0"><Pixels ID="Pixels:0" {pixels}>{places}</Pixels></Image>'
    head = '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
    for time, name in enumerate(names[:2]):  # the last one is missing
        words = f'{head} UUID="urn:uuid:00000000-0000-0000-0000-00000000000{time}">{image}</OME>'
        values = np.stack([np.full((20, 30), 50 * time + 100 * channel, np.uint8) for channel in range(2)])
        tifffile.imwrite(tmp_path / name, values, description=words, metadata=None, photometric="minisblack")
    for time, name in enumerate(names[:2]):
        for plane in (0, {"T": time}):
            found = read_image(tmp_path / name, plane=plane, channels=1, contrast=(0, 255))
            assert (found.recipe["plane"], int(found.rgb8[0, 0, 0])) == ({"T": time}, 50 * time + 100)
        with open_planes(tmp_path / name) as planes:
            assert planes.sizes == {"T": 3, "C": 2, "Y": 20, "X": 30}
    other = read_image(tmp_path / names[1], plane={"T": 0}, channels=1, contrast=(0, 255))
    assert int(other.rgb8[0, 0, 0]) == 100
    with pytest.raises(
        ImageContentError, match=r"no such plane: 1\. Expected: 0 to 0: the file holds a part.*--plane T=0"
    ):
        read_image(tmp_path / names[0], plane=1)
