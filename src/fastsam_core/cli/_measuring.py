"""What the table of measurements holds beside shapes in pixels: micrometres and intensities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from fastsam_core.errors import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from fastsam_core._image_planes import PlaneChoice
    from fastsam_core.images import Image
    from fastsam_core.masks import Masks

__all__ = ["Measuring"]

_TABLES: Final = {"csv", "objects"}
_READING: Final = ("channels", "axes", "level", "max_pixels")


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
        The keywords of `open_values` that open a file again; without, intensities are not measured.
    plane : int or mapping
        Which plane of an image is measured.
    """

    size_um: tuple[float, float] | None = None
    z_step_um: float | None = None
    values: Mapping[str, Any] | None = None
    plane: PlaneChoice = 0

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
        values = {key: reading[key] for key in _READING} if intensities else None
        return cls(size_um, z_step_um, values, reading.get("plane", 0))

    def pixel_size_um(self, image: Image) -> tuple[float, float] | None:
        """Return height and width of a pixel of an image, if they are known."""
        return self.size_um or image.pixel_size_um

    def intensities(self, source: Path, masks: Masks, series: int) -> dict[str, NDArray[Any]]:
        """Measure intensities in an image of a file: further columns, none where they are not asked for."""
        [table] = self._tables(source, [masks], [self.plane], series)
        return table

    def of_planes(
        self, source: Path, planes: Sequence[Masks], places: Sequence[Mapping[str, int]], series: int
    ) -> list[dict[str, NDArray[Any]]]:
        """Measure intensities in the planes of a stack; those without masks are not read again.

        Planes that could not be read are at no place: ``{}``.
        """
        tables = self._tables(source, planes, places, series)
        columns = next(filter(None, tables), {})
        return [table or {name: column[:0] for name, column in columns.items()} for table in tables]

    def _tables(
        self, source: Path, sets: Sequence[Masks], places: Sequence[PlaneChoice], series: int
    ) -> list[dict[str, NDArray[Any]]]:
        """Open a file once and measure in those of its planes that have masks, or in one, for the columns."""
        if self.values is None:
            return [{} for _ in sets]
        from fastsam_core._image_values import PlaneValues, open_values
        from fastsam_core.measurements import measure_intensities

        tables: list[dict[str, NDArray[Any]]] = []
        measured = {index for index, masks in enumerate(sets) if len(masks)}
        measured = measured or {next((index for index, place in enumerate(places) if place != {}), 0)}
        with open_values(source, **self.values, series=series) as planes:
            for index, (masks, place) in enumerate(zip(sets, places, strict=True)):
                table: dict[str, NDArray[Any]] = {}
                if index in measured:
                    values = PlaneValues(planes, place)
                    table = measure_intensities(masks, values, values.names)
                tables.append(table)
        return tables
