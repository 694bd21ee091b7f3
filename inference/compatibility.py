"""Compatibility of images with networks: dimensions, channels and spacing, and resampling to the trained spacing."""

from configs.schema import Config
from configs.sections import DataSection
from imaging.errors import UnsuitableImage
from imaging.resample import ResampledSource, shape_at
from imaging.source import ImageSource, spacing_text

SPACING_TOLERANCE = 0.1  # of the trained spacing; an image within it is not resampled
MOST_SPACING_RATIO = 16.0  # between two spacings; a larger one means different units


def at_trained_spacing(source: ImageSource, data: DataSection) -> ImageSource:
    """Return the source resampled to the spacing of `data`, or itself if its spacing is unknown, the same or nearly so."""
    if data.spacing_um is None or source.spacing_um is None:
        return source
    ratios = [own / trained for own, trained in zip(source.spacing_um, data.spacing_um, strict=True)]
    if all(abs(ratio - 1) <= SPACING_TOLERANCE for ratio in ratios):
        return source
    return ResampledSource(source, shape_at(source, data.spacing_um))


def check_suitable(source: ImageSource, config: Config) -> None:
    """Check that a network of this config can segment the image.

    Raises:
        UnsuitableImage: the number of dimensions or channels differs, or the spacing is missing or implausible.
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
    if data.spacing_um is None:
        return
    if source.spacing_um is None:
        raise UnsuitableImage(
            "resolution_unknown",
            f"the file doesn't say how far apart its pixels are, and the model was trained at {spacing_text(data.spacing_um)}; "
            "give it in micrometres (1 mm is 1000): spacing_um in the request or in cases.csv, or --spacing-um of the command",
        )
    ratios = [own / trained for own, trained in zip(source.spacing_um, data.spacing_um, strict=True)]
    if not all(1 / MOST_SPACING_RATIO <= ratio <= MOST_SPACING_RATIO for ratio in ratios):
        raise UnsuitableImage(
            "spacing_mismatch",
            f"image spacing {spacing_text(source.spacing_um)}, the model was trained at {spacing_text(data.spacing_um)}: "
            f"more than {MOST_SPACING_RATIO:g} times apart; check the unit, or use a model of that spacing",
        )
