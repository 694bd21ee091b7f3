"""Segmentation of an image: the loop over its tiles, and the writing of its mask band by band."""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imaging.remarks import remark_text
from imaging.source import ImageSource
from inference.confidence import ForegroundConfidence
from inference.image_label import ImageLabel, LabelReader
from inference.plan import AnyPredictor, ImagePlan, MemberPlan, plan_image
from inference.predictors.ensemble import Ensemble, mean_bands
from inference.request import Writers
from inference.tiling.grid import Tile, read_mirrored
from inference.tiling.prefetch import prefetch
from inference.tiling.resampling import resample_bands
from inference.tiling.seams import Seams
from inference.tiling.stitch import Band, Stitcher
from transforms.normalise import fit

Progress = Callable[[int, int], None]  # called with the number of finished tiles and the number of all tiles


@dataclass(frozen=True)
class Segmentation:
    """Facts about a finished mask.

    Args:
        seconds: duration from the first tile to the last row.
        tiles: number of tiles of the image, for all bundles.
        warnings: stable codes of remarks about the image and the mask.
        label: label of the whole image; None if no network predicts one.
        seam: ratio of the logits' jump across the borders of tiles to their jump elsewhere, about 1 if borders are invisible;
            None if there are no borders, or tiles were skipped.
        skipped: number of tiles without tissue, or outside of the regions of interest.
        resumed_row: row that the work resumed from; the rows above are from an earlier run.
        objects: number of objects; None if they were not looked for.
    """

    seconds: float
    tiles: int
    warnings: tuple[str, ...]
    label: ImageLabel | None = None
    seam: float | None = None
    skipped: int = 0
    resumed_row: int = 0
    objects: int | None = None

    @property
    def text(self) -> str:
        """The facts in one line."""
        remarks = [
            f"{self.seconds:.1f} s",
            f"resumed from row {self.resumed_row:,}" if self.resumed_row else "",
            f"{self.skipped:,} of {self.tiles:,} tiles skipped" if self.skipped else "",
            "" if self.objects is None else f"{self.objects:,} object{'' if self.objects == 1 else 's'}",
            self.label.name if self.label else "",
            f"seams {self.seam:.2f} (1: invisible)" if self.seam is not None else "",
            *map(remark_text, self.warnings),
        ]
        return ", ".join(remark for remark in remarks if remark)


class Observers:
    """Observers of one image's tiles and bands: they report progress, and compute its label and its seams where requested.

    Args:
        plan: plan of the image.
        on_progress: called after each tile.
        label: accumulator of the image's label.
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
        self._finished_tiles = self._tile_count - sum(member.remaining_tiles for member in plan.members)

    def observe(
        self, member: MemberPlan, outputs: Iterable[tuple[Tile, NDArray[np.float32]]]
    ) -> Iterator[tuple[Tile, NDArray[np.float32]]]:
        """Yield the tiles with their outputs (R + L, *S'), and observe each once its user has finished with it."""
        for tile, logits in outputs:
            yield tile, logits
            if self.label:
                self.label.add_tile(member.predictor, tile, logits[member.predictor.head.outputs :])
            self._finished_tiles += 1
            if self._on_progress:
                self._on_progress(self._finished_tiles, self._tile_count)


def segment(
    plan: ImagePlan,
    writers: Writers,
    on_progress: Progress | None = None,
    *,
    confidence: ForegroundConfidence | None = None,
) -> Segmentation:
    """Write the image's mask, the label (*S) uint8 of the likeliest class at each pixel, or its values (*S) float32.

    Args:
        plan: plan of the image.
        writers: open writers of the image's outputs.
        on_progress: called after each tile.
        confidence: accumulator of the confidence, which has the rows of an earlier run; None: a new one.
    """
    start_s, head = time.monotonic(), plan.predictor.head
    label, seams = LabelReader(plan.predictor, plan.source.shape), Seams()
    confidence = confidence or ForegroundConfidence(head, plan.source.shape)
    for band in bands(plan, Observers(plan, on_progress, label=label, seams=seams)):
        if plan.part.regions:
            plan.part.regions.clear(band, head.nothing)
        confidence.add(band)
        writers.write(head, band)
        label.add_band(band)
    skipped = sum(member.skipped_tiles for member in plan.members)
    return Segmentation(
        seconds=time.monotonic() - start_s,
        tiles=sum(len(member.grid) for member in plan.members),
        warnings=(*plan.remarks, *(("low_confidence",) if confidence.is_low else ())),
        label=label.label,
        seam=None if skipped else seams.seam,
        skipped=skipped,
        resumed_row=plan.first_row,
    )


def segment_array(source: ImageSource, predictor: AnyPredictor) -> NDArray[np.uint8]:
    """Return the image's mask (*S) in memory."""
    return np.concatenate([predictor.head.mask(band.logits) for band in bands(plan_image(source, predictor))])


def bands(plan: ImagePlan, observers: Observers | None = None) -> Iterator[Band]:
    """Return the logits of the image on its own grid, in finished bands from the plan's first row to the last."""
    observers, streams = observers or Observers(plan), []
    for member in plan.members:
        stream = stitched_bands(member, observers, plan.scratch_folder)
        if observers.seams:
            stream = observers.seams.measure(stream, member.grid)
        streams.append(resample_bands(stream, member.source.shape, plan.source.shape, plan.first_row))
    return mean_bands(plan.predictor, streams, plan.first_row) if isinstance(plan.predictor, Ensemble) else streams[0]


def stitched_bands(plan: MemberPlan, observers: Observers, scratch_folder: Path | None = None) -> Iterator[Band]:
    """Yield the logits of one predictor, on the grid of the spacing that it was trained at."""
    source, predictor, batch_size = plan.source, plan.predictor, plan.predictor.config.inference.batch_size
    normalise = fit(predictor.config.normalise, source.channels, source.blocks())
    stitcher = _make_stitcher(plan, scratch_folder)

    def read(batch: tuple[Tile, ...]) -> NDArray[np.float32]:
        return np.stack([normalise(read_mirrored(source, tile.input)) for tile in batch])  # (B, C, *S)

    yield from stitcher.finished()  # rows above the first tile, where tiles are skipped
    for batch, patches in prefetch(read, batched(plan.tiles(), batch_size)):
        for tile, logits in observers.observe(plan, zip(batch, predictor(patches), strict=True)):  # each (R + L, *S')
            stitcher.add(tile, logits)
            yield from stitcher.finished()  # rows that no later tile touches


def _make_stitcher(plan: MemberPlan, scratch_folder: Path | None) -> Stitcher:
    """Return the empty stitcher of a plan, whose logits are on the disk if they don't fit into memory."""
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
