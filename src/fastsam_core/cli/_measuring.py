"""What the table of measurements holds beside shapes in pixels: micrometres and intensities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from fastsam_core.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from fastsam_core.images import Image
    from fastsam_core.masks import Masks

__all__ = ["Measuring"]

_TABLES: Final = {"csv", "objects"}
_READING: Final = ("channels", "axes", "plane", "level", "max_pixels")


@dataclass(frozen=True, slots=True)
class Measuring:
    """How masks are measured.

    Attributes
    ----------
    size_um : tuple of float, optional
        Height and width of a pixel in micrometres, in the place of what files say.
    z_step_um : float, optional
        Distance of planes in micrometres, in the place of what files say.
    values : mapping, optional
        The keywords of `open_values` that read a plane again; without, intensities are not measured.
    """

    size_um: tuple[float, float] | None = None
    z_step_um: float | None = None
    values: Mapping[str, Any] | None = None

    @classmethod
    def asked(
        cls,
        formats: Sequence[str],
        size_um: tuple[float, float] | None,
        *,
        intensities: bool,
        reading: Mapping[str, Any],
        z_step_um: float | None = None,
    ) -> Self:
        """Take what the command line says.

        Raises
        ------
        InvalidParameterError
            If no table is wanted.
        """
        if not _TABLES & set(formats) and (intensities or size_um or z_step_um):
            raise InvalidParameterError(
                "--intensities, --pixel-size and --z-step are about the table",
                expected="csv among the formats",
                actual=",".join(formats),
                remedy="add csv to --format",
            )
        return cls(
            size_um, z_step_um, {key: reading[key] for key in _READING if key in reading} if intensities else None
        )

    def pixel_size_um(self, image: Image) -> tuple[float, float] | None:
        """Return height and width of a pixel of an image, if they are known."""
        return self.size_um or image.pixel_size_um

    def intensities(self, source: Path, masks: Masks, **which: Any) -> dict[str, NDArray[Any]]:
        """Measure intensities in an image of a file (``which`` are its ``series`` and ``plane``): further columns."""
        if self.values is None:
            return {}
        from fastsam_core._image_values import open_values
        from fastsam_core.measurements import measure_intensities

        with open_values(source, **{**self.values, **which}) as values:
            return measure_intensities(masks, values, values.names)

    def of_planes(
        self, source: Path, planes: Sequence[Masks], places: Sequence[Mapping[str, int]], series: int = 0
    ) -> list[dict[str, NDArray[Any]]]:
        """Measure intensities in the planes of a stack; those without masks are not read again."""
        tables = [
            self.intensities(source, masks, plane=place, series=series) if len(masks) else {}
            for masks, place in zip(planes, places, strict=True)
        ]
        columns = next(filter(None, tables), {})
        return [table or {name: column[:0] for name, column in columns.items()} for table in tables]
