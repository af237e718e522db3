"""The loop: loss weighting, falling loss, exact resume, failures that lose nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from fastsam_core._processor import multiplies_bf16
from fastsam_core.checkpoints import load_checkpoint as load_weights
from fastsam_core.errors import CheckpointError, InvalidParameterError
from fastsam_core.training import export
from fastsam_core.training.batches import BatchStream, StreamConfig, split_batch
from fastsam_core.training.checkpoint import load_checkpoint, save_checkpoint
from fastsam_core.training.export import export_weights
from fastsam_core.training.loop import fit
from fastsam_core.training.loss import (
    SegmentationLoss,
    WeightedObjectness,
    anchor_weights,
    mask_threshold,
    neighbour_weight,
)
from fastsam_core.training.optimizers import has_muon
from fastsam_core.training.scenes import generate_scene
from fastsam_core.training.sources import LabelledImage
from fastsam_core.training.trainer import TrainConfig, Trainer, TrainingError, learning_rate_factor

if TYPE_CHECKING:
    from pathlib import Path

STREAM = StreamConfig(sizes=(64,), pixels=2 * 64 * 64, mosaic_share=0.0, paste_share=0.0)
CONFIG = TrainConfig(stream=STREAM, processes=1, warmup_steps=4, log_every=2)
needs_muon = pytest.mark.skipif(not has_muon(), reason="torch has Muon from 2.9 on")


@pytest.fixture(scope="module")
def stream() -> BatchStream:
    images = []
    for seed in range(4):
        scene = generate_scene(seed, (96, 96), "objects")
        weight = torch.full((96, 96), 255, dtype=torch.uint8).numpy()
        images.append(LabelledImage(scene.image, scene.layers, weight, "scene"))
    return BatchStream([], images, [], STREAM)


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.network.state_dict().items()}


def test_background_weight_scales_negatives_only() -> None:
    loss = WeightedObjectness()
    logits, targets = torch.zeros(1, 3, 1), torch.tensor([[[1.0], [0.0], [0.0]]])
    loss.anchor_weight = torch.tensor([[0.0, 0.0, 0.5]])
    assert torch.allclose(loss(logits, targets).flatten() / torch.log(torch.tensor(2.0)), torch.tensor([1.0, 0.0, 0.5]))


def test_anchor_weights_follow_the_levels() -> None:
    maps = torch.zeros(1, 16, 16)
    maps[:, :8] = 1
    values = anchor_weights(maps, [(8, 8), (4, 4), (2, 2)])
    assert values.shape == (1, 64 + 16 + 4)
    assert values[0, :32].eq(1).all()
    assert values[0, 32:64].eq(0).all()


@pytest.mark.parametrize("margin", [0.0, 0.25])
def test_mask_margin_teaches_what_is_beside_the_box(tmp_path: Path, margin: float) -> None:
    loss = Trainer(TrainConfig(processes=1, mask_margin=margin), tmp_path).loss
    box = torch.tensor([[4.0, 4.0, 12.0, 12.0]])
    target = torch.zeros(1, 16, 16)
    target[:, 4:12, 4:12] = 1
    beside = torch.full((1, 16, 16), -20.0)
    beside[:, 2:14, 2:14] = 20  # right inside the box, wrong around it
    right = torch.where(target > 0, 20.0, -20.0)
    values = [
        loss.mask_losses(target[None], torch.ones(1, 1, 1), proto[None], box[None], torch.ones(1, 1))[0]
        for proto in (beside, right)
    ]
    assert float(values[1]) < 1e-3
    assert (float(values[0]) > 1) == (margin > 0)


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_neighbours_pixels_weigh_more(tmp_path: Path, weight: float) -> None:
    loss = Trainer(TrainConfig(processes=1, mask_margin=0.5, neighbour_weight=weight), tmp_path).loss
    box = torch.tensor([[4.0, 4.0, 12.0, 12.0]])
    target = torch.zeros(1, 16, 16)
    target[:, 4:12, 4:12] = 1
    covered = target[0].clone()
    covered[4:12, :4] = 1  # a neighbour at the left, nothing at the right
    into_neighbour, into_nothing = (torch.where(target > 0, 20.0, -20.0) for _ in range(2))
    into_neighbour[:, 4:12, 1:4] = 20
    into_nothing[:, 4:12, 12:15] = 20
    values = [
        float(
            loss.mask_losses(
                *(target[None], torch.ones(1, 1, 1), proto[None], box[None], torch.ones(1, 1), covered[None])
            )[0]
        )
        for proto in (into_neighbour, into_nothing)
    ]
    assert values[0] == pytest.approx((1 + weight) * values[1], rel=1e-3)


def test_dice_falls_with_the_overlap_and_adds_to_the_mask_loss(tmp_path: Path) -> None:
    plain = Trainer(TrainConfig(processes=1), tmp_path).loss
    loss = Trainer(TrainConfig(processes=1, dice_weight=2.0), tmp_path).loss
    box = torch.tensor([[[4.0, 4.0, 12.0, 12.0]] * 2])
    target = torch.zeros(1, 2, 16, 16)
    target[..., 4:12, 4:12] = 1
    proto = torch.full((1, 2, 16, 16), -20.0)
    proto[:, 0, 4:12, 4:12] = proto[:, 1, 4:8, 4:12] = 20  # the whole and the upper half
    arguments = target, torch.eye(2)[None], proto, box, torch.ones(1, 2)
    (losses, dice), (cross_entropy, nothing) = loss.mask_losses(*arguments), plain.mask_losses(*arguments)
    assert nothing is None
    assert dice is not None
    torch.testing.assert_close(dice, torch.tensor([[1.0, (2 * 32 + 1) / (32 + 64 + 1)]]))
    torch.testing.assert_close(losses, cross_entropy + 2 * (1 - dice))


def test_scores_learn_what_their_masks_are_worth(tmp_path: Path) -> None:
    """Where scores are sure of everything, a mask's Dice is what they can lose, and what others lose is kept."""
    loss = Trainer(TrainConfig(processes=1, score_masks=True), tmp_path).loss
    loss.bce.anchor_weight = torch.ones(1, 3)
    logits, targets = torch.tensor([[[2.0], [2.0], [-20.0]]], requires_grad=True), torch.tensor([[[1.0], [1.0], [0.0]]])
    loss.bce(logits, targets)
    loss._score_loss(torch.tensor([[1.0, 0.5, 0.2]])).backward()
    slope = logits.grad
    assert slope is not None
    assert slope[0, 0] < 0 < slope[0, 1]
    assert float(slope[0, 2].abs()) < 1e-6


@pytest.mark.parametrize("drawn", [2, 100])
def test_dice_of_anchors_that_were_not_drawn_is_their_images_mean(tmp_path: Path, drawn: int) -> None:
    loss = Trainer(TrainConfig(processes=1, score_masks=True), tmp_path).loss
    loss.masks_per_image = drawn
    random = torch.Generator().manual_seed(0)
    masks, boxes = torch.zeros(1, 16, 16), torch.tensor([[8.0, 8.0, 48.0, 48.0]])
    masks[0, 2:12, 2:12] = 1
    positive = torch.tensor([[True] * 6 + [False] * 3])
    loss.calculate_segmentation_loss(
        *(positive, masks, torch.zeros(1, 9, dtype=torch.long), boxes.expand(1, 9, 4), torch.zeros(1, 1)),
        *(torch.randn(1, 32, 16, 16, generator=random), torch.randn(1, 9, 32, generator=random)),
        torch.tensor([64.0, 64.0]),
    )
    assert loss.mask_dice is not None
    dice = loss.mask_dice[0]
    assert ((dice > 0) & (dice < 1)).all()
    own = dice[:6].unique()
    assert len(own) == (6 if drawn == 100 else 3)  # with two drawn, theirs and the mean of both
    torch.testing.assert_close(dice[6], own.mean() if drawn == 100 else own.median())


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_mask_loss_is_the_base_classes_where_nothing_is_left_out(tmp_path: Path, weight: float) -> None:
    """Images with different numbers of objects and anchors, one without any; objects far apart."""
    loss = Trainer(TrainConfig(processes=1, neighbour_weight=weight), tmp_path).loss
    loss.masks_per_image = 100
    random = torch.Generator().manual_seed(0)
    counts = torch.tensor([2, 0, 1])
    masks = (torch.rand(3, 16, 16, generator=random) > 0.5).float()
    boxes = torch.tensor([[4.0, 4.0, 24.0, 28.0], [36.0, 32.0, 60.0, 60.0], [0.0, 8.0, 32.0, 40.0]])
    for mask, (x0, y0, x1, y1) in zip(masks, (boxes / 4).int().tolist(), strict=True):
        inside = torch.zeros(16, 16)
        inside[y0:y1, x0:x1] = 1
        mask *= inside
    first = counts.cumsum(0) - counts
    owners = torch.zeros(3, 12, dtype=torch.long)
    owners[0, 5:] = 1
    positive = torch.rand(3, 12, generator=random) > 0.4
    positive[1], positive[2, 6:] = False, False
    arguments = (
        *(positive, masks, owners, boxes[(first[:, None] + owners).clamp(max=2)], torch.tensor([[0.0], [0.0], [2.0]])),
        *(torch.randn(3, 32, 16, 16, generator=random), torch.randn(3, 12, 32, generator=random)),
        torch.tensor([64.0, 64.0]),
    )
    expected = super(SegmentationLoss, loss).calculate_segmentation_loss(*arguments)
    assert positive[0].sum() != positive[2].sum()
    torch.testing.assert_close(loss.calculate_segmentation_loss(*arguments), expected)


def test_loss_falls_on_one_batch(tmp_path: Path, stream: BatchStream) -> None:
    trainer = Trainer(CONFIG, tmp_path)
    batch = stream[0]
    losses = [float(trainer.train_step(batch).sum()) for _ in range(12)]
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


@pytest.mark.parametrize("present", [True, False])
def test_bf16_needs_instructions_for_matrices(monkeypatch: pytest.MonkeyPatch, present: bool) -> None:
    """Those for vectors alone make it slower than float32."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: present)
    assert multiplies_bf16() == present


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bf16_only_where_the_processor_multiplies_it(
    tmp_path: Path, stream: BatchStream, monkeypatch: pytest.MonkeyPatch, native: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr("fastsam_core.training.trainer.multiplies_bf16", lambda: native)
    trainer = Trainer(CONFIG, tmp_path)
    seen: set[torch.dtype] = set()
    first: Any = next(module for module in trainer.network.modules() if isinstance(module, torch.nn.Conv2d))
    first.register_forward_hook(lambda module, given, output: seen.add(output.dtype))
    assert torch.isfinite(trainer.train_step(stream[0])).all()
    assert seen == {dtype}


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("muon", marks=needs_muon)])
def test_resume_gives_the_same_weights(tmp_path: Path, stream: BatchStream, optimizer: Any) -> None:
    config = replace(CONFIG, optimizer=optimizer)
    straight = Trainer(config, tmp_path / "straight")
    for step in range(4):
        straight.train_step(stream[step])
    first = Trainer(config, tmp_path / "split")
    for step in range(2):
        first.train_step(stream[step])
    first.save()
    second = Trainer(config, tmp_path / "split")
    second.restore(tmp_path / "split" / "last.pt")
    for step in range(second.step, 4):
        second.train_step(stream[step])
    expected, found = weights(straight), weights(second)
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name
    assert all(torch.equal(value, second.ema[name]) for name, value in straight.ema.items())


def test_a_weights_file_is_gone_on_with(tmp_path: Path, stream: BatchStream) -> None:
    first = Trainer(CONFIG, tmp_path / "first")
    for step in range(3):
        first.train_step(stream[step])
    first.save()
    file = export_weights(tmp_path / "first" / "last.pt", tmp_path / "first.safetensors", {})
    second = Trainer(first.config, tmp_path / "second")
    second.continue_from(load_weights(file))
    assert (second.step, second.images) == (3, first.images)
    for name, value in first.ema.items():
        if value.is_floating_point():
            torch.testing.assert_close(second.ema[name], value.half().float(), rtol=0, atol=0)
    rates = []
    for step in range(3, 6):
        second.train_step(stream[step])
        rates.append(second.optimizer.param_groups[0]["lr"] / CONFIG.learning_rate)
    assert rates == pytest.approx([0.25, 0.5, 0.75])  # a new optimiser warms up
    second.save()
    third = Trainer(first.config, tmp_path / "third")
    third.restore(tmp_path / "second" / "last.pt")
    third.train_step(stream[6])
    assert third.optimizer.param_groups[0]["lr"] == pytest.approx(CONFIG.learning_rate)
    with pytest.raises(CheckpointError, match="belongs to another network"):
        Trainer(replace(CONFIG, reg_max=26), tmp_path).continue_from(load_weights(file))


def test_fit_with_helper_logs_and_saves(tmp_path: Path, stream: BatchStream) -> None:
    config = replace(CONFIG, processes=2)
    shared = BatchStream([], stream.scenes, [], STREAM, shards=2)
    trainer = Trainer(config, tmp_path)
    trainer.anneal(2)
    assert trainer.annealing
    fit([trainer], shared, last_step=10)
    assert not trainer.annealing
    state = load_checkpoint(tmp_path / "last.pt")
    assert state["step"] == 2
    assert state["images"] == 2 * 2 * 2
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 2


def test_the_log_of_a_killed_run_goes_on_at_its_checkpoint(tmp_path: Path, stream: BatchStream) -> None:
    config = replace(CONFIG, log_every=1)
    fit([Trainer(config, tmp_path)], stream, last_step=2)
    log = tmp_path / "log.csv"
    before = log.read_text()
    with log.open("a") as file:
        file.write("3,6,0.1,0.1,1,1,1,1\n4,8")  # written after the checkpoint
    resumed = Trainer(config, tmp_path)
    resumed.restore(tmp_path / "last.pt")
    fit([resumed], stream, last_step=4)
    after = log.read_text()
    assert after.startswith(before)
    assert [line.split(",")[0] for line in after.splitlines()] == ["step", "1", "2", "3", "4"]


def test_gradients_of_micro_batches_are_averaged(tmp_path: Path, stream: BatchStream) -> None:
    batch = stream[0]
    assert len(batch["img"]) == 2

    def gradients(micro_batch: int, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        config = replace(CONFIG, micro_batch=micro_batch, freeze_norm=True)
        trainer = Trainer(config, tmp_path)
        trainer.bf16 = False
        trainer.backward(batch, 0)
        return [p.grad.clone() for p in trainer.network.parameters() if p.grad is not None]

    whole = gradients(2, batch)
    assert all(torch.equal(a, b) for a, b in zip(whole, gradients(0, batch), strict=True))
    halves = [gradients(0, piece) for piece in split_batch(batch, 1)]
    for first, second, accumulated in zip(*halves, gradients(1, batch), strict=True):
        torch.testing.assert_close(accumulated, (first + second) / 2, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("least", "learns"), [(2, True), (3, False)])
def test_small_batches_of_a_decay_keep_the_statistics(
    tmp_path: Path, stream: BatchStream, monkeypatch: pytest.MonkeyPatch, least: int, learns: bool
) -> None:
    monkeypatch.setattr("fastsam_core.training.trainer.FEW_IMAGES", least)
    trainer = Trainer(CONFIG, tmp_path)
    trainer.anneal(2)
    before = weights(trainer)["model.0.bn.running_mean"]
    assert len(stream[0]["img"]) == 2
    trainer.train_step(stream[0])
    assert torch.equal(before, weights(trainer)["model.0.bn.running_mean"]) != learns


def test_the_decay_can_begin_later(tmp_path: Path) -> None:
    trainer = Trainer(CONFIG, tmp_path)
    trainer.anneal(10, hold_steps=5)
    assert trainer.annealing
    rates = [learning_rate_factor(step, 0, trainer.anneal_start, trainer.anneal_steps) for step in (4, 5, 10, 15)]
    assert rates == pytest.approx([1, 1, 1 - 0.5**0.5, 0])


def test_not_finite_loss_stops_and_keeps_weights(tmp_path: Path, stream: BatchStream) -> None:
    trainer = Trainer(CONFIG, tmp_path)
    with torch.no_grad():
        next(iter(trainer.network.parameters())).fill_(float("nan"))
    before = trainer.ema["model.0.conv.weight"].clone()
    with pytest.raises(TrainingError, match="not finite at step 0"):
        trainer.train_step(stream[0])
    assert torch.equal(trainer.ema["model.0.conv.weight"], before)


def test_full_disk_keeps_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(CONFIG, tmp_path)
    trainer.save()
    content = (tmp_path / "last.pt").read_bytes()

    def full(state: Any, stream: Any) -> None:
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        trainer.save()
    assert (tmp_path / "last.pt").read_bytes() == content
    assert list(tmp_path.iterdir()) == [tmp_path / "last.pt"]


def test_foreign_checkpoints_are_refused(tmp_path: Path) -> None:
    (tmp_path / "noise.pt").write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match=r"noise\.pt cannot be read"):
        load_checkpoint(tmp_path / "noise.pt")
    save_checkpoint(tmp_path / "other.pt", {"step": 1})
    with pytest.raises(CheckpointError, match="is not a training checkpoint"):
        load_checkpoint(tmp_path / "other.pt")
    trainer = Trainer(CONFIG, tmp_path)
    save_checkpoint(tmp_path / "big.pt", {**trainer.state(), "config": {"architecture": "yolov8x-seg"}})
    with pytest.raises(CheckpointError, match=r"big\.pt belongs to another network"):
        trainer.restore(tmp_path / "big.pt")


def test_schedule_warms_up_holds_and_decays() -> None:
    assert learning_rate_factor(0, 10, None, 0) == pytest.approx(0.1)
    assert learning_rate_factor(500, 10, None, 0) == 1.0
    assert learning_rate_factor(500, 10, 500, 100) == 1.0
    assert learning_rate_factor(525, 10, 500, 100) == pytest.approx(0.5)
    assert learning_rate_factor(600, 10, 500, 100) == 0.0


def test_export_loads_in_the_program(tmp_path: Path) -> None:
    from fastsam_core.checkpoints import load_checkpoint as load_weights

    trainer = Trainer(CONFIG, tmp_path)
    trainer.save()
    path = export_weights(
        tmp_path / "last.pt", tmp_path / "w.safetensors", {"imgsz": "512", "conf": "0.3", "iou": "0.7"}
    )
    assert path.stat().st_size < 8_000_000
    loaded = load_weights(path)
    assert loaded.info.architecture == "yolov8n-seg"
    assert (loaded.info.imgsz, loaded.info.conf, loaded.info.iou) == (512, 0.3, 0.7)
    assert (loaded.info.mask_threshold, loaded.info.mask_margin, loaded.info.cut_penalty) == (0.5, 0, 0)


def test_export_tells_how_masks_of_a_weighted_loss_are_cut(tmp_path: Path) -> None:
    from fastsam_core.checkpoints import load_checkpoint as load_weights

    Trainer(replace(CONFIG, neighbour_weight=2.0, mask_margin=0.4), tmp_path).save()
    info = load_weights(export_weights(tmp_path / "last.pt", tmp_path / "w.safetensors", {"cut_penalty": "4"})).info
    assert (info.mask_threshold, info.mask_margin, info.cut_penalty) == (0.25, 0.4, 4)
    assert neighbour_weight(info.mask_threshold) == pytest.approx(2)
    assert neighbour_weight(mask_threshold(0)) == 0
    assert (info.details["dice_weight"], info.details["score_masks"]) == ("0", "0")
    Trainer(replace(CONFIG, dice_weight=1.5, score_masks=True), tmp_path).save()
    info = load_weights(
        export_weights(tmp_path / "last.pt", tmp_path / "w.safetensors", {"threshold_share": "0.8"})
    ).info
    assert (info.details["dice_weight"], info.details["score_masks"]) == ("1.5", "1")
    assert info.threshold_share == 0.8


def test_export_averages_with_an_earlier_stage(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    trainer = Trainer(CONFIG, tmp_path)
    paths = []
    for stage, value in (("earlier", 1.0), ("later", 3.0)):
        trainer.ema = {
            name: torch.full_like(weight, value) if weight.is_floating_point() else weight
            for name, weight in trainer.ema.items()
        }
        trainer.save(f"{stage}.pt")
        paths.append(tmp_path / f"{stage}.pt")
    earlier, later = paths
    blended = export_weights(later, tmp_path / "w.safetensors", {}, earlier, 0.25)
    assert {float(weight.unique()) for weight in load_file(blended).values()} == {2.5}
    of_a_file = export_weights(later, tmp_path / "v.safetensors", {}, blended, 0.5)
    assert {float(weight.unique()) for weight in load_file(of_a_file).values()} == {2.75}
    of_a_model = export_weights(later, tmp_path / "u.safetensors", {}, "builtin", 1.0)
    builtin = load_weights("builtin").module.state_dict()
    assert all(torch.equal(weight, builtin[name].half()) for name, weight in load_file(of_a_model).items())
    with pytest.raises(InvalidParameterError, match="from 0 to 1"):
        export_weights(later, tmp_path / "w.safetensors", {}, earlier, 1.5)
    state = load_checkpoint(earlier)
    state["ema"].popitem()
    save_checkpoint(earlier, state)
    with pytest.raises(CheckpointError, match="different networks"):
        export_weights(later, tmp_path / "w.safetensors", {}, earlier)


def test_export_tells_that_sizes_follow_the_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Trainer(CONFIG, tmp_path).save()
    file = tmp_path / "a.safetensors"
    sizes = ["--imgsz", "640,384"]
    for more, adaptive in (([], False), (["--adaptive"], True)):
        monkeypatch.setattr("sys.argv", ["export", str(tmp_path / "last.pt"), str(file), *sizes, *more])
        export.main()
        info = load_weights(file).info
        assert (info.imgsz, info.adaptive) == ((640, 384), adaptive)


@pytest.mark.parametrize(
    "wrong", [("--conf", "0,2"), ("--iou", "2"), ("--mask-threshold", "nan"), ("--imgsz", "640x384"), ("--imgsz", "")]
)
def test_export_writes_no_file_that_cannot_be_loaded(
    wrong: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Trainer(CONFIG, tmp_path).save()
    file = tmp_path / "a.safetensors"
    monkeypatch.setattr("sys.argv", ["export", str(tmp_path / "last.pt"), str(file), *wrong])
    with pytest.raises(SystemExit):
        export.main()
    assert f"argument {wrong[0]}: expected" in capsys.readouterr().err
    assert not file.exists()


def test_export_does_not_forget_an_average_it_cannot_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights_file = tmp_path / "a.safetensors"
    monkeypatch.setattr("sys.argv", ["export", str(weights_file), str(tmp_path / "b.safetensors"), "--blend", "c.pt"])
    with pytest.raises(SystemExit):
        export.main()
    assert "wants a checkpoint (.pt) as source" in capsys.readouterr().err
