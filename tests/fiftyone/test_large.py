"""Samples with more pixels than are read as a whole: a tile of them is in memory at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np
import pytest
import tifffile

from fastsam_core.errors import InvalidParameterError
from fiftyone_fastsam import EnrichOptions, enrich

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fastsam_core.model import FastSAM

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


@pytest.mark.parametrize("options", [{"output": "map"}, {"embeddings": True}])
def test_what_needs_the_whole_image_says_so(slides: Any, model: FastSAM, options: dict[str, Any]) -> None:
    assert enrich(slides, "masks", model=model, max_pixels=LIMIT, **TILES, **options).failed == 2
    assert "need the whole image" in slides.first().masks_error
