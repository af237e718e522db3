"""From other people's annotations to training data: SA-1B, COCO, panoptic, label maps and YOLO to one-class data.

`convert` reads one source and adds it to a data set that Ultralytics (polygons) and the project's own trainer (run
lengths, so that holes, nested and overlapping masks survive) both read.
"""

from fastsam_core.training.datasets.convert import convert
from fastsam_core.training.datasets.manifest import Dataset, SourceEntry
from fastsam_core.training.datasets.readers import KINDS, list_items
from fastsam_core.training.datasets.records import Broken, Item, Record

__all__ = ["KINDS", "Broken", "Dataset", "Item", "Record", "SourceEntry", "convert", "list_items"]
