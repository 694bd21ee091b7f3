"""Classes that references name themselves: outlines and segments by their names, and pictures by their colours."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from datasets.annotations import IGNORED, NOT_A_CLASS, is_annotation, read_outlines
from datasets.class_references import open_colours
from datasets.declared.class_values import MAX_COLOURS
from datasets.declared.declaration import BACKGROUND, Declaration, DeclaredClass
from datasets.discovery.outlines import UNCLASSIFIED
from datasets.labels.counts import count_labels
from imaging.errors import DataError
from imaging.nrrd.segments import read_segments
from imaging.open import open_image

IGNORE_LABEL = 255  # of outlines of QuPath's class Ignore*

_BLACK = 0


def read_named_classes(paths: Sequence[Path]) -> Declaration | None:
    """Return the classes that references name; None where they hold labels without names.

    Files that can't be read are left out, since the error is raised again when their case is opened.
    """
    outlines = [path for path in paths if is_annotation(path)]
    if outlines:
        return _classes_of_outlines(outlines)
    segments = [found for path in paths if path.is_file() and (found := read_segments(path))]
    if segments:
        each_segment = sorted(
            (each for file in segments for each in file), key=lambda each: (each.label, each.layer, each.name)
        )
        classes = {segment.name: DeclaredClass(segment.name, colour=segment.colour) for segment in reversed(each_segment)}
        ordered = dict.fromkeys(segment.name for segment in each_segment if segment.name != BACKGROUND)
        overlap = any(segment.layer > 0 for segment in each_segment)
        return Declaration("the segments", (DeclaredClass(BACKGROUND), *(classes[name] for name in ordered)), overlap=overlap)
    if paths and all(map(_is_coloured, paths)):
        return _classes_of_colours(paths)
    return None


def _classes_of_outlines(paths: Sequence[Path]) -> Declaration | None:
    """Return the background and the names of all outlines; `Ignore*` of QuPath is no class, nor are others with a star."""
    names: set[str] = set()
    for path in paths:
        with suppress(DataError):
            names.update(outline.name for outline in read_outlines(path, (0, 0)))
    ignored = IGNORE_LABEL if IGNORED in names else None
    classes = sorted(name for name in names if name not in (BACKGROUND, UNCLASSIFIED) and not name.endswith(NOT_A_CLASS))
    if not classes and ignored is None:
        return None
    return Declaration("the outlines", tuple(map(DeclaredClass, (BACKGROUND, *classes))), ignored)


def _is_coloured(path: Path) -> bool:
    """Return whether a reference is a picture of colours instead of labels."""
    with suppress(DataError), open_image(path, labels=True) as source:
        return source.channels == 3 and len(source.shape) == 2 and source.dtype == "uint8"
    return False


def _classes_of_colours(paths: Sequence[Path]) -> Declaration | None:
    """Return a class for each colour; the background is black, or else the most frequent. None: there are too many colours."""
    counts: Counter[int] = Counter()
    for path in paths:
        with suppress(DataError), open_colours(path) as source:
            for block in source.blocks():
                counts.update(count_labels(block))
                if len(counts) > MAX_COLOURS:
                    return None
    if not counts:
        return None
    background = _BLACK if _BLACK in counts else counts.most_common(1)[0][0]
    colours = [background, *sorted(set(counts) - {background})]
    names = [BACKGROUND, *(f"class_{number}" for number in range(1, len(colours)))]
    classes = tuple(DeclaredClass(name, (value,), f"#{value:06x}") for name, value in zip(names, colours, strict=True))
    return Declaration("the colours of the references", classes, by_colour=True)
