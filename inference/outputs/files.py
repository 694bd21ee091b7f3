"""Files of an image that are written row by row: their formats, their names, and the functions that open their writers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from configs.sections import ClassSection
from imaging.source import Geometry, ImageSource, MaskFormat
from imaging.writing.band_writer import BandWriter, open_probability_writer, open_value_writer, open_writer
from imaging.writing.formats import ProbabilityType, probability_formats, suffix_of, value_formats
from imaging.writing.row_buffer import BufferFile
from inference.plan import AnyPredictor
from inference.request import OutputRequest
from models.errors import BundleError


@dataclass(frozen=True)
class Output:
    """Output file of an image.

    Args:
        kind: name of its writers in `Writers`.
        format: format of the file.
        ending: end of the file's name, after the image's stem.
        pixel_bytes: bytes per pixel of the image.
        opener: opens the writer; takes the file's path, its format, and the file that holds its rows until it is complete.
    """

    kind: str
    format: MaskFormat
    ending: str
    pixel_bytes: int
    opener: Callable[..., BandWriter]

    def open(self, path: Path, rows_file: BufferFile | None) -> BandWriter:
        """Open the writer of this output for a file at that path."""
        return self.opener(path, format=self.format, rows_file=rows_file)


def outputs_of(source: ImageSource, predictor: AnyPredictor, request: OutputRequest) -> tuple[Output, ...]:
    """Return the output files of an image: the mask, or the values, in each format first, then the other requested files.

    Raises:
        UnsuitableImage: `format_not_suitable`: a format can't hold the requested outputs of this image.
    """
    geometry, classes = source.geometry, predictor.config.data.classes
    gives_values = predictor.head.gives_values
    natural = value_formats(geometry)[-1] if gives_values else source.mask_format
    outputs: dict[str, Output] = {}  # by ending, since masks in two formats may share one file of probabilities
    for mask_format in request.mask_formats or (natural,):
        if gives_values:
            opener: Callable[..., BandWriter] = partial(open_value_writer, geometry=geometry, quantity=classes[0])
        else:
            opener = partial(open_writer, geometry=geometry, classes=classes)
        suffix = suffix_of(mask_format)
        outputs[suffix] = Output("main", mask_format, suffix, 4 if gives_values else 1, opener)
        beside = []
        if request.probabilities:
            beside.append(_probability_output(geometry, mask_format, classes, request.probabilities))
        if request.uncertainty:
            beside.append(_map_output(geometry, mask_format, "uncertainty"))
        if request.disagreement:
            beside.append(_map_output(geometry, mask_format, "disagreement"))
        outputs |= {output.ending: output for output in beside}
    return tuple(sorted(outputs.values(), key=lambda output: output.kind != "main"))


def check_request(predictor: AnyPredictor, request: OutputRequest) -> None:
    """Check that the bundle can give the requested outputs.

    Raises:
        BundleError: the bundle gives values, but probabilities, uncertainty, tissue, regions or objects are requested.
    """
    options = {
        "probabilities": request.probabilities,
        "uncertainty": request.uncertainty,
        "tissue": request.tissue,
        "region": request.regions,
        "objects": request.objects,
    }
    for name, value in options.items():
        if value and predictor.head.gives_values:
            raise BundleError(f"the bundle gives values and no probabilities of classes; leave --{name} out")


def _probability_output(
    geometry: Geometry, mask_format: MaskFormat, classes: tuple[ClassSection, ...], dtype: ProbabilityType
) -> Output:
    """Return the output of the probabilities, in the mask's format if that can hold them."""
    formats = probability_formats(geometry, dtype)
    selected = mask_format if mask_format in formats else formats[0]
    return Output(
        "probabilities",
        selected,
        f"_probabilities{suffix_of(selected)}",
        np.dtype(dtype).itemsize * len(classes),
        partial(open_probability_writer, geometry=geometry, classes=classes, dtype=dtype),
    )


def _map_output(geometry: Geometry, mask_format: MaskFormat, kind: str) -> Output:
    """Return the output of a map with one value per pixel, in the mask's format if that can hold values."""
    formats = value_formats(geometry)
    selected = mask_format if mask_format in formats else formats[-1]
    opener = partial(open_value_writer, geometry=geometry, quantity=ClassSection(name=kind, colour="#ffffff"))
    return Output(kind, selected, f"_{kind}{suffix_of(selected)}", 4, opener)
