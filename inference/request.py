"""What is asked of an image beside the image itself: which part of it, what is written of it, what else comes to light."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from imaging.source import Region
from imaging.writing.band_writer import BandWriter
from inference.image_label import LabelReader
from inference.regions.regions_of_interest import Regions
from inference.regions.tissue import Tissue
from inference.tiling.seams import Seams
from inference.tiling.stitch import Band
from models.heads import Head


@dataclass(frozen=True)
class Part:
    """Which part of an image is worked on, and where.

    Args:
        first_row: of the image's own; what lies above is there from an earlier run.
        tissue: tiles outside of it are background without being looked at; None: every tile is looked at.
        regions: what lies outside of them is background; None: the whole image is wanted.
        scratch: a folder on a disk, for what doesn't fit into memory; None: the system's own for temporary files.
    """

    first_row: int = 0
    tissue: Tissue | None = None
    regions: Regions | None = None
    scratch: Path | None = None

    @property
    def is_whole(self) -> bool:
        """Whether every pixel is looked at."""
        return self.tissue is None and self.regions is None

    def skips(self, region: Region, shape: tuple[int, ...]) -> bool:
        """Whether nothing is looked for in a region of the image, seen as one of that shape."""
        return any(each is not None and each.misses(region, shape) for each in (self.tissue, self.regions))


WHOLE = Part()


@dataclass(frozen=True)
class Writers:
    """Open writers: what is made of an image, each in any number of formats.

    Args:
        main: the mask, or a map of values where the network's head gives them.
        probabilities: of what the mask is made.
        uncertainty: how little is known of each pixel.
        disagreement: how far an ensemble's networks are apart there.
        on_rows: called with the first row that isn't written yet.
    """

    main: Sequence[BandWriter] = ()
    probabilities: Sequence[BandWriter] = ()
    uncertainty: Sequence[BandWriter] = ()
    disagreement: Sequence[BandWriter] = ()
    on_rows: Callable[[int], None] | None = None

    def write(self, head: Head, band: Band) -> None:
        """Finished rows."""
        wanted = (
            (self.main, head.values if head.gives_values else head.mask),
            (self.probabilities, head.probabilities),
            (self.uncertainty, head.uncertainty),
        )
        for writers, rows_of in wanted:
            if writers:
                rows = rows_of(band.logits)
                for writer in writers:
                    writer.write(band.start, rows)
        if band.disagreement is not None:
            for writer in self.disagreement:
                writer.write(band.start, band.disagreement)
        if self.on_rows is not None:
            self.on_rows(band.start + band.logits.shape[1])


@dataclass
class Gathered:
    """What comes to light of an image while its bands are made."""

    labels: LabelReader
    seams: Seams
    skipped: int = 0
