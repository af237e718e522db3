"""Measure how well points, boxes and outlines find the objects of held-back images, source by source.

``python -m fastsam_core.training.validate_prompts --data FOLDER --weights FILE --out FILE.json``
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from fastsam_core._defaults import PROMPT_CONF
from fastsam_core._files import write_json
from fastsam_core.evaluation.prompt_answers import PromptScorer
from fastsam_core.evaluation.truth import Truth
from fastsam_core.training.datasets.loading import iter_held_back
from fastsam_core.training.validate import cases_of, load_model

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastsam_core.model import FastSAM
    from fastsam_core.training.scoring import Case

LOGGER = logging.getLogger("fastsam_core.training.validate_prompts")


def measure_prompts(model: FastSAM, cases: Iterable[Case]) -> dict[str, float]:
    """Answer simulated prompts on images.

    Parameters
    ----------
    model : FastSAM
    cases : iterable of Case
        With one annotator each.

    Returns
    -------
    dict of str to float
        See `fastsam_core.evaluation.prompt_answers.PromptScorer.report`.
    """
    scorer = PromptScorer(model.info.conf)
    for case in cases:
        scorer.add(model.segment(case.image, conf=PROMPT_CONF), Truth.of_masks(case.truths[0]))
    return dict(scorer.report().values)


def main() -> None:
    """Measure every source and write the table."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m fastsam_core.training.validate_prompts", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="converted data set, or the built-in model's sources")
    parser.add_argument("--weights", default="builtin", help="model, weights file or training checkpoint")
    parser.add_argument("--most", type=int, help="images a source at most")
    parser.add_argument("--only", nargs="+", help="names of sources")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    model = load_model(arguments.weights)
    found: dict[str, dict[str, float]] = {}
    for spec, samples in iter_held_back(arguments.data, arguments.most, arguments.only or ()):
        values = measure_prompts(model, cases_of(samples))
        if values["objects"]:
            found[spec.name] = {name: round(value, 4) for name, value in values.items()}
            LOGGER.info("%-20s %s", spec.name, {name: v for name, v in found[spec.name].items() if "miou" in name})
    if arguments.out:
        write_json(arguments.out, {"prompts": found})


if __name__ == "__main__":
    from fastsam_core.cli._console import run_module

    run_module(main)
