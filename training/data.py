"""From a data set to labelled images that are open, checked and normalised; and the patches that are cut from them."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from configs.schema import Config, DataSection
from datasets.cases import Case, about, open_case_image, read_cases
from datasets.references import check_aligned, check_labels, open_reference
from datasets.splits import LabelCounts, assign, check_groups, draw_folds, read_splits
from imaging.errors import DataError
from imaging.resample import ResampledSource
from imaging.source import ImageSource
from inference.grid import read_mirrored
from inference.segment import as_trained, check_suitable
from training.losses import IGNORED
from training.sampling import PatchSampler
from training.styles import read_styles
from transforms import limits, normalise
from transforms.augment import make_augment
from transforms.limits import Limits
from transforms.normalise import Normalise

FOLDS = 5  # where cases.csv has no split; the first one validates
MOST_OPEN = 64  # cases at a time; a process may open 1024 files on most systems, and a case can be several
PATCHES_A_DRAW = 4  # patches of an image, on average, that share what augmentation draws for the whole image


@dataclass(frozen=True)
class Splits:
    """Which cases train and which validate; no group is in both."""

    train: tuple[Case, ...]
    val: tuple[Case, ...]
    folds: Mapping[str, int] = field(default_factory=dict)  # by case, of those that were drawn

    @property
    def by_case(self) -> dict[str, str]:
        """Each case's split, train or val, by its name."""
        return {case.name: split for split, cases in (("train", self.train), ("val", self.val)) for case in cases}


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
    """A labelled image at the spacing that is trained at, with its own statistics."""

    def __init__(self, name: str, image: ImageSource, reference: ImageSource, statistics: Statistics) -> None:
        super().__init__(name, image, reference)
        self.statistics = statistics


def trainable_cases(data: DataSection) -> tuple[Case, ...]:
    """The cases with a reference that aren't kept for the test."""
    return tuple(case for case in read_cases(data.path, data) if case.reference is not None and case.split != "test")


def split_cases(data: DataSection, seed: int, label_counts: LabelCounts | None = None, written: Path | None = None) -> Splits:
    """The trainable cases by their `split`; where none is given, the first of five folds validates.

    Args:
        data: the config's.
        seed: of the draw.
        label_counts: by case, so that both splits hold alike; cases that aren't in it count as empty.
        written: the run's table of splits, which decides if it exists.

    Raises:
        DataError: train or val is empty, a group is in both, or the table was written for other cases.
    """
    cases = trainable_cases(data)
    check_groups(read_cases(data.path))
    drawn_from = [case for case in cases if case.split is None]
    folds = draw_folds(drawn_from, FOLDS, seed, label_counts) if drawn_from else {}
    assigned = read_splits(written, cases) if written and written.exists() else assign(cases, folds)
    train, val = (tuple(case for case in cases if assigned[case.name] == split) for split in ("train", "val"))
    splits = Splits(train, val, folds)
    _check_splits(splits)
    return splits


def open_labelled(case: Case, config: Config) -> LabelledImage:
    """Opens a case's files, as they are.

    Raises:
        DataError: a file can't be read, the image doesn't fit the config, or the reference doesn't lie on it.
    """
    with about(case), ExitStack() as opened:
        image = opened.enter_context(open_case_image(case))
        reference = opened.enter_context(open_reference(case))
        check_suitable(image, config)
        check_aligned(image, reference)
        opened.pop_all()
    return LabelledImage(case.name, image, reference)


def open_case(case: Case, config: Config, statistics: Statistics | None = None) -> TrainingImage:
    """A case at the trained spacing, and its image's statistics, which are read where they aren't known from before.

    Raises:
        DataError: a case that `open_labelled` refuses, or pixels that can't be read.
    """
    labelled = open_labelled(case, config)
    image, reference = as_trained(labelled.image, config.data), labelled.reference
    if image is not labelled.image:
        reference = ResampledSource(reference, image.shape, labels=True)
    with about(case):
        return TrainingImage(case.name, image, reference, statistics or _read_statistics(image, config))


class OpenCases:
    """Training images by their number, opened when they are asked for.

    Those that were asked for last stay open, as many as together hold less than `limit_bytes`, at least one and at most
    MOST_OPEN.

    Args:
        cases: what may be opened.
        config: the run's.
        limit_bytes: for all of them, by their `held_bytes`.
        statistics: of cases that were open before, by their number.
    """

    def __init__(
        self, cases: Sequence[Case], config: Config, limit_bytes: int, statistics: Mapping[int, Statistics] | None = None
    ) -> None:
        self.cases = cases
        self.config = config
        self.limit_bytes = limit_bytes
        self.statistics = dict(statistics or {})
        self._open: OrderedDict[int, TrainingImage] = OrderedDict()  # the one asked for last is the last

    def __getitem__(self, number: int) -> TrainingImage:
        """The training image, open until others push it out.

        Raises:
            DataError: a case that `open_case` refuses.
        """
        if number not in self._open:
            self._open[number] = open_case(self.cases[number], self.config, self.statistics.get(number))
            self.statistics[number] = self._open[number].statistics
        self._open.move_to_end(number)
        self._close_oldest()
        return self._open[number]

    def _close_oldest(self) -> None:
        while len(self._open) > 1 and (len(self._open) > MOST_OPEN or self._held_bytes() >= self.limit_bytes):
            self._open.popitem(last=False)[1].close()

    def _held_bytes(self) -> int:
        return sum(labelled.held_bytes for labelled in self._open.values())


class PatchDataset(Dataset[tuple[Tensor, Tensor]]):
    """Random training patches; patch i depends on the seed and on i alone.

    What augmentation draws for a whole image, its contrast curve and its style, depends on the seed, the case and the
    pass, and a pass ends when the cases gave PATCHES_A_DRAW patches each, on average.

    Files are opened when they are used, in each worker process, and `trainer.cache_mib` of them stay open.

    Args:
        cases: what to cut from.
        config: the run's.
        sampler: says where.
        statistics: of the cases, where they were read before, by the case's number.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        config: Config,
        sampler: PatchSampler,
        statistics: Mapping[int, Statistics] | None = None,
    ) -> None:
        self.cases = cases
        self.config = config
        self.sampler = sampler
        self.augment = make_augment(config.augment, config.data.dimensions, read_styles(config), config.data.spacing_um)
        self.opened = OpenCases(cases, config, config.trainer.cache_mib * 2**20, statistics)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Image (C, *patch) float32 and reference (*patch) int64; for the sliding window the label of the centre, ().

        With `augment.mask_borders` the reference is IGNORED where the image is mirrored.
        """
        random = np.random.default_rng((self.config.run.seed, index))
        number, start = self.sampler.draw(random)
        labelled = self.opened[number]
        region = tuple(slice(first, first + size) for first, size in zip(start, self.config.patch_size, strict=True))
        image = labelled.statistics.normalise(read_mirrored(labelled.image, region))
        reference = read_mirrored(labelled.reference, region)[0].astype(np.uint8)
        if self.config.augment.mask_borders:
            reference[~_within(region, labelled.image.shape)] = IGNORED
        if self.config.augment.probability > 0:
            image_random = self._image_random(number, index)
            patch = self.augment(image, reference, random, limits=labelled.statistics.limits, image_random=image_random)
            image, reference = patch.image, patch.reference
            if self.config.augment.mask_borders:
                reference = np.where(patch.inside, reference, np.uint8(IGNORED))
        return torch.from_numpy(image), torch.from_numpy(self._wanted(reference).astype(np.int64))

    def _image_random(self, number: int, index: int) -> np.random.Generator:
        """Equal for patches of one case and pass."""
        key = (number, index // (PATCHES_A_DRAW * len(self.cases)))
        return np.random.default_rng(np.random.SeedSequence(self.config.run.seed, spawn_key=key))

    def _wanted(self, reference: NDArray[np.uint8]) -> NDArray[Any]:
        if self.config.model.name == "unet":
            return reference
        return np.asarray(reference[tuple(size // 2 for size in reference.shape)])


class EpochSampler(Sampler[int]):
    """The indices count * epoch .. count * (epoch + 1) - 1, so that no patch comes twice; Lightning sets the epoch."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Which indices come next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.count * self.epoch, self.count * (self.epoch + 1)))

    def __len__(self) -> int:
        return self.count


class ValidationDataset(Dataset[LabelledImage]):
    """Whole labelled images on their own grids, one open at a time.

    Raises:
        DataError: a case that `open_labelled` refuses, an unknown label, or no foreground in any of the references.
    """

    def __init__(self, cases: Sequence[Case], config: Config) -> None:
        self.cases = cases
        self.config = config
        self.opened: LabelledImage | None = None
        foreground = False
        for number, case in enumerate(cases):
            for block in self[number].reference.blocks():
                with about(case):
                    check_labels(block, len(config.data.classes))
                foreground = foreground or bool(block.any())
        if not foreground:
            raise DataError(
                "no_foreground", "the validation references hold no label above 0; put a case that has some into split val"
            )

    def __getitem__(self, index: int) -> LabelledImage:
        """The labelled image itself, without a batch dimension; open until the next one is asked for."""
        if self.opened is not None:
            self.opened.close()
        self.opened = open_labelled(self.cases[index], self.config)
        return self.opened

    def __len__(self) -> int:
        return len(self.cases)


def _read_statistics(image: ImageSource, config: Config) -> Statistics:
    normalised = normalise.fit(config.normalise, image.channels, image.blocks())
    found = limits.fit(image.dtype, image.channels, image.blocks())
    low, high = (normalised(end.reshape(-1, *[1] * len(image.shape))).ravel() for end in (found.low, found.high))
    return Statistics(normalised, Limits(low, high))


def _within(region: tuple[slice, ...], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which pixels of a region lie in an image of that shape, and not beyond its border."""
    within = np.zeros([axis.stop - axis.start for axis in region], bool)
    within[tuple(slice(max(0, -axis.start), size - axis.start) for axis, size in zip(region, shape, strict=True))] = True
    return within


def _check_splits(splits: Splits) -> None:
    for name, cases in (("train", splits.train), ("val", splits.val)):
        if not cases:
            raise DataError(
                "split_empty", f"no case with a reference has split {name!r}; training needs one in train and in val"
            )
