"""The whole flow on one screen: an image becomes a mask, tile by tile, band by band."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from configs.schema import Config
from configs.sections import DataSection
from imaging.errors import UnsuitableImage
from imaging.resample import ResampledSource, shape_at
from imaging.source import ImageSource, spacing_text
from imaging.writers import MaskWriter, ProbabilityWriter, ValueWriter
from inference.ahead import ahead
from inference.ensemble import Ensemble, mean_bands
from inference.grid import read_mirrored
from inference.image_label import ImageLabel, LabelReader
from inference.predictor import Predictor
from inference.regrid import regrid
from inference.seams import Seams
from inference.stitch import Band, Stitcher
from transforms import normalise

SAME_SPACING = 0.1  # of the trained spacing; an image that near is taken as it is
FARTHEST_SPACING = 16.0  # times the trained spacing, or a share of it; beyond it the numbers are in another unit

Progress = Callable[[int, int], None]
AnyPredictor = Predictor | Ensemble
T = TypeVar("T")


@dataclass(frozen=True)
class Segmentation:
    """What is known of a finished mask: `seconds` from the first tile to the last row, `warnings` as stable codes.

    `label` is the whole image's; None where nothing says one. `seam` is the jump of the logits across the borders of tiles by
    the jump elsewhere, about 1 where borders can't be seen; None where there are none.
    """

    seconds: float
    tiles: int
    warnings: tuple[str, ...]
    label: ImageLabel | None = None
    seam: float | None = None


def segment(
    source: ImageSource,
    predictor: AnyPredictor,
    writer: MaskWriter | ValueWriter,
    on_progress: Progress | None = None,
    *,
    probabilities: ProbabilityWriter | None = None,
    uncertainty: ValueWriter | None = None,
) -> Segmentation:
    """Writes the source's mask, (*S) uint8, the label of the likeliest class at each pixel; or its values, (*S) float32.

    Args:
        source: an open image.
        predictor: of the bundle, or of several.
        writer: open for the source's geometry, of values where the network's head gives them.
        on_progress: called with tiles done and tiles in all.
        probabilities: takes what the mask is made of, where that is wanted.
        uncertainty: takes how little is known of each pixel, where that is wanted.

    Raises:
        UnsuitableImage: the image's dimensions, channels or spacing aren't what the network was trained for.
    """
    began, tiles = time.monotonic(), count_tiles(source, predictor)
    meaning = predictor.head.values if predictor.head.gives_values else predictor.head.mask
    labels, seams = LabelReader(predictor, source.shape), Seams()
    for band in bands(source, predictor, on_progress, labels=labels, seams=seams):
        writer.write(band.start, meaning(band.logits))
        labels.add_band(band)
        if probabilities is not None:
            probabilities.write(band.start, predictor.head.probabilities(band.logits))
        if uncertainty is not None:
            uncertainty.write(band.start, predictor.head.uncertainty(band.logits))
    given = ("spacing_given",) if source.spacing_given else ()
    return Segmentation(time.monotonic() - began, tiles, (*source.warnings, *given), labels.label, seams.seam)


def segment_array(source: ImageSource, predictor: AnyPredictor) -> NDArray[np.uint8]:
    """The source's mask, (*S), in memory: for validation and for pictures."""
    return np.concatenate([predictor.head.mask(band.logits) for band in bands(source, predictor)])


def bands(
    source: ImageSource,
    predictor: AnyPredictor,
    on_progress: Progress | None = None,
    *,
    labels: LabelReader | None = None,
    seams: Seams | None = None,
) -> Iterator[Band]:
    """The logits of the whole image on its own grid, in finished bands from the first row to the last.

    Args:
        source: an open image.
        predictor: of the bundle, or of several.
        on_progress: called with tiles done and tiles in all.
        labels: is given what tiles say of the whole image, where that is wanted.
        seams: is given what the bands are made of, where that is wanted.

    Raises:
        UnsuitableImage: the image's dimensions, channels or spacing aren't what the network was trained for.
    """
    check_suitable(source, predictor.config)
    if isinstance(predictor, Ensemble):
        yield from mean_bands(predictor, _members_bands(source, predictor, on_progress, labels, seams))
        return
    seen = as_trained(source, predictor.config.data)
    yield from regrid(_bands_seen(seen, predictor, on_progress, labels, seams), seen.shape, source.shape)


def _members_bands(
    source: ImageSource, ensemble: Ensemble, on_progress: Progress | None, labels: LabelReader | None, seams: Seams | None
) -> list[Iterator[Band]]:
    """Each member's; the tiles of all are counted together."""
    done, tiles = [0] * len(ensemble.members), count_tiles(source, ensemble)

    def note(number: int, member_done: int, _: int) -> None:
        done[number] = member_done
        if on_progress:
            on_progress(sum(done), tiles)

    numbered = enumerate(ensemble.members)
    return [bands(source, member, partial(note, number), labels=labels, seams=seams) for number, member in numbered]


def count_tiles(source: ImageSource, predictor: AnyPredictor) -> int:
    """How many tiles the image takes.

    Raises:
        UnsuitableImage: the image's dimensions, channels or spacing aren't what the network was trained for.
    """
    check_suitable(source, predictor.config)
    if isinstance(predictor, Ensemble):
        return sum(count_tiles(source, member) for member in predictor.members)
    return len(predictor.grid(as_trained(source, predictor.config.data).shape))


def as_trained(source: ImageSource, data: DataSection) -> ImageSource:
    """The source at the spacing of `data`; itself where that isn't given or is near enough."""
    if data.spacing_um is None or source.spacing_um is None or _is_same(source.spacing_um, data.spacing_um):
        return source
    return ResampledSource(source, shape_at(source, data.spacing_um))


def _bands_seen(
    source: ImageSource, predictor: Predictor, on_progress: Progress | None, labels: LabelReader | None, seams: Seams | None
) -> Iterator[Band]:
    """The logits on the grid that the network was trained at."""
    config, outputs = predictor.config, predictor.head.outputs
    grid = predictor.grid(source.shape)
    meter = seams.meter(grid) if seams else None
    stitcher = Stitcher(grid, outputs, predictor.weights(grid))
    normalised = normalise.fit(config.normalise, source.channels, source.blocks())
    batches = batched(grid.tiles(), config.inference.batch_size)
    read = ((tiles, np.stack([normalised(read_mirrored(source, tile.input)) for tile in tiles])) for tiles in batches)
    for batch, patches in ahead(read):  # (B, C, *tile)
        for tile, logits in zip(batch, predictor(patches), strict=True):  # each (R, *S'), or R + L with a label's
            stitcher.add(tile, logits[:outputs])
            if labels:
                labels.add_tile(predictor, tile, logits[outputs:])
            for band in stitcher.finished():
                if meter:
                    meter.add(band)
                yield band
        if on_progress:
            on_progress(stitcher.added, len(grid))


def check_suitable(source: ImageSource, config: Config) -> None:
    """Nothing, when the network can be asked about the image.

    Raises:
        UnsuitableImage: another number of dimensions or channels, no spacing where one is needed, or one that can't be meant.
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
    if data.spacing_um is not None:
        _check_spacing(source.spacing_um, data.spacing_um)


def _check_spacing(have: tuple[float, ...] | None, trained: tuple[float, ...]) -> None:
    if have is None:
        raise UnsuitableImage(
            "resolution_unknown",
            f"the file doesn't say how far apart its pixels are, and the model was trained at {spacing_text(trained)} um; "
            "give it in micrometres: spacing_um in the request or in cases.csv, --spacing-um on the command line",
        )
    ratios = [value / wanted for value, wanted in zip(have, trained, strict=True)]
    if not all(1 / FARTHEST_SPACING <= ratio <= FARTHEST_SPACING for ratio in ratios):
        raise UnsuitableImage(
            "spacing_mismatch",
            f"image spacing {spacing_text(have)} um, the model was trained at {spacing_text(trained)} um: "
            f"more than {FARTHEST_SPACING:g} times apart; check the unit, or use a model of that spacing",
        )


def _is_same(have: tuple[float, ...], trained: tuple[float, ...]) -> bool:
    return all(abs(value / wanted - 1) <= SAME_SPACING for value, wanted in zip(have, trained, strict=True))


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
