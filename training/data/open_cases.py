"""Cases -> labelled images that are open and checked, with what was read of each once; few of them at a time."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from configs.schema import Config
from datasets.cases import Case, open_case_image, prefix_errors
from datasets.reference_conversion import as_foreground, as_unit
from datasets.references import check_aligned, open_reference
from imaging.errors import DataError
from imaging.resample import ResampledSource
from imaging.source import ImageSource
from inference.compatibility import at_trained_spacing, check_suitable
from transforms import limits, normalise
from transforms.limits import Limits
from transforms.normalise import Normalise

MOST_OPEN = 192  # cases at a time; a process may open 1024 files on most systems, and a case can be several


@dataclass(frozen=True)
class Statistics:
    """What is read of a whole image once, and kept when its file is closed.

    Args:
        normalise: the image's own normalisation.
        limits: the image's range of intensities after normalisation.
    """

    normalise: Normalise
    limits: Limits


class LabelledImage:
    """An open image with its reference of the same shape.

    No dataclass: Lightning would take one apart to move its fields to the device.
    """

    def __init__(self, name: str, image: ImageSource, reference: ImageSource) -> None:
        self.name = name
        self.image = image
        self.reference = reference

    @property
    def held_bytes(self) -> int:
        """Most memory that both files may hold on to between reads."""
        return self.image.held_bytes + self.reference.held_bytes

    def close(self) -> None:
        """Closes both files."""
        self.image.close()
        self.reference.close()


class TrainingImage(LabelledImage):
    """A labelled image at the spacing that is trained at, with its own statistics.

    Where pixels between objects weigh more, the reference holds the objects' numbers, and `labels` their class.
    """

    def __init__(self, case: Case, image: ImageSource, reference: ImageSource, statistics: Statistics) -> None:
        super().__init__(case.name, image, reference)
        self.statistics = statistics
        self.labels = as_foreground(reference, case.ignore_label) if case.instances else reference


def open_labelled(case: Case, config: Config, *, numbered: bool = False) -> LabelledImage:
    """Opens a case's files, as they are.

    Args:
        case: whose they are.
        config: the run's.
        numbered: where the reference counts objects, their numbers are wanted instead of one class.

    Raises:
        DataError: a file can't be read, the image doesn't fit the config, or the reference doesn't fit it or the image.
    """
    with prefix_errors(case), ExitStack() as opened:
        image = opened.enter_context(open_case_image(case))
        reference = opened.enter_context(open_reference(case, numbered=numbered))
        check_suitable(image, config)
        check_aligned(image, reference)
        _check_channels(reference, config)
        if config.head.kind == "unit_regression":
            reference = as_unit(reference, case.ignore_label)
        opened.pop_all()
    return LabelledImage(case.name, image, reference)


def _check_channels(reference: ImageSource, config: Config) -> None:
    wanted = len(config.data.classes) - 1 if config.head.kind == "multi_label" else 1
    if reference.channels != wanted:
        raise DataError(
            "reference_channels",
            f"reference has {reference.channels} files, head.kind {config.head.kind} with {len(config.data.classes)} "
            f"classes takes {wanted}; classes that overlap are head.kind multi_label and a file each but for the background",
        )


def open_case(case: Case, config: Config, statistics: Statistics | None = None) -> TrainingImage:
    """A case at the trained spacing, and its image's statistics, which are read where they aren't known from before.

    Raises:
        DataError: a case that `open_labelled` refuses, or pixels that can't be read.
    """
    labelled = open_labelled(case, config, numbered=config.loss.border_weight > 0)
    image, reference = at_trained_spacing(labelled.image, config.data), labelled.reference
    if image is not labelled.image:
        reference = ResampledSource(reference, image.shape, labels=not case.values or case.ignore_label is not None)
    with prefix_errors(case):
        return TrainingImage(case, image, reference, statistics or read_statistics(image, config))


class OpenCases:
    """Training images by their number, opened when they are asked for.

    Those that were asked for last stay open, as many as together hold less than `limit_bytes`, at least one and at most
    MOST_OPEN.

    Args:
        cases: what may be opened.
        config: the run's.
        limit_bytes: for all of them, by their `held_bytes`.
        statistics: of cases that were open before, by their number.
        opener: opens one.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        config: Config,
        limit_bytes: int,
        statistics: Mapping[int, Statistics] | None = None,
        opener: Callable[[Case, Config, Statistics | None], TrainingImage] = open_case,
    ) -> None:
        self.cases = cases
        self.config = config
        self.limit_bytes = limit_bytes
        self.statistics = dict(statistics or {})
        self.opener = opener
        self._open: OrderedDict[int, TrainingImage] = OrderedDict()  # the one asked for last is the last

    def __getitem__(self, number: int) -> TrainingImage:
        """The training image, open until others push it out.

        Raises:
            DataError: a case that `open_case` refuses.
        """
        if number not in self._open:
            self._open[number] = self.opener(self.cases[number], self.config, self.statistics.get(number))
            self.statistics[number] = self._open[number].statistics
        self._open.move_to_end(number)
        self._close_oldest()
        return self._open[number]

    def _close_oldest(self) -> None:
        while len(self._open) > 1 and (len(self._open) > MOST_OPEN or self._held_bytes() >= self.limit_bytes):
            self._open.popitem(last=False)[1].close()

    def _held_bytes(self) -> int:
        return sum(labelled.held_bytes for labelled in self._open.values())


def read_statistics(image: ImageSource, config: Config) -> Statistics:
    """Reads a whole image once, block by block."""
    normalised = normalise.fit(config.normalise, image.channels, image.blocks())
    found = limits.fit(image.dtype, image.channels, image.blocks())
    low, high = (normalised(end.reshape(-1, *[1] * len(image.shape))).ravel() for end in (found.low, found.high))
    return Statistics(normalised, Limits(low, high))
