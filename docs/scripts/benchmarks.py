"""Measure the built-in model with every ``fastsam evaluate`` command and write ``docs/benchmarks.md``.

``python docs/scripts/benchmarks.py DATA``, where DATA holds ``train/`` (the model card's sources) and ``bsds500/``.
Nothing else should run meanwhile: one of the tables gives times.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from skimage import data

from fastsam_core.training.sources import SOURCES, split_of

PAGE = Path(__file__).parents[1] / "benchmarks.md"
PROPOSALS = ("building_facade", "fruits_nuts", "weld_defects")
INSTANCES = ("building_facade", "coco_instances")
WORDS = {"animals_openimages": "animal", "fruits_nuts": "fruit", "microcontrollers": "circuit board"}
NOTES = (
    "The built-in model is a small one (see its model card), trained on little data: its figures say what to expect of "
    "it, and are not those of FastSAM's published weights.",
    "Weights of FastSAM-s, FastSAM-x, SAM and ViTDet could not be downloaded on the measuring machine, nor COCO "
    "val2017 and LVIS: what is shown for them is published, not measured. There was no GPU.",
    "Images of proposals and microscopy were kept out of training; those of building_facade and dsb2018 come from the "
    "same collections as training images. For instance segmentation the annotated boxes stood in for a detector's, so "
    "its AP says how well a box finds its mask. Text was asked of the tiny demonstration encoder. Not all objects of "
    "weld_defects and fruits_nuts are annotated, which does not harm recall.",
)


def held_back(sources: Path, name: str, folder: Path) -> list[str]:
    """Return the option that limits a command to a source's validation images."""
    [spec] = (spec for spec in SOURCES if spec.name == name)
    names = [path.name for path in sorted((sources / name / "images").iterdir()) if split_of(spec, path.stem) == "val"]
    listed = folder / f"{name}.txt"
    listed.write_text("\n".join(names) + "\n")
    return ["--only", str(listed)]


def boxes_of(annotations: Path, folder: Path) -> Path:
    """Write annotated boxes as a detector's results."""
    found = [
        {"image_id": one["image_id"], "category_id": one["category_id"], "bbox": one["bbox"], "score": 1.0}
        for one in json.loads(annotations.read_text())["annotations"]
    ]
    path = folder / f"{annotations.parent.name}.boxes.json"
    path.write_text(json.dumps(found))
    return path


def commands(root: Path, folder: Path) -> list[list[str]]:
    """List all measurements."""
    sources = root / "train"

    def coco(name: str) -> list[str]:
        annotations = ["--annotations", str(sources / name / "annotations.json")]
        return [*annotations, "--images", str(sources / name / "images"), *held_back(sources, name, folder)]

    astronaut = Path(data.__file__).parent / "astronaut.png"
    return [
        ["speed", str(astronaut), "--imgsz", "640", "--repeats", "3"],
        ["edges", "--data", str(root / "bsds500"), "--imgsz", "640"],
        *(["proposals", *coco(name)] for name in PROPOSALS),
        *(
            ["instances", *coco(name), "--boxes", str(boxes_of(sources / name / "annotations.json", folder))]
            for name in INSTANCES
        ),
        *(
            ["text", str(sources / name), "--name", word, "--text-encoder", "demo", *held_back(sources, name, folder)]
            for name, word in WORDS.items()
        ),
        ["microscopy", str(sources / "dsb2018"), *held_back(sources, "dsb2018", folder)],
        [
            *("compare", "builtin,runtime=torch", "builtin,runtime=torch,precision=bf16", "--resamples", "300"),
            *("--data", str(sources / "building_facade"), *held_back(sources, "building_facade", folder)),
        ],
    ]


def main() -> None:
    """Measure, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    root = parser.parse_args().data
    fastsam = [sys.executable, "-m", "fastsam_core.cli", "evaluate"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = []
        for number, command in enumerate(commands(root, folder)):
            files.append(str(folder / f"{number:02d}.json"))
            subprocess.run([*fastsam, *command, "--json", files[-1]], check=True)
        notes = [part for note in NOTES for part in ("--note", note)]
        subprocess.run([*fastsam, "report", *files, "--out", str(PAGE), *notes], check=True)


if __name__ == "__main__":
    main()
