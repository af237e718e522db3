"""A viewer with the widget in it, and a stand-in for the network where its quality does not matter."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import napari
import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from packaging.version import Version

from fastsam_core._windows import Window, join_tiles
from fastsam_core.checkpoints import ModelInfo
from fastsam_core.errors import FastSAMError
from fastsam_core.images import read_image
from fastsam_core.masks import Masks
from fastsam_core.model import FastSAM, Settings
from fastsam_core.pipeline import Step
from napari_fastsam.controllers.segmentation import LOADED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastsam_core.images import Image

Make = Callable[..., Any]

FAINT = 0.05
"""Confidence of dim objects."""

NAPARI_0_9 = Version(napari.__version__) >= Version("0.9")

needs_napari_0_9 = pytest.mark.skipif(not NAPARI_0_9, reason="napari before 0.9 cannot do it")


def find_blobs(rgb8: NDArray[np.uint8], conf: float) -> Masks:
    """Find bright objects, and with little confidence dim ones: what the stand-in does instead of a network."""
    from skimage.measure import label

    gray = rgb8.mean(axis=2)
    bright = Masks.from_label_map(label(gray > 100))
    scores = np.linspace(0.95, 0.35, len(bright)).astype(np.float32)
    bright = Masks(bright.image_hw, bright.boxes_xyxy, scores, bright.runs, bright.offsets)
    dim = label((gray > 40) & (gray <= 100))
    faint = Masks.from_label_map(dim, np.full(dim.max(), FAINT, np.float32))
    return Masks.concatenate([bright, faint]).filter(min_score=conf)


class BlobModel:
    """Counts its images; waits for `gate` before each if there is one."""

    info = ModelInfo(name="blobs", conf=0.2)

    def __init__(self) -> None:
        self.seen: list[NDArray[np.uint8]] = []
        self.gate: Callable[[], None] | None = None
        self.options: dict[str, Any] = {}

    def steps(
        self, sources: Iterable[object], model: object, *, reader: Any = read_image, **options: Any
    ) -> Iterator[Step]:
        """Stand in for iter_segment."""
        self.options = options
        for index, source in enumerate(sources):
            if self.gate is not None:
                self.gate()
            try:
                image = reader(source)
            except FastSAMError as error:
                yield Step(index, source, None, error, None, 0.0)
                continue
            self.seen.append(image.rgb8)
            conf = self.info.conf if options.get("conf") is None else options["conf"]
            yield Step(index, source, find_blobs(image.rgb8, conf), None, image, 0.0)

    def settings(self, **options: Any) -> Settings:
        """Check settings as the real model does."""
        return FastSAM(None, self.info).settings(**options)  # type: ignore[arg-type]

    def join(self, tiles: Sequence[Window], parts: Sequence[Masks], image: Image, settings: Settings) -> Masks:
        """Join tiles as the real model does, without a pass over the whole plane."""
        return join_tiles(tiles, parts, sure_conf=self.info.conf, max_det=settings.max_det)


@pytest.fixture(scope="module", autouse=True)
def old_objects_passed_over() -> None:
    """Spare the collector what is there before: napari starts it whenever a layer is removed."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_model_loaded() -> Iterator[None]:
    """Let each test load its model, as a new process does."""
    yield
    LOADED.clear()


@pytest.fixture
def blob_model(monkeypatch: pytest.MonkeyPatch) -> BlobModel:
    """Replace the network by a threshold."""
    model = BlobModel()
    # all are imported before any is changed: one imported later would keep the changed function
    modules = [importlib.import_module(f"fastsam_core.{name}") for name in ("pipeline", "tiling", "_replay_found")]
    for module in modules:
        monkeypatch.setattr(module, "iter_segment", model.steps)
    monkeypatch.setattr(FastSAM, "load", classmethod(lambda cls, *args, **kwargs: model))
    return model


@pytest.fixture
def viewer(make_napari_viewer: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a viewer that is not shown, whose plugin writes into a temporary folder."""
    monkeypatch.setenv("FASTSAM_JOURNALS", str(tmp_path / "journals"))
    notification_manager.records.clear()  # one manager serves all tests
    return make_napari_viewer()


@pytest.fixture
def make_widget(qtbot: Any) -> Iterator[Make]:
    """Return a function that puts the plugin's widget into a viewer, as its menu entry does."""
    made: list[Any] = []

    def make(viewer: Any) -> Any:
        _, widget = viewer.window.add_plugin_dock_widget("fastsam-plugins", "FastSAM")
        made.append(widget)
        return widget

    yield make
    for widget in made:
        widget.shut_down()


def discs(height: int, width: int, *places: tuple[float, float, float], value: float = 200) -> NDArray[np.uint8]:
    """Draw bright discs (y, x, radius) on black."""
    yy, xx = np.ogrid[:height, :width]
    image = np.zeros((height, width), np.uint8)
    for y, x, radius in places:
        image[(yy - y) ** 2 + (xx - x) ** 2 <= radius**2] = value
    return image


THREE = ((18, 20, 8), (20, 60, 10), (60, 40, 12))


def run(qtbot: Any, widget: Any) -> None:
    """Press the button and wait for the result: the first one of a checkout compiles kernels, for 45 s of a core."""
    with qtbot.waitSignal(relay(qtbot, widget.segmentation.finished), timeout=280_000):
        widget.segment_panel.run_button.click()


def choose_region(widget: Any, key: str) -> None:
    """Choose what is segmented."""
    region = widget.segment_panel.region
    region.setCurrentIndex(region.findData(key))


def relay(qtbot: Any, signal: Any) -> Any:
    """Wrap a psygnal signal so that pytest-qt can wait for it."""
    from qtpy.QtCore import QObject

    from napari_fastsam.views._qt import QtSignal

    class Relay(QObject):
        fired = QtSignal()

    relay = Relay()
    signal.connect(lambda *_: relay.fired.emit(), check_nargs=False)
    relay.setParent(None)
    _RELAYS.append(relay)
    return relay.fired


_RELAYS: list[Any] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Pass over a warning that napari's own label colours cause in scikit-image, depending on rounding."""
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB"))
