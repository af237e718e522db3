"""Outlines as GeoJSON and as ROIs: what another program fills is the mask, pixel by pixel."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import roifile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from skimage.measure import points_in_poly

from fastsam_core import Masks
from fastsam_core._axis_names import czt_of
from fastsam_core.drawings import masks_of_drawings, read_drawings
from fastsam_core.errors import InvalidMasksError, InvalidParameterError, OutputError
from fastsam_core.outlines import polygons, write_geojson, write_rois
from fastsam_core.stacks import LinkedStack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_SMALL = arrays.arrays(bool, st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 9)))


def _filled(rings: Sequence[Any], image_hw: tuple[int, int]) -> np.ndarray:
    """Fill rings (P, 2) of (x, y) as painting programs do: pixels whose centres an odd number of them encloses."""
    y, x = np.indices(image_hw)
    centres = np.column_stack([x.ravel(), y.ravel()]) + 0.5
    inside = np.zeros(len(centres), bool)
    for ring in rings:
        inside ^= points_in_poly(centres, np.asarray(ring, float))
    return inside.reshape(image_hw)


def _area(rings: Sequence[Any]) -> float:
    """Return the area of a polygon less that of its holes."""
    areas = []
    for x, y in (np.asarray(ring, float).T for ring in rings):
        areas.append(abs(np.sum(x * np.roll(y, 1) - y * np.roll(x, 1))) / 2)
    return float(areas[0] - sum(areas[1:]))


@pytest.fixture
def masks() -> Masks:
    stack = np.zeros((3, 40, 60), bool)
    stack[0, 2:12, 3:15] = True
    stack[1, 15:38, 20:45] = True  # with a hole, an island in it, and a part beside it
    stack[1, 20:30, 25:35] = False
    stack[1, 24:27, 28:31] = True
    stack[1, 2:6, 50:58] = True
    return Masks.from_dense(stack, scores=[0.9, 0.8, 0.5]).with_fields(quality=[0.7, np.nan, 0.1], word=["a", "b", "c"])


# ---- polygons ---------------------------------------------------------------------------------------------------


def test_a_hole_belongs_to_the_part_around_it(masks: Masks) -> None:
    one, two, none = polygons(masks)
    assert [len(part) for part in one] == [1]
    np.testing.assert_array_equal(one[0][0][0], one[0][0][-1])
    assert len(one[0][0]) == 9  # four sides and four cut corners
    assert none == []
    assert sorted((len(part), _area(part)) for part in two) == [
        (1, 9 - 0.5),
        (1, 32 - 0.5),
        (2, 23 * 25 - 100 - 0.5 + 0.5),
    ]


def test_holes_of_many_parts_are_looked_for_nearby(monkeypatch: pytest.MonkeyPatch) -> None:
    tile = np.ones((9, 9), bool)
    tile[[0, -1]] = tile[:, [0, -1]] = tile[3:6, 3:6] = False
    asked: list[Any] = []
    monkeypatch.setattr("skimage.measure.points_in_poly", lambda *given: asked.append(given))
    [parts] = polygons(Masks.from_dense(np.tile(tile, (8, 8))))
    assert [len(part) for part in parts] == [2] * 64
    assert all((part[0].min(axis=0) < part[1].min(axis=0)).all() for part in parts)
    assert all((part[0].max(axis=0) > part[1].max(axis=0)).all() for part in parts)
    assert not asked


@given(_SMALL)
def test_filling_the_polygons_gives_the_mask(stack: np.ndarray) -> None:
    for mask, parts in zip(stack, polygons(Masks.from_dense(stack)), strict=True):
        together = np.zeros(mask.shape, int)
        for part in parts:
            alone = _filled(part, mask.shape)
            together += alone
            assert _area(part) == alone.sum() - 0.5 + 0.5 * (len(part) - 1)
        np.testing.assert_array_equal(together, mask)  # each pixel in one part


# ---- GeoJSON ----------------------------------------------------------------------------------------------------


def _geometries(document: dict[str, Any]) -> list[list[Any]]:
    """Return the polygons of each feature."""
    geometries = [feature["geometry"] for feature in document["features"]]
    return [[one["coordinates"]] if one["type"] == "Polygon" else one["coordinates"] for one in geometries]


def test_geojson_is_what_qupath_reads(masks: Masks, tmp_path: Path) -> None:
    document = json.loads(write_geojson(tmp_path / "a.geojson", masks).read_text())
    assert document["type"] == "FeatureCollection"
    assert [feature["type"] for feature in document["features"]] == ["Feature"] * 2  # the empty mask is left out
    assert [feature["geometry"]["type"] for feature in document["features"]] == ["Polygon", "MultiPolygon"]
    assert document["features"][0]["properties"] == {
        "objectType": "detection",
        "name": "1",
        "measurements": {"score": 0.9, "quality": 0.7},
    }
    assert document["features"][1]["properties"]["measurements"] == {"score": 0.8}  # JSON knows no NaN
    assert "plane" not in document["features"][0]["geometry"]
    for mask, parts in zip(masks.to_dense(), _geometries(document), strict=False):
        np.testing.assert_array_equal(_filled([ring for part in parts for ring in part], mask.shape), mask)


def test_masks_that_answer_texts_have_a_class(masks: Masks, tmp_path: Path) -> None:
    worded = masks.with_fields(text=["a red car", "", "none"])
    features = json.loads(write_geojson(tmp_path / "a.geojson", worded).read_text())["features"]
    assert features[0]["properties"]["classification"] == {"name": "a red car"}
    assert "classification" not in features[1]["properties"]
    one, two = _rois(write_rois(tmp_path / "a.zip", worded))
    assert (one.props, two.props) == ("score: 0.9000\ntext: a red car\n", "score: 0.8000\n")


def test_geojson_of_a_smaller_level_is_in_pixels_of_the_full_size(masks: Masks, tmp_path: Path) -> None:
    path = write_geojson(tmp_path / "a.geojson", masks, scale_yx=(4, 4.001))
    [[outline]], _ = _geometries(json.loads(path.read_text()))
    x, y = np.transpose(outline)
    assert (y.min(), y.max()) == (8, 48)
    assert (x.min(), x.max()) == (12.0, 60.02)


@pytest.mark.parametrize("scale", [0, (1, 0), (1, float("nan")), (1, 2, 3), "ab", None])
def test_no_scale(masks: Masks, scale: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidParameterError, match="two positive numbers"):
        write_geojson(tmp_path / "a.geojson", masks, scale_yx=scale)
    assert not list(tmp_path.iterdir())


# ---- ROIs -------------------------------------------------------------------------------------------------------


def _rois(path: Path) -> list[Any]:
    rois = roifile.roiread(path)
    assert isinstance(rois, list)
    return rois


def _rings(roi: Any) -> list[np.ndarray]:
    rings: list[np.ndarray] = roi.coordinates(multi=True) if roi.composite else [roi.coordinates()]
    return rings


def test_rois_are_what_imagej_reads(masks: Masks, tmp_path: Path) -> None:
    one, two = _rois(write_rois(tmp_path / "RoiSet.zip", masks))
    assert [roi.name for roi in (one, two)] == ["00001", "00002"]
    assert zipfile.ZipFile(tmp_path / "RoiSet.zip").namelist() == ["00001.roi", "00002.roi"]
    assert one.props == "score: 0.9000\n"
    assert (one.composite, two.composite) == (False, True)
    assert (one.left, one.top, one.right, one.bottom) == (3, 2, 16, 13)
    assert one.position == 0
    for mask, roi in zip(masks.to_dense(), (one, two), strict=False):
        np.testing.assert_array_equal(_filled(_rings(roi), mask.shape), mask)


def test_a_large_image_has_rois_at_its_end(tmp_path: Path) -> None:
    mask = Masks.from_crops([np.ones((5, 7))], [(69_000, 70_000)], (70_000, 71_000))
    roi = _rois(write_rois(tmp_path / "RoiSet.zip", mask))[0]
    (x0, y0), (x1, y1) = roi.subpixel_coordinates.min(axis=0), roi.subpixel_coordinates.max(axis=0)
    assert (x0, y0, x1, y1) == (70_000, 69_000, 70_007, 69_005)


# ---- both -------------------------------------------------------------------------------------------------------


def test_labels_of_a_label_map_are_kept(tmp_path: Path) -> None:
    labels = np.zeros((20, 30), np.uint16)
    labels[2:5, 2:5], labels[10:15, 10:20] = 7, 300
    masks = Masks.from_label_map(labels)
    document = json.loads(write_geojson(tmp_path / "a.geojson", masks).read_text())
    assert [feature["properties"]["name"] for feature in document["features"]] == ["7", "300"]
    assert [feature["properties"]["measurements"] for feature in document["features"]] == [{"score": 1}] * 2
    assert [roi.name for roi in _rois(write_rois(tmp_path / "a.zip", masks))] == ["00007", "00300"]


@pytest.mark.parametrize(("axis", "zt"), [("Z", (1, 0)), ("T", (0, 1)), ("Q", (1, 0))])
def test_objects_of_a_stack_say_where_they_are(masks: Masks, axis: str, zt: tuple[int, int], tmp_path: Path) -> None:
    stack = LinkedStack(axis, (masks[:1], masks), (np.array([4]), np.array([4, 2, 9])))
    document = json.loads(write_geojson(tmp_path / "a.geojson", stack).read_text())
    assert [feature["properties"]["name"] for feature in document["features"]] == ["4", "4", "2"]
    planes = [feature["geometry"]["plane"] for feature in document["features"]]
    second = {"c": -1, "z": zt[0], "t": zt[1]}
    assert planes == [{"c": -1, "z": 0, "t": 0}, second, second]
    rois = _rois(write_rois(tmp_path / "a.zip", stack))
    assert [(roi.name, roi.position) for roi in rois] == [("0001-00004", 1), ("0002-00004", 2), ("0002-00002", 2)]


_NAMES = st.lists(
    st.sampled_from(["t", "Time", "z", "c", "axis -4", "p", 'a "b": c\n\\', "Ü"]), unique=True, max_size=4
)


@pytest.mark.parametrize("write", [write_geojson, write_rois])
@given(names=_NAMES, sizes=st.tuples(*[st.integers(1, 3)] * 4), seed=st.integers(0, 9))
def test_planes_along_any_axes_come_back(
    write: Callable[..., Path], names: list[str], sizes: tuple[int, ...], seed: int, tmp_path_factory: Any
) -> None:
    labels = np.zeros((*sizes[: len(names)], 7, 8), np.uint8)
    labels[..., 1:4, 1:5] = np.random.default_rng(seed).integers(0, 3, (*labels.shape[:-2], 3, 4))
    places = [dict(zip(names, place, strict=True)) for place in np.ndindex(*labels.shape[:-2])]
    planes = [Masks.from_label_map(labels[tuple(place.values())]) for place in places]
    path = write(tmp_path_factory.getbasetemp() / "planes", zip(places, planes, strict=True))
    found = read_drawings(path, several_planes=True)
    for place, masks in zip(places, planes, strict=True):
        there = masks_of_drawings([one for one in found if one.place == place], masks.image_hw)
        np.testing.assert_array_equal(there.to_dense(), masks.to_dense())
    one_position = len(names) == 1 and write is write_rois
    for one in found:
        of = {letter: one.place[name] for name, letter in czt_of(names).items()}
        z, t = (of.popitem()[1], 0) if one_position else (of.get("z", 0), of.get("t", 0))
        assert one.plane_zt == ((z, t) if names else None)


@pytest.mark.parametrize("write", [write_geojson, write_rois])
def test_nothing_found(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(tmp_path / "a", Masks.empty((20, 30)))
    if write is write_geojson:
        assert json.loads(path.read_text()) == {"type": "FeatureCollection", "features": []}
    else:
        assert zipfile.ZipFile(path).namelist() == []


@pytest.mark.parametrize("write", [write_geojson, write_rois])
def test_bad_input_leaves_nothing_behind(write: Callable[..., Path], masks: Masks, tmp_path: Path) -> None:
    with pytest.raises(InvalidMasksError, match="no masks to outline"):
        write(tmp_path / "a", np.zeros((3, 3)))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write(tmp_path / "file" / "a", masks)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_polygons_of_what_are_no_masks() -> None:
    with pytest.raises(InvalidMasksError, match="no masks to outline"):
        next(polygons(np.zeros((3, 3))))  # type: ignore[arg-type]
