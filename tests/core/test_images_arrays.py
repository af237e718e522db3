"""Arrays, tensors and lazy arrays: axes, planes, channels and what is refused."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow

from fastsam_core.errors import (
    ImageContentError,
    ImageReadError,
    ImageTooLargeError,
    UnsupportedImageError,
)
from fastsam_core.images import Image, read_image, read_values

Array = NDArray[Any]


@pytest.fixture(scope="module")
def rgb() -> Array:
    return np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


def test_rgb8_arrays_pass_untouched_and_uncopied(rgb: Array) -> None:
    image = read_image(rgb)
    assert np.shares_memory(image.rgb8, rgb)
    assert np.array_equal(image.rgb8, rgb)
    assert image.source == "<array>"
    assert image.recipe["contrast"] == "untouched"
    assert read_image(image) is image
    assert np.array_equal(np.asarray(image), rgb)
    assert np.asarray(image, dtype=float).dtype == np.float64
    assert np.array_equal(pickle.loads(pickle.dumps(image)).rgb8, rgb)


def test_layouts_of_the_same_picture(rgb: Array) -> None:
    red_only = np.dstack([rgb[..., 0]] * 3)
    opaque = np.dstack([rgb, np.full((30, 40), 255, np.uint8)])
    planar = np.ascontiguousarray(np.moveaxis(rgb, -1, 0))
    for same in (rgb, opaque, planar, np.asfortranarray(rgb), rgb[::-1][::-1], np.moveaxis(planar, 0, -1)):
        assert np.array_equal(read_image(same).rgb8, rgb)
    for gray in (rgb[..., 0], rgb[..., :1], planar[:1]):
        assert np.array_equal(read_image(gray).rgb8, red_only)
    assert np.array_equal(read_image(rgb, channels=0).rgb8, red_only)
    assert np.array_equal(read_image(rgb.astype(">u2"), contrast=(0, 255)).rgb8, rgb)
    assert np.array_equal(read_image(rgb.swapaxes(0, 1), axes="XYS").rgb8, rgb)


def test_ambiguous_axes_are_errors_that_name_the_option() -> None:
    for shape in [
        (3, 3, 3),
        (4, 100, 4),
        (2, 100, 3),
        (5, 5, 1),
        (30, 100, 100),
        (2, 5, 100, 100),
        (7,),
        (),
        (5, 5, 5),
    ]:
        with pytest.raises(
            ImageContentError, match=r"--axes.*axes='|axes='.*--axes"
        ):  # for scripts, and for the command
            read_image(np.zeros(shape, np.uint8))
    assert read_image(np.zeros((4, 100, 4), np.uint8), axes="CYX").image_hw == (100, 4)
    assert read_image(np.zeros((4, 100, 4), np.uint8), axes="YXS").image_hw == (4, 100)


@pytest.mark.parametrize(
    ("shape", "image_hw"),
    [
        ((1, 1), (1, 1)),
        ((1, 1, 1), (1, 1)),
        ((1, 1, 3), (1, 1)),
        ((8, 8), (8, 8)),
        ((8, 8, 3), (8, 8)),
        ((20000, 50), (20000, 50)),
        ((20000, 50, 3), (20000, 50)),
        ((2, 50, 60), (50, 60)),
        ((6, 50, 60), (50, 60)),
        ((50, 60, 2), (50, 60)),
        ((50, 60, 5), (50, 60)),
        ((5, 1, 60), (1, 60)),
        ((16, 60, 4), (16, 60)),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_sizes_and_shapes(shape: tuple[int, ...], image_hw: tuple[int, int], dtype: type) -> None:
    assert read_image(np.zeros(shape, dtype)).image_hw == image_hw


@given(st.lists(st.integers(1, 8), min_size=3, max_size=3))
def test_three_axes_are_read_in_one_way_or_refused(shape: list[int]) -> None:
    try:
        height, width = read_image(np.zeros(shape, np.uint8)).image_hw
    except ImageContentError as error:
        explanation = str(error)
    else:
        explanation = "ambiguous"
        assert (height, width) in (tuple(shape[:2]), tuple(shape[1:]))
    assert "ambiguous" in explanation


def test_planes_of_a_named_stack() -> None:
    stack = np.random.default_rng(1).integers(0, 256, (3, 4, 2, 20, 30), dtype=np.uint8)
    image = read_image(stack, axes="tzcyx", plane={"t": 2, "Z": 1}, channels=[0])
    assert np.array_equal(image.rgb8[..., 0], stack[2, 1, 0])
    assert image.recipe["plane"] == {"T": 2, "Z": 1}
    assert image.recipe["pages"] == 12
    assert np.array_equal(read_image(stack, axes="TZCYX", plane=9, channels=0).rgb8, image.rgb8)
    assert np.array_equal(read_image(stack, axes="TZCYX", channels=1).rgb8[..., 1], stack[0, 0, 1])
    for wrong in (12, -1, {"T": 3}, {"Q": 0}, 1.5, {"T": "a"}):
        with pytest.raises(ImageContentError, match="plane"):
            read_image(stack, axes="TZCYX", plane=wrong)  # type: ignore[arg-type]
    with pytest.raises(ImageContentError, match=r"no such plane: C=1.*--channels 1"):
        read_image(stack, axes="TZCYX", plane={"T": 1, "C": 1})
    with pytest.raises(ImageContentError, match="no such plane"):
        read_image(stack[0, 0, 0], plane=1)


@pytest.mark.parametrize("axes", ["", "YX", "CYY", "CZT", "C-YX", "CYXS"])
def test_wrong_axes(axes: str) -> None:
    if axes == "":  # no axes given: inferred
        assert read_image(np.zeros((2, 20, 30), np.uint8), axes=axes).image_hw == (20, 30)
        return
    with pytest.raises(ImageContentError, match="axes"):
        read_image(np.zeros((2, 20, 30), np.uint8), axes=axes)


class _Lazy:
    """Counts what is read of it, like a zarr array far away."""

    def __init__(self, values: Array) -> None:
        self._values, self.shape, self.dtype, self.read = values, values.shape, values.dtype, 0

    def __getitem__(self, key: Any) -> Array:
        part: Array = np.asarray(self._values[key])
        self.read += part.size
        return part


def test_of_lazy_arrays_only_the_chosen_part_is_read() -> None:
    values = np.random.default_rng(2).integers(0, 256, (5, 3, 20, 30), dtype=np.uint8)
    lazy = _Lazy(values)
    image = read_image(lazy, axes="ZCYX", plane=4, channels=2)
    assert np.array_equal(image.rgb8[..., 0], values[4, 2])
    assert lazy.read == 600
    with pytest.raises(ImageTooLargeError):
        read_image(lazy, axes="ZCYX", max_pixels=599)
    assert lazy.read == 600
    assert read_image(values[0], max_pixels=1).image_hw == (20, 30)  # already in memory


def test_zarr_and_dask(rgb: Array) -> None:
    zarr, dask = pytest.importorskip("zarr"), pytest.importorskip("dask.array")
    stored = zarr.array(rgb)
    assert np.array_equal(read_image(stored).rgb8, rgb)
    lazy = dask.from_array(np.stack([rgb, 255 - rgb]), chunks=(1, 10, 10, 3))
    assert np.array_equal(read_image(lazy, axes="TYXS", plane=1).rgb8, 255 - rgb)
    unknown = dask.from_array(rgb[..., 0])
    with pytest.raises(ImageContentError, match="compute_chunk_sizes"):
        read_image(unknown[unknown[:, 0] > 100])


def test_torch_tensors(rgb: Array) -> None:
    torch = pytest.importorskip("torch")
    planar = torch.from_numpy(rgb).permute(2, 0, 1)
    assert np.array_equal(read_image(planar).rgb8, rgb)
    assert np.array_equal(read_image((planar.float() / 255).requires_grad_()).rgb8, rgb)
    assert np.abs(read_image((planar.float() / 255).bfloat16()).rgb8.astype(int) - rgb).max() <= 1
    assert np.array_equal(read_image(planar[0]).rgb8[..., 1], rgb[..., 0])
    assert np.array_equal(read_image(planar[:1]).rgb8[..., 1], rgb[..., 0])
    assert np.array_equal(read_image(torch.from_numpy(rgb), axes="YXS").rgb8, rgb)
    assert np.array_equal(read_image(torch.from_numpy(rgb)).rgb8, rgb)
    assert read_image(torch.zeros(30, 40, 1)).image_hw == (30, 40)
    assert read_image(torch.zeros(5, 40, 4)).image_hw == (40, 4)
    assert read_image(torch.zeros(20, 30, 40)).image_hw == (30, 40)
    assert read_image(planar).source == "<tensor>"
    with pytest.raises(ImageContentError, match="4 axes"):
        read_image(planar[None])
    with pytest.raises(UnsupportedImageError):
        read_image(planar.to(torch.complex64))
    negative = torch._neg_view(-planar.float())  # as parts of complex tensors are
    assert np.array_equal(read_image(negative, contrast=(0, 255)).rgb8, rgb)
    for without_values in (planar[0].to_sparse(), planar.to("meta"), planar.to(torch.complex64).conj()):
        with pytest.raises(UnsupportedImageError, match="This tensor"):
            read_image(without_values)


@pytest.mark.parametrize("dtype", ["uint16", "int64", ">u2", "float16", "float32"])
def test_masked_values_are_none(dtype: str) -> None:
    values = np.arange(1200).reshape(30, 40).astype(dtype)
    hidden = np.ma.masked_array(values.copy(), mask=np.zeros(values.shape, bool))
    assert np.array_equal(read_image(hidden).rgb8, read_image(values).rgb8)
    assert read_values(hidden).dtype == values.dtype
    hidden[:2] = 30_000
    hidden[:2] = np.ma.masked
    assert np.array_equal(read_image(hidden).rgb8[2:], read_image(values[2:]).rgb8)
    assert not read_image(hidden).rgb8[:2].any()
    assert np.isnan(read_values(hidden)[:2]).all()


def test_masked_values_of_eight_bits_are_black(rgb: Array) -> None:
    hidden = np.ma.masked_array(rgb, mask=rgb > 200)
    assert np.array_equal(read_image(hidden).rgb8, np.where(rgb > 200, 0, rgb))
    flags = np.ma.masked_array(rgb[..., 0] > 100, mask=rgb[..., 0] > 200)
    assert np.array_equal(read_image(flags).rgb8[..., 0] > 0, (rgb[..., 0] > 100) & (rgb[..., 0] <= 200))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_pillow_images(mode: str, rgb: Array) -> None:
    coarse = rgb // 128 * 255
    picture = Pillow.fromarray(coarse).convert(mode)
    image = read_image(picture)
    assert image.source == "<pillow>"
    assert image.recipe["mode"] == mode
    assert np.array_equal(image.rgb8, coarse)


def test_pillow_gray_modes_and_damaged_files(rgb: Array, tmp_path: Any) -> None:
    gray = Pillow.fromarray(rgb[..., 0])
    for mode in ("L", "LA", "I", "F"):
        assert np.array_equal(read_image(gray.convert(mode), contrast=(0, 255)).rgb8[..., 0], rgb[..., 0])
    assert set(np.unique(read_image(gray.convert("1")).rgb8)) == {0, 255}
    with pytest.raises(UnsupportedImageError, match="LAB"):
        read_image(Pillow.new("LAB", (4, 4)))
    Pillow.fromarray(rgb).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:900])
    with Pillow.open(tmp_path / "a.jpg") as opened, pytest.raises(ImageReadError):
        read_image(opened)
    gray.close()
    with pytest.raises(ImageReadError, match="open"):
        read_image(gray)


@pytest.mark.parametrize("dtype", ["complex64", "object", "U3", "S2", "datetime64[s]", [("a", "u1")]])
def test_wrong_dtypes(dtype: Any) -> None:
    with pytest.raises(UnsupportedImageError, match="Remedy") as caught:
        read_image(np.zeros((8, 8), dtype))
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize("source", [None, 3, b"bytes.png", [1, 2], {"a": 1}, object(), np.float32(2), iter([])])
def test_wrong_objects(source: object) -> None:
    with pytest.raises((UnsupportedImageError, ImageContentError)):
        read_image(source)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 5, 3), (3, 0, 20), (20, 30, 0)])
def test_images_without_pixels(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageContentError):
        read_image(np.zeros(shape, np.uint8))


def test_an_image_takes_no_options_and_checks_itself(rgb: Array) -> None:
    image = read_image(rgb)
    with pytest.raises(ImageContentError, match="already"):
        read_image(image, channels=0)
    wrong: list[Any] = [rgb.astype(int), rgb[..., 0], rgb[:, ::2], rgb[:0], "rgb"]
    for array in wrong:
        with pytest.raises(ImageContentError, match="C-contiguous"):
            Image(array, "<test>", {})


READ = "import numpy as np; from fastsam_core.images import read_image"


@pytest.mark.parametrize(
    ("code", "loaded"),
    [(READ, "[]"), (f"{READ}; read_image(np.zeros((4, 4), 'u2'), channels={{0: 'red'}})", "['cv2']")],
)
def test_heavy_libraries_are_imported_when_needed(code: str, loaded: str) -> None:
    heavy = "{'torch', 'cv2', 'tifffile', 'skimage', 'zarr', 'dask', 'PIL', 'matplotlib', 'scipy'}"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print(sorted({heavy} & set(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == loaded
