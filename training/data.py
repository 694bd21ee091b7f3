"""From a data set to labelled images that are open, checked and normalised; and the patches that are cut from them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from configs.schema import Config, DataSection
from datasets.cases import Case, about, open_case_image, read_cases
from datasets.references import check_aligned, check_labels, open_reference
from imaging.errors import DataError
from imaging.source import ImageSource
from inference.grid import read_mirrored
from inference.segment import check_suitable
from training.sampling import PatchSampler
from transforms import normalise
from transforms.augment import make_augment
from transforms.normalise import Normalise

VALIDATION_SHARE = 0.2  # of the groups, where cases.csv has no split


@dataclass(frozen=True)
class Splits:
    """Which cases train and which validate; no group is in both."""

    train: tuple[Case, ...]
    val: tuple[Case, ...]


class LabelledImage:
    """An open image with its reference of the same shape, and the image's own normalisation.

    No dataclass: Lightning would take one apart to move its fields to the device.
    """

    def __init__(self, name: str, image: ImageSource, reference: ImageSource, normalise: Normalise) -> None:
        self.name = name
        self.image = image
        self.reference = reference
        self.normalise = normalise


def split_cases(data: DataSection, seed: int) -> Splits:
    """The cases with a reference, by their `split`, or drawn by group where none is given; `test` is left alone.

    Raises:
        DataError: train or val is empty, or a group is in both.
    """
    cases = [case for case in read_cases(data.path) if case.reference is not None and case.split != "test"]
    if all(case.split is None for case in cases):
        validation = _draw_groups(cases, seed)
        splits = Splits(
            tuple(case for case in cases if _group(case) not in validation),
            tuple(case for case in cases if _group(case) in validation),
        )
    else:
        splits = Splits(*(tuple(case for case in cases if case.split == split) for split in ("train", "val")))
    _check_splits(splits)
    return splits


def open_case(case: Case, config: Config) -> LabelledImage:
    """Opens a case's files and reads what normalisation needs.

    Raises:
        DataError: a file can't be read, the image doesn't fit the config, or the reference doesn't lie on it.
    """
    with about(case):
        image = open_case_image(case)
        reference = open_reference(case)
        check_suitable(image, config)
        check_aligned(image, reference)
        normalised = normalise.fit(config.normalise, image.channels, image.blocks())
    return LabelledImage(case.name, image, reference, normalised)


class PatchDataset(Dataset[tuple[Tensor, Tensor]]):
    """Random training patches; patch i depends on the seed and on i alone.

    Files are opened at their first use in each worker process.

    Args:
        cases: what to cut from.
        config: the run's.
        sampler: says where.
    """

    def __init__(self, cases: Sequence[Case], config: Config, sampler: PatchSampler) -> None:
        self.cases = cases
        self.config = config
        self.sampler = sampler
        self.augment = make_augment(config.augment, config.data.dimensions)
        self.open: dict[int, LabelledImage] = {}

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Image (C, *patch) float32 and reference (*patch) int64; for the sliding window the label of the centre, ()."""
        random = np.random.default_rng((self.config.run.seed, index))
        number, start = self.sampler.draw(random)
        labelled = self._opened(number)
        region = tuple(slice(first, first + size) for first, size in zip(start, self.config.patch_size, strict=True))
        image = labelled.normalise(read_mirrored(labelled.image, region))
        reference = read_mirrored(labelled.reference, region)[0].astype(np.uint8)
        if self.config.augment.probability > 0:
            image, reference = self.augment(image, reference, int(random.integers(2**31)))
        return torch.from_numpy(image), torch.from_numpy(self._wanted(reference).astype(np.int64))

    def _opened(self, number: int) -> LabelledImage:
        if number not in self.open:
            self.open[number] = open_case(self.cases[number], self.config)
        return self.open[number]

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
    """Whole labelled images, opened once and kept open.

    Raises:
        DataError: a case that `open_case` refuses, an unknown label, or no foreground in any of the references.
    """

    def __init__(self, cases: Sequence[Case], config: Config) -> None:
        self.images = [open_case(case, config) for case in cases]
        foreground = False
        for case, labelled in zip(cases, self.images, strict=True):
            for block in labelled.reference.blocks():
                with about(case):
                    check_labels(block, len(config.data.classes))
                foreground = foreground or bool(block.any())
        if not foreground:
            raise DataError(
                "no_foreground", "the validation references hold no label above 0; put a case that has some into split val"
            )

    def __getitem__(self, index: int) -> LabelledImage:
        """The labelled image itself; it has no batch dimension."""
        return self.images[index]

    def __len__(self) -> int:
        return len(self.images)


def _group(case: Case) -> str:
    return case.group or case.name


def _draw_groups(cases: Sequence[Case], seed: int) -> set[str]:
    groups = sorted({_group(case) for case in cases})
    drawn = np.random.default_rng(seed).permutation(len(groups))
    count = min(max(1, round(VALIDATION_SHARE * len(groups))), len(groups) - 1)
    return {groups[number] for number in drawn[:count]}


def _check_splits(splits: Splits) -> None:
    for name, cases in (("train", splits.train), ("val", splits.val)):
        if not cases:
            raise DataError(
                "split_empty", f"no case with a reference has split {name!r}; training needs one in train and in val"
            )
    shared = {_group(case) for case in splits.train} & {_group(case) for case in splits.val}
    if shared:
        raise DataError(
            "group_in_both_splits",
            f"groups {', '.join(sorted(shared))} are in train and in val; put every case of a group into one split",
        )
