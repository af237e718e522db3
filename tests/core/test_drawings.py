"""What was drawn in QuPath or ImageJ is read as what it encloses there."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from roifile import ROI_SUBTYPE, ROI_TYPE, ImagejRoi, roiwrite

from fastsam_core import Masks
from fastsam_core._regions import polygon_runs
from fastsam_core.cli._prompts import PromptFile
from fastsam_core.drawings import Drawing, masks_of_drawings, read_drawings
from fastsam_core.errors import AnnotationError, InvalidPromptError
from fastsam_core.evaluation.truth import LabelFolder, open_truth, pairs_beside
from fastsam_core.outlines import write_geojson, write_rois
from fastsam_core.prompts import Box, Points, Polygon
from fastsam_core.stacks import LinkedStack
from fastsam_core.training.datasets.folders import list_beside, list_label_maps
from fastsam_core.training.datasets.loading import load_folder

_IMAGEJ = Path(__file__).with_name("imagej_RoiSet.zip")
"""Made by ImageJ: a rectangle, an oval, a polygon, a rectangle without an oval, a traced oval, a rectangle between
pixels, a point, three points."""


def _geojson(path: Path, *geometries: Any) -> Path:
    features = [{"type": "Feature", "geometry": geometry, "properties": {}} for geometry in geometries]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


# ---- ImageJ -----------------------------------------------------------------------------------------------------


def test_rois_made_by_imagej() -> None:
    drawings = read_drawings(_IMAGEJ)
    assert [one.kind for one in drawings] == ["box", *["outline"] * 4, "box", "points", "points"]
    masks = masks_of_drawings(drawings[:6], (80, 100))
    # as many pixels as ImageJ itself paints; it paints 15 of the polygon's along its border otherwise
    assert np.delete(masks.areas_px, 2).tolist() == [600, 538, 1488, 788, 651]
    assert masks.areas_px[2] == pytest.approx(810, abs=15)
    assert masks.extents_xyxy[0].tolist() == [10, 5, 40, 25]
    assert masks.extents_xyxy[1].tolist() == [50, 10, 81, 32]
    assert masks.hits([(20, 20)])[0].tolist() == [True, False, False, False, False, True]  # in the hole
    assert drawings[6].rings_xy[0].tolist() == [[10, 20]]
    assert drawings[7].rings_xy[0].tolist() == [[5, 6], [10.5, 7.5], [20, 30]]


def test_one_roi_without_a_zip_file(tmp_path: Path) -> None:
    path = tmp_path / "one.roi"
    path.write_bytes(zipfile.ZipFile(_IMAGEJ).read(zipfile.ZipFile(_IMAGEJ).namelist()[0]))
    [drawing] = read_drawings(path)
    assert masks_of_drawings([drawing], (80, 100)).areas_px.tolist() == [600]


def test_lines_enclose_nothing(tmp_path: Path) -> None:
    roi = ImagejRoi.frompoints(np.array([[1, 1], [8, 9]]), name="axis")
    roi.roitype = ROI_TYPE.POLYLINE
    roi.tofile(tmp_path / "a.roi")
    with pytest.raises(AnnotationError, match=r"a\.roi holds what encloses nothing.*axis \(polyline\)"):
        read_drawings(tmp_path / "a.roi")


def test_curves_of_composites(tmp_path: Path) -> None:
    arc = 4 * (2**0.5 - 1) / 3  # of a quarter of a circle, as Java draws it
    corners = np.array([(1, 0), (1, arc), (arc, 1), (0, 1), (-arc, 1), (-1, arc), (-1, 0)])
    around = np.concatenate([corners, -corners[1:]]) * 20 + 30
    path: list[float] = [0, *around[0]]
    for first in range(1, 13, 3):
        path += [3, *around[first : first + 3].ravel()]
    path += [4, 0, 25, 25, 1, 35, 25, 2, 30, 45, 25, 25, 4]  # a hole: a line and a parabola
    roi = ImagejRoi.frompoints(np.array([[10, 10], [50, 10], [50, 50]]))
    roi.roitype, roi.n_coordinates, roi.integer_coordinates = ROI_TYPE.RECT, 0, None
    roi.multi_coordinates, roi.shape_roi_size = np.array(path, np.float32), len(path)
    roi.tofile(tmp_path / "a.roi")
    [drawing] = read_drawings(tmp_path / "a.roi")
    assert [len(np.unique(ring, axis=0)) for ring in drawing.rings_xy] == [64, 17]
    [area] = masks_of_drawings([drawing], (60, 60)).areas_px
    assert area == pytest.approx(np.pi * 20**2 - 2 / 3 * 10 * 10, rel=0.01)


@pytest.mark.parametrize("subtype", [ROI_SUBTYPE.TEXT, ROI_SUBTYPE.IMAGE])
def test_what_imagej_lays_over_images_is_no_box(subtype: ROI_SUBTYPE, tmp_path: Path) -> None:
    path = tmp_path / "one.roi"
    path.write_bytes(zipfile.ZipFile(_IMAGEJ).read(zipfile.ZipFile(_IMAGEJ).namelist()[0]))
    roi = ImagejRoi.fromfile(path)
    assert isinstance(roi, ImagejRoi)
    roi.subtype, roi.name = subtype, "scale"
    if subtype == ROI_SUBTYPE.TEXT:
        roi.text, roi.text_name = "10 µm", "SansSerif"
    roi.tofile(path)
    with pytest.raises(AnnotationError, match=rf"encloses nothing.*scale \({subtype.name.lower()}\)"):
        read_drawings(path)


# ---- GeoJSON ----------------------------------------------------------------------------------------------------


def test_geojson(tmp_path: Path) -> None:
    square = [[1, 1], [5, 1], [5, 4], [1, 4], [1, 1]]
    hole = [[2, 2], [4, 2], [4, 3], [2, 3], [2, 2]]
    path = _geojson(
        tmp_path / "a.geojson",
        {"type": "Polygon", "coordinates": [square]},
        {"type": "Polygon", "coordinates": [square, hole]},
        {"type": "MultiPolygon", "coordinates": [[square], [[[7, 7], [9, 7], [9, 8.9]]]]},
        {"type": "Point", "coordinates": [3.5, 2]},
        {"type": "GeometryCollection", "geometries": [{"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]}]},
    )
    drawings = read_drawings(path)
    assert [one.kind for one in drawings] == ["box", "outline", "outline", "points", "points"]
    assert masks_of_drawings(drawings[:3], (10, 12)).areas_px.tolist() == [12, 10, 13]
    assert drawings[3].rings_xy[0].tolist() == [[3.5, 2]]
    assert len(drawings[4].rings_xy[0]) == 2
    document = json.loads(path.read_text())
    for other in (document["features"], document["features"][0], document["features"][0]["geometry"]):
        path.write_text(json.dumps(other))
        assert read_drawings(path)[0].kind == "box"


@pytest.mark.parametrize(
    "text", ["", "{", "[3]", '{"type": "FeatureCollection"}', '[{"geometry": null}]', "PK", "Iout"]
)
def test_damaged_files(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(text)
    with pytest.raises(AnnotationError, match=r"a\.geojson"):
        read_drawings(path)
    with pytest.raises(AnnotationError, match="No such file"):
        read_drawings(tmp_path / "missing.zip")


def test_features_without_a_geometry_are_left_out(tmp_path: Path) -> None:
    triangle = {"type": "Polygon", "coordinates": [[[1, 1], [5, 1], [1, 4]]]}
    [drawing] = read_drawings(_geojson(tmp_path / "a.geojson", None, triangle, None))
    assert masks_of_drawings([drawing], (10, 12)).areas_px.tolist() == [6]
    with pytest.raises(AnnotationError, match=r"a\.geojson holds nothing that was drawn.*2 features without"):
        read_drawings(_geojson(tmp_path / "a.geojson", None, None))
    assert read_drawings(_geojson(tmp_path / "a.geojson")) == []


@pytest.mark.parametrize(
    ("geometry", "said"),
    [
        ({"type": "LineString", "coordinates": [[1, 2], [3, 4]]}, "encloses nothing.*LineString"),
        ({"type": "Polygon", "coordinates": []}, "cannot be read"),
        ({"type": "Polygon", "coordinates": [[[1, 2], [3]]]}, "cannot be read"),
        ({"type": "Polygon", "coordinates": [[["a", 2], [3, 4]]]}, "cannot be read"),
        ({"type": "Polygon", "coordinates": [[[1, 2], [3, 1e9], [3, 4]]]}, "in no image"),
        ({"type": "MultiPoint", "coordinates": []}, "cannot be read"),
    ],
)
def test_geometries_that_will_not_do(geometry: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=said):
        read_drawings(_geojson(tmp_path / "a.geojson", geometry))


def test_all_lines_are_named_with_what_to_do(tmp_path: Path) -> None:
    lines: list[Any] = [{"type": kind, "coordinates": []} for kind in ("LineString", "MultiLineString")]
    area = {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9]]]}
    features = [
        {"type": "Feature", "geometry": {"type": "GeometryCollection", "geometries": [area, *lines]}},
        {"type": "Feature", "properties": {"name": "scale bar"}, "geometry": lines[0]},
        {"type": "Feature", "properties": None, "geometry": area},
    ]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    said = r"3 of 5: LineString, MultiLineString, scale bar \(LineString\)\. Remedy: take these out of the file"
    with pytest.raises(AnnotationError, match=said):
        read_drawings(tmp_path / "a.geojson")
    rois = [ImagejRoi.frompoints(np.array([[0, 0], [9, 0], [9, 9]]), name=name) for name in "abcdefg"]
    for roi in rois[1:6]:
        roi.roitype = ROI_TYPE.FREELINE
    roiwrite(tmp_path / "a.zip", rois)
    with pytest.raises(AnnotationError, match=r"5 of 7: b \(freeline\), c \(freeline\), d .*, e .*, …\. Remedy: take"):
        read_drawings(tmp_path / "a.zip")


def test_drawings_on_several_planes_are_refused(tmp_path: Path) -> None:
    masks = Masks.from_dense(np.eye(5, dtype=bool)[None])
    stack = LinkedStack("T", (masks, masks), (np.array([1]), np.array([1])))
    for path in (write_geojson(tmp_path / "a.geojson", stack), write_rois(tmp_path / "a.zip", stack)):
        with pytest.raises(AnnotationError, match=rf"{path.name} holds drawings on several planes"):
            read_drawings(path)


def test_what_macos_adds_to_zip_files_is_left_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(_IMAGEJ) as file:
        rois = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(tmp_path / "again.zip", "w") as file:
        for name, roi in rois.items():
            file.writestr(f"RoiSet/{name}", roi)
            file.writestr(f"__MACOSX/RoiSet/._{name}", b"\0\5\x16\7")
    assert len(read_drawings(tmp_path / "again.zip")) == len(rois)


def test_no_rois_in_a_zip_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("cells.png", b"")
    with pytest.raises(AnnotationError, match=r"holds no ROIs.*cells\.png"):
        read_drawings(tmp_path / "a.zip")


# ---- masks ------------------------------------------------------------------------------------------------------


@given(arrays.arrays(bool, st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))))
def test_masks_come_back_as_they_were(stack: np.ndarray) -> None:
    import tempfile

    stack = stack[stack.any(axis=(1, 2))]
    with tempfile.TemporaryDirectory() as folder:
        for write in (write_geojson, write_rois):
            path = write(Path(folder) / "a", Masks.from_dense(stack))
            again = masks_of_drawings(read_drawings(path), (stack.shape[1], stack.shape[2]))
            np.testing.assert_array_equal(again.to_dense(), stack)


def test_each_ring_is_filled_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    areas: list[int] = []

    def watched(vertices_yx: Any, height: int, width: int) -> Any:
        areas.append(height * width)
        return polygon_runs(vertices_yx, height, width)

    monkeypatch.setattr("fastsam_core.drawings.polygon_runs", watched)
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], float)
    holes = [(x, y) + 3 * square for x in range(5, 85, 6) for y in range(5, 95, 6)]
    [area] = masks_of_drawings([Drawing("outline", (100 * square, *holes))], (105, 90)).areas_px
    assert len(areas) == 1 + len(holes)
    assert sum(areas) < 2 * 105 * 90
    assert area == 100 * 90 - 9 * len(holes)


def test_points_and_what_lies_outside_are_no_objects(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="Drawing 7 is a point"):
        masks_of_drawings(read_drawings(_IMAGEJ), (80, 100))
    with pytest.raises(AnnotationError, match=r"Drawing 2 covers no pixel.*x = 65, y = 21"):
        masks_of_drawings(read_drawings(_IMAGEJ), (40, 45))
    assert len(masks_of_drawings([], (4, 5))) == 0


# ---- as prompts and as annotations ------------------------------------------------------------------------------


def test_drawings_are_prompts() -> None:
    (points, objects), (boxes, two), (polygons, four) = PromptFile.load(_IMAGEJ).everywhere.entries
    assert (objects, two, four) == (4, 2, 4)
    assert isinstance(points, Points)
    assert points.points_yx.tolist() == [[20, 10], [6, 5], [7.5, 10.5], [30, 20]]  # an object each
    assert isinstance(boxes, Box)
    assert boxes.boxes_xyxy.tolist() == [[10, 5, 40, 25], [10.25, 5.5, 40.75, 26.25]]
    assert isinstance(polygons, Polygon)
    assert np.ptp(polygons.vertices_yx[2], axis=0).tolist() == [40, 40]  # not the hole


def test_prompts_that_were_not_drawn(tmp_path: Path) -> None:
    with pytest.raises(InvalidPromptError, match="is empty"):
        PromptFile.load(_geojson(tmp_path / "a.geojson"))
    (tmp_path / "a.zip").write_text("no")
    with pytest.raises(InvalidPromptError, match=r"a\.zip cannot be read as drawings"):
        PromptFile.load(tmp_path / "a.zip")


def test_outlines_are_annotations(tmp_path: Path) -> None:
    labels = np.zeros((30, 40), np.uint8)
    labels[3:9, 3:12], labels[15:25, 20:30] = 1, 2
    masks = Masks.from_label_map(labels)
    (tmp_path / "images").mkdir()
    for name in ("a", "b", "c"):
        Image.fromarray(labels).save(tmp_path / "images" / f"{name}.png")
    write_geojson(tmp_path / "masks" / "a.geojson", masks)
    write_rois(tmp_path / "masks" / "b.zip", masks)
    tifffile.imwrite(tmp_path / "masks" / "c.tif", labels)
    truths = LabelFolder(tmp_path)
    for index in range(3):
        for size in ((30, 40), None):
            np.testing.assert_array_equal(truths.truth(index, size).masks.to_label_map(), labels)
        np.testing.assert_array_equal(list_label_maps(tmp_path)[index].load().masks.to_label_map(), labels)
    write_rois(tmp_path / "masks" / "b.zip", masks.placed((100, 0), (300, 300)))
    with pytest.raises(AnnotationError, match=re.escape("b.zip: Drawing 1 covers no pixel")):
        truths.truth(1, (30, 40))


def test_annotations_beside_their_images(tmp_path: Path) -> None:
    labels = np.zeros((30, 40), np.uint8)
    labels[3:9, 3:12], labels[15:25, 20:30] = 1, 2
    masks = Masks.from_label_map(labels)
    for name in ("000_img.png", "b.png", "c.png", "d.png", "e.png", "b_overlay.png", "not annotated.png"):
        Image.fromarray(labels).save(tmp_path / name)
    for name in ("000_masks.png", "b_cp_masks.png"):
        Image.fromarray(labels).save(tmp_path / name)
    tifffile.imwrite(tmp_path / "c_labels.tif", labels)
    write_rois(tmp_path / "d_RoiSet.zip", masks)
    write_geojson(tmp_path / "e_outlines.geojson", masks)
    truths = open_truth(tmp_path)
    assert [path.name for path in truths.images] == ["000_img.png", "b.png", "c.png", "d.png", "e.png"]
    for index, item in enumerate(list_beside(tmp_path)):
        np.testing.assert_array_equal(truths.truth(index, (30, 40)).masks.to_label_map(), labels)
        np.testing.assert_array_equal(item.load().masks.to_label_map(), labels)
    assert sum(len(pool.samples) for pools in load_folder(tmp_path).values() for pool in pools) == 5
    write_rois(tmp_path / "c_RoiSet.zip", masks)
    with pytest.raises(AnnotationError, match=r"annotate one image.*c_RoiSet\.zip and c_labels\.tif"):
        open_truth(tmp_path)


def test_an_annotation_beside_two_images(tmp_path: Path) -> None:
    labels = np.eye(9, dtype=np.uint8) + 1
    for name in ("a.png", "a_img.png", "a_masks.png", "a_img_masks.png"):
        Image.fromarray(labels).save(tmp_path / name)
    assert sorted((image.name, path.name) for image, path in pairs_beside(tmp_path)) == [
        ("a.png", "a_masks.png"),
        ("a_img.png", "a_img_masks.png"),
    ]
    Image.fromarray(labels).save(tmp_path / "a.tif")
    for read in (LabelFolder, list_beside, load_folder):
        with pytest.raises(AnnotationError, match=r"have the name of one annotation.*a\.png and a\.tif"):
            read(tmp_path)


def test_nothing_beside(tmp_path: Path) -> None:
    Image.new("L", (9, 9)).save(tmp_path / "a.png")
    for read in (list_beside, load_folder, open_truth, LabelFolder):
        with pytest.raises(AnnotationError, match=r"_masks"):
            read(tmp_path)


def test_only_cellpose_s_own_files_beside(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Image.new("L", (9, 9)).save(tmp_path / f"{name}.png")
        np.save(tmp_path / f"{name}_seg.npy", {"masks": np.ones((9, 9), np.uint16)}, allow_pickle=True)  # type: ignore[arg-type]
    for read in (list_beside, load_folder, open_truth, LabelFolder):
        with pytest.raises(AnnotationError, match=r"pickles.*a_seg\.npy; 2 such files.*Save masks as PNG"):
            read(tmp_path)
    Image.fromarray(np.eye(9, dtype=np.uint8)).save(tmp_path / "a_cp_masks.png")
    assert len(list_beside(tmp_path)) == 1


def test_only_files_of_labelme_beside(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Image.new("L", (9, 9)).save(tmp_path / f"{name}.png")
        shape = {"label": "cell", "points": [[1, 1], [5, 1], [5, 5]], "shape_type": "polygon"}
        saved = {"version": "5.4.1", "shapes": [shape], "imagePath": f"{name}.png", "imageData": None}
        (tmp_path / f"{name}.json").write_text(json.dumps(saved))
    for read in (list_beside, load_folder, open_truth, LabelFolder):
        with pytest.raises(AnnotationError, match=r"LabelMe.*Actual: a\.json.*labelme2coco"):
            read(tmp_path)
    with pytest.raises(AnnotationError, match=r"no COCO.*a file of LabelMe.*labelme2coco"):
        load_folder(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(AnnotationError, match=r"_masks"):
        list_beside(tmp_path)
