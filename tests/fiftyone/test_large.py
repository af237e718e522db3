"""Samples with more pixels than are read as a whole: a tile of them is in memory at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np
import pytest
import tifffile

from fastsam_core.errors import InvalidParameterError
from fastsam_core.large_images import LargePlane
from fiftyone_fastsam import EnrichOptions, enrich
from fiftyone_fastsam.model import FastSAMModel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fastsam_core.masks import Masks
    from fastsam_core.model import FastSAM
    from fastsam_core.text import TextEncoder

TILES: dict[str, Any] = {"tile_px": 96, "overlap_px": 64}
LIMIT = 5000  # the images have 12,288 pixels


@pytest.fixture
def slides(make_dataset: Callable[..., Any], image_paths: list[Path], tmp_path: Path) -> Any:
    """Return a dataset of a TIFF file in tiles, and of a PNG file, which can only be read as a whole."""
    slide = tmp_path / "slide.tif"
    tifffile.imwrite(slide, np.full((96, 128, 3), 90, np.uint8), tile=(16, 16), photometric="rgb")
    return make_dataset(paths=[slide, image_paths[0]])


def told(sample: Any, field: str) -> list[Any]:
    names = ("label", "bounding_box", "confidence", "area_px", "stability", "matched", "fit")
    shown = [[d[name] if d.has_attribute(name) else None for name in names] for d in sample[field].detections]
    return [(*values, d.get_mask().tolist()) for values, d in zip(shown, sample[field].detections, strict=True)]


def test_what_is_too_large_is_read_tile_by_tile(slides: Any, model: FastSAM) -> None:
    whole = enrich(slides, "whole", model=model, **TILES)
    tiled = enrich(slides, "tiled", model=model, max_pixels=LIMIT, **TILES)
    assert (whole.done, tiled.done, tiled.failed) == (2, 1, 1)
    assert whole.digest == tiled.digest
    slide, picture = slides
    assert told(slide, "tiled") == told(slide, "whole")
    assert slide.tiled.detections[0].stability is not None
    assert picture.tiled is None
    assert "convert it to a TIFF file in tiles" in picture.tiled_error
    assert enrich(slides, "tiled", model=model, **TILES).done == 1


def test_prompts_are_answered_tile_by_tile(slides: Any, model: FastSAM) -> None:
    enrich(slides, "whole", model=model, **TILES)
    for sample in slides.iter_samples(autosave=True):
        boxes = [fo.Detection(label="x", bounding_box=d.bounding_box) for d in sample.whole.detections]
        sample["boxes"] = fo.Detections(detections=boxes)
    enrich(slides, "answers", model=model, box_prompt_field="boxes", **TILES)
    enrich(slides, "tiled", model=model, box_prompt_field="boxes", max_pixels=LIMIT, **TILES)
    slide = slides.first()
    assert all(answer.matched for answer in slide.tiled.detections)
    assert told(slide, "tiled") == told(slide, "answers")


def test_without_tiles_it_is_said_how_to_go_on(slides: Any, model: FastSAM) -> None:
    assert enrich(slides, "masks", model=model, max_pixels=LIMIT).failed == 2
    assert "--tile-px" in slides.first().masks_error
    with pytest.raises(InvalidParameterError, match="max_pixels"):
        EnrichOptions(max_pixels=0)


def test_maps_need_the_whole_image_and_say_so(slides: Any, model: FastSAM) -> None:
    assert enrich(slides, "masks", model=model, max_pixels=LIMIT, **TILES, output="map").failed == 2
    assert "Maps need the whole image" in slides.first().masks_error


@pytest.fixture
def encoder() -> TextEncoder:
    pytest.importorskip("open_clip", reason="open_clip is not installed; pip install 'fastsam-plugins[text]'")
    from fastsam_core.text import TextEncoder

    return TextEncoder.load("demo")


@pytest.fixture
def painted(make_dataset: Callable[..., Any], known_masks: Masks, tmp_path: Path) -> Any:
    """Return a dataset of one TIFF file in tiles, whose known masks are red and green by turns, on grey."""
    picture = np.full((*known_masks.image_hw, 3), 128, np.uint8)
    for i in np.argsort(-known_masks.areas_px):
        picture[known_masks.to_dense()[i]] = [(220, 30, 30), (30, 170, 40)][i % 2]
    slide = tmp_path / "slide.tif"
    tifffile.imwrite(slide, picture, tile=(16, 16), photometric="rgb")
    return make_dataset(paths=[slide])


@pytest.fixture
def regions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list of the sizes in pixels of what is read of large images."""
    sizes: list[int] = []
    read = LargePlane.read

    def recorded(self: LargePlane, region: tuple[int, int, int, int]) -> Any:
        y0, y1, x0, x1 = region
        sizes.append((y1 - y0) * (x1 - x0))
        return read(self, region)

    monkeypatch.setattr(LargePlane, "read", recorded)
    return sizes


def test_words_and_embeddings_read_what_is_around_each_mask(
    painted: Any, model: FastSAM, encoder: TextEncoder, regions: list[int]
) -> None:
    options: dict[str, Any] = {"model": model, "text_encoder": encoder, **TILES}
    words: dict[str, Any] = {"text": ["red", "green"], "embeddings": True}
    for field, limit in (("whole", None), ("tiled", LIMIT)):
        assert enrich(painted, field, max_pixels=limit, **words, **options).done == 1
        assert enrich(painted, f"{field}_vectors", max_pixels=limit, embeddings=True, **options).done == 1
    sample = painted.first()
    assert {d.label for d in sample.tiled.detections} == {"red", "green"}
    for field in ("", "_vectors"):
        assert told(sample, f"tiled{field}") == told(sample, f"whole{field}")
        tiled, whole = ([d.embedding for d in sample[f"{name}{field}"].detections] for name in ("tiled", "whole"))
        np.testing.assert_allclose(tiled, whole, atol=1e-6)
    masks = len(sample.tiled_vectors.detections)
    assert len(regions) == 2 * (2 + masks)  # two tiles, then each mask
    assert max(regions) < 96 * 128
    assert enrich(painted, "later", text="red", masks_field="tiled_vectors", model=model, text_encoder=encoder).done


def test_a_large_file_that_cannot_be_read_in_parts_has_no_words(
    make_dataset: Callable[..., Any], image_paths: list[Path], model: FastSAM, encoder: TextEncoder
) -> None:
    dataset = make_dataset(1)
    options: dict[str, Any] = {"text": "red", "text_encoder": encoder, **TILES}
    assert enrich(dataset, "masks", model=model, max_pixels=LIMIT, **options).failed == 1
    assert "convert it to a TIFF file in tiles" in dataset.first().masks_error


def test_a_model_reads_large_files_tile_by_tile(
    painted: Any, model: FastSAM, encoder: TextEncoder, regions: list[int]
) -> None:
    boxes = [fo.Detection(label="x", bounding_box=[0.2, 0.2, 0.5, 0.5])]
    painted.set_values("boxes", [fo.Detections(detections=boxes)])
    for field, limit in (("whole", None), ("tiled", LIMIT)):
        own = FastSAMModel(model, max_pixels=limit, **TILES)
        painted.apply_model(own, field, progress=False)
        painted.apply_model(own, f"{field}_boxes", box_prompt_field="boxes", progress=False)
        named = FastSAMModel(model, text=["red", "green"], text_encoder=encoder, max_pixels=limit, **TILES)
        painted.apply_model(named, f"{field}_words", progress=False)
        assert bool(regions) == (limit == LIMIT)
    sample = painted.first()
    for field in ("", "_boxes", "_words"):
        assert sample[f"tiled{field}"].detections
        assert told(sample, f"tiled{field}") == told(sample, f"whole{field}")
    assert max(regions) < 96 * 128


def test_a_model_without_tiles_leaves_large_files_out(
    painted: Any, model: FastSAM, caplog: pytest.LogCaptureFixture
) -> None:
    painted.apply_model(FastSAMModel(model, max_pixels=LIMIT), "masks", progress=False)
    assert not painted.has_field("masks")
    assert "slide.tif: " in caplog.text
    assert "--tile-px" in caplog.text
