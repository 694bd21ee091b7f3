"""Requests: which outputs are written for an image, which part of it is segmented, and the writers of the outputs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from imaging.source import MaskFormat, Region
from imaging.writing.band_writer import BandWriter
from imaging.writing.formats import ProbabilityType
from inference.regions.regions_of_interest import Regions
from inference.regions.tissue import Tissue
from inference.tiling.stitch import Band
from models.head import Head

OutlineStyle = Literal["exact", "smooth"]
ObjectType = Literal["detection", "annotation"]


@dataclass(frozen=True, kw_only=True)
class OutputRequest:
    """Outputs and options that a user chooses for each image.

    Args:
        mask_formats: formats of each mask or map of values; empty: the natural one of each image.
        probabilities: type of the class probabilities that are written beside the masks; None writes none.
        uncertainty: writes each pixel's uncertainty beside the masks: 0 certain, 1 all classes equally likely.
        disagreement: writes the disagreement of an ensemble's networks beside the masks, 0 .. 1.
        spacing_um: distance between pixels, in S order or one for all axes; None: as the file says.
        tissue: skips tiles without tissue, which become background.
        regions: regions of interest, each the first pixel and the size in S order; pixels outside become background. Empty:
            the whole image.
        axes: letters of the axes of TIFF images, such as ZYX, in the files' order; None: as the files say.
        objects: writes numbered and measured objects beside the masks; None: if the network was trained on numbered objects.
        outlines: outlines of objects: "exact" follows the pixels' sides; "smooth" is for people.
        object_type: type of the objects in QuPath.
    """

    mask_formats: tuple[MaskFormat, ...] = ()
    probabilities: ProbabilityType | None = None
    uncertainty: bool = False
    disagreement: bool = False
    spacing_um: tuple[float, ...] | None = None
    tissue: bool = False
    regions: tuple[tuple[int, ...], ...] = ()
    axes: str | None = field(default=None, repr=False)
    objects: bool | None = field(default=None, repr=False)
    outlines: OutlineStyle = field(default="exact", repr=False)
    object_type: ObjectType = field(default="detection", repr=False)

    @property
    def journal_text(self) -> str:
        """Text of the request in journals of unfinished work, with its old class name, so that older journals stay valid."""
        text = repr(self).replace(type(self).__name__, "Wishes", 1)
        newer = {"axes": self.axes, "objects": self.objects}
        return " ".join([text, *(f"{name}={value}" for name, value in newer.items() if value is not None)])


@dataclass(frozen=True)
class ImagePart:
    """The part of an image that is segmented.

    Args:
        tissue: tiles without tissue are background and not segmented; None: tissue plays no part.
        regions: pixels outside of all regions are background; None: the whole image.
    """

    tissue: Tissue | None = None
    regions: Regions | None = None

    @property
    def is_whole(self) -> bool:
        """True if every tile is segmented."""
        return self.tissue is None and self.regions is None

    def skips(self, region: Region, shape: tuple[int, ...]) -> bool:
        """Return whether a region, in the coordinates of an image of that shape, lies outside of this part."""
        return any(each is not None and each.misses(region, shape) for each in (self.tissue, self.regions))


WHOLE_IMAGE = ImagePart()


@dataclass(frozen=True)
class Writers:
    """Open writers of one image's outputs, any number of each kind.

    Args:
        main: writers of the mask, or of the map of values if the network's head gives values.
        probabilities: writers of the class probabilities.
        uncertainty: writers of each pixel's uncertainty.
        disagreement: writers of the disagreement of an ensemble's networks.
        on_band: called with each band once it is written.
        on_rows: called with the first row that isn't written yet.
    """

    main: Sequence[BandWriter] = ()
    probabilities: Sequence[BandWriter] = ()
    uncertainty: Sequence[BandWriter] = ()
    disagreement: Sequence[BandWriter] = ()
    on_band: Callable[[Head, Band], None] | None = None
    on_rows: Callable[[int], None] | None = None

    def write(self, head: Head, band: Band) -> None:
        """Write finished rows to all writers."""
        outputs = (
            (self.main, head.values if head.gives_values else head.mask),
            (self.probabilities, head.probabilities),
            (self.uncertainty, head.uncertainty),
        )
        for writers, rows_of in outputs:
            if writers:
                rows = rows_of(band.logits)
                for writer in writers:
                    writer.write(band.start, rows)
        if band.disagreement is not None:
            for writer in self.disagreement:
                writer.write(band.start, band.disagreement)
        if self.on_band is not None:
            self.on_band(head, band)
        if self.on_rows is not None:
            self.on_rows(band.start + band.logits.shape[1])
