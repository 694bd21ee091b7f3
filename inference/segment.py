"""The whole flow on one screen: an image becomes a mask, tile by tile, band by band."""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imaging.remarks import remark_text
from imaging.source import ImageSource
from inference.image_label import ImageLabel, LabelReader
from inference.plan import AnyPredictor, ImagePlan, MemberPlan, plan_image
from inference.predictors.ensemble import Ensemble, mean_bands
from inference.request import Writers
from inference.tiling.grid import Tile, read_mirrored
from inference.tiling.prefetch import prefetch
from inference.tiling.resampling import resample_bands
from inference.tiling.seams import Seams
from inference.tiling.stitch import Band, Stitcher
from transforms import normalise

Progress = Callable[[int, int], None]  # called with the tiles that are done and all tiles


@dataclass(frozen=True)
class Segmentation:
    """Facts about a finished mask: `seconds` from the first tile to the last row, `warnings` as stable codes.

    `label` is that of the whole image, None without one. `seam` is the jump of the logits across the borders of tiles by the
    jump elsewhere, about 1 where borders are invisible; None where there are none, or tiles were skipped. `skipped` tiles
    hold no tissue, or lie outside of the regions of interest. Rows above `resumed_row` are an earlier run's.
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
        """The facts in one line."""
        remarks = [
            f"{self.seconds:.1f} s",
            f"resumed from row {self.resumed_row:,}" if self.resumed_row else "",
            f"{self.skipped:,} of {self.tiles:,} tiles skipped" if self.skipped else "",
            self.label.name if self.label else "",
            f"seams {self.seam:.2f} (1: invisible)" if self.seam is not None else "",
            *map(remark_text, self.warnings),
        ]
        return ", ".join(remark for remark in remarks if remark)


class Observers:
    """Observers of the tiles and bands of one image: progress, and where they are given its label and its seams.

    Args:
        plan: plan of the image.
        on_progress: called after each tile.
        label: reader of the image's label.
        seams: meters of the seams.
    """

    def __init__(
        self,
        plan: ImagePlan,
        on_progress: Progress | None = None,
        *,
        label: LabelReader | None = None,
        seams: Seams | None = None,
    ) -> None:
        self.label = label
        self.seams = seams
        self._on_progress = on_progress
        self._tile_count = plan.tile_count
        self._done = self._tile_count - sum(member.remaining_tiles for member in plan.members)

    def add_tile(self, member: MemberPlan, tile: Tile, logits: NDArray[np.float32]) -> None:
        """Add the outputs (R + L, *S') of one tile, of which the last L are the label's."""
        if self.label:
            self.label.add_tile(member.predictor, tile, logits[member.predictor.head.outputs :])
        self._done += 1
        if self._on_progress:
            self._on_progress(self._done, self._tile_count)


def segment(plan: ImagePlan, writers: Writers, on_progress: Progress | None = None) -> Segmentation:
    """Write the image's mask, (*S) uint8, the label of the likeliest class at each pixel; or its values, (*S) float32.

    Args:
        plan: plan of the image.
        writers: writers that are open for the image's geometry.
        on_progress: called after each tile.
    """
    start_s, head, source = time.monotonic(), plan.predictor.head, plan.source
    label, seams = LabelReader(plan.predictor, source.shape), Seams()
    for band in bands(plan, Observers(plan, on_progress, label=label, seams=seams)):
        if plan.part.regions:
            plan.part.regions.clear(band, head.nothing)
        writers.write(head, band)
        label.add_band(band)
    skipped = sum(member.skipped_tiles for member in plan.members)
    warnings = [*source.warnings]
    if source.spacing_given:
        warnings.append("spacing_given")
    if skipped:
        warnings.append("tiles_skipped")
    return Segmentation(
        seconds=time.monotonic() - start_s,
        tiles=sum(len(member.grid) for member in plan.members),
        warnings=tuple(warnings),
        label=label.label,
        seam=None if skipped else seams.seam,
        skipped=skipped,
        resumed_row=plan.first_row,
    )


def segment_array(source: ImageSource, predictor: AnyPredictor) -> NDArray[np.uint8]:
    """Return the image's mask, (*S), in memory: for validation and for pictures."""
    return np.concatenate([predictor.head.mask(band.logits) for band in bands(plan_image(source, predictor))])


def bands(plan: ImagePlan, observers: Observers | None = None) -> Iterator[Band]:
    """Return the logits of the image on its own grid, in finished bands from the plan's first row to the last."""
    streams = []
    for member in plan.members:
        stream = stitched_bands(member, observers, plan.scratch_folder)
        if observers and observers.seams:
            stream = observers.seams.measured(stream, member.grid)
        streams.append(resample_bands(stream, member.source.shape, plan.source.shape, plan.first_row))
    return mean_bands(plan.predictor, streams, plan.first_row) if isinstance(plan.predictor, Ensemble) else streams[0]


def stitched_bands(plan: MemberPlan, observers: Observers | None = None, scratch_folder: Path | None = None) -> Iterator[Band]:
    """Yield the logits of one predictor on the grid that it was trained at."""
    predictor, source, config = plan.predictor, plan.source, plan.predictor.config
    normalised = normalise.fit(config.normalise, source.channels, source.blocks())
    stitcher = _make_stitcher(plan, scratch_folder)

    def read(batch: Sequence[Tile]) -> NDArray[np.float32]:
        return np.stack([normalised(read_mirrored(source, tile.input)) for tile in batch])  # (B, C, *S)

    yield from stitcher.finished()  # rows above the first tile, where tiles are skipped
    for batch, patches in prefetch(read, batched(plan.tiles(), config.inference.batch_size)):
        for tile, logits in zip(batch, predictor(patches), strict=True):  # each (K, *S'), a label's L behind them
            stitcher.add(tile, logits)
            yield from stitcher.finished()  # rows that no later tile touches
            if observers:
                observers.add_tile(plan, tile, logits)


def _make_stitcher(plan: MemberPlan, scratch_folder: Path | None) -> Stitcher:
    head, budget = plan.predictor.head, plan.predictor.memory_budget
    is_on_disk = budget is not None and budget.use(plan.grid).scratch_bytes > 0
    stitcher = Stitcher(
        plan.grid,
        np.zeros(head.outputs, np.float32) if plan.part.is_whole else head.nothing,
        plan.predictor.weights(plan.grid),
        first_row=plan.first_row,
        scratch_folder=(scratch_folder or Path(tempfile.gettempdir())) if is_on_disk else None,
    )
    if not plan.part.is_whole:
        first = next(plan.tiles(), None)
        stitcher.finished_row = first.output[0].start if first else plan.grid.shape[0]
    return stitcher


def batched(tiles: Iterable[Tile], size: int) -> Iterator[tuple[Tile, ...]]:
    """Yield tuples of `size` tiles, the last one shorter; as `itertools.batched`, which Python 3.11 doesn't have."""
    remaining = iter(tiles)
    while batch := tuple(islice(remaining, size)):
        yield batch
