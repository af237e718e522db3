"""The options that every evaluation shares: which model, how it runs, and how it searches an image."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Final, get_type_hints

import typer

from fastsam_core._defaults import MAX_DET, OVERLAP_PX
from fastsam_core.cli._options import (
    DeviceOption,
    ImgszOption,
    IouOption,
    ModelOption,
    OverlapOption,
    PrecisionOption,
    RuntimeOption,
    TileOption,
    TrustOption,
    read_sizes,
)

if TYPE_CHECKING:
    from fastsam_core.model import FastSAM, Settings

__all__ = ["Searching", "takes_model"]

_PANEL: Final = "Search"
_LOADING: Final = ("device", "runtime", "precision", "trust")
_SEARCH: Final = ("conf", "iou", "max_det")
_TILES: Final = ("tile_px", "overlap_px")

ConfOption = Annotated[float | None, typer.Option(min=0, max=1, help="Lowest score.", rich_help_panel=_PANEL)]
MaxDetOption = Annotated[int, typer.Option(min=1, help="Most masks of one image.", rich_help_panel=_PANEL)]


@dataclass(frozen=True, slots=True)
class Searching:
    """A model and how it searches, as given on the command line; each field is an option."""

    model: ModelOption = "builtin"
    device: DeviceOption = "auto"
    runtime: RuntimeOption = "auto"
    precision: PrecisionOption = "fp32"
    trust: TrustOption = False
    imgsz: ImgszOption = None
    conf: ConfOption = None
    iou: IouOption = None
    max_det: MaxDetOption = MAX_DET
    tile_px: TileOption = None
    overlap_px: OverlapOption = OVERLAP_PX

    @property
    def loading(self) -> dict[str, Any]:
        """Options of `FastSAM.load`."""
        return {name: getattr(self, name) for name in _LOADING}

    @property
    def search(self) -> dict[str, Any]:
        """Options of `FastSAM.segment`; ``None`` leaves the choice to the model."""
        tiles = {} if self.tile_px is None else {"tile_px": self.tile_px, "overlap_px": self.overlap_px}
        return {name: getattr(self, name) for name in _SEARCH} | {"imgsz": read_sizes(self.imgsz)} | tiles

    def load(self) -> tuple[FastSAM, Settings]:
        """Load the model, with a bar if that lasts, and settle what the search leaves to it."""
        from fastsam_core.cli._model import load_model
        from fastsam_core.cli._progress import progress

        with progress("Loading the model", 1) as bar:
            model = load_model(self.model, self.loading, bar)
        return model, model.settings(**self.search)


def takes_model(*, tiles: bool = True, **defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Turn a command's parameter ``searching`` into the options of `Searching`, with some ``defaults`` of its own.

    Commands that look at what the network gave for a whole image have no ``tiles``.
    """
    hints = get_type_hints(Searching, include_extras=True)
    offered = [field for field in fields(Searching) if tiles or field.name not in _TILES]
    names = [field.name for field in offered]
    options = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=defaults.get(field.name, field.default),
            annotation=hints[field.name],
        )
        for field in offered
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = get_type_hints(command, include_extras=True)
        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(command).parameters.values():
            if parameter.name == "searching":
                parameters += options
            else:
                kind = inspect.Parameter.KEYWORD_ONLY
                parameters.append(parameter.replace(kind=kind, annotation=own[parameter.name]))

        @wraps(command)
        def run(**values: Any) -> None:
            searching = Searching(**{name: values.pop(name) for name in names})
            command(searching=searching, **values)

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate
