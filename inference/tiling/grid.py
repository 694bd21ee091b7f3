"""Where the tiles lie: which part of the image each one reads, and which part of the mask it writes.

    mirrored border ┌────────────── tile ──────────────┐
                    │ margin │      output     │ margin │     input  = tile, reaches over the image's border
                    └────────┴─────────────────┴────────┘     output = what is kept of it, inside the image

Steps are multiples of the network's stride: a network of depth D commutes only with shifts by 2^D, so only then do the
stitched tiles equal the pass over the whole image (388, what the original gives, is no multiple of 16; 384 is).
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.source import ImageSource, Region


@dataclass(frozen=True)
class Tile:
    """One pass through the network.

    Args:
        input: what it reads, in the image's coordinates; may reach over the border.
        output: what it writes, inside the image.
        kept: where `output` lies in the tile's logits.
    """

    input: Region
    output: Region
    kept: Region


@dataclass(frozen=True)
class Span:
    """A tile along one axis; the fields are those of Tile."""

    input: slice
    output: slice
    kept: slice


@dataclass(frozen=True)
class Axis:
    """The tiles along one axis of an image of `size` pixels; all have one `tile_size`, outputs begin in rising order."""

    size: int
    tile_size: int
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Grid:
    """The tiles of one image, first axis slowest, so that finished rows can leave early."""

    axes: tuple[Axis, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The image's size in S order."""
        return tuple(axis.size for axis in self.axes)

    @property
    def tile_size(self) -> tuple[int, ...]:
        """The size of the network's input in S order."""
        return tuple(axis.tile_size for axis in self.axes)

    @property
    def row_starts(self) -> tuple[int, ...]:
        """The first image row that each row of tiles writes."""
        return tuple(span.output.start for span in self.axes[0].spans)

    @property
    def most_rows(self) -> int:
        """The most rows that a tile writes."""
        return max(int(span.output.stop - span.output.start) for span in self.axes[0].spans)

    def __len__(self) -> int:
        return math.prod(len(axis.spans) for axis in self.axes)

    def tiles_above(self, row: int) -> int:
        """How many tiles write nothing from that image row on."""
        above = len([span for span in self.axes[0].spans if span.output.stop <= row])
        return above * math.prod(len(axis.spans) for axis in self.axes[1:])

    def tiles(self, first_row: int = 0) -> Iterator[Tile]:
        """Every tile that writes something from that image row on, in the order of its output's first row."""
        rows = [span for span in self.axes[0].spans if span.output.stop > first_row]
        for spans in itertools.product(rows, *(axis.spans for axis in self.axes[1:])):
            yield Tile(
                input=tuple(span.input for span in spans),
                output=tuple(span.output for span in spans),
                kept=tuple(span.kept for span in spans),
            )


LegalSize = Callable[[int], int]


def losing_axis(size: int, tile_size: int, margin: tuple[int, int], stride: int, legal_size: LegalSize) -> Axis:
    """Overlap-tile for a network that loses `margin` before and after: outputs lie side by side, inputs reach over.

    Source: Ronneberger et al. 2015, figure 2. The tile shrinks where as many smaller ones reach as far.

    Args:
        size: the image's, pixels.
        tile_size: the largest network input wanted, pixels; enlarged where it would be all margin.
        margin: what the network loses before and after, pixels.
        stride: tile steps are multiples of it.
        legal_size: the smallest input of at least so many pixels that the network takes.
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
    """Overlap-tile for a network of same padding: a tile's outputs near an inner side are wrong and dropped.

    At the image's own border nothing is dropped: there the network's padding is what the whole-image pass has too.

    Args:
        size: the image's, pixels; mirrored at its end up to a size that the network takes.
        tile_size: the largest network input wanted, pixels; enlarged where it would be all margin.
        margin: how far an output pixel looks to each side, pixels, a multiple of `stride`.
        stride: tile steps are multiples of it.
        legal_size: the smallest input of at least so many pixels that the network takes.
    """
    padded = legal_size(size)
    tile_size = max(tile_size, 2 * margin + stride)
    if padded <= legal_size(tile_size):
        return Axis(size, padded, (Span(slice(0, padded), slice(0, size), slice(0, size)),))
    step = _even_step(padded - 2 * margin, (tile_size - 2 * margin) // stride * stride, stride)
    tile_size = min(step + 2 * margin, padded)
    spans, done = [], 0
    for first in range(0, padded - tile_size + step, step):
        start = min(first, padded - tile_size)
        stop = min(start + tile_size - margin, size) if start + tile_size < padded else size
        if stop > done:
            spans.append(Span(slice(start, start + tile_size), slice(done, stop), slice(done - start, stop - start)))
        done = stop
    return Axis(size, tile_size, tuple(spans))


def blended_axis(size: int, tile_size: int, overlap: float, legal_size: LegalSize) -> Axis:
    """Tiles that overlap by at least that share, evenly spread; one tile, mirrored at its end, where the image is smaller."""
    tile_size = min(legal_size(tile_size), legal_size(size))
    step = max(1, int(tile_size * (1 - overlap)))
    count = 1 + max(0, math.ceil((size - tile_size) / step))
    spans = []
    for start in np.linspace(0, max(0, size - tile_size), count).round().astype(int).tolist():
        stop = min(start + tile_size, size)
        spans.append(Span(slice(start, start + tile_size), slice(start, stop), slice(0, stop - start)))
    return Axis(size, tile_size, tuple(spans))


def _even_step(size: int, step: int, stride: int) -> int:
    """The smallest multiple of `stride` that needs no more tiles than `step` does, at least one stride."""
    count = math.ceil(size / max(step, stride))
    return max(1, math.ceil(math.ceil(size / count) / stride)) * stride


def read_mirrored(source: ImageSource, region: Region) -> NDArray[np.generic]:
    """Pixels (C, *S) of a region that may reach over the border, where the image is mirrored about its last pixel."""
    indices = [_mirror(np.arange(axis.start, axis.stop), size) for axis, size in zip(region, source.shape, strict=True)]
    inside = tuple(slice(int(index.min()), int(index.max()) + 1) for index in indices)
    pixels = source.read(inside)
    if inside == region:
        return pixels
    for axis, (index, part) in enumerate(zip(indices, inside, strict=True), start=1):
        pixels = np.take(pixels, index - part.start, axis=axis)
    return pixels


def _mirror(index: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Each index folded back into 0 .. size - 1: -1 -> 1, size -> size - 2, however far outside."""
    if size == 1:
        return np.zeros_like(index)
    period = 2 * (size - 1)
    folded = np.abs(index) % period
    mirrored: NDArray[np.int64] = np.minimum(folded, period - folded)
    return mirrored
