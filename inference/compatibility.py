"""Whether a network can be asked about an image, and the image on the grid that it was trained at."""

from configs.schema import Config
from configs.sections import DataSection
from imaging.errors import UnsuitableImage
from imaging.resample import ResampledSource, shape_at
from imaging.source import ImageSource, spacing_text

SAME_SPACING = 0.1  # of the trained spacing; an image that near is taken as it is
FARTHEST_SPACING = 16.0  # times the trained spacing, or a share of it; beyond it the numbers are in another unit


def as_trained(source: ImageSource, data: DataSection) -> ImageSource:
    """The source at the spacing of `data`; itself where that isn't given or is near enough."""
    if data.spacing_um is None or source.spacing_um is None or _is_same(source.spacing_um, data.spacing_um):
        return source
    return ResampledSource(source, shape_at(source, data.spacing_um))


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
