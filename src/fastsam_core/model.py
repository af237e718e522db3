"""`FastSAM`: one forward pass that finds all masks of an image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from fastsam_core._checks import as_imgsz, as_integer, as_iterator, as_number
from fastsam_core._defaults import MAX_DET, OVERLAP_PX, PROMPT_CONF
from fastsam_core._overview import Overview, pixels_in
from fastsam_core._sizes import sizes_after_first, well_seen
from fastsam_core._version import __version__
from fastsam_core._windows import SAME_MASK_IOU, Window, drop_duplicates, join_tiles, join_windows, plan_windows
from fastsam_core.checkpoints import ModelInfo, load_checkpoint
from fastsam_core.confidence import best_conf
from fastsam_core.cuts import demote_cut, follow_masks
from fastsam_core.decode import decode
from fastsam_core.errors import InvalidParameterError
from fastsam_core.geometry import Letterbox, letterbox
from fastsam_core.images import Image, read_image
from fastsam_core.masks import Masks
from fastsam_core.network import Network, Prediction, suppress
from fastsam_core.overlaps import demote_overlapping
from fastsam_core.quality import METADATA_KEY, QualityModel
from fastsam_core.registry import BUILTIN
from fastsam_core.thresholds import cut_each_best

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fastsam_core.downloads import Progress

__all__ = ["FastSAM", "OnTile", "Settings"]

UInt8Array = npt.NDArray[np.uint8]
RankBy = Literal["score", "quality"]
OnTile = Callable[[int, int], None]
"""Called with the number of the tile that is begun, from 1, and how many there are."""

_LONGEST_ASPECT = 6.0
"""Images longer than this many times their width are cut into windows: letterboxed whole, nothing would be left."""
_WINDOW_ASPECT = 4


@dataclass(frozen=True, slots=True)
class Settings:
    """Checked settings of `FastSAM.segment`, with the model's own values filled in."""

    conf: float
    iou: float
    max_det: int
    imgsz: tuple[int, ...]
    snap_px: float
    stability: bool = False
    rank_by: RankBy = "score"
    adaptive: bool = False
    """Whether a size may be added, chosen by the objects that the first one finds."""
    own_conf: bool = False
    """Whether each image gets a threshold of its own, above ``conf``."""
    tile_px: int | None = None
    """Side of the tiles that larger images are cut into, which share ``overlap_px``; None leaves images whole."""
    overlap_px: int = OVERLAP_PX

    @property
    def roomy(self) -> Settings:
        """The same for boxes whose masks go through `FastSAM.finish`, which leaves some out: with some to spare."""
        return replace(self, max_det=self.max_det + self.max_det // 4 + 1)


class FastSAM:
    """A network that finds every object of an image in one forward pass.

    Usually made by `FastSAM.load`. The constructor takes any object with the method of
    `fastsam_core.network.Network`, a made-up one in tests for example. A loaded one can be pickled: the process that
    gets it loads the network again, once.

    Parameters
    ----------
    network : Network
        Runs the forward pass.
    info : ModelInfo, optional
        What is known about the weights, with recommended settings.
    device, precision, runtime : str
        What the network runs on; for the record.
    """

    def __init__(
        self,
        network: Network,
        info: ModelInfo | None = None,
        *,
        device: str = "cpu",
        precision: str = "fp32",
        runtime: str = "custom",
    ) -> None:
        self.network = network
        self.info = info if info is not None else ModelInfo(name="custom")
        stored = self.info.details.get(METADATA_KEY)
        self.quality_model = QualityModel.from_json(stored) if stored else None
        self.device = device
        self.precision = precision
        self.runtime = runtime
        self._weights: tuple[str | Path, bool] | None = None
        """What was loaded, and whether it is trusted."""

    @classmethod
    def load(
        cls,
        name_or_path: str | Path = BUILTIN,
        *,
        device: str = "auto",
        precision: str = "fp32",
        runtime: str = "auto",
        trust: bool = False,
        progress: Progress | None = None,
    ) -> Self:
        """Load a model by name or from a file.

        Parameters
        ----------
        name_or_path : str or Path
            ``"builtin"`` (ships with the package), ``"FastSAM-s"`` or ``"FastSAM-x"`` (downloaded once into the cache
            folder), or a ``.safetensors`` or one-class YOLOv8-seg / YOLO11-seg ``.pt`` file.
        device : str
            ``"auto"`` (CUDA, else MPS, else CPU), ``"cpu"``, ``"mps"``, ``"cuda"`` or ``"cuda:<index>"``.
        precision : str
            ``"fp32"``, ``"bf16"`` or ``"fp16"`` (GPUs only).
        runtime : str
            ``"auto"``, ``"torch"``, ``"openvino"``, ``"onnxruntime"`` or ``"tensorrt"``.
        trust : bool
            Load a ``.pt`` file of unknown sha256. It is a pickle: it can run any code its author put there.
        progress : callable, optional
            Called with (bytes received, bytes expected) during a download.

        Raises
        ------
        UnknownModelError
            If it is neither a file nor a model's name; names the nearest.
        CheckpointError, UntrustedCheckpointError
            If the file is damaged, not a one-class segmentation network, or a pickle nobody vouched for.
        WeightsDownloadError
            If the weights cannot be downloaded; says where to put the file by hand.
        BackendUnavailableError, MissingDependencyError
            If the device or run time is not there; names the pip command.
        InvalidParameterError
            If device, precision and run time do not go together, or one of them or the model is named by no text.
        """
        from fastsam_core.runtimes import create_network, resolve_device, resolve_runtime

        chosen_device = resolve_device(device)
        chosen_runtime = resolve_runtime(runtime, chosen_device, precision)
        checkpoint = load_checkpoint(name_or_path, trust=trust, progress=progress)
        network = create_network(checkpoint.module, device=chosen_device, precision=precision, runtime=chosen_runtime)
        model = cls(network, checkpoint.info, device=chosen_device, precision=precision, runtime=chosen_runtime)
        model._weights = name_or_path, trust
        return model

    @property
    def name(self) -> str:
        """The model's name."""
        return self.info.name

    def __repr__(self) -> str:
        """Return name, run time, device and precision."""
        return f"FastSAM({self.name!r}, {self.runtime} on {self.device}, {self.precision})"

    def __getstate__(self) -> dict[str, Any]:
        """Leave a network that was loaded out of pickles: compiled ones cannot be pickled."""
        return {key: value for key, value in vars(self).items() if key != "network" or self._weights is None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Load the network again, once in each process."""
        vars(self).update(state)
        if self._weights is not None:
            self.network = _network_of(*self._weights, self.device, self.precision, self.runtime)

    def settings(
        self,
        *,
        conf: float | Literal["auto"] | None = None,
        iou: float | None = None,
        max_det: int = MAX_DET,
        imgsz: int | Sequence[int] | Literal["auto"] | None = None,
        snap_px: float = 0,
        stability: bool = False,
        rank_by: RankBy = "score",
        tile_px: int | None = None,
        overlap_px: int = OVERLAP_PX,
    ) -> Settings:
        """Check the settings of `segment` and fill in the model's recommended values.

        Raises
        ------
        InvalidParameterError
            If one is out of range.
        """
        info = self.info
        adaptive = info.adaptive if imgsz is None else isinstance(imgsz, str) and imgsz == "auto"
        wanted: Any = info.imgsz if imgsz is None or adaptive else imgsz
        sizes = tuple(wanted) if isinstance(wanted, Iterable) and not isinstance(wanted, str | bytes) else (wanted,)
        if not sizes:
            raise InvalidParameterError("No imgsz is given", expected="one size or more")
        own_conf = isinstance(conf, str) and conf == "auto"
        lowest = PROMPT_CONF if own_conf else info.conf if conf is None else conf
        tile_px = None if tile_px is None else as_integer("tile_px", tile_px, 1)
        overlap_px = as_integer("overlap_px", overlap_px, 0)
        if tile_px is not None and overlap_px >= tile_px:
            raise InvalidParameterError(
                "Tiles share more than there is of them",
                expected=f"an overlap_px below tile_px, which is {tile_px}",
                actual=str(overlap_px),
            )
        return Settings(
            conf=as_number("conf", lowest, 0, 1),
            iou=as_number("iou", info.iou if iou is None else iou, 0, 1),
            max_det=as_integer("max_det", max_det, 1),
            imgsz=tuple(dict.fromkeys(as_imgsz(size) for size in sizes)),
            snap_px=as_number("snap_px", snap_px, 0, math.inf),
            stability=bool(stability),
            rank_by=self._rank_by(rank_by),
            adaptive=adaptive,
            own_conf=own_conf,
            tile_px=tile_px,
            overlap_px=overlap_px,
        )

    def segment(
        self,
        image: object,
        *,
        conf: float | Literal["auto"] | None = None,
        iou: float | None = None,
        max_det: int = MAX_DET,
        imgsz: int | Sequence[int] | Literal["auto"] | None = None,
        snap_px: float = 0,
        stability: bool = False,
        rank_by: RankBy = "score",
        tile_px: int | None = None,
        overlap_px: int = OVERLAP_PX,
    ) -> Masks:
        """Find everything in an image.

        Parameters
        ----------
        image : path, array, Pillow image, torch tensor or Image
            Anything `fastsam_core.read_image` takes.
        conf : float or "auto", optional
            Masks need a score above this, in [0, 1]. The model's own value when left out (0.4 for FastSAM). ``"auto"``
            gives each image its own (`fastsam_core.confidence.best_conf`), high where sure masks stand out. For masks
            that points, boxes or polygons are to choose from take `fastsam_core.PROMPT_CONF`: prompts find more among
            fainter ones, and ``masks.filter(min_score=model.info.conf)`` is everything as without.
        iou : float, optional
            A box that overlaps a better one by more than this is dropped, in [0, 1]; 0.9 for FastSAM.
        max_det : int
            Masks at most.
        imgsz : int, sequence of int or "auto", optional
            Longer side of the network's input in pixels, rounded up to a multiple of 32; 1024 for FastSAM. Larger
            finds smaller objects and takes longer. With several sizes the image is segmented at each, and masks found
            more than once are kept once. ``"auto"`` adds to the model's own sizes a larger one where the objects found
            at the first are small (smaller sizes then contribute large objects only), and a smaller one where they fill
            the image. The built-in model does so by itself.
        snap_px : float
            FastSAM's border rule: boxes within this many pixels of the border are drawn out to it (20 in the original).
        stability : bool
            Also give ``fields["stability"]``: how little each mask changes with the threshold, 0 to 1.
        rank_by : {"score", "quality"}
            What comes first, and stays where several sizes give more than ``max_det`` masks: what is most surely there,
            or the masks with the best expected outline, for which the weights need a quality model.
        tile_px : int, optional
            Cut larger images into square tiles of this side in pixels, segment each as an image of its own, and join
            the masks across their borders: finds what is small in mosaics, slides and sections, with a forward pass for
            each tile. Objects longer than ``overlap_px`` that tiles cut come from a pass over the whole image.
            ``max_det`` then holds for each tile. For images too large for memory: `fastsam_core.segment_tiles`.
        overlap_px : int
            How much neighbouring tiles share: more than the diameter of usual objects.

        Returns
        -------
        Masks
            At the image's own resolution, best first; boxes in which no pixel passes are left out. Weights with a
            quality model give ``fields["quality"]``, the IoU that each mask can be expected to have.

        Raises
        ------
        InvalidParameterError
            If a setting is out of range.
        ImageReadError, ImageNotFoundError, ImageTooLargeError, UnsupportedImageError, ImageContentError
            If the image cannot be read.

        Notes
        -----
        Images more than six times longer than wide are cut into overlapping windows along their length.
        """
        settings = self.settings(
            conf=conf,
            iou=iou,
            max_det=max_det,
            imgsz=imgsz,
            snap_px=snap_px,
            stability=stability,
            rank_by=rank_by,
            tile_px=tile_px,
            overlap_px=overlap_px,
        )
        return self.segment_with(read_image(image), settings)

    def segment_with(self, image: Image, settings: Settings, on_tile: OnTile | None = None) -> Masks:
        """Find everything in an image that was read already, with checked settings; ``on_tile`` hears of each tile."""
        tiles = tiles_of(image.image_hw, settings)
        if len(tiles) > 1:
            return self._segment_tiles(image, tiles, settings, on_tile)
        first, *others = settings.imgsz
        by_size = [self._segment_at(image, first, settings)]
        if settings.adaptive:
            others = sizes_after_first(by_size[0].filter(min_score=self.info.conf), settings.imgsz)
        for imgsz in others:
            found = self._segment_at(image, imgsz, settings)
            better_seen = settings.adaptive and imgsz < first < max(others)
            by_size.append(well_seen(found, imgsz) if better_seen else found)
        masks = Masks.concatenate(by_size) if len(by_size) > 1 else by_size[0]
        return self.finish(masks, image, replace(settings, imgsz=(first, *others)))

    def _segment_tiles(
        self, image: Image, tiles: Sequence[Window], settings: Settings, on_tile: OnTile | None
    ) -> Masks:
        """Segment each tile as an image of its own, and join what was found."""
        each = replace(settings, tile_px=None, own_conf=False)
        overview = Overview(image.image_hw, max(settings.imgsz))
        parts = []
        for number, tile in enumerate(tiles, 1):
            if on_tile is not None:
                on_tile(number, len(tiles))
            crop = np.ascontiguousarray(image.rgb8[tile.y0 : tile.y1, tile.x0 : tile.x1])
            overview.add(tile, crop)
            found = self.segment_with(Image(crop, image.source, image.recipe), each)
            parts.append(found.placed((tile.y0, tile.x0), image.image_hw))
        return self.join(tiles, parts, overview.image(image), settings)

    def join(self, tiles: Sequence[Window], parts: Sequence[Masks], image: Image, settings: Settings) -> Masks:
        """Join the masks of tiles, in coordinates of the whole image, with the large objects found in it as a whole."""
        each = replace(settings, tile_px=None, own_conf=False)
        masks = join_tiles(
            tiles,
            parts,
            sure_conf=self.info.conf,
            max_det=settings.max_det,
            cut_penalty=self.info.cut_penalty,
            whole=self.segment_with(image, each) if len(tiles) > 1 else None,
            overlap_px=settings.overlap_px,
        ).filter(min_score=settings.conf)
        if settings.rank_by == "quality":
            masks = masks.sort("quality")
        masks = masks.with_metadata(tile_px=settings.tile_px, overlap_px=settings.overlap_px)
        return self._described(masks, image, settings)

    def _segment_at(self, image: Image, imgsz: int, settings: Settings) -> Masks:
        """Segment at one test size, in windows if the image is very long."""
        windows = windows_of(image.image_hw, imgsz)
        parts = []
        for window in windows:
            crop = pixels_in(image.rgb8, window, image.image_hw)
            prepared = letterbox(crop, imgsz, self.info.stride, source_hw=window.hw)
            [prediction] = self.predict_prepared([prepared], settings.roomy)
            masks = decode(prediction, snap_px=settings.snap_px, stability=settings.stability)
            parts.append(masks.placed((window.y0, window.x0), image.image_hw) if len(windows) > 1 else masks)
        return join_windows(windows, parts) if len(windows) > 1 else parts[0]

    def predict(
        self,
        image: object,
        *,
        conf: float | None = None,
        iou: float | None = None,
        max_det: int = MAX_DET,
        imgsz: int | None = None,
    ) -> Prediction:
        """Return what the network found in an image, before masks are decoded; settings as in `segment`."""
        [prediction] = self.predict_batch([image], conf=conf, iou=iou, max_det=max_det, imgsz=imgsz)
        return prediction

    def predict_batch(
        self,
        images: Sequence[object],
        *,
        conf: float | None = None,
        iou: float | None = None,
        max_det: int = MAX_DET,
        imgsz: int | None = None,
    ) -> list[Prediction]:
        """Return what the network found in several images.

        Images whose network inputs are equal in size share forward passes, which pays on GPUs; settings as in
        `segment`.
        """
        settings = self.settings(conf=conf, iou=iou, max_det=max_det, imgsz=imgsz)
        prepared = [
            letterbox(read_image(image).rgb8, settings.imgsz[0], self.info.stride) for image in as_iterator(images)
        ]
        return self.predict_prepared(prepared, settings)

    def predict_prepared(
        self, prepared: Sequence[tuple[UInt8Array, Letterbox]], settings: Settings
    ) -> list[Prediction]:
        """Run letterboxed images through the network, equal sizes together, and drop weak and duplicate boxes."""
        by_size: dict[tuple[int, int], list[int]] = {}
        for index, (_, plan) in enumerate(prepared):
            by_size.setdefault(plan.network_hw, []).append(index)
        found: dict[int, Prediction] = {}
        for indices in by_size.values():
            raw, prototypes = self.network.forward(np.stack([prepared[index][0] for index in indices]))
            plans = [prepared[index][1] for index in indices]
            kept = suppress(raw, prototypes, plans, conf=settings.conf, iou=settings.iou, max_det=settings.max_det)
            kept = [replace(prediction, mask_threshold=self.info.mask_threshold) for prediction in kept]
            if self.info.mask_margin > 0:
                kept = [follow_masks(prediction, self.info.mask_margin) for prediction in kept]
            if self.info.cut_penalty > 0:
                kept = [demote_cut(prediction, self.info.cut_penalty, settings.conf) for prediction in kept]
            if self.info.threshold_share > 0:
                kept = [cut_each_best(prediction, self.info.threshold_share) for prediction in kept]
            found.update(zip(indices, kept, strict=True))
        return [found[index] for index in range(len(prepared))]

    def _rank_by(self, wanted: RankBy) -> RankBy:
        if wanted not in get_args(RankBy):
            raise InvalidParameterError(
                "Unknown ranking", expected=f"one of {', '.join(get_args(RankBy))}", actual=repr(wanted)
            )
        if wanted == "quality" and self.quality_model is None:
            raise InvalidParameterError(
                f"{self.name} has no quality model to rank by",
                expected="weights that were calibrated",
                remedy="python -m fastsam_core.training.calibrate --write stores one in a weights file",
            )
        return wanted

    def finish(self, masks: Masks, image: Image, settings: Settings) -> Masks:
        """Leave out crumbs, duplicates, empty masks and those beyond ``max_det``, and record how the rest was made.

        Boxes are without duplicates already; several sizes, and boxes that follow their masks, make new ones. Masks
        that overlap with surer ones lose score, where the weights ask for it.
        """
        if self.info.least_part > 0:
            masks = masks.without_small_parts(self.info.least_part)
        if len(settings.imgsz) > 1 or self.info.mask_margin > 0:
            masks = drop_duplicates(masks, SAME_MASK_IOU)
        if not masks.areas_px.all():
            masks = masks.filter(min_area_px=1)
        if self.info.overlap_penalty > 0:
            masks = demote_overlapping(masks, self.info.overlap_penalty).filter(min_score=settings.conf)
        if self.quality_model is not None:
            masks = masks.with_fields(quality=self.quality_model.predict(masks))
        if settings.rank_by == "quality":
            masks = masks.sort("quality")
        if len(masks) > settings.max_det:
            masks = masks[: settings.max_det]
        return self._described(masks, image, settings)

    def _described(self, masks: Masks, image: Image, settings: Settings) -> Masks:
        """Record how masks were made, and leave out what is below the image's own threshold, if it has one."""
        conf = best_conf(masks.scores) if settings.own_conf else settings.conf
        if settings.own_conf:
            masks = masks.filter(min_score=conf)
        return masks.with_metadata(
            source=image.source,
            model=self.name,
            weights_sha256=self.info.sha256[:16],
            conf=conf,
            iou=settings.iou,
            max_det=settings.max_det,
            imgsz=list(settings.imgsz),
            snap_px=settings.snap_px,
            runtime=self.runtime,
            device=self.device,
            precision=self.precision,
            version=__version__,
        )


@lru_cache(maxsize=2)
def _network_of(name_or_path: str | Path, trust: bool, device: str, precision: str, runtime: str) -> Network:
    from fastsam_core.runtimes import create_network

    module = load_checkpoint(name_or_path, trust=trust).module
    return create_network(module, device=device, precision=precision, runtime=runtime)


def tiles_of(image_hw: tuple[int, int], settings: Settings) -> list[Window]:
    """Return the tiles that an image is segmented in: one where it is no larger, or is to stay whole."""
    if settings.tile_px is None:
        return [Window(0, 0, *image_hw)]
    return plan_windows(image_hw, (settings.tile_px, settings.tile_px), settings.overlap_px)


def windows_of(image_hw: tuple[int, int], imgsz: int) -> list[Window]:
    """Return the windows an image is segmented in: the whole image, or several along a very long side."""
    short, long = sorted(image_hw)
    length = max(_WINDOW_ASPECT * short, imgsz)
    if long <= _LONGEST_ASPECT * short or long <= length:
        return [Window(0, 0, *image_hw)]
    window_hw = (length, short) if image_hw[0] == long else (short, length)
    return plan_windows(image_hw, window_hw, overlap_px=length // 4)
