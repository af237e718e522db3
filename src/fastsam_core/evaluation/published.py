"""Figures that others have published, to stand beside ours; each with its source.

All are from the section "Results" of the FastSAM repository's README (https://github.com/CASIA-IVA-Lab/FastSAM), which
repeats tables of the paper (Zhao et al. 2023, arXiv 2306.12156). They were measured with the authors' own weights, on
an NVIDIA GeForce RTX 3090, on full data sets: what is measured on other data or with other weights is not comparable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastsam_core.evaluation.reports import Table

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PUBLISHED", "SOURCE"]

SOURCE: Final = (
    "[README of the FastSAM repository](https://github.com/CASIA-IVA-Lab/FastSAM#results), after the paper "
    "([arXiv 2306.12156](https://arxiv.org/abs/2306.12156)); the authors' weights on an NVIDIA GeForce RTX 3090"
)

PUBLISHED: Final[Mapping[str, tuple[Table, ...]]] = {
    "speed": (
        Table(
            "Published: milliseconds for 1, 10, 100 points and everything with grids of points",
            ("method", "parameters", "1", "10", "100", "E(16x16)", "E(32x32)", "E(64x64)"),
            (
                ("SAM-H", "0.6G", 446, 464, 627, 852, 2099, 6972),
                ("SAM-B", "136M", 110, 125, 230, 432, 1383, 5417),
                ("FastSAM", "68M", 40, 40, 40, 40, 40, 40),
            ),
        ),
        Table(
            "Published: GPU memory on COCO 2017, MB",
            ("method", "memory"),
            (("SAM-H", 7060), ("SAM-B", 4670), ("FastSAM", 2608)),
        ),
    ),
    "edges": (
        Table(
            "Published: BSDS500 test, 200 images",
            ("method", "ODS", "OIS", "AP", "R50"),
            (
                ("HED (trained on BSDS500)", 0.788, 0.808, 0.840, 0.923),
                ("SAM", 0.768, 0.786, 0.794, 0.928),
                ("FastSAM", 0.750, 0.790, 0.793, 0.903),
            ),
        ),
    ),
    "proposals": (
        Table(
            "Published: boxes on COCO, percent",
            ("method", "AR10", "AR100", "AR1000", "AUC"),
            (
                ("SAM-H E64", 15.5, 45.6, 67.7, 32.1),
                ("SAM-H E32", 18.5, 49.5, 62.5, 33.7),
                ("SAM-B E32", 11.4, 39.6, 59.1, 27.3),
                ("FastSAM", 15.7, 47.3, 63.7, 32.2),
            ),
        ),
        Table(
            "Published: boxes on LVIS, AR@1000, percent",
            ("method", "all", "small", "medium", "large"),
            (
                ("ViTDet-H (trained on LVIS)", 65.0, 53.2, 83.3, 91.2),
                ("SAM-H E64", 52.1, 36.6, 75.1, 88.2),
                ("SAM-H E32", 50.3, 33.1, 76.2, 89.8),
                ("SAM-B E32", 45.0, 29.3, 68.7, 80.6),
                ("FastSAM", 57.1, 44.3, 77.1, 85.3),
            ),
        ),
    ),
    "instances": (
        Table(
            "Published: COCO 2017 with ViTDet's boxes as prompts",
            ("method", "AP", "AP small", "medium", "large"),
            (
                ("ViTDet-H", 0.510, 0.320, 0.543, 0.689),
                ("SAM", 0.465, 0.308, 0.510, 0.617),
                ("FastSAM", 0.379, 0.239, 0.434, 0.500),
            ),
        ),
    ),
}
"""Tables by the name of the sub-command that measures the same."""
