"""The whole flow on one screen: an image becomes a mask, tile by tile, band by band."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from configs.schema import Config
from imaging.errors import UnsuitableImage
from imaging.source import ImageSource
from imaging.writers import MaskWriter
from inference.grid import read_mirrored
from inference.predictor import Predictor
from inference.stitch import Band, Stitcher
from transforms import normalise

SPACING_TOLERANCE = 0.25  # of the trained spacing; beyond it objects have another size than those that were learned

Progress = Callable[[int, int], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Segmentation:
    """What is known of a finished mask: `seconds` from the first tile to the last row, `warnings` as stable codes."""

    seconds: float
    tiles: int
    warnings: tuple[str, ...]


def segment(source: ImageSource, predictor: Predictor, writer: MaskWriter, on_progress: Progress | None = None) -> Segmentation:
    """Writes the source's mask, (*S) uint8, the label of the likeliest class at each pixel.

    Args:
        source: an open image.
        predictor: of the bundle.
        writer: open for the source's geometry.
        on_progress: called with tiles done and tiles in all.

    Raises:
        UnsuitableImage: the image's dimensions, channels or spacing aren't what the network was trained for.
    """
    warnings = check_suitable(source, predictor.config)
    began, tiles = time.monotonic(), len(predictor.grid(source.shape))
    for band in bands(source, predictor, on_progress):
        writer.write(band.start, to_mask(band.logits))
    return Segmentation(time.monotonic() - began, tiles, warnings)


def segment_array(source: ImageSource, predictor: Predictor) -> NDArray[np.uint8]:
    """The source's mask, (*S), in memory: for validation and for pictures."""
    check_suitable(source, predictor.config)
    return np.concatenate([to_mask(band.logits) for band in bands(source, predictor)])


def bands(source: ImageSource, predictor: Predictor, on_progress: Progress | None = None) -> Iterator[Band]:
    """The logits of the whole image, in finished bands from the first row to the last."""
    config = predictor.config
    grid = predictor.grid(source.shape)
    stitcher = Stitcher(grid, len(config.data.classes), predictor.weights(grid))
    normalised = normalise.fit(config.normalise, source.channels, source.blocks())
    for batch in batched(grid.tiles(), config.inference.batch_size):
        patches = np.stack([normalised(read_mirrored(source, tile.input)) for tile in batch])  # (B, C, *tile)
        for tile, logits in zip(batch, predictor(patches), strict=True):  # each (K, *S')
            stitcher.add(tile, logits)
            yield from stitcher.finished()
        if on_progress:
            on_progress(stitcher.added, len(grid))


def to_mask(logits: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The likeliest class (*S) of logits (K, *S); the first of equals."""
    mask: NDArray[np.uint8] = logits.argmax(axis=0).astype(np.uint8)
    return mask


def check_suitable(source: ImageSource, config: Config) -> tuple[str, ...]:
    """Warnings about an image that can be segmented all the same.

    Raises:
        UnsuitableImage: it can't be.
    """
    data = config.data
    if len(source.shape) != data.dimensions:
        raise UnsuitableImage(
            "dimension_not_supported",
            f"image has {len(source.shape)} dimensions, the model takes {data.dimensions}; "
            f"send a {'slide or picture' if data.dimensions == 2 else 'volume'}, or use a model of that dimension",
        )
    if source.channels != len(data.channels):
        raise UnsuitableImage(
            "channels_mismatch",
            f"image has {source.channels} channels, the model takes {len(data.channels)} ({', '.join(data.channels)}); "
            "send an image with those channels",
        )
    if data.spacing_um is None or source.spacing_um is None:
        return () if data.spacing_um is None else ("spacing_unknown",)
    ratios = [have / trained for have, trained in zip(source.spacing_um, data.spacing_um, strict=True)]
    if any(abs(ratio - 1) > SPACING_TOLERANCE for ratio in ratios):
        raise UnsuitableImage(
            "spacing_mismatch",
            f"image spacing {_um(source.spacing_um)} um, the model was trained at {_um(data.spacing_um)} um and takes "
            f"{SPACING_TOLERANCE:.0%} more or less; resample the image, or use a model of that spacing",
        )
    return ()


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _um(spacing_um: tuple[float, ...]) -> str:
    return " x ".join(f"{value:.4g}" for value in spacing_um)
