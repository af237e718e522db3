"""``fastsam demo``: segment bundled images, answer prompts on them, and leave pictures and files to look at."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastsam_core._defaults import PROMPT_CONF
from fastsam_core.cli._console import console, guarded
from fastsam_core.cli._options import (
    DebugOption,
    DeviceOption,
    ModelOption,
    PrecisionOption,
    RuntimeOption,
    TrustOption,
)
from fastsam_core.cli._progress import progress
from fastsam_core.errors import MissingDependencyError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fastsam_core.cli._demo_scenes import DemoScene
    from fastsam_core.cli._progress import Bar
    from fastsam_core.cli._prompts import PromptSet
    from fastsam_core.cli._text import TextAnswers
    from fastsam_core.contact_sheet import Card
    from fastsam_core.masks import Masks
    from fastsam_core.pipeline import Step

    UInt8Array = npt.NDArray[np.uint8]

__all__ = ["demo"]

_Row = tuple[str, ...]
"""One line of the table at the end."""
_LEAST_CLOSE_UP = 0.22
"""Share of the image's sides that a close-up shows at least."""


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.", file_okay=False)] = Path("demo"),
    model: ModelOption = "builtin",
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "auto",
    precision: PrecisionOption = "fp32",
    trust: TrustOption = False,
    debug: DebugOption = False,
) -> None:
    """Segment everything in several images, answer point, box, polygon and text prompts, and draw it all.

    Needs no download: the images come with scikit-image or are generated, the encoder for texts with the package.
    Leaves overlays, label maps, COCO files and measurements, and contact_sheet.png.
    """
    with guarded(debug=debug):
        from rich.table import Table

        rows = _run(out, model, {"device": device, "runtime": runtime, "precision": precision, "trust": trust})
        table = Table("image", "size")
        for title in ("masks", "prompts answered", "seconds"):
            table.add_column(title, justify="right")
        for row in rows:
            table.add_row(*row)
        screen = console()
        screen.print(table)
        screen.print(f"Results in {out}; look at {out / 'contact_sheet.png'}", soft_wrap=True)


def _run(out: Path, model: str, loading: dict[str, Any]) -> list[_Row]:
    from fastsam_core.cli._demo_scenes import SCENES, scene_path
    from fastsam_core.contact_sheet import contact_sheet
    from fastsam_core.outputs import write_image

    rows: list[_Row] = []
    cards: list[Card] = []
    with progress("Loading the model", len(SCENES) + 1, visible=True) as bar:
        paths = [scene_path(scene, out / "inputs") for scene in SCENES]
        from fastsam_core.cli._model import load_model
        from fastsam_core.pipeline import iter_segment

        network = load_model(model, loading, bar)
        texts = _text_answers(bar) if any(scene.texts for scene in SCENES) else None
        bar.say(f"Segmenting {SCENES[0].title}")
        network.segment(paths[0], conf=PROMPT_CONF)  # untimed: kernels are compiled with the first image of all
        with closing(iter_segment(paths, network, conf=PROMPT_CONF)) as steps:
            for step, scene in zip(steps, SCENES, strict=True):
                row, card = _show(step, scene, out, texts, network.info.conf)
                rows.append(row)
                cards.append(card)
                bar.advance()
                bar.say("Drawing the contact sheet" if scene is SCENES[-1] else f"Segmented {scene.title}")
        write_image(out / "contact_sheet.png", contact_sheet(cards))
        bar.advance()
    return rows


def _text_answers(bar: Bar) -> TextAnswers | None:
    """Load the encoder that ships; without open_clip the demo does without texts and says so."""
    from rich.text import Text as Line

    from fastsam_core.cli._text import load_text_answers
    from fastsam_core.text import DEMO

    try:
        return load_text_answers(DEMO, "cpu", None, bar)
    except MissingDependencyError as error:
        bar.log(Line(f"Texts are left out: {error}"))
        return None


def _show(step: Step, scene: DemoScene, out: Path, texts: TextAnswers | None, conf: float) -> tuple[_Row, Card]:
    """Write the results of one image, answer its prompts, and return its line of the table and its card.

    Masks below ``conf`` only answer prompts that say where something is.
    """
    from fastsam_core.cli._prompts import PromptSet
    from fastsam_core.contact_sheet import Card, Picture
    from fastsam_core.masks import Masks
    from fastsam_core.outputs import write_coco, write_image, write_outputs
    from fastsam_core.overlay import display_scale, draw_answer, draw_overlay

    if step.error is not None:
        raise step.error
    if step.masks is None or step.image is None:
        raise RuntimeError("a step without an error has masks and an image")
    masks, rgb8 = step.masks.filter(min_score=conf), step.image.rgb8
    height, width = masks.image_hw
    scale = display_scale(masks.image_hw)
    file_name = Path(str(step.source)).name
    write_outputs(out, scene.name, masks, rgb8, formats=("labels", "coco", "csv"), file_name=file_name)
    overlay = draw_overlay(rgb8, masks, scale=scale)
    write_image(out / f"{scene.name}_overlay.png", overlay)
    details: list[Picture] = []
    answers: list[Masks] = []
    words: list[str] = []
    asked_for = {
        "points": PromptSet.typed(points=scene.points),
        "boxes": PromptSet.typed(boxes=scene.boxes),
        "polygons": PromptSet.typed(polygons=scene.polygons),
    }
    if scene.texts and texts is not None:
        asked_for["texts"] = PromptSet.typed(text=scene.texts)
    for kind, prompts in asked_for.items():
        found, unmatched = prompts.answer(step.masks, rgb8, texts, shown=masks)
        asked = sum(count for _, count in prompts.entries)
        picture = draw_answer(rgb8, found, prompts.prompts, scale=scale)
        write_image(out / f"{scene.name}_{kind}.png", picture)
        answers.append(found)
        words.append(f"{kind} {asked - unmatched}/{asked}")
        details.append(Picture(_close_up(picture, found, prompts, scale), f"{kind}: {asked - unmatched} of {asked}"))
    write_coco(out / f"{scene.name}_prompts_coco.json", Masks.concatenate(answers), file_name=file_name)
    row = (scene.name, f"{width} × {height}", str(len(masks)), ", ".join(words), f"{step.seconds:.2f}")
    caption = f"{width} x {height} px, {len(masks)} masks, {step.seconds:.2f} s"
    return row, Card(scene.title, Picture(overlay, caption), details)


def _close_up(picture: UInt8Array, found: Masks, prompts: PromptSet, scale: int) -> UInt8Array:
    """Cut the part of a drawn answer that shows the prompts and the masks found, in 4:3 where the image allows it."""
    import numpy as np

    extents = found.extents_xyxy[found.areas_px > 0].astype(float)
    corners_xy = np.concatenate([prompts.positions_xy(), extents[:, :2], extents[:, 2:]]) * scale
    if not len(corners_xy):  # texts that nothing fits
        return picture
    low, high = corners_xy.min(axis=0), corners_xy.max(axis=0)
    limit = np.array(picture.shape[1::-1], dtype=float)
    side = np.maximum(1.5 * (high - low), _LEAST_CLOSE_UP * limit)
    side = np.minimum(np.maximum(side, side[::-1] * (4 / 3, 3 / 4)), limit)
    start = np.clip((low + high - side) / 2, 0, limit - side)
    (x_start, y_start), (x_stop, y_stop) = start.astype(int), np.ceil(start + side).astype(int)
    return picture[y_start:y_stop, x_start:x_stop]
