"""Settings of objects for one image: sizes in pixels are those of the spacing that the network was trained at."""

from math import prod

from configs.inference_section import InferenceSection
from configs.schema import Config
from imaging.errors import UnsuitableImage
from inference.compatibility import SPACING_TOLERANCE

LARGEST_RADIUS_PX = 100  # of an opening, as in the config


def object_settings(config: Config, spacing_um: tuple[float, ...] | None) -> InferenceSection:
    """Return how objects are found in the mask of an image of that spacing.

    If the network was trained at another spacing, lengths, areas and volumes in pixels are converted. Within a tenth they
    stay as they are, as the image does.

    Args:
        config: config of the network.
        spacing_um: distance between the image's pixel centres in S order; None: not known.

    Raises:
        UnsuitableImage: `resolution_unknown`: detections in an image of unknown spacing.
    """
    section, trained_um = config.inference, config.data.spacing_um
    if section.objects == "peaks" and spacing_um is None:
        raise UnsuitableImage(
            "resolution_unknown",
            "the file doesn't say how far apart its pixels are, and detections lie within a radius in micrometres; "
            "give it in micrometres (1 mm is 1000): spacing_um in the request or in cases.csv, or --spacing-um of the command",
        )
    if trained_um is None or spacing_um is None:
        return section
    ratios = [trained / own for trained, own in zip(trained_um, spacing_um, strict=True)]
    if all(abs(1 / ratio - 1) <= SPACING_TOLERANCE for ratio in ratios):
        return section
    volume, length = prod(ratios), prod(ratios) ** (1 / len(ratios))
    return section.model_copy(
        update={
            "object_sigma_px": section.object_sigma_px * length,
            "smallest_object_px": round(section.smallest_object_px * volume),
            "largest_hole_px": round(section.largest_hole_px * volume),
            "opening_radius_px": min(round(section.opening_radius_px * length), LARGEST_RADIUS_PX),
        }
    )
