"""Labelled images -> random patches to train on, and whole images to validate on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from configs.schema import Config
from datasets.cases import Case, about
from datasets.references import check_labels
from imaging.errors import DataError
from inference.grid import read_mirrored
from training.losses import IGNORED
from training.open_cases import LabelledImage, OpenCases, Statistics, open_labelled
from training.sampling import PatchSampler
from training.styles import read_styles
from transforms.augment import make_augment

PATCHES_A_DRAW = 4  # patches of an image, on average, that share what augmentation draws for the whole image


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


def _within(region: tuple[slice, ...], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which pixels of a region lie in an image of that shape, and not beyond its border."""
    within = np.zeros([axis.stop - axis.start for axis in region], bool)
    within[tuple(slice(max(0, -axis.start), size - axis.start) for axis, size in zip(region, shape, strict=True))] = True
    return within
