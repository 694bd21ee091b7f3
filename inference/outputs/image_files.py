"""All files of one image: those that are written row by row, and those that are made from the finished rows."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from imaging.source import ImageSource
from imaging.writing.band_writer import BandWriter, check_target
from imaging.writing.row_buffer import BufferFile
from inference.outputs.files import Output, outputs_of
from inference.outputs.object_files import ObjectFiles
from inference.outputs.probability_rows import ProbabilityRows
from inference.outputs.summary import SUMMARY
from inference.plan import AnyPredictor
from inference.predictors.ensemble import predictors_of
from inference.request import OutputRequest, Writers
from inference.resume import Rows

PROBABILITIES = "objects"  # name of the rows of the probabilities that objects are measured with


@dataclass(frozen=True)
class ImageFiles:
    """All files of an image.

    Args:
        folder: folder of the files.
        stem: start of the files' names.
        outputs: files that are written row by row while the image is segmented, the mask first.
        objects: files of the objects; None: objects aren't looked for.
        has_summary: the mask is summarised.
    """

    folder: Path
    stem: str
    outputs: tuple[Output, ...]
    objects: ObjectFiles | None
    has_summary: bool

    @property
    def paths(self) -> tuple[Path, ...]:
        """Paths of all files, the mask first."""
        endings = [output.ending for output in self.outputs]
        if self.objects:
            endings += self.objects.endings
        if self.has_summary:
            endings.append(SUMMARY)
        return tuple(map(self.path, endings))

    def path(self, ending: str) -> Path:
        """Return the path of the file with an ending."""
        return self.folder / f"{self.stem}{ending}"

    @property
    def pixel_bytes(self) -> int:
        """Bytes on the disk for each pixel of the image, for the files and, until they are complete, for unfinished rows."""
        rows = 2 * sum(output.pixel_bytes for output in self.outputs)
        return rows + (self.objects.pixel_bytes if self.objects else 0)

    def open(self, stack: ExitStack, rows_file: Callable[[str], BufferFile | None]) -> "OpenFiles":
        """Open the files that are written row by row, and the rows that objects are measured with.

        Args:
            stack: closes them; the mask is published last.
            rows_file: returns the file that holds the rows of an output, by its name; None: an unnamed one.

        Raises:
            DataError: `out_not_replaceable`: the path of a file is a folder that isn't an OME-Zarr.
        """
        for path in self.paths:
            check_target(path)
        writers: dict[str, list[BandWriter]] = {output.kind: [] for output in self.outputs}
        for output in self.outputs:
            writer = output.open(self.path(output.ending), rows_file(output.ending))
            writers[output.kind].append(stack.enter_context(writer))
        probabilities = None
        if self.objects:
            place = rows_file(PROBABILITIES) or self.folder
            probabilities = stack.enter_context(self.objects.open_probabilities(place))
        return OpenFiles(writers, probabilities)


@dataclass(frozen=True)
class OpenFiles:
    """Open files of an image that are written row by row.

    Args:
        writers: by kind, see `Writers`.
        probabilities: rows of the probabilities that objects are measured with; None: objects aren't looked for.
    """

    writers: dict[str, list[BandWriter]]
    probabilities: ProbabilityRows | None

    def observed(self, record: Callable[[int, Sequence[Rows]], None] | None) -> Writers:
        """Return the writers as `segment` takes them; `record` is called with the next row and all rows that were written."""
        rows: list[Rows] = [writer for several in self.writers.values() for writer in several]
        if self.probabilities:
            rows.append(self.probabilities)
        return Writers(
            **self.writers,
            on_band=self.probabilities.write if self.probabilities else None,
            on_rows=(lambda row: record(row, rows)) if record else None,
        )


def image_files(folder: Path, stem: str, source: ImageSource, predictor: AnyPredictor, request: OutputRequest) -> ImageFiles:
    """Return the files of an image.

    Raises:
        UnsuitableImage: `format_not_suitable`: a format can't hold the requested outputs of this image.
    """
    outputs = outputs_of(source, predictor, request)
    config = predictors_of(predictor)[0].config
    objects = ObjectFiles.of(source, config, request) if finds_objects(predictor, request) else None
    return ImageFiles(folder, stem, outputs, objects, has_summary=not predictor.head.gives_values)


def finds_objects(predictor: AnyPredictor, request: OutputRequest) -> bool:
    """Return whether objects are looked for: as requested, or else if the network was trained on numbered objects."""
    if request.objects is not None:
        return request.objects
    return predictors_of(predictor)[0].config.data.instances
