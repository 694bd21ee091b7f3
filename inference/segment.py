"""The whole flow on one screen: an image becomes a mask, tile by tile, band by band."""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imaging.source import ImageSource
from inference.compatibility import as_trained, check_suitable
from inference.image_label import ImageLabel, LabelReader
from inference.predictors.ensemble import Ensemble, mean_bands
from inference.predictors.predictor import Predictor
from inference.request import WHOLE, Gathered, Part, Writers
from inference.tiling.grid import Grid, Tile, read_mirrored
from inference.tiling.memory_budget import check_holds
from inference.tiling.prefetch import ahead
from inference.tiling.resampling import needed_row, regrid
from inference.tiling.seams import Seams
from inference.tiling.stitch import Band, Stitcher
from transforms import normalise

MOST_SKIPPED = 256  # tiles at a time that are passed over before what is finished leaves

Progress = Callable[[int, int], None]
AnyPredictor = Predictor | Ensemble


@dataclass(frozen=True)
class Segmentation:
    """What is known of a finished mask: `seconds` from the first tile to the last row, `warnings` as stable codes.

    `label` is the whole image's; None where nothing says one. `seam` is the jump of the logits across the borders of tiles by
    the jump elsewhere, about 1 where borders can't be seen; None where there are none, or tiles were skipped. `skipped` tiles
    hold no tissue, or lie outside of the regions asked for. From `resumed_row` on the work of an earlier run, which was broken
    off, was gone on with.
    """

    seconds: float
    tiles: int
    warnings: tuple[str, ...]
    label: ImageLabel | None = None
    seam: float | None = None
    skipped: int = 0
    resumed_row: int = 0

    @property
    def text(self) -> str:
        """In a line."""
        remarks = [
            f"{self.seconds:.1f} s",
            f"from row {self.resumed_row:,} on, where it was broken off" if self.resumed_row else "",
            f"{self.skipped:,} of {self.tiles:,} tiles skipped" if self.skipped else "",
            self.label.name if self.label else "",
            f"seams {self.seam:.2f} (1: none to be seen)" if self.seam is not None else "",
            *self.warnings,
        ]
        return ", ".join(remark for remark in remarks if remark)


def segment(
    source: ImageSource,
    predictor: AnyPredictor,
    writers: Writers,
    on_progress: Progress | None = None,
    part: Part = WHOLE,
) -> Segmentation:
    """Writes the source's mask, (*S) uint8, the label of the likeliest class at each pixel; or its values, (*S) float32.

    Args:
        source: an open image.
        predictor: of the bundle, or of several.
        writers: open for the source's geometry.
        on_progress: called with tiles done and tiles in all.
        part: of the image.

    Raises:
        UnsuitableImage: the image's dimensions, channels or spacing aren't what the network was trained for.
        ImageTooLarge: it takes more memory than there is, whatever its tiles.
    """
    began, tiles = time.monotonic(), count_tiles(source, predictor)
    gathered = Gathered(LabelReader(predictor, source.shape), Seams())
    for band in bands(source, predictor, on_progress, gathered=gathered, part=part):
        if part.regions:
            part.regions.clear(band, predictor.head.nothing)
        writers.write(predictor.head, band)
        gathered.labels.add_band(band)
    given = ("spacing_given",) if source.spacing_given else ()
    skipped = ("tiles_skipped",) if gathered.skipped else ()
    return Segmentation(
        time.monotonic() - began,
        tiles,
        (*source.warnings, *given, *skipped),
        gathered.labels.label,
        None if skipped else gathered.seams.seam,
        gathered.skipped,
        part.first_row,
    )


def segment_array(source: ImageSource, predictor: AnyPredictor) -> NDArray[np.uint8]:
    """The source's mask, (*S), in memory: for validation and for pictures."""
    return np.concatenate([predictor.head.mask(band.logits) for band in bands(source, predictor)])


def bands(
    source: ImageSource,
    predictor: AnyPredictor,
    on_progress: Progress | None = None,
    *,
    gathered: Gathered | None = None,
    part: Part = WHOLE,
) -> Iterator[Band]:
    """The logits of the image on its own grid, in finished bands from the part's first row to the last.

    Args:
        source: an open image.
        predictor: of the bundle, or of several.
        on_progress: called with tiles done and tiles in all.
        gathered: takes what else comes to light, where that is wanted.
        part: of the image.

    Raises:
        UnsuitableImage: the image's dimensions, channels or spacing aren't what the network was trained for.
        ImageTooLarge: it takes more memory than there is, whatever its tiles.
    """
    check_suitable(source, predictor.config)
    if isinstance(predictor, Ensemble):
        yield from mean_bands(predictor, _members_bands(source, predictor, on_progress, gathered, part), part.first_row)
        return
    seen = as_trained(source, predictor.config.data)
    grid = predictor.grid(seen.shape)
    if predictor.room:
        check_holds(predictor.room, grid)
    seen_part = replace(part, first_row=needed_row(part.first_row, seen.shape, source.shape))
    yield from regrid(_bands_seen(seen, predictor, on_progress, gathered, seen_part), seen.shape, source.shape, part.first_row)


def _members_bands(
    source: ImageSource, ensemble: Ensemble, on_progress: Progress | None, gathered: Gathered | None, part: Part
) -> list[Iterator[Band]]:
    """Each member's; the tiles of all are counted together."""
    done, tiles = [0] * len(ensemble.members), count_tiles(source, ensemble, part)

    def note(number: int, member_done: int, _: int) -> None:
        done[number] = member_done
        if on_progress:
            on_progress(sum(done), tiles)

    numbered = enumerate(ensemble.members)
    return [bands(source, member, partial(note, number), gathered=gathered, part=part) for number, member in numbered]


def count_tiles(source: ImageSource, predictor: AnyPredictor, part: Part = WHOLE) -> int:
    """How many tiles the part of the image takes, those that are skipped left out, those of an earlier run not.

    Raises:
        UnsuitableImage: the image's dimensions, channels or spacing aren't what the network was trained for.
    """
    check_suitable(source, predictor.config)
    if isinstance(predictor, Ensemble):
        return sum(count_tiles(source, member, part) for member in predictor.members)
    return _looked_at(predictor.grid(as_trained(source, predictor.config.data).shape), part)


def _looked_at(grid: Grid, part: Part, first_row: int = 0) -> int:
    """How many tiles that write something from that row on aren't skipped."""
    if part.is_whole:
        return len(grid) - grid.tiles_above(first_row)
    return len([tile for tile in grid.tiles(first_row) if not part.skips(tile.output, grid.shape)])


def _bands_seen(
    source: ImageSource, predictor: Predictor, on_progress: Progress | None, gathered: Gathered | None, part: Part
) -> Iterator[Band]:
    """The logits on the grid that the network was trained at."""
    grid, outputs = predictor.grid(source.shape), predictor.head.outputs
    meter = gathered.seams.meter(grid) if gathered else None
    on_disk = predictor.room is not None and predictor.room.need(grid).scratch_bytes > 0
    stitcher = Stitcher(
        grid,
        np.zeros(outputs, np.float32) if part.is_whole else predictor.head.nothing,
        predictor.weights(grid),
        first_row=part.first_row,
        scratch=(part.scratch or Path(tempfile.gettempdir())) if on_disk else None,
    )
    total = _looked_at(grid, part)
    done = total - _looked_at(grid, part, part.first_row)
    for batch, patches in ahead(_read(source, predictor, grid, part)):
        logits = iter(predictor(patches) if len(patches) else patches)  # each (R, *S'), or R + L with a label's
        for tile, is_skipped in batch:
            if is_skipped:
                stitcher.skip()
            else:
                answer = next(logits)
                stitcher.add(tile, answer[:outputs])
                if gathered:
                    gathered.labels.add_tile(predictor, tile, answer[outputs:])
            if gathered:
                gathered.skipped += is_skipped
            for band in stitcher.finished():
                if meter:
                    meter.add(band)
                yield band
        done += len(patches)
        if on_progress:
            on_progress(done, total)


def _read(
    source: ImageSource, predictor: Predictor, grid: Grid, part: Part
) -> Iterator[tuple[list[tuple[Tile, bool]], NDArray[np.float32]]]:
    """Tiles in their order, each with whether it is skipped, and the patches (B, C, *tile) of those that aren't."""
    normalised = normalise.fit(predictor.config.normalise, source.channels, source.blocks())
    marked = ((tile, part.skips(tile.output, grid.shape)) for tile in grid.tiles(part.first_row))
    for batch in _batched(marked, predictor.config.inference.batch_size):
        patches = [normalised(read_mirrored(source, tile.input)) for tile, is_skipped in batch if not is_skipped]
        yield batch, np.stack(patches) if patches else np.empty((0,), np.float32)


def _batched(tiles: Iterable[tuple[Tile, bool]], size: int) -> Iterator[list[tuple[Tile, bool]]]:
    """Lists with `size` tiles that aren't skipped, the last one shorter, and the skipped ones among them."""
    batch: list[tuple[Tile, bool]] = []
    read = 0
    for tile, is_skipped in tiles:
        batch.append((tile, is_skipped))
        read += not is_skipped
        if read == size or len(batch) == MOST_SKIPPED:
            yield batch
            batch, read = [], 0
    if batch:
        yield batch
