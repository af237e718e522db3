"""From labelled images to network targets."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from fastsam_core.training.batches import (
    BatchStream,
    Pool,
    StreamConfig,
    as_used,
    collate,
    instance_targets,
    split_batch,
)
from fastsam_core.training.geometric import crop_resize, cutouts, mosaic, orient, paste, random_window, rotate
from fastsam_core.training.photometric import jitter
from fastsam_core.training.sources import (
    SOURCES,
    Domain,
    LabelledImage,
    SourceSpec,
    load_source,
    split_of,
    stack_layers,
)

if TYPE_CHECKING:
    from pathlib import Path

RNG = np.random.default_rng(0)
SPEC = SourceSpec("generated", 1.0, 0.5, "photo", partial=True)


def sample(side: int = 64, weight: int = 10) -> LabelledImage:
    """Two squares side by side, one with a part inside."""
    image = np.full((side, side, 3), 90, np.uint8)
    layers = np.zeros((2, side, side), np.uint16)
    layers[0, 8:24, 8:24] = 1
    layers[0, 32:56, 32:56] = 2
    layers[1, 36:44, 36:44] = 3
    image[layers[0] > 0] = 200
    return LabelledImage(image, layers, np.full((side, side), weight, np.uint8), "generated", "a")


def test_targets_are_exact() -> None:
    boxes, masks, ignored = instance_targets(sample().layers, 10, np.random.default_rng(0))
    order = np.argsort(boxes[:, 0])
    assert boxes[order].tolist() == [[8, 8, 24, 24], [32, 32, 56, 56], [36, 36, 44, 44]]
    assert masks.shape == (3, 16, 16)
    assert (masks[order].sum((1, 2), dtype=int) == [16 * 16, 24 * 24, 8 * 8]).all()
    assert not ignored.any()


def test_left_out_instances_are_ignored_not_background() -> None:
    batch = collate([sample()], 1, np.random.default_rng(0))
    assert len(batch["bboxes"]) == 1
    weight = batch["weight"][0].numpy()
    assert (weight == 0).any()
    assert set(np.unique(weight).tolist()) <= {0, 10, 255}


def test_small_remnants_are_ignored() -> None:
    layers = np.zeros((1, 32, 32), np.uint16)
    layers[0, 0, :3] = 1
    boxes, _, ignored = instance_targets(layers, 10, np.random.default_rng(0))
    assert len(boxes) == 0
    assert ignored.sum() == 3


def test_guessed_regions_are_targets_but_not_background() -> None:
    guessed = np.zeros((1, 64, 64), np.uint16)
    guessed[0, 4:60, 4:60] = 9
    plain = sample()
    batch = collate(
        [replace(plain, layers=np.concatenate([plain.layers, guessed]), guessed=1)], 10, np.random.default_rng(0)
    )
    assert len(batch["bboxes"]) == 4
    np.testing.assert_array_equal(batch["weight"], collate([plain], 10, np.random.default_rng(0))["weight"])


def test_transforms_keep_guessed_layers_apart() -> None:
    guessed = replace(sample(32), layers=sample(32).layers, guessed=1)
    assert len(guessed.annotated) == 1
    turned = rotate(orient(crop_resize(guessed, (0, 0, 32, 32), (32, 32)), RNG, quarter_turns=True), 10)
    assert turned.guessed == 1
    deep = replace(sample(), guessed=1)
    joined = mosaic([sample(), deep, sample(), deep])
    assert (len(joined.annotated), joined.guessed) == (2, 1)
    assert not joined.layers[2, :, :64].any()
    assert joined.layers[2, :, 64:].any()
    assert len(cutouts([deep], min_side=4)) == 2


def test_collate_shapes() -> None:
    batch = collate([sample(), sample()], 10, np.random.default_rng(0))
    assert batch["img"].shape == (2, 3, 64, 64)
    assert batch["img"].dtype == torch.uint8
    assert batch["batch_idx"].tolist() == [0, 0, 0, 1, 1, 1]
    assert batch["weight"].shape == (2, 16, 16)
    assert bool(((batch["bboxes"] > 0) & (batch["bboxes"] < 1)).all())


def test_collate_without_instances() -> None:
    empty = LabelledImage(
        np.zeros((32, 32, 3), np.uint8), np.zeros((1, 32, 32), np.uint16), np.ones((32, 32), np.uint8)
    )
    batch = collate([empty], 10, np.random.default_rng(0))
    assert batch["bboxes"].shape == (0, 4)
    assert batch["masks"].shape == (0, 8, 8)


def stream(shards: int = 1) -> BatchStream:
    images = [sample(), sample(96)]
    config = StreamConfig(sizes=(64, 96), pixels=4 * 64 * 64, seed=3)
    return BatchStream([Pool(SPEC, images)], images, cutouts(images, 8), config, shards)


@pytest.mark.parametrize("images", [1, 2, 3, 5])
def test_pieces_of_a_batch_hold_all_of_it(images: int) -> None:
    empty = replace(sample(), layers=np.zeros((1, 64, 64), np.uint16))
    batch = collate([sample(), empty, sample(), sample()], 10, np.random.default_rng(0))
    pieces = list(split_batch(batch, images))
    assert [len(piece["img"]) for piece in pieces] == [images] * (4 // images) + [4 % images] * (4 % images > 0)
    for name in set(batch) - {"batch_idx"}:
        assert torch.equal(torch.cat([piece[name] for piece in pieces]), batch[name]), name
    owners = [piece["batch_idx"] + first * images for first, piece in enumerate(pieces)]
    assert torch.equal(torch.cat(owners), batch["batch_idx"])


def test_stream_is_a_function_of_the_step() -> None:
    first, again = stream()[7], stream()[7]
    for name, value in first.items():
        assert torch.equal(value, again[name])
    assert not torch.equal(first["img"].float().mean((0, 2, 3)), stream()[8]["img"].float().mean((0, 2, 3)))


def test_shards_of_a_step_share_the_size_only() -> None:
    halves = stream(2)
    for step in range(4):
        left, right = halves[2 * step]["img"], halves[2 * step + 1]["img"]
        assert left.shape[-1] == right.shape[-1]
        assert left.shape != right.shape or not torch.equal(left, right)


def test_crop_of_everything_changes_nothing() -> None:
    whole = crop_resize(sample(), (0, 0, 64, 64), (64, 64))
    assert np.array_equal(whole.image, sample().image)
    assert np.array_equal(whole.layers, sample().layers)


def test_outside_is_padding_and_surely_background() -> None:
    wide = crop_resize(sample(), (-64, 0, 64, 64), (64, 128))
    assert (wide.image[:, :64] == 114).all()
    assert (wide.weight[:, :64] == 255).all()
    assert np.array_equal(wide.layers[:, :, 64:], sample().layers)


@pytest.mark.parametrize("seed", range(20))
def test_windows_and_turns_keep_shape_and_ids(seed: int) -> None:
    rng = np.random.default_rng(seed)
    window = random_window(sample(), rng, (64, 96), partial=True, whole_share=0.3)
    assert window[2] > window[0]
    assert window[3] > window[1]
    view = rotate(orient(crop_resize(sample(), window, (64, 96)), rng, quarter_turns=False), 17.0)
    assert view.image.shape == (64, 96, 3)
    assert set(np.unique(view.layers).tolist()) <= {0, 1, 2, 3}


def test_mosaic_keeps_instances_apart() -> None:
    joined = mosaic([sample() for _ in range(4)])
    assert joined.image.shape == (128, 128, 3)
    assert len(np.unique(joined.layers)) == 1 + 4 * 3


def test_paste_hides_what_is_below() -> None:
    target = sample(128)
    target.layers[0] = 1
    objects = cutouts([sample()], 8)
    assert len(objects) == 3
    before = target.image.copy()
    for seed in range(8):
        paste(target, objects[0], np.random.default_rng(seed))
    pasted = target.layers[0] > 1
    assert pasted.any()
    assert not (target.layers[1][pasted] > 0).any()
    assert (target.image != before)[pasted].any()


@pytest.mark.parametrize("domain", ["photo", "micro"])
def test_jitter_keeps_shape(domain: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    for seed in range(30):
        changed = jitter(image, np.random.default_rng(seed), "micro" if domain == "micro" else "photo")
        assert changed.shape == image.shape
        assert changed.dtype == np.uint8


def test_nested_masks_get_their_own_layer() -> None:
    whole, part, other = np.zeros((3, 20, 20), bool)
    whole[2:12, 2:12] = part[4:8, 4:8] = other[2:12, 12:18] = True
    layers = stack_layers([part, whole, other], (20, 20))
    assert len(layers) == 2
    assert sorted(np.bincount(layers.ravel())[1:].tolist()) == [16, 60, 100]


def test_split_is_fixed_and_whole_sources_are_held_out() -> None:
    by_name = {spec.name: spec for spec in SOURCES}
    stems = [f"image{number}" for number in range(500)]
    share = np.mean([split_of(by_name["dsb2018"], stem) == "val" for stem in stems])
    assert 0.07 < share < 0.18
    assert {split_of(by_name["fruits_nuts"], stem) for stem in stems} == {"val"}
    assert [split_of(by_name["dsb2018"], stem) for stem in stems[:6]] == [
        split_of(by_name["dsb2018"], stem) for stem in stems[:6]
    ]


def test_clicks_of_a_brush_are_neither_learnt_nor_background(tmp_path: Path) -> None:
    [spec] = [spec for spec in SOURCES if spec.clicks]
    assert spec.name == "dsb2018"
    folder = tmp_path / spec.name
    stems = {split_of(spec, f"a{number}"): f"a{number}" for number in range(100)}
    disc = np.ones((5, 5), np.uint16)
    disc[::4, ::4] = 0
    labels = np.zeros((64, 64), np.uint16)
    labels[8:13, 8:13] = disc
    labels[8:13, 30:35] = 2  # a square
    labels[40:45, 40:45] = 3 * disc
    labels[42, 45] = 3  # a disc, and a pixel more
    labels[50:55, 4:9] = 4 * disc
    for part, pixels in (("images", np.zeros_like(labels, np.uint8)), ("masks", labels)):
        (folder / part).mkdir(parents=True)
        for stem in stems.values():
            Image.fromarray(pixels).save(folder / part / f"{stem}.png")
    [learnt], [checked] = load_source(tmp_path, spec, "train"), load_source(tmp_path, spec, "val")
    assert np.array_equal(checked.layers[0], labels)
    clicked = np.isin(labels, (1, 4))
    assert np.array_equal(learnt.layers[0], np.where(clicked, 0, labels))
    assert np.array_equal(learnt.weight, np.where(clicked, 0, 255))
    batch = collate([learnt], 10, RNG)
    assert len(batch["bboxes"]) == 2
    assert batch["weight"][0, 2, 2] == 0


@pytest.mark.parametrize(("domain", "ways"), [("photo", 2), ("micro", 8)])
def test_plain_pictures_are_whole_and_only_turned_or_mirrored(domain: Domain, ways: int) -> None:
    wide = crop_resize(sample(), (0, 8, 64, 56), (48, 64))
    pool = Pool(replace(SPEC, domain=domain), [wide])
    plain = BatchStream([pool], [], [], as_used(StreamConfig(), plain_share=1.0))
    whole = crop_resize(wide, (0, -8, 64, 56), (64, 64))
    turned = [
        tuple(np.rot90(plane, turns, (-2, -1)) for plane in (whole.layers[..., ::step], whole.weight[..., ::step]))
        for step in (1, -1)
        for turns in (range(4) if domain == "micro" else (0,))
    ]
    assert len(turned) == ways
    seen = set()
    for seed in range(60):
        view = plain.sample(np.random.default_rng(seed), 64)
        alike = [
            np.array_equal(view.layers, layers) and np.array_equal(view.weight, weight) for layers, weight in turned
        ]
        assert any(alike)
        assert set(np.unique(view.image)) <= set(np.unique(whole.image))
        seen.add(alike.index(True))
    assert len(seen) == ways
