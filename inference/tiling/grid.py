"""Tile grids: which region of the image each tile reads and writes.

    mirrored border ┌────────────── tile ──────────────┐
                    │ margin │      output     │ margin │     input  = tile, may reach over the image's border
                    └────────┴─────────────────┴────────┘     output = region of the mask that it writes, inside the image

Steps are multiples of the network's stride: a network of depth D commutes only with shifts by 2^D, so only then do the
stitched tiles equal the pass over the whole image (388, the output size of the original U-Net, is no multiple of 16; 384 is).
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from imaging.source import ImageSource, Region


@dataclass(frozen=True)
class Tile:
    """Tile: one input of the network.

    Args:
        input: region that the tile reads, in the image's coordinates; may reach over the border.
        output: region that the tile writes, inside the image.
        crop: region of the tile's logits that goes into `output`.
        finished_row: image row above which no later tile writes.
    """

    input: Region
    output: Region
    crop: Region
    finished_row: int = 0


@dataclass(frozen=True)
class Span:
    """A tile along one axis. The fields are those of `Tile`."""

    input: slice
    output: slice
    crop: slice


@dataclass(frozen=True)
class Axis:
    """The tiles along one axis of an image of `size` pixels, all of one size, ordered by the start of their output."""

    size: int
    tile_size: int
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Grid:
    """The tiles of one image. The first axis varies slowest, so that rows are finished early."""

    axes: tuple[Axis, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of the image in S order, pixels."""
        return tuple(axis.size for axis in self.axes)

    @property
    def tile_size(self) -> tuple[int, ...]:
        """Size of the network's input in S order, pixels."""
        return tuple(axis.tile_size for axis in self.axes)

    @property
    def row_starts(self) -> tuple[int, ...]:
        """First image row that each row of tiles writes."""
        return tuple(span.output.start for span in self.axes[0].spans)

    @property
    def most_rows(self) -> int:
        """Largest number of image rows that a tile writes."""
        return max(int(span.output.stop - span.output.start) for span in self.axes[0].spans)

    def __len__(self) -> int:
        return math.prod(len(axis.spans) for axis in self.axes)

    def tiles_above(self, row: int) -> int:
        """Return the number of tiles that write only above that row of the image."""
        above = len([span for span in self.axes[0].spans if span.output.stop <= row])
        return above * math.prod(len(axis.spans) for axis in self.axes[1:])

    def tiles(self, first_row: int = 0, is_skipped: Callable[[Region], bool] | None = None) -> Iterator[Tile]:
        """Yield the tiles that write into the rows from `first_row` on, in the order of their output's first row.

        Args:
            first_row: row of the image.
            is_skipped: returns whether a tile with this output is skipped; None skips none.
        """
        rows = [span for span in self.axes[0].spans if span.output.stop > first_row]
        tiles = (
            Tile(
                input=tuple(span.input for span in spans),
                output=tuple(span.output for span in spans),
                crop=tuple(span.crop for span in spans),
            )
            for spans in itertools.product(rows, *(axis.spans for axis in self.axes[1:]))
        )
        selected = (tile for tile in tiles if is_skipped is None or not is_skipped(tile.output))
        for tile, following in itertools.pairwise(itertools.chain(selected, [None])):
            if tile is not None:
                yield replace(tile, finished_row=following.output[0].start if following else self.shape[0])


LegalSize = Callable[[int], int]


def losing_axis(size: int, tile_size: int, margin: tuple[int, int], stride: int, legal_size: LegalSize) -> Axis:
    """Return the tiles of a network that loses `margin` before and after: outputs side by side, inputs overlapping.

    Source: the overlap-tile strategy, Ronneberger et al. 2015, figure 2. Tiles are made smaller as long as their number stays
    the same.

    Args:
        size: size of the image, pixels.
        tile_size: largest input of the network, pixels; enlarged if it would consist of margin alone.
        margin: pixels that the network loses before and after.
        stride: tile steps are multiples of it.
        legal_size: returns the smallest legal input size of at least that many pixels.
    """
    lost = sum(margin)
    step = _even_step(size, (tile_size - lost) // stride * stride, stride)
    tile_size = legal_size(step + lost)
    spans = []
    for start in range(0, size, step):
        stop = min(start + step, size)
        spans.append(Span(slice(start - margin[0], start - margin[0] + tile_size), slice(start, stop), slice(0, stop - start)))
    return Axis(size, tile_size, tuple(spans))


def keeping_axis(size: int, tile_size: int, margin: int, stride: int, legal_size: LegalSize) -> Axis:
    """Return the tiles of a network with same padding. Outputs near a tile's border inside the image are dropped.

    At the image's own border nothing is dropped, since a pass over the whole image has the same padding there.

    Args:
        size: size of the image, pixels; it is mirrored at its end up to a legal size.
        tile_size: largest input of the network, pixels; enlarged if it would consist of margin alone.
        margin: distance that an output pixel depends on at each side, pixels, a multiple of `stride`.
        stride: tile steps are multiples of it.
        legal_size: returns the smallest legal input size of at least that many pixels.
    """
    padded = legal_size(size)
    tile_size = max(tile_size, 2 * margin + stride)
    if padded <= legal_size(tile_size):
        return Axis(size, padded, (Span(slice(0, padded), slice(0, size), slice(0, size)),))
    step = _even_step(padded - 2 * margin, (tile_size - 2 * margin) // stride * stride, stride)
    tile_size = min(step + 2 * margin, padded)
    spans, written_rows = [], 0
    for first in range(0, padded - tile_size + step, step):
        start = min(first, padded - tile_size)
        stop = min(start + tile_size - margin, size) if start + tile_size < padded else size
        if stop > written_rows:
            spans.append(
                Span(slice(start, start + tile_size), slice(written_rows, stop), slice(written_rows - start, stop - start))
            )
        written_rows = stop
    return Axis(size, tile_size, tuple(spans))


def blended_axis(size: int, tile_size: int, overlap: float, legal_size: LegalSize) -> Axis:
    """Return evenly spread tiles that overlap by at least that share; a single mirrored tile if the image is smaller."""
    tile_size = min(legal_size(tile_size), legal_size(size))
    step = max(1, int(tile_size * (1 - overlap)))
    count = 1 + max(0, math.ceil((size - tile_size) / step))
    spans = []
    for start in np.linspace(0, max(0, size - tile_size), count).round().astype(int).tolist():
        stop = min(start + tile_size, size)
        spans.append(Span(slice(start, start + tile_size), slice(start, stop), slice(0, stop - start)))
    return Axis(size, tile_size, tuple(spans))


def _even_step(size: int, step: int, stride: int) -> int:
    """Return the smallest step, a multiple of `stride`, with which no more tiles are needed than with `step`."""
    count = math.ceil(size / max(step, stride))
    return max(1, math.ceil(math.ceil(size / count) / stride)) * stride


def read_mirrored(source: ImageSource, region: Region) -> NDArray[np.generic]:
    """Return the pixels (C, *S) of a region. Beyond the border the image is mirrored about its last pixel."""
    indices = [_mirror(np.arange(axis.start, axis.stop), size) for axis, size in zip(region, source.shape, strict=True)]
    inside = tuple(slice(int(index.min()), int(index.max()) + 1) for index in indices)
    pixels = source.read(inside)
    if inside == region:
        return pixels
    for axis, (index, part) in enumerate(zip(indices, inside, strict=True), start=1):
        pixels = np.take(pixels, index - part.start, axis=axis)
    return pixels


def _mirror(index: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Fold each index back into 0 .. size - 1: -1 becomes 1 and size becomes size - 2, however far outside it is."""
    if size == 1:
        return np.zeros_like(index)
    period = 2 * (size - 1)
    folded = np.abs(index) % period
    mirrored: NDArray[np.int64] = np.minimum(folded, period - folded)
    return mirrored
