"""``fastsam train`` and ``fastsam finetune``: a network of one's own, and a model adapted to one's own images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fastsam_core.cli._console import console, guarded, printable
from fastsam_core.cli._options import DebugOption, OverwriteOption, TrustOption
from fastsam_core.errors import OutputError

__all__ = ["finetune", "train"]


def train(
    data: Annotated[Path, typer.Option("--data", "-d", help="Converted data set, or a data.yaml of one class.")],
    run: Annotated[Path, typer.Option("--run", help="Folder for checkpoints, logs and best.safetensors.")] = Path(
        "runs/train"
    ),
    recipe: Annotated[str, typer.Option("--recipe", help="paper or small.")] = "small",
    network: Annotated[str | None, typer.Option("--network", "-n", help="n, s, m, l or x.")] = None,
    imgsz: Annotated[int | None, typer.Option("--imgsz", min=32, help="Long side of the images, px.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Passes over the data.")] = None,
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="Images a step, over all devices.")] = None,
    patience: Annotated[
        int | None, typer.Option("--patience", min=1, help="Epochs without a better recall before it stops.")
    ] = None,
    reg_max: Annotated[int | None, typer.Option("--reg-max", min=2, help="Bins of box distances (paper: 26).")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, 0, or 0,1 for several GPUs.")] = "auto",
    workers: Annotated[int, typer.Option("--workers", min=0, help="Loading processes for each device.")] = 1,
    seed: Annotated[int, typer.Option("--seed", help="Of weights and batches.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run after its last whole epoch.")] = False,
    debug: DebugOption = False,
) -> None:
    """Train a network of one class from scratch with Ultralytics' trainer; exports safetensors with thresholds."""
    with guarded(debug=debug):
        from fastsam_core.training.ultralytics_run import TrainRequest
        from fastsam_core.training.ultralytics_run import train as train_network

        request = TrainRequest(
            data=data,
            run=run,
            recipe=recipe,
            network=network,
            imgsz=imgsz,
            epochs=epochs,
            batch=batch,
            patience=patience,
            reg_max=reg_max,
            device=device,
            workers=workers,
            seed=seed,
        )
        try:
            path = train_network(request, resume=resume)
        except KeyboardInterrupt:
            if (run / "ultralytics" / "weights" / "last.pt").is_file():
                console().print(f"stopped; to continue after the last whole epoch: --run {printable(run)} --resume")
            raise
        console().print(f"written: {printable(path)}\nuse it: fastsam segment --model {printable(path)} IMAGE")


def finetune(
    labels: Annotated[
        Path,
        typer.Option(
            "--labels", "-l", help="Folder of images/ and masks/ (label maps, outlines); or a COCO file, a data.yaml."
        ),
    ],
    weights: Annotated[
        str, typer.Option("--weights", "-w", help="Where to start: builtin, FastSAM-s, or a file.")
    ] = "builtin",
    out: Annotated[Path, typer.Option("--out", "-o", help="The new weights.")] = Path("finetuned.safetensors"),
    minutes: Annotated[float, typer.Option("--minutes", min=0.01, help="Time at most.")] = 20.0,
    learning_rate: Annotated[
        float | None,
        typer.Option("--learning-rate", min=1e-7, max=0.1, help="1e-3 by default; 2e-4 where torch is older than 2.9."),
    ] = None,
    imgsz: Annotated[int | None, typer.Option("--imgsz", min=64, help="Long side; the model's own.")] = None,
    check_every: Annotated[int, typer.Option("--check-every", min=1, help="Steps between checks.")] = 40,
    patience: Annotated[int, typer.Option("--patience", min=1, help="Checks without progress before it stops.")] = 4,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Of torch; one a core.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the batches.")] = 0,
    overwrite: OverwriteOption = False,
    trust: TrustOption = False,
    debug: DebugOption = False,
) -> None:
    """Adapt a model to your own images and label maps, on a CPU, keeping what is best on held-back images."""
    with guarded(debug=debug):
        _refuse_to_replace(out, weights, overwrite=overwrite)
        from fastsam_core.training.finetune import FinetuneConfig
        from fastsam_core.training.finetune import finetune as finetune_model

        config = FinetuneConfig(
            minutes=minutes,
            learning_rate=learning_rate,
            imgsz=imgsz,
            check_every=check_every,
            patience=patience,
            threads=threads,
            seed=seed,
        )
        screen = console()
        best: int | None = None
        last, conf = 0, 0.0
        try:
            for step in finetune_model(labels, out, weights=weights, trust=trust, config=config):
                last = step.step
                if step.best:
                    best, conf = step.step, step.conf
                loss = f"loss {step.loss:.2f}, " if step.step else ""
                screen.print(
                    f"step {step.step}: {loss}held back {step.scores.images} images: "
                    f"AP50 {step.scores.ap50:.3f}, AR@100 {step.scores.ar100:.3f}{' (best)' if step.best else ''}"
                )
        except KeyboardInterrupt:
            if best is not None:
                screen.print(f"stopped; the best weights so far, those of step {best}, are in {printable(out)}")
            raise
        if last == 0:
            screen.print(
                "there was no time for a step, so these are the weights it started from: give it more --minutes"
            )
        elif best == 0:
            screen.print("nothing was better than the weights it started from, which were kept")
        screen.print(f"written: {printable(out)}\nuse it: fastsam segment --model {printable(out)} IMAGE")
        screen.print(f"it shows masks with a score of {conf:.2f} or more; --conf moves that")


def _refuse_to_replace(out: Path, weights: str, *, overwrite: bool) -> None:
    """Raise if there is a file, but for that of the weights to go on with: they stay until others are better."""
    if overwrite or not out.exists() or (Path(weights).exists() and out.samefile(weights)):
        return
    raise OutputError(
        f"{out} exists already",
        remedy="choose another --out, go on with it by --weights, or replace it with --overwrite",
    )
