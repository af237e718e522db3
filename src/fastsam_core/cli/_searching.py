"""The options that every evaluation shares: which model, how it runs, and how it searches an image."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar, get_type_hints

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
from fastsam_core.cli._progress import progress

if TYPE_CHECKING:
    from fastsam_core.model import FastSAM, Settings

__all__ = ["Searching", "option", "parameters_of", "takes_model", "with_parameters"]

_T = TypeVar("_T")
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

        with progress("Loading the model", 1) as bar:
            model = load_model(self.model, self.loading, bar)
        return model, model.settings(**self.search)


def takes_model(*, tiles: bool = True, **defaults: Any) -> Callable[[Callable[..., _T]], Callable[..., _T]]:
    """Turn a command's parameter ``searching`` into the options of `Searching`, with some ``defaults`` of its own.

    Commands that look at what the network gave for a whole image have no ``tiles``.
    """
    hints = get_type_hints(Searching, include_extras=True)
    options = [
        option(field.name, hints[field.name], defaults.get(field.name, field.default))
        for field in fields(Searching)
        if tiles or field.name not in _TILES
    ]

    def decorate(command: Callable[..., _T]) -> Callable[..., _T]:
        @wraps(command)
        def run(**values: Any) -> _T:
            searching = Searching(**{option.name: values.pop(option.name) for option in options})
            return command(searching=searching, **values)

        own = parameters_of(command)
        place = [parameter.name for parameter in own].index("searching")
        return with_parameters(run, [*own[:place], *options, *own[place + 1 :]])

    return decorate


def option(name: str, annotation: Any, default: object = None) -> inspect.Parameter:
    """Make a parameter that typer takes for an option."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def parameters_of(command: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters of a command, all given by name."""
    hints = get_type_hints(command, localns={"Report": object}, include_extras=True)  # which is not imported for --help
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = inspect.signature(command).parameters.values()
    return [parameter.replace(kind=kind, annotation=hints[parameter.name]) for parameter in parameters]


def with_parameters(command: Callable[..., _T], parameters: list[inspect.Parameter]) -> Callable[..., _T]:
    """Show typer these parameters of a command that takes any."""
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command
