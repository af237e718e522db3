"""Make docs/images/stack.jpg: planes of the napari plugin's stack of nuclei, each object in its colour."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from typer.testing import CliRunner

from fastsam_core.cli import app
from napari_fastsam._samples import nuclei_stack

TARGET = Path(__file__).parents[1] / "images" / "stack.jpg"


def main() -> None:
    """Segment the stack as the documentation says, and keep the sheet of planes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "nuclei.tif")
        tifffile.imwrite(path, np.asarray(nuclei_stack()[0][0]), metadata={"axes": "ZYX"}, photometric="minisblack")
        arguments = ["stack", str(path), "--min-planes", "3", "--format", "overlay", "--out", folder]
        result = CliRunner().invoke(app, arguments)
        if result.exit_code:
            raise SystemExit(result.output)
        print(result.output)
        with Image.open(Path(folder, "nuclei_overlay.png")) as sheet:
            sheet.resize((1100, round(1100 * sheet.height / sheet.width))).save(TARGET, quality=82)


if __name__ == "__main__":
    main()
