"""Open cases: checked image and reference files of a case, with the image's statistics, and a cache of open ones."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from configs.schema import Config
from datasets.cases import Case, open_case_image, prefix_errors
from datasets.class_references import indices_as_channels
from datasets.reference_conversion import as_foreground, as_unit
from datasets.references import check_aligned, holds_segments, open_reference
from imaging.errors import DataError
from imaging.resample import ResampledSource
from imaging.source import ImageSource
from inference.compatibility import at_trained_spacing, check_suitable
from transforms import limits, normalise
from transforms.limits import Limits
from transforms.normalise import Normalise

MOST_OPEN = 192  # cases; most systems allow a process 1024 open files, and a case can have several


@dataclass(frozen=True)
class ImageStatistics:
    """Statistics of a whole image, read once and kept after its file is closed.

    Args:
        normalise: the image's own normalisation.
        limits: the range of the image's intensities after normalisation.
    """

    normalise: Normalise
    limits: Limits


class LabelledImage:
    """An open image with its reference of the same shape.

    Not a dataclass, since Lightning moves the fields of a dataclass to the device.
    """

    def __init__(self, name: str, image: ImageSource, reference: ImageSource) -> None:
        self.name = name
        self.image = image
        self.reference = reference

    @property
    def held_bytes(self) -> int:
        """Return the most memory that both files may hold between reads."""
        return self.image.held_bytes + self.reference.held_bytes

    def close(self) -> None:
        """Close both files."""
        self.image.close()
        self.reference.close()


class TrainingImage(LabelledImage):
    """A labelled image at the training spacing, with its statistics.

    With `loss.border_weight` the reference contains the numbers of objects; `labels` always contains their classes.
    """

    def __init__(self, case: Case, image: ImageSource, reference: ImageSource, statistics: ImageStatistics) -> None:
        super().__init__(case.name, image, reference)
        self.statistics = statistics
        self.labels = as_foreground(reference, case.ignore_label) if case.instances else reference


def open_labelled_image(case: Case, config: Config, *, numbered: bool = False) -> LabelledImage:
    """Open a case's files at their own spacing.

    Args:
        case: the case.
        config: the run's.
        numbered: whether a reference of objects gives their numbers instead of one class.

    Raises:
        DataError: a file can't be read, the image doesn't fit the config, or the reference doesn't fit it or the image.
    """
    with prefix_errors(case), ExitStack() as stack:
        image = stack.enter_context(open_case_image(case))
        reference = stack.enter_context(open_reference(case, numbered=numbered))
        check_suitable(image, config)
        check_aligned(image, reference)
        classes = len(config.data.classes)
        channels = classes - 1 if config.head.kind == "multi_label" else 1
        if reference.channels == 1 < channels and (config.data.has_values or holds_segments(case)):
            reference = indices_as_channels(reference, classes, case.ignore_label)
        if reference.channels != channels:
            raise DataError(
                "reference_channels",
                f"reference has {reference.channels} files or layers, but head.kind {config.head.kind} with {classes} classes "
                f"takes {channels}; for overlapping classes set head.kind to multi_label and give a file per foreground class, "
                "or lists of labels as value in data.classes",
            )
        if config.head.kind == "unit_regression":
            reference = as_unit(reference, case.ignore_label)
        stack.pop_all()
    return LabelledImage(case.name, image, reference)


def open_training_image(case: Case, config: Config, statistics: ImageStatistics | None = None) -> TrainingImage:
    """Open a case at the training spacing, and read its image's statistics unless they are given.

    Raises:
        DataError: `open_labelled_image` refuses the case, or pixels can't be read.
    """
    labelled = open_labelled_image(case, config, numbered=config.loss.border_weight > 0)
    image, reference = at_trained_spacing(labelled.image, config.data), labelled.reference
    if image is not labelled.image:
        reference = ResampledSource(reference, image.shape, labels=not case.values or case.ignore_label is not None)
    with prefix_errors(case):
        return TrainingImage(case, image, reference, statistics or read_statistics(image, config))


class TrainingImageCache:
    """Cache of open training images by the number of their case, which closes the least recently used first.

    At least one image stays open, and at most MOST_OPEN that together hold less than `limit_bytes`.

    Args:
        cases: the cases.
        config: the run's.
        limit_bytes: for the sum of `held_bytes`.
        statistics: of images that were read before, by the number of the case.
        opener: opens a case.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        config: Config,
        limit_bytes: int,
        statistics: Mapping[int, ImageStatistics] | None = None,
        opener: Callable[[Case, Config, ImageStatistics | None], TrainingImage] = open_training_image,
    ) -> None:
        self.cases = cases
        self.config = config
        self.limit_bytes = limit_bytes
        self.statistics = dict(statistics or {})
        self.opener = opener
        self._open: OrderedDict[int, TrainingImage] = OrderedDict()  # the most recently used one is the last

    def __getitem__(self, number: int) -> TrainingImage:
        """Return an open training image; it may be closed when others are opened.

        Raises:
            DataError: the opener refuses the case.
        """
        if number not in self._open:
            self._open[number] = self.opener(self.cases[number], self.config, self.statistics.get(number))
            self.statistics[number] = self._open[number].statistics
        self._open.move_to_end(number)
        while len(self._open) > 1 and (
            len(self._open) > MOST_OPEN or sum(image.held_bytes for image in self._open.values()) >= self.limit_bytes
        ):
            self._open.popitem(last=False)[1].close()
        return self._open[number]


def read_statistics(image: ImageSource, config: Config) -> ImageStatistics:
    """Read a whole image block by block, and return its normalisation and its range of intensities."""
    normalisation = normalise.fit(config.normalise, image.channels, image.blocks())
    raw = limits.fit(image.dtype, image.channels, image.blocks())
    low, high = (normalisation(end.reshape(-1, *[1] * len(image.shape))).ravel() for end in (raw.low, raw.high))
    return ImageStatistics(normalisation, Limits(low, high))
