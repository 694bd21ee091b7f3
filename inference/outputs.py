"""What is wanted of an image, and the files that it becomes: which formats, which names, what opens their writers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from configs.sections import ClassSection
from imaging.source import Geometry, ImageSource, MaskFormat
from imaging.writing.band_writer import (
    BandWriter,
    ProbabilityType,
    open_probability_writer,
    open_value_writer,
    open_writer,
    probability_formats,
    suffix_of,
    value_formats,
)
from imaging.writing.row_buffer import Kept
from inference.segment import AnyPredictor
from models.errors import BundleError


@dataclass(frozen=True)
class Wishes:
    """What is wanted of each image.

    Args:
        mask_formats: of all masks or maps of values, which are made in each of them; none: each image's natural one.
        probabilities: as what type the classes' probabilities are written beside the masks; None: they aren't.
        uncertainty: whether how little is known of each pixel is written beside the masks, 0 .. 1.
        disagreement: whether how far an ensemble's networks are apart is written beside the masks, 0 .. 1.
        spacing_um: the user's word for the distance between pixels, in S order or one for all axes; None takes the files'.
        tissue: whether tiles without tissue are skipped; they become background.
        regions: of interest; outside is background. Each the first pixel's place and the size, in S order; none: all of it.
    """

    mask_formats: tuple[MaskFormat, ...] = ()
    probabilities: ProbabilityType | None = None
    uncertainty: bool = False
    disagreement: bool = False
    spacing_um: tuple[float, ...] | None = None
    tissue: bool = False
    regions: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Output:
    """A file that an image gets.

    Args:
        kind: the writer's name in `Writers`.
        format: of the file.
        ending: how its name goes on after the image's stem.
        pixel_bytes: that it holds for each pixel.
        opener: of its path, and of the file that keeps its rows meanwhile.
    """

    kind: str
    format: MaskFormat
    ending: str
    pixel_bytes: int
    opener: Callable[..., BandWriter]

    def open(self, path: Path, kept: Kept | None) -> BandWriter:
        """Its writer."""
        return self.opener(path, format=self.format, kept=kept)


def outputs_of(source: ImageSource, predictor: AnyPredictor, wishes: Wishes) -> tuple[Output, ...]:
    """The mask or the values in each format, and what else is wanted.

    Raises:
        UnsuitableImage: `format_not_suitable`: the image can't have what is wanted in one of the formats.
    """
    geometry, classes = source.geometry, predictor.config.data.classes
    natural = value_formats(geometry)[-1] if predictor.head.gives_values else source.mask_format
    outputs: dict[str, Output] = {}
    for chosen in wishes.mask_formats or (natural,):
        main = _values(geometry, chosen, classes[0]) if predictor.head.gives_values else _mask(geometry, chosen, classes)
        beside = [
            _probabilities(geometry, chosen, classes, wishes.probabilities) if wishes.probabilities else None,
            _map(geometry, chosen, "uncertainty") if wishes.uncertainty else None,
            _map(geometry, chosen, "disagreement") if wishes.disagreement else None,
        ]
        # what neither of two masks' formats holds is one file beside both
        outputs |= {each.ending: each for each in (main, *beside) if each}
    return tuple(sorted(outputs.values(), key=lambda each: each.kind != "main"))


def check_wishes(predictor: AnyPredictor, wishes: Wishes) -> None:
    """Nothing, when the bundle can give what is wanted.

    Raises:
        BundleError: it gives values, and what is wanted goes by classes.
    """
    named = {
        "probabilities": wishes.probabilities,
        "uncertainty": wishes.uncertainty,
        "tissue": wishes.tissue,
        "region": wishes.regions,
    }
    for name, wish in named.items():
        if wish and predictor.head.gives_values:
            raise BundleError(f"the bundle gives values and no probabilities of classes; leave --{name} out")


def _mask(geometry: Geometry, chosen: MaskFormat, classes: tuple[ClassSection, ...]) -> Output:
    return Output("main", chosen, suffix_of(chosen), 1, partial(open_writer, geometry=geometry, classes=classes))


def _values(geometry: Geometry, chosen: MaskFormat, quantity: ClassSection) -> Output:
    return Output("main", chosen, suffix_of(chosen), 4, partial(open_value_writer, geometry=geometry, quantity=quantity))


def _probabilities(geometry: Geometry, mask: MaskFormat, classes: tuple[ClassSection, ...], dtype: ProbabilityType) -> Output:
    """As the mask's format, where that holds them."""
    suiting = probability_formats(geometry, dtype)
    chosen = mask if mask in suiting else suiting[0]
    return Output(
        "probabilities",
        chosen,
        f"_probabilities{suffix_of(chosen)}",
        np.dtype(dtype).itemsize * len(classes),
        partial(open_probability_writer, geometry=geometry, classes=classes, dtype=dtype),
    )


def _map(geometry: Geometry, mask: MaskFormat, kind: str) -> Output:
    """Of one value a pixel, as the mask's format, where that holds values."""
    suiting = value_formats(geometry)
    chosen = mask if mask in suiting else suiting[-1]
    opener = partial(open_value_writer, geometry=geometry, quantity=ClassSection(name=kind, colour="#ffffff"))
    return Output(kind, chosen, f"_{kind}{suffix_of(chosen)}", 4, opener)
