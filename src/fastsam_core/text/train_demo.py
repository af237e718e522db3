"""Train the demonstration encoder: ``python -m fastsam_core.text.train_demo --data FOLDER --run FOLDER``.

A tiny model in open_clip's format (CLIP, Radford et al. 2021, arXiv 2103.00020) learns which of a few hundred phrases
are true of a crop. Several phrases are true at once, so the loss is the pairwise sigmoid of SigLIP (Zhai et al. 2023,
arXiv 2303.15343) together with CLIP's softmax in both directions, taken over all true pairs. Pairs whose truth is not
known take no part. A run continues from its last checkpoint.
"""

from __future__ import annotations

import argparse
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import open_clip
import torch
from torch.nn import functional

from fastsam_core.text.demo_data import CropBank, crops_of_scenes, crops_of_sources
from fastsam_core.text.demo_words import COLOURS, TEMPLATES, Phrase, all_phrases, phrase_truth
from fastsam_core.training.checkpoint import load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastsam_core.text.crops import Background

_LOGGER = logging.getLogger("fastsam_core.text.train_demo")

SIZE_PX: Final = 64
MODEL_CONFIG: Final[dict[str, Any]] = {
    "embed_dim": 96,
    "init_logit_bias": -4.0,
    "vision_cfg": {"layers": [1, 2, 2, 1], "width": 16, "head_width": 64, "image_size": SIZE_PX},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
PREPROCESS_CONFIG: Final[dict[str, Any]] = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "interpolation": "bicubic",
    "resize_mode": "squash",
}
_BACKGROUNDS: Final[tuple[Background, ...]] = ("grey", "keep", "blur", "white", "black")
_BACKGROUND_SHARES: Final = (0.4, 0.25, 0.15, 0.1, 0.1)
_SCENES_SHARE: Final = 0.45
_RANDOM_PHRASES: Final = 64


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Settings of a run.

    Parameters
    ----------
    batch : int
        Crops of a step.
    learning_rate, weight_decay : float
        Of AdamW; the rate warms up, then falls by a cosine over the length of the run.
    steps : int
        Most steps.
    minutes : float
        Longest time of training, earlier parts of a resumed run included; the run ends with what comes first.
    seed : int
        Of everything drawn at random.
    """

    batch: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    steps: int = 6000
    minutes: float = math.inf
    seed: int = 0


class DemoTrainer:
    """A model, its running mean, and the step it has come to."""

    def __init__(self, settings: TrainSettings) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.model = open_clip.CLIP(**MODEL_CONFIG).to(memory_format=torch.channels_last)
        self.tokenizer = open_clip.SimpleTokenizer(context_length=MODEL_CONFIG["text_cfg"]["context_length"])
        self.phrases = all_phrases()
        self.ema = {name: value.clone() for name, value in self.model.state_dict().items()}
        decayed = [p for p in self.model.parameters() if p.ndim >= 2]
        others = [p for p in self.model.parameters() if p.ndim < 2]
        groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98))
        self.step = 0
        self.seconds = 0.0

    def save(self, path: Path) -> None:
        """Write everything a run needs to go on."""
        state = {
            "config": {"settings": {name: getattr(self.settings, name) for name in self.settings.__slots__}},
            "network": self.model.state_dict(),
            "ema": self.ema,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "train_seconds": self.seconds,
        }
        save_checkpoint(path, state)

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint.

        Raises
        ------
        CheckpointError
            If it is damaged or not one.
        """
        state = load_checkpoint(path)
        self.model.load_state_dict(state["network"])
        self.ema = state["ema"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["train_seconds"]

    @property
    def progress(self) -> float:
        """Share of the run that is done."""
        return max(self.step / self.settings.steps, self.seconds / 60 / self.settings.minutes)

    def fit(self, bank: CropBank, run: Path) -> None:
        """Train to the end of the run; checkpoints go to the folder ``run``."""
        sampler = _Sampler(bank)
        self.model.train()
        started, logged = time.time() - self.seconds, time.time()
        while self.progress < 1:
            rng = np.random.default_rng((self.settings.seed, self.step))
            loss = self._one_step(bank, sampler.draw(self.settings.batch, rng), rng)
            self.step += 1
            self.seconds = time.time() - started
            if self.step % 50 == 0:
                rate = 50 / (time.time() - logged)
                logged = time.time()
                _LOGGER.info("step %d loss %.3f, %.1f steps/s", self.step, loss, rate)
            if self.step % 250 == 0:
                self.save(run / "last.pt")
        self.save(run / "last.pt")

    def _one_step(self, bank: CropBank, chosen: NDArray[np.int64], rng: np.random.Generator) -> float:
        pictures = np.stack([bank.view(int(i), SIZE_PX, _draw_background(rng), rng) for i in chosen])
        mean, std = (np.float32(PREPROCESS_CONFIG[name][0]) for name in ("mean", "std"))
        pixels = torch.from_numpy((pictures.astype(np.float32) / 255 - mean) / std).permute(0, 3, 1, 2)
        shown = bank.shown[chosen]
        phrases = self._draw_phrases(shown, rng)
        truth = torch.from_numpy(phrase_truth(shown, phrases))
        texts = [str(rng.choice(TEMPLATES)).format(phrase.words) for phrase in phrases]
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * self._schedule()
        with torch.autocast("cpu", torch.bfloat16):
            images = self.model.encode_image(pixels)
        images = functional.normalize(images.float(), dim=-1)
        words = self.model.encode_text(self.tokenizer(texts), normalize=True)
        loss = pair_loss(images @ words.T, truth, self.model.logit_scale.exp(), self.model.logit_bias)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, math.log(100))
            keep = min(0.998, (1 + self.step) / (10 + self.step))
            for name, value in self.model.state_dict().items():
                if value.is_floating_point():
                    self.ema[name].lerp_(value, 1 - keep)
                else:
                    self.ema[name].copy_(value)
        return float(loss.detach())

    def _schedule(self) -> float:
        warm = min(1.0, (self.step + 1) / 200)
        return warm * max(0.01, 0.5 * (1 + math.cos(math.pi * min(1.0, self.progress))))

    def _draw_phrases(self, shown: NDArray[np.int8], rng: np.random.Generator) -> list[Phrase]:
        """Choose one true phrase for each crop that has one, and some at random; each only once."""
        truth = phrase_truth(shown, self.phrases) == 1
        picked = {int(rng.choice(np.flatnonzero(row))) for row in truth if row.any()}
        picked.update(rng.choice(len(self.phrases), _RANDOM_PHRASES, replace=False).tolist())
        return [self.phrases[number] for number in sorted(picked)]


class _Sampler:
    """Draws crops so that scenes, sources, and the colours of scenes come in fixed shares."""

    def __init__(self, bank: CropBank) -> None:
        scenes = bank.group == bank.group.max()
        self._scenes = np.flatnonzero(scenes)
        self._sources = [np.flatnonzero(bank.group == group) for group in np.unique(bank.group[~scenes])]
        named = [(bank.shown[rows, len(COLOURS) :] == 1).any() for rows in self._sources]
        weights = np.sqrt([len(rows) for rows in self._sources]) * np.where(named, 1.0, 0.5)
        self._shares = weights / weights.sum()

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        from_scenes = rng.binomial(count, _SCENES_SHARE)
        sources = rng.choice(len(self._sources), count - from_scenes, p=self._shares)
        real = [int(rng.choice(self._sources[source])) for source in sources]
        return np.concatenate([rng.choice(self._scenes, from_scenes), np.array(real, np.int64)])


def _draw_background(rng: np.random.Generator) -> Background:
    return _BACKGROUNDS[int(rng.choice(len(_BACKGROUNDS), p=_BACKGROUND_SHARES))]


def pair_loss(cosines: torch.Tensor, truth: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return the loss of crops against phrases.

    Parameters
    ----------
    cosines : Tensor, shape (B, T)
        Similarities.
    truth : Tensor of int8, shape (B, T)
        1, 0, or -1 where the truth is not known.
    scale, bias : Tensor
        Of the logits.
    """
    logits = scale * cosines
    true, known = truth == 1, truth >= 0
    signs = torch.where(true, 1.0, -1.0)
    pairs = -functional.logsigmoid(signs * (logits + bias))
    sigmoid = pairs[true].mean() + pairs[known & ~true].mean()
    hidden = logits.masked_fill(~known, -1e4)
    of_true = hidden.masked_fill(~true, -1e4)
    softmax = hidden.new_zeros(())
    for axis in (0, 1):
        rows = true.any(axis)
        found = hidden.logsumexp(axis) - of_true.logsumexp(axis)
        softmax = softmax + found[rows].mean()
    return sigmoid + 0.5 * softmax


def main() -> None:
    """Run the training that the command line asks for."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(prog="python -m fastsam_core.text.train_demo", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of labelled sources")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--scenes", type=int, default=1500, help="generated scenes")
    parser.add_argument("--crops", type=int, default=900, help="crops of one source")
    parser.add_argument("--steps", type=int, default=TrainSettings().steps)
    parser.add_argument("--minutes", type=float, default=math.inf, help="longest time of training")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    import cv2

    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(1)
    settings = TrainSettings(steps=arguments.steps, minutes=arguments.minutes, seed=arguments.seed)
    trainer = DemoTrainer(settings)
    if (arguments.run / "last.pt").is_file():
        trainer.restore(arguments.run / "last.pt")
        _LOGGER.info("resumed at step %d", trainer.step)
    stored = arguments.run / "crops.npz"
    if stored.is_file():
        bank = CropBank.load(stored)
    else:
        banks = crops_of_sources(arguments.data, "train", arguments.crops, arguments.seed)
        bank = CropBank.joined([*banks, crops_of_scenes(range(arguments.scenes))])
        bank.save(stored)
    _LOGGER.info("%d crops: %s", len(bank), bank.summary())
    trainer.fit(bank, arguments.run)


if __name__ == "__main__":
    from fastsam_core.cli._console import run_module

    run_module(main)
