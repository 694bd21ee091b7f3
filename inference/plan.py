"""Image plans: all choices for one image that are made before its first tile, such as spacing, part and tiles.

Estimating, resuming and segmenting take the same plan.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from imaging.source import ImageSource
from inference.compatibility import at_trained_spacing, check_suitable
from inference.predictors.ensemble import Ensemble, predictors_of
from inference.predictors.predictor import Predictor
from inference.request import WHOLE_IMAGE, ImagePart
from inference.tiling.grid import Grid, Tile
from inference.tiling.resampling import first_needed_row

AnyPredictor = Predictor | Ensemble


@dataclass(frozen=True)
class MemberPlan:
    """Plan of one image for one predictor.

    Args:
        predictor: predictor of a bundle.
        source: the image on the grid that the networks were trained at.
        grid: tiles of that image.
        part: part of the image that is segmented.
        first_row: first row of that grid that is segmented.
    """

    predictor: Predictor
    source: ImageSource
    grid: Grid
    part: ImagePart
    first_row: int = 0

    def tiles(self) -> Iterator[Tile]:
        """Yield the tiles that are segmented."""
        return self.grid.tiles(self.first_row, None if self.part.is_whole else self._is_skipped)

    @cached_property
    def tile_count(self) -> int:
        """Number of tiles without skipped ones, from the image's first row on, even if an earlier run has segmented some."""
        return self._count_tiles(0)

    @cached_property
    def remaining_tiles(self) -> int:
        """Number of tiles that `tiles` yields."""
        return self._count_tiles(self.first_row) if self.first_row else self.tile_count

    @property
    def skipped_tiles(self) -> int:
        """Number of tiles from the first row on that are skipped."""
        return len(self.grid) - self.grid.tiles_above(self.first_row) - self.remaining_tiles

    def _count_tiles(self, first_row: int) -> int:
        if self.part.is_whole:
            return len(self.grid) - self.grid.tiles_above(first_row)
        return sum(1 for _ in self.grid.tiles(first_row, self._is_skipped))

    def _is_skipped(self, region: tuple[slice, ...]) -> bool:
        return self.part.skips(region, self.grid.shape)


@dataclass(frozen=True)
class ImagePlan:
    """Frozen plan of one image.

    Args:
        source: open image.
        predictor: predictor of a bundle, or of several.
        part: part of the image that is segmented.
        members: plan for each bundle's predictor.
        first_row: first row of the image that is segmented; the rows above are from an earlier run.
        scratch_folder: folder for logits that don't fit into memory; None: the system's folder for temporary files.
    """

    source: ImageSource
    predictor: AnyPredictor
    part: ImagePart
    members: tuple[MemberPlan, ...]
    first_row: int = 0
    scratch_folder: Path | None = None

    @property
    def tile_count(self) -> int:
        """Number of tiles of all members, counted as in `MemberPlan.tile_count`."""
        return sum(member.tile_count for member in self.members)

    @property
    def tile_sizes(self) -> tuple[tuple[int, ...], ...]:
        """Tile size of each member."""
        return tuple(member.grid.tile_size for member in self.members)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Stable codes of the remarks about the image and the part of it that is segmented."""
        is_partial = any(len(member.grid) > member.tile_count for member in self.members)
        remarks = [*self.source.warnings]
        if self.source.spacing_given:
            remarks.append("spacing_given")
        if is_partial:
            remarks.append("tiles_skipped")
        return tuple(remarks)

    def resumed(self, first_row: int, tile_sizes: tuple[tuple[int, ...], ...]) -> "ImagePlan":
        """Return the plan of interrupted work: it starts at a row of the image and has the tile sizes of the earlier run.

        Raises:
            ImageTooLarge: `memory_too_small`: tiles of those sizes don't fit into the memory any more.
        """
        members = []
        for member, tile_size in zip(self.members, tile_sizes, strict=True):
            grid = (
                member.grid if tile_size == member.grid.tile_size else _fitting_grid(member.predictor, member.source, tile_size)
            )
            row = first_needed_row(first_row, member.source.shape, self.source.shape)
            members.append(replace(member, grid=grid, first_row=row))
        return replace(self, members=tuple(members), first_row=first_row)


def plan_image(
    source: ImageSource,
    predictor: AnyPredictor,
    part: ImagePart = WHOLE_IMAGE,
    *,
    scratch_folder: Path | None = None,
) -> ImagePlan:
    """Return the plan of an image, with a grid for each bundle that fits the memory budget.

    Args:
        source: open image.
        predictor: predictor of a bundle, or of several.
        part: part of the image that is segmented.
        scratch_folder: folder for logits that don't fit into memory.

    Raises:
        UnsuitableImage: the image's dimensions, channels or spacing aren't those that the network was trained for.
        ImageTooLarge: `memory_too_small`: the image doesn't fit into the memory, however small the tiles.
    """
    members = []
    for member in predictors_of(predictor):
        check_suitable(source, member.config)
        resampled = at_trained_spacing(source, member.config.data)
        members.append(MemberPlan(member, resampled, _fitting_grid(member, resampled), part))
    return ImagePlan(source, predictor, part, tuple(members), scratch_folder=scratch_folder)


def _fitting_grid(predictor: Predictor, source: ImageSource, tile_size: tuple[int, ...] | None = None) -> Grid:
    """Return the tiles of an image, and check that they fit the predictor's memory budget."""
    grid = predictor.grid(source.shape, tile_size)
    if predictor.memory_budget:
        predictor.memory_budget.check(grid)
    return grid
