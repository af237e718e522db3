#!/usr/bin/env bash
# Measure the built-in model and write docs/benchmarks.md.
# Usage: benchmarks/evaluate.sh DATA [IMAGES]
#   DATA    folder with bsds500/ and train/<source>/
#   IMAGES  most images of each data set (all by default)
# NOTE in the environment is added to the page.
# About fifteen minutes on two free cores.
set -euo pipefail
cd "$(dirname "$0")/.."
data=$1
limit=${2:+--limit $2}
bin=${VENV:-.venv}/bin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# names of the images that were kept out of training
"$bin/python" - "$data/train" "$work" <<'PYTHON'
import sys
from pathlib import Path

from fastsam_core.training.sources import SOURCES, split_of

root, out = map(Path, sys.argv[1:])
for source in SOURCES:
    names = [path.name for path in sorted((root / source.name / "images").iterdir())]
    kept = [name for name in names if split_of(source, Path(name).stem) == "val"]
    (out / f"{source.name}.txt").write_text("\n".join(kept) + "\n", encoding="utf-8")
PYTHON
"$bin/python" -c "
import sys
from PIL import Image
from skimage import data
Image.fromarray(data.astronaut()).save(sys.argv[1])" "$work/astronaut.png"

evaluate() { "$bin/fastsam" evaluate "$@"; }
evaluate speed "$work/astronaut.png" --repeats 3 --json "$work/1-speed.json"
# shellcheck disable=SC2086
evaluate edges --data "$data/bsds500" --split test $limit --json "$work/2-edges.json"
for source in building_facade weld_defects fruits_nuts; do
  # shellcheck disable=SC2086
  evaluate proposals --annotations "$data/train/$source/annotations.json" --images "$data/train/$source/images" \
    --only "$work/$source.txt" $limit --json "$work/3-$source.json"
done
# annotated boxes stand in for those of a perfect detector
for source in coco_instances building_facade; do
  "$bin/python" - "$data/train/$source/annotations.json" "$work/$source.boxes" <<'PYTHON'
import json
import sys
from pathlib import Path

annotations = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["annotations"]
keys = ("image_id", "category_id", "bbox")
Path(sys.argv[2]).write_text(json.dumps([{**{key: a[key] for key in keys}, "score": 1.0} for a in annotations]))
PYTHON
  # shellcheck disable=SC2086
  evaluate instances --annotations "$data/train/$source/annotations.json" --images "$data/train/$source/images" \
    --boxes "$work/$source.boxes" --only "$work/$source.txt" $limit --json "$work/4-$source.json"
done
for source in dhcn_indoor coco_instances building_facade dsb2018; do
  # shellcheck disable=SC2086
  evaluate prompts "$data/train/$source" --only "$work/$source.txt" $limit --json "$work/5-$source.json"
done
while read -r source name; do
  # shellcheck disable=SC2086
  evaluate text "$data/train/$source" --name "$name" --text-encoder demo --only "$work/$source.txt" $limit \
    --json "$work/6-$source.json"
done <<'SOURCES'
animals_openimages animal
microcontrollers circuit board
fruits_nuts fruit
SOURCES
# shellcheck disable=SC2086
evaluate microscopy "$data/train/dsb2018" --only "$work/dsb2018.txt" $limit --json "$work/7-dsb2018.json"
# shellcheck disable=SC2086
evaluate compare builtin,runtime=torch builtin,runtime=torch,precision=bf16 --data "$data/train/building_facade" \
  --only "$work/building_facade.txt" $limit --resamples 300 --json "$work/8-bf16.json"

evaluate report "$work"/*.json --out docs/benchmarks.md ${NOTE:+--note "$NOTE"} \
  --note "The built-in model is a small one (see its model card), trained on little data: its figures say what to expect of it, and are not those of FastSAM's published weights." \
  --note "Weights of FastSAM-s, FastSAM-x, SAM and ViTDet could not be downloaded on the measuring machine, nor COCO val2017 and LVIS: what is shown for them is published, not measured. There was no GPU." \
  --note "Images of proposals, prompts and microscopy were kept out of training; those of building_facade and dsb2018 come from the same collections as training images. For instance segmentation the annotated boxes stood in for a detector's, so its AP says how well a box finds its mask. Text was asked of the tiny demonstration encoder. dhcn_indoor was held out as a whole. Not all objects of weld_defects, fruits_nuts and coco_instances are annotated, which does not harm recall."
