"""Files of an image's objects: their numbers as an image, their measurements as a table, and in 2D their outlines."""

import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from configs.schema import Config
from disk.publish import publish
from imaging.source import Geometry, ImageSource, MaskFormat, Region
from imaging.writing.formats import FORMATS, number_formats, suffix_of
from imaging.writing.row_buffer import BufferFile
from imaging.writing.run_buffer import RunBuffer
from inference.objects.find import find_objects
from inference.objects.image_object import Readable
from inference.objects.settings import object_settings
from inference.outputs.object_outlines import OutlineFile
from inference.outputs.object_table import ObjectColumns, ObjectTable
from inference.outputs.probability_rows import ProbabilityRows
from inference.request import OutputRequest

TABLE = "_objects.csv"
OUTLINES = "_objects.geojson"

PIXEL_BYTES = 100  # memory for each pixel of a band, measured on a slide of small objects
LEAST_PIXELS, MOST_PIXELS = 2**17, 2**22  # of a band, if the memory is limited

Rows = Callable[[int, int], None]  # called with the number of finished rows and of all rows


@dataclass(frozen=True)
class ObjectFiles:
    """Which files of objects are written for an image, and how its objects are found.

    Args:
        config: config of the network, whose `inference` section says how objects are found.
        geometry: geometry of the image.
        formats: formats of the numbered images.
        request: request of the user.
    """

    config: Config
    geometry: Geometry
    formats: tuple[MaskFormat, ...]
    request: OutputRequest

    @classmethod
    def of(cls, source: ImageSource, config: Config, request: OutputRequest) -> "ObjectFiles":
        """Return the files for an image: numbered images have the formats of the masks, or else TIFF in 2D and NIfTI in 3D.

        Raises:
            UnsuitableImage: `resolution_unknown`: detections in an image of unknown spacing.
        """
        object_settings(config, source.spacing_um)
        suitable = number_formats(source.geometry)
        masks = request.mask_formats or (source.mask_format,)
        fallback: MaskFormat = "nifti" if len(source.shape) == 3 else "tiff"
        formats = dict.fromkeys(each if each in suitable else fallback for each in masks)
        return cls(config, source.geometry, tuple(formats), request)

    @property
    def endings(self) -> tuple[str, ...]:
        """Ends of the files' names, the numbered images first."""
        numbered = (f"_objects{suffix_of(each)}" for each in self.formats)
        return (*numbered, TABLE, *((OUTLINES,) if len(self.geometry.shape) == 2 else ()))

    @property
    def are_points(self) -> bool:
        """Whether objects are centres of detections."""
        return self.config.inference.objects == "peaks"

    @property
    def keeps_every_class(self) -> bool:
        """Whether the probabilities of all foreground classes are kept, rather than that of each pixel's own class.

        Pixels of filled holes belong to an object of another class than their own, background.
        """
        return len(self.config.data.classes) == 2 or self.are_points or self.config.inference.largest_hole_px > 0

    def open_probabilities(self, place: Path | BufferFile) -> ProbabilityRows:
        """Open the rows of the probabilities that objects are measured with, in a file or a folder."""
        return ProbabilityRows(place, self.geometry.shape, len(self.config.data.classes), every_class=self.keeps_every_class)

    @property
    def pixel_bytes(self) -> int:
        """Bytes per pixel of the image on the disk, estimated: numbers, probabilities, and texts by the size of a mask."""
        probabilities = ProbabilityRows.pixel_bytes(len(self.config.data.classes), every_class=self.keeps_every_class)
        return 4 * (1 + len(self.formats)) + probabilities + 2


@dataclass(frozen=True)
class FinishedRows:
    """Finished rows of an image, in which its objects are found.

    Args:
        source: open image, whose channels are measured.
        mask: labels (*S).
        probabilities: (K, *S).
        on_rows: called with the number of rows in which objects were looked for, and of all rows.
        free_bytes: memory that looking for objects may take; None: as much as is fastest.
    """

    source: ImageSource
    mask: Readable
    probabilities: Readable
    on_rows: Rows
    free_bytes: int | None = None

    @property
    def band_rows(self) -> int | None:
        """Number of rows in which objects are looked for at a time; None: as many as are fastest."""
        if self.free_bytes is None or self.free_bytes > PIXEL_BYTES * MOST_PIXELS:
            return None
        return max(1, max(LEAST_PIXELS, self.free_bytes // PIXEL_BYTES) // prod(self.source.shape[1:]))


def write_objects(files: ObjectFiles, rows: FinishedRows, path_of: Callable[[str], Path], folder: Path) -> NDArray[np.int64]:
    """Find the objects of an image, write their files, and return the number of objects (K,) of each class.

    Args:
        files: the files to write.
        rows: finished rows of the image.
        path_of: returns the path of a file with that ending.
        folder: folder for unfinished files, on the disk of the outputs.
    """
    classes, geometry, request = files.config.data.classes, files.geometry, files.request
    counts = np.zeros(len(classes), np.int64)
    columns = ObjectColumns(geometry, files.config.data.channels, are_points=files.are_points)
    with ExitStack() as stack:
        lines = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", newline="", dir=folder))
        numbers = stack.enter_context(RunBuffer(folder, geometry.shape))
        outlines = None
        if OUTLINES in files.endings:
            features = stack.enter_context(tempfile.TemporaryFile("w+", encoding="ascii", dir=folder))
            untraced = stack.enter_context(tempfile.TemporaryFile(dir=folder))
            outlines = OutlineFile(features, untraced, geometry, classes=classes, request=request)
        table = ObjectTable(lines, columns, classes)
        mask = ObservedRows(rows.mask, rows.on_rows)
        objects = find_objects(
            mask,
            object_settings(files.config, rows.source.spacing_um),
            image=rows.source,
            probabilities=rows.probabilities,
            band_rows=rows.band_rows,
        )
        for found in objects:
            values = columns.values(found)
            table.add(found, values)
            numbers.fill(found.runs, found.number)
            counts[found.label] += 1
            if outlines:
                outlines.add(found, values)
        numbers.flush()
        for each in files.formats:
            save = partial(FORMATS[each].write, rows=numbers, geometry=geometry, classes=())
            publish(path_of(f"_objects{suffix_of(each)}"), save, folder)
        lines.seek(0)
        publish(path_of(TABLE), partial(_copy, lines), folder)
        if outlines:
            publish(path_of(OUTLINES), partial(outlines.save, numbers=numbers), folder)
    return counts


def _copy(lines: IO[str], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        shutil.copyfileobj(lines, file)


class ObservedRows:
    """Mask that reports how far it was read.

    Args:
        mask: labels (*S).
        on_rows: called with the number of rows that were read, and of all rows.
    """

    def __init__(self, mask: Readable, on_rows: Rows) -> None:
        self._mask, self._on_rows = mask, on_rows
        self._rows = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (*S) of the mask."""
        return self._mask.shape

    def read(self, region: Region) -> NDArray[np.uint8]:
        """Return a region of the mask, which may lie in rows that were read before."""
        self._rows = max(self._rows, region[0].stop)
        self._on_rows(self._rows, self.shape[0])
        return self._mask.read(region)
